//! Traffic for a configuration: sensible conversations, and everything that can be wrong with a packet.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use clearway::model::{Encapsulation, Link, Model, Sequence, TunnelTo};
use clearway::types::{Nanos, SECOND};

use super::Rng;
use super::conversation::{Conversation, Entry, Party, World};
use super::faults;
use super::frames::{Carrier, Ip, frame, icmp, tcp, udp};
use crate::oracle::bytes::u16_at;

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub port: String,
    pub time: Nanos,
    pub bytes: Vec<u8>,
    pub original_len: u32,
}

/// When the traffic begins.
pub const START: Nanos = 1_700_000_000 * SECOND;

/// A stream of packets. The configuration may change between two packets.
pub struct Traffic {
    rng: Rng,
    world: World,
    now: Nanos,
    conversations: Vec<Conversation>,
    /// Packets that wait to be sent: fragments, and what appliances send on.
    queue: VecDeque<(Party, Ip)>,
    /// What was sent lately, to be quoted, repeated and forged.
    recent: Vec<(Party, Ip)>,
    /// The last sequence number of a tunnel and outer source.
    sequences: BTreeMap<(usize, usize, IpAddr), u32>,
    /// Packets of a storm of expiring packets that are still to come.
    storm: usize,
    stormy: Option<(Party, Ip)>,
    storms: bool,
    /// Packets of a burst of large packets over slow links, and how many are still to come.
    burst: Vec<(Party, Ip)>,
    bursting: usize,
    bursts: bool,
}

impl Traffic {
    pub fn new(seed: u64, model: &Model) -> Traffic {
        let mut rng = Rng::new(seed ^ 0x7261_6666);
        let world = World::new(model, &mut rng);
        let storms = rng.percent(8);
        let bursts = rng.percent(35);
        Traffic {
            rng,
            world,
            now: START,
            conversations: Vec::new(),
            queue: VecDeque::new(),
            recent: Vec::new(),
            sequences: BTreeMap::new(),
            storm: 0,
            stormy: None,
            storms,
            burst: Vec::new(),
            bursting: 0,
            bursts,
        }
    }

    /// Another configuration is in force from now on. What is under way goes on, as far as its ends still exist.
    pub fn change(&mut self, old: &Model, new: &Model) {
        self.world = World::new(new, &mut self.rng);
        let moved = |p: &Party| p.entry.moved(old, new).map(|entry| Party { entry, ..*p });
        let moved_all = |pairs: Vec<(Party, Ip)>| -> Vec<(Party, Ip)> {
            pairs.into_iter().filter_map(|(p, ip)| Some((moved(&p)?, ip))).collect()
        };
        self.recent = moved_all(std::mem::take(&mut self.recent));
        self.queue = moved_all(std::mem::take(&mut self.queue).into()).into();
        self.stormy = moved_all(self.stormy.take().into_iter().collect()).pop();
        self.storm = if self.stormy.is_some() { self.storm } else { 0 };
        self.burst = moved_all(std::mem::take(&mut self.burst));
        self.bursting = if self.burst.is_empty() { 0 } else { self.bursting };
        self.conversations.retain_mut(|c| {
            let (Some(a), Some(b)) = (moved(&c.a), moved(&c.b)) else { return false };
            (c.a, c.b, c.via) = (a, b, c.via.and_then(|v| moved(&v)));
            true
        });
        let tunnel = |c: usize, t: usize| match (Entry::Tunnel { customer: c, tunnel: t }).moved(old, new) {
            Some(Entry::Tunnel { customer, tunnel }) => Some((customer, tunnel)),
            _ => None,
        };
        let sequences = std::mem::take(&mut self.sequences).into_iter();
        self.sequences = sequences
            .filter_map(|((c, t, source), last)| tunnel(c, t).map(|(c, t)| ((c, t, source), last)))
            .collect();
    }

    /// The next packet.
    pub fn next(&mut self, model: &Model) -> Packet {
        let time = self.tick();
        for _ in 0..50 {
            if let Some((party, ip)) = self.next_inner(model)
                && let Some(mut packet) = self.carry(model, &party, &ip)
            {
                packet.time = time;
                return packet;
            }
        }
        // A configuration in which nobody can talk: noise.
        let port = self.rng.pick(&model.ports).name.clone();
        let bytes = frame(&[], 0x0800, &self.rng.bytes(60), 0);
        Packet { port, time, original_len: bytes.len() as u32, bytes }
    }

    /// The time of the next packet: mostly soon, sometimes at the very edge of a timeout, sometimes back in time.
    fn tick(&mut self) -> Nanos {
        let rng = &mut self.rng;
        if self.storm > 0 {
            self.now += rng.below(9_000_000) as Nanos;
            return self.now;
        }
        if self.bursting > 0 {
            self.now += if rng.percent(70) { 0 } else { rng.below(100_000) as Nanos };
            return self.now;
        }
        let edge = |rng: &mut Rng, seconds: u64| seconds * SECOND + rng.below(5) as u64 - 2;
        let step = match rng.below(200) {
            0..=149 => rng.below(20_000_000) as u64,
            150..=179 => 0,
            180..=185 => rng.below(1_000_000_000) as u64,
            186..=187 => edge(rng, 10),
            188 => edge(rng, 9),
            189 => edge(rng, 30),
            190 => edge(rng, 29),
            191 => edge(rng, 240),
            192 => edge(rng, 300),
            193 => edge(rng, 1),
            194 => return self.now.saturating_sub(rng.below(3_000_000_000) as u64),
            195 => return self.now - 1,
            _ => rng.below(200_000_000) as u64,
        };
        self.now += step;
        self.now
    }

    /// Who sends what next.
    fn next_inner(&mut self, model: &Model) -> Option<(Party, Ip)> {
        if self.storm > 0 {
            self.storm -= 1;
            return self.stormy.clone();
        }
        if self.bursts && self.rng.below(40) == 0 {
            self.bursts = false;
            self.begin_burst(model);
        }
        if self.bursting > 0 {
            return self.large();
        }
        let datagrams: Vec<&(Party, Ip)> = self.recent.iter().filter(|(_, ip)| ip.protocol == 17).collect();
        if self.storms && !datagrams.is_empty() && self.rng.below(100) == 0 {
            let (party, mut ip) = (*self.rng.pick(&datagrams)).clone();
            ip.ttl = 1;
            self.stormy = Some((party, ip));
            self.storm = 130;
            self.storms = false;
        }
        if !self.queue.is_empty() && self.rng.percent(85) {
            return self.queue.pop_front();
        }
        match self.rng.below(100) {
            0..=6 => self.icmp_error(),
            7..=9 => self.forge(),
            10..=11 => self.greet(),
            _ => self.converse(model),
        }
    }

    /// The next packet of a conversation, or the first of a new one.
    fn converse(&mut self, model: &Model) -> Option<(Party, Ip)> {
        if self.conversations.len() < 10 && (self.conversations.is_empty() || self.rng.percent(15)) {
            self.conversations.push(Conversation::new(&self.world, &mut self.rng)?);
        }
        let n = if self.rng.percent(60) {
            self.conversations.len() - 1
        } else {
            self.rng.below(self.conversations.len())
        };
        let size = self.size(model);
        let conversation = &mut self.conversations[n];
        let (party, mut ip) = conversation.next(&mut self.rng, size);
        let via = conversation.via.filter(|v| v.address.is_ipv4() == ip.is_v4());
        if conversation.step > 14 || self.rng.percent(2) {
            self.conversations.remove(n);
        }
        faults::vary(&mut self.rng, &mut ip);
        let mut pieces = vec![ip.clone()];
        if self.rng.percent(7) && ip.payload.len() > 8 {
            pieces = self.fragment(&mut ip);
        }
        self.recent.push((party, ip));
        if self.recent.len() > 12 {
            self.recent.remove(0);
        }
        for piece in pieces {
            self.queue.push_back((party, piece.clone()));
            // The appliance sends on what it was sent, most of the time.
            if let Some(via) = via
                && self.rng.percent(90)
            {
                let passed = Ip { ttl: piece.ttl.saturating_sub(1), ..piece };
                self.queue.push_back((via, passed));
            }
        }
        self.queue.pop_front()
    }

    /// Data bytes: mostly few, sometimes about as much as some way out carries.
    fn size(&mut self, model: &Model) -> usize {
        if self.rng.percent(80) {
            return self.rng.below(64);
        }
        let mtu = self.rng.pick(&model.ports).mtu as usize;
        let overhead = *self.rng.pick(&[0, 28, 32, 42, 46, 48, 52, 62]);
        let headers = *self.rng.pick(&[20, 28, 40, 48, 60, 68]);
        let size = (mtu + self.rng.below(24)).saturating_sub(overhead + headers + 12);
        size.min(1700)
    }

    /// A packet in fragments, in order or not, whole or not.
    fn fragment(&mut self, ip: &mut Ip) -> Vec<Ip> {
        let rng = &mut self.rng;
        ip.identification = rng.range(1, 4) as u32;
        ip.dont_fragment = rng.percent(5);
        if rng.percent(25) {
            ip.payload.resize(rng.range(1400, 4400), 0x66);
        }
        let sizes = [8, 16, 24, 32, 512, 1000, 1480, 1800];
        let size = (*rng.pick(&sizes)).max(ip.payload.len() / 4 / 8 * 8);
        let mut pieces = ip.fragments(size);
        match rng.below(10) {
            0 => pieces.reverse(),
            1 => {
                pieces.remove(0);
            }
            2 => {
                let n = rng.below(pieces.len());
                pieces.remove(n);
            }
            3 => {
                let again = rng.pick(&pieces).clone();
                pieces.push(again);
            }
            4 => {
                let at = rng.below(pieces.len());
                pieces.rotate_left(at);
            }
            5 => {
                if let Some((_, more)) = pieces[0].fragment {
                    pieces[0].fragment = Some((*rng.pick(&[1, 8191, 8190, 7000]), more));
                }
            }
            _ => {}
        }
        pieces
    }

    /// An ICMP error about something that was sent lately, true or not.
    fn icmp_error(&mut self) -> Option<(Party, Ip)> {
        let (sender, mut quoted) = self.recent.get(self.rng.below(self.recent.len()))?.clone();
        let rng = &mut self.rng;
        let v4 = quoted.is_v4();
        let to = quoted.source;
        if rng.percent(10) {
            quoted.fragment = Some((rng.below(2) as u16, true));
        }
        if rng.percent(8) {
            std::mem::swap(&mut quoted.source, &mut quoted.destination);
        }
        let mut quote = quoted.bytes();
        if rng.percent(15) {
            let at = rng.below(quote.len().min(48));
            quote[at] ^= 1 << rng.below(8);
        }
        let keep = *rng.pick(&[quote.len(), 28, 48, 27, 47, 20, 64, 548]);
        quote.truncate(keep);
        let icmp_type = if v4 {
            *rng.pick(&[3, 3, 11, 11, 4, 12, 5, 3])
        } else {
            *rng.pick(&[1, 2, 3, 4, 1, 3, 100, 137])
        };
        let protocol = if v4 { 1 } else { 58 };
        // From the one it was sent to, or from somebody on the way: outside, if a peering leads there.
        let public = self.world.public.iter().any(|p| p.entry == sender.entry);
        let on_the_way = if public { &self.world.outside } else { &self.world.forwarders };
        let answers: Vec<Party> = self
            .recent
            .iter()
            .map(|(party, _)| *party)
            .filter(|p| p.address == quoted.destination)
            .chain(on_the_way.iter().copied())
            .filter(|p| p.address.is_ipv4() == v4)
            .collect();
        let from = match rng.pick_some(&answers) {
            Some(party) if rng.percent(85) => *party,
            _ => Party { address: quoted.destination, ..sender },
        };
        let mut error = Ip::new(from.address, to, protocol, icmp(icmp_type, 0, 0, &quote));
        if rng.percent(10) {
            error.ttl = 1;
        }
        Some((from, error))
    }

    /// A packet that somebody else sent, from a place where it does not belong.
    fn forge(&mut self) -> Option<(Party, Ip)> {
        let (party, ip) = self.recent.get(self.rng.below(self.recent.len()))?.clone();
        let rng = &mut self.rng;
        let other = match rng.below(5) {
            3 => rng.pick_some(&self.world.public).copied(),
            0 => rng.pick_some(&self.world.gateways).copied(),
            1 => rng.pick_some(&self.world.outside).copied(),
            2 => rng.pick_some(&self.world.endpoints).copied(),
            _ => None,
        };
        match other {
            // Somebody's packet from elsewhere, or with somebody else's source.
            Some(other) if rng.percent(50) => Some((Party { address: party.address, ..other }, ip)),
            Some(other) if other.address.is_ipv4() == ip.is_v4() => {
                Some((party, Ip { source: other.address, ..ip }))
            }
            _ => Some((party, ip)),
        }
    }

    /// Something from one end of a circuit link to the other: of the same link mostly.
    fn greet(&mut self) -> Option<(Party, Ip)> {
        let rng = &mut self.rng;
        let &(entry, from, to) = rng.pick_some(&self.world.links)?;
        let others: Vec<_> = self.world.links.iter().filter(|l| l.1.is_ipv4() == from.is_ipv4()).collect();
        let other = **rng.pick_some(&others)?;
        let (from, to) = match rng.below(8) {
            0 => (other.1, to),
            1 => (from, other.2),
            2 => (to, from),
            _ => (from, to),
        };
        let (protocol, payload) = match rng.below(3) {
            0 => (6, tcp((40_000, 179), 2, &[])),
            1 => (17, udp((49_152, 3784), &[0x20; 24])),
            _ if from.is_ipv4() => (1, icmp(8, 0, 1, &[0; 16])),
            _ => (58, icmp(128, 0, 1, &[0; 16])),
        };
        let mut ip = Ip::new(from, to, protocol, payload);
        ip.ttl = *rng.pick(&[255, 64, 1]);
        Some((Party { entry, address: from }, ip))
    }

    /// A burst over one of the slow links: datagrams from there, to there, or both.
    pub fn begin_burst(&mut self, model: &Model) {
        let slow = |party: &&Party| -> Option<(usize, usize, Link)> {
            let Entry::Tunnel { customer, tunnel } = party.entry else { return None };
            let TunnelTo::Link { circuit, link, .. } = model.customers[customer].tunnels[tunnel].to else {
                return None;
            };
            let mbps = model.customers[customer].circuits[circuit].bandwidth_mbps;
            mbps.is_some_and(|m| m <= 50).then_some((customer, circuit, link))
        };
        let rng = &mut self.rng;
        let behind = self.world.gateways.iter().chain(&self.world.public).filter(|p| slow(p).is_some());
        let behind: Vec<&Party> = behind.collect();
        let Some(first) = rng.pick_some(&behind).map(slow) else { return };
        let same: Vec<&Party> = behind.into_iter().filter(|p| slow(p) == first).collect();
        self.burst.clear();
        let datagram =
            |from: Party, to: IpAddr, ports| (from, Ip::new(from.address, to, 17, udp(ports, &[])));
        let direction = rng.below(4);
        // What is to go out by one link is one flow.
        for _ in 0..if direction < 2 { 1 } else { rng.range(2, 4) } {
            let here = **rng.pick(&same);
            let Some(there) = self.world.partner(rng, &here) else { continue };
            let ports = (40_000 + rng.below(3) as u16, 443);
            if direction > 1 {
                self.burst.push(datagram(here, there.address, ports));
            }
            if direction < 3 {
                self.burst.push(datagram(there, here.address, (ports.1, ports.0)));
            }
        }
        if direction == 0 {
            // Out by something that was sent lately, and mostly passed.
            let there = |ip: &Ip| same.iter().any(|p| p.address == ip.destination);
            let sent: Vec<&(Party, Ip)> = self.recent.iter().filter(|(_, ip)| there(ip)).collect();
            if let Some((from, ip)) = rng.pick_some(&sent) {
                let from = Party { address: ip.source, ..*from };
                self.burst = vec![datagram(from, ip.destination, (40_000, 443))];
            }
        }
        if !self.burst.is_empty() {
            self.bursting = if direction == 2 { 190 } else { rng.range(105, 140) };
        }
    }

    /// A packet of the burst, mostly as large as frames of 9,000 bytes carry.
    fn large(&mut self) -> Option<(Party, Ip)> {
        self.bursting -= 1;
        let rng = &mut self.rng;
        let (party, mut ip) = rng.pick_some(&self.burst)?.clone();
        let size = if rng.percent(93) { rng.range(8_700, 8_850) } else { rng.below(1_500) };
        let ports = (u16_at(&ip.payload, 0), u16_at(&ip.payload, 2));
        ip.payload = udp(ports, &vec![0x5a; size]);
        ip.identification = u32::from(rng.next() as u16);
        Some((party, ip))
    }

    /// The frame of a packet that this party sends.
    fn carry(&mut self, model: &Model, party: &Party, ip: &Ip) -> Option<Packet> {
        let mut ip = ip.clone();
        faults::break_inner(&mut self.rng, model, party, &mut ip);
        let mut inner = ip.bytes();
        faults::break_inner_bytes(&mut self.rng, &mut inner);
        let (port, mut packet) = match party.entry {
            Entry::Plain { port } => (port, inner),
            Entry::Fabric { customer, vnet } => {
                let owner = &model.customers[customer];
                let tunnel = owner.tunnels.iter().position(|t| t.to == TunnelTo::Vnet(vnet))?;
                let hosts: Vec<IpAddr> =
                    owner.hosts.iter().filter(|h| h.vnet == vnet).map(|h| h.address).collect();
                let home = crate::oracle::host_of(owner, vnet, party.address);
                let source = home.or_else(|| self.rng.pick_some(&hosts).copied())?;
                self.encapsulate(model, (customer, tunnel), source, party, &ip, &inner)
            }
            Entry::Tunnel { customer, tunnel } => {
                let source = model.customers[customer].tunnels[tunnel].remote?;
                self.encapsulate(model, (customer, tunnel), source, party, &ip, &inner)
            }
        };
        let rng = &mut self.rng;
        faults::break_outer_bytes(rng, &mut packet);
        let ethertype = if packet.first().is_some_and(|b| b >> 4 == 6) { 0x86dd } else { 0x0800 };
        let (tags, ethertype) = faults::tags(rng, ethertype);
        let padding = if rng.percent(10) { rng.below(30) } else { 0 };
        let mut bytes = frame(&tags, ethertype, &packet, padding);
        let original_len = faults::break_frame(rng, &mut bytes);
        let port = if rng.below(150) == 0 { rng.below(model.ports.len()) } else { port };
        Some(Packet { port: model.ports[port].name.clone(), time: 0, bytes, original_len })
    }

    /// Port and delivery packet.
    fn encapsulate(
        &mut self,
        model: &Model,
        (customer, index): (usize, usize),
        source: IpAddr,
        party: &Party,
        ip: &Ip,
        inner: &[u8],
    ) -> (usize, Vec<u8>) {
        let tunnel = &model.customers[customer].tunnels[index];
        let port = &model.ports[tunnel.port];
        let nvgre = tunnel.encapsulation == Encapsulation::Nvgre;
        let ethertype = if ip.is_v4() { 0x0800 } else { 0x86dd };
        let rng = &mut self.rng;
        let mac = model.customers[customer]
            .nics
            .iter()
            .find(|n| n.addresses.contains(&party.address))
            .map(|n| n.mac.unwrap_or(crate::oracle::made_mac(party.address)));
        let mac = mac.filter(|_| rng.percent(93)).unwrap_or([2, 0, 9, 9, 9, rng.below(3) as u8]);
        let key = if nvgre { tunnel.key << 8 | rng.below(256) as u32 } else { tunnel.key };
        let mut carrier = Carrier {
            source,
            destination: port.address,
            class: if rng.percent(85) { ip.class } else { rng.next() as u8 },
            options: Vec::new(),
            fragment: 0,
            ip_protocol: 47,
            key: Some(key),
            sequence: None,
            checksum: (!nvgre && rng.percent(6)).then_some(true),
            bits: 0,
            protocol: if nvgre { 0x6558 } else { ethertype },
            inner_ethernet: nvgre.then_some(([2, 0, 0, 0, 0, 9], mac, ethertype)),
            padding: if rng.percent(5) { rng.below(20) } else { 0 },
        };
        if !nvgre && (tunnel.sequence == Sequence::Strict && rng.percent(85) || rng.percent(3)) {
            let last = self.sequences.entry((customer, index, source)).or_insert(u32::MAX);
            let jump: u32 =
                *rng.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5, 0, u32::MAX, 1 << 31, (1 << 31) + 1]);
            let number = last.wrapping_add(jump);
            carrier.sequence = Some(number);
            if (1..=1 << 31).contains(&jump) {
                *last = number;
            }
        }
        faults::break_carrier(rng, model, tunnel.port, &mut carrier);
        (tunnel.port, carrier.bytes(inner))
    }
}
