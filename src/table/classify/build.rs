//! Builds a classifier: sorts the edges of the rules' ranges and sweeps over them, with the matching rules as bits.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ahash::RandomState;

use super::search::{Grown, Halved, Laid};
use super::{ALL_PORTS, Classifier, EMPTY, Fields, Layout, NONE, NUMBERS, Rare};
use crate::sys::{Block, Lines};
use crate::table::ecmp::mix;
use crate::types::Prefix;
use crate::wire::protocol;

/// Lists of prefixes from this length on are looked for among those that were seen, by their address.
const LONG: usize = 4;

/// Intervals to a block at most that have it each for itself, which saves a look-up: their memory at most doubles.
const DIRECT: usize = 4;

/// Bits of all rules: their blocks.
type Bits = Vec<Block>;

fn flip(bits: &mut [Block], rule: usize) {
    bits[rule / 256].0[rule % 256 / 64] ^= 1 << (rule % 64);
}

fn holds(bits: &[Block], rule: usize) -> bool {
    bits[rule / 256].0[rule % 256 / 64] >> (rule % 64) & 1 != 0
}

fn bits_of(rules: &[Fields<'_>], keep: impl Fn(&Fields<'_>) -> bool) -> Bits {
    let mut bits = none(rules);
    for (rule, _) in rules.iter().enumerate().filter(|(_, r)| keep(r)) {
        flip(&mut bits, rule);
    }
    bits
}

/// No rule at all; at least one block.
fn none(rules: &[Fields<'_>]) -> Bits {
    vec![EMPTY; rules.len().div_ceil(256).max(1)]
}

/// True of a rule that matches every packet.
fn matches_all(rule: &Fields<'_>) -> bool {
    rule.protocols.is_none() && rule.source.is_none() && rule.destination.is_none() && takes_all_ports(rule)
}

/// True of a rule that matches protocols without ports.
fn takes_all_ports(rule: &Fields<'_>) -> bool {
    rule.source_ports.contains(&ALL_PORTS) && rule.destination_ports.contains(&ALL_PORTS)
}

fn names(rule: &Fields<'_>, protocol: u8) -> bool {
    rule.protocols.is_none_or(|numbers| numbers.contains(&protocol))
}

/// Compiles rules; the first has the highest priority.
pub(super) fn build(rules: &[Fields<'_>]) -> Classifier {
    let rest = rules.last().filter(|r| matches_all(r)).map(|_| rules.len() - 1);
    let rules = &rules[..rest.unwrap_or(rules.len())];
    let mut builder = Builder::new(rules);
    let source = builder.v4(|r| r.source);
    let destination = builder.v4(|r| r.destination);
    let v6 = [builder.v6(|r| r.source), builder.v6(|r| r.destination)];
    let tcp = builder.ports_of(protocol::TCP);
    let alike = rules.iter().all(|r| names(r, protocol::TCP) == names(r, protocol::UDP));
    let udp = if alike { tcp } else { builder.ports_of(protocol::UDP) };
    let (portless, classes) = builder.portless();
    let Builder { lines, blocks, rows, current, .. } = builder;
    let count = current.bits.len();
    let (layout, values) = if rules.len() <= 64 {
        let bits = |row: &u32| blocks.get(*row as usize).map_or(0, |block| block.0[0]);
        (Layout::Bits, rows.iter().map(bits).collect())
    } else if count == 1 && rows.len() <= DIRECT * blocks.len() {
        (Layout::Block, Box::default())
    } else if count <= 4 && blocks.len() <= NUMBERS {
        let value = |row: &[u32]| row.iter().rev().fold(0, |value, block| value << 16 | u64::from(*block));
        (Layout::Blocks, rows.chunks_exact(count).map(value).collect())
    } else {
        (Layout::Rows, (0..rows.len() as u64).step_by(count).collect())
    };
    let blocks = match layout {
        Layout::Bits => Box::default(),
        Layout::Block => rows.iter().filter_map(|row| blocks.get(*row as usize).copied()).collect(),
        Layout::Blocks | Layout::Rows => blocks.into(),
    };
    let (sides, ports) = ([source, destination], [tcp.destination, udp.destination]);
    let source_ports = [tcp.source, udp.source];
    let [[a, b], [c, d], [e, f]] = [sides, ports, source_ports].map(|both| both.map(|g| g.deeper));
    Classifier {
        sides: sides.map(|g| g.tree),
        ports: ports.map(|g| g.tree),
        lines: Lines::new(lines.lines),
        values,
        blocks,
        rare: Box::new(Rare {
            rows: if layout == Layout::Rows { rows.into() } else { Box::default() },
            count,
            v6,
            v6_lasts: lines.v6.into(),
            source_ports,
            deeper: [a, b, c, d, e, f],
            portless,
            classes,
        }),
        rest: rest.map_or(NONE, |rest| rest as u32),
        layout,
        asks_source_port: [tcp.asks_source, udp.asks_source],
        side_roots: sides.map(|g| g.root),
        port_roots: ports.map(|g| g.root),
    }
}

/// The intervals of the ports of a protocol.
#[derive(Clone, Copy)]
struct Ports {
    source: Grown,
    destination: Grown,
    /// Whether there are several intervals of source ports.
    asks_source: bool,
}

/// What the values of a field are: addresses of a family, or ports.
trait Value: Copy + Ord {
    const HIGHEST: Self;
    fn next(self) -> Option<Self>;
    fn before(self) -> Option<Self>;
}

macro_rules! value {
    ($($number:ty),*) => {$(
        impl Value for $number {
            const HIGHEST: Self = <$number>::MAX;
            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            #[inline]
            fn before(self) -> Option<Self> {
                self.checked_sub(1)
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
    always: Bits,
    /// The rules of each shared list.
    shared: Vec<Bits>,
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

/// What is built, and the blocks that were met: equal ones are held once.
struct Builder<'a> {
    rules: &'a [Fields<'a>],
    lines: Laid,
    blocks: Vec<Block>,
    /// The first block with a hash. Another with the same, which chance does not make, is held as often as it is met.
    known: HashMap<u64, u32, RandomState>,
    /// The numbers of the blocks of each value, one row behind the other.
    rows: Vec<u32>,
    current: Current,
}

/// The bits of the latest value, and the numbers of their blocks.
struct Current {
    bits: Bits,
    row: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(rules: &'a [Fields<'a>]) -> Builder<'a> {
        let bits = none(rules);
        let row = vec![0; bits.len()];
        Builder {
            rules,
            lines: Laid::default(),
            blocks: vec![EMPTY],
            known: HashMap::default(),
            rows: Vec::new(),
            current: Current { bits, row },
        }
    }

    /// The number of the next value.
    fn next(&self) -> u32 {
        (self.rows.len() / self.current.row.len()) as u32
    }

    fn v4(&mut self, side: fn(&Fields<'a>) -> Option<&'a [Prefix]>) -> Grown {
        let value = self.next();
        let range = |p: &Prefix| match (p.first(), p.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Some((first.to_bits(), last.to_bits())),
            _ => None,
        };
        let edges = self.edges(|_, rule| Some(side(rule)), range);
        let lasts = self.sweep(edges);
        self.lines.add_v4(&lasts, value)
    }

    fn v6(&mut self, side: fn(&Fields<'a>) -> Option<&'a [Prefix]>) -> Halved {
        let value = self.next();
        let range = |p: &Prefix| match (p.first(), p.last()) {
            (IpAddr::V6(first), IpAddr::V6(last)) => Some((first.to_bits(), last.to_bits())),
            _ => None,
        };
        let edges = self.edges(|_, rule| Some(side(rule)), range);
        let lasts = self.sweep(edges);
        self.lines.add_v6(&lasts, value)
    }

    /// The ports of the rules that name a protocol. Where no source port makes a difference, the source ports are one
    /// interval that is not asked: the destination ports know which rules are meant.
    fn ports_of(&mut self, protocol: u8) -> Ports {
        let meant = bits_of(self.rules, |r| names(r, protocol) && !r.source_ports.is_empty());
        let mut tree = |side: fn(&Fields<'a>) -> &'a [(u16, u16)]| {
            let value = self.next();
            let list = |number, rule: &Fields<'a>| {
                let ranges = side(rule);
                holds(&meant, number).then(|| (!ranges.contains(&ALL_PORTS)).then_some(ranges))
            };
            let edges = self.edges(list, |range| Some(*range));
            let lasts = self.sweep(edges);
            (self.lines.add_ports(&lasts, value), lasts.len() > 1)
        };
        let (source, asks_source) = tree(|r| r.source_ports);
        let (destination, _) = tree(|r| r.destination_ports);
        Ports { source, destination, asks_source }
    }

    /// For protocols without ports: the class of each, and where the values of the classes begin.
    fn portless(&mut self) -> (u32, [u8; 256]) {
        let of_any = bits_of(self.rules, |r| takes_all_ports(r) && r.protocols.is_none());
        let mut named: BTreeMap<u8, Bits> = BTreeMap::new();
        for (rule, r) in self.rules.iter().enumerate().filter(|(_, r)| takes_all_ports(r)) {
            for number in r.protocols.unwrap_or(&[]) {
                let bits = named.entry(*number).or_insert_with(|| of_any.clone());
                bits[rule / 256].0[rule % 256 / 64] |= 1 << (rule % 64);
            }
        }
        // The class behind the named ones is that of all others; if all 256 are named, nothing asks for it.
        let mut classes = [named.len() as u8; 256];
        let first = self.next();
        for (class, (number, bits)) in named.iter().enumerate() {
            classes[usize::from(*number)] = class as u8;
            self.add_value(bits);
        }
        self.add_value(&of_any);
        (first, classes)
    }

    /// The edges of a field. `list` says which values a rule takes: `None` for a rule that is not meant, `Some(None)` for
    /// all values.
    fn edges<P: 'a, T: Value>(
        &self,
        list: impl Fn(usize, &Fields<'a>) -> Option<Option<&'a [P]>>,
        range: impl Fn(&P) -> Option<(T, T)>,
    ) -> Edges<T> {
        let mut edges =
            Edges { edges: Vec::new(), always: none(self.rules), shared: Vec::new(), ranges: Vec::new() };
        let mut seen: HashMap<(*const P, usize), u32, RandomState> = HashMap::default();
        for (rule, pattern) in self.rules.iter().enumerate() {
            match list(rule, pattern) {
                None => {}
                Some(None) => flip(&mut edges.always, rule),
                Some(Some(list)) if list.len() < LONG => {
                    edges.add(list.iter().filter_map(&range), rule as u32);
                }
                Some(Some(list)) => {
                    let next = edges.shared.len() as u32;
                    let number = *seen.entry((list.as_ptr(), list.len())).or_insert(next);
                    if number == next {
                        edges.add(list.iter().filter_map(&range), SHARED | number);
                        edges.shared.push(none(self.rules));
                    }
                    flip(&mut edges.shared[number as usize], rule);
                }
            }
        }
        edges.edges.sort_unstable_by_key(|e| e.0);
        edges
    }

    /// Adds a value for every interval between edges; the last value of each interval.
    fn sweep<T: Value>(&mut self, edges: Edges<T>) -> Vec<T> {
        let Edges { edges, always: mut bits, shared, .. } = edges;
        let mut lasts: Vec<T> = Vec::with_capacity(edges.len() + 1);
        for at in edges.chunk_by(|a, b| a.0 == b.0) {
            if let Some(before) = at.first().and_then(|e| e.0.before()) {
                self.end_interval(&mut lasts, before, &bits);
            }
            for &(_, number) in at {
                match number.checked_sub(SHARED) {
                    Some(list) => {
                        let words = |block: &Block| block.0;
                        for (block, flips) in bits.iter_mut().zip(shared[list as usize].iter().map(words)) {
                            block.0.iter_mut().zip(flips).for_each(|(word, flip)| *word ^= flip);
                        }
                    }
                    None => flip(&mut bits, number as usize),
                }
            }
        }
        self.end_interval(&mut lasts, T::HIGHEST, &bits);
        lasts
    }

    /// Ends an interval in which these rules match; it joins the one before if they match there, too.
    fn end_interval<T>(&mut self, lasts: &mut Vec<T>, end: T, bits: &[Block]) {
        let changed = self.change_to(bits);
        match lasts.last_mut() {
            Some(last) if !changed => *last = end,
            _ => {
                lasts.push(end);
                self.rows.extend_from_slice(&self.current.row);
            }
        }
    }

    /// Adds a value for these rules.
    fn add_value(&mut self, bits: &[Block]) {
        self.change_to(bits);
        self.rows.extend_from_slice(&self.current.row);
    }

    /// Makes these bits the latest; true if they differ from those before.
    fn change_to(&mut self, bits: &[Block]) -> bool {
        let Builder { blocks, known, current, .. } = self;
        let mut changed = false;
        for ((block, old), number) in bits.iter().zip(&mut current.bits).zip(&mut current.row) {
            if *block == *old {
                continue;
            }
            changed = true;
            *old = *block;
            *number = if *block == EMPTY { 0 } else { number_of(*block, blocks, known) };
        }
        changed
    }
}

/// The number of a block; one that is not known gets the next.
fn number_of(block: Block, blocks: &mut Vec<Block>, known: &mut HashMap<u64, u32, RandomState>) -> u32 {
    let turn = |hash: u64, word: &u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = blocks.len() as u32;
    let number = *known.entry(mix(block.0.iter().fold(0, turn))).or_insert(next);
    if blocks.get(number as usize) == Some(&block) {
        return number;
    }
    blocks.push(block);
    next
}
