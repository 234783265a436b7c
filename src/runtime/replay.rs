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

use super::batch::{Batch, Checked, Input, Results, quoted_worker, worker_of};
use super::worker::Worker;
use crate::compile::names::Names;
use crate::compile::{Program, compile, recompile};
use crate::dataplane::ingress::ingress;
use crate::dataplane::state::{ErrorRate, Received, Sent};
use crate::dataplane::{Context, Done, Occupancy, Shard, Trace, change, forward};
use crate::model::Model;
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
    /// What became of it.
    pub done: Done,
    /// The frames it caused, each with its port as an index into [`Replay::ports`].
    pub frames: &'a [(u16, &'a [u8])],
    /// The program that was in force.
    pub program: &'a Program,
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
    received: Received,
    sent: Sent,
    rate: ErrorRate,
    started: Option<Nanos>,
    now: Nanos,
    count: u64,
    filling: Batch,
    running: VecDeque<Arc<Batch>>,
    spare: Vec<Results>,
}

impl Replay {
    /// Prepares a run with this many workers. Each of `swaps` comes into force for packets at or after that many
    /// nanoseconds after the first packet.
    pub fn new(model: &Model, workers: usize, swaps: Vec<(Nanos, Model)>) -> Replay {
        let mut names = Names::default();
        let program = Arc::new(compile(model, &mut names));
        let mut ports: Vec<String> = Vec::new();
        for port in std::iter::once(model).chain(swaps.iter().map(|s| &s.1)).flat_map(|m| &m.ports) {
            if !ports.contains(&port.name) {
                ports.push(port.name.clone());
            }
        }
        let hasher = RandomState::new();
        let start = |n| Worker::start(n, Shard::new(hasher.clone()));
        let mut swaps = swaps;
        swaps.sort_by_key(|s| s.0);
        let mut replay = Replay {
            names,
            model: model.clone(),
            ports,
            filling: Batch::new(program.clone(), 1),
            program,
            to_program: Vec::new(),
            from_program: Vec::new(),
            swaps: swaps.into(),
            workers: (0..workers.clamp(1, 256) as u16).map(start).collect(),
            occupancy: Arc::default(),
            received: Received::default(),
            sent: Sent::default(),
            rate: ErrorRate::default(),
            started: None,
            now: 0,
            count: 0,
            running: VecDeque::new(),
            spare: Vec::new(),
        };
        replay.map_ports();
        replay.grow();
        replay
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
        let input = Input { port, digits, start: 0, end: 0, original, time, now: self.now };
        let program_port = self.to_program.get(usize::from(port)).copied().unwrap_or(u16::MAX);
        let result = ingress(&self.program, &mut self.received, program_port, captured, original);
        let workers = self.workers.len();
        let mut across = false;
        let checked = match result {
            Err(outcome) => Checked::Ended(outcome),
            Ok(arrival) => {
                let own = worker_of(arrival.inner.source, arrival.inner.destination, workers);
                across = workers > 1 && quoted_worker(&arrival, captured, workers).is_some_and(|q| q != own);
                Checked::Arrived(arrival, own)
            }
        };
        if across {
            self.submit(sink)?;
            self.drain(sink)?;
            // The drained batch began before this packet was counted.
            self.filling.first = self.count;
            self.add(input, captured, checked);
            return self.one_by_one(sink);
        }
        self.add(input, captured, checked);
        if self.filling.is_full() { self.submit(sink) } else { Ok(()) }
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

    fn add(&mut self, mut input: Input, captured: &[u8], checked: Checked) {
        input.start = self.filling.bytes.len() as u32;
        input.end = (self.filling.bytes.len() + captured.len()) as u32;
        self.filling.bytes.extend_from_slice(captured);
        self.filling.inputs.push(input);
        self.filling.checked.push(checked);
    }

    /// The batch that was filled; a new one begins.
    fn take_batch(&mut self) -> Batch {
        let next = Batch::new(self.program.clone(), self.count + 1);
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
            worker.run(&batch, &self.occupancy, self.spare.pop().unwrap_or_default());
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
        let near = |held: u32, limit: u32| held.saturating_add(two) > limit;
        near(self.occupancy.fragments(), CAPACITY as u32)
            || self.program.vnets.iter().any(|v| {
                near(self.occupancy.of_vnet(v.id), v.max_flows)
                    || v.nics.iter().any(|n| near(self.occupancy.of_party(n.party), n.max_flows))
            })
    }

    fn forget_expired(&mut self) {
        let Some(first) = self.filling.inputs.first().map(|i| i.now) else { return };
        for worker in &mut self.workers {
            let mut shard = worker.lend();
            shard.reap(&self.occupancy, first);
            worker.keep(shard);
        }
    }

    /// Runs the filled batch packet by packet with all shards in one hand; nothing else may be running.
    fn one_by_one<E>(&mut self, sink: &mut impl FnMut(Finished<'_>) -> Result<(), E>) -> Result<(), E> {
        let batch = self.take_batch();
        let mut shards: Vec<Box<Shard>> = self.workers.iter_mut().map(Worker::lend).collect();
        let mut results: Vec<Results> = shards.iter().map(|_| Results::default()).collect();
        let mut trace = Trace::off();
        for (input, checked) in batch.inputs.iter().zip(&batch.checked) {
            let Checked::Arrived(arrival, own) = checked else { continue };
            for shard in &mut shards {
                shard.reap(&self.occupancy, input.now);
            }
            let own = usize::from(*own);
            let frame = batch.frame(input);
            let quoted = quoted_worker(arrival, frame, shards.len()).map(usize::from).filter(|q| *q != own);
            let (before, rest) = shards.split_at_mut(own);
            let Some((shard, behind)) = rest.split_first_mut() else { continue };
            let quoted = quoted.and_then(|q| before.get(q).or_else(|| behind.get(q.wrapping_sub(own + 1))));
            let context =
                Context { program: &batch.program, occupancy: &self.occupancy, quoted: quoted.map(|s| &**s) };
            let results = &mut results[own];
            let done = forward(context, shard, arrival, frame, input.now, &mut results.output, &mut trace);
            results.done.push(done);
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
        let mut next = vec![0usize; results.len()];
        for (i, (input, checked)) in batch.inputs.iter().zip(&batch.checked).enumerate() {
            let mut frames: [(u16, &[u8]); 1] = [(0, &[])];
            let mut many: Vec<(u16, &[u8])> = Vec::new();
            let (done, frames) = match checked {
                Checked::Ended(outcome) => (Done::early(*outcome), &frames[..0]),
                Checked::Arrived(_, worker) => {
                    let worker = usize::from(*worker);
                    let results = &mut results[worker];
                    let mut done = results.done[next[worker]];
                    next[worker] += 1;
                    if let Some((_, of)) = done.error
                        && !self.rate.allow(of, input.now)
                    {
                        done.error = None;
                        done.frames.1 = done.frames.0;
                    }
                    let range = done.frames.0 as usize..done.frames.1 as usize;
                    for frame in &results.output.frames[range.clone()] {
                        if let Some((tunnel, remote, at)) = frame.sequence {
                            let number = self.sent.next(tunnel, remote);
                            results.output.bytes[at as usize..at as usize + 4]
                                .copy_from_slice(&number.to_be_bytes());
                        }
                    }
                    let output = &results.output;
                    let slice = |f: &crate::dataplane::Frame| {
                        let port = self.from_program.get(usize::from(f.port)).copied().unwrap_or_default();
                        (port, &output.bytes[f.start as usize..f.end as usize])
                    };
                    match &output.frames[range] {
                        [] => (done, &frames[..0]),
                        [one] => {
                            frames[0] = slice(one);
                            (done, &frames[..])
                        }
                        all => {
                            many.extend(all.iter().map(slice));
                            (done, many.as_slice())
                        }
                    }
                }
            };
            sink(Finished {
                number: batch.first + i as u64,
                port: input.port,
                time: input.time,
                digits: input.digits,
                now: input.now,
                captured: batch.frame(input),
                original: input.original,
                done,
                frames,
                program: &batch.program,
            })?;
        }
        Ok(())
    }

    /// Puts another configuration in force at `at`; nothing may be running.
    fn swap(&mut self, model: Model, at: Nanos) {
        let program = Arc::new(recompile(&self.program, &self.model, &model, &mut self.names));
        let affected = change::affected(&self.program, &program);
        (self.program, self.model) = (program, model);
        self.filling = Batch::new(self.program.clone(), self.count + 1);
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
        let mut occupancy = std::mem::take(&mut self.occupancy);
        match Arc::get_mut(&mut occupancy) {
            Some(occupancy) => occupancy.grow(&self.program),
            None => unreachable!("workers hold the counts only while a batch runs"),
        }
        self.occupancy = occupancy;
    }
}
