//! A BGP speaker without sockets and clocks: one [`Session`] for a link of a peering and an address family.
//!
//! Whoever has the sockets tells the session what happened ([`Input`]) and does what it answers ([`Output`]). Bytes of a
//! peer may be anything: they cost bounded memory, end at most the session that they came from, and never panic.
//!
//! ```text
//!  bytes ─► message: frame, OPEN ─► session ─► update ─► policy ─► rib ─► Event::Routes
//!                                      │
//!  bytes ◄─ message, notification ◄────┤
//!  bytes ◄─ advertise ◄────────────────┘◄─ what we advertise
//! ```
//!
//! RFC 4271 with 4760 (multiprotocol), 5492 (capabilities), 6793 (four-octet AS numbers), 7606 and 7607 (faults in updates),
//! 4724 (graceful restart, as a helper), 2918 (route refresh), 4486 and 9003 (what Cease says), 6286 (identifiers), 6608
//! (unexpected messages), 8092 and 9072 as far as they are to be read.

pub mod advertise;
mod bytes;
pub mod events;
pub mod message;
pub mod notification;
pub mod path;
pub mod policy;
pub mod rib;
pub mod session;
pub mod update;

use crate::types::Prefix;

pub use advertise::Advertised;
pub use events::{Config, Down, Event, Input, Output, Peer, State};
pub use message::Restart;
pub use notification::{Cease, Notification};
pub use path::AsPath;
pub use policy::{Policy, Refusal};
pub use rib::{Held, Route};
pub use session::Session;
pub use update::{Attributes, Fault, Origin};

/// Our AS number on every peering, when none is said.
pub const AZURE_ASN: u32 = 12076;

/// What stands for a number beyond 65535 in front of a speaker that does not know those (RFC 6793).
pub const AS_TRANS: u32 = 23456;

/// An address family; of each only unicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 unicast.
    V4,
    /// IPv6 unicast.
    V6,
}

/// The only subsequent address family: unicast.
const UNICAST: u8 = 1;

impl Family {
    /// Its address family identifier.
    pub fn afi(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 2,
        }
    }

    /// The family of these identifiers, if it is one of ours.
    pub fn of(afi: u16, safi: u8) -> Option<Family> {
        match (afi, safi) {
            (1, UNICAST) => Some(Family::V4),
            (2, UNICAST) => Some(Family::V6),
            _ => None,
        }
    }

    /// The family of a prefix.
    pub fn of_prefix(prefix: &Prefix) -> Family {
        if prefix.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The longest prefix, in bits.
    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// True of the numbers that networks use among themselves (RFC 6996).
pub fn is_private_asn(asn: u32) -> bool {
    matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294)
}

/// True of the numbers that no peer has: those of RFC 7607, 6793 and 7300, and those that Azure keeps for itself.
pub fn is_reserved_asn(asn: u32) -> bool {
    matches!(asn, 0 | AS_TRANS | 65515..=65520 | 65535 | u32::MAX)
}
