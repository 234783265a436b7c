//! What a running appliance says of circuit links, their BGP and their BFD.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bgp;
use crate::dataplane::Toward;
use crate::live::circuits::status::{BfdStatus, BgpStatus, LinkStatus, RouteStatus};

/// Links of circuits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Circuits {
    /// How long the appliance has been running: two readings make a rate.
    pub uptime_seconds: f64,
    /// The links, by customer, circuit, peering and link.
    pub links: Vec<CircuitLink>,
}

/// One of the two links of a peering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitLink {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// The peering's name.
    pub peering: String,
    /// `primary` or `secondary`.
    pub link: String,
    /// `AzurePrivatePeering`, `MicrosoftPeering` or `AzurePublicPeering`.
    pub peering_type: String,
    /// It carries traffic.
    pub up: bool,
    /// Why it does not: a sentence without its subject.
    pub down_because: Option<String>,
    /// Its device, if there is one.
    pub device: Option<LinkDevice>,
    /// Why there is no device.
    pub no_device_because: Option<String>,
    /// What the circuit's link may carry each way, over all peerings; none if it has no limit.
    pub bandwidth_in_mbps: Option<u32>,
    /// What came from the customer.
    #[serde(rename = "in")]
    pub inwards: LinkCounts,
    /// What was sent to the customer.
    #[serde(rename = "out")]
    pub outwards: LinkCounts,
    /// Its BGP sessions, IPv4 first; none where no AS number is configured.
    pub bgp: Vec<BgpSession>,
    /// Its BFD sessions, IPv4 first.
    pub bfd: Vec<BfdSession>,
}

/// Where the kernel has a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkDevice {
    /// The network namespace.
    pub namespace: String,
    /// The device's name in it.
    pub name: String,
}

/// What was counted of one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkCounts {
    /// Packets.
    pub packets: u64,
    /// The bytes of the customer's IP packets.
    pub bytes: u64,
    /// Packets that were dropped because they were over the bandwidth.
    pub over_rate: u64,
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpSession {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Our address.
    pub local_address: IpAddr,
    /// The peer's.
    pub peer_address: IpAddr,
    /// Our AS number.
    pub local_asn: u32,
    /// The peer's.
    pub peer_asn: u32,
    /// The connection has TCP-MD5.
    pub md5: bool,
    /// `Idle`, `Active`, `Connect`, `OpenSent`, `OpenConfirm` or `Established`.
    pub state: String,
    /// It is up: Established.
    pub up: bool,
    /// For how long it has been up, or down.
    pub since_seconds: f64,
    /// The peer's identifier, while it is up.
    pub peer_identifier: Option<Ipv4Addr>,
    /// The hold time, while it is up.
    pub hold_time_seconds: Option<u16>,
    /// Prefixes that the peer announces and that are taken, stale ones too.
    pub received: u64,
    /// Those of them that are stale.
    pub stale: u64,
    /// How many the peer may announce.
    pub limit: u32,
    /// Prefixes that it announces and that are not taken.
    pub refused: u64,
    /// Prefixes that are advertised to it.
    pub advertised: u64,
    /// Why it was last down, or is held down: a sentence.
    pub last_down: Option<String>,
    /// How often it has come up.
    pub ups: u64,
    /// How often it has gone down again.
    pub downs: u64,
}

/// A BFD session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdSession {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The peer.
    pub peer_address: IpAddr,
    /// `AdminDown`, `Down`, `Init` or `Up`.
    pub state: String,
    /// The peer has spoken BFD; else the session says nothing of the link.
    pub heard: bool,
    /// For how long it has been in this state.
    pub since_seconds: f64,
    /// How often we send, in microseconds.
    pub interval_microseconds: u32,
    /// How long the peer may be silent, in microseconds.
    pub detection_time_microseconds: u64,
    /// How often it has gone down.
    pub downs: u64,
}

/// The routes of BGP sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BgpRoutes {
    /// The sessions, in the order of links, IPv4 first.
    pub sessions: Vec<SessionRoutes>,
    /// Every session has answered in time; else there may be more.
    pub complete: bool,
}

/// The routes of one session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRoutes {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// The peering's name.
    pub peering: String,
    /// `primary` or `secondary`.
    pub link: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// What the peer announces, refused prefixes too; not there if only the others were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Vec<BgpRoute>>,
    /// What it is told; not there if only the others were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<Vec<BgpRoute>>,
}

/// A prefix that is announced, with what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoute {
    /// The prefix.
    pub prefix: String,
    /// AS numbers, the nearest first.
    pub as_path: Vec<u32>,
    /// Communities, as `12076:5010`.
    pub communities: Vec<String>,
    /// The next hop of a received one.
    pub next_hop: Option<IpAddr>,
    /// The session broke, and the peer has not announced it since.
    pub stale: bool,
    /// Why it is not taken: a sentence without its subject; none if it is.
    pub refused: Option<String>,
}

impl Circuits {
    /// What is known of these links when the appliance has been running for so long.
    pub fn of(links: &[LinkStatus], uptime: Duration) -> Circuits {
        let mut links: Vec<&LinkStatus> = links.iter().collect();
        links.sort_by(|a, b| a.key.cmp(&b.key));
        Circuits {
            uptime_seconds: uptime.as_secs_f64(),
            links: links.into_iter().map(CircuitLink::from).collect(),
        }
    }
}

impl From<&LinkStatus> for CircuitLink {
    fn from(link: &LinkStatus) -> CircuitLink {
        let LinkStatus { key, kind, down, device, bgp, bfd, bandwidth_mbps, meter, over_rate } = link;
        let counts = |toward: Toward| LinkCounts {
            packets: meter.packets[toward as usize],
            bytes: meter.bytes[toward as usize],
            over_rate: over_rate[toward as usize],
        };
        let place = device.as_ref().ok();
        CircuitLink {
            customer: key.customer.clone(),
            circuit: key.circuit.clone(),
            peering: key.peering.clone(),
            link: key.link.name().to_owned(),
            peering_type: kind.name().to_owned(),
            up: down.is_none(),
            down_because: down.clone(),
            device: place
                .map(|(namespace, name)| LinkDevice { namespace: namespace.clone(), name: name.clone() }),
            no_device_because: device.as_ref().err().cloned(),
            bandwidth_in_mbps: *bandwidth_mbps,
            inwards: counts(Toward::In),
            outwards: counts(Toward::Out),
            bgp: bgp.iter().map(BgpSession::from).collect(),
            bfd: bfd.iter().map(BfdSession::from).collect(),
        }
    }
}

/// `ipv4` or `ipv6`.
fn family_name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

impl From<&BgpStatus> for BgpSession {
    fn from(session: &BgpStatus) -> BgpSession {
        let (ups, downs) = session.changes;
        BgpSession {
            family: family_name(session.peer).to_owned(),
            local_address: session.local,
            peer_address: session.peer,
            local_asn: session.asn,
            peer_asn: session.peer_asn,
            md5: session.md5,
            state: session.state.name().to_owned(),
            up: session.state == bgp::State::Established,
            since_seconds: session.since.as_secs_f64(),
            peer_identifier: session.open.map(|(identifier, _)| identifier),
            hold_time_seconds: session.open.map(|(_, hold_time)| hold_time),
            received: session.received as u64,
            stale: session.stale as u64,
            limit: session.limit,
            refused: session.refused as u64,
            advertised: session.advertised as u64,
            last_down: session.last_down.clone(),
            ups,
            downs,
        }
    }
}

impl From<&BfdStatus> for BfdSession {
    fn from(session: &BfdStatus) -> BfdSession {
        let (interval, detection_time) = session.intervals;
        BfdSession {
            family: family_name(session.peer).to_owned(),
            peer_address: session.peer,
            state: session.state.name().to_owned(),
            heard: session.heard,
            since_seconds: session.since.as_secs_f64(),
            interval_microseconds: interval,
            detection_time_microseconds: detection_time,
            downs: session.downs,
        }
    }
}

impl From<&RouteStatus> for BgpRoute {
    fn from(route: &RouteStatus) -> BgpRoute {
        let RouteStatus { prefix, as_path, communities, next_hop, stale, refused } = route;
        BgpRoute {
            prefix: prefix.to_string(),
            as_path: as_path.clone(),
            communities: communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect(),
            next_hop: *next_hop,
            stale: *stale,
            refused: refused.clone(),
        }
    }
}
