//! What the configuration asks of the control side of circuit links.

use std::fmt;
use std::net::IpAddr;

use crate::bgp::{Advertised, Policy};
use crate::model::{Link, PeeringKind};
use crate::types::Prefix;

/// Names a link of a peering, also over reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// The peering.
    pub peering: String,
    /// Which link.
    pub link: Link,
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkKey { customer, circuit, peering, link } = self;
        write!(f, "customer '{customer}': circuit '{circuit}', {peering}, {} link", link.name())
    }
}

/// What is asked of one link: one that has a tunnel and a link prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// Which.
    pub key: LinkKey,
    /// The routing domain.
    pub kind: PeeringKind,
    /// Its ends, of IPv4 and of IPv6.
    pub ends: [Option<Ends>; 2],
    /// The largest IP packet that it carries, in bytes.
    pub mtu: u32,
    /// Its tunnel, its circuit and its peering are not turned off.
    pub enabled: bool,
    /// BGP, if the peering says the customer's AS number.
    pub bgp: Option<BgpSpec>,
}

/// Both ends of a link, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The customer's address: the first of the prefix that may be used.
    pub peer: IpAddr,
    /// Ours: the second.
    pub local: IpAddr,
    /// The link's prefix: a /30 or /126.
    pub prefix: Prefix,
}

/// What is asked of BGP on a link; of each family with ends there is a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpSpec {
    /// Our AS number.
    pub asn: u32,
    /// The customer's.
    pub peer_asn: u32,
    /// The key of TCP-MD5 (RFC 2385), if there is one: at most 80 bytes.
    pub shared_key: Option<String>,
    /// Which prefixes are taken, of IPv4 and of IPv6.
    pub policies: [Policy; 2],
    /// What is advertised, of both families.
    pub advertised: Vec<Advertised>,
    /// Why the session is held down, if it is: a sentence.
    pub held_down: Option<String>,
}
