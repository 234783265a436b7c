//! What a change of configuration leaves as it was: which VNets, routes and rules of a customer can be taken over from
//! the program before.
//!
//! References in a model are indices, so equal models of something mean the same only where what they refer to stands at
//! the same index. Where that is in doubt, something counts as changed and is compiled again.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use ahash::RandomState;

use super::moved;
use super::program::{Part, Program, Vnet};
use super::topology::{self, Peer, Sites, Source};
use super::touched::{Marks, Touched};
use crate::model::{ConnectionTo, Customer, Nic, Nsg, RouteTable, ServiceTags};
use crate::types::Prefix;

/// A customer as it was compiled before.
pub(super) struct Earlier<'a> {
    /// Its model.
    pub customer: &'a Customer,
    /// The service tags that were in use.
    pub service_tags: &'a ServiceTags,
    /// Those that are in use still hold the same prefixes.
    pub tags: bool,
    /// What equal models name as application security groups are the same ones.
    pub asgs: bool,
    program: &'a Program,
    /// The ports have the same names.
    ports: bool,
    touched: Touched,
    /// From where something else was learned.
    sources: HashSet<Source, RandomState>,
    /// The prefixes of what that was.
    moved: Vec<Prefix>,
    /// VNets whose gateways have learned something else.
    told: Marks,
    vnets: Vec<Earliest>,
    /// The NICs, as they are now.
    nics: ByVnet<'a, Nic>,
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
    /// Its ranges and peerings are as they were, at the same index.
    near: bool,
}

impl<'a> Earlier<'a> {
    /// Compares; `ports` and `tags` say whether the names of ports, and the tags in use, are as they were.
    pub fn new(
        program: &'a Program,
        customer: &'a Customer,
        service_tags: &'a ServiceTags,
        after: &'a Customer,
        ports: bool,
        tags: bool,
    ) -> Earlier<'a> {
        let nics = ByVnet::new(&after.nics, after.vnets.len(), |n| n.vnet);
        let vnets = vnets(customer, after, &nics);
        let near = |vnet: usize| {
            let near = |v: usize| vnets.get(v).is_some_and(|v| v.near);
            let peerings = after.vnets.get(vnet).into_iter().flat_map(|v| &v.peerings);
            near(vnet) && peerings.filter_map(|p| p.remote).all(near)
        };
        let learned = moved::learned(customer, after);
        let sources = learned.into_iter().flatten().map(Source::of).collect();
        Earlier {
            touched: Touched::new(customer, after, near),
            told: told(after, &sources),
            moved: moved::of_learned(after, learned),
            vnets,
            nics,
            of_sites: OnceCell::new(),
            nsgs: after.nsgs.iter().map(|_| OnceCell::new()).collect(),
            route_tables: after.route_tables.iter().map(|_| OnceCell::new()).collect(),
            asgs: customer.asgs.iter().zip(&after.asgs).all(|(a, b)| a == b),
            customer,
            service_tags,
            tags,
            program,
            ports,
            sources,
        }
    }

    /// Nothing changed that anything compiled depends on.
    pub fn is_whole(&self, after: &Customer) -> bool {
        let Customer { vnets, nsgs, route_tables, .. } = self.customer;
        self.ports
            && self.tags
            && self.asgs
            && !self.touched.any
            && self.sources.is_empty()
            && (vnets.len(), nsgs.len(), route_tables.len())
                == (after.vnets.len(), after.nsgs.len(), after.route_tables.len())
            && self.vnets.iter().all(|v| v.same)
            && (0..nsgs.len()).all(|n| self.nsg(after, n) == Some(n))
            && (0..route_tables.len()).all(|t| self.route_table(after, t) == Some(t))
    }

    /// The numbers of the VNets and tunnels, if all names are as they were, in the same order.
    pub fn part(&self, number: u32) -> Option<&'a Part> {
        let same = |v: &Earliest, n: usize| v.index == Some(n);
        let names = self.customer.vnets.len() == self.vnets.len()
            && self.vnets.iter().enumerate().all(|(n, v)| same(v, n));
        self.program
            .parts
            .get(number as usize)
            .map(|p| &**p)
            .filter(|_| names && self.ports && !self.touched.any)
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
        let reaches_as_before = |home: usize| !self.touched.homes.has(home) && !self.told.has(home);
        self.ports
            && self.tags
            && self.is_same(index)
            && !self.touched.tunnels.has(index)
            && remotes.all(|r| self.is_same(r))
            && reaches_as_before(index)
            && topology::peers(after, index)
                .filter(Peer::uses_remote_gateways)
                .all(|p| reaches_as_before(p.vnet))
    }

    /// What a circuit's links or a connection lead to is as it was.
    pub fn entry_alike(&self, source: Source) -> bool {
        let touched = match source {
            Source::Peering(circuit, _) => self.touched.circuits.has(circuit),
            Source::Connection(connection) => self.touched.connections.has(connection),
        };
        self.ports && !touched && self.is_as_learned(source)
    }

    /// What was learned there is as it was.
    pub fn is_as_learned(&self, source: Source) -> bool {
        !self.sources.contains(&source)
    }

    /// Nothing changed that a VNet depends on.
    pub fn is_untouched(&self, after: &Customer, index: usize) -> bool {
        self.asgs
            && self.ways_alike(after, index)
            && self.nsgs_of(after, index).all(|n| self.nsg(after, n) == Some(n))
    }

    /// Packets of known flows go the ways they went: only rules changed, which are for flows to come.
    pub fn ways_hold(&self, after: &Customer, index: usize) -> bool {
        let flushes = |n: usize| after.nsgs.get(n).is_none_or(|n| n.flush_connection);
        self.ways_alike(after, index) && !self.nsgs_of(after, index).any(flushes)
    }

    /// The prefixes that changes of learned and user-defined routes move; `None` if something else changed that the ways of
    /// known flows depend on, or if they are too many.
    pub fn moved(&self, after: &Customer) -> Option<Vec<Prefix>> {
        let alike = self.ports
            && self.tags
            && !self.touched.any
            && self.customer.vnets.len() == after.vnets.len()
            && self.vnets.iter().all(|v| v.same)
            && !after.nsgs.iter().any(|n| n.flush_connection);
        let of_tables = || moved::of_tables(&self.customer.route_tables, &after.route_tables);
        let mut moved = alike.then(of_tables)??;
        moved.extend(&self.moved);
        (moved.len() <= moved::MOST).then_some(moved)
    }

    /// Nothing changed that a VNet depends on, but perhaps rules.
    fn ways_alike(&self, after: &Customer, index: usize) -> bool {
        let tables =
            after.vnets.get(index).into_iter().flat_map(|v| &v.subnets).filter_map(|s| s.route_table);
        let mut tables = tables.map(|t| self.route_table(after, t) == Some(t));
        self.routes_alike(after, index) && tables.all(|same| same)
    }

    /// The groups of a VNet's subnets and NICs.
    fn nsgs_of<'b>(&'b self, after: &'b Customer, index: usize) -> impl Iterator<Item = usize> + use<'a, 'b> {
        let of_subnets = after.vnets.get(index).into_iter().flat_map(|v| &v.subnets).filter_map(|s| s.nsg);
        of_subnets.chain(self.nics.of(index).filter_map(|n| n.nsg))
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

/// The VNets with a gateway that learns from one of these sources.
fn told(after: &Customer, sources: &HashSet<Source, RandomState>) -> Marks {
    if sources.is_empty() {
        return Marks::default();
    }
    let mut told = Marks::new([after.vnets.len(); 2]);
    for (number, connection) in after.connections.iter().enumerate() {
        let told_here = match connection.to {
            ConnectionTo::Circuit { circuit, .. } => {
                let peerings = after.circuits.get(circuit).map_or(0, |c| c.peerings.len());
                (0..peerings).any(|p| sources.contains(&Source::Peering(circuit, p)))
            }
            ConnectionTo::Site { .. } => sources.contains(&Source::Connection(number)),
        };
        if let Some(gateway) = after.gateways.get(connection.gateway).filter(|_| told_here) {
            told.set(gateway.vnet);
        }
    }
    told
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

fn vnets(before: &Customer, after: &Customer, nics: &ByVnet<'_, Nic>) -> Vec<Earliest> {
    let old_nics = ByVnet::new(&before.nics, before.vnets.len(), |n| n.vnet);
    let [old_hosts, hosts] = [before, after].map(|c| ByVnet::new(&c.hosts, c.vnets.len(), |h| h.vnet));
    let one = |(v, vnet): (usize, &crate::model::Vnet)| match before.vnets.get(v) {
        Some(at) if at.name == vnet.name => Earliest {
            index: Some(v),
            same: at == vnet && old_nics.of(v).eq(nics.of(v)) && old_hosts.of(v).eq(hosts.of(v)),
            near: (&at.address_space, &at.peerings) == (&vnet.address_space, &vnet.peerings),
        },
        _ => {
            let index = before.vnets.iter().position(|b| b.name == vnet.name);
            Earliest { index, same: false, near: false }
        }
    };
    after.vnets.iter().enumerate().map(one).collect()
}

/// Things of VNets, those of each VNet in their order.
struct ByVnet<'a, T> {
    items: Vec<&'a T>,
    /// Where those of each VNet end.
    ends: Vec<usize>,
}

impl<'a, T> ByVnet<'a, T> {
    fn new(items: &'a [T], vnets: usize, vnet: impl Fn(&T) -> usize) -> ByVnet<'a, T> {
        let mut sorted: Vec<&T> = items.iter().filter(|item| vnet(item) < vnets).collect();
        // Mostly they stand in this order, and that is found out in one pass.
        sorted.sort_by_key(|item| vnet(item));
        let mut ends = vec![0; vnets];
        for item in &sorted {
            ends[vnet(item)] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            end += *count;
            *count = end;
        }
        ByVnet { items: sorted, ends }
    }

    /// Those of a VNet.
    fn of(&self, vnet: usize) -> impl Iterator<Item = &'a T> + use<'a, '_, T> {
        let start = vnet.checked_sub(1).and_then(|v| self.ends.get(v)).copied().unwrap_or(0);
        let end = self.ends.get(vnet).copied().unwrap_or(start);
        self.items.get(start..end).into_iter().flatten().copied()
    }
}
