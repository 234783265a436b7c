//! Conversations to begin with, and changes that leave frames enough like frames to get far.

use std::net::IpAddr;

use clearway::wire::build::{Transport, ip_packet};
use clearway::wire::{be16, checksum, ethernet, gre, ip, protocol};

use crate::mutate::{self, Random, Shape};
use crate::targets::frames::MODEL;

/// Frames of an input at most.
const MOST: usize = 12;

/// A place from which packets come: port, and the outer source, key and protocol of a tunnel.
type Entry = (&'static str, Option<(&'static str, u32, u16)>);

const WEB_HOST: Entry = ("fabric", Some(("198.51.100.11", 0xa01, gre::IPV4)));
const FW_HOST: Entry = ("fabric", Some(("198.51.100.12", 0xa01, gre::IPV4)));
const SPOKE_HOST: Entry = ("fabric", Some(("198.51.100.13", 0x0050_0142, gre::ETHERNET)));
const PRIMARY: Entry = ("edge-a", Some(("192.0.2.2", 0xc01, gre::IPV4)));
const SECONDARY: Entry = ("edge-b", Some(("2001:db8:e::2", 0xc02, gre::IPV4)));
const INTERNET_TUNNEL: Entry = ("internet", Some(("203.0.113.1", 0xa03, gre::IPV4)));
const VPN: Entry = ("internet", Some(("203.0.113.77", 0xd01, gre::IPV4)));
const OTHER_HOST: Entry = ("fabric6", Some(("2001:db8:f::11", 0xb01, gre::IPV4)));
const INTERNET: Entry = ("internet", None);
const SERVICES: Entry = ("services", None);

/// Who talks, and from where.
const PARTIES: [(&str, Entry); 22] = [
    ("10.1.0.4", WEB_HOST),
    ("10.1.0.200", WEB_HOST),
    ("10.1.2.5", WEB_HOST),
    ("10.1.9.4", FW_HOST),
    ("10.2.0.4", SPOKE_HOST),
    ("10.2.1.9", SPOKE_HOST),
    ("192.168.1.1", PRIMARY),
    ("192.168.1.2", SECONDARY),
    ("172.16.5.5", PRIMARY),
    ("192.168.9.9", VPN),
    ("8.8.1.1", INTERNET_TUNNEL),
    ("6.6.1.1", INTERNET_TUNNEL),
    ("9.9.0.1", INTERNET_TUNNEL),
    ("20.1.0.5", OTHER_HOST),
    ("8.8.8.8", INTERNET),
    ("168.63.129.16", SERVICES),
    ("fd00:1:0:1::5", WEB_HOST),
    ("fd00:1:0:2::5", WEB_HOST),
    ("fd00:2:0:1::5", SPOKE_HOST),
    ("fd00:99::5", SECONDARY),
    ("2001:db8:20:1::5", OTHER_HOST),
    ("2600::5", INTERNET),
];

/// Conversations between all parties of one family.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (from, out) in PARTIES {
        for (to, back) in PARTIES {
            let (a, b) = (addr(from), addr(to));
            if a.is_ipv4() == b.is_ipv4() && a != b {
                for talk in talks(a, b) {
                    let sent = talk
                        .into_iter()
                        .map(|(forth, gap, packet)| record(gap, if forth { out } else { back }, &packet));
                    inputs.push(sent.collect::<Vec<_>>().concat());
                }
            }
        }
    }
    inputs
}

/// Pieces that mean something: the addresses, with their ports' own.
pub fn words() -> Vec<Vec<u8>> {
    let own = MODEL.ports.iter().map(|p| p.address);
    let outer = PARTIES.iter().filter_map(|(_, entry)| Some(addr(entry.1?.0)));
    let all = PARTIES.iter().map(|(a, _)| addr(a)).chain(own).chain(outer);
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let keys = PARTIES.iter().filter_map(|(_, entry)| Some(entry.1?.1.to_be_bytes().to_vec()));
    all.map(octets).chain(keys).collect()
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What two may say to each other: in which direction, after how long, and the packet.
fn talks(a: IpAddr, b: IpAddr) -> Vec<Vec<(bool, u8, Vec<u8>)>> {
    let packet = |forth: bool, transport, payload: &[u8]| {
        let (source, destination) = if forth { (a, b) } else { (b, a) };
        ip_packet(source, destination, transport, payload).expect("one family")
    };
    let tcp = |forth: bool, flags| {
        let (source, destination) = if forth { (40_000, 443) } else { (443, 40_000) };
        packet(forth, Transport::Tcp { source, destination, flags }, b"")
    };
    let udp = |forth: bool, payload: &[u8]| {
        let (source, destination) = if forth { (40_000, 53) } else { (53, 40_000) };
        packet(forth, Transport::Udp { source, destination }, payload)
    };
    let first = udp(true, &[7; 1100]);
    let code = if a.is_ipv4() { (protocol::ICMP, 3) } else { (protocol::ICMPV6, 1) };
    let quote = [&[code.1, 3, 0, 0, 0, 0, 0, 0][..], &udp(true, b"a query of twenty bytes")].concat();
    let ping = Transport::Echo { identifier: 9 };
    let mut talks = vec![
        vec![
            (true, 0, tcp(true, 2)),
            (false, 20, tcp(false, 18)),
            (true, 20, tcp(true, 17)),
            (false, 20, tcp(false, 17)),
        ],
        vec![(true, 0, tcp(true, 2)), (true, 34, tcp(true, 4)), (true, 10, tcp(true, 16))],
        vec![
            (true, 0, udp(true, b"a query of twenty bytes")),
            (false, 10, udp(false, b"answer")),
            (false, 20, packet(false, Transport::Other { protocol: code.0 }, &quote)),
            (false, 38, udp(false, b"late")),
        ],
        vec![
            (true, 0, packet(true, ping, b"")),
            (false, 9, packet(false, Transport::EchoReply { identifier: 9 }, b"")),
        ],
        vec![(true, 0, packet(true, Transport::Other { protocol: protocol::ESP }, &[5; 1200]))],
    ];
    talks.push(fragments(&first).into_iter().map(|piece| (true, 1, piece)).collect());
    talks
}

/// Two pieces of a packet.
fn fragments(packet: &[u8]) -> [Vec<u8>; 2] {
    const CUT: usize = 480;
    if packet[0] >> 4 == 4 {
        let piece = |data: &[u8], bits: u16| {
            let mut piece = [&packet[..20], data].concat();
            let length = piece.len() as u16;
            piece[2..4].copy_from_slice(&length.to_be_bytes());
            piece[6..8].copy_from_slice(&bits.to_be_bytes());
            ip::write_v4_checksum(&mut piece, 20);
            piece
        };
        return [piece(&packet[20..20 + CUT], 0x2000), piece(&packet[20 + CUT..], CUT as u16 / 8)];
    }
    let piece = |data: &[u8], bits: u16| {
        let fragment = [&[packet[6], 0][..], &bits.to_be_bytes(), &[0, 0, 0, 1], data].concat();
        let mut piece = [&packet[..40], &fragment].concat();
        piece[4..6].copy_from_slice(&(fragment.len() as u16).to_be_bytes());
        piece[6] = protocol::FRAGMENT;
        piece
    };
    [piece(&packet[40..40 + CUT], 1), piece(&packet[40 + CUT..], CUT as u16)]
}

/// A frame of an input, with the packet in its tunnel.
fn record(gap: u8, (port, tunnel): Entry, packet: &[u8]) -> Vec<u8> {
    let index = MODEL.ports.iter().position(|p| p.name == port).expect("a port");
    let ether_type = |packet: &[u8]| if packet[0] >> 4 == 4 { gre::IPV4 } else { gre::IPV6 };
    let frame = |packet: &[u8]| [&[2; 12][..], &ether_type(packet).to_be_bytes(), packet].concat();
    let bytes = match tunnel {
        None => frame(packet),
        Some((from, key, kind)) => {
            let mut carried = Vec::new();
            let ethernet = kind == gre::ETHERNET;
            gre::emit(&mut carried, if ethernet { kind } else { ether_type(packet) }, key, false);
            carried.extend(if ethernet { frame(packet) } else { packet.to_vec() });
            let transport = Transport::Other { protocol: protocol::GRE };
            let to = MODEL.ports[index].address;
            frame(&ip_packet(addr(from), to, transport, &carried).expect("one family"))
        }
    };
    encode(&[(index as u8, gap, bytes)])
}

type Record = (u8, u8, Vec<u8>);

fn encode(records: &[Record]) -> Vec<u8> {
    let one = |(port, gap, bytes): &Record| {
        [&[*port, *gap][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
    };
    records.iter().map(one).collect::<Vec<_>>().concat()
}

fn decode(mut input: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((&[port, gap, high, low], rest)) = input.split_first_chunk::<4>() {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes([high, low]))));
        records.push((port, gap, bytes.to_vec()));
        input = rest;
    }
    records
}

/// Changes one frame or the order of frames, and mostly makes lengths and checksums right again.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[Vec<u8>], longest: usize, r: &mut Random) {
    let mut records = decode(input);
    let others = decode(other);
    if records.is_empty() {
        records.clone_from(&others);
    }
    for _ in 0..1 + r.below(3) {
        let (at, to) = (r.below(records.len()), r.below(records.len()));
        let from = others.get(r.below(others.len()));
        match (r.below(14), from) {
            (0, _) if records.len() > 1 => drop(records.remove(at)),
            (1, _) if !records.is_empty() => records.insert(to, records[at].clone()),
            (2, _) if !records.is_empty() => records.swap(at, to),
            (3, Some(from)) => records.insert(to, from.clone()),
            (4, Some(_)) => records.extend(others.iter().skip(r.below(others.len())).cloned()),
            (5, _) => records.truncate(at + 1),
            (6, _) => {
                if let Some(record) = records.get_mut(at) {
                    record.1 = r.next() as u8;
                }
            }
            (8 | 9, _) => {
                if let Some((_, _, bytes)) = records.get_mut(at) {
                    field(bytes, r);
                    repair_frame(bytes, true);
                }
            }
            (7, _) => {
                if let Some(record) = records.get_mut(at) {
                    record.0 = r.below(MODEL.ports.len()) as u8;
                }
            }
            _ => {
                if let Some((_, _, bytes)) = records.get_mut(at) {
                    let piece = from.map_or(&[][..], |f| &f.2);
                    mutate::mutate(bytes, piece, words, Shape::Binary, 2000, r);
                    if r.below(8) > 0 {
                        repair_frame(bytes, r.below(4) > 0);
                    }
                }
            }
        }
    }
    records.truncate(MOST);
    *input = encode(&records);
    if r.below(64) == 0 {
        input.truncate(r.below(input.len()));
    }
    input.truncate(longest);
}

/// Sets one field of a header, mostly the inner one, to a value that something depends on.
fn field(frame: &mut [u8], r: &mut Random) {
    let headers = headers(frame);
    let Some(&at) = headers.get(r.below(headers.len()).max(r.below(headers.len()))) else { return };
    let packet = &mut frame[at..];
    let ipv4 = packet[0] >> 4 == 4;
    let transport = if ipv4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let mut set = |place: usize, value: u8| {
        if let Some(byte) = packet.get_mut(place) {
            *byte = value;
        }
    };
    let random = r.next() as u8;
    match r.below(7) {
        0 => set(if ipv4 { 8 } else { 7 }, r.pick(&[0, 1, 2, 64, 255])),
        1 => set(1, random),
        2 if ipv4 => set(6, r.pick(&[0, 0x20, 0x40, 0x60, 0x80, random])),
        3 if ipv4 => set(7, r.pick(&[0, 1, 2, 60, random])),
        4 => set(if ipv4 { 9 } else { 6 }, r.pick(&[0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, random])),
        5 => set(transport + 13, r.pick(&[1, 2, 4, 16, 17, 18, 20, 0xc2, random])),
        _ => set(transport + r.below(8), r.pick(&[0, 3, 5, 8, 11, 53, 68, 128, 135, random])),
    }
}

/// Where IP headers begin, the inner ones last.
fn headers(frame: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut at, mut ether_type) = (0, gre::ETHERNET);
    loop {
        let rest = frame.get(at..).unwrap_or_default();
        if ether_type == gre::ETHERNET {
            let Some(link) = ethernet::parse(rest) else { break };
            (at, ether_type) = (at + link.payload, link.ether_type);
            continue;
        }
        let (header, next) = match (ether_type, rest) {
            (gre::IPV4, [first, ..]) if rest.len() >= 20 => (usize::from(first & 15) * 4, rest[9]),
            (gre::IPV6, _) if rest.len() >= 40 => (40, rest[6]),
            _ => break,
        };
        found.push(at);
        let (Some(carried), protocol::GRE) = (rest.get(header..), next) else { break };
        at += header + gre_header(carried);
        ether_type = be16(carried, 2);
    }
    found
}

fn gre_header(packet: &[u8]) -> usize {
    4 + 4 * (be16(packet, 0) & 0xb000).count_ones() as usize
}

fn repair_frame(frame: &mut [u8], lengths: bool) {
    if let Some(link) = ethernet::parse(frame) {
        repair_packet(&mut frame[link.payload..], link.ether_type, lengths);
    }
}

/// Inner first: the checksum of GRE is over what it carries.
fn repair_packet(packet: &mut [u8], ether_type: u16, lengths: bool) {
    let available = packet.len();
    let (header, next) = match (ether_type, packet.first()) {
        (gre::IPV4, Some(first)) if available >= 20 => (usize::from(first & 15) * 4, packet[9]),
        (gre::IPV6, Some(_)) if available >= 40 => (40, packet[6]),
        _ => return,
    };
    if let Some(payload) = packet.get_mut(header..)
        && next == protocol::GRE
    {
        repair_gre(payload, lengths);
    }
    let place = if ether_type == gre::IPV4 { 2 } else { 4 };
    let counted = if ether_type == gre::IPV4 { 0 } else { 40 };
    if lengths && usize::from(be16(packet, place)) + counted > available {
        packet[place..place + 2].copy_from_slice(&((available - counted) as u16).to_be_bytes());
    }
    if ether_type == gre::IPV4 {
        ip::write_v4_checksum(packet, header.max(20));
    }
}

fn repair_gre(packet: &mut [u8], lengths: bool) {
    let flags = be16(packet, 0);
    let header = gre_header(packet);
    let kind = be16(packet, 2);
    if let Some(carried) = packet.get_mut(header..) {
        if kind == gre::ETHERNET {
            repair_frame(carried, lengths)
        } else {
            repair_packet(carried, kind, lengths)
        }
    }
    if flags & 0x8000 != 0 && packet.len() >= 8 {
        packet[4..6].fill(0);
        let sum = checksum::of(packet);
        packet[4..6].copy_from_slice(&sum.to_be_bytes());
    }
}
