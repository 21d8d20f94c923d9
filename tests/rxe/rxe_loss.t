#!/bin/sh
# rxe_loss.t: reads complete on a wire that loses packets, and it does lose them.
. tests/rxe/pair.sh

# A time of 67 ms until a packet is sent again: with perftest's own a lost one costs longer.
quick='-u 14'

wire netem loss 1%
# 4100 and 1500 packets: that none is lost happens once in 10^15 runs
# shellcheck disable=SC2086
completes ib_read_bw 65536 256 "ib_read_bw, 64 KiB, with 1% loss" $quick
# shellcheck disable=SC2086
completes ib_read_bw 4096 1500 "ib_read_bw, 4 KiB, with 1% loss" $quick
dropped=$(wire dropped)
[ "$dropped" -gt 0 ]
report $? "packets were lost" "$dropped"
echo "# $dropped packets lost"

wire cut
run timeout 20 ib_read_bw -d rxe0 -x 1 -F -n 5 "$RXE_IP1"
[ "$status" -ne 0 ]
report $? "nothing passes a wire that is cut"
wire clear
completes ib_read_bw 65536 50 "without faults again"
[ "$(wire dropped)" -eq 0 ]
report $? "and without loss"

finish
