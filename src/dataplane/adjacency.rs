//! Adjacencies: the bytes in front of a packet that leaves by a port and tunnel, made once and copied from then on.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;

use super::emit::{Output, Sending};
use super::usual::Leaving;
use crate::compile::origins::PLAIN;
use crate::compile::{CircuitLink, Program};
use crate::model::Sequence;
use crate::sys::prefetch_index;
use crate::wire::checksum;

/// Ethernet, IPv4 and GRE with a key are 42 bytes; the rest is over-copied and overwritten.
const TEMPLATE: usize = 48;
/// Where the outer IPv4 header begins.
const OUTER: usize = 14;
/// Adjacencies at most; beyond, all are made anew as they are needed.
const CAPACITY: usize = 1 << 20;

/// One cache line: what is in front of a packet, and how large the packet may be.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adjacency {
    template: [u8; TEMPLATE],
    /// The sum of the outer header without its type of service and the length of the packet inside.
    sum: u32,
    /// The largest packet.
    room: u32,
    port: u16,
    /// How much of the template is used.
    length: u8,
    /// Where the second of the two pieces begins in which it is copied.
    second: u8,
    /// To which circuit link it leads ([`CircuitLink::outwards`]); 0: to none.
    link: u32,
}

impl Adjacency {
    /// The adjacency of a way out, if all its frames begin alike but for length and type of service: IPv4 or plain,
    /// without sequence numbers or Ethernet inside.
    fn new(program: &Program, sending: Sending, head: &mut Output) -> Option<Adjacency> {
        let port = program.ports.get(usize::from(sending.port))?;
        let in_gre = match sending.tunnel {
            Some((tunnel, remote)) => {
                let tunnel = &program.tunnels[tunnel as usize];
                if tunnel.nvgre || tunnel.sequence != Sequence::Off || !remote.is_ipv4() {
                    return None;
                }
                true
            }
            // Without a next router the frame is addressed to the packet's destination.
            None => {
                port.next_hop?;
                false
            }
        };
        head.head(program, sending, IpAddr::from([0; 4]), true, 0, 0);
        let written = head.written();
        let mut template = [0; TEMPLATE];
        template.get_mut(..written.len())?.copy_from_slice(written);
        let mut sum = 0;
        if in_gre {
            template[OUTER + 2..OUTER + 4].fill(0);
            template[OUTER + 10..OUTER + 12].fill(0);
            sum = u32::from(checksum::fold(checksum::add(0, &template[OUTER..OUTER + 20])));
            sum += (written.len() - OUTER) as u32;
        }
        // So that what is left of it begins among the first 32.
        debug_assert!(written.len() < TEMPLATE);
        let length = written.len() as u8;
        let link = sending.tunnel.and_then(|(tunnel, _)| program.tunnels[tunnel as usize].link.as_deref());
        Some(Adjacency {
            link: link.map_or(0, CircuitLink::outwards),
            template,
            sum,
            room: sending.room(program),
            port: sending.port,
            length,
            second: length.max(16) - 16,
        })
    }

    /// What says to which circuit link it leads ([`CircuitLink::outwards`]); 0: to none.
    #[inline(always)]
    pub fn link(&self) -> u32 {
        self.link
    }

    /// True if a packet of this length fits.
    #[inline(always)]
    pub fn has_room(&self, total: u32) -> bool {
        total <= self.room
    }

    /// True if the packet fits and may leave with its time to live less one.
    #[inline(always)]
    pub fn carries(&self, packet: Leaving) -> bool {
        self.has_room(packet.total()) & packet.lives()
    }

    /// Writes the frame around a packet that it [carries](Self::carries), which is among these bytes.
    #[inline(always)]
    pub fn send(&self, bytes: &[u8], packet: Leaving, out: &mut Output) {
        let (total, length) = (packet.total() as usize, usize::from(self.length));
        let from = packet.from as usize;
        if total <= SMALL
            && let Some(from) = bytes.get(from..from + SMALL).and_then(|from| from.first_chunk::<SMALL>())
            && let Some(room) = out.room::<{ 2 * SMALL }>()
        {
            self.head(room, packet);
            // What is too much of the head the packet overwrites.
            if let Some(to) = room.get_mut(length % SMALL..).and_then(|to| to.first_chunk_mut::<SMALL>()) {
                *to = *from;
                rewrite(to, packet);
            }
            out.fill(self.port, length + total);
        } else {
            self.send_large(bytes, packet.from, packet.first, packet.third, out);
        }
    }

    #[inline(never)]
    fn send_large(&self, bytes: &[u8], from: u32, first: u32, third: u32, out: &mut Output) {
        let packet = Leaving { from, first, third };
        let (total, length) = (packet.total() as usize, usize::from(self.length));
        let from = bytes.get(packet.from as usize..).unwrap_or_default();
        let room = out.add(self.port, length + total);
        if let Some(head) = room.first_chunk_mut::<TEMPLATE>() {
            self.head(head, packet);
        }
        let to = room.get_mut(length..length + total);
        if let (Some(from), Some(to)) = (from.get(..total), to) {
            to.copy_from_slice(from);
            if let Some(to) = to.first_chunk_mut::<20>() {
                rewrite(to, packet);
            }
        }
    }

    /// Writes what is in front of a packet, and a few bytes more.
    #[inline(always)]
    fn head<const N: usize>(&self, bytes: &mut [u8; N], packet: Leaving) {
        const { assert!(N >= TEMPLATE) };
        // Where there is no outer header, the packet overwrites it.
        let outer_length = (u32::from(self.length) + packet.total() - OUTER as u32) as u16;
        let sum = self.sum + packet.total() + u32::from(packet.tos());
        // Its halves added, with what runs over.
        let sum = !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        // In two pieces, each within a cache line if the packet begins one.
        let second = usize::from(self.second) % 32;
        let (from, to) = (&self.template[second..second + 16], &mut bytes[second..second + 16]);
        to.copy_from_slice(from);
        bytes[..32].copy_from_slice(&self.template[..32]);
        bytes[15] = packet.tos();
        bytes[16..18].copy_from_slice(&outer_length.to_be_bytes());
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Packets up to this length are copied as if they were so long.
const SMALL: usize = 64;

/// The words of a header that leave otherwise than they came.
#[inline(always)]
fn rewrite<const N: usize>(to: &mut [u8; N], packet: Leaving) {
    const { assert!(N >= 20) };
    to[..4].copy_from_slice(&packet.first.to_be_bytes());
    to[8..12].copy_from_slice(&packet.third.to_be_bytes());
}

/// Ways out that are remembered by their tunnel and remote.
const NEAR: usize = 4096;

/// A way out that was asked for lately.
#[derive(Clone, Copy, Default)]
struct Near {
    /// The tunnel above the remote.
    key: u64,
    /// The customer's when it was asked for; 0: there is none here.
    generation: u32,
    number: u32,
}

/// The adjacencies of one worker, by number.
#[derive(Default)]
pub struct Adjacencies {
    table: Vec<Adjacency>,
    numbers: HashMap<Adjacency, u32, RandomState>,
    /// The numbers of ways out that were asked for lately.
    near: Vec<Near>,
    /// Where one is put together.
    scratch: Output,
}

impl Adjacencies {
    /// The number of the adjacency of a way out, if it has one.
    pub fn number(&mut self, program: &Program, sending: Sending) -> Option<u32> {
        let adjacency = Adjacency::new(program, sending, &mut self.scratch)?;
        let next = self.table.len() as u32;
        let number = *self.numbers.entry(adjacency).or_insert(next);
        if number == next {
            self.table.push(adjacency);
        }
        Some(number)
    }

    /// The same for a way out that may have been asked for before: by a tunnel of a customer to an IPv4 remote, or, without
    /// tunnel, plain by a port.
    #[inline(always)]
    pub fn find(
        &mut self,
        program: &Program,
        customer: u32,
        port: u16,
        tunnel: u32,
        remote: u32,
    ) -> Option<u32> {
        let generation = program.generations.get(customer as usize).copied()?;
        let remote = if tunnel == PLAIN { u32::from(port) } else { remote };
        let key = u64::from(tunnel) << 32 | u64::from(remote);
        let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % NEAR;
        match self.near.get(home) {
            Some(near) if near.key == key && near.generation == generation => Some(near.number),
            _ => self.find_far(program, Near { key, generation, number: port.into() }, home),
        }
    }

    #[inline(never)]
    fn find_far(&mut self, program: &Program, asked: Near, home: usize) -> Option<u32> {
        let (tunnel, remote) = ((asked.key >> 32) as u32, asked.key as u32);
        let tunnel = (tunnel != PLAIN).then(|| (tunnel, IpAddr::from(remote.to_be_bytes())));
        let sending = Sending { port: asked.number as u16, tunnel, inner_mac: [0; 6] };
        let number = self.number(program, sending)?;
        self.near.resize(NEAR, Near::default());
        if let Some(near) = self.near.get_mut(home) {
            *near = Near { number, ..asked };
        }
        Some(number)
    }

    /// Asks for the adjacency of a number.
    #[inline(always)]
    pub fn prefetch(&self, number: u32) {
        prefetch_index(&self.table, number as usize);
    }

    /// The adjacency of a number.
    #[inline(always)]
    pub fn get(&self, number: u32) -> Option<&Adjacency> {
        self.table.get(number as usize)
    }

    /// True if there are so many that they should be forgotten, with every number that is stored somewhere.
    pub fn is_full(&self) -> bool {
        self.table.len() >= CAPACITY
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        *self = Adjacencies::default();
    }

    /// Bytes they hold.
    pub fn memory(&self) -> usize {
        self.table.capacity() * size_of::<Adjacency>()
            + self.numbers.capacity() * (size_of::<(Adjacency, u32)>() + 1)
    }
}
