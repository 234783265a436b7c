//! A cache line of ascending numbers: where does one belong? The step of a search with 16 or 8 ways at once.

/// Sixteen words in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [i32; 16]);

/// A line in which nothing is below a number.
pub(super) const NOWHERE: Line = Line([i32::MAX; 16]);

/// The first place whose bit is not set in a mask of what is below; at most `last`.
#[inline(always)]
pub(super) fn place(below: u32, last: u32) -> usize {
    (!below | 1 << last).trailing_zeros() as usize
}

/// Masks: bit n is set if number n of the line is below another.
#[cfg(target_arch = "x86_64")]
pub(super) mod machine {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi32, _mm_cmpgt_epi32, _mm_load_si128, _mm_movemask_epi8,
        _mm_or_si128, _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128,
    };

    use super::Line;

    #[inline(always)]
    pub fn below_16(line: &Line, word: i32) -> u32 {
        let pointer = line.0.as_ptr().cast::<__m128i>();
        // SAFETY: a line is four loads of 16 bytes and aligned to more; SSE2 is part of x86-64.
        let mask = unsafe {
            let word = _mm_set1_epi32(word);
            let part = |n| _mm_cmpgt_epi32(word, _mm_load_si128(pointer.add(n)));
            let halves = (_mm_packs_epi32(part(0), part(1)), _mm_packs_epi32(part(2), part(3)));
            _mm_movemask_epi8(_mm_packs_epi16(halves.0, halves.1))
        };
        mask.cast_unsigned()
    }

    #[inline(always)]
    pub fn below_8(line: &Line, [high, low]: [i32; 2]) -> u32 {
        let pointer = line.0.as_ptr().cast::<__m128i>();
        // SAFETY: a line is four loads of 16 bytes and aligned to more; SSE2 is part of x86-64.
        let mask = unsafe {
            let (high, low) = (_mm_set1_epi32(high), _mm_set1_epi32(low));
            let part = |n| {
                let (highs, lows) = (_mm_load_si128(pointer.add(n)), _mm_load_si128(pointer.add(n + 2)));
                let lower = _mm_and_si128(_mm_cmpeq_epi32(high, highs), _mm_cmpgt_epi32(low, lows));
                _mm_or_si128(_mm_cmpgt_epi32(high, highs), lower)
            };
            let words = _mm_packs_epi32(part(0), part(1));
            _mm_movemask_epi8(_mm_packs_epi16(words, _mm_setzero_si128()))
        };
        mask.cast_unsigned()
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) mod machine {
    use super::Line;

    #[inline(always)]
    pub fn below_16(line: &Line, word: i32) -> u32 {
        line.0.iter().rev().fold(0, |mask, w| mask << 1 | u32::from(*w < word))
    }

    #[inline(always)]
    pub fn below_8(line: &Line, [high, low]: [i32; 2]) -> u32 {
        let (highs, lows) = line.0.split_at(8);
        let numbers = highs.iter().zip(lows).rev();
        numbers.fold(0, |mask, (h, l)| mask << 1 | u32::from((*h, *l) < (high, low)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Base, Wide};
    use super::*;

    #[test]
    fn a_number_belongs_before_the_first_that_is_not_below() {
        let tens = Line(std::array::from_fn(|n| n as i32 * 10 - 50));
        for word in [i32::MIN, -51, -50, -49, 0, 1, 89, 90, 91, i32::MAX] {
            let expected = tens.0[..15].iter().filter(|w| **w < word).count();
            assert_eq!(Base.place_16(&tens, word), expected, "{word}");
        }
        assert_eq!(Base.place_16(&Line([i32::MAX; 16]), i32::MAX), 0);
        assert_eq!(Base.place_16(&Line([i32::MIN; 16]), i32::MIN), 0);
        let pairs = [(-9, 5), (-9, 6), (0, -1), (0, 7), (3, i32::MIN), (3, i32::MAX), (4, 0), (9, 9)];
        let line = Line(std::array::from_fn(|n| if n < 8 { pairs[n].0 } else { pairs[n - 8].1 }));
        for high in [-10, -9, 0, 3, 4, 9, 10] {
            for low in [i32::MIN, -1, 0, 5, 6, 7, 8, i32::MAX] {
                let expected = pairs[..7].iter().filter(|p| **p < (high, low)).count();
                assert_eq!(Base.place_8(&line, [high, low]), expected, "{high} {low}");
            }
        }
    }
}
