# shellcheck shell=bash
# Open vSwitch's userspace datapath (the DPDK build) with a database and a switch of our own, in a network namespace:
# a capture as a port -> GRE port -> connection tracking in the customer's zone -> rules -> the customer's routes -> a port
# that throws away. Flows are opened first, with the first packet and the answer of each.

packages_ovs() { echo 'openvswitch-switch-dpdk openvswitch-switch'; }
OVS_SWITCH=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk

missing_ovs() { ! command -v ovs-vsctl >/dev/null || [ ! -x $OVS_SWITCH ]; }

ovs_inside() { ip netns exec "cw-ovs-$$" "$@"; }
ovs_ask() { ovs_inside ovs-appctl --timeout=60 -t "$T/ovs/switch.ctl" "$@"; }
ovs_set() { ovs_inside ovs-vsctl --timeout=60 "--db=unix:$T/ovs/db.sock" "$@"; }

start_ovs() {
    local pid
    export OVS_RUNDIR=$T/ovs OVS_LOGDIR=$T/ovs OVS_DBDIR=$T/ovs OVS_SYSCONFDIR=$T/ovs
    rm -rf "$T/ovs"
    mkdir "$T/ovs"
    new_namespace "cw-ovs-$$"
    ovsdb-tool create "$T/ovs/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovs_inside ovsdb-server "--remote=punix:$T/ovs/db.sock" "--pidfile=$T/ovs/db.pid" "--unixctl=$T/ovs/db.ctl" --detach \
        --no-chdir "--log-file=$T/ovs/db.log" "$T/ovs/conf.db"
    : >"$T/running/$(cat "$T/ovs/db.pid")"
    # Caches as its manual advises for many flows.
    ovs_set --no-wait set Open_vSwitch . other_config:dpdk-init=true "other_config:dpdk-lcore-mask=$(printf 0x%x $((1 << OTHER)))" \
        "other_config:pmd-cpu-mask=$(printf 0x%x $((1 << CORE)))" other_config:dpdk-socket-mem=1536 other_config:max-idle=120000 \
        other_config:flow-limit=1000000 other_config:smc-enable=true \
        "other_config:dpdk-extra=--in-memory --no-pci --no-telemetry --force-max-simd-bitwidth=512"
    setsid nice -n -20 ip netns exec "cw-ovs-$$" $OVS_SWITCH "unix:$T/ovs/db.sock" "--pidfile=$T/ovs/switch.pid" "--unixctl=$T/ovs/switch.ctl" \
        --detach --no-chdir "--log-file=$T/ovs/switch.log" 2>"$T/ovs/error" || fail "Open vSwitch: $(tail -n 1 "$T/ovs/error")"
    pid=$(cat "$T/ovs/switch.pid")
    : >"$T/running/$pid"
    { echo -20 >"/proc/$pid/autogroup"; } 2>/dev/null || true
}

# The bridges: one with the tunnel's address, one with the tunnel's inside.
build_ovs() {
    ovs_set add-br outside -- set bridge outside datapath_type=netdev other-config:hwaddr=02:00:00:00:00:02 fail-mode=secure \
        -- add-br inside -- set bridge inside datapath_type=netdev fail-mode=secure
    ovs_inside ip address add 198.18.0.2/24 dev outside
    ovs_inside ip link set outside up
    ovs_set add-port inside gre0 -- set interface gre0 type=gre options:remote_ip=198.18.0.1 options:local_ip=198.18.0.2 \
        options:key=flow options:packet_type=legacy_l3 \
        -- add-port inside out0 -- set interface out0 type=dpdk options:dpdk-devargs=net_null0,no-rx=1
    ovs_inside ovs-ofctl add-flow "unix:$T/ovs/outside.mgmt" actions=LOCAL
    ovs_ask dpctl/ct-set-maxconns 3000000 >/dev/null
    ovs_ask dpif-netdev/subtable-lookup-prio-set avx512_gather 3 >/dev/null 2>&1 || true
    ovs_ask dpif-netdev/dpif-impl-set dpif_avx512 >/dev/null 2>&1 || true
}

# ovs_tables FOLDER [open]: the whole policy, or the one that only opens flows.
ovs_tables() {
    python3 "$HERE/ovs.py" "$@" >"$T/ovs/flows"
    ovs_inside ovs-ofctl --names -O OpenFlow15 replace-flows "unix:$T/ovs/inside.mgmt" "$T/ovs/flows"
}

# ovs_input NAME CAPTURE [OPTION]: a port whose packets come from a capture, in place of the one before.
ovs_input() {
    ovs_set -- --if-exists del-port outside in0
    ovs_ask dpif-netdev/pmd-stats-clear >/dev/null
    ovs_set add-port outside in0 -- set interface in0 type=dpdk "options:dpdk-devargs=net_pcap_$1,rx_pcap=$2${3:-}"
    [ "$(ovs_set get interface in0 error)" = '[]' ] || fail "Open vSwitch: $(ovs_set get interface in0 error)"
}

# Packets that the core has received from the capture, and those that went to the end.
ovs_received() { ovs_ask dpif-netdev/pmd-stats-show | awk '/^pmd/ {pmd = 1} /^main/ {pmd = 0} pmd && /packets received:/ {print $3}'; }
ovs_sent() { ovs_inside ovs-ofctl --names dump-ports "unix:$T/ovs/inside.mgmt" out0 | awk '/tx pkts=/ {split($2, a, /[=,]/); print a[2]}'; }

measure_ovs() {
    local traffic flows lost
    for traffic in small million; do
        huge_pages 1024
        start_ovs
        build_ovs
        flows=$(awk '/^open/ {print $2}' "$T/$traffic/expect.txt")
        ovs_tables "$T/$traffic" open
        # A new port makes the switch lose some; so every first packet comes twice.
        cp "$T/$traffic/open.pcap" "$T/ovs/both.pcap"
        tail -qc +25 "$T/$traffic/open.pcap" "$T/$traffic/reply.pcap" >>"$T/ovs/both.pcap"
        ovs_input both "$T/ovs/both.pcap"
        wait_received ovs $((3 * flows))
        [ "$(ovs_ask dpctl/ct-get-nconns)" -ge $((flows * 99 / 100)) ] || fail "Open vSwitch tracks $(ovs_ask dpctl/ct-get-nconns) of $flows flows"
        rm "$T/ovs/both.pcap"
        ovs_tables "$T/$traffic"
        if [ "$traffic" = small ]; then
            ovs_input steady "$T/small/steady.pcap" ,infinite_rx=1
            wait_received ovs 2000000
            windows ovs small 0.5
        else
            # A port keeps at most some 200,000 packets in memory, so these come from a file.
            cp "$T/million/steady.pcap" "$T/ovs/long.pcap"
            tail -qc +25 "$T/million/steady.pcap" "$T/million/steady.pcap" "$T/million/steady.pcap" "$T/million/steady.pcap" >>"$T/ovs/long.pcap"
            ovs_input steady "$T/ovs/long.pcap"
            wait_received ovs 1000000
            windows ovs million 0.4
            ovs_set del-port outside in0
            ovs_ask dpctl/flush-conntrack
            ovs_input open "$T/million/open.pcap"
            wait_received ovs 1000
            windows ovs new 0.5
            lost=$(ovs_ask dpif-netdev/pmd-stats-show | awk '/packets received:/ && !n {n = $3} /failed upcall:/ && !f {f = $NF} END {printf "%.0f", 100 * f / n}')
        fi
        tidy
    done
    about ovs "Open vSwitch $(ovs-vsctl --version | awk '{print $NF; exit}'), userspace datapath (DPDK)" \
        "copy in, GRE port with keys, connection tracking in a zone per customer with TCP state and timeouts, one list of rules, routes, TTL" \
        "network card, GRE out, sources, NSGs per NIC and subnet, fragments, ICMP, MTU; of the first packets of flows it lost $lost %"
}
