#!/bin/sh
# rxe_speed.t: one-sided reads through the fabric, and reads through the remote tier, are about as
# fast as perftest's on the same wire. Ratios of pairs within one run; the guest is slow and shares
# its processors, so the limits are those of something broken: bench_rdma and bench_remote on a
# machine of their own say how fast they are. perftest verifies no bytes, the tier does.
. tests/rxe/pair.sh

# compares KIND BYTES LEAST MOST: the median ratio to perftest's.
compares() {
	ratio=$(sed -n "s/^median $1 $2: .* ratio \([0-9.]*\),.*/\1/p" "$scratch/stdout")
	awk -v ratio="${ratio:-none}" -v least="$3" -v most="$4" \
		'BEGIN { exit !(ratio + 0 >= least && ratio + 0 <= most) }'
	report $? "$bench: $1 of $2 bytes against perftest's: $3 to $4" "$(cat "$scratch/stdout")"
}

# measures BENCH SLOWEST: latencies up to so many times perftest's.
measures() {
	bench=$1
	run timeout 120 "${BUILD:-build}/bench/$bench" 3
	exits 0 "$bench"
	sed -n 's/^median/# median/p' "$scratch/stdout"
	compares latency 4096 0.1 "$2"
	compares wake-up 4096 0.1 "$2"
	compares rate 65536 0.6 10
	compares rate 1048576 0.6 10
}
measures bench_rdma 1.6
measures bench_remote 2

finish
