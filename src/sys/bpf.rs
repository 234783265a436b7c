//! Programs for the kernel that tell Clearway's frames from the kernel's own: a filter for packet sockets, one that keeps
//! the kernel's stack from ours, and one that hands ours to XDP sockets. Assembled here; no compiler is needed.

mod asm;
mod call;
mod ours;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use asm::{Asm, Reg};
use call::Kind;
pub use ours::{MOST_LOCAL, Ours};
use ours::{Place, XDP_PASS, assemble};

// Flags of `linux/bpf.h` and `linux/if_link.h`.
const BEFORE_OTHERS: u32 = 1 << 3;
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// A loaded program. It stays in the kernel while this or what it is attached to lives.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    kind: Kind,
}

impl Program {
    fn load(ours: &Ours, kind: Kind, place: Place) -> io::Result<Program> {
        Ok(Program { fd: call::load(kind, &assemble(ours, place)?)?, kind })
    }

    /// What the program returns for a frame: of a filter, how many bytes are kept; else a verdict. The kernel tries
    /// ingress programs only on frames with something behind their Ethernet header.
    pub fn test_run(&self, frame: &[u8]) -> io::Result<u32> {
        if self.kind == call::FILTER {
            // On trial a filter does not see the first 14 bytes; on a packet socket it sees all.
            return call::test_run(self.fd.as_fd(), &[&[0; 14], frame].concat());
        }
        call::test_run(self.fd.as_fd(), frame)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A filter that keeps what is ours, whole, for a packet socket of type `SOCK_RAW` (`SO_ATTACH_BPF`; attaching another
/// one replaces it at once). Where the
/// outer VLAN tag is already taken off the frame, two more may follow.
pub fn load_filter(ours: &Ours) -> io::Result<Program> {
    Program::load(ours, call::FILTER, Place::Filter)
}

/// A filter that keeps nothing.
pub fn load_nothing() -> io::Result<Program> {
    let mut code = Asm::default();
    code.set(Reg::R0, 0);
    code.exit();
    Ok(Program { fd: call::load(call::FILTER, &code.finish()?)?, kind: call::FILTER })
}

/// The program that [`attach_ingress`] attaches.
fn load_ingress(ours: &Ours) -> io::Result<Program> {
    Program::load(ours, call::INGRESS, Place::Ingress)
}

/// A program at work on a device, until this is dropped, the process ends or the device goes.
#[derive(Debug)]
pub struct Attached {
    link: OwnedFd,
    /// Of an XDP program: where it sends what is ours.
    map: Option<SocketMap>,
}

impl Attached {
    /// Another description is in force from now on; in between no frame goes the wrong way. On an error the old one stays.
    pub fn replace(&self, ours: &Ours) -> io::Result<()> {
        let program = match &self.map {
            Some(map) => load_xdp(ours, map, XDP_PASS)?,
            None => load_ingress(ours)?,
        };
        call::replace(self.link.as_fd(), program.as_fd())
    }

    /// False if the program is no longer at work: the device is gone, or somebody has detached it by force.
    pub fn is_at_work(&self) -> bool {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.link.as_raw_fd()));
        let is_none = |line: &str| line.strip_prefix("ifindex:").is_some_and(|index| index.trim() == "0");
        !about.is_ok_and(|about| about.lines().any(is_none))
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Keeps the kernel's stack from what is ours on a device, so that it does not answer with "protocol unreachable". Packet
/// sockets see frames before. An error of kind `Unsupported` where the kernel is older than 6.6 and has no TCX.
pub fn attach_ingress(device: u32, ours: &Ours) -> io::Result<Attached> {
    let program = load_ingress(ours)?;
    let link = call::attach(program.as_fd(), device, call::TCX_INGRESS, BEFORE_OTHERS);
    let link = link.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the kernel has no TCX to keep its own stack from tunnels; Linux 6.6 has it ({error})"),
        ),
        _ => said(&error, "ingress", device),
    })?;
    Ok(Attached { link, map: None })
}

/// In what an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The driver, before there is a socket buffer.
    Native,
    /// The kernel's own receive path, for any device.
    Generic,
}

/// Sends what is ours on a device to the XDP sockets of a map, by the queue it came from; where there is no socket, and
/// everything else, goes on to the kernel.
pub fn attach_xdp(device: u32, ours: &Ours, map: &SocketMap, mode: Mode) -> io::Result<Attached> {
    let program = load_xdp(ours, map, XDP_PASS)?;
    let flags = match mode {
        Mode::Native => NATIVE,
        Mode::Generic => GENERIC,
    };
    let link = call::attach(program.as_fd(), device, call::XDP.attach, flags);
    let link = link.map_err(|error| said(&error, "XDP", device))?;
    Ok(Attached { link, map: Some(map.try_clone()?) })
}

fn load_xdp(ours: &Ours, map: &SocketMap, fallback: i32) -> io::Result<Program> {
    Program::load(ours, call::XDP, Place::Xdp { map: map.fd.as_raw_fd(), fallback })
}

fn said(error: &io::Error, name: &str, device: u32) -> io::Error {
    let sentence = format!("the kernel does not attach the {name} program to device {device}: {error}");
    io::Error::new(error.kind(), sentence)
}

/// Which XDP socket has which receive queue of a device.
#[derive(Debug)]
pub struct SocketMap {
    fd: OwnedFd,
}

impl SocketMap {
    /// For this many queues.
    pub fn new(queues: u32) -> io::Result<SocketMap> {
        Ok(SocketMap { fd: call::socket_map(queues)? })
    }

    /// What comes from this queue goes to this socket, which must be bound to it. The map forgets the socket when it is
    /// closed.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        call::set_socket(self.fd.as_fd(), queue, socket)
    }

    /// The same map.
    pub fn try_clone(&self) -> io::Result<SocketMap> {
        Ok(SocketMap { fd: self.fd.try_clone()? })
    }
}
