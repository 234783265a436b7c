//! A network made for a capture, so that its packets travel far: port addresses, keys, hosts, remotes and ranges are
//! those that the packets have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clearway::types::Prefix;
use clearway::wire::{checksum, ethernet, gre, ip, protocol};
use serde_json::{Value, json};

/// Which port the packets come in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// All by the fabric port, as they are.
    Fabric,
    /// All by an edge port, as they are.
    Edge,
    /// All by the Internet's port, as they are.
    Internet,
    /// All by the port of public services, as they are.
    Services,
    /// All by the fabric port; GRE without a key is given one.
    KeyedFabric,
    /// All by an edge port; GRE without a key is given one.
    KeyedEdge,
    /// All by the Internet's port; GRE without a key is given one.
    KeyedInternet,
    /// Each IP packet that a frame holds innermost, by the port and the tunnel behind which its source lives.
    Everywhere,
}

impl Entry {
    pub const ALL: [Entry; 8] = [
        Entry::Fabric,
        Entry::Edge,
        Entry::Internet,
        Entry::Services,
        Entry::KeyedFabric,
        Entry::KeyedEdge,
        Entry::KeyedInternet,
        Entry::Everywhere,
    ];

    /// The port's name.
    pub fn port(self) -> &'static str {
        match self {
            Entry::Fabric | Entry::KeyedFabric | Entry::Everywhere => "fabric",
            Entry::Edge | Entry::KeyedEdge => "edge",
            Entry::Internet | Entry::KeyedInternet => "internet",
            Entry::Services => "services",
        }
    }

    /// True if GRE is given keys.
    pub fn is_keyed(self) -> bool {
        matches!(self, Entry::KeyedFabric | Entry::KeyedEdge | Entry::KeyedInternet)
    }
}

/// The outer headers of a GRE packet.
#[derive(Clone, Copy)]
pub struct Underlay {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Whether it is NVGRE, and the key or virtual subnet, if there is a key.
    pub key: Option<(bool, u32)>,
}

/// What a frame says of where it comes from and goes to.
pub struct Seen {
    /// Of a GRE packet.
    pub underlay: Option<Underlay>,
    /// Source and destination of the packet inside, or of a packet that is no GRE.
    pub inner: Option<(IpAddr, IpAddr)>,
}

/// Reads a frame as far as GRE goes.
pub fn see(frame: &[u8]) -> Option<Seen> {
    let (packet, ipv4) = ip_packet(frame)?;
    let addresses =
        |packet: &[u8], ipv4| ip::parse_inner(packet, ipv4).map(|inner| (inner.source, inner.destination));
    ip::destination(packet, ipv4)?;
    if ip::first_protocol(packet, ipv4) != protocol::GRE {
        return Some(Seen { underlay: None, inner: addresses(packet, ipv4) });
    }
    let outer = ip::parse_outer(packet, ipv4).ok()?;
    let carried = packet.get(outer.payload..outer.end)?;
    let destination = ip::destination(packet, ipv4)?;
    let Ok(header) = gre::parse(carried) else {
        let underlay = Underlay { source: outer.source, destination, key: None };
        return Some(Seen { underlay: Some(underlay), inner: None });
    };
    let inside = carried.get(header.header..)?;
    let nvgre = header.protocol == gre::ETHERNET;
    let inner = match header.protocol {
        gre::ETHERNET => ip_packet(inside).and_then(|(packet, ipv4)| addresses(packet, ipv4)),
        kind => addresses(inside, kind == gre::IPV4),
    };
    let key = if nvgre { header.key >> 8 } else { header.key };
    let underlay = Underlay { source: outer.source, destination, key: Some((nvgre, key)) };
    Some(Seen { underlay: Some(underlay), inner })
}

/// A frame of GRE in IPv4 without a key, with one: the last octets of the outer source.
pub fn with_key(frame: &[u8]) -> Option<Vec<u8>> {
    let (packet, ipv4) = ip_packet(frame)?;
    let outer = ip::parse_outer(packet, ipv4).ok().filter(|o| ipv4 && packet.len() >= o.payload + 4)?;
    let at = frame.len() - packet.len();
    let header = at + outer.payload;
    let optional = if frame[header] & 0x80 != 0 { 4 } else { 0 };
    if frame[header] & 0x20 != 0 || outer.end + 4 > 65_535 || outer.payload + 4 + optional > outer.end {
        return None;
    }
    let IpAddr::V4(source) = outer.source else { return None };
    let mut keyed = frame[..at + outer.end].to_vec();
    // The low octet is the FlowID of NVGRE.
    let key = (source.to_bits() & 0xffff | 0x0077_0000) << 8;
    keyed.splice(header + 4 + optional..header + 4 + optional, key.to_be_bytes());
    keyed[header] |= 0x20;
    keyed[at + 2..at + 4].copy_from_slice(&(outer.end as u16 + 4).to_be_bytes());
    ip::write_v4_checksum(&mut keyed[at..], outer.payload);
    if optional > 0 {
        keyed[header + 4..header + 6].fill(0);
        let sum = checksum::of(&keyed[header..]);
        keyed[header + 4..header + 6].copy_from_slice(&sum.to_be_bytes());
    }
    Some(keyed)
}

/// The IP packet of a frame, and whether it is IPv4.
fn ip_packet(frame: &[u8]) -> Option<(&[u8], bool)> {
    let link = ethernet::parse(frame)?;
    let ipv4 = match link.ether_type {
        ethernet::IPV4 => true,
        ethernet::IPV6 => false,
        _ => return None,
    };
    Some((frame.get(link.payload..)?, ipv4))
}

/// The innermost IP packet of a frame, and whether it is IPv4: GRE with and without key, and IP in IP are taken off.
pub fn innermost(frame: &[u8]) -> Option<(&[u8], bool)> {
    let (mut packet, mut ipv4) = ip_packet(frame)?;
    loop {
        let Some(inner) = ip::parse_inner(packet, ipv4) else { return Some((packet, ipv4)) };
        let inside = &packet[inner.transport as usize..inner.total as usize];
        let next = match inner.protocol {
            _ if inner.is_later_fragment() => None,
            protocol::IPIP => Some((inside, true)),
            protocol::IPV6 => Some((inside, false)),
            protocol::GRE => inside_gre(inside),
            _ => None,
        };
        match next {
            Some((inside, v4)) if ip::destination(inside, v4).is_some() => (packet, ipv4) = (inside, v4),
            _ => return Some((packet, ipv4)),
        }
    }
}

fn inside_gre(packet: &[u8]) -> Option<(&[u8], bool)> {
    let flags = *packet.first()?;
    let header = 4 + 4 * [0x80, 0x20, 0x10].into_iter().filter(|bit| flags & bit != 0).count();
    let inside = packet.get(header..)?;
    match [*packet.get(2)?, *packet.get(3)?] {
        [0x08, 0x00] => Some((inside, true)),
        [0x86, 0xdd] => Some((inside, false)),
        [0x65, 0x58] => ip_packet(inside),
        _ => None,
    }
}

/// Where the addresses of a range live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a VNet: 0 and 1 are peered, 2 is another customer's.
    Vnet(usize),
    /// Behind a circuit.
    Circuit(usize),
    /// Behind a VPN connection.
    Site,
    /// In the Internet.
    Internet,
}

/// A tunnel end of the underlay: remote, NVGRE, key or virtual subnet.
type End = (IpAddr, bool, u32);

/// The network.
pub struct Network {
    entry: Entry,
    places: BTreeMap<Prefix, Place>,
    /// The host of each range of a VNet.
    hosts: BTreeMap<Prefix, IpAddr>,
    /// An address of VNet 0 that a NIC can have.
    machine: Option<IpAddr>,
    addresses: [IpAddr; 4],
    vnets: [(bool, u32); 3],
    links: Vec<End>,
    internet: Option<End>,
    site: End,
    /// How many ranges of unknown place have been given one.
    turn: usize,
}

const PORTS: [&str; 4] = ["fabric", "edge", "internet", "services"];

/// An address of the underlay that no capture has, of the same family.
fn beside(like: IpAddr, n: u8) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(198, 19, 254, n).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xc1ea, 0, 0, 0, 0, n.into()).into(),
    }
}

/// The range of an address that a VNet or site may have.
fn range(addr: IpAddr) -> Option<Prefix> {
    match addr {
        IpAddr::V4(a) => match a.octets() {
            [0 | 127 | 224..=255, ..] | [169, 254, ..] | [168, 63, 129, _] | [198, 19, 254, _] => None,
            _ => Some(Prefix::new(addr, 24)),
        },
        IpAddr::V6(a) if a.is_multicast() || a.segments()[..4] == [0; 4] => None,
        IpAddr::V6(_) => Some(Prefix::new(addr, 64)),
    }
}

fn is_machine(addr: IpAddr) -> bool {
    !matches!(addr, IpAddr::V4(a) if matches!(a.octets()[3], 0..=3 | 255))
        && !matches!(addr, IpAddr::V6(a) if a.segments()[4..7] == [0; 3])
}

impl Network {
    /// A network for what was seen.
    pub fn new(entry: Entry, seen: &[Seen]) -> Network {
        let mut addresses = [2, 6, 10, 14].map(|n| IpAddr::V4(Ipv4Addr::new(198, 19, 254, n)));
        let own = PORTS.iter().position(|p| *p == entry.port()).unwrap_or_default();
        let tunnelled = !matches!(entry, Entry::Services | Entry::Everywhere);
        let usable = |addr: IpAddr| {
            !(addr.is_unspecified() || addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST))
        };
        let mut ends: Vec<End> = Vec::new();
        if tunnelled {
            let good = |u: &&Underlay| {
                let reserved = u.key.is_some_and(|(nvgre, key)| nvgre && !(0x1000..0xff_ffff).contains(&key));
                usable(u.source) && usable(u.destination) && u.source != u.destination && !reserved
            };
            let all: Vec<&Underlay> = seen.iter().filter_map(|s| s.underlay.as_ref()).filter(good).collect();
            if let Some(first) = all.iter().find(|u| u.key.is_some()).or(all.first()) {
                addresses[own] = first.destination;
            }
            for u in all {
                let Some((nvgre, key)) = u.key.filter(|_| u.destination == addresses[own]) else { continue };
                if !ends.contains(&(u.source, nvgre, key)) {
                    ends.push((u.source, nvgre, key));
                }
            }
        }
        let mut network = Network {
            entry,
            places: BTreeMap::new(),
            hosts: BTreeMap::new(),
            machine: None,
            addresses,
            vnets: [(false, 0xaa00_0001), (false, 0xaa00_0002), (false, 0xaa00_0003)],
            links: (0..4)
                .map(|n| (beside(addresses[1], 30 + n), false, 0xcc00_0000 + u32::from(n)))
                .collect(),
            internet: None,
            site: (beside(addresses[2], 40), false, 0xdd00_0001),
            turn: 0,
        };
        network.take_ends(&ends);
        for s in seen {
            network.settle(s);
        }
        network
    }

    /// Gives the tunnels of the capture to what stands behind the port.
    fn take_ends(&mut self, ends: &[End]) {
        match self.entry {
            Entry::Fabric | Entry::KeyedFabric => {
                let mut keys: Vec<(bool, u32)> = ends.iter().map(|e| (e.1, e.2)).collect();
                keys.dedup();
                let mut known = Vec::new();
                keys.retain(|k| {
                    !known.contains(k) && {
                        known.push(*k);
                        true
                    }
                });
                for (vnet, key) in self.vnets.iter_mut().zip(keys) {
                    *vnet = key;
                }
            }
            Entry::Edge | Entry::KeyedEdge => {
                for (link, end) in self.links.iter_mut().zip(ends) {
                    *link = *end;
                }
            }
            Entry::Internet | Entry::KeyedInternet => {
                self.internet = ends.first().copied();
                if let Some(end) = ends.get(1) {
                    self.site = *end;
                }
            }
            Entry::Services | Entry::Everywhere => {}
        }
    }

    /// Finds a place for the source and the destination of a packet.
    fn settle(&mut self, seen: &Seen) {
        let Some((source, destination)) = seen.inner else { return };
        let port = self.entry.port();
        let own = PORTS.iter().position(|p| *p == port).unwrap_or_default();
        let end = seen.underlay.and_then(|u| {
            let (nvgre, key) = u.key.filter(|_| u.destination == self.addresses[own])?;
            Some((u.source, nvgre, key))
        });
        let sender = match (port, end) {
            _ if self.entry == Entry::Everywhere => Some(Place::Vnet(0)),
            ("fabric", Some((_, nvgre, key))) => {
                self.vnets.iter().position(|v| *v == (nvgre, key)).map(Place::Vnet)
            }
            ("edge", Some(end)) => self.links.iter().position(|l| *l == end).map(|l| Place::Circuit(l / 2)),
            ("internet", Some(end)) if self.site == end => Some(Place::Site),
            ("internet", Some(_)) => Some(Place::Internet),
            ("internet" | "services", None) => Some(Place::Internet),
            _ => None,
        };
        let (Some(sender), Some(source_range)) = (sender, range(source)) else { return };
        let first = !self.places.contains_key(&source_range);
        let lives = *self.places.entry(source_range).or_insert(sender);
        if let Place::Vnet(vnet) = lives {
            let host = match end {
                Some((from, ..)) => from,
                _ => beside(self.addresses[0], 100 + (self.turn % 50) as u8 + 50 * vnet as u8),
            };
            if first {
                self.hosts.insert(source_range, host);
            }
            if vnet == 0 && self.machine.is_none() && is_machine(source) {
                self.machine = Some(source);
            }
        }
        let Some(range) = range(destination).filter(|r| !self.places.contains_key(r)) else { return };
        let ways: &[Place] = match sender {
            Place::Vnet(0 | 1) => &[
                Place::Internet,
                Place::Vnet(1),
                Place::Circuit(0),
                Place::Vnet(0),
                Place::Site,
                Place::Circuit(1),
            ],
            Place::Vnet(_) => &[Place::Vnet(2), Place::Internet],
            Place::Circuit(_) | Place::Site => &[Place::Vnet(0), Place::Vnet(1)],
            Place::Internet if end.is_some() => &[Place::Vnet(0)],
            Place::Internet => &[Place::Vnet(0), Place::Vnet(1), Place::Vnet(2)],
        };
        let place = ways[self.turn % ways.len()];
        self.turn += 1;
        self.places.insert(range, place);
        if let Place::Vnet(vnet) = place {
            self.hosts.insert(range, beside(self.addresses[0], 10 + vnet as u8));
        }
    }

    /// The frame in which an IP packet comes from where its source lives, and the port.
    pub fn frame_of(&self, packet: &[u8], ipv4: bool, number: usize) -> (&'static str, Vec<u8>) {
        let source = match ipv4 {
            true => packet.get(12..16).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from),
            false => packet.get(8..24).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from),
        };
        let range = source.and_then(range);
        let (port, end) = match range.and_then(|r| self.places.get(&r)) {
            Some(Place::Internet) => ("internet", None),
            Some(Place::Site) => ("internet", Some(self.site)),
            Some(Place::Circuit(n)) => ("edge", Some(self.links[2 * n + number % 2])),
            Some(Place::Vnet(v)) => {
                let host = range.and_then(|r| self.hosts.get(&r));
                ("fabric", Some((*host.expect("a host of its range"), false, self.vnets[*v].1)))
            }
            None => ("fabric", Some((beside(self.addresses[0], 20), false, self.vnets[0].1))),
        };
        let kind = if ipv4 { ethernet::IPV4 } else { ethernet::IPV6 };
        let mut frame = vec![2; 12];
        frame.extend((if end.is_some() { ethernet::IPV4 } else { kind }).to_be_bytes());
        if let Some((IpAddr::V4(from), _, key)) = end {
            let own = PORTS.iter().position(|p| *p == port).unwrap_or_default();
            let IpAddr::V4(to) = self.addresses[own] else { unreachable!("its own addresses are IPv4") };
            let class = packet.get(1).map_or(0, |b| if ipv4 { *b } else { b >> 4 });
            ip::emit_v4(&mut frame, from, to, protocol::GRE, class & 3, 8 + packet.len());
            gre::emit(&mut frame, kind, key, false);
        }
        frame.extend(packet);
        (port, frame)
    }

    /// A range that is nobody's yet, for appliances and gateways.
    fn free(&self) -> [u8; 2] {
        let taken = |b: u8, c: u8| self.places.contains_key(&Prefix::v4(172, b, c, 0, 24));
        let all = (16..32).rev().flat_map(|b| (0..=255).rev().map(move |c| [b, c]));
        all.into_iter().find(|[b, c]| !taken(*b, *c)).expect("a free range")
    }

    /// The configuration.
    pub fn configuration(&self) -> Value {
        let roles = PORTS.iter().zip(self.addresses).zip([1600, 1500, 1400, 1500]);
        let ports: serde_json::Map<String, Value> = roles
            .map(|((role, address), mtu)| {
                (role.to_string(), json!({"role": role, "address": address, "mtu": mtu}))
            })
            .collect();
        json!({"apiVersion": "clearway/v1", "ports": ports, "customers": [self.alpha(), self.beta()]})
    }

    fn ranges(&self, place: Place) -> Vec<Prefix> {
        self.places.iter().filter(|(_, p)| **p == place).map(|(r, _)| *r).collect()
    }

    /// The subnets of a VNet: every third without rules, every second with routes.
    fn subnets(&self, vnet: usize) -> Vec<Value> {
        let groups = [json!("web"), json!("open"), Value::Null];
        let tables = [json!("table"), Value::Null];
        let subnet = |(n, range): (usize, &Prefix)| {
            json!({"name": format!("s{n}"), "addressPrefix": range.to_string(),
                   "networkSecurityGroup": groups[n % 3], "routeTable": tables[n % 2]})
        };
        self.ranges(Place::Vnet(vnet)).iter().enumerate().map(subnet).collect()
    }

    fn space(&self, vnet: usize) -> Vec<String> {
        self.ranges(Place::Vnet(vnet)).iter().map(Prefix::to_string).collect()
    }

    fn hosts(&self, vnet: usize, name: &str) -> Vec<Value> {
        let mut carried: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for range in self.ranges(Place::Vnet(vnet)) {
            carried.entry(self.hosts[&range]).or_default().push(range.to_string());
        }
        carried
            .iter()
            .map(|(host, prefixes)| json!({"address": host, "vnet": name, "prefixes": prefixes}))
            .collect()
    }

    fn tunnel(&self, vnet: usize, name: &str) -> Value {
        let (nvgre, key) = self.vnets[vnet];
        json!({"vnet": name, "port": "fabric", "key": key, "encapsulation": if nvgre { "nvgre" } else { "gre" }})
    }

    fn end(port: &str, (remote, nvgre, key): End) -> Value {
        json!({"port": port, "remote": remote, "key": key, "encapsulation": if nvgre { "nvgre" } else { "gre" }})
    }

    /// The customer with two peered VNets, circuits, a VPN connection, an appliance and routes to it.
    fn alpha(&self) -> Value {
        let [b, c] = self.free();
        let at = |rest: &str| format!("172.{b}.{c}.{rest}");
        let mut left = self.subnets(0);
        left.push(json!({"name": "fw", "addressPrefix": at("0/25")}));
        left.push(json!({"name": "GatewaySubnet", "addressPrefix": at("224/27")}));
        let mut left_space = self.space(0);
        left_space.push(at("0/24"));
        let mut right_space = self.space(1);
        right_space.push("fd77::/64".to_owned());
        let firewall = beside(self.addresses[0], 20);
        let mut hosts = self.hosts(0, "left");
        hosts.extend(self.hosts(1, "right"));
        hosts.push(json!({"address": firewall, "vnet": "left", "prefixes": [at("0/24")]}));
        let mut nics = vec![json!({"name": "fw-nic", "enableIPForwarding": true,
            "ipConfigurations": [{"privateIPAddress": at("4"), "subnet": "left/fw"}]})];
        let home = self.machine.and_then(|m| {
            left.iter().position(|s| {
                let prefix = s["addressPrefix"].as_str().and_then(|p| p.parse::<Prefix>().ok());
                prefix.is_some_and(|p| p.contains(m))
            })
        });
        if let (Some(machine), Some(home)) = (self.machine, home) {
            nics.push(json!({"name": "machine", "enableIPForwarding": true, "networkSecurityGroup": "nic",
                "ipConfigurations": [{"privateIPAddress": machine, "subnet": format!("left/s{home}"),
                                      "applicationSecurityGroups": [{"id": "machines"}]}]}));
        }
        let mut tunnels =
            vec![self.tunnel(0, "left"), self.tunnel(1, "right"), Self::end("internet", self.site)];
        tunnels[2]["connection"] = json!("s2s");
        if let Some(end) = self.internet {
            tunnels.push(Self::end("internet", end));
            tunnels[3]["internet"] = json!("left");
        }
        for (n, end) in self.links.iter().enumerate() {
            let mut tunnel = Self::end("edge", *end);
            tunnel["circuit"] = json!(format!("er{}", n / 2));
            tunnel["peering"] = json!("AzurePrivatePeering");
            tunnel["link"] = json!(["primary", "secondary"][n % 2]);
            tunnels.push(tunnel);
        }
        let peering = |to: &str, transit: bool, remote: bool| {
            json!([{"name": "to-the-other", "remoteVirtualNetwork": to, "allowForwardedTraffic": true,
                    "allowGatewayTransit": transit, "useRemoteGateways": remote}])
        };
        let circuit = |n: usize| {
            json!({"name": format!("er{n}"), "sku": {"tier": "Premium", "family": "MeteredData"},
                   "peerings": [{"name": "AzurePrivatePeering", "peeringType": "AzurePrivatePeering",
                                 "peerASN": 65001, "vlanId": 100 + n}]})
        };
        json!({
            "name": "alpha",
            "virtualNetworks": [
                {"name": "left", "addressSpace": {"addressPrefixes": left_space}, "subnets": left,
                 "virtualNetworkPeerings": peering("right", true, false)},
                {"name": "right", "addressSpace": {"addressPrefixes": right_space}, "subnets": self.subnets(1),
                 "virtualNetworkPeerings": peering("left", false, true)},
            ],
            "networkSecurityGroups": groups(),
            "applicationSecurityGroups": [{"name": "machines"}],
            "routeTables": [{"name": "table", "routes": self.routes(&at("4"))}],
            "networkInterfaces": nics,
            "expressRouteCircuits": [circuit(0), circuit(1)],
            "virtualNetworkGateways": [{"name": "er", "gatewayType": "ExpressRoute", "virtualNetwork": "left"},
                                       {"name": "vpn", "gatewayType": "Vpn", "virtualNetwork": "left"}],
            "connections": [
                {"name": "c0", "connectionType": "ExpressRoute", "virtualNetworkGateway1": "er", "peer": "er0"},
                {"name": "c1", "connectionType": "ExpressRoute", "virtualNetworkGateway1": "er", "peer": "er1"},
                {"name": "s2s", "connectionType": "IPsec", "virtualNetworkGateway1": "vpn"}],
            "tunnels": tunnels,
            "hosts": hosts,
            "learnedRoutes": self.learned(),
        })
    }

    /// The customer with one VNet.
    fn beta(&self) -> Value {
        let mut space = self.space(2);
        space.push("fd78::/64".to_owned());
        json!({
            "name": "beta",
            "virtualNetworks": [{"name": "other", "addressSpace": {"addressPrefixes": space}, "subnets": self.subnets(2)}],
            "networkSecurityGroups": groups(),
            "applicationSecurityGroups": [{"name": "machines"}],
            "routeTables": [{"name": "table", "routes": []}],
            "tunnels": [self.tunnel(2, "other")],
            "hosts": self.hosts(2, "other"),
        })
    }

    /// Some ranges of the Internet go to the appliance, some nowhere.
    fn routes(&self, appliance: &str) -> Vec<Value> {
        let ranges = self.ranges(Place::Internet);
        let route = |(n, range): (usize, &Prefix)| match n % 5 {
            2 if range.is_ipv4() => Some(json!({"name": format!("r{n}"), "addressPrefix": range.to_string(),
                "nextHopType": "VirtualAppliance", "nextHopIpAddress": appliance})),
            4 => Some(
                json!({"name": format!("r{n}"), "addressPrefix": range.to_string(), "nextHopType": "None"}),
            ),
            _ => None,
        };
        ranges.iter().enumerate().filter_map(route).collect()
    }

    fn learned(&self) -> Vec<Value> {
        let mut learned = Vec::new();
        for n in 0..2 {
            for range in self.ranges(Place::Circuit(n)) {
                learned.push(json!({"prefix": range.to_string(), "circuit": format!("er{n}"),
                                    "peering": "AzurePrivatePeering", "asPath": [65001]}));
            }
        }
        for range in self.ranges(Place::Site) {
            learned.push(json!({"prefix": range.to_string(), "connection": "s2s"}));
        }
        learned
    }
}

/// The network security groups of a customer.
fn groups() -> Value {
    let rule = |name: &str, priority: u32, direction: &str, access: &str, protocol: &str, ports: &str| {
        json!({"name": name, "priority": priority, "direction": direction, "access": access, "protocol": protocol,
               "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*",
               "destinationPortRange": ports})
    };
    let web = [
        rule("AllowWeb", 100, "Inbound", "Allow", "Tcp", "80"),
        rule("AllowTls", 110, "Inbound", "Allow", "Tcp", "443"),
        rule("AllowIcmp", 120, "Inbound", "Allow", "Icmp", "*"),
        rule("AllowHigh", 130, "Inbound", "Allow", "Udp", "1024-65535"),
        rule("DenyDns", 100, "Outbound", "Deny", "Udp", "53"),
        rule("DenyEsp", 110, "Outbound", "Deny", "Esp", "*"),
    ];
    let open = [
        rule("AllowIn", 4096, "Inbound", "Allow", "*", "*"),
        rule("AllowOut", 4096, "Outbound", "Allow", "*", "*"),
    ];
    let mut named = rule("AllowMachines", 200, "Inbound", "Allow", "*", "*");
    let side = named.as_object_mut().expect("a map");
    side.remove("destinationAddressPrefix");
    side.insert("destinationApplicationSecurityGroups".to_owned(), json!([{"id": "machines"}]));
    let nic = [
        rule("DenyTelnet", 100, "Outbound", "Deny", "Tcp", "23"),
        rule("DenyVnc", 100, "Inbound", "Deny", "Tcp", "5900"),
        named,
    ];
    json!([{"name": "web", "securityRules": web}, {"name": "open", "securityRules": open},
           {"name": "nic", "securityRules": nic}])
}
