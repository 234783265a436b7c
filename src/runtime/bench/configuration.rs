//! The network of a bench as a model, as a configuration file would give it.

use super::network::{
    FABRIC, HOSTS, INTERNET, Kind, NICS, Network, PORTS, PREMISES, PREMISES_LENGTH, SUBNETS, addr, ip, prefix,
};
use crate::model::{
    Access, AddressItem, AddressMatch, Circuit, CircuitPeering, CircuitTier, Connection, ConnectionTo,
    Customer, Encapsulation, Gateway, GatewayKind, Host, Io, LearnedFrom, LearnedRoute, Link, Model, Nic,
    Nsg, PeeringKind, Port, Role, Route, RouteNextHop, RouteTable, RouteTarget, Rule, RuleProtocol, Sequence,
    Subnet, Tunnel, TunnelTo, Vnet,
};
use crate::packet::Direction;
use crate::types::Prefix;

/// The name of every circuit.
const CIRCUIT: &str = "er";
/// The name of its peering.
const PEERING: &str = "AzurePrivatePeering";
/// Flow records that a VNet and a NIC may have when the configuration does not say.
const MAX_FLOWS: (u32, u32) = (1_000_000, 500_000);

/// The names of the circuits' two ways, as the choice among equal ways knows them.
pub const WAYS: [&str; 2] = ["link er/AzurePrivatePeering/primary", "link er/AzurePrivatePeering/secondary"];

/// The whole configuration, for inner packets of at most `size` bytes and so many flow records in all.
pub fn model(network: &Network, size: u32, flows: u32) -> Model {
    let names = [
        ("fabric", Role::Fabric),
        ("edge-a", Role::Edge),
        ("edge-b", Role::Edge),
        ("internet", Role::Internet),
    ];
    let port = |((name, role), address): ((&str, Role), [u8; 4])| Port {
        name: name.to_owned(),
        role,
        address: address.into(),
        mtu: (size + 28).max(1600),
        next_hop: (role == Role::Internet).then(|| [203, 0, 113, 1].into()),
        device: None,
        io: Io::Auto,
    };
    Model {
        ports: names.into_iter().zip(PORTS).map(port).collect(),
        customers: (0..network.vnets).map(|v| customer(network, v, flows).into()).collect(),
        ..Model::default()
    }
}

/// The customer that has this VNet, with some of its rules and one of its routes made other ones, which no traffic of the
/// bench meets. It shares the other NSG.
pub fn changed(network: &Network, customer: &Customer, vnet: u32, change: u64) -> Customer {
    let mut customer = customer.clone();
    customer.nsgs[0] = group(network, vnet, 0, change).into();
    customer.route_tables[0] = route_table(network, vnet, change).into();
    customer
}

/// The customer with one more learned route, or without it again. No traffic of the bench meets it.
pub fn relearned(customer: &Customer) -> Customer {
    let mut customer = customer.clone();
    let comes = prefix(addr([198, 18, 0, 0]), 24);
    match customer.learned_routes.iter().position(|route| route.prefix == comes) {
        Some(there) => _ = customer.learned_routes.remove(there),
        None => {
            let from = LearnedFrom::Peering { circuit: 0, peering: 0, link: None };
            customer.learned_routes.push(LearnedRoute { prefix: comes, from, as_path: vec![65_001] });
        }
    }
    customer
}

/// The customer that has this VNet.
fn customer(network: &Network, vnet: u32, flows: u32) -> Customer {
    let groups = [0, 1].map(|number| group(network, vnet, number, 0));
    Customer {
        name: format!("customer-{vnet}"),
        vnets: vec![virtual_network(network, vnet, flows)],
        nsgs: groups.map(Into::into).into(),
        route_tables: vec![route_table(network, vnet, 0).into()],
        nics: (0..NICS).map(|n| nic(network, vnet, n, flows)).collect(),
        circuits: vec![circuit(network)],
        gateways: vec![Gateway {
            name: "gateway".to_owned(),
            kind: GatewayKind::ExpressRoute,
            vnet: 0,
            default_site: None,
        }],
        connections: vec![Connection {
            name: "connection".to_owned(),
            gateway: 0,
            to: ConnectionTo::Circuit { circuit: 0, routing_weight: 0 },
            down: None,
        }],
        tunnels: tunnels(network, vnet).into(),
        hosts: (0..HOSTS).map(|h| host(network, vnet, h)).collect(),
        learned_routes: learned_routes(network, vnet),
        ..Customer::default()
    }
}

/// A limit that the traffic does not reach.
fn limit(unsaid: u32, flows: u32) -> u32 {
    unsaid.max(flows.saturating_mul(2))
}

fn virtual_network(network: &Network, vnet: u32, flows: u32) -> Vnet {
    let subnet = |n: u32| Subnet {
        name: format!("subnet-{n}"),
        prefixes: vec![network.subnet(vnet, n)],
        nsg: Some(1),
        route_table: Some(0),
        service_endpoints: Vec::new(),
    };
    let gateway = Subnet {
        name: crate::model::GATEWAY_SUBNET.to_owned(),
        prefixes: vec![Prefix::new(network.subnet(vnet, 255).first(), 27)],
        nsg: None,
        route_table: None,
        service_endpoints: Vec::new(),
    };
    Vnet {
        name: format!("vnet-{vnet}"),
        id: None,
        address_space: vec![network.space(vnet)],
        subnets: (0..SUBNETS).map(subnet).chain([gateway]).collect(),
        peerings: Vec::new(),
        flow_timeout_minutes: 4,
        max_flows: limit(MAX_FLOWS.0, flows),
    }
}

fn nic(network: &Network, vnet: u32, nic: u32, flows: u32) -> Nic {
    Nic {
        name: format!("nic-{nic}"),
        // The last one is the appliance that some routes lead to.
        ip_forwarding: nic == NICS - 1,
        disable_tcp_state_tracking: false,
        mac: None,
        nsg: Some(0),
        vnet: 0,
        subnet: (nic / 4) as usize,
        addresses: vec![ip(network.nic(vnet, nic))],
        asgs: Vec::new(),
        max_flows: limit(MAX_FLOWS.1, flows),
    }
}

fn circuit(network: &Network) -> Circuit {
    let link = |n: u32| Some(prefix(addr([192, 168, 255, 0]) + 4 * n, 30));
    Circuit {
        name: CIRCUIT.to_owned(),
        tier: if network.learned_routes > 4000 { CircuitTier::Premium } else { CircuitTier::Standard },
        unlimited_data: true,
        bandwidth_mbps: None,
        peerings: vec![CircuitPeering {
            name: PEERING.to_owned(),
            kind: PeeringKind::Private,
            azure_asn: 12_076,
            peer_asn: Some(65_001),
            shared_key: None,
            vlan: Some(100),
            link_prefixes: [link(0), link(1)],
            link_prefixes_v6: [None, None],
            advertised_public_prefixes: Vec::new(),
            route_filters: [None, None],
            kernel_routes: false,
        }],
    }
}

fn tunnels(network: &Network, vnet: u32) -> [Tunnel; 4] {
    let tunnel = |to, end: super::network::End, remote| Tunnel {
        to,
        port: usize::from(end.port),
        remote,
        key: end.key,
        encapsulation: Encapsulation::Gre,
        enabled: true,
        sequence: Sequence::Off,
    };
    let link = |link, number| {
        let end = network.link(vnet, number);
        tunnel(TunnelTo::Link { circuit: 0, peering: 0, link }, end, Some(ip(end.remote)))
    };
    let (fabric, internet) = (network.fabric(vnet, 0), network.internet(vnet));
    debug_assert_eq!((fabric.port, internet.port), (FABRIC, INTERNET));
    [
        tunnel(TunnelTo::Vnet(0), fabric, None),
        link(Link::Primary, 0),
        link(Link::Secondary, 1),
        tunnel(TunnelTo::Internet(0), internet, Some(ip(internet.remote))),
    ]
}

fn host(network: &Network, vnet: u32, host: u32) -> Host {
    let carried = (0..NICS).filter(|n| Network::host_of(*n) == host);
    Host {
        address: ip(network.host(vnet, host)),
        vnet: 0,
        prefixes: carried.map(|n| Prefix::host(ip(network.nic(vnet, n)))).collect(),
    }
}

fn learned_routes(network: &Network, vnet: u32) -> Vec<LearnedRoute> {
    let leaves = (0..network.leaves()).map(|l| network.leaf(vnet, l));
    let covers = (0..network.learned_routes / 8).map(|c| network.cover(c));
    let from = LearnedFrom::Peering { circuit: 0, peering: 0, link: None };
    let route = |(n, prefix): (u32, Prefix)| LearnedRoute {
        prefix,
        from,
        as_path: vec![65_001; 1 + (network.random(vnet, 3 << 20 | n) % 3) as usize],
    };
    (0..).zip(leaves.chain(covers)).map(route).collect()
}

/// Half of the routes lead to the Internet, the others to an appliance, nowhere, or to the VNet.
fn route_table(network: &Network, vnet: u32, change: u64) -> RouteTable {
    let appliance = RouteNextHop::VirtualAppliance(ip(network.nic(vnet, NICS - 1)));
    let other = [appliance, RouteNextHop::None, appliance, RouteNextHop::VnetLocal];
    let route = |n: u32| {
        let (target, next_hop) = match n % 2 {
            0 => (network.public(vnet, n / 2), RouteNextHop::Internet),
            _ => {
                let next_hop =
                    if n == 1 && change % 2 == 1 { RouteNextHop::None } else { other[n as usize / 2 % 4] };
                (
                    prefix(addr([21, 0, 0, 0]) | n << 8, 24 + (network.random(vnet, 4 << 20 | n) % 5) as u8),
                    next_hop,
                )
            }
        };
        Route {
            name: format!("route-{n}"),
            target: RouteTarget::Prefix(target),
            next_hop,
            has_bgp_override: false,
        }
    };
    RouteTable {
        name: "table".to_owned(),
        disable_bgp_route_propagation: false,
        routes: (0..network.user_routes).map(route).collect(),
    }
}

/// An NSG: of the NICs (0) or of the subnets (1).
fn group(network: &Network, vnet: u32, number: u32, change: u64) -> Nsg {
    let name = ["nic-nsg", "subnet-nsg"][number as usize];
    let directions = [Direction::Inbound, Direction::Outbound];
    let rules = directions.into_iter().flat_map(|direction| {
        let count = network.rules_in(direction == Direction::Outbound);
        (0..count).map(move |n| rule(network, vnet, number, direction, n, if n == 0 { change } else { 0 }))
    });
    Nsg { name: name.to_owned(), id: None, flush_connection: false, rules: rules.collect() }
}

/// Every third rule allows a service, as long as there are any; those between match no traffic.
fn rule(network: &Network, vnet: u32, group: u32, direction: Direction, n: u32, change: u64) -> Rule {
    let random =
        network.random(vnet, 5 << 20 | group << 18 | (direction as u32) << 17 | n).wrapping_add(change << 16);
    let outbound = direction == Direction::Outbound;
    let name = format!("{}-{}-{n}", ["nic", "subnet"][group as usize], if outbound { "out" } else { "in" });
    let draft = if n % 3 == 2 && n / 3 < network.services() {
        allowing(network, vnet, outbound, n / 3, random)
    } else {
        other(network, vnet, random)
    };
    Rule {
        name,
        priority: (100 + 2 * n) as u16,
        direction,
        access: draft.access,
        protocol: draft.protocol,
        source: draft.source,
        destination: draft.destination,
        source_ports: vec![draft.source_ports],
        destination_ports: draft.ports,
    }
}

/// The half of a rule that says what it matches.
struct Draft {
    access: Access,
    protocol: RuleProtocol,
    source: AddressMatch,
    destination: AddressMatch,
    source_ports: (u16, u16),
    ports: Vec<(u16, u16)>,
}

fn one(item: AddressItem) -> AddressMatch {
    AddressMatch { items: vec![item], asgs: Vec::new() }
}

fn within(first: u32, length: u8) -> AddressMatch {
    one(AddressItem::Prefix(prefix(first, length)))
}

const ALL_PORTS: (u16, u16) = (0, 65_535);

fn allowing(network: &Network, vnet: u32, outbound: bool, number: u32, random: u64) -> Draft {
    let service = network.service(number);
    let inside = |bits: u64| match bits % 3 {
        0 => one(AddressItem::Any),
        1 => one(AddressItem::VirtualNetwork),
        _ => one(AddressItem::Prefix(network.space(vnet))),
    };
    let premises = |bits: u64| match bits % 3 {
        0 => one(AddressItem::VirtualNetwork),
        _ => within(addr(PREMISES), PREMISES_LENGTH),
    };
    let (source, destination) = match (Kind::ALL[number as usize % 4], outbound) {
        (Kind::Inside, _) => (inside(random), inside(random >> 8)),
        (Kind::ToCircuit, true) | (Kind::FromCircuit, true) => (inside(random), premises(random >> 8)),
        (Kind::ToCircuit, false) | (Kind::FromCircuit, false) => (premises(random), inside(random >> 8)),
        (Kind::ToInternet, true) => (inside(random), one(AddressItem::Internet)),
        (Kind::ToInternet, false) => (one(AddressItem::Internet), inside(random >> 8)),
    };
    let mut ports = vec![(service.port, service.port + (random >> 16 & 1) as u16)];
    if random >> 17 & 3 == 0 {
        ports.push((service.port + 3, service.port + 4));
    }
    let protocol = if service.tcp { RuleProtocol::Tcp } else { RuleProtocol::Udp };
    Draft { access: Access::Allow, protocol, source, destination, source_ports: ALL_PORTS, ports }
}

/// A rule that no traffic of the bench matches, by its addresses, its ports or its protocol.
fn other(network: &Network, vnet: u32, random: u64) -> Draft {
    let pick = |from: u32, below: u64| (random >> from) % below;
    let near = |from: u32| {
        let first = network.subnet(vnet, pick(from, 8) as u32).first();
        one(AddressItem::Prefix(Prefix::new(first, 24 + pick(from + 4, 4) as u8)))
    };
    let far = |octet: u32, from: u32| {
        within(octet << 24 | (pick(from, 1 << 20) as u32) << 4, 18 + pick(from + 7, 11) as u8)
    };
    let any = || one(AddressItem::Any);
    // Services have every seventh port, and at times the next one.
    let gap = 1024 + 7 * pick(40, 160) as u16;
    let high = 49_152 + pick(20, 16_000) as u16;
    let (access, protocol, source, destination, ports) = match random % 7 {
        0 => (Access::Deny, RuleProtocol::Tcp, any(), near(8), vec![(gap + 2, gap + 6)]),
        1 => (Access::Deny, RuleProtocol::Any, far(130, 8), any(), vec![ALL_PORTS]),
        2 => (Access::Deny, RuleProtocol::Any, any(), far(131, 8), vec![ALL_PORTS]),
        3 => (Access::Allow, RuleProtocol::Udp, near(8), within(addr(PREMISES), 12), vec![(high, high + 50)]),
        4 => {
            let protocol = [RuleProtocol::Icmp, RuleProtocol::Esp, RuleProtocol::Ah][pick(30, 3) as usize];
            (Access::Deny, protocol, near(8), any(), vec![ALL_PORTS])
        }
        5 => (Access::Deny, RuleProtocol::Tcp, far(192, 8), far(147, 24), vec![(gap, gap)]),
        _ => {
            let ports = vec![(443, 443), (gap + 2, gap + 3), (8443, 8443 + pick(36, 9) as u16)];
            (Access::Allow, RuleProtocol::Tcp, far(147, 8), near(24), ports)
        }
    };
    let source_ports = if random >> 60 == 0 { (1, 1023) } else { ALL_PORTS };
    Draft { access, protocol, source, destination, source_ports, ports }
}
