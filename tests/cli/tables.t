#!/bin/sh
# tables.t: kvtier tables: its fixed JSON, what it says of each published figure, and the files it
# writes for the pictures. How near the figures are is the engine's to test, not its form's.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

claims=experiments/claims.csv

run "$KVTIER" tables --format json
exits 0 "tables --format json"
prints stderr "" "tables --format json"
cp "$scratch/stdout" "$scratch/first"
json 'ref $j eq "ARRAY" && @$j >= 24' "an array of all figures"
json 'for my $row (@$j) { for (qw(id published unit simulated low high error fitted note)) {
	push @why, "$row->{id}: no $_" if !exists $row->{$_} } } !@why' "every row has the fixed keys"
json 'for my $row (@$j) {
	push @why, $row->{id} if grep { !defined $row->{$_} || ref $row->{$_} }
		qw(published simulated low high error) } !@why' "all numbers are there"
json 'my %seen; $seen{$_->{id}}++ for @$j; push @why, grep { $seen{$_} > 1 } keys %seen; !@why' \
	"no figure is there twice"
json 'for (@$j) { push @why, "$_->{id}: $_->{low} .. $_->{simulated} .. $_->{high}"
	if !($_->{low} <= $_->{simulated} && $_->{simulated} <= $_->{high}) } !@why' \
	"low and high are around what is simulated"
json 'for (@$j) { my $error = $_->{simulated} / $_->{published} - 1;
	push @why, "$_->{id}: $_->{error}, not $error" if abs($error - $_->{error}) > 1e-9 } !@why' \
	"error is simulated over published, less 1"
json 'JSON::PP::is_bool($_->{fitted}) || push @why, $_->{id} for @$j; !@why' "fitted is true or false"
json '(grep { $_->{fitted} } @$j) <= 2' "two constants at most are fitted"

# Against the list of what was published.
CLAIMS=$claims json 'open my $file, "<", $ENV{CLAIMS} or die $!; my %published;
	while (<$file>) { my @cell = split /,/; $published{$cell[0]} = [@cell[4, 5]] }
	for (@$j) { my $was = $published{$_->{id}};
		push @why, "$_->{id} $_->{published} $_->{unit}" if !$was || $was->[0] != $_->{published} || $was->[1] ne $_->{unit} }
	!@why' "published figures and units are those of $claims"
CLAIMS=$claims json 'open my $file, "<", $ENV{CLAIMS} or die $!; my %have = map { $_->{id} => 1 } @$j;
	while (<$file>) { my ($id, $seed, undef, undef, $value) = split /,/;
		push @why, $id if $seed eq "000" && $value =~ /^[0-9.]+$/ && !$have{$id} }
	!@why' "every number of the long-context tables is reproduced"

run "$KVTIER" tables --format json
cmp -s "$scratch/stdout" "$scratch/first"
report $? "a second run writes the same bytes"

run "$KVTIER" tables --format json --output "$scratch/out.json"
exits 0 "--output"
prints stdout "" "--output"
cmp -s "$scratch/out.json" "$scratch/first"
report $? "--output writes the same bytes"

run "$KVTIER" tables --format csv
exits 0 "--format csv"
cp "$scratch/stdout" "$scratch/first.csv"
[ "$(head -n 1 "$scratch/first.csv" | cut -d , -f 1-9)" = "id,published,unit,simulated,low,high,error,fitted,note" ]
report $? "the CSV has the same columns"

run "$KVTIER" tables --data "$scratch/data"
exits 0 "--data"
mentions stdout "Fitted constants" "tables"
fitted=$(sed -n '/^Fitted constants/,$p' "$scratch/stdout" | grep -c ' = .*fitted: to ')
[ "$fitted" -ge 1 ] && [ "$fitted" -le 2 ]
report $? "the fitted constants are listed" "there are $fitted"
cmp -s "$scratch/data/figures.csv" "$scratch/first.csv"
report $? "--data writes figures.csv"
for name in scout-lengths qwen-lengths; do
	file=$scratch/data/$name.csv
	[ "$(head -n 1 "$file")" = "tokens,cold_ttft_s,resume_ttft_s,speedup,cold_tokens_per_s,resume_tokens_per_s,tpot_s,streamed" ]
	report $? "$name.csv has its columns" "$(head -n 1 "$file")"
	awk -F , 'NR > 1 { if ($1 <= tokens || $2 <= cold || $3 < resume) bad = 1; tokens = $1; cold = $2; resume = $3 }
		END { exit bad || NR < 20 }' "$file"
	report $? "$name.csv: longer contexts take longer"
done

# How TTFT grows, with all pages and with chosen ones.
mentions stdout "How time to first token grows" "tables"
grep -q '^slap, 99% of the mass  *[01]\.[0-9][0-9] .* 131K ' "$scratch/stdout"
report $? "an exponent of slap, and what was recorded" "$(sed -n '/^How time/,$p' "$scratch/stdout")"
[ "$(head -n 1 "$scratch/data/growth.csv" | cut -d , -f 1-7)" = "curve,title,exponent,worst,from_tokens,to_tokens,last_exponent" ]
report $? "growth.csv has its columns" "$(head -n 1 "$scratch/data/growth.csv")"
# The exponents again, from the points.
awk -F , '{ gsub(/"[^"]*"/, "") }
	FNR == NR { if (FNR > 1) { exponent[$1] = $3; from[$1] = $5; to[$1] = $6 } next }
	FNR > 1 && $2 >= from[$1] && $2 <= to[$1] { x = log($2); y = log($3); n[$1]++
		sx[$1] += x; sy[$1] += y; sxx[$1] += x * x; sxy[$1] += x * y }
	END { for (c in n) {
		e = (n[c] * sxy[c] - sx[c] * sy[c]) / (n[c] * sxx[c] - sx[c] * sx[c])
		if (n[c] < 5 || e - exponent[c] > 1e-6 || exponent[c] - e > 1e-6) print c, n[c], e, exponent[c]
		else good++ }
	if (good < 4) print "only " good " curves" }' "$scratch/data/growth.csv" "$scratch/data/curves.csv" >"$scratch/exponents"
[ ! -s "$scratch/exponents" ]
report $? "exponents are those of the points" "$(cat "$scratch/exponents")"
awk -F , 'NR > 1 { if ($1 == curve && $2 <= tokens || $5 > 1 || $5 <= 0) bad = 1
		if ($2 > 131072 && $1 != "exact" && $7 != "true" || $1 == "exact" && $7 != "false") bad = 1
		curve = $1; tokens = $2; ttft[$1, $2] = $3 }
	END { for (at in ttft) { split(at, key, SUBSEP)
		if (key[1] == "oracle-99" && ttft[at] > ttft["slap-99", key[2]]) bad = 1 }
	exit bad }' "$scratch/data/curves.csv"
report $? "curves.csv: what is extrapolated says so, and the oracle is a bound"

refuses 2 'kvtier: "x" is one argument too many, see "kvtier tables --help"' "$KVTIER" tables x
refuses 2 'kvtier: --format: "jsn" is not known, did you mean "json"? (one of table, json, csv)' \
	"$KVTIER" tables --format jsn
run env KVTIER_DATADIR="$scratch" "$KVTIER" tables
exits 2 "no data"
[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "no data: one line on stderr" "$(cat "$scratch/stderr")"

finish
