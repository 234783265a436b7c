//! Model and learned routes into an immutable program: everything a packet needs, looked up by number. Cannot fail,
//! because a model is valid; may allocate and take its time, because it never runs on the packet path.

mod build;
pub mod effective;
mod memory;
pub mod names;
mod program;
pub mod security;
pub mod topology;

pub use build::compile;
pub use program::{
    Entry, Fib, FibRoute, Hop, InternetWay, Neighbour, Nic, Place, PlainOwner, Port, Program, Reaches,
    Subnet, TunnelEnd, Vnet, Ways,
};
