//! Packets in, verdicts and frames out, in order and the same for any number of workers.
//!
//! The thread that reads checks frames (steps 1 to 5) and collects results; workers run the rest, each for its flows.
//! Three things need all packets in their order. Sequence numbers received are checked before the workers; sequence
//! numbers sent and the rate of ICMP errors are settled behind them. The third is a limit of flow records or fragments
//! that a batch could reach, and an ICMP error that quotes a flow of another worker: these go packet by packet, with all
//! shards in one hand.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::RandomState;

use super::batch::{Batch, Stamp, Whose, quoted_worker, worker_of};
use super::worker::Worker;
use crate::compile::names::Names;
use crate::compile::{Program, compile, recompile};
use crate::dataplane::ingress::ingress;
use crate::dataplane::state::{ErrorRate, Received, Sent};
use crate::dataplane::{
    Context, Input, Meter, MeterReading, Occupancy, Policers, Results, Shard, change, process, readings,
    spread_of_frame, worker,
};
use crate::model::what_if::in_time;
use crate::model::{Model, Sequence};
use crate::packet::{Generated, Outcome, Verdict};
use crate::table::fragments::CAPACITY;
use crate::types::Nanos;

/// A packet with everything that became of it.
pub struct Finished<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Its port, as an index into [`Replay::ports`].
    pub port: u16,
    /// Its own time, with 6 or 9 digits.
    pub time: Nanos,
    /// How many digits.
    pub digits: u8,
    /// The clock: never back.
    pub now: Nanos,
    /// The frame.
    pub captured: &'a [u8],
    /// How long it was when it was received.
    pub original: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// All that is known of it, unless the run is [terse](Replay::terse).
    pub outcome: Option<Outcome>,
    /// The ICMP error among its frames.
    pub error: Option<Generated>,
    /// The frames it caused, each with its port as an index into [`Replay::ports`].
    pub frames: &'a [(u16, &'a [u8])],
    /// The program that was in force.
    pub program: &'a Program,
}

/// How far the results of a worker have been delivered.
#[derive(Clone, Copy, Default)]
struct Next {
    packet: usize,
    error: usize,
    numbered: usize,
    charge: usize,
}

/// True if a tunnel checks the sequence numbers it receives.
fn is_strict(program: &Program) -> bool {
    program.tunnels.iter().any(|t| t.sequence == Sequence::Strict)
}

/// Counts at the end of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Flow records ever opened.
    pub opened: u64,
    /// Flow records neither expired nor ended at the time of the last packet.
    pub live: u64,
}

/// A run of captures through a configuration, and through those that replace it.
pub struct Replay {
    names: Names,
    /// What the program was compiled from.
    model: Model,
    ports: Vec<String>,
    program: Arc<Program>,
    /// For each of `ports`, its index in the program, and the other way round.
    to_program: Vec<u16>,
    from_program: Vec<u16>,
    swaps: VecDeque<(Nanos, Model)>,
    workers: Vec<Worker>,
    occupancy: Arc<Occupancy>,
    policers: Arc<Policers>,
    received: Received,
    sent: Sent,
    rate: ErrorRate,
    started: Option<Nanos>,
    now: Nanos,
    count: u64,
    filling: Batch,
    running: VecDeque<Arc<Batch>>,
    spare: Vec<Results>,
    terse: bool,
    /// Some tunnel refuses old sequence numbers: arrivals are checked in order, before the workers.
    strict: bool,
}

impl Replay {
    /// Prepares a run with this many workers. Each of `swaps` comes into force for packets at or after that many
    /// nanoseconds after the first packet.
    pub fn new(model: &Model, workers: usize, swaps: Vec<(Nanos, Model)>) -> Replay {
        let workers = workers.clamp(1, 256);
        // What becomes of it in time is more configurations.
        let (model, mut swaps) = in_time(model, swaps);
        let model = &model;
        let mut names = Names::default();
        let program = Arc::new(compile(model, &mut names));
        let policers = Arc::new(Policers::new(&program));
        let mut ports: Vec<String> = Vec::new();
        for port in std::iter::once(model).chain(swaps.iter().map(|s| &s.1)).flat_map(|m| &m.ports) {
            if !ports.contains(&port.name) {
                ports.push(port.name.clone());
            }
        }
        let hasher = RandomState::new();
        let start = |n| Worker::start(n, Shard::numbered(usize::from(n), hasher.clone()));
        swaps.sort_by_key(|s| s.0);
        let mut replay = Replay {
            names,
            model: model.clone(),
            ports,
            filling: Batch::new(
                program.clone(),
                policers.clone(),
                1,
                workers,
                workers == 1 && !is_strict(&program),
            ),
            strict: is_strict(&program),
            program,
            to_program: Vec::new(),
            from_program: Vec::new(),
            swaps: swaps.into(),
            workers: (0..workers as u16).map(start).collect(),
            occupancy: Arc::new(Occupancy::new(workers)),
            policers,
            received: Received::default(),
            sent: Sent::default(),
            rate: ErrorRate::default(),
            started: None,
            now: 0,
            count: 0,
            running: VecDeque::new(),
            spare: Vec::new(),
            terse: false,
        };
        replay.map_ports();
        replay.grow();
        replay
    }

    /// Leaves out [`Finished::outcome`], for who only counts.
    pub fn terse(mut self) -> Replay {
        self.terse = true;
        self
    }

    /// The ports of all configurations of the run.
    pub fn ports(&self) -> &[String] {
        &self.ports
    }

    /// The program in force.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Takes the next packet of the merged captures; `sink` is called for packets that have finished, in order.
    pub fn push<E>(
        &mut self,
        port: u16,
        time: Nanos,
        digits: u8,
        captured: &[u8],
        original: u32,
        sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.now = self.now.max(time);
        let started = *self.started.get_or_insert(self.now);
        while let Some((after, _)) = self.swaps.front()
            && started.saturating_add(*after) <= self.now
        {
            let at = started.saturating_add(*after);
            self.drain(sink)?;
            if let Some((_, model)) = self.swaps.pop_front() {
                self.swap(model, at);
            }
        }
        self.count += 1;
        let program_port = self.to_program.get(usize::from(port)).copied().unwrap_or(u16::MAX);
        let input = Input { start: 0, end: 0, original, port: program_port, now: self.now };
        let (whose, across) = self.spread(&input, captured);
        let stamp = Stamp { port, digits, whose, time };
        if across {
            self.submit(sink)?;
            self.drain(sink)?;
            // The drained batch began before this packet was counted.
            self.filling.first = self.count;
            self.filling.add(input, stamp, captured);
            return self.one_by_one(sink);
        }
        self.filling.add(input, stamp, captured);
        if self.filling.is_full() { self.submit(sink) } else { Ok(()) }
    }

    /// Who answers for a frame, and whether it, an ICMP error, quotes a flow of another worker.
    fn spread(&mut self, input: &Input, captured: &[u8]) -> (Whose, bool) {
        let workers = self.workers.len();
        if !self.strict {
            if workers == 1 {
                return (Whose::Worker(0), false);
            }
            if let Some(spread) = spread_of_frame(captured) {
                return (Whose::Worker(worker(spread, workers) as u16), false);
            }
        }
        match ingress(&self.program, Some(&mut self.received), input.port, captured, input.original) {
            Err(outcome) => {
                self.filling.ended.push(outcome);
                (Whose::Ended(self.filling.ended.len() as u32 - 1), false)
            }
            Ok(arrival) => {
                let own = worker_of(arrival.inner.source, arrival.inner.destination, workers);
                let across =
                    workers > 1 && quoted_worker(&arrival, captured, workers).is_some_and(|q| q != own);
                (Whose::Worker(own), across)
            }
        }
    }

    /// Waits for everything and counts.
    pub fn finish<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<Totals, E> {
        self.drain(sink)?;
        let mut totals = Totals::default();
        for worker in &mut self.workers {
            let shard = worker.lend();
            totals.opened += shard.flows.opened();
            totals.live += shard.flows.live(self.now);
            worker.keep(shard);
        }
        Ok(totals)
    }

    /// What every link of every peering of all configurations until now has carried; to be asked at the end.
    pub fn meters(&mut self) -> Vec<MeterReading> {
        let mut sums = vec![Meter::default(); self.names.link_count()];
        for worker in &mut self.workers {
            let mut shard = worker.lend();
            sums.iter_mut().zip(shard.meters.all()).for_each(|(sum, meter)| sum.add(meter));
            worker.keep(shard);
        }
        readings(&self.names, &sums)
    }

    fn new_batch(&self) -> Batch {
        let workers = self.workers.len();
        Batch::new(
            self.program.clone(),
            self.policers.clone(),
            self.count + 1,
            workers,
            workers == 1 && !self.strict,
        )
    }

    /// The batch that was filled; a new one begins.
    fn take_batch(&mut self) -> Batch {
        let next = self.new_batch();
        std::mem::replace(&mut self.filling, next)
    }

    /// Gives the filled batch to the workers, and collects the one before.
    fn submit<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.filling.inputs.is_empty() {
            return Ok(());
        }
        if self.may_reach_a_limit() {
            self.collect_all(sink)?;
            self.forget_expired();
            if self.may_reach_a_limit() {
                return self.one_by_one(sink);
            }
        }
        let batch = Arc::new(self.take_batch());
        for worker in &mut self.workers {
            let results = self.spare.pop().unwrap_or_default();
            worker.run(&batch, &self.occupancy, results);
        }
        self.running.push_back(batch);
        if self.running.len() > 1 { self.collect(sink) } else { Ok(()) }
    }

    /// Runs and collects everything that was pushed.
    fn drain<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        self.submit(sink)?;
        self.collect_all(sink)
    }

    fn collect_all<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        while !self.running.is_empty() {
            self.collect(sink)?;
        }
        Ok(())
    }

    fn collect<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        let Some(batch) = self.running.pop_front() else { return Ok(()) };
        let mut results: Vec<Results> = self.workers.iter_mut().map(Worker::results).collect();
        self.deliver(&batch, &mut results, sink)?;
        self.spare.append(&mut results);
        Ok(())
    }

    /// True if the packets on their way and in the filled batch could bring a VNet, a NIC or the fragments to their
    /// limit: every packet opens at most two records.
    fn may_reach_a_limit(&self) -> bool {
        let waiting: usize =
            self.running.iter().map(|b| b.inputs.len()).sum::<usize>() + self.filling.inputs.len();
        let two = (2 * waiting) as u32;
        // A packet takes its own length inwards and, cut into fragments, less than four times that outwards.
        let bytes = self.running.iter().map(|b| b.bytes.len()).sum::<usize>() + self.filling.bytes.len();
        let first = self.running.front().map_or(&self.filling, |b| b).inputs.first().map_or(0, |i| i.now);
        if self.workers.len() > 1 && !self.policers.all_hold(&self.program, 4 * bytes as u64, first) {
            return true;
        }
        let near = |held: u32, limit: u32| held.saturating_add(two) > limit;
        let all = &self.occupancy;
        near(all.fragments(), CAPACITY as u32)
            || self.program.vnets.iter().any(|v| {
                let of_vnet = || near(all.of_vnet(v.id), v.max_flows);
                (!all.vnet_has_room(v.id, two, v.max_flows) && of_vnet())
                    || v.nics.iter().any(|n| {
                        let of_nic = || near(all.of_party(n.party), n.max_flows);
                        !all.party_has_room(n.party, two, n.max_flows) && of_nic()
                    })
            })
    }

    fn forget_expired(&mut self) {
        let Some(first) = self.filling.inputs.first().map(|i| i.now) else { return };
        for worker in &mut self.workers {
            let mut shard = worker.lend();
            shard.reap_all(&self.occupancy, first);
            worker.keep(shard);
        }
    }

    /// Runs the filled batch packet by packet with all shards in one hand; nothing else may be running.
    fn one_by_one<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        let batch = self.take_batch();
        let mut shards: Vec<Box<Shard>> = self.workers.iter_mut().map(Worker::lend).collect();
        let mut results: Vec<Results> = shards.iter().map(|_| Results::default()).collect();
        for (input, stamp) in batch.inputs.iter().zip(&batch.stamps) {
            let Whose::Worker(own) = stamp.whose else { continue };
            for shard in &mut shards {
                shard.reap_all(&self.occupancy, input.now);
            }
            let own = usize::from(own);
            let frame = batch.frame(input);
            let arrival = ingress(&batch.program, None, input.port, frame, input.original).ok();
            let quoted = arrival.and_then(|a| quoted_worker(&a, frame, shards.len())).map(usize::from);
            let quoted = quoted.filter(|q| *q != own);
            let (before, rest) = shards.split_at_mut(own);
            let Some((shard, behind)) = rest.split_first_mut() else { continue };
            let quoted = quoted.and_then(|q| before.get(q).or_else(|| behind.get(q.wrapping_sub(own + 1))));
            let quoted = quoted.map(|s| &**s);
            let (occupancy, policers) = (&*self.occupancy, &*self.policers);
            let context = Context { program: &batch.program, occupancy, quoted, policers, defers: false };
            process(context, None, shard, &batch.bytes, std::slice::from_ref(input), &mut results[own]);
        }
        for (worker, shard) in self.workers.iter_mut().zip(shards) {
            worker.keep(shard);
        }
        self.deliver(&batch, &mut results, sink)
    }

    /// Puts the results of a batch back in order, settles what depends on the order, and hands them out.
    fn deliver<E>(
        &mut self,
        batch: &Batch,
        results: &mut [Results],
        sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = vec![Next::default(); results.len()];
        for (i, (input, stamp)) in batch.inputs.iter().zip(&batch.stamps).enumerate() {
            let mut finished = Finished {
                number: batch.first + i as u64,
                port: stamp.port,
                time: stamp.time,
                digits: stamp.digits,
                now: input.now,
                captured: batch.frame(input),
                original: input.original,
                verdict: Verdict::Forward,
                outcome: None,
                error: None,
                frames: &[],
                program: &batch.program,
            };
            let worker = match stamp.whose {
                Whose::Worker(worker) => usize::from(worker),
                Whose::Ended(index) => {
                    let outcome = batch.ended[index as usize];
                    (finished.verdict, finished.outcome) = (outcome.verdict, Some(outcome));
                    sink(finished)?;
                    continue;
                }
            };
            let (results, next) = (&mut results[worker], &mut next[worker]);
            let number = next.packet;
            next.packet += 1;
            let brief = results.done[number];
            let (first, end) = brief.frames;
            let mut range = first as usize..end as usize;
            if let Some((_, kind, of)) = results.errors.get(next.error).filter(|e| e.0 as usize == number) {
                next.error += 1;
                if self.rate.allow(*of, input.now) {
                    finished.error = Some(*kind);
                } else {
                    range.end = range.start;
                }
            }
            while let Some(numbered) = results.output.numbered.get(next.numbered).filter(|n| n.frame < end) {
                next.numbered += 1;
                if range.contains(&(numbered.frame as usize)) {
                    let (at, number) =
                        (numbered.at as usize, self.sent.next(numbered.tunnel, numbered.remote));
                    results.output.bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
                }
            }
            while let Some(charge) =
                results.output.charges.get(next.charge).filter(|c| c.packet as usize == number)
            {
                next.charge += 1;
                let held = batch.policers.take(&batch.program, charge, input.now);
                debug_assert!(held, "a batch that could be short of something goes packet by packet");
            }
            finished.verdict = brief.verdict;
            finished.outcome = (!self.terse).then(|| results.outcome(&batch.program, number));
            let output = &results.output;
            let slice = |f: &crate::dataplane::Frame| {
                let port = self.from_program.get(usize::from(f.port)).copied().unwrap_or_default();
                (port, &output.bytes[f.start as usize..f.end as usize])
            };
            let one: [(u16, &[u8]); 1];
            let many: Vec<(u16, &[u8])>;
            finished.frames = match &output.frames[range] {
                [] => &[],
                [frame] => {
                    one = [slice(frame)];
                    &one
                }
                all => {
                    many = all.iter().map(slice).collect();
                    &many
                }
            };
            sink(finished)?;
        }
        Ok(())
    }

    /// Puts another configuration in force at `at`; nothing may be running.
    fn swap(&mut self, model: Model, at: Nanos) {
        let program = Arc::new(recompile(&self.program, &self.model, &model, &mut self.names));
        let affected = change::affected(&self.program, &program);
        self.policers = Arc::new(self.policers.successor(&self.program, &program, at));
        (self.program, self.model) = (program, model);
        self.strict = is_strict(&self.program);
        self.filling = self.new_batch();
        self.map_ports();
        self.grow();
        self.received.keep(&self.program);
        self.sent.keep(&self.program);
        if affected.is_empty() {
            return;
        }
        for worker in &mut self.workers {
            let mut shard = worker.lend();
            change::adopt(&mut shard, &self.occupancy, &self.program, &affected, at);
            worker.keep(shard);
        }
    }

    fn map_ports(&mut self) {
        let program = &self.program;
        self.to_program = self.ports.iter().map(|p| program.port(p).unwrap_or(u16::MAX)).collect();
        let index = |name: &String| self.ports.iter().position(|p| p == name).unwrap_or_default() as u16;
        self.from_program = program.ports.iter().map(|p| index(&p.name)).collect();
    }

    /// Makes room for the names of the program; nothing may be running.
    fn grow(&mut self) {
        match Arc::get_mut(&mut self.occupancy) {
            Some(occupancy) => occupancy.grow(&self.program),
            None => unreachable!("workers hold the counts only while a batch runs"),
        }
    }
}
