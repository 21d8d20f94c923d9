#!/bin/sh
# rxe_validate.t: the model against reality over soft-RoCE: this guest is calibrated, then turns whose
# pages come from a storage node are run by model and in real time. No speeds are judged: how far the
# model is off, and that it is as far off as it was (experiments/validation-rxe.csv). It needs a clock
# that counts instructions: the guest of `run.sh -r`.
#
# KVT_BASELINE=FILE: writes what it measured there, as that file is.
# shellcheck disable=SC2016,SC2154,SC2153  # Perl's variables; RXE_IP1 is run.sh's
. tests/rxe/pair.sh

if [ "${RXE:-}" != guest ] || [ "$(nproc)" -ne 1 ]; then
	skip "the model against reality" "times repeat only in the guest of one processor whose clock counts instructions"
	finish
	exit
fi
baseline=experiments/validation-rxe.csv
tolerance=5 # %, of the ratio measured over model against the baseline's

cat >"$scratch/node.ini" <<END
[node]
listen = $RXE_IP1:7471
pool = 256MiB
[tenant 7]
key = 00112233445566778899aabbccddeeff
capacity = 1GiB
END
"$KVTIER" node "$scratch/node.ini" >"$scratch/node.out" 2>"$scratch/node.err" &
node=$!
tries=0
until grep -q '^listening' "$scratch/node.out" || [ $tries -ge 100 ]; do
	tries=$((tries + 1))
	sleep 0.1
done

run "$KVTIER" calibrate --tier rdma --node "$RXE_IP1:7471" --keys "$scratch/node.ini" --quick \
	--dense l40s --out "$scratch/profile" --format csv
exits 0 "calibrate --tier rdma"
sed -n 's/^\(network\|one-sided\|where\|remote\|beside\)/# &/p' "$scratch/stdout"
[ "$(grep -c '^beside ib_read_' "$scratch/stdout")" -ge 2 ] && ! grep 'not compared' "$scratch/stderr" &&
	grep -q '^# beside ib_read_bw' "$scratch/profile/local-nic.ini"
report $? "perftest read beside it, between the same devices" "$(cat "$scratch/stderr")"
awk -F, '/^one-sided read/ { n++; split($0, says, "model says "); off = says[2] + 0
	if (off < -15 || off > 15) print } END { if (n < 6) print n + 0, "points" }' \
	"$scratch/stdout" >"$scratch/off"
[ ! -s "$scratch/off" ]
report $? "the fit is within 15% of every point" "$(cat "$scratch/off")"

# A guest has too little memory for a 7B model's weights, which are not there either.
sed -i 's/^memory = .*/memory = 64GB/' "$scratch/profile/local-gpu.ini"
{
	echo "include = profile/local.ini"
	sed '/^\[gpu\]/,/^$/d; /^\[storage\]/,/^$/d' experiments/emulation-remote.ini
} >"$scratch/turn.ini"

run "$KVTIER" run "$scratch/turn.ini" --format json
exits 0 "run takes the profile"
json '$j->{ttft_s} > 0 && $j->{bytes}{"remote-dram"} > 0' "a resume from the measured node"

# drift NAME RATIO: how far the ratio is from the baseline's; fails beyond the tolerance.
drift() {
	awk -F, -v name="$1" -v new="$2" -v most=$tolerance '$1 == name { found = 1; off = 100 * (new / $6 - 1)
			printf "measured over model %.4f, the baseline %.4f: %+.1f%%\n", new, $6, off }
		END { exit !found || off > most || off < -most }' "$baseline"
}

# turn NAME [--set SECTION.KEY=VALUE]...
turn() {
	name=$1
	shift
	run "$KVTIER" validate "$scratch/turn.ini" --format csv --set "emulation remote.node=$RXE_IP1:7471" \
		--set "emulation remote.keys=$scratch/node.ini" --set "emulation remote.model=$name" "$@"
	exits 0 "$name: the modelled time to first token is within 15%, and attention exact"
	row=$(grep '^ttft' "$scratch/stdout" | awk -F, -v name="$name" '$6 > 0 {
		printf "%s,%.6f,%.6f,%.6f,%.6f,%.4f\n", name, $3, $4, $5, $6, $3 / $6 }')
	echo "# $row"
	[ -z "${KVT_BASELINE:-}" ] || echo "$row" >>"$KVT_BASELINE"
	said=$(drift "$name" "${row##*,}")
	report $? "$name: measured over model is within $tolerance% of the baseline" "$said"
	echo "# $said"
}
turn plain
turn prompt --set context.tokens=256 --set context.prompt_tokens=4
turn long --set context.tokens=384
turn large-pages --set context.tokens=192 --set model.page_tokens=64
turn windows --set stream.mode=always --set stream.window_tokens=32 --set stream.buffers=3

# What would be noticed: a ratio 6% from the baseline's, either way, and one that is not there.
plain=$(awk -F, '$1 == "plain" { print $6 }' "$baseline")
for ratio in "$(echo "$plain" | awk '{ print $1 * 1.06 }')" "$(echo "$plain" | awk '{ print $1 * 0.94 }')" ""; do
	! drift plain "$ratio" >/dev/null
	report $? "a ratio of ${ratio:-nothing} is noticed"
done

kill -TERM $node
wait $node
report $? "the node ends well" "$(cat "$scratch/node.out" "$scratch/node.err")"
finish
