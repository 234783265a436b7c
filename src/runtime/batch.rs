//! A batch of received frames on its way through the workers, and back.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::Program;
use crate::dataplane::ingress::Arrival;
use crate::dataplane::{Input, Policers, quoted, spread, worker};
use crate::packet::Outcome;
use crate::types::Nanos;

/// Packets in a batch at most.
pub const PACKETS: usize = 2048;
/// Bytes in a batch at most, but for a single larger frame.
pub const BYTES: usize = 1 << 20;

/// What the path does not need to know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Its port, as an index into the replay's ports.
    pub port: u16,
    /// Digits of its time.
    pub digits: u8,
    /// Who answers for it.
    pub whose: Whose,
    /// Its own time.
    pub time: Nanos,
}

/// Who answers for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This worker.
    Worker(u16),
    /// Nobody: steps 1 to 5, which were taken before the workers, have ended it. Index into [`Batch::ended`].
    Ended(u32),
}

/// Frames under one program, spread over the workers.
pub struct Batch {
    /// The program.
    pub program: Arc<Program>,
    /// The buckets of its circuit links.
    pub policers: Arc<Policers>,
    /// The number of the first packet.
    pub first: u64,
    /// All bytes.
    pub bytes: Vec<u8>,
    /// The frames, in order.
    pub inputs: Vec<Input>,
    /// What else is known of each.
    pub stamps: Vec<Stamp>,
    /// For each worker its frames; empty if there is one worker and all are its.
    pub shares: Vec<Vec<Input>>,
    /// What was said of packets that have ended.
    pub ended: Vec<Outcome>,
}

impl Batch {
    /// An empty batch for this many workers; `whole` if all frames are the only worker's.
    pub fn new(
        program: Arc<Program>,
        policers: Arc<Policers>,
        first: u64,
        workers: usize,
        whole: bool,
    ) -> Batch {
        let shares = if whole { Vec::new() } else { vec![Vec::new(); workers] };
        let (inputs, stamps) = (Vec::with_capacity(PACKETS), Vec::with_capacity(PACKETS));
        Batch { program, policers, first, bytes: Vec::new(), inputs, stamps, shares, ended: Vec::new() }
    }

    /// True if no further frame should be added.
    pub fn is_full(&self) -> bool {
        self.inputs.len() >= PACKETS || self.bytes.len() >= BYTES
    }

    /// Adds a frame; where its bytes are is filled in.
    pub fn add(&mut self, mut input: Input, stamp: Stamp, frame: &[u8]) {
        input.start = self.bytes.len() as u32;
        input.end = (self.bytes.len() + frame.len()) as u32;
        self.bytes.extend_from_slice(frame);
        self.inputs.push(input);
        self.stamps.push(stamp);
        if let Whose::Worker(worker) = stamp.whose
            && let Some(share) = self.shares.get_mut(usize::from(worker))
        {
            share.push(input);
        }
    }

    /// The frames of a worker, in order.
    pub fn share(&self, worker: u16) -> &[Input] {
        self.shares.get(usize::from(worker)).unwrap_or(&self.inputs)
    }

    /// The bytes of a frame.
    pub fn frame(&self, input: &Input) -> &[u8] {
        &self.bytes[input.start as usize..input.end as usize]
    }
}

/// The worker of a packet: both directions of a flow, and all fragments, go to the same.
pub fn worker_of(a: IpAddr, b: IpAddr, workers: usize) -> u16 {
    worker(spread(a, b), workers) as u16
}

/// The worker of the flow that an ICMP error quotes.
pub fn quoted_worker(arrival: &Arrival, frame: &[u8], workers: usize) -> Option<u16> {
    let (from, to) = quoted(arrival, frame)?;
    Some(worker_of(from, to, workers))
}
