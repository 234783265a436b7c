//! Steps 6 to 13, in their order: from a checked packet to where it leaves, or why it does not.
//!
//! Nothing is changed before the packet is sure to be forwarded: endpoints say what they *would* do to their records
//! (`flow::Plan`), and the last thing [`forward`] does is to carry that out. Every look-up after step 4 goes through the
//! VNet that the tunnel names.

mod commit;
mod public;

use std::net::IpAddr;

use super::emit::{Output, Sending};
use super::flow::{self, Asked, Endpoint, Plan};
use super::ingress::{Arrival, Via, own_range};
use super::occupancy::Occupancy;
use super::police::{self, Charge, Policers, Toward};
use super::state::{ErrorsOf, Shard};
use super::trace::{NO_GROUP, Trace};
use crate::compile::effective::RouteSource;
use crate::compile::security::is_platform;
use crate::compile::{
    CircuitLink, Fib, FibRoute, Hop, InternetWay, Place, PlainOwner, Program, PublicPrefix, Reaches, Vnet,
};
use crate::model::{GATEWAY_SUBNET, PeeringKind, Role};
use crate::packet::{Direction, Egress, FlowState, Generated, NextHopType, Outcome, Reason, Verdict};
use crate::table::ecmp;
use crate::table::fragments::{Admission, FragmentKey};
use crate::types::{Nanos, Prefix};
use crate::wire::icmp;

/// What became of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Its verdict and the facts about it.
    pub outcome: Outcome,
    /// The frames it caused, as indices into [`Output::frames`].
    pub frames: (u32, u32),
    /// The ICMP error among them, and whose it is: to be sent only if the rate allows it.
    pub error: Option<(Generated, ErrorsOf)>,
    /// How many records it opened.
    pub opened: u8,
}

impl Done {
    /// A packet that ended before the pipeline.
    pub fn early(outcome: Outcome) -> Done {
        Done { outcome, frames: (0, 0), error: None, opened: 0 }
    }
}

/// What the packets of a batch share.
#[derive(Clone, Copy)]
pub struct Context<'p> {
    /// The configuration in force.
    pub program: &'p Program,
    /// How many records everyone has.
    pub occupancy: &'p Occupancy,
    /// The shard of the flow that the packet, an ICMP error, quotes; absent when it is the packet's own.
    pub quoted: Option<&'p Shard>,
    /// The buckets of circuit links.
    pub policers: &'p Policers,
    /// They are not charged: what is to be charged is noted ([`Output::charges`]), and is sure to be there.
    pub defers: bool,
}

impl<'p> Context<'p> {
    /// One in which nothing is quoted, and no bandwidth limited.
    pub fn new(program: &'p Program, occupancy: &'p Occupancy) -> Context<'p> {
        Context { program, occupancy, quoted: None, policers: &police::NONE, defers: false }
    }
}

/// Everything that the steps share.
struct Walk<'p, 'a> {
    program: &'p Program,
    arrival: &'a Arrival,
    /// The packet from its IP header on, without padding.
    packet: &'a [u8],
    now: Nanos,
    occupancy: &'p Occupancy,
    quoted: Option<&'p Shard>,
    policers: &'p Policers,
    defers: bool,
    trace: &'a mut Trace,
    outcome: Outcome,
}

/// Who sent a packet.
#[derive(Clone, Copy)]
enum Sender<'p> {
    Endpoint(Endpoint<'p>),
    /// A circuit link or VPN connection, by its number as a party.
    Site(u32),
    /// The Internet of a VNet, by both numbers.
    Internet(u32, u32),
    /// Everyone outside, to a peering of a customer, by its number as a party.
    Outside(u32),
}

impl<'p> Sender<'p> {
    fn endpoint(&self) -> Option<&Endpoint<'p>> {
        match self {
            Sender::Endpoint(endpoint) => Some(endpoint),
            Sender::Site(_) | Sender::Internet(..) | Sender::Outside(_) => None,
        }
    }
}

/// How a packet leaves that may: what is left to say once it is known where to.
#[derive(Clone, Copy)]
struct Leaving {
    /// Its time to live, when it leaves.
    ttl: u8,
    /// Its type of service, when it leaves.
    tos: u8,
    /// The largest packet that fits.
    room: u32,
}

/// Where a packet is going.
#[derive(Clone, Copy)]
struct Way<'p> {
    sending: Sending,
    /// The endpoint it is delivered to, on the fabric.
    endpoint: Option<Endpoint<'p>>,
}

/// What the records and rules said on the way, to be carried out if the packet is forwarded.
#[derive(Clone, Copy, Default)]
struct Plans {
    source: Plan,
    destination: Plan,
    /// The state of a later fragment's first.
    first: Option<Admission>,
}

/// Runs one packet through steps 6 to 13. `frame` is the frame that the arrival was found in.
pub fn forward(
    context: Context<'_>,
    shard: &mut Shard,
    arrival: &Arrival,
    frame: &[u8],
    now: Nanos,
    out: &mut Output,
    trace: &mut Trace,
) -> Done {
    let Context { program, occupancy, quoted, policers, defers } = context;
    let start = arrival.at as usize;
    let packet = frame.get(start..start + arrival.inner.total as usize).unwrap_or_default();
    let outcome = Outcome::ended(Reason::NoRoute);
    let mut walk =
        Walk { program, arrival, packet, now, occupancy, quoted, policers, defers, trace, outcome };
    let first_frame = out.frames.len() as u32;
    let result = walk.run(shard, out);
    let mut done = Done {
        outcome: walk.outcome,
        frames: (first_frame, out.frames.len() as u32),
        error: None,
        opened: 0,
    };
    match result {
        Ok(opened) => {
            done.opened = opened;
            if opened > 0 {
                done.outcome.flow = FlowState::New;
            }
        }
        Err(ended) => {
            done.outcome.verdict = Verdict::of(ended.reason);
            done.outcome.egress = None;
            if let Some((error, of)) = ended.error {
                done.error = Some((error, of));
            }
        }
    }
    done
}

/// Packets that are in no VNet.
#[derive(Clone, Copy)]
enum Beside<'p> {
    /// It is in one.
    No,
    /// From this link of Microsoft or public peering, by this tunnel.
    Peering(u32, &'p CircuitLink),
    /// Plain, to a prefix learned there.
    ToPeering(&'p PublicPrefix),
}

/// Takes what a packet needs from the bucket of a circuit link; false if it does not hold that.
#[inline(never)]
pub(super) fn charge(
    context: Context<'_>,
    bucket: u32,
    toward: Toward,
    bytes: u32,
    now: Nanos,
    out: &mut Output,
) -> bool {
    let charge = Charge { packet: out.packet, bucket, toward, bytes };
    if context.defers {
        out.charges.push(charge);
        return true;
    }
    context.policers.take(context.program, &charge, now)
}

/// Why the packet ended, and the ICMP error that was written about it.
struct Ended {
    reason: Reason,
    error: Option<(Generated, ErrorsOf)>,
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Ended {
        Ended { reason, error: None }
    }
}

impl<'p> Walk<'p, '_> {
    /// The order of the steps; the number of records opened.
    fn run(&mut self, shard: &mut Shard, out: &mut Output) -> Result<u8, Ended> {
        match self.beside_vnets(shard, out)? {
            Beside::No => {}
            Beside::Peering(tunnel, link) => return self.leave_peering(tunnel, link, shard, out),
            Beside::ToPeering(public) => return self.enter_peering(public, shard, out),
        }
        let (vnet_index, sender) = self.source()?; //                                   6
        let vnet = &self.program.vnets[vnet_index as usize];
        let mut plans = Plans { first: self.first_fragment(vnet.id, sender, shard)?, ..Plans::default() };
        if let Sender::Endpoint(endpoint) = sender {
            plans.source = self.ask(endpoint, Direction::Outbound, shard, plans)?; //    7
        }
        let route = self.route(vnet_index, vnet, sender)?; //                            8
        let way = self.destination(vnet_index, vnet, sender, route)?; //                 9
        if let Some(endpoint) = way.endpoint {
            plans.destination = self.ask(endpoint, Direction::Inbound, shard, plans)?; // 10
        }
        let leaving = self.leaving(sender, way.sending, self.arrival.tos, shard, out)?; //     11, 12
        let opened = self.commit(vnet, sender, &way, plans, shard)?;
        self.egress(way.sending, leaving, shard, out); //                               13
        if opened == 0 {
            self.keep_way(sender, &way, plans, shard);
        }
        Ok(opened)
    }

    /// The end of step 5 and the beginning of step 6: the bandwidth of a circuit link, what is for us there, and packets
    /// that are in no VNet.
    fn beside_vnets(&mut self, shard: &mut Shard, out: &mut Output) -> Result<Beside<'p>, Reason> {
        let (program, inner) = (self.program, &self.arrival.inner);
        let Via::Tunnel(tunnel, _) = self.arrival.via else {
            let owner = match self.arrival.vnet {
                None => program.plain.lookup(inner.destination),
                Some(_) => None,
            };
            return Ok(match owner {
                Some(PlainOwner::Peering(n)) => {
                    program.public.get(n as usize).map_or(Beside::No, Beside::ToPeering)
                }
                _ => Beside::No,
            });
        };
        let end = &program.tunnels[tunnel as usize];
        let Some(link) = end.link.as_deref() else { return Ok(Beside::No) };
        self.outcome.customer = Some(end.customer);
        let bytes = inner.total;
        if !charge(self.context(), link.bucket, Toward::In, bytes, self.now, out) {
            shard.meters.refuse(link.inwards(), Toward::In);
            return Err(Reason::OverRate);
        }
        shard.meters.count(link.inwards(), bytes);
        let ours = link.ends[usize::from(inner.source.is_ipv6())];
        if ours == Some((inner.source, inner.destination)) {
            self.trace.note(6, "source", || "the customer's end of this link, to ours".to_owned());
            return Err(Reason::ToUs);
        }
        match link.kind {
            PeeringKind::Private => Ok(Beside::No),
            PeeringKind::Microsoft | PeeringKind::Public => Ok(Beside::Peering(tunnel, link)),
        }
    }

    fn context(&self) -> Context<'p> {
        let Walk { program, occupancy, quoted, policers, defers, .. } = *self;
        Context { program, occupancy, quoted, policers, defers }
    }

    /// The circuit link that something is sent by.
    fn link_of(&self, sending: Sending) -> Option<&'p CircuitLink> {
        self.program.tunnels.get(sending.tunnel?.0 as usize)?.link.as_deref()
    }

    /// Steps 11 and 12, and behind them the bandwidth of a circuit link.
    fn leaving(
        &mut self,
        sender: Sender<'p>,
        sending: Sending,
        tos: u8,
        shard: &mut Shard,
        out: &mut Output,
    ) -> Result<Leaving, Ended> {
        let inner = &self.arrival.inner;
        let decrements = !(self.arrived_by_nvgre() && sending.is_nvgre(self.program));
        let ttl = inner.ttl;
        self.trace.note(11, "TTL", || match decrements {
            true => format!("{ttl} on arrival, {} when it leaves", ttl.saturating_sub(1)),
            false => format!("{ttl}, left alone between nvgre tunnels"),
        });
        if decrements && ttl <= 1 {
            return Err(self.ended_with(Reason::TtlExpired, icmp::Error::TimeExceeded, sender, out));
        }
        let room = sending.room(self.program);
        let length = self.packet.len();
        self.trace.note(12, "size", || format!("{length} bytes, there is room for {room}"));
        if length > room as usize && inner.dont_fragment {
            let error = icmp::Error::TooBig { mtu: room };
            return Err(self.ended_with(Reason::TooBig, error, sender, out));
        }
        if let Some(link) = self.link_of(sending) {
            let (bytes, _) = Output::sent(inner, self.packet, room);
            if !charge(self.context(), link.bucket, Toward::Out, bytes, self.now, out) {
                shard.meters.refuse(link.outwards(), Toward::Out);
                return Err(Reason::OverRate.into());
            }
        }
        Ok(Leaving { ttl: ttl - u8::from(decrements), tos, room })
    }

    /// Step 6: who sent the packet, and the VNet it is in.
    fn source(&mut self) -> Result<(u32, Sender<'p>), Reason> {
        let (program, arrival) = (self.program, self.arrival);
        if let Via::Tunnel(tunnel, _) = arrival.via {
            let end = &program.tunnels[tunnel as usize];
            (self.outcome.customer, self.outcome.vnet) = (Some(end.customer), end.vnet);
            match end.reaches {
                Reaches::Hosts { vnet } => return self.source_on_fabric(vnet),
                Reaches::Site { entry } => return self.source_at_site(entry),
                Reaches::Internet { .. } => {}
            }
        }
        self.source_on_internet()
    }

    fn source_on_fabric(&mut self, index: u32) -> Result<(u32, Sender<'p>), Reason> {
        let vnet = &self.program.vnets[index as usize];
        let source = self.arrival.inner.source;
        let Via::Tunnel(_, host) = self.arrival.via else { return Err(Reason::SpoofedSource) };
        let host = vnet.host_numbers.get(&host).copied();
        let place = vnet.place(source);
        if is_platform(source) {
            return Err(Reason::SpoofedSource);
        }
        let subnet_of = |s: Option<u16>| vnet.subnets.get(usize::from(s?));
        if let Some(subnet) = subnet_of(place.subnet).filter(|_| place.host.is_some() && place.host == host) {
            let endpoint = Endpoint { vnet, subnet, nic: vnet.nic(place.nic), party: 0 };
            self.trace.note(6, "source", || {
                let nic = endpoint.nic.map_or("no NIC resource".to_owned(), |n| format!("NIC {}", n.name));
                format!("{source} is in subnet {} ({nic}) and lives on this host", subnet.name)
            });
            self.trace.keep(|facts| facts.own = true);
            return Ok((index, Sender::Endpoint(endpoint)));
        }
        let nvgre = self.arrived_by_nvgre();
        let is_sender = |n: &&crate::compile::Nic| !nvgre || n.has_mac(self.arrival.inner_mac);
        let here = host.and_then(|h| vnet.forwarders.get(h as usize)).into_iter().flatten();
        let nic =
            here.filter_map(|n| vnet.nics.get(*n as usize)).find(is_sender).ok_or(Reason::SpoofedSource)?;
        let subnet = subnet_of(Some(nic.subnet)).ok_or(Reason::SpoofedSource)?;
        self.trace.note(6, "source", || format!("forwarded by NIC {} in subnet {}", nic.name, subnet.name));
        Ok((index, Sender::Endpoint(Endpoint { vnet, subnet, nic: Some(nic), party: 0 })))
    }

    fn source_at_site(&mut self, entry: u32) -> Result<(u32, Sender<'p>), Reason> {
        let entry = &self.program.entries[entry as usize];
        let index = self.arrival.vnet.ok_or(Reason::NoRoute)?;
        let vnet = &self.program.vnets[index as usize];
        self.outcome.vnet = Some(vnet.id);
        let source = self.arrival.inner.source;
        let inside = entry.inside.lookup(source).is_some() || is_platform(source);
        if inside || entry.learned.lookup(source).is_none() {
            return Err(Reason::SpoofedSource);
        }
        let names = &self.program.names;
        self.trace.note(6, "source", || {
            format!("{source} is learned from there; enters by the gateway of {}", names.vnet_name(vnet.id))
        });
        Ok((index, Sender::Site(entry.party)))
    }

    fn source_on_internet(&mut self) -> Result<(u32, Sender<'p>), Reason> {
        let source = self.arrival.inner.source;
        let index = match self.arrival.vnet {
            Some(index) => index,
            None => return Err(Reason::UnknownTunnel),
        };
        let vnet = &self.program.vnets[index as usize];
        (self.outcome.customer, self.outcome.vnet) = (Some(vnet.customer), Some(vnet.id));
        let believed = match self.program.ports.get(usize::from(self.arrival.port)) {
            Some(port) if port.role == Role::Services => is_platform(source),
            _ => false,
        };
        let private = crate::compile::effective::reserved().iter().any(|p| p.contains(source));
        let known_inside = vnet.around.lookup(source).is_some() || vnet.learned.lookup(source).is_some();
        if private || known_inside || is_platform(source) && !believed {
            return Err(Reason::SpoofedSource);
        }
        let names = &self.program.names;
        self.trace
            .note(6, "source", || format!("{source} comes from outside to {}", names.vnet_name(vnet.id)));
        Ok((index, Sender::Internet(vnet.id, vnet.internet_party)))
    }

    #[inline]
    fn arrived_by_nvgre(&self) -> bool {
        matches!(self.arrival.via, Via::Tunnel(t, _) if self.program.tunnels[t as usize].nvgre)
    }

    /// The end of step 6: a later fragment follows its first.
    fn first_fragment(
        &mut self,
        vnet: u32,
        sender: Sender<'p>,
        shard: &Shard,
    ) -> Result<Option<Admission>, Reason> {
        if !self.arrival.inner.is_later_fragment() {
            return Ok(None);
        }
        let key = self.fragment_key(vnet, sender).ok_or(Reason::FragmentOrphan)?;
        let first = shard.fragments.find(&key, self.now).ok_or(Reason::FragmentOrphan)?;
        self.outcome.rule = first.rule;
        if first.has_flow {
            self.outcome.flow = FlowState::Established;
        }
        self.trace.note(6, "fragment", || "follows its first fragment, which was forwarded".to_owned());
        Ok(Some(first))
    }

    fn fragment_key(&self, vnet: u32, sender: Sender<'p>) -> Option<FragmentKey> {
        let inner = &self.arrival.inner;
        let fragment = inner.fragment?;
        let origin = match sender {
            Sender::Endpoint(endpoint) => endpoint.owner().endpoint,
            Sender::Site(party) | Sender::Internet(_, party) | Sender::Outside(party) => party,
        };
        Some(FragmentKey {
            vnet,
            origin,
            source: inner.source,
            destination: inner.destination,
            protocol: fragment.protocol,
            identification: fragment.identification,
        })
    }

    /// Steps 7 and 10.
    fn ask(
        &mut self,
        endpoint: Endpoint<'p>,
        direction: Direction,
        shard: &mut Shard,
        plans: Plans,
    ) -> Result<Plan, Reason> {
        if plans.first.is_some() || !endpoint.has_group() {
            flow::note(self.trace, direction, || NO_GROUP.to_owned());
            return Ok(Plan::Nothing);
        }
        let (inner, packet, now) = (&self.arrival.inner, self.packet, self.now);
        let asked = Asked { inner, packet, direction, now, pending: plans.source, quoted: self.quoted };
        let names = &self.program.names;
        let said = flow::ask(&endpoint, asked, shard, self.occupancy, names, self.trace);
        self.outcome.rule = said.rule;
        if said.flow == FlowState::Established {
            self.outcome.flow = FlowState::Established;
        }
        match said.refused {
            Some(reason) => Err(reason),
            None => Ok(said.plan),
        }
    }

    /// Step 8.
    fn route(&mut self, index: u32, vnet: &'p Vnet, sender: Sender<'p>) -> Result<Hop, Reason> {
        let destination = self.arrival.inner.destination;
        self.trace.keep(|facts| {
            facts.routed_in = match sender {
                Sender::Endpoint(endpoint) => Some((vnet.id, endpoint.subnet.name.clone())),
                Sender::Site(_) => Some((vnet.id, GATEWAY_SUBNET.to_owned())),
                Sender::Internet(..) | Sender::Outside(_) => None,
            };
        });
        let fib: &Fib = match sender {
            Sender::Endpoint(endpoint) => &endpoint.subnet.fib,
            Sender::Site(_) => &vnet.gateway_fib,
            Sender::Internet(..) | Sender::Outside(_) => {
                let range = own_range(self.program, index, destination).ok_or(Reason::NoRoute)?;
                self.outcome.route = Some((NextHopType::VnetLocal, range));
                self.trace.note(8, "route", || format!("{range} of the VNet itself"));
                return Ok(Hop::Local);
            }
        };
        let route: &FibRoute = if is_platform(destination) {
            &fib.system_default
        } else {
            let number = fib.table.lookup(destination).ok_or(Reason::NoRoute)?;
            fib.routes.get(number as usize).ok_or(Reason::NoRoute)?
        };
        self.outcome.route = Some((route.next_hop_type, route.prefix));
        self.trace.keep(|facts| {
            facts.user_defined = route.source == RouteSource::User;
            if let Hop::Appliance { address, .. } = route.hop {
                facts.next_hop_ip = Some(address);
            }
        });
        self.trace.note(8, "route", || {
            let name = route.name.as_deref().map_or(String::new(), |n| format!(" ({n})"));
            let (source, kind) = (route.source.name(), route.next_hop_type.name());
            let next = match route.hop {
                Hop::Appliance { address, .. } => format!(" {address}"),
                _ => String::new(),
            };
            format!("{} {kind}{next}, source {source}{name}", route.prefix)
        });
        if route.hop == Hop::None { Err(Reason::RouteNone) } else { Ok(route.hop) }
    }

    /// Step 9.
    fn destination(
        &mut self,
        index: u32,
        vnet: &'p Vnet,
        sender: Sender<'p>,
        hop: Hop,
    ) -> Result<Way<'p>, Reason> {
        let destination = self.arrival.inner.destination;
        match hop {
            Hop::Local => self.deliver(index, vnet.place(destination), destination, 0),
            Hop::Peer { vnet: peer, allow_forwarded } => {
                let place = self.program.vnets[peer as usize].place(destination);
                let way = self.deliver(peer, place, destination, 0)?;
                self.check_forwarded(index, sender, allow_forwarded)?;
                Ok(way)
            }
            Hop::Appliance { address, place, refuses_forwarded, party } => {
                let (home, place) = place.ok_or(Reason::NoHost)?;
                let party = if address == destination { 0 } else { party };
                let way = self.deliver(home, place, address, party)?;
                self.check_forwarded(index, sender, !refuses_forwarded)?;
                let nic = self.program.vnets[home as usize].nic(place.nic);
                let own = self.program.vnets[home as usize].place(destination).nic;
                if nic.is_some_and(|n| !n.forwarding) && (own.is_none() || own != place.nic) {
                    return Err(Reason::ApplianceNotForwarding);
                }
                Ok(way)
            }
            Hop::Ways(ways) => self.gateway(vnet, Some(ways)),
            Hop::Vpn => self.gateway(vnet, vnet.vpn.lookup(destination).or(vnet.vpn_default)),
            Hop::Services => match self.program.services_port {
                Some(port) => Ok(self.plain(port)),
                None => self.internet(vnet),
            },
            Hop::Internet => self.internet(vnet),
            Hop::None => Err(Reason::RouteNone),
        }
    }

    /// To the host that carries an address of a VNet.
    fn deliver(&mut self, index: u32, place: Place, address: IpAddr, party: u32) -> Result<Way<'p>, Reason> {
        let vnet = &self.program.vnets[index as usize];
        let subnet = place.subnet.and_then(|s| vnet.subnets.get(usize::from(s))).ok_or(Reason::NoHost)?;
        let host = place.host.and_then(|h| vnet.hosts.get(h as usize)).ok_or(Reason::NoHost)?;
        let tunnel = vnet.fabric.ok_or(Reason::NoHost)?;
        let nic = vnet.nic(place.nic);
        let mac = nic.and_then(|n| n.mac);
        self.trace.note(9, "destination", || {
            let nic = nic.map_or("no NIC resource".to_owned(), |n| format!("NIC {}", n.name));
            let vnet = self.program.names.vnet_name(vnet.id);
            format!("{address} in {vnet}/{} ({nic}) on host {host}", subnet.name)
        });
        let number = vnet.id;
        self.trace.keep(|facts| facts.delivered = Some((number, address)));
        Ok(Way {
            sending: Sending {
                port: self.program.tunnels[tunnel as usize].port,
                tunnel: Some((tunnel, *host)),
                inner_mac: mac.unwrap_or_else(|| crate::wire::ethernet::mac_of(address)),
            },
            endpoint: Some(Endpoint { vnet, subnet, nic, party }),
        })
    }

    /// A packet that did not begin in the sending VNet may enter another one only if that one's peering allows it.
    fn check_forwarded(&self, index: u32, sender: Sender<'p>, allowed: bool) -> Result<(), Reason> {
        let from_gateway = matches!(sender, Sender::Site(_));
        if allowed || from_gateway || own_range(self.program, index, self.arrival.inner.source).is_some() {
            return Ok(());
        }
        Err(Reason::PeeringForwarding)
    }

    /// By one of equal ways, chosen per flow; fragments by what all pieces of a datagram share.
    fn gateway(&mut self, vnet: &Vnet, ways: Option<u32>) -> Result<Way<'p>, Reason> {
        let flow = self.flow_hash();
        let ways = ways.and_then(|w| vnet.ways.get(w as usize)).ok_or(Reason::GatewayDown)?;
        let chosen = ecmp::choose(flow, ways.ways.iter().map(|w| w.0)).ok_or(Reason::GatewayDown)?;
        let (_, tunnel) = ways.ways[chosen];
        self.through(tunnel, ways.ways.len()).ok_or(Reason::GatewayDown)
    }

    fn flow_hash(&self) -> u64 {
        let inner = &self.arrival.inner;
        let rest = inner.fragment.map_or(inner.ports_as_number(), |f| f.identification);
        let protocol = inner.fragment.map_or(inner.protocol, |f| f.protocol);
        ecmp::flow_hash(inner.source, inner.destination, protocol, rest)
    }

    /// By a tunnel with one remote, one of so many equal ones.
    fn through(&mut self, tunnel: u32, equal: usize) -> Option<Way<'p>> {
        let end = &self.program.tunnels[tunnel as usize];
        self.trace.note(9, "destination", || match equal {
            0 | 1 => self.program.leads_to(tunnel),
            n => format!("{}, chosen by flow among {n} equal ways", self.program.leads_to(tunnel)),
        });
        let sending = Sending {
            port: end.port,
            tunnel: Some((tunnel, end.remote?)),
            inner_mac: crate::wire::ethernet::mac_of(self.arrival.inner.destination),
        };
        Some(Way { sending, endpoint: None })
    }

    fn internet(&mut self, vnet: &Vnet) -> Result<Way<'p>, Reason> {
        match vnet.internet {
            InternetWay::Tunnel(tunnel) => self.through(tunnel, 1).ok_or(Reason::GatewayDown),
            InternetWay::Down => Err(Reason::GatewayDown),
            InternetWay::Plain => {
                self.program.internet_port.map(|p| self.plain(p)).ok_or(Reason::GatewayDown)
            }
        }
    }

    fn plain(&mut self, port: u16) -> Way<'p> {
        self.trace.note(9, "destination", || match self.program.ports[usize::from(port)].role {
            Role::Services => "public services".to_owned(),
            _ => "the Internet".to_owned(),
        });
        Way { sending: Sending { port, tunnel: None, inner_mac: [0; 6] }, endpoint: None }
    }

    /// Step 13: writes the frames.
    fn egress(&mut self, sending: Sending, leaving: Leaving, shard: &mut Shard, out: &mut Output) {
        let Leaving { ttl, tos, room } = leaving;
        let key = |t: u32| self.program.tunnels[t as usize].wire_key;
        self.outcome.verdict = Verdict::Forward;
        self.outcome.egress =
            Some(Egress { port: sending.port, tunnel: sending.tunnel.map(|(t, remote)| (remote, key(t))) });
        let first = out.frames.len();
        out.send(self.program, sending, &self.arrival.inner, self.packet, tos, ttl, room);
        let pieces = out.frames.len() - first;
        if let Some(link) = self.link_of(sending) {
            let (bytes, packets) = Output::sent(&self.arrival.inner, self.packet, room);
            shard.meters.count_sent(link, packets, bytes);
        }
        self.trace.keep(|facts| facts.tunnel = sending.tunnel.map(|(t, _)| t));
        self.trace.note(13, "egress", || {
            let port = &self.program.ports[usize::from(sending.port)].name;
            let to = match sending.tunnel {
                Some((t, remote)) => {
                    let nv = if sending.is_nvgre(self.program) { "NV" } else { "" };
                    format!("in {nv}GRE to {remote}, key {:#x}", key(t))
                }
                None => "plain".to_owned(),
            };
            let cut = if pieces > 1 { format!(", in {pieces} fragments") } else { String::new() };
            format!("port {port}, {to}{cut}")
        });
    }

    /// Ends the packet and writes the ICMP error about it, to the tunnel and outer source it came from.
    fn ended_with(
        &mut self,
        reason: Reason,
        error: icmp::Error,
        sender: Sender<'p>,
        out: &mut Output,
    ) -> Ended {
        let inner = &self.arrival.inner;
        let ipv4 = inner.source.is_ipv4();
        let about_error = inner.is_icmp() && icmp::is_error_or_redirect(ipv4, inner.icmp_type);
        let port = self.program.ports.get(usize::from(self.arrival.port)).map(|p| p.address);
        let (source, of) = match sender {
            Sender::Endpoint(endpoint) => {
                let owner = endpoint.owner();
                let address = (owner.endpoint == 0).then_some(inner.source);
                let prefixes = || endpoint.subnet.prefixes.iter().filter(|p| p.is_ipv4() == ipv4);
                let nearest = prefixes().find(|p| p.contains(inner.source)).or_else(|| prefixes().next());
                let gateway = nearest.map(Prefix::first_usable);
                (gateway, ErrorsOf { vnet: owner.vnet, party: owner.endpoint, address })
            }
            Sender::Site(party) | Sender::Outside(party) => {
                (port, ErrorsOf { vnet: 0, party, address: None })
            }
            Sender::Internet(vnet, party) => (port, ErrorsOf { vnet, party, address: None }),
        };
        let source = source.filter(|s| s.is_ipv4() == ipv4);
        let Some(source) = source.filter(|_| !about_error && !inner.is_later_fragment()) else {
            return reason.into();
        };
        let sending = Sending {
            port: self.arrival.port,
            tunnel: match self.arrival.via {
                Via::Tunnel(tunnel, remote) => Some((tunnel, remote)),
                Via::Plain => None,
            },
            inner_mac: self.arrival.inner_mac,
        };
        out.send_error(self.program, sending, error, source, inner.source, self.packet);
        let generated = match error {
            icmp::Error::TimeExceeded => Generated::TimeExceeded,
            icmp::Error::TooBig { .. } if ipv4 => Generated::FragmentationNeeded,
            icmp::Error::TooBig { .. } => Generated::PacketTooBig,
        };
        Ended { reason, error: Some((generated, of)) }
    }
}
