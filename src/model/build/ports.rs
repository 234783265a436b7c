//! The ports: the named places where frames enter and leave.

use std::collections::HashMap;
use std::net::IpAddr;

use super::fields::Fields;
use super::report::{Read, Report, Reported};
use crate::model::node::{Entry, Node};
use crate::model::{Io, Port, Role};

/// The smallest mtu: room for an outer IPv6 header, GRE and a small packet.
const MIN_MTU: u64 = 160;
/// The largest IP packet there is.
const MAX_MTU: u64 = 65_535;
/// What a port carries when its mtu is unsaid.
const DEFAULT_MTU: u32 = 1500;
/// Longest name of a port; it is the name of a file.
const MAX_NAME: usize = 64;

const ROLES: [(&str, Role); 4] = [
    ("fabric", Role::Fabric),
    ("edge", Role::Edge),
    ("internet", Role::Internet),
    ("services", Role::Services),
];

const IOS: [(&str, Io); 5] = [
    ("auto", Io::Auto),
    ("af_xdp", Io::AfXdp),
    ("af_packet", Io::AfPacket),
    ("pnet", Io::Pnet),
    ("tap", Io::Tap),
];

/// The ports as read, found by name.
#[derive(Default)]
pub struct Ports<'a> {
    list: Vec<PortDraft<'a>>,
    by_name: HashMap<&'a str, usize>,
    /// The map itself could not be read: nothing can be said of any name.
    unread: bool,
}

/// A port as far as it could be read.
pub struct PortDraft<'a> {
    name: &'a str,
    node: &'a Node,
    role: Read<Role>,
    address: Read<IpAddr>,
    mtu: u32,
    next_hop: Option<IpAddr>,
    device: Option<&'a str>,
    io: Io,
}

impl<'a> Ports<'a> {
    /// Ports that could not be read.
    pub fn unread() -> Ports<'a> {
        Ports { unread: true, ..Ports::default() }
    }

    /// Reads the map of ports.
    pub fn read(report: &mut Report, node: &'a Node) -> Ports<'a> {
        let mut ports = Ports::unread();
        let Some(entries) = node.as_map() else {
            report.fault(
                node,
                "ports must be a map of ports by name, such as fabric: {role: fabric, address: 198.51.100.2}",
            );
            return ports;
        };
        ports.unread = false;
        for entry in entries {
            ports.by_name.insert(&entry.key, ports.list.len());
            let port = read_port(report, entry);
            ports.list.push(port);
        }
        ports.check_roles(report);
        ports.check_addresses(report);
        ports.check_devices(report);
        ports
    }

    /// The index of the port that a tunnel names.
    pub fn find(&self, report: &mut Report, fields: &Fields<'a>) -> Read<usize> {
        let Some(name) = fields.text(report, "port")? else {
            return Err(fields.lacks(report, "port", "name the port that its GRE packets use"));
        };
        let known = || self.list.iter().map(|p| p.name);
        match (self.by_name.get(name), fields.get("port")) {
            (Some(&index), _) => Ok(index),
            (None, Some(node)) if !self.unread => {
                let names = super::report::alternatives(known());
                let right = if names.is_empty() {
                    "there is none".to_string()
                } else {
                    format!("the ports are {names}")
                };
                let hint = super::report::did_you_mean(name, known());
                Err(report.fault(node, format!("is no port; {right}{hint}")))
            }
            (None, _) => Err(Reported),
        }
    }

    /// The name of a port.
    pub fn name(&self, port: usize) -> &'a str {
        self.list.get(port).map_or("", |p| p.name)
    }

    /// The role of a port.
    pub fn role(&self, port: usize) -> Read<Role> {
        self.list.get(port).map_or(Err(Reported), |p| p.role)
    }

    /// The address of a port.
    pub fn address(&self, port: usize) -> Read<IpAddr> {
        self.list.get(port).map_or(Err(Reported), |p| p.address)
    }

    /// True if plain packets can reach VNets.
    pub fn any_plain(&self) -> bool {
        self.list.iter().any(|p| matches!(p.role, Ok(Role::Internet | Role::Services)))
    }

    /// The ports of the model; complete only if there was no fault.
    pub fn into_model(self) -> Vec<Port> {
        let port = |p: PortDraft| {
            Some(Port {
                name: p.name.to_string(),
                role: p.role.ok()?,
                address: p.address.ok()?,
                mtu: p.mtu,
                next_hop: p.next_hop,
                device: p.device.map(str::to_string),
                io: p.io,
            })
        };
        self.list.into_iter().filter_map(port).collect()
    }

    /// A plain packet must know where to leave: one internet port and one services port at most.
    fn check_roles(&self, report: &mut Report) {
        for (role, name) in [(Role::Internet, "internet"), (Role::Services, "services")] {
            let mut with = self.list.iter().filter(|p| p.role == Ok(role));
            let Some(first) = with.next() else { continue };
            for port in with {
                let at = port.node.get("role").unwrap_or(port.node);
                let message = format!(
                    "a second port with the role {name}, after '{}'; at most one may have it",
                    first.name
                );
                report.fault(at, message);
            }
        }
    }

    /// Received GRE is told apart by the address it is sent to.
    fn check_addresses(&self, report: &mut Report) {
        let mut seen: HashMap<IpAddr, &PortDraft> = HashMap::new();
        for port in self.list.iter().filter(|p| p.role != Ok(Role::Services)) {
            let Ok(address) = port.address else { continue };
            if let Some(first) = seen.insert(address, port) {
                let at = port.node.get("address").unwrap_or(port.node);
                let message = format!(
                    "is the address of port '{}' already; each port that receives GRE needs its own",
                    first.name
                );
                report.fault(at, message);
            }
        }
    }

    fn check_devices(&self, report: &mut Report) {
        let mut seen: HashMap<&str, &PortDraft> = HashMap::new();
        for port in &self.list {
            let Some(device) = port.device else { continue };
            if let Some(first) = seen.insert(device, port) {
                let at = port.node.get("device").unwrap_or(port.node);
                report.fault(
                    at,
                    format!("is the device of port '{}' already; each port needs its own", first.name),
                );
            }
        }
    }
}

fn read_port<'a>(report: &mut Report, entry: &'a Entry) -> PortDraft<'a> {
    let (name, node) = (entry.key.as_str(), &entry.value);
    check_name(report, entry);
    let mut port = PortDraft {
        name,
        node,
        role: Err(Reported),
        address: Err(Reported),
        mtu: DEFAULT_MTU,
        next_hop: None,
        device: None,
        io: Io::Auto,
    };
    let Ok(fields) =
        Fields::own(report, node, "port", name, &["role", "address", "mtu", "nextHop", "device", "io"])
    else {
        return port;
    };
    port.role = match fields.word(report, "role", &ROLES) {
        Ok(None) => Err(fields.lacks(report, "role", "fabric, edge, internet or services is needed")),
        Ok(Some(role)) => Ok(role),
        Err(reported) => Err(reported),
    };
    port.address = match fields.address(report, "address") {
        Ok(None) => Err(fields.lacks(report, "address", "its own IP address on that network is needed")),
        Ok(Some(address)) => unicast(report, &fields, "address", address),
        Err(reported) => Err(reported),
    };
    if let Ok(Some(mtu)) = fields.number(report, "mtu", MIN_MTU..=MAX_MTU) {
        port.mtu = mtu as u32;
    }
    port.next_hop = read_next_hop(report, &fields, &port).ok().flatten();
    port.device = fields.text(report, "device").ok().flatten();
    port.io = fields.word(report, "io", &IOS).ok().flatten().unwrap_or_default();
    port
}

/// The name of a port is also that of its output capture.
fn check_name(report: &mut Report, entry: &Entry) {
    let name = entry.key.as_str();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with(['.', '-']) || !name.chars().all(good) {
        let right = "a port is named with at most 64 letters, digits, '-', '_' and '.', and begins with \
                     a letter or digit";
        report.fault_at(&entry.mark, name, right);
    }
}

fn read_next_hop(report: &mut Report, fields: &Fields, port: &PortDraft) -> Read<Option<IpAddr>> {
    let (Some(address), Some(node)) = (fields.address(report, "nextHop")?, fields.get("nextHop")) else {
        return Ok(None);
    };
    let address = unicast(report, fields, "nextHop", address)?;
    if let Ok(own) = port.address {
        if own == address {
            return Err(
                report.fault(node, format!("is the address of {fields} itself; nextHop is the next router"))
            );
        }
        if own.is_ipv4() != address.is_ipv4() {
            return Err(report
                .fault(node, format!("nextHop of {fields} must be of the family of its address, {own}")));
        }
    }
    if matches!(port.role, Ok(Role::Fabric | Role::Edge)) {
        let message = format!(
            "nextHop of {fields} has no effect: only plain packets of internet and services ports use it"
        );
        report.warn(node, message);
    }
    Ok(Some(address))
}

/// Faults if the address is none that one machine can have.
pub fn unicast(report: &mut Report, fields: &Fields, key: &str, address: IpAddr) -> Read<IpAddr> {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    if !(address.is_unspecified() || address.is_multicast() || broadcast) {
        return Ok(address);
    }
    let at = fields.get(key).unwrap_or(fields.node);
    Err(report.fault(at, format!("{} must be the address of one machine", fields.of(key))))
}
