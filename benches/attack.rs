//! The floor: what is left when someone sends what costs most, from GRE frame in to GRE frame out, through the whole
//! path: `cargo bench --bench attack`. Every packet's verdict is counted and must be the expected one.
//!
//! An attacker is a guest: he chooses everything of the packets that his host puts into GRE, and knows this program. He
//! does not know the seed of the flow table, but for two cases that suppose he does, which show that even then no step
//! is long. Writing the frames is not in the times.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clearway::compile::names::Names;
use clearway::compile::{Program, compile};
use clearway::dataplane::state::{ErrorRate, ErrorsOf, Received};
use clearway::dataplane::{Context, Input, Occupancy, Results, Shard, process};
use clearway::model::{Access, AddressItem, AddressMatch, Customer, Model, Rule, RuleProtocol};
use clearway::packet::{Direction, FlowState, Reason, Verdict};
use clearway::table::ecmp::mix;
use clearway::table::fragments::{ADMITTED, Admission, CAPACITY, FragmentKey, Fragments};
use clearway::types::{Prefix, SECOND};
use clearway::wire::build::{Transport, gre_frame, ip_packet};
use clearway::wire::checksum;
use common::cases::Run;
use common::configuration::{configuration, model};
use common::traffic::{FABRIC, KEY, NEIGHBOUR, SENDER};

/// Frames that go through the path together.
const BURST: usize = 256;
/// Bytes between the beginnings of two frames.
const STRIDE: usize = 128;
/// Bytes of an inner packet.
const SIZE: usize = 64;
/// Where the inner packet begins.
const INNER: usize = 14 + 20 + 8;
/// A packet comes this often: nothing idles out meanwhile.
const TICK: u64 = 100;
/// The port that the last rule denies.
const DENIED: u16 = 7;

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Udp,
    /// TCP, with nothing but ACK.
    Ack,
    /// The first piece of a datagram.
    First,
    /// A later piece.
    Later,
    /// Its time to live ends here.
    Expiring,
}

/// What an attacker chooses.
#[derive(Clone, Copy)]
struct Packet {
    kind: Kind,
    from: u32,
    to: u32,
    ports: (u16, u16),
    id: u16,
}

/// A packet from NIC to NIC.
fn udp(ports: (u16, u16)) -> Packet {
    Packet { kind: Kind::Udp, from: SENDER.to_bits(), to: NEIGHBOUR.to_bits(), ports, id: 0 }
}

/// Flows as a scanner makes them: one port after the other.
fn in_order(n: u64) -> Packet {
    udp((1024 + (n % 60_000) as u16, 1024 + (n / 60_000) as u16))
}

/// Flows that differ in high bits only.
fn same_low_bits(n: u64) -> Packet {
    let high = |n: u64| ((4 + n % 252) << 8 | 0x35) as u16;
    let host = (n / (252 * 252) % 15 + 1) << 4;
    Packet { to: NEIGHBOUR.to_bits() & !0xff | host as u32, ..udp((high(n), high(n / 252))) }
}

/// Flows whose ports are anything, for comparison.
fn scattered(n: u64) -> Packet {
    // An odd factor leaves no two of 28 bits alike. Ports of tunnels inside tunnels are not among these.
    let random = (n as u32).wrapping_mul(0x9e37_79b1);
    udp((0x4000 | (random >> 14 & 0x3fff) as u16, 0x4000 | (random & 0x3fff) as u16))
}

/// Flows between any addresses of the two subnets.
fn anywhere(n: u64) -> Packet {
    let random = mix(n);
    let host = |from: u32| 4 + (random >> from) as u32 % 250;
    Packet {
        from: SENDER.to_bits() & !0xff | host(0),
        to: NEIGHBOUR.to_bits() & !0xff | host(8),
        ..udp((1024 + (n % 60_000) as u16, 1024 + (random >> 32) as u16 % 60_000))
    }
}

/// Frames of each kind, in GRE from the host of NIC a.
struct Templates([Vec<u8>; 2]);

impl Templates {
    fn new() -> Templates {
        let ports = [
            Transport::Udp { source: 1, destination: 1 },
            Transport::Tcp { source: 1, destination: 1, flags: 16 },
        ];
        let frame = |transport: Transport, header: usize| {
            let mut packet = ip_packet(SENDER.into(), NEIGHBOUR.into(), transport, &vec![0; SIZE - header])
                .expect("both are IPv4");
            if header == 28 {
                // No checksum, so that the ports may change.
                packet[26..28].fill(0);
            }
            let (host, port) = ([198, 51, 100, 11].into(), [198, 51, 100, 2].into());
            gre_frame(host, port, KEY, None, &packet).expect("both are IPv4")
        };
        Templates([frame(ports[0], 28), frame(ports[1], 40)])
    }

    fn write(&self, packet: &Packet, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.0[usize::from(packet.kind == Kind::Ack)]);
        let frame = &mut out[start + INNER..];
        frame[4..6].copy_from_slice(&packet.id.to_be_bytes());
        match packet.kind {
            Kind::First => frame[6..8].copy_from_slice(&[0x20, 0]),
            Kind::Later => frame[6..8].copy_from_slice(&[0, 100]),
            Kind::Expiring => frame[8] = 1,
            Kind::Udp | Kind::Ack => {}
        }
        frame[12..16].copy_from_slice(&packet.from.to_be_bytes());
        frame[16..20].copy_from_slice(&packet.to.to_be_bytes());
        frame[10..12].fill(0);
        let sum = checksum::of(&frame[..20]);
        frame[10..12].copy_from_slice(&sum.to_be_bytes());
        frame[20..22].copy_from_slice(&packet.ports.0.to_be_bytes());
        frame[22..24].copy_from_slice(&packet.ports.1.to_be_bytes());
    }
}

/// One worker of the dataplane under attack.
struct Target {
    templates: Templates,
    program: Program,
    occupancy: Occupancy,
    shard: Shard,
    received: Received,
    results: Results,
    rate: ErrorRate,
    bytes: Vec<u8>,
    inputs: Vec<Input>,
    now: u64,
}

/// What became of the packets of an attack.
#[derive(Default)]
struct Figures {
    packets: u64,
    busy: Duration,
    bursts: Vec<Duration>,
    /// The longest during which nobody else ran on this core, as far as the system says.
    alone: Duration,
    /// By the name of the reason, or `forward`.
    ends: BTreeMap<&'static str, u64>,
    opened: u64,
    memory: usize,
}

impl Figures {
    /// Counts a burst, before which this thread had waited so long.
    fn add(&mut self, took: Duration, waited_before: Option<u64>) {
        self.busy += took;
        self.bursts.push(took);
        if waited() == waited_before {
            self.alone = self.alone.max(took);
        }
    }
}

/// How long this thread had to wait while others ran; `None` where the system does not say.
fn waited() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    said.split(' ').nth(1)?.parse().ok()
}

impl Target {
    fn new(model: &Model) -> Target {
        let program = compile(model, &mut Names::default());
        let mut occupancy = Occupancy::default();
        occupancy.grow(&program);
        Target {
            templates: Templates::new(),
            program,
            occupancy,
            // With a seed that nobody knows.
            shard: Shard::new(Default::default()),
            received: Received::default(),
            results: Results::default(),
            rate: ErrorRate::default(),
            bytes: Vec::new(),
            inputs: Vec::new(),
            now: 1_700_000_000 * SECOND,
        }
    }

    /// The hash by which the flow table finds the sender's record of a flow.
    fn hash(&self, packet: &Packet) -> u32 {
        let ports = u32::from(packet.ports.0) << 16 | u32::from(packet.ports.1);
        self.shard.flows.hash_ipv4(0, packet.from, packet.to, ports, 17)
    }

    /// Runs so many packets, in bursts.
    fn run(&mut self, packets: u64, mut packet: impl FnMut(u64) -> Packet) -> Figures {
        let mut figures = Figures::default();
        let mut next = 0;
        while next < packets {
            self.bytes.clear();
            self.inputs.clear();
            while next < packets && self.inputs.len() < BURST {
                let start = self.bytes.len();
                self.templates.write(&packet(next), &mut self.bytes);
                let end = self.bytes.len();
                self.bytes.resize(start + STRIDE, 0);
                let (start, end) = (start as u32, end as u32);
                self.inputs.push(Input { start, end, original: end - start, port: FABRIC, now: self.now });
                self.now += TICK;
                next += 1;
            }
            let waited = waited();
            let begin = Instant::now();
            self.results.clear();
            let context = Context::new(&self.program, &self.occupancy);
            let (received, shard) = (&mut self.received, &mut self.shard);
            process(context, Some(received), shard, &self.bytes, &self.inputs, &mut self.results);
            for (_, _, of) in &self.results.errors {
                self.rate.allow(*of, self.now);
            }
            let took = begin.elapsed();
            figures.add(took, waited);
            self.count(&mut figures);
        }
        figures.memory = self.shard.memory();
        figures
    }

    fn count(&self, figures: &mut Figures) {
        let results = &self.results;
        assert_eq!(results.done.len(), self.inputs.len(), "packets were lost");
        let mut frames = results.errors.len();
        for (n, done) in results.done.iter().enumerate() {
            let end = match done.verdict {
                Verdict::Forward => "forward",
                Verdict::Drop(reason) | Verdict::Punt(reason) => reason.name(),
            };
            if done.verdict == Verdict::Forward {
                frames += 1;
                let egress = results.outcome(&self.program, n).egress;
                assert!(egress.is_some_and(|e| e.tunnel.is_some()), "a packet left without GRE");
            }
            *figures.ends.entry(end).or_default() += 1;
            figures.opened += u64::from(done.flow == FlowState::New);
            figures.packets += 1;
        }
        assert_eq!(results.output.frames.len(), frames, "one frame for each forwarded packet and each error");
    }

    /// UDP flows between the NICs whose hashes have these bits in common.
    fn colliding(&self, bits: u32, count: usize) -> Vec<Packet> {
        let all = (0..u32::MAX).map(|n| udp((1024 + (n % 60_000) as u16, 1024 + (n / 60_000) as u16)));
        let first = self.hash(&udp((1024, 1024)));
        all.filter(|packet| (self.hash(packet) ^ first) & bits == 0).take(count).collect()
    }
}

/// Rules that make the structures of a list large and its answers late: nested prefixes, nested ranges of ports, several
/// protocols. Each matches the packets of the attack in all but one field, which takes turns. The last denies a port.
fn explosion(count: usize, direction: Direction) -> Vec<Rule> {
    let rule = |n: usize| {
        let prefixes = |near: [u8; 4], matching: bool| AddressMatch {
            items: (0..4)
                .map(|k| {
                    let random = mix((n * 4 + k) as u64);
                    let mut address = u32::from_be_bytes(near);
                    let mut len = 8 + (n * 5 + k * 7) % 24;
                    if !matching || k > 1 {
                        // Somewhere in 10.64.0.0/10.
                        (address, len) = (10 << 24 | 64 << 16 | random as u32 & 0x3f_ffff, 12 + len % 20);
                    }
                    AddressItem::Prefix(Prefix::new(address.to_be_bytes().into(), len as u8))
                })
                .collect(),
            asgs: Vec::new(),
        };
        let far = |k: usize| (61_500 + ((n * 4 + k) * 5 % 3500) as u16, 65_100 + (n * 3 % 400) as u16);
        let around = |k: usize| ((n * 4 + k) as u16 % 1024, 61_100 + ((n * 7 + k) % 4000) as u16);
        let ports =
            |matching: bool| (0..4).map(|k| if matching && k < 2 { around(k) } else { far(k) }).collect();
        let wrong = n % 4;
        Rule {
            name: format!("explosion-{n}"),
            priority: 100 + n as u16,
            direction,
            access: Access::Deny,
            protocol: match wrong {
                3 => [RuleProtocol::Esp, RuleProtocol::Ah][n / 4 % 2],
                _ => [RuleProtocol::Udp, RuleProtocol::Any][n / 4 % 2],
            },
            source: prefixes(SENDER.octets(), wrong != 0),
            destination: prefixes(NEIGHBOUR.octets(), wrong != 1),
            source_ports: if wrong == 3 { vec![(0, 65_535)] } else { ports(wrong != 2) },
            destination_ports: if wrong == 3 { vec![(0, 65_535)] } else { ports(true) },
        }
    };
    let any = AddressMatch { items: vec![AddressItem::Any], asgs: Vec::new() };
    let last = Rule {
        name: "last".to_owned(),
        priority: 4096,
        direction,
        access: Access::Deny,
        protocol: RuleProtocol::Any,
        source: any.clone(),
        destination: any,
        source_ports: vec![(0, 65_535)],
        destination_ports: vec![(DENIED, DENIED)],
    };
    (0..count - 1).map(rule).chain([last]).collect()
}

/// The configuration of the other benches with exploding rules: outbound where packets begin, inbound where they end.
fn exploding(rules: usize, routes: usize) -> Model {
    let mut model = model(&configuration(10, routes));
    let customer: &mut Customer = Arc::make_mut(&mut model.customers[0]);
    for nsg in &mut customer.nsgs {
        let nsg = Arc::make_mut(nsg);
        let direction = if nsg.name.ends_with('a') { Direction::Outbound } else { Direction::Inbound };
        nsg.rules = explosion(rules, direction);
    }
    model
}

/// A line of the table.
fn print(name: &str, figures: &Figures) {
    let Figures { packets, busy, bursts, alone, ends, opened, memory } = figures;
    let ns = busy.as_nanos() as f64 / (*packets).max(1) as f64;
    let mut bursts: Vec<f64> = bursts.iter().map(|b| b.as_secs_f64() * 1e6).collect();
    bursts.sort_by(f64::total_cmp);
    let at = |share: f64| bursts.get((bursts.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let worst = bursts.last().copied().unwrap_or(0.0);
    let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    println!(
        "{name:<34}{:>9.2}{ns:>9.0}{:>10.0}{worst:>10.0}{:>10.0}{:>8.1}  {}, {opened} opened a flow",
        1000.0 / ns.max(1e-9),
        at(0.999),
        alone.as_secs_f64() * 1e6,
        *memory as f64 / (1 << 20) as f64,
        ends.join(", ")
    );
}

/// What all packets must become.
fn all(figures: &Figures, end: &str) {
    assert_eq!(figures.ends.get(end), Some(&figures.packets), "{:?}", figures.ends);
}

fn main() {
    let timed = Run::asked() == Run::Timed;
    let (rules, routes, count) = if timed { (1000, 1000, 1 << 18) } else { (40, 10, 600) };
    println!(
        "{:<34}{:>9}{:>9}{:>10}{:>10}{:>10}{:>8}",
        "", "Mpps", "ns", "99.9 % us", "worst us", "alone us", "MiB"
    );
    let usual = model(&configuration(rules, routes));
    let row = |name: &str, figures: &Figures| {
        if timed {
            print(name, figures);
        }
    };

    // Nobody knows the seed: patterns that a weak hash would fall for.
    type Pattern = fn(u64) -> Packet;
    let patterns: [(&str, Pattern); 3] =
        [("ports scattered", scattered), ("ports in order", in_order), ("same low bits", same_low_bits)];
    for (name, pattern) in patterns {
        let mut target = Target::new(&usual);
        let figures = target.run(count, pattern);
        all(&figures, "forward");
        row(&format!("{name}, new"), &figures);
        // The second packet of a flow finds its way, the third takes it.
        let shuffled = |n: u64| pattern(n * 2_654_435_761 % count);
        all(&target.run(count, shuffled), "forward");
        let figures = target.run(count, shuffled);
        all(&figures, "forward");
        row(&format!("{name}, known"), &figures);
        walk(&mut target, timed);
    }

    // The seed is known: keys that may stand in one pair of buckets only, of all segments or, once there are many, of two.
    let known = [("empty table", 0, 0xffff, 4096), ("table in use", count, 0xff00_ffff, 160)];
    for (name, filled, bits, keys) in known {
        let mut target = Target::new(&usual);
        let keys = if timed { target.colliding(bits, keys) } else { target.colliding(0xff, 64) };
        target.run(filled, |n| Packet { to: NEIGHBOUR.to_bits() ^ 0x40, ..in_order(n) });
        for turn in ["new", "again"] {
            let figures = target.run(count.min(1 << 15), |n| keys[n as usize % keys.len()]);
            let forwarded = figures.ends.get("forward").copied().unwrap_or(0);
            let full = figures.ends.get(Reason::FlowTableFull.name()).copied().unwrap_or(0);
            assert_eq!(forwarded + full, figures.packets, "{:?}", figures.ends);
            assert!(forwarded > 0 && (!timed || full > 0), "{name}: {:?}", figures.ends);
            row(&format!("seed known, {name}, {turn}"), &figures);
        }
    }

    // Rules made so that their structures are large; every packet opens a flow.
    let rules = exploding(rules, routes);
    let begin = Instant::now();
    let mut target = Target::new(&rules);
    let (compiled, program) = (begin.elapsed(), target.program.memory());
    for (name, pattern) in
        [("rules exploding, NIC to NIC", in_order as Pattern), ("rules exploding, anywhere", anywhere)]
    {
        let figures = target.run(count, pattern);
        all(&figures, "forward");
        row(name, &figures);
        target.shard = Shard::new(Default::default());
        target.occupancy = Occupancy::default();
        target.occupancy.grow(&target.program);
    }
    if timed {
        let (ms, mib) = (compiled.as_secs_f64() * 1000.0, program as f64 / (1 << 20) as f64);
        println!("  the program with these rules is compiled in {ms:.0} ms and holds {mib:.1} MiB");
    }

    // Floods of what is not forwarded, or leaves something behind.
    let few = count.min(1 << 17);
    let flood = |kind: Kind| move |n: u64| Packet { kind, id: n as u16, ..in_order(n) };
    let figures =
        target.run(count, |n| Packet { ports: (1024 + (n % 60_000) as u16, DENIED), ..in_order(n) });
    all(&figures, Reason::NsgDeny.name());
    row("denied by the last rule", &figures);
    for (name, kind, packets, end) in [
        ("TCP ACK without flow", Kind::Ack, count, Reason::TcpNoFlow.name()),
        ("later fragments without first", Kind::Later, count, Reason::FragmentOrphan.name()),
        ("TTL ends here, an ICMP error each", Kind::Expiring, count, Reason::TtlExpired.name()),
        ("first fragments", Kind::First, few, "forward"),
    ] {
        let figures = target.run(packets, flood(kind));
        all(&figures, end);
        row(name, &figures);
    }
    // What they left is forgotten at once, as after a pause.
    target.now += 31 * SECOND;
    let figures = target.run(BURST as u64, in_order);
    row("behind them, after 31 s", &figures);
    target.now += 241 * SECOND;
    let figures = target.run(few, scattered);
    row("all flows idle out meanwhile", &figures);

    datagrams(timed);
    senders(timed);
}

/// What a change of a VNet's configuration costs who has the records of another.
fn walk(target: &mut Target, timed: bool) {
    let flows = &mut target.shard.flows;
    let begin = Instant::now();
    flows.retain_of(usize::MAX, |owner| owner.vnet == u32::MAX, |_, _| false, |_| ());
    let (ns, records) = (begin.elapsed().as_nanos() as f64, flows.len());
    if timed {
        println!("  a look at the owners of {records} records: {:.1} ns each", ns / records as f64);
    }
}

/// The table of fragments by itself: as many datagrams as it holds, and as many again once those have expired.
fn datagrams(timed: bool) {
    let mut fragments = Fragments::new(Default::default());
    let count = if timed { CAPACITY as u32 } else { 600 };
    for (name, at) in [("table of fragments, growing", 0), ("table of fragments, grown", ADMITTED)] {
        let mut figures = Figures::default();
        for n in (0..count).step_by(BURST) {
            let waited = waited();
            let begin = Instant::now();
            for n in n..(n + BURST as u32).min(count) {
                let key = FragmentKey {
                    vnet: 1,
                    origin: 1,
                    source: SENDER.into(),
                    destination: NEIGHBOUR.into(),
                    protocol: 17,
                    identification: n,
                };
                let admission =
                    Admission { at, has_flow: true, rule: None, slots: [None, None], initiated: None };
                fragments.admit(key, admission);
                figures.packets += 1;
            }
            figures.add(begin.elapsed(), waited);
        }
        assert_eq!(fragments.len(), count as usize, "all are held");
        if timed {
            print(name, &figures);
        }
    }
}

/// The rate of ICMP errors, behind the path, when more senders than are counted ask for errors within one second.
fn senders(timed: bool) {
    let mut rate = ErrorRate::default();
    let most: u32 = if timed { 65_536 } else { 256 };
    for (name, from, to, at) in [
        ("ICMP errors, 65,536 senders", 0, most, SECOND),
        ("ICMP errors, more senders", most, 5 * most, SECOND),
        ("ICMP errors, a second later", 5 * most, 6 * most, 2 * SECOND),
    ] {
        let (mut figures, mut sent) = (Figures::default(), 0);
        for n in (from..to).step_by(BURST) {
            let waited = waited();
            let begin = Instant::now();
            for n in n..(n + BURST as u32).min(to) {
                let of = ErrorsOf { vnet: 1, party: 0, address: Some(n.to_be_bytes().into()) };
                sent += u32::from(rate.allow(of, at));
                figures.packets += 1;
            }
            figures.add(begin.elapsed(), waited);
        }
        if timed {
            let expected = if from == most { 100 } else { to - from };
            assert_eq!(sent, expected, "{name}: one each, and a hundred for the crowd");
            print(name, &figures);
        }
    }
}
