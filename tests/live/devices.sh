#!/usr/bin/env bash
# Devices that go down, come back, change their MAC address, vanish and are made anew; ports that a reload adds and
# removes; a graceful stop; what it costs to do nothing; what systemd is told of all this.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
# What systemd would hear, a line of JSON for each message, with the clock of MONOTONIC_USEC.
export NOTIFY_SOCKET=$WORK/notify.sock WATCHDOG_USEC=1000000
python3 - "$NOTIFY_SOCKET" >"$WORK/notified" <<'P' &
import json, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    said = dict(line.split("=", 1) for line in s.recv(4096).decode().splitlines())
    print(json.dumps([time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000, said]), flush=True)
P
PROCESSES+=($!)
wait_for 10 test -S "$NOTIFY_SOCKET" || fail "nobody listens in systemd's place"
start_clearway "$WORK/config.yaml" --metrics 127.0.0.1:9469 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
unset NOTIFY_SOCKET WATCHDOG_USEC
get() { on cw curl -s -o "$WORK/got" -w '%{http_code}' "http://127.0.0.1:9469$1"; }
[ "$(get /readyz)" = 200 ] || fail "not ready"
pass "ready"
check "ping to the Internet" wait_for 10 on web ping -c 1 -W 0.5 192.0.2.80

ip -n $RUN-cw link set inet0 down
check_not "device down" on web ping -c 2 -i 0.2 -W 0.5 192.0.2.80
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
not_ready() { [ "$(get /readyz)" = 503 ]; }
wait_for 10 not_ready || fail "ready without a device"
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
check_not "nothing passes by it" on web ping -c 2 -i 0.2 -W 0.5 192.0.2.80
cp "$WORK/full.yaml" "$WORK/config.yaml"
check "and added again" ask reload
check "it carries again" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
sed -i 's/device: inet0/device: nosuch0/' "$WORK/config.yaml"
check_not "a device that is not there is refused" ask reload
grep -q "nosuch0" "$WORK/said" || fail "the refusal does not name the device"
check "the old configuration stays" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
kill -HUP $APPLIANCE
wait_for 10 bash -c "[ \$(grep -c 'READY' '$WORK/notified') = 2 ]" || fail "systemd does not hear the end of a reload: $(cat "$WORK/notified")"
check "by SIGHUP it is refused as well" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
cp "$WORK/full.yaml" "$WORK/config.yaml"
kill -HUP $APPLIANCE
check "SIGHUP" wait_for 10 grep -q '"generation":4\|generation=4' "$WORK/clearway.log"
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
sleep 0.5
before=$(ticks)
sleep 3
cost=$(($(ticks) - before))
echo "    idle: $cost ticks of 10 ms in 3 s"
[ $cost -le 15 ] || fail "idle costs $cost ticks in 3 s"

# A worker that stands still while the others of the process go on: held by a debugger.
worker=$(grep -l worker-0 /proc/$APPLIANCE/task/*/comm | cut -d / -f 5)
python3 - "$worker" "$WORK/notified" <<'P' || fail "the watchdog is told that all is well, and it is not; or not told any more when it is"
import ctypes, os, sys, time
worker, kicks = int(sys.argv[1]), lambda: open(sys.argv[2]).read().count("WATCHDOG")
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, worker, None, None):  # PTRACE_ATTACH
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(worker, 0x40000000)  # __WALL
time.sleep(1)  # the round that it was in may count
before = kicks()
time.sleep(2)
held = kicks() - before
libc.ptrace(17, worker, None, None)  # PTRACE_DETACH
before, end = kicks(), time.monotonic() + 20
while kicks() == before and time.monotonic() < end:
    time.sleep(0.05)
print("    told", before - held, "times that all is well, then", held, "times while a worker was held for 2 s, then", kicks() - before)
sys.exit(0 if before - held > 3 and held == 0 and kicks() > before else 1)
P
pass "the watchdog is not told that all is well while a worker stands still"
check "it goes on" on web ping -c 2 -i 0.2 -W 2 10.1.0.5

balanced
kill -TERM $APPLIANCE
began=$(date +%s%N)
wait $APPLIANCE
status=$?
took=$((($(date +%s%N) - began) / 1000000))
[ $status = 0 ] || fail "it ended with $status"
pass "stopped in $took ms"
python3 - "$WORK/notified" <<'P' || fail "systemd is not told what it should be: $(grep -v WATCHDOG "$WORK/notified")"
import json, sys
heard = [json.loads(line) for line in open(sys.argv[1])]
told = [(at, m) for at, m in heard if "WATCHDOG" not in m]
print("    systemd heard:", ", ".join(k for _, m in told for k in ("READY", "RELOADING", "STOPPING") if k in m))
assert [sorted(m) for _, m in told] == [["READY", "STATUS"]] + 2 * [["MONOTONIC_USEC", "RELOADING"], ["READY", "STATUS"]] + [["STOPPING"]]
assert all(v == "1" for _, m in heard for k, v in m.items() if k not in ("STATUS", "MONOTONIC_USEC"))
assert "READY" in heard[0][1] and "STOPPING" in heard[-1][1]
# When a reload began: systemd takes no READY for its end that is older.
assert told[0][0] < int(told[1][1]["MONOTONIC_USEC"]) <= told[1][0]
assert int(told[1][1]["MONOTONIC_USEC"]) < int(told[3][1]["MONOTONIC_USEC"]) <= told[3][0]
assert [told[i][1]["STATUS"].rsplit(" ", 1)[1] for i in (0, 2, 4)] == ["1", "3", "4"]
P
pass "systemd hears that it is ready, reloads, is well and stops"
[ ! -e "$WORK/control.sock" ] || fail "the control socket is still there"
done_testing
