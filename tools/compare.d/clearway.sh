# shellcheck shell=bash
# Clearway's own figure: `clearway bench` with the same numbers, whose traffic it makes itself.

packages_clearway() { :; }

missing_clearway() { return 1; }

# bench COLUMN CONNECTIONS NEW: a connection inside a VNet has a record at each of its ends, so that four connections have
# five records; the rivals keep one for each.
bench() {
    pinned "$CORE" "$CLEARWAY" bench --vnets "$CUSTOMERS" --rules "$RULES" --routes "$ROUTES" --size 64 --zipf 0 --workers 1 \
        --seconds 0.5 --repeats "$REPEATS" --flows $(($2 * 5 / 4)) --new-flows "$3" --json >"$T/bench.json" ||
        fail "clearway bench: $(tail -n 1 "$T/clearway.log")"
    python3 -c 'import json, sys
for repeat in json.load(open(sys.argv[1]))["repeats"]: print("clearway", sys.argv[2], repeat["ns_per_packet"])' "$T/bench.json" "$1"
}

measure_clearway() {
    if [ -z "${CLEARWAY:-}" ]; then
        CLEARWAY=$ROOT/target/release/clearway
        if command -v cargo >/dev/null; then
            cargo build --release --quiet --manifest-path "$ROOT/Cargo.toml" || fail "cargo build --release fails"
        fi
        [ -x "$CLEARWAY" ] || fail "there is no $CLEARWAY; cargo build --release makes it"
    fi
    grep -q ^clearway "$T/about" || about clearway "Clearway $("$CLEARWAY" --version | cut -d ' ' -f 2)" \
        "all of it, for both directions of a flow: GRE in and out, sources, up to four NSGs of 100 rules, TCP state and timeouts, routes, fragments, ICMP, MTU, a verdict with its rule for every packet" \
        "network card"
    bench small 10000 0
    bench million 1000000 0
    bench new 1000000 100
}
