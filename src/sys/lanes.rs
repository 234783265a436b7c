//! Eight 32-bit words compared at once; answers are masks, bit n for word n.

#[cfg(target_arch = "x86_64")]
pub(super) mod machine {
    use std::arch::x86_64::{
        __m128i, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_loadu_si128, _mm_movemask_epi8, _mm_movemask_ps,
        _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128,
    };

    #[inline(always)]
    fn halves(words: &[u32; 8]) -> (__m128i, __m128i) {
        let pointer = words.as_ptr().cast::<__m128i>();
        // SAFETY: eight words are two loads of 16 bytes, which need no alignment; SSE2 is part of x86-64.
        unsafe { (_mm_loadu_si128(pointer), _mm_loadu_si128(pointer.add(1))) }
    }

    #[inline(always)]
    pub fn equal8(words: &[u32; 8], wanted: u32) -> u32 {
        let (low, high) = halves(words);
        // SAFETY: SSE2 is part of x86-64; no memory is touched.
        unsafe {
            let wanted = _mm_set1_epi32(wanted.cast_signed());
            let (low, high) = (_mm_cmpeq_epi32(low, wanted), _mm_cmpeq_epi32(high, wanted));
            let bytes = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
            _mm_movemask_epi8(bytes).cast_unsigned()
        }
    }

    #[inline(always)]
    pub fn high8(words: &[u32; 8]) -> u32 {
        let (low, high) = halves(words);
        // SAFETY: SSE2 is part of x86-64; no memory is touched.
        let (low, high) =
            unsafe { (_mm_movemask_ps(_mm_castsi128_ps(low)), _mm_movemask_ps(_mm_castsi128_ps(high))) };
        (low | high << 4).cast_unsigned()
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) mod machine {
    use std::arch::aarch64::{
        uint32x4_t, vaddq_u32, vaddvq_u32, vandq_u32, vceqq_u32, vcgeq_u32, vdupq_n_u32, vld1q_u32,
    };

    #[inline(always)]
    fn halves(words: &[u32; 8]) -> (uint32x4_t, uint32x4_t) {
        // SAFETY: eight words are two loads of four; NEON is part of aarch64.
        unsafe { (vld1q_u32(words.as_ptr()), vld1q_u32(words.as_ptr().add(4))) }
    }

    /// One bit of each lane that is all ones, the second half above the first.
    #[inline(always)]
    fn mask(low: uint32x4_t, high: uint32x4_t) -> u32 {
        const BITS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        let (first, second) = halves(&BITS);
        // SAFETY: NEON is part of aarch64; no memory is touched.
        unsafe { vaddvq_u32(vaddq_u32(vandq_u32(low, first), vandq_u32(high, second))) }
    }

    #[inline(always)]
    pub fn equal8(words: &[u32; 8], wanted: u32) -> u32 {
        let (low, high) = halves(words);
        // SAFETY: NEON is part of aarch64; no memory is touched.
        let (low, high) = unsafe {
            let wanted = vdupq_n_u32(wanted);
            (vceqq_u32(low, wanted), vceqq_u32(high, wanted))
        };
        mask(low, high)
    }

    #[inline(always)]
    pub fn high8(words: &[u32; 8]) -> u32 {
        let (low, high) = halves(words);
        // SAFETY: NEON is part of aarch64; no memory is touched.
        let (low, high) = unsafe {
            let least = vdupq_n_u32(1 << 31);
            (vcgeq_u32(low, least), vcgeq_u32(high, least))
        };
        mask(low, high)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) mod machine {
    #[inline(always)]
    pub fn equal8(words: &[u32; 8], wanted: u32) -> u32 {
        words.iter().rev().fold(0, |mask, word| mask << 1 | u32::from(*word == wanted))
    }

    #[inline(always)]
    pub fn high8(words: &[u32; 8]) -> u32 {
        words.iter().rev().fold(0, |mask, word| mask << 1 | word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::machine::{equal8, high8};

    #[test]
    fn masks_name_the_words() {
        let words = [7, 1 << 31, 0, 7, u32::MAX, 0x7fff_ffff, 0x8000_0007, 7];
        assert_eq!(equal8(&words, 7), 0b1000_1001);
        assert_eq!(equal8(&words, u32::MAX), 0b0001_0000);
        assert_eq!(equal8(&words, 1), 0);
        assert_eq!(equal8(&[9; 8], 9), 0xff);
        assert_eq!(high8(&words), 0b0101_0010);
        for n in 0..8 {
            let mut words = [0; 8];
            words[n] = 1 << 31;
            assert_eq!((equal8(&words, 1 << 31), high8(&words)), (1 << n, 1 << n));
        }
    }
}
