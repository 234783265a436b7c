//! How many records each VNet and each NIC has, over all shards.
//!
//! ```text
//!  opened, gone ─► the shard's own counts ─► said, by dozens ─► sums, for all
//!                  one writer, no lock                          enough as long as no limit is near
//! ```
//!
//! Whoever holds a shard is the only one who writes its counts, with plain loads and stores: a shard goes from hand to
//! hand through a channel or a join, so the next writer sees the last one's count. Relaxed order is enough for readers,
//! too. Who has all shards in one hand, or the results of all that ran, has got them the same way, so sums over the shards
//! are exact; beside running workers they may be off by what those hold in one batch.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::compile::Program;
use crate::table::records::Owner;

/// What a shard has not yet said of a count, at most: so seldom are sums written that everyone keeps them in the cache.
const UNSAID: u32 = 32;

/// One shard's count of one VNet or NIC, and what it has said of it.
#[derive(Default)]
struct Count {
    held: AtomicU32,
    said: AtomicU32,
}

/// The counts of one shard, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    vnets: Vec<Count>,
    /// That of party 0, which is nobody, means nothing.
    parties: Vec<Count>,
    fragments: AtomicU32,
}

/// How many records each VNet and each NIC has, over all shards. Workers may be off by what they hold in one batch; a
/// run that must be exact goes packet by packet when a limit is near.
pub struct Occupancy {
    shares: Vec<Share>,
    vnets: Vec<AtomicU32>,
    parties: Vec<AtomicU32>,
}

impl Default for Occupancy {
    /// That of one shard.
    fn default() -> Occupancy {
        Occupancy::new(1)
    }
}

impl Occupancy {
    /// That of so many shards, numbered from 0, without room for names yet.
    pub fn new(shards: usize) -> Occupancy {
        let shares = (0..shards.max(1)).map(|_| Share::default()).collect();
        Occupancy { shares, vnets: Vec::new(), parties: Vec::new() }
    }

    /// Makes room for all names of a program; counts stay.
    pub fn grow(&mut self, program: &Program) {
        self.grow_to(program.names.vnet_count(), program.names.party_count());
    }

    fn grow_to(&mut self, vnets: usize, parties: usize) {
        fn grow<T: Default>(counts: &mut Vec<T>, names: usize) {
            counts.resize_with(names.max(counts.len()), T::default);
        }
        grow(&mut self.vnets, vnets);
        grow(&mut self.parties, parties);
        for share in &mut self.shares {
            grow(&mut share.vnets, vnets);
            grow(&mut share.parties, parties);
        }
    }

    /// True if a program has names for which there is no room.
    pub fn is_too_small(&self, program: &Program) -> bool {
        let names = &program.names;
        self.vnets.len() < names.vnet_count() || self.parties.len() < names.party_count()
    }

    /// One with room for all names of a program, for the same shards, which bring their counts themselves
    /// ([`Tally::move_to`]): so it can be put in force while they run.
    pub fn successor(&self, program: &Program) -> Occupancy {
        let mut next = Occupancy::new(self.shares.len());
        next.grow(program);
        next
    }

    /// The counts of a shard, for whoever holds it.
    #[inline(always)]
    pub fn of_shard(&self, number: usize) -> Tally<'_> {
        debug_assert!(number < self.shares.len(), "each shard has a number of its own");
        Tally { own: &self.shares[number.min(self.shares.len() - 1)], sums: self }
    }

    /// Records of a VNet.
    pub fn of_vnet(&self, vnet: u32) -> u32 {
        self.shares.iter().filter_map(|s| s.vnets.get(vnet as usize)).map(Count::held).sum()
    }

    /// Records of a NIC.
    pub fn of_party(&self, party: u32) -> u32 {
        self.shares.iter().filter_map(|s| s.parties.get(party as usize)).map(Count::held).sum()
    }

    /// Datagrams whose later fragments are admitted.
    pub fn fragments(&self) -> u32 {
        self.shares.iter().map(|s| s.fragments.load(Ordering::Relaxed)).sum()
    }

    /// True if a VNet may have so many records more without having more than `limit`; false also if that limit is so
    /// near that only [`Occupancy::of_vnet`] tells.
    #[inline(always)]
    pub fn vnet_has_room(&self, vnet: u32, more: u32, limit: u32) -> bool {
        self.has_room(&self.vnets, vnet, more, limit)
    }

    /// As [`Occupancy::vnet_has_room`], of a NIC.
    #[inline(always)]
    pub fn party_has_room(&self, party: u32, more: u32, limit: u32) -> bool {
        self.has_room(&self.parties, party, more, limit)
    }

    #[inline(always)]
    fn has_room(&self, sums: &[AtomicU32], name: u32, more: u32, limit: u32) -> bool {
        let said = sums.get(name as usize).map_or(0, |sum| sum.load(Ordering::Relaxed));
        let unsaid = UNSAID * self.shares.len() as u32;
        said.saturating_add(unsaid).saturating_add(more) <= limit
    }
}

impl Count {
    #[inline(always)]
    fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The counts of one shard, which nobody else holds.
#[derive(Clone, Copy)]
pub struct Tally<'a> {
    own: &'a Share,
    sums: &'a Occupancy,
}

impl Tally<'_> {
    /// One more record.
    #[inline(always)]
    pub fn take(&self, owner: Owner) {
        self.count_vnet(owner.vnet, 1);
        self.count_party(owner.endpoint, 1);
    }

    /// One more record of each.
    #[inline(always)]
    pub fn take_both(&self, owners: [Owner; 2]) {
        let [one, other] = owners;
        if one.vnet == other.vnet {
            self.count_vnet(one.vnet, 2);
        } else {
            self.count_vnet(one.vnet, 1);
            self.count_vnet(other.vnet, 1);
        }
        self.count_party(one.endpoint, 1);
        self.count_party(other.endpoint, 1);
    }

    /// One record less.
    #[inline(always)]
    pub fn release(&self, owner: Owner) {
        self.count_vnet(owner.vnet, 1_u32.wrapping_neg());
        self.count_party(owner.endpoint, 1_u32.wrapping_neg());
    }

    /// Brings the shard's counts to another occupancy, where it has none yet; it counts there from now on.
    pub fn move_to(&self, next: Tally<'_>) {
        fn each(from: &[Count], mut to: impl FnMut(u32, u32)) {
            for (name, count) in (0..).zip(from) {
                if count.held() != 0 {
                    to(name, count.held());
                }
            }
        }
        each(&self.own.vnets, |vnet, held| next.count_vnet(vnet, held));
        each(&self.own.parties, |party, held| next.count_party(party, held));
        next.own.fragments.store(self.own.fragments.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Records that the shard has of a VNet.
    pub fn of_vnet(&self, vnet: u32) -> u32 {
        self.own.vnets.get(vnet as usize).map_or(0, Count::held)
    }

    /// The shard's table of fragments has so many entries now.
    #[inline(always)]
    pub fn set_fragments(&self, entries: usize) {
        self.own.fragments.store(entries as u32, Ordering::Relaxed);
    }

    #[inline(always)]
    fn count_vnet(&self, vnet: u32, by: u32) {
        count(&self.own.vnets, &self.sums.vnets, vnet, by);
    }

    #[inline(always)]
    fn count_party(&self, party: u32, by: u32) {
        count(&self.own.parties, &self.sums.parties, party, by);
    }
}

#[inline(always)]
fn count(counts: &[Count], sums: &[AtomicU32], name: u32, by: u32) {
    let Some(count) = counts.get(name as usize) else { return };
    let held = count.held().wrapping_add(by);
    count.held.store(held, Ordering::Relaxed);
    let unsaid = held.wrapping_sub(count.said.load(Ordering::Relaxed));
    if unsaid.wrapping_add(UNSAID) > 2 * UNSAID {
        say(count, held, sums.get(name as usize));
    }
}

/// Adds what was not yet said of a count to the sum over all shards.
#[cold]
fn say(count: &Count, held: u32, sum: Option<&AtomicU32>) {
    let said = count.said.load(Ordering::Relaxed);
    count.said.store(held, Ordering::Relaxed);
    if let Some(sum) = sum {
        sum.fetch_add(held.wrapping_sub(said), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_room_is_never_promised_that_is_not_there() {
        let mut occupancy = Occupancy::new(3);
        occupancy.grow_to(4, 5);
        let mut state = 1_u64;
        let mut roll = move |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let mut held: Vec<(usize, Owner)> = Vec::new();
        for turn in 0..40_000 {
            let (shard, grows) = (roll(3) as usize, roll(100) < if turn % 8000 < 4000 { 70 } else { 30 });
            let owner = |n: u64| Owner { vnet: n as u32 % 4, endpoint: n as u32 % 5 };
            if grows && roll(2) == 0 {
                let owners = [owner(roll(20)), owner(roll(20))];
                occupancy.of_shard(shard).take_both(owners);
                held.extend(owners.map(|owner| (shard, owner)));
            } else if grows {
                held.push((shard, owner(roll(20))));
                occupancy.of_shard(shard).take(held[held.len() - 1].1);
            } else if !held.is_empty() {
                let (shard, owner) = held.swap_remove(roll(held.len() as u64) as usize);
                occupancy.of_shard(shard).release(owner);
            }
            let (n, more) = (roll(4) as u32, roll(3) as u32);
            let vnet = held.iter().filter(|(_, o)| o.vnet == n).count() as u32;
            let party = held.iter().filter(|(_, o)| o.endpoint == n + 1).count() as u32;
            assert_eq!((occupancy.of_vnet(n), occupancy.of_party(n + 1)), (vnet, party));
            let limit = (vnet.max(party) + roll(300) as u32).saturating_sub(100);
            let shares = (0..3).map(|shard| occupancy.of_shard(shard).of_vnet(n));
            assert_eq!(shares.sum::<u32>(), vnet);
            let room = |held: u32, said: bool| {
                let there = held + more <= limit;
                assert!(there || !said);
                assert!(said || held + more + 6 * UNSAID > limit, "there is room enough: {held} of {limit}");
            };
            room(vnet, occupancy.vnet_has_room(n, more, limit));
            room(party, occupancy.party_has_room(n + 1, more, limit));
        }
    }

    #[test]
    fn shards_bring_their_counts_to_a_larger_one() {
        let mut small = Occupancy::new(2);
        small.grow_to(2, 2);
        let owner = |vnet, endpoint| Owner { vnet, endpoint };
        (0..100).for_each(|_| small.of_shard(0).take(owner(1, 1)));
        (0..7).for_each(|_| small.of_shard(1).take(owner(1, 0)));
        small.of_shard(1).set_fragments(3);
        let mut large = Occupancy::new(2);
        large.grow_to(5, 9);
        for shard in [0, 1] {
            small.of_shard(shard).move_to(large.of_shard(shard));
        }
        assert_eq!((large.of_vnet(1), large.of_party(1), large.of_vnet(0)), (107, 100, 0));
        assert_eq!((large.fragments(), large.of_shard(1).of_vnet(1)), (3, 7));
        assert!(!large.vnet_has_room(1, 2, 100) && large.vnet_has_room(4, 2, 100));
        (0..100).for_each(|_| large.of_shard(0).release(owner(1, 1)));
        assert_eq!((large.of_vnet(1), large.of_party(1)), (7, 0));
    }
}
