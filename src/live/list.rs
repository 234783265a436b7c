//! The flow records of a worker, for who asks: looked through in small parts between two batches.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::handle::{FlowFacts, FlowsWanted, PacketWanted};
use crate::compile::Program;
use crate::compile::names::Names;
use crate::table::records::{FlowKey, Records};
use crate::types::Nanos;
use crate::wire::protocol;

/// Slots that are looked at between two batches.
const PART: u32 = 4096;

/// Which records are wanted, with numbers for names, and how many have been found: by all workers together, so that they
/// hold no more of them than were asked for.
pub(super) struct Chosen {
    /// By the number of a VNet; none: of all.
    vnets: Option<Vec<bool>>,
    address: Option<IpAddr>,
    packet: Option<PacketWanted>,
    most: usize,
    found: AtomicUsize,
}

/// A list that is being made.
#[derive(Clone)]
pub(super) struct Listing {
    chosen: Arc<Chosen>,
    found: Vec<FlowFacts>,
    next: u32,
    answer: Sender<Vec<FlowFacts>>,
}

impl Chosen {
    /// What is wanted, by the names there are now.
    pub fn new(wanted: &FlowsWanted, names: &Names) -> Chosen {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let chosen = |vnet: u32| {
            let customer = names.customer_of(vnet).map_or("", |c| names.customer_name(c));
            same(&wanted.customer, customer) && same(&wanted.vnet, names.vnet_name(vnet))
        };
        let all = wanted.customer.is_none() && wanted.vnet.is_none();
        let vnets = (!all).then(|| (0..names.vnet_count() as u32).map(chosen).collect());
        let &FlowsWanted { address, packet, most, .. } = wanted;
        Chosen { vnets, address, packet, most, found: AtomicUsize::new(0) }
    }

    /// Nobody waits for more.
    pub fn end(&self) {
        self.found.store(self.most, Ordering::Relaxed);
    }

    fn has_all(&self) -> bool {
        self.found.load(Ordering::Relaxed) >= self.most
    }

    fn fits(&self, key: &FlowKey) -> bool {
        let (local, remote) = ((key.local, key.ports.0), (key.remote, key.ports.1));
        self.vnets.as_ref().is_none_or(|chosen| chosen.get(key.owner.vnet as usize) == Some(&true))
            && self.address.is_none_or(|address| [key.local, key.remote].contains(&address))
            && self.packet.is_none_or(|packet| packet.belongs_to(key.protocol, local, remote))
    }
}

impl Listing {
    pub fn new(chosen: Arc<Chosen>, answer: Sender<Vec<FlowFacts>>) -> Listing {
        Listing { chosen, found: Vec::new(), next: 1, answer }
    }

    /// Looks at some more records; true once the list has gone to who asked.
    pub fn go_on(&mut self, flows: &Records, program: &Program, now: Nanos) -> bool {
        let (slots, next) = flows.used(self.next, PART);
        for slot in slots {
            if self.chosen.has_all() {
                break;
            }
            let key = flows.key(slot);
            if self.chosen.fits(&key)
                && flows.gone_at(slot) > now
                && self.chosen.found.fetch_add(1, Ordering::Relaxed) < self.chosen.most
            {
                self.found.extend(facts(flows, program, slot, now));
            }
        }
        match next {
            Some(next) if !self.chosen.has_all() => {
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

impl PacketWanted {
    /// True of a record with this protocol and these ends.
    pub fn belongs_to(&self, number: u8, local: (IpAddr, u16), remote: (IpAddr, u16)) -> bool {
        let has_ports = matches!(self.protocol, protocol::TCP | protocol::UDP);
        // Of ICMP the ports of a record are the identifier, which nobody knows.
        let same = |a: (IpAddr, u16), b: (IpAddr, u16)| a.0 == b.0 && (!has_ports || a.1 == b.1);
        let is = |from, to| same(from, local) && same(to, remote);
        self.protocol == number && (is(self.from, self.to) || is(self.to, self.from))
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

#[cfg(test)]
mod tests {
    use ahash::RandomState;
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::live::fake::network;
    use crate::packet::Direction;
    use crate::table::records::{FlowKey, Owner};
    use crate::types::SECOND;

    fn wanted(customer: Option<&str>, vnet: Option<&str>, address: Option<&str>, most: usize) -> FlowsWanted {
        FlowsWanted {
            customer: customer.map(str::to_owned),
            vnet: vnet.map(str::to_owned),
            address: address.map(|a| a.parse().unwrap()),
            packet: None,
            most,
        }
    }

    #[test]
    fn records_are_chosen_by_name_and_address_and_no_more_of_them_than_are_wanted() {
        let program = network();
        let mut flows = [(); 2].map(|()| Records::new(RandomState::new()));
        for n in 0..60u16 {
            let owner = Owner { vnet: u32::from(n % 3), endpoint: 0 };
            let (local, remote) = (IpAddr::from([10, 1, 0, n as u8]), IpAddr::from([10, 9, 0, 1]));
            let key = FlowKey { owner, protocol: 17, ports: (n, 53), local, remote };
            flows[usize::from(n % 2)].open(&key, SECOND, 4, 0, Direction::Outbound).unwrap();
        }
        let list = |wanted: FlowsWanted, now: Nanos| {
            let (answer, answers) = unbounded();
            let listing = Listing::new(Arc::new(Chosen::new(&wanted, &program.names)), answer);
            for records in &flows {
                let mut listing = listing.clone();
                while !listing.go_on(records, &program, now) {}
            }
            answers.try_iter().flatten().collect::<Vec<_>>()
        };
        let count = |customer, vnet, address, most| list(wanted(customer, vnet, address, most), SECOND).len();
        assert_eq!(count(None, None, None, 100), 60);
        assert_eq!(count(Some("contoso"), None, None, 100), 40);
        assert_eq!(count(None, Some("hub"), None, 100), 40);
        assert_eq!(count(Some("fabrikam"), Some("hub"), None, 100), 20);
        assert_eq!(count(Some("fabrikam"), Some("spoke"), None, 100), 0);
        assert_eq!(count(None, None, Some("10.9.0.1"), 100), 60);
        assert_eq!(count(None, None, Some("10.1.0.7"), 100), 1);
        assert_eq!([0, 1, 35, 60].map(|most| count(None, None, None, most)), [0, 1, 35, 60]);
        let found = list(wanted(Some("fabrikam"), None, None, 100), 3 * SECOND);
        assert!(found.iter().all(|f| f.customer == "fabrikam" && f.vnet == "hub"), "{found:?}");
        assert_eq!(found[0].idle, Duration::from_secs(2));
        assert_eq!(list(wanted(None, None, None, 100), 300 * SECOND).len(), 0);
    }

    #[test]
    fn a_list_that_nobody_waits_for_ends() {
        let program = network();
        let chosen = Arc::new(Chosen::new(&wanted(None, None, None, 5), &program.names));
        let (answer, answers) = unbounded();
        let mut listing = Listing::new(chosen.clone(), answer);
        chosen.end();
        assert!(listing.go_on(&Records::new(RandomState::new()), &program, SECOND));
        assert_eq!(answers.try_recv().unwrap().len(), 0);
    }
}
