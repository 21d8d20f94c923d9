#!/bin/sh
# rxe_devices.t: the two soft-RoCE devices and their wire are as the other tests take them to be.
# shellcheck disable=SC2154  # RXE_IP0 and RXE_IP1
. tests/rxe/pair.sh

# hex ADDRESS: as the second half of a GID has it.
hex() {
	echo "$1" | awk -F . '{ printf "0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x", $1, $2, $3, $4 }'
}

for n in 0 1; do
	device=/sys/class/infiniband/rxe$n
	[ -d "$device" ]
	report $? "rxe$n is there"
	[ "$(port_state rxe$n)" = "4: ACTIVE" ]
	report $? "rxe$n is active" "$(port_state rxe$n)"
	[ "$(cat $device/ports/1/gid_attrs/ndevs/1)" = v$n ]
	report $? "rxe$n is at the end v$n of the wire" "$(cat $device/ports/1/gid_attrs/ndevs/1)"
	address=$RXE_IP0
	[ $n = 0 ] || address=$RXE_IP1
	[ "$(cat $device/ports/1/gids/1)" = "$(hex "$address")" ]
	report $? "rxe$n: its second GID is $address" "$(cat $device/ports/1/gids/1)"
	[ -c /dev/infiniband/uverbs$n ]
	report $? "rxe$n can be opened by programs"
done
[ -c /dev/infiniband/rdma_cm ]
report $? "there is a connection manager"

wire down 1
comes_to "1: DOWN" rxe0 rxe1
report $? "with an end down no port is active" "$(port_state rxe0), $(port_state rxe1)"
wire up 1
comes_to "4: ACTIVE" rxe0 rxe1
report $? "with it up again both are" "$(port_state rxe0), $(port_state rxe1)"
completes ib_read_bw 4096 20 "what went down carries reads again"
run wire sideways
exits 2 "a fault that is none"

finish
