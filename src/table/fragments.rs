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
}

impl Fragments {
    /// An empty table; the hasher must be random.
    pub fn new(hasher: RandomState) -> Fragments {
        Fragments { table: HashMap::with_hasher(hasher), ages: VecDeque::new() }
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

    /// Forgets what has expired at `now`.
    pub fn reap(&mut self, now: Nanos) {
        while let Some(&(at, key)) = self.ages.front()
            && at.saturating_add(ADMITTED) <= now
        {
            self.ages.pop_front();
            if self.table.get(&key).is_some_and(|a| a.at == at) {
                self.table.remove(&key);
            }
        }
    }

    /// Entries held, a datagram whose first fragment came twice counted twice.
    pub fn len(&self) -> usize {
        self.ages.len()
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ages.is_empty()
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
}
