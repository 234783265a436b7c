//! What the path remembers between packets.
//!
//! A [`Shard`] holds the records of the flows of one worker. What several workers share is either counted by each and
//! summed up ([`Occupancy`]) or kept by whoever sees the packets in order: [`Received`] before the path, [`Sent`] and
//! [`ErrorRate`] behind it.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;

use super::adjacency::Adjacencies;
use super::occupancy::{Occupancy, Tally};
use super::police::Meters;
pub use super::rate::{ERRORS_PER_SECOND, ErrorRate, ErrorsOf};
use super::usual::Listens;
use crate::compile::Program;
use crate::sys::{Base, Wide};
use crate::table::fragments::Fragments;
use crate::table::initiated::Initiated;
use crate::table::records::{FlowKey, Records};
use crate::types::Nanos;
use crate::wire::gre;

/// What one worker remembers: flow records and fragments, and how packets of known flows leave.
pub struct Shard {
    /// Flow records.
    pub flows: Records,
    /// First fragments that were forwarded.
    pub fragments: Fragments,
    /// Flows that customers have begun on public peering.
    pub initiated: Initiated,
    /// What circuit links have carried.
    pub meters: Meters,
    /// Its number among those that are counted together.
    number: usize,
    /// The numbering of origins that stored ways go by.
    epoch: u32,
    pub(super) adjacencies: Adjacencies,
    pub(super) listens: Vec<Listens>,
}

impl Shard {
    /// An empty shard with random hashing, the only one or the first.
    pub fn new(hasher: RandomState) -> Shard {
        Shard::numbered(0, hasher)
    }

    /// An empty shard with this number, which no other has that is counted in the same [`Occupancy`].
    pub fn numbered(number: usize, hasher: RandomState) -> Shard {
        Shard {
            number,
            flows: Records::new(hasher.clone()),
            epoch: 0,
            fragments: Fragments::new(hasher),
            initiated: Initiated::default(),
            meters: Meters::default(),
            adjacencies: Adjacencies::default(),
            listens: Vec::new(),
        }
    }

    /// Forgets what has expired, but looks at no more than `budget` records: a look-up does not find the others either.
    #[inline(always)]
    pub fn reap<W: Wide>(&mut self, wide: W, occupancy: &Occupancy, now: Nanos, budget: usize) {
        let tally = self.tally(occupancy);
        self.flows.reap(wide, now, budget, |owner| tally.release(owner));
        self.reap_fragments(tally, now);
    }

    /// As [`Shard::reap`], for who has no batch to run.
    pub fn reap_some(&mut self, occupancy: &Occupancy, now: Nanos, budget: usize) {
        self.reap(Base, occupancy, now, budget);
    }

    /// Forgets everything that has expired, so that the counts are exact.
    pub fn reap_all(&mut self, occupancy: &Occupancy, now: Nanos) {
        let tally = self.tally(occupancy);
        self.flows.reap_all(now, |owner| tally.release(owner));
        self.reap_fragments(tally, now);
    }

    /// Its counts.
    #[inline(always)]
    pub fn tally<'a>(&self, occupancy: &'a Occupancy) -> Tally<'a> {
        occupancy.of_shard(self.number)
    }

    fn reap_fragments(&mut self, tally: Tally<'_>, now: Nanos) {
        self.fragments.reap(now);
        tally.set_fragments(self.fragments.len());
    }

    /// Removes the record of this key, gone or not.
    pub fn remove(&mut self, occupancy: &Occupancy, key: &FlowKey) {
        if self.flows.remove_key(key) {
            self.tally(occupancy).release(key.owner);
        }
    }

    /// Forgets all ways when the program numbers origins anew or the numbers of adjacencies run out, so that a number
    /// never means two things.
    #[inline]
    pub(super) fn keep_ways(&mut self, program: &Program, packets: usize) {
        self.meters.grow(program.names.link_count(), packets);
        if self.epoch != program.origins.epoch || self.adjacencies.is_full() {
            self.epoch = program.origins.epoch;
            self.flows.forget_ways();
            self.adjacencies.clear();
        }
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        self.flows.memory() + self.adjacencies.memory()
    }
}

/// Sequence numbers received, per tunnel and outer source (RFC 2890 section 2.2).
#[derive(Default)]
pub struct Received {
    last: HashMap<(u32, IpAddr), u32, RandomState>,
}

impl Received {
    /// True if the number is newer than the last; then it is the last.
    pub fn accept(&mut self, tunnel: u32, source: IpAddr, sequence: u32) -> bool {
        let last = self.last.entry((tunnel, source)).or_insert(u32::MAX);
        let newer = gre::is_newer(sequence, *last);
        if newer {
            *last = sequence;
        }
        newer
    }

    /// Forgets the tunnels that are no longer there.
    pub fn keep(&mut self, program: &Program) {
        // A tunnel's number is its place. Without any sequence numbers there is nothing to look at.
        let there = |tunnel: u32| program.tunnels.get(tunnel as usize).is_some_and(|t| !t.is_vacant());
        self.last.retain(|(tunnel, _), _| there(*tunnel));
    }
}

/// Sequence numbers sent, per tunnel and outer destination: 0, 1, 2 and so on.
#[derive(Default)]
pub struct Sent {
    next: HashMap<(u32, IpAddr), u32, RandomState>,
}

impl Sent {
    /// The number of the next frame.
    pub fn next(&mut self, tunnel: u32, remote: IpAddr) -> u32 {
        let next = self.next.entry((tunnel, remote)).or_insert(0);
        let number = *next;
        *next = next.wrapping_add(1);
        number
    }

    /// Forgets the tunnels that are no longer there.
    pub fn keep(&mut self, program: &Program) {
        // A tunnel's number is its place. Without any sequence numbers there is nothing to look at.
        let there = |tunnel: u32| program.tunnels.get(tunnel as usize).is_some_and(|t| !t.is_vacant());
        self.next.retain(|(tunnel, _), _| there(*tunnel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_zero_and_old_ones_are_refused() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut sent = Sent::default();
        assert_eq!([sent.next(1, a), sent.next(1, a), sent.next(1, b), sent.next(2, a)], [0, 1, 0, 0]);
        let mut received = Received::default();
        assert!(received.accept(1, a, 0) && !received.accept(1, a, 0) && received.accept(1, a, 7));
        assert!(!received.accept(1, a, 6) && received.accept(1, b, 6));
    }
}
