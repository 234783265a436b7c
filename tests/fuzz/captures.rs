//! Capture bytes to packets.

use std::io::Read;

use clearway::io::write::{file_header, record_header};
use clearway::io::{Capture, CaptureError, MAX_PACKET, MAX_TIME};

/// What came of reading a capture.
#[derive(Debug, PartialEq)]
struct Reading {
    packets: Vec<(u64, u8, u32, Vec<u8>)>,
    error: Option<String>,
    warning: Option<String>,
}

/// No panic, packets within their limits, and the same ones whatever the pieces in which the
/// bytes come; a cut capture gives a beginning of them; written out and read again they are the same.
pub fn run(bytes: &[u8]) {
    let whole = read(Capture::from_bytes("fuzz", bytes.to_vec()));
    let step =
        bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));

    let pieces = Pieces { bytes: bytes.to_vec(), at: 0, step: 1 + step % 61 };
    let slow = read(Capture::from_reader("fuzz", Box::new(pieces), None));
    let gzip_damage = whole.error.as_ref().is_some_and(|e| e.contains("gzip"));
    if gzip_damage {
        let shorter = slow.packets.len().min(whole.packets.len());
        assert_eq!(slow.packets[..shorter], whole.packets[..shorter]);
        assert!(slow.error.is_some());
    } else {
        assert_eq!(slow, whole);
    }

    let cut = bytes.get(..step % (bytes.len() + 1)).unwrap_or_default();
    let beginning = read(Capture::from_bytes("fuzz", cut.to_vec()));
    let common = beginning.packets.len().min(whole.packets.len());
    assert_eq!(beginning.packets[..common], whole.packets[..common]);
    assert!(gzip_damage || beginning.packets.len() == common);

    let mut again = file_header(true).to_vec();
    for (time, _, original_len, captured) in &whole.packets {
        again.extend(record_header(*time, true, captured.len() as u32, *original_len));
        again.extend(captured);
    }
    let again = read(Capture::from_bytes("again", again));
    assert_eq!((again.error, again.warning), (None, None));
    assert_eq!(again.packets.len(), whole.packets.len());
    for (new, old) in again.packets.iter().zip(&whole.packets) {
        assert_eq!((new.2, &new.3), (old.2, &old.3));
        assert!(new.0 == old.0 || old.0 / 1_000_000_000 > u64::from(u32::MAX));
    }
}

fn read(capture: Result<Capture, CaptureError>) -> Reading {
    let mut reading = Reading { packets: Vec::new(), error: None, warning: None };
    let mut capture = match capture {
        Ok(capture) => capture,
        Err(error) => {
            reading.error = Some(error.to_string());
            return reading;
        }
    };
    loop {
        match capture.next() {
            Ok(Some(packet)) => {
                assert!(packet.captured.len() <= packet.original_len as usize);
                assert!(packet.captured.len() <= MAX_PACKET as usize);
                assert!(packet.time <= MAX_TIME);
                assert!(packet.digits == 6 || packet.digits == 9);
                let captured = packet.captured.to_vec();
                reading.packets.push((packet.time, packet.digits, packet.original_len, captured));
            }
            Ok(None) => break,
            Err(error) => {
                reading.error = Some(error.to_string());
                break;
            }
        }
    }
    assert!(matches!(capture.next(), Ok(None)), "after the end there is nothing");
    assert_eq!(capture.packets(), reading.packets.len() as u64);
    reading.warning = capture.warning().map(ToString::to_string);
    reading
}

/// A reader that gives a few bytes at a time.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = rest.len().min(self.step).min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}
