//! Memory from the system in blocks that a huge page can back.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The size of a block and of a huge page.
pub const BLOCK: usize = 2 << 20;

/// True if the system backs memory with huge pages where a program asks for it.
pub fn huge_pages_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let said = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        cfg!(target_os = "linux") && said.is_ok_and(|s| !s.contains("[never]"))
    })
}

/// Addresses in a row, of which the first blocks can be touched; what was never written there is undefined. They begin
/// on a multiple of [`BLOCK`].
pub struct Reserved {
    start: NonNull<u8>,
    bytes: usize,
    /// Bytes from the start that can be touched: whole blocks.
    open: usize,
    /// True if blocks behind the first ask for huge pages.
    huge: bool,
}

impl Reserved {
    /// Reserves addresses for this many bytes, a multiple of [`BLOCK`], or for as many as can be had; the first block of
    /// them can be touched, on small pages. `huge`: blocks behind it are to be on huge ones.
    pub fn new(bytes: usize, huge: bool) -> Reserved {
        let mut bytes = bytes.max(BLOCK);
        let start = loop {
            match reserve(bytes) {
                Some(start) => break start,
                // A limit on addresses is one on what can be held.
                None if bytes > BLOCK => bytes = (bytes / 2).next_multiple_of(BLOCK),
                None => handle_alloc_error(layout(bytes)),
            }
        };
        let mut reserved = Reserved { start, bytes, open: 0, huge };
        reserved.add_block();
        reserved
    }

    /// The first of the addresses.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// One block more can be touched, on a huge page if that is wanted and the system has one. There must be addresses
    /// left.
    pub fn add_block(&mut self) {
        if self.open == self.bytes || !open(self.start, self.open, self.huge && self.open > 0) {
            handle_alloc_error(layout(BLOCK));
        }
        self.open += BLOCK;
    }

    /// Puts a huge page under the first block, of which this many bytes were written.
    pub fn make_first_huge(&mut self, written: usize) {
        #[cfg(target_os = "linux")]
        {
            let written = written.min(BLOCK);
            let mut copy = Vec::<u8>::with_capacity(written);
            let (first, aside) = (self.start.as_ptr(), copy.as_mut_ptr());
            // SAFETY: both have so many bytes, and what was not written is copied back as it was or as other bytes that
            // nobody has written. A block that is not needed for a moment and then written is the same to the program.
            unsafe {
                std::ptr::copy_nonoverlapping(first, aside, written);
                libc::madvise(first.cast(), BLOCK, libc::MADV_DONTNEED);
                libc::madvise(first.cast(), BLOCK, libc::MADV_HUGEPAGE);
                std::ptr::copy_nonoverlapping(aside, first, written);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = written;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: these bytes were mapped by `reserve`, and what is in them goes with their owner.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
        #[cfg(not(target_os = "linux"))]
        // SAFETY: `reserve` allocated them with this layout.
        unsafe {
            std::alloc::dealloc(self.start.as_ptr(), layout(self.bytes));
        }
    }
}

fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, BLOCK) {
        Ok(layout) => layout,
        Err(_) => unreachable!("{bytes} bytes are more than there are addresses"),
    }
}

/// Maps addresses that cannot be touched yet, so that they cost nothing, aligned to a block.
#[cfg(target_os = "linux")]
fn reserve(bytes: usize) -> Option<NonNull<u8>> {
    use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE};
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at a place of the system's choice touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes + BLOCK, PROT_NONE, flags, -1, 0) };
    if start == MAP_FAILED {
        return None;
    }
    let before = start.addr().wrapping_neg() % BLOCK;
    let aligned = start.wrapping_byte_add(before);
    // SAFETY: the parts before and behind the aligned ones are whole pages of the mapping just made, which nothing refers
    // to.
    unsafe {
        if before > 0 {
            libc::munmap(start, before);
        }
        libc::munmap(aligned.wrapping_byte_add(bytes), BLOCK - before);
    }
    NonNull::new(aligned.cast())
}

/// Lets the block at this offset of reserved addresses be touched, on a huge page or on small ones.
#[cfg(target_os = "linux")]
fn open(start: NonNull<u8>, at: usize, huge: bool) -> bool {
    use libc::{MADV_HUGEPAGE, MADV_NOHUGEPAGE, PROT_READ, PROT_WRITE};
    let block = start.as_ptr().wrapping_add(at).cast();
    // SAFETY: the block lies among addresses that `reserve` mapped and nothing refers to; the advice changes nothing that
    // a program can see.
    unsafe {
        let opened = libc::mprotect(block, BLOCK, PROT_READ | PROT_WRITE) == 0;
        libc::madvise(block, BLOCK, if huge { MADV_HUGEPAGE } else { MADV_NOHUGEPAGE });
        opened
    }
}

/// Systems that give memory only when it is touched need nothing else.
#[cfg(not(target_os = "linux"))]
fn reserve(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: the layout is never empty.
    NonNull::new(unsafe { std::alloc::alloc(layout(bytes)) })
}

#[cfg(not(target_os = "linux"))]
fn open(_: NonNull<u8>, _: usize, _: bool) -> bool {
    true
}
