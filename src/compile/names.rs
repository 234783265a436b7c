//! Names and their numbers. A name keeps its number over every change of configuration, so that flow records, fragments,
//! sequence numbers and verdicts mean the same before and after.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::Link;

/// Someone that keeps records, or that ICMP errors and fragments are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A network interface of a VNet.
    Nic(u32, String),
    /// An address of a VNet that other packets than its own are sent to.
    Address(u32, IpAddr),
    /// A link of a circuit: customer, circuit, peering, link.
    Link(u32, String, String, Link),
    /// A VPN connection: customer, name.
    Connection(u32, String),
    /// The Internet, as a VNet sees it.
    Internet(u32),
}

/// The numbers of all names that any configuration of this process used.
#[derive(Clone, Debug, Default)]
pub struct Names {
    customers: Table<String>,
    vnets: Table<(u32, String)>,
    rules: Table<String>,
    parties: Table<Party>,
    tunnels: Table<String>,
}

#[derive(Clone, Debug)]
struct Table<K> {
    numbers: HashMap<K, u32>,
    names: Vec<K>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table { numbers: HashMap::new(), names: Vec::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Table<K> {
    fn number(&mut self, name: K) -> u32 {
        if let Some(&number) = self.numbers.get(&name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

impl Names {
    /// The number of a customer.
    pub fn customer(&mut self, name: &str) -> u32 {
        self.customers.number(name.to_owned())
    }

    /// The number of a customer's VNet.
    pub fn vnet(&mut self, customer: u32, name: &str) -> u32 {
        self.vnets.number((customer, name.to_owned()))
    }

    /// The number of a rule's name as flow logs write it, for example `UserRule_AllowHttps`.
    pub fn rule(&mut self, name: &str) -> u32 {
        self.rules.number(name.to_owned())
    }

    /// The number of a party; never 0.
    pub fn party(&mut self, party: Party) -> u32 {
        self.parties.number(party) + 1
    }

    /// The number of a tunnel, by everything that makes it this tunnel.
    pub fn tunnel(&mut self, identity: String) -> u32 {
        self.tunnels.number(identity)
    }

    /// The name of a customer.
    pub fn customer_name(&self, number: u32) -> &str {
        self.customers.names.get(number as usize).map_or("", String::as_str)
    }

    /// The name of a VNet.
    pub fn vnet_name(&self, number: u32) -> &str {
        self.vnets.names.get(number as usize).map_or("", |(_, name)| name)
    }

    /// The customer of a VNet.
    pub fn customer_of(&self, vnet: u32) -> Option<u32> {
        self.vnets.names.get(vnet as usize).map(|&(customer, _)| customer)
    }

    /// The name of a rule.
    pub fn rule_name(&self, number: u32) -> &str {
        self.rules.names.get(number as usize).map_or("", String::as_str)
    }

    /// The party of a number that is not 0.
    pub fn party_of(&self, number: u32) -> Option<&Party> {
        self.parties.names.get((number as usize).checked_sub(1)?)
    }

    /// How many names there are, and how many bytes they have together.
    pub(super) fn size(&self) -> (usize, usize) {
        let parties = self.parties.names.iter().map(|party| match party {
            Party::Nic(_, name) | Party::Connection(_, name) => name.len(),
            Party::Link(_, circuit, peering, _) => circuit.len() + peering.len(),
            Party::Address(..) | Party::Internet(_) => 0,
        });
        let plain = [&self.customers, &self.rules, &self.tunnels].map(|t| t.names.iter().map(String::len));
        let vnets = self.vnets.names.iter().map(|(_, name)| name.len());
        let lengths: Vec<usize> = plain.into_iter().flatten().chain(vnets).chain(parties).collect();
        (lengths.len(), lengths.iter().sum())
    }

    /// How many VNets have numbers.
    pub fn vnet_count(&self) -> usize {
        self.vnets.names.len()
    }

    /// One more than the highest number of a party.
    pub fn party_count(&self) -> usize {
        self.parties.names.len() + 1
    }
}
