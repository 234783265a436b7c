//! Which packet comes next: a long sequence of flow numbers, made before the run, or new flows and their successors.

use super::settings::Settings;
use super::traffic::{Packet, Traffic};
use crate::table::ecmp::mix;
use crate::types::{Nanos, SECOND};

/// Packets in the sequence at least and at most: too many for a predictor of branches or addresses.
const SEQUENCE: (u64, u64) = (1 << 20, 1 << 22);
/// Between two packets of a worker when none opens a flow: about as fast as they really come.
const TICK: Nanos = 20;
/// When the clock begins.
const START: Nanos = 1_700_000_000 * SECOND;
/// How long a flow may be idle.
const IDLE: Nanos = 240 * SECOND;

/// How many connections it takes to have so many flow records: one inside a VNet has two, any other one.
pub fn connections(flows: u32, vnets: u32) -> u64 {
    let (flows, vnets) = (u64::from(flows), u64::from(vnets));
    // Kinds take turns, each for one connection of every VNet.
    let (turns, rest) = (flows / (5 * vnets), flows % (5 * vnets));
    4 * vnets * turns + if rest <= 2 * vnets { rest.div_ceil(2) } else { rest - vnets }
}

/// Where the packets of one worker's receive queue come from.
pub struct Source {
    worker: u64,
    workers: u64,
    connections: u64,
    /// With flows that nobody has seen: 0 opens one; other numbers say how far behind the last one the packet's is, and
    /// the lowest bit that it is a reply. Without: the number of the connection, and that bit.
    sequence: Vec<u32>,
    cursor: usize,
    opens: bool,
    /// Connections of this worker that were opened.
    opened: u64,
    now: Nanos,
    /// What the clock has beyond whole nanoseconds.
    rest: f64,
    tick: f64,
    tick_to_fill: f64,
}

impl Source {
    /// The source of a worker, one of several.
    pub fn new(settings: &Settings, traffic: &Traffic, worker: u64) -> Source {
        let all = connections(settings.flows, settings.vnets);
        let workers = u64::from(settings.workers);
        let mut random = Random(mix(settings.seed ^ mix(worker + 77)));
        let length = (4 * all).next_power_of_two().clamp(SEQUENCE.0, SEQUENCE.1) as usize;
        let share = settings.opening();
        let opens = share > 0.0;
        let (sequence, per_flow) = if opens {
            let reach = (all / 4 / workers).max(1);
            let zipf = Zipf::new(reach, settings.zipf);
            let behind = |r: &mut Random| (1 + zipf.sample(r.fraction())).min(reach);
            let next = |r: &mut Random| match r.fraction() < share {
                true => 0,
                false => (behind(r) as u32) << 1 | (r.next() & 1) as u32,
            };
            // A flow lives on for the idle time behind its last packet, which is the last of so many in that reach.
            let successors = (1.0 - share) / share;
            let lifetime = all as f64 - all as f64 / 4.0 * successors / (successors + 1.0);
            ((0..length).map(|_| next(&mut random)).collect(), IDLE as f64 / lifetime)
        } else {
            let zipf = Zipf::new(all, settings.zipf);
            let places = shuffled(all, &mut Random(mix(settings.seed)));
            let next = |r: &mut Random| {
                let connection = places[zipf.sample(r.fraction()) as usize];
                let reply = r.next() & 1 == 0 && traffic.has_replies(u64::from(connection));
                connection << 1 | u32::from(reply)
            };
            ((0..length).map(|_| next(&mut random)).collect(), 0.0)
        };
        Source {
            worker,
            workers,
            connections: all,
            sequence,
            cursor: 0,
            opens,
            opened: 0,
            now: START,
            rest: 0.0,
            tick: if opens { per_flow * share * workers as f64 } else { TICK as f64 },
            tick_to_fill: if opens { per_flow * workers as f64 } else { TICK as f64 },
        }
    }

    /// The clock.
    pub fn now(&self) -> Nanos {
        self.now
    }

    #[inline]
    fn tick(&mut self, nanos: f64) {
        self.rest += nanos;
        let whole = self.rest as u64;
        self.now += whole;
        self.rest -= whole as f64;
    }

    /// True if packets open flows that nobody has seen while the bench runs.
    pub fn opens(&self) -> bool {
        self.opens
    }

    /// A packet that opens one of the connections that are there when the bench begins, until all are open.
    pub fn first(&mut self) -> Option<Packet> {
        let connection = self.opened * self.workers + self.worker;
        if connection >= self.connections {
            return None;
        }
        self.opened += 1;
        self.tick(self.tick_to_fill);
        Some(Packet { connection, reply: false, opens: true })
    }

    /// How many of the connections that are there when the bench begins this worker opens.
    pub fn share(&self) -> u64 {
        (self.connections + self.workers - 1 - self.worker) / self.workers
    }

    /// A packet of one of them, for every `turn`: its next one, or the reply to it.
    pub fn again(&mut self, turn: u64, reply: bool) -> Packet {
        self.tick(TICK as f64);
        Packet { connection: turn * self.workers + self.worker, reply, opens: false }
    }

    /// The next packet of the run.
    #[inline]
    pub fn next(&mut self) -> Packet {
        self.tick(self.tick);
        let entry = self.sequence[self.cursor];
        self.cursor = (self.cursor + 1) & (self.sequence.len() - 1);
        if !self.opens {
            return Packet { connection: u64::from(entry >> 1), reply: entry & 1 == 1, opens: false };
        }
        if entry == 0 {
            self.opened += 1;
            return Packet { connection: self.number(0), reply: false, opens: true };
        }
        Packet { connection: self.number(u64::from(entry >> 1) - 1), reply: entry & 1 == 1, opens: false }
    }

    /// The connection that this worker opened last but so many.
    fn number(&self, behind: u64) -> u64 {
        (self.opened - 1).saturating_sub(behind) * self.workers + self.worker
    }
}

/// The numbers below `count`, in random order.
fn shuffled(count: u64, random: &mut Random) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    for i in (1..numbers.len()).rev() {
        let other = ((random.next() as u128 * (i as u128 + 1)) >> 64) as usize;
        numbers.swap(i, other);
    }
    numbers
}

/// A sequence of random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to 1, below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks by Zipf's law, exactly: the k-th of them is drawn with a probability that falls as 1/k^s.
struct Zipf {
    count: u64,
    /// Of each rank, the share of all ranks up to it; empty if all are alike.
    shares: Vec<f64>,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let mut shares = Vec::new();
        if exponent > 0.0 {
            shares.extend((1..=count).map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            }));
            shares.iter_mut().for_each(|s| *s /= sum);
        }
        Zipf { count, shares }
    }

    /// The rank, from 0, that a random number from 0 to 1 stands for.
    fn sample(&self, fraction: f64) -> u64 {
        let rank = match self.shares.is_empty() {
            true => (fraction * self.count as f64) as u64,
            false => self.shares.partition_point(|s| *s <= fraction) as u64,
        };
        rank.min(self.count - 1)
    }
}
