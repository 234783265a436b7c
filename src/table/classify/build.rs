//! Builds a classifier: sorts the edges of the rules' ranges and sweeps over them, with the matching rules as bits.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ahash::RandomState;

use super::search::{Lines, Tree};
use super::{ALL_PORTS, Addresses, Classifier, Pattern, Ports, Protocols, SUMMARY, TAIL};
use crate::table::ecmp::mix;
use crate::types::Prefix;
use crate::wire::protocol;

/// Lists of prefixes from this length on are looked for among those that were seen, by their address.
const LONG: usize = 4;

/// How the bits of a classifier's rules are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Words of 64 rules that stand outside the interval's value.
    pub(super) words: usize,
    /// Words that one bit of a summary stands for.
    pub(super) stride: usize,
    /// The first rule whose bit stands in the value itself.
    pub(super) tail: usize,
}

impl Shape {
    fn new(rules: usize) -> Shape {
        let tail = if rules <= 64 { 0 } else { rules - TAIL };
        let words = tail.div_ceil(64);
        let stride = words.div_ceil(SUMMARY).max(1);
        Shape { words: words.next_multiple_of(stride), stride, tail }
    }

    /// The word of a rule, and its bit; the word behind the last is the tail.
    fn place(&self, rule: usize) -> (usize, u64) {
        match rule.checked_sub(self.tail) {
            Some(bit) => (self.words, 1 << bit),
            None => (rule / 64, 1 << (rule % 64)),
        }
    }

    /// No rule at all.
    fn none(&self) -> Vec<u64> {
        vec![0; self.words + 1]
    }

    fn flip(&self, bits: &mut [u64], rule: usize) {
        let (word, bit) = self.place(rule);
        bits[word] ^= bit;
    }

    fn holds(&self, bits: &[u64], rule: usize) -> bool {
        let (word, bit) = self.place(rule);
        bits[word] & bit != 0
    }

    fn bits(&self, rules: &[Pattern], keep: impl Fn(&Pattern) -> bool) -> Vec<u64> {
        let mut bits = self.none();
        for (rule, _) in rules.iter().enumerate().filter(|(_, r)| keep(r)) {
            self.flip(&mut bits, rule);
        }
        bits
    }
}

/// True of a rule that matches every packet.
fn matches_all(rule: &Pattern) -> bool {
    rule.protocols == Protocols::Any
        && rule.source == Addresses::Any
        && rule.destination == Addresses::Any
        && rule.source_ports.contains(&ALL_PORTS)
        && rule.destination_ports.contains(&ALL_PORTS)
}

fn names(rule: &Pattern, protocol: u8) -> bool {
    match &rule.protocols {
        Protocols::Any => true,
        Protocols::Numbers(numbers) => numbers.contains(&protocol),
    }
}

/// Compiles rules; the first has the highest priority.
pub(super) fn build(rules: &[Pattern]) -> Classifier {
    let rest = rules.last().filter(|r| matches_all(r)).map(|_| rules.len() - 1);
    let rules = &rules[..rest.unwrap_or(rules.len())];
    let shape = Shape::new(rules.len());
    let mut builder = Builder { rules, shape, ..Builder::default() };
    let source_v4 = builder.v4(|r| &r.source);
    let destination_v4 = builder.v4(|r| &r.destination);
    let source_v6 = builder.v6(|r| &r.source);
    let destination_v6 = builder.v6(|r| &r.destination);
    let tcp = builder.ports_of(protocol::TCP);
    let alike = rules.iter().all(|r| names(r, protocol::TCP) == names(r, protocol::UDP));
    let udp = if alike { tcp } else { builder.ports_of(protocol::UDP) };
    let (portless, classes) = builder.portless();
    builder.lines.shrink();
    Classifier {
        shape,
        rest,
        source_v4,
        destination_v4,
        tcp,
        udp,
        values: builder.values.into(),
        words: builder.words.into(),
        lines: builder.lines,
        source_v6,
        destination_v6,
        portless,
        classes,
    }
}

impl Default for Shape {
    fn default() -> Self {
        Shape::new(0)
    }
}

/// What the values of a field are: addresses of a family, or ports.
trait Value: Copy + Ord {
    const LOWEST: Self;
    fn next(self) -> Option<Self>;
}

macro_rules! value {
    ($($number:ty),*) => {$(
        impl Value for $number {
            const LOWEST: Self = <$number>::MIN;
            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )*};
}
value!(u16, u32, u128);

/// Values at which rules begin or cease to match. The number behind a value is a rule's, or from [`SHARED`] on that of a
/// list that several rules share.
struct Edges<T> {
    edges: Vec<(T, u32)>,
    /// The rules that match every value.
    always: Vec<u64>,
    /// The rules of each shared list.
    shared: Vec<Vec<u64>>,
    /// Ranges of the rule at hand.
    ranges: Vec<(T, T)>,
}

const SHARED: u32 = 1 << 31;

impl<T: Value> Edges<T> {
    /// Adds both ends of every range, without overlap and without adjacent pairs, so that every edge is met once.
    fn add(&mut self, ranges: impl Iterator<Item = (T, T)>, number: u32) {
        self.ranges.clear();
        self.ranges.extend(ranges.filter(|(from, to)| from <= to));
        if self.ranges.len() > 1 {
            self.ranges.sort_unstable();
            self.ranges.dedup_by(|(from, to), (_, last)| {
                let joins = last.next().is_none_or(|end| *from <= end);
                if joins {
                    *last = (*last).max(*to);
                }
                joins
            });
        }
        for &(from, to) in &self.ranges {
            self.edges.push((from, number));
            self.edges.extend(to.next().map(|end| (end, number)));
        }
    }
}

/// What is built, and the spans of words that were met: equal ones are held once.
#[derive(Default)]
struct Builder<'a> {
    rules: &'a [Pattern],
    shape: Shape,
    lines: Lines,
    values: Vec<u64>,
    words: Vec<u64>,
    known: HashMap<u64, u32, RandomState>,
}

impl<'a> Builder<'a> {
    fn v4(&mut self, side: fn(&Pattern) -> &Addresses) -> Tree {
        let values = self.values.len() as u32;
        let edges = self.edges(
            |_, r| Some(prefixes(side(r))),
            |p| match (p.first(), p.last()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits(), b.to_bits())),
                _ => None,
            },
        );
        let ends = self.sweep(edges);
        self.lines.add_v4(&ends, values)
    }

    fn v6(&mut self, side: fn(&Pattern) -> &Addresses) -> Tree {
        let values = self.values.len() as u32;
        let edges = self.edges(
            |_, r| Some(prefixes(side(r))),
            |p| match (p.first(), p.last()) {
                (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits(), b.to_bits())),
                _ => None,
            },
        );
        let ends = self.sweep(edges);
        self.lines.add_v6(&ends, values)
    }

    /// The ports of the rules that name a protocol. Where no source port makes a difference, the source ports are one
    /// interval that is not asked: the destination ports know which rules are meant.
    fn ports_of(&mut self, protocol: u8) -> Ports {
        let meant = self.shape.bits(self.rules, |r| names(r, protocol) && !r.source_ports.is_empty());
        let mut tree = |side: fn(&Pattern) -> &[(u16, u16)]| {
            let values = self.values.len() as u32;
            let edges = self.edges(
                |rule, r| {
                    self.shape.holds(&meant, rule).then(|| Some(side(r)).filter(|s| !s.contains(&ALL_PORTS)))
                },
                |range| Some(*range),
            );
            let ends = self.sweep(edges);
            self.lines.add_ports(&ends, values)
        };
        Ports { source: tree(|r| &r.source_ports), destination: tree(|r| &r.destination_ports) }
    }

    /// For protocols without ports: the class of each, and where the values of the classes begin.
    fn portless(&mut self) -> (u32, [u8; 256]) {
        let takes_all =
            |r: &Pattern| r.source_ports.contains(&ALL_PORTS) && r.destination_ports.contains(&ALL_PORTS);
        let of_any = self.shape.bits(self.rules, |r| takes_all(r) && r.protocols == Protocols::Any);
        let mut named: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for (rule, r) in self.rules.iter().enumerate().filter(|(_, r)| takes_all(r)) {
            let Protocols::Numbers(numbers) = &r.protocols else { continue };
            for number in numbers {
                let bits = named.entry(*number).or_insert_with(|| of_any.clone());
                let (word, bit) = self.shape.place(rule);
                bits[word] |= bit;
            }
        }
        // The class behind the named ones is that of all others; if all 256 are named, nothing asks for it.
        let mut classes = [named.len() as u8; 256];
        let first = self.values.len() as u32;
        for (class, (number, bits)) in named.iter().enumerate() {
            classes[usize::from(*number)] = class as u8;
            let value = self.value(bits);
            self.values.push(value);
        }
        let value = self.value(&of_any);
        self.values.push(value);
        (first, classes)
    }

    /// The edges of a field. `list` says which values a rule takes: `None` for a rule that is not meant, `Some(None)` for
    /// all values.
    fn edges<P: 'a, T: Value>(
        &self,
        list: impl Fn(usize, &'a Pattern) -> Option<Option<&'a [P]>>,
        range: impl Fn(&P) -> Option<(T, T)>,
    ) -> Edges<T> {
        let mut edges =
            Edges { edges: Vec::new(), always: self.shape.none(), shared: Vec::new(), ranges: Vec::new() };
        let mut seen: HashMap<(*const P, usize), u32, RandomState> = HashMap::default();
        for (rule, pattern) in self.rules.iter().enumerate() {
            match list(rule, pattern) {
                None => {}
                Some(None) => self.shape.flip(&mut edges.always, rule),
                Some(Some(list)) if list.len() < LONG => {
                    edges.add(list.iter().filter_map(&range), rule as u32);
                }
                Some(Some(list)) => {
                    let next = edges.shared.len() as u32;
                    let number = *seen.entry((list.as_ptr(), list.len())).or_insert(next);
                    if number == next {
                        edges.add(list.iter().filter_map(&range), SHARED | number);
                        edges.shared.push(self.shape.none());
                    }
                    self.shape.flip(&mut edges.shared[number as usize], rule);
                }
            }
        }
        edges.edges.sort_unstable_by_key(|e| e.0);
        edges
    }

    /// Adds a value for every interval between edges; where each but the last ends, that is the next begins.
    fn sweep<T: Value>(&mut self, edges: Edges<T>) -> Vec<T> {
        let Edges { edges, always: mut bits, shared, .. } = edges;
        let mut ends: Vec<T> = Vec::with_capacity(edges.len());
        let mut current = None;
        for at in edges.chunk_by(|a, b| a.0 == b.0) {
            let start = at.first().map_or(T::LOWEST, |e| e.0);
            if start > T::LOWEST && current.is_none() {
                current = Some(self.add_value(&bits));
            }
            for &(_, number) in at {
                match number.checked_sub(SHARED) {
                    Some(list) => {
                        bits.iter_mut().zip(&shared[list as usize]).for_each(|(word, flip)| *word ^= flip);
                    }
                    None => self.shape.flip(&mut bits, number as usize),
                }
            }
            let value = self.value(&bits);
            if current != Some(value) {
                if start > T::LOWEST {
                    ends.push(start);
                }
                self.values.push(value);
                current = Some(value);
            }
        }
        if current.is_none() {
            self.add_value(&bits);
        }
        ends
    }

    fn add_value(&mut self, bits: &[u64]) -> u64 {
        let value = self.value(bits);
        self.values.push(value);
        value
    }

    /// The value of an interval in which these rules match.
    fn value(&mut self, bits: &[u64]) -> u64 {
        let Some((&tail, words)) = bits.split_last() else { return 0 };
        if words.is_empty() {
            return tail;
        }
        let stride = self.shape.stride;
        let mut summary = 0_u32;
        for (chunk, words) in words.chunks_exact(stride).enumerate() {
            summary |= u32::from(words.iter().any(|w| *w != 0)) << chunk;
        }
        let mut offset = 0;
        if summary != 0 {
            let first = summary.trailing_zeros() as usize * stride;
            let end = (32 - summary.leading_zeros()) as usize * stride;
            offset = self.span(&words[first..end]).wrapping_sub(first as u32);
        }
        u64::from(offset) << 32 | tail << SUMMARY | u64::from(summary)
    }

    /// Where these words stand.
    fn span(&mut self, words: &[u64]) -> u32 {
        let hash = mix(words
            .iter()
            .fold(0, |h: u64, w| (h.rotate_left(23) ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let next = self.words.len();
        let known = *self.known.entry(hash).or_insert(next as u32);
        if self.words.get(known as usize..).is_some_and(|all| all.starts_with(words)) {
            return known;
        }
        self.words.extend_from_slice(words);
        next as u32
    }
}

/// The prefixes of a rule's side; `None` for every address.
fn prefixes(side: &Addresses) -> Option<&[Prefix]> {
    match side {
        Addresses::Any => None,
        Addresses::Prefixes(prefixes) => Some(prefixes),
    }
}
