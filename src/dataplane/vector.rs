//! A vector of packets on its way through the first stages: each field of all of them in a column, so that what is asked
//! of every packet is asked of eight or sixteen at a time.
//!
//! These are plain loops over columns, which the compiler turns into the widest instructions that the token stands for.

use super::adjacency::Adjacencies;
use super::path::Input;
use super::usual::{self, Leaving, Listens, Usual};
use crate::compile::origins::{Origin, OriginKey};
use crate::compile::{PlainOwner, Program};
use crate::sys::{self, Blocks, Turned, Wide};
use crate::table::records::{Kind, NONE, REVERSED, Record, Records, Stored};
use crate::types::Nanos;
use crate::wire::tcp_flags;

/// Packets that go through the stages together: as many as are turned at once. More, with those of the vector behind them,
/// do not fit into the nearest cache.
pub const VECTOR: usize = 16;

/// How far ahead of the packets that are parsed frames are fetched.
const AHEAD: usize = VECTOR;

/// A field of every packet.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Column([u32; VECTOR]);

const EMPTY: Column = Column([0; VECTOR]);

/// The fields of every packet. Of one that is not of the usual shape only `origin` and `quick` mean something: they are 0.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Vector {
    source: Column,
    destination: Column,
    /// Source port << 16 | destination port; of an echo its identifier twice.
    ports: Column,
    /// The first and the third word of the inner header, as they leave.
    first: Column,
    third: Column,
    /// TCP's flags; else 0.
    flags: Column,
    /// Where the inner packet begins among the bytes of the batch.
    from: Column,
    /// Where it came from, as [`OriginKey`] has it, and where that stands among the origins.
    key: Column,
    remote: Column,
    port: Column,
    place: Column,
    /// The number of its origin; 0 if that is not known, or the packet not of the usual shape.
    origin: Column,
    /// What its flow is hashed with.
    scope: Column,
    /// The circuit link that it came by, as [`Origin::link`] has it.
    link: Column,
    /// The hash of its flow, and where that stands in the index.
    hash: Column,
    bucket: Column,
    /// Perhaps its record.
    slot: Column,
    /// [`REVERSED`] if the record is that of its receiver, else 0.
    reversed: Column,
    /// What the record says if it is the packet's: local address | remote address << 32, local above remote port, and what
    /// [`Kind`] holds.
    addresses: [u64; VECTOR],
    own_ports: Column,
    mask: Column,
    wanted: Column,
    /// Not 0: it may take the way that a record keeps, for it changes nothing of the record but when that was used; from
    /// the fourth stage on: it takes it.
    quick: Column,
    /// How many packets there are.
    count: usize,
}

impl Vector {
    /// One without packets.
    pub const EMPTY: Vector = Vector {
        source: EMPTY,
        destination: EMPTY,
        ports: EMPTY,
        first: EMPTY,
        third: EMPTY,
        flags: EMPTY,
        from: EMPTY,
        key: EMPTY,
        remote: EMPTY,
        port: EMPTY,
        place: EMPTY,
        origin: EMPTY,
        scope: EMPTY,
        link: EMPTY,
        hash: EMPTY,
        bucket: EMPTY,
        slot: EMPTY,
        reversed: EMPTY,
        addresses: [0; VECTOR],
        own_ports: EMPTY,
        mask: EMPTY,
        wanted: EMPTY,
        quick: EMPTY,
        count: 0,
    };

    /// The headers of a packet of the usual shape.
    #[inline(always)]
    pub fn packet(&self, lane: usize) -> Usual {
        let lane = lane % VECTOR;
        Usual {
            addresses: u64::from(self.source.0[lane]) << 32 | u64::from(self.destination.0[lane]),
            ports: self.ports.0[lane],
            from: self.from.0[lane],
            first: self.first.0[lane],
            third: self.third.0[lane],
            tcp_flags: self.flags.0[lane] as u8,
        }
    }

    /// What is needed to send a packet.
    #[inline(always)]
    pub fn leaving(&self, lane: usize) -> Leaving {
        let lane = lane % VECTOR;
        Leaving { from: self.from.0[lane], first: self.first.0[lane], third: self.third.0[lane] }
    }

    /// True if the packet is of the usual shape and from a known origin.
    #[inline(always)]
    pub fn is_usual(&self, lane: usize) -> bool {
        self.origin(lane) != 0
    }

    /// The number of a packet's origin.
    #[inline(always)]
    pub fn origin(&self, lane: usize) -> u32 {
        self.origin.0[lane % VECTOR]
    }

    /// What is known of a packet's origin.
    #[inline(always)]
    pub fn origin_of<'p>(&self, program: &'p Program, lane: usize) -> &'p Origin {
        program.origins.at(self.place.0[lane % VECTOR], self.key(lane % VECTOR))
    }

    #[inline(always)]
    fn key(&self, lane: usize) -> OriginKey {
        OriginKey::of(self.key.0[lane], self.remote.0[lane], self.port.0[lane])
    }

    /// The circuit link that the packet came by, as [`Origin::link`] has it; 0: by none.
    #[inline(always)]
    pub fn link(&self, lane: usize) -> u32 {
        self.link.0[lane % VECTOR]
    }

    /// The hash of a packet's flow, as its sender's record has it.
    #[inline(always)]
    pub fn hash(&self, lane: usize) -> u32 {
        self.hash.0[lane % VECTOR]
    }

    /// True if a packet takes the way that a record keeps.
    #[inline(always)]
    pub fn has_way(&self, lane: usize) -> bool {
        self.quick.0[lane % VECTOR] != 0
    }

    /// The slot of that record, and if it is that of the packet's receiver.
    #[inline(always)]
    pub fn record(&self, lane: usize) -> (u32, bool) {
        (self.slot.0[lane % VECTOR], self.is_reversed(lane))
    }

    #[inline(always)]
    fn is_reversed(&self, lane: usize) -> bool {
        self.reversed.0[lane % VECTOR] != 0
    }

    /// True if the record keeps the way of packets from where this one comes, and is its own and live.
    #[inline(always)]
    pub fn holds(&self, lane: usize, record: &Record, now: Nanos) -> bool {
        let lane = lane % VECTOR;
        let kind = Kind { mask: self.mask.0[lane], wanted: self.wanted.0[lane] };
        record.way(self.is_reversed(lane)).arrival == self.origin.0[lane]
            && record.is_live_ipv4(self.addresses[lane], self.own_ports.0[lane], kind)
            && record.fresh(now)
    }

    /// The first stage: the headers of the first of these frames, as many as there is room for.
    #[inline(always)]
    pub fn parse<W: Wide>(
        &mut self,
        wide: W,
        program: &Program,
        listens: &[Listens],
        bytes: &[u8],
        inputs: &[Input],
    ) {
        self.count = inputs.len().min(VECTOR);
        let mut blocks: Blocks<'_> = [&usual::NOTHING; VECTOR];
        let (mut carried, mut address) = ([0; VECTOR], [0; VECTOR]);
        for lane in 0..VECTOR {
            let Some(input) = inputs.get(lane) else { break };
            if let Some(later) = inputs.get(lane + AHEAD) {
                sys::prefetch_two(bytes, later.start as usize);
            }
            let Input { start, end, original, port, .. } = *input;
            if let Some(block) = usual::block(bytes, start) {
                blocks[lane] = block;
            }
            if let Some(listens) = listens.get(usize::from(port)) {
                carried[lane] = usual::carried(end.wrapping_sub(start), original) & listens.in_gre();
                address[lane] = listens.address();
            }
            self.port.0[lane] = u32::from(port);
            self.from.0[lane] = start.wrapping_add(usual::INNER_IN_GRE as u32);
        }
        let mut turned = Turned([[0; VECTOR]; usual::BLOCK / 4]);
        wide.turn(&blocks, &mut turned);
        let mask = program.origins.mask();
        let mut usual = 0;
        for lane in 0..VECTOR {
            let head = usual::Head::new(&turned, lane);
            let is_usual = head.is_usual(address[lane], carried[lane]);
            let (key, remote) = (head.key(), head.remote());
            let port = if is_usual { self.port.0[lane] } else { u32::MAX };
            self.source.0[lane] = head.source();
            self.destination.0[lane] = head.destination();
            self.ports.0[lane] = head.ports();
            self.first.0[lane] = head.first();
            self.third.0[lane] = head.third();
            self.flags.0[lane] = head.tcp_flags();
            self.key.0[lane] = key;
            self.remote.0[lane] = remote;
            self.port.0[lane] = port;
            self.place.0[lane] = OriginKey::of(key, remote, port).home() & mask;
            usual += u32::from(is_usual);
        }
        if usual as usize != self.count {
            self.parse_others(wide, program, listens, bytes, inputs);
        }
        for place in self.place.0.iter().take(self.count) {
            program.origins.prefetch(*place);
        }
    }

    /// Reads headers one by one, where not all are of the usual shape, in GRE, without congestion.
    #[inline(never)]
    fn parse_others<W: Wide>(
        &mut self,
        wide: W,
        program: &Program,
        listens: &[Listens],
        bytes: &[u8],
        inputs: &[Input],
    ) {
        for lane in 0..self.count.min(VECTOR) {
            let Some(&Input { start, end, original, port, .. }) = inputs.get(lane) else { break };
            if self.port.0[lane] != u32::MAX {
                continue;
            }
            let frame = usual::Received { bytes, start, length: end.wrapping_sub(start), original };
            let listens = listens.get(usize::from(port)).unwrap_or(&Listens::NOTHING);
            let mut packet = Usual::default();
            let key = if let Some((key, source)) = usual::in_gre(frame, listens, &mut packet) {
                OriginKey::in_gre(port, key, source)
            } else if listens.plain() && usual::plain(frame, listens, &mut packet) {
                match program.plain.lookup_v4(wide, packet.destination()) {
                    Some(PlainOwner::One(vnet)) => OriginKey::plain(port, vnet),
                    _ => continue,
                }
            } else {
                continue;
            };
            self.put(lane, &packet, key, program);
        }
    }

    fn put(&mut self, lane: usize, packet: &Usual, key: OriginKey, program: &Program) {
        self.source.0[lane] = packet.source();
        self.destination.0[lane] = packet.destination();
        self.ports.0[lane] = packet.ports;
        self.first.0[lane] = packet.first;
        self.third.0[lane] = packet.third;
        self.flags.0[lane] = u32::from(packet.tcp_flags);
        self.from.0[lane] = packet.from;
        [self.key.0[lane], self.remote.0[lane], self.port.0[lane]] = key.words();
        self.place.0[lane] = key.home() & program.origins.mask();
    }

    /// The second stage: where packets come from, and the hashes of their flows.
    #[inline(always)]
    pub fn locate(&mut self, program: &Program, flows: &Records) {
        let count = self.count.min(VECTOR);
        for lane in 0..count {
            let origin = program.origins.at(self.place.0[lane], self.key(lane));
            self.origin.0[lane] = origin.number;
            self.scope.0[lane] = origin.scope;
            self.link.0[lane] = origin.host;
        }
        let hasher = flows.hasher();
        for lane in 0..VECTOR {
            let (source, destination) = (self.source.0[lane], self.destination.0[lane]);
            let (scope, ports, third) = (self.scope.0[lane], self.ports.0[lane], self.third.0[lane]);
            self.link.0[lane] = Origin::link_of(scope, self.link.0[lane]);
            let protocol = third >> 16 & 0xff;
            self.hash.0[lane] = hasher.hash_ipv4(scope, source, destination, ports, protocol as u8);
            let reversed = scope & Origin::OUTSIDE != 0;
            self.reversed.0[lane] = if reversed { REVERSED } else { 0 };
            let (local, remote) = if reversed { (destination, source) } else { (source, destination) };
            self.addresses[lane] = u64::from(local) | u64::from(remote) << 32;
            self.own_ports.0[lane] = if reversed { ports.rotate_left(16) } else { ports };
            let Kind { mask, wanted } = Kind::new(protocol, reversed);
            (self.mask.0[lane], self.wanted.0[lane]) = (mask, wanted);
            let is_quick = is_quick(self.flags.0[lane], self.origin.0[lane], third);
            self.quick.0[lane] = u32::from(is_quick);
        }
        for lane in 0..count {
            let bucket = flows.bucket(self.hash.0[lane]);
            self.bucket.0[lane] = bucket;
            flows.prefetch_bucket(bucket);
        }
    }

    /// The third stage: perhaps records.
    #[inline(always)]
    pub fn probe<W: Wide>(&mut self, wide: W, flows: &Records) {
        let mut left = 0_u32;
        for lane in 0..self.count.min(VECTOR) {
            if self.quick.0[lane] == 0 {
                continue;
            }
            let slot = flows.probe(wide, self.bucket.0[lane], self.hash.0[lane], self.reversed.0[lane]);
            if slot == NONE {
                // Its memory has been asked for, and comes while the others have their turn.
                left |= 1 << lane;
                continue;
            }
            self.slot.0[lane] = slot;
            flows.prefetch_record(slot);
        }
        while left != 0 {
            self.probe_further(flows, left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }

    #[inline(never)]
    fn probe_further(&mut self, flows: &Records, lane: usize) {
        let lane = lane % VECTOR;
        let (hash, reversed) = (self.hash.0[lane], self.reversed.0[lane]);
        let mut slot = flows.probe_further(hash, reversed);
        if slot == NONE && reversed == 0 {
            // On the fabric, too, an endpoint without groups leaves the record to the receiver.
            slot = flows.probe_further(hash, REVERSED);
            self.reverse(lane);
        }
        self.slot.0[lane] = slot;
        self.quick.0[lane] = u32::from(slot != NONE);
        flows.prefetch_record(slot);
    }

    /// The fourth stage: which records keep ways.
    #[inline(always)]
    pub fn find_ways(&mut self, flows: &Records, adjacencies: &Adjacencies, inputs: &[Input]) {
        for (lane, input) in inputs.iter().take(VECTOR).enumerate() {
            if self.quick.0[lane] == 0 {
                continue;
            }
            let record = flows.record(self.slot.0[lane]);
            if self.holds(lane, record, input.now) {
                adjacencies.prefetch(record.way(self.is_reversed(lane)).adjacency);
            } else {
                self.quick.0[lane] = 0;
            }
        }
    }

    /// Renews the way that the record of a packet keeps, if it is from before a change of nothing but other routes: true if
    /// the packet may take it.
    pub fn renew(&self, program: &Program, flows: &mut Records, lane: usize, now: Nanos) -> bool {
        let lane = lane % VECTOR;
        let slot = self.slot.0[lane];
        if !is_quick(self.flags.0[lane], self.origin.0[lane], self.third.0[lane]) || slot == NONE {
            return false;
        }
        let (origin, reversed) = (self.origin_of(program, lane), self.is_reversed(lane));
        let (from, to) = (self.source.0[lane], self.destination.0[lane]);
        let mut record = *flows.record(slot);
        let way = *record.way(reversed);
        if !program.origins.still_leads(origin, way.arrival, from, to) {
            return false;
        }
        record.keep_way(reversed, Stored { arrival: origin.number, ..way });
        // It may be the record of another flow.
        let holds = self.holds(lane, &record, now);
        if holds {
            *flows.record_mut(slot) = record;
        }
        holds
    }

    /// The record is that of the packet's receiver, though it comes from the fabric.
    fn reverse(&mut self, lane: usize) {
        let lane = lane % VECTOR;
        self.reversed.0[lane] = REVERSED;
        self.addresses[lane] = self.addresses[lane].rotate_left(32);
        self.own_ports.0[lane] = self.own_ports.0[lane].rotate_left(16);
        self.mask.0[lane] = Kind::new(0, true).mask;
    }
}

/// True if a packet changes nothing of its record but when that was used.
#[inline(always)]
fn is_quick(tcp_flags: u32, origin: u32, third: u32) -> bool {
    let changes = tcp_flags & u32::from(tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST);
    (changes == 0) & (origin != 0) & usual::third_lives(third)
}
