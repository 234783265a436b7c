//! What a change of configuration does to flow records (contract section 3, "Flow records").

use std::collections::HashMap;

use super::flow::{Endpoint, flushes, judge_again};
use super::state::{Occupancy, Shard};
use crate::compile::names::Party;
use crate::compile::{Program, Vnet};
use crate::table::flows::FlowKey;
use crate::types::Nanos;

/// Brings the records of a shard under a new program at `now`: those that have expired under the old one go first; then
/// those whose endpoint, or its last group, is no longer there; where a group of the endpoint flushes connections, each
/// live record is judged again.
pub fn adopt(shard: &mut Shard, occupancy: &Occupancy, program: &Program, now: Nanos) {
    shard.reap(occupancy, now);
    let index: HashMap<u32, &Vnet> = program.vnets.iter().map(|v| (v.id, v)).collect();
    let nics = index.values().flat_map(|v| v.nics.iter().enumerate().map(|(i, n)| (n.party, i as u32)));
    let nics: HashMap<u32, u32> = nics.collect();
    shard.flows.retain(
        |key, record| {
            let Some(vnet) = index.get(&key.owner.vnet) else { return false };
            let Some(endpoint) = endpoint_of(program, vnet, &nics, key).filter(Endpoint::has_group) else {
                return false;
            };
            record.idle_seconds = vnet.idle_seconds();
            if record.ended || !flushes(&endpoint) {
                return true;
            }
            match judge_again(&endpoint, key, record.opened_by) {
                Some(rule) => {
                    record.rule = rule;
                    true
                }
                None => false,
            }
        },
        |key| occupancy.release(key.owner),
    );
}

/// The endpoint that a record belongs to, if the program still has it.
fn endpoint_of<'p>(
    program: &Program,
    vnet: &'p Vnet,
    nics: &HashMap<u32, u32>,
    key: &FlowKey,
) -> Option<Endpoint<'p>> {
    let (address, party) = match program.names.party_of(key.owner.endpoint) {
        None => (key.local, 0),
        Some(Party::Address(_, address)) => (*address, key.owner.endpoint),
        Some(_) => {
            let nic = vnet.nic(nics.get(&key.owner.endpoint).copied())?;
            let subnet = vnet.subnets.get(usize::from(nic.subnet))?;
            return Some(Endpoint { vnet, subnet, nic: Some(nic), party: 0 });
        }
    };
    let place = vnet.place(address);
    let subnet = vnet.subnets.get(usize::from(place.subnet?))?;
    place.nic.is_none().then_some(Endpoint { vnet, subnet, nic: None, party })
}
