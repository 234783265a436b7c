#!/bin/sh
# Fuzzes one target with the code counting where it has been: tools/fuzz.sh captures --seconds 600 [--seed N] [--keep N].
# Stable Rust only; see tools/fuzz.rs. Builds of its own under target/fuzz. Memory is limited, not addresses,
# of which tables reserve more than they use: so what eats it is found.
set -eu
cd "$(dirname "$0")/.."
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cdebug-assertions -Coverflow-checks"
export RUSTFLAGS
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --target "$host" --target-dir target/fuzz --example fuzz
unset RUSTFLAGS
ulimit -d 4000000
[ -w /dev/shm ] && export TMPDIR=/dev/shm
exec "target/fuzz/$host/release/examples/fuzz" "$@"
