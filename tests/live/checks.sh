# What the live tests say and count; to be sourced behind tools/live/lib.sh.
FAILED=0

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

serve() { # NAME PORT : says hello to whoever connects
    start "$1" python3 -c "
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('', $2)); s.listen(16)
while True:
    c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    sleep 0.3
}

tcp() { # FROM ADDRESS PORT : true if that says hello
    on "$1" python3 -c "
import socket, sys
s = socket.create_connection(('$2', $3), 3); s.settimeout(3)
sys.exit(0 if s.recv(16) == b'hello' else 1)"
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
