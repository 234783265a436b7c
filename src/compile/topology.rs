//! Who reaches whom: peerings that count, gateways in use, and the ways to every learned prefix.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Connection, ConnectionTo, Customer, GatewayKind, LearnedFrom, Peering, PeeringKind, TunnelTo,
};
use crate::types::Prefix;

/// A peering that counts: both VNets name each other and neither says another state than Connected.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The other VNet.
    pub vnet: usize,
    /// This VNet's side.
    pub mine: &'a Peering,
    /// The other VNet's side.
    pub theirs: &'a Peering,
}

impl Peer<'_> {
    /// Both sides allow access: routes exist.
    pub fn is_usable(&self) -> bool {
        self.mine.allow_access && self.theirs.allow_access
    }

    /// This VNet uses the other one's gateways.
    pub fn uses_remote_gateways(&self) -> bool {
        self.is_usable() && self.mine.use_remote_gateways && self.theirs.allow_gateway_transit
    }

    /// The other VNet uses this one's gateways.
    pub fn lends_gateways(&self) -> bool {
        self.is_usable() && self.theirs.use_remote_gateways && self.mine.allow_gateway_transit
    }
}

/// The peerings of a VNet that count.
pub fn peers(customer: &Customer, vnet: usize) -> impl Iterator<Item = Peer<'_>> {
    let sides = customer.vnets.get(vnet).map_or(&[][..], |v| &v.peerings);
    sides.iter().filter(|mine| mine.connected).filter_map(move |mine| {
        let remote = mine.remote?;
        let back = customer.vnets.get(remote)?.peerings.iter();
        let theirs = back.into_iter().find(|p| p.remote == Some(vnet) && p.connected)?;
        Some(Peer { vnet: remote, mine, theirs })
    })
}

/// The gateways whose routes a VNet learns: its own and those it uses remotely.
pub fn gateways(customer: &Customer, vnet: usize) -> Vec<usize> {
    let mut homes = vec![vnet];
    homes.extend(peers(customer, vnet).filter(Peer::uses_remote_gateways).map(|p| p.vnet));
    let all = customer.gateways.iter().enumerate();
    all.filter(|(_, g)| homes.contains(&g.vnet)).map(|(i, _)| i).collect()
}

/// One way to a learned prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The customer's tunnel.
    pub tunnel: usize,
    /// Over a circuit rather than VPN.
    pub express_route: bool,
    /// The connection's weight.
    pub weight: u32,
    /// Length of the AS path.
    pub as_path: usize,
}

/// Every learned prefix with all ways to it that are up.
pub type Learned = BTreeMap<Prefix, Vec<Way>>;

/// What these gateways have learned over tunnels that are up.
pub fn learned(customer: &Customer, gateways: &[usize]) -> Learned {
    let mut learned = Learned::new();
    for (index, connection) in customer.connections.iter().enumerate() {
        if gateways.contains(&connection.gateway) {
            learn(customer, index, connection, &mut learned);
        }
    }
    learned
}

fn learn(customer: &Customer, index: usize, connection: &Connection, learned: &mut Learned) {
    let up = customer.tunnels.iter().enumerate().filter(|(_, t)| t.enabled);
    for (number, tunnel) in up {
        match (connection.to, tunnel.to) {
            (
                ConnectionTo::Circuit { circuit, routing_weight },
                TunnelTo::Link { circuit: c, peering, link },
            ) if c == circuit && is_private(customer, circuit, peering) => {
                for route in &customer.learned_routes {
                    let LearnedFrom::Peering { circuit: rc, peering: rp, link: rl } = route.from else {
                        continue;
                    };
                    if (rc, rp) == (circuit, peering) && rl.is_none_or(|l| l == link) {
                        let as_path = route.as_path.len();
                        let way =
                            Way { tunnel: number, express_route: true, weight: routing_weight, as_path };
                        learned.entry(route.prefix).or_default().push(way);
                    }
                }
            }
            (ConnectionTo::Site { routing_weight, .. }, TunnelTo::Connection(c)) if c == index => {
                for (prefix, as_path) in site_routes(customer, index, connection) {
                    let way = Way { tunnel: number, express_route: false, weight: routing_weight, as_path };
                    learned.entry(prefix).or_default().push(way);
                }
            }
            _ => {}
        }
    }
}

/// What is known of a VPN connection: learned routes and the prefixes of its local network gateway.
fn site_routes<'a>(
    customer: &'a Customer,
    index: usize,
    connection: &Connection,
) -> impl Iterator<Item = (Prefix, usize)> + 'a {
    let site = match connection.to {
        ConnectionTo::Site { local_network_gateway: Some(site), .. } => {
            customer.local_network_gateways.get(site)
        }
        _ => None,
    };
    let fixed = site.into_iter().flat_map(|s| &s.prefixes).map(|p| (*p, 0));
    let routes = customer.learned_routes.iter();
    let told = routes.filter(move |r| r.from == LearnedFrom::Connection(index));
    told.map(|r| (r.prefix, r.as_path.len())).chain(fixed)
}

/// True of AzurePrivatePeering.
pub fn is_private(customer: &Customer, circuit: usize, peering: usize) -> bool {
    let peering = customer.circuits.get(circuit).and_then(|c| c.peerings.get(peering));
    peering.is_some_and(|p| p.kind == PeeringKind::Private)
}

/// The best of the ways: ExpressRoute before VPN, then the highest weight, then the shortest AS path; all that are
/// equal, each tunnel once.
pub fn best(ways: &[Way]) -> Vec<Way> {
    let rank = |w: &Way| (!w.express_route, u32::MAX - w.weight, w.as_path);
    let first = ways.iter().map(rank).min();
    let mut best: Vec<Way> = ways.iter().copied().filter(|w| Some(rank(w)) == first).collect();
    best.sort_unstable_by_key(|w| w.tunnel);
    best.dedup_by_key(|w| w.tunnel);
    best
}

/// What a tunnel of a circuit link or VPN connection leads to.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// For every range that may be entered, the VNet whose gateway is entered.
    pub enter: Vec<(Prefix, usize)>,
    /// Ranges that no source from there may lie in.
    pub inside: BTreeSet<Prefix>,
    /// Prefixes learned from there; a source lies in one.
    pub learned: BTreeSet<Prefix>,
}

/// What lies behind a tunnel of a link or connection; nothing of other tunnels.
pub fn site(customer: &Customer, to: TunnelTo) -> Site {
    let mut site = Site::default();
    for (index, connection) in customer.connections.iter().enumerate() {
        let leads_here = match (connection.to, to) {
            (ConnectionTo::Circuit { circuit, .. }, TunnelTo::Link { circuit: c, peering, .. }) => {
                c == circuit && is_private(customer, c, peering)
            }
            (ConnectionTo::Site { .. }, TunnelTo::Connection(c)) => c == index,
            _ => false,
        };
        let Some(gateway) = customer.gateways.get(connection.gateway).filter(|_| leads_here) else {
            continue;
        };
        let home = gateway.vnet;
        let ranges = |v: usize| customer.vnets.get(v).map_or(&[][..], |v| &v.address_space).iter().copied();
        site.enter.extend(ranges(home).map(|p| (p, home)));
        site.inside.extend(ranges(home));
        for peer in peers(customer, home) {
            site.inside.extend(ranges(peer.vnet));
            if peer.lends_gateways() {
                site.enter.extend(ranges(peer.vnet).map(|p| (p, home)));
            }
        }
        if let TunnelTo::Connection(_) = to {
            site.learned.extend(site_routes(customer, index, connection).map(|(p, _)| p));
        }
    }
    if let TunnelTo::Link { circuit, peering, .. } = to {
        site.learned.extend(learned_on(customer, circuit, peering));
    }
    site
}

/// The prefixes learned on a peering, over those of its links that are up.
fn learned_on(customer: &Customer, circuit: usize, peering: usize) -> impl Iterator<Item = Prefix> + '_ {
    let mut links = Vec::new();
    for tunnel in customer.tunnels.iter().filter(|t| t.enabled) {
        if let TunnelTo::Link { circuit: c, peering: p, link } = tunnel.to
            && (c, p) == (circuit, peering)
        {
            links.push(link);
        }
    }
    customer.learned_routes.iter().filter_map(move |route| match route.from {
        LearnedFrom::Peering { circuit: c, peering: p, link } if (c, p) == (circuit, peering) => {
            let up = link.map_or(!links.is_empty(), |l| links.contains(&l));
            up.then_some(route.prefix)
        }
        _ => None,
    })
}

/// True if the gateway is a VPN gateway.
pub fn is_vpn(customer: &Customer, gateway: usize) -> bool {
    customer.gateways.get(gateway).is_some_and(|g| g.kind == GatewayKind::Vpn)
}
