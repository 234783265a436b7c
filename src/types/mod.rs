//! Small values used everywhere: prefixes and packet time. They know no protocol and no customer.

mod prefix;

pub use prefix::{Prefix, PrefixError};

/// Packet time: nanoseconds since 1970-01-01 UTC, as the capture or the receiving device gave it.
pub type Nanos = u64;

/// Nanoseconds in one second.
pub const SECOND: Nanos = 1_000_000_000;
