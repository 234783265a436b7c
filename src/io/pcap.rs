//! Classic pcap: both byte orders, micro- and nanoseconds, and the modified format with its longer record headers.
//!
//! ```text
//! file:    magic(4) major(2) minor(2) zone(4) sigfigs(4) snaplen(4) linktype(4)
//! record:  seconds(4) fraction(4) captured(4) original(4) [ifindex(4) protocol(2) type(1) pad(1)] bytes
//! ```

use super::capture::{Record, Stop, wrong_link_type};
use super::input::Input;
use super::{ETHERNET, MAX_PACKET};

/// The reader's knowledge of a file.
pub(super) struct Pcap {
    big_endian: bool,
    /// Nanoseconds of one unit of the fraction.
    unit: u64,
    digits: u8,
    /// Bytes of a record header.
    header: usize,
    /// Files before version 2.4 may have the two lengths the other way round.
    old: bool,
}

impl Pcap {
    /// Reads the file header. [`Stop::End`] if this is no pcap.
    pub(super) fn open(input: &mut Input) -> Result<Pcap, Stop> {
        let bad = |message| Stop::Bad { offset: 0, message };
        let Some(magic) = input.window().first_chunk::<4>() else { return Err(Stop::End) };
        let (big_endian, unit, digits, header) = match *magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1000, 6, 16),
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1000, 6, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1, 9, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1, 9, 16),
            [0xa1, 0xb2, 0xcd, 0x34] => (true, 1000, 6, 24),
            [0x34, 0xcd, 0xb2, 0xa1] => (false, 1000, 6, 24),
            _ => return Err(Stop::End),
        };
        if !input.need(24).map_err(bad)? {
            let there = input.window().len();
            return Err(bad(format!(
                "is no capture at all: a pcap file header has 24 bytes, {there} are there"
            )));
        }
        let window = input.window();
        let (version, link) = (word(window, 4, big_endian), word(window, 20, big_endian));
        // Two 16-bit numbers, read as one word: their places depend on the byte order.
        let (major, minor) =
            if big_endian { (version >> 16, version & 0xffff) } else { (version & 0xffff, version >> 16) };
        if major != 2 || minor > 4 {
            return Err(bad(format!("is pcap of version {major}.{minor}; up to 2.4 can be read")));
        }
        // The upper six bits say whether frames end with a checksum, which then is padding like any other.
        let link = link & 0x03ff_ffff;
        if link != ETHERNET {
            return Err(Stop::Bad { offset: 20, message: wrong_link_type(link) });
        }
        input.consume(24);
        Ok(Pcap { big_endian, unit, digits, header, old: minor < 4 })
    }

    pub(super) fn nanosecond(&self) -> bool {
        self.digits == 9
    }

    /// The next record.
    #[inline]
    pub(super) fn advance(&mut self, input: &mut Input) -> Result<Record, Stop> {
        if !input.need(self.header).map_err(|m| unreadable(input, m))? {
            return Err(cut(input, self.header, "a record header has"));
        }
        let window = input.window();
        let seconds = word(window, 0, self.big_endian);
        let fraction = word(window, 4, self.big_endian);
        let mut captured = word(window, 8, self.big_endian);
        let mut original = word(window, 12, self.big_endian);
        if self.old && captured > original {
            std::mem::swap(&mut captured, &mut original);
        }
        if captured > MAX_PACKET {
            return Err(Stop::Bad {
                offset: input.offset(),
                message: format!(
                    "the record says that it holds {captured} bytes; no packet has more than {MAX_PACKET}"
                ),
            });
        }
        let len = captured as usize;
        let whole = self.header + len;
        if !input.need(whole).map_err(|m| unreadable(input, m))? {
            return Err(cut(input, whole, "the record has"));
        }
        let position = input.position() + self.header;
        input.consume(whole);
        // A fraction of a second or more carries over.
        let time = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit;
        Ok(Record { time, digits: self.digits, original_len: original.max(captured), position, len })
    }
}

#[inline]
fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    match bytes.get(at..).and_then(|b| b.first_chunk::<4>()) {
        Some(&b) if big_endian => u32::from_be_bytes(b),
        Some(&b) => u32::from_le_bytes(b),
        None => 0,
    }
}

#[cold]
fn cut(input: &Input, wanted: usize, what: &str) -> Stop {
    match input.window().len() {
        0 => Stop::End,
        there => {
            Stop::Cut { offset: input.offset(), message: format!("{what} {wanted} bytes, {there} are there") }
        }
    }
}

#[cold]
fn unreadable(input: &Input, message: String) -> Stop {
    Stop::Bad { offset: input.offset() + input.window().len() as u64, message }
}

#[cfg(test)]
mod tests {
    use crate::io::Capture;

    /// A capture with these magic bytes and link type; `words` after the header, all in the byte order asked for.
    fn capture(
        magic: u32,
        big_endian: bool,
        version: (u16, u16),
        link: u32,
        words: &[u32],
        tail: &[u8],
    ) -> Vec<u8> {
        let word = |w: u32| if big_endian { w.to_be_bytes() } else { w.to_le_bytes() };
        let half = |h: u16| if big_endian { h.to_be_bytes() } else { h.to_le_bytes() };
        let mut bytes = word(magic).to_vec();
        bytes.extend([half(version.0), half(version.1)].concat());
        for w in [0, 0, 65_535, link].iter().chain(words) {
            bytes.extend(word(*w));
        }
        bytes.extend(tail);
        bytes
    }

    fn refused(bytes: Vec<u8>) -> String {
        let mut capture = match Capture::from_bytes("x.pcap", bytes) {
            Ok(capture) => capture,
            Err(error) => return error.to_string(),
        };
        loop {
            match capture.next() {
                Ok(packet) => assert!(packet.is_some(), "not refused"),
                Err(error) => return error.to_string(),
            }
        }
    }

    #[test]
    fn both_byte_orders_and_all_formats() {
        for big_endian in [false, true] {
            for (magic, time, digits) in [
                (0xa1b2_c3d4, 7_000_009_000, 6),
                (0xa1b2_3c4d, 7_000_000_009, 9),
                (0xa1b2_cd34, 7_000_009_000, 6),
            ] {
                let mut words = vec![7, 9, 3, 60];
                if magic == 0xa1b2_cd34 {
                    words.extend([1, 0x0800]);
                }
                let bytes = capture(magic, big_endian, (2, 4), 1, &words, b"abc");
                let mut capture = Capture::from_bytes("x", bytes).unwrap();
                assert_eq!(capture.nanosecond(), digits == 9);
                let packet = capture.next().unwrap().unwrap();
                assert_eq!((packet.time, packet.digits, packet.captured), (time, digits, &b"abc"[..]));
                assert_eq!(packet.original_len, 60);
                assert!(capture.next().unwrap().is_none() && capture.warning().is_none());
            }
        }
    }

    #[test]
    fn odd_records_are_taken_as_they_are_meant() {
        // More captured than there was; a fraction beyond a second; the end of 32-bit time.
        let mut words = capture(0xa1b2_c3d4, false, (2, 4), 1, &[5, 2_500_000, 3, 1], b"abc");
        for word in [u32::MAX, u32::MAX, 0, 0] {
            words.extend(u32::to_le_bytes(word));
        }
        let mut capture_ = Capture::from_bytes("x", words).unwrap();
        let packet = capture_.next().unwrap().unwrap();
        assert_eq!((packet.time, packet.original_len), (7_500_000_000, 3));
        let packet = capture_.next().unwrap().unwrap();
        assert_eq!(packet.time, 4_294_967_295_000_000_000 + 4_294_967_295_000);
        // Before version 2.4 the lengths may be exchanged.
        let bytes = capture(0xa1b2_c3d4, true, (2, 2), 1, &[0, 0, 1500, 2], b"ab");
        let mut old = Capture::from_bytes("x", bytes).unwrap();
        let packet = old.next().unwrap().unwrap();
        assert_eq!((packet.captured, packet.original_len), (&b"ab"[..], 1500));
    }

    #[test]
    fn a_checksum_noted_in_the_link_type_is_no_other_link_type() {
        let bytes = capture(0xa1b2_c3d4, false, (2, 4), 0x4400_0001, &[], b"");
        assert!(Capture::from_bytes("x", bytes).unwrap().next().unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_place() {
        let of = |link, words: &[u32]| refused(capture(0xa1b2_c3d4, false, (2, 4), link, words, &[0; 64]));
        assert_eq!(
            of(113, &[]),
            "x.pcap: at byte 20: has packets of link type 113 (LINUX_SLL, Linux cooked); a port takes Ethernet \
             frames, link type 1; capture on one interface instead of `any`"
        );
        assert!(of(101, &[]).contains("link type 101 (RAW, IP without a frame)"));
        assert!(of(0x0001_0001, &[]).contains("link type 65537 (not known here)"));
        assert_eq!(
            of(1, &[0, 0, 262_145, 262_145]),
            "x.pcap: at byte 24: the record says that it holds 262145 bytes; no packet has more than 262144"
        );
        let version = refused(capture(0xa1b2_c3d4, true, (2, 5), 1, &[], b""));
        assert_eq!(version, "x.pcap: at byte 0: is pcap of version 2.5; up to 2.4 can be read");
    }
}
