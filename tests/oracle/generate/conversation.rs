//! Who talks to whom in generated traffic, and what they say next.

use std::net::IpAddr;

use clearway::model::{Model, PeeringKind, Role, TunnelTo};
use clearway::types::Prefix;

use super::Rng;
use super::frames::{Ip, icmp, tcp, udp};
use super::plan::address;
use crate::oracle::routes;

/// One end of a conversation: where its packets enter, and its address.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    pub entry: Entry,
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From a host of the fabric.
    Fabric { customer: usize, vnet: usize },
    /// By this tunnel of a customer: a link, a connection, or an Internet tunnel.
    Tunnel { customer: usize, tunnel: usize },
    /// Plain by this port.
    Plain { port: usize },
}

impl Entry {
    /// The same place in another configuration.
    pub fn moved(self, old: &Model, new: &Model) -> Option<Entry> {
        let customer_of = |c: usize| new.customers.iter().position(|n| n.name == old.customers[c].name);
        match self {
            Entry::Fabric { customer: c, vnet } => {
                let customer = customer_of(c)?;
                let name = &old.customers[c].vnets[vnet].name;
                let vnet = new.customers[customer].vnets.iter().position(|v| v.name == *name)?;
                Some(Entry::Fabric { customer, vnet })
            }
            Entry::Tunnel { customer: c, tunnel } => {
                let customer = customer_of(c)?;
                let was = &old.customers[c].tunnels[tunnel];
                let same = |t: &clearway::model::Tunnel| t.key == was.key && t.remote == was.remote;
                let tunnel = new.customers[customer].tunnels.iter().position(same)?;
                Some(Entry::Tunnel { customer, tunnel })
            }
            Entry::Plain { port } => {
                let port = new.ports.iter().position(|p| p.name == old.ports[port].name)?;
                Some(Entry::Plain { port })
            }
        }
    }
}

/// The parties that a configuration offers.
pub struct World {
    pub endpoints: Vec<Party>,
    /// NICs that forward.
    pub forwarders: Vec<Party>,
    pub gateways: Vec<Party>,
    /// Customers behind Microsoft and public peering.
    pub public: Vec<Party>,
    pub outside: Vec<Party>,
    /// Circuit links: where their packets enter, and the addresses of both ends.
    pub links: Vec<(Entry, IpAddr, IpAddr)>,
}

/// Addresses of the Internet; some lie in service tags, some in prefixes that are learned now and then.
const INTERNET: [&str; 12] = [
    "1.2.3.4",
    "1.2.3.9",
    "8.8.8.8",
    "20.60.1.1",
    "20.60.200.1",
    "20.61.4.9",
    "20.62.3.4",
    "20.100.1.1",
    "20.118.99.224",
    "2001:db8:77::1",
    "2603:1000:4::7",
    "2a00:1450::8",
];
const PLATFORM: [&str; 2] = ["168.63.129.16", "169.254.169.254"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl World {
    pub fn new(model: &Model, rng: &mut Rng) -> World {
        let mut world = World {
            endpoints: Vec::new(),
            forwarders: Vec::new(),
            gateways: Vec::new(),
            public: Vec::new(),
            outside: Vec::new(),
            links: Vec::new(),
        };
        for (c, customer) in model.customers.iter().enumerate() {
            for nic in &customer.nics {
                let entry = Entry::Fabric { customer: c, vnet: nic.vnet };
                for &address in &nic.addresses {
                    world.endpoints.push(Party { entry, address });
                    if nic.ip_forwarding {
                        world.forwarders.push(Party { entry, address });
                    }
                }
            }
            for (v, vnet) in customer.vnets.iter().enumerate() {
                let entry = Entry::Fabric { customer: c, vnet: v };
                for prefix in vnet.subnets.iter().flat_map(|s| &s.prefixes) {
                    world.endpoints.push(Party { entry, address: address(prefix, rng.range(18, 24) as u32) });
                }
            }
            for t in 0..customer.tunnels.len() {
                world.add_tunnel(model, c, t, rng);
            }
        }
        for (p, port) in model.ports.iter().enumerate() {
            if matches!(port.role, Role::Internet | Role::Services) {
                let entry = Entry::Plain { port: p };
                world.outside.extend(INTERNET.iter().map(|a| Party { entry, address: ip(a) }));
                if port.role == Role::Services {
                    for _ in 0..2 {
                        world.outside.extend(PLATFORM.iter().map(|a| Party { entry, address: ip(a) }));
                    }
                }
            }
        }
        world
    }

    fn add_tunnel(&mut self, model: &Model, customer: usize, tunnel: usize, rng: &mut Rng) {
        let owner = &model.customers[customer];
        let entry = Entry::Tunnel { customer, tunnel };
        let mut public = false;
        let mut learned: Vec<Prefix> = match owner.tunnels[tunnel].to {
            TunnelTo::Vnet(_) => return,
            TunnelTo::Internet(_) => {
                self.outside.extend(INTERNET.iter().map(|a| Party { entry, address: ip(a) }));
                return;
            }
            TunnelTo::Link { circuit, peering, link } => {
                let domain = &owner.circuits[circuit].peerings[peering];
                public = domain.kind != PeeringKind::Private;
                for prefixes in [domain.link_prefixes, domain.link_prefixes_v6] {
                    let ends = prefixes[link as usize].map(|p| (entry, address(&p, 1), address(&p, 2)));
                    self.links.extend(ends);
                }
                routes::learned_on_link(owner, circuit, peering, link).into_iter().map(|(p, _)| p).collect()
            }
            TunnelTo::Connection(c) => {
                routes::learned_on_connection(owner, c).into_iter().map(|(p, _)| p).collect()
            }
        };
        learned.dedup();
        for prefix in learned {
            let base = match (prefix.is_default(), prefix.is_ipv4()) {
                (true, true) => Prefix::v4(9, 9, 9, 0, 24),
                (true, false) => "2001:db8:99::/48".parse().expect("a prefix"),
                _ => prefix,
            };
            let party = Party { entry, address: address(&base, rng.range(1, 6) as u32) };
            if public { self.public.push(party) } else { self.gateways.push(party) }
        }
    }

    /// Somebody of the same family for this party to talk to.
    pub fn partner(&self, rng: &mut Rng, of: &Party) -> Option<Party> {
        let v4 = of.address.is_ipv4();
        let pool: Vec<&Party> = match of.entry {
            Entry::Fabric { customer, vnet } => {
                match rng.below(10) {
                    0..=2 => {
                        let same = Entry::Fabric { customer, vnet };
                        self.endpoints.iter().filter(|p| p.entry == same).collect()
                    }
                    3..=4 => {
                        let near = |p: &&Party| matches!(p.entry, Entry::Fabric { customer: c, .. } if c == customer);
                        self.endpoints.iter().filter(near).collect()
                    }
                    5..=6 => {
                        let near = |p: &&Party| matches!(p.entry, Entry::Tunnel { customer: c, .. } if c == customer);
                        self.gateways.iter().filter(near).collect()
                    }
                    _ => {
                        let own = |p: &&Party| match p.entry {
                            Entry::Tunnel { customer: c, .. } => c == customer,
                            _ => true,
                        };
                        self.outside.iter().filter(own).collect()
                    }
                }
            }
            // Who is behind Microsoft or public peering talks to everyone outside, and the other way round.
            Entry::Tunnel { .. } if self.public.iter().any(|p| p.entry == of.entry) => {
                self.outside.iter().filter(|p| matches!(p.entry, Entry::Plain { .. })).collect()
            }
            Entry::Plain { .. } if !self.public.is_empty() && rng.percent(40) => self.public.iter().collect(),
            Entry::Tunnel { customer, .. } => {
                let near = |p: &&Party| matches!(p.entry, Entry::Fabric { customer: c, .. } if c == customer);
                self.endpoints.iter().filter(near).collect()
            }
            Entry::Plain { .. } => self.endpoints.iter().collect(),
        };
        // Seldom somebody talks to himself.
        let own = rng.below(60) == 0;
        let fits: Vec<&Party> = pool
            .into_iter()
            .filter(|p| p.address.is_ipv4() == v4 && (own || p.address != of.address))
            .collect();
        rng.pick_some(&fits).map(|p| **p)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    /// ICMP with an identifier: request and answer types.
    Query(u8, u8),
    Other(u8),
}

/// Two parties in the middle of something.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub a: Party,
    pub b: Party,
    /// An appliance that the packets pass.
    pub via: Option<Party>,
    pub kind: Kind,
    pub ports: (u16, u16),
    pub step: usize,
    /// What a TCP conversation does next: side (true: a) and flags.
    script: Vec<(bool, u8)>,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Conversation {
    pub fn new(world: &World, rng: &mut Rng) -> Option<Conversation> {
        let starters = match rng.below(12) {
            0..=5 => &world.endpoints,
            6..=7 => &world.gateways,
            8..=9 if !world.public.is_empty() => &world.public,
            _ => &world.outside,
        };
        let a = *rng.pick_some(starters)?;
        let b = world.partner(rng, &a)?;
        let v4 = a.address.is_ipv4();
        let kind = match rng.below(20) {
            0..=8 => Kind::Tcp,
            9..=14 => Kind::Udp,
            15..=16 => {
                if v4 {
                    Kind::Query(8, 0)
                } else {
                    Kind::Query(128, 129)
                }
            }
            17 => {
                if v4 {
                    Kind::Query(13, 14)
                } else {
                    Kind::Query(128, 129)
                }
            }
            _ => Kind::Other(*rng.pick(&[50, 51, 89, 132, 58, 1, 59])),
        };
        let customer = match (a.entry, b.entry) {
            (Entry::Fabric { customer, .. }, _) | (_, Entry::Fabric { customer, .. }) => Some(customer),
            _ => None,
        };
        let near: Vec<Party> = world
            .forwarders
            .iter()
            .filter(|p| matches!(p.entry, Entry::Fabric { customer: c, .. } if Some(c) == customer))
            .copied()
            .collect();
        let via = if rng.percent(30) { rng.pick_some(&near).copied() } else { None };
        let destination = *rng.pick(&[22, 53, 80, 443, 443, 8080, 1500, 45_000]);
        // Few source ports, so that conversations meet again.
        let ports = (40_000 + rng.below(6) as u16, destination);
        Some(Conversation { a, b, via, kind, ports, step: 0, script: script(rng) })
    }

    /// The next packet: who sends it, and the packet, with about this much data.
    pub fn next(&mut self, rng: &mut Rng, size: usize) -> (Party, Ip) {
        let step = self.step;
        self.step += 1;
        let data = vec![0x5a; size];
        let mut from_a = step.is_multiple_of(2) || rng.percent(10);
        let (protocol, payload) = match self.kind {
            Kind::Tcp => {
                let (side, flags) = self.script.get(step).copied().unwrap_or((rng.percent(50), ACK));
                from_a = side;
                (6, tcp(self.ports(from_a), flags, if flags & (SYN | FIN | RST) == 0 { &data } else { &[] }))
            }
            Kind::Udp => (17, udp(self.ports(from_a), &data)),
            Kind::Query(request, answer) => {
                let icmp_type = if from_a { request } else { answer };
                let number = if self.a.address.is_ipv4() { 1 } else { 58 };
                (number, icmp(icmp_type, 0, self.ports.0 % 7, &data))
            }
            Kind::Other(number) => {
                let mut data = data;
                data.resize(data.len().max(rng.range(0, 12)), 8);
                (number, data)
            }
        };
        let (from, to) = if from_a { (self.a, self.b) } else { (self.b, self.a) };
        (from, Ip::new(from.address, to.address, protocol, payload))
    }

    fn ports(&self, from_a: bool) -> (u16, u16) {
        if from_a { self.ports } else { (self.ports.1, self.ports.0) }
    }
}

/// The life of a TCP connection, seldom a tidy one.
fn script(rng: &mut Rng) -> Vec<(bool, u8)> {
    let mut script = vec![(true, SYN), (false, SYN | ACK), (true, ACK)];
    match rng.below(12) {
        0 => script.clear(),
        1 => script.truncate(1),
        2 => script.insert(1, (true, SYN)),
        3 => script[0].1 = *rng.pick(&[SYN | 0xc0, SYN | FIN, SYN | RST, 0, FIN, RST, SYN | 8 | 32]),
        _ => {}
    }
    for _ in 0..rng.below(6) {
        script.push((rng.percent(50), *rng.pick(&[ACK, ACK | 8, SYN, ACK])));
    }
    match rng.below(5) {
        0 => script.push((rng.percent(50), RST)),
        1 => script.push((rng.percent(50), RST | ACK)),
        2 => script.extend([(true, FIN | ACK), (true, FIN | ACK), (false, ACK)]),
        _ => script.extend([(true, FIN | ACK), (false, FIN | ACK), (true, ACK)]),
    }
    for _ in 0..rng.below(5) {
        script.push((rng.percent(50), *rng.pick(&[ACK, SYN, SYN | ACK, RST, FIN | ACK])));
    }
    script
}
