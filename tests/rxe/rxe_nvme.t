#!/bin/sh
# rxe_nvme.t: the page store and the I/O engine on NVMe drives by io_uring, polled and not.
# shellcheck disable=SC2016,SC2153  # Perl's variables; what the guest sets
. tests/rxe/pair.sh

if [ -z "${RXE_NVME0:-}" ]; then
	skip "a page store on an NVMe drive" \
		"there are no drives that may be overwritten outside of the guest; RXE=guest has some"
	finish
	exit
fi

# by_serial NUMBER: the block device of that drive.
by_serial() {
	for controller in /sys/class/nvme/nvme*; do
		grep -q "^$1 *\$" "$controller/serial" && echo "/dev/${controller##*/}n1"
	done
}
[ "$(by_serial kvtier0)" = "$RXE_NVME0" ] && [ "$(by_serial kvtier1)" = "$RXE_NVME1" ] &&
	[ "$RXE_NVME0" != "$RXE_NVME1" ]
report $? "the drives are found by serial number" "$RXE_NVME0 $RXE_NVME1: $(cat /sys/class/nvme/*/serial)"
[ "$(cat "/sys/block/${RXE_NVME0#/dev/}/queue/io_poll")" = 1 ]
report $? "the drive has poll queues"

# seconds under emulation
small='--set context.tokens=512 --set context.prompt_tokens=2 --set context.output_tokens=1'
small="$small --set emulation.checks=4 --set emulation.tier=store"

# turn NAME DEVICE [KEY=VALUE]: with that setting, stores pages, brings them back, attends to them, and
# checks the store.
turn() {
	run "$KVTIER" store create "$2" --segment 4MiB
	exits 0 "$1: create"
	run "$KVTIER" store check "$2"
	exits 0 "$1: check of a new store"
	reads=$(awk '{ print $3 }' "/sys/block/${2#/dev/}/stat")
	# shellcheck disable=SC2086
	run timeout 120 "$KVTIER" emu experiments/emulation-windows.ini $small --format json \
		--set "emulation store.path=$2" --set "emulation store.capacity=200MB" \
		--set "emulation store.method=uring" --set "emulation store.${3:-iopoll=no}"
	exits 0 "$1: a turn"
	! grep iopoll "$scratch/stderr"
	report $? "$1: nothing is said about polling" "$(cat "$scratch/stderr")"
	json '$j->{attention}{exact} && $j->{attention}{compared} > 0' "$1: attention is exact"
	sectors=$(($(awk '{ print $3 }' "/sys/block/${2#/dev/}/stat") - reads))
	json "512 * $sectors >= \$j->{stored_bytes} && \$j->{stored_bytes} > 0" \
		"$1: its pages came from the drive"
	run "$KVTIER" store check "$2"
	exits 0 "$1: check of what the turn left"
}
turn "the first drive" "$RXE_NVME0"
turn "the second drive, polled" "$RXE_NVME1" iopoll=yes

# A polled transfer of more bytes than the drive takes, or with memory in more places, is not cut: the
# kernel may try it again for ever. All must end.
mkfs.ext4 -q "$RXE_NVME1" && mount "$RXE_NVME1" /mnt
report $? "ext4 on the second drive"
run env TMPDIR=/mnt timeout 60 "${KVTIER%/*}/tests/test_io_engine" -p /io-engine/uring/iopoll
exits 0 "polled I/Os all end"
figures=$(grep 'commands, ' "$scratch/stdout")
echo "$figures" | awk '{ polled = $4; refused = $8 } END { exit !(polled > refused && refused > 0) }'
report $? "some are polled for, others not" "$(cat "$scratch/stdout")"
echo "$figures"

finish
