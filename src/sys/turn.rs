//! Blocks of bytes turned into columns of words: the same word of sixteen blocks side by side.

/// Words of sixteen blocks: word `w` of block `b` is `[w][b]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Turned(pub [[u32; 16]; 16]);

/// 64 bytes each.
pub type Blocks<'a> = [&'a [u8; 64]; 16];

/// Word by word.
#[inline(always)]
pub(super) fn base(blocks: &Blocks<'_>, to: &mut Turned) {
    for (b, block) in blocks.iter().enumerate() {
        for (word, column) in block.as_chunks::<4>().0.iter().zip(&mut to.0) {
            column[b] = u32::from_be_bytes(*word);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_set_epi8, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
        _mm256_permute2x128_si256, _mm256_shuffle_epi8, _mm256_store_si256, _mm256_unpackhi_epi32,
        _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm512_broadcast_i32x4,
        _mm512_loadu_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_store_si512,
        _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    use super::{Blocks, Turned};

    /// Four by four words in every 16 bytes of four vectors: word `w` of vector `v` comes to be word `v` of vector `w`.
    macro_rules! turn_4 {
        ($low32:ident, $high32:ident, $low64:ident, $high64:ident, $v:expr) => {{
            let [a, b, c, d] = $v;
            let (ab, cd) = ($low32(a, b), $low32(c, d));
            let (ab_high, cd_high) = ($high32(a, b), $high32(c, d));
            [$low64(ab, cd), $high64(ab, cd), $low64(ab_high, cd_high), $high64(ab_high, cd_high)]
        }};
    }

    /// Eight blocks at a time, half of each at a time.
    #[target_feature(enable = "avx2")]
    pub fn avx2(blocks: &Blocks<'_>, to: &mut Turned) {
        let reverse = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        let reverse = _mm256_broadcastsi128_si256(reverse);
        for (eight, blocks) in blocks.as_chunks::<8>().0.iter().enumerate() {
            for half in 0..2 {
                let load = |n: usize| {
                    let part: *const __m256i = blocks[n].as_ptr().cast();
                    // SAFETY: a block is two parts of 32 bytes; the load needs no alignment.
                    _mm256_shuffle_epi8(unsafe { _mm256_loadu_si256(part.add(half)) }, reverse)
                };
                let turn = |n: usize| {
                    turn_4!(
                        _mm256_unpacklo_epi32,
                        _mm256_unpackhi_epi32,
                        _mm256_unpacklo_epi64,
                        _mm256_unpackhi_epi64,
                        [load(n), load(n + 1), load(n + 2), load(n + 3)]
                    )
                };
                let (first, second) = (turn(0), turn(4));
                for w in 0..4 {
                    let low = _mm256_permute2x128_si256::<0x20>(first[w], second[w]);
                    let high = _mm256_permute2x128_si256::<0x31>(first[w], second[w]);
                    for (word, value) in [(8 * half + w, low), (8 * half + w + 4, high)] {
                        let column: *mut __m256i = to.0[word].as_mut_ptr().cast();
                        // SAFETY: a column is two parts of 32 bytes and aligned to 64.
                        unsafe { _mm256_store_si256(column.add(eight), value) };
                    }
                }
            }
        }
    }

    /// All at once.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn avx512(blocks: &Blocks<'_>, to: &mut Turned) {
        let reverse = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        let reverse = _mm512_broadcast_i32x4(reverse);
        let load = |n: usize| {
            // SAFETY: a block is 64 bytes; the load needs no alignment.
            _mm512_shuffle_epi8(unsafe { _mm512_loadu_si512(blocks[n].as_ptr().cast()) }, reverse)
        };
        // Four by four words first, then the sixteen bytes that hold them.
        let four = |n: usize| {
            turn_4!(
                _mm512_unpacklo_epi32,
                _mm512_unpackhi_epi32,
                _mm512_unpacklo_epi64,
                _mm512_unpackhi_epi64,
                [load(4 * n), load(4 * n + 1), load(4 * n + 2), load(4 * n + 3)]
            )
        };
        let rows = four(0).into_iter().zip(four(1)).zip(four(2)).zip(four(3));
        for (w, (((a, b), c), d)) in rows.enumerate() {
            let (ab, cd) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
            let (ab_high, cd_high) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
            let columns: [__m512i; 4] = [
                _mm512_shuffle_i32x4::<0x88>(ab, cd),
                _mm512_shuffle_i32x4::<0xdd>(ab, cd),
                _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
                _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
            ];
            for (n, column) in columns.into_iter().enumerate() {
                // SAFETY: a column is 64 bytes and aligned to as many.
                unsafe { _mm512_store_si512(to.0[4 * n + w].as_mut_ptr().cast(), column) };
            }
        }
    }
}
