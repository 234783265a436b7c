//! Which code a run has reached, when the program was built so that it counts (see `tools/fuzz.sh`).
#![allow(unsafe_code, reason = "the compiler's counters are raw memory")]

use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static STOP: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Called by code that the compiler adds, before `main`: where the counters are, one byte for each edge.
// SAFETY: the name is the compiler's, and nothing else in the program has it.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    STOP.store(stop, Ordering::Relaxed);
}

fn counters() -> &'static [AtomicU8] {
    let (start, stop) = (START.load(Ordering::Relaxed), STOP.load(Ordering::Relaxed));
    if start.is_null() {
        return &[];
    }
    // SAFETY: the linker's bounds of one section of bytes that lives as long as the program; AtomicU8 is a byte, and may
    // change while it is looked at.
    unsafe { std::slice::from_raw_parts(start.cast(), stop as usize - start as usize) }
}

/// Every edge that was ever reached, with how often in a run, roughly.
pub struct Coverage {
    seen: Vec<u8>,
}

impl Coverage {
    pub fn new() -> Coverage {
        Coverage { seen: vec![0; counters().len()] }
    }

    /// Whether there are any counters.
    pub fn is_there(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Makes ready for a run.
    pub fn clear(&self) {
        for counter in counters() {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the run reached anything new; it is not new again.
    pub fn collect(&mut self) -> bool {
        let mut new = false;
        for (counter, seen) in counters().iter().zip(&mut self.seen) {
            let count = counter.load(Ordering::Relaxed);
            if count != 0 {
                let class = 1
                    << match count {
                        0..=3 => count - 1,
                        4..=7 => 3,
                        8..=15 => 4,
                        16..=31 => 5,
                        32..=127 => 6,
                        128.. => 7,
                    };
                new |= *seen & class == 0;
                *seen |= class;
            }
        }
        new
    }

    /// Edges that were ever reached.
    pub fn edges(&self) -> usize {
        self.seen.iter().filter(|s| **s != 0).count()
    }
}
