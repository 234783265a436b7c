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

impl Owner {
    /// As records hold it: the endpoint with the highest bit set, or the VNet of an endpoint that is the local address.
    #[inline(always)]
    pub(super) fn packed(self) -> u32 {
        if self.endpoint == 0 { self.vnet & !(1 << 31) } else { self.endpoint | 1 << 31 }
    }
}

/// The key of an IPv4 flow as the fast path has it, with its hash.
#[derive(Clone, Copy, Debug)]
pub struct FlowV4 {
    /// What [`Records::hash_ipv4`](super::Records::hash_ipv4) says of the other fields, in the VNet of the owner.
    pub hash: u32,
    /// The owner.
    pub owner: Owner,
    /// Local address.
    pub local: u32,
    /// Remote address.
    pub remote: u32,
    /// The local port above the remote one.
    pub ports: u32,
    /// Protocol number.
    pub protocol: u8,
}

/// A record to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Its key.
    pub flow: FlowV4,
    /// How long it may be idle.
    pub idle_minutes: u8,
    /// The rule that opens it.
    pub rule: u32,
}
