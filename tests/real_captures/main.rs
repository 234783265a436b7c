//! Every capture of the shared data goes through the packet path, by each port, with one worker and with two.

#[path = "../real_data/mod.rs"]
mod real_data;

mod network;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use clearway::io::Capture;
use clearway::model::{self, Model};
use clearway::packet::{Generated, Outcome, Verdict};
use clearway::runtime::{Finished, Replay};
use clearway::wire::{ethernet, gre, ip};

use network::{Entry, Network, Seen};

/// A frame on its way in.
struct Input {
    port: &'static str,
    time: u64,
    digits: u8,
    frame: Vec<u8>,
    original: u32,
}

/// Frames that left, each with its port.
type Frames = Vec<(u16, Vec<u8>)>;

/// Everything that became of a capture.
#[derive(PartialEq)]
struct Results {
    packets: Vec<(Outcome, Option<Generated>, Frames)>,
    flows: (u64, u64),
}

/// The packets of a capture as far as it can be read, and the sentence where it cannot.
fn packets(path: &Path) -> (Vec<Input>, Option<String>) {
    let mut packets = Vec::new();
    let mut capture = match Capture::open(path.to_str().expect("a name in UTF-8")) {
        Ok(capture) => capture,
        Err(error) => return (packets, Some(error.message)),
    };
    loop {
        match capture.next() {
            Ok(None) => return (packets, None),
            Err(error) => return (packets, Some(error.message)),
            Ok(Some(p)) => packets.push(Input {
                port: "",
                time: p.time,
                digits: p.digits,
                frame: p.captured.to_vec(),
                original: p.original_len,
            }),
        }
    }
}

/// The packets as they come in.
fn arranged(entry: Entry, network: &Network, packets: &[Input]) -> Vec<Input> {
    let mut arranged = Vec::new();
    for (number, p) in packets.iter().enumerate() {
        let (port, frame, original) = match entry {
            Entry::Everywhere => match network::innermost(&p.frame) {
                Some((packet, ipv4)) if packet.len() <= 65_000 => {
                    let (port, frame) = network.frame_of(packet, ipv4, number);
                    let length = frame.len() as u32;
                    (port, frame, length)
                }
                _ => continue,
            },
            _ if entry.is_keyed() => match network::with_key(&p.frame) {
                Some(frame) => {
                    let length = frame.len() as u32;
                    (entry.port(), frame, length)
                }
                None => (entry.port(), p.frame.clone(), p.original),
            },
            _ => (entry.port(), p.frame.clone(), p.original),
        };
        arranged.push(Input { port, frame, original, time: p.time, digits: p.digits });
    }
    arranged
}

/// Runs the packets through the path, and checks what holds for every packet.
fn replay(name: &str, model: &Model, inputs: &[Input], workers: usize) -> Results {
    let mut replay = Replay::new(model, workers, Vec::new());
    let ports: Vec<String> = replay.ports().to_vec();
    let mtus: Vec<usize> = model.ports.iter().map(|p| p.mtu as usize).collect();
    let mut results = Results { packets: Vec::with_capacity(inputs.len()), flows: (0, 0) };
    let mut sink = |done: Finished<'_>| {
        let input = &inputs[results.packets.len()];
        assert_eq!(
            (done.number, done.captured),
            (results.packets.len() as u64 + 1, &input.frame[..]),
            "{name}"
        );
        check(name, &done, &mtus);
        let frames = done.frames.iter().map(|(port, frame)| (*port, frame.to_vec())).collect();
        results.packets.push((done.outcome.expect("details"), done.error, frames));
        Ok::<(), Infallible>(())
    };
    for input in inputs {
        let port = ports.iter().position(|p| p == input.port).expect("a port") as u16;
        let Ok(()) = replay.push(port, input.time, input.digits, &input.frame, input.original, &mut sink);
    }
    let Ok(totals) = replay.finish(&mut sink);
    results.flows = (totals.opened, totals.live);
    assert_eq!(results.packets.len(), inputs.len(), "{name}: every packet ends once");
    results
}

/// A packet leaves only if it is forwarded, or one ICMP error about it; what leaves is a right packet that fits.
fn check(name: &str, done: &Finished<'_>, mtus: &[usize]) {
    let outcome = done.outcome.as_ref().expect("details");
    let forwarded = outcome.verdict == Verdict::Forward;
    assert_eq!(outcome.egress.is_some(), forwarded, "{name}: {outcome:?}");
    let frames = done.frames.len();
    let expected = if forwarded { frames >= 1 } else { frames == usize::from(done.error.is_some()) };
    assert!(expected, "{name}: {frames} frames, {outcome:?}");
    assert!(forwarded || outcome.verdict.reason().is_some());
    for (port, frame) in done.frames {
        let link = ethernet::parse(frame).unwrap_or_else(|| panic!("{name}: packet {}", done.number));
        let mut packet = &frame[link.payload..];
        let mut ipv4 = link.ether_type == ethernet::IPV4;
        assert!(
            packet.len() <= mtus[usize::from(*port)],
            "{name}: packet {}: {} bytes",
            done.number,
            packet.len()
        );
        let key = outcome.egress.and_then(|e| e.tunnel).map(|t| t.1);
        let tunnelled = if forwarded { key.is_some() } else { ip::first_protocol(packet, ipv4) == 47 };
        if tunnelled {
            let outer = ip::parse_outer(packet, ipv4).unwrap_or_else(|r| panic!("{name}: {r:?}"));
            assert_eq!(outer.end, packet.len());
            let header = gre::parse(&packet[outer.payload..]).unwrap_or_else(|r| panic!("{name}: {r:?}"));
            assert!(!forwarded || key == Some(header.key), "{name}");
            packet = &packet[outer.payload + header.header..];
            ipv4 = header.protocol == gre::IPV4;
            if header.protocol == gre::ETHERNET {
                let inner = ethernet::parse(packet).expect("an inner frame");
                ipv4 = inner.ether_type == ethernet::IPV4;
                packet = &packet[inner.payload..];
            }
        }
        let inner = ip::parse_inner(packet, ipv4);
        let inner = inner.unwrap_or_else(|| panic!("{name}: packet {} leaves malformed", done.number));
        assert_eq!(inner.total as usize, packet.len(), "{name}: packet {} leaves with padding", done.number);
    }
}

/// A sentence without the numbers that differ from capture to capture.
fn class(sentence: &str) -> String {
    let sentence = sentence.split(';').next().unwrap_or(sentence);
    if sentence.contains("link type") {
        return sentence.to_owned();
    }
    let end = sentence.find(": it begins with").unwrap_or(sentence.len());
    sentence[..end]
        .split(' ')
        .filter(|w| !w.starts_with(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is counted over all captures.
#[derive(Default)]
struct Sum {
    verdicts: BTreeMap<Entry, BTreeMap<&'static str, usize>>,
    left: usize,
    opened: u64,
}

/// What the frames of a capture say of their ways, as an entry takes them.
fn survey(entry: Entry, packets: &[Input]) -> Vec<Seen> {
    let seen = |p: &Input| match entry {
        Entry::Everywhere => {
            let (packet, ipv4) = network::innermost(&p.frame)?;
            let inner = ip::parse_inner(packet, ipv4)?;
            Some(Seen { underlay: None, inner: Some((inner.source, inner.destination)) })
        }
        _ if entry.is_keyed() => {
            network::see(&network::with_key(&p.frame).unwrap_or_else(|| p.frame.clone()))
        }
        _ => network::see(&p.frame),
    };
    packets.iter().filter_map(seen).collect()
}

/// Runs a capture by one entry, with one worker and with two.
fn run(name: &str, entry: Entry, packets: &[Input], sum: &mut Sum) {
    let seen = survey(entry, packets);
    if entry.is_keyed() && seen.iter().all(|s| s.underlay.is_none()) {
        return;
    }
    let network = Network::new(entry, &seen);
    let configuration = network.configuration().to_string();
    let model = model::from_bytes("network.json", configuration.as_bytes(), None);
    let model = model.unwrap_or_else(|f| panic!("{name}: {entry:?}: {f:#?}\n{configuration}"));
    let inputs = arranged(entry, &network, packets);
    let what = format!("{name} by {entry:?}");
    let one = replay(&what, &model, &inputs, 1);
    assert!(one == replay(&what, &model, &inputs, 2), "{what}: two workers give other results");
    let counts = sum.verdicts.entry(entry).or_default();
    for (outcome, _, frames) in &one.packets {
        *counts.entry(outcome.verdict.reason().map_or("forward", |r| r.name())).or_default() += 1;
        sum.left += frames.len();
    }
    sum.opened += one.flows.0;
}

#[test]
fn every_capture_goes_through_the_path_by_every_port() {
    let Some(folder) = real_data::folder("pcap") else { return };
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut sum = Sum::default();
    let (mut files, mut captures, mut frames, mut texts) = (0, 0, 0, 0);
    for path in real_data::files_below(&folder) {
        let name = real_data::name(&path);
        files += 1;
        let (packets, sentence) = packets(&path);
        if [".out", ".log", ".txt"].iter().any(|end| name.ends_with(end)) {
            assert!(sentence.is_some_and(|s| s.contains("no capture at all")), "{name}");
            texts += 1;
            continue;
        }
        if let Some(sentence) = &sentence {
            *refused.entry(class(sentence)).or_default() += 1;
        }
        if packets.is_empty() && sentence.is_some() {
            continue;
        }
        captures += 1;
        frames += packets.len();
        for entry in Entry::ALL {
            run(name, entry, &packets, &mut sum);
        }
    }
    println!("{files} files: {captures} captures with {frames} frames, {texts} texts that are no captures");
    for (sentence, count) in &refused {
        println!("  refused or cut: {count} x \"{sentence}\"");
    }
    for (entry, counts) in &sum.verdicts {
        let packets: usize = counts.values().sum();
        println!("by {entry:?}: {packets} packets: {counts:?}");
    }
    println!("{} frames left, {} flow records opened", sum.left, sum.opened);
    assert!(captures > 300 && frames > 70_000);
    // No capture has GRE with a key that a packet for a VNet could have; the keyed entries are for that.
    for (entry, counts) in sum.verdicts.iter().filter(|(e, _)| !matches!(e, Entry::Fabric | Entry::Edge)) {
        assert!(counts.get("forward").is_some_and(|n| *n > 0), "{entry:?}: nothing was forwarded");
    }
}
