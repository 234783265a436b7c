//! The few numbers that packets are made of, read and written one byte at a time.

/// The two bytes at `at`, as a number.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`, as a number.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a number into the two bytes at `at`.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The sum of RFC 1071 over any number of pieces, each but the last of even length, folded to 16 bits.
pub fn ones_sum(pieces: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for piece in pieces {
        for pair in piece.chunks(2) {
            let low = if pair.len() == 2 { pair[1] } else { 0 };
            sum += u64::from(pair[0]) * 256 + u64::from(low);
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum to write where the field is zero.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    !ones_sum(pieces)
}

/// True if bytes that hold their own checksum add up.
pub fn adds_up(bytes: &[u8]) -> bool {
    ones_sum(&[bytes]) == 0xffff
}

/// Writes the right checksum into an IPv4 header.
pub fn fix_ipv4(header: &mut [u8]) {
    put_u16(header, 10, 0);
    let sum = checksum(&[header]);
    put_u16(header, 10, sum);
}
