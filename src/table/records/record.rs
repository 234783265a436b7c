//! One flow record: a cache line.

use super::key::ENDED;
use crate::packet::Direction;
use crate::sys::Arena;
use crate::types::{Nanos, SECOND};

/// How packets of a flow leave, valid for packets of one arrival. All zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Where such packets come from.
    pub arrival: u32,
    /// What is put around them.
    pub adjacency: u32,
    /// The route they take.
    pub route: u32,
}

/// What an endpoint knows of a flow.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Record {
    /// IPv4 addresses; of others, `local` is the place of the pair.
    pub(super) local: u32,
    pub(super) remote: u32,
    /// The local port above the remote one.
    pub(super) ports: u32,
    /// The endpoint with the highest bit set, or the VNet of an endpoint that is the local address.
    pub(super) owner: u32,
    pub(super) protocol: u8,
    pub(super) flags: u8,
    pub(super) idle_minutes: u8,
    /// The smaller idle time of this record and its partner.
    pub(super) way_idle_minutes: u8,
    /// The rule that opened it.
    pub rule: u32,
    /// When a packet last refreshed it; of an ended record, when it ended.
    pub(super) last: Nanos,
    /// Its place among the timers; 0: it has none, and its partner's is for both.
    pub(super) timer: u32,
    /// The hash of its second entry in the index; 0: it has none. Of a linked record, which has none, its own hash.
    pub(super) alias: u32,
    /// The way of packets that arrive from the endpoint; then that of packets that arrive from elsewhere and meet this
    /// record first. Of a linked record the second is no way: its `arrival` is the partner's slot, its `adjacency` the
    /// partner's hash, its `route` the rule of the partner.
    pub(super) ways: [Stored; 2],
}

/// One cache line, neither more nor less.
const _: [(); 64] = [(); size_of::<Record>()];

pub(super) const USED: u8 = 1;
pub(super) const WIDE: u8 = 2;
pub(super) const OPENED_INBOUND: u8 = 4;
pub(super) const FIN_LOCAL: u8 = 8;
pub(super) const FIN_REMOTE: u8 = 16;
pub(super) const HAS_ENDED: u8 = 32;
pub(super) const LINKED: u8 = 64;
/// Somebody holds the generation of its slot.
pub(super) const WATCHED: u8 = 128;

/// Live records of IPv4 flows of a protocol: which bits of protocol and flags count, and how they are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Bits that count.
    pub mask: u32,
    /// How they are.
    pub wanted: u32,
}

impl Kind {
    /// Of this protocol; `reversed`: only if they are not linked.
    #[inline(always)]
    pub fn new(protocol: u32, reversed: bool) -> Kind {
        const LIVE: u32 = u16::from_le_bytes([0xff, USED | WIDE | HAS_ENDED]) as u32;
        let linked = if reversed { (LINKED as u32) << 8 } else { 0 };
        Kind { mask: LIVE | linked, wanted: protocol | (USED as u32) << 8 }
    }
}

/// One minute of packet time.
const MINUTE: Nanos = 60 * SECOND;

/// How long so many minutes are.
#[inline(always)]
pub(super) fn idle(minutes: u8) -> Nanos {
    Nanos::from(minutes) * MINUTE
}

impl Record {
    /// True if it is the record of an IPv4 flow with these addresses (local | remote << 32) and ports (local above remote),
    /// and of this [`Kind`]. Whose it is, and whether it is still fresh, is left to ask.
    #[inline(always)]
    pub fn is_live_ipv4(&self, addresses: u64, ports: u32, kind: Kind) -> bool {
        let own = u64::from(self.local) | u64::from(self.remote) << 32;
        let own_kind = u32::from(u16::from_le_bytes([self.protocol, self.flags]));
        own == addresses && self.ports == ports && own_kind & kind.mask == kind.wanted
    }

    /// True if neither it nor its partner has been idle for too long, as far as it knows itself: a linked record that
    /// only its partner keeps alive says no.
    #[inline(always)]
    pub fn fresh(&self, now: Nanos) -> bool {
        now.wrapping_sub(self.last) <= idle(self.way_idle_minutes)
    }

    /// A packet of the flow was forwarded; the record has not ended.
    #[inline(always)]
    pub fn touch(&mut self, now: Nanos) {
        self.last = now;
    }

    /// True if it belongs to a flow; false of a slot that is not in use.
    #[inline(always)]
    pub fn is_used(&self) -> bool {
        self.flags & USED != 0
    }

    /// True once FIN was seen from both sides, or RST.
    #[inline(always)]
    pub fn ended(&self) -> bool {
        self.flags & HAS_ENDED != 0
    }

    /// The slot of the record that is refreshed with this one.
    #[inline(always)]
    pub fn partner(&self) -> Option<u32> {
        (self.flags & LINKED != 0).then_some(self.ways[1].arrival)
    }

    /// The slot of its partner, and the hash by which that is found.
    #[inline(always)]
    pub(super) fn partner_and_hash(&self) -> Option<(u32, u32)> {
        let Stored { arrival, adjacency, .. } = self.ways[1];
        (self.flags & LINKED != 0).then_some((arrival, adjacency))
    }

    /// The stored way of packets that arrive from the endpoint, or, `reversed`, of those that arrive from elsewhere and
    /// meet this record first. Of a linked record only the first is one, and [`Record::is_live_ipv4`] says so.
    #[inline(always)]
    pub fn way(&self, reversed: bool) -> &Stored {
        &self.ways[usize::from(reversed)]
    }

    /// Keeps a way; nothing to a linked record whose second way it would be.
    #[inline]
    pub fn keep_way(&mut self, reversed: bool, way: Stored) {
        if !reversed || self.flags & LINKED == 0 {
            self.ways[usize::from(reversed)] = way;
        }
    }

    /// The rule that verdicts of packets that take the way `out` name: the one that opened the last record they meet.
    #[inline(always)]
    pub fn way_rule(&self) -> u32 {
        let of_partner = self.ways[1].route;
        if self.flags & LINKED != 0 { of_partner } else { self.rule }
    }

    /// Sets the rule of the partner, which verdicts name.
    #[inline]
    pub fn set_way_rule(&mut self, rule: u32) {
        if self.flags & LINKED != 0 {
            self.ways[1].route = rule;
        }
    }

    /// The direction of the packet that opened it.
    #[inline]
    pub fn opened_by(&self) -> Direction {
        if self.flags & OPENED_INBOUND != 0 { Direction::Inbound } else { Direction::Outbound }
    }

    /// Notes a FIN that crosses the endpoint this way; true if both sides have sent one now.
    #[inline]
    pub fn see_fin(&mut self, direction: Direction) -> bool {
        self.flags |= if direction == Direction::Outbound { FIN_LOCAL } else { FIN_REMOTE };
        self.fin() == (true, true)
    }

    /// FIN seen from the local and from the remote side.
    #[inline]
    pub fn fin(&self) -> (bool, bool) {
        (self.flags & FIN_LOCAL != 0, self.flags & FIN_REMOTE != 0)
    }

    /// Protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// How long it may be idle.
    #[inline]
    pub fn idle_minutes(&self) -> u8 {
        self.idle_minutes
    }

    /// No longer has a partner; `last` is the later use of both. Stored ways were made for the two of them.
    #[inline]
    pub(super) fn leave(&mut self, last: Nanos) {
        self.flags &= !LINKED;
        self.last = last;
        self.alias = 0;
        self.ways = [Stored::default(); 2];
        self.way_idle_minutes = self.idle_minutes;
    }

    /// The slot is no longer in use; the next one that is free is chained to it.
    #[inline(always)]
    pub(super) fn free(&mut self, next: u32) {
        self.local = next;
        self.flags = 0;
        self.timer = 0;
    }

    /// The first instant at which it is gone, if it was used last at `last`.
    #[inline(always)]
    pub(super) fn gone_after(&self, last: Nanos) -> Nanos {
        if self.ended() {
            return last.saturating_add(ENDED);
        }
        last.saturating_add(idle(self.idle_minutes)).saturating_add(1)
    }
}

/// When a packet last refreshed a record or its partner.
#[inline]
pub(super) fn last(records: &Arena<Record>, slot: u32) -> Nanos {
    let record = records.get(slot as usize);
    match record.partner() {
        Some(partner) => record.last.max(records.get(partner as usize).last),
        None => record.last,
    }
}

/// The first instant at which a record is gone.
#[inline]
pub(super) fn gone_at(records: &Arena<Record>, slot: u32) -> Nanos {
    records.get(slot as usize).gone_after(last(records, slot))
}

/// The first instant at which a record is gone, or its partner if this one's timer is for both.
#[inline]
pub(super) fn due_at(records: &Arena<Record>, slot: u32) -> Nanos {
    let record = records.get(slot as usize);
    let Some(partner) = record.partner() else { return record.gone_after(record.last) };
    let other = records.get(partner as usize);
    let last = record.last.max(other.last);
    let own = record.gone_after(last);
    if other.timer == 0 { own.min(other.gone_after(last)) } else { own }
}
