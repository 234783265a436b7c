//! Circuits of a plan: their states and bandwidths, Microsoft and public peerings, and what changes of them.

use clearway::types::Prefix;

use super::Rng;
use super::plan::{Circuit, CircuitPeering, Customer, Keys, Learned, Plan, Tunnel, prefix};

pub const PRIVATE: &str = "AzurePrivatePeering";
pub const MICROSOFT: &str = "MicrosoftPeering";
pub const PUBLIC: &str = "AzurePublicPeering";

/// A circuit without peerings. Many are so slow that a burst uses their buckets up.
pub fn circuit(name: &str, number: usize, rng: &mut Rng) -> Circuit {
    Circuit {
        name: name.to_string(),
        number,
        mbps: *rng.pick(&[Some(50), Some(50), Some(50), Some(50), Some(100), Some(10_000), None]),
        provisioned: provisioned(rng),
        enabled: if rng.percent(2) { Some("Disabled") } else { *rng.pick(&[None, Some("Enabled")]) },
        peerings: Vec::new(),
    }
}

fn provisioned(rng: &mut Rng) -> Option<&'static str> {
    if rng.percent(3) {
        return *rng.pick(&[Some("NotProvisioned"), Some("Provisioning"), Some("Deprovisioning")]);
    }
    *rng.pick(&[None, Some("Provisioned"), Some("provisioned")])
}

fn state(rng: &mut Rng) -> Option<&'static str> {
    if rng.percent(4) { Some("Disabled") } else { *rng.pick(&[None, Some("Enabled"), Some("Enabling")]) }
}

pub fn peering(kind: &'static str, rng: &mut Rng) -> CircuitPeering {
    CircuitPeering {
        name: if kind == MICROSOFT && rng.percent(20) { "office" } else { kind },
        kind,
        state: state(rng),
        advertised: None,
        configured: None,
        links: rng.percent(93),
        links_v6: rng.percent(50),
    }
}

/// "Absent counts as Provisioned and Enabled; another `circuitProvisioningState` than Enabled is down too. Else its tunnels
/// are down".
pub fn is_up(customer: &Customer, tunnel: &Tunnel) -> bool {
    let is = |said: Option<&str>, good: &str| said.is_none_or(|s| s.eq_ignore_ascii_case(good));
    let mut up = tunnel.enabled;
    for circuit in &customer.circuits {
        for peering in &circuit.peerings {
            if tunnel.to.starts_with(&format!("circuit: {}, peering: {},", circuit.name, peering.kind)) {
                up &= is(circuit.provisioned, "Provisioned") && is(circuit.enabled, "Enabled");
                // "a peering when its `state` is not Disabled"
                up &= peering.state != Some("Disabled");
                // "Microsoft peering also needs `advertisedPublicPrefixesState` Configured."
                up &= peering.kind != MICROSOFT || is(peering.configured, "Configured");
            }
        }
    }
    up
}

/// Public prefixes of a customer: no two customers have overlapping ones. Some lie in the space of a
/// VNet, or around it, now and then.
fn pool(customer: &Customer) -> [Prefix; 8] {
    let n = customer.number();
    [
        Prefix::v4(131, 10 + n, 0, 0, 16),
        Prefix::v4(131, 10 + n, 4, 0, 24),
        Prefix::v4(131, 10 + n, 4, 0, 29),
        Prefix::v4(131, 10 + n, 77, 0, 24),
        Prefix::v4(20, 30, n, 0, 24),
        prefix(&format!("2a01:{n}::/32")),
        prefix(&format!("2a01:{n}:4::/48")),
        Prefix::v4(22, n, 0, 0, 16),
    ]
}

/// What the customer has announced to own: everything in the pool.
fn advertised(customer: &Customer) -> Vec<Prefix> {
    let all = pool(customer);
    vec![all[0], all[4], all[5], all[7]]
}

/// AS numbers, private ones among them.
fn as_path(rng: &mut Rng) -> Vec<u32> {
    let pool = [3356, 174, 64_511, 64_512, 65_001, 65_534, 4_199_999_999, 4_200_000_000, 4_294_967_294];
    (0..rng.below(4)).map(|_| *rng.pick(&pool)).collect()
}

/// Microsoft and public peerings, with their tunnels and what is learned there.
pub fn add_public(customer: &mut Customer, rng: &mut Rng, plan: &Plan, keys: &mut Keys) {
    if rng.percent(15) {
        // A circuit that leads to no VNet.
        let number = customer.circuits.len();
        customer.circuits.push(circuit("er9", number, rng));
    }
    for c in 0..customer.circuits.len() {
        let alone = customer.circuits[c].peerings.is_empty();
        for kind in [MICROSOFT, PUBLIC] {
            if !rng.percent(if alone { 80 } else { 50 }) {
                continue;
            }
            let mut domain = peering(kind, rng);
            domain.advertised = rng.percent(60).then(|| advertised(customer));
            if domain.advertised.is_some() {
                let states = [None, Some("Configured"), Some("Configured"), Some("configured")];
                domain.configured =
                    if rng.percent(6) { Some("ValidationNeeded") } else { *rng.pick(&states) };
            }
            customer.circuits[c].peerings.push(domain);
            let circuit = customer.circuits[c].name.clone();
            let ports = *rng.pick(&[["edge-a", "edge-b"], ["edge-a", "edge-b"], ["edge-b", "edge-b"]]);
            for (link, port) in ["primary", "secondary"].into_iter().zip(ports) {
                if rng.percent(94) {
                    let to = format!("circuit: {circuit}, peering: {kind}, link: {link}");
                    customer.bind(to, port, rng, plan, keys);
                }
            }
            for _ in 0..rng.range(1, 5) {
                learn(customer, &circuit, kind, rng);
            }
        }
    }
}

/// One more route of a peering, on one link or both.
fn learn(customer: &mut Customer, circuit: &str, kind: &'static str, rng: &mut Rng) {
    let prefix = *rng.pick(&pool(customer));
    let known = customer
        .learned
        .iter()
        .any(|l| l.prefix == prefix && l.circuit.as_deref() == Some(circuit) && l.peering == Some(kind));
    if known {
        return;
    }
    let link = *rng.pick(&[None, None, Some("primary"), Some("secondary")]);
    let route = |link, path| Learned {
        prefix,
        circuit: Some(circuit.to_string()),
        peering: Some(kind),
        link,
        connection: None,
        path,
    };
    if let Some(first) = link.filter(|_| rng.percent(60)) {
        let other = if first == "primary" { "secondary" } else { "primary" };
        customer.learned.push(route(Some(other), as_path(rng)));
    }
    customer.learned.push(route(link, as_path(rng)));
}

/// A route more of some Microsoft or public peering.
pub fn learn_more(customer: &mut Customer, rng: &mut Rng) {
    let mut all: Vec<(String, &'static str)> = Vec::new();
    for circuit in &customer.circuits {
        let public = circuit.peerings.iter().filter(|p| p.kind != PRIVATE);
        all.extend(public.map(|p| (circuit.name.clone(), p.kind)));
    }
    if let Some((circuit, kind)) = rng.pick_some(&all).cloned() {
        learn(customer, &circuit, kind, rng);
    }
}

/// Another AS path of a learned route.
pub fn change_path(customer: &Customer, learned: usize, rng: &mut Rng) -> Vec<u32> {
    match customer.learned[learned].peering {
        Some(MICROSOFT | PUBLIC) => as_path(rng),
        _ => private_path(rng.below(4)),
    }
}

/// A path of so many private AS numbers.
pub fn private_path(length: usize) -> Vec<u32> {
    (0..length as u32).map(|n| 65_001 + n).collect()
}

/// More bandwidth; never less, which may not follow.
pub fn raise(circuit: &mut Circuit, rng: &mut Rng) {
    circuit.mbps = match circuit.mbps {
        Some(50) => *rng.pick(&[Some(100), Some(100), Some(200), None]),
        Some(100) => *rng.pick(&[Some(200), Some(10_000)]),
        Some(10_000) => None,
        other => other.map(|_| 10_000),
    };
}

/// Up or down, by one of the states that say so.
pub fn change_state(customer: &mut Customer, rng: &mut Rng) {
    if customer.circuits.is_empty() {
        return;
    }
    let c = rng.below(customer.circuits.len());
    let circuit = &mut customer.circuits[c];
    match rng.below(4) {
        0 => circuit.provisioned = *rng.pick(&[None, Some("NotProvisioned")]),
        1 => circuit.enabled = *rng.pick(&[None, Some("Enabled"), Some("Disabled")]),
        _ => {
            for peering in &mut circuit.peerings {
                match rng.below(3) {
                    0 => peering.state = *rng.pick(&[None, Some("Disabled"), Some("Enabling")]),
                    1 if peering.advertised.is_some() => {
                        peering.configured = *rng.pick(&[Some("Configured"), Some("NotConfigured")]);
                    }
                    _ => {}
                }
            }
        }
    }
}
