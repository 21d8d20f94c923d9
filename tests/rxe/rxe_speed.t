#!/bin/sh
# rxe_speed.t: one-sided reads through the fabric are about as fast as perftest's on the same wire.
# Ratios of pairs within one run; the guest is slow and shares its processors, so the limits are
# those of something broken: bench_rdma on a machine of its own says how fast it is.
. tests/rxe/pair.sh

run timeout 120 "${BUILD:-build}/bench/bench_rdma" 5
exits 0 "bench_rdma"
sed -n 's/^median/# median/p' "$scratch/stdout"

# compares KIND BYTES LEAST MOST: the median ratio to perftest's.
compares() {
	ratio=$(sed -n "s/^median $1 $2: .* ratio //p" "$scratch/stdout")
	awk -v ratio="${ratio:-none}" -v least="$3" -v most="$4" \
		'BEGIN { exit !(ratio + 0 >= least && ratio + 0 <= most) }'
	report $? "$1 of $2 bytes against perftest's: $3 to $4" "$(cat "$scratch/stdout")"
}
compares latency 4096 0.1 1.6
compares rate 65536 0.7 10
compares rate 1048576 0.7 10

finish
