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
    pub fn carries(&self, frame: &[u8], packet: &Usual) -> bool {
        let ttl = frame.get(usize::from(packet.at) + 8).copied().unwrap_or(0);
        (u32::from(packet.total) <= self.room) & (ttl > 1)
    }

    /// Writes the frame around a packet that it [carries](Self::carries).
    #[inline(always)]
    pub fn send(&self, frame: &[u8], packet: &Usual, out: &mut Output) {
        let (total, length) = (usize::from(packet.total), usize::from(self.length));
        let from = frame.get(usize::from(packet.at)..).unwrap_or_default();
        let whole = length + total;
        out.add(self.port, whole, |bytes| {
            let Some(head) = bytes.first_chunk_mut::<TEMPLATE>() else { return };
            *head = self.template;
            // Where there is no outer header, the packet overwrites it.
            let outer_length = (whole - OUTER) as u16;
            let sum = self.sum + u32::from(outer_length) + u32::from(packet.tos);
            let sum = (sum >> 16) + (sum & 0xffff);
            let sum = !((sum >> 16) + sum) as u16;
            head[15] = packet.tos;
            head[16..18].copy_from_slice(&outer_length.to_be_bytes());
            head[24..26].copy_from_slice(&sum.to_be_bytes());
            let Some(to) = bytes.get_mut(length..) else { return };
            copy(from, to, total);
            // One less to live, and the type of service: what that makes of the checksum.
            let (Some(header), Some(from)) = (to.first_chunk_mut::<20>(), from.first_chunk::<20>()) else {
                return;
            };
            let before = u32::from(from[1]) + 0x100;
            let sum = checksum::updated(be16(from, 10), before, u32::from(packet.tos));
            header[1] = packet.tos;
            header[8] = from[8].wrapping_sub(1);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        });
    }
}

/// Copies `length` bytes, in whole blocks where both sides have room for them.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8], length: usize) {
    const BLOCK: usize = 64;
    if length <= BLOCK
        && let (Some(from), Some(to)) = (from.first_chunk::<BLOCK>(), to.first_chunk_mut::<BLOCK>())
    {
        *to = *from;
    } else if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
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
