//! Lookup structures of the packet path. They know no customer and no protocol.

pub mod classify;
pub mod ecmp;
pub mod fragments;
pub mod initiated;
pub mod lpm;
pub mod prefix_map;
pub mod queue;
pub mod records;
mod tree;
