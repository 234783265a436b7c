//! What is known of the control side of circuit links, for people.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::spec::LinkKey;
use crate::bgp;
use crate::model::PeeringKind;
use crate::types::Prefix;

/// A link.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Which.
    pub key: LinkKey,
    /// The routing domain.
    pub kind: PeeringKind,
    /// `None`: it carries traffic. Else why not: a sentence without its subject, such as `BFD is down since 3 s`.
    pub down: Option<String>,
    /// Where its device is: the network namespace and the name in it; else why there is none.
    pub device: Result<(String, String), String>,
    /// Its BGP sessions, IPv4 first; none where no AS number is configured.
    pub bgp: Vec<BgpStatus>,
    /// Its BFD sessions, IPv4 first.
    pub bfd: Vec<BfdStatus>,
    /// `bandwidthInMbps` of the circuit, if it has one.
    pub bandwidth_mbps: Option<u32>,
    /// What it has carried.
    pub meter: crate::dataplane::Meter,
    /// Packets over the bandwidth, inwards and outwards.
    pub over_rate: [u64; 2],
}

/// A BGP session.
#[derive(Clone, Debug)]
pub struct BgpStatus {
    /// Our address.
    pub local: IpAddr,
    /// The peer's.
    pub peer: IpAddr,
    /// Our AS number.
    pub asn: u32,
    /// The peer's.
    pub peer_asn: u32,
    /// The connection has TCP-MD5.
    pub md5: bool,
    /// Where it stands.
    pub state: bgp::State,
    /// For how long it has been up, or down; from the beginning of the session if it never was the other.
    pub since: Duration,
    /// The peer's identifier and the hold time in seconds, while it is up.
    pub open: Option<(Ipv4Addr, u16)>,
    /// Prefixes that the peer announces and that are taken; stale ones too.
    pub received: usize,
    /// Those of them that are stale: the peer restarts.
    pub stale: usize,
    /// How many prefixes the peer may announce.
    pub limit: u32,
    /// Prefixes that it announces and that are not taken.
    pub refused: usize,
    /// Prefixes that are advertised to it.
    pub advertised: usize,
    /// Why it was last down, or why it is held down: a sentence.
    pub last_down: Option<String>,
    /// How often it has come up, and gone down again.
    pub changes: (u64, u64),
}

/// A BFD session.
#[derive(Clone, Copy, Debug)]
pub struct BfdStatus {
    /// The peer.
    pub peer: IpAddr,
    /// Where it stands.
    pub state: crate::bfd::State,
    /// The peer has spoken BFD since the session began.
    pub heard: bool,
    /// For how long it has been in this state.
    pub since: Duration,
    /// How often we send, and how long the peer may be silent, in microseconds.
    pub intervals: (u32, u64),
    /// How often it has gone down.
    pub downs: u64,
}

/// A route of a session, or a prefix that is not taken, or one that is advertised.
#[derive(Clone, Debug)]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: Prefix,
    /// AS path as it is written; of an advertised one ours.
    pub as_path: Vec<u32>,
    /// Communities.
    pub communities: Vec<u32>,
    /// The next hop, of a received one.
    pub next_hop: Option<IpAddr>,
    /// It is stale.
    pub stale: bool,
    /// Why it is not taken: a sentence without its subject.
    pub refused: Option<String>,
}

/// Both directions of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionRoutes {
    /// What the peer announces, refused prefixes too.
    pub received: Vec<RouteStatus>,
    /// What it is told.
    pub advertised: Vec<RouteStatus>,
}
