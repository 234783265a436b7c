//! XDP sockets at work on veth pairs, in a network namespace of their own.

use std::time::{Duration, Instant};

use super::*;
use crate::sys::bpf::tests::*;
use crate::sys::frames::Got;

fn fabric() -> Ours {
    Ours { address: KERNEL.into(), plain: false, local: vec![] }
}

/// A pair with one socket at the kernel's end; `None` where that is not allowed.
fn socket(mode: Mode) -> Option<XdpSocket> {
    if !may_load() || !own_namespace() {
        return None;
    }
    pair();
    let mut sockets = XdpSocket::open_as(index("a"), 1, 2048, &fabric(), mode).unwrap();
    assert_eq!(sockets.len(), 1);
    sockets.pop()
}

/// Receives until there are so many frames or, for 5 seconds, nothing comes.
fn receive(socket: &mut XdpSocket, into: &mut Frames, wanted: usize) {
    let mut last = Instant::now();
    while into.list.len() < wanted && last.elapsed() < Duration::from_secs(5) {
        if socket.receive(into, 64) > 0 {
            last = Instant::now();
        }
    }
}

/// Every frame is in one hand, and when nothing is on its way the rings agree.
#[track_caller]
fn closes(socket: &XdpSocket) {
    assert!(socket.ledger.closes_frame_by_frame(), "{:?}", socket.ledger);
    assert_eq!(socket.fill.0.filled() + socket.received.0.filled(), socket.ledger.filling());
    assert_eq!(socket.pending() as u32 + socket.completed.0.filled(), socket.ledger.sending());
}

/// What the socket sends: to nobody that the kernel of the other end knows.
fn away(number: u32) -> Vec<u8> {
    let packet =
        ipv4(KERNEL, [198, 51, 100, 9].into(), 47, 0, &[&number.to_be_bytes()[..], &[7; 26]].concat());
    ethernet(WIRE_MAC, KERNEL_MAC, 0x0800, &packet)
}

fn arp_request() -> Vec<u8> {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend(WIRE_MAC);
    request.extend(WIRE.octets());
    request.extend([0; 6]);
    request.extend(KERNEL.octets());
    ethernet([0xff; 6], WIRE_MAC, 0x0806, &request)
}

fn frames_arrive_in_order(mode: Mode) {
    const FRAMES: u32 = 100_000;
    let Some(mut socket) = socket(mode) else { return };
    let wire = Wire::new("b");
    let length = |number: u32| 60 + (number as usize * 7) % 1455;
    let mut frames = Frames::default();
    for first in (0..FRAMES).step_by(50) {
        (first..first + 50).for_each(|number| assert!(wire.send(&gre(number, length(number)))));
        frames.clear();
        receive(&mut socket, &mut frames, 50);
        assert_eq!(frames.list.len(), 50, "{first}: {} lost", socket.losses());
        for (got, number) in frames.list.iter().zip(first..) {
            assert!(frames.frame(*got) == gre(number, length(number)), "{number}");
            let Got { start, end, original } = *got;
            assert_eq!(original, end - start);
            assert!(frames.bytes.len() >= end as usize + 128);
        }
        if first % 10_000 == 0 {
            assert!(wire.send(&echo_request(first as u16)) && wire.send(&arp_request()));
            assert!(wire.wait(Duration::from_secs(2), |f| is_icmp(f, 0)).is_some());
            assert!(wire.send(&arp_request()));
            assert!(wire.wait(Duration::from_secs(2), |f| f[12..14] == [8, 6] && f[21] == 2).is_some());
        }
    }
    assert_eq!((socket.receive(&mut frames, 64), socket.losses()), (0, 0));
    closes(&socket);
    println!("{}: {FRAMES} frames in order", socket.mode());
}

#[test]
fn frames_arrive_in_order_from_the_driver() {
    frames_arrive_in_order(Mode::Native);
}

#[test]
fn frames_arrive_in_order_from_the_generic_path() {
    frames_arrive_in_order(Mode::Generic);
}

fn frames_are_sent(mode: Mode) {
    let Some(mut socket) = socket(mode) else { return };
    let (wire, mut frames) = (Wire::new("b"), Frames::default());
    assert!(!socket.send(&[]) && !socket.send(&[0; 2049]));
    for round in 0..3 {
        // Until the ring is full; nothing leaves before it is flushed.
        let first = round * SENDING;
        for number in first..first + SENDING {
            assert!(socket.send(&away(number)), "{number}");
        }
        assert!(!socket.send(&away(u32::MAX)));
        assert_eq!(socket.pending(), SENDING as usize);
        closes(&socket);
        assert_eq!(wire.receive(), None);
        let mut kicks = 1;
        while !socket.flush().unwrap() {
            kicks += 1;
            assert!(kicks < 100_000);
        }
        for number in first..first + SENDING {
            assert_eq!(wire.receive(), Some(away(number)), "{number}");
        }
        assert_eq!(wire.receive(), None);
        socket.reap();
        assert_eq!((socket.pending(), socket.ledger.sending()), (0, 0), "{kicks} kicks");
        closes(&socket);
    }
    assert_eq!(socket.receive(&mut frames, 64), 0, "what is sent is not received");
    assert!(socket.flush().unwrap());
}

#[test]
fn frames_are_sent_with_the_program_in_the_driver() {
    frames_are_sent(Mode::Native);
}

#[test]
fn frames_are_sent_with_the_generic_program() {
    frames_are_sent(Mode::Generic);
}

#[test]
fn a_device_that_goes_down_or_away_takes_no_frame_with_it() {
    let Some(mut socket) = socket(Mode::Generic) else { return };
    let (wire, mut frames) = (Wire::new("b"), Frames::default());
    ip("link set dev a down");
    (0..100).for_each(|n| assert!(socket.send(&away(n))));
    assert_eq!(socket.flush().unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
    assert_eq!((socket.pending(), socket.receive(&mut frames, 64)), (100, 0));
    closes(&socket);
    ip("link set dev a up");
    while !socket.flush().unwrap() {}
    let sent = |number| wire.wait(Duration::from_secs(1), |f| f == away(number)).is_some();
    assert!((0..100).all(sent), "what was queued leaves when the device is up again");
    assert!(wire.send(&gre(1, 60)));
    receive(&mut socket, &mut frames, 1);
    assert_eq!(frames.list.len(), 1);
    closes(&socket);

    ip("link delete dev a");
    (0..100).for_each(|n| assert!(socket.send(&away(n))));
    assert!(socket.flush().is_err());
    assert_eq!(socket.receive(&mut frames, 64), 0);
    assert!(socket.ledger.closes_frame_by_frame());
    assert_eq!(socket.losses(), 0);
}

#[test]
fn every_queue_has_its_socket() {
    fn sendable<T: Send>(_: &T) {}
    if !may_load() || !own_namespace() {
        return;
    }
    ip("link add name a numrxqueues 2 numtxqueues 2 type veth peer name b numrxqueues 2 numtxqueues 2");
    for device in ["a", "b"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set dev {device} up"));
    }
    let (wire, mut frames) = (Wire::new("b"), Frames::default());
    for mode in [Mode::Native, Mode::Generic] {
        let mut sockets = XdpSocket::open_as(index("a"), 2, 2048, &fabric(), mode).unwrap();
        sendable(&sockets);
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert!(socket.send(&away(number as u32)) && socket.flush().unwrap());
            assert_eq!(wire.receive(), Some(away(number as u32)));
        }
        for number in 0..1000 {
            assert!(wire.send(&gre(number, 60)));
            frames.clear();
            let end = Instant::now() + Duration::from_secs(5);
            while frames.list.is_empty() && Instant::now() < end {
                for socket in &mut sockets {
                    socket.receive(&mut frames, 64);
                }
            }
            assert_eq!(frames.frame(frames.list[0]), gre(number, 60));
        }
        sockets.iter().for_each(closes);
        let error = XdpSocket::open_as(index("a"), 3, 2048, &fabric(), mode).err();
        assert!(error.is_some(), "there is no third queue");
    }
}

fn what_is_not_received_is_counted(mode: Mode) {
    let Some(mut socket) = socket(mode) else { return };
    let (wire, mut frames) = (Wire::new("b"), Frames::default());
    for number in 0..3 * RECEIVING {
        assert!(wire.send(&gre(number, 60)));
        if number % 64 == 0 {
            std::thread::yield_now();
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    let kernel: xdp_statistics = get(socket.as_fd(), libc::XDP_STATISTICS).unwrap();
    println!(
        "dropped {}, ring full {}, fill ring empty {}",
        kernel.rx_dropped, kernel.rx_ring_full, kernel.rx_fill_ring_empty_descs
    );
    receive(&mut socket, &mut frames, RECEIVING as usize);
    assert_eq!(socket.receive(&mut frames, 64), 0);
    assert_eq!(frames.list.len(), RECEIVING as usize);
    for (got, number) in frames.list.iter().zip(0..) {
        assert_eq!(frames.frame(*got), gre(number, 60));
    }
    // Native veth may lose frames on its own ring before there is anything to count here.
    assert!(socket.losses() <= u64::from(2 * RECEIVING));
    if mode == Mode::Generic {
        assert_eq!(socket.losses(), u64::from(2 * RECEIVING));
    }
    closes(&socket);
}

#[test]
fn what_is_not_received_is_counted_in_the_driver() {
    what_is_not_received_is_counted(Mode::Native);
}

#[test]
fn what_is_not_received_is_counted_in_the_generic_path() {
    what_is_not_received_is_counted(Mode::Generic);
}

#[test]
fn a_socket_can_be_opened_right_after_it_was_closed() {
    let Some(first) = socket(Mode::Native) else { return };
    drop(first);
    let (wire, mut frames) = (Wire::new("b"), Frames::default());
    for round in 0..3 {
        let before = Instant::now();
        let mut sockets = XdpSocket::open(index("a"), 1, 1514, &fabric()).unwrap();
        println!("{} again after {:?}", sockets[0].mode(), before.elapsed());
        assert_eq!(sockets[0].mode(), "XDP in the driver");
        assert!(wire.send(&gre(round, 60)));
        frames.clear();
        receive(&mut sockets[0], &mut frames, 1);
        assert_eq!(frames.frame(frames.list[0]), gre(round, 60));
        assert!(XdpSocket::open(index("a"), 1, 1514, &fabric()).is_err(), "one program at a time");
    }
    // With the last socket its program went: the kernel answers GRE itself.
    assert!(wire.send(&gre(9, 60)));
    assert!(wire.wait(Duration::from_secs(2), |f| is_icmp(f, 3)).is_some());
}

#[test]
fn long_frames_another_description_and_what_cannot_be() {
    let Some(first) = socket(Mode::Native) else { return };
    drop(first);
    for (device, longest, words) in [(index("a"), LONGEST + 1, "too long"), (9999, 60, "in the generic path")]
    {
        let error = XdpSocket::open(device, 1, longest, &fabric()).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
    ip("link set dev a mtu 3600");
    ip("link set dev b mtu 3600");
    let mut sockets = XdpSocket::open(index("a"), 1, 3614, &fabric()).unwrap();
    let (socket, wire, mut frames) = (&mut sockets[0], Wire::new("b"), Frames::default());
    println!("long frames: {}", socket.mode());
    for number in 0..10_000 {
        assert!(wire.send(&gre(number, 3614)));
        frames.clear();
        receive(socket, &mut frames, 1);
        assert_eq!(frames.frame(frames.list[0]), gre(number, 3614));
    }
    let mut long = away(1);
    long.resize(3614, 5);
    assert!(socket.send(&long));
    while !socket.flush().unwrap() {}
    assert_eq!(wire.receive(), Some(long));
    closes(socket);

    socket.replace(&Ours { address: [192, 0, 2, 77].into(), ..fabric() }).unwrap();
    assert!(wire.send(&gre(1, 60)));
    assert!(wire.wait(Duration::from_secs(2), |f| is_icmp(f, 3)).is_some(), "now it is the kernel's");
    socket.replace(&fabric()).unwrap();
    frames.clear();
    assert!(wire.send(&gre(2, 60)));
    receive(socket, &mut frames, 1);
    assert_eq!(frames.frame(frames.list[0]), gre(2, 60));
}
