//! Which frames of a device are Clearway's and which the kernel's: said once, in Rust and as programs for the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::asm::{Asm, If, Instruction, Label, Reg, Size};

/// Which frames of a device belong to Clearway rather than to the kernel.
///
/// Ours is GRE to the port's address: IPv4 with protocol 47, or IPv6 whose next header is 47 or an extension header (0,
/// 43, 44, 60), behind up to two VLAN tags. On a plain port so is every unicast IP packet to others, other than neighbour
/// discovery (ICMPv6 133 to 137) and what is link-local. Everything else, and every frame too short to hold the
/// destination, is the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The port's address.
    pub address: IpAddr,
    /// True for a port whose plain IP packets are ours, too: internet and services.
    pub plain: bool,
    /// Addresses of this machine that stay with the kernel, [`MOST_LOCAL`] at most.
    pub local: Vec<IpAddr>,
}

/// Addresses in [`Ours::local`] at most: the programs compare them one by one.
pub const MOST_LOCAL: usize = 64;

const ETHERNET: i32 = 14;
const VLAN: [u32; 2] = [0x8100, 0x88a8];
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const GRE: u32 = 47;
/// GRE may stand behind these in IPv6; whether it does is for the dataplane to say.
const GRE_IN_IPV6: [u32; 5] = [GRE, 0, 43, 44, 60];
const ICMPV6: u32 = 58;
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

impl Ours {
    /// True if a frame is ours, as the programs in the kernel say it.
    pub fn is_ours(&self, frame: &[u8]) -> bool {
        self.says(frame).unwrap_or(false)
    }

    /// `None`: too short.
    fn says(&self, frame: &[u8]) -> Option<bool> {
        let (mut kind, mut ip) = (half(frame, 12)?, frame.get(14..)?);
        for _ in 0..2 {
            if VLAN.contains(&kind) {
                (kind, ip) = (half(ip, 2)?, ip.get(4..)?);
            }
        }
        let (to, protocol) = match kind {
            IPV4 => (IpAddr::from(*ip.get(16..)?.first_chunk::<4>()?), u32::from(ip[9])),
            IPV6 => (IpAddr::from(*ip.get(24..)?.first_chunk::<16>()?), u32::from(ip[6])),
            _ => return Some(false),
        };
        if to == self.address {
            return Some(if to.is_ipv4() { protocol == GRE } else { GRE_IN_IPV6.contains(&protocol) });
        }
        let discovery = kind == IPV6
            && protocol == ICMPV6
            && ip.get(40).is_some_and(|kind| NEIGHBOUR_DISCOVERY.contains(kind));
        let unicast = match to {
            IpAddr::V4(to) => !to.is_multicast() && !to.is_broadcast() && !to.is_link_local(),
            IpAddr::V6(to) => !to.is_multicast() && !to.is_unicast_link_local(),
        };
        Some(self.plain && unicast && !discovery && !self.local.contains(&to))
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
}

/// Where in the kernel a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a packet socket: ours are kept.
    Filter,
    /// Before the kernel's own stack: ours are dropped there.
    Ingress,
    /// In the driver: ours go to the socket that the map of this descriptor has for their queue, and where it has none,
    /// the verdict is the fallback.
    Xdp {
        /// The descriptor of a map of sockets.
        map: i32,
        /// A verdict of XDP.
        fallback: i32,
    },
}

// Verdicts and fields of `linux/bpf.h`.
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
/// The kernel goes on with the frame.
pub const XDP_PASS: i32 = 2;
const SKB_LEN: i16 = 0;
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;
const XDP_QUEUE: i16 = 16;
const REDIRECT_MAP: i32 = 51;

/// The program that says at a place of the kernel what [`Ours::is_ours`] says.
pub fn assemble(ours: &Ours, place: Place) -> io::Result<Vec<Instruction>> {
    if ours.local.len() > MOST_LOCAL {
        let (many, most) = (ours.local.len(), MOST_LOCAL);
        let sentence = format!("{many} addresses of this machine are too many for one port; at most {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    let mut a = Asm::default();
    let (yes, no) = (a.label(), a.label());
    let mut code = Code { a, direct: matches!(place, Place::Xdp { .. }), yes, no };
    code.link();
    code.network(ours);
    let mut a = code.a;
    a.place(no);
    match place {
        Place::Filter => a.set(Reg::R0, 0),
        Place::Ingress => a.set(Reg::R0, TCX_NEXT),
        Place::Xdp { .. } => a.set(Reg::R0, XDP_PASS),
    }
    a.exit();
    a.place(yes);
    match place {
        Place::Filter => a.copy(Reg::R0, Reg::R8),
        Place::Ingress => a.set(Reg::R0, TCX_DROP),
        Place::Xdp { map, fallback } => {
            a.load_map(Reg::R1, map);
            a.load(Size::Word, Reg::R2, Reg::R6, XDP_QUEUE);
            a.set(Reg::R3, fallback);
            a.call(REDIRECT_MAP);
        }
    }
    a.exit();
    a.finish()
}

/// A program in the making. R6 is the context, R7 where the header at hand begins, R8 where the frame ends: addresses in
/// XDP, else counted from the frame's first byte.
struct Code {
    a: Asm,
    /// True if the program itself reads the frame's memory, which the verifier allows after a comparison with its end.
    direct: bool,
    yes: Label,
    no: Label,
}

impl Code {
    /// Goes on at the label if the frame has fewer than so many bytes from the header on.
    fn need(&mut self, bytes: i32, otherwise: Label) {
        self.a.copy(Reg::R1, Reg::R7);
        self.a.add(Reg::R1, bytes);
        self.a.jump_if_above(Reg::R1, Reg::R8, otherwise);
    }

    /// R0 = a field of the header at hand, which [`Self::need`] has seen to be there.
    fn field(&mut self, size: Size, offset: i16) {
        if self.direct {
            self.a.load(size, Reg::R0, Reg::R7, offset);
            self.a.network_to_host(size, Reg::R0);
        } else {
            self.a.load_network(size, Reg::R7, i32::from(offset));
        }
    }

    /// The Ethernet header and the tags: R7 is behind them, R0 says of which kind the packet is.
    fn link(&mut self) {
        self.a.copy(Reg::R6, Reg::R1);
        if self.direct {
            self.a.load(Size::Word, Reg::R7, Reg::R6, XDP_DATA);
            self.a.load(Size::Word, Reg::R8, Reg::R6, XDP_DATA_END);
        } else {
            self.a.set(Reg::R7, 0);
            self.a.load(Size::Word, Reg::R8, Reg::R6, SKB_LEN);
        }
        self.need(ETHERNET, self.no);
        self.field(Size::Half, 12);
        self.a.add(Reg::R7, ETHERNET);
        let done = self.a.label();
        for _ in 0..2 {
            let tag = self.a.label();
            self.a.jump_if(Reg::R0, If::Equal, VLAN[0], tag);
            self.a.jump_if(Reg::R0, If::Differs, VLAN[1], done);
            self.a.place(tag);
            self.need(4, self.no);
            self.field(Size::Half, 2);
            self.a.add(Reg::R7, 4);
        }
        self.a.place(done);
    }

    /// The packet itself.
    fn network(&mut self, ours: &Ours) {
        let six = self.a.label();
        self.a.jump_if(Reg::R0, If::Equal, IPV6, six);
        self.a.jump_if(Reg::R0, If::Differs, IPV4, self.no);
        self.ipv4(ours);
        self.a.place(six);
        self.ipv6(ours);
    }

    fn ipv4(&mut self, ours: &Ours) {
        self.need(20, self.no);
        self.field(Size::Word, 16);
        self.a.copy(Reg::R9, Reg::R0);
        let other = self.a.label();
        if let IpAddr::V4(address) = ours.address {
            self.a.jump_if(Reg::R9, If::Differs, address.to_bits(), other);
            self.field(Size::Byte, 9);
            self.a.jump_if(Reg::R0, If::Equal, GRE, self.yes);
            self.a.jump(self.no);
        }
        self.a.place(other);
        if ours.plain {
            for local in ours.local.iter().filter_map(v4) {
                self.a.jump_if(Reg::R9, If::Equal, local.to_bits(), self.no);
            }
            self.a.jump_if(Reg::R9, If::Equal, u32::MAX, self.no);
            // Multicast and link-local.
            for (mask, prefix) in [(0xf000_0000, 0xe000_0000), (0xffff_0000, 0xa9fe_0000)] {
                self.a.copy(Reg::R1, Reg::R9);
                self.a.mask(Reg::R1, mask);
                self.a.jump_if(Reg::R1, If::Equal, prefix, self.no);
            }
            self.a.jump(self.yes);
        } else {
            self.a.jump(self.no);
        }
    }

    fn ipv6(&mut self, ours: &Ours) {
        self.need(40, self.no);
        // The destination goes to the stack: a load may destroy what registers there are to hold it.
        for word in 0..4 {
            self.field(Size::Word, 24 + 4 * word);
            self.a.store(Size::Word, Reg::R10, 4 * word - 16, Reg::R0);
        }
        let other = self.a.label();
        if let IpAddr::V6(address) = ours.address {
            self.unless_to(address, other);
            self.field(Size::Byte, 6);
            for protocol in GRE_IN_IPV6 {
                self.a.jump_if(Reg::R0, If::Equal, protocol, self.yes);
            }
            self.a.jump(self.no);
        }
        self.a.place(other);
        if ours.plain {
            for local in ours.local.iter().filter_map(v6) {
                let next = self.a.label();
                self.unless_to(local, next);
                self.a.jump(self.no);
                self.a.place(next);
            }
            // Multicast and link-local.
            for (mask, prefix) in [(0xff00_0000, 0xff00_0000), (0xffc0_0000, 0xfe80_0000)] {
                self.a.load(Size::Word, Reg::R1, Reg::R10, -16);
                self.a.mask(Reg::R1, mask);
                self.a.jump_if(Reg::R1, If::Equal, prefix, self.no);
            }
            self.field(Size::Byte, 6);
            self.a.jump_if(Reg::R0, If::Differs, ICMPV6, self.yes);
            self.need(41, self.yes);
            self.field(Size::Byte, 40);
            self.a.jump_if(Reg::R0, If::Below, u32::from(*NEIGHBOUR_DISCOVERY.start()), self.yes);
            self.a.jump_if(Reg::R0, If::Above, u32::from(*NEIGHBOUR_DISCOVERY.end()), self.yes);
        }
        self.a.jump(self.no);
    }

    /// Goes on at the label unless the destination on the stack is this address.
    fn unless_to(&mut self, address: Ipv6Addr, otherwise: Label) {
        // Addresses of one machine differ at their ends.
        for (word, offset) in words(address).into_iter().zip([-16, -12, -8, -4]).rev() {
            self.a.load(Size::Word, Reg::R1, Reg::R10, offset);
            self.a.jump_if(Reg::R1, If::Differs, word, otherwise);
        }
    }
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| (bits >> shift & u128::from(u32::MAX)) as u32)
}

fn v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: &IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    }
}
