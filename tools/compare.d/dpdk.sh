# shellcheck shell=bash
# DPDK's libraries in a loop of our own (dpdk.c), memory to memory, no network card.

packages_dpdk() { echo 'libdpdk-dev pkg-config'; }

missing_dpdk() { ! pkg-config --exists libdpdk 2>/dev/null; }

measure_dpdk() {
    local eal=(-l "$CORE" --in-memory --no-pci --no-telemetry --force-max-simd-bitwidth=512 --log-level=4)
    about dpdk "DPDK $(pkg-config --modversion libdpdk) libraries, a loop of our own" \
        "copy in, GRE and key, flow (rte_hash), one list of rules (rte_acl), route (rte_lpm, one table per customer), TTL, GRE out; bursts of 32, huge pages, compiled for this processor" \
        "network card, answers of a flow, TCP state, timeouts, sources, NSGs per NIC and subnet, fragments, ICMP, MTU, change of policy"
    # The libraries' headers bring their own words for the compiler; they stand as they are.
    # shellcheck disable=SC2046
    gcc -O3 -march=native -Wno-address-of-packed-member $(pkg-config --cflags libdpdk) "$HERE/dpdk.c" -o "$T/dpdk" $(pkg-config --libs libdpdk)
    huge_pages 1024
    pinned "$CORE" "$T/dpdk" "${eal[@]}" -- "$T/small" "$REPEATS" steady small
    pinned "$CORE" "$T/dpdk" "${eal[@]}" -- "$T/million" "$REPEATS" steady million
    pinned "$CORE" "$T/dpdk" "${eal[@]}" -- "$T/million" "$REPEATS" open new
}
