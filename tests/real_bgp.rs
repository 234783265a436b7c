//! Captures of BGP and BFD from others' test suites go through our readers: nothing of them, however wrong, does more than
//! be refused, and what tcpdump counts we count.

mod real_data;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clearway::bfd::Packet;
use clearway::bgp::message::{self, Kind, Open};
use clearway::bgp::update::{self, Reading};
use clearway::bgp::{Family, notification::Notification};
use clearway::io::Capture;

/// What the payloads of TCP to or from port 179, and of UDP to the ports of BFD, were.
#[derive(Default)]
struct Seen {
    messages: BTreeMap<&'static str, usize>,
    faults: usize,
    bfd: usize,
    bfd_refused: usize,
}

/// The protocol, the ports and the payload of a frame with IPv4 or IPv6 in it.
fn payload(frame: &[u8]) -> Option<(u8, u16, u16, &[u8])> {
    let word = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut at = 12;
    while word(frame, at)? == 0x8100 {
        at += 4;
    }
    let packet = match word(frame, at)? {
        0x0800 | 0x86dd => frame.get(at + 2..)?,
        _ => return None,
    };
    let (protocol, inner) = match packet.first()? >> 4 {
        4 => {
            let total = usize::from(word(packet, 2)?).min(packet.len());
            (*packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..total)?)
        }
        6 => (*packet.get(6)?, packet.get(40..)?),
        _ => return None,
    };
    let header = match protocol {
        6 => usize::from(inner.get(12)? >> 4) * 4,
        17 => 8,
        _ => return None,
    };
    Some((protocol, word(inner, 0)?, word(inner, 2)?, inner.get(header..)?))
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Open => "Open Message (1)",
        Kind::Update => "Update Message (2)",
        Kind::Notification => "Notification Message (3)",
        Kind::Keepalive => "Keepalive Message (4)",
        Kind::RouteRefresh => "Route Refresh Message (5)",
    }
}

/// Reads the messages of one segment, as tcpdump does.
fn read(mut bytes: &[u8], seen: &mut Seen) {
    loop {
        let (kind, body) = match message::first(bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => {
                seen.faults += 1;
                return;
            }
        };
        *seen.messages.entry(name(kind)).or_default() += 1;
        let fault = match kind {
            Kind::Open => Open::decode(body).is_err(),
            Kind::Update => {
                let mut readings = [Family::V4, Family::V6].into_iter().flat_map(|family| {
                    [false, true].map(|four_octet| update::decode(body, Reading { family, four_octet }))
                });
                readings.all(|reading| reading.is_err())
            }
            Kind::Notification => Notification::decode(body).is_none(),
            Kind::RouteRefresh => message::refreshed(body).is_none(),
            Kind::Keepalive => false,
        };
        seen.faults += usize::from(fault);
        bytes = &bytes[19 + body.len()..];
    }
}

fn seen_in(path: &Path) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut capture = Capture::open(path.to_str().expect("a name in UTF-8")).ok()?;
    // Some are not of Ethernet.
    while let Some(packet) = capture.next().ok()? {
        match payload(packet.captured) {
            Some((6, from, to, payload)) if from == 179 || to == 179 => read(payload, &mut seen),
            Some((17, _, 3784 | 4784 | 6784, payload)) => match Packet::parse(payload) {
                Ok(_) => seen.bfd += 1,
                Err(_) => seen.bfd_refused += 1,
            },
            _ => {}
        }
    }
    Some(seen)
}

#[test]
fn captures_of_bgp_and_bfd_are_read_as_tcpdump_reads_them() {
    let Some(folder) = real_data::folder("pcap/bgp-bfd") else { return };
    let (mut files, mut compared) = (0, 0);
    let mut all = Seen::default();
    for path in real_data::files_below(&folder) {
        let Some(extension) = path.extension().and_then(|e| e.to_str()) else { continue };
        if !matches!(extension, "pcap" | "pcapng") {
            continue;
        }
        let Some(seen) = seen_in(&path) else { continue };
        files += 1;
        let said = fs::read_to_string(path.with_extension("out")).unwrap_or_default();
        // What tcpdump itself gives up on has no count to compare with.
        let whole =
            !said.is_empty() && !["[|", "invalid", "(malformed"].iter().any(|word| said.contains(word));
        if whole {
            for kind in [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::RouteRefresh] {
                let count = seen.messages.get(name(kind)).copied().unwrap_or(0);
                let expected = said.matches(name(kind)).count();
                assert_eq!(count, expected, "{} in {}", name(kind), path.display());
            }
            assert_eq!(seen.bfd + seen.bfd_refused, said.matches("BFDv1, ").count(), "{}", path.display());
            compared += 1;
        }
        println!(
            "{}: {:?}, {} faults, BFD {} and {} refused{}",
            real_data::name(&path),
            seen.messages,
            seen.faults,
            seen.bfd,
            seen.bfd_refused,
            if whole { "" } else { ", not compared" }
        );
        seen.messages.iter().for_each(|(kind, count)| *all.messages.entry(kind).or_default() += count);
        all.faults += seen.faults;
        all.bfd += seen.bfd;
    }
    assert!(files >= 20 && compared >= 5 && all.messages.len() == 4 && all.bfd > 0, "{files}, {compared}");
}
