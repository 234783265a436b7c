//! The records themselves: slots that never move and are given again, last freed first.

use super::index::SLOTS;
use super::record::{Record, WATCHED};
use crate::sys::Arena;

/// Records and what stands beside them. Slot 0 is never given: it stands for none.
pub struct Slab {
    pub records: Arena<Record>,
    /// How often the record of a slot was removed while somebody watched it.
    generations: Arena<u32>,
    /// Free slots, chained by their records' `local`.
    free: u32,
    len: usize,
    /// The addresses of flows that are not IPv4, as IPv6 ones.
    pairs: Arena<[u128; 2]>,
    free_pair: u32,
}

impl Slab {
    pub fn new() -> Slab {
        Slab {
            records: Arena::new(Record::default()),
            generations: Arena::new(0),
            free: 0,
            len: 0,
            pairs: Arena::new([0; 2]),
            free_pair: 0,
        }
    }

    /// Gives a slot, whose record is for the caller to write as a whole; `None`: there is none left.
    #[inline(always)]
    pub fn take(&mut self) -> Option<u32> {
        let slot = self.free;
        if slot == 0 {
            return self.extend();
        }
        self.free = self.records.get(slot as usize).local;
        // The next one is as good as known: fetch it while there is time.
        self.prefetch_next();
        self.len += 1;
        Some(slot)
    }

    #[inline(never)]
    fn extend(&mut self) -> Option<u32> {
        let slot = u32::try_from(self.records.len()).ok().filter(|&slot| slot < SLOTS)?;
        self.records.push(Record::default());
        self.generations.push(0);
        self.len += 1;
        Some(slot)
    }

    /// Asks for the slot that is given next.
    #[inline(always)]
    pub fn prefetch_next(&self) {
        self.records.prefetch(self.free as usize);
    }

    /// Frees a slot. What is left of its record matches nothing.
    #[inline(always)]
    pub fn give_back(&mut self, slot: u32) {
        let record = self.records.get_mut(slot as usize);
        let watched = record.flags & WATCHED != 0;
        record.flags = 0;
        record.timer = 0;
        record.local = self.free;
        self.free = slot;
        self.len -= 1;
        if watched {
            self.next_generation(slot);
        }
    }

    #[cold]
    fn next_generation(&mut self, slot: u32) {
        let generation = self.generations.get_mut(slot as usize);
        *generation = generation.wrapping_add(1);
    }

    /// A number that is another one once the slot's record is removed. It counts only while someone may hold it.
    pub fn watch(&mut self, slot: u32) -> u32 {
        let record = self.records.get_mut(slot as usize);
        if record.is_used() {
            record.flags |= WATCHED;
        }
        self.generation(slot)
    }

    #[inline]
    pub fn generation(&self, slot: u32) -> u32 {
        *self.generations.get(slot as usize)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn pair(&self, place: u32) -> [u128; 2] {
        *self.pairs.get(place as usize)
    }

    pub fn take_pair(&mut self, pair: [u128; 2]) -> u32 {
        if self.free_pair == 0 {
            return self.pairs.push(pair) as u32;
        }
        let place = self.free_pair;
        let held = self.pairs.get_mut(place as usize);
        self.free_pair = held[0] as u32;
        *held = pair;
        place
    }

    pub fn give_back_pair(&mut self, place: u32) {
        *self.pairs.get_mut(place as usize) = [u128::from(self.free_pair), 0];
        self.free_pair = place;
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        self.records.bytes() + self.generations.bytes() + self.pairs.bytes()
    }
}
