//! Which interval holds a value: a tree of cache lines, 16 IPv4 edges or 32 port edges to a line.
//!
//! Each line is compared as a whole, without branches, so a search takes as many steps as the tree has levels, whatever
//! the value: one for up to 16 intervals (32 of ports), two for up to 256 (1,024), three for up to 4,096 (32,768).

use crate::sys::{first_above_16, first_above_32};

/// Levels at most: 16 to the seventh is more intervals than memory holds.
const LEVELS: usize = 7;

/// The ends of intervals: each the first value of the next interval, as a signed number, because every x86-64 compares
/// those at once. The last of a line is not asked: who comes to the line looks for a value before it.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct AddressLine([i32; 16]);

/// The ends of intervals of ports, likewise.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct PortLine([i16; 32]);

fn signed_address(value: u32) -> i32 {
    (value ^ 1 << 31) as i32
}

fn signed_port(value: u16) -> i16 {
    (value ^ 1 << 15) as i16
}

/// The intervals of one field. The number of the root's line, or where there is one interval only, of its value, is
/// `first`; each of `steps` leads from a line's number and a place in the line to the number of a line of the next level,
/// and the last of them to the number of a value. The highest value, which no end is above, has the value `last`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    levels: u32,
    last: u32,
    first: u32,
    steps: [u32; LEVELS],
}

impl Tree {
    /// True if one interval holds every value.
    #[inline(always)]
    pub(super) fn is_trivial(&self) -> bool {
        self.levels == 0
    }

    /// Goes down, with a function that finds the place in a line of `fan`; the number of the value.
    #[inline(always)]
    fn descend<L>(&self, lines: &[L], fan: u32, place: impl Fn(&L) -> usize) -> Option<usize> {
        let down = |at: u32, level: usize| {
            let place = place(lines.get(at as usize)?) as u32;
            Some((at.wrapping_mul(fan) | place).wrapping_add(self.steps[level]))
        };
        let mut at = self.first;
        if self.levels > 0 {
            at = down(at, 0)?;
            if self.levels > 1 {
                at = down(at, 1)?;
                if self.levels > 2 {
                    at = down(at, 2)?;
                    for level in 3..LEVELS.min(self.levels as usize) {
                        at = down(at, level)?;
                    }
                }
            }
        }
        Some(at as usize)
    }
}

/// The lines of all trees of a classifier, and the ends of its IPv6 intervals, which are searched by halves.
#[derive(Debug, Default)]
pub(super) struct Lines {
    addresses: Vec<AddressLine>,
    ports: Vec<PortLine>,
    v6: Vec<u128>,
}

impl Lines {
    /// The number of the value for an IPv4 address.
    #[inline(always)]
    pub(super) fn find_v4(&self, tree: &Tree, address: u32) -> usize {
        if address == u32::MAX {
            return tree.last as usize;
        }
        let address = signed_address(address);
        tree.descend(&self.addresses, 16, |line| first_above_16(&line.0, address)).unwrap_or(0)
    }

    /// The number of the value for a port.
    #[inline(always)]
    pub(super) fn find_port(&self, tree: &Tree, port: u16) -> usize {
        if port == u16::MAX {
            return tree.last as usize;
        }
        let port = signed_port(port);
        tree.descend(&self.ports, 32, |line| first_above_32(&line.0, port)).unwrap_or(0)
    }

    /// The number of the value for an IPv6 address: the tree has one step and as many ends as `levels` says.
    #[inline]
    pub(super) fn find_v6(&self, tree: &Tree, address: u128) -> usize {
        let from = tree.steps[0] as usize;
        let ends = self.v6.get(from..from + tree.levels as usize).unwrap_or(&[]);
        tree.first as usize + ends.partition_point(|&end| end <= address)
    }

    /// Adds a tree of IPv4 intervals that end before these addresses, and one behind the last; `value` is the number of
    /// the first interval's value.
    pub(super) fn add_v4(&mut self, ends: &[u32], value: u32) -> Tree {
        let ends: Vec<i32> = ends.iter().map(|&end| signed_address(end)).collect();
        grow(ends, value, i32::MAX, &mut self.addresses, AddressLine)
    }

    /// Adds a tree of intervals of ports.
    pub(super) fn add_ports(&mut self, ends: &[u16], value: u32) -> Tree {
        let ends: Vec<i16> = ends.iter().map(|&end| signed_port(end)).collect();
        grow(ends, value, i16::MAX, &mut self.ports, PortLine)
    }

    /// Adds IPv6 intervals.
    pub(super) fn add_v6(&mut self, ends: &[u128], value: u32) -> Tree {
        let mut tree = Tree { levels: ends.len() as u32, first: value, ..Tree::default() };
        tree.steps[0] = self.v6.len() as u32;
        self.v6.extend_from_slice(ends);
        tree
    }

    /// Gives back what is allocated and not used.
    pub(super) fn shrink(&mut self) {
        self.addresses.shrink_to_fit();
        self.ports.shrink_to_fit();
        self.v6.shrink_to_fit();
    }

    /// Bytes it holds.
    pub(super) fn memory(&self) -> usize {
        size_of_val(self.addresses.as_slice())
            + size_of_val(self.ports.as_slice())
            + size_of_val(self.v6.as_slice())
    }
}

/// Lays the ends out in lines and puts above each level one with the last of every line, until one line is the root.
fn grow<T: Copy, L, const N: usize>(
    mut level: Vec<T>,
    value: u32,
    highest: T,
    lines: &mut Vec<L>,
    line: fn([T; N]) -> L,
) -> Tree {
    let mut levels: Vec<Vec<T>> = Vec::new();
    let last = value + level.len() as u32;
    let mut intervals = level.len() + 1;
    while intervals > 1 {
        level.resize(intervals.next_multiple_of(N), highest);
        intervals = level.len() / N;
        let above = level.chunks_exact(N).filter_map(|line| line.last().copied()).collect();
        levels.push(level);
        level = above;
    }
    let mut tree = Tree { levels: levels.len() as u32, last, first: value, ..Tree::default() };
    let mut base = lines.len() as u32;
    if !levels.is_empty() {
        tree.first = base;
    }
    for (step, level) in tree.steps.iter_mut().zip(levels.iter().rev()) {
        let below = lines.len() as u32 + (level.len() / N) as u32;
        *step = below.wrapping_sub(base.wrapping_mul(N as u32));
        base = below;
        lines.extend(level.chunks_exact(N).filter_map(|l| l.try_into().ok()).map(line));
    }
    if let Some(last) = levels.len().checked_sub(1) {
        // Behind the lowest lines come the values.
        let step = &mut tree.steps[last.min(LEVELS - 1)];
        *step = step.wrapping_sub(base).wrapping_add(value);
    }
    tree
}
