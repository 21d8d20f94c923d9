#!/bin/sh
# rxe_remote.t: `tier = remote` at one end of the wire and a kvtier node at the other, part of whose
# pages are in memory and part on a drive: pages of every size, ten thousand reads on a wire that loses
# and reorders packets, a node that is stopped and goes on, and a turn whose pages come from there.
# shellcheck disable=SC2154,SC2153  # RXE_IP1 is run.sh's
. tests/rxe/pair.sh
. tests/rxe/node.sh

build=${BUILD:-build}
export KVT_NODE_IP="$RXE_IP1" KVT_NODE_PORT=7481 KVT_NODE_KEYS="$scratch/node.ini"
export KVT_REMOTE_OPTIONS='acknowledge = 67ms'

make_drive
cat >"$scratch/node.ini" <<END
[node]
listen = $RXE_IP1:7481
pool = 48MiB
slab = 4MiB
timeout = 67ms
[store]
path = $pages
capacity = 200MB
segment = 16MiB
[tenant 0]
key = 00112233445566778899aabbccddeeff
capacity = 200MB
held = 40MiB
END

# reads TEST NAME: a test of the tier passes; its figures are shown.
reads() {
	run timeout 60 "$build/tests/test_remote_verbs" -p "/remote-verbs/$1"
	[ "$status" -eq 0 ] && grep -q '^ok 1 [^#]*$' "$scratch/stdout"
	report $? "$2" "exit status $status; $(cat "$scratch/stdout" "$scratch/stderr" "$scratch/node.err")"
	grep -E '^# ([0-9]|node|nothing)' "$scratch/stdout"
}

# turn NAME [OPTION...]: an emulated turn over the tier whose every output is right.
turn() {
	name=$1
	shift
	run timeout 60 "$KVTIER" emu experiments/emulation-windows.ini --set context.tokens=64 \
		--set context.prompt_tokens=2 --set context.output_tokens=1 \
		--set emulation.checks=4 --set emulation.tier=remote \
		--set "emulation remote.node=$RXE_IP1:7481" --set "emulation remote.acknowledge=67ms" \
		--set "emulation remote.keys=$scratch/node.ini" --set "emulation remote.connect=30s" \
		--set "emulation remote.model=$name" "$@"
	exits 0 "$name"
	grep -iE 'output|exact|remote' "$scratch/stdout" | sed 's/^/# /' | head -5
}

start_node
node_listens
report $? "the node listens"
reads sizes "pages of 4 KiB to 4 MiB come back as they went"
reads put "pages for the reads to come"
turn "a turn over the wire"

# one packet of a hundred is lost, another is overtaken by those behind it
wire netem loss 1% delay 1ms reorder 99%
reads small "10,000 reads of 4 KiB while packets are lost and overtaken"
reads large "50 reads of 4 MiB while packets are lost and overtaken"
turn "a turn while packets are lost and overtaken"
dropped=$(wire dropped)
[ "$dropped" -gt 0 ]
report $? "packets were lost" "$dropped"
echo "# $dropped packets lost"
wire clear

# A node whose process is stopped, and goes on when its client has given it up.
KVT_REMOTE_READS=20000 KVT_REMOTE_OPTIONS='acknowledge = 67ms
leases = no
timeout = 300ms' timeout 100 "$build/tests/test_remote_verbs" -p /remote-verbs/small \
	>"$scratch/stdout" 2>"$scratch/stderr" &
reader=$!
sleep 1
kill -STOP $node
sleep 1
kill -CONT $node
wait $reader && grep -q 'times silent' "$scratch/stdout"
report $? "reads go on after the node was stopped for a second" "$(cat "$scratch/stdout" "$scratch/stderr")"
grep -E '^# ([0-9]|node|nothing)' "$scratch/stdout"

# What was acknowledged is there when the node starts again, now from the drive.
kill -TERM $node
wait $node
status=$?
exits 0 "SIGTERM"
start_node
node_listens
report $? "the node starts again"
reads large "what it had is read from the drive"
kill -TERM $node
wait $node

empty_drive
finish
