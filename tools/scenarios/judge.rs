//! Runs a story through the program and says where the two disagree.

use std::collections::HashMap;
use std::convert::Infallible;

use clearway::model::Model;
use clearway::packet::{Outcome, Verdict};
use clearway::runtime::{Finished, Replay};

use crate::carried::carried;
use crate::folder::digits_of;
use crate::frame::Frame;
use crate::story::{Arrival, Story};

/// The facts of a verdict line that are not numbers of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name and value, in the order of the line; absent facts are none.
    pub fields: Vec<(&'static str, Option<String>)>,
}

/// The names of the facts of a verdict line.
const FIELDS: [&str; 11] = [
    "customer",
    "vnet",
    "verdict",
    "reason",
    "flow",
    "rule",
    "nextHopType",
    "routePrefix",
    "egressPort",
    "egressRemote",
    "egressKey",
];

fn facts(values: [Option<String>; 11]) -> Facts {
    Facts { fields: FIELDS.into_iter().zip(values).collect() }
}

/// What the story says of an arrival.
pub fn told(arrival: &Arrival) -> Facts {
    let fate = &arrival.fate;
    let text = |t: &str| Some(t.to_owned());
    let verdict = fate.reason.map_or(Verdict::Forward, Verdict::of);
    let (customer, vnet) = arrival.owner();
    let tunnel = fate.to.and_then(|to| to.tunnel);
    facts([
        customer.and_then(text),
        vnet.and_then(text),
        text(verdict.name()),
        fate.reason.and_then(|r| text(r.name())),
        text(fate.flow.name()),
        fate.rule.and_then(text),
        fate.route.and_then(|(hop, _)| text(hop.name())),
        fate.route.and_then(|(_, prefix)| text(prefix)),
        fate.to.and_then(|to| text(to.port)),
        tunnel.map(|(remote, _)| remote.to_string()),
        tunnel.map(|(_, key)| key.to_string()),
    ])
}

/// What the program says of a packet.
fn found(outcome: &Outcome, finished: &Finished<'_>) -> Facts {
    let names = &finished.program.names;
    let tunnel = outcome.egress.and_then(|e| e.tunnel);
    facts([
        outcome.customer.map(|n| names.customer_name(n).to_owned()),
        outcome.vnet.map(|n| names.vnet_name(n).to_owned()),
        Some(outcome.verdict.name().to_owned()),
        outcome.verdict.reason().map(|r| r.name().to_owned()),
        Some(outcome.flow.name().to_owned()),
        outcome.rule.map(|n| names.rule_name(n).to_owned()),
        outcome.route.map(|(hop, _)| hop.name().to_owned()),
        outcome.route.map(|(_, prefix)| prefix.to_string()),
        outcome.egress.map(|e| finished.program.ports[usize::from(e.port)].name.clone()),
        tunnel.map(|(remote, _)| remote.to_string()),
        tunnel.map(|(_, key)| key.to_string()),
    ])
}

/// The frames that must leave because of each arrival, with their ports.
pub fn leaving(story: &Story) -> Vec<Vec<(&'static str, Frame)>> {
    let mut numbers: HashMap<_, u32> = HashMap::new();
    let mut all = Vec::new();
    for arrival in &story.arrivals {
        let mut frames = Vec::new();
        for (to, packet) in arrival.leaving() {
            let number = numbers.entry((to.port, to.tunnel)).or_default();
            frames.push((to.port, to.deliver(&packet, *number)));
            *number += 1;
        }
        all.push(frames);
    }
    all
}

/// Everything in which the program differs from the story, for one number of workers.
pub fn disagreements(story: &Story, workers: usize) -> Vec<String> {
    let swaps: Vec<(u64, Model)> =
        story.swaps.iter().map(|(after, _, model)| (*after, model.clone())).collect();
    let mut replay = Replay::new(&story.model, workers, swaps);
    let ports = replay.ports().to_vec();
    let expected = leaving(story);
    let mut faults = Vec::new();
    let mut sink = |finished: Finished<'_>| -> Result<(), Infallible> {
        let at = finished.number as usize - 1;
        compare(&story.arrivals[at], &expected[at], &finished, &ports, &mut faults);
        Ok(())
    };
    for arrival in &story.arrivals {
        let port = ports.iter().position(|p| p == arrival.from.port).expect("a port of the story");
        let digits = digits_of(story, arrival.from.port);
        let frame = &arrival.frame;
        let Ok(()) = replay.push(port as u16, arrival.time, digits, &frame.bytes, frame.original, &mut sink);
    }
    let Ok(totals) = replay.finish(&mut sink);
    let counted = (totals.opened, totals.live);
    if counted != story.flows {
        faults.push(format!(
            "flow records (opened, live): the story says {:?}, the program {counted:?}",
            story.flows
        ));
    }
    let mut told = carried(story);
    for reading in replay.meters() {
        let link = (reading.customer, reading.circuit, reading.peering, reading.link);
        let both = |n: usize| [reading.meter.packets[n], reading.meter.bytes[n]];
        let (found, told) = ([both(0), both(1)], told.remove(&link));
        if told != Some(found) {
            faults.push(format!("meter of {link:?}: the story says {told:?}, the program {found:?}"));
        }
    }
    faults.extend(told.keys().map(|link| format!("{link:?} has no meter")));
    faults
}

fn compare(
    arrival: &Arrival,
    expected: &[(&'static str, Frame)],
    finished: &Finished<'_>,
    ports: &[String],
    faults: &mut Vec<String>,
) {
    let head = format!("packet {} ({})", finished.number, arrival.scene);
    let told = told(arrival).fields;
    let found = found(finished.outcome.as_ref().expect("details"), finished).fields;
    for ((name, told), (_, found)) in told.into_iter().zip(found) {
        if told != found {
            let show = |v: Option<String>| v.unwrap_or_else(|| "null".to_owned());
            faults.push(format!(
                "{head}: {name}: the story says {}, the program {}",
                show(told),
                show(found)
            ));
        }
    }
    let generated = finished.error;
    let answer = arrival.fate.answer.as_ref().map(|(kind, _)| *kind);
    if generated != answer {
        faults.push(format!("{head}: the story's ICMP error is {answer:?}, the program's {generated:?}"));
    }
    let got: Vec<(&str, &[u8])> =
        finished.frames.iter().map(|(port, bytes)| (ports[usize::from(*port)].as_str(), *bytes)).collect();
    let want: Vec<(&str, &[u8])> = expected.iter().map(|(port, f)| (*port, &f.bytes[..])).collect();
    if got != want {
        let said = (want.len(), got.len());
        faults.push(format!("{head}: frames that leave: the story has {}, the program {}", said.0, said.1));
    }
    for (want, got) in want.into_iter().zip(got).filter(|(want, got)| want != got) {
        let same = want.1.iter().zip(got.1).take_while(|(a, b)| a == b).count();
        let show = |(port, bytes): (&str, &[u8])| format!("{port} {}", hex(bytes, same));
        faults.push(format!(
            "{head}: from byte {same} on:\n  the story's   {}\n  the program's {}",
            show(want),
            show(got)
        ));
    }
}

/// The bytes up to a little behind the first difference.
fn hex(bytes: &[u8], same: usize) -> String {
    let mut text = String::new();
    for (n, byte) in bytes.iter().enumerate().take(same + 16) {
        if n >= 14 && (n - 14) % 4 == 0 {
            text.push(' ');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
