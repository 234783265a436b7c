//! The control packet (RFC 5880 section 4.1).
//!
//! ```text
//!  |Vers | Diag    |Sta|P|F|C|A|D|M| Detect Mult | Length |
//!  | My Discriminator           | Your Discriminator      |
//!  | Desired Min TX | Required Min RX | Required Min Echo RX |
//! ```

/// Length of a packet without authentication, in bytes: of every one that we send.
pub const LENGTH: usize = 24;

/// Length at least of a packet with authentication, in bytes.
const AUTHENTICATED: usize = 26;

const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// Diagnostic: nothing is wrong.
pub const NO_DIAGNOSTIC: u8 = 0;
/// Diagnostic: nothing was heard for the detection time.
pub const DETECTION_EXPIRED: u8 = 1;
/// Diagnostic: the other end said that the session is down.
pub const SIGNALED_DOWN: u8 = 3;
/// Diagnostic: turned off by an administrator.
pub const TURNED_OFF: u8 = 7;

/// The state of a session, as packets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Turned off by an administrator: says nothing about the link.
    AdminDown = 0,
    /// The other end is not heard, or does not hear us, or has just begun.
    Down = 1,
    /// The other end is heard, and is Down as far as it has said.
    Init = 2,
    /// Each hears the other.
    Up = 3,
}

impl State {
    /// Its name, for a person and for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        }
    }
}

/// Why a packet was discarded (RFC 5880 section 6.8.6), in the order in which it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The version is not 1.
    Version,
    /// The Length field is below 24, or below 26 with authentication.
    Length,
    /// There are fewer bytes than the Length field says, or not even a Length field.
    Truncated,
    /// The Detect Mult field is 0.
    Multiplier,
    /// The Multipoint bit is set.
    Multipoint,
    /// The My Discriminator field is 0.
    MyDiscriminator,
    /// The Your Discriminator field names another session.
    YourDiscriminator,
    /// The Your Discriminator field is 0, but the state is Init or Up.
    State,
    /// The packet is authenticated, and we are not.
    Authentication,
}

impl Refused {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Refused; 9] = [
        Refused::Version,
        Refused::Length,
        Refused::Truncated,
        Refused::Multiplier,
        Refused::Multipoint,
        Refused::MyDiscriminator,
        Refused::YourDiscriminator,
        Refused::State,
        Refused::Authentication,
    ];

    /// The name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Version => "version",
            Refused::Length => "length",
            Refused::Truncated => "truncated",
            Refused::Multiplier => "multiplier",
            Refused::Multipoint => "multipoint",
            Refused::MyDiscriminator => "my-discriminator",
            Refused::YourDiscriminator => "your-discriminator",
            Refused::State => "state",
            Refused::Authentication => "authentication",
        }
    }
}

/// What a control packet says; times are in microseconds, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's state last changed, 0 to 31.
    pub diagnostic: u8,
    /// The sender's state.
    pub state: State,
    /// An answer is wanted at once.
    pub poll: bool,
    /// This is that answer.
    pub is_final: bool,
    /// The sender's BFD goes on when its control plane does not.
    pub independent: bool,
    /// An authentication section follows.
    pub authenticated: bool,
    /// The sender wants no periodic packets while both are Up.
    pub demand: bool,
    /// After so many missing packets the sender is gone.
    pub multiplier: u8,
    /// The sender's name for the session.
    pub my_discriminator: u32,
    /// The receiver's name for it; 0 as long as the sender does not know it.
    pub your_discriminator: u32,
    /// The sender would not send more often than this.
    pub desired_min_tx: u32,
    /// The sender cannot receive more often than this; 0: it wants nothing periodic.
    pub required_min_rx: u32,
    /// The same for echoes; 0: it does not send them back.
    pub required_min_echo_rx: u32,
}

impl Packet {
    /// Reads the payload of a UDP datagram; bytes beyond the Length field mean nothing. Checks what needs no session.
    pub fn parse(payload: &[u8]) -> Result<Packet, Refused> {
        let byte = |at: usize| payload.get(at).copied().ok_or(Refused::Truncated);
        if byte(0)? >> 5 != VERSION {
            return Err(Refused::Version);
        }
        let length = usize::from(byte(3)?);
        let bits = byte(1)?;
        let authenticated = bits & AUTHENTICATION != 0;
        if length < if authenticated { AUTHENTICATED } else { LENGTH } {
            return Err(Refused::Length);
        }
        let Some(header) = payload.first_chunk::<LENGTH>().filter(|_| payload.len() >= length) else {
            return Err(Refused::Truncated);
        };
        let word = |n: usize| {
            let at = 4 * n;
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[2] == 0 {
            return Err(Refused::Multiplier);
        }
        if bits & MULTIPOINT != 0 {
            return Err(Refused::Multipoint);
        }
        if word(1) == 0 {
            return Err(Refused::MyDiscriminator);
        }
        Ok(Packet {
            diagnostic: header[0] & 0x1f,
            state: match bits >> 6 {
                0 => State::AdminDown,
                1 => State::Down,
                2 => State::Init,
                _ => State::Up,
            },
            poll: bits & POLL != 0,
            is_final: bits & FINAL != 0,
            independent: bits & INDEPENDENT != 0,
            authenticated,
            demand: bits & DEMAND != 0,
            multiplier: header[2],
            my_discriminator: word(1),
            your_discriminator: word(2),
            desired_min_tx: word(3),
            required_min_rx: word(4),
            required_min_echo_rx: word(5),
        })
    }

    /// The packet on the wire. It has no authentication section, so that bit is not set.
    pub fn bytes(&self) -> [u8; LENGTH] {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION << 5 | self.diagnostic & 0x1f;
        bytes[1] = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.independent, INDEPENDENT)
            | bit(self.demand, DEMAND);
        bytes[2] = self.multiplier;
        bytes[3] = LENGTH as u8;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}
