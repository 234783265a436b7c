//! A configuration before it is text: what there is, by name. Every plan made here is valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clearway::types::Prefix;

use super::circuits::{self, PRIVATE};
use super::{Rng, resources};

#[derive(Clone, Debug)]
pub struct Plan {
    pub ports: Vec<Port>,
    pub customers: Vec<Customer>,
    /// The configuration names a file of service tags.
    pub tags: bool,
}

#[derive(Clone, Debug)]
pub struct Port {
    pub name: &'static str,
    pub role: &'static str,
    pub address: IpAddr,
    pub mtu: Option<u32>,
    pub next_hop: Option<IpAddr>,
}

#[derive(Clone, Debug, Default)]
pub struct Customer {
    pub name: String,
    pub vnets: Vec<Vnet>,
    pub nsgs: Vec<Nsg>,
    pub asgs: Vec<String>,
    pub tables: Vec<Table>,
    pub nics: Vec<Nic>,
    pub circuits: Vec<Circuit>,
    pub gateways: Vec<Gateway>,
    pub sites: Vec<(String, Vec<Prefix>)>,
    pub connections: Vec<Connection>,
    pub tunnels: Vec<Tunnel>,
    pub hosts: Vec<Host>,
    pub learned: Vec<Learned>,
}

#[derive(Clone, Debug)]
pub struct Vnet {
    pub name: String,
    /// IPv4 ranges, the first with the subnets in it, and an IPv6 range if it is dual.
    pub ranges: Vec<Prefix>,
    pub v6: Option<Prefix>,
    pub subnets: Vec<Subnet>,
    pub peerings: Vec<Peering>,
    pub timeout: Option<u32>,
    pub max_flows: Option<u32>,
    pub nvgre: bool,
}

#[derive(Clone, Debug)]
pub struct Subnet {
    pub name: &'static str,
    pub prefixes: Vec<Prefix>,
    pub nsg: Option<String>,
    pub table: Option<String>,
    pub endpoints: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
pub struct Peering {
    pub remote: String,
    pub state: Option<&'static str>,
    pub access: Option<bool>,
    pub forwarded: bool,
    pub transit: bool,
    pub use_remote: bool,
}

#[derive(Clone, Debug)]
pub struct Nsg {
    pub name: String,
    pub flush: bool,
    pub rules: Vec<Rule>,
    /// An NSG that names ASGs is used in one VNet only.
    pub vnet: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub priority: u16,
    pub inbound: bool,
    pub allow: bool,
    pub protocol: &'static str,
    /// Address values, or names of ASGs.
    pub source: Side,
    pub destination: Side,
    pub source_ports: Vec<String>,
    pub destination_ports: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Side {
    Addresses(Vec<String>),
    Asgs(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub no_propagation: bool,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    pub prefix: String,
    pub hop: &'static str,
    pub appliance: Option<IpAddr>,
    pub overrides: bool,
}

#[derive(Clone, Debug)]
pub struct Nic {
    pub name: String,
    pub vnet: usize,
    pub subnet: &'static str,
    pub addresses: Vec<IpAddr>,
    pub forwarding: bool,
    pub untracked: bool,
    pub mac: Option<[u8; 6]>,
    pub nsg: Option<String>,
    pub asgs: Vec<String>,
    pub max_flows: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Circuit {
    pub name: String,
    /// Number of its link prefixes.
    pub number: usize,
    pub mbps: Option<u32>,
    /// `serviceProviderProvisioningState` and `circuitProvisioningState`.
    pub provisioned: Option<&'static str>,
    pub enabled: Option<&'static str>,
    pub peerings: Vec<CircuitPeering>,
}

#[derive(Clone, Debug)]
pub struct CircuitPeering {
    pub name: &'static str,
    pub kind: &'static str,
    pub state: Option<&'static str>,
    /// `advertisedPublicPrefixes` and their state.
    pub advertised: Option<Vec<Prefix>>,
    pub configured: Option<&'static str>,
    /// It has link prefixes, and IPv6 ones.
    pub links: bool,
    pub links_v6: bool,
}

#[derive(Clone, Debug)]
pub struct Gateway {
    pub name: String,
    pub vpn: bool,
    pub vnet: usize,
    pub default_site: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Connection {
    pub name: String,
    pub gateway: String,
    pub circuit: Option<String>,
    pub site: Option<String>,
    pub weight: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Tunnel {
    /// The fields that say what it stands for.
    pub to: String,
    pub port: &'static str,
    pub remote: Option<IpAddr>,
    pub key: u32,
    pub nvgre: bool,
    pub enabled: bool,
    pub sequence: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub address: IpAddr,
    pub vnet: usize,
    pub prefixes: Vec<Prefix>,
}

#[derive(Clone, Debug)]
pub struct Learned {
    pub prefix: Prefix,
    pub circuit: Option<String>,
    pub peering: Option<&'static str>,
    pub link: Option<&'static str>,
    pub connection: Option<String>,
    pub path: Vec<u32>,
}

/// Networks behind circuits and VPN connections.
pub const SITES: [&str; 12] = [
    "192.168.0.0/16",
    "192.168.9.0/24",
    "10.200.0.0/16",
    "10.200.1.0/24",
    "172.31.0.0/16",
    "8.8.8.0/24",
    "10.1.5.0/24",
    "10.1.0.0/16",
    "0.0.0.0/0",
    "fd99::/48",
    "fd99:0:0:1::/64",
    "::/0",
];

/// The subnets of a VNet and the third number of their IPv4 addresses.
pub const SUBNETS: [(&str, u8); 3] = [("web", 0), ("app", 1), ("fw", 9)];

pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The address `n` of a subnet, in the family of this prefix.
pub fn address(prefix: &Prefix, n: u32) -> IpAddr {
    match prefix.first() {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() + n)),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() + u128::from(n))),
    }
}

/// Keys are handed out over all customers.
pub struct Keys {
    pub next: u32,
    /// Edge tunnels may share their key, each with a remote of its own.
    pub next_remote: u32,
}

impl Plan {
    /// A valid configuration of this seed.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let mut plan = Plan { ports: ports(&mut rng), customers: Vec::new(), tags: rng.percent(30) };
        let mut keys = Keys { next: 0xa01, next_remote: 20 };
        let count = *rng.pick(&[1, 1, 2, 2, 3]);
        let mut same = rng.next();
        for name in CUSTOMERS.into_iter().take(count) {
            // Often the same customer again: identical spaces, names and rules.
            if rng.percent(50) {
                same = rng.next();
            }
            let customer = Customer::new(name, &mut Rng::new(same), &plan, &mut keys);
            plan.customers.push(customer);
        }
        plan
    }

    pub fn has_port(&self, name: &str) -> bool {
        self.ports.iter().any(|p| p.name == name)
    }

    fn is_v6(&self, port: &str) -> bool {
        self.ports.iter().any(|p| p.name == port && p.address.is_ipv6())
    }
}

fn ports(rng: &mut Rng) -> Vec<Port> {
    let ip = |v6: bool, v4: &str, text: &str| -> IpAddr {
        let text = if v6 { text } else { v4 };
        text.parse().expect("an address")
    };
    let mut ports = Vec::new();
    let mut add = |rng: &mut Rng, name, role, v4: &str, v6: &str| {
        let is_v6 = rng.percent(20);
        let mtu = *rng.pick(&[
            None,
            None,
            None,
            Some(1600),
            Some(1400),
            Some(1380),
            Some(1300),
            Some(600),
            Some(9000),
        ]);
        let plain = role == "internet" || role == "services";
        let next_hop = (plain && rng.percent(60)).then(|| ip(is_v6, "203.0.113.1", "2001:db8:1::1"));
        ports.push(Port { name, role, address: ip(is_v6, v4, v6), mtu, next_hop });
    };
    add(rng, "fabric", "fabric", "198.51.100.2", "2001:db8:f::2");
    if rng.percent(15) {
        add(rng, "fabric-b", "fabric", "198.51.101.2", "2001:db8:f:1::2");
    }
    add(rng, "edge-a", "edge", "192.0.2.1", "2001:db8:e::1");
    add(rng, "edge-b", "edge", "192.0.2.5", "2001:db8:e::5");
    if rng.percent(90) {
        add(rng, "internet", "internet", "203.0.113.2", "2001:db8:1::2");
    }
    if rng.percent(50) {
        add(rng, "services", "services", "203.0.113.130", "2001:db8:2::2");
    }
    ports
}

/// The customers of all plans.
const CUSTOMERS: [&str; 4] = ["contoso", "fabrikam", "northwind", "tailspin"];

impl Customer {
    /// The number that its public prefixes have.
    pub fn number(&self) -> u8 {
        CUSTOMERS.iter().position(|n| *n == self.name).unwrap_or(CUSTOMERS.len()) as u8
    }

    pub fn new(name: &str, rng: &mut Rng, plan: &Plan, keys: &mut Keys) -> Customer {
        let mut customer = Customer { name: name.to_string(), ..Customer::default() };
        for n in 0..*rng.pick(&[1, 2, 2, 3, 3, 4]) {
            customer.add_vnet(n, rng, plan.tags);
        }
        customer.add_gateways(rng, plan, keys);
        circuits::add_public(&mut customer, rng, plan, keys);
        customer.add_peerings(rng);
        customer.add_fabric(rng, plan, keys);
        resources::add_nics(&mut customer, rng);
        resources::add_nsgs(&mut customer, rng, plan.tags);
        resources::add_tables(&mut customer, rng, plan.tags);
        customer
    }

    fn add_vnet(&mut self, n: usize, rng: &mut Rng, tags: bool) {
        let pool = [
            "10.1.0.0/16",
            "10.2.0.0/16",
            "10.3.0.0/16",
            "10.1.0.0/16",
            "10.2.0.0/16",
            "192.168.0.0/16",
            "172.16.0.0/12",
            "172.0.0.0/8",
            "20.30.0.0/16",
            "100.64.0.0/10",
            "10.0.0.0/8",
        ];
        let free = |p: &Prefix| !self.vnets.iter().flat_map(|v| &v.ranges).any(|r| r.overlaps(p));
        let mut range = prefix(rng.text(&pool));
        while !free(&range) {
            range = Prefix::v4(10, 16 + rng.below(100) as u8, 0, 0, 16);
            if self.vnets.iter().any(|v| v.ranges.contains(&prefix("10.0.0.0/8"))) {
                range = Prefix::v4(21, rng.below(100) as u8, 0, 0, 16);
            }
        }
        // An island may have the ranges of another VNet.
        if n == 3 && rng.percent(50) {
            range = self.vnets[1].ranges[0];
        }
        let mut ranges = vec![range];
        if rng.percent(20) {
            ranges.push(Prefix::v4(22, n as u8, 0, 0, 24));
        }
        let v6 = rng.percent(55).then(|| prefix(&format!("fd00:{}::/48", n + 1)));
        let app = rng.percent(80);
        let subnets = SUBNETS.iter().filter(|(name, _)| *name != "app" || app);
        let mut subnets: Vec<Subnet> =
            subnets.map(|(name, third)| subnet(name, *third, &range, v6)).collect();
        if rng.percent(10) {
            let second = Prefix::new(address(&range, 2 << 8), 24);
            subnets[0].prefixes.push(second);
        }
        for subnet in &mut subnets {
            if tags && rng.percent(40) {
                let service = *rng.pick(&[
                    ("Microsoft.Storage", "*"),
                    ("Microsoft.Storage", "westus"),
                    ("Microsoft.Sql", "*"),
                ]);
                subnet.endpoints.push(service);
            }
        }
        let timeout = *rng.pick(&[None, None, Some(4), Some(5), Some(30)]);
        let max_flows = rng.percent(12).then(|| rng.range(2, 8) as u32);
        let name = ["hub", "spoke", "spoke2", "island"][n].to_string();
        let nvgre = rng.percent(35);
        self.vnets.push(Vnet { name, ranges, v6, subnets, peerings: Vec::new(), timeout, max_flows, nvgre });
    }

    /// Circuits, sites, gateways, connections, their tunnels and learned routes.
    fn add_gateways(&mut self, rng: &mut Rng, plan: &Plan, keys: &mut Keys) {
        let (er, vpn) = *rng.pick(&[
            (0, false),
            (1, false),
            (1, false),
            (2, false),
            (0, true),
            (0, true),
            (1, true),
            (1, true),
        ]);
        let vpn = vpn && plan.has_port("internet");
        for n in 0..er {
            let number = self.circuits.len();
            let mut circuit = circuits::circuit(&format!("er{}", n + 1), number, rng);
            circuit.peerings.push(circuits::peering(PRIVATE, rng));
            self.circuits.push(circuit);
        }
        let mut hubs = vec![0];
        if self.vnets.len() > 2 && rng.percent(30) {
            hubs.push(1);
        }
        for (h, &hub) in hubs.iter().enumerate() {
            let vnet = &mut self.vnets[hub];
            let gateway = Prefix::new(address(&vnet.ranges[0], 255 << 8), 27);
            vnet.subnets.push(Subnet {
                name: "GatewaySubnet",
                prefixes: vec![gateway],
                nsg: None,
                table: None,
                endpoints: Vec::new(),
            });
            let vnet = vnet.name.clone();
            if er > 0 {
                let name = format!("{vnet}-er");
                for circuit in &self.circuits {
                    if h > 0 && rng.percent(40) {
                        continue;
                    }
                    self.connections.push(Connection {
                        name: format!("{vnet}-{}", circuit.name),
                        gateway: name.clone(),
                        circuit: Some(circuit.name.clone()),
                        site: None,
                        weight: *rng.pick(&[None, None, Some(0), Some(10)]),
                    });
                }
                self.gateways.push(Gateway { name, vpn: false, vnet: hub, default_site: None });
            }
            if vpn && h == 0 {
                self.add_vpn(hub, rng);
            }
        }
        self.add_edge_tunnels(rng, plan, keys);
        self.add_learned(rng);
    }

    fn add_vpn(&mut self, hub: usize, rng: &mut Rng) {
        let name = format!("{}-vpn", self.vnets[hub].name);
        let sites = ["site1", "site2"];
        for site in sites.iter().take(*rng.pick(&[0, 1, 1, 2, 2])) {
            let pool = [SITES[1], SITES[2], SITES[3], SITES[4], SITES[9]];
            let mut prefixes: Vec<Prefix> = (0..rng.range(1, 2)).map(|_| prefix(rng.text(&pool))).collect();
            prefixes.dedup();
            self.sites.push((site.to_string(), prefixes));
        }
        for n in 0..*rng.pick(&[0, 1, 1, 2, 2]) {
            self.connections.push(Connection {
                name: format!("s2s-{}", n + 1),
                gateway: name.clone(),
                circuit: None,
                site: self.sites.get(n).map(|s| s.0.clone()),
                weight: *rng.pick(&[None, None, Some(5)]),
            });
        }
        let default_site = self.sites.first().map(|s| s.0.clone()).filter(|_| rng.percent(80));
        self.gateways.push(Gateway { name, vpn: true, vnet: hub, default_site });
    }

    fn add_edge_tunnels(&mut self, rng: &mut Rng, plan: &Plan, keys: &mut Keys) {
        let mut ends: Vec<(String, &'static str)> = Vec::new();
        for circuit in &self.circuits {
            let ports = *rng.pick(&[["edge-a", "edge-b"], ["edge-a", "edge-b"], ["edge-a", "edge-a"]]);
            for (link, port) in ["primary", "secondary"].into_iter().zip(ports) {
                let to = format!("circuit: {}, peering: AzurePrivatePeering, link: {link}", circuit.name);
                if rng.percent(95) {
                    ends.push((to, port));
                }
            }
        }
        for connection in self.connections.iter().filter(|c| c.circuit.is_none()) {
            if rng.percent(92) {
                ends.push((format!("connection: {}", connection.name), "internet"));
            }
        }
        for vnet in &self.vnets {
            if plan.has_port("internet") && rng.percent(20) {
                ends.push((format!("internet: {}", vnet.name), "internet"));
            }
        }
        for (to, port) in ends {
            self.bind(to, port, rng, plan, keys);
        }
    }

    /// A tunnel to a router of the customer's.
    pub fn bind(&mut self, to: String, port: &'static str, rng: &mut Rng, plan: &Plan, keys: &mut Keys) {
        let shared_key = 0xc01;
        // Sometimes one router has several tunnels.
        let same_remote = rng.percent(20);
        keys.next_remote += u32::from(!same_remote);
        keys.next += 1;
        let n = keys.next_remote;
        let remote: IpAddr = if plan.is_v6(port) {
            format!("2001:db8:aa::{n:x}").parse().expect("an address")
        } else {
            format!("203.0.114.{n}").parse().expect("an address")
        };
        let nvgre = rng.percent(8);
        self.tunnels.push(Tunnel {
            to,
            port,
            remote: Some(remote),
            key: if nvgre {
                0x2000 + keys.next
            } else if rng.percent(45) && !same_remote {
                shared_key
            } else {
                keys.next
            },
            nvgre,
            enabled: rng.percent(93),
            sequence: if nvgre {
                None
            } else {
                *rng.pick(&[None, None, None, None, Some("send"), Some("strict"), Some("off")])
            },
        });
    }

    fn add_learned(&mut self, rng: &mut Rng) {
        let mut seen: Vec<(&str, String)> = Vec::new();
        let count = if self.connections.is_empty() { 0 } else { rng.range(2, 11) };
        for _ in 0..count {
            let connection = rng.pick(&self.connections).clone();
            let mut text = *rng.pick(&SITES);
            if Prefix::is_default(&prefix(text)) && rng.percent(60) {
                text = SITES[0];
            }
            // Often what somebody else announces too.
            if let Some((known, _)) = rng.pick_some(&seen).filter(|_| rng.percent(35)) {
                text = known;
            }
            let link = if connection.circuit.is_some() {
                *rng.pick(&[None, None, Some("primary"), Some("secondary")])
            } else {
                None
            };
            let from = connection.circuit.clone().unwrap_or(connection.name.clone());
            // One prefix once on a circuit: with or without a link.
            if seen.contains(&(text, from.clone())) && link.is_none() {
                continue;
            }
            if seen.iter().filter(|s| **s == (text, from.clone())).count() > 0 {
                continue;
            }
            let site = self.sites.iter().find(|s| Some(&s.0) == connection.site.as_ref());
            if site.is_some_and(|s| s.1.contains(&prefix(text))) {
                continue;
            }
            seen.push((text, from));
            let path = circuits::private_path(rng.below(4));
            let via = (connection.circuit.clone(), connection.circuit.is_none().then_some(connection.name));
            let peering = via.0.is_some().then_some(PRIVATE);
            let learned =
                Learned { prefix: prefix(text), circuit: via.0, peering, link, connection: via.1, path };
            // The same prefix on the other link with another path now and then.
            if let Some(first) = link.filter(|_| rng.percent(50)) {
                let other = if first == "primary" { "secondary" } else { "primary" };
                let path = circuits::private_path(rng.below(3));
                self.learned.push(Learned { link: Some(other), path, ..learned.clone() });
            }
            self.learned.push(learned);
        }
    }

    fn add_peerings(&mut self, rng: &mut Rng) {
        for a in 0..self.vnets.len() {
            for b in a + 1..self.vnets.len() {
                let twin = self.vnets[1].ranges[0] == self.vnets[b].ranges[0];
                if b == 3 && twin || !rng.percent(65) {
                    continue;
                }
                let mut sides = [self.peering(b, rng), self.peering(a, rng)];
                match rng.below(10) {
                    0 => sides[rng.below(2)].state = Some("Disconnected"),
                    1 => sides[rng.below(2)].state = Some("Initiated"),
                    2 => sides[rng.below(2)].access = Some(false),
                    _ => {}
                }
                // `b` uses the gateways of `a`.
                let has = |v: usize| self.gateways.iter().any(|g| g.vnet == v);
                let uses_one = self.vnets[b].peerings.iter().any(|p| p.use_remote);
                if has(a) && !has(b) && !uses_one && rng.percent(70) {
                    sides[0].transit = true;
                    sides[1].use_remote = true;
                }
                let [to_b, to_a] = sides;
                let one_sided = rng.percent(8) && !to_a.use_remote;
                self.vnets[a].peerings.push(to_b);
                if !one_sided {
                    self.vnets[b].peerings.push(to_a);
                }
            }
        }
    }

    fn peering(&self, to: usize, rng: &mut Rng) -> Peering {
        Peering {
            remote: self.vnets[to].name.clone(),
            state: *rng.pick(&[None, None, Some("Connected")]),
            access: *rng.pick(&[None, None, Some(true)]),
            forwarded: rng.percent(50),
            transit: rng.percent(20),
            use_remote: false,
        }
    }

    /// Fabric tunnels and hosts.
    fn add_fabric(&mut self, rng: &mut Rng, plan: &Plan, keys: &mut Keys) {
        for v in 0..self.vnets.len() {
            let vnet = self.vnets[v].clone();
            let port = if plan.has_port("fabric-b") && rng.percent(50) { "fabric-b" } else { "fabric" };
            keys.next += 1;
            self.tunnels.push(Tunnel {
                to: format!("vnet: {}", vnet.name),
                port,
                remote: None,
                // A GRE key may be the number of another tunnel's virtual subnet.
                key: match (vnet.nvgre, rng.percent(15)) {
                    (true, _) => 0x1000 + keys.next,
                    (false, true) => 0x1000 + keys.next - 1,
                    (false, false) => keys.next,
                },
                nvgre: vnet.nvgre,
                enabled: rng.percent(97),
                sequence: if vnet.nvgre {
                    None
                } else {
                    *rng.pick(&[None, None, None, Some("send"), Some("strict")])
                },
            });
            let v6 = plan.is_v6(port);
            let host = |n: usize| -> IpAddr {
                let text = if v6 { format!("2001:db8:ff::{n}") } else { format!("198.51.100.{}", 10 + n) };
                text.parse().expect("an address")
            };
            let mut homes: Vec<(usize, Prefix)> = Vec::new();
            if rng.percent(85) {
                homes.extend(vnet.ranges.iter().map(|r| (1, *r)));
            }
            for subnet in &vnet.subnets {
                if rng.percent(60) {
                    let home = rng.range(1, 4);
                    homes.extend(subnet.prefixes.iter().map(|p| (home, *p)));
                }
            }
            if rng.percent(80) {
                homes.extend(vnet.v6.map(|p| (2, p)));
            }
            if rng.percent(30) {
                homes.push((5, Prefix::host(address(&vnet.subnets[0].prefixes[0], 5))));
            }
            for n in 1..=5 {
                let prefixes: Vec<Prefix> = homes.iter().filter(|(h, _)| *h == n).map(|(_, p)| *p).collect();
                if !prefixes.is_empty() {
                    self.hosts.push(Host { address: host(n), vnet: v, prefixes });
                }
            }
        }
    }

    /// The host of an address, for checks.
    pub fn host_of(&self, vnet: usize, address: IpAddr) -> Option<IpAddr> {
        let hosts = self.hosts.iter().filter(|h| h.vnet == vnet);
        let holding = hosts.flat_map(|h| h.prefixes.iter().map(|p| (p.len(), h.address, *p)));
        holding.filter(|(.., p)| p.contains(address)).max_by_key(|(len, ..)| *len).map(|(_, host, _)| host)
    }
}

fn subnet(name: &'static str, third: u8, range: &Prefix, v6: Option<Prefix>) -> Subnet {
    let mut prefixes = vec![Prefix::new(address(range, u32::from(third) << 8), 24)];
    if let Some(IpAddr::V6(first)) = v6.map(|p| p.first()) {
        let bits = first.to_bits() | u128::from(third) << 64;
        prefixes.push(Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), 64));
    }
    Subnet { name, prefixes, nsg: None, table: None, endpoints: Vec::new() }
}
