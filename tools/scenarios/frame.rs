//! Frames around customer packets: Ethernet, the outer header, GRE, and the faults that stories put into them.

use std::net::IpAddr;

use clearway::wire::checksum;

use crate::packet::Packet;

/// Bytes of the Ethernet header in front of everything.
const ETHERNET: usize = 14;
/// The source MAC address of inner frames that come from Clearway.
pub const INNER_ROUTER: [u8; 6] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];

/// The tunnel header of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Who sends it.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// The key, as on the wire.
    pub key: u32,
    /// The sequence number.
    pub sequence: Option<u32>,
    /// NVGRE: destination and source of the inner frame.
    pub inner_macs: Option<([u8; 6], [u8; 6])>,
}

/// A frame as a port sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes as captured.
    pub bytes: Vec<u8>,
    /// How long it was before it was captured.
    pub original: u32,
}

/// A locally administered MAC address from the last four bytes of an address.
pub fn mac_of(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(a) => (a.to_bits() as u32).to_be_bytes(),
    };
    [2, 0, a, b, c, d]
}

fn ether_type(v4: bool) -> [u8; 2] {
    if v4 { [0x08, 0x00] } else { [0x86, 0xdd] }
}

impl Frame {
    /// A packet on its own.
    pub fn plain(to: [u8; 6], from: [u8; 6], packet: &Packet) -> Frame {
        Frame::of([&to[..], &from, &ether_type(packet.is_v4()), &packet.bytes].concat())
    }

    /// A packet in GRE.
    pub fn tunnelled(to: [u8; 6], from: [u8; 6], outer: Outer, packet: &Packet) -> Frame {
        let inner_type = ether_type(packet.is_v4());
        let flags = if outer.sequence.is_some() { 0x30 } else { 0x20 };
        let mut gre = vec![flags, 0];
        gre.extend(if outer.inner_macs.is_some() { [0x65, 0x58] } else { inner_type });
        gre.extend(outer.key.to_be_bytes());
        gre.extend(outer.sequence.iter().flat_map(|s| s.to_be_bytes()));
        if let Some((destination, source)) = outer.inner_macs {
            gre.extend([&destination[..], &source, &inner_type].concat());
        }
        gre.extend(&packet.bytes);
        let mut bytes = [&to[..], &from, &ether_type(outer.to.is_ipv4())].concat();
        match (outer.from, outer.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend([0x45, outer.tos, 0, 0, 0, 0, 0x40, 0, 64, 47, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend([0x60 | outer.tos >> 4, outer.tos << 4, 0, 0, 0, 0, 47, 64]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
            }
            _ => unreachable!("both ends of a tunnel are of one family"),
        }
        bytes.extend(gre);
        let mut frame = Frame::of(bytes);
        frame.fix_outer();
        frame
    }

    /// Any bytes.
    pub fn of(bytes: Vec<u8>) -> Frame {
        Frame { original: bytes.len() as u32, bytes }
    }

    /// With a VLAN tag in front of those it has.
    pub fn tagged(mut self, kind: u16, vlan: u16) -> Frame {
        let tag = [kind.to_be_bytes(), vlan.to_be_bytes()].concat();
        self.bytes.splice(12..12, tag);
        Frame::of(self.bytes)
    }

    /// Captured only to this length.
    pub fn captured_to(mut self, bytes: usize) -> Frame {
        self.bytes.truncate(bytes);
        self
    }

    /// With bytes behind the outer packet.
    pub fn padded(mut self, bytes: usize) -> Frame {
        self.bytes.resize(self.bytes.len() + bytes, 0xee);
        Frame::of(self.bytes)
    }

    /// With changed bytes from the outer header on; nothing is put right afterwards.
    pub fn broken(mut self, edit: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut packet = self.bytes.split_off(ETHERNET);
        edit(&mut packet);
        self.bytes.extend(packet);
        Frame::of(self.bytes)
    }

    /// With changed bytes from the outer header on; the outer checksum is put right afterwards.
    pub fn outer(self, edit: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut frame = self.broken(edit);
        frame.fix_checksum();
        frame
    }

    /// With changed bytes from the GRE header on; the outer length and checksum are put right afterwards.
    pub fn gre(self, edit: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let at = if self.bytes[ETHERNET] >> 4 == 4 { 20 } else { 40 };
        let mut frame = self.broken(|packet| {
            let mut gre = packet.split_off(at);
            edit(&mut gre);
            packet.extend(gre);
        });
        frame.fix_outer();
        frame
    }

    /// With a sequence number behind the key.
    pub fn numbered(self, sequence: u32) -> Frame {
        self.gre(|gre| {
            gre[0] |= 0x10;
            gre.splice(8..8, sequence.to_be_bytes());
        })
    }

    /// With a right GRE checksum.
    pub fn summed(self) -> Frame {
        self.gre(|gre| {
            gre[0] |= 0x80;
            gre.splice(4..4, [0; 4]);
            let sum = checksum::of(gre);
            gre[4..6].copy_from_slice(&sum.to_be_bytes());
        })
    }

    /// With the same key in NVGRE, another flow of it.
    pub fn flow_id(self, flow: u8) -> Frame {
        self.gre(|gre| gre[7] = flow)
    }

    fn fix_outer(&mut self) {
        let packet = &mut self.bytes[ETHERNET..];
        let length = packet.len();
        match packet[0] >> 4 {
            4 => packet[2..4].copy_from_slice(&(length as u16).to_be_bytes()),
            _ => packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes()),
        }
        self.fix_checksum();
    }

    fn fix_checksum(&mut self) {
        let packet = &mut self.bytes[ETHERNET..];
        if packet[0] >> 4 == 4 {
            let header = (usize::from(packet[0] & 15) * 4).min(packet.len());
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..header]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}
