//! Devices of a namespace of the test's own, whose packets nobody takes at first.

use std::net::UdpSocket;

use super::super::spec::Ends;
use super::*;
use crate::sys::Tun;
use crate::sys::bpf::tests::{has_taps, ip, own_namespace};

/// The device of a link.
fn device(link: u8) -> Arc<End> {
    let tun = Tun::open(&format!("t{link}")).unwrap();
    ip(&format!("address add 10.99.{link}.2/30 dev t{link}"));
    ip(&format!("link set t{link} up"));
    let ends = Ends {
        peer: [10, 99, link, 1].into(),
        local: [10, 99, link, 2].into(),
        prefix: format!("10.99.{link}.0/30").parse().unwrap(),
    };
    Arc::new(End { tun: Arc::new(tun), ends: [Some(ends), None] })
}

/// Has the kernel send so many packets by a link.
fn send(link: u8, count: usize) {
    let socket = UdpSocket::bind(format!("10.99.{link}.2:0")).unwrap();
    (0..count).for_each(|_| _ = socket.send_to(b"x", format!("10.99.{link}.1:9")).unwrap());
}

/// What is read, by hand.
struct Hand {
    devices: Devices,
    wake: Wake,
    _wanted: Sender<Wanted>,
    wants: Receiver<Wanted>,
    sender: Sender<FromLink>,
    packets: Receiver<FromLink>,
}

impl Hand {
    fn new() -> Hand {
        let wake = Wake::new().unwrap();
        let (_wanted, wants) = unbounded();
        let (sender, packets) = packets();
        Hand { devices: Devices::new(&wake).unwrap(), wake, _wanted, wants, sender, packets }
    }

    /// Reads all that there is: the links of what the worker gets, with the packets.
    fn read(&mut self) -> Vec<FromLink> {
        let worker = Wake::new().unwrap();
        for _ in 0..100 {
            // So that it does not wait.
            self.wake.wake();
            assert!(self.devices.round(&self.wake, &self.wants, &self.sender, &worker, &mut Vec::new()));
        }
        self.packets.try_iter().collect()
    }
}

fn of(packets: &[FromLink], link: u32) -> usize {
    packets.iter().filter(|packet| packet.link == link).count()
}

fn ours() -> bool {
    if !own_namespace() || !has_taps() {
        return false;
    }
    _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    true
}

#[test]
fn a_link_has_its_room_whatever_others_send() {
    if !ours() {
        return;
    }
    let (mut hand, [a, b]) = (Hand::new(), [0, 1].map(device));
    hand.devices.want(&[(0, a), (1, b)].into());
    send(0, 2 * WAITING);
    send(1, 3);
    let all = hand.read();
    assert_eq!((of(&all, 0), of(&all, 1)), (WAITING, 3));
    // They still wait.
    send(0, 1);
    send(1, 1);
    let more = hand.read();
    assert_eq!((of(&more, 0), of(&more, 1)), (0, 1));
    drop((all, more));
    send(0, 7);
    assert_eq!(of(&hand.read(), 0), 7);
}

#[test]
fn a_device_that_fails_is_nothing_to_others() {
    if !ours() {
        return;
    }
    let (mut hand, [a, b]) = (Hand::new(), [0, 1].map(device));
    hand.devices.want(&[(0, a.clone()), (1, b.clone())].into());
    // One that cannot be waited for: here as it is already. And another number for the other one.
    hand.devices.want(&[(0, a.clone()), (1, a.clone()), (2, b.clone())].into());
    send(0, 1);
    send(1, 2);
    let all = hand.read();
    assert_eq!((of(&all, 0), of(&all, 1), of(&all, 2)), (1, 0, 2));
    hand.devices.want(&[(1, a.clone())].into());
    send(0, 1);
    send(1, 2);
    let all = hand.read();
    assert_eq!((of(&all, 1), all.len()), (1, 1));
    hand.devices.want(&[(0, a), (1, b)].into());
    ip("link del t0");
    send(1, 2);
    let all = hand.read();
    // What came while nobody read it is there as well.
    assert_eq!((of(&all, 1), hand.devices.devices.len()), (4, 1));
}
