//! Captures: what fits, what is missed, when it is over.

use super::*;
use crate::live::fake::{network, offer, program};
use crate::packet::Verdict;
use crate::wire::build;

const SOON: Duration = Duration::from_millis(1);

fn all(capturing: &mut Capturing) -> Vec<u8> {
    let mut found = Vec::new();
    while let Next::Packet(packet) = capturing.next(SOON) {
        found.push(packet.frame[0]);
    }
    found
}

fn wanted(count: Option<u64>, time: Option<Duration>) -> CaptureWanted {
    CaptureWanted { count, time, ..CaptureWanted::default() }
}

#[test]
fn a_capture_has_as_many_as_were_wanted() {
    let (mut capturing, tap) = begin(wanted(Some(3), None));
    let other = tap.clone();
    (0..3).for_each(|n| offer(if n == 1 { &other } else { &tap }, &program(), n));
    assert!(!tap.is_over(Instant::now()));
    (3..9).for_each(|n| offer(&tap, &program(), n));
    assert!(tap.is_over(Instant::now()) && other.is_over(Instant::now()));
    assert_eq!(all(&mut capturing), [0, 1, 2]);
    assert!(matches!(capturing.next(Duration::from_secs(60)), Next::Over));
    assert_eq!((capturing.given(), capturing.missed()), (3, 0));
}

#[test]
fn what_has_no_room_is_missed_and_makes_nobody_wait() {
    let (mut capturing, tap) = begin(wanted(Some(QUEUE as u64 + 1), None));
    let program = program();
    (0..QUEUE + 5).for_each(|n| offer(&tap, &program, n as u8));
    assert_eq!(capturing.missed(), 5);
    assert_eq!(all(&mut capturing).len(), QUEUE);
    // The one that is left of the count is not among those that were missed.
    offer(&tap, &program, 77);
    assert_eq!(all(&mut capturing), [77]);
    assert_eq!((capturing.given(), capturing.missed()), (QUEUE as u64 + 1, 5));
}

#[test]
fn a_capture_is_over_in_time_with_its_workers_and_with_who_asked() {
    let (mut capturing, tap) = begin(wanted(None, Some(Duration::from_millis(50))));
    offer(&tap, &program(), 1);
    let began = Instant::now();
    assert_eq!(all(&mut capturing), [1]);
    while matches!(capturing.next(Duration::from_secs(60)), Next::Nothing) {}
    assert!((Duration::from_millis(40)..Duration::from_secs(10)).contains(&began.elapsed()));
    assert!(tap.is_over(Instant::now()));

    let (mut capturing, tap) = begin(wanted(None, None));
    offer(&tap, &program(), 1);
    drop(tap);
    assert!(matches!(capturing.next(SOON), Next::Packet(_)) && matches!(capturing.next(SOON), Next::Over));

    let (capturing, tap) = begin(wanted(None, None));
    drop(capturing);
    assert!(tap.is_over(Instant::now()));
    offer(&tap, &program(), 1);
}

#[test]
fn a_sample_has_its_share_of_all_and_of_flows_that_take_turns() {
    for one_in in [1, 2, 7, 250] {
        let (capturing, tap) = begin(CaptureWanted { sample: Some(one_in), ..CaptureWanted::default() });
        let (mut at, mut counts) = (0, [0u32; 5]);
        for batch in (0..).map(|n| n % 257) {
            for packet in tap.sample(batch) {
                assert!(packet < batch);
                counts[(at + packet) % 5] += 1;
            }
            at += batch;
            if at >= 2000 * one_in as usize {
                break;
            }
        }
        assert_eq!(capturing.seen(), at as u64);
        let share = at as f64 / f64::from(one_in);
        let sum = f64::from(counts.iter().sum::<u32>());
        assert!((0.9..1.1).contains(&(sum / share)), "one in {one_in}: {sum} of {at}");
        for count in counts {
            assert!((0.7..1.3).contains(&(f64::from(count) * 5.0 / share)), "one in {one_in}: {counts:?}");
        }
        assert!(one_in > 1 || sum as usize == at);
    }
}

fn fits(filter: &Filter, frame: &[u8], outcome: &Outcome) -> bool {
    let program = &program();
    filter.fits(&Offered { frame, original: 60, time: 0, port: 0, outcome, program })
}

#[test]
fn verdicts_and_reasons_and_unknown_owners() {
    let dropped = Outcome::ended(Reason::NsgDeny);
    let forwarded = Outcome { verdict: Verdict::Forward, ..dropped };
    let none = Filter::default();
    assert!(fits(&none, b"", &dropped) && fits(&none, b"", &forwarded));
    let denied = Filter { reason: Some(Reason::NsgDeny), ..none.clone() };
    assert!(fits(&denied, b"", &dropped) && !fits(&denied, b"", &forwarded));
    assert!(!fits(&denied, b"", &Outcome::ended(Reason::NoRoute)));
    let forward = Filter { verdict: Some("forward".into()), ..none.clone() };
    assert!(!fits(&forward, b"", &dropped) && fits(&forward, b"", &forwarded));
    // Whose the packet is is not known, nor by which port it came.
    let customer = Some("contoso".to_owned());
    assert!(!fits(&Filter { customer: customer.clone(), ..none.clone() }, b"", &dropped));
    assert!(!fits(&Filter { vnet: customer.clone(), ..none.clone() }, b"", &dropped));
    assert!(!fits(&Filter { port: customer, ..none }, b"", &dropped));
}

#[test]
fn addresses_are_looked_for_in_both_packets() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let dropped = Outcome::ended(Reason::NoRoute);
    let has = |frame: &[u8], address: &str| {
        fits(&Filter { address: Some(ip(address)), ..Filter::default() }, frame, &dropped)
    };
    let echo = build::Transport::Echo { identifier: 1 };
    let v4 = build::ip_packet(ip("10.1.0.4"), ip("10.1.0.5"), echo, b"").unwrap();
    let v6 = build::ip_packet(ip("fd00::4"), ip("fd00::5"), echo, b"").unwrap();
    let (here, there) = (ip("198.51.100.11"), ip("198.51.100.2"));
    let (here6, there6) = (ip("2001:db8::1"), ip("2001:db8::2"));
    let plain = build::plain_frame(&v4);
    let gre = build::gre_frame(here, there, 7, None, &v4).unwrap();
    let nvgre = build::gre_frame(here, there, 7, Some([2; 6]), &v6).unwrap();
    let over_v6 = build::gre_frame(here6, there6, 7, None, &v6).unwrap();
    for (frame, in_it) in [
        (&plain, &["10.1.0.4", "10.1.0.5"][..]),
        (&build::plain_frame(&v6), &["fd00::4", "fd00::5"]),
        (&gre, &["10.1.0.4", "10.1.0.5", "198.51.100.11", "198.51.100.2"]),
        (&nvgre, &["fd00::4", "fd00::5", "198.51.100.11", "198.51.100.2"]),
        (&over_v6, &["fd00::4", "fd00::5", "2001:db8::1", "2001:db8::2"]),
    ] {
        assert!(in_it.iter().all(|a| has(frame, a)), "{in_it:?}");
        for not in ["0.0.0.0", "::", "10.1.0.6", "fd00::6", "2.0.0.0"] {
            assert!(!has(frame, not), "{not} in a frame of {in_it:?}");
        }
        // Cut anywhere, it is searched as far as it goes.
        for end in 0..frame.len() {
            assert!(!has(&frame[..end], "0.0.0.0"), "{end} bytes of a frame of {in_it:?}");
        }
    }
    // ARP.
    assert!(!has(&[&[0xff; 12][..], &[8, 6], &[0; 46]].concat(), "0.0.0.0"));
}

#[test]
fn a_flow_is_known_by_protocol_and_ends_either_way() {
    let program = network();
    let (a, b, host, here) = (
        IpAddr::from([10, 1, 0, 4]),
        IpAddr::from([10, 1, 0, 5]),
        IpAddr::from([198, 51, 100, 11]),
        IpAddr::from([198, 51, 100, 2]),
    );
    let outcome = Outcome::ended(Reason::NoRoute);
    let fits = |filter: &Filter, from: IpAddr, to: IpAddr, source: u16, destination: u16| {
        let transport = build::Transport::Udp { source, destination };
        let inner = build::ip_packet(from, to, transport, b"data").unwrap();
        let frame = build::gre_frame(host, here, 1, None, &inner).unwrap();
        let original = frame.len() as u32;
        filter.fits(&Offered {
            frame: &frame,
            original,
            time: 0,
            port: 0,
            outcome: &outcome,
            program: &program,
        })
    };
    let end = |address, port| End { address, port };
    let flow = Filter { between: Some([end(a, Some(5000)), end(b, Some(53))]), ..Filter::default() };
    assert!(fits(&flow, a, b, 5000, 53) && fits(&flow, b, a, 53, 5000));
    assert!(!fits(&flow, a, b, 53, 5000) && !fits(&flow, b, a, 5000, 53) && !fits(&flow, a, b, 5000, 54));
    let hosts = Filter { between: Some([end(b, None), end(a, None)]), ..Filter::default() };
    assert!(fits(&hosts, a, b, 1, 2) && fits(&hosts, b, a, 1, 2) && !fits(&hosts, a, a, 1, 2));
    let of = |protocols: &[u8]| Filter { protocols: protocols.to_vec(), ..flow.clone() };
    assert!(fits(&of(&[6, 17]), a, b, 5000, 53) && !fits(&of(&[6]), a, b, 5000, 53));
    // Headers that are not in order belong to no flow.
    let broken = [0; 60];
    let offered =
        Offered { frame: &broken, original: 60, time: 0, port: 0, outcome: &outcome, program: &program };
    assert!(!flow.fits(&offered) && Filter::default().fits(&offered));
}
