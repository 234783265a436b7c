//! The classic pcap writer: little-endian, Ethernet, micro- or nanoseconds.

use std::path::Path;

use super::MAX_PACKET;
use super::output::{AtomicFile, OutputError};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// A capture that is being written.
#[derive(Debug)]
pub struct PcapWriter {
    file: AtomicFile,
    nanosecond: bool,
}

/// The header of a capture of Ethernet frames.
pub fn file_header(nanosecond: bool) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    let magic: u32 = if nanosecond { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    header[0..4].copy_from_slice(&magic.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    header[16..20].copy_from_slice(&MAX_PACKET.to_le_bytes());
    header[20..24].copy_from_slice(&super::ETHERNET.to_le_bytes());
    header
}

/// The header of one packet. Seconds beyond the year 2106 do not fit and are held there.
pub fn record_header(
    time: u64,
    nanosecond: bool,
    captured_len: u32,
    original_len: u32,
) -> [u8; RECORD_HEADER] {
    let seconds = u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX);
    let fraction = (time % 1_000_000_000) as u32;
    let fraction = if nanosecond { fraction } else { fraction / 1000 };
    let mut header = [0; RECORD_HEADER];
    header[0..4].copy_from_slice(&seconds.to_le_bytes());
    header[4..8].copy_from_slice(&fraction.to_le_bytes());
    header[8..12].copy_from_slice(&captured_len.to_le_bytes());
    header[12..16].copy_from_slice(&original_len.to_le_bytes());
    header
}

impl PcapWriter {
    /// Begins a capture that is to have this path in the end.
    pub fn create(path: &Path, nanosecond: bool) -> Result<PcapWriter, OutputError> {
        let mut file = AtomicFile::create(path)?;
        file.put(&file_header(nanosecond))?;
        Ok(PcapWriter { file, nanosecond })
    }

    /// Appends a whole frame with its time in nanoseconds since 1970.
    #[inline]
    pub fn write(&mut self, time: u64, frame: &[u8]) -> Result<(), OutputError> {
        self.write_cut(time, frame, frame.len() as u32)
    }

    /// Appends a frame of which only the beginning was captured.
    #[inline]
    pub fn write_cut(&mut self, time: u64, frame: &[u8], original_len: u32) -> Result<(), OutputError> {
        self.file.put(&record_header(time, self.nanosecond, frame.len() as u32, original_len))?;
        self.file.put(frame)
    }

    /// From here on nanoseconds; what was written before is changed in place. For the rare input that turns out to be
    /// finer than microseconds only on the way.
    pub fn use_nanoseconds(&mut self) -> Result<(), OutputError> {
        if self.nanosecond {
            return Ok(());
        }
        self.nanosecond = true;
        let end = self.file.len();
        self.file.put_at(0, &file_header(true))?;
        let mut at = FILE_HEADER as u64;
        while at < end {
            let mut lengths = [0; RECORD_HEADER];
            self.file.read_at(at, &mut lengths)?;
            let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = lengths;
            let fraction = u32::from_le_bytes([a, b, c, d]) * 1000;
            self.file.put_at(at + 4, &fraction.to_le_bytes())?;
            at += RECORD_HEADER as u64 + u64::from(u32::from_le_bytes([e, f, g, h]));
        }
        Ok(())
    }

    /// The file, to be [committed](super::commit) together with others.
    pub fn into_file(self) -> AtomicFile {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Capture;

    fn times(path: &Path) -> (Vec<(u64, u8)>, Vec<u8>) {
        let bytes = std::fs::read(path).unwrap();
        let mut capture = Capture::open(path.to_str().unwrap()).unwrap();
        let mut times = Vec::new();
        while let Some(packet) = capture.next().unwrap() {
            times.push((packet.time, packet.digits));
        }
        assert!(capture.warning().is_none());
        (times, bytes)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fabric.pcap");
        let mut writer = PcapWriter::create(&path, false).unwrap();
        writer.write(1_000_001_999, b"frame").unwrap();
        writer.write_cut(5_000_000_000_000_000_000, b"", 70).unwrap();
        writer.into_file().finish().unwrap();
        let mut capture = Capture::open(path.to_str().unwrap()).unwrap();
        let packet = capture.next().unwrap().unwrap();
        assert_eq!((packet.time, packet.captured, packet.original_len), (1_000_001_000, &b"frame"[..], 5));
        let packet = capture.next().unwrap().unwrap();
        assert_eq!((packet.time, packet.original_len), (u64::from(u32::MAX) * 1_000_000_000, 70));
        assert!(capture.next().unwrap().is_none());
    }

    #[test]
    fn nanoseconds_from_half_way_are_as_nanoseconds_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (early, late) = (folder.path().join("early.pcap"), folder.path().join("late.pcap"));
        let mut writers =
            [PcapWriter::create(&early, true).unwrap(), PcapWriter::create(&late, false).unwrap()];
        for writer in &mut writers {
            for n in 0..1000 {
                writer.write(n * 999_999_000, &vec![n as u8; n as usize]).unwrap();
            }
            writer.use_nanoseconds().unwrap();
            writer.write(5_000_000_001, b"fine").unwrap();
        }
        crate::io::commit(writers.into_iter().map(PcapWriter::into_file).collect()).unwrap();
        let (times_, bytes) = times(&late);
        assert_eq!(times_.last(), Some(&(5_000_000_001, 9)));
        assert_eq!(times_[3], (2_999_997_000, 9));
        assert_eq!(bytes, times(&early).1);
    }
}
