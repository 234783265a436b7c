#![doc = "Clearway: a userspace dataplane for Azure-style customer edges."]

pub mod cli;
pub mod compile;
pub mod dataplane;
pub mod io;
pub mod model;
pub mod observe;
pub mod packet;
pub mod runtime;
pub mod table;
pub mod types;
pub mod wire;
