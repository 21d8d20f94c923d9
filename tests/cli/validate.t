#!/bin/sh
# validate.t: kvtier validate: the form of its results, and the exit status by tolerances that any
# machine keeps or breaks. How right the model is does not matter here.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

experiment=experiments/emulation-small.ini
validate() {
	run "$KVTIER" validate $experiment --set context.tokens=256 --set context.output_tokens=2 \
		--set validate.repeats=2 --set validate.warm_ups=0 "$@"
}

validate --set validate.ttft=0% --set validate.tpot=0% --set validate.stage=0% --format json
exits 0 "nothing is judged"
json '$j->{schema} eq "kvtier.validation/1" && $j->{passed} && $j->{attention_exact} && $j->{other_cores} >= 0' "passed"
json 'my %k = map { $_->{stage} => $_->{kind} } @{$j->{stages}};
	$k{attention} eq "REAL" && $k{mlp} eq "MODELLED" && $k{ttft} && $k{tpot}' "what is real and what is not"
json '!grep { !($_->{measured}{low_s} <= $_->{measured}{median_s} && $_->{measured}{median_s} <= $_->{measured}{high_s}) } @{$j->{stages}}' \
	"medians lie between the least and the largest"

validate --set validate.ttft=0.0001% --timeline "$scratch/t.json" --picture "$scratch/p.svg"
exits 1 "a tolerance that nothing keeps"
mentions stderr "kvtier: validate: the model is off: ttft by" "what is off is named"
mentions stdout "MODELLED" "the table is printed all the same"
for file in t-model.json t-measured.json; do
	perl -MJSON::PP -e 'local $/; decode_json(<STDIN>)' <"$scratch/$file"
	report $? "$file is JSON"
done
if command -v gnuplot >/dev/null; then
	grep -q "</svg>" "$scratch/p.svg"
	report $? "both are drawn"
else
	skip "both are drawn" "gnuplot is not installed"
fi

refuses 2 "kvtier: --set validate.repeats: \"0\" is out of range, expected between 1 and 1000" \
	"$KVTIER" validate $experiment --set validate.repeats=0
refuses 2 "kvtier: --set validate.tfft: unknown key, did you mean \"ttft\"?" \
	"$KVTIER" validate $experiment --set validate.tfft=1%

finish
