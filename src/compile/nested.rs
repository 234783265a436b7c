//! Prefixes in order, each with the one that holds it: for questions that are asked once, while a table is made.

use std::net::IpAddr;

use crate::types::Prefix;

/// Prefixes with what stands under them. One prefix may stand there several times.
pub(super) struct Nested<T> {
    /// In ascending order, so that a prefix comes behind those that hold it.
    items: Vec<(Prefix, T)>,
    /// For each item, the one in front of it that holds it and is the longest.
    parents: Vec<Option<u32>>,
}

impl<T: Copy> Nested<T> {
    /// Puts prefixes in order; equal ones stay in theirs.
    pub fn new(mut items: Vec<(Prefix, T)>) -> Nested<T> {
        items.sort_by_key(|item| item.0);
        let mut parents: Vec<Option<u32>> = Vec::with_capacity(items.len());
        let mut last = None;
        for (prefix, _) in &items {
            while let Some(at) = last
                && !items[at as usize].0.covers(prefix)
            {
                last = parents[at as usize];
            }
            parents.push(last);
            last = Some(parents.len() as u32 - 1);
        }
        Nested { items, parents }
    }

    /// Makes every item of itself and of what was made of the one that holds it.
    pub fn inherit<U: Copy>(&self, mut make: impl FnMut(Option<U>, Prefix, T) -> U) -> Nested<U> {
        let mut made: Vec<(Prefix, U)> = Vec::with_capacity(self.items.len());
        for ((prefix, item), parent) in self.items.iter().zip(&self.parents) {
            let parent = parent.map(|p| made[p as usize].1);
            made.push((*prefix, make(parent, *prefix, *item)));
        }
        Nested { items: made, parents: self.parents.clone() }
    }

    /// All items in order; of several of one prefix, the last has inherited from the others.
    pub fn items(&self) -> &[(Prefix, T)] {
        &self.items
    }

    /// What holds all of a prefix, the longest first.
    pub fn covering(&self, prefix: Prefix) -> impl Iterator<Item = &(Prefix, T)> {
        let after = self.items.partition_point(|item| item.0 <= prefix);
        let mut at = after.checked_sub(1).map(|last| last as u32);
        let all = std::iter::from_fn(move || {
            let item = at?;
            at = self.parents[item as usize];
            self.items.get(item as usize)
        });
        all.skip_while(move |item| !item.0.covers(&prefix))
    }

    /// The item of the longest prefix that holds an address.
    pub fn lookup(&self, addr: IpAddr) -> Option<T> {
        self.covering(Prefix::host(addr)).next().map(|item| item.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_holds_comes_first() {
        let p = |s: &str| s.parse::<Prefix>().unwrap();
        let list = [
            "10.0.0.0/8",
            "fd00::/16",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "0.0.0.0/0",
            "10.1.2.0/24",
            "10.3.0.0/16",
        ];
        let nested = Nested::new(list.iter().enumerate().map(|(i, s)| (p(s), i)).collect());
        let over = |s: &str| nested.covering(p(s)).map(|i| i.1).collect::<Vec<_>>();
        assert_eq!(over("10.1.2.0/24"), [5, 3, 2, 0, 4]);
        assert_eq!(over("10.1.2.0/23"), [2, 0, 4]);
        assert_eq!(over("10.2.0.0/16"), [0, 4]);
        assert_eq!(over("fd00:1::/32"), [1]);
        assert_eq!(over("fe00::/16"), [0usize; 0]);
        assert_eq!(nested.lookup("10.1.9.9".parse().unwrap()), Some(2));
        assert_eq!(nested.lookup("11.1.9.9".parse().unwrap()), Some(4));
        assert_eq!(nested.lookup("::1".parse().unwrap()), None);
        let depth = nested.inherit(|above: Option<usize>, _, _| above.map_or(0, |a| a + 1));
        assert_eq!(depth.items().iter().map(|i| i.1).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 2, 0]);
    }
}
