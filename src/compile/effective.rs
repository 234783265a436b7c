//! Effective routes of a subnet: system, learned and user-defined routes merged as Azure does (virtual network traffic
//! routing, "How Azure selects a route"; contract section 3, "Routes").

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ahash::RandomState;

use super::nested::Nested;
use super::topology::{self, Learned};
use crate::model::{Customer, RouteNextHop, RouteTarget, ServiceEndpoint, ServiceTags};
use crate::packet::NextHopType;
use crate::types::Prefix;

/// Who made a route, in Azure's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// A system route.
    Default,
    /// A learned route.
    VirtualNetworkGateway,
    /// A user-defined route.
    User,
}

impl RouteSource {
    /// As Azure writes it.
    pub fn name(self) -> &'static str {
        match self {
            RouteSource::Default => "Default",
            RouteSource::VirtualNetworkGateway => "VirtualNetworkGateway",
            RouteSource::User => "User",
        }
    }
}

/// One row of a subnet's effective routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveRoute<'a> {
    /// Who made it.
    pub source: RouteSource,
    /// The destinations.
    pub prefix: Prefix,
    /// Where they go.
    pub next_hop_type: NextHopType,
    /// The appliance.
    pub next_hop_ip: Option<IpAddr>,
    /// The name of a user-defined route.
    pub name: Option<&'a str>,
    /// The service tag that the prefix is of.
    pub tag: Option<&'a str>,
    /// The peered VNet.
    pub peer: Option<usize>,
    /// `hasBgpOverride`.
    pub has_bgp_override: bool,
    /// Why it is Invalid; an Active route has none.
    pub lost_to: Option<Lost>,
}

/// Why a route is Invalid: what stands under the same prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Who made the winner.
    pub source: RouteSource,
    /// Its next hop type.
    pub next_hop_type: NextHopType,
}

impl EffectiveRoute<'_> {
    /// True unless another route of the same prefix won.
    pub fn is_active(&self) -> bool {
        self.lost_to.is_none()
    }

    /// System routes that learned routes never beat.
    fn is_protected(&self) -> bool {
        use NextHopType::{VNetPeering, VirtualNetworkServiceEndpoint, VnetLocal};
        self.source == RouteSource::Default
            && matches!(self.next_hop_type, VnetLocal | VNetPeering | VirtualNetworkServiceEndpoint)
    }

    /// The lower wins among equal prefixes (contract: user-defined, learned, system; tags behind explicit prefixes).
    fn rank(&self) -> u8 {
        match (self.source, self.tag) {
            (RouteSource::User, None) => 0,
            (RouteSource::User, Some(tag)) => {
                let cloud = tag.get(..10).is_some_and(|t| t.eq_ignore_ascii_case("AzureCloud"));
                match (cloud && matches!(tag.as_bytes().get(10), None | Some(b'.')), tag.contains('.')) {
                    (false, true) => 1,
                    (false, false) => 2,
                    (true, true) => 3,
                    (true, false) => 4,
                }
            }
            _ if self.is_protected() => 5,
            (RouteSource::VirtualNetworkGateway, _) => 6,
            (RouteSource::Default, _) => 7,
        }
    }
}

/// Ranges that go nowhere unless a route says otherwise: RFC 1918 and RFC 6598.
pub fn reserved() -> [Prefix; 4] {
    [
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(100, 64, 0, 0, 10),
    ]
}

/// What the routes of a subnet depend on, besides its VNet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubnetRouting<'a> {
    /// Its route table.
    pub route_table: Option<usize>,
    /// Its service endpoints.
    pub service_endpoints: &'a [ServiceEndpoint],
}

/// The effective routes of a subnet, Active and Invalid.
pub fn effective_routes<'a>(
    customer: &'a Customer,
    tags: &'a ServiceTags,
    vnet: usize,
    subnet: SubnetRouting<'a>,
    learned: &Learned,
) -> Vec<EffectiveRoute<'a>> {
    let table = subnet.route_table.and_then(|t| customer.route_tables.get(t));
    let no_learned = table.is_some_and(|t| t.disable_bgp_route_propagation);
    let mut routes = Vec::new();
    system_routes(customer, tags, vnet, subnet, &mut routes);
    if !no_learned {
        let row = |prefix: &Prefix| {
            row(RouteSource::VirtualNetworkGateway, *prefix, NextHopType::VirtualNetworkGateway)
        };
        routes.extend(learned.keys().map(row));
    }
    default_routes(customer, vnet, &mut routes);
    let user_start = routes.len();
    for route in table.iter().flat_map(|t| &t.routes) {
        let (next_hop_type, next_hop_ip) = match route.next_hop {
            RouteNextHop::VirtualNetworkGateway => (NextHopType::VirtualNetworkGateway, None),
            RouteNextHop::VnetLocal => (NextHopType::VnetLocal, None),
            RouteNextHop::Internet => (NextHopType::Internet, None),
            RouteNextHop::VirtualAppliance(ip) => (NextHopType::VirtualAppliance, Some(ip)),
            RouteNextHop::None => (NextHopType::None, None),
        };
        let (prefixes, tag) = match &route.target {
            RouteTarget::Prefix(p) => (std::slice::from_ref(p), None),
            RouteTarget::Tag(t) => (tags.find(t).map_or(&[][..], |t| &t.prefixes), Some(t.as_str())),
        };
        // A tag has prefixes of both families; an appliance is of one.
        let family = |p: &&Prefix| next_hop_ip.is_none_or(|ip| ip.is_ipv4() == p.is_ipv4() || tag.is_none());
        routes.extend(prefixes.iter().filter(family).map(|prefix| EffectiveRoute {
            next_hop_ip,
            name: Some(&route.name),
            tag,
            has_bgp_override: route.has_bgp_override,
            ..row(RouteSource::User, *prefix, next_hop_type)
        }));
    }
    let forced = routes.iter().any(|r| r.prefix == Prefix::ALL_V4 && r.source != RouteSource::Default);
    if !forced {
        let space = customer.vnets.get(vnet).map_or(&[][..], |v| &v.address_space);
        let none = reserved().into_iter().filter(|p| !space.iter().any(|s| s.covers(p)));
        let none = none.map(|p| row(RouteSource::Default, p, NextHopType::None));
        routes.splice(user_start..user_start, none);
    }
    settle(&mut routes);
    routes
}

fn row<'a>(source: RouteSource, prefix: Prefix, next_hop_type: NextHopType) -> EffectiveRoute<'a> {
    EffectiveRoute {
        source,
        prefix,
        next_hop_type,
        next_hop_ip: None,
        name: None,
        tag: None,
        peer: None,
        has_bgp_override: false,
        lost_to: None,
    }
}

/// The VNet's ranges, its peers' ranges and the prefixes of service endpoints.
fn system_routes<'a>(
    customer: &'a Customer,
    tags: &'a ServiceTags,
    vnet: usize,
    subnet: SubnetRouting<'a>,
    routes: &mut Vec<EffectiveRoute<'a>>,
) {
    let ranges = |v: usize| customer.vnets.get(v).map_or(&[][..], |v| &v.address_space).iter();
    routes.extend(ranges(vnet).map(|p| row(RouteSource::Default, *p, NextHopType::VnetLocal)));
    for peer in topology::peers(customer, vnet).filter(|p| p.is_usable()) {
        routes.extend(ranges(peer.vnet).map(|p| EffectiveRoute {
            peer: Some(peer.vnet),
            ..row(RouteSource::Default, *p, NextHopType::VNetPeering)
        }));
    }
    for name in subnet.service_endpoints.iter().flat_map(|s| &s.tags) {
        let prefixes = tags.find(name).map_or(&[][..], |t| &t.prefixes).iter().filter(|p| p.is_ipv4());
        routes.extend(prefixes.map(|p| EffectiveRoute {
            tag: Some(name),
            ..row(RouteSource::Default, *p, NextHopType::VirtualNetworkServiceEndpoint)
        }));
    }
}

/// The system default routes: IPv4 always, IPv6 of a VNet that has IPv6.
fn default_routes(customer: &Customer, vnet: usize, routes: &mut Vec<EffectiveRoute<'_>>) {
    routes.push(row(RouteSource::Default, Prefix::ALL_V4, NextHopType::Internet));
    let space = customer.vnets.get(vnet).map_or(&[][..], |v| &v.address_space);
    if space.iter().any(|p| !p.is_ipv4()) {
        routes.push(row(RouteSource::Default, Prefix::ALL_V6, NextHopType::Internet));
    }
}

/// Of the routes of one prefix, the best stays Active.
fn settle(routes: &mut [EffectiveRoute<'_>]) {
    let mut winners: HashMap<Prefix, usize, RandomState> =
        HashMap::with_capacity_and_hasher(routes.len(), Default::default());
    for (i, route) in routes.iter().enumerate() {
        let winner = winners.entry(route.prefix).or_insert(i);
        if route.rank() < routes[*winner].rank() {
            *winner = i;
        }
    }
    for i in 0..routes.len() {
        let winner = winners.get(&routes[i].prefix).copied().unwrap_or(i);
        if winner != i {
            let EffectiveRoute { source, next_hop_type, .. } = routes[winner];
            routes[i].lost_to = Some(Lost { source, next_hop_type });
        }
    }
}

/// For every Active route, the route that is used for destinations whose longest match it is: a learned route gives way
/// to a user-defined one that overrides learned routes, else to a system route for the VNet, a peering or a service
/// endpoint, wherever one of these holds its prefix (semantics 2.2).
pub fn resolve(routes: &[EffectiveRoute<'_>]) -> Vec<(Prefix, usize)> {
    let active = || routes.iter().enumerate().filter(|(_, r)| r.is_active());
    let stronger = active().filter_map(|(i, r)| {
        let overrides = r.source == RouteSource::User && r.has_bgp_override;
        (overrides || r.is_protected()).then_some((r.prefix, (overrides, i)))
    });
    let stronger = Nested::new(stronger.collect());
    let instead = |p: &Prefix| {
        let mut found = stronger.covering(*p).map(|item| item.1);
        let first = found.next()?;
        let overriding = if first.0 { Some(first) } else { found.find(|(overrides, _)| *overrides) };
        Some(overriding.unwrap_or(first).1)
    };
    active()
        .map(|(i, route)| match route.source {
            RouteSource::VirtualNetworkGateway => (route.prefix, instead(&route.prefix).unwrap_or(i)),
            _ => (route.prefix, i),
        })
        .collect()
}

/// What the tag VirtualNetwork holds for endpoints with these effective routes: the VNet's ranges, 168.63.129.16, and
/// the prefixes of all peering, learned and user-defined routes, Active or Invalid, default routes too.
pub fn virtual_network_tag(space: &[Prefix], routes: &[EffectiveRoute<'_>]) -> Vec<Prefix> {
    let mut prefixes: Vec<Prefix> = space.to_vec();
    prefixes.push(Prefix::v4(168, 63, 129, 16, 32));
    let counts = |r: &&EffectiveRoute<'_>| {
        r.source != RouteSource::Default || r.next_hop_type == NextHopType::VNetPeering
    };
    prefixes.extend(routes.iter().filter(counts).map(|r| r.prefix));
    let mut seen: HashSet<Prefix, RandomState> =
        HashSet::with_capacity_and_hasher(prefixes.len(), Default::default());
    prefixes.retain(|p| seen.insert(*p));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Route, RouteTable, Vnet};

    fn customer(space: &[&str], routes: &[(&str, RouteNextHop, bool)]) -> Customer {
        let prefixes = |list: &[&str]| list.iter().map(|p| p.parse().unwrap()).collect();
        let vnet = Vnet {
            name: "v".into(),
            id: None,
            address_space: prefixes(space),
            subnets: vec![],
            peerings: vec![],
            flow_timeout_minutes: 4,
            max_flows: 1,
        };
        let route = |(p, next_hop, has_bgp_override): &(&str, RouteNextHop, bool)| Route {
            name: format!("to {p}"),
            target: RouteTarget::Prefix(p.parse().unwrap()),
            next_hop: *next_hop,
            has_bgp_override: *has_bgp_override,
        };
        let table = RouteTable {
            name: "rt".into(),
            disable_bgp_route_propagation: false,
            routes: routes.iter().map(route).collect(),
        };
        Customer { vnets: vec![vnet], route_tables: vec![std::sync::Arc::new(table)], ..Customer::default() }
    }

    fn shown(customer: &Customer, learned: &[&str]) -> Vec<String> {
        let learned = learned.iter().map(|p| (p.parse().unwrap(), vec![])).collect();
        let routing = SubnetRouting { route_table: Some(0), service_endpoints: &[] };
        let tags = ServiceTags::default();
        let routes = effective_routes(customer, &tags, 0, routing, &learned);
        let used = resolve(&routes);
        let show = |(i, r): (usize, &EffectiveRoute<'_>)| {
            let by = used.iter().find(|(p, u)| *p == r.prefix && *u != i).filter(|_| r.is_active());
            let by = by.map_or(String::new(), |(_, u)| format!(" -> {}", routes[*u].prefix));
            let state = if r.is_active() { "" } else { " Invalid" };
            format!("{} {} {}{state}{by}", r.source.name(), r.prefix, r.next_hop_type.name())
        };
        routes.iter().enumerate().map(show).collect()
    }

    #[test]
    fn reserved_ranges_go_nowhere_unless_owned_or_forced() {
        let plain = customer(&["10.0.0.0/16", "172.16.0.0/12"], &[]);
        let expected = [
            "Default 10.0.0.0/16 VnetLocal",
            "Default 172.16.0.0/12 VnetLocal",
            "VirtualNetworkGateway 192.168.0.0/16 VirtualNetworkGateway",
            "Default 0.0.0.0/0 Internet",
            "Default 10.0.0.0/8 None",
            "Default 192.168.0.0/16 None Invalid",
            "Default 100.64.0.0/10 None",
        ];
        assert_eq!(shown(&plain, &["192.168.0.0/16"]), expected);
        let forced = shown(&plain, &["0.0.0.0/0"]);
        assert!(!forced.iter().any(|r| r.ends_with("None")), "{forced:?}");
        assert!(forced.contains(&"Default 0.0.0.0/0 Internet Invalid".to_owned()));
        let wide = customer(&["10.0.0.0/7"], &[]);
        assert!(!shown(&wide, &[]).iter().any(|r| r.contains("10.0.0.0/8")));
    }

    #[test]
    fn learned_routes_never_beat_the_vnet() {
        let hop = RouteNextHop::VirtualAppliance("10.0.9.4".parse().unwrap());
        let plain = customer(&["10.0.0.0/16"], &[("10.0.5.0/24", hop, false)]);
        let rows = shown(&plain, &["10.0.0.0/16", "10.0.7.0/24", "10.0.5.0/24", "10.0.5.128/25"]);
        for row in [
            "VirtualNetworkGateway 10.0.0.0/16 VirtualNetworkGateway Invalid",
            "VirtualNetworkGateway 10.0.7.0/24 VirtualNetworkGateway -> 10.0.0.0/16",
            "VirtualNetworkGateway 10.0.5.0/24 VirtualNetworkGateway Invalid",
            "VirtualNetworkGateway 10.0.5.128/25 VirtualNetworkGateway -> 10.0.0.0/16",
        ] {
            assert!(rows.contains(&row.to_owned()), "{row} in {rows:#?}");
        }
        let taken = customer(&["10.0.0.0/16"], &[("10.0.0.0/16", hop, false)]);
        assert!(
            shown(&taken, &["10.0.7.0/24"])
                .contains(&"VirtualNetworkGateway 10.0.7.0/24 VirtualNetworkGateway".to_owned())
        );
        let overriding = customer(&["10.0.0.0/16"], &[("192.168.0.0/16", hop, true)]);
        assert!(shown(&overriding, &["192.168.7.0/24"]).contains(
            &"VirtualNetworkGateway 192.168.7.0/24 VirtualNetworkGateway -> 192.168.0.0/16".to_owned()
        ));
    }
}
