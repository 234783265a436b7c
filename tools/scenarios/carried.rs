//! What the links of circuits have carried, as a story tells it.

use std::collections::BTreeMap;

use clearway::model::{Link, Model, TunnelTo};

use crate::story::{Place, Story};

/// Customer, circuit, peering and link.
pub type LinkOf = (String, String, String, Link);

/// Packets and bytes, inwards and outwards.
pub type Carried = [[u64; 2]; 2];

/// Every link of every peering of all configurations, with what it has carried.
pub fn carried(story: &Story) -> BTreeMap<LinkOf, Carried> {
    let models = || std::iter::once(&story.model).chain(story.swaps.iter().map(|(_, _, model)| model));
    let mut all: BTreeMap<LinkOf, Carried> =
        models().flat_map(links).map(|l| (l, Carried::default())).collect();
    let mut count = |place: &Place, toward: usize, bytes: usize| {
        if let Some(link) = models().find_map(|model| link_of(model, place)) {
            let counts = &mut all.entry(link).or_default()[toward];
            *counts = [counts[0] + 1, counts[1] + bytes as u64];
        }
    };
    for arrival in &story.arrivals {
        // What ends in the steps before has not passed the link; where it was over the rate of another, it has.
        let passed = arrival.fate.reason.is_none_or(|reason| reason.step() > 5);
        if let Some(packet) = arrival.carried().filter(|_| passed) {
            count(&arrival.from, 0, packet.length());
        }
        // Our own ICMP errors are not counted.
        if arrival.fate.answer.is_none() {
            arrival.leaving().iter().for_each(|(to, packet)| count(to, 1, packet.length()));
        }
    }
    all
}

fn links(model: &Model) -> Vec<LinkOf> {
    let mut links = Vec::new();
    for customer in &model.customers {
        for circuit in &customer.circuits {
            for peering in &circuit.peerings {
                let link = |l| (customer.name.clone(), circuit.name.clone(), peering.name.clone(), l);
                links.extend([Link::Primary, Link::Secondary].map(link));
            }
        }
    }
    links
}

/// The link whose tunnel has this port, remote and key.
fn link_of(model: &Model, place: &Place) -> Option<LinkOf> {
    let (remote, key) = place.tunnel?;
    model.customers.iter().find_map(|customer| {
        let is_it = |t: &&clearway::model::Tunnel| {
            model.ports[t.port].name == place.port && t.remote == Some(remote) && t.key == key
        };
        let tunnel = customer.tunnels.iter().find(is_it)?;
        let TunnelTo::Link { circuit, peering, link } = tunnel.to else { return None };
        let circuit = &customer.circuits[circuit];
        Some((customer.name.clone(), circuit.name.clone(), circuit.peerings[peering].name.clone(), link))
    })
}

/// `meters.json`.
pub fn meters(story: &Story) -> String {
    type Tree = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<String>>>>;
    let mut tree = Tree::new();
    for ((customer, circuit, peering, link), [received, sent]) in carried(story) {
        let count = |[packets, bytes]: [u64; 2]| format!("{{\"packets\": {packets}, \"bytes\": {bytes}}}");
        let said = format!("\"{}\": {{\"in\": {}, \"out\": {}}}", link.name(), count(received), count(sent));
        tree.entry(customer).or_default().entry(circuit).or_default().entry(peering).or_default().push(said);
    }
    let object = |fields: Vec<String>| format!("{{{}}}", fields.join(", "));
    let named = |name: &String, value: String| format!("\"{name}\": {value}");
    let customers = tree.iter().map(|(customer, circuits)| {
        let circuits = circuits.iter().map(|(circuit, peerings)| {
            let peerings = peerings.iter().map(|(peering, links)| named(peering, object(links.clone())));
            named(circuit, object(peerings.collect()))
        });
        named(customer, object(circuits.collect()))
    });
    object(customers.collect()) + "\n"
}
