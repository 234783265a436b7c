//! The whole way of a batch of frames through one worker, from received bytes to bytes to send.

use std::net::IpAddr;

use super::adjacency::Adjacency;
use super::emit::Output;
use super::fresh::{self, Asked, Leaves, NO_RULE, Question, SOME, Settled};
use super::ingress::{self, Via, ingress};
use super::pipeline::{Context, Done, charge, forward};
use super::police::{Meters, Toward};
use super::state::{ErrorsOf, Received, Shard};
use super::trace::Trace;
use super::usual::{self, Leaving, Listens};
use super::vector::{VECTOR, Vector};
use crate::compile::Program;
use crate::compile::origins::OriginKey;
use crate::packet::{Egress, FlowState, Generated, NextHopType, Outcome, Reason, Verdict};
use crate::sys::{self, Wide, Work};
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
#[repr(C)]
pub struct Brief {
    /// The frames it caused, as indices into [`Output::frames`].
    pub frames: (u32, u32),
    /// Index into the outcomes of a packet that went step by step; else the route as [`pack_route`] packs it.
    told: u32,
    /// The rule of a packet that did not go step by step; [`NO_RULE`]: none.
    rule: u32,
    facts: Facts,
    /// What the flow records said.
    pub flow: FlowState,
    /// How many records it opened.
    pub opened: u8,
    /// How it ended.
    pub verdict: Verdict,
}

/// Where the rest of what is known of a packet stands.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Facts {
    /// It went step by step: among the outcomes.
    Told,
    /// It took a way that is, or was to be, stored: the rest is in the frame that left.
    Way,
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
            Facts::Way => {
                let (vnet, next_hop_type, length) = unpack_route(brief.told);
                let frame = self.frames(packet).next().unwrap_or_default();
                // Packets that take a way are TCP, UDP or echoes: a frame that carries GRE carries them in it.
                let in_gre = frame.get(23) == Some(&protocol::GRE);
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

    /// The VNet that a packet was in, as far as that was known when it ended.
    #[inline]
    pub fn vnet(&self, packet: usize) -> Option<u32> {
        let brief = self.done.get(packet)?;
        match brief.facts {
            Facts::Told => self.outcomes.get(brief.told as usize)?.vnet,
            Facts::Way => Some(unpack_route(brief.told).0),
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
        packet: Leaving,
        flow: FlowState,
        opened: u8,
        rule: u32,
        route: u32,
    ) {
        let first = self.output.frames.len() as u32;
        let (verdict, frames, facts) = (Verdict::Forward, (first, first + 1), Facts::Way);
        self.done.push(Brief { verdict, flow, opened, frames, facts, told: route, rule });
        adjacency.send(bytes, packet, &mut self.output);
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

/// Runs the frames of one worker through steps 1 to 13, in their order; results are appended.
///
/// Packets of the usual shape take stages, each for a vector of packets, and two vectors at a time: the memory that a
/// stage of one needs is on its way while the other has its turn. In the last stage, in packet order, those whose record
/// keeps their way are sent; the others are asked about, some together (`fresh`), or go step by step, in their turn: what
/// comes of it is exactly what `forward` would do. Without `received`, sequence numbers have been checked before.
///
/// ```text
///   next vector:  parse ──► fields    locate ──► origin, hash                        probe ──► perhaps a record
///                 fetch origin        fetch index bucket                             fetch record
///   this vector:                                   find_ways ──► ways   decide ─┬► send: by the way, refresh
///                                                  fetch adjacency              ├► fresh: ask, open, keep the way
///                                                                               └► ingress, forward, keep the way
/// ```
pub fn process(
    context: Context<'_>,
    received: Option<&mut Received>,
    shard: &mut Shard,
    bytes: &[u8],
    inputs: &[Input],
    results: &mut Results,
) {
    shard.keep_ways(context.program, inputs.len());
    shard.listens.clear();
    shard.listens.extend(context.program.ports.iter().map(Listens::new));
    sys::widest(Batch { context, received, shard, bytes, inputs, results });
}

/// What [`process`] works on.
struct Batch<'a, 'p> {
    context: Context<'p>,
    received: Option<&'a mut Received>,
    shard: &'a mut Shard,
    bytes: &'a [u8],
    inputs: &'a [Input],
    results: &'a mut Results,
}

impl Work for Batch<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(mut self, wide: W) {
        let Batch { context: Context { program, occupancy, .. }, bytes, inputs, .. } = self;
        let Some(first) = inputs.first() else { return };
        self.shard.reap(wide, occupancy, first.now, 2 * inputs.len() + 64);
        let mut waiting = Waiting { asked: None, lanes: [0; SOME], count: 0, next: 0 };
        let (mut vector, mut next) = (Vector::EMPTY, Vector::EMPTY);
        let (mut packets, mut behind): (&[Input], _) = (&[], inputs);
        inputs.iter().take(VECTOR).for_each(|input| sys::prefetch_two(bytes, input.start as usize));
        loop {
            if !behind.is_empty() {
                next.parse(wide, program, &self.shard.listens, bytes, behind);
                next.locate(program, &self.shard.flows);
            }
            vector.find_ways(&self.shard.flows, &self.shard.adjacencies, packets);
            self.decide(wide, packets, &vector, &mut waiting);
            if behind.is_empty() {
                return;
            }
            next.probe(wide, &self.shard.flows);
            vector = next;
            (packets, behind) = behind.split_at(behind.len().min(VECTOR));
        }
    }
}

impl<'p> Batch<'_, 'p> {
    /// The last stage, in packet order.
    #[inline(always)]
    fn decide<W: Wide>(&mut self, wide: W, inputs: &[Input], vector: &Vector, waiting: &mut Waiting<'p>) {
        waiting.clear();
        let least = self.context.policers.least();
        let mut changed = false;
        for (lane, input) in inputs.iter().take(VECTOR).enumerate() {
            if vector.has_way(lane) && self.send(vector, lane, input.now, changed, least) {
                continue;
            }
            let batch = &mut *self;
            if !vector.is_usual(lane) || !wide.run(Fresh { batch, waiting, inputs, vector, lane }) {
                self.step_by_step(vector, lane, input);
            }
            // Records of those behind it may be others now.
            changed = true;
        }
    }

    /// Sends a packet by the way that its record keeps, unless a circuit link has no room for it; false if it does not fit,
    /// or if the record has `changed` and keeps none any more.
    #[inline(always)]
    fn send(&mut self, vector: &Vector, lane: usize, now: Nanos, changed: bool, least: u32) -> bool {
        let Batch { context, shard, results, bytes, .. } = self;
        let (slot, reversed) = vector.record(lane);
        let record = shard.flows.record_mut(slot);
        if changed && !vector.holds(lane, record, now) {
            return false;
        }
        let (total, way) = (vector.leaving(lane).total(), *record.way(reversed));
        let Some(adjacency) = shard.adjacencies.get(way.adjacency) else { return false };
        if !adjacency.has_room(total) {
            return false;
        }
        let (from, to) = (vector.link(lane), adjacency.link());
        if from | to >= least {
            let full = pass(context, [from, to], &mut shard.meters, results, total, now);
            if let Some(full) = full {
                let rule = record.way_rule();
                self.over_rate(vector, lane, way.route, (full == Toward::Out).then_some(rule));
                return true;
            }
        } else {
            shard.meters.count(from | to, total);
        }
        record.touch(now);
        // A reversed record is not linked.
        let rule = record.way_rule();
        results.sent(adjacency, bytes, vector.leaving(lane), FlowState::Established, 0, rule, way.route);
        shard.flows.charge_way(slot, reversed, total, now);
        true
    }
}

impl Batch<'_, '_> {
    /// Sends a packet by the way that its record kept before a change of nothing but other routes.
    #[inline(never)]
    fn renew(&mut self, vector: &Vector, lane: usize, now: Nanos) -> bool {
        let Batch { context, shard, .. } = self;
        vector.renew(context.program, &mut shard.flows, lane, now)
            && self.send(vector, lane, now, true, self.context.policers.least())
    }

    /// A packet finds no room in the bucket of a circuit link: inwards, or, with the rule of its flow, outwards.
    #[cold]
    fn over_rate(&mut self, vector: &Vector, lane: usize, route: u32, rule: Option<u32>) {
        let (vnet, next_hop_type, length) = unpack_route(route);
        let mut outcome = Outcome::ended(Reason::OverRate);
        outcome.customer = self.context.program.names.customer_of(vnet);
        if let Some(rule) = rule {
            let destination = IpAddr::from(vector.packet(lane).destination().to_be_bytes());
            outcome.vnet = Some(vnet);
            outcome.flow = FlowState::Established;
            outcome.rule = Some(rule).filter(|rule| *rule != NO_RULE);
            outcome.route = Some((next_hop_type, Prefix::new(destination, length)));
        }
        self.results.push(&Done::early(outcome));
    }
}

/// Takes what a packet needs from the buckets of the circuit links that it passes, inwards and outwards, and counts it
/// there; the direction in which its bandwidth is used up, if it is. Apart from what is done where nothing is limited.
#[cold]
#[inline(never)]
fn pass(
    context: &Context<'_>,
    links: [u32; 2],
    meters: &mut Meters,
    results: &mut Results,
    total: u32,
    now: Nanos,
) -> Option<Toward> {
    results.output.packet = results.done.len() as u32;
    for (toward, link) in [Toward::In, Toward::Out].into_iter().zip(links) {
        if let Some(bucket) = context.policers.bucket_of(context.program, link)
            && !charge(*context, bucket, toward, total, now, &mut results.output)
        {
            meters.refuse(link, toward);
            return Some(toward);
        }
        meters.count(link, total);
    }
    None
}

/// Packets that were asked about and wait for their turn.
struct Waiting<'p> {
    /// What they were asked; made when it is needed first, for it is large.
    asked: Option<Asked<'p>>,
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

/// A packet of the usual shape that no stored way carries: true if it was sent. Unless its way is only to be renewed, it is
/// asked about together with those that wait behind it.
struct Fresh<'a, 'b, 'p> {
    batch: &'a mut Batch<'b, 'p>,
    waiting: &'a mut Waiting<'p>,
    inputs: &'a [Input],
    vector: &'a Vector,
    lane: usize,
}

impl Work for Fresh<'_, '_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> bool {
        let Fresh { batch, waiting, inputs, vector, lane } = self;
        let Some(input) = inputs.get(lane) else { return false };
        if batch.renew(vector, lane, input.now) {
            return true;
        }
        let place = match waiting.take(lane) {
            Some(place) => place,
            None => {
                wide.run(AskSome { batch, waiting, inputs, vector, from: lane });
                waiting.next = 1;
                0
            }
        };
        let (program, context) = (batch.context.program, batch.context);
        let question = question(program, vector, lane, input);
        let total = question.packet.total();
        let Batch { shard, results, bytes, .. } = batch;
        let Some(asked) = &waiting.asked else { return false };
        let Some(settled) = fresh::settle(wide, context, shard, asked, place, &question) else {
            return false;
        };
        shard.meters.count(question.origin.link(), total);
        let leaves = match settled {
            Settled::Leaves(leaves) => leaves,
            Settled::Ended(outcome) => {
                results.push(&Done::early(outcome));
                return true;
            }
        };
        let Some(adjacency) = shard.adjacencies.get(leaves.adjacency) else { return false };
        let Leaves { flow, opened, rule, route, .. } = leaves;
        shard.meters.count(adjacency.link(), total);
        results.sent(adjacency, bytes, question.packet.leaving(), flow, opened, rule, route);
        true
    }
}

#[inline(always)]
fn question<'p>(program: &'p Program, vector: &Vector, lane: usize, input: &Input) -> Question<'p> {
    Question {
        packet: vector.packet(lane),
        origin: vector.origin_of(program, lane),
        hash: vector.hash(lane),
        now: input.now,
    }
}

/// Asks about a packet and those behind it of which it is already known that no way carries them.
struct AskSome<'a, 'b, 'p> {
    batch: &'a mut Batch<'b, 'p>,
    waiting: &'a mut Waiting<'p>,
    inputs: &'a [Input],
    vector: &'a Vector,
    from: usize,
}

impl Work for AskSome<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let AskSome { batch, waiting, inputs, vector, from } = self;
        let context = batch.context;
        let mut questions: [Option<Question<'_>>; SOME] = [None; SOME];
        let mut count = 0;
        for (lane, input) in inputs.iter().enumerate().skip(from) {
            let Some(place) = questions.get_mut(count) else { break };
            if lane == from || vector.is_usual(lane) && !vector.has_way(lane) {
                *place = Some(question(context.program, vector, lane, input));
                waiting.lanes[count % SOME] = lane as u8;
                count += 1;
            }
        }
        waiting.count = count;
        let asked = waiting.asked.get_or_insert(Asked::NOTHING);
        fresh::ask(wide, context, batch.shard, &questions, asked);
    }
}

impl Batch<'_, '_> {
    #[inline(never)]
    fn step_by_step(&mut self, vector: &Vector, lane: usize, input: &Input) {
        let program = self.context.program;
        let frame = self.bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
        let arrival = if vector.is_usual(lane) {
            let packet = vector.packet(lane);
            let at = packet.from.wrapping_sub(input.start) as usize;
            ingress::usual(program, input.port, via(program, input.port, frame, at), &packet, frame, at)
        } else {
            let received = self.received.as_deref_mut();
            ingress(program, received, input.port, frame, input.original)
        };
        let done = match arrival {
            Err(outcome) => Done::early(outcome),
            Ok(arrival) => {
                let out = &mut self.results.output;
                out.packet = self.results.done.len() as u32;
                forward(self.context, self.shard, &arrival, frame, input.now, out, &mut Trace::off())
            }
        };
        self.results.push(&done);
    }
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

pub(super) fn unpack_route(route: u32) -> (u32, NextHopType, u8) {
    let next_hop_type = NextHopType::ALL[(route >> 6 & 7) as usize % NextHopType::ALL.len()];
    (route >> 9, next_hop_type, (route & 63) as u8)
}
