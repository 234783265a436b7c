//! One BGP session with its sockets: what they say goes into it, and what it wants of them is done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tracing::{info, warn};

use super::super::budget::{Budget, Lines};
use super::super::status::{BgpStatus, RouteStatus, SessionRoutes};
use super::super::told::{Standing, Told};
use super::super::wanted::{Key, Wanted};
use super::connection::{Connection, Got, Stage};
use super::{LISTENER, PORT};
use crate::bgp::session::HOLD_TIME;
use crate::bgp::{Cease, Config, Down, Event, Family, Input, Output, Session, State};
use crate::sys::{Epoll, Interest, Ready, socket, within};
use crate::types::{Nanos, SECOND};

/// When it is tried again to listen, if that is not possible.
const AGAIN: Nanos = SECOND;

/// Between two times that a connection is made.
const DIALS: Nanos = SECOND;

/// Connections at most that a session has, those too that are being closed.
const CONNECTIONS: usize = 16;

/// Connections that are taken at once, and then in time.
const ACCEPTS: u64 = 8;
const ACCEPT_EVERY: Nanos = SECOND / 2;

/// Sentences at most that are remembered so as not to be said again.
const SAID: usize = 16;

/// What a session needs of the world while something is done with it.
pub(super) struct Round<'a> {
    pub(super) now: Nanos,
    pub(super) epoll: &'a Epoll,
    pub(super) told: &'a Told,
}

/// Whose session a line of the log is about.
struct Names<'a> {
    customer: &'a str,
    circuit: &'a str,
    peering: &'a str,
    link: &'static str,
    family: &'static str,
    peer: IpAddr,
}

/// How often it went up and down, and what may be said of it.
pub(super) type Counts = ((u64, u64), Lines);

/// A session.
pub(super) struct Speaker {
    id: u32,
    key: Key,
    wanted: Wanted,
    session: Session,
    /// It is started.
    runs: bool,
    /// BFD says that the link is down.
    bfd_down: bool,
    /// It is stopped for good, and goes once its connections are closed.
    leaves: bool,
    listener: Option<TcpListener>,
    /// No connections are taken, or it is not tried to listen, until then.
    listens_at: Option<Nanos>,
    no_listener: Option<String>,
    accepts: Budget,
    connections: BTreeMap<u32, Connection>,
    last_number: u32,
    /// A connection is to be made then.
    dials_at: Option<Nanos>,
    dialled_at: Option<Nanos>,
    /// What the system says of a connection that was not made or broke.
    trouble: Option<String>,
    standing: Standing,
    since: Nanos,
    changes: (u64, u64),
    lines: Lines,
    said: BTreeSet<String>,
    /// When the thread comes by without a reason of the sockets.
    pub(super) armed: Option<Nanos>,
}

impl Speaker {
    /// One that is stopped and does not listen yet, with the counts of the one before.
    pub(super) fn new(id: u32, key: Key, wanted: Wanted, counts: Option<Counts>, now: Nanos) -> Speaker {
        let (changes, lines) = counts.unwrap_or(((0, 0), Lines::new()));
        let config = Config {
            local: wanted.ends.local,
            peer: wanted.ends.peer,
            link: wanted.ends.prefix,
            asn: wanted.bgp.asn,
            peer_asn: wanted.bgp.peer_asn,
            identifier: wanted.identifier,
            dials: true,
            policy: wanted.policy(key.1),
        };
        let mut session = Session::new(config);
        // One that is stopped only takes note of it.
        session.handle(Input::Advertise(&wanted.bgp.advertised), now, &mut Vec::new());
        Speaker {
            id,
            key,
            wanted,
            session,
            runs: false,
            bfd_down: false,
            leaves: false,
            listener: None,
            listens_at: None,
            no_listener: None,
            accepts: Budget::new(ACCEPTS, ACCEPT_EVERY),
            connections: BTreeMap::new(),
            last_number: 0,
            dials_at: None,
            dialled_at: None,
            trouble: None,
            standing: Standing::Down,
            since: now,
            changes,
            lines,
            said: BTreeSet::new(),
            armed: None,
        }
    }

    /// True if this can become what is wanted now without a new session.
    pub(super) fn may_become(&self, wanted: &Wanted) -> bool {
        self.wanted.same_session(wanted)
    }

    /// What the next session of this link goes on from.
    pub(super) fn counts(&self) -> Counts {
        (self.changes, self.lines)
    }

    /// From now on this is wanted, of the same session.
    pub(super) fn want(&mut self, wanted: Wanted, bfd_down: bool, round: &Round<'_>) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        if before.bgp.advertised != self.wanted.bgp.advertised {
            let advertised = self.wanted.bgp.advertised.clone();
            self.feed(Input::Advertise(&advertised), round);
        }
        self.feed(Input::Policy(self.wanted.policy(self.key.1)), round);
        self.set_bfd(bfd_down, round);
    }

    /// BFD says that the link is down, or not.
    pub(super) fn set_bfd(&mut self, down: bool, round: &Round<'_>) {
        self.bfd_down = down;
        let hold = self.hold();
        if hold.is_none() && !self.runs && !self.leaves {
            self.runs = true;
            self.feed(Input::Start, round);
        } else if let Some((cease, text)) = hold {
            self.stop(cease, &text, round);
        }
        self.finish(round);
    }

    /// Ends the session for good.
    pub(super) fn leave(&mut self, cease: Cease, text: &str, round: &Round<'_>) {
        self.stop(cease, text, round);
        (self.leaves, self.listener, self.listens_at) = (true, None, None);
        self.finish(round);
    }

    fn stop(&mut self, cease: Cease, text: &str, round: &Round<'_>) {
        if std::mem::take(&mut self.runs) {
            self.feed(Input::Stop { cease, text }, round);
        }
        self.dials_at = None;
        self.connections.retain(|_, connection| connection.stage != Stage::Dialling);
    }

    /// Why it must not be up, if so.
    fn hold(&self) -> Option<(Cease, String)> {
        if let Some(why) = &self.wanted.bgp.held_down {
            Some((Cease::Shutdown, why.clone()))
        } else if !self.wanted.enabled {
            Some((Cease::Shutdown, "the link is turned off".to_owned()))
        } else if self.wanted.namespace.is_none() {
            Some((Cease::Shutdown, "the link has no network namespace".to_owned()))
        } else if self.bfd_down {
            Some((Cease::BfdDown, "BFD says that the link is down".to_owned()))
        } else {
            None
        }
    }

    /// Something is ready: the listener or a connection.
    pub(super) fn ready(&mut self, ready: Ready, buffer: &mut [u8], round: &Round<'_>) {
        let number = ready.key as u32;
        if number == LISTENER {
            self.accept(round);
        } else if let Some(connection) = self.connections.get_mut(&number) {
            match connection.stage {
                Stage::Dialling => self.made(number, round),
                _ if ready.read || ready.failed => match connection.read(buffer, ready.failed, round.now) {
                    Got::Bytes(length) => {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        self.feed(Input::Received { connection: number, bytes }, round);
                    }
                    Got::Nothing => {}
                    Got::End(why) => self.lost(number, why, round),
                },
                _ => {}
            }
        }
        self.finish(round);
    }

    /// Time has passed.
    pub(super) fn due(&mut self, round: &Round<'_>) {
        if self.listens_at.is_some_and(|at| at <= round.now) {
            self.listens_at = None;
            if let Some(listener) = &self.listener {
                let again = round.epoll.change(listener, self.token(LISTENER), reading());
                // If not it is made anew.
                if again.is_err() {
                    self.listener = None;
                }
            }
        }
        self.connections.retain(|_, connection| !connection.is_over(round.now));
        if self.session.deadline().is_some_and(|at| at <= round.now) {
            self.feed(Input::Time, round);
        }
        self.finish(round);
    }

    /// When [`Speaker::due`] is to be called.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let hold = self.hold_time();
        let connections = self.connections.values().filter_map(|connection| connection.deadline(hold));
        let own = [self.session.deadline(), self.listens_at, self.dials_at];
        own.into_iter().flatten().chain(connections).min()
    }

    /// True if there is nothing left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.leaves && self.connections.is_empty()
    }

    fn token(&self, number: u32) -> u64 {
        u64::from(self.id) << 32 | u64::from(number)
    }

    fn hold_time(&self) -> Nanos {
        let agreed = self.session.peer().map_or(0, |peer| peer.hold_time);
        Nanos::from(if agreed == 0 { HOLD_TIME } else { agreed }) * SECOND
    }

    /// Hands something to the session, and does what it answers as far as that needs no socket.
    fn feed(&mut self, input: Input<'_>, round: &Round<'_>) {
        let mut out = Vec::new();
        self.session.handle(input, round.now, &mut out);
        for output in out {
            match output {
                Output::Dial => {
                    let soonest = self.dialled_at.map_or(0, |at| at.saturating_add(DIALS));
                    self.dials_at = Some(soonest.max(round.now));
                }
                Output::Send { connection, bytes } => {
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.send(&bytes, round.now);
                    }
                }
                Output::Close { connection } => {
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.close(round.now);
                    }
                }
                Output::Event(Event::Routes { learned, withdrawn }) => {
                    round.told.session(&self.key, self.standing, learned, &withdrawn);
                }
                Output::Event(event) => self.note(&event, round.now),
            }
        }
        let standing = match self.session.state() {
            State::Established => Standing::Up,
            // Only routes that are stale outlive a session.
            _ if !self.session.routes().is_empty() => Standing::Restarting,
            _ => Standing::Down,
        };
        if standing != self.standing {
            self.standing = standing;
            round.told.session(&self.key, standing, Vec::new(), &[]);
        }
    }

    /// Does what the sockets still have to do, and waits for what comes next.
    fn finish(&mut self, round: &Round<'_>) {
        self.listen(round);
        loop {
            let hold = self.hold_time();
            let lost = self.connections.iter_mut().find_map(|(number, connection)| {
                connection.flush(hold, round.now).err().map(|why| (*number, why))
            });
            if let Some((number, why)) = lost {
                self.lost(number, Some(why), round);
            } else if self.dials_at.is_some_and(|at| at <= round.now) {
                self.dial(round);
            } else {
                break;
            }
        }
        self.connections.values_mut().for_each(|connection| connection.wait(round.epoll, round.now));
    }

    /// Listens, if it should and does not yet.
    fn listen(&mut self, round: &Round<'_>) {
        if self.leaves || self.listener.is_some() || self.listens_at.is_some_and(|at| at > round.now) {
            return;
        }
        let Some(namespace) = &self.wanted.namespace else { return };
        let (local, peer) = (SocketAddr::new(self.wanted.ends.local, PORT), self.wanted.ends.peer);
        let key = self.wanted.bgp.shared_key.as_ref().map(String::as_bytes);
        let made = within(namespace, || socket::listen(local, peer, key))
            .and_then(|made| round.epoll.add(&made, self.token(LISTENER), reading()).map(|()| made));
        match made {
            Ok(listener) => {
                (self.listener, self.listens_at, self.no_listener) = (Some(listener), None, None);
            }
            Err(e) => {
                let why = format!("cannot listen at {}, port {PORT}: {e}", local.ip());
                self.say_once(&format!("BGP {why}"), round.now);
                (self.no_listener, self.listens_at) = (Some(why), Some(round.now.saturating_add(AGAIN)));
            }
        }
    }

    fn accept(&mut self, round: &Round<'_>) {
        while let Some(listener) = &self.listener {
            if self.accepts.left(round.now) == 0 {
                return self.rest(self.accepts.ready_at(1), round);
            }
            match listener.accept() {
                Ok((stream, from)) => {
                    self.accepts.spend(1);
                    // Anybody else is closed without a word.
                    if from.ip().to_canonical() == self.wanted.ends.peer {
                        self.taken(stream, round);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock) => return,
                // It has gone before it was taken.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                    self.accepts.spend(1);
                }
                Err(e) => {
                    self.say_once(&format!("BGP connections cannot be taken: {e}"), round.now);
                    return self.rest(round.now.saturating_add(AGAIN), round);
                }
            }
        }
    }

    /// Takes no connections until then.
    fn rest(&mut self, until: Nanos, round: &Round<'_>) {
        self.listens_at = Some(until);
        if let Some(listener) = &self.listener {
            let rests = round.epoll.change(listener, self.token(LISTENER), Interest::default());
            if rests.is_err() {
                self.listener = None;
            }
        }
    }

    fn number(&mut self) -> u32 {
        // Two a second at most, and so many are there for decades.
        self.last_number = self.last_number.wrapping_add(1).max(LISTENER + 1);
        self.last_number
    }

    fn taken(&mut self, stream: TcpStream, round: &Round<'_>) {
        if self.connections.len() >= CONNECTIONS || socket::taken(&stream).is_err() {
            return;
        }
        let number = self.number();
        if let Ok(connection) = Connection::new(stream, Stage::Open, self.token(number), round.epoll) {
            self.connections.insert(number, connection);
            self.feed(Input::Connected { connection: number, dialled: false }, round);
        }
    }

    fn dial(&mut self, round: &Round<'_>) {
        (self.dials_at, self.dialled_at, self.trouble) = (None, Some(round.now), None);
        self.connections.retain(|_, connection| connection.stage != Stage::Dialling);
        let Some(namespace) = &self.wanted.namespace else { return };
        let (local, peer) = (self.wanted.ends.local, SocketAddr::new(self.wanted.ends.peer, PORT));
        let key = self.wanted.bgp.shared_key.as_ref().map(String::as_bytes);
        let made = within(namespace, || socket::dial(local, peer, key));
        let number = self.number();
        let made =
            made.and_then(|stream| Connection::new(stream, Stage::Dialling, self.token(number), round.epoll));
        match made {
            Ok(connection) => _ = self.connections.insert(number, connection),
            Err(e) => {
                self.trouble = Some(e.to_string());
                self.feed(Input::DialFailed, round);
            }
        }
    }

    /// A connection that was dialled is made, or not.
    fn made(&mut self, number: u32, round: &Round<'_>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match connection.dialled() {
            Ok(()) => self.feed(Input::Connected { connection: number, dialled: true }, round),
            Err(e) => {
                self.connections.remove(&number);
                self.trouble = Some(e.to_string());
                self.feed(Input::DialFailed, round);
            }
        }
    }

    /// A connection is closed or broken.
    fn lost(&mut self, number: u32, why: Option<String>, round: &Round<'_>) {
        let Some(connection) = self.connections.remove(&number) else { return };
        if connection.stage == Stage::Open {
            self.trouble = why;
            self.feed(Input::Closed { connection: number }, round);
        }
    }

    /// Tells people of what they want to know.
    fn note(&mut self, event: &Event, now: Nanos) {
        match event {
            Event::Established(peer) => {
                self.changes.0 += 1;
                (self.since, self.trouble) = (now, None);
                self.said.clear();
                let (identifier, hold) = (peer.identifier, peer.hold_time);
                self.say(&format!("BGP session up: identifier {identifier}, hold time {hold} s"), now);
            }
            Event::Down { why, established: true, stale } => {
                self.changes.1 += 1;
                self.since = now;
                let kept = match stale {
                    0 => String::new(),
                    count => format!("; {count} of its routes are kept, as the peer restarts"),
                };
                self.say(&format!("BGP session down: {}{kept}", self.why(why)), now);
            }
            Event::Down { why, established: false, .. } => {
                self.say_once(&format!("no BGP session: {}", self.why(why)), now);
            }
            Event::Warning { prefixes, limit } => {
                let more = format!("with more than {limit} its session ends");
                self.warn(&format!("BGP: the peer announces {prefixes} prefixes; {more}"), now);
            }
            Event::Malformed(fault) => self.say_once(&format!("BGP UPDATE with a fault: {fault}"), now),
            Event::Routes { .. } | Event::EndOfRib => {}
        }
    }

    /// Why a session is down, with what the system says of it.
    fn why(&self, down: &Down) -> String {
        match (down, &self.trouble) {
            (Down::Closed | Down::Unreachable, Some(trouble)) => format!("{down}: {trouble}"),
            _ => down.to_string(),
        }
    }

    /// Says something that has not been said since the session was last up.
    fn say_once(&mut self, sentence: &str, now: Nanos) {
        if self.said.len() < SAID && self.said.insert(sentence.to_owned()) {
            self.say(sentence, now);
        }
    }

    fn say(&mut self, sentence: &str, now: Nanos) {
        let Some((kept_back, names)) = self.line(now) else { return };
        let Names { customer, circuit, peering, link, family, peer } = names;
        info!(customer, circuit, peering, link, family, %peer, kept_back, "{sentence}");
    }

    fn warn(&mut self, sentence: &str, now: Nanos) {
        let Some((kept_back, names)) = self.line(now) else { return };
        let Names { customer, circuit, peering, link, family, peer } = names;
        warn!(customer, circuit, peering, link, family, %peer, kept_back, "{sentence}");
    }

    /// What stands in a line of the log, if there may be one: how many were kept back before it, and whose it is.
    fn line(&mut self, now: Nanos) -> Option<(Option<u64>, Names<'_>)> {
        let kept_back = self.lines.may(now)?;
        let ((key, family), peer) = (&self.key, self.wanted.ends.peer);
        let names = Names {
            customer: &key.customer,
            circuit: &key.circuit,
            peering: &key.peering,
            link: key.link.name(),
            family: if *family == Family::V4 { "IPv4" } else { "IPv6" },
            peer,
        };
        Some(((kept_back > 0).then_some(kept_back), names))
    }

    /// For people.
    pub(super) fn status(&self, now: Nanos) -> BgpStatus {
        let (session, config) = (&self.session, self.session.config());
        let is_up = session.state() == State::Established;
        let before = || {
            let why = session.last_down().map(|down| self.why(down));
            why.or_else(|| self.no_listener.clone())
        };
        BgpStatus {
            local: config.local,
            peer: config.peer,
            asn: config.asn,
            peer_asn: config.peer_asn,
            md5: self.wanted.bgp.shared_key.is_some(),
            state: session.state(),
            since: Duration::from_nanos(now.saturating_sub(self.since)),
            open: session.peer().map(|peer| (peer.identifier, peer.hold_time)),
            received: session.routes().len(),
            stale: session.stale(),
            limit: config.policy.limit(),
            refused: session.refused().len(),
            advertised: if is_up { session.advertised() } else { 0 },
            last_down: self.hold().map(|(_, why)| why).or_else(before),
            changes: self.changes,
        }
    }

    /// For people: both directions.
    pub(super) fn routes(&self) -> SessionRoutes {
        let taken = self.session.routes().iter().map(|(prefix, held)| RouteStatus {
            prefix: *prefix,
            as_path: held.attributes.path.numbers().collect(),
            communities: held.attributes.communities.clone(),
            next_hop: held.attributes.next_hop,
            stale: held.stale,
            refused: None,
        });
        let plain = |prefix| RouteStatus {
            prefix,
            as_path: Vec::new(),
            communities: Vec::new(),
            next_hop: None,
            stale: false,
            refused: None,
        };
        let refused = self.session.refused().iter();
        let refused = refused.map(|(p, why)| RouteStatus { refused: Some(why.to_string()), ..plain(*p) });
        let is_up = self.session.state() == State::Established;
        let list = if is_up { self.wanted.bgp.advertised.as_slice() } else { &[] };
        let list = list.iter().filter(|a| Family::of_prefix(&a.prefix) == self.key.1);
        let advertised = list.map(|a| RouteStatus {
            as_path: vec![self.wanted.bgp.asn],
            communities: a.communities.clone(),
            ..plain(a.prefix)
        });
        SessionRoutes { received: taken.chain(refused).collect(), advertised: advertised.collect() }
    }
}

fn reading() -> Interest {
    Interest { read: true, write: false }
}
