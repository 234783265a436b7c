//! What must become of a packet of a bench, said without the compiled program: from the numbers that its network and its
//! connection follow from.

use super::configuration::WAYS;
use super::network::{End, Kind, Network, PORTS, addr, ip};
use super::traffic::{Connection, OUTER, Packet, Traffic, checksum_at, put_ethernet, put32};
use crate::compile::names::Names;
use crate::packet::{FlowState, NextHopType, Outcome, Verdict};
use crate::table::ecmp;
use crate::types::Prefix;
use crate::wire::protocol;

/// Compares packets with what must become of them.
pub struct Checker {
    ways: [u64; 2],
    expected: Vec<u8>,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker { ways: WAYS.map(ecmp::way_id), expected: Vec::new() }
    }
}

/// The outer end by which a packet leaves.
fn leaves_by(traffic: &Traffic, ways: &[u64; 2], c: &Connection, reply: bool) -> End {
    let network = &traffic.network;
    let nic = |n: u32| network.fabric(c.vnet, Network::host_of(n));
    match (c.kind, reply) {
        (Kind::Inside, false) => nic(c.neighbour),
        (Kind::ToCircuit, false) | (Kind::FromCircuit, true) => {
            let ((from, to), (source, destination)) = directed(c, reply);
            let protocol = if c.tcp { protocol::TCP } else { protocol::UDP };
            let ports = u32::from(source) << 16 | u32::from(destination);
            let flow = ecmp::flow_hash(ip(from), ip(to), protocol, ports);
            network.link(c.vnet, ecmp::choose(flow, ways.iter().copied()).unwrap_or_default() as u32)
        }
        (Kind::ToInternet, false) => network.internet(c.vnet),
        _ => nic(c.nic),
    }
}

/// Addresses and ports as a packet has them.
fn directed(c: &Connection, reply: bool) -> ((u32, u32), (u16, u16)) {
    match reply {
        false => (c.addresses, c.ports),
        true => ((c.addresses.1, c.addresses.0), (c.ports.1, c.ports.0)),
    }
}

fn route(network: &Network, c: &Connection, reply: bool) -> (NextHopType, Prefix) {
    let local = (NextHopType::VnetLocal, network.space(c.vnet));
    match (c.kind, reply, c.far_route) {
        (Kind::ToCircuit, false, Some(leaf)) | (Kind::FromCircuit, true, Some(leaf)) => {
            (NextHopType::VirtualNetworkGateway, network.leaf(c.vnet, leaf))
        }
        (Kind::ToInternet, false, Some(route)) => (NextHopType::Internet, network.public(c.vnet, route)),
        (Kind::ToInternet, false, None) => (NextHopType::Internet, Prefix::ALL_V4),
        _ => local,
    }
}

/// The rule that opened the record of the last endpoint that is asked.
fn rule(network: &Network, c: &Connection, reply: bool) -> String {
    let inbound = match c.kind {
        Kind::Inside => !reply,
        Kind::FromCircuit => true,
        Kind::ToCircuit | Kind::ToInternet => false,
    };
    let number = network.service_number(c.ports.1);
    match (number, inbound, c.kind) {
        (Some(number), true, _) => format!("UserRule_nic-in-{}", 3 * number + 2),
        (Some(number), false, _) => format!("UserRule_subnet-out-{}", 3 * number + 2),
        (None, true, _) => "DefaultRule_AllowVnetInBound".to_owned(),
        // What a user-defined route names belongs to VirtualNetwork.
        (None, false, Kind::ToInternet) if c.far_route.is_none() => {
            "DefaultRule_AllowInternetOutBound".to_owned()
        }
        (None, false, _) => "DefaultRule_AllowVnetOutBound".to_owned(),
    }
}

impl Checker {
    /// What is wrong with what became of a packet, in a sentence; nothing if all is as it must be.
    pub fn check<'a>(
        &mut self,
        traffic: &Traffic,
        names: &Names,
        packet: Packet,
        outcome: &Outcome,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), String> {
        let c = traffic.connection(packet.connection);
        let end = leaves_by(traffic, &self.ways, &c, packet.reply);
        let name =
            |id: Option<u32>, name: fn(&Names, u32) -> &str| id.map_or("none", |i| name(names, i)).to_owned();
        let opened = if packet.opens { FlowState::New } else { FlowState::Established };
        let facts = [
            ("verdict", format!("{:?}", outcome.verdict), format!("{:?}", Verdict::Forward)),
            ("customer", name(outcome.customer, Names::customer_name), format!("customer-{}", c.vnet)),
            ("vnet", name(outcome.vnet, Names::vnet_name), format!("vnet-{}", c.vnet)),
            ("flow", outcome.flow.name().to_owned(), opened.name().to_owned()),
            ("rule", name(outcome.rule, Names::rule_name), rule(&traffic.network, &c, packet.reply)),
            (
                "route",
                format!("{:?}", outcome.route),
                format!("{:?}", Some(route(&traffic.network, &c, packet.reply))),
            ),
            (
                "egress",
                format!("{:?}", outcome.egress.map(|e| (e.port, e.tunnel))),
                format!("{:?}", Some((end.port, Some((ip(end.remote), end.key))))),
            ),
        ];
        if let Some((fact, is, must)) = facts.iter().find(|(_, is, must)| is != must) {
            return Err(format!("{}: {fact} is {is}, must be {must}", self.describe(&c, packet)));
        }
        self.emit(traffic, packet, end);
        let mut frames = frames;
        match (frames.next(), frames.next()) {
            (Some(frame), None) if frame == self.expected => Ok(()),
            (Some(frame), None) => {
                let at = frame
                    .iter()
                    .zip(&self.expected)
                    .position(|(a, b)| a != b)
                    .unwrap_or(frame.len().min(self.expected.len()));
                Err(format!("{}: the frame that leaves differs at byte {at}", self.describe(&c, packet)))
            }
            (None, _) => Err(format!("{}: no frame leaves", self.describe(&c, packet))),
            _ => Err(format!("{}: more than one frame leaves", self.describe(&c, packet))),
        }
    }

    /// Writes the frame that must leave.
    fn emit(&mut self, traffic: &Traffic, packet: Packet, end: End) {
        self.expected.resize(traffic.frame_length(), 0);
        traffic.write(packet, &mut self.expected);
        let Some(head) = self.expected.first_chunk_mut::<{ OUTER + 40 }>() else { return };
        let own = addr(PORTS[usize::from(end.port)]);
        put_ethernet(head, end.remote, own);
        put32(head, 26, own);
        put32(head, 30, end.remote);
        put32(head, 38, end.key);
        checksum_at(head, 14, 24);
        head[OUTER + 8] -= 1;
        checksum_at(head, OUTER, OUTER + 10);
    }

    fn describe(&self, c: &Connection, packet: Packet) -> String {
        let ((from, to), (source, destination)) = directed(c, packet.reply);
        let protocol = if c.tcp { "TCP" } else { "UDP" };
        let which = match (packet.opens, packet.reply) {
            (true, _) => "the first packet",
            (false, false) => "a packet",
            (false, true) => "a reply",
        };
        format!(
            "{which} of connection {}, {protocol} {}:{source} to {}:{destination} of vnet-{}",
            packet.connection,
            ip(from),
            ip(to),
            c.vnet
        )
    }
}
