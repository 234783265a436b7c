//! Steps of the way of a packet, alone.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use clearway::compile::Program;
use clearway::dataplane::Output;
use clearway::dataplane::adjacency::{Adjacencies, Adjacency};
use clearway::dataplane::emit::Sending;
use clearway::dataplane::usual::{self, Listens, Usual};
use clearway::dataplane::vector::{VECTOR, Vector};
use clearway::sys::{self, Base, Wide, widest};
use clearway::table::classify::{Addresses, Classifier, Pattern, Protocols};
use clearway::table::lpm::Lpm;
use clearway::table::records::{FlowV4, NONE, Opening, Owner, Records, Stored};
use clearway::types::{Nanos, Prefix, SECOND};

use super::cases::{Case, Run, Side, Work, work};
use super::configuration::{configuration, model};
use super::dataplane::{Dataplane, seed};
use super::plain::{self, Net, Parsed, Plain, Routes, Rule, Tuple};
use super::traffic::{BATCH, Batch, FABRIC, NEIGHBOUR, NEIGHBOUR_HOST, Order, Traffic};

/// The cases of this file.
pub fn all(run: Run) -> Vec<Case> {
    let tried = run == Run::Tried;
    let mut cases = vec![parse(), rewrite(), records(run)];
    cases.extend(if tried { &[10][..] } else { &[100, 1000] }.iter().map(|n| classify(*n)));
    cases.extend(if tried { &[10][..] } else { &[1000, 100_000] }.iter().map(|n| route(*n)));
    cases
}

fn case(
    name: &str,
    make: impl Fn(Side) -> Box<dyn super::cases::Work> + 'static,
    check: impl Fn() + 'static,
) -> Case {
    Case { name: name.to_owned(), per_round: BATCH, make: Box::new(make), check: Box::new(check) }
}

fn batch() -> Batch {
    let mut batch = Batch::default();
    Traffic::new(&[NEIGHBOUR], 64, 1000, Order::Shuffled).fill(&mut batch);
    batch
}

/// Steps 1 to 3 and 5: from the bytes of a received frame to the fields of a checked packet. The plain version finds its
/// tunnel as well.
fn parse() -> Case {
    let plain = || Plain::new(&model(&configuration(10, 10)), seed());
    let make = move |side| match side {
        Side::Clearway => {
            let (program, batch) = (Dataplane::new(10, 10).program, batch());
            let listens: Vec<Listens> = program.ports.iter().map(Listens::new).collect();
            work(move || {
                widest(ParseAll {
                    program: &program,
                    listens: &listens,
                    batch: &batch,
                    each: &mut |vector| {
                        black_box(vector);
                    },
                })
            })
        }
        Side::Plain => {
            let (plain, frames) = (plain(), frames(Box::leak(Box::new(batch()))));
            work(move || {
                each(&frames, |f| {
                    let _ = black_box(plain.parse(usize::from(FABRIC), f));
                });
            })
        }
    };
    let check = move || {
        let (program, plain, batch) = (Dataplane::new(10, 10).program, plain(), batch());
        let listens: Vec<Listens> = program.ports.iter().map(Listens::new).collect();
        let mut ours = Vec::new();
        let mut each = |vector: &Vector| {
            for packet in (0..VECTOR).map(|lane| vector.packet(lane)) {
                ours.push((packet.source(), packet.destination(), packet.ports));
            }
        };
        widest(ParseAll { program: &program, listens: &listens, batch: &batch, each: &mut each });
        let all = frames(&batch);
        assert!(ours.len() >= all.len());
        for (ours, frame) in ours.into_iter().zip(all) {
            let plain = plain.parse(usize::from(FABRIC), frame).expect("a packet of the usual shape");
            let (source, destination) = plain.tuple.ports;
            let ports = u32::from(source) << 16 | u32::from(destination);
            assert_eq!(ours, (plain.tuple.source.to_bits(), plain.tuple.destination.to_bits(), ports));
        }
    };
    case("parse", make, check)
}

/// Parses the frames of a batch, vector by vector.
struct ParseAll<'a> {
    program: &'a Program,
    listens: &'a [Listens],
    batch: &'a Batch,
    each: &'a mut dyn FnMut(&Vector),
}

impl sys::Work for ParseAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let mut vector = Vector::EMPTY;
        let mut rest = &self.batch.inputs[..];
        while !rest.is_empty() {
            vector.parse(wide, self.program, self.listens, &self.batch.bytes, rest);
            (self.each)(&vector);
            rest = &rest[VECTOR.min(rest.len())..];
        }
    }
}

fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// The bytes of the frames of a batch; of one that is leaked, as long as the run.
fn frames(batch: &Batch) -> Vec<&[u8]> {
    batch.frames().map(|(frame, _)| frame).collect()
}

/// Step 13: the frame that leaves, of a packet that is parsed and whose way is known.
fn rewrite() -> Case {
    let make = move |side| {
        let frames = frames(Box::leak(Box::new(batch())));
        match side {
            Side::Clearway => {
                let (adjacency, packets, mut out) = (adjacency(), parsed(frames), Output::default());
                work(move || {
                    out.clear();
                    packets
                        .iter()
                        .for_each(|(frame, packet)| adjacency.send(frame, packet.leaving(), &mut out));
                    black_box(&out);
                })
            }
            Side::Plain => {
                let plain = Plain::new(&model(&configuration(10, 10)), seed());
                let (packets, mut out) = (parsed_plain(&plain, frames), Vec::new());
                work(move || {
                    for packet in &packets {
                        black_box(plain.rewrite(packet, NEIGHBOUR_HOST, &mut out)).ok();
                    }
                })
            }
        }
    };
    let check = move || {
        let plain = Plain::new(&model(&configuration(10, 10)), seed());
        let (adjacency, mut output, mut out) = (adjacency(), Output::default(), Vec::new());
        let batch = batch();
        let packets = parsed(frames(&batch)).into_iter().zip(parsed_plain(&plain, frames(&batch)));
        for ((frame, ours), theirs) in packets {
            output.clear();
            adjacency.send(frame, ours.leaving(), &mut output);
            assert!(plain.rewrite(&theirs, NEIGHBOUR_HOST, &mut out).is_ok());
            let sent = output.frames[0];
            assert_eq!(output.bytes[sent.start as usize..sent.end as usize], out);
        }
    };
    case("rewrite", make, check)
}

fn parsed(frames: Vec<&[u8]>) -> Vec<(&[u8], Usual)> {
    let listens = Listens::new(&Dataplane::new(10, 10).program.ports[usize::from(FABRIC)]);
    let parse = |frame| {
        let mut packet = Usual::default();
        usual::in_gre(received(frame), &listens, &mut packet).map(|_| (frame, packet))
    };
    frames.into_iter().filter_map(parse).collect()
}

fn received(frame: &[u8]) -> usual::Received<'_> {
    let length = frame.len() as u32;
    usual::Received { bytes: frame, start: 0, length, original: length }
}

fn parsed_plain<'a>(plain: &Plain, frames: Vec<&'a [u8]>) -> Vec<Parsed<'a>> {
    frames.into_iter().filter_map(|f| plain.parse(usize::from(FABRIC), f).ok()).collect()
}

/// The way to the host of the neighbour.
fn adjacency() -> Adjacency {
    let program = Dataplane::new(10, 10).program;
    let fabric = program.vnet("contoso", "hub").and_then(|v| program.vnets[v as usize].fabric);
    let tunnel = fabric.map(|t| (t, IpAddr::from(NEIGHBOUR_HOST)));
    let mut adjacencies = Adjacencies::default();
    let number = adjacencies.number(&program, Sending { port: FABRIC, tunnel, inner_mac: [0; 6] });
    *number.and_then(|n| adjacencies.get(n)).expect("GRE without sequence numbers has an adjacency")
}

/// Rules as they are written for a tier of servers: a range of sources, a small range of ports; the last takes the rest.
fn patterns(count: usize) -> Vec<Pattern> {
    let rule = |n: usize| Pattern {
        protocols: Protocols::Numbers(vec![if n.is_multiple_of(2) { 6 } else { 17 }]),
        source: Addresses::Prefixes(vec![Prefix::v4(10, (n / 250) as u8, (n % 250) as u8, 0, 24)].into()),
        destination: Addresses::Prefixes(vec![Prefix::v4(10, 1, (n % 200) as u8, 0, 24)].into()),
        source_ports: vec![(0, u16::MAX)],
        destination_ports: vec![(1000 + n as u16, 1010 + n as u16)],
    };
    let rest = Pattern {
        protocols: Protocols::Any,
        source: Addresses::Any,
        destination: Addresses::Any,
        source_ports: vec![(0, u16::MAX)],
        destination_ports: vec![(0, u16::MAX)],
    };
    (0..count - 1).map(rule).chain([rest]).collect()
}

/// The same rules as a list; what a rule allows is its number.
fn rules(patterns: &[Pattern]) -> Vec<Rule> {
    let side = |addresses: &Addresses| match addresses {
        Addresses::Any => plain::Side::Any,
        Addresses::Prefixes(prefixes) => plain::Side::In(prefixes.iter().map(net).collect()),
    };
    let rule = |p: &Pattern| Rule {
        allow: true,
        protocols: match &p.protocols {
            Protocols::Any => vec![],
            Protocols::Numbers(numbers) => numbers.clone(),
        },
        source: side(&p.source),
        destination: side(&p.destination),
        source_ports: p.source_ports.clone(),
        destination_ports: p.destination_ports.clone(),
    };
    patterns.iter().map(rule).collect()
}

fn net(prefix: &Prefix) -> Net {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.len())).unwrap_or(0);
    Net { first: v4(prefix), mask }
}

fn v4(prefix: &Prefix) -> u32 {
    match prefix.first() {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// Looks up each one and lets no result go to waste.
fn each<T, R>(all: &[T], look_up: impl Fn(&T) -> R) {
    for one in all {
        black_box(look_up(black_box(one)));
    }
}

/// Numbers without order, the same in every run.
fn numbers(count: u64) -> impl Iterator<Item = u32> {
    (1..=count).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32)
}

/// Packets for those rules: a quarter meets its rule, the rest the last one.
fn tuples(count: usize) -> Vec<Tuple> {
    let tuple = |n: u32| {
        let rule = n as usize % count;
        let near = if n >> 30 == 0 { 0 } else { 77 };
        Tuple {
            source: Ipv4Addr::new(10, (rule / 250) as u8, (rule % 250) as u8, 9),
            destination: Ipv4Addr::new(10, 1, (rule % 200) as u8 ^ near, 4),
            protocol: if rule.is_multiple_of(2) { 6 } else { 17 },
            ports: (40_000, 1005 + rule as u16),
        }
    };
    numbers(BATCH).map(tuple).collect()
}

/// Asks a classifier about all packets, with the widest instructions there are.
struct Classified<'a>(&'a Classifier, &'a [Tuple]);

impl sys::Work for Classified<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        for t in self.1 {
            black_box(first_match(wide, self.0, black_box(t)));
        }
    }
}

#[inline(always)]
fn first_match<W: Wide>(wide: W, classifier: &Classifier, t: &Tuple) -> Option<usize> {
    let (source, destination) = (t.source.to_bits(), t.destination.to_bits());
    classifier.first_match_v4(wide, source, destination, t.protocol, t.ports, None)
}

/// The first rule of a list that a packet matches.
fn classify(count: usize) -> Case {
    let make = move |side| {
        let (patterns, tuples) = (patterns(count), tuples(count));
        match side {
            Side::Clearway => {
                let classifier = Classifier::new(&patterns);
                work(move || widest(Classified(&classifier, &tuples)))
            }
            Side::Plain => {
                let rules = rules(&patterns);
                work(move || each(&tuples, |t| plain::first_match(&rules, t).is_some()))
            }
        }
    };
    let check = move || {
        let patterns = patterns(count);
        let (classifier, rules) = (Classifier::new(&patterns), rules(&patterns));
        for tuple in tuples(count) {
            let at = plain::first_match(&rules, &tuple)
                .and_then(|r| rules.iter().position(|o| std::ptr::eq(o, r)));
            assert_eq!(first_match(Base, &classifier, &tuple), at);
        }
    };
    case(&format!("classify-{count}-rules"), make, check)
}

/// Looks all addresses up, with the widest instructions there are.
struct Routed<'a>(&'a Lpm<u32>, &'a [Ipv4Addr]);

impl sys::Work for Routed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        for a in self.1 {
            black_box(self.0.lookup_v4(wide, black_box(a).to_bits()));
        }
    }
}

/// The longest prefix that holds an address.
fn route(count: u32) -> Case {
    let prefixes = move || -> Vec<(Prefix, u32)> {
        let prefix =
            |(a, n): (u32, u32)| (Prefix::new(Ipv4Addr::from_bits(a).into(), 12 + (n % 17) as u8), n);
        numbers(count.into()).zip(0..).map(prefix).collect()
    };
    let ours = move || prefixes().into_iter().collect::<Lpm<u32>>();
    let plain = move || {
        let mut table = Routes::new();
        for (prefix, n) in prefixes() {
            table.insert(Ipv4Addr::from_bits(v4(&prefix)), u32::from(prefix.len()), n);
        }
        table
    };
    // Each in one of the prefixes.
    let addresses = move || -> Vec<Ipv4Addr> {
        let prefixes = prefixes();
        let inside = |n: u32| {
            let prefix = &prefixes[n as usize % prefixes.len()].0;
            Ipv4Addr::from_bits(v4(prefix) | n.rotate_left(7) >> prefix.len())
        };
        numbers(BATCH).map(inside).collect()
    };
    let make = move |side| {
        let addresses = addresses();
        match side {
            Side::Clearway => {
                let table = ours();
                work(move || widest(Routed(&table, &addresses)))
            }
            Side::Plain => {
                let table = plain();
                work(move || each(&addresses, |a| table.longest_match(*a).is_some()))
            }
        }
    };
    let check = move || {
        let (ours, plain) = (ours(), plain());
        for address in addresses() {
            assert_eq!(ours.lookup(address.into()), plain.longest_match(address).map(|m| *m.2));
        }
    };
    case(&format!("route-{count}-routes"), make, check)
}

/// Between two NICs of a VNet.
const ENDS: [Owner; 2] = [Owner { vnet: 1, endpoint: 1 }, Owner { vnet: 1, endpoint: 2 }];
/// How long a record may be idle.
const IDLE: u8 = 4;

fn tuple_of(n: u32) -> Tuple {
    let source = Ipv4Addr::from_bits(u32::from_be_bytes([10, 1, 0, 0]) | n >> 16);
    Tuple { source, destination: NEIGHBOUR, protocol: 17, ports: (n as u16, 9000) }
}

fn back(tuple: &Tuple) -> Tuple {
    let (from, to) = tuple.ports;
    Tuple { source: tuple.destination, destination: tuple.source, ports: (to, from), ..*tuple }
}

/// Flows that are opened, each with a record of both its ends, and go again unused.
trait Opens {
    /// Those that are gone go, and these begin.
    fn round(&mut self, flows: Range<u32>, now: Nanos);
    fn len(&self) -> usize;
}

struct Churn<T> {
    table: T,
    opened: u32,
    now: Nanos,
    step: Nanos,
}

impl<T: Opens> Churn<T> {
    /// So many rounds of flows are there at any time.
    fn new(table: T, rounds: u64) -> Churn<T> {
        let step = 241 * SECOND / rounds;
        let mut churn = Churn { table, opened: 0, now: SECOND, step };
        (0..=rounds).for_each(|_| churn.run());
        churn
    }
}

impl<T: Opens> Work for Churn<T> {
    fn run(&mut self) {
        let begin = self.opened;
        self.opened += BATCH as u32;
        self.table.round(begin..self.opened, self.now);
        self.now += self.step;
    }
}

/// Records, and the flows of a round as packets bring them.
struct Ours(Records, Vec<[FlowV4; 2]>);

struct Expire<'a>(&'a mut Ours, Nanos);
struct Miss<'a>(&'a Ours);
struct Open<'a>(&'a mut Ours, Nanos);

impl sys::Work for Expire<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        self.0.0.reap(wide, self.1, 4 * BATCH as usize, |owner| {
            black_box(owner);
        });
    }
}

impl sys::Work for Miss<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> bool {
        let Ours(records, flows) = self.0;
        let mut missed = true;
        for [source, destination] in flows {
            missed &= records.find_ipv4(wide, source) == NONE;
            missed &= records.find_ipv4(wide, destination) == NONE;
        }
        missed
    }
}

impl sys::Work for Open<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let Open(Ours(records, flows), now) = self;
        for (n, [source, destination]) in flows.iter().enumerate() {
            let opening = |flow: &FlowV4, rule| Opening { flow: *flow, idle_minutes: IDLE, rule };
            let way = Stored { arrival: 1, adjacency: 2, route: n as u32 };
            black_box(records.open_linked(wide, &opening(source, 7), &opening(destination, 8), now, way));
        }
    }
}

impl Opens for Ours {
    fn round(&mut self, flows: Range<u32>, now: Nanos) {
        widest(Expire(self, now));
        self.1.clear();
        for n in flows {
            let Tuple { source, destination, protocol, ports } = tuple_of(n);
            let (source, destination) = (source.to_bits(), destination.to_bits());
            let ports = u32::from(ports.0) << 16 | u32::from(ports.1);
            let flow = |owner: Owner, local, remote, ports| {
                let hash = self.0.hash_ipv4(owner.vnet, local, remote, ports, protocol);
                FlowV4 { hash, owner, local, remote, ports, protocol }
            };
            let there = flow(ENDS[0], source, destination, ports);
            self.1.push([there, flow(ENDS[1], destination, source, ports.rotate_left(16))]);
        }
        if widest(Miss(self)) {
            widest(Open(self, now));
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A hash map, and a queue of what is to be looked at.
struct Theirs<S> {
    flows: HashMap<(Owner, Tuple), TheirFlow, S>,
    queue: VecDeque<(Nanos, (Owner, Tuple))>,
}

struct TheirFlow {
    last: Nanos,
    partner: (Owner, Tuple),
    way: Stored,
    rule: u32,
}

impl<S: std::hash::BuildHasher> Opens for Theirs<S> {
    fn round(&mut self, flows: Range<u32>, now: Nanos) {
        while let Some((at, key)) = self.queue.front().copied().filter(|(at, _)| *at < now) {
            self.queue.pop_front();
            let Some(flow) = self.flows.get(&key) else { continue };
            let other = self.flows.get(&flow.partner).map_or(0, |p| p.last);
            let used = flow.last.max(other) + (at - flow.last);
            if used < now {
                black_box((flow.way, flow.rule));
                self.flows.remove(&key);
            } else {
                self.queue.push_back((used, key));
            }
        }
        for n in flows {
            let there = (ENDS[0], tuple_of(n));
            let back = (ENDS[1], back(&there.1));
            if self.flows.contains_key(&there) || self.flows.contains_key(&back) {
                continue;
            }
            let way = Stored { arrival: 1, adjacency: 2, route: n };
            for (key, partner, way, rule) in [(there, back, way, 7), (back, there, Stored::default(), 8)] {
                self.flows.insert(key, TheirFlow { last: now, partner, way, rule });
                self.queue.push_back((now + Nanos::from(IDLE) * 60 * SECOND, key));
            }
        }
    }

    fn len(&self) -> usize {
        self.flows.len()
    }
}

/// The records of new flows between two NICs, with as many that expire.
fn records(run: Run) -> Case {
    let rounds = if run == Run::Tried { 4 } else { 64 };
    let ours = move || Churn::new(Ours(Records::new(seed()), Vec::new()), rounds);
    let theirs = move || {
        let flows = HashMap::with_hasher(seed());
        Churn::new(Theirs { flows, queue: VecDeque::new() }, rounds)
    };
    let make = move |side| -> Box<dyn Work> {
        match side {
            Side::Clearway => Box::new(ours()),
            Side::Plain => Box::new(theirs()),
        }
    };
    let check = move || {
        let (mut ours, mut theirs) = (ours(), theirs());
        for _ in 0..3 * rounds {
            ours.run();
            theirs.run();
            assert_eq!(ours.table.len(), theirs.table.len());
            assert!(ours.table.len() >= (2 * rounds * BATCH) as usize);
        }
    };
    case("records-open-expire", make, check)
}
