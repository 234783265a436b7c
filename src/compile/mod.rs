//! Model and learned routes into an immutable program: everything a packet needs, looked up by number. Cannot fail,
//! because a model is valid; may allocate and take its time, because it never runs on the packet path.

mod build;
mod customer;
mod earlier;
pub mod effective;
mod hosts;
mod memory;
mod moved;
pub mod names;
mod nested;
pub mod origins;
mod program;
mod routing;
pub mod security;
pub mod topology;
mod touched;

#[cfg(test)]
mod tests;

pub use build::{compile, recompile};
pub use program::{
    CircuitLink, Entry, Fib, FibRoute, Hop, InternetWay, Leads, Neighbour, Nic, Place, PlainOwner, Port,
    Program, PublicPrefix, Reaches, ShortRoute, Subnet, TunnelEnd, TunnelsByKey, Vnet, Ways,
};
