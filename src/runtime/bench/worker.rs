//! A worker of a bench: fills a receive ring with fresh frames, and runs them, with the clock stopped while it fills,
//! counts and checks.
//!
//! With several workers each has a receive ring of its own, in which any flow may come. It looks into each frame, which
//! says whose it is, runs its own and hands the others over with the ring that they lie in; the ring is filled again when
//! nobody holds it any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::bursts::Bursts;
use super::check::Checker;
use super::settings::Settings;
use super::source::Source;
use super::swap::{InForce, News};
use super::traffic::{OUTER, Packet, Traffic};
use crate::compile::Program;
use crate::dataplane::state::Received;
use crate::dataplane::{Context, Input, Occupancy, Results, Shard, change, process, sort};
use crate::packet::{FlowState, Verdict};
use crate::sys::Region;
use crate::types::Nanos;

/// Frames that go through the path together.
pub const BURST: usize = 256;
/// Buffers of a receive ring.
pub const RING: usize = 1024;
/// Bytes of a buffer, or as many of these as a frame needs.
pub const BUFFER: usize = 128;
/// Bytes of a buffer in front of the frame: the inner packet begins with a cache line, so that who only sends it reads one
/// line of it if it is small.
const HEADROOM: usize = 64 - OUTER;
/// Rings of a worker when others may still hold one.
const RINGS: usize = 4;
/// Batches that may wait for a worker.
const WAITING: usize = 256;
/// Rings by which a worker may be ahead of the slowest one where flows expire.
const AHEAD: u64 = 2;
/// How long a worker keeps its processor at a time: less than systems grant.
const SLICE: Duration = Duration::from_millis(1);
/// One in so many packets is checked while the bench runs.
pub const CHECKED: u64 = 1009;

/// Received frames, and which packets they bring.
struct Ring {
    bytes: Region,
    buffers: usize,
    stride: usize,
    packets: Vec<Packet>,
    inputs: Vec<Input>,
}

/// Frames of one worker's ring for another worker.
struct Batch {
    /// The ring they lie in; absent when this says that its sender has no more.
    ring: Option<Arc<Ring>>,
    packets: Vec<Input>,
    from: usize,
}

/// What a worker did in a part of the bench.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Packets that it ran.
    pub packets: u64,
    /// How long it worked on them.
    pub busy: Duration,
    /// How long of that it looked whose frames are, and handed over those of others.
    pub handing: Duration,
    /// Those that were forwarded, dropped and punted.
    pub verdicts: [u64; 3],
    /// Those that opened a flow.
    pub opened: u64,
    /// Those that were compared with what must become of them.
    pub checked: u64,
    /// Flow records that are live.
    pub flows: u64,
    /// Bytes of the table that holds them, with its index and timers.
    pub table: u64,
    /// Huge pages back that table.
    pub huge_pages: bool,
    /// Nanoseconds per packet of the median burst; with several workers, parsing and handing over is not in it.
    pub median_burst: f64,
}

/// A part of a bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every connection is opened, every packet checked.
    Open,
    /// Every connection has another packet and, if it has any, a reply; every packet is checked.
    Confirm,
    /// Every connection has another packet, so that none idles out.
    Refresh,
    /// Packets come by the sequence until this is over; those before the first duration do not count.
    Run(Duration, Duration),
}

/// The ends of the queues of one worker.
struct Queues {
    incoming: Receiver<Batch>,
    others: Vec<Sender<Batch>>,
    /// Emptied lists come back to who sent them.
    emptied: Receiver<Vec<Input>>,
    back: Vec<Sender<Vec<Input>>>,
    /// How many rings each worker has filled.
    filled: Arc<Vec<AtomicU64>>,
    waiting: VecDeque<(usize, Batch)>,
}

/// A worker with everything it owns.
pub struct Worker {
    number: usize,
    workers: usize,
    traffic: Arc<Traffic>,
    source: Source,
    program: Arc<Program>,
    version: u64,
    in_force: Arc<InForce>,
    occupancy: Arc<Occupancy>,
    received: Received,
    shard: Shard,
    results: Results,
    rings: Vec<Arc<Ring>>,
    sorted: Vec<Vec<Input>>,
    queues: Queues,
    /// The traffic that the checks believe in: the same, but where a test wants to see them fail.
    expected: Arc<Traffic>,
    checker: Checker,
    figures: Figures,
    /// How long it has worked on packets in all parts so far.
    busy: Duration,
    bursts: Bursts,
    until_check: u64,
    check_all: bool,
    turn: u64,
    now: Nanos,
}

/// Makes the workers of a bench, with queues between them.
pub fn workers(
    settings: &Settings,
    traffic: &Arc<Traffic>,
    expected: &Arc<Traffic>,
    in_force: &Arc<InForce>,
    occupancy: &Arc<Occupancy>,
) -> Vec<Worker> {
    let count = settings.workers as usize;
    let hasher = RandomState::new();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded::<Batch>(WAITING)).unzip();
    let (backs, emptied): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(WAITING)).unzip();
    let filled: Arc<Vec<AtomicU64>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
    let ring = ring_length(settings);
    let ends = receivers.into_iter().zip(emptied).enumerate();
    ends.map(|(number, (incoming, emptied))| {
        let News { version, program, .. } = in_force.take(number);
        let source = Source::new(settings, traffic, number as u64);
        Worker {
            number,
            workers: count,
            now: source.now(),
            source,
            program,
            version,
            in_force: in_force.clone(),
            occupancy: occupancy.clone(),
            received: Received::default(),
            shard: Shard::numbered(number, hasher.clone()),
            results: Results::default(),
            rings: (0..if count > 1 { RINGS } else { 1 })
                .map(|_| Arc::new(Ring::new(traffic, ring)))
                .collect(),
            sorted: vec![Vec::new(); count],
            queues: Queues {
                incoming,
                others: senders.clone(),
                emptied,
                back: backs.clone(),
                filled: filled.clone(),
                waiting: VecDeque::with_capacity(WAITING),
            },
            checker: Checker::default(),
            traffic: traffic.clone(),
            expected: expected.clone(),
            figures: Figures::default(),
            busy: Duration::ZERO,
            bursts: Bursts::new(),
            until_check: CHECKED,
            check_all: false,
            turn: 0,
        }
    })
    .collect()
}

/// Buffers of a ring. Where flows expire while several workers run, the workers must not part by a large part of a flow's
/// life: then rings are shorter if the flows are few.
fn ring_length(settings: &Settings) -> usize {
    if settings.workers == 1 || settings.new_flows == 0.0 {
        return RING;
    }
    (super::source::connections(settings.flows, settings.vnets) as usize / 32).clamp(16, RING)
}

impl Ring {
    fn new(traffic: &Traffic, length: usize) -> Ring {
        let stride = (HEADROOM + traffic.frame_length()).next_multiple_of(BUFFER);
        Ring {
            bytes: Region::new(length * stride),
            buffers: length,
            stride,
            packets: Vec::with_capacity(length),
            inputs: Vec::with_capacity(length),
        }
    }

    /// Writes the frames of packets until there is no more room or packet.
    fn fill(&mut self, traffic: &Traffic, mut next: impl FnMut() -> Option<(Packet, Nanos)>) {
        self.packets.clear();
        self.inputs.clear();
        let length = traffic.frame_length();
        for (i, buffer) in self.bytes.chunks_exact_mut(self.stride).take(self.buffers).enumerate() {
            let Some((packet, now)) = next() else { break };
            let port = traffic.write(packet, &mut buffer[HEADROOM..HEADROOM + length]);
            let start = (i * self.stride + HEADROOM) as u32;
            self.packets.push(packet);
            let end = start + length as u32;
            self.inputs.push(Input { start, end, original: length as u32, port, now });
        }
    }

    /// The packet that a frame brings.
    fn packet(&self, input: &Input) -> Packet {
        self.packets[input.start as usize / self.stride]
    }
}

impl Worker {
    /// Flow records that are live in its shard.
    pub fn live(&self) -> u64 {
        self.shard.flows.live(self.now)
    }

    /// To be called for every worker before any of them runs a part.
    pub fn prepare(&mut self) {
        self.figures = Figures::default();
        self.bursts.clear();
        self.turn = 0;
        self.filled(self.number).store(0, Ordering::Relaxed);
    }

    fn filled(&self, worker: usize) -> &AtomicU64 {
        &self.queues.filled[worker]
    }

    /// Runs one part of the bench, with the other workers if there are any: what this one did, or what went wrong.
    pub fn run(&mut self, part: Part, failed: &AtomicBool) -> Result<Figures, String> {
        let result = self.run_part(part, failed);
        self.filled(self.number).store(u64::MAX, Ordering::Relaxed);
        if result.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        self.figures.flows = self.live();
        self.figures.table = self.shard.flows.memory() as u64;
        self.figures.huge_pages = self.shard.flows.huge_pages();
        self.figures.median_burst = self.bursts.median();
        result.map(|()| self.figures)
    }

    fn run_part(&mut self, part: Part, failed: &AtomicBool) -> Result<(), String> {
        self.check_all = matches!(part, Part::Open | Part::Confirm);
        let begin = Instant::now();
        let mut yielded = begin;
        let mut counting = !matches!(part, Part::Run(..));
        let (mut filling, mut counted, mut said_end, mut ended) = (true, false, false, 1);
        while !failed.load(Ordering::Relaxed) {
            if let Part::Run(warm, until) = part {
                let passed = begin.elapsed();
                if !counting && passed >= warm {
                    counting = true;
                    self.figures = Figures::default();
                    self.bursts.clear();
                }
                // However slow the machine is, something is counted.
                filling &= passed < until || !counted;
            }
            // Who else waits for this processor shall have it now, while the clock stands.
            if yielded.elapsed() >= SLICE {
                std::thread::yield_now();
                yielded = Instant::now();
            }
            ended += self.take_incoming()?;
            let sent = self.send_waiting();
            match self.free_ring() {
                Some(ring) if filling => {
                    filling = self.fill_and_run(ring, part)?;
                    counted |= counting;
                }
                _ if filling || !sent => std::thread::yield_now(),
                _ if !said_end => {
                    said_end = true;
                    self.filled(self.number).store(u64::MAX, Ordering::Relaxed);
                    self.say_end();
                }
                _ if ended < self.workers => std::thread::yield_now(),
                _ => break,
            }
        }
        Ok(())
    }

    /// A ring that nobody holds, unless this worker is too far ahead of another one.
    fn free_ring(&mut self) -> Option<usize> {
        if self.workers > 1 && self.source.opens() {
            let own = self.filled(self.number).load(Ordering::Relaxed);
            if self.queues.filled.iter().any(|f| f.load(Ordering::Relaxed).saturating_add(AHEAD) < own) {
                return None;
            }
        }
        self.rings.iter_mut().position(|r| Arc::get_mut(r).is_some())
    }

    /// Fills a ring and runs or hands over its frames; false if there are no more.
    fn fill_and_run(&mut self, number: usize, part: Part) -> Result<bool, String> {
        self.fill(number, part);
        let ring = self.rings[number].clone();
        if ring.inputs.is_empty() {
            return Ok(false);
        }
        self.filled(self.number).fetch_add(1, Ordering::Relaxed);
        if self.workers == 1 {
            for burst in ring.inputs.chunks(BURST) {
                self.burst(Instant::now(), &ring, burst)?;
            }
            return Ok(true);
        }
        self.sort(&ring);
        let mut own = std::mem::take(&mut self.sorted[self.number]);
        self.bursts_of(Instant::now(), &ring, &mut own)?;
        own.clear();
        self.sorted[self.number] = own;
        Ok(true)
    }

    fn fill(&mut self, number: usize, part: Part) {
        let Worker { source, traffic, rings, turn, .. } = self;
        let Some(ring) = rings.get_mut(number).and_then(Arc::get_mut) else { return };
        let share = source.share();
        ring.fill(traffic, || {
            let packet = match part {
                Part::Open => source.first()?,
                Part::Run(..) => source.next(),
                Part::Refresh if *turn < share => source.again(*turn, false),
                Part::Confirm if *turn / 2 < share => {
                    let packet = source.again(*turn / 2, *turn % 2 == 1);
                    if !packet.reply && !traffic.has_replies(packet.connection) {
                        // There is no reply in the next turn.
                        *turn += 1;
                    }
                    packet
                }
                Part::Refresh | Part::Confirm => return None,
            };
            *turn += 1;
            Some((packet, source.now()))
        });
    }

    /// Looks whose the frames of a ring are, and hands those of others over.
    fn sort(&mut self, ring: &Arc<Ring>) {
        let begin = Instant::now();
        sort(&self.program, &ring.bytes, &ring.inputs, &mut self.sorted);
        let own = self.number;
        for whose in (0..self.workers).filter(|w| *w != own) {
            if !self.sorted[whose].is_empty() {
                let empty = self.queues.emptied.try_recv().unwrap_or_default();
                let packets = std::mem::replace(&mut self.sorted[whose], empty);
                self.send(whose, Batch { ring: Some(ring.clone()), packets, from: own });
            }
        }
        let took = begin.elapsed();
        self.worked(took);
        self.figures.handing += took;
    }

    fn send(&mut self, whose: usize, batch: Batch) {
        if !self.queues.waiting.is_empty() {
            self.queues.waiting.push_back((whose, batch));
        } else if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.queues.others[whose].try_send(batch)
        {
            self.queues.waiting.push_back((whose, batch));
        }
    }

    /// Tries again to hand over what found a full queue; true if nothing waits any more.
    fn send_waiting(&mut self) -> bool {
        while let Some((whose, batch)) = self.queues.waiting.pop_front() {
            if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
                self.queues.others[whose].try_send(batch)
            {
                self.queues.waiting.push_front((whose, batch));
                return false;
            }
        }
        true
    }

    fn say_end(&mut self) {
        let own = self.number;
        for whose in (0..self.workers).filter(|w| *w != own) {
            self.send(whose, Batch { ring: None, packets: Vec::new(), from: self.number });
        }
    }

    /// Runs what others have handed over; how many of them have no more.
    fn take_incoming(&mut self) -> Result<usize, String> {
        let mut ended = 0;
        loop {
            let begin = Instant::now();
            let Ok(Batch { ring, mut packets, from }) = self.queues.incoming.try_recv() else {
                return Ok(ended);
            };
            let Some(ring) = ring else {
                ended += 1;
                continue;
            };
            self.bursts_of(begin, &ring, &mut packets)?;
            let begin = Instant::now();
            drop(ring);
            packets.clear();
            // A list that does not go back is made anew.
            let _ = self.queues.back[from].try_send(packets);
            self.worked(begin.elapsed());
        }
    }

    /// Runs sorted packets through the path.
    fn bursts_of(&mut self, mut begin: Instant, ring: &Ring, packets: &mut [Input]) -> Result<(), String> {
        for input in &mut *packets {
            input.now = input.now.max(self.now);
        }
        for burst in packets.chunks(BURST) {
            self.burst(begin, ring, burst)?;
            begin = Instant::now();
        }
        Ok(())
    }

    /// Runs frames of a ring through the path, and counts and checks what became of them.
    fn burst(&mut self, begin: Instant, ring: &Ring, inputs: &[Input]) -> Result<(), String> {
        self.keep_up(inputs);
        self.results.clear();
        let context = Context::new(&self.program, &self.occupancy);
        let received = Some(&mut self.received);
        process(context, received, &mut self.shard, &ring.bytes, inputs, &mut self.results);
        let took = begin.elapsed();
        self.worked(took);
        self.bursts.add(inputs.len(), took);
        self.now = inputs.last().map_or(self.now, |i| i.now);
        self.count(ring, inputs)
    }

    /// Counts time that was spent on packets.
    fn worked(&mut self, took: Duration) {
        self.figures.busy += took;
        self.busy += took;
        self.in_force.worked(self.number, self.busy);
    }

    /// Puts the newest program in force, before these frames.
    fn keep_up(&mut self, inputs: &[Input]) {
        if self.version < self.in_force.version() {
            self.adopt(inputs.first().map_or(self.now, |i| i.now.max(self.now)));
        }
    }

    fn adopt(&mut self, now: Nanos) {
        let news = self.in_force.take(self.number);
        self.received.keep(&news.program);
        change::adopt(&mut self.shard, &self.occupancy, &news.program, &news.affected, now);
        news.settle();
        (self.version, self.program) = (news.version, news.program);
    }

    /// Counts what became of packets; every one must be forwarded, and what is checked must be as expected.
    fn count(&mut self, ring: &Ring, inputs: &[Input]) -> Result<(), String> {
        if self.results.done.len() != inputs.len() {
            let came = self.results.done.len();
            return Err(format!("{} packets went into the path and {came} came out of it", inputs.len()));
        }
        for (i, input) in inputs.iter().enumerate() {
            let brief = self.results.done[i];
            let kind = match brief.verdict {
                Verdict::Forward => 0,
                Verdict::Drop(_) => 1,
                Verdict::Punt(_) => 2,
            };
            self.figures.packets += 1;
            self.figures.verdicts[kind] += 1;
            self.figures.opened += u64::from(brief.flow == FlowState::New);
            self.until_check -= 1;
            if self.until_check == 0 || self.check_all || kind != 0 {
                self.until_check = CHECKED;
                self.figures.checked += 1;
                let (expected, names) = (&self.expected, &self.program.names);
                let outcome = self.results.outcome(&self.program, i);
                self.checker.check(expected, names, ring.packet(input), &outcome, self.results.frames(i))?;
            }
        }
        Ok(())
    }
}
