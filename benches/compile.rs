//! Reading a configuration; what compiling it costs is measured in `path`, beside the plain version.

mod common;

use common::configuration::{configuration, model};
use criterion::{Criterion, criterion_group, criterion_main};

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.sample_size(10);
    for (rules, routes) in [(100, 100), (100, 1000), (1000, 1000)] {
        let text = configuration(rules, routes);
        group.bench_function(format!("{rules}-rules-{routes}-routes"), |b| b.iter(|| model(&text)));
    }
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
