#!/usr/bin/env bash
# Faults of devices, of the process and of load, one after the other: what was done and what was seen, as a table at the
# end. The names are those of the faults that the appliance has to bear: D are devices, R the process, O is overload.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
RATE=${RATE:-$(dirname "$CLEARWAY")/examples/rate}

row() { # RESULT NAME FAULT DONE SEEN
    case $1 in
    ok) pass "$2 $3: $5" ;;
    note) echo "NOTE $2 $3: $5" ;;
    *)
        echo "FAIL $2 $3: $5"
        FAILED=1
        ;;
    esac
    echo "| $2 | $3 | $4 | $5 | $1 |" >>"$WORK/table"
}

# ok if that is true, else bad.
is() { if "$@" >/dev/null 2>&1; then echo ok; else echo bad; fi; }

count() { # EXPRESSION : of the counters c
    ask counters --json | python3 -c "
import json, sys
c = json.load(sys.stdin)
port = {p['name']: p for p in c['ports']}
print($1)"
}

loss() { # FROM ADDRESS [COUNT] : per cent of pings that are lost, twenty in a second
    on "$1" ping -q -c "${3:-10}" -i 0.05 -W 1 "$2" 2>/dev/null | sed -n 's/.* \([0-9.]*\)% packet loss.*/\1/p'
}

# The same for two of them at once: $seen and $other.
losses() { # FROM ADDRESS FROM ADDRESS [COUNT]
    local first
    loss "$1" "$2" "${5:-10}" >"$WORK/loss" &
    first=$!
    other=$(loss "$3" "$4" "${5:-10}")
    wait $first
    seen=$(cat "$WORK/loss")
}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
ticks() { awk '{ print $14 + $15 }' /proc/$APPLIANCE/stat; }
site() { on site kill "-$1" "$(cat "$WORK/site/vs.pid")"; } # SIGNAL : to its Open vSwitch
flood() { on web taskset -c 0 "$RATE" flood u0 "$fabric" "$@"; }

stop_clearway() { # its status
    kill -TERM $APPLIANCE
    wait $APPLIANCE
}

begin() { # [ARGUMENT...]
    start_clearway "$WORK/config.yaml" --workers 1 "$@" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
    # Open vSwitch drops the first packet of a tunnel, while it looks for its neighbour.
    wait_for 5 on web ping -c 1 -W 0.3 10.1.0.5
    wait_for 5 on web ping -c 1 -W 0.3 192.0.2.80
    wait_for 5 on alt ping -c 1 -W 0.3 192.0.2.80
    wait_for 5 on web ping -c 1 -W 0.3 192.168.9.1
}

use() { # IO : all ports
    sed -E "s/device: ([a-z0-9]+)(, io: [a-z_]+)?\}/device: \1, io: $1}/" "$WORK/plain.yaml" >"$WORK/config.yaml"
}

underlay || fail "the underlay does not come up"
space alt
wire switch p-alt alt u0
ip -n $RUN-switch link set p-alt master br0
gre_end alt 198.51.100.14/24 198.51.100.2 0xa02 10.2.0.4 || fail "the other customer's end does not come up"
ip -n $RUN-internet route add 10.2.0.0/16 via 203.0.113.2
fabric=$(on cw cat /sys/class/net/fab0/address)
configuration "$WORK/plain.yaml"
sed -i 's/^      - {address: 198.51.100.13.*/&\n      - {address: 198.51.100.99, vnet: hub, prefixes: [10.1.0.99\/32]}/' "$WORK/plain.yaml"
cat >>"$WORK/plain.yaml" <<'YAML'
  - name: fabrikam
    virtualNetworks:
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: all, addressPrefix: 10.2.0.0/24, networkSecurityGroup: nsg}]
    networkSecurityGroups: [{name: nsg, securityRules: []}]
    tunnels: [{vnet: spoke, port: fabric, key: 0xa02}]
    hosts: [{address: 198.51.100.14, vnet: spoke, prefixes: [10.2.0.4/32]}]
YAML
use af_packet

### R3: it cannot start.
refused() { # FAULT DONE WORDS COMMAND... : ends with 1, as the machine may be otherwise later, within 5 s and says so
    local fault=$1 did=$2 words=$3 status
    shift 3
    timeout 5 ip netns exec $RUN-cw "$@" >"$WORK/said" 2>&1
    status=$?
    if [ $status = 1 ] && grep -q "$words" "$WORK/said"; then
        row ok R3 "$fault" "$did" "status 1: $(grep "$words" "$WORK/said" | sort -r | head -n 1 | tr '|' '/' | cut -c -160)"
    else
        row bad R3 "$fault" "$did" "status $status: $(tail -n 1 "$WORK/said" | tr '|' '/' | cut -c -160)"
    fi
}
run=("$CLEARWAY" run "$WORK/config.yaml" --workers 1 --control "$WORK/other.sock")
refused "no privileges" "run by nobody" "not permitted\|privilege" \
    setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "${run[@]}"
use af_xdp
refused "RLIMIT_MEMLOCK small" "64 KiB, without CAP_IPC_LOCK, af_xdp" "MEMLOCK\|locked\|memory" \
    prlimit --memlock=65536:65536 setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock "${run[@]}"
use af_packet
start cw python3 -c "
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 9469)); s.listen(1); time.sleep(100)"
taken=$!
wait_for 5 on cw python3 -c "import socket; socket.create_connection(('127.0.0.1', 9469))"
refused "the metrics port is taken" "something listens at it" 9469 "${run[@]}" --metrics 127.0.0.1:9469
kill $taken
wait $taken 2>/dev/null
touch "$WORK/other.sock"
refused "something else is at the path of the control socket" "a file is there" "no socket" "${run[@]}"
rm "$WORK/other.sock"

# As network cards have it; see D4.
on cw ethtool -K inet0 gro on
begin --metrics 127.0.0.1:9470
refused "the control socket is another's" "a second clearway with the same" "another clearway" \
    "$CLEARWAY" run "$WORK/config.yaml" --workers 1 --control "$WORK/control.sock"
seen=$(loss web 10.1.0.5)
row "$(is [ "$seen" = 0 ])" R3 "a second clearway that is refused" "the first goes on" "$seen % of pings lost"
# A second one on the same devices, with sockets of its own: each packet must leave once.
timeout -s TERM 4 ip netns exec $RUN-cw "${run[@]}" >"$WORK/second.log" 2>&1 &
second=$!
sleep 1
on web ping -c 10 -i 0.1 -W 1 10.1.0.5 >"$WORK/ping.txt"
wait $second
status=$?
twice=$(grep -c DUP "$WORK/ping.txt")
row "$(is [ "$twice" = 0 -a $status = 1 ])" R3 "a second clearway on the same devices" "another control socket" \
    "status $status (124: it ran until it was stopped), $twice of 10 pings answered twice"
seen=$(loss web 10.1.0.5)
[ "$seen" = 0 ] || row bad R3 "after the second has ended" "ping" "$seen % lost"
on cw tcpdump -qni fab0 -c 1 -Q out 'icmp[0] == 3 and icmp[1] == 2' >"$WORK/unreachable" 2>/dev/null &
watch=$!
seen=$(loss web 10.1.0.5 5)
kill $watch 2>/dev/null
row "$(is [ ! -s "$WORK/unreachable" ])" R3 "after the second has ended" "does the kernel answer GRE?" \
    "$([ -s "$WORK/unreachable" ] && echo "it does: protocol unreachable" || echo no), $seen % lost"

### D1: the device.
start web ping -i 0.02 10.1.0.5 >"$WORK/quiet.txt" 2>&1
quiet=$!
again() { # WHAT DONE : the Internet answers again
    local from took
    from=$(milliseconds)
    if wait_for 10 on web ping -c 1 -W 1 192.0.2.80; then
        took=$(($(milliseconds) - from))
        row ok D1 "$1" "$2" "carries again after $took ms"
    else row bad D1 "$1" "$2" "nothing passes for 10 s"; fi
}
ip -n $RUN-cw link set inet0 down
sleep 0.3
# The kernel takes the route away with the device: then there is no neighbour.
gone="port['internet']['lost']['device-down'] + port['internet']['lost']['no-neighbour']"
before=$(count "$gone")
on web ping -c 3 -i 0.1 -W 0.3 192.0.2.80 >/dev/null
lost=$(($(count "$gone") - before))
cost=$(ticks)
on web ping -q -c 20 -i 0.05 -W 1 192.0.2.80 >/dev/null
cost=$(($(ticks) - cost))
row "$(is [ $lost = 3 ])" D1 "interface down" "3 pings by it" "counted $lost times as device-down or no-neighbour"
row "$(is [ $cost -le 40 ])" D2 "a dead link" "20 pings by it and 50 others a second, 2 s" "$cost ticks of 10 ms"
ip -n $RUN-cw link set inet0 up
again "interface up" "ip link set up"
ip -n $RUN-cw link set inet0 mtu 1400
again "MTU changed" "1600 to 1400"
ip -n $RUN-cw link set inet0 mtu 1600
again "MTU changed" "and back"
ip -n $RUN-cw link set inet0 address 02:00:00:00:77:77
again "MAC address changed" "ip link set address"
ip -n $RUN-cw link set inet0 down
ip -n $RUN-cw link set inet0 name inet9
ip -n $RUN-cw link set inet9 up
sleep 0.5
ready=$(count "c['ready']")
row "$(is [ "$ready" = False ])" D1 "interface renamed" "inet0 is inet9" "ready: $ready"
ip -n $RUN-cw link set inet9 down
ip -n $RUN-cw link set inet9 name inet0
ip -n $RUN-cw link set inet0 up
again "interface renamed" "and back"
space away
ip -n $RUN-cw link set inet0 netns $RUN-away
sleep 0.5
ready=$(count "c['ready']")
row "$(is [ "$ready" = False ])" D1 "interface moved to another namespace" "ip link set netns" "ready: $ready"
ip -n $RUN-away link set inet0 netns $RUN-cw
ip -n $RUN-cw link set inet0 up
ip -n $RUN-cw addr add 203.0.113.2/24 dev inet0
again "interface moved to another namespace" "and back"
kill -INT $quiet
wait $quiet 2>/dev/null
seen=$(unanswered "$WORK/quiet.txt")
row "$(is [ "${seen%% *}" = 0 ])" D1 "all of these" "50 pings a second by other ports" "$seen lost"

### D4: frames that are not as on the wire.
before=$(count "port['fabric']['in']['frames']")
on web ping -q -c 10 -i 0.05 10.1.0.5 >/dev/null
seen=$(($(count "port['fabric']['in']['frames']") - before))
row "$(is [ "$seen" = 20 ])" D4 "own frames seen again" "10 pings in and out by one port" "$seen frames received, 20 were sent to us"
tagged() { # TAG... : an echo request in GRE under VLAN tags, to the host db
    on web python3 - "$fabric" "$@" <<'P'
import socket, struct, sys
def sum16(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
def ip(proto, a, b, body):
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0, socket.inet_aton(a), socket.inet_aton(b))
    return h[:10] + struct.pack("!H", sum16(h)) + h[12:] + body
echo = struct.pack("!BBHHH", 8, 0, 0, 77, 1) + bytes(32)
echo = echo[:2] + struct.pack("!H", sum16(echo)) + echo[4:]
gre = struct.pack("!HHI", 0x2000, 0x0800, 0xa01) + ip(1, "10.1.0.4", "10.1.0.5", echo)
tags = b"".join(struct.pack("!HH", int(t, 16), 5) for t in sys.argv[2:])
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("u0", 0))
s.send(mac + bytes.fromhex("020000000001") + tags + b"\x08\x00" + ip(47, "198.51.100.11", "198.51.100.2", gre))
P
}
forwarded() { # WHAT TAG...
    local before seen
    before=$(count "c['forwarded']")
    tagged "${@:2}"
    sleep 0.3
    seen=$(($(count "c['forwarded']") - before))
    row "$(is [ "$seen" = 2 ])" D4 "$1" "an echo request" "$seen forwarded of the request and its answer"
}
forwarded "a VLAN tag in metadata" 8100
forwarded "two VLAN tags" 88a8 8100

iperf_server db
iperf_server internet
mbit() { # FROM ADDRESS [OPTION...]
    local bytes
    iperf "$1" "$2" "$WORK/iperf.json" --connect-timeout 2000 "${@:3}"
    read -r bytes _ < <(came "$WORK/iperf.json")
    echo $((bytes * 8 / 1000000))
}
plain_rate=$(mbit web 10.1.0.5)
plain_back=$(mbit web 192.0.2.80)
# GRO where frames come in: at the switch, and at the device itself.
on switch ethtool -K p-web gro on
on switch ethtool -K p-db gro on
on cw ethtool -K fab0 gro on
before=$(count "c['dropped']['truncated']")
seen=$(mbit web 10.1.0.5)
cut=$(($(count "c['dropped']['truncated']") - before))
row "$(is [ "$seen" -gt $((plain_rate / 4)) -a $cut = 0 ])" D4 "GRO super-packets in GRE" "gro on at the switch and at fab0, iperf3" \
    "$seen Mbit/s ($plain_rate without), $cut dropped as truncated"
on switch ethtool -K p-web gro off
on switch ethtool -K p-db gro off
on cw ethtool -K fab0 gro off
# GRO was on before it began: packets of a flow would arrive as one, longer than anybody sent.
before=$(count "c['dropped']['truncated']")
seen=$(mbit web 192.0.2.80 -R)
cut=$(($(count "c['dropped']['truncated']") - before))
row "$(is [ "$seen" -gt $((plain_back / 4)) -a $cut = 0 ])" D4 "GRO super-packets, plain" "gro was on at inet0, iperf3 -R" \
    "$seen Mbit/s ($plain_back without), $cut dropped as truncated; gro is now $(on cw ethtool -k inet0 | sed -n 's/^generic-receive-offload: //p')"
on cw ethtool -K inet0 gro off >/dev/null 2>&1
# Offloads of a plain sender that no wire would carry: checksums left open, and packets that a device would cut.
on internet ethtool -K u0 tx on >/dev/null 2>&1
on internet ethtool -K u0 tso on gso on >/dev/null 2>&1
before=$(count "c['dropped']['truncated']")
seen=$(mbit web 192.0.2.80 -R)
cut=$(($(count "c['dropped']['truncated']") - before))
row note D4 "TSO super-packets of a veth's other end" "tx, tso, gso on there, iperf3 -R" \
    "$seen Mbit/s ($plain_back without), $cut dropped as truncated"
on internet ethtool -K u0 tso off gso off >/dev/null 2>&1
seen=$(mbit web 192.0.2.80 -R)
row "$(is [ "$seen" -gt $((plain_back / 4)) ])" D4 "checksums left open" "tx offload on at the Internet host, iperf3 -R" \
    "$seen Mbit/s ($plain_back without)"
plain internet u0

### R2: signals.
before=$(count "c['flows']['held']")
start web ping -q -c 40 -i 0.1 192.168.9.1 >"$WORK/stopped.txt" 2>&1
ping=$!
kill -STOP $APPLIANCE
sleep 3
kill -CONT $APPLIANCE
from=$(milliseconds)
wait_for 5 on web ping -c 1 -W 1 10.1.0.5
took=$(($(milliseconds) - from))
answered=$(milliseconds)
count "c['ready']" >/dev/null
answered=$(($(milliseconds) - answered))
wait $ping
row "$(is [ $took -lt 5000 -a $answered -lt 5000 ])" R2 "SIGSTOP, SIGCONT" "stopped for 3 s" \
    "a ping passes $took ms after, counters in $answered ms; $(grep -o '[0-9]* received.*loss' "$WORK/stopped.txt") of those sent meanwhile and after"
# These ask for nothing.
for signal in PIPE USR1 USR2; do
    kill -$signal $APPLIANCE
    sleep 0.3
    result=ok
    if kill -0 $APPLIANCE 2>/dev/null; then seen="it goes on, $(loss web 10.1.0.5 3) % of pings lost"; else
        wait $APPLIANCE 2>/dev/null
        seen="it ends with $?"
        result=bad
        begin
    fi
    row $result R2 "SIG$signal" "kill -$signal" "$seen"
done
# Nobody reads its log any more, or there is no room for it.
stop_clearway
for log in "a pipe that is closed" "a full disk"; do
    if [ "$log" = "a full disk" ]; then to=/dev/full; else
        to=$WORK/pipe
        mkfifo "$to"
        head -n 1 <"$to" >/dev/null &
    fi
    start cw "$CLEARWAY" run "$WORK/config.yaml" --workers 1 --control "$WORK/control.sock" >/dev/null 2>"$to"
    APPLIANCE=$!
    answers() { is_ready || ! kill -0 $APPLIANCE; }
    wait_for 10 answers
    kill -HUP $APPLIANCE 2>/dev/null
    sleep 0.3
    result=ok
    if kill -0 $APPLIANCE 2>/dev/null; then
        seen="it goes on, $(loss web 10.1.0.5) % of pings lost"
        stop_clearway
    else
        wait $APPLIANCE
        seen="it ends with $?"
        result=bad
    fi
    row $result R2 "the log goes to $log" "run, reload" "$seen"
done
begin

if [ -x "$RATE" ]; then
    ### D2 and R2 under load.
    sleep 0.2
    ip -n $RUN-cw neigh replace 100.64.1.2 lladdr "$(on site cat /sys/class/net/br-phy/address)" dev edge0 nud permanent
    site STOP # what reaches it is counted by its device, and nothing answers
    before=$(count "port['fabric']['in']['frames'] + port['fabric']['foreign']")
    full=$(count "port['fabric']['lost']['ring-full']")
    device=$(on cw cat /sys/class/net/fab0/statistics/rx_packets)
    kill -STOP $APPLIANCE
    sent=$(flood 1 1000)
    kill -CONT $APPLIANCE
    sleep 0.7
    seen=$(($(count "port['fabric']['in']['frames'] + port['fabric']['foreign']") - before))
    full=$(($(count "port['fabric']['lost']['ring-full']") - full))
    device=$(($(on cw cat /sys/class/net/fab0/statistics/rx_packets) - device))
    row "$(is [ $full -gt 0 ])" D2 "receive ring full" "stopped for a second, $sent frames sent, $device at the device" \
        "$seen taken, $full counted as ring-full, $((device - seen - full)) neither (ARP and the like)"
    # The path is slower than the source, or not; what leaves is what matters.
    rx() { on site cat /sys/class/net/u0/statistics/rx_packets; }
    left=$(rx)
    sent=$(flood 2 1000)
    left=$((($(rx) - left) / 2))
    row note O1 "full speed, 1000 flows" "$((sent / 2)) frames/s" "$left frames/s leave"
    usual=$left
    start web taskset -c 0 "$RATE" flood u0 "$fabric" 4 300000 >"$WORK/sent"
    flood=$!
    sleep 1
    left=$(rx)
    from=$(milliseconds)
    count "c['ready']" >/dev/null
    answered=$(($(milliseconds) - from))
    losses web 10.1.0.5 alt 192.0.2.80 20
    took=$(($(milliseconds) - from))
    left=$((($(rx) - left) * 1000 / took))
    wait $flood
    row "$(is [ $left -gt $((usual / 4)) ])" O1 "a new 5-tuple in each packet" "$(($(cat "$WORK/sent") / 4)) frames/s" "$left frames/s leave ($usual of 1000 flows)"
    row "$(is [ $answered -lt 5000 ])" O1 "the control socket meanwhile" "clearway counters" "answers in $answered ms"
    row "$(is [ "${seen%.*}" -lt 100 ])" O1 "other flows meanwhile" "20 pings of the same customer" "$seen % lost"
    row "$(is [ "${other%.*}" -lt 100 ])" O2 "other customers meanwhile" "20 pings of the other" "$other % lost"
    sleep 0.5
    losses web 10.1.0.5 alt 192.0.2.80 30
    row "$(is [ "$seen" = 0 -a "$other" = 0 ])" O5 "after the overload" "0.5 s later, 30 pings each" "$seen % and $other % lost"
    # Half of what it can: nothing is lost, unless others take its core away meanwhile, which is counted then.
    lost="sum(n for p in c['ports'] for n in p['lost'].values())"
    before=$(count "$lost")
    left=$(rx)
    sent=$(flood 2 1000 $((usual / 2)))
    sleep 0.3
    left=$(($(rx) - left))
    full=$(($(count "$lost") - before))
    result=ok
    [ $((sent - left)) -le $((sent / 1000)) ] || result=note
    [ $((sent - left - full)) -le $((sent / 1000)) ] || result=bad
    row $result O5 "half the load" "$sent frames in 2 s" "$((sent - left)) lost, $full counted as lost"

    ### O3: a table is full.
    balanced
    stop_clearway
    cp "$WORK/config.yaml" "$WORK/wide.yaml"
    sed -i 's/^      - name: hub$/&\n        maxFlows: 500/' "$WORK/config.yaml"
    grep -q maxFlows "$WORK/config.yaml" || fail "no limit of flows"
    site CONT
    begin
    site STOP
    full=$(count "c['dropped']['flow-table-full']")
    flood 1 5000 20000 >/dev/null
    sleep 0.3
    full=$(($(count "c['dropped']['flow-table-full']") - full))
    losses alt 192.0.2.80 fw 10.1.0.5
    row "$(is [ $full -gt 1000 -a "$seen" = 0 ])" O3 "flow table full" "maxFlows: 500, 5000 flows" \
        "$full counted as flow-table-full; the other customer: $seen % lost; the same customer's new flow: $other % lost"
    cp "$WORK/wide.yaml" "$WORK/config.yaml"
    check "reload" ask reload
    seen=$(loss web 10.1.0.5)
    row "$(is [ "$seen" = 0 ])" O3 "flow table full" "a larger one by a reload" "$seen % lost"
else
    row note O1 "overload" "none" "there is no $RATE"
fi
before=$(count "port['fabric']['lost']['no-neighbour']")
start web ping -q -i 0.01 -c 300 -W 1 10.1.0.99 >/dev/null 2>&1
ping=$!
losses web 10.1.0.5 alt 192.0.2.80 40
wait $ping
# The last of them wait until the kernel has given up.
no_neighbour() {
    full=$(($(count "port['fabric']['lost']['no-neighbour']") - before))
    [ $full -ge 300 ]
}
wait_for 8 no_neighbour
row "$(is [ $full = 300 -a "$seen" = 0 -a "$other" = 0 ])" O3 "a neighbour that does not answer" "300 pings to a host that is not there" \
    "$full counted as no-neighbour; others: $seen % and $other % lost"
site CONT
balanced

# Under load it ends soon, and well.
if [ -x "$RATE" ]; then
    start web taskset -c 0 "$RATE" flood u0 "$fabric" 2 1000 >/dev/null
    flood=$!
    sleep 0.5
fi
from=$(milliseconds)
stop_clearway
status=$?
took=$(($(milliseconds) - from))
row "$(is [ $status = 0 -a $took -lt 3000 ])" R2 "SIGTERM under load" "at full speed" "ended with $status after $took ms"
[ -z "${flood:-}" ] || wait $flood

### R1: the process dies.
use af_xdp
begin
worker=$(grep -l worker-0 /proc/$APPLIANCE/task/*/comm | cut -d / -f 5)
python3 -c "
import ctypes
ctypes.CDLL(None).syscall(234, $APPLIANCE, $worker, 6)"
wait $APPLIANCE
status=$?
seen=$(on cw ip -d link show fab0 | grep -c "xdp")
from=$(milliseconds)
begin
took=$(($(milliseconds) - from))
row "$(is [ $status = 134 -a "$seen" = 0 ])" R1 "a worker faults" "SIGABRT to its thread: the process ends (a panic cannot be had from outside)" \
    "status $status, no program left on the devices; a new one works $took ms after it is started"

### D3: XDP, from outside.
for how in xdp xdpdrv xdpgeneric; do
    on cw ip link set dev fab0 $how off >"$WORK/said" 2>&1
    echo "$how off: $? $(head -n 1 "$WORK/said")"
done >"$WORK/off.txt"
seen=$(loss web 10.1.0.5)
row "$(is [ "$seen" = 0 ])" D3 "ip link set fab0 xdp off" "and xdpdrv, xdpgeneric" "$seen % lost; $(tr '\n|' ';/' <"$WORK/off.txt")"
forwarded "a VLAN tag, XDP" 8100
python3 - $APPLIANCE "$(on cw cat /sys/class/net/fab0/ifindex)" <<'P' >"$WORK/said" 2>&1
import ctypes, glob, os, re, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, *words):
    b = ctypes.create_string_buffer(struct.pack("%dI" % len(words), *words) + bytes(64))
    r = libc.syscall(321, command, b, 64)
    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r
for path in glob.glob(f"/proc/{sys.argv[1]}/fdinfo/*"):
    text = open(path).read()
    if re.search(r"link_type:\s*xdp", text) and re.search(r"ifindex:\s*%s\b" % sys.argv[2], text):
        bpf(34, bpf(30, int(re.search(r"link_id:\s*(\d+)", text)[1])))
        print("detached")
        break
P
seen=$(loss web 10.1.0.5)
if wait_for 4 on web ping -c 1 -W 1 10.1.0.5; then after="carries again"; else after="nothing passes for 4 s"; fi
kill -0 $APPLIANCE 2>/dev/null || after="it has ended; $(tail -n 1 "$WORK/clearway.log")"
row "$(is [ "$(tail -n 1 "$WORK/said")" = detached -a "$after" = "carries again" ])" D3 "the XDP link is detached by force" "BPF_LINK_DETACH" \
    "$(tail -n 1 "$WORK/said"); $seen % lost at once; $after; ready: $(count "c['ready']")"
stop_clearway
begin
kill -STOP $APPLIANCE
[ ! -x "$RATE" ] || flood 1 1000 >/dev/null
kill -CONT $APPLIANCE
sleep 0.5
full=$(count "port['fabric']['lost']['ring-full']")
seen=$(loss web 10.1.0.5)
row "$(is [ "$seen" = 0 ])" D3 "fill ring starved" "stopped for a second at full speed" "$full counted as ring-full, then $seen % of pings lost"
ip -n $RUN-cw link set inet0 down
sleep 0.3
on web ping -c 3 -i 0.1 -W 0.3 192.0.2.80 >/dev/null
ip -n $RUN-cw link set inet0 up
if wait_for 10 on web ping -c 1 -W 1 192.0.2.80; then after=ok; else after=bad; fi
row $after D3 "interface down and up, XDP" "ip link set" "carries again: $after"
on internet ethtool -K u0 tx on >/dev/null 2>&1
row note D4 "checksums left open, XDP" "tx offload on at a veth's other end" "iperf3 -R: $(mbit web 192.0.2.80 -R) Mbit/s"
balanced
stop_clearway
row "$(is [ $? = 0 ])" R2 "SIGTERM" "with XDP" "ended well; programs left on fab0: $(on cw ip -d link show fab0 | grep -c 'prog/xdp')"

### R4: an upgrade is a restart. Flow records go with the process, so a TCP flow that is idle or goes on has to begin anew.
begin
start web ping -q -i 0.02 -c 200 -W 1 10.1.0.5 >"$WORK/upgrade"
pinging=$!
sleep 1
from=$(milliseconds)
stop_clearway
start_clearway "$WORK/config.yaml" --workers 1 || fail "clearway does not start again: $(tail -n 5 "$WORK/clearway.log")"
took=$(($(milliseconds) - from))
wait $pinging
lost=$(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 - \2/p' "$WORK/upgrade")
lost=$((${lost:-200}))
row "$(is [ "$lost" -lt 150 ])" R4 "a restart, as an upgrade is" "SIGTERM and start, 50 pings a second" \
    "ready again $took ms after the signal, $lost pings lost"
stop_clearway

printf '\n| | fault | done | seen | |\n|---|---|---|---|---|\n'
cat "$WORK/table"
echo
done_testing
