//! A ring that is shared with the kernel: one side puts entries in, the other takes them out, without a lock.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::Mapping;

/// What of a ring lies where in its mapping, as the kernel tells it.
pub use libc::xdp_ring_offset as Offsets;

/// One ring. We are the only ones to write our own of its two counts; the kernel writes the other.
pub struct Ring<T> {
    /// Keeps what the pointers lead to.
    _mapping: Mapping,
    produced: NonNull<AtomicU32>,
    consumed: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// Our own count, which the kernel may not have been told yet.
    ours: u32,
    /// The kernel's count when it was last read.
    theirs: u32,
}

// SAFETY: a ring owns its mapping, and its counts are atomic; which thread uses it makes no difference.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps the ring of a socket at a page offset; `size` entries, a power of two. Entries are numbers in whatever bits.
    pub fn map(
        socket: BorrowedFd<'_>,
        page_offset: libc::off_t,
        offsets: &Offsets,
        size: u32,
    ) -> io::Result<Ring<T>> {
        let usize_of = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bytes = usize_of(offsets.desc).saturating_add(size as usize * size_of::<T>());
        let mapping = Mapping::of(socket, page_offset, bytes)?;
        let entries = mapping.at::<T>(usize_of(offsets.desc), size as usize);
        let count = |offset: u64| mapping.at::<AtomicU32>(usize_of(offset), 1);
        let counts = (count(offsets.producer), count(offsets.consumer), count(offsets.flags));
        let (Some(entries), (Some(produced), Some(consumed), Some(flags))) = (entries, counts) else {
            return Err(io::Error::other("the kernel says that its ring lies outside of its memory"));
        };
        Ok(Ring { _mapping: mapping, produced, consumed, flags, entries, size, ours: 0, theirs: 0 })
    }

    fn slot(&self, count: u32) -> NonNull<T> {
        // SAFETY: the size is a power of two, so that the slot is one of the ring's entries.
        unsafe { self.entries.add((count & (self.size - 1)) as usize) }
    }

    /// True if the kernel wants to be woken to go on with this ring.
    pub fn wants_waking(&self) -> bool {
        const NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;
        load(self.flags, Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// Entries that are in the ring, as both sides have said it; between two frames the kernel may be behind in saying it.
    #[cfg(test)]
    pub fn filled(&self) -> u32 {
        let consumed = load(self.consumed, Ordering::Acquire);
        load(self.produced, Ordering::Acquire).wrapping_sub(consumed)
    }
}

/// A ring that we put entries into. A new ring is empty, and both its counts are 0.
pub struct Producer<T>(pub Ring<T>);

impl<T: Copy> Producer<T> {
    /// True if there is room for an entry. The kernel takes entries before it says so: there may be less room than what has
    /// come back of them.
    pub fn has_room(&mut self) -> bool {
        let ring = &mut self.0;
        if ring.ours.wrapping_sub(ring.theirs) >= ring.size {
            // Acquire: what the kernel has read of a slot it has read before we write to it.
            ring.theirs = load(ring.consumed, Ordering::Acquire);
        }
        ring.ours.wrapping_sub(ring.theirs) < ring.size
    }

    /// Puts an entry in; the kernel sees it after [`Self::publish`]. False: there is no room.
    pub fn push(&mut self, entry: T) -> bool {
        if !self.has_room() {
            return false;
        }
        let ring = &mut self.0;
        let slot = ring.slot(ring.ours);
        // SAFETY: the slot is one of ours to write: the kernel reads only what is published.
        unsafe { slot.write(entry) };
        ring.ours = ring.ours.wrapping_add(1);
        true
    }

    /// The kernel sees every entry that was put in.
    pub fn publish(&mut self) {
        // Release: entries, and the frames that they name, are written before.
        store(self.0.produced, self.0.ours);
    }

    /// Entries that the kernel has not taken.
    pub fn pending(&self) -> u32 {
        self.0.ours.wrapping_sub(load(self.0.consumed, Ordering::Acquire))
    }
}

/// A ring that we take entries out of.
pub struct Consumer<T>(pub Ring<T>);

impl<T: Copy> Consumer<T> {
    /// The next entry; the kernel may use its slot again after [`Self::release`].
    pub fn pop(&mut self) -> Option<T> {
        let ring = &mut self.0;
        if ring.ours == ring.theirs {
            // Acquire: entries, and the frames that they name, are read after.
            ring.theirs = load(ring.produced, Ordering::Acquire);
            if ring.ours == ring.theirs {
                return None;
            }
        }
        let slot = ring.slot(ring.ours);
        ring.ours = ring.ours.wrapping_add(1);
        // SAFETY: the kernel has written the slot, a number in whatever bits, and does not write to it until it is released.
        Some(unsafe { slot.read() })
    }

    /// The kernel may use again the slots of all that was taken out.
    pub fn release(&mut self) {
        // Release: the slots are read before.
        store(self.0.consumed, self.0.ours);
    }
}

fn load(count: NonNull<AtomicU32>, order: Ordering) -> u32 {
    // SAFETY: `map` has seen to it that the count lies in the mapping, aligned, and only a ring, which owns the mapping,
    // knows it. Both sides access it atomically, and the reference ends here.
    unsafe { count.as_ref() }.load(order)
}

fn store(count: NonNull<AtomicU32>, value: u32) {
    // SAFETY: as above.
    unsafe { count.as_ref() }.store(value, Ordering::Release);
}
