//! Sessions against bytes of a peer, and against each other.

use super::*;
use crate::bgp::message::{HEADER, first, keepalive, message, route_refresh};
use crate::bgp::{Advertised, Restart};
use std::net::{IpAddr, Ipv4Addr};

mod damage;
mod pair;
mod restart;

/// When tests begin.
const T0: Nanos = 1_700_000_000 * SECOND;

fn config() -> Config {
    Config {
        local: "192.0.2.2".parse().unwrap(),
        peer: "192.0.2.1".parse().unwrap(),
        link: "192.0.2.0/30".parse().unwrap(),
        asn: 12076,
        peer_asn: 65010,
        identifier: Ipv4Addr::new(10, 0, 0, 2),
        dials: false,
        policy: Policy::private(Family::V4, false),
    }
}

/// The OPEN of a customer's router.
fn open() -> Open {
    Open {
        asn: 65010,
        hold_time: 90,
        identifier: Ipv4Addr::new(10, 0, 0, 1),
        families: Some(vec![Family::V4]),
        four_octet: true,
        route_refresh: true,
        restart: None,
    }
}

/// An UPDATE of that router: 10.0.0.0/8 shall be `8, 10` and so on.
fn announce(path: &[u32], next_hop: [u8; 4], nlri: &[u8]) -> Vec<u8> {
    announce_with(&[], path, next_hop, nlri)
}

/// The same with more attributes.
fn announce_with(more: &[u8], path: &[u32], next_hop: [u8; 4], nlri: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = path.iter().flat_map(|n| n.to_be_bytes()).collect();
    let mut attributes = vec![0x40, 1, 1, 0];
    if path.is_empty() {
        attributes.extend([0x40, 2, 0]);
    } else {
        attributes.extend([0x50, 2, 0, 0]);
        let start = attributes.len();
        for segment in numbers.chunks(4 * 255) {
            attributes.extend([2, (segment.len() / 4) as u8]);
            attributes.extend_from_slice(segment);
        }
        let length = (attributes.len() - start) as u16;
        attributes[start - 2..start].copy_from_slice(&length.to_be_bytes());
    }
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop);
    attributes.extend(more);
    let length = (attributes.len() as u16).to_be_bytes();
    message(Kind::Update, &[&[0, 0], &length, &attributes, nlri])
}

fn good(nlri: &[u8]) -> Vec<u8> {
    announce(&[65010], [192, 0, 2, 1], nlri)
}

fn withdraw(nlri: &[u8]) -> Vec<u8> {
    message(Kind::Update, &[&(nlri.len() as u16).to_be_bytes(), nlri, &[0, 0]])
}

fn run(session: &mut Session, input: Input<'_>, now: Nanos) -> Vec<Output> {
    let mut out = Vec::new();
    session.handle(input, now, &mut out);
    assert!(session.deadline().is_none_or(|at| at > now), "due again at once");
    out
}

fn receive(session: &mut Session, connection: u32, bytes: &[u8], now: Nanos) -> Vec<Output> {
    run(session, Input::Received { connection, bytes }, now)
}

/// Lets time pass until `end`, stopping at every deadline.
fn pass(session: &mut Session, end: Nanos) -> Vec<Output> {
    let mut out = Vec::new();
    while let Some(at) = session.deadline().filter(|at| *at <= end) {
        out.extend(run(session, Input::Time, at));
    }
    out.extend(run(session, Input::Time, end));
    out
}

/// The messages among outputs.
fn sent(out: &[Output]) -> Vec<(Kind, Vec<u8>)> {
    let mut messages = Vec::new();
    for output in out {
        let Output::Send { bytes, .. } = output else { continue };
        let mut bytes = bytes.as_slice();
        while let Some((kind, body)) = first(bytes).expect("our messages are in order") {
            messages.push((kind, body.to_vec()));
            bytes = &bytes[HEADER + body.len()..];
        }
        assert!(bytes.is_empty());
    }
    messages
}

fn kinds(out: &[Output]) -> Vec<Kind> {
    sent(out).into_iter().map(|(kind, _)| kind).collect()
}

/// The NOTIFICATION that is sent, if the connection is closed behind it.
fn told(out: &[Output]) -> Option<Notification> {
    let (kind, body) = sent(out).pop()?;
    let closes = out.iter().any(|o| matches!(o, Output::Close { .. }));
    (closes && kind == Kind::Notification).then(|| Notification::decode(&body).expect("a notification"))
}

fn events(out: &[Output]) -> Vec<Event> {
    out.iter().filter_map(|o| if let Output::Event(event) = o { Some(event.clone()) } else { None }).collect()
}

/// What was learned, and what was withdrawn, as text.
fn changed(out: &[Output]) -> (Vec<String>, Vec<String>) {
    let (mut all, mut gone) = (Vec::new(), Vec::new());
    for event in events(out) {
        if let Event::Routes { learned, withdrawn } = event {
            all.extend(learned.iter().map(|r| r.prefix.to_string()));
            gone.extend(withdrawn.iter().map(Prefix::to_string));
        }
    }
    (all, gone)
}

fn down(out: &[Output]) -> Option<(Down, bool, usize)> {
    events(out).into_iter().find_map(|event| match event {
        Event::Down { why, established, stale } => Some((why, established, stale)),
        _ => None,
    })
}

/// A session that has been started.
fn started(config: Config) -> Session {
    let mut session = Session::new(config);
    run(&mut session, Input::Start, T0);
    session
}

/// Gives it a connection on which the peer sends these messages.
fn connect(session: &mut Session, connection: u32, messages: &[Vec<u8>], now: Nanos) -> Vec<Output> {
    let mut out = run(session, Input::Connected { connection, dialled: false }, now);
    out.extend(receive(session, connection, &messages.concat(), now));
    out
}

/// An established session on connection 1.
fn up(config: Config, open: &Open) -> Session {
    let mut session = started(config);
    connect(&mut session, 1, &[open.encode(), keepalive()], T0);
    assert_eq!(session.state(), State::Established);
    session
}

#[test]
fn a_session_comes_up() {
    let mut session = Session::new(config());
    assert_eq!((session.state(), session.deadline()), (State::Idle, None));
    let refused = run(&mut session, Input::Connected { connection: 1, dialled: false }, T0);
    assert_eq!(told(&refused), Some(Notification::cease(Cease::Rejected, "")));
    run(&mut session, Input::Start, T0);
    assert_eq!((session.state(), session.deadline()), (State::Active, None));
    let out = run(&mut session, Input::Connected { connection: 2, dialled: false }, T0);
    let [(Kind::Open, ours)] = &sent(&out)[..] else { panic!("{out:?}") };
    let ours = Open::decode(ours).unwrap();
    assert_eq!((ours.asn, ours.hold_time, ours.four_octet, ours.route_refresh), (12076, 180, true, true));
    assert_eq!((ours.families, ours.restart), (Some(vec![Family::V4]), Some(Restart::default())));
    assert_eq!((session.state(), session.deadline()), (State::OpenSent, Some(T0 + OPENING)));
    let out = receive(&mut session, 2, &open().encode(), T0);
    assert_eq!((kinds(&out), session.state()), (vec![Kind::Keepalive], State::OpenConfirm));
    assert!(session.peer().is_none());
    let out = receive(&mut session, 2, &keepalive(), T0);
    assert_eq!((kinds(&out), session.state()), (vec![Kind::Update], State::Established));
    assert_eq!(sent(&out)[0].1, [0; 4], "the end of what we have, which is nothing");
    let peer = session.peer().unwrap().clone();
    assert_eq!((peer.hold_time, peer.identifier), (90, Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(events(&out), [Event::Established(peer)]);
}

#[test]
fn opens_that_do_not_fit() {
    let unicast_v4 = multiprotocol(Family::V4).to_vec();
    let rows = [
        ("another AS", Open { asn: 65011, ..open() }, Some(Notification::open(2, &[]))),
        ("our AS", Open { asn: 12076, ..open() }, Some(Notification::open(2, &[]))),
        (
            "identifier 0",
            Open { identifier: Ipv4Addr::UNSPECIFIED, ..open() },
            Some(Notification::open(3, &[])),
        ),
        ("hold time 2", Open { hold_time: 2, ..open() }, Some(Notification::open(6, &[]))),
        (
            "another family",
            Open { families: Some(vec![Family::V6]), ..open() },
            Some(Notification::open(7, &unicast_v4)),
        ),
        ("our identifier", Open { identifier: config().identifier, ..open() }, None),
        ("hold time 3", Open { hold_time: 3, ..open() }, None),
        ("no hold time", Open { hold_time: 0, ..open() }, None),
        ("no capabilities", Open { families: None, four_octet: false, route_refresh: false, ..open() }, None),
        ("both families", Open { families: Some(vec![Family::V6, Family::V4]), ..open() }, None),
    ];
    for (name, open, expected) in rows {
        let mut session = started(config());
        let out = connect(&mut session, 1, &[open.encode()], T0);
        assert_eq!(told(&out), expected, "{name}");
        match expected {
            Some(why) => {
                assert_eq!(down(&out), Some((Down::Sent(why), false, 0)), "{name}");
                assert_eq!((session.state(), session.idle_until()), (State::Idle, Some(T0 + WAIT)));
            }
            None => assert_eq!(session.state(), State::OpenConfirm, "{name}"),
        }
    }
    // Azure's own numbers are no customer's, whatever was configured.
    for asn in [65515, 65520, 65535, 23456, u32::MAX] {
        let mut session = started(Config { peer_asn: asn, ..config() });
        let out = connect(&mut session, 1, &[Open { asn, ..open() }.encode()], T0);
        assert_eq!(told(&out), Some(Notification::open(2, &[])), "{asn}");
    }
    let mut session = started(Config { peer_asn: 4_200_000_000, ..config() });
    connect(&mut session, 1, &[Open { asn: 4_200_000_000, ..open() }.encode()], T0);
    assert_eq!(session.state(), State::OpenConfirm);
    let mut bytes = open().encode();
    bytes[HEADER] = 3;
    let out = connect(&mut started(config()), 1, &[bytes], T0);
    assert_eq!(told(&out), Some(Notification::open(1, &[0, 4])));
}

#[test]
fn messages_at_the_wrong_time() {
    let before: [&[Vec<u8>]; 3] = [&[], &[open().encode()], &[open().encode(), keepalive()]];
    let messages = [open().encode(), keepalive(), good(&[8, 10]), route_refresh(Family::V4)];
    // By state: which of them it takes.
    let taken = [[true, false, false, false], [false, true, false, false], [false, true, true, true]];
    for (subcode, (before, taken)) in (1..).zip(before.iter().zip(taken)) {
        for (message, taken) in messages.iter().zip(taken) {
            let mut session = started(config());
            connect(&mut session, 1, before, T0);
            let out = receive(&mut session, 1, message, T0);
            let expected = (!taken).then(|| Notification::new(5, subcode, &[message[HEADER - 1]]));
            assert_eq!(told(&out), expected, "{subcode} {}", message[HEADER - 1]);
        }
        let mut session = started(config());
        connect(&mut session, 1, before, T0);
        let why = Notification::cease(Cease::Shutdown, "works");
        let out = receive(&mut session, 1, &why.encode(), T0);
        assert_eq!(sent(&out), [], "no answer");
        assert_eq!(down(&out), Some((Down::Received(why), before.len() == 2, 0)));
        assert!(out.contains(&Output::Close { connection: 1 }));
    }
}

#[test]
fn what_is_no_message_ends_the_session() {
    let mut bad_marker = keepalive();
    bad_marker[7] = 0;
    let mut bad_length = keepalive();
    bad_length[17] = 20;
    let mut bad_kind = keepalive();
    bad_kind[18] = 9;
    let cut = message(Kind::Update, &[&[0, 9, 0, 0]]);
    let network = message(Kind::Update, &[&[0, 2, 24, 10, 0, 0]]);
    let well_known = message(Kind::Update, &[&[0, 0, 0, 4, 0x40, 99, 1, 7]]);
    let rows = [
        (bad_marker, Notification::header(1, &[])),
        (bad_length, Notification::header(2, &[0, 20])),
        (bad_kind, Notification::header(3, &[9])),
        (cut, Notification::update(1, &[])),
        (network, Notification::update(10, &[])),
        (well_known, Notification::update(2, &[0x40, 99, 1, 7])),
    ];
    for (bytes, expected) in rows {
        let mut session = up(config(), &open());
        receive(&mut session, 1, &good(&[8, 10]), T0);
        let out = receive(&mut session, 1, &[bytes, keepalive()].concat(), T0);
        assert_eq!(told(&out), Some(expected.clone()));
        assert_eq!(changed(&out).1, ["10.0.0.0/8"]);
        assert_eq!(down(&out), Some((Down::Sent(expected), true, 0)));
        assert!(session.routes().is_empty());
    }
}

#[test]
fn the_hold_time_is_the_lower_of_both() {
    for (theirs, both) in [(3, 3), (90, 90), (180, 180), (65535, 180)] {
        let mut session = up(config(), &Open { hold_time: theirs, ..open() });
        let (third, all) = (both * SECOND / 3, both * SECOND);
        assert_eq!(session.deadline(), Some(T0 + third));
        assert_eq!(kinds(&pass(&mut session, T0 + third)), [Kind::Keepalive]);
        // What comes keeps it up.
        let later = T0 + all - 1;
        assert_eq!(kinds(&pass(&mut session, later)), [Kind::Keepalive]);
        receive(&mut session, 1, &keepalive(), later);
        let out = pass(&mut session, later + all - 1);
        assert_eq!((kinds(&out), session.state()), (vec![Kind::Keepalive; 3], State::Established));
        let out = pass(&mut session, later + all);
        assert_eq!((told(&out), session.state()), (Some(Notification::hold()), State::Idle));
    }
    let mut session = up(config(), &Open { hold_time: 0, ..open() });
    assert_eq!(session.deadline(), None);
    assert!(pass(&mut session, T0 + 1_000_000 * SECOND).is_empty());
    // Bytes that were there in time count, even if time is told late.
    let mut session = up(config(), &open());
    receive(&mut session, 1, &keepalive(), T0 + 90 * SECOND);
    assert_eq!(session.state(), State::Established);
    // Silence before the OPEN and behind it.
    for (messages, most) in [(vec![], OPENING), (vec![open().encode()], 90 * SECOND)] {
        let mut session = started(config());
        connect(&mut session, 1, &messages, T0);
        pass(&mut session, T0 + most - 1);
        assert!(session.state() >= State::OpenSent);
        assert_eq!(told(&pass(&mut session, T0 + most)), Some(Notification::hold()));
    }
}

#[test]
fn after_errors_it_waits_longer_each_time() {
    let mut session = started(Config { dials: true, ..config() });
    let (mut now, mut number) = (T0, 0);
    for seconds in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
        number += 1;
        run(&mut session, Input::Connected { connection: number, dialled: true }, now);
        receive(&mut session, number, &[0; 19], now);
        assert_eq!(session.idle_until(), Some(now + seconds * SECOND));
        // Until then nobody is let in.
        let early = now + seconds * SECOND - 1;
        let out = run(&mut session, Input::Connected { connection: 1000 + number, dialled: false }, early);
        assert_eq!(told(&out), Some(Notification::cease(Cease::Rejected, "")));
        assert!(!pass(&mut session, early).contains(&Output::Dial));
        now = early + 1;
        assert!(pass(&mut session, now).contains(&Output::Dial));
        assert_eq!(session.state(), State::Connect);
    }
    // A good session lets it forget.
    run(&mut session, Input::Connected { connection: 500, dialled: true }, now);
    receive(&mut session, 500, &[Open { hold_time: 0, ..open() }.encode(), keepalive()].concat(), now);
    now += GOOD;
    receive(&mut session, 500, &[0; 19], now);
    assert_eq!(session.idle_until(), Some(now + WAIT));
}

#[test]
fn it_connects_and_tries_again() {
    let mut session = Session::new(Config { dials: true, ..config() });
    assert!(run(&mut session, Input::Start, T0).contains(&Output::Dial));
    let out = run(&mut session, Input::DialFailed, T0);
    assert_eq!(down(&out), Some((Down::Unreachable, false, 0)));
    assert_eq!((session.state(), session.deadline()), (State::Active, Some(T0 + WAIT)));
    assert!(pass(&mut session, T0 + WAIT).contains(&Output::Dial));
    // Nobody says what became of it.
    let at = T0 + WAIT + DIALLING;
    assert_eq!(down(&pass(&mut session, at)), Some((Down::Unreachable, false, 0)));
    // Meanwhile the peer comes by itself; then there is no need.
    let patient = Open { hold_time: 0, ..open() }.encode();
    connect(&mut session, 7, &[patient, keepalive()], at + SECOND);
    let out = pass(&mut session, at + 3600 * SECOND - 1);
    assert!(!out.contains(&Output::Dial));
    // The peer closes without a word, which is no error: only our own try waits.
    let mut session = started(Config { dials: true, ..config() });
    run(&mut session, Input::DialFailed, T0);
    connect(&mut session, 1, &[open().encode(), keepalive()], T0);
    let out = run(&mut session, Input::Closed { connection: 1 }, T0);
    assert_eq!(down(&out), Some((Down::Closed, true, 0)));
    assert_eq!((session.state(), session.idle_until()), (State::Active, None));
    assert!(pass(&mut session, T0 + 2 * WAIT).contains(&Output::Dial));
    // A connection that comes too late is not wanted, and is made anew later.
    run(&mut session, Input::Stop { cease: Cease::Shutdown, text: "" }, T0 + 2 * WAIT);
    let out = run(&mut session, Input::Connected { connection: 2, dialled: true }, T0 + 2 * WAIT);
    assert_eq!(told(&out), Some(Notification::cease(Cease::Rejected, "")));
    assert_eq!((session.state(), session.deadline()), (State::Idle, None));
}

#[test]
fn it_is_stopped_and_started() {
    let mut session = up(config(), &open());
    receive(&mut session, 1, &good(&[8, 10]), T0);
    run(&mut session, Input::Connected { connection: 2, dialled: false }, T0);
    let out = run(&mut session, Input::Stop { cease: Cease::Shutdown, text: "night" }, T0);
    let why = Notification::cease(Cease::Shutdown, "night");
    assert_eq!(told(&out), Some(why.clone()));
    assert_eq!(out.iter().filter(|o| matches!(o, Output::Close { .. })).count(), 2);
    assert_eq!(changed(&out).1, ["10.0.0.0/8"]);
    let downs = events(&out).into_iter().filter(|e| matches!(e, Event::Down { .. })).count();
    assert_eq!((down(&out), downs), (Some((Down::Sent(why.clone()), true, 0)), 1));
    assert_eq!((session.state(), session.deadline()), (State::Idle, None));
    assert_eq!(session.last_down().unwrap().to_string(), format!("ended by us: {why}"));
    assert!(run(&mut session, Input::Stop { cease: Cease::Reset, text: "" }, T0).is_empty());
    run(&mut session, Input::Start, T0);
    connect(&mut session, 3, &[open().encode(), keepalive()], T0);
    assert_eq!(session.state(), State::Established);
}

#[test]
fn routes_that_are_not_taken() {
    let peer = [192, 0, 2, 1];
    let long: Vec<u32> = (0..256).map(|_| 65010).collect();
    let mut malformed = good(&[8, 10]);
    malformed[HEADER + 4 + 3] = 9;
    let rows: Vec<(Vec<u8>, Option<Refusal>)> = vec![
        (announce(&[65010, 7, 4_000_000_000], peer, &[8, 10]), None),
        (announce(&[65010], [192, 0, 2, 3], &[8, 10]), None),
        (announce(&long[1..], peer, &[8, 10]), None),
        (announce(&[65010, 12076], peer, &[8, 10]), Some(Refusal::Loop)),
        (announce(&[65011, 65010], peer, &[8, 10]), Some(Refusal::NotFromPeer)),
        (announce(&[], peer, &[8, 10]), Some(Refusal::NotFromPeer)),
        (announce(&long, peer, &[8, 10]), Some(Refusal::LongPath)),
        (announce(&[65010], [192, 0, 2, 2], &[8, 10]), Some(Refusal::NextHop)),
        (announce(&[65010], [192, 0, 2, 9], &[8, 10]), Some(Refusal::NextHop)),
        (malformed, Some(Refusal::Malformed)),
    ];
    for (bytes, expected) in rows {
        let mut session = up(config(), &open());
        receive(&mut session, 1, &good(&[8, 10]), T0);
        let out = receive(&mut session, 1, &bytes, T0);
        assert_eq!(session.state(), State::Established, "{expected:?}");
        let prefix = Prefix::v4(10, 0, 0, 0, 8);
        assert_eq!(session.refused().get(&prefix).copied(), expected);
        assert_eq!(session.routes().is_empty(), expected.is_some());
        // What was held of it goes.
        let gone = changed(&out).1;
        assert_eq!(gone.len(), usize::from(expected.is_some()), "{gone:?}");
        let fault = events(&out).iter().any(|e| matches!(e, Event::Malformed(_)));
        assert_eq!(fault, expected == Some(Refusal::Malformed));
    }
    let mut session = up(config(), &open());
    let out = receive(&mut session, 1, &good(&[0, 8, 10, 4, 224, 8, 127]), T0);
    assert_eq!(changed(&out).0, ["0.0.0.0/0", "10.0.0.0/8"]);
    assert_eq!(session.refused().values().collect::<Vec<_>>(), [&Refusal::NotUnicast; 2]);
    // Withdrawn and announced in one breath: announced.
    let both = receive(&mut session, 1, &[good(&[8, 11]), withdraw(&[8, 10, 4, 224])].concat(), T0);
    assert_eq!(changed(&both), (vec!["11.0.0.0/8".into()], vec!["10.0.0.0/8".into()]));
    assert_eq!(session.refused().len(), 1);
}

#[test]
fn microsoft_peering_takes_what_was_named() {
    let policy = Policy::public(vec![Prefix::v4(203, 0, 113, 0, 24)]);
    let mut session = up(Config { policy, ..config() }, &open());
    let path = [65010, 64512, 7, 4_200_000_001, 8];
    let nlri = [24, 203, 0, 113, 25, 203, 0, 113, 128, 0, 8, 10, 10, 100, 64, 24, 198, 51, 100];
    // NO_ADVERTISE, NO_EXPORT and one of ours (RFC 1997): a customer's say nothing to us.
    let communities = [0xc0, 8, 12, 255, 255, 255, 2, 255, 255, 255, 1, 0x2f, 0x2c, 0x13, 0x92];
    let said = announce_with(&communities, &path, [192, 0, 2, 1], &nlri);
    let out = receive(&mut session, 1, &said, T0);
    assert_eq!(changed(&out).0, ["203.0.113.0/24", "203.0.113.128/25"]);
    for held in session.routes().values() {
        assert_eq!(held.attributes.path.to_string(), "7 8");
        assert!(held.attributes.communities.is_empty(), "they are not kept");
    }
    // Nor is it a change when they come, go or become others.
    let out = receive(&mut session, 1, &announce(&path, [192, 0, 2, 1], &nlri), T0);
    assert!(changed(&out).0.is_empty());
    let refused: Vec<String> = session.refused().iter().map(|(p, why)| format!("{p}: {why}")).collect();
    assert_eq!(
        refused,
        [
            "0.0.0.0/0: a default route is not taken on this peering",
            "10.0.0.0/8: it has private addresses (RFC 1918 or RFC 4193)",
            "100.64.0.0/10: it has shared addresses (RFC 6598)",
            "198.51.100.0/24: it is not within advertisedPublicPrefixes",
        ]
    );
    // Another list: what it does not have any more goes, and for what it has now the peer is asked.
    let policy = Policy::public(vec![Prefix::v4(203, 0, 113, 128, 25), Prefix::v4(198, 51, 100, 0, 24)]);
    let out = run(&mut session, Input::Policy(policy.clone()), T0);
    assert_eq!(changed(&out).1, ["203.0.113.0/24"]);
    assert_eq!(sent(&out), [(Kind::RouteRefresh, vec![0, 1, 0, 1])]);
    let out = receive(&mut session, 1, &announce(&path, [192, 0, 2, 1], &nlri), T0);
    assert_eq!(changed(&out).0, ["198.51.100.0/24"]);
    assert!(run(&mut session, Input::Policy(policy), T0).is_empty());
    // Who cannot be asked has to come anew.
    let mut session = up(config(), &Open { route_refresh: false, ..open() });
    let out = run(&mut session, Input::Policy(Policy::private(Family::V4, true)), T0);
    assert_eq!(told(&out), Some(Notification::cease(Cease::Changed, "")));
}

#[test]
fn too_many_prefixes_end_the_session_and_fewer_bring_it_back() {
    let within = Prefix::v4(203, 0, 0, 0, 8);
    let mut session = up(Config { policy: Policy::public(vec![within]), ..config() }, &open());
    let some =
        |numbers: std::ops::Range<u8>| good(&numbers.flat_map(|n| [24, 203, 0, n]).collect::<Vec<_>>());
    let out = receive(&mut session, 1, &some(0..159), T0);
    assert!(!events(&out).iter().any(|e| matches!(e, Event::Warning { .. })));
    let warned = |out: &[Output]| events(out).contains(&Event::Warning { prefixes: 160, limit: 200 });
    assert!(warned(&receive(&mut session, 1, &some(159..160), T0)));
    assert!(!warned(&receive(&mut session, 1, &some(0..160), T0)), "once");
    receive(&mut session, 1, &withdraw(&[24, 203, 0, 0]), T0);
    assert!(receive(&mut session, 1, &some(160..200), T0).len() == 2);
    let out = receive(&mut session, 1, &some(0..1), T0);
    assert_eq!((session.routes().len(), told(&out)), (200, None), "as many as it may");
    // What is refused does not count.
    receive(&mut session, 1, &good(&[8, 10]), T0);
    assert_eq!(session.state(), State::Established);
    let out = receive(&mut session, 1, &some(200..201), T0);
    let why = Notification::too_many(Family::V4, 200);
    assert_eq!((told(&out), down(&out)), (Some(why.clone()), Some((Down::Sent(why), true, 0))));
    assert_eq!((changed(&out).1.len(), session.routes().len(), session.refused().len()), (200, 0, 0));
    let until = session.idle_until().unwrap();
    assert_eq!((until, session.state()), (T0 + WAIT_FEWER, State::Idle));
    // A link that fails meanwhile does not bring it back any sooner.
    let bfd = Input::Stop { cease: Cease::BfdDown, text: "" };
    run(&mut session, bfd, T0);
    run(&mut session, Input::Start, T0);
    assert_eq!((session.idle_until(), session.deadline()), (Some(until), Some(until)));
    pass(&mut session, until);
    connect(&mut session, 2, &[open().encode(), keepalive(), some(0..100)], until);
    assert_eq!((session.state(), session.routes().len()), (State::Established, 100));
    // One that dials is not due all the while, but then it dials.
    let mut session = up(Config { policy: Policy::public(vec![within]), dials: true, ..config() }, &open());
    receive(&mut session, 1, &some(0..201), T0);
    run(&mut session, Input::Stop { cease: Cease::BfdDown, text: "" }, T0 + SECOND);
    assert_eq!(run(&mut session, Input::Start, T0 + SECOND), []);
    assert_eq!((session.idle_until(), session.deadline()), (Some(until), Some(until)));
    assert_eq!(pass(&mut session, until), [Output::Dial]);
}

#[test]
fn of_two_connections_one_stays() {
    // The peer's identifier is 10.0.0.1: ours is higher, or lower. Which of both has its OPEN taken last makes no difference.
    for (ours, ours_stays) in [([10, 0, 0, 2], true), ([10, 0, 0, 0], false)] {
        for dialled_first in [true, false] {
            let config = Config { dials: true, identifier: Ipv4Addr::from(ours), ..config() };
            let mut session = started(config);
            run(&mut session, Input::Connected { connection: 1, dialled: true }, T0);
            run(&mut session, Input::Connected { connection: 2, dialled: false }, T0);
            let order = if dialled_first { [1, 2] } else { [2, 1] };
            assert_eq!(kinds(&receive(&mut session, order[0], &open().encode(), T0)), [Kind::Keepalive]);
            let out = receive(&mut session, order[1], &open().encode(), T0);
            let (stays, goes) = if ours_stays { (1, 2) } else { (2, 1) };
            assert!(out.contains(&Output::Close { connection: goes }), "{ours:?} {dialled_first}");
            let cease = Notification::cease(Cease::Collision, "").encode();
            assert!(out.contains(&Output::Send { connection: goes, bytes: cease }));
            assert_eq!(events(&out), []);
            receive(&mut session, stays, &keepalive(), T0);
            assert_eq!(session.state(), State::Established);
        }
    }
    // One that has not got as far goes when the other is up; a second one from the peer replaces its first.
    let mut session = started(config());
    run(&mut session, Input::Connected { connection: 1, dialled: false }, T0);
    let out = connect(&mut session, 2, &[open().encode(), keepalive()], T0);
    assert!(out.contains(&Output::Close { connection: 1 }));
    let mut session = started(config());
    connect(&mut session, 1, &[open().encode()], T0);
    let out = connect(&mut session, 2, &[open().encode()], T0);
    assert!(out.contains(&Output::Close { connection: 1 }) && session.state() == State::OpenConfirm);
    // One that is established stays, and what happens to others is nothing to it.
    let mut session = up(config(), &open());
    let out = connect(&mut session, 2, &[open().encode()], T0 + 9 * SECOND);
    assert_eq!(told(&out), Some(Notification::cease(Cease::Collision, "")));
    for (number, end) in [(3, None), (4, Some(vec![0; 19])), (5, Some(Notification::hold().encode()))] {
        run(&mut session, Input::Connected { connection: number, dialled: false }, T0);
        let out = match end {
            None => run(&mut session, Input::Closed { connection: number }, T0),
            Some(bytes) => receive(&mut session, number, &bytes, T0),
        };
        assert_eq!((events(&out), session.state(), session.idle_until()), (vec![], State::Established, None));
    }
    // There is an end to them.
    run(&mut session, Input::Connected { connection: 6, dialled: false }, T0);
    run(&mut session, Input::Connected { connection: 7, dialled: false }, T0);
    let out = run(&mut session, Input::Connected { connection: 8, dialled: false }, T0);
    assert_eq!((told(&out), session.connections.len()), (Some(Notification::cease(Cease::Collision, "")), 3));
    // The peer resolves it: no error, and no event.
    let mut session = started(config());
    run(&mut session, Input::Connected { connection: 1, dialled: false }, T0);
    let out = receive(&mut session, 1, &Notification::cease(Cease::Collision, "").encode(), T0);
    assert_eq!((events(&out), session.idle_until()), (vec![], None));
}

#[test]
fn refreshes_are_answered_but_not_too_often() {
    let mut session = started(config());
    let all: Vec<_> =
        (0..3).map(|n| Advertised { prefix: Prefix::v4(10, n, 0, 0, 16), communities: Vec::new() }).collect();
    run(&mut session, Input::Advertise(&all), T0);
    let out = connect(&mut session, 1, &[open().encode(), keepalive()], T0);
    assert_eq!(kinds(&out)[2..], [Kind::Update; 2]);
    let now = T0 + 60 * SECOND;
    receive(&mut session, 1, &keepalive(), now);
    let refresh = route_refresh(Family::V4);
    assert_eq!(kinds(&receive(&mut session, 1, &refresh, now)), [Kind::Update]);
    let many = vec![refresh; 500].concat();
    assert_eq!(kinds(&receive(&mut session, 1, &many, now + 1)), []);
    assert_eq!(session.deadline(), Some(now + REFRESH));
    assert_eq!(kinds(&pass(&mut session, now + REFRESH)), [Kind::Update]);
    assert_eq!(kinds(&receive(&mut session, 1, &route_refresh(Family::V6), now + 2 * REFRESH)), []);
    // A change is told at once, and only the change.
    let out = run(&mut session, Input::Advertise(&all[1..]), now + 2 * REFRESH);
    assert_eq!(sent(&out), [(Kind::Update, vec![0, 3, 16, 10, 0, 0, 0])]);
    assert_eq!(session.advertised(), 2);
}

#[test]
fn a_speaker_of_two_octets_is_understood() {
    let config = Config { asn: 4_200_000_000, ..config() };
    let plain = Open { families: None, four_octet: false, route_refresh: false, ..open() };
    let mut session = started(config);
    let all = [Advertised { prefix: Prefix::v4(10, 9, 0, 0, 16), communities: Vec::new() }];
    run(&mut session, Input::Advertise(&all), T0);
    let out = connect(&mut session, 1, &[plain.encode(), keepalive()], T0);
    let update = &sent(&out)[2].1;
    let said = update::decode(update, Reading { family: Family::V4, four_octet: false }).unwrap();
    assert_eq!(said.attributes.path.to_string(), "4200000000");
    // Its path in numbers of two octets, and behind AS_TRANS what it stands for: ours, which is a loop.
    let attributes = |behind: [u8; 4]| {
        let [a, b, c, d] = behind;
        let bytes = [
            0x40, 1, 1, 0, 0x40, 2, 6, 2, 2, 0xfd, 0xf2, 0x5b, 0xa0, 0x40, 3, 4, 192, 0, 2, 1, 0xc0, 17, 6,
            2, 1, a, b, c, d,
        ];
        message(Kind::Update, &[&[0, 0, 0, bytes.len() as u8], &bytes, &[8, 10]])
    };
    receive(&mut session, 1, &attributes([0, 6, 0x1a, 0x80]), T0);
    let path = session.routes().values().next().unwrap().attributes.path.to_string();
    assert_eq!(path, "65010 400000");
    receive(&mut session, 1, &attributes(4_200_000_000_u32.to_be_bytes()), T0);
    assert_eq!(session.refused().values().collect::<Vec<_>>(), [&Refusal::Loop]);
}
