//! Network interfaces, and the application security groups that they are members of.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Cx;
use super::fields::{self, Fields};
use super::names::{self, Everyone, Names, Slot};
use super::report::{Read, Report, Reported, place};
use super::sources::Item;
use super::vnets::{VnetDraft, max_flows};
use crate::model::azure::{self, Reference};
use crate::model::node::Node;
use crate::model::{GATEWAY_SUBNET, Nic};
use crate::types::Prefix;

/// Azure's limit of one IP configuration (semantics 3.8).
const MAX_ASGS: usize = 20;
/// Flow records of a network interface when unsaid.
const DEFAULT_MAX_FLOWS: u32 = 500_000;

/// The application security groups of a customer, by name: resources, and those that only their members tell of.
#[derive(Default)]
pub struct Asgs {
    /// Their names, resources first.
    pub names: Vec<String>,
    by_name: HashMap<String, usize>,
}

/// A network interface as far as it could be read.
pub struct NicDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The network interface.
    pub nic: Nic,
    /// Where each of its addresses stands.
    pub address_nodes: Vec<&'a Node>,
    /// Where each of its application security groups is named.
    pub asg_nodes: Vec<&'a Node>,
    /// Where its MAC address stands.
    pub mac_node: Option<&'a Node>,
}

/// One IP configuration as far as it could be read.
struct IpConfiguration<'a> {
    address: Read<Option<(IpAddr, &'a Node)>>,
    subnet: Read<(usize, usize)>,
    subnet_node: &'a Node,
    asgs: Vec<(usize, &'a Node)>,
}

impl Asgs {
    /// The groups of a customer; the faults of references are told when their owners are read.
    pub fn collect(report: &mut Report, names: &Names) -> Asgs {
        let mut asgs = Asgs::default();
        for item in names.sources.list(Slot::Asg) {
            asgs.add(&item.name);
        }
        let declared = asgs.names.len();
        for item in names.sources.list(Slot::Nic) {
            for configuration in
                item.body.get_ci("ipConfigurations").and_then(Node::as_list).unwrap_or_default()
            {
                let members = configuration.get_ci("applicationSecurityGroups").and_then(Node::as_list);
                for node in members.unwrap_or_default() {
                    let Some(reference) = azure::reference(node) else { continue };
                    if asgs.find(&reference.name).is_none() {
                        asgs.add(&reference.name);
                        if declared > 0 {
                            let message = "is no application security group of the configuration; it is \
                                           taken to exist \
                                           because this network interface is a member";
                            report.warn(node, message);
                        }
                    }
                }
            }
        }
        asgs
    }

    /// The group of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    fn add(&mut self, name: &str) {
        self.by_name.insert(name.to_lowercase(), self.names.len());
        self.names.push(name.to_string());
    }
}

/// Reads one network interface. Nothing if it has a fault, or has no effect because it has no address.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item, vnets: &[VnetDraft<'a>]) -> Option<NicDraft<'a>> {
    let fields = Fields::azure(&item.body, "network interface", &item.name);
    let known = [
        "enableIPForwarding",
        "disableTcpStateTracking",
        "macAddress",
        "networkSecurityGroup",
        "ipConfigurations",
        "maxFlows",
    ];
    fields.misspelt(cx.report, &known);
    if let Some(node) = fields.get("applicationSecurityGroups") {
        cx.report
            .fault(node, format!("applicationSecurityGroups of {fields} must stand in its ipConfigurations"));
    }
    let forwarding = fields.flag(cx.report, "enableIPForwarding", false);
    let untracked = fields.flag(cx.report, "disableTcpStateTracking", false);
    let mac = read_mac(cx.report, &fields);
    let nsg = cx.everyone.optional(cx.report, &fields, "networkSecurityGroup", Slot::Nsg);
    let max_flows = max_flows(cx.report, &fields, DEFAULT_MAX_FLOWS);
    let list = fields.list(cx.report, "ipConfigurations").ok()?;
    if list.is_empty() {
        fields.lacks(cx.report, "ipConfigurations", "give its address and subnet");
        return None;
    }
    let configurations: Vec<_> =
        list.iter().map(|node| read_configuration(cx, &fields, node, vnets)).collect();
    let needed = fields.get("networkSecurityGroup").is_some() || forwarding != Ok(false);
    check_addresses(cx.report, &fields, list, &configurations, needed);
    let (vnet, subnet) = one_subnet(cx.report, &fields, &configurations).ok()?;
    let read: Read<Vec<_>> = configurations.iter().map(|c| c.address).collect();
    let addresses: Vec<(IpAddr, &Node)> = read.ok()?.into_iter().flatten().collect();
    if addresses.is_empty() {
        return None;
    }
    let subnet_node = configurations.first().map_or(fields.node, |c| c.subnet_node);
    check_in_subnet(cx.report, &fields, &addresses, vnets, (vnet, subnet, subnet_node));
    let mut asgs: Vec<(usize, &Node)> = Vec::new();
    for asg in configurations.into_iter().flat_map(|c| c.asgs) {
        if !asgs.iter().any(|(a, _)| *a == asg.0) {
            asgs.push(asg);
        }
    }
    Some(NicDraft {
        node: &item.body,
        nic: Nic {
            name: item.name.clone(),
            ip_forwarding: forwarding.ok()?,
            disable_tcp_state_tracking: untracked.ok()?,
            mac: mac.ok()?,
            nsg: nsg.ok()?,
            vnet,
            subnet,
            addresses: addresses.iter().map(|(a, _)| *a).collect(),
            asgs: asgs.iter().map(|(a, _)| *a).collect(),
            max_flows,
        },
        address_nodes: addresses.iter().map(|(_, n)| *n).collect(),
        asg_nodes: asgs.iter().map(|(_, n)| *n).collect(),
        mac_node: fields.get("macAddress"),
    })
}

fn read_configuration<'a>(
    cx: &mut Cx<'_, 'a>,
    nic: &Fields<'a>,
    node: &'a Node,
    vnets: &[VnetDraft<'a>],
) -> IpConfiguration<'a> {
    let mut read = IpConfiguration {
        address: Err(Reported),
        subnet: Err(Reported),
        subnet_node: node,
        asgs: Vec::new(),
    };
    if node.as_map().is_none() {
        cx.report.fault(
            node,
            format!("an IP configuration of {nic} must be a map with privateIPAddress and subnet"),
        );
        return read;
    }
    let fields = Fields::azure(node, "IP configuration of network interface", nic_name(nic));
    fields.misspelt(cx.report, &["privateIPAddress", "subnet", "applicationSecurityGroups"]);
    if let Some(at) = fields.get("networkSecurityGroup") {
        let message =
            format!("networkSecurityGroup of {nic} must stand beside its ipConfigurations, not in one");
        cx.report.fault(at, message);
    }
    let address = fields.address(cx.report, "privateIPAddress");
    read.address = address.map(|a| a.zip(fields.get("privateIPAddress")));
    read.subnet = match fields.get("subnet") {
        None => Err(fields.lacks(cx.report, "subnet", "name its subnet, such as hub/web")),
        Some(at) => {
            read.subnet_node = at;
            find_subnet(cx.report, &cx.everyone, at, vnets, || format!("subnet of {nic}"))
        }
    };
    let members = fields.list(cx.report, "applicationSecurityGroups").unwrap_or_default();
    if members.len() > MAX_ASGS {
        let at = fields.get("applicationSecurityGroups").unwrap_or(node);
        let message =
            format!("an IP configuration of {nic} is in {} groups; Azure allows {MAX_ASGS}", members.len());
        cx.report.fault(at, message);
    }
    for member in members {
        let what = || format!("applicationSecurityGroups of {nic}");
        if let Ok(reference) = names::read_reference(cx.report, member, Slot::Asg, what) {
            read.asgs.extend(cx.asgs.find(&reference.name).map(|asg| (asg, member)));
        }
    }
    read
}

fn nic_name<'a>(nic: &Fields<'a>) -> &'a str {
    nic.node.get_ci("name").and_then(Node::as_text).unwrap_or_default()
}

/// The VNet and subnet that `hub/web`, or the id of a subnet, names.
pub fn find_subnet(
    report: &mut Report,
    everyone: &Everyone,
    node: &Node,
    vnets: &[VnetDraft],
    what: impl Fn() -> String,
) -> Read<(usize, usize)> {
    let node = names::named(node);
    fields::computed(report, node, &what)?;
    let (vnet_name, name) = match azure::reference(node) {
        Some(Reference { name, parent: Some(parent), kind, .. })
            if kind.as_deref().is_none_or(|k| k.eq_ignore_ascii_case("subnets")) =>
        {
            (parent, name)
        }
        _ => {
            let message = format!("{} must be VNET/SUBNET, such as hub/web, or the id of a subnet", what());
            return Err(report.fault(node, message));
        }
    };
    let Some(index) = everyone.look_by_name(report, node, Slot::Vnet, &vnet_name, &what)? else {
        if everyone.own.sources.is_unread(Slot::Vnet) {
            return Err(Reported);
        }
        let export = Slot::Vnet.export();
        let message = format!(
            "{} lies in virtual network '{vnet_name}', which customer '{}' does not have; define it, or \
             export it too ({export})",
            what(),
            everyone.own.customer
        );
        return Err(report.fault(node, message));
    };
    let vnet = vnets.get(index).ok_or(Reported)?;
    match vnet.subnet_names.get(&name.to_lowercase()) {
        Some(&subnet) => Ok((index, subnet)),
        None if everyone.own.sources.is_unread(Slot::Vnet) => Err(Reported),
        None => {
            let known = vnet.subnets.iter().map(|s| s.subnet.name.as_str());
            let hint = super::report::did_you_mean(&name, known);
            let message = format!("{} names no subnet of virtual network '{}'{hint}", what(), vnet.name);
            Err(report.fault(node, message))
        }
    }
}

/// Templates and stopped machines leave addresses to Azure. Where rules or forwarding hang on one, guessing is no answer.
fn check_addresses(
    report: &mut Report,
    fields: &Fields,
    nodes: &[Node],
    configurations: &[IpConfiguration],
    needed: bool,
) {
    for (node, configuration) in nodes.iter().zip(configurations) {
        if !matches!(configuration.address, Ok(None)) {
            continue;
        }
        if needed || node.get_ci("applicationSecurityGroups").is_some() {
            let right =
                "write the address that Azure gave it, or export the running one (az network nic show)";
            let message = format!(
                "{fields} has no privateIPAddress here, but a network security group, application \
                 security groups or IP \
                 forwarding that depend on it; {right}"
            );
            report.lacks(node, message);
        } else {
            report.warn(
                node,
                format!("{fields} has no privateIPAddress here; this IP configuration is ignored"),
            );
        }
    }
}

fn one_subnet(
    report: &mut Report,
    fields: &Fields,
    configurations: &[IpConfiguration],
) -> Read<(usize, usize)> {
    let mut first = None;
    let mut result = Ok(());
    for configuration in configurations {
        match (first, configuration.subnet) {
            (_, Err(_)) => result = Err(Reported),
            (None, Ok(subnet)) => first = Some(subnet),
            (Some(other), Ok(subnet)) if other != subnet => {
                let message = format!("all IP configurations of {fields} must be in one subnet");
                result = Err(report.fault(configuration.subnet_node, message));
            }
            _ => {}
        }
    }
    result.and(first.ok_or(Reported))
}

/// An address lies in its subnet, and is none of those that Azure keeps for itself.
fn check_in_subnet(
    report: &mut Report,
    fields: &Fields,
    addresses: &[(IpAddr, &Node)],
    vnets: &[VnetDraft],
    (vnet, subnet, at): (usize, usize, &Node),
) {
    let Some(vnet) = vnets.get(vnet) else { return };
    let Some(subnet) = vnet.subnets.get(subnet).filter(|s| s.whole) else { return };
    let name = format!("{}/{}", vnet.name, subnet.subnet.name);
    if subnet.subnet.name == GATEWAY_SUBNET {
        report.fault(at, format!("{fields} is in GatewaySubnet, which holds gateways only"));
        return;
    }
    for &(address, node) in addresses {
        match subnet.subnet.prefixes.iter().find(|p| p.contains(address)) {
            None => {
                let prefixes: Vec<String> = subnet.subnet.prefixes.iter().map(Prefix::to_string).collect();
                let message =
                    format!("the address of {fields} must lie in its subnet {name}, {}", prefixes.join(", "));
                report.fault(node, message);
            }
            Some(prefix) if is_reserved(prefix, address) => {
                let message = format!(
                    "is one of the five addresses of subnet {name} that Azure keeps: the first four and \
                     the last of {prefix}"
                );
                report.fault(node, message);
            }
            Some(_) => {}
        }
    }
}

/// Network address, gateway, two for DNS, and broadcast (semantics 1.6).
fn is_reserved(prefix: &Prefix, address: IpAddr) -> bool {
    match (prefix.first(), prefix.last(), address) {
        (IpAddr::V4(first), IpAddr::V4(last), IpAddr::V4(a)) => {
            a.to_bits().wrapping_sub(first.to_bits()) < 4 || a == last
        }
        _ => false,
    }
}

/// `00-0D-3A-00-00-01`; colons, and no separators at all, are read too.
fn read_mac(report: &mut Report, fields: &Fields) -> Read<Option<[u8; 6]>> {
    let (Some(text), Some(node)) = (fields.text(report, "macAddress")?, fields.get("macAddress")) else {
        return Ok(None);
    };
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let hex = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let mac = u64::from_str_radix(&digits, 16).ok().filter(|_| hex);
    match mac.map(u64::to_be_bytes) {
        Some([_, _, a, b, c, d, e, f]) if a & 1 == 0 => Ok(Some([a, b, c, d, e, f])),
        _ => Err(report.fault(
            node,
            format!("macAddress of {fields} must be that of one machine, such as 00-0D-3A-00-00-01"),
        )),
    }
}

/// What must hold among the network interfaces of a customer: addresses once per VNet, members of a group in one VNet.
pub fn check(report: &mut Report, nics: &[NicDraft], vnets: &[VnetDraft], asgs: &Asgs) {
    let mut seen: HashMap<(usize, IpAddr), (&NicDraft, &Node)> = HashMap::new();
    for draft in nics {
        for (address, node) in draft.nic.addresses.iter().zip(&draft.address_nodes) {
            if let Some((first, at)) = seen.insert((draft.nic.vnet, *address), (draft, node)) {
                let place = place(&at.mark, &node.mark);
                let first = &first.nic.name;
                let message = format!(
                    "is an address of network interface '{first}' of the same \
                     virtual network at {place} already"
                );
                report.fault(node, message);
            }
        }
    }
    let mut homes: HashMap<usize, &NicDraft> = HashMap::new();
    for draft in nics {
        for (asg, node) in draft.nic.asgs.iter().zip(&draft.asg_nodes) {
            let first = homes.entry(*asg).or_insert(draft);
            if first.nic.vnet != draft.nic.vnet {
                let vnet = vnets.get(first.nic.vnet).map_or("", |v| v.name);
                let asg = asgs.names.get(*asg).map_or("", String::as_str);
                let message = format!(
                    "application security group '{asg}' has the member '{}' in virtual network \
                     '{vnet}'; all members must be in one",
                    first.nic.name
                );
                report.fault(node, message);
            }
        }
    }
}
