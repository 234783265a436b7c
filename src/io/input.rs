//! Where a capture's bytes come from: a file or stream, unpacked if it is gzip, read in big pieces into one buffer.

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;

use super::system_text;

/// Bytes asked for at once: enough to make system calls cheap, little enough to stay in the cache.
const PIECE: usize = 64 * 1024;

/// Bytes unpacked at once. What a damaged stream would have given in the same go is lost with it, so it is little.
const UNPACKED: usize = 4096;

/// A stream of bytes with a window onto what comes next.
pub(super) struct Input {
    source: Source,
    buffer: Vec<u8>,
    /// The window is `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The offset in the unpacked stream of `buffer[0]`.
    base: u64,
    ended: bool,
    consumed: Arc<AtomicU64>,
}

enum Source {
    Plain(Raw),
    Gzip(Box<Gunzip>),
}

type Raw = Box<dyn Read + Send>;

impl Input {
    /// A stream, unpacked if its first bytes are those of gzip.
    pub(super) fn new(reader: Raw) -> Result<Input, String> {
        let consumed = Arc::new(AtomicU64::new(0));
        let mut raw: Raw = Box::new(Counted { reader, count: Arc::clone(&consumed) });
        let mut head = Vec::with_capacity(2);
        raw.by_ref().take(2).read_to_end(&mut head).map_err(|e| unreadable(&e))?;
        let gzip = head == [0x1f, 0x8b];
        let whole: Raw = Box::new(Cursor::new(head).chain(raw));
        let source = if gzip { Source::Gzip(Box::new(Gunzip::new(whole))) } else { Source::Plain(whole) };
        Ok(Input { source, buffer: vec![0; PIECE], start: 0, end: 0, base: 0, ended: false, consumed })
    }

    /// Whether the window holds at least `n` bytes, after reading more if it has to; false only at the end of the stream.
    #[inline]
    pub(super) fn need(&mut self, n: usize) -> Result<bool, String> {
        if self.end - self.start >= n { Ok(true) } else { self.refill(n) }
    }

    /// What comes next, as far as it has been read.
    #[inline]
    pub(super) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Moves the window on by `n` bytes, which must be in it. What was in it can be had by `bytes` until the next `need`.
    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start);
        self.start = (self.start + n).min(self.end);
    }

    /// Where the window begins in the buffer, for `bytes`.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// Bytes of the buffer.
    #[inline]
    pub(super) fn bytes(&self, position: usize, len: usize) -> &[u8] {
        self.buffer.get(position..position + len).unwrap_or_default()
    }

    /// Where the window begins in the unpacked stream.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Bytes of the file or stream itself that have been read, packed if it is packed.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Why the end of the stream is not the end that it should have had.
    pub(super) fn bad_end(&self) -> Option<&'static str> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Gzip(gunzip) => gunzip.bad_end,
        }
    }

    #[cold]
    fn refill(&mut self, n: usize) -> Result<bool, String> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        while self.end < n && !self.ended {
            if self.end == self.buffer.len() {
                // It grows with what has come, not with what was promised.
                let room = self.buffer.len() * 2;
                self.buffer.resize(room, 0);
            }
            let into = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.source.read(into)? {
                0 => self.ended = true,
                got => self.end += got,
            }
        }
        Ok(self.end >= n)
    }
}

impl Source {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, String> {
        match self {
            Source::Plain(raw) => loop {
                match raw.read(into) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    done => return done.map_err(|e| unreadable(&e)),
                }
            },
            Source::Gzip(gunzip) => gunzip.read(into),
        }
    }
}

/// A gzip stream of one or more members.
struct Gunzip {
    /// Absent once the stream has ended.
    decoder: Option<GzDecoder<BufReader<Raw>>>,
    first: bool,
    bad_end: Option<&'static str>,
}

impl Gunzip {
    fn new(raw: Raw) -> Gunzip {
        let decoder = GzDecoder::new(BufReader::with_capacity(PIECE, raw));
        Gunzip { decoder: Some(decoder), first: true, bad_end: None }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, String> {
        let (into, _) = into.split_at_mut(into.len().min(UNPACKED));
        while let Some(mut decoder) = self.decoder.take() {
            match decoder.read(into) {
                Ok(0) => {
                    let mut rest = decoder.into_inner();
                    if !rest.fill_buf().map_err(|e| unreadable(&e))?.is_empty() {
                        self.first = false;
                        self.decoder = Some(GzDecoder::new(rest));
                    }
                }
                Ok(got) => {
                    self.decoder = Some(decoder);
                    return Ok(got);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => self.decoder = Some(decoder),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                    self.bad_end = Some("the gzip stream is cut");
                }
                Err(_) if !self.first && decoder.header().is_none() => {
                    self.bad_end = Some("the bytes behind the gzip stream are not read");
                }
                Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                    return Err(format!("the gzip stream is damaged: {e}"));
                }
                Err(e) => return Err(unreadable(&e)),
            }
        }
        Ok(0)
    }
}

/// A reader that says how much it has read.
struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let got = self.reader.read(into)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {}", system_text(error))
}
