//! Where the addresses of a VNet live: their subnet, host and NIC.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;

use super::nested::Nested;
use super::program::Place;
use crate::model::Customer;
use crate::types::Prefix;

/// The hosts and NICs of a VNet, and what each of its addresses is.
pub(super) struct Hosts {
    /// Their underlay addresses.
    pub hosts: Vec<IpAddr>,
    /// The hosts by address.
    pub numbers: HashMap<IpAddr, u32, RandomState>,
    /// The NICs of the VNet: indices in the customer.
    pub nics: Vec<usize>,
    /// What each address is.
    pub places: Nested<Place>,
}

/// What stands under a prefix.
#[derive(Clone, Copy)]
enum Mark {
    Subnet(u16),
    Host(u32),
    Nic(u32),
    /// The last address of a subnet.
    Last,
}

impl Hosts {
    /// The hosts of the VNet of this index.
    pub fn new(customer: &Customer, index: usize) -> Hosts {
        let mut hosts = Vec::new();
        let mut numbers: HashMap<IpAddr, u32, RandomState> = HashMap::default();
        let mut marks: Vec<(Prefix, Mark)> = Vec::new();
        for host in customer.hosts.iter().filter(|h| h.vnet == index) {
            let number = *numbers.entry(host.address).or_insert_with(|| {
                hosts.push(host.address);
                hosts.len() as u32 - 1
            });
            marks.extend(host.prefixes.iter().map(|p| (*p, Mark::Host(number))));
        }
        for (i, subnet) in (0..).zip(&customer.vnets[index].subnets) {
            for prefix in &subnet.prefixes {
                marks.push((*prefix, Mark::Subnet(i)));
                if prefix.is_ipv4() {
                    marks.push((Prefix::host(prefix.last()), Mark::Last));
                }
            }
        }
        let mut nics = Vec::new();
        for (i, nic) in customer.nics.iter().enumerate().filter(|(_, n)| n.vnet == index) {
            let number = nics.len() as u32;
            nics.push(i);
            marks.extend(nic.addresses.iter().map(|a| (Prefix::host(*a), Mark::Nic(number))));
        }
        // Of the prefixes that hold an address, the longest lies inside the longest of each kind; so what is true of all
        // of it is true of the address.
        let places = Nested::new(marks).inherit(|above: Option<Place>, _, mark| {
            let mut place = above.unwrap_or_default();
            match mark {
                Mark::Subnet(subnet) => place.subnet = Some(subnet),
                Mark::Host(host) => place.host = Some(host),
                Mark::Nic(nic) => place.nic = Some(nic),
                Mark::Last => place.broadcast = true,
            }
            place
        });
        Hosts { hosts, numbers, nics, places }
    }

    /// For each host, the NICs with IP forwarding that have an address there.
    pub fn forwarders(&self, customer: &Customer) -> Vec<Vec<u32>> {
        let mut forwarders = vec![Vec::new(); self.hosts.len()];
        for (number, index) in (0..).zip(&self.nics) {
            let nic = &customer.nics[*index];
            for addr in nic.addresses.iter().filter(|_| nic.ip_forwarding) {
                if let Some(host) = self.places.lookup(*addr).and_then(|p| p.host)
                    && !forwarders[host as usize].contains(&number)
                {
                    forwarders[host as usize].push(number);
                }
            }
        }
        forwarders
    }
}
