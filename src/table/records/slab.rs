//! The records themselves: slots that never move and are given again, last freed first.

use super::index::SLOTS;
use super::record::Record;
use crate::sys::Arena;

/// Records and what stands beside them. Slot 0 is never given: it stands for none.
pub struct Slab {
    pub records: Arena<Record>,
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

    /// The slot that is given next; `None`: there is none left.
    #[inline]
    pub fn next(&self) -> Option<u32> {
        match self.free {
            0 => u32::try_from(self.records.len()).ok().filter(|&slot| slot < SLOTS),
            slot => Some(slot),
        }
    }

    /// Gives the slot that [`Slab::next`] named to this record.
    #[inline]
    pub fn take(&mut self, record: Record) {
        self.len += 1;
        if self.free == 0 {
            self.records.push(record);
            self.generations.push(0);
            return;
        }
        let place = self.records.get_mut(self.free as usize);
        self.free = place.local;
        *place = record;
        // The next one is as good as known: fetch it while there is time.
        self.records.prefetch(self.free as usize);
    }

    /// Frees a slot.
    #[inline]
    pub fn give_back(&mut self, slot: u32) {
        self.len -= 1;
        *self.records.get_mut(slot as usize) = Record { local: self.free, ..Record::default() };
        self.free = slot;
        let generation = self.generations.get_mut(slot as usize);
        *generation = generation.wrapping_add(1);
    }

    /// Asks for what freeing a slot changes.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        self.records.prefetch(slot as usize);
        self.generations.prefetch(slot as usize);
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
