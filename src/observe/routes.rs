//! The effective routes of a subnet: as a table with Azure's columns, and in the shape of Azure's effective route table.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Style, Table, find};
use crate::compile::effective::{self, EffectiveRoute, RouteSource, SubnetRouting};
use crate::compile::topology::{self, Learned};
use crate::model::{Customer, GATEWAY_SUBNET, Model, Subnet, TunnelTo};
use crate::types::Prefix;

/// Where a subnet is in the model.
#[derive(Clone, Copy, Debug)]
pub struct SubnetAt<'a> {
    /// The configuration.
    pub model: &'a Model,
    /// The customer.
    pub customer: &'a Customer,
    /// The VNet, of the customer's.
    pub vnet: usize,
    /// The subnet.
    pub subnet: &'a Subnet,
}

impl<'a> SubnetAt<'a> {
    /// The subnet of these names; or a sentence that says which there are.
    pub fn find(model: &'a Model, customer: &str, vnet: &str, name: &str) -> Result<SubnetAt<'a>, String> {
        let (customer, vnet) = find::customer_and_vnet(model, customer, vnet)?;
        let subnets = customer.vnets.get(vnet).map_or(&[][..], |v| &v.subnets);
        let of = format!("of VNet '{}'", find::vnet_name(customer, vnet));
        let index = find::one("subnet", name, &of, subnets.iter().map(|s| s.name.as_str()))?;
        let subnet = subnets.get(index).ok_or("the subnet is gone")?;
        Ok(SubnetAt { model, customer, vnet, subnet })
    }

    /// What the gateways that the VNet uses have learned.
    pub fn learned(&self) -> Learned {
        topology::learned(self.customer, &topology::gateways(self.customer, self.vnet))
    }

    /// Its effective routes, Active and Invalid.
    pub fn routes(&self, learned: &Learned) -> Vec<EffectiveRoute<'a>> {
        let routing = SubnetRouting {
            route_table: self.subnet.route_table,
            service_endpoints: &self.subnet.service_endpoints,
        };
        effective::effective_routes(self.customer, &self.model.tags, self.vnet, routing, learned)
    }

    /// `VNET/SUBNET`.
    pub fn name(&self) -> String {
        let vnet = self.customer.vnets.get(self.vnet).map_or("", |v| &v.name);
        format!("{vnet}/{}", self.subnet.name)
    }

    /// True of the subnet that network security groups have no effect on.
    pub fn is_gateway(&self) -> bool {
        self.subnet.name == GATEWAY_SUBNET
    }
}

/// The effective routes of a subnet, ready to be shown.
pub struct EffectiveRoutes<'a> {
    at: SubnetAt<'a>,
    rows: Vec<Row<'a>>,
    no_learned: bool,
}

/// Routes that differ in nothing but their prefix: one, or those of a service tag.
struct Row<'a> {
    route: EffectiveRoute<'a>,
    prefixes: Vec<Prefix>,
    note: String,
}

impl<'a> EffectiveRoutes<'a> {
    /// Those of this subnet.
    pub fn of(at: SubnetAt<'a>) -> EffectiveRoutes<'a> {
        let learned = at.learned();
        let routes = at.routes(&learned);
        let mut rows: Vec<Row<'a>> = Vec::new();
        for (route, instead) in routes.iter().zip(goes_first(&routes)) {
            let note = note(&at, route, instead, &learned);
            match rows.last_mut().filter(|row| row.takes(route, &note)) {
                Some(row) => row.prefixes.push(route.prefix),
                None => rows.push(Row { route: route.clone(), prefixes: vec![route.prefix], note }),
            }
        }
        let table = at.subnet.route_table.and_then(|t| at.customer.route_tables.get(t));
        EffectiveRoutes { at, rows, no_learned: table.is_some_and(|t| t.disable_bgp_route_propagation) }
    }

    /// The table for a person.
    pub fn table(&self, style: Style) -> String {
        let heads = ["SOURCE", "STATE", "ADDRESS PREFIX", "NEXT HOP TYPE", "NEXT HOP IP", "NAME", ""];
        let mut table = Table::new(style, &heads);
        for row in &self.rows {
            let route = &row.route;
            let prefix = match (route.tag, row.prefixes.len()) {
                (Some(tag), 1) => format!("{} ({tag})", route.prefix),
                (Some(tag), n) => format!("{n} prefixes of {tag}"),
                (None, _) => route.prefix.to_string(),
            };
            table.row([
                route.source.name().to_owned(),
                state(route).to_owned(),
                prefix,
                route.next_hop_type.name().to_owned(),
                route.next_hop_ip.map_or_else(String::new, |ip| ip.to_string()),
                route.name.unwrap_or_default().to_owned(),
                row.note.clone(),
            ]);
        }
        let mut text = format!("{}\n\n{table}", style.strong(self.title()));
        if self.no_learned {
            text.push_str("\nlearned routes are kept out: disableBgpRoutePropagation of its route table\n");
        }
        text
    }

    fn title(&self) -> String {
        let table = self.at.subnet.route_table.and_then(|t| self.at.customer.route_tables.get(t));
        let table = table.map_or("no route table".to_owned(), |t| format!("route table {}", t.name));
        format!("effective routes of {} ({table})", self.at.name())
    }
}

fn state(route: &EffectiveRoute<'_>) -> &'static str {
    if route.is_active() { "Active" } else { "Invalid" }
}

impl Row<'_> {
    /// True if the route belongs into this row too.
    fn takes(&self, route: &EffectiveRoute<'_>, note: &str) -> bool {
        let mut same = self.route.clone();
        same.prefix = route.prefix;
        route.tag.is_some() && same == *route && self.note == note
    }
}

/// For each route, the one that is used in its place although it is Active.
pub(super) fn goes_first<'r, 'a>(routes: &'r [EffectiveRoute<'a>]) -> Vec<Option<&'r EffectiveRoute<'a>>> {
    let mut first = vec![None; routes.len()];
    // What resolve returns stands in the order of the Active routes.
    let active = routes.iter().enumerate().filter(|(_, r)| r.is_active());
    for ((index, _), (_, used)) in active.zip(effective::resolve(routes)) {
        if let Some(place) = first.get_mut(index).filter(|_| used != index) {
            *place = routes.get(used);
        }
    }
    first
}

/// Why a route is not used for its own prefix.
pub(super) fn why_not(route: &EffectiveRoute<'_>, instead: Option<&EffectiveRoute<'_>>) -> Option<String> {
    if let Some(lost) = route.lost_to {
        return Some(format!("loses to {} {}", lost.source.name(), lost.next_hop_type.name()));
    }
    instead.map(|winner| {
        let (source, kind) = (winner.source.name(), winner.next_hop_type.name());
        format!("never used: {source} {kind} {} goes first", winner.prefix)
    })
}

/// Why a route is not used, or where it leads.
fn note(
    at: &SubnetAt<'_>,
    route: &EffectiveRoute<'_>,
    instead: Option<&EffectiveRoute<'_>>,
    learned: &Learned,
) -> String {
    if let Some(why) = why_not(route, instead) {
        return why;
    }
    if let Some(peer) = route.peer.and_then(|p| at.customer.vnets.get(p)) {
        return format!("VNet {}", peer.name);
    }
    if route.source == RouteSource::VirtualNetworkGateway {
        return ways(at.customer, learned, &route.prefix);
    }
    if route.has_bgp_override { "overrides learned routes".to_owned() } else { String::new() }
}

/// By which links and connections a learned prefix is reached.
fn ways(customer: &Customer, learned: &Learned, prefix: &Prefix) -> String {
    let best = topology::best(learned.get(prefix).map_or(&[][..], Vec::as_slice));
    let names = best.iter().filter_map(|w| customer.tunnels.get(w.tunnel)).map(|t| match t.to {
        TunnelTo::Link { circuit, link, .. } => {
            format!("circuit {} {}", customer.circuits.get(circuit).map_or("", |c| &c.name), link.name())
        }
        TunnelTo::Connection(c) => {
            format!("connection {}", customer.connections.get(c).map_or("", |c| &c.name))
        }
        TunnelTo::Vnet(_) | TunnelTo::Internet(_) => String::new(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A row of Azure's effective route table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AzureRoute<'a> {
    name: Option<&'a str>,
    disable_bgp_route_propagation: bool,
    source: &'static str,
    state: &'static str,
    has_bgp_override: bool,
    address_prefix: Vec<String>,
    next_hop_type: &'static str,
    next_hop_ip_address: Vec<IpAddr>,
    destination_service_tags: Vec<&'a str>,
    tag_map: Map<String, Value>,
}

impl Serialize for EffectiveRoutes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = |row: &Row<'_>| {
            let prefixes: Vec<String> = row.prefixes.iter().map(Prefix::to_string).collect();
            let tag = row.route.tag.map(|t| (t.to_owned(), Value::from(prefixes.clone())));
            let route = AzureRoute {
                name: row.route.name,
                disable_bgp_route_propagation: self.no_learned,
                source: row.route.source.name(),
                state: state(&row.route),
                has_bgp_override: row.route.has_bgp_override,
                address_prefix: prefixes,
                next_hop_type: row.route.next_hop_type.name(),
                next_hop_ip_address: row.route.next_hop_ip.into_iter().collect(),
                destination_service_tags: row.route.tag.into_iter().collect(),
                tag_map: tag.into_iter().collect(),
            };
            serde_json::to_value(route)
        };
        let rows: Result<Vec<Value>, _> = self.rows.iter().map(row).collect();
        let rows = rows.map_err(serde::ser::Error::custom)?;
        serializer.collect_map([("value", rows)])
    }
}
