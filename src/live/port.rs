//! A port of a worker: its device, and the sockets by which frames are read and written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::model::Io;
use crate::sys::{Frames, PacketOptions, PacketSocket};

/// An open port.
pub(super) struct Opened {
    /// The index of its device in the kernel.
    pub device: u32,
    /// The MAC address of its device.
    pub mac: [u8; 6],
    /// The device is up and has a carrier.
    pub up: bool,
    /// This worker receives here.
    pub receives: bool,
    socket: Socket,
    /// Frames were put into the ring since it was last flushed.
    dirty: bool,
    losses: u64,
}

enum Socket {
    Packet(PacketSocket),
}

/// What [`Opened::open`] needs to know.
pub(super) struct Opening {
    pub device: u32,
    pub mac: [u8; 6],
    pub up: bool,
    pub io: Io,
    /// Bytes of the longest frame.
    pub longest: usize,
    pub receives: bool,
}

impl Opened {
    /// Opens a device in the best way that it and the kernel offer, or in the one that is asked for.
    pub fn open(opening: &Opening) -> io::Result<Opened> {
        let socket = match opening.io {
            Io::AfXdp => return Err(io::Error::other("io: af_xdp is not built into this clearway yet")),
            Io::Auto | Io::AfPacket => Socket::Packet(open_packet(opening)?),
        };
        let &Opening { device, mac, up, receives, .. } = opening;
        Ok(Opened { device, mac, up, receives, socket, dirty: false, losses: 0 })
    }

    /// How its frames are read and written.
    pub fn io(&self) -> &'static str {
        match &self.socket {
            Socket::Packet(_) => "af_packet",
        }
    }

    /// Appends received frames, so many at most; how many.
    #[inline]
    pub fn receive(&mut self, into: &mut Frames, most: usize) -> usize {
        match &mut self.socket {
            Socket::Packet(socket) => socket.receive(into, most),
        }
    }

    /// Puts a frame into the ring; false if there is no room even after a flush.
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.dirty = true;
        match &mut self.socket {
            Socket::Packet(socket) => {
                socket.send(frame) || {
                    // What is wrong with the device is told by who watches it.
                    let _ = socket.flush();
                    socket.send(frame)
                }
            }
        }
    }

    /// Has the kernel send what is in the ring; true if all of it is gone.
    pub fn flush(&mut self) -> bool {
        if !self.dirty {
            return true;
        }
        let gone = match &mut self.socket {
            Socket::Packet(socket) => socket.flush().unwrap_or(true) || socket.pending() == 0,
        };
        self.dirty = !gone;
        gone
    }

    /// True if the ring may hold frames that are not sent yet.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Frames that the kernel has dropped for want of room since this was last asked.
    pub fn new_losses(&mut self) -> u64 {
        let losses = match &mut self.socket {
            Socket::Packet(socket) => socket.losses(),
        };
        losses.saturating_sub(std::mem::replace(&mut self.losses, losses))
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Packet(socket) => socket.as_fd(),
        }
    }
}

fn open_packet(opening: &Opening) -> io::Result<PacketSocket> {
    PacketSocket::open(opening.device, &PacketOptions::default())
}
