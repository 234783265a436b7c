#!/usr/bin/env bash
# Flow logs of a running appliance, read back: every flow is told of by both of its ends, and what the logs say that it
# carried is what the hosts saw, packet by packet and byte by byte; what the NSG denies is told of as denied. Where the
# disk is full, what is lost is counted, told once, and it goes on when there is room.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" --workers 2 --nsg-flow-logs "$WORK/logs" --vnet-flow-logs "$WORK/logs" \
    --flow-logs-interval 1 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
"$CLEARWAY" run "$WORK/config.yaml" --nsg-flow-logs "$WORK/config.yaml/x" 2>"$WORK/said" && fail "a file as a folder is taken"
grep -q 'flow logs cannot be written there' "$WORK/said" || fail "it says $(cat "$WORK/said")"

start switch tcpdump --immediate-mode -qni p-cw -B 16384 -s 170 -w "$WORK/fab0.pcap" 'ip proto 47' >/dev/null 2>"$WORK/dump.said"
DUMPS=($!)
wait_for 10 grep -q listening "$WORK/dump.said" || fail "no capture"
for port in 80 22; do serve db $port; done
serve internet 80
serve internet 25
start db python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5000))
while True:
    data, who = s.recvfrom(2000); s.sendto(data[:100], who)"
start db python3 -c "
import socket
s = socket.socket(); s.bind(('', 81)); s.listen(4)
while True:
    c, _ = s.accept()
    while c.recv(65536): pass
    c.close()"
sleep 0.5

# The first packets of a host may be lost before they reach the appliance; these are not compared.
for host in web db site; do wait_for 10 on $host ping -c 1 -W 1 10.1.9.4 || fail "$host does not reach the firewall"; done
check "host to host" on web ping -c 5 -i 0.2 -W 2 10.1.0.5
check "site to host" on site ping -c 4 -i 0.2 -W 2 10.1.0.4
check "host to Internet" on web ping -c 3 -i 0.2 -W 2 192.0.2.80
check "TCP host to host" tcp web 10.1.0.5 80
check "TCP to the Internet" tcp web 192.0.2.80 80
check "TCP from the site" tcp site 10.1.0.5 80
check "many bytes by TCP" on web python3 -c "
import socket
s = socket.create_connection(('10.1.0.5', 81), 5); s.sendall(bytes(500000)); s.shutdown(1); s.recv(1)"
check "UDP there and back" on web python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 41000)); s.settimeout(5)
for n in range(50):
    s.sendto(bytes(n * 20), ('10.1.0.5', 5000)); s.recv(2000)"
check_not "TCP that the NSG denies at its destination" tcp web 10.1.0.5 22
check_not "TCP that the NSG denies at its source" tcp web 192.0.2.80 25
# Flows that have ended are told of when their records go.
sleep 13
check "UDP that goes on" on web python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 41000)); s.settimeout(5)
for n in range(7):
    s.sendto(bytes(10), ('10.1.0.5', 5000)); s.recv(2000)"
check "TCP that has ended just before the appliance does" tcp web 10.1.0.5 80
balanced
cp "$WORK/counters.json" "$WORK/last.json"
kill -TERM $APPLIANCE
wait $APPLIANCE || fail "clearway ends with $?"
sleep 0.5
# What has come is written.
sleep 0.5
kill "${DUMPS[@]}"
sleep 0.5

cat >"$WORK/compare.py" <<'P'
import collections, glob, json, os, re, socket, struct, sys
work = sys.argv[1]
counters = json.load(open(work + "/last.json"))
hour = r"y=\d{4}/m=\d\d/d=\d\d/h=\d\d/m=00/macAddress=[0-9A-F]{12}/PT1H\.json"
sub = "00000000-0000-0000-0000-000000000000"
nsg_path = f"contoso/insights-logs-networksecuritygroupflowevent/resourceId=/SUBSCRIPTIONS/{sub}/RESOURCEGROUPS/CONTOSO/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/WEB-NSG/{hour}"
vnet_path = f"contoso/insights-logs-flowlogflowevent/flowLogResourceID=/{sub}_NETWORKWATCHERRG/NETWORKWATCHER_CLEARWAY_HUB-CONTOSO-FLOWLOG/{hour}"
address = r"(\d+\.\d+\.\d+\.\d+)"
nsg_tuple = re.compile(rf"\d{{10}},{address},{address},(\d+),(\d+),([TU]),([IO]),([AD]),([BCE]),(\d*),(\d*),(\d*),(\d*)")
vnet_tuple = re.compile(rf"\d{{13}},{address},{address},(\d+),(\d+),(\d+),([IO]),([BCED]),NX,(\d+),(\d+),(\d+),(\d+)")

Line = collections.namedtuple("Line", "mac rule key state counts")
def lines_of(record, is_nsg):
    if is_nsg:
        assert list(record) == ["time", "systemId", "category", "resourceId", "operationName", "properties"], record
        assert record["category"] == "NetworkSecurityGroupFlowEvent" and record["properties"]["Version"] == 2
        for group in record["properties"]["flows"]:
            for flow in group["flows"]:
                for text in flow["flowTuples"]:
                    m = nsg_tuple.fullmatch(text)
                    assert m, text
                    src, dst, sport, dport, proto, way, access, state = m.groups()[:8]
                    assert (state == "B") == (m.group(9) == ""), text
                    counts = [int(n or 0) for n in m.groups()[8:]]
                    state = "D" if access == "D" else state
                    yield Line(flow["mac"], group["rule"], (src, dst, int(sport), int(dport), {"T": 6, "U": 17}[proto], way), state, counts)
    else:
        assert record["flowLogVersion"] == 4 and record["category"] == record["operationName"] == "FlowLogFlowEvent"
        for flow in record["flowRecords"]["flows"]:
            for group in flow["flowGroups"]:
                for text in group["flowTuples"]:
                    m = vnet_tuple.fullmatch(text)
                    assert m, text
                    src, dst, sport, dport, proto, way, state = m.groups()[:7]
                    counts = [int(n) for n in m.groups()[7:]]
                    assert state in "CE" or counts == [0] * 4, text
                    yield Line(record["macAddress"], group["rule"], (src, dst, int(sport), int(dport), int(proto), way), state, counts)

logs = {True: [], False: []}
for path in glob.glob(work + "/logs/**/*", recursive=True):
    if not os.path.isfile(path):
        continue
    name = os.path.relpath(path, work + "/logs")
    is_nsg = re.fullmatch(nsg_path, name) is not None
    assert is_nsg or re.fullmatch(vnet_path, name), name
    for record in json.load(open(path))["records"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", record["time"])
        for line in lines_of(record, is_nsg):
            assert f"macAddress={line.mac}/" in name
            logs[is_nsg].append(line)
assert logs[True] and logs[False], "nothing is written"

# What came from the hosts and went to them, in GRE: IP packets and their lengths.
seen = collections.defaultdict(lambda: collections.Counter())
data = open(f"{work}/fab0.pcap", "rb").read()
assert data[:4] == b"\xd4\xc3\xb2\xa1"
at = 24
while at + 16 <= len(data):
    length = struct.unpack_from("<I", data, at + 8)[0]
    outer = data[at + 30 : at + 16 + length]
    at += 16 + length
    ends = (socket.inet_ntoa(outer[12:16]), socket.inet_ntoa(outer[16:20]))
    ip = outer[28:]
    total, proto = struct.unpack_from("!H", ip, 2)[0], ip[9]
    src, dst = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
    ports = struct.unpack_from("!HH", ip, (ip[0] & 15) * 4) if proto in (6, 17) else (0, 0)
    for host, address in (("web", "198.51.100.11"), ("db", "198.51.100.12")):
        if address in ends:
            seen[host][(src, dst, *ports, proto, "packets")] += 1
            seen[host][(src, dst, *ports, proto, "bytes")] += total

hosts = {"02000A010004": "web", "02000A010005": "db"}
def sums(lines):
    total = collections.defaultdict(lambda: [0] * 4)
    for line in lines:
        if line.state != "D":
            total[(line.mac, line.key)] = [a + b for a, b in zip(total[(line.mac, line.key)], line.counts)]
    return dict(total)
of_nsg, of_vnet = sums(logs[True]), sums(logs[False])
wrong = []
for (mac, key), counted in sorted(of_vnet.items()):
    src, dst, sport, dport, proto, way = key
    if "10.1.9.4" in key:
        continue
    saw = seen[hosts[mac]]
    expected = [saw[(*end, proto, what)] for end in ((src, dst, sport, dport), (dst, src, dport, sport)) for what in ("packets", "bytes")]
    if counted != expected:
        wrong.append(f"{mac} {key}: the log has {counted}, the host saw {expected}")
    if proto in (6, 17) and of_nsg.get((mac, key)) != counted:
        wrong.append(f"{mac} {key}: the NSG log has {of_nsg.get((mac, key))}, the VNet log {counted}")
assert all(k in of_vnet for k in of_nsg)
flows = {key[:2] + key[3:] for _, key in of_vnet}
for expected in [("10.1.0.4", "10.1.0.5", 0, 1, "O"), ("10.1.0.4", "10.1.0.5", 0, 1, "I"), ("192.168.9.1", "10.1.0.4", 0, 1, "I"),
                 ("10.1.0.4", "192.0.2.80", 0, 1, "O"), ("10.1.0.4", "10.1.0.5", 80, 6, "O"), ("10.1.0.4", "10.1.0.5", 80, 6, "I"),
                 ("10.1.0.4", "192.0.2.80", 80, 6, "O"), ("192.168.9.1", "10.1.0.5", 80, 6, "I"), ("10.1.0.4", "10.1.0.5", 81, 6, "O"),
                 ("10.1.0.4", "10.1.0.5", 5000, 17, "O"), ("10.1.0.4", "10.1.0.5", 5000, 17, "I")]:
    if expected not in flows:
        wrong.append(f"no log has {expected}")
# Denied packets: who denied them, by which rule.
for is_nsg in logs:
    denied = {(l.mac, l.rule, *l.key[:2], *l.key[3:]) for l in logs[is_nsg] if l.state == "D"}
    if denied != {("02000A010005", "UserRule_DenySsh", "10.1.0.4", "10.1.0.5", 22, 6, "I"),
                  ("02000A010004", "UserRule_DenySmtp", "10.1.0.4", "192.0.2.80", 25, 6, "O")}:
        wrong.append(f"denied: {denied}")
# A flow begins once, and what is opened is in the log.
begun = [l for l in logs[False] if l.state == "B"]
if len(begun) != counters["flows"]["opened"]:
    wrong.append(f"{len(begun)} flows begin in the log, {counters['flows']['opened']} records were opened")
ended = [l for l in logs[False] if l.state == "E" and l.key[4] == 6]
if len(ended) < 6:
    wrong.append(f"only {len(ended)} TCP flows end")
if not any(l.state == "C" for l in logs[False]):
    wrong.append("nothing goes on")
lost = counters["flowLogs"]
if lost["missed"] or lost["nsg"]["lost"] or lost["vnet"]["lost"] or not lost["vnet"]["written"]:
    wrong.append(f"counters: {lost}")
print(f"    {len(logs[True])} lines of the NSG log, {len(logs[False])} of the VNet log, {len(of_vnet)} flows")
sys.exit("\n".join(wrong) or 0)
P
python3 "$WORK/compare.py" "$WORK" || fail "the logs are not as they should be"
pass "what the logs say is what the hosts saw"
! grep -qiE 'warn|error' "$WORK/clearway.log" || fail "something went wrong"

# A disk that is full, in the appliance's own view of the file systems.
mkdir "$WORK/small"
start cw bash -c 'mount -t tmpfs -o size=256k tmpfs "$1" && shift && exec "$@"' - "$WORK/small" "$CLEARWAY" run "$WORK/config.yaml" \
    --control "$WORK/control.sock" --workers 1 --nsg-flow-logs "$WORK/small" --flow-logs-interval 1 \
    >"$WORK/clearway.out" 2>"$WORK/clearway.log"
APPLIANCE=$!
wait_for 15 is_ready || fail "clearway does not start again: $(tail -n 5 "$WORK/clearway.log")"
small=/proc/$APPLIANCE/root$WORK/small
count() { ask counters --json | python3 -c "import json, sys; print(json.load(sys.stdin)['flowLogs']['nsg']['$1'])"; }
more() { # COUNT THAN : true once it is more; a new flow is opened each time
    tcp web 10.1.0.5 80 && [ "$(count "$1")" -gt "$2" ]
}
wait_for 20 more written 0 || fail "nothing is written to the small disk"
dd if=/dev/zero of="$small/filler" bs=1k 2>/dev/null
written=$(count written)
for i in 1 2 3; do wait_for 20 more lost "$(count lost)" || fail "nothing is lost on a full disk"; done
[ "$(grep -c 'flow logs are lost' "$WORK/clearway.log")" = 1 ] || fail "a full disk is not told of once"
[ "$(find "$small" -name '*.cut*' | wc -l)" = 0 ] || fail "a file was cut"
rm "$small/filler"
wait_for 20 more written "$written" || fail "it does not go on when there is room"
wait_for 5 grep -q 'flow logs are written again' "$WORK/clearway.log" || fail "it does not say that it goes on"
find "$small" -name PT1H.json -exec python3 -c 'import json, sys; json.load(open(sys.argv[1]))' {} + || fail "a file is no JSON"
kill -TERM $APPLIANCE
wait $APPLIANCE || fail "clearway ends with $?"
pass "a full disk costs what comes in the meantime, and is told of once"
done_testing
