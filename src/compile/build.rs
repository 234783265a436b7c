//! The compiler: from a valid model to a program.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use super::effective::{self, EffectiveRoute, RouteSource, SubnetRouting};
use super::names::{Names, Party};
use super::program::*;
use super::security::{Group, Scope, internet_tag};
use super::topology::{self, Learned, Way};
use crate::model::{
    ConnectionTo, Customer, Encapsulation, GATEWAY_SUBNET, Model, Role, ServiceEndpoint, ServiceTags,
    TunnelTo,
};
use crate::packet::{Direction, NextHopType};
use crate::table::ecmp;
use crate::table::lpm::Lpm;
use crate::types::Prefix;

/// Compiles a model. Names keep the numbers they have in `names`; new ones are added.
pub fn compile(model: &Model, names: &mut Names) -> Program {
    let mut compiler =
        Compiler { model, names, ways: Interner::default(), tunnels: Vec::new(), entries: Vec::new() };
    let mut vnets = Vec::new();
    let mut first = 0;
    for customer in &model.customers {
        let place = Customers::new(compiler.names, customer, first, compiler.tunnels.len() as u32);
        compiler.tunnels_of(&place);
        compiler.vnets_of(&place, &mut vnets);
        first += customer.vnets.len() as u32;
    }
    let mut by_key: HashMap<(u16, bool, u32), Vec<u32>, RandomState> = HashMap::default();
    for (i, tunnel) in compiler.tunnels.iter().enumerate() {
        let key = if tunnel.nvgre { tunnel.wire_key >> 8 } else { tunnel.wire_key };
        by_key.entry((tunnel.port, tunnel.nvgre, key)).or_default().push(i as u32);
    }
    let ports: Vec<Port> = model.ports.iter().map(port).collect();
    let with_role = |role| ports.iter().position(|p| p.role == role).map(|i| i as u16);
    Program {
        internet_port: with_role(Role::Internet),
        services_port: with_role(Role::Services),
        plain: plain_owners(&vnets),
        broadcast_bits: broadcast_bits(&vnets),
        by_key,
        ports,
        tunnels: compiler.tunnels,
        entries: compiler.entries,
        ways: compiler.ways.items,
        vnets,
        names: Arc::new(names.clone()),
    }
}

fn port(port: &crate::model::Port) -> Port {
    Port {
        name: port.name.clone(),
        role: port.role,
        address: port.address,
        mtu: port.mtu,
        next_hop: port.next_hop,
    }
}

/// The host bits of the smallest IPv4 subnet.
fn broadcast_bits(vnets: &[Vnet]) -> u32 {
    let prefixes = vnets.iter().flat_map(|v| &v.subnets).flat_map(|s| &s.prefixes).filter(|p| p.is_ipv4());
    let longest = prefixes.map(Prefix::len).max().unwrap_or(0);
    u32::MAX.checked_shr(u32::from(longest)).unwrap_or(0)
}

/// For every range of every VNet, whose the addresses are whose longest match it is.
fn plain_owners(vnets: &[Vnet]) -> Lpm<PlainOwner> {
    let mut owners: BTreeMap<Prefix, Vec<u32>> = BTreeMap::new();
    for (i, vnet) in vnets.iter().enumerate() {
        for range in &vnet.space {
            owners.entry(*range).or_default().push(i as u32);
        }
    }
    let mut table: Lpm<PlainOwner> = Lpm::default();
    // Shorter prefixes first, so that a longer one sees who owns what covers it.
    let mut ranges: Vec<_> = owners.into_iter().collect();
    ranges.sort_by_key(|(p, _)| p.len());
    for (range, own) in ranges {
        let covering = table.chain(range.first());
        let mut all: Vec<PlainOwner> = covering;
        all.extend(own.into_iter().map(PlainOwner::One));
        all.dedup();
        let owner = match all.as_slice() {
            [one] => *one,
            _ => PlainOwner::Several,
        };
        table.insert(range, owner);
    }
    table
}

/// A customer and where its VNets and tunnels begin in the program.
struct Customers<'a> {
    customer: &'a Customer,
    id: u32,
    vnet_ids: Vec<u32>,
    first_vnet: u32,
    first_tunnel: u32,
}

impl<'a> Customers<'a> {
    fn new(names: &mut Names, customer: &'a Customer, first_vnet: u32, first_tunnel: u32) -> Self {
        let id = names.customer(&customer.name);
        let vnet_ids = customer.vnets.iter().map(|v| names.vnet(id, &v.name)).collect();
        Customers { customer, id, vnet_ids, first_vnet, first_tunnel }
    }

    fn vnet(&self, vnet: usize) -> u32 {
        self.first_vnet + vnet as u32
    }
}

struct Interner<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { items: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interner<T> {
    fn number(&mut self, item: T) -> u32 {
        let next = self.items.len() as u32;
        let number = *self.numbers.entry(item.clone()).or_insert(next);
        if number == next {
            self.items.push(item);
        }
        number
    }
}

/// What the routes, and so the rules, of a subnet depend on inside its VNet.
type RoutingKey<'a> = (Option<usize>, &'a [ServiceEndpoint]);

struct Compiler<'a> {
    model: &'a Model,
    names: &'a mut Names,
    ways: Interner<Ways>,
    tunnels: Vec<TunnelEnd>,
    entries: Vec<Entry>,
}

/// The name of a way, from which its number is made.
fn way_name(customer: &Customer, to: TunnelTo) -> String {
    match to {
        TunnelTo::Link { circuit, peering, link } => {
            let circuit = customer.circuits.get(circuit);
            let peering = circuit.and_then(|c| c.peerings.get(peering)).map_or("", |p| &p.name);
            format!("link {}/{peering}/{}", circuit.map_or("", |c| &c.name), link.name())
        }
        TunnelTo::Connection(c) => {
            format!("connection {}", customer.connections.get(c).map_or("", |c| &c.name))
        }
        TunnelTo::Vnet(v) => format!("vnet {}", customer.vnets.get(v).map_or("", |v| &v.name)),
        TunnelTo::Internet(v) => format!("internet {}", customer.vnets.get(v).map_or("", |v| &v.name)),
    }
}

impl<'a> Compiler<'a> {
    fn tunnels_of(&mut self, place: &Customers<'a>) {
        for tunnel in &place.customer.tunnels {
            let (reaches, vnet) = match tunnel.to {
                TunnelTo::Vnet(v) => (Reaches::Hosts { vnet: place.vnet(v) }, Some(v)),
                TunnelTo::Internet(v) => (Reaches::Internet { vnet: place.vnet(v) }, Some(v)),
                to => (Reaches::Site { entry: self.entry(place, to) }, None),
            };
            let nvgre = tunnel.encapsulation == Encapsulation::Nvgre;
            let port = self.model.ports.get(tunnel.port).map_or("", |p| &p.name);
            let identity = format!(
                "{} {} {port} {} {}",
                place.customer.name,
                way_name(place.customer, tunnel.to),
                tunnel.key,
                nvgre
            );
            self.tunnels.push(TunnelEnd {
                reaches,
                customer: place.id,
                vnet: vnet.and_then(|v| place.vnet_ids.get(v).copied()),
                port: tunnel.port as u16,
                remote: tunnel.remote,
                wire_key: if nvgre { tunnel.key << 8 } else { tunnel.key },
                nvgre,
                enabled: tunnel.enabled,
                sequence: tunnel.sequence,
                id: self.names.tunnel(identity),
            });
        }
    }

    fn entry(&mut self, place: &Customers<'a>, to: TunnelTo) -> u32 {
        let site = topology::site(place.customer, to);
        let party = match to {
            TunnelTo::Link { circuit, peering, link } => {
                let circuit = place.customer.circuits.get(circuit);
                let peering = circuit.and_then(|c| c.peerings.get(peering)).map_or("", |p| &p.name);
                Party::Link(place.id, circuit.map_or("", |c| &c.name).to_owned(), peering.to_owned(), link)
            }
            TunnelTo::Connection(c) => {
                let name = place.customer.connections.get(c).map_or("", |c| &c.name);
                Party::Connection(place.id, name.to_owned())
            }
            TunnelTo::Vnet(v) | TunnelTo::Internet(v) => {
                Party::Internet(place.vnet_ids.get(v).copied().unwrap_or_default())
            }
        };
        self.entries.push(Entry {
            enter: site.enter.iter().map(|(p, v)| (*p, place.vnet(*v))).collect(),
            inside: site.inside.iter().map(|p| (*p, ())).collect(),
            learned: site.learned.iter().map(|p| (*p, ())).collect(),
            party: self.names.party(party),
        });
        (self.entries.len() - 1) as u32
    }

    /// The number of the best of these ways.
    fn ways(&mut self, place: &Customers<'a>, ways: &[Way]) -> u32 {
        let best = topology::best(ways).into_iter().map(|w| {
            let to = place.customer.tunnels.get(w.tunnel).map(|t| t.to);
            let name = to.map_or(String::new(), |to| way_name(place.customer, to));
            (ecmp::way_id(&name), place.first_tunnel + w.tunnel as u32)
        });
        let best = Ways { ways: best.collect() };
        self.ways.number(best)
    }

    fn vnets_of(&mut self, place: &Customers<'a>, vnets: &mut Vec<Vnet>) {
        let hosts: Vec<Hosts> =
            (0..place.customer.vnets.len()).map(|v| Hosts::new(place.customer, v)).collect();
        for vnet in 0..place.customer.vnets.len() {
            let compiled = self.vnet(place, vnet, &hosts);
            vnets.push(compiled);
        }
    }

    fn vnet(&mut self, place: &Customers<'a>, index: usize, hosts: &[Hosts]) -> Vnet {
        let customer = place.customer;
        let vnet = &customer.vnets[index];
        let id = place.vnet_ids[index];
        let gateways = topology::gateways(customer, index);
        let learned = topology::learned(customer, &gateways);
        let vpn: Vec<usize> = gateways.iter().copied().filter(|g| topology::is_vpn(customer, *g)).collect();
        let (vpn_routes, vpn_default) = self.vpn(place, &vpn);

        let mut routing = Routing::new(self, place, index, &learned, hosts);
        let mut subnets = Vec::new();
        for subnet in &vnet.subnets {
            let nsg = subnet.nsg.filter(|_| subnet.name != GATEWAY_SUBNET);
            let key = (subnet.route_table, subnet.service_endpoints.as_slice());
            subnets.push(Subnet {
                name: subnet.name.clone(),
                prefixes: subnet.prefixes.clone(),
                fib: routing.fib(key),
                group: nsg.map(|g| routing.group(key, g)),
            });
        }
        let gateway_subnet = vnet.subnets.iter().find(|s| s.name == GATEWAY_SUBNET);
        let gateway_key =
            gateway_subnet.map_or((None, &[][..]), |s| (s.route_table, s.service_endpoints.as_slice()));
        let gateway_fib = routing.fib(gateway_key);
        let mut nics = Vec::new();
        for (number, nic) in hosts[index].nics.iter() {
            debug_assert_eq!(nics.len() as u32, *number);
            let nic = &customer.nics[*nic];
            let Some(subnet) = vnet.subnets.get(nic.subnet) else { continue };
            let key = (subnet.route_table, subnet.service_endpoints.as_slice());
            let group = nic.nsg.filter(|_| subnet.name != GATEWAY_SUBNET).map(|g| routing.group(key, g));
            let applying =
                |g: &Option<Arc<Group>>, d| g.as_ref().and_then(|g| g.rules(d).for_members_of(&nic.asgs));
            let of_subnet = &subnets[nic.subnet].group;
            nics.push(Nic {
                name: nic.name.clone(),
                party: 0,
                subnet: nic.subnet as u16,
                forwarding: nic.ip_forwarding,
                tracks_tcp: !nic.disable_tcp_state_tracking,
                mac: nic.mac,
                addresses: nic.addresses.clone(),
                max_flows: nic.max_flows,
                applying: [
                    applying(&group, Direction::Inbound),
                    applying(&group, Direction::Outbound),
                    applying(of_subnet, Direction::Inbound),
                    applying(of_subnet, Direction::Outbound),
                ],
                group,
            });
        }
        for nic in &mut nics {
            nic.party = self.names.party(Party::Nic(id, nic.name.clone()));
        }
        let (host_list, host_numbers) = (hosts[index].hosts.clone(), hosts[index].numbers.clone());
        Vnet {
            customer: place.id,
            id,
            flow_timeout_minutes: vnet.flow_timeout_minutes,
            max_flows: vnet.max_flows,
            around: around(place, index),
            space: vnet.address_space.clone(),
            places: hosts[index].places.iter().copied().collect(),
            subnets,
            forwarders: hosts[index].forwarders(customer),
            nics,
            hosts: host_list,
            host_numbers,
            fabric: self.tunnel_of(place, TunnelTo::Vnet(index)).filter(|(_, up)| *up).map(|(t, _)| t),
            internet: match self.tunnel_of(place, TunnelTo::Internet(index)) {
                None => InternetWay::Plain,
                Some((tunnel, true)) => InternetWay::Tunnel(tunnel),
                Some((_, false)) => InternetWay::Down,
            },
            internet_party: self.names.party(Party::Internet(id)),
            gateway_fib,
            learned: learned.keys().filter(|p| !p.is_default()).map(|p| (*p, ())).collect(),
            vpn: vpn_routes,
            vpn_default,
        }
    }

    fn tunnel_of(&self, place: &Customers<'a>, to: TunnelTo) -> Option<(u32, bool)> {
        let tunnels = &place.customer.tunnels;
        let index = tunnels.iter().position(|t| t.to == to)?;
        Some((place.first_tunnel + index as u32, tunnels[index].enabled))
    }

    /// Ways of user-defined routes to the VPN gateway: by learned prefix, and the default site's.
    fn vpn(&mut self, place: &Customers<'a>, gateways: &[usize]) -> (Lpm<u32>, Option<u32>) {
        let customer = place.customer;
        let learned = topology::learned(customer, gateways);
        let table = learned.iter().map(|(p, ways)| (*p, self.ways(place, ways))).collect();
        let sites: Vec<usize> =
            gateways.iter().filter_map(|g| customer.gateways.get(*g)?.default_site).collect();
        let mut ways = Vec::new();
        for (i, connection) in customer.connections.iter().enumerate() {
            let ConnectionTo::Site { local_network_gateway: Some(site), routing_weight } = connection.to
            else {
                continue;
            };
            if gateways.contains(&connection.gateway) && sites.contains(&site) {
                let up = customer.tunnels.iter().enumerate();
                let up = up.filter(|(_, t)| t.enabled && t.to == TunnelTo::Connection(i));
                ways.extend(up.map(|(tunnel, _)| Way {
                    tunnel,
                    express_route: false,
                    weight: routing_weight,
                    as_path: 0,
                }));
            }
        }
        let default = (!ways.is_empty()).then(|| self.ways(place, &ways));
        (table, default)
    }
}

/// Whose ranges hold an address: the VNet's own and those of all peers that count.
fn around(place: &Customers<'_>, index: usize) -> Lpm<Neighbour> {
    let mut near: Vec<usize> = topology::peers(place.customer, index).map(|p| p.vnet).collect();
    near.push(index);
    let mut table = Lpm::default();
    for vnet in near {
        for (range, prefix) in place.customer.vnets[vnet].address_space.iter().enumerate() {
            table.insert(*prefix, Neighbour { vnet: place.vnet(vnet), range: range as u32 });
        }
    }
    table
}

/// The hosts and NICs of a VNet, and what each of its addresses is.
struct Hosts {
    hosts: Vec<IpAddr>,
    numbers: HashMap<IpAddr, u32, RandomState>,
    /// Number in the VNet, index in the customer.
    nics: Vec<(u32, usize)>,
    places: Vec<(Prefix, Place)>,
    lookup: Lpm<Place>,
}

impl Hosts {
    fn new(customer: &Customer, index: usize) -> Hosts {
        let mut hosts = Vec::new();
        let mut numbers: HashMap<IpAddr, u32, RandomState> = HashMap::default();
        let mut carried: Lpm<u32> = Lpm::default();
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
        let mut subnets: Lpm<u16> = Lpm::default();
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
            nics.push((number, i));
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
                subnet: longest_covering(&subnets, p),
                host: longest_covering(&carried, p),
                nic: single.and_then(|a| owners.get(&a).copied()),
                broadcast: single.is_some_and(|a| last.contains(&a)),
            }
        };
        let places: Vec<(Prefix, Place)> = edges.iter().map(|p| (*p, place(p))).collect();
        let lookup = places.iter().copied().collect();
        Hosts { hosts, numbers, nics, places, lookup }
    }

    /// For each host, the NICs with IP forwarding that have an address there.
    fn forwarders(&self, customer: &Customer) -> Vec<Vec<u32>> {
        let mut forwarders = vec![Vec::new(); self.hosts.len()];
        for (number, index) in &self.nics {
            let nic = &customer.nics[*index];
            for addr in nic.addresses.iter().filter(|_| nic.ip_forwarding) {
                if let Some(host) = self.lookup.lookup(*addr).and_then(|p| p.host)
                    && !forwarders[host as usize].contains(number)
                {
                    forwarders[host as usize].push(*number);
                }
            }
        }
        forwarders
    }
}

/// The value of the longest of the table's prefixes that holds all of `p`.
fn longest_covering<T: Copy>(table: &Lpm<T>, p: &Prefix) -> Option<T> {
    (0..=p.len()).rev().find_map(|len| table.exact(Prefix::new(p.first(), len)))
}

/// The routes and rules of one VNet's subnets; subnets alike share them.
struct Routing<'c, 'a> {
    compiler: &'c mut Compiler<'a>,
    place: &'c Customers<'a>,
    vnet: usize,
    learned: &'c Learned,
    hosts: &'c [Hosts],
    fibs: HashMap<RoutingKey<'a>, (Arc<Fib>, Arc<Scope>)>,
    groups: HashMap<(RoutingKey<'a>, usize), Arc<Group>>,
}

impl<'c, 'a> Routing<'c, 'a> {
    fn new(
        compiler: &'c mut Compiler<'a>,
        place: &'c Customers<'a>,
        vnet: usize,
        learned: &'c Learned,
        hosts: &'c [Hosts],
    ) -> Self {
        Routing { compiler, place, vnet, learned, hosts, fibs: HashMap::new(), groups: HashMap::new() }
    }

    fn both(&mut self, key: RoutingKey<'a>) -> (Arc<Fib>, Arc<Scope>) {
        if let Some(both) = self.fibs.get(&key) {
            return both.clone();
        }
        let customer = self.place.customer;
        let tags: &'a ServiceTags = &self.compiler.model.tags;
        let routing = SubnetRouting { route_table: key.0, service_endpoints: key.1 };
        let routes = effective::effective_routes(customer, tags, self.vnet, routing, self.learned);
        let space = &customer.vnets[self.vnet].address_space;
        let scope = Scope {
            virtual_network: effective::virtual_network_tag(space, &routes),
            internet: internet_tag(space),
            vnet: self.vnet,
        };
        let both = (Arc::new(self.compile_fib(&routes)), Arc::new(scope));
        self.fibs.insert(key, both.clone());
        both
    }

    fn fib(&mut self, key: RoutingKey<'a>) -> Arc<Fib> {
        self.both(key).0
    }

    fn group(&mut self, key: RoutingKey<'a>, nsg: usize) -> Arc<Group> {
        if let Some(group) = self.groups.get(&(key, nsg)) {
            return group.clone();
        }
        let (_, scope) = self.both(key);
        let (customer, model) = (self.place.customer, self.compiler.model);
        let nsg_model = &customer.nsgs[nsg];
        let group = Arc::new(Group::new(nsg_model, customer, &model.tags, &scope, self.compiler.names));
        self.groups.insert((key, nsg), group.clone());
        group
    }

    fn compile_fib(&mut self, routes: &[EffectiveRoute<'a>]) -> Fib {
        let used = effective::resolve(routes);
        let mut table = Lpm::default();
        let mut numbers: HashMap<usize, u32> = HashMap::new();
        let mut compiled = Vec::new();
        for (prefix, index) in used {
            let number = *numbers.entry(index).or_insert_with(|| {
                compiled.push(self.route(&routes[index]));
                compiled.len() as u32 - 1
            });
            table.insert(prefix, number);
        }
        let system_default = FibRoute {
            prefix: Prefix::ALL_V4,
            next_hop_type: NextHopType::Internet,
            hop: Hop::Services,
            source: RouteSource::Default,
            name: None,
        };
        Fib { table, routes: compiled, system_default }
    }

    fn route(&mut self, route: &EffectiveRoute<'a>) -> FibRoute {
        let hop = match (route.next_hop_type, route.next_hop_ip, route.peer) {
            (NextHopType::VnetLocal, _, _) => Hop::Local,
            (NextHopType::VNetPeering, _, Some(peer)) => {
                Hop::Peer { vnet: self.place.vnet(peer), allow_forwarded: self.allows_forwarded(peer) }
            }
            (NextHopType::VirtualAppliance, Some(address), _) => self.appliance(address),
            (NextHopType::VirtualNetworkGateway, _, _) if route.source == RouteSource::User => Hop::Vpn,
            (NextHopType::VirtualNetworkGateway, _, _) => {
                let ways = self.learned.get(&route.prefix).map_or(&[][..], Vec::as_slice);
                Hop::Ways(self.compiler.ways(self.place, ways))
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
        topology::peers(self.place.customer, self.vnet).any(|p| p.vnet == peer && p.theirs.allow_forwarded)
    }

    /// An appliance's address, in the VNet or a peer whose routes it has.
    fn appliance(&mut self, address: IpAddr) -> Hop {
        let customer = self.place.customer;
        let mut near = vec![self.vnet];
        let usable = topology::peers(customer, self.vnet).filter(|p| p.is_usable());
        near.extend(usable.map(|p| p.vnet));
        let found = near.into_iter().find_map(|v| {
            let place = self.hosts[v].lookup.lookup(address)?;
            place.subnet.map(|_| (v, place))
        });
        let Some((vnet, place)) = found else {
            return Hop::Appliance { address, place: None, refuses_forwarded: false, party: 0 };
        };
        let id = self.place.vnet_ids[vnet];
        Hop::Appliance {
            address,
            place: Some((self.place.vnet(vnet), place)),
            refuses_forwarded: vnet != self.vnet && !self.allows_forwarded(vnet),
            party: self.compiler.names.party(Party::Address(id, address)),
        }
    }
}
