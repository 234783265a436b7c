//! That something about routes has changed, without what.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

/// The groups of netlink that are listened to: devices, routes of IPv4 and of IPv6.
const GROUPS: [u32; 3] = [1, 7, 11];

/// Can be read once devices or routes have changed.
pub struct Watch(Socket);

impl Watch {
    /// Of the network namespace of this thread.
    pub fn open() -> io::Result<Watch> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Watch(socket))
    }

    /// Takes note of all that has changed. Errors, too, mean that something has.
    pub fn clear(&self) {
        let mut buffer = Vec::with_capacity(1 << 16);
        for _ in 0..1024 {
            buffer.clear();
            match self.0.recv_from(&mut buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
