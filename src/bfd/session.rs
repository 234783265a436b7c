//! One session (RFC 5880 section 6.8), without a socket and a clock.

use std::num::NonZeroU32;

use super::packet::{
    DETECTION_EXPIRED, LENGTH, NO_DIAGNOSTIC, Packet, Refused, SIGNALED_DOWN, State, TURNED_OFF,
};
use crate::types::Nanos;

/// Nanoseconds in a microsecond, in which packets say times.
const MICROSECOND: Nanos = 1_000;

/// While not Up a session sends no more often than this, in microseconds (section 6.8.3).
const SLOW: u32 = 1_000_000;

/// What a session wants of the other end. The slower side decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our name for the session: no other session of this machine has it, and best none has had it lately.
    pub local_discriminator: NonZeroU32,
    /// How often we would send at most, in microseconds; 0 counts as 1.
    pub desired_min_tx: u32,
    /// How often we can receive at most, in microseconds; 0 counts as 1.
    pub required_min_rx: u32,
    /// After so many missing packets of ours the other end takes us for gone; 0 counts as 1.
    pub multiplier: u8,
}

impl Config {
    /// 300 ms in both directions, three times: what circuits have.
    pub fn new(local_discriminator: NonZeroU32) -> Config {
        Config { local_discriminator, desired_min_tx: 300_000, required_min_rx: 300_000, multiplier: 3 }
    }
}

/// That the state of a session is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why (RFC 5880 section 4.1).
    pub diagnostic: u8,
}

/// How far we are with telling the other end of a changed interval (section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    /// It knows.
    Done,
    /// It was not asked yet, so whatever it answers is not about this.
    Wanted,
    /// It was asked.
    Sent,
}

/// What the other end has said. Of one that was never heard: what section 6.8.1 says.
#[derive(Clone, Copy, Debug)]
struct Remote {
    /// Its name for the session; 0 if it has not been heard for a detection time.
    discriminator: u32,
    state: State,
    diagnostic: u8,
    demand: bool,
    multiplier: u8,
    desired_min_tx: u32,
    required_min_rx: u32,
}

/// A session with the other end of one link. It takes the active role: it speaks whether or not it is spoken to.
///
/// Time is [`Nanos`] of any clock. It should not go back; if it does, no time has passed. After a pause hand over first what
/// has arrived meanwhile, then tick: silence is judged by tick alone.
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    state: State,
    diagnostic: u8,
    remote: Remote,
    poll: Poll,
    /// A Poll was received and not answered yet.
    answer: bool,
    /// The latest time that we were told.
    now: Nanos,
    /// When the other end was last heard, if ever.
    heard: Option<Nanos>,
    /// When we last sent a packet other than an answer, and how much earlier than the interval says the next one goes, in
    /// 2^-32 of the interval.
    sent: Option<(Nanos, u32)>,
    /// What the last packet said.
    said: Option<Packet>,
}

impl Session {
    /// A session that is Down and has yet to speak.
    pub fn new(config: Config) -> Session {
        let config = Config {
            desired_min_tx: config.desired_min_tx.max(1),
            required_min_rx: config.required_min_rx.max(1),
            multiplier: config.multiplier.max(1),
            ..config
        };
        Session {
            config,
            state: State::Down,
            diagnostic: NO_DIAGNOSTIC,
            remote: Remote {
                discriminator: 0,
                state: State::Down,
                diagnostic: NO_DIAGNOSTIC,
                demand: false,
                multiplier: 1,
                desired_min_tx: SLOW,
                required_min_rx: 1,
            },
            poll: Poll::Done,
            answer: false,
            now: 0,
            heard: None,
            sent: None,
            said: None,
        }
    }

    /// Takes the payload of a datagram that came on this link to UDP port 3784 with TTL 255 (section 6.8.6).
    pub fn receive(&mut self, payload: &[u8], now: Nanos) -> Result<Option<Change>, Refused> {
        self.pass(now);
        let packet = Packet::parse(payload)?;
        if packet.your_discriminator == 0 {
            if !matches!(packet.state, State::Down | State::AdminDown) {
                return Err(Refused::State);
            }
        } else if packet.your_discriminator != self.config.local_discriminator.get() {
            return Err(Refused::YourDiscriminator);
        }
        if packet.authenticated {
            return Err(Refused::Authentication);
        }
        self.remote = Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            multiplier: packet.multiplier,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
        };
        self.heard = Some(self.now);
        if packet.is_final && self.poll == Poll::Sent {
            self.poll = Poll::Done;
        }
        if self.state == State::AdminDown {
            return Ok(None);
        }
        self.answer |= packet.poll;
        let (to, diagnostic) = match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                (State::Down, SIGNALED_DOWN)
            }
            (State::Down, State::Down) => (State::Init, self.diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => (State::Up, NO_DIAGNOSTIC),
            _ => return Ok(None),
        };
        Ok(self.turn(to, diagnostic))
    }

    /// Says what is to be sent now, and notices silence. The number is random: it spreads the packets in time. One packet at a
    /// time: to be asked again as long as [`Session::deadline`] is not later than now.
    pub fn tick(&mut self, now: Nanos, random: u32) -> (Option<[u8; LENGTH]>, Option<Change>) {
        self.pass(now);
        let change = self.listen();
        let packet = self.packet();
        if self.answer {
            self.answer = false;
            self.said = Some(packet);
            return (Some(Packet { is_final: true, ..packet }.bytes()), change);
        }
        if self.said == Some(packet) && self.next().is_none_or(|next| next > self.now) {
            return (None, change);
        }
        self.said = Some(packet);
        self.sent = Some((self.now, self.jitter(random)));
        let poll = self.poll != Poll::Done;
        if poll {
            self.poll = Poll::Sent;
        }
        (Some(Packet { poll, ..packet }.bytes()), change)
    }

    /// When tick has something to do; a time that is over means at once.
    pub fn deadline(&self) -> Option<Nanos> {
        if self.answer || self.said != Some(self.packet()) {
            return Some(self.now);
        }
        self.silent_at().into_iter().chain(self.next()).min()
    }

    /// Turns the session off (section 6.8.16): it is no verdict on the link any more. It goes on saying so when ticked, at least
    /// for a detection time, so that the other end does not take the link for dead.
    pub fn admin_down(&mut self) -> Option<Change> {
        self.answer = false;
        self.turn(State::AdminDown, TURNED_OFF)
    }

    /// Turns the session on again.
    pub fn admin_up(&mut self) -> Option<Change> {
        if self.state == State::AdminDown { self.turn(State::Down, NO_DIAGNOSTIC) } else { None }
    }

    /// True once a packet of the other end was accepted, for good. Before that nothing is known of the link: the other end
    /// may not speak BFD at all, and the link must not be down for that.
    pub fn peer_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// True if the link must not carry: the other end speaks BFD and the session is not Up, unless either side has turned it
    /// off, which is no failure (RFC 5882 section 3.2).
    pub fn holds_down(&self) -> bool {
        let is_off = self.state == State::AdminDown || self.remote.state == State::AdminDown;
        self.peer_heard() && self.state != State::Up && !is_off
    }

    /// Our state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why our state last changed.
    pub fn diagnostic(&self) -> u8 {
        self.diagnostic
    }

    /// The state and diagnostic that the other end last said.
    pub fn remote(&self) -> (State, u8) {
        (self.remote.state, self.remote.diagnostic)
    }

    /// The discriminators, ours and the other end's; 0 while that is not known.
    pub fn discriminators(&self) -> (u32, u32) {
        (self.config.local_discriminator.get(), self.remote.discriminator)
    }

    /// How often we send, before jitter (section 6.8.7).
    pub fn interval(&self) -> Nanos {
        Nanos::from(self.desired_min_tx().max(self.remote.required_min_rx)) * MICROSECOND
    }

    /// How long the other end may be silent (section 6.8.4).
    pub fn detection_time(&self) -> Nanos {
        let between = self.config.required_min_rx.max(self.remote.desired_min_tx);
        Nanos::from(between) * Nanos::from(self.remote.multiplier) * MICROSECOND
    }

    /// Moves to `now`. A clock that has gone back has not moved: what lies behind is as long ago as it was.
    fn pass(&mut self, now: Nanos) {
        let back = self.now.saturating_sub(now);
        if back > 0 {
            self.heard = self.heard.map(|at| at.saturating_sub(back));
            self.sent = self.sent.map(|(at, jitter)| (at.saturating_sub(back), jitter));
        }
        self.now = now;
    }

    fn turn(&mut self, to: State, diagnostic: u8) -> Option<Change> {
        let from = self.state;
        if from == to {
            return None;
        }
        let before = self.desired_min_tx();
        self.state = to;
        self.diagnostic = diagnostic;
        if self.desired_min_tx() != before {
            self.poll = Poll::Wanted;
        }
        Some(Change { from, to, diagnostic })
    }

    /// Notices that the other end is silent.
    fn listen(&mut self) -> Option<Change> {
        if self.silent_at().is_none_or(|at| at > self.now) {
            return None;
        }
        // It may have forgotten us: section 6.8.1, bfd.RemoteDiscr.
        self.remote.discriminator = 0;
        match self.state {
            State::Init | State::Up => self.turn(State::Down, DETECTION_EXPIRED),
            State::Down | State::AdminDown => None,
        }
    }

    /// When the other end will have been silent for too long.
    fn silent_at(&self) -> Option<Nanos> {
        let heard = self.heard.filter(|_| self.remote.discriminator != 0)?;
        Some(heard.saturating_add(self.detection_time()))
    }

    fn desired_min_tx(&self) -> u32 {
        let slow = if self.state == State::Up { 0 } else { SLOW };
        self.config.desired_min_tx.max(slow)
    }

    /// When the next periodic packet is due, if the other end wants any (section 6.8.7).
    fn next(&self) -> Option<Nanos> {
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let is_demand = self.remote.demand && both_up && self.poll == Poll::Done;
        if is_demand || self.remote.required_min_rx == 0 {
            return None;
        }
        // From the interval as it is now: a shorter one holds at once.
        let earlier = |jitter: u32| ((u128::from(self.interval()) * u128::from(jitter)) >> 32) as Nanos;
        Some(self.sent.map_or(self.now, |(at, jitter)| at.saturating_add(self.interval() - earlier(jitter))))
    }

    /// By how much the interval is shortened, in 2^-32 of it: up to 25 %, and with multiplier 1 at least 10 %.
    fn jitter(&self, random: u32) -> u32 {
        let parts_of_100 = |parts: u32| (u64::from(u32::MAX) * u64::from(parts) / 100) as u32;
        let least = if self.config.multiplier == 1 { parts_of_100(10) + 1 } else { 0 };
        let span = u64::from(parts_of_100(25) - least);
        least + ((span * u64::from(random)) >> 32) as u32
    }

    /// What we say now, but for Poll and Final.
    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: false,
            is_final: false,
            independent: false,
            authenticated: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.config.local_discriminator.get(),
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.required_min_rx,
            required_min_echo_rx: 0,
        }
    }
}
