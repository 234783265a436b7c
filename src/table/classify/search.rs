//! Which interval holds a value: a tree of cache lines, 16 IPv4 addresses or 32 ports to a line.
//!
//! Each line is compared as a whole, without branches, so a search takes as many steps as the tree has levels, whatever
//! the value: one for up to 16 intervals (32 of ports), two for up to 256 (1,024), three for up to 4,096 (32,768). The
//! root stands in the classifier's header; where the other lines are follows from where the value stands in those above.

use super::{Classifier, DESTINATION, Found, SOURCE};
use crate::sys::{Base, Line, Wide, prefetch};
use crate::wire::protocol;

/// Bytes of a line.
const LINE: u32 = size_of::<Line>() as u32;

/// Levels whose steps stand in the header; more are for lists beyond what Azure takes, of tags for example.
const LEVELS: u32 = 3;

/// Levels at most: 16 to the seventh is more intervals than memory holds.
const DEEPEST: usize = 7;

/// Whose ports a protocol has: 0 for those of TCP, 1 for those of UDP, 2 for none. Packets of both come mixed, so that a
/// branch would be foretold badly.
const PORTS_OF: [u8; 256] = {
    let mut ports = [2; 256];
    ports[protocol::TCP as usize] = 0;
    ports[protocol::UDP as usize] = 1;
    ports
};

/// What is looked for in the lines of a tree.
pub(super) trait Key: Copy {
    /// How many of them a line holds.
    const FAN: u32;
    /// What [`Key::below`] counts for one of them.
    const ONE: u32;

    /// How many in a line are below it, times [`Key::ONE`].
    fn below<W: Wide>(self, wide: W, line: &Line) -> u32;
}

/// An IPv4 address in the order of signed numbers, which is the one that every x86-64 compares in.
#[derive(Clone, Copy)]
pub(super) struct Address(i32);

impl Address {
    #[inline(always)]
    fn new(address: u32) -> Address {
        Address((address ^ 1 << 31).cast_signed())
    }
}

impl Key for Address {
    const FAN: u32 = 16;
    const ONE: u32 = 2;

    #[inline(always)]
    fn below<W: Wide>(self, wide: W, line: &Line) -> u32 {
        wide.twice_below_16(line, self.0) as u32
    }
}

/// A port, likewise.
#[derive(Clone, Copy)]
pub(super) struct Port(i16);

impl Port {
    #[inline(always)]
    fn new(port: u16) -> Port {
        Port((port ^ 1 << 15).cast_signed())
    }
}

impl Key for Port {
    const FAN: u32 = 32;
    const ONE: u32 = 1;

    #[inline(always)]
    fn below<W: Wide>(self, wide: W, line: &Line) -> u32 {
        wide.below_32(line, self.0) as u32
    }
}

/// The intervals of one field: a tree of their last values, of which each level has the last of every line below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    /// What leads from a place in a level to the line of the next level, both in bytes from the first line of all; in the
    /// root, from the root.
    steps: [u32; LEVELS as usize - 1],
    /// What leads from a place in the lowest level to the number of a value.
    value: u32,
    /// At least one.
    levels: u32,
}

impl Tree {
    /// Where a line below a line stands.
    #[inline(always)]
    fn below<K: Key>(above: usize, step: u32, below: u32) -> usize {
        let places = below.wrapping_mul(LINE / K::ONE);
        (above as u32).wrapping_mul(K::FAN).wrapping_add(step).wrapping_add(places) as usize
    }

    /// The number of a value below a line of the lowest level.
    #[inline(always)]
    fn value<K: Key>(&self, above: usize, below: u32) -> usize {
        (above as u32 / (LINE / K::FAN)).wrapping_add(self.value).wrapping_add(below / K::ONE) as usize
    }
}

/// The steps of a tree with more levels than [`LEVELS`].
pub(super) type Deeper = [u32; DEEPEST - LEVELS as usize];

/// A field whose intervals have been laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grown {
    pub tree: Tree,
    pub root: Line,
    pub deeper: Deeper,
}

/// IPv6 intervals: where their lasts stand, all but the highest, and the number of the first one's value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Halved {
    from: u32,
    count: u32,
    value: u32,
}

/// The lines of all trees of a classifier without their roots, and the lasts of its IPv6 intervals.
#[derive(Debug, Default)]
pub(super) struct Laid {
    pub lines: Vec<Line>,
    pub v6: Vec<u128>,
}

impl Classifier {
    /// The number of the value for an IPv4 address of one side.
    #[inline(always)]
    pub(super) fn address<W: Wide>(&self, wide: W, side: usize, address: u32) -> usize {
        self.descend(wide, Address::new(address), &self.sides[side], &self.side_roots[side], side)
    }

    /// The numbers of the values for the protocol and the ports; twice the same if one value says all.
    #[inline(always)]
    pub(super) fn ports<W: Wide>(&self, wide: W, protocol: u8, ports: (u16, u16)) -> [usize; 2] {
        let udp = usize::from(PORTS_OF[usize::from(protocol)]);
        if udp > 1 {
            let rare = &self.rare;
            return [(rare.portless + u32::from(rare.classes[usize::from(protocol)])) as usize; 2];
        }
        let to = self.descend(wide, Port::new(ports.1), &self.ports[udp], &self.port_roots[udp], 2 + udp);
        if !self.asks_source_port[udp] {
            return [to, to];
        }
        let source = &self.rare.source_ports[udp];
        [to, self.descend(wide, Port::new(ports.0), &source.tree, &source.root, 4 + udp)]
    }

    /// Goes down to the number of the value for a key. `deeper` says whose steps of many levels are meant.
    #[inline(always)]
    fn descend<W: Wide, K: Key>(&self, wide: W, key: K, tree: &Tree, root: &Line, deeper: usize) -> usize {
        let (mut at, mut below) = (0, key.below(wide, root));
        if tree.levels > 1 {
            at = self.lines.within(Tree::below::<K>(at, tree.steps[0], below));
            below = key.below(wide, self.lines.get(at));
            if tree.levels > 2 {
                at = self.lines.within(Tree::below::<K>(at, tree.steps[1], below));
                below = key.below(wide, self.lines.get(at));
                if tree.levels > LEVELS {
                    return self.descend_deeper(key, tree, at, &self.rare.deeper[deeper]);
                }
            }
        }
        tree.value::<K>(at, below)
    }

    #[cold]
    #[inline(never)]
    fn descend_deeper<K: Key>(&self, key: K, tree: &Tree, mut at: usize, steps: &Deeper) -> usize {
        let mut below = key.below(Base, self.lines.get(at));
        for step in steps.iter().take((tree.levels - LEVELS) as usize) {
            at = self.lines.within(Tree::below::<K>(at, *step, below));
            below = key.below(Base, self.lines.get(at));
        }
        tree.value::<K>(at, below)
    }

    /// The number of the value for an IPv6 address; its lasts are searched by halves.
    pub(super) fn find_v6(&self, side: usize, address: u128) -> usize {
        let halved = &self.rare.v6[side];
        let from = halved.from as usize;
        let lasts = self.rare.v6_lasts.get(from..from + halved.count as usize).unwrap_or(&[]);
        halved.value as usize + lasts.partition_point(|&last| last < address)
    }

    /// Asks for what stands behind the root for a key.
    #[inline(always)]
    fn prefetch_below<W: Wide, K: Key>(&self, wide: W, key: K, tree: &Tree, root: &Line) {
        let below = key.below(wide, root);
        if tree.levels > 1 {
            self.lines.prefetch(Tree::below::<K>(0, tree.steps[0], below));
        } else {
            self.prefetch_value(tree.value::<K>(0, below));
        }
    }

    /// Asks for what an IPv4 decision reads behind the header, which should be there by now: the second lines of the
    /// trees, or the values of trees that are one line.
    #[inline(always)]
    pub fn prefetch_v4<W: Wide>(&self, wide: W, source: u32, destination: u32, protocol: u8, port: u16) {
        let udp = usize::from(protocol == protocol::UDP);
        self.prefetch_below(wide, Address::new(source), &self.sides[SOURCE], &self.side_roots[SOURCE]);
        let (tree, root) = (&self.sides[DESTINATION], &self.side_roots[DESTINATION]);
        self.prefetch_below(wide, Address::new(destination), tree, root);
        self.prefetch_below(wide, Port::new(port), &self.ports[udp], &self.port_roots[udp]);
    }

    /// Asks for the header: all that a decision about a TCP or UDP packet reads before it looks into memory of its own.
    #[inline(always)]
    pub fn prefetch_header(&self, protocol: u8) {
        prefetch(&self.sides);
        prefetch(&self.lines);
        prefetch(&self.side_roots[SOURCE]);
        prefetch(&self.side_roots[DESTINATION]);
        prefetch(&self.port_roots[usize::from(protocol == protocol::UDP)]);
    }

    /// Asks for the values that were found.
    #[inline(always)]
    pub fn prefetch_found(&self, found: &Found) {
        // The fourth is asked by few rules.
        found.0[..3].iter().for_each(|at| self.prefetch_value(*at));
    }
}

impl Laid {
    /// Adds a tree of IPv4 intervals with these last values, ascending up to the highest; `value` is the number of the
    /// first interval's value.
    pub(super) fn add_v4(&mut self, lasts: &[u32], value: u32) -> Grown {
        let lasts = lasts.iter().map(|&last| Address::new(last).0).collect();
        grow(lasts, value, i32::MAX, &mut self.lines, Line)
    }

    /// Adds a tree of intervals of ports.
    pub(super) fn add_ports(&mut self, lasts: &[u16], value: u32) -> Grown {
        let lasts = lasts.iter().map(|&last| Port::new(last).0).collect();
        grow(lasts, value, i16::MAX, &mut self.lines, Line::of_ports)
    }

    /// Adds IPv6 intervals.
    pub(super) fn add_v6(&mut self, lasts: &[u128], value: u32) -> Halved {
        let inner = lasts.split_last().map_or(&[][..], |(_highest, inner)| inner);
        let from = self.v6.len() as u32;
        self.v6.extend_from_slice(inner);
        Halved { from, count: inner.len() as u32, value }
    }
}

/// Lays the lasts out in lines and puts above each level one with the last of every line, until one line is the root.
fn grow<T: Copy, const N: usize>(
    mut level: Vec<T>,
    value: u32,
    highest: T,
    lines: &mut Vec<Line>,
    line: fn([T; N]) -> Line,
) -> Grown {
    let mut below_root: Vec<Vec<T>> = Vec::new();
    while level.len() > N {
        level.resize(level.len().next_multiple_of(N), highest);
        let above = level.chunks_exact(N).filter_map(|line| line.last().copied()).collect();
        below_root.push(level);
        level = above;
    }
    let mut root = [highest; N];
    root.iter_mut().zip(&level).for_each(|(place, last)| *place = *last);
    let mut steps = [0_u32; DEEPEST - 1];
    // Places in the root are counted from the root, those in other levels from the first line of all.
    let mut places_before = 0_u32;
    for (step, level) in steps.iter_mut().zip(below_root.iter().rev()) {
        let next = lines.len() as u32;
        *step = next.wrapping_sub(places_before).wrapping_mul(LINE);
        places_before = next.wrapping_mul(N as u32);
        lines.extend(level.chunks_exact(N).filter_map(|l| l.try_into().ok()).map(line));
    }
    let [one, two, deeper @ ..] = steps;
    let levels = below_root.len() as u32 + 1;
    let tree = Tree { steps: [one, two], value: value.wrapping_sub(places_before), levels };
    Grown { tree, root: line(root), deeper }
}
