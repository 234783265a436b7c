//! Slots that a program and the kernel share: each is one's or the other's, and its status says whose.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::tpacket2_hdr;

use super::super::prefetch::prefetch_pointer;

/// Slots of a block, which the kernel allocates in one piece. So many slots that are a multiple of 64 bytes are a multiple
/// of a page, of up to 64 KiB, so that blocks have no gaps between them.
const PER_BLOCK: usize = 1024;
/// The same for pages of 4 KiB.
const PER_SMALL_BLOCK: usize = 64;

/// The size of rings, as the kernel is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a slot.
    pub slot: usize,
    /// How many slots there are.
    pub slots: usize,
    per_block: usize,
}

impl Shape {
    /// A ring of about so many bytes, whose slots have room for this many each.
    pub fn new(bytes: usize, room: usize) -> Shape {
        // An odd number of cache lines, so that the headers of slots do not share a few sets of the cache.
        let slot = (room.div_ceil(64) | 1) * 64;
        let per_block = if page() <= 4096 { PER_SMALL_BLOCK } else { PER_BLOCK };
        let blocks = (bytes / (slot * per_block)).max(1);
        Shape { slot, slots: blocks * per_block, per_block }
    }

    /// Bytes of the whole ring.
    pub fn bytes(&self) -> usize {
        self.slot * self.slots
    }

    /// As the kernel wants to be told.
    pub fn request(&self) -> libc::tpacket_req {
        libc::tpacket_req {
            tp_block_size: (self.slot * self.per_block) as u32,
            tp_block_nr: (self.slots / self.per_block) as u32,
            tp_frame_size: self.slot as u32,
            tp_frame_nr: self.slots as u32,
        }
    }
}

fn page() -> usize {
    // SAFETY: the call takes a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The memory of both rings of a socket.
pub struct Map {
    start: NonNull<u8>,
    bytes: usize,
}

impl Map {
    /// Maps the rings of a socket that was asked for them: that of received frames, and behind it that of frames to send.
    pub fn new(socket: BorrowedFd<'_>, receive: Shape, send: Shape) -> io::Result<(Map, Ring, Ring)> {
        use libc::{MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE};
        let bytes = receive.bytes() + send.bytes();
        // SAFETY: a new mapping at a place of the system's choice touches no other memory.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, PROT_READ | PROT_WRITE, MAP_SHARED, socket.as_raw_fd(), 0)
        };
        let Some(start) = NonNull::new(start.cast::<u8>()).filter(|_| start != MAP_FAILED) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the mapping has the bytes of both rings.
        let second = unsafe { start.add(receive.bytes()) };
        let ring = |start, shape: Shape| Ring { start, slot: shape.slot, slots: shape.slots };
        Ok((Map { start, bytes }, ring(start, receive), ring(second, send)))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: these bytes were mapped by `new`, and the rings in them go with their owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Slots one behind the other; behind the last comes the first. It lives no longer than its [`Map`].
pub struct Ring {
    start: NonNull<u8>,
    slot: usize,
    slots: usize,
}

impl Ring {
    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of a slot.
    pub fn room(&self) -> usize {
        self.slot
    }

    /// The slot behind one.
    #[inline(always)]
    pub fn after(&self, index: usize) -> usize {
        if index + 1 < self.slots { index + 1 } else { 0 }
    }

    /// The slot so many before one.
    #[inline(always)]
    pub fn before(&self, index: usize, by: usize) -> usize {
        if by <= index { index - by } else { index + self.slots - by }
    }

    /// Where a slot begins; one that does not exist is the first.
    #[inline(always)]
    fn at(&self, index: usize) -> NonNull<u8> {
        let index = if index < self.slots { index } else { 0 };
        // SAFETY: the mapping has so many slots.
        unsafe { self.start.add(index * self.slot) }
    }

    #[inline(always)]
    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a slot is aligned to a cache line and begins with its status, which both sides read and write as a
        // whole; the mapping outlives the ring.
        unsafe { AtomicU32::from_ptr(self.at(index).as_ptr().cast()) }
    }

    /// The status of a slot; what was written into the slot before its status is seen from here on.
    #[inline(always)]
    pub fn status(&self, index: usize) -> u32 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Sets the status of a slot, after all that was done to it.
    #[inline(always)]
    pub fn set_status(&self, index: usize, status: u32) {
        self.word(index).store(status, Ordering::Release);
    }

    /// Asks for the header of a slot and the begin of its frame.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        let slot = self.at(index).as_ptr().cast_const();
        prefetch_pointer(slot);
        prefetch_pointer(slot.wrapping_add(64));
    }

    /// The header of a slot.
    ///
    /// # Safety
    /// The slot is not the kernel's, as its status said.
    #[inline(always)]
    pub unsafe fn header(&self, index: usize) -> tpacket2_hdr {
        // SAFETY: every slot begins with a header, aligned to a cache line, which nobody writes now.
        unsafe { self.at(index).cast::<tpacket2_hdr>().read() }
    }

    /// The type of a received frame: to us, to others, or from us.
    ///
    /// # Safety
    /// The slot is not the kernel's, as its status said.
    pub unsafe fn kind(&self, index: usize) -> u8 {
        // SAFETY: behind the header, aligned, stands the address; nobody writes it now, and no slot is smaller.
        let address =
            unsafe { self.at(index).add(size_of::<tpacket2_hdr>()).cast::<libc::sockaddr_ll>().read() };
        address.sll_pkttype
    }

    /// Copies bytes out of a slot, as far as it has them.
    ///
    /// # Safety
    /// The slot is not the kernel's, as its status said.
    #[inline(always)]
    pub unsafe fn read(&self, index: usize, from: usize, into: &mut [u8]) {
        if from <= self.slot && into.len() <= self.slot - from {
            // SAFETY: the bytes lie within the slot, which nobody writes now; what is borrowed mutably is none of it.
            unsafe {
                self.at(index).add(from).copy_to_nonoverlapping(NonNull::from_mut(into).cast(), into.len())
            };
        }
    }

    /// Puts a frame into a slot, behind as many bytes, with its length in the header; the status stays. The frame and what
    /// is before it must not be longer than a slot.
    ///
    /// # Safety
    /// The slot is not the kernel's, as its status said.
    #[inline(always)]
    pub unsafe fn write(&self, index: usize, at: usize, frame: &[u8]) {
        if at <= self.slot && frame.len() <= self.slot - at {
            let slot = self.at(index);
            // SAFETY: the bytes lie within the slot, which nobody else reads or writes now, and the frame in none.
            unsafe {
                let header = slot.cast::<tpacket2_hdr>().as_ptr();
                (&raw mut (*header).tp_len).write(frame.len() as u32);
                slot.add(at).copy_from_nonoverlapping(NonNull::from_ref(frame).cast(), frame.len());
            }
        }
    }

    /// Copies all of a slot but its status into another.
    ///
    /// # Safety
    /// Neither slot is being read or written by the kernel.
    pub unsafe fn copy(&self, from: usize, to: usize) {
        let (from, to) = (self.at(from), self.at(to));
        let status = size_of::<u32>();
        if from != to {
            // SAFETY: two slots do not overlap, and nobody else reads or writes them now.
            unsafe { from.add(status).copy_to_nonoverlapping(to.add(status), self.slot - status) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_pages_and_full_of_slots() {
        for room in [1, 66, 1584, 1600, 9084, 65_601] {
            for bytes in [0, 1 << 20, 8 << 20] {
                let shape = Shape::new(bytes, room);
                let request = shape.request();
                assert!(shape.slot >= room && shape.slot < room + 128 && (shape.slot / 64) % 2 == 1);
                assert_eq!(request.tp_block_size as usize % page(), 0);
                assert_eq!(request.tp_block_size as usize * request.tp_block_nr as usize, shape.bytes());
                assert_eq!(request.tp_frame_size as usize * request.tp_frame_nr as usize, shape.bytes());
                assert!(shape.bytes() <= bytes || request.tp_block_nr == 1);
            }
        }
    }
}
