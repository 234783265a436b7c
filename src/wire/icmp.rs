//! ICMP errors (RFC 792, RFC 4443): which messages are errors, what they quote, and how one is made.

use std::net::IpAddr;

use super::ip::{self, V4_HEADER, V6_HEADER};
use super::{be16, checksum, protocol};

/// The largest ICMP error we make: RFC 1812 section 4.3.2.3.
const LARGEST_V4: usize = 576;
/// The largest ICMPv6 error: the minimum MTU, RFC 4443 section 2.4.
const LARGEST_V6: usize = 1280;

/// True of messages that an ICMP error is never sent about (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4), redirects
/// included.
#[inline]
pub fn is_error_or_redirect(ipv4: bool, icmp_type: u8) -> bool {
    if ipv4 { matches!(icmp_type, 3 | 4 | 5 | 11 | 12) } else { icmp_type < 128 || icmp_type == 137 }
}

/// True of the errors that may belong to the flow of the packet they quote.
#[inline]
pub fn quotes_a_flow(ipv4: bool, icmp_type: u8) -> bool {
    if ipv4 { matches!(icmp_type, 3 | 4 | 11 | 12) } else { matches!(icmp_type, 1..=4) }
}

/// What an ICMP error says of the packet it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Source of the quoted packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Its ports, as in [`ip::Inner::ports`].
    pub ports: (u16, u16),
}

/// Reads the quoted packet of an ICMP error; `message` begins at the ICMP header. `None` if the quote does not hold its
/// IP header and eight bytes, is a later fragment, or has IPv6 extension headers.
pub fn parse_quote(message: &[u8], ipv4: bool) -> Option<Quote> {
    let quoted = message.get(8..)?;
    let destination = ip::destination(quoted, ipv4)?;
    let number = ip::first_protocol(quoted, ipv4);
    let header = if ipv4 {
        if be16(quoted, 6) & 0x1fff != 0 {
            return None;
        }
        usize::from(quoted[0] & 0x0f) * 4
    } else {
        if matches!(
            number,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS
        ) {
            return None;
        }
        V6_HEADER
    };
    let transport = quoted.get(header..).filter(|t| header >= V4_HEADER && t.len() >= 8)?;
    let ports = match number {
        protocol::TCP | protocol::UDP => (be16(transport, 0), be16(transport, 2)),
        _ if ip::is_icmp(ipv4, number) => {
            let identifier = ip::icmp_identifier(ipv4, transport);
            (identifier, identifier)
        }
        _ => (0, 0),
    };
    let source = source_of(quoted, ipv4);
    Some(Quote { source, destination, protocol: number, ports })
}

fn source_of(packet: &[u8], ipv4: bool) -> IpAddr {
    if ipv4 {
        IpAddr::from(packet.get(12..16).and_then(|b| <[u8; 4]>::try_from(b).ok()).unwrap_or_default())
    } else {
        IpAddr::from(packet.get(8..24).and_then(|b| <[u8; 16]>::try_from(b).ok()).unwrap_or_default())
    }
}

/// The errors we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// ICMP 11/0, ICMPv6 3/0.
    TimeExceeded,
    /// ICMP 3/4, ICMPv6 2/0, with the size that would have passed.
    TooBig {
        /// Bytes of the largest packet that fits.
        mtu: u32,
    },
}

/// The length of the IP packet that [`emit`] appends.
pub fn length(ipv4: bool, offending: usize, room: usize) -> usize {
    let (headers, largest) = if ipv4 { (V4_HEADER + 8, LARGEST_V4) } else { (V6_HEADER + 8, LARGEST_V6) };
    headers + room.min(largest).saturating_sub(headers).min(offending)
}

/// Appends an ICMP error as an IP packet about `offending` (an IP packet as received, without padding), at most `room`
/// bytes long. Nothing is appended if the families differ.
pub fn emit(
    out: &mut Vec<u8>,
    error: Error,
    source: IpAddr,
    destination: IpAddr,
    offending: &[u8],
    room: usize,
) {
    let (kind_v4, kind_v6, word) = match error {
        Error::TimeExceeded => ([11, 0], [3, 0], 0),
        Error::TooBig { mtu } => ([3, 4], [2, 0], mtu),
    };
    let header = if source.is_ipv4() { V4_HEADER } else { V6_HEADER };
    let quoted = length(source.is_ipv4(), offending.len(), room) - header - 8;
    let quote = offending.get(..quoted).unwrap_or(offending);
    let length = 8 + quote.len();
    let (kind, pseudo) = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            ip::emit_v4(out, s, d, protocol::ICMP, 0, length);
            (kind_v4, 0)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            ip::emit_v6(out, s, d, protocol::ICMPV6, 0, length);
            (kind_v6, checksum::pseudo_v6(s, d, length as u32, protocol::ICMPV6))
        }
        _ => return,
    };
    let at = out.len();
    out.extend_from_slice(&kind);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(quote);
    let sum = !checksum::fold(checksum::add(pseudo, &out[at..]));
    out[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_what_it_is_about() {
        for ipv4 in [true, false] {
            let addr = |n: u8| -> IpAddr {
                if ipv4 { IpAddr::from([10, 0, 0, n]) } else { format!("fd00::{n}").parse().unwrap() }
            };
            let mut offending = Vec::new();
            match (addr(1), addr(2)) {
                (IpAddr::V4(s), IpAddr::V4(d)) => ip::emit_v4(&mut offending, s, d, 17, 0, 2000),
                (IpAddr::V6(s), IpAddr::V6(d)) => ip::emit_v6(&mut offending, s, d, 17, 0, 2000),
                _ => unreachable!("one family"),
            }
            offending.extend([0, 7, 0, 9]);
            offending.resize(offending.len() + 1996, 0);
            let mut out = Vec::new();
            emit(&mut out, Error::TooBig { mtu: 1400 }, addr(9), addr(1), &offending, 1400);
            assert_eq!(out.len(), if ipv4 { 576 } else { 1280 });
            assert_eq!(out.len(), length(ipv4, offending.len(), 1400));
            let inner = ip::parse_inner(&out, ipv4).unwrap();
            let message = &out[inner.transport as usize..];
            let quote = parse_quote(message, ipv4).unwrap();
            assert_eq!(
                (quote.source, quote.destination, quote.protocol, quote.ports),
                (addr(1), addr(2), 17, (7, 9))
            );
            let short = usize::from(inner.header) + 8 + 7;
            assert_eq!(parse_quote(&message[..short], ipv4), None);
            assert!(is_error_or_redirect(ipv4, inner.icmp_type) && quotes_a_flow(ipv4, inner.icmp_type));
            let sum = match (addr(9), addr(1)) {
                (IpAddr::V6(s), IpAddr::V6(d)) => checksum::pseudo_v6(s, d, message.len() as u32, 58),
                _ => 0,
            };
            assert_eq!(checksum::fold(checksum::add(sum, message)), 0xffff);
        }
    }
}
