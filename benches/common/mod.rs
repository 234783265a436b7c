//! What the benches share: a configuration, traffic, the dataplane, the plain version of it, and the cases to measure.

// Each bench uses a part of it.
#![allow(dead_code)]

pub mod cases;
pub mod configuration;
pub mod dataplane;
pub mod parts;
pub mod plain;
pub mod traffic;
