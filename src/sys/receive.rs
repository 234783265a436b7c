//! What a receiving socket is told that the standard library has no words for.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Room for so many bytes between the kernel and who reads; more than the system's limit where we may.
pub fn receive_room(socket: BorrowedFd, bytes: i32) -> io::Result<()> {
    set(socket, libc::SO_RCVBUFFORCE, &bytes).or_else(|_| set(socket, libc::SO_RCVBUF, &bytes))
}

/// A read that gets nothing for so long ends with [`io::ErrorKind::WouldBlock`].
pub fn receive_patience(socket: BorrowedFd, patience: Duration) -> io::Result<()> {
    let seconds = libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX);
    let time = libc::timeval { tv_sec: seconds, tv_usec: patience.subsec_micros() as libc::suseconds_t };
    set(socket, libc::SO_RCVTIMEO, &time)
}

fn set<T: Copy>(socket: BorrowedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads no more than the value's own bytes.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_takes_room_and_patience() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receive_room(socket.as_fd(), 1 << 16).expect("room");
        receive_patience(socket.as_fd(), Duration::from_millis(1500)).expect("patience");
        assert_eq!(socket.read_timeout().expect("patience"), Some(Duration::from_millis(1500)));
    }
}
