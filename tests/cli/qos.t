#!/bin/sh
# qos.t: tenants of a fleet: what a noisy neighbour moves with reservations and without, what was
# refused and why, and one clear line for each bad tenant.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

file=experiments/fleet-noisy-neighbour.ini

for seed in 1 3; do
	run env KVTIER="$KVTIER" sh experiments/fleet-noisy-neighbour.sh --set fleet.seed=$seed
	exits 0 "seed $seed: the table of a noisy neighbour"
	awk '/^alone/ { alone = $NF } /^reserved, neighbour x 10/ { with = $(NF - 1) }
		END { exit !(alone > 0 && with > 0 && with < 1.1 * alone) }' "$scratch/stdout"
	report $? "seed $seed: reserved, p99 moves by less than 10%" "$(cat "$scratch/stdout")"
	awk '/^alone/ { alone = $NF } /^fcfs, neighbour x 10/ { without = $(NF - 1) }
		END { exit !(alone > 0 && without > 10 * alone) }' "$scratch/stdout"
	report $? "seed $seed: served as one, it moves by far more" "$(cat "$scratch/stdout")"
done

tenants() {
	run "$KVTIER" fleet $file --format json --set 'tenant chat.generate=3min' --set 'tenant batch.generate=3min' "$@"
}
tenants --set 'tenant batch.rate_scale=1.5' --set 'tenant batch.rate=0.1' --set 'tenant batch.deadline=5s'
exits 0 "bounds on a tenant"
json 'my ($b) = grep { $_->{name} eq "batch" } @{$j->{tenants}}; my $r = $b->{refused};
	$r->{"rate-limit"} > 0 && $r->{"rate-limit"} + $r->{deadline} == $b->{refused_requests}
	&& $b->{served} + $b->{refused_requests} == $b->{requests}' "refusals are counted by reason"
json 'my ($c) = grep { $_->{name} eq "chat" } @{$j->{tenants}}; $c->{refused_requests} == 0' "the other's are served"
json 'my $s = 0; $s += $_->{gpu_share} for @{$j->{tenants}}; abs($s - 1) < 1e-6' "shares of GPU time are all of it"
json '$j->{fairness}{gpu} > 0 && $j->{fairness}{gpu} <= 1' "an index of fairness"

# bad MESSAGE SET...: refused with this line.
bad() {
	refuses 2 "kvtier: $1" "$KVTIER" fleet $file --set "$2"
}
bad '--set tenant batch.reserve: tenants reserve 120% together, expected at most 100%' 'tenant batch.reserve=30%'
bad '--set tenant batch.quotas: "dram lots" is no quota, expected a level and bytes or a share, as in "dram 20%"' \
	'tenant batch.quotas=dram lots'
bad '--set tenant batch.quotas: there is no tier tape, expected hbm or a [tier NAME]' 'tenant batch.quotas=tape 1GB'
bad '--set tenant batch.class: "4" is out of range, expected between 0 and 3' 'tenant batch.class=4'

finish
