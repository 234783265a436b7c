//! Whole packets for probes, examples and tests. The only place that uses etherparse.

use std::net::IpAddr;

use etherparse::PacketBuilder;

/// What a built packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment with these flag bits.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An echo request (ICMP or ICMPv6, as the addresses are) with this identifier.
    Echo {
        /// Identifier.
        identifier: u16,
    },
    /// An echo reply.
    EchoReply {
        /// Identifier.
        identifier: u16,
    },
    /// Bytes of any other protocol.
    Other {
        /// Protocol number.
        protocol: u8,
    },
}

/// An IP packet with right lengths and checksums, TTL 64; `None` if the families of the addresses differ.
pub fn ip_packet(
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let builder = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), 64),
        _ => return None,
    };
    let mut out = Vec::with_capacity(128 + payload.len());
    let written = match transport {
        Transport::Tcp { source, destination, flags } => {
            let mut header = etherparse::TcpHeader::new(source, destination, 1, 65_535);
            header.fin = flags & 1 != 0;
            header.syn = flags & 2 != 0;
            header.rst = flags & 4 != 0;
            header.psh = flags & 8 != 0;
            header.ack = flags & 16 != 0;
            builder.tcp_header(header).write(&mut out, payload)
        }
        Transport::Udp { source, destination } => builder.udp(source, destination).write(&mut out, payload),
        Transport::Echo { identifier } if destination.is_ipv4() => {
            builder.icmpv4_echo_request(identifier, 1).write(&mut out, payload)
        }
        Transport::Echo { identifier } => builder.icmpv6_echo_request(identifier, 1).write(&mut out, payload),
        Transport::EchoReply { identifier } if destination.is_ipv4() => {
            builder.icmpv4_echo_reply(identifier, 1).write(&mut out, payload)
        }
        Transport::EchoReply { identifier } => {
            builder.icmpv6_echo_reply(identifier, 1).write(&mut out, payload)
        }
        Transport::Other { protocol } => builder.write(&mut out, etherparse::IpNumber(protocol), payload),
    };
    written.ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip;

    #[test]
    fn built_packets_parse() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let (c, d): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let tcp = Transport::Tcp { source: 5, destination: 80, flags: 2 };
        for (s, t) in [(a, b), (c, d)] {
            let p = ip_packet(s, t, tcp, b"x").unwrap();
            let inner = ip::parse_inner(&p, s.is_ipv4()).unwrap();
            assert_eq!((inner.protocol, inner.ports, inner.tcp_flags), (6, (5, 80), 2));
            let p = ip_packet(s, t, Transport::Echo { identifier: 77 }, b"").unwrap();
            assert_eq!(ip::parse_inner(&p, s.is_ipv4()).unwrap().ports, (77, 77));
            let p = ip_packet(s, t, Transport::Other { protocol: 50 }, b"12345678").unwrap();
            assert_eq!(ip::parse_inner(&p, s.is_ipv4()).unwrap().protocol, 50);
        }
        assert_eq!(ip_packet(a, d, tcp, b""), None);
    }
}
