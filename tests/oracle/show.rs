//! A packet and its records as lines for a person.

use std::fmt::Write;

use super::generate::traffic::{Packet, START};
use super::{Expected, parse};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        write!(text, "{b:02x}").expect("a string takes everything");
        text
    })
}

/// One line about a packet.
pub fn packet(packet: &Packet) -> String {
    let seconds = packet.time as i64 - START as i64;
    let mut line = format!("{:.9} s {} {} bytes", seconds as f64 / 1e9, packet.port, packet.bytes.len());
    if packet.original_len as usize != packet.bytes.len() {
        write!(line, " of {}", packet.original_len).expect("a string takes everything");
    }
    line + &decode(&packet.bytes)
}

/// The headers of a frame, as far as they can be read; GRE is looked into on every port.
fn decode(frame: &[u8]) -> String {
    let mut at = 12;
    while frame.len() >= at + 2
        && [0x8100, 0x88a8].contains(&(u16::from(frame[at]) << 8 | u16::from(frame[at + 1])))
    {
        at += 4;
    }
    let Some(kind) = frame.get(at..at + 2) else { return " (short)".to_string() };
    ip(u16::from(kind[0]) << 8 | u16::from(kind[1]), &frame[at + 2..])
}

fn ip(ethertype: u16, bytes: &[u8]) -> String {
    let Some(inner) = parse::inner(ethertype, bytes) else {
        return format!(" [{ethertype:#06x}, unreadable]");
    };
    let (source, destination) = (inner.source, inner.destination);
    let mut text = format!(
        " [{source} > {destination} proto {} ttl {} class {:#04x}",
        inner.protocol,
        inner.ttl(),
        inner.class()
    );
    if inner.dont_fragment() && inner.is_v4() {
        text += " DF";
    }
    if let Some(f) = inner.fragment {
        text += &format!(" fragment id {} offset {} more {}", f.identification, f.offset, f.more);
    }
    if inner.payload().len() >= 4
        && let Some((s, d)) = inner.ports()
    {
        text += &format!(" ports {s} > {d}");
    }
    if inner.protocol == parse::TCP && !inner.is_later_fragment() && inner.payload().len() >= 14 {
        text += &format!(" flags {:#04x}", inner.payload()[13]);
    }
    if let Some(t) = inner.icmp_type() {
        text += &format!(" icmp {t} id {}", inner.flow_ports().0);
        if let Some(quoted) = inner.payload().get(8..).and_then(|_| parse::quoted(&inner)) {
            text += &format!(" quotes {quoted:?}");
        }
    }
    text += &format!(" len {}]", inner.bytes.len());
    if inner.protocol == 47 && inner.fragment.is_none() && inner.payload().len() >= 4 {
        text += &gre(inner.payload());
    }
    text
}

fn gre(bytes: &[u8]) -> String {
    let word = |at: usize| u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1]);
    let (flags, protocol) = (word(0), word(2));
    let mut text = format!(" GRE flags {flags:#06x} protocol {protocol:#06x}");
    let mut at = if flags & 0x8000 != 0 { 8 } else { 4 };
    for (bit, name) in [(0x2000, "key"), (0x1000, "sequence")] {
        if flags & bit != 0 && bytes.len() >= at + 4 {
            text += &format!(" {name} {:#x}", u32::from(word(at)) << 16 | u32::from(word(at + 2)));
            at += 4;
        }
    }
    let Some(rest) = bytes.get(at..) else { return text };
    if protocol == 0x6558 {
        let Some(kind) = rest.get(12..14) else { return text };
        text += &format!(" from {}", hex(&rest[6..12]));
        return text + &ip(u16::from(kind[0]) << 8 | u16::from(kind[1]), &rest[14..]);
    }
    text + &ip(protocol, rest)
}

/// A record of one packet, frames in hex with their headers.
pub fn record(record: &Expected) -> String {
    let reason = record.verdict.reason().map_or("", |r| r.name());
    let mut text = format!(
        "{} {reason} customer {:?} vnet {:?} flow {} rule {:?} route {:?} {:?} egress {:?} {:?} {:x?} generated {:?}",
        record.verdict.name(),
        record.customer,
        record.vnet,
        record.flow.name(),
        record.rule,
        record.next_hop_type,
        record.route_prefix,
        record.egress_port,
        record.egress_remote,
        record.egress_key,
        record.generated,
    );
    for (port, frame) in &record.emitted {
        text += &format!("\n    out by {port}{}\n        {}", decode(frame), hex(frame));
    }
    text
}
