//! One session against made-up packets, and two against each other.

use std::num::NonZeroU32;

use super::*;
use crate::types::{Nanos, SECOND};

const MS: Nanos = 1_000_000;

/// Our name for the session in most tests, and the other end's.
const OURS: u32 = 0x1111;
const THEIRS: u32 = 0x2222;

fn config(discriminator: u32) -> Config {
    Config::new(NonZeroU32::new(discriminator).unwrap())
}

/// What the other end says by itself: Down, knowing nothing of us, as slow as that demands.
fn said(state: State) -> Packet {
    Packet {
        diagnostic: 0,
        state,
        poll: false,
        is_final: false,
        independent: false,
        authenticated: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: OURS,
        desired_min_tx: if state == State::Up { 300_000 } else { 1_000_000 },
        required_min_rx: 300_000,
        required_min_echo_rx: 0,
    }
}

/// The only change that a packet makes.
fn hears(session: &mut Session, packet: Packet, now: Nanos) -> Option<Change> {
    session.receive(&packet.bytes(), now).expect("a packet as it should be")
}

/// What is sent, with the least jitter.
fn says(session: &mut Session, now: Nanos) -> Option<Packet> {
    session.tick(now, 0).0.map(|bytes| Packet::parse(&bytes).expect("a packet as it should be"))
}

/// A session that is Up at `now` and has told so.
fn up(now: Nanos) -> Session {
    let mut s = Session::new(config(OURS));
    hears(&mut s, said(State::Down), now);
    hears(&mut s, said(State::Init), now);
    assert_eq!(s.state(), State::Up);
    assert!(says(&mut s, now).is_some_and(|p| p.poll));
    hears(&mut s, Packet { is_final: true, ..said(State::Up) }, now);
    assert_eq!(says(&mut s, now), None);
    s
}

/// Numbers that are the same in each run.
fn dice(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |sides| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    }
}

#[test]
fn packets_are_written_as_the_rfc_draws_them() {
    let p = Packet { diagnostic: 3, poll: true, multiplier: 5, ..said(State::Init) };
    let bytes = p.bytes();
    let expected = [
        0x23, 0xa0, 5, 24, 0, 0, 0x22, 0x22, 0, 0, 0x11, 0x11, 0, 0x0f, 0x42, 0x40, 0, 0x04, 0x93, 0xe0, 0,
        0, 0, 0,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(Packet::parse(&bytes), Ok(p));
    // What stands behind the Length field is not looked at.
    assert_eq!(Packet::parse(&[&bytes[..], &[0xff; 9]].concat()), Ok(p));
    let flags = Packet { is_final: true, independent: true, demand: true, ..said(State::Up) };
    assert_eq!((flags.bytes()[1], Packet::parse(&flags.bytes())), (0xda, Ok(flags)));
    // What one says first that does not know us and would send echoes back.
    let first = [
        0x20, 0x40, 3, 24, 0x3c, 0x1f, 0x2a, 0x7b, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x04, 0x93, 0xe0, 0,
        0, 0xc3, 0x50,
    ];
    let p = Packet::parse(&first).unwrap();
    assert_eq!((p.state, p.your_discriminator, p.required_min_echo_rx), (State::Down, 0, 50_000));
}

/// Each fault alone, and with all those that are checked after it.
#[test]
fn packets_are_refused_in_the_order_of_the_rfc() {
    type Fault = (Refused, fn(&mut Vec<u8>));
    let faults: [Fault; 9] = [
        (Refused::Version, |p| p[0] = 0x40),
        (Refused::Length, |p| p[3] = 23),
        (Refused::Truncated, |p| p.truncate(p.len() - 1)),
        (Refused::Multiplier, |p| p[2] = 0),
        (Refused::Multipoint, |p| p[1] |= 0x01),
        (Refused::MyDiscriminator, |p| p[4..8].fill(0)),
        (Refused::YourDiscriminator, |p| p[8..12].copy_from_slice(&[0, 0, 0x11, 0x12])),
        (Refused::State, |p| {
            p[1] |= 0xc0;
            p[8..12].fill(0);
        }),
        (Refused::Authentication, |p| {
            p[1] |= 0x04;
            p.extend([1, 2]);
            p[3] = p.len() as u8;
        }),
    ];
    assert_eq!(faults.map(|(refused, _)| refused), Refused::ALL);
    let good = said(State::Down).bytes().to_vec();
    for (number, (refused, fault)) in faults.iter().enumerate() {
        let mut alone = good.clone();
        fault(&mut alone);
        let mut all = good.clone();
        // Two that say the opposite of another of these are left out: a wrong name for a session hides a missing one.
        for (_, later) in faults[number..].iter().rev().filter(|(later, _)| {
            later == refused || *later != Refused::State && (*later != Refused::Truncated || number > 0)
        }) {
            later(&mut all);
        }
        for packet in [alone, all] {
            let mut s = Session::new(config(OURS));
            assert_eq!(s.receive(&packet, 0), Err(*refused), "{packet:02x?}");
            // It is as if it had not come.
            assert!(!s.peer_heard() && s.state() == State::Down && s.discriminators() == (OURS, 0));
        }
    }
    // Authentication needs 26 bytes, and all of them.
    let mut s = Session::new(config(OURS));
    let mut short = good.clone();
    short[1] |= 0x04;
    for (length, refused) in
        [(24, Refused::Length), (25, Refused::Length), (26, Refused::Truncated), (255, Refused::Truncated)]
    {
        short[3] = length;
        assert_eq!(s.receive(&short, 0), Err(refused));
    }
    for end in 0..good.len() {
        assert_eq!(s.receive(&good[..end], 0), Err(Refused::Truncated));
    }
    assert_eq!(s.receive(&[0], 0), Err(Refused::Version));
    let mut names = Refused::ALL.map(Refused::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Refused::ALL.len());
}

/// Section 6.2 and the end of section 6.8.6: every state and everything that it may hear.
#[test]
fn states_follow_what_is_heard() {
    use State::{AdminDown, Down, Init, Up};
    let reach = |state: State| {
        let mut s = Session::new(config(OURS));
        match state {
            AdminDown => assert!(s.admin_down().is_some()),
            Down => {}
            Init => assert!(hears(&mut s, said(Down), 0).is_some()),
            Up => s = up(0),
        }
        assert_eq!(s.state(), state);
        s
    };
    let table = [
        (AdminDown, [AdminDown; 4]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (from, row) in table {
        for (heard, to) in [AdminDown, Down, Init, Up].into_iter().zip(row) {
            let mut s = reach(from);
            let change = hears(&mut s, said(heard), MS);
            let diagnostic = match to {
                Down => SIGNALED_DOWN,
                _ => NO_DIAGNOSTIC,
            };
            assert_eq!(change, (from != to).then_some(Change { from, to, diagnostic }), "{from:?} {heard:?}");
            assert_eq!((s.state(), s.remote().0), (to, heard));
        }
    }
}

#[test]
fn who_does_not_know_us_may_only_be_down() {
    let stranger = |state| Packet { your_discriminator: 0, ..said(state) };
    for (state, is_fine) in
        [(State::AdminDown, true), (State::Down, true), (State::Init, false), (State::Up, false)]
    {
        let mut s = Session::new(config(OURS));
        assert_eq!(s.receive(&stranger(state).bytes(), 0).is_ok(), is_fine);
    }
    // The other end was started anew: we are down at once, not after the detection time.
    let mut s = up(0);
    let change = hears(&mut s, Packet { my_discriminator: 0x3333, ..stranger(State::Down) }, 5 * MS);
    assert_eq!(change, Some(Change { from: State::Up, to: State::Down, diagnostic: SIGNALED_DOWN }));
    let answer = says(&mut s, 5 * MS).expect("that is news");
    assert_eq!((answer.your_discriminator, answer.diagnostic), (0x3333, SIGNALED_DOWN));
}

/// Section 6.8.4, with the multiplier and the interval of the other end.
#[test]
fn silence_is_noticed_after_the_detection_time_and_not_before() {
    for (multiplier, desired, silence) in [
        (3, 300_000, 900 * MS),
        (3, 50_000, 900 * MS),
        (1, 0, 300 * MS),
        (5, 750_000, 3750 * MS),
        (255, u32::MAX, 255 * 4_294_967_295_000),
    ] {
        let mut s = up(0);
        let heard = 17 * MS;
        hears(&mut s, Packet { multiplier, desired_min_tx: desired, ..said(State::Up) }, heard);
        assert_eq!(s.detection_time(), silence);
        assert_eq!(s.tick(heard + silence - 1, 0).1, None);
        // What we send does not matter.
        let change = s.tick(heard + silence, 0).1;
        assert_eq!(change, Some(Change { from: State::Up, to: State::Down, diagnostic: DETECTION_EXPIRED }));
        assert_eq!(s.tick(heard + silence + 1, 0).1, None, "once");
        assert_eq!(s.discriminators().1, 0, "it may have forgotten us");
    }
    // Init ends likewise; Down only forgets the name.
    let mut s = Session::new(config(OURS));
    hears(&mut s, said(State::Down), 0);
    assert_eq!(s.tick(3 * SECOND, 0).1.map(|c| (c.from, c.to)), Some((State::Init, State::Down)));
    let mut s = Session::new(config(OURS));
    hears(&mut s, said(State::Up), 0);
    assert_eq!((s.state(), s.discriminators()), (State::Down, (OURS, THEIRS)));
    assert_eq!((s.tick(900 * MS, 0).1, s.discriminators()), (None, (OURS, 0)));
}

#[test]
fn a_refused_packet_is_no_sign_of_life() {
    let mut s = up(0);
    let wrong = Packet { your_discriminator: 77, ..said(State::Up) };
    for at in 1..900 {
        assert_eq!(s.receive(&wrong.bytes(), at * MS), Err(Refused::YourDiscriminator));
        assert_eq!(s.tick(at * MS, 0).1, None);
    }
    assert!(s.tick(900 * MS, 0).1.is_some());
}

/// Sections 6.8.2, 6.8.3 and 6.8.7: who is slower decides; not Up, nobody is faster than a second.
#[test]
fn the_slower_side_decides_how_often_we_send() {
    let mut s = Session::new(config(OURS));
    assert_eq!(s.interval(), SECOND);
    assert_eq!(says(&mut s, 0).map(|p| p.desired_min_tx), Some(1_000_000));
    assert_eq!(says(&mut s, SECOND - 1), None);
    assert!(says(&mut s, SECOND).is_some());
    let mut s = up(0);
    for (required, interval) in [(0, 300), (1, 300), (300_000, 300), (750_000, 750), (2_000_000, 2000)] {
        hears(&mut s, Packet { required_min_rx: required, ..said(State::Up) }, 0);
        assert_eq!(s.interval(), interval * MS);
    }
    // Shorter again: it holds at once, counted from the last packet, and what is over is due.
    hears(&mut s, said(State::Up), 200 * MS);
    assert_eq!(s.deadline(), Some(300 * MS));
    hears(&mut s, Packet { required_min_rx: 2_000_000, ..said(State::Up) }, 290 * MS);
    hears(&mut s, said(State::Up), 400 * MS);
    assert!(s.deadline() <= Some(400 * MS) && says(&mut s, 400 * MS).is_some());
    // It wants nothing periodic: it only gets news.
    hears(&mut s, Packet { required_min_rx: 0, ..said(State::Up) }, 500 * MS);
    assert_eq!((s.tick(1300 * MS, 0), s.deadline()), ((None, None), Some(1400 * MS)));
    let (packet, change) = s.tick(1400 * MS, 0);
    assert!(packet.is_some() && change.is_some());
    assert_eq!((s.tick(60 * SECOND, 0), s.deadline()), ((None, None), None));
    // One who wants to be slow is.
    let slow = Config { desired_min_tx: 2_000_000, ..config(OURS) };
    let mut s = Session::new(slow);
    hears(&mut s, said(State::Init), 0);
    assert_eq!((s.state(), s.interval()), (State::Up, 2 * SECOND));
    assert_eq!(says(&mut s, 0).map(|p| (p.poll, p.desired_min_tx)), Some((false, 2_000_000)));
}

#[test]
fn packets_come_at_random_between_75_and_100_or_90_percent() {
    for (multiplier, most) in [(3, 300), (2, 300), (1, 270), (0, 270)] {
        let mut s = Session::new(Config { multiplier, ..config(OURS) });
        hears(&mut s, said(State::Init), 0);
        let (mut last, mut roll) = (0, dice(11));
        let (mut shortest, mut longest) = (Nanos::MAX, 0);
        s.tick(0, 0);
        hears(&mut s, Packet { is_final: true, ..said(State::Up) }, 0);
        for turn in 0..2000 {
            let random = match turn {
                0 => 0,
                1 => u32::MAX,
                _ => roll(1 << 32) as u32,
            };
            hears(&mut s, said(State::Up), last);
            let at = s.deadline().unwrap();
            assert_eq!(s.tick(at - 1, random), (None, None), "it waits");
            assert!(s.tick(at, random).0.is_some(), "no longer");
            if turn > 0 {
                (shortest, longest) = (shortest.min(at - last), longest.max(at - last));
            }
            last = at;
        }
        assert!((225 * MS..226 * MS).contains(&shortest), "{multiplier}: {shortest}");
        assert!((most * MS - MS..=most * MS).contains(&longest), "{multiplier}: {longest}");
    }
}

/// Section 6.5, with section 6.8.3: going Up and leaving it change what we send, so the other end is asked whether it knows.
#[test]
fn a_changed_interval_is_polled_until_it_is_known() {
    let mut s = Session::new(config(OURS));
    assert!(says(&mut s, 0).is_some_and(|p| !p.poll && !p.is_final), "nothing has changed yet");
    hears(&mut s, said(State::Init), MS);
    // An answer to what was not asked.
    hears(&mut s, Packet { is_final: true, ..said(State::Init) }, MS);
    let first = says(&mut s, MS).expect("news");
    assert!(first.poll && first.state == State::Up && first.desired_min_tx == 300_000);
    hears(&mut s, said(State::Up), 2 * MS);
    assert!(says(&mut s, 301 * MS).is_some_and(|p| p.poll), "until it is answered");
    hears(&mut s, Packet { is_final: true, ..said(State::Up) }, 302 * MS);
    assert!(says(&mut s, 601 * MS).is_some_and(|p| !p.poll));
    hears(&mut s, said(State::Down), 602 * MS);
    let down = says(&mut s, 602 * MS).expect("news");
    assert!(down.poll && down.state == State::Down && down.desired_min_tx == 1_000_000);
}

#[test]
fn a_poll_is_answered_at_once_whatever_the_state_and_once() {
    let poll = |state| Packet { poll: true, ..said(state) };
    for state in [State::Down, State::Init, State::Up] {
        let mut s = up(0);
        hears(&mut s, poll(state), MS);
        assert_eq!(s.deadline(), Some(MS));
        let answer = says(&mut s, MS).expect("at once");
        assert!(answer.is_final && !answer.poll);
        assert!(says(&mut s, MS).is_none_or(|p| !p.is_final));
    }
    // The other end's demand and its wish for silence do not count, and its own rhythm goes on.
    let mut s = up(0);
    hears(&mut s, Packet { demand: true, required_min_rx: 0, ..poll(State::Up) }, MS);
    assert!(says(&mut s, MS).is_some_and(|p| p.is_final));
    hears(&mut s, said(State::Up), 2 * MS);
    assert_eq!(s.deadline(), Some(300 * MS));
    // Many polls between two ticks have one answer; both sides may be polling.
    let mut s = Session::new(config(OURS));
    hears(&mut s, said(State::Init), 0);
    for _ in 0..9 {
        hears(&mut s, poll(State::Up), MS);
    }
    let packets = [says(&mut s, MS), says(&mut s, MS), says(&mut s, MS)];
    let bits = packets.map(|p| p.map(|p| (p.poll, p.is_final)));
    assert_eq!(bits, [Some((false, true)), Some((true, false)), None]);
}

/// Section 6.6: the other end may ask for silence, while both are Up and nothing is being polled.
#[test]
fn demand_stops_periodic_packets_while_both_are_up() {
    let mut s = up(0);
    let demand = Packet { demand: true, ..said(State::Up) };
    hears(&mut s, demand, MS);
    assert_eq!((s.tick(899 * MS, 0), s.deadline()), ((None, None), Some(901 * MS)), "only silence");
    // It takes the bit back.
    hears(&mut s, said(State::Up), 899 * MS);
    assert!(says(&mut s, 899 * MS).is_some());
    // In Init it does not count, nor while we are polling.
    let mut s = Session::new(config(OURS));
    hears(&mut s, Packet { demand: true, ..said(State::Down) }, 0);
    assert!(says(&mut s, 0).is_some() && says(&mut s, SECOND).is_some());
    hears(&mut s, demand, SECOND);
    assert!(says(&mut s, SECOND).is_some_and(|p| p.poll));
    assert!(says(&mut s, SECOND + 300 * MS).is_some_and(|p| p.poll));
    hears(&mut s, Packet { is_final: true, ..demand }, SECOND + 300 * MS);
    assert_eq!(says(&mut s, SECOND + 700 * MS), None);
}

#[test]
fn news_does_not_wait_for_its_turn() {
    let mut s = Session::new(config(OURS));
    assert!(says(&mut s, 0).is_some() && says(&mut s, MS).is_none());
    // The other end's name, and our state.
    hears(&mut s, Packet { your_discriminator: 0, ..said(State::Down) }, 2 * MS);
    assert_eq!(s.deadline(), Some(2 * MS));
    let news = says(&mut s, 2 * MS).unwrap();
    assert_eq!((news.state, news.your_discriminator), (State::Init, THEIRS));
    assert!(s.deadline() > Some(700 * MS));
}

#[test]
fn a_link_is_not_held_down_before_anyone_was_heard() {
    let mut s = Session::new(config(OURS));
    for at in 0..100 {
        s.tick(at * SECOND, 0);
        assert!(!s.peer_heard() && !s.holds_down());
    }
    assert!(s.receive(&[0; 24], 100 * SECOND).is_err() && !s.peer_heard());
    hears(&mut s, said(State::Down), 100 * SECOND);
    assert!(s.peer_heard() && s.holds_down());
    hears(&mut s, said(State::Init), 100 * SECOND);
    assert!(s.peer_heard() && !s.holds_down());
    assert!(
        s.tick(101 * SECOND + 900 * MS, 0).1.is_none() && !s.holds_down(),
        "its last interval was a second"
    );
    assert!(s.tick(103 * SECOND, 0).1.is_some() && s.holds_down());
}

/// Section 6.8.16, and RFC 5882 section 3.2: what is turned off says nothing about the link.
#[test]
fn a_session_that_is_turned_off_holds_nothing_down_and_says_so() {
    let mut s = up(0);
    let off = s.admin_down();
    assert_eq!(off, Some(Change { from: State::Up, to: State::AdminDown, diagnostic: TURNED_OFF }));
    assert_eq!(s.admin_down(), None);
    assert_eq!(hears(&mut s, Packet { poll: true, ..said(State::Up) }, MS), None);
    let news = says(&mut s, MS).unwrap();
    assert_eq!((news.state, news.diagnostic, news.is_final), (State::AdminDown, TURNED_OFF, false));
    assert!(says(&mut s, MS + SECOND).is_some(), "it goes on");
    assert!(s.tick(60 * SECOND, 0).1.is_none() && !s.holds_down());
    assert_eq!(s.admin_up().map(|c| c.to), Some(State::Down));
    assert_eq!(s.admin_up(), None);
    // The other end's wish.
    let mut s = up(0);
    let change = hears(&mut s, said(State::AdminDown), MS);
    assert_eq!(change.map(|c| (c.to, c.diagnostic)), Some((State::Down, SIGNALED_DOWN)));
    assert!(!s.holds_down() && s.tick(60 * SECOND, 0).1.is_none() && !s.holds_down());
    hears(&mut s, said(State::Down), 61 * SECOND);
    assert!(s.holds_down(), "it is back, and not Up yet");
}

/// Two sessions, what is under way between them, and how much of it is lost.
struct Pair {
    ends: [Session; 2],
    under_way: Vec<(Nanos, usize, [u8; LENGTH])>,
    changes: Vec<(Nanos, usize, State)>,
    sent: [u32; 2],
    /// Of a hundred packets to each end.
    lost: [u64; 2],
    dead: [bool; 2],
    now: Nanos,
}

impl Pair {
    fn new(a: Config, b: Config) -> Pair {
        let ends = [Session::new(a), Session::new(b)];
        let (sent, lost, dead) = ([0, 0], [0, 0], [false, false]);
        Pair { ends, under_way: Vec::new(), changes: Vec::new(), sent, lost, dead, now: 0 }
    }

    /// Goes on for a while, from one deadline or arrival to the next; a packet is under way for 2 ms.
    fn run(&mut self, duration: Nanos, roll: &mut impl FnMut(u64) -> u64) {
        let end = self.now + duration;
        loop {
            let deadline = |n: usize| self.ends[n].deadline().filter(|_| !self.dead[n]);
            let next = deadline(0).into_iter().chain(deadline(1)).chain(self.under_way.iter().map(|u| u.0));
            let at = next.min().unwrap_or(end).max(self.now);
            if at >= end {
                self.now = end;
                return;
            }
            self.now = at;
            let arrived: Vec<_> = self.under_way.extract_if(.., |u| u.0 <= at).collect();
            for (_, to, bytes) in arrived.into_iter().filter(|(_, to, _)| !self.dead[*to]) {
                let change = self.ends[to].receive(&bytes, at).expect("we understand ourselves");
                self.changes.extend(change.map(|c| (at, to, c.to)));
            }
            for n in (0..2).filter(|n| !self.dead[*n]) {
                let (packet, change) = self.ends[n].tick(at, roll(1 << 32) as u32);
                self.changes.extend(change.map(|c| (at, n, c.to)));
                self.sent[n] += u32::from(packet.is_some());
                if let Some(bytes) = packet.filter(|_| roll(100) >= self.lost[1 - n]) {
                    self.under_way.push((at + 2 * MS, 1 - n, bytes));
                }
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

#[test]
fn two_sessions_come_up_in_a_few_packets_and_stay() {
    let mut p = Pair::new(config(1), config(2));
    let mut roll = dice(1);
    p.run(20 * MS, &mut roll);
    assert_eq!(p.states(), [State::Up; 2], "a few packets, not a few seconds");
    assert!(p.ends.iter().all(|s| s.interval() == 300 * MS));
    let before = p.changes.len();
    p.run(60 * SECOND, &mut roll);
    assert_eq!(p.changes.len(), before);
    assert_eq!(p.ends[0].detection_time(), 900 * MS);
    // 60 s at 225 to 300 ms.
    assert!(p.sent.iter().all(|n| (200..=280).contains(n)), "{:?}", p.sent);
    // The slower side decides for both.
    let mut p =
        Pair::new(config(1), Config { required_min_rx: 750_000, desired_min_tx: 600_000, ..config(2) });
    p.run(5 * SECOND, &mut roll);
    assert_eq!(p.states(), [State::Up; 2]);
    assert_eq!(p.ends.each_ref().map(Session::interval), [750 * MS, 600 * MS]);
    assert_eq!(p.ends.each_ref().map(Session::detection_time), [1800 * MS, 2250 * MS]);
    let before = p.changes.len();
    p.run(60 * SECOND, &mut roll);
    assert_eq!(p.changes.len(), before);
}

#[test]
fn one_that_dies_silently_is_noticed_within_its_detection_time() {
    for seed in 0..50 {
        let mut p = Pair::new(config(1), config(2));
        let mut roll = dice(seed);
        p.run(10 * SECOND + roll(300) * MS, &mut roll);
        assert_eq!(p.states(), [State::Up; 2]);
        p.dead[1] = true;
        let died = p.now;
        p.changes.clear();
        p.run(20 * SECOND, &mut roll);
        let [(at, 0, State::Down)] = p.changes[..] else { panic!("{:?}", p.changes) };
        // Its last packet came up to 300 ms before it died, or is under way for 2 ms after.
        assert!((died + 600 * MS..=died + 902 * MS).contains(&at), "{}", at - died);
        assert!(p.ends[0].holds_down() && p.ends[0].diagnostic() == DETECTION_EXPIRED);
        // It comes back as another, and with it the session.
        p.ends[1] = Session::new(config(3));
        p.dead[1] = false;
        p.run(2 * SECOND, &mut roll);
        assert_eq!(p.states(), [State::Up; 2]);
        assert_eq!(p.ends[0].discriminators(), (1, 3));
    }
}

#[test]
fn a_link_that_carries_one_way_only_is_down_at_both_ends() {
    let mut p = Pair::new(config(1), config(2));
    let mut roll = dice(4);
    p.run(5 * SECOND, &mut roll);
    assert_eq!(p.states(), [State::Up; 2]);
    p.lost = [100, 0];
    p.changes.clear();
    let before = p.now;
    p.run(30 * SECOND, &mut roll);
    // One hears nothing, and tells the other.
    assert!(p.ends.iter().all(Session::holds_down), "{:?}", p.states());
    assert!(p.changes.iter().take(2).all(|c| c.2 == State::Down && c.0 <= before + 910 * MS));
    assert!(p.changes.iter().all(|c| c.2 != State::Up));
    p.lost = [0, 0];
    p.run(2 * SECOND, &mut roll);
    assert_eq!(p.states(), [State::Up; 2]);
}

#[test]
fn loss_delays_the_beginning_and_leaves_no_session_half_up() {
    let mut flaps = 0;
    for seed in 0..40 {
        let mut p = Pair::new(config(1), config(2));
        let mut roll = dice(seed);
        p.lost = [30, 30];
        p.run(60 * SECOND, &mut roll);
        flaps += p.changes.iter().filter(|c| c.2 == State::Down).count();
        p.lost = [0, 0];
        p.run(5 * SECOND, &mut roll);
        assert_eq!(p.states(), [State::Up; 2], "seed {seed}");
        let before = p.changes.len();
        p.run(20 * SECOND, &mut roll);
        assert_eq!(p.changes.len(), before, "seed {seed}");
    }
    // Three in a row of 30 % are lost now and then: the test is of both.
    assert!(flaps > 40, "{flaps}");
    // One in a hundred is not enough for that.
    let mut p = Pair::new(config(1), config(2));
    p.lost = [1, 1];
    p.run(600 * SECOND, &mut dice(77));
    assert!(p.changes.iter().all(|c| c.2 != State::Down), "{:?}", p.changes);
}

#[test]
fn one_that_is_turned_off_is_not_taken_for_dead() {
    let mut p = Pair::new(config(1), config(2));
    let mut roll = dice(5);
    p.run(5 * SECOND, &mut roll);
    p.ends[1].admin_down();
    p.run(5 * SECOND, &mut roll);
    assert_eq!(p.states(), [State::Down, State::AdminDown]);
    assert_eq!(p.ends[0].diagnostic(), SIGNALED_DOWN);
    assert!(!p.ends[0].holds_down() && !p.ends[1].holds_down());
    p.ends[1].admin_up();
    p.run(SECOND, &mut roll);
    assert_eq!(p.states(), [State::Up; 2]);
}

/// What an enemy may send: good packets with some bytes changed, cut, prolonged. No packet makes us send more than one.
#[test]
fn hostile_bytes_do_no_harm() {
    let mut roll = dice(9);
    let mut s = up(0);
    let (mut now, mut accepted, mut answers, mut sent_by_itself) = (0, 0_u32, 0_u32, 0_u32);
    for turn in 0..300_000 {
        now += roll(4) * MS;
        let mut packet = said([State::AdminDown, State::Down, State::Init, State::Up][roll(4) as usize]);
        packet.poll = roll(2) == 0;
        packet.demand = roll(4) == 0;
        let mut bytes = packet.bytes().to_vec();
        for _ in 0..roll(4) {
            let at = roll(24) as usize;
            bytes[at] = match roll(4) {
                0 => 0,
                1 => 0xff,
                _ => roll(256) as u8,
            };
        }
        match roll(8) {
            0 => bytes.truncate(roll(25) as usize),
            1 => bytes.extend((0..roll(300)).map(|n| n as u8)),
            _ => {}
        }
        let (state, heard) = (s.state(), s.discriminators());
        match s.receive(&bytes, now) {
            Ok(change) => {
                accepted += 1;
                assert_eq!(change.is_some(), state != s.state());
                assert!(change.is_none_or(|c| (c.from, c.to) == (state, s.state())));
            }
            Err(_) => assert_eq!((state, heard), (s.state(), s.discriminators())),
        }
        let due = s.deadline();
        let (sent, change) = s.tick(now, roll(1 << 32) as u32);
        assert!(sent.is_none() || due <= Some(now), "nothing before it is due");
        assert!(change.is_none() || s.state() == State::Down);
        if let Some(bytes) = sent {
            let packet = Packet::parse(&bytes).expect("we send what we would take");
            let both = packet.poll && packet.is_final;
            assert!(!both && !packet.demand && packet.required_min_echo_rx == 0);
            assert_eq!((packet.my_discriminator, packet.state), (OURS, s.state()));
            answers += u32::from(packet.is_final);
            sent_by_itself += u32::from(!packet.is_final);
        }
        assert!(s.interval() >= 300 * MS, "turn {turn}");
    }
    assert!(accepted > 50_000 && answers <= accepted, "{accepted} {answers} {sent_by_itself}");
    // Whatever was said, it can be made Up again by who says it right.
    hears(&mut s, said(State::Down), now);
    hears(&mut s, said(State::Down), now);
    hears(&mut s, said(State::Up), now);
    assert_eq!(s.state(), State::Up);
}

#[test]
fn time_may_stand_still_or_jump() {
    // It stands still: one packet, then nothing, and nobody is silent.
    let mut s = up(7 * SECOND);
    for _ in 0..1000 {
        assert_eq!(s.tick(7 * SECOND, u32::MAX), (None, None));
        hears(&mut s, said(State::Up), 7 * SECOND);
    }
    assert!(s.deadline() > Some(7 * SECOND));
    // It jumps ahead over several deadlines: one packet, and what arrived meanwhile counts if it is handed over first.
    hears(&mut s, said(State::Up), 1000 * SECOND);
    let (packet, change) = s.tick(1000 * SECOND, 0);
    assert!(packet.is_some() && change.is_none());
    assert_eq!(s.tick(1000 * SECOND, 0), (None, None));
    // Nothing arrived: down, once.
    assert!(s.tick(2000 * SECOND, 0).1.is_some() && s.tick(2000 * SECOND, 0).1.is_none());
    // It goes back: the time between is not counted twice, nor is it waited for.
    let mut s = up(1000 * SECOND);
    hears(&mut s, said(State::Up), 1000 * SECOND);
    assert_eq!(s.tick(1000 * SECOND + 100 * MS, 0), (None, None));
    assert_eq!(s.tick(10 * SECOND, 0), (None, None));
    assert_eq!(s.deadline(), Some(10 * SECOND + 200 * MS));
    assert!(says(&mut s, 10 * SECOND + 200 * MS).is_some());
    assert_eq!(s.tick(10 * SECOND + 799 * MS, 0).1, None);
    assert!(s.tick(10 * SECOND + 800 * MS, 0).1.is_some());
    // Both ends of time.
    let mut s = up(0);
    hears(&mut s, said(State::Up), Nanos::MAX - SECOND);
    assert!(s.tick(Nanos::MAX - SECOND, 0).0.is_some());
    s.tick(0, 0);
    assert!(s.tick(SECOND, 0).1.is_some());
}

#[test]
fn time_that_jumps_anywhere_breaks_nothing() {
    let mut roll = dice(13);
    let mut s = up(0);
    for _ in 0..100_000 {
        let now = match roll(4) {
            0 => roll(1 << 31) << 33,
            1 => Nanos::MAX - roll(1000),
            _ => roll(SECOND),
        };
        if roll(2) == 0 {
            hears(&mut s, said([State::Down, State::Init, State::Up][roll(3) as usize]), now);
        }
        let (_, change) = s.tick(now, roll(1 << 32) as u32);
        assert!(change.is_none_or(|c| c.to == State::Down));
        assert!(s.deadline().is_some());
    }
}
