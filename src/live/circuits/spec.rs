//! What the configuration asks of the control side of circuit links.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::bgp::{Advertised, Family, Policy, is_reserved_asn};
use crate::compile::topology;
use crate::dataplane::emit;
use crate::model::{
    Circuit, CircuitPeering, CircuitTier, Customer, Encapsulation, Link, Model, PeeringKind, SharedKey,
    TunnelTo,
};
use crate::types::Prefix;

/// Names a link of a peering, also over reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// The peering.
    pub peering: String,
    /// Which link.
    pub link: Link,
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkKey { customer, circuit, peering, link } = self;
        write!(f, "customer '{customer}': circuit '{circuit}', {peering}, {} link", link.name())
    }
}

/// What is asked of one link: one that has a tunnel and a link prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// Which.
    pub key: LinkKey,
    /// The routing domain.
    pub kind: PeeringKind,
    /// Its ends, of IPv4 and of IPv6.
    pub ends: [Option<Ends>; 2],
    /// The largest IP packet that it carries, in bytes.
    pub mtu: u32,
    /// Its tunnel, its circuit and its peering are not turned off.
    pub enabled: bool,
    /// BGP, if the peering says the customer's AS number and its routes are not the kernel's.
    pub bgp: Option<BgpSpec>,
    /// Its routes are mirrored from the kernel: which prefixes are taken, of IPv4 and of IPv6.
    pub kernel: Option<[Policy; 2]>,
}

/// Both ends of a link, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The customer's address: the first of the prefix that may be used.
    pub peer: IpAddr,
    /// Ours: the second.
    pub local: IpAddr,
    /// The link's prefix: a /30 or /126.
    pub prefix: Prefix,
}

/// What is asked of BGP on a link; of each family with ends there is a session.
#[derive(Clone, PartialEq, Eq)]
pub struct BgpSpec {
    /// Our AS number.
    pub asn: u32,
    /// The customer's.
    pub peer_asn: u32,
    /// The key of TCP-MD5 (RFC 2385), if there is one: at most 80 bytes.
    pub shared_key: Option<String>,
    /// Which prefixes are taken, of IPv4 and of IPv6.
    pub policies: [Policy; 2],
    /// What is advertised, of both families.
    pub advertised: Vec<Advertised>,
    /// Why the session is held down, if it is: a sentence.
    pub held_down: Option<String>,
}

/// All but the key, which is a secret.
impl fmt::Debug for BgpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BgpSpec { asn, peer_asn, shared_key, policies, advertised, held_down } = self;
        f.debug_struct("BgpSpec")
            .field("asn", asn)
            .field("peer_asn", peer_asn)
            .field("shared_key", &shared_key.as_ref().map(|_| ".."))
            .field("policies", policies)
            .field("advertised", advertised)
            .field("held_down", held_down)
            .finish()
    }
}

/// What is asked of every link that has a tunnel and a link prefix, in the order of the configuration.
pub fn specs(model: &Model) -> Vec<LinkSpec> {
    let mut specs = Vec::new();
    for customer in &model.customers {
        // Both links of a peering advertise the same.
        let mut of_peerings: BTreeMap<(usize, usize), Option<BgpSpec>> = BTreeMap::new();
        for tunnel in &customer.tunnels {
            let TunnelTo::Link { circuit: c, peering: p, link } = tunnel.to else { continue };
            let Some((circuit, peering)) = find(customer, c, p) else { continue };
            let ends = [&peering.link_prefixes, &peering.link_prefixes_v6].map(|of| ends(of, link));
            let Some(port) = model.ports.get(tunnel.port).filter(|_| ends != [None, None]) else { continue };
            let nvgre = tunnel.encapsulation == Encapsulation::Nvgre;
            let bgp = of_peerings.entry((c, p)).or_insert_with(|| bgp(model, customer, c, circuit, peering));
            specs.push(LinkSpec {
                key: LinkKey {
                    customer: customer.name.clone(),
                    circuit: circuit.name.clone(),
                    peering: peering.name.clone(),
                    link,
                },
                kind: peering.kind,
                ends,
                mtu: emit::inside(port.mtu, port.address, tunnel.sequence, nvgre),
                enabled: tunnel.enabled,
                bgp: bgp.clone(),
                kernel: peering.kernel_routes.then(|| policies(circuit, peering)),
            });
        }
    }
    specs
}

/// A circuit and a peering of it.
pub(super) fn find(
    customer: &Customer,
    circuit: usize,
    peering: usize,
) -> Option<(&Circuit, &CircuitPeering)> {
    let circuit = customer.circuits.get(circuit)?;
    Some((circuit, circuit.peerings.get(peering)?))
}

/// Which prefixes a peering takes on each link, of IPv4 and of IPv6, and how many, whoever learns them.
pub fn policies(circuit: &Circuit, peering: &CircuitPeering) -> [Policy; 2] {
    let premium = circuit.tier == CircuitTier::Premium;
    [Family::V4, Family::V6].map(|family| match peering.kind {
        PeeringKind::Private => Policy::private(family, premium),
        PeeringKind::Microsoft | PeeringKind::Public => {
            Policy::public(peering.advertised_public_prefixes.clone())
        }
    })
}

fn ends(prefixes: &[Option<Prefix>; 2], link: Link) -> Option<Ends> {
    let [primary, secondary] = *prefixes;
    let prefix = match link {
        Link::Primary => primary?,
        Link::Secondary => secondary?,
    };
    Some(Ends { peer: prefix.first_usable(), local: prefix.second_usable(), prefix })
}

fn bgp(
    model: &Model,
    customer: &Customer,
    index: usize,
    circuit: &Circuit,
    peering: &CircuitPeering,
) -> Option<BgpSpec> {
    let peer_asn = peering.peer_asn.filter(|_| !peering.kernel_routes)?;
    let asn = peering.azure_asn;
    let advertised = match peering.kind {
        PeeringKind::Private => {
            let spaces = topology::spaces(customer, index).into_iter();
            spaces.map(|prefix| Advertised { prefix, communities: Vec::new() }).collect()
        }
        PeeringKind::Microsoft | PeeringKind::Public => services(model, customer, peering),
    };
    // Such a session cannot come up: better said at once than found in what both ends log.
    let held_down = if peer_asn == asn {
        Some(format!("peerASN and azureASN are both {asn}, and the session is between two systems (eBGP)"))
    } else {
        let reserved =
            [("peerASN", peer_asn), ("azureASN", asn)].into_iter().find(|(_, n)| is_reserved_asn(*n));
        reserved.map(|(key, n)| format!("{key} is {n}, which is reserved and no router's"))
    };
    Some(BgpSpec {
        asn,
        peer_asn,
        shared_key: peering.shared_key.as_ref().map(SharedKey::expose).map(str::to_owned),
        policies: policies(circuit, peering),
        advertised,
        held_down,
    })
}

/// The service prefixes that a peering's route filters allow. One in several communities has all that are allowed.
fn services(model: &Model, customer: &Customer, peering: &CircuitPeering) -> Vec<Advertised> {
    let mut found: BTreeMap<Prefix, Vec<u32>> = BTreeMap::new();
    for (filter, ipv4) in peering.route_filters.into_iter().zip([true, false]) {
        let filter = filter.and_then(|f| customer.route_filters.get(f));
        for community in filter.into_iter().flat_map(|f| &f.communities) {
            let prefixes = model.communities.get(community).into_iter().flatten();
            for prefix in prefixes.filter(|p| p.is_ipv4() == ipv4) {
                found.entry(*prefix).or_default().push(*community);
            }
        }
    }
    found.into_iter().map(|(prefix, communities)| Advertised { prefix, communities }).collect()
}

#[cfg(test)]
mod tests;
