//! The thread of all BGP sessions of all customers: it gives them sockets and a clock.
//!
//! ```text
//!  orders, BFD (told) ─► thread ─► speaker: Session, its listener and connections ─► told ─► who makes routes of it
//!                          ▲                      │
//!                          └── epoll, timers ◄────┘
//! ```
//!
//! A session reads a piece at a time, and none again before all others had their turn; how much a peer may send in time is
//! bounded, and so is what is kept for it. A fault of one peer ends its own session at most.

mod connection;
mod speaker;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::error;

use self::connection::PIECE;
use self::speaker::{Round, Speaker};
use super::spec::LinkKey;
use super::status::{BgpStatus, SessionRoutes};
use super::told::Told;
use super::wanted::{Key, Links, Wanted, sessions};
use crate::bgp::{Cease, Family, Policy};
use crate::sys::{Epoll, Interest, Ready, Wake};
use crate::types::Nanos;

/// The port of BGP.
const PORT: u16 = 179;

/// What stands for a listener where connections have numbers.
const LISTENER: u32 = 0;

/// What stands for the bell; no session has so high a number.
const BELL: u64 = u64::MAX;

/// How long sessions may take to end when the thread does.
const LAST: Duration = Duration::from_secs(2);

/// How often it is asked once more who has something, before silence is judged.
const LOOKS: usize = 16;

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// From now on exactly these.
    Want(Links),
    /// What a link's sessions have heard and said: of one family or of both.
    Routes(LinkKey, Option<Family>, Sender<SessionRoutes>),
    /// How all sessions stand.
    Status(Sender<Vec<(LinkKey, BgpStatus)>>),
    /// All are to end.
    Stop,
}

/// The thread.
#[derive(Debug)]
pub struct Bgp {
    thread: JoinHandle<()>,
    orders: Sender<Order>,
    bell: Wake,
}

impl Bgp {
    /// Begins, without sessions. What they learn is told there, and BFD is heard there.
    pub fn start(told: Arc<Told>) -> io::Result<Bgp> {
        let (orders, receiver) = unbounded();
        let bell = told.bgp().clone();
        let mut speakers = Speakers::new(told, receiver)?;
        let work = move || speakers.run();
        let thread = thread::Builder::new().name("bgp".to_owned()).spawn(work)?;
        Ok(Bgp { thread, orders, bell })
    }

    /// From now on exactly these links have sessions. What is as it was goes on, and so does what can be changed while it is
    /// up: policies, and what is advertised. With another address, AS number or key a session begins anew.
    pub fn want(&self, links: Links) {
        self.order(Order::Want(links));
    }

    /// Asks what the sessions of a link have heard and said, of one family or of both; where the answer comes out, if there
    /// is one.
    pub fn ask_routes(&self, key: &LinkKey, family: Option<Family>) -> Receiver<SessionRoutes> {
        let (answer, answers) = bounded(1);
        self.order(Order::Routes(key.clone(), family, answer));
        answers
    }

    /// Asks how all sessions stand, in the order of the links, IPv4 first; where the answer comes out, if there is one.
    pub fn ask_status(&self) -> Receiver<Vec<(LinkKey, BgpStatus)>> {
        let (answer, answers) = bounded(1);
        self.order(Order::Status(answer));
        answers
    }

    /// True if the thread has ended, which it does of itself only when it fails.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends all sessions, and says so to their peers; false if that takes too long.
    pub fn stop(self) -> bool {
        self.order(Order::Stop);
        let until = Instant::now() + LAST + LAST;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        self.thread.is_finished()
    }

    fn order(&self, order: Order) {
        // If the thread is not there any more, nobody is there to obey.
        let _ = self.orders.send(order);
        self.bell.wake();
    }
}

impl Wanted {
    /// What a session of this family takes.
    fn policy(&self, family: Family) -> Policy {
        let [v4, v6] = &self.bgp.policies;
        match family {
            Family::V4 => v4.clone(),
            Family::V6 => v6.clone(),
        }
    }
}

/// All sessions.
struct Speakers {
    epoll: Epoll,
    told: Arc<Told>,
    orders: Receiver<Order>,
    began: Instant,
    now: Nanos,
    /// By number; a number is never used twice.
    speakers: BTreeMap<u32, Speaker>,
    last_id: u32,
    /// Those that are wanted.
    ids: BTreeMap<Key, u32>,
    timers: BTreeSet<(Nanos, u32)>,
    bfd_down: BTreeSet<Key>,
    /// All are to end, until then.
    ends_at: Option<Nanos>,
    /// Where is read to.
    buffer: Box<[u8]>,
}

impl Speakers {
    fn new(told: Arc<Told>, orders: Receiver<Order>) -> io::Result<Speakers> {
        let epoll = Epoll::new()?;
        epoll.add(told.bgp(), BELL, Interest { read: true, write: false })?;
        Ok(Speakers {
            epoll,
            told,
            orders,
            began: Instant::now(),
            now: 0,
            speakers: BTreeMap::new(),
            last_id: 0,
            ids: BTreeMap::new(),
            timers: BTreeSet::new(),
            bfd_down: BTreeSet::new(),
            ends_at: None,
            buffer: vec![0; PIECE].into(),
        })
    }

    fn run(&mut self) {
        let mut ready = Vec::new();
        while self.ends_at.is_none_or(|at| self.now < at && !self.speakers.is_empty()) {
            self.round(&mut ready);
        }
    }

    fn round(&mut self, ready: &mut Vec<Ready>) {
        let due = self.timers.first().map(|(at, _)| *at).into_iter().chain(self.ends_at).min();
        self.look_at_clock();
        self.wait(due.map(|at| Duration::from_nanos(at.saturating_sub(self.now))), ready);
        self.look_at_clock();
        self.heard(ready);
        // What has come while the thread did not run is no silence, and not all of it is told at once.
        for _ in 0..LOOKS {
            if ready.is_empty() || self.timers.first().is_none_or(|(at, _)| *at > self.now) {
                break;
            }
            self.look_at_clock();
            self.wait(Some(Duration::ZERO), ready);
            self.heard(ready);
        }
        // Each once: one that is due again at once waits for the others.
        let due: Vec<u32> = self.timers.range(..=(self.now, u32::MAX)).map(|(_, id)| *id).collect();
        for id in due {
            self.with(id, |speaker, _, round| speaker.due(round));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        if let Err(e) = self.epoll.wait(timeout, ready) {
            error!("BGP cannot wait for its connections: {e}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn look_at_clock(&mut self) {
        self.now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    fn heard(&mut self, ready: &[Ready]) {
        if ready.iter().any(|ready| ready.key == BELL) {
            self.told.bgp().clear();
            self.obey_bfd();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
        }
        for ready in ready.iter().filter(|ready| ready.key != BELL) {
            let id = (ready.key >> 32) as u32;
            self.with(id, |speaker, buffer, round| speaker.ready(*ready, buffer, round));
        }
    }

    /// Does something with a session, and sees when it is to be looked after next.
    fn with(&mut self, id: u32, work: impl FnOnce(&mut Speaker, &mut [u8], &Round<'_>)) {
        let Some(speaker) = self.speakers.get_mut(&id) else { return };
        work(speaker, &mut self.buffer, &Round { now: self.now, epoll: &self.epoll, told: &self.told });
        if let Some(at) = speaker.armed.take() {
            self.timers.remove(&(at, id));
        }
        if speaker.is_gone() {
            self.speakers.remove(&id);
        } else if let Some(at) = speaker.deadline() {
            speaker.armed = Some(at);
            self.timers.insert((at, id));
        }
    }

    fn obey_bfd(&mut self) {
        let down = self.told.held_down();
        let before = std::mem::replace(&mut self.bfd_down, down);
        let changed: Vec<Key> = self.bfd_down.symmetric_difference(&before).cloned().collect();
        for key in changed {
            let down = self.bfd_down.contains(&key);
            if let Some(id) = self.ids.get(&key).copied() {
                self.with(id, |speaker, _, round| speaker.set_bfd(down, round));
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Want(links) if self.ends_at.is_none() => self.want(links),
            Order::Want(_) => {}
            Order::Routes(key, family, answer) => {
                let mut both = SessionRoutes::default();
                for of in [Family::V4, Family::V6].into_iter().filter(|of| family.is_none_or(|f| f == *of)) {
                    let id = self.ids.get(&(key.clone(), of));
                    let routes = id.and_then(|id| self.speakers.get(id)).map(Speaker::routes);
                    let routes = routes.unwrap_or_default();
                    both.received.extend(routes.received);
                    both.advertised.extend(routes.advertised);
                }
                // Who asked may have gone.
                let _ = answer.try_send(both);
            }
            Order::Status(answer) => {
                let all = self.ids.iter().filter_map(|((key, _), id)| {
                    Some((key.clone(), self.speakers.get(id)?.status(self.now)))
                });
                let _ = answer.try_send(all.collect());
            }
            Order::Stop => {
                self.ends_at = Some(self.now.saturating_add(LAST.as_nanos() as Nanos));
                for id in std::mem::take(&mut self.ids).into_values() {
                    self.with(id, |speaker, _, round| {
                        speaker.leave(Cease::Shutdown, "the appliance stops", round);
                    });
                }
            }
        }
    }

    fn want(&mut self, links: Links) {
        let wanted = sessions(links);
        let gone = self.ids.iter().filter(|(key, _)| !wanted.contains_key(*key));
        let gone: Vec<(Key, u32)> = gone.map(|(key, id)| (key.clone(), *id)).collect();
        for (key, id) in gone {
            self.ids.remove(&key);
            self.with(id, |speaker, _, round| speaker.leave(Cease::Deconfigured, "", round));
        }
        for (key, wanted) in wanted {
            let down = self.bfd_down.contains(&key);
            let old = self.ids.get(&key).copied();
            let stays = old.and_then(|id| self.speakers.get(&id)).is_some_and(|s| s.may_become(&wanted));
            if let Some(id) = old.filter(|_| stays) {
                self.with(id, |speaker, _, round| speaker.want(wanted, down, round));
                continue;
            }
            let mut counts = None;
            if let Some(id) = old {
                self.with(id, |speaker, _, round| {
                    speaker.leave(Cease::Changed, "", round);
                    counts = Some(speaker.counts());
                });
            }
            self.last_id += 1;
            let id = self.last_id;
            let speaker = Speaker::new(id, key.clone(), wanted.clone(), counts, self.now);
            self.speakers.insert(id, speaker);
            self.ids.insert(key, id);
            self.with(id, |speaker, _, round| speaker.want(wanted, down, round));
        }
    }
}
