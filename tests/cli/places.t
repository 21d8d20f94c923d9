#!/bin/sh
# places.t: a page store, and the tier over it, on every kind of place: ext4, xfs, tmpfs, loop
# devices and another block device. It takes root; what it mounts is seen by nobody else and goes
# with it, and so do its loop devices.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${KVT_OWN_MOUNTS:-}" ] && [ "$(id -u)" -eq 0 ] &&
	unshare --mount --propagation private true 2>/dev/null; then
	KVT_OWN_MOUNTS=yes exec unshare --mount --propagation private sh "$0"
fi
. tests/cli/lib.sh

mounted=$scratch/mounted
image=$scratch/image
conformance=${KVTIER%/*}/tests/test_uring_tier
zram=
mkdir "$mounted"

# patiently COMMAND...: again for some seconds: a ring gives its files back a while after its process
# has gone.
patiently() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		"$@" 2>"$scratch/why" && return
		sleep 0.2
	done
	cat "$scratch/why" >&2
	return 1
}

# Also after an interruption. A loop device goes with its last user: the descriptor 7, or a mount.
clean() {
	! mountpoint -q "$mounted" || patiently umount "$mounted"
	exec 7>&-
	[ -z "$zram" ] || patiently zramctl --reset "$zram"
	zram=
}
trap 'clean; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# A file of zeros that takes no room; of 2 GiB, as the conformance suite wants it.
new_image() {
	rm -f "$image"
	truncate -s 2GiB "$image"
}

# emulate PATH SETTING...: a turn over pages that go out to the place and come back.
emulate() {
	place=$1
	shift
	run "$KVTIER" emu experiments/emulation-windows.ini --set context.tokens=256 \
		--set stream.window_tokens=64 --set context.output_tokens=2 --set emulation.checks=16 --set emulation.tier=store \
		--set "emulation store.path=$place" --set "emulation store.capacity=200MB" "$@"
}

# holds_pages NAME PATH: the whole way: written, read, attended to, checked; also with sqpoll and iopoll.
holds_pages() {
	emulate "$2"
	exits 0 "$1: emu"
	grep -q ': exact$' "$scratch/stdout"
	report $? "$1: what came back is attended to exactly" "$(cat "$scratch/stdout")"
	run "$KVTIER" store check "$2" --format json
	exits 0 "$1: store check"
	json '$j->{pages} > 0 && $j->{bad_pages} + $j->{bad_records} + $j->{bad_segments} == 0' \
		"$1: everything is as it was written"
	emulate "$2" --set 'emulation store.sqpoll=yes'
	exits 0 "$1: emu, with a kernel thread that submits"
	emulate "$2" --set 'emulation store.iopoll=yes'
	exits 0 "$1: emu, polled where that can be"
}

# conforms NAME KIND WAY VARIABLE=VALUE: the contract of tiers, and faults, there.
conforms() {
	if [ ! -x "$conformance" ]; then
		skip "$1: conformance" "$conformance is not built"
		return
	fi
	run env "$4" "$conformance" -p "/tier/$2/round-trip" -p "/tier/$2/rewrite" \
		-p "/tier/$2/many-extents" -p "/tier/$2/full-in-flight" -p "/tier/$2/random" \
		-p "/uring-tier/bytes/$3" -p "/uring-tier/bit-flip/$3" \
		-p "/uring-tier/device-faults/$3" -p "/uring-tier/close-early/$3"
	exits 0 "$1: conformance" "$(cat "$scratch/stdout")"
	[ "$(grep -c '^ok' "$scratch/stdout")" -eq 9 ]
	report $? "$1: nine tests of conformance" "$(cat "$scratch/stdout")"
}

# in_folder NAME OPTIONS...: on a file system, mounted with these options.
in_folder() {
	name=$1
	shift
	if ! mount "$@" "$mounted" 2>"$scratch/why"; then
		skip "$name" "it cannot be mounted: $(head -n 1 "$scratch/why")"
		return
	fi
	holds_pages "$name" "$mounted/store"
	conforms "$name" store-uring disk "TMPDIR=$mounted"
	patiently umount "$mounted"
}

# with_mkfs NAME COMMAND...: on a file system that the command makes in a file.
with_mkfs() {
	name=$1
	shift
	if ! command -v "$1" >/dev/null; then
		skip "$name" "there is no $1 here"
		return
	fi
	new_image
	"$@" "$image" >"$scratch/why" 2>&1
	report $? "$name: $1" "$(cat "$scratch/why")"
	in_folder "$name" -o loop "$image"
}

# on_device NAME DEVICE: straight on it.
on_device() {
	run "$KVTIER" store create "$2" --segment 8MiB
	exits 0 "$1: store create"
	holds_pages "$1" "$2"
	conforms "$1" store-device device "KVT_TEST_DEVICE=$2"
}

# A file system is not taken for an empty device, nor is a mounted one touched.
keeps_what_is_there() {
	if ! mkfs.ext4 -q -F "$1"; then
		skip "file systems on devices" "mkfs.ext4 failed"
		return
	fi
	refuses 2 "kvtier: $1: holds something: its first and last MiB are not all zeros, expected an empty device, or to be told to overwrite it" \
		"$KVTIER" store create "$1"
	if mount "$1" "$mounted" 2>/dev/null; then
		refuses 1 "kvtier: $1: is mounted or another program has it open, expected a device of its own" \
			"$KVTIER" store create "$1" --overwrite
		patiently umount "$mounted"
	fi
	run "$KVTIER" store create "$1" --overwrite
	exits 0 "store create --overwrite, once it is not mounted"
	run "$KVTIER" store info "$1"
	exits 0 "store info of what was overwritten"
}

# with_loop NAME OPTIONS...: on a loop device.
with_loop() {
	name=$1
	shift
	new_image
	if ! loop=$(losetup --find --show "$@" "$image" 2>"$scratch/why"); then
		skip "$name" "no loop device: $(head -n 1 "$scratch/why")"
		return
	fi
	exec 7<>"$loop"
	losetup --detach "$loop"
	on_device "$name" "$loop"
	keeps_what_is_there "$loop"
	exec 7>&-
}

if [ "$(id -u)" -ne 0 ] || [ -z "${KVT_OWN_MOUNTS:-}" ]; then
	skip "places" "mounts and loop devices take root, and unshare --mount"
	finish
	exit
fi

with_mkfs ext4 mkfs.ext4 -q -F
with_mkfs xfs mkfs.xfs -q -f
in_folder tmpfs -t tmpfs -o size=2g places
with_loop "loop device"
with_loop "loop device of 4 KiB sectors, direct" --sector-size 4096 --direct-io=on
if [ -n "${KVT_TEST_DEVICE:-}" ]; then
	on_device "$KVT_TEST_DEVICE" "$KVT_TEST_DEVICE"
elif zram=$(zramctl --find --size 2GiB 2>"$scratch/why"); then
	on_device "compressed memory as a block device" "$zram"
else
	skip "another block device" \
		"no zram: $(head -n 1 "$scratch/why"), and KVT_TEST_DEVICE names no device that may be overwritten"
fi
finish
