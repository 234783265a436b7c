# Two customers with the same addresses, each with a circuit of two links to a router of its own (BIRD), in network
# namespaces. To be sourced behind lib.sh.
#
#   vm-a 10.1.0.4 ─ GRE ─┐                      ┌─ edge1 ─┬─ GRE ── primary    192.168.255.1 ─ site-a 192.168.9.1
#                        ├─ fab0 ─ clearway ────┤         └─ GRE ─┐
#   vm-b 10.1.0.4 ─ GRE ─┘                      └─ edge2 ── GRE ──┴ secondary  192.168.255.5 ─ site-b 192.168.9.1
#
# The first edge carries the primary links of both customers, the second the secondary ones.

# A host of a VNet: its packets go by a TUN device in GRE.
vm() { # NAME UNDERLAY-ADDRESS KEY
    ip -n "$RUN-$1" addr add "$2/24" dev u0
    start "$1" tools/live/gre.py "$2" 198.51.100.2 gre0 "$3"
    wait_for 5 ip -n "$RUN-$1" link show gre0 || return 1
    ip -n "$RUN-$1" addr add 10.1.0.4/32 dev gre0
    ip -n "$RUN-$1" link set gre0 mtu 1400 up
    ip -n "$RUN-$1" route add default dev gre0 src 10.1.0.4
}

# A customer's router with both links, as its own kernel has them; 192.168.9.1 is its site.
site() { # NAME LAST-BYTE PRIMARY-KEY SECONDARY-KEY
    local name=$1 n
    for n in 1 2; do ip -n "$RUN-$name" addr add "100.64.$n.$2/24" dev u$n; done
    start "$name" tools/live/gre.py "100.64.1.$2" 100.64.1.1 link1 "$3"
    start "$name" tools/live/gre.py "100.64.2.$2" 100.64.2.1 link2 "$4"
    for n in link1 link2; do wait_for 5 ip -n "$RUN-$name" link show $n || return 1; done
    ip -n "$RUN-$name" addr add 192.168.255.1/30 dev link1
    ip -n "$RUN-$name" addr add 192.168.255.5/30 dev link2
    for n in link1 link2; do ip -n "$RUN-$name" link set $n mtu 1400 up; done
    ip -n "$RUN-$name" addr add 192.168.9.1/32 dev lo
    on "$name" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1
}

# BIRD in a router; more of its configuration comes from standard input.
bird_in() { # NAME KEY-OF-TCP-MD5
    local name=$1
    {
        cat <<BIRD
router id 192.168.255.1;
log "$WORK/$name.log" all;
protocol device { scan time 1; }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
protocol static { ipv4; route 192.168.9.0/24 blackhole;
include "$WORK/$name.routes";
}
template bgp azure {
  local as 65001; password "$2"; bfd on; hold time 30; graceful restart on; graceful restart time 30;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp by_link1 from azure { neighbor 192.168.255.2 as 12076; source address 192.168.255.1; }
protocol bgp by_link2 from azure { neighbor 192.168.255.6 as 12076; source address 192.168.255.5; }
BIRD
    } >"$WORK/$name.conf"
    [ -e "$WORK/$name.routes" ] || : >"$WORK/$name.routes"
    start "$name" bird -f -c "$WORK/$name.conf" -s "$WORK/$name.ctl" -P "$WORK/$name.pid" >"$WORK/$name.out" 2>&1
    wait_for 5 test -S "$WORK/$name.ctl"
}

birdc_in() { # NAME COMMAND...
    local name=$1
    shift
    birdc -s "$WORK/$name.ctl" "$@"
}

# FRR in a router: zebra, with the configuration that comes from standard input; further daemons are begun by frr_daemon.
FRR=/usr/lib/frr
frr_in() { # NAME
    local dir=$WORK/$1-frr
    install -d -o frr -g frr "$dir"
    install -o frr -g frr -m 640 /dev/null "$dir/empty.conf"
    : >"$dir/vtysh.conf"
    cat >"$dir/frr.conf"
    chown frr:frr "$dir/frr.conf"
    frr_daemon "$1" zebra -s 90000000
}
frr_daemon() { # NAME DAEMON [OPTION...]
    local dir=$WORK/$1-frr
    start "$1" "$FRR/$2" -f "$dir/empty.conf" -i "$dir/$2.pid" -z "$dir/zserv.api" --vty_socket "$dir" "${@:3}" \
        >>"$WORK/$1-$2.out" 2>&1
    wait_for 10 test -S "$dir/$2.vty"
}
vtysh_in() { # NAME OPTION... : a vtysh that asks the daemons there
    vtysh --vty_socket "$WORK/$1-frr" --config_dir "$WORK/$1-frr" "${@:2}"
}

# Silence of a link in both directions, without a sign of it at either end; and the end of that.
silence() { # NAME u1|u2
    on "$1" nft -f - <<NFT
table netdev silent_$2 {
  chain in { type filter hook ingress device $2 priority 0; policy drop; }
  chain out { type filter hook egress device $2 priority 0; policy drop; }
}
NFT
}
unsilence() { on "$1" nft delete table netdev "silent_$2"; }

circuit_underlay() {
    local n c
    for n in switch cw vm-a vm-b site-a site-b; do space $n; done
    for n in 0 1 2; do
        ip -n $RUN-switch link add br$n type bridge
        ip -n $RUN-switch link set br$n mtu 1600 up
    done
    cable() { # BRIDGE NAME DEVICE
        wire switch "p$1-$2" "$2" "$3"
        ip -n $RUN-switch link set "p$1-$2" master "br$1"
        plain "$2" "$3"
    }
    cable 0 cw fab0
    cable 1 cw edge1
    cable 2 cw edge2
    for c in a b; do
        cable 0 vm-$c u0
        cable 1 site-$c u1
        cable 2 site-$c u2
    done
    ip -n $RUN-cw addr add 198.51.100.2/24 dev fab0
    ip -n $RUN-cw addr add 100.64.1.1/24 dev edge1
    ip -n $RUN-cw addr add 100.64.2.1/24 dev edge2
    vm vm-a 198.51.100.11 0xa01 && vm vm-b 198.51.100.12 0xb01 &&
        site site-a 2 0xa11 0xa12 && site site-b 3 0xb11 0xb12
}

circuit_configuration() { # FILE
    local c k h r
    cat >"$1" <<'YAML'
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600, device: fab0}
  edge-1: {role: edge, address: 100.64.1.1, mtu: 1600, device: edge1}
  edge-2: {role: edge, address: 100.64.2.1, mtu: 1600, device: edge2}
customers:
YAML
    for c in "contoso a 11 2" "fabrikam b 12 3"; do
        read -r c k h r <<<"$c"
        cat >>"$1" <<YAML
  - name: $c
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: vms, addressPrefix: 10.1.0.0/24}, {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}]
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    sharedKey: secret-of-$c,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0x${k}01}
      - {circuit: er1, link: primary, port: edge-1, remote: 100.64.1.$r, key: 0x${k}11}
      - {circuit: er1, link: secondary, port: edge-2, remote: 100.64.2.$r, key: 0x${k}12}
    hosts: [{address: 198.51.100.$h, vnet: hub, prefixes: [10.1.0.4/32]}]
YAML
    done
}

# Takes the flows that come to a router, in the background; it listens when this returns, and $RECEIVER is its number.
receive_flows() { # NAME FILE FLOWS
    start "$1" python3 tools/live/flows.py receive "$2" "$3"
    RECEIVER=$!
    wait_for 10 bash -c "[ -n \"\$(ip netns exec $RUN-$1 ss -Huln sport = :9000)\" ]"
}

# What Clearway says of a customer's links.
of_links() { # CUSTOMER PYTHON : of its links l
    ask circuits --customer "$1" --json | python3 -c "
import json, sys
links = json.load(sys.stdin)['links']
print($2)"
}
established() { of_links "$1" "[sum(s['state'].lower() == 'established' for s in l['bgp']) for l in links]"; }
received() { of_links "$1" "[s['received'] for l in links for s in l['bgp']]"; }
ups() { of_links "$1" "[[s['ups'], s['downs']] for l in links for s in l['bgp']]"; }
is() { # WORDS COMMAND... : that is what it says
    [ "$("${@:2}")" = "$1" ]
}
up() { # CUSTOMER COUNT : so many of its links are up, with all that is spoken over them
    is "$2" of_links "$1" "sum(l['up'] and all(s['state'].lower() == 'established' for s in l['bgp']) and all(s['state'].lower() == 'up' for s in l['bfd']) for l in links)"
}
site_reached() { on "$1" ping -c 1 -W 1 192.168.9.1; }
