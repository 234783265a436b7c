#!/usr/bin/env bash
# BGP and BFD with real routers (BIRD) over the links of two customers that have the same addresses: routes are learned and
# lost, a key that is wrong opens nothing, limits are kept, links die in silence, and nobody notices the other's faults.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(lacking bird birdc nft)" ] || {
    echo "skipped: bgp.sh: there is no $(lacking bird birdc nft)"
    exit 0
}
circuit_underlay || fail "the underlay does not come up"
circuit_configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# A key that is wrong opens nothing.
echo "route 172.30.0.0/16 blackhole;" >"$WORK/site-a.routes"
bird_in site-a secret-of-contoso || fail "BIRD does not start: $(cat "$WORK/site-a.out")"
bird_in site-b secret-of-nobody || fail "BIRD does not start: $(cat "$WORK/site-b.out")"
wait_for 30 up contoso 2 || fail "contoso's links do not come up: $(ask circuits)"
pass "both links of contoso are up, with BGP, TCP-MD5 and BFD"
wait_for 5 is "[2, 2]" received contoso || fail "$(ask circuits)"
check "contoso's VM reaches its site" site_reached vm-a
check_not "fabrikam's site is not reached: nothing was learned there" site_reached vm-b
up fabrikam 0 || fail "a wrong key opened a session: $(ask circuits)"
pass "a key that is wrong opens no session"
sed -i 's/secret-of-nobody/secret-of-fabrikam/' "$WORK/site-b.conf"
birdc_in site-b configure >/dev/null
wait_for 30 up fabrikam 2 || fail "fabrikam's links do not come up: $(ask circuits)"
wait_for 5 site_reached vm-b || fail "fabrikam's site is not reached"
pass "the right one does"
for c in a b; do
    check "site-$c has learned the address space by both links" \
        bash -c "[ \"\$(ip -n $RUN-site-$c route show 10.1.0.0/16 | grep -c 'nexthop')\" = 2 ]"
done
ask bgp routes --customer contoso --circuit er1 --link primary >"$WORK/said" 2>&1
grep -qE '172\.30\.0\.0/16 .*65001' "$WORK/said" || fail "$(cat "$WORK/said")"
ask bgp routes --customer fabrikam --circuit er1 --link primary >"$WORK/said" 2>&1
! grep -q '172\.30\.0\.0/16' "$WORK/said" || fail "$(cat "$WORK/said")"
pass "what one customer announces is not in the other's routes"

# Fabrikam must not notice anything of what follows.
start vm-b ping -i 0.05 -W 1 192.168.9.1 >"$WORK/fabrikam.txt" 2>&1
watch=$!

# A default route: forced tunnelling, and no more of it.
ip -n $RUN-site-a addr add 203.0.113.80/32 dev lo
internet() { on vm-a ping -c 1 -W 1 203.0.113.80; }
check_not "the Internet is not reached by the site" internet
echo "route 172.30.0.0/16 blackhole; route 0.0.0.0/0 blackhole;" >"$WORK/site-a.routes"
birdc_in site-a configure >/dev/null
wait_for 5 internet || fail "the default route is not taken"
pass "a default route is learned: the Internet goes by the site"
echo "route 172.30.0.0/16 blackhole;" >"$WORK/site-a.routes"
birdc_in site-a configure >/dev/null
wait_for 5 is "[2, 2]" received contoso || fail "$(ask circuits)"
check_not "and no more when it is withdrawn" internet

# The limit of prefixes.
routes() { # COUNT : and two more are announced
    python3 -c "
for n in range($1): print(f'route 10.{64 + n // 4096}.{n // 16 % 256}.{n % 16 * 16}/28 blackhole;')
print('route 172.30.0.0/16 blackhole;')" >"$WORK/site-a.routes"
    birdc_in site-a configure >/dev/null
}
routes 3998
wait_for 10 is "[4000, 4000]" received contoso || fail "$(ask circuits)"
check "4,000 prefixes are taken" site_reached vm-a
routes 3999
wait_for 10 up contoso 0 || fail "$(ask circuits)"
ask bgp --customer contoso >"$WORK/said"
grep -qi 'maximum number of prefixes' "$WORK/said" || fail "$(cat "$WORK/said")"
wait_for 5 is "[0, 0]" received contoso || fail "$(ask circuits)"
check_not "with one more the session ends, and its routes are gone" site_reached vm-a
routes 3998
wait_for 90 is "[4000, 4000]" received contoso || fail "$(ask circuits)"
wait_for 5 site_reached vm-a || fail "the site is not reached"
pass "with 4,000 again it is back"
routes 0
wait_for 10 is "[2, 2]" received contoso || fail "$(ask circuits)"

# A link dies in silence; the other carries on.
wait_for 30 up contoso 2 || fail "$(ask circuits)"
receive_flows site-a "$WORK/flows.json" 8
start vm-a python3 tools/live/flows.py send 192.168.9.1 8 200 3
sleep 1
silence site-a u1
wait_for 5 up contoso 1 || fail "$(ask circuits)"
wait $RECEIVER
unsilence site-a u1
python3 tools/live/flows.py tell "$WORK/flows.json" json >"$WORK/said"
python3 - "$WORK/said" <<'P' || fail "$(cat "$WORK/said")"
import json, sys
told = json.load(open(sys.argv[1]))
print(f"    {told['whole']} of {told['flows']} flows lost nothing, the others were silent for {max(told['gaps'], default=0):.2f} s at most")
# How long exactly is measured by tools/live/failover, where nothing else runs.
sys.exit(0 if told["whole"] > 0 and told["twice"] == 0 and max(told["gaps"], default=0) < 3 else 1)
P
pass "a link dies in silence: its flows go on by the other, whose flows lose nothing"
wait_for 60 up contoso 2 || fail "the link does not come back: $(ask circuits)"
pass "and it comes back"

# The peer's process dies, and is back.
kill -9 "$(cat "$WORK/site-a.pid")"
wait_for 10 up contoso 0 || fail "$(ask circuits)"
bird_in site-a secret-of-contoso
wait_for 60 up contoso 2 || fail "the links do not come back: $(ask circuits)"
wait_for 5 site_reached vm-a || fail "the site is not reached"
pass "the router's process is killed and comes back"

# A reload that changes nothing of the links leaves their sessions alone.
before=$(ups contoso)
for priority in 1 2 3; do
    sed -i "s/vlanId: 10[0-9]*/vlanId: 10$priority/" "$WORK/config.yaml"
    ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
done
sleep 1
[ "$before" = "$(ups contoso)" ] && up contoso 2 || fail "$(ask circuits)"
pass "reloads leave sessions alone"
sed -i 's/secret-of-contoso/another-secret/' "$WORK/config.yaml"
ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
wait_for 10 up contoso 0 || fail "$(ask circuits)"
pass "another key ends them"

kill $watch
wait $watch 2>/dev/null
python3 - "$WORK/fabrikam.txt" <<'P' || fail "fabrikam has noticed: $(tail -n 3 "$WORK/fabrikam.txt")"
import re, sys
numbers = [int(n) for n in re.findall(r"icmp_seq=(\d+)", open(sys.argv[1]).read())]
missing = set(range(1, numbers[-1] + 1)) - set(numbers)
print(f"    fabrikam: {len(numbers)} echoes, {len(missing)} missing")
sys.exit(0 if not missing else 1)
P
up fabrikam 2 && [ "$(ups fabrikam)" = "[[1, 0], [1, 0]]" ] ||
    fail "fabrikam has noticed: $(ask circuits)"
pass "fabrikam has noticed nothing of it"
! grep -E 'secret-of|another-secret' "$WORK/clearway.log" || fail "a key is in the log"
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
