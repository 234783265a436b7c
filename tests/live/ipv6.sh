#!/usr/bin/env bash
# IPv6 inside and outside: tunnels between IPv6 addresses (Open vSwitch at the other ends), both families inside them; the
# kernel finds the neighbours; within a flow nothing comes twice or late. What is too large is told by ICMPv6.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

under6() {
    local n ends=()
    for n in switch cw web db site internet; do space $n 6; done
    ip -n $RUN-switch link add br0 type bridge mcast_snooping 0
    ip -n $RUN-switch link set br0 mtu 1600 up
    for n in cw web db; do
        wire switch p-$n $n "$([ $n = cw ] && echo fab0 || echo u0)"
        ip -n $RUN-switch link set p-$n master br0
    done
    wire cw edge0 site u0
    wire cw inet0 internet u0
    ip -n $RUN-cw addr add 2001:db8:1::2/64 dev fab0 nodad
    ip -n $RUN-cw addr add 2001:db8:2::1/64 dev edge0 nodad
    ip -n $RUN-cw addr add 2001:db8:3::2/64 dev inet0 nodad
    ip -n $RUN-internet addr add 2001:db8:3::1/64 dev u0 nodad
    ip -n $RUN-internet addr add 2001:db8:99::80/128 dev lo
    ip -n $RUN-internet route add fd00:1::/48 via 2001:db8:3::2
    plain internet u0
    end6 web 2001:db8:1::11/64 2001:db8:1::2 0xa01 10.1.0.4 fd00:1::4 & ends+=($!)
    end6 db 2001:db8:1::12/64 2001:db8:1::2 0xa01 10.1.0.5 fd00:1::5 & ends+=($!)
    end6 site 2001:db8:2::2/64 2001:db8:2::1 0xc01 192.168.9.1 fd00:9::1 & ends+=($!)
    for n in "${ends[@]}"; do wait "$n" || return 1; done
}

end6() { # NAME UNDERLAY/LENGTH REMOTE KEY INNER INNER6 : a GRE end with both families inside
    on "$1" sysctl -qw net.ipv6.conf.u0.disable_ipv6=1
    gre_end "$1" "$2" "$3" "$4" "$5" || return 1
    ip -n "$RUN-$1" addr replace "$2" dev br-phy nodad
    ip -n "$RUN-$1" addr add "$6/128" dev br-int nodad
    ip -n "$RUN-$1" -6 neigh replace fe80::909 lladdr 02:00:00:00:09:09 dev br-int nud permanent
    ip -n "$RUN-$1" -6 route add default via fe80::909 dev br-int onlink src "$6"
    on "$1" ovs-ofctl add-flow "unix:$WORK/$1/br-int.mgmt" \
        "in_port=gre0,ipv6,actions=mod_dl_dst:02:00:00:00:02:02,LOCAL"
    on "$1" ovs-ofctl add-flow "unix:$WORK/$1/br-int.mgmt" "in_port=LOCAL,ipv6,actions=output:gre0"
}

under6 || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
sed -i -e 's/address: 198.51.100.2,/address: "2001:db8:1::2",/' -e 's/address: 100.64.1.1,/address: "2001:db8:2::1",/' \
    -e 's/address: 203.0.113.2, nextHop: 203.0.113.1/address: "2001:db8:3::2", nextHop: "2001:db8:3::1"/' \
    -e 's/remote: 100.64.1.2/remote: "2001:db8:2::2"/' \
    -e 's/addressPrefixes: \[10.1.0.0\/16\]/addressPrefixes: [10.1.0.0\/16, "fd00:1::\/48"]/' \
    -e 's/{name: web, addressPrefix: 10.1.0.0\/24,/{name: web, addressPrefixes: [10.1.0.0\/24, "fd00:1::\/64"],/' \
    -e 's/{address: 198.51.100.11, vnet: hub, prefixes: \[10.1.0.4\/32\]}/{address: "2001:db8:1::11", vnet: hub, prefixes: [10.1.0.4\/32, "fd00:1::4\/128"]}/' \
    -e 's/{address: 198.51.100.12, vnet: hub, prefixes: \[10.1.0.5\/32\]}/{address: "2001:db8:1::12", vnet: hub, prefixes: [10.1.0.5\/32, "fd00:1::5\/128"]}/' \
    -e 's/{address: 198.51.100.13, vnet: hub/{address: "2001:db8:1::13", vnet: hub/' \
    -e 's/^      - {prefix: 192.168.0.0\/16,.*/&\n      - {prefix: "fd00:9::\/48", circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}/' \
    -e 's/secondaryPeerAddressPrefix: 192.168.255.4\/30/&, ipv6PeeringConfig: {primaryPeerAddressPrefix: "2001:db8:ff::\/126", secondaryPeerAddressPrefix: "2001:db8:ff::4\/126"}/' \
    "$WORK/config.yaml"

serve db 80 22
serve site 80
serve internet 80
iperf_server db

for io in af_packet af_xdp; do
    sed -i -E "s/device: ([a-z0-9]+)(, io: [a-z_]+)?\}/device: \1, io: $io}/" "$WORK/config.yaml"
    for n in cw web db site internet; do ip -n $RUN-$n -6 neigh flush nud reachable nud stale nud delay 2>/dev/null; done
    start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 12 "$WORK/clearway.log")"
    check "$io: IPv4 inside, host to host" on web ping -c 3 -i 0.1 -W 2 10.1.0.5
    check "$io: IPv6 inside, host to host" on web ping -6 -c 3 -i 0.1 -W 2 fd00:1::5
    check "$io: IPv6 inside, host to site" on web ping -6 -c 3 -i 0.1 -W 2 fd00:9::1
    check "$io: IPv6 inside, site to host" on site ping -6 -c 3 -i 0.1 -W 2 fd00:1::4
    check "$io: IPv4 inside, host to site" on web ping -c 3 -i 0.1 -W 2 192.168.9.1
    check "$io: IPv6, host to Internet" on web ping -6 -c 3 -i 0.1 -W 2 2001:db8:99::80
    check "$io: the kernel answers on its own address" on internet ping -6 -c 2 -i 0.2 -W 2 2001:db8:3::2
    check "$io: TCP host to host" tcp web fd00:1::5 80
    denied "$io: TCP that the NSG denies" web fd00:1::5 22
    check "$io: TCP to the site" tcp web fd00:9::1 80
    check "$io: TCP to the Internet" tcp web 2001:db8:99::80 80
    iperf web fd00:1::5 "$WORK/iperf.json"
    read -r bytes _ < <(came "$WORK/iperf.json")
    [ "$bytes" -gt 10000 ] || fail "$io: iperf3: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
    pass "$io: iperf3 over IPv6 in IPv6: $bytes bytes"
    in_order "$io: IPv6 in IPv6, host to host" web fd00:1::4 db fd00:1::5 2500

    # Nobody but the kernel asks, and answers, for MAC addresses.
    ip -n $RUN-cw -6 neigh show >"$WORK/neighbours"
    for n in 1::11 1::12 2::2 3::1; do
        grep -Eq "^2001:db8:$n dev .* lladdr " "$WORK/neighbours" || fail "the kernel has no neighbour 2001:db8:$n: $(cat "$WORK/neighbours")"
    done
    pass "$io: the kernel knows the neighbours"
    ip -n $RUN-cw -6 neigh flush dev fab0
    check "$io: and finds them anew" wait_for 10 on web ping -6 -c 1 -W 1 fd00:1::5
    balanced
    kill -TERM $APPLIANCE
    wait $APPLIANCE || fail "it does not end well"
done

# Room: 1400 - 40 - 8.
sed -i '/^  edge:/s/mtu: 1600/mtu: 1400/' "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
check_not "too large for the edge" on web ping -6 -c 1 -W 1 -M do -s 1352 fd00:9::1
ip -n $RUN-web -6 route get fd00:9::1 | grep -q 'mtu 1352' || fail "the kernel keeps its path MTU: $(ip -n $RUN-web -6 route get fd00:9::1; cat "$WORK/said")"
check "what fits goes" on web ping -6 -c 1 -W 1 -M do -s 1304 fd00:9::1
check "the kernel's own fragments go" on web ping -6 -c 2 -i 0.2 -W 1 -s 3000 fd00:9::1
pass "packet too big lowers the path MTU"
balanced
done_testing
