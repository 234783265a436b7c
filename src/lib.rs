//! Clearway: a userspace dataplane for Azure-style customer edges.
//!
//! Every customer's traffic travels in its own GRE tunnel; what a packet may do is said by Azure's own objects: virtual
//! networks, routes, network security groups, peerings, gateways and circuits. This library reads them, compiles them and
//! runs packets through them; the `clearway` command is its user.
//!
//! ```text
//!  files ─► model ─► compile ─► Program ─┐
//!                                        ▼
//!  captures ─► io ─► runtime ─► dataplane: ingress ─► pipeline ─► emit ─► runtime ─► io
//!                                        │
//!  devices ─► live ──────────────────────┤                                        └─► live ─► devices
//!                    observe, cli ◄──────┘ one verdict for every packet
//! ```
//!
//! Modules in reading order; each uses only those above it.

pub mod sys;

pub mod types;

pub mod packet;

pub mod wire;

pub mod table;

pub mod bgp;

pub mod model;

pub mod compile;

pub mod dataplane;

pub mod io;

pub mod bfd;

pub mod runtime;

pub mod observe;

#[cfg(target_os = "linux")]
pub mod live;

pub mod cli;
