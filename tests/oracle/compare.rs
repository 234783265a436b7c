//! The oracle and the packet path side by side on one generated case, and the shortest run that shows a difference.

use std::path::Path;

use clearway::model::Model;
use clearway::runtime::{Finished, Replay};
use clearway::types::Nanos;

use super::generate::Rng;
use super::generate::change::change;
use super::generate::plan::Plan;
use super::generate::traffic::{Packet, Traffic};
use super::generate::yaml;
use super::{Expected, Oracle, show};

/// A configuration, perhaps another one that replaces it, and traffic.
pub struct Case {
    pub seed: u64,
    /// The texts of the configurations.
    pub texts: Vec<String>,
    pub models: Vec<Model>,
    /// When the second configuration comes into force: nanoseconds after the first packet.
    pub swap: Nanos,
    pub packets: Vec<Packet>,
}

/// What a run said of every packet, and the records opened and live at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub records: Vec<Expected>,
    pub opened: u64,
    pub live: u64,
}

impl Case {
    /// The case of this seed; `folder` holds the file of service tags.
    pub fn new(seed: u64, packets: usize, folder: &Path) -> Case {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(rng.next());
        let mut plans = vec![plan];
        if rng.percent(60) {
            plans.push(change(&plans[0], &mut rng));
        }
        let texts: Vec<String> = plans.iter().map(|p| yaml::render(p, "ServiceTags.json")).collect();
        let models: Vec<Model> = texts.iter().map(|t| read(seed, t, folder)).collect();
        let mut traffic = Traffic::new(rng.next(), &models[0]);
        let half = if models.len() == 2 { rng.range(packets / 3, packets * 2 / 3) } else { packets };
        let mut sent: Vec<Packet> = (0..half).map(|_| traffic.next(&models[0])).collect();
        let mut swap = 0;
        if let (Some(changed), Some(first)) = (models.get(1), sent.first()) {
            let first = first.time;
            traffic.change(changed);
            sent.extend((half..packets).map(|_| traffic.next(changed)));
            // Just before, at, or behind a packet in the middle.
            let middle = sent[half.min(sent.len() - 1)].time.max(first);
            swap = (middle - first + rng.below(3) as Nanos).saturating_sub(1);
        }
        Case { seed, texts, models, swap, packets: sent }
    }
}

/// Reads a generated configuration; a refusal is a finding by itself.
fn read(seed: u64, text: &str, folder: &Path) -> Model {
    clearway::model::from_bytes("generated.yaml", text.as_bytes(), Some(folder)).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(|f| f.to_string()).collect();
        panic!("seed {seed}: a generated configuration is refused:\n{}\n{text}", faults.join("\n"))
    })
}

/// What the oracle says.
pub fn oracle(models: &[Model], swap: Nanos, packets: &[Packet]) -> Run {
    let mut oracle = Oracle::new(&models[0]);
    let start = packets.first().map_or(0, |p| p.time);
    let mut swaps = models.get(1).map(|m| (start + swap, m));
    let mut clock = 0;
    let mut records = Vec::new();
    for packet in packets {
        clock = packet.time.max(clock);
        if let Some((at, model)) = swaps.take_if(|(at, _)| *at <= clock) {
            oracle.swap(model, at);
        }
        records.push(oracle.packet(&packet.port, packet.time, &packet.bytes, packet.original_len));
    }
    Run { records, opened: oracle.opened(), live: oracle.live() as u64 }
}

/// What the packet path says.
pub fn path(models: &[Model], swap: Nanos, packets: &[Packet], workers: usize) -> Run {
    let swaps = models.get(1).map(|m| (swap, m.clone())).into_iter().collect();
    let mut replay = Replay::new(&models[0], workers, swaps);
    let ports: Vec<String> = replay.ports().to_vec();
    let mut records = Vec::new();
    for packet in packets {
        let port = ports.iter().position(|p| *p == packet.port).expect("a port of the configuration");
        let mut sink = |finished: Finished<'_>| {
            records.push(said(&finished, &ports));
            Ok::<(), ()>(())
        };
        replay
            .push(port as _, packet.time, 9, &packet.bytes, packet.original_len, &mut sink)
            .expect("the sink takes all");
    }
    let totals = replay
        .finish(&mut |finished: Finished<'_>| {
            records.push(said(&finished, &ports));
            Ok::<(), ()>(())
        })
        .expect("the sink takes all");
    Run { records, opened: totals.opened as u64, live: totals.live as u64 }
}

/// The fields of a finished packet, by name.
fn said(finished: &Finished<'_>, ports: &[String]) -> Expected {
    let outcome = &finished.done.outcome;
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
        generated: finished.done.error.as_ref().map(|(kind, ..)| *kind),
    }
}

/// The first packet of which two runs disagree; the number of packets if only the totals do.
fn first_difference(a: &Run, b: &Run) -> Option<usize> {
    let n = a.records.iter().zip(&b.records).position(|(a, b)| a != b);
    n.or_else(|| (a != b).then_some(a.records.len().min(b.records.len())))
}

/// Panics with the shortest run found if the oracle and the packet path differ on this case.
pub fn check(case: &Case, workers: usize) -> Run {
    let expected = oracle(&case.models, case.swap, &case.packets);
    let actual = path(&case.models, case.swap, &case.packets, workers);
    let Some(n) = first_difference(&expected, &actual) else { return expected };
    panic!("{}", report(case, n, workers));
}

/// Everything a person needs to understand a difference at packet `n`.
fn report(case: &Case, n: usize, workers: usize) -> String {
    let upto = (n + 1).min(case.packets.len());
    let differs = |packets: &[Packet], swap: Nanos| {
        let (a, b) = (oracle(&case.models, swap, packets), path(&case.models, swap, packets, workers));
        first_difference(&a, &b).is_some()
    };
    let at = case.packets[0].time + case.swap;
    let offset = |packets: &[Packet]| packets.first().map_or(0, |p| at.saturating_sub(p.time));
    let mut packets = case.packets[..upto].to_vec();
    if !differs(&packets, offset(&packets)) {
        packets = case.packets.clone();
    }
    // Packets are left out while the difference stays, in ever smaller pieces.
    let mut piece = packets.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < packets.len() && packets.len() > 1 {
            let mut fewer = packets.clone();
            fewer.drain(from..(from + piece).min(packets.len()));
            if !fewer.is_empty() && differs(&fewer, offset(&fewer)) {
                packets = fewer;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    let swap = offset(&packets);
    let (expected, actual) =
        (oracle(&case.models, swap, &packets), path(&case.models, swap, &packets, workers));
    let mut text = format!("seed {}, {workers} workers: oracle and packet path differ\n", case.seed);
    for (which, config) in case.texts.iter().enumerate() {
        text += &format!(
            "--- configuration {} (in force {} ns after the first packet)\n{config}",
            which + 1,
            which as u64 * swap
        );
    }
    for (n, packet) in packets.iter().enumerate() {
        text +=
            &format!("--- packet {}: {}\n    {}\n", n + 1, show::packet(packet), show::hex(&packet.bytes));
        let (Some(e), Some(a)) = (expected.records.get(n), actual.records.get(n)) else {
            text += "  one of the runs has no record\n";
            continue;
        };
        if e == a {
            text += &format!("  both: {}\n", show::record(e));
        } else {
            text += &format!("  oracle: {}\n  path:   {}\n", show::record(e), show::record(a));
        }
    }
    text += &format!(
        "--- records opened and live: oracle {} {}, path {} {}\n",
        expected.opened, expected.live, actual.opened, actual.live
    );
    text
}
