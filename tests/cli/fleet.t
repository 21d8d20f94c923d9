#!/bin/sh
# fleet.t: kvtier fleet: the form of its results, what knobs move and what they leave alone, and one
# clear line for each bad input. What the figures are is tested with the fleet.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

file=experiments/fleet-mooncake.ini
few='--set traffic.requests=200'

# shellcheck disable=SC2086
fleet() {
	run "$KVTIER" fleet $file $few "$@"
}

fleet --format json
exits 0 "fleet"
prints stderr "" "fleet"
cp "$scratch/stdout" "$scratch/first"
json '$j->{schema} eq "kvtier.fleet/1"' "the schema has a version"
json 'for my $k (qw(ttft tpot)) { for (qw(p50 p95 p99 p999)) { push @why, "$k.$_" if !($j->{$k}{$_} > 0) } } !@why' \
	"percentiles of both latencies"
json 'for my $k (qw(ttft tpot e2e)) { my $p = $j->{$k};
	push @why, $k if !($p->{p50} <= $p->{p95} && $p->{p95} <= $p->{p99} && $p->{p99} <= $p->{p999}) } !@why' \
	"percentiles rise"
json '$j->{goodput} > 0 && $j->{gpu_hours} > 0 && $j->{cost_per_mtoken} > 0 && $j->{joules_per_mtoken} > 0' \
	"goodput, GPU hours, cost and energy"
json '$j->{hit_rate}{hbm} > 0 && exists $j->{hit_rate}{dram} && exists $j->{hit_rate}{nvme}' "hit rates by tier"
json '$j->{served} == 200 && $j->{refused_requests} == 0' "every request ended"
json '$j->{littles_law}{mean_requests} > 0 && $j->{littles_law}{error} < 1e-9' "Little's law"
json 'for (qw(ttft tpot goodput hit_rate cost_per_mtoken)) { push @why, $_ if !$j->{units}{$_} } !@why' \
	"what each figure is a figure of"

fleet --format json
cmp -s "$scratch/stdout" "$scratch/first"
report $? "a second run writes the same bytes"

for example in experiments/fleet-*.ini; do
	run "$KVTIER" fleet "$example" --format json
	exits 0 "$example"
done

fleet
exits 0 "as text"
mentions stdout "time to first token, a request" "as text"
fleet --format csv
[ "$(head -n 1 "$scratch/stdout")" = "name,value" ]
report $? "a CSV of names and values"

# A knob that nothing uses here changes no figure; what it is set to stands under provenance alone.
figures() {
	perl -MJSON::PP -e 'local $/; my $j = decode_json(<STDIN>); delete $j->{provenance};
		print JSON::PP->new->canonical->encode($j)' <"$1"
}
figures "$scratch/first" >"$scratch/expected"
same_figures() {
	fleet --format json --set "$1"
	figures "$scratch/stdout" | cmp -s - "$scratch/expected"
	report $? "$1 changes no figure" "$(cat "$scratch/stderr")"
}
same_figures scheduler.preemption=swap
same_figures traffic.think_scale=3
same_figures cache.shared=yes
same_figures fleet.seed=7
same_figures step.per_token=1ms
same_figures fleet.give_up=12h
same_figures qos.aging=1h
same_figures qos.sharing=fcfs
same_figures 'tier dram.placement=writer'
same_figures 'tier dram.latency=1us'

# Who looks changes nothing; what is seen goes to the file, or into the result where the file asks.
fleet --format json --telemetry "$scratch/telemetry.csv"
cmp -s "$scratch/stdout" "$scratch/first"
report $? "--telemetry changes no byte of the result" "$(cat "$scratch/stderr")"
awk -F , 'NR == 1 { n = NF } NF != n || (NR > 1 && $1 != NR - 1) { exit 1 } END { exit !(NR > 60 && n > 20) }' \
	"$scratch/telemetry.csv"
report $? "--telemetry: a row a second"
fleet --format json --set telemetry.period=5s
json 'my $s = $j->{telemetry}{series}; $j->{telemetry}{period_s} == 5 && @{$s->{time_s}} > 10
	&& @{$s->{node_0_dram_use}} == @{$s->{time_s}}' "[telemetry] period: series in the result"
refuses 2 'kvtier: --set adapt.low: is above high, expected at most 4' \
	"$KVTIER" fleet $file --set adapt.low=5
same_figures adapt.ahead_max=3
refuses 1 "kvtier: $scratch/nowhere/t.csv: No such file or directory" \
	"$KVTIER" fleet $file --telemetry "$scratch/nowhere/t.csv"

ttft() {
	perl -MJSON::PP -e 'local $/; print decode_json(<STDIN>)->{ttft}{mean}' <"$1"
}
# moves NAME SET: the mean time to first token with it is another.
moves() {
	fleet --format json --set "$1"
	[ "$(ttft "$scratch/stdout")" != "$(ttft "$scratch/first")" ]
	report $? "$1 moves the time to first token" "$(cat "$scratch/stderr")"
}
moves fleet.replicas=5
moves fleet.routing=round-robin
moves traffic.rate_scale=2
moves scheduler.token_budget=2048
moves cache.prefix_caching=no
moves step.base=5ms
moves 'tier dram.capacity=20GB'

refuses 2 'kvtier: fleet: expected FILE.ini, see "kvtier fleet --help"' "$KVTIER" fleet
refuses 2 'kvtier: nope.ini: cannot read the file: No such file or directory' "$KVTIER" fleet nope.ini
refuses 2 'kvtier: --set fleet.replica: unknown key, did you mean "replicas"?' \
	"$KVTIER" fleet $file --set fleet.replica=2
refuses 2 'kvtier: --set fleet.replicas: "0" is out of range, expected between 1 and 4096' \
	"$KVTIER" fleet $file --set fleet.replicas=0
refuses 2 'kvtier: --set fleet.routing: "roundrobin" is not known, did you mean "round-robin"? (one of round-robin, least-loaded, cache-affinity)' \
	"$KVTIER" fleet $file --set fleet.routing=roundrobin
refuses 2 'kvtier: --set cache.policy: there is no policy lruu, see "kvtier help policy"' \
	"$KVTIER" fleet $file --set cache.policy=lruu
refuses 2 'kvtier: --set tier nvme.policy: belady needs to know the future, expected a policy that does not' \
	"$KVTIER" fleet $file --set 'tier nvme.policy=belady'
refuses 2 'kvtier: --set traffic.users: users take turns in a closed loop only, expected loop = closed' \
	"$KVTIER" fleet $file --set traffic.users=4

# bad MESSAGE TEXT: a fleet file of this text is refused with this line.
bad() {
	printf '%b' "$2" >"$scratch/bad.ini"
	refuses 2 "kvtier: $scratch/bad.ini$1" "$KVTIER" fleet "$scratch/bad.ini"
}
# Memory that nodes pool, and an expander.
set_pool() { # ARGUMENTS: what all nodes have is one cache
	fleet --format json --set 'tier dram.capacity=100GB' --set 'tier nvme.scope=pool' "$@"
}
set_pool --set 'tier dram.scope=pool'
cp "$scratch/stdout" "$scratch/hashed"
found() {
	perl -MJSON::PP -e 'local $/; print decode_json(<STDIN>)->{hit_rate}{all}' <"$1"
}
fleet --format json --set 'tier dram.capacity=100GB' --set fleet.routing=round-robin
cp "$scratch/stdout" "$scratch/own"
set_pool --set 'tier dram.scope=pool' --set fleet.routing=round-robin
awk -v pool="$(found "$scratch/stdout")" -v own="$(found "$scratch/own")" 'BEGIN { exit !(own > 0 && pool > 1.2 * own) }'
report $? "more is found in what all nodes have than in what each has" "$(found "$scratch/stdout") $(found "$scratch/own")"
set_pool --set 'tier dram.scope=pool' --set 'tier dram.placement=writer' --set 'tier nvme.placement=writer'
cmp -s "$scratch/stdout" "$scratch/hashed"
[ $? -eq 1 ] && [ "$(ttft "$scratch/stdout")" != "$(ttft "$scratch/hashed")" ]
report $? "placement moves the time to first token" "$(cat "$scratch/stderr")"
fleet --format json --set 'tier cxl.kind=cxl' --set 'tier cxl.capacity=2TB' --set 'tier cxl.bandwidth=100GB/s' \
	--set 'tier cxl.scope=pool' --set 'tier dram.capacity=20GB' --set 'tier nvme.capacity=50GB'
json '$j->{hit_rate}{cxl} > 0 && grep { $_->{name} eq "node 0 cxl ports" } @{$j->{links}}' "an expander behind a switch"
refuses 2 'kvtier: --set tier cxl.bandwidth: is missing, expected bytes/s of a node'"'"'s CXL ports' \
	"$KVTIER" fleet $file --set 'tier cxl.kind=cxl' --set 'tier cxl.capacity=2TB'
refuses 2 'kvtier: experiments/fleet-mooncake.ini:38: [tier nvme] scope: is node below tier dram, which is a pool, expected pool' \
	"$KVTIER" fleet $file --set 'tier dram.scope=pool'

base='[model]\nname = llama-3-70b\n[gpu]\nname = h100-sxm\ncount = 4\n'
traffic='[traffic]\ntrace = '$scratch'/trace.jsonl\n'
echo '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}' >"$scratch/trace.jsonl"
bad ': [traffic] trace: the key is missing, expected text' "$base"
bad ':8: [tier]: has no name, expected a section [tier NAME]' "$base${traffic}[tier]\nkind = dram\n"
bad ':8: [tier a] capacity: is missing, expected bytes of DRAM' "$base${traffic}[tier a]\nkind = dram\n"
printf '%b' "$base$traffic" >"$scratch/good.ini"
run "$KVTIER" fleet "$scratch/good.ini" --format json
exits 0 "the smallest fleet file"
refuses 2 "kvtier: $scratch/nothing.jsonl: No such file or directory, expected a request trace (compact, Mooncake JSONL, agentic JSON, Azure or BurstGPT CSV)" \
	"$KVTIER" fleet "$scratch/good.ini" --set "traffic.trace=$scratch/nothing.jsonl"
echo '{"timestamp": 0, "input_length": "many"}' >"$scratch/bad.jsonl"
run "$KVTIER" fleet "$scratch/good.ini" --set "traffic.trace=$scratch/bad.jsonl"
exits 2 "a bad trace"
[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "a bad trace: one line" "$(cat "$scratch/stderr")"
run "$KVTIER" fleet "$scratch/good.ini" --set gpu.count=1
exits 2 "weights that do not fit"
mentions stderr "does not fit: its weights take" "weights that do not fit"

# A prompt larger than HBM is refused, not served and not waited for.
echo '{"timestamp": 1, "input_length": 5000000, "output_length": 5, "hash_ids": []}' >>"$scratch/trace.jsonl"
run "$KVTIER" fleet "$scratch/good.ini" --format json
exits 0 "a request that is too large"
json '$j->{served} == 1 && $j->{refused}{"larger-than-cache"} == 1' "it is refused with a reason"

finish
