#!/bin/sh
# rxe_migrate.t: two kvtier nodes, one at either end of the wire: a session leaves its pages at the first
# one, goes on beside the other, which fetches them across the wire and keeps them in its own node, and
# is taken up from there. Sizes are small, and no speeds are judged.
# shellcheck disable=SC2016,SC2154,SC2153  # Perl's variables; RXE_IP0 is run.sh's
. tests/rxe/pair.sh

key=00112233445566778899aabbccddeeff
# node NUMBER ADDRESS PORT: sets $pid.
node() {
	cat >"$scratch/node$1.ini" <<END
[node]
listen = $2:$3
metrics = unix:$scratch/metrics$1
pool = 16MiB
slab = 1MiB
[tenant 0]
key = $key
capacity = 16MiB
END
	"$KVTIER" node "$scratch/node$1.ini" >"$scratch/node$1.out" 2>"$scratch/node$1.err" &
	pid=$!
	within 20 grep -q '^listening' "$scratch/node$1.out"
	report $? "node $1 listens at $2" "$(cat "$scratch/node$1.out" "$scratch/node$1.err")"
}
node 1 "$RXE_IP1" 7491
first=$pid
node 0 "$RXE_IP0" 7490
other=$pid

# bytes NODE: of pages that it holds.
bytes() {
	perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\n";
		print $s "GET /metrics HTTP/1.1\r\n\r\n"; while (<$s>) { print $1 if /^kvtier_node_used_bytes\{tenant="0"\} (\d+)/ }' \
		"$scratch/metrics$1"
}

# 16 pages of 28 layers are 64 tokens.
stored=$((28 * 64 * 2048))
run timeout 100 "$KVTIER" emu experiments/emulation-migrate.ini --format json \
	--set context.tokens=64 --set context.prompt_tokens=2 --set emulation.checks=4 \
	--set emulation.tier=remote --set "emulation remote.node=$RXE_IP1:7491" \
	--set "emulation remote.keys=$scratch/node1.ini" --set "emulation remote.connect=30s" \
	--set "emulation migrate.keep_tier=remote" --set "emulation keep remote.node=$RXE_IP0:7490" \
	--set "emulation keep remote.keys=$scratch/node0.ini" --set "emulation keep remote.connect=30s"
exits 0 "a session moves from node to node"
json 'my $m = $j->{migration}; !grep { !($m->{$_ . "_s"} > 0 && $m->{attention}{$_}{exact}) }
	qw(stay fetch settled recompute)' "it is exact where it was, fetched, from the other node, and recomputed"
json '$j->{kept}{bytes} == '$stored' && $j->{kept}{failed_bytes} == 0 && !$j->{lost}' \
	"what was fetched is kept, and nothing was lost"
perl -MJSON::PP -e 'local $/; my $m = decode_json(<STDIN>)->{migration};
	printf "# to the first token: stayed %.0f ms, fetched %.0f ms, from the other node %.0f ms, recomputed %.0f ms\n",
		map { 1e3 * $m->{$_ . "_s"} } qw(stay fetch settled recompute)' <"$scratch/stdout"
[ "$(bytes 1)" = $stored ] && [ "$(bytes 0)" = $stored ]
report $? "both nodes hold the context" "$(bytes 1), $(bytes 0), expected $stored"

kill -TERM "$first" "$other"
wait "$first"
status=$?
exits 0 "the first node ends well"
wait "$other"
status=$?
exits 0 "the other node ends well"
finish
