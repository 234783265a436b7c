//! Tunnels and hosts: what the GRE packets of the underlay stand for.

use std::collections::HashMap;
use std::net::IpAddr;

use super::circuits::{read_link_name, read_peering_name};
use super::fields::Fields;
use super::names::Slot;
use super::ports::{Ports, unicast};
use super::report::{Read, Report, Reported, place};
use super::{CustomerDraft, Cx};
use crate::model::node::{Kind, Node};
use crate::model::{Connection, ConnectionTo, Encapsulation, Host, Role, Sequence, Tunnel, TunnelTo};
use crate::types::Prefix;

/// Virtual subnets that RFC 7637 leaves for use.
const VSIDS: std::ops::RangeInclusive<u64> = 0x1000..=0xff_fffe;

/// What a tunnel can stand for; a tunnel has exactly one of these fields.
const TARGETS: [&str; 4] = ["vnet", "internet", "circuit", "connection"];

const TUNNEL_FIELDS: [&str; 12] = [
    "vnet",
    "internet",
    "circuit",
    "connection",
    "peering",
    "link",
    "port",
    "remote",
    "key",
    "encapsulation",
    "enabled",
    "sequence",
];

/// A tunnel as far as it could be read.
pub struct TunnelDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// What it stands for.
    pub to: Read<TunnelTo>,
    /// Its port.
    pub port: Read<usize>,
    /// How it carries packets.
    pub encapsulation: Read<Encapsulation>,
    key: Read<u32>,
    remote: Read<Option<IpAddr>>,
    /// The tunnel of the model, if it is whole.
    pub tunnel: Read<Tunnel>,
}

/// A host as far as it could be read.
pub struct HostDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// Its address.
    pub address: Read<IpAddr>,
    /// Its virtual network.
    pub vnet: Read<usize>,
    /// Its prefixes, each with where it stands.
    pub prefixes: Vec<(Prefix, &'a Node)>,
}

impl HostDraft<'_> {
    /// The host of the model; only if there was no fault.
    pub fn into_model(self) -> Option<Host> {
        let prefixes = self.prefixes.into_iter().map(|(p, _)| p).collect();
        Some(Host { address: self.address.ok()?, vnet: self.vnet.ok()?, prefixes })
    }
}

/// Reads one tunnel.
pub fn read_tunnel<'a>(
    cx: &mut Cx<'_, 'a>,
    node: &'a Node,
    ports: &Ports<'a>,
    customer: &CustomerDraft<'a>,
) -> Read<TunnelDraft<'a>> {
    let fields = Fields::own(cx.report, node, "tunnel", "", &TUNNEL_FIELDS)?;
    let to = read_target(cx, &fields, customer);
    let port = ports.find(cx.report, &fields);
    let (fits, port) = match (target_field(&fields), port) {
        (Some(target), Ok(port)) => (check_role(cx.report, &fields, target, ports, port), Ok(port)),
        (_, port) => (true, port),
    };
    let encapsulations = [("gre", Encapsulation::Gre), ("nvgre", Encapsulation::Nvgre)];
    let encapsulation = fields.word(cx.report, "encapsulation", &encapsulations);
    let encapsulation = encapsulation.map(|e| e.unwrap_or(Encapsulation::Gre));
    let key = read_key(cx.report, &fields, encapsulation);
    let remote = read_remote(cx.report, &fields, ports, port.ok().filter(|_| fits));
    let enabled = fields.flag(cx.report, "enabled", true);
    let sequence = read_sequence(cx.report, &fields, encapsulation);
    let whole = || {
        Ok(Tunnel {
            to: to?,
            port: port?,
            remote: remote?,
            key: key?,
            encapsulation: encapsulation?,
            enabled: enabled? && is_up(customer, to?),
            sequence: sequence?,
        })
    };
    let tunnel = whole();
    Ok(TunnelDraft {
        node,
        to,
        port: port.and_then(|p| if fits { Ok(p) } else { Err(Reported) }),
        encapsulation,
        key,
        remote,
        tunnel,
    })
}

/// Of the fields that say what the tunnel stands for, the one that is there.
fn target_field(fields: &Fields) -> Option<&'static str> {
    let mut set = TARGETS.into_iter().filter(|t| fields.get(t).is_some());
    set.next().filter(|_| set.next().is_none())
}

fn read_target<'a>(cx: &mut Cx<'_, 'a>, fields: &Fields<'a>, customer: &CustomerDraft<'a>) -> Read<TunnelTo> {
    let Some(target) = target_field(fields) else {
        if fields.misspells(&TARGETS) {
            return Err(Reported);
        }
        let set: Vec<&str> = TARGETS.into_iter().filter(|t| fields.get(t).is_some()).collect();
        let message = if set.is_empty() {
            format!("this tunnel stands for nothing; it needs one of {}", TARGETS.join(", "))
        } else {
            format!("this tunnel has {}; it must stand for one thing", set.join(" and "))
        };
        return Err(cx.report.lacks(fields.node, message));
    };
    for key in ["peering", "link"] {
        if let Some(node) = fields.get(key).filter(|_| target != "circuit") {
            cx.report.fault(node, format!("{key} is of circuit tunnels only; {fields} is a {target} tunnel"));
        }
    }
    let all = cx.everyone;
    match target {
        "vnet" => all.required(cx.report, fields, "vnet", Slot::Vnet).map(TunnelTo::Vnet),
        "internet" => all.required(cx.report, fields, "internet", Slot::Vnet).map(TunnelTo::Internet),
        "circuit" => read_link_target(cx, fields, customer),
        _ => {
            let connection = all.required(cx.report, fields, "connection", Slot::Connection)?;
            check_site(cx.report, fields, customer, connection)?;
            Ok(TunnelTo::Connection(connection))
        }
    }
}

fn read_link_target<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    customer: &CustomerDraft<'a>,
) -> Read<TunnelTo> {
    let link = match read_link_name(cx.report, fields) {
        Ok(None) => Err(fields.lacks(cx.report, "link", "primary or secondary is needed")),
        Ok(Some(link)) => Ok(link),
        Err(reported) => Err(reported),
    };
    let circuit = cx.everyone.required(cx.report, fields, "circuit", Slot::Circuit)?;
    let draft = customer.circuits.get(circuit).ok_or(Reported)?;
    let peering = read_peering_name(cx.report, fields, draft)?;
    Ok(TunnelTo::Link { circuit, peering, link: link? })
}

/// Connections to circuits have the circuit's tunnels; only those to sites have one of their own.
pub fn check_site(
    report: &mut Report,
    fields: &Fields,
    customer: &CustomerDraft,
    connection: usize,
) -> Read<()> {
    let draft = customer.connections.get(connection).ok_or(Reported)?;
    match (&draft.connection, fields.get("connection")) {
        (Ok(Connection { to: ConnectionTo::Circuit { .. }, .. }), Some(node)) => {
            let message = "is of type ExpressRoute; an IPsec connection is wanted here (for a circuit \
                           write circuit:, peering: and link:)";
            Err(report.fault(node, message))
        }
        _ => Ok(()),
    }
}

fn check_role(report: &mut Report, fields: &Fields, target: &str, ports: &Ports, port: usize) -> bool {
    let Ok(role) = ports.role(port) else { return true };
    let (good, right) = match target {
        "vnet" => (role == Role::Fabric, "fabric"),
        "internet" => (role == Role::Internet, "internet"),
        "circuit" => (role == Role::Edge, "edge"),
        _ => (matches!(role, Role::Internet | Role::Edge), "internet or edge"),
    };
    if let (false, Some(node)) = (good, fields.get("port")) {
        let message = format!(
            "{fields} is a {target} tunnel and needs a port with the role {right}; this one has the \
             role {}",
            role_name(role)
        );
        report.fault(node, message);
    }
    good
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Fabric => "fabric",
        Role::Edge => "edge",
        Role::Internet => "internet",
        Role::Services => "services",
    }
}

/// A number, or a text in decimal or 0x form.
fn read_key(report: &mut Report, fields: &Fields, encapsulation: Read<Encapsulation>) -> Read<u32> {
    let Some(node) = fields.get("key") else {
        return Err(fields.lacks(report, "key", "give the GRE key, such as 0xa01"));
    };
    let text = node.as_text().unwrap_or_default();
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let nvgre = encapsulation == Ok(Encapsulation::Nvgre);
    match value.and_then(|v| u32::try_from(v).ok()) {
        Some(key) if !nvgre || VSIDS.contains(&u64::from(key)) => Ok(key),
        Some(_) => {
            Err(report
                .fault(node, "the key of an nvgre tunnel is its virtual subnet, from 0x1000 to 0xfffffe"))
        }
        None => Err(report.fault(node, "a key must be a number from 0 to 0xffffffff, in decimal or 0x form")),
    }
}

/// The other end: of a VNet its hosts, of everything else one address of the port's family.
fn read_remote(
    report: &mut Report,
    fields: &Fields,
    ports: &Ports,
    port: Option<usize>,
) -> Read<Option<IpAddr>> {
    let target = target_field(fields);
    match (target, fields.get("remote")) {
        (Some("vnet"), Some(node)) => Err(report
            .fault(node, "a vnet tunnel has no remote; its other ends are the hosts of the virtual network")),
        (Some("vnet") | None, None) => Ok(None),
        (Some(_), None) => Err(fields.lacks(report, "remote", "give the address of the other end")),
        (_, Some(_)) => {
            let address = fields.address(report, "remote")?.ok_or(Reported)?;
            let address = unicast(report, fields, "remote", address)?;
            if let Some(port) = port {
                check_family(report, fields, "remote", address, ports, port)?;
            }
            Ok(Some(address))
        }
    }
}

fn check_family(
    report: &mut Report,
    fields: &Fields,
    key: &str,
    address: IpAddr,
    ports: &Ports,
    port: usize,
) -> Read<()> {
    let Ok(own) = ports.address(port) else { return Ok(()) };
    let at = fields.get(key).unwrap_or(fields.node);
    if own == address {
        return Err(report.fault(
            at,
            format!("is the address of port '{}' itself; the other end is wanted", ports.name(port)),
        ));
    }
    if own.is_ipv4() != address.is_ipv4() {
        let name = ports.name(port);
        return Err(
            report.fault(at, format!("{key} must be of the family of port '{name}', whose address is {own}"))
        );
    }
    Ok(())
}

fn read_sequence(report: &mut Report, fields: &Fields, encapsulation: Read<Encapsulation>) -> Read<Sequence> {
    let words = [("off", Sequence::Off), ("send", Sequence::Send), ("strict", Sequence::Strict)];
    let sequence = match fields.get("sequence") {
        // Older YAML readers take `off` for false.
        Some(Node { kind: Kind::Bool(false), .. }) | None => Sequence::Off,
        Some(_) => fields.word(report, "sequence", &words)?.unwrap_or(Sequence::Off),
    };
    match fields.get("sequence") {
        Some(node) if sequence != Sequence::Off && encapsulation == Ok(Encapsulation::Nvgre) => {
            Err(report.fault(node, "an nvgre tunnel has no sequence numbers (RFC 7637); only off is right"))
        }
        _ => Ok(sequence),
    }
}

/// A tunnel of a circuit or peering that carries nothing is down.
fn is_up(customer: &CustomerDraft, to: TunnelTo) -> bool {
    let TunnelTo::Link { circuit, peering, .. } = to else { return true };
    let draft = customer.circuits.get(circuit);
    draft.is_none_or(|d| d.up && d.peerings.get(peering).is_none_or(|p| p.up))
}

/// Reads one host.
pub fn read_host<'a>(cx: &mut Cx<'_, 'a>, node: &'a Node) -> Read<HostDraft<'a>> {
    let fields = Fields::own(cx.report, node, "host", "", &["address", "vnet", "prefixes"])?;
    let address = match fields.address(cx.report, "address") {
        Ok(None) => Err(fields.lacks(cx.report, "address", "give its underlay address")),
        Ok(Some(address)) => unicast(cx.report, &fields, "address", address),
        Err(reported) => Err(reported),
    };
    let vnet = cx.everyone.required(cx.report, &fields, "vnet", Slot::Vnet);
    let (prefixes, whole) = fields.prefixes(cx.report, "prefixes");
    if prefixes.is_empty() && whole {
        fields.lacks(cx.report, "prefixes", "list the addresses of the virtual network that it carries");
    }
    Ok(HostDraft { node, address, vnet, prefixes })
}

/// What must hold among the hosts of a customer: one host for a prefix, of the family of the fabric port.
pub fn check_hosts(report: &mut Report, customer: &CustomerDraft, ports: &Ports) {
    let mut seen: HashMap<(usize, Prefix), (&HostDraft, &Node)> = HashMap::new();
    for host in &customer.hosts {
        let Ok(vnet) = host.vnet else { continue };
        let Some(draft) = customer.vnets.get(vnet) else { continue };
        for &(prefix, node) in &host.prefixes {
            if let Some((first, at)) = seen.insert((vnet, prefix), (host, node)) {
                let place = place(&at.mark, &node.mark);
                let whose =
                    first.address.map_or_else(|_| "another host".to_string(), |a| format!("host {a}"));
                let message = format!(
                    "is a prefix of {whose} in virtual network '{}' at {place} \
                     already; one host carries it",
                    draft.name
                );
                report.fault(node, message);
            }
            if draft.whole && !draft.ranges.iter().any(|(r, _)| r.overlaps(&prefix)) {
                let message = format!(
                    "holds no address of virtual network '{}', so the host carries nothing of it",
                    draft.name
                );
                report.warn(node, message);
            }
        }
        let fabric =
            customer.tunnels.iter().find(|t| t.to == Ok(TunnelTo::Vnet(vnet))).and_then(|t| t.port.ok());
        if let (Some(port), Ok(address)) = (fabric, host.address) {
            let fields = Fields::azure(host.node, "host", "");
            let _ = check_family(report, &fields, "address", address, ports, port);
        }
    }
}

/// What must hold among the tunnels of a customer: one for each thing, and one for each VNet.
pub fn check_tunnels(report: &mut Report, customer: &CustomerDraft) {
    let mut seen: HashMap<TunnelTo, &Node> = HashMap::new();
    // A tunnel that could not be read may be the one that seems to be missing.
    let unread = customer.tunnels_unread || customer.tunnels.iter().any(|t| t.to.is_err());
    for draft in &customer.tunnels {
        let Ok(to) = draft.to else { continue };
        if let Some(first) = seen.insert(to, draft.node) {
            let place = place(&first.mark, &draft.node.mark);
            let what = match to {
                TunnelTo::Vnet(_) => "this virtual network has its fabric tunnel",
                TunnelTo::Internet(_) => "this virtual network has its Internet tunnel",
                TunnelTo::Link { .. } => "this link has its tunnel",
                TunnelTo::Connection(_) => "this connection has its tunnel",
            };
            let at = TARGETS.iter().find_map(|t| draft.node.get(t)).unwrap_or(draft.node);
            report.fault(at, format!("{what} at {place} already; it has one"));
        }
    }
    for (index, vnet) in customer.vnets.iter().enumerate() {
        if !unread && !seen.contains_key(&TunnelTo::Vnet(index)) {
            let at = vnet.node.get_ci("name").unwrap_or(vnet.node);
            let example = "{vnet: NAME, port: PORT, key: KEY}";
            let message = format!(
                "virtual network '{}' has no fabric tunnel; add one to tunnels: {example}",
                vnet.name
            );
            report.fault(at, message);
        }
    }
}

/// What a received packet tells of its tunnel: port, encapsulation, key, and the remote where that counts.
type WireKey = (usize, Encapsulation, u32, Option<IpAddr>);

/// A received packet must belong to one tunnel: by port, encapsulation and key, and on edge and internet ports by remote.
pub fn check_keys(report: &mut Report, customers: &[CustomerDraft], ports: &Ports) {
    let mut seen: HashMap<WireKey, (&str, &Node)> = HashMap::new();
    for customer in customers {
        for draft in &customer.tunnels {
            let (Ok(port), Ok(encapsulation), Ok(key), Ok(remote)) =
                (draft.port, draft.encapsulation, draft.key, draft.remote)
            else {
                continue;
            };
            let Some((owner, first)) =
                seen.insert((port, encapsulation, key, remote), (customer.name, draft.node))
            else {
                continue;
            };
            let at = draft.node.get("key").unwrap_or(draft.node);
            let place = place(&first.mark, &at.mark);
            let whose =
                if owner == customer.name { String::new() } else { format!(" of customer '{owner}'") };
            let scope = match (ports.role(port), remote) {
                (Ok(Role::Fabric), _) | (_, None) => {
                    "a key is used once per port and encapsulation".to_string()
                }
                (_, Some(remote)) => format!("with the remote {remote} it could not be told apart"),
            };
            let message = format!(
                "is the key of the tunnel{whose} at {place} on port '{}' already; {scope}",
                ports.name(port)
            );
            report.fault(at, message);
        }
    }
}

/// The address of the host that carries an address of a VNet: the one with the longest prefix.
pub fn host_of(hosts: &[HostDraft], vnet: usize, address: IpAddr) -> Option<IpAddr> {
    let carrying = hosts.iter().filter(|h| h.vnet == Ok(vnet));
    let prefixes = carrying.flat_map(|h| h.prefixes.iter().map(move |(p, _)| (p.len(), p, h.address)));
    prefixes
        .filter(|(_, p, _)| p.contains(address))
        .max_by_key(|(len, ..)| *len)
        .and_then(|(.., host)| host.ok())
}
