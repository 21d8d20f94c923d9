#!/bin/busybox sh
# shellcheck shell=dash disable=SC2154  # what settings holds
# guest_main.sh: process 1 of the guest, on the host's files. Sets up the wire and the drives, runs the
# command within its time, leaves what became of it for guest.sh, and ends the machine.
# Busybox runs it with its own applets for most programs: under TCG that is four times as fast.
control=/run/rxe
# writable, main, modules, directory, limit, bare, interactive, home: what guest.sh was told
# shellcheck disable=SC1091
. $control/settings
here=$(dirname "$main")
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TMPDIR=/tmp
export HOME="$home" RXE=guest DM_DISABLE_UDEV=1

say() {
	echo "<5>guest: $*" >/dev/kmsg
}

# finish WORD STATUS: leaves QEMU at once, whatever hangs.
finish() {
	echo "$1 $2" >$control/status.new
	mv $control/status.new $control/status
	say "done: $1 $2"
	printf '\052' | dd of=/dev/port bs=1 seek=244 2>/dev/null # isa-debug-exit
	echo o >/proc/sysrq-trigger
	sleep 5
	echo b >/proc/sysrq-trigger
	sleep 99
}

fail() {
	[ -z "$*" ] || echo "$*" >>$control/setup-error
	finish setup-failed 125
}

put() {
	echo "$2" >"/proc/sys/$1"
}

find_drives() {
	tries=0
	until [ -b /dev/nvme0n1 ] && [ -b /dev/nvme1n1 ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || fail "the NVMe drives did not appear"
		sleep 0.1
	done
	# probed side by side: nvme0 need not be the first drive
	for controller in /sys/class/nvme/nvme*; do
		read -r serial <"$controller/serial"
		case $serial in
		kvtier0*) export RXE_NVME0="/dev/${controller##*/}n1" ;;
		kvtier1*) export RXE_NVME1="/dev/${controller##*/}n1" ;;
		esac
	done
}

# Evidence before the kill: blocked tasks and processors in the log, then each process's threads.
dump() {
	say "the command ran past $limit s"
	echo w >/proc/sysrq-trigger
	echo l >/proc/sysrq-trigger
	for process in /proc/[0-9]*; do
		read -r line <"$process/stat" || continue
		# shellcheck disable=SC2086
		set -- ${line##*) }
		[ "$4" = "$command" ] || continue
		echo "== ${process#/proc/} state $1: $(tr '\0' ' ' <"$process/cmdline")"
		for task in "$process"/task/*; do
			echo "-- thread ${task##*/} $(cat "$task/comm"), syscall $(cat "$task/syscall")"
			cat "$task/stack"
		done
	done
	echo "== queue pairs"
	/usr/bin/env rdma resource show qp
}

watch() {
	sleep "$limit"
	: >$control/timed-out
	{
		dump >$control/hang.txt 2>&1
		: >$control/dumped
	} &
	tries=0
	while [ ! -e $control/dumped ] && [ $tries -lt 40 ]; do
		tries=$((tries + 1))
		sleep 0.5
	done
	: >$control/dumped
	kill -TERM "-$command"
	sleep 3
	kill -KILL "-$command"
	sleep 5
	finish timeout 124 # reached only by a command that cannot be killed
}

# A session of its own: kill reaches all that stays in it. Sets $status.
run_command() {
	mkfifo /run/out /run/err
	cat /run/out >>$control/stdout &
	out=$!
	cat /run/err >>$control/stderr &
	err=$!
	setsid /bin/sh $control/command </dev/null >/run/out 2>/run/err &
	command=$!
	watch &
	wait $command
	status=$?
	word="exit"
	if [ -e $control/timed-out ]; then
		word=timeout
		status=124
		while [ ! -e $control/dumped ]; do sleep 0.1; done
		sleep 0.5
		kill -KILL "-$command"
	fi
	# what is still in the pipes; a process left behind may hold them open
	tries=0
	while [ $tries -lt 20 ] && { kill -0 $out || kill -0 $err; } 2>/dev/null; do
		tries=$((tries + 1))
		sleep 0.1
	done
}

[ ! -s $control/setup-error ] || fail
release=$(uname -r)
mkdir -p /lib/modules
rm -rf "/lib/modules/$release"
ln -sn "$modules" "/lib/modules/$release"
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t configfs config /sys/kernel/config
mount -t cgroup2 cgroup /sys/fs/cgroup
ulimit -l unlimited
ulimit -c 0
put kernel/hostname guest
echo '127.0.1.1 guest' >>/etc/hosts
put kernel/panic_on_oops 1
put kernel/hung_task_timeout_secs 60
put kernel/watchdog_thresh 30
find_drives
if [ "$bare" = yes ]; then
	/usr/bin/env ip link set lo up
else
	export RXE_IP0=10.77.0.1 RXE_IP1=10.77.0.2 RXE_IP6_0=fd77::1 RXE_IP6_1=fd77::2
	/bin/sh "$here/wire.sh" make 2>$control/setup-error || fail
fi
cd "$directory" || fail "there is no folder $directory"
: >$control/ready
say ready
if [ "$interactive" = yes ]; then
	setsid -c /bin/sh $control/command </dev/ttyS1 >/dev/ttyS1 2>&1
	finish exit $?
fi
run_command
finish $word $status
