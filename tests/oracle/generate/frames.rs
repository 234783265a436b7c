//! Frames, built from the inside out; every field can be told to be wrong.

use std::net::IpAddr;

use crate::oracle::bytes::{checksum, put_u16};

/// An IP packet before it is bytes.
#[derive(Clone, Debug)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub class: u8,
    pub ttl: u8,
    pub identification: u32,
    pub dont_fragment: bool,
    /// Offset in units of 8 bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    /// IPv4 options, or with `extensions` the IPv6 headers.
    pub options: Vec<u8>,
    /// IPv6 extension headers before the fragment header: next header numbers and contents without the first two bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

impl Ip {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Ip {
        Ip {
            source,
            destination,
            class: 0,
            ttl: 64,
            identification: 0,
            dont_fragment: false,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            protocol,
            payload,
        }
    }

    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.v4(source.octets(), destination.octets()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.v6(source.octets(), destination.octets()),
            _ => panic!("{} to {}: two families in one packet", self.source, self.destination),
        }
    }

    fn v4(&self, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().div_ceil(4) * 4, 0);
        let header = 20 + options.len();
        let (offset, more) = self.fragment.unwrap_or((0, false));
        let df = if self.dont_fragment { 0x4000 } else { 0 };
        let word = df | if more { 0x2000 } else { 0 } | offset & 0x1fff;
        let mut bytes = vec![0x40 | (header / 4) as u8, self.class];
        bytes.extend(((header + self.payload.len()) as u16).to_be_bytes());
        bytes.extend((self.identification as u16).to_be_bytes());
        bytes.extend(word.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(options);
        let sum = checksum(&[&bytes]);
        put_u16(&mut bytes, 10, sum);
        bytes.extend(&self.payload);
        bytes
    }

    fn v6(&self, source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let mut chain: Vec<(u8, Vec<u8>)> = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let mut content = (offset << 3 | u16::from(more)).to_be_bytes().to_vec();
            content.extend(self.identification.to_be_bytes());
            chain.push((44, content));
        }
        let mut body = Vec::new();
        for (i, (number, content)) in chain.iter().enumerate() {
            let next = chain.get(i + 1).map_or(self.protocol, |(n, _)| *n);
            let units = (content.len() + 2).div_ceil(8).max(1);
            let mut header = vec![next, if *number == 44 { 0 } else { (units - 1) as u8 }];
            header.extend(content);
            header.resize(units * 8, 0);
            body.extend(header);
        }
        body.extend(&self.payload);
        let label = [self.class << 4 | (self.identification >> 28) as u8 & 15, 0x12, 0x34];
        let mut bytes = vec![0x60 | self.class >> 4];
        bytes.extend(label);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.push(chain.first().map_or(self.protocol, |(n, _)| *n));
        bytes.push(self.ttl);
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(body);
        bytes
    }

    /// This packet in fragments of at most `size` bytes of payload (a multiple of 8).
    pub fn fragments(&self, size: usize) -> Vec<Ip> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < self.payload.len() {
            let end = (at + size).min(self.payload.len());
            let mut piece = self.clone();
            piece.fragment = Some(((at / 8) as u16, end < self.payload.len()));
            piece.payload = self.payload[at..end].to_vec();
            pieces.push(piece);
            at = end;
        }
        pieces
    }
}

pub fn tcp(ports: (u16, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([0, 0, 1, 2, 0, 0, 3, 4, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(data);
    bytes
}

pub fn udp(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(((8 + data.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    bytes
}

pub fn icmp(icmp_type: u8, code: u8, identifier: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![icmp_type, code, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(data);
    let sum = checksum(&[&bytes]);
    put_u16(&mut bytes, 2, sum);
    bytes
}

/// How a packet is carried by GRE.
#[derive(Clone, Debug)]
pub struct Carrier {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub class: u8,
    pub options: Vec<u8>,
    /// IPv4: the flags and offset word; IPv6: any other than 0 puts a fragment header there.
    pub fragment: u16,
    pub ip_protocol: u8,
    pub key: Option<u32>,
    pub sequence: Option<u32>,
    /// A GRE checksum: right, or wrong.
    pub checksum: Option<bool>,
    /// More bits of the first 16: reserved, ignored, version.
    pub bits: u16,
    pub protocol: u16,
    /// Inner destination and source MAC, and EtherType; nvgre.
    pub inner_ethernet: Option<([u8; 6], [u8; 6], u16)>,
    /// Bytes behind the inner packet.
    pub padding: usize,
}

impl Carrier {
    pub fn bytes(&self, inner: &[u8]) -> Vec<u8> {
        let flags = u16::from(self.checksum.is_some()) << 15
            | u16::from(self.key.is_some()) << 13
            | u16::from(self.sequence.is_some()) << 12
            | self.bits;
        let mut gre = flags.to_be_bytes().to_vec();
        gre.extend(self.protocol.to_be_bytes());
        if self.checksum.is_some() {
            gre.extend([0; 4]);
        }
        for number in [self.key, self.sequence].into_iter().flatten() {
            gre.extend(number.to_be_bytes());
        }
        if let Some((to, from, ethertype)) = self.inner_ethernet {
            gre.extend(to);
            gre.extend(from);
            gre.extend(ethertype.to_be_bytes());
        }
        gre.extend(inner);
        gre.extend(vec![0xee; self.padding]);
        if let Some(right) = self.checksum {
            let sum = checksum(&[&gre]);
            put_u16(&mut gre, 4, if right { sum } else { sum ^ 0x0101 });
        }
        let mut outer = Ip::new(self.source, self.destination, self.ip_protocol, gre);
        outer.class = self.class;
        outer.options = self.options.clone();
        if self.fragment != 0 {
            outer.fragment = Some((self.fragment & 0x1fff, self.fragment & 0x2000 != 0));
        }
        outer.bytes()
    }
}

/// A frame with these VLAN tags (EtherType and number).
pub fn frame(tags: &[(u16, u16)], ethertype: u16, packet: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (kind, tag) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(packet);
    bytes.extend(vec![0; padding]);
    bytes
}
