//! The plain version: the same way of a packet as a competent programmer writes it first, to measure the other against.
//!
//! One packet at a time: etherparse takes the headers apart and puts them together, a hash map keeps the flows and by
//! which way their packets leave, rules are asked one after the other, routes are in a treebitmap, and the frame is built
//! in a `Vec` that is used again. It reads the same configuration and says the same about the traffic of the benches, byte
//! for byte. It knows no IPv6, no fragments (neither kind), no TCP state, no ICMP errors, no timers (a record stays
//! forever), no limits, no GRE checksums, no peerings, appliances, NVGRE or sequence numbers, and takes in only what hosts send.

mod build;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

use ahash::RandomState;
use clearway::model::Role;
use clearway::packet::Reason;
use clearway::table::ecmp;
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, NetSlice, SlicedPacket, TransportSlice};
use treebitmap::IpLookupTable;

/// Ethernet, IPv4 and GRE with a key.
const DELIVERY: usize = 14 + 20 + 8;

/// A configuration and the flows that passed.
pub struct Plain {
    ports: Vec<Port>,
    /// VNets by port and key.
    tunnels: HashMap<(usize, u32), usize, RandomState>,
    vnets: Vec<Vnet>,
    flows: HashMap<FlowKey, Flow, RandomState>,
}

struct Port {
    address: Ipv4Addr,
    mtu: usize,
    next_hop: Option<Ipv4Addr>,
    role: Role,
}

struct Vnet {
    /// Which host carries an address.
    hosts: IpLookupTable<Ipv4Addr, Ipv4Addr>,
    host_addresses: HashSet<Ipv4Addr, RandomState>,
    subnets: Vec<Subnet>,
    nics: HashMap<Ipv4Addr, Nic, RandomState>,
    fabric: Option<(usize, u32)>,
}

struct Subnet {
    prefixes: Vec<Net>,
    routes: IpLookupTable<Ipv4Addr, NextHop>,
    group: Option<Group>,
    tags: build::Tags,
}

struct Nic {
    group: Option<Group>,
}

/// A network security group, default rules included.
struct Group {
    inbound: Vec<Rule>,
    outbound: Vec<Rule>,
}

/// A rule; no protocols are all of them.
pub struct Rule {
    pub allow: bool,
    pub protocols: Vec<u8>,
    pub source: Side,
    pub destination: Side,
    pub source_ports: Vec<(u16, u16)>,
    pub destination_ports: Vec<(u16, u16)>,
}

/// The addresses of one side of a rule.
pub enum Side {
    Any,
    In(Vec<Net>),
    Outside(Vec<Net>),
}

/// A table of prefixes; what a look-up of the longest one gives is a number.
pub type Routes = IpLookupTable<Ipv4Addr, u32>;

/// A prefix.
#[derive(Clone, Copy)]
pub struct Net {
    pub first: u32,
    pub mask: u32,
}

#[derive(Clone)]
enum NextHop {
    Local,
    Internet,
    Ways(Vec<(u64, Way)>),
    None,
}

/// By which port a packet leaves, and in GRE to whom with which key.
#[derive(Clone, Copy)]
struct Way {
    port: usize,
    tunnel: Option<(Ipv4Addr, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FlowKey {
    vnet: usize,
    tuple: Tuple,
}

/// One direction of a flow.
struct Flow {
    /// The host that its packets come from.
    host: Ipv4Addr,
    way: Way,
    last: u64,
}

/// What a rule asks about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ports: (u16, u16),
}

/// A packet out of its GRE.
pub struct Parsed<'a> {
    vnet: usize,
    host: Ipv4Addr,
    header: Ipv4Header,
    /// The inner packet, without padding.
    packet: &'a [u8],
    pub tuple: Tuple,
}

impl Plain {
    /// One packet from the bytes of its frame to those of the frame that leaves, and its port.
    pub fn process(
        &mut self,
        port: usize,
        frame: &[u8],
        now: u64,
        out: &mut Vec<u8>,
    ) -> Result<usize, Reason> {
        out.clear();
        let parsed = self.parse(port, frame)?;
        let tuple = parsed.tuple;
        let key = FlowKey { vnet: parsed.vnet, tuple };
        if let Some(flow) = self.flows.get_mut(&key)
            && flow.host == parsed.host
        {
            flow.last = now;
            let way = flow.way;
            self.emit(&parsed, way, out)?;
            return Ok(way.port);
        }
        let way = self.decide(&parsed)?;
        self.emit(&parsed, way, out)?;
        self.flows.insert(key, Flow { host: parsed.host, way, last: now });
        Ok(way.port)
    }

    /// What is asked of the first packet of a flow.
    fn decide(&self, parsed: &Parsed<'_>) -> Result<Way, Reason> {
        let (tuple, vnet) = (parsed.tuple, &self.vnets[parsed.vnet]);
        let subnet = vnet.subnet(tuple.source).ok_or(Reason::SpoofedSource)?;
        if vnet.host(tuple.source) != Some(parsed.host) {
            return Err(Reason::SpoofedSource);
        }
        // What answers a flow passes with it.
        let known = self.flows.contains_key(&FlowKey { vnet: parsed.vnet, tuple: tuple.reversed() });
        if !known && !vnet.allows(subnet, tuple.source, |g| &g.outbound, &tuple) {
            return Err(Reason::NsgDeny);
        }
        match subnet.routes.longest_match(tuple.destination).ok_or(Reason::NoRoute)?.2 {
            NextHop::None => Err(Reason::RouteNone),
            NextHop::Internet => {
                let internet = self.ports.iter().position(|p| p.role == Role::Internet);
                Ok(Way { port: internet.ok_or(Reason::GatewayDown)?, tunnel: None })
            }
            NextHop::Ways(ways) => {
                let (source, destination) = (IpAddr::V4(tuple.source), IpAddr::V4(tuple.destination));
                let ports = u32::from(tuple.ports.0) << 16 | u32::from(tuple.ports.1);
                let hash = ecmp::flow_hash(source, destination, tuple.protocol, ports);
                let chosen = ecmp::choose(hash, ways.iter().map(|w| w.0)).ok_or(Reason::GatewayDown)?;
                Ok(ways[chosen].1)
            }
            NextHop::Local => {
                let subnet = vnet.subnet(tuple.destination).ok_or(Reason::NoHost)?;
                let remote = vnet.host(tuple.destination).ok_or(Reason::NoHost)?;
                let (port, key) = vnet.fabric.ok_or(Reason::NoHost)?;
                if !known && !vnet.allows(subnet, tuple.destination, |g| &g.inbound, &tuple) {
                    return Err(Reason::NsgDeny);
                }
                Ok(Way { port, tunnel: Some((remote, key)) })
            }
        }
    }

    /// The headers of a frame, and whose it is.
    pub fn parse<'a>(&self, port: usize, frame: &'a [u8]) -> Result<Parsed<'a>, Reason> {
        let outer = SlicedPacket::from_ethernet(frame).map_err(|_| Reason::OuterMalformed)?;
        let Some(NetSlice::Ipv4(outer)) = outer.net else { return Err(Reason::NotIp) };
        let header = outer.header().to_header();
        if header.header_checksum != header.calc_header_checksum() {
            return Err(Reason::OuterMalformed);
        }
        if Ipv4Addr::from(header.destination) != self.ports[port].address {
            return Err(Reason::NotForUs);
        }
        if header.is_fragmenting_payload() {
            return Err(Reason::OuterFragment);
        }
        if header.protocol != IpNumber::GRE {
            return Err(Reason::NotGre);
        }
        let (key, packet) = gre(outer.payload().payload)?;
        let vnet = *self.tunnels.get(&(port, key)).ok_or(Reason::UnknownTunnel)?;
        let host = Ipv4Addr::from(header.source);
        if !self.vnets[vnet].host_addresses.contains(&host) {
            return Err(Reason::TunnelPeer);
        }
        let inner = SlicedPacket::from_ip(packet).map_err(|_| Reason::InnerMalformed)?;
        let Some(NetSlice::Ipv4(ip)) = inner.net else { return Err(Reason::InnerMalformed) };
        let header = ip.header().to_header();
        if header.header_checksum != header.calc_header_checksum() {
            return Err(Reason::InnerMalformed);
        }
        let ports = match inner.transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
            _ => (0, 0),
        };
        let tuple = Tuple {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol.0,
            ports,
        };
        if is_blocked(&tuple) {
            return Err(Reason::InnerBlocked);
        }
        if tuple.destination == host {
            return Err(Reason::GreLoop);
        }
        let packet = packet.get(..usize::from(header.total_len)).ok_or(Reason::InnerMalformed)?;
        Ok(Parsed { vnet, host, header, packet, tuple })
    }

    /// Writes the frame that leaves by this port, in GRE or plain.
    fn emit(&self, parsed: &Parsed<'_>, way: Way, out: &mut Vec<u8>) -> Result<(), Reason> {
        let (port, tunnel) = (&self.ports[way.port], way.tunnel);
        let mut inner = parsed.header.clone();
        if inner.time_to_live <= 1 {
            return Err(Reason::TtlExpired);
        }
        inner.time_to_live -= 1;
        inner.header_checksum = inner.calc_header_checksum();
        let room = port.mtu - if tunnel.is_some() { DELIVERY - 14 } else { 0 };
        if parsed.packet.len() > room {
            return Err(Reason::TooBig);
        }
        let next = tunnel.map(|t| t.0).or(port.next_hop).unwrap_or(parsed.tuple.destination);
        let ethernet = Ethernet2Header {
            source: mac(port.address),
            destination: mac(next),
            ether_type: EtherType::IPV4,
        };
        let full = Reason::OuterMalformed;
        ethernet.write(out).map_err(|_| full)?;
        if let Some((remote, key)) = tunnel {
            let length = (8 + parsed.packet.len()) as u16;
            let (from, to) = (port.address.octets(), remote.octets());
            let mut outer = Ipv4Header::new(length, 64, IpNumber::GRE, from, to).map_err(|_| full)?;
            outer.dscp = inner.dscp;
            outer.ecn = inner.ecn;
            outer.header_checksum = outer.calc_header_checksum();
            outer.write(out).map_err(|_| full)?;
            out.extend_from_slice(&[0x20, 0, 0x08, 0]);
            out.extend_from_slice(&key.to_be_bytes());
        }
        inner.write(out).map_err(|_| full)?;
        out.write_all(&parsed.packet[inner.header_len()..]).map_err(|_| full)
    }

    /// Writes the frame of a parsed packet to this host of its VNet; for the bench of this step alone.
    pub fn rewrite(&self, parsed: &Parsed<'_>, remote: Ipv4Addr, out: &mut Vec<u8>) -> Result<(), Reason> {
        out.clear();
        let (port, key) = self.vnets[parsed.vnet].fabric.ok_or(Reason::NoHost)?;
        self.emit(parsed, Way { port, tunnel: Some((remote, key)) }, out)
    }

    /// How many flows it knows.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Forgets all flows.
    pub fn forget(&mut self) {
        self.flows.clear();
    }
}

/// The key of a GRE header (RFC 2890) with IPv4 behind it, and what is behind it.
fn gre(bytes: &[u8]) -> Result<(u32, &[u8]), Reason> {
    let (head, mut rest) = bytes.split_first_chunk::<4>().ok_or(Reason::GreMalformed)?;
    let (flags, protocol) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
    if flags & 0x4c00 != 0 {
        return Err(Reason::GreReservedBits);
    }
    if flags & 7 != 0 {
        return Err(Reason::GreVersion);
    }
    if flags & 0x8000 != 0 {
        rest = rest.get(4..).ok_or(Reason::GreMalformed)?;
    }
    if protocol != 0x0800 {
        return Err(Reason::GreProtocol);
    }
    if flags & 0x2000 == 0 {
        return Err(Reason::GreNoKey);
    }
    let (key, mut rest) = rest.split_first_chunk::<4>().ok_or(Reason::GreMalformed)?;
    if flags & 0x1000 != 0 {
        rest = rest.get(4..).ok_or(Reason::GreMalformed)?;
    }
    Ok((u32::from_be_bytes(*key), rest))
}

fn is_blocked(tuple: &Tuple) -> bool {
    let never = |a: Ipv4Addr| a.is_multicast() || a.is_broadcast() || a.is_loopback() || a.octets()[0] == 0;
    never(tuple.source)
        || never(tuple.destination)
        || matches!(tuple.protocol, 4 | 41 | 47)
        || tuple.protocol == 17 && (tuple.ports == (68, 67) || tuple.ports.0 == 65330)
}

fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0, a, b, c, d]
}

impl Vnet {
    fn subnet(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.prefixes.iter().any(|p| p.contains(address)))
    }

    fn host(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        self.hosts.longest_match(address).map(|(_, _, host)| *host)
    }

    /// What the groups of an endpoint's NIC and subnet say.
    fn allows(
        &self,
        subnet: &Subnet,
        address: Ipv4Addr,
        rules: fn(&Group) -> &Vec<Rule>,
        tuple: &Tuple,
    ) -> bool {
        let nic = self.nics.get(&address).and_then(|n| n.group.as_ref());
        nic.into_iter()
            .chain(&subnet.group)
            .all(|group| first_match(rules(group), tuple).is_some_and(|r| r.allow))
    }
}

impl Tuple {
    fn reversed(self) -> Tuple {
        let ports = (self.ports.1, self.ports.0);
        Tuple { source: self.destination, destination: self.source, ports, ..self }
    }
}

/// The first rule that a packet matches.
pub fn first_match<'r>(rules: &'r [Rule], tuple: &Tuple) -> Option<&'r Rule> {
    rules.iter().find(|rule| rule.matches(tuple))
}

impl Rule {
    fn matches(&self, tuple: &Tuple) -> bool {
        let all = |ports: &[(u16, u16)]| ports == [(0, u16::MAX)];
        let port = |ports: &[(u16, u16)], port: u16| {
            all(ports)
                || matches!(tuple.protocol, 6 | 17)
                    && ports.iter().any(|&(low, high)| (low..=high).contains(&port))
        };
        (self.protocols.is_empty() || self.protocols.contains(&tuple.protocol))
            && self.source.holds(tuple.source)
            && self.destination.holds(tuple.destination)
            && port(&self.source_ports, tuple.ports.0)
            && port(&self.destination_ports, tuple.ports.1)
    }
}

impl Side {
    fn holds(&self, address: Ipv4Addr) -> bool {
        match self {
            Side::Any => true,
            Side::In(nets) => nets.iter().any(|n| n.contains(address)),
            Side::Outside(nets) => !nets.iter().any(|n| n.contains(address)),
        }
    }
}

impl Net {
    fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.first
    }
}
