//! What a peer has announced, with a bound (Adj-RIB-In): routes, and prefixes that were not taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Attributes, Refusal};
use crate::types::Prefix;

/// Refused prefixes at most that are kept to be shown.
const REFUSED: usize = 1000;

/// A route as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its prefix.
    pub prefix: Prefix,
    /// What the peer said of it, as far as it counts here.
    pub attributes: Arc<Attributes>,
}

/// What is held of a route.
#[derive(Clone, Debug)]
pub struct Held {
    /// What the peer said of it.
    pub attributes: Arc<Attributes>,
    /// The session broke, and the peer has not announced it since (RFC 4724).
    pub stale: bool,
}

/// The routes of a session.
#[derive(Debug, Default)]
pub struct Rib {
    routes: BTreeMap<Prefix, Held>,
    /// Those that are not stale.
    fresh: usize,
    refused: BTreeMap<Prefix, Refusal>,
    /// What was held before of the prefixes that have changed since it was last told.
    before: BTreeMap<Prefix, Option<Arc<Attributes>>>,
}

impl Rib {
    /// Remembers what is held of a prefix, to tell the difference.
    fn note(&mut self, prefix: Prefix) {
        let held = self.routes.get(&prefix).map(|held| held.attributes.clone());
        self.before.entry(prefix).or_insert(held);
    }

    /// The peer announces it.
    pub fn learn(&mut self, prefix: Prefix, attributes: &Arc<Attributes>) {
        self.refused.remove(&prefix);
        let known = self.routes.get_mut(&prefix);
        self.fresh += usize::from(known.as_ref().is_none_or(|held| held.stale));
        match known {
            Some(held) if held.attributes == *attributes => held.stale = false,
            _ => {
                self.note(prefix);
                self.routes.insert(prefix, Held { attributes: attributes.clone(), stale: false });
            }
        }
    }

    /// The peer withdraws it.
    pub fn withdraw(&mut self, prefix: &Prefix) {
        self.refused.remove(prefix);
        self.remove(prefix);
    }

    /// It is announced, but not taken: what was held of it goes.
    pub fn refuse(&mut self, prefix: Prefix, why: Refusal) {
        self.remove(&prefix);
        if self.refused.len() < REFUSED || self.refused.contains_key(&prefix) {
            self.refused.insert(prefix, why);
        }
    }

    fn remove(&mut self, prefix: &Prefix) {
        if self.routes.contains_key(prefix) {
            self.note(*prefix);
            let held = self.routes.remove(prefix);
            self.fresh -= usize::from(held.is_some_and(|held| !held.stale));
        }
    }

    /// The session broke: routes that were stale before go, the others are stale now. How many those are.
    pub fn age(&mut self) -> usize {
        self.drop_stale();
        self.routes.values_mut().for_each(|held| held.stale = true);
        self.fresh = 0;
        self.refused.clear();
        self.routes.len()
    }

    /// What is stale goes.
    pub fn drop_stale(&mut self) {
        if self.fresh < self.routes.len() {
            self.remove_all(|_, held| held.stale);
        }
    }

    /// Everything goes.
    pub fn clear(&mut self) {
        self.refused.clear();
        self.remove_all(|_, _| true);
    }

    /// What is refused now goes: another policy.
    pub fn judge(&mut self, refuses: impl Fn(&Prefix) -> Option<Refusal>) {
        let refused: Vec<_> = self.routes.keys().filter_map(|p| Some((*p, refuses(p)?))).collect();
        refused.into_iter().for_each(|(prefix, why)| self.refuse(prefix, why));
    }

    fn remove_all(&mut self, which: impl Fn(&Prefix, &Held) -> bool) {
        let gone: Vec<Prefix> = self.routes.iter().filter(|(p, h)| which(p, h)).map(|(p, _)| *p).collect();
        gone.iter().for_each(|prefix| self.remove(prefix));
    }

    /// What is another since this was last asked: learned or changed, and withdrawn.
    pub fn changes(&mut self) -> (Vec<Route>, Vec<Prefix>) {
        let (mut learned, mut withdrawn) = (Vec::new(), Vec::new());
        for (prefix, before) in std::mem::take(&mut self.before) {
            let after = self.routes.get(&prefix).map(|held| &held.attributes);
            match after {
                Some(attributes) if before.as_ref() != Some(attributes) => {
                    learned.push(Route { prefix, attributes: attributes.clone() });
                }
                None if before.is_some() => withdrawn.push(prefix),
                _ => {}
            }
        }
        (learned, withdrawn)
    }

    /// Routes that are not stale.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// All routes.
    pub fn routes(&self) -> &BTreeMap<Prefix, Held> {
        &self.routes
    }

    /// Prefixes that were not taken: the first thousand.
    pub fn refused(&self) -> &BTreeMap<Prefix, Refusal> {
        &self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u8) -> Prefix {
        Prefix::v4(10, n, 0, 0, 16)
    }

    fn med(med: u32) -> Arc<Attributes> {
        Arc::new(Attributes { med: Some(med), ..Attributes::default() })
    }

    /// The changes: what was learned with its MED, and what was withdrawn.
    fn changes(rib: &mut Rib) -> (Vec<(Prefix, Option<u32>)>, Vec<Prefix>) {
        let (learned, withdrawn) = rib.changes();
        (learned.into_iter().map(|r| (r.prefix, r.attributes.med)).collect(), withdrawn)
    }

    #[test]
    fn only_what_is_another_is_told() {
        let mut rib = Rib::default();
        rib.learn(prefix(1), &med(7));
        rib.learn(prefix(2), &med(7));
        rib.learn(prefix(2), &med(8));
        rib.withdraw(&prefix(3));
        rib.learn(prefix(4), &med(7));
        rib.withdraw(&prefix(4));
        assert_eq!(changes(&mut rib), (vec![(prefix(1), Some(7)), (prefix(2), Some(8))], vec![]));
        // There and back again is no change.
        rib.withdraw(&prefix(1));
        rib.learn(prefix(1), &med(7));
        rib.learn(prefix(2), &med(8));
        assert_eq!(changes(&mut rib), (vec![], vec![]));
        rib.refuse(prefix(1), Refusal::Loop);
        rib.refuse(prefix(9), Refusal::NextHop);
        assert_eq!((changes(&mut rib), rib.fresh()), ((vec![], vec![prefix(1)]), 1));
        assert_eq!(rib.refused().len(), 2);
        rib.learn(prefix(1), &med(1));
        rib.withdraw(&prefix(9));
        assert!(rib.refused().is_empty());
        rib.clear();
        assert_eq!(changes(&mut rib), (vec![], vec![prefix(2)]));
        assert!(rib.routes().is_empty() && rib.fresh() == 0);
    }

    #[test]
    fn stale_routes_are_kept_until_they_are_announced_anew_or_dropped() {
        let mut rib = Rib::default();
        (1..=4).for_each(|n| rib.learn(prefix(n), &med(7)));
        changes(&mut rib);
        assert_eq!((rib.age(), rib.fresh(), changes(&mut rib)), (4, 0, (vec![], vec![])));
        rib.learn(prefix(1), &med(7));
        rib.learn(prefix(2), &med(8));
        rib.withdraw(&prefix(3));
        assert_eq!(rib.fresh(), 2);
        assert_eq!(changes(&mut rib), (vec![(prefix(2), Some(8))], vec![prefix(3)]));
        rib.drop_stale();
        assert_eq!((rib.fresh(), changes(&mut rib)), (2, (vec![], vec![prefix(4)])));
        // Stale a second time is gone.
        rib.age();
        rib.learn(prefix(1), &med(7));
        assert_eq!((rib.age(), changes(&mut rib)), (1, (vec![], vec![prefix(2)])));
    }

    #[test]
    fn refused_prefixes_have_a_bound() {
        let mut rib = Rib::default();
        for n in 0..2000_u32 {
            let [a, b, ..] = n.to_le_bytes();
            rib.refuse(Prefix::v4(10, a, b, 0, 24), Refusal::Loop);
        }
        assert_eq!(rib.refused().len(), REFUSED);
    }
}
