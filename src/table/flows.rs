//! Flow records: found by key, gone when idle, counted by their owner elsewhere.
//!
//! Records live in fixed chunks, so that the table grows without moving them; a hash table holds their numbers. A heap
//! of deadlines finds what has expired: an entry is pushed when a record is made or ends, and pushed again, later, when
//! it comes due but the record was used meanwhile. So `reap` is exact, and each record costs one push per idle time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::packet::Direction;
use crate::types::{Nanos, SECOND};

/// How long an ended record still carries what comes, other than SYN.
pub const ENDED: Nanos = 10 * SECOND;

/// Whose record it is and which packets belong to it. Local is the endpoint's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The owner: two owners never share a record.
    pub owner: Owner,
    /// Protocol number.
    pub protocol: u8,
    /// Local and remote port, or the ICMP identifier twice.
    pub ports: (u16, u16),
    /// Local address.
    pub local: IpAddr,
    /// Remote address.
    pub remote: IpAddr,
}

/// The endpoint that keeps a record: a VNet, and inside it a NIC or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The VNet's number.
    pub vnet: u32,
    /// 0: the endpoint is the local address itself. Else the number of a NIC or of an address that others' packets are
    /// sent to.
    pub endpoint: u32,
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When a packet last refreshed it; of an ended record, when it ended.
    pub last: Nanos,
    /// How long it may be idle.
    pub idle_seconds: u32,
    /// The rule that opened it.
    pub rule: u32,
    /// The direction of the packet that opened it.
    pub opened_by: Direction,
    /// FIN seen from the local and from the remote side.
    pub fin: (bool, bool),
    /// FIN was seen from both sides, or RST.
    pub ended: bool,
}

impl Record {
    /// The first instant at which it is gone.
    fn gone_at(&self) -> Nanos {
        if self.ended {
            return self.last.saturating_add(ENDED);
        }
        self.last.saturating_add(Nanos::from(self.idle_seconds) * SECOND).saturating_add(1)
    }
}

/// A record's place; stale when the record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    index: u32,
    generation: u32,
}

struct Entry {
    key: FlowKey,
    record: Record,
    generation: u32,
    used: bool,
}

const CHUNK: usize = 4096;

/// A table of flow records.
pub struct Flows {
    hasher: RandomState,
    index: HashTable<u32>,
    chunks: Vec<Vec<Entry>>,
    free: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(Nanos, Slot)>>,
    opened: u64,
}

impl Flows {
    /// An empty table; the hasher must be random, because its keys come from strangers.
    pub fn new(hasher: RandomState) -> Flows {
        Flows {
            hasher,
            index: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            deadlines: BinaryHeap::new(),
            opened: 0,
        }
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// The record of this key that is not gone at `now`.
    #[inline]
    pub fn find(&self, key: &FlowKey, now: Nanos) -> Option<(Slot, &Record)> {
        let hash = self.hasher.hash_one(key);
        let &index = self.index.find(hash, |&i| self.entry(i).key == *key)?;
        let entry = self.entry(index);
        (entry.record.gone_at() > now)
            .then_some((Slot { index, generation: entry.generation }, &entry.record))
    }

    /// The record at a place, if it is still the same one and not gone at `now`.
    pub fn at(&mut self, slot: Slot, now: Nanos) -> Option<&mut Record> {
        let entry = self.entry_mut(slot.index);
        let same = entry.used && entry.generation == slot.generation && entry.record.gone_at() > now;
        same.then_some(&mut entry.record)
    }

    /// Opens a record; there must be none of this key, gone or not (see [`Flows::remove`]).
    pub fn open(&mut self, key: FlowKey, record: Record) -> Slot {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index =
                    self.chunks.len().saturating_sub(1) * CHUNK + self.chunks.last().map_or(0, Vec::len);
                if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                if let Some(chunk) = self.chunks.last_mut() {
                    chunk.push(Entry { key, record, generation: 0, used: false });
                }
                index as u32
            }
        };
        let entry = self.entry_mut(index);
        entry.key = key;
        entry.record = record;
        entry.generation = entry.generation.wrapping_add(1);
        entry.used = true;
        let slot = Slot { index, generation: entry.generation };
        let hash = self.hasher.hash_one(key);
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        self.index.insert_unique(hash, index, |&i| {
            hasher.hash_one(chunks[i as usize / CHUNK][i as usize % CHUNK].key)
        });
        self.deadlines.push(Reverse((record.gone_at(), slot)));
        self.opened += 1;
        slot
    }

    /// Ends the record: it is gone ten seconds after `now`.
    pub fn end(&mut self, slot: Slot, now: Nanos) {
        if let Some(record) = self.at(slot, now) {
            record.ended = true;
            record.last = now;
            let gone_at = record.gone_at();
            self.deadlines.push(Reverse((gone_at, slot)));
        }
    }

    /// Removes the record of this key, gone or not; true if there was one.
    pub fn remove(&mut self, key: &FlowKey) -> bool {
        let hash = self.hasher.hash_one(key);
        let chunks = &self.chunks;
        let found =
            self.index.find_entry(hash, |&i| chunks[i as usize / CHUNK][i as usize % CHUNK].key == *key);
        let Ok(found) = found else { return false };
        let (index, _) = found.remove();
        self.entry_mut(index).used = false;
        self.free.push(index);
        true
    }

    /// Removes every record that is gone at `now`, telling its owner.
    #[inline]
    pub fn reap(&mut self, now: Nanos, mut gone: impl FnMut(&FlowKey)) {
        while let Some(&Reverse((deadline, slot))) = self.deadlines.peek()
            && deadline <= now
        {
            self.deadlines.pop();
            let entry = self.entry(slot.index);
            if !entry.used || entry.generation != slot.generation {
                continue;
            }
            let (key, gone_at) = (entry.key, entry.record.gone_at());
            if gone_at <= now {
                self.remove(&key);
                gone(&key);
            } else {
                self.deadlines.push(Reverse((gone_at, slot)));
            }
        }
    }

    /// Looks at every record; removes those for which `keep` is false, telling their owner.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(&FlowKey, &mut Record) -> bool,
        mut gone: impl FnMut(&FlowKey),
    ) {
        let mut lost = Vec::new();
        self.deadlines.clear();
        for (c, chunk) in self.chunks.iter_mut().enumerate() {
            for (i, entry) in chunk.iter_mut().enumerate().filter(|(_, e)| e.used) {
                if keep(&entry.key, &mut entry.record) {
                    let slot = Slot { index: (c * CHUNK + i) as u32, generation: entry.generation };
                    self.deadlines.push(Reverse((entry.record.gone_at(), slot)));
                } else {
                    lost.push(entry.key);
                }
            }
        }
        for key in lost {
            self.remove(&key);
            gone(&key);
        }
    }

    /// Records ever opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Records that are neither gone nor ended at `now`.
    pub fn live(&self, now: Nanos) -> u64 {
        let entries = self.chunks.iter().flatten();
        entries.filter(|e| e.used && !e.record.ended && e.record.gone_at() > now).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u16) -> FlowKey {
        let addr = IpAddr::from([10, 0, 0, 1]);
        FlowKey {
            owner: Owner { vnet: 1, endpoint: 0 },
            protocol: 17,
            ports: (n, 53),
            local: addr,
            remote: addr,
        }
    }

    fn record(last: Nanos) -> Record {
        let opened_by = Direction::Outbound;
        Record { last, idle_seconds: 240, rule: 0, opened_by, fin: (false, false), ended: false }
    }

    #[test]
    fn records_go_when_idle_and_stay_when_used() {
        let mut flows = Flows::new(RandomState::new());
        for n in 0..10_000 {
            flows.open(key(n), record(0));
        }
        let (slot, _) = flows.find(&key(7), 240 * SECOND).unwrap();
        assert!(flows.find(&key(7), 240 * SECOND + 1).is_none());
        flows.at(slot, 5).unwrap().last = 5 * SECOND;
        let mut gone = 0;
        flows.reap(240 * SECOND, |_| gone += 1);
        assert_eq!(gone, 0);
        flows.reap(240 * SECOND + 1, |_| gone += 1);
        assert_eq!((gone, flows.live(240 * SECOND + 1), flows.opened()), (9_999, 1, 10_000));
        flows.reap(245 * SECOND + 1, |_| gone += 1);
        assert_eq!(gone, 10_000);
        assert!(flows.at(slot, 0).is_none());
    }

    #[test]
    fn an_ended_record_lasts_ten_seconds() {
        let mut flows = Flows::new(RandomState::new());
        let slot = flows.open(key(1), record(0));
        flows.end(slot, SECOND);
        assert_eq!(flows.live(SECOND), 0);
        assert!(flows.find(&key(1), 11 * SECOND - 1).is_some());
        assert!(flows.find(&key(1), 11 * SECOND).is_none());
        let mut gone = 0;
        flows.reap(11 * SECOND, |_| gone += 1);
        assert_eq!(gone, 1);
        let again = flows.open(key(1), record(12 * SECOND));
        assert!(flows.at(slot, 12 * SECOND).is_none() && flows.at(again, 12 * SECOND).is_some());
        flows.reap(300 * SECOND, |_| gone += 1);
        assert_eq!(gone, 2);
    }

    #[test]
    fn retain_judges_every_record_once() {
        let mut flows = Flows::new(RandomState::new());
        for n in 0..100 {
            flows.open(key(n), record(0));
        }
        let mut gone = 0;
        flows.retain(
            |k, r| {
                r.idle_seconds = 1;
                k.ports.0 % 2 == 0
            },
            |_| gone += 1,
        );
        assert_eq!(gone, 50);
        flows.reap(SECOND + 1, |_| gone += 1);
        assert_eq!(gone, 100);
    }
}
