#!/bin/sh
# gpu-validation.sh: holds the model against one card with CUDA in experiments that calibration has
# not seen: Turn 2 of Qwen-1M, R1-70B and Scout, decode that is resident and that streams, pages of
# 16 KiB to 4 MiB. Prints the CSV that experiments/validation-h200.csv is made of.
#
# Usage: sh experiments/gpu-validation.sh PROFILE.ini [NAME]... >validation.csv    after
#   kvtier calibrate --device cuda --out profile --name card    (then PROFILE.ini is profile/card.ini)
# with kvtier at $KVTIER, build/kvtier or on the PATH, on a machine that does nothing else meanwhile: a
# card with 80 GB, 128 GB of host memory. Names choose among the experiments; without any it is all.
# REPEATS (1) may be set, and SECONDS_EACH (120) that one may take. Exit status 1: some figure is
# beyond its tolerance, or an experiment did not run; the others do.
set -eu

if [ $# -lt 1 ]; then
	echo "usage: sh experiments/gpu-validation.sh PROFILE.ini [NAME]..." >&2
	exit 2
fi
profile=$(realpath "$1")
shift
wanted=$*
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}
here=$(dirname "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0
header=yes

# SECTION KEY: what the profile says.
profile_key() {
	sed -n "/^\[$1\]\$/,/^\$/s/^$2 = //p" "$profile"
}
gpu=$(profile_key gpu name)
host=$(profile_key host name)
latency=$(profile_key dram latency)
latency_p99=$(profile_key dram latency_p99)
if [ -z "$gpu" ] || [ -z "$host" ] || [ -z "$latency" ]; then
	echo "gpu-validation.sh: $profile: no profile of kvtier calibrate --device cuda" >&2
	exit 2
fi

echo "# profile: dram.latency=$latency dram.latency_p99=$latency_p99"

# NAME FILE [--set SECTION.KEY=VALUE]... A comment says so, too: tests do as much by model.
validate() {
	name=$1
	file=$2
	shift 2
	case " $wanted " in
	"  " | *" $name "*) ;;
	*) return 0 ;;
	esac
	echo "# $name: $file.ini $*"
	began=$(date +%s)
	timeout "${SECONDS_EACH:-120}" "$KVTIER" validate "$here/$file.ini" --format csv \
		-o "$folder/rows.csv" --timeline "$folder/$name.json" \
		--set "gpu.name=$gpu" --set "host.name=$host" --set "dram.latency=$latency" \
		--set "dram.latency_p99=$latency_p99" --set "validate.repeats=${REPEATS:-1}" "$@" ||
		status=1
	echo "$name: $(($(date +%s) - began)) s" >&2
	[ -s "$folder/rows.csv" ] || return 0
	if [ "$header" = yes ]; then
		sed -n '1s/^/experiment,/p' "$folder/rows.csv"
		header=no
	fi
	sed "1d;s/^/$name,/" "$folder/rows.csv"
	rm -f "$folder/rows.csv"
	[ -z "${TIMELINES:-}" ] || mv "$folder/$name"*.json "$TIMELINES"
}

validate qwen-1m-rank gpu-qwen-1m-rank
validate decode-streamed gpu-decode-streamed
validate pages-16KiB gpu-pages --set model.page_tokens=32
validate pages-64KiB gpu-pages --set model.page_tokens=128
validate pages-1MiB gpu-pages --set model.page_tokens=2048
validate pages-4MiB gpu-pages --set model.page_tokens=8192
validate prompt gpu-decode-streamed --set stream.mode=auto --set context.prompt_tokens=512 \
	--set "emulation memory.capacity=4GB"
validate scout-1m-rank gpu-scout-1m-rank
validate r1-102k gpu-r1-102k
validate scout-400k gpu-scout-400k
validate qwen-1m gpu-qwen-1m
validate scout-10m-rank gpu-scout-10m-rank
exit $status
