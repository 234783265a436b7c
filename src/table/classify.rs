//! First match over an ordered list of rules, in time that depends on the number of rules but never on the packets.
//!
//! Each field's values are cut into intervals inside which the same rules match. A look-up finds one interval per field;
//! each has a value that says which rules match in it, and the lowest rule that is in all of them is the answer.
//!
//! The value of up to 64 rules is their bits. Of more rules it is a summary, one bit for each 64 rules some of which match;
//! where the bits of these rules stand; and the bits of the last sixteen rules, so that default rules need no more:
//!
//! ```text
//!   source ───────► value ─┐
//!   destination ──► value ─┼─ and ─► for each bit of the summary: and the words ─► lowest bit ─► rule
//!   protocol, ports ► value ─┘       else the lowest of the last sixteen
//! ```
//!
//! TCP and UDP have intervals of ports of their own, so that the protocol needs no step.

mod build;
mod search;

use std::net::IpAddr;
use std::sync::Arc;

use self::build::Shape;
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

const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// A set of rules as bits, the first rule in the lowest bit of the first word.
pub type Bits = Box<[u64]>;

/// Bits of a value that are a summary, and bits behind them that are rules.
const SUMMARY: usize = 16;
const TAIL: usize = 16;

/// A compiled list of rules.
#[derive(Debug)]
pub struct Classifier {
    source_v4: Tree,
    destination_v4: Tree,
    tcp: Ports,
    udp: Ports,
    lines: Lines,
    values: Box<[u64]>,
    words: Box<[u64]>,
    shape: Shape,
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

    /// The same for IPv4 addresses as numbers.
    #[inline]
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

    /// The first rule in the sets of these intervals, the protocol and the ports.
    #[inline]
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
        let common = values.into_iter().fold(u64::MAX, |all, value| all & value);
        let mut tail = common;
        if self.shape.words != 0 {
            tail = common >> SUMMARY & ((1 << TAIL) - 1);
            let mut summary = common as u32 & ((1 << SUMMARY) - 1);
            while summary != 0 {
                if let Some(rule) = self.first_among_words(values, summary.trailing_zeros(), among) {
                    return Some(rule);
                }
                summary &= summary - 1;
            }
        }
        if let Some(among) = among {
            tail &= bits_from(among, self.shape.tail);
        }
        if tail != 0 {
            return Some(self.shape.tail + tail.trailing_zeros() as usize);
        }
        self.rest.filter(|rest| among.is_none_or(|a| bits_from(a, *rest) & 1 != 0))
    }

    /// The first rule that is in the sets of all these values, of those that one bit of their summaries stands for.
    #[inline(always)]
    fn first_among_words<const N: usize>(
        &self,
        values: [u64; N],
        bit: u32,
        among: Option<&[u64]>,
    ) -> Option<usize> {
        let stride = self.shape.stride as u32;
        for word in bit * stride..(bit + 1) * stride {
            let words = values.map(|value| {
                let at = ((value >> 32) as u32).wrapping_add(word);
                self.words.get(at as usize).copied().unwrap_or(0)
            });
            let mut hit = words.into_iter().fold(u64::MAX, |all, word| all & word);
            if let Some(among) = among {
                hit &= among.get(word as usize).copied().unwrap_or(0);
            }
            if hit != 0 {
                return Some((word * 64 + hit.trailing_zeros()) as usize);
            }
        }
        None
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.lines.memory() + size_of_val(&*self.values) + size_of_val(&*self.words)
    }
}

/// Up to 64 bits from this one on.
#[inline]
fn bits_from(bits: &[u64], first: usize) -> u64 {
    let word = |at: usize| bits.get(at).copied().unwrap_or(0);
    let shift = first % 64;
    word(first / 64) >> shift | word(first / 64 + 1) << 1 << (63 - shift)
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
