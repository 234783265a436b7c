//! Who reaches whom: peerings that count, gateways in use, and the ways to every learned prefix.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use ahash::RandomState;

use crate::model::{
    Connection, ConnectionTo, Customer, GatewayKind, LearnedFrom, LearnedRoute, Link, Peering, PeeringKind,
    TunnelTo,
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
    Sites::new(customer).learned(gateways)
}

/// Where routes are learned, links of a peering together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// On this circuit and peering.
    Peering(usize, usize),
    /// On this connection.
    Connection(usize),
}

impl Source {
    /// Where this one was learned.
    pub fn of(route: &LearnedRoute) -> Source {
        match route.from {
            LearnedFrom::Peering { circuit, peering, .. } => Source::Peering(circuit, peering),
            LearnedFrom::Connection(connection) => Source::Connection(connection),
        }
    }
}

/// The tunnels of a customer's sites, and what was learned from there, by site.
pub(super) struct Sites<'a> {
    customer: &'a Customer,
    /// Of each circuit: tunnels that are up, with their peering and link.
    links: HashMap<usize, Vec<(usize, usize, Link)>, RandomState>,
    /// Of each connection: tunnels that are up.
    tunnels: HashMap<usize, Vec<usize>, RandomState>,
    /// Where what was learned from each source stands among the learned routes.
    routes: HashMap<Source, Vec<Range<usize>>, RandomState>,
}

impl<'a> Sites<'a> {
    /// Sorts a customer's tunnels and learned routes by their sites.
    pub fn new(customer: &'a Customer) -> Sites<'a> {
        let mut sites = Sites {
            customer,
            links: HashMap::default(),
            tunnels: HashMap::default(),
            routes: HashMap::default(),
        };
        for (number, tunnel) in customer.tunnels.iter().enumerate().filter(|(_, t)| t.enabled) {
            match tunnel.to {
                TunnelTo::Link { circuit, peering, link } => {
                    sites.links.entry(circuit).or_default().push((number, peering, link));
                }
                TunnelTo::Connection(c) => sites.tunnels.entry(c).or_default().push(number),
                TunnelTo::Vnet(_) | TunnelTo::Internet(_) => {}
            }
        }
        let mut start = 0;
        for run in customer.learned_routes.chunk_by(|a, b| Source::of(a) == Source::of(b)) {
            if let Some(first) = run.first() {
                sites.routes.entry(Source::of(first)).or_default().push(start..start + run.len());
            }
            start += run.len();
        }
        sites
    }

    fn routes_of(&self, source: Source) -> impl Iterator<Item = &'a LearnedRoute> {
        let all: &'a [LearnedRoute] = &self.customer.learned_routes;
        let runs = self.routes.get(&source).into_iter().flatten();
        runs.flat_map(|run| all.get(run.clone()).into_iter().flatten())
    }

    /// What these gateways have learned over tunnels that are up.
    pub fn learned(&self, gateways: &[usize]) -> Learned {
        let mut learned = Vec::new();
        for (index, connection) in self.customer.connections.iter().enumerate() {
            if gateways.contains(&connection.gateway) && connection.down.is_none() {
                self.learn(index, connection, &mut learned);
            }
        }
        learned.sort_by_key(|(prefix, _)| *prefix);
        let prefixes = learned.chunk_by(|a, b| a.0 == b.0);
        prefixes.filter_map(|of| Some((of.first()?.0, of.iter().map(|(_, way)| *way).collect()))).collect()
    }

    fn learn(&self, index: usize, connection: &Connection, learned: &mut Vec<(Prefix, Way)>) {
        match connection.to {
            ConnectionTo::Circuit { circuit, routing_weight } => {
                for &(tunnel, peering, link) in self.links.get(&circuit).into_iter().flatten() {
                    if !is_private(self.customer, circuit, peering) {
                        continue;
                    }
                    let routes = self.routes_of(Source::Peering(circuit, peering));
                    let routes = routes.filter(|r| r.on_link().is_none_or(|l| l == link));
                    learned.extend(routes.map(|r| {
                        let as_path = r.as_path.len();
                        (r.prefix, Way { tunnel, express_route: true, weight: routing_weight, as_path })
                    }));
                }
            }
            ConnectionTo::Site { routing_weight, .. } => {
                for &tunnel in self.tunnels.get(&index).into_iter().flatten() {
                    learned.extend(self.site_routes(index, connection).map(|(prefix, as_path)| {
                        (prefix, Way { tunnel, express_route: false, weight: routing_weight, as_path })
                    }));
                }
            }
        }
    }

    /// What Microsoft and public peerings have learned over links that are up. Private AS numbers do not lengthen a path:
    /// they are taken out of it.
    pub fn public(&self) -> Learned {
        let mut learned = Learned::new();
        let customer = self.customer;
        for circuit in 0..customer.circuits.len() {
            let links = self.links.get(&circuit).map_or(&[][..], Vec::as_slice);
            for &(tunnel, peering, link) in links.iter().filter(|l| !is_private(customer, circuit, l.1)) {
                let routes = self.routes_of(Source::Peering(circuit, peering));
                for route in routes.filter(|r| r.on_link().is_none_or(|l| l == link)) {
                    let as_path = route.as_path.iter().filter(|asn| !is_private_asn(**asn)).count();
                    let way = Way { tunnel, express_route: true, weight: 0, as_path };
                    learned.entry(route.prefix).or_default().push(way);
                }
            }
        }
        learned
    }

    /// What is known of a VPN connection: learned routes and the prefixes of its local network gateway.
    fn site_routes(&self, index: usize, connection: &Connection) -> impl Iterator<Item = (Prefix, usize)> {
        let site = match connection.to {
            ConnectionTo::Site { local_network_gateway: Some(site), .. } => {
                self.customer.local_network_gateways.get(site)
            }
            _ => None,
        };
        let fixed = site.into_iter().flat_map(|s| &s.prefixes).map(|p| (*p, 0));
        let told = self.routes_of(Source::Connection(index));
        told.map(|r| (r.prefix, r.as_path.len())).chain(fixed)
    }

    /// The prefixes learned on a peering, over those of its links that are up.
    fn learned_on(&self, circuit: usize, peering: usize) -> impl Iterator<Item = Prefix> {
        let links = self.links.get(&circuit).into_iter().flatten().filter(move |l| l.1 == peering);
        let links: Vec<Link> = links.map(|l| l.2).collect();
        self.routes_of(Source::Peering(circuit, peering)).filter_map(move |route| {
            let up = route.on_link().map_or(!links.is_empty(), |l| links.contains(&l));
            up.then_some(route.prefix)
        })
    }

    /// What lies behind a tunnel of a link or connection; nothing of other tunnels.
    pub fn site(&self, to: TunnelTo) -> Site {
        let customer = self.customer;
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
            site.inside.extend(ranges(customer, home));
            for peer in peers(customer, home) {
                site.inside.extend(ranges(customer, peer.vnet));
            }
            // What is not advertised cannot be entered.
            if connection.down.is_none() {
                let members = members(customer, home);
                site.enter.extend(members.flat_map(|v| ranges(customer, v)).map(|p| (p, home)));
            }
            if let TunnelTo::Connection(_) = to {
                site.learned.extend(self.site_routes(index, connection).map(|(p, _)| p));
            }
        }
        if let TunnelTo::Link { circuit, peering, .. } = to {
            site.learned.extend(self.learned_on(circuit, peering));
        }
        site
    }
}

/// The ranges of a VNet.
fn ranges(customer: &Customer, vnet: usize) -> impl Iterator<Item = Prefix> + '_ {
    customer.vnets.get(vnet).map_or(&[][..], |v| &v.address_space).iter().copied()
}

/// A VNet, and the peers that use its gateways.
fn members(customer: &Customer, home: usize) -> impl Iterator<Item = usize> + '_ {
    std::iter::once(home).chain(peers(customer, home).filter(Peer::lends_gateways).map(|p| p.vnet))
}

/// What the private peering of a circuit leads to, and advertises: the ranges of the VNets whose gateways are connected to
/// it, and of the peers that use these gateways.
pub fn spaces(customer: &Customer, circuit: usize) -> BTreeSet<Prefix> {
    let leads_here = |c: &&Connection| {
        c.down.is_none() && matches!(c.to, ConnectionTo::Circuit { circuit: of, .. } if of == circuit)
    };
    let homes =
        customer.connections.iter().filter(leads_here).filter_map(|c| customer.gateways.get(c.gateway));
    homes.flat_map(|g| members(customer, g.vnet)).flat_map(|v| ranges(customer, v)).collect()
}

/// AS numbers for private use (RFC 6996).
fn is_private_asn(asn: u32) -> bool {
    matches!(asn, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
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

/// True if the gateway is a VPN gateway.
pub fn is_vpn(customer: &Customer, gateway: usize) -> bool {
    customer.gateways.get(gateway).is_some_and(|g| g.kind == GatewayKind::Vpn)
}
