//! Customer packets in words: who sends what to whom. Lengths and checksums are right unless a story breaks them.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use clearway::wire::build::{Transport, ip_packet};
use clearway::wire::checksum;

const FRAGMENT_HEADER: u8 = 44;

/// An IP packet, perhaps with bytes behind its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its bytes from the IP header on.
    pub bytes: Vec<u8>,
}

/// A TCP segment; `from` and `to` are `address:port`, the flags words such as `SYN ACK`.
pub fn tcp(from: &str, to: &str, flags: &str) -> Packet {
    let bits = flags.split(' ').map(|flag| match flag {
        "FIN" => 1,
        "SYN" => 2,
        "RST" => 4,
        "PSH" => 8,
        "ACK" => 16,
        _ => panic!("'{flag}' is no TCP flag of these stories"),
    });
    let (from, to) = (socket(from), socket(to));
    let transport = Transport::Tcp { source: from.port(), destination: to.port(), flags: bits.sum() };
    Packet::new(from.ip(), to.ip(), transport, &[])
}

/// A UDP datagram; `from` and `to` are `address:port`.
pub fn udp(from: &str, to: &str) -> Packet {
    let (from, to) = (socket(from), socket(to));
    let transport = Transport::Udp { source: from.port(), destination: to.port() };
    Packet::new(from.ip(), to.ip(), transport, b"data")
}

/// An echo request.
pub fn ping(from: &str, to: &str, identifier: u16) -> Packet {
    Packet::new(address(from), address(to), Transport::Echo { identifier }, b"ping")
}

/// The answer to an echo request.
pub fn pong(from: &str, to: &str, identifier: u16) -> Packet {
    Packet::new(address(from), address(to), Transport::EchoReply { identifier }, b"ping")
}

/// A packet of any protocol with a payload.
pub fn other(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Packet {
    Packet::new(address(from), address(to), Transport::Other { protocol }, payload)
}

/// An ICMP or ICMPv6 message about nothing but its type, code and second word.
pub fn icmp(from: &str, to: &str, (kind, code): (u8, u8), word: u32, body: &[u8]) -> Packet {
    let protocol = if address(from).is_ipv4() { 1 } else { 58 };
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(body);
    let mut packet = other(from, to, protocol, &message);
    packet.fix_transport();
    packet
}

/// An ICMP error with its quote: the beginning of the packet it is about, so that 576 (IPv6: 1280) bytes are not passed.
pub fn error(from: &str, to: &str, kind: (u8, u8), word: u32, about: &Packet) -> Packet {
    let room = if about.is_v4() { 576 - 28 } else { 1280 - 48 };
    let quote = about.clone().without_padding().bytes;
    icmp(from, to, kind, word, &quote[..quote.len().min(room)])
}

/// Parses an address of a story.
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no IP address"))
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no address:port"))
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

impl Packet {
    fn new(from: IpAddr, to: IpAddr, transport: Transport, payload: &[u8]) -> Packet {
        let bytes = ip_packet(from, to, transport, payload).expect("both addresses are of one family");
        let mut packet = Packet { bytes };
        if packet.is_v4() {
            packet.bytes[4..8].fill(0);
        }
        packet.fix();
        packet
    }

    /// True of IPv4.
    pub fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    fn header(&self) -> usize {
        if self.is_v4() { usize::from(self.bytes[0] & 15) * 4 } else { 40 }
    }

    /// The length that its header says, in bytes.
    pub fn length(&self) -> usize {
        if self.is_v4() { be16(&self.bytes, 2) } else { 40 + be16(&self.bytes, 4) }
    }

    /// The destination.
    pub fn destination(&self) -> IpAddr {
        self.address_at(16, 24)
    }

    /// The source.
    pub fn source(&self) -> IpAddr {
        self.address_at(12, 8)
    }

    fn address_at(&self, v4: usize, v6: usize) -> IpAddr {
        if self.is_v4() {
            IpAddr::from(<[u8; 4]>::try_from(&self.bytes[v4..v4 + 4]).expect("four bytes"))
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&self.bytes[v6..v6 + 16]).expect("sixteen bytes"))
        }
    }

    /// Type of service or traffic class.
    pub fn tos_now(&self) -> u8 {
        if self.is_v4() { self.bytes[1] } else { self.bytes[0] << 4 | self.bytes[1] >> 4 }
    }

    /// With another TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Packet {
        let at = if self.is_v4() { 8 } else { 7 };
        self.bytes[at] = ttl;
        self.fix_header()
    }

    /// One hop further, without what stood behind its end.
    pub fn aged(self) -> Packet {
        let ttl = self.bytes[if self.is_v4() { 8 } else { 7 }];
        self.without_padding().ttl(ttl - 1)
    }

    /// With another type of service or traffic class: DSCP x 4 + ECN.
    pub fn tos(mut self, tos: u8) -> Packet {
        if self.is_v4() {
            self.bytes[1] = tos;
        } else {
            self.bytes[0] = 0x60 | tos >> 4;
            self.bytes[1] = tos << 4 | self.bytes[1] & 15;
        }
        self.fix_header()
    }

    /// With the don't-fragment bit of IPv4.
    pub fn dont_fragment(mut self) -> Packet {
        self.bytes[6] |= 0x40;
        self.fix_header()
    }

    /// With this identification in its IPv4 header.
    pub fn identification(mut self, id: u16) -> Packet {
        self.bytes[4..6].copy_from_slice(&id.to_be_bytes());
        self.fix_header()
    }

    /// Carrying so many bytes more.
    pub fn carrying(mut self, bytes: usize) -> Packet {
        self.bytes.extend((0..bytes).map(|n| b'a' + (n % 26) as u8));
        self.fix();
        self
    }

    /// With IPv4 options, a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Packet {
        let header = self.header();
        self.bytes.splice(header..header, options.iter().copied());
        self.bytes[0] += (options.len() / 4) as u8;
        self.fix_header()
    }

    /// With an IPv6 extension header in front of what follows the IPv6 header; its first byte is set here.
    pub fn extended(mut self, kind: u8, header: &[u8]) -> Packet {
        self.bytes.splice(40..40, header.iter().copied());
        self.bytes[40] = self.bytes[6];
        self.bytes[6] = kind;
        self.fix_header()
    }

    /// The fragment that carries these bytes of the payload; the last if they are its last.
    pub fn fragment(&self, id: u32, range: Range<usize>) -> Packet {
        let header = self.header();
        let payload = &self.bytes[header..self.length()];
        let more = u16::from(range.end < payload.len());
        assert!(range.start.is_multiple_of(8), "fragments begin at multiples of eight bytes");
        let mut bytes = self.bytes[..header].to_vec();
        if self.is_v4() {
            bytes[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            bytes[6..8].copy_from_slice(&((range.start / 8) as u16 | more << 13).to_be_bytes());
        } else {
            bytes.extend([self.bytes[6], 0]);
            bytes.extend((range.start as u16 | more).to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes[6] = FRAGMENT_HEADER;
        }
        bytes.extend(&payload[range]);
        Packet { bytes }.fix_header()
    }

    /// With bytes behind its end, as Ethernet pads short frames. To be said last: any other change takes them in.
    pub fn padded(mut self, bytes: usize) -> Packet {
        self.bytes.resize(self.bytes.len() + bytes, 0xee);
        self
    }

    /// Without bytes behind its end.
    pub fn without_padding(mut self) -> Packet {
        self.bytes.truncate(self.length());
        self
    }

    /// Changed, with a right IPv4 header checksum but whatever lengths the change leaves.
    pub fn edited(mut self, edit: impl FnOnce(&mut Vec<u8>)) -> Packet {
        edit(&mut self.bytes);
        self.fix_checksum();
        self
    }

    /// Changed; nothing is put right afterwards.
    pub fn broken(mut self, edit: impl FnOnce(&mut Vec<u8>)) -> Packet {
        edit(&mut self.bytes);
        self
    }

    fn fix(&mut self) {
        self.fix_transport();
        *self = self.clone().fix_header();
    }

    /// Puts the length and the header checksum right.
    fn fix_header(mut self) -> Packet {
        let length = self.bytes.len();
        if self.is_v4() {
            self.bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        } else {
            self.bytes[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        self.fix_checksum();
        self
    }

    fn fix_checksum(&mut self) {
        if self.is_v4() {
            let header = self.header().min(self.bytes.len());
            self.bytes[10..12].fill(0);
            let sum = checksum::of(&self.bytes[..header]);
            self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// Puts the length of UDP and the checksum of TCP, UDP and ICMP right.
    fn fix_transport(&mut self) {
        let header = self.header();
        let (protocol, at) = match (self.is_v4(), self.bytes[if self.is_v4() { 9 } else { 6 }]) {
            (_, 6) => (6, 16),
            (_, 17) => (17, 6),
            (true, 1) => (1, 2),
            (false, 58) => (58, 2),
            _ => return,
        };
        let length = self.bytes.len() - header;
        let pseudo = match (self.source(), self.destination()) {
            (IpAddr::V4(_), _) if protocol == 1 => 0,
            (IpAddr::V4(s), IpAddr::V4(d)) => checksum::pseudo_v4(s, d, length as u16, protocol),
            (IpAddr::V6(s), IpAddr::V6(d)) => checksum::pseudo_v6(s, d, length as u32, protocol),
            _ => unreachable!("both addresses are of one family"),
        };
        let transport = &mut self.bytes[header..];
        if transport.len() < at + 2 {
            return;
        }
        if protocol == 17 {
            transport[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        transport[at..at + 2].fill(0);
        let sum = !checksum::fold(checksum::add(pseudo, transport));
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
