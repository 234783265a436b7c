#!/usr/bin/env bash
# Real stacks through the appliance: ping, TCP, path MTU discovery and traceroute, from host to host, to the site behind a
# circuit, to the Internet and through a firewall, with the way back through it and straight; what the NSG denies does not
# pass; no bad checksum leaves.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
# A hub's usual firewall: what goes from one subnet to the other is sent to it by the route tables of both. Only answers
# come from the data subnet to the web subnet, and only iperf3's port is open the other way.
ip -n $RUN-db addr add 10.1.2.4/32 dev br-int
sed -i -e 's|^          - {name: fw, addressPrefix: .*|          - {name: data, addressPrefix: 10.1.2.0/24, networkSecurityGroup: data-nsg, routeTable: data-rt}\n&|' \
    -e 's|prefixes: \[10.1.0.5/32\]|prefixes: [10.1.0.5/32, 10.1.2.4/32]|' \
    -e 's|^          - {name: by-firewall,.*|&\n          - {name: to-data, addressPrefix: 10.1.2.0/24, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}|' \
    -e 's|^    networkInterfaces:|      - name: data-rt\n        routes:\n          - {name: to-web, addressPrefix: 10.1.0.0/24, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}\n&|' \
    "$WORK/config.yaml"
python3 - "$WORK/config.yaml" <<'P'
import sys
text = open(sys.argv[1]).read()
any = 'sourcePortRange: "*", destinationAddressPrefix: "*"'
deny = f"""          - {{name: DenyData, priority: 110, direction: Inbound, access: Deny, protocol: "*",
             sourceAddressPrefix: 10.1.2.0/24, {any}, destinationPortRange: "*"}}
"""
group = f"""      - name: data-nsg
        securityRules:
          - {{name: AllowIperf, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: 10.1.0.0/24, {any}, destinationPortRange: "5201"}}
          - {{name: DenyRest, priority: 4000, direction: Inbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", {any}, destinationPortRange: "*"}}
"""
text = text.replace("          - {name: AllowWeb", deny + "          - {name: AllowWeb").replace("    routeTables:\n", group + "    routeTables:\n")
open(sys.argv[1], "w").write(text)
P
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# What leaves is seen at the other end of each cable: where it leaves, frames that go past the queues show to nobody.
for cable in switch:p-cw site:u0 internet:u0; do
    at=${cable%:*}
    start $at tcpdump -qni "${cable#*:}" -Q in -c 20000 -s 0 -w "$WORK/at-$at.pcap" >/dev/null 2>"$WORK/at-$at.said"
    wait_for 10 grep -q listening "$WORK/at-$at.said" || fail "no capture at $at"
done

check "host to host" on web ping -c 3 -i 0.2 -W 2 10.1.0.5
check "host to site" on web ping -c 3 -i 0.2 -W 2 192.168.9.1
check "site to host" on site ping -c 3 -i 0.2 -W 2 10.1.0.4
check "host to Internet" on web ping -c 3 -i 0.2 -W 2 192.0.2.80
check "kernel still answers on its own address" on internet ping -c 2 -i 0.2 -W 2 203.0.113.2
check_not "a site does not reach the Internet" on site ping -c 2 -i 0.2 -W 0.5 192.0.2.80

# Large packets: the inner room is 1600 - 28 on GRE ports, 1500 on the Internet port.
check "whole packets of the inner MTU" on web ping -c 2 -i 0.2 -W 2 -M do -s 1372 10.1.0.5

serve web 80
serve db 80 22
serve site 80
serve internet 80 25
check "TCP host to host" tcp web 10.1.0.5 80
denied "TCP that the NSG denies" web 10.1.0.5 22
check "TCP to the site" tcp web 192.168.9.1 80
check "TCP to the Internet" tcp web 192.0.2.80 80
denied "SMTP that the NSG denies" web 192.0.2.80 25

# iperf3 on the port that is allowed.
for to in db site internet; do iperf_server $to; done
for to in db:10.1.0.5 site:192.168.9.1 internet:192.0.2.80; do
    iperf web "${to#*:}" "$WORK/iperf.json"
    read -r bytes _ < <(came "$WORK/iperf.json")
    [ "$bytes" -gt 100000 ] || fail "iperf3 to ${to%:*}: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
    pass "iperf3 to ${to%:*}: $bytes bytes"
done

# Bytes that the firewall itself has sent on.
by_firewall() { on fw cat /sys/class/net/br-int/statistics/tx_bytes; }
firewall() { # WHAT CONDITION ADDRESS [OPTION...] : iperf3, and what went through the firewall beside what came
    local before
    before=$(by_firewall)
    iperf web "$3" "$WORK/iperf.json" "${@:4}"
    read -r bytes _ < <(came "$WORK/iperf.json")
    through=$(($(by_firewall) - before))
    [ "$bytes" -gt 100000 ] || fail "$1: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
    [ "$through" "$2" "$bytes" ] || fail "$1: $bytes bytes came, $through went through the firewall"
    pass "$1: $bytes bytes came, $through went through the firewall"
}
check_not "a ping that the other subnet denies" on web ping -c 2 -i 0.2 -W 0.5 10.1.2.4
firewall "TCP through the firewall to the other subnet" -ge 10.1.2.4
firewall "TCP through the firewall from there, by state alone" -ge 10.1.2.4 -R
denied "a port that the other subnet does not open" web 10.1.2.4 80
denied "the other subnet begins nothing" db 10.1.0.4 80 10.1.2.4

# To the Internet: 198.18.1.1 is an address of the Internet host that the route table sends to the firewall; that masks
# nothing, so the answer comes straight.
ip -n $RUN-internet addr add 198.18.1.1/32 dev lo
check "through the firewall" on web ping -c 3 -i 0.2 -W 2 198.18.1.1
check "traceroute sees the firewall" bash -c "ip netns exec $RUN-web traceroute -n -I -w 1 -q 1 -m 4 198.18.1.1 | grep -q 10.1.9.4"
firewall "TCP through the firewall, answers straight" -ge 198.18.1.1
firewall "TCP straight, answers through the firewall" -lt 198.18.1.1 -R
[ "$through" != 0 ] || fail "nothing went through the firewall"

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


sleep 0.5
checksums() { # CONDITION : packets at this end of which that is so
    tshark -r "$WORK/at-$at.pcap" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -Y "$1" 2>/dev/null
}
for at in switch site internet; do
    bad=$(checksums 'ip.checksum.status == "Bad" || tcp.checksum.status == "Bad" || udp.checksum.status == "Bad"' | head -n 3)
    [ -z "$bad" ] || fail "bad checksums come to $at: $bad"
    good=$(checksums 'tcp.checksum.status == "Good"' | wc -l)
    [ "$good" -gt 1000 ] || fail "only $good good TCP checksums at $at"
    pass "no bad checksum at $at, $good of TCP are good"
done
balanced
done_testing
