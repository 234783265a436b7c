#!/usr/bin/env bash
# BGP with other routers than BIRD: FRR (with BFD, and killed and restarted within the time of its graceful restart), GoBGP
# (10,000 prefixes of a Premium circuit), and a peer whose messages are wrong, as RFC 4271 and RFC 7606 count it.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(PATH=$PATH:$FRR lacking zebra bgpd bfdd vtysh gobgpd gobgp)" ] || {
    echo "skipped: bgp_peers.sh: there is no $(PATH=$PATH:$FRR lacking zebra bgpd bfdd vtysh gobgpd gobgp)"
    exit 0
}
circuit_underlay || fail "the underlay does not come up"
circuit_configuration "$WORK/config.yaml"
sed -i 's/tier: Standard/tier: Premium/' "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# FRR with contoso.
frr_bgp() { # bgpd with its configuration
    frr_daemon site-a bgpd -p 179 || fail "bgpd does not start: $(cat "$WORK/site-a-bgpd.out")"
    vtysh_in site-a -b >"$WORK/vtysh.out" 2>&1
}
frr_in site-a <<'FRR' || fail "zebra does not start: $(cat "$WORK/site-a-zebra.out")"
router bgp 65001
 bgp router-id 192.168.255.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart restart-time 30
 timers bgp 10 30
 neighbor 192.168.255.2 remote-as 12076
 neighbor 192.168.255.2 password secret-of-contoso
 neighbor 192.168.255.2 timers connect 1
 neighbor 192.168.255.6 remote-as 12076
 neighbor 192.168.255.6 password secret-of-contoso
 neighbor 192.168.255.6 timers connect 1
 address-family ipv4 unicast
  network 192.168.9.0/24
  network 172.30.0.0/16
 exit-address-family
exit
FRR
frr_daemon site-a bfdd --bfdctl "$WORK/site-a-frr/bfdd.sock" || fail "bfdd does not start: $(cat "$WORK/site-a-bfdd.out")"
frr_bgp
wait_for 40 is "[1, 1]" established contoso || fail "FRR's sessions do not come up: $(ask circuits)"
wait_for 10 is "[2, 2]" received contoso || fail "$(ask circuits)"
pass "FRR: both sessions, with TCP-MD5"
wait_for 10 bash -c "ip -n $RUN-site-a route show 10.1.0.0/16 | grep -q proto" || fail "$(ip -n $RUN-site-a route)"
pass "FRR has learned the address space"
wait_for 5 site_reached vm-a || fail "the site is not reached"
pass "the site is reached"

# A restart, without BFD, which bfdd would end with bgpd, and which counts as the end of a link. The site's own way back
# stays; whether Clearway keeps its is what counts.
ip -n $RUN-site-a route add 10.1.0.0/16 dev link1 metric 9999
start vm-a ping -i 0.05 -W 1 192.168.9.1 >"$WORK/restart.txt" 2>&1
watch=$!
sleep 0.5
kill -9 "$(cat "$WORK/site-a-frr/bgpd.pid")"
wait_for 10 is "[0, 0]" established contoso || fail "nothing is noticed: $(ask circuits)"
sleep 1
rm -f "$WORK/site-a-frr/bgpd.pid" "$WORK/site-a-frr/bgpd.vty"
frr_bgp
wait_for 40 is "[1, 1]" established contoso || fail "FRR's sessions do not come back: $(ask circuits)"
wait_for 10 is "[2, 2]" received contoso || fail "$(ask circuits)"
sleep 1
kill $watch
wait $watch 2>/dev/null
python3 - "$WORK/restart.txt" <<'P' || fail "echoes were lost while bgpd was restarted: $(tail -n 3 "$WORK/restart.txt"; ask circuits)"
import re, sys
numbers = [int(n) for n in re.findall(r"icmp_seq=(\d+)", open(sys.argv[1]).read())]
missing = set(range(1, numbers[-1] + 1)) - set(numbers)
print(f"    {len(numbers)} echoes while bgpd was killed and restarted, {len(missing)} missing")
sys.exit(0 if len(numbers) > 20 and not missing else 1)
P
pass "FRR: a graceful restart loses nothing"
vtysh_in site-a -c "configure terminal" -c "router bgp 65001" -c "neighbor 192.168.255.2 bfd" \
    -c "neighbor 192.168.255.6 bfd" >/dev/null
wait_for 20 is "['up', 'up']" of_links contoso "[s['state'].lower() for l in links for s in l['bfd']]" ||
    fail "FRR's BFD does not come up: $(ask circuits)"
wait_for 20 is "[1, 1]" established contoso || fail "$(ask circuits)"
pass "FRR: BFD on both links, which it speaks only now"

# GoBGP with fabrikam: a Premium circuit's 10,000 prefixes, and one too many.
cat >"$WORK/gobgp.toml" <<'G'
[global.config]
  as = 65001
  router-id = "192.168.255.1"
  local-address-list = ["192.168.255.1", "192.168.255.5"]
G
for n in 2 6; do
    cat >>"$WORK/gobgp.toml" <<G
[[neighbors]]
  [neighbors.config]
    neighbor-address = "192.168.255.$n"
    peer-as = 12076
    auth-password = "secret-of-fabrikam"
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
G
done
# A table in MRT (RFC 6396): one request for each route is slow. GoBGP stops reading early; the first is repeated for that.
mrt() { # FIRST COUNT FILE
    python3 - "$@" <<'P'
import socket, struct, sys
first, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ip = socket.inet_aton
with open(path, "wb") as out:
    def record(subtype, body): out.write(struct.pack(">IHHI", 1700000000, 13, subtype, len(body)) + body)
    record(1, ip("192.168.255.1") + struct.pack(">HHB", 0, 1, 2) + ip("192.168.255.1") * 2 + struct.pack(">I", 65001))
    attributes = b"\x40\x01\x01\0" + b"\x40\x02\x06\x02\x01" + struct.pack(">I", 64999) + b"\x40\x03\x04" + ip("0.0.0.0")
    for n in list(range(first, first + count)) + [first] * 4000:
        record(2, struct.pack(">IB", n, 24) + bytes([60 + n // 65536, n // 256 % 256, n % 256]) + struct.pack(">HHIH", 1, 0, 1700000000, len(attributes)) + attributes)
P
}
start site-b gobgpd -t toml -f "$WORK/gobgp.toml" --api-hosts 127.0.0.1:50051 --log-level warn >"$WORK/gobgpd.out" 2>&1
wait_for 40 is "[1, 1]" established fabrikam || fail "GoBGP's sessions do not come up: $(ask circuits; cat "$WORK/gobgpd.out")"
pass "GoBGP: both sessions, with TCP-MD5"
wait_for 10 bash -c "ip netns exec $RUN-site-b gobgp global rib | grep -q '10.1.0.0/16 .*12076'" ||
    fail "$(on site-b gobgp global rib)"
pass "GoBGP has learned the address space"
gobgp_in() { on site-b gobgp "$@"; }
gobgp_in global rib add 192.168.9.0/24 nexthop 0.0.0.0
mrt 0 9999 "$WORK/rib.mrt"
gobgp_in mrt inject global --no-ipv6 "$WORK/rib.mrt" >"$WORK/inject.out" 2>&1
wait_for 30 is "[10000, 10000]" received fabrikam || fail "$(ask circuits; cat "$WORK/inject.out")"
# Its kernel learns nothing from GoBGP.
ip -n $RUN-site-b route add 10.1.0.0/16 dev link1
check "GoBGP: 10,000 prefixes are taken of a Premium circuit" site_reached vm-b
gobgp_in global rib add 60.200.0.0/24 nexthop 0.0.0.0
wait_for 10 is "[0, 0]" established fabrikam || fail "$(ask circuits)"
ask bgp --customer fabrikam >"$WORK/said"
grep -qi 'maximum number of prefixes' "$WORK/said" || fail "$(cat "$WORK/said")"
not_reached() { ! site_reached "$1"; }
wait_for 5 not_reached vm-b || fail "the routes of the ended sessions are still in force: $(ask circuits)"
pass "one more ends the sessions, and their routes are gone"
check "nothing of it is contoso's" site_reached vm-a
is "[1, 1]" established contoso || fail "$(ask circuits)"

# A peer whose messages are wrong, on contoso's primary link; FRR goes on at the other.
vtysh_in site-a -c "configure terminal" -c "router bgp 65001" -c "neighbor 192.168.255.2 shutdown" >/dev/null
wait_for 10 is "[0, 1]" established contoso || fail "$(ask circuits)"
# The port is bgpd's; what dials out needs none.
speak() { # STEP... : its words are in $WORK/spoken
    on site-a timeout 60 python3 tools/live/bgp_peer.py 192.168.255.1 192.168.255.2 65001 secret-of-contoso "$@" >"$WORK/spoken" 2>&1
}
primary() { # : the prefixes in force that the primary link has learned
    ask bgp routes --customer contoso --circuit er1 --link primary --json 2>&1 | python3 -c "
import json, sys
said = sys.stdin.read()
try: print(*[r['prefix'] for s in json.loads(said)['sessions'] for r in s['received'] if r['refused'] is None])
except (ValueError, KeyError): print(said)"
}
speaking() { # STEP... : in the background, until it is told to end
    speak "$@" &
    SPEAKER=$!
    wait_for 20 is "[1, 1]" established contoso || fail "the session does not come up: $(cat "$WORK/spoken"; ask circuits)"
}
has() { [[ " $(primary) " == *" $1 "* ]]; }
lacks() { ! has "$1"; }
A=announce=172.29.0.0/16
# RFC 7606: treat-as-withdraw for ORIGIN, NEXT_HOP and AS_PATH; attribute discard for ATOMIC_AGGREGATE and AGGREGATOR.
speaking $A "until=$WORK/go-2" "$A,40010109" "until=$WORK/go-3" $A "announce=172.28.0.0/16,40060101,c007020001" \
    "until=$WORK/go-4" "announce=172.27.0.0/16,40020a02020000fde9000000ff" "announce=172.26.0.0/16,40020a02020000fde900002f2c" \
    "announce=172.25.0.0/16,4003020a01" "announce=172.24.0.0/16,4002060201000000ff" "until=$WORK/go-5" withdraw=172.29.0.0/16 wait=600
go() { touch "$WORK/go-$1"; }
wait_for 10 has 172.29.0.0/16 || fail "a route is not learned: $(primary)"
go 2
wait_for 10 lacks 172.29.0.0/16 || fail "a wrong ORIGIN withdraws nothing: $(primary)"
pass "a wrong ORIGIN counts as a withdrawal"
go 3
wait_for 10 has 172.28.0.0/16 && has 172.29.0.0/16 || fail "$(primary)"
pass "wrong attributes that nobody needs are dropped, and the route is kept"
go 4
wait_for 10 has 172.27.0.0/16 && sleep 0.5 && lacks 172.26.0.0/16 && lacks 172.25.0.0/16 && lacks 172.24.0.0/16 &&
    has 172.29.0.0/16 || fail "$(primary)"
pass "no route: a path with our own number, one that begins with another's, a next hop of two octets"
go 5
wait_for 10 lacks 172.29.0.0/16 || fail "$(primary)"
is "[1, 1]" established contoso || fail "$(ask circuits)"
pass "the session has outlived all of that"
kill $SPEAKER 2>/dev/null
on site-a pkill -f bgp_peer.py
wait_for 10 is "[0, 1]" established contoso || fail "$(ask circuits)"

# What ends a session says why (RFC 4271, 6.1), and whoever has done so waits (8.1: the idle hold time).
speak raw=00ffffffffffffffffffffffffffffff001304 wait=1
grep -qx "notification 1 1" "$WORK/spoken" || fail "$(cat "$WORK/spoken"; ask circuits)"
pass "a broken marker ends the session: NOTIFICATION 1/1"
speak wait=1
grep -qx "notification 6 5" "$WORK/spoken" || fail "$(cat "$WORK/spoken"; ask circuits)"
pass "and the next connection is rejected for a while: NOTIFICATION 6/5"
is "[0, 1]" established contoso || fail "$(ask circuits)"
check "FRR's link has carried on" site_reached vm-a
echo "    contoso's sessions came and went: $(ups contoso)"
! grep -E 'secret-of' "$WORK/clearway.log" || fail "a key is in the log"
! grep -iE 'panick' "$WORK/clearway.log" || fail "it has panicked"
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
