//! Packets of the usual shape: IPv4 with TCP, UDP or echo, whole, without options, plain or in GRE with nothing but a key
//! in IPv4 without options. Their fields are at fixed places, so that steps 1 to 3 and 5 are a few loads and one branch.
//!
//! What is not of this shape, right or wrong, is left to `ingress`, which says why a packet ends.

use crate::wire::{be16, be32, checksum, ip, protocol, tcp_flags};

/// What is at hand of a packet of the usual shape. Addresses and ports are numbers, not bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Inner source.
    pub source: u32,
    /// Inner destination.
    pub destination: u32,
    /// Source port << 16 | destination port; of an echo its identifier twice.
    pub ports: u32,
    /// The GRE key.
    pub key: u32,
    /// The outer source.
    pub outer_source: u32,
    /// Where the inner packet begins in the frame.
    pub at: u16,
    /// Its length.
    pub total: u16,
    /// Its header checksum as received.
    pub checksum: u16,
    /// Its protocol.
    pub protocol: u8,
    /// Its time to live.
    pub ttl: u8,
    /// Its type of service as received.
    pub received_tos: u8,
    /// Its type of service after decapsulation.
    pub tos: u8,
    /// TCP's flags; else 0.
    pub tcp_flags: u8,
    /// Type of ICMP; else 0.
    pub icmp_type: u8,
    /// It may not be fragmented.
    pub dont_fragment: bool,
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

/// A packet in GRE to `address`; `None` if anything about it is unusual or wrong.
#[inline(always)]
pub fn in_gre(frame: &[u8], original: u32, address: u32) -> Option<Usual> {
    let head: &[u8; INNER_IN_GRE + LEAST] = frame.first_chunk()?;
    let carried = usize::from(be16(head, 16)) + INNER_PLAIN;
    let usual = (be32(head, 12) >> 8 == 0x0008_0045)
        & (be16(head, 20) & 0x3fff == 0)
        & (head[23] == protocol::GRE)
        & (be32(head, 30) == address)
        // Version 0, a key, no checksum, sequence or routing; bits 6 to 12 say nothing.
        & (be32(head, 34) & !0x03f8_0000 == 0x2000_0800)
        & (carried <= frame.len())
        & (frame.len() as u64 >= u64::from(original))
        & checksum::is_right_v4(head, 14);
    let mut packet = inner::<INNER_IN_GRE>(frame, carried, head[15] & 3)?;
    packet.key = be32(head, 38);
    packet.outer_source = be32(head, 26);
    usual.then_some(packet)
}

/// A plain packet that is not to `address`; `None` if anything about it is unusual or wrong.
#[inline(always)]
pub fn plain(frame: &[u8], original: u32, address: u32) -> Option<Usual> {
    let head: &[u8; INNER_PLAIN + LEAST] = frame.first_chunk()?;
    let usual = (be16(head, 12) == 0x0800)
        & (be32(head, 30) != address)
        & (frame.len() as u64 >= u64::from(original));
    let packet = inner::<INNER_PLAIN>(frame, frame.len(), head[15] & 3)?;
    usual.then_some(packet)
}

/// Step 5 for a packet at a fixed place, of which the frame carries what is before `carried`.
#[inline(always)]
fn inner<const AT: usize>(frame: &[u8], carried: usize, outer_ecn: u8) -> Option<Usual> {
    let head: &[u8; LEAST] = frame.get(AT..)?.first_chunk()?;
    let (total, bits, protocol, tos) = (be16(head, 2), be16(head, 6), head[9], head[1]);
    let ecn = DECAPSULATED[usize::from((tos & 3) << 2 | outer_ecn & 3)];
    let is_tcp = protocol == protocol::TCP;
    let least = if is_tcp { 40 } else { LEAST };
    let (mut ports, mut icmp_type, mut known) = (be32(head, 20), 0, is_tcp | (protocol == protocol::UDP));
    if protocol == protocol::ICMP {
        icmp_type = head[20];
        ports = u32::from(be16(head, 24)) * 0x1_0001;
        known = matches!(icmp_type, 0 | 8);
    }
    // Of a TCP packet that is long enough the flags are there.
    let flags = frame.get(AT + 33).copied().unwrap_or(0);
    let usual = known
        & (head[0] == 0x45)
        & (bits & 0x3fff == 0)
        & (usize::from(total) >= least)
        & (AT + usize::from(total) <= carried)
        & (ecn & 0x80 == 0)
        & checksum::is_right_v4(head, 0);
    usual.then_some(Usual {
        source: be32(head, 12),
        destination: be32(head, 16),
        ports,
        key: 0,
        outer_source: 0,
        at: AT as u16,
        total,
        checksum: be16(head, 10),
        protocol,
        ttl: head[8],
        received_tos: tos,
        tos: tos & !3 | ecn & 3,
        tcp_flags: if is_tcp { flags } else { 0 },
        icmp_type,
        dont_fragment: bits & 0x4000 != 0,
    })
}

impl Usual {
    /// True of a TCP segment that may change the state of its flow.
    #[inline(always)]
    pub fn changes_state(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) != 0
    }
}
