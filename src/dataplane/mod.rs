//! The path of a packet: plain functions over plain data. No clock, no randomness, no I/O, no lock.
//!
//! ```text
//!  frame ─► ingress ──► Arrival ─► pipeline ───────────────────────────────► Done
//!           1 frame               6 source   (flow: 7 outbound rules)
//!           2 outer header        8 route    9 destination
//!           3 GRE                 (flow: 10 inbound rules)
//!           4 tunnel              11 TTL  12 size  13 egress (emit)
//!           5 inner packet        commit: records, fragments
//! ```
//!
//! `ingress` looks only at the frame and the program (and at received sequence numbers); `pipeline` reads and changes
//! the records of one shard. What must be counted over all packets in their order (sequence numbers sent, ICMP errors
//! per second) is left to whoever puts the results of all shards back in order: see [`state`].

pub mod adjacency;
pub mod change;
pub mod emit;
mod flow;
mod fresh;
pub mod ingress;
mod occupancy;
pub mod path;
pub mod pipeline;
mod police;
mod rate;
mod spread;
pub mod state;
pub mod trace;
pub mod usual;
pub mod vector;

pub use emit::{Frame, Output};
pub use ingress::{Arrival, Via};
pub use occupancy::{Occupancy, Tally};
pub use path::{Brief, Input, Results, process};
pub use pipeline::{Context, Done, forward};
pub use police::{Charge, Meter, MeterReading, Meters, Policers, Toward, readings};
pub use spread::{quoted, sort, spread, spread_of_arrival, spread_of_frame, worker};
pub use state::Shard;
pub use trace::Trace;
