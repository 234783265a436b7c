//! Headers as our parsers read them, against the tables that tshark made of the same captures: every field that both
//! see must agree, and every packet that we refuse must be one that tshark, too, says something wrong of.

#[path = "real_data/mod.rs"]
mod real_data;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use clearway::io::Capture;
use clearway::packet::Reason;
use clearway::wire::{be16, checksum, ethernet, gre, icmp, ip, protocol};

/// The layers of Ethernet and its tags.
const LINK: [&str; 4] = ["eth", "ethertype", "vlan", "ieee8021ad"];

/// The protocols behind IP that tshark has a layer for.
const NUMBERS: [(&str, u8); 17] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
    ("mipv6", 135),
];

/// One line of a table: what tshark says of a frame.
struct Row<'a> {
    columns: &'a BTreeMap<&'a str, usize>,
    values: Vec<&'a str>,
    layers: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn text(&self, field: &str) -> &'a str {
        self.values.get(self.columns[field]).copied().unwrap_or_default()
    }

    /// The value that a field has in the layer of this number, counted from the outermost that has it.
    fn value(&self, field: &str, layer: usize) -> Option<&'a str> {
        self.text(field).split(',').nth(layer).filter(|v| !v.is_empty())
    }

    fn number(&self, field: &str, layer: usize) -> Option<u64> {
        let value = self.value(field, layer)?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => value.parse().ok(),
        }
    }

    fn address(&self, field: &str, layer: usize) -> Option<IpAddr> {
        self.value(field, layer)?.parse().ok()
    }

    fn malformed(&self) -> bool {
        !self.text("_ws.malformed").is_empty()
    }
}

/// What came of all rows.
#[derive(Default)]
struct Tally {
    rows: usize,
    agreed: BTreeMap<&'static str, usize>,
    /// Where our walk ended before tshark's, and why.
    ended: BTreeMap<String, Vec<String>>,
    /// What is different and has a reason that is said here.
    explained: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

/// A walk through one frame beside its row.
struct Walk<'t, 'a> {
    tally: &'t mut Tally,
    row: &'t Row<'a>,
    what: String,
    /// How many layers of each kind are behind us.
    v4: usize,
    v6: usize,
    gre: usize,
    tcp: usize,
    udp: usize,
    icmp: usize,
    icmpv6: usize,
}

impl Walk<'_, '_> {
    /// Notes whether a field is the same.
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, field: &'static str, ours: T, theirs: Option<T>) {
        match theirs {
            Some(theirs) if theirs == ours => *self.tally.agreed.entry(field).or_default() += 1,
            theirs => self.differ(format!("{field}: {ours:?} here, {theirs:?} there")),
        }
    }

    fn differ(&mut self, difference: String) {
        self.tally.differences.push(format!("{}: {difference}", self.what));
    }

    fn end(&mut self, why: impl Into<String>) {
        self.tally.ended.entry(why.into()).or_default().push(self.what.clone());
    }

    fn explain(&mut self, why: &'static str) {
        *self.tally.explained.entry(why).or_default() += 1;
    }

    fn frame(&mut self, frame: &[u8]) {
        let Some(link) = ethernet::parse(frame) else {
            return self.end("the frame ends in its Ethernet header or tags");
        };
        let tags = (link.payload - ethernet::HEADER) / 4;
        let packet = frame.get(link.payload..).unwrap_or_default();
        match link.ether_type {
            _ if ethernet::is_vlan(link.ether_type) => self.end("a third VLAN tag"),
            ethernet::IPV4 | ethernet::IPV6 => {
                if self.v4 + self.v6 == 0 {
                    let layers = self.row.layers.iter().take_while(|l| LINK.contains(l));
                    let theirs = layers.filter(|l| matches!(**l, "vlan" | "ieee8021ad")).count();
                    self.same("VLAN tags", tags, Some(theirs));
                }
                self.packet(packet, link.ether_type == ethernet::IPV4);
            }
            other => {
                let first = self.row.layers.iter().find(|l| !LINK.contains(l));
                let ip = matches!(first, Some(&"ip" | &"ipv6"));
                if ip {
                    self.differ(format!("EtherType {other:04x} is IP there"));
                }
                self.end(format!("no IP: {}", first.unwrap_or(&"nothing")));
            }
        }
    }

    /// An IP packet; bytes behind it may be padding.
    fn packet(&mut self, packet: &[u8], ipv4: bool) {
        let layer = if ipv4 { self.v4 } else { self.v6 };
        let (source, target) = if ipv4 { ("ip.src", "ip.dst") } else { ("ipv6.src", "ipv6.dst") };
        let Some(destination) = ip::destination(packet, ipv4) else {
            if self.row.value(target, layer).is_some() {
                self.differ("a destination is there".to_owned());
            }
            return self.end("an IP header that is cut short or of another version");
        };
        *(if ipv4 { &mut self.v4 } else { &mut self.v6 }) += 1;
        if self.row.value(target, layer).is_none() {
            if ip::parse_inner(packet, ipv4).is_some() {
                self.differ("accepted here, not opened there".to_owned());
            }
            return self.end(match self.row.malformed() {
                true => "an IP header that tshark finds malformed",
                false => "an IP header that tshark does not open",
            });
        }
        self.same("destination", destination, self.row.address(target, layer));
        let first = u64::from(ip::first_protocol(packet, ipv4));
        self.same(
            "first protocol",
            first,
            self.row.number(if ipv4 { "ip.proto" } else { "ipv6.nxt" }, layer),
        );
        if ipv4 {
            self.checksum(packet, layer);
        }
        let mut repaired;
        let mut packet = packet;
        if ipv4 && self.row.number("ip.checksum.status", layer) == Some(0) {
            assert!(ip::parse_inner(packet, ipv4).is_none(), "{}", self.what);
            self.explain("a wrong header checksum, refused; repaired only to compare the other fields");
            repaired = packet.to_vec();
            ip::write_v4_checksum(&mut repaired, usize::from(packet[0] & 15) * 4);
            packet = &repaired;
        }
        let Some(inner) = ip::parse_inner(packet, ipv4) else { return self.refused(packet, ipv4, layer) };
        self.same("source", inner.source, self.row.address(source, layer));
        let total = match ipv4 {
            true => self.row.number("ip.len", layer),
            false => self.row.number("ipv6.plen", layer).map(|n| n + 40),
        };
        self.same("length", u64::from(inner.total), total);
        if ipv4 {
            self.fields_of_v4(&inner, layer);
        } else {
            let fragment = self.row.layers.contains(&"ipv6.fraghdr");
            if inner.fragment.is_some() && !fragment {
                self.differ("a fragment here, no fragment header there".to_owned());
            }
        }
        if !inner.is_later_fragment() {
            self.behind(&inner);
        }
        let payload = &packet[inner.transport as usize..inner.total as usize];
        if inner.is_later_fragment() {
            return self.end("a later fragment");
        }
        self.transport(packet, &inner, payload);
    }

    /// The protocol behind the header and its extensions, where tshark opens it.
    fn behind(&mut self, inner: &ip::Inner) {
        let mut layers = self.row.layers.iter();
        for _ in 0..self.v4 + self.v6 {
            layers.by_ref().find(|l| matches!(**l, "ip" | "ipv6"));
        }
        let Some(layer) = layers.find(|l| !l.starts_with("ipv6.")) else { return };
        if let Some((_, number)) = NUMBERS.iter().find(|(name, _)| name == layer) {
            self.same("protocol", inner.protocol, Some(*number));
        }
    }

    fn checksum(&mut self, packet: &[u8], layer: usize) {
        let header = usize::from(packet[0] & 15) * 4;
        let Some(header) = packet.get(..header).filter(|h| h.len() >= 20) else { return };
        match self.row.number("ip.checksum.status", layer) {
            Some(status @ (0 | 1)) => {
                self.same("header checksum", u64::from(checksum::is_right(header)), Some(status))
            }
            other => self.differ(format!("checksum status {other:?}")),
        }
    }

    fn fields_of_v4(&mut self, inner: &ip::Inner, layer: usize) {
        let row = self.row;
        self.same("time to live", u64::from(inner.ttl), row.number("ip.ttl", layer));
        self.same("DSCP", u64::from(inner.tos >> 2), row.number("ip.dsfield.dscp", layer));
        self.same("don't fragment", u64::from(inner.dont_fragment), row.number("ip.flags.df", layer));
        let (offset, more) = inner.fragment.map_or((0, false), |f| (f.offset, f.more));
        self.same("fragment offset", u64::from(offset), row.number("ip.frag_offset", layer));
        self.same("more fragments", u64::from(more), row.number("ip.flags.mf", layer));
        if let Some(fragment) = inner.fragment {
            self.same("identification", u64::from(fragment.identification), row.number("ip.id", layer));
        }
    }

    /// A packet that we refuse: something of what tshark says of it must be the reason.
    fn refused(&mut self, packet: &[u8], ipv4: bool, layer: usize) {
        let why = if ipv4 { self.refused_v4(packet, layer) } else { self.refused_v6(packet, layer) };
        match why {
            Some(why) => self.end(format!("refused: {why}")),
            None => self.differ(format!("{} bytes are refused here", packet.len())),
        }
    }

    fn refused_v4(&self, packet: &[u8], layer: usize) -> Option<&'static str> {
        let row = self.row;
        let number = row.number("ip.proto", layer)?;
        let offset = row.number("ip.frag_offset", layer)?;
        let length = row.number("ip.len", layer)?;
        if be16(packet, 2) == 0 && length == packet.len() as u64 {
            return Some("a length of 0, as before segmentation by a network card: tshark takes the frame's");
        }
        if length > packet.len() as u64 {
            return Some("tshark's length is beyond the frame");
        }
        let room = length.checked_sub(u64::from(packet[0] & 15) * 4)?;
        if offset * 8 + room > 65_535 {
            return Some("fragments that pass 65,535 bytes");
        }
        (offset == 0 && room < least(number)).then_some("a transport header that is cut short")
    }

    fn refused_v6(&self, packet: &[u8], layer: usize) -> Option<&'static str> {
        let length = self.row.number("ipv6.plen", layer)?;
        let next = self.row.number("ipv6.nxt", layer)?;
        if length + 40 > packet.len() as u64 {
            return Some("tshark's length is beyond the frame");
        }
        if length == 0 && packet.len() > 40 && next == 0 {
            return Some("a length of 0 before hop-by-hop options: jumbograms");
        }
        if next == 44 && length >= 8 && u64::from(be16(packet, 42) & 0xfff8) + length - 8 > 65_535 {
            return Some("fragments that pass 65,535 bytes");
        }
        if length < least(next) {
            return Some("a transport header that is cut short");
        }
        self.row.malformed().then_some("an IPv6 chain that tshark finds malformed")
    }

    fn transport(&mut self, packet: &[u8], inner: &ip::Inner, payload: &[u8]) {
        let ipv4 = inner.source.is_ipv4();
        match inner.protocol {
            protocol::TCP | protocol::UDP => self.ports(inner, payload),
            _ if inner.is_icmp() => self.icmp(inner, payload, ipv4),
            protocol::GRE if inner.fragment.is_none() => self.gre(packet, ipv4),
            protocol::IPIP if inner.fragment.is_none() => self.packet(payload, true),
            protocol::IPV6 if inner.fragment.is_none() => self.packet(payload, false),
            _ => self.end("a protocol without ports"),
        }
    }

    fn ports(&mut self, inner: &ip::Inner, payload: &[u8]) {
        let row = self.row;
        let tcp = inner.protocol == protocol::TCP;
        let layer = if tcp { self.tcp } else { self.udp };
        let (from, to) = if tcp { ("tcp.srcport", "tcp.dstport") } else { ("udp.srcport", "udp.dstport") };
        if row.value(from, layer).is_none() && row.malformed() {
            self.explain("tshark stops in IPv6 options that are malformed, which we do not look into");
            return self.end("options that tshark finds malformed");
        }
        self.same("source port", u64::from(inner.ports.0), row.number(from, layer));
        self.same("destination port", u64::from(inner.ports.1), row.number(to, layer));
        *(if tcp { &mut self.tcp } else { &mut self.udp }) += 1;
        match payload.get(12) {
            Some(length) if tcp && length >> 4 < 5 => {
                self.explain("tshark stops in a TCP header that gives its own length as below 20");
            }
            // Twelve bits there, the lower eight here.
            _ if tcp => {
                let flags = row.number("tcp.flags", layer).map(|f| f & 0xff);
                self.same("TCP flags", u64::from(inner.tcp_flags), flags);
            }
            _ => {}
        }
        self.end("TCP or UDP");
    }

    fn icmp(&mut self, inner: &ip::Inner, payload: &[u8], ipv4: bool) {
        let row = self.row;
        let (field, layer) = if ipv4 { ("icmp.type", self.icmp) } else { ("icmpv6.type", self.icmpv6) };
        self.same("ICMP type", u64::from(inner.icmp_type), row.number(field, layer));
        *(if ipv4 { &mut self.icmp } else { &mut self.icmpv6 }) += 1;
        if !icmp::quotes_a_flow(ipv4, inner.icmp_type) {
            return self.end("ICMP");
        }
        let Some(quote) = icmp::parse_quote(payload, ipv4) else {
            return self.end("an ICMP error whose quote names no flow");
        };
        let layer = if ipv4 { self.v4 } else { self.v6 };
        let (source, target, first) =
            if ipv4 { ("ip.src", "ip.dst", "ip.proto") } else { ("ipv6.src", "ipv6.dst", "ipv6.nxt") };
        self.same("quoted source", quote.source, row.address(source, layer));
        self.same("quoted destination", quote.destination, row.address(target, layer));
        self.same("quoted protocol", u64::from(quote.protocol), row.number(first, layer));
        let ports = match quote.protocol {
            protocol::TCP => Some(("tcp.srcport", "tcp.dstport", self.tcp)),
            protocol::UDP => Some(("udp.srcport", "udp.dstport", self.udp)),
            _ => None,
        };
        if let Some((from, to, layer)) = ports {
            self.same("quoted source port", u64::from(quote.ports.0), row.number(from, layer));
            self.same("quoted destination port", u64::from(quote.ports.1), row.number(to, layer));
        }
        self.end("an ICMP error with its quote");
    }

    fn gre(&mut self, packet: &[u8], ipv4: bool) {
        let row = self.row;
        let outer = match ip::parse_outer(packet, ipv4) {
            Ok(outer) => outer,
            Err(Reason::NotGre) if !ipv4 => return self.end("GRE behind IPv6 extension headers"),
            Err(reason) => return self.differ(format!("the delivery header is {}", reason.name())),
        };
        let carried = &packet[outer.payload..outer.end];
        let layer = self.gre;
        self.gre += 1;
        let flags = row.number("gre.flags_and_version", layer);
        let kind = row.number("gre.proto", layer);
        let header = match gre::parse(carried) {
            Ok(header) => header,
            Err(reason) => return self.refused_gre(reason, carried, layer),
        };
        let bit = |bit: u64| flags.is_some_and(|f| f & bit != 0);
        self.same("GRE protocol", u64::from(header.protocol), kind);
        self.same("GRE key", u64::from(header.key), row.number("gre.key", layer));
        self.same("GRE sequence flag", header.sequence.is_some(), Some(bit(0x1000)));
        if let Some(sequence) = header.sequence {
            self.same("GRE sequence", u64::from(sequence), row.number("gre.sequence_number", 0));
        }
        let inside = carried.get(header.header..).unwrap_or_default();
        match header.protocol {
            gre::IPV4 => self.packet(inside, true),
            gre::IPV6 => self.packet(inside, false),
            _ => self.frame(inside),
        }
    }

    /// A GRE header that we refuse, judged by what tshark read; the order of the checks is that of the contract.
    fn refused_gre(&mut self, reason: Reason, carried: &[u8], layer: usize) {
        let row = self.row;
        let (Some(flags), Some(kind)) =
            (row.number("gre.flags_and_version", layer), row.number("gre.proto", layer))
        else {
            return self.end("a GRE header that tshark does not read");
        };
        let optional = [0x8000, 0x2000, 0x1000].iter().filter(|b| flags & **b != 0).count() * 4;
        let nvgre = kind == 0x6558;
        let theirs = if carried.len() < 4 + optional {
            Reason::GreMalformed
        } else if flags & 0x4c00 != 0 || nvgre && flags & 0x9000 != 0 {
            Reason::GreReservedBits
        } else if flags & 7 != 0 {
            Reason::GreVersion
        } else if flags & 0x8000 != 0 && reason == Reason::GreChecksum {
            Reason::GreChecksum
        } else if ![0x0800, 0x86dd, 0x6558].contains(&kind) {
            Reason::GreProtocol
        } else {
            Reason::GreNoKey
        };
        self.same("GRE fault", reason, Some(theirs));
        if reason == Reason::GreNoKey {
            assert_eq!(flags & 0x2000, 0, "{}", self.what);
            // What no key tells the owner of is opened here only to compare it.
            let inside = carried.get(4 + optional..).unwrap_or_default();
            self.explain("GRE without a key: no packet of a tunnel, opened only to compare what is inside");
            match kind {
                0x0800 => self.packet(inside, true),
                0x86dd => self.packet(inside, false),
                _ => self.frame(inside),
            }
            return;
        }
        self.end(format!("{}: tshark continues behind it or stops as well", reason.name()));
    }
}

/// The length of a transport header.
fn least(number: u64) -> u64 {
    match number {
        1 | 17 | 58 => 8,
        6 => 20,
        _ => 0,
    }
}

/// The frames of a capture, as far as it can be read.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let Ok(mut capture) = Capture::open(path.to_str().expect("a name in UTF-8")) else { return frames };
    while let Ok(Some(packet)) = capture.next() {
        frames.push(packet.captured.to_vec());
    }
    frames
}

fn compare(tally: &mut Tally, folder: &Path, table: &str) {
    let mut lines = table.lines();
    let columns: BTreeMap<&str, usize> =
        lines.next().unwrap_or_default().split('\t').enumerate().map(|(n, c)| (c, n)).collect();
    let mut captures: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for line in lines {
        tally.rows += 1;
        let values: Vec<&str> = line.split('\t').collect();
        let layers = values.get(columns["frame.protocols"]).unwrap_or(&"").split(':').collect();
        let row = Row { columns: &columns, layers, values };
        let (file, number) = (row.text("file"), row.text("frame.number"));
        let of_file = captures.entry(file).or_insert_with(|| frames(&folder.join(file)));
        let what = format!("{file} frame {number}");
        let Ok(number) = number.parse::<usize>() else {
            tally.ended.entry("a note about the file".to_owned()).or_default().push(what);
            continue;
        };
        let Some(frame) = of_file.get(number - 1) else {
            let why = "in a capture that is refused or damaged, or a block without packet";
            tally.ended.entry(why.to_owned()).or_default().push(what);
            continue;
        };
        let mut walk =
            Walk { tally, row: &row, what, v4: 0, v6: 0, gre: 0, tcp: 0, udp: 0, icmp: 0, icmpv6: 0 };
        walk.frame(frame);
    }
}

#[test]
fn headers_agree_with_tshark() {
    let Some(tables) = real_data::folder("tshark-fields") else { return };
    let Some(captures) = real_data::folder("pcap") else { return };
    let mut tally = Tally::default();
    for path in real_data::files_below(&tables) {
        let category = real_data::name(&path).split('.').next().expect("a category");
        compare(&mut tally, &captures.join(category), &real_data::text(&path));
    }
    println!("{} rows", tally.rows);
    for (field, count) in &tally.agreed {
        println!("  agreed: {count} x {field}");
    }
    for (why, count) in &tally.explained {
        println!("  not compared: {count} x {why}");
    }
    for (why, frames) in &tally.ended {
        println!("  ended: {} x {why}, first in {}", frames.len(), frames[0]);
    }
    assert!(tally.differences.is_empty(), "{:#?}", tally.differences);
    let agreed: usize = tally.agreed.values().sum();
    println!("{agreed} values agree");
    assert!(tally.rows > 7_800 && agreed > 60_000 && tally.agreed.len() >= 24);
}
