# pair.sh: what tests on two soft-RoCE devices share; sourced in the repository's root, below run.sh.
# shellcheck shell=sh disable=SC2154  # RXE_IP1 and the like are run.sh's
. tests/cli/lib.sh

wire() {
	/bin/sh tests/rxe/wire.sh "$@"
}

# In CI's own run a check that cannot be made has failed.
skip() {
	if [ -n "${CI:-}" ]; then
		report 1 "$1" "not made, and CI is no place to skip it: $2"
		return
	fi
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
	echo "# SKIPPED: $1: $2" >&2
}

port_state() {
	cat "/sys/class/infiniband/$1/ports/1/state"
}

# comes_to STATE DEVICE...: within 10 s.
comes_to() {
	expected=$1
	shift
	for device; do
		tries=0
		until [ "$(port_state "$device")" = "$expected" ]; do
			tries=$((tries + 1))
			[ $tries -lt 100 ] || return 1
			sleep 0.1
		done
	done
}

# within SECONDS COMMAND...: it succeeds by then.
within() {
	end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || return 1
		sleep 0.1
	done
}

listening() {
	grep -q "$(printf ':%04X 00000000:0000 0A' "$1")" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# perftest PROGRAM BYTES COUNT [OPTION...]: rxe0 reads from rxe1. Sets $status to the client's, or to
# the server's when that alone failed; the client's output is in stdout.
port=18515
perftest() {
	program=$1
	bytes=$2
	count=$3
	shift 3
	port=$((port + 1))
	timeout 90 "$program" -d rxe1 -x 1 -F -p $port -s "$bytes" -n "$count" "$@" \
		>"$scratch/server" 2>&1 &
	server=$!
	tries=0
	until listening $port || [ $tries -ge 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	run timeout 90 "$program" -d rxe0 -x 1 -F -p $port -s "$bytes" -n "$count" "$@" "$RXE_IP1"
	wait $server
	server_status=$?
	[ "$status" -ne 0 ] || status=$server_status
}

# completes PROGRAM BYTES COUNT NAME [OPTION...]: it reads all of them over the wire; its line of figures
# is shown, which are 0 where the processor was taken away while it compared its clocks.
completes() {
	program=$1
	bytes=$2
	count=$3
	name=$4
	shift 4
	sent=$(sent_bytes v1)
	perftest "$program" "$bytes" "$count" "$@"
	sent=$(($(sent_bytes v1) - sent))
	figures=$(awk -v bytes="$bytes" -v count="$count" '$1 == bytes && $2 == count' "$scratch/stdout")
	[ "$status" -eq 0 ] && [ -n "$figures" ] && [ $sent -ge $((bytes * count)) ]
	report $? "$name" \
		"exit status $status; $sent bytes sent; $(cat "$scratch/stdout" "$scratch/stderr" "$scratch/server")"
	echo "# $(grep '#bytes' "$scratch/stdout")"
	echo "# $figures"
}

sent_bytes() {
	cat "/sys/class/net/$1/statistics/tx_bytes"
}
