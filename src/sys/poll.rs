//! Waiting until something can be read, or until another thread says so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// What can be waited for at once in [`poll`]: each has a bit in the answer.
pub const MOST: usize = 128;

/// Waits until one of at most [`MOST`] can be read or has failed, for so long at most; `None` waits for ever. Bit `n` of the
/// answer stands for the `n`th. A signal ends the wait with nothing.
pub fn poll(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<u128> {
    if fds.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many to wait for"));
    }
    let mut asked = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; MOST];
    for (slot, fd) in asked.iter_mut().zip(fds) {
        slot.fd = fd.as_raw_fd();
    }
    let limit = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: t.subsec_nanos() as _,
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array has as many elements, and lives as the limit does until the call returns; no mask is given.
    let ready =
        unsafe { libc::ppoll(asked.as_mut_ptr(), fds.len() as libc::nfds_t, limit, std::ptr::null()) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
    }
    let bits = asked[..fds.len()].iter().enumerate().filter(|(_, a)| a.revents != 0);
    Ok(bits.fold(0, |all, (n, _)| all | 1 << n))
}

/// A bell: who waits for it in [`poll`] is woken by who rings it. Clones are the same bell.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A bell that has not rung.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: the call takes two numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Wake(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Rings: [`poll`] says that the bell can be read until it is cleared.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // It fails only if it has been rung so often that a number of 64 bits is full.
        // SAFETY: so many bytes are there.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it silent until it is rung again.
    pub fn clear(&self) {
        let mut count = [0_u8; 8];
        // It fails only if it has not rung.
        // SAFETY: so many bytes are there.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_bell_that_rings_ends_the_wait_until_it_is_cleared() {
        let (a, b) = (Wake::new().unwrap(), Wake::new().unwrap());
        let both = [a.as_fd(), b.as_fd()];
        assert_eq!(poll(&both, Some(Duration::ZERO)).unwrap(), 0);
        let other = b.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
            other.wake();
        });
        assert_eq!(poll(&both, None).unwrap(), 0b10);
        thread.join().unwrap();
        assert_eq!(poll(&both, None).unwrap(), 0b10);
        a.wake();
        assert_eq!(poll(&both, None).unwrap(), 0b11);
        b.clear();
        b.clear();
        assert_eq!(poll(&both, None).unwrap(), 0b01);
        a.clear();
        let before = Instant::now();
        assert_eq!(poll(&both, Some(Duration::from_micros(2500))).unwrap(), 0);
        assert!(before.elapsed() >= Duration::from_micros(2500));
    }

    #[test]
    fn what_has_failed_is_ready_and_too_many_are_refused() {
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(poll(&[reader.as_fd()], Some(Duration::ZERO)).unwrap(), 0);
        drop(writer);
        assert_eq!(poll(&[reader.as_fd()], None).unwrap(), 1);
        assert_eq!(poll(&[reader.as_fd(); MOST], None).unwrap(), u128::MAX);
        assert!(poll(&[reader.as_fd(); MOST + 1], None).is_err());
    }
}
