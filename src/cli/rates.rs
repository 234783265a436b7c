//! What happens in each second: the difference of two readings of a running appliance.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use super::running::{endpoint, protocol, title};
use crate::live::report::{Circuits, Counters, Port, TopFlow, TopFlows, Vnet, Worker};

/// Rows of a table that has the busiest of many.
const BUSIEST: usize = 10;

/// Rates between two readings. Of a count that went back, because another appliance runs now, there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    #[serde(skip)]
    title: String,
    seconds: f64,
    packets_per_second: f64,
    forwarded_per_second: f64,
    dropped_per_second: f64,
    punted_per_second: f64,
    flows_held: u64,
    flows_opened_per_second: f64,
    circuit_links: UpAndDown,
    bgp_sessions: UpAndDown,
    reasons: Vec<ReasonRate>,
    ports: Vec<PortRates>,
    customers: Vec<PartyRates>,
    virtual_networks: Vec<PartyRates>,
    workers: Vec<WorkerRates>,
    top_flows: TopFlows,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct UpAndDown {
    up: usize,
    down: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReasonRate {
    reason: String,
    per_second: f64,
    total: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortRates {
    name: String,
    device: String,
    up: bool,
    in_frames_per_second: f64,
    in_bits_per_second: f64,
    out_frames_per_second: f64,
    out_bits_per_second: f64,
    lost_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartyRates {
    customer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vnet: Option<String>,
    forwarded_per_second: f64,
    dropped_per_second: f64,
    opened_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkerRates {
    busy: f64,
    packets_per_second: f64,
    packets_per_batch: f64,
}

/// A table of a page: its headings, as for [`Table`](crate::observe::Table), and rows.
#[derive(Clone, Debug)]
pub struct Section {
    pub heads: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
}

/// Counts to rates.
#[derive(Clone, Copy)]
struct Per {
    seconds: f64,
}

impl Per {
    fn second(self, earlier: u64, now: u64) -> f64 {
        now.saturating_sub(earlier) as f64 / self.seconds
    }
}

impl Rates {
    /// What happened between these two readings, which flows it was, and how circuit links are now.
    pub fn between(earlier: &Counters, now: &Counters, flows: TopFlows, circuits: &Circuits) -> Rates {
        // By the appliance's own clock, which does not know how long the answer was under way.
        let seconds = now.uptime_seconds - earlier.uptime_seconds;
        let per = Per { seconds: if seconds > 0.001 { seconds } else { f64::INFINITY } };
        let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let mut reasons = reasons(per, &earlier.dropped, &now.dropped);
        reasons.extend(self::reasons(per, &earlier.punted, &now.punted));
        reasons.sort_by(|a, b| most(a.per_second, b.per_second).then(b.total.cmp(&a.total)));
        let vnets = vnets(per, earlier, now);
        Rates {
            title: title(now),
            seconds,
            packets_per_second: per.second(earlier.packets, now.packets),
            forwarded_per_second: per.second(earlier.forwarded, now.forwarded),
            dropped_per_second: per.second(sum(&earlier.dropped), sum(&now.dropped)),
            punted_per_second: per.second(sum(&earlier.punted), sum(&now.punted)),
            flows_held: now.flows.held,
            flows_opened_per_second: per.second(earlier.flows.opened, now.flows.opened),
            circuit_links: UpAndDown::of(circuits.links.iter().map(|link| link.up)),
            bgp_sessions: UpAndDown::of(circuits.links.iter().flat_map(|link| &link.bgp).map(|s| s.up)),
            reasons,
            ports: ports(per, earlier, now),
            customers: customers(&vnets),
            virtual_networks: vnets,
            workers: workers(per, earlier, now),
            top_flows: flows,
        }
    }

    /// Who says so.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What a page shows, most important first.
    pub fn sections(&self) -> Vec<Section> {
        let row = |name: &str, value: f64| vec![name.to_owned(), short(value)];
        let mut counts = Section {
            heads: &["", ">PER SECOND"],
            rows: vec![
                row("packets", self.packets_per_second),
                row("forwarded", self.forwarded_per_second),
                row("dropped", self.dropped_per_second),
                row("punted", self.punted_per_second),
                row("flows opened", self.flows_opened_per_second),
                vec!["flows held".to_owned(), self.flows_held.to_string()],
            ],
        };
        for (name, UpAndDown { up, down }) in
            [("circuit links down", self.circuit_links), ("BGP sessions down", self.bgp_sessions)]
        {
            if up + down > 0 {
                counts.rows.push(vec![name.to_owned(), format!("{down} of {}", up + down)]);
            }
        }
        let of_reason = |r: &ReasonRate| vec![r.reason.clone(), short(r.per_second), r.total.to_string()];
        let of_customer = |c: &PartyRates| {
            let rates = [c.forwarded_per_second, c.dropped_per_second, c.opened_per_second];
            [c.customer.clone()].into_iter().chain(rates.map(short)).collect::<Vec<_>>()
        };
        let of_vnet = |v: &PartyRates| {
            let mut cells = of_customer(v);
            cells.insert(1, v.vnet.clone().unwrap_or_default());
            cells
        };
        let of_worker = |(number, w): (usize, &WorkerRates)| {
            let busy = format!("{:.0} %", w.busy * 100.0);
            vec![number.to_string(), busy, short(w.packets_per_second), short(w.packets_per_batch)]
        };
        vec![
            counts,
            Section {
                heads: &["REASON", ">PER SECOND", ">SINCE START"],
                rows: self.reasons.iter().take(BUSIEST).map(of_reason).collect(),
            },
            Section {
                heads: &["PORT", "DEVICE", "STATE", ">IN", ">IN BIT/S", ">OUT", ">OUT BIT/S", ">LOST"],
                rows: self.ports.iter().map(PortRates::cells).collect(),
            },
            Section {
                heads: &["FLOWS", "FROM", "TO", ">PER SECOND", ">BIT/S", "CUSTOMER", "VERDICT"],
                rows: self.top_flows.flows.iter().take(BUSIEST).map(of_flow).collect(),
            },
            Section {
                heads: &["CUSTOMER", ">FORWARDED", ">DROPPED", ">OPENED"],
                rows: self.customers.iter().take(BUSIEST).map(of_customer).collect(),
            },
            Section {
                heads: &["CUSTOMER", "VNET", ">FORWARDED", ">DROPPED", ">OPENED"],
                rows: self.virtual_networks.iter().take(BUSIEST).map(of_vnet).collect(),
            },
            Section {
                heads: &[">WORKER", ">BUSY", ">PER SECOND", ">PER BATCH"],
                rows: self.workers.iter().enumerate().map(of_worker).collect(),
            },
        ]
    }
}

impl UpAndDown {
    fn of(are_up: impl Iterator<Item = bool>) -> UpAndDown {
        are_up.fold(UpAndDown::default(), |n, up| match up {
            true => UpAndDown { up: n.up + 1, ..n },
            false => UpAndDown { down: n.down + 1, ..n },
        })
    }
}

fn of_flow(flow: &TopFlow) -> Vec<String> {
    vec![
        protocol(flow.protocol),
        endpoint(flow.protocol, flow.source_address, flow.source_port),
        endpoint(flow.protocol, flow.destination_address, flow.destination_port),
        short(flow.packets_per_second),
        short(flow.bits_per_second),
        flow.customer.clone(),
        flow.reason.as_ref().unwrap_or(&flow.verdict).clone(),
    ]
}

impl PortRates {
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.device.clone(),
            if self.up { "up".to_owned() } else { "down".to_owned() },
            short(self.in_frames_per_second),
            short(self.in_bits_per_second),
            short(self.out_frames_per_second),
            short(self.out_bits_per_second),
            short(self.lost_per_second),
        ]
    }
}

/// The order of rates, the greater first.
fn most(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// Reasons that have ever occurred.
fn reasons(per: Per, earlier: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<ReasonRate> {
    let occurred = now.iter().filter(|(_, total)| **total > 0);
    let rate = |(reason, total): (&String, &u64)| ReasonRate {
        reason: reason.clone(),
        per_second: per.second(earlier.get(reason).copied().unwrap_or(0), *total),
        total: *total,
    };
    occurred.map(rate).collect()
}

/// Ports of the configuration in force. They are known by their places, which are theirs for good.
fn ports(per: Per, earlier: &Counters, now: &Counters) -> Vec<PortRates> {
    let none = Port::default();
    let rates = |(number, port): (usize, &Port)| {
        let before = earlier.ports.get(number).unwrap_or(&none);
        PortRates {
            name: port.name.clone(),
            device: port.device.clone(),
            up: port.up,
            in_frames_per_second: per.second(before.received.frames, port.received.frames),
            in_bits_per_second: per.second(before.received.bytes, port.received.bytes) * 8.0,
            out_frames_per_second: per.second(before.sent.frames, port.sent.frames),
            out_bits_per_second: per.second(before.sent.bytes, port.sent.bytes) * 8.0,
            lost_per_second: per.second(before.lost.sum(), port.lost.sum()),
        }
    };
    now.ports.iter().enumerate().filter(|(_, p)| p.configured).map(rates).collect()
}

/// VNets with packets, the busiest first. They are known by their places, too.
fn vnets(per: Per, earlier: &Counters, now: &Counters) -> Vec<PartyRates> {
    let none = Vnet::default();
    let rates = |(number, vnet): (usize, &Vnet)| {
        let before = earlier.virtual_networks.get(number).unwrap_or(&none);
        PartyRates {
            customer: vnet.customer.clone(),
            vnet: Some(vnet.vnet.clone()),
            forwarded_per_second: per.second(before.forwarded, vnet.forwarded),
            dropped_per_second: per.second(before.dropped, vnet.dropped),
            opened_per_second: per.second(before.opened, vnet.opened),
        }
    };
    let with_packets = now.virtual_networks.iter().enumerate().filter(|(_, v)| v.forwarded + v.dropped > 0);
    let mut vnets: Vec<_> = with_packets.map(rates).collect();
    vnets.sort_by(|a, b| most(a.packets(), b.packets()));
    vnets
}

/// Customers with packets, the busiest first.
fn customers(vnets: &[PartyRates]) -> Vec<PartyRates> {
    let mut customers: BTreeMap<&str, PartyRates> = BTreeMap::new();
    for vnet in vnets {
        let nobody = PartyRates {
            customer: vnet.customer.clone(),
            vnet: None,
            forwarded_per_second: 0.0,
            dropped_per_second: 0.0,
            opened_per_second: 0.0,
        };
        let customer = customers.entry(&vnet.customer).or_insert(nobody);
        customer.forwarded_per_second += vnet.forwarded_per_second;
        customer.dropped_per_second += vnet.dropped_per_second;
        customer.opened_per_second += vnet.opened_per_second;
    }
    let mut customers: Vec<_> = customers.into_values().collect();
    customers.sort_by(|a, b| most(a.packets(), b.packets()));
    customers
}

impl PartyRates {
    fn packets(&self) -> f64 {
        self.forwarded_per_second + self.dropped_per_second
    }
}

fn workers(per: Per, earlier: &Counters, now: &Counters) -> Vec<WorkerRates> {
    let none = Worker::default();
    let rates = |(number, worker): (usize, &Worker)| {
        let before = earlier.workers.get(number).unwrap_or(&none);
        let batches = worker.batches.saturating_sub(before.batches);
        let packets = worker.packets.saturating_sub(before.packets);
        WorkerRates {
            busy: ((worker.busy_seconds - before.busy_seconds) / per.seconds).clamp(0.0, 1.0),
            packets_per_second: per.second(before.packets, worker.packets),
            packets_per_batch: packets as f64 / batches.max(1) as f64,
        }
    };
    now.workers.iter().enumerate().map(rates).collect()
}

/// `0`, `0.4`, `12`, `345`, `6.78 k`, `90.1 M`: three digits.
pub fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 999.5e6 => (v / 1e9, " G"),
        v if v >= 999.5e3 => (v / 1e6, " M"),
        v if v >= 999.5 => (v / 1e3, " k"),
        v => (v, ""),
    };
    match value {
        0.0 => "0".to_owned(),
        v if unit.is_empty() && v >= 9.95 => format!("{v:.0}"),
        v if unit.is_empty() => format!("{v:.1}"),
        v if v < 9.995 => format!("{v:.2}{unit}"),
        v if v < 99.95 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::circuits::tests::three_links;
    use super::*;
    use crate::live::report::Frames;

    fn reading(uptime: f64, times: u64) -> Counters {
        let vnet = |customer: &str, vnet: &str, n: u64| Vnet {
            customer: customer.into(),
            vnet: vnet.into(),
            forwarded: n * times,
            dropped: times,
            opened: 0,
        };
        let frames = Frames { frames: 10 * times, bytes: 1000 * times };
        Counters {
            uptime_seconds: uptime,
            packets: 100 * times,
            forwarded: 80 * times,
            dropped: [("nsg-deny".to_owned(), 15 * times), ("no-route".to_owned(), 0)].into(),
            punted: [("not-ip".to_owned(), 5 * times)].into(),
            ports: vec![Port { configured: true, received: frames, ..Port::default() }, Port::default()],
            virtual_networks: vec![vnet("a", "one", 10), vnet("b", "one", 25), vnet("a", "two", 20)],
            workers: vec![Worker {
                packets: 100 * times,
                batches: 4 * times,
                busy_seconds: 0.5 * uptime,
                ..Worker::default()
            }],
            ..Counters::default()
        }
    }

    fn flows() -> TopFlows {
        let flow = TopFlow {
            customer: "a".into(),
            protocol: 6,
            source_address: [10, 1, 0, 4].into(),
            source_port: 50_000,
            destination_address: [10, 1, 0, 5].into(),
            destination_port: 443,
            packets_per_second: 1234.0,
            bits_per_second: 9.9e6,
            verdict: "drop".into(),
            reason: Some("nsg-deny".into()),
        };
        let forwarded = TopFlow { verdict: "forward".into(), reason: None, protocol: 1, ..flow.clone() };
        TopFlows { flows: vec![flow, forwarded], ..TopFlows::default() }
    }

    #[test]
    fn differences_by_the_second() {
        let rates = Rates::between(&reading(10.0, 1), &reading(12.0, 3), flows(), &three_links());
        assert_eq!((rates.packets_per_second, rates.dropped_per_second), (100.0, 15.0));
        let reasons: Vec<_> = rates.reasons.iter().map(|r| (&*r.reason, r.per_second, r.total)).collect();
        assert_eq!(reasons, [("nsg-deny", 15.0, 45), ("not-ip", 5.0, 15)]);
        assert_eq!(rates.ports.len(), 1);
        assert_eq!((rates.ports[0].in_frames_per_second, rates.ports[0].in_bits_per_second), (10.0, 8000.0));
        let customers: Vec<_> = rates.customers.iter().map(|c| (&*c.customer, c.packets())).collect();
        assert_eq!(customers, [("a", 32.0), ("b", 26.0)]);
        let vnets: Vec<_> = rates.virtual_networks.iter().map(|v| v.vnet.as_deref().unwrap()).collect();
        assert_eq!(vnets, ["one", "two", "one"]);
        assert_eq!((rates.workers[0].busy, rates.workers[0].packets_per_batch), (0.5, 25.0));
        let sections = rates.sections();
        let rows: Vec<_> = sections[0].rows.iter().skip(6).map(|row| row.join(": ")).collect();
        assert_eq!(rows, ["circuit links down: 1 of 3", "BGP sessions down: 2 of 3"]);
        let of_flows = sections.iter().find(|s| s.heads[0] == "FLOWS").unwrap();
        assert_eq!(
            of_flows.rows[0],
            ["TCP", "10.1.0.4:50000", "10.1.0.5:443", "1.23 k", "9.90 M", "a", "nsg-deny"]
        );
        assert_eq!(of_flows.rows[1], ["ICMP", "10.1.0.4", "10.1.0.5", "1.23 k", "9.90 M", "a", "forward"]);
        assert!(rates.sections().iter().all(|s| s.rows.iter().all(|r| r.len() == s.heads.len())));
    }

    #[test]
    fn an_appliance_that_began_anew_has_no_negative_rates() {
        for (earlier, now) in [(reading(100.0, 50), reading(1.0, 1)), (reading(5.0, 1), reading(5.0, 2))] {
            let rates = Rates::between(&earlier, &now, TopFlows::default(), &Circuits::default());
            assert_eq!((rates.packets_per_second, rates.workers[0].busy), (0.0, 0.0));
            assert_eq!(rates.sections()[0].rows.len(), 6);
            assert!(rates.ports[0].in_bits_per_second.abs() < f64::EPSILON);
        }
    }

    #[test]
    fn three_digits() {
        let cases = [
            (0.0, "0"),
            (0.44, "0.4"),
            (9.96, "10"),
            (345.4, "345"),
            (999.6, "1.00 k"),
            (6784.0, "6.78 k"),
            (90_100_000.0, "90.1 M"),
            (123e9, "123 G"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
