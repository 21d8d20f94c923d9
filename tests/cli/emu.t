#!/bin/sh
# emu.t: kvtier emu: a turn in real time over real pages, in memory and in a store of files, its
# stages and its comparison with double precision; what it refuses.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

windows=experiments/emulation-windows.ini
less='--set context.tokens=1024 --set context.output_tokens=2 --set emulation.checks=16'

# shellcheck disable=SC2086
run "$KVTIER" emu $windows $less --format json
exits 0 "emu"
json '$j->{schema} =~ m{^kvtier\.emulation/\d+$}' "the schema has a version"
json '$j->{ttft_s} > 0 && $j->{tpot_s} > 0 && $j->{stored_bytes} >= 28 * 1024 * 2048' "times and bytes"
json '$j->{attention}{exact} && $j->{attention}{compared} == 16' "attention is exact"
json '$j->{attention}{rms_error} <= $j->{attention}{resident_fp32_rms_error}' \
	"its error is no larger than with everything in memory"
json 'my %k = map { $_->{stage} => $_->{kind} } @{$j->{marked_stages}};
	$k{attention} eq "REAL" && $k{loading} eq "REAL" && $k{merge} eq "REAL" &&
	$k{mlp} eq "MODELLED" && $k{qkv} eq "MODELLED"' "stages are marked"

# shellcheck disable=SC2086
run "$KVTIER" emu $windows $less --set emulation.tier=store \
	--set "emulation store.path=$scratch/store" --set "emulation store.capacity=200MB"
exits 0 "emu over a store of files"
grep -q 'tier store' "$scratch/stdout" && grep -q ': exact$' "$scratch/stdout"
report $? "pages that went out to files and came back are attended to exactly"

# shellcheck disable=SC2086
run "$KVTIER" emu $windows $less --set emulation.tier=store --set model.page_tokens=32 \
	--set "emulation store.path=$scratch/store" --set "emulation store.capacity=200MB"
exits 1 "emu over a store with pages of another size"
mentions stderr "it holds pages of another size, expected an empty one" "pages of another size"

# shellcheck disable=SC2086
run "$KVTIER" emu $windows $less --timeline "$scratch/timeline.json"
exits 0 "emu with a timeline"
grep -q '"attention"' "$scratch/timeline.json"
report $? "the timeline has attention in it"

run "$KVTIER" emu experiments/emulation-trace.ini --format json
exits 0 "emu of a recorded trace"
json '$j->{data}{kind} eq "recorded" && "@{$j->{data}{layers}}" eq "7" && !$j->{data}{rounded} &&
	$j->{data}{stored_tokens} == 2128 && $j->{data}{query_tokens} == 80 &&
	$j->{data}{first_position} == 2128 && $j->{data}{last_position} == 2207' "it says what was recorded"
json '$j->{attention}{exact} && $j->{attention}{compared} == 320' "attention to what was recorded is exact"
json '$j->{decode}{prefetch} eq "slap" && $j->{decode}{steps} == 32 && $j->{decode}{step_s} > 0 &&
	$j->{decode}{bytes}{memory} > 0' "decode steps from chosen pages"
json '$j->{decode}{attention}{exact} && $j->{decode}{attention}{compared} == 64' \
	"attention to chosen pages is exact"
json 'abs($j->{decode}{mass_attended} - $j->{decode}{mass_kept}) < 0.002 &&
	$j->{decode}{mass_kept} < 1' "what they keep of the attention is as the rows have it"
json 'my %k = map { $_->{stage} => $_->{kind} } @{$j->{decode}{marked_stages}};
	$k{planning} eq "REAL" && $k{attention} eq "REAL" && $k{dense} eq "MODELLED"' \
	"their stages are marked"

run "$KVTIER" emu experiments/emulation-trace.ini --set context.tokens=2120 --set "emulation decode.prefetch="
exits 0 "emu with tokens that have no recorded queries"
grep -q '8 tokens between them have no recorded queries and are left out' "$scratch/stdout" &&
	! grep -q slap "$scratch/stdout"
report $? "they are left out, and it says so"

run "$KVTIER" emu experiments/emulation-trace.ini --set emulation.trace=code-32k-keys.h5
exits 2 "a trace without values"

# shellcheck disable=SC2086
run "$KVTIER" emu $windows $less --set emulation.tier=memory \
	--set "emulation memory.capacity=200MB" --record "$scratch/decisions"
exits 0 "emu with a record of decisions"
# shellcheck disable=SC2086
run "$KVTIER" run $windows $less --follow "$scratch/decisions"
exits 0 "the model decides the same in the recorded order"
# shellcheck disable=SC2086
run "$KVTIER" run $windows $less --follow "$scratch/decisions" --set stream.buffers=7
exits 2 "with other buffers it does not"
grep -q 'decisions:[0-9]*: the engine asks .*, expected .* as recorded' "$scratch/stderr"
report $? "where it first differs is told"

# A session that moves: from a store to another, both of which are sound afterwards.
for node in storage keep; do
	mkdir "$scratch/$node"
done
run "$KVTIER" emu experiments/emulation-migrate.ini --set emulation.tier=store \
	--set "emulation store.path=$scratch/storage" --set "emulation store.capacity=100MB" \
	--set "emulation migrate.keep_tier=store" --set "emulation keep store.path=$scratch/keep" \
	--set "emulation keep store.capacity=100MB" --format json
exits 0 "emu of a session that moves"
json 'my $m = $j->{migration}; !grep { !($m->{$_ . "_s"} > 0 && $m->{attention}{$_}{exact}) }
	qw(stay fetch settled recompute)' "all its turns are exact"
json '$j->{migration}{recompute_over_fetch} > 0 && $j->{bytes}{"remote-dram"} == 28 * 256 * 2048 &&
	$j->{kept}{bytes} == 28 * 256 * 2048 && $j->{kept}{failed_bytes} == 0' \
	"its pages were fetched, and kept at the other node"
for node in storage keep; do
	run "$KVTIER" store check "$scratch/$node"
	exits 0 "store check of $node"
done
run "$KVTIER" emu experiments/emulation-migrate.ini
exits 0 "emu of a session that moves, in memory"
mentions stdout "fetching from the first one's pool" "compared with recomputing"
mentions stdout "once more, from its own pool" "compared with recomputing"

run "$KVTIER" emu experiments/scout-400k.ini
exits 2 "a model with local layers"
run "$KVTIER" emu $windows --set emulation.tier=tape
exits 2 "a tier that there is not"
run "$KVTIER" emu $windows --set emulation.speed=1
exits 2 "a key that there is not"

finish
