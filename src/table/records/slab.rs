//! The records themselves: slots that never move and are given again, last freed first.

use super::index::SLOTS;
use super::record::{Record, WATCHED, WIDE};
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

    /// The slot that is given next; `None`: there is none left.
    #[inline(always)]
    pub fn next(&mut self) -> Option<u32> {
        if self.free == 0 {
            self.free = self.extend()?;
        }
        Some(self.free)
    }

    /// The slots that are given next.
    #[inline(always)]
    pub fn next_two(&mut self) -> Option<[u32; 2]> {
        let first = self.next()?;
        let mut second = self.records.get(first as usize).local;
        if second == 0 {
            second = self.extend()?;
            self.records.get_mut(first as usize).local = second;
        }
        Some([first, second])
    }

    #[inline(never)]
    fn extend(&mut self) -> Option<u32> {
        let slot = u32::try_from(self.records.len()).ok().filter(|&slot| slot < SLOTS)?;
        self.records.push(Record::default());
        self.generations.push(0);
        Some(slot)
    }

    /// Gives the slot that [`Slab::next`] named to this record.
    #[inline(always)]
    pub fn take(&mut self, record: Record) {
        let place = self.records.get_mut(self.free as usize);
        self.free = place.local;
        *place = record;
        self.len += 1;
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
        record.free(self.free);
        self.free = slot;
        self.len -= 1;
        if watched {
            self.next_generation(slot);
        }
    }

    /// Frees two slots, unless they are one, or more than that is to be done.
    #[inline(always)]
    pub fn give_back_two(&mut self, first: u32, second: u32) -> bool {
        let Some((a, b)) = self.records.two_mut(first as usize, second as usize) else { return false };
        if (a.flags | b.flags) & (WATCHED | WIDE) != 0 {
            return false;
        }
        a.free(second);
        b.free(self.free);
        self.free = first;
        self.len -= 2;
        true
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
