//! Sessions of ours against each other and against a peer that misbehaves, over loopback in a namespace of the test's own.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use super::super::spec::{BgpSpec, Ends, LinkSpec};
use super::super::told;
use super::*;
use crate::bfd::{Config, NO_DIAGNOSTIC, Packet, Session, State};
use crate::bgp::{Family, Policy};
use crate::model::{Link as Which, PeeringKind};
use crate::sys::bpf::tests::{ip, own_namespace};
use crate::sys::socket;
use crate::types::Prefix;

/// How long anything may take on a machine that is busy.
const WHILE: Duration = Duration::from_secs(30);

/// The peer's address and ours.
fn addresses(family: Family) -> [IpAddr; 2] {
    match family {
        Family::V4 => ["10.99.0.1", "10.99.0.2"].map(|a| a.parse().unwrap()),
        Family::V6 => ["2001:db8::1", "2001:db8::2"].map(|a| a.parse().unwrap()),
    }
}

fn namespace() -> Option<Arc<OwnedFd>> {
    if !own_namespace() {
        return None;
    }
    ip("link set lo up");
    connect();
    Some(Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into()))
}

/// Both ends are there.
fn connect() {
    for address in [addresses(Family::V4), addresses(Family::V6)].as_flattened() {
        ip(&format!("addr add {address} dev lo"));
    }
}

/// Neither hears the other.
fn cut() {
    ip("addr flush dev lo");
}

fn key() -> LinkKey {
    LinkKey { customer: "a".into(), circuit: "b".into(), peering: "c".into(), link: Which::Primary }
}

fn spec(ours: bool) -> LinkSpec {
    let ends = |family| {
        let [peer, local] = addresses(family);
        let prefix = Prefix::new(peer, if family == Family::V4 { 30 } else { 126 });
        Some(if ours { Ends { peer, local, prefix } } else { Ends { peer: local, local: peer, prefix } })
    };
    let bgp = BgpSpec {
        asn: 1,
        peer_asn: 2,
        shared_key: None,
        policies: [Policy::private(Family::V4, false), Policy::private(Family::V6, false)],
        advertised: Vec::new(),
        held_down: None,
    };
    LinkSpec {
        key: key(),
        kind: PeeringKind::Private,
        ends: [ends(Family::V4), ends(Family::V6)],
        mtu: 1400,
        enabled: true,
        bgp: Some(bgp),
        kernel: None,
    }
}

fn start() -> (Bfd, Arc<Told>) {
    let told = Told::new().unwrap().0;
    (Bfd::start(told.clone()).unwrap(), told)
}

fn states(bfd: &Bfd) -> Vec<State> {
    bfd.status().unwrap().iter().map(|(_, status)| status.state).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + WHILE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_ends_come_up_and_notice_silence_but_not_what_is_turned_off() {
    let Some(namespace) = namespace() else { return };
    let ((ours, told), (theirs, of_theirs)) = (start(), start());
    let place = Some(namespace.clone());
    ours.want(vec![(spec(true), place.clone())]);
    // Nobody is there, which is nothing.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((states(&ours), told.held_down().len()), (vec![State::Down; 2], 0));
    theirs.want(vec![(spec(false), place.clone())]);
    until("up", || states(&ours) == [State::Up; 2] && states(&theirs) == [State::Up; 2]);
    let status = ours.status().unwrap()[0].1;
    assert_eq!((status.peer, status.heard, status.downs), (addresses(Family::V4)[0], true, 0));
    until("quick", || ours.status().unwrap()[1].1.intervals == (300_000, 900_000));

    // A configuration that changes nothing here is nothing.
    ours.want(vec![(spec(true), place.clone())]);
    assert_eq!(states(&ours), [State::Up; 2]);
    // The other one turns it off: no failure.
    theirs.want(Vec::new());
    until("down", || states(&ours) == [State::Down; 2]);
    assert!(told.held_down().is_empty());
    theirs.want(vec![(spec(false), place.clone())]);
    until("up again", || states(&ours) == [State::Up; 2]);

    // Silence is one, within a second if the machine has time.
    cut();
    let before = Instant::now();
    until("silence", || told.held_down().len() == 2);
    let took = before.elapsed();
    println!("silence was noticed after {took:?}");
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(told.take().iter().map(|news| news.bfd).collect::<Vec<_>>(), [Some(told::Bfd::Down); 2]);
    until("by both", || of_theirs.held_down().len() == 2);
    connect();
    until("back", || states(&ours) == [State::Up; 2] && told.held_down().is_empty());
    // Addresses come and go one by one, so that it may be more.
    assert!(ours.status().unwrap()[0].1.downs >= 2);

    // One that is not wanted holds nothing down, whatever it did before.
    cut();
    until("silence again", || told.held_down().len() == 2);
    let before = Instant::now();
    until("forgotten by the other", || of_theirs.held_down().is_empty());
    assert!(before.elapsed() > Duration::from_secs(5) && !theirs.status().unwrap()[0].1.heard);
    connect();
    until("up once more", || states(&ours) == [State::Up; 2] && states(&theirs) == [State::Up; 2]);
    cut();
    until("silence once more", || told.held_down().len() == 2);
    ours.want(vec![(LinkSpec { enabled: false, ..spec(true) }, place)]);
    until("forgotten", || told.held_down().is_empty());
    assert!(states(&ours).is_empty());
    assert!(ours.stop() && theirs.stop());
}

#[test]
fn only_near_packets_of_the_peer_count_and_a_flood_is_cut() {
    let Some(namespace) = namespace() else { return };
    let (ours, told) = start();
    let spec = LinkSpec { ends: [spec(true).ends[0], None], ..spec(true) };
    ours.want(vec![(spec, Some(namespace.clone()))]);
    let [peer, local] = addresses(Family::V4);
    let to = SocketAddr::new(local, PORT);
    // Only Down is believed of who does not know us.
    let mut session = Session::new(Config::new(NonZeroU32::MIN));
    let packet = session.tick(1, 0).0.unwrap();
    assert_eq!(Packet::parse(&packet).unwrap().diagnostic, NO_DIAGNOSTIC);
    // From the peer, but from afar; and from near, but from another.
    let far = UdpSocket::bind(SocketAddr::new(peer, 0)).unwrap();
    let other = socket::sender("127.0.0.1:0".parse().unwrap(), to).unwrap();
    for _ in 0..20 {
        far.send_to(&packet, to).unwrap();
        _ = other.send(&packet);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!ours.status().unwrap()[0].1.heard);
    let near = socket::sender(SocketAddr::new(peer, 0), to).unwrap();
    until("heard", || {
        _ = near.send(&packet);
        ours.status().unwrap()[0].1.heard
    });
    assert_eq!(states(&ours), [State::Init]);
    // Not before it was up.
    assert!(told.held_down().is_empty());
    // As many as it can send for a second: the thread answers meanwhile, and looks at few of them.
    let (end, mut sent) = (Instant::now() + Duration::from_secs(1), 0);
    while Instant::now() < end {
        sent += usize::from(near.send(&packet).is_ok());
        if sent % 1000 == 0 {
            assert_eq!(states(&ours), [State::Init]);
        }
    }
    println!("{sent} packets in a second");
}

impl Bfd {
    fn status(&self) -> Option<Vec<(LinkKey, BfdStatus)>> {
        self.ask_status().recv_timeout(Duration::from_secs(2)).ok()
    }
}
