//! Speakers of ours against each other and against peers that misbehave, over loopback in a namespace of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use super::super::spec::{BgpSpec, Ends, LinkSpec};
use super::super::told::{self, Standing};
use super::*;
use crate::bgp::advertise::{Adverts, Saying};
use crate::bgp::message::{Open, keepalive};
use crate::bgp::{Advertised, Restart, State};
use crate::model::{Link, PeeringKind};
use crate::sys::bpf::tests::{ip, own_namespace};
use crate::sys::socket;
use crate::types::Prefix;

const US: u32 = 12076;
const PEER: u32 = 65010;

/// How long anything may take on a machine that is busy.
const WHILE: Duration = Duration::from_secs(30);

/// The peer's address and ours on a link.
fn addresses(link: u8, family: Family) -> [IpAddr; 2] {
    match family {
        Family::V4 => [1, 2].map(|n| IpAddr::from([10, 99, link, n])),
        Family::V6 => [1, 2].map(|n| format!("2001:db8:{link}::{n}").parse().unwrap()),
    }
}

/// A namespace in which both ends of so many links are at loopback.
fn namespace(links: u8) -> Option<Arc<OwnedFd>> {
    if !own_namespace() {
        return None;
    }
    ip("link set lo up");
    for link in 0..links {
        for family in [Family::V4, Family::V6] {
            addresses(link, family).iter().for_each(|address| ip(&format!("addr add {address} dev lo")));
        }
    }
    Some(Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into()))
}

fn key(link: u8) -> LinkKey {
    let customer = format!("c{link:03}");
    LinkKey { customer, circuit: "er1".into(), peering: "private".into(), link: Link::Primary }
}

/// What is advertised in the tests: so many prefixes from this on.
fn prefixes(first: u32, count: u32) -> Vec<Advertised> {
    let prefix = |n: u32| Prefix::new(IpAddr::from((0x1400_0000 + n * 256).to_be_bytes()), 24);
    (first..first + count).map(|n| Advertised { prefix: prefix(n), communities: Vec::new() }).collect()
}

/// A link as we see it, or as its peer does. Both advertise one prefix of IPv6 and some of IPv4.
fn spec(link: u8, ours: bool) -> LinkSpec {
    let ends = |family| {
        let [peer, local] = addresses(link, family);
        let prefix = Prefix::new(peer, if family == Family::V4 { 30 } else { 126 });
        Some(if ours { Ends { peer, local, prefix } } else { Ends { peer: local, local: peer, prefix } })
    };
    let mut advertised = prefixes(if ours { 0 } else { 1000 }, 3);
    let v6 = if ours { "2001:db8:a::/48" } else { "2001:db8:b::/48" };
    advertised.push(Advertised { prefix: v6.parse().unwrap(), communities: Vec::new() });
    let bgp = BgpSpec {
        asn: if ours { US } else { PEER },
        peer_asn: if ours { PEER } else { US },
        shared_key: None,
        policies: [Policy::private(Family::V4, false), Policy::private(Family::V6, false)],
        advertised,
        held_down: None,
    };
    LinkSpec {
        key: key(link),
        kind: PeeringKind::Private,
        ends: [ends(Family::V4), ends(Family::V6)],
        mtu: 1400,
        enabled: true,
        bgp: Some(bgp),
        kernel: None,
    }
}

fn with_bgp(mut spec: LinkSpec, change: impl FnOnce(&mut BgpSpec)) -> LinkSpec {
    change(spec.bgp.as_mut().unwrap());
    spec
}

/// A speaker and what it has told.
struct Side {
    namespace: Arc<OwnedFd>,
    bgp: Bgp,
    told: Arc<Told>,
    standing: BTreeMap<Key, Standing>,
    routes: BTreeMap<Key, BTreeSet<Prefix>>,
}

impl Side {
    fn start(namespace: &Arc<OwnedFd>) -> Side {
        let told = Told::new().unwrap().0;
        let bgp = Bgp::start(told.clone()).unwrap();
        let (standing, routes) = (BTreeMap::new(), BTreeMap::new());
        Side { namespace: namespace.clone(), bgp, told, standing, routes }
    }

    fn want(&self, specs: &[LinkSpec]) {
        self.bgp.want(specs.iter().map(|spec| (spec.clone(), Some(self.namespace.clone()))).collect());
    }

    fn take(&mut self) {
        for news in self.told.take() {
            let key = (news.key, news.family);
            if let Some(standing) = news.session {
                self.standing.insert(key.clone(), standing);
            }
            let routes = self.routes.entry(key).or_default();
            news.withdrawn.iter().for_each(|prefix| assert!(routes.remove(prefix), "{prefix} was not there"));
            routes.extend(news.learned.iter().map(|route| route.prefix));
        }
    }

    /// What was told of a session: where it stands, and how many routes it has.
    fn stands(&self, link: u8, family: Family) -> (Standing, usize) {
        let key = (key(link), family);
        let routes = self.routes.get(&key).map_or(0, BTreeSet::len);
        (self.standing.get(&key).copied().unwrap_or_default(), routes)
    }

    fn status(&self, link: u8, family: Family) -> BgpStatus {
        let local =
            [false, true].map(|ours| spec(link, ours).ends[usize::from(family == Family::V6)].unwrap().local);
        let all = self.bgp.status().unwrap();
        all.into_iter().find(|(k, s)| *k == key(link) && local.contains(&s.local)).unwrap().1
    }

    /// Takes what is told until a session stands so.
    fn until(&mut self, link: u8, family: Family, expected: (Standing, usize)) {
        let end = Instant::now() + WHILE;
        while self.stands(link, family) != expected {
            let stands = (self.stands(link, family), self.status(link, family));
            assert!(Instant::now() < end, "{link} {family:?}: {stands:?}, not {expected:?}");
            thread::sleep(Duration::from_millis(5));
            self.take();
        }
    }
}

const UP: fn(usize) -> (Standing, usize) = |routes| (Standing::Up, routes);
const DOWN: (Standing, usize) = (Standing::Down, 0);

#[test]
fn sessions_come_up_change_and_go() {
    let Some(namespace) = namespace(2) else { return };
    let (mut ours, mut theirs) = (Side::start(&namespace), Side::start(&namespace));
    let signed = |ours| with_bgp(spec(1, ours), |bgp| bgp.shared_key = Some("a secret".into()));
    theirs.want(&[spec(0, false), signed(false)]);
    // Whoever comes first finds nobody, so that no connections collide. With a key that takes longer.
    while theirs.status(0, Family::V6).last_down.is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    ours.want(&[spec(0, true), signed(true)]);
    for link in 0..2 {
        ours.until(link, Family::V4, UP(3));
        ours.until(link, Family::V6, UP(1));
        theirs.until(link, Family::V4, UP(3));
        theirs.until(link, Family::V6, UP(1));
    }
    let status = ours.status(1, Family::V4);
    assert_eq!((status.state, status.md5, status.asn, status.peer_asn), (State::Established, true, US, PEER));
    assert_eq!(status.open, Some((Ipv4Addr::new(10, 99, 1, 1), 180)));
    assert_eq!((status.received, status.stale, status.limit, status.refused), (3, 0, 4000, 0));
    assert_eq!((status.advertised, status.changes), (3, (1, 0)));
    let routes = ours.bgp.routes(&key(0), None).unwrap();
    assert_eq!((routes.received.len(), routes.advertised.len()), (4, 4));
    assert_eq!(
        (&routes.received[0].as_path[..], &routes.advertised[0].as_path[..]),
        (&[PEER][..], &[US][..])
    );
    assert_eq!(ours.bgp.routes(&key(0), Some(Family::V6)).unwrap().received.len(), 1);
    assert!(ours.bgp.routes(&key(9), None).unwrap().received.is_empty());

    // What can be changed while it is up is.
    let more = |spec| with_bgp(spec, |bgp| bgp.advertised = prefixes(0, 2));
    theirs.want(&[more(spec(0, false)), signed(false)]);
    ours.until(0, Family::V4, UP(2));
    ours.until(0, Family::V6, UP(0));
    let narrow = |bgp: &mut BgpSpec| bgp.policies[0] = Policy::public(vec!["20.0.1.0/24".parse().unwrap()]);
    ours.want(&[with_bgp(spec(0, true), narrow), signed(true)]);
    ours.until(0, Family::V4, UP(1));
    let routes = ours.bgp.routes(&key(0), Some(Family::V4)).unwrap();
    let refused = routes.received.iter().filter(|route| route.refused.is_some()).count();
    assert_eq!((routes.received.len(), refused, ours.status(0, Family::V4).changes), (2, 1, (1, 0)));

    // Held down and let go again; the other link knows nothing of it.
    let held = |bgp: &mut BgpSpec| bgp.held_down = Some("too many prefixes".into());
    ours.want(&[with_bgp(spec(0, true), held), signed(true)]);
    ours.until(0, Family::V4, DOWN);
    theirs.until(0, Family::V4, DOWN);
    assert_eq!(ours.status(0, Family::V4).last_down.as_deref(), Some("too many prefixes"));
    let said = theirs.status(0, Family::V4).last_down.unwrap();
    assert_eq!(said, "ended by the peer: Cease / Administrative Shutdown (6/2): too many prefixes");
    ours.want(&[spec(0, true), signed(true)]);
    ours.until(0, Family::V4, UP(2));

    // Of another key the session knows nothing; it begins anew with it.
    let other = |ours| with_bgp(spec(1, ours), |bgp| bgp.shared_key = Some("another".into()));
    ours.want(&[spec(0, true), other(true)]);
    ours.until(1, Family::V4, DOWN);
    theirs.until(1, Family::V4, DOWN);
    theirs.want(&[more(spec(0, false)), other(false)]);
    ours.until(1, Family::V4, UP(3));
    let (ups, downs) = ours.status(1, Family::V4).changes;
    assert!(ups >= 2 && downs == ups - 1, "it goes on to be counted: {ups}, {downs}");
    // Without a key, with a namespace no more, turned off.
    ours.want(&[spec(0, true), spec(1, true)]);
    ours.until(1, Family::V4, DOWN);
    theirs.want(&[more(spec(0, false)), spec(1, false)]);
    ours.until(1, Family::V4, UP(3));
    ours.bgp.want(vec![
        (LinkSpec { enabled: false, ..spec(0, true) }, Some(namespace.clone())),
        (spec(1, true), None),
    ]);
    ours.until(0, Family::V4, DOWN);
    ours.until(1, Family::V6, DOWN);
    theirs.until(0, Family::V4, DOWN);
    assert_eq!(ours.status(0, Family::V4).last_down.as_deref(), Some("the link is turned off"));

    // What is not wanted any more is gone, and its peer is told.
    ours.want(&[spec(0, true)]);
    theirs.until(0, Family::V4, UP(3));
    ours.want(&[]);
    theirs.until(0, Family::V4, DOWN);
    let said = theirs.status(0, Family::V4).last_down.unwrap();
    assert!(said.starts_with("ended by the peer: Cease / Peer De-configured"), "{said}");
    ours.take();
    assert!(ours.bgp.status().unwrap().is_empty() && ours.routes.values().all(BTreeSet::is_empty));
    assert!(ours.bgp.stop() && theirs.bgp.stop());
}

#[test]
fn with_the_wrong_key_nothing_comes_up() {
    let Some(namespace) = namespace(2) else { return };
    let (mut ours, mut theirs) = (Side::start(&namespace), Side::start(&namespace));
    let signed =
        |link, ours, text: &str| with_bgp(spec(link, ours), |bgp| bgp.shared_key = Some(text.into()));
    ours.want(&[signed(0, true, "right"), signed(1, true, "right")]);
    theirs.want(&[signed(0, false, "wrong"), spec(1, false)]);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
        let all = [ours.bgp.status().unwrap(), theirs.bgp.status().unwrap()].concat();
        // Not even an OPEN comes through.
        assert!(all.iter().all(|(_, status)| status.state < State::OpenSent), "{all:?}");
    }
    theirs.want(&[signed(0, false, "right"), signed(1, false, "right")]);
    for link in 0..2 {
        theirs.until(link, Family::V4, UP(3));
        ours.until(link, Family::V6, UP(1));
    }
}

#[test]
fn bfd_takes_a_session_down_and_lets_it_up_again() {
    let Some(namespace) = namespace(1) else { return };
    let (mut ours, mut theirs) = (Side::start(&namespace), Side::start(&namespace));
    ours.want(&[spec(0, true)]);
    theirs.want(&[spec(0, false)]);
    ours.until(0, Family::V4, UP(3));
    ours.until(0, Family::V6, UP(1));
    let before = Instant::now();
    ours.told.say(&(key(0), Family::V4), told::Bfd::Down);
    ours.until(0, Family::V4, DOWN);
    theirs.until(0, Family::V4, DOWN);
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(ours.status(0, Family::V4).last_down.as_deref(), Some("BFD says that the link is down"));
    let said = theirs.status(0, Family::V4).last_down.unwrap();
    assert!(said.ends_with("Cease / BFD Down (6/10)"), "{said}");
    // It stays down, whatever the peer tries and the configuration says.
    ours.want(&[spec(0, true)]);
    thread::sleep(Duration::from_millis(500));
    ours.take();
    assert_eq!((ours.stands(0, Family::V4), ours.stands(0, Family::V6)), (DOWN, UP(1)));
    ours.told.say(&(key(0), Family::V4), told::Bfd::Up);
    ours.until(0, Family::V4, UP(3));
}

/// A peer that only does what a test makes it do.
struct Fake(TcpStream);

impl Fake {
    /// Comes from an address of a link, or another.
    fn connect(link: u8, from: IpAddr) -> Fake {
        let to = SocketAddr::new(addresses(link, Family::V4)[1], PORT);
        let end = Instant::now() + WHILE;
        loop {
            let stream = socket::dial(from, to, None).unwrap();
            thread::sleep(Duration::from_millis(10));
            if stream.take_error().unwrap().is_none() {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(WHILE)).unwrap();
                return Fake(stream);
            }
            assert!(Instant::now() < end);
        }
    }

    /// Brings a session up, with a hold time, and perhaps as one that restarts.
    fn establish(link: u8, hold_time: u16, restart: Option<Restart>) -> Fake {
        let mut fake = Fake::connect(link, addresses(link, Family::V4)[0]);
        let open = Open {
            asn: PEER,
            hold_time,
            identifier: Ipv4Addr::new(10, 99, link, 1),
            families: Some(vec![Family::V4]),
            four_octet: true,
            route_refresh: true,
            restart,
        };
        fake.0.write_all(&[open.encode(), keepalive()].concat()).unwrap();
        // Its OPEN and KEEPALIVE at least.
        let mut got = vec![0; 19];
        fake.0.read_exact(&mut got).unwrap();
        assert_eq!(got[18], 1, "an OPEN");
        fake
    }

    /// UPDATEs: announces some prefixes, each by itself, and withdraws them again.
    fn flap(first: u32, count: u32) -> Vec<u8> {
        let next_hop = addresses(0, Family::V4)[0];
        let saying = Saying { family: Family::V4, asn: PEER, four_octet: true, next_hop };
        let mut bytes = Vec::new();
        for prefix in prefixes(first, count) {
            let mut adverts = Adverts::default();
            adverts.want(&[prefix], Family::V4);
            bytes.extend(adverts.tell(saying));
            adverts.want(&[], Family::V4);
            bytes.extend(adverts.tell(saying));
        }
        bytes
    }
}

#[test]
fn who_floods_holds_up_nobody_and_costs_bounded_memory() {
    let Some(namespace) = namespace(2) else { return };
    let (mut ours, mut theirs) = (Side::start(&namespace), Side::start(&namespace));
    ours.want(&[spec(0, true), spec(1, true)]);
    let mut fake = Fake::establish(0, 0, None);
    ours.until(0, Family::V4, UP(0));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let flood = thread::spawn(move || {
        let mut sent = 0_u64;
        for round in 0.. {
            let bytes = Fake::flap(round % 60 * 1000, 1000);
            if stopped.load(std::sync::atomic::Ordering::Relaxed) || fake.0.write_all(&bytes).is_err() {
                break;
            }
            sent += bytes.len() as u64;
        }
        sent
    });
    thread::sleep(Duration::from_millis(300));
    // Meanwhile the other one comes up, and is told of a change, while nobody takes what the first one says.
    theirs.want(&[spec(1, false)]);
    theirs.until(1, Family::V4, UP(3));
    theirs.until(1, Family::V6, UP(1));
    ours.want(&[spec(0, true), with_bgp(spec(1, true), |bgp| bgp.advertised = prefixes(0, 7))]);
    theirs.until(1, Family::V4, UP(7));
    assert!(ours.told.waiting() <= 2 * 4000 + 10, "{}", ours.told.waiting());
    let end = Instant::now() + WHILE;
    while ours.bgp.routes(&key(1), None).unwrap().received.len() < 4 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(5));
    }
    // It may not take a core either.
    let before = cpu_of("bgp");
    thread::sleep(Duration::from_secs(2));
    let used = cpu_of("bgp") - before;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let sent = flood.join().unwrap();
    println!("{sent} bytes of UPDATEs; then {used:?} of 2 s for all speakers of the process");
    assert!(sent > 1 << 20, "{sent}");
    assert!(used < Duration::from_millis(1500), "{used:?}");
    // It is gone, and so is all that it said.
    ours.until(0, Family::V4, DOWN);
    assert_eq!(ours.stands(1, Family::V4), UP(3));
}

/// The time that the threads of this name have had on a core.
fn cpu_of(name: &str) -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            nanos += read("schedstat").split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

#[test]
fn only_the_peer_is_taken_and_not_without_end() {
    let Some(namespace) = namespace(2) else { return };
    let mut ours = Side::start(&namespace);
    ours.want(&[spec(0, true)]);
    // Its own address, another on the link, and anything else: closed without a word.
    for from in [addresses(0, Family::V4)[1], addresses(1, Family::V4)[0], Ipv4Addr::LOCALHOST.into()] {
        let mut fake = Fake::connect(0, from);
        assert!(matches!(fake.0.read(&mut [0; 64]), Ok(0) | Err(_)), "{from}");
    }
    // Who comes again and again waits, and gets in at last.
    let peer = addresses(0, Family::V4)[0];
    let many: Vec<Fake> = (0..12).map(|_| Fake::connect(0, peer)).collect();
    drop(many);
    let fake = Fake::establish(0, 3, None);
    ours.until(0, Family::V4, UP(0));
    // Nothing is heard any more.
    let mut theirs = fake.0;
    ours.until(0, Family::V4, DOWN);
    let status = ours.status(0, Family::V4);
    assert_eq!(status.last_down.as_deref(), Some("ended by us: Hold Timer Expired (4/0)"));
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[rest.len() - 2..], [4, 0], "the NOTIFICATION arrives, and then the end");
}

#[test]
fn what_has_come_while_the_thread_did_not_run_is_no_silence() {
    let Some(namespace) = namespace(1) else { return };
    let (_orders, receiver) = unbounded();
    let mut speakers = Speakers::new(Told::new().unwrap().0, receiver).unwrap();
    let only = LinkSpec { ends: [spec(0, true).ends[0], None], ..spec(0, true) };
    speakers.want(vec![(only, Some(namespace))]);
    let is_up = |speakers: &Speakers| {
        speakers.speakers.values().all(|speaker| speaker.status(0).state == State::Established)
    };
    let peer = thread::spawn(|| Fake::establish(0, 3, None));
    let mut ready = Vec::new();
    while !is_up(&speakers) {
        speakers.round(&mut ready);
    }
    let mut peer = peer.join().unwrap();
    // More than is told at once has something, too.
    let others: Vec<Wake> = (0..300).map(|_| Wake::new().unwrap()).collect();
    for (n, other) in others.iter().enumerate() {
        let key = (n as u64 + 1000) << 32;
        speakers.epoll.add(other, key, Interest { read: true, write: false }).unwrap();
        other.wake();
    }
    thread::sleep(Duration::from_secs(1));
    peer.0.write_all(&keepalive()).unwrap();
    thread::sleep(Duration::from_millis(2500));
    speakers.round(&mut ready);
    assert!(is_up(&speakers));
    // Silence is.
    thread::sleep(Duration::from_millis(3500));
    speakers.round(&mut ready);
    assert!(!is_up(&speakers));
}

#[test]
fn routes_of_a_peer_that_restarts_are_kept_for_a_while() {
    let Some(namespace) = namespace(1) else { return };
    let mut ours = Side::start(&namespace);
    ours.want(&[spec(0, true)]);
    let restart = Restart { seconds: 3, families: vec![(Family::V4, true)], ..Restart::default() };
    let mut fake = Fake::establish(0, 90, Some(restart));
    let announce = Fake::flap(0, 1);
    // Only the announcement, not the withdrawal behind it.
    let length = usize::from(u16::from_be_bytes([announce[16], announce[17]]));
    fake.0.write_all(&announce[..length]).unwrap();
    ours.until(0, Family::V4, UP(1));
    let before = Instant::now();
    drop(fake);
    ours.until(0, Family::V4, (Standing::Restarting, 1));
    assert_eq!(ours.status(0, Family::V4).stale, 1);
    ours.until(0, Family::V4, DOWN);
    assert!(before.elapsed() > Duration::from_secs(2));
}

#[test]
fn addresses_that_come_later_are_waited_for() {
    let Some(namespace) = namespace(0) else { return };
    let (mut ours, theirs) = (Side::start(&namespace), Side::start(&namespace));
    ours.want(&[spec(0, true)]);
    theirs.want(&[spec(0, false)]);
    let end = Instant::now() + WHILE;
    while ours.status(0, Family::V4).last_down.is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    for address in [addresses(0, Family::V4), addresses(0, Family::V6)].as_flattened() {
        ip(&format!("addr add {address} dev lo"));
    }
    ours.until(0, Family::V4, UP(3));
    ours.until(0, Family::V6, UP(1));
}

#[test]
fn a_hundred_sessions_and_more_come_up() {
    let Some(namespace) = namespace(60) else { return };
    let (mut ours, theirs) = (Side::start(&namespace), Side::start(&namespace));
    let all = |ours| (0..60).map(|link| spec(link, ours)).collect::<Vec<_>>();
    let before = Instant::now();
    ours.want(&all(true));
    theirs.want(&all(false));
    for link in 0..60 {
        ours.until(link, Family::V4, UP(3));
        ours.until(link, Family::V6, UP(1));
    }
    let took = before.elapsed();
    let before = cpu_of("bgp");
    thread::sleep(Duration::from_secs(1));
    println!("up after {took:?}; then {:?} of a second for 240 sessions", cpu_of("bgp") - before);
}

impl Bgp {
    fn status(&self) -> Option<Vec<(LinkKey, BgpStatus)>> {
        self.ask_status().recv_timeout(Duration::from_secs(2)).ok()
    }

    fn routes(&self, key: &LinkKey, family: Option<Family>) -> Option<SessionRoutes> {
        self.ask_routes(key, family).recv_timeout(Duration::from_secs(2)).ok()
    }
}
