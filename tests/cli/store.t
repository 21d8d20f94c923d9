#!/bin/sh
# store.t: kvtier store create, info, check and gc, on a store of the first version, a damaged one and
# what is none.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

run "$KVTIER" store --help
exits 0 "store --help"
mentions stdout "store gc PATH" "store --help"
for action in create info check gc; do
	run "$KVTIER" store $action --help
	exits 0 "store $action --help"
	mentions stdout "kvtier store $action [" "store $action --help"
done

new=$scratch/new
run "$KVTIER" store create "$new" --capacity 64MiB --segment 2MiB --sync data
exits 0 "create"
prints stdout "" "create"
prints stderr "" "create"
run "$KVTIER" store info "$new" --format json
exits 0 "info"
json '$j->{schema} eq "kvtier.store-info/1" && $j->{sync} eq "data" && $j->{bytes}{capacity} == 64 << 20 &&
	$j->{bytes}{segment} == 2 << 20 && $j->{count}{segments} == 0' "info of a new store"
refuses 2 "kvtier: $new: is a page store already" "$KVTIER" store create "$new" --capacity 64MiB
refuses 2 'kvtier: --capacity: is missing, expected a size with a unit, like 64KiB or 48GB' \
	"$KVTIER" store create "$scratch/other"
refuses 2 "kvtier: $scratch/other: a capacity of 1048576 bytes, expected room for four segments of 1048576 and 143360 beside them" \
	"$KVTIER" store create "$scratch/other" --capacity 1MiB
refuses 2 'kvtier: --sync: "all" is not known, expected one of none, data' \
	"$KVTIER" store create "$scratch/other" --capacity 64MiB --sync all
mkdir "$scratch/full"
: >"$scratch/full/file"
refuses 2 "kvtier: $scratch/full: is not empty, expected a new or an empty directory" \
	"$KVTIER" store create "$scratch/full" --capacity 64MiB
refuses 2 "kvtier: $scratch/full: is not a page store, expected a directory made by \`kvtier store create\`" \
	"$KVTIER" store check "$scratch/full"
refuses 2 "kvtier: $scratch/nothing: cannot be opened: No such file or directory" \
	"$KVTIER" store gc "$scratch/nothing"

# A file of fixed length stands for a block device.
device=$scratch/device
truncate -s 16MiB "$device"
run "$KVTIER" store create "$device" --segment 1MiB --sync data
exits 0 "create on a device"
run "$KVTIER" store info "$device" --format json
exits 0 "info of a device"
json '$j->{bytes}{capacity} > 14 << 20 && $j->{bytes}{capacity} <= 16 << 20 && $j->{count}{segments} == 0' \
	"a store has all of its device"
refuses 2 "kvtier: $device: is a page store already" "$KVTIER" store create "$device"
run "$KVTIER" store create "$device" --segment 1MiB --capacity 8MiB --overwrite
exits 0 "create --overwrite"
run "$KVTIER" store check "$device"
exits 0 "check of a device"
run "$KVTIER" store gc "$device"
exits 0 "gc of a device"
truncate -s 0 "$device"
truncate -s 16MiB "$device"
printf 'S\357' | dd of="$device" bs=1 seek=1080 conv=notrunc 2>/dev/null
refuses 2 "kvtier: $device: holds something: its first and last MiB are not all zeros, expected an empty device, or to be told to overwrite it" \
	"$KVTIER" store create "$device"
refuses 2 "kvtier: $device: holds no page store, or its superblock is damaged, expected a device made one by \`kvtier store create\`" \
	"$KVTIER" store info "$device"
refuses 2 "kvtier: $scratch/other: only devices are overwritten, expected a new or an empty directory" \
	"$KVTIER" store create "$scratch/other" --capacity 64MiB --overwrite

cp -R tests/golden/store "$scratch/golden"
chmod -R u+w "$scratch/golden"
golden=$scratch/golden
run "$KVTIER" store check "$golden" --format json
exits 0 "check"
prints stderr "" "check"
json '$j->{records} == 4 && $j->{pages} == 7 && $j->{bad_pages} == 0 && $j->{torn_records} == 0' "check of a sound store"
run "$KVTIER" store info "$golden"
mentions stdout "count.pages                   4" "info as a table"
run "$KVTIER" store info "$golden" --segments --format csv
prints stdout 'number,bytes,pages,live_pages,page_bytes,live_page_bytes,sealed,damaged
1,45056,7,4,7000,4000,true,false' "info --segments"
for file in "$golden"/*; do
	cmp -s "$file" "tests/golden/store/${file##*/}"
	report $? "looking changes nothing: ${file##*/}"
done

# A page and the index are changed.
printf 'X' | dd of="$golden/0000000000000001.segment" bs=1 seek=8500 conv=notrunc 2>/dev/null
run "$KVTIER" store check "$golden" --format json
exits 1 "check of a changed page"
json '$j->{bad_pages} == 1 && $j->{bad_records} == 0' "check counts the changed page"
prints stderr "kvtier: segment 1, record at 4096 (tenant 0, context 1, layer 0, pages 0-2): 1 of 3 pages are wrong
kvtier: $golden: 0 segments, 0 records and 1 pages are not as they were written" "check of a changed page"
printf 'X' | dd of="$golden/0000000000000001.segment" bs=1 seek=41100 conv=notrunc 2>/dev/null
run "$KVTIER" store check "$golden" --format json
exits 1 "check of a changed index"
json '$j->{bad_segments} == 1 && $j->{torn_records} == 1 && $j->{records} == 3' "check counts the changed index"

run "$KVTIER" store gc "$golden" --format json
exits 0 "gc"
json '$j->{freed} > 0 && $j->{used} < 300000' "gc frees"
run "$KVTIER" store check "$golden" --format json
exits 0 "check after gc"
json '$j->{pages} == 1 && $j->{bad_pages} == 0' "what was sound is there after gc"

finish
