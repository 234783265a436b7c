//! The live appliance: frames from network devices through the packet path, for as long as it runs.
//!
//! ```text
//!  device ─► port ─► worker: sort ─► process ─► egress: MAC addresses of neighbours ─► port ─► device
//!                      │    └─► frames of other workers' flows, by queue
//!                      └─► counts ─► snapshot ─► metrics, control socket
//!  kernel (netlink): devices, routes, neighbours ─► neighbours          signals, files ─► reload ─► program in force
//! ```

pub mod appliance;
pub mod count;
mod egress;
pub mod handle;
pub mod kernel;
mod list;
pub mod neighbours;
mod port;
mod ports;
mod worker;

pub use appliance::{Appliance, Settings};
pub mod control;
pub mod count;
#[cfg(test)]
mod fake;
pub mod handle;
pub mod http;
mod listen;
pub mod metrics;
pub mod neighbours;
mod process;
pub mod report;
pub mod service;
