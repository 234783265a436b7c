//! NSG flow logs and VNet flow logs, as Azure writes them, of the flows that workers tell of.

mod tell;

use std::sync::Arc;

use crate::compile::Program;
use crate::table::records::FlowEvent;
use crate::types::Nanos;

pub use tell::Listener;
pub(in crate::live) use tell::Teller;

/// What a worker tells of its flows between two batches.
pub struct Told {
    /// The program in force.
    pub program: Arc<Program>,
    /// What is to be added to the time of packets for the time by the clock on the wall, since 1970.
    pub wall_clock: Nanos,
    /// Flows that began, go on or have ended, in the order in which they did.
    pub events: Vec<FlowEvent>,
    /// Packets that a rule denied, each for the first time for a while.
    pub denied: Vec<DeniedPacket>,
}

/// A packet that a rule denied.
pub struct DeniedPacket {
    /// The frame, as far as it was received.
    pub frame: Vec<u8>,
    /// How long it was.
    pub original: u32,
    /// The port it came in by, as an index into the program's ports.
    pub port: u16,
    /// When.
    pub at: Nanos,
}
