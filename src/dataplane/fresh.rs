//! Packets of the usual shape that no stored way carries, mostly of new flows: steps 5 to 10 for several of them at once.
//!
//! What the configuration says of a packet does not depend on any record. So it is asked for some packets together, in
//! stages that each wait for the memory of all of them at a time ([`ask`]); what the records say, and what is done
//! to them, follows packet by packet, in order ([`settle`]). Whatever is not quite usual here either (spoofed or blocked
//! addresses, platform addresses, NICs that forward, time to live, size, ended records, limits that are near) is left to
//! go step by step, where it is said why a packet ends: what is done here is exactly what `forward` would do.

use std::net::IpAddr;

use super::flow::{Endpoint, is_opening};
use super::ingress::is_subnet_broadcast;
use super::path::{pack_route, unpack_route};
use super::pipeline::Context;
use super::state::Shard;
use super::usual::Usual;
use crate::compile::effective::reserved;
use crate::compile::origins::{Origin, PLAIN};
use crate::compile::security::{Decision, Rules, is_platform};
use crate::compile::{Fib, Hop, InternetWay, Leads, Nic, Place, Program, Reaches, ShortRoute, Vnet};
use crate::model::Access;
use crate::packet::{Direction, FlowState, NextHopType, Outcome, Reason, Verdict};
use crate::sys::{Wide, prefetch, prefetch_index};
use crate::table::classify::Found;
use crate::table::ecmp;
use crate::table::records::{FlowV4, NONE, Opening, Stored};
use crate::types::{Nanos, Prefix};
use crate::wire::{protocol, tcp_flags};

/// Packets that are asked about together: more than so many do not find what they need in the nearest cache.
pub(super) const SOME: usize = 16;

/// No rule: where no group was asked.
pub(super) const NO_RULE: u32 = u32::MAX;

/// What is asked about.
#[derive(Clone, Copy)]
pub(super) struct Question<'p> {
    /// The packet.
    pub packet: Usual,
    /// Where it came from.
    pub origin: &'p Origin,
    /// The hash of its flow, as its sender's record has it.
    pub hash: u32,
    /// When it came.
    pub now: Nanos,
}

/// The rules of a group, and which of them apply where not all do.
type Applying<'p> = (&'p Rules, Option<&'p [u64]>);

/// What the configuration says of a packet, as far as it is known.
#[derive(Clone, Copy)]
struct Case<'p> {
    source: Option<Endpoint<'p>>,
    destination: Option<Endpoint<'p>>,
    /// The VNet it is in, and whose routes it takes.
    vnet: &'p Vnet,
    /// Those routes; absent for packets from the Internet, which take none.
    fib: Option<&'p Fib>,
    /// The number of its route among them.
    number: u32,
    route: u32,
    adjacency: u32,
    /// The hash of the record of its receiver.
    hash: u32,
    /// The groups that are asked, outbound and inbound, and where in their rules the packet is.
    groups: [[Option<Applying<'p>>; 2]; 2],
    found: [[Found; 2]; 2],
    /// The rules that decide, outbound and inbound, and whether they deny.
    rules: [u32; 2],
    denied: [bool; 2],
}

/// Some packets, and what the configuration says of them.
pub(super) struct Asked<'p> {
    cases: [Option<Case<'p>>; SOME],
}

/// What became of a packet.
pub(super) enum Settled {
    /// It leaves.
    Leaves(Leaves),
    /// It ended at its rules.
    Ended(Outcome),
}

/// How a packet leaves, and what is said of it.
#[derive(Clone, Copy)]
pub(super) struct Leaves {
    /// What the records said.
    pub flow: FlowState,
    /// How many were opened.
    pub opened: u8,
    /// The rule of the last endpoint that has a group.
    pub rule: u32,
    /// Its route, packed.
    pub route: u32,
    /// By what it leaves.
    pub adjacency: u32,
}

impl<'p> Asked<'p> {
    /// Nothing was asked.
    pub const NOTHING: Asked<'p> = Asked { cases: [const { None }; SOME] };
}

/// Asks about packets. Each stage goes through all of them, so that they wait for memory together.
#[inline(always)]
pub(super) fn ask<'p, W: Wide>(
    wide: W,
    context: Context<'p>,
    shard: &mut Shard,
    questions: &[Option<Question<'p>>; SOME],
    asked: &mut Asked<'p>,
) {
    let cases = &mut asked.cases;
    for (case, q) in cases.iter_mut().zip(questions) {
        *case = match q {
            Some(q) => sent(wide, context, q),
            None => None,
        };
    }
    for (case, q) in cases.iter_mut().zip(questions) {
        if let (Some(inside), Some(q)) = (&mut *case, q)
            && inside.find_route(wide, &q.packet).is_none()
        {
            *case = None;
        }
    }
    for (case, q) in cases.iter_mut().zip(questions) {
        if let (Some(inside), Some(q)) = (&mut *case, q)
            && inside.find_way(wide, context, shard, q).is_none()
        {
            *case = None;
        }
    }
    for (case, q) in cases.iter_mut().zip(questions) {
        if let (Some(case), Some(q)) = (case, q) {
            case.find_groups(&q.packet);
        }
    }
    for (case, q) in cases.iter_mut().zip(questions) {
        if let (Some(case), Some(q)) = (case, q) {
            case.find_rules(wide, &q.packet);
        }
    }
    for case in cases {
        if let Some(inside) = case
            && inside.decide(wide).is_none()
        {
            *case = None;
        }
    }
}

#[inline(always)]
fn platform(address: u32) -> bool {
    is_platform(IpAddr::from(address.to_be_bytes()))
}

/// True of addresses that are never on a wire, or belong to many.
#[inline(always)]
fn special(address: u32) -> bool {
    let first = address >> 24;
    first == 0 || first == 127 || first >= 224
}

/// Asks for what [`Endpoint::groups`] reads of a NIC.
#[inline(always)]
fn prefetch_groups(nic: Option<&Nic>) {
    if let Some(nic) = nic {
        prefetch(&nic.group);
        prefetch(&nic.applying);
    }
}

/// Steps 5 and 6: who sent the packet.
#[inline(always)]
fn sent<'p, W: Wide>(wide: W, context: Context<'p>, q: &Question<'p>) -> Option<Case<'p>> {
    let program = context.program;
    let (packet, origin) = (&q.packet, q.origin);
    let (source, destination) = (packet.source(), packet.destination());
    let (from, to) = (packet.ports >> 16, packet.ports & 0xffff);
    if special(source) || special(destination) || platform(source) || platform(destination) {
        return None;
    }
    if source == destination || u64::from(destination) == origin.remote() {
        return None;
    }
    if packet.protocol() == protocol::UDP && (from == 65_330 || (from, to) == (68, 67)) {
        return None;
    }
    let (mut vnet, mut from_internet, mut endpoint) = (origin.scope, false, None);
    if origin.is_outside() {
        let reaches = match origin.tunnel {
            PLAIN => Reaches::Internet { vnet: origin.host },
            tunnel => program.tunnels.get(tunnel as usize)?.reaches,
        };
        match reaches {
            Reaches::Hosts { .. } => return None,
            Reaches::Site { entry } => {
                // What is limited is charged in the order of packets.
                if context.policers.bucket_of(program, origin.link()).is_some() {
                    return None;
                }
                let entry = program.entries.get(entry as usize)?;
                vnet = entry.enter.lookup_v4(wide, destination)?;
                if entry.inside.lookup_v4(wide, source).is_some() {
                    return None;
                }
                entry.learned.lookup_v4(wide, source)?;
            }
            Reaches::Internet { vnet: of } => (vnet, from_internet) = (of, true),
        }
    }
    let number = vnet;
    let vnet: &Vnet = program.vnets.get(vnet as usize)?;
    if from_internet {
        let private = reserved().iter().any(|p| p.contains(IpAddr::from(source.to_be_bytes())));
        let inside = vnet.around.lookup_v4(wide, source).is_some();
        if private || inside || vnet.learned.lookup_v4(wide, source).is_some() {
            return None;
        }
    } else if !origin.is_outside() {
        let place = vnet.places.lookup_v4(wide, source)?;
        let subnet = vnet.subnets.get(usize::from(place.subnet?))?;
        if place.host != Some(origin.host) {
            return None;
        }
        let nic = vnet.nic(place.nic);
        prefetch_groups(nic);
        endpoint = Some(Endpoint { vnet, subnet, nic, party: 0 });
        // Its routes come next.
        subnet.fib.table.prefetch_header();
    }
    for address in [source, destination] {
        let may_be_last = address & program.broadcast_bits == program.broadcast_bits;
        if may_be_last && is_subnet_broadcast(program, IpAddr::from(address.to_be_bytes()), Some(number)) {
            return None;
        }
    }
    let fib = match endpoint {
        Some(Endpoint { subnet, .. }) => Some(&*subnet.fib),
        None => (!from_internet).then_some(&*vnet.gateway_fib),
    };
    Some(Case {
        source: endpoint,
        destination: None,
        vnet,
        fib,
        number: 0,
        route: 0,
        adjacency: 0,
        hash: 1,
        groups: [[None; 2]; 2],
        found: Default::default(),
        rules: [NO_RULE; 2],
        denied: [false; 2],
    })
}

impl<'p> Case<'p> {
    /// The first half of step 8: which route.
    #[inline(always)]
    fn find_route<W: Wide>(&mut self, wide: W, packet: &Usual) -> Option<()> {
        if let Some(fib) = self.fib {
            self.number = fib.table.lookup_v4(wide, packet.destination())?;
            prefetch_index(&fib.short, self.number as usize);
        }
        self.vnet.places.prefetch_v4(wide, packet.destination());
        Some(())
    }

    /// The rest of it, and steps 9, 11 and 12: where it leaves, if it may.
    #[inline(always)]
    fn find_way<W: Wide>(
        &mut self,
        wide: W,
        context: Context<'p>,
        shard: &mut Shard,
        q: &Question<'p>,
    ) -> Option<()> {
        let program = context.program;
        let packet = &q.packet;
        let (vnet, destination) = (self.vnet, packet.destination());
        let (short, length) = match self.fib {
            Some(fib) => {
                let short = *fib.short.get(self.number as usize)?;
                (short, short.length)
            }
            None => {
                let near = vnet.around.lookup_v4(wide, destination).filter(|near| near.vnet == vnet.id)?;
                let length = vnet.space.get(near.range as usize)?.len();
                let (next_hop_type, leads) = (NextHopType::VnetLocal, Leads::Local);
                (ShortRoute { ways: 0, next_hop_type, length, leads }, length)
            }
        };
        self.route = pack_route(vnet.id, short.next_hop_type, length)?;
        // Who sends from an address of a VNet of its own, or from a gateway, needs no leave to be forwarded.
        let (port, tunnel, remote) = match short.leads {
            Leads::Local => self.deliver(program, vnet, vnet.places.lookup_v4(wide, destination)?, 0)?,
            Leads::Ways => {
                let address = |bits: u32| IpAddr::from(bits.to_be_bytes());
                let (source, destination) = (address(packet.source()), address(destination));
                let flow = ecmp::flow_hash(source, destination, packet.protocol(), packet.ports);
                let ways = &vnet.ways.get(short.ways as usize)?.ways;
                let chosen = ecmp::choose(flow, ways.iter().map(|w| w.0))?;
                through(program, ways.get(chosen)?.1)?
            }
            Leads::Internet => internet(program, vnet)?,
            Leads::Elsewhere => match self.fib?.routes.get(self.number as usize)?.hop {
                Hop::Peer { vnet: peer, .. } => {
                    let peer: &Vnet = program.vnets.get(peer as usize)?;
                    self.deliver(program, peer, peer.places.lookup_v4(wide, destination)?, 0)?
                }
                Hop::Appliance { address, place, party, .. } => {
                    let (home, place) = place?;
                    let home: &Vnet = program.vnets.get(home as usize)?;
                    let own = address == IpAddr::from(destination.to_be_bytes());
                    if !own && home.nic(place.nic).is_some_and(|n| !n.forwarding) {
                        return None;
                    }
                    self.deliver(program, home, place, if own { 0 } else { party })?
                }
                Hop::Services => match program.services_port {
                    Some(port) => (port, PLAIN, 0),
                    None => internet(program, vnet)?,
                },
                _ => return None,
            },
        };
        self.adjacency = shard.adjacencies.find(program, vnet.customer, port, tunnel, remote)?;
        let adjacency = shard.adjacencies.get(self.adjacency)?;
        if !adjacency.carries(packet.leaving()) {
            return None;
        }
        if adjacency.link() >= context.policers.least()
            && context.policers.bucket_of(program, adjacency.link()).is_some()
        {
            return None;
        }
        if let Some(endpoint) = &self.destination {
            let (local, ports) = (packet.destination(), packet.ports.rotate_left(16));
            self.hash =
                shard.flows.hash_ipv4(endpoint.vnet.id, local, packet.source(), ports, packet.protocol());
            shard.flows.prefetch_bucket(shard.flows.bucket(self.hash));
        }
        Some(())
    }

    /// The groups that are asked.
    #[inline(always)]
    fn find_groups(&mut self, packet: &Usual) {
        let ends = [(self.source, Direction::Outbound), (self.destination, Direction::Inbound)];
        for ((endpoint, direction), to) in ends.into_iter().zip(&mut self.groups) {
            let Some(endpoint) = endpoint else { continue };
            for (group, to) in endpoint.groups(direction).into_iter().zip(to) {
                if let Some((group, applying)) = group {
                    let rules = group.rules(direction);
                    rules.prefetch_header(packet.protocol());
                    *to = Some((rules, applying));
                }
            }
        }
    }

    /// To the host that carries an address.
    #[inline(always)]
    fn deliver(
        &mut self,
        program: &Program,
        vnet: &'p Vnet,
        place: Place,
        party: u32,
    ) -> Option<(u16, u32, u32)> {
        let subnet = vnet.subnets.get(usize::from(place.subnet?))?;
        let IpAddr::V4(host) = *vnet.hosts.get(place.host? as usize)? else { return None };
        let tunnel = vnet.fabric?;
        let nic = vnet.nic(place.nic);
        prefetch_groups(nic);
        self.destination = Some(Endpoint { vnet, subnet, nic, party });
        Some((program.tunnels.get(tunnel as usize)?.port, tunnel, host.to_bits()))
    }

    /// Where in the rules the packet is.
    #[inline(always)]
    fn find_rules<W: Wide>(&mut self, wide: W, packet: &Usual) {
        let (source, destination) = (packet.source(), packet.destination());
        let ports = ((packet.ports >> 16) as u16, packet.ports as u16);
        for (groups, found) in self.groups.iter().zip(&mut self.found) {
            for (group, found) in groups.iter().zip(found) {
                if let Some((rules, _)) = group {
                    *found = rules.find_v4(wide, source, destination, packet.protocol(), ports);
                    rules.prefetch_found(found);
                }
            }
        }
    }

    /// Steps 7 and 10 for a packet that no record knows: the rules that decide.
    #[inline(always)]
    fn decide<W: Wide>(&mut self, wide: W) -> Option<()> {
        for (direction, (groups, found)) in self.groups.iter().zip(&self.found).enumerate() {
            for (group, found) in groups.iter().zip(found) {
                if let Some((rules, applying)) = group
                    && !self.denied[direction % 2]
                {
                    let Decision { name, access, .. } = rules.decide(wide, found, *applying)?;
                    self.rules[direction % 2] = name;
                    self.denied[direction % 2] = access != Access::Allow;
                }
            }
        }
        Some(())
    }

    /// What is said of a packet that ends at the rules of its sender or its receiver.
    #[cold]
    fn ended(&self, program: &Program, reason: Reason, direction: Direction, destination: u32) -> Settled {
        let inbound = direction == Direction::Inbound;
        let (_, next_hop_type, length) = unpack_route(self.route);
        let prefix = Prefix::new(IpAddr::from(destination.to_be_bytes()), length);
        Settled::Ended(Outcome {
            verdict: Verdict::Drop(reason),
            customer: program.names.customer_of(self.vnet.id),
            vnet: Some(self.vnet.id),
            flow: FlowState::None,
            rule: Some(self.rules[usize::from(inbound)]),
            // Who is stopped at the sender's rules has not looked for a route.
            route: inbound.then_some((next_hop_type, prefix)),
            egress: None,
        })
    }
}

/// By a tunnel with one remote.
#[inline(always)]
fn through(program: &Program, tunnel: u32) -> Option<(u16, u32, u32)> {
    let end = program.tunnels.get(tunnel as usize)?;
    let IpAddr::V4(remote) = end.remote? else { return None };
    Some((end.port, tunnel, remote.to_bits()))
}

#[inline(always)]
fn internet(program: &Program, vnet: &Vnet) -> Option<(u16, u32, u32)> {
    match vnet.internet {
        InternetWay::Tunnel(tunnel) => through(program, tunnel),
        InternetWay::Down => None,
        InternetWay::Plain => Some((program.internet_port?, PLAIN, 0)),
    }
}

/// Looks up, opens or refreshes the records of a packet that was asked about. `None`: it has to go step by step, and
/// nothing was changed.
#[inline(always)]
pub(super) fn settle<W: Wide>(
    wide: W,
    context: Context<'_>,
    shard: &mut Shard,
    asked: &Asked<'_>,
    place: usize,
    q: &Question<'_>,
) -> Option<Settled> {
    let case = asked.cases.get(place)?.as_ref()?;
    let (packet, now) = (&q.packet, q.now);
    if packet.tcp_flags & (tcp_flags::FIN | tcp_flags::RST) != 0 {
        return None;
    }
    let source = case.source.filter(Endpoint::has_group);
    let destination = case.destination.filter(Endpoint::has_group);
    let (from, to, protocol) = (packet.source(), packet.destination(), packet.protocol());
    let flow_out = source.map(|endpoint| FlowV4 {
        hash: q.hash,
        owner: endpoint.owner(),
        local: from,
        remote: to,
        ports: packet.ports,
        protocol,
    });
    let flow_in = destination.map(|endpoint| FlowV4 {
        hash: case.hash,
        owner: endpoint.owner(),
        local: to,
        remote: from,
        ports: packet.ports.rotate_left(16),
        protocol,
    });
    let slot_out = flow_out.map(|flow| shard.flows.find_ipv4(wide, &flow));
    let slot_in = flow_in.map(|flow| shard.flows.find_ipv4(wide, &flow));
    let stored = Stored { arrival: q.origin.number, adjacency: case.adjacency, route: case.route };
    let rule = match (source, destination) {
        (_, Some(_)) => case.rules[1],
        (Some(_), None) => case.rules[0],
        (None, None) => NO_RULE,
    };
    let leaves =
        Leaves { flow: FlowState::New, opened: 0, rule, route: case.route, adjacency: case.adjacency };
    let is_new = slot_out.is_none_or(|s| s == NONE) && slot_in.is_none_or(|s| s == NONE);
    if !is_new {
        if case.denied != [false; 2] {
            return None;
        }
        return keep_going(shard, q, [slot_out, slot_in], stored, leaves).map(Settled::Leaves);
    }
    let ends = [(&source, Direction::Outbound), (&destination, Direction::Inbound)];
    for ((endpoint, direction), denied) in ends.into_iter().zip(case.denied) {
        let Some(endpoint) = endpoint else { continue };
        let opens = !(protocol == protocol::TCP && endpoint.tracks_tcp()) || is_opening(packet.tcp_flags);
        if denied || !opens {
            let reason = if denied { Reason::NsgDeny } else { Reason::TcpNoFlow };
            return Some(case.ended(context.program, reason, direction, to));
        }
        if !endpoint.has_room(context.occupancy) {
            return None;
        }
    }
    let minutes = |endpoint: Endpoint<'_>| endpoint.vnet.flow_timeout_minutes as u8;
    let opening = |flow: FlowV4, endpoint: Endpoint<'_>, rule: u32| Opening {
        flow,
        idle_minutes: minutes(endpoint),
        rule,
    };
    let [rule_out, rule_in] = case.rules;
    let (out, inb) = (Direction::Outbound, Direction::Inbound);
    let tally = shard.tally(context.occupancy);
    let slots = match (flow_out.zip(source), flow_in.zip(destination)) {
        (None, None) => return Some(Settled::Leaves(Leaves { flow: FlowState::None, ..leaves })),
        (Some((flow, sender)), None) => {
            let slot = shard.flows.open_ipv4(wide, &flow, now, minutes(sender), rule_out, out)?;
            shard.flows.record_mut(slot).keep_way(false, stored);
            tally.take(flow.owner);
            [Some(slot), None]
        }
        (None, Some((flow, receiver))) => {
            let slot = shard.flows.open_ipv4(wide, &flow, now, minutes(receiver), rule_in, inb)?;
            tally.take(flow.owner);
            [None, Some(slot)]
        }
        (Some((flow, sender)), Some((reply, receiver))) => {
            let (from, to) = (opening(flow, sender, rule_out), opening(reply, receiver, rule_in));
            let slots = shard.flows.open_linked(wide, &from, &to, now, stored)?;
            tally.take_both([flow.owner, reply.owner]);
            slots.map(Some)
        }
    };
    shard.flows.charge(slots, packet.total(), now);
    let opened = slots.iter().flatten().count() as u8;
    Some(Settled::Leaves(Leaves { opened, ..leaves }))
}

/// A packet whose flow is known at every endpoint that keeps records: they are refreshed, and keep its way for the next.
#[inline(always)]
fn keep_going(
    shard: &mut Shard,
    q: &Question<'_>,
    slots: [Option<u32>; 2],
    stored: Stored,
    leaves: Leaves,
) -> Option<Leaves> {
    let mut rule = NO_RULE;
    for slot in slots.into_iter().flatten() {
        let record = shard.flows.record(slot);
        if slot == NONE || record.ended() || shard.flows.gone_at(slot) <= q.now {
            return None;
        }
        rule = record.rule;
    }
    if slots[0] == slots[1] {
        return None;
    }
    shard.flows.part(slots);
    slots.into_iter().flatten().for_each(|slot| shard.flows.refresh(slot, q.now));
    shard.flows.charge(slots, q.packet.total(), q.now);
    match slots {
        [Some(source), None] => shard.flows.record_mut(source).keep_way(false, stored),
        [Some(source), Some(destination)] => {
            shard.flows.link(source, destination);
            let record = shard.flows.record_mut(source);
            record.keep_way(false, stored);
            record.set_way_rule(rule);
        }
        [None, Some(destination)] => {
            if shard.flows.alias(destination, q.hash) {
                shard.flows.record_mut(destination).keep_way(true, stored);
            }
        }
        [None, None] => {}
    }
    Some(Leaves { flow: FlowState::Established, rule, ..leaves })
}
