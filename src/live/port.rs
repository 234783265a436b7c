//! A port of a worker: its device, and the sockets by which frames are read and written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use tracing::{info, warn};

use super::pnet::PnetSocket;
use super::tap::{End, Held, own_mac};
use crate::model::Io;
use crate::sys::bpf::{Attached, Ours, Program, load_filter, load_nothing};
use crate::sys::xdp::{XdpSocket, takes_zero_copy};
use crate::sys::{Filter, Frames, Instruction, PacketOptions, PacketSocket, set_filter};

/// An open port.
pub(super) struct Opened {
    /// The index of its device in the kernel.
    pub device: u32,
    /// The MAC address that frames leave from and are received at: that of its device, unless this is a TAP.
    pub mac: [u8; 6],
    /// Of a TAP, the MAC address that all frames go to: the kernel's.
    pub peer: Option<[u8; 6]>,
    /// The device is up and has a carrier.
    pub up: bool,
    /// This worker receives here.
    pub receives: bool,
    socket: Socket,
    /// Frames were put into the ring since it was last flushed.
    dirty: bool,
    /// The longest frame that the device takes.
    longest: usize,
    losses: u64,
    /// Losses of what this has taken over from.
    losses_before: u64,
    /// Lets through what is ours, once this takes over from the socket before it.
    filter: Option<Program>,
    /// Lets through nothing, once another takes over from this. Made in time: that takes longer than attaching it.
    nothing: Option<Program>,
    /// What it has taken over from, as long as something is left in its rings.
    former: Option<Box<Opened>>,
    /// Frames that were taken to be sent and never will be.
    unsent: u64,
    /// Frames that what this has taken over from was refused as too long.
    refused_before: u64,
}

enum Socket {
    Packet(PacketSocket),
    /// One for each receive queue; frames leave by the first.
    Xdp(Vec<XdpSocket>),
    Pnet(Box<PnetSocket>),
    Tap(Box<End>),
}

/// What [`Opened::open`] needs to know.
pub(super) struct Opening<'a> {
    pub name: &'a str,
    pub device: u32,
    pub mac: [u8; 6],
    pub up: bool,
    pub io: Io,
    /// The largest packet that the device takes.
    pub device_mtu: usize,
    /// The largest packet that is received.
    pub mtu: usize,
    pub receives: bool,
    pub ours: &'a Ours,
    /// The device's other end, if it is a TAP.
    pub held: Option<&'a Held>,
}

/// Bytes for frames that wait to be read by way of pnet: as the kernel counts them, four to six times those of short ones.
const UNREAD: usize = 16 << 20;
/// Bytes of the ring of a socket that only sends: its filter lets nothing through.
const RECEIVES_NOTHING: usize = 1 << 16;
/// A classic program that lets nothing through.
const NOTHING: &[Instruction] = &[(0x06, 0, 0, 0)];

impl Opened {
    /// Opens a device in the best way that it and the kernel offer, or in the one that is asked for.
    pub fn open(opening: &Opening<'_>) -> io::Result<Opened> {
        let socket = match opening.io {
            Io::Pnet => Socket::Pnet(Box::new(open_pnet(opening)?)),
            Io::Tap => Socket::Tap(Box::new(open_tap(opening)?)),
            // Others send by sockets of their own.
            _ if !opening.receives => Socket::Packet(open_packet(opening)?),
            Io::AfXdp => Socket::Xdp(open_xdp(opening)?),
            // With a copy it does no better than rings do, and takes a program in the driver.
            Io::Auto if takes_zero_copy(opening.device) => match open_xdp(opening) {
                Ok(sockets) => Socket::Xdp(sockets),
                Err(e) => {
                    warn!("{}: no AF_XDP ({e}); rings instead", opening.name);
                    Socket::Packet(open_packet(opening)?)
                }
            },
            Io::Auto | Io::AfPacket => Socket::Packet(open_packet(opening)?),
        };
        let &Opening { device, mac, up, receives, .. } = opening;
        let (filter, nothing) = match &socket {
            Socket::Packet(_) | Socket::Pnet(_) if receives => (filter(opening), load_nothing().ok()),
            _ => (None, None),
        };
        let mut opened = Opened {
            device,
            mac,
            peer: None,
            up,
            receives,
            socket,
            dirty: false,
            longest: opening.device_mtu + 14,
            losses: 0,
            losses_before: 0,
            filter,
            nothing,
            former: None,
            unsent: 0,
            refused_before: 0,
        };
        if opening.io == Io::Tap {
            (opened.mac, opened.peer) = (own_mac(opening.ours.address, mac), Some(mac));
        }
        Ok(opened)
    }

    /// How its frames are read and written.
    pub fn io(&self) -> Io {
        match &self.socket {
            Socket::Packet(_) => Io::AfPacket,
            Socket::Xdp(_) => Io::AfXdp,
            Socket::Pnet(_) => Io::Pnet,
            Socket::Tap(_) => Io::Tap,
        }
    }

    /// The program that sends it its frames, if it is one's own of the device.
    pub fn program(&self) -> Option<&Arc<Attached>> {
        match &self.socket {
            Socket::Packet(_) | Socket::Pnet(_) | Socket::Tap(_) => None,
            Socket::Xdp(queues) => queues.first().map(XdpSocket::program),
        }
    }

    /// Begins to receive, in place of what the port had before: of that what is in its rings is still received and sent. For
    /// some microseconds both receive, so that no frame is lost.
    pub fn take_over(&mut self, former: Option<Opened>) {
        if let Some(socket) = self.filtered()
            && self.receives
        {
            // Without a program all frames are looked at.
            let program = self.filter.as_ref().map(|program| Filter::Program(program.as_fd()));
            if program.is_none_or(|program| set_filter(socket, program).is_err()) {
                let _ = set_filter(socket, Filter::All);
            }
        }
        self.filter = None;
        let Some(mut former) = former else { return };
        if let Some(socket) = former.filtered() {
            let program = former.nothing.as_ref().map(|program| Filter::Program(program.as_fd()));
            if program.is_none_or(|program| set_filter(socket, program).is_err()) {
                let _ = set_filter(socket, Filter::Classic(NOTHING));
            }
        }
        // Both ends of a TAP read the same queue.
        if self.receives && !matches!(former.socket, Socket::Tap(_)) {
            self.former = Some(Box::new(former));
        } else {
            former.flush();
            self.absorb(former);
        }
    }

    /// Receives from now on what this filter lets through, if this is a socket with a filter.
    pub fn set_filter(&self, program: &Program) -> io::Result<()> {
        let socket = self.filtered().filter(|_| self.receives);
        socket.map_or(Ok(()), |socket| set_filter(socket, Filter::Program(program.as_fd())))
    }

    /// The socket that a filter is on.
    fn filtered(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Socket::Packet(socket) => Some(socket.as_fd()),
            Socket::Pnet(socket) => Some(socket.as_fd()),
            Socket::Xdp(_) | Socket::Tap(_) => None,
        }
    }

    /// Takes what is left of what this has taken over from; that is closed once nothing is.
    #[cold]
    fn empty_former(&mut self, into: &mut Frames, most: usize) {
        let Some(former) = &mut self.former else { return };
        let before = into.list.len();
        former.receive(into, most);
        if into.list.len() == before
            && former.flush()
            && let Some(former) = self.former.take()
        {
            self.absorb(*former);
        }
    }

    /// True if a frame with this destination is for this port, or for what it has taken over from.
    #[inline]
    pub fn is_own(&self, mac: &[u8; 6]) -> bool {
        *mac == self.mac || self.former.as_ref().is_some_and(|former| *mac == former.mac)
    }

    /// Counts what will not come any more of what this has taken over from.
    pub fn drop_former(&mut self) {
        if let Some(mut former) = self.former.take() {
            former.flush();
            self.absorb(*former);
        }
    }

    /// Counts what was lost at a socket that is closed, and what it still held.
    fn absorb(&mut self, mut former: Opened) {
        self.unsent += former.take_unsent() + former.pending() as u64;
        self.losses_before += former.new_losses();
        self.refused_before += former.new_refused();
    }

    /// True if a frame of so many bytes is not too long for the device.
    #[inline]
    pub fn takes(&self, bytes: usize) -> bool {
        bytes <= self.longest
    }

    /// Frames that wait in the ring to be sent.
    pub fn pending(&self) -> usize {
        let own = match &self.socket {
            Socket::Packet(socket) => socket.pending(),
            Socket::Xdp(queues) => queues.first().map_or(0, XdpSocket::pending),
            Socket::Pnet(_) | Socket::Tap(_) => 0,
        };
        own + self.former.as_ref().map_or(0, |former| former.pending())
    }

    /// Frames that were taken to be sent and will not be, since this was last asked.
    pub fn take_unsent(&mut self) -> u64 {
        std::mem::take(&mut self.unsent)
    }

    /// Frames that the device would not send because they are too long, since this was last asked.
    pub fn new_refused(&mut self) -> u64 {
        let before = std::mem::take(&mut self.refused_before);
        match &mut self.socket {
            Socket::Packet(socket) => before + socket.take_refused(),
            Socket::Xdp(_) | Socket::Pnet(_) | Socket::Tap(_) => before,
        }
    }

    /// Appends received frames, so many at most of each queue; how many others there were, which are not ours.
    #[inline]
    pub fn receive(&mut self, into: &mut Frames, most: usize) -> usize {
        if self.former.is_some() {
            self.empty_former(into, most);
        }
        match &mut self.socket {
            Socket::Packet(socket) => _ = socket.receive(into, most),
            Socket::Xdp(queues) => queues.iter_mut().for_each(|queue| _ = queue.receive(into, most)),
            Socket::Pnet(socket) => socket.receive(into, most),
            Socket::Tap(end) => return end.receive(into, most, self.mac),
        }
        0
    }

    /// Puts a frame into the ring; false if there is no room even after a flush.
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.dirty = matches!(self.socket, Socket::Packet(_) | Socket::Xdp(_));
        // What is wrong with the device is told by who watches it.
        match &mut self.socket {
            Socket::Packet(socket) => socket.send(frame) || (socket.flush().is_ok() && socket.send(frame)),
            Socket::Xdp(queues) => queues
                .first_mut()
                .is_some_and(|queue| queue.send(frame) || (queue.flush().is_ok() && queue.send(frame))),
            // These have no ring.
            Socket::Pnet(socket) => socket.send(frame),
            Socket::Tap(end) => end.send(frame),
        }
    }

    /// Has the kernel send what is in the ring; true if all of it is gone.
    pub fn flush(&mut self) -> bool {
        let former_gone = self.former.as_mut().is_none_or(|former| former.flush());
        if !self.dirty {
            return former_gone;
        }
        let gone = match &mut self.socket {
            Socket::Packet(socket) => socket.flush().unwrap_or(true),
            Socket::Xdp(queues) => queues.first_mut().is_none_or(|queue| queue.flush().unwrap_or(true)),
            Socket::Pnet(_) | Socket::Tap(_) => true,
        };
        self.dirty = !gone;
        gone && former_gone
    }

    /// The device is up or down now, and has this MAC address. What was to leave by a device that went down is forgotten.
    pub fn set_device(&mut self, up: bool, mac: [u8; 6]) {
        self.up = up;
        match &mut self.peer {
            Some(peer) => *peer = mac,
            None => self.mac = mac,
        }
        // A device that went down leaves an error behind, which would wake for ever.
        self.take_error();
        if let (Socket::Packet(socket), false) = (&mut self.socket, up) {
            self.unsent += socket.discard() as u64;
        }
    }

    /// Takes what has gone wrong with the device, which would end every wait for it at once.
    pub fn take_error(&mut self) {
        match &mut self.socket {
            Socket::Packet(socket) => _ = socket.take_error(),
            Socket::Pnet(socket) => socket.forget_error(),
            Socket::Xdp(_) | Socket::Tap(_) => {}
        }
    }

    /// True if the ring may hold frames that are not sent yet.
    pub fn is_dirty(&self) -> bool {
        self.dirty || self.former.is_some()
    }

    /// Frames that the kernel has dropped for want of room since this was last asked.
    pub fn new_losses(&mut self) -> u64 {
        let losses = match &mut self.socket {
            Socket::Packet(socket) => socket.losses(),
            Socket::Xdp(queues) => queues.iter().map(XdpSocket::losses).sum(),
            Socket::Pnet(socket) => socket.losses(),
            Socket::Tap(end) => end.losses(),
        };
        let before = std::mem::take(&mut self.losses_before);
        before + losses.saturating_sub(std::mem::replace(&mut self.losses, losses))
    }

    /// What is waited for when nothing is there.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (one, xdp) = match &self.socket {
            Socket::Packet(socket) => (Some(socket.as_fd()), &[][..]),
            Socket::Xdp(queues) => (None, queues.as_slice()),
            Socket::Pnet(socket) => (Some(socket.as_fd()), &[][..]),
            Socket::Tap(end) => (Some(end.as_fd()), &[][..]),
        };
        one.into_iter().chain(xdp.iter().map(AsFd::as_fd)).filter(|_| self.receives && self.up)
    }
}

/// Ethernet with two tags.
pub(super) const LINK: usize = 14 + 8;

/// What lets through what is ours; without it every frame is looked at.
fn filter(opening: &Opening<'_>) -> Option<Program> {
    let warn = |e| warn!("{}: every frame is looked at, as the kernel takes no filter: {e}", opening.name);
    load_filter(opening.ours).map_err(warn).ok()
}

fn open_packet(opening: &Opening<'_>) -> io::Result<PacketSocket> {
    let mut options = PacketOptions::new(opening.mtu);
    if !opening.receives {
        (options.filter, options.receive_bytes) = (Filter::Classic(NOTHING), RECEIVES_NOTHING);
        return PacketSocket::open(opening.device, &options);
    }
    // Another socket may be at work: this one begins when it takes over.
    options.filter = Filter::Classic(NOTHING);
    PacketSocket::open(opening.device, &options)
}

fn open_pnet(opening: &Opening<'_>) -> io::Result<PnetSocket> {
    let &Opening { name, device, mac, .. } = opening;
    let longest = opening.mtu + LINK;
    if !opening.receives {
        return PnetSocket::open(name, device, mac, longest, Filter::Classic(NOTHING), RECEIVES_NOTHING);
    }
    PnetSocket::open(name, device, mac, longest, Filter::Classic(NOTHING), UNREAD)
}

fn open_tap(opening: &Opening<'_>) -> io::Result<End> {
    let held = opening.held.ok_or_else(|| io::Error::other("it is not held"))?;
    held.end(opening.name, opening.device, opening.mtu + LINK, opening.ours)
}

fn open_xdp(opening: &Opening<'_>) -> io::Result<Vec<XdpSocket>> {
    let queues = std::fs::read_dir(format!("/sys/class/net/{}/queues", opening.name));
    let is_receive = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with("rx-");
    let queues = queues.map_or(1, |all| all.flatten().filter(is_receive).count()).max(1);
    let sockets = XdpSocket::open(opening.device, queues as u32, opening.mtu + LINK, opening.ours)?;
    let mode = sockets.first().map_or("", XdpSocket::mode);
    info!(device = opening.name, queues, mode, "XDP sockets");
    Ok(sockets)
}
