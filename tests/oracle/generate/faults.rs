//! What can be unusual or wrong with a packet, from the inside out. Most packets are left as they are.

use std::net::IpAddr;

use clearway::model::Model;

use super::Rng;
use super::conversation::{Entry, Party};
use super::frames::{Carrier, Ip, udp};
use crate::oracle::bytes::fix_ipv4;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Unusual but right: DSCP, ECN, TTL, DF, options and extension headers.
pub fn vary(rng: &mut Rng, ip: &mut Ip) {
    if rng.percent(30) {
        ip.class = rng.next() as u8;
    }
    if rng.percent(8) {
        // What Microsoft peering keeps.
        ip.class = *rng.pick(&[46, 34, 18, 10]) << 2 | rng.below(4) as u8;
    }
    if rng.percent(50) {
        ip.ttl = *rng.pick(&[255, 128, 32, 3]);
    }
    if rng.percent(5) {
        ip.ttl = rng.below(3) as u8;
    }
    ip.dont_fragment = rng.percent(45);
    ip.identification = rng.below(5) as u32;
    if ip.is_v4() && rng.percent(6) {
        let options: [&[u8]; 8] = [
            &[7, 7, 4, 0, 0, 0, 0],
            &[0x94, 4, 0, 0],
            &[1, 0x94, 4, 0, 0, 7, 3, 4],
            &[0x83, 7, 4, 1, 2, 3, 4, 1, 7, 3, 4],
            &[1, 1, 1, 0],
            &[0x94, 4, 0, 0],
            &[0x88, 4, 1, 2, 0x83, 40, 4, 4],
            &[0x44, 8, 5, 0, 1, 2, 3, 4],
        ];
        ip.options = rng.pick(&options).to_vec();
    }
    if !ip.is_v4() && rng.percent(8) {
        for _ in 0..rng.range(1, 3) {
            let number = *rng.pick(&[0, 60, 43, 60]);
            let length = *rng.pick(&[6, 6, 14, 30]);
            ip.extensions.push((number, vec![0; length]));
        }
        if rng.percent(15) {
            // An atomic fragment is no fragment.
            ip.fragment = Some((0, false));
        }
    }
}

/// Wrong or forbidden in the fields of the inner packet.
pub fn break_inner(rng: &mut Rng, model: &Model, party: &Party, packet: &mut Ip) {
    if !rng.percent(4) {
        return;
    }
    let v4 = packet.is_v4();
    let later = packet.fragment.is_some_and(|(offset, _)| offset != 0);
    match rng.below(16) {
        0 if v4 => {
            packet.destination = ip(rng.text(&["224.0.0.5", "255.255.255.255", "239.1.1.1", "240.0.0.1"]))
        }
        0 => packet.destination = ip(rng.text(&["ff02::1", "ff05::2", "::1", "::"])),
        1 if v4 => packet.source = ip(rng.text(&["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1"])),
        1 => packet.source = ip(rng.text(&["::1", "::", "ff02::5"])),
        2 if v4 => packet.destination = ip(rng.text(&["127.9.9.9", "0.0.0.0"])),
        3 => packet.protocol = *rng.pick(&[4, 41, 47]),
        4 if !later => {
            packet.protocol = 17;
            packet.payload = udp(*rng.pick(&[(68, 67), (65_330, 53), (67, 68)]), &[0; 20]);
        }
        5 | 6 => {
            // The last address of some subnet.
            let all = model.customers.iter().flat_map(|c| &c.vnets).flat_map(|v| &v.subnets);
            let last: Vec<IpAddr> =
                all.flat_map(|s| &s.prefixes).map(|p| p.last()).filter(|a| a.is_ipv4() == v4).collect();
            if let Some(address) = rng.pick_some(&last) {
                if rng.percent(60) {
                    packet.destination = *address;
                } else {
                    packet.source = *address;
                }
            }
        }
        7 => {
            // To the tunnel end it comes from.
            let ends: Vec<IpAddr> = match party.entry {
                Entry::Fabric { customer, .. } => {
                    model.customers[customer].hosts.iter().map(|h| h.address).collect()
                }
                Entry::Tunnel { customer, tunnel } => {
                    model.customers[customer].tunnels[tunnel].remote.into_iter().collect()
                }
                Entry::Plain { .. } => Vec::new(),
            };
            let ends: Vec<IpAddr> = ends.into_iter().filter(|a| a.is_ipv4() == v4).collect();
            if let Some(end) = rng.pick_some(&ends) {
                packet.destination = *end;
            }
        }
        8 if !packet.payload.is_empty() => {
            let keep = rng.below(packet.payload.len().min(20));
            packet.payload.truncate(keep);
        }
        9 => {
            packet.protocol = 6;
            let keep = rng.below(packet.payload.len().min(16) + 1);
            packet.payload.truncate(keep);
            packet.fragment = Some((rng.below(2) as u16, true));
        }
        10 => packet.fragment = Some((*rng.pick(&[8191, 8185, 1, 100]), rng.percent(50))),
        11 if v4 => packet.destination = ip(rng.text(&["168.63.129.16", "169.254.169.254"])),
        12 if v4 => {
            packet.source = ip(rng.text(&["168.63.129.16", "169.254.169.254", "10.77.0.1", "100.65.1.1"]))
        }
        13 if v4 => packet.destination = ip(rng.text(&["10.250.1.1", "172.31.9.9", "100.64.9.9", "9.9.9.9"])),
        14 => std::mem::swap(&mut packet.source, &mut packet.destination),
        15 => packet.class = packet.class & 0xfc | rng.below(4) as u8,
        _ => packet.ttl = rng.below(3) as u8,
    }
}

/// Wrong in the bytes of the inner packet: versions, lengths, checksums.
pub fn break_inner_bytes(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if !rng.percent(3) || bytes.len() < 20 {
        return;
    }
    let v4 = bytes[0] >> 4 == 4;
    let header = if v4 { usize::from(bytes[0] & 15) * 4 } else { 40 };
    match rng.below(9) {
        0 => bytes[0] = bytes[0] & 15 | (rng.below(16) as u8) << 4,
        1 if v4 => bytes[0] = 0x40 | rng.below(16) as u8,
        2 => {
            let at = if v4 { 10 } else { 6 };
            bytes[at] ^= 1 << rng.below(8);
        }
        3 => {
            let at = if v4 { 3 } else { 5 };
            bytes[at] = bytes[at].wrapping_add(*rng.pick(&[1, 255, 8, 100]));
            if v4 && bytes.len() >= header {
                fix_ipv4(&mut bytes[..header]);
            }
        }
        4 => {
            let keep = rng.below(bytes.len());
            bytes.truncate(keep);
        }
        5 if !v4 && bytes.len() > 42 => bytes[41] = rng.next() as u8,
        6 if !v4 => bytes[6] = *rng.pick(&[0, 43, 44, 60, 59, 50, 17, 58]),
        7 if v4 && bytes.len() >= header => {
            bytes[9] = rng.next() as u8;
            fix_ipv4(&mut bytes[..header]);
        }
        _ => {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
    }
}

/// Wrong in the delivery header or the GRE header.
pub fn break_carrier(rng: &mut Rng, model: &Model, port: usize, carrier: &mut Carrier) {
    if rng.percent(4) && carrier.source.is_ipv4() {
        carrier.options = vec![1, 1, 1, 1];
    }
    if rng.percent(4) {
        carrier.bits |= rng.next() as u16 & 0x03f8;
    }
    if !rng.percent(6) {
        return;
    }
    let other_tunnel = || {
        let all = model.customers.iter().flat_map(|c| &c.tunnels).filter(|t| t.port == port);
        all.map(|t| (t.key, t.remote)).collect::<Vec<_>>()
    };
    match rng.below(18) {
        0 => {
            carrier.destination =
                if carrier.source.is_ipv4() { ip("198.51.100.99") } else { ip("2001:db8::99") }
        }
        1 => carrier.fragment = *rng.pick(&[0x2000, 0x0001, 0x2001]),
        2 => carrier.ip_protocol = *rng.pick(&[6, 17, 50, 0, 60, 89]),
        3 => carrier.checksum = Some(rng.percent(30)),
        4 => carrier.bits |= *rng.pick(&[0x4000, 0x0800, 0x0400, 0x4c00]),
        5 => carrier.bits |= rng.range(1, 7) as u16,
        6 => carrier.protocol = *rng.pick(&[0x0800, 0x86dd, 0x6558, 0x880b, 0x0806, 0]),
        7 => carrier.key = None,
        8 => carrier.key = Some(rng.next() as u32),
        9 => carrier.key = carrier.key.map(|k| k ^ 1 << rng.below(32)),
        10 => {
            if let Some((key, _)) = rng.pick_some(&other_tunnel()) {
                carrier.key = Some(*key);
            }
        }
        11 => {
            let remotes: Vec<IpAddr> = other_tunnel().into_iter().filter_map(|(_, r)| r).collect();
            let hosts = model.customers.iter().flat_map(|c| &c.hosts).map(|h| h.address);
            let all: Vec<IpAddr> = remotes
                .into_iter()
                .chain(hosts)
                .filter(|a| a.is_ipv4() == carrier.source.is_ipv4())
                .collect();
            if let Some(source) = rng.pick_some(&all) {
                carrier.source = *source;
            }
        }
        12 => {
            carrier.source = if carrier.source.is_ipv4() { ip("198.51.100.77") } else { ip("2001:db8::77") }
        }
        13 => carrier.sequence = Some(rng.next() as u32),
        14 => {
            if let Some((_, _, ethertype)) = &mut carrier.inner_ethernet {
                *ethertype = *rng.pick(&[0x8100, 0x88a8, 0x0806, 0x86dd, 0x0800]);
            } else {
                carrier.key = carrier.key.map(|k| k | 0xff00_0000);
            }
        }
        15 => {
            if carrier.inner_ethernet.is_some() {
                carrier.key = Some(*rng.pick(&[0, 0xfff << 8, 0xffff_ff00, 0xffff_ff01]));
            }
        }
        16 => carrier.class = carrier.class & 0xfc | 3,
        _ => carrier.checksum = Some(false),
    }
}

/// Wrong in the bytes of the delivery packet.
pub fn break_outer_bytes(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if !rng.percent(3) || bytes.len() < 40 {
        return;
    }
    let v4 = bytes[0] >> 4 == 4;
    match rng.below(8) {
        0 => bytes[0] = bytes[0] & 15 | (rng.below(16) as u8) << 4,
        1 if v4 => bytes[0] = 0x40 | rng.below(16) as u8,
        2 => {
            let at = if v4 { 10 } else { 6 };
            bytes[at] ^= 1 << rng.below(8);
        }
        3 | 4 => {
            // Too long, or cut within the GRE header.
            let total = if v4 { 2 } else { 4 };
            let value = *rng.pick(&[20u16, 22, 23, 24, 27, 28, 30, 40, 0, 4, 9000, 3]);
            bytes[total..total + 2].copy_from_slice(&value.to_be_bytes());
            let header = usize::from(bytes[0] & 15) * 4;
            if v4 && header >= 20 && bytes.len() >= header {
                fix_ipv4(&mut bytes[..header]);
            }
        }
        5 => {
            let keep = rng.below(bytes.len().min(60));
            bytes.truncate(keep);
        }
        _ => {
            for _ in 0..rng.range(1, 3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.next() as u8;
            }
        }
    }
}

/// VLAN tags and the EtherType behind them.
pub fn tags(rng: &mut Rng, ethertype: u16) -> (Vec<(u16, u16)>, u16) {
    let count = match rng.below(100) {
        0..=7 => 1,
        8..=11 => 2,
        12 => 3,
        _ => 0,
    };
    let tags = (0..count).map(|_| (*rng.pick(&[0x8100, 0x88a8]), rng.next() as u16)).collect();
    let ethertype = if rng.below(150) == 0 {
        *rng.pick(&[0x0806, 0x88cc, 0x0060, 0x9100, 0x0800, 0x86dd])
    } else {
        ethertype
    };
    (tags, ethertype)
}

/// Wrong in the frame: cut short, or captured shorter than it was. Returns the original length.
pub fn break_frame(rng: &mut Rng, bytes: &mut Vec<u8>) -> u32 {
    let whole = bytes.len() as u32;
    match rng.below(250) {
        0 | 1 => {
            let keep = rng.below(bytes.len());
            bytes.truncate(keep);
            whole
        }
        2 | 3 => {
            let keep = rng.below(bytes.len().min(80));
            bytes.truncate(keep);
            keep as u32
        }
        4 => whole - 1,
        5 => whole + 1,
        6 => {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            whole
        }
        _ => whole,
    }
}
