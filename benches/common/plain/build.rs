//! From the model to the tables of the plain version: lists of rules, hash maps, one treebitmap per subnet.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ahash::RandomState;
use clearway::model::{
    Access, AddressItem, AddressMatch, ConnectionTo, Customer, LearnedFrom, Link, Model, Nsg, RouteNextHop,
    RouteTarget, RuleProtocol, TunnelTo,
};
use clearway::packet::Direction;
use clearway::table::ecmp::way_id;
use clearway::types::Prefix;
use treebitmap::IpLookupTable;

use super::{Group, Net, NextHop, Nic, Plain, Port, Rule, Side, Subnet, Vnet, Way};

impl Plain {
    /// The plain version of a configuration.
    pub fn new(model: &Model, seed: RandomState) -> Plain {
        let ports = model.ports.iter().map(|p| Port {
            address: v4(p.address),
            mtu: p.mtu as usize,
            next_hop: p.next_hop.map(v4),
            role: p.role,
        });
        let mut plain = Plain {
            ports: ports.collect(),
            tunnels: HashMap::with_hasher(seed.clone()),
            vnets: Vec::new(),
            flows: HashMap::with_hasher(seed.clone()),
        };
        for customer in &model.customers {
            let first = plain.vnets.len();
            plain.vnets.extend((0..customer.vnets.len()).map(|v| vnet(customer, v, &seed)));
            for tunnel in &customer.tunnels {
                if let TunnelTo::Vnet(v) = tunnel.to {
                    plain.vnets[first + v].fabric = Some((tunnel.port, tunnel.key));
                    plain.tunnels.insert((tunnel.port, tunnel.key), first + v);
                }
            }
        }
        plain
    }
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("the plain version knows only IPv4, not {address}"),
    }
}

fn net(prefix: &Prefix) -> Net {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.len())).unwrap_or(0);
    Net { first: v4(prefix.first()).to_bits(), mask }
}

fn insert<T>(table: &mut IpLookupTable<Ipv4Addr, T>, prefix: &Prefix, value: T) {
    table.insert(v4(prefix.first()), u32::from(prefix.len()), value);
}

fn vnet(customer: &Customer, v: usize, seed: &RandomState) -> Vnet {
    let of = &customer.vnets[v];
    let mut hosts = IpLookupTable::new();
    let mut host_addresses = HashSet::with_hasher(seed.clone());
    for host in customer.hosts.iter().filter(|h| h.vnet == v) {
        host_addresses.insert(v4(host.address));
        host.prefixes.iter().for_each(|p| insert(&mut hosts, p, v4(host.address)));
    }
    let mut nics = HashMap::with_hasher(seed.clone());
    let learned = learned(customer, v);
    let subnets: Vec<Subnet> = of
        .subnets
        .iter()
        .map(|subnet| {
            let known = routes(customer, v, subnet.route_table, &learned);
            let mut routes = IpLookupTable::new();
            known.iter().for_each(|(prefix, hop)| insert(&mut routes, prefix, hop.clone()));
            // The tag VirtualNetwork: the VNet, the load balancer, and what is user-defined and learned.
            let mut virtual_network: Vec<Net> = of.address_space.iter().map(net).collect();
            virtual_network.push(net(&Prefix::v4(168, 63, 129, 16, 32)));
            let (default, reserved) = (1, 4);
            virtual_network
                .extend(known.iter().skip(default + reserved + of.address_space.len()).map(|r| net(&r.0)));
            let tags = Tags { virtual_network, space: of.address_space.iter().map(net).collect() };
            Subnet {
                prefixes: subnet.prefixes.iter().map(net).collect(),
                routes,
                group: subnet.nsg.map(|g| group(&customer.nsgs[g], &tags)),
                tags,
            }
        })
        .collect();
    for nic in customer.nics.iter().filter(|n| n.vnet == v) {
        for address in &nic.addresses {
            let group = nic.nsg.map(|g| group(&customer.nsgs[g], &subnets[nic.subnet].tags));
            nics.insert(v4(*address), Nic { group });
        }
    }
    Vnet { hosts, host_addresses, subnets, nics, fabric: None }
}

/// What was learned on the circuits that a VNet's gateway is connected to, and the tunnels that lead there.
fn learned(customer: &Customer, v: usize) -> Vec<(Prefix, NextHop)> {
    let connected = |circuit: usize| {
        customer.connections.iter().any(|c| {
            customer.gateways[c.gateway].vnet == v
                && matches!(c.to, ConnectionTo::Circuit { circuit: to, .. } if to == circuit)
        })
    };
    let way = |circuit: usize, peering: usize, link: Link| {
        let to = TunnelTo::Link { circuit, peering, link };
        let tunnel = customer.tunnels.iter().find(|t| t.to == to)?;
        let (circuit, peering) =
            (&customer.circuits[circuit].name, &customer.circuits[circuit].peerings[peering].name);
        let id = way_id(&format!("link {circuit}/{peering}/{}", link.name()));
        Some((id, Way { port: tunnel.port, tunnel: Some((v4(tunnel.remote?), tunnel.key)) }))
    };
    let routes = customer.learned_routes.iter().filter_map(|route| match route.from {
        LearnedFrom::Peering { circuit, peering, link } if connected(circuit) => {
            let links =
                [Link::Primary, Link::Secondary].into_iter().filter(|l| link.is_none_or(|only| only == *l));
            Some((route.prefix, NextHop::Ways(links.filter_map(|l| way(circuit, peering, l)).collect())))
        }
        _ => None,
    });
    routes.collect()
}

/// The routes of a subnet, those that win behind those that lose: default, reserved, learned, of the VNet, user-defined.
fn routes(
    customer: &Customer,
    v: usize,
    table: Option<usize>,
    learned: &[(Prefix, NextHop)],
) -> Vec<(Prefix, NextHop)> {
    let space = &customer.vnets[v].address_space;
    let reserved = [
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(100, 64, 0, 0, 10),
    ];
    let mut routes = vec![(Prefix::ALL_V4, NextHop::Internet)];
    routes.extend(reserved.map(|p| (p, NextHop::None)));
    routes.extend(space.iter().map(|p| (*p, NextHop::Local)));
    routes.extend(learned.iter().filter(|(p, _)| !space.iter().any(|s| s.covers(p))).cloned());
    for route in table.iter().flat_map(|t| &customer.route_tables[*t].routes) {
        let RouteTarget::Prefix(prefix) = route.target else {
            panic!("the plain version knows no service tags")
        };
        let hop = match route.next_hop {
            RouteNextHop::VnetLocal => NextHop::Local,
            RouteNextHop::Internet => NextHop::Internet,
            RouteNextHop::None => NextHop::None,
            other => panic!("the plain version knows no user-defined routes to {other:?}"),
        };
        routes.push((prefix, hop));
    }
    routes
}

/// What the tags of rules stand for in a subnet.
#[derive(Clone)]
pub struct Tags {
    virtual_network: Vec<Net>,
    space: Vec<Net>,
}

fn group(nsg: &Nsg, tags: &Tags) -> Group {
    let rules = |direction| {
        let mut rules: Vec<_> = nsg.rules.iter().filter(|r| r.direction == direction).collect();
        rules.sort_by_key(|r| r.priority);
        let user = rules.into_iter().map(|r| Rule {
            allow: r.access == Access::Allow,
            protocols: protocols(r.protocol),
            source: side(&r.source, tags),
            destination: side(&r.destination, tags),
            source_ports: r.source_ports.clone(),
            destination_ports: r.destination_ports.clone(),
        });
        user.chain(default_rules(direction, tags)).collect()
    };
    Group { inbound: rules(Direction::Inbound), outbound: rules(Direction::Outbound) }
}

fn protocols(protocol: RuleProtocol) -> Vec<u8> {
    match protocol {
        RuleProtocol::Any => vec![],
        RuleProtocol::Tcp => vec![6],
        RuleProtocol::Udp => vec![17],
        RuleProtocol::Icmp => vec![1, 58],
        RuleProtocol::Esp => vec![50],
        RuleProtocol::Ah => vec![51],
    }
}

fn side(side: &AddressMatch, tags: &Tags) -> Side {
    let mut nets = Vec::new();
    for item in &side.items {
        match item {
            AddressItem::Any => return Side::Any,
            AddressItem::Internet => return internet(tags),
            AddressItem::Prefix(p) => nets.push(net(p)),
            AddressItem::VirtualNetwork => nets.extend(&tags.virtual_network),
            other => panic!("the plain version knows no {other:?} in rules"),
        }
    }
    Side::In(nets)
}

/// Everything public that is not the VNet's own.
fn internet(tags: &Tags) -> Side {
    let outside = [
        Prefix::v4(0, 0, 0, 0, 8),
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(100, 64, 0, 0, 10),
        Prefix::v4(127, 0, 0, 0, 8),
        Prefix::v4(169, 254, 0, 0, 16),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(168, 63, 129, 16, 32),
        Prefix::v4(224, 0, 0, 0, 3),
    ]
    .map(|p| net(&p));
    Side::Outside(outside.into_iter().chain(tags.space.iter().copied()).collect())
}

/// Azure's rules behind those of the user.
fn default_rules(direction: Direction, tags: &Tags) -> Vec<Rule> {
    let rule = |source: Side, destination: Side, allow: bool| Rule {
        allow,
        protocols: vec![],
        source,
        destination,
        source_ports: vec![(0, u16::MAX)],
        destination_ports: vec![(0, u16::MAX)],
    };
    let vnet = || Side::In(tags.virtual_network.clone());
    let load_balancer = Side::In(vec![net(&Prefix::v4(168, 63, 129, 16, 32))]);
    vec![
        rule(vnet(), vnet(), true),
        match direction {
            Direction::Inbound => rule(load_balancer, Side::Any, true),
            Direction::Outbound => rule(Side::Any, internet(tags), true),
        },
        rule(Side::Any, Side::Any, false),
    ]
}
