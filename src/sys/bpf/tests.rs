//! The programs held against the plain function, and at work on veth pairs in a network namespace of their own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

const XDP_DROP: i32 = 1;

/// True if this process may load programs; else it says that the test is skipped.
pub(crate) fn may_load() -> bool {
    let tried = SocketMap::new(1);
    if let Err(error) = &tried {
        println!("skipped: the kernel refuses bpf(2): {error}");
    }
    tried.is_ok()
}

/// Takes this thread, and what it starts, into a new network namespace that goes with it. False, with a line that says
/// so, where that is not allowed.
pub(crate) fn own_namespace() -> bool {
    // SAFETY: only this thread leaves its network namespace; no memory is touched.
    let error = (unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0).then(io::Error::last_os_error);
    if let Some(error) = &error {
        println!("skipped: no network namespace of one's own: {error}");
    }
    error.is_none()
}

/// False, with a line that says so, where no TAP devices can be made.
pub(crate) fn has_taps() -> bool {
    let has = std::path::Path::new("/dev/net/tun").exists();
    if !has {
        println!("skipped: there is no /dev/net/tun");
    }
    has
}

/// Runs `ip` in this thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip is there");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The number of a device.
pub(crate) fn index(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the name ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{name:?}: {}", io::Error::last_os_error());
    index
}

pub(crate) const KERNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const WIRE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A veth pair: the kernel's end `a` has 192.0.2.1/24 and knows 192.0.2.2 at the other end `b`, which the kernel leaves
/// alone.
pub(crate) fn pair() {
    ip("link add name a address 02:00:00:00:00:01 type veth peer name b address 02:00:00:00:00:02");
    for device in ["a", "b"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1").unwrap();
    }
    ip("link set dev b arp off up");
    ip("link set dev a up");
    ip("address add 192.0.2.1/24 dev a");
    ip("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev a");
}

/// A packet socket on a device: what others send to it, and a way to send.
pub(crate) struct Wire(OwnedFd);

impl Wire {
    pub(crate) fn new(device: &str) -> Wire {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a new socket touches no memory, and what it gives is ours if it is one.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all));
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let wire = Wire(fd);
        let (one, wait) = (1_i32, libc::timeval { tv_sec: 0, tv_usec: 20_000 });
        wire.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &one);
        wire.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &one);
        wire.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait);
        wire.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64_i32 << 20));
        // SAFETY: zero is a value of this structure of numbers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = all;
        to.sll_ifindex = index(device) as i32;
        // SAFETY: the address has as many bytes as it is said to have.
        let bound = unsafe {
            let length = size_of_val(&to) as u32;
            libc::bind(wire.0.as_raw_fd(), (&raw const to).cast(), length)
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        wire
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) {
        // SAFETY: the value has as many bytes as it is said to have.
        let set = unsafe {
            let value: *const T = value;
            libc::setsockopt(self.0.as_raw_fd(), level, name, value.cast(), size_of::<T>() as u32)
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    pub(crate) fn filter(&self, program: BorrowedFd<'_>) {
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program.as_raw_fd());
    }

    /// False: there is no room at the moment.
    pub(crate) fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: the frame is as long as it is said to be.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let error = io::Error::last_os_error();
        assert!(sent >= 0 || error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
        sent >= 0
    }

    /// A frame if there is one within 20 ms.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65536];
        // SAFETY: the buffer is as long as it is said to be.
        let got = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(got).ok()?);
        Some(frame)
    }

    /// The next frame that is wanted, if it comes within a time.
    pub(crate) fn wait(&self, time: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(frame) = self.receive().filter(|f| wanted(f)) {
                return Some(frame);
            }
        }
        None
    }
}

pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), packet].concat()
}

/// An IPv4 packet with a right checksum.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend([from.octets(), to.octets()].concat());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0)));
    let sum: u32 = pairs.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn ipv6(to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend("2001:db8::99".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// An ICMP echo request from the wire to the kernel.
pub(crate) fn echo_request(number: u16) -> Vec<u8> {
    let mut echo = vec![8, 0, 0, 0, 0, 7];
    echo.extend(number.to_be_bytes());
    echo.extend([0x55; 32]);
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    ethernet(KERNEL_MAC, WIRE_MAC, 0x0800, &ipv4(WIRE, KERNEL, 1, 0, &echo))
}

pub(crate) const KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const WIRE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// True for an ICMP message of this type to the wire.
pub(crate) fn is_icmp(frame: &[u8], kind: u8) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1) && frame.get(34) == Some(&kind)
}

/// GRE from the wire to the kernel's address, with a number in it.
pub(crate) fn gre(number: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![0x20, 0, 8, 0];
    payload.extend(number.to_be_bytes());
    payload.resize(length - 34, number as u8);
    ethernet(KERNEL_MAC, WIRE_MAC, 0x0800, &ipv4(WIRE, KERNEL, 47, 0, &payload))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const LOCAL: [&str; 4] = ["192.0.2.7", "10.0.0.1", "2001:db8::7", "2001:db8:0:1::1"];

/// All kinds of packets to all kinds of addresses, behind all kinds of tags, whole and cut short.
fn frames() -> Vec<Vec<u8>> {
    let mut packets: Vec<(u16, Vec<u8>)> = vec![
        (0x0806, vec![0, 1, 8, 0, 6, 4, 0, 1].into_iter().chain([0; 38]).collect()),
        (0x88cc, vec![0; 46]),
        (0x0021, vec![0; 46]),
        (0x0800, vec![]),
        (0x86dd, vec![]),
    ];
    let four = "0.0.0.0 1.1.1.1 127.0.0.1 169.253.255.255 169.254.0.0 169.254.255.255 169.255.0.0 192.0.2.0 \
                192.0.2.3 223.255.255.255 224.0.0.0 224.0.0.5 239.255.255.255 240.0.0.0 255.255.255.254 \
                255.255.255.255";
    let six = ":: ::1 2001:db8::2 2001:db8:0:1::2 2001:db9::1 ::ffff:192.0.2.1 fe7f:ffff::1 fe80::1 febf::1 \
               fec0::1 feff::1 ff00:: ff02::1 ff02::1:ff00:1 ffff::1";
    let all = four.split_whitespace().chain(six.split_whitespace()).chain(ADDRESSES).chain(LOCAL);
    for to in all.map(address) {
        match to {
            IpAddr::V4(to) => {
                for protocol in [0, 1, 4, 6, 17, 41, 46, 47, 48, 58] {
                    for fragment in [0, 0x4000, 0x2000, 0x2010, 0x0010] {
                        packets.push((0x0800, ipv4(WIRE, to, protocol, fragment, &[133; 26])));
                    }
                }
            }
            IpAddr::V6(to) => {
                for next in [0, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 61, 135] {
                    packets.push((0x86dd, ipv6(to, next, &[47; 24])));
                }
                for kind in [1, 128, 132, 133, 134, 135, 136, 137, 138, 255] {
                    packets.push((0x86dd, ipv6(to, 58, &[kind, 0, 0, 0, 0, 0, 0, 0])));
                }
            }
        }
    }
    let (c, s) = (0x8100_u16, 0x88a8_u16);
    let tags: [&[u16]; 9] =
        [&[], &[c], &[s], &[s, c], &[c, c], &[s, s], &[c, c, c], &[s, c, 0x0800], &[0x9100]];
    let mut frames = Vec::new();
    for (n, (kind, packet)) in packets.iter().enumerate() {
        for tags in tags {
            let mut kinds = tags.iter().copied().chain([*kind]);
            let mut rest = Vec::new();
            let first = kinds.next().unwrap();
            for (kind, id) in kinds.zip(1_u16..) {
                rest.extend(id.to_be_bytes());
                rest.extend(kind.to_be_bytes());
            }
            rest.extend(packet);
            frames.push(ethernet(KERNEL_MAC, WIRE_MAC, first, &rest));
        }
        if n % 31 == 0 {
            let whole = frames.split_off(frames.len() - tags.len());
            for whole in &whole {
                let ends = (1..=whole.len()).filter(|l| *l < 24 || l % 5 == n % 5 || *l > 50);
                frames.extend(ends.map(|length| whole[..length].to_vec()));
            }
        }
    }
    frames
}

#[test]
fn the_programs_say_what_the_plain_function_says() {
    if !may_load() {
        return;
    }
    let (frames, map) = (frames(), SocketMap::new(1).unwrap());
    let (mut ours_seen, mut kernels_seen) = (0, 0);
    for (port, plain, locals) in
        ADDRESSES.into_iter().flat_map(|a| [(a, false, 4), (a, true, 0), (a, true, 4), (a, true, 64)])
    {
        let mut local: Vec<IpAddr> = LOCAL[..locals.min(4)].iter().map(|a| address(a)).collect();
        let more = (4..locals)
            .map(|n| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | (n as u128) << 64)));
        local.splice(0..0, more);
        let ours = Ours { address: address(port), plain, local };
        let filter = load_filter(&ours).unwrap();
        let ingress = load_ingress(&ours).unwrap();
        let xdp = load_xdp(&ours, &map, XDP_DROP).unwrap();
        for frame in &frames {
            let is_ours = ours.is_ours(frame);
            *(if is_ours { &mut ours_seen } else { &mut kernels_seen }) += 1;
            let kept = filter.test_run(frame).unwrap();
            assert_eq!(kept, if is_ours { frame.len() as u32 } else { 0 }, "filter {ours:?} {frame:02x?}");
            if frame.len() <= 14 {
                continue;
            }
            match ingress.test_run(frame).map(u32::cast_signed) {
                Ok(verdict) => {
                    assert_eq!(verdict, if is_ours { 2 } else { -1 }, "ingress {ours:?} {frame:02x?}");
                }
                // The kernel does not try it on what cannot be IP; it reads as the filter does, which was tried.
                Err(error) => {
                    let header = if frame[12..14] == [8, 0] { 20 } else { 40 };
                    assert!(frame.len() < 14 + header, "{error}: {frame:02x?}");
                }
            }
            let verdict = xdp.test_run(frame).unwrap().cast_signed();
            assert_eq!(verdict, if is_ours { XDP_DROP } else { XDP_PASS }, "XDP {ours:?} {frame:02x?}");
        }
    }
    println!("{ours_seen} frames of ours, {kernels_seen} of the kernel, three programs");
    assert!(ours_seen > 1000 && kernels_seen > 1000);
}

#[test]
fn what_is_ours_by_the_words() {
    let port = |address: &str, plain| Ours { address: self::address(address), plain, local: vec![] };
    let (fabric, internet) = (port("192.0.2.1", false), port("192.0.2.1", true));
    let ip = |to: [u8; 4], protocol| {
        ethernet(KERNEL_MAC, WIRE_MAC, 0x0800, &ipv4(WIRE, to.into(), protocol, 0, &[0; 30]))
    };
    let six = |to: &str, next, payload: &[u8]| {
        ethernet(KERNEL_MAC, WIRE_MAC, 0x86dd, &ipv6(to.parse().unwrap(), next, payload))
    };
    assert!(fabric.is_ours(&ip([192, 0, 2, 1], 47)) && internet.is_ours(&ip([192, 0, 2, 1], 47)));
    assert!(!fabric.is_ours(&ip([192, 0, 2, 9], 47)) && !fabric.is_ours(&ip([192, 0, 2, 1], 6)));
    assert!(!internet.is_ours(&ip([192, 0, 2, 1], 6)) && internet.is_ours(&ip([10, 0, 0, 1], 6)));
    assert!(!internet.is_ours(&ip([224, 0, 0, 5], 89)) && !internet.is_ours(&ip([169, 254, 0, 1], 6)));
    assert!(internet.is_ours(&six("2001:db8::9", 58, &[128; 8])));
    assert!(!internet.is_ours(&six("2001:db8::9", 58, &[135; 8])));
    assert!(!internet.is_ours(&six("ff02::5", 89, &[0; 8])));
    let fabric = port("2001:db8::1", false);
    assert!(
        fabric.is_ours(&six("2001:db8::1", 60, &[0; 8])) && fabric.is_ours(&six("2001:db8::1", 47, &[0; 8]))
    );
    assert!(!fabric.is_ours(&six("2001:db8::1", 58, &[0; 8])));
}

#[test]
fn what_the_verifier_has_against_a_program_is_said() {
    if !may_load() {
        return;
    }
    let mut a = asm::Asm::default();
    a.exit();
    let error = call::load(call::FILTER, &a.finish().unwrap()).unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.starts_with("the kernel does not load the filter program: "), "{sentence}");
    assert!(sentence.ends_with("R0 !read_ok"), "{sentence}");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn too_many_local_addresses_are_refused_with_a_sentence() {
    let local = vec![address("192.0.2.7"); MOST_LOCAL + 1];
    let error = load_filter(&Ours { address: address("192.0.2.1"), plain: true, local }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("65 addresses"));
}

#[test]
fn the_kernel_answers_gre_until_the_ingress_program_keeps_it() {
    if !may_load() || !own_namespace() {
        return;
    }
    pair();
    let (tap, wire) = (Wire::new("a"), Wire::new("b"));
    let fabric = Ours { address: KERNEL.into(), plain: false, local: vec![] };
    let unreachable = |time| wire.wait(Duration::from_millis(time), |f| is_icmp(f, 3));
    let pings = |number| {
        assert!(wire.send(&echo_request(number)));
        wire.wait(Duration::from_secs(2), |f| is_icmp(f, 0) && f[40..42] == number.to_be_bytes()).is_some()
    };
    assert!(pings(1));
    assert!(wire.send(&gre(1, 60)));
    assert!(unreachable(2000).is_some(), "without the program the kernel answers");

    let attached = attach_ingress(index("a"), &fabric).unwrap();
    // Behind the kernel's limit of ICMP errors to one peer.
    std::thread::sleep(Duration::from_millis(1100));
    assert!(wire.send(&gre(2, 60)));
    assert!(unreachable(300).is_none(), "with the program it does not");
    assert!(pings(2));
    // The packet socket has seen it all the same, and with the filter on it sees nothing else.
    assert!(tap.wait(Duration::from_secs(1), |f| f == gre(2, 60)).is_some());
    tap.filter(load_filter(&fabric).unwrap().as_fd());
    while tap.receive().is_some() {}
    assert!(pings(3) && wire.send(&gre(3, 60)));
    assert_eq!(tap.receive(), Some(gre(3, 60)));

    // Another description in its place: what is ours now is GRE to another address.
    attached.replace(&Ours { address: address("192.0.2.77"), ..fabric.clone() }).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(wire.send(&gre(4, 60)));
    assert!(unreachable(2000).is_some());
    attached.replace(&fabric).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(wire.send(&gre(5, 60)) && unreachable(300).is_none());
    drop(attached);
    assert!(wire.send(&gre(6, 60)));
    assert!(unreachable(2000).is_some(), "the program went with its owner");
}

#[test]
fn an_attached_xdp_program_without_a_socket_lets_all_pass() {
    if !may_load() || !own_namespace() {
        return;
    }
    pair();
    let wire = Wire::new("b");
    let map = SocketMap::new(1).unwrap();
    let ours = Ours { address: KERNEL.into(), plain: true, local: vec![] };
    for mode in [Mode::Native, Mode::Generic] {
        let attached = attach_xdp(index("a"), &ours, &map, mode).unwrap();
        assert!(wire.send(&echo_request(1)));
        assert!(wire.wait(Duration::from_secs(2), |f| is_icmp(f, 0)).is_some());
        attached.replace(&Ours { plain: false, ..ours.clone() }).unwrap();
        assert!(attach_xdp(index("a"), &ours, &map, mode).is_err(), "one at a time");
    }
    assert!(attach_xdp(9999, &ours, &map, Mode::Native).unwrap_err().to_string().contains("device 9999"));
    assert!(attach_ingress(9999, &ours).is_err());
}
