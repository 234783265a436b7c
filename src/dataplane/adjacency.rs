//! Adjacencies: the bytes in front of a packet that leaves by a port and tunnel, made once and copied from then on.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;

use super::emit::{Output, Sending};
use super::usual::Usual;
use crate::compile::Program;
use crate::model::Sequence;
use crate::wire::{be16, checksum};

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
    /// The sum of the outer header without its length and type of service.
    sum: u32,
    /// The largest packet.
    room: u32,
    port: u16,
    /// How much of the template is used.
    length: u8,
    in_gre: bool,
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
        }
        let length = written.len() as u8;
        Some(Adjacency { template, sum, room: sending.room(program), port: sending.port, length, in_gre })
    }

    /// True if packets leave in GRE.
    #[inline(always)]
    pub fn is_in_gre(&self) -> bool {
        self.in_gre
    }

    /// True if the packet fits and may leave with its time to live less one.
    #[inline(always)]
    pub fn carries(&self, packet: &Usual) -> bool {
        (u32::from(packet.total) <= self.room) & (packet.ttl > 1)
    }

    /// Writes the frame around a packet that it [carries](Self::carries), which is among these bytes.
    #[inline(always)]
    pub fn send(&self, bytes: &[u8], packet: &Usual, out: &mut Output) {
        let (total, length) = (usize::from(packet.total), usize::from(self.length));
        let from = packet.from as usize;
        if total <= SMALL
            && let Some(from) = bytes.get(from..from + SMALL).and_then(|from| from.first_chunk::<SMALL>())
            && let Some(room) = out.room::<{ TEMPLATE + SMALL }>()
        {
            self.head(room, length + total, packet.tos);
            // What is too much of the head the packet overwrites.
            if let Some(to) =
                room.get_mut(length.min(TEMPLATE)..).and_then(|to| to.first_chunk_mut::<SMALL>())
            {
                *to = *from;
                one_less(to, from, packet);
            }
            out.fill(self.port, length + total);
        } else {
            self.send_large(bytes, packet, out);
        }
    }

    #[inline(never)]
    fn send_large(&self, bytes: &[u8], packet: &Usual, out: &mut Output) {
        let (total, length) = (usize::from(packet.total), usize::from(self.length));
        let from = bytes.get(packet.from as usize..).unwrap_or_default();
        let room = out.add(self.port, length + total);
        if let Some(head) = room.first_chunk_mut::<TEMPLATE>() {
            self.head(head, length + total, packet.tos);
        }
        let to = room.get_mut(length..length + total);
        if let (Some(from), Some(to)) = (from.get(..total), to) {
            to.copy_from_slice(from);
            if let (Some(from), Some(to)) = (from.first_chunk::<20>(), to.first_chunk_mut::<20>()) {
                one_less(to, from, packet);
            }
        }
    }

    /// Writes what is in front of a packet, and a few bytes more.
    #[inline(always)]
    fn head<const N: usize>(&self, bytes: &mut [u8; N], whole: usize, tos: u8) {
        const { assert!(N >= TEMPLATE) };
        // Where there is no outer header, the packet overwrites it.
        let outer_length = (whole - OUTER) as u16;
        let sum = self.sum + u32::from(outer_length) + u32::from(tos);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = !((sum >> 16) + sum) as u16;
        bytes[..TEMPLATE].copy_from_slice(&self.template);
        bytes[15] = tos;
        bytes[16..18].copy_from_slice(&outer_length.to_be_bytes());
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Packets up to this length are copied as if they were so long.
const SMALL: usize = 64;

/// One less to live, and the type of service: what that makes of a header and its checksum.
#[inline(always)]
fn one_less<const N: usize>(to: &mut [u8; N], from: &[u8; N], packet: &Usual) {
    let sum = if from[1] == packet.tos {
        // The word that begins with the time to live is one less, as its bytes lie there, and the checksum one more.
        let sum = u16::from_le_bytes([from[10], from[11]]);
        sum.wrapping_add(1 + u16::from(sum >= 0xfffe)).to_le_bytes()
    } else {
        to[1] = packet.tos;
        let before = u32::from(from[1]) + 0x100;
        checksum::updated(be16(from, 10), before, u32::from(packet.tos)).to_be_bytes()
    };
    to[8] = packet.ttl.wrapping_sub(1);
    to[10..12].copy_from_slice(&sum);
}

/// The adjacencies of one worker, by number.
#[derive(Default)]
pub struct Adjacencies {
    table: Vec<Adjacency>,
    numbers: HashMap<Adjacency, u32, RandomState>,
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
