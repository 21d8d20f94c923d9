#!/bin/sh
# calibrate.t: kvtier calibrate: the files it writes load, run takes them, a record gives the same
# files again, and bad input is refused. How fast anything is does not matter here.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

run "$KVTIER" calibrate --quick --store "$scratch" --out "$scratch/profile" --name here --format json
exits 0 "calibrate --quick"
json '$j->{schema} eq "kvtier.calibration/1" && $j->{name} eq "here"' "the record is printed"
json '!grep { !($_->{low} > 0 && $_->{low} <= $_->{value} && $_->{value} <= $_->{high}) } @{$j->{drive}}, values %{$j->{host}}' \
	"every figure lies between its least and its largest"
json '(grep { $_->{op} eq "read" } @{$j->{drive}}) >= 8 && (grep { $_->{op} eq "write" } @{$j->{drive}}) >= 8' \
	"reads and writes by size and depth"
for file in here.json here.ini here-drive.ini here-host.ini here-gpu.ini here-attention.csv here-attention.table; do
	[ -s "$scratch/profile/$file" ]
	report $? "it wrote $file"
done
[ -z "$(find "$scratch" -maxdepth 1 -name 'kvtier-calibrate-*')" ]
report $? "the test file is gone"

cat >"$scratch/turn.ini" <<END
include = profile/here.ini

[experiment]
kind = resume

[model]
name = qwen2.5-7b-instruct-1m

[gpu]
memory_share = 100%

[context]
tokens = 4K
output_tokens = 2
END
# A machine of little memory holds no 7B model: what is to be seen is that the profile is taken.
sed -i 's/^memory = .*/memory = 64GB/' "$scratch/profile/here-gpu.ini"
run "$KVTIER" run "$scratch/turn.ini" --format json
exits 0 "run takes the profile"
json '$j->{ttft_s} > 0 && $j->{bytes}{nvme} > 0' "a resume from the measured drive"
run "$KVTIER" models show "$scratch/profile/here-drive.ini"
exits 0 "models show of the drive"

# The same record gives the same files.
mkdir "$scratch/second"
run "$KVTIER" calibrate --from "$scratch/profile/here.json" --out "$scratch/second" --format csv
exits 0 "calibrate --from"
mentions stdout "drive reads,bandwidth," "a CSV of figures"
for file in here.json here-drive.ini here-host.ini here-attention.csv here-attention.table; do
	cmp -s "$scratch/profile/$file" "$scratch/second/$file"
	report $? "$file is the same again"
done

run "$KVTIER" calibrate --from "$scratch/profile/here.json" --out "$scratch/dense" --dense l40s
exits 0 "calibrate --dense"
grep -q '^flops_bf16 = 362.05' "$scratch/dense/here-gpu.ini" && grep -q '^gemm_table = /' "$scratch/dense/here-gpu.ini"
report $? "the device has the matrix products of the GPU"
cmp -s "$scratch/dense/here-attention.table" "$scratch/second/here-attention.table"
report $? "and its own attention"
refuses 2 "$("$KVTIER" models show nothing/of-this.ini 2>&1 >/dev/null)" \
	"$KVTIER" calibrate --from "$scratch/profile/here.json" --out "$scratch/dense" --dense nothing/of-this.ini

sed 's|kvtier.calibration/1|kvtier.calibration/0|' "$scratch/profile/here.json" >"$scratch/old.json"
refuses 2 "kvtier: $scratch/old.json: schema \"kvtier.calibration/0\" is of another version, expected kvtier.calibration/1: measure again with \"kvtier calibrate\"" \
	"$KVTIER" calibrate --from "$scratch/old.json"
refuses 2 "kvtier: $scratch/turn.ini:1: not JSON: '[' or '{' expected near 'include'" \
	"$KVTIER" calibrate --from "$scratch/turn.ini"
refuses 2 'kvtier: calibrate: --name "a/b": expected letters, digits, . _ - and no path' \
	"$KVTIER" calibrate --name a/b
refuses 2 "kvtier: calibrate: --from reads a record, expected no --device, no --store, no --tier and no --quick beside it" \
	"$KVTIER" calibrate --quick --from "$scratch/profile/here.json"
refuses 2 'kvtier: calibrate: --device "tpu": expected cpu or cuda' "$KVTIER" calibrate --device tpu
refuses 2 'kvtier: calibrate: --tier "tape": expected store or rdma' "$KVTIER" calibrate --tier tape
refuses 2 "kvtier: calibrate: --tier rdma: expected --node HOST:PORT and --keys FILE, and no --store" \
	"$KVTIER" calibrate --tier rdma --node 10.0.0.1:7471
refuses 2 "kvtier: calibrate: --node and --keys: expected --tier rdma beside them" \
	"$KVTIER" calibrate --node 10.0.0.1:7471
refuses 1 "kvtier: calibrate: \"/nonexistent\": cannot make a test file: No such file or directory, expected a folder to write to" \
	"$KVTIER" calibrate --store /nonexistent

finish
