#!/usr/bin/env bash
# Real stacks through the appliance: ping, TCP, path MTU discovery and traceroute, from host to host, to the site behind a
# circuit, to the Internet and through a firewall; what the NSG denies does not pass; no bad checksum leaves.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

for device in fab0 edge0 inet0; do
    start cw tcpdump -qni $device -Q out -s 0 -w "$WORK/$device.pcap" >/dev/null 2>&1
done
sleep 0.5

check "host to host" on web ping -c 3 -i 0.2 -W 2 10.1.0.5
check "host to site" on web ping -c 3 -i 0.2 -W 2 192.168.9.1
check "site to host" on site ping -c 3 -i 0.2 -W 2 10.1.0.4
check "host to Internet" on web ping -c 3 -i 0.2 -W 2 192.0.2.80
check "kernel still answers on its own address" on internet ping -c 2 -i 0.2 -W 2 203.0.113.2
check_not "a site does not reach the Internet" on site ping -c 2 -i 0.2 -W 1 192.0.2.80

# Large packets: the inner room is 1600 - 28 on GRE ports, 1500 on the Internet port.
check "whole packets of the inner MTU" on web ping -c 2 -i 0.2 -W 2 -M do -s 1372 10.1.0.5

serve db 80
serve db 22
serve site 80
serve internet 80
serve fw 80
check "TCP host to host" tcp web 10.1.0.5 80
check_not "TCP that the NSG denies" tcp web 10.1.0.5 22
check "TCP to the site" tcp web 192.168.9.1 80
check "TCP to the Internet" tcp web 192.0.2.80 80
serve internet 25
check_not "SMTP that the NSG denies" tcp web 192.0.2.80 25

# By the firewall: 198.18.1.1 is an address of the Internet host that the route table sends there; the firewall masks
# nothing, so the answer comes straight.
ip -n $RUN-internet addr add 198.18.1.1/32 dev lo
check "through the firewall" on web ping -c 3 -i 0.2 -W 2 198.18.1.1
on fw ovs-ofctl dump-flows "unix:$WORK/fw/br-int.mgmt" | grep -q 'n_packets=[1-9][0-9]*.*in_port=LOCAL' ||
    fail "nothing went through the firewall"
check "traceroute sees the firewall" bash -c "ip netns exec $RUN-web traceroute -n -I -w 1 -q 1 -m 4 198.18.1.1 | grep -q 10.1.9.4"

# A flow that lives is told of; of none it is said what a segment from the middle of a connection meets.
explain() { # PORT [ARGUMENT...] : of a packet to db from this port of web
    ask explain --live --customer contoso --vnet hub --protocol tcp --from "10.1.0.4:$1" --to 10.1.0.5:80 "${@:2}" >"$WORK/said" 2>&1
}
start web python3 -c "
import socket, time
s = socket.create_connection(('10.1.0.5', 80), 5, ('10.1.0.4', 41000)); time.sleep(30)"
talker=$!
lives() { explain 41000 && grep -q 'a flow record is live at 10.1.0.5 in VNet hub: opened inbound by UserRule_AllowWeb' "$WORK/said"; }
wait_for 5 lives || fail "a live flow is not told of: $(cat "$WORK/said")"
explain 41000 --json && python3 - "$WORK/said" <<'P' || fail "explain --live --json: $(cat "$WORK/said")"
import json, sys
said = json.load(open(sys.argv[1]))
assert said["generation"] == 1 and said["verdict"] == "forward"
assert sorted(f["openedBy"] for f in said["liveFlows"]) == ["Inbound", "Outbound"], said["liveFlows"]
P
pass "a live flow is told of"
kill $talker
explain 41001 || fail "explain --live: $(cat "$WORK/said")"
grep -q 'no flow record is live' "$WORK/said" && grep -q 'tcp-no-flow' "$WORK/said" || fail "no flow is not told of: $(cat "$WORK/said")"
pass "a packet of no flow is explained"

# iperf3 on the port that is allowed.
for to in db site internet; do
    on $to iperf3 -s -p 5201 -D --logfile "$WORK/iperf-$to.log" -I "$WORK/iperf-$to.pid"
done
sleep 0.5
for to in db:10.1.0.5 site:192.168.9.1 internet:192.0.2.80; do
    rate=$(on web timeout 30 iperf3 -c "${to#*:}" -p 5201 -t 2 -J 2>/dev/null | sed -n 's/.*"bits_per_second":[[:space:]]*\([0-9]*\).*/\1/p' | tail -n 1)
    [ "${rate:-0}" -gt 1000000 ] || fail "iperf3 to ${to%:*}: ${rate:-nothing} bit/s"
    pass "iperf3 to ${to%:*}: $((rate / 1000000)) Mbit/s"
done

sleep 0.5
for device in fab0 edge0 inet0; do
    bad=$(tshark -r "$WORK/$device.pcap" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE \
        -Y 'ip.checksum.status == "Bad" || tcp.checksum.status == "Bad" || udp.checksum.status == "Bad"' 2>/dev/null | head -n 3)
    [ -z "$bad" ] || fail "bad checksums leave by $device: $bad"
done
pass "no bad checksum on the wire"
balanced
done_testing
