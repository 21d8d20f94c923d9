#!/bin/sh
# plan.t: kvtier plan: the form of its results, what asking for more does to them, and one clear line
# for each bad input. That it finds the cheapest is tested with the search.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

file=experiments/plan-mooncake.ini
few='--set traffic.requests=120 --set plan.gpu=h100-sxm,a100-80g --set plan.count=4 --set plan.drives=0 --set plan.dram=0B,256GB --set plan.ttft=4s --set plan.replicas=1..10'

# shellcheck disable=SC2086
plan() {
	run "$KVTIER" plan $file $few "$@"
}

plan --format json
exits 0 "plan"
prints stderr "" "plan"
cp "$scratch/stdout" "$scratch/first"
json 'ref $j eq "ARRAY" && @$j >= 1' "an array of fleets"
json 'for my $e (@$j) { for (qw(config cost p95_ttft_s bottleneck cost_per_mtoken joules_per_mtoken p95_tpot_s)) {
	push @why, $_ if !$e->{$_} } } !@why' "each has its config, cost, p95 TTFT and bottleneck"
json '$j->[-1]{meets_slo} && $j->[-1]{p95_ttft_s} <= 4' "the last one meets what is asked for"
json 'my @m = grep { $_->{meets_slo} } @$j; @m == 1' "those before it are cheaper and do not"
json 'for (1 .. $#$j) { push @why, $_ if $j->[$_]{cost} <= $j->[$_ - 1]{cost} || $j->[$_]{p95_ttft_s} >= $j->[$_ - 1]{p95_ttft_s} } !@why' \
	"cost rises and p95 TTFT falls"
json 'for my $e (@$j) { for (values %{$e->{spread}}) { push @why, $e->{config} if $_->{low} > $_->{high} } } !@why' \
	"low is below high"
json 'my $s = $j->[-1]{spread}; $s->{cost}{low} < $j->[-1]{cost} && $j->[-1]{cost} < $s->{cost}{high} && $s->{cost}{moved_most_by}' \
	"the cost's spread holds it, and says what moves it most"
json 'my ($c) = grep { $_->{resource} eq $j->[-1]{bottleneck} } @{$j->[-1]{sensitivity}};
	$c->{change_s} < 0 && abs($c->{change_s} / $c->{raised_by} / $c->{change_s_per_unit} - 1) < 1e-9' \
	"more of what binds lowers p95 TTFT, by so much a unit"
json 'my @t = map { $_->{tokens} } @{$j->[-1]{break_even}}; $t[0] == 1000 && $t[-1] == 1e7' "break-even from 1K to 10M tokens"
json 'for (@{$j->[-1]{break_even}}) { push @why, $_->{tokens} if abs($_->{bytes} / $_->{recompute_s} / $_->{break_even_bytes_per_s} - 1) > 1e-9 } !@why' \
	"the rate at which loading pays is bytes over the time of computing"
json '$j->[-1]{search}{complete} && $j->[-1]{search}{simulations} > 0' "how many simulations it ran"

plan --format json --threads 1
cmp -s "$scratch/stdout" "$scratch/first"
report $? "one thread writes the same bytes"

# Cheaper machines change the bill and not the times.
sed 's/27000USD/20000USD/' models/price/list.ini >"$scratch/cheap.ini"
cost=$(perl -MJSON::PP -e 'local $/; print decode_json(<STDIN>)->[-1]{cost}' <"$scratch/first")
plan --format json --set "plan.prices=$scratch/cheap.ini"
json "\$j->[-1]{cost} < $cost && \$j->[-1]{p95_ttft_s} <= 4" "a price list of one's own"
plan --format json --set plan.ttft=8s
json "\$j->[-1]{cost} <= $cost && \$j->[-1]{p95_ttft_s} <= 8" "who waits longer pays no more"

# Drives wear where KV is written to them.
plan --format json --set plan.drives=4 --set plan.dram=0B
json '$j->[-1]{dwpd} > 0 && $j->[-1]{drive_life_years} > 0' "drive writes a day, and years"
json 'grep { $_->{resource} eq "drive write" } @{$j->[-1]{sensitivity}}' "what faster drives would change"

plan
exits 0 "as text"
mentions stdout "the cheapest that meets it" "as text"
mentions stdout "moved most by" "as text"
mentions stdout "simulations of the whole traffic" "as text"
plan --format csv
head -n 1 "$scratch/stdout" | grep -q '^config,cost,cost_low,cost_high,p95_ttft_s,'
report $? "a CSV of the frontier"
grep -c ',true,true,4$' "$scratch/stdout" | grep -qx 1
report $? "with one answer in it"

plan --format json --set plan.ttft=1ms
exits 1 "nothing is fast enough"
mentions stderr "kvtier: no fleet does what is asked for; the nearest," "nothing is fast enough"
[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "nothing is fast enough: one line"
json '@$j >= 1 && !grep { $_->{meets_slo} } @$j' "the nearest is shown"

refuses 2 'kvtier: plan: expected FILE.ini, see "kvtier plan --help"' "$KVTIER" plan
refuses 2 'kvtier: nope.ini: cannot read the file: No such file or directory' "$KVTIER" plan nope.ini
refuses 2 'kvtier: --threads: 0, expected from 1 to 1024' "$KVTIER" plan $file --threads 0
refuses 2 'kvtier: --set plan.replicas: 9..2 is no range, expected low..high, from 1 to 4096' \
	"$KVTIER" plan $file --set plan.replicas=9..2
refuses 2 'kvtier: experiments/plan-mooncake.ini:15: [plan] drives: there is no such tier, expected a section [tier NAME] with kind = nvme' \
	"$KVTIER" plan $file --set "tier nvme.kind=dram" --set "tier nvme.capacity=1GB"
refuses 2 'kvtier: --set plan.budge: unknown key, did you mean "budget"?' "$KVTIER" plan $file --set plan.budge=2
refuses 2 'kvtier: --set plan.dram: "256" has no unit, expected a size with a unit, like 64KiB or 48GB' \
	"$KVTIER" plan $file --set plan.dram=256
refuses 2 'kvtier: experiments/fleet-mooncake.ini: section [plan] is missing' "$KVTIER" plan experiments/fleet-mooncake.ini

# bad PRICES MESSAGE: a price file that this turns the shipped one into is refused with this line.
bad() {
	sed "$1" models/price/list.ini >"$scratch/bad.ini"
	refuses 2 "kvtier: $scratch/bad.ini:$2" "$KVTIER" plan $file --set "plan.prices=$scratch/bad.ini"
}
line() {
	grep -n "$1" models/price/list.ini | head -n 1 | cut -d : -f 1
}
bad 's/^kwh = 0.08USD/kwh = 0.08/' "$(line '^kwh = '): [electricity] kwh: \"0.08\" has no unit, expected an amount with a unit, like 7500USD"
bad 's/^years = 4/yeers = 4/' "$(line '^years = '): [ownership] yeers: unknown key, did you mean \"years\"?"
bad '/^pue.source/d; s/^source = published: U.S.*//' "$(line '^kwh = '): [electricity] kwh: no source, expected kwh.source or a source for the section"
bad 's/^\[gpu l40s\]/[gpu something-else]/' ' section [gpu l40s] is missing'

finish
