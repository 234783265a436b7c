//! Which interval holds a value: a tree of cache lines, 16 IPv4 addresses or 32 ports to a line.
//!
//! Each line is compared as a whole, without branches, so a search takes as many steps as the tree has levels, whatever
//! the value: one for up to 16 intervals (32 of ports), two for up to 256 (1,024), three for up to 4,096 (32,768).

use crate::sys::{Base, Line, PortLine, Wide};

/// Levels at most: 16 to the seventh is more intervals than memory holds.
const LEVELS: usize = 7;

/// Numbers in the order of their signs, which is the one that every x86-64 compares in.
fn signed_address(value: u32) -> i32 {
    (value ^ 1 << 31) as i32
}

fn signed_port(value: u16) -> i16 {
    (value ^ 1 << 15) as i16
}

/// The intervals of one field: a tree of their last values, of which each level has the last of every line below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    /// None if one interval holds every value.
    levels: u32,
    /// The number of the root's line, or of the only value.
    first: u32,
    /// What leads from a place in a level, counted from the first line of all, to the number of a line of the next
    /// level, and from a place in the lowest level to the number of a value.
    steps: [u32; LEVELS],
}

impl Tree {
    /// True if one interval holds every value.
    #[inline(always)]
    pub(super) fn is_trivial(&self) -> bool {
        self.levels == 0
    }

    /// Goes down with a function that counts what is below the value in a line of `fan`; the number of the value's value.
    #[inline(always)]
    fn descend<L>(&self, lines: &[L], fan: u32, below: impl Fn(&L) -> usize) -> Option<usize> {
        let down = |at: u32, level: usize| {
            let below = below(lines.get(at as usize)?) as u32;
            Some(at.wrapping_mul(fan).wrapping_add(self.steps[level]).wrapping_add(below))
        };
        let mut at = self.first;
        if self.levels == 0 {
            return Some(at as usize);
        }
        at = down(at, 0)?;
        if self.levels == 1 {
            return Some(at as usize);
        }
        at = down(at, 1)?;
        if self.levels == 2 {
            return Some(at as usize);
        }
        at = down(at, 2)?;
        // More levels have only lists beyond what Azure takes, of tags for example.
        for level in 3..LEVELS.min(self.levels as usize) {
            at = down(at, level)?;
        }
        Some(at as usize)
    }
}

/// The lines of all trees of a classifier, and the lasts of its IPv6 intervals, which are searched by halves.
#[derive(Debug, Default)]
pub(super) struct Lines {
    addresses: Vec<Line>,
    ports: Vec<PortLine>,
    v6: Vec<u128>,
}

impl Lines {
    /// The number of the value for an IPv4 address.
    #[inline(always)]
    pub(super) fn find_v4(&self, tree: &Tree, address: u32) -> usize {
        let address = signed_address(address);
        tree.descend(&self.addresses, 16, |line| Base.place_16(line, address)).unwrap_or(0)
    }

    /// The number of the value for a port.
    #[inline(always)]
    pub(super) fn find_port(&self, tree: &Tree, port: u16) -> usize {
        let port = signed_port(port);
        tree.descend(&self.ports, 32, |line| Base.below_32(line, port)).unwrap_or(0)
    }

    /// The number of the value for an IPv6 address: the tree has one step and one last less than intervals.
    pub(super) fn find_v6(&self, tree: &Tree, address: u128) -> usize {
        let from = tree.steps[0] as usize;
        let lasts = self.v6.get(from..from + tree.levels as usize).unwrap_or(&[]);
        tree.first as usize + lasts.partition_point(|&last| last < address)
    }

    /// Adds a tree of IPv4 intervals with these last values, ascending up to the highest; `value` is the number of the
    /// first interval's value.
    pub(super) fn add_v4(&mut self, lasts: &[u32], value: u32) -> Tree {
        let lasts = lasts.iter().map(|&last| signed_address(last)).collect();
        grow(lasts, value, i32::MAX, &mut self.addresses, Line)
    }

    /// Adds a tree of intervals of ports.
    pub(super) fn add_ports(&mut self, lasts: &[u16], value: u32) -> Tree {
        let lasts = lasts.iter().map(|&last| signed_port(last)).collect();
        grow(lasts, value, i16::MAX, &mut self.ports, PortLine)
    }

    /// Adds IPv6 intervals.
    pub(super) fn add_v6(&mut self, lasts: &[u128], value: u32) -> Tree {
        let inner = lasts.split_last().map_or(&[][..], |(_highest, inner)| inner);
        let mut tree = Tree { levels: inner.len() as u32, first: value, ..Tree::default() };
        tree.steps[0] = self.v6.len() as u32;
        self.v6.extend_from_slice(inner);
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

/// Lays the lasts out in lines and puts above each level one with the last of every line, until one line is the root.
fn grow<T: Copy, L, const N: usize>(
    mut level: Vec<T>,
    value: u32,
    highest: T,
    lines: &mut Vec<L>,
    line: fn([T; N]) -> L,
) -> Tree {
    let mut levels: Vec<Vec<T>> = Vec::new();
    while level.len() > 1 {
        level.resize(level.len().next_multiple_of(N), highest);
        let above = level.chunks_exact(N).filter_map(|line| line.last().copied()).collect();
        levels.push(level);
        level = above;
    }
    let mut tree = Tree { levels: levels.len() as u32, first: value, ..Tree::default() };
    let mut base = lines.len() as u32;
    if !levels.is_empty() {
        tree.first = base;
    }
    for (step, level) in tree.steps.iter_mut().zip(levels.iter().rev()) {
        let next = base + (level.len() / N) as u32;
        *step = next.wrapping_sub(base.wrapping_mul(N as u32));
        base = next;
        lines.extend(level.chunks_exact(N).filter_map(|l| l.try_into().ok()).map(line));
    }
    if let Some(lowest) = levels.len().checked_sub(1) {
        // Below the lowest lines stand the values.
        let step = &mut tree.steps[lowest];
        *step = step.wrapping_sub(base).wrapping_add(value);
    }
    tree
}
