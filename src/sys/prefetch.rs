//! Asking for a cache line before it is needed.

/// Asks for the cache line that holds the first byte of `value`.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_pointer(std::ptr::from_ref(value).cast());
}

/// Asks for the cache line that holds the first byte of an element; nothing if there is no such element.
#[inline(always)]
pub fn prefetch_index<T>(values: &[T], index: usize) {
    if let Some(value) = values.get(index) {
        prefetch(value);
    }
}

/// Asks for the two cache lines from a place in a slice on; a place behind its end asks for what is nobody's business,
/// and gets nothing.
#[inline(always)]
pub fn prefetch_two(bytes: &[u8], at: usize) {
    let first = bytes.as_ptr().wrapping_add(at);
    prefetch_pointer(first);
    prefetch_pointer(first.wrapping_add(64));
}

/// Asks for the cache line of an address, which may be any: a prefetch reads nothing and faults nowhere.
#[inline(always)]
pub(super) fn prefetch_pointer(pointer: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint, defined for every address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: a prefetch is a hint, defined for every address; it changes no register and no memory.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) pointer, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = pointer;
}
