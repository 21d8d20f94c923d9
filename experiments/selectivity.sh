#!/bin/sh
# selectivity.sh: measures on recorded attention how large a share of a layer's pages holds a share
# of its mass, at prefixes of the recorded context; prints the CSV that [select] curve names.
#
# Usage: sh experiments/selectivity.sh LAYER TRACE.h5 >>selectivity.csv    with keys in the trace, and
# kvtier at $KVTIER, build/kvtier or on the PATH. CHOOSERS, MASSES (in percent) and PREFIXES (in pages)
# may be set.
#
# A prefix is what `kvtier trace cut` makes: the context's first pages and the recorded turns, their
# masses recomputed as if the rest had never been there (PREFIXES= leaves them out). Traces that were
# grown (`kvtier trace grow`) are marked. "token" is what a step chooses, mean over
# steps and KV heads; "question" is what the steps of a turn's prompt choose together, mean over
# turns.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: sh experiments/selectivity.sh LAYER TRACE.h5" >&2
	exit 2
fi
layer=$1
trace=$2
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
json=$folder/info.json

"$KVTIER" trace info "$trace" --format json >"$json"
number() { sed -n "s/^ *\"$1\": *\([0-9]*\),*\$/\1/p" "$json" | head -n 1; }
page_tokens=$(number block_tokens)
context=$(number context_tokens)
heads=$(number n_kv_heads)
steps=$(number steps)
name=$(basename "$trace" .h5)
kind=recorded
grep -q '^ *"synthetic": true' "$json" && kind=grown

# replay FILE CHOOSER MASS [STEPS]: "pages runs mass prefetched" of a replay that may load everything.
replay() {
	"$KVTIER" replay "$1" --layer "$layer" --budget 100% --prefetch "$2" --mass "$3%" --masses recomputed \
		--attention budgeted --steps "${4:-:}" --format csv |
		awk -F , '{ value[$1] = $2 } END { print value["selected_pages.mean"], value["selected_pages.runs"],
			value["mass_kept"], value["accesses.prefetched"] }'
}

# questions: the steps of each turn's prompt, as FIRST:END.
questions() {
	awk '/"first_step":/ { gsub(/[^0-9]/, ""); first = $0 }
		/"prompt":/ { gsub(/[^0-9]/, ""); if ($0 > 0) print first ":" first + $0 }' "$json"
}

row() { # CHOOSER MASS TOKENS SCOPE SHARE RUN_PAGES MASS_KEPT
	printf '%s,%s,%s,%s,%s,%s,%.5f,%.3f,%.5f,%s\n' "$1" "$layer" "$4" "$(echo "$2" | awk '{ print $1 / 100 }')" "$kind" \
		"$3" "$5" "$6" "$7" "$name"
}

# present CONTEXT-PAGES: those present at a step, mean: the turns' own are some, too.
present() {
	echo "$1 $steps $page_tokens" | awk '{ print $1 + ($2 / $3 + 1) / 2 }'
}

measure() { # FILE TOKENS PAGES-PRESENT
	for chooser in ${CHOOSERS:-oracle slap}; do
		for mass in ${MASSES:-90 95 99}; do
			# shellcheck disable=SC2046  # four words
			set -- "$1" "$2" "$3" $(replay "$1" "$chooser" "$mass")
			runs=$(echo "$4 $5" | awk '{ print $1 / $2 }')
			row "$chooser" "$mass" "$2" token "$(echo "$4 $3" | awk '{ print $1 / $2 }')" "$runs" "$6"
			union=0 kept=0 asked=0
			for steps in $(questions); do
				# shellcheck disable=SC2046  # likewise
				set -- "$1" "$2" "$3" $(replay "$1" "$chooser" "$mass" "$steps")
				union=$(echo "$union $7 $heads $3" | awk '{ print $1 + $2 / $3 / $4 }')
				kept=$(echo "$kept $6" | awk '{ print $1 + $2 }')
				asked=$((asked + 1))
			done
			[ "$asked" -eq 0 ] || row "$chooser" "$mass" "$2" question \
				"$(echo "$union $asked" | awk '{ s = $1 / $2; print (s > 1 ? 1 : s) }')" "$runs" \
				"$(echo "$kept $asked" | awk '{ print $1 / $2 }')"
		done
	done
}

echo "chooser,layer,scope,mass,kind,tokens,share,run_pages,mass_kept,trace"
for pages in ${PREFIXES-512 1024 2048 4096}; do
	[ $((pages * page_tokens)) -lt "$context" ] || continue
	"$KVTIER" trace cut "$trace" "$folder/prefix.h5" --layers "$layer" --without values --pages "0:$pages"
	measure "$folder/prefix.h5" $((pages * page_tokens)) "$(present "$pages")"
done
measure "$trace" "$context" "$(present $((context / page_tokens)))"
