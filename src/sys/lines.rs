//! Cache lines behind one another, found by their distance from the first, whatever it is.

use std::ptr::NonNull;

use super::prefetch::prefetch_pointer;
use super::{Line, line};

/// Bytes of a line.
const LINE: usize = size_of::<Line>();

/// As many lines as a power of two. No distance is wrong: what is not a line's is brought into range, so that going from
/// line to line needs no branch.
#[derive(Debug)]
pub struct Lines {
    start: NonNull<Line>,
    /// The distance in bytes from the first line to the last.
    mask: usize,
}

impl Lines {
    /// At least one line; behind these stand others that lead nowhere.
    pub fn new(mut lines: Vec<Line>) -> Lines {
        let count = lines.len().next_power_of_two();
        lines.resize(count, line::NOWHERE);
        let lines = Box::leak(lines.into_boxed_slice());
        Lines { start: NonNull::from(lines).cast(), mask: (count - 1) * LINE }
    }

    /// A distance brought into range: that of a line, and the same if it was one.
    #[inline(always)]
    pub fn within(&self, distance: usize) -> usize {
        distance & self.mask
    }

    #[inline(always)]
    fn place(&self, distance: usize) -> NonNull<Line> {
        // SAFETY: the mask leaves a multiple of a line's size that is not above that of the last line.
        unsafe { self.start.byte_add(self.within(distance)) }
    }

    /// The line at a distance in bytes.
    #[inline(always)]
    pub fn get(&self, distance: usize) -> &Line {
        // SAFETY: `place` points to a line, which lives as long as these are borrowed.
        unsafe { self.place(distance).as_ref() }
    }

    /// Asks for the line at a distance in bytes.
    #[inline(always)]
    pub fn prefetch(&self, distance: usize) {
        prefetch_pointer(self.place(distance).as_ptr().cast());
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        self.mask + LINE
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let lines = NonNull::slice_from_raw_parts(self.start, self.mask / LINE + 1);
        // SAFETY: these were leaked from a box by `new`, and nothing refers to them any more.
        drop(unsafe { Box::from_raw(lines.as_ptr()) });
    }
}

// SAFETY: the lines are owned, as by a box.
unsafe impl Send for Lines {}
// SAFETY: a shared reference gives out shared references only.
unsafe impl Sync for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_means_a_line() {
        for count in 0..10 {
            let lines = Lines::new((0..count).map(|n| Line([n; 16])).collect());
            let held = count.max(1).cast_unsigned().next_power_of_two() as usize;
            assert_eq!(lines.memory(), held * 64);
            for n in 0..count {
                assert_eq!(lines.get(n as usize * 64).0, [n; 16]);
                assert_eq!(lines.get(n as usize * 64 + 63).0, [n; 16]);
                assert_eq!(lines.get((n as usize).wrapping_sub(held).wrapping_mul(64)).0, [n; 16]);
            }
            assert_eq!(lines.get(held * 64).0, lines.get(0).0);
            assert_eq!(lines.get(usize::MAX).0, lines.get(held * 64 - 64).0);
            lines.prefetch(usize::MAX);
        }
    }
}
