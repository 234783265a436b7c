//! A map from prefixes that may change and tells which prefixes hold which. The only place of the crate that uses
//! treebitmap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use treebitmap::IpLookupTable;

use crate::types::Prefix;

/// A map from prefixes to small values: for the making of what [`Lpm`](super::lpm::Lpm) looks up.
pub struct PrefixMap<T> {
    v4: IpLookupTable<Ipv4Addr, T>,
    v6: IpLookupTable<Ipv6Addr, T>,
}

impl<T: Copy> Default for PrefixMap<T> {
    fn default() -> Self {
        PrefixMap { v4: IpLookupTable::new(), v6: IpLookupTable::new() }
    }
}

impl<T: Copy> PrefixMap<T> {
    /// Puts a value under a prefix and returns the one that stood there.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        match prefix.first() {
            IpAddr::V4(a) => self.v4.insert(a, u32::from(prefix.len()), value),
            IpAddr::V6(a) => self.v6.insert(a, u32::from(prefix.len()), value),
        }
    }

    /// The value of the longest prefix that holds the address.
    pub fn lookup(&self, addr: IpAddr) -> Option<T> {
        match addr {
            IpAddr::V4(a) => self.v4.longest_match(a).map(|(_, _, v)| *v),
            IpAddr::V6(a) => self.v6.longest_match(a).map(|(_, _, v)| *v),
        }
    }

    /// The values of all prefixes that hold all of this one, the shortest first.
    pub fn chain(&self, prefix: Prefix) -> Vec<T> {
        let len = u32::from(prefix.len());
        match prefix.first() {
            IpAddr::V4(a) => self.v4.matches(a).filter(|(_, l, _)| *l <= len).map(|(_, _, v)| *v).collect(),
            IpAddr::V6(a) => self.v6.matches(a).filter(|(_, l, _)| *l <= len).map(|(_, _, v)| *v).collect(),
        }
    }

    /// The value of the longest prefix that holds all of this one.
    pub fn covering(&self, prefix: Prefix) -> Option<T> {
        let len = u32::from(prefix.len());
        match prefix.first() {
            IpAddr::V4(a) => self.v4.matches(a).filter(|(_, l, _)| *l <= len).last().map(|(_, _, v)| *v),
            IpAddr::V6(a) => self.v6.matches(a).filter(|(_, l, _)| *l <= len).last().map(|(_, _, v)| *v),
        }
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        let (v4, v6) = (self.v4.mem_usage(), self.v6.mem_usage());
        v4.0 + v4.1 + v6.0 + v6.1
    }
}
