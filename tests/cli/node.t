#!/bin/sh
# node.t: kvtier node where it refuses its configuration, and where there is no RDMA device. What it
# does with one is tests/rxe/rxe_node.t's.
. tests/cli/lib.sh

example=experiments/nodes/two-tenants.ini
run "$KVTIER" help node
exits 0 "help node"
mentions stdout "  smallest_page  of pages that are taken" "help node has the keys of [node]"
mentions stdout "  bandwidth    bytes a second" "help node has the keys of [tenant N]"
mentions stdout "  queue_depth   commands at the device" "help node has the keys of [store]"

# What is not taken, by key.
expects() {
	key=$1
	value=$2
	message=$3
	refuses 2 "kvtier: --set $key: $message" "$KVTIER" node "$example" --set "$key=$value"
}
place='is no place for metrics, expected unix:/PATH or a port of the loopback, like 127.0.0.1:9400 or [::1]:9400'
expects node.listen 10.0.0.1 '"10.0.0.1" is no address and port, expected one like 10.0.0.1:7471 or [fd00::1]:7471'
expects node.listen 'host:1' '"host:1" is no address and port, expected one like 10.0.0.1:7471 or [fd00::1]:7471'
expects node.listen '10.0.0.1:65536' '"10.0.0.1:65536" is no address and port, expected one like 10.0.0.1:7471 or [fd00::1]:7471'
expects node.metrics 10.0.0.1:9400 "\"10.0.0.1:9400\" $place"
expects node.metrics 0.0.0.0:9400 "\"0.0.0.0:9400\" $place"
expects node.metrics '[fd00::1]:9400' "\"[fd00::1]:9400\" $place"
expects node.metrics 127.0.0.1 "\"127.0.0.1\" $place"
expects node.metrics unix:metrics '"unix:metrics": expected a path from the root of at most 107 bytes'
expects node.slab 5000B '5000 bytes, expected a multiple of 4KiB'
expects node.pool 1MiB '1048576 bytes, expected one slab of 4194304 at least'
expects node.pol 1MiB 'unknown key, did you mean "pool"?'
expects store.sync all '"all" is not known, expected one of none, data'
expects 'tenant 1.key' 00 'is no key, expected 32 hexadecimal digits'
expects 'tenant 1.key' 000102030405060708090a0b0c0d0e0g 'is no key, expected 32 hexadecimal digits'
expects 'tenant 2.held' 1MiB '1048576 bytes, expected one slab of 4194304 at least'
refuses 2 'kvtier: --set tenant one: expected a tenant'"'"'s number, like [tenant 1]' \
	"$KVTIER" node "$example" --set 'tenant one.key=00'

printf '[node]\nlisten = 127.0.0.1:0\n' >"$scratch/none.ini"
refuses 2 "kvtier: $scratch/none.ini: there is no tenant, expected a section [tenant N] at least" \
	"$KVTIER" node "$scratch/none.ini"
printf '[node]\nlisten = 127.0.0.1:0\n[tenant 1]\nkey = 000102030405060708090a0b0c0d0e0f\ncapacity = 1GB\n' >"$scratch/one.ini"
printf '[tenant 01]\nkey = 000102030405060708090a0b0c0d0e0f\ncapacity = 1GB\n' |
	cat "$scratch/one.ini" - >"$scratch/twice.ini"
refuses 2 "kvtier: $scratch/twice.ini:6: [tenant 01]: tenant 1 is there twice, expected each once" \
	"$KVTIER" node "$scratch/twice.ini"
refuses 2 "kvtier: $scratch/nothing.ini: cannot read the file: No such file or directory" "$KVTIER" node "$scratch/nothing.ini"

# Nothing is made, and no key is ever shown, where it cannot run.
if [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
	run "$KVTIER" node "$example" --set store.path="$scratch/pages"
	exits 1 "a machine without an RDMA device"
	mentions stderr "kvtier: this machine has no RDMA device" "a machine without an RDMA device"
	prints stdout "" "a machine without an RDMA device"
	[ "$(wc -l <"$scratch/stderr")" -eq 1 ] && [ ! -e "$scratch/pages" ]
	report $? "it says so in one line, and leaves nothing behind"
else
	skip "a machine without an RDMA device" "this one has some"
fi

finish
