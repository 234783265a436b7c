//! What a session tells of its link, with a peer on a clock of the test's own.

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::super::super::spec::{BgpSpec, Ends};
use super::*;
use crate::bgp::{Family, Policy};
use crate::model;

/// A link that sends there.
fn link(wire: &UdpSocket) -> Link {
    let key = LinkKey {
        customer: "a".into(),
        circuit: "b".into(),
        peering: "c".into(),
        link: model::Link::Primary,
    };
    let bgp = BgpSpec {
        asn: 1,
        peer_asn: 2,
        shared_key: None,
        policies: [Policy::private(Family::V4, false), Policy::private(Family::V6, false)],
        advertised: Vec::new(),
        held_down: None,
    };
    let ends = Ends {
        peer: "10.99.0.1".parse().unwrap(),
        local: "10.99.0.2".parse().unwrap(),
        prefix: "10.99.0.0/30".parse().unwrap(),
    };
    let identifier = [10, 99, 0, 2].into();
    let wanted = Wanted { ends, bgp, identifier, enabled: true, namespace: None };
    let mut link = Link::new(1, (key, Family::V4), wanted, 50_000, NonZeroU32::MIN, 0);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(wire.local_addr().unwrap()).unwrap();
    link.sockets = Some(Sockets { receiver: None, sender });
    link
}

/// A link, its peer, and what is told of it.
struct Pair {
    link: Link,
    /// Where comes out what it sends.
    wire: UdpSocket,
    peer: Session,
    /// The peer hears us, and we hear it.
    connected: bool,
    now: Nanos,
    epoll: Epoll,
    told: Arc<Told>,
    requests: Sender<Request>,
    log: Sender<Line>,
    lines: Receiver<Line>,
    dice: Dice,
}

impl Pair {
    fn new() -> Pair {
        let wire = UdpSocket::bind("127.0.0.1:0").unwrap();
        wire.set_nonblocking(true).unwrap();
        let (log, lines) = bounded(2);
        Pair {
            link: link(&wire),
            wire,
            peer: Session::new(Config::new(NonZeroU32::MAX)),
            connected: true,
            now: 0,
            epoll: Epoll::new().unwrap(),
            told: Told::new().unwrap().0,
            requests: unbounded().0,
            log,
            lines,
            dice: Dice::new(),
        }
    }

    fn with(&mut self, work: impl FnOnce(&mut Link, &mut Round<'_>)) {
        let Pair { link, now, epoll, told, requests, log, dice, .. } = self;
        work(link, &mut Round { now: *now, epoll, told, requests, log, dice });
    }

    /// Lets so many seconds pass, and takes what is told then.
    fn pass(&mut self, seconds: u64) -> Option<Bfd> {
        let end = self.now + seconds * SECOND;
        while self.now < end {
            self.now += SECOND / 100;
            let mut buffer = [0; LONGEST];
            while let Ok(length) = self.wire.recv(&mut buffer) {
                if self.connected {
                    self.peer.receive(&buffer[..length], self.now).unwrap();
                }
            }
            let packet = self.peer.tick(self.now, 0).0.filter(|_| self.connected);
            self.with(|link, round| {
                packet.iter().for_each(|packet| link.hear(packet, round));
                link.due(round);
            });
        }
        let news = self.told.take();
        assert!(news.len() <= 1);
        news.first().and_then(|news| news.bfd)
    }
}

#[test]
fn what_is_told_of_a_link_is_what_bfd_says() {
    let mut pair = Pair::new();
    pair.connected = false;
    assert_eq!(pair.pass(20), None, "a peer that never speaks is none that is down");
    pair.connected = true;
    assert_eq!(pair.pass(5), Some(Bfd::Up));
    assert_eq!(pair.pass(20), None);
    pair.peer.admin_down();
    assert_eq!(pair.pass(5), Some(Bfd::Unused), "it is not alive by what was");
    pair.peer.admin_up();
    assert_eq!(pair.pass(5), Some(Bfd::Up));
    pair.connected = false;
    assert_eq!((pair.pass(5), pair.told.held_down().len()), (Some(Bfd::Down), 1));
    // BGP may try again, but nothing says that the link carries.
    assert_eq!((pair.pass(10), pair.told.held_down().len()), (Some(Bfd::Silent), 0));
    assert_eq!(pair.pass(60), None);
    pair.connected = true;
    assert_eq!(pair.pass(5), Some(Bfd::Up));
    // The same again, and the peer is turned off meanwhile.
    pair.connected = false;
    assert_eq!(pair.pass(20), Some(Bfd::Silent));
    pair.peer.admin_down();
    pair.connected = true;
    assert_eq!(pair.pass(5), Some(Bfd::Unused));
    pair.peer.admin_up();
    assert_eq!(pair.pass(5), Some(Bfd::Up));
    // One that is not wanted any more says nothing, whatever it said before.
    pair.connected = false;
    assert_eq!(pair.pass(5), Some(Bfd::Down));
    pair.with(|link, round| link.leave(round));
    assert_eq!(pair.told.take()[0].bfd, Some(Bfd::Unused));
    // Nobody has written a line of the log all the while.
    let lines: Vec<String> = pair.lines.try_iter().map(|line| line.sentence).collect();
    assert_eq!(lines, ["BFD session up", "BFD session down: the peer has turned it off"]);
}
