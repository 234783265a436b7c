//! What a running appliance says of itself, as JSON documents: what the control socket carries and `--json` prints.

mod circuits;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::count::{Counts, PortCounts, VnetCounts};
use super::flow_logs::LogFacts;
use super::handle::{FlowFacts, PortFacts, Reloaded, Snapshot};
use super::hex;
use crate::observe::Style;
use crate::observe::routes::EffectiveRoutes;
use crate::packet::{Generated, Reason};

pub use circuits::{
    BfdSession, BgpRoute, BgpRoutes, BgpSession, CircuitLink, Circuits, LinkCounts, LinkDevice, SessionRoutes,
};

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// The version that is running.
    pub version: String,
    /// The path of its configuration.
    pub configuration: String,
    /// The generation of the configuration in force.
    pub generation: u32,
    /// Every port has its device and a configuration is in force.
    pub ready: bool,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// Packets that went through the path.
    pub packets: u64,
    /// Those that were forwarded.
    pub forwarded: u64,
    /// Those that were dropped, by reason; every reason is there.
    pub dropped: BTreeMap<String, u64>,
    /// Those that were handed to the host, by reason; every reason is there.
    pub punted: BTreeMap<String, u64>,
    /// ICMP errors sent, by kind.
    pub generated: BTreeMap<String, u64>,
    /// ICMP errors withheld because there were too many.
    pub withheld: u64,
    /// Flow records.
    pub flows: FlowCounts,
    /// The ports.
    pub ports: Vec<Port>,
    /// The VNets.
    pub virtual_networks: Vec<Vnet>,
    /// The workers.
    pub workers: Vec<Worker>,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    /// Bytes of the compiled configuration.
    pub program_bytes: u64,
    /// How often the kernel told more of devices, routes and neighbours than could be read; then it was asked for all.
    #[serde(default)]
    pub kernel_overruns: u64,
    /// Flow logs; zeros if there are none.
    #[serde(default)]
    pub flow_logs: FlowLogs,
}

/// What was counted of flow logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowLogs {
    /// The NSG flow log.
    pub nsg: FlowLog,
    /// The VNet flow log.
    pub vnet: FlowLog,
    /// Events and denied packets that no log tells of because the writer was too far behind.
    pub missed: u64,
}

/// What was counted of one flow log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowLog {
    /// Records written.
    pub records: u64,
    /// Flow tuples written.
    pub written: u64,
    /// Flow tuples lost.
    pub lost: u64,
    /// Bytes removed to keep to the limit.
    pub removed_bytes: u64,
    /// Bytes of the log now, as the limit counts them.
    pub bytes: u64,
}

/// Flow records of all workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowCounts {
    /// Held now, live or ended.
    pub held: u64,
    /// Opened.
    pub opened: u64,
    /// Bytes of the tables that hold them.
    pub table_bytes: u64,
}

/// A port and what was counted at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its network device.
    pub device: String,
    /// How frames are read and written; empty if the device is not there.
    pub io: String,
    /// The device is there, up, and has a carrier.
    pub up: bool,
    /// It is in the configuration in force.
    pub configured: bool,
    /// The largest IP packet.
    pub mtu: u32,
    /// Frames received.
    #[serde(rename = "in")]
    pub received: Frames,
    /// Frames sent.
    #[serde(rename = "out")]
    pub sent: Frames,
    /// Frames received for another MAC address, and left alone.
    #[serde(default)]
    pub foreign: u64,
    /// Frames lost.
    pub lost: Lost,
}

/// Frames and their bytes, Ethernet header included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frames {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Frames lost at a port, by what they were lost to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lost {
    /// The receive ring was full.
    pub ring_full: u64,
    /// The device did not take them in time.
    pub send_full: u64,
    /// They are longer than the device takes.
    #[serde(default)]
    pub too_long: u64,
    /// The device is down or gone.
    pub device_down: u64,
    /// The neighbour's address did not become known.
    pub no_neighbour: u64,
}

/// A VNet and what was counted of its packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vnet {
    /// Its customer.
    pub customer: String,
    /// Its name.
    pub vnet: String,
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Flow records opened.
    pub opened: u64,
}

/// What a worker has counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Packets that it took through the path.
    pub packets: u64,
    /// Batches that it ran.
    pub batches: u64,
    /// Time that it worked, waiting not counted.
    pub busy_seconds: f64,
    /// Frames it received that were another worker's.
    pub handed_over: u64,
    /// Frames for another worker that were lost because that one was too far behind.
    pub queue_full: u64,
    /// Packets for our end of a circuit link that the kernel was not given: there is no device, or there were too many.
    #[serde(default)]
    pub unpunted: u64,
    /// Flow records that it holds.
    pub flows: u64,
}

/// Reloads of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloads {
    /// Those that were put in force.
    pub done: u64,
    /// Those that were refused.
    pub refused: u64,
}

impl Counters {
    /// What a snapshot says.
    pub fn of(snapshot: &Snapshot, ready: bool) -> Counters {
        let Snapshot {
            uptime,
            configuration,
            generation,
            reloads,
            ports,
            vnets,
            workers,
            total,
            program_bytes,
            flow_logs,
            kernel_overruns,
            // They have an answer of their own.
            meters: _,
        } = snapshot;
        let reasons = |punts: bool| {
            let of = Reason::ALL.iter().filter(|r| r.is_punt() == punts);
            of.map(|r| (r.name().to_owned(), total.reason(*r))).collect()
        };
        let generated = Generated::ALL.map(|kind| (kind.name().to_owned(), total.generated(kind)));
        let count = |n: usize| total.ports.get(n).copied().unwrap_or_default();
        let count_vnet = |n: usize| total.vnets.get(n).copied().unwrap_or_default();
        Counters {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: configuration.clone(),
            generation: *generation,
            ready,
            uptime_seconds: uptime.as_secs_f64(),
            packets: total.packets,
            forwarded: total.forwarded,
            dropped: reasons(false),
            punted: reasons(true),
            generated: BTreeMap::from(generated),
            withheld: total.withheld,
            flows: FlowCounts { held: total.flows, opened: total.opened, table_bytes: total.table_bytes },
            ports: ports.iter().enumerate().map(|(n, facts)| port(facts, count(n))).collect(),
            virtual_networks: vnets.iter().enumerate().map(|(n, names)| vnet(names, count_vnet(n))).collect(),
            workers: workers.iter().map(worker).collect(),
            reloads: Reloads { done: reloads.0, refused: reloads.1 },
            program_bytes: *program_bytes,
            flow_logs: FlowLogs {
                nsg: flow_log(flow_logs.nsg),
                vnet: flow_log(flow_logs.vnet),
                missed: flow_logs.missed,
            },
            kernel_overruns: *kernel_overruns,
        }
    }
}

fn port(facts: &PortFacts, counts: PortCounts) -> Port {
    let PortCounts {
        in_frames,
        in_bytes,
        foreign,
        ring_full,
        out_frames,
        out_bytes,
        send_full,
        too_long,
        device_down,
        no_neighbour,
    } = counts;
    Port {
        name: facts.name.clone(),
        role: facts.role.to_owned(),
        device: facts.device.clone(),
        io: facts.io.clone(),
        up: facts.up,
        configured: facts.configured,
        mtu: facts.mtu,
        received: Frames { frames: in_frames, bytes: in_bytes },
        sent: Frames { frames: out_frames, bytes: out_bytes },
        foreign,
        lost: Lost { ring_full, send_full, too_long, device_down, no_neighbour },
    }
}

fn flow_log(facts: LogFacts) -> FlowLog {
    let LogFacts { records, tuples, unwritten, unknown, removed_bytes, bytes } = facts;
    FlowLog { records, written: tuples, lost: unwritten + unknown, removed_bytes, bytes }
}

fn vnet((customer, vnet): &(String, String), counts: VnetCounts) -> Vnet {
    let VnetCounts { forwarded, dropped, opened } = counts;
    Vnet { customer: customer.clone(), vnet: vnet.clone(), forwarded, dropped, opened }
}

fn worker(counts: &Counts) -> Worker {
    Worker {
        packets: counts.packets,
        batches: counts.batches,
        busy_seconds: counts.busy as f64 / 1e9,
        handed_over: counts.handed_over,
        queue_full: counts.queue_full,
        unpunted: counts.unpunted,
        flows: counts.flows,
    }
}

impl Lost {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.ring_full + self.send_full + self.too_long + self.device_down + self.no_neighbour
    }
}

/// Flow records that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    /// The records.
    pub flows: Vec<Flow>,
    /// There are more than were asked for.
    pub more: bool,
    /// Every worker has answered in time; else there may be more, too.
    pub complete: bool,
}

/// A flow record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Its customer.
    pub customer: String,
    /// Its VNet.
    pub vnet: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint's address.
    pub local_address: IpAddr,
    /// The endpoint's port.
    pub local_port: u16,
    /// The other's address.
    pub remote_address: IpAddr,
    /// The other's port.
    pub remote_port: u16,
    /// `Inbound` or `Outbound`: the direction of the packet that opened it.
    pub opened_by: String,
    /// The rule that opened it, as flow logs write it.
    pub rule: String,
    /// How long no packet has refreshed it.
    pub idle_seconds: f64,
    /// FIN from both sides or RST was seen.
    pub ended: bool,
}

impl From<FlowFacts> for Flow {
    fn from(facts: FlowFacts) -> Flow {
        Flow {
            customer: facts.customer,
            vnet: facts.vnet,
            protocol: facts.protocol,
            local_address: facts.local.0,
            local_port: facts.local.1,
            remote_address: facts.remote.0,
            remote_port: facts.remote.1,
            opened_by: facts.opened_by.name().to_owned(),
            rule: facts.rule,
            idle_seconds: facts.idle.as_secs_f64(),
            ended: facts.ended,
        }
    }
}

/// The flows that carry most, estimated from a sample of packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopFlows {
    /// How long packets were looked at.
    pub seconds: f64,
    /// Packets that came in this time.
    pub packets: u64,
    /// Those of them that were looked at; if it was all, the rates are exact.
    pub sampled: u64,
    /// The flows, the heaviest first, at most twenty.
    pub flows: Vec<TopFlow>,
}

/// What goes one way of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopFlow {
    /// Its customer.
    pub customer: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The source address.
    pub source_address: IpAddr,
    /// The source port; 0 if it has none, as of fragments but the first.
    pub source_port: u16,
    /// The destination address.
    pub destination_address: IpAddr,
    /// The destination port.
    pub destination_port: u16,
    /// Packets in a second.
    pub packets_per_second: f64,
    /// Bits in a second, of IP packets without what is around them.
    pub bits_per_second: f64,
    /// What became of the last one: `forward`, `drop` or `punt`.
    pub verdict: String,
    /// Why, unless forwarded.
    pub reason: Option<String>,
}

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// It was put in force.
    pub accepted: bool,
    /// The generation in force then; none if it was refused.
    pub generation: Option<u32>,
    /// How long it took; none if it was refused.
    pub took_seconds: Option<f64>,
    /// Warnings of the configuration; none if it was refused.
    pub warnings: Option<usize>,
    /// Why it was refused, sentence by sentence.
    pub refused: Vec<String>,
}

impl From<Result<Reloaded, Vec<String>>> for Reload {
    fn from(result: Result<Reloaded, Vec<String>>) -> Reload {
        match result {
            Ok(Reloaded { generation, took, warnings }) => Reload {
                accepted: true,
                generation: Some(generation),
                took_seconds: Some(took.as_secs_f64()),
                warnings: Some(warnings),
                refused: Vec::new(),
            },
            Err(refused) => Reload { refused, ..Reload::default() },
        }
    }
}

/// A packet explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// A new packet would be forwarded.
    pub forwarded: bool,
    /// For a person.
    pub text: String,
    /// The same as `explain --json` prints of a file, with `generation` and `liveFlows`.
    pub document: serde_json::Value,
}

/// The effective routes of a subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// For a person.
    pub text: String,
    /// The same as `routes --json` prints of a file, with `generation`.
    pub document: serde_json::Value,
}

impl Routes {
    /// The routes of the configuration of this generation, in colours if they are wanted.
    pub fn of(routes: &EffectiveRoutes<'_>, generation: u32, color: bool) -> Routes {
        let mut document = serde_json::to_value(routes).unwrap_or_default();
        if let serde_json::Value::Object(all) = &mut document {
            all.insert("generation".to_owned(), generation.into());
        }
        Routes { text: routes.table(Style { on: color }), document }
    }
}

/// A capture has begun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureBegun {
    /// The ports that are configured; packets of others come if a reload adds them.
    pub ports: Vec<String>,
}

/// How far a capture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureCounts {
    /// Packets that were captured.
    pub captured: u64,
    /// Packets that fitted, and for which there was no room: who captures took them too slowly.
    pub missed: u64,
}

/// A captured packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// The port it came in by; empty if that is no longer configured.
    pub port: String,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// How long the frame was.
    pub length: u32,
    /// The frame, as far as it was received.
    #[serde(with = "hex")]
    pub frame: Vec<u8>,
    /// Its verdict line.
    pub verdict: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::metrics::tests::busy;
    use crate::observe::json;

    #[test]
    fn counters_say_what_the_snapshot_says_and_survive_the_way() {
        let counters = Counters::of(&busy(), true);
        let text = json::line(&counters);
        assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), counters);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["dropped"]["nsg-deny"], 15);
        assert_eq!(value["dropped"]["no-route"], 0);
        assert_eq!(value["ports"][0]["in"], serde_json::json!({"frames": 100, "bytes": 9000}));
        assert_eq!(value["ports"][0]["lost"]["ring-full"], 3);
        assert_eq!(value["virtualNetworks"][0]["forwarded"], 80);
        assert_eq!(value["workers"][0]["busySeconds"], 1.5);
        assert_eq!(
            (&value["flowLogs"]["nsg"]["written"], &value["flowLogs"]["nsg"]["lost"]),
            (&9.into(), &3.into())
        );
        assert_eq!(value["kernelOverruns"], 5);
        let ended = counters.dropped.values().chain(counters.punted.values()).sum::<u64>();
        assert_eq!(counters.packets, counters.forwarded + ended);
    }
}
