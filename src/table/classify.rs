//! First match over an ordered list of rules, in time that depends on the number of rules but never on the packets.
//!
//! Each field's values are cut into intervals inside which the same rules match; an interval holds that set as bits.
//! A look-up finds one interval per field by binary search and takes the lowest bit that is in all the sets:
//!
//! ```text
//!   source ──► bits ─┐
//!   destination ► bits ─┤
//!   protocol ─► bits ─┼─ and ─► lowest bit ─► rule
//!   ports ────► bits ─┘
//! ```

use std::collections::HashMap;
use std::net::IpAddr;

use crate::types::Prefix;
use crate::wire::protocol;

/// The addresses one side of a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Every address of both families.
    Any,
    /// These prefixes.
    Prefixes(Vec<Prefix>),
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

/// A compiled list of rules.
#[derive(Debug)]
pub struct Classifier {
    words: usize,
    sets: Vec<u64>,
    source_v4: Intervals<u32>,
    source_v6: Intervals<u128>,
    destination_v4: Intervals<u32>,
    destination_v6: Intervals<u128>,
    source_ports: Intervals<u16>,
    destination_ports: Intervals<u16>,
    /// The set of each protocol number.
    protocols: [u32; 256],
    /// Rules that match a protocol without ports.
    portless: u32,
}

#[derive(Debug, Default)]
struct Intervals<T> {
    starts: Vec<T>,
    sets: Vec<u32>,
}

impl<T: Copy + Ord> Intervals<T> {
    /// The set of the interval that holds `value`; the first interval begins at the lowest value.
    #[inline]
    fn find(&self, value: T) -> u32 {
        let after = self.starts.partition_point(|&start| start <= value);
        self.sets.get(after.wrapping_sub(1)).copied().unwrap_or(0)
    }
}

impl Classifier {
    /// Compiles the rules; the first has the highest priority.
    pub fn new(rules: &[Pattern]) -> Classifier {
        let mut pool = Pool::new(rules.len());
        let v4 = |side: fn(&Pattern) -> &Addresses| {
            rules.iter().map(move |r| {
                address_ranges(
                    side(r),
                    |p| match (p.first(), p.last()) {
                        (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits(), b.to_bits())),
                        _ => None,
                    },
                    (0, u32::MAX),
                )
            })
        };
        let v6 = |side: fn(&Pattern) -> &Addresses| {
            rules.iter().map(move |r| {
                address_ranges(
                    side(r),
                    |p| match (p.first(), p.last()) {
                        (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits(), b.to_bits())),
                        _ => None,
                    },
                    (0, u128::MAX),
                )
            })
        };
        let next = |p: u16| p.checked_add(1);
        let source_v4 = pool.intervals(v4(|r| &r.source), 0, |a| a.checked_add(1));
        let source_v6 = pool.intervals(v6(|r| &r.source), 0, |a| a.checked_add(1));
        let destination_v4 = pool.intervals(v4(|r| &r.destination), 0, |a| a.checked_add(1));
        let destination_v6 = pool.intervals(v6(|r| &r.destination), 0, |a| a.checked_add(1));
        let source_ports = pool.intervals(rules.iter().map(|r| r.source_ports.clone()), 0, next);
        let destination_ports = pool.intervals(rules.iter().map(|r| r.destination_ports.clone()), 0, next);
        let mut protocols = [0; 256];
        for (number, set) in protocols.iter_mut().enumerate() {
            *set = pool.set_where(rules, |r| match &r.protocols {
                Protocols::Any => true,
                Protocols::Numbers(numbers) => numbers.contains(&(number as u8)),
            });
        }
        let portless = pool.set_where(rules, |r| {
            r.source_ports.contains(&ALL_PORTS) && r.destination_ports.contains(&ALL_PORTS)
        });
        Classifier {
            words: pool.words,
            sets: pool.sets,
            source_v4,
            source_v6,
            destination_v4,
            destination_v6,
            source_ports,
            destination_ports,
            protocols,
            portless,
        }
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
            IpAddr::V4(a) => self.source_v4.find(a.to_bits()),
            IpAddr::V6(a) => self.source_v6.find(a.to_bits()),
        };
        let destination = match destination {
            IpAddr::V4(a) => self.destination_v4.find(a.to_bits()),
            IpAddr::V6(a) => self.destination_v6.find(a.to_bits()),
        };
        let (source_ports, destination_ports) = if matches!(protocol, protocol::TCP | protocol::UDP) {
            (self.source_ports.find(ports.0), self.destination_ports.find(ports.1))
        } else {
            (self.portless, self.portless)
        };
        let protocol = self.protocols[usize::from(protocol)];
        let set = |id: u32| self.sets.get(id as usize * self.words..).unwrap_or(&[]).iter();
        let words = set(source)
            .zip(set(destination))
            .zip(set(protocol))
            .zip(set(source_ports))
            .zip(set(destination_ports));
        for (i, ((((a, b), c), d), e)) in words.take(self.words).enumerate() {
            let mut hit = a & b & c & d & e;
            if let Some(among) = among {
                hit &= among.get(i).copied().unwrap_or(0);
            }
            if hit != 0 {
                return Some(i * 64 + hit.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.sets.len() * 8
            + (self.source_v4.starts.len() + self.destination_v4.starts.len()) * 8
            + (self.source_v6.starts.len() + self.destination_v6.starts.len()) * 20
            + (self.source_ports.starts.len() + self.destination_ports.starts.len()) * 6
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

/// Ranges of one family that a rule's side matches.
fn address_ranges<T>(
    side: &Addresses,
    range: impl Fn(&Prefix) -> Option<(T, T)>,
    all: (T, T),
) -> Vec<(T, T)> {
    match side {
        Addresses::Any => vec![all],
        Addresses::Prefixes(prefixes) => prefixes.iter().filter_map(range).collect(),
    }
}

/// The sets of a classifier while it is built; equal sets are held once.
struct Pool {
    words: usize,
    sets: Vec<u64>,
    known: HashMap<Bits, u32>,
}

impl Pool {
    fn new(rules: usize) -> Pool {
        Pool { words: rules.div_ceil(64), sets: Vec::new(), known: HashMap::new() }
    }

    fn set(&mut self, bits: &[u64]) -> u32 {
        if let Some(&id) = self.known.get(bits) {
            return id;
        }
        let id = self.known.len() as u32;
        self.sets.extend_from_slice(bits);
        self.known.insert(bits.into(), id);
        id
    }

    fn set_where<R>(&mut self, rules: &[R], keep: impl Fn(&R) -> bool) -> u32 {
        self.set(&bits_where(rules, keep))
    }

    /// Cuts the value space at every edge of a rule's ranges and notes which rules match in between.
    fn intervals<T: Copy + Ord>(
        &mut self,
        ranges: impl Iterator<Item = Vec<(T, T)>>,
        lowest: T,
        next: impl Fn(T) -> Option<T>,
    ) -> Intervals<T> {
        let mut edges: Vec<(T, u32, bool)> = Vec::new();
        for (rule, ranges) in ranges.enumerate() {
            for (from, to) in merged(ranges, &next) {
                edges.push((from, rule as u32, true));
                if let Some(end) = next(to) {
                    edges.push((end, rule as u32, false));
                }
            }
        }
        edges.sort_unstable();
        let mut bits = vec![0u64; self.words];
        let mut intervals = Intervals { starts: vec![lowest], sets: vec![self.set(&bits)] };
        for at in edges.chunk_by(|a, b| a.0 == b.0) {
            for &(_, rule, begins) in at {
                let bit = 1u64 << (rule % 64);
                let word = &mut bits[rule as usize / 64];
                *word = if begins { *word | bit } else { *word & !bit };
            }
            let (start, set) = (at[0].0, self.set(&bits));
            if start == lowest {
                intervals.sets[0] = set;
            } else if intervals.sets.last() != Some(&set) {
                intervals.starts.push(start);
                intervals.sets.push(set);
            }
        }
        intervals
    }
}

/// The ranges in order, without overlap and without adjacent pairs, so that every edge is met once.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match out.last_mut() {
            Some(last) if next(last.1).is_none_or(|end| from <= end) => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ecmp::mix;

    fn matches(r: &Pattern, s: IpAddr, d: IpAddr, protocol: u8, ports: (u16, u16)) -> bool {
        let side = |a: &Addresses, x: IpAddr| match a {
            Addresses::Any => true,
            Addresses::Prefixes(p) => p.iter().any(|p| p.contains(x)),
        };
        let port = |ranges: &[(u16, u16)], p: u16| {
            if matches!(protocol, 6 | 17) {
                ranges.iter().any(|&(a, b)| (a..=b).contains(&p))
            } else {
                ranges.contains(&(0, 65535))
            }
        };
        let number = match &r.protocols {
            Protocols::Any => true,
            Protocols::Numbers(n) => n.contains(&protocol),
        };
        number
            && side(&r.source, s)
            && side(&r.destination, d)
            && port(&r.source_ports, ports.0)
            && port(&r.destination_ports, ports.1)
    }

    #[test]
    fn agrees_with_a_linear_scan() {
        let mut seed = 1u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(seed) % n
        };
        for round in 0..60 {
            let count = [0, 1, 5, 63, 64, 65, 200][round % 7];
            let mut rules = Vec::new();
            for _ in 0..count {
                let mut side = || match random(6) {
                    0 => Addresses::Any,
                    1 => Addresses::Prefixes(vec![
                        format!("fd0{}::/{}", random(4), 16 + random(3))
                            .parse::<Prefix>()
                            .unwrap_or(Prefix::ALL_V6),
                    ]),
                    _ => Addresses::Prefixes(
                        (0..1 + random(3))
                            .map(|_| {
                                Prefix::new(
                                    IpAddr::from([10, random(3) as u8, random(3) as u8, random(5) as u8]),
                                    random(33) as u8,
                                )
                            })
                            .collect(),
                    ),
                };
                let (source, destination) = (side(), side());
                let mut ports = || match random(3) {
                    0 => vec![ALL_PORTS],
                    1 => vec![(random(6) as u16, 6 + random(4) as u16), (8, 8)],
                    _ => vec![(65_530, 65_535), (5, 5)],
                };
                let (source_ports, destination_ports) = (ports(), ports());
                let protocols = match random(4) {
                    0 => Protocols::Any,
                    1 => Protocols::Numbers(vec![1, 58]),
                    _ => Protocols::Numbers(vec![6]),
                };
                rules.push(Pattern { protocols, source, destination, source_ports, destination_ports });
            }
            let classifier = Classifier::new(&rules);
            let odd = bits_where(&(0..count).collect::<Vec<_>>(), |i| i % 2 == 1);
            for _ in 0..300 {
                let mut addr = || match random(5) {
                    0 => IpAddr::from([0xfd00 + random(4) as u16, 0, 0, 0, 0, 0, 0, 1]),
                    _ => IpAddr::from([10, random(3) as u8, random(3) as u8, random(5) as u8]),
                };
                let (s, d) = (addr(), addr());
                let protocol = [1, 6, 17, 50, 58][random(5) as usize];
                let ports = ([0, 5, 7, 8, 65_535][random(5) as usize], [0, 5, 9, 65_530][random(4) as usize]);
                let linear = rules.iter().position(|r| matches(r, s, d, protocol, ports));
                assert_eq!(classifier.first_match(s, d, protocol, ports, None), linear);
                let linear = rules
                    .iter()
                    .enumerate()
                    .position(|(i, r)| i % 2 == 1 && matches(r, s, d, protocol, ports));
                assert_eq!(classifier.first_match(s, d, protocol, ports, Some(&odd)), linear);
            }
        }
    }
}
