//! First match over an ordered list of rules, in time that depends on the number of rules but never on the packets.
//!
//! Each field's values are cut into intervals inside which the same rules match. A look-up finds one interval per field;
//! each has a value that says which rules match in it, and the lowest rule that is in all of them is the answer.
//!
//! The value for up to 64 rules is their bits. For more rules it names for each 256 of them a block of bits; equal blocks
//! are held once, and intervals that follow each other share all but the one in which they differ:
//!
//! ```text
//!   source ─────────► value ─┐                 ┌─► block ─┐
//!   destination ────► value ─┼─ of each 256 ──►├─► block ─┼─ and ─► lowest bit ─► rule
//!   protocol, ports ► value ─┘     rules       └─► block ─┘
//! ```
//!
//! TCP and UDP have intervals of ports of their own, so that the protocol needs no step; the last rule, if it matches
//! everything as the last default rule does, needs no bits.

mod build;
mod search;

use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;

use self::search::{Deeper, Grown, Halved, Tree};
use crate::sys::{Base, Block, Line, Lines, Wide, prefetch_index};
use crate::types::Prefix;

/// The addresses one side of a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Every address of both families.
    Any,
    /// These prefixes. A list that several rules share is looked at once.
    Prefixes(Arc<[Prefix]>),
}

/// The protocols a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// Every protocol.
    Any,
    /// These numbers.
    Numbers(Vec<u8>),
}

/// One rule: a packet matches if every field does. Port ranges include both ends; a side with the range 0 to 65535
/// matches every protocol, any other only TCP and UDP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Protocols.
    pub protocols: Protocols,
    /// Sources.
    pub source: Addresses,
    /// Destinations.
    pub destination: Addresses,
    /// Source ports.
    pub source_ports: Vec<(u16, u16)>,
    /// Destination ports.
    pub destination_ports: Vec<(u16, u16)>,
}

/// A rule that refers to its lists. Rules with the same prefixes should refer to one list: it is gone through once.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Protocols; `None` for every one.
    pub protocols: Option<&'a [u8]>,
    /// Sources; `None` for every address of both families.
    pub source: Option<&'a [Prefix]>,
    /// Destinations, likewise.
    pub destination: Option<&'a [Prefix]>,
    /// Source ports.
    pub source_ports: &'a [(u16, u16)],
    /// Destination ports.
    pub destination_ports: &'a [(u16, u16)],
}

impl<'a> From<&'a Pattern> for Fields<'a> {
    fn from(rule: &'a Pattern) -> Fields<'a> {
        let side = |side: &'a Addresses| match side {
            Addresses::Any => None,
            Addresses::Prefixes(prefixes) => Some(&**prefixes),
        };
        Fields {
            protocols: match &rule.protocols {
                Protocols::Any => None,
                Protocols::Numbers(numbers) => Some(numbers),
            },
            source: side(&rule.source),
            destination: side(&rule.destination),
            source_ports: &rule.source_ports,
            destination_ports: &rule.destination_ports,
        }
    }
}

const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// A set of rules as bits, the first rule in the lowest bit of the first word.
pub type Bits = Box<[u64]>;

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The bits of up to 64 rules.
    Bits,
    /// The block of up to 256 rules, which is found at once, without its number.
    Block,
    /// The numbers of up to four blocks, 16 bits each, of which the highest is free.
    Blocks,
    /// The place of a row of such numbers, as there are too many.
    Rows,
}

/// Block numbers in [`Layout::Blocks`] are below this, so that adding [`BELOW`] to four at once carries nowhere.
const NUMBERS: usize = 1 << 15;

/// Added to four numbers, it sets the highest bit of those that are not 0, which [`HIGHEST`] leaves.
const BELOW: u64 = 0x7fff_7fff_7fff_7fff;
const HIGHEST: u64 = !BELOW;

/// Stands for no rule.
const NONE: u32 = u32::MAX;

/// A compiled list of rules. Its header is laid out for a decision about an IPv4 packet of TCP or UDP, which reads the
/// first two cache lines and three of the roots.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Classifier {
    /// The trees of the sides, sources and destinations, and of destination ports, of TCP and UDP.
    sides: [Tree; 2],
    ports: [Tree; 2],

    lines: Lines,
    values: Box<[u64]>,
    blocks: Box<[Block]>,
    rare: Box<Rare>,
    /// The last rule, if it matches everything, or [`NONE`]: it needs no bits.
    rest: u32,
    layout: Layout,
    /// Whether source ports make a difference, of TCP and of UDP.
    asks_source_port: [bool; 2],

    /// The roots of the trees.
    side_roots: [Line; 2],
    port_roots: [Line; 2],
}

const _: () = assert!(offset_of!(Classifier, side_roots) == 128, "the header is two lines and the roots");

/// The places of both sides.
const SOURCE: usize = 0;
const DESTINATION: usize = 1;

/// What most decisions do without.
#[derive(Debug)]
struct Rare {
    /// The rows of [`Layout::Rows`], and the blocks of each: as many as are needed for all rules that have bits.
    rows: Box<[u32]>,
    count: usize,
    /// The intervals of IPv6 sources and destinations.
    v6: [Halved; 2],
    v6_lasts: Box<[u128]>,
    /// The source ports of TCP and UDP.
    source_ports: [Grown; 2],
    /// Of both sides, of both destination ports and of both source ports.
    deeper: [Deeper; 6],
    /// Where the values of protocols without ports begin, and the class of each protocol.
    portless: u32,
    classes: [u8; 256],
}

/// Where in each field a packet is: the numbers of its values, for the classifier that found them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found([usize; 4]);

impl Classifier {
    /// Compiles the rules; the first has the highest priority.
    pub fn new(rules: &[Pattern]) -> Classifier {
        Classifier::of(&rules.iter().map(Fields::from).collect::<Vec<_>>())
    }

    /// The same for rules that refer to their lists.
    pub fn of(rules: &[Fields<'_>]) -> Classifier {
        build::build(rules)
    }

    /// The first rule that matches; `among` limits which rules are asked.
    pub fn first_match(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                self.first_match_v4(Base, source, destination, protocol, ports, among)
            }
            _ => self.first_match_any(source, destination, protocol, ports, among),
        }
    }

    /// The same for IPv4 addresses as numbers, compiled for a token.
    #[inline(always)]
    pub fn first_match_v4<W: Wide>(
        &self,
        wide: W,
        source: u32,
        destination: u32,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        self.first_of(wide, &self.find_v4(wide, source, destination, protocol, ports), among)
    }

    /// The first half of [`Classifier::first_match_v4`]: where the packet is in each field. Between both halves the
    /// values can be [asked for](Classifier::prefetch_found).
    #[inline(always)]
    pub fn find_v4<W: Wide>(
        &self,
        wide: W,
        source: u32,
        destination: u32,
        protocol: u8,
        ports: (u16, u16),
    ) -> Found {
        let source = self.address(wide, SOURCE, source);
        let destination = self.address(wide, DESTINATION, destination);
        let [to, from] = self.ports(wide, protocol, ports);
        Found([source, destination, to, from])
    }

    /// The second half: the first rule in all fields' sets.
    #[inline(always)]
    pub fn first_of<W: Wide>(&self, wide: W, found: &Found, among: Option<&[u64]>) -> Option<usize> {
        let Found([source, destination, to, from]) = *found;
        let rule = match among {
            Some(_) => return self.first_among(*found, among),
            None if to == from => self.first(wide, [source, destination, to], found),
            None => self.first(wide, found.0, found),
        };
        (rule != NONE).then_some(rule as usize)
    }

    fn first_match_any(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        let side = |side, address| match address {
            IpAddr::V4(a) => self.address(Base, side, a.to_bits()),
            IpAddr::V6(a) => self.find_v6(side, a.to_bits()),
        };
        let (source, destination) = (side(SOURCE, source), side(DESTINATION, destination));
        let [to, from] = self.ports(Base, protocol, ports);
        self.first_of(Base, &Found([source, destination, to, from]), among)
    }

    /// The first rule that is in the sets of all these values, or [`NONE`].
    #[inline(always)]
    fn first<W: Wide, const N: usize>(&self, wide: W, values: [usize; N], found: &Found) -> u32 {
        if self.layout == Layout::Block {
            return self.first_of_blocks(wide, values).map_or(self.rest, |rule| rule as u32);
        }
        let values = values.map(|at| self.value(at));
        if self.layout == Layout::Bits {
            let hits = values.into_iter().fold(u64::MAX, |all, value| all & value);
            return if hits == 0 { self.rest } else { hits.trailing_zeros() };
        }
        if self.layout == Layout::Rows {
            return self.first_among(*found, None).map_or(NONE, |rule| rule as u32);
        }
        // Most sets have rules in few blocks; only where all have some is there something to compare.
        let mut left = values.into_iter().fold(HIGHEST, |left, value| left & value.wrapping_add(BELOW));
        while left != 0 {
            let shift = left.trailing_zeros() & 0x30;
            let blocks = values.map(|value| usize::from((value >> shift) as u16));
            if let Some(rule) = self.first_of_blocks(wide, blocks) {
                return 16 * shift + rule as u32;
            }
            left &= left - 1;
        }
        self.rest
    }

    /// The first rule in the blocks with these numbers.
    #[inline(always)]
    fn first_of_blocks<W: Wide, const N: usize>(&self, wide: W, numbers: [usize; N]) -> Option<usize> {
        let mut blocks = [&EMPTY; N];
        for (block, number) in blocks.iter_mut().zip(numbers) {
            // All are there; but leaving is cheaper than choosing another.
            *block = self.blocks.get(number)?;
        }
        wide.first_of_blocks(blocks)
    }

    #[inline(always)]
    fn value(&self, at: usize) -> u64 {
        self.values.get(at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn block(&self, number: usize) -> &Block {
        self.blocks.get(number).unwrap_or(&EMPTY)
    }

    #[inline(always)]
    fn prefetch_value(&self, at: usize) {
        if self.layout == Layout::Block {
            prefetch_index(&self.blocks, at);
        } else {
            prefetch_index(&self.values, at);
        }
    }

    /// The first rule of some or of all that is in the sets of these values.
    #[inline(never)]
    fn first_among(&self, found: Found, among: Option<&[u64]>) -> Option<usize> {
        for number in 0..self.rare.count {
            let word = |n: usize| among.map_or(u64::MAX, |a| a.get(4 * number + n).copied().unwrap_or(0));
            let asked = Block(std::array::from_fn(word));
            let hits = match self.layout {
                Layout::Bits => {
                    let hits = found.0.iter().fold(asked.0[0], |hits, at| hits & self.value(*at));
                    Block([hits, 0, 0, 0])
                }
                _ => found.0.iter().fold(asked, |hits, at| and(&hits, self.block_of(*at, number))),
            };
            if let Some(rule) = Base.first_of_blocks([&hits]) {
                return Some(256 * number + rule);
            }
        }
        let rest = (self.rest != NONE).then_some(self.rest as usize);
        let asked =
            |rest: usize, among: &[u64]| among.get(rest / 64).is_some_and(|w| w >> (rest % 64) & 1 != 0);
        rest.filter(|rest| among.is_none_or(|among| asked(*rest, among)))
    }

    /// The block of this number of a value that has blocks.
    fn block_of(&self, at: usize, number: usize) -> &Block {
        match self.layout {
            Layout::Bits => &EMPTY,
            Layout::Block => self.block(at),
            Layout::Blocks => self.block(usize::from((self.value(at) >> (16 * number)) as u16)),
            Layout::Rows => {
                let place = self.rare.rows.get(self.value(at) as usize + number);
                self.block(place.map_or(0, |place| *place as usize))
            }
        }
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of::<Rare>()
            + self.lines.memory()
            + size_of_val(&*self.values)
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.rare.rows)
            + size_of_val(&*self.rare.v6_lasts)
    }
}

/// No rule.
const EMPTY: Block = Block([0; 4]);

fn and(one: &Block, other: &Block) -> Block {
    Block(std::array::from_fn(|n| one.0[n] & other.0[n]))
}

/// The rules for which `keep` holds, as bits.
pub fn bits_where<R>(rules: &[R], keep: impl Fn(&R) -> bool) -> Bits {
    let mut bits = vec![0u64; rules.len().div_ceil(64)].into_boxed_slice();
    for (i, _) in rules.iter().enumerate().filter(|(_, r)| keep(r)) {
        bits[i / 64] |= 1 << (i % 64);
    }
    bits
}

#[cfg(test)]
mod tests;
