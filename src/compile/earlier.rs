//! What a change of configuration leaves as it was: which VNets, routes and rules of a customer can be taken over from
//! the program before.
//!
//! References in a model are indices, so equal models of something mean the same only where what they refer to stands at
//! the same index. Where that is in doubt, something counts as changed and is compiled again.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use ahash::RandomState;

use super::program::{Program, Vnet};
use super::topology::{self, Sites, Source};
use crate::model::{ConnectionTo, Customer, LearnedRoute, Nsg, RouteTable};

/// A customer as it was compiled before.
pub(super) struct Earlier<'a> {
    /// Its model.
    pub customer: &'a Customer,
    /// The service tags that it uses hold the same prefixes.
    pub tags: bool,
    /// The application security groups have the same indices.
    pub asgs: bool,
    program: &'a Program,
    /// Everything between gateways and far sites is as it was, and so are the numbers of its tunnels; but perhaps what
    /// was learned from these sources.
    sites: bool,
    sources: HashSet<Source, RandomState>,
    vnets: Vec<Earliest>,
    of_sites: OnceCell<Sites<'a>>,
    nsgs: Vec<OnceCell<Option<usize>>>,
    route_tables: Vec<OnceCell<Option<usize>>>,
}

/// A VNet as it was before.
#[derive(Clone, Copy, Default)]
struct Earliest {
    /// Its index then.
    index: Option<usize>,
    /// It, its NICs and hosts are as they were, at the same indices.
    same: bool,
}

impl<'a> Earlier<'a> {
    /// Compares; `ports` and `tags` say whether the names of ports, and the tags in use, are as they were.
    pub fn new(
        program: &'a Program,
        customer: &'a Customer,
        after: &Customer,
        ports: bool,
        tags: bool,
    ) -> Earlier<'a> {
        let sites = ports
            && customer.circuits == after.circuits
            && customer.gateways == after.gateways
            && customer.local_network_gateways == after.local_network_gateways
            && customer.connections == after.connections
            && customer.tunnels == after.tunnels;
        Earlier {
            vnets: vnets(customer, after),
            of_sites: OnceCell::new(),
            nsgs: after.nsgs.iter().map(|_| OnceCell::new()).collect(),
            route_tables: after.route_tables.iter().map(|_| OnceCell::new()).collect(),
            asgs: customer.asgs == after.asgs,
            customer,
            tags,
            program,
            sites,
            sources: changed_sources(&customer.learned_routes, &after.learned_routes),
        }
    }

    /// The index and the compiled form that a VNet had, by its index and number now.
    pub fn vnet(&self, index: usize, number: u32) -> Option<(usize, &'a Arc<Vnet>)> {
        let before = self.vnets.get(index)?.index?;
        let vnet = self.program.vnets.get(number as usize).filter(|v| !v.is_vacant())?;
        Some((before, vnet))
    }

    /// What was learned then, by site.
    pub fn sites(&self) -> &Sites<'a> {
        self.of_sites.get_or_init(|| Sites::new(self.customer))
    }

    /// A VNet, its NICs and hosts are as they were.
    pub fn is_same(&self, index: usize) -> bool {
        self.vnets.get(index).is_some_and(|v| v.same)
    }

    /// Nothing changed that the routes of a VNet's subnets depend on, but perhaps their route tables.
    pub fn routes_alike(&self, after: &Customer, index: usize) -> bool {
        let mut remotes =
            after.vnets.get(index).into_iter().flat_map(|v| &v.peerings).filter_map(|p| p.remote);
        self.sites
            && self.tags
            && self.is_same(index)
            && remotes.all(|r| self.is_same(r))
            && self.learned_alike(after, index)
    }

    /// Nothing changed of what the gateways of a VNet have learned.
    fn learned_alike(&self, after: &Customer, index: usize) -> bool {
        if self.sources.is_empty() {
            return true;
        }
        let gateways = topology::gateways(after, index);
        let mut connections =
            after.connections.iter().enumerate().filter(|(_, c)| gateways.contains(&c.gateway));
        connections.all(|(i, connection)| match connection.to {
            ConnectionTo::Circuit { circuit, .. } => {
                let peerings = after.circuits.get(circuit).map_or(0, |c| c.peerings.len());
                (0..peerings).all(|p| self.is_as_learned(Source::Peering(circuit, p)))
            }
            ConnectionTo::Site { .. } => self.is_as_learned(Source::Connection(i)),
        })
    }

    /// What circuit links and connections lead to is as it was, but perhaps where something else was learned.
    pub fn entries_alike(&self) -> bool {
        self.sites && self.vnets.len() == self.customer.vnets.len() && self.vnets.iter().all(|v| v.same)
    }

    /// What was learned there is as it was.
    pub fn is_as_learned(&self, source: Source) -> bool {
        !self.sources.contains(&source)
    }

    /// Nothing changed that a VNet depends on.
    pub fn is_untouched(&self, after: &Customer, index: usize) -> bool {
        let Some(vnet) = after.vnets.get(index).filter(|_| self.asgs) else { return false };
        let nsg = |nsg: Option<usize>| nsg.is_none_or(|n| self.nsg(after, n) == Some(n));
        let table = |table: Option<usize>| table.is_none_or(|t| self.route_table(after, t) == Some(t));
        self.routes_alike(after, index)
            && vnet.subnets.iter().all(|s| nsg(s.nsg) && table(s.route_table))
            && after.nics.iter().filter(|n| n.vnet == index).all(|n| nsg(n.nsg))
    }

    /// The index that a network security group had, if it is as it was.
    pub fn nsg(&self, after: &Customer, index: usize) -> Option<usize> {
        let found = || found(&self.customer.nsgs, after.nsgs.get(index)?, index, |g: &Nsg| &g.name);
        *self.nsgs.get(index)?.get_or_init(found)
    }

    /// The index that a route table had, if it is as it was.
    pub fn route_table(&self, after: &Customer, index: usize) -> Option<usize> {
        let found = || {
            found(&self.customer.route_tables, after.route_tables.get(index)?, index, |t: &RouteTable| {
                &t.name
            })
        };
        *self.route_tables.get(index)?.get_or_init(found)
    }
}

/// The sources of what stands in only one of the lists, or in another order.
fn changed_sources(before: &[LearnedRoute], after: &[LearnedRoute]) -> HashSet<Source, RandomState> {
    let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[same..], &after[same..]);
    let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let changed = before[..before.len() - same].iter().chain(&after[..after.len() - same]);
    changed.map(Source::of).collect()
}

/// Where the same thing stood: at the same index, or under the same name.
fn found<T: Eq>(
    before: &[Arc<T>],
    now: &Arc<T>,
    index: usize,
    name: impl Fn(&T) -> &String,
) -> Option<usize> {
    // Of what is shared, `==` sees that without looking inside.
    if before.get(index).is_some_and(|b| b == now) {
        return Some(index);
    }
    let found = before.iter().position(|b| name(b) == name(now))?;
    (before[found] == *now).then_some(found)
}

fn vnets(before: &Customer, after: &Customer) -> Vec<Earliest> {
    let lists = [before, after].map(|c| (by_vnet(c, &c.nics, |n| n.vnet), by_vnet(c, &c.hosts, |h| h.vnet)));
    let same = |v: usize| {
        before.vnets.get(v) == after.vnets.get(v)
            && lists[0].0.get(v) == lists[1].0.get(v)
            && lists[0].1.get(v) == lists[1].1.get(v)
    };
    let one = |(v, vnet): (usize, &crate::model::Vnet)| match before.vnets.get(v) {
        Some(at) if at.name == vnet.name => Earliest { index: Some(v), same: same(v) },
        _ => Earliest { index: before.vnets.iter().position(|b| b.name == vnet.name), same: false },
    };
    after.vnets.iter().enumerate().map(one).collect()
}

fn by_vnet<'a, T>(customer: &Customer, items: &'a [T], vnet: impl Fn(&T) -> usize) -> Vec<Vec<&'a T>> {
    let mut lists = vec![Vec::new(); customer.vnets.len()];
    for item in items {
        if let Some(list) = lists.get_mut(vnet(item)) {
            list.push(item);
        }
    }
    lists
}
