//! How many ICMP errors each party is sent: a hundred per second, bounded in memory and in work for each.

use std::collections::VecDeque;
use std::net::IpAddr;

use ahash::RandomState;

use crate::sys::Base;
use crate::table::queue::Queue;
use crate::table::records::NONE;
use crate::table::records::index::{Index, hash_of};
use crate::types::{Nanos, SECOND};

/// Whose ICMP errors are counted together: an endpoint (an address when it has no NIC), link, connection or Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorsOf {
    /// The VNet's number.
    pub vnet: u32,
    /// The party's number, or 0.
    pub party: u32,
    /// The endpoint's address when it has no other number.
    pub address: Option<IpAddr>,
}

/// ICMP errors at most per second and party.
pub const ERRORS_PER_SECOND: usize = 100;

/// Parties that are counted each for itself in a second: up to 800 bytes of times each and 100 besides, 59 MB.
const PARTIES: usize = 65_536;

/// A party to which errors were sent. Those form a list by their last error.
struct Party {
    of: ErrorsOf,
    hash: u32,
    older: u32,
    newer: u32,
    /// When the errors of the last second were sent.
    times: VecDeque<Nanos>,
}

impl Party {
    /// Forgets what is a second old.
    fn forget(&mut self, now: Nanos) {
        while self.times.front().is_some_and(|t| t.saturating_add(SECOND) <= now) {
            self.times.pop_front();
        }
    }

    /// Counts one error more; false if there is no room.
    fn count(&mut self, now: Nanos) -> bool {
        let sent = self.times.len();
        if sent >= ERRORS_PER_SECOND {
            return false;
        }
        if sent == self.times.capacity() {
            // Most have few; nobody has room for more than may be.
            self.times.reserve_exact((4 * sent).clamp(4, ERRORS_PER_SECOND - sent));
        }
        self.times.push_back(now);
        true
    }
}

/// The counts of some parties.
struct Counts {
    hasher: RandomState,
    index: Index,
    parties: Queue<Party>,
    oldest: u32,
    newest: u32,
    /// Parties at most.
    most: usize,
}

impl Counts {
    fn new(most: usize) -> Counts {
        Counts {
            hasher: Default::default(),
            index: Index::small(),
            parties: Queue::default(),
            oldest: NONE,
            newest: NONE,
            most,
        }
    }

    fn hash(&self, of: &ErrorsOf) -> u32 {
        hash_of(&self.hasher, of)
    }

    fn find(&self, hash: u32, of: &ErrorsOf) -> u32 {
        self.index.find(Base, hash, false, |number| self.parties.get(number).is_some_and(|p| p.of == *of))
    }

    fn count(&mut self, number: u32, now: Nanos) -> bool {
        let Some(party) = self.parties.get_mut(number) else { return false };
        party.forget(now);
        let allowed = party.count(now);
        if allowed {
            self.unlink(number);
            self.link(number);
        }
        allowed
    }

    /// Gives a new party the place of the one that is silent longest, if for a second, or else one more, if there is
    /// room; its number. `None` also if too many share its hash, as happens only to who knows the seed.
    fn admit(&mut self, of: ErrorsOf, hash: u32, now: Nanos) -> Option<u32> {
        let oldest = self.oldest;
        if let Some(party) = self.parties.get_mut(oldest)
            && party.times.back().is_none_or(|t| t.saturating_add(SECOND) <= now)
        {
            let before = party.hash;
            if !self.index.insert(Base, hash, oldest) {
                return None;
            }
            (party.of, party.hash) = (of, hash);
            party.times.clear();
            self.index.remove(Base, before, oldest);
            self.unlink(oldest);
            self.link(oldest);
            return Some(oldest);
        }
        let number = self.parties.next();
        if self.parties.len() >= self.most || !self.index.insert(Base, hash, number) {
            return None;
        }
        self.parties.push(Party { of, hash, older: NONE, newer: NONE, times: VecDeque::new() });
        self.link(number);
        Some(number)
    }

    /// Takes a party out of the list.
    fn unlink(&mut self, number: u32) {
        let Some(&Party { older, newer, .. }) = self.parties.get(number) else { return };
        match self.parties.get_mut(older) {
            Some(party) => party.newer = newer,
            None => self.oldest = newer,
        }
        match self.parties.get_mut(newer) {
            Some(party) => party.older = older,
            None => self.newest = older,
        }
    }

    /// Puts a party that is not in the list at its end.
    fn link(&mut self, number: u32) {
        let before = self.newest;
        let Some(party) = self.parties.get_mut(number) else { return };
        (party.older, party.newer) = (before, NONE);
        self.newest = number;
        match self.parties.get_mut(before) {
            Some(party) => party.newer = number,
            None => self.oldest = number,
        }
    }
}

/// When the last ICMP errors of each party were sent.
///
/// Exact as long as no more than 65,536 parties are sent errors within a second, and again a second after there were
/// more. Of those, who is new shares a hundred with the others of its VNet that are (links and connections share another
/// hundred), until the party that is silent longest has been so for a second and makes room. So nobody is ever sent more
/// than he may be, and a crowd in one VNet leaves every other VNet its hundred.
pub struct ErrorRate {
    own: Counts,
    /// What those of a VNet share that find no room: one for each VNet.
    common: Counts,
    /// Until when that may hold errors of a party that has got its own count since.
    crowded: Nanos,
}

impl Default for ErrorRate {
    fn default() -> ErrorRate {
        ErrorRate::of_most(PARTIES)
    }
}

impl ErrorRate {
    fn of_most(most: usize) -> ErrorRate {
        ErrorRate { own: Counts::new(most), common: Counts::new(most), crowded: 0 }
    }

    /// True, and counted, if fewer than a hundred were sent in the second up to `now`.
    pub fn allow(&mut self, of: ErrorsOf, now: Nanos) -> bool {
        let hash = self.own.hash(&of);
        let found = self.own.find(hash, &of);
        if found != NONE {
            return self.own.count(found, now);
        }
        let Some(number) = self.own.admit(of, hash, now) else { return self.allow_in_common(of.vnet, now) };
        if now < self.crowded {
            self.take_over(number, of.vnet, now);
        }
        self.own.count(number, now)
    }

    /// As [`ErrorRate::allow`], of a party that finds no room.
    #[cold]
    fn allow_in_common(&mut self, vnet: u32, now: Nanos) -> bool {
        let of = ErrorsOf { vnet, party: 0, address: None };
        let hash = self.common.hash(&of);
        let number = match self.common.find(hash, &of) {
            NONE => self.common.admit(of, hash, now),
            found => Some(found),
        };
        self.crowded = now.saturating_add(SECOND);
        number.is_some_and(|number| self.common.count(number, now))
    }

    /// A new party may have been among the crowd of its VNet, and may be all of it.
    #[cold]
    fn take_over(&mut self, number: u32, vnet: u32, now: Nanos) {
        let of = ErrorsOf { vnet, party: 0, address: None };
        let common = self.common.find(self.common.hash(&of), &of);
        if let Some(common) = self.common.parties.get(common)
            && let Some(party) = self.own.parties.get_mut(number)
        {
            // Not `clone_from`, which may reserve more than a hundred.
            party.times = common.times.clone();
            party.forget(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn of(party: u32) -> ErrorsOf {
        ErrorsOf { vnet: 1, party, address: None }
    }

    fn dice() -> impl FnMut(u64) -> u64 {
        let mut state = 5_u64;
        move |sides| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        }
    }

    /// Errors that were sent in the second up to `now`, without bounds.
    #[derive(Default)]
    struct Plain(HashMap<ErrorsOf, Vec<Nanos>>);

    impl Plain {
        fn sent(&self, of: &ErrorsOf, now: Nanos) -> usize {
            self.0.get(of).map_or(0, |times| times.iter().rev().take_while(|t| **t + SECOND > now).count())
        }
    }

    #[test]
    fn a_hundred_errors_per_second_and_none_withheld_below() {
        let mut rate = ErrorRate::default();
        let sent = (0..200).filter(|_| rate.allow(of(1), 5 * SECOND)).count();
        assert_eq!(sent, 100);
        assert!(rate.allow(of(2), 5 * SECOND));
        assert!(!rate.allow(of(1), 6 * SECOND - 1));
        let sent = (0..200).filter(|_| rate.allow(of(1), 6 * SECOND)).count();
        assert_eq!(sent, 100);
    }

    #[test]
    fn up_to_its_capacity_it_says_what_plain_counting_says() {
        let (mut rate, mut plain, mut dice) = (ErrorRate::of_most(50), Plain::default(), dice());
        let (mut now, mut refused) = (0, 0);
        for turn in 0..100_000_u64 {
            now += match turn % 10_000 {
                0 => 3 * SECOND,
                n if n < 5_000 => dice(400_000),
                _ => dice(SECOND / 10),
            };
            // Fifty at a time, of a thousand in all: each fifty only behind a pause.
            let of = of((turn / 10_000 * 50 + dice(50).min(dice(50))) as u32);
            let allowed = rate.allow(of, now);
            assert_eq!(allowed, plain.sent(&of, now) < ERRORS_PER_SECOND, "turn {turn}");
            refused += u32::from(!allowed);
            if allowed {
                plain.0.entry(of).or_default().push(now);
            }
        }
        assert!(refused > 1000 && rate.own.parties.len() <= 50, "{refused}, {}", rate.own.parties.len());
        assert!(rate.common.parties.is_empty());
    }

    #[test]
    fn beyond_its_capacity_nobody_is_sent_more_and_nothing_grows() {
        let (mut rate, mut plain, mut dice) = (ErrorRate::of_most(50), Plain::default(), dice());
        let (mut now, mut sent) = (0, 0);
        for turn in 0..300_000_u64 {
            now += dice(if turn % 30_000 < 20_000 { 50_000 } else { SECOND / 50 });
            let of = ErrorsOf { vnet: dice(3) as u32, ..of(1 + dice(70).min(dice(70)) as u32) };
            if rate.allow(of, now) {
                assert!(plain.sent(&of, now) < ERRORS_PER_SECOND, "turn {turn}");
                plain.0.entry(of).or_default().push(now);
                sent += 1;
            }
        }
        assert!(sent > 10_000, "{sent}");
        assert_eq!((rate.own.parties.len(), rate.common.parties.len()), (50, 3));
        let most = (0..50).map(|n| rate.own.parties.nth(n).unwrap().times.capacity()).max();
        assert!(most <= Some(ERRORS_PER_SECOND), "{most:?}");
    }

    #[test]
    fn a_crowd_shares_the_count_of_its_vnet() {
        let mut rate = ErrorRate::of_most(10);
        let crowd = |rate: &mut ErrorRate, now| (1..1000).filter(|&party| rate.allow(of(party), now)).count();
        assert_eq!(crowd(&mut rate, SECOND), 110, "ten for themselves, a hundred among the others");
        assert!(rate.allow(of(10), SECOND), "who is there already");
        assert!(rate.allow(ErrorsOf { vnet: 2, ..of(2000) }, SECOND), "another VNet");
        // There is room again, for parties of which each may have been the one that was sent what the crowd was sent.
        let mut rate = ErrorRate::of_most(10);
        assert!((1..11).all(|party| rate.allow(of(party), SECOND)));
        assert!((0..60).all(|_| rate.allow(of(999), SECOND * 3 / 2)));
        let often =
            |rate: &mut ErrorRate, party, now| (0..200).filter(|_| rate.allow(of(party), now)).count();
        assert_eq!([999, 998].map(|party| often(&mut rate, party, 2 * SECOND)), [40, 40]);
        assert_eq!([999, 998].map(|party| often(&mut rate, party, SECOND * 5 / 2)), [60, 60]);
        let own = &rate.own;
        let known: HashSet<u32> = (0..own.parties.len() as u32).collect();
        let (mut listed, mut next) = (HashSet::new(), own.oldest);
        while next != NONE {
            assert!(listed.insert(next), "the list has no circle");
            next = own.parties.get(next).unwrap().newer;
        }
        assert_eq!(listed, known);
    }
}
