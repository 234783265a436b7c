# shellcheck shell=bash
# The kernel's own forwarding with a stateful nftables ruleset, in network namespaces. Frames arrive at a veth by
# BPF_PROG_TEST_RUN in batches of 64 and are dropped where they would leave, so that only forwarding is measured.

packages_nftables() { echo 'nftables iproute2 clang libbpf-dev'; }

missing_nftables() { ! command -v nft >/dev/null || missing_xdp; }

# The rules as nft has them: what belongs to a known flow passes, else first match wins.
nft_rules() {
    echo 'table inet compare { chain forward { type filter hook forward priority filter; policy drop;'
    echo 'ct state established,related accept'
    awk '{
        rule = ""
        if ($3 !~ /\/0$/) rule = rule " ip saddr " $3
        if ($4 !~ /\/0$/) rule = rule " ip daddr " $4
        ports = $5 == $6 ? $5 : $5 "-" $6
        if ($2) rule = rule (ports == "0-65535" ? " meta l4proto " $2 : ($2 == 6 ? " tcp" : " udp") " dport " ports)
        else if (ports != "0-65535") rule = rule " meta l4proto { tcp, udp } th dport " ports
        print rule, $1 == "allow" ? "accept" : "drop"
    }' "$1/rules.txt"
    printf '}\n}\n'
}

build_router() {
    local space=$1 far=$2 traffic=$3 hop
    new_namespace "$space"
    new_namespace "$far"
    ip link add in0 netns "$space" type veth peer name in1 netns "$far"
    ip link add out0 netns "$space" type veth peer name out1 netns "$far"
    for hop in "$space in0" "$space out0" "$far in1" "$far out1"; do ip -n "${hop% *}" link set "${hop#* }" up; done
    ip -n "$space" link set in0 address 02:00:00:00:00:02
    ip -n "$space" link set out0 address 02:00:00:00:00:02
    ip -n "$space" address add 198.18.10.1/24 dev in0
    ip -n "$space" address add 198.18.20.1/24 dev out0
    ip -n "$space" neighbour add 198.18.10.2 lladdr 02:00:00:00:00:01 dev in0
    for hop in 2 3 4 5 6 7 8 9; do ip -n "$space" neighbour add "198.18.20.$hop" lladdr 02:00:00:00:00:03 dev out0; done
    ip -n "$space" route add 10.0.0.0/8 via 198.18.10.2
    awk '{print "route add " $3 " via 198.18.20." $4 + 2}' "$traffic/routes.txt" >"$T/ip.batch"
    ip -n "$space" -batch "$T/ip.batch"
    nft_rules "$traffic" >"$T/rules.nft"
    ip netns exec "$space" nft -f "$T/rules.nft"
    # A network card would have verified the checksums.
    ip netns exec "$space" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in0.rp_filter=0 \
        net.ipv4.conf.out0.rp_filter=0 net.netfilter.nf_conntrack_checksum=0 \
        net.netfilter.nf_conntrack_udp_timeout=600 net.netfilter.nf_conntrack_udp_timeout_stream=600
}

measure_nftables() {
    local space=cw-route-$$ far=cw-far-$$ traffic
    about nftables "Linux $(uname -r) forwarding with $(nft --version | cut -d ' ' -f 1,2)" \
        "receive, connection tracking with TCP state and timeouts, one list of rules, route, TTL, up to the egress queue" \
        "GRE and customers (one routing table for all), network card, sources, NSGs per NIC and subnet; checksums are not verified"
    build_xdp
    for traffic in small million; do
        build_router "$space" "$far" "$T/$traffic"
        setting /proc/sys/net/netfilter/nf_conntrack_max 3000000
        setting /proc/sys/net/netfilter/nf_conntrack_buckets 2097152
        pinned "$CORE" ip netns exec "$space" "$T/xdp" "$T/xdp.o" inject "$T/$traffic" "$REPEATS" steady "$traffic" in0 out0 out0
        [ "$traffic" = small ] || pinned "$CORE" ip netns exec "$space" "$T/xdp" "$T/xdp.o" inject "$T/million" "$REPEATS" open new in0 out0 out0
        ip netns del "$space"
        ip netns del "$far"
    done
}
