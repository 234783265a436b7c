//! Frame bytes to verdicts: a few frames, one behind the other, on the ports of one configuration.

use std::sync::LazyLock;

use ahash::RandomState;
use clearway::compile::names::Names;
use clearway::compile::{Program, compile};
use clearway::dataplane::ingress::ingress;
use clearway::dataplane::state::Received;
use clearway::dataplane::{Context, Done, Occupancy, Output, Shard, Trace, forward};
use clearway::model::{self, Model};
use clearway::packet::{FlowState, Outcome, Verdict};
use clearway::runtime::{Finished, Replay};
use clearway::wire::{checksum, ethernet, gre, ip, protocol};

/// The configuration.
pub static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let text = include_bytes!("frames.yaml");
    model::from_bytes("frames.yaml", text, None).unwrap_or_else(|faults| panic!("{faults:?}"))
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

/// What became of one frame: facts about it, records opened, and what was sent because of it.
type Said = (Outcome, u8, Vec<(u16, Vec<u8>)>);

/// No panic; facts that fit together; only frames that are in order are sent, each within its port's MTU; the same whether
/// the way is told or not, and for any number of workers.
pub fn run(bytes: &[u8]) {
    let frames = split(bytes);
    let told = walk(&PROGRAM, &frames, true);
    let untold = walk(&PROGRAM, &frames, false);
    assert_eq!(told, untold);
    // Workers are threads; starting them takes longer than everything else.
    if super::number_of(bytes).is_multiple_of(64) {
        let (one, two) = (replay(&frames, 1), replay(&frames, 2));
        assert_eq!(one, two);
    }
}

/// The path with everything in one hand.
fn walk(program: &Program, frames: &[Frame<'_>], tell: bool) -> Vec<Said> {
    let mut shard = Shard::new(RandomState::with_seeds(1, 2, 3, 4));
    let mut occupancy = Occupancy::default();
    occupancy.grow(program);
    let (mut received, mut now, mut said) = (Received::default(), 1_000_000_000, Vec::new());
    for frame in frames {
        now += frame.gap;
        let mut out = Output::default();
        let mut trace = if tell { Trace::on() } else { Trace::off() };
        let opened = shard.flows.opened();
        let done = match ingress(program, &mut received, frame.port, frame.bytes, frame.original) {
            Err(outcome) => Done::early(outcome),
            Ok(arrival) => {
                shard.reap(&occupancy, now);
                let context = Context { program, occupancy: &occupancy, quoted: None };
                forward(context, &mut shard, &arrival, frame.bytes, now, &mut out, &mut trace)
            }
        };
        check_outcome(&done, shard.flows.opened() - opened);
        let sent: Vec<_> = out.frames.iter().map(|f| (f.port, f)).collect();
        for (port, frame) in &sent {
            check_frame(program, *port, &out.bytes[frame.start as usize..frame.end as usize]);
        }
        let bytes = |f: &clearway::dataplane::Frame| out.bytes[f.start as usize..f.end as usize].to_vec();
        said.push((done.outcome, done.opened, sent.iter().map(|(port, f)| (*port, bytes(f))).collect()));
    }
    assert!(shard.flows.live(now) <= shard.flows.opened());
    said
}

fn check_outcome(done: &Done, opened: u64) {
    let outcome = &done.outcome;
    let sent = done.frames.1 - done.frames.0;
    assert!(outcome.vnet.is_none() || outcome.customer.is_some());
    assert_eq!(u64::from(done.opened), opened);
    match outcome.verdict {
        Verdict::Forward => {
            assert!(outcome.egress.is_some() && outcome.route.is_some() && outcome.vnet.is_some());
            assert!(sent >= 1 && done.error.is_none());
            assert_eq!(outcome.flow == FlowState::New, opened > 0);
        }
        Verdict::Drop(reason) | Verdict::Punt(reason) => {
            assert!(outcome.egress.is_none() && outcome.flow != FlowState::New && opened == 0);
            assert!(outcome.route.is_none() || reason.step() >= 8 || reason.step() == 7);
            assert_eq!(sent, u32::from(done.error.is_some()));
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

/// The path as a run takes it.
fn replay(frames: &[Frame<'_>], workers: usize) -> Vec<Said> {
    let mut replay = Replay::new(&MODEL, workers, Vec::new());
    let (mut now, mut said) = (1_000_000_000, Vec::new());
    let mut sink = |finished: Finished<'_>| -> Result<(), ()> {
        let sent = finished.frames.iter().map(|(port, bytes)| (*port, bytes.to_vec())).collect();
        said.push((finished.done.outcome, finished.done.opened, sent));
        Ok(())
    };
    for frame in frames {
        now += frame.gap;
        replay.push(frame.port, now, 9, frame.bytes, frame.original, &mut sink).expect("the sink takes all");
    }
    let totals = replay.finish(&mut sink).expect("the sink takes all");
    assert_eq!(totals.opened, said.iter().map(|said| u64::from(said.1)).sum::<u64>());
    assert_eq!(said.len(), frames.len());
    said
}
