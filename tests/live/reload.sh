#!/usr/bin/env bash
# Reloads under load (RELOADS of them, 200 if unsaid): no packet is lost, none is late, TCP does not stand still, and no
# packet is judged by half a configuration. Under one configuration the rules deny UDP port 25 to the Internet, under the
# other its route is None: only a mixture of both lets a packet through. Refused configurations change nothing.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/a.yaml"
sed -i 's/name: DenySmtp, priority: 100, direction: Outbound, access: Deny, protocol: Tcp/name: DenyMail, priority: 100, direction: Outbound, access: Deny, protocol: "*"/' "$WORK/a.yaml"
sed -e 's/name: DenyMail, priority: 100, direction: Outbound, access: Deny/name: AllowMail, priority: 100, direction: Outbound, access: Allow/' \
    -e 's/^          - {name: by-firewall.*/&\n          - {name: nowhere, addressPrefix: 192.0.2.25\/32, nextHopType: None}/' "$WORK/a.yaml" >"$WORK/b.yaml"
cmp -s "$WORK/a.yaml" "$WORK/b.yaml" && fail "the configurations do not differ"
"$CLEARWAY" check "$WORK/b.yaml" >/dev/null || fail "the other configuration is refused"
ip -n $RUN-internet addr add 192.0.2.25/32 dev lo
cp "$WORK/a.yaml" "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
check "ping before" on web ping -c 2 -i 0.2 -W 2 10.1.0.5

start internet tcpdump -qni u0 -w "$WORK/mail.pcap" 'udp port 25' >/dev/null 2>&1
# A new flow each, all the time, to where only a mixture lets it go.
start web python3 -c "
import socket, time
while True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b'mail', ('192.0.2.25', 25)); s.close(); time.sleep(0.001)"
# What came is said by who receives it.
iperf_server db -J
iperf_server internet -J -i 0.5
count=${RELOADS:-200}
# TCP goes to a plain kernel: Open vSwitch as a receiver loses packets itself. At a rate that leaves room for the others.
start web iperf3 -c 192.0.2.80 -p 5201 -b 30M -t 600 -J >"$WORK/tcp.json" 2>&1
tcp=$!
start web iperf3 -c 10.1.0.5 -p 5201 -u -b 20M -l 1000 -t 600 -J >"$WORK/udp.json" 2>&1
udp=$!
start web ping -i 0.01 192.168.9.1 >"$WORK/ping.txt" 2>&1
ping=$!
sleep 1
began=$(date +%s%N)
for ((i = 1; i <= count; i++)); do
    cp "$WORK/$([ $((i % 2)) = 1 ] && echo b || echo a).yaml" "$WORK/config.yaml"
    ask reload >"$WORK/said" 2>&1 || fail "reload $i: $(cat "$WORK/said")"
done
took=$((($(date +%s%N) - began) / 1000000))
pass "$count reloads in $took ms"
cp "$WORK/config.yaml" "$WORK/good.yaml"
echo "ports: {}" >"$WORK/config.yaml"
ask reload >"$WORK/said" 2>&1
[ $? = 1 ] || fail "a bad configuration is not refused"
pass "a bad configuration is refused: $(head -n 1 "$WORK/said")"
cp "$WORK/good.yaml" "$WORK/config.yaml"
sleep 0.5
kill -INT $ping $udp $tcp
wait $ping $udp $tcp 2>/dev/null
for to in db internet; do
    wait_for 10 grep -q cpu_utilization "$WORK/iperf-$to.log" || fail "iperf3 in $to says nothing: $(tail -n 3 "$WORK/iperf-$to.log")"
done
pings=$(unanswered "$WORK/ping.txt")
[ "${pings%% *}" = 0 ] || fail "pings were lost: $pings"
pass "ping: $pings were lost"
python3 - "$WORK/iperf-db.log" <<'P' || fail "UDP packets came out of order, or none came"
import json, sys
udp = json.load(open(sys.argv[1]))["end"]["streams"][0]["udp"]
print("    iperf3 by UDP:", udp["packets"], "packets,", udp["lost_packets"], "lost,", udp["out_of_order"], "out of order")
sys.exit(0 if udp["packets"] > 1000 and udp["out_of_order"] == 0 else 1)
P
pass "UDP came in order"
python3 - "$WORK/iperf-internet.log" "$WORK/tcp.json" <<'P' || fail "TCP stood still"
import json, sys
received, sent = (json.load(open(path)) for path in sys.argv[1:3])
# The last one is what was left of an interval when it was told to end.
parts = [i["sum"]["bytes"] for i in received["intervals"]][:-1]
print("    iperf3 by TCP:", received["end"]["sum_received"]["bytes"], "bytes, at least", min(parts), "in each of", len(parts),
      "intervals,", sent["end"]["sum_sent"].get("retransmits"), "retransmits")
sys.exit(0 if len(parts) > 2 and min(parts) > 0 else 1)
P
pass "TCP did not stand still"
ask counters --json >"$WORK/counters.json"
python3 - "$WORK/counters.json" $count <<'P' || fail "the counts are not those of whole configurations"
import json, sys
c, count = json.load(open(sys.argv[1])), int(sys.argv[2])
dropped = {k: v for k, v in c["dropped"].items() if v}
print("    dropped:", dropped, "generation:", c["generation"], "lost:", [p["lost"] for p in c["ports"]])
lost = sum(sum(p["lost"].values()) for p in c["ports"])
sys.exit(0 if set(dropped) <= {"nsg-deny", "route-none"} and len(dropped) == 2 and not lost and c["generation"] == count + 1 else 1)
P
pass "only what one of the configurations drops was dropped"
mails=$(tcpdump -nr "$WORK/mail.pcap" 2>/dev/null | wc -l)
[ "$mails" = 0 ] || fail "$mails packets went by a mixture of configurations"
pass "nothing went by a mixture of configurations"
balanced
done_testing
