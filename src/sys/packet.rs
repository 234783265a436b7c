//! Frames of a network device, through rings that are shared with the kernel (AF_PACKET, TPACKET_V2 both ways).
//!
//! Version 2 of the rings and not 3, because 3 hands over blocks of frames when they are full or a millisecond old; 2
//! hands over each frame at once, and costs as much per frame where there are many.

mod checksum;
mod plain;
mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{SOL_PACKET, SOL_SOCKET, c_int};

pub use checksum::complete_checksum;
pub use plain::PlainSocket;
use ring::{Map, Ring, Shape};

use super::frames::Frames;

/// Bytes of a slot before a received frame: a header, an address, and what the kernel aligns.
const BEFORE_RECEIVED: usize = 66;

/// Bytes of a slot before a frame to send: a header.
const BEFORE_SENT: usize = size_of::<libc::tpacket2_hdr>();

/// The shortest frame that is sent: an Ethernet header.
const SHORTEST: usize = 14;

/// A slot so many behind the one that is being read is asked for.
const AHEAD: usize = 4;

/// An instruction of a classic filter: code, jump if true, jump if false, constant.
pub type Instruction = (u16, u8, u8, u32);

/// What a socket sees of what its device receives.
#[derive(Clone, Copy, Debug)]
pub enum Filter<'a> {
    /// All.
    All,
    /// What an extended BPF program (of type socket filter) lets through: loaded, and given by its descriptor.
    Program(BorrowedFd<'a>),
    /// What a classic BPF program lets through.
    Classic(&'a [Instruction]),
}

/// How a socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct PacketOptions<'a> {
    /// The longest frame that is received and sent, Ethernet header and VLAN tags included. Of longer ones the end is lost.
    pub longest: usize,
    /// About so many bytes are for received frames.
    pub receive_bytes: usize,
    /// About so many bytes are for frames to send.
    pub send_bytes: usize,
    /// What is seen.
    pub filter: Filter<'a>,
}

impl PacketOptions<'_> {
    /// For a device that takes packets of so many bytes (its MTU): all frames for it, of up to two VLAN tags, in rings of
    /// 8 MiB and 2 MiB.
    pub fn new(mtu: usize) -> PacketOptions<'static> {
        let longest = mtu + SHORTEST + 8;
        PacketOptions { longest, receive_bytes: 8 << 20, send_bytes: 2 << 20, filter: Filter::All }
    }
}

/// A device's frames, in and out. What itself sends it does not receive.
pub struct PacketSocket {
    socket: OwnedFd,
    receive: Ring,
    send: Ring,
    /// The rings lie in it.
    _map: Map,
    /// The slot that the next received frame will be in.
    next: usize,
    /// The slot that the next frame to send goes into.
    free: usize,
    /// Frames before it that the kernel has not taken.
    pending: usize,
    /// True if the kernel gives frames that were sent too, so that they must be told apart.
    echoes: bool,
    losses: u64,
    refused: u64,
}

// SAFETY: the socket owns its rings; they are used through `&mut` only, from whichever thread.
unsafe impl Send for PacketSocket {}

impl PacketSocket {
    /// Opens a device, given by its number. Nothing is received that the filter does not let through.
    pub fn open(device: u32, options: &PacketOptions<'_>) -> io::Result<PacketSocket> {
        let socket = new_socket()?;
        let fd = socket.as_fd();

        let longest = options.longest.clamp(64, 1 << 18);
        let receive = Shape::new(options.receive_bytes.min(1 << 30), BEFORE_RECEIVED + longest);
        let send = Shape::new(options.send_bytes.min(1 << 30), BEFORE_SENT + longest);
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        set(fd, SOL_PACKET, libc::PACKET_VERSION, &version).map_err(told("choose rings"))?;
        // Kernels before 4.20 give what is sent; it is told apart.
        let echoes = set(fd, SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32).is_err();
        // Frames that wait in slots are counted as if they were buffered.
        let buffered = (send.bytes() * 2 + send.slots * 1024).min(1 << 30) as c_int;
        if set(fd, SOL_SOCKET, libc::SO_SNDBUFFORCE, &buffered).is_err() {
            set(fd, SOL_SOCKET, libc::SO_SNDBUF, &buffered).map_err(told("set the send buffer"))?;
        }
        // It saves time; without it frames are sent all the same.
        let _ = set(fd, SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32);
        set(fd, SOL_PACKET, libc::PACKET_RX_RING, &receive.request())
            .map_err(told("have a ring to receive"))?;
        set(fd, SOL_PACKET, libc::PACKET_TX_RING, &send.request()).map_err(told("have a ring to send"))?;
        let (map, receive, send) = Map::new(fd, receive, send).map_err(told("map the rings"))?;

        set_filter(fd, options.filter).map_err(told("attach the filter"))?;
        bind(fd, device).map_err(told("bind to the device"))?;
        Ok(PacketSocket {
            socket,
            receive,
            send,
            _map: map,
            next: 0,
            free: 0,
            pending: 0,
            echoes,
            losses: 0,
            refused: 0,
        })
    }

    /// Appends received frames, at most so many, to those that are there; how many. VLAN tags that the kernel took out are
    /// put back, and checksums that were left to a network card completed.
    pub fn receive(&mut self, into: &mut Frames, most: usize) -> usize {
        use libc::{TP_STATUS_CSUMNOTREADY, TP_STATUS_KERNEL, TP_STATUS_USER};
        use libc::{TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID};
        let mut taken = 0;
        // One round at most, so that frames that are skipped end too.
        for _ in 0..self.receive.slots() {
            let at = self.next;
            let status = self.receive.status(at);
            if taken == most || status & TP_STATUS_USER == 0 {
                break;
            }
            let ahead = at + AHEAD;
            self.receive.prefetch(if ahead < self.receive.slots() {
                ahead
            } else {
                ahead - self.receive.slots()
            });
            // SAFETY: the status says that the slot is ours.
            let header = unsafe { self.receive.header(at) };
            let from = usize::from(header.tp_mac);
            let length = (header.tp_snaplen as usize).min(self.receive.room().saturating_sub(from));
            // SAFETY: the status says that the slot is ours.
            if !self.echoes || unsafe { self.receive.kind(at) } != libc::PACKET_OUTGOING {
                let tag = (status & TP_STATUS_VLAN_VALID != 0).then(|| {
                    let known = status & TP_STATUS_VLAN_TPID_VALID != 0;
                    tag(if known { header.tp_vlan_tpid } else { 0x8100 }, header.tp_vlan_tci)
                });
                // SAFETY: the status says that the slot is ours.
                let copy = |offset, into: &mut [u8]| unsafe { self.receive.read(at, from + offset, into) };
                let Some(frame) = into.push(length, header.tp_len, tag, copy) else { break };
                if status & TP_STATUS_CSUMNOTREADY != 0 && length == header.tp_len as usize {
                    complete_checksum(frame);
                }
                taken += 1;
            }
            self.receive.set_status(at, TP_STATUS_KERNEL);
            self.next = self.receive.after(at);
        }
        taken
    }

    /// The longest frame that can be sent.
    pub fn longest(&self) -> usize {
        self.send.room() - BEFORE_SENT
    }

    /// Puts a frame among those to send, which [`PacketSocket::flush`] sends. False if there is no room for it, or if it
    /// is longer than [`PacketSocket::longest`] or no Ethernet frame.
    #[inline]
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let fits = (SHORTEST..=self.longest()).contains(&frame.len());
        let at = self.free;
        if !fits || self.send.status(at) != libc::TP_STATUS_AVAILABLE {
            return false;
        }
        // SAFETY: the status says that the slot is free.
        unsafe { self.send.write(at, BEFORE_SENT, frame) };
        self.send.set_status(at, libc::TP_STATUS_SEND_REQUEST);
        self.free = self.send.after(at);
        self.pending += 1;
        true
    }

    /// Has the kernel send what [`PacketSocket::send`] was given. False if it has no room for all of it, or the device no
    /// carrier: call again later. An error if the device is down or gone; what is pending then stays.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.pending > 0 {
            // SAFETY: no bytes and no address are given; the frames lie in the ring.
            let sent = unsafe {
                let flags = libc::MSG_DONTWAIT;
                libc::sendto(self.socket.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0)
            };
            let error = (sent < 0).then(io::Error::last_os_error);
            self.settle();
            if self.skip_refused() {
                continue;
            }
            return match error {
                Some(e) if !is_passing(&e) => Err(e),
                _ => Ok(self.pending == 0),
            };
        }
        Ok(true)
    }

    /// Frames that the kernel has not taken.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Forgets the frames that the kernel has not taken; how many. So a device that comes back sends nothing stale.
    pub fn discard(&mut self) -> usize {
        let oldest = self.send.before(self.free, self.pending);
        let mut at = oldest;
        for _ in 0..self.pending {
            self.send.set_status(at, libc::TP_STATUS_AVAILABLE);
            at = self.send.after(at);
        }
        self.free = oldest;
        std::mem::take(&mut self.pending)
    }

    /// Frames that were lost since it was opened, because the ring was full.
    pub fn losses(&mut self) -> u64 {
        // SAFETY: the structure is made of numbers.
        let mut counts: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        // Reading sets the kernel's count to zero.
        if get(self.as_fd(), SOL_PACKET, libc::PACKET_STATISTICS, &mut counts).is_ok() {
            self.losses += u64::from(counts.tp_drops);
        }
        self.losses
    }

    /// Frames that the kernel would not send, as they are longer than the device takes, since this was last asked.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
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

    /// Counts what the kernel has taken: it takes frames in their order, when it is called.
    fn settle(&mut self) {
        let waits =
            |at| matches!(self.send.status(at), libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_WRONG_FORMAT);
        if !waits(self.send.before(self.free, 1)) {
            self.pending = 0;
        }
        while self.pending > 0 && !waits(self.send.before(self.free, self.pending)) {
            self.pending -= 1;
        }
    }

    /// Takes the oldest frame out if the kernel has refused it. The kernel waits for a frame in its very slot, so that
    /// those behind it move up.
    fn skip_refused(&mut self) -> bool {
        let mut at = self.send.before(self.free, self.pending);
        if self.pending == 0 || self.send.status(at) != libc::TP_STATUS_WRONG_FORMAT {
            return false;
        }
        for _ in 1..self.pending {
            let behind = self.send.after(at);
            // SAFETY: the kernel reads slots that are pending only while it is called.
            unsafe { self.send.copy(behind, at) };
            self.send.set_status(at, libc::TP_STATUS_SEND_REQUEST);
            at = behind;
        }
        self.send.set_status(at, libc::TP_STATUS_AVAILABLE);
        self.free = at;
        self.pending -= 1;
        self.refused += 1;
        true
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet socket that is bound to nothing: with no protocol it receives nothing until it is.
fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(told("open a packet socket")(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// True for what goes away by itself.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR))
}

/// A VLAN tag as it stands in a frame.
fn tag(kind: u16, value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (kind.to_be_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

/// What could not be done, before why.
fn told(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}

fn bind(socket: BorrowedFd<'_>, device: u32) -> io::Result<()> {
    // SAFETY: an address is made of numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device.cast_signed();
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is as long as it is said to be.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets through from now on what this does, in place of the filter before.
pub fn set_filter(socket: impl AsFd, filter: Filter<'_>) -> io::Result<()> {
    let socket = socket.as_fd();
    match filter {
        // A socket that never had one has none to take off.
        Filter::All => match set(socket, SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => Ok(()),
        },
        Filter::Program(program) => set(socket, SOL_SOCKET, libc::SO_ATTACH_BPF, &program.as_raw_fd()),
        Filter::Classic(program) => attach_classic(socket, program),
    }
}

fn attach_classic(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a filter that is too long");
    let len = u16::try_from(program.len()).map_err(|_| too_long())?;
    let instruction = |&(code, jt, jf, k): &Instruction| libc::sock_filter { code, jt, jf, k };
    let mut filter: Vec<libc::sock_filter> = program.iter().map(instruction).collect();
    // The kernel copies what is pointed to before the call returns.
    set(socket, SOL_SOCKET, libc::SO_ATTACH_FILTER, &libc::sock_fprog { len, filter: filter.as_mut_ptr() })
}

/// Sets an option of a socket.
fn set<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as it is said to be.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option of a socket, one that is made of numbers.
fn get<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &mut T) -> io::Result<()> {
    let mut size = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_mut(value).cast();
    // SAFETY: the value is as long as it is said to be, and any bytes are numbers.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
