#!/usr/bin/env bash
# Captures of a running appliance, read by tshark: each packet with its verdict line for a comment, those that are asked
# for and no others; a capture that is interrupted or killed leaves a whole file, and none keeps the appliance from ending.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
serve db 22

# Begins a capture and waits until it is on; its last line is $WORK/NAME.said, its number $CAPTURE.
capture() { # NAME ARGUMENT...
    local name=$1
    shift
    "$CLEARWAY" capture --control "$WORK/control.sock" --out "$WORK/$name.pcapng" "$@" >"$WORK/$name.said" 2>&1 &
    CAPTURE=$!
    PROCESSES+=($CAPTURE)
    wait_for 10 test -s "$WORK/$name.pcapng" || fail "no capture: $(cat "$WORK/$name.said")"
}

ended() { # NAME SENTENCE : the capture has ended well and says so
    wait $CAPTURE || fail "capture $1 ends with $?: $(cat "$WORK/$1.said")"
    grep -qx "$2" "$WORK/$1.said" || fail "capture $1 says $(cat "$WORK/$1.said")"
    pass "$1: $(cat "$WORK/$1.said")"
}

# Reads a capture by tshark, and compares: each packet has a comment, which is a verdict line that fits the packet.
comments() { # NAME PACKETS-AT-LEAST KEY=VALUE...
    local name=$1 least=$2
    shift 2
    # Of very many, these say enough.
    tshark -r "$WORK/$name.pcapng" -c 20000 -T json -e frame.comment -e frame.interface_name -e frame.time_epoch -e frame.number \
        2>"$WORK/$name.errors" >"$WORK/$name.json" || fail "tshark: $(cat "$WORK/$name.errors")"
    python3 - "$WORK/$name.json" "$least" "$@" <<'P' >"$WORK/$name.count" || fail "$name: not as expected"
import json, sys
packets = json.load(open(sys.argv[1]))
wanted = [pair.split("=", 1) for pair in sys.argv[3:]]
if len(packets) < int(sys.argv[2]):
    sys.exit(f"{len(packets)} packets")
for packet in packets:
    fields = packet["_source"]["layers"]
    (comment,) = fields["frame.comment"]
    line = json.loads(comment)
    for key, value in wanted:
        if line[key] != value:
            sys.exit(f"{key} is not {value}: {comment}")
    if fields["frame.interface_name"] != [line["port"]] or fields["frame.number"] != [str(line["packet"])]:
        sys.exit(f"another port or number: {fields}")
    if "time" not in line or abs(float(fields["frame.time_epoch"][0].rstrip("Z")) - float(line["time"])) > 1e-3:
        sys.exit(f"another time: {fields}")
print(len(packets))
P
    pass "$name: each of $(cat "$WORK/$name.count") packets has a comment as it should be"
}

seen() { # NAME FILTER : packets of a capture that tshark finds
    tshark -r "$WORK/$1.pcapng" -Y "$2" 2>/dev/null | wc -l
}

# Only what the NSG denies, among other packets.
capture denied --reason nsg-deny --count 2
check "pings beside it" on web ping -c 3 -i 0.2 -W 2 10.1.0.5
for n in 1 2; do denied "TCP that the NSG denies, $n" web 10.1.0.5 22; done
ended denied "2 packets captured, 0 missed"
comments denied 2 verdict=drop reason=nsg-deny rule=UserRule_DenySsh customer=contoso vnet=hub port=fabric
[ "$(seen denied 'gre && tcp.dstport == 22 && tcp.flags.syn == 1')" = 2 ] || fail "something else was captured"
pass "denied packets are those that were denied"

# Everything; Ctrl-C ends it.
capture all
check "host to host" on web ping -c 3 -i 0.2 -W 2 10.1.0.5
check "host to Internet" on web ping -c 3 -i 0.2 -W 2 192.0.2.80
sleep 0.5
kill -INT $CAPTURE
ended all "[1-9][0-9]* packets captured, 0 missed"
comments all 12
[ "$(seen all 'icmp.type == 8 && ip.dst == 10.1.0.5 && frame.comment contains "\"verdict\": \"forward\""')" = 3 ] ||
    fail "not every ping is there as forwarded"
[ "$(seen all 'icmp && frame.interface_name == "internet" && frame.comment contains "\"flow\": \"established\""')" = 3 ] ||
    fail "not every answer from the Internet is there"
pass "pings are forwarded, and their answers"

# By address and port, for a time; to a pipe.
"$CLEARWAY" capture --control "$WORK/control.sock" --address 192.0.2.80 --port internet --verdict forward --seconds 2 \
    --out - 2>"$WORK/piped.said" >"$WORK/piped.pcapng" &
CAPTURE=$!
PROCESSES+=($CAPTURE)
wait_for 10 test -s "$WORK/piped.pcapng" || fail "no capture: $(cat "$WORK/piped.said")"
check "pings" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
check "other pings" on web ping -c 2 -i 0.2 -W 2 10.1.0.5
ended piped "2 packets captured, 0 missed"
comments piped 2 verdict=forward port=internet

# By flow, both ways, among others.
capture flow --protocol icmp --between 10.1.0.5 10.1.0.4 --count 4
check "other pings" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
check "pings" on web ping -c 2 -i 0.2 -W 2 10.1.0.5
ended flow "4 packets captured, 0 missed"
[ "$(seen flow 'icmp.type == 8 && ip.dst == 10.1.0.5')$(seen flow 'icmp.type == 0 && ip.src == 10.1.0.5')" = 22 ] ||
    fail "something else than the flow was captured"
pass "a flow, both ways"

# Full speed: what is taken too slowly is missed and counted; killed, the file is whole.
iperf_server db
capture fast
iperf web 10.1.0.5 "$WORK/iperf.json"
read -r bytes _ < <(came "$WORK/iperf.json")
[ "$bytes" -gt 100000 ] || fail "iperf3 beside a capture: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
pass "iperf3 beside a capture: $bytes bytes"
kill -KILL $CAPTURE
wait $CAPTURE 2>/dev/null
comments fast 1000 verdict=forward
pass "killed after $(stat -c %s "$WORK/fast.pcapng") bytes"

# A capture does not keep the appliance from ending, and ends with it.
capture last
balanced
began=$SECONDS
kill -TERM $APPLIANCE
wait $APPLIANCE || fail "clearway ends with $?"
[ $((SECONDS - began)) -lt 5 ] || fail "clearway takes $((SECONDS - began)) s to end"
ended last "[0-9][0-9]* packets* captured, 0 missed"
done_testing
