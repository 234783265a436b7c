//! From a configuration to a program: what a change of configuration costs before it is in force.

#[path = "common/configuration.rs"]
mod configuration;

use std::sync::Arc;

use clearway::compile::names::Names;
use clearway::compile::{compile, recompile};
use clearway::model::{Access, Customer, Model};
use configuration::{configuration, model};
use criterion::{Criterion, criterion_group, criterion_main};

/// Customers of the large configuration.
const CUSTOMERS: u32 = 1000;

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
    let before = many(&model(&configuration(1000, 1000)));
    let mut names = Names::default();
    let previous = compile(&before, &mut names);
    let mut after = before.clone();
    let customer = Arc::make_mut(&mut after.customers[CUSTOMERS as usize / 2]);
    let rule = &mut Arc::make_mut(&mut customer.nsgs[0]).rules[500];
    rule.access = if rule.access == Access::Allow { Access::Deny } else { Access::Allow };
    group.bench_function(format!("recompile-one-of-{CUSTOMERS}"), |b| {
        b.iter(|| recompile(&previous, &before, &after, &mut names));
    });
    group.finish();
}

/// The customer of a model so many times, each with its own name and keys.
fn many(one: &Model) -> Model {
    let mut model = one.clone();
    let customer = |number: u32| {
        let mut customer: Customer = (*one.customers[0]).clone();
        customer.name = format!("customer-{number}");
        for (tunnel, key) in customer.tunnels.iter_mut().zip(0x1_0000 + 8 * number..) {
            tunnel.key = key;
        }
        Arc::new(customer)
    };
    model.customers = (0..CUSTOMERS).map(customer).collect();
    model
}

criterion_group!(benches, compiling);
criterion_main!(benches);
