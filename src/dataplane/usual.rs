//! Packets of the usual shape: IPv4 with TCP, UDP or echo, whole, without options, plain or in GRE with nothing but a key
//! in IPv4 without options. Their fields are at fixed places, so that steps 1 to 3 and 5 are a few loads and one branch.
//!
//! What is not of this shape, right or wrong, is left to `ingress`, which says why a packet ends.

use crate::wire::{be16, be32, checksum, ip, protocol, tcp_flags};

/// What is at hand of a packet of the usual shape. What is rarely asked for is read from the frame again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Inner source.
    pub source: u32,
    /// Inner destination.
    pub destination: u32,
    /// Source port << 16 | destination port; of an echo its identifier twice.
    pub ports: u32,
    /// Where the inner packet begins in the frame.
    pub at: u16,
    /// Its length.
    pub total: u16,
    /// Its protocol.
    pub protocol: u8,
    /// Its type of service after decapsulation.
    pub tos: u8,
    /// TCP's flags; else 0.
    pub tcp_flags: u8,
}

/// Ethernet, IPv4 and GRE with a key in front of the inner packet.
const INNER_IN_GRE: usize = 42;
/// Ethernet in front of a plain packet.
const INNER_PLAIN: usize = 14;
/// The least that is behind: an IPv4 header and eight bytes.
const LEAST: usize = 28;

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
const ECHO: u16 = LEAST as u16 + 1;

/// For each protocol the least total length, and the bits of TCP's flags that count.
const TRANSPORTS: [(u16, u8); 256] = {
    // No packet is so long: the others are not usual.
    let mut table = [(u16::MAX, 0); 256];
    table[protocol::UDP as usize] = (LEAST as u16, 0);
    table[protocol::ICMP as usize] = (ECHO, 0);
    table[protocol::TCP as usize] = (40, 0xff);
    table
};

/// Four bytes as they are, for comparing.
#[inline(always)]
fn raw(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).to_be()
}

/// Reads a packet in GRE to `address`, whose bytes are in network order. False if anything about it is unusual or wrong;
/// then what was read means nothing.
#[inline(always)]
pub fn in_gre(frame: &[u8], original: u32, address: u32, packet: &mut Usual) -> bool {
    let Some(head) = frame.first_chunk::<{ INNER_IN_GRE + LEAST }>() else { return false };
    let carried = usize::from(be16(head, 16)) + INNER_PLAIN;
    // EtherType IPv4, version 4, five words.
    let v4 =
        raw(head, 12) & u32::from_ne_bytes([0xff, 0xff, 0xff, 0]) == u32::from_ne_bytes([0x08, 0, 0x45, 0]);
    let whole = raw(head, 20) & u32::from_ne_bytes([0x3f, 0xff, 0, 0xff])
        == u32::from_ne_bytes([0, 0, 0, protocol::GRE]);
    // Version 0, a key, no checksum, sequence or routing; bits 6 to 12 say nothing.
    let gre = raw(head, 34) & u32::from_ne_bytes([0xfc, 0x07, 0xff, 0xff])
        == u32::from_ne_bytes([0x20, 0, 0x08, 0]);
    v4 & whole
        & gre
        & (raw(head, 30) == address)
        & (carried <= frame.len())
        & (frame.len() as u64 >= u64::from(original))
        & checksum::is_right_v4(head, INNER_PLAIN)
        & inner::<INNER_IN_GRE>(frame, carried, head[15] & 3, packet)
}

/// The GRE key and the outer source of a packet that [`in_gre`] has read, both in network order.
#[inline(always)]
pub fn key_and_source(frame: &[u8]) -> (u32, u32) {
    (raw(frame, 38), raw(frame, 26))
}

/// Reads a plain packet that is not to `address`.
#[inline(always)]
pub fn plain(frame: &[u8], original: u32, address: u32, packet: &mut Usual) -> bool {
    let Some(head) = frame.first_chunk::<{ INNER_PLAIN + LEAST }>() else { return false };
    (be16(head, 12) == 0x0800)
        & (raw(head, 30) != address)
        & (frame.len() as u64 >= u64::from(original))
        & inner::<INNER_PLAIN>(frame, frame.len(), head[15] & 3, packet)
}

/// Step 5 for a packet at a fixed place, of which the frame carries what is before `carried`.
#[inline(always)]
fn inner<const AT: usize>(frame: &[u8], carried: usize, outer_ecn: u8, packet: &mut Usual) -> bool {
    let Some(head) = frame.get(AT..).and_then(|f| f.first_chunk::<LEAST>()) else { return false };
    let (total, protocol, tos) = (be16(head, 2), head[9], head[1]);
    let ecn = DECAPSULATED[usize::from((tos & 3) << 2 | outer_ecn & 3)];
    packet.source = be32(head, 12);
    packet.destination = be32(head, 16);
    packet.ports = be32(head, 20);
    packet.at = AT as u16;
    packet.total = total;
    packet.protocol = protocol;
    packet.tos = tos & !3 | ecn & 3;
    // TCP and UDP take turns as they like: what differs comes from a table, not from a branch.
    let (least, flags) = TRANSPORTS[usize::from(protocol)];
    // Of a TCP packet that is long enough the flags are there.
    packet.tcp_flags = frame.get(AT + 33).copied().unwrap_or(0) & flags;
    if least == ECHO {
        if !matches!(head[20], 0 | 8) {
            return false;
        }
        packet.ports = u32::from(be16(head, 24)) * 0x1_0001;
    }
    (head[0] == 0x45)
        & (be16(head, 6) & 0x3fff == 0)
        & (total >= least)
        & (AT + usize::from(total) <= carried)
        & (ecn & 0x80 == 0)
        & checksum::is_right_v4(head, 0)
}

impl Usual {
    /// True of a TCP segment that may change the state of its flow.
    #[inline(always)]
    pub fn changes_state(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) != 0
    }

    /// The headers as `ingress` reads them, with the type of service as received.
    pub fn headers(&self, frame: &[u8]) -> ip::Inner {
        let packet = frame.get(usize::from(self.at)..).unwrap_or_default();
        let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
        ip::Inner {
            source: self.source.to_be_bytes().into(),
            destination: self.destination.to_be_bytes().into(),
            protocol: self.protocol,
            total: u32::from(self.total),
            header: ip::V4_HEADER as u8,
            transport: ip::V4_HEADER as u32,
            tos: byte(1),
            ttl: byte(8),
            dont_fragment: byte(6) & 0x40 != 0,
            fragment: None,
            ports: ((self.ports >> 16) as u16, self.ports as u16),
            tcp_flags: self.tcp_flags,
            icmp_type: if self.protocol == protocol::ICMP { byte(20) } else { 0 },
        }
    }
}
