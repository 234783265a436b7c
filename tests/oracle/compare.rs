//! The oracle and the packet path side by side on one generated case, and the shortest run that shows a difference.

use std::path::Path;

use clearway::dataplane::MeterReading;
use clearway::model::{Model, may_follow};
use clearway::runtime::{Finished, Replay};
use clearway::types::Nanos;

use super::generate::Rng;
use super::generate::change::{change, flap, raise};
use super::generate::circuits;
use super::generate::plan::Plan;
use super::generate::traffic::{Packet, Traffic};
use super::generate::yaml;
use super::{Expected, Meters, Oracle, show};

/// A configuration, perhaps others that replace it, and traffic.
pub struct Case {
    pub seed: u64,
    /// The texts of the configurations.
    pub texts: Vec<String>,
    pub models: Vec<Model>,
    /// When each configuration behind the first comes into force, in packet time.
    pub swaps: Vec<Nanos>,
    pub packets: Vec<Packet>,
}

/// What a run said of every packet, the records opened and live at its end, and what circuit links have carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub records: Vec<Expected>,
    pub opened: u64,
    pub live: u64,
    pub meters: Meters,
}

impl Case {
    /// The case of this seed; `folder` holds the file of service tags.
    pub fn new(seed: u64, packets: usize, folder: &Path) -> Case {
        let mut rng = Rng::new(seed);
        let mut plans = vec![Plan::new(rng.next())];
        // A surge: a burst over slow links during which they get more bandwidth.
        let surge = rng.percent(45);
        // Flaps: routes come and go, and nothing else changes.
        let flaps = rng.percent(20);
        let changes = if flaps { 2 + rng.below(4) } else { *rng.pick(&[0, 0, 1, 1, 1, 2]) };
        for _ in 0..changes {
            let last = &plans[plans.len() - 1];
            let mut next = if flaps { flap(last, &mut rng) } else { change(last, &mut rng) };
            if surge {
                raise(&mut next, &mut rng);
            }
            plans.push(next);
        }
        let texts: Vec<String> = plans.iter().map(|p| yaml::render(p, "ServiceTags.json")).collect();
        let models: Vec<Model> = texts.iter().map(|t| read(seed, t, folder)).collect();
        check_states(seed, &plans, &models);
        for pair in models.windows(2) {
            may_follow(&pair[0], &pair[1]).unwrap_or_else(|why| panic!("seed {seed}: {}", why.join("; ")));
        }
        let mut traffic = Traffic::new(rng.next(), &models[0]);
        let part = packets / models.len();
        let mut sent: Vec<Packet> = Vec::new();
        let mut swaps: Vec<Nanos> = Vec::new();
        for (n, model) in models.iter().enumerate() {
            if n > 0 {
                if surge {
                    traffic.begin_burst(&models[n - 1]);
                    sent.extend((0..75).map(|_| traffic.next(&models[n - 1])));
                }
                // Just before, at, or behind the next packet.
                traffic.change(&models[n - 1], model);
                let next = traffic.next(model);
                let at = (next.time + rng.below(3) as Nanos - 1).max(sent[0].time);
                swaps.push(at.max(swaps.last().copied().unwrap_or(0)));
                sent.push(next);
            }
            sent.extend((1..part).map(|_| traffic.next(model)));
        }
        // A port that a configuration no longer has receives nothing.
        let everywhere = |p: &Packet| models.iter().all(|m| m.ports.iter().any(|port| port.name == p.port));
        sent.retain(everywhere);
        Case { seed, texts, models, swaps, packets: sent }
    }

    /// The swaps as a replay wants them: after the first packet of these.
    fn offsets(&self, packets: &[Packet]) -> Vec<Nanos> {
        let start = packets.first().map_or(0, |p| p.time);
        self.swaps.iter().map(|at| at.saturating_sub(start)).collect()
    }

    /// What the oracle says of these packets.
    pub fn oracle(&self, packets: &[Packet]) -> Run {
        let mut oracle = Oracle::new(&self.models[0]);
        let start = packets.first().map_or(0, |p| p.time);
        let offsets = self.offsets(packets);
        let mut swaps = offsets.iter().map(|after| start + after).zip(&self.models[1..]).peekable();
        let mut clock = 0;
        let mut records = Vec::new();
        for packet in packets {
            clock = packet.time.max(clock);
            while let Some((at, model)) = swaps.next_if(|(at, _)| *at <= clock) {
                oracle.swap(model, at);
            }
            records.push(oracle.packet(&packet.port, packet.time, &packet.bytes, packet.original_len));
        }
        let (opened, live) = (oracle.opened(), oracle.live() as u64);
        Run { records, opened, live, meters: oracle.meters().clone() }
    }

    /// What the packet path says of them.
    pub fn path(&self, packets: &[Packet], workers: usize) -> Run {
        let swaps = self.offsets(packets).into_iter().zip(self.models[1..].iter().cloned()).collect();
        let mut replay = Replay::new(&self.models[0], workers, swaps);
        let ports: Vec<String> = replay.ports().to_vec();
        let mut records = Vec::new();
        let mut sink = |finished: Finished<'_>| {
            records.push(said(&finished, &ports));
            Ok::<(), ()>(())
        };
        for packet in packets {
            let port = ports.iter().position(|p| *p == packet.port).expect("a port of the configuration");
            let pushed =
                replay.push(port as _, packet.time, 9, &packet.bytes, packet.original_len, &mut sink);
            pushed.expect("the sink takes all");
        }
        let totals = replay.finish(&mut sink).expect("the sink takes all");
        let meters = replay.meters().into_iter().map(|reading| {
            let MeterReading { customer, circuit, peering, link, meter } = reading;
            let both = [0, 1].map(|toward| (meter.packets[toward], meter.bytes[toward]));
            ((customer, circuit, peering, link.name()), both)
        });
        Run { records, opened: totals.opened, live: totals.live, meters: meters.collect() }
    }
}

/// "Else its tunnels are down (section 2, `enabled`)": the model says so of the same tunnels.
fn check_states(seed: u64, plans: &[Plan], models: &[Model]) {
    for (plan, model) in plans.iter().zip(models) {
        for (planned, customer) in plan.customers.iter().zip(&model.customers) {
            for (tunnel, of) in planned.tunnels.iter().zip(&customer.tunnels) {
                let up = circuits::is_up(planned, tunnel);
                assert_eq!(up, of.enabled, "seed {seed}: {} of {}", tunnel.to, planned.name);
            }
        }
    }
}

/// Reads a generated configuration; a refusal is a finding by itself.
fn read(seed: u64, text: &str, folder: &Path) -> Model {
    clearway::model::from_bytes("generated.yaml", text.as_bytes(), Some(folder)).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(|f| f.to_string()).collect();
        panic!("seed {seed}: a generated configuration is refused:\n{}\n{text}", faults.join("\n"))
    })
}

/// The fields of a finished packet, by name.
pub fn said(finished: &Finished<'_>, ports: &[String]) -> Expected {
    let outcome = finished.outcome.as_ref().expect("details");
    let names = &finished.program.names;
    let egress = outcome.egress;
    Expected {
        verdict: outcome.verdict,
        customer: outcome.customer.map(|n| names.customer_name(n).to_string()),
        vnet: outcome.vnet.map(|n| names.vnet_name(n).to_string()),
        flow: outcome.flow,
        rule: outcome.rule.map(|n| names.rule_name(n).to_string()),
        next_hop_type: outcome.route.map(|(hop, _)| hop.name().to_string()),
        route_prefix: outcome.route.map(|(_, prefix)| prefix.to_string()),
        egress_port: egress.map(|e| finished.program.ports[usize::from(e.port)].name.to_string()),
        egress_remote: egress.and_then(|e| e.tunnel).map(|(remote, _)| remote.to_string()),
        egress_key: egress.and_then(|e| e.tunnel).map(|(_, key)| key),
        emitted: finished
            .frames
            .iter()
            .map(|(port, frame)| (ports[*port as usize].clone(), frame.to_vec()))
            .collect(),
        generated: finished.error,
    }
}

/// The first packet of which two runs disagree; the number of packets if only the totals do.
fn first_difference(a: &Run, b: &Run) -> Option<usize> {
    let n = a.records.iter().zip(&b.records).position(|(a, b)| a != b);
    n.or_else(|| (a != b).then_some(a.records.len().min(b.records.len())))
}

/// Panics with the shortest run found if the oracle and the packet path differ on this case.
pub fn check(case: &Case, workers: usize) -> Run {
    let expected = case.oracle(&case.packets);
    let actual = case.path(&case.packets, workers);
    let Some(n) = first_difference(&expected, &actual) else { return expected };
    panic!("{}", report(case, n, workers));
}

/// The fewest packets found that show a difference, of those up to packet `n` if they do.
fn shrink(case: &Case, n: usize, workers: usize) -> Vec<Packet> {
    let differs =
        |packets: &[Packet]| first_difference(&case.oracle(packets), &case.path(packets, workers)).is_some();
    let mut packets = case.packets[..(n + 1).min(case.packets.len())].to_vec();
    if !differs(&packets) {
        packets = case.packets.clone();
    }
    // Packets are left out while the difference stays, in ever smaller pieces.
    let mut piece = packets.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < packets.len() && packets.len() > 1 {
            let mut fewer = packets.clone();
            fewer.drain(from..(from + piece).min(packets.len()));
            if !fewer.is_empty() && differs(&fewer) {
                packets = fewer;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    packets
}

/// Everything a person needs to understand a difference at packet `n`.
fn report(case: &Case, n: usize, workers: usize) -> String {
    let packets = shrink(case, n, workers);
    let (expected, actual) = (case.oracle(&packets), case.path(&packets, workers));
    let mut text = format!("seed {}, {workers} workers: oracle and packet path differ\n", case.seed);
    let offsets = case.offsets(&packets);
    for (which, config) in case.texts.iter().enumerate() {
        let after = which.checked_sub(1).and_then(|n| offsets.get(n)).copied().unwrap_or(0);
        text +=
            &format!("--- configuration {}, in force {after} ns after the first packet\n{config}", which + 1);
    }
    for (n, packet) in packets.iter().enumerate() {
        let (line, bytes) = (show::packet(packet), show::hex(&packet.bytes));
        text += &format!("--- packet {}: {line}\n    {bytes}\n", n + 1);
        text += &match (expected.records.get(n), actual.records.get(n)) {
            (Some(e), Some(a)) if e == a => format!("  both: {}\n", show::record(e)),
            (Some(e), Some(a)) => {
                format!("  oracle: {}\n  path:   {}\n", show::record(e), show::record(a))
            }
            _ => "  one of the runs has no record\n".to_string(),
        };
    }
    text += &format!(
        "--- records opened and live: oracle {} {}, path {} {}\n",
        expected.opened, expected.live, actual.opened, actual.live
    );
    let mut links: Vec<_> = expected.meters.keys().chain(actual.meters.keys()).collect();
    links.sort();
    links.dedup();
    for link in links.into_iter().filter(|l| expected.meters.get(*l) != actual.meters.get(*l)) {
        let (oracle, path) = (expected.meters.get(link), actual.meters.get(link));
        text += &format!("--- {link:?} in and out: oracle {oracle:?}, path {path:?}\n");
    }
    text
}
