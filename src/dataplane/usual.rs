//! Packets of the usual shape: IPv4 with TCP, UDP or echo, whole, without options, plain or in GRE with nothing but a key
//! in IPv4 without options. Their fields are at fixed places, so that steps 1 to 3 and 5 are a few loads and compares.
//!
//! What is not of this shape, right or wrong, is left to `ingress`, which says why a packet ends.

use std::net::IpAddr;

use crate::compile::Port;
use crate::model::Role;
use crate::sys::Turned;
use crate::wire::{be16, be32, be64, checksum, ip, protocol};

/// What is at hand of a packet of the usual shape. What is rarely asked for is read from the frame again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Inner source << 32 | inner destination.
    pub addresses: u64,
    /// Source port << 16 | destination port; of an echo its identifier twice.
    pub ports: u32,
    /// Where the inner packet begins among the bytes of the batch.
    pub from: u32,
    /// The first word of its header as it leaves: with its type of service after decapsulation, and its length.
    pub first: u32,
    /// The third one as it leaves: with one less to live, its protocol, and the checksum that is then right.
    pub third: u32,
    /// TCP's flags; else 0.
    pub tcp_flags: u8,
}

/// What is needed of a packet to send it.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// Where it begins among the bytes of the batch.
    pub from: u32,
    /// The first word of its header as it leaves.
    pub first: u32,
    /// The third one.
    pub third: u32,
}

impl Leaving {
    /// Its length.
    #[inline(always)]
    pub fn total(&self) -> u32 {
        self.first & 0xffff
    }

    /// Its type of service.
    #[inline(always)]
    pub fn tos(&self) -> u8 {
        (self.first >> 16) as u8
    }

    /// True if its time to live lets it be forwarded.
    #[inline(always)]
    pub fn lives(&self) -> bool {
        third_lives(self.third)
    }
}

/// Ethernet, IPv4 and GRE with a key in front of the inner packet.
pub(super) const INNER_IN_GRE: usize = 42;
/// Ethernet in front of a plain packet.
const INNER_PLAIN: usize = 14;
/// What is read of a packet at most: up to TCP's flags.
const READ: usize = 34;
/// The least that is behind Ethernet or GRE: an IPv4 header and eight bytes.
const LEAST: u16 = 28;

/// Congestion bits after decapsulation by inner << 2 | outer bits (RFC 6040 section 4.2); 0x80 where the packet must be
/// dropped.
const DECAPSULATED: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = match ip::decapsulate_ecn(i as u8 >> 2, i as u8 & 3) {
            Some(bits) => bits,
            None => 0x80,
        };
        i += 1;
    }
    table
};

/// The least total length of ICMP, one more than of UDP, so that they are told apart; an echo is checked for the rest.
const ECHO: u16 = LEAST + 1;

/// For each protocol the least total length, and the bits of TCP's flags that count.
const TRANSPORTS: [(u16, u8); 256] = {
    // No packet is so long: the others are not usual.
    let mut table = [(u16::MAX, 0); 256];
    table[protocol::UDP as usize] = (LEAST, 0);
    table[protocol::ICMP as usize] = (ECHO, 0);
    table[protocol::TCP as usize] = (40, 0xff);
    table
};

/// What is addressed to a port, as packets of the usual shape show it.
#[derive(Clone, Copy, Debug)]
pub struct Listens {
    /// All bits set where GRE to the port's address is for us, else none.
    gre: u32,
    /// The port's address: plain packets to it are not of the usual shape.
    address: u32,
    /// Plain packets come by this port.
    plain: bool,
}

impl Listens {
    /// Where there is no such port, or one of IPv6.
    pub const NOTHING: Listens = Listens { gre: 0, address: 0, plain: false };

    /// What is addressed to this port.
    pub fn new(port: &Port) -> Listens {
        let IpAddr::V4(address) = port.address else { return Listens::NOTHING };
        let address = address.to_bits();
        Listens {
            gre: if port.role == Role::Services { 0 } else { u32::MAX },
            address,
            plain: matches!(port.role, Role::Internet | Role::Services),
        }
    }

    /// True if plain packets come by this port.
    #[inline(always)]
    pub fn plain(&self) -> bool {
        self.plain
    }

    /// All bits set if GRE to the port's address is for us, else none.
    #[inline(always)]
    pub fn in_gre(&self) -> u32 {
        self.gre
    }

    /// The port's address.
    #[inline(always)]
    pub fn address(&self) -> u32 {
        self.address
    }
}

/// A received frame that is `length` bytes long.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The bytes of the batch.
    pub bytes: &'a [u8],
    /// Where among them the frame begins.
    pub start: u32,
    /// Its length.
    pub length: u32,
    /// How long it was when it was received.
    pub original: u32,
}

/// Reads a packet in GRE; its key and outer source. `None` if anything about it is unusual or wrong; then what was read
/// means nothing.
#[inline(always)]
pub fn in_gre(frame: Received<'_>, to: &Listens, packet: &mut Usual) -> Option<(u32, u32)> {
    let Received { bytes, start, length, original } = frame;
    let head = bytes.get(start as usize..)?.first_chunk::<{ INNER_IN_GRE + READ }>()?;
    // Each is read in as few loads as can be: two bytes of addresses, EtherType, version, type of service and length;
    // then identification, fragment, time to live, protocol and checksum; then the addresses.
    let (first, second, addresses) = (be64(head, 10), be64(head, 18), be64(head, 26));
    let carried = u32::from(first as u16) + INNER_PLAIN as u32;
    // Version 0, a key, no checksum, sequence or routing; bits 6 to 12 say nothing.
    let usual = first & 0x0000_ffff_ff00_0000 == 0x0000_0800_4500_0000
        && second & 0x0000_3fff_00ff_0000 == (protocol::GRE as u64) << 16
        && to.gre != 0
        && addresses as u32 == to.address
        && be32(head, 34) & 0xfc07_ffff == 0x2000_0800
        && carried <= length
        && length >= original
        && checksum::is_zero_v4(first as u32, second, addresses);
    let ecn = (first >> 16) as u8 & 3;
    (usual && inner::<INNER_IN_GRE, _>(head, start, carried, ecn, packet))
        .then(|| (be32(head, 38), (addresses >> 32) as u32))
}

/// What is read of a packet in GRE in one piece: from the EtherType to TCP's flags.
pub(super) const BLOCK: usize = 64;
/// Frames that are read at once.
const BLOCKS: usize = 16;
/// Where it begins.
const ETHERTYPE: usize = 12;

/// Where there is no frame: this is a header of nothing usual.
pub(super) static NOTHING: [u8; BLOCK] = [0; BLOCK];

/// What is read of a frame that begins there; `None` if the bytes end before.
#[inline(always)]
pub(super) fn block(bytes: &[u8], start: u32) -> Option<&[u8; BLOCK]> {
    let at = start as usize + ETHERTYPE;
    bytes.get(at..at + BLOCK)?.first_chunk()
}

/// How many bytes of a frame may be believed: none if it was cut.
#[inline(always)]
pub(super) fn carried(length: u32, original: u32) -> u32 {
    if length >= original { length } else { 0 }
}

/// The headers of one of sixteen frames, read by the word, each word beside that of the others. All that is asked of it
/// is asked without a branch, so that sixteen are asked at once.
#[derive(Clone, Copy)]
pub(super) struct Head {
    words: [u32; BLOCK / 4],
}

impl Head {
    /// The `n`th of these.
    #[inline(always)]
    pub fn new(turned: &Turned, n: usize) -> Head {
        let mut words = [0; BLOCK / 4];
        for (word, column) in words.iter_mut().zip(&turned.0) {
            *word = column[n % BLOCKS];
        }
        Head { words }
    }

    /// The last two bytes of a word and the first two of the next.
    #[inline(always)]
    fn across(&self, n: usize) -> u32 {
        self.words[n] << 16 | self.words[n + 1] >> 16
    }

    /// Outer source.
    #[inline(always)]
    pub fn remote(&self) -> u32 {
        self.across(3)
    }

    /// GRE key.
    #[inline(always)]
    pub fn key(&self) -> u32 {
        self.across(6)
    }

    /// Inner source.
    #[inline(always)]
    pub fn source(&self) -> u32 {
        self.across(10)
    }

    /// Inner destination.
    #[inline(always)]
    pub fn destination(&self) -> u32 {
        self.across(11)
    }

    #[inline(always)]
    fn protocol(&self) -> u32 {
        self.words[9] & 0xff
    }

    #[inline(always)]
    fn is(&self, protocol: u8) -> bool {
        self.protocol() == u32::from(protocol)
    }

    /// Source port << 16 | destination port; of an echo its identifier twice.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        let identifier = self.words[13] & 0xffff;
        if self.is(protocol::ICMP) { identifier << 16 | identifier } else { self.across(12) }
    }

    /// The first word of the inner header, which leaves as it came.
    #[inline(always)]
    pub fn first(&self) -> u32 {
        self.across(7)
    }

    #[inline(always)]
    fn total(&self) -> u32 {
        self.words[8] >> 16
    }

    /// The third word of the inner header, as it leaves: with one less to live, and the checksum that is then right.
    #[inline(always)]
    pub fn third(&self) -> u32 {
        let life = (self.words[9] << 16).wrapping_sub(0x0100_0000);
        // What is one less of the word that begins with the time to live is one more of the checksum, which is never all
        // ones.
        let sum = (self.words[10] >> 16) + 0x100;
        life | (sum + u32::from(sum >= 0xffff)) & 0xffff
    }

    /// TCP's flags; else 0.
    #[inline(always)]
    pub fn tcp_flags(&self) -> u32 {
        if self.is(protocol::TCP) { self.words[15] & 0xff } else { 0 }
    }

    /// True if it is of the usual shape, in GRE to this address, in a frame that carries so many bytes, and the outer type
    /// of service changes nothing inside.
    #[inline(always)]
    pub fn is_usual(&self, address: u32, carried: u32) -> bool {
        let w = &self.words;
        let halves = |n: usize| (w[n] >> 16) + (w[n] & 0xffff);
        // Ten halves of words, of which at least one is not 0: the sum is a multiple of 0xffff if this is.
        let folded = |sum: u32| (sum >> 16) + (sum & 0xffff);
        let outer = (w[0] & 0xffff) + halves(1) + halves(2) + halves(3) + halves(4) + (w[5] >> 16);
        let inner = (w[7] & 0xffff) + halves(8) + halves(9) + halves(10) + halves(11) + (w[12] >> 16);
        // Only ECT(1) and CE outside change what is inside.
        let wrong = w[0] & 0xffff_ff01 ^ 0x0800_4500
            | w[2] & 0x3fff_00ff ^ u32::from(protocol::GRE)
            | self.across(4) ^ address
            // Version 0, a key, no checksum, sequence or routing; bits 6 to 12 say nothing.
            | self.across(5) & 0xfc07_ffff ^ 0x2000_0800
            | folded(outer) ^ 0xffff
            | w[7] & 0xff00 ^ 0x4500
            | w[9] & 0x3fff_0000
            | folded(inner) ^ 0xffff;
        let (tcp, udp, icmp) = (self.is(protocol::TCP), self.is(protocol::UDP), self.is(protocol::ICMP));
        let least = if tcp { 40 } else { u32::from(LEAST) };
        let is_echo = self.across(12) >> 24 & !8 == 0;
        let ends = (w[1] >> 16) + INNER_PLAIN as u32;
        (wrong == 0)
            & (tcp | udp | icmp & is_echo)
            & (ends <= carried)
            & (self.total() >= least)
            & (self.total() + INNER_IN_GRE as u32 <= ends)
    }
}

/// The GRE key and the outer source of a packet of the usual shape that begins at `at` in its frame; `None` if it came
/// plain.
pub fn key_and_source(frame: &[u8], at: usize) -> Option<(u32, u32)> {
    (at == INNER_IN_GRE).then(|| (be32(frame, 38), be32(frame, 26)))
}

/// Reads a plain packet that is not to the port's address. False if anything about it is unusual or wrong.
#[inline(always)]
pub fn plain(frame: Received<'_>, to: &Listens, packet: &mut Usual) -> bool {
    let Received { bytes, start, length, original } = frame;
    let rest = bytes.get(start as usize..).unwrap_or_default();
    let Some(head) = rest.first_chunk::<{ INNER_PLAIN + READ }>() else { return false };
    be16(head, 12) == 0x0800
        && be32(head, 30) != to.address
        && length >= original
        && inner::<INNER_PLAIN, _>(head, start, length, 0, packet)
}

/// Step 5 for a packet at a fixed place, of which the frame carries what is before `carried`.
#[inline(always)]
fn inner<const AT: usize, const N: usize>(
    head: &[u8; N],
    start: u32,
    carried: u32,
    outer_ecn: u8,
    packet: &mut Usual,
) -> bool {
    const { assert!(AT + READ <= N) };
    let (first, second, addresses) = (be32(head, AT), be64(head, AT + 4), be64(head, AT + 12));
    let (total, mut tos, protocol) = (first as u16, (first >> 16) as u8, (second >> 16) as u8);
    // TCP and UDP take turns as they like: what differs comes from a table, not from a branch.
    let (least, flags) = TRANSPORTS[usize::from(protocol)];
    let sound = first >> 24 == 0x45
        && second & 0x3fff_0000_0000 == 0
        && total >= least
        && AT as u32 + u32::from(total) <= carried
        && checksum::is_zero_v4(first, second, addresses);
    if !sound {
        return false;
    }
    // Only ECT(1) and CE outside change what is inside.
    if outer_ecn & 1 != 0 {
        let ecn = DECAPSULATED[usize::from((tos & 3) << 2 | outer_ecn & 3)];
        if ecn & 0x80 != 0 {
            return false;
        }
        tos = tos & !3 | ecn;
    }
    let mut ports = be32(head, AT + 20);
    if least == ECHO {
        if !matches!(head[AT + 20], 0 | 8) {
            return false;
        }
        ports = u32::from(be16(head, AT + 24)) * 0x1_0001;
    }
    let before = first >> 16 & 0xff;
    let sum = checksum::updated(second as u16, before + 0x100, u32::from(tos));
    let life = (second as u32).wrapping_sub(0x0100_0000) & 0xffff_0000;
    *packet = Usual {
        addresses,
        ports,
        from: start + AT as u32,
        first: first & 0xff00_ffff | u32::from(tos) << 16,
        third: life | u32::from(sum),
        // Of a TCP packet that is long enough the flags are there.
        tcp_flags: head[AT + 33] & flags,
    };
    true
}

/// True if a third word that leaves says that there is still time to live.
#[inline(always)]
pub(super) fn third_lives(third: u32) -> bool {
    (third >> 24).wrapping_sub(1) < 0xfe
}

impl Usual {
    /// Inner source.
    #[inline(always)]
    pub fn source(&self) -> u32 {
        (self.addresses >> 32) as u32
    }

    /// Inner destination.
    #[inline(always)]
    pub fn destination(&self) -> u32 {
        self.addresses as u32
    }

    /// What is needed to send it.
    #[inline(always)]
    pub fn leaving(&self) -> Leaving {
        Leaving { from: self.from, first: self.first, third: self.third }
    }

    /// Its length.
    #[inline(always)]
    pub fn total(&self) -> u32 {
        self.leaving().total()
    }

    /// Its type of service after decapsulation.
    #[inline(always)]
    pub fn tos(&self) -> u8 {
        self.leaving().tos()
    }

    /// Its protocol.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        (self.third >> 16) as u8
    }

    /// Its time to live.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        ((self.third >> 24) as u8).wrapping_add(1)
    }

    /// The headers as `ingress` reads them, with the type of service as received. `packet` begins with them.
    pub fn headers(&self, packet: &[u8]) -> ip::Inner {
        let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
        ip::Inner {
            source: self.source().to_be_bytes().into(),
            destination: self.destination().to_be_bytes().into(),
            protocol: self.protocol(),
            total: self.total(),
            header: ip::V4_HEADER as u8,
            transport: ip::V4_HEADER as u32,
            tos: byte(1),
            ttl: self.ttl(),
            dont_fragment: byte(6) & 0x40 != 0,
            fragment: None,
            ports: ((self.ports >> 16) as u16, self.ports as u16),
            tcp_flags: self.tcp_flags,
            icmp_type: if self.protocol() == protocol::ICMP { byte(20) } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Blocks, Wide, Work, every};

    const ADDRESS: u32 = 0xc633_6402;

    /// A sound packet in GRE of this protocol, with 22 bytes behind its header.
    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 84];
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[16..18].copy_from_slice(&70_u16.to_be_bytes());
        (frame[22], frame[23]) = (64, protocol::GRE);
        frame[26..30].copy_from_slice(&[198, 51, 100, 11]);
        frame[30..34].copy_from_slice(&ADDRESS.to_be_bytes());
        frame[34..42].copy_from_slice(&[0x20, 0, 8, 0, 0, 0, 10, 1]);
        frame[42] = 0x45;
        frame[44..46].copy_from_slice(&42_u16.to_be_bytes());
        (frame[50], frame[51]) = (64, protocol);
        frame[54..62].copy_from_slice(&[10, 1, 0, 4, 10, 1, 0, 5]);
        // As an echo a request.
        frame[62..76].copy_from_slice(&[8, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x50, 0x12]);
        for at in [14, 42] {
            let sum = !checksum::fold(checksum::add(0, &frame[at..at + 20]));
            frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    struct Turn<'a>(Blocks<'a>);

    impl Work for Turn<'_> {
        type Output = Turned;

        #[inline(always)]
        fn run<W: Wide>(self, wide: W) -> Turned {
            let mut turned = Turned([[0; BLOCKS]; BLOCK / 4]);
            wide.turn(&self.0, &mut turned);
            turned
        }
    }

    /// Every bit of the headers wrong once, alone and with the checksums right again: what is read of sixteen at once is what
    /// is read one by one, and only what the outer congestion bits may change is left to the latter.
    #[test]
    fn sixteen_at_once_are_read_as_one_by_one() {
        let to = Listens { gre: u32::MAX, address: ADDRESS, plain: false };
        let (mut usual, mut others) = (0, 0);
        for protocol in [protocol::TCP, protocol::UDP, protocol::ICMP, 47] {
            let all = (0..2 * 64 * 8).map(|n| {
                let mut frame = frame(protocol);
                frame[12 + n / 16] ^= 1 << (n % 8);
                for at in [14, 42].into_iter().filter(|_| n / 8 % 2 == 1) {
                    frame[at + 10..at + 12].fill(0);
                    let sum = !checksum::fold(checksum::add(0, &frame[at..at + 20]));
                    frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
                }
                frame
            });
            let frames: Vec<Vec<u8>> = all.collect();
            for sixteen in frames.chunks(BLOCKS) {
                for turned in every(|| Turn(std::array::from_fn(|n| block(&sixteen[n], 0).unwrap()))) {
                    for (n, bytes) in sixteen.iter().enumerate() {
                        let (head, length) = (Head::new(&turned, n), bytes.len() as u32);
                        let mut packet = Usual::default();
                        let received = Received { bytes, start: 0, length, original: length };
                        let alone = in_gre(received, &to, &mut packet);
                        if !head.is_usual(ADDRESS, carried(length, length)) {
                            assert!(alone.is_none() || bytes[15] & 1 != 0, "{bytes:?}");
                            others += 1;
                            continue;
                        }
                        assert_eq!(alone, Some((head.key(), head.remote())), "{bytes:?}");
                        assert_eq!(
                            (packet.source(), packet.destination()),
                            (head.source(), head.destination())
                        );
                        assert_eq!((packet.ports, packet.first), (head.ports(), head.first()));
                        assert_eq!(
                            (packet.third, u32::from(packet.tcp_flags)),
                            (head.third(), head.tcp_flags())
                        );
                        usual += 1;
                    }
                }
            }
        }
        assert!(usual > 1000 && others > 1000, "{usual} {others}");
    }
}
