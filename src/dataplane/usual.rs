//! Packets of the usual shape: IPv4 with TCP, UDP or echo, whole, without options, plain or in GRE with nothing but a key
//! in IPv4 without options. Their fields are at fixed places, so that steps 1 to 3 and 5 are a few loads and compares.
//!
//! What is not of this shape, right or wrong, is left to `ingress`, which says why a packet ends.

use std::net::IpAddr;

use crate::compile::Port;
use crate::model::Role;
use crate::wire::{be16, be32, be64, checksum, ip, protocol, tcp_flags};

/// What is at hand of a packet of the usual shape. What is rarely asked for is read from the frame again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Inner source << 32 | inner destination.
    pub addresses: u64,
    /// Source port << 16 | destination port; of an echo its identifier twice.
    pub ports: u32,
    /// Where the inner packet begins among the bytes of the batch.
    pub from: u32,
    /// Its length.
    pub total: u16,
    /// Its protocol.
    pub protocol: u8,
    /// Its type of service after decapsulation.
    pub tos: u8,
    /// TCP's flags; else 0.
    pub tcp_flags: u8,
    /// Its time to live.
    pub ttl: u8,
}

/// Ethernet, IPv4 and GRE with a key in front of the inner packet.
const INNER_IN_GRE: usize = 42;
/// Ethernet in front of a plain packet.
const INNER_PLAIN: usize = 14;
/// What is read of a packet at most: up to TCP's flags.
const READ: usize = 34;
/// The least that is behind Ethernet or GRE: an IPv4 header and eight bytes.
const LEAST: u16 = 28;

/// Congestion bits after decapsulation by inner << 2 | outer bits (RFC 6040 section 4.2); 0x80 where the packet must be
/// dropped.
const DECAPSULATED: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = match ip::decapsulate_ecn(i as u8 >> 2, i as u8 & 3) {
            Some(bits) => bits,
            None => 0x80,
        };
        i += 1;
    }
    table
};

/// The least total length of ICMP, one more than of UDP, so that they are told apart; an echo is checked for the rest.
const ECHO: u16 = LEAST + 1;

/// For each protocol the least total length, and the bits of TCP's flags that count.
const TRANSPORTS: [(u16, u8); 256] = {
    // No packet is so long: the others are not usual.
    let mut table = [(u16::MAX, 0); 256];
    table[protocol::UDP as usize] = (LEAST, 0);
    table[protocol::ICMP as usize] = (ECHO, 0);
    table[protocol::TCP as usize] = (40, 0xff);
    table
};

/// What is addressed to a port, as packets of the usual shape show it.
#[derive(Clone, Copy, Debug)]
pub struct Listens {
    /// The port's address, for GRE; none of 32 bits where no GRE is for us.
    gre: u64,
    /// The port's address: plain packets to it are not of the usual shape.
    address: u32,
    /// Plain packets come by this port.
    plain: bool,
}

impl Listens {
    /// Where there is no such port, or one of IPv6.
    pub const NOTHING: Listens = Listens { gre: u64::MAX, address: 0, plain: false };

    /// What is addressed to this port.
    pub fn new(port: &Port) -> Listens {
        let IpAddr::V4(address) = port.address else { return Listens::NOTHING };
        let address = address.to_bits();
        Listens {
            gre: if port.role == Role::Services { u64::MAX } else { u64::from(address) },
            address,
            plain: matches!(port.role, Role::Internet | Role::Services),
        }
    }

    /// True if plain packets come by this port.
    #[inline(always)]
    pub fn plain(&self) -> bool {
        self.plain
    }
}

/// A received frame that is `length` bytes long.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The bytes of the batch.
    pub bytes: &'a [u8],
    /// Where among them the frame begins.
    pub start: u32,
    /// Its length.
    pub length: u32,
    /// How long it was when it was received.
    pub original: u32,
}

/// Reads a packet in GRE; its key and outer source. `None` if anything about it is unusual or wrong; then what was read
/// means nothing.
#[inline(always)]
pub fn in_gre(frame: Received<'_>, to: &Listens, packet: &mut Usual) -> Option<(u32, u32)> {
    let Received { bytes, start, length, original } = frame;
    let head = bytes.get(start as usize..)?.first_chunk::<{ INNER_IN_GRE + READ }>()?;
    // Each is read in as few loads as can be: two bytes of addresses, EtherType, version, type of service and length;
    // then identification, fragment, time to live, protocol and checksum; then the addresses.
    let (first, second, addresses) = (be64(head, 10), be64(head, 18), be64(head, 26));
    let carried = u32::from(first as u16) + INNER_PLAIN as u32;
    // Version 0, a key, no checksum, sequence or routing; bits 6 to 12 say nothing.
    let usual = first & 0x0000_ffff_ff00_0000 == 0x0000_0800_4500_0000
        && second & 0x0000_3fff_00ff_0000 == (protocol::GRE as u64) << 16
        && u64::from(addresses as u32) == to.gre
        && be32(head, 34) & 0xfc07_ffff == 0x2000_0800
        && carried <= length
        && length >= original
        && checksum::is_zero_v4(first as u32, second, addresses);
    let ecn = (first >> 16) as u8 & 3;
    (usual && inner::<INNER_IN_GRE, _>(head, start, carried, ecn, packet))
        .then(|| (be32(head, 38), (addresses >> 32) as u32))
}

/// The GRE key and the outer source of a packet of the usual shape that begins at `at` in its frame; `None` if it came
/// plain.
pub fn key_and_source(frame: &[u8], at: usize) -> Option<(u32, u32)> {
    (at == INNER_IN_GRE).then(|| (be32(frame, 38), be32(frame, 26)))
}

/// Reads a plain packet that is not to the port's address. False if anything about it is unusual or wrong.
#[inline(always)]
pub fn plain(frame: Received<'_>, to: &Listens, packet: &mut Usual) -> bool {
    let Received { bytes, start, length, original } = frame;
    let rest = bytes.get(start as usize..).unwrap_or_default();
    let Some(head) = rest.first_chunk::<{ INNER_PLAIN + READ }>() else { return false };
    be16(head, 12) == 0x0800
        && be32(head, 30) != to.address
        && length >= original
        && inner::<INNER_PLAIN, _>(head, start, length, 0, packet)
}

/// Step 5 for a packet at a fixed place, of which the frame carries what is before `carried`.
#[inline(always)]
fn inner<const AT: usize, const N: usize>(
    head: &[u8; N],
    start: u32,
    carried: u32,
    outer_ecn: u8,
    packet: &mut Usual,
) -> bool {
    const { assert!(AT + READ <= N) };
    let (first, second, addresses) = (be32(head, AT), be64(head, AT + 4), be64(head, AT + 12));
    let (total, mut tos, protocol) = (first as u16, (first >> 16) as u8, (second >> 16) as u8);
    // TCP and UDP take turns as they like: what differs comes from a table, not from a branch.
    let (least, flags) = TRANSPORTS[usize::from(protocol)];
    let sound = first >> 24 == 0x45
        && second & 0x3fff_0000_0000 == 0
        && total >= least
        && AT as u32 + u32::from(total) <= carried
        && checksum::is_zero_v4(first, second, addresses);
    if !sound {
        return false;
    }
    // Only ECT(1) and CE outside change what is inside.
    if outer_ecn & 1 != 0 {
        let ecn = DECAPSULATED[usize::from((tos & 3) << 2 | outer_ecn & 3)];
        if ecn & 0x80 != 0 {
            return false;
        }
        tos = tos & !3 | ecn;
    }
    let mut ports = be32(head, AT + 20);
    if least == ECHO {
        if !matches!(head[AT + 20], 0 | 8) {
            return false;
        }
        ports = u32::from(be16(head, AT + 24)) * 0x1_0001;
    }
    *packet = Usual {
        addresses,
        ports,
        from: start + AT as u32,
        total,
        protocol,
        tos,
        // Of a TCP packet that is long enough the flags are there.
        tcp_flags: head[AT + 33] & flags,
        ttl: (second >> 24) as u8,
    };
    true
}

impl Usual {
    /// Inner source.
    #[inline(always)]
    pub fn source(&self) -> u32 {
        (self.addresses >> 32) as u32
    }

    /// Inner destination.
    #[inline(always)]
    pub fn destination(&self) -> u32 {
        self.addresses as u32
    }

    /// True of a TCP segment that may change the state of its flow.
    #[inline(always)]
    pub fn changes_state(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) != 0
    }

    /// The headers as `ingress` reads them, with the type of service as received. `packet` begins with them.
    pub fn headers(&self, packet: &[u8]) -> ip::Inner {
        let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
        ip::Inner {
            source: self.source().to_be_bytes().into(),
            destination: self.destination().to_be_bytes().into(),
            protocol: self.protocol,
            total: u32::from(self.total),
            header: ip::V4_HEADER as u8,
            transport: ip::V4_HEADER as u32,
            tos: byte(1),
            ttl: self.ttl,
            dont_fragment: byte(6) & 0x40 != 0,
            fragment: None,
            ports: ((self.ports >> 16) as u16, self.ports as u16),
            tcp_flags: self.tcp_flags,
            icmp_type: if self.protocol == protocol::ICMP { byte(20) } else { 0 },
        }
    }
}
