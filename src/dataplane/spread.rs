//! Which worker a packet belongs to: the same for both directions of a flow, and for all fragments.

use std::net::IpAddr;

use super::ingress::{Arrival, ingress};
use super::path::Input;
use crate::compile::Program;
use crate::sys::{self, Wide, Work};
use crate::table::ecmp::mix;
use crate::wire::{be32, icmp, protocol};

/// How far ahead frames are fetched.
const AHEAD: usize = 16;

/// The worker of so many that a spread means.
#[inline(always)]
pub fn worker(spread: u32, workers: usize) -> usize {
    ((u64::from(spread) * workers as u64) >> 32) as usize
}

/// The number that says which worker a flow belongs to.
#[inline]
pub fn spread(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => spread_v4(a.to_bits(), b.to_bits()),
        (a, b) => {
            let bits = |addr: IpAddr| match addr {
                IpAddr::V4(a) => u128::from(a.to_bits()),
                IpAddr::V6(a) => a.to_bits(),
            };
            let hash = |x: u128| mix(mix((x >> 64) as u64 ^ 6) ^ x as u64);
            mix(hash(bits(a)).wrapping_add(hash(bits(b)))) as u32
        }
    }
}

/// Of what two addresses share whichever comes first: the highest bits of a product, which all bits have a part in.
#[inline(always)]
fn spread_v4(a: u32, b: u32) -> u32 {
    let shared = u64::from(a ^ b) << 32 | u64::from(a.wrapping_add(b));
    (shared.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Bits of the headers of a frame of the usual shape, from its EtherType on, that are always the same: IPv4 in GRE with
/// nothing but a key, in IPv4 without options.
const USUAL: [[u8; 40]; 2] = {
    let (mut mask, mut wanted) = ([0; 40], [0; 40]);
    let always = [
        (0, 0xff, 0x08),
        (1, 0xff, 0x00),
        (2, 0xff, 0x45),
        (11, 0xff, protocol::GRE),
        (22, 0xff, 0x20),
        (23, 0xff, 0x00),
        (24, 0xff, 0x08),
        (25, 0xff, 0x00),
        (30, 0xf0, 0x40),
    ];
    let mut n = 0;
    while n < always.len() {
        let (at, bits, value) = always[n];
        (mask[at], wanted[at]) = (bits, value);
        n += 1;
    }
    [mask, wanted]
};

/// [`spread`] of the packet inside a frame of the usual shape. `None` of any other, which has to be parsed first.
#[inline(always)]
pub fn spread_of_frame(frame: &[u8]) -> Option<u32> {
    let head: &[u8; 50] = frame.get(12..62)?.first_chunk()?;
    let [mask, wanted] = &USUAL;
    let mut wrong = 0;
    for n in 0..mask.len() {
        wrong |= head[n] & mask[n] ^ wanted[n];
    }
    // An ICMP error may belong to a flow of other addresses.
    (wrong == 0 && head[39] != protocol::ICMP).then(|| spread_v4(be32(head, 42), be32(head, 46)))
}

/// Adds each of these frames, which lie among `bytes`, to the list of its worker.
pub fn sort(program: &Program, bytes: &[u8], inputs: &[Input], lists: &mut [Vec<Input>]) {
    sys::widest(Sort { program, bytes, inputs, lists });
}

struct Sort<'a> {
    program: &'a Program,
    bytes: &'a [u8],
    inputs: &'a [Input],
    lists: &'a mut [Vec<Input>],
}

impl Work for Sort<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, _wide: W) {
        let Sort { program, bytes, inputs, lists } = self;
        let workers = lists.len();
        for (n, input) in inputs.iter().enumerate() {
            if let Some(later) = inputs.get(n + AHEAD) {
                sys::prefetch_two(bytes, later.start as usize);
            }
            let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
            let spread = match spread_of_frame(frame) {
                Some(spread) => spread,
                None => spread_of_other(program, input, frame),
            };
            if let Some(list) = lists.get_mut(worker(spread, workers)) {
                list.push(*input);
            }
        }
    }
}

/// [`spread_of_arrival`] of the packet inside any frame; 0 if there is none.
#[cold]
fn spread_of_other(program: &Program, input: &Input, frame: &[u8]) -> u32 {
    let arrival = ingress(program, None, input.port, frame, input.original);
    arrival.map_or(0, |arrival| spread_of_arrival(&arrival, frame))
}

/// [`spread`] of a packet; of an ICMP error, that of the flow it quotes, whose records its worker has to ask.
pub fn spread_of_arrival(arrival: &Arrival, frame: &[u8]) -> u32 {
    let (from, to) = quoted(arrival, frame).unwrap_or((arrival.inner.source, arrival.inner.destination));
    spread(from, to)
}

/// The addresses of the packet that an ICMP error quotes.
pub fn quoted(arrival: &Arrival, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let inner = &arrival.inner;
    let ipv4 = inner.source.is_ipv4();
    if !inner.is_icmp() || inner.is_later_fragment() || !icmp::quotes_a_flow(ipv4, inner.icmp_type) {
        return None;
    }
    let packet = frame.get(arrival.at as usize..)?;
    let quote = icmp::parse_quote(packet.get(inner.transport as usize..inner.total as usize)?, ipv4)?;
    Some((quote.source, quote.destination))
}
