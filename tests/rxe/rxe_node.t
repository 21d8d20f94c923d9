#!/bin/sh
# rxe_node.t: kvtier node at one end of the wire, its store on an NVMe drive, clients at the other:
# killed under load again and again, ended well, asked for metrics; tenants that try each other's keys.
# shellcheck disable=SC2154,SC2153  # RXE_IP1 is run.sh's
. tests/rxe/pair.sh
. tests/rxe/node.sh

clients=${BUILD:-build}/tests/test_node_verbs
export KVT_NODE_IP="$RXE_IP1" KVT_NODE_PORT=7471 KVT_NODE_STATE="$scratch/state" KVT_NODE_BUSY="$scratch/busy"

make_drive
cat >"$scratch/node.ini" <<END
[node]
listen = $RXE_IP1:7471
metrics = unix:$scratch/metrics
pool = 128KiB
slab = 64KiB
lease = 300ms
drain = 20s
[store]
path = $pages
capacity = 64MiB
segment = 2MiB
[tenant 1]
key = 01010101010101010101010101010101
capacity = 32MiB
held = 128KiB
[tenant 2]
key = 02020202020202020202020202020202
capacity = 16MiB
held = 128KiB
END

# client TEST NAME: a test of the clients' program passes; what it says is shown.
client() {
	run timeout 60 "$clients" -p "/node-verbs/$1"
	passed "$2"
}
passed() {
	[ "$status" -eq 0 ] && grep -q '^ok 1 [^#]*$' "$scratch/stdout"
	report $? "$1" "exit status $status; $(cat "$scratch/stdout" "$scratch/stderr" "$scratch/node.err")"
	sed -n 's/^# \(.* are as they\|.* were acknowledged\)/# \1/p' "$scratch/stdout"
}

# load: clients write until the node goes, in the background; waits until writes are acknowledged.
load() {
	rm -f "$KVT_NODE_BUSY"
	timeout 60 "$clients" -p /node-verbs/load >"$scratch/load.out" 2>&1 &
	load=$!
	within 20 test -e "$KVT_NODE_BUSY" || ! cat "$scratch/load.out" >&2
}
load_ends() {
	wait $load
	status=$?
	cp "$scratch/load.out" "$scratch/stdout"
	: >"$scratch/stderr"
	passed "$1"
}

start_node
node_listens
report $? "the node listens, and says so"
client isolation "another tenant's pages, key of memory and secret are of no use"
client stale "a lease that has run out opens nothing once its memory is used again"

round=1
begin=$(date +%s)
while [ $round -le 10 ]; do
	load
	sleep 0.$((round % 4))
	kill -9 $node
	wait $node 2>/dev/null
	start_node
	load_ends "kill -9, $round: all was there, and writes were acknowledged until then"
	node_listens || report 1 "the node starts again"
	round=$((round + 1))
done
echo "# ten rounds took $(($(date +%s) - begin)) s"
client verify "what was acknowledged before the last kill is there"

# Metrics, with a client connected and without.
ask_metrics() {
	perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\n";
		print $s "GET /metrics HTTP/1.1\r\n\r\n"; print while <$s>' "$scratch/metrics"
}
run ask_metrics
exits 0 "GET /metrics"
mentions stdout "HTTP/1.1 200 OK" "GET /metrics"
for metric in 'requests_total{tenant="1",request="fetch"}' 'connections{tenant="1"} 0' \
	'errors_total{tenant="2",cause="missing"} 0' 'used_bytes{tenant="1"}' 'slabs 2' \
	'request_seconds_bucket{request="fetch",le="+Inf"}'; do
	mentions stdout "kvtier_node_$metric" "metrics"
done
! grep -q 0101010101 "$scratch/stdout"
report $? "metrics hold no key"

# Ended well under load: what is under way is finished, and the exit status is 0.
load
kill -TERM $node
wait $node
status=$?
cp "$scratch/node.err" "$scratch/stderr"
exits 0 "SIGTERM under load"
mentions stderr "kvtier: draining" "SIGTERM under load"
load_ends "SIGTERM: clients lose nothing that was acknowledged"
[ ! -e "$scratch/metrics" ]
report $? "the socket for metrics is gone"
start_node
node_listens
client verify "all is there after a good end"
kill -TERM $node
wait $node
status=$?
exits 0 "SIGTERM without clients"
run "$KVTIER" store check "$pages"
exits 0 "the store is sound"

empty_drive
finish
