//! The way of a packet, whole and in steps, each beside the plain version: `cargo bench --bench path`.

mod common;

use std::time::{Duration, Instant};

use common::cases::{self, Run, Side};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn path(c: &mut Criterion) {
    for case in cases::all(Run::asked()) {
        let mut group = c.benchmark_group(&case.name);
        group.throughput(Throughput::Elements(case.per_round)).sample_size(20);
        let mut checked = false;
        for (name, side) in [("clearway", Side::Clearway), ("plain", Side::Plain)] {
            let mut work = None;
            group.bench_function(name, |b| {
                // Once, and only if the name was asked for.
                if !std::mem::replace(&mut checked, true) {
                    (case.check)();
                }
                let work = work.get_or_insert_with(|| (case.make)(side));
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        work.refresh();
                        let start = Instant::now();
                        work.run();
                        spent += start.elapsed();
                    }
                    spent
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, path);
criterion_main!(benches);
