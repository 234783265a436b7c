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

/// What merges received packets into longer ones, as ethtool numbers the questions and their answers: in the kernel (GRO),
/// and in the card (LRO, a bit among others).
const GENERIC: (u32, u32, u32) = (0x2b, 0x2c, u32::MAX);
const LARGE: (u32, u32, u32) = (0x25, 0x26, 1 << 15);

/// What ethtool asks and answers.
#[repr(C)]
struct Setting {
    command: u32,
    value: u32,
}

/// Has a device give packets as they came, not merged into longer ones than its MTU. True if it did merge them before.
pub fn forbid_merging(name: &str) -> io::Result<bool> {
    let socket = any_socket()?;
    let mut merged = false;
    for (read, write, bits) in [GENERIC, LARGE] {
        // A driver that does not know a setting does not do it either.
        let Ok(value) = ethtool(&socket, name, read, 0) else { continue };
        if value & bits != 0 {
            ethtool(&socket, name, write, value & !bits)?;
            merged = true;
        }
    }
    Ok(merged)
}

/// Asks one thing of ethtool's, or says it.
fn ethtool(socket: &OwnedFd, name: &str, command: u32, value: u32) -> io::Result<u32> {
    let mut request = request(name)?;
    let mut setting = Setting { command, value };
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut setting).cast();
    // SAFETY: these commands read and write one setting, which lives until the call returns, and the request is as large
    // as the kernel's.
    let done =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, std::ptr::from_mut(&mut request)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(setting.value) }
}

/// Takes a device up.
pub fn set_up(name: &str) -> io::Result<()> {
    let (socket, mut request) = (any_socket()?, request(name)?);
    call(&socket, libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: the kernel has written flags, which are a number.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    call(&socket, libc::SIOCSIFFLAGS as _, &mut request)
}

/// Sets the largest packet that a device takes.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let (socket, mut request) = (any_socket()?, request(name)?);
    request.ifr_ifru.ifru_mtu = mtu.cast_signed();
    call(&socket, libc::SIOCSIFMTU as _, &mut request)
}

/// A socket to ask for devices by.
fn any_socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks something of a device that holds no pointer.
fn call(socket: &OwnedFd, command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: these commands read and write a request, which is as large as the kernel's.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request about a device, with nothing asked for yet.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a request is made of numbers and, as one of many things it may be, a pointer, which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(no_name());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
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
        for name in ["", "no-such-device", "a-name-that-is-far-too-long", "l\0o"] {
            assert!(index_of(name).is_err() && forbid_merging(name).is_ok_and(|merged| !merged), "{name:?}");
        }
    }
}
