#!/bin/sh
# wire.sh: two soft-RoCE devices at the ends of a wire, rxe0 on v0 (10.77.0.1, fd77::1) and rxe1 on
# v1 (10.77.0.2, fd77::2), and faults on it. For root; run.sh and guest_main.sh make it.
#
# Usage: wire.sh make | remove | netem ARGUMENT... | cut | clear | down 0|1 | up 0|1 | dropped
#   netem    of tc-netem, both ways: loss 1%, delay 1ms, duplicate 1%, reorder 25% delay 1ms
#   cut      nothing passes, and nobody is told; clear: no faults any more
#   down     an end's link goes down: its port, and the other's, leave ACTIVE
#   dropped  prints how many packets netem has dropped
set -u
PATH=$PATH:/usr/sbin:/sbin
state=/run/kvtier-rxe

# Both ends live in the first network namespace: rxe of Linux 6.1 opens its socket there alone. The
# rules 20 and 21 make packets between two addresses of one machine take the wire, 10 and 11 deliver
# them at its other end. 4200 leaves room for RoCE's MTU of 4096.
make_link() {
	ip -force -batch - <<END
link set lo up
link add v0 address 02:00:00:00:00:01 mtu 4200 type veth peer name v1 address 02:00:00:00:00:02 mtu 4200
addr add 10.77.0.1/24 dev v0
addr add 10.77.0.2/24 dev v1
link set v0 up
link set v1 up
route add 10.77.0.2 dev v0 src 10.77.0.1 table 101
route add 10.77.0.1 dev v1 src 10.77.0.2 table 102
rule add pref 10 iif v0 lookup local
rule add pref 11 iif v1 lookup local
rule add pref 15 from 10.77.0.1 to 10.77.0.1 lookup local
rule add pref 16 from 10.77.0.2 to 10.77.0.2 lookup local
rule add pref 20 to 10.77.0.2 lookup 101
rule add pref 21 to 10.77.0.1 lookup 102
rule add pref 100 lookup local
rule del pref 0
END
	ip -6 -force -batch - <<END
addr add fd77::1/64 dev v0 nodad
addr add fd77::2/64 dev v1 nodad
route add fd77::2 dev v0 src fd77::1 table 101
route add fd77::1 dev v1 src fd77::2 table 102
rule add pref 10 iif v0 lookup local
rule add pref 11 iif v1 lookup local
rule add pref 15 from fd77::1 to fd77::1 lookup local
rule add pref 16 from fd77::2 to fd77::2 lookup local
rule add pref 20 to fd77::2 lookup 101
rule add pref 21 to fd77::1 lookup 102
rule add pref 100 lookup local
rule del pref 0
END
}

# set_value FILE VALUE: of /proc/sys, remembered so that it can be put back.
set_value() {
	echo "$1 $(cat "/proc/sys/$1")" >>$state
	echo "$2" >"/proc/sys/$1"
}

make_settings() {
	for end in v0 v1; do
		echo 1 >/proc/sys/net/ipv4/conf/$end/accept_local
		echo 0 >/proc/sys/net/ipv4/conf/$end/rp_filter
		echo 1 >/proc/sys/net/ipv4/conf/$end/arp_ignore
		echo 2 >/proc/sys/net/ipv4/conf/$end/arp_announce
	done
	: >$state
	set_value net/ipv4/conf/all/rp_filter 0
	# with the default of 1000 large messages lose packets: veth has no flow control
	set_value net/core/netdev_max_backlog 100000
}

active() {
	read -r port <"/sys/class/infiniband/$1/ports/1/state" && [ "$port" = "4: ACTIVE" ]
}

make_wire() {
	make_link || { echo "wire.sh: the link could not be made" >&2; return 1; }
	make_settings
	printf 'link add rxe0 type rxe netdev v0\nlink add rxe1 type rxe netdev v1\n' | rdma -b - ||
		{ echo "wire.sh: the rxe devices could not be made" >&2; return 1; }
	tries=0
	until active rxe0 && active rxe1 && [ -c /dev/infiniband/rdma_cm ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "wire.sh: the rxe devices do not become active" >&2; return 1; }
		sleep 0.1
	done
}

remove_wire() {
	for family in -4 -6; do
		ip $family rule show pref 0 | grep -q local || ip $family rule add pref 0 lookup local
		for pref in 10 11 15 16 20 21 100; do ip $family rule del pref $pref; done
	done
	rdma link delete rxe0
	rdma link delete rxe1
	ip link del v0
	while read -r file value; do echo "$value" >"/proc/sys/$file"; done <$state
	rm -f $state
}

# The kernel drops the routes with the link, and its addresses of IPv6.
route_again() {
	end=$1
	here=$((end + 1))
	there=$((2 - end))
	table=$((101 + end))
	ip route replace 10.77.0.$there dev "v$end" src 10.77.0.$here table $table
	ip -6 addr replace fd77::$here/64 dev "v$end" nodad
	ip -6 route replace fd77::$there dev "v$end" src fd77::$here table $table
}

netem() {
	for end in v0 v1; do tc qdisc replace dev $end root netem limit 100000 "$@" || return; done
}

action=${1:-}
[ $# -eq 0 ] || shift
case $action in
make) make_wire ;;
remove) remove_wire ;;
netem) netem "$@" ;;
cut) netem loss 100% ;;
clear)
	for end in v0 v1; do tc qdisc del dev $end root 2>/dev/null; done
	exit 0
	;;
down) ip link set "v$1" down ;;
up) ip link set "v$1" up && route_again "$1" ;;
dropped)
	for end in v0 v1; do tc -s qdisc show dev $end; done |
		awk '/dropped/ { sub(/,/, "", $7); sum += $7 } END { print sum + 0 }'
	;;
*)
	sed -n 's/^# Usage: /usage: /p' "$0" >&2
	exit 2
	;;
esac
