#!/bin/sh
# install.t: make install puts the command and its data under DESTDIR and PREFIX, whence it works
# without the source tree, and make uninstall takes all of it away.
. tests/cli/lib.sh

BUILD=${BUILD:-build}
root=$scratch/root
prefix=$(cat "$BUILD/prefix")
# The variables that this build was made with are in MAKEFLAGS when make runs this.
make_quietly() {
	run "${MAKE:-make}" BUILD="$BUILD" DESTDIR="$root" "$@"
}

make_quietly install
exits 0 "make install"
installed=$root$prefix/bin/kvtier
[ -x "$installed" ]
report $? "the command is there"
for file in LICENSE models/gpu/l40s.ini experiments/claims.csv experiments/qwen-1m.ini plots/style.gp traces/samples/README.md; do
	[ -s "$root$prefix/share/kvtier/$file" ]
	report $? "$file is there"
done
[ -z "$(find "$root" -name '*.[choda]')" ]
report $? "no sources or objects are" "$(find "$root" -name '*.[choda]')"

(cd / && "$installed" tables --format json) >"$scratch/elsewhere" 2>"$scratch/stderr"
report $? "it works from elsewhere" "$(cat "$scratch/stderr")"
"$KVTIER" tables --format json | cmp -s - "$scratch/elsewhere"
report $? "it finds the same data"
run "$installed" run "$root$prefix/share/kvtier/experiments/qwen-1m.ini" --format json
exits 0 "an installed experiment runs"

make_quietly uninstall
exits 0 "make uninstall"
[ -z "$(find "$root" -type f)" ]
report $? "nothing is left" "$(find "$root" -type f)"

finish
