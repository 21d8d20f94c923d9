#!/bin/sh
# validation.sh: holds the model against this machine in nine experiments, none of which calibration
# has seen: prompts, lengths, pages, sizes and depths of I/O, streamed windows, another shape of
# heads. Prints the CSV that experiments/validation.csv is.
#
# Usage: sh experiments/validation.sh PROFILE.ini FOLDER >validation.csv    after
#   kvtier calibrate --store FOLDER --out profile --dense l40s    (then PROFILE.ini is profile/local.ini)
# with kvtier at $KVTIER, build/kvtier or on the PATH, and 4 GiB free in FOLDER, on a machine that does
# nothing else meanwhile. REPEATS (5) and THREADS that attend (0: as many as there can be) may be set. Exit status 1: some figure is beyond its tolerance.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: sh experiments/validation.sh PROFILE.ini FOLDER" >&2
	exit 2
fi
profile=$(realpath "$1")
store=$(realpath "$2")/validation-store
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$store"' EXIT
status=0
header=yes

# What the experiments vary.
resume() {
	cat <<'END'
[experiment]
title = A resume on this machine, by model and in real time
kind = resume

[model]
name = qwen2.5-7b-instruct-1m

[gpu]
memory_share = 100%

[context]
tokens = 4096
prompt_tokens = 16
output_tokens = 8

[prefill]
overlap = none

[decode]
samples = 0

[emulation]
tier = store

[emulation store]
path = store
capacity = 4GiB

[sources]
model = assumed: all layers are global, and a group of 7 query heads shares a KV head
gpu.memory_share = assumed: the device is the processor
context = assumed: seconds on two cores
prefill = assumed: one GPU has no all-reduces to hide
decode = assumed: every token is generated
emulation = assumed: a store on the calibrated drive
stream = assumed: windows far smaller than the context
nvme.max_transfer = assumed: as the store is told to
nvme.queue_depth = assumed: as the store is told to
END
}

# NAME [--set SECTION.KEY=VALUE]...
validate() {
	name=$1
	shift
	echo "$name" >&2
	{
		echo "include = $profile"
		resume
	} >"$folder/$name.ini"
	"$KVTIER" validate "$folder/$name.ini" --format csv -o "$folder/rows.csv" \
		--set "emulation store.path=$store" --set "validate.repeats=${REPEATS:-5}" \
		--set "emulation.threads=${THREADS:-0}" "$@" ||
		status=1
	[ -s "$folder/rows.csv" ] || exit 1
	if [ "$header" = yes ]; then
		sed -n '1s/^/experiment,/p' "$folder/rows.csv"
		header=no
	fi
	sed "1d;s/^/$name,/" "$folder/rows.csv"
	rm -rf "$store" "$folder/rows.csv"
}

validate short --set context.tokens=1024
validate plain
validate long --set context.tokens=12288 --set context.prompt_tokens=4
validate prompt --set context.prompt_tokens=64
validate large-pages --set model.page_tokens=256
validate small-reads --set nvme.max_transfer=128KiB --set nvme.queue_depth=4 \
	--set "emulation store.max_transfer=128KiB" --set "emulation store.queue_depth=4"
validate windows --set stream.mode=always --set stream.window_tokens=512 --set stream.buffers=3
validate wide-windows --set context.tokens=8192 --set context.prompt_tokens=4 \
	--set stream.mode=always --set stream.window_tokens=2048 --set stream.buffers=2
validate few-heads --set model.name=mini-irope-28m-global --set context.tokens=32768
exit $status
