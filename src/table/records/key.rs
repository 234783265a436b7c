//! Whose a record is, and which packets belong to it.

use std::net::IpAddr;

use crate::types::{Nanos, SECOND};

/// How long an ended record still carries what comes, other than SYN.
pub const ENDED: Nanos = 10 * SECOND;

/// Whose record it is and which packets belong to it. Local is the endpoint's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The owner: two owners never share a record.
    pub owner: Owner,
    /// Protocol number.
    pub protocol: u8,
    /// Local and remote port, or the ICMP identifier twice.
    pub ports: (u16, u16),
    /// Local address.
    pub local: IpAddr,
    /// Remote address.
    pub remote: IpAddr,
}

/// The endpoint that keeps a record: a VNet, and inside it a NIC or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The VNet's number.
    pub vnet: u32,
    /// 0: the endpoint is the local address itself. Else the number of a NIC or of an address that others' packets are
    /// sent to.
    pub endpoint: u32,
}
