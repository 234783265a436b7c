//! When records are looked at again: a wheel of lists, and a heap where instants must be exact.
//!
//! A record stands in the list of the tick in which it would be gone if it were never used again. Once the tick has
//! passed it is gone, or moves to the tick in which it would be gone now. Lists are of blocks of 14 records, so that
//! those of a block can be fetched at once and each record knows its place by one number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::record::{Record, gone_at};
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
const ROOM: u32 = 14;

type Block = [u32; (HEAD + ROOM) as usize];

/// The tick of an instant.
#[inline]
pub fn tick(at: Nanos) -> u64 {
    at >> TICK
}

/// All timers.
pub struct Timers {
    /// The first block of each list; 0: empty. All but the first are full.
    heads: Box<[u32]>,
    /// One bit for each list that is not empty.
    busy: Box<[u64]>,
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
            heads: vec![0; TICKS].into_boxed_slice(),
            busy: vec![0; TICKS / 64].into_boxed_slice(),
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
    /// that has passed).
    pub fn set(&mut self, records: &mut Arena<Record>, slot: u32, at: Nanos) {
        let tick = tick(at).clamp(self.cursor, self.cursor + TICKS as u64 - 1);
        let list = tick as usize % TICKS;
        let head = self.heads.get(list).copied().unwrap_or(0);
        let block = self.blocks.get(head as usize);
        let (block, n) = if head != 0 && block[1] >> 16 < ROOM {
            (head, block[1] >> 16)
        } else {
            (self.add_block(list, head), 0)
        };
        let words = self.blocks.get_mut(block as usize);
        words[1] += 1 << 16;
        words[(n + HEAD) as usize & 15] = slot;
        records.get_mut(slot as usize).timer = (block << 4) | (n + HEAD);
    }

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
        if let (Some(head), Some(busy)) = (self.heads.get_mut(list), self.busy.get_mut(list / 64)) {
            *head = block;
            *busy |= 1 << (list % 64);
        }
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
        let head = self.heads.get(list).copied().unwrap_or(0);
        if head == 0 {
            return 0;
        }
        let words = self.blocks.get_mut(head as usize);
        words[1] -= 1 << 16;
        let left = words[1] >> 16;
        let slot = words[(left + HEAD) as usize & 15];
        if left == 0 {
            let next = std::mem::replace(&mut words[0], self.free);
            self.free = head;
            if let (Some(head), Some(busy)) = (self.heads.get_mut(list), self.busy.get_mut(list / 64)) {
                *head = next;
                *busy &= !(u64::from(next == 0) << (list % 64));
            }
        }
        slot
    }

    /// A record of a tick that has passed at `now`, without its timer, or slot 0, which is work done, too; the cursor
    /// follows. None: all are done with.
    pub fn passed(&mut self, records: &mut Arena<Record>, now: Nanos) -> Option<u32> {
        if let Some(&Reverse((at, slot))) = self.soon.peek()
            && tick(at) < tick(now)
        {
            self.soon.pop();
            return Some(if self.is_current(records, slot) { slot } else { 0 });
        }
        let now = tick(now);
        if self.cursor >= now {
            return None;
        }
        let list = self.next_busy(now);
        let slot = self.pop(list?);
        records.get_mut(slot as usize).timer = 0;
        Some(slot)
    }

    /// Moves the cursor to the next list that is not empty, at most to tick `now`.
    fn next_busy(&mut self, now: u64) -> Option<usize> {
        let end = now.min(self.cursor + TICKS as u64);
        while self.cursor < end {
            let list = self.cursor as usize % TICKS;
            let busy = self.busy.get(list / 64).copied().unwrap_or(0) >> (list % 64);
            if busy & 1 != 0 {
                return Some(list);
            }
            let skipped = u64::from(busy.trailing_zeros().min(64 - list as u32 % 64));
            self.cursor = (self.cursor + skipped).min(end);
        }
        self.cursor = now;
        None
    }

    /// A record that may be gone at `now`, exactly, without its timer. To be asked when [`Timers::passed`] gave none.
    pub fn due(&mut self, records: &mut Arena<Record>, now: Nanos) -> Option<u32> {
        if tick(now) != self.cursor {
            return None;
        }
        let list = self.cursor as usize % TICKS;
        while let slot @ 1.. = self.pop(list) {
            records.get_mut(slot as usize).timer = IN_HEAP;
            self.soon.push(Reverse((gone_at(records, slot), slot)));
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
