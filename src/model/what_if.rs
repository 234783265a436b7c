//! Configurations in time: learned routes that come and go, and links that fail and return, become configurations that
//! replace each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Customer, Link, Model, TunnelTo};
use crate::types::Nanos;

/// A span of time behind the first packet, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct During {
    /// When it begins, in nanoseconds.
    pub from: Nanos,
    /// When it ends; [`Nanos::MAX`]: never.
    pub until: Nanos,
}

impl During {
    fn holds(&self, at: Nanos) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// True if both have an instant in common.
    pub fn overlaps(&self, other: &During) -> bool {
        self.from < other.until && other.from < self.until
    }

    fn ends(self) -> impl Iterator<Item = Nanos> {
        [self.from, self.until].into_iter().filter(|at| *at > 0 && *at < Nanos::MAX)
    }
}

/// A link that is down for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// The circuit.
    pub circuit: usize,
    /// The peering of the circuit; all of them when absent.
    pub peering: Option<usize>,
    /// Which link.
    pub link: Link,
    /// When it is down.
    pub down: During,
}

/// What a customer's configuration says of the time behind the first packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// Learned routes, by their index, that are there for a while only.
    pub routes: Vec<(usize, During)>,
    /// Links that are down for a while.
    pub links: Vec<LinkEvent>,
}

impl WhatIf {
    /// True if nothing changes in time.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.links.is_empty()
    }
}

/// True if the configuration says what becomes of it in time.
pub fn changes_in_time(model: &Model) -> bool {
    model.customers.iter().any(|customer| !customer.what_if.is_empty())
}

/// A configuration and those that replace it, each at or after so many nanoseconds behind the first packet, as
/// configurations in which nothing changes in time.
pub fn in_time(first: &Model, swaps: Vec<(Nanos, Model)>) -> (Model, Vec<(Nanos, Model)>) {
    let mut swaps = swaps;
    swaps.sort_by_key(|swap| swap.0);
    let ends: Vec<Nanos> = swaps.iter().map(|swap| swap.0).chain([Nanos::MAX]).collect();
    let mut all = Vec::new();
    let begins = std::iter::once((0, first.clone())).chain(swaps);
    for ((begin, model), end) in begins.zip(ends) {
        let inner = events(&model).into_iter().filter(|at| *at > begin && *at < end);
        let times: Vec<Nanos> = std::iter::once(begin).chain(inner).collect();
        all.extend(times.into_iter().map(|at| (at, state(&model, at))));
    }
    let mut all = all.into_iter();
    let first = all.next().map_or_else(|| first.clone(), |(_, model)| model);
    (first, all.collect())
}

/// When something changes.
fn events(model: &Model) -> BTreeSet<Nanos> {
    let what_ifs = model.customers.iter().map(|customer| &customer.what_if);
    what_ifs
        .flat_map(|all| {
            all.routes.iter().map(|(_, during)| *during).chain(all.links.iter().map(|event| event.down))
        })
        .flat_map(|during| during.ends())
        .collect()
}

/// The configuration as it is at an instant; customers that do not change in time are shared.
fn state(model: &Model, at: Nanos) -> Model {
    let customers = model.customers.iter().map(|customer| match customer.what_if.is_empty() {
        true => customer.clone(),
        false => Arc::new(customer_at(customer, at)),
    });
    Model { customers: customers.collect(), ..model.clone() }
}

fn customer_at(customer: &Customer, at: Nanos) -> Customer {
    let mut now = Customer { what_if: WhatIf::default(), ..customer.clone() };
    let absent: BTreeSet<usize> =
        customer.what_if.routes.iter().filter(|(_, during)| !during.holds(at)).map(|(n, _)| *n).collect();
    let mut number = 0;
    now.learned_routes.retain(|_| {
        number += 1;
        !absent.contains(&(number - 1))
    });
    for event in customer.what_if.links.iter().filter(|event| event.down.holds(at)) {
        for tunnel in &mut now.tunnels {
            let is_it = match tunnel.to {
                TunnelTo::Link { circuit, peering, link } => {
                    circuit == event.circuit
                        && link == event.link
                        && event.peering.is_none_or(|p| p == peering)
                }
                _ => false,
            };
            tunnel.enabled &= !is_it;
        }
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::types::SECOND;

    const TEXT: &str = "\
apiVersion: clearway/v1
ports: {f: {role: fabric, address: 198.51.100.2}, e: {role: edge, address: 192.0.2.1}}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: GatewaySubnet, addressPrefix: 10.1.255.0/27}]
    expressRouteCircuits: [{name: er1, peerings: [{name: AzurePrivatePeering}]}]
    virtualNetworkGateways: [{name: g, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c, connectionType: ExpressRoute, virtualNetworkGateway1: g, peer: er1}]
    tunnels:
      - {vnet: hub, port: f, key: 1}
      - {circuit: er1, link: primary, port: e, remote: 192.0.2.2, key: 1}
      - {circuit: er1, link: secondary, port: e, remote: 192.0.2.6, key: 2}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1}
      - {prefix: 0.0.0.0/0, circuit: er1, at: 5, until: 7.5}
      - {prefix: 0.0.0.0/0, circuit: er1, at: 8}
    links:
      - {circuit: er1, link: primary, down: 6, up: 9}
  - name: fabrikam
";

    fn seen(model: &Model) -> (Vec<String>, Vec<bool>) {
        let customer = &model.customers[0];
        let routes = customer.learned_routes.iter().map(|r| r.prefix.to_string()).collect();
        (routes, customer.tunnels.iter().skip(1).map(|t| t.enabled).collect())
    }

    #[test]
    fn routes_and_links_come_and_go() {
        let model = model::from_bytes("c.yaml", TEXT.as_bytes(), None).unwrap();
        assert!(changes_in_time(&model));
        let (first, later) = in_time(&model, Vec::new());
        assert!(!changes_in_time(&first));
        let (fixed, default) = ("192.168.0.0/16".to_owned(), "0.0.0.0/0".to_owned());
        assert_eq!(seen(&first), (vec![fixed.clone()], vec![true, true]));
        let seconds: Vec<f64> = later.iter().map(|(at, _)| *at as f64 / SECOND as f64).collect();
        assert_eq!(seconds, [5.0, 6.0, 7.5, 8.0, 9.0]);
        let with = || vec![fixed.clone(), default.clone()];
        let expected = [
            (with(), vec![true, true]),
            (with(), vec![false, true]),
            (vec![fixed.clone()], vec![false, true]),
            (with(), vec![false, true]),
            (with(), vec![true, true]),
        ];
        for ((_, model), expected) in later.iter().zip(expected) {
            assert_eq!(seen(model), expected);
            // Who does not change is the same.
            assert!(Arc::ptr_eq(&model.customers[1], &first.customers[1]));
        }
        // Another configuration comes into force as it is by then.
        let (_, later) = in_time(&first, vec![(SECOND * 13 / 2, model)]);
        let seconds: Vec<f64> = later.iter().map(|(at, _)| *at as f64 / SECOND as f64).collect();
        assert_eq!(seconds, [6.5, 7.5, 8.0, 9.0]);
        assert_eq!(seen(&later[0].1), (with(), vec![false, true]));
    }

    #[test]
    fn a_link_fails_for_all_peerings_of_its_circuit_or_for_the_one_that_is_named() {
        let peerings = "{name: AzurePrivatePeering}, {name: MicrosoftPeering}, {name: AzurePublicPeering}";
        let more =
            "      - {circuit: er1, peering: PEERING, link: primary, port: e, remote: 192.0.2.2, key: 3}
      - {circuit: er1, peering: PEERING, link: secondary, port: e, remote: 192.0.2.6, key: 4}\n";
        let tunnels = more.replace("PEERING", "MicrosoftPeering")
            + &more
                .replace("PEERING", "AzurePublicPeering")
                .replace("key: 3", "key: 5")
                .replace("key: 4", "key: 6");
        let text = TEXT
            .replace("{name: AzurePrivatePeering}", peerings)
            .replace("    learnedRoutes:\n", &format!("{tunnels}    learnedRoutes:\n"));
        // Primary and secondary of private, Microsoft and public peering, from 6 s on.
        let fails = |of: &str| {
            let text =
                text.replace("{circuit: er1, link: primary, down", &format!("{{circuit: er1, {of} down"));
            let model = model::from_bytes("c.yaml", text.as_bytes(), None).unwrap();
            seen(&in_time(&model, Vec::new()).1[1].1).1
        };
        assert_eq!(fails("link: primary,"), [false, true, false, true, false, true]);
        assert_eq!(fails("link: secondary,"), [true, false, true, false, true, false]);
        let one = |n: usize| (0..6).map(|tunnel| tunnel != n).collect::<Vec<_>>();
        assert_eq!(fails("peering: AzurePrivatePeering, link: secondary,"), one(1));
        assert_eq!(fails("peering: MicrosoftPeering, link: primary,"), one(2));
        assert_eq!(fails("peering: AzurePublicPeering, link: secondary,"), one(5));
    }
}
