//! The flow records of a worker, for who asks: looked through in small parts between two batches.

use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::handle::{FlowFacts, FlowsWanted, PacketWanted};
use crate::compile::Program;
use crate::table::records::Records;
use crate::types::Nanos;
use crate::wire::protocol;

/// Slots that are looked at between two batches.
const PART: u32 = 4096;

/// A list that is being made.
pub(super) struct Listing {
    wanted: FlowsWanted,
    found: Vec<FlowFacts>,
    next: u32,
    answer: Sender<Vec<FlowFacts>>,
}

impl Listing {
    pub fn new(wanted: FlowsWanted, answer: Sender<Vec<FlowFacts>>) -> Listing {
        Listing { wanted, found: Vec::new(), next: 1, answer }
    }

    /// Looks at some more records; true once the list has gone to who asked.
    pub fn go_on(&mut self, flows: &Records, program: &Program, now: Nanos) -> bool {
        let (slots, next) = flows.used(self.next, PART);
        for slot in slots {
            if self.found.len() >= self.wanted.most {
                break;
            }
            if flows.gone_at(slot) > now {
                self.found.extend(facts(flows, program, slot, now).filter(|f| self.wanted.fits(f)));
            }
        }
        match next {
            Some(next) if self.found.len() < self.wanted.most => {
                self.next = next;
                false
            }
            _ => {
                // Who has asked may have gone.
                let _ = self.answer.try_send(std::mem::take(&mut self.found));
                true
            }
        }
    }
}

impl FlowsWanted {
    /// True of a record that is asked for.
    pub fn fits(&self, facts: &FlowFacts) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let at_end = |address| facts.local.0 == address || facts.remote.0 == address;
        same(&self.customer, &facts.customer)
            && same(&self.vnet, &facts.vnet)
            && self.address.is_none_or(at_end)
            && self.packet.is_none_or(|packet| packet.belongs_to(facts))
    }
}

impl PacketWanted {
    fn belongs_to(&self, facts: &FlowFacts) -> bool {
        let has_ports = matches!(self.protocol, protocol::TCP | protocol::UDP);
        // Of ICMP the ports of a record are the identifier, which nobody knows.
        let same = |a: (IpAddr, u16), b: (IpAddr, u16)| a.0 == b.0 && (!has_ports || a.1 == b.1);
        let is = |from, to| same(from, facts.local) && same(to, facts.remote);
        self.protocol == facts.protocol && (is(self.from, self.to) || is(self.to, self.from))
    }
}

fn facts(flows: &Records, program: &Program, slot: u32, now: Nanos) -> Option<FlowFacts> {
    let (key, record, names) = (flows.key(slot), flows.record(slot), &program.names);
    let customer = names.customer_of(key.owner.vnet)?;
    Some(FlowFacts {
        customer: names.customer_name(customer).to_owned(),
        vnet: names.vnet_name(key.owner.vnet).to_owned(),
        protocol: key.protocol,
        local: (key.local, key.ports.0),
        remote: (key.remote, key.ports.1),
        opened_by: record.opened_by(),
        rule: names.rule_name(record.rule).to_owned(),
        idle: Duration::from_nanos(now.saturating_sub(flows.last(slot))),
        ended: record.ended(),
    })
}
