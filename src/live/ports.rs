//! The ports of the appliance: which device each has, and what has to be done when devices or the configuration change.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Weak};

use tracing::{info, warn};

use super::handle::PortFacts;
use super::kernel::{Device, Devices};
use super::port::{Opened, Opening};
use super::tap::Held;
use super::worker::Order;
use crate::model::{Io, Port, Role};
use crate::sys::bpf::{Attached, MOST_LOCAL, Ours, Program, attach_ingress, load_filter};
use crate::sys::forbid_merging;

/// What a configuration says of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    role: Role,
    address: IpAddr,
    device: String,
    io: Io,
    mtu: u32,
}

/// What is open of a port.
struct Open {
    wanted: Wanted,
    device: Device,
    io: Io,
    ours: Ours,
    /// Keeps what is ours from the kernel, which would answer it.
    guard: Option<Attached>,
    /// The XDP program, which the worker that receives holds.
    program: Option<Weak<Attached>>,
}

impl Open {
    /// False if somebody has taken a program of ours away.
    fn has_programs(&self) -> bool {
        let program = self.program.as_ref().and_then(Weak::upgrade);
        program.is_none_or(|p| p.is_at_work()) && self.guard.as_ref().is_none_or(Attached::is_at_work)
    }
}

/// A port by its number.
struct Known {
    name: String,
    /// Absent when it is no longer configured.
    wanted: Option<Wanted>,
    open: Option<Open>,
    /// Its device, if that is a TAP.
    held: Option<Held>,
    /// XDP sockets of its device that a worker has not closed yet.
    closing: Option<(u32, Weak<Attached>)>,
    /// Keeps what is ours from the kernel until then.
    bridge: Option<(u32, Attached)>,
}

impl Known {
    /// The index of the device whose XDP sockets are not closed yet.
    fn closing(&self) -> Option<u32> {
        self.closing.as_ref().filter(|(_, program)| program.strong_count() > 0).map(|(index, _)| *index)
    }
}

/// All ports that were ever configured.
#[derive(Default)]
pub(super) struct Ports {
    /// By number.
    known: Vec<Known>,
    /// By the index of the device: that it is ours, and no other clearway's, which would forward each packet once more.
    claims: BTreeMap<u32, UnixDatagram>,
    /// A port was not opened because it is still being closed.
    waits: bool,
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Fabric => "fabric",
        Role::Edge => "edge",
        Role::Internet => "internet",
        Role::Services => "services",
    }
}

impl Ports {
    /// These are the ports of the configuration now.
    pub fn want(&mut self, ports: &[Port]) {
        self.known.iter_mut().for_each(|known| known.wanted = None);
        for port in ports {
            let Port { role, address, mtu, io, .. } = *port;
            let device = port.device.clone().unwrap_or_default();
            let wanted = Some(Wanted { role, address, device, io, mtu });
            match self.known.iter_mut().find(|known| known.name == port.name) {
                Some(known) => known.wanted = wanted,
                None => self.known.push(Known {
                    name: port.name.clone(),
                    wanted,
                    open: None,
                    held: None,
                    closing: None,
                    bridge: None,
                }),
            }
        }
    }

    /// The names, in the order of the numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|known| known.name.as_str())
    }

    /// The number of a port.
    pub fn number(&self, name: &str) -> Option<u16> {
        self.names().position(|n| n == name).map(|n| n as u16)
    }

    /// True if a port waits until XDP sockets that its device had are closed: then changes are to be asked for again.
    pub fn are_closing(&self) -> bool {
        self.waits
    }

    /// True if every configured port is open as it is wanted.
    pub fn are_open(&self) -> bool {
        self.known.iter().all(|known| known.wanted.as_ref() == known.open.as_ref().map(|open| &open.wanted))
    }

    /// What can be seen of them.
    pub fn facts(&self) -> Vec<PortFacts> {
        let facts = |known: &Known| {
            let (wanted, open) = (known.wanted.as_ref(), known.open.as_ref());
            PortFacts {
                name: known.name.clone(),
                role: wanted.map_or("", |w| role_name(w.role)),
                device: wanted.map_or_else(String::new, |w| w.device.clone()),
                io: open.map_or_else(String::new, |o| o.io.name().to_owned()),
                up: open.is_some_and(|o| o.device.up),
                mtu: wanted.map_or(0, |w| w.mtu),
                configured: wanted.is_some(),
            }
        };
        self.known.iter().map(facts).collect()
    }

    /// Gives all devices back to the kernel.
    pub fn detach(&mut self) {
        self.known.iter_mut().for_each(|known| (known.open, known.held) = (None, None));
        self.claims.clear();
    }

    /// What workers have to be told, each with the number of the worker, so that ports are as the devices and the
    /// configuration have them. What cannot be opened is said in `failed`, and tried again when this is asked again.
    pub fn changes(
        &mut self,
        devices: &Devices,
        workers: usize,
        failed: &mut Vec<String>,
    ) -> Vec<(usize, Order)> {
        let mut orders = Vec::new();
        self.waits = false;
        for number in 0..self.known.len() {
            let closing = self.known.iter().filter_map(Known::closing).collect::<Vec<_>>();
            let Some(known) = self.known.get_mut(number) else { break };
            let tap = known.wanted.as_ref().filter(|w| w.io == Io::Tap);
            let held = Held::keep(&mut known.held, tap.map(|w| (w.device.as_str(), w.mtu)));
            let device = known.wanted.as_ref().filter(|_| held.is_ok());
            let device = device.and_then(|w| devices.by_name.get(&w.device));
            if let Err(why) = held {
                failed.push(format!("port '{}': {why}", known.name));
            }
            let (Some(wanted), Some(device)) = (known.wanted.clone(), device) else {
                if known.open.is_some() {
                    let why = if known.wanted.is_some() { "its device is gone" } else { "not configured" };
                    info!(port = known.name, why, "port closed");
                }
                close(known, number, workers, &mut orders);
                known.bridge = None;
                continue;
            };
            known.bridge = known.bridge.take().filter(|(index, _)| *index == device.index);
            let (ours, left_out) = ours(&wanted, device, devices);
            let same = |open: &&mut Open| {
                open.wanted == wanted
                    && open.device.index == device.index
                    && open.device.mtu == device.mtu
                    && open.has_programs()
                    // There frames are looked at by a description of its own.
                    && (open.ours == ours || open.io != Io::Tap)
            };
            if let Some(open) = known.open.as_mut().filter(same) {
                if open.ours != ours {
                    match refilter(open, &ours) {
                        Ok(program) => {
                            warn_left_out(&known.name, left_out);
                            orders.extend(program.map(|p| (number % workers, Order::Filter(number, p))));
                            open.guard = guard(open.guard.take(), device, &ours, open.io);
                            open.ours = ours;
                        }
                        Err(e) => {
                            failed.push(format!("port '{}': its filter cannot be changed: {e}", known.name));
                        }
                    }
                }
                if open.device != *device {
                    let order = || Order::Device(number, device.up, device.mac);
                    orders.extend((0..workers).map(|worker| (worker, order())));
                    let state = if device.up { "up" } else { "down" };
                    info!(port = known.name, device = device.name, state, "device changed");
                    open.device = device.clone();
                }
                continue;
            }
            if known.open.as_ref().is_some_and(|open| !open.has_programs()) {
                warn!("{}: somebody has taken our program off it; it is opened again", device.name);
            }
            // XDP takes one program at a time: it is opened again once a worker has closed it.
            if known.open.as_ref().is_some_and(|open| open.io == Io::AfXdp) {
                close(known, number, workers, &mut orders);
                known.bridge = attach_ingress(device.index, &ours).ok().map(|bridge| (device.index, bridge));
            }
            // Its own sockets, or those of a port that had the device until now.
            if known.closing() == Some(device.index) || closing.contains(&device.index) {
                if known.bridge.is_none() {
                    known.bridge =
                        attach_ingress(device.index, &ours).ok().map(|bridge| (device.index, bridge));
                }
                self.waits = true;
                continue;
            }
            let name = known.name.clone();
            let claimed = claim(&mut self.claims, device);
            match claimed.and_then(|()| open(&wanted, device, &ours, known.held.as_ref(), number, workers)) {
                Ok((io, program, opened)) => {
                    orders.extend(opened);
                    warn_left_out(&name, left_out);
                    info!(port = name, device = device.name, io = io.name(), "port open");
                    let before = known.open.take().filter(|open| open.device.index == device.index);
                    let guard = guard(
                        before.and_then(|open| open.guard).or(known.bridge.take().map(|b| b.1)),
                        device,
                        &ours,
                        io,
                    );
                    known.open = Some(Open { wanted, device: device.clone(), io, ours, guard, program });
                }
                Err(why) => {
                    failed.push(format!("port '{name}': {} cannot be opened: {why}", device.name));
                    // What still works on this device goes on.
                    let works = |open: &Open| open.device.index == device.index && open.has_programs();
                    if !known.open.as_ref().is_some_and(works) {
                        close(known, number, workers, &mut orders);
                    }
                }
            }
        }
        // Devices may change places among the ports.
        let used = |index: &u32| {
            self.known.iter().any(|known| known.open.as_ref().is_some_and(|o| o.device.index == *index))
        };
        self.claims.retain(|index, _| used(index));
        orders
    }
}

/// Makes a device ours, if it is not. An abstract address belongs to the network namespace, as the device does, and is free
/// again when its process ends, however it ends.
fn claim(claims: &mut BTreeMap<u32, UnixDatagram>, device: &Device) -> Result<(), String> {
    if claims.contains_key(&device.index) {
        return Ok(());
    }
    let name = format!("clearway/device/{}", device.index);
    let address = SocketAddr::from_abstract_name(&name);
    let claim = address.and_then(|address| UnixDatagram::bind_addr(&address));
    let claim = claim.map_err(|e| match e.kind() {
        ErrorKind::AddrInUse => {
            format!("somebody, most likely another clearway, has claimed it (the socket @{name})")
        }
        _ => format!("it cannot be claimed: {e}"),
    })?;
    claims.insert(device.index, claim);
    Ok(())
}

fn close(known: &mut Known, number: usize, workers: usize, orders: &mut Vec<(usize, Order)>) {
    if let Some(open) = known.open.take() {
        known.closing = open.program.map(|program| (open.device.index, program));
        orders.extend((0..workers).map(|worker| (worker, Order::Close(number))));
    }
}

/// Which frames of a device are ours, not the kernel's; and how many addresses of the machine there was no room for.
fn ours(wanted: &Wanted, device: &Device, devices: &Devices) -> (Ours, usize) {
    let others = devices.addresses.iter().filter(|(_, a)| *a != wanted.address && !a.is_loopback());
    // Those of the device itself first, as there is not room for any number.
    let (own, far): (Vec<_>, Vec<_>) = others.copied().partition(|(index, _)| *index == device.index);
    let plain = matches!(wanted.role, Role::Internet | Role::Services);
    let mut local: Vec<IpAddr> = own.into_iter().chain(far).map(|(_, a)| a).collect();
    let left_out = if plain { local.len().saturating_sub(MOST_LOCAL) } else { 0 };
    local.truncate(if plain { MOST_LOCAL } else { 0 });
    (Ours { address: wanted.address, plain, local }, left_out)
}

/// What is ours has changed: the filter for the worker, unless an XDP program is replaced at once.
fn refilter(open: &Open, ours: &Ours) -> io::Result<Option<Program>> {
    match open.program.as_ref().and_then(Weak::upgrade) {
        Some(program) => program.replace(ours).map(|()| None),
        None => load_filter(ours).map(Some),
    }
}

fn warn_left_out(port: &str, left_out: usize) {
    if left_out > 0 {
        warn!(
            "port '{port}': of the machine's addresses {left_out} find no room in its filter; what comes in for them by \
             this port does not reach the kernel"
        );
    }
}

/// Has the kernel drop what is ours, once our socket has seen it. With XDP it never gets to see it; by a TAP the kernel
/// receives what we send to it.
fn guard(before: Option<Attached>, device: &Device, ours: &Ours, io: Io) -> Option<Attached> {
    if matches!(io, Io::AfXdp | Io::Tap) {
        return None;
    }
    if let Some(guard) = before.filter(Attached::is_at_work)
        && guard.replace(ours).is_ok()
    {
        return Some(guard);
    }
    match attach_ingress(device.index, ours) {
        Ok(guard) => Some(guard),
        Err(e) => {
            warn!("{}: the kernel sees what is ours, too, and may answer GRE with errors: {e}", device.name);
            None
        }
    }
}

/// How frames are read, the XDP program if that is how, and what workers are told.
type OpenedPort = (Io, Option<Weak<Attached>>, Vec<(usize, Order)>);

/// Opens a device for every worker; one of them receives.
fn open(
    wanted: &Wanted,
    device: &Device,
    ours: &Ours,
    held: Option<&Held>,
    number: usize,
    workers: usize,
) -> Result<OpenedPort, String> {
    if held.is_some_and(|held| !held.is_made()) && device.mtu < wanted.mtu {
        warn!("{}: its mtu is {}, less than the port's, {}", device.name, device.mtu, wanted.mtu);
    }
    match forbid_merging(&device.name) {
        // What it merges there is what we send.
        _ if wanted.io == Io::Tap => (),
        Ok(true) => info!(device = device.name, "no longer merges received packets (GRO, LRO are off)"),
        Ok(false) => (),
        Err(e) => warn!("{} merges received packets, and longer ones are lost: {e}", device.name),
    }
    let (mut orders, mut io, mut program) = (Vec::new(), wanted.io, None);
    for worker in 0..workers {
        let opening = Opening {
            name: &device.name,
            device: device.index,
            mac: device.mac,
            up: device.up,
            io: wanted.io,
            device_mtu: device.mtu as usize,
            mtu: device.mtu.max(wanted.mtu) as usize,
            receives: number % workers == worker,
            ours,
            held,
        };
        let opened = Opened::open(&opening).map_err(|e| e.to_string())?;
        if opening.receives {
            io = opened.io();
            program = opened.program().map(Arc::downgrade);
        }
        orders.push((worker, Order::Open(number, Box::new(opened))));
    }
    Ok((io, program, orders))
}
