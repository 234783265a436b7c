//! The files of a story's folder: what is read, and what must come out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use clearway::packet::{Generated, Reason, Verdict};

use crate::carried::meters;
use crate::judge::{leaving, told};
use crate::story::{Arrival, Format, SECOND, Story};

/// The longest packet that a capture may hold, as its header says.
const SNAPLEN: u32 = 262_144;

/// Paths in the folder and what stands there.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Digits of the times in the capture of a port.
pub fn digits_of(story: &Story, port: &str) -> u8 {
    match format_of(story, port) {
        Format::Pcap | Format::BigEndian => 6,
        Format::Nanoseconds | Format::Pcapng => 9,
    }
}

fn format_of(story: &Story, port: &str) -> Format {
    story.formats.iter().find(|(p, _)| *p == port).map_or(Format::Pcap, |(_, format)| *format)
}

/// The folder of a story.
pub fn files(story: &Story) -> Files {
    let mut files = Files::new();
    files.insert("README.md".into(), format!("{}\n", story.sentence).into_bytes());
    for (path, text) in &story.files {
        files.insert((*path).into(), text.as_bytes().to_vec());
    }
    let mut arguments = vec![story.files[0].0.to_owned()];
    for port in ports(story) {
        let arrivals: Vec<_> = story.arrivals.iter().filter(|a| a.from.port == port).collect();
        if arrivals.is_empty() {
            continue;
        }
        let format = format_of(story, &port);
        let file =
            if format == Format::Pcapng { format!("{port}.in.pcapng") } else { format!("{port}.in.pcap") };
        arguments.push(format!("--in {port}={file}"));
        files.insert(file, capture_in(&port, format, &arrivals));
    }
    for (after, file, _) in &story.swaps {
        arguments.push(format!("--swap {}={file}", after / SECOND));
    }
    files.insert("replay.args".into(), (arguments.join("\n") + "\n").into_bytes());
    files.insert("expected/verdicts.jsonl".into(), verdicts(story).into_bytes());
    files.insert("expected/summary.json".into(), summary(story).into_bytes());
    files.insert("expected/meters.json".into(), meters(story).into_bytes());
    files.extend(captures_out(story));
    files
}

/// The ports of all configurations, in the order of the first that names them.
fn ports(story: &Story) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let models = std::iter::once(&story.model).chain(story.swaps.iter().map(|(_, _, model)| model));
    for port in models.flat_map(|m| &m.ports) {
        if !names.contains(&port.name) {
            names.push(port.name.clone());
        }
    }
    names
}

fn verdicts(story: &Story) -> String {
    let mut lines = String::new();
    for (number, arrival) in story.arrivals.iter().enumerate() {
        let mut fields = vec![
            format!("\"packet\": {}", number + 1),
            format!("\"time\": \"{}\"", time(arrival.time, digits_of(story, arrival.from.port))),
            format!("\"port\": \"{}\"", arrival.from.port),
        ];
        fields.extend(told(arrival).fields.into_iter().map(|(name, value)| match value {
            None => format!("\"{name}\": null"),
            Some(number) if name == "egressKey" => format!("\"{name}\": {number}"),
            Some(text) => format!("\"{name}\": \"{text}\""),
        }));
        lines.push_str(&format!("{{{}}}\n", fields.join(", ")));
    }
    lines
}

fn time(nanoseconds: u64, digits: u8) -> String {
    let (seconds, fraction) = (nanoseconds / SECOND, nanoseconds % SECOND);
    if digits == 9 { format!("{seconds}.{fraction:09}") } else { format!("{seconds}.{:06}", fraction / 1000) }
}

fn summary(story: &Story) -> String {
    let count = |which: fn(&Verdict) -> bool| -> String {
        let mut counts = BTreeMap::new();
        for reason in story.arrivals.iter().filter_map(|a| a.fate.reason) {
            if which(&Verdict::of(reason)) {
                *counts.entry(reason).or_insert(0) += 1;
            }
        }
        object(counts.iter().map(|(reason, n): (&Reason, &u64)| (reason.name(), n.to_string())))
    };
    let forwarded = story.arrivals.iter().filter(|a| a.fate.reason.is_none()).count();
    let answers = |kind: Generated| {
        let sent = story.arrivals.iter().filter(|a| a.fate.answer.as_ref().is_some_and(|(k, _)| *k == kind));
        (kind.name(), sent.count().to_string())
    };
    let left: Vec<&str> = leaving(story).into_iter().flatten().map(|(port, _)| port).collect();
    let per_port: Vec<(String, String)> = ports(story)
        .into_iter()
        .map(|port| {
            let came = story.arrivals.iter().filter(|a| a.from.port == port).count();
            let went = left.iter().filter(|p| **p == port).count();
            (port, object([("in", came.to_string()), ("out", went.to_string())]))
        })
        .collect();
    let (opened, live) = story.flows;
    let whole = object([
        ("packets", story.arrivals.len().to_string()),
        ("forwarded", forwarded.to_string()),
        ("dropped", count(|v| matches!(v, Verdict::Drop(_)))),
        ("punted", count(|v| matches!(v, Verdict::Punt(_)))),
        ("generated", object(Generated::ALL.map(answers))),
        ("ports", object(per_port.iter().map(|(port, counts)| (port.as_str(), counts.clone())))),
        ("flows", object([("opened", opened.to_string()), ("live", live.to_string())])),
    ]);
    whole + "\n"
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", fields.join(", "))
}

/// Every output is classic pcap, in nanoseconds if any input is.
fn captures_out(story: &Story) -> Files {
    let nanoseconds = ports(story).iter().any(|port| {
        digits_of(story, port) == 9 && story.arrivals.iter().any(|a| a.from.port == port.as_str())
    });
    let format = if nanoseconds { Format::Nanoseconds } else { Format::Pcap };
    let left = leaving(story);
    let mut files = Files::new();
    for port in ports(story) {
        let mut bytes = pcap_header(format);
        let mut clock = 0;
        for (arrival, frames) in story.arrivals.iter().zip(&left) {
            // What goes back in time has its predecessor's on the clock.
            clock = arrival.time.max(clock);
            for (_, frame) in frames.iter().filter(|(p, _)| *p == port) {
                bytes.extend(pcap_record(format, clock, &frame.bytes, frame.original));
            }
        }
        files.insert(format!("expected/{port}.pcap"), bytes);
    }
    files
}

fn capture_in(port: &str, format: Format, arrivals: &[&Arrival]) -> Vec<u8> {
    let frames = arrivals.iter().map(|a| (a.time, &a.frame.bytes[..], a.frame.original));
    if format == Format::Pcapng {
        let header = pcapng_header(port);
        return frames.fold(header, |bytes, (time, frame, original)| {
            [bytes, pcapng_packet(time, frame, original)].concat()
        });
    }
    frames.fold(pcap_header(format), |bytes, (time, frame, original)| {
        [bytes, pcap_record(format, time, frame, original)].concat()
    })
}

fn number32(format: Format, number: u32) -> [u8; 4] {
    if format == Format::BigEndian { number.to_be_bytes() } else { number.to_le_bytes() }
}

fn number16(format: Format, number: u16) -> [u8; 2] {
    if format == Format::BigEndian { number.to_be_bytes() } else { number.to_le_bytes() }
}

fn pcap_header(format: Format) -> Vec<u8> {
    let magic = if format == Format::Nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut header = number32(format, magic).to_vec();
    header.extend(number16(format, 2));
    header.extend(number16(format, 4));
    header.extend([0; 8]);
    header.extend(number32(format, SNAPLEN));
    header.extend(number32(format, 1));
    header
}

fn pcap_record(format: Format, time: u64, frame: &[u8], original: u32) -> Vec<u8> {
    let fraction = (time % SECOND) as u32;
    let fraction = if format == Format::Nanoseconds { fraction } else { fraction / 1000 };
    let numbers = [(time / SECOND) as u32, fraction, frame.len() as u32, original];
    let mut record: Vec<u8> = numbers.iter().flat_map(|n| number32(format, *n)).collect();
    record.extend(frame);
    record
}

/// Section header and one interface, Ethernet with nanoseconds, named like the port.
fn pcapng_header(port: &str) -> Vec<u8> {
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut interface = vec![1, 0, 0, 0];
    interface.extend(SNAPLEN.to_le_bytes());
    interface.extend([2, 0]);
    interface.extend((port.len() as u16).to_le_bytes());
    interface.extend(port.as_bytes());
    interface.resize(interface.len().next_multiple_of(4), 0);
    interface.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    [pcapng_block(0x0a0d_0d0a, &section), pcapng_block(1, &interface)].concat()
}

fn pcapng_packet(time: u64, frame: &[u8], original: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    body.extend((frame.len() as u32).to_le_bytes());
    body.extend(original.to_le_bytes());
    body.extend(frame);
    pcapng_block(6, &body)
}

fn pcapng_block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = (padded as u32 + 12).to_le_bytes();
    let mut block = [&kind.to_le_bytes()[..], &length, body].concat();
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

/// Writes a folder anew.
pub fn write(folder: &Path, files: &Files) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// In what a folder differs from what it should be, one sentence for each file.
pub fn differences(folder: &Path, files: &Files) -> io::Result<Vec<String>> {
    let mut there = Files::new();
    read_all(folder, "", &mut there)?;
    let mut faults = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        match there.get(name) {
            None => faults.push(format!("{} is missing", path.display())),
            Some(found) if found != bytes => {
                faults.push(format!("{} {}", path.display(), place(found, bytes)))
            }
            Some(_) => {}
        }
    }
    let known = |name: &&String| !files.contains_key(*name);
    faults.extend(there.keys().filter(known).map(|n| format!("{} is of no story", folder.join(n).display())));
    Ok(faults)
}

fn place(found: &[u8], right: &[u8]) -> String {
    let same = found.iter().zip(right).take_while(|(a, b)| a == b).count();
    let line = 1 + right.iter().take(same).filter(|b| **b == b'\n').count();
    format!("differs from byte {same} (line {line}, if it is text)")
}

fn read_all(folder: &Path, under: &str, into: &mut Files) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{under}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_all(&entry.path(), &format!("{name}/"), into)?;
        } else {
            into.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}
