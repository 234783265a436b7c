//! "Routes": peerings, learned routes, the effective routes of a subnet, and the route that wins.

use std::net::IpAddr;

use clearway::model::{
    ConnectionTo, Customer, GatewayKind, LearnedFrom, Link, Model, PeeringKind, RouteNextHop, RouteTarget,
    TunnelTo,
};
use clearway::packet::NextHopType;
use clearway::types::Prefix;

use super::seen::seen;

/// "platform address | 168.63.129.16 and 169.254.169.254"
pub fn is_platform(address: IpAddr) -> bool {
    address == IpAddr::from([168, 63, 129, 16]) || address == IpAddr::from([169, 254, 169, 254])
}

/// True if the address lies in one of the VNet's ranges.
pub fn in_space(customer: &Customer, vnet: usize, address: IpAddr) -> bool {
    customer.vnets[vnet].address_space.iter().any(|p| p.contains(address))
}

/// "A peering counts when both VNets name each other and neither says another `peeringState` than Connected".
pub fn peering_counts(customer: &Customer, one: usize, other: usize) -> bool {
    let names =
        |a: usize, b: usize| customer.vnets[a].peerings.iter().any(|p| p.remote == Some(b) && p.connected);
    names(one, other) && names(other, one)
}

/// "routes exist only where both sides allow access"
pub fn peering_carries(customer: &Customer, one: usize, other: usize) -> bool {
    let allows =
        |a: usize, b: usize| customer.vnets[a].peerings.iter().any(|p| p.remote == Some(b) && p.allow_access);
    peering_counts(customer, one, other) && allows(one, other) && allows(other, one)
}

/// The VNets whose peering with this one counts.
pub fn peers(customer: &Customer, vnet: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for remote in customer.vnets[vnet].peerings.iter().filter_map(|p| p.remote) {
        if peering_counts(customer, vnet, remote) && !found.contains(&remote) {
            found.push(remote);
        }
    }
    found
}

/// True if `vnet` uses the gateways of `hub` remotely.
pub fn uses_gateways_of(customer: &Customer, vnet: usize, hub: usize) -> bool {
    let uses = customer.vnets[vnet].peerings.iter().any(|p| p.remote == Some(hub) && p.use_remote_gateways);
    let lets = customer.vnets[hub].peerings.iter().any(|p| p.remote == Some(vnet) && p.allow_gateway_transit);
    uses && lets && peering_carries(customer, vnet, hub)
}

/// The gateways of a VNet: its own and those it uses remotely.
pub fn gateways(customer: &Customer, vnet: usize) -> Vec<usize> {
    let of = |g: usize| customer.gateways[g].vnet;
    (0..customer.gateways.len())
        .filter(|&g| of(g) == vnet || uses_gateways_of(customer, vnet, of(g)))
        .collect()
}

/// One way out of a gateway: a circuit link or a VPN connection, with what is learned there.
#[derive(Clone, Debug)]
pub struct Way {
    /// As the shared hash knows it.
    pub name: String,
    pub tunnel: usize,
    pub kind: GatewayKind,
    pub weight: u32,
    /// The local network gateway of a VPN connection.
    pub site: Option<usize>,
    /// Prefixes and the length of their AS paths.
    pub learned: Vec<(Prefix, usize)>,
}

/// The tunnel that is up for this end. "One that is down receives nothing, sends nothing, and its learned routes are
/// gone".
pub fn up_tunnel(customer: &Customer, to: TunnelTo) -> Option<usize> {
    customer.tunnels.iter().position(|t| t.to == to && t.enabled)
}

/// What is learned on a link whose tunnel is up. "`learnedRoutes` without `link` are learned on both."
pub fn learned_on_link(
    customer: &Customer,
    circuit: usize,
    peering: usize,
    link: Link,
) -> Vec<(Prefix, usize)> {
    if up_tunnel(customer, TunnelTo::Link { circuit, peering, link }).is_none() {
        return Vec::new();
    }
    let here = |from: &LearnedFrom| match *from {
        LearnedFrom::Peering { circuit: c, peering: p, link: l } => {
            c == circuit && p == peering && (l.is_none() || l == Some(link))
        }
        LearnedFrom::Connection(_) => false,
    };
    // "private AS numbers removed from the path" of what Microsoft and public peering learn
    let public = customer.circuits[circuit].peerings[peering].kind != PeeringKind::Private;
    let length = |path: &[u32]| path.iter().filter(|asn| !public || !is_private_asn(**asn)).count();
    customer.learned_routes.iter().filter(|r| here(&r.from)).map(|r| (r.prefix, length(&r.as_path))).collect()
}

/// RFC 6996: 64512 to 65534 and 4200000000 to 4294967294.
fn is_private_asn(asn: u32) -> bool {
    (64_512..=65_534).contains(&asn) || (4_200_000_000..=4_294_967_294).contains(&asn)
}

/// The links of all Microsoft and public peerings of a customer that are up.
pub fn public_ways(customer: &Customer) -> Vec<Way> {
    let mut found = Vec::new();
    for (circuit, of) in customer.circuits.iter().enumerate() {
        for (peering, domain) in of.peerings.iter().enumerate() {
            if domain.kind == PeeringKind::Private {
                continue;
            }
            for link in [Link::Primary, Link::Secondary] {
                let Some(tunnel) = up_tunnel(customer, TunnelTo::Link { circuit, peering, link }) else {
                    continue;
                };
                found.push(Way {
                    name: format!("link {}/{}/{}", of.name, domain.name, link.name()),
                    tunnel,
                    kind: GatewayKind::ExpressRoute,
                    weight: 0,
                    site: None,
                    learned: learned_on_link(customer, circuit, peering, link),
                });
            }
        }
    }
    found
}

/// What is learned on a connection whose tunnel is up. "The prefixes of a `localNetworkGateways` resource are learned
/// routes of each IPsec connection to it".
pub fn learned_on_connection(customer: &Customer, connection: usize) -> Vec<(Prefix, usize)> {
    if up_tunnel(customer, TunnelTo::Connection(connection)).is_none() {
        return Vec::new();
    }
    let mut learned: Vec<(Prefix, usize)> = customer
        .learned_routes
        .iter()
        .filter(|r| r.from == LearnedFrom::Connection(connection))
        .map(|r| (r.prefix, r.as_path.len()))
        .collect();
    if let ConnectionTo::Site { local_network_gateway: Some(site), .. } = customer.connections[connection].to
    {
        learned.extend(customer.local_network_gateways[site].prefixes.iter().map(|p| (*p, 0)));
    }
    learned
}

/// All ways of these gateways that are up.
pub fn ways(customer: &Customer, gateways: &[usize]) -> Vec<Way> {
    let mut found = Vec::new();
    for (c, connection) in customer.connections.iter().enumerate() {
        if !gateways.contains(&connection.gateway) {
            continue;
        }
        match connection.to {
            ConnectionTo::Circuit { circuit, routing_weight } => {
                for (p, peering) in customer.circuits[circuit].peerings.iter().enumerate() {
                    if peering.kind != PeeringKind::Private {
                        continue;
                    }
                    for link in [Link::Primary, Link::Secondary] {
                        let to = TunnelTo::Link { circuit, peering: p, link };
                        let Some(tunnel) = up_tunnel(customer, to) else { continue };
                        found.push(Way {
                            name: format!(
                                "link {}/{}/{}",
                                customer.circuits[circuit].name,
                                peering.name,
                                link.name()
                            ),
                            tunnel,
                            kind: GatewayKind::ExpressRoute,
                            weight: routing_weight,
                            site: None,
                            learned: learned_on_link(customer, circuit, p, link),
                        });
                    }
                }
            }
            ConnectionTo::Site { local_network_gateway, routing_weight } => {
                let Some(tunnel) = up_tunnel(customer, TunnelTo::Connection(c)) else { continue };
                found.push(Way {
                    name: format!("connection {}", connection.name),
                    tunnel,
                    kind: GatewayKind::Vpn,
                    weight: routing_weight,
                    site: local_network_gateway,
                    learned: learned_on_connection(customer, c),
                });
            }
        }
    }
    found
}

/// Where a route came from, the preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    User,
    Learned,
    System,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    VnetLocal,
    Peering(usize),
    Appliance(IpAddr),
    /// A learned route.
    Gateway,
    /// A user-defined route to the VPN gateway.
    UserGateway,
    Internet,
    ServiceEndpoint,
    None,
}

impl Hop {
    pub fn type_of(self) -> NextHopType {
        match self {
            Hop::VnetLocal => NextHopType::VnetLocal,
            Hop::Peering(_) => NextHopType::VNetPeering,
            Hop::Appliance(_) => NextHopType::VirtualAppliance,
            Hop::Gateway | Hop::UserGateway => NextHopType::VirtualNetworkGateway,
            Hop::Internet => NextHopType::Internet,
            Hop::ServiceEndpoint => NextHopType::VirtualNetworkServiceEndpoint,
            Hop::None => NextHopType::None,
        }
    }
}

/// One effective route.
#[derive(Clone, Debug)]
pub struct EffectiveRoute {
    pub prefix: Prefix,
    pub source: Source,
    pub hop: Hop,
    /// `hasBgpOverride` of a user-defined route.
    pub has_bgp_override: bool,
    /// Among user-defined routes of one prefix the lowest wins: "explicit prefix; regional tag; top-level tag;
    /// AzureCloud.<region>; AzureCloud".
    pub tag_rank: u8,
    pub active: bool,
}

impl EffectiveRoute {
    /// "System routes for traffic related to virtual network, virtual network peerings, or virtual network service
    /// endpoints, are preferred routes, even if BGP routes are more specific".
    fn is_preferred_system(&self) -> bool {
        self.source == Source::System
            && matches!(self.hop, Hop::VnetLocal | Hop::Peering(_) | Hop::ServiceEndpoint)
    }

    /// The order among routes of one prefix, the best first.
    fn order(&self) -> (u8, u8) {
        match self.source {
            Source::User => (0, self.tag_rank),
            Source::System if self.is_preferred_system() => (1, 0),
            Source::Learned => (2, 0),
            Source::System => (3, 0),
        }
    }
}

fn tag_rank(tag: &str) -> u8 {
    match tag.to_ascii_lowercase().split_once('.') {
        Some(("azurecloud", _)) => 3,
        None if tag.eq_ignore_ascii_case("AzureCloud") => 4,
        Some(_) => 1,
        None => 2,
    }
}

/// "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918)" and "100.64.0.0/10 (RFC 6598)".
pub fn reserved_ranges() -> [Prefix; 4] {
    [
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(100, 64, 0, 0, 10),
    ]
}

/// The effective routes of a subnet, Active and Invalid. `subnet` is `None` for a gateway whose VNet has no
/// GatewaySubnet.
pub fn effective(model: &Model, customer: usize, vnet: usize, subnet: Option<usize>) -> Vec<EffectiveRoute> {
    let owner = &model.customers[customer];
    let table = subnet.and_then(|s| owner.vnets[vnet].subnets[s].route_table).map(|t| &owner.route_tables[t]);
    let mut routes = system(model, owner, vnet, subnet);
    // "2.4 disableBgpRoutePropagation: no gateway routes in the subnets of that table, BGP and static alike."
    if !table.is_some_and(|t| t.disable_bgp_route_propagation) {
        let mut prefixes: Vec<Prefix> = ways(owner, &gateways(owner, vnet))
            .iter()
            .flat_map(|w| w.learned.iter().map(|(p, _)| *p).collect::<Vec<_>>())
            .collect();
        prefixes.sort();
        prefixes.dedup();
        routes.extend(prefixes.into_iter().map(|p| plain(p, Source::Learned, Hop::Gateway)));
    }
    if let Some(table) = table {
        for route in &table.routes {
            user(model, route, &mut routes);
        }
    }
    // "the four reserved ranges, removed by any user-defined or learned 0.0.0.0/0 of that subnet"
    if routes.iter().any(|r| r.source != Source::System && r.prefix == Prefix::ALL_V4) {
        routes.retain(|r| !(r.source == Source::System && r.hop == Hop::None));
    }
    for i in 0..routes.len() {
        // "routes that lose to an equal prefix are Invalid, all others Active"
        routes[i].active = !routes.iter().enumerate().any(|(j, other)| {
            other.prefix == routes[i].prefix && (other.order(), j) < (routes[i].order(), i)
        });
    }
    routes
}

fn plain(prefix: Prefix, source: Source, hop: Hop) -> EffectiveRoute {
    EffectiveRoute { prefix, source, hop, has_bgp_override: false, tag_rank: 0, active: true }
}

/// The system routes of `semantics.md` 1.2 and 1.3, but for those of gateways.
fn system(model: &Model, owner: &Customer, vnet: usize, subnet: Option<usize>) -> Vec<EffectiveRoute> {
    let space = &owner.vnets[vnet].address_space;
    let mut routes: Vec<EffectiveRoute> =
        space.iter().map(|p| plain(*p, Source::System, Hop::VnetLocal)).collect();
    routes.push(plain(Prefix::ALL_V4, Source::System, Hop::Internet));
    if space.iter().any(|p| !p.is_ipv4()) {
        routes.push(plain(Prefix::ALL_V6, Source::System, Hop::Internet));
    }
    for reserved in reserved_ranges() {
        // "Reserved prefix EQUAL to a VNet range: its next hop changes from None to Virtual network. VNet range that
        // INCLUDES a reserved prefix but differs: the None route is removed"
        if !space.iter().any(|p| p.covers(&reserved)) {
            routes.push(plain(reserved, Source::System, Hop::None));
        }
    }
    for peer in peers(owner, vnet) {
        if peering_carries(owner, vnet, peer) {
            let ranges = &owner.vnets[peer].address_space;
            routes.extend(ranges.iter().map(|p| plain(*p, Source::System, Hop::Peering(peer))));
        }
    }
    let endpoints = subnet.map_or(&[][..], |s| &owner.vnets[vnet].subnets[s].service_endpoints);
    for tag in endpoints.iter().flat_map(|e| &e.tags) {
        // "Service endpoints are IPv4"
        for prefix in model.tags.find(tag).into_iter().flat_map(|t| &t.prefixes).filter(|p| p.is_ipv4()) {
            routes.push(plain(*prefix, Source::System, Hop::ServiceEndpoint));
        }
    }
    routes
}

/// The routes of one user-defined route: one, or one for every prefix of its tag. "a tag route with an appliance has
/// the tag's prefixes of the appliance's family".
fn user(model: &Model, route: &clearway::model::Route, routes: &mut Vec<EffectiveRoute>) {
    let (hop, family) = match route.next_hop {
        RouteNextHop::VirtualNetworkGateway => (Hop::UserGateway, None),
        RouteNextHop::VnetLocal => (Hop::VnetLocal, None),
        RouteNextHop::Internet => (Hop::Internet, None),
        RouteNextHop::VirtualAppliance(address) => (Hop::Appliance(address), Some(address.is_ipv4())),
        RouteNextHop::None => (Hop::None, None),
    };
    let (prefixes, tag_rank) = match &route.target {
        RouteTarget::Prefix(prefix) => (vec![*prefix], 0),
        RouteTarget::Tag(tag) => {
            let all = model.tags.find(tag).map(|t| t.prefixes.clone()).unwrap_or_default();
            let fits = all.into_iter().filter(|p| family.is_none_or(|v4| v4 == p.is_ipv4())).collect();
            (fits, tag_rank(tag))
        }
    };
    for prefix in prefixes {
        routes.push(EffectiveRoute {
            prefix,
            source: Source::User,
            hop,
            has_bgp_override: route.has_bgp_override,
            tag_rank,
            active: true,
        });
    }
}

/// The longest of the active routes that hold the destination and please `wanted`.
fn longest(
    routes: &[EffectiveRoute],
    destination: IpAddr,
    wanted: impl Fn(&EffectiveRoute) -> bool,
) -> Option<&EffectiveRoute> {
    let mut best: Option<&EffectiveRoute> = None;
    for route in routes {
        let holds = route.active && route.prefix.contains(destination) && wanted(route);
        if holds && best.is_none_or(|b| route.prefix.len() > b.prefix.len()) {
            best = Some(route);
        }
    }
    best
}

/// The route that wins, by the pseudo code of `semantics.md` 2.2: "winner = LPM(active routes); if winner is a gateway
/// route: if an active UDR with hasBgpOverride contains dst -> it; else if an active system route of type
/// VnetLocal/VNetPeering/VirtualNetworkServiceEndpoint contains dst -> the longest such; else winner."
pub fn select(routes: &[EffectiveRoute], destination: IpAddr) -> Option<(Hop, Prefix)> {
    let winner = longest(routes, destination, |_| true)?;
    let winner = if winner.hop == Hop::Gateway {
        let overrides = longest(routes, destination, |r| r.source == Source::User && r.has_bgp_override);
        let preferred = longest(routes, destination, EffectiveRoute::is_preferred_system);
        if overrides.is_some() {
            seen("route: hasBgpOverride");
        } else if preferred.is_some() {
            seen("route: preferred system route");
        }
        overrides.or(preferred).unwrap_or(winner)
    } else {
        winner
    };
    if winner.tag_rank > 0 {
        seen("route: by tag");
    }
    Some((winner.hop, winner.prefix))
}

/// The best ways for a learned prefix: "ExpressRoute over VPN on equal prefixes, higher weight, shorter AS path
/// (absent is 0)"; all that are equally good, each once.
pub fn best_ways(ways: Vec<Way>, prefix: Prefix) -> Vec<Way> {
    let length = |w: &Way| w.learned.iter().filter(|(p, _)| *p == prefix).map(|(_, l)| *l).min();
    let mut ways: Vec<Way> = ways.into_iter().filter(|w| length(w).is_some()).collect();
    if ways.iter().any(|w| w.kind == GatewayKind::ExpressRoute) {
        ways.retain(|w| w.kind == GatewayKind::ExpressRoute);
    }
    ways = heaviest(ways);
    let shortest = ways.iter().filter_map(length).min();
    ways.retain(|w| length(w) == shortest);
    ways
}

/// Those of the highest weight.
pub fn heaviest(mut ways: Vec<Way>) -> Vec<Way> {
    let weight = ways.iter().map(|w| w.weight).max().unwrap_or(0);
    ways.retain(|w| w.weight == weight);
    ways
}

/// "A user-defined route of this type takes the longest prefix learned by the connections of the VNet's VPN gateway
/// (or the one it uses remotely), else the connection of `gatewayDefaultSite`."
pub fn user_gateway_ways(customer: &Customer, vnet: usize, destination: IpAddr) -> Vec<Way> {
    let vpn: Vec<usize> = gateways(customer, vnet)
        .into_iter()
        .filter(|&g| customer.gateways[g].kind == GatewayKind::Vpn)
        .collect();
    let all = ways(customer, &vpn);
    let holding = all.iter().flat_map(|w| &w.learned).map(|(p, _)| *p).filter(|p| p.contains(destination));
    match holding.max_by_key(|p| p.len()) {
        Some(prefix) => best_ways(all, prefix),
        None => {
            let default = vpn.iter().find_map(|&g| customer.gateways[g].default_site);
            heaviest(all.into_iter().filter(|w| default.is_some() && w.site == default).collect())
        }
    }
}
