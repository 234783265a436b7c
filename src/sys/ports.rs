//! A cache line of ascending ports: how many are below one? The step of a search with 32 ways at once.

use super::Line;

impl Line {
    /// A line of 32 numbers of 16 bits, two in a word as they stand in memory.
    pub fn of_ports(ports: [i16; 32]) -> Line {
        Line(std::array::from_fn(|n| {
            let ([a, b], [c, d]) = (ports[2 * n].to_ne_bytes(), ports[2 * n + 1].to_ne_bytes());
            i32::from_ne_bytes([a, b, c, d])
        }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod machine {
    use std::arch::x86_64::{
        __m128i, _mm_cmpgt_epi16, _mm_load_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
    };

    use super::Line;

    #[inline(always)]
    pub fn below(line: &Line, number: i16) -> usize {
        let pointer = line.0.as_ptr().cast::<__m128i>();
        // SAFETY: a line is four loads of 16 bytes and aligned to more; SSE2 is part of x86-64.
        let (low, high) = unsafe {
            let number = _mm_set1_epi16(number);
            let part = |n| _mm_cmpgt_epi16(number, _mm_load_si128(pointer.add(n)));
            let mask = |a, b| i64::from(_mm_movemask_epi8(_mm_packs_epi16(a, b)));
            (mask(part(0), part(1)), mask(part(2), part(3)))
        };
        (low | high << 16).trailing_ones() as usize
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) mod machine {
    use super::Line;

    #[inline(always)]
    pub fn below(line: &Line, number: i16) -> usize {
        let pair = |word: &i32| {
            let [a, b, c, d] = word.to_ne_bytes();
            let pair = [i16::from_ne_bytes([a, b]), i16::from_ne_bytes([c, d])];
            pair.map(|n| u16::from(n < number)).iter().sum::<u16>()
        };
        usize::from(line.0.iter().map(pair).sum::<u16>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Base, Wide};
    use super::*;

    #[test]
    fn counts_what_is_below() {
        for count in 0..=32 {
            let line =
                Line::of_ports(std::array::from_fn(|n| if n < count { n as i16 - 100 } else { i16::MAX }));
            assert_eq!((Base.below_32(&line, 1), Base.below_32(&line, i16::MAX)), (count, count));
            assert_eq!(Base.below_32(&line, -90), count.min(10));
        }
        assert_eq!(
            (Base.below_32(&Line::of_ports([1; 32]), 2), Base.below_32(&Line::of_ports([1; 32]), 1)),
            (32, 0)
        );
    }
}
