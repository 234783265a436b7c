//! Flow tuples, times and ids as Azure writes them.

use std::fmt::Write;
use std::net::IpAddr;

use crate::packet::Direction;
use crate::table::records::{Phase, Traffic};
use crate::types::{Nanos, SECOND};
use crate::wire::protocol;

/// A line of a flow log.
#[derive(Clone, Debug)]
pub(super) struct Tuple {
    /// When, since 1970.
    pub at: Nanos,
    /// Who opened the flow, or sent the denied packet.
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ports: (u16, u16),
    pub protocol: u8,
    pub direction: Direction,
    /// None of a packet that was denied.
    pub phase: Option<Phase>,
    /// From source to destination, since the line before.
    pub there: Traffic,
    pub back: Traffic,
}

impl Tuple {
    /// True if the NSG flow log has it: of no protocols but these two has it a letter.
    pub fn is_tcp_or_udp(&self) -> bool {
        matches!(self.protocol, protocol::TCP | protocol::UDP)
    }

    fn direction(&self) -> char {
        match self.direction {
            Direction::Inbound => 'I',
            Direction::Outbound => 'O',
        }
    }

    fn counts(&self) -> [u64; 4] {
        [self.there.packets, self.there.bytes, self.back.packets, self.back.bytes]
    }

    /// Adds it as version 2 of the NSG flow log has it, between quotes.
    pub fn write_nsg(&self, text: &mut String) {
        let Tuple { source, destination, ports: (from, to), .. } = self;
        let seconds = self.at / SECOND;
        let protocol = if self.protocol == protocol::UDP { 'U' } else { 'T' };
        let (decision, state) = match self.phase {
            None => ('D', 'B'),
            Some(Phase::Begun) => ('A', 'B'),
            Some(Phase::GoesOn) => ('A', 'C'),
            Some(Phase::Ended) => ('A', 'E'),
        };
        let direction = self.direction();
        // Writing to memory cannot fail.
        let _ = write!(
            text,
            "\"{seconds},{source},{destination},{from},{to},{protocol},{direction},{decision},{state},"
        );
        let [packets, bytes, packets_back, bytes_back] = self.counts();
        let _ = match state {
            'B' => write!(text, ",,,\""),
            _ => write!(text, "{packets},{bytes},{packets_back},{bytes_back}\""),
        };
    }

    /// Adds it as version 4 of the VNet flow log has it, between quotes.
    pub fn write_vnet(&self, text: &mut String) {
        let Tuple { source, destination, protocol, .. } = self;
        let milliseconds = self.at / (SECOND / 1000);
        // ICMP's identifier is no port.
        let (from, to) = if self.is_tcp_or_udp() { self.ports } else { (0, 0) };
        let (state, [packets, bytes, packets_back, bytes_back]) = match self.phase {
            None => ('D', [0; 4]),
            Some(Phase::Begun) => ('B', [0; 4]),
            Some(Phase::GoesOn) => ('C', self.counts()),
            Some(Phase::Ended) => ('E', self.counts()),
        };
        let direction = self.direction();
        let _ = write!(
            text,
            "\"{milliseconds},{source},{destination},{from},{to},{protocol},{direction},{state},NX,\
             {packets},{bytes},{packets_back},{bytes_back}\""
        );
    }
}

/// Nanoseconds of an hour.
const HOUR: Nanos = 3600 * SECOND;

/// An hour, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(pub u64);

impl Hour {
    /// The hour of a time since 1970.
    pub fn of(at: Nanos) -> Hour {
        Hour(at / HOUR)
    }

    /// `y=2018/m=11/d=13/h=12/m=00`
    pub fn path(self) -> String {
        let (year, month, day) = date(self.0 / 24);
        format!("y={year:04}/m={month:02}/d={day:02}/h={:02}/m=00", self.0 % 24)
    }

    /// The hour that a path's five components name.
    pub fn parse(parts: [&str; 5]) -> Option<Hour> {
        let [year, month, day, hour, minute] = parts;
        let number = |text: &str, key: &str, digits: usize| -> Option<u64> {
            let text = text.strip_prefix(key)?;
            (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (year, month, day) = (number(year, "y=", 4)?, number(month, "m=", 2)?, number(day, "d=", 2)?);
        let hour = number(hour, "h=", 2).filter(|h| *h < 24)?;
        if minute != "m=00" || year < 1970 {
            return None;
        }
        let days = days(year, month, day);
        (date(days) == (year, month, day)).then_some(Hour(days * 24 + hour))
    }
}

/// `2018-11-13T12:01:35.3918317Z`
pub(super) fn time(at: Nanos) -> String {
    let (seconds, ticks) = (at / SECOND, at % SECOND / 100);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ticks:07}Z")
}

/// Years count from March here, so that a leap day is the last of its year; four hundred of them have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Days since 1970 of a date not before that.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year) = (year / 400, year % 400);
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day;
    (era * 146_097 + year * 365 + year / 4 - year / 100 + of_year).saturating_sub(719_469)
}

/// `000D3AF87856`
pub(super) fn mac(mac: [u8; 6]) -> String {
    let mut text = String::with_capacity(12);
    for byte in mac {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// An id for this that is the same every time: FNV-1a, as a UUID of version 8.
pub(super) fn guid(of: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in of.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    }
    let hash = hash & !(0xf << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let (a, b, c, d, e) = (
        (hash >> 96) as u32,
        (hash >> 80) as u16,
        (hash >> 64) as u16,
        (hash >> 48) as u16,
        hash as u64 & 0xffff_ffff_ffff,
    );
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

/// Bytes of a component of a path at most; file systems allow 255.
const COMPONENT: usize = 200;

/// A name as a component of a path, or several if it is long: none leads elsewhere, and no two names become the same.
/// What is no letter, digit or one of a few signs is written as `%` and two digits; a part that goes on ends with `%`.
pub(super) fn component(name: &str) -> String {
    let written = |dots: bool| {
        let mut text = String::with_capacity(name.len());
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_=".contains(&byte) || byte == b'.' && dots {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    };
    if name.is_empty() {
        return "%empty".to_owned();
    }
    let mut text = written(true);
    // No part may be `.` or `..`.
    if text.len() > COMPONENT || text.bytes().all(|b| b == b'.') {
        text = written(false);
    }
    let mut path = String::with_capacity(text.len());
    for (n, letter) in text.chars().enumerate() {
        if n > 0 && n % COMPONENT == 0 {
            path.push_str("%/");
        }
        path.push(letter);
    }
    path
}

/// The same for an id, which has slashes.
pub(super) fn components(id: &str) -> String {
    let parts: Vec<String> = id.split('/').filter(|p| !p.is_empty()).map(component).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_hours_are_of_the_calendar() {
        assert_eq!(time(1_542_110_495_391_831_700), "2018-11-13T12:01:35.3918317Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.0000000Z");
        for (seconds, path) in [
            (951_782_400_u64, "y=2000/m=02/d=29/h=00/m=00"),
            (951_868_800, "y=2000/m=03/d=01/h=00/m=00"),
            (1_709_251_199, "y=2024/m=02/d=29/h=23/m=00"),
            (1_735_689_599, "y=2024/m=12/d=31/h=23/m=00"),
            (1_735_689_600, "y=2025/m=01/d=01/h=00/m=00"),
            (4_107_542_400, "y=2100/m=03/d=01/h=00/m=00"),
        ] {
            let hour = Hour::of(seconds * SECOND);
            assert_eq!(hour.path(), path);
            let parts: Vec<&str> = path.split('/').collect();
            assert_eq!(Hour::parse(parts.try_into().unwrap()), Some(hour), "{path}");
        }
        for day in 0..60_000 {
            let (y, m, d) = date(day);
            assert_eq!(days(y, m, d), day);
        }
        for wrong in ["y=2025/m=02/d=29/h=00/m=00", "y=2025/m=1/d=01/h=00/m=00", "y=2025/m=01/d=01/h=24/m=00"]
        {
            let parts: Vec<&str> = wrong.split('/').collect();
            assert_eq!(Hour::parse(parts.try_into().unwrap()), None, "{wrong}");
        }
    }

    #[test]
    fn names_stay_where_they_are_put_and_apart() {
        assert_eq!(component("web-nsg_1.a"), "web-nsg_1.a");
        assert_eq!(component(".."), "%2E%2E");
        assert_eq!(component("a/../b\0"), "a%2F..%2Fb%00");
        assert_eq!(component("ä %"), "%C3%A4%20%25");
        assert_eq!(component(""), "%empty");
        let long = component(&"x".repeat(450));
        let parts: Vec<usize> = long.split('/').map(str::len).collect();
        assert_eq!(parts, [201, 201, 50]);
        assert!(!component(&format!("{}..", "x".repeat(200))).contains('.'));
        assert_ne!(component(&"x".repeat(200)), component(&"x".repeat(201)));
        assert_eq!(components("/subscriptions/../a//b"), "subscriptions/%2E%2E/a/b");
    }

    #[test]
    fn guids_are_stable_and_differ() {
        let one = guid("a");
        assert_eq!(one, guid("a"));
        assert_ne!(one, guid("b"));
        assert_eq!(one.len(), 36);
        assert_eq!((one.as_bytes()[14], b"89ab".contains(&one.as_bytes()[19])), (b'8', true));
    }
}
