# What the live tests say and count; to be sourced behind tools/live/lib.sh.
FAILED=0
CHECKS=$(dirname "${BASH_SOURCE[0]}")
# Python is called some hundred times: rather the system's than what a version manager has to look for each time.
[ ! -x /usr/bin/python3 ] || PATH=/usr/bin:$PATH

pass() { echo "PASS $*"; }

fail() {
    echo "FAIL $*"
    [ ! -s "$WORK/clearway.log" ] || sed 's/^/    | /' "$WORK/clearway.log" | tail -n 15
    exit 1
}

check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then pass "$what"; else
        echo "FAIL $what: $*"
        sed 's/^/    | /' "$WORK/said" | tail -n 5
        FAILED=1
    fi
}

check_not() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then
        echo "FAIL $what: $* went through"
        FAILED=1
    else pass "$what"; fi
}

serve() { # NAME PORT... : says hello to whoever connects, of either family; it listens when this returns
    on "$1" python3 -c "
import os, socket, sys, threading
def hello(s):
    while True:
        c, _ = s.accept(); c.sendall(b'hello'); c.close()
six = open('/proc/sys/net/ipv6/conf/lo/disable_ipv6').read().strip() == '0'
sockets = []
for port in map(int, sys.argv[1:]):
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', port)); s.listen(16)
    sockets.append(s)
if os.fork(): os._exit(0)
for s in sockets: threading.Thread(target=hello, args=(s,)).start()" "${@:2}" </dev/null >/dev/null 2>&1 ||
        fail "nothing listens in $1"
}

iperf_server() { # NAME [OPTION...] : at port 5201; it listens when this returns
    on "$1" iperf3 -s -p 5201 -D --logfile "$WORK/iperf-$1.log" -I "$WORK/iperf-$1.pid" "${@:2}"
    wait_for 10 bash -c "[ -n \"\$(ip netns exec $RUN-$1 ss -Hltn sport = :5201)\" ]" || fail "iperf3 does not listen in $1"
}

# A second of iperf3, its JSON; a server may not be done with the one before.
iperf() { # FROM ADDRESS FILE [OPTION...]
    local i
    for i in 1 2 3 4 5; do
        on "$1" timeout 30 iperf3 -c "$2" -p 5201 -t 1 -J "${@:4}" >"$3" 2>&1
        grep -q '"error":.*busy' "$3" || break
        sleep 0.5
    done
}

# What came of such a run: bytes, and of UDP packets, those lost and those out of order. All 0 if nothing came of it.
came() { # FILE
    python3 - "$1" <<'P'
import json, sys
try:
    end = json.load(open(sys.argv[1]))["end"]
    udp = end["streams"][0].get("udp")
    total = end["sum"] if udp else end["sum_received"]
    print(total["bytes"], *((total["packets"], total["lost_packets"], udp["out_of_order"]) if udp else (0, 0, 0)))
except (KeyError, IndexError, ValueError):
    print(0, 0, 0, 0)
P
}

tcp() { # FROM ADDRESS PORT [SECONDS [OWN-ADDRESS]] : true if that says hello
    on "$1" python3 -c "
import socket, sys
s = socket.create_connection(('$2', $3), ${4:-3}, ('${5:-}', 0) if '${5:-}' else None); s.settimeout(3)
sys.exit(0 if s.recv(16) == b'hello' else 1)"
}

dropped() { # REASON : how many packets, up to now
    ask counters --json | python3 -c "import json, sys; print(json.load(sys.stdin)['dropped'].get('$1', 0))"
}

denied() { # WHAT FROM ADDRESS PORT [OWN-ADDRESS] : no TCP comes about, and the NSG is why
    local before
    before=$(dropped nsg-deny)
    check_not "$1" tcp "$2" "$3" "$4" 0.5 "${5:-}"
    [ "$(dropped nsg-deny)" -gt "$before" ] || fail "$1: no packet was dropped as nsg-deny"
}

# Numbered datagrams: all come, once and in order, both ways at the same time; the first one speaks first.
in_order() { # WHAT FROM ADDRESS TO ADDRESS COUNT
    local there back said
    start "$4" python3 "$CHECKS/sequence.py" "$5" "$3" 6000 "$6" 2500 0.5 >"$WORK/there"
    there=$!
    start "$2" python3 "$CHECKS/sequence.py" "$3" "$5" 6000 "$6" 2500 0.3 >"$WORK/back"
    back=$!
    wait $there $back
    for said in there back; do
        [ "$(cat "$WORK/$said")" = "$6 0 0" ] || fail "$1, $said: received, twice, late: $(cat "$WORK/$said") of $6"
    done
    pass "$1: 2 x $6 datagrams, each once and in order"
}

# How many answers a ping that was interrupted has not got, of those that it had to get: its last one may still be on the way.
unanswered() { # FILE : what it said, without -q
    python3 - "$1" <<'P'
import re, sys
said = open(sys.argv[1]).read()
sent = int(re.search(r"(\d+) packets transmitted", said)[1])
print(len(set(range(1, sent)) - {int(n) for n in re.findall(r"icmp_seq=(\d+) ttl", said)}), "of", sent)
P
}

# Every packet that came in is accounted for: forwarded, dropped or punted, or lost on its way to another worker.
balanced() {
    ask counters --json >"$WORK/counters.json" || fail "no counters"
    python3 - "$WORK/counters.json" <<'P' || fail "the counts do not add up"
import json, sys
c = json.load(open(sys.argv[1]))
total = c["packets"]
ended = c["forwarded"] + sum(c["dropped"].values()) + sum(c["punted"].values())
received = sum(p["in"]["frames"] for p in c["ports"])
late = sum(w["queueFull"] for w in c["workers"])
print(f"    {total} packets = {ended} ended; {received} frames received" + (f", {late} lost between workers" if late else ""))
sys.exit(0 if total == ended == received - late and total > 0 else 1)
P
    pass "counts add up"
}

done_testing() {
    [ $FAILED = 0 ] || exit 1
    echo "PASS all of $(basename "$0")"
}
