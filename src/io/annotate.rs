//! The pcapng writer: packets as they came in, each with a comment, one interface for each port.

use std::path::Path;

use super::output::{AtomicFile, OutputError, Sink};

/// A capture with comments that is being written.
#[derive(Debug)]
pub struct Annotated<S = AtomicFile> {
    out: S,
    block: Vec<u8>,
}

impl Annotated {
    /// Begins a capture that is to have this path in the end, with an interface for each of these names.
    pub fn create<N: AsRef<str>>(path: &Path, ports: &[N]) -> Result<Annotated, OutputError> {
        Annotated::over(AtomicFile::create(path)?, ports)
    }

    /// The file, to be [committed](super::commit) together with others.
    pub fn into_file(self) -> AtomicFile {
        self.out
    }
}

impl<S: Sink> Annotated<S> {
    /// Begins a capture that is put into `out` block by block, with an interface for each of these names.
    pub fn over<N: AsRef<str>>(out: S, ports: &[N]) -> Result<Annotated<S>, OutputError> {
        let mut this = Annotated { out, block: Vec::new() };
        this.begin(0x0a0d_0d0a);
        this.block.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        this.block.extend_from_slice(&[1, 0, 0, 0]);
        // The length of the section is not said.
        this.block.extend_from_slice(&[0xff; 8]);
        this.option(4, b"clearway");
        this.end()?;
        for port in ports {
            this.interface(port.as_ref())?;
        }
        Ok(this)
    }

    /// One more interface, with the next number.
    pub fn interface(&mut self, name: &str) -> Result<(), OutputError> {
        self.begin(1);
        // Ethernet, and no limit to what is captured.
        self.block.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        self.option(2, name.as_bytes());
        self.option(9, &[9]);
        self.end()
    }

    /// Where it is put.
    pub fn out(&self) -> &S {
        &self.out
    }

    /// Appends a packet of the port with this number (from 0), as it was captured.
    pub fn write(
        &mut self,
        port: u32,
        time: u64,
        captured: &[u8],
        original_len: u32,
        comment: &str,
    ) -> Result<(), OutputError> {
        self.begin(6);
        let captured_len = captured.len() as u32;
        for word in [port, (time >> 32) as u32, time as u32, captured_len, original_len] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        self.block.extend_from_slice(captured);
        self.pad();
        self.option(1, comment.as_bytes());
        self.end()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.block.extend_from_slice(&kind.to_le_bytes());
        self.block.extend_from_slice(&[0; 4]);
    }

    /// An option; what does not fit into one, 65,535 bytes, is left out whole rather than cut.
    fn option(&mut self, code: u16, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len()) else { return };
        self.block.extend_from_slice(&code.to_le_bytes());
        self.block.extend_from_slice(&len.to_le_bytes());
        self.block.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Ends the options, writes the length at both ends, and the block is done.
    fn end(&mut self) -> Result<(), OutputError> {
        self.block.extend_from_slice(&[0; 4]);
        let len = (self.block.len() as u32 + 4).to_le_bytes();
        self.block.extend_from_slice(&len);
        if let Some(field) = self.block.get_mut(4..8) {
            field.copy_from_slice(&len);
        }
        self.out.put(&self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Capture;

    #[test]
    fn packets_keep_their_times_and_lengths_and_have_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("annotated.pcapng");
        let mut writer = Annotated::create(&path, &["fabric", "edge-a"]).unwrap();
        let time = 1_700_000_000_123_456_789;
        writer.write(1, time, b"frame", 1500, "{\"packet\": 1}").unwrap();
        writer.write(0, time + 1, b"fram", 4, &"x".repeat(70_000)).unwrap();
        writer.into_file().finish().unwrap();
        let mut capture = Capture::open(path.to_str().unwrap()).unwrap();
        let packet = capture.next().unwrap().unwrap();
        assert_eq!((packet.time, packet.digits, packet.captured), (time, 9, &b"frame"[..]));
        assert_eq!(packet.original_len, 1500);
        assert_eq!(capture.next().unwrap().unwrap().time, time + 1);
        assert!(capture.next().unwrap().is_none() && capture.warning().is_none());

        let bytes = std::fs::read(&path).unwrap();
        let find = |what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
        assert!(find(b"\x02\x00\x06\x00edge-a\0\0\x09\0\x01\0\x09\0\0\0\0\0\0\0").is_some());
        assert!(find(b"frame\0\0\0\x01\x00\x0d\x00{\"packet\": 1}\0\0\0\0\0\0\0").is_some());
        assert!(find(b"xxxx").is_none());
    }
}
