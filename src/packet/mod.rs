//! What the packet path says of a packet: its verdict, its reason, and the facts a verdict line carries.

mod outcome;
mod reason;

pub use outcome::{Direction, Egress, FlowState, Generated, NextHopType, Outcome, Verdict};
pub use reason::Reason;
