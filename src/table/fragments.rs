//! First fragments that were forwarded, so that later ones may follow.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use ahash::RandomState;

use crate::types::{Nanos, SECOND};

/// How long a first fragment admits later ones.
pub const ADMITTED: Nanos = 30 * SECOND;

/// Datagrams at most of which later fragments are admitted, over all customers. Beyond, a first fragment still passes
/// but its later ones do not: 30 seconds at 8,700 fragmented datagrams per second.
pub const CAPACITY: usize = 262_144;

/// Entries that one look at the clock takes out: more than come in between two, and few enough to take no time. After a
/// pause a quarter of a million may have expired at once.
const AT_ONCE: usize = 64;

/// Which datagram of which sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The VNet's number.
    pub vnet: u32,
    /// The sender: a number of an endpoint, link, connection or Internet; endpoints that are addresses are 0 and known
    /// by the source.
    pub origin: u32,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol as every piece names it.
    pub protocol: u8,
    /// Identification.
    pub identification: u32,
}

/// What the first fragment was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// When it was forwarded.
    pub at: Nanos,
    /// True if it belonged to a record or opened one.
    pub has_flow: bool,
    /// The rule its verdict named.
    pub rule: Option<u32>,
    /// The records it refreshed, of the source and of the destination endpoint: slot and generation.
    pub slots: [Option<(u32, u32)>; 2],
}

/// A bounded table of admissions.
pub struct Fragments {
    table: HashMap<FragmentKey, Admission, RandomState>,
    ages: VecDeque<(Nanos, FragmentKey)>,
    /// How many of the oldest have expired and are not held any more, but have yet to be taken out.
    expired: usize,
}

impl Fragments {
    /// An empty table; the hasher must be random.
    pub fn new(hasher: RandomState) -> Fragments {
        Fragments { table: HashMap::with_hasher(hasher), ages: VecDeque::new(), expired: 0 }
    }

    /// The admission of a later fragment at `now`.
    #[inline]
    pub fn find(&self, key: &FragmentKey, now: Nanos) -> Option<Admission> {
        self.table.get(key).filter(|a| now < a.at.saturating_add(ADMITTED)).copied()
    }

    /// Admits the later fragments of a datagram; forgets what has expired.
    pub fn admit(&mut self, key: FragmentKey, admission: Admission) {
        self.reap(admission.at);
        self.table.insert(key, admission);
        self.ages.push_back((admission.at, key));
    }

    /// Forgets what has expired at `now`; takes no longer when that is much.
    pub fn reap(&mut self, now: Nanos) {
        let has_expired = |age: &(Nanos, FragmentKey)| age.0.saturating_add(ADMITTED) <= now;
        // Time does not go back, so mostly the first that is held says that there is no more.
        if self.ages.get(self.expired).is_some_and(has_expired) {
            self.expired = self.ages.partition_point(has_expired);
        }
        for _ in 0..self.expired.min(AT_ONCE) {
            let Some((at, key)) = self.ages.pop_front() else { break };
            self.expired -= 1;
            if self.table.get(&key).is_some_and(|a| a.at == at) {
                self.table.remove(&key);
            }
        }
    }

    /// Entries held, a datagram whose first fragment came twice counted twice.
    pub fn len(&self) -> usize {
        self.ages.len() - self.expired
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_lasts_thirty_seconds() {
        let addr = IpAddr::from([10, 0, 0, 1]);
        let key = FragmentKey {
            vnet: 1,
            origin: 0,
            source: addr,
            destination: addr,
            protocol: 17,
            identification: 7,
        };
        let at = |at| Admission { at, has_flow: false, rule: None, slots: [None, None] };
        let mut f = Fragments::new(RandomState::new());
        f.admit(key, at(0));
        assert!(f.find(&key, ADMITTED - 1).is_some() && f.find(&key, ADMITTED).is_none());
        assert!(f.find(&FragmentKey { vnet: 2, ..key }, 0).is_none());
        f.admit(key, at(SECOND));
        f.reap(ADMITTED);
        assert!(f.find(&key, ADMITTED).is_some() && f.len() == 1);
        f.reap(ADMITTED + SECOND);
        assert!(f.is_empty());
    }
    #[test]
    fn many_that_expire_at_once_are_not_held_and_go_bit_by_bit() {
        let addr = IpAddr::from([10, 0, 0, 1]);
        let key = |n| FragmentKey {
            vnet: 1,
            origin: 0,
            source: addr,
            destination: addr,
            protocol: 17,
            identification: n,
        };
        let at = |at| Admission { at, has_flow: false, rule: None, slots: [None, None] };
        let mut f = Fragments::new(RandomState::new());
        (0..1000).for_each(|n| f.admit(key(n), at(u64::from(n))));
        assert_eq!(f.len(), 1000);
        f.reap(ADMITTED + 899);
        assert_eq!((f.len(), f.table.len()), (100, 1000 - AT_ONCE));
        assert!(f.find(&key(899), ADMITTED + 899).is_none() && f.find(&key(900), ADMITTED + 899).is_some());
        // One that is still there is admitted anew, and outlives the memory of its first time.
        f.admit(key(899), at(ADMITTED + 899));
        (0..20).for_each(|_| f.reap(ADMITTED + 899));
        assert_eq!((f.len(), f.table.len(), f.ages.len()), (101, 101, 101));
        assert!(f.find(&key(899), ADMITTED + 900).is_some());
        (0..2).for_each(|_| f.reap(3 * ADMITTED));
        assert!(f.is_empty() && f.table.is_empty());
    }
}
