//! `/metrics`: what has been counted, in Prometheus' text format.
//!
//! A count that can occur is there from the start, at 0, so that a rate over it sees the first one. Names of metrics and
//! labels are never renamed or reused.

use std::fmt;
use std::net::IpAddr;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::circuits::status::{BgpStatus, LinkStatus};
use super::count::{Counts, PortCounts, VnetCounts};
use super::flow_logs::{FlowLogFacts, LogFacts};
use super::handle::{PortFacts, Snapshot};
use super::process;
use crate::dataplane::Toward;
use crate::observe::meters::{Meters, each};
use crate::packet::{Generated, Reason};
use crate::{bfd, bgp};

/// The media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Everything that is counted, and how the links of circuits are, as text.
pub fn render(snapshot: &Snapshot, links: &[LinkStatus], ready: bool) -> String {
    let mut families = Families::default();
    packets(&snapshot.total, &mut families);
    ports(snapshot, &mut families);
    vnets(snapshot, &mut families);
    flows(&snapshot.total, &mut families);
    flow_logs(&snapshot.flow_logs, &mut families);
    circuits(&snapshot.meters, &mut families);
    circuit_links(links, &mut families);
    bgp_sessions(links, &mut families);
    bfd_sessions(links, &mut families);
    workers(&snapshot.workers, &mut families);
    program(snapshot, ready, &mut families);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

fn packets(total: &Counts, families: &mut Families) {
    let (dropped, punted) = total.dropped_and_punted();
    let packets =
        families.counter("clearway_packets", "Packets that went through the path, by how they ended.");
    for (verdict, n) in [("forward", total.forwarded), ("drop", dropped), ("punt", punted)] {
        packets.add([("verdict", verdict)], n);
    }
    for (punts, name, help) in [
        (false, "clearway_drops", "Packets dropped, by reason."),
        (
            true,
            "clearway_punts",
            "Packets handed to the host because they are not the dataplane's, by reason.",
        ),
    ] {
        let family = families.counter(name, help);
        for reason in Reason::ALL.iter().filter(|r| r.is_punt() == punts) {
            family.add([("reason", reason.name())], total.reason(*reason));
        }
    }
    let errors = families.counter("clearway_icmp_errors", "ICMP errors sent, by kind.");
    for kind in Generated::ALL {
        errors.add([("kind", kind.name())], total.generated(kind));
    }
    let help = "ICMP errors withheld because there were too many.";
    families.counter("clearway_icmp_errors_withheld", help).add([], total.withheld);
}

/// A metric of ports or VNets: its name, help, and values, with what tells them apart if there are several.
type Of<C> = (&'static str, &'static str, &'static [(&'static str, fn(&C) -> u64)]);

const OF_PORTS: &[Of<PortCounts>] = &[
    ("clearway_port_receive_frames", "Frames received at a port.", &[("", |p| p.in_frames)]),
    (
        "clearway_port_receive_bytes",
        "Bytes of the frames received at a port, Ethernet header included.",
        &[("", |p| p.in_bytes)],
    ),
    (
        "clearway_port_foreign_frames",
        "Frames received at a port for another MAC address, and left alone.",
        &[("", |p| p.foreign)],
    ),
    ("clearway_port_transmit_frames", "Frames sent at a port.", &[("", |p| p.out_frames)]),
    (
        "clearway_port_transmit_bytes",
        "Bytes of the frames given to a port to be sent, Ethernet header included; also of some that its device lost later.",
        &[("", |p| p.out_bytes)],
    ),
    (
        "clearway_port_lost_frames",
        "Frames lost at a port: ring-full was dropped by the kernel before it was received, the others were not sent.",
        &[
            ("ring-full", |p| p.ring_full),
            ("send-full", |p| p.send_full),
            ("too-long", |p| p.too_long),
            ("device-down", |p| p.device_down),
            ("no-neighbour", |p| p.no_neighbour),
        ],
    ),
];

fn ports(snapshot: &Snapshot, families: &mut Families) {
    let labels = |port: &PortFacts| vec![("port", port.name.clone()), ("device", port.device.clone())];
    for (name, help, counts) in OF_PORTS {
        let family = families.counter(name, help);
        for (number, port) in snapshot.ports.iter().enumerate() {
            let counted = snapshot.total.ports.get(number).copied().unwrap_or_default();
            for (cause, count) in *counts {
                let mut labels = labels(port);
                if !cause.is_empty() {
                    labels.push(("cause", (*cause).to_owned()));
                }
                family.add_owned(labels, Value::Count(count(&counted)));
            }
        }
    }
    // Only of those that should be up, so that one that was taken away raises no alarm.
    let configured = || snapshot.ports.iter().filter(|p| p.configured);
    let help = "1 if the port's device is there, up, and has a carrier.";
    let up = families.gauge("clearway_port_up", help);
    for port in configured() {
        up.add_owned(labels(port), Value::Count(u64::from(port.up)));
    }
    let help = "The largest IP packet of the port, as configured.";
    let mtu = families.gauge("clearway_port_mtu_bytes", help);
    for port in configured() {
        mtu.add_owned(labels(port), Value::Count(u64::from(port.mtu)));
    }
    let help = "The port's role and how its frames are read and written; always 1.";
    let info = families.gauge("clearway_port_info", help);
    for port in configured() {
        let more = [("role", port.role.to_owned()), ("io", port.io.clone())];
        info.add_owned(labels(port).into_iter().chain(more).collect(), Value::Count(1));
    }
}

const OF_VNETS: &[Of<VnetCounts>] = &[
    (
        "clearway_vnet_packets",
        "Packets of a VNet, of those that say whose they are, by how they ended.",
        &[("forward", |v| v.forwarded), ("drop", |v| v.dropped)],
    ),
    ("clearway_vnet_flows_opened", "Flow records opened for a VNet.", &[("", |v| v.opened)]),
];

fn vnets(snapshot: &Snapshot, families: &mut Families) {
    for (name, help, counts) in OF_VNETS {
        let family = families.counter(name, help);
        for (number, (customer, vnet)) in snapshot.vnets.iter().enumerate() {
            let counted = snapshot.total.vnets.get(number).copied().unwrap_or_default();
            for (verdict, count) in *counts {
                let mut labels = vec![("customer", customer.clone()), ("vnet", vnet.clone())];
                if !verdict.is_empty() {
                    labels.push(("verdict", (*verdict).to_owned()));
                }
                family.add_owned(labels, Value::Count(count(&counted)));
            }
        }
    }
}

fn flows(total: &Counts, families: &mut Families) {
    families.gauge("clearway_flows", "Flow records held, live or ended.").add([], total.flows);
    families.counter("clearway_flows_opened", "Flow records opened.").add([], total.opened);
    let help = "Bytes of the tables that hold flow records.";
    families.gauge("clearway_flow_table_bytes", help).add([], total.table_bytes);
}

const OF_FLOW_LOGS: &[Of<LogFacts>] = &[
    ("clearway_flow_log_records", "Records written to a flow log.", &[("", |l| l.records)]),
    ("clearway_flow_log_tuples", "Flow tuples written to a flow log.", &[("", |l| l.tuples)]),
    (
        "clearway_flow_log_lost_tuples",
        "Flow tuples lost: not-written for want of a folder or of room, unknown belonged to nothing any more.",
        &[("not-written", |l| l.unwritten), ("unknown", |l| l.unknown)],
    ),
    (
        "clearway_flow_log_removed_bytes",
        "Bytes of a flow log that were removed to keep to its limit.",
        &[("", |l| l.removed_bytes)],
    ),
];

fn flow_logs(facts: &FlowLogFacts, families: &mut Families) {
    let logs = [("nsg", &facts.nsg), ("vnet", &facts.vnet)];
    for (name, help, counts) in OF_FLOW_LOGS {
        let family = families.counter(name, help);
        for (log, facts) in logs {
            for (cause, count) in *counts {
                let mut labels = vec![("log", log.to_owned())];
                if !cause.is_empty() {
                    labels.push(("cause", (*cause).to_owned()));
                }
                family.add_owned(labels, Value::Count(count(facts)));
            }
        }
    }
    let help = "Bytes that a flow log takes, as its limit counts them.";
    let bytes = families.gauge("clearway_flow_log_bytes", help);
    logs.into_iter().for_each(|(log, facts)| bytes.add([("log", log)], facts.bytes));
    let help = "Events and denied packets that no flow log tells of because more came than its writer takes.";
    families.counter("clearway_flow_log_missed_events", help).add([], facts.missed);
}

fn circuits(meters: &Meters, families: &mut Families) {
    let labels = |[customer, circuit, peering, link]: [&str; 4], direction: &str| {
        let labels = [
            ("customer", customer),
            ("circuit", circuit),
            ("peering", peering),
            ("link", link),
            ("direction", direction),
        ];
        labels.map(|(label, value)| (label, value.to_owned())).to_vec()
    };
    let help = "Packets of a link of a circuit's peering; out is towards the customer.";
    let packets = families.counter("clearway_circuit_packets", help);
    for (names, carried) in each(meters) {
        packets.add_owned(labels(names, "in"), Value::Count(carried.r#in.packets));
        packets.add_owned(labels(names, "out"), Value::Count(carried.out.packets));
    }
    let help =
        "Bytes of the customer's packets of a link of a circuit's peering; out is towards the customer.";
    let bytes = families.counter("clearway_circuit_bytes", help);
    for (names, carried) in each(meters) {
        bytes.add_owned(labels(names, "in"), Value::Count(carried.r#in.bytes));
        bytes.add_owned(labels(names, "out"), Value::Count(carried.out.bytes));
    }
}

/// The labels of a link, or of its session of the family of this address.
fn of_link(link: &LinkStatus, peer: Option<IpAddr>) -> Labels {
    let key = &link.key;
    let mut labels = vec![
        ("customer", key.customer.clone()),
        ("circuit", key.circuit.clone()),
        ("peering", key.peering.clone()),
        ("link", key.link.name().to_owned()),
    ];
    labels.extend(peer.map(|p| ("family", if p.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned())));
    labels
}

fn circuit_links(links: &[LinkStatus], families: &mut Families) {
    let help = "1 if a link of a circuit's peering carries traffic.";
    let up = families.gauge("clearway_circuit_link_up", help);
    for link in links {
        up.add_owned(of_link(link, None), Value::Count(link.down.is_none().into()));
    }
    let help =
        "What a link of a circuit may carry each way, over all peerings; not there if it has no limit.";
    let bandwidth = families.gauge("clearway_circuit_link_bandwidth_bits_per_second", help);
    for (link, mbps) in links.iter().filter_map(|l| Some((l, l.bandwidth_mbps?))) {
        bandwidth.add_owned(of_link(link, None), Value::Count(u64::from(mbps) * 1_000_000));
    }
    let help = "Packets of a link of a circuit's peering that were dropped as over its bandwidth.";
    let over_rate = families.counter("clearway_circuit_over_rate_packets", help);
    for link in links {
        for (direction, toward) in [("in", Toward::In), ("out", Toward::Out)] {
            let mut labels = of_link(link, None);
            labels.push(("direction", direction.to_owned()));
            over_rate.add_owned(labels, Value::Count(link.over_rate[toward as usize]));
        }
    }
}

/// A metric of BGP sessions: its name, help and value.
type OfSession = (&'static str, &'static str, fn(&BgpStatus) -> u64);

const OF_BGP: &[OfSession] = &[
    ("clearway_bgp_session_up", "1 if a BGP session is Established.", |s| {
        u64::from(s.state == bgp::State::Established)
    }),
    (
        "clearway_bgp_session_state",
        "The state of a BGP session as bgpPeerState (RFC 4273): 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.",
        |s| match s.state {
            bgp::State::Idle => 1,
            bgp::State::Connect => 2,
            bgp::State::Active => 3,
            bgp::State::OpenSent => 4,
            bgp::State::OpenConfirm => 5,
            bgp::State::Established => 6,
        },
    ),
    (
        "clearway_bgp_prefixes_received",
        "Prefixes that the peer announces and that are taken, stale ones too.",
        |s| s.received as u64,
    ),
    ("clearway_bgp_prefixes_stale", "Those that the peer, restarting, has not announced again.", |s| {
        s.stale as u64
    }),
    ("clearway_bgp_prefixes_limit", "Prefixes that the peer may announce.", |s| s.limit.into()),
    ("clearway_bgp_prefixes_refused", "Prefixes that the peer announces and that are not taken.", |s| {
        s.refused as u64
    }),
    ("clearway_bgp_prefixes_advertised", "Prefixes that are advertised to the peer.", |s| {
        s.advertised as u64
    }),
];

fn bgp_sessions(links: &[LinkStatus], families: &mut Families) {
    let sessions = || links.iter().flat_map(|link| link.bgp.iter().map(move |session| (link, session)));
    for (name, help, value) in OF_BGP {
        let family = families.gauge(name, help);
        for (link, session) in sessions() {
            family.add_owned(of_link(link, Some(session.peer)), Value::Count(value(session)));
        }
    }
    let help = "How often a BGP session has come up, and gone down again.";
    let transitions = families.counter("clearway_bgp_transitions", help);
    for (link, session) in sessions() {
        for (to, count) in [("up", session.changes.0), ("down", session.changes.1)] {
            let mut labels = of_link(link, Some(session.peer));
            labels.push(("to", to.to_owned()));
            transitions.add_owned(labels, Value::Count(count));
        }
    }
}

fn bfd_sessions(links: &[LinkStatus], families: &mut Families) {
    let sessions = || links.iter().flat_map(|link| link.bfd.iter().map(move |session| (link, session)));
    // Only of peers that have spoken BFD, so that those that never do raise no alarm.
    let help = "1 if a BFD session is Up; not there until the peer has spoken BFD.";
    let up = families.gauge("clearway_bfd_session_up", help);
    for (link, session) in sessions().filter(|(_, session)| session.heard) {
        let is_up = session.state == bfd::State::Up;
        up.add_owned(of_link(link, Some(session.peer)), Value::Count(is_up.into()));
    }
    let downs = families.counter("clearway_bfd_downs", "How often a BFD session has gone down.");
    for (link, session) in sessions() {
        downs.add_owned(of_link(link, Some(session.peer)), Value::Count(session.downs));
    }
}

fn workers(workers: &[Counts], families: &mut Families) {
    type Count = fn(&Counts) -> Value;
    let counts: [(&str, &str, Count); 6] = [
        ("clearway_worker_packets", "Packets that a worker took through the path.", |w| {
            Value::Count(w.packets)
        }),
        ("clearway_worker_batches", "Batches that a worker ran.", |w| Value::Count(w.batches)),
        ("clearway_worker_busy_seconds", "Time that a worker worked, waiting not counted.", |w| {
            Value::Number(w.busy as f64 / 1e9)
        }),
        ("clearway_worker_handed_over_frames", "Frames received that were another worker's.", |w| {
            Value::Count(w.handed_over)
        }),
        (
            "clearway_worker_queue_full_frames",
            "Frames for another worker that were lost because that one was too far behind.",
            |w| Value::Count(w.queue_full),
        ),
        (
            "clearway_worker_unpunted_packets",
            "Packets for our end of a circuit link that the kernel was not given: no device, or too many.",
            |w| Value::Count(w.unpunted),
        ),
    ];
    for (name, help, count) in counts {
        let family = families.counter(name, help);
        for (number, worker) in workers.iter().enumerate() {
            family.add_owned(vec![("worker", number.to_string())], count(worker));
        }
    }
    let held = families.gauge("clearway_worker_flows", "Flow records that a worker holds.");
    for (number, worker) in workers.iter().enumerate() {
        held.add_owned(vec![("worker", number.to_string())], Value::Count(worker.flows));
    }
}

fn program(snapshot: &Snapshot, ready: bool, families: &mut Families) {
    let (done, refused) = snapshot.reloads;
    let reloads = families.counter("clearway_reloads", "Reloads of the configuration, by result.");
    reloads.add([("result", "done")], done);
    reloads.add([("result", "refused")], refused);
    let help = "Times that the kernel told more of devices, routes and neighbours than could be read.";
    families.counter("clearway_kernel_overruns", help).add([], snapshot.kernel_overruns);
    let generation = u64::from(snapshot.generation);
    for (name, help, value) in [
        ("clearway_configuration_generation", "One more with each reload that was put in force.", generation),
        ("clearway_program_bytes", "Bytes of the compiled configuration in force.", snapshot.program_bytes),
        ("clearway_ready", "1 once every port has its device and a configuration is in force.", ready.into()),
    ] {
        families.gauge(name, help).add([], value);
    }
    let help = "How long this process has been running.";
    let uptime = families.gauge("clearway_uptime_seconds", help);
    uptime.add_owned(Vec::new(), Value::Number(snapshot.uptime.as_secs_f64()));
    let info = families.gauge("clearway_build_info", "The version that is running; always 1.");
    info.add([("version", env!("CARGO_PKG_VERSION"))], 1);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", process::resident_bytes()),
        ("process_open_fds", "Number of open file descriptors.", process::open_files()),
    ] {
        if let Some(value) = value {
            families.gauge(name, help).add([], value);
        }
    }
}

/// All metrics with their values at one instant.
#[derive(Debug, Default)]
struct Families(Vec<Family>);

/// A metric, and its value under each set of labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    grows: bool,
    samples: Vec<(Labels, Value)>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug)]
enum Value {
    Count(u64),
    Number(f64),
}

impl Families {
    /// Begins a count that only grows; `_total` is put behind its name.
    fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Families {
        self.0.push(Family { name, help, grows: true, samples: Vec::new() });
        self
    }

    /// Begins what goes up and down.
    fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Families {
        self.0.push(Family { name, help, grows: false, samples: Vec::new() });
        self
    }

    /// The value of what was begun last, under labels.
    fn add<const N: usize>(&mut self, labels: [(&'static str, &str); N], count: u64) {
        let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        self.add_owned(labels, Value::Count(count));
    }

    fn add_owned(&mut self, labels: Labels, value: Value) {
        if let Some(family) = self.0.last_mut() {
            family.samples.push((labels, value));
        }
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, grows, samples } in &self.0 {
            let kind = if *grows { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in samples {
                let mut sample = family.encode_family(labels)?;
                match (grows, value) {
                    (true, Value::Count(n)) => sample.encode_counter::<NoLabelSet, _, u64>(n, None)?,
                    (true, Value::Number(n)) => sample.encode_counter::<NoLabelSet, _, u64>(n, None)?,
                    (false, Value::Count(n)) => sample.encode_gauge(n)?,
                    (false, Value::Number(n)) => sample.encode_gauge(n)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dataplane::{Meter, MeterReading};
    use crate::live::fake::links;
    use crate::model::Link;
    use crate::observe::meters::meters;

    /// An appliance with two ports, two VNets and two workers that have counted something.
    pub(crate) fn busy() -> Snapshot {
        let mut one = Counts { packets: 100, forwarded: 80, opened: 7, flows: 6, ..Counts::default() };
        one.reasons = vec![0; Reason::ALL.len()];
        one.reasons[Reason::NsgDeny as usize] = 15;
        one.reasons[Reason::NotIp as usize] = 5;
        one.generated[Generated::PacketTooBig as usize] = 2;
        (one.busy, one.batches, one.queue_full) = (1_500_000_000, 9, 1);
        one.ports =
            vec![PortCounts { in_frames: 100, in_bytes: 9000, ring_full: 3, ..PortCounts::default() }];
        one.vnets = vec![VnetCounts { forwarded: 80, dropped: 15, opened: 7 }];
        let idle = Counts::default();
        let mut total = Counts::default();
        total.add(&one);
        total.add(&idle);
        let port = |name: &str, device: &str| PortFacts {
            name: name.into(),
            role: "fabric",
            device: device.into(),
            io: "af_packet".into(),
            up: name == "fabric",
            mtu: 1600,
            configured: true,
        };
        Snapshot {
            uptime: Duration::from_millis(2500),
            configuration: "config.yaml".into(),
            generation: 3,
            reloads: (2, 1),
            ports: vec![port("fabric", "eth1"), port("edge", "eth2")],
            vnets: vec![("contoso".into(), "hub".into()), ("a\"b\\c\nd".into(), "späte".into())],
            workers: vec![one, idle],
            total,
            program_bytes: 4096,
            meters: meters(&[MeterReading {
                customer: "contoso".into(),
                circuit: "er1".into(),
                peering: "AzurePrivatePeering".into(),
                link: Link::Secondary,
                meter: Meter { packets: [11, 12], bytes: [1100, 1300], over: [0, 0] },
            }]),
            flow_logs: FlowLogFacts {
                nsg: LogFacts { records: 4, tuples: 9, unwritten: 2, unknown: 1, ..LogFacts::default() },
                vnet: LogFacts { removed_bytes: 512, bytes: 8192, ..LogFacts::default() },
                missed: 3,
            },
            kernel_overruns: 5,
        }
    }

    /// The sum of the samples of a metric.
    fn sum(text: &str, metric: &str) -> u64 {
        let samples = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(metric));
        samples.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn value<'a>(text: &'a str, sample: &str) -> Option<&'a str> {
        text.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' '))
    }

    #[test]
    fn packets_are_forwarded_dropped_or_punted() {
        let text = render(&busy(), &links(), true);
        assert_eq!(sum(&text, "clearway_packets_total"), 100);
        assert_eq!(sum(&text, "clearway_worker_packets_total"), 100);
        let forwarded = value(&text, "clearway_packets_total{verdict=\"forward\"}").unwrap();
        let ended = sum(&text, "clearway_drops_total") + sum(&text, "clearway_punts_total");
        assert_eq!(forwarded.parse::<u64>().unwrap() + ended, 100);
    }

    #[test]
    fn every_reason_is_there_before_it_occurs() {
        let text = render(&Snapshot::default(), &[], false);
        for reason in Reason::ALL {
            let metric = if reason.is_punt() { "punts" } else { "drops" };
            let sample = format!("clearway_{metric}_total{{reason=\"{}\"}}", reason.name());
            assert_eq!(value(&text, &sample), Some("0"), "{sample}");
        }
        assert_eq!(value(&text, "clearway_ready"), Some("0"));
    }

    #[test]
    fn what_is_counted_is_told() {
        let text = render(&busy(), &links(), true);
        let version = format!("clearway_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        let circuit = |what: &str, direction: &str| {
            format!(
                "clearway_circuit_{what}_total{{customer=\"contoso\",circuit=\"er1\",peering=\"AzurePrivatePeering\",\
                 link=\"secondary\",direction=\"{direction}\"}}"
            )
        };
        for (sample, expected) in [
            ("clearway_drops_total{reason=\"nsg-deny\"}", "15"),
            ("clearway_punts_total{reason=\"not-ip\"}", "5"),
            ("clearway_icmp_errors_total{kind=\"packet-too-big\"}", "2"),
            ("clearway_port_receive_bytes_total{port=\"fabric\",device=\"eth1\"}", "9000"),
            ("clearway_port_receive_bytes_total{port=\"edge\",device=\"eth2\"}", "0"),
            ("clearway_port_lost_frames_total{port=\"fabric\",device=\"eth1\",cause=\"ring-full\"}", "3"),
            ("clearway_port_lost_frames_total{port=\"edge\",device=\"eth2\",cause=\"no-neighbour\"}", "0"),
            ("clearway_port_up{port=\"fabric\",device=\"eth1\"}", "1"),
            ("clearway_port_up{port=\"edge\",device=\"eth2\"}", "0"),
            ("clearway_vnet_packets_total{customer=\"contoso\",vnet=\"hub\",verdict=\"drop\"}", "15"),
            ("clearway_vnet_flows_opened_total{customer=\"a\\\"b\\\\c\\nd\",vnet=\"späte\"}", "0"),
            ("clearway_worker_busy_seconds_total{worker=\"0\"}", "1.5"),
            ("clearway_worker_queue_full_frames_total{worker=\"1\"}", "0"),
            ("clearway_reloads_total{result=\"refused\"}", "1"),
            ("clearway_flow_log_tuples_total{log=\"nsg\"}", "9"),
            ("clearway_flow_log_lost_tuples_total{log=\"nsg\",cause=\"not-written\"}", "2"),
            ("clearway_flow_log_lost_tuples_total{log=\"vnet\",cause=\"unknown\"}", "0"),
            ("clearway_flow_log_bytes{log=\"vnet\"}", "8192"),
            ("clearway_flow_log_missed_events_total", "3"),
            ("clearway_kernel_overruns_total", "5"),
            (&circuit("packets", "in"), "11"),
            (&circuit("bytes", "out"), "1300"),
            ("clearway_configuration_generation", "3"),
            ("clearway_uptime_seconds", "2.5"),
            (&version, "1"),
        ] {
            assert_eq!(value(&text, sample), Some(expected), "{sample} in\n{text}");
        }
        assert!(value(&text, "process_open_fds").is_some());
        assert!(value(&text, "process_resident_memory_bytes").is_some());
    }

    #[test]
    fn links_and_sessions_are_told_by_link_and_family() {
        let text = render(&Snapshot::default(), &links(), true);
        let of = |metric: &str, link: &str, more: &str| {
            format!(
                "clearway_{metric}{{customer=\"contoso\",circuit=\"er1\",peering=\"AzurePrivatePeering\",\
                 link=\"{link}\"{more}}}"
            )
        };
        let (v4, v6) = (",family=\"ipv4\"", ",family=\"ipv6\"");
        for (metric, link, more, expected) in [
            ("circuit_link_up", "primary", "", Some("1")),
            ("circuit_link_up", "secondary", "", Some("0")),
            ("circuit_link_bandwidth_bits_per_second", "primary", "", Some("1000000000")),
            ("circuit_over_rate_packets_total", "primary", ",direction=\"in\"", Some("4821")),
            ("circuit_over_rate_packets_total", "primary", ",direction=\"out\"", Some("0")),
            ("bgp_session_up", "primary", v4, Some("1")),
            ("bgp_session_up", "primary", v6, Some("0")),
            ("bgp_session_state", "primary", v4, Some("6")),
            ("bgp_session_state", "primary", v6, Some("2")),
            ("bgp_session_state", "secondary", v4, Some("1")),
            ("bgp_prefixes_received", "primary", v4, Some("3")),
            ("bgp_prefixes_stale", "primary", v4, Some("1")),
            ("bgp_prefixes_limit", "primary", v6, Some("100")),
            ("bgp_prefixes_refused", "primary", v4, Some("1")),
            ("bgp_prefixes_advertised", "primary", v4, Some("2")),
            ("bgp_transitions_total", "secondary", ",family=\"ipv4\",to=\"up\"", Some("2")),
            ("bgp_transitions_total", "secondary", ",family=\"ipv4\",to=\"down\"", Some("2")),
            ("bfd_session_up", "primary", v4, Some("1")),
            // Its peer does not speak BFD.
            ("bfd_session_up", "primary", v6, None),
            ("bfd_session_up", "secondary", v4, Some("0")),
            ("bfd_downs_total", "primary", v6, Some("0")),
            ("bfd_downs_total", "secondary", v4, Some("3")),
        ] {
            let sample = of(metric, link, more);
            assert_eq!(value(&text, &sample), expected, "{sample} in\n{text}");
        }
    }

    #[test]
    fn a_port_that_is_no_longer_configured_keeps_its_counts_and_raises_no_alarm() {
        let mut snapshot = busy();
        snapshot.ports[1].configured = false;
        let text = render(&snapshot, &[], true);
        let labels = "{port=\"edge\",device=\"eth2\"}";
        assert_eq!(value(&text, &format!("clearway_port_up{labels}")), None);
        assert_eq!(value(&text, &format!("clearway_port_receive_frames_total{labels}")), Some("0"));
    }

    #[test]
    fn every_metric_is_described_once_and_every_line_is_of_one() {
        let text = render(&busy(), &links(), true);
        let mut described = Vec::new();
        for line in text.lines() {
            if let Some(metric) = line.strip_prefix("# TYPE ") {
                let (name, kind) = metric.split_once(' ').unwrap();
                assert!(!described.contains(&name), "{name} twice");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                described.push(name);
            } else if !line.starts_with("# HELP ") {
                assert_eq!(described.last().copied(), line.split(['{', ' ']).next());
            }
        }
        assert!(described.len() > 30, "{text}");
    }

    #[test]
    fn the_dashboard_shows_what_is_written() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/packaging/grafana-dashboard.json");
        let text = std::fs::read_to_string(file).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let written = render(&busy(), &links(), true);
        let names = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let ours = words.filter(|w| w.starts_with("clearway_") || w.starts_with("process_"));
            ours.map(str::to_owned).collect()
        };
        let known = names(&written);
        let shown = names(&text);
        assert!(shown.len() > 20);
        let strange: Vec<_> = shown.iter().filter(|n| !known.contains(n)).collect();
        assert!(strange.is_empty(), "no such metrics: {strange:?}");
    }
}
