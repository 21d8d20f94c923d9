#!/bin/sh
# readme.t: what README.md says is so: commands, targets, files, pictures and the table of figures.
# shellcheck disable=SC2013,SC2016  # words without spaces; back-quotes of Markdown
. tests/cli/lib.sh

# Lines of `kvtier help` under a heading: the first words.
listed() {
	"$KVTIER" help | sed -n "/^$1/,/^\$/s/^  \([a-z]*\) .*/\1/p"
}
for command in $(listed Commands:); do
	grep -qF "| \`kvtier $command\` |" README.md
	report $? "README lists kvtier $command"
done
for command in $(sed -n 's/^| `kvtier \([a-z]*\)` |.*/\1/p' README.md); do
	listed Commands: | grep -qx "$command"
	report $? "kvtier $command, which README lists, is there"
done

# "kvtier help x" in README or in any help text says something.
{
	cat README.md
	for command in $(listed Commands:); do "$KVTIER" "$command" --help; done
	for topic in $(listed Topics); do "$KVTIER" help "$topic"; done
} | grep -o 'kvtier help [a-z][a-z -]*' | sed 's/ *$//' | sort -u >"$scratch/helps"
[ -s "$scratch/helps" ]
report $? "help is pointed to"
while read -r _ _ words; do
	set -f
	# shellcheck disable=SC2086
	set -- $words
	set +f
	run "$KVTIER" help "$1"
	exits 0 "kvtier help $1"
done <"$scratch/helps"

for target in $(grep -o 'make [a-z][a-z-]*' README.md | cut -d ' ' -f 2 | sort -u); do
	grep -qE "^$target:.*## " Makefile
	report $? "make $target is a target with help"
done
for target in all tables check unit bench deps install uninstall clean help; do
	"${MAKE:-make}" --no-print-directory help 2>/dev/null | grep -q "^  $target "
	report $? "make help lists $target"
done

# Links, and paths in code, of files in the tree.
for path in $(grep -oE '\]\([^)#:]+\)' README.md | tr -d '()]') \
	$(grep -oE '`?(experiments|models|sim|traces)/[A-Za-z0-9_./-]+' README.md | tr -d '`' | grep -vE 'NAME|my-model'); do
	[ -e "$path" ]
	report $? "$path is there"
done
for picture in $(sed -n '/^| picture/,/^$/s/^| `\([a-z-]*\)` .*/\1/p' README.md); do
	[ -s "plots/$picture.gp" ]
	report $? "the picture $picture is drawn"
done
for script in plots/*.gp; do
	name=$(basename "$script" .gp)
	[ "$name" = style ] || grep -q "^| \`$name\` |" README.md
	report $? "README lists the picture $name"
done

# Whether this build, with sanitizers, leaves the longest runs to the default one: README's figures are
# the same in both, and replay.t and emu.t make the like in small.
long_runs() {
	[ "${SANITIZE:-0}" = 0 ]
}

# The examples run, but for those on files or a GPU that the reader has; what they write goes away.
left_out='config\.json|\.csv|--device cuda'
long_runs || left_out="$left_out|^emu |--compare"
sed -n 's/^    build\/kvtier //p' README.md | grep -vE "$left_out" |
	sed -E "s#(^| )([a-z]+\.(h5|requests))( |\$)#\1$scratch/\2\4#g" >"$scratch/examples"
while read -r example; do
	# shellcheck disable=SC2086
	run "$KVTIER" $example
	exits 0 "kvtier $example"
done <"$scratch/examples"
[ "$(wc -l <"$scratch/examples")" -ge 5 ]
report $? "there are examples"

# The table of figures: every one of today's, and no more than 5% from what is simulated now.
sed -n '/kvtier tables -->/,/-- end/p' README.md >"$scratch/table"
"$KVTIER" tables --no-spread --data "$scratch/data" >"$scratch/printed"
awk -F , -v table="$scratch/table" '
	BEGIN {
		while ((getline line < table) > 0) {
			n = split(line, cell, " ")
			unit = cell[3] == "K" ? 5 : 4
			if (n > 7)
				was[cell[1]] = cell[unit]
		}
	}
	NR > 1 {
		found++
		if (!($1 in was))
			print $1 " is missing"
		else if ($4 > was[$1] * 1.05 || $4 < was[$1] * 0.95)
			print $1 " is simulated as " $4 ", README says " was[$1]
	}
	END { if (found < 20) print "only " found " figures" }' "$scratch/data/figures.csv" >"$scratch/stale"
[ ! -s "$scratch/stale" ]
report $? "README's table of figures is what kvtier tables prints" "$(cat "$scratch/stale")"

# The table of growth: every curve, and no exponent more than 0.05 from today's.
sed -n '/kvtier tables: growth -->/,/-- end/p' README.md >"$scratch/growth"
sed -n '/^Turn 2 loads/,/^  worst/p' "$scratch/printed" | awk -v table="$scratch/growth" '
	function title(line) { sub(/   *[0-9.]+  .*/, "", line); return line }
	function exponent(line) { match(line, /  +[0-9]+[.][0-9]+/); return substr(line, RSTART, RLENGTH) + 0 }
	BEGIN { while ((getline line < table) > 0) was[title(line)] = exponent(line) }
	/%/ {
		found++
		if (!(title($0) in was))
			print title($0) " is missing"
		else if (exponent($0) > was[title($0)] + 0.05 || exponent($0) < was[title($0)] - 0.05)
			print title($0) " grows with " exponent($0) ", README says " was[title($0)]
	}
	END { if (found < 4) print "only " found " curves" }' >"$scratch/stale"
[ ! -s "$scratch/stale" ]
report $? "README's table of growth is what kvtier tables prints" "$(cat "$scratch/stale")"

# The table of prefetchers: every row, and no share of the oracle more than half a point from today's.
if long_runs; then
	sed -n '/kvtier replay: compare -->/,/-- end/p' README.md >"$scratch/scorers"
	"$KVTIER" replay traces/samples/code-32k-keys.h5 --attention budgeted --budget 2% --compare --format csv |
		awk -F , -v table="$scratch/scorers" '
		BEGIN {
			while ((getline line < table) > 0)
				if (split(line, cell, " ") == 6)
					was[cell[1]] = cell[3] + 0
		}
		NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
		NR > 1 && $1 in was {
			found++
			now = 100 * $column["oracle_share"]
			if (now > was[$1] + 0.5 || now < was[$1] - 0.5)
				print $1 " keeps " now "%, README says " was[$1] "%"
		}
		END { if (found < 12) print "only " found " prefetchers" }' >"$scratch/stale"
	[ ! -s "$scratch/stale" ]
	report $? "README's table of prefetchers is what kvtier replay prints" "$(cat "$scratch/stale")"
fi

finish
