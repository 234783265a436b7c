//! Flow records for the fast path: found by hash or key, gone when idle, counted by their owner elsewhere.
//!
//! ```text
//!  packet ─► hash ─► Index ─► slot ─► Record (one cache line)
//!                                        ▲
//!  reap ─► Timers: lists of slots by the time they would be gone
//! ```
//!
//! No operation on a single record takes longer the more records there are: the index grows by parts, records never
//! move, and `reap` does as much as it is told. Keys come from strangers, so hashes are seeded; who knows the seed all
//! the same can have no more than records refused that share his hashes.

mod account;
mod expire;
pub(crate) mod index;
mod key;
mod open;
mod record;
mod slab;
#[cfg(test)]
mod tests;
mod timer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ahash::RandomState;

use self::account::Accounts;
pub use self::account::{FlowEvent, MOST_EVENTS, Phase, Traffic};
use self::index::{Index, finish};
pub use self::index::{NONE, REVERSED};
pub use self::key::{ENDED, FlowKey, FlowV4, Opening, Owner};
use self::record::{HAS_ENDED, LINKED, WIDE, due_at};
pub use self::record::{Kind, Record, Stored};
use self::slab::Slab;
use self::timer::Timers;
use crate::packet::Direction;
use crate::sys::{Base, Wide};
use crate::types::Nanos;

/// What a change of configuration may change of a record.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// How long it may be idle.
    pub idle_minutes: u8,
    /// The rule that opened it.
    pub rule: u32,
    /// The direction of the packet that opened it; not to change.
    pub opened_by: Direction,
    /// True of an ended record; not to change.
    pub ended: bool,
}

/// How flows are hashed. The keys must be random, because flows come from strangers.
#[derive(Clone, Copy)]
pub struct Hasher {
    keys: [u64; 5],
}

impl Hasher {
    fn new(seed: &RandomState) -> Hasher {
        Hasher { keys: [1_u64, 2, 3, 4, 5].map(|n| seed.hash_one(n)) }
    }

    /// The hash of an IPv4 flow in a VNet, never 0; ports are the local above the remote one. The record that an
    /// endpoint of VNet `scope` opens is found by it.
    ///
    /// The sum's high half is strongly universal: whatever two flows are chosen without knowing the keys, their hashes are
    /// as two rolls of dice (Lemire and Kaser, "Strongly universal string hashing is fast", 2014). The rest keeps that, and
    /// spreads flows that differ by the same step.
    #[inline(always)]
    pub fn hash_ipv4(&self, scope: u32, local: u32, remote: u32, ports: u32, protocol: u8) -> u32 {
        let [add, k1, k2, k3, k4] = self.keys;
        let times = |key: u64, word: u32| key.wrapping_mul(u64::from(word));
        let sum = add
            .wrapping_add(times(k1, scope ^ u32::from(protocol) << 24))
            .wrapping_add(times(k2, local))
            .wrapping_add(times(k3, remote))
            .wrapping_add(times(k4, ports));
        let hash = (sum >> 32) as u32;
        let hash = (hash ^ hash >> 15).wrapping_mul(0x2c1b_3c6d);
        let hash = hash ^ hash >> 16;
        hash + u32::from(hash == 0)
    }

    fn hash_wide(&self, scope: u32, pair: [u128; 2], ports: u32, protocol: u8) -> u32 {
        let [first, second, third, ..] = self.keys;
        let rest = u64::from(ports) << 32 | u64::from(scope ^ u32::from(protocol) << 24);
        let words = pair.into_iter().flat_map(|a| [(a >> 64) as u64, a as u64]);
        finish(words.fold(fold(rest ^ first, second | 1), |hash, word| fold(hash ^ word ^ third, second | 1)))
    }
}

/// A table of flow records.
pub struct Records {
    hasher: Hasher,
    index: Index,
    slab: Slab,
    timers: Timers,
    /// The VNet of each endpoint that has a number.
    vnets: Vec<u32>,
    opened: u64,
    /// What flows carry, if it is counted.
    accounts: Option<Box<Accounts>>,
}

/// A key, taken apart.
enum Key {
    Ipv4(FlowV4),
    Wide { hash: u32, pair: [u128; 2], ports: u32 },
}

/// Both halves of a product, folded into one.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn as_ipv6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Records {
    /// An empty table; the seed must be random, because keys come from strangers.
    pub fn new(seed: RandomState) -> Records {
        Records {
            hasher: Hasher::new(&seed),
            index: Index::new(),
            slab: Slab::new(),
            timers: Timers::new(),
            vnets: Vec::new(),
            opened: 0,
            accounts: None,
        }
    }

    /// How flows are hashed.
    #[inline(always)]
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// See [`Hasher::hash_ipv4`].
    #[inline(always)]
    pub fn hash_ipv4(&self, scope: u32, local: u32, remote: u32, ports: u32, protocol: u8) -> u32 {
        self.hasher.hash_ipv4(scope, local, remote, ports, protocol)
    }

    fn take_apart(&self, key: &FlowKey) -> Key {
        let ports = u32::from(key.ports.0) << 16 | u32::from(key.ports.1);
        let (owner, protocol) = (key.owner, key.protocol);
        match (key.local, key.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let (local, remote) = (local.to_bits(), remote.to_bits());
                let hash = self.hash_ipv4(owner.vnet, local, remote, ports, protocol);
                Key::Ipv4(FlowV4 { hash, owner, local, remote, ports, protocol })
            }
            (local, remote) => {
                let pair = [as_ipv6(local), as_ipv6(remote)];
                Key::Wide { hash: self.hasher.hash_wide(owner.vnet, pair, ports, protocol), pair, ports }
            }
        }
    }

    /// Where a hash has its place in the index, until the next record is opened.
    #[inline(always)]
    pub fn bucket(&self, hash: u32) -> u32 {
        self.index.place(hash)
    }

    /// Asks for a place in the index.
    #[inline(always)]
    pub fn prefetch_bucket(&self, bucket: u32) {
        self.index.prefetch(bucket);
    }

    /// Asks for what opening a record changes besides the index: the slot that is given next, and the timers of records
    /// that are idle for so long at `now`.
    #[inline(always)]
    pub fn prefetch_opening(&self, now: Nanos, idle_minutes: u8) {
        self.slab.prefetch_next();
        self.timers.prefetch(now.saturating_add(record::idle(idle_minutes)));
    }

    /// The slot of a record with this hash, which has its place there, or [`NONE`] if that is not seen at a glance: then
    /// [`Records::probe_further`] knows, for which memory is asked. By its alias if `reversed` is [`REVERSED`] and not 0. A
    /// hint: another key may have the same hash, so the caller compares.
    #[inline(always)]
    pub fn probe<W: Wide>(&self, wide: W, bucket: u32, hash: u32, reversed: u32) -> u32 {
        let slot = self.index.probe(wide, bucket, hash, reversed);
        if slot == NONE {
            self.index.prefetch_second(bucket, hash);
        }
        slot
    }

    /// The same, wherever the hash is; [`NONE`] if it is nowhere.
    #[inline]
    pub fn probe_further(&self, hash: u32, reversed: u32) -> u32 {
        self.index.find(Base, hash, reversed != 0, |_| true)
    }

    /// Asks for a record.
    #[inline(always)]
    pub fn prefetch_record(&self, slot: u32) {
        self.slab.records.prefetch(slot as usize);
    }

    /// The record of a slot; of one that was never given (as [`NONE`]), a record that matches nothing.
    #[inline(always)]
    pub fn record(&self, slot: u32) -> &Record {
        self.slab.records.get(slot as usize)
    }

    /// The record of a slot, to change.
    #[inline(always)]
    pub fn record_mut(&mut self, slot: u32) -> &mut Record {
        self.slab.records.get_mut(slot as usize)
    }

    /// A number that changes when the slot's record is removed, for [`Records::is_live`]. Only records that were asked
    /// for it count.
    pub fn generation(&mut self, slot: u32) -> u32 {
        self.slab.watch(slot)
    }

    /// Whose record it is.
    #[inline]
    pub fn owner(&self, slot: u32) -> Owner {
        self.owner_of(self.record(slot))
    }

    #[inline(always)]
    fn owner_of(&self, record: &Record) -> Owner {
        let packed = record.owner;
        let endpoint = packed & !(1 << 31);
        if packed >> 31 == 0 {
            return Owner { vnet: packed, endpoint: 0 };
        }
        Owner { vnet: self.vnets.get(endpoint as usize).copied().unwrap_or(0), endpoint }
    }

    /// The slots that belong to a flow among so many from `first` on, and the slot behind these; `None` behind the last.
    pub fn used(&self, first: u32, count: u32) -> (impl Iterator<Item = u32>, Option<u32>) {
        let all = self.slab.records.len() as u32;
        let first = first.max(1).min(all);
        let end = first.saturating_add(count).min(all);
        ((first..end).filter(|slot| self.record(*slot).is_used()), (end < all).then_some(end))
    }

    /// The key of a record.
    pub fn key(&self, slot: u32) -> FlowKey {
        let record = self.record(slot);
        let (local, remote): (IpAddr, IpAddr) = if record.flags & WIDE == 0 {
            (Ipv4Addr::from_bits(record.local).into(), Ipv4Addr::from_bits(record.remote).into())
        } else {
            let [local, remote] = self.slab.pair(record.local);
            (Ipv6Addr::from_bits(local).into(), Ipv6Addr::from_bits(remote).into())
        };
        let ports = ((record.ports >> 16) as u16, record.ports as u16);
        FlowKey { owner: self.owner(slot), protocol: record.protocol, ports, local, remote }
    }

    /// The hash by which a record is found.
    #[inline(always)]
    fn hash_of(&self, record: &Record) -> u32 {
        if record.flags & LINKED != 0 {
            return record.alias;
        }
        let scope = self.owner_of(record).vnet;
        if record.flags & WIDE == 0 {
            return self.hash_ipv4(scope, record.local, record.remote, record.ports, record.protocol);
        }
        self.hasher.hash_wide(scope, self.slab.pair(record.local), record.ports, record.protocol)
    }

    /// The slot of an IPv4 flow's record, gone or not; [`NONE`] if there is none.
    #[inline(always)]
    pub fn find_ipv4<W: Wide>(&self, wide: W, flow: &FlowV4) -> u32 {
        self.index.find(wide, flow.hash, false, |slot| {
            let record = self.record(slot);
            let wrong = (record.local ^ flow.local) | (record.remote ^ flow.remote);
            wrong == 0
                && record.flags & WIDE == 0
                && self.is_of(record, flow.owner, flow.ports, flow.protocol)
        })
    }

    /// True of a record of this owner, with these ports and this protocol.
    #[inline(always)]
    fn is_of(&self, record: &Record, owner: Owner, ports: u32, protocol: u8) -> bool {
        record.ports == ports && record.protocol == protocol && self.owner_of(record) == owner
    }

    /// The slot of this key's record, gone or not.
    #[inline]
    pub fn find_any(&self, key: &FlowKey) -> Option<u32> {
        let slot = match self.take_apart(key) {
            Key::Ipv4(flow) => self.find_ipv4(Base, &flow),
            Key::Wide { hash, pair, ports } => self.index.find(Base, hash, false, |slot| {
                let record = self.record(slot);
                record.flags & WIDE != 0
                    && self.is_of(record, key.owner, ports, key.protocol)
                    && self.slab.pair(record.local) == pair
            }),
        };
        (slot != NONE).then_some(slot)
    }

    /// The slot of this key's record, if that is not gone at `now`.
    #[inline]
    pub fn find(&self, key: &FlowKey, now: Nanos) -> Option<u32> {
        self.find_any(key).filter(|&slot| self.gone_at(slot) > now)
    }

    /// When a packet last refreshed it or its partner.
    #[inline]
    pub fn last(&self, slot: u32) -> Nanos {
        record::last(&self.slab.records, slot)
    }

    /// The first instant at which it is gone.
    #[inline]
    pub fn gone_at(&self, slot: u32) -> Nanos {
        record::gone_at(&self.slab.records, slot)
    }

    /// A packet of the flow was forwarded; nothing to a record that has ended.
    #[inline]
    pub fn refresh(&mut self, slot: u32, now: Nanos) {
        let record = self.record_mut(slot);
        if record.is_used() && !record.ended() {
            record.last = now;
        }
    }

    /// Ends a record: it is gone ten seconds after `now`. Its stored ways and its partner leave it.
    pub fn end(&mut self, slot: u32, now: Nanos) {
        let record = self.record(slot);
        if !record.is_used() || record.ended() {
            return;
        }
        self.unlink(slot);
        let record = self.record_mut(slot);
        record.flags |= HAS_ENDED;
        record.last = now;
        record.ways = [Stored::default(); 2];
        self.reset_timer(slot);
    }

    /// Sets the timer of a record anew.
    fn reset_timer(&mut self, slot: u32) {
        self.timers.unset(&mut self.slab.records, slot);
        self.set_timer(slot, due_at(&self.slab.records, slot));
    }

    /// Removes a record, gone or not.
    pub fn remove(&mut self, slot: u32) {
        let record = self.record(slot);
        if !record.is_used() {
            return;
        }
        let hash = self.hash_of(record);
        self.timers.unset(&mut self.slab.records, slot);
        self.leave_partner(slot);
        self.discard(Base, slot, self.index.place(hash), hash);
    }

    /// Removes the record of this key, gone or not; true if there was one.
    pub fn remove_key(&mut self, key: &FlowKey) -> bool {
        let slot = self.find_any(key);
        if let Some(slot) = slot {
            self.remove(slot);
        }
        slot.is_some()
    }

    /// Makes two records partners: refreshing one refreshes both. Former partners and stored ways leave them, and second
    /// entries in the index, which lead only to a record without partner. Nothing if one of them has ended.
    pub fn link(&mut self, a: u32, b: u32) {
        let fit = |slot: u32| self.record(slot).is_used() && !self.record(slot).ended();
        if a == b || !fit(a) || !fit(b) || self.record(a).partner() == Some(b) {
            return;
        }
        self.unlink(a);
        self.unlink(b);
        let [hash_of_a, hash_of_b] = [a, b].map(|slot| self.hash_of(self.record(slot)));
        for (slot, hash, partner, adjacency) in [(a, hash_of_a, b, hash_of_b), (b, hash_of_b, a, hash_of_a)] {
            self.remove_alias(slot);
            let record = self.record_mut(slot);
            record.flags |= LINKED;
            record.alias = hash;
            record.ways = [Stored::default(), Stored { arrival: partner, adjacency, route: 0 }];
        }
        self.settle_idle(a);
    }

    /// Parts a record from its partner: each keeps the later use of both, and loses its stored ways, which were made for
    /// the two of them.
    pub fn unlink(&mut self, slot: u32) {
        let Some(partner) = self.record(slot).partner() else { return };
        let last = self.last(slot);
        self.leave(slot, last);
        self.leave(partner, last);
    }

    /// A linked record is parted from its partner, whose timer may have been for both.
    fn leave(&mut self, slot: u32, last: Nanos) {
        let record = self.record_mut(slot);
        record.leave(last);
        if record.timer == 0 {
            let at = record.gone_after(last);
            self.set_timer(slot, at);
        }
    }

    /// The partner of a record that is to be removed is parted from it.
    fn leave_partner(&mut self, slot: u32) {
        if let Some(partner) = self.record(slot).partner() {
            self.leave(partner, self.last(slot));
        }
    }

    /// Parts the records of a packet from partners that the packet does not refresh with them.
    pub fn part(&mut self, slots: [Option<u32>; 2]) {
        for (slot, other) in [(slots[0], slots[1]), (slots[1], slots[0])] {
            if let Some(slot) = slot
                && self.record(slot).partner() != other
            {
                self.unlink(slot);
            }
        }
    }

    /// True if the slot still has the record of this generation, and that has neither ended nor is gone at `now`.
    pub fn is_live(&self, slot: u32, generation: u32, now: Nanos) -> bool {
        let record = self.record(slot);
        self.slab.generation(slot) == generation
            && record.is_used()
            && !record.ended()
            && self.gone_at(slot) > now
    }

    /// Forgets all stored ways.
    pub fn forget_ways(&mut self) {
        for slot in 0..self.slab.records.len() as u32 {
            let record = self.record_mut(slot);
            record.ways[0] = Stored::default();
            if record.partner().is_none() {
                record.ways[1] = Stored::default();
            }
        }
    }

    /// Sets the smaller idle time of a record and its partner in both.
    fn settle_idle(&mut self, slot: u32) {
        let own = self.record(slot).idle_minutes;
        let Some(partner) = self.record(slot).partner() else {
            self.record_mut(slot).way_idle_minutes = own;
            return;
        };
        let least = own.min(self.record(partner).idle_minutes);
        for slot in [slot, partner] {
            self.record_mut(slot).way_idle_minutes = least;
        }
    }

    /// Removes the second entry that a record without partner may have in the index.
    fn remove_alias(&mut self, slot: u32) {
        let alias = std::mem::replace(&mut self.record_mut(slot).alias, 0);
        if alias != 0 {
            self.index.remove(Base, alias, slot | REVERSED);
        }
    }

    /// Gives a record without partner a second entry in the index, in place of the one it may have; false: there is no
    /// room for it.
    pub fn alias(&mut self, slot: u32, hash: u32) -> bool {
        let record = self.record(slot);
        if !record.is_used() || hash == 0 || record.flags & LINKED != 0 {
            return false;
        }
        if record.alias == hash {
            return true;
        }
        self.remove_alias(slot);
        let done = self.index.insert(Base, hash, slot | REVERSED);
        self.record_mut(slot).alias = if done { hash } else { 0 };
        done
    }

    /// Sets the timer of a record that has none.
    #[inline(always)]
    fn set_timer(&mut self, slot: u32, at: Nanos) {
        self.record_mut(slot).timer = self.timers.set(slot, at);
    }

    /// Looks at every record, gone or not; removes those for which `keep` is false, telling their owners.
    pub fn retain(&mut self, keep: impl FnMut(&FlowKey, &mut Judged) -> bool, gone: impl FnMut(Owner)) {
        self.retain_of(self.len(), |_| true, keep, gone);
    }

    /// As [`Records::retain`], of these owners only, who have `count` records: the others' cost a few nanoseconds each,
    /// as far as they come before the last of these.
    pub fn retain_of(
        &mut self,
        count: usize,
        mut whose: impl FnMut(Owner) -> bool,
        mut keep: impl FnMut(&FlowKey, &mut Judged) -> bool,
        mut gone: impl FnMut(Owner),
    ) {
        let mut left = count;
        for slot in 1..self.slab.records.len() as u32 {
            if left == 0 {
                break;
            }
            let record = self.record(slot);
            if !record.is_used() || !whose(self.owner(slot)) {
                continue;
            }
            left -= 1;
            let mut judged = Judged {
                idle_minutes: record.idle_minutes,
                rule: record.rule,
                opened_by: record.opened_by(),
                ended: record.ended(),
            };
            if !keep(&self.key(slot), &mut judged) {
                let owner = self.owner(slot);
                self.remove(slot);
                gone(owner);
                continue;
            }
            let record = self.record_mut(slot);
            record.rule = judged.rule;
            if record.idle_minutes != judged.idle_minutes {
                record.idle_minutes = judged.idle_minutes;
                self.settle_idle(slot);
                self.reset_timer(slot);
            }
        }
    }

    /// Records ever opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Records that are neither gone nor ended at `now`.
    pub fn live(&self, now: Nanos) -> u64 {
        let slots = 1..self.slab.records.len() as u32;
        let live = |&slot: &u32| {
            let record = self.record(slot);
            record.is_used() && !record.ended() && self.gone_at(slot) > now
        };
        slots.filter(live).count() as u64
    }

    /// Records held, gone or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True if no record is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held from the system.
    pub fn memory(&self) -> usize {
        let vnets = self.vnets.capacity() * size_of::<u32>();
        self.slab.bytes() + self.index.bytes() + self.timers.bytes() + vnets + self.account_bytes()
    }

    /// True if huge pages back records and index, as they do once the table is not small and if the system gives them.
    pub fn huge_pages(&self) -> bool {
        self.slab.records.on_huge_pages() && self.index.on_huge_pages()
    }
}
