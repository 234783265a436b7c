//! Which worker a packet belongs to: the same for both directions of a flow, and for all fragments.

use std::net::IpAddr;

use super::ingress::ingress;
use super::path::Input;
use super::usual::{self, Head};
use crate::compile::Program;
use crate::sys::{self, Blocks, Turned, Wide, Work};
use crate::table::ecmp::mix;
use crate::wire::protocol;

/// Frames that are looked at together.
const TOGETHER: usize = 16;

/// How far ahead of them frames are fetched.
const AHEAD: usize = 2 * TOGETHER;

/// The number that says which worker a flow belongs to.
#[inline]
pub fn spread(a: IpAddr, b: IpAddr) -> u64 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(spread_v4(a.to_bits(), b.to_bits())),
        (a, b) => {
            let bits = |addr: IpAddr| match addr {
                IpAddr::V4(a) => u128::from(a.to_bits()),
                IpAddr::V6(a) => a.to_bits(),
            };
            let hash = |x: u128| mix(mix((x >> 64) as u64 ^ 6) ^ x as u64);
            mix(hash(bits(a)).wrapping_add(hash(bits(b))))
        }
    }
}

/// Of what two addresses share whichever comes first.
#[inline(always)]
fn spread_v4(a: u32, b: u32) -> u32 {
    let mixed = (a ^ b).wrapping_mul(0x9e37_79b1) ^ a.wrapping_add(b).wrapping_mul(0x85eb_ca77);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
    mixed ^ mixed >> 16
}

/// [`spread`] of the packet inside a frame of the usual shape: IPv4 in GRE with nothing but a key, in IPv4 without
/// options. `None` of any other, which has to be parsed first.
#[inline]
pub fn spread_of_frame(frame: &[u8]) -> Option<u64> {
    let head: &[u8; 62] = frame.first_chunk()?;
    let usual = head[12..15] == [0x08, 0x00, 0x45]
        && head[23] == protocol::GRE
        && head[34..38] == [0x20, 0x00, 0x08, 0x00]
        && head[42] >> 4 == 4
        // An ICMP error may belong to a flow of other addresses.
        && head[51] != protocol::ICMP;
    let addr = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    usual.then(|| spread(addr(54), addr(58)))
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
    fn run<W: Wide>(self, wide: W) {
        let Sort { program, bytes, inputs, lists } = self;
        let workers = lists.len() as u64;
        inputs.iter().take(AHEAD).for_each(|input| sys::prefetch_two(bytes, input.start as usize));
        let (mut turned, mut spreads, mut known) =
            (Turned([[0; TOGETHER]; TOGETHER]), [0; TOGETHER], [0; TOGETHER]);
        for (number, together) in inputs.chunks(TOGETHER).enumerate() {
            let mut blocks: Blocks<'_> = [&usual::NOTHING; TOGETHER];
            for (n, (input, block)) in together.iter().zip(&mut blocks).enumerate() {
                if let Some(later) = inputs.get(number * TOGETHER + n + AHEAD) {
                    sys::prefetch_two(bytes, later.start as usize);
                }
                if let Some(there) = usual::block(bytes, input.start) {
                    *block = there;
                }
            }
            wide.turn(&blocks, &mut turned);
            for n in 0..TOGETHER {
                let head = Head::new(&turned, n);
                spreads[n] = spread_v4(head.source(), head.destination());
                known[n] = u32::from(head.is_spread());
            }
            for ((input, spread), known) in together.iter().zip(&spreads).zip(&known) {
                let spread =
                    if *known == 0 { spread_of_other(program, bytes, input) } else { u64::from(*spread) };
                let whose = ((spread & 0xffff_ffff) * workers) >> 32;
                if let Some(list) = lists.get_mut(whose as usize) {
                    list.push(*input);
                }
            }
        }
    }
}

/// [`spread`] of the packet inside any frame; 0 if there is none.
#[cold]
fn spread_of_other(program: &Program, bytes: &[u8], input: &Input) -> u64 {
    let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
    let arrival = ingress(program, None, input.port, frame, input.original);
    arrival.map_or(0, |arrival| spread(arrival.inner.source, arrival.inner.destination))
}
