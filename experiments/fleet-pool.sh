#!/bin/sh
# fleet-pool.sh: the least memory of all nodes together at which a fleet keeps a p95 of TTFT, when each
# node keeps its own KV and when what all nodes have is one cache, and what that saves.
#
# Usage: sh experiments/fleet-pool.sh [SECONDS [TRACE]]   with kvtier at $KVTIER, build/kvtier or on the
# PATH. ROUTINGS (least-loaded cache-affinity) and TIERS (dram nvme) may be set; nvme is the least drive
# space below 100 GB of DRAM a node.
#
# Capacities are tried on a scale of 5% steps, by bisection: more of it can be a little slower, where
# requests meet in other batches, and then the answer is one such edge.
set -eu

slo=${1:-3}
trace=${2:-requests/mooncake-conversation-400.jsonl}
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}
file=$(dirname "$0")/fleet-pool.ini
nodes=4
low=0 high=145 # 32 GB and 38 TB a node

gigabytes() { awk -v step="$1" 'BEGIN { printf "%.0f", 32 * 1.05 ^ step }'; }

# p95 ROUTING SCOPE TIER GIGABYTES
p95() {
	if [ "$3" = dram ]; then
		set -- "$1" "$2" --set "tier dram.capacity=$4GB"
	else
		set -- "$1" "$2" --set "tier dram.capacity=100GB" --set "tier nvme.kind=nvme" \
			--set "tier nvme.capacity=$4GB" --set "tier nvme.scope=$2"
	fi
	routing=$1 scope=$2
	shift 2
	"$KVTIER" fleet "$file" --set "traffic.trace=$trace" --set "fleet.routing=$routing" \
		--set "tier dram.scope=$scope" "$@" --format json |
		awk '/"ttft":/ { found = 1 } found && /"p95":/ { gsub(/[^0-9.e+-]/, "", $2); print $2; exit }'
}

meets() { p95 "$1" "$2" "$3" "$(gigabytes "$4")" | awk -v slo="$slo" '{ met = $1 <= slo } END { exit !met }'; }

# least ROUTING SCOPE TIER: GB a node, or - where the most does not do.
least() {
	below=$low above=$high
	if ! meets "$1" "$2" "$3" "$high"; then
		echo -
		return
	fi
	if meets "$1" "$2" "$3" "$low"; then
		gigabytes "$low"
		return
	fi
	while [ $((above - below)) -gt 1 ]; do
		middle=$(((below + above) / 2))
		if meets "$1" "$2" "$3" "$middle"; then above=$middle; else below=$middle; fi
	done
	gigabytes "$above"
}

printf 'least memory of %d nodes for p95 TTFT <= %s s\n' "$nodes" "$slo"
printf '%-15s %-5s %14s %14s %8s\n' routing tier "each node's" pooled saving
for tier in ${TIERS:-dram nvme}; do
	for routing in ${ROUTINGS:-least-loaded cache-affinity}; do
		node=$(least "$routing" node "$tier")
		pool=$(least "$routing" pool "$tier")
		echo "$routing $tier $node $pool" | awk -v nodes="$nodes" '
			function total(g) { return g == "-" ? "none does" : sprintf("%.0f GB", g * nodes) }
			{ saving = $3 == "-" || $4 == "-" ? "-" : sprintf("%.0f%%", 100 * (1 - $4 / $3))
			  printf "%-15s %-5s %14s %14s %8s\n", $1, $2, total($3), total($4), saving }'
	done
done
