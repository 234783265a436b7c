//! A TUN device: a device of the kernel for IP packets, whose cable ends in this process. And what TAP devices have in
//! common with it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::link::request;

const DOOR: &str = "/dev/net/tun";

/// What a device of [`DOOR`] carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Ethernet frames.
    Tap,
    /// IP packets.
    Tun,
}

/// Makes such a device of this name in the network namespace of this thread, which goes when all ends of it are closed, or
/// takes the end of a persistent one that is there. Reading and writing it never waits. Errors are sentences.
pub(super) fn attach(name: &str, kind: Kind) -> io::Result<File> {
    let (flag, kind) = match kind {
        Kind::Tap => (libc::IFF_TAP, "TAP"),
        Kind::Tun => (libc::IFF_TUN, "TUN"),
    };
    let mut request = request(name)?;
    if name.contains('%') {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a device's name has no %"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(DOOR).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            told(&e, &format!("there is no {DOOR} here; modprobe tun may help"))
        }
        _ => told(&e, &format!("{DOOR} cannot be opened: {e}")),
    })?;
    request.ifr_ifru.ifru_flags = (flag | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the command reads and writes a request, which lives until the call returns.
    let done =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, std::ptr::from_mut(&mut request)) };
    if done < 0 {
        let e = io::Error::last_os_error();
        return Err(match e.raw_os_error() {
            Some(libc::EBUSY) => {
                told(&e, "another program has its other end: a second clearway, or a virtual machine")
            }
            Some(libc::EINVAL) => {
                told(&e, &format!("there is such a device, and it is no {kind} device with one queue"))
            }
            Some(libc::EPERM) => told(&e, &format!("a {kind} device takes CAP_NET_ADMIN")),
            _ => told(&e, &format!("the kernel makes no {kind} device of it: {e}")),
        });
    }
    // Who had it before may have asked for packets that are still to be cut and to get their checksums.
    // SAFETY: the command takes a number.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// The name of the device whose end this is; none if it is gone.
pub(super) fn name_of(end: &File) -> Option<String> {
    let mut request = request("tun").ok()?;
    // SAFETY: the command writes a request, which lives until the call returns.
    let done =
        unsafe { libc::ioctl(end.as_raw_fd(), libc::TUNGETIFF as _, std::ptr::from_mut(&mut request)) };
    let name = request.ifr_name.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0);
    (done >= 0).then(|| String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned())
}

/// Has the kernel receive what is written; false if it does not take it.
pub(super) fn send(mut end: &File, bytes: &[u8]) -> bool {
    loop {
        match end.write(bytes) {
            Ok(length) => return length == bytes.len(),
            Err(e) if e.kind() == ErrorKind::Interrupted => (),
            Err(_) => return false,
        }
    }
}

fn told(error: &io::Error, sentence: &str) -> io::Error {
    io::Error::new(error.kind(), sentence)
}

/// Our end of a TUN device. What the kernel sends by the device is read here, and what is written here the kernel receives.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes a TUN device of this name in the network namespace of this thread, which goes when all ends of it are dropped,
    /// or takes the end of a persistent one that is there. Its end is of use to any thread. Errors are sentences.
    pub fn open(name: &str) -> io::Result<Tun> {
        attach(name, Kind::Tun).map(Tun)
    }

    /// The name of the device; none if it is gone.
    pub fn name(&self) -> Option<String> {
        name_of(&self.0)
    }

    /// The next packet that the kernel has sent, if there is one. Never waits. Of one that is longer than the buffer, the end
    /// is lost. An error says that the device is gone.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let length = loop {
            match (&self.0).read(buffer) {
                Ok(length) => break length,
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        };
        Ok(buffer.get(..length))
    }

    /// Has the kernel receive a packet; false if it does not take it.
    pub fn send(&self, packet: &[u8]) -> bool {
        send(&self.0, packet)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::bpf::tests::{has_taps, ip, ipv4, own_namespace};
    use crate::sys::{index_of, poll, set_mtu, set_up};

    /// The next packet that passes, within five seconds.
    pub(crate) fn wait(tun: &Tun, passes: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let (mut buffer, until) = (vec![0; 1 << 16], Instant::now() + Duration::from_secs(5));
        while Instant::now() < until {
            match tun.receive(&mut buffer).unwrap() {
                Some(packet) if passes(packet) => return Some(packet.to_vec()),
                Some(_) => (),
                None => _ = poll(&[tun.as_fd()], Some(Duration::from_millis(50))).unwrap(),
            }
        }
        None
    }

    #[test]
    fn packets_go_both_ways_by_any_end() {
        if !own_namespace() || !has_taps() {
            return;
        }
        _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let tun = Arc::new(Tun::open("t0").unwrap());
        assert_eq!(tun.name().as_deref(), Some("t0"));
        set_mtu("t0", 1400).unwrap();
        ip("address add 192.0.2.2/30 dev t0");
        let request = ipv4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 17, 0, &[0, 7, 0, 9, 0, 8, 0, 0]);
        assert!(!tun.send(&request), "it is down");
        set_up("t0").unwrap();
        assert!(tun.receive(&mut [0; 100]).unwrap().is_none());

        let other = tun.clone();
        let sent = std::thread::spawn(move || {
            let sent = other.send(&request) && !other.send(&[]) && !other.send(&[0x70; 20]);
            (sent, other)
        });
        let (sent, other) = sent.join().unwrap();
        assert!(sent);
        // Nobody listens to the port: ICMP says so.
        let answer = wait(&tun, |p| p[9] == 1).unwrap();
        assert_eq!((&answer[12..20], &answer[20..22]), (&[192, 0, 2, 2, 192, 0, 2, 1][..], &[3, 3][..]));

        assert!(Tun::open("t0").unwrap_err().to_string().contains("another program"));
        ip("tuntap add dev t1 mode tap");
        assert!(Tun::open("t1").unwrap_err().to_string().contains("no TUN device"));
        for name in ["", "t%d", "a-name-that-is-far-too-long"] {
            assert!(Tun::open(name).is_err(), "{name:?}");
        }
        drop(tun);
        assert!(index_of("t0").is_ok() && other.name().is_some(), "there is another end");
        ip("link del t0");
        assert_eq!((other.name(), other.send(&[0x45; 20])), (None, false));
        assert!(other.receive(&mut [0; 100]).is_err());
    }
}
