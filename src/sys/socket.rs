//! TCP and UDP sockets as routers use them among themselves, as far as the standard library cannot make them.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The longest key of TCP-MD5 (RFC 2385), in bytes.
pub const LONGEST_KEY: usize = 80;

/// DSCP CS6, network control, as it stands in the header.
const NETWORK_CONTROL: libc::c_int = 0xc0;

/// The TTL or hop limit that no packet has that was forwarded (RFC 5082).
const HIGHEST: libc::c_int = 255;

/// Room of a TCP connection in the kernel, in bytes, for each direction.
const ROOM: libc::c_int = 128 << 10;

/// Connections at most that wait to be taken.
const BACKLOG: libc::c_int = 8;

/// Takes connections at an address; never waits. With a key the peer has to sign what it sends.
pub fn listen(local: SocketAddr, peer: IpAddr, key: Option<&[u8]>) -> io::Result<TcpListener> {
    let socket = tcp(peer, key)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
    bind(&socket, local)?;
    // SAFETY: the call takes two numbers.
    done(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

/// Begins to connect from an address to a peer; it is done when the socket can be written, and then has an error or not.
/// With a key both have to sign.
pub fn dial(local: IpAddr, peer: SocketAddr, key: Option<&[u8]>) -> io::Result<TcpStream> {
    let socket = tcp(peer.ip(), key)?;
    bind(&socket, SocketAddr::new(local, 0))?;
    let (address, length) = raw(peer);
    // SAFETY: the address lives until the call returns, and is as long as it is said to be.
    let result =
        done(unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) });
    match result {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// What of a connection that was taken does not come from its listener.
pub fn taken(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

/// A UDP socket at an address that learns the TTL of what it receives; never waits.
pub fn receiver(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(local.ip(), libc::SOCK_DGRAM)?;
    match local.ip() {
        IpAddr::V4(_) => set(&socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &1)?,
        IpAddr::V6(_) => set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1)?,
    }
    // A flood fills this and no more.
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &(32 << 10))?;
    bind(&socket, local)?;
    Ok(UdpSocket::from(socket))
}

/// A UDP socket that sends from an address to a peer with the highest TTL; never waits.
pub fn sender(local: SocketAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(peer.ip(), libc::SOCK_DGRAM)?;
    bind(&socket, local)?;
    let socket = UdpSocket::from(socket);
    socket.connect(peer)?;
    Ok(socket)
}

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How much of the buffer it fills; what has no room is lost.
    pub length: usize,
    /// Who sent it.
    pub from: IpAddr,
    /// Its TTL or hop limit.
    pub ttl: Option<u8>,
}

/// Receives what a [`receiver`] has.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    // SAFETY: both are made of numbers and pointers, which may be zero.
    let (mut from, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { std::mem::zeroed() };
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Numbers of 64 bits, so that what is written there stands where its kind may stand.
    let mut control = [0_u64; 16];
    message.msg_name = std::ptr::from_mut(&mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: everything that the message points to lives until the call returns, and is as long as it is said to be.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let mut ttl = None;
    // SAFETY: the kernel has written the message and says how much of the control buffer is filled.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: it is null or points into the control buffer, where all of a header stands.
    while let Some(header) = unsafe { next.as_ref() } {
        let is_ttl = matches!(
            (header.cmsg_level, header.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
        );
        if is_ttl {
            // SAFETY: behind the header of these stands one number.
            let value = unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() };
            ttl = u8::try_from(value).ok();
        }
        // SAFETY: both are what the calls before were about.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    let from = cooked(&from).ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Datagram { length, from, ttl })
}

/// A TCP socket for a peer, with its key.
fn tcp(peer: IpAddr, key: Option<&[u8]>) -> io::Result<OwnedFd> {
    let socket = open(peer, libc::SOCK_STREAM)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1)?;
    for room in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        set(&socket, libc::SOL_SOCKET, room, &ROOM)?;
    }
    if let Some(key) = key {
        set_md5(&socket, peer, key)?;
    }
    Ok(socket)
}

/// What the kernel takes as TCP_MD5SIG.
#[repr(C)]
struct Md5 {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; LONGEST_KEY],
}

const TCP_MD5SIG: libc::c_int = 14;

const _: () = assert!(offset_of!(Md5, key) == size_of::<libc::sockaddr_storage>() + 8);

fn set_md5(socket: &OwnedFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let invalid = |sentence| io::Error::new(io::ErrorKind::InvalidInput, sentence);
    // The kernel takes an empty key for none.
    if key.is_empty() {
        return Err(invalid("a key of TCP-MD5 is not empty"));
    }
    let mut bytes = [0; LONGEST_KEY];
    let place = bytes.get_mut(..key.len()).ok_or_else(|| invalid("a key of TCP-MD5 has 80 bytes at most"))?;
    place.copy_from_slice(key);
    let address = raw(SocketAddr::new(peer, 0)).0;
    let key_length = key.len() as u16;
    let md5 = Md5 { address, flags: 0, prefix_length: 0, key_length, interface: 0, key: bytes };
    set(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &md5).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(e.kind(), "this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)"),
        _ => e,
    })
}

/// A socket of the family of an address, whose packets are network control and have the highest TTL.
fn open(address: IpAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    done(fd)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_ipv4() {
        set(&socket, libc::IPPROTO_IP, libc::IP_TOS, &NETWORK_CONTROL)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_TTL, &HIGHEST)?;
    } else {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1)?;
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &NETWORK_CONTROL)?;
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &HIGHEST)?;
    }
    Ok(socket)
}

fn bind(socket: &OwnedFd, local: SocketAddr) -> io::Result<()> {
    let (address, length) = raw(local);
    // SAFETY: the address lives until the call returns, and is as long as it is said to be.
    done(unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) })
}

fn set<T>(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value lives until the call returns, and is as long as it is said to be.
    done(unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), length) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An address as the kernel reads it, and how much of it it is to read.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: it is made of numbers, which may be zero.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = std::ptr::from_mut(&mut storage);
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: any kind of address has room there.
            unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
            (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: any kind of address has room there.
            unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
            (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

/// The address that the kernel has written.
fn cooked(storage: &libc::sockaddr_storage) -> Option<IpAddr> {
    let place = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one of these, and zeros are one, too.
            let raw = unsafe { place.cast::<libc::sockaddr_in>().read() };
            Some(IpAddr::V4(Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes())))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is one of these, and zeros are one, too.
            let raw = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            Some(IpAddr::V6(Ipv6Addr::from(raw.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::bpf::tests::{ip, own_namespace};
    use crate::sys::within;

    const PORT: u16 = 179;

    fn addresses() -> [[IpAddr; 2]; 2] {
        [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]]
            .map(|ends| ends.map(|a| a.parse().unwrap()))
    }

    /// A namespace in which all addresses are at loopback.
    fn namespace() -> Option<OwnedFd> {
        if !own_namespace() {
            return None;
        }
        ip("link set lo up");
        for address in addresses().as_flattened() {
            ip(&format!("addr add {address} dev lo"));
        }
        Some(File::open("/proc/thread-self/ns/net").unwrap().into())
    }

    /// What the listener takes within a while.
    fn accept(listener: &TcpListener, most: Duration) -> Option<TcpStream> {
        let until = Instant::now() + most;
        while Instant::now() < until {
            if let Ok((stream, _)) = listener.accept() {
                return Some(stream);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    #[test]
    fn connections_need_the_same_key_on_both_sides() {
        let Some(namespace) = namespace() else { return };
        let key = |text: &'static str| Some(text.as_bytes());
        let long = "k".repeat(LONGEST_KEY);
        for [a, b] in addresses() {
            let rows = [
                (None, None, true),
                (key("secret"), key("secret"), true),
                (Some(long.as_bytes()), Some(long.as_bytes()), true),
                (key("secret"), key("other"), false),
                (key("secret"), None, false),
                (None, key("secret"), false),
            ];
            for (ours, theirs, expected) in rows {
                // From another thread, so that it is seen to be made inside.
                let listener = std::thread::scope(|scope| {
                    let made =
                        scope.spawn(|| within(&namespace, || listen(SocketAddr::new(a, PORT), b, ours)));
                    made.join().unwrap().unwrap()
                });
                let mut dialled = dial(b, SocketAddr::new(a, PORT), theirs).unwrap();
                let most = Duration::from_millis(if expected { 5000 } else { 100 });
                let stream = accept(&listener, most);
                assert_eq!(stream.is_some(), expected, "{a} {ours:?} {theirs:?}");
                let Some(mut stream) = stream else { continue };
                taken(&stream).unwrap();
                assert_eq!(stream.peer_addr().unwrap().ip(), b);
                dialled.write_all(b"hello").unwrap();
                stream.set_nonblocking(false).unwrap();
                let mut got = [0; 5];
                stream.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"hello");
            }
        }
        assert!(listen(SocketAddr::new(addresses()[0][0], PORT), addresses()[0][1], Some(&[7; 81])).is_err());
        assert!(listen(SocketAddr::new(addresses()[0][0], PORT), addresses()[0][1], Some(&[])).is_err());
        assert!(listen("192.0.2.9:179".parse().unwrap(), addresses()[0][1], None).is_err());
        assert!(dial("192.0.2.9".parse().unwrap(), "192.0.2.1:179".parse().unwrap(), None).is_err());
    }

    #[test]
    fn datagrams_come_with_their_ttl_and_sender() {
        let Some(_namespace) = namespace() else { return };
        for [a, b] in addresses() {
            let receiver = receiver(SocketAddr::new(a, 3784)).unwrap();
            let mut buffer = [0; 64];
            let nothing = receive(&receiver, &mut buffer).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            let sender = sender(SocketAddr::new(b, 50_000), SocketAddr::new(a, 3784)).unwrap();
            sender.send(b"bfd").unwrap();
            assert_eq!(
                receive(&receiver, &mut buffer).unwrap(),
                Datagram { length: 3, from: b, ttl: Some(255) }
            );
            assert_eq!(&buffer[..3], b"bfd");
            let plain = UdpSocket::bind(SocketAddr::new(b, 0)).unwrap();
            plain.send_to(&[7; 100], SocketAddr::new(a, 3784)).unwrap();
            let got = receive(&receiver, &mut buffer).unwrap();
            assert_eq!((got.length, got.from, got.ttl), (64, b, Some(64)));
        }
    }
}
