//! Blocks of 256 bits: the first that is set in several of them.

/// 256 bits, the first the lowest of the first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Block(pub [u64; 4]);

/// The first bit that is set in all blocks.
#[inline(always)]
pub(super) fn first<const N: usize>(blocks: [&Block; N]) -> Option<usize> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| blocks.iter().fold(u64::MAX, |all, block| all & block.0[n]));
    let (one, other, behind) = if a | b != 0 { (a, b, 0) } else { (c, d, 128) };
    let (word, behind) = if one != 0 { (one, behind) } else { (other, behind + 64) };
    (word != 0).then(|| behind + word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::super::{Base, Wide};
    use super::*;

    #[test]
    fn every_bit_is_found_and_the_first_one_wins() {
        for bit in 0..256 {
            let at = |bit: usize| {
                let mut block = Block::default();
                block.0[bit / 64] = 1 << (bit % 64);
                block
            };
            let (only, full) = (at(bit), Block([u64::MAX; 4]));
            assert_eq!(Base.first_of_blocks([&only, &full]), Some(bit));
            let mut more = only;
            (bit..256).step_by(7).for_each(|later| more.0[later / 64] |= 1 << (later % 64));
            assert_eq!(Base.first_of_blocks([&full, &more, &full]), Some(bit));
            assert_eq!(Base.first_of_blocks([&only, &at((bit + 1) % 256)]), None);
        }
    }
}
