//! Devices of links at work, where no namespaces of the machine are touched.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::sys::bpf::tests::{checksum, has_taps, ip, ipv4};
use crate::sys::{own_names, poll, wait};

fn prepared() -> bool {
    own_names() && has_taps()
}

fn ends(peer: &str, local: &str, prefix: &str) -> Option<Ends> {
    let (first, length) = prefix.split_once('/').unwrap();
    let prefix = Prefix::new(first.parse().unwrap(), length.parse().unwrap());
    Some(Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap(), prefix })
}

/// The link of a customer's circuit, with the same addresses for all.
fn link(customer: &str, circuit: &str) -> LinkSpec {
    let key = LinkKey {
        customer: customer.to_owned(),
        circuit: circuit.to_owned(),
        peering: "AzurePrivatePeering".to_owned(),
        link: Link::Primary,
    };
    let ends = [
        ends("192.0.2.1", "192.0.2.2", "192.0.2.0/30"),
        ends("2001:db8::1", "2001:db8::2", "2001:db8::/126"),
    ];
    LinkSpec { key, kind: PeeringKind::Private, ends, mtu: 1400, enabled: true, bgp: None, kernel: None }
}

/// The same link, with other addresses of IPv4 and none of IPv6.
fn other_prefix(mut link: LinkSpec) -> LinkSpec {
    link.ends = [ends("198.51.100.1", "198.51.100.2", "198.51.100.0/30"), None];
    link
}

fn echo_request(v6: bool, number: u16) -> Vec<u8> {
    let mut echo = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1];
    echo.extend(number.to_be_bytes());
    echo.extend([7; 32]);
    if !v6 {
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        return ipv4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 1, 0, &echo);
    }
    let addresses = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse::<std::net::Ipv6Addr>().unwrap().octets());
    let addresses = addresses.concat();
    let length = echo.len() as u8;
    let sum = checksum(&[&addresses, &[0, 0, 0, length, 0, 0, 0, 58][..], &echo].concat());
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    [&[0x60, 0, 0, 0, 0, length, 58, 255][..], &addresses, &echo].concat()
}

/// True if our end of the link answers a ping of this number, with what the link lets leave.
fn answers(device: Device<'_>, link: &LinkSpec, v6: bool, number: u16) -> bool {
    let (header, reply) = if v6 { (40, 129) } else { (20, 0) };
    let is_reply = |packet: &[u8]| {
        packet.get(header) == Some(&reply)
            && packet.get(header + 6..header + 8) == Some(&number.to_be_bytes()[..])
    };
    let (tun, done) = (device.tun, AtomicBool::new(false));
    let packet = thread::scope(|scope| {
        // Until a device that is up has noticed that it has its other end, the kernel loses what it sends by it.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && tun.send(&echo_request(v6, number)) {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let packet = wait(tun, is_reply);
        done.store(true, Ordering::Relaxed);
        packet
    });
    packet.is_some_and(|packet| may_leave(&link.ends, &packet))
}

fn addresses(device: Device<'_>) -> Vec<(IpAddr, u8)> {
    let all = within(device.namespace, || Requests::open()?.addresses(index_of(device.name)?));
    let mut all = all.unwrap();
    all.sort();
    all
}

fn keys(links: &[&LinkSpec]) -> Vec<LinkKey> {
    links.iter().map(|link| link.key.clone()).collect()
}

fn is_named(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

#[test]
fn names_can_be_read_and_never_meet() {
    assert_eq!(namespace_name("contoso"), "clearway-contoso");
    assert_eq!(namespace_name("Contoso_2.eu-west"), "clearway-Contoso_2.eu-west");
    let others = ["a/b", "a b", "a_b", "", "..", "~", "ä", "a\0b"].map(namespace_name);
    assert_eq!(others[2], "clearway-a_b");
    assert_eq!(others[4], "clearway-..");
    for name in [&others[0], &others[1]] {
        assert!(name.starts_with("clearway-a_b~") && name.len() == "clearway-a_b~".len() + 8, "{name}");
    }
    let long = ["x".repeat(55), "x".repeat(56), "x".repeat(57)].map(|name| namespace_name(&name));
    assert_eq!(long[0], format!("clearway-{}", "x".repeat(55)));
    assert!(long.iter().all(|name| name.len() == 64));
    let all: std::collections::BTreeSet<&String> = others.iter().chain(&long).collect();
    assert_eq!(all.len(), others.len() + long.len());

    let name = |circuit: &str, kind, attempt| device_name(&link("c", circuit).key, kind, attempt);
    assert_eq!(name("er1", PeeringKind::Private, 0), "er1-priv-p");
    assert_eq!(name("er-paris", PeeringKind::Private, 0), "er-paris-priv-p");
    assert_eq!(name("er-paris-2", PeeringKind::Microsoft, 0), "er-paris-2-ms-p");
    for (circuit, attempt) in
        [("er-london", 0), ("er-london", 1), ("er:1", 0), ("er1", 1), ("", 0), ("ä/ö", 0)]
    {
        let name = name(circuit, PeeringKind::Private, attempt);
        assert!(name.len() <= DEVICE && name.is_ascii() && name.contains('~') && !name.contains(['/', ':']));
        assert!(name.ends_with("-priv-p"), "{name}");
    }
    assert_ne!(name("er-london", PeeringKind::Private, 0), name("er-london", PeeringKind::Private, 1));
    assert_ne!(name("er-london", PeeringKind::Private, 0), name("er-lond.n", PeeringKind::Private, 0));
}

#[test]
fn only_what_goes_from_our_end_to_the_peers_leaves() {
    let ends = link("c", "er1").ends;
    let packet = |from: [u8; 4], to: [u8; 4]| ipv4(from.into(), to.into(), 6, 0, &[]);
    assert!(may_leave(&ends, &packet([192, 0, 2, 2], [192, 0, 2, 1])));
    for (from, to) in [([192, 0, 2, 1], [192, 0, 2, 2]), ([192, 0, 2, 2], [224, 0, 0, 1]), ([0; 4], [0; 4])] {
        assert!(!may_leave(&ends, &packet(from, to)), "{from:?} {to:?}");
    }
    let mut v6 = echo_request(true, 1);
    assert!(!may_leave(&ends, &v6));
    (v6[23], v6[39]) = (2, 1);
    assert!(may_leave(&ends, &v6) && !may_leave(&[ends[0], None], &v6));
    for length in 0..40 {
        assert!(!may_leave(&ends, &v6[..length]));
    }
}

#[test]
fn customers_with_the_same_addresses_are_answered_each_at_home() {
    if !prepared() {
        return;
    }
    let mut devices = Devices::new();
    let (a, b) = (link("a", "er1"), link("b/c", "er1"));
    let followed = devices.follow(&[a.clone(), b.clone()]);
    assert_eq!(followed, Followed { opened: keys(&[&a, &b]), ..Followed::default() });
    for (number, of) in [&a, &b, &a].into_iter().enumerate() {
        let device = devices.get(&of.key).unwrap();
        assert_eq!((device.name, device.namespace.name()), ("er1-priv-p", namespace_name(&of.key.customer)));
        for v6 in [false, true] {
            assert!(answers(device, of, v6, number as u16), "{number} {v6}");
        }
        // Neither a link-local address nor one that is still in doubt.
        assert_eq!(
            addresses(device),
            [("192.0.2.2".parse().unwrap(), 30), ("2001:db8::2".parse().unwrap(), 126)]
        );
    }
    // Nobody else's are reached, and nothing is forwarded.
    let [a_device, b_device] = [&a, &b].map(|of| devices.get(&of.key).unwrap());
    let elsewhere = ipv4([192, 0, 2, 1].into(), [127, 0, 0, 1].into(), 1, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    assert!(a_device.tun.send(&elsewhere));
    let (until, mut buffer) = (Instant::now() + Duration::from_millis(300), [0; 1500]);
    while Instant::now() < until {
        poll(&[a_device.tun.as_fd(), b_device.tun.as_fd()], Some(Duration::from_millis(50))).unwrap();
        for (device, of) in [(a_device, &a), (b_device, &b)] {
            // What the kernel says of its multicast groups stays here.
            let sent = device.tun.receive(&mut buffer).unwrap();
            assert!(sent.is_none_or(|packet| !may_leave(&of.ends, packet)));
        }
    }
    let settings = [
        ("ipv4/conf/er1-priv-p/forwarding", "0"),
        ("ipv4/conf/er1-priv-p/rp_filter", "0"),
        ("ipv4/conf/er1-priv-p/accept_source_route", "0"),
        ("ipv6/conf/er1-priv-p/addr_gen_mode", "1"),
        ("ipv6/conf/all/forwarding", "0"),
    ];
    for (setting, value) in settings {
        let read = || fs::read_to_string(Path::new("/proc/sys/net").join(setting));
        assert_eq!(within(a_device.namespace, read).unwrap().trim(), value, "{setting}");
    }

    let followed = devices.follow(std::slice::from_ref(&b));
    assert_eq!(followed, Followed { closed: keys(&[&a]), ..Followed::default() });
    assert_eq!(devices.get(&a.key).unwrap_err(), "it has no device yet");
    assert!(!is_named("clearway-a") && is_named(&namespace_name("b/c")));
    assert!(answers(devices.get(&b.key).unwrap(), &b, false, 9));
    drop(devices);
    assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
}

/// Carries packets between two devices until told to stop.
fn carry(tuns: &[Arc<Tun>; 2], stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        poll(&[tuns[0].as_fd(), tuns[1].as_fd()], Some(Duration::from_millis(20))).unwrap();
        for (from, to) in [(&tuns[0], &tuns[1]), (&tuns[1], &tuns[0])] {
            while let Some(packet) = from.receive(&mut buffer).unwrap() {
                to.send(packet);
            }
        }
    }
}

#[test]
fn a_connection_outlives_changes_of_the_configuration() {
    if !prepared() {
        return;
    }
    let mut devices = Devices::new();
    let us = link("us", "er1");
    let mut router = link("router", "er1");
    for ends in router.ends.iter_mut().flatten() {
        (ends.peer, ends.local) = (ends.local, ends.peer);
    }
    assert_eq!(devices.follow(&[us.clone(), router.clone()]).opened.len(), 2);
    let tuns = [&us, &router].map(|of| devices.get(&of.key).unwrap().tun.clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| carry(&tuns, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let namespace =
                |of: &LinkSpec| devices.get(&of.key).unwrap().namespace.as_fd().try_clone_to_owned();
            let (ours, theirs) = (namespace(&us).unwrap(), namespace(&router).unwrap());
            let listener = within(&ours, || TcpListener::bind("192.0.2.2:179")).unwrap();
            let mut client = within(&theirs, || TcpStream::connect("192.0.2.2:179")).unwrap();
            let (mut server, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), router.ends[0].unwrap().local);
            let mut talk = || {
                for socket in [&client, &server] {
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                }
                client.write_all(&[1; 5000]).unwrap();
                server.read_exact(&mut [0; 5000]).unwrap();
                server.write_all(&[2; 5000]).unwrap();
                client.read_exact(&mut [0; 5000]).unwrap();
            };
            talk();
            assert_eq!(devices.follow(&[us.clone(), router.clone()]), Followed::default());
            talk();
            let mut changed = us.clone();
            (changed.mtu, changed.enabled, changed.ends[1]) = (1300, false, None);
            let second = other_prefix(link("us", "er2"));
            let followed = devices.follow(&[second.clone(), changed.clone(), router.clone()]);
            assert_eq!(followed, Followed { opened: keys(&[&second]), ..Followed::default() });
            let device = devices.get(&changed.key).unwrap();
            assert_eq!(addresses(device), [("192.0.2.2".parse().unwrap(), 30)]);
            talk();
            let followed = devices.follow(&[us.clone(), router.clone()]);
            assert_eq!(followed, Followed { closed: keys(&[&second]), ..Followed::default() });
            assert_eq!(addresses(devices.get(&us.key).unwrap()).len(), 2);
            talk();
        }));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
}

#[test]
fn what_a_killed_process_left_is_taken_over_and_what_is_an_operators_stays() {
    if !prepared() {
        return;
    }
    let left = link("left", "er1");
    let mut killed = Devices::new();
    assert_eq!(killed.follow(std::slice::from_ref(&left)).opened.len(), 1);
    // As the kernel does: files are closed, and nothing is removed.
    drop(std::mem::take(&mut killed.customers));
    assert!(is_named("clearway-left"));
    // While another run has the devices, the namespace is its own.
    let (mut first, mut second) = (Devices::new(), Devices::new());
    assert_eq!(first.follow(std::slice::from_ref(&left)).opened.len(), 1);
    let followed = second.follow(std::slice::from_ref(&left));
    assert!(followed.failed[0].1.contains("another program has its other end"), "{followed:?}");
    drop(second);
    assert!(is_named("clearway-left"));
    drop(std::mem::take(&mut first.customers));

    // An operator's namespace, and in it a device with old addresses and settings that has no owner.
    let own = link("own", "er1");
    ip("netns add clearway-own");
    ip("-n clearway-own tuntap add dev er1-priv-p mode tun");
    ip("-n clearway-own address add 192.0.2.2/24 dev er1-priv-p");
    ip("-n clearway-own address add 192.0.2.9/30 dev er1-priv-p");
    ip("-n clearway-own link set er1-priv-p up");
    let mut devices = Devices::new();
    let namespace = Namespace::open("clearway-own").unwrap();
    within(&namespace, || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    drop(namespace);

    let followed = devices.follow(&[left.clone(), own.clone()]);
    assert_eq!(followed, Followed { opened: keys(&[&left, &own]), ..Followed::default() });
    for of in [&left, &own] {
        let device = devices.get(&of.key).unwrap();
        assert_eq!(addresses(device).len(), 2);
        assert!(answers(device, of, false, 1) && answers(device, of, true, 2));
        let read = || fs::read_to_string("/proc/sys/net/ipv4/conf/er1-priv-p/forwarding");
        assert_eq!(within(device.namespace, read).unwrap().trim(), "0");
    }
    drop(devices);
    assert!(!is_named("clearway-left"), "it was ours from the beginning");
    assert!(is_named("clearway-own"));
    ip("-n clearway-own link show er1-priv-p");
}

#[test]
fn what_fails_says_why_and_hinders_no_other() {
    if !prepared() {
        return;
    }
    let mut devices = Devices::new();
    let (first, clash) = (link("c", "er1"), link("c", "er0"));
    let mut small = other_prefix(link("c", "er2"));
    small.ends[1] = ends("2001:db8::5", "2001:db8::6", "2001:db8::4/126");
    small.mtu = 1200;
    assert_eq!(devices.follow(std::slice::from_ref(&first)).opened.len(), 1);
    ip("-n clearway-c tuntap add dev er3-priv-p mode tap");
    let mut foreign = other_prefix(link("c", "er3"));
    foreign.ends[0] = ends("203.0.113.1", "203.0.113.2", "203.0.113.0/30");
    let all = [clash.clone(), first.clone(), small.clone(), foreign.clone()];
    let followed = devices.follow(&all);
    let why: BTreeMap<&str, &str> =
        followed.failed.iter().map(|(key, why)| (key.circuit.as_str(), why.as_str())).collect();
    assert_eq!(why["er0"], "its prefix overlaps 192.0.2.0/30 of the primary link of er1/AzurePrivatePeering");
    assert!(
        why["er2"].starts_with("er2-priv-p does not take the address 2001:db8::6, as IPv6 needs"),
        "{why:?}"
    );
    assert!(why["er3"].starts_with("er3-priv-p cannot be had as a TUN device: there is such a"), "{why:?}");
    assert_eq!((why.len(), followed.opened, followed.closed), (3, keys(&[&small]), Vec::new()));
    assert_eq!(devices.get(&clash.key).unwrap_err(), why["er0"]);
    assert!(answers(devices.get(&first.key).unwrap(), &first, false, 1));
    assert_eq!(addresses(devices.get(&small.key).unwrap()), [("198.51.100.2".parse().unwrap(), 30)]);

    // It gets better.
    small.mtu = 1280;
    ip("-n clearway-c link del er3-priv-p");
    ip("-n clearway-c link del er1-priv-p");
    let Device { index, tun, .. } = devices.get(&first.key).unwrap();
    let end = tun.clone();
    assert!(end.receive(&mut [0; 100]).is_err());
    let followed = devices.follow(&[first.clone(), small.clone(), foreign.clone()]);
    let expected =
        Followed { closed: keys(&[&first]), opened: keys(&[&first, &foreign]), failed: Vec::new() };
    assert_eq!(followed, expected);
    assert_ne!(devices.get(&first.key).unwrap().index, index);
    assert_eq!(addresses(devices.get(&small.key).unwrap()).len(), 2);
    assert!(answers(devices.get(&first.key).unwrap(), &first, true, 1));

    // A device goes though somebody still has its end, and another takes its place at once.
    let end = devices.get(&first.key).unwrap().tun.clone();
    assert_eq!(devices.follow(&[]).closed.len(), 3);
    assert_eq!(end.name(), None);
    assert_eq!(devices.follow(std::slice::from_ref(&first)).opened, keys(&[&first]));
}

#[test]
fn at_the_end_names_go_also_where_there_is_no_time_for_devices() {
    if !prepared() {
        return;
    }
    for late in [false, true] {
        let mut devices = Devices::new();
        let links = [link("a", "er1"), link("b", "er1")];
        assert_eq!(devices.follow(&links).opened.len(), 2);
        let end = devices.get(&links[0].key).unwrap().tun.clone();
        devices.close(Instant::now() + if late { Duration::ZERO } else { Duration::from_secs(60) });
        assert!(!is_named("clearway-a") && !is_named("clearway-b"));
        // It goes with its last end, as at the end of a process.
        assert_eq!(end.name().is_some(), late);
    }
}
