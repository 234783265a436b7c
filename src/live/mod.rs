//! The live appliance: frames from network devices through the packet path, for as long as it runs.
//!
//! ```text
//!  device ─► port ─► worker: sort ─► process ─► egress: MAC addresses of neighbours ─► port ─► device
//!                      │    └─► frames of other workers' flows, by queue
//!                      ├─► counts ─► snapshot ─► metrics, control socket
//!                      └─► copies of packets that somebody captures ─► control socket
//!  kernel (netlink): devices, routes, neighbours ─► neighbours          signals, files ─► reload ─► program in force
//! ```

pub mod appliance;
pub mod capture;
pub mod circuits;
pub mod control;
pub mod count;
mod egress;
mod explain;
#[cfg(test)]
mod fake;
pub mod flow_logs;
pub mod handle;
mod handover;
mod heaviest;
mod hex;
pub mod http;
pub mod kernel;
mod list;
mod listen;
pub mod meters;
pub mod metrics;
pub mod neighbours;
pub mod pnet;
mod port;
mod ports;
mod process;
pub mod report;
pub mod service;
mod tap;
mod worker;

pub use appliance::{Appliance, NoStart, Settings};
