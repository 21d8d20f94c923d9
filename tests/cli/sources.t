#!/bin/sh
# sources.t: every setting of an experiment says where it is from, in [sources] of its file or of one
# that it includes: `section.key = kind: text`, or `section = kind: text` for all keys of a section.
# The model files have no [sources]; the library refuses a constant of theirs without a source.
. tests/cli/lib.sh

kinds='datasheet|published|measured|derived|fitted|imported|assumed'

# The file with what it includes, each line as file|section|key|value.
flatten() {
	awk -v folder="$(dirname "$1")" -v file="$1" '
		/^[[:space:]]*([#;].*)?$/ { next }
		/^\[/ { section = $0; gsub(/^\[|\].*$/, "", section); next }
		{
			at = index($0, "=")
			key = substr($0, 1, at - 1)
			value = substr($0, at + 1)
			gsub(/^[ \t]+|[ \t]+$/, "", key)
			gsub(/^[ \t]+|[ \t]+$/, "", value)
			if (section == "" && key == "include")
				print "include|" folder "/" value
			else
				print file "|" section "|" key "|" value
		}' "$1" >"$scratch/flat.$2"
	sed -n 's/^include|//p' "$scratch/flat.$2" | while read -r included; do
		flatten "$included" "$2.x"
	done
	grep -v '^include|' "$scratch/flat.$2"
}

# What an experiment claims, titles and sweeps over is no constant.
unsourced() {
	for file in experiments/*.ini; do
		flatten "$file" 0 | awk -F '|' -v kinds="^($kinds): ." -v at="$file" '
			$2 == "sources" {
				source[$3] = $4
				if ($4 !~ kinds)
					print at ": [sources] " $3 ": not a kind and a text: " $4
				next
			}
			# a curve of a sweep sets keys of other sections
			$2 ~ /^curve / {
				if ($3 != "title") {
					used[$3] = $3
					sub(/[.].*/, "", used[$3])
				}
				next
			}
			# [emulation TIER] is of emulation
			$2 != "experiment" && $2 != "uncertainty" && $2 !~ /^claim / {
				used[$2 "." $3] = $2
				sub(/ .*/, "", used[$2 "." $3])
			}
			END {
				for (key in used) {
					short = key
					sub(/\.name$/, "", short)
					if (!(key in source) && !(used[key] in source) && !(short in source))
						print at ": " key " has no source"
				}
			}' | LC_ALL=C sort
	done
}

# A fitted constant says so in [sources], and the claim that it was fitted to says fitted = yes.
unmarked_fits() {
	for file in experiments/*.ini; do
		flatten "$file" 0
	done | awk -F '|' '
		$2 == "sources" && $4 ~ /^fitted: to / { sub(/^fitted: to /, "", $4); fit[$4] = $1 ": " $3 }
		$2 ~ /^claim / && $3 == "fitted" && $4 == "yes" { sub(/^claim /, "", $2); marked[$2] = $1 }
		END {
			for (claim in fit)
				if (!(claim in marked))
					print fit[claim] " is fitted to " claim ", which is not marked as fitted"
			for (claim in marked)
				if (!(claim in fit))
					print marked[claim] ": [claim " claim "] is marked as fitted, and nothing was"
		}'
}

[ "$(find experiments -name '*.ini' | wc -l)" -gt 5 ]
report $? "there are experiments"
holds unsourced "every setting of an experiment has a source"
catches unsourced experiments/a.ini '[gpu]\nname = l40s\ncount = 4\n[sources]\ngpu.name = published: a paper'
catches unsourced experiments/b.ini '[gpu]\nname = l40s\n[sources]\ngpu = guessed: no'
mkdir -p "$scratch/tree/experiments"
printf '[fabric]\nnics = 1\n[sources]\nfabric = published: x\n' >"$scratch/tree/experiments/z.ini"
[ -z "$(cd "$scratch/tree" && printf 'include = z.ini\n[fabric]\nnics = 2\n' >experiments/y.ini && unsourced)" ]
report $? "an included file's sources count"
rm -rf "$scratch/tree"
holds unmarked_fits "what was fitted, and to what, agree"
catches unmarked_fits experiments/a.ini '[fabric]\nx = 1\n[sources]\nfabric.x = fitted: to qwen'

# No more than two constants are fitted in all.
fitted=$(cat experiments/*.ini | grep -cE '^[a-z0-9_.-]+ = fitted:')
[ "$fitted" -le 2 ]
report $? "two constants at most are fitted" "there are $fitted"

finish
