//! First fragments that were forwarded, so that later ones may follow.
//!
//! ```text
//!  key ─► hash ─► Index ─► number ─► Queue, in the order in which they expire
//! ```

use std::net::IpAddr;

use ahash::RandomState;

use super::queue::Queue;
use super::records::index::{Index, NONE, hash_of};
use crate::sys::Base;
use crate::types::{Nanos, SECOND};

/// How long a first fragment admits later ones.
pub const ADMITTED: Nanos = 30 * SECOND;

/// Datagrams at most of which later fragments are admitted, over all customers. Beyond, a first fragment still passes
/// but its later ones do not: 30 seconds at 8,700 fragmented datagrams per second.
pub const CAPACITY: usize = 262_144;

/// Entries that one look at the clock takes out: more than come in between two, and few enough to take no time. After a
/// pause a quarter of a million may have expired at once.
const AT_ONCE: usize = 64;

/// Entries that one more takes out: more than it brings.
const FOR_ONE: usize = 4;

/// Entries at most, those that have expired and were not yet taken out among them: so many only if nobody keeps to
/// [`CAPACITY`].
const MOST: usize = 2 * CAPACITY;

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
    /// Protocol and ports of the flow of public peering that it began or refreshed.
    pub initiated: Option<(u8, (u16, u16))>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    key: FragmentKey,
    admission: Admission,
}

/// A bounded table of admissions. It grows by parts, and keeps what it has grown to.
pub struct Fragments {
    hasher: RandomState,
    index: Index,
    /// By age. What was admitted anew is no longer in the index.
    entries: Queue<Entry>,
    /// How many of the oldest have expired and are not held any more, but have yet to be taken out.
    expired: usize,
}

impl Fragments {
    /// An empty table; the hasher must be random.
    pub fn new(hasher: RandomState) -> Fragments {
        Fragments { hasher, index: Index::small(), entries: Queue::default(), expired: 0 }
    }

    fn number(&self, hash: u32, key: &FragmentKey) -> u32 {
        self.index.find(Base, hash, false, |number| self.entries.get(number).is_some_and(|e| e.key == *key))
    }

    /// The admission of a later fragment at `now`.
    #[inline]
    pub fn find(&self, key: &FragmentKey, now: Nanos) -> Option<Admission> {
        let entry = self.entries.get(self.number(hash_of(&self.hasher, key), key))?;
        Some(entry.admission).filter(|a| now < a.at.saturating_add(ADMITTED))
    }

    /// Admits the later fragments of a datagram; forgets what has expired. Not if too many share its hash, as happens
    /// only to who knows the seed, or if there are twice [`CAPACITY`].
    pub fn admit(&mut self, key: FragmentKey, admission: Admission) {
        self.take_out(admission.at, FOR_ONE);
        if self.entries.len() >= MOST {
            return;
        }
        let hash = hash_of(&self.hasher, &key);
        let before = self.number(hash, &key);
        if before != NONE {
            self.index.remove(Base, hash, before);
        }
        if self.index.insert(Base, hash, self.entries.next()) {
            self.entries.push(Entry { hash, key, admission });
        }
    }

    /// Forgets what has expired at `now`; takes no longer when that is much.
    pub fn reap(&mut self, now: Nanos) {
        self.take_out(now, AT_ONCE);
    }

    fn take_out(&mut self, now: Nanos, most: usize) {
        let has_expired = |e: &Entry| e.admission.at.saturating_add(ADMITTED) <= now;
        // Time does not go back, so mostly the first that is held says that there is no more.
        if self.entries.nth(self.expired).is_some_and(has_expired) {
            self.expired = self.entries.partition_point(has_expired);
        }
        for _ in 0..self.expired.min(most) {
            let Some((number, entry)) = self.entries.pop() else { break };
            self.expired -= 1;
            self.index.remove(Base, entry.hash, number);
        }
    }

    /// Entries held, a datagram whose first fragment came twice counted twice.
    pub fn len(&self) -> usize {
        self.entries.len() - self.expired
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A datagram of VNet 1.
    fn key(identification: u32) -> FragmentKey {
        let addr = IpAddr::from([10, 0, 0, 1]);
        FragmentKey { vnet: 1, origin: 0, source: addr, destination: addr, protocol: 17, identification }
    }

    fn at(at: Nanos) -> Admission {
        Admission { at, has_flow: false, rule: None, slots: [None, None], initiated: None }
    }

    #[test]
    fn an_admission_lasts_thirty_seconds() {
        let key = key(7);
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
        let mut f = Fragments::new(RandomState::new());
        (0..1000).for_each(|n| f.admit(key(n), at(u64::from(n))));
        assert_eq!(f.len(), 1000);
        f.reap(ADMITTED + 899);
        assert_eq!((f.len(), f.entries.len()), (100, 1000 - AT_ONCE));
        assert!(f.find(&key(899), ADMITTED + 899).is_none() && f.find(&key(900), ADMITTED + 899).is_some());
        // One that is still there is admitted anew, and outlives the memory of its first time.
        f.admit(key(899), at(ADMITTED + 899));
        (0..20).for_each(|_| f.reap(ADMITTED + 899));
        assert_eq!((f.len(), f.entries.len()), (101, 101));
        assert!(f.find(&key(899), ADMITTED + 900).is_some());
        (0..2).for_each(|_| f.reap(3 * ADMITTED));
        assert!(f.is_empty() && f.entries.is_empty());
    }

    #[test]
    fn it_holds_what_a_map_without_bounds_holds() {
        let mut f = Fragments::new(RandomState::new());
        let mut model: HashMap<FragmentKey, Admission> = HashMap::new();
        let mut ages: Vec<Nanos> = Vec::new();
        let (mut state, mut now) = (3_u64, 0);
        let mut roll = move |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for turn in 0..60_000 {
            // Many in an instant, then few, and a pause now and then.
            now += match turn % 20_000 {
                0 => 2 * ADMITTED,
                n if n < 10_000 => roll(2) * 1_000,
                _ => roll(SECOND / 100),
            };
            let of = key(roll(8_000) as u32);
            if roll(3) > 0 {
                let admission = Admission { rule: Some(turn), ..at(now) };
                f.admit(of, admission);
                model.insert(of, admission);
                ages.push(now);
            }
            if roll(4) == 0 {
                f.reap(now);
                assert_eq!(f.len(), ages.len() - ages.partition_point(|at| at + ADMITTED <= now));
            }
            let of = key(roll(8_000) as u32);
            let expected = model.get(&of).filter(|a| now < a.at + ADMITTED);
            assert_eq!(f.find(&of, now).as_ref(), expected, "turn {turn}");
        }
    }

    #[test]
    fn it_holds_no_more_than_twice_its_capacity() {
        let mut f = Fragments::new(RandomState::new());
        (0..MOST as u32 + 100).for_each(|n| f.admit(key(n), at(0)));
        assert_eq!(f.len(), MOST);
        assert!((0..MOST as u32).all(|n| f.find(&key(n), 1).is_some()));
        assert!(f.find(&key(MOST as u32), 1).is_none());
        // They expire together and make room for as many.
        for n in 0..MOST as u32 {
            f.admit(key(n + 7), at(ADMITTED));
        }
        assert_eq!((f.len(), f.entries.len()), (MOST, MOST));
    }
}
