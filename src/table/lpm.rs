//! Longest prefix match over both families. The only place that uses treebitmap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use treebitmap::IpLookupTable;

use crate::types::Prefix;

/// A map from prefixes to small values; a look-up finds the longest prefix that holds an address.
pub struct Lpm<T> {
    v4: IpLookupTable<Ipv4Addr, T>,
    v6: IpLookupTable<Ipv6Addr, T>,
}

impl<T: Copy> Default for Lpm<T> {
    fn default() -> Self {
        Lpm { v4: IpLookupTable::new(), v6: IpLookupTable::new() }
    }
}

impl<T: Copy> Lpm<T> {
    /// Puts a value under a prefix and returns the one that stood there.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        match prefix.first() {
            IpAddr::V4(a) => self.v4.insert(a, u32::from(prefix.len()), value),
            IpAddr::V6(a) => self.v6.insert(a, u32::from(prefix.len()), value),
        }
    }

    /// The value under exactly this prefix.
    pub fn exact(&self, prefix: Prefix) -> Option<T> {
        match prefix.first() {
            IpAddr::V4(a) => self.v4.exact_match(a, u32::from(prefix.len())).copied(),
            IpAddr::V6(a) => self.v6.exact_match(a, u32::from(prefix.len())).copied(),
        }
    }

    /// The value of the longest prefix that holds the address.
    #[inline]
    pub fn lookup(&self, addr: IpAddr) -> Option<T> {
        match addr {
            IpAddr::V4(a) => self.v4.longest_match(a).map(|(_, _, v)| *v),
            IpAddr::V6(a) => self.v6.longest_match(a).map(|(_, _, v)| *v),
        }
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        let (v4, v6) = (self.v4.mem_usage(), self.v6.mem_usage());
        v4.0 + v4.1 + v6.0 + v6.1
    }

    /// The values of all prefixes that hold the address, the shortest first.
    pub fn chain(&self, addr: IpAddr) -> Vec<T> {
        match addr {
            IpAddr::V4(a) => self.v4.matches(a).map(|(_, _, v)| *v).collect(),
            IpAddr::V6(a) => self.v6.matches(a).map(|(_, _, v)| *v).collect(),
        }
    }
}

impl<T: Copy> FromIterator<(Prefix, T)> for Lpm<T> {
    fn from_iter<I: IntoIterator<Item = (Prefix, T)>>(entries: I) -> Self {
        let mut lpm = Lpm::default();
        for (prefix, value) in entries {
            lpm.insert(prefix, value);
        }
        lpm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_in_each_family() {
        let p = |s: &str| s.parse::<Prefix>().unwrap();
        let a = |s: &str| s.parse::<IpAddr>().unwrap();
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
            assert_eq!(lpm.lookup(a(addr)), value, "{addr}");
        }
        assert_eq!(lpm.exact(p("10.0.0.0/8")), Some(8));
        assert_eq!(lpm.exact(p("10.0.0.0/9")), None);
        assert_eq!(lpm.chain(a("10.1.2.3")), vec![0, 8, 32]);
    }
}
