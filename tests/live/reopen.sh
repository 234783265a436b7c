#!/usr/bin/env bash
# What changes about a port while packets pass: addresses of the machine come and go, which its filter knows; ports are
# opened anew because their MTU or their I/O changes. Nothing is lost.
. "$(dirname "$0")/../../tools/live/lib.sh"
. "$(dirname "$0")/checks.sh"
sequence=$(dirname "$0")/sequence.py

underlay || fail "the underlay does not come up"
configuration "$WORK/config.yaml"
start_clearway "$WORK/config.yaml" || fail "clearway does not start: $(tail -n 5 "$WORK/clearway.log")"

# Numbered datagrams between a VNet and the Internet, both ways, while something is done.
through() { # WHAT COMMAND...
    local there back said received twice late
    start internet python3 "$sequence" 192.0.2.80 10.1.0.4 6000 6000 2000 0.5 >"$WORK/there"
    there=$!
    start web python3 "$sequence" 10.1.0.4 192.0.2.80 6000 6000 2000 0.3 >"$WORK/back"
    back=$!
    sleep 0.6
    "${@:2}"
    wait $there $back
    for said in there back; do
        read -r received twice late <"$WORK/$said"
        # For some microseconds the old and the new sockets receive.
        [ "$received" = 6000 ] && [ "$twice" -le 2 ] && [ "$late" -le 2 ] ||
            fail "$1, $said: received, twice, late: $received $twice $late of 6000"
        pass "$1: 6000 datagrams, $twice of them twice"
    done
}

addresses() {
    local n
    for n in $(seq 20); do
        ip -n $RUN-cw addr add 10.77.$n.1/32 dev lo
        sleep 0.05
        [ $((n % 2)) = 0 ] || ip -n $RUN-cw addr del 10.77.$n.1/32 dev lo
        sleep 0.05
    done
}

mtus() {
    local n
    for n in $(seq 10); do
        sed -i "s/\(fabric: .*mtu:\) [0-9]*/\1 $((1590 - n))/; s/\(internet: .*nextHop: [0-9.]*\).*/\1, mtu: $((1500 - n)), device: inet0${io:+, io: $io}}/" "$WORK/config.yaml"
        ask reload >/dev/null || fail "the reload is refused"
        sleep 0.15
    done
}

opened() { grep -c 'port open' "$WORK/clearway.log"; }

# Neighbours are known; Open vSwitch loses the first packet while it looks for its own.
check "to the Internet" on web ping -c 3 -i 0.2 -W 2 192.0.2.80
io=
before=$(opened)
through "addresses of the machine" addresses
[ "$(opened)" = "$before" ] || fail "ports were opened anew for addresses"
through "MTU of ports" mtus
[ "$(opened)" = $((before + 20)) ] || fail "ports were opened $(opened) times, not $((before + 20))"

io=pnet
through "MTU of ports, by pnet" mtus

# AF_XDP and back: what the device does to its rings meanwhile is the device's, so packets are lost, but for moments only.
for io in af_xdp af_packet af_xdp; do
    sed -i "s/device: inet0.*/device: inet0, io: $io}/" "$WORK/config.yaml"
    ask reload >/dev/null || fail "the reload is refused"
    check "$io at once" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
    ask counters --json | grep -A3 '"device": "inet0"' | grep -q "\"io\": \"$io\"" || fail "inet0 is not opened by $io"
done
sed -i "s/internet: .*/internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1, mtu: 1480, device: inet0, io: af_xdp}/" "$WORK/config.yaml"
ask reload >/dev/null || fail "the reload is refused"
check "AF_XDP opened anew at once" on web ping -c 2 -i 0.2 -W 2 192.0.2.80
! grep -q 'cannot be opened' "$WORK/clearway.log" || fail "a port could not be opened: $(grep 'cannot be' "$WORK/clearway.log")"
balanced
done_testing
