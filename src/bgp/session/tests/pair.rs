//! Two of our sessions with each other.

use std::collections::VecDeque;

use super::*;

/// Both ends of a link, and what is under way between them.
struct Pair {
    sessions: [Session; 2],
    events: [Vec<Event>; 2],
    queue: VecDeque<(usize, Output)>,
    connections: u32,
    bytes: usize,
    messages: usize,
    now: Nanos,
}

impl Pair {
    fn new(family: Family, policy: &Policy, dials: [bool; 2]) -> Pair {
        let (ours, theirs, link) = match family {
            Family::V4 => ("192.0.2.2", "192.0.2.1", "192.0.2.0/30"),
            Family::V6 => ("2001:db8::2", "2001:db8::1", "2001:db8::/126"),
        };
        let ours = Config {
            local: ours.parse().unwrap(),
            peer: theirs.parse().unwrap(),
            link: link.parse().unwrap(),
            dials: dials[0],
            policy: policy.clone(),
            ..config()
        };
        let theirs = Config {
            local: ours.peer,
            peer: ours.local,
            asn: ours.peer_asn,
            peer_asn: ours.asn,
            identifier: Ipv4Addr::new(10, 0, 0, 1),
            dials: dials[1],
            ..ours.clone()
        };
        let sessions = [ours, theirs].map(Session::new);
        let (events, queue) = ([Vec::new(), Vec::new()], VecDeque::new());
        let mut pair = Pair { sessions, events, queue, connections: 0, bytes: 0, messages: 0, now: T0 };
        pair.input(0, Input::Start);
        pair.input(1, Input::Start);
        pair.settle();
        pair
    }

    fn input(&mut self, side: usize, input: Input<'_>) {
        let out = run(&mut self.sessions[side], input, self.now);
        self.messages += sent(&out).len();
        self.queue.extend(out.into_iter().map(|output| (side, output)));
    }

    /// Does what both ask for until there is nothing more.
    fn settle(&mut self) {
        while let Some((side, output)) = self.queue.pop_front() {
            let other = 1 - side;
            match output {
                Output::Dial => {
                    self.connections += 1;
                    let connection = self.connections;
                    self.input(side, Input::Connected { connection, dialled: true });
                    self.input(other, Input::Connected { connection, dialled: false });
                }
                Output::Send { connection, bytes } => {
                    self.bytes += bytes.len();
                    for piece in bytes.chunks(1 + self.bytes % 5000) {
                        self.input(other, Input::Received { connection, bytes: piece });
                    }
                }
                Output::Close { connection } => self.input(other, Input::Closed { connection }),
                Output::Event(event) => self.events[side].push(event),
            }
        }
    }

    /// Lets time pass on both sides.
    fn pass(&mut self, time: Nanos) {
        let end = self.now + time;
        loop {
            let due = self.sessions.iter().filter_map(Session::deadline).min().filter(|at| *at <= end);
            self.now = due.unwrap_or(end);
            self.input(0, Input::Time);
            self.input(1, Input::Time);
            self.settle();
            if due.is_none() {
                break;
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.sessions[0].state(), self.sessions[1].state()]
    }

    fn take(&mut self, side: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[side])
    }
}

const UP: [State; 2] = [State::Established; 2];

fn list(family: Family, numbers: std::ops::Range<u32>) -> Vec<Advertised> {
    let prefix = |n: u32| match family {
        Family::V4 => Prefix::new(IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes()), 24),
        Family::V6 => Prefix::new(IpAddr::from((u128::from(0xfd00_0000 + n) << 96).to_be_bytes()), 48),
    };
    numbers.map(|n| Advertised { prefix: prefix(n), communities: vec![12076 << 16 | 51004] }).collect()
}

#[test]
fn they_find_each_other_whoever_dials() {
    for family in [Family::V4, Family::V6] {
        for dials in [[true, false], [false, true], [true, true]] {
            let mut pair = Pair::new(family, &Policy::private(family, true), dials);
            pair.pass(2 * SECOND);
            assert_eq!(pair.states(), UP, "{family:?} {dials:?}");
            for side in [0, 1] {
                let events = pair.take(side);
                assert!(
                    matches!(events[0], Event::Established(_)) && events[1..] == [Event::EndOfRib],
                    "{events:?}"
                );
            }
            // It stays so, with a word every minute.
            let before = pair.messages;
            pair.pass(3600 * SECOND);
            assert_eq!((pair.states(), pair.messages - before), (UP, 120));
            assert!(pair.take(0).is_empty());
        }
    }
}

#[test]
fn ten_thousand_routes_cross_and_change() {
    let mut pair = Pair::new(Family::V4, &Policy::private(Family::V4, true), [true, true]);
    let all = list(Family::V4, 0..10_000);
    let before = pair.messages;
    pair.input(1, Input::Advertise(&all));
    pair.settle();
    assert_eq!(pair.sessions[0].routes().len(), 10_000);
    assert_eq!(pair.messages - before, 10);
    let held = &pair.sessions[0].routes()[&all[77].prefix];
    assert_eq!(
        (held.attributes.path.to_string(), held.attributes.next_hop),
        ("65010".into(), Some("192.0.2.1".parse().unwrap()))
    );
    assert!(held.attributes.communities.is_empty(), "those of a customer say nothing");
    pair.take(0);
    // All of them differ from what was, by a thousand.
    let (bytes, next) = (pair.bytes, list(Family::V4, 1000..10_000));
    pair.input(1, Input::Advertise(&next));
    pair.settle();
    let events = pair.take(0);
    let gone: usize = events
        .iter()
        .map(|e| if let Event::Routes { withdrawn, .. } = e { withdrawn.len() } else { 0 })
        .sum();
    assert_eq!((gone, pair.sessions[0].routes().len(), pair.bytes - bytes), (1000, 9000, 4000 + 23));
    // Other communities: to the other side the same routes.
    let other: Vec<_> = next.iter().map(|a| Advertised { communities: Vec::new(), ..a.clone() }).collect();
    pair.input(1, Input::Advertise(&other));
    pair.settle();
    assert!(pair.take(0).is_empty());
    assert_eq!(pair.states(), UP);
}

#[test]
fn beyond_the_limit_it_goes_down_and_with_fewer_comes_back() {
    let family = Family::V6;
    let mut pair = Pair::new(family, &Policy::private(family, false), [false, true]);
    pair.input(1, Input::Advertise(&list(family, 0..79)));
    pair.settle();
    assert!(!pair.take(0).iter().any(|e| matches!(e, Event::Warning { .. })));
    pair.input(1, Input::Advertise(&list(family, 0..80)));
    pair.settle();
    assert!(pair.take(0).contains(&Event::Warning { prefixes: 80, limit: 100 }));
    pair.input(1, Input::Advertise(&list(family, 0..101)));
    pair.settle();
    let why = Notification::too_many(family, 100);
    let downs = |pair: &mut Pair, side: usize| -> Vec<Down> {
        let downs = pair.take(side).into_iter();
        downs.filter_map(|e| if let Event::Down { why, .. } = e { Some(why) } else { None }).collect()
    };
    assert_eq!(downs(&mut pair, 0), [Down::Sent(why.clone())]);
    assert_eq!(downs(&mut pair, 1), [Down::Received(why.clone())]);
    assert_eq!((pair.states()[0], pair.sessions[0].routes().len()), (State::Idle, 0));
    // It tries again and again, less and less often.
    pair.pass(1800 * SECOND);
    let tries = downs(&mut pair, 0).iter().filter(|d| **d == Down::Sent(why.clone())).count();
    assert!((4..=9).contains(&tries), "{tries}");
    pair.input(1, Input::Advertise(&list(family, 0..100)));
    pair.pass(600 * SECOND);
    assert_eq!((pair.states(), pair.sessions[0].routes().len()), (UP, 100));
}

#[test]
fn public_peerings_take_two_hundred_ipv6_prefixes_too() {
    let within: Prefix = "2001:db8::/32".parse().unwrap();
    let some = |count: u8| -> Vec<Advertised> {
        let prefix = |n: u8| format!("2001:db8:{n:x}::/48").parse().unwrap();
        (0..count).map(|n| Advertised { prefix: prefix(n), communities: Vec::new() }).collect()
    };
    let mut pair = Pair::new(Family::V6, &Policy::public(vec![within]), [false, true]);
    pair.input(1, Input::Advertise(&some(200)));
    pair.settle();
    assert!(pair.take(0).contains(&Event::Warning { prefixes: 200, limit: 200 }));
    assert_eq!((pair.states(), pair.sessions[0].routes().len()), (UP, 200));
    pair.input(1, Input::Advertise(&some(201)));
    pair.settle();
    let why = Down::Sent(Notification::too_many(Family::V6, 200));
    assert!(pair.take(0).iter().any(|e| matches!(e, Event::Down { why: said, .. } if *said == why)));
    assert_eq!((pair.states()[0], pair.sessions[0].routes().len()), (State::Idle, 0));
}

#[test]
fn a_reset_brings_everything_back() {
    let mut pair = Pair::new(Family::V4, &Policy::private(Family::V4, false), [true, true]);
    pair.input(1, Input::Advertise(&list(Family::V4, 0..50)));
    pair.input(0, Input::Advertise(&list(Family::V4, 100..150)));
    pair.settle();
    pair.input(0, Input::Stop { cease: Cease::Reset, text: "" });
    pair.settle();
    assert_eq!((pair.sessions[0].routes().len(), pair.sessions[1].routes().len()), (0, 0));
    pair.input(0, Input::Start);
    pair.settle();
    assert_eq!(pair.states(), UP);
    assert_eq!((pair.sessions[0].routes().len(), pair.sessions[1].routes().len()), (50, 50));
}
