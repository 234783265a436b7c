//! Frame bytes to verdicts: a few frames, one behind the other, on the ports of one configuration.

use std::sync::LazyLock;

use ahash::RandomState;
use clearway::compile::names::Names;
use clearway::compile::{Program, compile};
use clearway::dataplane::ingress::ingress;
use clearway::dataplane::state::{ErrorRate, Received, Sent};
use clearway::dataplane::{Brief, Context, Done, Input, Occupancy, Results, Shard, Trace, forward, process};
use clearway::model::{self, Model};
use clearway::packet::{FlowState, Outcome, Verdict};
use clearway::runtime::Finished;
use clearway::table::records::Phase;
use clearway::wire::{checksum, ethernet, gre, ip, protocol};

use crate::oracle::Expected;
use crate::oracle::compare::{self, Case};
use crate::oracle::generate::traffic::{Packet, START};

const TEXT: &str = include_str!("frames.yaml");

/// The configuration.
pub static MODEL: LazyLock<Model> = LazyLock::new(|| {
    model::from_bytes("frames.yaml", TEXT.as_bytes(), None).unwrap_or_else(|faults| panic!("{faults:?}"))
});

static PROGRAM: LazyLock<Program> = LazyLock::new(|| compile(&MODEL, &mut Names::default()));

/// One frame of an input: port(1) gap(1) length(2, big-endian) bytes.
pub struct Frame<'a> {
    /// Index of the port.
    pub port: u16,
    /// Nanoseconds since the frame before: none, or a power of two.
    pub gap: u64,
    /// How long it was when it was received.
    pub original: u32,
    /// What was captured.
    pub bytes: &'a [u8],
}

/// Splits an input; what is cut at its end is a frame that was cut when it was captured.
pub fn split(mut input: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((&[port, gap, high, low], rest)) = input.split_first_chunk::<4>() {
        let length = u16::from_be_bytes([high, low]);
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(length)));
        let port = u16::from(port) % MODEL.ports.len() as u16;
        let gap = if gap == 0 { 0 } else { 1 << (gap % 40) };
        frames.push(Frame { port, gap, original: u32::from(length), bytes });
        input = rest;
    }
    frames
}

/// No panic; facts that fit together; only frames that are in order are sent, each within its port's MTU; the same whether
/// the way is told or not, for any number of workers, and as the oracle says.
pub fn run(bytes: &[u8]) {
    let frames = split(bytes);
    let case = case(&frames);
    let told = walk(&frames, &case, true);
    assert_eq!(told, walk(&frames, &case, false));
    let said = told.0;
    // Workers are threads; starting them takes longer than everything else.
    let number = super::number_of(bytes);
    let expected = case.oracle(&case.packets).records;
    if expected != said || number.is_multiple_of(32) {
        // Says more, and with as few packets as show it.
        compare::check(&case, 1 + usize::from(number.is_multiple_of(64)));
        assert_eq!(expected, said);
    }
}

/// The path with everything in one hand: all frames at once, or each told step by step. What it says of each, and what flow
/// logs are told.
fn walk(frames: &[Frame<'_>], case: &Case, tell: bool) -> (Vec<Expected>, Vec<String>) {
    let program = &*PROGRAM;
    let ports: Vec<String> = program.ports.iter().map(|p| p.name.clone()).collect();
    let mut shard = Shard::new(RandomState::with_seeds(1, 2, 3, 4));
    let mut occupancy = Occupancy::default();
    occupancy.grow(program);
    shard.flows.count_traffic();
    let (mut received, mut sent, mut rate) = (Received::default(), Sent::default(), ErrorRate::default());
    let context = Context::new(program, &occupancy);
    let (mut results, mut bytes, mut inputs) = (Results::default(), Vec::new(), Vec::new());
    for (frame, packet) in frames.iter().zip(&case.packets) {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(frame.bytes);
        let (end, now) = (bytes.len() as u32, packet.time);
        inputs.push(Input { start, end, original: frame.original, port: frame.port, now });
    }
    if tell {
        for (frame, input) in frames.iter().zip(&inputs) {
            let opened = shard.flows.opened();
            let (mut trace, now) = (Trace::on(), input.now);
            let arrival = ingress(program, Some(&mut received), frame.port, frame.bytes, frame.original);
            let done = match arrival {
                Err(outcome) => Done::early(outcome),
                Ok(arrival) => {
                    shard.reap_all(&occupancy, now);
                    let out = &mut results.output;
                    forward(context, &mut shard, &arrival, frame.bytes, now, out, &mut trace)
                }
            };
            assert_eq!(u64::from(done.opened), shard.flows.opened() - opened);
            results.push(&done);
        }
    } else {
        process(context, Some(&mut received), &mut shard, &bytes, &inputs, &mut results);
    }
    let mut said = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let (brief, now) = (results.done[number], input.now);
        let outcome = results.outcome(program, number);
        let mut error = results.errors.iter().find(|e| e.0 as usize == number).map(|e| (e.1, e.2));
        check_outcome(&outcome, &brief, error.is_some());
        let mut range = brief.frames.0 as usize..brief.frames.1 as usize;
        if error.is_some_and(|(_, of)| !rate.allow(of, now)) {
            error = None;
            range.end = range.start;
        }
        let out = &mut results.output;
        for numbered in out.numbered.iter().filter(|n| range.contains(&(n.frame as usize))) {
            let number = sent.next(numbered.tunnel, numbered.remote);
            out.bytes[numbered.at as usize..][..4].copy_from_slice(&number.to_be_bytes());
        }
        let sent: Vec<(u16, &[u8])> = out.frames[range]
            .iter()
            .map(|f| (f.port, &out.bytes[f.start as usize..f.end as usize]))
            .collect();
        for (port, frame) in &sent {
            check_frame(program, *port, frame);
        }
        let finished = Finished {
            number: number as u64 + 1,
            port: input.port,
            time: now,
            digits: 9,
            now,
            captured: frames[number].bytes,
            original: input.original,
            verdict: brief.verdict,
            outcome: Some(outcome),
            error: error.map(|e| e.0),
            frames: &sent,
            program,
        };
        said.push(compare::said(&finished, &ports));
    }
    let now = inputs.last().map_or(0, |i| i.now);
    assert!(shard.flows.live(now) <= shard.flows.opened());
    (said, flows_told(&mut shard, &occupancy, now))
}

/// What flow logs are told of all flows until now. A batch is looked at for records that have expired only before it.
fn flows_told(shard: &mut Shard, occupancy: &Occupancy, now: u64) -> Vec<String> {
    shard.reap_all(occupancy, now);
    shard.flows.tell_going_on(1, u32::MAX, now, 0);
    let (events, lost) = shard.flows.take_events();
    assert_eq!(lost, 0);
    let opened = events.iter().filter(|e| e.phase == Phase::Begun).count();
    assert_eq!(opened as u64, shard.flows.opened());
    let mut told: Vec<String> = events.iter().map(|e| format!("{e:?}")).collect();
    told.sort_unstable();
    told
}

fn check_outcome(outcome: &Outcome, brief: &Brief, error: bool) {
    let sent = brief.frames.1 - brief.frames.0;
    assert!(outcome.vnet.is_none() || outcome.customer.is_some());
    assert_eq!((outcome.verdict, outcome.flow), (brief.verdict, brief.flow));
    match outcome.verdict {
        Verdict::Forward => {
            assert!(outcome.egress.is_some() && outcome.route.is_some() && outcome.vnet.is_some());
            assert!(sent >= 1 && !error);
            assert_eq!(outcome.flow == FlowState::New, brief.opened > 0);
        }
        Verdict::Drop(reason) | Verdict::Punt(reason) => {
            assert!(outcome.egress.is_none() && outcome.flow != FlowState::New && brief.opened == 0);
            assert!(outcome.route.is_none() || reason.step() >= 8 || reason.step() == 7);
            assert_eq!(sent, u32::from(error));
            assert_eq!(reason.is_punt(), matches!(outcome.verdict, Verdict::Punt(_)));
        }
    }
}

/// A frame that we send has no tags and no padding, right lengths and checksums, and fits its port.
fn check_frame(program: &Program, port: u16, frame: &[u8]) {
    let port = &program.ports[usize::from(port)];
    let link = ethernet::parse(frame).expect("an Ethernet header");
    assert_eq!(link.payload, ethernet::HEADER);
    let packet = &frame[link.payload..];
    assert!(packet.len() <= port.mtu as usize, "{} bytes on {}", packet.len(), port.name);
    let ipv4 = link.ether_type == ethernet::IPV4;
    assert!(ipv4 || link.ether_type == ethernet::IPV6);
    if ip::first_protocol(packet, ipv4) != protocol::GRE {
        return check_customer_packet(packet, ipv4, true);
    }
    let outer = ip::parse_outer(packet, ipv4).expect("an outer header");
    assert_eq!(outer.end, packet.len());
    let gre_packet = &packet[outer.payload..outer.end];
    let header = gre::parse(gre_packet).expect("a GRE header");
    let mut inner = &gre_packet[header.header..];
    let mut inner_type = header.protocol;
    let nvgre = inner_type == gre::ETHERNET;
    if nvgre {
        let link = ethernet::parse(inner).expect("an inner Ethernet header");
        assert_eq!(link.payload, ethernet::HEADER);
        inner_type = link.ether_type;
        inner = &inner[link.payload..];
    }
    // From one NVGRE tunnel to another the time to live is left alone.
    check_customer_packet(inner, inner_type == gre::IPV4, !nvgre);
}

fn check_customer_packet(packet: &[u8], ipv4: bool, alive: bool) {
    let inner = ip::parse_inner(packet, ipv4).unwrap_or_else(|| panic!("sent: {packet:02x?}"));
    assert_eq!(inner.total as usize, packet.len());
    assert!(inner.ttl > 0 || !alive);
    if ipv4 {
        let header = usize::from(packet[0] & 15) * 4;
        assert!(checksum::is_right(&packet[..header]));
    }
}

/// The frames as the oracle wants them.
fn case(frames: &[Frame<'_>]) -> Case {
    let mut time = START;
    let packets = frames.iter().map(|frame| {
        time += frame.gap;
        let port = MODEL.ports[usize::from(frame.port)].name.clone();
        Packet { port, time, bytes: frame.bytes.to_vec(), original_len: frame.original }
    });
    let packets = packets.collect();
    let texts = vec![TEXT.to_string()];
    Case { seed: 0, texts, models: vec![MODEL.clone()], swaps: Vec::new(), packets }
}
