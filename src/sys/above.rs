//! Which number of a sorted cache line is the first above one: the step of a search with a fan-out of 16 or 32.

/// The place of the first of these ascending numbers that is above `value`; the last place if none before it is.
#[inline(always)]
pub fn first_above_16(line: &[i32; 16], value: i32) -> usize {
    machine::first_above_16(line, value)
}

/// The place of the first of these ascending numbers that is above `value`; the last place if none before it is.
#[inline(always)]
pub fn first_above_32(line: &[i16; 32], value: i16) -> usize {
    machine::first_above_32(line, value)
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::x86_64::{
        __m128i, _mm_cmpgt_epi16, _mm_cmpgt_epi32, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set1_epi16, _mm_set1_epi32,
    };

    #[inline(always)]
    pub fn first_above_16(line: &[i32; 16], value: i32) -> usize {
        let pointer = line.as_ptr().cast::<__m128i>();
        // SAFETY: the line is four loads of 16 bytes, which need no alignment; SSE2 is part of x86-64.
        let above = unsafe {
            let value = _mm_set1_epi32(value);
            let part = |n| _mm_cmpgt_epi32(_mm_loadu_si128(pointer.add(n)), value);
            let halves = (_mm_packs_epi32(part(0), part(1)), _mm_packs_epi32(part(2), part(3)));
            _mm_movemask_epi8(_mm_packs_epi16(halves.0, halves.1))
        };
        (above | 1 << 15).trailing_zeros() as usize
    }

    #[inline(always)]
    pub fn first_above_32(line: &[i16; 32], value: i16) -> usize {
        let pointer = line.as_ptr().cast::<__m128i>();
        // SAFETY: the line is four loads of 16 bytes, which need no alignment; SSE2 is part of x86-64.
        let above = unsafe {
            let value = _mm_set1_epi16(value);
            let part = |n| _mm_cmpgt_epi16(_mm_loadu_si128(pointer.add(n)), value);
            let mask = |a, b| _mm_movemask_epi8(_mm_packs_epi16(a, b));
            mask(part(0), part(1)) | mask(part(2), part(3)) << 16
        };
        (above | 1 << 31).trailing_zeros() as usize
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    #[inline(always)]
    pub fn first_above_16(line: &[i32; 16], value: i32) -> usize {
        line[..15].iter().map(|number| usize::from(*number <= value)).sum()
    }

    #[inline(always)]
    pub fn first_above_32(line: &[i16; 32], value: i16) -> usize {
        usize::from(line[..31].iter().map(|number| u16::from(*number <= value)).sum::<u16>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_above() {
        for count in 0..=32 {
            let ports: [i16; 32] = std::array::from_fn(|n| if n < count { n as i16 - 100 } else { i16::MAX });
            assert_eq!(first_above_32(&ports, 1), count.min(31));
            assert_eq!(first_above_32(&ports, -91), count.min(10));
        }
        for count in 0..=16 {
            let numbers: [i32; 16] = std::array::from_fn(|n| if n < count { i32::MIN } else { i32::MAX });
            assert_eq!(first_above_16(&numbers, i32::MAX), 15);
            assert_eq!(first_above_16(&numbers, i32::MIN), count.min(15));
        }
        assert_eq!((first_above_16(&[1; 16], 2), first_above_16(&[1; 16], 0)), (15, 0));
        assert_eq!((first_above_32(&[1; 32], 2), first_above_32(&[1; 32], 0)), (31, 0));
    }
}
