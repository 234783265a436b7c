//! What a packet that is forwarded leaves behind: records, fragments, and the way of its flow.

use std::net::IpAddr;

use super::{Plans, Sender, Walk, Way};
use crate::compile::Vnet;
use crate::dataplane::flow::{self, Endpoint, Plan};
use crate::dataplane::path::pack_route;
use crate::dataplane::state::Shard;
use crate::packet::{Direction, FlowState, Reason};
use crate::table::fragments::{Admission, CAPACITY};
use crate::table::records::Stored;
use crate::wire::protocol;

impl<'p> Walk<'p, '_> {
    /// The packet will be forwarded: records are opened, refreshed and ended, later fragments admitted.
    pub(super) fn commit(
        &self,
        vnet: &Vnet,
        sender: Sender<'p>,
        way: &Way<'p>,
        plans: Plans,
        shard: &mut Shard,
    ) -> Result<u8, Reason> {
        let (inner, now) = (&self.arrival.inner, self.now);
        if let Some(first) = plans.first {
            let live = |slot: Option<(u32, u32)>| {
                let (slot, generation) = slot?;
                shard.flows.is_live(slot, generation, now).then_some(slot)
            };
            let slots = first.slots.map(live);
            shard.flows.part(slots);
            slots.into_iter().flatten().for_each(|slot| shard.flows.refresh(slot, now));
            shard.flows.charge(slots, inner.total, now);
            return Ok(0);
        }
        let (out, inb) = (Direction::Outbound, Direction::Inbound);
        let (source, destination) = (sender.endpoint(), way.endpoint.as_ref());
        let mut slots = [None, None];
        if let Some(endpoint) = source {
            slots[0] = flow::open(plans.source, endpoint, out, shard, self.occupancy, now)?;
        }
        if let Some(endpoint) = destination {
            let opened = flow::open(plans.destination, endpoint, inb, shard, self.occupancy, now);
            if let (Err(_), Plan::Open { key, .. }) = (opened, plans.source) {
                shard.remove(self.occupancy, &key);
            }
            slots[1] = opened?;
        }
        let opened = slots.iter().flatten().count() as u8;
        let of = [plans.source.record().or(slots[0]), plans.destination.record().or(slots[1])];
        shard.flows.charge(of, inner.total, now);
        shard.flows.part([plans.source.slot().or(slots[0]), plans.destination.slot().or(slots[1])]);
        if let Some(endpoint) = source {
            slots[0] = slots[0].or(flow::refresh(plans.source, endpoint, inner, out, shard, now));
        }
        if let Some(endpoint) = destination {
            slots[1] = slots[1].or(flow::refresh(plans.destination, endpoint, inner, inb, shard, now));
        }
        if inner.fragment.is_some()
            && let Some(key) = self.fragment_key(vnet.id, sender)
            && (self.occupancy.fragments() as usize) < CAPACITY
        {
            let has_flow = opened > 0 || self.outcome.flow != FlowState::None;
            let slots = slots.map(|s| s.map(|s| (s, shard.flows.generation(s))));
            let rule = self.outcome.rule;
            shard.fragments.admit(key, Admission { at: now, has_flow, rule, slots, initiated: None });
            shard.tally(self.occupancy).set_fragments(shard.fragments.len());
        }
        Ok(opened)
    }

    /// Keeps the way of a packet whose flow is known, so that the next one takes it at once. The way of a flow depends
    /// on nothing but its addresses, protocol and ports, where it arrives, and the customer's configuration.
    pub(super) fn keep_way(
        &self,
        sender: Sender<'p>,
        way: &Way<'p>,
        plans: Plans,
        shard: &mut Shard,
    ) -> Option<()> {
        let (program, inner) = (self.program, &self.arrival.inner);
        let echo = inner.protocol == protocol::ICMP && matches!(inner.icmp_type, 0 | 8);
        let usual = echo || matches!(inner.protocol, protocol::TCP | protocol::UDP);
        let (IpAddr::V4(from), IpAddr::V4(to)) = (inner.source, inner.destination) else { return None };
        if !usual || inner.fragment.is_some() {
            return None;
        }
        // Whoever has groups must have a record that lives on.
        let slot = |endpoint: Option<&Endpoint<'_>>, plan: Plan| match endpoint.filter(|e| e.has_group()) {
            None => Some(None),
            Some(_) => plan.slot().filter(|s| !shard.flows.record(*s).ended()).map(Some),
        };
        let source = slot(sender.endpoint(), plans.source)?;
        let destination = slot(way.endpoint.as_ref(), plans.destination)?;
        if source == destination {
            return None;
        }
        let (next_hop_type, prefix) = self.outcome.route?;
        let route = pack_route(self.outcome.vnet?, next_hop_type, prefix.len())?;
        let adjacency = shard.adjacencies.number(program, way.sending)?;
        let origin = program.origins.find(self.arrival.origin_key(program)?);
        if origin.number == 0 {
            return None;
        }
        let stored = Stored { arrival: origin.number, adjacency, route };
        match (source, destination) {
            (Some(source), None) => shard.flows.record_mut(source).keep_way(false, stored),
            (Some(source), Some(destination)) => {
                shard.flows.link(source, destination);
                let record = shard.flows.record_mut(source);
                record.keep_way(false, stored);
                record.set_way_rule(self.outcome.rule?);
            }
            (None, Some(destination)) => {
                let ports = inner.ports_as_number();
                let (from, to) = (from.to_bits(), to.to_bits());
                let hash = shard.flows.hash_ipv4(origin.scope, from, to, ports, inner.protocol);
                if shard.flows.alias(destination, hash) {
                    shard.flows.record_mut(destination).keep_way(true, stored);
                }
            }
            (None, None) => {}
        }
        Some(())
    }
}
