//! The tables below the path: longest prefix, first match, flow records, equal ways.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use clearway::packet::Direction;
use clearway::table::classify::{Addresses, Classifier, Pattern, Protocols};
use clearway::table::ecmp;
use clearway::table::flows::{FlowKey, Flows, Owner, Record};
use clearway::table::lpm::Lpm;
use clearway::types::Prefix;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Addresses that take turns, spread over the whole space.
fn addresses() -> Vec<IpAddr> {
    (0..1024_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9)))).collect()
}

fn lpm(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(1));
    for routes in [100_u32, 1000, 100_000] {
        let mut table = Lpm::default();
        for n in 0..routes {
            let address = Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995);
            table.insert(Prefix::new(address.into(), 8 + (n % 21) as u8), n);
        }
        let addresses = addresses();
        let mut turn = addresses.iter().cycle();
        group.bench_function(format!("lpm-{routes}"), |b| {
            b.iter(|| table.lookup(*turn.next().unwrap_or(&addresses[0])));
        });
    }
    group.finish();
}

/// Rules as they are written for a tier of servers: a range of sources, a small range of ports; the last takes the rest.
fn rules(count: u32) -> Vec<Pattern> {
    let rule = |n: u32| Pattern {
        protocols: Protocols::Numbers(vec![if n.is_multiple_of(2) { 6 } else { 17 }]),
        source: Addresses::Prefixes(vec![Prefix::v4(10, (n / 250) as u8, (n % 250) as u8, 0, 24)]),
        destination: Addresses::Prefixes(vec![Prefix::v4(10, 1, (n % 200) as u8, 0, 24)]),
        source_ports: vec![(0, u16::MAX)],
        destination_ports: vec![(1000 + n as u16, 1010 + n as u16)],
    };
    let rest = Pattern {
        protocols: Protocols::Any,
        source: Addresses::Any,
        destination: Addresses::Any,
        source_ports: vec![(0, u16::MAX)],
        destination_ports: vec![(0, u16::MAX)],
    };
    (0..count - 1).map(rule).chain([rest]).collect()
}

fn classify(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(1));
    for count in [100, 1000] {
        let classifier = Classifier::new(&rules(count));
        let to = IpAddr::from([10, 1, 7, 4]);
        let mut turn = 0_u32;
        group.bench_function(format!("classify-{count}"), |b| {
            b.iter(|| {
                turn = turn.wrapping_add(0x9e37_79b9);
                let from = IpAddr::from([10, (turn >> 30) as u8, (turn >> 8) as u8, 9]);
                classifier.first_match(from, to, 6, (40_000, 1000 + (turn >> 22) as u16), None)
            });
        });
    }
    group.finish();
}

fn key(n: u32) -> FlowKey {
    FlowKey {
        owner: Owner { vnet: 1, endpoint: 1 },
        protocol: 6,
        ports: (443, n as u16),
        local: IpAddr::from([10, 1, 0, 4]),
        remote: IpAddr::V4(Ipv4Addr::from_bits(0x0800_0000 + (n >> 16))),
    }
}

fn flows(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(1));
    let record = Record {
        last: 1,
        ended: false,
        idle_seconds: 240,
        rule: 7,
        opened_by: Direction::Inbound,
        fin: (false, false),
    };
    for count in [1000_u32, 1_000_000] {
        let mut flows = Flows::new(Default::default());
        for n in 0..count {
            flows.open(key(n), record);
        }
        let mut turn = 0_u32;
        group.bench_function(format!("flows-{count}"), |b| {
            b.iter(|| {
                turn = turn.wrapping_add(0x9e37_79b9);
                flows.find(black_box(&key(turn % count)), 2).is_some()
            });
        });
    }
    let ways = ["link a/primary", "link a/secondary"].map(ecmp::way_id);
    let (from, to) = (IpAddr::from([10, 1, 0, 4]), IpAddr::from([192, 168, 0, 9]));
    group.bench_function("ecmp-2", |b| {
        b.iter(|| ecmp::choose(ecmp::flow_hash(black_box(from), to, 6, 77), ways.into_iter()));
    });
    group.finish();
}

criterion_group!(benches, lpm, classify, flows);
criterion_main!(benches);
