//! Memory from the system in blocks that a huge page can back.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The size of a block and of a huge page.
pub const BLOCK: usize = 2 << 20;

/// Small pieces begin on a page.
const PAGE: usize = 4096;

/// True if the system backs memory with huge pages where a program asks for it.
pub fn huge_pages_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let said = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        cfg!(target_os = "linux") && said.is_ok_and(|s| !s.contains("[never]"))
    })
}

/// Memory for `bytes`, which are a power of two and at most [`BLOCK`]; it begins on a multiple of [`PAGE`], whole
/// blocks on a multiple of [`BLOCK`]. What is in it is undefined.
pub fn take(bytes: usize) -> NonNull<u8> {
    #[cfg(target_os = "linux")]
    if bytes == BLOCK {
        return map().unwrap_or_else(|| handle_alloc_error(layout(bytes)));
    }
    // SAFETY: the layout is never empty.
    NonNull::new(unsafe { alloc(layout(bytes)) }).unwrap_or_else(|| handle_alloc_error(layout(bytes)))
}

fn layout(bytes: usize) -> Layout {
    let align = if bytes == BLOCK { BLOCK } else { PAGE };
    match Layout::from_size_align(bytes, align) {
        Ok(layout) => layout,
        Err(_) => unreachable!("{bytes} bytes are a power of two and at most a block"),
    }
}

/// Gives back what [`take`] gave.
///
/// # Safety
///
/// `memory` came from [`take`] with the same `bytes`, and nothing refers to it any more.
pub unsafe fn give_back(memory: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes == BLOCK {
        // SAFETY: these bytes were mapped by `map` and nothing refers to them.
        unsafe { libc::munmap(memory.as_ptr().cast(), BLOCK) };
        return;
    }
    // SAFETY: `take` allocated it with this layout.
    unsafe { dealloc(memory.as_ptr(), layout(bytes)) };
}

/// Maps one block, aligned to its size, and asks for a huge page under it.
#[cfg(target_os = "linux")]
fn map() -> Option<NonNull<u8>> {
    use libc::{MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE};
    let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at a place of the system's choice touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * BLOCK, protection, flags, -1, 0) };
    if start == MAP_FAILED {
        return None;
    }
    let before = start.addr().wrapping_neg() % BLOCK;
    let block = start.wrapping_byte_add(before);
    // SAFETY: the parts before and behind the aligned block are whole pages of the mapping just made, which nothing
    // refers to; the advice changes nothing that a program can see.
    unsafe {
        if before > 0 {
            libc::munmap(start, before);
        }
        libc::munmap(block.wrapping_byte_add(BLOCK), BLOCK - before);
        libc::madvise(block, BLOCK, MADV_HUGEPAGE);
    }
    NonNull::new(block.cast())
}
