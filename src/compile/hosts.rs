//! Where the addresses of a VNet live: their subnet, host and NIC.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;

use super::program::Place;
use crate::model::Customer;
use crate::table::lpm::Lpm;
use crate::table::prefix_map::PrefixMap;
use crate::types::Prefix;

/// The hosts and NICs of a VNet, and what each of its addresses is.
pub(super) struct Hosts {
    /// Their underlay addresses.
    pub hosts: Vec<IpAddr>,
    /// The hosts by address.
    pub numbers: HashMap<IpAddr, u32, RandomState>,
    /// The NICs of the VNet: indices in the customer.
    pub nics: Vec<usize>,
    /// What each address is, by prefix.
    pub places: Vec<(Prefix, Place)>,
    /// The same as a table.
    pub lookup: Lpm<Place>,
}

impl Hosts {
    /// The hosts of the VNet of this index.
    pub fn new(customer: &Customer, index: usize) -> Hosts {
        let mut hosts = Vec::new();
        let mut numbers: HashMap<IpAddr, u32, RandomState> = HashMap::default();
        let mut carried: PrefixMap<u32> = PrefixMap::default();
        let mut edges = Vec::new();
        for host in customer.hosts.iter().filter(|h| h.vnet == index) {
            let number = *numbers.entry(host.address).or_insert_with(|| {
                hosts.push(host.address);
                hosts.len() as u32 - 1
            });
            for prefix in &host.prefixes {
                carried.insert(*prefix, number);
                edges.push(*prefix);
            }
        }
        let mut subnets: PrefixMap<u16> = PrefixMap::default();
        let mut last = std::collections::HashSet::new();
        for (i, subnet) in customer.vnets[index].subnets.iter().enumerate() {
            for prefix in &subnet.prefixes {
                subnets.insert(*prefix, i as u16);
                edges.push(*prefix);
                if prefix.is_ipv4() {
                    last.insert(prefix.last());
                    edges.push(Prefix::host(prefix.last()));
                }
            }
        }
        let mut owners: HashMap<IpAddr, u32> = HashMap::new();
        let mut nics = Vec::new();
        for (i, nic) in customer.nics.iter().enumerate().filter(|(_, n)| n.vnet == index) {
            let number = nics.len() as u32;
            nics.push(i);
            for addr in &nic.addresses {
                owners.insert(*addr, number);
                edges.push(Prefix::host(*addr));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        // Of the prefixes that hold an address, the longest lies inside the longest of each kind; so what is true of all
        // of it is true of the address.
        let place = |p: &Prefix| {
            let single = Some(p.first()).filter(|a| *p == Prefix::host(*a));
            Place {
                subnet: subnets.covering(*p),
                host: carried.covering(*p),
                nic: single.and_then(|a| owners.get(&a).copied()),
                broadcast: single.is_some_and(|a| last.contains(&a)),
            }
        };
        let places: Vec<(Prefix, Place)> = edges.iter().map(|p| (*p, place(p))).collect();
        let lookup = places.iter().copied().collect();
        Hosts { hosts, numbers, nics, places, lookup }
    }

    /// For each host, the NICs with IP forwarding that have an address there.
    pub fn forwarders(&self, customer: &Customer) -> Vec<Vec<u32>> {
        let mut forwarders = vec![Vec::new(); self.hosts.len()];
        for (number, index) in (0..).zip(&self.nics) {
            let nic = &customer.nics[*index];
            for addr in nic.addresses.iter().filter(|_| nic.ip_forwarding) {
                if let Some(host) = self.lookup.lookup(*addr).and_then(|p| p.host)
                    && !forwarders[host as usize].contains(&number)
                {
                    forwarders[host as usize].push(number);
                }
            }
        }
        forwarders
    }
}
