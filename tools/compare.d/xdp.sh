# shellcheck shell=bash
# An XDP program (xdp.bpf.c), run by BPF_PROG_TEST_RUN: the program alone, no network card and no driver.

packages_xdp() { echo 'clang libbpf-dev'; }

missing_xdp() { ! command -v clang >/dev/null || [ ! -e /usr/include/bpf/libbpf.h ]; }

# Also for the kernel's own forwarding, which gets its frames from here.
build_xdp() {
    clang -O2 -g -target bpf -mcpu=v3 "-I/usr/include/$(gcc -print-multiarch)" -c "$HERE/xdp.bpf.c" -o "$T/xdp.o"
    gcc -O2 "$HERE/xdp.c" -o "$T/xdp" -lbpf
}

measure_xdp() {
    about xdp "XDP program, Linux $(uname -r)" \
        "copy in, GRE and key, flow (hash map), one list of rules (a loop), route (LPM trie), TTL, GRE out" \
        "driver and network card, answers of a flow, TCP state, timeouts, fragments, ICMP, MTU, sources, NSGs per NIC and subnet, change of policy"
    build_xdp
    pinned "$CORE" "$T/xdp" "$T/xdp.o" forward "$T/small" "$REPEATS" steady small
    pinned "$CORE" "$T/xdp" "$T/xdp.o" forward "$T/million" "$REPEATS" steady million
    pinned "$CORE" "$T/xdp" "$T/xdp.o" forward "$T/million" "$REPEATS" open new
}
