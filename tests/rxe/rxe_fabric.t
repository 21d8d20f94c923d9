#!/bin/sh
# rxe_fabric.t: the contract of emu/fabric/fabric.h over two soft-RoCE devices, and what happens to it when
# the wire or a peer fails.
. tests/rxe/pair.sh

# passes PROGRAM PATTERN: each of its tests whose path is so. They run in one process: to start one
# takes the guest as long as a test.
passes() {
	program=${BUILD:-build}/tests/$1
	paths=$("$program" -l | grep "$2")
	# shellcheck disable=SC2046,SC2086  # paths have no spaces
	run timeout 200 "$program" $(printf -- '-p %s ' $paths)
	for path in $paths; do
		if reason=$(grep "^ok [0-9]* $path # SKIP" "$scratch/stdout"); then
			skip "$path" "${reason#*# SKIP }"
			continue
		fi
		grep -q "^ok [0-9]* $path$" "$scratch/stdout"
		report $? "$path" "exit status $status; $(tail -n 5 "$scratch/stdout" "$scratch/stderr")"
	done
	[ "$status" -eq 0 ]
	report $? "$1: exit status 0" "it was $status"
	grep '^# [0-9adk]' "$scratch/stdout"
	wire clear
}
passes test_verbs_fabric '^/verbs/\|^/fabric/verbs/'
# over IPv6 and with linked work requests: what differs by them
passes test_verbs_fabric '^/fabric/verbs6/\(hello\|sizes\|many\|order\|access\|cut\)$'
passes test_verbs_faults '^/verbs-faults/'

finish
