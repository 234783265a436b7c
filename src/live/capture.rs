//! Packets of the running appliance, for who asks: workers copy those that fit, with what became of them, into a queue. A
//! full queue loses packets, which are counted; no worker ever waits for who captures.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

use crate::compile::Program;
use crate::dataplane::ingress::ingress;
use crate::observe::{Time, VerdictLine};
use crate::packet::{Outcome, Reason};
use crate::types::Nanos;
use crate::wire::{be16, be32, ethernet, gre, protocol};

/// Packets that wait for who captures them, at most.
const QUEUE: usize = 1024;

/// Which packets are wanted: those that everything fits which is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this customer.
    pub customer: Option<String>,
    /// Of VNets with this name.
    pub vnet: Option<String>,
    /// Dropped or punted for this reason.
    pub reason: Option<Reason>,
    /// `forward`, `drop` or `punt`.
    pub verdict: Option<String>,
    /// With this address at either end, of the packet or of the GRE packet around it.
    pub address: Option<IpAddr>,
    /// Of these protocols, by number; empty: of all.
    pub protocols: Vec<u8>,
    /// Packets of customers between these two, either way.
    pub between: Option<[End; 2]>,
    /// That came in by this port.
    pub port: Option<String>,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl End {
    fn is(&self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|own| own == port)
    }
}

/// What is to be captured, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureWanted {
    /// These packets.
    pub filter: Filter,
    /// So many at most.
    pub count: Option<u64>,
    /// For so long at most.
    pub time: Option<Duration>,
    /// One packet of so many, of all of a worker; else each.
    pub sample: Option<u32>,
}

/// A packet as it came in, and what became of it.
#[derive(Clone)]
pub struct Captured {
    /// The frame, as far as it was received.
    pub frame: Vec<u8>,
    /// How long the frame was.
    pub original: u32,
    /// When its batch was run, by the clock on the wall.
    pub time: Nanos,
    /// The port it came in by, as an index into the program's ports.
    pub port: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// The program that decided.
    pub program: Arc<Program>,
}

/// What all who have to do with a capture share.
#[derive(Debug)]
struct Shared {
    wanted: CaptureWanted,
    until: Option<Instant>,
    seen: AtomicU64,
    taken: AtomicU64,
    missed: AtomicU64,
    over: AtomicBool,
}

/// A capture, for the worker that offers packets.
#[derive(Clone, Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    queue: Sender<Captured>,
    /// Packets that are passed over until the next one of the sample, and what chance says of that.
    skip: Cell<usize>,
    chance: Cell<u32>,
}

/// A capture, for who takes the packets; it ends when this is dropped.
#[derive(Debug)]
pub struct Capturing {
    shared: Arc<Shared>,
    queue: Receiver<Captured>,
    given: u64,
}

/// What comes next of a capture.
pub enum Next {
    /// A packet.
    Packet(Box<Captured>),
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    Over,
}

/// Begins a capture. It is over at the latest when all taps are dropped.
pub fn begin(wanted: CaptureWanted) -> (Capturing, Tap) {
    let (send, receive) = bounded(QUEUE);
    let until = wanted.time.and_then(|time| Instant::now().checked_add(time));
    let (seen, taken, missed, over) = Default::default();
    let shared = Arc::new(Shared { wanted, until, seen, taken, missed, over });
    let capturing = Capturing { shared: shared.clone(), queue: receive, given: 0 };
    let tap = Tap { shared, queue: send, skip: Cell::new(0), chance: Cell::new(0x9e37_79b9) };
    tap.skip.set(tap.gap());
    (capturing, tap)
}

impl Shared {
    fn has_all(&self, packets: u64) -> bool {
        self.wanted.count.is_some_and(|count| packets >= count)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl Tap {
    /// True once nothing more is wanted.
    pub fn is_over(&self, now: Instant) -> bool {
        self.shared.over.load(Ordering::Relaxed) || self.shared.is_late(now)
    }

    /// Which of a worker's next packets are to be offered; to be asked to its end.
    pub fn sample(&self, packets: usize) -> impl Iterator<Item = usize> {
        self.shared.seen.fetch_add(packets as u64, Ordering::Relaxed);
        let mut next = 0;
        std::iter::from_fn(move || {
            let (skip, left) = (self.skip.get(), packets - next);
            if skip >= left {
                self.skip.set(skip - left);
                next = packets;
                return None;
            }
            let at = next + skip;
            next = at + 1;
            self.skip.set(self.gap());
            Some(at)
        })
    }

    /// Packets between two of the sample: by chance, so that flows that take turns have each their share.
    fn gap(&self) -> usize {
        let one_in = self.shared.wanted.sample.unwrap_or(1).max(1);
        // Marsaglia's xorshift.
        let mut chance = self.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 17;
        chance ^= chance << 5;
        self.chance.set(chance);
        ((u64::from(chance) * (2 * u64::from(one_in) - 1)) >> 32) as usize
    }

    /// Takes a copy of the packet if it fits and there is room. Never waits.
    pub fn offer(&self, packet: Offered<'_>) {
        let shared = &*self.shared;
        if shared.over.load(Ordering::Relaxed) || !shared.wanted.filter.fits(&packet) {
            return;
        }
        // What has no place is not copied first.
        if self.queue.is_full() {
            shared.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if shared.has_all(shared.taken.fetch_add(1, Ordering::Relaxed)) {
            shared.over.store(true, Ordering::Relaxed);
            return;
        }
        let Offered { frame, original, time, port, outcome, program } = packet;
        let (frame, outcome, program) = (frame.to_vec(), *outcome, program.clone());
        match self.queue.try_send(Captured { frame, original, time, port, outcome, program }) {
            Ok(()) => (),
            Err(TrySendError::Full(_)) => {
                // Another worker was faster.
                shared.taken.fetch_sub(1, Ordering::Relaxed);
                shared.missed.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => shared.over.store(true, Ordering::Relaxed),
        }
    }
}

/// A packet that may be captured: [`Captured`] before it is copied.
#[derive(Clone, Copy)]
pub struct Offered<'a> {
    /// The frame, as far as it was received.
    pub frame: &'a [u8],
    /// How long the frame was.
    pub original: u32,
    /// The time by the clock on the wall.
    pub time: Nanos,
    /// The port it came in by, as an index into the program's ports.
    pub port: u16,
    /// What became of it.
    pub outcome: &'a Outcome,
    /// The program that decided.
    pub program: &'a Arc<Program>,
}

impl Capturing {
    /// The next packet, waited for at most so long.
    pub fn next(&mut self, wait: Duration) -> Next {
        if self.shared.has_all(self.given) {
            return Next::Over;
        }
        let now = Instant::now();
        let until = self.shared.until.map_or(now + wait, |until| until.min(now + wait));
        match self.queue.recv_deadline(until) {
            Ok(packet) => {
                self.given += 1;
                Next::Packet(Box::new(packet))
            }
            Err(RecvTimeoutError::Timeout) if !self.shared.is_late(Instant::now()) => Next::Nothing,
            Err(_) => Next::Over,
        }
    }

    /// Packets that came out here.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Packets that went through the path meanwhile, whether they were wanted or not.
    pub fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// Packets that fitted, and for which there was no room.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Captured {
    /// The name of the port it came in by.
    pub fn port_name(&self) -> &str {
        port_name(&self.program, self.port)
    }

    /// Its verdict line, as the packet with this number.
    pub fn line(&self, number: u64) -> String {
        let mut line = Vec::with_capacity(512);
        let time = Time { at: self.time, digits: 9 };
        VerdictLine::new(number, time, self.port_name(), &self.outcome, &self.program).write(&mut line);
        String::from_utf8_lossy(&line).into_owned()
    }
}

fn port_name(program: &Program, port: u16) -> &str {
    program.ports.get(usize::from(port)).map_or("", |p| p.name.as_str())
}

impl Filter {
    /// True if the headers of the customer's packet are as wanted; false if they are not in order.
    fn fits_headers(&self, packet: &Offered<'_>) -> bool {
        let Ok(arrival) = ingress(packet.program, None, packet.port, packet.frame, packet.original) else {
            return false;
        };
        let inner = &arrival.inner;
        let fits = |from: &End, to: &End| {
            from.is(inner.source, inner.ports.0) && to.is(inner.destination, inner.ports.1)
        };
        (self.protocols.is_empty() || self.protocols.contains(&inner.protocol))
            && self.between.as_ref().is_none_or(|[a, b]| fits(a, b) || fits(b, a))
    }

    /// True if the packet is wanted.
    pub fn fits(&self, packet: &Offered<'_>) -> bool {
        let Offered { frame, port, outcome, program, .. } = *packet;
        let names = &program.names;
        let is = |wanted: &Option<String>, name: Option<&str>| wanted.is_none() || wanted.as_deref() == name;
        is(&self.verdict, Some(outcome.verdict.name()))
            && (self.reason.is_none() || self.reason == outcome.verdict.reason())
            && (self.customer.is_none()
                || is(&self.customer, outcome.customer.map(|n| names.customer_name(n))))
            && (self.vnet.is_none() || is(&self.vnet, outcome.vnet.map(|n| names.vnet_name(n))))
            && (self.port.is_none() || is(&self.port, Some(port_name(program, port))))
            && self.address.is_none_or(|address| is_at_an_end(frame, address, true))
            && (self.protocols.is_empty() && self.between.is_none() || self.fits_headers(packet))
    }
}

/// True if the address is at either end of the IP packet in this frame, or of the one that it carries in GRE.
fn is_at_an_end(frame: &[u8], address: IpAddr, outer: bool) -> bool {
    ethernet::parse(frame).is_some_and(|link| {
        let packet = frame.get(link.payload..).unwrap_or_default();
        is_end_of(packet, link.ether_type, address, outer)
    })
}

fn is_end_of(packet: &[u8], ether_type: u16, address: IpAddr, outer: bool) -> bool {
    let v4 = |at: usize| packet.get(at..at + 4).map(|_| IpAddr::from(be32(packet, at).to_be_bytes()));
    let v6 = |at: usize| {
        let octets = packet.get(at..)?.first_chunk::<16>()?;
        Some(IpAddr::V6(Ipv6Addr::from(*octets)))
    };
    let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
    let (ends, carried, start, end) = match ether_type {
        ethernet::IPV4 => {
            let start = usize::from(byte(0) & 15) * 4;
            ([v4(12), v4(16)], byte(9), start, usize::from(be16(packet, 2)))
        }
        ethernet::IPV6 => ([v6(8), v6(24)], byte(6), 40, 40 + usize::from(be16(packet, 4))),
        _ => return false,
    };
    if ends.contains(&Some(address)) {
        return true;
    }
    if !outer || carried != protocol::GRE {
        return false;
    }
    let tunnelled = packet.get(start..end.min(packet.len())).unwrap_or_default();
    let Ok(header) = gre::parse(tunnelled) else { return false };
    let inner = tunnelled.get(header.header..).unwrap_or_default();
    match header.protocol {
        gre::ETHERNET => is_at_an_end(inner, address, false),
        ether_type => is_end_of(inner, ether_type, address, false),
    }
}

#[cfg(test)]
mod tests;
