//! The whole way of a batch of frames through one worker, from received bytes to bytes to send.

use std::net::IpAddr;
use std::ops::Range;

use super::adjacency::Adjacency;
use super::emit::Output;
use super::fresh::{self, Asked, NO_RULE, Question, SOME, Settled};
use super::ingress::{self, Via, ingress};
use super::pipeline::{Context, Done, forward};
use super::state::{ErrorsOf, Received, Shard};
use super::trace::Trace;
use super::usual::{self, Listens, Usual};
use crate::compile::origins::OriginKey;
use crate::compile::{PlainOwner, Program};
use crate::packet::{Egress, FlowState, Generated, NextHopType, Outcome, Verdict};
use crate::sys::{self, Wide, Work};
use crate::table::ecmp::mix;
use crate::table::records::{NONE, Records};
use crate::types::{Nanos, Prefix};
use crate::wire::{be32, protocol};

/// One received frame, as a range of the bytes of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Where its bytes begin.
    pub start: u32,
    /// Where they end.
    pub end: u32,
    /// How long it was when it was received; longer than its bytes if it was cut.
    pub original: u32,
    /// Index of its port in the program.
    pub port: u16,
    /// When it was received: never before the packet in front of it.
    pub now: Nanos,
}

/// What became of a packet, in short.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// How it ended.
    pub verdict: Verdict,
    /// What the flow records said.
    pub flow: FlowState,
    /// How many records it opened.
    pub opened: u8,
    /// The frames it caused, as indices into [`Output::frames`].
    pub frames: (u32, u32),
    facts: Facts,
    /// Index into the outcomes of a packet that went step by step; else the route as [`pack_route`] packs it.
    told: u32,
    /// The rule of a packet that did not go step by step; [`NO_RULE`]: none.
    rule: u32,
}

/// Where the rest of what is known of a packet stands.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Facts {
    /// It went step by step: among the outcomes.
    Told,
    /// It took a stored way and left plain: the rest is in the frame that left.
    Plain,
    /// It took a stored way and left in GRE.
    InGre,
}

/// What became of a batch. Reused, so that nothing is allocated once it has grown.
#[derive(Default)]
pub struct Results {
    /// For each packet, in order.
    pub done: Vec<Brief>,
    /// The frames that they caused.
    pub output: Output,
    /// ICMP errors among the frames: the packet, the kind, and whose they are.
    pub errors: Vec<(u32, Generated, ErrorsOf)>,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// Forgets everything; memory stays.
    pub fn clear(&mut self) {
        self.done.clear();
        self.output.clear();
        self.errors.clear();
        self.outcomes.clear();
    }

    /// The verdict and the facts about a packet; `program` is the one that was in force.
    pub fn outcome(&self, program: &Program, packet: usize) -> Outcome {
        let brief = self.done[packet];
        match brief.facts {
            Facts::Told => self.outcomes[brief.told as usize],
            Facts::Plain | Facts::InGre => {
                let in_gre = matches!(brief.facts, Facts::InGre);
                let (vnet, next_hop_type, length) = unpack_route(brief.told);
                let frame = self.frames(packet).next().unwrap_or_default();
                let word = |at: usize| IpAddr::from(be32(frame, at).to_be_bytes());
                let destination = word(if in_gre { 58 } else { 30 });
                let port = self.output.frames[brief.frames.0 as usize].port;
                let tunnel = in_gre.then(|| (word(30), be32(frame, 38)));
                Outcome {
                    verdict: brief.verdict,
                    customer: program.names.customer_of(vnet),
                    vnet: Some(vnet),
                    flow: brief.flow,
                    rule: Some(brief.rule).filter(|rule| *rule != NO_RULE),
                    route: Some((next_hop_type, Prefix::new(destination, length))),
                    egress: Some(Egress { port, tunnel }),
                }
            }
        }
    }

    /// The frames that a packet caused.
    pub fn frames(&self, packet: usize) -> impl Iterator<Item = &[u8]> {
        let (first, end) = self.done[packet].frames;
        let frames = &self.output.frames[first as usize..end as usize];
        frames.iter().map(|f| &self.output.bytes[f.start as usize..f.end as usize])
    }

    /// Sends a packet, and adds what became of it.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn sent(
        &mut self,
        adjacency: &Adjacency,
        bytes: &[u8],
        packet: &Usual,
        flow: FlowState,
        opened: u8,
        rule: u32,
        route: u32,
    ) {
        let first = self.output.frames.len() as u32;
        adjacency.send(bytes, packet, &mut self.output);
        let facts = if adjacency.is_in_gre() { Facts::InGre } else { Facts::Plain };
        let (verdict, frames) = (Verdict::Forward, (first, first + 1));
        self.done.push(Brief { verdict, flow, opened, frames, facts, told: route, rule });
    }

    /// Adds what became of a packet that went step by step.
    pub fn push(&mut self, done: &Done) {
        if let Some((kind, of)) = done.error {
            self.errors.push((self.done.len() as u32, kind, of));
        }
        let (facts, told, rule) = (Facts::Told, self.outcomes.len() as u32, 0);
        let Done { outcome, frames, opened, .. } = *done;
        self.outcomes.push(outcome);
        let (verdict, flow) = (outcome.verdict, outcome.flow);
        self.done.push(Brief { verdict, flow, opened, frames, facts, told, rule });
    }
}

/// Packets that go through the stages together. Fewer leave memory idle, more do not fit into the nearest cache.
pub const VECTOR: usize = 32;

/// How far ahead of the parser frames are fetched.
const AHEAD: usize = 6;

/// How far ahead of the probe parsed packets are fetched, perhaps from another processor.
const FETCHED: usize = 24;

/// A packet between the stages.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Lane {
    /// Its fields, if it is of the usual shape.
    packet: Usual,
    /// Where it came from, and where that stands among the origins.
    key: OriginKey,
    place: u32,
    /// The number of its origin; 0 if that is not known, or the packet not of the usual shape.
    origin: u32,
    /// Its place in the index of flows.
    hash: u32,
    /// Perhaps its record.
    slot: u32,
    /// It may take the way that a record keeps: it changes nothing of the record but when that was used.
    quick: bool,
    /// The record is that of its receiver.
    reversed: bool,
}

/// Runs the frames of one worker through steps 1 to 13, in their order; results are appended.
///
/// Packets of the usual shape take stages, each for a vector of packets, so that the memory that a stage needs is on its
/// way while it works on other packets. In the last, in packet order, those whose record keeps their way are sent; the
/// others are asked about, some together (`fresh`), or go step by step, in their turn: what comes of it is exactly what
/// `forward` would do. Without `received`, sequence numbers have been checked before.
///
/// ```text
///   parse ──► fields │ locate ──► origin, hash │ probe ──► perhaps a record │ decide ─┬► hit: refresh, send
///                    │ fetch index bucket      │ fetch record               │         ├► fresh: ask, open, keep the way
///                    │                         │                            │         └► ingress, forward, keep the way
/// ```
pub fn process(
    context: Context<'_>,
    received: Option<&mut Received>,
    shard: &mut Shard,
    bytes: &[u8],
    inputs: &[Input],
    results: &mut Results,
) {
    shard.keep_ways(context.program);
    listen(shard, context.program);
    sys::widest(Batch { context, received, shard, bytes, inputs, parsed: None, results });
}

fn listen(shard: &mut Shard, program: &Program) {
    shard.listens.clear();
    shard.listens.extend(program.ports.iter().map(Listens::new));
}

/// Packets of one worker, with what the first stage found of them, by whichever worker received them.
#[derive(Default)]
pub struct Sorted {
    /// The frames, in order.
    pub inputs: Vec<Input>,
    lanes: Vec<Lane>,
    /// Of the program that they were parsed under.
    generation: u32,
}

impl Sorted {
    /// Forgets the packets; memory stays.
    pub fn clear(&mut self) {
        self.inputs.clear();
        self.lanes.clear();
    }
}

/// Takes frames through the first stage, and adds each to the list of its worker: the same for both directions of a flow
/// and for all fragments. The workers have shards with the same hasher. Every frame lies among `bytes`; whoever finishes
/// packets gives the same bytes.
pub fn sort(program: &Program, shard: &mut Shard, bytes: &[u8], inputs: &[Input], lists: &mut [Sorted]) {
    listen(shard, program);
    for list in &mut *lists {
        if list.generation != program.generation {
            // What was parsed under another program would be taken for parsed under this one.
            list.lanes.iter_mut().for_each(|lane| *lane = Lane::default());
            list.generation = program.generation;
        }
    }
    sys::widest(Sort { program, shard, bytes, inputs, lists });
}

/// Takes packets that were [sorted](sort) through the other stages: [`process`] for `range` of them. Those that were
/// parsed under another program are parsed again.
pub fn finish(
    context: Context<'_>,
    received: Option<&mut Received>,
    shard: &mut Shard,
    bytes: &[u8],
    packets: &Sorted,
    range: Range<usize>,
    results: &mut Results,
) {
    let inputs = packets.inputs.get(range.clone()).unwrap_or_default();
    let parsed =
        packets.lanes.get(range.start..).filter(|_| packets.generation == context.program.generation);
    shard.keep_ways(context.program);
    listen(shard, context.program);
    sys::widest(Batch { context, received, shard, bytes, inputs, parsed, results });
}

/// What [`sort`] works on.
struct Sort<'a> {
    program: &'a Program,
    shard: &'a mut Shard,
    bytes: &'a [u8],
    inputs: &'a [Input],
    lists: &'a mut [Sorted],
}

impl Work for Sort<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let Sort { program, shard, bytes, inputs, lists } = self;
        let workers = lists.len() as u64;
        let mut lanes = [Lane::default(); VECTOR];
        for vector in inputs.chunks(VECTOR) {
            for (i, (input, lane)) in vector.iter().zip(&mut lanes).enumerate() {
                if let Some(later) = vector.get(i + AHEAD) {
                    sys::prefetch_two(bytes, later.start as usize);
                }
                parse(wide, program, &shard.listens, bytes, input, lane);
            }
            for lane in lanes.iter_mut().take(vector.len()) {
                locate(program, &shard.flows, lane);
            }
            // In a loop of its own, so that what is copied was written long ago; and without a branch that could go either
            // way from packet to packet.
            for (input, lane) in vector.iter().zip(&lanes) {
                let spread = if lane.key == OriginKey::NONE {
                    spread_of_unusual(program, bytes, input)
                } else {
                    spread_v4(lane.packet.source(), lane.packet.destination())
                };
                if let Some(list) = lists.get_mut((((spread >> 32) * workers) >> 32) as usize) {
                    list.inputs.push(*input);
                    list.lanes.push(*lane);
                }
            }
        }
    }
}

/// [`spread`] of the packet inside any frame; 0 if there is none.
#[cold]
fn spread_of_unusual(program: &Program, bytes: &[u8], input: &Input) -> u64 {
    let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
    let arrival = ingress(program, None, input.port, frame, input.original);
    arrival.map_or(0, |arrival| spread(arrival.inner.source, arrival.inner.destination))
}

/// What [`process`] works on.
struct Batch<'a, 'p> {
    context: Context<'p>,
    received: Option<&'a mut Received>,
    shard: &'a mut Shard,
    bytes: &'a [u8],
    inputs: &'a [Input],
    /// What the first stage found of these and of packets behind them, if they have been through it.
    parsed: Option<&'a [Lane]>,
    results: &'a mut Results,
}

impl Work for Batch<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(mut self, wide: W) {
        let Batch { context, bytes, inputs, parsed, .. } = self;
        let Some(first) = inputs.first() else { return };
        self.shard.reap(wide, context.occupancy, first.now, 2 * inputs.len() + 64);
        let (mut lanes, mut ahead) = ([Lane::default(); VECTOR], [Lane::default(); VECTOR]);
        let mut waiting = Waiting { asked: Asked::NOTHING, lanes: [0; SOME], count: 0, next: 0 };
        // What comes parsed needs no stage of its own to wait for memory: it is fetched and probed beside the packets in
        // front of it.
        let mut coming = parsed.unwrap_or_default();
        coming.iter().take(FETCHED).for_each(|lane| fetch(&self.shard.flows, bytes, lane));
        for i in 0..VECTOR {
            come(wide, &self.shard.flows, bytes, coming, &mut ahead, i);
        }
        for vector in inputs.chunks(VECTOR) {
            if parsed.is_some() {
                std::mem::swap(&mut lanes, &mut ahead);
                coming = coming.get(vector.len()..).unwrap_or_default();
            } else {
                for (i, (input, lane)) in vector.iter().zip(&mut lanes).enumerate() {
                    if let Some(later) = vector.get(i + AHEAD) {
                        sys::prefetch_two(bytes, later.start as usize);
                    }
                    parse(wide, context.program, &self.shard.listens, bytes, input, lane);
                }
                for lane in lanes.iter_mut().take(vector.len()) {
                    locate(context.program, &self.shard.flows, lane);
                    self.shard.flows.prefetch_bucket(lane.hash);
                }
                for lane in lanes.iter_mut().take(vector.len()) {
                    probe(wide, &self.shard.flows, lane);
                }
            }
            waiting.clear();
            if parsed.is_some() {
                self.decide::<W, true>(wide, vector, &lanes, &mut waiting, coming, &mut ahead);
            } else {
                self.decide::<W, false>(wide, vector, &lanes, &mut waiting, coming, &mut ahead);
            }
        }
    }
}

impl<'p> Batch<'_, 'p> {
    /// The last stage, in packet order; if packets come parsed, those of the next vector come meanwhile.
    #[inline(always)]
    fn decide<W: Wide, const COMING: bool>(
        &mut self,
        wide: W,
        vector: &[Input],
        lanes: &[Lane; VECTOR],
        waiting: &mut Waiting<'p>,
        coming: &[Lane],
        ahead: &mut [Lane; VECTOR],
    ) {
        for (i, (input, lane)) in vector.iter().zip(lanes).enumerate() {
            if COMING {
                come(wide, &self.shard.flows, self.bytes, coming, ahead, i);
            }
            if lane.quick && hit(self.shard, lane, self.bytes, input.now, self.results) {
                continue;
            }
            let (batch, waiting) = (&mut *self, &mut *waiting);
            if lane.origin == 0 || !wide.run(Fresh { batch, waiting, vector, lanes, lane: i }) {
                self.step_by_step(lane, input);
            }
        }
    }
}

/// The packet at a place in the next vector comes, if that was parsed before: it is probed, and one behind it fetched.
#[inline(always)]
fn come<W: Wide>(
    wide: W,
    flows: &Records,
    bytes: &[u8],
    coming: &[Lane],
    ahead: &mut [Lane; VECTOR],
    place: usize,
) {
    if let (Some(parsed), Some(lane)) = (coming.get(place), ahead.get_mut(place)) {
        *lane = *parsed;
        probe(wide, flows, lane);
        if let Some(later) = coming.get(place + FETCHED) {
            fetch(flows, bytes, later);
        }
    }
}

/// Packets that were asked about and wait for their turn.
struct Waiting<'p> {
    asked: Asked<'p>,
    /// Their lanes, in order.
    lanes: [u8; SOME],
    count: usize,
    next: usize,
}

impl Waiting<'_> {
    fn clear(&mut self) {
        (self.count, self.next) = (0, 0);
    }

    /// The place among those that were asked about, if this packet is the next of them.
    #[inline(always)]
    fn take(&mut self, lane: usize) -> Option<usize> {
        let place = self.next;
        let is_next = place < self.count && self.lanes.get(place).is_some_and(|l| usize::from(*l) == lane);
        self.next += usize::from(is_next);
        is_next.then_some(place)
    }
}

/// A packet of the usual shape that no stored way carries: true if it was sent. It is asked about together with those
/// that wait behind it.
struct Fresh<'a, 'b, 'p> {
    batch: &'a mut Batch<'b, 'p>,
    waiting: &'a mut Waiting<'p>,
    vector: &'a [Input],
    lanes: &'a [Lane; VECTOR],
    lane: usize,
}

impl Work for Fresh<'_, '_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> bool {
        let Fresh { batch, waiting, vector, lanes, lane } = self;
        let place = match waiting.take(lane) {
            Some(place) => place,
            None => {
                wide.run(AskSome { batch, waiting, vector, lanes, from: lane });
                waiting.next = 1;
                0
            }
        };
        let (program, context) = (batch.context.program, batch.context);
        let (Some(input), Some(lane)) = (vector.get(lane), lanes.get(lane)) else { return false };
        let question = question(program, lane, input);
        let Batch { shard, results, bytes, .. } = batch;
        let Some(settled) = fresh::settle(wide, context, shard, &waiting.asked, place, &question) else {
            return false;
        };
        let Some(adjacency) = shard.adjacencies.get(settled.adjacency) else { return false };
        let Settled { flow, opened, rule, route, .. } = settled;
        results.sent(adjacency, bytes, &lane.packet, flow, opened, rule, route);
        true
    }
}

#[inline(always)]
fn question<'a, 'p>(program: &'p Program, lane: &'a Lane, input: &Input) -> Question<'a, 'p> {
    Question {
        packet: &lane.packet,
        origin: program.origins.at(lane.place, lane.key),
        hash: lane.hash,
        now: input.now,
    }
}

/// Asks about a packet and those behind it of which it is already known that no way carries them.
struct AskSome<'a, 'b, 'p> {
    batch: &'a mut Batch<'b, 'p>,
    waiting: &'a mut Waiting<'p>,
    vector: &'a [Input],
    lanes: &'a [Lane; VECTOR],
    from: usize,
}

impl Work for AskSome<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let AskSome { batch, waiting, vector, lanes, from } = self;
        let program = batch.context.program;
        let mut questions: [Option<Question<'_, '_>>; SOME] = [None; SOME];
        let mut count = 0;
        for (i, (input, lane)) in vector.iter().zip(lanes).enumerate().skip(from) {
            let Some(place) = questions.get_mut(count) else { break };
            if i == from || !lane.quick && lane.origin != 0 {
                *place = Some(question(program, lane, input));
                waiting.lanes[count % SOME] = i as u8;
                count += 1;
            }
        }
        waiting.count = count;
        fresh::ask(wide, program, batch.shard, &questions, &mut waiting.asked);
    }
}

impl Batch<'_, '_> {
    #[inline(never)]
    fn step_by_step(&mut self, lane: &Lane, input: &Input) {
        let program = self.context.program;
        let frame = self.bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
        let arrival = if lane.origin != 0 {
            let at = lane.packet.from.wrapping_sub(input.start) as usize;
            ingress::usual(program, input.port, via(program, input.port, frame, at), &lane.packet, frame, at)
        } else {
            let received = self.received.as_deref_mut();
            ingress(program, received, input.port, frame, input.original)
        };
        let done = match arrival {
            Err(outcome) => Done::early(outcome),
            Ok(arrival) => {
                let out = &mut self.results.output;
                forward(self.context, self.shard, &arrival, frame, input.now, out, &mut Trace::off())
            }
        };
        self.results.push(&done);
    }
}

/// The first stage: the headers.
#[inline(always)]
fn parse<W: Wide>(
    wide: W,
    program: &Program,
    listens: &[Listens],
    bytes: &[u8],
    input: &Input,
    lane: &mut Lane,
) {
    let Input { start, end, original, port, .. } = *input;
    let (length, packet) = (end.wrapping_sub(start), &mut lane.packet);
    let frame = usual::Received { bytes, start, length, original };
    let listens = listens.get(usize::from(port)).unwrap_or(&Listens::NOTHING);
    lane.key = if let Some((key, source)) = usual::in_gre(frame, listens, packet) {
        OriginKey::in_gre(port, key, source)
    } else if listens.plain() && usual::plain(frame, listens, packet) {
        match program.plain.lookup_v4(wide, packet.destination()) {
            Some(PlainOwner::One(vnet)) => OriginKey::plain(port, vnet),
            _ => OriginKey::NONE,
        }
    } else {
        OriginKey::NONE
    };
    lane.place = program.origins.place(lane.key);
}

/// The second stage: where the packet comes from, and the hash of its flow.
#[inline(always)]
fn locate(program: &Program, flows: &Records, lane: &mut Lane) {
    let origin = program.origins.at(lane.place, lane.key);
    let packet = &lane.packet;
    lane.origin = origin.number;
    lane.quick = (origin.number != 0) & !packet.changes_state();
    lane.reversed = origin.is_outside();
    lane.hash =
        flows.hash_ipv4(origin.scope, packet.source(), packet.destination(), packet.ports, packet.protocol);
}

/// Asks for what the stages behind the first need of a parsed packet: it may have come to another processor.
#[inline(always)]
fn fetch(flows: &Records, bytes: &[u8], lane: &Lane) {
    sys::prefetch_block(bytes, lane.packet.from as usize);
    flows.prefetch_bucket(lane.hash);
}

/// The third stage: perhaps a record.
#[inline(always)]
fn probe<W: Wide>(wide: W, flows: &Records, lane: &mut Lane) {
    if !lane.quick {
        return;
    }
    lane.slot = flows.probe(wide, lane.hash, lane.reversed);
    if lane.slot == NONE {
        // On the fabric, too, an endpoint without groups leaves the record to the receiver.
        lane.slot = if lane.reversed { NONE } else { flows.probe(wide, lane.hash, true) };
        lane.reversed = true;
        lane.quick = lane.slot != NONE;
    }
    flows.prefetch_record(lane.slot);
}

/// The fourth stage, for a packet whose record has the way that packets of its origin take: true if it was sent.
#[inline(always)]
fn hit(shard: &mut Shard, lane: &Lane, bytes: &[u8], now: Nanos, results: &mut Results) -> bool {
    let packet = &lane.packet;
    let record = shard.flows.record_mut(lane.slot);
    // Both ways round without a branch: which one a packet is, nothing predicts.
    let back = lane.reversed;
    let addresses = packet.addresses.rotate_left(u32::from(back) * 32);
    let ports = packet.ports.rotate_left(u32::from(back) * 16);
    let way = *record.way(back);
    let Some(adjacency) = shard.adjacencies.get(way.adjacency) else { return false };
    let holds = way.arrival == lane.origin
        && record.is_live_ipv4(addresses, ports, packet.protocol, back)
        && record.fresh(now)
        && adjacency.carries(packet);
    if !holds {
        return false;
    }
    // A reversed record is not linked.
    let rule = record.way_rule();
    record.touch(now);
    results.sent(adjacency, bytes, packet, FlowState::Established, 0, rule, way.route);
    true
}

/// How a packet of the usual shape, from a known origin, came in; it begins at `at` in the frame.
fn via(program: &Program, port: u16, frame: &[u8], at: usize) -> Via {
    match usual::key_and_source(frame, at) {
        None => Via::Plain,
        Some((key, source)) => {
            let tunnel = program.origins.find(OriginKey::in_gre(port, key, source)).tunnel;
            Via::Tunnel(tunnel, IpAddr::from(source.to_be_bytes()))
        }
    }
}

/// A route in 32 bits, as a stored way keeps it: the number of the VNet, the next hop type and the length of the prefix,
/// which holds the packet's destination. `None` beyond eight million VNets.
pub(super) fn pack_route(vnet: u32, next_hop_type: NextHopType, length: u8) -> Option<u32> {
    (vnet < 1 << 23).then_some(vnet << 9 | (next_hop_type as u32) << 6 | u32::from(length & 63))
}

fn unpack_route(route: u32) -> (u32, NextHopType, u8) {
    let next_hop_type = NextHopType::ALL[(route >> 6 & 7) as usize % NextHopType::ALL.len()];
    (route >> 9, next_hop_type, (route & 63) as u8)
}

/// The number that says which worker a flow belongs to: the same for both directions and for all fragments.
#[inline]
pub fn spread(a: IpAddr, b: IpAddr) -> u64 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => spread_v4(a.to_bits(), b.to_bits()),
        (a, b) => {
            let bits = |addr: IpAddr| match addr {
                IpAddr::V4(a) => u128::from(a.to_bits()),
                IpAddr::V6(a) => a.to_bits(),
            };
            let hash = |x: u128| mix(mix((x >> 64) as u64 ^ 6) ^ x as u64);
            mix(hash(bits(a)).wrapping_add(hash(bits(b))))
        }
    }
}

/// One multiplication each for what two addresses share whichever comes first.
#[inline]
fn spread_v4(a: u32, b: u32) -> u64 {
    mix(u64::from(a ^ b) << 32 | u64::from(a.wrapping_add(b)))
}

/// [`spread`] of the packet inside a frame of the usual shape: IPv4 in GRE with nothing but a key, in IPv4 without
/// options. `None` of any other, which has to be parsed first.
#[inline]
pub fn spread_of_frame(frame: &[u8]) -> Option<u64> {
    let head: &[u8; 62] = frame.first_chunk()?;
    let usual = head[12..15] == [0x08, 0x00, 0x45]
        && head[23] == protocol::GRE
        && head[34..38] == [0x20, 0x00, 0x08, 0x00]
        && head[42] >> 4 == 4
        // An ICMP error may belong to a flow of other addresses.
        && head[51] != protocol::ICMP;
    let addr = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    usual.then(|| spread(addr(54), addr(58)))
}
