//! From a configuration to a program: what a change of configuration costs before it is in force.

#[path = "common/configuration.rs"]
mod configuration;

use std::hint::black_box;
use std::sync::Arc;

use clearway::compile::names::Names;
use clearway::compile::{compile, recompile};
use clearway::model::{
    Access, ConnectionTo, Customer, LearnedFrom, LearnedRoute, Model, Peering, RouteNextHop, TunnelTo, Vnet,
};
use configuration::{configuration, model};
use criterion::{Criterion, criterion_group, criterion_main};

/// A change of one customer.
type Edit = fn(&mut Customer, usize);

/// The changes that are measured: of one VNet among all, by its number.
const CHANGES: [(&str, Edit); 5] = [
    ("rule", |customer, vnet| {
        let rule = &mut Arc::make_mut(&mut customer.nsgs[4 * vnet]).rules[50];
        rule.access = if rule.access == Access::Allow { Access::Deny } else { Access::Allow };
    }),
    ("route", |customer, vnet| {
        Arc::make_mut(&mut customer.route_tables[vnet]).routes[0].next_hop = RouteNextHop::VnetLocal;
    }),
    ("learned-route", |customer, vnet| {
        let of_vnet =
            |r: &&mut LearnedRoute| matches!(r.from, LearnedFrom::Peering { circuit, .. } if circuit == vnet);
        if let Some(route) = customer.learned_routes.iter_mut().find(of_vnet) {
            route.as_path = vec![65_001; 3];
        }
    }),
    ("nic", |customer, vnet| customer.nics[2 * vnet].ip_forwarding = true),
    ("peering", |customer, vnet| {
        let name = "another".to_owned();
        let other = Some(vnet - 1);
        let peering = Peering {
            name,
            remote: other,
            connected: true,
            allow_access: true,
            allow_forwarded: false,
            allow_gateway_transit: false,
            use_remote_gateways: false,
        };
        customer.vnets[vnet].peerings.push(peering.clone());
        customer.vnets[vnet - 1].peerings.push(Peering { remote: Some(vnet), ..peering });
    }),
];

fn compiling(c: &mut Criterion) {
    // Cargo says --bench when it is to be measured.
    let tried = !std::env::args().any(|a| a == "--bench");
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
    let (count, rules) = if tried { (10, 100) } else { (1000, 1000) };
    let one = model(&configuration(rules, rules));
    // As many VNets in as many customers, and all in one.
    for (name, before) in [("customers", many(&one, count)), ("vnets", together(&one, count))] {
        let mut names = Names::default();
        let previous = compile(&before, &mut names);
        for (what, edit) in CHANGES {
            if name == "customers" && what == "peering" {
                continue;
            }
            let mut after = before.clone();
            let (customer, vnet) = match name {
                "customers" => (count as usize / 2, 0),
                _ => (0, count as usize / 2),
            };
            edit(Arc::make_mut(&mut after.customers[customer]), vnet);
            group.bench_function(format!("{what}-of-one-of-{count}-{name}"), |b| {
                b.iter(|| black_box(recompile(&previous, &before, &after, &mut names)));
            });
        }
    }
    group.finish();
}

/// The customer of a model so many times, each with its own name and keys.
fn many(one: &Model, count: u32) -> Model {
    let mut model = one.clone();
    let customer = |number: u32| {
        let mut customer: Customer = (*one.customers[0]).clone();
        customer.name = format!("customer-{number}");
        for (tunnel, key) in customer.tunnels.iter_mut().zip(0x1_0000 + 8 * number..) {
            tunnel.key = key;
        }
        Arc::new(customer)
    };
    model.customers = (0..count).map(customer).collect();
    model
}

/// Everything of the customer of a model so many times, in one customer.
fn together(one: &Model, count: u32) -> Model {
    let mut model = one.clone();
    let one = &*one.customers[0];
    let mut all = Customer { name: one.name.clone(), ..Customer::default() };
    for number in 0..count as usize {
        let Customer {
            vnets,
            nsgs,
            route_tables,
            nics,
            circuits,
            gateways,
            connections,
            tunnels,
            hosts,
            learned_routes,
            ..
        } = one.clone();
        let moved = |index: Option<usize>, by: usize| index.map(|i| i + number * by);
        let named = |name: &str| format!("{name}-{number}");
        all.vnets.extend(vnets.into_iter().map(|mut vnet: Vnet| {
            vnet.name = named(&vnet.name);
            for subnet in &mut vnet.subnets {
                (subnet.nsg, subnet.route_table) = (moved(subnet.nsg, 4), moved(subnet.route_table, 1));
            }
            vnet
        }));
        all.nsgs.extend(nsgs);
        all.route_tables.extend(route_tables);
        all.nics.extend(nics.into_iter().map(|mut nic| {
            (nic.name, nic.vnet, nic.nsg) = (named(&nic.name), nic.vnet + number, moved(nic.nsg, 4));
            nic
        }));
        all.circuits.extend(circuits.into_iter().map(|mut circuit| {
            circuit.name = named(&circuit.name);
            circuit
        }));
        all.gateways.extend(gateways.into_iter().map(|mut gateway| {
            (gateway.name, gateway.vnet) = (named(&gateway.name), gateway.vnet + number);
            gateway
        }));
        all.connections.extend(connections.into_iter().map(|mut connection| {
            connection.name = named(&connection.name);
            connection.gateway += number;
            if let ConnectionTo::Circuit { circuit, .. } = &mut connection.to {
                *circuit += number;
            }
            connection
        }));
        all.tunnels.extend(tunnels.into_iter().zip(0x1_0000 + 8 * number as u32..).map(
            |(mut tunnel, key)| {
                tunnel.key = key;
                match &mut tunnel.to {
                    TunnelTo::Vnet(n) | TunnelTo::Internet(n) | TunnelTo::Connection(n) => *n += number,
                    TunnelTo::Link { circuit, .. } => *circuit += number,
                }
                tunnel
            },
        ));
        all.hosts.extend(hosts.into_iter().map(|mut host| {
            host.vnet += number;
            host
        }));
        all.learned_routes.extend(learned_routes.into_iter().map(|mut route| {
            if let LearnedFrom::Peering { circuit, .. } = &mut route.from {
                *circuit += number;
            }
            route
        }));
    }
    model.customers = vec![Arc::new(all)];
    model
}

criterion_group!(benches, compiling);
criterion_main!(benches);
