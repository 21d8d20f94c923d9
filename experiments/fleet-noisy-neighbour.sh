#!/bin/sh
# fleet-noisy-neighbour.sh [--set KEY=VALUE...]: what a neighbour's load does to a tenant's time to
# first token: the tenant alone; beside it as it is, and ten times as fast, served as one, by weight,
# and with reservations. In seconds; the last column is p99 against that beside the neighbour as it
# is, served the same way. Other seeds: --set fleet.seed=N.
here=$(dirname "$0")
kvtier=${KVTIER:-$here/../build/kvtier}
file=$here/fleet-noisy-neighbour.ini
ten='tenant batch.rate_scale=1.5'

# row NAME OPTIONS...: name, p50, p95, p99
row() {
	name=$1
	shift
	"$kvtier" fleet "$file" --format csv "$@" | awk -F, -v name="$name" '
		$1 ~ /^tenants/ && $1 ~ /name$/ && $2 ~ /chat/ { prefix = $1; sub(/name$/, "ttft.", prefix) }
		{ value[$1] = $2 }
		END { printf "%s,%s,%s,%s\n", name, value[prefix "p50"], value[prefix "p95"], value[prefix "p99"] }'
}

{
	row "alone" "$@" --set 'tenant batch.active=no'
	for sharing in fcfs fair reserved; do
		row "$sharing, neighbour x 1" "$@" --set "qos.sharing=$sharing"
		row "$sharing, neighbour x 10" "$@" --set "qos.sharing=$sharing" --set "$ten"
	done
} | awk -F, '
	BEGIN { printf "%-28s %10s %10s %10s %10s\n", "chat: TTFT, s", "p50", "p95", "p99", "p99 moved" }
	NF == 4 { printf "%-28s %10.3f %10.3f %10.3f\n", $1, $2, $3, $4; next }
	/x 10/ { printf "%-28s %10.3f %10.3f %10.3f %+9.1f%%\n", $1 "," $2, $3, $4, $5, 100 * ($5 / last - 1) }
	/x 1,/ { printf "%-28s %10.3f %10.3f %10.3f\n", $1 "," $2, $3, $4, $5; last = $5 }'
