//! Whole packets for probes, examples and tests. The only place that uses etherparse.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::{ethernet, gre, ip, protocol};

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

/// An Ethernet frame around an IP packet, with MAC addresses made of its addresses.
pub fn plain_frame(packet: &[u8]) -> Vec<u8> {
    let ipv4 = packet.first().is_some_and(|b| b >> 4 == 4);
    let destination = ip::destination(packet, ipv4).unwrap_or(IpAddr::from([0; 4]));
    let mut frame = Vec::with_capacity(ethernet::HEADER + packet.len());
    put_ethernet(&mut frame, ethernet::mac_of(destination), [2, 0, 0, 0, 0, 0], ipv4);
    frame.extend_from_slice(packet);
    frame
}

/// The frame that carries an IP packet in GRE with this key (as on the wire) from one underlay address to another: in
/// NVGRE, with this inner source MAC address, if one is given. `None` if the families of the addresses differ.
pub fn gre_frame(
    from: IpAddr,
    to: IpAddr,
    key: u32,
    inner_mac: Option<[u8; 6]>,
    packet: &[u8],
) -> Option<Vec<u8>> {
    let inner = inner_mac.map_or(0, |_| ethernet::HEADER);
    let ipv4 = packet.first().is_some_and(|b| b >> 4 == 4);
    let payload = 8 + inner + packet.len();
    let mut frame = Vec::with_capacity(ethernet::HEADER + 40 + payload);
    put_ethernet(&mut frame, ethernet::mac_of(to), ethernet::mac_of(from), to.is_ipv4());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip::emit_v4(&mut frame, from, to, protocol::GRE, 0, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip::emit_v6(&mut frame, from, to, protocol::GRE, 0, payload),
        _ => return None,
    }
    let carried = if ipv4 { ethernet::IPV4 } else { ethernet::IPV6 };
    gre::emit(&mut frame, if inner > 0 { gre::ETHERNET } else { carried }, key, false);
    if let Some(mac) = inner_mac {
        put_ethernet(&mut frame, [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc], mac, ipv4);
    }
    frame.extend_from_slice(packet);
    Some(frame)
}

fn put_ethernet(out: &mut Vec<u8>, destination: [u8; 6], source: [u8; 6], ipv4: bool) {
    out.extend_from_slice(&destination);
    out.extend_from_slice(&source);
    out.extend_from_slice(&(if ipv4 { ethernet::IPV4 } else { ethernet::IPV6 }).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn built_frames_parse() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let (c, d): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for (from, to, inner) in [(a, b, (c, d)), (c, d, (a, b))] {
            let packet =
                ip_packet(inner.0, inner.1, Transport::Udp { source: 1, destination: 2 }, b"x").unwrap();
            let link = ethernet::parse(&plain_frame(&packet)).unwrap();
            assert_eq!(link.ether_type == ethernet::IPV4, inner.0.is_ipv4());
            for mac in [None, Some([2, 0, 0, 0, 0, 9])] {
                let frame = gre_frame(from, to, 0x0001_0000, mac, &packet).unwrap();
                let link = ethernet::parse(&frame).unwrap();
                let outer = ip::parse_outer(&frame[link.payload..], from.is_ipv4()).unwrap();
                let header = gre::parse(&frame[link.payload + outer.payload..]).unwrap();
                assert_eq!((outer.source, header.key), (from, 0x0001_0000));
                assert_eq!(header.protocol == gre::ETHERNET, mac.is_some());
                assert!(frame.ends_with(&packet));
            }
        }
        assert_eq!(gre_frame(a, d, 1, None, &[]), None);
    }
}
