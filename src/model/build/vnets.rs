//! Virtual networks: their ranges, subnets, service endpoints and sides of peerings.

use std::collections::HashMap;

use super::Cx;
use super::fields::{self, Fields};
use super::names::Slot;
use super::overlap::overlaps;
use super::report::{Read, Report, place};
use super::sources::{Item, check_part_name};
use crate::model::node::Node;
use crate::model::{GATEWAY_SUBNET, Peering, ServiceEndpoint, Subnet, Vnet};
use crate::types::Prefix;

/// Azure's limits of one virtual network (semantics 1.6).
const MAX_SUBNETS: usize = 3000;
const MAX_PEERINGS: usize = 500;
/// Azure's smallest IPv4 subnet is a /29.
const LONGEST_SUBNET: u8 = 29;
/// Flow records of a virtual network when unsaid.
const DEFAULT_MAX_FLOWS: u32 = 1_000_000;

/// The service tag of each service that has endpoints (contract section 3, Routes).
const SERVICES: [(&str, &str); 10] = [
    ("Microsoft.Storage", "Storage"),
    ("Microsoft.Sql", "Sql"),
    ("Microsoft.AzureCosmosDB", "AzureCosmosDB"),
    ("Microsoft.KeyVault", "AzureKeyVault"),
    ("Microsoft.ServiceBus", "ServiceBus"),
    ("Microsoft.EventHub", "EventHub"),
    ("Microsoft.Web", "AppService"),
    ("Microsoft.ContainerRegistry", "AzureContainerRegistry"),
    ("Microsoft.AzureActiveDirectory", "AzureActiveDirectory"),
    ("Microsoft.CognitiveServices", "CognitiveServicesManagement"),
];

/// A virtual network as far as it could be read.
pub struct VnetDraft<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id in Azure.
    id: Option<String>,
    /// Its map.
    pub node: &'a Node,
    /// Its ranges, each with where it stands.
    pub ranges: Vec<(Prefix, &'a Node)>,
    /// All of its ranges could be read.
    pub whole: bool,
    /// Its subnets.
    pub subnets: Vec<SubnetDraft<'a>>,
    /// The subnets by name in lower case.
    pub subnet_names: HashMap<String, usize>,
    /// Its sides of peerings.
    pub peerings: Vec<PeeringDraft<'a>>,
    flow_timeout_minutes: u32,
    max_flows: u32,
}

/// A subnet as far as it could be read.
pub struct SubnetDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The subnet.
    pub subnet: Subnet,
    /// Where each of its prefixes stands.
    pub prefix_nodes: Vec<&'a Node>,
    /// All of its prefixes could be read.
    pub whole: bool,
}

/// One side of a peering.
pub struct PeeringDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// Where its remote virtual network is named.
    pub remote_node: &'a Node,
    /// The side.
    pub peering: Peering,
}

impl VnetDraft<'_> {
    /// The ranges alone.
    pub fn space(&self) -> Vec<Prefix> {
        self.ranges.iter().map(|(p, _)| *p).collect()
    }

    /// The virtual network of the model.
    pub fn into_model(self) -> Vnet {
        Vnet {
            name: self.name.to_string(),
            address_space: self.space(),
            id: self.id,
            subnets: self.subnets.into_iter().map(|s| s.subnet).collect(),
            peerings: self.peerings.into_iter().map(|p| p.peering).collect(),
            flow_timeout_minutes: self.flow_timeout_minutes,
            max_flows: self.max_flows,
        }
    }
}

/// Reads one virtual network.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> VnetDraft<'a> {
    let fields = Fields::azure(&item.body, "virtual network", &item.name);
    let known = ["addressSpace", "subnets", "virtualNetworkPeerings", "flowTimeoutInMinutes", "maxFlows"];
    fields.misspelt(cx.report, &known);
    let (ranges, whole) = read_space(cx.report, &fields);
    let mut vnet = VnetDraft {
        name: &item.name,
        id: item.whole_id(),
        node: &item.body,
        ranges,
        whole,
        subnets: Vec::new(),
        subnet_names: HashMap::new(),
        peerings: Vec::new(),
        flow_timeout_minutes: number(cx.report, &fields, "flowTimeoutInMinutes", 4..=30, 4),
        max_flows: max_flows(cx.report, &fields, DEFAULT_MAX_FLOWS),
    };
    for node in fields.list(cx.report, "subnets").unwrap_or_default() {
        let Ok(name) = part_name(cx.report, node, "subnet") else { continue };
        let subnet = read_subnet(cx, node, name);
        let index = vnet.subnets.len();
        let first = *vnet.subnet_names.entry(name.to_lowercase()).or_insert(index);
        if let Some(first) = vnet.subnets.get(first) {
            duplicate(cx.report, node, "subnet", first.node);
        }
        vnet.subnets.push(subnet);
    }
    check_subnets(cx.report, &mut vnet);
    for node in fields.list(cx.report, "virtualNetworkPeerings").unwrap_or_default() {
        let Ok(name) = part_name(cx.report, node, "peering") else { continue };
        let first = vnet.peerings.iter().find(|p| p.peering.name.eq_ignore_ascii_case(name));
        if let Some(first) = first {
            duplicate(cx.report, node, "peering", first.node);
        }
        if let Some(peering) = read_peering(cx, &fields, node, name) {
            vnet.peerings.push(peering);
        }
    }
    if vnet.peerings.len() > MAX_PEERINGS {
        cx.report.fault(
            &item.body,
            format!("{fields} has {} peerings; Azure allows {MAX_PEERINGS}", vnet.peerings.len()),
        );
    }
    vnet
}

/// The name of a part such as a subnet or a rule.
pub fn part_name<'a>(report: &mut Report, node: &'a Node, kind: &'static str) -> Read<&'a str> {
    if node.as_map().is_none() {
        fields::computed(report, node, || format!("a {kind}"))?;
        return Err(report.fault(node, format!("a {kind} must be a map with a name")));
    }
    let Some(name) = node.get_ci("name").filter(|n| !n.is_null()) else {
        return Err(report.lacks(node, format!("this {kind} has no name; every {kind} needs one")));
    };
    let text = fields::text(report, name, || format!("name of this {kind}"))?;
    check_part_name(report, kind, name);
    Ok(text)
}

/// Faults the second of two parts that share a name.
pub fn duplicate(report: &mut Report, node: &Node, kind: &str, first: &Node) {
    let name = node.get_ci("name").unwrap_or(node);
    let place = place(&first.mark, &name.mark);
    report.fault(
        name,
        format!("is the name of a {kind} already defined at {place}; rename one or leave one out"),
    );
}

/// A number of records or minutes; `default` when unset or wrong.
pub fn number(
    report: &mut Report,
    fields: &Fields,
    key: &str,
    bounds: std::ops::RangeInclusive<u64>,
    default: u32,
) -> u32 {
    let read = fields.number(report, key, bounds).ok().flatten();
    read.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

/// `maxFlows`: at least one.
pub fn max_flows(report: &mut Report, fields: &Fields, default: u32) -> u32 {
    number(report, fields, "maxFlows", 1..=u64::from(u32::MAX), default)
}

fn read_space<'a>(report: &mut Report, fields: &Fields<'a>) -> (Vec<(Prefix, &'a Node)>, bool) {
    let right = "give addressSpace: {addressPrefixes: [10.1.0.0/16]}";
    let space = match fields.map(report, "addressSpace") {
        Ok(Some(space)) => space,
        Ok(None) => {
            fields.lacks(report, "addressSpace", right);
            return (Vec::new(), false);
        }
        Err(_) => return (Vec::new(), false),
    };
    let (ranges, whole) = space.prefixes(report, "addressPrefixes");
    if ranges.is_empty() && whole {
        space.lacks(report, "addressPrefixes", right);
        return (ranges, false);
    }
    for &(range, node) in &ranges {
        check_range(report, fields, range, node);
    }
    let prefixes: Vec<Prefix> = ranges.iter().map(|(p, _)| *p).collect();
    for (a, b) in overlaps(&prefixes) {
        // The later one of the file is to blame.
        if let (Some((first, at)), Some((_, node))) = (ranges.get(a.min(b)), ranges.get(a.max(b))) {
            let place = place(&at.mark, &node.mark);
            let message = format!(
                "overlaps the range {first} of the same {fields} at {place}; ranges must not overlap"
            );
            report.fault(node, message);
        }
    }
    (ranges, whole)
}

/// Azure takes no multicast, broadcast, loopback, link-local or platform address into a virtual network.
fn check_range(report: &mut Report, fields: &Fields, range: Prefix, node: &Node) {
    let forbidden = [
        Prefix::v4(224, 0, 0, 0, 4),
        Prefix::v4(255, 255, 255, 255, 32),
        Prefix::v4(127, 0, 0, 0, 8),
        Prefix::v4(169, 254, 0, 0, 16),
        Prefix::v4(168, 63, 129, 16, 32),
    ];
    if let Some(bad) = forbidden.iter().find(|f| f.overlaps(&range)) {
        report.fault(
            node,
            format!("the space of {fields} must not hold addresses of {bad}; Azure reserves them"),
        );
    }
}

fn read_subnet<'a>(cx: &mut Cx<'_, 'a>, node: &'a Node, name: &'a str) -> SubnetDraft<'a> {
    let fields = Fields::azure(node, "subnet", name);
    let known =
        ["addressPrefix", "addressPrefixes", "networkSecurityGroup", "routeTable", "serviceEndpoints"];
    fields.misspelt(cx.report, &known);
    let (prefixes, whole) = read_subnet_prefixes(cx.report, &fields);
    let all = cx.everyone;
    let nsg = all.optional(cx.report, &fields, "networkSecurityGroup", Slot::Nsg).ok().flatten();
    let route_table = all.optional(cx.report, &fields, "routeTable", Slot::RouteTable).ok().flatten();
    let is_gateway_subnet = name.eq_ignore_ascii_case(GATEWAY_SUBNET);
    if let (true, Some(_), Some(at)) = (is_gateway_subnet, nsg, fields.get("networkSecurityGroup")) {
        cx.report.warn(at, "a network security group on GatewaySubnet has no effect");
    }
    let mut endpoints: Vec<ServiceEndpoint> = Vec::new();
    for node in fields.list(cx.report, "serviceEndpoints").unwrap_or_default() {
        if let Ok(Some(endpoint)) = read_endpoint(cx, &fields, node) {
            if endpoints.iter().any(|e| e.service == endpoint.service) {
                cx.report.fault(
                    node,
                    format!("a second service endpoint of {fields} for {}; one is enough", endpoint.service),
                );
            }
            endpoints.push(endpoint);
        }
    }
    let subnet = Subnet {
        name: if is_gateway_subnet { GATEWAY_SUBNET.to_string() } else { name.to_string() },
        prefixes: prefixes.iter().map(|(p, _)| *p).collect(),
        nsg,
        route_table,
        service_endpoints: endpoints,
    };
    SubnetDraft { node, subnet, prefix_nodes: prefixes.iter().map(|(_, n)| *n).collect(), whole }
}

/// The prefixes of a subnet; Azure's tools print one, or a list, or both.
fn read_subnet_prefixes<'a>(report: &mut Report, fields: &Fields<'a>) -> (Vec<(Prefix, &'a Node)>, bool) {
    let (mut prefixes, mut whole) = fields.prefixes(report, "addressPrefixes");
    if let Some(node) = fields.get("addressPrefix") {
        match fields::prefix(report, node, || fields.of("addressPrefix")) {
            Err(_) => whole = false,
            Ok(prefix) if prefixes.is_empty() => prefixes.push((prefix, node)),
            Ok(prefix) if prefixes.iter().all(|(p, _)| *p == prefix) => {}
            Ok(_) => {
                report.fault(
                    node,
                    format!("{fields} has addressPrefix and addressPrefixes; only one of them may be set"),
                );
                whole = false;
            }
        }
    }
    if prefixes.is_empty() && whole {
        fields.lacks(report, "addressPrefix", "give its prefix inside a range of the virtual network");
        whole = false;
    }
    for &(prefix, node) in &prefixes {
        if prefix.is_ipv4() && prefix.len() > LONGEST_SUBNET {
            report.fault(
                node,
                format!("{fields} is too small; Azure's smallest IPv4 subnet is a /{LONGEST_SUBNET}"),
            );
        }
    }
    (prefixes, whole)
}

fn read_endpoint(cx: &mut Cx, subnet: &Fields, node: &Node) -> Read<Option<ServiceEndpoint>> {
    if node.as_map().is_none() {
        return Err(cx.report.fault(
            node,
            format!("a service endpoint of {subnet} must be a map such as {{service: Microsoft.Storage}}"),
        ));
    }
    let fields = Fields::azure(node, "service endpoint", "");
    let Some(service) = fields.text(cx.report, "service")? else {
        return Err(fields.lacks(cx.report, "service", "name the service, such as Microsoft.Storage"));
    };
    let at = fields.get("service").unwrap_or(node);
    let Some(&(service, tag)) = SERVICES.iter().find(|(s, _)| s.eq_ignore_ascii_case(service)) else {
        cx.report.warn(
            at,
            format!("service endpoints of this service have no effect here; it is ignored in {subnet}"),
        );
        return Ok(None);
    };
    let mut tags = Vec::new();
    let locations = fields.list(cx.report, "locations")?;
    if locations.is_empty() {
        tags.push(cx.tags.take_endpoint(cx.report, at, tag, None)?);
    }
    for node in locations {
        let location = fields::text(cx.report, node, || fields.of("locations"))?;
        let region = Some(location).filter(|l| *l != "*");
        let tag = cx.tags.take_endpoint(cx.report, node, tag, region)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(Some(ServiceEndpoint { service: service.to_string(), tags }))
}

/// Every subnet lies in one range, and none overlaps another.
fn check_subnets(report: &mut Report, vnet: &mut VnetDraft) {
    let (name, count) = (vnet.name, vnet.subnets.len());
    if count > MAX_SUBNETS {
        report.fault(
            vnet.node,
            format!("virtual network '{name}' has {count} subnets; Azure allows {MAX_SUBNETS}"),
        );
    }
    let space = vnet.space();
    for draft in vnet.subnets.iter_mut().filter(|_| vnet.whole) {
        for (prefix, node) in draft.subnet.prefixes.iter().zip(&draft.prefix_nodes) {
            if !space.iter().any(|range| range.covers(prefix)) {
                let ranges: Vec<String> = space.iter().map(Prefix::to_string).collect();
                let (subnet, ranges) = (&draft.subnet.name, ranges.join(", "));
                let message = format!(
                    "subnet '{subnet}' lies in no range of virtual network '{name}', which has {ranges}"
                );
                report.fault(node, message);
                draft.whole = false;
            }
        }
    }
    let (mut prefixes, mut owners) = (Vec::new(), Vec::new());
    for draft in &vnet.subnets {
        prefixes.extend(&draft.subnet.prefixes);
        owners.extend(draft.prefix_nodes.iter().map(|node| (draft, *node)));
    }
    for (a, b) in overlaps(&prefixes) {
        let (a, b) = (a.min(b), a.max(b));
        if let (Some(first), Some((other, at)), Some((later, node))) =
            (prefixes.get(a), owners.get(a), owners.get(b))
        {
            let place = place(&at.mark, &node.mark);
            let (later, other) = (&later.subnet.name, &other.subnet.name);
            let message = format!(
                "subnet '{later}' overlaps {first} of subnet '{other}' at \
                 {place}; subnets must not overlap"
            );
            report.fault(node, message);
        }
    }
}

fn read_peering<'a>(
    cx: &mut Cx<'_, 'a>,
    vnet: &Fields,
    node: &'a Node,
    name: &'a str,
) -> Option<PeeringDraft<'a>> {
    let fields = Fields::azure(node, "peering", name);
    let known = [
        "remoteVirtualNetwork",
        "peeringState",
        "allowVirtualNetworkAccess",
        "allowForwardedTraffic",
        "allowGatewayTransit",
        "useRemoteGateways",
    ];
    fields.misspelt(cx.report, &known);
    let report = &mut *cx.report;
    let states = [("Connected", true), ("Initiated", false), ("Disconnected", false)];
    let state = fields.word(report, "peeringState", &states);
    let mut peering = Peering {
        name: name.to_string(),
        remote: None,
        connected: state.ok().flatten().unwrap_or(true),
        allow_access: fields.flag(report, "allowVirtualNetworkAccess", true).unwrap_or(true),
        allow_forwarded: fields.flag(report, "allowForwardedTraffic", false).unwrap_or(false),
        allow_gateway_transit: fields.flag(report, "allowGatewayTransit", false).unwrap_or(false),
        use_remote_gateways: fields.flag(report, "useRemoteGateways", false).unwrap_or(false),
    };
    let Some(remote_node) = fields.get("remoteVirtualNetwork") else {
        fields.lacks(report, "remoteVirtualNetwork", "name the other virtual network");
        return None;
    };
    let what = || fields.of("remoteVirtualNetwork");
    let found = cx.everyone.look(report, remote_node, Slot::Vnet, what);
    if let Ok((index, reference)) = found {
        peering.remote = index;
        if index.is_none() {
            let message = format!(
                "{fields} of {vnet} carries nothing: virtual network '{}' is not in the configuration",
                reference.name
            );
            report.warn(remote_node, message);
        }
    }
    Some(PeeringDraft { node, remote_node, peering })
}
