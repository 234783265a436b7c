//! A worker: receives at its ports, runs the packets of its flows through the path, and sends what leaves. Frames of
//! other workers' flows are handed over.
//!
//! Between two rounds it carries out orders (another program, a port that comes or goes, a question), so that a batch
//! sees one program from its first packet to its last. It works as long as there is something, then sleeps until a
//! device, another worker or an order wakes it.

mod deliver;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ahash::RandomState;
use crossbeam_channel::{Receiver, Sender};
use tracing::warn;

use super::capture::{Offered, Tap};
use super::circuits::ends::{FromLink, LinkEnds};
use super::count::{Counts, PortCounts, VnetCounts};
use super::egress::Egress;
use super::flow_logs::{Listener, Teller};
use super::handover::HandOver;
use super::list::Listing;
use super::neighbours::Neighbours;
use super::port::Opened;
use crate::compile::Program;
use crate::dataplane::ingress::ingress;
use crate::dataplane::state::{ErrorRate, Received, Sent};
use crate::dataplane::{
    Context, Input, Occupancy, Policers, Results, Shard, change, process, sort, spread_of_arrival, worker,
};
use crate::model::Sequence;
use crate::packet::{Outcome, Reason};
use crate::sys::{Frames, MOST_POLLED, Wake, bpf, poll};
use crate::types::{Nanos, SECOND};
use deliver::Sending;

/// Frames that are taken from a port in a round at most.
const BURST: usize = 256;
/// How often counts are published at least, while there are new ones.
const PUBLISH: Duration = Duration::from_millis(50);
/// How long a worker sleeps at most while it holds flow records, which expire.
const NAP: Duration = Duration::from_millis(100);
/// Flow records that are looked at for expiry after a nap.
const EXPIRE: usize = 4096;
/// Times that a port that will be closed is read once more at most.
const LAST: usize = 64;
/// How long a worker goes on at most once it is told to stop.
const DRAIN: Duration = Duration::from_millis(300);

/// What is put in force.
#[derive(Clone)]
pub(super) struct News {
    pub program: Arc<Program>,
    pub occupancy: Arc<Occupancy>,
    pub policers: Arc<Policers>,
    /// The devices of circuit links.
    pub links: Arc<LinkEnds>,
    /// VNets as [`change::affected`] says.
    pub affected: Arc<[u32]>,
    /// The index in the program of each port, by its number; `u16::MAX`: it is not configured.
    pub to_program: Arc<[u16]>,
    /// And back.
    pub from_program: Arc<[u16]>,
    /// Who has it in force says so here.
    pub done: Option<Sender<()>>,
}

/// What a worker is told.
pub(super) enum Order {
    /// Put this in force.
    Adopt(News),
    /// Use this port from now on; what was there before is closed.
    Open(usize, Box<Opened>),
    /// Stop using this port.
    Close(usize),
    /// Receive by this port what this filter lets through from now on.
    Filter(usize, bpf::Program),
    /// The device of this port is up or down, and has this MAC address.
    Device(usize, bool, [u8; 6]),
    /// Say which flow records there are.
    Flows(Listing),
    /// Offer packets to who captures, from now on until that one has enough.
    Capture(Tap),
    /// Take what has been received, send what is to be sent, and end.
    Stop,
    /// Do this: how a test makes a worker fail.
    #[cfg(test)]
    Do(fn()),
}

/// What all workers share. The packet path itself takes none of these locks: sequence numbers of tunnels that have
/// them, and ICMP errors.
#[derive(Default)]
pub(super) struct Shared {
    /// How many workers have nothing left to do, once all are told to stop.
    idle: AtomicUsize,
    pub sent: Mutex<Sent>,
    pub rate: Mutex<ErrorRate>,
}

/// What a worker begins with.
pub(super) struct Beginning {
    pub orders: Receiver<Order>,
    pub wake: Wake,
    pub others: HandOver,
    pub news: News,
    pub neighbours: Arc<Neighbours>,
    pub flow_logs: Option<Listener>,
    /// Packets that the kernel sends by links; one worker has them all.
    pub from_links: Option<Receiver<FromLink>>,
    pub shared: Arc<Shared>,
    pub published: Arc<Mutex<Counts>>,
    pub round_at: Arc<AtomicU64>,
    pub hasher: RandomState,
    /// When the clock of all workers began.
    pub epoch: Instant,
}

/// A worker with everything it owns.
pub(super) struct Worker {
    orders: Receiver<Order>,
    wake: Wake,
    others: HandOver,
    news: News,
    /// Some tunnel refuses old sequence numbers.
    strict: bool,
    shared: Arc<Shared>,
    shard: Shard,
    received: Received,
    results: Results,
    ports: Vec<Option<Opened>>,
    frames: Frames,
    inputs: Vec<Input>,
    sorted: Vec<Vec<Input>>,
    egress: Egress,
    /// Frames of a batch as they are to be sent, by class, and what each link's device may still be given.
    sending: Sending,
    from_links: Option<Receiver<FromLink>>,
    listings: VecDeque<Listing>,
    /// What is told to who writes flow logs, if anybody does.
    teller: Option<Teller>,
    /// Captures that are on: hardly ever one.
    taps: Vec<Tap>,
    counts: Counts,
    published: Arc<Mutex<Counts>>,
    /// When the last round began, in the time of packets: says that this worker comes round.
    round_at: Arc<AtomicU64>,
    publish_at: Instant,
    tell_at: Instant,
    unpublished: bool,
    /// A device ended the last sleep, and nothing has come since.
    woken: bool,
    epoch: Instant,
    stop_at: Option<Instant>,
    /// Counted as idle among all workers.
    idle: bool,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_strict(program: &Program) -> bool {
    program.tunnels.iter().any(|t| t.sequence == Sequence::Strict)
}

/// The time of packets: from when the appliance began, and never near 0.
pub(super) fn nanos(since: Duration) -> Nanos {
    SECOND + since.as_nanos() as Nanos
}

/// The time by the clock on the wall.
fn wall_clock() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as Nanos
}

impl Worker {
    pub fn new(with: Beginning) -> Worker {
        let Beginning { orders, wake, others, news, .. } = with;
        Worker {
            orders,
            wake,
            sorted: vec![Vec::new(); others.workers()],
            strict: is_strict(&news.program),
            news,
            shared: with.shared,
            shard: Shard::numbered(others.number(), with.hasher),
            others,
            received: Received::default(),
            results: Results::default(),
            ports: Vec::new(),
            frames: Frames::default(),
            inputs: Vec::new(),
            egress: Egress::new(with.neighbours),
            sending: Sending::default(),
            from_links: with.from_links,
            listings: VecDeque::new(),
            teller: with.flow_logs.map(Teller::new),
            taps: Vec::new(),
            counts: Counts { reasons: vec![0; Reason::ALL.len()], ..Counts::default() },
            published: with.published,
            round_at: with.round_at,
            publish_at: Instant::now(),
            tell_at: Instant::now(),
            unpublished: true,
            woken: false,
            epoch: with.epoch,
            stop_at: None,
            idle: false,
        }
    }

    /// Works until it is told to stop; then everything is counted and published.
    pub fn run(mut self) {
        self.make_room_for_counts();
        if self.teller.is_some() {
            self.shard.flows.count_traffic();
        }
        loop {
            let begin = Instant::now();
            let now = nanos(begin.duration_since(self.epoch));
            self.round_at.store(now, Ordering::Relaxed);
            self.carry_out_orders(begin);
            let did = self.round(now);
            self.list_flows(now);
            let end = Instant::now();
            if !self.taps.is_empty() {
                self.taps.retain(|tap| !tap.is_over(end));
            }
            if did > 0 {
                self.woken = false;
                self.counts.busy += end.duration_since(begin).as_nanos() as u64;
                self.unpublished = true;
            }
            if let Some(at) = self.stop_at {
                if at <= end || self.all_are_idle(did == 0) {
                    break;
                }
                std::thread::yield_now();
            } else if did == 0 && self.listings.is_empty() {
                self.sleep(now, end);
            }
            if self.unpublished && end >= self.publish_at {
                self.publish(end);
            }
        }
        self.egress.give_up(&mut self.counts.ports);
        (0..self.ports.len()).for_each(|number| self.abandon(number));
        self.ports.clear();
        let end = Instant::now();
        if let Some(teller) = &mut self.teller {
            let now = nanos(end.duration_since(self.epoch));
            teller.tell_all(&mut self.shard, &self.news.program, now, wall_clock());
        }
        self.others.give_up(&mut self.counts);
        self.publish(end);
    }

    /// Takes what there is, of all ports and of other workers, and runs it; how many frames that was.
    fn round(&mut self, now: Nanos) -> usize {
        self.unpublished |= self.others.give_kept(&mut self.counts);
        let mut did = self.take_incoming(now);
        self.frames.clear();
        self.inputs.clear();
        for number in 0..self.ports.len() {
            self.receive(number, now);
        }
        did += self.frames.list.len();
        self.run_received(now);
        did += self.send_from_links(now);
        self.unpublished |= self.egress.look(&mut self.ports, &mut self.counts.ports, now);
        self.flush();
        did
    }

    /// Runs what was received, or hands it over.
    fn run_received(&mut self, now: Nanos) {
        let mut inputs = std::mem::take(&mut self.inputs);
        let frames = std::mem::take(&mut self.frames);
        if self.others.workers() == 1 {
            self.run_batch(&frames.bytes, &inputs, true, now);
        } else if !inputs.is_empty() {
            self.share_out(&frames.bytes, &inputs, now);
        }
        inputs.clear();
        (self.inputs, self.frames) = (inputs, frames);
    }

    /// Takes what a port still holds that will be closed.
    fn take_last(&mut self, number: usize, now: Nanos) {
        for _ in 0..LAST {
            self.frames.clear();
            self.inputs.clear();
            self.receive(number, now);
            if self.frames.list.is_empty() {
                break;
            }
            self.run_received(now);
        }
    }

    /// Has the devices send what is in the rings.
    fn flush(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.flush();
        }
    }

    /// Takes frames from a port.
    fn receive(&mut self, number: usize, now: Nanos) {
        let Some(Some(port)) = self.ports.get_mut(number) else { return };
        if !port.receives {
            return;
        }
        let first = self.frames.list.len();
        let others = port.receive(&mut self.frames, BURST);
        let index = self.news.to_program.get(number).copied().unwrap_or(u16::MAX);
        let Some(counts) = self.counts.ports.get_mut(number) else { return };
        counts.foreign += others as u64;
        self.unpublished |= others > 0;
        for got in self.frames.list.get(first..).unwrap_or_default() {
            let to = self.frames.bytes.get(got.start as usize..).and_then(|f| f.first_chunk::<6>());
            if to.is_some_and(|to| to[0] & 1 == 0 && !port.is_own(to)) {
                // A switch has flooded it: it is for somebody else.
                counts.foreign += 1;
                continue;
            }
            counts.in_frames += 1;
            counts.in_bytes += u64::from(got.end - got.start);
            self.inputs.push(Input {
                start: got.start,
                end: got.end,
                original: got.original,
                port: index,
                now,
            });
        }
    }

    /// Sorts received frames by worker, runs its own, and hands over the others.
    fn share_out(&mut self, bytes: &[u8], inputs: &[Input], now: Nanos) {
        let mut sorted = std::mem::take(&mut self.sorted);
        if self.strict {
            self.sort_strictly(bytes, inputs, &mut sorted);
        } else {
            sort(&self.news.program, bytes, inputs, &mut sorted);
        }
        for (whose, list) in sorted.iter_mut().enumerate() {
            if whose == self.others.number() {
                self.run_batch(bytes, list, !self.strict, now);
            } else if !list.is_empty() {
                self.others.give(whose, bytes, list, &self.news.from_program, &mut self.counts);
            }
            list.clear();
        }
        self.sorted = sorted;
    }

    /// Checks steps 1 to 5 first, because sequence numbers are checked in the order in which frames were received.
    fn sort_strictly(&mut self, bytes: &[u8], inputs: &[Input], sorted: &mut [Vec<Input>]) {
        let program = self.news.program.clone();
        for input in inputs {
            let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
            match ingress(&program, Some(&mut self.received), input.port, frame, input.original) {
                Err(outcome) => {
                    self.count(outcome.verdict, outcome.vnet, false);
                    for tap in &self.taps {
                        tap.sample(1).for_each(|_| self.offer(tap, bytes, input, &outcome, wall_clock()));
                    }
                }
                Ok(arrival) => {
                    let whose = worker(spread_of_arrival(&arrival, frame), sorted.len());
                    if let Some(list) = sorted.get_mut(whose) {
                        list.push(*input);
                    }
                }
            }
        }
    }

    /// Runs what others have handed over.
    fn take_incoming(&mut self, now: Nanos) -> usize {
        let mut did = 0;
        // Own ports have their turn, too.
        for _ in 0..4 {
            let Some(mut handed) = self.others.take() else { break };
            let to_program = self.news.to_program.clone();
            for input in &mut handed.inputs {
                // Its program may have been another one.
                input.port = to_program.get(usize::from(input.port)).copied().unwrap_or(u16::MAX);
                input.now = now;
            }
            did += handed.inputs.len();
            self.run_batch(&handed.bytes, &handed.inputs, !self.strict, now);
            self.others.give_back(handed);
        }
        did
    }

    /// Runs frames through the path and sends what leaves. `checks`: sequence numbers have not been checked yet.
    fn run_batch(&mut self, bytes: &[u8], inputs: &[Input], checks: bool, now: Nanos) {
        if inputs.is_empty() {
            return;
        }
        let News { program, occupancy, policers, .. } = &self.news;
        let context = Context { program, occupancy, quoted: None, policers, defers: false };
        self.results.clear();
        let received = checks.then_some(&mut self.received);
        process(context, received, &mut self.shard, bytes, inputs, &mut self.results);
        self.counts.batches += 1;
        if !self.taps.is_empty() {
            self.offer_all(bytes, inputs);
        }
        if let Some(teller) = &mut self.teller {
            teller.look(&self.news.program, bytes, inputs, &self.results);
            if teller.has_much(&self.shard) {
                teller.tell(&mut self.shard, &self.news.program, now, wall_clock());
            }
        }
        let mut results = std::mem::take(&mut self.results);
        self.deliver(&mut results, bytes, inputs, now);
        self.results = results;
    }

    /// Offers the packets of a batch to who captures.
    #[cold]
    fn offer_all(&self, bytes: &[u8], inputs: &[Input]) {
        let time = wall_clock();
        for tap in &self.taps {
            for packet in tap.sample(self.results.done.len()) {
                let Some(input) = inputs.get(packet) else { continue };
                let outcome = self.results.outcome(&self.news.program, packet);
                self.offer(tap, bytes, input, &outcome, time);
            }
        }
    }

    fn offer(&self, tap: &Tap, bytes: &[u8], input: &Input, outcome: &Outcome, time: Nanos) {
        let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
        let Input { original, port, .. } = *input;
        tap.offer(Offered { frame, original, time, port, outcome, program: &self.news.program });
    }

    fn carry_out_orders(&mut self, begin: Instant) {
        while let Ok(order) = self.orders.try_recv() {
            self.unpublished = true;
            match order {
                Order::Adopt(news) => self.adopt(news, begin),
                Order::Open(number, port) => {
                    if self.ports.len() <= number {
                        self.ports.resize_with(number + 1, || None);
                    }
                    self.make_room_for_counts();
                    if let Some(place) = self.ports.get_mut(number) {
                        let former = place.take();
                        place.insert(*port).take_over(former);
                    }
                }
                Order::Close(number) => {
                    self.take_last(number, nanos(begin.duration_since(self.epoch)));
                    self.abandon(number);
                    if let Some(place) = self.ports.get_mut(number) {
                        *place = None;
                    }
                }
                Order::Filter(number, program) => {
                    if let Some(Some(port)) = self.ports.get_mut(number)
                        && let Err(e) = port.set_filter(&program)
                    {
                        warn!("port {number}: its filter stays as it was, as it cannot be changed: {e}");
                    }
                }
                Order::Device(number, up, mac) => {
                    if let Some(Some(port)) = self.ports.get_mut(number) {
                        port.set_device(up, mac);
                    }
                }
                Order::Flows(listing) => self.listings.push_back(listing),
                Order::Capture(tap) => self.taps.push(tap),
                Order::Stop => self.stop_at = Some(begin + DRAIN),
                #[cfg(test)]
                Order::Do(this) => this(),
            }
        }
    }

    /// Puts another program in force.
    fn adopt(&mut self, news: News, begin: Instant) {
        let now = nanos(begin.duration_since(self.epoch));
        // What is still to be told is of the program until now.
        if let Some(teller) = &mut self.teller {
            teller.tell_before_change(&mut self.shard, &self.news.program, now, wall_clock());
        }
        if !Arc::ptr_eq(&news.occupancy, &self.news.occupancy) {
            self.shard.tally(&self.news.occupancy).move_to(self.shard.tally(&news.occupancy));
        }
        self.received.keep(&news.program);
        lock(&self.shared.sent).keep(&news.program);
        change::adopt(&mut self.shard, &news.occupancy, &news.program, &news.affected, now);
        self.strict = is_strict(&news.program);
        self.news = news;
        self.make_room_for_counts();
        if let Some(done) = self.news.done.take() {
            // Who asked may not wait any longer.
            let _ = done.try_send(());
        }
    }

    fn make_room_for_counts(&mut self) {
        let ports = self.news.to_program.len().max(self.ports.len());
        let vnets = self.news.program.names.vnet_count();
        if self.counts.ports.len() < ports {
            self.counts.ports.resize(ports, PortCounts::default());
        }
        if self.counts.vnets.len() < vnets {
            self.counts.vnets.resize(vnets, VnetCounts::default());
        }
    }

    /// Goes on with the first list of flow records, if somebody has asked for one.
    fn list_flows(&mut self, now: Nanos) {
        if let Some(listing) = self.listings.front_mut()
            && listing.go_on(&self.shard.flows, &self.news.program, now)
        {
            self.listings.pop_front();
        }
    }

    /// Says whether this worker is idle; true if all are. One that is not may hand frames to the others.
    fn all_are_idle(&mut self, idle: bool) -> bool {
        let idle = idle && self.all_sent();
        let all = &self.shared.idle;
        let before = match (idle, std::mem::replace(&mut self.idle, idle)) {
            (true, false) => all.fetch_add(1, Ordering::Relaxed) + 1,
            (false, true) => all.fetch_sub(1, Ordering::Relaxed) - 1,
            _ => all.load(Ordering::Relaxed),
        };
        before == self.others.workers()
    }

    /// True if nothing is left to send.
    fn all_sent(&mut self) -> bool {
        !self.others.keeps()
            && self.egress.waiting() == 0
            && self.ports.iter_mut().flatten().all(Opened::flush)
    }

    fn count_losses(&mut self) {
        for (port, counts) in self.ports.iter_mut().zip(&mut self.counts.ports) {
            let Some(port) = port else { continue };
            if port.receives {
                counts.ring_full += port.new_losses();
            }
            let (unsent, refused) = (port.take_unsent(), port.new_refused());
            counts.device_down += unsent;
            counts.too_long += refused;
            counts.out_frames -= (unsent + refused).min(counts.out_frames);
        }
    }

    /// Counts what a port that is closed will not send any more.
    fn abandon(&mut self, number: usize) {
        if let Some(Some(port)) = self.ports.get_mut(number) {
            port.flush();
            port.drop_former();
        }
        self.count_losses();
        if let (Some(Some(port)), Some(counts)) =
            (self.ports.get_mut(number), self.counts.ports.get_mut(number))
        {
            let pending = port.pending() as u64;
            counts.device_down += pending;
            counts.out_frames -= pending.min(counts.out_frames);
        }
    }

    /// Lets others see what was counted.
    fn publish(&mut self, at: Instant) {
        self.count_losses();
        self.tell_flows(at);
        self.counts.flows = self.shard.flows.len() as u64;
        self.counts.table_bytes = self.shard.memory() as u64;
        self.shard.meters.all().clone_into(&mut self.counts.meters);
        let mut published = lock(&self.published);
        published.clone_from(&self.counts);
        // What still waits in a ring has not been sent.
        for (port, counts) in self.ports.iter().zip(&mut published.ports) {
            counts.out_frames -= port.as_ref().map_or(0, |p| p.pending() as u64).min(counts.out_frames);
        }
        drop(published);
        self.publish_at = at + PUBLISH;
        self.unpublished = self.ports.iter().flatten().any(|port| port.pending() > 0);
    }

    /// Tells who writes flow logs, if anybody does, what has come up; not each time that a worker wakes, for each time
    /// takes a place of few.
    fn tell_flows(&mut self, at: Instant) {
        if at < self.tell_at {
            return;
        }
        self.tell_at = at + PUBLISH;
        if let Some(teller) = &mut self.teller {
            let now = nanos(at.duration_since(self.epoch));
            teller.tell(&mut self.shard, &self.news.program, now, wall_clock());
        }
    }

    /// Waits until there is something to do, or for as long as may be.
    fn sleep(&mut self, now: Nanos, since: Instant) {
        self.shard.reap_some(&self.news.occupancy, now, EXPIRE);
        if self.woken {
            // What nobody has taken, such as that a device was down for a moment, would wake for ever.
            self.ports.iter_mut().flatten().for_each(Opened::take_error);
        }
        // What waits in a ring is counted anew each time, but not each millisecond.
        let soon = self.has_unsent() && since < self.publish_at;
        if soon {
            self.tell_flows(since);
        } else if self.unpublished || self.counts.flows != self.shard.flows.len() as u64 {
            self.publish(since);
        } else {
            self.tell_flows(since);
        }
        let holds = !self.shard.flows.is_empty() || self.egress.waiting() > 0 || self.has_unsent();
        // What is left in a ring is tried again soon, all else wakes by itself.
        let most = match (self.has_unsent(), holds) {
            (true, _) => Duration::from_millis(1),
            (_, true) => NAP,
            _ => 10 * NAP,
        };
        let mut fds = vec![self.wake.as_fd()];
        fds.extend(self.ports.iter().flatten().flat_map(Opened::descriptors).take(MOST_POLLED - 1));
        // Whatever fails, it must not become a busy loop.
        let ready = poll(&fds, Some(most)).unwrap_or_else(|_| {
            std::thread::sleep(Duration::from_millis(1));
            0
        });
        self.woken = ready & !1 != 0;
        self.wake.clear();
    }

    fn has_unsent(&self) -> bool {
        self.others.keeps() || self.ports.iter().flatten().any(Opened::is_dirty)
    }
}
