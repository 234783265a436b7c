//! What we advertise, and the UPDATEs that make it known: as few as possible, and after a change only the difference.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::message::{HEADER, Kind, LONGEST, message};
use super::{AS_TRANS, Family, UNICAST};
use crate::types::Prefix;

/// A prefix that we advertise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The prefix.
    pub prefix: Prefix,
    /// Its communities, of which the first 255 are sent.
    pub communities: Vec<u32>,
}

/// Communities at most of one prefix: with them a message still has room for prefixes.
const COMMUNITIES: usize = 255;

/// How to say it to this peer.
#[derive(Clone, Copy, Debug)]
pub struct Saying {
    /// The family.
    pub family: Family,
    /// Our AS number.
    pub asn: u32,
    /// The peer knows AS numbers of four octets.
    pub four_octet: bool,
    /// Our address on the link.
    pub next_hop: IpAddr,
}

/// What shall be advertised, and what the peer has been told.
#[derive(Debug, Default)]
pub struct Adverts {
    wanted: BTreeMap<Prefix, Vec<u32>>,
    told: BTreeMap<Prefix, Vec<u32>>,
}

impl Adverts {
    /// From now on this; of a prefix that is named twice the last counts, and of other families nothing.
    pub fn want(&mut self, list: &[Advertised], family: Family) {
        self.wanted.clear();
        for advertised in list.iter().filter(|a| Family::of_prefix(&a.prefix) == family) {
            let mut communities = advertised.communities.clone();
            communities.sort_unstable();
            communities.dedup();
            communities.truncate(COMMUNITIES);
            self.wanted.insert(advertised.prefix, communities);
        }
    }

    /// How many prefixes are advertised.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// True if nothing is advertised.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The peer knows nothing of it: another session, or it asks for everything.
    pub fn forget(&mut self) {
        self.told.clear();
    }

    /// The messages that tell the peer what it does not know yet.
    pub fn tell(&mut self, saying: Saying) -> Vec<u8> {
        let mut bytes = Vec::new();
        let gone: Vec<Prefix> = self.told.keys().filter(|p| !self.wanted.contains_key(p)).copied().collect();
        withdraw(&gone, saying.family, &mut bytes);
        // One message has one set of attributes.
        let mut alike: BTreeMap<&[u32], Vec<Prefix>> = BTreeMap::new();
        for (prefix, communities) in &self.wanted {
            if self.told.get(prefix) != Some(communities) {
                alike.entry(communities).or_default().push(*prefix);
            }
        }
        for (communities, prefixes) in alike {
            announce(&prefixes, communities, saying, &mut bytes);
        }
        self.told = self.wanted.clone();
        bytes
    }
}

/// The message that says that all routes were sent (RFC 4724 section 2).
pub fn end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::V4 => message(Kind::Update, &[&[0; 4]]),
        Family::V6 => {
            let [high, low] = family.afi().to_be_bytes();
            message(Kind::Update, &[&[0, 0, 0, 6, 0x80, 15, 3, high, low, UNICAST]])
        }
    }
}

/// A prefix as it is written.
fn write(prefix: &Prefix, bytes: &mut Vec<u8>) {
    bytes.push(prefix.len());
    let octets = usize::from(prefix.len().div_ceil(8));
    match prefix.first() {
        IpAddr::V4(addr) => bytes.extend(addr.octets().iter().take(octets)),
        IpAddr::V6(addr) => bytes.extend(addr.octets().iter().take(octets)),
    }
}

/// Prefixes in pieces of at most `room` bytes, as many in each as fit.
fn pieces(prefixes: &[Prefix], room: usize, mut each: impl FnMut(&[u8])) {
    let mut piece = Vec::new();
    for prefix in prefixes {
        let before = piece.len();
        write(prefix, &mut piece);
        if piece.len() > room {
            let last = piece.split_off(before);
            each(&piece);
            piece = last;
        }
    }
    if !piece.is_empty() {
        each(&piece);
    }
}

/// An attribute whose value has these parts.
fn attribute(flags: u8, kind: u8, parts: &[&[u8]], bytes: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    if let Ok(length) = u8::try_from(length) {
        bytes.extend_from_slice(&[flags, kind, length]);
    } else {
        bytes.extend_from_slice(&[flags | 0x10, kind]);
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

fn withdraw(prefixes: &[Prefix], family: Family, bytes: &mut Vec<u8>) {
    let [high, low] = family.afi().to_be_bytes();
    // Lengths of both fields, and of MP_UNREACH_NLRI what stands in front of its prefixes.
    let room = LONGEST - HEADER - if family == Family::V4 { 4 } else { 4 + 7 };
    pieces(prefixes, room, |piece| match family {
        Family::V4 => {
            let length = (piece.len() as u16).to_be_bytes();
            bytes.extend(message(Kind::Update, &[&length, piece, &[0, 0]]));
        }
        Family::V6 => {
            let mut unreach = Vec::new();
            attribute(0x80, 15, &[&[high, low, UNICAST], piece], &mut unreach);
            let length = (unreach.len() as u16).to_be_bytes();
            bytes.extend(message(Kind::Update, &[&[0, 0], &length, &unreach]));
        }
    });
}

/// Announces prefixes with the same communities. Kinds of prefixes are not mixed in a message, and MP_REACH_NLRI comes first
/// (RFC 7606 section 5.1).
fn announce(prefixes: &[Prefix], communities: &[u32], saying: Saying, bytes: &mut Vec<u8>) {
    let mut common = Vec::new();
    attribute(0x40, 1, &[&[0]], &mut common);
    let long = saying.asn.to_be_bytes();
    if saying.four_octet {
        attribute(0x40, 2, &[&[2, 1], &long], &mut common);
    } else {
        let short = u16::try_from(saying.asn).unwrap_or(AS_TRANS as u16);
        attribute(0x40, 2, &[&[2, 1], &short.to_be_bytes()], &mut common);
    }
    if let IpAddr::V4(next_hop) = saying.next_hop {
        attribute(0x40, 3, &[&next_hop.octets()], &mut common);
    }
    if !communities.is_empty() {
        let octets: Vec<u8> = communities.iter().flat_map(|c| c.to_be_bytes()).collect();
        attribute(0xc0, 8, &[&octets], &mut common);
    }
    if !saying.four_octet && saying.asn > u32::from(u16::MAX) {
        attribute(0xc0, 17, &[&[2, 1], &long], &mut common);
    }
    let mut reach = saying.family.afi().to_be_bytes().to_vec();
    if let IpAddr::V6(next_hop) = saying.next_hop {
        reach.extend_from_slice(&[UNICAST, 16]);
        reach.extend_from_slice(&next_hop.octets());
        reach.push(0);
    }
    // Of MP_REACH_NLRI also its flags, kind and length.
    let around = if saying.family == Family::V4 { 0 } else { 4 + reach.len() };
    let room = LONGEST - HEADER - 4 - common.len() - around;
    pieces(prefixes, room, |piece| match saying.family {
        Family::V4 => {
            let length = (common.len() as u16).to_be_bytes();
            bytes.extend(message(Kind::Update, &[&[0, 0], &length, &common, piece]));
        }
        Family::V6 => {
            let mut first = Vec::new();
            attribute(0x80, 14, &[&reach, piece], &mut first);
            let length = ((first.len() + common.len()) as u16).to_be_bytes();
            bytes.extend(message(Kind::Update, &[&[0, 0], &length, &first, &common]));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::message::first;
    use crate::bgp::path::Segment;
    use crate::bgp::update::{Origin, Reading, Update, decode};

    fn saying(family: Family) -> Saying {
        let next_hop = match family {
            Family::V4 => "192.0.2.2".parse().unwrap(),
            Family::V6 => "2001:db8::2".parse().unwrap(),
        };
        Saying { family, asn: 12076, four_octet: true, next_hop }
    }

    /// The UPDATEs in bytes.
    fn read(mut bytes: &[u8], saying: Saying) -> Vec<Update> {
        let reading = Reading { family: saying.family, four_octet: saying.four_octet };
        let mut updates = Vec::new();
        while let Some((kind, body)) = first(bytes).unwrap() {
            assert_eq!(kind, Kind::Update);
            updates.push(decode(body, reading).unwrap());
            bytes = &bytes[HEADER + body.len()..];
        }
        assert!(bytes.is_empty() && updates.iter().all(|u| u.fault.is_none()));
        updates
    }

    fn list(family: Family, count: u32, communities: &[u32]) -> Vec<Advertised> {
        let prefix = |n: u32| match family {
            Family::V4 => Prefix::new(IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes()), 24),
            Family::V6 => Prefix::new(IpAddr::from((u128::from(0xfd00_0000 + n) << 96).to_be_bytes()), 48),
        };
        (0..count).map(|n| Advertised { prefix: prefix(n), communities: communities.to_vec() }).collect()
    }

    #[test]
    fn many_prefixes_take_few_messages() {
        for (family, messages) in [(Family::V4, 10), (Family::V6, 18)] {
            let saying = saying(family);
            let (mut adverts, all) = (Adverts::default(), list(family, 10_000, &[]));
            adverts.want(&all, family);
            let bytes = adverts.tell(saying);
            let updates = read(&bytes, saying);
            assert_eq!(updates.len(), messages, "{}", bytes.len());
            let announced: Vec<Prefix> = updates.iter().flat_map(|u| u.announced.clone()).collect();
            assert_eq!(announced, all.iter().map(|a| a.prefix).collect::<Vec<_>>());
            for update in &updates {
                let attributes = &update.attributes;
                assert_eq!(attributes.path.0, [Segment::Sequence(vec![12076])]);
                assert_eq!(attributes.next_hop, Some(saying.next_hop));
                assert_eq!((attributes.origin, attributes.med), (Some(Origin::Igp), None));
            }
            assert!(adverts.tell(saying).is_empty());
            // All of them go in as few.
            adverts.want(&[], family);
            let updates = read(&adverts.tell(saying), saying);
            assert_eq!(updates.iter().map(|u| u.withdrawn.len()).sum::<usize>(), 10_000);
            assert_eq!(updates.len(), messages);
            assert!(adverts.is_empty() && adverts.tell(saying).is_empty());
        }
    }

    #[test]
    fn only_the_difference_is_told() {
        let saying = saying(Family::V4);
        let mut all = list(Family::V4, 6, &[12076 << 16 | 5010]);
        all.extend(list(Family::V6, 3, &[]));
        let mut adverts = Adverts::default();
        adverts.want(&all, Family::V4);
        assert_eq!((adverts.len(), read(&adverts.tell(saying), saying).len()), (6, 1));
        all.remove(0);
        all[0].communities = vec![9, 7, 9];
        adverts.want(&all, Family::V4);
        let updates = read(&adverts.tell(saying), saying);
        assert_eq!(updates.len(), 2);
        assert_eq!(updates[0].withdrawn, [Prefix::v4(10, 0, 0, 0, 24)]);
        assert_eq!(updates[1].announced, [Prefix::v4(10, 0, 1, 0, 24)]);
        assert_eq!(updates[1].attributes.communities, [7, 9]);
        adverts.forget();
        assert_eq!(read(&adverts.tell(saying), saying).len(), 2);
    }

    #[test]
    fn communities_need_extended_lengths_and_have_a_bound() {
        for family in [Family::V4, Family::V6] {
            let saying = saying(family);
            let many: Vec<u32> = (0..2000).collect();
            let mut adverts = Adverts::default();
            adverts.want(&list(family, 2000, &many), family);
            for update in read(&adverts.tell(saying), saying) {
                assert_eq!(update.attributes.communities, many[..COMMUNITIES]);
            }
        }
    }

    #[test]
    fn a_long_number_is_said_to_those_who_know_short_ones() {
        let saying = Saying { asn: 4_200_000_001, four_octet: false, ..saying(Family::V4) };
        let mut adverts = Adverts::default();
        adverts.want(&list(Family::V4, 1, &[]), Family::V4);
        let bytes = adverts.tell(saying);
        assert!(bytes.windows(6).any(|w| w == [2, 4, 2, 1, 0x5b, 0xa0]), "AS_TRANS");
        assert_eq!(read(&bytes, saying)[0].attributes.path.to_string(), "4200000001");
    }

    #[test]
    fn an_end_of_rib_is_one() {
        for family in [Family::V4, Family::V6] {
            let updates = read(&end_of_rib(family), saying(family));
            assert_eq!(updates, [Update { end_of_rib: true, ..Update::default() }]);
        }
    }
}
