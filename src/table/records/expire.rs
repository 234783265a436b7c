//! Expiry: records that are gone are removed, as many at a time as one likes.

use super::record::{LINKED, WIDE, due_at, idle};
use super::timer::ROOM;
use super::{Owner, Records};
use crate::sys::{Base, Wide};
use crate::types::Nanos;

/// A record whose timer has gone off: where it and its partner stand in the index.
#[derive(Clone, Copy, Default)]
struct Looked {
    slot: u32,
    hash: u32,
    place: u32,
    partners_place: u32,
}

impl Records {
    /// Removes records that are gone at `now`, telling their owners; looks at no more than `budget` records and may
    /// leave some, of the last 67 ms or for want of budget, for later. How many it has looked at.
    #[inline(always)]
    pub fn reap<W: Wide>(
        &mut self,
        wide: W,
        now: Nanos,
        budget: usize,
        mut gone: impl FnMut(Owner),
    ) -> usize {
        let mut done = 0;
        while done < budget
            && let Some(slot) = self.timers.passed(&mut self.slab.records, now)
        {
            done += self.look(slot, now, budget - done, &mut gone);
        }
        let mut fetched = None;
        while done < budget
            && let Some(list) = self.timers.advance(now)
        {
            if fetched != Some(list) {
                self.fetch_block(list);
                fetched = Some(list);
            }
            done += self.reap_block(wide, list, now, budget - done, &mut gone);
        }
        done
    }

    /// Asks for the records of a list's next block.
    #[inline(always)]
    fn fetch_block(&self, list: usize) {
        self.timers.upcoming(list).iter().for_each(|&slot| self.slab.records.prefetch(slot as usize));
    }

    /// Looks at the records of one block of timers, which have been asked for; asks for those of the next.
    #[inline(always)]
    fn reap_block<W: Wide>(
        &mut self,
        wide: W,
        list: usize,
        now: Nanos,
        budget: usize,
        gone: &mut impl FnMut(Owner),
    ) -> usize {
        let mut slots = [0; ROOM as usize];
        let mut block = [Looked::default(); ROOM as usize];
        let room = budget.min(slots.len());
        let count = self.timers.take(list, &mut slots[..room]);
        for (&slot, looked) in slots.iter().zip(&mut block).take(count) {
            *looked = self.look_up(slot);
        }
        self.fetch_block(list);
        let mut done = count;
        for looked in block.iter().take(count) {
            done += self.settle(wide, looked, now, budget - done, gone);
        }
        done
    }

    /// Finds where a record and its partner stand in the index, and asks for all that their removal changes.
    #[inline(always)]
    fn look_up(&self, slot: u32) -> Looked {
        let mut looked = Looked { slot, ..Looked::default() };
        let record = self.record(slot);
        looked.hash = self.hash_of(record);
        looked.place = self.index.place(looked.hash);
        self.index.prefetch(looked.place);
        if let Some((partner, hash)) = record.partner_and_hash() {
            looked.partners_place = self.index.place(hash);
            self.index.prefetch(looked.partners_place);
            self.prefetch_record(partner);
        }
        looked
    }

    /// Removes every record that is gone at `now`, telling its owner.
    pub fn reap_all(&mut self, now: Nanos, mut gone: impl FnMut(Owner)) {
        self.reap(Base, now, usize::MAX, &mut gone);
        while let Some(slot) = self.timers.due(&mut self.slab.records, now) {
            self.look(slot, now, usize::MAX, &mut gone);
        }
    }

    /// Looks at a record without timer, if there is one in this slot; how many it was.
    #[inline(never)]
    fn look(&mut self, slot: u32, now: Nanos, budget: usize, gone: &mut impl FnMut(Owner)) -> usize {
        if !self.record(slot).is_used() {
            return 1;
        }
        1 + self.settle(Base, &self.look_up(slot), now, budget - 1, gone)
    }

    /// Removes a record whose timer has gone off if it is gone, else sets its timer. So too its partner, if the timer
    /// was for both and `budget` allows for one more: how many more it was.
    #[inline(always)]
    fn settle<W: Wide>(
        &mut self,
        wide: W,
        looked: &Looked,
        now: Nanos,
        budget: usize,
        gone: &mut impl FnMut(Owner),
    ) -> usize {
        let &Looked { slot, hash, place, partners_place } = looked;
        let record = self.record(slot);
        let Some((partner, partners_hash)) = record.partner_and_hash() else {
            let gone_at = record.gone_after(record.last);
            if gone_at > now {
                self.set_timer(slot, gone_at);
            } else {
                self.tell_and_discard(wide, slot, place, hash, gone);
            }
            return 0;
        };
        let other = self.record(partner);
        let last = record.last.max(other.last);
        // Linked records have not ended, so the one that may be idle for longer is the last to go.
        let idle = idle(record.idle_minutes.max(other.idle_minutes));
        if other.timer != 0 || now.saturating_sub(last) <= idle || budget == 0 {
            self.settle_apart(looked, now, gone);
            return 0;
        }
        let owners = [self.owner_of(record), self.owner_of(other)];
        owners.into_iter().for_each(&mut *gone);
        self.index.remove_at(wide, place, hash, slot);
        self.index.remove_at(wide, partners_place, partners_hash, partner);
        if self.counts_traffic() || !self.slab.give_back_two(slot, partner) {
            self.give_back(slot);
            self.give_back(partner);
        }
        1
    }

    /// As [`Records::settle`], of a linked record that does not go together with its partner.
    #[inline(never)]
    fn settle_apart(&mut self, looked: &Looked, now: Nanos, gone: &mut impl FnMut(Owner)) {
        let &Looked { slot, hash, place, .. } = looked;
        let Some((partner, partners_hash)) = self.record(slot).partner_and_hash() else { return };
        let last = self.last(slot);
        if self.record(slot).gone_after(last) <= now {
            self.leave(partner, last);
            self.tell_and_discard(Base, slot, place, hash, gone);
            return;
        }
        let other = self.record(partner);
        let partner_is_gone = other.timer == 0 && other.gone_after(last) <= now;
        // What it says of its place among the timers is no longer so.
        self.record_mut(slot).timer = 0;
        if partner_is_gone {
            self.leave(slot, last);
            self.tell_and_discard(Base, partner, self.index.place(partners_hash), partners_hash, gone);
        } else {
            self.set_timer(slot, due_at(&self.slab.records, slot));
        }
    }

    #[inline(always)]
    fn tell_and_discard<W: Wide>(
        &mut self,
        wide: W,
        slot: u32,
        place: u32,
        hash: u32,
        gone: &mut impl FnMut(Owner),
    ) {
        gone(self.owner(slot));
        self.discard(wide, slot, place, hash);
    }

    /// Removes a record that has no timer, and no partner that stays.
    #[inline(always)]
    pub(super) fn discard<W: Wide>(&mut self, wide: W, slot: u32, place: u32, hash: u32) {
        self.index.remove_at(wide, place, hash, slot);
        let record = self.record(slot);
        if record.alias != 0 && record.flags & LINKED == 0 {
            self.remove_alias(slot);
        }
        self.give_back(slot);
    }

    /// Frees the slot of a record that is no longer in the index.
    #[inline(always)]
    fn give_back(&mut self, slot: u32) {
        self.tell_ended(slot);
        let record = self.record(slot);
        if record.flags & WIDE != 0 {
            self.slab.give_back_pair(record.local);
        }
        self.slab.give_back(slot);
    }
}
