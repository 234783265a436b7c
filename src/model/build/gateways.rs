//! Virtual network gateways, the sites behind them, and their connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Cx;
use super::circuits::CircuitDraft;
use super::fields::Fields;
use super::names::Slot;
use super::nics::find_subnet;
use super::report::{Read, Report, Reported, place};
use super::sources::Item;
use super::vnets::VnetDraft;
use crate::model::node::Node;
use crate::model::{Connection, ConnectionTo, GATEWAY_SUBNET, Gateway, GatewayKind, LocalNetworkGateway};
use crate::types::Prefix;

/// The largest `routingWeight` (semantics 4.5).
const MAX_ROUTING_WEIGHT: u64 = 32_000;

const GATEWAY_KINDS: [(&str, GatewayKind); 2] =
    [("ExpressRoute", GatewayKind::ExpressRoute), ("Vpn", GatewayKind::Vpn)];

/// `connectionType` as Azure knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectionKind {
    Ipsec,
    ExpressRoute,
    Vnet2Vnet,
    VpnClient,
}

const CONNECTION_KINDS: [(&str, ConnectionKind); 4] = [
    ("IPsec", ConnectionKind::Ipsec),
    ("ExpressRoute", ConnectionKind::ExpressRoute),
    ("Vnet2Vnet", ConnectionKind::Vnet2Vnet),
    ("VPNClient", ConnectionKind::VpnClient),
];

/// A gateway as far as it could be read; its place in the list is its index.
pub struct GatewayDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// Its kind.
    pub kind: Read<GatewayKind>,
    /// Its virtual network.
    pub vnet: Read<usize>,
    /// The gateway of the model, if it is whole.
    pub gateway: Read<Gateway>,
}

/// A local network gateway as far as it could be read.
pub struct SiteDraft<'a> {
    /// The site.
    pub site: LocalNetworkGateway,
    /// Where each of its prefixes stands.
    pub prefix_nodes: Vec<&'a Node>,
}

/// A connection as far as it could be read; its place in the list is its index.
pub struct ConnectionDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The connection.
    pub connection: Read<Connection>,
}

/// Reads one gateway.
pub fn read_gateway<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item, vnets: &[VnetDraft<'a>]) -> GatewayDraft<'a> {
    let fields = Fields::azure(&item.body, "virtual network gateway", &item.name);
    let kind = match fields.word(cx.report, "gatewayType", &GATEWAY_KINDS) {
        Ok(None) => Err(fields.lacks(cx.report, "gatewayType", "ExpressRoute or Vpn is needed")),
        Ok(Some(kind)) => Ok(kind),
        Err(reported) => Err(reported),
    };
    let vnet = read_gateway_vnet(cx, &fields, vnets);
    let default_site = cx.everyone.optional(cx.report, &fields, "gatewayDefaultSite", Slot::Site);
    if let (Ok(GatewayKind::ExpressRoute), Some(node)) = (kind, fields.get("gatewayDefaultSite")) {
        cx.report.fault(
            node,
            format!("{fields} is of type ExpressRoute; only a Vpn gateway has a gatewayDefaultSite"),
        );
    }
    if let Some(vnet) = vnet.ok().and_then(|v| vnets.get(v))
        && !vnet.subnets.iter().any(|s| s.subnet.name == GATEWAY_SUBNET)
    {
        let message = format!("{fields} is in virtual network '{}', which has no GatewaySubnet", vnet.name);
        cx.report.warn(fields.get("virtualNetwork").unwrap_or(fields.node), message);
    }
    let gateway = match (kind, vnet, default_site) {
        (Ok(kind), Ok(vnet), Ok(default_site)) => {
            Ok(Gateway { name: item.name.clone(), kind, vnet, default_site })
        }
        _ => Err(Reported),
    };
    GatewayDraft { node: &item.body, kind, vnet, gateway }
}

/// The virtual network of a gateway: said as such, or by the subnet of its IP configurations.
fn read_gateway_vnet<'a>(cx: &mut Cx<'_, 'a>, fields: &Fields<'a>, vnets: &[VnetDraft<'a>]) -> Read<usize> {
    let mut vnet = cx.everyone.optional(cx.report, fields, "virtualNetwork", Slot::Vnet)?;
    for node in fields.list(cx.report, "ipConfigurations")? {
        let Some(at) = node.get_ci("subnet").filter(|n| !n.is_null()) else { continue };
        let what = || fields.of("subnet");
        let (named, subnet) = find_subnet(cx.report, &cx.everyone, at, vnets, what)?;
        let subnet = vnets.get(named).and_then(|v| v.subnets.get(subnet));
        if subnet.is_some_and(|s| s.subnet.name != GATEWAY_SUBNET) {
            return Err(cx.report.fault(at, format!("{} must be GatewaySubnet", what())));
        }
        if vnet.is_some_and(|v| v != named) {
            return Err(cx.report.fault(at, format!("{fields} must be in one virtual network")));
        }
        vnet = Some(named);
    }
    let right = "name its virtual network, or give ipConfigurations with its GatewaySubnet";
    vnet.ok_or_else(|| fields.lacks(cx.report, "virtualNetwork", right))
}

/// A virtual network has one gateway of each kind.
pub fn check_gateways(report: &mut Report, gateways: &[GatewayDraft], vnets: &[VnetDraft]) {
    let mut seen: HashMap<(usize, GatewayKind), &Node> = HashMap::new();
    for draft in gateways {
        let (Ok(vnet), Ok(kind)) = (draft.vnet, draft.kind) else { continue };
        if let Some(first) = seen.insert((vnet, kind), draft.node) {
            let name = vnets.get(vnet).map_or("", |v| v.name);
            let place = place(&first.mark, &draft.node.mark);
            let kind = if kind == GatewayKind::Vpn { "Vpn" } else { "ExpressRoute" };
            let message = format!(
                "is a second {kind} gateway of virtual network '{name}', after the one at {place}; \
                 Azure allows one of each type"
            );
            report.fault(draft.node, message);
        }
    }
}

/// Reads one local network gateway.
pub fn read_site<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> SiteDraft<'a> {
    let fields = Fields::azure(&item.body, "local network gateway", &item.name);
    let space = fields.map(cx.report, "localNetworkAddressSpace").ok().flatten();
    let (prefixes, _) =
        space.map_or_else(|| (Vec::new(), true), |s| s.prefixes(cx.report, "addressPrefixes"));
    let mut seen: HashMap<Prefix, &Node> = HashMap::new();
    for &(prefix, node) in &prefixes {
        if let Some(first) = seen.insert(prefix, node) {
            let place = place(&first.mark, &node.mark);
            cx.report.fault(node, format!("is a prefix of {fields} at {place} already; once is enough"));
        }
    }
    SiteDraft {
        site: LocalNetworkGateway {
            name: item.name.clone(),
            prefixes: prefixes.iter().map(|(p, _)| *p).collect(),
        },
        prefix_nodes: prefixes.iter().map(|(_, n)| *n).collect(),
    }
}

/// Reads one connection.
pub fn read_connection<'a>(
    cx: &mut Cx<'_, 'a>,
    item: &'a Item,
    gateways: &[GatewayDraft<'a>],
) -> ConnectionDraft<'a> {
    let fields = Fields::azure(&item.body, "connection", &item.name);
    ConnectionDraft { node: &item.body, connection: read_connection_body(cx, &fields, item, gateways) }
}

fn read_connection_body<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    item: &'a Item,
    gateways: &[GatewayDraft<'a>],
) -> Read<Connection> {
    let weight = fields.number(cx.report, "routingWeight", 0..=MAX_ROUTING_WEIGHT);
    let kind = fields.word(cx.report, "connectionType", &CONNECTION_KINDS)?;
    let Some((kind, at)) = kind.zip(fields.get("connectionType")) else {
        return Err(fields.lacks(cx.report, "connectionType", "ExpressRoute or IPsec is needed"));
    };
    let wanted = match kind {
        ConnectionKind::Ipsec => GatewayKind::Vpn,
        ConnectionKind::ExpressRoute => GatewayKind::ExpressRoute,
        ConnectionKind::Vnet2Vnet => {
            let message = format!(
                "{fields} joins two virtual networks by VPN, which Clearway does not carry; use a peering"
            );
            return Err(cx.report.fault(at, message));
        }
        ConnectionKind::VpnClient => {
            return Err(cx
                .report
                .fault(at, format!("connectionType of {fields} must be ExpressRoute or IPsec")));
        }
    };
    let gateway = cx.everyone.required(cx.report, fields, "virtualNetworkGateway1", Slot::Gateway);
    if let Some(other) =
        gateway.ok().and_then(|g| gateways.get(g)).filter(|g| g.kind.is_ok_and(|k| k != wanted))
    {
        let node = fields.get("virtualNetworkGateway1").unwrap_or(other.node);
        let (needed, has) =
            if wanted == GatewayKind::Vpn { ("Vpn", "ExpressRoute") } else { ("ExpressRoute", "Vpn") };
        cx.report
            .fault(node, format!("{fields} needs a gateway of type {needed}; this one is of type {has}"));
    }
    let to = if kind == ConnectionKind::ExpressRoute {
        let circuit = cx.everyone.required(cx.report, fields, "peer", Slot::Circuit);
        circuit.map(|circuit| ConnectionTo::Circuit { circuit, routing_weight: weight_of(weight) })
    } else {
        let site = cx.everyone.optional(cx.report, fields, "localNetworkGateway2", Slot::Site);
        site.map(|local_network_gateway| ConnectionTo::Site {
            local_network_gateway,
            routing_weight: weight_of(weight),
        })
    };
    weight?;
    Ok(Connection { name: item.name.clone(), gateway: gateway?, to: to?, down: None })
}

fn weight_of(weight: Read<Option<u64>>) -> u32 {
    weight.ok().flatten().and_then(|w| u32::try_from(w).ok()).unwrap_or(0)
}

/// A gateway joins a circuit once, and a circuit only so many virtual networks.
pub fn check_connections(
    report: &mut Report,
    connections: &[ConnectionDraft],
    gateways: &[GatewayDraft],
    circuits: &[CircuitDraft],
) {
    let mut seen: HashMap<(usize, usize), &Node> = HashMap::new();
    let mut joined: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for draft in connections {
        let Ok(Connection { gateway, to: ConnectionTo::Circuit { circuit, .. }, .. }) = draft.connection
        else {
            continue;
        };
        let at = draft.node.get_ci("peer").unwrap_or(draft.node);
        if let Some(first) = seen.insert((gateway, circuit), draft.node) {
            let place = place(&first.mark, &at.mark);
            report.fault(
                at,
                format!("the gateway of this connection is connected to this circuit at {place} already"),
            );
        }
        let Some((Ok(vnet), circuit_draft)) =
            gateways.get(gateway).map(|g| g.vnet).zip(circuits.get(circuit))
        else {
            continue;
        };
        let vnets = joined.entry(circuit).or_default();
        if vnets.insert(vnet) && vnets.len() == circuit_draft.link_limit() + 1 {
            let message = format!(
                "circuit '{}' allows {} virtual networks at its tier and bandwidth; this is one more",
                circuit_draft.circuit.name,
                circuit_draft.link_limit()
            );
            report.fault(at, message);
        }
    }
}
