//! The way of a packet: headers alone, and from the bytes of a received frame to those of the frame that leaves.

#[path = "common/configuration.rs"]
mod configuration;
#[path = "common/dataplane.rs"]
mod dataplane;

use std::hint::black_box;
use std::net::Ipv4Addr;

use clearway::dataplane::state::Received;
use clearway::packet::{FlowState, Reason, Verdict};
use clearway::wire::{gre, ip};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::{Dataplane, KEY, frame, packet};

/// NIC b.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 4);
/// Flows that take turns.
const FLOWS: u16 = 1000;

fn frames(to: Ipv4Addr, size: usize) -> Vec<Vec<u8>> {
    (0..FLOWS).map(|flow| frame(KEY, &packet(to, 10_000 + flow, size))).collect()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    let inner = packet(NEIGHBOUR, 10_000, 64);
    let whole = frame(KEY, &inner);
    group.bench_function("ipv4-inner", |b| b.iter(|| ip::parse_inner(black_box(&inner), true)));
    group.bench_function("ipv4-outer", |b| b.iter(|| ip::parse_outer(black_box(&whole[14..]), true)));
    group.bench_function("gre", |b| b.iter(|| gre::parse(black_box(&whole[34..]))));
    let program = Dataplane::new(100, 100);
    let mut received = Received::default();
    group.bench_function("ipv4-gre-ipv4", |b| b.iter(|| program.parse(&mut received, black_box(&whole))));
    group.finish();
}

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    group.throughput(Throughput::Elements(1));
    for (name, to, size) in [
        ("flow-hit", NEIGHBOUR, 64),
        ("flow-hit-1500", NEIGHBOUR, 1500),
        ("flow-hit-to-circuit", Ipv4Addr::new(192, 168, 0, 9), 64),
        ("flow-hit-to-internet", Ipv4Addr::new(8, 8, 8, 8), 64),
    ] {
        let mut dataplane = Dataplane::new(100, 1000);
        let frames = frames(to, size);
        dataplane.open(&frames, FlowState::New);
        dataplane.open(&frames, FlowState::Established);
        let mut turn = frames.iter().cycle();
        group.bench_function(name, |b| b.iter(|| dataplane.run(turn.next().unwrap_or(&frames[0]), 2)));
    }
    let mut dataplane = Dataplane::new(100, 1000);
    let stranger = frame(0x999, &packet(NEIGHBOUR, 10_000, 64));
    let unknown = Verdict::Drop(Reason::UnknownTunnel);
    assert_eq!(dataplane.run(&stranger, 1).verdict, unknown);
    group.bench_function("drop-unknown-tunnel", |b| b.iter(|| dataplane.run(black_box(&stranger), 2)));
    group.finish();

    let mut group = c.benchmark_group("path-new");
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    for rules in [100, 1000] {
        let frames = frames(NEIGHBOUR, 64);
        group.bench_function(format!("flow-new-{rules}-rules"), |b| {
            b.iter_batched_ref(
                || Dataplane::new(rules, 100),
                |dataplane| {
                    frames.iter().map(|f| u64::from(dataplane.run(f, 1).egress.is_some())).sum::<u64>()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, parse, path);
criterion_main!(benches);
