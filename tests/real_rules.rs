//! The rule sets of ClassBench as rules of network security groups: the classifier finds the rule that a scan from the
//! first to the last finds, for headers taken from the rules, mixed of them, and at random.

#[path = "real_data/mod.rs"]
mod real_data;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use clearway::sys::{Wide, Work, widest};
use clearway::table::classify::{Addresses, Classifier, Pattern, Protocols, bits_where};
use clearway::table::ecmp::mix;
use clearway::types::Prefix;

/// The fields that rules look at.
#[derive(Clone, Copy, Debug)]
struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: (u16, u16),
}

/// A sequence of numbers that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }
}

/// `@176.19.181.33/32 90.145.23.162/32 0 : 65535 1550 : 1550 0x06/0xFF FLAGS`; groups have no TCP flags, which are left
/// out.
fn pattern(line: &str) -> Pattern {
    let columns: Vec<&str> = line.trim_start_matches('@').split_whitespace().collect();
    let [source, destination, a, ":", b, c, ":", d, protocol, _flags] = columns[..] else { panic!("{line}") };
    let side = |text: &str| {
        let (address, length) = text.split_once('/').expect("a prefix");
        let prefix = Prefix::new(address.parse().expect("an address"), length.parse().expect("a length"));
        if prefix.is_default() { Addresses::Any } else { Addresses::Prefixes(vec![prefix].into()) }
    };
    let port = |text: &str| text.parse().expect("a port");
    let protocols = match protocol.split_once('/') {
        Some((_, "0x00")) => Protocols::Any,
        Some((number, "0xFF")) => {
            Protocols::Numbers(vec![u8::from_str_radix(number.trim_start_matches("0x"), 16).expect("hex")])
        }
        other => panic!("{other:?}"),
    };
    Pattern {
        protocols,
        source: side(source),
        destination: side(destination),
        source_ports: vec![(port(a), port(b))],
        destination_ports: vec![(port(c), port(d))],
    }
}

fn matches(rule: &Pattern, header: &Header) -> bool {
    let side = |side: &Addresses, address| match side {
        Addresses::Any => true,
        Addresses::Prefixes(prefixes) => prefixes.iter().any(|p| p.contains(address)),
    };
    let port = |ranges: &[(u16, u16)], port: u16| match header.protocol {
        6 | 17 => ranges.iter().any(|&(a, b)| a <= port && port <= b),
        _ => ranges.contains(&(0, 65_535)),
    };
    let protocol = match &rule.protocols {
        Protocols::Any => true,
        Protocols::Numbers(numbers) => numbers.contains(&header.protocol),
    };
    protocol
        && side(&rule.source, header.source)
        && side(&rule.destination, header.destination)
        && port(&rule.source_ports, header.ports.0)
        && port(&rule.destination_ports, header.ports.1)
}

/// A header of a rule: the edges of its ranges more often than what lies between.
fn inside(rule: &Pattern, random: &mut Random) -> Header {
    let mut pick = |from: u64, to: u64| match random.below(4) {
        0 => from,
        1 => to,
        _ => from + random.below(to - from + 1),
    };
    let mut address = |side: &Addresses| {
        let all = [Prefix::ALL_V4];
        let prefix = match side {
            Addresses::Any => all[0],
            Addresses::Prefixes(prefixes) => prefixes[0],
        };
        match (prefix.first(), prefix.last()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let bits = pick(u64::from(a.to_bits()), u64::from(b.to_bits()));
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            }
            _ => unreachable!("the sets are IPv4"),
        }
    };
    let (source, destination) = (address(&rule.source), address(&rule.destination));
    let mut port = |ranges: &[(u16, u16)]| pick(u64::from(ranges[0].0), u64::from(ranges[0].1)) as u16;
    let ports = (port(&rule.source_ports), port(&rule.destination_ports));
    let protocol = match &rule.protocols {
        Protocols::Any => [6, 17, 1, 50][random.below(4) as usize],
        Protocols::Numbers(numbers) => numbers[0],
    };
    Header { source, destination, protocol, ports }
}

/// Headers of every rule, headers mixed of the fields of two, and headers at random.
fn headers(rules: &[Pattern], of_each: usize, step: usize) -> Vec<Header> {
    let mut random = Random(7);
    let mut headers = Vec::new();
    for rule in rules.iter().step_by(step) {
        for _ in 0..of_each {
            let one = inside(rule, &mut random);
            let other = inside(&rules[random.below(rules.len() as u64) as usize], &mut random);
            headers.push(one);
            headers.push(Header { destination: other.destination, ..one });
            headers.push(Header { ports: other.ports, protocol: other.protocol, ..one });
            headers.push(Header {
                source: IpAddr::from((random.below(1 << 32) as u32).to_be_bytes()),
                destination: other.destination,
                protocol: random.below(256) as u8,
                ports: (random.below(65_536) as u16, other.ports.1),
            });
        }
    }
    headers
}

/// What the widest instructions find.
struct Ask<'a>(&'a Classifier, &'a Header);

impl Work for Ask<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> Option<usize> {
        let Ask(classifier, h) = self;
        match (h.source, h.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                classifier.first_match_v4(wide, from.to_bits(), to.to_bits(), h.protocol, h.ports, None)
            }
            (from, to) => classifier.first_match(from, to, h.protocol, h.ports, None),
        }
    }
}

/// Asks for headers of every `step`th rule.
fn check(file: &str, of_each: usize, step: usize) {
    let Some(folder) = real_data::folder("classbench") else { return };
    let text = real_data::text(&folder.join(file));
    let rules: Vec<Pattern> = text.lines().filter(|l| !l.trim().is_empty()).map(pattern).collect();
    let begin = Instant::now();
    let classifier = Classifier::new(&rules);
    let built = begin.elapsed();
    // The sets end with a rule that matches everything; without it there are headers of no rule.
    let everything = |r: &Pattern| {
        r.source == Addresses::Any && r.destination == Addresses::Any && r.protocols == Protocols::Any
    };
    assert!(rules.iter().skip_while(|r| !everything(r)).all(everything));
    let narrow = bits_where(&rules, |r| !everything(r));
    let headers = headers(&rules, of_each, step);
    let mut found = 0;
    for h in &headers {
        let ask = |among| classifier.first_match(h.source, h.destination, h.protocol, h.ports, among);
        let first = rules.iter().position(|r| matches(r, h));
        assert_eq!(ask(None), first, "{file}: {h:?}");
        assert_eq!(widest(Ask(&classifier, h)), first, "{file}: {h:?}");
        let first = first.filter(|n| !everything(&rules[*n]));
        assert_eq!(ask(Some(&narrow)), first, "{file}: {h:?}");
        found += usize::from(first.is_some());
    }
    println!(
        "{file}: {} rules, {} headers, {found} of a narrower rule than the last; built in {built:?}, {} bytes",
        rules.len(),
        headers.len(),
        classifier.memory()
    );
    assert!(rules.len() > 800 && found > headers.len() / 4 && found < headers.len());
}

#[test]
fn sets_of_a_thousand_rules_are_classified_as_a_scan_does() {
    for file in ["acl1_1k.txt", "fw1_1k.txt", "fw5_1k.txt", "ipc1_1k.txt"] {
        check(file, 10, 1);
    }
}

#[test]
fn a_set_of_ten_thousand_rules_is_classified_as_a_scan_does() {
    check("acl1_10k.txt.gz", 1, 4);
}
