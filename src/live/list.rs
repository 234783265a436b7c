//! The flow records of a worker, for who asks: looked through in small parts between two batches.

use std::time::Duration;

use crossbeam_channel::Sender;

use super::handle::{FlowFacts, FlowsWanted};
use crate::compile::Program;
use crate::table::records::Records;
use crate::types::Nanos;

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
    fn fits(&self, facts: &FlowFacts) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let at_end = |address| facts.local.0 == address || facts.remote.0 == address;
        same(&self.customer, &facts.customer)
            && same(&self.vnet, &facts.vnet)
            && self.address.is_none_or(at_end)
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
