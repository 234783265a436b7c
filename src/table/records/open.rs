//! Opening records: one, or those of both endpoints of a packet at once.

use super::index::NONE;
use super::record::{LINKED, OPENED_INBOUND, Record, Stored, USED, WIDE};
use super::{FlowKey, FlowV4, Key, Opening, Owner, Records};
use crate::packet::Direction;
use crate::sys::{Base, Wide};
use crate::types::Nanos;

impl Records {
    /// Opens a record; there must be none of this key, gone or not (see [`Records::remove_key`]). `None`: the index has
    /// no room for it within bounded work, as when too many keys share its hash.
    pub fn open(
        &mut self,
        key: &FlowKey,
        now: Nanos,
        idle_minutes: u8,
        rule: u32,
        opened_by: Direction,
    ) -> Option<u32> {
        let (hash, pair, ports) = match self.take_apart(key) {
            Key::Ipv4(flow) => return self.open_ipv4(Base, &flow, now, idle_minutes, rule, opened_by),
            Key::Wide { hash, pair, ports } => (hash, pair, ports),
        };
        let place = self.slab.take_pair(pair);
        let FlowKey { owner, protocol, .. } = *key;
        let flow = FlowV4 { hash, owner, local: place, remote: 0, ports, protocol };
        let record = new(&Opening { flow, idle_minutes, rule }, now, WIDE | flag(opened_by));
        let slot = self.put(Base, hash, owner, record);
        if slot.is_none() {
            self.slab.give_back_pair(place);
        }
        slot
    }

    /// As [`Records::open`], of an IPv4 flow.
    #[inline(always)]
    pub fn open_ipv4<W: Wide>(
        &mut self,
        wide: W,
        flow: &FlowV4,
        now: Nanos,
        idle_minutes: u8,
        rule: u32,
        opened_by: Direction,
    ) -> Option<u32> {
        let record = new(&Opening { flow: *flow, idle_minutes, rule }, now, flag(opened_by));
        self.put(wide, flow.hash, flow.owner, record)
    }

    #[inline(always)]
    fn put<W: Wide>(&mut self, wide: W, hash: u32, owner: Owner, record: Record) -> Option<u32> {
        self.begin(record.last);
        let slot = self.slab.next()?;
        if !self.index.insert(wide, hash, slot) {
            return None;
        }
        let timer = self.timers.set(slot, record.gone_after(record.last));
        self.slab.take(Record { timer, ..record });
        // The next one is as good as known: fetch it while there is time.
        self.slab.prefetch_next();
        self.note_vnet(owner);
        self.opened += 1;
        self.tell_begun(slot);
        Some(slot)
    }

    /// Opens the records of both endpoints of a packet, linked with each other, with the way that such packets take in
    /// that of the source. The same as [`Records::open_ipv4`] of both, outbound and inbound, [`Records::link`],
    /// [`Record::keep_way`] and [`Record::set_way_rule`] of the destination's rule, and as there the keys must be new;
    /// also two different ones. `None`: the index has no room for them, and neither is opened.
    #[inline(always)]
    pub fn open_linked<W: Wide>(
        &mut self,
        wide: W,
        source: &Opening,
        destination: &Opening,
        now: Nanos,
        way: Stored,
    ) -> Option<[u32; 2]> {
        self.begin(now);
        let [a, b] = self.slab.next_two()?;
        if !self.index.insert(wide, source.flow.hash, a) {
            return None;
        }
        if !self.index.insert(wide, destination.flow.hash, b) {
            self.index.remove(Base, source.flow.hash, a);
            return None;
        }
        let way_idle_minutes = source.idle_minutes.min(destination.idle_minutes);
        let linked = |partner: u32, other: &Opening, route: u32| Stored {
            arrival: partner,
            adjacency: other.flow.hash,
            route,
        };
        let record = new(source, now, LINKED);
        let ways = [way, linked(b, destination, destination.rule)];
        // One timer is for both: they go together.
        let at = Record { idle_minutes: way_idle_minutes, ..record }.gone_after(now);
        let timer = self.timers.set(a, at);
        self.slab.take(Record { way_idle_minutes, timer, ways, alias: source.flow.hash, ..record });
        let ways = [Stored::default(), linked(a, source, 0)];
        let record = new(destination, now, LINKED | OPENED_INBOUND);
        self.slab.take(Record { way_idle_minutes, ways, alias: destination.flow.hash, ..record });
        self.slab.prefetch_next();
        self.note_vnet(source.flow.owner);
        self.note_vnet(destination.flow.owner);
        self.opened += 2;
        self.tell_begun(a);
        self.tell_begun(b);
        Some([a, b])
    }

    /// With no record at all, time may start anywhere.
    #[inline(always)]
    fn begin(&mut self, now: Nanos) {
        if self.slab.len() == 0 {
            self.timers.restart(now);
        }
    }

    /// Remembers the VNet of an endpoint that has a number.
    #[inline(always)]
    fn note_vnet(&mut self, owner: Owner) {
        let known = self.vnets.get(owner.endpoint as usize) == Some(&owner.vnet);
        if !known && owner.endpoint != 0 {
            self.set_vnet(owner);
        }
    }

    #[cold]
    fn set_vnet(&mut self, owner: Owner) {
        let endpoint = owner.endpoint as usize;
        if self.vnets.len() <= endpoint {
            self.vnets.resize(endpoint + 1, NONE);
        }
        if let Some(vnet) = self.vnets.get_mut(endpoint) {
            *vnet = owner.vnet;
        }
    }
}

#[inline(always)]
fn flag(opened_by: Direction) -> u8 {
    if opened_by == Direction::Inbound { OPENED_INBOUND } else { 0 }
}

/// A new record, without timer.
#[inline(always)]
fn new(opening: &Opening, now: Nanos, flags: u8) -> Record {
    let &Opening { flow, idle_minutes, rule } = opening;
    let FlowV4 { owner, local, remote, ports, protocol, .. } = flow;
    Record {
        local,
        remote,
        ports,
        owner: owner.packed(),
        protocol,
        flags: USED | flags,
        idle_minutes,
        way_idle_minutes: idle_minutes,
        rule,
        last: now,
        ..Record::default()
    }
}
