//! Wider instructions where the machine has them, found out while the program runs.
//!
//! A [`Wide`] is a token: whoever holds one knows that its instructions are there. [`widest`] makes the widest one and
//! runs a [`Work`] with it, compiled for those instructions as a whole: all of it that is `#[inline(always)]`.

use super::turn::{self, Blocks, Turned};
use super::{Block, Line, block, lanes, line, ports};

/// What wider instructions do better. The answers are the same for every token.
pub trait Wide: Copy {
    /// Which of eight words are equal to `wanted`: bit n for word n.
    #[inline(always)]
    fn equal8(self, words: &[u32; 8], wanted: u32) -> u32 {
        lanes::machine::equal8(words, wanted)
    }

    /// The highest bits of eight words: bit n for word n.
    #[inline(always)]
    fn high8(self, words: &[u32; 8]) -> u32 {
        lanes::machine::high8(words)
    }

    /// The place of the first of fifteen ascending words that is not below `word`; 15 if all are. The last word is
    /// not looked at.
    #[inline(always)]
    fn place_16(self, line: &Line, word: i32) -> usize {
        line::place(line::machine::below_16(line, word), 15)
    }

    /// The place of the first of seven ascending numbers that is not below `number`; 7 if all are. A number is two words,
    /// the high one among the first eight, the low one among the others; the eighth number is not looked at.
    #[inline(always)]
    fn place_8(self, line: &Line, number: [i32; 2]) -> usize {
        line::place(line::machine::below_8(line, number), 7)
    }

    /// Twice as many as there are below `word` of sixteen ascending words: this is what can be counted fastest.
    #[inline(always)]
    fn twice_below_16(self, line: &Line, word: i32) -> usize {
        2 * line::place(line::machine::below_16(line, word), 16)
    }

    /// How many of 32 ascending numbers, [laid in pairs](Line::of_ports), are below `number`.
    #[inline(always)]
    fn below_32(self, line: &Line, number: i16) -> usize {
        ports::machine::below(line, number)
    }

    /// The first bit that is set in all these blocks.
    #[inline(always)]
    fn first_of_blocks<const N: usize>(self, blocks: [&Block; N]) -> Option<usize> {
        block::first(blocks)
    }

    /// The words of sixteen blocks of bytes, in network byte order, turned.
    #[inline(always)]
    fn turn(self, blocks: &Blocks<'_>, to: &mut Turned) {
        turn::base(blocks, to);
    }

    /// Runs work compiled for these instructions, in a function of its own.
    fn run<T: Work>(self, work: T) -> T::Output;
}

/// Something to do with the widest instructions.
pub trait Work {
    /// What comes of it.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`, as is everything below that is to be compiled for the token.
    fn run<W: Wide>(self, wide: W) -> Self::Output;
}

/// What every machine has that this is compiled for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base;

impl Wide for Base {
    #[inline(never)]
    fn run<T: Work>(self, work: T) -> T::Output {
        work.run(self)
    }
}

/// Runs work with the widest token there is.
#[inline]
pub fn widest<T: Work>(work: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(wide) = x86::Avx512::found() {
            return wide.run(work);
        }
        if let Some(wide) = x86::Avx2::found() {
            return wide.run(work);
        }
    }
    Base.run(work)
}

/// What comes of work with every token there is.
#[cfg(test)]
pub(crate) fn every<T: Work>(make: impl Fn() -> T) -> Vec<T::Output> {
    let mut all = vec![Base.run(make())];
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(x86::Avx2::found().map(|wide| wide.run(make())));
        all.extend(x86::Avx512::found().map(|wide| wide.run(make())));
    }
    all
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_cvtsi32_si128, _mm256_and_si256, _mm256_castsi128_si256, _mm256_castsi256_ps,
        _mm256_cmpeq_epi32, _mm256_cmpgt_epi16, _mm256_cmpgt_epi32, _mm256_cvtsi256_si32, _mm256_load_si256,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_movemask_ps, _mm256_or_si256, _mm256_packs_epi16,
        _mm256_packs_epi32, _mm256_permutevar8x32_epi32, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_test_epi32_mask, _mm512_cmpgt_epi16_mask, _mm512_cmpgt_epi32_mask,
        _mm512_load_si512, _mm512_set1_epi16, _mm512_set1_epi32,
    };

    use super::{Block, Blocks, Line, Turned, Wide, Work, line, turn};

    /// The bits of all bytes of a vector but those of its last word.
    const FIFTEEN: u32 = u32::MAX >> 2;

    /// AVX2 and what came with it (x86-64-v3).
    #[derive(Clone, Copy)]
    pub struct Avx2(());

    impl Avx2 {
        #[inline]
        pub fn found() -> Option<Avx2> {
            let all = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
            (all && has!("movbe") && has!("fma")).then_some(Avx2(()))
        }
    }

    /// The same, and AVX-512 with its short vectors (x86-64-v4).
    #[derive(Clone, Copy)]
    pub struct Avx512(Avx2);

    impl Avx512 {
        #[inline]
        pub fn found() -> Option<Avx512> {
            let all = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            Avx2::found().filter(|_| all && has!("avx512cd")).map(Avx512)
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe,fma")]
    fn with_avx2<T: Work>(work: T, wide: Avx2) -> T::Output {
        work.run(wide)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe,fma")]
    fn with_avx512<T: Work>(work: T, wide: Avx512) -> T::Output {
        work.run(wide)
    }

    impl Wide for Avx2 {
        #[inline(always)]
        fn equal8(self, words: &[u32; 8], wanted: u32) -> u32 {
            // SAFETY: the token says that AVX2 is there; eight words are one load, which needs no alignment.
            unsafe {
                let equal = _mm256_cmpeq_epi32(load8(words), _mm256_set1_epi32(wanted.cast_signed()));
                _mm256_movemask_ps(_mm256_castsi256_ps(equal)).cast_unsigned()
            }
        }

        #[inline(always)]
        fn high8(self, words: &[u32; 8]) -> u32 {
            // SAFETY: as above.
            unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(load8(words))).cast_unsigned() }
        }

        #[inline(always)]
        fn place_16(self, line: &Line, word: i32) -> usize {
            // SAFETY: the token says that AVX2 is there.
            // Two bytes say of each word whether it is below; in which order does not matter, but that the last is last.
            (unsafe { below_16(line, word) } & FIFTEEN).count_ones() as usize / 2
        }

        #[inline(always)]
        fn twice_below_16(self, line: &Line, word: i32) -> usize {
            // SAFETY: as above.
            unsafe { below_16(line, word) }.count_ones() as usize
        }

        #[inline(always)]
        fn place_8(self, line: &Line, [high, low]: [i32; 2]) -> usize {
            // SAFETY: as above.
            let below = unsafe {
                let (highs, lows) = halves(line.0.as_ptr().cast());
                let (high, low) = (_mm256_set1_epi32(high), _mm256_set1_epi32(low));
                let lower = _mm256_and_si256(_mm256_cmpeq_epi32(high, highs), _mm256_cmpgt_epi32(low, lows));
                let below = _mm256_or_si256(_mm256_cmpgt_epi32(high, highs), lower);
                _mm256_movemask_ps(_mm256_castsi256_ps(below)).cast_unsigned()
            };
            line::place(below, 7)
        }

        #[inline(always)]
        fn below_32(self, line: &Line, number: i16) -> usize {
            // SAFETY: as above.
            unsafe {
                let (low, high) = halves(line.0.as_ptr().cast());
                let number = _mm256_set1_epi16(number);
                let (low, high) = (_mm256_cmpgt_epi16(number, low), _mm256_cmpgt_epi16(number, high));
                _mm256_movemask_epi8(_mm256_packs_epi16(low, high)).count_ones() as usize
            }
        }

        #[inline(always)]
        fn first_of_blocks<const N: usize>(self, blocks: [&Block; N]) -> Option<usize> {
            const { assert!(N > 0, "no block has no bits") };
            // SAFETY: as above; a block is one load of 32 bytes and aligned to it.
            let (all, words) = unsafe {
                let mut all = _mm256_set1_epi32(-1);
                for block in blocks {
                    all = _mm256_and_si256(all, _mm256_load_si256(block.0.as_ptr().cast()));
                }
                let empty = _mm256_cmpeq_epi32(all, _mm256_setzero_si256());
                (all, _mm256_movemask_ps(_mm256_castsi256_ps(empty)).cast_unsigned() ^ 0xff)
            };
            // SAFETY: as above.
            (words != 0).then(|| unsafe { first_bit(all, words) })
        }

        #[inline(always)]
        fn turn(self, blocks: &Blocks<'_>, to: &mut Turned) {
            // SAFETY: the token says that AVX2 is there.
            unsafe { turn::x86::avx2(blocks, to) }
        }

        #[inline]
        fn run<T: Work>(self, work: T) -> T::Output {
            // SAFETY: the token says that these instructions are there.
            unsafe { with_avx2(work, self) }
        }
    }

    impl Wide for Avx512 {
        #[inline(always)]
        fn equal8(self, words: &[u32; 8], wanted: u32) -> u32 {
            self.0.equal8(words, wanted)
        }

        #[inline(always)]
        fn high8(self, words: &[u32; 8]) -> u32 {
            self.0.high8(words)
        }

        #[inline(always)]
        fn place_16(self, line: &Line, word: i32) -> usize {
            // SAFETY: the token says that AVX-512 is there; a line is one load of 64 bytes and aligned to it.
            let below =
                unsafe { _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(word), whole(line.0.as_ptr().cast())) };
            line::place(u32::from(below), 15)
        }

        #[inline(always)]
        fn place_8(self, line: &Line, number: [i32; 2]) -> usize {
            self.0.place_8(line, number)
        }

        #[inline(always)]
        fn twice_below_16(self, line: &Line, word: i32) -> usize {
            // SAFETY: as above.
            let below =
                unsafe { _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(word), whole(line.0.as_ptr().cast())) };
            2 * below.count_ones() as usize
        }

        #[inline(always)]
        fn below_32(self, line: &Line, number: i16) -> usize {
            // SAFETY: as above.
            let below =
                unsafe { _mm512_cmpgt_epi16_mask(_mm512_set1_epi16(number), whole(line.0.as_ptr().cast())) };
            below.count_ones() as usize
        }

        #[inline(always)]
        fn first_of_blocks<const N: usize>(self, blocks: [&Block; N]) -> Option<usize> {
            const { assert!(N > 0, "no block has no bits") };
            // SAFETY: as above; a block is one load of 32 bytes and aligned to it.
            let (all, words) = unsafe {
                let mut all = _mm256_set1_epi32(-1);
                for block in blocks {
                    all = _mm256_and_si256(all, _mm256_load_si256(block.0.as_ptr().cast()));
                }
                (all, u32::from(_mm256_test_epi32_mask(all, all)))
            };
            // SAFETY: as above.
            (words != 0).then(|| unsafe { first_bit(all, words) })
        }

        #[inline(always)]
        fn turn(self, blocks: &Blocks<'_>, to: &mut Turned) {
            // SAFETY: the token says that AVX-512 is there.
            unsafe { turn::x86::avx512(blocks, to) }
        }

        #[inline]
        fn run<T: Work>(self, work: T) -> T::Output {
            // SAFETY: the token says that these instructions are there.
            unsafe { with_avx512(work, self) }
        }
    }

    /// A mask with two bits for each word of a line, set if it is below another; those of the last word are the highest.
    #[target_feature(enable = "avx2")]
    fn below_16(line: &Line, word: i32) -> u32 {
        // SAFETY: a line is 64 bytes and aligned to as many.
        let (low, high) = unsafe { halves(line.0.as_ptr().cast()) };
        let word = _mm256_set1_epi32(word);
        let (low, high) = (_mm256_cmpgt_epi32(word, low), _mm256_cmpgt_epi32(word, high));
        _mm256_movemask_epi8(_mm256_packs_epi32(low, high)).cast_unsigned()
    }

    /// The lowest bit of a vector of which a mask says which words are not 0, as one is.
    #[target_feature(enable = "avx2,bmi1")]
    fn first_bit(all: __m256i, words: u32) -> usize {
        let word = words.trailing_zeros();
        let place = _mm256_castsi128_si256(_mm_cvtsi32_si128(word.cast_signed()));
        let bits = _mm256_cvtsi256_si32(_mm256_permutevar8x32_epi32(all, place));
        (32 * word + bits.trailing_zeros()) as usize
    }

    #[target_feature(enable = "avx2")]
    fn load8(words: &[u32; 8]) -> __m256i {
        // SAFETY: eight words are 32 bytes; the load needs no alignment.
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    }

    /// # Safety
    ///
    /// `line` points to 64 bytes, aligned to 32.
    #[target_feature(enable = "avx2")]
    unsafe fn halves(line: *const __m256i) -> (__m256i, __m256i) {
        // SAFETY: see above.
        unsafe { (_mm256_load_si256(line), _mm256_load_si256(line.add(1))) }
    }

    /// # Safety
    ///
    /// `line` points to 64 bytes, aligned to 64.
    #[target_feature(enable = "avx512f")]
    unsafe fn whole(line: *const __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_load_si512(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as u32
        }
    }

    /// Everything a token says of these words.
    struct Say<'a>(&'a [u32; 16], u32);

    impl Work for Say<'_> {
        type Output = [usize; 9];

        #[inline(always)]
        fn run<W: Wide>(self, wide: W) -> [usize; 9] {
            let Say(words, wanted) = self;
            let mut eight = [0; 8];
            eight.copy_from_slice(&words[..8]);
            let mut ascending = words.map(u32::cast_signed);
            ascending.sort_unstable();
            let mut ports = std::array::from_fn(|n| (words[n / 2] >> (16 * (n % 2))) as i16);
            ports.sort_unstable();
            let (line, ports) = (Line(ascending), Line::of_ports(ports));
            // The last word of a line is not looked at by who places among fifteen.
            let mut free = line;
            free.0[15] = words[0].cast_signed();
            let [one, other] = [&words[..8], &words[8..]].map(|words| {
                Block(std::array::from_fn(|n| u64::from(words[2 * n]) << 32 | u64::from(words[2 * n + 1])))
            });
            let number = |place: Option<usize>| place.unwrap_or(256);
            let word = wanted.cast_signed();
            let mut pairs: Vec<[i32; 2]> = (0..8).map(|n| [ascending[n], ascending[8 + n]]).collect();
            pairs.sort_unstable();
            let pairs = Line(std::array::from_fn(|n| pairs[n % 8][n / 8]));
            [
                wide.equal8(&eight, wanted) as usize,
                wide.high8(&eight) as usize,
                wide.place_16(&free, word),
                wide.twice_below_16(&line, word),
                wide.place_8(&pairs, [word, word]),
                wide.below_32(&ports, wanted as i16),
                number(wide.first_of_blocks([&one, &other])),
                number(wide.first_of_blocks([&one, &other, &Block([0, 0, 0, u64::from(wanted)])])),
                number(wide.first_of_blocks([&one, &other, &other, &Block([!0; 4])])),
            ]
        }
    }

    /// Blocks that are turned.
    struct Turn<'a>(Blocks<'a>);

    impl Work for Turn<'_> {
        type Output = Turned;

        #[inline(always)]
        fn run<W: Wide>(self, wide: W) -> Turned {
            let mut to = Turned([[0; 16]; 16]);
            wide.turn(&self.0, &mut to);
            to
        }
    }

    #[test]
    fn words_are_turned() {
        let bytes: Vec<u8> = (0..1100).map(|n| (n * 7 + n / 256) as u8).collect();
        // Blocks may lie anywhere.
        let block = |b: usize| bytes[b * 64 + b..].first_chunk::<64>().unwrap();
        for turned in every(|| Turn(std::array::from_fn(block))) {
            for (b, w) in (0..16).flat_map(|b| (0..16).map(move |w| (b, w))) {
                let expected = u32::from_be_bytes(*block(b)[4 * w..].first_chunk().unwrap());
                assert_eq!(turned.0[w][b], expected, "block {b}, word {w}");
            }
        }
    }

    #[test]
    fn every_token_says_the_same() {
        let mut dice = Dice(7);
        for round in 0..2000 {
            let spread = [4, 0xffff, u32::MAX][round % 3];
            let words: [u32; 16] =
                std::array::from_fn(|_| (dice.roll() << 1).wrapping_add(dice.roll()) & spread);
            let wanted = if round % 2 == 0 { words[round % 16] } else { dice.roll() & spread };
            let all = every(|| Say(&words, wanted));
            assert!(all.iter().all(|said| *said == all[0]), "{all:?}");
            assert_eq!(widest(Say(&words, wanted)), all[0]);
        }
    }
}
