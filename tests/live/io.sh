#!/usr/bin/env bash
# The other ways to read and write frames: by way of pnet, and a TAP device whose other side is the kernel of the very
# machine, which asks for Clearway's MAC address by ARP and by neighbour discovery.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

io_of() { # PORT : how its frames are read
    ask counters --json | python3 -c "
import json, sys
print([p['io'] for p in json.load(sys.stdin)['ports'] if p['name'] == '$1'][0])"
}

refused() { # STATUS WHAT WORDS : it does not start, by the configuration (2) or by the machine (1), and these words say why
    timeout 5 ip netns exec $RUN-cw "$CLEARWAY" run "$WORK/other.yaml" --control "$WORK/other.sock" >"$WORK/said" 2>&1
    status=$?
    [ $status = "$1" ] && grep -q "$3" "$WORK/said" || fail "$2: it ends with $status: $(cat "$WORK/said")"
    pass "refused: $2"
}

kernel() { # FAMILY ROUTER : the kernel has the addresses that were the Internet's, and this way to the VNet
    ip -n $RUN-cw addr replace 203.0.113.1/24 dev $tap
    ip -n $RUN-cw route replace 10.1.0.0/16 via $1 $2 dev $tap src 203.0.113.1
}

kernel_asked() { # ROUTER MAC
    ip -n $RUN-cw neigh show $1 dev $tap | grep -q "lladdr $2 .*\(REACHABLE\|DELAY\|STALE\|PROBE\)" ||
        fail "the kernel does not know $1: $(ip -n $RUN-cw neigh show dev $tap)"
    pass "the kernel was told of $1"
}

rate() { # FROM ADDRESS : by iperf3
    local said
    said=$(on "$1" timeout 20 iperf3 -c "$2" -p 5201 -t 1 -J 2>/dev/null |
        sed -n 's/.*"bits_per_second":[[:space:]]*\([0-9]*\).*/\1/p' | tail -n 1)
    [ "${said:-0}" -gt 1000000 ] || fail "iperf3 to $2: ${said:-nothing} bit/s"
    pass "iperf3 to $2: $((said / 1000000)) Mbit/s"
}

underlay || fail "the underlay does not come up"
serve site 80
serve web 80
on site iperf3 -s -p 5201 -D --logfile "$WORK/iperf-site.log" -I "$WORK/iperf-site.pid"

### By way of pnet; of two workers both send, one of them at ports where it does not receive.
configuration "$WORK/config.yaml"
sed -i 's/device: \([a-z0-9]*\)}/device: \1, io: pnet}/' "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
[ "$(io_of fabric) $(io_of edge) $(io_of internet)" = "pnet pnet pnet" ] || fail "it is $(io_of fabric)"
check "pnet: host to host" on web ping -c 3 -i 0.1 -W 2 10.1.0.5
check "pnet: whole packets" on web ping -c 2 -i 0.1 -W 2 -M do -s 1372 10.1.0.5
check "pnet: host to site" on web ping -c 3 -i 0.1 -W 2 192.168.9.1
check "pnet: host to Internet" on web ping -c 3 -i 0.1 -W 2 192.0.2.80
check "pnet: the kernel answers on its own address" on internet ping -c 2 -i 0.1 -W 2 203.0.113.2
check "pnet: TCP to the site" tcp web 192.168.9.1 80
rate web 192.168.9.1
ip -n $RUN-cw link set edge0 down
check_not "pnet: device down" on web ping -c 2 -i 0.1 -W 1 192.168.9.1
ip -n $RUN-cw link set edge0 up
check "pnet: device up again" wait_for 5 on web ping -c 1 -W 1 192.168.9.1
sed -i '/^  edge:/s/io: pnet/io: af_packet/' "$WORK/config.yaml"
check "a reload opens a port another way" ask reload
check "and it carries" wait_for 5 on web ping -c 1 -W 1 192.168.9.1
sed -i '/^  edge:/s/io: af_packet/io: pnet/' "$WORK/config.yaml"
check "and back" ask reload
check "and it carries, too" wait_for 5 on web ping -c 1 -W 1 192.168.9.1
[ "$(io_of edge)" = pnet ] || fail "it is $(io_of edge)"
balanced
kill -TERM $APPLIANCE
wait $APPLIANCE || fail "it does not end well"

### The Internet is this machine itself, behind a TAP.
tap=tapi
configuration "$WORK/config.yaml"
sed 's/device: inet0}/device: inet0, io: tap}/' "$WORK/config.yaml" >"$WORK/other.yaml"
refused 2 "a device that is no TAP" "inet0 is no TAP device"
grep -q "203.0.113.2 is an address of this machine, on inet0" "$WORK/said" || fail "$(cat "$WORK/said")"
pass "refused: an address that the kernel has"
ip -n $RUN-cw link del inet0
sed -i 's/device: inet0}/device: tapi, io: tap}/' "$WORK/config.yaml"
ip -n $RUN-cw addr add 192.0.2.80/32 dev lo
serve cw 80
on cw iperf3 -s -p 5201 -D --logfile "$WORK/iperf-cw.log" -I "$WORK/iperf-cw.pid"
start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
kernel inet 203.0.113.2
ip -n $RUN-cw -o link show $tap | grep -q 'UP.* mtu 1500 ' || fail "it is $(ip -n $RUN-cw -o link show $tap)"
[ "$(io_of internet)" = tap ] || fail "it is $(io_of internet)"
check "tap: host to the kernel" on web ping -c 3 -i 0.1 -W 2 192.0.2.80
kernel_asked 203.0.113.2 02:00:cb:00:71:02
ip -n $RUN-cw neigh flush dev $tap
check "tap: the kernel to a host" tcp cw 10.1.0.4 80
check_not "tap: what the NSG denies" on cw ping -c 1 -W 1 10.1.0.4
check "tap: TCP to the kernel" tcp web 192.0.2.80 80
check "tap: whole packets" on web ping -c 2 -i 0.1 -W 2 -M do -s 1372 192.0.2.80
rate web 192.0.2.80

# What finds no room while nobody reads is counted; newer kernels hold it back instead.
kill -STOP $APPLIANCE
on cw python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('203.0.113.1', 0))
for n in range(3000): s.sendto(b'x', ('10.1.0.4', 9))"
kill -CONT $APPLIANCE
dropped=$(on cw cat /sys/class/net/$tap/statistics/tx_dropped)
lost() { [ "$(ask counters --json | python3 -c "
import json, sys
print([p['lost']['ring-full'] for p in json.load(sys.stdin)['ports'] if p['name'] == 'internet'][0])")" = "$dropped" ]; }
check "tap: $dropped frames that found no room are counted" wait_for 5 lost

cp "$WORK/config.yaml" "$WORK/other.yaml"
refused 1 "a second clearway at the same device" "tapi cannot be had as a TAP device: another program has its other end"

ip -n $RUN-cw link set $tap down
check_not "tap: device down" on web ping -c 2 -i 0.1 -W 1 192.0.2.80
check "others go on" on web ping -c 1 -W 2 10.1.0.5
ip -n $RUN-cw link set $tap up
kernel inet 203.0.113.2
check "tap: device up again" wait_for 5 on web ping -c 1 -W 1 192.0.2.80
ip -n $RUN-cw link set $tap address 02:00:00:00:77:77
check "tap: another MAC address" wait_for 5 on web ping -c 1 -W 1 192.0.2.80
before=$(on cw cat /sys/class/net/$tap/ifindex)
ip -n $RUN-cw link del $tap
wait_for 5 ip -n $RUN-cw link show $tap || fail "the device is not made anew"
[ "$(on cw cat /sys/class/net/$tap/ifindex)" != "$before" ] || fail "it is the same device"
kernel inet 203.0.113.2
check "tap: a device that was deleted is made anew" wait_for 5 on web ping -c 1 -W 1 192.0.2.80

# The same by IPv6: the way to the VNet is by a router that is found by neighbour discovery.
on cw sysctl -qw net.ipv6.conf.$tap.disable_ipv6=0
ip -n $RUN-cw addr add 2001:db8:3::1/64 dev $tap nodad
sed -i 's/address: 203.0.113.2, nextHop: 203.0.113.1/address: "2001:db8:3::2", nextHop: "2001:db8:3::1"/' "$WORK/config.yaml"
check "the port's address becomes one of IPv6" ask reload
kernel inet6 2001:db8:3::2
check "tap: host to the kernel, by IPv6" wait_for 5 on web ping -c 1 -W 1 192.0.2.80
kernel_asked 2001:db8:3::2 02:00:00:00:00:02
check "tap: the kernel to a host, by IPv6" tcp cw 10.1.0.4 80

cp "$WORK/config.yaml" "$WORK/full.yaml"
sed -i '/^  internet:/d' "$WORK/config.yaml"
check "the port is removed" ask reload
wait_for 5 bash -c "! ip -n $RUN-cw link show $tap" || fail "its device is still there"
pass "and its device with it"
tap=tapp
ip -n $RUN-cw tuntap add dev $tap mode tap
ip -n $RUN-cw link set $tap up
sed 's/device: tapi/device: tapp/; s/address: "2001:db8:3::2", nextHop: "2001:db8:3::1"/address: 203.0.113.2/' "$WORK/full.yaml" >"$WORK/config.yaml"
check "one that is there is taken" ask reload
kernel inet 203.0.113.2
check "tap: and carries" wait_for 5 on web ping -c 1 -W 1 192.0.2.80
balanced
kill -TERM $APPLIANCE
wait $APPLIANCE || fail "it does not end well"
ip -n $RUN-cw link show $tap >/dev/null 2>&1 || fail "a device that was there before is gone"
pass "and stays"
done_testing
