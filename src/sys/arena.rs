//! An array that grows without moving: addresses for all it may ever hold are reserved at once, memory stands behind them
//! block by block, on huge pages where the system has them.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::memory::{BLOCK, Reserved, huge_pages_allowed};
use super::prefetch::prefetch_pointer;

/// Up to this size the memory of the first block doubles, as far as it is counted; then it becomes a whole one, which a
/// huge page can back.
const DOUBLED: usize = 512 << 10;

/// The least that is counted.
const LEAST: usize = 4096;

/// An array of at least one element. No index is wrong: one that is out of range means the first element, so that
/// looking up an element needs no branch. The size of an element is a power of two.
pub struct Arena<T> {
    /// Where the elements are.
    base: NonNull<T>,
    len: usize,
    /// Bytes that elements may be in, of those that can be touched: doubled up to a block, then whole blocks.
    held: usize,
    /// True if it moves to huge pages as soon as it is not small.
    huge: bool,
    reserved: Reserved,
    owned: PhantomData<T>,
}

impl<T: Copy> Arena<T> {
    /// Elements of a block.
    const PER: usize = {
        let fits = size_of::<T>().is_power_of_two() && size_of::<T>() <= BLOCK && align_of::<T>() <= LEAST;
        assert!(fits, "an element's size must be a power of two, at most one block");
        BLOCK / size_of::<T>()
    };

    /// An array of one element, with addresses for so many.
    pub fn new(first: T, most: usize) -> Arena<T> {
        Arena::with(first, most, true)
    }

    /// As [`Arena::new`], but always on small pages: it grows without the wait for a huge page, which must be found and
    /// cleared (180 us and more).
    pub fn on_small_pages(first: T, most: usize) -> Arena<T> {
        Arena::with(first, most, false)
    }

    fn with(first: T, most: usize, huge: bool) -> Arena<T> {
        let reserved = Reserved::new(most.div_ceil(Self::PER).saturating_mul(BLOCK), huge);
        let held = LEAST.max(size_of::<T>().next_power_of_two());
        let mut arena =
            Arena { base: reserved.start().cast(), len: 0, held, huge, reserved, owned: PhantomData };
        arena.push(first);
        arena
    }

    /// Appends an element; its index.
    #[inline]
    pub fn push(&mut self, value: T) -> usize {
        if self.len == self.held / size_of::<T>() {
            self.grow();
        }
        let index = self.len;
        // SAFETY: what is held has room for the element, and can be touched.
        unsafe { self.base.add(index).write(value) };
        self.len += 1;
        index
    }

    /// The first block grows until it is whole; then blocks are added.
    #[cold]
    fn grow(&mut self) {
        if self.held < if self.huge { DOUBLED } else { BLOCK } {
            self.held *= 2;
        } else if self.held < BLOCK {
            self.reserved.make_first_huge(self.held);
            self.held = BLOCK;
        } else {
            self.reserved.add_block();
            self.held += BLOCK;
        }
    }

    #[inline(always)]
    fn place(&self, index: usize) -> NonNull<T> {
        let index = if index < self.len { index } else { 0 };
        // SAFETY: the array has at least one element, so `index` is that of an element.
        unsafe { self.base.add(index) }
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
        self.held
    }

    /// True if huge pages back it: it has whole blocks, and the system gives huge pages to who asks.
    pub fn on_huge_pages(&self) -> bool {
        self.huge && self.held >= BLOCK && huge_pages_allowed()
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
        let mut arena = Arena::new([0_u64; 8], 100_000);
        for n in 1..100_000_u64 {
            assert_eq!(arena.push([n; 8]), n as usize);
        }
        assert_eq!(arena.len(), 100_000);
        assert!((0..100_000).all(|n| *arena.get(n) == [n as u64; 8]));
        arena.get_mut(70_000)[3] = 5;
        assert_eq!(*arena.get(70_000), [70_000, 70_000, 70_000, 5, 70_000, 70_000, 70_000, 70_000]);
        assert!((8 << 20..9 << 20).contains(&arena.bytes()), "{}", arena.bytes());
        let mut small = Arena::on_small_pages([0_u64; 8], 100_000);
        (1..100_000_u64).for_each(|n| _ = small.push([n; 8]));
        assert!((0..100_000).all(|n| *small.get(n) == [n as u64; 8]));
        assert!(small.bytes() == arena.bytes() && !small.on_huge_pages());
    }

    #[test]
    fn an_index_out_of_range_means_the_first_element() {
        let mut arena = Arena::new(7_u32, 2);
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
        let mut arena = Arena::new(0_u64, 300_000);
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
        assert!(Arena::new(0_u64, 1 << 30).bytes() < 5000);
        let large = Arena::new([0_u32; 4096], 1);
        assert!((16_384..17_000).contains(&large.bytes()));
    }
}
