//! Choice among equal ways: rendezvous hashing, so that when one way goes only its flows move.
//!
//! The hash is fixed (not keyed): the same packet takes the same way in every run, and after every change of
//! configuration that leaves the ways as they are.

use std::net::IpAddr;

/// A well-mixing permutation of 64 bits (the finalizer of SplitMix64).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The hash of a flow; `rest` is source port << 16 | destination port, or the identification of a fragment.
#[inline]
pub fn flow_hash(source: IpAddr, destination: IpAddr, protocol: u8, rest: u32) -> u64 {
    let fold = |h: u64, addr: IpAddr| match addr {
        IpAddr::V4(a) => mix(h ^ u64::from(a.to_bits())),
        IpAddr::V6(a) => mix(mix(h ^ (a.to_bits() >> 64) as u64) ^ a.to_bits() as u64),
    };
    let h = fold(fold(0x9e37_79b9_7f4a_7c15, source), destination);
    mix(h ^ u64::from(rest) ^ u64::from(protocol) << 32)
}

/// The stable number of a way, from its name (FNV-1a); for example `link er1/AzurePrivatePeering/primary`.
pub fn way_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The index of the way that this flow takes; `None` without ways.
#[inline]
pub fn choose(flow: u64, ways: impl Iterator<Item = u64>) -> Option<usize> {
    ways.enumerate().map(|(i, way)| (mix(flow ^ way), i)).max().map(|(_, i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flows_of_a_lost_way_move() {
        let ways = [way_id("link a/primary"), way_id("link a/secondary"), way_id("connection s")];
        let mut count = [0; 3];
        for n in 0..30_000u32 {
            let flow = flow_hash("10.0.0.1".parse().unwrap(), "192.168.0.1".parse().unwrap(), 6, n);
            let before = choose(flow, ways.iter().copied()).unwrap();
            count[before] += 1;
            let after = choose(flow, ways[..2].iter().copied()).unwrap();
            assert!(before == 2 || before == after);
        }
        assert!(count.iter().all(|&c| (9_000..11_000).contains(&c)), "{count:?}");
        assert_eq!(choose(1, [].into_iter()), None);
    }
}
