#!/bin/sh
# deps.t: tests/deps.sh, which make tables and make check call first: what it says and does when
# packages are missing, on made-up machines. It installs nothing here.
. tests/cli/lib.sh

sh=$(command -v sh)
bin=$scratch/bin
have=$scratch/have
mkdir "$bin" "$have"

# fake NAME SCRIPT: a command of the made-up machine.
fake() {
	printf '#!%s\n%s\n' "$sh" "$2" >"$bin/$1"
	chmod +x "$bin/$1"
}

# machine ID THINGS...: one whose user has this number and which has these.
machine() {
	rm -rf "$bin" "$have" "$scratch/log"
	mkdir "$bin" "$have"
	: >"$scratch/log"
	fake id "echo $1"
	fake cc "read -r line; case \$line in *Random123*) [ -e $have/random123 ];; *) [ -e $have/cc ];; esac"
	fake pkg-config "[ -e $have/\$2 ]"
	shift
	for thing; do
		case $thing in
		apt-get) fake apt-get "echo \"apt-get \$*\" >>$scratch/log; case \"\$*\" in
			*install*) for p in hdf5 jansson; do : >$have/\$p; done;; esac" ;;
		broken-apt-get) fake apt-get 'exit 100' ;;
		idle-apt-get) fake apt-get 'exit 0' ;;
		sudo) fake sudo "echo \"sudo \$*\" >>$scratch/log; exec \"\$@\"" ;;
		gnuplot | prove | mkfs.xfs | h5dump | mpicc | mpirun) fake "$thing" 'exit 0' ;;
		*) : >"$have/$thing" ;;
		esac
	done
	ln -s "$(command -v env)" "$bin/env"
}
deps() {
	run env PATH="$bin" SYSTEM_PATH= CC=cc "$sh" tests/deps.sh "$@"
}

libraries='cc glib-2.0 libxxhash liburing libibverbs librdmacm random123'
check='prove mkfs.xfs h5dump'
all="$libraries hdf5 jansson gnuplot $check"

# shellcheck disable=SC2086
{
	machine 0 $all apt-get
	deps build plots check
	exits 0 "nothing is missing"
	prints stdout "" "nothing is missing"
	prints stderr "" "nothing is missing"
	[ ! -s "$scratch/log" ]
	report $? "nothing is missing: apt-get is left alone"

	machine 0 $libraries gnuplot $check
	deps build plots check
	exits 1 "no apt-get"
	mentions stderr "missing: libhdf5-dev libjansson-dev (Debian's names)" "no apt-get"
	mentions stderr "All that is needed: build-essential pkg-config libglib2.0-dev libhdf5-dev libjansson-dev libxxhash-dev liburing-dev libibverbs-dev librdmacm-dev librandom123-dev gnuplot-nox perl xfsprogs hdf5-tools" "no apt-get"
	[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
	report $? "no apt-get: one line"

	machine 0 $libraries gnuplot $check apt-get
	deps build plots check
	exits 0 "root"
	mentions stdout "installing with apt-get: libhdf5-dev libjansson-dev" "root"
	[ "$(cat "$scratch/log")" = "apt-get -q update
apt-get -q -y --no-install-recommends install libhdf5-dev libjansson-dev" ]
	report $? "root: an update, then what is missing" "$(cat "$scratch/log")"

	machine 1000 $libraries gnuplot $check apt-get sudo
	deps build
	exits 0 "another user"
	grep -q '^sudo apt-get -q update$' "$scratch/log" && grep -q '^sudo env DEBIAN_FRONTEND=noninteractive apt-get' "$scratch/log"
	report $? "another user: by sudo, without questions" "$(cat "$scratch/log")"

	machine 1000 $libraries gnuplot $check apt-get
	deps build
	exits 1 "no sudo"
	mentions stderr "run as root: apt-get install libhdf5-dev libjansson-dev" "no sudo"

	machine 0 $libraries broken-apt-get
	deps build
	exits 1 "apt-get fails"
	mentions stderr "apt-get update failed" "apt-get fails"

	machine 0 $libraries idle-apt-get
	deps build
	exits 1 "apt-get installs nothing"
	mentions stderr "still not found: libhdf5-dev libjansson-dev" "apt-get installs nothing"

	machine 0 $libraries hdf5 jansson $check
	deps build check
	exits 0 "a test needs no gnuplot"
	deps build plots
	exits 1 "pictures do"

	machine 0 $all
	run env PATH="$bin" SYSTEM_PATH= VERBS="$have" CC=cc "$sh" tests/deps.sh rxe
	exits 1 "no guest"
	mentions stderr "missing: qemu-system-x86 busybox-static kmod cpio xz-utils iproute2 perftest ibverbs-providers (Debian's names)" "no guest"

	machine 0 $all mpicc mpirun
	deps -v
	exits 0 "-v"
	mentions stdout "found    HDF5" "-v"
	mentions stdout "found    mpirun" "-v"
	mentions stdout "optional clang no , clang-format no , fio no" "-v"
}
deps nonsense
exits 2 "a group that is none"

finish
