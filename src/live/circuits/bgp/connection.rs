//! A TCP connection with a peer: what is still to be sent, and how much may be read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use super::super::budget::Budget;
use crate::sys::{Epoll, Interest};
use crate::types::{Nanos, SECOND};

/// What is read at once: who sends more comes again when all others had their turn.
pub(super) const PIECE: usize = 32 << 10;

/// What a peer may send at once and then in time, in bytes: many times what all its routes take, but not the whole core.
const BURST: u64 = 4 << 20;
/// About 1 MB a second.
const EVERY: Nanos = 1_000;

/// Bytes that may wait for a peer to take them: many times all that we have to say.
const UNSENT: usize = 4 << 20;

/// How long a connection that is closed may take for what is left to send, and for the peer to close it, too.
const FAREWELL: Nanos = 3 * SECOND;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being made.
    Dialling,
    /// The session knows it.
    Open,
    /// The session has closed it. What was said last is being sent, and what comes is not read any more.
    Closing {
        /// Until then at most.
        until: Nanos,
        /// Everything is sent and our half is closed.
        said: bool,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) stage: Stage,
    unsent: VecDeque<u8>,
    /// Since when nothing of what waits was taken.
    stuck_since: Nanos,
    reading: Budget,
    /// It has read more than it may, and waits.
    rests: bool,
    interest: Interest,
    key: u64,
}

/// What reading brought.
#[derive(Debug)]
pub(super) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The peer has closed it, or it broke: why, if there is more to say.
    End(Option<String>),
}

impl Connection {
    /// A connection under this name in the set.
    pub(super) fn new(stream: TcpStream, stage: Stage, key: u64, epoll: &Epoll) -> io::Result<Connection> {
        let interest = Interest { read: stage == Stage::Open, write: stage == Stage::Dialling };
        epoll.add(&stream, key, interest)?;
        Ok(Connection {
            stream,
            stage,
            unsent: VecDeque::new(),
            stuck_since: 0,
            reading: Budget::new(BURST, EVERY),
            rests: false,
            interest,
            key,
        })
    }

    /// What came of dialling.
    pub(super) fn dialled(&mut self) -> io::Result<()> {
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => self.stream.peer_addr().map(|_| self.stage = Stage::Open),
        }
    }

    /// Sends behind what is there.
    pub(super) fn send(&mut self, bytes: &[u8], now: Nanos) {
        if self.unsent.is_empty() {
            self.stuck_since = now;
        }
        self.unsent.extend(bytes);
    }

    /// It is to be closed once everything is sent.
    pub(super) fn close(&mut self, now: Nanos) {
        self.stage = Stage::Closing { until: now.saturating_add(FAREWELL), said: false };
    }

    /// Sends what the kernel takes. A sentence if that is no use any more.
    pub(super) fn flush(&mut self, hold: Nanos, now: Nanos) -> Result<(), String> {
        if self.stage == Stage::Dialling {
            return Ok(());
        }
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(0) => break,
                Ok(length) => {
                    self.unsent.drain(..length);
                    self.stuck_since = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        if let Stage::Closing { until, said: false } = self.stage
            && self.unsent.is_empty()
        {
            self.stream.shutdown(Shutdown::Write).map_err(|e| e.to_string())?;
            self.stage = Stage::Closing { until, said: true };
        }
        if self.unsent.len() > UNSENT {
            return Err(format!("the peer has not taken {} bytes that were sent to it", self.unsent.len()));
        }
        if self.stuck_at(hold).is_some_and(|at| at <= now) {
            return Err(format!("the peer has taken nothing of what was sent to it for {} s", hold / SECOND));
        }
        Ok(())
    }

    /// Reads once, into the buffer or, of one that is being closed, to nowhere. Of one that has failed nothing more comes, so
    /// that the rest may be read without a measure.
    pub(super) fn read(&mut self, buffer: &mut [u8], failed: bool, now: Nanos) -> Got {
        let left = usize::try_from(self.reading.left(now)).unwrap_or(usize::MAX);
        let most = if failed { buffer.len() } else { left.min(buffer.len()) };
        let Some(place) = buffer.get_mut(..most).filter(|place| !place.is_empty()) else {
            return Got::Nothing;
        };
        match self.stream.read(place) {
            Ok(0) => Got::End(None),
            Ok(length) => {
                self.reading.spend(length as u64);
                self.rests = self.reading.left(now) == 0;
                if self.stage == Stage::Open { Got::Bytes(length) } else { Got::Nothing }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Got::Nothing,
            Err(e) => Got::End(Some(e.to_string())),
        }
    }

    /// When something is to be done without the peer: going on to read, or giving up.
    pub(super) fn deadline(&self, hold: Nanos) -> Option<Nanos> {
        let rest = self.rests.then(|| self.reading.ready_at(PIECE as u64));
        let farewell = match self.stage {
            Stage::Closing { until, .. } => Some(until),
            _ => None,
        };
        [rest, farewell, self.stuck_at(hold)].into_iter().flatten().min()
    }

    /// True if it has been closed for so long that it goes in any case.
    pub(super) fn is_over(&self, now: Nanos) -> bool {
        matches!(self.stage, Stage::Closing { until, .. } if until <= now)
    }

    /// Waits for what it is to be waited for from now on.
    pub(super) fn wait(&mut self, epoll: &Epoll, now: Nanos) {
        if self.rests && self.reading.left(now) >= PIECE as u64 {
            self.rests = false;
        }
        let dialling = self.stage == Stage::Dialling;
        let wanted = Interest { read: !dialling && !self.rests, write: dialling || !self.unsent.is_empty() };
        // If it cannot be changed, which happens to none that is open, the session ends by its timers.
        if wanted != self.interest && epoll.change(&self.stream.as_fd(), self.key, wanted).is_ok() {
            self.interest = wanted;
        }
    }

    fn stuck_at(&self, hold: Nanos) -> Option<Nanos> {
        (!self.unsent.is_empty()).then(|| self.stuck_since.saturating_add(hold))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const HOLD: Nanos = 90 * SECOND;

    /// Both ends of a connection, ours with the set that it is in.
    fn pair() -> (Connection, TcpStream, Epoll) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let epoll = Epoll::new().unwrap();
        (Connection::new(ours, Stage::Open, 1, &epoll).unwrap(), theirs, epoll)
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let (mut ours, mut theirs, epoll) = pair();
        ours.send(b"hello", 0);
        ours.flush(HOLD, 0).unwrap();
        assert_eq!(ours.deadline(HOLD), None);
        let mut got = [0; 5];
        theirs.read_exact(&mut got).unwrap();
        // More than the kernel has room for, also once it has made some.
        while ours.unsent.is_empty() {
            ours.send(&vec![7; UNSENT / 2], SECOND);
            for _ in 0..20 {
                ours.flush(HOLD, SECOND).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        ours.wait(&epoll, SECOND);
        assert_eq!((ours.deadline(HOLD), ours.interest.write), (Some(HOLD + SECOND), true));
        ours.flush(HOLD, HOLD).unwrap();
        let why = ours.flush(HOLD, HOLD + SECOND).unwrap_err();
        assert_eq!(why, "the peer has taken nothing of what was sent to it for 90 s");
        // Or at once, if it is too much.
        ours.send(&vec![7; UNSENT], 2 * SECOND);
        assert!(ours.flush(HOLD, 2 * SECOND).unwrap_err().contains("has not taken"));
    }

    #[test]
    fn what_was_said_last_arrives() {
        let (mut ours, mut theirs, epoll) = pair();
        // What is not read any more would break the connection before the peer has read ours.
        theirs.write_all(&[1; 1000]).unwrap();
        ours.send(b"farewell", 0);
        ours.close(0);
        ours.flush(HOLD, 0).unwrap();
        ours.wait(&epoll, 0);
        assert!(matches!(ours.stage, Stage::Closing { said: true, .. }) && ours.interest.read);
        let mut got = String::new();
        theirs.read_to_string(&mut got).unwrap();
        assert_eq!(got, "farewell");
        assert!(!ours.is_over(FAREWELL - 1) && ours.is_over(FAREWELL));
        drop(theirs);
        let mut buffer = [0; 4096];
        while let Got::Nothing = ours.read(&mut buffer, false, 0) {}
    }

    #[test]
    fn who_sends_too_much_waits() {
        let (mut ours, mut theirs, epoll) = pair();
        let writer = std::thread::spawn(move || while theirs.write_all(&[1; PIECE]).is_ok() {});
        let (mut buffer, mut read) = (vec![0; PIECE], 0);
        while !ours.rests {
            if let Got::Bytes(length) = ours.read(&mut buffer, false, 0) {
                read += length as u64;
            }
        }
        assert_eq!(read, BURST);
        ours.wait(&epoll, 0);
        let again = ours.deadline(HOLD).unwrap();
        assert_eq!((again, ours.interest.read), (PIECE as u64 * EVERY, false));
        ours.wait(&epoll, again);
        assert!(ours.interest.read && ours.deadline(HOLD).is_none());
        drop(ours);
        writer.join().unwrap();
    }
}
