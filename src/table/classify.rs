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

use std::net::IpAddr;
use std::sync::Arc;

use self::search::{Lines, Tree};
use crate::types::Prefix;
use crate::wire::protocol;

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

/// The bits of 256 rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(32))]
struct Block([u64; 4]);

impl Block {
    /// No rule.
    const EMPTY: Block = Block([0; 4]);
    /// Every rule.
    const FULL: Block = Block([u64::MAX; 4]);

    #[inline(always)]
    fn and(self, other: Block) -> Block {
        Block(std::array::from_fn(|n| self.0[n] & other.0[n]))
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        let Block([a, b, c, d]) = *self;
        a | b | c | d == 0
    }

    /// The first rule of a block that is not empty.
    #[inline(always)]
    fn first(&self) -> usize {
        let Block([a, b, c, d]) = *self;
        let (one, other, behind) = if a | b != 0 { (a, b, 0) } else { (c, d, 128) };
        let (word, behind) = if one != 0 { (one, behind) } else { (other, behind + 64) };
        behind + word.trailing_zeros() as usize
    }
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The bits of up to 64 rules.
    Bits,
    /// The numbers of up to four blocks, 16 bits each.
    Blocks,
    /// The place of a row of such numbers, as there are too many.
    Rows,
}

/// A compiled list of rules.
#[derive(Debug)]
pub struct Classifier {
    source_v4: Tree,
    destination_v4: Tree,
    tcp: Ports,
    udp: Ports,
    lines: Lines,
    values: Box<[u64]>,
    blocks: Box<[Block]>,
    rows: Box<[u32]>,
    layout: Layout,
    /// Blocks for all rules that have bits.
    count: usize,
    /// The last rule, if it matches everything: it needs no bits.
    rest: Option<usize>,
    source_v6: Tree,
    destination_v6: Tree,
    /// Where the values of protocols without ports begin, and the class of each protocol.
    portless: u32,
    classes: [u8; 256],
}

/// The intervals of the ports of a protocol.
#[derive(Clone, Copy, Debug)]
struct Ports {
    source: Tree,
    destination: Tree,
}

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
    #[inline]
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
                self.first_match_v4(source.to_bits(), destination.to_bits(), protocol, ports, among)
            }
            _ => self.first_match_v6(source, destination, protocol, ports, among),
        }
    }

    /// The same for IPv4 addresses as numbers.
    pub fn first_match_v4(
        &self,
        source: u32,
        destination: u32,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        let source = self.lines.find_v4(&self.source_v4, source);
        let destination = self.lines.find_v4(&self.destination_v4, destination);
        self.first_of(source, destination, protocol, ports, among)
    }

    fn first_match_v6(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        let source = match source {
            IpAddr::V4(a) => self.lines.find_v4(&self.source_v4, a.to_bits()),
            IpAddr::V6(a) => self.lines.find_v6(&self.source_v6, a.to_bits()),
        };
        let destination = match destination {
            IpAddr::V4(a) => self.lines.find_v4(&self.destination_v4, a.to_bits()),
            IpAddr::V6(a) => self.lines.find_v6(&self.destination_v6, a.to_bits()),
        };
        self.first_of(source, destination, protocol, ports, among)
    }

    /// The first rule in the sets of these intervals, the protocol and the ports.
    #[inline(always)]
    fn first_of(
        &self,
        source: usize,
        destination: usize,
        protocol: u8,
        ports: (u16, u16),
        among: Option<&[u64]>,
    ) -> Option<usize> {
        let of_ports = match protocol {
            protocol::TCP => &self.tcp,
            protocol::UDP => &self.udp,
            _ => {
                let class = self.portless as usize + usize::from(self.classes[usize::from(protocol)]);
                return self.first([source, destination, class], among);
            }
        };
        let to = self.lines.find_port(&of_ports.destination, ports.1);
        if of_ports.source.is_trivial() {
            return self.first([source, destination, to], among);
        }
        let from = self.lines.find_port(&of_ports.source, ports.0);
        self.first([source, destination, to, from], among)
    }

    /// The first rule that is in the sets of all these values.
    #[inline(always)]
    fn first<const N: usize>(&self, values: [usize; N], among: Option<&[u64]>) -> Option<usize> {
        let values = values.map(|at| self.values.get(at).copied().unwrap_or(0));
        match self.layout {
            Layout::Bits => {
                let mut hits = values.into_iter().fold(u64::MAX, |all, value| all & value);
                if let Some(among) = among {
                    hits &= among.first().copied().unwrap_or(0);
                }
                if hits != 0 {
                    return Some(hits.trailing_zeros() as usize);
                }
            }
            Layout::Blocks => {
                let mut left = values;
                for number in 0..self.count {
                    let hits = self.hits(number, left.map(|value| usize::from(value as u16)), among);
                    if !hits.is_empty() {
                        return Some(256 * number + hits.first());
                    }
                    left = left.map(|value| value >> 16);
                }
            }
            Layout::Rows => {
                for number in 0..self.count {
                    let place =
                        |row: u64| self.rows.get(row as usize + number).map_or(0, |place| *place as usize);
                    let hits = self.hits(number, values.map(place), among);
                    if !hits.is_empty() {
                        return Some(256 * number + hits.first());
                    }
                }
            }
        }
        let limit =
            |rest: usize| among.is_none_or(|a| a.get(rest / 64).is_some_and(|w| w >> (rest % 64) & 1 != 0));
        self.rest.filter(|rest| limit(*rest))
    }

    /// The rules in all these blocks, which are the sets' blocks of this number.
    #[inline(always)]
    fn hits<const N: usize>(&self, number: usize, places: [usize; N], among: Option<&[u64]>) -> Block {
        let mut hits = Block::FULL;
        for place in places {
            let Some(block) = self.blocks.get(place) else { return Block::EMPTY };
            hits = hits.and(*block);
        }
        if let Some(among) = among {
            hits = hits.and(Block(std::array::from_fn(|n| among.get(4 * number + n).copied().unwrap_or(0))));
        }
        hits
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.lines.memory()
            + size_of_val(&*self.values)
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.rows)
    }
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
