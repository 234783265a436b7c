//! What is known of one packet when it has ended. Plain numbers; `observe` gives them their names.

use std::net::IpAddr;

use super::Reason;
use crate::types::Prefix;

/// How a packet ended; every packet ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It left by a port.
    Forward,
    /// It was dropped.
    Drop(Reason),
    /// It was handed to the host: it is not the dataplane's.
    Punt(Reason),
}

impl Verdict {
    /// The verdict that a reason stands for.
    pub fn of(reason: Reason) -> Verdict {
        if reason.is_punt() { Verdict::Punt(reason) } else { Verdict::Drop(reason) }
    }

    /// `forward`, `drop` or `punt`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Forward => "forward",
            Verdict::Drop(_) => "drop",
            Verdict::Punt(_) => "punt",
        }
    }

    /// Why, unless forwarded.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Verdict::Forward => None,
            Verdict::Drop(r) | Verdict::Punt(r) => Some(r),
        }
    }
}

/// Which way a packet crosses an endpoint: outbound leaves a NIC, inbound arrives at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Arrives at the endpoint.
    Inbound,
    /// Leaves the endpoint.
    Outbound,
}

impl Direction {
    /// As Azure writes it.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Inbound => "Inbound",
            Direction::Outbound => "Outbound",
        }
    }
}

/// What the flow records said of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// No record is kept, or none was found and none opened.
    #[default]
    None,
    /// The packet opened a record.
    New,
    /// The packet belongs to a record.
    Established,
}

impl FlowState {
    /// `none`, `new` or `established`.
    pub fn name(self) -> &'static str {
        match self {
            FlowState::None => "none",
            FlowState::New => "new",
            FlowState::Established => "established",
        }
    }
}

/// Azure's next hop types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHopType {
    /// The VNet's own ranges.
    VnetLocal,
    /// A peered VNet.
    VNetPeering,
    /// A network virtual appliance.
    VirtualAppliance,
    /// A circuit or a VPN connection.
    VirtualNetworkGateway,
    /// The Internet.
    Internet,
    /// A public service, by service endpoint.
    VirtualNetworkServiceEndpoint,
    /// Nowhere: the packet is dropped.
    None,
}

impl NextHopType {
    /// Every type, in the order of their numbers.
    pub const ALL: [NextHopType; 7] = [
        NextHopType::VnetLocal,
        NextHopType::VNetPeering,
        NextHopType::VirtualAppliance,
        NextHopType::VirtualNetworkGateway,
        NextHopType::Internet,
        NextHopType::VirtualNetworkServiceEndpoint,
        NextHopType::None,
    ];

    /// As Azure writes it.
    pub fn name(self) -> &'static str {
        match self {
            NextHopType::VnetLocal => "VnetLocal",
            NextHopType::VNetPeering => "VNetPeering",
            NextHopType::VirtualAppliance => "VirtualAppliance",
            NextHopType::VirtualNetworkGateway => "VirtualNetworkGateway",
            NextHopType::Internet => "Internet",
            NextHopType::VirtualNetworkServiceEndpoint => "VirtualNetworkServiceEndpoint",
            NextHopType::None => "None",
        }
    }
}

/// Where a forwarded packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The port, as an index into the program's ports.
    pub port: u16,
    /// The outer destination and the key as on the wire; absent when the packet left plain.
    pub tunnel: Option<(IpAddr, u32)>,
}

/// An ICMP error made in answer to a dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Generated {
    /// ICMP 11/0 or ICMPv6 3/0.
    TimeExceeded,
    /// ICMP 3/4.
    FragmentationNeeded,
    /// ICMPv6 2/0.
    PacketTooBig,
}

impl Generated {
    /// Every kind, in the order of the summary.
    pub const ALL: [Generated; 3] =
        [Generated::TimeExceeded, Generated::FragmentationNeeded, Generated::PacketTooBig];

    /// The name used in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Generated::TimeExceeded => "time-exceeded",
            Generated::FragmentationNeeded => "fragmentation-needed",
            Generated::PacketTooBig => "packet-too-big",
        }
    }
}

/// Everything a verdict line says of a packet, but for its number, time and port. Ids are those of the program's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// The customer, once known.
    pub customer: Option<u32>,
    /// The VNet, once known.
    pub vnet: Option<u32>,
    /// What the flow records said.
    pub flow: FlowState,
    /// The rule that decided last.
    pub rule: Option<u32>,
    /// The route that won: next hop type and prefix.
    pub route: Option<(NextHopType, Prefix)>,
    /// Where it left; only of a forwarded packet.
    pub egress: Option<Egress>,
}
