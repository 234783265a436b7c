//! Answers to who asks for the MAC address of an IP address of ours: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{be16, checksum, ethernet, ip, protocol};

/// EtherType of ARP.
const ARP: u16 = 0x0806;
/// Ethernet and IPv4 addresses, of 6 and 4 bytes; behind it, what is asked.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: [u8; 2] = [0, 2];

const V6_HEADER: usize = 40;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// A message with its target, and no options.
const MESSAGE: usize = 24;
/// The option with the MAC address of the target, in units of 8 bytes.
const TARGET_LINK_LAYER: [u8; 2] = [2, 1];
/// Neighbours take no message that a router has passed on.
const HOP_LIMIT: u8 = 255;
/// A router, asked; what was known before is wrong.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The frame that says that `address` is at `mac`, if a frame without VLAN tags asks for it.
pub fn answer(frame: &[u8], address: IpAddr, mac: [u8; 6]) -> Option<Vec<u8>> {
    let (kind, packet) = (be16(frame, 12), frame.get(ethernet::HEADER..)?);
    let who = *frame.get(6..)?.first_chunk::<6>()?;
    match address {
        IpAddr::V4(address) if kind == ARP => answer_arp(packet, who, address, mac),
        IpAddr::V6(address) if kind == ethernet::IPV6 => answer_solicitation(packet, who, address, mac),
        _ => None,
    }
}

fn answer_arp(packet: &[u8], who: [u8; 6], address: Ipv4Addr, mac: [u8; 6]) -> Option<Vec<u8>> {
    let asked = *packet.first_chunk::<28>()?;
    if asked[..6] != ARP_KIND || be16(&asked, 6) != REQUEST || asked[24..] != address.octets() {
        return None;
    }
    // Who asks whether somebody has the address already says none of its own; it is told all the same (RFC 5227).
    let (mac_and_address, asking) = ([&mac[..], &address.octets()].concat(), &asked[8..18]);
    let ethernet = [&who[..], &mac, &ARP.to_be_bytes()].concat();
    Some([&ethernet, &ARP_KIND[..], &REPLY, &mac_and_address, asking].concat())
}

fn answer_solicitation(packet: &[u8], who: [u8; 6], address: Ipv6Addr, mac: [u8; 6]) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<V6_HEADER>()?;
    let length = usize::from(be16(header, 4));
    let message = packet.get(V6_HEADER..V6_HEADER + length)?;
    let is_solicitation = header[0] >> 4 == 6
        && header[6] == protocol::ICMPV6
        && header[7] == HOP_LIMIT
        && message.len() >= MESSAGE
        && message[..2] == [SOLICITATION, 0]
        && message[8..MESSAGE] == address.octets();
    let source = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
    let sum = checksum::pseudo_v6(source, destination, length as u32, protocol::ICMPV6);
    if !is_solicitation || checksum::fold(checksum::add(sum, message)) != 0xffff {
        return None;
    }
    // Who asks whether somebody has the address already has none of its own: all are told (RFC 4861 section 7.2.4).
    let (to, to_mac, flags) = if source.is_unspecified() {
        (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1], ROUTER | OVERRIDE)
    } else {
        (source, who, ROUTER | SOLICITED | OVERRIDE)
    };
    let message =
        [&[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0][..], &address.octets(), &TARGET_LINK_LAYER, &mac].concat();
    let sum = checksum::pseudo_v6(address, to, message.len() as u32, protocol::ICMPV6);
    let sum = !checksum::fold(checksum::add(sum, &message));
    let mut frame = [&to_mac[..], &mac, &ethernet::IPV6.to_be_bytes()].concat();
    ip::emit_v6(&mut frame, address, to, protocol::ICMPV6, 0, message.len());
    frame.extend_from_slice(&message);
    for (at, byte) in [(21, HOP_LIMIT), (56, sum.to_be_bytes()[0]), (57, sum.to_be_bytes()[1])] {
        *frame.get_mut(at)? = byte;
    }
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 203, 0, 113, 2];
    const ASKING: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    /// The frame that these hexadecimal digits say.
    fn frame(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn v4() -> IpAddr {
        IpAddr::from([203, 0, 113, 2])
    }

    fn v6() -> IpAddr {
        "2001:db8:3::2".parse().unwrap()
    }

    /// What a kernel asks for 203.0.113.2 from 203.0.113.1.
    fn request() -> Vec<u8> {
        frame(
            "ffffffffffff 525400010203 0806 0001 0800 06 04 0001 525400010203 cb007101 000000000000 cb007102",
        )
    }

    /// What a kernel asks for 2001:db8:3::2 from `source`, with a checksum made here.
    fn solicitation(source: &str, target: &str, hop_limit: u8) -> Vec<u8> {
        let (source, target): (Ipv6Addr, Ipv6Addr) = (source.parse().unwrap(), target.parse().unwrap());
        let group: Ipv6Addr = "ff02::1:ff00:2".parse().unwrap();
        let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        if !source.is_unspecified() {
            message.extend([&[1, 1][..], &ASKING].concat());
        }
        let sum = checksum::pseudo_v6(source, group, message.len() as u32, protocol::ICMPV6);
        let sum = !checksum::fold(checksum::add(sum, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&[0x33, 0x33, 0xff, 0, 0, 2][..], &ASKING, &[0x86, 0xdd]].concat();
        ip::emit_v6(&mut frame, source, group, protocol::ICMPV6, 0, message.len());
        frame[21] = hop_limit;
        frame.extend(message);
        frame
    }

    #[test]
    fn an_arp_request_for_our_address_is_answered_to_who_asks() {
        let said = "525400010203 0200cb007102 0806 0001 0800 06 04 0002 \
                    0200cb007102 cb007102 525400010203 cb007101";
        assert_eq!(answer(&request(), v4(), OURS), Some(frame(said)));
        // Padded as on a wire, and from somebody who has no address yet.
        let mut probe = request();
        probe.resize(60, 0);
        probe[28..32].fill(0);
        let told = answer(&probe, v4(), OURS).unwrap();
        assert_eq!((told.len(), &told[38..42]), (42, &[0; 4][..]));
    }

    #[test]
    fn other_arp_is_left_alone() {
        assert_eq!(answer(&request(), IpAddr::from([203, 0, 113, 3]), OURS), None);
        assert_eq!(answer(&request(), v6(), OURS), None);
        for (at, to) in [(13, 0), (15, 6), (17, 1), (18, 8), (19, 6), (21, 2), (21, 3)] {
            let mut other = request();
            other[at] = to;
            assert_eq!(answer(&other, v4(), OURS), None, "byte {at} is {to}");
        }
        for length in 0..request().len() {
            assert_eq!(answer(&request()[..length], v4(), OURS), None);
        }
    }

    #[test]
    fn a_solicitation_of_our_address_is_answered() {
        for (source, to, mac, flags) in [
            ("2001:db8:3::1", "2001:db8:3::1", ASKING, 0xe0),
            ("fe80::1", "fe80::1", ASKING, 0xe0),
            ("::", "ff02::1", [0x33, 0x33, 0, 0, 0, 1], 0xa0),
        ] {
            let told = answer(&solicitation(source, "2001:db8:3::2", 255), v6(), OURS).unwrap();
            let to: Ipv6Addr = to.parse().unwrap();
            assert_eq!(told.len(), 14 + 40 + 32, "{source}");
            assert_eq!((&told[..6], &told[6..12], &told[12..14]), (&mac[..], &OURS[..], &[0x86, 0xdd][..]));
            assert_eq!(told[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
            let IpAddr::V6(ours) = v6() else { unreachable!("it is") };
            assert_eq!((&told[22..38], &told[38..54]), (&ours.octets()[..], &to.octets()[..]));
            let message = &told[54..];
            assert_eq!(
                (&message[..2], message[4], &message[8..24]),
                (&[136, 0][..], flags, &ours.octets()[..])
            );
            assert_eq!((&message[24..26], &message[26..]), (&[2, 1][..], &OURS[..]));
            let sum = checksum::pseudo_v6(ours, to, 32, protocol::ICMPV6);
            assert_eq!(checksum::fold(checksum::add(sum, message)), 0xffff);
        }
    }

    #[test]
    fn other_discovery_is_left_alone() {
        let right = solicitation("2001:db8:3::1", "2001:db8:3::2", 255);
        assert!(answer(&right, v6(), OURS).is_some());
        assert_eq!(answer(&solicitation("2001:db8:3::1", "2001:db8:3::3", 255), v6(), OURS), None);
        assert_eq!(answer(&solicitation("2001:db8:3::1", "2001:db8:3::2", 64), v6(), OURS), None);
        assert_eq!(answer(&right, v4(), OURS), None);
        for length in 0..right.len() {
            assert_eq!(answer(&right[..length], v6(), OURS), None, "{length}");
        }
        // A byte that is wrong is seen by the checksum, or is one of those that are looked at.
        for at in (12..14).chain(20..right.len()) {
            let mut other = right.clone();
            other[at] ^= 1;
            assert_eq!(answer(&other, v6(), OURS), None, "byte {at}");
        }
    }
}
