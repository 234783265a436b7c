#!/usr/bin/env bash
# IPv6 on the links of a circuit beside IPv4, with a real router (BIRD): a session of each family and BFD on each link, both
# learn and advertise; a link that dies takes neither family along, and a router that leaves takes its routes along.
#
#   vm 10.1.0.4, fd00:1::4 ─ GRE ─ fab0 ─ clearway ┬─ edge1 ─ GRE ── primary    192.168.255.1, 2001:db8:ff::1 ─┬ site
#                                                  └─ edge2 ─ GRE ── secondary  192.168.255.5, 2001:db8:ff::5 ─┘
#                                                                                      192.168.9.1, fd00:9::1
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
cd "$(dirname "$0")/../.." || exit 1
. tools/live/circuits.sh

[ -z "$(lacking bird birdc nft)" ] || {
    echo "skipped: circuits6.sh: there is no $(lacking bird birdc nft)"
    exit 0
}

underlay6() {
    local n
    for n in cw vm site; do space $n 6; done
    wire cw fab0 vm u0
    wire cw edge1 site u1
    wire cw edge2 site u2
    for n in fab0 edge1 edge2; do plain cw $n; done
    for n in "vm u0" "site u1" "site u2"; do plain $n; done
    ip -n $RUN-cw addr add 198.51.100.2/24 dev fab0
    ip -n $RUN-vm addr add 198.51.100.11/24 dev u0
    gre6 vm gre0 198.51.100.11 198.51.100.2 0xa01 10.1.0.4/32 fd00:1::4/128 || return 1
    ip -n $RUN-vm route add default dev gre0 src 10.1.0.4
    ip -n $RUN-vm -6 route add default dev gre0 src fd00:1::4
    for n in 1 2; do
        ip -n $RUN-cw addr add 100.64.$n.1/24 dev edge$n
        ip -n $RUN-site addr add 100.64.$n.2/24 dev u$n
    done
    gre6 site link1 100.64.1.2 100.64.1.1 0xa11 192.168.255.1/30 2001:db8:ff::1/126 &&
        gre6 site link2 100.64.2.2 100.64.2.1 0xa12 192.168.255.5/30 2001:db8:ff::5/126 || return 1
    ip -n $RUN-site addr add 192.168.9.1/32 dev lo
    ip -n $RUN-site addr add fd00:9::1/128 dev lo
    on site sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1 \
        net.ipv6.conf.all.forwarding=1 net.ipv6.fib_multipath_hash_policy=1
}

gre6() { # NAME DEVICE UNDERLAY REMOTE KEY INNER INNER6 : a GRE end with both families inside
    start "$1" tools/live/gre.py "$3" "$4" "$2" "$5"
    wait_for 5 ip -n "$RUN-$1" link show "$2" || return 1
    ip -n "$RUN-$1" link set "$2" mtu 1400 up
    ip -n "$RUN-$1" addr add "$6" dev "$2"
    ip -n "$RUN-$1" addr add "$7" dev "$2" nodad
}

bird6() {
    cat >"$WORK/site.conf" <<BIRD
router id 192.168.255.1;
log "$WORK/site.log" all;
protocol device { scan time 1; }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol kernel { ipv6 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
protocol static { ipv4; route 192.168.9.0/24 blackhole; }
protocol static { ipv6; route fd00:9::/48 blackhole; route fd00:a::/48 blackhole; }
template bgp azure {
  local as 65001; password "secret-of-contoso"; bfd on; hold time 30; graceful restart on; graceful restart time 30;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
}
template bgp azure4 from azure { ipv4 { import all; export where source = RTS_STATIC; }; }
template bgp azure6 from azure { ipv6 { import all; export where source = RTS_STATIC; }; }
protocol bgp by_link1 from azure4 { neighbor 192.168.255.2 as 12076; source address 192.168.255.1; }
protocol bgp by_link2 from azure4 { neighbor 192.168.255.6 as 12076; source address 192.168.255.5; }
protocol bgp by_link1_6 from azure6 { neighbor 2001:db8:ff::2 as 12076; source address 2001:db8:ff::1; }
protocol bgp by_link2_6 from azure6 { neighbor 2001:db8:ff::6 as 12076; source address 2001:db8:ff::5; }
BIRD
    start site bird -f -c "$WORK/site.conf" -s "$WORK/site.ctl" -P "$WORK/site.pid" >"$WORK/site.out" 2>&1
    wait_for 5 test -S "$WORK/site.ctl"
}

cat >"$WORK/config.yaml" <<'YAML'
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600, device: fab0}
  edge-1: {role: edge, address: 100.64.1.1, mtu: 1600, device: edge1}
  edge-2: {role: edge, address: 100.64.2.1, mtu: 1600, device: edge2}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, "fd00:1::/48"]}
        subnets:
          - {name: vms, addressPrefixes: [10.1.0.0/24, "fd00:1::/64"]}
          - {name: GatewaySubnet, addressPrefixes: [10.1.255.0/27, "fd00:1:0:ff::/64"]}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    sharedKey: secret-of-contoso,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30,
                    ipv6PeeringConfig: {primaryPeerAddressPrefix: "2001:db8:ff::/126",
                                        secondaryPeerAddressPrefix: "2001:db8:ff::4/126"}}]
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, link: primary, port: edge-1, remote: 100.64.1.2, key: 0xa11}
      - {circuit: er1, link: secondary, port: edge-2, remote: 100.64.2.2, key: 0xa12}
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.4/32, "fd00:1::4/128"]}]
YAML

underlay6 || fail "the underlay does not come up"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

links() { # PYTHON : of the links l, in order
    ask circuits --customer contoso --json | python3 -c "
import json, sys
links = json.load(sys.stdin)['links']
print($1)"
}
up() { # COUNT : so many links are wholly up: a session of each family, and what BFD says of each
    [ "$(links "sum(l['up'] and [s['family'] for s in l['bgp'] if s['up']] == ['ipv4', 'ipv6'] and [s['family'] for s in l['bfd'] if s['state'].lower() == 'up'] == ['ipv4', 'ipv6'] for l in links)")" = "$1" ]
}
received() { # IPV4 IPV6 : so many prefixes on each link
    [ "$(links "[s['received'] for l in links for s in l['bgp']]")" = "[$1, $2, $1, $2]" ]
}
sent() { links "' '.join(str(l['out']['packets']) for l in links)"; } # to the customer, by each link
learned() { # HOPS : the site has the space of the VNet by so many links
    [ "$(ip -n $RUN-site -6 route show fd00:1::/48 | grep -o 'dev link[12]' | sort -u | wc -l)" = "$1" ]
}
# Many flows, each with an identifier of its own: an answer to each.
flows() {
    local n pings=()
    for n in $(seq 1 16); do
        on vm ping -6 -e $((1000 + n)) -c 1 -W 2 fd00:9::1 >"$WORK/ping.$n" 2>&1 & pings+=($!)
    done
    for n in "${pings[@]}"; do wait "$n" || return 1; done
}

bird6 || fail "BIRD does not start: $(cat "$WORK/site.out")"
wait_for 30 up 2 || fail "the links do not come up: $(ask circuits; ask bgp)"
pass "both links are up, with BGP, TCP-MD5 and BFD of both families"
for n in "1 2" "5 6"; do
    read -r theirs ours <<<"$n"
    check "our end 2001:db8:ff::$ours answers" on site ping -6 -c 2 -i 0.2 -W 2 -I 2001:db8:ff::$theirs 2001:db8:ff::$ours
done
wait_for 5 received 1 2 || fail "$(ask bgp)"
ask bgp routes --customer contoso --circuit er1 --link secondary >"$WORK/said" 2>&1
grep -qE 'fd00:9::/48 .*65001' "$WORK/said" || fail "$(cat "$WORK/said")"
pass "prefixes of both families are learned on each link"
wait_for 5 learned 2 || fail "$(ip -n $RUN-site -6 route)"
pass "the site has learned the IPv6 space of the VNet by both links"
check "IPv4 from the VM to the site" on vm ping -c 2 -i 0.2 -W 2 192.168.9.1
check "IPv6 from the VM to the site" on vm ping -6 -c 2 -i 0.2 -W 2 fd00:9::1
check "IPv6 from the site to the VM" on site ping -6 -c 2 -i 0.2 -W 2 -I fd00:9::1 fd00:1::4
read -r primary secondary <<<"$(sent)"
check "many flows" flows
read -r by_primary by_secondary <<<"$(sent)"
[ "$by_primary" -gt "$primary" ] && [ "$by_secondary" -gt "$secondary" ] || fail "before $primary $secondary, then $(sent)"
pass "both links carry them"

# A link dies in silence.
silence site u1
wait_for 5 up 1 || fail "$(ask circuits)"
wait_for 5 learned 1 || fail "$(ip -n $RUN-site -6 route)"
read -r primary secondary <<<"$(sent)"
check "many flows while a link is silent" flows
read -r by_primary by_secondary <<<"$(sent)"
[ "$by_primary" = "$primary" ] && [ "$by_secondary" -ge $((secondary + 16)) ] ||
    fail "before $primary $secondary, then $(sent)"
pass "the other link carries all"
check "IPv4 too" on vm ping -c 2 -i 0.2 -W 2 192.168.9.1
unsilence site u1
wait_for 60 up 2 || fail "the link does not come back: $(ask circuits)"
pass "it comes back"

# The router withdraws a prefix, then it leaves.
sed -i 's/ route fd00:a::\/48 blackhole;//' "$WORK/site.conf"
birdc_in site configure >/dev/null
wait_for 5 received 1 1 || fail "$(ask bgp)"
pass "a prefix that is withdrawn is gone"
birdc_in site down >/dev/null
wait_for 10 received 0 0 || fail "$(ask bgp)"
up 0 || fail "$(ask circuits)"
was=$(sent)
check_not "without the router the site's IPv6 address is not reached" on vm ping -6 -c 1 -W 1 fd00:9::1
[ "$(sent)" = "$was" ] || fail "something was sent to it: before $was, then $(sent)"
ask bgp routes --customer contoso --circuit er1 --link primary >"$WORK/said" 2>&1
! grep -q 'fd00:9::' "$WORK/said" || fail "$(cat "$WORK/said")"
pass "the router is stopped: its routes are gone"
balanced
kill $APPLIANCE
wait $APPLIANCE || fail "it ends with $?"
done_testing
