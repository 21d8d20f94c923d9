#!/bin/sh
# sweep.t: kvtier sweep: the same bytes from one thread, several and several ranks; kills; points that
# fail; what it prints, and one clear line for each bad input.
# shellcheck disable=SC2016,SC2086  # Perl's variables, not the shell's; options are words
. tests/cli/lib.sh

experiment=experiments/qwen-1m.ini
grid="--over fabric.nics=1,2,4 --over context.tokens=10K..1M:8:log"

# What HDF5's own tool reads: the values of a dataset, or of an attribute, a line each.
values() {
	h5dump -y -w 1 "$@" 2>/dev/null | sed -n 's/^ *"\{0,1\}\([^"{}]*[^",{} ]\)"\{0,1\},\{0,1\}$/\1/p' |
		grep -vE '^(HDF5|DATASET|DATATYPE|DATASPACE|DATA|ATTRIBUTE|STRSIZE|STRPAD|CSET|CTYPE|H5T)'
}

run "$KVTIER" sweep $experiment $grid --format csv
exits 0 "a grid"
[ "$(wc -l <"$scratch/stdout")" -eq 25 ] && [ "$(cut -d , -f 1,2 "$scratch/stdout" | sed -n '2p;25p' | xargs)" = "1,10000 4,1000000" ]
report $? "a row a point, the first key slowest" "$(cut -d , -f 1,2 "$scratch/stdout")"
cp "$scratch/stdout" "$scratch/grid.csv"
run "$KVTIER" run $experiment --set fabric.nics=2 --set context.tokens=10K --format json
json 'open my $f, "<", "'"$scratch/grid.csv"'"; my @names = split /,/, <$f>; my %row;
	while (<$f>) { my %r; @r{@names} = split /,/; %row = %r if $r{"fabric.nics"} == 2 && $r{"context.tokens"} == 10000 }
	push @why, map { "$_ $row{$_}" } qw(ttft_s stages.loading_s cold.ttft_s);
	$row{ttft_s} == $j->{ttft_s} && $row{"stages.loading_s"} == $j->{stages}{loading_s} &&
	$row{"cold.ttft_s"} == $j->{cold}{ttft_s} && $row{"bytes.remote-nvme"} == $j->{bytes}{"remote-nvme"}' \
	"a point has what kvtier run says of it"
run "$KVTIER" sweep $experiment $grid
exits 0 "as a table"
grep -qE '^fabric.nics +context.tokens +ttft_s ' "$scratch/stdout" && grep -qE '^ +4 +1000000 ' "$scratch/stdout"
report $? "the table has keys and first figures" "$(cat "$scratch/stdout")"

# One file, the same bytes however it was run.
for threads in 1 2 7; do
	run "$KVTIER" sweep $experiment $grid --out "$scratch/t$threads.h5" --threads $threads
	exits 0 "$threads threads"
	cmp -s "$scratch/t1.h5" "$scratch/t$threads.h5"
	report $? "$threads threads: the same bytes as one"
done
[ ! -e "$scratch/t1.h5.journal" ]
report $? "the journal is gone"
mentions stdout "24 points in $scratch/t7.h5" "a summary"
run "$KVTIER" sweep $experiment $grid --out "$scratch/t1.h5" --format json
exits 0 "a sweep that is there already"
json '$j->{points} == 24 && $j->{done} == 24 && $j->{failed} == 0 && @{$j->{axes}} == 2' "its counts"
json 'my ($f) = grep { $_->{name} eq "ttft_s" } @{$j->{figures}};
	$f->{units} eq "s" && $f->{least} < $f->{median} && $f->{median} < $f->{largest} && $f->{largest_at} == 7' \
	"its figures, and where they are extreme"

if command -v h5dump >/dev/null; then
	[ "$(values -d /parameters/fabric.nics "$scratch/t1.h5" | uniq -c | awk '{ printf "%s*%s ", $2, $1 }')" = "1*8 2*8 4*8 " ]
	report $? "HDF5: a key is a column" "$(values -d /parameters/fabric.nics "$scratch/t1.h5")"
	cut -d , -f 3 "$scratch/grid.csv" | sed 1d >"$scratch/expected"
	h5dump -y -w 1 -m '%.17g' -d /metrics/ttft_s "$scratch/t1.h5" | sed -n 's/^ *\([0-9.e+-]*\),\{0,1\}$/\1/p' >"$scratch/read"
	paste "$scratch/expected" "$scratch/read" | awk '$1 != $2 || NF != 2 { bad = 1 } END { exit bad || NR != 24 }'
	report $? "HDF5: a figure is a column" "$(paste "$scratch/expected" "$scratch/read")"
	[ "$(values -a /metrics/ttft_s/units "$scratch/t1.h5")" = s ] && [ "$(values -a /schema "$scratch/t1.h5")" = kvtier.sweep/1 ]
	report $? "HDF5: units and schema" "$(h5dump -a /schema "$scratch/t1.h5")"
	h5dump -a /experiment "$scratch/t1.h5" | grep -qF 'name = qwen2.5-7b-instruct-1m'
	report $? "HDF5: the experiment's text, included files among it"
else
	skip "HDF5: columns" "there is no h5dump"
fi

# Points that fail: with their reason, beside those that do not.
failing="--over gpu.name=l40s,l40x,h100-sxm --over gpu.count=2,4"
run "$KVTIER" sweep $experiment $failing --out "$scratch/f.h5" --format json
exits 1 "points that fail"
prints stderr 'kvtier: 2 of 6 points failed, the first (gpu.name=l40x gpu.count=2): "l40x" is no gpu model, did you mean "l40s"?' \
	"points that fail"
json '$j->{done} == 6 && $j->{failed} == 2 && (grep { $_->{name} eq "ttft_s" } @{$j->{figures}})[0]{points} == 4' \
	"the others are not lost"
run "$KVTIER" sweep $experiment $failing --format csv
awk -F , 'NR > 1 && ($1 == "l40x") != (/is no gpu model/) { bad = 1 } END { exit bad || NR != 7 }' "$scratch/stdout"
report $? "a failed point has its reason in its row" "$(cat "$scratch/stdout")"

# Killed at any time, the file opens and the same command ends with the same bytes.
many="--over context.tokens=10K..1M:400:log --over fabric.nics=1,2"
run "$KVTIER" sweep $experiment $many --out "$scratch/whole.h5" --threads 2
went_on=no
for pause in 0.02 0.1 0.2 0.3 0.4; do
	"$KVTIER" sweep $experiment $many --out "$scratch/killed.h5" --threads 2 >/dev/null 2>"$scratch/stderr" &
	victim=$!
	sleep $pause
	kill -9 $victim 2>/dev/null
	wait $victim 2>/dev/null
	grep -q 'are there already' "$scratch/stderr" && went_on=yes
	[ ! -e "$scratch/killed.h5" ] || h5dump -H "$scratch/killed.h5" >/dev/null 2>&1 || ! command -v h5dump >/dev/null
	report $? "killed after $pause s: the file opens"
done
run "$KVTIER" sweep $experiment $many --out "$scratch/killed.h5" --threads 2
exits 0 "after kills"
grep -q 'are there already' "$scratch/stderr" && went_on=yes
if [ $went_on = yes ] || [ ! -s "$scratch/stderr" ]; then
	cmp -s "$scratch/killed.h5" "$scratch/whole.h5"
	report $? "after kills: the same bytes"
else
	report 1 "after kills: it went on from the journal" "$(cat "$scratch/stderr")"
fi
"$KVTIER" sweep $experiment $many --out "$scratch/stopped.h5" --threads 1 >/dev/null 2>"$scratch/stderr" &
victim=$!
sleep 0.3
kill -TERM $victim 2>/dev/null
wait $victim
status=$?
if [ $status -eq 0 ]; then
	skip "stopped by TERM" "it had ended before"
else
	mentions stderr "the same command goes on from there" "stopped by TERM"
fi

# Several ranks.
mpi() {
	OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe "$@"
}
module=$(dirname "$KVTIER")/kvtier-mpi.so
if [ "${SANITIZE:-0}" != 0 ]; then
	skip "mpirun -n 2" "MPI keeps memory that sanitizers take for lost"
elif ! command -v mpirun >/dev/null; then
	skip "mpirun -n 2" "there is no mpirun"
elif [ ! -e "$module" ]; then
	skip "mpirun -n 2" "kvtier was built without MPI"
else
	for ranks in 2 3; do
		run mpi -n $ranks "$KVTIER" sweep $experiment $grid --out "$scratch/m$ranks.h5"
		exits 0 "mpirun -n $ranks"
		cmp -s "$scratch/t1.h5" "$scratch/m$ranks.h5"
		report $? "mpirun -n $ranks: the same bytes as one thread"
		[ "$(grep -c 'points in' "$scratch/stdout")" -eq 1 ]
		report $? "mpirun -n $ranks: one rank prints" "$(cat "$scratch/stdout")"
	done
	run mpi -n 2 "$KVTIER" sweep $experiment $grid --out "$scratch/timed.h5" --timings --threads 2
	exits 0 "mpirun -n 2 with threads"
	if command -v h5dump >/dev/null; then
		[ "$(h5dump -y -w 1 -d /timing/worker "$scratch/timed.h5" | sed -n 's/^ *\([0-9]*\),\{0,1\}$/\1/p' | sort -u | wc -l)" -ge 2 ]
		report $? "mpirun -n 2: points ran on several workers"
	fi
	run mpi -n 2 "$KVTIER" sweep $experiment --over gpu.cuont=1
	exits 2 "mpirun -n 2, a bad key"
	[ "$(grep -c '^kvtier: ' "$scratch/stderr")" -eq 1 ]
	report $? "mpirun -n 2, a bad key: said once" "$(cat "$scratch/stderr")"
	run mpi -n 2 "$KVTIER" sweep $experiment $failing --out "$scratch/mf.h5"
	exits 1 "mpirun -n 2, points that fail"
	cmp -s "$scratch/f.h5" "$scratch/mf.h5"
	report $? "mpirun -n 2, points that fail: the same bytes"
fi
cp "$KVTIER" "$scratch/kvtier-alone"
refuses 1 "kvtier: kvtier was started as several processes (mpirun) but built without MPI: install libopenmpi-dev and build it again, or start it once, with --threads" \
	env KVTIER_DATADIR="$PWD" OMPI_COMM_WORLD_SIZE=2 "$scratch/kvtier-alone" sweep $experiment $grid

# Samples: as many points as asked for, the same ones each time, others with another seed.
sample="--over context.tokens=10K..1M:log --over fabric.nics=1,2 --over context.stored=50%..100%"
run "$KVTIER" sweep $experiment $sample --sample 40 --format csv
exits 0 "a sample"
awk -F , 'NR > 1 { n[$2]++; if ($1 < 1e4 || $1 > 1e6 || $3 < .5 || $3 > 1) bad = 1 } END { exit bad || n[1] != 20 || n[2] != 20 }' "$scratch/stdout"
report $? "a sample: within the ranges, lists in equal parts" "$(cut -d , -f 1-3 "$scratch/stdout")"
cp "$scratch/stdout" "$scratch/sample.csv"
run "$KVTIER" sweep $experiment $sample --sample 40 --format csv --threads 1
cmp -s "$scratch/stdout" "$scratch/sample.csv"
report $? "a sample: the same again"
run "$KVTIER" sweep $experiment $sample --sample 40 --seed 2 --format csv
! cmp -s "$scratch/stdout" "$scratch/sample.csv"
report $? "a sample: another seed"
printf 'include = %s\n[sweep]\ncontext.tokens = 10K..1M:log\nfabric.nics = 1,2\ncontext.stored = 50%%..100%%\nsample = 40\n' \
	"$PWD/$experiment" >"$scratch/sweep.ini"
run "$KVTIER" sweep "$scratch/sweep.ini" --format csv
cmp -s "$scratch/stdout" "$scratch/sample.csv"
report $? "a sweep that the file describes"
run "$KVTIER" run "$scratch/sweep.ini"
exits 0 "kvtier run takes such a file, too"
run "$KVTIER" sweep experiments/qwen-lengths.ini --format csv
[ "$(cut -d , -f 1 "$scratch/stdout" | sed -n '1p;2p;$p' | xargs)" = "context.tokens 10000 1000000" ]
report $? "the lengths of a curve are a sweep"
run "$KVTIER" sweep experiments/yi-34b-a100.ini --over context.tokens=10K,50K --format csv
exits 0 "a closed-form analysis"

# A fleet: keys of its own, of the experiment's sections and of [tier NAME].
fleet="experiments/fleet-mooncake.ini --set traffic.requests=40 --over fleet.replicas=1,2"
run "$KVTIER" sweep $fleet --over "tier dram.capacity=100GB,400GB" --over gpu.memory_share=80%,90% --out "$scratch/fleet1.h5" --threads 1
exits 0 "a fleet"
run "$KVTIER" sweep $fleet --over "tier dram.capacity=100GB,400GB" --over gpu.memory_share=80%,90% --out "$scratch/fleet2.h5" --threads 2
cmp -s "$scratch/fleet1.h5" "$scratch/fleet2.h5"
report $? "a fleet: the same bytes"
run "$KVTIER" sweep $fleet --format csv
ttft=$(sed -n 3p "$scratch/stdout" | cut -d , -f 2)
run "$KVTIER" fleet experiments/fleet-mooncake.ini --set traffic.requests=40 --set fleet.replicas=2 --format json
json '$j->{ttft}{p50} == '"${ttft:-0}" "a fleet: a point has what kvtier fleet says"

refuses 2 'kvtier: sweep: expected FILE.ini, see "kvtier sweep --help"' "$KVTIER" sweep
refuses 2 'kvtier: nope.ini: cannot read the file: No such file or directory' "$KVTIER" sweep nope.ini --over gpu.count=1
refuses 2 'kvtier: nothing is varied, expected --over section.key=v1,v2,... or a section [sweep] with such keys' \
	"$KVTIER" sweep $experiment
refuses 2 'kvtier: --over gpu.cuont: an experiment has no such key, see "kvtier help experiment"' \
	"$KVTIER" sweep $experiment --over gpu.cuont=1
refuses 2 'kvtier: --over gpu.count: "2.5" is not whole, expected a whole number, like 4, 128 or 400K' \
	"$KVTIER" sweep $experiment --over gpu.count=1,2.5
refuses 2 'kvtier: --sample: 0 points, expected at least one' "$KVTIER" sweep $experiment --over gpu.count=1,2 --sample 0
refuses 2 'kvtier: --method: "sobolev" is not known, expected one of latin, halton' \
	"$KVTIER" sweep $experiment --over gpu.count=1,2 --sample 2 --method sobolev
refuses 2 'kvtier: --threads: 0, expected from 1 to 4096' "$KVTIER" sweep $experiment --over gpu.count=1,2 --threads 0
refuses 2 'kvtier: 200000 points are too many to print, expected --out results.h5' \
	"$KVTIER" sweep $experiment --over context.tokens=10K..1M --sample 200K
refuses 2 "kvtier: $scratch/t1.h5 has the results of another sweep, expected --overwrite or another --out" \
	"$KVTIER" sweep $experiment --over gpu.count=4,8 --out "$scratch/t1.h5"
echo hello >"$scratch/text"
refuses 2 "kvtier: $scratch/text is there and holds no sweep, expected --overwrite or another --out" \
	"$KVTIER" sweep $experiment --over gpu.count=4,8 --out "$scratch/text"
run "$KVTIER" sweep $experiment --over gpu.count=2,4 --out "$scratch/text" --overwrite
exits 0 "--overwrite"
run "$KVTIER" sweep $experiment --over gpu.count=4,8 --out "$scratch/no/such.h5"
exits 1 "a file that cannot be written"
[ "$(wc -l <"$scratch/stderr")" -eq 1 ]
report $? "a file that cannot be written: one line" "$(cat "$scratch/stderr")"

finish
