#!/bin/sh
# draw.sh: draws every figure as PNG and SVG from what `kvtier tables --data` wrote and from runs and
# replays that it makes itself. Budgets end where the recordings' rows, of 1,024 pages, do.
#
# Usage: sh plots/draw.sh DATA OUT    with kvtier at $KVTIER, build/kvtier or on the PATH
set -eu

if [ $# -ne 2 ]; then
	echo "usage: sh plots/draw.sh DATA OUT" >&2
	exit 2
fi
data=$1
out=$2
plots=$(dirname "$0")
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}

mkdir -p "$out"
[ -s "$data/figures.csv" ] || { echo "draw.sh: $data has no figures.csv: run \`kvtier tables --data $data\`" >&2; exit 1; }

run_turns() {
	set -- qwen-1m "Qwen 1M" r1-102k "R1-70B 102K" scout-400k "Scout 400K" scout-10m "Scout 10M"
	inputs=
	while [ $# -gt 0 ]; do
		"$KVTIER" run "$plots/../experiments/$1.ini" --format csv >"$data/$1.csv"
		inputs="$inputs name='$2' $data/$1.csv"
		shift 2
	done
	eval "awk -f '$plots/stages.awk' $inputs" >"$data/stages.csv"
	"$KVTIER" run "$plots/../experiments/qwen-1m.ini" --format csv --timeline "$data/resume-timeline.json" >/dev/null
	awk -f "$plots/timeline.awk" "$data/resume-timeline.json" >"$data/resume-timeline.csv"
}

# Attention mass kept of two recordings, by how much may be kept and what chooses it.
replay_masses() {
	echo "trace,chooser,budget,mass"
	for trace in code-32k-layer7 code-128k-retrieval; do
		for way in "oracle budgeted" "last-step exact" "last-step budgeted" "none budgeted"; do
			# The prompt's steps attend to all pages, or the last step never learns of any.
			dense=
			[ "$way" != "last-step budgeted" ] || dense=--dense-prompt
			for budget in 1 2 5 10; do
				"$KVTIER" replay "$plots/../traces/samples/$trace.h5" --layer 7 --budget "$budget%" \
					--prefetch "${way% *}" --attention "${way#* }" $dense --format csv |
					awk -F , -v row="$trace,$way,$budget" '$1 == "mass_kept" { print row "," $2 }'
			done
		done
	done
}

# Needed pages that are in HBM on time, by the time there is for fetching them.
timeliness() {
	echo "room,chooser,lead_s,timely,mass_on_time"
	for room in "10 --moves 1%" 2; do
		for chooser in oracle slap simhash quest "last-step --dense-prompt"; do
			for lead in 10 30 60 100 150 200 300 1000; do
				# shellcheck disable=SC2086  # an option may follow
				"$KVTIER" replay "$plots/../traces/samples/code-32k-keys.h5" --budget 2% --hbm ${room%% *}% \
					${room#"${room%% *}"} --prefetch $chooser --query previous --attention budgeted \
					--model llama-4-scout-17b-16e-fp8 --lead "${lead}us" --format csv 2>/dev/null |
					awk -F , -v row="${room%% *},${chooser%% *},${lead}e-6" '{ value[$1] = $2 }
						END { print row "," value["timely"] "," value["mass_on_time"] }'
			done
		done
	done
}

# Mass kept in a retrieval by every prefetcher, with the step's own query and with the one before.
scorers() {
	echo "query,prefetch,budget,mass,bytes"
	for query in current previous; do
		"$KVTIER" replay "$plots/../traces/samples/code-32k-keys.h5" --compare --query "$query" --format csv |
			awk -F , -v query="$query" '
				NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
				{ print query "," $at["prefetch"] "," 100 * $at["budget"] "," $at["mass_kept"] "," $at["scorer_bytes_per_token"] }'
	done
}

# Where the steps of two retrievals look: everywhere, and on the pages that they are asked for.
heat() {
	output=$1
	shift
	"$KVTIER" trace heat "$plots/../traces/samples/code-32k-layer7.h5" "$@" --format csv >"$data/$output.csv"
}

# A tenant alone and beside a neighbour at ten times its load, by how they share.
tenants() {
	echo "p50,p95,p99"
	KVTIER=$KVTIER sh "$plots/../experiments/fleet-noisy-neighbour.sh" |
		awk '/^alone/ { print $2 "," $3 "," $4 } / x 10 / { print $5 "," $6 "," $7 }'
}

# Figures of a fleet's run, by name: fleet NAMES [options of kvtier fleet]. Names are of its CSV.
fleet() {
	names=$1
	shift
	"$KVTIER" fleet "$plots/../experiments/fleet-mooncake.ini" "$@" --format csv |
		awk -F , -v names="$names" '{ value[$1] = $2 }
			END { n = split(names, name, " "); for (i = 1; i <= n; i++) printf ",%s", value[name[i]]; print "" }'
}

# Time to first token by how fast requests come.
fleet_load() {
	echo "load,p50,p95,p99"
	for load in 0.25 0.5 0.75 1 1.25 1.5 1.75 2 2.5 3 4 6; do
		echo "$load$(fleet "ttft.p50 ttft.p95 ttft.p99" --set traffic.rate_scale=$load)"
	done
}

# Hits and time to first token by what a node has for KV below HBM; drives that hold next to nothing
# stand for none.
fleet_capacity() {
	echo "nvme,dram,hit_rate,ttft"
	for nvme in 0 400 1600; do
		for dram in 100 200 300 400 600 800 1200 1600; do
			echo "$nvme,$dram$(fleet "hit_rate.all ttft.mean" --set fleet.replicas=2 --set traffic.rate_scale=0.4 \
				--set "tier dram.capacity=${dram}GB" --set "tier nvme.capacity=$((nvme > 0 ? nvme : 1))GB")"
		done
	done
}

# draw FIGURE SCRIPT [gnuplot settings]: as PNG and SVG.
draw() {
	for format in png svg; do
		gnuplot -e "format='$format'; out='$out/$1.$format'; data='$data'; folder='$plots'; ${3:-}" "$2"
	done
	# The fonts that may stand in where the first is not installed.
	sed 's/font-family="DejaVu Sans"/font-family="DejaVu Sans, Verdana, sans-serif"/' "$out/$1.svg" >"$out/$1.svg.new"
	mv "$out/$1.svg.new" "$out/$1.svg"
}

run_turns
heat heat --bins 260
heat heat_turn3 --steps 192:368 --pages 608:628
heat heat_turn4 --steps 368: --pages 1532:1552
timeliness >"$data/timeliness.csv"
replay_masses >"$data/replay-masses.csv"
scorers >"$data/scorers.csv"
fleet_load >"$data/fleet-load.csv"
fleet_capacity >"$data/fleet-capacity.csv"
fleet "" --set fleet.replicas=2 --set traffic.rate_scale=0.4 --set "tier dram.capacity=200GB" --set "tier nvme.drives=1" \
	--telemetry "$data/link-use.csv" >/dev/null
"$KVTIER" plan "$plots/../experiments/plan-mooncake.ini" --format csv >"$data/cost-frontier.csv"
tenants >"$data/tenant-fairness.csv"
for script in "$plots"/*.gp; do
	figure=$(basename "$script" .gp)
	[ "$figure" != style ] || continue
	# `kvtier validate --picture` draws what is measured here; what was measured on a card is stored.
	[ "$figure" != two-worlds ] || continue
	draw "$figure" "$script"
done
grep -v '^#' "$plots/../experiments/timeline-h200.csv" >"$data/two-worlds.csv"
draw two-worlds-h200 "$plots/two-worlds.gp" "what='A rank of Qwen2.5-7B-1M resumes 1M tokens on an H200'"
echo
echo "Pictures, each as PNG and SVG:"
ls "$out"/*.png
