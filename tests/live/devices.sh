#!/usr/bin/env bash
# Devices that go down, come back, change their MAC address, vanish and are made anew; ports that a reload adds and
# removes; a graceful stop; what it costs to do nothing.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" --metrics 127.0.0.1:9469 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
get() { on cw curl -s -o "$WORK/got" -w '%{http_code}' "http://127.0.0.1:9469$1"; }
[ "$(get /readyz)" = 200 ] || fail "not ready"
pass "ready"
check "ping to the Internet" on web ping -c 2 -i 0.2 -W 2 192.0.2.80

ip -n $RUN-cw link set inet0 down
check_not "device down" on web ping -c 2 -i 0.2 -W 1 192.0.2.80
check "others go on" on web ping -c 2 -i 0.2 -W 2 10.1.0.5
ip -n $RUN-cw link set inet0 up
wait_for 5 on web ping -c 1 -W 1 192.0.2.80 || fail "the device is up again, but nothing passes"
pass "device up again"

ip -n $RUN-cw link set inet0 address 02:00:00:00:77:77
wait_for 10 on web ping -c 1 -W 1 192.0.2.80 || fail "nothing passes after a change of the MAC address"
pass "another MAC address"
on internet sysctl -qw net.ipv4.conf.u0.arp_notify=1
ip -n $RUN-internet link set u0 address 02:00:00:00:88:88
wait_for 15 on web ping -c 1 -W 1 192.0.2.80 || fail "nothing passes after a change of the neighbour's MAC address"
pass "the neighbour's MAC address changed"

ip -n $RUN-cw link del inet0
sleep 1
[ "$(get /readyz)" = 503 ] || fail "ready without a device"
check "others go on without it" on web ping -c 2 -i 0.2 -W 2 10.1.0.5
wire cw inet0 internet u0
plain internet u0
ip -n $RUN-cw addr add 203.0.113.2/24 dev inet0
ip -n $RUN-internet addr add 203.0.113.1/24 dev u0
ip -n $RUN-internet route add 10.1.0.0/16 via 203.0.113.2
wait_for 10 on web ping -c 1 -W 1 192.0.2.80 || fail "nothing passes by the device that was made anew"
[ "$(get /readyz)" = 200 ] || fail "not ready again"
pass "a device that was made anew"

cp "$WORK/config.yaml" "$WORK/full.yaml"
sed -i '/^  internet:/d' "$WORK/config.yaml"
check "a port is removed" ask reload
check_not "nothing passes by it" on web ping -c 2 -i 0.2 -W 1 192.0.2.80
cp "$WORK/full.yaml" "$WORK/config.yaml"
check "and added again" ask reload
check "it carries again" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
sed -i 's/device: inet0/device: nosuch0/' "$WORK/config.yaml"
check_not "a device that is not there is refused" ask reload
grep -q "nosuch0" "$WORK/said" || fail "the refusal does not name the device"
check "the old configuration stays" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
cp "$WORK/full.yaml" "$WORK/config.yaml"
kill -HUP $APPLIANCE
sleep 0.5
check "SIGHUP" grep -q '"generation":4\|generation=4' "$WORK/clearway.log"
[ "$(get /metrics)" = 200 ] && grep -q '^clearway_packets_total{verdict="forward"} [1-9]' "$WORK/got" || fail "no metrics"
pass "metrics"
check "flows are listed" bash -c "'$CLEARWAY' flows --control '$WORK/control.sock' | grep -q 10.1.0.4"
on db iperf3 -s -p 5201 -D --logfile "$WORK/iperf.log" -I "$WORK/iperf.pid"
sleep 0.5
start web iperf3 -c 10.1.0.5 -p 5201 -t 5 >"$WORK/iperf-client" 2>&1
running=$!
sleep 1
check "top, once" ask top --once
# What carries most is what iperf3 sends; what comes back for it is little.
awk '/^FLOWS/ {getline; print; exit}' "$WORK/said" | grep -q '^TCP .*10\.1\.0\.4:[0-9]* *10\.1\.0\.5:5201 .* contoso *forward$' ||
    fail "the flow of iperf3 does not stand first: $(grep -A 3 '^FLOWS' "$WORK/said")"
wait $running
grep -q receiver "$WORK/iperf-client" || fail "iperf3: $(tail -n 3 "$WORK/iperf-client")"
pass "the flow that carries most stands first"

ticks() { cut -d' ' -f 14,15 /proc/$APPLIANCE/stat | tr ' ' + | bc; }
sleep 1
before=$(ticks)
sleep 5
cost=$(($(ticks) - before))
echo "    idle: $cost ticks of 10 ms in 5 s"
[ $cost -le 25 ] || fail "idle costs $cost ticks in 5 s"

balanced
kill -TERM $APPLIANCE
began=$(date +%s%N)
wait $APPLIANCE
status=$?
took=$((($(date +%s%N) - began) / 1000000))
[ $status = 0 ] || fail "it ended with $status"
pass "stopped in $took ms"
[ ! -e "$WORK/control.sock" ] || fail "the control socket is still there"
done_testing
