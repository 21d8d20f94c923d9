#!/bin/sh
# run.sh: runs a command where there are two soft-RoCE devices on a wire: on this machine, where its
# kernel has rxe and the user is root, else in a guest (guest.sh), which has NVMe drives too.
#
# Usage: sh tests/rxe/run.sh [OPTION of guest.sh...] COMMAND [ARGUMENT...]
# RXE=guest or RXE=native chooses. Where there can be neither it says so aloud: exit status 0, with CI
# in the environment 1. Otherwise the command's; 124 when its time was over.
set -u
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)

# The user may, and the kernel has all that the wire is made of.
native() {
	[ "$(id -u)" -eq 0 ] && modprobe -a -q rdma_rxe rdma_ucm ib_uverbs veth sch_netem 2>/dev/null
}

on_this_machine() {
	limit=300
	while getopts t:b:m:s:d:l:w:k:inr option; do
		[ "$option" != t ] || limit=$OPTARG
	done
	shift $((OPTIND - 1))
	if [ -e /sys/class/net/v0 ] || [ -e /sys/class/infiniband/rxe0 ]; then
		echo "kvtier: this machine has a v0 or an rxe0 already; RXE=guest leaves them alone" >&2
		exit 1
	fi
	trap 'sh "$here/wire.sh" remove' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	sh "$here/wire.sh" make || exit
	RXE=native RXE_IP0=10.77.0.1 RXE_IP1=10.77.0.2 RXE_IP6_0=fd77::1 RXE_IP6_1=fd77::2 \
		timeout -k 5 "$limit" "$@"
	exit
}

case ${RXE:-} in
guest) ;;
native) native || {
	echo "kvtier: RXE=native, and this kernel has no rxe, or the user is not root" >&2
	exit 1
} ;;
*) if native; then RXE=native; else RXE=guest; fi ;;
esac
echo "kvtier: soft-RoCE: $RXE" >&2
[ "$RXE" = guest ] || on_this_machine "$@"
sh "$here/guest.sh" "$@"
status=$?
[ $status -eq 77 ] || exit $status
echo "kvtier: SKIPPED: nothing was run over soft-RoCE, for the reason above" >&2
[ -z "${CI:-}" ]
