#!/bin/sh
# trace.t: kvtier trace info, heat, cut, grow and check on the samples and on bad files.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

samples=traces/samples
rows=$samples/code-32k-layer7.h5
window=$samples/code-32k-window.h5
large=$samples/code-128k-retrieval.h5

# value KEY: the first value of a key in the JSON that the last run printed.
value() {
	sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\).*/\1/p" "$scratch/stdout" | head -n 1
}

# has KEY VALUE NAME
has() {
	[ "$(value "$1")" = "$2" ]
	report $? "$3: $1 is $2" "it is $(value "$1")"
}

# near KEY VALUE NAME: equal to four digits
near() {
	[ "$(printf %.4f "$(value "$1")")" = "$2" ]
	report $? "$3: $1 is $2" "it is $(value "$1")"
}

run "$KVTIER" trace --help
exits 0 "trace --help"
mentions stdout "trace cut FILE OUT" "trace --help"
for action in info heat cut grow check; do
	run "$KVTIER" trace $action --help
	exits 0 "trace $action --help"
	mentions stdout "kvtier trace $action [" "trace $action --help"
done

# What the samples hold; the figures are those of traces/FORMAT.md.
run "$KVTIER" trace info "$rows" --every 3 --format json
exits 0 "info of rows"
prints stderr "" "info of rows"
has schema kvtier.trace-info/1 "info of rows"
has license Apache-2.0 "info of rows"
has steps 544 "info of rows"
has context_tokens 32768 "info of rows"
has accesses 930866 "info of rows"
near oracle_1 0.6112 "info of rows"
near oracle_2 0.7014 "info of rows"
near oracle_5 0.8073 "info of rows"
run "$KVTIER" trace info "$rows" --format json
near oracle_1 0.6105 "info of rows, every step"
near oracle_10 0.8802 "info of rows, every step"
cp "$scratch/stdout" "$scratch/first"
run "$KVTIER" trace info "$rows" --format json
cmp -s "$scratch/stdout" "$scratch/first"
report $? "the same output again"
run "$KVTIER" trace info "$large"
mentions stdout "   4           8    176      48     128" "info as a table"
run "$KVTIER" trace info "$window" --exact --format csv -o "$scratch/info.csv"
exits 0 "info into a file"
prints stdout "" "info into a file"
grep -q '^7,global,"queries, keys, values",176,15208,' "$scratch/info.csv"
report $? "info into a file: CSV" "$(cat "$scratch/info.csv")"
run "$KVTIER" trace info "$rows" --rate
mentions stdout "1088 rows, 930866 accesses in" "info --rate"

for file in "$rows" "$window" "$large"; do
	run "$KVTIER" trace check "$file" --format json
	exits 0 "check $file"
	has schema kvtier.trace-check/1 "check $file"
done
run "$KVTIER" trace check "$window" --samples 200 --format json
has masses_recomputed 15208 "check of every mass"

# Where steps look: a retrieval begins in page 1,536 with turn 4, and reads on to page 1,543.
run "$KVTIER" trace heat "$rows" --steps 368: --pages 1528:1552 --format csv
exits 0 "heat"
prints stderr "" "heat"
found=$(awk -F , 'NR > 1 && $3 == "prompt" { mass[$6] += $8; rows++ }
	NR > 1 && $8 > best[$1] { best[$1] = $8; page[$1] = $6 }
	END { print rows, page[370], page[390], page[445], (mass[1536] > 3 * mass[1528]) }' "$scratch/stdout")
[ "$found" = "1152 1536 1537 1543 1" ]
report $? "heat: the retrieval is seen" "$found"
run "$KVTIER" trace heat "$rows" --bins 7 --steps 0:2 --format json
has schema kvtier.trace-heat/1 "heat as JSON"
json '@{$j->{cells}} == 14 && $j->{layer} == 7' "heat as JSON: a cell for each step and run"
refuses 2 "kvtier: --bins: 0, expected 1 or more" "$KVTIER" trace heat "$rows" --bins 0
refuses 2 "kvtier: --head: -2, expected the number of a KV head" "$KVTIER" trace heat "$rows" --head -2
refuses 2 'kvtier: --pages: "9", expected a range FIRST:END such as 0:64' \
	"$KVTIER" trace heat "$rows" --pages 9
refuses 2 "kvtier: $rows: no steps 600:544, expected some of 0:544" \
	"$KVTIER" trace heat "$rows" --steps 600:

# Cuts.
run "$KVTIER" trace cut "$window" "$scratch/cut.h5" --steps 10:20 --pages 0:1,60:80 --without values
exits 0 "cut"
prints stderr "" "cut"
prints stdout "" "cut"
run "$KVTIER" trace info "$scratch/cut.h5" --format json
has steps 10 "cut"
has tensors queries "cut"
has total_tokens 348 "cut"
run "$KVTIER" trace check "$scratch/cut.h5" --samples 10
exits 0 "check of a cut"
run "$KVTIER" trace cut "$window" "$scratch/copy.h5"
"$KVTIER" trace cut "$scratch/copy.h5" "$scratch/copy2.h5"
cmp -s "$scratch/copy.h5" "$scratch/copy2.h5"
report $? "a cut that leaves all is the same bytes each time"
[ -z "$(find "$scratch" -name '*.h5?*')" ]
report $? "no temporary file is left" "$(ls "$scratch")"

# A longer context, and what it is compared with.
run "$KVTIER" trace grow "$rows" --tokens 200K --steps 20 -o "$scratch/grown.h5" --check "$rows" \
	--format json
exits 0 "grow"
prints stderr "" "grow"
has schema kvtier.trace-grow/1 "grow"
has layer 7 "grow"
run "$KVTIER" trace check "$scratch/grown.h5"
exits 0 "check of a grown trace"
run "$KVTIER" trace info "$scratch/grown.h5" --format json
has context_tokens 200000 "info of a grown trace"
has steps 20 "info of a grown trace"

# With keys, where they were recorded.
run "$KVTIER" trace grow "$window" --tokens 20K --steps 20 -o "$scratch/keys.h5"
exits 0 "grow with keys"
prints stderr "" "grow with keys"
run "$KVTIER" trace check "$scratch/keys.h5" --samples 20
exits 0 "check of a grown trace with keys: rows follow from them"
run "$KVTIER" trace info "$scratch/keys.h5" --format json
json '$j->{layers}[0]{tensors} eq "queries, keys"' "info of grown keys"
run "$KVTIER" replay "$scratch/keys.h5" --prefetch centroid --query current --steps 0:4 --format json
exits 0 "replay of a grown trace with keys, which are scored"
run "$KVTIER" trace cut "$scratch/keys.h5" "$scratch/keys-cut.h5" --steps 3:5
exits 0 "cut of a grown trace with keys"
run "$KVTIER" trace check "$scratch/keys-cut.h5"
exits 0 "check of a cut of grown keys"
run "$KVTIER" trace grow "$window" --tokens 20K --steps 200 --no-keys -o "$scratch/rows.h5"
exits 0 "grow without keys"
run "$KVTIER" trace info "$scratch/rows.h5" --format json
has steps 200 "info of grown rows"
refuses 2 "kvtier: $window: grown to 200 steps, expected at most 88, as many as recorded, or a trace without keys" \
	"$KVTIER" trace grow "$window" --tokens 20K --steps 200 -o "$scratch/none.h5"

# Wrong use.
refuses 2 "kvtier: --tokens: is missing, expected a length such as --tokens 10M" \
	"$KVTIER" trace grow "$rows" -o "$scratch/none.h5"
refuses 2 "kvtier: --output: is missing, expected a file to write" \
	"$KVTIER" trace grow "$rows" --tokens 10M
refuses 2 "kvtier: --tokens: 1000M, expected 1 to 268435456" \
	"$KVTIER" trace grow "$rows" --tokens 1000M -o "$scratch/none.h5"
refuses 2 "kvtier: $rows: grown to 1000 tokens of context, expected at least 32784: one page more than it has" \
	"$KVTIER" trace grow "$rows" --tokens 1000 -o "$scratch/none.h5"
refuses 2 "kvtier: $rows: layers: layer 3 is not recorded, expected one of 7" \
	"$KVTIER" trace grow "$rows" --tokens 1M --layer 3 -o "$scratch/none.h5"
refuses 2 "kvtier: $scratch/grown.h5: is synthetic itself, expected a recorded trace" \
	"$KVTIER" trace grow "$scratch/grown.h5" --tokens 1M -o "$scratch/none.h5"
refuses 2 "kvtier: --temperature: \"x\", expected RATE:TOKENS such as 0.1:2048, or none" \
	"$KVTIER" trace grow "$rows" --tokens 1M --temperature x -o "$scratch/none.h5"
[ ! -e "$scratch/none.h5" ]
report $? "a refused growth writes nothing"
help='see "kvtier trace'
refuses 2 "kvtier: trace: expected info|heat|cut|grow|check FILE, $help --help\"" "$KVTIER" trace
refuses 2 "kvtier: trace: \"chek\" is not known, did you mean \"check\"? (one of info, heat, cut, grow, check)" \
	"$KVTIER" trace chek "$rows"
refuses 2 "kvtier: trace info: expected FILE, $help info --help\"" "$KVTIER" trace info
refuses 2 "kvtier: \"x\" is one argument too many, $help check --help\"" \
	"$KVTIER" trace check "$rows" x
refuses 2 "kvtier: \"--exect\" is not an option, did you mean \"--exact\"?" \
	"$KVTIER" trace info "$rows" --exect
refuses 2 "kvtier: --every: 0, expected 1 or more" "$KVTIER" trace info "$rows" --every 0
refuses 2 "kvtier: --samples: -1, expected 0 or more" "$KVTIER" trace check "$rows" --samples -1
out=$scratch/never.h5
range='expected a range FIRST:END such as 0:64'
for steps in 5 a:b 1:2:3 '' 1:-2 3:0; do
	refuses 2 "kvtier: --steps: \"$steps\", $range" \
		"$KVTIER" trace cut "$rows" "$out" --steps "$steps"
done
refuses 2 "kvtier: $rows: steps 600:544, expected a range within 0:544" \
	"$KVTIER" trace cut "$rows" "$out" --steps 600:
refuses 2 "kvtier: --layers: \"3,x\", expected numbers such as 3,7" \
	"$KVTIER" trace cut "$rows" "$out" --layers 3,x
refuses 2 "kvtier: $rows: layers: layer 3 is not recorded, expected one of 7" \
	"$KVTIER" trace cut "$rows" "$out" --layers 3
refuses 2 "kvtier: --without: \"rows\" is not known, expected one of queries, keys, values" \
	"$KVTIER" trace cut "$rows" "$out" --without rows
refuses 2 "kvtier: $rows: layers/7: its context cannot be cut, expected a global layer with queries and keys" \
	"$KVTIER" trace cut "$rows" "$out" --pages 0:64
refuses 2 "kvtier: $rows: is the trace itself, expected another file to write" \
	"$KVTIER" trace cut "$rows" "$rows"
refuses 1 "kvtier: $scratch/no/out.h5: cannot be created (No such file or directory), expected a writable folder" \
	"$KVTIER" trace cut "$rows" "$scratch/no/out.h5"
[ ! -e "$out" ]
report $? "a refused cut writes nothing"

# Bad files, to each action.
for action in info check "cut --steps 0:1"; do
	# shellcheck disable=SC2086
	set -- "$KVTIER" trace $action
	last=
	case $action in cut*) last=$out ;; esac
	refuses 2 "kvtier: nothing.h5: No such file or directory, expected an attention trace (HDF5)" \
		"$@" nothing.h5 ${last:+"$last"}
	refuses 2 "kvtier: $samples: not a regular file, expected an attention trace (HDF5)" \
		"$@" "$samples" ${last:+"$last"}
	refuses 2 "kvtier: LICENSE: not an HDF5 file, expected an attention trace" \
		"$@" LICENSE ${last:+"$last"}
	for bytes in 1000 100000 1000000; do
		head -c $bytes "$rows" >"$scratch/short.h5"
		run "$@" "$scratch/short.h5" ${last:+"$last"}
		exits 2 "$action of $bytes bytes"
		mentions stderr "short.h5: damaged HDF5 file (truncated file" "$action of $bytes bytes"
		[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
		report $? "$action of $bytes bytes: one line" "$(cat "$scratch/stderr")"
	done
done

# The library under the reader crashes or hangs on some damaged files; the command does not.
heap=$(grep -abo GCOL "$window" | head -n 1 | cut -d: -f 1)
for at in 16 24 32 40; do
	for byte in 000 377; do
		cp "$window" "$scratch/heap.h5"
		chmod u+w "$scratch/heap.h5"
		# shellcheck disable=SC2059
		printf "$(printf '\\%s' $byte $byte $byte $byte $byte $byte $byte $byte)" |
			dd of="$scratch/heap.h5" bs=1 seek=$((heap + at)) conv=notrunc 2>/dev/null
		run "$KVTIER" trace check "$scratch/heap.h5"
		lines=$(wc -l <"$scratch/stderr")
		[ "$status $lines" = "2 1" ] || [ "$status" -eq 0 ]
		report $? "heap damaged at $at with $byte" "$status: $(cat "$scratch/stderr")"
	done
done

finish
