//! Damaged messages: whatever comes, nothing panics, memory is bounded, and what is sent and told is in order.

use super::*;
use crate::bgp::advertise::end_of_rib;

struct Random(u64);

impl Random {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// Messages as they may come, of both families.
fn messages() -> Vec<Vec<u8>> {
    let restart =
        Restart { restarting: true, seconds: 9, families: vec![(Family::V4, true), (Family::V6, true)] };
    let both = Some(vec![Family::V4, Family::V6]);
    let mut all = vec![
        open().encode(),
        Open { restart: Some(restart), families: both, ..open() }.encode(),
        Open { families: None, four_octet: false, ..open() }.encode(),
        keepalive(),
        keepalive(),
        route_refresh(Family::V4),
        Notification::cease(Cease::Shutdown, "good night").encode(),
        end_of_rib(Family::V4),
        end_of_rib(Family::V6),
        good(&[8, 10, 16, 10, 7, 24, 203, 0, 113, 0]),
        announce(&[65010, 64512, 7, 12076], [192, 0, 2, 1], &[8, 12]),
        withdraw(&[8, 10, 16, 10, 7]),
    ];
    let mut rich = vec![
        0x40, 1, 1, 2, 0x80, 4, 4, 0, 0, 0, 7, 0x40, 6, 0, 0xc0, 7, 8, 0, 0, 0, 7, 1, 1, 1, 1, 0xc0, 8, 8,
        0x2f, 0x2c, 0xc7, 0x3c, 0xff, 0xff, 0xff, 1, 0x40, 2, 12, 2, 1, 0, 0, 0xfd, 0xf2, 1, 1, 0, 0, 0, 9,
        0x40, 3, 4, 192, 0, 2, 1, 0xc0, 17, 6, 2, 1, 0, 0, 0, 7, 0xc0, 18, 8, 0, 0, 0, 7, 1, 1, 1, 1, 0xc0,
        99, 2, 1, 2,
    ];
    let length = (rich.len() as u16).to_be_bytes();
    all.push(message(Kind::Update, &[&[0, 0], &length, &rich, &[8, 10]]));
    let mp = [
        0x80, 14, 28, 0, 2, 1, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20, 1,
        0x0d, 0xb8, 0, 7, 0x80, 15, 6, 0, 2, 1, 16, 0xfd, 0,
    ];
    rich.splice(0..0, mp);
    let length = (rich.len() as u16).to_be_bytes();
    all.push(message(Kind::Update, &[&[0, 0], &length, &rich]));
    all
}

/// Changes a message a little; mostly its length stays right, so that what is inside is read.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.roll(8) / 6 {
        if bytes.len() <= HEADER {
            break;
        }
        let at = HEADER + random.roll(bytes.len() - HEADER);
        match random.roll(14) {
            0..4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.roll(5)],
            4..8 => bytes[at] ^= 1 << random.roll(8),
            8..11 => bytes[at] = bytes[at].wrapping_add([1, 0xff][random.roll(2)]),
            11 => bytes.truncate(at),
            12 => {
                let piece = bytes[at..].to_vec();
                let kept = random.roll(piece.len() + 1);
                bytes.splice(at..at, piece[..kept].iter().copied());
            }
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes.truncate(LONGEST);
    let length = (bytes.len() as u16).to_be_bytes();
    bytes[16..18].copy_from_slice(&length);
    if random.roll(20) == 0 {
        let at = random.roll(HEADER);
        bytes[at] ^= 1 << random.roll(8);
    }
}

#[test]
fn damaged_messages_are_survived() {
    let (messages, mut random) = (messages(), Random(7));
    let v6 = Config {
        local: "2001:db8::2".parse().unwrap(),
        peer: "2001:db8::1".parse().unwrap(),
        link: "2001:db8::/126".parse().unwrap(),
        ..config()
    };
    let all: Vec<_> =
        (0..9).map(|n| Advertised { prefix: Prefix::v4(10, n, 0, 0, 16), communities: vec![7] }).collect();
    let (mut established, mut ended, mut refused, mut discarded) = (0, 0, 0, 0);
    for turn in 0..30_000_u32 {
        let family = if turn % 4 == 0 { &v6 } else { &config() };
        let mut session = started(family.clone());
        run(&mut session, Input::Advertise(&all), T0);
        let mut known: Vec<Prefix> = Vec::new();
        let mut now = T0;
        for connection in 1..3 {
            run(&mut session, Input::Connected { connection, dialled: connection == 2 }, now);
            let mut stream = Vec::new();
            // Most get as far as established.
            if random.roll(8) > 0 {
                stream.extend(messages[1].iter().chain(&messages[3]));
            }
            for _ in 0..random.roll(8) {
                let mut bytes = messages[random.roll(messages.len())].clone();
                if random.roll(4) > 0 {
                    damage(&mut bytes, &mut random);
                }
                stream.extend(bytes);
            }
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(1 + random.roll(2 * rest.len())));
                rest = more;
                now += (random.roll(3) as Nanos) << random.roll(38);
                let out = receive(&mut session, connection, piece, now);
                let sent = sent(&out);
                assert!(sent.len() <= 8, "no more is said than was heard");
                for event in events(&out) {
                    match event {
                        Event::Established(_) => established += 1,
                        Event::Down { .. } => ended += 1,
                        Event::Malformed(fault) => {
                            refused += u32::from(fault.withdraws);
                            discarded += u32::from(!fault.withdraws);
                            assert!(!fault.to_string().is_empty());
                        }
                        Event::Routes { learned, withdrawn } => {
                            known.retain(|p| !withdrawn.contains(p));
                            known.extend(learned.iter().map(|r| r.prefix));
                        }
                        Event::EndOfRib | Event::Warning { .. } => {}
                    }
                }
                known.sort();
                known.dedup();
                assert_eq!(
                    known,
                    session.routes().keys().copied().collect::<Vec<_>>(),
                    "who listens knows all"
                );
                assert!(session.connections.iter().all(|c| c.received.len() < LONGEST));
                let fresh = session.routes().values().filter(|held| !held.stale).count();
                assert_eq!(session.rib.fresh(), fresh);
            }
        }
        run(&mut session, Input::Stop { cease: Cease::Shutdown, text: "" }, now);
        assert!(
            session.routes().is_empty() && session.deadline().is_none() && session.connections.is_empty()
        );
    }
    // It was no walk in front of the door.
    let enough = established > 20_000 && ended > 10_000 && refused > 1000 && discarded > 100;
    assert!(enough, "{established} {ended} {refused} {discarded}");
}

#[test]
fn how_the_bytes_are_cut_makes_no_difference() {
    let mut random = Random(3);
    let messages = messages();
    for _ in 0..300 {
        let mut stream = [messages[1].clone(), keepalive()].concat();
        for _ in 0..6 {
            let mut bytes = messages[7 + random.roll(messages.len() - 7)].clone();
            if random.roll(3) == 0 {
                damage(&mut bytes, &mut random);
            }
            stream.extend(bytes);
        }
        let told = |size: usize| {
            let mut session = started(config());
            run(&mut session, Input::Connected { connection: 1, dialled: false }, T0);
            let out: Vec<_> =
                stream.chunks(size).flat_map(|piece| receive(&mut session, 1, piece, T0)).collect();
            let events = events(&out).into_iter().filter(|e| !matches!(e, Event::Routes { .. }));
            (sent(&out), events.collect::<Vec<_>>(), format!("{:?}", session.routes()))
        };
        let whole = told(stream.len());
        assert_eq!(whole, told(1));
        assert_eq!(whole, told(7));
    }
}
