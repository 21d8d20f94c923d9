#!/bin/sh
# validation.sh: holds the model against this machine in nine experiments, none of which calibration
# has seen: prompts, lengths, pages, sizes and depths of I/O, streamed windows, another shape of
# heads. Prints the CSV that experiments/validation.csv is.
#
# Usage: sh experiments/validation.sh PROFILE.ini FOLDER >validation.csv    after
#   kvtier calibrate --store FOLDER --out profile --dense l40s    (then PROFILE.ini is profile/local.ini)
# with kvtier at $KVTIER, build/kvtier or on the PATH, and 4 GiB free in FOLDER, on a machine that does
# nothing else meanwhile. REPEATS (5) may be set. Exit status 1: some figure is beyond its tolerance.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: sh experiments/validation.sh PROFILE.ini FOLDER" >&2
	exit 2
fi
profile=$(realpath "$1")
store=$(realpath "$2")/validation-store
here=$(dirname "$0")
KVTIER=${KVTIER:-$(command -v build/kvtier || echo kvtier)}
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$store"' EXIT
status=0
header=yes

# NAME [--set SECTION.KEY=VALUE]...
validate() {
	name=$1
	shift
	echo "$name" >&2
	{
		echo "include = $profile"
		cat "$here/validation.ini"
	} >"$folder/$name.ini"
	"$KVTIER" validate "$folder/$name.ini" --format csv -o "$folder/rows.csv" \
		--set "emulation store.path=$store" --set "validate.repeats=${REPEATS:-5}" "$@" ||
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
