//! The traffic of a bench: connections by number, the packets of a connection, and the frame that brings each of them.
//!
//! A connection follows from its number alone. Number modulo VNets is its VNet; what remains, modulo four, is its kind;
//! and what remains then is scattered, without loss, over NICs, far addresses, services and source ports, so that no two
//! connections have the same addresses, ports and protocol until all of them are used up.

use super::network::{End, Kind, NICS, Network, PORTS, Service, addr};
use crate::table::ecmp::mix;
use crate::types::Prefix;
use crate::wire::{checksum, tcp_flags};

/// The lowest source port of connections, which have 32,768: none of the blocked ones, none of a service.
const SOURCE_PORT: u16 = 16_384;

/// Ethernet, outer IPv4 and GRE with a key: what stands in front of the inner packet.
pub const OUTER: usize = 42;
/// Where the transport header begins.
const TRANSPORT: usize = OUTER + 20;

/// Everything about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Its VNet.
    pub vnet: u32,
    /// Its kind.
    pub kind: Kind,
    /// The NIC in the VNet; of a connection inside it, the one that opens it.
    pub nic: u32,
    /// The other NIC of a connection inside the VNet.
    pub neighbour: u32,
    /// The link that packets from the circuit come by.
    pub link: u32,
    /// The far end's prefix, by number: a learned one, or a user-defined one to the Internet if there is one.
    pub far_route: Option<u32>,
    /// The addresses of who opens it and of the other.
    pub addresses: (u32, u32),
    /// The ports of the same.
    pub ports: (u16, u16),
    /// TCP; else UDP.
    pub tcp: bool,
}

/// A packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The connection's number.
    pub connection: u64,
    /// It goes the other way than the one that opens the connection.
    pub reply: bool,
    /// It opens the connection.
    pub opens: bool,
}

/// How the numbers of a kind's connections are cut up, in bits.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    service: u32,
    route: u32,
    all: u32,
}

/// Makes the frames of a network.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The network.
    pub network: Network,
    /// Bytes of the inner packet.
    pub size: usize,
    cuts: [Cut; 4],
    /// The sums of the bytes behind UDP and TCP headers.
    payload_sums: [u64; 2],
    /// A frame of UDP and one of TCP.
    patterns: [Vec<u8>; 2],
}

/// The largest power of two that is not above this number, as its exponent.
fn bits_within(number: u32) -> u32 {
    number.max(1).ilog2()
}

impl Traffic {
    /// The traffic of a network with inner packets of this size.
    pub fn new(network: Network, size: usize) -> Traffic {
        let cut = |kind: Kind| {
            let service = bits_within(network.services_of(kind));
            let route = match kind {
                Kind::Inside => 0,
                Kind::ToCircuit | Kind::FromCircuit => bits_within(network.leaves()),
                Kind::ToInternet => bits_within(network.public_routes()),
            };
            // NIC, neighbour or far host, source port.
            Cut { service, route, all: 4 + 3 + service + route + 15 }
        };
        let patterns = [false, true].map(|tcp| pattern(tcp, size));
        let behind =
            |tcp: usize| checksum::add(0, patterns[tcp].get(TRANSPORT + [8, 20][tcp]..).unwrap_or_default());
        let payload_sums = [behind(0), behind(1)];
        Traffic { network, size, cuts: Kind::ALL.map(cut), payload_sums, patterns }
    }

    /// Bytes of a frame.
    pub fn frame_length(&self) -> usize {
        OUTER + self.size
    }

    /// The connection of a number.
    #[inline]
    pub fn connection(&self, number: u64) -> Connection {
        let network = &self.network;
        let vnet = (number % u64::from(network.vnets)) as u32;
        let rest = number / u64::from(network.vnets);
        let kind = Kind::ALL[(rest % 4) as usize];
        let cut = self.cuts[kind as usize];
        let mut digits =
            Digits(scatter(rest / 4, cut.all, network.seed ^ u64::from(vnet) << 8 ^ kind as u64));
        let nic = digits.take(4) as u32;
        let far = digits.take(3) as u32;
        let service = digits.take(cut.service) as u32;
        let route = digits.take(cut.route) as u32;
        let source_port = SOURCE_PORT + digits.take(15) as u16;
        // Which of equal things, from the bits that nothing else is made of.
        let coin = mix(number ^ network.seed);
        let service = match network.services_of(kind) {
            0 => Service { tcp: coin & 1 == 0, port: 9000 + kind as u16 },
            all => network.service(4 * ((service * all) >> cut.service) + kind as u32),
        };
        let own = network.nic(vnet, nic);
        let neighbour = (nic + 1 + far) % NICS;
        let (far_route, other) = match kind {
            Kind::Inside => (None, network.nic(vnet, neighbour)),
            Kind::ToCircuit | Kind::FromCircuit => {
                let leaf = (route * network.leaves()) >> cut.route;
                (Some(leaf), first(network.leaf(vnet, leaf)) + 1 + far)
            }
            // Half of it by the default route.
            Kind::ToInternet if network.user_routes > 0 && coin & 2 == 0 => {
                let public = (route * network.public_routes()) >> cut.route;
                (Some(public), first(network.public(vnet, public)) + 1 + far)
            }
            Kind::ToInternet => (None, addr([52, 0, 0, 0]) | route << 8 | (1 + far)),
        };
        let addresses = if kind == Kind::FromCircuit { (other, own) } else { (own, other) };
        Connection {
            vnet,
            kind,
            nic,
            neighbour,
            link: (coin >> 2 & 1) as u32,
            far_route,
            addresses,
            ports: (source_port, service.port),
            tcp: service.tcp,
        }
    }

    /// True if both directions of a connection have packets: half of all.
    #[inline]
    pub fn has_replies(&self, connection: u64) -> bool {
        mix(connection ^ self.network.seed) >> 3 & 1 == 0
    }

    /// The outer ends by which packets of a connection arrive and, if it is no matter of choice among equal ways, leave.
    #[inline]
    pub fn arrives_by(&self, c: &Connection, reply: bool) -> End {
        let network = &self.network;
        let nic = |n: u32| network.fabric(c.vnet, Network::host_of(n));
        match (c.kind, reply) {
            (Kind::Inside, true) => nic(c.neighbour),
            (Kind::ToCircuit, true) | (Kind::FromCircuit, false) => network.link(c.vnet, c.link),
            (Kind::ToInternet, true) => network.internet(c.vnet),
            _ => nic(c.nic),
        }
    }

    /// Writes the frame that brings a packet into `out`, which is as long as a frame; the port it arrives by.
    #[inline]
    pub fn write(&self, packet: Packet, out: &mut [u8]) -> u16 {
        let c = self.connection(packet.connection);
        let end = self.arrives_by(&c, packet.reply);
        let tcp = usize::from(c.tcp);
        let pattern = &self.patterns[tcp];
        out.copy_from_slice(pattern);
        let Some(head) = out.first_chunk_mut::<{ OUTER + 40 }>() else { return end.port };
        let destination = addr(PORTS[usize::from(end.port)]);
        put_ethernet(head, destination, end.remote);
        put32(head, 26, end.remote);
        put32(head, 30, destination);
        put32(head, 38, end.key);
        checksum_at(head, 14, 24);
        let ((from, to), ports) = if packet.reply {
            ((c.addresses.1, c.addresses.0), (c.ports.1, c.ports.0))
        } else {
            (c.addresses, c.ports)
        };
        put16(head, OUTER + 4, packet.connection as u16);
        put32(head, OUTER + 12, from);
        put32(head, OUTER + 16, to);
        checksum_at(head, OUTER, OUTER + 10);
        put16(head, TRANSPORT, ports.0);
        put16(head, TRANSPORT + 2, ports.1);
        let words = |n: u32| u64::from(n >> 16) + u64::from(n & 0xffff);
        let mut sum = words(from) + words(to) + u64::from(ports.0) + u64::from(ports.1);
        let length = (self.size - 20) as u64;
        sum += length + self.payload_sums[tcp];
        if c.tcp {
            let flags = if packet.opens { tcp_flags::SYN } else { tcp_flags::ACK };
            put32(head, TRANSPORT + 4, packet.connection as u32);
            head[TRANSPORT + 13] = flags;
            sum += 6 + words(packet.connection as u32) + u64::from(0x5000 | u16::from(flags)) + 0xffff;
            put16(head, TRANSPORT + 16, !checksum::fold(sum));
        } else {
            sum += 17 + length;
            let checksum = !checksum::fold(sum);
            // Zero would say that there is none (RFC 768).
            put16(head, TRANSPORT + 6, if checksum == 0 { 0xffff } else { checksum });
        }
        end.port
    }
}

/// Takes a number apart, lowest bits first.
struct Digits(u64);

impl Digits {
    #[inline]
    fn take(&mut self, bits: u32) -> u64 {
        let digit = self.0 & ((1 << bits) - 1);
        self.0 >>= bits;
        digit
    }
}

/// A permutation of the numbers of so many bits.
#[inline]
fn scatter(number: u64, bits: u32, seed: u64) -> u64 {
    let mask = (1u64 << bits) - 1;
    let half = bits / 2 + 1;
    let mut x = (number ^ mix(seed)) & mask;
    x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
    x ^= x >> half;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9) & mask;
    x ^= x >> half;
    x.wrapping_mul(0x94d0_49bb_1331_11eb) & mask
}

fn first(prefix: Prefix) -> u32 {
    match prefix.first() {
        std::net::IpAddr::V4(a) => a.to_bits(),
        std::net::IpAddr::V6(_) => 0,
    }
}

/// A frame with everything in it that all packets of a protocol share.
fn pattern(tcp: bool, size: usize) -> Vec<u8> {
    let mut frame = vec![0; OUTER + size.max(40)];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((28 + size) as u16).to_be_bytes());
    frame[20..24].copy_from_slice(&[0x40, 0x00, 64, 47]);
    frame[34..38].copy_from_slice(&[0x20, 0x00, 0x08, 0x00]);
    frame[OUTER] = 0x45;
    frame[OUTER + 2..OUTER + 4].copy_from_slice(&(size as u16).to_be_bytes());
    frame[OUTER + 6..OUTER + 10].copy_from_slice(&[0x40, 0x00, 64, if tcp { 6 } else { 17 }]);
    let header = if tcp {
        frame[TRANSPORT + 12] = 0x50;
        frame[TRANSPORT + 14..TRANSPORT + 16].fill(0xff);
        20
    } else {
        frame[TRANSPORT + 4..TRANSPORT + 6].copy_from_slice(&((size - 20) as u16).to_be_bytes());
        8
    };
    for (i, byte) in frame[TRANSPORT + header..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    frame
}

/// Ethernet addresses made of IPv4 addresses, as the frames that Clearway sends have them.
#[inline]
pub fn put_ethernet(frame: &mut [u8; OUTER + 40], destination: u32, source: u32) {
    put16(frame, 0, 0x0200);
    put32(frame, 2, destination);
    put16(frame, 6, 0x0200);
    put32(frame, 8, source);
}

/// Writes sixteen bits.
#[inline]
pub fn put16(frame: &mut [u8; OUTER + 40], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes thirty-two bits.
#[inline]
pub fn put32(frame: &mut [u8; OUTER + 40], at: usize, value: u32) {
    frame[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes the checksum of the IPv4 header at `header` to `at`.
#[inline]
pub fn checksum_at(frame: &mut [u8; OUTER + 40], header: usize, at: usize) {
    frame[at..at + 2].fill(0);
    let sum = checksum::of(&frame[header..header + 20]);
    put16(frame, at, sum);
}
