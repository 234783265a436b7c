//! Flows that a customer has begun on public peering: only to those anything comes back.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use ahash::RandomState;

use crate::types::{Nanos, SECOND};

/// How long a flow may be idle, as records of flows are: longer, and it is gone.
const IDLE: Nanos = 240 * SECOND;

/// Flows at most; beyond, none is begun until one has been idle for long enough.
const CAPACITY: usize = 1 << 20;

/// Entries that are looked at for every one that comes: more than it brings.
const AT_ONCE: usize = 4;

/// A flow, as the customer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InitiatedKey {
    /// The number of the peering.
    pub peering: u32,
    /// Protocol.
    pub protocol: u8,
    /// The customer's address and port, or the identifier.
    pub local: (IpAddr, u16),
    /// The other's.
    pub remote: (IpAddr, u16),
}

/// The flows of one worker.
#[derive(Debug, Default)]
pub struct Initiated {
    /// When the customer last sent something.
    last: HashMap<InitiatedKey, Nanos, RandomState>,
    /// In the order in which they are looked at: when that may be.
    queue: VecDeque<(InitiatedKey, Nanos)>,
}

impl Initiated {
    /// The customer has sent a packet of this flow; false if there is no room for a new one.
    pub fn touch(&mut self, key: InitiatedKey, now: Nanos) -> bool {
        self.reap(now);
        if let Some(last) = self.last.get_mut(&key) {
            *last = now;
            return true;
        }
        if self.last.len() >= CAPACITY {
            return false;
        }
        self.last.insert(key, now);
        self.queue.push_back((key, now + IDLE));
        true
    }

    /// True if there is room for this flow, or it is there.
    pub fn takes(&self, key: &InitiatedKey) -> bool {
        self.last.len() < CAPACITY || self.last.contains_key(key)
    }

    /// True if the customer has begun this flow, and not left it.
    pub fn knows(&self, key: &InitiatedKey, now: Nanos) -> bool {
        self.last.get(key).is_some_and(|last| now <= last + IDLE)
    }

    fn reap(&mut self, now: Nanos) {
        for _ in 0..AT_ONCE {
            let Some((key, _)) = self.queue.front().copied().filter(|(_, due)| *due < now) else { return };
            self.queue.pop_front();
            match self.last.get(&key).map(|last| last + IDLE) {
                Some(due) if due >= now => self.queue.push_back((key, due)),
                _ => _ = self.last.remove(&key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> InitiatedKey {
        let (local, remote) = (IpAddr::from(n.to_be_bytes()), IpAddr::from([198, 51, 100, 1]));
        InitiatedKey { peering: 1, protocol: 17, local: (local, 5000), remote: (remote, 53) }
    }

    #[test]
    fn a_flow_lives_as_long_as_the_customer_sends() {
        let mut flows = Initiated::default();
        assert!(!flows.knows(&key(1), 0) && flows.touch(key(1), SECOND));
        assert!(flows.knows(&key(1), SECOND + IDLE) && !flows.knows(&key(1), SECOND + IDLE + 1));
        assert!(
            !flows.knows(&key(2), SECOND) && !flows.knows(&InitiatedKey { peering: 2, ..key(1) }, SECOND)
        );
        assert!(flows.touch(key(1), 100 * SECOND) && flows.knows(&key(1), 100 * SECOND + IDLE));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut flows = Initiated::default();
        let all = CAPACITY as u32;
        assert!((0..all).all(|n| flows.touch(key(n), SECOND)));
        assert!(!flows.touch(key(all), SECOND) && flows.touch(key(5), 2 * SECOND));
        assert!(!flows.takes(&key(all)) && flows.takes(&key(5)));
        // What has been idle makes room, what has not stays.
        let later = IDLE + SECOND + 1;
        assert!(flows.touch(key(all), later) && flows.knows(&key(5), later));
        (0..2 * all / AT_ONCE as u32).for_each(|n| assert!(flows.touch(key(all + n), later)));
        assert!(flows.knows(&key(5), later) && flows.last.len() <= all as usize);
        assert_eq!(flows.last.len(), flows.queue.len());
    }
}
