//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, their fragments and extension headers, and the transport fields that
//! rules and flow records look at.
//!
//! ```text
//!  IPv4: |ver|ihl|tos|total length| id |flags+offset| ttl|proto|checksum| source | destination | options
//!  IPv6: |ver|traffic class|flow label| payload length |next header|hop limit| source (16) | destination (16) | extensions
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{be16, be32, checksum, protocol};
use crate::packet::Reason;

/// Length of an IPv4 header without options.
pub const V4_HEADER: usize = 20;
/// Length of an IPv6 header.
pub const V6_HEADER: usize = 40;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

/// The checked delivery header of a GRE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The tunnel end that sent it.
    pub source: IpAddr,
    /// Explicit congestion notification, two bits.
    pub ecn: u8,
    /// Where the GRE header begins, from the begin of the IP header.
    pub payload: usize,
    /// Where the IP packet ends.
    pub end: usize,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification: 16 bits of IPv4, 32 of IPv6.
    pub identification: u32,
    /// The protocol that all pieces of the datagram name: of IPv6, the next header of the fragment header.
    pub protocol: u8,
}

impl Fragment {
    /// True of every piece but the first.
    #[inline]
    pub fn is_later(&self) -> bool {
        self.offset > 0
    }
}

/// A checked customer packet: what the path needs of its headers. Offsets count from the begin of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Source address.
    pub source: IpAddr,
    /// Destination address; of the same family.
    pub destination: IpAddr,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// Length of the IP packet; bytes behind it are padding.
    pub total: u32,
    /// IPv4: header length with options. IPv6: 40.
    pub header: u8,
    /// Where the transport header, or the payload of a later fragment, begins.
    pub transport: u32,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4's don't-fragment; always of IPv6.
    pub dont_fragment: bool,
    /// Present if the packet is a piece of a datagram.
    pub fragment: Option<Fragment>,
    /// Ports of TCP and UDP; the identifier twice of ICMP queries that have one; else 0.
    pub ports: (u16, u16),
    /// TCP's flags; else 0.
    pub tcp_flags: u8,
    /// Type of ICMP and ICMPv6, when `is_icmp`.
    pub icmp_type: u8,
}

impl Inner {
    /// True of every piece of a datagram but the first.
    #[inline]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.is_later())
    }

    /// True of ICMP in IPv4 and ICMPv6 in IPv6.
    #[inline]
    pub fn is_icmp(&self) -> bool {
        is_icmp(self.source.is_ipv4(), self.protocol)
    }

    /// The `(source, destination)` ports as one number, as `table::ecmp` takes it.
    #[inline]
    pub fn ports_as_number(&self) -> u32 {
        u32::from(self.ports.0) << 16 | u32::from(self.ports.1)
    }
}

/// True of ICMP in IPv4 and ICMPv6 in IPv6.
#[inline]
pub fn is_icmp(ipv4: bool, protocol: u8) -> bool {
    protocol == if ipv4 { protocol::ICMP } else { protocol::ICMPV6 }
}

#[inline]
fn v4_addr(packet: &[u8], at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(be32(packet, at)))
}

#[inline]
fn v6_addr(packet: &[u8], at: usize) -> IpAddr {
    let octets = packet.get(at..at + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()).unwrap_or_default();
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// The destination of a packet of the family its EtherType says; `None` if it is too short or of another version.
#[inline]
pub fn destination(packet: &[u8], ipv4: bool) -> Option<IpAddr> {
    let (version, header) = if ipv4 { (4, V4_HEADER) } else { (6, V6_HEADER) };
    if packet.len() < header || packet[0] >> 4 != version {
        return None;
    }
    Some(if ipv4 { v4_addr(packet, 16) } else { v6_addr(packet, 24) })
}

/// The protocol number, or the first next header, of a packet that [`destination`] accepted.
#[inline]
pub fn first_protocol(packet: &[u8], ipv4: bool) -> u8 {
    packet.get(if ipv4 { 9 } else { 6 }).copied().unwrap_or(0)
}

/// True of an IPv6 packet whose payload is neighbour discovery (RFC 4861): ICMPv6 types 133 to 137.
pub fn is_neighbour_discovery(packet: &[u8]) -> bool {
    match walk_extensions(packet, packet.len()) {
        Some(chain)
            if chain.protocol == protocol::ICMPV6 && !chain.fragment.is_some_and(|f| f.is_later()) =>
        {
            packet.get(chain.transport).is_some_and(|t| (133..=137).contains(t))
        }
        _ => false,
    }
}

/// Checks the delivery header of a packet that [`destination`] accepted (contract section 3, step 2).
pub fn parse_outer(packet: &[u8], ipv4: bool) -> Result<Outer, Reason> {
    if ipv4 {
        let header = usize::from(packet[0] & 0x0f) * 4;
        let end = usize::from(be16(packet, 2));
        if header < V4_HEADER || end < header || end > packet.len() || !checksum::is_right(&packet[..header])
        {
            return Err(Reason::OuterMalformed);
        }
        if be16(packet, 6) & (MORE_FRAGMENTS | OFFSET) != 0 {
            return Err(Reason::OuterFragment);
        }
        if packet[9] != protocol::GRE {
            return Err(Reason::NotGre);
        }
        return Ok(Outer { source: v4_addr(packet, 12), ecn: packet[1] & 3, payload: header, end });
    }
    let end = V6_HEADER + usize::from(be16(packet, 4));
    if end > packet.len() {
        return Err(Reason::OuterMalformed);
    }
    match packet[6] {
        protocol::FRAGMENT => Err(Reason::OuterFragment),
        protocol::GRE => {
            let ecn = (packet[1] >> 4) & 3;
            Ok(Outer { source: v6_addr(packet, 8), ecn, payload: V6_HEADER, end })
        }
        _ => Err(Reason::NotGre),
    }
}

/// Checks a customer packet of the given family; `packet` may have padding behind it. Every fault is `inner-malformed`
/// (contract section 3, step 5).
pub fn parse_inner(packet: &[u8], ipv4: bool) -> Option<Inner> {
    let mut inner = if ipv4 { parse_inner_v4(packet)? } else { parse_inner_v6(packet)? };
    let payload = packet.get(inner.transport as usize..inner.total as usize)?;
    if let Some(f) = inner.fragment
        && usize::from(f.offset) * 8 + payload.len() > 65_535
    {
        return None;
    }
    if !inner.is_later_fragment() {
        read_transport(&mut inner, payload)?;
    }
    Some(inner)
}

fn parse_inner_v4(packet: &[u8]) -> Option<Inner> {
    let destination = destination(packet, true)?;
    let header = usize::from(packet[0] & 0x0f) * 4;
    let total = be16(packet, 2);
    if header < V4_HEADER || usize::from(total) < header || usize::from(total) > packet.len() {
        return None;
    }
    if !checksum::is_right(&packet[..header]) {
        return None;
    }
    let bits = be16(packet, 6);
    let fragment = (bits & (MORE_FRAGMENTS | OFFSET) != 0).then(|| Fragment {
        offset: bits & OFFSET,
        more: bits & MORE_FRAGMENTS != 0,
        identification: u32::from(be16(packet, 4)),
        protocol: packet[9],
    });
    Some(Inner {
        source: v4_addr(packet, 12),
        destination,
        protocol: packet[9],
        total: u32::from(total),
        header: header as u8,
        transport: header as u32,
        tos: packet[1],
        ttl: packet[8],
        dont_fragment: bits & DONT_FRAGMENT != 0,
        fragment,
        ports: (0, 0),
        tcp_flags: 0,
        icmp_type: 0,
    })
}

fn parse_inner_v6(packet: &[u8]) -> Option<Inner> {
    let destination = destination(packet, false)?;
    let total = V6_HEADER + usize::from(be16(packet, 4));
    if total > packet.len() {
        return None;
    }
    let chain = walk_extensions(packet, total)?;
    Some(Inner {
        source: v6_addr(packet, 8),
        destination,
        protocol: chain.protocol,
        total: total as u32,
        header: V6_HEADER as u8,
        transport: chain.transport as u32,
        tos: (be16(packet, 0) >> 4) as u8,
        ttl: packet[7],
        dont_fragment: true,
        fragment: chain.fragment,
        ports: (0, 0),
        tcp_flags: 0,
        icmp_type: 0,
    })
}

struct Chain {
    protocol: u8,
    transport: usize,
    fragment: Option<Fragment>,
}

/// Walks hop-by-hop, routing, destination options and fragment headers; `None` if one does not fit before `end`.
/// A fragment header with offset 0 and no more fragments is no fragment (RFC 6946).
fn walk_extensions(packet: &[u8], end: usize) -> Option<Chain> {
    let packet = packet.get(..end)?;
    let mut chain = Chain { protocol: *packet.get(6)?, transport: V6_HEADER, fragment: None };
    loop {
        let length = match chain.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                (usize::from(*packet.get(chain.transport + 1)?) + 1) * 8
            }
            protocol::FRAGMENT => 8,
            _ => return Some(chain),
        };
        let header = packet.get(chain.transport..chain.transport + length)?;
        let is_fragment = chain.protocol == protocol::FRAGMENT;
        chain.protocol = header[0];
        chain.transport += length;
        let bits = be16(header, 2);
        if is_fragment && bits & 0xfff9 != 0 {
            let fragment = Fragment {
                offset: bits >> 3,
                more: bits & 1 != 0,
                identification: be32(header, 4),
                protocol: header[0],
            };
            chain.fragment = Some(fragment);
            if fragment.is_later() {
                return Some(chain);
            }
        }
    }
}

/// Reads ports, flags and types of an unfragmented packet or a first fragment; `None` if its header is cut short.
/// A first fragment of TCP may be short here: that is `fragment-tiny`, not malformed.
#[inline]
fn read_transport(inner: &mut Inner, payload: &[u8]) -> Option<()> {
    match inner.protocol {
        protocol::TCP => {
            if inner.fragment.is_none() && payload.len() < 20 {
                return None;
            }
            inner.ports = (be16(payload, 0), be16(payload, 2));
            inner.tcp_flags = payload.get(13).copied().unwrap_or(0);
        }
        protocol::UDP => {
            if payload.len() < 8 {
                return None;
            }
            inner.ports = (be16(payload, 0), be16(payload, 2));
        }
        _ if inner.is_icmp() => {
            if payload.len() < 8 {
                return None;
            }
            inner.icmp_type = payload[0];
            let identifier = icmp_identifier(inner.source.is_ipv4(), payload);
            inner.ports = (identifier, identifier);
        }
        _ => {}
    }
    Some(())
}

/// The identifier of an echo or timestamp message, else 0.
#[inline]
pub fn icmp_identifier(ipv4: bool, message: &[u8]) -> u16 {
    let has_one = matches!((ipv4, message.first()), (true, Some(0 | 8 | 13 | 14)) | (false, Some(128 | 129)));
    if has_one { be16(message, 4) } else { 0 }
}

/// The congestion bits of a packet after decapsulation (RFC 6040 section 4.2); `None` if it must be dropped.
#[inline]
pub const fn decapsulate_ecn(inner: u8, outer: u8) -> Option<u8> {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const CE: u8 = 3;
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (_, ECT1) => Some(ECT1),
        (inner, _) => Some(inner),
    }
}

/// Writes an IPv4 header of 20 bytes: don't-fragment, identification 0, TTL 64, right checksum.
pub fn emit_v4(
    out: &mut Vec<u8>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    tos: u8,
    payload: usize,
) {
    let start = out.len();
    out.extend_from_slice(&[0x45, tos]);
    out.extend_from_slice(&((V4_HEADER + payload) as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
    write_v4_checksum(&mut out[start..], V4_HEADER);
}

/// Writes an IPv6 header: flow label 0, hop limit 64.
pub fn emit_v6(
    out: &mut Vec<u8>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    tos: u8,
    payload: usize,
) {
    out.extend_from_slice(&[0x60 | tos >> 4, tos << 4, 0, 0]);
    out.extend_from_slice(&(payload as u16).to_be_bytes());
    out.extend_from_slice(&[protocol, 64]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
}

/// Puts the right checksum into an IPv4 header of `header` bytes.
#[inline]
pub fn write_v4_checksum(packet: &mut [u8], header: usize) {
    if let Some(header) = packet.get_mut(..header) {
        header[10] = 0;
        header[11] = 0;
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(bits: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut p = Vec::new();
        emit_v4(
            &mut p,
            Ipv4Addr::new(10, 0, 0, 1),
            Ipv4Addr::new(10, 0, 0, 2),
            protocol,
            0xb9,
            payload.len(),
        );
        p[6..8].copy_from_slice(&bits.to_be_bytes());
        write_v4_checksum(&mut p, 20);
        p.extend_from_slice(payload);
        p
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut p = Vec::new();
        emit_v6(&mut p, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, next, 0xb9, payload.len());
        p.extend_from_slice(payload);
        p
    }

    #[test]
    fn reads_ipv4_and_its_transport() {
        let mut tcp = [0u8; 20];
        tcp[..4].copy_from_slice(&[0x12, 0x34, 0x00, 0x50]);
        tcp[13] = tcp_flags_syn();
        let mut p = v4(0x4000, 6, &tcp);
        p.extend([0; 6]);
        let inner = parse_inner(&p, true).unwrap();
        assert_eq!((inner.total, inner.ports, inner.tcp_flags), (40, (0x1234, 80), 2));
        assert_eq!((inner.tos, inner.ttl, inner.dont_fragment, inner.fragment), (0xb9, 64, true, None));
        for cut in 0..40 {
            assert_eq!(parse_inner(&p[..cut], true), None, "{cut}");
        }
        p[8] ^= 1;
        assert_eq!(parse_inner(&p, true), None, "checksum");
        assert_eq!(parse_inner(&v4(0, 6, &[0; 19]), true), None);
        assert_eq!(parse_inner(&v4(0, 17, &[0; 7]), true), None);
        assert_eq!(parse_inner(&v4(0, 1, &[0; 7]), true), None);
        assert!(parse_inner(&v4(0, 58, &[]), true).is_some());
    }

    fn tcp_flags_syn() -> u8 {
        crate::wire::tcp_flags::SYN
    }

    #[test]
    fn reads_fragments_of_both_families() {
        let first = parse_inner(&v4(0x2000, 6, &[0; 8]), true).unwrap();
        assert!(first.fragment.is_some_and(|f| f.more && !f.is_later()));
        assert!(parse_inner(&v4(0x2000, 17, &[0; 7]), true).is_none());
        assert!(parse_inner(&v4(1, 17, &[0; 3]), true).is_some_and(|i| i.is_later_fragment()));
        assert!(parse_inner(&v4(0x1fff, 17, &[0; 7]), true).is_some());
        assert!(parse_inner(&v4(0x1fff, 17, &[0; 8]), true).is_none(), "ends behind 65,535");
        let atomic = v6(44, &[17, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 2, 0, 8, 0, 0]);
        assert_eq!(parse_inner(&atomic, false).map(|i| (i.fragment, i.ports)), Some((None, (1, 2))));
        let later = v6(44, &[17, 0, 0, 8, 0, 0, 0, 9]);
        let f = parse_inner(&later, false).unwrap().fragment.unwrap();
        assert_eq!((f.offset, f.identification, f.protocol), (1, 9, 17));
    }

    #[test]
    fn walks_extension_headers_that_fit() {
        let chain = [43, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 0, 0, 0, 0, 0];
        let mut p = v6(0, &[&chain[..], &[128, 0, 0, 0, 0x12, 0x34, 0, 1]].concat());
        assert_eq!(parse_inner(&p, false).map(|i| (i.protocol, i.ports.0)), Some((58, 0x1234)));
        assert!(!is_neighbour_discovery(&p));
        p[64] = 135;
        assert!(is_neighbour_discovery(&p));
        assert_eq!(parse_inner(&v6(0, &chain[..23]), false), None);
        assert_eq!(parse_inner(&v6(0, &[59, 1, 0, 0, 0, 0, 0, 0]), false), None);
        assert_eq!(parse_inner(&v6(59, &[]), false).map(|i| i.protocol), Some(59));
    }

    #[test]
    fn ecn_is_decapsulated_as_rfc_6040_says() {
        let table = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in table.iter().enumerate() {
            for (outer, expected) in row.iter().enumerate() {
                assert_eq!(decapsulate_ecn(inner as u8, outer as u8), *expected, "{inner} {outer}");
            }
        }
    }
}
