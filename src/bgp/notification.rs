//! NOTIFICATION: why a session ends (RFC 4271 section 4.5 and 6; Cease: RFC 4486, 9003).

use std::fmt;

use super::Family;
use super::bytes::Bytes;
use super::message::{HEADER, Kind, LONGEST, message};

/// The longest text that we send with a Cease, in bytes: speakers of RFC 8203 read no more.
const TEXT: usize = 128;

/// Why a session ends, as one side tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The kind of error.
    pub code: u8,
    /// The error; 0 is none in particular.
    pub subcode: u8,
    /// What belongs to it.
    pub data: Vec<u8>,
}

/// Why a session ends without an error (code 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cease {
    /// More prefixes than the limit.
    Prefixes = 1,
    /// Somebody shut the session down.
    Shutdown = 2,
    /// The peer is not configured any more.
    Deconfigured = 3,
    /// The session begins anew.
    Reset = 4,
    /// No connection is taken now.
    Rejected = 5,
    /// Another change of the configuration.
    Changed = 6,
    /// Of two connections the other one stays.
    Collision = 7,
    /// BFD says that the link is down (RFC 9384).
    BfdDown = 10,
}

impl Notification {
    /// One of this code and subcode.
    pub fn new(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification { code, subcode, data: data.to_vec() }
    }

    /// Message Header Error (1).
    pub fn header(subcode: u8, data: &[u8]) -> Notification {
        Notification::new(1, subcode, data)
    }

    /// OPEN Message Error (2).
    pub fn open(subcode: u8, data: &[u8]) -> Notification {
        Notification::new(2, subcode, data)
    }

    /// UPDATE Message Error (3).
    pub fn update(subcode: u8, data: &[u8]) -> Notification {
        Notification::new(3, subcode, data)
    }

    /// Hold Timer Expired (4).
    pub fn hold() -> Notification {
        Notification::new(4, 0, &[])
    }

    /// Finite State Machine Error (5): this message in OpenSent (1), OpenConfirm (2) or Established (3).
    pub fn unexpected(subcode: u8, kind: Kind) -> Notification {
        Notification::new(5, subcode, &[kind as u8])
    }

    /// Cease (6), with a text for people where one belongs.
    pub fn cease(cease: Cease, text: &str) -> Notification {
        let mut data = Vec::new();
        if matches!(cease, Cease::Shutdown | Cease::Reset) {
            let text = &text[..text.floor_char_boundary(TEXT)];
            data.push(text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        }
        Notification::new(6, cease as u8, &data)
    }

    /// Cease, Maximum Number of Prefixes Reached (6/1).
    pub fn too_many(family: Family, limit: u32) -> Notification {
        let mut data = family.afi().to_be_bytes().to_vec();
        data.push(super::UNICAST);
        data.extend_from_slice(&limit.to_be_bytes());
        Notification::new(6, Cease::Prefixes as u8, &data)
    }

    /// True of a Cease of this kind.
    pub fn is(&self, cease: Cease) -> bool {
        self.code == 6 && self.subcode == cease as u8
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let most = LONGEST - HEADER - 2;
        let data = self.data.get(..most).unwrap_or(&self.data);
        message(Kind::Notification, &[&[self.code, self.subcode], data])
    }

    /// Reads what stands behind the header.
    pub fn decode(body: &[u8]) -> Option<Notification> {
        let mut bytes = Bytes(body);
        Some(Notification { code: bytes.u8()?, subcode: bytes.u8()?, data: bytes.0.to_vec() })
    }

    /// The text for people that came with a shutdown or reset, without what could harm a terminal or a log.
    pub fn text(&self) -> Option<String> {
        if !self.is(Cease::Shutdown) && !self.is(Cease::Reset) {
            return None;
        }
        let text = std::str::from_utf8(Bytes(&self.data).short()?).ok()?;
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    }

    /// The names of the code and of the subcode; empty if it has none.
    fn names(&self) -> (&'static str, &'static str) {
        let (code, subcodes): (_, &[&str]) = match self.code {
            1 => (
                "Message Header Error",
                &["Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
            ),
            2 => (
                "OPEN Message Error",
                &[
                    "Unsupported Version Number",
                    "Bad Peer AS",
                    "Bad BGP Identifier",
                    "Unsupported Optional Parameter",
                    "",
                    "Unacceptable Hold Time",
                    "Unsupported Capability",
                ],
            ),
            3 => (
                "UPDATE Message Error",
                &[
                    "Malformed Attribute List",
                    "Unrecognized Well-known Attribute",
                    "Missing Well-known Attribute",
                    "Attribute Flags Error",
                    "Attribute Length Error",
                    "Invalid ORIGIN Attribute",
                    "",
                    "Invalid NEXT_HOP Attribute",
                    "Optional Attribute Error",
                    "Invalid Network Field",
                    "Malformed AS_PATH",
                ],
            ),
            4 => ("Hold Timer Expired", &[]),
            5 => (
                "Finite State Machine Error",
                &[
                    "Unexpected Message in OpenSent",
                    "Unexpected Message in OpenConfirm",
                    "Unexpected Message in Established",
                ],
            ),
            6 => (
                "Cease",
                &[
                    "Maximum Number of Prefixes Reached",
                    "Administrative Shutdown",
                    "Peer De-configured",
                    "Administrative Reset",
                    "Connection Rejected",
                    "Other Configuration Change",
                    "Connection Collision Resolution",
                    "Out of Resources",
                    "Hard Reset",
                    "BFD Down",
                ],
            ),
            7 => ("ROUTE-REFRESH Message Error", &["Invalid Message Length"]),
            _ => ("", &[]),
        };
        (code, usize::from(self.subcode).checked_sub(1).and_then(|n| subcodes.get(n)).unwrap_or(&""))
    }
}

impl fmt::Display for Notification {
    /// `Cease / Administrative Shutdown (6/2): the text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.names();
        match (code, subcode) {
            ("", _) => f.write_str("error")?,
            (code, "") => f.write_str(code)?,
            (code, subcode) => write!(f, "{code} / {subcode}")?,
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        self.text().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_come_back_and_are_told() {
        let shown = [
            (Notification::header(2, &[0, 7]), "Message Header Error / Bad Message Length (1/2)"),
            (Notification::open(2, &[]), "OPEN Message Error / Bad Peer AS (2/2)"),
            (Notification::update(0, &[]), "UPDATE Message Error (3/0)"),
            (Notification::hold(), "Hold Timer Expired (4/0)"),
            (
                Notification::unexpected(1, Kind::Update),
                "Finite State Machine Error / Unexpected Message in OpenSent (5/1)",
            ),
            (Notification::too_many(Family::V4, 4000), "Cease / Maximum Number of Prefixes Reached (6/1)"),
            (
                Notification::cease(Cease::Shutdown, "moved\nto rack 7"),
                "Cease / Administrative Shutdown (6/2): moved to rack 7",
            ),
            (Notification::new(9, 200, &[1]), "error (9/200)"),
        ];
        for (notification, text) in shown {
            let bytes = notification.encode();
            assert_eq!(Notification::decode(&bytes[HEADER..]).as_ref(), Some(&notification));
            assert_eq!(notification.to_string(), text);
        }
        assert_eq!(Notification::too_many(Family::V6, 100).data, [0, 2, 1, 0, 0, 0, 100]);
        assert_eq!(Notification::decode(&[6]), None);
    }

    #[test]
    fn texts_are_cut_between_characters_and_broken_ones_are_not_shown() {
        let long = Notification::cease(Cease::Reset, &"ü".repeat(100));
        assert_eq!((long.data[0], long.data.len()), (128, 129));
        assert_eq!(long.text().map(|t| t.chars().count()), Some(64));
        for data in [&[][..], &[0], &[5, b'a'], &[2, 0xff, 0xfe], &[1, 0]] {
            assert_eq!(Notification::new(6, 2, data).text(), None, "{data:?}");
        }
        let all = Notification::new(6, 2, &[7; 5000]).encode();
        assert_eq!(all.len(), LONGEST);
    }
}
