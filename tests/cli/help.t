#!/bin/sh
# help.t: the topics of `kvtier help` that are made from the registries.
. tests/cli/lib.sh

# Every name in a list has a page that begins with it and, for tiers and sections, names its keys.
for topic in tier experiment policy prefetcher; do
	names=$("$KVTIER" help $topic | sed -n 's/^  \([a-z-]*\)  *.*/\1/p')
	[ -n "$names" ]
	report $? "help $topic lists something"
	for name in $names; do
		run "$KVTIER" help $topic "$name"
		exits 0 "help $topic $name"
		grep -q "^$name: ." "$scratch/stdout"
		report $? "help $topic $name begins with it"
	done
done

# What the pages say is what is accepted: a section's keys with their defaults.
for tier in dram nvme remote-nvme; do
	printf 'include = %s/experiments/testbed-l40s.ini\n[model]\nname = qwen2.5-7b-instruct-1m\n[context]\ntokens = 10K\n[storage]\ntier = %s\n[%s]\n' \
		"$PWD" $tier $tier >"$scratch/defaults.ini"
	"$KVTIER" help tier $tier |
		sed -n '/^  [a-z]/{s/^  \([a-z_0-9]*\).*/\1 =/;h};/default/{s/.*default \(.*\))$/\1/;H;x;s/\n/ /p}' \
			>>"$scratch/defaults.ini"
	run "$KVTIER" run "$scratch/defaults.ini"
	exits 0 "the defaults of $tier as its help prints them"
done

run "$KVTIER" help tier nvme
mentions stdout "queue_depth   commands in flight a drive" "help tier nvme"
run "$KVTIER" help experiment fault
mentions stdout "read_error_rate" "help experiment fault"
run "$KVTIER" help policy
mentions stdout "  belady  " "help policy"
run "$KVTIER" help prefetcher
mentions stdout "  last-step  " "help prefetcher"

refuses 2 'kvtier: there is no tier "nvm", did you mean "nvme"?' "$KVTIER" help tier nvm
refuses 2 'kvtier: there is no policy "frobnicate", see "kvtier help policy"' \
	"$KVTIER" help policy frobnicate
refuses 2 'kvtier: there is no experiment "\x01", see "kvtier help experiment"' \
	"$KVTIER" help experiment "$(printf '\001')"
refuses 2 'kvtier: "x": expected nothing after "kvtier help tier dram"' "$KVTIER" help tier dram x

finish
