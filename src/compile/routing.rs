//! The routes and rules of one VNet's subnets. Subnets alike share them, and what did not change is taken over from the
//! program before.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::customer::Work;
use super::earlier::Earlier;
use super::effective::{self, EffectiveRoute, RouteSource, SubnetRouting};
use super::names::{Names, Party};
use super::program::{Fib, FibRoute, Hop, Vnet};
use super::security::{Group, Scope, internet_tag};
use super::topology::{self, Learned};
use crate::model::{self, GATEWAY_SUBNET, ServiceEndpoint};
use crate::packet::NextHopType;
use crate::types::Prefix;

/// What the routes, and so the rules, of a subnet depend on inside its VNet: its route table and service endpoints.
pub(super) type Key<'a> = (Option<usize>, &'a [ServiceEndpoint]);

/// The key of a subnet.
pub(super) fn key(subnet: &model::Subnet) -> Key<'_> {
    (subnet.route_table, &subnet.service_endpoints)
}

/// The key of what comes from a gateway.
pub(super) fn gateway_key(vnet: &model::Vnet) -> Key<'_> {
    vnet.subnets.iter().find(|s| s.name == GATEWAY_SUBNET).map_or((None, &[]), key)
}

/// The routes and rules of one VNet's subnets.
pub(super) struct Routing<'c, 'a> {
    work: &'c Work<'a>,
    names: &'c mut Names,
    vnet: usize,
    learned: &'c Learned,
    /// The number of the ways to each learned prefix.
    ways: &'c BTreeMap<Prefix, u32>,
    effective: HashMap<Key<'a>, Rc<Vec<EffectiveRoute<'a>>>>,
    fibs: HashMap<Key<'a>, Arc<Fib>>,
    scopes: HashMap<Key<'a>, Rc<Scope>>,
    groups: HashMap<(Key<'a>, usize), Arc<Group>>,
    before: Option<Before<'c, 'a>>,
}

/// The same VNet in the program before.
struct Before<'c, 'a> {
    earlier: &'c Earlier<'a>,
    index: usize,
    /// Its routes hold as far as the route table is the same.
    routes_alike: bool,
    fibs: HashMap<Key<'a>, &'a Arc<Fib>>,
    groups: HashMap<usize, Vec<(Key<'a>, &'a Arc<Group>)>>,
    learned: Option<Learned>,
    scopes: HashMap<Key<'a>, Rc<Scope>>,
}

impl<'c, 'a> Before<'c, 'a> {
    fn new(work: &'c Work<'a>, vnet: usize) -> Option<Before<'c, 'a>> {
        let earlier = work.earlier.as_ref()?;
        let (index, compiled): (usize, &'a Arc<Vnet>) = earlier.vnet(vnet, work.vnets[vnet])?;
        let model = earlier.customer.vnets.get(index)?;
        let mut fibs = HashMap::new();
        let mut groups: HashMap<usize, Vec<(Key<'a>, &'a Arc<Group>)>> = HashMap::new();
        for (subnet, compiled) in model.subnets.iter().zip(&compiled.subnets) {
            fibs.insert(key(subnet), &compiled.fib);
            if let (Some(nsg), Some(group)) = (subnet.nsg, &compiled.group) {
                groups.entry(nsg).or_default().push((key(subnet), group));
            }
        }
        fibs.insert(gateway_key(model), &compiled.gateway_fib);
        for (nic, compiled) in earlier.customer.nics.iter().filter(|n| n.vnet == index).zip(&compiled.nics) {
            if let (Some(nsg), Some(group), Some(subnet)) =
                (nic.nsg, &compiled.group, model.subnets.get(nic.subnet))
            {
                groups.entry(nsg).or_default().push((key(subnet), group));
            }
        }
        let routes_alike = earlier.routes_alike(work.customer, vnet);
        Some(Before { earlier, index, routes_alike, fibs, groups, learned: None, scopes: HashMap::new() })
    }

    /// What the tags stood for at endpoints with this key.
    fn scope(&mut self, key: Key<'a>) -> Rc<Scope> {
        let (earlier, index) = (self.earlier, self.index);
        let customer = earlier.customer;
        let learned =
            self.learned.get_or_insert_with(|| earlier.sites().learned(&topology::gateways(customer, index)));
        let make = || {
            let routing = SubnetRouting { route_table: key.0, service_endpoints: key.1 };
            // A tag that is no longer in use anywhere is not among those of now.
            let routes = effective::effective_routes(customer, earlier.service_tags, index, routing, learned);
            Rc::new(scope(&customer.vnets[index], index, &routes))
        };
        self.scopes.entry(key).or_insert_with(make).clone()
    }
}

fn scope(vnet: &model::Vnet, index: usize, routes: &[EffectiveRoute<'_>]) -> Scope {
    let space = &vnet.address_space;
    let virtual_network = effective::virtual_network_tag(space, routes).into();
    Scope { virtual_network, internet: internet_tag(space).into(), vnet: index }
}

impl<'c, 'a> Routing<'c, 'a> {
    pub fn new(
        work: &'c Work<'a>,
        names: &'c mut Names,
        vnet: usize,
        learned: &'c Learned,
        ways: &'c BTreeMap<Prefix, u32>,
    ) -> Self {
        Routing {
            work,
            names,
            vnet,
            learned,
            ways,
            effective: HashMap::new(),
            fibs: HashMap::new(),
            scopes: HashMap::new(),
            groups: HashMap::new(),
            before: Before::new(work, vnet),
        }
    }

    fn effective(&mut self, key: Key<'a>) -> Rc<Vec<EffectiveRoute<'a>>> {
        let Routing { work, vnet, learned, .. } = *self;
        let make = || {
            let routing = SubnetRouting { route_table: key.0, service_endpoints: key.1 };
            Rc::new(effective::effective_routes(work.customer, work.tags, vnet, routing, learned))
        };
        self.effective.entry(key).or_insert_with(make).clone()
    }

    /// What the tags stand for at endpoints with this key.
    fn scope(&mut self, key: Key<'a>) -> Rc<Scope> {
        if let Some(scope) = self.scopes.get(&key) {
            return scope.clone();
        }
        let routes = self.effective(key);
        let scope = Rc::new(scope(&self.work.customer.vnets[self.vnet], self.vnet, &routes));
        self.scopes.insert(key, scope.clone());
        scope
    }

    /// The same key before, if what stands behind it is as it was.
    fn key_before(&self, key: Key<'a>) -> Option<Key<'a>> {
        let before = self.before.as_ref().filter(|b| b.routes_alike)?;
        let same = |table| before.earlier.route_table(self.work.customer, table);
        match key.0 {
            None => Some(key),
            Some(table) => Some((Some(same(table)?), key.1)),
        }
    }

    /// The number of a party.
    pub fn party(&mut self, party: Party) -> u32 {
        self.names.party(party)
    }

    /// The routes of subnets with this key.
    pub fn fib(&mut self, key: Key<'a>) -> Arc<Fib> {
        if let Some(fib) = self.fibs.get(&key) {
            return fib.clone();
        }
        let before = self.key_before(key);
        let before = before.and_then(|k| self.before.as_ref()?.fibs.get(&k).copied());
        let fib = match before {
            Some(fib) => fib.clone(),
            None => {
                let routes = self.effective(key);
                Arc::new(self.compile_fib(&routes))
            }
        };
        self.fibs.insert(key, fib.clone());
        fib
    }

    /// The rules of a group at endpoints with this key.
    pub fn group(&mut self, key: Key<'a>, nsg: usize) -> Arc<Group> {
        if let Some(group) = self.groups.get(&(key, nsg)) {
            return group.clone();
        }
        let group = match self.group_before(key, nsg) {
            Some(group) => group,
            None => {
                let scope = self.scope(key);
                let Work { customer, tags, .. } = *self.work;
                Arc::new(Group::new(&customer.nsgs[nsg], customer, tags, &scope, self.names))
            }
        };
        self.groups.insert((key, nsg), group.clone());
        group
    }

    /// The compiled group of the program before, if its rules and what they name are as they were.
    fn group_before(&mut self, key: Key<'a>, nsg: usize) -> Option<Arc<Group>> {
        let customer = self.work.customer;
        let before = self.before.as_ref().filter(|b| b.earlier.tags)?;
        let earlier = before.earlier;
        let at = earlier.nsg(customer, nsg)?;
        if !(earlier.asgs && earlier.is_same(self.vnet))
            && customer.nsgs[nsg].rules.iter().any(|r| r.names_asgs())
        {
            return None;
        }
        let candidates = before.groups.get(&at)?.clone();
        if let Some(same) = self.key_before(key)
            && let Some((_, group)) = candidates.iter().find(|(k, _)| *k == same)
        {
            return Some((*group).clone());
        }
        let scope = self.scope(key);
        let before = self.before.as_mut()?;
        let alike =
            |s: &Scope| (&s.virtual_network, &s.internet) == (&scope.virtual_network, &scope.internet);
        candidates.iter().find(|(k, _)| alike(&before.scope(*k))).map(|(_, group)| (*group).clone())
    }

    fn compile_fib(&mut self, routes: &[EffectiveRoute<'a>]) -> Fib {
        let used = effective::resolve(routes);
        let mut numbers: Vec<Option<u32>> = vec![None; routes.len()];
        let mut compiled = Vec::with_capacity(used.len());
        let mut number = |index: usize| {
            *numbers[index].get_or_insert_with(|| {
                compiled.push(self.route(&routes[index]));
                compiled.len() as u32 - 1
            })
        };
        let table = used.into_iter().map(|(prefix, index)| (prefix, number(index))).collect();
        Fib::new(table, compiled)
    }

    fn route(&mut self, route: &EffectiveRoute<'a>) -> FibRoute {
        let hop = match (route.next_hop_type, route.next_hop_ip, route.peer) {
            (NextHopType::VnetLocal, _, _) => Hop::Local,
            (NextHopType::VNetPeering, _, Some(peer)) => {
                Hop::Peer { vnet: self.work.vnets[peer], allow_forwarded: self.allows_forwarded(peer) }
            }
            (NextHopType::VirtualAppliance, Some(address), _) => self.appliance(address),
            (NextHopType::VirtualNetworkGateway, _, _) if route.source == RouteSource::User => Hop::Vpn,
            // A learned route has a way, or it would not be there.
            (NextHopType::VirtualNetworkGateway, _, _) => {
                self.ways.get(&route.prefix).map_or(Hop::None, |ways| Hop::Ways(*ways))
            }
            (NextHopType::Internet, _, _) => Hop::Internet,
            (NextHopType::VirtualNetworkServiceEndpoint, _, _) => Hop::Services,
            _ => Hop::None,
        };
        FibRoute {
            prefix: route.prefix,
            next_hop_type: route.next_hop_type,
            hop,
            source: route.source,
            name: route.name.map(Arc::from),
        }
    }

    /// The peer's own side of its peering with this VNet allows forwarded traffic.
    fn allows_forwarded(&self, peer: usize) -> bool {
        topology::peers(self.work.customer, self.vnet).any(|p| p.vnet == peer && p.theirs.allow_forwarded)
    }

    /// An appliance's address, in the VNet or a peer whose routes it has.
    fn appliance(&mut self, address: IpAddr) -> Hop {
        let mut near = vec![self.vnet];
        let usable = topology::peers(self.work.customer, self.vnet).filter(|p| p.is_usable());
        near.extend(usable.map(|p| p.vnet));
        let found = near.into_iter().find_map(|v| {
            let place = self.work.hosts(v).places.lookup(address)?;
            place.subnet.map(|_| (v, place))
        });
        let Some((vnet, place)) = found else {
            return Hop::Appliance { address, place: None, refuses_forwarded: false, party: 0 };
        };
        let number = self.work.vnets[vnet];
        Hop::Appliance {
            address,
            place: Some((number, place)),
            refuses_forwarded: vnet != self.vnet && !self.allows_forwarded(vnet),
            party: self.names.party(Party::Address(number, address)),
        }
    }
}
