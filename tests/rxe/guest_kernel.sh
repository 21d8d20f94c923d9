#!/bin/sh
# guest_kernel.sh: fetches the distribution's kernel, which is not installed, and packs the guest's
# initramfs. Prints three lines: the kernel to boot, the initramfs, the folder of the kernel's modules.
#
# Usage: sh tests/rxe/guest_kernel.sh CACHE. RXE_KERNEL: an unpacked linux-image package instead.
# Exit status: 0 done; 77 there is no such kernel to be had here; 1 it failed.
set -u
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
cache=$1

stop() {
	echo "kvtier: $1" >&2
	exit "${2:-1}"
}

# In order of need. Without crc32_generic rxe refuses every device with ENOENT.
modules='virtio_pci 9p 9pnet_virtio overlay crc32_generic veth sch_netem nvme ib_uverbs rdma_ucm rdma_rxe'

package_name() {
	apt-cache depends linux-image-amd64 2>/dev/null |
		awk '/Depends: linux-image-[0-9]/ { print $2; exit }'
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# A list of packages that is not there, or is older than the archive, is brought up to date once.
download() {
	package=$(package_name)
	[ -n "$package" ] &&
		(cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$package" 2>/dev/null) && return
	as_root apt-get -qq update >&2
	package=$(package_name)
	[ -n "$package" ] || return
	(cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2)
}

fetch() {
	command -v apt-get >/dev/null || stop "there is no apt-get to fetch Debian's kernel with" 77
	new=$(mktemp -d "$cache/fetch.XXXXXX") || stop "$cache cannot be written"
	echo "kvtier: fetching Debian's kernel, 70 MB, into $cache; it is not installed" >&2
	if ! download "$new"; then
		rm -rf "$new"
		stop "apt-get could not fetch what linux-image-amd64 stands for" 77
	fi
	dpkg-deb -x "$new"/linux-image-*.deb "$new/kernel" || stop "dpkg-deb could not unpack $package"
	version=$(ls "$new/kernel/lib/modules")
	depmod -b "$new/kernel" "$version" || stop "depmod failed"
	mv "$new/kernel" "$cache/kernel-$version" || stop "$cache cannot be written"
	rm -rf "$new"
}

# TCG takes 6 s to unpack Debian's kernel; QEMU starts the bare ELF through its PVH note at once.
unpack_kernel() {
	[ ! -s "$vmlinux" ] || return
	# shellcheck disable=SC2013 # numbers
	for at in $(LC_ALL=C grep -abo "$(printf '\3757zXZ')" "$1" | cut -d : -f 1); do
		# xz complains of what follows its data
		tail -c +$((at + 1)) "$1" | xz -dc >"$vmlinux.new" 2>/dev/null
		head -c 4 "$vmlinux.new" | grep -aq ELF && mv "$vmlinux.new" "$vmlinux" && return
	done
	rm -f "$vmlinux.new"
	echo "kvtier: $1 could not be unpacked here, it boots slower as it is" >&2
	vmlinux=$1
}

pack_initramfs() {
	[ ! -s "$initramfs" ] || return
	root=$(mktemp -d "$cache/initramfs.XXXXXX") || stop "$cache cannot be written"
	mkdir "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/new" \
		"$root/host" "$root/overlay"
	cp "$(command -v busybox)" "$root/bin/" && cp "$here/guest_init.sh" "$root/init" || exit 1
	chmod +x "$root/init"
	for module in $modules; do
		modprobe -d "$kernel" -S "$version" --show-depends "$module" || : >"$root/missing"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		cp "$file" "$root/modules/"
		basename "$file"
	done >"$root/order"
	[ ! -e "$root/missing" ] || stop "the kernel $version lacks some of the modules $modules"
	# shellcheck disable=SC2015
	(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) >"$initramfs.new" &&
		mv "$initramfs.new" "$initramfs" || stop "the initramfs could not be packed"
	rm -rf "$root"
}

mkdir -p "$cache" || exit
cache=$(cd "$cache" && pwd)
exec 7>"$cache/lock"
flock 7
kernel=${RXE_KERNEL:-$(find "$cache" -maxdepth 1 -name 'kernel-*' | sort -V | tail -n 1)}
if [ -z "$kernel" ]; then
	fetch
	kernel=$cache/kernel-$version
fi
version=$(find "$kernel/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)
[ -n "$version" ] || stop "$kernel holds no modules"
vmlinux=$kernel/boot/vmlinux-$version
unpack_kernel "$kernel/boot/vmlinuz-$version"
# A changed script or busybox makes another one.
initramfs=$cache/initramfs-$version-$(cat "$0" "$here/guest_init.sh" "$(command -v busybox)" |
	sha256sum | cut -c 1-12).cpio
pack_initramfs
printf '%s\n' "$vmlinux" "$initramfs" "$kernel/lib/modules/$version"
