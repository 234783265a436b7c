//! Real frames over pairs of virtual devices, in a network namespace that goes with the thread of the test.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::sys::{index_of, poll};

/// Ends the wait for a frame that will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to look for a frame that must not come.
const QUIET: Duration = Duration::from_millis(100);

/// Does it in a network namespace of its own, which nothing else is in, between two ends of a link called west and east. Not
/// done, and said so, where that is not allowed.
fn on_a_link(what: impl FnOnce() + Send + 'static) {
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let thread = std::thread::spawn(move || {
        // SAFETY: the call takes a number and changes what this thread sees of the network, no memory.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        if !alone {
            println!("skipped: not allowed to have a network namespace ({})", io::Error::last_os_error());
            return;
        }
        assert_ne!(fs::read_link("/proc/thread-self/ns/net").unwrap(), ours);
        // What the kernel itself says on new links would be seen.
        for which in ["all", "default"] {
            _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
        }
        if Command::new("ip").arg("-V").output().is_err() {
            println!("skipped: no command ip");
            return;
        }
        ip("link add name west type veth peer name east");
        ip("link set west up");
        ip("link set east up");
        what();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Has the command `ip` do something in the namespace of this thread.
fn ip(what: &str) {
    let done = Command::new("ip").args(what.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {what}: {}", String::from_utf8_lossy(&done.stderr));
}

fn open(name: &str) -> PacketSocket {
    open_with(name, &PacketOptions::new(1500))
}

fn open_with(name: &str, options: &PacketOptions<'_>) -> PacketSocket {
    PacketSocket::open(index_of(name).unwrap(), options).unwrap()
}

/// A frame with a number in it, in as many bytes.
fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5][..], &number.to_be_bytes()].concat();
    frame.extend((18..length).map(|n| (n as u32 ^ number) as u8));
    frame
}

/// Sends all there is to send.
fn flush(socket: &mut PacketSocket) {
    let start = Instant::now();
    while !socket.flush().unwrap() {
        assert!(start.elapsed() < PATIENCE);
    }
}

fn send(socket: &mut PacketSocket, frame: &[u8]) {
    assert!(socket.send(frame));
    flush(socket);
}

/// Waits for so many frames; fewer if no more come.
fn receive(socket: &mut PacketSocket, into: &mut Frames, count: usize) {
    let start = Instant::now();
    while into.list.len() < count && start.elapsed() < PATIENCE {
        poll(&[socket.as_fd()], Some(QUIET)).unwrap();
        socket.receive(into, count - into.list.len());
    }
}

/// True if nothing comes.
fn is_quiet(socket: &mut PacketSocket) -> bool {
    poll(&[socket.as_fd()], Some(QUIET)).unwrap();
    socket.receive(&mut Frames::new(), 1) == 0
}

#[test]
fn many_frames_arrive_in_order_while_both_rings_go_round() {
    on_a_link(|| {
        let small =
            PacketOptions { receive_bytes: 1 << 20, send_bytes: 256 << 10, ..PacketOptions::new(1500) };
        let (mut a, mut b) = (open_with("west", &small), open_with("east", &small));
        assert!(a.send.slots() < 500 && b.receive.slots() < 1000);
        let all: u32 = 100_000;
        let length = |n: u32| 60 + (n as usize * 37) % 1455;
        let mut frames = Frames::new();
        let (mut sent, mut got) = (0, 0);
        let start = Instant::now();
        while got < all && start.elapsed() < PATIENCE {
            while sent < all && sent - got < 500 && a.send(&frame(sent, length(sent))) {
                sent += 1;
            }
            a.flush().unwrap();
            frames.clear();
            b.receive(&mut frames, 64);
            for f in &frames.list {
                assert!(frames.frame(*f) == frame(got, length(got)), "frame {got}");
                assert!(!f.is_cut());
                got += 1;
            }
        }
        assert_eq!((sent, got, a.pending(), a.take_refused()), (all, all, 0, 0));
        // What it sent it does not see, and the other sent nothing.
        assert!(is_quiet(&mut a) && is_quiet(&mut b));
        assert_eq!((a.losses(), b.losses()), (0, 0));
    });
}

#[test]
fn a_vlan_tag_arrives_where_it_was() {
    on_a_link(|| {
        let (mut a, mut b) = (open("west"), open("east"));
        let mut frames = Frames::new();
        let plain = frame(7, 100);
        let single = [&plain[..12], &[0x81, 0, 0x60, 100], &plain[12..]].concat();
        let double = [&plain[..12], &[0x88, 0xa8, 0, 5, 0x81, 0, 0x60, 100], &plain[12..]].concat();
        for f in [&plain, &single, &double] {
            send(&mut a, f);
        }
        receive(&mut b, &mut frames, 3);
        assert_eq!(frames.list.iter().map(|f| frames.frame(*f)).collect::<Vec<_>>(), [plain, single, double]);
        assert!(frames.list.iter().all(|f| f.original == f.end - f.start));
    });
}

#[test]
fn echoes_are_told_apart_where_the_kernel_gives_them() {
    on_a_link(|| {
        let (mut a, mut b, mut other) = (open("west"), open("east"), open("west"));
        set(a.as_fd(), SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &0_i32).unwrap();
        a.echoes = true;
        // With the bypass, and of a socket's own, the kernel shows nobody what is sent.
        set(other.as_fd(), SOL_PACKET, libc::PACKET_QDISC_BYPASS, &0_i32).unwrap();
        send(&mut other, &frame(1, 60));
        poll(&[a.as_fd()], Some(QUIET)).unwrap();
        assert_ne!(a.receive.status(0) & libc::TP_STATUS_USER, 0);
        assert!(is_quiet(&mut a));
        send(&mut b, &frame(2, 60));
        let mut frames = Frames::new();
        receive(&mut a, &mut frames, 1);
        assert_eq!(frames.frame(frames.list[0]), frame(2, 60));
    });
}

#[test]
fn what_finds_a_full_ring_is_counted() {
    on_a_link(|| {
        let small = PacketOptions { receive_bytes: 0, ..PacketOptions::new(1500) };
        let (mut a, mut b) = (open("west"), open_with("east", &small));
        let room = b.receive.slots() as u32;
        for n in 0..room + 50 {
            send(&mut a, &frame(n, 60));
        }
        assert_eq!((b.losses(), b.losses()), (50, 50));
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, room as usize);
        assert!((0..room).all(|n| frames.frame(frames.list[n as usize]) == frame(n, 60)));
        send(&mut a, &frame(9, 60));
        frames.clear();
        receive(&mut b, &mut frames, 1);
        assert_eq!((frames.frame(frames.list[0]), b.losses()), (&frame(9, 60)[..], 50));
    });
}

#[test]
fn a_frame_that_is_too_long_is_cut_and_told_of() {
    on_a_link(|| {
        ip("link set west mtu 9000");
        ip("link set east mtu 9000");
        let mut a = open_with("west", &PacketOptions::new(9000));
        let mut b = open("east");
        let long = frame(1, 9014);
        send(&mut a, &long);
        send(&mut a, &frame(2, 1522));
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, 2);
        let (cut, whole) = (frames.list[0], frames.list[1]);
        assert!(cut.is_cut() && cut.original == 9014 && (1522..1700).contains(&(cut.end - cut.start)));
        assert!(long.starts_with(frames.frame(cut)));
        assert!(!whole.is_cut() && frames.frame(whole) == frame(2, 1522));
    });
}

#[test]
fn a_full_ring_to_send_takes_no_more_until_it_is_flushed() {
    on_a_link(|| {
        let small = PacketOptions { send_bytes: 0, ..PacketOptions::new(1500) };
        let (mut a, mut b) = (open_with("west", &small), open("east"));
        let room = a.send.slots();
        let sent = (0..).take_while(|n| a.send(&frame(*n, 60))).count();
        assert_eq!((sent, a.pending()), (room, room));
        flush(&mut a);
        assert_eq!(a.pending(), 0);
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, room);
        assert_eq!(frames.list.len(), room);
        assert!(!a.send(&vec![0; a.longest() + 1]) && !a.send(&[0; 13]));
    });
}

#[test]
fn frames_that_the_device_does_not_take_are_skipped() {
    on_a_link(|| {
        let (mut a, mut b) = (open_with("west", &PacketOptions::new(9000)), open("east"));
        let lengths = [9000, 60, 4000, 4000, 61, 62, 4000];
        for (n, length) in lengths.iter().enumerate() {
            assert!(a.send(&frame(n as u32, *length)));
        }
        flush(&mut a);
        assert_eq!((a.take_refused(), a.pending()), (4, 0));
        send(&mut a, &frame(7, 63));
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, 4);
        let expected = [frame(1, 60), frame(4, 61), frame(5, 62), frame(7, 63)];
        assert_eq!(frames.list.iter().map(|f| frames.frame(*f)).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_device_that_is_down_or_gone_is_an_error() {
    on_a_link(|| {
        let (mut a, mut b) = (open("west"), open("east"));
        ip("link set east down");
        // The link has no carrier: it may come back.
        assert!(a.send(&frame(1, 60)) && !a.flush().unwrap() && a.pending() == 1);
        ip("link set west down");
        assert_eq!(a.flush().unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        assert_eq!(poll(&[a.as_fd()], None).unwrap(), 1);
        assert_eq!(a.take_error().and_then(|e| e.raw_os_error()), Some(libc::ENETDOWN));
        assert!(a.take_error().is_none() && poll(&[a.as_fd()], Some(Duration::ZERO)).unwrap() == 0);
        assert!(a.send(&frame(2, 60)) && a.discard() == 2 && a.pending() == 0);
        ip("link set west up");
        ip("link set east up");
        _ = b.take_error();
        send(&mut a, &frame(3, 60));
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, 1);
        assert_eq!(frames.frame(frames.list[0]), frame(3, 60));
        assert!(is_quiet(&mut b));

        ip("link del west");
        assert!(a.send(&frame(4, 60)));
        assert!(a.flush().is_err());
        let gone = PacketSocket::open(99, &PacketOptions::new(1500)).err().unwrap();
        assert!(gone.to_string().starts_with("cannot bind to the device: "), "{gone}");
    });
}

#[test]
fn a_filter_holds_from_the_first_frame_on() {
    on_a_link(|| {
        // The Ethernet type, if it is one; 60 bytes of it, or nothing.
        let of_type = |kind| [(0x28, 0, 0, 12), (0x15, 0, 1, kind), (6, 0, 0, 60), (6, 0, 0, 0)];
        let odd = of_type(0x88b5);
        let mut a = open("west");
        let mut b =
            open_with("east", &PacketOptions { filter: Filter::Classic(&odd), ..PacketOptions::new(1500) });
        let mut other = frame(1, 60);
        other[12..14].copy_from_slice(&[0x88, 0xb6]);
        send(&mut a, &other);
        send(&mut a, &frame(2, 80));
        let mut frames = Frames::new();
        receive(&mut b, &mut frames, 1);
        assert_eq!(frames.frame(frames.list[0]), &frame(2, 80)[..60]);
        assert_eq!(frames.list[0].original, 80);
        set_filter(&b, Filter::Classic(&of_type(0x88b6))).unwrap();
        send(&mut a, &frame(3, 60));
        send(&mut a, &other);
        receive(&mut b, &mut frames, 2);
        assert!(frames.frame(frames.list[1]) == other && is_quiet(&mut b));
        assert!(set_filter(&b, Filter::Classic(&[])).is_err());
        assert!(set_filter(&b, Filter::Program(a.as_fd())).is_err());
        set_filter(&b, Filter::All).unwrap();
        send(&mut a, &other);
        receive(&mut b, &mut frames, 3);
        assert_eq!(frames.list.len(), 3);
    });
}

#[test]
fn checksums_that_the_kernel_left_open_are_completed() {
    on_a_link(|| {
        // The kernel at `a` sends to an address that is said to be at `b`.
        ip("addr add 10.0.0.1/24 dev west");
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev west nud permanent");
        ip("link set east address 02:00:00:00:00:02");
        let mut b = open("east");
        let socket = std::net::UdpSocket::bind("10.0.0.1:4000").unwrap();
        socket.send_to(b"not even", "10.0.0.2:53").unwrap();
        let mut frames = Frames::new();
        poll(&[b.as_fd()], Some(PATIENCE)).unwrap();
        assert_ne!(b.receive.status(0) & libc::TP_STATUS_CSUMNOTREADY, 0);
        receive(&mut b, &mut frames, 1);
        let whole = frames.frame(frames.list[0]);
        assert_eq!((whole.len(), &whole[..6], &whole[42..]), (50, &[2, 0, 0, 0, 0, 2][..], &b"not even"[..]));
        let sum: u32 = whole[26..].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        // The addresses are in it; protocol and length complete the pseudo header.
        assert_eq!((sum + 17 + 16) % 0xffff, 0, "{whole:x?}");
    });
}

#[test]
fn who_may_not_is_told_what_failed() {
    // Neither a device of this number nor any rings: whoever it is, something fails and is named.
    let error = PacketSocket::open(u32::MAX, &PacketOptions::new(1500)).err().unwrap();
    assert!(error.to_string().starts_with("cannot "), "{error}");
    assert_ne!(error.kind(), ErrorKind::Interrupted);
}
