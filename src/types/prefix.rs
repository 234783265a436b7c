//! An IP prefix in canonical form: no bit set behind its length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 prefix whose host bits are all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Neither an address nor ADDRESS/LENGTH.
    Syntax,
    /// The length is beyond 32 (IPv4) or 128 (IPv6).
    Length,
    /// Bits are set behind the length; the prefix that was probably meant.
    HostBits(Prefix),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::Syntax => f.write_str("is not an IP prefix such as 10.0.0.0/16 or fd00::/48"),
            PrefixError::Length => {
                f.write_str("has a length beyond the address: at most 32 for IPv4, 128 for IPv6")
            }
            PrefixError::HostBits(p) => write!(f, "has bits set behind its length; {p} would be right"),
        }
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    /// The whole IPv4 space.
    pub const ALL_V4: Prefix = Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    /// The whole IPv6 space.
    pub const ALL_V6: Prefix = Prefix { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };

    /// The prefix of this length that holds `addr`; host bits are cleared, a length beyond the family's is cut to it.
    pub fn new(addr: IpAddr, len: u8) -> Prefix {
        match addr {
            IpAddr::V4(a) => {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Prefix { addr: IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask)), len }
            }
            IpAddr::V6(a) => {
                let len = len.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Prefix { addr: IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask)), len }
            }
        }
    }

    /// The IPv4 prefix `a.b.c.d/len`; for tables written in code.
    pub fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Prefix {
        Prefix::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), len)
    }

    /// The prefix that holds this one address.
    pub fn host(addr: IpAddr) -> Prefix {
        Prefix::new(addr, 128)
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.addr
    }

    /// The last address; of an IPv4 subnet, its broadcast address.
    pub fn last(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(a) => {
                let host = u32::MAX.checked_shr(u32::from(self.len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | host))
            }
            IpAddr::V6(a) => {
                let host = u128::MAX.checked_shr(u32::from(self.len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | host))
            }
        }
    }

    /// The first address behind the network address: Azure's gateway of a subnet.
    pub fn first_usable(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits().wrapping_add(1))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits().wrapping_add(1))),
        }
    }

    /// The second address behind the network's own: of the two ends of a link the far one.
    pub fn second_usable(&self) -> IpAddr {
        match self.first_usable() {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits().wrapping_add(1))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits().wrapping_add(1))),
        }
    }

    /// Length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// True of an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// True of 0.0.0.0/0 and ::/0.
    pub fn is_default(&self) -> bool {
        self.len == 0
    }

    /// True if the address lies inside; never across families.
    pub fn contains(&self, addr: IpAddr) -> bool {
        Prefix::new(addr, self.len).addr == self.addr && addr.is_ipv4() == self.is_ipv4()
    }

    /// True if `other` is this prefix or lies inside it.
    pub fn covers(&self, other: &Prefix) -> bool {
        other.len >= self.len && self.contains(other.addr)
    }

    /// True if the two share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `ADDRESS/LENGTH`, or an address alone as a prefix of one address. Host bits are an error.
    fn from_str(s: &str) -> Result<Prefix, PrefixError> {
        let (addr, len) = match s.split_once('/') {
            None => (s, None),
            Some((addr, len)) => (addr, Some(len)),
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Syntax)?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let len = match len {
            None => max,
            Some(text) => {
                if text.is_empty() || text.len() > 3 || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(PrefixError::Syntax);
                }
                match text.parse::<u16>() {
                    Ok(n) if n <= u16::from(max) => n as u8,
                    _ => return Err(PrefixError::Length),
                }
            }
        };
        let prefix = Prefix::new(addr, len);
        if prefix.addr == addr { Ok(prefix) } else { Err(PrefixError::HostBits(prefix)) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_canonical_prefixes() {
        assert_eq!("10.1.0.0/16".parse::<Prefix>().unwrap().to_string(), "10.1.0.0/16");
        assert_eq!("10.1.2.3".parse::<Prefix>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("::/0".parse(), Ok(Prefix::ALL_V6));
        assert_eq!("10.1.2.3/16".parse::<Prefix>(), Err(PrefixError::HostBits(Prefix::v4(10, 1, 0, 0, 16))));
        assert_eq!("10.1.2.3/33".parse::<Prefix>(), Err(PrefixError::Length));
        for bad in [
            "",
            "/",
            "10.1.2/24",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/ 8",
            "x/8",
            "010.0.0.0/8",
        ] {
            assert_eq!(bad.parse::<Prefix>(), Err(PrefixError::Syntax), "{bad}");
        }
    }

    #[test]
    fn knows_its_edges() {
        let p: Prefix = "10.1.0.0/24".parse().unwrap();
        assert_eq!(p.last().to_string(), "10.1.0.255");
        assert_eq!(p.first_usable().to_string(), "10.1.0.1");
        assert!(p.contains("10.1.0.255".parse().unwrap()) && !p.contains("10.1.1.0".parse().unwrap()));
        assert_eq!(Prefix::ALL_V4.last().to_string(), "255.255.255.255");
        assert!(
            !Prefix::ALL_V4.contains("::1".parse().unwrap())
                && !Prefix::ALL_V6.contains("1.2.3.4".parse().unwrap())
        );
        assert!(Prefix::ALL_V4.covers(&p) && !p.covers(&Prefix::ALL_V4) && p.overlaps(&Prefix::ALL_V4));
    }
}
