//! What a change of configuration does to flow records (contract section 3, "Flow records").

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::flow::{Endpoint, flushes, judge_again};
use super::occupancy::Occupancy;
use super::state::Shard;
use crate::compile::names::Party;
use crate::compile::{Nic, Program, Vnet};
use crate::table::records::FlowKey;
use crate::types::{Nanos, Prefix};

/// The VNets, in ascending order, some of whose records may not live on as they are: the VNet or an endpoint of it is no
/// longer there or has no group any more, its idle timeout is another, or one of its groups flushes connections. Where
/// nothing changed since the records were opened, or since they were last looked at, there is nothing to look for.
pub fn affected(before: &Program, after: &Program) -> Vec<u32> {
    let changed = |number: &u32| {
        let (old, new) = (before.vnets.get(*number as usize), after.vnets.get(*number as usize));
        // Most VNets are shared, and need not be looked at.
        if old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new)) {
            return false;
        }
        let Some(old) = old.filter(|v| !v.is_vacant()) else { return false };
        let Some(new) = new.filter(|v| !v.is_vacant()) else { return true };
        old.flow_timeout_minutes != new.flow_timeout_minutes || any_flushes(new) || loses(old, new)
    };
    (0..before.vnets.len() as u32).filter(changed).collect()
}

/// Adds what one more change [affects](affected) to what changes since a shard last adopted a program do: it may adopt
/// the last of several at once, with the records that any of them concerns. Both lists ascend.
pub fn add(affected: &mut Vec<u32>, more: &[u32]) {
    if more.is_empty() {
        return;
    }
    affected.extend_from_slice(more);
    affected.sort_unstable();
    affected.dedup();
}

fn any_flushes(vnet: &Vnet) -> bool {
    let of_subnets = vnet.subnets.iter().map(|s| &s.group);
    of_subnets.chain(vnet.nics.iter().map(|n| &n.group)).flatten().any(|g| g.flush)
}

/// True if an endpoint with a group might have lost it, or might itself be gone.
fn loses(old: &Vnet, new: &Vnet) -> bool {
    let nic_has_group = |vnet: &Vnet, nic: &Nic| {
        nic.group.is_some() || vnet.subnets.get(usize::from(nic.subnet)).is_some_and(|s| s.group.is_some())
    };
    let with_group = |vnet: &Vnet| -> HashSet<Prefix> {
        let subnets = vnet.subnets.iter().filter(|s| s.group.is_some());
        subnets.flat_map(|s| s.prefixes.iter().copied()).collect()
    };
    let nics: HashSet<u32> = new.nics.iter().filter(|n| nic_has_group(new, n)).map(|n| n.party).collect();
    if old.nics.iter().any(|n| nic_has_group(old, n) && !nics.contains(&n.party)) {
        return true;
    }
    let subnets = with_group(new);
    if with_group(old).iter().any(|p| !subnets.contains(p)) {
        return true;
    }
    // An address that had no NIC was an endpoint of its own.
    let taken: HashSet<IpAddr> = old.nics.iter().flat_map(|n| &n.addresses).copied().collect();
    new.nics.iter().flat_map(|n| &n.addresses).any(|a| !taken.contains(a))
}

/// Brings the records that a shard has of these VNets, in ascending order, under a new program at `now`: those that have
/// expired under the old one go first; then those whose endpoint, or its last group, is no longer there; where a group
/// of the endpoint flushes connections, each live record is judged again.
///
/// A shard without records of these VNets has nothing to do. Another looks at its slots until it has seen all of theirs:
/// most of the time goes into the others', 2 to 6 ns each (up to 50 ms for 8 million).
pub fn adopt(shard: &mut Shard, occupancy: &Occupancy, program: &Program, affected: &[u32], now: Nanos) {
    if affected.is_empty() {
        return;
    }
    let held = |shard: &Shard| -> usize {
        let tally = shard.tally(occupancy);
        affected.iter().map(|number| tally.of_vnet(*number) as usize).sum()
    };
    if held(shard) == 0 {
        return;
    }
    shard.reap_all(occupancy, now);
    let count = held(shard);
    let vnets: HashMap<u32, Option<&Vnet>> = affected
        .iter()
        .map(|number| (*number, program.vnets.get(*number as usize).map(|v| &**v).filter(|v| !v.is_vacant())))
        .collect();
    let there = affected.iter().filter_map(|number| vnets.get(number).copied().flatten());
    let nics = there.flat_map(|v| v.nics.iter().enumerate().map(|(i, n)| (n.party, i as u32)));
    let nics: HashMap<u32, u32> = nics.collect();
    let tally = shard.tally(occupancy);
    shard.flows.retain_of(
        count,
        |owner| vnets.contains_key(&owner.vnet),
        |key, record| {
            let Some(Some(vnet)) = vnets.get(&key.owner.vnet) else { return false };
            let Some(endpoint) = endpoint_of(program, vnet, &nics, key).filter(Endpoint::has_group) else {
                return false;
            };
            record.idle_minutes = vnet.flow_timeout_minutes as u8;
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
        |owner| tally.release(owner),
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
