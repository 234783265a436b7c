//! An array that grows without moving: its elements stand in blocks of 2 MiB, on huge pages where the system has them.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::memory::{BLOCK, give_back, huge_pages_allowed, take};
use super::prefetch::prefetch_pointer;

/// The least that is taken from the system.
const LEAST: usize = 4096;

/// Up to this size the first block doubles; then it becomes a whole one, which a huge page can back.
const DOUBLED: usize = 512 << 10;

/// An array of at least one element. No index is wrong: one that is out of range means the first element, so that
/// looking up an element needs no branch. The size of an element is a power of two.
pub struct Arena<T> {
    blocks: Vec<NonNull<T>>,
    len: usize,
    /// Bytes of the first block; the others are whole.
    first: usize,
    owned: PhantomData<T>,
}

impl<T: Copy> Arena<T> {
    /// Elements of a whole block.
    const PER: usize = {
        let fits = size_of::<T>().is_power_of_two() && size_of::<T>() <= BLOCK && align_of::<T>() <= LEAST;
        assert!(fits, "an element's size must be a power of two, at most one block");
        BLOCK / size_of::<T>()
    };

    /// An array of one element.
    pub fn new(first: T) -> Arena<T> {
        let bytes = LEAST.max(size_of::<T>());
        let mut arena = Arena { blocks: vec![take(bytes).cast()], len: 0, first: bytes, owned: PhantomData };
        arena.push(first);
        arena
    }

    /// Appends an element; its index.
    #[inline]
    pub fn push(&mut self, value: T) -> usize {
        if self.len == self.capacity() {
            self.grow();
        }
        let index = self.len;
        // SAFETY: the capacity is above `index`, so its block is held and has room for it.
        unsafe { self.blocks.get_unchecked(index / Self::PER).add(index % Self::PER).write(value) };
        self.len += 1;
        index
    }

    /// Elements that fit into what is held.
    #[inline]
    fn capacity(&self) -> usize {
        (self.blocks.len() - 1) * Self::PER + self.first / size_of::<T>()
    }

    /// The first block grows by moving until it is whole; then blocks are added.
    #[cold]
    fn grow(&mut self) {
        if self.first == BLOCK {
            self.blocks.push(take(BLOCK).cast());
            return;
        }
        let bytes = if self.first < DOUBLED { self.first * 2 } else { BLOCK };
        let block: NonNull<T> = take(bytes).cast();
        if let Some(old) = self.blocks.first_mut() {
            // SAFETY: both blocks have room for the elements, all of which are in the only, first block; nothing
            // refers to the old one, because the array is borrowed mutably.
            unsafe {
                block.copy_from_nonoverlapping(*old, self.len);
                give_back(old.cast(), self.first);
            }
            *old = block;
        }
        self.first = bytes;
    }

    #[inline(always)]
    fn place(&self, index: usize) -> NonNull<T> {
        let index = if index < self.len { index } else { 0 };
        // SAFETY: the array has at least one element, so `index` is that of an element, and its block is held.
        unsafe { self.blocks.get_unchecked(index / Self::PER).add(index % Self::PER) }
    }

    /// An element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> &T {
        // SAFETY: `place` points to an element, which lives as long as the array is borrowed.
        unsafe { self.place(index).as_ref() }
    }

    /// An element, to change.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> &mut T {
        // SAFETY: `place` points to an element, which lives as long as the array is borrowed, mutably.
        unsafe { self.place(index).as_mut() }
    }

    /// Two elements, to change; `None` if they are the same one.
    #[inline(always)]
    pub fn two_mut(&mut self, a: usize, b: usize) -> Option<(&mut T, &mut T)> {
        let (mut a, mut b) = (self.place(a), self.place(b));
        if a == b {
            return None;
        }
        // SAFETY: `place` points to elements, which live as long as the array is borrowed, mutably; they are two.
        Some(unsafe { (a.as_mut(), b.as_mut()) })
    }

    /// Elements from the `number`th multiple of `N` on, to change; `None` unless there are so many. `N` is a power of two.
    pub fn run_mut<const N: usize>(&mut self, number: usize) -> Option<&mut [T; N]> {
        const { assert!(N.is_power_of_two() && N <= Self::PER, "a run lies within a block") };
        let start = number.checked_mul(N)?;
        let there = start.checked_add(N)? <= self.len;
        // SAFETY: so many elements are there, one behind the other, because a block holds a multiple of `N`; they live as
        // long as the array is borrowed, mutably.
        there.then(|| unsafe { self.place(start).cast().as_mut() })
    }

    /// Asks for the first cache line of an element.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        prefetch_pointer(self.place(index).as_ptr().cast());
    }

    /// How many elements there are.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        (self.blocks.len() - 1) * BLOCK + self.first + self.blocks.capacity() * size_of::<NonNull<T>>()
    }

    /// True if huge pages back it: it has whole blocks, and the system gives huge pages to who asks.
    pub fn on_huge_pages(&self) -> bool {
        self.first == BLOCK && huge_pages_allowed()
    }
}

impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        for (n, block) in self.blocks.iter().enumerate() {
            let bytes = if n == 0 { self.first } else { BLOCK };
            // SAFETY: the block was taken with this size; nothing refers to it once the array is dropped.
            unsafe { give_back(block.cast(), bytes) };
        }
    }
}

// SAFETY: the array owns its elements as a `Vec` does; pointers to them are not shared.
unsafe impl<T: Send> Send for Arena<T> {}
// SAFETY: a shared array gives out shared references only.
unsafe impl<T: Sync> Sync for Arena<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_what_they_are_while_the_array_grows() {
        let mut arena = Arena::new([0_u64; 8]);
        for n in 1..100_000_u64 {
            assert_eq!(arena.push([n; 8]), n as usize);
        }
        assert_eq!(arena.len(), 100_000);
        assert!((0..100_000).all(|n| *arena.get(n) == [n as u64; 8]));
        arena.get_mut(70_000)[3] = 5;
        assert_eq!(*arena.get(70_000), [70_000, 70_000, 70_000, 5, 70_000, 70_000, 70_000, 70_000]);
        assert!((8 << 20..9 << 20).contains(&arena.bytes()), "{}", arena.bytes());
    }

    #[test]
    fn an_index_out_of_range_means_the_first_element() {
        let mut arena = Arena::new(7_u32);
        arena.push(8);
        assert_eq!((*arena.get(1), *arena.get(2), *arena.get(usize::MAX)), (8, 7, 7));
        *arena.get_mut(99) = 9;
        assert_eq!(*arena.get(0), 9);
        assert!(arena.two_mut(0, 99).is_none() && arena.two_mut(1, 1).is_none());
        let (a, b) = arena.two_mut(99, 1).unwrap();
        std::mem::swap(a, b);
        assert_eq!((*arena.get(0), *arena.get(1)), (8, 9));
        arena.prefetch(99);
    }

    #[test]
    fn runs_lie_one_behind_the_other() {
        let mut arena = Arena::new(0_u64);
        for n in 1..300_000 {
            arena.push(n);
        }
        for number in [0, 1, 1023, 1024, 1170] {
            let run: &mut [u64; 256] = arena.run_mut(number).unwrap();
            assert!(run.iter().zip(number as u64 * 256..).all(|(a, b)| *a == b));
            run[255] = 7;
            assert_eq!(*arena.get(number * 256 + 255), 7);
        }
        assert!(arena.run_mut::<256>(1171).is_none() && arena.run_mut::<2>(usize::MAX).is_none());
    }

    #[test]
    fn a_small_array_is_small() {
        assert!(Arena::new(0_u64).bytes() < 5000);
        let large = Arena::new([0_u32; 4096]);
        assert!((16_384..17_000).contains(&large.bytes()));
    }
}
