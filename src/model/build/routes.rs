//! Route tables and their user-defined routes.

use std::collections::HashMap;

use super::Cx;
use super::fields::{self, Fields};
use super::report::{Read, Report, place};
use super::sources::Item;
use super::vnets::{duplicate, part_name};
use crate::model::node::Node;
use crate::model::{Route, RouteNextHop, RouteTable, RouteTarget};
use crate::types::{Prefix, PrefixError};

/// Azure's limits of one route table (semantics 2.8 and 2.2).
const MAX_ROUTES: usize = 400;
const MAX_TAG_ROUTES: usize = 25;
/// A route shorter than this for a platform address has other effects and is no mistake.
const PLATFORM_ROUTE: u8 = 16;

/// The next hop types of user-defined routes; nothing stands for VirtualAppliance, which needs its address.
const HOP_TYPES: [(&str, Option<RouteNextHop>); 5] = [
    ("VirtualNetworkGateway", Some(RouteNextHop::VirtualNetworkGateway)),
    ("VnetLocal", Some(RouteNextHop::VnetLocal)),
    ("Internet", Some(RouteNextHop::Internet)),
    ("VirtualAppliance", None),
    ("None", Some(RouteNextHop::None)),
];

/// A route table as far as it could be read.
pub struct TableDraft<'a> {
    /// The table.
    pub table: RouteTable,
    /// The first route whose next hop is the VPN gateway.
    pub gateway_node: Option<&'a Node>,
}

/// Reads one route table.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> TableDraft<'a> {
    let fields = Fields::azure(&item.body, "route table", &item.name);
    fields.misspelt(cx.report, &["routes", "disableBgpRoutePropagation"]);
    let mut table = RouteTable {
        name: item.name.clone(),
        disable_bgp_route_propagation: fields
            .flag(cx.report, "disableBgpRoutePropagation", false)
            .unwrap_or(false),
        routes: Vec::new(),
    };
    let nodes = fields.list(cx.report, "routes").unwrap_or_default();
    if nodes.len() > MAX_ROUTES {
        cx.report
            .fault(&item.body, format!("{fields} has {} routes; Azure allows {MAX_ROUTES}", nodes.len()));
    }
    let mut names: HashMap<String, &Node> = HashMap::new();
    let mut targets: HashMap<String, &Node> = HashMap::new();
    let mut gateway_node = None;
    for node in nodes {
        let Ok(name) = part_name(cx.report, node, "route") else { continue };
        if let Some(first) = names.insert(name.to_lowercase(), node) {
            duplicate(cx.report, node, "route", first);
        }
        let route = Fields::azure(node, "route", name);
        if let Ok(route) = read_route(cx, &route, &mut targets) {
            if route.next_hop == RouteNextHop::VirtualNetworkGateway && gateway_node.is_none() {
                gateway_node = Some(node);
            }
            table.routes.push(route);
        }
    }
    let tags = table.routes.iter().filter(|r| matches!(r.target, RouteTarget::Tag(_))).count();
    if tags > MAX_TAG_ROUTES {
        cx.report.fault(
            &item.body,
            format!("{fields} has {tags} routes for service tags; Azure allows {MAX_TAG_ROUTES}"),
        );
    }
    TableDraft { table, gateway_node }
}

fn read_route<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    targets: &mut HashMap<String, &'a Node>,
) -> Read<Route> {
    fields.misspelt(cx.report, &["addressPrefix", "nextHopType", "nextHopIpAddress", "hasBgpOverride"]);
    let target = read_target(cx, fields, targets);
    let next_hop = read_next_hop(cx.report, fields);
    let has_bgp_override = fields.flag(cx.report, "hasBgpOverride", false);
    if let (Ok(RouteTarget::Prefix(prefix)), Ok(RouteNextHop::VirtualAppliance(hop))) = (&target, &next_hop)
        && prefix.is_ipv4() != hop.is_ipv4()
    {
        let at = fields.get("nextHopIpAddress").unwrap_or(fields.node);
        cx.report
            .fault(at, format!("nextHopIpAddress of {fields} must be of the family of its prefix, {prefix}"));
    }
    let name = fields.text(cx.report, "name")?.unwrap_or_default().to_string();
    Ok(Route { name, target: target?, next_hop: next_hop?, has_bgp_override: has_bgp_override? })
}

fn read_target<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    targets: &mut HashMap<String, &'a Node>,
) -> Read<RouteTarget> {
    let Some(node) = fields.get("addressPrefix") else {
        return Err(fields.lacks(
            cx.report,
            "addressPrefix",
            "give the destinations: a prefix or a service tag",
        ));
    };
    let what = || fields.of("addressPrefix");
    let text = fields::text(cx.report, node, what)?;
    let target = match text.parse::<Prefix>() {
        Ok(prefix) => RouteTarget::Prefix(prefix),
        Err(PrefixError::Syntax)
            if !text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains([':', '/']) =>
        {
            RouteTarget::Tag(read_tag(cx, node, text, what)?)
        }
        Err(error) => return Err(cx.report.fault(node, format!("{} {error}", what()))),
    };
    let key = match &target {
        RouteTarget::Prefix(prefix) => prefix.to_string(),
        RouteTarget::Tag(tag) => tag.to_lowercase(),
    };
    if let Some(first) = targets.get(&key) {
        let place = place(&first.mark, &node.mark);
        return Err(cx
            .report
            .fault(node, format!("has a route in this table already, at {place}; a prefix has one route")));
    }
    targets.insert(key, node);
    if let RouteTarget::Prefix(prefix) = target {
        let platform = platform().into_iter().find(|p| prefix.covers(p) && prefix.len() >= PLATFORM_ROUTE);
        if let Some(address) = platform {
            let message = format!("{fields} has no effect on the platform address {}", address.first());
            cx.report.warn(node, message);
        }
    }
    Ok(target)
}

fn read_tag(cx: &mut Cx, node: &Node, text: &str, what: impl Fn() -> String) -> Read<String> {
    if ["*", "virtualnetwork", "internet", "azureloadbalancer"].contains(&text.to_ascii_lowercase().as_str())
    {
        let message =
            format!("{} must be a prefix or a published service tag; for everything write 0.0.0.0/0", what());
        return Err(cx.report.fault(node, message));
    }
    cx.tags.take(cx.report, node, text, what)
}

/// The next hop: an address with VirtualAppliance and only then.
fn read_next_hop(report: &mut Report, fields: &Fields) -> Read<RouteNextHop> {
    let kind = fields.word(report, "nextHopType", &HOP_TYPES);
    let address = fields.address(report, "nextHopIpAddress");
    let Some(kind) = kind? else {
        let right = "VirtualNetworkGateway, VnetLocal, Internet, VirtualAppliance or None is needed";
        return Err(fields.lacks(report, "nextHopType", right));
    };
    let address = address?;
    match (kind, address, fields.get("nextHopIpAddress")) {
        (Some(_), _, Some(node)) => {
            let message =
                format!("nextHopIpAddress of {fields} is allowed only with the nextHopType VirtualAppliance");
            Err(report.fault(node, message))
        }
        (Some(hop), ..) => Ok(hop),
        (None, Some(address), _) => super::ports::unicast(report, fields, "nextHopIpAddress", address)
            .map(RouteNextHop::VirtualAppliance),
        (None, None, _) => {
            Err(fields.lacks(report, "nextHopIpAddress", "a VirtualAppliance needs its address"))
        }
    }
}

/// The platform addresses; only the system's default route leads to them.
fn platform() -> [Prefix; 2] {
    [Prefix::v4(168, 63, 129, 16, 32), Prefix::v4(169, 254, 169, 254, 32)]
}
