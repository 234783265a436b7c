//! Names and their numbers. A name keeps its number over every change of configuration, so that flow records, fragments,
//! sequence numbers and verdicts mean the same before and after.
//!
//! A program keeps the names it was compiled with. A copy shares what is there: names stand in chunks, and their places
//! in a table of numbers that is copied only when a new name comes.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

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
    /// Everyone outside, as the Microsoft and public peerings of a customer see them.
    Outside(u32),
}

/// A link of a circuit, of one of its peerings or of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkName {
    /// The customer's number.
    pub customer: u32,
    /// The name of the circuit.
    pub circuit: String,
    /// The name of the peering; absent: all of them together.
    pub peering: Option<String>,
    /// Which link.
    pub link: Link,
    /// Of a peering's, the number of that of all of them: the two share a bandwidth.
    pub shared: Option<u32>,
}

/// What makes a tunnel this tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelName {
    /// The customer's number.
    pub customer: u32,
    /// The name of what it leads to.
    pub to: String,
    /// The name of its port.
    pub port: String,
    /// The key as configured.
    pub key: u32,
    /// Ethernet inside.
    pub nvgre: bool,
}

/// The numbers of all names that any configuration of this process used.
#[derive(Clone, Debug, Default)]
pub struct Names {
    customers: Table<String>,
    vnets: Table<(u32, String)>,
    rules: Table<String>,
    parties: Table<Party>,
    tunnels: Table<TunnelName>,
    links: Table<LinkName>,
}

/// Names of a chunk.
const CHUNK: usize = 256;

#[derive(Clone, Debug)]
struct Table<K> {
    hasher: RandomState,
    numbers: Arc<HashTable<u32>>,
    chunks: Vec<Arc<Vec<K>>>,
    count: usize,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table { hasher: Default::default(), numbers: Arc::default(), chunks: Vec::new(), count: 0 }
    }
}

impl<K: Clone + Hash> Table<K> {
    fn get(&self, number: u32) -> Option<&K> {
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    fn all(&self) -> impl Iterator<Item = &K> {
        self.chunks.iter().flat_map(|c| c.iter())
    }

    /// The number of what hashes like `name` and of which `is_it` holds.
    fn find<Q: Hash + ?Sized>(&self, name: &Q, is_it: impl Fn(&K) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.numbers.find(hash, |n| self.get(*n).is_some_and(&is_it)).copied()
    }

    /// The same; the next number is given to what is not there.
    fn number<Q: Hash + ?Sized>(
        &mut self,
        name: &Q,
        is_it: impl Fn(&K) -> bool,
        make: impl FnOnce() -> K,
    ) -> u32 {
        if let Some(number) = self.find(name, is_it) {
            return number;
        }
        let number = self.count as u32;
        if self.count.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(make());
        }
        self.count += 1;
        let Table { hasher, numbers, chunks, .. } = self;
        let rehash = |n: &u32| hasher.hash_one(&chunks[*n as usize / CHUNK][*n as usize % CHUNK]);
        Arc::make_mut(numbers).insert_unique(hasher.hash_one(name), number, rehash);
        number
    }
}

impl Names {
    /// The number of a customer.
    pub fn customer(&mut self, name: &str) -> u32 {
        self.customers.number(name, |n| n == name, || name.to_owned())
    }

    /// The number of a customer's VNet.
    pub fn vnet(&mut self, customer: u32, name: &str) -> u32 {
        self.vnets.number(
            &(customer, name),
            |n| n.0 == customer && n.1 == name,
            || (customer, name.to_owned()),
        )
    }

    /// The number of a rule's name as flow logs write it, for example `UserRule_AllowHttps`.
    pub fn rule(&mut self, name: &str) -> u32 {
        self.rules.number(name, |n| n == name, || name.to_owned())
    }

    /// The number of a party; never 0.
    pub fn party(&mut self, party: Party) -> u32 {
        self.parties.number(&party, |p| *p == party, || party.clone()) + 1
    }

    /// The number of a tunnel.
    pub fn tunnel(&mut self, tunnel: TunnelName) -> u32 {
        self.tunnels.number(&tunnel, |t| *t == tunnel, || tunnel.clone())
    }

    /// The number of a circuit's link.
    pub fn link(&mut self, link: LinkName) -> u32 {
        self.links.number(&link, |l| *l == link, || link.clone())
    }

    /// The name of a circuit's link.
    pub fn link_name(&self, number: u32) -> Option<&LinkName> {
        self.links.get(number)
    }

    /// The links, by number.
    pub fn links(&self) -> impl Iterator<Item = &LinkName> {
        self.links.all()
    }

    /// How many links of circuits have numbers.
    pub fn link_count(&self) -> usize {
        self.links.count
    }

    /// The number that a customer has.
    pub fn customer_number(&self, name: &str) -> Option<u32> {
        self.customers.find(name, |n| n == name)
    }

    /// The number that a customer's VNet has.
    pub fn vnet_number(&self, customer: u32, name: &str) -> Option<u32> {
        self.vnets.find(&(customer, name), |n| n.0 == customer && n.1 == name)
    }

    /// The name of a customer.
    pub fn customer_name(&self, number: u32) -> &str {
        self.customers.get(number).map_or("", String::as_str)
    }

    /// The name of a VNet.
    pub fn vnet_name(&self, number: u32) -> &str {
        self.vnets.get(number).map_or("", |(_, name)| name)
    }

    /// The customer of a VNet.
    pub fn customer_of(&self, vnet: u32) -> Option<u32> {
        self.vnets.get(vnet).map(|&(customer, _)| customer)
    }

    /// The name of a rule.
    pub fn rule_name(&self, number: u32) -> &str {
        self.rules.get(number).map_or("", String::as_str)
    }

    /// The party of a number that is not 0.
    pub fn party_of(&self, number: u32) -> Option<&Party> {
        self.parties.get(number.checked_sub(1)?)
    }

    /// How many names there are, and how many bytes they have together.
    pub(super) fn size(&self) -> (usize, usize) {
        let parties = self.parties.all().map(|party| match party {
            Party::Nic(_, name) | Party::Connection(_, name) => name.len(),
            Party::Link(_, circuit, peering, _) => circuit.len() + peering.len(),
            Party::Address(..) | Party::Internet(_) | Party::Outside(_) => 0,
        });
        let plain = [&self.customers, &self.rules].map(|t| t.all().map(String::len));
        let vnets = self.vnets.all().map(|(_, name)| name.len());
        let tunnels = self.tunnels.all().map(|t| t.to.len() + t.port.len());
        let links = self.links.all().map(|l| l.circuit.len() + l.peering.as_ref().map_or(0, String::len));
        let letters: usize =
            plain.into_iter().flatten().chain(vnets).chain(tunnels).chain(parties).chain(links).sum();
        (self.size_of_tables().into_iter().sum(), letters)
    }

    /// True if no name was added since `earlier` was copied from these names.
    pub(super) fn is_as(&self, earlier: &Names) -> bool {
        self.size_of_tables() == earlier.size_of_tables()
    }

    fn size_of_tables(&self) -> [usize; 6] {
        let Names { customers, vnets, rules, parties, tunnels, links } = self;
        [customers.count, vnets.count, rules.count, parties.count, tunnels.count, links.count]
    }

    /// How many customers have numbers.
    pub fn customer_count(&self) -> usize {
        self.customers.count
    }

    /// How many VNets have numbers.
    pub fn vnet_count(&self) -> usize {
        self.vnets.count
    }

    /// How many tunnels have numbers.
    pub fn tunnel_count(&self) -> usize {
        self.tunnels.count
    }

    /// One more than the highest number of a party.
    pub fn party_count(&self) -> usize {
        self.parties.count + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_copies_keep_what_they_have() {
        let mut names = Names::default();
        let numbers: Vec<u32> = (0..1000).map(|n| names.rule(&format!("rule {n}"))).collect();
        let copy = names.clone();
        assert!(names.is_as(&copy));
        assert_eq!(names.rule("rule 700"), numbers[700]);
        assert_eq!(names.rule("another"), 1000);
        assert!(!names.is_as(&copy));
        assert_eq!((names.rule_name(1000), copy.rule_name(1000)), ("another", ""));
        assert_eq!((names.rule_name(999), copy.rule_name(999)), ("rule 999", "rule 999"));
        let customer = names.customer("c");
        let vnet = names.vnet(customer, "v");
        assert_eq!((names.customer_number("c"), names.customer_number("d")), (Some(customer), None));
        assert_eq!(
            (names.vnet_number(customer, "v"), names.vnet_number(customer + 1, "v")),
            (Some(vnet), None)
        );
        assert_ne!(names.party(Party::Internet(vnet)), 0);
    }
}
