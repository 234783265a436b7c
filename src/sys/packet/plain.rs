//! A packet socket without rings, for who reads and writes it by calls of their own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{SOL_PACKET, SOL_SOCKET, c_int};

use super::super::receive::receive_room;
use super::{Filter, get, new_socket, set, set_filter, told};

/// A packet socket that is bound to no device yet. What itself sends it does not receive.
pub struct PlainSocket {
    socket: OwnedFd,
    losses: u64,
}

impl PlainSocket {
    /// A socket with room for so many bytes of received frames, as the kernel counts them. Nothing is received that the
    /// filter does not let through, nor anything before it is bound.
    pub fn new(filter: Filter<'_>, receive_bytes: usize) -> io::Result<PlainSocket> {
        let socket = new_socket()?;
        let fd = socket.as_fd();
        // Here nothing else tells what was sent from what was received.
        set(fd, SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)
            .map_err(told("leave out what is sent (Linux 4.20 can)"))?;
        // It saves time; without it frames are sent all the same.
        let _ = set(fd, SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32);
        // The kernel doubles it.
        receive_room(fd, (receive_bytes / 2).min(1 << 30) as c_int)
            .map_err(told("set the receive buffer"))?;
        set_filter(fd, filter).map_err(told("attach the filter"))?;
        Ok(PlainSocket { socket, losses: 0 })
    }

    /// Another descriptor of the same socket.
    pub fn another(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Frames that were lost since it was made, because there was no room.
    pub fn losses(&mut self) -> u64 {
        // SAFETY: the structure is made of numbers.
        let mut counts: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        // Reading sets the kernel's count to zero.
        if get(self.as_fd(), SOL_PACKET, libc::PACKET_STATISTICS, &mut counts).is_ok() {
            self.losses += u64::from(counts.tp_drops);
        }
        self.losses
    }

    /// What has gone wrong with the device, if anything did since the last question. Until it is asked for, a wait for
    /// the socket ends at once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        let mut code: c_int = 0;
        match get(self.as_fd(), SOL_SOCKET, libc::SO_ERROR, &mut code) {
            Ok(()) => (code != 0).then(|| io::Error::from_raw_os_error(code)),
            Err(e) => Some(e),
        }
    }
}

impl AsFd for PlainSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
