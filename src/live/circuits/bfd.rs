//! The thread of all BFD sessions, on its own so that no load of others makes it late: it gives them sockets, a clock and
//! dice.
//!
//! ```text
//!  orders ─► thread ─► link: Session, and a socket to receive and one to send ─► told ─► BGP, who makes routes of it
//!              ▲  ├─► thread that opens sockets in namespaces, which may take its time
//!              │  └─► thread that writes the log, which may, too
//!              └── epoll, timers
//! ```
//!
//! A peer that never speaks BFD is none that is down. A session that was up and is not any more holds its link down, until it
//! is up again or the peer turns it off, or has been silent for so long that it counts as one that does not speak BFD any
//! more; then BGP says how the link is, once it is up.

mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{debug, error};

use self::link::{Line, Link, Request, Round, Sockets};
use super::spec::LinkKey;
use super::status::BfdStatus;
use super::told::Told;
use super::wanted::{Key, Links, sessions};
use crate::sys::{Epoll, Interest, Ready, Wake, hasten};
use crate::types::Nanos;

/// The port of BFD over one hop (RFC 5881 section 4).
const PORT: u16 = 3784;

/// The first port to send from (RFC 5881 section 4); the last is the last there is.
const FIRST_SOURCE: u16 = 49_152;

/// What stands for the bell; no session has so high a number.
const BELL: u64 = u64::MAX;

/// How long sessions may take to end when the thread does.
const LAST: Duration = Duration::from_secs(2);

/// How often in a round it is asked who has received something, before silence is judged.
const LOOKS: usize = 16;

/// Lines of the log that wait to be written at most.
const LINES: usize = 1024;

/// What the thread is told.
enum Order {
    /// From now on exactly these.
    Want(Links),
    /// How all sessions stand.
    Status(Sender<Vec<(LinkKey, BfdStatus)>>),
    /// Sockets of a link, or why there are none.
    Opened(u32, io::Result<Sockets>),
    /// All are to end.
    Stop,
}

/// The thread.
#[derive(Debug)]
pub struct Bfd {
    thread: JoinHandle<()>,
    orders: Sender<Order>,
    bell: Wake,
}

impl Bfd {
    /// Begins, without sessions. Which links they hold down is told there.
    pub fn start(told: Arc<Told>) -> io::Result<Bfd> {
        let (orders, receiver) = unbounded();
        let bell = Wake::new()?;
        let (requests, requested) = unbounded::<Request>();
        let (log, lines) = bounded::<Line>(LINES);
        let mut links = AllLinks::new(told, receiver, requests, log, bell.clone())?;
        let (opened, ring) = (orders.clone(), bell.clone());
        let open = move || {
            for request in requested {
                // If nobody wants it any more, it is closed.
                let _ = opened.send(Order::Opened(request.id, request.open()));
                ring.wake();
            }
        };
        thread::Builder::new().name("bfd-sockets".to_owned()).spawn(open)?;
        let write = move || lines.iter().for_each(|line| line.write());
        thread::Builder::new().name("bfd-log".to_owned()).spawn(write)?;
        let thread = thread::Builder::new().name("bfd".to_owned()).spawn(move || links.run())?;
        Ok(Bfd { thread, orders, bell })
    }

    /// From now on exactly these links have sessions, if they are not turned off and have a namespace. What is as it was goes
    /// on.
    pub fn want(&self, links: Links) {
        self.order(Order::Want(links));
    }

    /// Asks how all sessions stand, in the order of the links, IPv4 first; where the answer comes out, if there is one.
    pub fn ask_status(&self) -> Receiver<Vec<(LinkKey, BfdStatus)>> {
        let (answer, answers) = bounded(1);
        self.order(Order::Status(answer));
        answers
    }

    /// True if the thread has ended, which it does of itself only when it fails.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Turns all sessions off, which is no failure to their peers, and does not wait for that.
    pub fn end(&self) {
        self.order(Order::Stop);
    }

    /// Turns all sessions off; false if that takes too long.
    pub fn stop(self) -> bool {
        self.end();
        let until = Instant::now() + LAST;
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

/// Numbers that nobody can foretell who does not know where they begin.
struct Dice {
    state: u64,
    discriminator: u32,
}

impl Dice {
    fn new() -> Dice {
        let state = RandomState::new().build_hasher().finish();
        Dice { state: state | 1, discriminator: state as u32 }
    }

    fn roll(&mut self) -> u32 {
        // Xorshift of Marsaglia.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) as u32
    }

    /// One that was not given before, as long as there are any.
    fn discriminator(&mut self) -> NonZeroU32 {
        loop {
            // An odd step comes by all numbers.
            self.discriminator = self.discriminator.wrapping_add(0x9e37_79b1);
            if let Some(discriminator) = NonZeroU32::new(self.discriminator) {
                return discriminator;
            }
        }
    }
}

/// All sessions.
struct AllLinks {
    epoll: Epoll,
    told: Arc<Told>,
    orders: Receiver<Order>,
    requests: Sender<Request>,
    log: Sender<Line>,
    bell: Wake,
    dice: Dice,
    began: Instant,
    now: Nanos,
    /// By number; a number is never used twice.
    links: BTreeMap<u32, Link>,
    last_id: u32,
    /// Those that are wanted.
    ids: BTreeMap<Key, u32>,
    timers: BTreeSet<(Nanos, u32)>,
    last_port: u16,
    ends: bool,
}

impl AllLinks {
    fn new(
        told: Arc<Told>,
        orders: Receiver<Order>,
        requests: Sender<Request>,
        log: Sender<Line>,
        bell: Wake,
    ) -> io::Result<AllLinks> {
        let epoll = Epoll::new()?;
        epoll.add(&bell, BELL, Interest { read: true, write: false })?;
        let mut dice = Dice::new();
        let last_port = FIRST_SOURCE | dice.roll() as u16;
        Ok(AllLinks {
            epoll,
            told,
            orders,
            requests,
            log,
            bell,
            dice,
            began: Instant::now(),
            now: 0,
            links: BTreeMap::new(),
            last_id: 0,
            ids: BTreeMap::new(),
            timers: BTreeSet::new(),
            last_port,
            ends: false,
        })
    }

    fn run(&mut self) {
        debug!("the thread of BFD runs {}", hasten());
        let mut ready = Vec::new();
        while !self.ends {
            self.look_at_clock();
            let due = self.timers.first().map(|(at, _)| Duration::from_nanos(at.saturating_sub(self.now)));
            self.wait(due, &mut ready);
            // What has come while the thread did not run is no silence.
            for _ in 0..LOOKS {
                self.look_at_clock();
                self.heard(&ready);
                self.wait(Some(Duration::ZERO), &mut ready);
                if ready.is_empty() {
                    break;
                }
            }
            self.look_at_clock();
            let due: Vec<u32> = self.timers.range(..=(self.now, u32::MAX)).map(|(_, id)| *id).collect();
            for id in due {
                self.with(id, |link, round| link.due(round));
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        if let Err(e) = self.epoll.wait(timeout, ready) {
            error!("BFD cannot wait for packets: {e}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn look_at_clock(&mut self) {
        self.now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    fn heard(&mut self, ready: &[Ready]) {
        for ready in ready {
            if ready.key == BELL {
                self.bell.clear();
                while let Ok(order) = self.orders.try_recv() {
                    self.obey(order);
                }
            } else {
                self.with(ready.key as u32, |link, round| link.receive(round));
            }
        }
    }

    /// Does something with a session, and sees when it is to be looked after next.
    fn with(&mut self, id: u32, work: impl FnOnce(&mut Link, &mut Round<'_>)) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut round = Round {
            now: self.now,
            epoll: &self.epoll,
            told: &self.told,
            requests: &self.requests,
            log: &self.log,
            dice: &mut self.dice,
        };
        work(link, &mut round);
        if let Some(at) = link.armed.take() {
            self.timers.remove(&(at, id));
        }
        if link.is_gone(self.now) {
            self.links.remove(&id);
        } else if let Some(at) = link.deadline() {
            link.armed = Some(at);
            self.timers.insert((at, id));
        }
    }

    /// A port to send from; that of no other session, as long as there are so many.
    fn port(&mut self) -> u16 {
        for _ in FIRST_SOURCE..u16::MAX {
            self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST_SOURCE);
            if self.links.values().all(|link| link.port != self.last_port) {
                break;
            }
        }
        self.last_port
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Want(links) => self.want(links),
            Order::Status(answer) => {
                let all = self
                    .ids
                    .iter()
                    .filter_map(|((key, _), id)| Some((key.clone(), self.links.get(id)?.status(self.now))));
                // Who asked may have gone.
                let _ = answer.try_send(all.collect());
            }
            Order::Opened(id, sockets) => {
                let port = self.port();
                self.with(id, |link, round| link.opened(sockets, port, round));
            }
            Order::Stop => {
                self.ends = true;
                for id in std::mem::take(&mut self.ids).into_values() {
                    self.with(id, |link, round| link.leave(round));
                }
            }
        }
    }

    fn want(&mut self, links: Links) {
        let mut wanted = sessions(links);
        wanted.retain(|_, wanted| wanted.enabled && wanted.namespace.is_some());
        let stays = |key: &Key, id: &u32| {
            let link = self.links.get(id);
            wanted.get(key).zip(link).is_some_and(|(wanted, link)| link.wanted.same_place(wanted))
        };
        let gone = self.ids.iter().filter(|(key, id)| !stays(key, id));
        let gone: Vec<(Key, u32)> = gone.map(|(key, id)| (key.clone(), *id)).collect();
        for (key, id) in gone {
            self.ids.remove(&key);
            self.with(id, |link, round| link.leave(round));
        }
        for (key, wanted) in wanted {
            if self.ids.contains_key(&key) {
                continue;
            }
            self.last_id += 1;
            let (id, port, discriminator) = (self.last_id, self.port(), self.dice.discriminator());
            self.links.insert(id, Link::new(id, key.clone(), wanted, port, discriminator, self.now));
            self.ids.insert(key, id);
            self.with(id, |link, round| link.open(round));
        }
    }
}
