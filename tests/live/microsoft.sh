#!/usr/bin/env bash
# Microsoft peering with ExaBGP as the customer's router, without TCP-MD5: the service prefixes that a route filter allows are
# advertised with their communities; what is learned has to be within advertisedPublicPrefixes, and says who may send.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(lacking exabgp nft)" ] || {
    echo "skipped: microsoft.sh: there is no $(lacking exabgp nft)"
    exit 0
}
circuit_underlay || fail "the underlay does not come up"
space services
wire cw svc0 services u0
plain cw svc0
plain services u0
ip -n $RUN-cw addr add 203.0.113.130/25 dev svc0
ip -n $RUN-services addr add 203.0.113.129/25 dev u0
ip -n $RUN-services addr add 13.107.6.152/32 dev lo
ip -n $RUN-services route add 20.50.0.0/16 via 203.0.113.130
# The links of the peering, beside those of the private one.
start site-a tools/live/gre.py 100.64.1.2 100.64.1.1 ms1 0xa21
start site-a tools/live/gre.py 100.64.2.2 100.64.2.1 ms2 0xa22
for n in 1 2; do
    wait_for 5 ip -n $RUN-site-a link show ms$n || fail "no device"
    ip -n $RUN-site-a addr add 20.60.0.$((4 * n - 3))/30 dev ms$n
    ip -n $RUN-site-a link set ms$n mtu 1400 up
done
for a in 20.50.1.1 20.50.9.1; do ip -n $RUN-site-a addr add $a/32 dev lo; done
ip -n $RUN-site-a route add 13.107.6.152/31 dev ms1

cat >"$WORK/communities.json" <<'J'
[{"name": "Exchange", "bgpCommunities": [
   {"communityName": "Exchange", "communityValue": "12076:5010", "communityPrefixes": ["13.107.6.152/31", "40.96.0.0/13"]}]},
 {"name": "SharePoint", "bgpCommunities": [
   {"communityName": "SharePoint", "communityValue": "12076:5020", "communityPrefixes": ["13.107.136.0/22", "40.96.0.0/13"]}]}]
J
configure() { # COMMUNITY... : those of the route filter; without any there is no filter
    circuit_configuration "$WORK/config.yaml"
    python3 - "$WORK/config.yaml" "$@" <<'P'
import sys
path, *communities = sys.argv[1:]
text = open(path).read()
contoso, fabrikam = text.split("  - name: fabrikam")
contoso = contoso.replace("customers:", "  services: {role: services, address: 203.0.113.130, nextHop: 203.0.113.129, device: svc0}\n"
                          "communities: communities.json\ncustomers:")
ref = ", routeFilter: office" if communities else ""
contoso = contoso.replace("192.168.255.4/30}]", f"""192.168.255.4/30}},
                   {{name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200{ref},
                    primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30,
                    microsoftPeeringConfig: {{advertisedPublicPrefixes: [20.50.0.0/16], advertisedPublicPrefixesState: Configured}}}}]""")
if communities:
    contoso = contoso.replace("    virtualNetworkGateways:", f"    routeFilters: [{{name: office, rules: [{{name: r, access: Allow, "
                              f"routeFilterRuleType: Community, communities: {communities}}}]}}]\n    virtualNetworkGateways:")
contoso = contoso.replace("    hosts:", """      - {circuit: er1, peering: MicrosoftPeering, link: primary, port: edge-1, remote: 100.64.1.2, key: 0xa21}
      - {circuit: er1, peering: MicrosoftPeering, link: secondary, port: edge-2, remote: 100.64.2.2, key: 0xa22}
    hosts:""")
open(path, "w").write(contoso + "  - name: fabrikam" + fabrikam)
P
}
configure 12076:5010
"$CLEARWAY" check "$WORK/config.yaml" >"$WORK/said" 2>&1 || fail "$(cat "$WORK/said")"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# What ExaBGP is told comes by a pipe; what it has received is written down, one JSON document a line.
cat >"$WORK/feed.py" <<'P'
import sys, threading, time
pipe, heard = sys.argv[1:]
def hear():
    with open(heard, "a") as out:
        for line in sys.stdin:
            out.write(line)
            out.flush()
threading.Thread(target=hear, daemon=True).start()
while True:
    with open(pipe) as commands:
        for line in commands:
            sys.stdout.write(line)
            sys.stdout.flush()
P
mkfifo "$WORK/pipe"
chmod 666 "$WORK/pipe"
: >"$WORK/heard"
chmod 666 "$WORK/heard"
{
    echo "process feed { run $(command -v python3) $WORK/feed.py $WORK/pipe $WORK/heard; encoder json; }"
    for n in 1 2; do
        cat <<EXA
neighbor 20.60.0.$((4 * n - 2)) {
  router-id 20.60.0.1; local-address 20.60.0.$((4 * n - 3)); local-as 64496; peer-as 12076; hold-time 30;
  family { ipv4 unicast; }
  api { processes [ feed ]; receive { parsed; update; notification; } }
}
EXA
    done
} >"$WORK/exa.conf"
export exabgp_api_ack=false exabgp_api_cli=false exabgp_daemon_drop=false exabgp_daemon_user=root \
    exabgp_log_destination=stdout exabgp_tcp_attempts=0
start site-a exabgp "$WORK/exa.conf" >"$WORK/exa.out" 2>&1
tell() { printf '%s\n' "$@" >"$WORK/pipe"; }
announce() { # PREFIX [PATH [COMMUNITY]] : by both links
    tell "announce route $1 next-hop self as-path [ ${2:-64496} ] community [ ${3:-12076:1} ]"
}
of_microsoft() { # PYTHON : of the links l of the peering
    of_links contoso "[$1 for l in links if l['peering'] == 'MicrosoftPeering']"
}
sessions() { is "[$1, $1]" of_microsoft "sum(s['state'].lower() == 'established' for s in l['bgp'])"; }
wait_for 40 sessions 1 || fail "ExaBGP's sessions do not come up: $(ask circuits; tail "$WORK/exa.out")"
pass "ExaBGP: both sessions, without TCP-MD5"

# What it has of us after all that it has heard: prefix, path, communities.
holds() {
    python3 - "$WORK/heard" <<'P'
import json, sys
held = {}
for line in open(sys.argv[1]):
    try: update = json.loads(line)["neighbor"]["message"]["update"]
    except (ValueError, KeyError): continue
    attributes = update.get("attribute", {})
    for hops in update.get("announce", {}).get("ipv4 unicast", {}).values():
        for nlri in hops:
            path = attributes.get("as-path", [])
            held[nlri["nlri"]] = (path, sorted(f"{a}:{b}" for a, b in attributes.get("community", [])))
    for nlri in update.get("withdraw", {}).get("ipv4 unicast", []):
        held.pop(nlri["nlri"], None)
for prefix, (path, communities) in sorted(held.items()):
    print(prefix, *path, *communities, sep=" ", end="; ")
P
}
wait_for 10 is "13.107.6.152/31 12076 12076:5010; 40.96.0.0/13 12076 12076:5010; " holds || fail "$(holds; cat "$WORK/heard")"
pass "the prefixes of the community that the filter allows, with it, and no others"

# What is taken of it.
routes() { # : prefixes of the primary link that are taken, with their paths, and how many are refused
    ask bgp routes --customer contoso --circuit er1 --peering microsoft --link primary --json | python3 -c "
import json, sys
received = [r for s in json.load(sys.stdin)['sessions'] for r in s['received']]
print(*sorted(f\"{r['prefix']} by {r['asPath']}\" for r in received if r['refused'] is None), sum(r['refused'] is not None for r in received))"
}
announce 20.50.1.0/24 "64496 65010 64511 4200000001"
for p in 20.51.0.0/24 10.9.0.0/16 0.0.0.0/0 100.64.5.0/24 20.0.0.0/8; do announce $p; done
taken() { routes | grep -x "20.50.1.0/24 by .*64496.*64511.* 5" | grep -vE '65010|4200000001' >/dev/null; }
wait_for 10 taken || fail "$(routes; ask bgp routes --customer contoso --circuit er1 --peering microsoft)"
pass "taken: what is within advertisedPublicPrefixes, without private AS numbers in its path; the five others are refused"
ask bgp routes --customer contoso --circuit er1 --peering microsoft --refused >"$WORK/said"
for p in 20.51.0.0/24 10.9.0.0/16 0.0.0.0/0 100.64.5.0/24 20.0.0.0/8; do
    grep -F "$p" "$WORK/said" >/dev/null || fail "$p: $(cat "$WORK/said")"
done

# Who may send, and what becomes of its DSCP.
services() { on site-a ping -c 1 -W 1 -I "$1" "${@:2}" 13.107.6.152; }
wait_for 5 services 20.50.1.1 || fail "$(ask circuits)"
pass "from a learned prefix to a service, and back"
before=$(dropped spoofed-source)
check_not "not from a prefix that was not learned" services 20.50.9.1
[ "$(dropped spoofed-source)" -gt "$before" ] || fail "it was not spoofed-source"
on services nft -f - <<'N' || fail "the DSCP is not counted"
table inet dscp {
    chain by {
        ip dscp 46 counter
        ip dscp 40 counter
        ip dscp 0 counter
    }
    chain in {
        type filter hook input priority 0
        ip saddr 20.50.1.1 icmp type echo-request jump by
    }
}
N
marked() { on services nft list chain inet dscp by | sed -n 's/.*packets \([0-9]*\).*/\1/p' | tr '\n' ' '; }
# Type of service: the DSCP and two bits for ECN.
for tos in 0xb8 0xa0 0x04; do services 20.50.1.1 -Q $tos >/dev/null || fail "no answer"; done
[ "$(marked)" = "1 0 2 " ] || fail "DSCP 46, 40, 0: $(marked)"
pass "DSCP 46 stays, 40 and 1 become 0"

# Beyond 200 prefixes.
for n in $(seq 0 198); do echo "announce route 20.50.$((n / 2 + 64)).$((n % 2 * 128))/25 next-hop self"; done >"$WORK/pipe"
at() { ask bgp routes --customer contoso --circuit er1 --peering microsoft --link primary --json | python3 -c "
import json, sys
print(sum(r['refused'] is None for s in json.load(sys.stdin)['sessions'] for r in s['received']))"; }
for p in 20.51.0.0/24 10.9.0.0/16 0.0.0.0/0 100.64.5.0/24 20.0.0.0/8; do tell "withdraw route $p next-hop self"; done
wait_for 15 is 200 at || fail "$(at; ask circuits)"
sessions 1 || fail "$(ask circuits)"
pass "200 prefixes are taken"
announce 20.50.250.0/24
wait_for 15 sessions 0 || fail "$(ask circuits)"
wait_for 5 grep -q '"notification"' "$WORK/heard" || fail "$(tail -n 3 "$WORK/heard")"
grep '"notification"' "$WORK/heard" | grep -q '"code" *: *6 *, *"subcode" *: *1' || fail "$(grep notification "$WORK/heard")"
pass "the 201st ends the session: NOTIFICATION 6/1"
tell "withdraw route 20.50.250.0/24 next-hop self"
wait_for 150 sessions 1 && wait_for 15 is 200 at || fail "$(ask circuits)"
wait_for 5 services 20.50.1.1 || fail "$(ask circuits)"
pass "with 200 it is back"

# Another filter, and none; sessions go on.
configure 12076:5020
ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
wait_for 10 is "13.107.136.0/22 12076 12076:5020; 40.96.0.0/13 12076 12076:5020; " holds || fail "$(holds)"
pass "another route filter is told at once: withdrawn, announced, and with another community"
configure 12076:5020 12076:5010
ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
wait_for 10 is "13.107.136.0/22 12076 12076:5020; 13.107.6.152/31 12076 12076:5010; 40.96.0.0/13 12076 12076:5010 12076:5020; " holds ||
    fail "$(holds)"
pass "a prefix of two communities has both"
configure
ask reload >"$WORK/said" 2>&1 || fail "reload: $(cat "$WORK/said")"
wait_for 10 is "" holds || fail "$(holds)"
pass "without a filter nothing is advertised"
sessions 1 || fail "$(ask circuits)"
tell "withdraw route 20.50.1.0/24 next-hop self"
gone() { ! services 20.50.1.1; }
wait_for 5 gone || fail "$(routes)"
pass "withdrawn: its hosts may send no more"
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
