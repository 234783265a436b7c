//! GRE with checksum, key and sequence number (RFC 2784, RFC 2890), and NVGRE's use of it (RFC 7637).
//!
//! ```text
//!  |C|R|K|S|s|Recur|  ignored (bits 6..12)  | Ver | Protocol Type         |
//!  | Checksum (C) | Reserved1 (C) |  Key (K)  |  Sequence Number (S)      |
//! ```

use super::{be16, be32, checksum};
use crate::packet::Reason;

/// Protocol type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Protocol type of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Protocol type of Ethernet: NVGRE.
pub const ETHERNET: u16 = 0x6558;

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const RESERVED: u16 = 0x4c00;
const VERSION: u16 = 0x0007;

/// A checked GRE header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// One of [`IPV4`], [`IPV6`], [`ETHERNET`].
    pub protocol: u16,
    /// The key.
    pub key: u32,
    /// The sequence number, if there is one.
    pub sequence: Option<u32>,
    /// Length of the header.
    pub header: usize,
}

/// Checks a GRE packet (header and payload, nothing behind it) in the order of contract section 3, step 3.
#[inline]
pub fn parse(packet: &[u8]) -> Result<Gre, Reason> {
    let flags = be16(packet, 0);
    let optional = |bit: u16| if flags & bit != 0 { 4 } else { 0 };
    let key_at = 4 + optional(CHECKSUM);
    let sequence_at = key_at + optional(KEY);
    let header = sequence_at + optional(SEQUENCE);
    if packet.len() < 4 || packet.len() < header {
        return Err(Reason::GreMalformed);
    }
    let protocol = be16(packet, 2);
    let nvgre = protocol == ETHERNET;
    if flags & RESERVED != 0 || nvgre && flags & (CHECKSUM | SEQUENCE) != 0 {
        return Err(Reason::GreReservedBits);
    }
    if flags & VERSION != 0 {
        return Err(Reason::GreVersion);
    }
    if flags & CHECKSUM != 0 && !checksum::is_right(packet) {
        return Err(Reason::GreChecksum);
    }
    if !matches!(protocol, IPV4 | IPV6 | ETHERNET) {
        return Err(Reason::GreProtocol);
    }
    if flags & KEY == 0 {
        return Err(Reason::GreNoKey);
    }
    let sequence = (flags & SEQUENCE != 0).then(|| be32(packet, sequence_at));
    Ok(Gre { protocol, key: be32(packet, key_at), sequence, header })
}

/// Appends a GRE header with a key; the place of the sequence number is left zero. Returns the header's length.
#[inline]
pub fn emit(out: &mut Vec<u8>, protocol: u16, key: u32, with_sequence: bool) -> usize {
    let flags = if with_sequence { KEY | SEQUENCE } else { KEY };
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&protocol.to_be_bytes());
    out.extend_from_slice(&key.to_be_bytes());
    if with_sequence {
        out.extend_from_slice(&[0; 4]);
        return 12;
    }
    8
}

/// True if a sequence number moves forward from `last` (RFC 2890 section 2.2): repetitions and the 2^31 - 1 numbers
/// before `last` are old.
#[inline]
pub fn is_newer(sequence: u32, last: u32) -> bool {
    matches!(sequence.wrapping_sub(last), 1..=0x8000_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flags: u16, protocol: u16, rest: &[u8]) -> Vec<u8> {
        [&flags.to_be_bytes(), &protocol.to_be_bytes(), rest].concat()
    }

    #[test]
    fn checks_in_the_order_of_the_contract() {
        let k = 0x2000;
        let ok = packet(k, IPV4, &[0, 0, 0x0a, 0x01, 0x45]);
        assert_eq!(parse(&ok), Ok(Gre { protocol: IPV4, key: 0xa01, sequence: None, header: 8 }));
        for n in 0..8 {
            assert_eq!(parse(&ok[..n]), Err(Reason::GreMalformed), "{n}");
        }
        let cases = [
            (0xffff, IPV4, 11, Reason::GreMalformed),
            (0x7fff, IPV4, 8, Reason::GreReservedBits),
            (0x2800, IPV4, 8, Reason::GreReservedBits),
            (0x2400, 0x1234, 8, Reason::GreReservedBits),
            (0x3000, ETHERNET, 8, Reason::GreReservedBits),
            (0xa000, ETHERNET, 8, Reason::GreReservedBits),
            (0xa001, IPV4, 8, Reason::GreVersion),
            (0x8000, 0x1234, 4, Reason::GreChecksum),
            (0x0000, 0x1234, 4, Reason::GreProtocol),
            (0x0000, 0x88be, 4, Reason::GreProtocol),
            (0x03f8, IPV4, 4, Reason::GreNoKey),
        ];
        for (flags, protocol, rest, reason) in cases {
            assert_eq!(
                parse(&packet(flags, protocol, &vec![0; rest])),
                Err(reason),
                "{flags:04x} {protocol:04x}"
            );
        }
    }

    #[test]
    fn reads_checksum_key_and_sequence() {
        let mut p = packet(0xb3f8, IPV6, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 1, 2, 3]);
        let sum = checksum::of(&p);
        p[4..6].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&p), Ok(Gre { protocol: IPV6, key: 7, sequence: Some(9), header: 16 }));
        p[18] ^= 1;
        assert_eq!(parse(&p), Err(Reason::GreChecksum));
    }

    #[test]
    fn emits_what_it_parses() {
        let mut out = Vec::new();
        assert_eq!(emit(&mut out, IPV4, 5, true), 12);
        assert_eq!(parse(&out), Ok(Gre { protocol: IPV4, key: 5, sequence: Some(0), header: 12 }));
    }

    #[test]
    fn old_sequence_numbers_are_seen() {
        assert!(is_newer(0, u32::MAX) && is_newer(5, 4) && is_newer(9, 4) && is_newer(0x8000_0003, 3));
        assert!(!is_newer(4, 4) && !is_newer(3, 4) && !is_newer(0x8000_0004, 3) && !is_newer(u32::MAX, 0));
    }
}
