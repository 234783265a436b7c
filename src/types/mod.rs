//! Small values used everywhere: prefixes and packet time. They know no protocol and no customer.

mod prefix;

pub use prefix::{Prefix, PrefixError};

/// Packet time: nanoseconds since 1970-01-01 UTC, as the capture or the receiving device gave it.
pub type Nanos = u64;

/// Nanoseconds in one second.
pub const SECOND: Nanos = 1_000_000_000;

/// Decimal seconds, such as 2.5, as nanoseconds; exact, so with nine digits at most behind the point.
pub fn nanos_of(seconds: &str) -> Option<Nanos> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: Nanos = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<Nanos>().ok()?.checked_mul(SECOND)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (text, ns) in [("0", 0), ("2.5", 2_500_000_000), ("0.000000001", 1), ("10.10", 10_100_000_000)] {
            assert_eq!(nanos_of(text), Some(ns), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000001", "99999999999999999999", "18446744074"]
        {
            assert_eq!(nanos_of(text), None, "{text}");
        }
    }
}
