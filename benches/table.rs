//! The tables below the path: longest prefix, first match, flow records, equal ways.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use clearway::packet::Direction;
use clearway::sys::Base;
use clearway::table::classify::{Addresses, Classifier, Pattern, Protocols};
use clearway::table::ecmp;
use clearway::table::lpm::Lpm;
use clearway::table::prefix_map::PrefixMap;
use clearway::table::records::{FlowKey, Kind, NONE, Owner, Records};
use clearway::types::{Nanos, Prefix, SECOND};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Routes of a customer: a default route, private ranges and some of the Internet; or mostly /24 prefixes of all of it.
fn routes(count: u32) -> Vec<(Prefix, u32)> {
    let route = |n: u32| {
        let spread = n.wrapping_mul(0x9e37_79b9);
        let (address, len) = match n % 4 {
            _ if count > 100_000 => (spread, if n.is_multiple_of(3) { 16 + n % 8 } else { 24 }),
            0 => (spread, 12 + n % 13),
            1 => (0xac10_0000 | spread >> 12, 16 + n % 11),
            _ => (0x0a00_0000 | spread >> 8, 16 + n % 13),
        };
        (Prefix::new(Ipv4Addr::from_bits(address).into(), len as u8), n)
    };
    [(Prefix::ALL_V4, 0)].into_iter().chain((1..count).map(route)).collect()
}

/// Addresses that take turns, each in one of the prefixes.
fn addresses(routes: &[(Prefix, u32)]) -> Vec<IpAddr> {
    let address = |n: u32| {
        let (prefix, _) = routes[n.wrapping_mul(0x85eb_ca6b) as usize % routes.len()];
        let host = n.wrapping_mul(0xc2b2_ae35).checked_shr(prefix.len().into()).unwrap_or(0);
        match prefix.first() {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | host).into(),
            other => other,
        }
    };
    (1..=1 << 16).map(address).collect()
}

fn lpm(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(1));
    for (name, count) in [("small", 10), ("1000", 1000), ("900k", 900_000)] {
        let routes = routes(count);
        let addresses = addresses(&routes);
        let mut turn = addresses.iter().cycle();
        let table: Lpm<u32> = routes.iter().copied().collect();
        group.bench_function(format!("lpm-{name}"), |b| {
            b.iter(|| table.lookup(*turn.next().unwrap_or(&addresses[0])));
        });
        // The same in a table that may change.
        let mut plain = PrefixMap::default();
        for (prefix, value) in &routes {
            plain.insert(*prefix, *value);
        }
        group.bench_function(format!("lpm-{name}-plain"), |b| {
            b.iter(|| plain.lookup(*turn.next().unwrap_or(&addresses[0])));
        });
    }
    // Tables of as many customers, none of them in the cache.
    let routes = routes(1000);
    let addresses = addresses(&routes);
    let tables: Vec<Lpm<u32>> = (0..1000).map(|_| routes.iter().copied().collect()).collect();
    let mut turn = 0_usize;
    group.bench_function("lpm-1000-of-1000", |b| {
        b.iter(|| {
            turn = turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
            tables[(turn >> 40) % tables.len()].lookup(addresses[(turn >> 20) % addresses.len()])
        });
    });
    for count in [1000, 900_000] {
        let routes = self::routes(count);
        group.bench_function(format!("lpm-build-{count}"), |b| {
            b.iter(|| routes.iter().copied().collect::<Lpm<u32>>().memory());
        });
    }
    group.finish();
}

/// Rules as they are written for a tier of servers: a range of sources, a small range of ports; the last takes the rest.
fn rules(count: u32) -> Vec<Pattern> {
    let rule = |n: u32| Pattern {
        protocols: Protocols::Numbers(vec![if n.is_multiple_of(2) { 6 } else { 17 }]),
        source: Addresses::Prefixes(vec![Prefix::v4(10, (n / 250) as u8, (n % 250) as u8, 0, 24)].into()),
        destination: Addresses::Prefixes(vec![Prefix::v4(10, 1, (n % 200) as u8, 0, 24)].into()),
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
    for count in [1000_u32, 1_000_000] {
        let mut flows = Records::new(Default::default());
        for n in 0..count {
            flows.open(&key(n), 1, 4, 7, Direction::Inbound);
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

/// Packets of [`key`], as the path knows them: hash, then slot, then record.
#[derive(Clone, Copy)]
struct Asked {
    remote: u32,
    ports: u32,
    hash: u32,
    slot: u32,
}

const LOCAL: u32 = 0x0a01_0004;

/// Records of the first keys, and the time: a record opens every 10 µs at most, so that they live for as long as all of
/// them take to open.
struct Table {
    records: Records,
    opened: u32,
    now: Nanos,
    step: Nanos,
}

impl Table {
    fn new(count: u32) -> Table {
        let step = 240 * SECOND / Nanos::from(count);
        let records = Records::new(Default::default());
        let mut table = Table { records, opened: 0, now: 1_700_000_000 * SECOND, step };
        for _ in 0..count / 32 {
            table.open();
        }
        table
    }

    fn hash(&self, n: u32) -> u32 {
        self.records.hash_ipv4(1, LOCAL, 0x0800_0000 + (n >> 16), 443 << 16 | n & 0xffff, 6)
    }

    /// Opens a batch of 32.
    fn open(&mut self) {
        let batch = self.opened..self.opened + 32;
        batch.clone().for_each(|n| self.records.prefetch_bucket(self.records.bucket(self.hash(n))));
        for n in batch {
            let opened = self.records.open(&key(n), self.now, 4, n, Direction::Inbound);
            assert!(opened.is_some());
            self.now += self.step;
        }
        self.opened += 32;
    }

    /// A batch of packets in stages, as the path asks; how many met their record.
    fn hit(&mut self, batch: &mut [Asked]) -> usize {
        for asked in &mut *batch {
            asked.hash = self.records.hash_ipv4(1, LOCAL, asked.remote, asked.ports, 6);
            self.records.prefetch_bucket(self.records.bucket(asked.hash));
        }
        for asked in &mut *batch {
            asked.slot = self.records.probe(Base, self.records.bucket(asked.hash), asked.hash, 0);
            if asked.slot == NONE {
                asked.slot = self.records.probe_further(asked.hash, 0);
            }
            self.records.prefetch_record(asked.slot);
        }
        let mut met = 0;
        for asked in batch {
            let record = self.records.record_mut(asked.slot);
            if record.is_live_ipv4(
                u64::from(LOCAL) | u64::from(asked.remote) << 32,
                asked.ports,
                Kind::new(6, false),
            ) && record.fresh(self.now)
            {
                record.touch(self.now);
                met += 1;
            }
        }
        met
    }
}

fn records(c: &mut Criterion) {
    // Cargo says --bench when it is to be measured.
    let tried = !std::env::args().any(|a| a == "--bench");
    let mut group = c.benchmark_group("table");
    for count in if tried { &[640_u32][..] } else { &[10_016, 1_000_000, 8_000_000] } {
        let mut table = Table::new(*count);
        let turn = |n: u32| ((u64::from(n.wrapping_mul(0x9e37_79b9)) * u64::from(*count)) >> 32) as u32;
        for size in [32, 64, 256_u32] {
            let asked = (0..4096 * 64).map(|n| {
                let n = turn(n);
                Asked { remote: 0x0800_0000 + (n >> 16), ports: 443 << 16 | n & 0xffff, hash: 0, slot: 0 }
            });
            let mut asked: Vec<Asked> = asked.collect();
            let mut batches = (0..asked.len() / size as usize).cycle();
            group.throughput(Throughput::Elements(u64::from(size)));
            group.bench_function(format!("records-hit-{count}-by-{size}"), |b| {
                b.iter(|| {
                    let start = batches.next().unwrap_or(0) * size as usize;
                    table.hit(&mut asked[start..start + size as usize])
                });
            });
        }
        group.throughput(Throughput::Elements(32));
        for what in ["open", "reap"] {
            group.bench_function(format!("records-{what}-{count}"), |b| {
                b.iter_custom(|rounds| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..rounds {
                        let began = Instant::now();
                        table.open();
                        let opened = Instant::now();
                        table.records.reap(Base, table.now, 64, |_| ());
                        taken += if what == "open" { opened - began } else { opened.elapsed() };
                    }
                    taken
                });
            });
        }
        let each = table.records.memory() as f64 / table.records.len() as f64;
        println!(
            "table/records-{count}: {each:.1} bytes per record, {}",
            if table.records.huge_pages() { "huge pages" } else { "small pages" }
        );
    }
    group.finish();
}

criterion_group!(benches, lpm, classify, flows, records);
criterion_main!(benches);
