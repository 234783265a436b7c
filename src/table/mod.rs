//! Lookup structures of the packet path. They know no customer and no protocol.

pub mod ecmp;
