//! A session with one peer over one link, for one family (RFC 4271 section 8): what happened goes in, what to do comes out.
//!
//! ```text
//!            ┌──────────── idle: stopped, or waiting after an error, longer each time ◄──────┐
//!      Start │ time                                                                          │ an end
//!            ▼                      OPEN sent       OPEN taken         KEEPALIVE             │
//!   waiting for a connection ─► connection: OpenSent ─► OpenConfirm ─────────► Established ──┤
//!      └ Dial, every now and then   └─ of two the better stays: collision                    │
//!                                                                                            ▼
//!                    graceful restart: its routes stay, stale, until it is back and has sent all
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::advertise::{Adverts, Saying, end_of_rib};
use super::events::{Config, Down, Event, Input, Output, Peer, State};
use super::message::{self, Kind, LONGEST, Open, Restart, multiprotocol};
use super::rib::{Held, Rib};
use super::update::{self, Reading};
use super::{Cease, Family, Notification, Policy, Refusal, is_reserved_asn};
use crate::types::{Nanos, Prefix, SECOND};

/// The hold time that we ask for, in seconds; the lower of both counts.
pub const HOLD_TIME: u16 = 180;

/// How long a peer may take for its OPEN.
const OPENING: Nanos = 240 * SECOND;

/// How long a dialled connection may take.
const DIALLING: Nanos = 60 * SECOND;

/// The wait after the first error, and before the next try to connect; it doubles each time.
const WAIT: Nanos = 5 * SECOND;

/// The same after too many prefixes.
const WAIT_FEWER: Nanos = 30 * SECOND;

/// The longest wait.
const WAIT_MOST: Nanos = 300 * SECOND;

/// A session that lasted so long was a good one: waits begin anew.
const GOOD: Nanos = 120 * SECOND;

/// Stale routes stay no longer than this, whatever restart time the peer announced.
const STALE_MOST: Nanos = 300 * SECOND;

/// How long a peer that is back may take to send its routes, before those it has not sent go.
const STALE_BACK: Nanos = 300 * SECOND;

/// Before that a session does not count as replaced by a restarted peer.
const SETTLED: Nanos = 5 * SECOND;

/// Between two answers to ROUTE-REFRESH.
const REFRESH: Nanos = 5 * SECOND;

/// Connections at most at a time: one that is established, and two new ones that may collide.
const CONNECTIONS: usize = 3;

/// A TCP connection.
#[derive(Debug)]
struct Connection {
    number: u32,
    dialled: bool,
    /// OpenSent and later.
    state: State,
    /// The beginning of a message.
    received: Vec<u8>,
    /// From OpenConfirm on.
    peer: Option<Peer>,
    hold_at: Option<Nanos>,
    keepalive_at: Option<Nanos>,
}

/// When to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// Not.
    Never,
    /// At this time.
    At(Nanos),
    /// It is being done, until this time.
    Until(Nanos),
}

/// A session. It begins stopped, and speaks only when spoken to: [`Session::handle`].
#[derive(Debug)]
pub struct Session {
    config: Config,
    family: Family,
    running: bool,
    connections: Vec<Connection>,
    dial: Dial,
    /// No connections are taken until then.
    idle_until: Option<Nanos>,
    /// Ends in a row that make the next wait longer.
    failures: u32,
    established_at: Nanos,
    rib: Rib,
    /// Stale routes go then.
    stale_until: Option<Nanos>,
    warned: bool,
    adverts: Adverts,
    refreshed_at: Option<Nanos>,
    refresh_waits: bool,
    last: Option<Down>,
}

impl Session {
    /// One that is stopped and advertises nothing.
    pub fn new(config: Config) -> Session {
        Session {
            family: if config.local.is_ipv4() { Family::V4 } else { Family::V6 },
            config,
            running: false,
            connections: Vec::new(),
            dial: Dial::Never,
            idle_until: None,
            failures: 0,
            established_at: 0,
            rib: Rib::default(),
            stale_until: None,
            warned: false,
            adverts: Adverts::default(),
            refreshed_at: None,
            refresh_waits: false,
            last: None,
        }
    }

    /// Takes note of what happened at `now`, which never goes back, and appends what is to be done.
    pub fn handle(&mut self, input: Input<'_>, now: Nanos, out: &mut Vec<Output>) {
        match input {
            Input::Start if !self.running => {
                self.running = true;
                self.dial_in(0, now);
            }
            Input::Start | Input::Time => {}
            Input::Stop { cease, text } => self.stop(cease, text, now, out),
            Input::Connected { connection, dialled } => self.connected(connection, dialled, now, out),
            Input::DialFailed => self.unreachable(now, out),
            Input::Received { connection, bytes } => self.received(connection, bytes, now, out),
            Input::Closed { connection } => self.ended(connection, Down::Closed, now, out),
            Input::Advertise(list) => {
                self.adverts.want(list, self.family);
                self.advertise(now, out);
            }
            Input::Policy(policy) => self.change_policy(policy, now, out),
        }
        // Behind the input: bytes that came in time but were handed over late count.
        self.fire(now, out);
        self.tell_routes(out);
    }

    /// When [`Input::Time`] is due next.
    pub fn deadline(&self) -> Option<Nanos> {
        let timers = self.connections.iter().flat_map(|c| [c.hold_at, c.keepalive_at]);
        let dial = match self.dial {
            // Nobody is dialled while idle.
            Dial::At(at) if self.connections.is_empty() => Some(at.max(self.idle_until.unwrap_or(0))),
            Dial::Until(at) => Some(at),
            _ => None,
        };
        let refresh = self.refreshed_at.filter(|_| self.refresh_waits).map(|at| at.saturating_add(REFRESH));
        timers.chain([dial, self.idle_until, self.stale_until, refresh]).flatten().min()
    }

    /// Where it stands: of several connections, the one that is furthest.
    pub fn state(&self) -> State {
        let without = match self.dial {
            _ if !self.running || self.idle_until.is_some() => State::Idle,
            Dial::Until(_) => State::Connect,
            _ => State::Active,
        };
        self.connections.iter().map(|c| c.state).max().unwrap_or(without)
    }

    /// The peer, while the session is up.
    pub fn peer(&self) -> Option<&Peer> {
        self.established().and_then(|c| c.peer.as_ref())
    }

    /// Its routes, those that are stale too.
    pub fn routes(&self) -> &BTreeMap<Prefix, Held> {
        self.rib.routes()
    }

    /// How many of its routes are stale.
    pub fn stale(&self) -> usize {
        self.rib.routes().len() - self.rib.fresh()
    }

    /// Prefixes that the peer announces but that are not taken; the first thousand.
    pub fn refused(&self) -> &BTreeMap<Prefix, Refusal> {
        self.rib.refused()
    }

    /// How many prefixes are advertised.
    pub fn advertised(&self) -> usize {
        self.adverts.len()
    }

    /// Why it was last down.
    pub fn last_down(&self) -> Option<&Down> {
        self.last.as_ref()
    }

    /// Until when no connection is taken, after an error.
    pub fn idle_until(&self) -> Option<Nanos> {
        self.idle_until
    }

    /// As it was made, but for the policy, which is the last.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|c| c.state == State::Established)
    }

    fn numbers(&self) -> Vec<u32> {
        self.connections.iter().map(|c| c.number).collect()
    }

    fn find(&mut self, number: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.number == number)
    }

    fn send(&mut self, number: u32, bytes: Vec<u8>, now: Nanos, out: &mut Vec<Output>) {
        let Some(connection) = self.find(number) else { return };
        let alive = [Kind::Update, Kind::Keepalive].map(|kind| kind as u8);
        // Only these say that we are there.
        if let Some(peer) = &connection.peer
            && bytes.get(message::HEADER - 1).is_some_and(|kind| alive.contains(kind))
        {
            connection.keepalive_at = keepalive_at(peer, now);
        }
        out.push(Output::Send { connection: number, bytes });
    }

    fn tell_routes(&mut self, out: &mut Vec<Output>) {
        let (learned, withdrawn) = self.rib.changes();
        if !learned.is_empty() || !withdrawn.is_empty() {
            out.push(Output::Event(Event::Routes { learned, withdrawn }));
        }
    }

    fn advertise(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let Some(connection) = self.established() else { return };
        let saying = Saying {
            family: self.family,
            asn: self.config.asn,
            four_octet: connection.peer.as_ref().is_some_and(|p| p.four_octet),
            next_hop: self.config.local,
        };
        let number = connection.number;
        let bytes = self.adverts.tell(saying);
        if !bytes.is_empty() {
            self.send(number, bytes, now, out);
        }
    }

    fn stop(&mut self, cease: Cease, text: &str, now: Nanos, out: &mut Vec<Output>) {
        if !self.running {
            return;
        }
        self.running = false;
        let why = Notification::cease(cease, text);
        // The one that is furthest last: its end is the session's.
        self.connections.sort_by_key(|c| c.state);
        for number in self.numbers() {
            self.fail(number, why.clone(), now, out);
        }
        self.rib.clear();
        (self.dial, self.stale_until) = (Dial::Never, None);
        // That a link comes and goes does not make up for errors.
        if cease != Cease::BfdDown {
            (self.idle_until, self.failures) = (None, 0);
        }
    }

    fn change_policy(&mut self, policy: Policy, now: Nanos, out: &mut Vec<Output>) {
        if policy == self.config.policy {
            return;
        }
        self.rib.judge(|prefix| policy.refuses(prefix));
        self.config.policy = policy;
        self.warned = false;
        let Some(connection) = self.established() else { return };
        let number = connection.number;
        if connection.peer.as_ref().is_some_and(|p| p.route_refresh) {
            self.send(number, message::route_refresh(self.family), now, out);
            self.check_limit(number, now, out);
        } else {
            self.fail(number, Notification::cease(Cease::Changed, ""), now, out);
        }
    }

    fn connected(&mut self, number: u32, dialled: bool, now: Nanos, out: &mut Vec<Output>) {
        if dialled {
            self.dial = Dial::Never;
        }
        let refused = !self.running || self.idle_until.is_some_and(|until| now < until);
        // While a session is up its peer may come anew, but we do not go.
        let needless = self.connections.len() >= CONNECTIONS
            || self.find(number).is_some()
            || dialled && self.established().is_some();
        if refused || needless {
            let cease = if refused { Cease::Rejected } else { Cease::Collision };
            let bytes = Notification::cease(cease, "").encode();
            out.push(Output::Send { connection: number, bytes });
            out.push(Output::Close { connection: number });
            if dialled {
                let idle = self.idle_until.map_or(0, |until| until.saturating_sub(now));
                self.dial_in(idle.max(WAIT), now);
            }
            return;
        }
        self.connections.push(Connection {
            number,
            dialled,
            state: State::OpenSent,
            received: Vec::new(),
            peer: None,
            hold_at: Some(now.saturating_add(OPENING)),
            keepalive_at: None,
        });
        let open = Open {
            asn: self.config.asn,
            hold_time: HOLD_TIME,
            identifier: self.config.identifier,
            families: Some(vec![self.family]),
            four_octet: true,
            route_refresh: true,
            // As a helper: we do not say that we keep anything when we restart.
            restart: Some(Restart::default()),
        };
        self.send(number, open.encode(), now, out);
    }

    fn received(&mut self, number: u32, mut bytes: &[u8], now: Nanos, out: &mut Vec<Output>) {
        while !bytes.is_empty() {
            let Some(connection) = self.find(number) else { return };
            // A buffer that is full has a whole message, so there is always room.
            let room = LONGEST - connection.received.len();
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            bytes = rest;
            let mut buffer = std::mem::take(&mut connection.received);
            buffer.extend_from_slice(piece);
            let mut at = 0;
            loop {
                match message::first(buffer.get(at..).unwrap_or_default()) {
                    Ok(None) => break,
                    Ok(Some((kind, body))) => {
                        at += message::HEADER + body.len();
                        self.message(number, kind, body, now, out);
                    }
                    Err(why) => self.fail(number, why, now, out),
                }
                if self.find(number).is_none() {
                    return;
                }
            }
            buffer.drain(..at);
            if let Some(connection) = self.find(number) {
                connection.received = buffer;
            }
        }
    }

    fn message(&mut self, number: u32, kind: Kind, body: &[u8], now: Nanos, out: &mut Vec<Output>) {
        let Some(connection) = self.find(number) else { return };
        let state = connection.state;
        match (state, kind) {
            (_, Kind::Notification) => {
                if let Some(why) = Notification::decode(body) {
                    self.ended(number, Down::Received(why), now, out);
                }
            }
            (State::OpenSent, Kind::Open) => self.opened(number, body, now, out),
            (State::OpenConfirm, Kind::Keepalive) => {
                connection.state = State::Established;
                self.alive(number, now);
                self.up(number, now, out);
            }
            (State::Established, Kind::Keepalive) => self.alive(number, now),
            (State::Established, Kind::Update) => {
                self.alive(number, now);
                self.updated(number, body, now, out);
            }
            (State::Established, Kind::RouteRefresh) => {
                if message::refreshed(body) == Some(self.family) {
                    self.refresh_waits = true;
                }
            }
            (state, kind) => {
                let subcode = match state {
                    State::OpenSent => 1,
                    State::OpenConfirm => 2,
                    _ => 3,
                };
                self.fail(number, Notification::unexpected(subcode, kind), now, out);
            }
        }
    }

    /// The peer is there.
    fn alive(&mut self, number: u32, now: Nanos) {
        if let Some(connection) = self.find(number) {
            connection.hold_at = connection.peer.as_ref().and_then(|peer| hold_at(peer, now));
        }
    }

    /// The peer's OPEN, and what is wrong with it for this session.
    fn opened(&mut self, number: u32, body: &[u8], now: Nanos, out: &mut Vec<Output>) {
        let open = match Open::decode(body).and_then(|open| self.check(open)) {
            Ok(open) => open,
            Err(why) => return self.fail(number, why, now, out),
        };
        if !self.wins(number, &open, now, out) {
            return;
        }
        let peer = Peer {
            identifier: open.identifier,
            hold_time: open.hold_time.min(HOLD_TIME),
            four_octet: open.four_octet,
            route_refresh: open.route_refresh,
            restart: open.restart,
        };
        let Some(connection) = self.find(number) else { return };
        connection.state = State::OpenConfirm;
        connection.hold_at = hold_at(&peer, now);
        connection.peer = Some(peer);
        self.send(number, message::keepalive(), now, out);
    }

    fn check(&self, open: Open) -> Result<Open, Notification> {
        if open.asn != self.config.peer_asn || is_reserved_asn(open.asn) {
            return Err(Notification::open(2, &[]));
        }
        // RFC 6286: only inside one system identifiers must differ.
        if open.identifier == self.config.identifier && open.asn == self.config.asn {
            return Err(Notification::open(3, &[]));
        }
        if !open.speaks(self.family) {
            return Err(Notification::open(7, &multiprotocol(self.family)));
        }
        Ok(open)
    }

    /// Of several connections that know their peer one stays (RFC 4271 section 6.8). True if it is the one whose OPEN has just
    /// come.
    fn wins(&mut self, number: u32, open: &Open, now: Nanos, out: &mut Vec<Output>) -> bool {
        let Some(dialled) = self.find(number).map(|c| c.dialled) else { return false };
        let others: Vec<_> =
            self.connections.iter().filter(|c| c.number != number && c.peer.is_some()).collect();
        let others: Vec<_> =
            others.iter().map(|c| (c.number, c.state, c.dialled, self.stays_stale(c))).collect();
        for (other, state, other_dialled, restarts) in others {
            let new_wins = match state {
                // So soon after it came up, it is rather one that was under way when this one won.
                State::Established => {
                    restarts.is_some() && now.saturating_sub(self.established_at) >= SETTLED
                }
                // The peer has given up the one it made before.
                _ if dialled == other_dialled => true,
                // That of the higher identifier.
                _ => {
                    let ours = (self.config.identifier, self.config.asn);
                    dialled == (ours > (open.identifier, open.asn))
                }
            };
            if !new_wins {
                self.collide(number, now, out);
                return false;
            }
            if state == State::Established {
                out.push(Output::Close { connection: other });
                self.ended(other, Down::Replaced, now, out);
            } else {
                self.collide(other, now, out);
            }
        }
        true
    }

    /// Closes a connection because another one stays.
    fn collide(&mut self, number: u32, now: Nanos, out: &mut Vec<Output>) {
        let bytes = Notification::cease(Cease::Collision, "").encode();
        self.send(number, bytes, now, out);
        out.push(Output::Close { connection: number });
        self.connections.retain(|c| c.number != number);
    }

    fn up(&mut self, number: u32, now: Nanos, out: &mut Vec<Output>) {
        for other in self.numbers().into_iter().filter(|n| *n != number) {
            self.collide(other, now, out);
        }
        let Some(peer) = self.find(number).and_then(|c| c.peer.clone()) else { return };
        (self.dial, self.idle_until, self.established_at) = (Dial::Never, None, now);
        (self.refreshed_at, self.refresh_waits, self.warned) = (Some(now), false, false);
        if self.stale_until.is_some() {
            // RFC 4724 section 4.2: what it has not kept forwarding for is not kept here.
            let families = peer.restart.iter().flat_map(|restart| &restart.families);
            let kept = families.into_iter().any(|(family, preserved)| *family == self.family && *preserved);
            self.stale_until = kept.then(|| now.saturating_add(STALE_BACK));
            if !kept {
                self.rib.drop_stale();
                self.tell_routes(out);
            }
        }
        out.push(Output::Event(Event::Established(peer)));
        self.adverts.forget();
        self.advertise(now, out);
        self.send(number, end_of_rib(self.family), now, out);
    }

    fn updated(&mut self, number: u32, body: &[u8], now: Nanos, out: &mut Vec<Output>) {
        let family = self.family;
        let Some(peer) = self.find(number).and_then(|c| c.peer.as_ref()) else { return };
        let reading = Reading { family, four_octet: peer.four_octet };
        let update = match update::decode(body, reading) {
            Ok(update) => update,
            Err(why) => return self.fail(number, why, now, out),
        };
        if let Some(fault) = update.fault {
            out.push(Output::Event(Event::Malformed(fault)));
        }
        update.withdrawn.iter().for_each(|prefix| self.rib.withdraw(prefix));
        if !update.announced.is_empty() {
            let policy = &self.config.policy;
            let attributes = match update.fault {
                Some(fault) if fault.withdraws => Err(Refusal::Malformed),
                _ => policy.attributes(update.attributes, &self.config).map(Arc::new),
            };
            for prefix in update.announced {
                match (&attributes, policy.refuses(&prefix)) {
                    (Ok(attributes), None) => self.rib.learn(prefix, attributes),
                    (Err(why), _) => self.rib.refuse(prefix, *why),
                    (Ok(_), Some(why)) => self.rib.refuse(prefix, why),
                }
            }
        }
        self.check_limit(number, now, out);
        if update.end_of_rib {
            self.rib.drop_stale();
            self.stale_until = None;
            self.tell_routes(out);
            out.push(Output::Event(Event::EndOfRib));
        }
    }

    fn check_limit(&mut self, number: u32, now: Nanos, out: &mut Vec<Output>) {
        let prefixes = u32::try_from(self.rib.fresh()).unwrap_or(u32::MAX);
        let policy = &self.config.policy;
        let (limit, reached) = (policy.limit(), prefixes >= policy.warning());
        if prefixes > limit {
            return self.fail(number, Notification::too_many(self.family, limit), now, out);
        }
        if reached && !self.warned {
            out.push(Output::Event(Event::Warning { prefixes, limit }));
        }
        self.warned = reached;
    }

    /// Ends a connection with a NOTIFICATION.
    fn fail(&mut self, number: u32, why: Notification, now: Nanos, out: &mut Vec<Output>) {
        self.send(number, why.encode(), now, out);
        self.ended(number, Down::Sent(why), now, out);
    }

    /// A connection has ended. Unless it broke by itself or was replaced it is closed here.
    fn ended(&mut self, number: u32, why: Down, now: Nanos, out: &mut Vec<Output>) {
        let Some(index) = self.connections.iter().position(|c| c.number == number) else { return };
        let connection = self.connections.swap_remove(index);
        let silent = matches!(why, Down::Closed | Down::Replaced);
        if !silent {
            out.push(Output::Close { connection: number });
        }
        let established = connection.state == State::Established;
        let mut stale = 0;
        if established {
            self.refresh_waits = false;
            let restart = self.stays_stale(&connection).filter(|_| silent && self.running);
            self.stale_until = restart.map(|time| now.saturating_add(time));
            match restart {
                Some(_) => stale = self.rib.age(),
                None => self.rib.clear(),
            }
            if now.saturating_sub(self.established_at) >= GOOD {
                self.failures = 0;
            }
        }
        self.tell_routes(out);
        let collided = matches!(&why, Down::Received(n) if n.is(Cease::Collision));
        // If another one goes on, only the end of a session counts.
        let last = self.connections.is_empty();
        if last && self.running {
            self.wait(&why, now);
        }
        if established || last && !collided {
            self.last = Some(why.clone());
            out.push(Output::Event(Event::Down { why, established, stale }));
        }
    }

    /// What comes after an end: a time without connections if there was an error, and then another try.
    fn wait(&mut self, why: &Down, now: Nanos) {
        let first = match why {
            Down::Sent(why) if why.is(Cease::Prefixes) => WAIT_FEWER,
            _ => WAIT,
        };
        let wait = (first << self.failures.min(6)).min(WAIT_MOST);
        self.failures += 1;
        let error = match why {
            Down::Sent(_) => true,
            Down::Received(why) => why.code != 6,
            Down::Closed | Down::Replaced | Down::Unreachable => false,
        };
        if error {
            self.idle_until = Some(now.saturating_add(wait));
        }
        self.dial_in(wait, now);
    }

    fn dial_in(&mut self, wait: Nanos, now: Nanos) {
        if self.config.dials && self.running && !matches!(self.dial, Dial::Until(_)) {
            self.dial = Dial::At(now.saturating_add(wait));
        }
    }

    fn unreachable(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if !matches!(self.dial, Dial::Until(_)) {
            return;
        }
        self.dial = Dial::Never;
        if self.connections.is_empty() {
            self.wait(&Down::Unreachable, now);
            self.last = Some(Down::Unreachable);
            out.push(Output::Event(Event::Down { why: Down::Unreachable, established: false, stale: 0 }));
        }
    }

    /// How long the routes of a connection stay if it breaks: as long as its peer says that a restart takes.
    fn stays_stale(&self, connection: &Connection) -> Option<Nanos> {
        let restart = connection.peer.as_ref()?.restart.as_ref()?;
        let kept = restart.seconds > 0 && restart.families.iter().any(|(family, _)| *family == self.family);
        kept.then(|| (Nanos::from(restart.seconds) * SECOND).min(STALE_MOST))
    }

    /// Everything that is due.
    fn fire(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let due = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        for number in self.numbers() {
            let Some(connection) = self.find(number) else { continue };
            if due(connection.hold_at) {
                self.fail(number, Notification::hold(), now, out);
            } else if due(connection.keepalive_at) {
                self.send(number, message::keepalive(), now, out);
            }
        }
        if due(self.stale_until) {
            self.stale_until = None;
            self.rib.drop_stale();
        }
        if due(self.idle_until) {
            self.idle_until = None;
        }
        if self.refresh_waits && due(self.refreshed_at.map(|at| at.saturating_add(REFRESH))) {
            (self.refreshed_at, self.refresh_waits) = (Some(now), false);
            self.adverts.forget();
            self.advertise(now, out);
        }
        match self.dial {
            Dial::Until(at) if at <= now => self.unreachable(now, out),
            Dial::At(at) if at <= now && self.connections.is_empty() && self.idle_until.is_none() => {
                self.dial = Dial::Until(now.saturating_add(DIALLING));
                out.push(Output::Dial);
            }
            _ => {}
        }
    }
}

fn hold_at(peer: &Peer, now: Nanos) -> Option<Nanos> {
    (peer.hold_time > 0).then(|| now.saturating_add(Nanos::from(peer.hold_time) * SECOND))
}

fn keepalive_at(peer: &Peer, now: Nanos) -> Option<Nanos> {
    (peer.hold_time > 0).then(|| now.saturating_add(Nanos::from(peer.hold_time) * SECOND / 3))
}

#[cfg(test)]
mod tests;
