//! pcapng: sections of either byte order, several interfaces with their own link types and clocks; blocks that hold no
//! packets are skipped.
//!
//! ```text
//! block:  type(4) length(4) body, padded to 4 bytes   length again(4)
//! ```

use super::capture::{Record, Stop, wrong_link_type};
use super::input::Input;
use super::{ETHERNET, MAX_PACKET, MAX_TIME};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// The longest block that is read, as in Wireshark; longer is a lie.
const MAX_BLOCK: u32 = 16 * 1024 * 1024;

/// Interfaces of a section at most: as many as the old packet block can number.
const MAX_INTERFACES: usize = 65_536;

/// The reader's knowledge of a file.
pub(super) struct Pcapng {
    big_endian: bool,
    /// Of the present section.
    interfaces: Vec<Interface>,
    nanosecond: bool,
    /// Of the packet before: a simple packet has no time of its own.
    time: u64,
    digits: u8,
}

struct Interface {
    link: u32,
    /// Packets are cut to this length; 0 if they are not.
    snaplen: u32,
    unit: Unit,
    /// Seconds to add to every time.
    offset: i64,
    digits: u8,
}

/// What one tick of an interface's clock is worth.
#[derive(Clone, Copy)]
enum Unit {
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// A nanosecond has so many ticks.
    TicksPerNanosecond(u128),
    /// A second has two to the power of this many ticks.
    Binary(u32),
}

/// A block that is in the input's window as a whole.
#[derive(Clone, Copy)]
struct Block {
    kind: u32,
    len: usize,
}

impl Pcapng {
    /// Makes ready to read from the first section header, whose first four bytes have been seen.
    pub(super) fn open(input: &mut Input) -> Result<Pcapng, Stop> {
        let mut reader =
            Pcapng { big_endian: false, interfaces: Vec::new(), nanosecond: false, time: 0, digits: 6 };
        match reader.block(input) {
            Ok(block) => {
                input.consume(block.len);
                Ok(reader)
            }
            Err(Stop::Cut { offset, message }) => {
                Err(Stop::Bad { offset, message: format!("is no capture at all: {message}") })
            }
            Err(stop) => Err(stop),
        }
    }

    pub(super) fn nanosecond(&self) -> bool {
        self.nanosecond
    }

    /// The next packet, whatever stands between.
    #[inline]
    pub(super) fn advance(&mut self, input: &mut Input) -> Result<Record, Stop> {
        loop {
            let block = self.block(input)?;
            let record = match block.kind {
                ENHANCED_PACKET => self.enhanced(input, block.len).map(Some),
                OLD_PACKET => self.old(input, block.len).map(Some),
                SIMPLE_PACKET => self.simple(input, block.len).map(Some),
                INTERFACE => self.interface(input, block.len).map(|()| None),
                _ => Ok(None),
            };
            let record = record.map_err(|message| bad(input, message))?;
            input.consume(block.len);
            if let Some(record) = record {
                self.time = record.time;
                self.digits = record.digits;
                return Ok(record);
            }
        }
    }

    /// Brings the next block into the window and checks its two lengths. A section header has been acted on.
    #[inline]
    fn block(&mut self, input: &mut Input) -> Result<Block, Stop> {
        if !input.need(12).map_err(|m| bad(input, m))? {
            return Err(cut(input, 12, "a block has at least"));
        }
        let kind = self.word(input.window(), 0);
        if kind == SECTION_HEADER {
            self.section(input).map_err(|message| bad(input, message))?;
        }
        let length = self.word(input.window(), 4);
        if length < 12 || !length.is_multiple_of(4) || length > MAX_BLOCK {
            let message = format!(
                "a block says that it has {length} bytes; a multiple of 4 from 12 to {MAX_BLOCK} would be right"
            );
            return Err(bad(input, message));
        }
        let len = length as usize;
        if !input.need(len).map_err(|m| bad(input, m))? {
            return Err(cut(input, len, "the block has"));
        }
        let again = self.word(input.window(), len - 4);
        if again != length {
            let message =
                format!("a block says that it has {length} bytes, but at its end that it has {again}");
            return Err(bad(input, message));
        }
        if kind == SECTION_HEADER {
            self.version(input.window(), len).map_err(|message| bad(input, message))?;
        }
        Ok(Block { kind, len })
    }

    /// A section begins: its byte order, and no interfaces as yet.
    #[cold]
    fn section(&mut self, input: &Input) -> Result<(), String> {
        self.big_endian = match input.window().get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
            other => {
                return Err(format!(
                    "a section header has {:02x?} where 1a 2b 3c 4d, in either order, should stand",
                    other.unwrap_or_default()
                ));
            }
        };
        self.interfaces.clear();
        Ok(())
    }

    fn version(&self, window: &[u8], len: usize) -> Result<(), String> {
        if len < 28 {
            return Err(too_short("section header", len, 28));
        }
        let (major, minor) = (self.half(window, 12), self.half(window, 14));
        if major != 1 {
            return Err(format!("is pcapng of version {major}.{minor}; 1.0 can be read"));
        }
        Ok(())
    }

    #[cold]
    fn interface(&mut self, input: &Input, len: usize) -> Result<(), String> {
        if len < 20 {
            return Err(too_short("interface description", len, 20));
        }
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces in a section"));
        }
        let window = input.window();
        let mut interface = Interface {
            link: u32::from(self.half(window, 8)),
            snaplen: self.word(window, 12),
            unit: Unit::Nanoseconds(1000),
            offset: 0,
            digits: 6,
        };
        let mut options = window.get(16..len - 4).unwrap_or_default();
        while options.len() >= 4 {
            let (code, size) = (self.half(options, 0), usize::from(self.half(options, 2)));
            let Some(value) = options.get(4..4 + size) else { break };
            match (code, value) {
                (0, _) => break,
                (9, [resolution]) => (interface.unit, interface.digits) = unit(*resolution),
                (14, [_, _, _, _, _, _, _, _]) => {
                    let (first, second) = (self.word(value, 0), self.word(value, 4));
                    let (high, low) = if self.big_endian { (first, second) } else { (second, first) };
                    interface.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
            options = options.get(4 + size.next_multiple_of(4)..).unwrap_or_default();
        }
        self.nanosecond |= interface.digits == 9;
        self.interfaces.push(interface);
        Ok(())
    }

    #[inline]
    fn enhanced(&self, input: &Input, len: usize) -> Result<Record, String> {
        if len < 32 {
            return Err(too_short("packet block", len, 32));
        }
        let window = input.window();
        let ticks = u64::from(self.word(window, 12)) << 32 | u64::from(self.word(window, 16));
        let lengths = (self.word(window, 20), self.word(window, 24));
        self.record(input, self.word(window, 8), ticks, lengths, len - 32)
    }

    fn old(&self, input: &Input, len: usize) -> Result<Record, String> {
        if len < 32 {
            return Err(too_short("packet block", len, 32));
        }
        let window = input.window();
        let ticks = u64::from(self.word(window, 12)) << 32 | u64::from(self.word(window, 16));
        let lengths = (self.word(window, 20), self.word(window, 24));
        self.record(input, u32::from(self.half(window, 8)), ticks, lengths, len - 32)
    }

    /// A packet block of 28 bytes before the packet, of the interface with this number.
    #[inline]
    fn record(
        &self,
        input: &Input,
        interface: u32,
        ticks: u64,
        (captured, original): (u32, u32),
        room: usize,
    ) -> Result<Record, String> {
        let interface = self.ethernet(interface)?;
        check_length(captured, room)?;
        Ok(Record {
            time: interface.time(ticks),
            digits: interface.digits,
            original_len: original.max(captured),
            position: input.position() + 28,
            len: captured as usize,
        })
    }

    /// A packet of the first interface without a time; it has that of the packet before.
    fn simple(&self, input: &Input, len: usize) -> Result<Record, String> {
        if len < 16 {
            return Err(too_short("simple packet block", len, 16));
        }
        let interface = self.ethernet(0)?;
        let original_len = self.word(input.window(), 8);
        let captured = match interface.snaplen {
            0 => original_len,
            limit => original_len.min(limit),
        };
        check_length(captured, len - 16)?;
        let position = input.position() + 12;
        Ok(Record { time: self.time, digits: self.digits, original_len, position, len: captured as usize })
    }

    #[inline]
    fn ethernet(&self, number: u32) -> Result<&Interface, String> {
        match self.interfaces.get(number as usize) {
            Some(interface) if interface.link == ETHERNET => Ok(interface),
            Some(interface) => Err(wrong_link_type(interface.link)),
            None => Err(format!(
                "a packet is of interface {number}, but the section has described {}, from 0",
                self.interfaces.len()
            )),
        }
    }

    #[inline]
    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        match bytes.get(at..).and_then(|b| b.first_chunk::<4>()) {
            Some(&b) if self.big_endian => u32::from_be_bytes(b),
            Some(&b) => u32::from_le_bytes(b),
            None => 0,
        }
    }

    #[inline]
    fn half(&self, bytes: &[u8], at: usize) -> u16 {
        match bytes.get(at..).and_then(|b| b.first_chunk::<2>()) {
            Some(&b) if self.big_endian => u16::from_be_bytes(b),
            Some(&b) => u16::from_le_bytes(b),
            None => 0,
        }
    }
}

impl Interface {
    /// The time in nanoseconds since 1970, as far as it can be told.
    #[inline]
    fn time(&self, ticks: u64) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let ticks = u128::from(ticks);
        let nanoseconds = match self.unit {
            Unit::Nanoseconds(n) => ticks * u128::from(n),
            Unit::TicksPerNanosecond(n) => ticks / n,
            Unit::Binary(bits) => (ticks * SECOND) >> bits,
        };
        let shifted = nanoseconds.cast_signed() + i128::from(self.offset) * SECOND.cast_signed();
        u64::try_from(shifted.max(0)).unwrap_or(MAX_TIME).min(MAX_TIME)
    }
}

/// What an `if_tsresol` of this value says: a negative power of ten or, with the top bit, of two.
fn unit(resolution: u8) -> (Unit, u8) {
    let power = u32::from(resolution & 0x7f);
    let binary = resolution & 0x80 != 0;
    let digits = if power <= if binary { 19 } else { 6 } { 6 } else { 9 };
    let unit = match power {
        _ if binary => Unit::Binary(power),
        0..=9 => Unit::Nanoseconds(10_u64.pow(9 - power)),
        _ => Unit::TicksPerNanosecond(10_u128.checked_pow(power - 9).unwrap_or(u128::MAX)),
    };
    (unit, digits)
}

#[inline]
fn check_length(captured: u32, room: usize) -> Result<(), String> {
    if captured > MAX_PACKET {
        return Err(format!("a packet says that it holds {captured} bytes; none has more than {MAX_PACKET}"));
    }
    if captured as usize > room {
        return Err(format!("a packet says that it holds {captured} bytes; its block has room for {room}"));
    }
    Ok(())
}

#[cold]
fn too_short(what: &str, len: usize, least: usize) -> String {
    format!("a {what} says that it has {len} bytes; at least {least} would be right")
}

#[cold]
fn bad(input: &Input, message: String) -> Stop {
    Stop::Bad { offset: input.offset(), message }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Capture;

    /// Time, digits, bytes and original length.
    type Packet = (u64, u8, Vec<u8>, u32);

    /// Builds files in one byte order.
    struct Builder {
        big_endian: bool,
        bytes: Vec<u8>,
    }

    impl Builder {
        fn new(big_endian: bool) -> Builder {
            let mut this = Builder { big_endian, bytes: Vec::new() };
            this.section();
            this
        }

        fn section(&mut self) {
            self.block(SECTION_HEADER, &[0x1a2b_3c4d, self.halves(1, 0), u32::MAX, u32::MAX], b"");
        }

        fn halves(&self, first: u16, second: u16) -> u32 {
            let (high, low) = if self.big_endian { (first, second) } else { (second, first) };
            u32::from(high) << 16 | u32::from(low)
        }

        fn word(&mut self, word: u32) {
            self.bytes.extend(if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() });
        }

        fn block(&mut self, kind: u32, words: &[u32], tail: &[u8]) {
            let len = 12 + words.len() * 4 + tail.len().next_multiple_of(4);
            self.word(kind);
            self.word(len as u32);
            for word in words {
                self.word(*word);
            }
            self.bytes.extend(tail);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
            self.word(len as u32);
        }

        fn interface(&mut self, link: u16, snaplen: u32, options: &[u32]) {
            let words = [&[self.halves(link, 0), snaplen], options].concat();
            self.block(INTERFACE, &words, b"");
        }

        fn packet(&mut self, interface: u32, time: u64, captured: &[u8], original: u32) {
            let words = [interface, (time >> 32) as u32, time as u32, captured.len() as u32, original];
            self.block(ENHANCED_PACKET, &words, captured);
        }

        fn read(&self) -> (Vec<Packet>, String) {
            let mut packets = Vec::new();
            let mut capture = match Capture::from_bytes("x", self.bytes.clone()) {
                Ok(capture) => capture,
                Err(error) => return (packets, error.to_string()),
            };
            loop {
                match capture.next() {
                    Ok(Some(p)) => packets.push((p.time, p.digits, p.captured.to_vec(), p.original_len)),
                    Ok(None) => return (packets, String::new()),
                    Err(error) => return (packets, error.to_string()),
                }
            }
        }
    }

    #[test]
    fn sections_interfaces_and_all_packet_blocks_in_both_byte_orders() {
        let mut all = Vec::new();
        for big_endian in [false, true] {
            let mut file = Builder::new(big_endian);
            file.block(0x0bad, &[1, 2, 3], b"an unknown block");
            file.interface(1, 4, &[]);
            // if_tsresol 9, if_tsoffset 100 s, end of options; and one cut short.
            let nine = if big_endian { 0x0900_0000 } else { 9 };
            let resolution = [file.halves(9, 1), nine, file.halves(14, 8)];
            let (high, low) = (0, 100);
            let offset = if big_endian { [high, low] } else { [low, high] };
            file.interface(1, 0, &[&resolution[..], &offset, &[0]].concat());
            file.interface(113, 0, &[file.halves(9, 1000)]);
            file.packet(0, 5_000_001, b"abcde", 60);
            file.packet(1, 7, b"", 0);
            file.block(SIMPLE_PACKET, &[6], b"wxyz");
            let words = [file.halves(1, 3), 0, 9, 2, 1];
            file.block(OLD_PACKET, &words, b"ok");
            file.section();
            file.interface(1, 0, &[]);
            file.block(SIMPLE_PACKET, &[2], b"pq");
            all.push(file);
        }
        let expected = vec![
            (5_000_001_000, 6, b"abcde".to_vec(), 60),
            (100_000_000_007, 9, vec![], 0),
            (100_000_000_007, 9, b"wxyz".to_vec(), 6),
            (100_000_000_009, 9, b"ok".to_vec(), 2),
            (100_000_000_009, 9, b"pq".to_vec(), 2),
        ];
        for file in &all {
            assert_eq!(file.read(), (expected.clone(), String::new()));
        }
        // And sections of different order in one file.
        let second = all[1].bytes.clone();
        all[0].bytes.extend(second);
        assert_eq!(all[0].read().0, [expected.clone(), expected].concat());
    }

    #[test]
    fn lies_and_other_link_types_are_errors_with_their_place() {
        fn damaged(damage: impl Fn(&mut Builder)) -> String {
            let mut file = Builder::new(false);
            file.interface(1, 0, &[]);
            file.packet(0, 1, b"good", 4);
            assert_eq!(file.bytes.len(), 84);
            damage(&mut file);
            let (packets, error) = file.read();
            assert_eq!(packets.len(), 1, "{error}");
            error.strip_prefix("x: at byte 84: ").unwrap_or_else(|| panic!("{error}")).to_string()
        }
        assert_eq!(
            damaged(|f| f.packet(1, 0, b"", 0)),
            "a packet is of interface 1, but the section has described 1, from 0"
        );
        let sll = "link type 276 (LINUX_SLL2, Linux cooked)";
        let mut file = Builder::new(true);
        file.interface(276, 0, &[]);
        file.packet(0, 1, b"good", 4);
        assert!(file.read().1.contains(sll));
        assert!(
            damaged(|f| f.block(ENHANCED_PACKET, &[0, 0, 0, 9, 9], b"12345678"))
                .ends_with("a packet says that it holds 9 bytes; its block has room for 8")
        );
        assert!(
            damaged(|f| f.block(ENHANCED_PACKET, &[0, 0, 0, 300_000, 9], b"")).contains("holds 300000 bytes")
        );
        assert!(damaged(|f| f.block(SIMPLE_PACKET, &[9], b"12345678")).contains("holds 9 bytes"));
        assert!(
            damaged(|f| f.block(ENHANCED_PACKET, &[0, 0, 0, 0], b"")).contains("has 28 bytes; at least 32")
        );
        assert!(damaged(|f| f.block(SIMPLE_PACKET, &[], b"")).contains("at least 16"));
        assert!(damaged(|f| f.block(INTERFACE, &[0], b"")).contains("at least 20"));
        assert!(
            damaged(|f| f.bytes.extend([[7, 0, 0, 0], [13, 0, 0, 0], [0; 4]].concat())).contains("13 bytes")
        );
        assert!(
            damaged(|f| f.bytes.extend([[7, 0, 0, 0], [8, 0, 0, 0], [0; 4]].concat())).contains("8 bytes")
        );
        assert!(
            damaged(|f| f.bytes.extend([[7, 0, 0, 0], [0, 0, 0, 9], [0; 4]].concat())).contains("150994944")
        );
        assert_eq!(
            damaged(|f| f.bytes.extend([[7, 0, 0, 0], [12, 0, 0, 0], [16, 0, 0, 0]].concat())),
            "a block says that it has 12 bytes, but at its end that it has 16"
        );
        assert!(
            damaged(|f| f.bytes.extend([0x0a0d_0d0a_u32.to_le_bytes(), [28, 0, 0, 0], [1; 4]].concat()))
                .contains("[01, 01, 01, 01] where 1a 2b 3c 4d")
        );
        assert!(
            damaged(|f| f.block(SECTION_HEADER, &[0x1a2b_3c4d, 2, 0, 0], b""))
                .contains("of version 2.0; 1.0 can be")
        );
        assert!(damaged(|f| f.block(SECTION_HEADER, &[0x1a2b_3c4d], b"")).contains("at least 28"));
    }

    #[test]
    fn every_resolution_gives_nanoseconds_that_fit() {
        let of = |resolution: u8, offset: i64, ticks: u64| {
            let (unit, digits) = unit(resolution);
            (Interface { link: 1, snaplen: 0, unit, offset, digits }.time(ticks), digits)
        };
        assert_eq!(of(0, 0, 3), (3_000_000_000, 6));
        assert_eq!(of(3, 0, 1_500), (1_500_000_000, 6));
        assert_eq!(of(6, -1, 1_000_001), (1_000, 6));
        assert_eq!(of(7, 0, 15), (1_500, 9));
        assert_eq!(of(9, 1, 15), (1_000_000_015, 9));
        assert_eq!(of(12, 0, 15_999), (15, 9));
        assert_eq!(of(0x80 | 1, 0, 3), (1_500_000_000, 6));
        assert_eq!(of(0x80 | 19, 0, 1 << 20), (2_000_000_000, 6));
        assert_eq!(of(0x80 | 20, 0, 1 << 19), (500_000_000, 9));
        for resolution in 0..=u8::MAX {
            for offset in [i64::MIN, 0, i64::MAX] {
                for ticks in [0, 1, u64::MAX] {
                    assert!(of(resolution, offset, ticks).0 <= MAX_TIME);
                }
            }
        }
        assert_eq!(of(0, i64::MAX, u64::MAX).0, MAX_TIME);
        assert_eq!(of(9, i64::MIN, 5).0, 0);
    }
}
