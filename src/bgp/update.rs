//! UPDATE, as it is read (RFC 4271 section 4.3 and 6.3, RFC 4760), and what becomes of one with faults (RFC 7606).
//!
//! A fault is answered as mildly as it can be: an attribute that routes can do without is discarded; else the prefixes of the
//! message are taken for withdrawn; only where not even those can be read for certain, the session ends.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::Bytes;
use super::path::AsPath;
use super::{AS_TRANS, Family, Notification};
use crate::types::Prefix;

/// How a route came into BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// From inside its system.
    Igp,
    /// From EGP.
    Egp,
    /// Some other way.
    Incomplete,
}

/// What an UPDATE says of the prefixes that it announces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH, with the numbers of AS4_PATH in it.
    pub path: AsPath,
    /// NEXT_HOP, or that of MP_REACH_NLRI; of two addresses there the first.
    pub next_hop: Option<IpAddr>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES (RFC 1997), in their order.
    pub communities: Vec<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR: the system and the router.
    pub aggregator: Option<(u32, Ipv4Addr)>,
}

/// A fault in an attribute that did not end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The attribute's type code.
    pub attribute: u8,
    /// What is wrong with it.
    pub what: &'static str,
    /// The message's prefixes count as withdrawn; else only the attribute was discarded.
    pub withdraws: bool,
}

impl fmt::Display for Fault {
    /// `AS_PATH: a segment is cut; its prefixes count as withdrawn`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.attribute) {
            "" => write!(f, "attribute {}", self.attribute)?,
            name => f.write_str(name)?,
        }
        let done =
            if self.withdraws { "its prefixes count as withdrawn" } else { "the attribute is discarded" };
        write!(f, ": {}; {done}", self.what)
    }
}

/// What one UPDATE says, of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes that are withdrawn. They come before those that are announced.
    pub withdrawn: Vec<Prefix>,
    /// Prefixes that are announced, or with a fault that withdraws, count as withdrawn.
    pub announced: Vec<Prefix>,
    /// What is said of them.
    pub attributes: Attributes,
    /// The gravest fault, and of two the first.
    pub fault: Option<Fault>,
    /// All routes of the family have been sent (RFC 4724 section 2).
    pub end_of_rib: bool,
}

/// How UPDATEs are to be read, as the OPENs have it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The family. Prefixes of others are checked and ignored.
    pub family: Family,
    /// AS numbers have four octets.
    pub four_octet: bool,
}

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED: u8 = 0x10;

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const LOCAL_PREF: u8 = 5;
const ATOMIC_AGGREGATE: u8 = 6;
const AGGREGATOR: u8 = 7;
const COMMUNITIES: u8 = 8;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;
const EXTENDED_COMMUNITIES: u8 = 16;
const AS4_PATH: u8 = 17;
const AS4_AGGREGATOR: u8 = 18;
const LARGE_COMMUNITIES: u8 = 32;

fn name(attribute: u8) -> &'static str {
    match attribute {
        ORIGIN => "ORIGIN",
        AS_PATH => "AS_PATH",
        NEXT_HOP => "NEXT_HOP",
        MED => "MULTI_EXIT_DISC",
        ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
        AGGREGATOR => "AGGREGATOR",
        COMMUNITIES => "COMMUNITIES",
        MP_REACH => "MP_REACH_NLRI",
        MP_UNREACH => "MP_UNREACH_NLRI",
        EXTENDED_COMMUNITIES => "EXTENDED COMMUNITIES",
        AS4_PATH => "AS4_PATH",
        AS4_AGGREGATOR => "AS4_AGGREGATOR",
        LARGE_COMMUNITIES => "LARGE_COMMUNITY",
        _ => "",
    }
}

/// The flags that an attribute must have; `None` if we do not know it.
fn flags_of(attribute: u8) -> Option<u8> {
    match attribute {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => Some(TRANSITIVE),
        MED | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => Some(OPTIONAL),
        AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR | LARGE_COMMUNITIES => {
            Some(OPTIONAL | TRANSITIVE)
        }
        _ => None,
    }
}

/// Prefixes one behind the other; `None` if one is longer than its family's or than what is left.
fn prefixes(bytes: &[u8], family: Family) -> Option<Vec<Prefix>> {
    let mut bytes = Bytes(bytes);
    let mut prefixes = Vec::new();
    while let Some(length) = bytes.u8() {
        if length > family.bits() {
            return None;
        }
        let mut octets = [0; 16];
        let said = bytes.take(usize::from(length.div_ceil(8)))?;
        octets.get_mut(..said.len())?.copy_from_slice(said);
        let addr = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(octets)),
        };
        prefixes.push(Prefix::new(addr, length));
    }
    Some(prefixes)
}

/// What is read while the attributes go by.
struct Reader {
    reading: Reading,
    update: Update,
    /// Which attributes have been seen, one bit each.
    seen: [u64; 4],
    /// MP_REACH_NLRI told the next hop.
    reached: bool,
    /// The attributes end inside one.
    cut: bool,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
}

/// Reads what stands behind the header of an UPDATE. An error ends the session.
pub fn decode(body: &[u8], reading: Reading) -> Result<Update, Notification> {
    let mut bytes = Bytes(body);
    let (Some(withdrawn), Some(attributes)) = (bytes.long(), bytes.long()) else {
        return Err(Notification::update(1, &[]));
    };
    // Classic fields are IPv4 on any session.
    let bad_network = || Notification::update(10, &[]);
    let withdrawn = prefixes(withdrawn, Family::V4).ok_or_else(bad_network)?;
    let announced = prefixes(bytes.0, Family::V4).ok_or_else(bad_network)?;
    let update = Update::default();
    let mut reader = Reader {
        reading,
        update,
        seen: [0; 4],
        reached: false,
        cut: false,
        as4_path: None,
        as4_aggregator: None,
    };
    reader.attributes(Bytes(attributes))?;
    reader.finish(withdrawn, announced)
}

impl Reader {
    fn has(&self, attribute: u8) -> bool {
        self.seen[usize::from(attribute / 64)] & 1 << (attribute % 64) != 0
    }

    /// Keeps a fault, if there is none as grave.
    fn fault(&mut self, attribute: u8, what: &'static str, withdraws: bool) {
        if self.update.fault.is_none_or(|known| withdraws && !known.withdraws) {
            self.update.fault = Some(Fault { attribute, what, withdraws });
        }
    }

    fn attributes(&mut self, mut bytes: Bytes<'_>) -> Result<(), Notification> {
        while !bytes.is_empty() {
            let start = bytes.0;
            let (flags, kind) = (bytes.u8().unwrap_or_default(), bytes.u8());
            let value = if flags & EXTENDED == 0 { bytes.short() } else { bytes.long() };
            let (Some(kind), Some(value)) = (kind, value) else {
                // RFC 7606 section 4: the prefixes behind the attributes are still where they are said to be.
                let kind = kind.unwrap_or_default();
                self.fault(kind, "longer than what is left of the attributes", true);
                self.cut = true;
                return match kind {
                    MP_REACH | MP_UNREACH => Err(Notification::update(1, &[])),
                    _ => Ok(()),
                };
            };
            let whole = start.get(..start.len() - bytes.0.len()).unwrap_or(start);
            if self.has(kind) {
                if matches!(kind, MP_REACH | MP_UNREACH) {
                    return Err(Notification::update(1, &[]));
                }
                // RFC 7606 section 3(g): of several the first counts.
                continue;
            }
            self.seen[usize::from(kind / 64)] |= 1 << (kind % 64);
            match flags_of(kind) {
                None if flags & OPTIONAL == 0 => return Err(Notification::update(2, whole)),
                None => continue,
                // What only internal peers may send (RFC 7606 section 7.5, 7.9 and 7.10).
                Some(_) if matches!(kind, LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST) => continue,
                Some(expected) if flags & (OPTIONAL | TRANSITIVE) != expected => {
                    // RFC 6793 section 6 is milder with those it brought.
                    let withdraws = !matches!(kind, AS4_PATH | AS4_AGGREGATOR);
                    self.fault(kind, "wrong flags", withdraws);
                    // The prefixes in these are needed all the same.
                    if !matches!(kind, MP_REACH | MP_UNREACH) {
                        continue;
                    }
                }
                Some(_) => {}
            }
            self.attribute(kind, value).map_err(|()| Notification::update(9, whole))?;
        }
        Ok(())
    }

    /// One attribute with its flags in order; an error if prefixes in it cannot be read.
    fn attribute(&mut self, kind: u8, value: &[u8]) -> Result<(), ()> {
        let mut bytes = Bytes(value);
        let multiple_of = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
        let attributes = &mut self.update.attributes;
        match kind {
            ORIGIN => match value {
                [0] => attributes.origin = Some(Origin::Igp),
                [1] => attributes.origin = Some(Origin::Egp),
                [2] => attributes.origin = Some(Origin::Incomplete),
                [_] => self.fault(kind, "an unknown value", true),
                _ => self.fault(kind, "a wrong length", true),
            },
            AS_PATH => match AsPath::decode(value, self.reading.four_octet, false) {
                Ok(path) => attributes.path = path,
                Err(what) => self.fault(kind, what, true),
            },
            NEXT_HOP => match <[u8; 4]>::try_from(value) {
                Ok(_) if self.reached => {}
                Ok(octets) => attributes.next_hop = Some(IpAddr::from(octets)),
                Err(_) => self.fault(kind, "a wrong length", true),
            },
            MED => match <[u8; 4]>::try_from(value) {
                Ok(octets) => attributes.med = Some(u32::from_be_bytes(octets)),
                Err(_) => self.fault(kind, "a wrong length", true),
            },
            ATOMIC_AGGREGATE if value.is_empty() => attributes.atomic_aggregate = true,
            ATOMIC_AGGREGATE => self.fault(kind, "a wrong length", false),
            AGGREGATOR | AS4_AGGREGATOR => {
                let four_octet = kind == AS4_AGGREGATOR || self.reading.four_octet;
                match (bytes.asn(four_octet), bytes.u32(), bytes.is_empty()) {
                    (Some(0), Some(_), true) => self.fault(kind, "AS 0", false),
                    (Some(asn), Some(router), true) => {
                        let said = Some((asn, Ipv4Addr::from_bits(router)));
                        match kind {
                            AGGREGATOR => attributes.aggregator = said,
                            _ => self.as4_aggregator = said,
                        }
                    }
                    _ => self.fault(kind, "a wrong length", false),
                }
            }
            COMMUNITIES if multiple_of(4) => {
                attributes.communities = std::iter::from_fn(|| bytes.u32()).collect();
            }
            COMMUNITIES => self.fault(kind, "a wrong length", true),
            EXTENDED_COMMUNITIES if !multiple_of(8) => self.fault(kind, "a wrong length", true),
            LARGE_COMMUNITIES if !multiple_of(12) => self.fault(kind, "a wrong length", true),
            AS4_PATH => match AsPath::decode(value, true, true) {
                Ok(path) => self.as4_path = Some(path),
                Err(what) => self.fault(kind, what, false),
            },
            MP_REACH => return self.reach(bytes),
            MP_UNREACH => {
                let (afi, safi) = (bytes.u16().ok_or(())?, bytes.u8().ok_or(())?);
                if Family::of(afi, safi) == Some(self.reading.family) {
                    self.update.withdrawn = prefixes(bytes.0, self.reading.family).ok_or(())?;
                    self.update.end_of_rib = bytes.is_empty();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// MP_REACH_NLRI (RFC 4760 section 3, RFC 2545).
    fn reach(&mut self, mut bytes: Bytes<'_>) -> Result<(), ()> {
        let (afi, safi) = (bytes.u16().ok_or(())?, bytes.u8().ok_or(())?);
        let mut next_hop = Bytes(bytes.short().ok_or(())?);
        bytes.u8().ok_or(())?;
        if Family::of(afi, safi) != Some(self.reading.family) {
            return Ok(());
        }
        let addr = match (self.reading.family, next_hop.0.len()) {
            (Family::V4, 4) => next_hop.u32().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            // Behind the global address may stand that of the link.
            (Family::V6, 16 | 32) => {
                let octets = next_hop.take(16).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
                octets.map(IpAddr::from)
            }
            _ => None,
        };
        self.update.attributes.next_hop = Some(addr.ok_or(())?);
        self.reached = true;
        self.update.announced = prefixes(bytes.0, self.reading.family).ok_or(())?;
        Ok(())
    }

    /// What all attributes and the classic fields say together.
    fn finish(mut self, withdrawn: Vec<Prefix>, announced: Vec<Prefix>) -> Result<Update, Notification> {
        let announces = !announced.is_empty() || self.has(MP_REACH);
        let classic = !announced.is_empty() && !self.reached;
        for (kind, needed) in [(ORIGIN, announces), (AS_PATH, announces), (NEXT_HOP, classic)] {
            if needed && !self.has(kind) {
                self.fault(kind, "is missing", true);
            }
        }
        let attributes: u32 = self.seen.iter().map(|bits| bits.count_ones()).sum();
        let others = attributes - u32::from(self.has(MP_UNREACH)) > 0 || self.cut;
        if self.update.fault.is_some_and(|fault| fault.withdraws) && !announces && others {
            // RFC 7606 section 5.2: what was to be announced was perhaps not found.
            return Err(Notification::update(1, &[]));
        }
        self.long_numbers();
        let legacy = attributes == 0;
        let mut update = self.update;
        let nothing = !others && withdrawn.is_empty() && announced.is_empty();
        // An empty message says it for IPv4, an empty MP_UNREACH_NLRI for its family.
        let said = update.end_of_rib || legacy && self.reading.family == Family::V4;
        update.end_of_rib = nothing && said && update.fault.is_none();
        if self.reading.family == Family::V4 {
            update.withdrawn.extend(withdrawn);
            update.announced.extend(announced);
        }
        Ok(update)
    }

    /// The numbers that a speaker of two octets could not say itself (RFC 6793 section 4.2.3).
    fn long_numbers(&mut self) {
        if self.reading.four_octet {
            return;
        }
        let attributes = &mut self.update.attributes;
        if attributes.aggregator.is_some_and(|(asn, _)| asn != AS_TRANS) {
            return;
        }
        if attributes.aggregator.is_some() && self.as4_aggregator.is_some() {
            attributes.aggregator = self.as4_aggregator;
        }
        if let Some(behind) = self.as4_path.take() {
            attributes.path = std::mem::take(&mut attributes.path).reconstructed(behind);
        }
    }
}

#[cfg(test)]
mod tests;
