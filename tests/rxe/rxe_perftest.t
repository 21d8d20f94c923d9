#!/bin/sh
# rxe_perftest.t: one-sided reads by perftest, which knows nothing of kvtier, go over the wire.
. tests/rxe/pair.sh

before=$(sent_bytes v1)
completes ib_read_bw 65536 200 "ib_read_bw, 64 KiB"
sent=$(($(sent_bytes v1) - before))
[ $sent -ge $((65536 * 200)) ]
report $? "what was read took the wire" "$sent bytes left v1"
completes ib_read_bw 4096 500 "ib_read_bw, 4 KiB"
completes ib_read_lat 65536 100 "ib_read_lat, 64 KiB"
completes ib_read_lat 4096 200 "ib_read_lat, 4 KiB"

finish
