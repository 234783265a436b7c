//! The Internet checksum (RFC 1071).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The one's complement sum of `bytes` as 16-bit words, an odd last byte padded with zero, added to `sum`.
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let mut sum =
        chunks.by_ref().fold(sum, |s, c| s + u64::from(u32::from_be_bytes([c[0], c[1], c[2], c[3]])));
    match *chunks.remainder() {
        [a] => sum += u64::from(a) << 8,
        [a, b] => sum += u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => sum += u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
        _ => {}
    }
    sum
}

/// The sum folded to 16 bits; `0xffff` of bytes that hold their right checksum.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The checksum to write into a header whose checksum field is zero.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

/// True if the bytes hold their right checksum.
#[inline]
pub fn is_right(bytes: &[u8]) -> bool {
    fold(add(0, bytes)) == 0xffff
}

/// True if an IPv4 header of 20 bytes holds its right checksum: the sum of its words, however wide they are, is a multiple
/// of 65,535, and it is not zero, because a version is no zero.
#[inline(always)]
pub fn is_zero_v4(first: u32, second: u64, addresses: u64) -> bool {
    let (sum, carry) = second.carrying_add(addresses, false);
    let (sum, carry) = sum.carrying_add(u64::from(first), carry);
    // Here the sum is not so close to its end that it runs over twice.
    (sum + u64::from(carry)) % 0xffff == 0
}

/// The checksum of a header in which words that summed up to `before` now sum up to `after` (RFC 1624 equation 3).
#[inline(always)]
pub fn updated(checksum: u16, before: u32, after: u32) -> u16 {
    let sum = u32::from(!checksum) + (0x3_fffc - before) + after;
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + (sum & 0xffff)) as u16
}

/// The sum of an IPv6 pseudo header (RFC 8200 section 8.1), to which the upper layer is added.
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, length: u32, protocol: u8) -> u64 {
    add(add(0, &source.octets()), &destination.octets()) + u64::from(length) + u64::from(protocol)
}

/// The sum of an IPv4 pseudo header (RFC 793 section 3.1).
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, length: u16, protocol: u8) -> u64 {
    add(add(0, &source.octets()), &destination.octets()) + u64::from(length) + u64::from(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &bytes)), 0xddf2);
        assert_eq!(of(&bytes), !0xddf2);
    }

    #[test]
    fn pads_odd_bytes_and_recognises_itself() {
        for n in 0..9usize {
            let mut bytes: Vec<u8> = (1..=n as u8).collect();
            let sum = of(&bytes);
            if n % 2 == 1 {
                bytes.push(0);
            }
            bytes.extend(sum.to_be_bytes());
            assert!(is_right(&bytes), "{n}");
        }
    }
}
