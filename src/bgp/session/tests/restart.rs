//! Graceful restart of a peer (RFC 4724 section 4.2).

use super::*;

fn restarting(restarting: bool, seconds: u16, preserved: Option<bool>) -> Open {
    let families = preserved.map(|preserved| (Family::V4, preserved)).into_iter().collect();
    Open { restart: Some(Restart { restarting, seconds, families }), ..open() }
}

/// Two routes learned, and a session that has lasted a while.
fn with_routes(open: &Open) -> (Session, Nanos) {
    let mut session = up(config(), open);
    let now = T0 + 60 * SECOND;
    receive(&mut session, 1, &good(&[8, 10, 8, 11]), now);
    (session, now)
}

fn stale(session: &Session) -> usize {
    session.routes().values().filter(|held| held.stale).count()
}

const END: [u8; 4] = [0; 4];

#[test]
fn routes_stay_until_the_peer_is_back_and_has_sent_all() {
    let (mut session, now) = with_routes(&restarting(false, 120, Some(false)));
    let out = run(&mut session, Input::Closed { connection: 1 }, now);
    assert_eq!((down(&out), changed(&out)), (Some((Down::Closed, true, 2)), (vec![], vec![])));
    assert_eq!((stale(&session), session.state()), (2, State::Active));
    let back = now + 119 * SECOND;
    pass(&mut session, back);
    let again = restarting(true, 120, Some(true)).encode();
    let out = connect(&mut session, 2, &[again, keepalive()], back);
    assert_eq!((changed(&out), stale(&session)), ((vec![], vec![]), 2));
    let out = receive(&mut session, 2, &good(&[8, 11, 8, 12]), back);
    assert_eq!((changed(&out).0, stale(&session)), (vec!["12.0.0.0/8".to_owned()], 1));
    let out = receive(&mut session, 2, &message(Kind::Update, &[&END]), back);
    assert_eq!((changed(&out).1, stale(&session)), (vec!["10.0.0.0/8".to_owned()], 0));
    assert_eq!(events(&out).last(), Some(&Event::EndOfRib));
    assert_eq!(session.routes().len(), 2);
}

#[test]
fn stale_routes_go_in_time() {
    // The restart time runs out, but no longer than five minutes.
    for (seconds, most) in [(1, 1), (120, 120), (4095, 300)] {
        let (mut session, now) = with_routes(&restarting(false, seconds, Some(true)));
        run(&mut session, Input::Closed { connection: 1 }, now);
        assert_eq!(changed(&pass(&mut session, now + most * SECOND - 1)).1.len(), 0);
        assert_eq!(changed(&pass(&mut session, now + most * SECOND)).1.len(), 2, "{seconds}");
        assert_eq!(session.deadline(), None);
    }
    // It is back and never says that it is done.
    let (mut session, now) = with_routes(&restarting(false, 120, Some(true)));
    run(&mut session, Input::Closed { connection: 1 }, now);
    let back = Open { hold_time: 0, ..restarting(true, 120, Some(true)) };
    connect(&mut session, 2, &[back.encode(), keepalive(), good(&[8, 10])], now);
    assert_eq!(changed(&pass(&mut session, now + STALE_BACK - 1)).1.len(), 0);
    assert_eq!(changed(&pass(&mut session, now + STALE_BACK)).1, ["11.0.0.0/8"]);
    assert_eq!(session.state(), State::Established);
}

#[test]
fn routes_go_at_once_where_nothing_was_promised() {
    let promised = restarting(false, 120, Some(true));
    for peer in [open(), restarting(false, 120, None), restarting(false, 0, Some(true))] {
        let (mut session, now) = with_routes(&peer);
        let out = run(&mut session, Input::Closed { connection: 1 }, now);
        assert_eq!((changed(&out).1.len(), down(&out)), (2, Some((Down::Closed, true, 0))));
    }
    // With a word it is no restart: from the peer, or from us.
    let (mut session, now) = with_routes(&promised);
    let out = receive(&mut session, 1, &Notification::cease(Cease::Reset, "").encode(), now);
    assert_eq!((changed(&out).1.len(), stale(&session)), (2, 0));
    let (mut session, now) = with_routes(&promised);
    let out = pass(&mut session, now + 90 * SECOND);
    assert_eq!((told(&out), changed(&out).1.len()), (Some(Notification::hold()), 2));
    let (mut session, now) = with_routes(&promised);
    let out = run(&mut session, Input::Stop { cease: Cease::BfdDown, text: "" }, now);
    assert_eq!(changed(&out).1.len(), 2);
    let (mut session, now) = with_routes(&promised);
    run(&mut session, Input::Closed { connection: 1 }, now);
    let out = run(&mut session, Input::Stop { cease: Cease::Deconfigured, text: "" }, now);
    assert_eq!((changed(&out).1.len(), session.routes().len()), (2, 0));
    // It is back, and has not kept forwarding.
    for back in [open(), restarting(true, 120, None), restarting(true, 120, Some(false))] {
        let (mut session, now) = with_routes(&promised);
        run(&mut session, Input::Closed { connection: 1 }, now);
        let out = connect(&mut session, 2, &[back.encode(), keepalive()], now);
        assert_eq!((changed(&out).1.len(), session.state()), (2, State::Established));
    }
    // It breaks a second time before it has sent all: what was stale goes, what it sent stays.
    let (mut session, now) = with_routes(&promised);
    run(&mut session, Input::Closed { connection: 1 }, now);
    connect(&mut session, 2, &[promised.encode(), keepalive(), good(&[8, 10])], now);
    let out = run(&mut session, Input::Closed { connection: 2 }, now);
    assert_eq!((changed(&out).1, stale(&session)), (vec!["11.0.0.0/8".to_owned()], 1));
}

#[test]
fn a_peer_that_is_back_before_the_break_is_seen_gets_its_session() {
    let (mut session, now) = with_routes(&restarting(false, 120, Some(true)));
    // Only with its OPEN: whoever connects and says nothing ends no session.
    run(&mut session, Input::Connected { connection: 2, dialled: false }, now);
    assert_eq!(session.state(), State::Established);
    let back = restarting(true, 120, Some(true)).encode();
    let out = receive(&mut session, 2, &back, now);
    assert!(out.contains(&Output::Close { connection: 1 }));
    assert_eq!(kinds(&out), [Kind::Keepalive], "no word on the old one");
    assert_eq!(down(&out), Some((Down::Replaced, true, 2)));
    receive(&mut session, 2, &keepalive(), now);
    assert_eq!((session.state(), stale(&session)), (State::Established, 2));
    // So soon after it came up, another one is only late.
    let mut session = up(config(), &restarting(false, 120, Some(true)));
    let out = connect(&mut session, 2, &[back], T0 + SECOND);
    assert_eq!(told(&out), Some(Notification::cease(Cease::Collision, "")));
    assert_eq!(session.state(), State::Established);
}

#[test]
fn stale_routes_do_not_count_for_the_limit() {
    let policy = Policy::public(vec![Prefix::v4(203, 0, 0, 0, 8)]);
    let promised = restarting(false, 120, Some(true));
    let mut session = up(Config { policy, ..config() }, &promised);
    let some = |second: u8| good(&(0..200).flat_map(|n| [24, 203, second, n]).collect::<Vec<_>>());
    receive(&mut session, 1, &some(0), T0);
    run(&mut session, Input::Closed { connection: 1 }, T0);
    let out = connect(&mut session, 2, &[promised.encode(), keepalive(), some(1)], T0);
    assert_eq!((session.state(), session.routes().len(), down(&out)), (State::Established, 400, None));
    receive(&mut session, 2, &message(Kind::Update, &[&END]), T0);
    assert_eq!((session.routes().len(), stale(&session)), (200, 0));
}
