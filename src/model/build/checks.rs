//! What must hold between the resources of a customer, and between customers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::overlap::{between, overlaps};
use super::ports::Ports;
use super::report::{Report, place};
use super::vnets::{PeeringDraft, VnetDraft};
use super::{CustomerDraft, circuits, gateways, learned, nics, tunnels};
use crate::model::node::Node;
use crate::model::{Connection, ConnectionTo, Encapsulation, GatewayKind, TunnelTo};

/// Every check within one customer.
pub fn within(report: &mut Report, customer: &CustomerDraft, ports: &Ports) {
    let vnets = &customer.vnets;
    let mut told = HashSet::new();
    for index in 0..vnets.len() {
        check_peerings(report, customer, index, &mut told);
    }
    for index in 0..vnets.len() {
        check_peers(report, customer, index, &mut told);
    }
    check_circuits(report, customer, &mut told);
    circuits::check_link_prefixes(report, &customer.circuits, vnets);
    gateways::check_gateways(report, &customer.gateways, vnets);
    gateways::check_connections(report, &customer.connections, &customer.gateways, &customer.circuits);
    nics::check(report, &customer.nics, vnets, &customer.asgs);
    check_asg_use(report, customer);
    tunnels::check_tunnels(report, customer);
    tunnels::check_hosts(report, customer, ports);
    check_forwarding(report, customer);
    check_macs(report, customer);
    learned::check(report, customer);
    warn_of_gateway_routes(report, customer);
}

/// The other side of a peering, if both VNets name each other and neither says that it is not connected.
fn other_side<'c, 'a>(
    customer: &'c CustomerDraft<'a>,
    vnet: usize,
    peering: &PeeringDraft,
) -> Option<&'c PeeringDraft<'a>> {
    let remote = customer.vnets.get(peering.peering.remote.filter(|r| *r != vnet)?)?;
    let other = remote.peerings.iter().find(|p| p.peering.remote == Some(vnet))?;
    (peering.peering.connected && other.peering.connected).then_some(other)
}

fn name(customer: &CustomerDraft, vnet: usize) -> String {
    customer.vnets.get(vnet).map_or_else(String::new, |v| v.name.to_string())
}

/// The peerings of one VNet, each for itself.
fn check_peerings(
    report: &mut Report,
    customer: &CustomerDraft,
    index: usize,
    told: &mut HashSet<(usize, usize)>,
) {
    let Some(vnet) = customer.vnets.get(index) else { return };
    let mut remotes: HashMap<usize, &Node> = HashMap::new();
    let mut uses_remote: Option<&Node> = None;
    for draft in &vnet.peerings {
        let flag = draft.node.get_ci("useRemoteGateways").unwrap_or(draft.node);
        if draft.peering.use_remote_gateways {
            check_remote_gateways(report, customer, index, uses_remote, flag);
            uses_remote = uses_remote.or(Some(flag));
        }
        let Some(remote) = draft.peering.remote else { continue };
        let at = draft.remote_node;
        if remote == index {
            report.fault(at, format!("is virtual network '{}' itself; a peering names another", vnet.name));
            continue;
        }
        if let Some(first) = remotes.insert(remote, at) {
            let place = place(&first.mark, &at.mark);
            let message = format!(
                "has a peering with virtual network '{}' at {place} already; one is enough",
                vnet.name
            );
            report.fault(at, message);
            continue;
        }
        let Some(other) = other_side(customer, index, draft) else { continue };
        if draft.peering.use_remote_gateways && !other.peering.allow_gateway_transit {
            let remote = name(customer, remote);
            let message = format!(
                "useRemoteGateways needs allowGatewayTransit: true in peering \
                 '{}' of virtual network '{remote}'",
                other.peering.name
            );
            report.fault(flag, message);
        }
        check_overlap(report, customer, (index, remote), at, told, "are peered");
    }
}

fn check_remote_gateways(
    report: &mut Report,
    customer: &CustomerDraft,
    vnet: usize,
    first: Option<&Node>,
    flag: &Node,
) {
    if let Some(first) = first {
        let place = place(&first.mark, &flag.mark);
        report.fault(
            flag,
            format!("another peering of this virtual network uses remote gateways, at {place}; only one may"),
        );
    }
    if let Some(gateway) = customer.gateways.iter().find(|g| g.vnet == Ok(vnet)) {
        let gateway = gateway.node.get_ci("name").and_then(Node::as_text).unwrap_or_default();
        let message = format!(
            "this virtual network has the gateway '{gateway}' of its own, so it \
             cannot use remote gateways"
        );
        report.fault(flag, message);
    }
}

/// Faults two VNets that share addresses, once for each pair.
fn check_overlap(
    report: &mut Report,
    customer: &CustomerDraft,
    (a, b): (usize, usize),
    at: &Node,
    told: &mut HashSet<(usize, usize)>,
    because: &str,
) {
    let (Some(left), Some(right)) = (customer.vnets.get(a), customer.vnets.get(b)) else { return };
    let Some((x, y)) = between(&left.space(), &right.space()) else { return };
    if told.insert((a.min(b), a.max(b))) {
        let (left, right) = (left.name, right.name);
        let message = format!(
            "virtual networks '{left}' ({x}) and '{right}' ({y}) overlap, but \
             {because}; their addresses must differ"
        );
        report.fault(at, message);
    }
}

/// The VNets that one VNet is peered with, and where it says so.
fn check_peers(
    report: &mut Report,
    customer: &CustomerDraft,
    index: usize,
    told: &mut HashSet<(usize, usize)>,
) {
    let Some(vnet) = customer.vnets.get(index) else { return };
    let mut prefixes = Vec::new();
    let mut owners = Vec::new();
    for draft in &vnet.peerings {
        let Some(remote) = draft.peering.remote.filter(|_| other_side(customer, index, draft).is_some())
        else {
            continue;
        };
        for (range, _) in customer.vnets.get(remote).map_or(&[][..], |v| &v.ranges) {
            prefixes.push(*range);
            owners.push((remote, draft.remote_node));
        }
    }
    for (a, b) in overlaps(&prefixes) {
        if let (Some(&(first, _)), Some(&(later, at))) = (owners.get(a.min(b)), owners.get(a.max(b)))
            && first != later
        {
            let because = format!("both are peered with '{}'", vnet.name);
            check_overlap(report, customer, (first, later), at, told, &because);
        }
    }
}

/// The VNets that one circuit joins: those of the gateways connected to it, and those that use these gateways.
fn check_circuits(report: &mut Report, customer: &CustomerDraft, told: &mut HashSet<(usize, usize)>) {
    let mut joined: BTreeMap<usize, Vec<(usize, &Node)>> = BTreeMap::new();
    for draft in &customer.connections {
        let Ok(Connection { gateway, to: ConnectionTo::Circuit { circuit, .. }, .. }) = draft.connection
        else {
            continue;
        };
        let Some(Ok(vnet)) = customer.gateways.get(gateway).map(|g| g.vnet) else { continue };
        let at = draft.node.get_ci("peer").unwrap_or(draft.node);
        let list = joined.entry(circuit).or_default();
        list.push((vnet, at));
        list.extend(users(customer, vnet).map(|user| (user, at)));
    }
    for (circuit, members) in joined {
        let mut prefixes = Vec::new();
        let mut owners = Vec::new();
        let mut seen = BTreeSet::new();
        for (vnet, at) in members.into_iter().filter(|(vnet, _)| seen.insert(*vnet)) {
            for (range, _) in customer.vnets.get(vnet).map_or(&[][..], |v| &v.ranges) {
                prefixes.push(*range);
                owners.push((vnet, at));
            }
        }
        let circuit = customer.circuits.get(circuit).map_or("", |c| &c.circuit.name);
        for (a, b) in overlaps(&prefixes) {
            if let (Some(&(first, _)), Some(&(later, at))) = (owners.get(a.min(b)), owners.get(a.max(b)))
                && first != later
            {
                let because = format!("both are on circuit '{circuit}'");
                check_overlap(report, customer, (first, later), at, told, &because);
            }
        }
    }
}

/// Prefixes at most that are advertised on a connection, IPv4 and IPv6 (semantics 4.4).
const MOST_ADVERTISED: [usize; 2] = [1000, 100];

/// A connection to a circuit that would have too many prefixes to advertise is down.
pub fn close_connections(report: &mut Report, customer: &mut CustomerDraft) {
    let mut down = Vec::new();
    for (index, draft) in customer.connections.iter().enumerate() {
        let Ok(Connection { gateway, to: ConnectionTo::Circuit { .. }, .. }) = draft.connection else {
            continue;
        };
        let Some(Ok(home)) = customer.gateways.get(gateway).map(|g| g.vnet) else { continue };
        let members: BTreeSet<usize> = users(customer, home).chain([home]).collect();
        let ranges = members.iter().filter_map(|v| customer.vnets.get(*v)).flat_map(|v| &v.ranges);
        let all: BTreeSet<_> = ranges.map(|(prefix, _)| *prefix).collect();
        let v4 = all.iter().filter(|p| p.is_ipv4()).count();
        for ((count, most), family) in
            [v4, all.len() - v4].into_iter().zip(MOST_ADVERTISED).zip(["IPv4", "IPv6"])
        {
            if count > most {
                let why = format!(
                    "its virtual networks have {count} {family} prefixes, and at most {most} are advertised on a \
                     connection"
                );
                down.push((index, why));
            }
        }
    }
    for (index, why) in down {
        let Some(draft) = customer.connections.get_mut(index) else { continue };
        let at = draft.node.get_ci("name").unwrap_or(draft.node);
        report.warn(at, format!("is down and carries nothing: {why}"));
        if let Ok(connection) = &mut draft.connection {
            connection.down.get_or_insert(why);
        }
    }
}

/// The peers that use the gateways of this VNet.
fn users<'c>(customer: &'c CustomerDraft, vnet: usize) -> impl Iterator<Item = usize> + 'c {
    let peerings = customer.vnets.get(vnet).map_or(&[][..], |v| &v.peerings);
    peerings.iter().filter_map(move |draft| {
        let other = other_side(customer, vnet, draft)?;
        let access = draft.peering.allow_access && other.peering.allow_access;
        let transit = draft.peering.allow_gateway_transit && other.peering.use_remote_gateways;
        draft.peering.remote.filter(|_| access && transit)
    })
}

/// A group with rules for application security groups is in use in one VNet, and the groups of a rule live in one.
fn check_asg_use(report: &mut Report, customer: &CustomerDraft) {
    let mut used: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); customer.nsgs.len()];
    let subnets = customer.vnets.iter().enumerate();
    let by_subnet =
        subnets.flat_map(|(v, vnet)| vnet.subnets.iter().filter_map(move |s| Some((s.subnet.nsg?, v))));
    let by_nic = customer.nics.iter().filter_map(|n| Some((n.nic.nsg?, n.nic.vnet)));
    for (nsg, vnet) in by_subnet.chain(by_nic) {
        if let Some(vnets) = used.get_mut(nsg) {
            vnets.insert(vnet);
        }
    }
    let members = customer.nics.iter().flat_map(|n| n.nic.asgs.iter().map(|asg| (*asg, n.nic.vnet)));
    let homes: HashMap<usize, usize> = members.collect();
    for (draft, vnets) in customer.nsgs.iter().zip(&used) {
        if let (Some(at), true) = (draft.asg_node, vnets.len() > 1) {
            let names: Vec<String> = vnets.iter().map(|v| name(customer, *v)).collect();
            let message = format!(
                "network security group '{}' names application security groups, but is in use in \
                 virtual networks {}; give \
                 each its own group",
                draft.nsg.name,
                names.join(" and ")
            );
            report.fault(at, message);
        }
        for (rule, node) in draft.nsg.rules.iter().zip(&draft.rule_nodes) {
            let asgs = rule.source.asgs.iter().chain(&rule.destination.asgs);
            let vnets: BTreeSet<usize> = asgs.filter_map(|asg| homes.get(asg).copied()).collect();
            if vnets.len() > 1 {
                let names: Vec<String> = vnets.iter().map(|v| name(customer, *v)).collect();
                let message = format!(
                    "this rule names application security groups of virtual \
                     networks {}; all must be of one",
                    names.join(" and ")
                );
                report.fault(node, message);
            }
        }
    }
}

fn is_nvgre(customer: &CustomerDraft, vnet: usize) -> bool {
    let tunnel = customer.tunnels.iter().find(|t| t.to == Ok(TunnelTo::Vnet(vnet)));
    // Where the encapsulation could not be read, nothing can be said.
    tunnel.is_some_and(|t| t.encapsulation != Ok(Encapsulation::Gre))
}

/// What a host forwards must be known for one network interface; nvgre tells them apart by MAC address.
fn check_forwarding(report: &mut Report, customer: &CustomerDraft) {
    let mut seen: HashMap<(usize, IpAddr), (&str, &Node)> = HashMap::new();
    for draft in customer.nics.iter().filter(|n| n.nic.ip_forwarding && !is_nvgre(customer, n.nic.vnet)) {
        let vnet = draft.nic.vnet;
        let hosts: BTreeSet<IpAddr> =
            draft.nic.addresses.iter().filter_map(|a| tunnels::host_of(&customer.hosts, vnet, *a)).collect();
        let at = draft.node.get_ci("enableIPForwarding").unwrap_or(draft.node);
        for host in hosts {
            let Some((other, first)) = seen.insert((vnet, host), (&draft.nic.name, at)) else { continue };
            let place = place(&first.mark, &at.mark);
            let message = format!(
                "network interfaces '{other}' (at {place}) and '{}' both have IP forwarding on host \
                 {host}; what they forward \
                 could not be told apart (use an nvgre tunnel, or two hosts)",
                draft.nic.name
            );
            report.fault(at, message);
        }
    }
}

/// Over nvgre a network interface is known by its MAC address.
fn check_macs(report: &mut Report, customer: &CustomerDraft) {
    let mut seen: HashMap<(usize, [u8; 6]), (&str, &Node)> = HashMap::new();
    for draft in customer.nics.iter().filter(|n| is_nvgre(customer, n.nic.vnet)) {
        let (Some(mac), Some(at)) = (draft.nic.mac, draft.mac_node) else { continue };
        if let Some((other, first)) = seen.insert((draft.nic.vnet, mac), (&draft.nic.name, at)) {
            let place = place(&first.mark, &at.mark);
            let message = format!(
                "is the MAC address of network interface '{other}' at {place} \
                 already; over nvgre each needs its own"
            );
            report.fault(at, message);
        }
    }
}

/// Azure allows routes to the VPN gateway where there is one and no ExpressRoute gateway; elsewhere they lead nowhere.
fn warn_of_gateway_routes(report: &mut Report, customer: &CustomerDraft) {
    for (index, vnet) in customer.vnets.iter().enumerate() {
        let remote =
            vnet.peerings.iter().find(|p| p.peering.use_remote_gateways).and_then(|p| p.peering.remote);
        let kinds: Vec<GatewayKind> = customer
            .gateways
            .iter()
            .filter(|g| g.vnet == Ok(index) || remote.is_some_and(|r| g.vnet == Ok(r)))
            .filter_map(|g| g.kind.ok())
            .collect();
        warn_of_table(report, customer, vnet, &kinds);
    }
}

fn warn_of_table(report: &mut Report, customer: &CustomerDraft, vnet: &VnetDraft, kinds: &[GatewayKind]) {
    let (vpn, express_route) =
        (kinds.contains(&GatewayKind::Vpn), kinds.contains(&GatewayKind::ExpressRoute));
    let why = match (vpn, express_route) {
        (true, false) => return,
        (true, true) => {
            "has an ExpressRoute gateway beside its VPN gateway, where Azure does not allow this route"
        }
        (false, _) => "has no VPN gateway, so this route leads nowhere",
    };
    let tables: BTreeSet<usize> = vnet.subnets.iter().filter_map(|s| s.subnet.route_table).collect();
    for table in tables.into_iter().filter_map(|t| customer.route_tables.get(t)) {
        if let Some(node) = table.gateway_node {
            report.warn(node, format!("virtual network '{}' uses this table and {why}", vnet.name));
        }
    }
}

/// Plain packets find their VNet by address alone.
pub fn warn_of_overlaps(report: &mut Report, customers: &[CustomerDraft], ports: &Ports) {
    if !ports.any_plain() {
        return;
    }
    let mut prefixes = Vec::new();
    let mut owners = Vec::new();
    for (c, customer) in customers.iter().enumerate() {
        for (v, vnet) in customer.vnets.iter().enumerate() {
            for (range, node) in &vnet.ranges {
                prefixes.push(*range);
                owners.push((c, v, *node));
            }
        }
    }
    let mut told = HashSet::new();
    for (a, b) in overlaps(&prefixes) {
        let (Some(&left), Some(&right)) = (owners.get(a), owners.get(b)) else { continue };
        if (left.0, left.1) == (right.0, right.1) {
            continue;
        }
        for (one, other) in [(left, right), (right, left)] {
            let (Some(customer), Some(owner)) = (customers.get(one.0), customers.get(other.0)) else {
                continue;
            };
            let tunnelled = customer.tunnels.iter().any(|t| t.to == Ok(TunnelTo::Internet(one.1)));
            if tunnelled || !told.insert((one.0, one.1)) {
                continue;
            }
            let (vnet, with) = (name(customer, one.1), name(owner, other.1));
            let whose =
                if one.0 == other.0 { String::new() } else { format!(" of customer '{}'", owner.name) };
            let message = format!(
                "virtual network '{vnet}' has no Internet tunnel and overlaps virtual network \
                 '{with}'{whose}; plain packets \
                 to addresses of both are dropped"
            );
            report.warn(one.2, message);
        }
    }
}
