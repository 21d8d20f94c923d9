# node.sh: what tests of a storage node share; sourced after pair.sh. The node's configuration is
# $scratch/node.ini, its process $node, its store $pages.
# shellcheck shell=sh disable=SC2034,SC2154  # tests use what is set; RXE_IP1 is run.sh's

# Page stores want O_DIRECT: a file system on a drive where there is one, else where files are.
pages=$scratch/pages
make_drive() {
	[ -n "${RXE_NVME0:-}" ] || return
	mkdir "$scratch/drive"
	mkfs.ext4 -q "$RXE_NVME0" && mount "$RXE_NVME0" "$scratch/drive"
	report $? "ext4 on an NVMe drive"
	pages=$scratch/drive/pages
}
# Others look for an empty drive.
empty_drive() {
	[ -n "${RXE_NVME0:-}" ] || return
	umount "$scratch/drive"
	dd if=/dev/zero of="$RXE_NVME0" bs=1M count=1 2>/dev/null
}

start_node() {
	: >"$scratch/node.out"
	"$KVTIER" node "$scratch/node.ini" >"$scratch/node.out" 2>"$scratch/node.err" &
	node=$!
}
listens() {
	grep -q "^listening on $RXE_IP1:[0-9]* with rxe1" "$scratch/node.out"
}
node_listens() {
	within 20 listens || ! cat "$scratch/node.out" "$scratch/node.err" >&2
}
