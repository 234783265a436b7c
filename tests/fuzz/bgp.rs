//! What a BGP peer sends, and when, to what our session says and holds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use clearway::bgp::message::{HEADER, first};
use clearway::bgp::{Advertised, Cease, Config, Event, Family, Input, Output, Policy, Session};
use clearway::types::{Prefix, SECOND};

/// An input is steps, one behind the other: kind(1), then for bytes of the peer length(2, big-endian) and bytes. The first
/// byte of all chooses the session.
///
/// No panic; whole messages are sent, and only on connections that are open; no more is said than was heard; time is due only
/// in the future; routes are those that were told and no more than there may be, also while the peer restarts.
pub fn run(bytes: &[u8]) {
    let Some((&which, mut rest)) = bytes.split_first() else { return };
    let six = which & 1 != 0;
    let (local, peer, link) = match six {
        true => ("2001:db8::2", "2001:db8::1", "2001:db8::/126"),
        false => ("192.0.2.2", "192.0.2.1", "192.0.2.0/30"),
    };
    let family = if six { Family::V6 } else { Family::V4 };
    let within = vec![Prefix::v4(203, 0, 113, 0, 24), "2001:db8::/32".parse().expect("a prefix")];
    let policy = if which & 2 != 0 { Policy::public(within) } else { Policy::private(family, false) };
    let mut session = Session::new(Config {
        local: local.parse().expect("an address"),
        peer: peer.parse().expect("an address"),
        link: link.parse().expect("a prefix"),
        asn: 12076,
        peer_asn: 65010,
        identifier: Ipv4Addr::new(10, 0, 0, 2),
        dials: which & 4 != 0,
        policy,
    });
    let all: Vec<_> = (0..3)
        .map(|n| Advertised { prefix: Prefix::v4(10, n, 0, 0, 16), communities: vec![u32::from(n)] })
        .collect();
    let (mut now, mut connection, mut open, mut known) = (SECOND, 0, BTreeSet::new(), BTreeSet::new());
    let mut step = |input: Input<'_>, now, open: &mut BTreeSet<u32>| {
        let mut out = Vec::new();
        session.handle(input, now, &mut out);
        assert!(session.deadline().is_none_or(|at| at > now));
        let mut said = 0;
        for output in out {
            match output {
                Output::Dial => assert!(which & 4 != 0),
                Output::Close { connection } => assert!(open.remove(&connection)),
                Output::Send { connection, bytes } => {
                    assert!(open.contains(&connection));
                    let mut bytes = bytes.as_slice();
                    while let Some((_, body)) = first(bytes).expect("our own message") {
                        bytes = &bytes[HEADER + body.len()..];
                        said += 1;
                    }
                    assert!(bytes.is_empty());
                }
                Output::Event(Event::Routes { learned, withdrawn }) => {
                    assert!(withdrawn.iter().all(|prefix| known.remove(prefix)));
                    known.extend(learned.iter().map(|route| route.prefix));
                }
                Output::Event(_) => {}
            }
        }
        assert!(known.iter().eq(session.routes().keys()));
        assert!(known.len() <= 2 * session.config().policy.limit() as usize);
        assert!(session.refused().len() <= 1000);
        assert!(said <= 12, "{said}");
        session.deadline()
    };
    let mut due = step(Input::Start, now, &mut open);
    while let Some((&kind, more)) = rest.split_first() {
        rest = more;
        let input = match kind % 8 {
            0 | 1 => {
                connection += 1;
                open.insert(connection);
                Input::Connected { connection, dialled: kind % 8 == 1 }
            }
            2 if open.remove(&connection) => Input::Closed { connection },
            3 => {
                now = due.unwrap_or(now);
                Input::Time
            }
            4 => {
                now += 1 << (kind / 8 + 12);
                Input::Time
            }
            5 => Input::Advertise(&all[..usize::from(kind / 64)]),
            6 if kind / 8 == 31 => Input::Stop { cease: Cease::Reset, text: "again" },
            6 => Input::Start,
            _ => {
                let length = rest.split_first_chunk::<2>().map(|(length, _)| u16::from_be_bytes(*length));
                let Some(length) = length else { return };
                let (bytes, more) = rest[2..].split_at((rest.len() - 2).min(usize::from(length)));
                rest = more;
                // Of the last connections one.
                let connection = connection.saturating_sub(u32::from(kind / 64));
                // A message brings at most a keepalive, or a whole session.
                for bytes in bytes.chunks(2 * HEADER) {
                    due = step(Input::Received { connection, bytes }, now, &mut open);
                }
                continue;
            }
        };
        due = step(input, now, &mut open);
    }
}
