//! Checksums that a sender on the same machine left to a network card that is none: it wrote the sum of the pseudo header
//! and no more.

use std::ops::Range;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// A whole Ethernet frame in GRE.
const BRIDGED: u16 = 0x6558;
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// Packets in packets that are looked into.
const DEPTH: usize = 4;

/// Headers between that of IPv6 and the transport's that are skipped.
const EXTENSIONS: usize = 8;

/// Completes the checksums that are only begun in an Ethernet frame: those of TCP and UDP over IPv4 and IPv6, also within
/// GRE and IP in IP, and that of GRE. True if there was one. A checksum that does not look begun stays as it is.
#[cold]
pub fn complete_checksum(frame: &mut [u8]) -> bool {
    let end = frame.len();
    ethernet(frame, 0..end, DEPTH).unwrap_or(false)
}

fn ethernet(frame: &mut [u8], within: Range<usize>, depth: usize) -> Option<bool> {
    let mut at = within.start + 12;
    let mut kind = u16_at(frame, at)?;
    for _ in 0..DEPTH {
        if !TAGS.contains(&kind) {
            break;
        }
        at += 4;
        kind = u16_at(frame, at)?;
    }
    packet(frame, kind, at + 2..within.end, depth)
}

/// What is told of by its Ethernet type.
fn packet(frame: &mut [u8], kind: u16, within: Range<usize>, depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    match kind {
        IPV4 => ipv4(frame, within, depth),
        IPV6 => ipv6(frame, within, depth),
        BRIDGED => ethernet(frame, within, depth),
        _ => None,
    }
}

fn ipv4(frame: &mut [u8], within: Range<usize>, depth: usize) -> Option<bool> {
    let packet = frame.get(within.clone())?;
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    let fragment = u16_at(packet, 6)? & 0x3fff != 0;
    if packet[0] >> 4 != 4 || header < 20 || total < header || total > packet.len() || fragment {
        return None;
    }
    let protocol = packet[9];
    let addresses = sum(&packet[12..20]);
    transport(frame, protocol, addresses, within.start + header..within.start + total, depth)
}

fn ipv6(frame: &mut [u8], within: Range<usize>, depth: usize) -> Option<bool> {
    let packet = frame.get(within.clone())?;
    let end = 40 + usize::from(u16_at(packet, 4)?);
    if packet[0] >> 4 != 6 || end > packet.len() {
        return None;
    }
    let addresses = sum(packet.get(8..40)?);
    let (mut next, mut at) = (packet[6], 40);
    for _ in 0..EXTENSIONS {
        // Options for every hop, routes, options for the destination.
        if !matches!(next, 0 | 43 | 60) {
            break;
        }
        next = *packet.get(at)?;
        at += 8 + 8 * usize::from(*packet.get(at + 1)?);
    }
    (at <= end).then_some(())?;
    transport(frame, next, addresses, within.start + at..within.start + end, depth)
}

/// What an IP packet carries, to its end.
fn transport(
    frame: &mut [u8],
    protocol: u8,
    addresses: u64,
    within: Range<usize>,
    depth: usize,
) -> Option<bool> {
    let at = match protocol {
        4 => return packet(frame, IPV4, within, depth),
        41 => return packet(frame, IPV6, within, depth),
        47 => return gre(frame, within, depth),
        6 => 16,
        17 => 6,
        _ => return None,
    };
    let segment = frame.get_mut(within)?;
    let begun = fold(addresses + u64::from(protocol) + segment.len() as u64);
    let said = u16_at(segment, at)?;
    // In one's complement both 0 and 0xffff are zero; in UDP 0 says that there is no checksum.
    if said % 0xffff != begun % 0xffff || (protocol == 17 && said == 0) {
        return Some(false);
    }
    // The sum of the pseudo header is in the sum, as what stands in the field.
    let value = match !fold(sum(segment)) {
        0 if protocol == 17 => 0xffff,
        value => value,
    };
    segment.get_mut(at..at + 2)?.copy_from_slice(&value.to_be_bytes());
    Some(true)
}

fn gre(frame: &mut [u8], within: Range<usize>, depth: usize) -> Option<bool> {
    let flags = u16_at(frame, within.start)?;
    let kind = u16_at(frame, within.start + 2)?;
    // Routes and versions that are not GRE.
    if flags & 0x4007 != 0 {
        return None;
    }
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let inner = packet(frame, kind, within.start + 4 + 4 * optional..within.end, depth).unwrap_or(false);
    let whole = frame.get_mut(within)?;
    // One that is left to a card is begun with nothing.
    if flags & 0x8000 == 0 || u16_at(whole, 4)? != 0 {
        return Some(inner);
    }
    let value = !fold(sum(whole));
    whole.get_mut(4..6)?.copy_from_slice(&value.to_be_bytes());
    Some(true)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The sum of the 16-bit words, not folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum::<u64>() + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&[2; 6][..], &[4; 6], &kind.to_be_bytes(), rest].concat()
    }

    fn ipv4(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = (20 + rest.len()) as u16;
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 1, 2, 3, 192, 168, 7, 9];
        header[2..4].copy_from_slice(&length.to_be_bytes());
        let check = !fold(sum(&header));
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [header, rest.to_vec()].concat()
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        header[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        header.extend((0..32).map(|n| 0x20 + n));
        [header, rest.to_vec()].concat()
    }

    /// A TCP or UDP segment; its checksum is that of the pseudo header.
    fn segment(protocol: u8, addresses: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut header = if protocol == 6 { vec![0; 20] } else { vec![0; 8] };
        header[..4].copy_from_slice(&[0x30, 0x39, 0, 80]);
        if protocol == 6 {
            header[12] = 0x50;
        } else {
            header[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        }
        let at = if protocol == 6 { 16 } else { 6 };
        let begun = fold(sum(addresses) + u64::from(protocol) + (header.len() + payload.len()) as u64);
        header[at..at + 2].copy_from_slice(&begun.to_be_bytes());
        [header, payload.to_vec()].concat()
    }

    fn over_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        ipv4(protocol, &segment(protocol, &[10, 1, 2, 3, 192, 168, 7, 9], payload))
    }

    /// True if the checksum of the segment that ends the frame is right.
    fn right(frame: &[u8], addresses: Range<usize>, from: usize, protocol: u8) -> bool {
        let length = (frame.len() - from) as u64;
        fold(sum(&frame[addresses]) + u64::from(protocol) + length + sum(&frame[from..])) == 0xffff
    }

    #[test]
    fn tcp_and_udp_over_both_are_completed_and_then_stay() {
        for length in [0, 1, 2, 3, 7, 100, 1460] {
            let payload: Vec<u8> = (0..length).map(|b| (b * 31) as u8).collect();
            for protocol in [6, 17] {
                let mut frame = ethernet(IPV4, &over_ipv4(protocol, &payload));
                assert!(!right(&frame, 26..34, 34, protocol) && complete_checksum(&mut frame));
                assert!(right(&frame, 26..34, 34, protocol));
                let done = frame.clone();
                assert!(!complete_checksum(&mut frame) && frame == done);

                let addresses: Vec<u8> = (0..32).map(|n| 0x20 + n).collect();
                let options =
                    [&[protocol, 0, 1, 4, 0, 0, 0, 0][..], &segment(protocol, &addresses, &payload)].concat();
                let mut frame = ethernet(0x8100, &ethernet(IPV6, &ipv6(0, &options))[10..]);
                // Two bytes of an address stand for the tag.
                assert!(complete_checksum(&mut frame) && right(&frame, 26..58, 66, protocol));
            }
        }
    }

    #[test]
    fn a_segment_with_bytes_behind_the_packet_is_completed_without_them() {
        let mut frame = ethernet(IPV4, &over_ipv4(17, b"x"));
        let end = frame.len();
        frame.resize(60, 0xee);
        assert!(complete_checksum(&mut frame) && right(&frame[..end], 26..34, 34, 17));
        assert!(frame[end..].iter().all(|b| *b == 0xee));
    }

    #[test]
    fn what_is_carried_is_completed_and_so_is_the_checksum_of_gre() {
        let inner = over_ipv4(6, b"hello");
        for (gre, checked) in [
            (vec![0, 0, 8, 0], false),
            (vec![0x20, 0, 8, 0, 0, 0, 0, 7], false),
            (vec![0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9], true),
        ] {
            let from = 34 + gre.len();
            let mut frame = ethernet(IPV4, &ipv4(47, &[gre, inner.clone()].concat()));
            assert!(complete_checksum(&mut frame));
            assert!(right(&frame, from + 12..from + 20, from + 20, 6));
            assert_eq!(fold(sum(&frame[34..])) == 0xffff, checked);
        }
        // Of a packet that is complete only that of GRE.
        let mut done = ethernet(IPV4, &inner);
        complete_checksum(&mut done);
        let mut frame = ethernet(IPV4, &ipv4(47, &[&[0x80, 0, 8, 0, 0, 0, 0, 0], &done[14..]].concat()));
        assert!(complete_checksum(&mut frame) && frame[42..] == done[14..]);
        assert_eq!(fold(sum(&frame[34..])), 0xffff);
        // One in another, and a frame in GRE.
        let mut frame = ethernet(IPV4, &ipv4(4, &inner));
        assert!(complete_checksum(&mut frame) && right(&frame, 46..54, 54, 6));
        let bridged = [&[0, 0, 0x65, 0x58][..], &ethernet(IPV4, &inner)].concat();
        let mut frame = ethernet(IPV4, &ipv4(47, &bridged));
        assert!(complete_checksum(&mut frame) && right(&frame, 64..72, 72, 6));
    }

    #[test]
    fn a_udp_checksum_is_never_zero_and_none_stays_none() {
        let mut frame = ethernet(IPV4, &over_ipv4(17, &[0, 0]));
        // The payload makes the sum 0xffff, which would give 0.
        let missing = !fold(sum(&frame[34..]));
        frame[42..44].copy_from_slice(&missing.to_be_bytes());
        assert!(complete_checksum(&mut frame));
        assert_eq!(frame[40..42], [0xff, 0xff]);
        let mut frame = ethernet(IPV4, &over_ipv4(17, b"none"));
        frame[40..42].fill(0);
        assert!(!complete_checksum(&mut frame) && frame[40..42] == [0, 0]);
    }

    #[test]
    fn fragments_and_garbage_change_nothing() {
        let mut frame = ethernet(IPV4, &over_ipv4(6, b"part"));
        frame[20] = 0x20;
        assert!(!complete_checksum(&mut frame));
        let gre = ipv4(
            47,
            &[&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9], &over_ipv4(6, b"a")[..]].concat(),
        );
        let addresses: Vec<u8> = (0..32).map(|n| 0x20 + n).collect();
        let options = [&[6, 0, 1, 4, 0, 0, 0, 0], &segment(6, &addresses, b"abc")[..]].concat();
        let mut seed = 1_u64;
        for whole in [ethernet(IPV4, &gre), ethernet(IPV6, &ipv6(0, &options))] {
            for length in 0..whole.len() {
                let before = whole[..length].to_vec();
                let mut frame = before.clone();
                assert!(!complete_checksum(&mut frame) && frame == before, "{length}");
            }
            for _ in 0..200_000 {
                let mut frame = whole.clone();
                for _ in 0..4 {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (seed >> 33) as usize % frame.len();
                    frame[at] = (seed >> 20) as u8;
                }
                complete_checksum(&mut frame);
            }
        }
    }
}
