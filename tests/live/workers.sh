#!/usr/bin/env bash
# Two workers, over packet sockets and over XDP sockets: ping, TCP and UDP between hosts, to the site and to the Internet;
# within a flow nothing comes twice or late; both directions of a flow are one worker's; what is too large for a port is
# told to who sent it, whose kernel then sends less.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"

underlay || fail "the underlay does not come up"
# Pairs of addresses enough for both workers.
for n in 81 82 83 84; do ip -n $RUN-internet addr add 192.0.2.$n/32 dev lo; done
configuration "$WORK/plain.yaml"
# Each at its own address: of UDP the kernel would choose another one to answer from.
ends="db:10.1.0.5 site:192.168.9.1 internet:192.0.2.80"
for to in $ends; do
    iperf_server ${to%:*} -B ${to#*:}
    serve ${to%:*} 80
done

burst() { # NAME [OPTION...] : iperf3 from web to all three of them at the same time
    local to running=()
    for to in $ends; do
        iperf web "${to#*:}" "$WORK/$1-${to%:*}.json" "${@:2}" &
        running+=($!)
    done
    wait "${running[@]}"
}

for io in af_packet af_xdp; do
    sed "s/device: \([a-z0-9]*\)}/device: \1, io: $io}/" "$WORK/plain.yaml" >"$WORK/config.yaml"
    start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
    [ "$(grep -c "port open.*io=\"$io\"" "$WORK/clearway.log")" = 3 ] || fail "not every port is $io"
    pass "$io on three ports, two workers"
    check "$io: host to host" on web ping -c 3 -i 0.2 -W 2 10.1.0.5
    check "$io: host to site" on web ping -c 3 -i 0.2 -W 2 192.168.9.1
    for n in 80 81 82 83 84; do
        check "$io: host to Internet, 192.0.2.$n" on web ping -c 2 -i 0.1 -W 2 192.0.2.$n
    done
    for to in 10.1.0.5 192.168.9.1 192.0.2.80 192.0.2.81; do check "$io: TCP to $to" tcp web $to 80; done
    burst tcp
    burst back -R
    burst udp -u -b 25M -l 1000
    for to in $ends; do
        to=${to%:*}
        said=
        for how in tcp back; do
            read -r bytes _ < <(came "$WORK/$how-$to.json")
            [ "$bytes" -gt 10000 ] || fail "$io: iperf3 to $to, $how: $bytes bytes: $(tail -n 3 "$WORK/$how-$to.json")"
            said="$said, $how $bytes bytes"
        done
        read -r bytes packets lost late < <(came "$WORK/udp-$to.json")
        [ "$late" = 0 ] && [ "$packets" -gt 1000 ] || fail "$io: UDP to $to: $late late of $packets: $(tail -n 3 "$WORK/udp-$to.json")"
        pass "$io: iperf3 to $to$said; UDP: $packets packets, $late late, $lost lost"
    done
    in_order "$io: host to host" web 10.1.0.4 db 10.1.0.5 5000
    in_order "$io: host to Internet" web 10.1.0.4 internet 192.0.2.80 5000

    "$CLEARWAY" flows --control "$WORK/control.sock" --json >"$WORK/flows.json" || fail "no flows"
    ask counters --json >"$WORK/counters.json" || fail "no counters"
    python3 - "$WORK/flows.json" "$WORK/counters.json" <<'P' || fail "$io: flows are not one worker's each"
import json, sys
flows, c = json.load(open(sys.argv[1]))["flows"], json.load(open(sys.argv[2]))
keys = [tuple(f[k] for k in ("customer", "vnet", "protocol", "localAddress", "localPort", "remoteAddress", "remotePort"))
        for f in flows]
w = c["workers"]
print("    flows:", len(keys), "different:", len(set(keys)), "workers:", [(x["packets"], x["handedOver"], x["queueFull"]) for x in w])
lost = sum(sum(p["lost"].values()) for p in c["ports"])
print("    lost:", {p["name"]: {k: v for k, v in p["lost"].items() if v} for p in c["ports"] if any(p["lost"].values())})
sys.exit(0 if len(keys) == len(set(keys)) > 10 and len(w) == 2 and all(x["packets"] and x["handedOver"] for x in w) else 1)
P
    pass "$io: each flow is one worker's, and both work"
    balanced
    kill -TERM $APPLIANCE
    wait $APPLIANCE || fail "it does not end well"

    # A smaller room on two ports: 1400 - 28 to the site, 1300 - 28 to hosts.
    sed -i -e '/^  edge:/s/mtu: 1600/mtu: 1400/' -e '/^  fabric:/s/mtu: 1600/mtu: 1300/' "$WORK/config.yaml"
    start_clearway "$WORK/config.yaml" --workers 2 || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"
    for n in web site internet; do ip -n $RUN-$n route flush cache; done
    check_not "$io: too large for the edge" on web ping -c 1 -W 1 -M do -s 1372 192.168.9.1
    grep -q 'mtu = 1372' "$WORK/said" || fail "no 'fragmentation needed' with 1372: $(cat "$WORK/said")"
    ip -n $RUN-web route get 192.168.9.1 | grep -q 'mtu 1372' || fail "the kernel keeps its path MTU: $(ip -n $RUN-web route get 192.168.9.1)"
    check "$io: what fits goes" on web ping -c 1 -W 1 -M do -s 1344 192.168.9.1
    check "$io: with fragments any size goes" on web ping -c 2 -i 0.2 -W 1 -M dont -s 3000 192.168.9.1
    iperf web 192.168.9.1 "$WORK/iperf.json"
    read -r bytes _ < <(came "$WORK/iperf.json")
    [ "$bytes" -gt 10000 ] || fail "$io: TCP over the smaller path: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
    # From the Internet to a host: who sends learns it, whatever its own MTU.
    iperf web 192.0.2.80 "$WORK/iperf.json" -R
    read -r bytes _ < <(came "$WORK/iperf.json")
    [ "$bytes" -gt 10000 ] || fail "$io: TCP from the Internet over the smaller path: $bytes bytes: $(tail -n 3 "$WORK/iperf.json")"
    ip -n $RUN-internet route get 10.1.0.4 from 192.0.2.80 | grep -q 'mtu 1272' ||
        fail "the Internet host keeps its path MTU: $(ip -n $RUN-internet route get 10.1.0.4 from 192.0.2.80)"
    pass "$io: path MTU discovery, both ways; TCP from the Internet $bytes bytes"
    balanced
    kill -TERM $APPLIANCE
    wait $APPLIANCE || fail "it does not end well"
    for n in web site internet; do ip -n $RUN-$n route flush cache; done
done
done_testing
