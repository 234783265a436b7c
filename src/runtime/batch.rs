//! A batch of received frames on its way through the workers, and back.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::Program;
use crate::dataplane::ingress::Arrival;
use crate::dataplane::{Done, Output, spread};
use crate::packet::Outcome;
use crate::types::Nanos;
use crate::wire::icmp;

/// Packets in a batch at most.
pub const PACKETS: usize = 2048;
/// Bytes in a batch at most, but for a single larger frame.
pub const BYTES: usize = 1 << 20;

/// One received frame.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its port, as an index into the replay's ports.
    pub port: u16,
    /// Digits of its time.
    pub digits: u8,
    /// Where its bytes begin in the batch.
    pub start: u32,
    /// Where they end.
    pub end: u32,
    /// How long it was when it was received.
    pub original: u32,
    /// Its own time.
    pub time: Nanos,
    /// The clock when it was received.
    pub now: Nanos,
}

/// What steps 1 to 5 said of a frame.
pub enum Checked {
    /// It goes to this worker.
    Arrived(Arrival, u16),
    /// It has ended.
    Ended(Outcome),
}

/// Frames that have passed steps 1 to 5 under one program.
pub struct Batch {
    /// The program.
    pub program: Arc<Program>,
    /// The number of the first packet.
    pub first: u64,
    /// All bytes.
    pub bytes: Vec<u8>,
    /// The frames.
    pub inputs: Vec<Input>,
    /// What steps 1 to 5 said of each.
    pub checked: Vec<Checked>,
}

impl Batch {
    /// An empty batch.
    pub fn new(program: Arc<Program>, first: u64) -> Batch {
        Batch { program, first, bytes: Vec::new(), inputs: Vec::new(), checked: Vec::new() }
    }

    /// True if no further frame should be added.
    pub fn is_full(&self) -> bool {
        self.inputs.len() >= PACKETS || self.bytes.len() >= BYTES
    }

    /// The bytes of a frame.
    pub fn frame(&self, input: &Input) -> &[u8] {
        &self.bytes[input.start as usize..input.end as usize]
    }
}

/// What one worker made of its packets of a batch, in their order.
#[derive(Default)]
pub struct Results {
    /// One for each of its packets.
    pub done: Vec<Done>,
    /// The frames they caused.
    pub output: Output,
}

/// The worker of a packet: both directions of a flow, and all fragments, go to the same.
pub fn worker_of(a: IpAddr, b: IpAddr, workers: usize) -> u16 {
    (spread(a, b) % workers.max(1) as u64) as u16
}

/// The worker of the flow that an ICMP error quotes.
pub fn quoted_worker(arrival: &Arrival, frame: &[u8], workers: usize) -> Option<u16> {
    let inner = &arrival.inner;
    let ipv4 = inner.source.is_ipv4();
    if !inner.is_icmp() || inner.is_later_fragment() || !icmp::quotes_a_flow(ipv4, inner.icmp_type) {
        return None;
    }
    let packet = frame.get(arrival.at as usize..)?;
    let quote = icmp::parse_quote(packet.get(inner.transport as usize..inner.total as usize)?, ipv4)?;
    Some(worker_of(quote.source, quote.destination, workers))
}
