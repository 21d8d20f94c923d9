#!/bin/sh
# deps.sh: looks for what kvtier's build, pictures and tests need and installs what is missing with
# apt-get. It is silent when all is there; -v reports, and looks for optional parts too.
#
# Usage: sh tests/deps.sh [-v] build|plots|check|mpi|rxe...
set -u

verbose=no
CC=${CC:-cc}
packages=
missing=

# need PACKAGE WHAT COMMAND...: the command tells whether WHAT is there; PACKAGE is Debian's.
need() {
	package=$1
	what=$2
	shift 2
	packages="$packages $package"
	if "$@" >/dev/null 2>&1; then
		[ "$verbose" = no ] || echo "found    $what"
		return
	fi
	missing="$missing $package"
	[ "$verbose" = no ] || echo "missing  $what ($package)"
}

# $CC may be more than one word, such as "ccache gcc".
# shellcheck disable=SC2086
has_header() {
	printf '#include <%s>\n' "$1" | $CC -E -x c - -o /dev/null
}

has_command() {
	command -v "$1"
}

# A busybox that needs no libraries.
has_static_busybox() {
	has_system_command busybox && ! ldd "$(command -v busybox)"
}

# Where commands for root are, which users' PATHs leave out.
has_system_command() {
	PATH=$PATH:${SYSTEM_PATH-/usr/sbin:/sbin} command -v "$1"
}

has_library() {
	pkg-config --exists "$1"
}

has_nvcc() {
	command -v nvcc || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]
}

look_for() {
	case $1 in
	build)
		need build-essential "C compiler ($CC)" has_header stdlib.h
		need pkg-config pkg-config has_command pkg-config
		need libglib2.0-dev GLib has_library glib-2.0
		need libhdf5-dev HDF5 has_library hdf5
		need libjansson-dev jansson has_library jansson
		need libxxhash-dev xxHash has_library libxxhash
		need liburing-dev liburing has_library liburing
		need libibverbs-dev libibverbs has_library libibverbs
		need librdmacm-dev librdmacm has_library librdmacm
		need librandom123-dev Random123 has_header Random123/philox.h
		;;
	plots)
		need gnuplot-nox gnuplot has_command gnuplot
		;;
	check)
		need perl "prove (Perl)" has_command prove
		need xfsprogs xfsprogs has_system_command mkfs.xfs
		need hdf5-tools "h5dump (HDF5)" has_command h5dump
		;;
	mpi)
		need libopenmpi-dev "MPI's compiler" has_command mpicc
		need openmpi-bin mpirun has_command mpirun
		;;
	rxe)
		need qemu-system-x86 QEMU has_command qemu-system-x86_64
		need busybox-static "busybox without libraries" has_static_busybox
		need kmod kmod has_system_command depmod
		need cpio cpio has_command cpio
		need xz-utils xz has_command xz
		need iproute2 iproute2 has_system_command rdma
		need perftest perftest has_command ib_read_bw
		need ibverbs-providers "rxe's verbs" test -e "${VERBS-/etc/libibverbs.d}/rxe.driver"
		;;
	*)
		echo "deps.sh: \"$1\" is not build, plots, check, mpi or rxe" >&2
		exit 2
		;;
	esac
}

look() {
	packages=
	missing=
	for group in "$@"; do
		look_for "$group"
	done
}

optional() {
	state=no
	name=$1
	shift
	"$@" >/dev/null 2>&1 && state=yes
	printf ' %s %s' "$name" "$state"
}

look_for_optional() {
	printf 'optional'
	optional "clang" has_command clang
	optional ", clang-format" has_command clang-format
	optional ", fio" has_command fio
	optional ", CUDA" has_nvcc
	echo
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

stop() {
	echo "kvtier: $1" >&2
	exit 1
}

install_missing() {
	command -v apt-get >/dev/null ||
		stop "missing:$missing (Debian's names), and there is no apt-get here: install these or your system's likes of them, then try again. All that is needed:$packages"
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
		stop "missing:$missing, and there is no sudo here: run as root: apt-get install$missing"
	echo "kvtier: installing with apt-get:$missing"
	as_root apt-get -q update || stop "apt-get update failed, see above"
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y --no-install-recommends install $missing ||
		stop "apt-get could not install$missing, see above"
}

if [ "${1:-}" = -v ]; then
	verbose=yes
	shift
fi
# make deps: all that one machine or several can use
[ $# -gt 0 ] || set -- build plots check mpi

look "$@"
if [ -n "$missing" ]; then
	install_missing
	wanted=$missing
	look "$@"
	[ -z "$missing" ] || stop "after installing$wanted still not found:$missing"
fi
[ "$verbose" = no ] || look_for_optional
