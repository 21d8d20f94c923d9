#!/bin/sh
# requests.t: kvtier requests info, convert, fit and generate on the samples and on bad files.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

samples=traces/samples/requests
chat=$samples/mooncake-conversation-400.jsonl
agents=$samples/agentic
code=$samples/azure-2023-code-1000.csv

run "$KVTIER" requests --help
exits 0 "requests --help"
mentions stdout "requests convert TRACE... OUT" "requests --help"
for action in info convert fit generate; do
	run "$KVTIER" requests $action --help
	exits 0 "requests $action --help"
	mentions stdout "kvtier requests $action [" "requests $action --help"
done
mentions stdout "session_rate" "requests generate --help lists the model's keys"

# What the samples hold; the figures are those of their README.
run "$KVTIER" requests info "$chat" --format json
exits 0 "info of Mooncake"
prints stderr "" "info of Mooncake"
json '$j->{schema} eq "kvtier.requests-info/1" && $j->{requests} == 400 && $j->{blocks} == 11349
	&& $j->{unique_blocks} == 9821 && $j->{block_tokens} == 512
	&& abs($j->{block_hit_ratio} - (1 - 9821 / 11349)) < 1e-12' "info of Mooncake: blocks"
json '$j->{moments}[0]{of} eq "input" && $j->{moments}[0]{mean} * 400 == $j->{input_tokens}
	&& $j->{moments}[0]{most} == 121298 && $j->{moments}[4]{count} == 0' "info of Mooncake: moments"
run "$KVTIER" requests info "$agents" --format json
json '$j->{requests} == 46 && $j->{subagent_sessions} == 3 && $j->{subagent_requests} == 17
	&& $j->{sessions} == 5 && $j->{waiting_requests} == 44 && $j->{joining_requests} == 2' \
	"info of agents: sub-agents wait and are waited for"
run "$KVTIER" requests info "$code" --format json
json '$j->{requests} == 1000 && $j->{blocks} == 0 && !defined $j->{block_hit_ratio}' "info of Azure"
run "$KVTIER" requests info "$code"
mentions stdout "requests   1000 in 1000 sessions of 1 tenant over 8.69 min" "info as a table"
run "$KVTIER" requests info "$code" --format csv
mentions stdout "of,unit,count,mean,cv,p50,p99,most" "info as CSV"

# The compact form says the same as what it was made from, byte for byte each time.
for trace in "$chat" "$agents" "$code"; do
	name=$(basename "$trace")
	"$KVTIER" requests info "$trace" --format json | grep -v '"file"' >"$scratch/before"
	run "$KVTIER" requests convert "$trace" "$scratch/$name.requests" --format json
	exits 0 "convert $name"
	prints stderr "" "convert $name"
	"$KVTIER" requests info "$scratch/$name.requests" --format json | grep -v '"file"' >"$scratch/after"
	cmp -s "$scratch/before" "$scratch/after"
	report $? "the compact form of $name is the same trace" "$(diff "$scratch/before" "$scratch/after")"
	"$KVTIER" requests convert "$scratch/$name.requests" "$scratch/again" >"$scratch/stdout"
	cmp -s "$scratch/$name.requests" "$scratch/again"
	report $? "converted again, $name is the same bytes"
done
mv "$scratch/agentic.requests" "$scratch/no-extension"
run "$KVTIER" requests info "$scratch/no-extension"
exits 0 "what a file is, is seen from its content"

# Changes.
run "$KVTIER" requests convert "$chat" "$scratch/out" --rate 2 --from 30s --until 60s --format json
json '$j->{requests} < 400 && $j->{requests} > 50 && $j->{duration_s} <= 15' "a part at twice the rate"
run "$KVTIER" requests convert "$chat" "$scratch/out" --requests 10:30 --format json
json '$j->{requests} == 20' "a part by count"
run "$KVTIER" requests convert "$chat" "$scratch/out" --close 30ms --format json
json '$j->{waiting_requests} == 400 - $j->{sessions}' "sessions as closed loops"
run "$KVTIER" requests convert "$agents" "$scratch/out" --users 1 --think 1min --format json
json '$j->{waiting_requests} == 45' "one user has one dialogue after the other"
run "$KVTIER" requests convert "$agents" "$scratch/out" --starts 0.02/s --seed 4 --block-tokens 256 \
	--format json
json '$j->{block_tokens} == 256 && $j->{requests} == 46 && $j->{blocks} < 30039 / 3.9' \
	"dialogues that begin at random, coarser blocks"
run "$KVTIER" requests convert "$chat" "$agents" "$scratch/mix" --block-tokens 512 --share 3,1 \
	--total-rate 2/s --tenants chat,agents --format json
exits 0 "mix"
json '"@{$j->{tenants}}" eq "chat agents" && abs($j->{requests} / $j->{duration_s} - 2) < 0.2' \
	"a mix: tenants and rate"

# Models.
run "$KVTIER" requests fit "$chat" -o "$scratch/chat.ini"
exits 0 "fit"
prints stdout "" "fit to a file"
run "$KVTIER" requests fit "$chat" --format json
json '$j->{schema} eq "kvtier.requests-fit/1" && $j->{arrivals} eq "gamma" && $j->{prefix} == 512
	&& abs($j->{output} - 365.1825) < 1e-9' "fit as JSON"
run "$KVTIER" requests generate "$scratch/one" --model "$scratch/chat.ini" --sessions 5K --format json
exits 0 "generate from a file"
prints stderr "" "generate from a file"
json '$j->{sessions} == 5000 && abs($j->{moments}[1]{mean} - 365) < 15' "generate: the moments of the model"
"$KVTIER" requests generate "$scratch/two" --like "$chat" --sessions 5000 >"$scratch/stdout"
cmp -s "$scratch/one" "$scratch/two"
report $? "the fit printed, and taken at once, give the same trace"
"$KVTIER" requests generate "$scratch/three" --like "$chat" --sessions 5000 --seed 2 >"$scratch/stdout"
! cmp -s "$scratch/one" "$scratch/three"
report $? "another seed gives another trace"
run "$KVTIER" requests generate "$scratch/bursts" --set requests.arrivals=bursts --duration 10min \
	--set requests.session_rate=5/s --format json
json 'abs($j->{requests} / 600 - 5) < 2' "generate for some time, with bursts"

# Wrong use.
help='see "kvtier requests'
refuses 2 "kvtier: requests: expected info|convert|fit|generate TRACE, $help --help\"" "$KVTIER" requests
refuses 2 'kvtier: requests: "inf" is not known, did you mean "info"? (one of info, convert, fit, generate)' \
	"$KVTIER" requests inf x
out=$scratch/none
refuses 2 "kvtier: --rate: 0, expected 1e-09 to 1e+09" "$KVTIER" requests convert "$chat" "$out" --rate 0
refuses 2 "kvtier: --share: 1, expected 2, one of each trace" \
	"$KVTIER" requests convert "$chat" "$chat" "$out" --share 1
refuses 2 "kvtier: --total-rate: expected --share with it" \
	"$KVTIER" requests convert "$chat" "$chat" "$out" --total-rate 1/s
refuses 2 "kvtier: --until: 1s, expected later than --from" \
	"$KVTIER" requests convert "$chat" "$out" --from 2s --until 1s
refuses 2 "kvtier: $chat: has no requests, expected one at least" \
	"$KVTIER" requests convert "$chat" "$out" --from 1h
refuses 2 "kvtier: $chat: blocks of 512 tokens as blocks of 100, expected a multiple or a fraction" \
	"$KVTIER" requests convert "$chat" "$out" --block-tokens 100
refuses 2 "kvtier: agentic (2 agentic traces): blocks of 64 tokens, expected 512 as those before have: convert it first" \
	"$KVTIER" requests convert "$chat" "$agents" "$out"
refuses 2 "kvtier: --model, --like: are both given, expected one of them" \
	"$KVTIER" requests generate "$out" --model x --like y
refuses 2 "kvtier: --sessions: expected 1 to 100M" "$KVTIER" requests generate "$out" --sessions 0
refuses 2 'kvtier: --set requests.turn: unknown key, did you mean "turns"?' \
	"$KVTIER" requests generate "$out" --set requests.turn=3
refuses 1 "kvtier: $scratch/no/out: cannot be created (No such file or directory), expected a writable folder" \
	"$KVTIER" requests convert "$chat" "$scratch/no/out"
[ ! -e "$out" ]
report $? "what is refused writes nothing"
[ -z "$(find "$scratch" -name '*.??????' ! -name '*.requests')" ]
report $? "no temporary file is left" "$(ls "$scratch")"

# Bad files, in one line.
what="expected a request trace (compact, Mooncake JSONL, agentic JSON, Azure or BurstGPT CSV)"
refuses 2 "kvtier: nothing: No such file or directory, $what" "$KVTIER" requests info nothing
refuses 2 "kvtier: LICENSE: is not known, $what" "$KVTIER" requests info LICENSE
refuses 2 "kvtier: models: has no .json files, expected agentic traces" "$KVTIER" requests info models
: >"$scratch/empty"
refuses 2 "kvtier: $scratch/empty: is empty, $what" "$KVTIER" requests info "$scratch/empty"
for bytes in 10 127 128 1000 20000; do
	head -c $bytes "$scratch/one" >"$scratch/short"
	run "$KVTIER" requests info "$scratch/short"
	exits 2 "$bytes bytes of the compact form"
	[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
	report $? "$bytes bytes of the compact form: one line" "$(cat "$scratch/stderr")"
done
sed '7s/"input_length": [0-9]*/"input_length": -5/' "$chat" >"$scratch/bad"
refuses 2 "kvtier: $scratch/bad:7: input_length: -5, expected a number of tokens of 0 to 1073741823" \
	"$KVTIER" requests info "$scratch/bad"
sed '9s/,[0-9]*\r*$//' "$code" >"$scratch/bad"
refuses 2 "kvtier: $scratch/bad:9: GeneratedTokens: is missing, expected 3 columns or more" \
	"$KVTIER" requests info "$scratch/bad"
head -c 5000 "$agents/trace_0019.json" >"$scratch/bad"
run "$KVTIER" requests info "$scratch/bad"
exits 2 "a cut agentic trace"
mentions stderr "bad:1: not JSON: " "a cut agentic trace"

finish
