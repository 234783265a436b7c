//! Captures in and out: readers for pcap and pcapng, the merge by time, and writers whose files appear whole or not at all.
//!
//! ```text
//! file, stdin ─► input (gunzip, buffer) ─► pcap | pcapng ─► capture ─► merge ─► packets in the order of the replay
//! frames ─► write (pcap) | annotate (pcapng) ─► output (temporary files) ─► commit: all of them or none
//! ```

pub mod annotate;
pub mod capture;
mod input;
pub mod merge;
pub mod output;
mod pcap;
mod pcapng;
pub mod write;

pub use annotate::Annotated;
pub use capture::{Capture, CaptureError, CaptureWarning, Packet};
pub use merge::{Merge, Merged};
pub use output::{AtomicFile, Growing, OutputError, Sink, commit, make_folder};
pub use write::PcapWriter;

/// The longest packet that a capture can hold: the limit of libpcap and Wireshark for Ethernet. Longer is a lie.
pub const MAX_PACKET: u32 = 262_144;

/// The latest time that a packet can have, in the year 2262: sums with it stay within 64 bits.
pub const MAX_TIME: u64 = i64::MAX as u64;

/// The link type of Ethernet.
const ETHERNET: u32 = 1;

/// What the system says of an error, without its number.
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}
