//! Memory that is shared with the kernel: mappings, and the frames' own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Mapped memory. The kernel may write to it at any time, so that no reference leads into it.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is this process's, whichever thread uses it; a mapping is used through `&mut` of its owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed memory of our own.
    pub fn anonymous(bytes: usize) -> io::Result<Mapping> {
        Mapping::new(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What a socket has at this offset.
    pub fn of(socket: BorrowedFd<'_>, offset: libc::off_t, bytes: usize) -> io::Result<Mapping> {
        Mapping::new(bytes, libc::MAP_SHARED, socket.as_raw_fd(), offset)
    }

    fn new(bytes: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_POPULATE;
        // SAFETY: a new mapping at a place of the system's choice touches no other memory.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, fd, offset) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast::<libc::c_void>() != libc::MAP_FAILED => {
                Ok(Mapping { start, bytes })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A value in it; `None` unless it lies in the mapping, aligned.
    pub fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let bytes = size_of::<T>().checked_mul(count)?;
        let fits = offset.checked_add(bytes)? <= self.bytes && offset.is_multiple_of(align_of::<T>());
        // SAFETY: the offset lies in the mapping.
        fits.then(|| unsafe { self.start.add(offset) }.cast())
    }

    /// Copies bytes out; false, and nothing done, unless they lie in the mapping.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.at::<u8>(offset, into.len()) else { return false };
        // SAFETY: so many bytes are there, and `into` is not among them: nothing refers into a mapping. The kernel has given
        // the frame back and writes to it no more; if it did, these are still bytes.
        unsafe { from.as_ptr().copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        true
    }

    /// Copies bytes in; false, and nothing done, unless there is room for them.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> bool {
        let Some(to) = self.at::<u8>(offset, from.len()) else { return false };
        // SAFETY: as above, the other way round.
        unsafe { to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped these bytes, and nothing refers into them.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
