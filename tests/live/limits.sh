#!/usr/bin/env bash
# How many prefixes a session may have: 4,000 pass, and 10,000 on a Premium circuit; one more ends the session, and packets go
# by the system routes; with one fewer it is back. FRR counts for one customer, BIRD for the other.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(PATH=$PATH:$FRR lacking zebra bgpd vtysh bird birdc nft)" ] || {
    echo "skipped: limits.sh: there is no $(PATH=$PATH:$FRR lacking zebra bgpd vtysh bird birdc nft)"
    exit 0
}
circuit_underlay || fail "the underlay does not come up"
space internet
wire cw inet0 internet u0
plain cw inet0
ip -n $RUN-cw addr add 203.0.113.2/24 dev inet0
ip -n $RUN-internet addr add 203.0.113.1/24 dev u0
circuit_configuration "$WORK/config.yaml"
# Contoso's circuit is a Standard one at first, fabrikam's is Premium.
sed -i -e 's/^customers:/  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1, device: inet0}\n&/' \
    -e '0,/tier: Standard/!s/tier: Standard/tier: Premium/' "$WORK/config.yaml"

# 192.0.2.80 is at both sites, which announce it, and in the Internet, where those who come are counted.
for n in site-a site-b internet; do ip -n "$RUN-$n" addr add 192.0.2.80/32 dev lo; done
on internet nft -f - <<'N' || fail "those who come are not counted"
table inet arrived {
    chain in {
        type filter hook input priority 0
        ip daddr 192.0.2.80 icmp type echo-request counter
    }
}
N
arrived() { on internet nft list chain inet arrived in | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }
by_circuit() { on "$1" ping -c 1 -W 1 192.0.2.80; }
by_internet() { # VM : what it sends arrives in the Internet, and is not answered by the site
    local before
    before=$(arrived)
    ! by_circuit "$1" && [ "$(arrived)" -gt "$before" ]
}

start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# FRR announces its kernel's routes: so many of them, and two more.
frr_routes() { # COUNT
    python3 - "$1" <<'P' >"$WORK/routes.now"
import sys
for n in range(int(sys.argv[1])):
    print(f"10.{64 + n // 4096}.{n // 16 % 256}.{n % 16 * 16}/28")
P
    touch "$WORK/routes.there"
    { comm -13 <(sort "$WORK/routes.there") <(sort "$WORK/routes.now") | sed 's/.*/route add blackhole &/'
      comm -23 <(sort "$WORK/routes.there") <(sort "$WORK/routes.now") | sed 's/.*/route del blackhole &/'; } |
        ip -n $RUN-site-a -batch - || fail "the routes cannot be put in place"
    mv "$WORK/routes.now" "$WORK/routes.there"
}
bird_routes() { # COUNT : the same of BIRD, with one of its own beside
    python3 - "$1" <<'P' >"$WORK/site-b.routes"
import sys
print("route 192.0.2.0/24 blackhole;")
for n in range(int(sys.argv[1])):
    print(f"route 10.{64 + n // 4096}.{n // 16 % 256}.{n % 16 * 16}/28 blackhole;")
P
    [ ! -S "$WORK/site-b.ctl" ] || birdc_in site-b configure >/dev/null
}
frr_routes 3998
frr_in site-a <<'FRR' || fail "zebra does not start: $(cat "$WORK/site-a-zebra.out")"
router bgp 65001
 bgp router-id 192.168.255.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 10 30
 neighbor 192.168.255.2 remote-as 12076
 neighbor 192.168.255.2 password secret-of-contoso
 neighbor 192.168.255.2 timers connect 1
 neighbor 192.168.255.6 remote-as 12076
 neighbor 192.168.255.6 password secret-of-contoso
 neighbor 192.168.255.6 timers connect 1
 address-family ipv4 unicast
  network 192.168.9.0/24
  network 192.0.2.0/24
  redistribute kernel
 exit-address-family
exit
FRR
frr_daemon site-a bgpd -p 179 || fail "bgpd does not start: $(cat "$WORK/site-a-bgpd.out")"
vtysh_in site-a -b >"$WORK/vtysh.out" 2>&1
bird_routes 9998
bird_in site-b secret-of-fabrikam || fail "BIRD does not start: $(cat "$WORK/site-b.out")"
wait_for 60 is "[4000, 4000]" received contoso || fail "$(ask circuits; tail "$WORK/vtysh.out")"
wait_for 60 is "[10000, 10000]" received fabrikam || fail "$(ask circuits)"
wait_for 5 by_circuit vm-a || fail "the site is not reached: $(ask circuits)"
pass "FRR: 4,000 prefixes are taken of a Standard circuit, and packets go by them"
wait_for 5 by_circuit vm-b || fail "the site is not reached: $(ask circuits)"
pass "BIRD: 10,000 of a Premium circuit"
ended() { # CUSTOMER : both sessions, by the limit
    is "[0, 0]" established "$1" && is "[0, 0]" received "$1" && ask bgp --customer "$1" >"$WORK/said" &&
        grep -qi 'maximum number of prefixes' "$WORK/said"
}
told() { vtysh_in site-a -c 'show bgp neighbors' | grep -c 'Cease/Maximum Number of Prefixes Reached'; }

frr_routes 3999
bird_routes 9999
for c in contoso fabrikam; do wait_for 20 ended $c || fail "$c: $(ask circuits; cat "$WORK/said")"; done
pass "one more ends the sessions: Cease, maximum number of prefixes"
[ "$(told)" -ge 1 ] || fail "$(vtysh_in site-a -c 'show bgp neighbors')"
grep -q 'Received: Maximum number of prefixes reached' "$WORK/site-b.log" || fail "$(grep -i received "$WORK/site-b.log")"
pass "FRR and BIRD say so, too"
for c in a b; do wait_for 5 by_internet vm-$c || fail "vm-$c: $(ask circuits)"; done
pass "packets go by the system route to the Internet"
frr_routes 3998
bird_routes 9998
wait_for 150 is "[4000, 4000]" received contoso || fail "$(ask circuits)"
wait_for 150 is "[10000, 10000]" received fabrikam || fail "$(ask circuits)"
for c in a b; do wait_for 5 by_circuit vm-$c || fail "vm-$c: $(ask circuits)"; done
pass "with as many as may be they are back, and packets go by them"

# The circuit becomes a Premium one.
before=$(ups contoso)
sed -i 's/tier: Standard/tier: Premium/' "$WORK/config.yaml"
ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
frr_routes 9998
wait_for 60 is "[10000, 10000]" received contoso || fail "$(ask circuits)"
check "FRR: 10,000 once the circuit has become Premium" by_circuit vm-a
[ "$before" = "$(ups contoso)" ] || fail "the sessions were ended for it: before $before, after $(ups contoso)"
pass "and the sessions went on"
frr_routes 9999
wait_for 20 ended contoso || fail "$(ask circuits; cat "$WORK/said")"
wait_for 5 by_internet vm-a || fail "$(ask circuits)"
pass "one more ends them"
check "fabrikam's go on" by_circuit vm-b
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
