//! What flows have carried, for flow logs: kept only when somebody asks for it, beside the records.

use super::slab::MOST;
use super::{FlowKey, Records};
use crate::packet::Direction;
use crate::sys::Arena;
use crate::types::Nanos;

/// Packets of one direction of a flow, and their bytes: IP packets, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What has come of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its record was opened.
    Begun,
    /// It goes on.
    GoesOn,
    /// Its record was removed: it ended, was idle for too long, or is no longer allowed.
    Ended,
}

/// What there is to tell of a flow at one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// The record's key.
    pub key: FlowKey,
    /// The rule that opened it, by its number.
    pub rule: u32,
    /// The direction of the packet that opened it.
    pub opened_by: Direction,
    /// What has come of it.
    pub phase: Phase,
    /// When; of a flow that has ended, when its last packet came.
    pub at: Nanos,
    /// What the endpoint has sent since the last event of this flow.
    pub sent: Traffic,
    /// What the endpoint has received since then.
    pub received: Traffic,
}

/// Events that wait to be taken at most; more are lost, and counted.
pub const MOST_EVENTS: usize = 1 << 16;

/// What the flow of one slot has carried since it was last told of: a cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Account {
    sent: Traffic,
    received: Traffic,
    /// When its last packet came.
    last: Nanos,
    /// When it was last told of.
    told: Nanos,
}

/// The accounts of all slots: 64 bytes each, as many as there ever were records at a time.
pub(super) struct Accounts {
    of: Arena<Account>,
    events: Vec<FlowEvent>,
    lost: u64,
}

impl Accounts {
    fn new() -> Accounts {
        Accounts { of: Arena::new(Account::default(), MOST as usize), events: Vec::new(), lost: 0 }
    }

    fn bytes(&self) -> usize {
        self.of.bytes() + self.events.capacity() * size_of::<FlowEvent>()
    }

    fn begin(&mut self, slot: u32, now: Nanos) {
        while self.of.len() <= slot as usize {
            self.of.push(Account::default());
        }
        *self.of.get_mut(slot as usize) = Account { last: now, told: now, ..Account::default() };
    }

    fn note(&mut self, event: FlowEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }
}

impl Records {
    /// From now on what flows carry is counted, and what comes of them is told; nothing if that is so already.
    pub fn count_traffic(&mut self) {
        if self.accounts.is_none() {
            self.accounts = Some(Box::new(Accounts::new()));
        }
    }

    /// True if what flows carry is counted.
    #[inline(always)]
    pub fn counts_traffic(&self) -> bool {
        self.accounts.is_some()
    }

    /// A packet of so many bytes was forwarded, which the endpoint of the first record has sent and that of the second has
    /// received. Nothing unless traffic is counted.
    #[inline(always)]
    pub fn charge(&mut self, slots: [Option<u32>; 2], bytes: u32, now: Nanos) {
        if self.counts_traffic() {
            self.charge_some(slots, bytes, now);
        }
    }

    /// As [`Records::charge`], of a packet that took a stored way: the record that it met first, and which of its ways.
    #[inline(always)]
    pub fn charge_way(&mut self, slot: u32, reversed: bool, bytes: u32, now: Nanos) {
        if self.counts_traffic() {
            let slots = if reversed { [None, Some(slot)] } else { [Some(slot), self.record(slot).partner()] };
            self.charge_some(slots, bytes, now);
        }
    }

    #[inline(never)]
    fn charge_some(&mut self, slots: [Option<u32>; 2], bytes: u32, now: Nanos) {
        let Some(accounts) = &mut self.accounts else { return };
        let of = &mut accounts.of;
        let mut add = |slot: Option<u32>, sent: bool| {
            let Some(slot) = slot.filter(|slot| (*slot as usize) < of.len()) else { return };
            let account = of.get_mut(slot as usize);
            let traffic = if sent { &mut account.sent } else { &mut account.received };
            traffic.packets += 1;
            traffic.bytes += u64::from(bytes);
            account.last = now;
        };
        add(slots[0], true);
        add(slots[1], false);
    }

    /// A record was opened.
    #[inline(always)]
    pub(super) fn tell_begun(&mut self, slot: u32) {
        if self.counts_traffic() {
            self.begin_account(slot);
        }
    }

    #[inline(never)]
    fn begin_account(&mut self, slot: u32) {
        let now = self.record(slot).last;
        if let Some(accounts) = &mut self.accounts {
            accounts.begin(slot, now);
        }
        self.tell(slot, Phase::Begun, now);
    }

    /// A record is about to be removed.
    #[inline(always)]
    pub(super) fn tell_ended(&mut self, slot: u32) {
        if self.counts_traffic() {
            self.tell(slot, Phase::Ended, 0);
        }
    }

    /// Tells of a flow, with what it has carried since it was last told of; an end was when the last packet came.
    #[inline(never)]
    fn tell(&mut self, slot: u32, phase: Phase, now: Nanos) {
        let (key, record) = (self.key(slot), self.record(slot));
        let (rule, opened_by) = (record.rule, record.opened_by());
        let Some(accounts) = &mut self.accounts else { return };
        if accounts.of.len() <= slot as usize {
            // It was opened before anybody asked.
            accounts.begin(slot, now);
        }
        let account = accounts.of.get_mut(slot as usize);
        let at = if phase == Phase::Ended { account.last } else { now };
        let Account { sent, received, last, told } =
            std::mem::replace(account, Account { told: at, last: account.last, ..Account::default() });
        accounts.note(FlowEvent { key, rule, opened_by, phase, at: at.max(last).max(told), sent, received });
    }

    /// Tells of the flows among so many slots from `first` on that have carried something and were not told of for `every`;
    /// the slot to go on from. With an `every` of 0 also of those that have ended and are not yet removed.
    pub fn tell_going_on(&mut self, first: u32, count: u32, now: Nanos, every: Nanos) -> u32 {
        let Some(accounts) = &self.accounts else { return 1 };
        let all = (accounts.of.len() as u32).min(self.slab.records.len() as u32);
        let first = if first >= all { 1 } else { first.max(1) };
        let end = first.saturating_add(count).min(all);
        for slot in first..end {
            let Some(accounts) = &self.accounts else { break };
            let Account { sent, received, told, .. } = *accounts.of.get(slot as usize);
            let is_due = now.saturating_sub(told) >= every && sent.packets + received.packets > 0;
            let (used, ended) = (self.record(slot).is_used(), self.record(slot).ended());
            // One that has ended is told of when it is removed, but for when all there is is to be told.
            match ended {
                false if is_due && used => self.tell(slot, Phase::GoesOn, now),
                true if is_due && used && every == 0 => self.tell(slot, Phase::Ended, now),
                _ => {}
            }
        }
        end
    }

    /// Events that wait to be taken.
    #[inline]
    pub fn events(&self) -> usize {
        self.accounts.as_ref().map_or(0, |accounts| accounts.events.len())
    }

    /// Takes the events that have come up, in their order, and how many were lost since they were last taken.
    pub fn take_events(&mut self) -> (Vec<FlowEvent>, u64) {
        match &mut self.accounts {
            Some(accounts) => (std::mem::take(&mut accounts.events), std::mem::take(&mut accounts.lost)),
            None => (Vec::new(), 0),
        }
    }

    /// Bytes of the accounts.
    pub(super) fn account_bytes(&self) -> usize {
        self.accounts.as_ref().map_or(0, |accounts| accounts.bytes())
    }
}
