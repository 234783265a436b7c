//! Messages but for UPDATE: where one begins and ends, OPEN with its capabilities, KEEPALIVE, ROUTE-REFRESH.

use std::net::Ipv4Addr;

use super::bytes::Bytes;
use super::{AS_TRANS, Family, Notification, UNICAST};

/// Bytes in front of every message: marker, length, kind.
pub const HEADER: usize = 19;

/// The longest message, in bytes.
pub const LONGEST: usize = 4096;

const VERSION: u8 = 4;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// OPEN.
    Open = 1,
    /// UPDATE.
    Update = 2,
    /// NOTIFICATION.
    Notification = 3,
    /// KEEPALIVE.
    Keepalive = 4,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh = 5,
}

/// The first message of received bytes; `None` until all of it is there. Faults of its header: RFC 4271 section 6.1.
pub fn first(received: &[u8]) -> Result<Option<(Kind, &[u8])>, Notification> {
    let mut bytes = Bytes(received);
    let (Some(marker), Some(length), Some(kind)) = (bytes.take(16), bytes.u16(), bytes.u8()) else {
        return Ok(None);
    };
    if marker != [0xff; 16] {
        return Err(Notification::header(1, &[]));
    }
    let bad_length = Notification::header(2, &length.to_be_bytes());
    let length = usize::from(length);
    if !(HEADER..=LONGEST).contains(&length) {
        return Err(bad_length);
    }
    let (kind, allowed) = match kind {
        1 => (Kind::Open, 29..=LONGEST),
        2 => (Kind::Update, 23..=LONGEST),
        3 => (Kind::Notification, 21..=LONGEST),
        4 => (Kind::Keepalive, HEADER..=HEADER),
        5 => (Kind::RouteRefresh, 23..=23),
        other => return Err(Notification::header(3, &[other])),
    };
    if !allowed.contains(&length) {
        return Err(bad_length);
    }
    Ok(bytes.take(length - HEADER).map(|body| (kind, body)))
}

/// A message of these parts. They must not be longer than a message can be.
pub(super) fn message(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let length = HEADER + parts.iter().map(|p| p.len()).sum::<usize>();
    debug_assert!(length <= LONGEST);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&[0xff; 16]);
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.push(kind as u8);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    message(Kind::Keepalive, &[])
}

/// ROUTE-REFRESH of a family.
pub fn route_refresh(family: Family) -> Vec<u8> {
    let [high, low] = family.afi().to_be_bytes();
    message(Kind::RouteRefresh, &[&[high, low, 0, UNICAST]])
}

/// The family of a ROUTE-REFRESH, if it is one of ours.
pub fn refreshed(body: &[u8]) -> Option<Family> {
    let mut bytes = Bytes(body);
    let (afi, _, safi) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
    Family::of(afi, safi)
}

/// Graceful restart, as a speaker announces it (RFC 4724 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// It has just restarted.
    pub restarting: bool,
    /// How long it takes at most to come back, in seconds: at most 4095.
    pub seconds: u16,
    /// The families that it keeps forwarding for, and whether it has done so through the last restart.
    pub families: Vec<(Family, bool)>,
}

/// OPEN (RFC 4271 section 4.2, RFC 5492).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The AS number, of up to four octets if the speaker knows such.
    pub asn: u32,
    /// In seconds; 0: no keepalives.
    pub hold_time: u16,
    /// The BGP identifier.
    pub identifier: Ipv4Addr,
    /// Families that are announced; `None` if multiprotocol is not spoken, which is IPv4.
    pub families: Option<Vec<Family>>,
    /// It speaks four-octet AS numbers.
    pub four_octet: bool,
    /// It takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Graceful restart.
    pub restart: Option<Restart>,
}

impl Open {
    /// True if the family may be exchanged.
    pub fn speaks(&self, family: Family) -> bool {
        self.families.as_ref().map_or(family == Family::V4, |families| families.contains(&family))
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut capabilities = Vec::new();
        for family in self.families.iter().flatten() {
            capabilities.extend_from_slice(&multiprotocol(*family));
        }
        if self.route_refresh {
            capabilities.extend_from_slice(&[2, 0]);
        }
        if let Some(restart) = &self.restart {
            let flags = u16::from(restart.restarting) << 15 | restart.seconds & 0x0fff;
            capabilities.extend_from_slice(&[64, 2 + 4 * restart.families.len() as u8]);
            capabilities.extend_from_slice(&flags.to_be_bytes());
            for (family, preserved) in &restart.families {
                let [high, low] = family.afi().to_be_bytes();
                capabilities.extend_from_slice(&[high, low, UNICAST, u8::from(*preserved) << 7]);
            }
        }
        if self.four_octet {
            capabilities.extend_from_slice(&[65, 4]);
            capabilities.extend_from_slice(&self.asn.to_be_bytes());
        }
        let asn = u16::try_from(self.asn).unwrap_or(AS_TRANS as u16);
        let mut fixed = vec![VERSION];
        fixed.extend_from_slice(&asn.to_be_bytes());
        fixed.extend_from_slice(&self.hold_time.to_be_bytes());
        fixed.extend_from_slice(&self.identifier.octets());
        // Of each family at most two entries, so this is far from 255.
        let length = capabilities.len() as u8;
        let parameter: &[u8] = if length == 0 { &[0] } else { &[length + 2, 2, length] };
        message(Kind::Open, &[&fixed, parameter, &capabilities])
    }

    /// Reads what stands behind the header. Faults: RFC 4271 section 6.2.
    pub fn decode(body: &[u8]) -> Result<Open, Notification> {
        let mut bytes = Bytes(body);
        let fixed = (bytes.u8(), bytes.u16(), bytes.u16(), bytes.u32(), bytes.u8());
        let (Some(version), Some(asn), Some(hold_time), Some(identifier), Some(length)) = fixed else {
            return Err(Notification::open(0, &[]));
        };
        if version != VERSION {
            return Err(Notification::open(1, &u16::from(VERSION).to_be_bytes()));
        }
        let mut open = Open {
            asn: u32::from(asn),
            hold_time,
            identifier: Ipv4Addr::from_bits(identifier),
            families: None,
            four_octet: false,
            route_refresh: false,
            restart: None,
        };
        open.parameters(bytes, length)?;
        // RFC 6793 section 4.1: the short number is the long one, or stands for it.
        let agrees = open.asn == u32::from(asn) || u32::from(asn) == AS_TRANS;
        if !agrees || open.asn == 0 || open.asn == AS_TRANS {
            return Err(Notification::open(2, &[]));
        }
        if identifier == 0 {
            return Err(Notification::open(3, &[]));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::open(6, &[]));
        }
        Ok(open)
    }

    /// Optional parameters behind their length, which is of one byte, or of two (RFC 9072).
    fn parameters(&mut self, mut bytes: Bytes<'_>, length: u8) -> Result<(), Notification> {
        let malformed = || Notification::open(0, &[]);
        let extended = length == 255 && bytes.0.first() == Some(&255);
        let length = if extended {
            bytes.u8();
            bytes.u16().ok_or_else(malformed)?
        } else {
            u16::from(length)
        };
        if bytes.0.len() != usize::from(length) {
            return Err(malformed());
        }
        while let Some(kind) = bytes.u8() {
            let value = if extended { bytes.long() } else { bytes.short() };
            let mut value = Bytes(value.ok_or_else(malformed)?);
            if kind != 2 {
                return Err(Notification::open(4, &[]));
            }
            while let Some(code) = value.u8() {
                let capability = value.short().ok_or_else(malformed)?;
                self.capability(code, capability).ok_or_else(malformed)?;
            }
        }
        Ok(())
    }

    /// One capability; `None` if it is not as long as it must be. Of those we do not know nothing is taken.
    fn capability(&mut self, code: u8, value: &[u8]) -> Option<()> {
        let mut bytes = Bytes(value);
        match code {
            1 => {
                let (afi, _, safi) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
                let families = self.families.get_or_insert_default();
                families.extend(Family::of(afi, safi).filter(|family| !families.contains(family)));
            }
            2 => self.route_refresh = true,
            64 => {
                let flags = bytes.u16()?;
                let mut families: Vec<(Family, bool)> = Vec::new();
                while !bytes.is_empty() {
                    let (afi, safi, flags) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
                    let family =
                        Family::of(afi, safi).filter(|f| families.iter().all(|(known, _)| known != f));
                    families.extend(family.map(|family| (family, flags & 0x80 != 0)));
                }
                let (restarting, seconds) = (flags & 0x8000 != 0, flags & 0x0fff);
                self.restart = Some(Restart { restarting, seconds, families });
            }
            65 => {
                self.asn = bytes.u32()?;
                self.four_octet = true;
            }
            _ => return Some(()),
        }
        bytes.is_empty().then_some(())
    }
}

/// The capability of RFC 4760 for a family.
pub(super) fn multiprotocol(family: Family) -> [u8; 6] {
    let [high, low] = family.afi().to_be_bytes();
    [1, 4, high, low, 0, UNICAST]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            asn: 4_200_000_007,
            hold_time: 180,
            identifier: Ipv4Addr::new(192, 0, 2, 1),
            families: Some(vec![Family::V4, Family::V6]),
            four_octet: true,
            route_refresh: true,
            restart: Some(Restart {
                restarting: true,
                seconds: 120,
                families: vec![(Family::V4, true), (Family::V6, false)],
            }),
        }
    }

    #[test]
    fn an_open_comes_back() {
        let plain = Open {
            asn: 65010,
            families: None,
            four_octet: false,
            route_refresh: false,
            restart: None,
            ..open()
        };
        let some =
            Open { restart: Some(Restart::default()), hold_time: 0, families: Some(Vec::new()), ..open() };
        let some = Open { families: None, ..some };
        for open in [open(), plain, some] {
            let bytes = open.encode();
            let (kind, body) = first(&bytes).unwrap().unwrap();
            assert_eq!((kind, Open::decode(body)), (Kind::Open, Ok(open)));
        }
        assert!(!open().families.unwrap().is_empty() && open().speaks(Family::V6));
        assert!(Open { families: None, ..open() }.speaks(Family::V4));
        assert!(!Open { families: None, ..open() }.speaks(Family::V6));
        assert!(!Open { families: Some(vec![Family::V6]), ..open() }.speaks(Family::V4));
    }

    /// The bytes of an OPEN's body: version, AS, hold time, identifier, and parameters with their length.
    fn body(version: u8, asn: u16, hold: u16, identifier: u32, parameters: &[u8]) -> Vec<u8> {
        let mut bytes = vec![version];
        bytes.extend_from_slice(&asn.to_be_bytes());
        bytes.extend_from_slice(&hold.to_be_bytes());
        bytes.extend_from_slice(&identifier.to_be_bytes());
        bytes.extend_from_slice(parameters);
        bytes
    }

    #[test]
    fn faults_of_an_open() {
        let cap = |capability: &[u8]| {
            let length = capability.len() as u8;
            [&[length + 2, 2, length], capability].concat()
        };
        let rows: Vec<(&str, Vec<u8>, Notification)> = vec![
            ("version", body(3, 65010, 180, 7, &[0]), Notification::open(1, &[0, 4])),
            ("AS 0", body(4, 0, 180, 7, &[0]), Notification::open(2, &[])),
            ("AS_TRANS alone", body(4, 23456, 180, 7, &[0]), Notification::open(2, &[])),
            ("two AS", body(4, 65010, 180, 7, &cap(&[65, 4, 0, 0, 0, 7])), Notification::open(2, &[])),
            ("long AS 0", body(4, 23456, 180, 7, &cap(&[65, 4, 0, 0, 0, 0])), Notification::open(2, &[])),
            ("identifier 0", body(4, 65010, 180, 0, &[0]), Notification::open(3, &[])),
            ("hold 1", body(4, 65010, 1, 7, &[0]), Notification::open(6, &[])),
            ("hold 2", body(4, 65010, 2, 7, &[0]), Notification::open(6, &[])),
            ("authentication", body(4, 65010, 180, 7, &[3, 1, 1, 0]), Notification::open(4, &[])),
            ("length too long", body(4, 65010, 180, 7, &[1]), Notification::open(0, &[])),
            ("length too short", body(4, 65010, 180, 7, &[0, 2, 0]), Notification::open(0, &[])),
            ("parameter overrun", body(4, 65010, 180, 7, &[2, 2, 1]), Notification::open(0, &[])),
            ("parameter cut", body(4, 65010, 180, 7, &[1, 2]), Notification::open(0, &[])),
            ("capability overrun", body(4, 65010, 180, 7, &cap(&[65, 9, 1])), Notification::open(0, &[])),
            ("capability cut", body(4, 65010, 180, 7, &cap(&[65])), Notification::open(0, &[])),
            ("short 65", body(4, 65010, 180, 7, &cap(&[65, 2, 0, 1])), Notification::open(0, &[])),
            ("long 1", body(4, 65010, 180, 7, &cap(&[1, 5, 0, 1, 0, 1, 0])), Notification::open(0, &[])),
            ("odd 64", body(4, 65010, 180, 7, &cap(&[64, 3, 0, 1, 0])), Notification::open(0, &[])),
            ("extended cut", body(4, 65010, 180, 7, &[255, 255, 0]), Notification::open(0, &[])),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(Open::decode(&bytes), Err(expected), "{name}");
        }
    }

    #[test]
    fn what_an_open_may_also_be() {
        // Extended parameters of RFC 9072, an unknown capability, several parameters, a family that is not ours.
        let parameters = [255, 255, 0, 21, 2, 0, 6, 1, 4, 0, 1, 0, 1, 2, 0, 9, 1, 4, 0, 1, 0, 128, 200, 1, 9];
        let open = Open::decode(&body(4, 65010, 3, 7, &parameters)).unwrap();
        assert_eq!((open.families, open.hold_time, open.asn), (Some(vec![Family::V4]), 3, 65010));
    }

    #[test]
    fn messages_are_found_in_a_stream() {
        let keepalive = keepalive();
        for end in 0..HEADER {
            assert_eq!(first(&keepalive[..end]), Ok(None));
        }
        let both = [keepalive.clone(), route_refresh(Family::V6)].concat();
        assert_eq!(first(&both), Ok(Some((Kind::Keepalive, &[][..]))));
        let (kind, body) = first(&both[HEADER..]).unwrap().unwrap();
        assert_eq!((kind, refreshed(body)), (Kind::RouteRefresh, Some(Family::V6)));
        assert_eq!(refreshed(&[0, 1, 0, 128]), None);
        let header = |length: u16, kind: u8| {
            let mut bytes = vec![0xff; 16];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.push(kind);
            bytes
        };
        let rows = [
            (header(18, 4), Notification::header(2, &[0, 18])),
            (header(0, 200), Notification::header(2, &[0, 0])),
            (header(4097, 2), Notification::header(2, &[16, 1])),
            (header(20, 4), Notification::header(2, &[0, 20])),
            (header(28, 1), Notification::header(2, &[0, 28])),
            (header(22, 2), Notification::header(2, &[0, 22])),
            (header(20, 3), Notification::header(2, &[0, 20])),
            (header(24, 5), Notification::header(2, &[0, 24])),
            (header(19, 0), Notification::header(3, &[0])),
            (header(19, 6), Notification::header(3, &[6])),
            ([vec![0xff; 15], vec![0xfe, 0, 19, 4]].concat(), Notification::header(1, &[])),
        ];
        for (bytes, expected) in rows {
            assert_eq!(first(&bytes), Err(expected), "{bytes:?}");
        }
        assert_eq!(first(&header(4096, 2)), Ok(None));
    }
}
