//! Tables and messages of real routers, as MRT files (RFC 6396) keep them, go through our reader of UPDATEs: each route of a
//! table is put into a message, and its prefix, path, next hop and communities must come out of it.

mod real_data;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use clearway::bgp::message::{self, Kind};
use clearway::bgp::update::{self, Reading};
use clearway::bgp::{Family, notification::Notification};
use clearway::types::Prefix;

#[derive(Debug, Default)]
struct Seen {
    routes: usize,
    with_communities: usize,
    /// Their faults, by what our reader says of them.
    faults: Vec<String>,
    messages: usize,
    prefixes: usize,
    /// The speakers have agreed on ADD-PATH (RFC 7911), which we never do: prefixes have numbers before them.
    add_path: bool,
    ended: Vec<Notification>,
}

/// The first octets of what is left, and what is left behind them.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8], octets: usize) -> Option<usize> {
    Some(take(bytes, octets)?.iter().fold(0, |number, octet| number << 8 | usize::from(*octet)))
}

fn address(octets: &[u8]) -> IpAddr {
    match octets.try_into() {
        Ok(four) => IpAddr::V4(Ipv4Addr::from_octets(four)),
        Err(_) => {
            let mut all = [0; 16];
            all[..octets.len().min(16)].copy_from_slice(&octets[..octets.len().min(16)]);
            IpAddr::V6(Ipv6Addr::from_octets(all))
        }
    }
}

/// What a route's attributes say, read without our reader.
#[derive(Default)]
struct Said {
    path: Vec<u32>,
    next_hop: Option<IpAddr>,
    communities: Vec<u32>,
    /// The same attributes, as a message has them.
    sent: Vec<u8>,
}

/// The attributes of a route of a table. MP_REACH_NLRI has only its next hop there (RFC 6396 section 4.3.4).
fn said(mut attributes: &[u8], family: Family, prefix: &[u8]) -> Option<Said> {
    let words =
        |bytes: &[u8]| bytes.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
    let mut said = Said::default();
    while !attributes.is_empty() {
        let all = attributes;
        let flags = number(&mut attributes, 1)?;
        let kind = number(&mut attributes, 1)?;
        let length = number(&mut attributes, if flags & 0x10 == 0 { 1 } else { 2 })?;
        let mut value = take(&mut attributes, length)?;
        match kind {
            2 => {
                let mut segments = value;
                while !segments.is_empty() {
                    let _kind = number(&mut segments, 1)?;
                    let count = number(&mut segments, 1)?;
                    let numbers: Vec<u32> = words(take(&mut segments, 4 * count)?);
                    said.path.extend(numbers);
                }
            }
            3 if family == Family::V4 => said.next_hop = Some(address(value)),
            8 => said.communities = words(value),
            14 if value.first() != Some(&0) => {
                let length = number(&mut value, 1)?;
                let hop = take(&mut value, length)?;
                said.next_hop = Some(address(&hop[..16]));
                let mut whole = vec![0, 2, 1, length as u8];
                whole.extend_from_slice(hop);
                whole.push(0);
                whole.extend_from_slice(prefix);
                said.sent.extend([0x90, 14]);
                said.sent.extend((whole.len() as u16).to_be_bytes());
                said.sent.extend(whole);
                continue;
            }
            // Some have the whole attribute even so.
            14 => said.next_hop = value.get(4..20).map(address),
            _ => {}
        }
        said.sent.extend_from_slice(&all[..all.len() - attributes.len()]);
    }
    Some(said)
}

/// One prefix of a table and what its peers say of it (RFC 6396 section 4.3.2).
fn table(mut body: &[u8], family: Family, seen: &mut Seen) -> Option<()> {
    take(&mut body, 4)?;
    let whole = body;
    let length = number(&mut body, 1)?;
    let octets = take(&mut body, length.div_ceil(8))?;
    let prefix = &whole[..1 + octets.len()];
    let mut all = [0; 16];
    all[..octets.len()].copy_from_slice(octets);
    let expected = match family {
        Family::V4 => Prefix::new(address(&all[..4]), length as u8),
        Family::V6 => Prefix::new(address(&all), length as u8),
    };
    for _ in 0..number(&mut body, 2)? {
        take(&mut body, 6)?;
        let length = number(&mut body, 2)?;
        let said = said(take(&mut body, length)?, family, prefix)?;
        let mut message = vec![0, 0];
        message.extend((said.sent.len() as u16).to_be_bytes());
        message.extend(&said.sent);
        if family == Family::V4 {
            message.extend_from_slice(prefix);
        }
        let update =
            update::decode(&message, Reading { family, four_octet: true }).expect("a route of a real table");
        if let Some(fault) = update.fault {
            seen.faults.push(fault.to_string());
        }
        if !update.fault.is_some_and(|fault| fault.withdraws) {
            assert_eq!(update.announced, [expected], "{message:02x?}");
            assert_eq!(update.attributes.path.numbers().collect::<Vec<_>>(), said.path, "{expected}");
            assert_eq!(update.attributes.next_hop, said.next_hop, "{expected}");
            assert_eq!(update.attributes.communities, said.communities, "{expected}");
        }
        seen.routes += 1;
        seen.with_communities += usize::from(!said.communities.is_empty());
    }
    Some(())
}

/// A message that went over a session (RFC 6396 section 4.4).
fn message(mut body: &[u8], four_octet: bool, seen: &mut Seen) -> Option<()> {
    take(&mut body, if four_octet { 8 } else { 4 })?;
    take(&mut body, 2)?;
    let octets = if number(&mut body, 2)? == 1 { 4 } else { 16 };
    take(&mut body, 2 * octets)?;
    let (kind, text) = match message::first(body) {
        Ok(message) => message?,
        Err(fault) => {
            seen.ended.push(fault);
            return Some(());
        }
    };
    seen.messages += 1;
    if kind == Kind::Open {
        // The capability for unicast IPv4, both ways.
        seen.add_path |= text.windows(8).any(|eight| eight[..2] == [69, 8] && eight[2..6] == [0, 1, 1, 3])
            || text.windows(6).any(|six| six == [69, 4, 0, 1, 1, 3]);
    }
    if kind == Kind::Update {
        for family in [Family::V4, Family::V6] {
            match update::decode(text, Reading { family, four_octet }) {
                Ok(update) => {
                    seen.prefixes += update.announced.len() + update.withdrawn.len();
                    seen.faults.extend(update.fault.map(|fault| fault.to_string()));
                }
                Err(fault) => seen.ended.push(fault),
            }
        }
    }
    Some(())
}

/// All records of a file; the last may be cut.
fn records(mut file: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut record = || {
        take(&mut file, 4)?;
        let kind = (number(&mut file, 2)?, number(&mut file, 2)?);
        let length = number(&mut file, 4)?;
        Some((kind, take(&mut file, length)?))
    };
    while let Some((kind, body)) = record() {
        match kind {
            (13, 2) => table(body, Family::V4, &mut seen).expect("a prefix with its routes"),
            (13, 4) => table(body, Family::V6, &mut seen).expect("a prefix with its routes"),
            (16, 1) => message(body, false, &mut seen).expect("a message"),
            (16, 4) => message(body, true, &mut seen).expect("a message"),
            _ => {}
        }
    }
    seen
}

/// A file's octets; of what is packed by bzip2, as much as there is of it. `None` without bunzip2.
fn unpacked(path: &Path) -> Option<Vec<u8>> {
    if path.extension().is_none_or(|e| e != "bz2") {
        return std::fs::read(path).ok();
    }
    Some(Command::new("bunzip2").arg("-c").arg(path).output().ok()?.stdout)
}

#[test]
fn what_routers_have_kept_is_read() {
    let Some(folder) = real_data::folder("routes") else { return };
    let (mut routes, mut messages) = (0, 0);
    for path in real_data::files_below(&folder) {
        let name = real_data::name(&path);
        if !name.ends_with(".mrt") && !name.ends_with(".bz2") {
            continue;
        }
        let Some(file) = unpacked(&path) else {
            println!("skipped: {name}: there is no bunzip2");
            continue;
        };
        let seen = records(&file);
        let (faults, ended) = (seen.faults.len(), seen.ended.len());
        println!(
            "{name}: {} routes, {} of them with communities; {} messages, {} prefixes; {faults} faults, {ended} end a session",
            seen.routes, seen.with_communities, seen.messages, seen.prefixes
        );
        for fault in seen.faults.iter().take(3) {
            println!("    {fault}");
        }
        routes += seen.routes;
        messages += seen.messages;
        assert!(
            faults * 100 <= seen.routes + seen.messages,
            "{name}: {faults} faults: {:?}",
            seen.faults.first()
        );
        assert!(seen.ended.is_empty() || seen.add_path, "{name}: {:?}", seen.ended);
    }
    assert!(routes >= 6 && messages >= 80, "{routes} routes, {messages} messages");
}
