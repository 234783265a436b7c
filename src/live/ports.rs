//! The ports of the appliance: which device each has, and what has to be done when devices or the configuration change.

use std::net::IpAddr;

use tracing::info;

use super::handle::PortFacts;
use super::kernel::{Device, Devices};
use super::port::{Opened, Opening};
use super::worker::Order;
use crate::model::{Io, Port, Role};

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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    wanted: Wanted,
    device: Device,
    io: &'static str,
}

/// A port by its number.
struct Known {
    name: String,
    /// Absent when it is no longer configured.
    wanted: Option<Wanted>,
    open: Option<Open>,
}

/// All ports that were ever configured, by number.
#[derive(Default)]
pub(super) struct Ports(Vec<Known>);

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
        self.0.iter_mut().for_each(|known| known.wanted = None);
        for port in ports {
            let Port { role, address, mtu, io, .. } = *port;
            let device = port.device.clone().unwrap_or_default();
            let wanted = Some(Wanted { role, address, device, io, mtu });
            match self.0.iter_mut().find(|known| known.name == port.name) {
                Some(known) => known.wanted = wanted,
                None => self.0.push(Known { name: port.name.clone(), wanted, open: None }),
            }
        }
    }

    /// The names, in the order of the numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|known| known.name.as_str())
    }

    /// The number of a port.
    pub fn number(&self, name: &str) -> Option<u16> {
        self.names().position(|n| n == name).map(|n| n as u16)
    }

    /// True if every configured port has its device.
    pub fn are_open(&self) -> bool {
        self.0.iter().all(|known| known.wanted.is_some() == known.open.is_some())
    }

    /// What can be seen of them.
    pub fn facts(&self) -> Vec<PortFacts> {
        let facts = |known: &Known| {
            let (wanted, open) = (known.wanted.as_ref(), known.open.as_ref());
            PortFacts {
                name: known.name.clone(),
                role: wanted.map_or("", |w| role_name(w.role)),
                device: wanted.map_or_else(String::new, |w| w.device.clone()),
                io: open.map_or_else(String::new, |o| o.io.to_owned()),
                up: open.is_some_and(|o| o.device.up),
                mtu: wanted.map_or(0, |w| w.mtu),
                configured: wanted.is_some(),
            }
        };
        self.0.iter().map(facts).collect()
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
        for (number, known) in self.0.iter_mut().enumerate() {
            let device = known.wanted.as_ref().and_then(|w| devices.by_name.get(&w.device));
            match (&known.wanted, device) {
                (Some(wanted), Some(device)) => {
                    let same = known.open.as_ref().filter(|open| {
                        open.wanted == *wanted
                            && open.device.index == device.index
                            && open.device.mtu == device.mtu
                    });
                    match same {
                        Some(open) if open.device == *device => (),
                        Some(_) => {
                            let order = || Order::Device(number, device.up, device.mac);
                            orders.extend((0..workers).map(|worker| (worker, order())));
                            let state = if device.up { "up" } else { "down" };
                            info!(port = known.name, device = device.name, state, "device changed");
                            if let Some(open) = &mut known.open {
                                open.device = device.clone();
                            }
                        }
                        None => match open(wanted, device, number, workers) {
                            Ok((io, opened)) => {
                                orders.extend(opened);
                                info!(port = known.name, device = device.name, io, "port open");
                                known.open = Some(Open { wanted: wanted.clone(), device: device.clone(), io });
                            }
                            Err(why) => {
                                let (name, device) = (&known.name, &device.name);
                                failed.push(format!("port '{name}': {device} cannot be opened: {why}"));
                                close(known, number, workers, &mut orders);
                            }
                        },
                    }
                }
                _ => {
                    if known.open.is_some() {
                        let why = if known.wanted.is_some() { "its device is gone" } else { "not configured" };
                        info!(port = known.name, why, "port closed");
                    }
                    close(known, number, workers, &mut orders);
                }
            }
        }
        orders
    }
}

fn close(known: &mut Known, number: usize, workers: usize, orders: &mut Vec<(usize, Order)>) {
    if known.open.take().is_some() {
        orders.extend((0..workers).map(|worker| (worker, Order::Close(number))));
    }
}

type Orders = Vec<(usize, Order)>;

/// Opens a device for every worker; one of them receives.
fn open(wanted: &Wanted, device: &Device, number: usize, workers: usize) -> Result<(&'static str, Orders), String> {
    let mut orders = Vec::new();
    let mut io = "";
    for worker in 0..workers {
        let opening = Opening {
            device: device.index,
            mac: device.mac,
            up: device.up,
            io: wanted.io,
            // Ethernet with two tags.
            longest: device.mtu.max(wanted.mtu) as usize + 14 + 8,
            receives: number % workers == worker,
        };
        let opened = Opened::open(&opening).map_err(|e| e.to_string())?;
        io = opened.io();
        orders.push((worker, Order::Open(number, Box::new(opened))));
    }
    Ok((io, orders))
}
