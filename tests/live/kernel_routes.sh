#!/usr/bin/env bash
# `routes: kernel`: BIRD speaks for us in the namespace of a customer, and what it puts into the kernel's table counts as
# learned. Its routes are withdrawn, go with a link, with BFD's word, and with a limit. A customer beside it has our own BGP.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(lacking bird birdc nft nsenter)" ] || {
    echo "skipped: kernel_routes.sh: there is no $(lacking bird birdc nft nsenter)"
    exit 0
}
circuit_underlay || fail "the underlay does not come up"
circuit_configuration "$WORK/config.yaml"
# Of contoso, the first.
sed -i '0,/sharedKey: secret-of-contoso,/s//routes: kernel,/' "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
space_of_contoso=$(of_links contoso "links[0]['device']['namespace']")
[ "$space_of_contoso" = clearway-contoso ] || fail "$space_of_contoso"
# Where the appliance is, as its namespaces are mounted there.
ours() { nsenter -t "$APPLIANCE" -m ip netns exec "$space_of_contoso" "$@"; }
read -r device1 device2 < <(of_links contoso "*[l['device']['name'] for l in links]")
check "an operator's tools run in the customer's namespace" ours ip link show "$device1"
not_reached() { ! site_reached "$1"; }

cat >"$WORK/ours.conf" <<BIRD
router id 192.168.255.2;
log "$WORK/ours.log" all;
protocol device { scan time 1; }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
protocol static { ipv4; route 10.1.0.0/16 blackhole; }
template bgp customer {
  local as 12076; password "secret-of-contoso"; bfd on; hold time 30;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp by_link1 from customer { neighbor 192.168.255.1 as 65001; source address 192.168.255.2; }
protocol bgp by_link2 from customer { neighbor 192.168.255.5 as 65001; source address 192.168.255.6; }
BIRD
ours bird -f -c "$WORK/ours.conf" -s "$WORK/ours.ctl" -P "$WORK/ours.pid" >"$WORK/ours.out" 2>&1 &
PROCESSES+=($!)
wait_for 5 test -S "$WORK/ours.ctl" || fail "BIRD does not start: $(cat "$WORK/ours.out")"
birdc_ours() { birdc -s "$WORK/ours.ctl" "$@"; }
echo "route 172.30.0.0/16 blackhole;" >"$WORK/site-a.routes"
bird_in site-a secret-of-contoso || fail "BIRD does not start: $(cat "$WORK/site-a.out")"
bird_in site-b secret-of-fabrikam || fail "BIRD does not start: $(cat "$WORK/site-b.out")"
wait_for 40 site_reached vm-a || fail "the site is not reached: $(birdc_ours show protocols; ours ip route; ask circuits)"
pass "what BIRD has learned is taken from the kernel's table"
in_force() { ask routes --live --customer contoso --vnet hub --subnet vms | grep "$1" >/dev/null; }
out_of_force() { ! in_force "$1"; }
wait_for 5 in_force 172.30.0.0/16 || fail "$(ask routes --live --customer contoso --vnet hub --subnet vms)"
ask routes --live --customer fabrikam --vnet hub --subnet vms >"$WORK/said"
! grep -q 172.30.0.0/16 "$WORK/said" || fail "$(cat "$WORK/said")"
pass "of its customer alone"
: >"$WORK/site-a.routes"
birdc_in site-a configure >/dev/null
wait_for 5 out_of_force 172.30.0.0/16 || fail "$(ours ip route)"
check "and withdrawn as it goes" site_reached vm-a

# By both links, and by one when the other is silent: BIRD's BFD says so.
wait_for 20 is 2 bash -c "nsenter -t $APPLIANCE -m ip netns exec $space_of_contoso ip route show 192.168.9.0/24 | grep -c nexthop" ||
    fail "$(ours ip route)"
receive_flows site-a "$WORK/flows.json" 8
start vm-a python3 tools/live/flows.py send 192.168.9.1 8 200 3
sleep 0.6
silence site-a u1
wait $RECEIVER
python3 tools/live/flows.py tell "$WORK/flows.json" json >"$WORK/said"
python3 - "$WORK/said" <<'P' || fail "$(cat "$WORK/said")"
import json, sys
told = json.load(open(sys.argv[1]))
print(f"    {told['whole']} of {told['flows']} flows lost nothing, the others were silent for {max(told['gaps'], default=0):.2f} s at most")
sys.exit(0 if told["whole"] > 0 and max(told["gaps"], default=0) < 3 else 1)
P
pass "a link dies in silence: BIRD takes its way out of the table, and flows go on by the other"
unsilence site-a u1
wait_for 30 is 2 bash -c "nsenter -t $APPLIANCE -m ip netns exec $space_of_contoso ip route show 192.168.9.0/24 | grep -c nexthop" ||
    fail "$(ours ip route; birdc_ours show protocols)"
pass "and it comes back"

# Of routes that go with their device the kernel says nothing.
ours ip link set "$device1" down && ours ip link set "$device2" down
wait_for 5 not_reached vm-a || fail "$(ask routes --live --customer contoso --vnet hub --subnet vms)"
pass "routes go with their devices"
for d in $device1 $device2; do ours ip link set "$d" up; done
wait_for 40 site_reached vm-a || fail "$(birdc_ours show protocols; ours ip addr; ours ip route)"
pass "and return"

# A killed daemon leaves its routes. The site's own way back stays; whether Clearway keeps its is what counts.
ip -n $RUN-site-a route add 10.1.0.0/16 dev link1 metric 9999
kill -9 "$(cat "$WORK/ours.pid")"
sleep 0.5
check "packets go on while BIRD is dead" site_reached vm-a
rm -f "$WORK/ours.ctl" "$WORK/ours.pid"
ours ip route flush proto bird
wait_for 5 not_reached vm-a || fail "$(ours ip route)"
pass "until its routes are taken away"
wait_for 5 site_reached vm-b || fail "$(ask circuits)"
is "[[1, 0], [1, 0]]" ups fabrikam || fail "$(ask circuits)"
pass "fabrikam, with our own BGP, has noticed nothing of it"
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
