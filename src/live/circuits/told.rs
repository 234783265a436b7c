//! What BGP and BFD have to tell those who make routes of it: the last state counts, so that it is bounded however fast a
//! peer speaks and however late anybody listens.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::spec::LinkKey;
use crate::bgp::{Attributes, Family, Route};
use crate::sys::Wake;
use crate::types::Prefix;

/// Whether a session is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// No, and it has no routes.
    #[default]
    Down,
    /// No, but its routes are kept for a while, stale: the peer restarts (RFC 4724).
    Restarting,
    /// Yes.
    Up,
}

/// What BFD says of a link, in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bfd {
    /// Nothing: the peer has not spoken it yet, or no longer wants to (AdminDown).
    #[default]
    Unused,
    /// The peer is alive.
    Up,
    /// It was, and is not.
    Down,
    /// It was down, and has been silent for so long that it may not speak BFD any more: BGP says how the link is once it
    /// can, and until then it is down.
    Silent,
}

/// What is new of one family of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The link.
    pub key: LinkKey,
    /// The family.
    pub family: Family,
    /// The BGP session, if it stands elsewhere than when this was last taken.
    pub session: Option<Standing>,
    /// Routes that were learned or have changed, in their order.
    pub learned: Vec<Route>,
    /// Routes that are gone, in their order.
    pub withdrawn: Vec<Prefix>,
    /// What BFD says, if that is another than when this was last taken.
    pub bfd: Option<Bfd>,
}

/// A session, as it was last taken and as it is.
#[derive(Debug, Default)]
struct Session {
    taken: (Standing, BTreeMap<Prefix, Arc<Attributes>>),
    standing: Standing,
    /// Prefixes that are another than they were taken: at most those that were, and those that are.
    pending: BTreeMap<Prefix, Option<Arc<Attributes>>>,
}

/// What BFD says of a link, as it was last taken and as it is.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    taken: Bfd,
    is: Bfd,
}

type Key = (LinkKey, Family);

/// Where BGP and BFD write and others take. Who takes everything always has exactly the routes that the sessions have.
#[derive(Debug)]
pub struct Told {
    sessions: Mutex<BTreeMap<Key, Session>>,
    /// On its own, so that BFD never waits for routes.
    links: Mutex<BTreeMap<Key, Said>>,
    bell: Sender<()>,
    /// Wakes the thread of BGP, which obeys BFD.
    bgp: Wake,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// With nothing to tell, and the bell that rings once there is: then [`Told::take`] is to be called, at any time.
    pub fn new() -> io::Result<(Arc<Told>, Receiver<()>)> {
        let (bell, rings) = bounded(1);
        let told = Told { sessions: Mutex::default(), links: Mutex::default(), bell, bgp: Wake::new()? };
        Ok((Arc::new(told), rings))
    }

    /// Everything that is new since this was last called, by link and family.
    pub fn take(&self) -> Vec<News> {
        let mut news: BTreeMap<Key, News> = BTreeMap::new();
        let entry = |(key, family): &Key| News {
            key: key.clone(),
            family: *family,
            session: None,
            learned: Vec::new(),
            withdrawn: Vec::new(),
            bfd: None,
        };
        lock(&self.links).retain(|key, said| {
            if said.is != said.taken {
                said.taken = said.is;
                news.entry(key.clone()).or_insert_with(|| entry(key)).bfd = Some(said.is);
            }
            said.is != Bfd::Unused
        });
        lock(&self.sessions).retain(|key, session| {
            let Session { taken, standing, pending } = session;
            if taken.0 != *standing || !pending.is_empty() {
                let news = news.entry(key.clone()).or_insert_with(|| entry(key));
                news.session = (taken.0 != *standing).then_some(*standing);
                taken.0 = *standing;
                for (prefix, attributes) in std::mem::take(pending) {
                    if let Some(attributes) = attributes {
                        taken.1.insert(prefix, attributes.clone());
                        news.learned.push(Route { prefix, attributes });
                    } else {
                        taken.1.remove(&prefix);
                        news.withdrawn.push(prefix);
                    }
                }
            }
            *standing != Standing::Down || !taken.1.is_empty()
        });
        news.into_values().collect()
    }

    /// Who takes has forgotten what was taken of this family of a link: all that there is of it is new.
    pub(super) fn tell_again(&self, key: &Key) {
        if let Some(said) = lock(&self.links).get_mut(key) {
            said.taken = Bfd::Unused;
        }
        if let Some(Session { taken, pending, .. }) = lock(&self.sessions).get_mut(key) {
            let (_, routes) = std::mem::take(taken);
            for (prefix, attributes) in routes {
                pending.entry(prefix).or_insert(Some(attributes));
            }
            pending.retain(|_, attributes| attributes.is_some());
        }
        self.ring();
    }

    /// How many prefixes wait to be taken.
    pub fn waiting(&self) -> usize {
        lock(&self.sessions).values().map(|session| session.pending.len()).sum()
    }

    /// A session stands here now, and these of its routes have changed.
    pub(super) fn session(&self, key: &Key, standing: Standing, learned: Vec<Route>, withdrawn: &[Prefix]) {
        let mut sessions = lock(&self.sessions);
        let session = sessions.entry(key.clone()).or_default();
        session.standing = standing;
        let changes = learned.into_iter().map(|route| (route.prefix, Some(route.attributes)));
        for (prefix, attributes) in changes.chain(withdrawn.iter().map(|prefix| (*prefix, None))) {
            if session.taken.1.get(&prefix) == attributes.as_ref() {
                session.pending.remove(&prefix);
            } else {
                session.pending.insert(prefix, attributes);
            }
        }
        drop(sessions);
        self.ring();
    }

    /// BFD says this of a link now.
    pub(super) fn say(&self, key: &Key, bfd: Bfd) {
        lock(&self.links).entry(key.clone()).or_default().is = bfd;
        self.bgp.wake();
        self.ring();
    }

    /// The links that BFD holds down: BGP does not try there.
    pub(super) fn held_down(&self) -> BTreeSet<Key> {
        let links = lock(&self.links);
        links.iter().filter(|(_, said)| said.is == Bfd::Down).map(|(key, _)| key.clone()).collect()
    }

    /// What rings when [`Told::held_down`] says something else.
    pub(super) fn bgp(&self) -> &Wake {
        &self.bgp
    }

    fn ring(&self) {
        // One that has rung already says it all.
        let _ = self.bell.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Link;

    fn key() -> Key {
        let link =
            LinkKey { customer: "a".into(), circuit: "b".into(), peering: "c".into(), link: Link::Primary };
        (link, Family::V4)
    }

    fn prefix(n: u32) -> Prefix {
        let [_, a, b, c] = n.to_be_bytes();
        Prefix::v4(a, b, c, 0, 24)
    }

    fn routes(numbers: std::ops::Range<u32>, med: u32) -> Vec<Route> {
        let attributes = Arc::new(Attributes { med: Some(med), ..Attributes::default() });
        numbers.map(|n| Route { prefix: prefix(n), attributes: attributes.clone() }).collect()
    }

    #[test]
    fn the_last_state_is_told_and_only_if_it_is_another() {
        let (told, bell) = Told::new().unwrap();
        assert!(bell.try_recv().is_err() && told.take().is_empty());
        told.session(&key(), Standing::Up, routes(0..3, 7), &[]);
        told.session(&key(), Standing::Up, routes(1..2, 8), &[prefix(2), prefix(9)]);
        assert!(bell.try_recv().is_ok() && bell.try_recv().is_err());
        let news = told.take();
        let (link, family) = key();
        let learned = [routes(0..1, 7), routes(1..2, 8)].concat();
        let expected = News {
            key: link,
            family,
            session: Some(Standing::Up),
            learned,
            withdrawn: Vec::new(),
            bfd: None,
        };
        assert_eq!(news, std::slice::from_ref(&expected));
        // There and back again, and more than before.
        told.session(&key(), Standing::Down, Vec::new(), &[prefix(0), prefix(1)]);
        told.say(&key(), Bfd::Down);
        told.session(&key(), Standing::Up, routes(0..1, 7), &[]);
        assert_eq!(told.held_down().len(), 1);
        let news = told.take();
        let expected = News {
            session: None,
            learned: Vec::new(),
            withdrawn: vec![prefix(1)],
            bfd: Some(Bfd::Down),
            ..expected
        };
        assert_eq!(news, [expected]);
        told.say(&key(), Bfd::Up);
        told.say(&key(), Bfd::Down);
        assert!(told.take().is_empty());
        // BGP is let go by each of the others.
        for bfd in [Bfd::Silent, Bfd::Up, Bfd::Unused, Bfd::Up] {
            told.say(&key(), bfd);
            assert_eq!((told.take()[0].bfd, told.held_down().len()), (Some(bfd), 0));
        }
        // What is over is forgotten.
        told.say(&key(), Bfd::Unused);
        told.session(&key(), Standing::Down, Vec::new(), &[prefix(0)]);
        assert_eq!(told.take().len(), 1);
        assert!(lock(&told.sessions).is_empty() && lock(&told.links).is_empty());
    }

    #[test]
    fn what_waits_is_bounded_by_what_there_is() {
        let (told, _bell) = Told::new().unwrap();
        told.session(&key(), Standing::Up, routes(0..1000, 1), &[]);
        told.take();
        for round in 1..100 {
            // Each time a thousand others.
            let before: Vec<Prefix> = (0..1000).map(|n| prefix((round - 1) * 1000 + n)).collect();
            told.session(&key(), Standing::Up, routes(round * 1000..(round + 1) * 1000, 1), &before);
            assert!(told.waiting() <= 2000, "{}", told.waiting());
        }
        let news = told.take();
        assert_eq!((news[0].learned.len(), news[0].withdrawn.len(), told.waiting()), (1000, 1000, 0));
    }
}
