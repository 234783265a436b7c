# shellcheck shell=bash
# Clearway's own figure: `clearway bench` with the same numbers, whose traffic it makes itself.

# shellcheck disable=SC2034
PACKAGES_clearway=()

missing_clearway() { return 1; }

bench() {
    pinned "$CORE" "$CLEARWAY" bench --vnets "$CUSTOMERS" --rules "$RULES" --routes "$ROUTES" --size 64 --zipf 0 --workers 1 \
        --seconds 1 --flows "$2" --new-flows "$3" --json >"$T/bench.json" || fail "clearway bench: $(tail -n 1 "$T/clearway.log")"
    python3 -c 'import json, sys; print("clearway", sys.argv[2], json.load(open(sys.argv[1]))["ns_per_packet"])' "$T/bench.json" "$1"
}

measure_clearway() {
    local repeat
    if [ -z "${CLEARWAY:-}" ]; then
        CLEARWAY=$ROOT/target/release/clearway
        if command -v cargo >/dev/null; then
            cargo build --release --quiet --manifest-path "$ROOT/Cargo.toml" || fail "cargo build --release fails"
        fi
        [ -x "$CLEARWAY" ] || fail "there is no $CLEARWAY; cargo build --release makes it"
    fi
    grep -q ^clearway "$T/about" || about clearway "Clearway $("$CLEARWAY" --version | cut -d ' ' -f 2)" \
        "all of it: NIC and subnet NSG, TCP state, timeouts, fragments, sources, routes, MTU, GRE in and out, a verdict for every packet" \
        "network card"
    for ((repeat = 0; repeat < REPEATS; repeat++)); do
        bench small 10000 0
        bench million 1000000 0
        bench new 1000000 100
    done
}
