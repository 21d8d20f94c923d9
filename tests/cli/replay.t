#!/bin/sh
# replay.t: kvtier replay: its figures, the same bytes twice, knobs that move something, refusals.
. tests/cli/lib.sh

trace=traces/samples/code-32k-layer7.h5
window=traces/samples/code-32k-window.h5
retrieval=traces/samples/code-128k-retrieval.h5

# value KEY [N]: of the first (N-th) line "KEY": value of the JSON that the last run printed.
value() {
	sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$scratch/stdout" | sed -n "${2:-1}p"
}

# holds EXPRESSION NAME: an awk expression is true.
holds() {
	awk "BEGIN { exit !($1) }"
	report $? "$2" "$1"
}

# near KEY VALUE TOLERANCE NAME
near() {
	found=$(value "$1")
	holds "$found - $2 <= $3 && $2 - $found <= $3" "$4: $1 is $2"
}

replay() {
	run "$KVTIER" replay "$@" --format json
}

# Means over all 544 steps and both KV heads, computed from the recording's queries and keys by
# another program; the sample's rows end at 0.99 of the mass, and fall short by a little.
for point in '1% .6105' '2% .7010' '5% .8081' '10% .8802'; do
	budget=${point% *}
	oracle=${point#* }
	name="oracle at $budget"
	replay $trace --layer 7 --budget "$budget" --prefetch oracle --policy lru
	exits 0 "$name"
	prints stderr "" "$name"
	near mass_kept "$oracle" 0.0005 "$name"
	near mass_oracle "$oracle" 0.0005 "$name"
	near steps 544 0 "$name"
	holds "$(value total) == 544 * 2 * (2048 + 17.5)" "$name: accesses"
	holds "$(value hits) <= $(value total) - $(value misses 1)" "$name: the compulsory floor"
	holds "$(value belady_misses) <= $(value misses 2)" "$name: Belady's floor"
	holds "$(value remote-nvme 2) == $(value misses 2) * $(value page_bytes)" "$name: bytes"
	holds "$(value stall_s) > 0 && $(value stall_s) < $(value total_s)" "$name: stall"
done

# What each prefetcher keeps: nothing, a window of the latest pages, most of the oracle's.
replay $trace --prefetch none
none=$(value mass_kept)
replay $trace --prefetch last-step
near mass_kept .5759 0.0005 "last step at 2%"
holds "$(value mass_kept) > 1.3 * $none" "last-step keeps more than none"

# The same run gives the same bytes; another seed gives other latencies and the same decisions.
cp "$scratch/stdout" "$scratch/first"
replay $trace --prefetch last-step
cmp -s "$scratch/first" "$scratch/stdout"
report $? "the same run, the same bytes"
replay $trace --prefetch last-step --seed 2
near mass_kept .5759 0.0005 "another seed"
holds "$(value total_s) != $(sed -n 's/^ *"total_s": \([^,]*\),*$/\1/p' "$scratch/first")" \
	"another seed, other latencies"

# Pages by sketches of 20 bytes a token at most, scored with the step's own query: nearly the best
# choice, whatever is attended to; hashing alone and the others stay behind.
keys=traces/samples/code-32k-keys.h5
kept() {
	awk -F '[:,]' -v share="$1" '/^  "mass_kept"/ { kept = $2 } /^  "mass_oracle"/ { best = $2 }
		END { exit !(kept >= share * best) }' "$scratch/stdout"
}
for point in '2% .92' '5% .95' '10% .97'; do
	for attention in exact budgeted; do
		replay $keys --prefetch slap --budget "${point% *}" --attention $attention
		exits 0 "slap at ${point% *}"
		kept "${point#* }"
		report $? "slap at ${point% *}, $attention: ${point#* } of the oracle" "$(value mass_kept)"
		holds "$(value scorer_bytes_per_token) <= 20" "slap at ${point% *}: sketches"
	done
done
replay $keys --prefetch slap --attention budgeted
selected=$(value mass_kept)
for other in quest arkvale centroid smoothed window random; do
	replay $keys --prefetch $other --attention budgeted
	holds "$(value mass_kept) < $selected" "$other keeps less than slap" "$(value mass_kept)"
done

# With the query of the step before, a tenth of the pages in HBM and a hundredth moved a step: what
# is in HBM on time holds nine tenths of that, and more than the last step's pages and LRU do.
ahead='--query previous --budget 2% --hbm 10% --moves 1%'
# shellcheck disable=SC2086
replay $keys --prefetch slap --attention budgeted $ahead
on_time=$(value mass_on_time)
holds "$on_time >= 0.9 * $selected" "on time with slap: $on_time, of $selected"
holds "$(value total 3) <= 10 * 184 * 2" "a hundredth is moved: $(value total 3)"
for attention in exact budgeted; do
	# shellcheck disable=SC2086
	replay $keys --prefetch last-step --attention $attention $ahead
	holds "$(value mass_on_time) < $on_time" "on time with last-step, $attention: $(value mass_on_time)"
done

# Where a budget loses most of the mass it is said; with a share of the mass wanted nothing is lost
# silently.
replay $keys --prefetch slap --attention budgeted --budget 1%
mentions stderr "attention is diffuse in layer 7: by slap's estimate" "diffuse heads are named"
replay $keys --prefetch slap --attention budgeted --budget 1% --mass 90%
prints stderr "" "with a mass wanted, nothing to warn of"
holds "$(value dense_rows) > 184 && $(value mass_lost) < 0.1" \
	"what cannot keep 90% attends to everything: $(value dense_rows) rows, lost $(value mass_lost)"

# Side by side: every prefetcher with every budget, each as it is alone.
replay $trace --compare --prefetch oracle
exits 2 "--compare is about all prefetchers"
replay $window --prefetch oracle --budget 5% --policy arc
alone="$(value mass_kept) $(value timely) $(value coverage) $(value waste) $(value misses 2)"
replay $window --compare --budget 5% --policy arc
exits 0 "compare"
beside=$(sed -n '/"prefetch": "oracle"/,/}/p' "$scratch/stdout" |
	awk -F '[:,]' '/"(mass_kept|timely|coverage|waste|misses)"/ { printf "%s%s", sep, $2; sep = "" }')
holds "\"$beside\" == \" $alone\"" "compared and alone: the same figures"
run "$KVTIER" replay $window --compare --format csv
prefetchers=$("$KVTIER" help prefetcher | grep -c '^  [a-z]')
holds "$(wc -l <"$scratch/stdout") == 1 + 4 * $prefetchers" "compare: each with four budgets"
replay $trace --compare --budget 1% --steps 0:4
exits 0 "compare without keys"
holds "$(grep -c 'left out: .*quest.* no keys' "$scratch/stderr") == 1" "what needs keys is left out, in a line"
lists=$(grep -c '"prefetch": "\(quest\|oracle\)"' "$scratch/stdout")
holds "$lists == 1" "the others are there"

# Every knob moves something.
budgeted="--prefetch oracle --attention budgeted --hbm 4%"
# shellcheck disable=SC2086
replay $window $budgeted --budget 5% --hbm 10%
cp "$scratch/stdout" "$scratch/first"
for knob in '--budget 8%' '--hbm 20%' '--policy belady' '--prefetch none' '--attention exact' \
	'--tier dram' '--tier nvme' '--tier remote-dram' '--tier null' '--steps 10:60' '--seed 7' \
	'--gpu h200' '--model llama-3-70b' '--masses recorded' '--set remote-nvme.drives=2' \
	'--set fabric.efficiency=50%' '--set gpu.count=2' '--set remote-nvme.compression=2' \
	'--set host.name=pcie5-ddr5' '--set storage.second_share=40%' '--window 4KiB' '--depth 1' \
	'--dense-prompt' '--set fault.read_error_rate=20%'; do
	case $knob in
	--window*) extra='--attention exact' ;;
	# reads are served in turn: it shows where one is not asked for in time
	--depth*) extra='--model qwen2.5-7b-instruct-1m --lead 1ms --query previous' ;;
	# what limits a transfer has to be what the knob is about
	*drives=2 | *efficiency*) extra='--attention exact --model llama-3-70b' ;;
	*) extra= ;;
	esac
	# shellcheck disable=SC2086
	replay $window $budgeted --budget 5% --hbm 10% $extra
	cp "$scratch/stdout" "$scratch/first"
	# shellcheck disable=SC2086
	replay $window $budgeted --budget 5% --hbm 10% $extra $knob
	exits 0 "$knob"
	sed '/"value":/d; /"source":/d; /^  "[a-z]*": [^{]*$/d' "$scratch/first" >"$scratch/before"
	sed '/"value":/d; /"source":/d; /^  "[a-z]*": [^{]*$/d' "$scratch/stdout" >"$scratch/after"
	! cmp -s "$scratch/before" "$scratch/after"
	report $? "$knob changes a figure"
done

# Prefetches that have longer come in time more often; in the end all that the oracle asks for do
# but in the first step of 40, before which there is no time.
keys=traces/samples/code-32k-keys.h5
shares=
for lead in 10us 100us 1ms; do
	replay $keys --budget 2% --hbm 2% --query previous --prefetch oracle --attention budgeted --steps 0:40 \
		--model llama-4-scout-17b-16e-fp8 --lead $lead
	exits 0 "--lead $lead"
	shares="$shares $(value timely)"
done
echo "$shares" | awk '{ exit !($1 < $2 - .03 && $2 < $3 - .03 && $3 > .97) }'
report $? "timely rises with --lead" "$shares"
near lead_s .001 0 "--lead 1ms"

# Other traces: one that begins within a page; masses recomputed where rows are too short.
replay $retrieval --prefetch oracle
exits 0 "a trace that begins within a page"
near steps 184 0 "a trace that begins within a page"
replay $window --budget 90% --prefetch oracle
exits 0 "recomputed masses"
holds "$(value recomputed) > 0" "recomputed masses: $(value recomputed) rows"
# The oracle takes no more pages than the mass wanted needs.
replay $window --budget 100% --prefetch oracle --mass 90% --attention budgeted --masses recomputed
exits 0 "mass wanted of the oracle"
holds "$(value mass_kept) >= .9 && $(value mass_kept) < .93" "mass wanted of the oracle: $(value mass_kept)"
holds "$(value mean) < 40 && $(value dense_rows) == 0" "mass wanted of the oracle: $(value mean) pages"
replay $window --budget 90% --prefetch oracle --masses recorded
holds "$(value recomputed) == 0 && $(value too_short) > 0" "recorded masses: rows are too short"

# Other forms.
run "$KVTIER" replay $trace --steps 0:8
exits 0 "table"
mentions stdout "attention mass kept" "table"
run "$KVTIER" replay $trace --steps 0:8 --format csv
mentions stdout "mass_kept," "csv"
run "$KVTIER" replay $trace --steps 0:1 --format json
mentions stdout '"tpot_s": null' "one step has no TPOT"
run "$KVTIER" replay $trace --steps 0:8 --format json --rates
mentions stdout '"accesses_per_s"' "rates"
run "$KVTIER" replay $trace --steps 0:8 --timeline "$scratch/timeline.json"
exits 0 "timeline"
grep -q '"attention"' "$scratch/timeline.json"
report $? "timeline: attention"
grep -q '"demand"' "$scratch/timeline.json"
report $? "timeline: demand fetches"

# Refusals.
bad() {
	message=$1
	shift
	refuses 2 "kvtier: $message" "$KVTIER" replay $trace "$@"
}
bad '--budget: 0%, expected a share above 0% and up to 100%' --budget 0%
bad '--budget: "101%" is more than the whole, expected a share between 0 and 1, like 2% or 0.02' \
	--budget 101%
bad '--lead: "1 step" has the unknown unit "step", expected a time with a unit, like 350us, 1.3s or 6.2min' \
	--lead "1 step"
bad '--moves: 0%, expected a share above 0% and up to 100%' --moves 0%
bad '--query: "next" is not known, expected one of current, previous' --query next
bad 'prefetcher last-step: does not estimate mass, expected one that does, such as slap, where a share of the mass is asked for' \
	--mass 90%
bad '--hbm: 2% is less than the budget, expected at least as much, since what is selected has to fit' \
	--budget 5% --hbm 2%
bad '--policy: "lur" is not known, did you mean "lru"? (one of lru, fifo, clock, lfu, arc, s3fifo, sieve, attention, belady)' --policy lur
prefetchers=$("$KVTIER" help prefetcher | sed -n 's/^  \([a-z-]*\) .*/\1/p' | paste -sd, | sed 's/,/, /g')
bad "--prefetch: \"last_step\" is not known, did you mean \"last-step\"? (one of $prefetchers)" \
	--prefetch last_step
bad "$trace: layers: layer 3 is not recorded, expected one of 7" --layer 3
bad "$trace: steps 10:9: out of range, expected a range within 0:544" --steps 10:9
bad "$trace: steps 0:545: out of range, expected a range within 0:544" --steps 0:545
bad '--steps: "1-2", expected a range FIRST:END such as 0:64' --steps 1-2
bad "$trace: layer 7 has no queries or keys to recompute masses from, expected recorded masses" \
	--masses recomputed
bad '--dense-prompt: exact attention is dense everywhere, expected it with --attention budgeted' \
	--dense-prompt
bad 'tier hbm: pages are replayed between it and storage, expected another tier' --tier hbm
bad '--set "prefill.chunk_tokens=1": a replay reads no such section, expected one of gpu, host, fabric, storage, fault, model, decode or a tier'"'"'s' \
	--set prefill.chunk_tokens=1
bad '100% of the pages take 10.9 GB of HBM, and 5.46 GB of it is left beside the weights of llama-3-70b, expected a smaller share or more [gpu] count' \
	--budget 100% --model llama-3-70b --set gpu.memory_share=80%
refuses 1 'kvtier: tier null: the context'"'"'s pages do not fit, expected a larger capacity' \
	"$KVTIER" replay $trace --tier null --set null.capacity=1MB
finish
