//! What the kernel knows of a network device by its name.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The number of a device.
pub fn index_of(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| no_name())?;
    // SAFETY: the name ends in a zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The MAC address of a device and the longest packet it takes, without the Ethernet header.
pub fn mac_and_mtu(name: &str) -> io::Result<([u8; 6], u32)> {
    let (socket, mut request) = question(name)?;
    ask(&socket, libc::SIOCGIFHWADDR as _, &mut request)?;
    // SAFETY: the kernel has answered with an address, and any bytes are one.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address) {
        *to = from as u8;
    }
    ask(&socket, libc::SIOCGIFMTU as _, &mut request)?;
    // SAFETY: the kernel has answered with a number.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok((mac, mtu.max(0) as u32))
}

/// A value of `linux/ethtool.h`: which one, and what it is.
#[repr(C)]
struct Value {
    what: u32,
    data: u32,
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
/// The flag of large receive offload.
const LRO: u32 = 1 << 15;

/// Has the kernel and the card give packets as they come: else they make one long packet of several of a flow (GRO, LRO),
/// which is longer than what anybody sent, and than a slot for a frame. True if that was so before.
pub fn keep_packets_apart(name: &str) -> io::Result<bool> {
    let (socket, mut request) = question(name)?;
    let mut say = |what, data| {
        let mut value = Value { what, data };
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        ask(&socket, SIOCETHTOOL, &mut request).map(|()| value.data)
    };
    let gro = say(GET_GRO, 0)? != 0;
    if gro {
        say(SET_GRO, 0)?;
    }
    // Devices that have no such flags have no LRO.
    let flags = say(GET_FLAGS, 0).unwrap_or(0);
    let lro = flags & LRO != 0;
    if lro {
        say(SET_FLAGS, flags & !LRO)?;
    }
    Ok(gro || lro)
}

/// A socket to ask by, and a question about a device.
fn question(name: &str) -> io::Result<(OwnedFd, libc::ifreq)> {
    // SAFETY: a request is made of numbers and, as one of many things it may be, a pointer, which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(no_name());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, request))
}

fn ask(socket: &OwnedFd, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: questions are answered within the request, which is as large as the kernel's, or within what it points to,
    // which lives until the call returns.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn no_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not the name of a device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known_and_others_are_not() {
        assert!(index_of("lo").unwrap() > 0);
        let (mac, mtu) = mac_and_mtu("lo").unwrap();
        assert!(mac == [0; 6] && mtu >= 1500, "{mac:?} {mtu}");
        for name in ["", "no-such-device", "a-name-that-is-far-too-long", "l\0o"] {
            assert!(index_of(name).is_err() && mac_and_mtu(name).is_err(), "{name:?}");
            assert!(keep_packets_apart(name).is_err(), "{name:?}");
        }
    }
}
