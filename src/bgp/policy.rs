//! Which prefixes a peering takes, and of the others why it does not.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::{Attributes, Config, Family};
use crate::types::Prefix;

/// The longest AS path that is taken, in hops: with it, what a session holds is bounded.
const LONGEST_PATH: usize = 255;

/// Which prefixes a session takes, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Public prefixes, only inside these; `None`: all unicast prefixes.
    within: Option<Vec<Prefix>>,
    /// How many at most; with one more the session goes down.
    limit: u32,
}

/// Why a prefix that the peer announces is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The message had a fault (RFC 7606).
    Malformed,
    /// Our AS number is in the path.
    Loop,
    /// The path does not begin with the peer's AS number.
    NotFromPeer,
    /// The path is longer than any that makes sense.
    LongPath,
    /// The next hop is not on the link.
    NextHop,
    /// Multicast, loopback, link-local or reserved.
    NotUnicast,
    /// A default route, where public prefixes are expected.
    Default,
    /// Addresses of private networks (RFC 1918, RFC 4193), where public prefixes are expected.
    Private,
    /// Addresses that providers share (RFC 6598), where public prefixes are expected.
    Shared,
    /// Not within the prefixes that were named beforehand.
    NotAllowed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Malformed => "the UPDATE that announced it was malformed",
            Refusal::Loop => "our AS number is in its path",
            Refusal::NotFromPeer => "its path does not begin with the peer's AS number",
            Refusal::LongPath => "its path is longer than 255 hops",
            Refusal::NextHop => "its next hop is not the peer's address or another on the link",
            Refusal::NotUnicast => "it is multicast, loopback, link-local or reserved",
            Refusal::Default => "a default route is not taken on this peering",
            Refusal::Private => "it has private addresses (RFC 1918 or RFC 4193)",
            Refusal::Shared => "it has shared addresses (RFC 6598)",
            Refusal::NotAllowed => "it is not within advertisedPublicPrefixes",
        })
    }
}

impl Policy {
    /// That of private peering.
    pub fn private(family: Family, premium: bool) -> Policy {
        let limit = match (family, premium) {
            (Family::V4, false) => 4_000,
            (Family::V4, true) => 10_000,
            (Family::V6, _) => 100,
        };
        Policy { within: None, limit }
    }

    /// That of Microsoft and public peering, with their `advertisedPublicPrefixes`.
    pub fn public(within: Vec<Prefix>) -> Policy {
        Policy { within: Some(within), limit: 200 }
    }

    /// The limit, in prefixes.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// From so many prefixes there is a warning: four fifths of the limit.
    pub fn warning(&self) -> u32 {
        self.limit.div_ceil(5) * 4
    }

    /// What is kept of the attributes of an UPDATE, or why none of its prefixes are taken.
    pub(super) fn attributes(&self, said: Attributes, config: &Config) -> Result<Attributes, Refusal> {
        if said.path.numbers().any(|asn| asn == config.asn) {
            return Err(Refusal::Loop);
        }
        if said.path.nearest() != Some(config.peer_asn) {
            return Err(Refusal::NotFromPeer);
        }
        if said.path.hops() > LONGEST_PATH || said.path.numbers().count() > 2 * LONGEST_PATH {
            return Err(Refusal::LongPath);
        }
        let on_link =
            |addr: IpAddr| addr == config.peer || config.link.contains(addr) && addr != config.local;
        if !said.next_hop.is_some_and(on_link) {
            return Err(Refusal::NextHop);
        }
        let path = if self.within.is_some() { said.path.without_private() } else { said.path };
        // Communities of customers say nothing to us.
        Ok(Attributes { path, communities: Vec::new(), ..said })
    }

    /// Why this prefix is not taken, if so.
    pub fn refuses(&self, prefix: &Prefix) -> Option<Refusal> {
        if is_not_unicast(prefix) {
            return Some(Refusal::NotUnicast);
        }
        let within = self.within.as_ref()?;
        if prefix.is_default() {
            Some(Refusal::Default)
        } else if private().iter().any(|p| p.overlaps(prefix)) {
            Some(Refusal::Private)
        } else if Prefix::v4(100, 64, 0, 0, 10).overlaps(prefix) {
            Some(Refusal::Shared)
        } else if !within.iter().any(|p| p.covers(prefix)) {
            Some(Refusal::NotAllowed)
        } else {
            None
        }
    }
}

/// An IPv6 prefix by the first two groups of its address.
fn v6(first: u16, second: u16, len: u8) -> Prefix {
    Prefix::new(IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), len)
}

fn private() -> [Prefix; 4] {
    [
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        v6(0xfc00, 0, 7),
    ]
}

/// True if no address of it can be a host elsewhere. A prefix that only has such addresses among others is none of these.
fn is_not_unicast(prefix: &Prefix) -> bool {
    let mapped = Prefix::new(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96);
    // IPv6: the unspecified address and loopback, mapped, link-local, multicast.
    let low = Prefix::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127);
    let v6 = [low, mapped, v6(0xfe80, 0, 10), v6(0xff00, 0, 8)];
    let v4 = [Prefix::v4(0, 0, 0, 0, 8), Prefix::v4(127, 0, 0, 0, 8), Prefix::v4(224, 0, 0, 0, 3)];
    v4.iter().chain(&v6).any(|p| p.covers(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(policy: &Policy, text: &str) -> Option<Refusal> {
        policy.refuses(&text.parse().unwrap())
    }

    #[test]
    fn limits_are_those_of_the_tiers() {
        let limit = |policy: Policy| (policy.limit(), policy.warning());
        assert_eq!(limit(Policy::private(Family::V4, false)), (4000, 3200));
        assert_eq!(limit(Policy::private(Family::V4, true)), (10_000, 8000));
        assert_eq!(limit(Policy::private(Family::V6, true)), (100, 80));
        assert_eq!(limit(Policy::public(Vec::new())), (200, 160));
    }

    #[test]
    fn private_peering_takes_every_unicast_prefix() {
        let policy = Policy::private(Family::V4, false);
        for taken in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "169.254.7.0/24",
            "203.0.113.7/32",
            "::/0",
            "fd00::/8",
            "2001:db8::/32",
        ] {
            assert_eq!(refusal(&policy, taken), None, "{taken}");
        }
        for refused in [
            "0.0.0.0/8",
            "0.1.0.0/16",
            "127.0.0.1/32",
            "224.0.0.0/4",
            "239.1.1.1/32",
            "240.0.0.0/4",
            "255.255.255.255/32",
            "::1/128",
            "::ffff:10.0.0.0/104",
            "fe80::/10",
            "ff02::/16",
        ] {
            assert_eq!(refusal(&policy, refused), Some(Refusal::NotUnicast), "{refused}");
        }
    }

    #[test]
    fn public_peerings_take_what_was_named() {
        // Even if somebody named more than there can be.
        let named = ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"].map(|p| p.parse().unwrap());
        let policy = Policy::public(named.to_vec());
        let narrow = Policy::public(vec![named[0], named[2]]);
        let rows = [
            ("203.0.113.0/24", None),
            ("203.0.113.128/25", None),
            ("2001:db8:7::/48", None),
            ("203.0.112.0/23", Some(Refusal::NotAllowed)),
            ("198.51.100.0/24", Some(Refusal::NotAllowed)),
            ("2001:db9::/32", Some(Refusal::NotAllowed)),
            ("0.0.0.0/0", Some(Refusal::Default)),
            ("::/0", Some(Refusal::Default)),
            ("10.1.0.0/16", Some(Refusal::Private)),
            ("172.31.0.0/16", Some(Refusal::Private)),
            ("192.168.0.0/15", Some(Refusal::Private)),
            ("fd12::/16", Some(Refusal::Private)),
            ("100.100.0.0/16", Some(Refusal::Shared)),
            ("224.0.0.0/4", Some(Refusal::NotUnicast)),
        ];
        for (prefix, expected) in rows {
            assert_eq!(refusal(&narrow, prefix), expected, "{prefix}");
            let expected = expected.filter(|r| *r != Refusal::NotAllowed);
            assert_eq!(refusal(&policy, prefix), expected, "{prefix}");
        }
    }
}
