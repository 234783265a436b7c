#!/usr/bin/env bash
# A circuit link: its bandwidth is held, raised under load without a loss, and never lowered; what it carried is counted, and
# goes on over reloads and a restart; what is for its own end is not the packet path's.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
# Without BGP, whose packets would be counted, too.
sed -i 's/bandwidthInMbps: 10000/bandwidthInMbps: 50/; s/peerASN: 65001, //' "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" --meters "$WORK/state/meters.json" ||
    fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

meter() { # WHAT : such as in.packets, of the primary link
    ask meters --json | python3 -c "
import json, sys
link = json.load(sys.stdin)['contoso']['er1']['AzurePrivatePeering']['primary']
for name in '$1'.split('.'): link = link[name]
print(link)"
}

is() { # WHAT COMMAND... : true if that is what it says
    local what=$1
    shift
    [ "$("$@")" = "$what" ]
}

check "host to site" on web ping -c 3 -i 0.2 -W 2 192.168.9.1
# Open vSwitch may take its time for the first packet; from here on all come.
settled() { is "$1" meter in.packets && is "$1" meter out.packets; }
before=$(meter in.packets)
wait_for 5 settled "$before" || fail "$(ask meters)"
check "and again" on web ping -c 3 -i 0.2 -W 2 192.168.9.1
all=$((before + 3))
wait_for 5 settled $all || fail "$(ask meters)"
[ "$(meter in.bytes) $(meter out.bytes)" = "$((84 * all)) $((84 * all))" ] || fail "$(ask meters)"
pass "three pings are three packets of 84 bytes, each way"
ask meters | grep -qE "contoso +er1 +AzurePrivatePeering +primary +$all +$((84 * all)) +$all +$((84 * all))" || fail "$(ask meters)"
pass "and so in the table"

# Twice the bandwidth, inwards. However long it takes: no more passes than the bandwidth and what the bucket holds.
iperf_server web -J
from=$(date +%s%N)
on site iperf3 -c 10.1.0.4 -p 5201 -u -b 100M -l 1000 -t 2 -J >"$WORK/udp.json" 2>&1
took=$(($(date +%s%N) - from))
sleep 0.2
over=$(dropped over-rate)
passed=$(meter in.bytes)
python3 - "$took" "$passed" "$over" "$WORK/udp.json" <<'P' || fail "the bandwidth is not held"
import json, sys
took, passed, over = (int(n) for n in sys.argv[1:4])
seconds = json.load(open(sys.argv[4]))["end"]["sum"]["seconds"]
print(f"    {8 * passed / seconds / 1e6:.1f} Mbit/s in {seconds:.1f} s, {over} packets over the rate")
sys.exit(0 if over > 0 and 8 * passed <= 50e6 * (took / 1e9 + 0.1) else 1)
P
pass "inwards no more passes than the bandwidth"
on site iperf3 -s -p 5201 -D --logfile "$WORK/iperf-site.log" -I "$WORK/iperf-site.pid"
wait_for 10 bash -c "[ -n \"\$(ip netns exec $RUN-site ss -Hltn sport = :5201)\" ]" || fail "iperf3 does not listen"
before=$(meter out.bytes)
from=$(date +%s%N)
on web iperf3 -c 192.168.9.1 -p 5201 -u -b 100M -l 1000 -t 2 -J >"$WORK/out.json" 2>&1
took=$(($(date +%s%N) - from))
sleep 0.2
passed=$(($(meter out.bytes) - before))
[ $((8 * passed)) -le $((took / 20 + 5000000)) ] || fail "outwards $passed bytes in $took ns"
[ "$(dropped over-rate)" -gt "$over" ] || fail "nothing was over the rate outwards"
pass "nor outwards"

# Raised while 30 Mbit/s go through each way: not one is lost, and the meters only go up.
meters() { # of the primary link: packets and bytes in, and out
    ask meters --json | python3 -c "
import json, sys
link = json.load(sys.stdin)['contoso']['er1']['AzurePrivatePeering']['primary']
print(*(link[way][what] for way in ('in', 'out') for what in ('packets', 'bytes')))"
}
start web iperf3 -c 192.168.9.1 -p 5201 -u -b 30M -l 1000 -t 3 -J >"$WORK/outwards.json" 2>&1
udp=($!)
start site iperf3 -c 10.1.0.4 -p 5201 -u -b 30M -l 1000 -t 3 -J >"$WORK/inwards.json" 2>&1
udp+=($!)
sleep 1
over=$(dropped over-rate)
meters >"$WORK/metered"
for mbps in 100 200 500 1000; do
    sed -i "s/bandwidthInMbps: [0-9]*/bandwidthInMbps: $mbps/" "$WORK/config.yaml"
    ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
    meters >>"$WORK/metered"
done
wait "${udp[@]}"
meters >>"$WORK/metered"
[ "$(dropped over-rate)" = "$over" ] || fail "packets were over the rate while it was raised"
for way in outwards inwards; do
    read -r bytes packets lost late < <(came "$WORK/$way.json")
    [ "$packets" -gt 0 ] && [ "$lost $late" = "0 0" ] ||
        fail "raising, $way: $bytes bytes, $packets packets, $lost lost, $late late: $(tail -n 3 "$WORK/$way.json")"
    pass "raised four times under load: $packets packets $way, none lost"
done
python3 - "$WORK/metered" <<'P' || fail "the meters do not only go up: $(cat "$WORK/metered")"
import sys
said = [[int(n) for n in line.split()] for line in open(sys.argv[1])]
up = all(now >= before for one, next in zip(said, said[1:]) for before, now in zip(one, next))
sys.exit(0 if len(said) == 6 and up and all(last > first for first, last in zip(said[0], said[-1])) else 1)
P
pass "over reloads meters only go up, each way"
sed -i 's/bandwidthInMbps: 1000/bandwidthInMbps: 500/' "$WORK/config.yaml"
ask reload >"$WORK/said" 2>&1
[ $? = 1 ] && grep -q 'bandwidthInMbps cannot be lowered from 1000 to 500' "$WORK/said" || fail "$(cat "$WORK/said")"
pass "refused: a lower bandwidth"
sed -i 's/bandwidthInMbps: 500/bandwidthInMbps: 1000/' "$WORK/config.yaml"

# From the customer's end of the link to ours.
ip -n $RUN-site addr add 192.168.255.1/32 dev br-int
check "our end of the link answers" on site ping -c 2 -i 0.2 -W 1 -I 192.168.255.1 192.168.255.2
to_us() { ask counters --json | python3 -c "import json, sys; print(json.load(sys.stdin)['punted'].get('to-us', 0))"; }
wait_for 5 is 2 to_us || fail "to-us: $(to_us)"
pass "what is for our end of the link is not the packet path's"
balanced

# A restart.
before="$(meter in.packets) $(meter in.bytes) $(meter out.packets) $(meter out.bytes)"
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
start_clearway "$WORK/config.yaml" --meters "$WORK/state/meters.json" || fail "it does not start again"
after="$(meter in.packets) $(meter in.bytes) $(meter out.packets) $(meter out.bytes)"
[ "$before" = "$after" ] || fail "before the restart $before, after it $after"
pass "meters go on over a restart: $after"
"$CLEARWAY" run "$WORK/config.yaml" --control "$WORK/other.sock" --meters "$WORK/state/meters.json" >"$WORK/said" 2>&1
[ $? = 1 ] && grep -q 'another process writes them' "$WORK/said" || fail "$(cat "$WORK/said")"
pass "refused: the meters of another"
done_testing
