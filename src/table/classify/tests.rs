//! The classifier against a scan from the first rule to the last.

use super::*;
use crate::sys::{Work, every};
use crate::table::ecmp::mix;

fn matches(r: &Pattern, s: IpAddr, d: IpAddr, protocol: u8, ports: (u16, u16)) -> bool {
    let side = |a: &Addresses, x: IpAddr| match a {
        Addresses::Any => true,
        Addresses::Prefixes(p) => p.iter().any(|p| p.contains(x)),
    };
    let port = |ranges: &[(u16, u16)], p: u16| {
        if matches!(protocol, 6 | 17) {
            ranges.iter().any(|&(a, b)| (a..=b).contains(&p))
        } else {
            ranges.contains(&(0, 65535))
        }
    };
    let number = match &r.protocols {
        Protocols::Any => true,
        Protocols::Numbers(n) => n.contains(&protocol),
    };
    number
        && side(&r.source, s)
        && side(&r.destination, d)
        && port(&r.source_ports, ports.0)
        && port(&r.destination_ports, ports.1)
}

/// What one token finds, in one piece and in halves.
struct Ask<'a>(&'a Classifier, u32, u32, u8, (u16, u16), Option<&'a [u64]>);

impl Work for Ask<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> Option<usize> {
        let Ask(classifier, source, destination, protocol, ports, among) = self;
        classifier.prefetch_header(protocol);
        classifier.prefetch_v4(wide, source, destination, protocol, ports.1);
        let found = classifier.find_v4(wide, source, destination, protocol, ports);
        classifier.prefetch_found(&found);
        let first = classifier.first_of(wide, &found, among);
        assert_eq!(first, classifier.first_match_v4(wide, source, destination, protocol, ports, among));
        first
    }
}

/// What every token finds, which is the same.
fn first_match_v4(
    classifier: &Classifier,
    source: u32,
    destination: u32,
    protocol: u8,
    ports: (u16, u16),
    among: Option<&[u64]>,
) -> Option<usize> {
    let ask = || Ask(classifier, source, destination, protocol, ports, among);
    let all = every(ask);
    assert!(all.iter().all(|found| *found == all[0]), "{all:?}");
    all[0]
}

/// A sequence of numbers that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    fn address(&mut self) -> IpAddr {
        let ends = ["0.0.0.0", "255.255.255.255", "127.255.255.255", "128.0.0.0", "::", "ffff::ffff"];
        let octets = [self.below(3) as u8, self.below(3) as u8, self.below(5) as u8];
        match self.below(6) {
            0 => self.of(&ends).parse().expect("an address"),
            1 => IpAddr::from([0xfd00 + self.below(4) as u16, 0, 0, 0, 0, 0, 0, 1]),
            _ => IpAddr::from([10, octets[0], octets[1], octets[2]]),
        }
    }

    fn side(&mut self) -> Addresses {
        let prefix = |r: &mut Random| {
            let address = r.address();
            let length = if address.is_ipv4() { r.below(33) } else { r.of(&[0, 16, 17, 48, 128]) };
            Prefix::new(address, length as u8)
        };
        match self.below(6) {
            0 => Addresses::Any,
            n => Addresses::Prefixes((0..self.below(n) + u64::from(n < 5)).map(|_| prefix(self)).collect()),
        }
    }

    fn ports(&mut self) -> Vec<(u16, u16)> {
        let lists = [
            vec![ALL_PORTS],
            vec![ALL_PORTS],
            vec![(self.below(6) as u16, 6 + self.below(4) as u16), (8, 8)],
            vec![(65_530, 65_535), (5, 5)],
            vec![(0, 32_767), (32_768, 65_535)],
            vec![(65_535, 65_535), (0, 0), (3, 3), (2, 9), (4, 4)],
            vec![],
        ];
        self.of(&lists)
    }

    fn rule(&mut self) -> Pattern {
        let numbers = [vec![1, 58], vec![6], vec![6, 17], vec![17], vec![50], vec![]];
        Pattern {
            protocols: if self.below(4) == 0 {
                Protocols::Any
            } else {
                Protocols::Numbers(self.of(&numbers))
            },
            source: self.side(),
            destination: self.side(),
            source_ports: if self.below(3) == 0 { self.ports() } else { vec![ALL_PORTS] },
            destination_ports: self.ports(),
        }
    }
}

fn everything() -> Pattern {
    Pattern {
        protocols: Protocols::Any,
        source: Addresses::Any,
        destination: Addresses::Any,
        source_ports: vec![ALL_PORTS],
        destination_ports: vec![ALL_PORTS],
    }
}

#[test]
fn agrees_with_a_linear_scan() {
    let mut random = Random(1);
    let mut layouts = Vec::new();
    for round in 0..150 {
        let count = [0, 1, 5, 63, 64, 65, 66, 81, 200, 1003, 1050, 2100][round % 12];
        let mut rules: Vec<Pattern> = (0..count).map(|_| random.rule()).collect();
        // Fewer rules for everything than chance gives, so that late ones are found, and one where groups have it.
        rules.retain(|r| r.source != Addresses::Any || r.destination != Addresses::Any);
        if round % 3 != 0 {
            rules.push(everything());
        }
        let classifier = Classifier::new(&rules);
        layouts.push(classifier.layout);
        let third = (round % 3) as u64;
        let among = [
            bits_where(&rules, |_| true),
            rules.iter().map(|_| 0).collect(),
            (0..rules.len().div_ceil(64)).map(|n| mix(n as u64 + 64 * third)).collect(),
            bits_where(&rules, |r| *r != everything()),
        ];
        for _ in 0..300 {
            let (source, destination) = (random.address(), random.address());
            let protocol = random.of(&[1, 6, 17, 50, 58, 0, 255]);
            let ports = [0, 5, 7, 8, 9, 10, 65_530, 65_534, 65_535];
            let ports = (random.of(&ports), random.of(&ports));
            let ask = |among| classifier.first_match(source, destination, protocol, ports, among);
            let fits = |r: &Pattern| matches(r, source, destination, protocol, ports);
            let first = rules.iter().position(fits);
            assert_eq!(ask(None), first, "{source} {destination} {protocol} {ports:?}");
            for bits in &among {
                let set = |n: usize| bits[n / 64] >> (n % 64) & 1 == 1;
                let first = rules.iter().enumerate().position(|(n, r)| set(n) && fits(r));
                assert_eq!(ask(Some(bits)), first, "{source} {destination} {protocol} {ports:?}");
            }
            if let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) {
                let ask =
                    |among| first_match_v4(&classifier, from.to_bits(), to.to_bits(), protocol, ports, among);
                assert_eq!(ask(None), first);
                assert_eq!(ask(Some(&among[0])), first);
            }
        }
    }
    let all = [Layout::Bits, Layout::Block, Layout::Blocks, Layout::Rows];
    assert!(all.iter().all(|layout| layouts.contains(layout)), "{layouts:?}");
}

#[test]
fn lists_of_every_second_port_are_found() {
    // More intervals than a tree of three levels has.
    let lists = [16_400_u16, 17].map(|count| (0..count).map(|n| (2 * n + 1, 2 * n + 1)).collect::<Vec<_>>());
    let [many, few] = lists.clone().map(|source_ports| Pattern { source_ports, ..everything() });
    let [to_many, to_few] = lists.map(|destination_ports| Pattern { destination_ports, ..everything() });
    for rules in [[many, to_few], [few, to_many]] {
        let classifier = Classifier::new(&rules);
        for from in (0..=u16::MAX).step_by(61) {
            for to in [0, 1, 31, 32, 33, 35, 32_767, 32_798, 32_799, 32_801, u16::MAX] {
                let ports = (from, to);
                let first = rules
                    .iter()
                    .position(|r| matches(r, IpAddr::from([0; 4]), IpAddr::from([0; 4]), 6, ports));
                assert_eq!(first_match_v4(&classifier, 0, 0, 6, ports, None), first, "{ports:?}");
            }
        }
    }
}

#[test]
fn every_edge_is_found_in_trees_of_any_depth() {
    for count in [1_u32, 2, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1100, 4096, 5000] {
        // Every second address, so that each is an interval of its own, and as many ports up to the highest.
        let rules: Vec<Pattern> = (0..count)
            .map(|n| Pattern {
                source: Addresses::Prefixes(
                    vec![Prefix::host(IpAddr::from((u32::MAX - 2 * n).to_be_bytes()))].into(),
                ),
                destination_ports: vec![(u16::MAX - 2 * n as u16, u16::MAX - 2 * n as u16)],
                ..everything()
            })
            .collect();
        let classifier = Classifier::new(&rules);
        for n in (0..count).filter(|n| *n < 70 || n % 7 == 0 || *n > count - 70) {
            let ask = |from: u32, port: u16| first_match_v4(&classifier, from, 0, 17, (0, port), None);
            let (from, port) = (u32::MAX - 2 * n, u16::MAX - 2 * n as u16);
            assert_eq!(ask(from, port), Some(n as usize), "{n} of {count}");
            assert_eq!(ask(from - 1, port), None);
            assert_eq!(ask(from, port - 1), None);
        }
    }
}

#[test]
fn rules_for_every_protocol_number_are_told_apart() {
    let rules: Vec<Pattern> = (0..=255)
        .map(|number| Pattern { protocols: Protocols::Numbers(vec![255 - number]), ..everything() })
        .collect();
    let classifier = Classifier::new(&rules);
    for number in 0..=255_u8 {
        let found = first_match_v4(&classifier, 1, 2, number, (0, 0), None);
        assert_eq!(found, Some(usize::from(255 - number)));
    }
}
