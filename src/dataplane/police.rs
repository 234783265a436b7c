//! Bandwidth of circuit links: a token bucket for each link and direction, shared by all workers.
//!
//! A bucket holds a tenth of a second at its rate. What it holds is not written down: it is the time since it was empty, as
//! far as it fills, times the rate. So one number is the whole state, and charging it is one compare-and-swap.
//!
//! The order of packets counts. Whoever has them in their order charges as it goes; a replay with several workers makes
//! sure before a batch that no bucket can run short in it, has the workers note what they charge, and charges behind them,
//! in the order of packets ([`Charge`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compile::names::{LinkName, Names};
use crate::compile::{CircuitLink, Program};
use crate::model::Link;
use crate::types::{Nanos, SECOND};

/// How long a bucket fills until it is full.
const FULL: Nanos = SECOND / 10;

/// Thousandths of a bit: of them a rate of one Mbps is one each nanosecond.
const OF_BIT: u64 = 1000;

/// A direction of a circuit link, as its bucket and its meter see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Toward {
    /// From the customer.
    In,
    /// To the customer.
    Out,
}

/// What a packet takes from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The number of the packet in its batch.
    pub packet: u32,
    /// Whose bucket ([`CircuitLink::bucket`]).
    pub bucket: u32,
    /// Which of the two.
    pub toward: Toward,
    /// The lengths of the inner packets together.
    pub bytes: u32,
}

/// What one bucket holds, in thousandths of a bit.
#[derive(Debug)]
struct Bucket {
    /// When it was empty, or would have been, times the rate, modulo 2^64.
    empty_at: AtomicU64,
    /// When it was last charged: it is full a while after that, whatever the number above says by then.
    last: AtomicU64,
}

impl Bucket {
    /// One that is full.
    fn full(rate: u32) -> Bucket {
        Bucket { empty_at: AtomicU64::new(0_u64.wrapping_sub(capacity(rate))), last: AtomicU64::new(0) }
    }

    /// One that holds this much at `now`.
    fn holding(held: u64, rate: u32, now: Nanos) -> Bucket {
        let empty_at = clock(now, rate).wrapping_sub(held);
        Bucket { empty_at: AtomicU64::new(empty_at), last: AtomicU64::new(now) }
    }

    /// What it holds; less than nothing if another worker is ahead in time.
    #[inline]
    fn held(&self, empty_at: u64, rate: u32, now: Nanos) -> i64 {
        let last = self.last.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= FULL {
            return capacity(rate) as i64;
        }
        (clock(now, rate).wrapping_sub(empty_at) as i64).min(capacity(rate) as i64)
    }

    /// Takes so many bits out, if it holds them.
    #[inline]
    fn take(&self, bits: u64, rate: u32, now: Nanos) -> bool {
        let need = (bits * OF_BIT) as i64;
        let mut empty_at = self.empty_at.load(Ordering::Relaxed);
        loop {
            let held = self.held(empty_at, rate, now);
            if held < need {
                return false;
            }
            let next = clock(now, rate).wrapping_sub((held - need) as u64);
            let swapped =
                self.empty_at.compare_exchange_weak(empty_at, next, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => break,
                Err(other) => empty_at = other,
            }
        }
        self.last.fetch_max(now, Ordering::Relaxed);
        true
    }
}

#[inline]
fn capacity(rate: u32) -> u64 {
    u64::from(rate) * FULL
}

/// A time in thousandths of a bit at a rate.
#[inline]
fn clock(now: Nanos, rate: u32) -> u64 {
    now.wrapping_mul(u64::from(rate))
}

/// No buckets: nothing is limited.
pub(super) static NONE: Policers = Policers { buckets: Vec::new(), least: CircuitLink::BOTH };

/// The buckets of all circuit links of a program.
#[derive(Debug, Default)]
pub struct Policers {
    /// By the number of the link: inwards and outwards.
    buckets: Vec<Option<Arc<[Bucket; 2]>>>,
    /// See [`Policers::least`].
    least: u32,
}

impl Policers {
    /// Those of a program, full.
    pub fn new(program: &Program) -> Policers {
        let full = |rate: &u32| (*rate > 0).then(|| Arc::new([Bucket::full(*rate), Bucket::full(*rate)]));
        let buckets: Vec<_> = program.bandwidths.iter().map(full).collect();
        let least = if buckets.iter().any(Option::is_some) { 1 } else { CircuitLink::BOTH };
        Policers { buckets, least }
    }

    /// Those of the program that comes into force behind `before` at `now`: a link whose bandwidth is another keeps what is
    /// in its buckets.
    pub fn successor(&self, before: &Program, after: &Program, now: Nanos) -> Policers {
        let mut next = Policers::new(after);
        for (number, new) in next.buckets.iter_mut().enumerate() {
            let rate = |p: &Program| p.bandwidths.get(number).copied().unwrap_or(0);
            let (old_rate, rate) = (rate(before), rate(after));
            let Some(old) = self.buckets.get(number).and_then(Option::as_ref).filter(|_| rate > 0) else {
                continue;
            };
            *new = Some(if old_rate == rate {
                old.clone()
            } else {
                Arc::new([&old[0], &old[1]].map(|bucket| {
                    let held = bucket.held(bucket.empty_at.load(Ordering::Relaxed), old_rate, now).max(0);
                    Bucket::holding((held as u64).min(capacity(rate)), rate, now)
                }))
            });
        }
        next
    }

    #[inline]
    fn bucket(&self, number: u32, toward: Toward) -> Option<&Bucket> {
        self.buckets.get(number as usize)?.as_ref().map(|both| &both[toward as usize])
    }

    /// Packets that pass circuit links like this ([`CircuitLink`]) or more need be looked at: if anything is limited, those
    /// that pass one, else only those that pass two. The others need only be counted. One branch, which goes the same way
    /// wherever nothing is limited.
    #[inline(always)]
    pub fn least(&self) -> u32 {
        self.least
    }

    /// The number of the bucket that packets which pass this link are taken out of, if they are.
    #[inline]
    pub fn bucket_of(&self, program: &Program, passed: u32) -> Option<u32> {
        let meter = (CircuitLink::counter(passed) / 2).checked_sub(1)?;
        let bucket = program.names.link_name(meter)?.shared?;
        self.buckets.get(bucket as usize)?.is_some().then_some(bucket)
    }

    /// Takes what a packet needs; false if the bucket does not hold it.
    #[inline]
    pub fn take(&self, program: &Program, charge: &Charge, now: Nanos) -> bool {
        let rate = program.bandwidths.get(charge.bucket as usize).copied().unwrap_or(0);
        match self.bucket(charge.bucket, charge.toward) {
            Some(bucket) if rate > 0 => bucket.take(8 * u64::from(charge.bytes), rate, now),
            _ => true,
        }
    }

    /// True if every bucket holds so many bytes at `now`.
    pub fn all_hold(&self, program: &Program, bytes: u64, now: Nanos) -> bool {
        let holds = |(both, rate): (&Option<Arc<[Bucket; 2]>>, &u32)| {
            let each = both.iter().flat_map(|both| both.iter());
            each.into_iter().all(|bucket| {
                let held = bucket.held(bucket.empty_at.load(Ordering::Relaxed), *rate, now);
                held >= (8 * OF_BIT * bytes) as i64
            })
        };
        self.buckets.iter().zip(program.bandwidths.iter()).all(holds)
    }
}

/// What the links of peerings have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Packets, inwards and outwards.
    pub packets: [u64; 2],
    /// The bytes of their inner packets.
    pub bytes: [u64; 2],
    /// Packets that the bucket held too little for, and that it has not carried.
    pub over: [u64; 2],
}

impl Meter {
    /// Adds what another has counted.
    pub fn add(&mut self, other: &Meter) {
        for toward in [Toward::In as usize, Toward::Out as usize] {
            self.packets[toward] += other.packets[toward];
            self.bytes[toward] += other.bytes[toward];
            self.over[toward] += other.over[toward];
        }
    }
}

/// What a link of a circuit's peering has carried, by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterReading {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// The peering.
    pub peering: String,
    /// Which link.
    pub link: Link,
    /// What it has carried.
    pub meter: Meter,
}

/// Every link of every peering that any configuration had, with what it has carried; `sums` are by number.
pub fn readings(names: &Names, sums: &[Meter]) -> Vec<MeterReading> {
    let sums = sums.iter().copied().chain(std::iter::repeat(Meter::default()));
    let reading = |(name, meter): (&LinkName, Meter)| {
        let (customer, circuit) = (names.customer_name(name.customer).to_owned(), name.circuit.clone());
        Some(MeterReading { customer, circuit, peering: name.peering.clone()?, link: name.link, meter })
    };
    names.links().zip(sums).filter_map(reading).collect()
}

/// The meters of one worker.
#[derive(Debug, Default)]
pub struct Meters {
    /// What came since it was last added to the meters, by [`CircuitLink::counter`]: packets above bytes. What passes no
    /// link is counted, too, so that nobody need ask.
    lately: Vec<u64>,
    /// How many packets may have come since then.
    since: usize,
    /// By [`CircuitLink::meter`].
    meters: Vec<Meter>,
}

/// One packet, above the bytes of those that were counted lately.
const PACKET: u64 = 1 << BYTES;
const BYTES: u32 = 40;
/// So many packets of 64 KiB, each of which none of the counters counts more than twice, are added to the meters at the
/// latest.
const LATELY: usize = 1 << 22;
const _: () = assert!(2 * LATELY < 1 << (64 - BYTES) && (2 * LATELY as u64) << 16 < PACKET);

impl Meters {
    /// Makes room for so many links, and for so many packets.
    #[inline]
    pub fn grow(&mut self, links: usize, packets: usize) {
        if self.meters.len() < links || self.lately.is_empty() {
            self.meters.resize(links, Meter::default());
            self.lately.resize(2 * (links + 1), 0);
        }
        self.since += packets;
        if self.since > LATELY {
            self.add_up();
            self.since = packets;
        }
    }

    /// Counts a packet that passes links like this ([`CircuitLink`]), of which it does not come by one and leave by another.
    #[inline(always)]
    pub fn count(&mut self, passed: u32, bytes: u32) {
        if let Some(lately) = self.lately.get_mut(CircuitLink::counter(passed) as usize) {
            *lately += PACKET | u64::from(bytes);
        }
    }

    /// Counts the fragments of a packet that leave by a link, with their bytes together.
    pub fn count_sent(&mut self, link: &CircuitLink, packets: u32, bytes: u32) {
        if let Some(meter) = self.meters.get_mut(link.meter as usize) {
            meter.packets[Toward::Out as usize] += u64::from(packets);
            meter.bytes[Toward::Out as usize] += u64::from(bytes);
        }
    }

    /// Counts a packet that the bucket of a link held too little for.
    #[cold]
    pub fn refuse(&mut self, passed: u32, toward: Toward) {
        let meter = (CircuitLink::counter(passed) / 2).checked_sub(1);
        if let Some(meter) = meter.and_then(|meter| self.meters.get_mut(meter as usize)) {
            meter.over[toward as usize] += 1;
        }
    }

    /// What was counted, by [`CircuitLink::meter`].
    pub fn all(&mut self) -> &[Meter] {
        self.add_up();
        &self.meters
    }

    #[cold]
    fn add_up(&mut self) {
        self.since = 0;
        let both = self.lately.iter_mut().skip(2).map(std::mem::take);
        for (n, lately) in both.enumerate() {
            if let Some(meter) = self.meters.get_mut(n / 2) {
                meter.packets[n % 2] += lately >> BYTES;
                meter.bytes[n % 2] += lately & (PACKET - 1);
            }
        }
        self.lately.iter_mut().take(2).for_each(|lately| *lately = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_tenth_of_a_second_and_fills_at_its_rate() {
        for (rate, now) in
            [(50, 0), (50, SECOND), (10_000, 1_700_000_000 * SECOND + 17), (400_000, u64::MAX / 2)]
        {
            let bucket = Bucket::full(rate);
            let bits = u64::from(rate) * 100_000;
            assert!(bucket.take(bits, rate, now), "it is full at the start");
            assert!(!bucket.take(1, rate, now));
            // One bit takes so many nanoseconds; a nanosecond before it is not there.
            let one = (OF_BIT).div_ceil(u64::from(rate));
            assert!(!bucket.take(u64::from(rate) / 1000 + 1, rate, now + 1) || rate < 1000 && one == 1);
            let bucket = Bucket::holding(0, rate, now);
            let after = 12_345 * OF_BIT.div_ceil(u64::from(rate));
            let filled = after * u64::from(rate) / OF_BIT;
            assert!(!bucket.take(filled + 1, rate, now + after));
            assert!(bucket.take(filled, rate, now + after));
            // Never more than it holds, however long it waits: not even where the clock has turned round.
            for idle in [FULL, SECOND, 40 * 86_400 * SECOND] {
                let later = (now + after).saturating_add(idle);
                let bucket = Bucket::holding(0, rate, now + after);
                assert!(!bucket.take(bits + 1, rate, later));
                assert!(bucket.take(bits, rate, later));
                assert!(!bucket.take(1, rate, later));
            }
        }
    }

    #[test]
    fn what_is_counted_lately_is_added_to_the_meters_before_it_runs_over() {
        let link = |meter| CircuitLink {
            kind: crate::model::PeeringKind::Private,
            bucket: 0,
            meter,
            peering: 0,
            ends: [None; 2],
        };
        let mut meters = Meters::default();
        let rounds = 3 * LATELY / 512;
        for _ in 0..rounds {
            meters.grow(2, 512);
            for _ in 0..256 {
                meters.count(0, 65_535);
                meters.count(link(0).inwards(), 65_535);
                meters.count(link(1).outwards(), 1500);
            }
        }
        let packets = 256 * rounds as u64;
        let first = Meter { packets: [packets, 0], bytes: [65_535 * packets, 0], ..Meter::default() };
        let second = Meter { packets: [0, packets], bytes: [0, 1500 * packets], ..Meter::default() };
        assert_eq!(meters.all(), [first, second]);
        assert_eq!(meters.all(), [first, second], "once");
        let both = link(0).inwards() | link(0).outwards();
        assert!(both >= CircuitLink::BOTH && link(1).outwards() < CircuitLink::BOTH);
    }

    /// Against the same in plain numbers.
    #[test]
    fn a_bucket_is_what_the_contract_says() {
        let (mut state, rate) = (7_u64, 200);
        let mut roll = move |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let bucket = Bucket::full(rate);
        let full = u128::from(capacity(rate));
        let (mut held, mut now, mut refused) = (full, 5 * SECOND, 0);
        for _ in 0..100_000 {
            let most = if roll(20_000) == 0 { 200_000_000 } else { 10_000 };
            let passed = roll(most);
            now += passed;
            held = (held + u128::from(passed) * u128::from(rate)).min(full);
            let bits = 8 * (20 + roll(1481));
            let passes = held >= u128::from(bits * OF_BIT);
            if passes {
                held -= u128::from(bits * OF_BIT);
            }
            refused += u32::from(!passes);
            assert_eq!(bucket.take(bits, rate, now), passes);
        }
        assert!((10_000..90_000).contains(&refused), "{refused}");
    }
}
