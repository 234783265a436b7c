//! What others may ask of a running appliance: the control socket, the metrics, whoever stops it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::capture::{CaptureWanted, Capturing};
use super::circuits::spec::LinkKey;
use super::circuits::status::{LinkStatus, SessionRoutes};
use super::count::Counts;
use super::flow_logs::FlowLogFacts;
use crate::bgp::Family;
use crate::model::Model;
use crate::observe::meters::Meters;
use crate::packet::Direction;

/// The appliance at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// How long it has been running.
    pub uptime: Duration,
    /// The path of its configuration.
    pub configuration: String,
    /// The generation of the program in force, from 1; one more with each reload.
    pub generation: u32,
    /// Reloads that were put in force, and that were refused.
    pub reloads: (u64, u64),
    /// The ports, at the numbers by which they are counted; names that are no longer configured stay.
    pub ports: Vec<PortFacts>,
    /// Customer and VNet, at the numbers by which VNets are counted; names that are no longer configured stay.
    pub vnets: Vec<(String, String)>,
    /// What each worker has counted.
    pub workers: Vec<Counts>,
    /// All of it together.
    pub total: Counts,
    /// Bytes of the program in force.
    pub program_bytes: u64,
    /// What circuit links have carried, earlier processes included if that was kept.
    pub meters: Meters,
    /// What flow logs have counted; zeros if there are none.
    pub flow_logs: FlowLogFacts,
    /// How often the kernel told more of devices, routes and neighbours than could be read; then it was asked for all.
    pub kernel_overruns: u64,
}

/// A port of the running appliance.
#[derive(Clone, Debug, Default)]
pub struct PortFacts {
    /// Its name.
    pub name: String,
    /// Its role: `fabric`, `edge`, `internet`, `services`.
    pub role: &'static str,
    /// Its network device.
    pub device: String,
    /// How frames are read and written: `af_xdp`, `af_packet`, and so on; empty if the device is not there.
    pub io: String,
    /// The device is there, up, and has a carrier.
    pub up: bool,
    /// The largest IP packet, as configured.
    pub mtu: u32,
    /// It is in the configuration in force.
    pub configured: bool,
}

/// A flow record, for a person.
#[derive(Clone, Debug)]
pub struct FlowFacts {
    /// Its customer.
    pub customer: String,
    /// Its VNet.
    pub vnet: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint's address and port.
    pub local: (IpAddr, u16),
    /// The other's address and port.
    pub remote: (IpAddr, u16),
    /// The direction of the packet that opened it.
    pub opened_by: Direction,
    /// The rule that opened it, as flow logs write it.
    pub rule: String,
    /// How long no packet has refreshed it.
    pub idle: Duration,
    /// FIN from both sides or RST was seen.
    pub ended: bool,
}

/// Which flow records are asked for.
#[derive(Clone, Debug, Default)]
pub struct FlowsWanted {
    /// Of this customer only, by its name as it is configured.
    pub customer: Option<String>,
    /// Of VNets with this name only, likewise.
    pub vnet: Option<String>,
    /// With this address at either end only.
    pub address: Option<IpAddr>,
    /// Of this packet only.
    pub packet: Option<PacketWanted>,
    /// So many at most.
    pub most: usize,
}

/// Flow records that were found.
#[derive(Clone, Debug, Default)]
pub struct FlowsFound {
    /// The records.
    pub flows: Vec<FlowFacts>,
    /// Every worker has said which it holds; else one had too much to do to answer in time.
    pub complete: bool,
}

/// A packet, whichever of its ends a flow record belongs to.
#[derive(Clone, Copy, Debug)]
pub struct PacketWanted {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address and port; ports count where the protocol has ports.
    pub from: (IpAddr, u16),
    /// Destination address and port.
    pub to: (IpAddr, u16),
}

/// A reload that was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The generation of the program that is in force now.
    pub generation: u32,
    /// How long reading, compiling and putting it in force took.
    pub took: Duration,
    /// Warnings of the configuration.
    pub warnings: usize,
}

/// What a running appliance answers. Every call may be made from any thread and takes a bounded time.
pub trait Handle: Send + Sync {
    /// The appliance now; what workers count is at most 100 ms old.
    fn snapshot(&self) -> Snapshot;
    /// Flow records, those that were asked for.
    fn flows(&self, wanted: &FlowsWanted) -> FlowsFound;
    /// The configuration in force, and its generation.
    fn in_force(&self) -> (Arc<Model>, u32);
    /// Begins a capture of packets as they come in, with what becomes of each.
    fn capture(&self, wanted: CaptureWanted) -> Capturing;
    /// Reads the configuration again and puts it in force; or says, sentence by sentence, why the old one stays.
    fn reload(&self) -> Result<Reloaded, Vec<String>>;
    /// The links of circuits that have a tunnel and a link prefix, within 2 s.
    fn circuits(&self) -> Vec<LinkStatus> {
        Vec::new()
    }
    /// The routes of a BGP session, both ways, within 2 s; none if there is no such session, or it does not answer in time.
    fn bgp_routes(&self, _link: &LinkKey, _family: Family) -> Option<SessionRoutes> {
        None
    }
    /// True once every port has its device and the first program is in force.
    fn is_ready(&self) -> bool;
    /// True if a worker has not come round for ten seconds.
    fn stands_still(&self) -> bool {
        false
    }
}
