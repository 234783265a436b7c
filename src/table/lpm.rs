//! Longest prefix match over both families, compiled: what the packet path looks up.
//!
//! Prefixes that hold one another are laid flat into ranges that do not (neighbours with the same value are one), and
//! the ranges into a search tree. An IPv6 address is looked up by its first half, and by its second only where a prefix
//! is longer than 64 bits.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::tree::Tree;
use crate::sys::{Base, Wide};
use crate::types::Prefix;

/// An immutable map from prefixes to small values; a look-up finds the longest prefix that holds an address.
pub struct Lpm<T> {
    v4: Tree<u32, T, 16>,
    v6: Tree<u64, Half<T>, 8>,
    second: Box<[SecondHalves<T>]>,
}

/// What the first half of an IPv6 address says.
#[derive(Clone, Copy)]
enum Half<T> {
    /// The value.
    Value(T),
    /// Ask the second half, in this tree.
    Second(u32),
}

type FirstHalves<T> = Vec<(u64, Option<Half<T>>)>;
type SecondHalves<T> = Tree<u64, T, 8>;

impl<T: Copy> Lpm<T> {
    /// The value of the longest prefix that holds the address.
    #[inline]
    pub fn lookup(&self, addr: IpAddr) -> Option<T> {
        match addr {
            IpAddr::V4(a) => self.lookup_v4(Base, a.to_bits()),
            IpAddr::V6(a) => self.lookup_v6(Base, a.to_bits()),
        }
    }

    /// The same for an IPv4 address, compiled for a token.
    #[inline(always)]
    pub fn lookup_v4<W: Wide>(&self, wide: W, addr: u32) -> Option<T> {
        self.v4.lookup(wide, addr)
    }

    /// The same for an IPv6 address.
    #[inline(always)]
    pub fn lookup_v6<W: Wide>(&self, wide: W, addr: u128) -> Option<T> {
        match self.v6.lookup(wide, (addr >> 64) as u64)? {
            Half::Value(value) => Some(value),
            Half::Second(tree) => self.second.get(tree as usize)?.lookup(wide, addr as u64),
        }
    }

    /// Asks for the memory that a look-up of the address would wait for longest. It reads what leads there: a sixteenth of
    /// the table, nothing of one with at most 16 ranges.
    #[inline]
    pub fn prefetch(&self, addr: IpAddr) {
        match addr {
            IpAddr::V4(a) => self.prefetch_v4(Base, a.to_bits()),
            IpAddr::V6(a) => self.v6.prefetch(Base, (a.to_bits() >> 64) as u64),
        }
    }

    /// The same for an IPv4 address, compiled for a token.
    #[inline(always)]
    pub fn prefetch_v4<W: Wide>(&self, wide: W, addr: u32) {
        self.v4.prefetch(wide, addr);
    }

    /// Asks for what stands before the first lines of the table.
    #[inline(always)]
    pub fn prefetch_header(&self) {
        self.v4.prefetch_header();
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        let second = self.second.iter().map(Tree::memory).sum::<usize>();
        self.v4.memory() + self.v6.memory() + size_of_val(&*self.second) + second
    }
}

impl<T: Copy + PartialEq> Default for Lpm<T> {
    fn default() -> Self {
        Lpm::from_iter([])
    }
}

impl<T: Copy + PartialEq> FromIterator<(Prefix, T)> for Lpm<T> {
    /// Of several values of one prefix, the last counts.
    fn from_iter<I: IntoIterator<Item = (Prefix, T)>>(entries: I) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(p, _)| p.is_ipv4());
        let v4 = ranges(v4, u32::MAX.into());
        let v4: Vec<_> = v4.into_iter().map(|(last, value)| (last as u32, value)).collect();
        let (v6, second) = halves(&ranges(v6, u128::MAX));
        Lpm { v4: Tree::new(&v4), v6: Tree::new(&v6), second }
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The prefixes of one family laid flat: ranges in order, each with its last address, from the first address to `end`.
fn ranges<T: Copy + PartialEq>(entries: Vec<(Prefix, T)>, end: u128) -> Vec<(u128, Option<T>)> {
    let spans = entries.into_iter().map(|(p, value)| (bits(p.first()), bits(p.last()), value));
    let mut spans: Vec<(u128, u128, T)> = spans.collect();
    spans.sort_by_key(|(first, last, _)| (*first, Reverse(*last)));
    let mut ranges: Vec<(u128, Option<T>)> = Vec::with_capacity(2 * spans.len() + 1);
    let mut up_to = |last: u128, value: Option<T>| match ranges.last_mut() {
        Some((done, _)) if *done >= last => (),
        Some((done, same)) if *same == value => *done = last,
        _ => ranges.push((last, value)),
    };
    // The prefixes that hold the address reached, the longest last.
    let mut open: Vec<(u128, T)> = Vec::new();
    for (first, last, value) in spans {
        while let Some((last, value)) = open.pop_if(|(last, _)| *last < first) {
            up_to(last, Some(value));
        }
        if let Some(before) = first.checked_sub(1) {
            up_to(before, open.last().map(|(_, value)| *value));
        }
        open.push((last, value));
    }
    while let Some((last, value)) = open.pop() {
        up_to(last, Some(value));
    }
    up_to(end, None);
    ranges
}

/// IPv6 ranges as ranges of first halves, and a tree of second halves for each first half that several ranges share.
fn halves<T: Copy>(ranges: &[(u128, Option<T>)]) -> (FirstHalves<T>, Box<[SecondHalves<T>]>) {
    let (mut firsts, mut seconds) = (FirstHalves::new(), Vec::new());
    // The shared first half that has been reached, and its ranges up to there.
    let mut shared = 0;
    let mut within: Vec<(u64, Option<T>)> = Vec::new();
    for (last, value) in ranges {
        let (first_half, second_half) = ((last >> 64) as u64, *last as u64);
        let same = !within.is_empty() && first_half == shared;
        if !within.is_empty() {
            within.push((if same { second_half } else { u64::MAX }, *value));
            if same && second_half < u64::MAX {
                continue;
            }
            firsts.push((shared, Some(Half::Second(seconds.len() as u32))));
            seconds.push(Tree::new(&within));
            within.clear();
        }
        if same {
            continue;
        }
        if second_half == u64::MAX {
            firsts.push((first_half, value.map(Half::Value)));
            continue;
        }
        // The range ends inside a first half; the whole ones before it are its own.
        let done = firsts.last().map(|(last, _)| *last);
        if let Some(before) =
            first_half.checked_sub(1).filter(|before| done.is_none_or(|done| done < *before))
        {
            firsts.push((before, value.map(Half::Value)));
        }
        shared = first_half;
        within.push((second_half, *value));
    }
    (firsts, seconds.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::sys::{Work, every};
    use crate::table::prefix_map::PrefixMap;

    fn p(s: &str) -> Prefix {
        s.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_in_each_family() {
        let lpm: Lpm<u32> =
            [("0.0.0.0/0", 0), ("10.0.0.0/8", 8), ("10.1.2.3", 32), ("fd00::/16", 16), ("fd00::5", 128)]
                .map(|(s, v)| (p(s), v))
                .into_iter()
                .collect();
        let cases = [
            ("9.9.9.9", Some(0)),
            ("10.1.2.4", Some(8)),
            ("10.1.2.3", Some(32)),
            ("fd00::4", Some(16)),
            ("fd00::5", Some(128)),
            ("fe00::", None),
        ];
        for (addr, value) in cases {
            assert_eq!(lpm.lookup(addr.parse().unwrap()), value, "{addr}");
        }
    }

    #[test]
    fn the_last_of_several_values_counts() {
        let lpm: Lpm<u32> = [("10.0.0.0/8", 1), ("10.0.0.0/9", 2), ("10.0.0.0/8", 3)]
            .map(|(s, v)| (p(s), v))
            .into_iter()
            .collect();
        assert_eq!(["10.0.0.1", "10.255.0.1"].map(|a| lpm.lookup(a.parse().unwrap())), [Some(2), Some(3)]);
    }

    #[test]
    fn small_tables_are_small() {
        assert_eq!(Lpm::<u32>::default().memory(), 0);
        let of = |count: u8| -> Lpm<u32> {
            (0..count).map(|n| (Prefix::v4(10, n, 2 * n, 0, 24), u32::from(n))).collect()
        };
        assert_eq!([1, 7, 20].map(|count| of(count).memory()), [128, 128, 448]);
        // Neighbours with the same value are one range.
        let same: Lpm<()> = (0..=255).map(|n| (Prefix::v4(10, n, 0, 0, 16), ())).collect();
        assert_eq!(same.memory(), 64);
    }

    /// Numbers that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((u128::from(self.0 ^ self.0 >> 33).wrapping_mul(u128::from(n))) >> 64) as u64
        }

        /// An address whose octets are few, so that prefixes meet and both ends of the space are reached.
        fn addr(&mut self, v4: bool) -> IpAddr {
            let mut octet = || [0, 0, 1, 127, 128, 255, 255][self.below(7) as usize];
            if v4 {
                Ipv4Addr::from_octets(std::array::from_fn(|_| octet())).into()
            } else {
                Ipv6Addr::from_octets(std::array::from_fn(|_| octet())).into()
            }
        }

        fn prefix(&mut self, v4: bool) -> Prefix {
            let len = if v4 { 33 } else { 129 };
            Prefix::new(self.addr(v4), self.below(len) as u8)
        }
    }

    /// Looks up with every token, which find the same.
    struct LookUp<'a>(&'a Lpm<u32>, IpAddr);

    impl Work for LookUp<'_> {
        type Output = Option<u32>;

        #[inline(always)]
        fn run<W: Wide>(self, wide: W) -> Option<u32> {
            match self.1 {
                IpAddr::V4(a) => {
                    self.0.prefetch_v4(wide, a.to_bits());
                    self.0.lookup_v4(wide, a.to_bits())
                }
                IpAddr::V6(a) => self.0.lookup_v6(wide, a.to_bits()),
            }
        }
    }

    fn look_up(lpm: &Lpm<u32>, addr: IpAddr) -> Option<u32> {
        let all = every(|| LookUp(lpm, addr));
        let found = lpm.lookup(addr);
        assert!(all.iter().all(|one| *one == found), "{all:?}");
        found
    }

    /// What a scan of all entries finds.
    fn scan(entries: &[(Prefix, u32)], holds: impl Fn(&Prefix) -> bool) -> Option<u32> {
        let held = entries.iter().filter(|(p, _)| holds(p));
        held.max_by_key(|(p, _)| p.len()).map(|(_, value)| *value)
    }

    fn around(p: &Prefix) -> [IpAddr; 4] {
        let next = |addr: IpAddr, down: bool| match (addr, down) {
            (IpAddr::V4(a), true) => Ipv4Addr::from_bits(a.to_bits().wrapping_sub(1)).into(),
            (IpAddr::V4(a), false) => Ipv4Addr::from_bits(a.to_bits().wrapping_add(1)).into(),
            (IpAddr::V6(a), true) => Ipv6Addr::from_bits(a.to_bits().wrapping_sub(1)).into(),
            (IpAddr::V6(a), false) => Ipv6Addr::from_bits(a.to_bits().wrapping_add(1)).into(),
        };
        [p.first(), p.last(), next(p.first(), true), next(p.last(), false)]
    }

    #[test]
    fn agrees_with_a_scan_of_all_prefixes() {
        let mut dice = Dice(7);
        for round in 0..400 {
            let v4 = round % 2 == 0;
            let count = [1, 2, 5, 9, 17, 40, 120, 400][round / 2 % 8];
            let mut entries: Vec<(Prefix, u32)> = Vec::new();
            let values = [1, 2, 1000][dice.below(3) as usize];
            for _ in 0..count {
                entries.push((dice.prefix(v4), dice.below(values) as u32));
            }
            let lpm: Lpm<u32> = entries.iter().copied().collect();
            let mut map = PrefixMap::default();
            for (p, value) in &entries {
                map.insert(*p, *value);
            }
            let mut addresses: Vec<IpAddr> = (0..40).map(|_| dice.addr(v4)).collect();
            addresses.extend(entries.iter().take(60).flat_map(|(p, _)| around(p)));
            for addr in addresses {
                let expected = scan(&entries, |p| p.contains(addr));
                assert_eq!(look_up(&lpm, addr), expected, "{addr} in {entries:?}");
                assert_eq!(map.lookup(addr), expected, "{addr} in {entries:?}");
                lpm.prefetch(addr);
            }
            for _ in 0..20 {
                let of = dice.prefix(v4);
                assert_eq!(map.covering(of), scan(&entries, |p| p.covers(&of)), "{of} in {entries:?}");
                assert_eq!(map.covering(of), map.chain(of).last().copied(), "{of} in {entries:?}");
            }
        }
    }

    #[test]
    fn large_tables_agree_with_the_map() {
        let mut dice = Dice(11);
        let mut entries: Vec<(Prefix, u32)> = Vec::new();
        for n in 0..150_000_u32 {
            let high = dice.below(1 << 32) as u32;
            let (v4, v6) =
                (Ipv4Addr::from_bits(high), Ipv6Addr::from_bits(u128::from(high) << 93 | 1 << 125));
            entries.push((Prefix::new(v4.into(), [24, 24, 24, 16, 20, 32][n as usize % 6]), n));
            entries.push((Prefix::new(v6.into(), [35, 35, 35, 32, 29, 20][n as usize % 6]), n));
        }
        let lpm: Lpm<u32> = entries.iter().copied().collect();
        assert!(lpm.memory() > 4_000_000, "{}", lpm.memory());
        let mut map = PrefixMap::default();
        for (p, value) in &entries {
            map.insert(*p, *value);
        }
        for (p, _) in entries.iter().step_by(3) {
            for addr in around(p) {
                assert_eq!(look_up(&lpm, addr), map.lookup(addr), "{addr}");
            }
        }
    }
}
