#!/bin/sh
# rxe_fabric.t: the contract of emu/fabric.h over two soft-RoCE devices, faults of the wire with it.
# Each test is a process of its own: what one leaves behind is no other's.
. tests/rxe/pair.sh

program=${BUILD:-build}/tests/test_verbs_fabric
for path in $("$program" -l | grep "^/fabric/verbs\|^/verbs"); do
	run timeout 60 "$program" -p "$path"
	skipped=$(sed -n 's/^ok 1 .* # SKIP //p' "$scratch/stdout")
	if [ "$status" -eq 0 ] && [ -n "$skipped" ]; then
		skip "$path" "$skipped"
		continue
	fi
	[ "$status" -eq 0 ] && grep -q "^ok 1 " "$scratch/stdout"
	report $? "$path" "exit status $status; $(cat "$scratch/stdout" "$scratch/stderr")"
	grep '^# [0-9a]' "$scratch/stdout"
	wire clear
done

finish
