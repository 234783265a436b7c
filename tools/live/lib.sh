# A small underlay in network namespaces of its own, with real GRE ends (Open vSwitch), for tools/demo and the live tests.
# To be sourced by bash. Everything is made under a name that no other run has, and removed when the script ends, however
# it ends.
#
#                        198.51.100.0/24                       203.0.113.0/24
#   web  10.1.0.4 ─ GRE ─┐                                   ┌─ internet 203.0.113.1, 192.0.2.80 behind it
#   db   10.1.0.5 ─ GRE ─┼─ switch ─ fab0 ─ clearway ─ inet0 ┘
#   fw   10.1.9.4 ─ GRE ─┘                      └──── edge0 ─ GRE ─ site 192.168.9.1      (100.64.1.0/30)

set -uo pipefail
RUN=cw$$
WORK=$(mktemp -d "${TMPDIR:-/tmp}/clearway-live.XXXXXX")
chmod 755 "$WORK"
SPACES=()
PROCESSES=()

lacking() { # COMMAND... : those that are not there
    local c
    for c in "$@"; do command -v "$c" >/dev/null || printf '%s ' "$c"; done
}

tidy() {
    local p n
    for p in "${PROCESSES[@]}"; do kill "$p" 2>/dev/null; done
    sleep 0.2
    for n in "${SPACES[@]}"; do
        # Only what runs in a namespace of ours.
        for p in $(ip netns pids "$n" 2>/dev/null); do kill -9 "$p" 2>/dev/null; done
        ip netns del "$n" 2>/dev/null
    done
    [ -n "${KEEP:-}" ] || rm -rf "$WORK"
}
trap tidy EXIT
trap 'exit 130' INT TERM

space() { # NAME [6] : a namespace, without IPv6 unless it is asked for
    local n=$RUN-$1 no6=1
    [ "${2:-}" != 6 ] || no6=0
    ip netns add "$n" && SPACES+=("$n")
    ip -n "$n" link set lo up
    ip netns exec "$n" sysctl -qw net.ipv6.conf.all.disable_ipv6=$no6 net.ipv6.conf.default.disable_ipv6=$no6 \
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 2>/dev/null
}

on() { # NAME COMMAND... : runs it there
    local n=$RUN-$1
    shift
    ip netns exec "$n" "$@"
}

start() { # NAME COMMAND... : runs it there in the background; $! is its own number
    ip netns exec "$RUN-$1" "${@:2}" &
    PROCESSES+=($!)
}

wire() { # NAME DEVICE NAME DEVICE [MTU] : a cable between two namespaces
    ip link add "$2" netns "$RUN-$1" type veth peer name "$4" netns "$RUN-$3"
    ip -n "$RUN-$1" link set "$2" mtu "${5:-1600}" up
    ip -n "$RUN-$3" link set "$4" mtu "${5:-1600}" up
}

plain() { # NAME DEVICE : sends frames as they are on the wire: checksums filled in, no longer than its MTU
    on "$1" ethtool -K "$2" tx off gro off >/dev/null 2>&1
}

wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# A GRE end in a namespace with a device `u0` on the underlay: its inner side is the device br-int.
gre_end() { # NAME UNDERLAY/LENGTH REMOTE KEY INNER [OPTION...]
    local name=$1 underlay=$2 remote=$3 key=$4 inner=$5 dir=$WORK/$1 db
    shift 5
    mkdir "$dir"
    export OVS_RUNDIR=$dir OVS_DBDIR=$dir OVS_LOGDIR=$dir OVS_SYSCONFDIR=$dir
    db=unix:$dir/db.sock
    ovsdb-tool create "$dir/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    start "$name" ovsdb-server "$dir/conf.db" --remote="punix:$dir/db.sock" --pidfile="$dir/db.pid" \
        --unixctl="$dir/db.ctl" --log-file="$dir/db.log" >/dev/null 2>&1
    wait_for 10 test -S "$dir/db.sock" || return 1
    ovs-vsctl --db="$db" --no-wait init
    start "$name" ovs-vswitchd "$db" --disable-system --pidfile="$dir/vs.pid" --unixctl="$dir/vs.ctl" \
        --log-file="$dir/vs.log" >/dev/null 2>&1
    wait_for 10 test -S "$dir/vs.ctl" || return 1
    plain "$name" u0
    # The bridge answers for its address; the device in it must not.
    on "$name" sysctl -qw net.ipv4.conf.u0.arp_ignore=8
    ovs-vsctl --db="$db" --timeout=10 \
        add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy u0 \
        -- add-br br-int -- set bridge br-int datapath_type=netdev other_config:hwaddr=02:00:00:00:02:02 \
        -- add-port br-int gre0 -- set interface gre0 type=gre "options:remote_ip=$remote" "options:key=$key" \
        options:packet_type=legacy_l3 "$@"
    wait_for 10 ip -n "$RUN-$name" link show br-int || return 1
    ip -n "$RUN-$name" addr add "$underlay" dev br-phy
    ip -n "$RUN-$name" link set br-phy mtu 1600 up
    ip -n "$RUN-$name" addr add "$inner/32" dev br-int
    ip -n "$RUN-$name" link set br-int mtu 1400 up
    plain "$name" br-int
    plain "$name" br-phy
    # No ARP goes through a tunnel of IP packets: whatever is beyond it has this neighbour.
    ip -n "$RUN-$name" neigh replace 169.254.0.1 lladdr 02:00:00:00:09:09 dev br-int nud permanent
    ip -n "$RUN-$name" route add default via 169.254.0.1 dev br-int onlink src "$inner"
    on "$name" ovs-ofctl del-flows "unix:$dir/br-int.mgmt"
    on "$name" ovs-ofctl add-flow "unix:$dir/br-int.mgmt" \
        "in_port=gre0,ip,actions=mod_dl_dst:02:00:00:00:02:02,LOCAL"
    on "$name" ovs-ofctl add-flow "unix:$dir/br-int.mgmt" "in_port=LOCAL,ip,actions=output:gre0"
}

# The whole underlay of the picture above, without Clearway itself.
underlay() {
    local n ends=()
    for n in switch cw web db fw site internet; do space $n; done
    ip -n $RUN-switch link add br0 type bridge
    ip -n $RUN-switch link set br0 mtu 1600 up
    for n in cw web db fw; do
        wire switch p-$n $n "$([ $n = cw ] && echo fab0 || echo u0)"
        ip -n $RUN-switch link set p-$n master br0
    done
    wire cw edge0 site u0
    wire cw inet0 internet u0
    ip -n $RUN-cw addr add 198.51.100.2/24 dev fab0
    ip -n $RUN-cw addr add 100.64.1.1/30 dev edge0
    ip -n $RUN-cw addr add 203.0.113.2/24 dev inet0
    ip -n $RUN-internet addr add 203.0.113.1/24 dev u0
    ip -n $RUN-internet addr add 192.0.2.80/32 dev lo
    ip -n $RUN-internet route add 10.1.0.0/16 via 203.0.113.2
    plain internet u0
    # Side by side: each of them waits for its Open vSwitch most of the time.
    gre_end web 198.51.100.11/24 198.51.100.2 0xa01 10.1.0.4 & ends+=($!)
    gre_end db 198.51.100.12/24 198.51.100.2 0xa01 10.1.0.5 & ends+=($!)
    gre_end fw 198.51.100.13/24 198.51.100.2 0xa01 10.1.9.4 & ends+=($!)
    gre_end site 100.64.1.2/30 100.64.1.1 0xc01 192.168.9.1 & ends+=($!)
    for n in "${ends[@]}"; do wait "$n" || return 1; done
    on fw sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br-int.send_redirects=0
}

configuration() { # FILE : of that underlay
    cat >"$1" <<'YAML'
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600, device: fab0}
  edge:     {role: edge,     address: 100.64.1.1, mtu: 1600, device: edge0}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1, device: inet0}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg, routeTable: web-rt}
          - {name: fw, addressPrefix: 10.1.9.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: DenySsh, priority: 100, direction: Inbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "22"}
          - {name: DenySmtp, priority: 100, direction: Outbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "25"}
          - {name: AllowWeb, priority: 200, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "80"}
    routeTables:
      - name: web-rt
        routes:
          - {name: by-firewall, addressPrefix: 198.18.0.0/15, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
    networkInterfaces:
      - {name: fw-nic, enableIPForwarding: true, ipConfigurations: [{privateIPAddress: 10.1.9.4, subnet: hub/fw}]}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 10000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge, remote: 100.64.1.2, key: 0xc01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.4/32]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.0.5/32]}
      - {address: 198.51.100.13, vnet: hub, prefixes: [10.1.9.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}
YAML
}

CLEARWAY=${CLEARWAY:-clearway}

# Starts Clearway in its namespace and waits until it is ready; its log is $WORK/clearway.log.
start_clearway() { # CONFIG [ARGUMENT...]
    start cw "$CLEARWAY" run "$@" --control "$WORK/control.sock" >"$WORK/clearway.out" 2>"$WORK/clearway.log"
    APPLIANCE=$!
    wait_for 15 is_ready
}

is_ready() { ask counters --json | grep -q '"ready": *true'; }

ask() { # COMMAND... : of the running Clearway
    local command=$1
    shift
    "$CLEARWAY" "$command" "$@" --control "$WORK/control.sock"
}
