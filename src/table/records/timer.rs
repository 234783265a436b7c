//! When records are looked at again: a wheel of lists, and a heap where instants must be exact.
//!
//! A record stands in the list of the tick in which it would be gone if it were never used again. Once the tick has
//! passed it is gone, or moves to the tick in which it would be gone now. Lists are of blocks of 14 records, so that
//! those of a block can be fetched at once and each record knows its place by one number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::record::{Record, due_at};
use crate::sys::Arena;
use crate::types::Nanos;

/// A tick is 2^26 ns, 67 ms.
const TICK: u32 = 26;

/// How long a tick is.
#[cfg(test)]
pub const TICK_NANOS: Nanos = 1 << TICK;

/// Ticks of the wheel: 36 minutes, above Azure's longest timeout; a later instant waits in the last tick and moves on
/// from there.
const TICKS: usize = 1 << 15;

/// A record whose timer is this stands in the heap.
const IN_HEAP: u32 = u32::MAX;

/// Words of a block before its records: the next block of the list, and tick and number of records.
const HEAD: u32 = 2;

/// Records of a block.
pub const ROOM: u32 = 14;

type Block = [u32; (HEAD + ROOM) as usize];

/// The tick of an instant.
#[inline]
pub fn tick(at: Nanos) -> u64 {
    at >> TICK
}

/// Zeroes that the system gives, untouched as long as nobody writes to them.
fn zeroes<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("as many as asked for"),
    }
}

/// The records of a block; none of block 0.
#[inline]
fn slots(block: &Block) -> &[u32] {
    let (head, slots) = block.split_at(HEAD as usize);
    slots.get(..(head[1] >> 16) as usize).unwrap_or(slots)
}

/// All timers.
pub struct Timers {
    /// The first block of each list; 0: empty. All but the first are full.
    heads: Box<[u32; TICKS]>,
    /// One bit for each list that is not empty.
    busy: Box<[u64; TICKS / 64]>,
    /// Block 0 is in no list.
    blocks: Arena<Block>,
    free: u32,
    /// Everything before this tick is done with.
    cursor: u64,
    /// Records of the cursor's tick, by the instants in which they are gone, as far as an exact answer was asked for.
    /// Entries of a record that is no longer [`IN_HEAP`], or gone since at that place, mean nothing.
    soon: BinaryHeap<Reverse<(Nanos, u32)>>,
}

impl Timers {
    pub fn new() -> Timers {
        Timers {
            heads: zeroes(),
            busy: zeroes(),
            blocks: Arena::new([0; 16]),
            free: 0,
            cursor: 0,
            soon: BinaryHeap::new(),
        }
    }

    /// With no record at all, time may start anywhere.
    pub fn restart(&mut self, now: Nanos) {
        self.cursor = tick(now);
        self.soon.clear();
    }

    /// Puts a record that has no timer where it is looked at at `at` or soon after (never later than a tick, unless
    /// that has passed); what is to be its `timer`.
    #[inline(always)]
    #[must_use]
    pub fn set(&mut self, slot: u32, at: Nanos) -> u32 {
        let list = self.list(at);
        let mut block = self.heads[list];
        let mut words = self.blocks.get_mut(block as usize);
        if block == 0 || words[1] >= ROOM << 16 {
            block = self.add_block(list, block);
            words = self.blocks.get_mut(block as usize);
        }
        let place = (words[1] >> 16) + HEAD;
        words[1] += 1 << 16;
        words[place as usize & 15] = slot;
        (block << 4) | place
    }

    /// The list of an instant.
    #[inline(always)]
    fn list(&self, at: Nanos) -> usize {
        tick(at).min(self.cursor + TICKS as u64 - 1).max(self.cursor) as usize % TICKS
    }

    /// Asks for the place of the next timer of about this instant.
    #[inline(always)]
    pub fn prefetch(&self, at: Nanos) {
        self.blocks.prefetch(self.heads[self.list(at)] as usize);
    }

    #[inline(never)]
    fn add_block(&mut self, list: usize, next: u32) -> u32 {
        let mut words = [0; 16];
        words[0] = next;
        words[1] = list as u32;
        let block = self.free;
        let block = if block == 0 {
            self.blocks.push(words) as u32
        } else {
            let place = self.blocks.get_mut(block as usize);
            self.free = place[0];
            *place = words;
            block
        };
        self.heads[list % TICKS] = block;
        self.busy[list % TICKS / 64] |= 1 << (list % 64);
        block
    }

    /// Takes a record's timer away: the last record of its list takes the place.
    pub fn unset(&mut self, records: &mut Arena<Record>, slot: u32) {
        let record = records.get_mut(slot as usize);
        let timer = std::mem::replace(&mut record.timer, 0);
        if timer == IN_HEAP || timer == 0 {
            return;
        }
        let list = self.blocks.get((timer >> 4) as usize)[1] as usize & 0xffff;
        let last = self.pop(list);
        if last != 0 && last != slot {
            self.blocks.get_mut((timer >> 4) as usize)[timer as usize & 15] = last;
            records.get_mut(last as usize).timer = timer;
        }
    }

    /// Takes the last record off a list; 0: the list is empty.
    fn pop(&mut self, list: usize) -> u32 {
        let mut slot = 0;
        self.take(list, std::slice::from_mut(&mut slot));
        slot
    }

    /// Takes records off the end of a list, of one block and no more than there is room for; how many. They have no
    /// place any more; that they have no timer is for the caller to see to.
    pub fn take(&mut self, list: usize, room: &mut [u32]) -> usize {
        let head = self.heads[list % TICKS];
        let words = self.blocks.get_mut(head as usize);
        let held = words[1] >> 16;
        let left = held.saturating_sub(room.len() as u32);
        let taken = words.iter().skip((left + HEAD) as usize).take((held - left) as usize);
        room.iter_mut().zip(taken).for_each(|(to, slot)| *to = *slot);
        words[1] = words[1] & 0xffff | left << 16;
        if left == 0 && head != 0 {
            let next = std::mem::replace(&mut words[0], self.free);
            self.free = head;
            self.heads[list % TICKS] = next;
            self.busy[list % TICKS / 64] &= !(u64::from(next == 0) << (list % 64));
        }
        (held - left) as usize
    }

    /// A record that stands in the heap for a tick that has passed at `now`, without its timer, or slot 0, for an entry
    /// that means nothing any more.
    pub fn passed(&mut self, records: &mut Arena<Record>, now: Nanos) -> Option<u32> {
        let &Reverse((at, slot)) = self.soon.peek()?;
        if tick(at) >= tick(now) {
            return None;
        }
        self.soon.pop();
        Some(if self.is_current(records, slot) { slot } else { 0 })
    }

    /// Moves the cursor to the next list whose tick has passed at `now` and that is not empty.
    #[inline]
    pub fn advance(&mut self, now: Nanos) -> Option<usize> {
        if self.cursor < tick(now) { self.next_busy(tick(now)) } else { None }
    }

    /// What comes off a list next.
    #[inline]
    pub fn upcoming(&self, list: usize) -> &[u32] {
        let block = self.blocks.get(self.heads[list % TICKS] as usize);
        self.blocks.prefetch(block[0] as usize);
        slots(block)
    }

    /// Moves the cursor to the next list that is not empty, at most to tick `now`.
    fn next_busy(&mut self, now: u64) -> Option<usize> {
        let end = now.min(self.cursor + TICKS as u64);
        while self.cursor < end {
            let list = self.cursor as usize % TICKS;
            let busy = self.busy[list / 64] >> (list % 64);
            if busy & 1 != 0 {
                return Some(list);
            }
            let skipped = u64::from(busy.trailing_zeros().min(64 - list as u32 % 64));
            self.cursor = (self.cursor + skipped).min(end);
        }
        self.cursor = now;
        None
    }

    /// A record that may be gone at `now`, exactly, without its timer. To be asked when all passed ticks are done with.
    pub fn due(&mut self, records: &mut Arena<Record>, now: Nanos) -> Option<u32> {
        if tick(now) != self.cursor {
            return None;
        }
        let list = self.cursor as usize % TICKS;
        while let slot @ 1.. = self.pop(list) {
            records.get_mut(slot as usize).timer = IN_HEAP;
            self.soon.push(Reverse((due_at(records, slot), slot)));
        }
        while let Some(&Reverse((at, slot))) = self.soon.peek()
            && at <= now
        {
            self.soon.pop();
            if self.is_current(records, slot) {
                return Some(slot);
            }
        }
        None
    }

    /// True of a heap's entry that means its record still; the timer is taken away.
    fn is_current(&self, records: &mut Arena<Record>, slot: u32) -> bool {
        let record = records.get_mut(slot as usize);
        let current = record.timer == IN_HEAP;
        if current {
            record.timer = 0;
        }
        current
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        self.heads.len() * size_of::<u32>()
            + self.busy.len() * size_of::<u64>()
            + self.blocks.bytes()
            + self.soon.capacity() * size_of::<Reverse<(Nanos, u32)>>()
    }
}
