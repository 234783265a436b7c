# shellcheck shell=bash
# VPP, if it is installed: its packet generator -> GRE tunnels with keys -> the ACL plugin with sessions -> a routing table
# per customer -> GRE tunnels -> a port that throws away. One core: packets and commands share VPP's main thread.

packages_vpp() { :; }

missing_vpp() { ! command -v vpp >/dev/null || ! command -v vppctl >/dev/null; }

vpp_ask() { timeout 60 vppctl -s "$T/vpp/cli.sock" "$@"; }

start_vpp() {
    local id
    rm -rf "$T/vpp"
    mkdir "$T/vpp"
    cat >"$T/vpp/startup.conf" <<END
unix { nodaemon nosyslog nobanner runtime-dir $T/vpp cli-listen $T/vpp/cli.sock log $T/vpp/log }
api-segment { prefix clearway-compare-$$ }
socksvr { socket-name $T/vpp/api.sock }
statseg { socket-name $T/vpp/stats.sock }
cpu { main-core $CORE }
memory { main-heap-size 2G main-heap-page-size default-hugepage }
buffers { buffers-per-numa 32768 }
plugins { plugin default { disable } plugin acl_plugin.so { enable } plugin gre_plugin.so { enable } }
acl-plugin { connection hash buckets 524288 connection hash memory 1G connection count max 1500000 }
END
    setsid nice -n -20 vpp -c "$T/vpp/startup.conf" >"$T/vpp/out" 2>&1 &
    id=$!
    : >"$T/running/$id"
    { echo -20 >"/proc/$id/autogroup"; } 2>/dev/null || true
    for _ in {1..100}; do
        [ ! -S "$T/vpp/cli.sock" ] || break
        kill -0 "$id" 2>/dev/null || fail "VPP does not start: $(tail -n 1 "$T/vpp/out")"
        sleep 0.1
    done
}

# Commands that build the network: interfaces, tunnels of customers and of next hops, rules, routes.
vpp_commands() {
    local customer hop
    echo 'create packet-generator interface pg0'
    echo 'create packet-generator interface pg1'
    echo 'set interface mac address pg0 02:00:00:00:00:02'
    echo 'set interface ip address pg0 198.18.0.2/24'
    echo 'set interface ip address pg1 198.18.1.254/24'
    echo 'set interface state pg0 up'
    echo 'set interface state pg1 up'
    echo 'ip neighbor pg0 198.18.0.1 02:00:00:00:00:01'
    for ((customer = 0; customer < CUSTOMERS; customer++)); do
        echo "ip table add $((customer + 1))"
        echo "create gre tunnel src 198.18.0.2 dst 198.18.0.1 instance $customer key $((5000 + customer))"
        echo "set interface ip table gre$customer $((customer + 1))"
        echo "set interface ip address gre$customer 169.254.0.$customer/32"
        echo "set interface state gre$customer up"
    done
    for hop in 0 1 2 3 4 5 6 7; do
        echo "ip neighbor pg1 198.18.1.$((hop + 1)) 02:00:00:00:01:0$hop"
        echo "create gre tunnel src 198.18.0.2 dst 198.18.1.$((hop + 1)) instance $((1000 + hop)) key $((5000 + hop))"
        echo "set interface ip address gre$((1000 + hop)) 169.254.1.$hop/32"
        echo "set interface state gre$((1000 + hop)) up"
    done
    awk '{
        rule = ($1 == "allow" ? "permit+reflect" : "deny") " src " $3 " dst " $4
        if ($2) rule = rule " proto " $2
        if ($2 && $5 "-" $6 != "0-65535") rule = rule " dport " $5 "-" $6
        printf "%s%s", (NR == 1 ? "set acl-plugin acl " : ", "), rule
    } END {print ""}' "$1/rules.txt"
    for ((customer = 0; customer < CUSTOMERS; customer++)); do echo "set acl-plugin interface gre$customer input acl 0"; done
    awk '{print "ip route add " $3 " table " $1 + 1 " via gre" 1000 + $4}' "$1/routes.txt"
}

# vpp_stream NAME CAPTURE PACKETS: begins to send a capture, over and over, that many packets in all.
vpp_stream() {
    vpp_ask clear interfaces >/dev/null
    vpp_ask packet-generator new "{ name $1 limit $3 node ethernet-input interface pg0 pcap $2 }" >&2
    vpp_ask packet-generator enable-stream "$1" >&2
}
vpp_received() { vpp_ask show interface pg0 | awk '/rx packets/ {n = $NF} END {printf "%.0f\n", n}'; }
vpp_sent() { vpp_ask show interface pg1 | awk '/tx packets/ {n = $NF} END {printf "%.0f\n", n}'; }

measure_vpp() {
    local traffic flows
    about vpp "VPP $(dpkg-query -W -f '${Version}' vpp 2>/dev/null || echo 'of unknown version')" \
        "copy in, GRE with keys in and out, one list of rules with sessions (ACL plugin), a routing table per customer, TTL" \
        "network card, answers of a flow, sources, NSGs per NIC and subnet, fragments"
    for traffic in small million; do
        huge_pages 1280
        start_vpp
        vpp_commands "$T/$traffic" >"$T/vpp/commands"
        vpp_ask exec "$T/vpp/commands" >&2
        [ "$(vpp_ask show gre tunnel | grep -c instance)" = $((CUSTOMERS + 8)) ] || fail "VPP makes no GRE tunnels with keys; version 25.10 or newer does"
        flows=$(awk '/^open/ {print $2}' "$T/$traffic/expect.txt")
        vpp_stream first "$T/$traffic/open.pcap" "$flows"
        wait_received vpp "$flows"
        vpp_stream steady "$T/$traffic/steady.pcap" 1000000000
        wait_received vpp 2000000
        windows vpp "$traffic" 0.3
        vpp_ask packet-generator disable-stream steady >&2
        if [ "$traffic" = million ]; then
            vpp_ask clear acl-plugin sessions >&2
            vpp_stream new "$T/million/open.pcap" "$flows"
            windows vpp new 0.1
        fi
        tidy
    done
}
