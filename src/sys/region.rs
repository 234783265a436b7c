//! Many bytes in a row, on huge pages where the system gives them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::memory::BLOCK;

/// Zeroed bytes that begin on a multiple of a huge page's size; what is asked for is rounded up to such pages.
pub struct Region {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a region owns its bytes, as a `Box<[u8]>` does.
unsafe impl Send for Region {}
// SAFETY: bytes are changed through `&mut Region` only.
unsafe impl Sync for Region {}

impl Region {
    /// A region of at least this many bytes, and of one page at least.
    pub fn new(bytes: usize) -> Region {
        let size = bytes.max(1).next_multiple_of(BLOCK);
        let layout = match Layout::from_size_align(size, BLOCK) {
            Ok(layout) => layout,
            Err(_) => unreachable!("{size} bytes are more than there are addresses"),
        };
        // SAFETY: the layout is never empty.
        let memory = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        #[cfg(target_os = "linux")]
        // SAFETY: these are whole pages that were just allocated; the advice changes nothing that a program can see.
        unsafe {
            libc::madvise(memory.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
        }
        // SAFETY: the allocation has this many bytes.
        unsafe { memory.as_ptr().write_bytes(0, size) };
        Region { memory, layout }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes were allocated and written, and live as long as the region.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the region is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and nothing refers to it any more.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_zeroed_aligned_and_keeps_what_is_written() {
        for bytes in [0, 1, BLOCK, BLOCK + 1] {
            let mut region = Region::new(bytes);
            assert!(region.len() >= bytes.max(BLOCK) && region.len().is_multiple_of(BLOCK));
            assert!(region.as_ptr().addr().is_multiple_of(BLOCK) && region.iter().all(|b| *b == 0));
            let last = region.len() - 1;
            region[last] = 7;
            assert_eq!(std::thread::spawn(move || region[last]).join().unwrap(), 7);
        }
    }
}
