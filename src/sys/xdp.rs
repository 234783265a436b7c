//! AF_XDP sockets: frames that never become the kernel's, over rings that are shared with it. One socket for each receive
//! queue of a device, each with frames of its own.

mod ledger;
mod memory;
mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{sockaddr_xdp, xdp_desc, xdp_mmap_offsets, xdp_options, xdp_statistics, xdp_umem_reg};

use super::bpf::{Attached, Mode, Ours, SocketMap, attach_xdp};
use super::frames::Frames;
use ledger::Ledger;
use memory::Mapping;
use ring::{Consumer, Producer, Ring};

/// Frames that wait to be filled or read: with half of them, bursts emptied the fill ring.
const RECEIVING: u32 = 4096;
/// Frames that wait to be sent or for word that they were.
const SENDING: u32 = 2048;
/// Word of frames sent is taken in at the latest when so many are out.
const REAP: u32 = SENDING / 2;
/// What the kernel keeps free in front of a received frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// The longest frame that can be received: a page without the headroom.
pub const LONGEST: usize = 4096 - HEADROOM;
/// Frames of a socket that only shows what can be done.
const TRIAL: u32 = 64;
/// The kernel closes sockets behind our back: in 6 to 12 ms, measured.
const BUSY: Duration = Duration::from_millis(100);
/// What may wait in the kernel to be sent, in bytes with their bookkeeping: all that the ring holds.
const SEND_BUFFER: i32 = 16 << 20;

/// How frames come where the driver writes them to our memory.
const ZERO_COPY: &str = "XDP without a copy";

/// A socket of one receive queue. When the last one of a device is dropped, its program is detached.
pub struct XdpSocket {
    received: Consumer<xdp_desc>,
    fill: Producer<u64>,
    sending: Producer<xdp_desc>,
    completed: Consumer<u64>,
    ledger: Ledger,
    /// The frames, each of [`Self::chunk`] bytes.
    memory: Mapping,
    chunk: usize,
    mode: &'static str,
    /// Lost here, not in the kernel.
    lost: u64,
    attached: Arc<Attached>,
    /// Closed last.
    socket: OwnedFd,
}

impl XdpSocket {
    /// Opens a socket for each of the first `queues` receive queues of a device, and sends them what is ours. Frames of up
    /// to `longest` bytes, [`LONGEST`] at most. In the driver with no copy, else with one, else in the kernel's generic path.
    pub fn open(device: u32, queues: u32, longest: usize, ours: &Ours) -> io::Result<Vec<XdpSocket>> {
        if longest > LONGEST {
            let sentence =
                format!("frames of {longest} bytes are too long for XDP sockets; at most {LONGEST}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        let chunk = if longest <= 2048 - HEADROOM { 2048 } else { 4096 };
        let open = |mode| XdpSocket::open_as(device, queues, chunk, ours, mode);
        open(Mode::Native).or_else(|native| {
            let both = |generic: io::Error| {
                let sentence = format!("in the driver: {native}; in the generic path: {generic}");
                io::Error::new(generic.kind(), sentence)
            };
            open(Mode::Generic).map_err(both)
        })
    }

    fn open_as(
        device: u32,
        queues: u32,
        chunk: usize,
        ours: &Ours,
        mode: Mode,
    ) -> io::Result<Vec<XdpSocket>> {
        let map = SocketMap::new(queues)?;
        let attached = Arc::new(attach_xdp(device, ours, &map, mode)?);
        let one = |queue| {
            let socket = XdpSocket::bind(device, queue, chunk, mode, attached.clone())?;
            map.set(queue, socket.as_fd())?;
            Ok(socket)
        };
        (0..queues).map(one).collect()
    }

    fn bind(
        device: u32,
        queue: u32,
        chunk: usize,
        mode: Mode,
        attached: Arc<Attached>,
    ) -> io::Result<XdpSocket> {
        let socket = new_socket()?;
        let frames = RECEIVING + SENDING;
        let memory = Mapping::anonymous(frames as usize * chunk)?;
        let fd = socket.as_fd();
        set_up(fd, &memory, chunk, [RECEIVING, SENDING, RECEIVING, SENDING])?;
        // A smaller buffer only makes for more turns.
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
        let offsets: xdp_mmap_offsets = get(fd, libc::XDP_MMAP_OFFSETS)?;
        let (fill_at, completed_at) = (libc::XDP_UMEM_PGOFF_FILL_RING, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        let received = Consumer(Ring::map(fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, RECEIVING)?);
        let sending = Producer(Ring::map(fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, SENDING)?);
        let fill = Producer(Ring::map(fd, fill_at as libc::off_t, &offsets.fr, RECEIVING)?);
        let completed = Consumer(Ring::map(fd, completed_at as libc::off_t, &offsets.cr, SENDING)?);
        bind(fd, device, queue, mode)?;
        let options: xdp_options = get(fd, libc::XDP_OPTIONS)?;
        let mode = match mode {
            _ if options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0 => ZERO_COPY,
            Mode::Native => "XDP in the driver",
            Mode::Generic => "generic XDP",
        };
        let ledger = Ledger::new(frames);
        let mut socket = XdpSocket {
            received,
            fill,
            sending,
            completed,
            ledger,
            memory,
            chunk,
            mode,
            lost: 0,
            attached,
            socket,
        };
        socket.refill();
        Ok(socket)
    }

    /// Another description of what is ours is in force from now on, for all sockets of the device.
    pub fn replace(&self, ours: &Ours) -> io::Result<()> {
        self.attached.replace(ours)
    }

    /// Copies frames that have come, `most` at most, behind those that are there. Never waits. How many there were.
    pub fn receive(&mut self, into: &mut Frames, most: usize) -> usize {
        let (mut count, listed) = (0, into.list.len());
        while count < most
            && let Some(entry) = self.received.pop()
        {
            count += 1;
            let at = usize::try_from(entry.addr).unwrap_or(usize::MAX);
            let fits = at.checked_add(entry.len as usize).is_some_and(|end| end <= self.memory.bytes());
            // The frame is free now, but nobody else's before it is given to the kernel again.
            if self.ledger.received(entry.addr >> self.chunk.trailing_zeros()) && fits {
                let read =
                    into.add(entry.len as usize, entry.len).is_some_and(|room| self.memory.read(at, room));
                debug_assert!(read, "it lies in the memory");
            } else {
                self.lost += 1;
            }
        }
        if count > 0 {
            self.received.release();
            self.refill();
        }
        if self.fill.0.wants_waking() {
            self.wake_receive();
        }
        into.list.len() - listed
    }

    /// Gives the kernel frames to fill.
    fn refill(&mut self) {
        while self.ledger.filling() < RECEIVING
            && self.fill.has_room()
            && let Some(frame) = self.ledger.fill()
        {
            let put = self.fill.push(u64::from(frame) * self.chunk as u64);
            debug_assert!(put, "there was room");
        }
        self.fill.publish();
        debug_assert!(self.ledger.closes());
    }

    /// Queues a frame; it leaves with [`Self::flush`]. False, and nothing done, if there is no room at the moment, or never
    /// as the frame is empty or longer than the memory's frames.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > self.chunk {
            return false;
        }
        if self.ledger.sending() >= REAP {
            self.reap();
            if self.ledger.sending() >= SENDING {
                return false;
            }
        }
        if !self.sending.has_room() {
            return false;
        }
        let Some(free) = self.ledger.send() else { return false };
        let at = free as usize * self.chunk;
        let written = self.memory.write(at, frame);
        let put = self.sending.push(xdp_desc { addr: at as u64, len: frame.len() as u32, options: 0 });
        debug_assert!(written && put, "a frame lies in the memory, and there was room in the ring");
        true
    }

    /// Takes in word of frames that were sent.
    fn reap(&mut self) {
        while let Some(at) = self.completed.pop() {
            self.ledger.sent(at >> self.chunk.trailing_zeros());
        }
        self.completed.release();
        debug_assert!(self.ledger.closes());
    }

    /// Hands all that is queued to the kernel. False if it has not taken everything yet: come again. An error if the device
    /// is down or gone; what is queued stays.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.sending.publish();
        let mut pending = self.sending.pending();
        while pending > 0 && self.sending.0.wants_waking() {
            // SAFETY: no bytes are named.
            let woken = unsafe {
                let fd = self.socket.as_raw_fd();
                libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
            };
            if woken < 0 {
                let error = io::Error::last_os_error();
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR)
                ) {
                    return Err(error);
                }
            }
            // It takes 32 at a time where it copies, and says so with EAGAIN.
            let left = self.sending.pending();
            if left >= pending {
                break;
            }
            pending = left;
        }
        self.reap();
        Ok(self.pending() == 0)
    }

    /// Frames queued that the kernel has not taken.
    pub fn pending(&self) -> usize {
        self.sending.pending() as usize
    }

    fn wake_receive(&self) {
        // SAFETY: no bytes are named.
        unsafe {
            let (fd, none) = (self.socket.as_raw_fd(), std::ptr::null_mut());
            libc::recvfrom(fd, none, 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut());
        }
    }

    /// Frames of ours that were lost before they could be received, since the socket is there. An empty fill ring counts
    /// where a frame was lost for it, not where a driver looked in vain for memory to have in store.
    pub fn losses(&self) -> u64 {
        let kernel = get::<xdp_statistics>(self.socket.as_fd(), libc::XDP_STATISTICS);
        self.lost + kernel.map_or(0, |s| s.rx_dropped + s.rx_ring_full)
    }

    /// The program that sends frames here, which belongs to all sockets of the device.
    pub fn program(&self) -> &Arc<Attached> {
        &self.attached
    }

    /// How frames come here.
    pub fn mode(&self) -> &'static str {
        self.mode
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: a new socket touches no memory; if it is one, it is ours alone.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Gives a socket its memory, in chunks of so many bytes, and the sizes of its rings: fill, completion, receive, send.
fn set_up(socket: BorrowedFd<'_>, memory: &Mapping, chunk: usize, sizes: [u32; 4]) -> io::Result<()> {
    let registered = xdp_umem_reg {
        addr: memory.start().as_ptr().expose_provenance() as u64,
        len: memory.bytes() as u64,
        chunk_size: chunk as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &registered)
        .map_err(|error| unlocked(error, memory.bytes()))?;
    let rings =
        [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING];
    rings.into_iter().zip(sizes).try_for_each(|(ring, size)| set(socket, libc::SOL_XDP, ring, &size))
}

/// Binds a socket to a queue; the kernel itself chooses whether to copy where it can do without.
fn bind(socket: BorrowedFd<'_>, device: u32, queue: u32, mode: Mode) -> io::Result<()> {
    let copy = if mode == Mode::Generic { libc::XDP_COPY } else { 0 };
    bind_patiently(socket, device, queue, libc::XDP_USE_NEED_WAKEUP | copy).map_err(|error| {
        let sentence = format!("no XDP socket on queue {queue} of device {device}: {error}");
        io::Error::new(error.kind(), sentence)
    })
}

/// The kernel frees a queue some milliseconds after its last socket was closed.
fn bind_patiently(socket: BorrowedFd<'_>, device: u32, queue: u32, flags: u16) -> io::Result<()> {
    let end = Instant::now() + BUSY;
    loop {
        match bind_once(socket, device, queue, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() <= end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            bound => return bound,
        }
    }
}

fn bind_once(socket: BorrowedFd<'_>, device: u32, queue: u32, flags: u16) -> io::Result<()> {
    let to = sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: device,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the address has as many bytes as it is said to have.
    let bound = unsafe {
        let length = size_of::<sockaddr_xdp>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const to).cast(), length)
    };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// True if the driver of a device can do without a copy, by its first queue; no program is attached and nothing received.
pub fn takes_zero_copy(device: u32) -> bool {
    let try_it = || -> io::Result<()> {
        let socket = new_socket()?;
        let memory = Mapping::anonymous(TRIAL as usize * 4096)?;
        set_up(socket.as_fd(), &memory, 4096, [TRIAL; 4])?;
        let flags = libc::XDP_USE_NEED_WAKEUP | libc::XDP_ZEROCOPY;
        bind_patiently(socket.as_fd(), device, 0, flags)
    };
    try_it().is_ok()
}

/// The kernel says ENOBUFS where a process may not lock so much memory.
fn unlocked(error: io::Error, bytes: usize) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOBUFS) {
        return error;
    }
    let sentence =
        format!("{bytes} bytes for the frames of an XDP socket must be locked; allow it (LimitMEMLOCK=)");
    io::Error::new(io::ErrorKind::OutOfMemory, sentence)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let (value, length): (*const T, _) = (value, size_of::<T>() as libc::socklen_t);
    // SAFETY: the value has as many bytes as it is said to have.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an XDP socket tells of itself; `T` is one of the structures of numbers of `linux/if_xdp.h`.
fn get<T: Copy>(socket: BorrowedFd<'_>, name: i32) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the kernel writes no more bytes than it is told there are, and a number may have any bits.
    unsafe {
        let into = value.as_mut_ptr().cast();
        match libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, into, &raw mut length) {
            0 => Ok(value.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
