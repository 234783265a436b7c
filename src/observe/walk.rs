//! One new packet walked through the packet path itself, on behind appliances to its end, and the answer to it back, with
//! the records that the packet opened.

use std::net::IpAddr;

use ahash::RandomState;

use crate::compile::names::Names;
use crate::compile::{Fib, Hop, Program, Vnet, compile};
use crate::dataplane::ingress::ingress;
use crate::dataplane::state::Received;
use crate::dataplane::trace::{Facts, Step};
use crate::dataplane::{Context, Occupancy, Output, Shard, Trace, forward};
use crate::model::{Customer, Link, Model, PeeringKind, Role, TunnelTo};
use crate::packet::{Outcome, Verdict};
use crate::types::{Nanos, SECOND};
use crate::wire::build::{self, Transport};
use crate::wire::{ethernet, protocol, tcp_flags};

/// Appliances on the way of one packet at most; Azure has no such limit, but a longer chain is a mistake.
const APPLIANCES: usize = 8;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The customer, of the model's.
    pub customer: usize,
    /// The VNet, of the customer's.
    pub vnet: usize,
    /// Protocol number; of ICMP 1 or 58, as the addresses are.
    pub protocol: u8,
    /// Source address and port.
    pub from: (IpAddr, u16),
    /// Destination address and port.
    pub to: (IpAddr, u16),
    /// Where the packet enters.
    pub entry: Entry,
}

/// Where a packet enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From a host of the VNet.
    Fabric,
    /// By a private peering of this circuit of the customer's.
    Circuit(usize),
    /// By this connection of the customer's.
    Connection(usize),
    /// From the Internet.
    Internet,
}

/// The packet's whole way, or the answer's.
pub struct Journey {
    /// Where it began.
    pub start: String,
    /// Where the answer comes home to: the same, or the appliance that the source lies behind.
    pub home: String,
    /// The appliance that it came from, with its VNet's number, if its source lies behind one.
    pub behind: Option<(u32, IpAddr)>,
    /// Its passes through the path: one, and one more behind each appliance.
    pub legs: Vec<Leg>,
}

/// One pass through the path.
pub struct Leg {
    /// Its number, from 1.
    pub packet: u64,
    /// When.
    pub at: Nanos,
    /// The port it came in by.
    pub port: u16,
    /// How it came in.
    pub arrival: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What each step found.
    pub steps: Vec<Step>,
    /// What the walk came by.
    pub facts: Facts,
    /// Where it went, if it was forwarded.
    pub to: Option<Stop>,
}

/// Where a forwarded packet went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// For a person.
    pub name: String,
    /// An appliance's address: the packet is not at its end.
    pub appliance: Option<IpAddr>,
}

impl Journey {
    /// Where it ended, if it was not dropped.
    pub fn end(&self) -> Option<&Stop> {
        self.legs.last()?.to.as_ref()
    }

    /// Every place that it came to, behind its start.
    pub fn stops(&self) -> impl Iterator<Item = &Stop> {
        self.legs.iter().filter_map(|leg| leg.to.as_ref())
    }

    /// The appliances on its way.
    pub fn appliances(&self) -> Vec<IpAddr> {
        self.stops().filter_map(|stop| stop.appliance).collect()
    }
}

/// A program, and what it remembers between packets.
pub struct Walker<'m> {
    model: &'m Model,
    /// The compiled configuration.
    pub program: Program,
    shard: Shard,
    occupancy: Occupancy,
    received: Received,
    now: Nanos,
    packets: u64,
}

/// Where a walk begins.
struct Start {
    name: String,
    home: String,
    behind: Option<(u32, IpAddr)>,
}

impl Start {
    fn at(name: impl Into<String>) -> Start {
        let name = name.into();
        Start { home: name.clone(), name, behind: None }
    }
}

/// The appliance that a route for this address names.
fn next_hop(fib: &Fib, address: IpAddr) -> Option<IpAddr> {
    match fib.routes.get(fib.table.lookup(address)? as usize)?.hop {
        Hop::Appliance { address, .. } => Some(address),
        _ => None,
    }
}

/// A frame at a port.
struct Arriving {
    port: u16,
    frame: Vec<u8>,
    how: String,
}

impl<'m> Walker<'m> {
    /// Compiles a model; nothing is remembered.
    pub fn new(model: &'m Model) -> Walker<'m> {
        let program = compile(model, &mut Names::default());
        let mut occupancy = Occupancy::default();
        occupancy.grow(&program);
        let shard = Shard::new(RandomState::new());
        Walker { model, program, shard, occupancy, received: Received::default(), now: 0, packets: 0 }
    }

    /// Walks the packet that is asked about; a sentence if it cannot enter as asked.
    pub fn there(&mut self, question: &Question) -> Result<Journey, String> {
        let packet = packet(question, false)
            .ok_or_else(|| format!("{} and {} are of different families", question.from.0, question.to.0))?;
        let (start, first) = self.enter(question, &packet)?;
        let mut journey =
            Journey { start: start.name, home: start.home, behind: start.behind, legs: Vec::new() };
        self.travel(&mut journey, first, &packet, question.to.0, None);
        Ok(journey)
    }

    /// Walks the answer to a packet that came to its end: from where that was. Nothing answers what did not.
    pub fn back(&mut self, question: &Question, there: &Journey) -> Option<Journey> {
        let last = there.legs.last()?;
        let end = there.end().filter(|stop| stop.appliance.is_none())?;
        let packet = packet(question, true)?;
        let egress = last.outcome.egress?;
        let first = match (last.facts.tunnel, egress.tunnel) {
            (Some(tunnel), Some((remote, _))) => {
                let mac = last.facts.delivered.map(|(vnet, address)| self.mac(vnet, address));
                self.by_tunnel(tunnel, remote, mac, &packet)?
            }
            _ => self.plain(egress.port, &packet),
        };
        let (start, home) = (end.name.clone(), end.name.clone());
        let mut journey = Journey { start, home, behind: None, legs: Vec::new() };
        self.travel(&mut journey, first, &packet, question.from.0, there.behind);
        Some(journey)
    }

    /// Walks a packet on behind appliances to its end: its destination, or the appliance in front of that.
    fn travel(
        &mut self,
        journey: &mut Journey,
        first: Arriving,
        packet: &[u8],
        destination: IpAddr,
        before: Option<(u32, IpAddr)>,
    ) {
        let mut next = Some(first);
        while let Some(arriving) = next.take() {
            let leg = self.pass(&arriving, destination, before);
            if let Some(Stop { appliance: Some(address), .. }) = leg.to
                && journey.legs.len() < APPLIANCES
                && !journey.appliances().contains(&address)
            {
                next = self.behind(&leg, address, packet);
            }
            journey.legs.push(leg);
        }
    }

    /// One pass through the path.
    fn pass(&mut self, arriving: &Arriving, destination: IpAddr, before: Option<(u32, IpAddr)>) -> Leg {
        self.packets += 1;
        self.now += SECOND / 1000;
        let frame = &arriving.frame;
        let mut trace = Trace::on();
        let arrived =
            ingress(&self.program, Some(&mut self.received), arriving.port, frame, frame.len() as u32);
        let outcome = match arrived {
            Err(outcome) => outcome,
            Ok(arrival) => {
                let context = Context::new(&self.program, &self.occupancy);
                let (shard, mut out) = (&mut self.shard, Output::default());
                forward(context, shard, &arrival, frame, self.now, &mut out, &mut trace).outcome
            }
        };
        let (steps, facts) = trace.into_parts();
        let to = self.stop(&outcome, &facts, destination, before);
        let (packet, at) = (self.packets, self.now);
        Leg { packet, at, port: arriving.port, arrival: arriving.how.clone(), outcome, steps, facts, to }
    }

    /// Where a forwarded packet went.
    fn stop(
        &self,
        outcome: &Outcome,
        facts: &Facts,
        destination: IpAddr,
        before: Option<(u32, IpAddr)>,
    ) -> Option<Stop> {
        if outcome.verdict != Verdict::Forward {
            return None;
        }
        let Some((number, address)) = facts.delivered else {
            let plain = || match self.role(outcome.egress.map_or(0, |e| e.port)) {
                Some(Role::Services) => "public services".to_owned(),
                _ => "the Internet".to_owned(),
            };
            let name = facts.tunnel.map_or_else(plain, |t| self.program.leads_to(t));
            return Some(Stop { name, appliance: None });
        };
        // A NIC may have several addresses: what comes to one of them for another has arrived.
        let same = |other: IpAddr| {
            let nic = |a: IpAddr| self.vnet(number).and_then(|v| v.place(a).nic);
            address == other || nic(address).is_some() && nic(address) == nic(other)
        };
        if let Some((_, home)) = before.filter(|(vnet, home)| *vnet == number && same(*home)) {
            return Some(Stop { name: self.name(number, home), appliance: None });
        }
        let appliance = Some(address).filter(|_| !same(destination));
        Some(Stop { name: self.name(number, address), appliance })
    }

    /// The frame that an appliance sends on, unchanged.
    fn behind(&self, leg: &Leg, address: IpAddr, packet: &[u8]) -> Option<Arriving> {
        let (vnet, _) = leg.facts.delivered?;
        let (host, _) = leg.outcome.egress?.tunnel?;
        self.by_tunnel(leg.facts.tunnel?, host, Some(self.mac(vnet, address)), packet)
    }

    /// The first frame of the walk, and where it begins.
    fn enter(&self, question: &Question, packet: &[u8]) -> Result<(Start, Arriving), String> {
        let customer = self.customer(question)?;
        let name = |v: usize| customer.vnets.get(v).map_or("", |v| &v.name);
        match question.entry {
            Entry::Fabric => self.enter_fabric(question, packet),
            Entry::Circuit(circuit) => self.enter_circuit(question, circuit, packet),
            Entry::Connection(connection) => {
                let known = customer.connections.get(connection).ok_or("there is no such connection")?;
                if let crate::model::ConnectionTo::Circuit { circuit, .. } = known.to {
                    return self.enter_circuit(question, circuit, packet);
                }
                let tunnel = self.tunnel(question, |to| to == TunnelTo::Connection(connection));
                let tunnel = tunnel.ok_or_else(|| {
                    format!("connection '{}' has no tunnel; list one under tunnels", known.name)
                })?;
                self.enter_site(tunnel, packet)
            }
            Entry::Internet => {
                if let Some(t) = self.tunnel(question, |to| to == TunnelTo::Internet(question.vnet)) {
                    return self.enter_site(t, packet);
                }
                let port = self.program.internet_port.ok_or_else(|| {
                    format!(
                        "nothing comes from the Internet: VNet '{}' has no Internet tunnel, and no port has the role internet",
                        name(question.vnet)
                    )
                })?;
                Ok((Start::at("the Internet"), self.plain(port, packet)))
            }
        }
    }

    /// From the host of the source; of a source in no subnet, from the host of a NIC that forwards.
    fn enter_fabric(&self, question: &Question, packet: &[u8]) -> Result<(Start, Arriving), String> {
        let (index, source) = (self.vnet_index(question), question.from.0);
        let vnet = self.program.vnets.get(index).ok_or("there is no such VNet")?;
        let name = self.program.names.vnet_name(vnet.id);
        let tunnel = self
            .tunnel(question, |to| to == TunnelTo::Vnet(question.vnet))
            .ok_or_else(|| format!("VNet '{name}' has no fabric tunnel; list one under tunnels"))?;
        let (host, mac, start) = self.sender(vnet, source).ok_or_else(|| {
            format!("VNet '{name}' has no host that a packet could come from; list one under hosts")
        })?;
        let arriving = self.by_tunnel(tunnel, host, Some(mac), packet);
        Ok((start, arriving.ok_or("the host is of another family")?))
    }

    /// The host that sends for a source, with which MAC address, and where that is.
    fn sender(&self, vnet: &Vnet, source: IpAddr) -> Option<(IpAddr, [u8; 6], Start)> {
        let place = vnet.place(source);
        if let Some(host) = place.subnet.and(place.host).and_then(|h| vnet.hosts.get(h as usize)) {
            return Some((*host, self.mac(vnet.id, source), Start::at(self.name(vnet.id, source))));
        }
        let forwarding = vnet.nics.iter().filter(|n| n.forwarding);
        // Rather one that routes for the source lead to than any.
        let next_hops: Vec<IpAddr> = vnet.subnets.iter().filter_map(|s| next_hop(&s.fib, source)).collect();
        let nic = forwarding.clone().find(|n| n.addresses.iter().any(|a| next_hops.contains(a)));
        let carried = |address: &IpAddr| vnet.hosts.get(vnet.place(*address).host? as usize).copied();
        let found = nic.into_iter().chain(forwarding).find_map(|nic| {
            let address = *nic.addresses.first()?;
            Some((carried(&address)?, address))
        });
        if let Some((host, address)) = found {
            let home = self.name(vnet.id, address);
            let name = format!("{source} behind {home}");
            return Some((
                host,
                self.mac(vnet.id, address),
                Start { name, home, behind: Some((vnet.id, address)) },
            ));
        }
        let name = format!("{source}, nowhere in {}", self.program.names.vnet_name(vnet.id));
        Some((*vnet.hosts.first()?, ethernet::mac_of(source), Start::at(name)))
    }

    /// By the first link that is up; if none is, by the first.
    fn enter_circuit(
        &self,
        question: &Question,
        index: usize,
        packet: &[u8],
    ) -> Result<(Start, Arriving), String> {
        let customer = self.customer(question)?;
        let circuit = customer.circuits.get(index).ok_or("there is no such circuit")?;
        let link_of = |wanted: Link| {
            self.tunnel(question, |to| match to {
                TunnelTo::Link { circuit: c, peering, link } => {
                    let private =
                        circuit.peerings.get(peering).is_some_and(|p| p.kind == PeeringKind::Private);
                    c == index && link == wanted && private
                }
                _ => false,
            })
        };
        let links: Vec<u32> = [Link::Primary, Link::Secondary].into_iter().filter_map(link_of).collect();
        let is_up = |t: &&u32| self.program.tunnels.get(**t as usize).is_some_and(|t| t.enabled);
        let tunnel = links.iter().find(is_up).or(links.first()).ok_or_else(|| {
            format!(
                "circuit '{}' has no tunnel for its private peering; list one under tunnels",
                circuit.name
            )
        })?;
        self.enter_site(*tunnel, packet)
    }

    /// By a tunnel with one remote.
    fn enter_site(&self, tunnel: u32, packet: &[u8]) -> Result<(Start, Arriving), String> {
        let name = self.program.leads_to(tunnel);
        let remote = self.program.tunnels.get(tunnel as usize).and_then(|t| t.remote);
        let arriving = remote.and_then(|remote| self.by_tunnel(tunnel, remote, None, packet));
        Ok((Start::at(name), arriving.ok_or("the tunnel's remote is of another family")?))
    }

    fn by_tunnel(
        &self,
        tunnel: u32,
        remote: IpAddr,
        mac: Option<[u8; 6]>,
        packet: &[u8],
    ) -> Option<Arriving> {
        let end = self.program.tunnels.get(tunnel as usize)?;
        let port = self.program.ports.get(usize::from(end.port))?;
        let mac = Some(mac.unwrap_or_default()).filter(|_| end.nvgre);
        let frame = build::gre_frame(remote, port.address, end.wire_key, mac, packet)?;
        let how = format!(
            "port {}, in {} from {remote}, key {:#x}: {}",
            port.name,
            if end.nvgre { "NVGRE" } else { "GRE" },
            end.wire_key,
            self.program.leads_to(tunnel)
        );
        Some(Arriving { port: end.port, frame, how })
    }

    fn plain(&self, port: u16, packet: &[u8]) -> Arriving {
        let name = self.program.ports.get(usize::from(port)).map_or("", |p| &p.name);
        Arriving { port, frame: build::plain_frame(packet), how: format!("port {name}, plain") }
    }

    fn customer(&self, question: &Question) -> Result<&'m Customer, String> {
        let customer = self.model.customers.get(question.customer);
        customer.map(|c| &**c).ok_or_else(|| "there is no such customer".to_owned())
    }

    /// A program compiled without a predecessor has the VNets and tunnels of all customers in the order of the model.
    fn vnet_index(&self, question: &Question) -> usize {
        let before = self.model.customers.iter().take(question.customer);
        before.map(|c| c.vnets.len()).sum::<usize>() + question.vnet
    }

    fn tunnel(&self, question: &Question, is_it: impl Fn(TunnelTo) -> bool) -> Option<u32> {
        let before = self.model.customers.iter().take(question.customer);
        let first = before.map(|c| c.tunnels.len()).sum::<usize>();
        let customer = self.model.customers.get(question.customer)?;
        let found = customer.tunnels.iter().position(|t| is_it(t.to))?;
        Some((first + found) as u32)
    }

    fn role(&self, port: u16) -> Option<Role> {
        self.program.ports.get(usize::from(port)).map(|p| p.role)
    }

    /// The VNet of a number.
    fn vnet(&self, number: u32) -> Option<&Vnet> {
        self.program.vnets.get(number as usize).map(|v| &**v)
    }

    /// The MAC address that an address of a VNet sends with.
    fn mac(&self, vnet: u32, address: IpAddr) -> [u8; 6] {
        let nic = self.vnet(vnet).and_then(|v| v.nic(v.place(address).nic));
        nic.and_then(|n| n.mac).unwrap_or_else(|| ethernet::mac_of(address))
    }

    /// `ADDRESS (VNET/SUBNET)`.
    fn name(&self, number: u32, address: IpAddr) -> String {
        let name = self.program.names.vnet_name(number);
        let subnet = self.vnet(number).and_then(|v| v.subnets.get(usize::from(v.place(address).subnet?)));
        match subnet {
            Some(subnet) => format!("{address} ({name}/{})", subnet.name),
            None => format!("{address} ({name})"),
        }
    }
}

/// The packet that is asked about, or the answer to it.
fn packet(question: &Question, answer: bool) -> Option<Vec<u8>> {
    let (from, to) = if answer { (question.to, question.from) } else { (question.from, question.to) };
    let ipv4 = from.0.is_ipv4();
    let (source, destination) = (from.1, to.1);
    let transport = match question.protocol {
        protocol::TCP => {
            let flags = if answer { tcp_flags::SYN | tcp_flags::ACK } else { tcp_flags::SYN };
            Transport::Tcp { source, destination, flags }
        }
        protocol::UDP => Transport::Udp { source, destination },
        protocol::ICMP if ipv4 => echo(answer),
        protocol::ICMPV6 if !ipv4 => echo(answer),
        protocol => Transport::Other { protocol },
    };
    build::ip_packet(from.0, to.0, transport, &[0; 16])
}

fn echo(answer: bool) -> Transport {
    const IDENTIFIER: u16 = 1;
    if answer {
        Transport::EchoReply { identifier: IDENTIFIER }
    } else {
        Transport::Echo { identifier: IDENTIFIER }
    }
}
