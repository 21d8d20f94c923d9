#!/bin/sh
# cache.t: `kvtier cache`: miss ratios of block traces in each form, bounds beside them, and what is
# refused.
# shellcheck disable=SC2016  # Perl's variables, not the shell's
. tests/cli/lib.sh

text=$scratch/ids.txt
printf '%s\n' 1 2 3 1 4 1 2 5 1 2 3 1 >"$text"

# Twelve accesses to five blocks, two of which fit, worked out by hand.
run "$KVTIER" cache "$text" --policy lru --size 2 --format json
exits 0 "lru of two blocks"
prints stderr "" "lru of two blocks"
json '$j->{schema} eq "kvtier.cache/1" && $j->{requests} == 12 && $j->{blocks} == 5' "the trace"
json '$j->{misses} == 11 && abs($j->{miss_ratio} - 11 / 12) < 1e-12' "the misses"
json 'abs($j->{compulsory} - 5 / 12) < 1e-12 && abs($j->{belady_miss_ratio} - 8 / 12) < 1e-12' "the bounds"
json '$j->{requests_per_s} > 0 && $j->{reader_requests_per_s} > 0' "rates of engine and reader"
json '@{$j->{results}} == 1 && $j->{results}[0]{policy} eq "lru"' "the same as a list"

run "$KVTIER" cache "$text" --policy lru,fifo,clock,lfu,arc,s3fifo,sieve,belady --size 1,3,100% --format json
exits 0 "every policy at three sizes"
json '@{$j->{results}} == 24 && !exists $j->{miss_ratio}' "a result each"
json '!grep { $_->{misses} < 12 * $_->{belady_miss_ratio} - 1e-9 } @{$j->{results}}' "none misses less than Belady"
json '!grep { $_->{size_blocks} == 5 && $_->{misses} != 5 } @{$j->{results}}' "all that fits is missed once"
json '!grep { abs($_->{byte_hit_ratio} + $_->{byte_miss_ratio} - 1) > 1e-12 } @{$j->{results}}' "hits and misses are all"
run "$KVTIER" cache "$text" --policy lru,arc --size 2,40% --format csv
exits 0 "csv"
[ "$(wc -l <"$scratch/stdout")" -eq 5 ]
report $? "csv: a line a result" "$(cat "$scratch/stdout")"
run "$KVTIER" cache "$text" --size 2
exits 0 "a table of lru"
mentions stdout "0.9167" "a table of lru"

# The same accesses in another form say the same.
run "$KVTIER" cache "$text" --policy lru --size 2 --write "$scratch/ids.bin"
exits 0 "write"
run "$KVTIER" cache "$scratch/ids.bin" --policy lru --size 2 --format json
json '$j->{misses} == 11 && $j->{blocks} == 5 && $j->{bytes} == 12' "oracleGeneral that was written"
run "$KVTIER" cache "$scratch/ids.bin" --input oracle --policy lru --size 2B --format json
json '$j->{misses} == 11 && $j->{size_bytes} == 2' "in bytes"

# Blocks of different sizes.
sized=$scratch/sized.csv
printf '%s\n' id,size a,60 b,50 none,0 a,60 c,40 a,60 big,200 c,40 >"$sized"
run "$KVTIER" cache "$sized" --policy lru,belady --size 100B --format json
exits 0 "by bytes"
json '$j->{empty_requests} == 1 && $j->{requests} == 7' "by bytes: accesses to no bytes are left out"
json '$j->{bytes} == 510 && $j->{results}[0]{misses} == 5 && $j->{results}[0]{too_large} == 1' "by bytes: misses"
json 'abs($j->{results}[0]{byte_miss_ratio} - 410 / 510) < 1e-12' "by bytes: bytes missed"
run "$KVTIER" cache "$sized" --policy lru,arc --size 2 --format json
exits 0 "by number of blocks, whatever their sizes"
run "$KVTIER" cache "$sized" --policy arc --size 300B --ignore-sizes --block-bytes 100B --format json
json '$j->{misses} == 4 && $j->{bytes} == 700' "sizes ignored for another"

# Request traces, and made ones, which are the same each time.
printf '%s\n' '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [4, 9, 11]}' \
	'{"timestamp": 10, "input_length": 600, "output_length": 5, "hash_ids": [4, 8]}' >"$scratch/requests.jsonl"
run "$KVTIER" cache "$scratch/requests.jsonl" --size 4 --format json
json '$j->{requests} == 5 && $j->{blocks} == 4 && $j->{misses} == 4' "blocks of a request trace"
run "$KVTIER" cache traces/samples/requests/agentic --policy lru,belady --size 10% --format json
exits 0 "a folder of agentic traces"
json '$j->{results}[0]{misses} > $j->{results}[1]{misses}' "agentic: Belady misses less"
run "$KVTIER" cache traces/samples/requests/azure-2023-code-1000.csv --size 1
exits 2 "requests without blocks"
mentions stderr "azure-2023-code-1000.csv: says nothing of blocks" "requests without blocks"
for round in 1 2; do
	run "$KVTIER" cache zipf:1.0,1K,20K --policy lru --size 100 --write "$scratch/zipf$round"
	exits 0 "zipf"
done
cmp -s "$scratch/zipf1" "$scratch/zipf2"
report $? "zipf is the same each time"
run "$KVTIER" cache zipf:1.0,1K,20K,2 --size 100 --write "$scratch/zipf2"
cmp -s "$scratch/zipf1" "$scratch/zipf2"
[ $? -eq 1 ]
report $? "another seed is another trace"

# What is wrong is said in one line.
forms="expected a block trace (oracleGeneral of libCacheSim, text of ids, or a request trace)"
refuses 2 "kvtier: --size: is missing, expected sizes such as --size 1K,10%" "$KVTIER" cache "$text"
refuses 2 "kvtier: nothing.txt: No such file or directory, $forms" "$KVTIER" cache nothing.txt --size 1
refuses 2 "kvtier: /dev/null: not a regular file, $forms" "$KVTIER" cache /dev/null --size 1
refuses 2 "kvtier: --policy: attention needs attention's masses, which block traces do not have, expected another policy" \
	"$KVTIER" cache "$text" --size 1 --policy lru,attention
refuses 2 "kvtier: --policy: \"lur\" is not known, did you mean \"lru\"? (one of lru, fifo, clock, lfu, arc, s3fifo, sieve, attention, belady)" \
	"$KVTIER" cache "$text" --size 1 --policy lur
refuses 2 "kvtier: --policy: arc counts blocks and these differ in size, expected --size in blocks or a share, or --ignore-sizes" \
	"$KVTIER" cache "$sized" --size 100B --policy lru,arc
refuses 2 "kvtier: --size: in bytes, but the trace says nothing of blocks' bytes, expected blocks, a share, or --block-bytes" \
	"$KVTIER" cache "$text" --size 100B
refuses 2 "kvtier: --block-bytes: the trace has sizes of its own, expected --ignore-sizes beside it" \
	"$KVTIER" cache "$sized" --size 2 --block-bytes 64KiB
for size in x 0 -1 1.5 '1K,'; do
	refuses 2 "kvtier: --size: $(case $size in 0) echo '0, expected more than nothing' ;; *) echo "\"${size#1K,}\", expected blocks such as 100K, bytes with a unit such as 4GiB, or a share of the distinct blocks such as 10%" ;; esac)" \
		"$KVTIER" cache "$text" --size "$size"
done
refuses 2 "kvtier: zipf: 2 numbers, expected zipf:ALPHA,BLOCKS,ACCESSES or zipf:ALPHA,BLOCKS,ACCESSES,SEED" \
	"$KVTIER" cache zipf:1,5 --size 1
refuses 2 "kvtier: zipf: \"2G\", expected zipf:ALPHA,BLOCKS,ACCESSES or zipf:ALPHA,BLOCKS,ACCESSES,SEED such as zipf:1.0,1M,10M" \
	"$KVTIER" cache zipf:1,5,2G --size 1
refuses 2 "kvtier: --input: \"csv\" is not known, expected one of auto, oracle, text, requests" \
	"$KVTIER" cache "$text" --size 1 --input csv
head -c 100 "$scratch/zipf1" >"$scratch/short"
refuses 2 "kvtier: $scratch/short: 100 bytes, expected records of 24 bytes (oracleGeneral): it is cut short, or of another form" \
	"$KVTIER" cache "$scratch/short" --size 1 --input oracle
refuses 2 "kvtier: $scratch/short: is not known, $forms" "$KVTIER" cache "$scratch/short" --size 1
refuses 1 "kvtier: $scratch/no/out: cannot be created (No such file or directory), expected a writable folder" \
	"$KVTIER" cache "$text" --size 1 --write "$scratch/no/out"

finish
