//! The control side of circuit links: what a customer's router meets at our end of a link.
//!
//! ```text
//!  worker ─ to-us ─► device (TUN, in the customer's namespace) ─► kernel: ping, TCP, UDP ─► bgp, bfd
//!  worker ◄───────── device ◄──────────────────────────────────── kernel ◄────────────────── bgp, bfd
//!                                             bgp, bfd ─► told ─► learned: model in force ─► recompile
//! ```

pub mod learned;
pub mod spec;
pub mod status;
