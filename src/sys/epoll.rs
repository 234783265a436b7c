//! Waiting for many sockets at once, of which few have something.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What is told at most at a time; the rest comes with the next question.
const AT_ONCE: usize = 256;

/// What one is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Until something can be read.
    pub read: bool,
    /// Until something can be written.
    pub write: bool,
}

/// One that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As it was named.
    pub key: u64,
    /// It can be read, or its end is there.
    pub read: bool,
    /// It can be written.
    pub write: bool,
    /// It has failed or is closed on both sides, which is told whether or not it was asked for.
    pub failed: bool,
}

/// A set of descriptors to wait for. One that is closed leaves the set by itself.
pub struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes a number.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; AT_ONCE].into() })
    }

    /// Adds a descriptor under a name.
    pub fn add(&self, fd: &impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, key, interest)
    }

    /// Waits for something else of one that is in the set.
    pub fn change(&self, fd: &impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, key, interest)
    }

    /// Takes a descriptor out of the set, which one has to do if another descriptor of the same file stays open.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::default())
    }

    fn control(&self, what: libc::c_int, fd: &impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        let bit = |is_set: bool, bit: libc::c_int| if is_set { bit.cast_unsigned() } else { 0 };
        let events = bit(interest.read, libc::EPOLLIN) | bit(interest.write, libc::EPOLLOUT);
        let mut event = libc::epoll_event { events, u64: key };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the event lives until the call returns.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until something is ready, for so long at most (in whole milliseconds, rounded up); `None` waits for ever. A
    /// signal ends the wait with nothing. Who is ready and not told this time is told before those that are told again.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let timeout = match timeout {
            None => -1,
            Some(time) => i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        let most = self.events.len() as libc::c_int;
        // SAFETY: there is room for as many events.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), most, timeout) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        ready.extend(self.events.iter().take(count).map(|event| {
            let has = |bits: libc::c_int| event.events & bits.cast_unsigned() != 0;
            Ready {
                key: event.u64,
                read: has(libc::EPOLLIN),
                write: has(libc::EPOLLOUT),
                failed: has(libc::EPOLLERR | libc::EPOLLHUP),
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn what_is_asked_for_is_told() {
        let mut epoll = Epoll::new().unwrap();
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let mut ready = Vec::new();
        let reading = Interest { read: true, write: false };
        epoll.add(&a, 7, reading).unwrap();
        assert!(epoll.add(&a, 7, reading).is_err());
        epoll.wait(NOW, &mut ready).unwrap();
        assert_eq!(ready, []);
        b.write_all(b"x").unwrap();
        let read = Ready { key: 7, read: true, write: false, failed: false };
        epoll.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [read]);
        // Nothing, and then both.
        epoll.change(&a, 8, Interest::default()).unwrap();
        epoll.wait(Some(Duration::from_micros(1)), &mut ready).unwrap();
        assert_eq!(ready, []);
        epoll.change(&a, 9, Interest { read: true, write: true }).unwrap();
        epoll.wait(NOW, &mut ready).unwrap();
        assert_eq!(ready, [Ready { key: 9, write: true, ..read }]);
        a.read_exact(&mut [0]).unwrap();
        epoll.remove(&a).unwrap();
        assert!(epoll.remove(&a).is_err());
        epoll.wait(NOW, &mut ready).unwrap();
        assert_eq!(ready, []);
        epoll.add(&a, 9, reading).unwrap();
        // The end is told even to who asked for nothing.
        epoll.change(&a, 9, Interest::default()).unwrap();
        drop(b);
        epoll.wait(NOW, &mut ready).unwrap();
        assert_eq!(ready, [Ready { key: 9, read: false, write: false, failed: true }]);
        drop(a);
        epoll.wait(NOW, &mut ready).unwrap();
        assert_eq!(ready, []);
    }

    #[test]
    fn all_get_their_turn() {
        let mut epoll = Epoll::new().unwrap();
        let pairs: Vec<_> = (0..AT_ONCE + 50).map(|_| UnixStream::pair().unwrap()).collect();
        for (key, (a, b)) in pairs.iter().enumerate() {
            epoll.add(a, key as u64, Interest { read: true, write: false }).unwrap();
            let mut b = b;
            b.write_all(b"x").unwrap();
        }
        let (mut ready, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        for _ in 0..2 {
            epoll.wait(NOW, &mut ready).unwrap();
            seen.extend(ready.iter().map(|r| r.key));
        }
        assert_eq!(seen.len(), pairs.len());
    }
}
