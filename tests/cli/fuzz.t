#!/bin/sh
# fuzz.t: every fuzz target over its corpus and over changed copies of it; none may crash.
. tests/cli/lib.sh

BUILD=${BUILD:-build}
for source in tests/fuzz/fuzz_*.c; do
	name=${source##*/fuzz_}
	name=${name%.c}
	run "$BUILD/fuzz/fuzz_$name" --mutations "${MUTATIONS:-200}" "tests/fuzz/corpus/$name"
	[ "$status" -eq 0 ]
	report $? "$name: corpus and ${MUTATIONS:-200} mutations" "$(cat "$scratch/stdout" "$scratch/stderr")"
	[ -n "$(ls "tests/fuzz/corpus/$name" 2>&1)" ]
	report $? "$name has a corpus"
done

finish
