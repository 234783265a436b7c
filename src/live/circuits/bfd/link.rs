//! One BFD session with its sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tracing::info;

use super::super::budget::{Budget, Lines};
use super::super::spec::LinkKey;
use super::super::status::BfdStatus;
use super::super::told::{Bfd, Told};
use super::super::wanted::{Key, Wanted};
use super::{Dice, PORT};
use crate::bfd::{Change, Config, DETECTION_EXPIRED, SIGNALED_DOWN, Session, State, TURNED_OFF};
use crate::sys::{Epoll, Interest, socket, within};
use crate::types::{Nanos, SECOND};

/// Packets that are taken at once, and then in time: many times what a peer is to send.
const BURST: u64 = 32;
const EVERY: Nanos = SECOND / 160;

/// So many it may be before it is received again after too many.
const AGAIN: u64 = 8;

/// A peer that has been silent for so long counts as one that does not speak BFD: it may have been taken away without a
/// word. No link is up for that: its BGP session has ended, and nobody who is not heard begins another; where there has
/// never been one, the link stays down.
const FORGOTTEN: Nanos = 10 * SECOND;

/// The wait before sockets are tried again, which doubles up to the other.
const RETRY: Nanos = SECOND;
const RETRY_MOST: Nanos = 8 * SECOND;

/// How long a session that is turned off says so.
const FAREWELL: Nanos = 3 * SECOND;

/// Packets at most that are sent for one reason: an answer, a change, and a periodic one.
const AT_ONCE: usize = 4;

/// Bytes of a packet that are looked at, more than any of ours has.
const LONGEST: usize = 128;

/// The sockets of a session.
#[derive(Debug)]
pub(super) struct Sockets {
    /// None of a session that is turned off for good: another one may need the address.
    receiver: Option<UdpSocket>,
    sender: UdpSocket,
}

/// Asks for sockets.
pub(super) struct Request {
    pub(super) id: u32,
    namespace: Arc<OwnedFd>,
    to_us: SocketAddr,
    from_us: SocketAddr,
    to_peer: SocketAddr,
}

impl Request {
    /// Opens them.
    pub(super) fn open(&self) -> io::Result<Sockets> {
        within(&self.namespace, || {
            let receiver = Some(socket::receiver(self.to_us)?);
            Ok(Sockets { receiver, sender: socket::sender(self.from_us, self.to_peer)? })
        })
    }
}

/// A line of the log about a session.
pub(super) struct Line {
    key: LinkKey,
    peer: IpAddr,
    kept_back: Option<u64>,
    sentence: String,
}

impl Line {
    /// Writes it, which may take as long as nobody reads it.
    pub(super) fn write(&self) {
        let Line { key, peer, kept_back, sentence } = self;
        let (customer, circuit, peering, link) = (&key.customer, &key.circuit, &key.peering, key.link.name());
        info!(customer, circuit, peering, link, %peer, kept_back, "{sentence}");
    }
}

/// What a session needs of the world while something is done with it.
pub(super) struct Round<'a> {
    pub(super) now: Nanos,
    pub(super) epoll: &'a Epoll,
    pub(super) told: &'a Told,
    pub(super) requests: &'a Sender<Request>,
    pub(super) log: &'a Sender<Line>,
    pub(super) dice: &'a mut Dice,
}

/// A session.
pub(super) struct Link {
    id: u32,
    key: Key,
    pub(super) wanted: Wanted,
    session: Session,
    /// Where it is sent from.
    pub(super) port: u16,
    sockets: Option<Sockets>,
    /// Sockets are asked for then.
    opens_at: Option<Nanos>,
    failures: u32,
    reading: Budget,
    /// It has received more than it may, and waits.
    rests: bool,
    /// When the peer was last heard.
    heard_at: Nanos,
    /// It has been Up since it began, or since the peer turned it on again. Before that it says nothing of the link: many
    /// peers begin with BFD when BGP is up, which must not go down for that.
    was_up: bool,
    /// What it has told of the link.
    says: Bfd,
    /// It is turned off, and goes then.
    leaves_at: Option<Nanos>,
    since: Nanos,
    downs: u64,
    lines: Lines,
    no_sockets: Option<String>,
    /// When the thread comes by without a packet.
    pub(super) armed: Option<Nanos>,
}

impl Link {
    /// One that has no sockets yet.
    pub(super) fn new(
        id: u32,
        key: Key,
        wanted: Wanted,
        port: u16,
        discriminator: NonZeroU32,
        now: Nanos,
    ) -> Link {
        Link {
            id,
            key,
            wanted,
            session: Session::new(Config::new(discriminator)),
            port,
            sockets: None,
            opens_at: None,
            failures: 0,
            reading: Budget::new(BURST, EVERY),
            rests: false,
            heard_at: 0,
            was_up: false,
            says: Bfd::Unused,
            leaves_at: None,
            since: now,
            downs: 0,
            lines: Lines::new(),
            no_sockets: None,
            armed: None,
        }
    }

    /// Asks for sockets.
    pub(super) fn open(&mut self, round: &Round<'_>) {
        self.opens_at = None;
        let Some(namespace) = &self.wanted.namespace else { return };
        let ends = &self.wanted.ends;
        let request = Request {
            id: self.id,
            namespace: namespace.clone(),
            to_us: SocketAddr::new(ends.local, PORT),
            from_us: SocketAddr::new(ends.local, self.port),
            to_peer: SocketAddr::new(ends.peer, PORT),
        };
        if round.requests.send(request).is_err() {
            self.opens_at = Some(round.now.saturating_add(RETRY_MOST));
        }
    }

    /// The sockets are there; or else they are asked for later, with another port.
    pub(super) fn opened(&mut self, sockets: io::Result<Sockets>, port: u16, round: &mut Round<'_>) {
        if self.leaves_at.is_some() {
            return;
        }
        let added = sockets.and_then(|sockets| {
            if let Some(receiver) = &sockets.receiver {
                round.epoll.add(receiver, u64::from(self.id), reading())?;
            }
            Ok(sockets)
        });
        match added {
            Ok(sockets) => {
                (self.sockets, self.no_sockets, self.failures) = (Some(sockets), None, 0);
                self.tick(round);
            }
            Err(e) => {
                let why = format!("BFD has no sockets at {}: {e}", self.wanted.ends.local);
                if self.no_sockets.as_ref() != Some(&why) {
                    self.say(&why, round);
                }
                (self.no_sockets, self.port) = (Some(why), port);
                let wait = (RETRY << self.failures.min(3)).min(RETRY_MOST);
                self.failures += 1;
                self.opens_at = Some(round.now.saturating_add(wait));
            }
        }
    }

    /// Takes the packets that have come.
    pub(super) fn receive(&mut self, round: &mut Round<'_>) {
        let mut buffer = [0; LONGEST];
        while let Some(receiver) = self.sockets.as_ref().and_then(|sockets| sockets.receiver.as_ref()) {
            if self.reading.left(round.now) == 0 {
                self.rests = true;
                _ = round.epoll.change(receiver, u64::from(self.id), Interest::default());
                break;
            }
            let Ok(datagram) = socket::receive(receiver, &mut buffer) else { break };
            self.reading.spend(1);
            // RFC 5881 section 5: one with another TTL was forwarded.
            let is_near = datagram.ttl == Some(u8::MAX) && datagram.from == self.wanted.ends.peer;
            let Some(bytes) = buffer.get(..datagram.length).filter(|_| is_near) else { continue };
            self.hear(bytes, round);
        }
        self.tick(round);
    }

    fn hear(&mut self, bytes: &[u8], round: &Round<'_>) {
        if let Ok(change) = self.session.receive(bytes, round.now) {
            self.heard_at = round.now;
            change.into_iter().for_each(|change| self.note(change, round));
        }
    }

    /// Time has passed.
    pub(super) fn due(&mut self, round: &mut Round<'_>) {
        if self.opens_at.is_some_and(|at| at <= round.now) {
            self.open(round);
        }
        if self.rests && self.reading.left(round.now) >= AGAIN {
            self.rests = false;
            if let Some(receiver) = self.sockets.as_ref().and_then(|sockets| sockets.receiver.as_ref()) {
                _ = round.epoll.change(receiver, u64::from(self.id), reading());
            }
            // First what has come, then whether there was silence.
            return self.receive(round);
        }
        if self.forgets_at().is_some_and(|at| at <= round.now) {
            let seconds = FORGOTTEN / SECOND;
            self.say(&format!("BFD: silent for {seconds} s, so the peer may have no BFD any more"), round);
            self.session = Session::new(Config::new(round.dice.discriminator()));
            self.was_up = false;
            self.since = round.now;
        }
        self.tick(round);
    }

    /// When [`Link::due`] is to be called.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let session = self.sockets.as_ref().and_then(|_| self.session.deadline());
        let rest = self.rests.then(|| self.reading.ready_at(AGAIN));
        [session, rest, self.opens_at, self.leaves_at, self.forgets_at()].into_iter().flatten().min()
    }

    /// True if there is nothing left of it.
    pub(super) fn is_gone(&self, now: Nanos) -> bool {
        self.leaves_at.is_some_and(|at| at <= now)
    }

    /// Turns it off for good. It says so for a while, if anybody has listened.
    pub(super) fn leave(&mut self, round: &mut Round<'_>) {
        self.session.admin_down();
        self.opens_at = None;
        let says = self.session.peer_heard() && self.sockets.is_some();
        self.tick(round);
        self.leaves_at = Some(if says { round.now.saturating_add(FAREWELL) } else { round.now });
        self.sockets.iter_mut().for_each(|sockets| sockets.receiver = None);
    }

    /// Sends what is due, and tells what has become of the link.
    fn tick(&mut self, round: &mut Round<'_>) {
        for _ in 0..AT_ONCE {
            let Some(sockets) = &self.sockets else { break };
            if self.session.deadline().is_none_or(|at| at > round.now) {
                break;
            }
            let (packet, change) = self.session.tick(round.now, round.dice.roll());
            // One that cannot be sent is one that is lost on the way.
            packet.into_iter().for_each(|packet| _ = sockets.sender.send(&packet));
            change.into_iter().for_each(|change| self.note(change, round));
        }
        if self.session.remote().0 == State::AdminDown {
            self.was_up = false;
        }
        let says = self.verdict();
        if says != self.says {
            self.says = says;
            round.told.say(&self.key, says);
        }
    }

    /// What it has to say of the link now.
    fn verdict(&self) -> Bfd {
        let is_off = [self.session.state(), self.session.remote().0].contains(&State::AdminDown);
        match self.says {
            _ if self.was_up && self.session.holds_down() => Bfd::Down,
            _ if self.session.state() == State::Up => Bfd::Up,
            // It was Down and is forgotten: no word that the peer is alive.
            Bfd::Down | Bfd::Silent if !is_off => Bfd::Silent,
            _ => Bfd::Unused,
        }
    }

    fn forgets_at(&self) -> Option<Nanos> {
        (self.says == Bfd::Down).then(|| self.heard_at.saturating_add(FORGOTTEN))
    }

    fn note(&mut self, change: Change, round: &Round<'_>) {
        self.since = round.now;
        if change.to == State::Up {
            self.was_up = true;
            self.say("BFD session up", round);
        }
        if change.from == State::Up {
            self.downs += 1;
            let why = match change.diagnostic {
                DETECTION_EXPIRED => "nothing was heard for the detection time",
                SIGNALED_DOWN if self.session.remote().0 == State::AdminDown => "the peer has turned it off",
                SIGNALED_DOWN => "the peer says so",
                TURNED_OFF => "turned off",
                _ => "no reason is said",
            };
            self.say(&format!("BFD session down: {why}"), round);
        }
    }

    fn say(&mut self, sentence: &str, round: &Round<'_>) {
        let Some(kept_back) = self.lines.may(round.now) else { return };
        let line = Line {
            key: self.key.0.clone(),
            peer: self.wanted.ends.peer,
            kept_back: (kept_back > 0).then_some(kept_back),
            sentence: sentence.to_owned(),
        };
        // If too many wait to be written it is lost: peers are not to wait for that.
        let _ = round.log.try_send(line);
    }

    /// For people.
    pub(super) fn status(&self, now: Nanos) -> BfdStatus {
        let micros = |time: Nanos| time / 1_000;
        BfdStatus {
            peer: self.wanted.ends.peer,
            state: self.session.state(),
            heard: self.session.peer_heard(),
            since: Duration::from_nanos(now.saturating_sub(self.since)),
            intervals: (
                u32::try_from(micros(self.session.interval())).unwrap_or(u32::MAX),
                micros(self.session.detection_time()),
            ),
            downs: self.downs,
        }
    }
}

fn reading() -> Interest {
    Interest { read: true, write: false }
}

#[cfg(test)]
mod tests;
