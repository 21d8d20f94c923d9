#!/bin/sh
# guest.sh: runs a command in a throw-away QEMU guest that has two soft-RoCE devices on a wire
# (wire.sh) and two NVMe drives, and whose root is this machine's file system.
#
# Usage: sh tests/rxe/guest.sh [OPTION...] COMMAND [ARGUMENT...]
#   -t SECONDS  the command's time (300)      -l FOLDER  for the logs (build/rxe/log)
#   -b SECONDS  for booting (120)             -w FOLDER  where what is written stays
#   -m SIZE     of memory (2G)                -d SIZE    of each drive (1G)
#   -s NUMBER   of processors (2)             -i         a shell's terminal is the command's
#   -n          no rxe devices                -r         timing repeats: one processor, whose clock
#                                                        counts instructions of 8 ns
#   -k TEXT     for the kernel's command line
#
# The command runs as root in the current folder, without input. It may write anywhere; only what it
# writes below -w stays. It has RXE=guest, RXE_IP0, RXE_IP1, RXE_IP6_0, RXE_IP6_1, RXE_NVME0 and
# RXE_NVME1.
# RXE_ACCEL=kvm: not emulated. RXE_CACHE: where the kernel is kept (build/rxe).
#
# Exit status: the command's (128 and N for signal N); 124 its time was over; 125 the guest failed; 77
# there can be no guest here. LOG/result has a word: exit, timeout, panic, hang, boot-timeout,
# setup-failed, died.
set -u
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
cache=${RXE_CACHE:-build/rxe}
limit=300
boot=120
memory=2G
processors=2
drive=1G
log=$cache/log
writable=
bare=no
interactive=no
repeat=no
kernel_line=
work=
qemu=
streams=

say() {
	echo "kvtier: $*" >&2
}
stop() {
	say "$1"
	exit "${2:-125}"
}

while getopts t:b:m:s:d:l:w:k:inr option; do
	case $option in
	t) limit=$OPTARG ;;
	b) boot=$OPTARG ;;
	m) memory=$OPTARG ;;
	s) processors=$OPTARG ;;
	d) drive=$OPTARG ;;
	l) log=$OPTARG ;;
	w)
		[ -d "$OPTARG" ] || stop "$OPTARG is no folder"
		writable=$(realpath -- "$OPTARG")
		;;
	k) kernel_line=$OPTARG ;;
	i) interactive=yes ;;
	n) bare=yes ;;
	r) repeat=yes ;;
	*) exit 125 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || stop "no command for the guest"
case $limit$boot$processors in
*[!0-9]*) stop "-t, -b and -s are whole numbers" ;;
esac

# quote WORD: so that a shell reads it as it is.
quote() {
	printf "'"
	printf %s "$1" | sed "s/'/'\\\\''/g"
	printf "' "
}

# shellcheck disable=SC2317 # called by trap
clean_up() {
	[ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null
	for stream in $streams; do kill "$stream" 2>/dev/null; done
	[ -n "$work" ] || return
	for file in console.log qemu.log control/hang.txt control/setup-error result; do
		[ ! -s "$work/$file" ] || cp "$work/$file" "$log/"
	done
	rm -rf "$work"
}

# What guest_init.sh and guest_main.sh read, and where they write.
write_control() {
	mkdir "$work/control"
	: >"$work/control/stdout"
	: >"$work/control/stderr"
	for setting in "directory=$PWD" "home=${HOME:-/}" "main=$here/guest_main.sh" "limit=$limit" \
		"writable=$writable" "bare=$bare" "interactive=$interactive" "modules=$modules"; do
		printf '%s=' "${setting%%=*}"
		quote "${setting#*=}"
		echo
	done >"$work/control/settings"
	{
		printf 'exec '
		for word; do quote "$word"; done
		echo
	} >"$work/control/command"
}

# Options of QEMU that depend on ours, in $options; none holds a space.
choose_machine() {
	patience=1
	case ${RXE_ACCEL:-tcg}$repeat in
	kvm*) options="-accel kvm -cpu host" ;;
	# TCG is slow at what newer processors have for strings and checksums; getrandom needs RDRAND
	*no) options="-accel tcg,thread=multi -cpu Nehalem,+rdrand" ;;
	# where instructions are what is counted, those on many numbers count as one
	*yes)
		options="-accel tcg,thread=single -icount shift=3 -cpu Haswell-noTSX-IBRS,-erms,+rdrand"
		processors=1
		patience=4
		;;
	esac
}

# A comma in a path is doubled for QEMU.
escaped() {
	printf %s "$1" | sed 's/,/,,/g'
}

share() {
	echo "local,path=$(escaped "$1"),mount_tag=$2,security_model=none,multidevs=remap"
}

start_qemu() {
	set -- -m "$memory" -smp "$processors" -M q35,sata=off,smbus=off,usb=off,vmport=off \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "$vmlinux" -initrd "$initramfs" \
		-append "console=ttyS0 panic=-1 oops=panic unknown_nmi_panic loglevel=5 nokaslr mitigations=off random.trust_cpu=on init_on_alloc=0 no_timer_check $kernel_line" \
		-serial "file:$work/console.log" -device isa-debug-exit,iobase=0xf4,iosize=1 \
		-chardev "pipe,id=monitor,path=$work/monitor" -mon chardev=monitor,mode=readline \
		-virtfs "$(share / host),readonly=on" -virtfs "$(share "$work/control" control)"
	[ -z "$writable" ] || set -- "$@" -virtfs "$(share "$writable" writable)"
	for n in 0 1; do
		truncate -s "$drive" "$work/drive$n" || stop "no room for the drives"
		set -- "$@" -device "nvme,serial=kvtier$n,drive=drive$n" -drive \
			"file=$(escaped "$work/drive$n"),if=none,id=drive$n,format=raw,cache=unsafe,aio=threads,discard=unmap"
	done
	mkfifo "$work/monitor.in" "$work/monitor.out"
	if [ $interactive = yes ]; then
		# shellcheck disable=SC2086
		qemu-system-x86_64 $options "$@" -chardev stdio,id=terminal,signal=off \
			-serial chardev:terminal <&3 2>"$work/qemu.log" &
	else
		# shellcheck disable=SC2086
		qemu-system-x86_64 $options "$@" </dev/null >"$work/qemu.log" 2>&1 &
	fi
	qemu=$!
}

# The guest ends the command when its time is over; 45 s later something is wrong with the guest itself.
wait_for_guest() {
	started=$(date +%s)
	ready=
	while kill -0 $qemu 2>/dev/null; do
		now=$(date +%s)
		[ -n "$ready" ] || [ ! -e "$work/control/ready" ] || ready=$now
		if [ -z "$ready" ]; then
			[ $((now - started)) -le $((boot * patience)) ] || result="boot-timeout"
		else
			[ $((now - ready)) -le $(((limit + 45) * patience)) ] || result=hang
		fi
		if [ -n "$result" ]; then
			say "$result: the guest is asked for a backtrace"
			# shellcheck disable=SC2016
			timeout 2 sh -c 'echo nmi >"$1"' _ "$work/monitor.in"
			sleep 3
			kill -KILL $qemu 2>/dev/null
		fi
		sleep 0.2
	done
	wait $qemu 2>/dev/null
	qemu=
	for stream in $streams; do wait "$stream" 2>/dev/null; done
	streams=
}

# Sets $result and $status, and says on stderr what a failure has to show.
judge() {
	status=125
	if [ -s "$work/control/status" ]; then
		read -r result status <"$work/control/status"
	elif [ -z "$result" ]; then
		result=died
		grep -aqs 'Kernel panic' "$work/console.log" && result=panic
	fi
	echo "$result" >"$work/result"
	case $result in
	exit)
		complaints=$(grep -acE 'WARNING: CPU|BUG: |blocked for more than' "$work/console.log")
		[ "$complaints" -eq 0 ] || say "the guest's kernel complained: see $log/console.log"
		return
		;;
	timeout)
		say "the command ran past $limit s: see $log/hang.txt"
		return
		;;
	setup-failed) say "the guest was not set up: $(cat "$work/control/setup-error")" ;;
	*) say "the guest failed: $result" ;;
	esac
	tail -n 30 "$work/qemu.log" "$work/console.log" >&2
	say "all of it is in $log/console.log"
}

# Sets $status and $result.
run_guest() {
	work=$(mktemp -d "$(realpath "$cache")/run.XXXXXX") || stop "$cache cannot be written"
	result=
	write_control "$@"
	start_qemu
	if [ $interactive = no ]; then
		tail -n +1 -s 0.2 --pid=$qemu -f "$work/control/stdout" &
		streams=$!
		tail -n +1 -s 0.2 --pid=$qemu -f "$work/control/stderr" >&2 &
		streams="$streams $!"
	fi
	wait_for_guest
	judge
}

[ "$(uname -m)" = x86_64 ] || stop "the guest runs this machine's programs, and emulates x86_64 only" 77
paths=$(sh "$here/guest_kernel.sh" "$cache") || stop "no kernel for the guest" $?
{
	read -r vmlinux
	read -r initramfs
	read -r modules
} <<END
$paths
END
mkdir -p "$log" || stop "$log cannot be written"
rm -f "$log/console.log" "$log/qemu.log" "$log/hang.txt" "$log/setup-error" "$log/result"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
exec 3<&0
choose_machine
boots=1
run_guest "$@"
# A kernel measures its clocks by each other while it boots; where this machine is busy it may find them
# wrong, and stop or crawl. Nothing of the command has been run then.
while [ $boots -lt 3 ] && [ ! -e "$work/control/ready" ] &&
	{ [ "$result" = boot-timeout ] || [ "$result" = panic ]; }; do
	say "the guest is booted again"
	boots=$((boots + 1))
	rm -rf "$work"
	run_guest "$@"
done
exit "$status"
