//! A search tree over ranges that follow each other without a gap: in which of them does a number lie?
//!
//! It never changes once built, so it needs no pointers: the nodes of each floor stand side by side behind those of the
//! floor above, and a child is found by arithmetic. A node is one cache line whose numbers are compared all at once,
//! without branches; at the bottom, the values of a leaf's ranges stand beside their numbers, and both are asked for
//! together. So a look-up waits for one line per floor: three to 4,096 IPv4 ranges. Large trees begin further down.

use std::marker::PhantomData;

use crate::sys::{Base, Line, Wide, prefetch};

/// A number that is looked up: in a line stand the last numbers of what lies below each way but the last.
pub(super) trait Number: Copy {
    /// The way to a number.
    fn way<W: Wide>(self, wide: W, line: &Line) -> usize;
    /// The same in a line that is a node, so that its free word leads nowhere.
    fn way_down<W: Wide>(self, wide: W, line: &Line) -> usize;
    /// Its first 16 bits.
    fn head(self) -> usize;
    /// The first and the last number with these first 16 bits.
    fn ends(head: u16) -> [Self; 2];
    /// Writes this into a line as the last number of a way.
    fn end_way(self, line: &mut Line, way: usize);
}

/// An IPv4 address: 16 ways.
impl Number for u32 {
    #[inline(always)]
    fn way<W: Wide>(self, wide: W, line: &Line) -> usize {
        wide.place_16(line, signed(self))
    }
    #[inline(always)]
    fn way_down<W: Wide>(self, wide: W, line: &Line) -> usize {
        wide.twice_below_16(line, signed(self)) / 2
    }
    #[inline(always)]
    fn head(self) -> usize {
        (self >> 16) as usize
    }
    fn ends(head: u16) -> [u32; 2] {
        let first = u32::from(head) << 16;
        [first, first | u32::MAX >> 16]
    }
    fn end_way(self, line: &mut Line, way: usize) {
        line.0[way] = signed(self);
    }
}

/// Half of an IPv6 address: 8 ways.
impl Number for u64 {
    #[inline(always)]
    fn way<W: Wide>(self, wide: W, line: &Line) -> usize {
        wide.place_8(line, [signed((self >> 32) as u32), signed(self as u32)])
    }
    #[inline(always)]
    fn way_down<W: Wide>(self, wide: W, line: &Line) -> usize {
        self.way(wide, line)
    }
    #[inline(always)]
    fn head(self) -> usize {
        (self >> 48) as usize
    }
    fn ends(head: u16) -> [u64; 2] {
        let first = u64::from(head) << 48;
        [first, first | u64::MAX >> 16]
    }
    fn end_way(self, line: &mut Line, way: usize) {
        line.0[way] = signed((self >> 32) as u32);
        line.0[way + 8] = signed(self as u32);
    }
}

/// Unsigned numbers in the order of signed ones, which SSE2 compares.
#[inline(always)]
fn signed(number: u32) -> i32 {
    (number ^ 1 << 31).cast_signed()
}

/// A line that leads every number the first way.
const ONE_WAY: Line = Line([i32::MAX; 16]);

/// The word of a line that says nothing of a way.
const FREE: usize = 15;

/// Leaves from which on a tree is large: it costs a quarter of them at most to skip its upper floors.
const LARGE: usize = 1 << 13;

/// Ranges with their values; the free word of the line says which of them have one, a bit for each.
#[repr(C)]
struct Leaf<T, const N: usize> {
    line: Line,
    values: [T; N],
}

/// Ranges with their values, `N` to a leaf: as many as a line has ways for such a number. The header is one cache line.
#[repr(align(64))]
pub(super) struct Tree<K, T, const N: usize> {
    nodes: Box<[Line]>,
    leaves: Box<[Leaf<T, N>]>,
    /// The number of nodes if every floor above the leaves were full; so that of the first leaf, if leaves were nodes.
    full: usize,
    /// Of a large tree: for all numbers with the same first 16 bits, the lowest node that is above all of them.
    starts: Box<[u32]>,
    key: PhantomData<K>,
}

impl<K: Number, T: Copy, const N: usize> Tree<K, T, N> {
    /// A tree of ranges in order, each with its last number. The last one ends with the largest number.
    pub(super) fn new(ranges: &[(K, Option<T>)]) -> Self {
        let filler = ranges.iter().find_map(|(_, value)| *value);
        let leaves = filler.into_iter().flat_map(|f| ranges.chunks(N).map(move |r| Leaf::new(r, f)));
        let leaves: Box<[Leaf<T, N>]> = leaves.collect();
        let ends: Vec<K> = ranges.chunks(N).filter_map(|ranges| Some(ranges.last()?.0)).collect();
        let mut floors = 0;
        while N.pow(floors) < leaves.len() {
            floors += 1;
        }
        let (mut nodes, mut full) = (Vec::new(), 0);
        for floor in 0..floors {
            nodes.resize(full, ONE_WAY);
            // Leaves below each way of a node.
            let span = N.pow(floors - floor - 1);
            nodes.extend(ends.chunks(span * N).map(|ends| node(ends, span)));
            full += N.pow(floor);
        }
        let mut tree = Tree { nodes: nodes.into(), leaves, full, starts: Box::default(), key: PhantomData };
        if tree.leaves.len() > LARGE {
            tree.starts = (0..=u16::MAX).map(|head| tree.start(K::ends(head))).collect();
        }
        tree
    }

    fn start(&self, [first, last]: [K; 2]) -> u32 {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at)
            && first.way(Base, node) == last.way(Base, node)
        {
            at = at * N + 1 + first.way(Base, node);
        }
        at as u32
    }

    /// The value of the range that holds a number.
    #[inline(always)]
    pub(super) fn lookup<W: Wide>(&self, wide: W, number: K) -> Option<T> {
        let leaf = self.leaf_of(wide, number)?;
        prefetch(&leaf.values);
        let way = number.way(wide, &leaf.line);
        if leaf.line.0[FREE] >> way & 1 == 1 { leaf.values.get(way).copied() } else { None }
    }

    /// Asks for the lines that a look-up of the number would wait for longest: those of the leaf.
    #[inline(always)]
    pub(super) fn prefetch<W: Wide>(&self, wide: W, number: K) {
        if let Some(leaf) = self.leaf_of(wide, number) {
            prefetch(&leaf.line);
            prefetch(&leaf.values);
        }
    }

    /// Asks for the header; then [`Tree::prefetch`] waits less.
    #[inline(always)]
    pub(super) fn prefetch_header(&self) {
        prefetch(self);
    }

    #[inline(always)]
    fn leaf_of<W: Wide>(&self, wide: W, number: K) -> Option<&Leaf<T, N>> {
        let mut at = self.starts.get(number.head()).map_or(0, |start| *start as usize);
        // Ways lead to nodes that are there, and out of the lowest ones.
        while let Some(node) = self.nodes.get(at) {
            at = at * N + 1 + number.way_down(wide, node);
        }
        self.leaves.get(at.wrapping_sub(self.full))
    }

    /// Bytes it holds.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.nodes) + size_of_val(&*self.leaves) + size_of_val(&*self.starts)
    }
}

/// A node above leaves with these last numbers, `span` of them below each way. The last way needs no number, nor does one
/// that has fewer leaves: it is the last.
fn node<K: Number>(ends: &[K], span: usize) -> Line {
    let mut line = ONE_WAY;
    for (way, ends) in ends.chunks_exact(span).enumerate() {
        ends[span - 1].end_way(&mut line, way);
    }
    line
}

impl<T: Copy, const N: usize> Leaf<T, N> {
    fn new<K: Number>(ranges: &[(K, Option<T>)], filler: T) -> Self {
        let (mut line, mut values, mut have) = (ONE_WAY, [filler; N], 0);
        for (way, (last, value)) in ranges.iter().enumerate() {
            last.end_way(&mut line, way);
            values[way] = value.unwrap_or(filler);
            have |= i32::from(value.is_some()) << way;
        }
        line.0[FREE] = have;
        Leaf { line, values }
    }
}
