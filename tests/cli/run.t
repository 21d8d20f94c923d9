#!/bin/sh
# run.t: kvtier run: the form of its results, --set, the timeline, and one clear line for each bad
# input. What the figures are is tested with the engine.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

experiment=experiments/qwen-1m.ini

run "$KVTIER" run $experiment --format json
exits 0 "run"
prints stderr "" "run"
cp "$scratch/stdout" "$scratch/first"
json '$j->{schema} =~ m{^kvtier\.run/\d+$}' "the schema has a version"
json 'for (qw(ttft_s tpot_s tokens_per_s peak_hbm_bytes)) { push @why, $_ if !($j->{$_} > 0) } !@why' \
	"times, rates and peak HBM are there"
json 'ref $j->{bytes} eq "HASH" && $j->{bytes}{"remote-nvme"} > 5e10' "bytes by tier"
json 'ref $j->{stages} eq "HASH" && $j->{stages}{loading_s} > 0.9 * $j->{ttft_s}' \
	"stages: this resume loads nearly all the time"
json 'ref $j->{provenance} eq "ARRAY" && @{$j->{provenance}} > 10' "where every setting is from"
json 'abs($j->{cold}{ttft_s} / $j->{ttft_s} / $j->{speedup} - 1) < 1e-9' "speedup is cold over resume"
json 'abs(128 / ($j->{ttft_s} + 128 * $j->{tpot_s}) / $j->{tokens_per_s} - 1) < 0.02' \
	"tokens a second count the whole turn"

run "$KVTIER" run $experiment --format json
cmp -s "$scratch/stdout" "$scratch/first"
report $? "a second run writes the same bytes"
run "$KVTIER" run $experiment --set gpu.count=4 --set global.seed=1 --format json
ttft() {
	perl -MJSON::PP -e 'local $/; print decode_json(<STDIN>)->{ttft_s}' <"$1"
}
[ "$(ttft "$scratch/stdout")" = "$(ttft "$scratch/first")" ]
report $? "--set of what is so already changes nothing" "$(cat "$scratch/stderr")"

run "$KVTIER" run $experiment --set fabric.nics=2 --format json
exits 0 "--set fabric.nics=2"
json '$j->{ttft_s} < 0.75 * '"$(ttft "$scratch/first")" "twice the NICs load faster"
run "$KVTIER" run $experiment --set context.tokens=100K --set context.tokens=500K --format json
json '$j->{loaded_tokens} == 500000' "the last --set of a key counts"

run "$KVTIER" run $experiment --format csv
exits 0 "--format csv"
[ "$(head -n 1 "$scratch/stdout")" = "name,value" ]
report $? "a CSV of names and values"
run "$KVTIER" run $experiment
exits 0 "as text"
mentions stdout "time to first token" "as text"
mentions stdout "fitted: to qwen-1m-turn2" "as text"

run "$KVTIER" run $experiment --timeline "$scratch/timeline.json"
exits 0 "--timeline"
cp "$scratch/timeline.json" "$scratch/stdout"
json '@{$j->{traceEvents}} > 100' "the timeline is JSON with events"
json 'my ($loads, $compute) = (0, 0); for (@{$j->{traceEvents}}) { next if $_->{ph} ne "X";
	$loads++ if $_->{name} =~ /^load/; $compute++ if $_->{name} eq "attention"; push @why, $_->{name} if $_->{dur} < 0 }
	$loads >= 28 && $compute >= 28 && !@why' "it has a load and an attention for every layer"

for file in experiments/*.ini; do
	case $file in *testbed-l40s.ini | *gpu-card.ini | */fleet-* | */plan-*) continue ;; esac
	run "$KVTIER" run "$file" --format json
	exits 0 "$file"
done

refuses 2 'kvtier: run: expected FILE.ini, see "kvtier run --help"' "$KVTIER" run
refuses 2 'kvtier: "b" is one argument too many, see "kvtier run --help"' "$KVTIER" run a b
refuses 2 'kvtier: nope.ini: cannot read the file: No such file or directory' "$KVTIER" run nope.ini
refuses 2 'kvtier: experiments: cannot read the file: it is a folder' "$KVTIER" run experiments
refuses 2 'kvtier: --set gpu.cuont: unknown key, did you mean "count"?' \
	"$KVTIER" run $experiment --set gpu.cuont=2
refuses 2 'kvtier: --set "gpu.count": there is no "=", expected section.key=value' \
	"$KVTIER" run $experiment --set gpu.count
refuses 2 'kvtier: --set gpu.count: "2.5" is not whole, expected a whole number, like 4, 128 or 400K' \
	"$KVTIER" run $experiment --set gpu.count=2.5
refuses 2 'kvtier: --set stream.turnaround: "5" has no unit, expected a time with a unit, like 350us, 1.3s or 6.2min' \
	"$KVTIER" run $experiment --set stream.turnaround=5
refuses 2 'kvtier: --set context.tokens: "-5" is negative, expected a whole number, like 4, 128 or 400K' \
	"$KVTIER" run $experiment --set context.tokens=-5
refuses 2 'kvtier: "h9000" is no gpu model, did you mean "h200"?' "$KVTIER" run $experiment --set gpu.name=h9000
refuses 2 'kvtier: "qwen2.5-7b-instruct-1n" is no llm model, did you mean "qwen2.5-7b-instruct-1m"?' \
	"$KVTIER" run $experiment --set model.name=qwen2.5-7b-instruct-1n

# The same in a file is said with its line.
mistake() {
	printf 'include = %s\n%b\n' "$PWD/$experiment" "$1" >"$scratch/mistake.ini"
	refuses 2 "kvtier: $scratch/mistake.ini$2" "$KVTIER" run "$scratch/mistake.ini"
}
mistake '[gpu]\ncuont = 4' ':3: [gpu] cuont: unknown key, did you mean "count"?'
mistake '[stream]\nturnaround = 5' \
	':3: [stream] turnaround: "5" has no unit, expected a time with a unit, like 350us, 1.3s or 6.2min'
mistake '[gpu]\ncount = 4\ncount = 5' ':4: [gpu] count: the key is there already, at line 3'

# Pages that are chosen: the file of curves may be beside the experiment, and is checked.
cp experiments/selectivity.csv "$scratch/shares.csv"
printf 'include = %s\n[select]\ncurve = shares.csv\nmass = 90%%\n' "$PWD/$experiment" >"$scratch/choice.ini"
run "$KVTIER" run "$scratch/choice.ini" --format json
exits 0 "chosen pages"
json 'my $c = $j->{choice}; $c->{share} > .05 && $c->{share} < .2 && $c->{mass_kept} > .85 && $c->{run_pages} >= 1' \
	"chosen pages: the share is there"
run "$KVTIER" run "$scratch/choice.ini" --set context.tokens=1M
mentions stdout "of global layers' pages, loaded" "chosen pages"
mentions stdout "(the longest: 131K tokens)" "chosen pages, more than were recorded"
sed -n '1,/^chooser/p' "$scratch/shares.csv" >"$scratch/bad.csv"
echo 'slap,7,token,0.9,recorded,8192,12,1.8,0.9,x' >>"$scratch/bad.csv"
line=$(wc -l <"$scratch/bad.csv")
refuses 2 "kvtier: $scratch/bad.csv:$line: share: \"12\", expected a number from 1e-09 to 1" \
	"$KVTIER" run "$scratch/choice.ini" --set "select.curve=$scratch/bad.csv"
refuses 2 "kvtier: $scratch/shares.csv: no curve of quest of layer 7 at 90%, a token, expected one that is there, such as oracle of layer 3 at 90%, a question" \
	"$KVTIER" run "$scratch/choice.ini" --set select.chooser=quest

# The curves are made by a script, of any recording that has keys.
run env KVTIER="$KVTIER" CHOOSERS=oracle MASSES="90 99" PREFIXES=64 sh experiments/selectivity.sh 7 \
	traces/samples/code-32k-window.h5
exits 0 "selectivity.sh"
awk -F , 'NR == 1 { next } { share[$3, $4, $6] = $7; if ($9 < $4) bad = 1 }
	END { exit bad || NR != 9 || share["token", .99, 2112] <= share["token", .9, 2112] ||
		share["question", .9, 2112] <= share["token", .9, 2112] }' "$scratch/stdout"
report $? "selectivity.sh: more mass and more tokens take more pages" "$(cat "$scratch/stdout")"
cp "$scratch/stdout" "$scratch/measured.csv"
run "$KVTIER" run "$scratch/choice.ini" --set "select.curve=$scratch/measured.csv" --set select.chooser=oracle
exits 0 "curves as selectivity.sh writes them"

run "$KVTIER" run $experiment --set context.tokens=100G
[ "$status" -ne 0 ] && [ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "a context that fits nowhere is one line" "$(cat "$scratch/stderr")"
run "$KVTIER" run $experiment --timeline "$scratch/no/such.json"
exits 1 "a timeline that cannot be written"
run "$KVTIER" run $experiment --output "$scratch/no/such.json"
exits 1 "an output that cannot be written"

finish
