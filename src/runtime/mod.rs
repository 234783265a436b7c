//! Workers and what keeps their results in order.

mod batch;
pub mod bench;
mod replay;
mod worker;

pub use replay::{Finished, Replay, Totals};
