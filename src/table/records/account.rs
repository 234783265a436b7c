//! What flows have carried, for flow logs: kept only when somebody asks for it, beside the records.

use super::FlowKey;
use crate::packet::Direction;
use crate::types::Nanos;

/// Packets of one direction of a flow, and their bytes: IP packets, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What has come of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its record was opened.
    Begun,
    /// It goes on.
    GoesOn,
    /// Its record was removed: it ended, was idle for too long, or is no longer allowed.
    Ended,
}

/// What there is to tell of a flow at one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// The record's key.
    pub key: FlowKey,
    /// The rule that opened it, by its number.
    pub rule: u32,
    /// The direction of the packet that opened it.
    pub opened_by: Direction,
    /// What has come of it.
    pub phase: Phase,
    /// When; of a flow that has ended, when its last packet came.
    pub at: Nanos,
    /// What the endpoint has sent since the last event of this flow.
    pub sent: Traffic,
    /// What the endpoint has received since then.
    pub received: Traffic,
}
