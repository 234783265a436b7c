//! Ethernet with up to two VLAN tags (802.1Q, 802.1ad).
//!
//! ```text
//!  6 destination | 6 source | (2 type 0x8100/0x88a8 | 2 tag) x 0..2 | 2 EtherType | payload
//! ```

use super::be16;

/// Length of an untagged header.
pub const HEADER: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// What stands in front of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The EtherType behind the tags; a VLAN type if there is a third tag.
    pub ether_type: u16,
    /// Where the payload begins.
    pub payload: usize,
}

/// True of the EtherTypes of both tags.
#[inline]
pub fn is_vlan(ether_type: u16) -> bool {
    matches!(ether_type, VLAN | SERVICE_VLAN)
}

/// Reads the header and at most two tags; `None` if the frame ends inside them.
#[inline]
pub fn parse(frame: &[u8]) -> Option<Link> {
    let mut payload = HEADER;
    for _ in 0..3 {
        if frame.len() < payload {
            return None;
        }
        let ether_type = be16(frame, payload - 2);
        if !is_vlan(ether_type) || payload == HEADER + 8 {
            return Some(Link { ether_type, payload });
        }
        payload += 4;
    }
    None
}

/// A locally administered MAC address made of the last four bytes of an IP address.
pub fn mac_of(addr: std::net::IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match addr {
        std::net::IpAddr::V4(a) => a.octets(),
        std::net::IpAddr::V6(a) => (a.to_bits() as u32).to_be_bytes(),
    };
    [0x02, 0x00, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_two_tags_and_stops_at_a_third() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        assert_eq!(parse(&frame), Some(Link { ether_type: IPV4, payload: 14 }));
        assert_eq!(parse(&frame[..13]), None);
        for _ in 0..2 {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        }
        assert_eq!(parse(&frame), Some(Link { ether_type: IPV4, payload: 22 }));
        assert_eq!(parse(&frame[..21]), None);
        frame.splice(12..12, [0x88, 0xa8, 0x00, 0x05]);
        assert_eq!(parse(&frame), Some(Link { ether_type: VLAN, payload: 22 }));
    }
}
