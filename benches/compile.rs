//! From a configuration to a program: what a change of configuration costs before it is in force.

#[path = "common/configuration.rs"]
mod configuration;

use clearway::compile::compile;
use clearway::compile::names::Names;
use configuration::{configuration, model};
use criterion::{Criterion, criterion_group, criterion_main};

fn compiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for (rules, routes) in [(100, 100), (100, 1000), (1000, 1000)] {
        let text = configuration(rules, routes);
        group.bench_function(format!("read-{rules}-rules-{routes}-routes"), |b| b.iter(|| model(&text)));
        let model = model(&text);
        group.bench_function(format!("{rules}-rules-{routes}-routes"), |b| {
            b.iter(|| compile(&model, &mut Names::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, compiling);
criterion_main!(benches);
