//! The whole way of a batch of frames through one worker, from received bytes to bytes to send.

use std::net::IpAddr;

use super::emit::Output;
use super::ingress::ingress;
use super::pipeline::{Context, Done, forward};
use super::state::{Received, Shard};
use super::trace::Trace;
use crate::packet::Outcome;
use crate::table::ecmp::mix;
use crate::types::Nanos;
use crate::wire::protocol;

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

/// What became of a batch. Reused, so that nothing is allocated once it has grown.
#[derive(Default)]
pub struct Results {
    /// For each packet, in order.
    pub done: Vec<Done>,
    /// The frames that they caused.
    pub output: Output,
}

impl Results {
    /// Forgets everything; memory stays.
    pub fn clear(&mut self) {
        self.done.clear();
        self.output.clear();
    }

    /// The verdict and the facts about a packet.
    pub fn outcome(&self, packet: usize) -> Outcome {
        self.done[packet].outcome
    }

    /// The frames that a packet caused.
    pub fn frames(&self, packet: usize) -> impl Iterator<Item = &[u8]> {
        let (first, end) = self.done[packet].frames;
        let frames = &self.output.frames[first as usize..end as usize];
        frames.iter().map(|f| &self.output.bytes[f.start as usize..f.end as usize])
    }
}

/// Runs frames through steps 1 to 13, in their order; results are appended.
pub fn process(
    context: Context<'_>,
    received: &mut Received,
    shard: &mut Shard,
    bytes: &[u8],
    inputs: &[Input],
    results: &mut Results,
) {
    let mut trace = Trace::off();
    for input in inputs {
        shard.reap(context.occupancy, input.now);
        let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
        let done = match ingress(context.program, received, input.port, frame, input.original) {
            Err(outcome) => Done::early(outcome),
            Ok(arrival) => {
                forward(context, shard, &arrival, frame, input.now, &mut results.output, &mut trace)
            }
        };
        results.done.push(done);
    }
}

/// The number that says which worker a flow belongs to: the same for both directions and for all fragments.
#[inline]
pub fn spread(a: IpAddr, b: IpAddr) -> u64 {
    let hash = |addr: IpAddr| match addr {
        IpAddr::V4(a) => mix(u64::from(a.to_bits()) + 1),
        IpAddr::V6(a) => mix(mix((a.to_bits() >> 64) as u64 ^ 6) ^ a.to_bits() as u64),
    };
    mix(hash(a).wrapping_add(hash(b)))
}

/// [`spread`] of the packet inside a frame of the usual shape: IPv4 in GRE with nothing but a key, in IPv4 without
/// options. `None` of any other, which has to be parsed first.
#[inline]
pub fn spread_of_frame(frame: &[u8]) -> Option<u64> {
    let head: &[u8; 62] = frame.first_chunk()?;
    let usual = head[12..15] == [0x08, 0x00, 0x45]
        && head[23] == protocol::GRE
        && head[34..38] == [0x20, 0x00, 0x08, 0x00]
        && head[42] >> 4 == 4;
    let addr = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    usual.then(|| spread(addr(54), addr(58)))
}
