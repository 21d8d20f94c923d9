#!/bin/busybox sh
# shellcheck shell=dash
# guest_init.sh: /init of the guest's initramfs. Loads the modules and makes the host's file system,
# read-only under an overlay in memory, the guest's root; guest_main.sh goes on there.
b=/bin/busybox
new=/new
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev

while read -r module; do
	case $module in
	nvme.ko) options=poll_queues=1 ;;
	*) options= ;;
	esac
	# a module for another model of processor fails, its generic one is there too
	# shellcheck disable=SC2086
	$b insmod "/modules/$module" $options 2>/dev/null || echo "<6>guest: no $module" >/dev/kmsg
done </order

share=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o $share,ro,cache=loose host /host || exec $b poweroff -f
$b mount -t tmpfs -o size=75% overlay /overlay
$b mkdir /overlay/upper /overlay/work
$b mount -t overlay -o lowerdir=/host,upperdir=/overlay/upper,workdir=/overlay/work root $new ||
	exec $b poweroff -f

for folder in proc sys dev; do $b mount --move /$folder $new/$folder; done
$b mkdir -p $new/dev/pts $new/dev/shm $new/run
$b mount -t devpts pts $new/dev/pts
$b mount -t tmpfs shm $new/dev/shm
$b mount -t tmpfs run $new/run
$b mkdir $new/run/rxe $new/run/lock
$b cp $b $new/run/busybox
# what udev would make
$b ln -sn /proc/self/fd $new/dev/fd
$b ln -sn /proc/self/fd/0 $new/dev/stdin
$b ln -sn /proc/self/fd/1 $new/dev/stdout
$b ln -sn /proc/self/fd/2 $new/dev/stderr

$b mount -t 9p -o $share,rw,cache=none control $new/run/rxe || exec $b poweroff -f
# shellcheck disable=SC1091
. $new/run/rxe/settings
if [ -n "$writable" ]; then
	$b mkdir -p "$new$writable"
	$b mount -t 9p -o $share,rw,cache=mmap writable "$new$writable" ||
		echo "$writable could not be mounted" >>$new/run/rxe/setup-error
fi
# shellcheck disable=SC2154
exec $b switch_root $new /run/busybox sh "$main"
