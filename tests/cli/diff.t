#!/bin/sh
# diff.t: kvtier diff: changes, what is added and removed, spreads, exit status, and one clear line
# for what cannot be compared.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

result() {
	cat >"$scratch/$1"
}

# Of real results: no change, then one.
"$KVTIER" run experiments/qwen-1m.ini --format json >"$scratch/one.json"
"$KVTIER" run experiments/qwen-1m.ini --set fabric.nics=2 --format json >"$scratch/two.json"
run "$KVTIER" diff "$scratch/one.json" "$scratch/one.json"
exits 0 "the same"
grep -qxE '0 of [0-9]{3} figures differ, 0 beyond their spread' "$scratch/stdout"
report $? "the same: says so" "$(cat "$scratch/stdout")"
run "$KVTIER" diff "$scratch/one.json" "$scratch/two.json" --format json
exits 1 "two NICs"
json '$j->{schema} eq "kvtier.diff/1" && !$j->{same} && $j->{beyond} == @{$j->{differences}} && $j->{compared} > 100' \
	"two NICs: counts"
json 'my ($d) = grep { $_->{path} eq "ttft_s" } @{$j->{differences}};
	abs($d->{b} - $d->{a} - $d->{change}) < 1e-12 && abs($d->{change} / $d->{a} - $d->{relative}) < 1e-12 &&
	$d->{relative} < -.4 && $d->{beyond}' "two NICs: TTFT, absolute and relative"
json 'my ($d) = grep { $_->{path} eq "provenance[fabric.nics].value" } @{$j->{differences}}; $d->{a} eq "1" && $d->{b} eq "2"' \
	"two NICs: the setting, by its name"
run "$KVTIER" diff "$scratch/one.json" "$scratch/two.json" --tolerance 60% --format json
json '!grep { $_->{path} eq "ttft_s" && $_->{beyond} } @{$j->{differences}}' "--tolerance"

# Rows with a low and a high: by name, whatever their order; what follows from a figure counts as it.
result a.json <<'END'
[{"id": "first", "simulated": 10, "low": 8, "high": 12, "error": 0.1},
 {"id": "second", "simulated": 10, "low": 9, "high": 11, "error": 0.1},
 {"id": "gone", "simulated": 1, "low": 1, "high": 1}]
END
result b.json <<'END'
[{"id": "second", "simulated": 13, "low": 12, "high": 14, "error": 0.4},
 {"id": "first", "simulated": 11, "low": 9, "high": 13, "error": 0.2},
 {"id": "new", "simulated": 1, "low": 1, "high": 1}]
END
run "$KVTIER" diff "$scratch/a.json" "$scratch/b.json" --format json
exits 1 "spreads"
json 'my %d = map { $_->{path} => $_ } @{$j->{differences}};
	!$d{"[first].simulated"}{beyond} && $d{"[second].simulated"}{beyond} && $d{"[second].simulated"}{spread_b}[1] == 14' \
	"spreads: within one, beyond the other"
json 'my %d = map { $_->{path} => $_ } @{$j->{differences}}; !$d{"[first].error"}{beyond} && $d{"[second].error"}{beyond}' \
	"spreads: errors count as what they are of"
json 'my %d = map { $_->{path} => $_->{kind} } @{$j->{differences}}; $d{"[gone]"} eq "removed" && $d{"[new]"} eq "added" && keys %d == 6' \
	"rows that are there once"
json '$j->{beyond} == 4' "spreads: the count"
run "$KVTIER" diff "$scratch/a.json" "$scratch/b.json"
grep -qE '^\[second\].simulated +10 +13 +\+3 +\+30.00% +9..11, 12..14 +beyond$' "$scratch/stdout"
report $? "as a table" "$(cat "$scratch/stdout")"

# Repeats, and percentiles on both sides.
result a.json <<'END'
{"schema": "kvtier.validation/1", "stages": [{"stage": "ttft", "measured": {"median_s": 1.0, "low_s": 0.9, "high_s": 1.2}, "error": 0.05}],
 "load": {"p5": 1, "p50": 2, "p95": 3}, "tail": {"p50": 2, "p99": 9}}
END
result b.json <<'END'
{"schema": "kvtier.validation/1", "stages": [{"stage": "ttft", "measured": {"median_s": 1.1, "low_s": 1.0, "high_s": 1.3}, "error": 0.07}],
 "load": {"p5": 1, "p50": 2.5, "p95": 3}, "tail": {"p50": 2.5, "p99": 9}}
END
run "$KVTIER" diff "$scratch/a.json" "$scratch/b.json" --format json
json 'join(" ", map { $_->{path} } grep { $_->{beyond} } @{$j->{differences}}) eq "tail.p50" && @{$j->{differences}} == 4' \
	"repeats and percentiles"

# Rows that one text does not name: a policy and a size do.
result a.json <<'END'
{"schema": "kvtier.cache/1", "rows": [{"policy": "lru", "size": 1, "miss": 0.5}, {"policy": "lru", "size": 2, "miss": 0.4}]}
END
result b.json <<'END'
{"schema": "kvtier.cache/1", "rows": [{"policy": "lru", "size": 2, "miss": 0.3}, {"policy": "lru", "size": 1, "miss": 0.5}]}
END
run "$KVTIER" diff "$scratch/a.json" "$scratch/b.json" --format csv
grep -q '^rows\[lru 2\].miss,0.4,0.3,' "$scratch/stdout" && [ "$(wc -l <"$scratch/stdout")" -eq 2 ]
report $? "rows by two names" "$(cat "$scratch/stdout")"

refuses 2 'kvtier: diff: expected A.json B.json, see "kvtier diff --help"' "$KVTIER" diff a.json
refuses 2 'kvtier: nope.json: cannot read the file: No such file or directory' \
	"$KVTIER" diff nope.json "$scratch/one.json"
refuses 2 "kvtier: $scratch: cannot read the file: it is a folder" "$KVTIER" diff "$scratch" "$scratch/one.json"
refuses 2 "kvtier: $scratch/one.json:2: schema \"kvtier.run/1\", expected schema \"kvtier.cache/1\" as $scratch/a.json has" \
	"$KVTIER" diff "$scratch/a.json" "$scratch/one.json"
printf '{\n"a": 1,\n"b": }\n' >"$scratch/broken.json"
run "$KVTIER" diff "$scratch/one.json" "$scratch/broken.json"
exits 2 "broken JSON"
grep -qE "^kvtier: $scratch/broken.json:3: not JSON: [ -~]+$" "$scratch/stderr" && [ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "broken JSON: the line is said" "$(cat "$scratch/stderr")"
printf '{\n"x": 1,\n"schema": "other/1"}\n' >"$scratch/other.json"
refuses 2 "kvtier: $scratch/other.json:3: schema \"other/1\", expected a result of kvtier, such as \"kvtier.run/1\"" \
	"$KVTIER" diff "$scratch/other.json" "$scratch/one.json"
echo '{"x": 1}' >"$scratch/other.json"
refuses 2 "kvtier: $scratch/other.json:1: there is no \"schema\", expected a result of kvtier (--format json)" \
	"$KVTIER" diff "$scratch/other.json" "$scratch/one.json"
echo '[1, 2]' >"$scratch/other.json"
refuses 2 "kvtier: $scratch/other.json:1: a list of something else than rows, expected a result of kvtier (--format json)" \
	"$KVTIER" diff "$scratch/other.json" "$scratch/one.json"
: >"$scratch/empty.json"
run "$KVTIER" diff "$scratch/empty.json" "$scratch/one.json"
exits 2 "an empty file"

finish
