//! One customer: its tunnels, what they lead to, and its VNets. Nothing here looks at another customer.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;

use super::earlier::Earlier;
use super::hosts::Hosts;
use super::names::{LinkName, Names, Party, TunnelName};
use super::program::*;
use super::routing::{Routing, gateway_key, key};
use super::security::Group;
use super::topology::{self, Learned, Sites, Source, Way};
use crate::model::{
    Circuit, ConnectionTo, Customer, Encapsulation, GATEWAY_SUBNET, Link, Model, ServiceTags, TunnelTo,
};
use crate::packet::Direction;
use crate::table::ecmp;
use crate::table::lpm::Lpm;
use crate::types::Prefix;

/// A customer while it is compiled.
pub(super) struct Work<'a> {
    /// Its model.
    pub customer: &'a Customer,
    /// The service tags.
    pub tags: &'a ServiceTags,
    /// Its number.
    pub id: u32,
    /// The numbers of its VNets.
    pub vnets: Vec<u32>,
    /// The numbers of its tunnels.
    pub tunnels: Vec<u32>,
    /// What it was before.
    pub earlier: Option<Earlier<'a>>,
    sites: OnceCell<Sites<'a>>,
    hosts: Vec<OnceCell<Hosts>>,
}

/// The name of a way, from which its number is made.
fn way_name(customer: &Customer, to: TunnelTo) -> String {
    match to {
        TunnelTo::Link { circuit, peering, link } => {
            let (circuit, peering) = link_names(customer, circuit, peering);
            format!("link {circuit}/{peering}/{}", link.name())
        }
        TunnelTo::Connection(c) => {
            format!("connection {}", customer.connections.get(c).map_or("", |c| &c.name))
        }
        TunnelTo::Vnet(v) => format!("vnet {}", customer.vnets.get(v).map_or("", |v| &v.name)),
        TunnelTo::Internet(v) => format!("internet {}", customer.vnets.get(v).map_or("", |v| &v.name)),
    }
}

/// The number of a circuit's link, of one of its peerings or of all.
fn link_number(
    customer: u32,
    circuit: &Circuit,
    peering: Option<&String>,
    link: Link,
    names: &mut Names,
) -> u32 {
    let shared = peering.map(|_| link_number(customer, circuit, None, link, names));
    names.link(LinkName { customer, circuit: circuit.name.clone(), peering: peering.cloned(), link, shared })
}

fn link_names(customer: &Customer, circuit: usize, peering: usize) -> (&str, &str) {
    let circuit = customer.circuits.get(circuit);
    let peering = circuit.and_then(|c| c.peerings.get(peering)).map_or("", |p| &p.name);
    (circuit.map_or("", |c| &c.name), peering)
}

impl<'a> Work<'a> {
    /// Numbers a customer, its VNets and its tunnels.
    pub fn new(
        model: &'a Model,
        customer: &'a Customer,
        earlier: Option<Earlier<'a>>,
        names: &mut Names,
    ) -> Work<'a> {
        let id = names.customer(&customer.name);
        let hosts = customer.vnets.iter().map(|_| OnceCell::new()).collect();
        if let Some(Part { vnets, tunnels }) = earlier.as_ref().and_then(|e| e.part(id)).cloned() {
            let tags = &model.tags;
            return Work { customer, tags, id, vnets, tunnels, earlier, sites: OnceCell::new(), hosts };
        }
        let tunnel = |t: &crate::model::Tunnel| TunnelName {
            customer: id,
            to: way_name(customer, t.to),
            port: model.ports.get(t.port).map_or_else(String::new, |p| p.name.clone()),
            key: t.key,
            nvgre: t.encapsulation == Encapsulation::Nvgre,
        };
        Work {
            customer,
            tags: &model.tags,
            id,
            vnets: customer.vnets.iter().map(|v| names.vnet(id, &v.name)).collect(),
            tunnels: customer.tunnels.iter().map(|t| names.tunnel(tunnel(t))).collect(),
            earlier,
            sites: OnceCell::new(),
            hosts,
        }
    }

    fn sites(&self) -> &Sites<'a> {
        self.sites.get_or_init(|| Sites::new(self.customer))
    }

    /// The hosts and NICs of a VNet.
    pub fn hosts(&self, vnet: usize) -> &Hosts {
        self.hosts[vnet].get_or_init(|| Hosts::new(self.customer, vnet))
    }

    /// Its tunnels.
    pub fn ends(&self, names: &mut Names) -> Vec<TunnelEnd> {
        let mut end = |(tunnel, &id): (&crate::model::Tunnel, &u32)| {
            let (reaches, vnet) = match tunnel.to {
                TunnelTo::Vnet(v) => (Reaches::Hosts { vnet: self.vnets[v] }, Some(self.vnets[v])),
                TunnelTo::Internet(v) => (Reaches::Internet { vnet: self.vnets[v] }, Some(self.vnets[v])),
                TunnelTo::Link { .. } | TunnelTo::Connection(_) => (Reaches::Site { entry: id }, None),
            };
            let nvgre = tunnel.encapsulation == Encapsulation::Nvgre;
            TunnelEnd {
                reaches,
                customer: self.id,
                vnet,
                port: tunnel.port as u16,
                remote: tunnel.remote,
                wire_key: if nvgre { tunnel.key << 8 } else { tunnel.key },
                nvgre,
                enabled: tunnel.enabled,
                sequence: tunnel.sequence,
                id,
                link: self.circuit_link(tunnel.to, names).map(Box::new),
            }
        };
        self.customer.tunnels.iter().zip(&self.tunnels).map(&mut end).collect()
    }

    /// What is special about the tunnel of a circuit link.
    fn circuit_link(&self, to: TunnelTo, names: &mut Names) -> Option<CircuitLink> {
        let TunnelTo::Link { circuit, peering, link } = to else { return None };
        let circuit = self.customer.circuits.get(circuit)?;
        let peering = circuit.peerings.get(peering)?;
        let mut number = |peering, link| link_number(self.id, circuit, peering, link, names);
        let ends = |prefixes: &[Option<Prefix>; 2]| {
            let prefix = prefixes.get(link as usize).copied().flatten()?;
            Some((prefix.first_usable(), prefix.second_usable()))
        };
        Some(CircuitLink {
            kind: peering.kind,
            bucket: number(None, link),
            meter: number(Some(&peering.name), link),
            peering: number(Some(&peering.name), Link::Primary),
            ends: [ends(&peering.link_prefixes), ends(&peering.link_prefixes_v6)],
        })
    }

    /// The bandwidths of its circuits and, 0, of those that it had before, each with the number of the link.
    pub fn bandwidths(&self, before: Option<&Customer>, names: &mut Names) -> Vec<(u32, u32)> {
        let mut number =
            |circuit: &Circuit, peering, link| link_number(self.id, circuit, peering, link, names);
        let mut all = Vec::new();
        let gone = before.into_iter().flat_map(|c| &c.circuits).map(|c| (c, 0));
        let there = self.customer.circuits.iter().map(|c| (c, c.bandwidth_mbps.unwrap_or(0)));
        for (circuit, mbps) in gone.chain(there) {
            for link in [Link::Primary, Link::Secondary] {
                all.push((number(circuit, None, link), mbps));
                // Each is counted, also without a tunnel.
                for peering in &circuit.peerings {
                    number(circuit, Some(&peering.name), link);
                }
            }
        }
        all
    }

    /// The prefixes that its Microsoft and public peerings have learned, with the links that lead there.
    pub fn public(&self, names: &mut Names) -> Vec<PublicPrefix> {
        let learned = self.sites().public();
        if learned.is_empty() {
            return Vec::new();
        }
        let mut ways = WayTable::new(self);
        let inside: Vec<Prefix> =
            self.customer.vnets.iter().flat_map(|v| v.address_space.iter().copied()).collect();
        let (inside, party) = (Arc::new(inside), names.party(Party::Outside(self.id)));
        let public = |(prefix, found): (&Prefix, &Vec<Way>)| {
            let number = ways.number(found) as usize;
            let ways = ways.items.get(number).cloned().unwrap_or_default();
            PublicPrefix { prefix: *prefix, customer: self.id, ways, inside: inside.clone(), party }
        };
        learned.iter().map(public).collect()
    }

    /// What its circuit links and VPN connections lead to where that changed, each with the number of its tunnel.
    pub fn entries(&self, names: &mut Names) -> Vec<(u32, Arc<Entry>)> {
        type Tables = (Arc<Lpm<u32>>, Arc<Lpm<()>>, Arc<Lpm<()>>);
        let mut of_peerings: HashMap<(usize, usize), Tables> = HashMap::new();
        let mut entries = Vec::new();
        for (tunnel, &number) in self.customer.tunnels.iter().zip(&self.tunnels) {
            let source = match tunnel.to {
                TunnelTo::Link { circuit, peering, .. } => Source::Peering(circuit, peering),
                TunnelTo::Connection(c) => Source::Connection(c),
                TunnelTo::Vnet(_) | TunnelTo::Internet(_) => continue,
            };
            if self.earlier.as_ref().is_some_and(|e| e.entry_alike(source)) {
                continue;
            }
            let make = || {
                let site = self.sites().site(tunnel.to);
                let enter = site.enter.iter().map(|(p, v)| (*p, self.vnets[*v])).collect();
                let inside = site.inside.iter().map(|p| (*p, ())).collect();
                let learned = site.learned.iter().map(|p| (*p, ())).collect();
                (Arc::new(enter), Arc::new(inside), Arc::new(learned))
            };
            let ((enter, inside, learned), party) = match tunnel.to {
                TunnelTo::Link { circuit, peering, link } => {
                    let tables = of_peerings.entry((circuit, peering)).or_insert_with(make).clone();
                    let (circuit, peering) = link_names(self.customer, circuit, peering);
                    (tables, Party::Link(self.id, circuit.to_owned(), peering.to_owned(), link))
                }
                TunnelTo::Connection(c) => {
                    let name = self.customer.connections.get(c).map_or("", |c| &c.name);
                    (make(), Party::Connection(self.id, name.to_owned()))
                }
                TunnelTo::Vnet(_) | TunnelTo::Internet(_) => continue,
            };
            let party = names.party(party);
            entries.push((number, Arc::new(Entry { enter, inside, learned, party })));
        }
        entries
    }

    /// The number of a tunnel, and whether it is up.
    fn tunnel_of(&self, to: TunnelTo) -> Option<(u32, bool)> {
        let tunnels = &self.customer.tunnels;
        let index = tunnels.iter().position(|t| t.to == to)?;
        Some((self.tunnels[index], tunnels[index].enabled))
    }

    /// A VNet; the one of the program before if it did not change.
    pub fn vnet(&self, index: usize, names: &mut Names) -> Arc<Vnet> {
        if let Some(earlier) = &self.earlier
            && earlier.is_untouched(self.customer, index)
            && let Some((_, same)) = earlier.vnet(index, self.vnets[index])
        {
            return same.clone();
        }
        Arc::new(self.compile(index, names))
    }

    /// Packets of a VNet's known flows go the ways they went in the program before.
    pub fn ways_hold(&self, index: usize) -> bool {
        let earlier = self.earlier.as_ref().filter(|e| e.vnet(index, self.vnets[index]).is_some());
        earlier.is_some_and(|e| e.ways_hold(self.customer, index))
    }

    fn compile(&self, index: usize, names: &mut Names) -> Vnet {
        let customer = self.customer;
        let vnet = &customer.vnets[index];
        let id = self.vnets[index];
        let gateways = topology::gateways(customer, index);
        let learned = self.sites().learned(&gateways);
        let mut ways = WayTable::new(self);
        let of_learned: BTreeMap<Prefix, u32> = learned.iter().map(|(p, w)| (*p, ways.number(w))).collect();
        let (vpn, vpn_default) = self.vpn(&gateways, &mut ways);

        let mut routing = Routing::new(self, names, index, &learned, &of_learned);
        let subnets: Vec<Subnet> = vnet
            .subnets
            .iter()
            .map(|subnet| Subnet {
                name: subnet.name.clone(),
                prefixes: subnet.prefixes.clone(),
                fib: routing.fib(key(subnet)),
                group: asked(subnet, subnet.nsg).map(|g| routing.group(key(subnet), g)),
            })
            .collect();
        let gateway_fib = routing.fib(gateway_key(vnet));
        let nics = self.nics(index, &subnets, &mut routing);
        let hosts = self.hosts(index);
        Vnet {
            customer: self.id,
            id,
            resource: vnet.id.as_deref().map(Into::into),
            flow_timeout_minutes: vnet.flow_timeout_minutes,
            max_flows: vnet.max_flows,
            around: self.around(index),
            space: vnet.address_space.clone(),
            places: hosts.places.items().iter().copied().collect(),
            subnets,
            forwarders: hosts.forwarders(customer),
            nics,
            hosts: hosts.hosts.clone(),
            host_numbers: hosts.numbers.clone(),
            fabric: self.tunnel_of(TunnelTo::Vnet(index)).filter(|(_, up)| *up).map(|(t, _)| t),
            internet: match self.tunnel_of(TunnelTo::Internet(index)) {
                None => InternetWay::Plain,
                Some((tunnel, true)) => InternetWay::Tunnel(tunnel),
                Some((_, false)) => InternetWay::Down,
            },
            internet_party: names.party(Party::Internet(id)),
            gateway_fib,
            learned: learned.keys().filter(|p| !p.is_default()).map(|p| (*p, ())).collect(),
            ways: ways.items,
            vpn,
            vpn_default,
        }
    }

    fn nics(&self, index: usize, subnets: &[Subnet], routing: &mut Routing<'_, 'a>) -> Vec<Nic> {
        let vnet = &self.customer.vnets[index];
        let mut nics = Vec::new();
        for nic in self.hosts(index).nics.iter().map(|n| &self.customer.nics[*n]) {
            let Some(subnet) = vnet.subnets.get(nic.subnet) else { continue };
            let group = asked(subnet, nic.nsg).map(|g| routing.group(key(subnet), g));
            let applying =
                |g: &Option<Arc<Group>>, d| g.as_ref().and_then(|g| g.rules(d).for_members_of(&nic.asgs));
            let of_subnet = &subnets[nic.subnet].group;
            nics.push(Nic {
                name: nic.name.clone(),
                party: routing.party(Party::Nic(self.vnets[index], nic.name.clone())),
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
        nics
    }

    /// Ways of user-defined routes to the VPN gateway: by learned prefix, and the default site's.
    fn vpn(&self, gateways: &[usize], ways: &mut WayTable<'_, 'a>) -> (Lpm<u32>, Option<u32>) {
        let customer = self.customer;
        let gateways: Vec<usize> =
            gateways.iter().copied().filter(|g| topology::is_vpn(customer, *g)).collect();
        if gateways.is_empty() {
            return (Lpm::default(), None);
        }
        let learned: Learned = self.sites().learned(&gateways);
        let table = learned.iter().map(|(p, w)| (*p, ways.number(w))).collect();
        let sites: Vec<usize> =
            gateways.iter().filter_map(|g| customer.gateways.get(*g)?.default_site).collect();
        let mut to_default = Vec::new();
        for (i, connection) in customer.connections.iter().enumerate() {
            let ConnectionTo::Site { local_network_gateway: Some(site), routing_weight } = connection.to
            else {
                continue;
            };
            if gateways.contains(&connection.gateway) && sites.contains(&site) {
                let up = customer.tunnels.iter().enumerate();
                let up = up.filter(|(_, t)| t.enabled && t.to == TunnelTo::Connection(i));
                to_default.extend(up.map(|(tunnel, _)| Way {
                    tunnel,
                    express_route: false,
                    weight: routing_weight,
                    as_path: 0,
                }));
            }
        }
        let default = (!to_default.is_empty()).then(|| ways.number(&to_default));
        (table, default)
    }

    /// Whose ranges hold an address: the VNet's own and those of all peers that count.
    fn around(&self, index: usize) -> Lpm<Neighbour> {
        let mut near: Vec<usize> = topology::peers(self.customer, index).map(|p| p.vnet).collect();
        near.push(index);
        let ranges = near.into_iter().flat_map(|vnet| {
            let ranges = (0..).zip(&self.customer.vnets[vnet].address_space);
            ranges.map(move |(range, prefix)| (*prefix, Neighbour { vnet: self.vnets[vnet], range }))
        });
        ranges.collect()
    }
}

/// The group that is asked at a subnet; none has an effect on GatewaySubnet.
fn asked(subnet: &crate::model::Subnet, nsg: Option<usize>) -> Option<usize> {
    nsg.filter(|_| subnet.name != GATEWAY_SUBNET)
}

/// The sets of equal ways of a VNet.
struct WayTable<'w, 'a> {
    work: &'w Work<'a>,
    items: Vec<Ways>,
    numbers: HashMap<Ways, u32, RandomState>,
    /// What was asked for last, for neighbours are mostly alike.
    last: (Vec<Way>, u32),
    /// For each tunnel of the customer, the number of its way.
    ids: Vec<OnceCell<u64>>,
}

impl<'w, 'a> WayTable<'w, 'a> {
    fn new(work: &'w Work<'a>) -> Self {
        let ids = work.customer.tunnels.iter().map(|_| OnceCell::new()).collect();
        WayTable { work, items: Vec::new(), numbers: HashMap::default(), last: (Vec::new(), 0), ids }
    }

    /// The number of the best of these ways.
    fn number(&mut self, ways: &[Way]) -> u32 {
        if !ways.is_empty() && self.last.0 == ways {
            return self.last.1;
        }
        let number = self.number_of_best(ways);
        self.last = (ways.to_vec(), number);
        number
    }

    fn number_of_best(&mut self, ways: &[Way]) -> u32 {
        let Work { customer, tunnels, .. } = self.work;
        let id =
            |t: usize| *self.ids[t].get_or_init(|| ecmp::way_id(&way_name(customer, customer.tunnels[t].to)));
        let best = topology::best(ways).into_iter().map(|w| (id(w.tunnel), tunnels[w.tunnel]));
        let best = Ways { ways: best.collect() };
        if let Some(&number) = self.numbers.get(&best) {
            return number;
        }
        let number = self.items.len() as u32;
        self.items.push(best.clone());
        self.numbers.insert(best, number);
        number
    }
}
