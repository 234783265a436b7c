//! Step 13: frames as they leave: Ethernet, outer IP, GRE, and the packet with its TTL, congestion bits and, where it
//! must be cut, its fragments.

use std::net::IpAddr;

use super::police::Charge;
use crate::compile::Program;
use crate::model::Sequence;
use crate::wire::ip::{self, Inner, V4_HEADER, V6_HEADER};
use crate::wire::{be16, ethernet, gre, icmp, protocol};

/// The source MAC address of the inner frames we send in NVGRE.
const INNER_SOURCE: [u8; 6] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];

/// By which port and tunnel something is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// The port.
    pub port: u16,
    /// The tunnel and the outer destination; plain without.
    pub tunnel: Option<(u32, IpAddr)>,
    /// The destination MAC address inside NVGRE.
    pub inner_mac: [u8; 6],
}

impl Sending {
    /// True if it goes out as Ethernet in GRE.
    #[inline]
    pub fn is_nvgre(&self, program: &Program) -> bool {
        self.tunnel.is_some_and(|(t, _)| program.tunnels[t as usize].nvgre)
    }

    /// The largest inner packet: the port's MTU without what is put in front of the packet.
    #[inline]
    pub fn room(&self, program: &Program) -> u32 {
        let port = &program.ports[usize::from(self.port)];
        let Some((tunnel, _)) = self.tunnel else { return port.mtu };
        let tunnel = &program.tunnels[tunnel as usize];
        inside(port.mtu, port.address, tunnel.sequence, tunnel.nvgre)
    }
}

/// The largest packet inside a tunnel of a port with this MTU and address.
#[inline]
pub fn inside(mtu: u32, address: IpAddr, sequence: Sequence, nvgre: bool) -> u32 {
    let outer = if address.is_ipv4() { V4_HEADER } else { V6_HEADER };
    let gre = if sequence == Sequence::Off { 8 } else { 12 };
    let inner = if nvgre { ethernet::HEADER } else { 0 };
    mtu.saturating_sub((outer + gre + inner) as u32)
}

/// One frame in [`Output::bytes`].
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The port it leaves by.
    pub port: u16,
    /// Where it begins.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

/// A place where the next sequence number of a tunnel and remote is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// Index of the frame.
    pub frame: u32,
    /// The tunnel's number.
    pub tunnel: u32,
    /// The outer destination.
    pub remote: IpAddr,
    /// Where in [`Output::bytes`].
    pub at: u32,
}

/// The frames of one batch, in the order of the packets that caused them.
#[derive(Debug, Default)]
pub struct Output {
    /// The frames' bytes; those between them mean nothing.
    pub bytes: Vec<u8>,
    /// Where the next frame begins.
    next: usize,
    /// Where each frame is.
    pub frames: Vec<Frame>,
    /// The frames that wait for a sequence number, in order.
    pub numbered: Vec<Numbered>,
    /// What packets take from the buckets of circuit links, in order, where that is settled later.
    pub charges: Vec<Charge>,
    /// The number of the packet that is under way, for those.
    pub packet: u32,
    /// A frame that is being put together.
    scratch: Vec<u8>,
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Where in a cache line frames begin: a packet behind Ethernet, IPv4 and GRE with a key begins with one then.
const LEAD: usize = LINE - 42;

/// Free bytes behind every frame, so that a writer may write whole blocks.
const SLACK: usize = 128;

impl Output {
    /// Forgets the frames; memory stays.
    pub fn clear(&mut self) {
        self.next = self.bytes.as_ptr().align_offset(LINE) + LEAD;
        self.frames.clear();
        self.numbered.clear();
        self.charges.clear();
    }

    /// Adds a frame of `length` bytes, to be written by the caller: they and some more behind them.
    pub fn add(&mut self, port: u16, length: usize) -> &mut [u8] {
        let (start, end) = (self.next, self.next + length);
        if self.bytes.len() < end + SLACK {
            self.grow(end + SLACK);
        }
        self.fill(port, length);
        self.bytes.get_mut(start..end + SLACK).unwrap_or_default()
    }

    /// Room for the next frame, if there is as much; what is written counts once the frame is [filled](Self::fill).
    #[inline(always)]
    pub fn room<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(self.next..self.next + N)?.first_chunk_mut()
    }

    /// The next frame is there, with this length.
    #[inline(always)]
    pub fn fill(&mut self, port: u16, length: usize) {
        let (start, end) = (self.next, self.next + length);
        self.next += (length + LINE - 1) & !(LINE - 1);
        self.frames.push(Frame { port, start: start as u32, end: end as u32 });
    }

    /// Makes room; only until the largest batch has been seen.
    #[cold]
    fn grow(&mut self, least: usize) {
        self.bytes.resize((2 * least).max(1 << 16), 0);
    }

    /// What has been put together.
    pub fn written(&self) -> &[u8] {
        &self.scratch
    }

    /// Sends a packet with a new TTL and type of service, in fragments if it is larger than `room`.
    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &mut self,
        program: &Program,
        sending: Sending,
        inner: &Inner,
        packet: &[u8],
        tos: u8,
        ttl: u8,
        room: u32,
    ) {
        let (source, ipv4) = (inner.source, inner.source.is_ipv4());
        if packet.len() <= room as usize {
            self.frame(program, sending, inner.destination, ipv4, tos, packet.len(), |bytes| {
                let at = bytes.len();
                bytes.extend_from_slice(packet);
                edit(&mut bytes[at..], source.is_ipv4(), usize::from(inner.header), tos, ttl);
            });
            return;
        }
        self.fragments(program, sending, inner, packet, tos, ttl, room as usize);
    }

    /// Sends a packet of our own machine as it is; one that does not fit is not sent.
    pub fn send_as_it_is(&mut self, program: &Program, sending: Sending, packet: &[u8]) {
        let ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
        let tos = if ipv4 { packet.get(1).copied().unwrap_or(0) } else { (be16(packet, 0) >> 4) as u8 };
        if let Some(destination) = ip::destination(packet, ipv4)
            && packet.len() <= sending.room(program) as usize
        {
            self.frame(program, sending, destination, ipv4, tos, packet.len(), |bytes| {
                bytes.extend_from_slice(packet);
            });
        }
    }

    /// The lengths of the packets that [`Output::send`] sends of one, together, and how many they are.
    pub fn sent(inner: &Inner, packet: &[u8], room: u32) -> (u32, u32) {
        if packet.len() <= room as usize {
            return (packet.len() as u32, 1);
        }
        let whole = usize::from(inner.header);
        let header = packet.get(..whole).unwrap_or_default();
        let mut copied = [0u8; 60];
        let later = if whole < V4_HEADER { whole } else { copied_options(header, &mut copied) };
        let (mut rest, mut bytes, mut pieces, mut header) = (packet.len() - whole, 0, 0, whole);
        loop {
            let (piece, more) = piece(rest, header, room as usize);
            (bytes, pieces, rest) = (bytes + header + piece, pieces + 1, rest - piece);
            if !more {
                return (bytes as u32, pieces);
            }
            header = later;
        }
    }

    /// Cuts an IPv4 packet into the largest multiples of eight bytes that fit (RFC 791 section 3.2).
    #[allow(clippy::too_many_arguments)]
    fn fragments(
        &mut self,
        program: &Program,
        sending: Sending,
        inner: &Inner,
        packet: &[u8],
        tos: u8,
        ttl: u8,
        room: usize,
    ) {
        let whole = usize::from(inner.header);
        let (Some(header), Some(mut rest)) = (packet.get(..whole), packet.get(whole..)) else { return };
        let mut copied = [0u8; 60];
        let copied_length = copied_options(header, &mut copied);
        let (mut offset, last_follows) = inner.fragment.map_or((0, false), |f| (f.offset, f.more));
        // The reserved bit is not ours to clear.
        let reserved = be16(packet, 6) & 0x8000;
        let mut header = header;
        loop {
            let (length, more) = piece(rest.len(), header.len(), room);
            let (piece, behind) = rest.split_at(length);
            let total = header.len() + piece.len();
            let flags = reserved | offset | if more || last_follows { 0x2000 } else { 0 };
            self.frame(program, sending, inner.destination, true, tos, total, |bytes| {
                let at = bytes.len();
                bytes.extend_from_slice(header);
                bytes.extend_from_slice(piece);
                let packet = &mut bytes[at..];
                packet[0] = 0x40 | (header.len() / 4) as u8;
                packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
                packet[6..8].copy_from_slice(&flags.to_be_bytes());
                edit(packet, true, header.len(), tos, ttl);
            });
            if !more {
                return;
            }
            offset += (piece.len() / 8) as u16;
            rest = behind;
            header = &copied[..copied_length];
        }
    }

    /// Sends an ICMP error about a packet back to where it came from.
    pub fn send_error(
        &mut self,
        program: &Program,
        sending: Sending,
        error: icmp::Error,
        source: IpAddr,
        destination: IpAddr,
        offending: &[u8],
    ) {
        let room = sending.room(program) as usize;
        let length = icmp::length(source.is_ipv4(), offending.len(), room);
        self.frame(program, sending, destination, source.is_ipv4(), 0, length, |bytes| {
            icmp::emit(bytes, error, source, destination, offending, room);
        });
    }

    /// Writes one frame around a packet of `length` bytes that `write` appends.
    #[allow(clippy::too_many_arguments)]
    fn frame(
        &mut self,
        program: &Program,
        sending: Sending,
        destination: IpAddr,
        ipv4: bool,
        tos: u8,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(sequence) = self.head(program, sending, destination, ipv4, tos, length) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        write(&mut scratch);
        if let (Some(at), Some((tunnel, remote))) = (sequence, sending.tunnel) {
            let (frame, at) = (self.frames.len() as u32, (self.next + at) as u32);
            let tunnel = program.tunnels[tunnel as usize].id;
            self.numbered.push(Numbered { frame, tunnel, remote, at });
        }
        if let Some(bytes) = self.add(sending.port, scratch.len()).get_mut(..scratch.len()) {
            bytes.copy_from_slice(&scratch);
        }
        self.scratch = scratch;
    }

    /// Writes what is in front of a packet of `length` bytes; where the sequence number goes, if there is one. `None` if
    /// port and remote are of different families.
    pub fn head(
        &mut self,
        program: &Program,
        sending: Sending,
        destination: IpAddr,
        ipv4: bool,
        tos: u8,
        length: usize,
    ) -> Option<Option<usize>> {
        let port = &program.ports[usize::from(sending.port)];
        let next = sending.tunnel.map(|(_, remote)| remote).or(port.next_hop).unwrap_or(destination);
        let bytes = &mut self.scratch;
        bytes.clear();
        bytes.extend_from_slice(&ethernet::mac_of(next));
        bytes.extend_from_slice(&ethernet::mac_of(port.address));
        let inner_type = if ipv4 { ethernet::IPV4 } else { ethernet::IPV6 };
        let Some((number, remote)) = sending.tunnel else {
            bytes.extend_from_slice(&inner_type.to_be_bytes());
            return Some(None);
        };
        let tunnel = &program.tunnels[number as usize];
        let with_sequence = tunnel.sequence != Sequence::Off;
        let inner_header = if tunnel.nvgre { ethernet::HEADER } else { 0 };
        let payload = if with_sequence { 12 } else { 8 } + inner_header + length;
        match (port.address, remote) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend_from_slice(&ethernet::IPV4.to_be_bytes());
                ip::emit_v4(bytes, from, to, protocol::GRE, tos, payload);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend_from_slice(&ethernet::IPV6.to_be_bytes());
                ip::emit_v6(bytes, from, to, protocol::GRE, tos, payload);
            }
            _ => return None,
        }
        let gre_type = if tunnel.nvgre { gre::ETHERNET } else { inner_type };
        gre::emit(bytes, gre_type, tunnel.wire_key, with_sequence);
        let sequence = with_sequence.then(|| bytes.len() - 4);
        if tunnel.nvgre {
            bytes.extend_from_slice(&sending.inner_mac);
            bytes.extend_from_slice(&INNER_SOURCE);
            bytes.extend_from_slice(&inner_type.to_be_bytes());
        }
        Some(sequence)
    }
}

/// How many of so many bytes go into the next fragment, and whether others follow.
fn piece(rest: usize, header: usize, room: usize) -> (usize, bool) {
    let fits = (room.saturating_sub(header) / 8 * 8).max(8);
    let more = rest + header > room.max(header + 8);
    (if more { fits.min(rest) } else { rest }, more)
}

/// Writes TTL and type of service into an IP header and makes its checksum right.
#[inline]
fn edit(packet: &mut [u8], ipv4: bool, header: usize, tos: u8, ttl: u8) {
    if ipv4 && packet.len() >= V4_HEADER {
        packet[1] = tos;
        packet[8] = ttl;
        ip::write_v4_checksum(packet, header);
    } else if !ipv4 && packet.len() >= V6_HEADER {
        packet[0] = packet[0] & 0xf0 | tos >> 4;
        packet[1] = packet[1] & 0x0f | tos << 4;
        packet[7] = ttl;
    }
}

/// The header that fragments behind the first have: the options with the copied flag, padded with zeros. Returns its
/// length.
fn copied_options(header: &[u8], out: &mut [u8; 60]) -> usize {
    out[..V4_HEADER].copy_from_slice(&header[..V4_HEADER]);
    let (mut from, mut to) = (V4_HEADER, V4_HEADER);
    while let Some(&kind) = header.get(from) {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => match header.get(from + 1) {
                Some(&length) if length >= 2 => usize::from(length),
                // What follows a wrong length is not known to be options.
                _ => break,
            },
        };
        let Some(option) = header.get(from..from + length) else { break };
        if kind & 0x80 != 0 {
            out[to..to + length].copy_from_slice(option);
            to += length;
        }
        from += length;
    }
    to.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_with_the_copied_flag_go_to_later_fragments() {
        let mut header = vec![0u8; 20];
        header.extend([0x07, 3, 4, 0x94, 4, 0, 0, 1, 0x83, 3, 4, 0]);
        let mut out = [0u8; 60];
        let length = copied_options(&header, &mut out);
        assert_eq!((length, &out[20..length]), (28, &[0x94, 4, 0, 0, 0x83, 3, 4, 0][..]));
        header.truncate(20);
        header.extend([0x83, 0, 0, 0]);
        assert_eq!(copied_options(&header, &mut out), 20);
        header.truncate(20);
        header.extend([0x94, 1, 0, 0]);
        assert_eq!(copied_options(&header, &mut out), 20);
        header.truncate(20);
        header.extend([0x83, 9, 0, 0]);
        assert_eq!(copied_options(&header, &mut out), 20);
    }
}
