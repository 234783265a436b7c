//! Which code a run has reached, when the program was built so that it counts (see `tools/fuzz.sh`).
#![allow(unsafe_code, reason = "the compiler's counters are raw memory")]

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static STOP: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Called by code that the compiler adds, before `main`: where the counters are, one byte for each edge.
// SAFETY: the name is the compiler's, and nothing else in the program has it.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    STOP.store(stop, Ordering::Relaxed);
}

/// The counters, eight to a word as far as they are aligned so, because most are zero; the few at the ends are left out.
fn counters() -> &'static [AtomicU64] {
    let (start, stop) = (START.load(Ordering::Relaxed), STOP.load(Ordering::Relaxed));
    if start.is_null() {
        return &[];
    }
    let first = start.wrapping_add(start.align_offset(8));
    let words = (stop as usize).saturating_sub(first as usize) / 8;
    // SAFETY: the linker's bounds of one section of bytes that lives as long as the program, from the first aligned one
    // on; an AtomicU64 is eight bytes, and may change while it is looked at.
    unsafe { std::slice::from_raw_parts(first.cast(), words) }
}

/// Every edge that was ever reached, with how often in a run, roughly.
pub struct Coverage {
    seen: Vec<u8>,
}

impl Coverage {
    pub fn new() -> Coverage {
        Coverage { seen: vec![0; counters().len() * 8] }
    }

    /// Whether there are any counters.
    pub fn is_there(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Makes ready for a run.
    pub fn clear(&self) {
        for counter in counters() {
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether the run reached anything new; it is not new again.
    pub fn collect(&mut self) -> bool {
        let mut new = false;
        for (counter, seen) in counters().iter().zip(self.seen.chunks_exact_mut(8)) {
            let word = counter.load(Ordering::Relaxed);
            if word != 0 {
                for (count, seen) in word.to_ne_bytes().into_iter().zip(seen) {
                    let class = class(count);
                    new |= *seen & class != class;
                    *seen |= class;
                }
            }
        }
        new
    }

    /// The numbers of the edges that were ever reached, in order.
    pub fn reached(&self) -> Vec<u32> {
        (0..).zip(&self.seen).filter(|(_, seen)| **seen != 0).map(|(edge, _)| edge).collect()
    }

    /// How many edges were ever reached.
    pub fn edges(&self) -> usize {
        self.seen.iter().filter(|s| **s != 0).count()
    }
}

/// How often, roughly: one bit.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1..=3 => 1 << (count - 1),
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}
