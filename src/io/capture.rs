//! One capture, read from its beginning to its end: whatever the format, packets come out.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::Arc;

use super::input::Input;
use super::pcap::Pcap;
use super::pcapng::Pcapng;
use super::system_text;

/// A capture that is being read: pcap or pcapng, packed by gzip or not.
///
/// Memory does not grow with the capture: there is one packet at a time, in the reader's own buffer.
pub struct Capture {
    name: Arc<str>,
    input: Input,
    format: Format,
    current: Option<Record>,
    packets: u64,
    size: Option<u64>,
    ended: bool,
    warning: Option<CaptureWarning>,
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured, in nanoseconds since 1970; at most [`MAX_TIME`](super::MAX_TIME).
    pub time: u64,
    /// The digits behind the second that its capture has: 6, or 9 if it is finer than microseconds.
    pub digits: u8,
    /// The frame, as far as it was captured.
    pub captured: &'a [u8],
    /// The length that the frame had; never below what was captured.
    pub original_len: u32,
}

/// Why a capture cannot be read, or not further. The packets before it have been handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureError {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in the (unpacked) file the damage begins; absent when the file as a whole is meant.
    pub offset: Option<u64>,
    /// A sentence that says what is wrong and what would be right.
    pub message: String,
}

/// What is odd about a capture whose whole records could all be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureWarning {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in the (unpacked) file the whole records end.
    pub offset: u64,
    /// A sentence that says what happened.
    pub message: String,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// A packet's place in the input's buffer.
pub(super) struct Record {
    pub(super) time: u64,
    pub(super) digits: u8,
    pub(super) original_len: u32,
    pub(super) position: usize,
    pub(super) len: usize,
}

/// Why there is no further record.
pub(super) enum Stop {
    /// The stream ended where a record ends.
    End,
    /// The stream ended inside the record that begins here.
    Cut { offset: u64, message: String },
    /// What begins here cannot be understood.
    Bad { offset: u64, message: String },
}

impl Capture {
    /// Opens a file, or standard input if `name` is `-`.
    pub fn open(name: &str) -> Result<Capture, CaptureError> {
        if name == "-" {
            return Capture::from_reader("standard input", Box::new(std::io::stdin()), None);
        }
        let refuse = |error: &std::io::Error| CaptureError {
            file: name.into(),
            offset: None,
            message: format!("cannot be opened: {}", system_text(error)),
        };
        let file = File::open(name).map_err(|e| refuse(&e))?;
        let about = file.metadata().map_err(|e| refuse(&e))?;
        Capture::from_reader(name, Box::new(file), about.is_file().then_some(about.len()))
    }

    /// A capture that is already in memory.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Capture, CaptureError> {
        let size = bytes.len() as u64;
        Capture::from_reader(name, Box::new(Cursor::new(bytes)), Some(size))
    }

    /// A capture from any stream; `size` is its length in bytes where that is known.
    pub fn from_reader(
        name: &str,
        reader: Box<dyn Read + Send>,
        size: Option<u64>,
    ) -> Result<Capture, CaptureError> {
        let name: Arc<str> = name.into();
        let refuse = |offset, message| CaptureError { file: Arc::clone(&name), offset, message };
        let mut input = Input::new(reader).map_err(|m| refuse(None, m))?;
        input.need(4).map_err(|m| refuse(None, m))?;
        let format = match *input.window() {
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Pcapng::open(&mut input).map(Format::Pcapng),
            _ => Pcap::open(&mut input).map(Format::Pcap),
        };
        let format = format.map_err(|stop| match stop {
            // A little more tells better what else it may be; an error while reading it tells nothing.
            Stop::End => refuse(None, input.need(16).map_or_else(|m| m, |_| no_capture(&input))),
            Stop::Cut { offset, message } | Stop::Bad { offset, message } => refuse(Some(offset), message),
        })?;
        Ok(Capture { name, input, format, current: None, packets: 0, size, ended: false, warning: None })
    }

    /// The next packet; none at the end. After an error there is no further packet.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend out its buffer")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        self.advance()?;
        Ok(self.packet())
    }

    /// Reads the next packet, which is then had by [`packet`](Capture::packet); false at the end.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, CaptureError> {
        if self.ended {
            self.current = None;
            return Ok(false);
        }
        let step = match &mut self.format {
            Format::Pcap(pcap) => pcap.advance(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.advance(&mut self.input),
        };
        match step {
            Ok(record) => {
                self.current = Some(record);
                self.packets += 1;
                Ok(true)
            }
            Err(stop) => self.stop(stop),
        }
    }

    /// The packet that was read last.
    #[inline]
    pub fn packet(&self) -> Option<Packet<'_>> {
        self.current.as_ref().map(|r| Packet {
            time: r.time,
            digits: r.digits,
            captured: self.input.bytes(r.position, r.len),
            original_len: r.original_len,
        })
    }

    /// The file, as it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packets handed out so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Whether any times of the capture are finer than microseconds, as far as it has been read.
    pub fn nanosecond(&self) -> bool {
        match &self.format {
            Format::Pcap(pcap) => pcap.nanosecond(),
            Format::Pcapng(pcapng) => pcapng.nanosecond(),
        }
    }

    /// How far reading has come: bytes of the file that have been read, and how many there are, where that is known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.input.consumed(), self.size)
    }

    /// What was odd about the capture; known once its end is reached.
    pub fn warning(&self) -> Option<&CaptureWarning> {
        self.warning.as_ref()
    }

    #[cold]
    fn stop(&mut self, stop: Stop) -> Result<bool, CaptureError> {
        self.ended = true;
        self.current = None;
        let end = self.input.bad_end();
        let (offset, message) = match (stop, end) {
            (Stop::Bad { offset, message }, _) => {
                return Err(CaptureError { file: Arc::clone(&self.name), offset: Some(offset), message });
            }
            (Stop::End, None) => return Ok(false),
            (Stop::End, Some(end)) => (self.input.offset(), format!("{end} here")),
            (Stop::Cut { offset, message }, None) => (offset, format!("the capture is cut: {message}")),
            (Stop::Cut { offset, message }, Some(end)) => (offset, format!("{end}: {message}")),
        };
        let counted = match self.packets {
            0 => "there is no packet before it".to_string(),
            1 => "the one packet before it counts".to_string(),
            n => format!("the {n} packets before it count"),
        };
        let message = format!("{message}; {counted}");
        self.warning = Some(CaptureWarning { file: Arc::clone(&self.name), offset, message });
        Ok(false)
    }
}

/// The sentence for something that is neither pcap nor pcapng, from its first bytes.
fn no_capture(input: &Input) -> String {
    const OTHERS: [(&[u8], &str); 8] = [
        (b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it first"),
        (b"\xfd7zXZ", "packed by xz; unpack it first"),
        (b"BZh", "packed by bzip2; unpack it first"),
        (b"PK\x03\x04", "a zip archive; unpack it first"),
        (b"\x1f\x8b", "packed by gzip twice; unpack it first"),
        (b"snoop\0", "a snoop capture; convert it to pcap first"),
        (b"{", "probably JSON"),
        (b"apiVersion", "a configuration"),
    ];
    let begins = input.window();
    if begins.is_empty() {
        let why = input.bad_end().map_or(String::new(), |end| format!(" ({end})"));
        return format!("is empty{why}: no capture at all");
    }
    let mut sentence = String::from("is no capture at all: it begins with");
    for byte in begins.iter().take(4) {
        sentence.push_str(&format!(" {byte:02x}"));
    }
    sentence.push_str(", and neither pcap (a1 b2 c3 d4 and its kin) nor pcapng (0a 0d 0d 0a) does");
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| begins.starts_with(magic)) {
        sentence.push_str(&format!("; it is {what}"));
    }
    sentence
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{}: at byte {offset}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for CaptureError {}

impl fmt::Display for CaptureWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: {}", self.file, self.offset, self.message)
    }
}

/// What a capture of another link type than Ethernet is told.
pub(super) fn wrong_link_type(link: u32) -> String {
    let name = match link {
        0 => "NULL, BSD loopback",
        3 => "AX25",
        6 => "IEEE802_5, Token Ring",
        7 => "ARCNET_BSD",
        8 => "SLIP",
        9 => "PPP",
        10 => "FDDI",
        12 | 14 | 101 => "RAW, IP without a frame",
        50 => "PPP_HDLC",
        51 => "PPP_ETHER",
        104 => "C_HDLC",
        105 => "IEEE802_11",
        107 => "FRELAY",
        108 => "LOOP",
        113 => "LINUX_SLL, Linux cooked",
        114 => "LTALK",
        117 => "PFLOG",
        119 => "IEEE802_11_PRISM",
        127 => "IEEE802_11_RADIOTAP",
        129 => "ARCNET_LINUX",
        143 => "DOCSIS",
        147..=162 => "USER, privately agreed",
        182 => "MFR",
        187 => "BLUETOOTH_HCI_H4",
        189 => "USB_LINUX",
        192 => "PPI",
        195 => "IEEE802_15_4_WITHFCS",
        197 => "ERF",
        220 => "USB_LINUX_MMAPPED",
        228 => "IPV4, IP without a frame",
        229 => "IPV6, IP without a frame",
        239 => "NFLOG",
        249 => "USBPCAP",
        253 => "NETLINK",
        276 => "LINUX_SLL2, Linux cooked",
        _ => "not known here",
    };
    let hint = match link {
        113 | 276 => "; capture on one interface instead of `any`",
        _ => "",
    };
    format!("has packets of link type {link} ({name}); a port takes Ethernet frames, link type 1{hint}")
}
