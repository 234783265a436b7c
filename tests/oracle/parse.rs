//! Steps 1, 2, 3 and the first half of 5: what the bytes of a frame say, before any configuration but the port is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clearway::model::{Encapsulation, Port, Role};
use clearway::packet::Reason;

use super::bytes::{adds_up, u16_at, u32_at};

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
const NVGRE: u16 = 0x6558;
const VLAN: [u16; 2] = [0x8100, 0x88a8];
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
const GRE: u8 = 47;

/// A frame after steps 1 to 3.
pub struct Received<'a> {
    /// How it was carried; `None` for a plain packet.
    pub carrier: Option<Carrier>,
    /// The EtherType of what was carried.
    pub protocol: u16,
    /// What was carried, with padding.
    pub inner: &'a [u8],
}

/// The delivery header and GRE header of a received packet.
#[derive(Clone, Debug)]
pub struct Carrier {
    pub outer_source: IpAddr,
    pub outer_ecn: u8,
    pub encapsulation: Encapsulation,
    /// The key as on the wire.
    pub key: u32,
    pub sequence: Option<u32>,
    /// The source address of the inner Ethernet header, for nvgre.
    pub inner_source_mac: Option<[u8; 6]>,
}

/// Steps 1 to 3.
pub fn receive<'a>(port: &Port, captured: &'a [u8], original_len: u32) -> Result<Received<'a>, Reason> {
    let (ethertype, packet) = frame(captured, original_len)?;
    let gre_port = matches!(port.role, Role::Fabric | Role::Edge);
    // "A header too short to hold its destination, or of the wrong version, is outer-malformed on fabric and edge
    // ports, inner-malformed on the others."
    let unreadable = if gre_port { Reason::OuterMalformed } else { Reason::InnerMalformed };
    let Some(destination) = destination(ethertype, packet) else { return Err(unreadable) };
    let protocol = if ethertype == IPV4 { packet[9] } else { packet[6] };
    if gre_port {
        // "On fabric and edge ports, outer destination not the port's address: punt not-for-us"
        if destination != port.address {
            return Err(Reason::NotForUs);
        }
    } else {
        // "on the others neighbour discovery (ICMPv6 133 to 137) is punt not-for-us"
        if ethertype == IPV6 && is_neighbour_discovery(packet) {
            return Err(Reason::NotForUs);
        }
        let own = destination == port.address;
        let gre_on_internet = port.role == Role::Internet && protocol == GRE;
        // "and IP to the port's own address punt not-gre, unless it is GRE on internet."
        if own && !gre_on_internet {
            return Err(Reason::NotGre);
        }
        if !own {
            return Ok(Received { carrier: None, protocol: ethertype, inner: packet });
        }
    }
    let outer = outer(ethertype, packet)?;
    gre(outer)
}

/// The extension headers are walked as in step 5, as far as the captured bytes go; a later fragment shows no type.
fn is_neighbour_discovery(packet: &[u8]) -> bool {
    let (mut next, mut at) = (packet[6], 40);
    while is_walked(next) {
        let Some(header) = packet.get(at..at + 8) else { return false };
        if next == FRAGMENT_HEADER {
            if u16_at(header, 2) >> 3 != 0 {
                return false;
            }
            at += 8;
        } else {
            at += (usize::from(header[1]) + 1) * 8;
        }
        next = header[0];
    }
    next == ICMPV6 && packet.get(at).is_some_and(|t| (133..=137).contains(t))
}

/// Step 1: "captured length below the original length, or a frame shorter than its Ethernet header and tags: drop
/// truncated. Up to two VLAN tags (802.1Q, 802.1ad). EtherType other than IPv4 or IPv6, or a third tag: punt not-ip."
fn frame(captured: &[u8], original_len: u32) -> Result<(u16, &[u8]), Reason> {
    if (captured.len() as u64) < u64::from(original_len) || captured.len() < 14 {
        return Err(Reason::Truncated);
    }
    let mut at = 12;
    let mut tags = 0;
    while VLAN.contains(&u16_at(captured, at)) {
        tags += 1;
        if tags == 3 {
            return Err(Reason::NotIp);
        }
        at += 4;
        if captured.len() < at + 2 {
            return Err(Reason::Truncated);
        }
    }
    match u16_at(captured, at) {
        ethertype @ (IPV4 | IPV6) => Ok((ethertype, &captured[at + 2..])),
        _ => Err(Reason::NotIp),
    }
}

/// The destination of an IP packet of this version, if the fixed header is there.
fn destination(ethertype: u16, packet: &[u8]) -> Option<IpAddr> {
    if ethertype == IPV4 {
        (packet.len() >= 20 && packet[0] >> 4 == 4).then(|| ipv4_at(packet, 16))
    } else {
        (packet.len() >= 40 && packet[0] >> 4 == 6).then(|| ipv6_at(packet, 24))
    }
}

fn ipv4_at(bytes: &[u8], at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(u32_at(bytes, at)))
}

fn ipv6_at(bytes: &[u8], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// What step 2 leaves: source, ECN and the bytes behind the outer header.
struct Outer<'a> {
    source: IpAddr,
    ecn: u8,
    payload: &'a [u8],
}

/// Step 2, on a header whose version and fixed part are already known to be right: "version, lengths, IPv4 header
/// checksum: outer-malformed (IPv4 options are accepted). Any fragment: outer-fragment (an IPv6 fragment header too).
/// IP protocol, or IPv6 extension header, other than GRE: punt not-gre."
fn outer(ethertype: u16, packet: &[u8]) -> Result<Outer<'_>, Reason> {
    if ethertype == IPV4 {
        let header = usize::from(packet[0] & 15) * 4;
        let total = usize::from(u16_at(packet, 2));
        if header < 20 || total < header || packet.len() < total || !adds_up(&packet[..header]) {
            return Err(Reason::OuterMalformed);
        }
        if u16_at(packet, 6) & 0x3fff != 0 {
            return Err(Reason::OuterFragment);
        }
        if packet[9] != GRE {
            return Err(Reason::NotGre);
        }
        Ok(Outer { source: ipv4_at(packet, 12), ecn: packet[1] & 3, payload: &packet[header..total] })
    } else {
        let total = 40 + usize::from(u16_at(packet, 4));
        if packet.len() < total {
            return Err(Reason::OuterMalformed);
        }
        match packet[6] {
            FRAGMENT_HEADER => Err(Reason::OuterFragment),
            GRE => {
                Ok(Outer { source: ipv6_at(packet, 8), ecn: packet[1] >> 4 & 3, payload: &packet[40..total] })
            }
            _ => Err(Reason::NotGre),
        }
    }
}

/// Step 3, "checked in the order named".
fn gre(outer: Outer<'_>) -> Result<Received<'_>, Reason> {
    let bytes = outer.payload;
    if bytes.len() < 4 {
        return Err(Reason::GreMalformed);
    }
    let (c, k, s) = (bytes[0] & 0x80 != 0, bytes[0] & 0x20 != 0, bytes[0] & 0x10 != 0);
    let key_at = if c { 8 } else { 4 };
    let sequence_at = key_at + if k { 4 } else { 0 };
    let header = sequence_at + if s { 4 } else { 0 };
    // "gre-malformed (header longer than what is there, counted from the C, K and S bits)"
    if bytes.len() < header {
        return Err(Reason::GreMalformed);
    }
    let protocol = u16_at(bytes, 2);
    // "gre-reserved-bits (bits 1, 4 or 5; for 0x6558 also C or S)"
    if bytes[0] & 0x4c != 0 || protocol == NVGRE && (c || s) {
        return Err(Reason::GreReservedBits);
    }
    if bytes[1] & 7 != 0 {
        return Err(Reason::GreVersion);
    }
    if c && !adds_up(bytes) {
        return Err(Reason::GreChecksum);
    }
    if ![IPV4, IPV6, NVGRE].contains(&protocol) {
        return Err(Reason::GreProtocol);
    }
    if !k {
        return Err(Reason::GreNoKey);
    }
    let mut carrier = Carrier {
        outer_source: outer.source,
        outer_ecn: outer.ecn,
        encapsulation: Encapsulation::Gre,
        key: u32_at(bytes, key_at),
        sequence: s.then(|| u32_at(bytes, sequence_at)),
        inner_source_mac: None,
    };
    let payload = &bytes[header..];
    if protocol != NVGRE {
        return Ok(Received { carrier: Some(carrier), protocol, inner: payload });
    }
    // "For 0x6558: VSID below 0x1000 or 0xffffff, an inner frame shorter than 14 bytes, or an inner VLAN tag of
    // either kind is nvgre-malformed."
    let vsid = carrier.key >> 8;
    if vsid < 0x1000 || vsid == 0xff_ffff || payload.len() < 14 || VLAN.contains(&u16_at(payload, 12)) {
        return Err(Reason::NvgreMalformed);
    }
    carrier.encapsulation = Encapsulation::Nvgre;
    let mut mac = [0; 6];
    mac.copy_from_slice(&payload[6..12]);
    carrier.inner_source_mac = Some(mac);
    Ok(Received { carrier: Some(carrier), protocol: u16_at(payload, 12), inner: &payload[14..] })
}

/// A fragment, first or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In units of 8 bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    pub identification: u32,
    /// The protocol that every fragment of the packet names: of IPv6 the next header of the fragment header.
    pub protocol: u8,
}

/// An inner packet that step 5 found well made.
#[derive(Clone, Debug)]
pub struct Inner {
    /// The packet as received, without padding.
    pub bytes: Vec<u8>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Where the transport header (of a later fragment: the payload) begins.
    pub transport: usize,
    pub fragment: Option<Fragment>,
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT_HEADER: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// "IPv6: hop-by-hop, routing, destination options and fragment headers are walked, anything else is the protocol".
pub fn is_walked(next_header: u8) -> bool {
    [HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS].contains(&next_header)
}

/// The first half of step 5: everything that is `inner-malformed`, as `None`.
pub fn inner(protocol: u16, carried: &[u8]) -> Option<Inner> {
    let inner = match protocol {
        IPV4 => inner_v4(carried)?,
        IPV6 => inner_v6(carried)?,
        _ => return None,
    };
    // "an unfragmented transport header cut short (TCP 20, UDP 8, ICMP 8), or a first fragment with less than the
    // UDP or ICMP header"
    let payload = inner.bytes.len() - inner.transport;
    let whole = inner.fragment.is_none();
    let first = inner.fragment.is_some_and(|f| f.offset == 0);
    if whole && inner.protocol == TCP && payload < 20 {
        return None;
    }
    if (whole || first) && (inner.protocol == UDP || inner.is_icmp()) && payload < 8 {
        return None;
    }
    Some(inner)
}

fn inner_v4(carried: &[u8]) -> Option<Inner> {
    if carried.len() < 20 || carried[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(carried[0] & 15) * 4;
    let total = usize::from(u16_at(carried, 2));
    if header < 20 || total < header || carried.len() < total || !adds_up(&carried[..header]) {
        return None;
    }
    let word = u16_at(carried, 6);
    let (more, offset) = (word & 0x2000 != 0, word & 0x1fff);
    let protocol = carried[9];
    let fragment = (more || offset != 0).then(|| Fragment {
        offset,
        more,
        identification: u32::from(u16_at(carried, 4)),
        protocol,
    });
    // "fragments whose offset x 8 and payload together pass 65,535"
    if fragment.is_some() && usize::from(offset) * 8 + (total - header) > 65_535 {
        return None;
    }
    Some(Inner {
        bytes: carried[..total].to_vec(),
        source: ipv4_at(carried, 12),
        destination: ipv4_at(carried, 16),
        protocol,
        transport: header,
        fragment,
    })
}

fn inner_v6(carried: &[u8]) -> Option<Inner> {
    if carried.len() < 40 || carried[0] >> 4 != 6 {
        return None;
    }
    let total = 40 + usize::from(u16_at(carried, 4));
    if carried.len() < total {
        return None;
    }
    let bytes = &carried[..total];
    let (mut next, mut at) = (bytes[6], 40);
    let mut fragment = None;
    while is_walked(next) {
        // "IPv6 extension chains that do not fit"
        if total < at + 8 {
            return None;
        }
        if next == FRAGMENT_HEADER {
            let word = u16_at(bytes, at + 2);
            let (offset, more) = (word >> 3, word & 1 != 0);
            next = bytes[at];
            at += 8;
            // "a fragment header with offset 0 and no more fragments is no fragment"
            if offset != 0 || more {
                if usize::from(offset) * 8 + (total - at) > 65_535 {
                    return None;
                }
                let identification = u32_at(bytes, at - 4);
                fragment = Some(Fragment { offset, more, identification, protocol: next });
            }
            if offset != 0 {
                break;
            }
        } else {
            let length = (usize::from(bytes[at + 1]) + 1) * 8;
            if total < at + length {
                return None;
            }
            next = bytes[at];
            at += length;
        }
    }
    Some(Inner {
        source: ipv6_at(bytes, 8),
        destination: ipv6_at(bytes, 24),
        bytes: bytes.to_vec(),
        protocol: next,
        transport: at,
        fragment,
    })
}

impl Inner {
    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The protocol is the ICMP of the packet's own family.
    pub fn is_icmp(&self) -> bool {
        self.protocol == if self.is_v4() { ICMP } else { ICMPV6 }
    }

    /// A fragment other than the first.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset != 0)
    }

    pub fn is_first_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset == 0)
    }

    /// What is behind the IP header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.transport..]
    }

    /// Source and destination port of TCP and UDP, for rules; nothing else has ports.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has = (self.protocol == TCP || self.protocol == UDP) && !self.is_later_fragment();
        has.then(|| (u16_at(self.payload(), 0), u16_at(self.payload(), 2)))
    }

    /// What stands where ports stand in a flow record: the ports, or the identifier of an ICMP packet twice.
    /// "ICMP identifier of echo and timestamp (0, 8, 13, 14; ICMPv6 128, 129), else 0."
    pub fn flow_ports(&self) -> (u16, u16) {
        if let Some(ports) = self.ports() {
            return ports;
        }
        let id = match self.icmp_type() {
            Some(t) if icmp_has_identifier(self.is_v4(), t) => u16_at(self.payload(), 4),
            _ => 0,
        };
        (id, id)
    }

    /// The ICMP type, unless it is a later fragment or no ICMP.
    pub fn icmp_type(&self) -> Option<u8> {
        (self.is_icmp() && !self.is_later_fragment()).then(|| self.payload()[0])
    }

    /// The flags of a TCP segment, unless it is a later fragment or no TCP.
    pub fn tcp_flags(&self) -> Option<u8> {
        (self.protocol == TCP && !self.is_later_fragment()).then(|| self.payload()[13])
    }

    pub fn ttl(&self) -> u8 {
        self.bytes[if self.is_v4() { 8 } else { 7 }]
    }

    /// TOS or traffic class: DSCP and ECN.
    pub fn class(&self) -> u8 {
        if self.is_v4() { self.bytes[1] } else { self.bytes[0] << 4 | self.bytes[1] >> 4 }
    }

    pub fn dont_fragment(&self) -> bool {
        !self.is_v4() || self.bytes[6] & 0x40 != 0
    }
}

/// The ICMP types whose packets carry an identifier.
pub fn icmp_has_identifier(v4: bool, icmp_type: u8) -> bool {
    if v4 { [0, 8, 13, 14].contains(&icmp_type) } else { [128, 129].contains(&icmp_type) }
}

/// Source, destination, protocol and flow ports of the packet that an ICMP error quotes: "the quote must hold the IP
/// header and 8 bytes, and hold no later fragment and no IPv6 extension header".
pub fn quoted(error: &Inner) -> Option<(IpAddr, IpAddr, u8, (u16, u16))> {
    let quote = &error.payload()[8..];
    let (source, destination, protocol, header) = if error.is_v4() {
        if quote.len() < 20 || quote[0] >> 4 != 4 || u16_at(quote, 6) & 0x1fff != 0 {
            return None;
        }
        (ipv4_at(quote, 12), ipv4_at(quote, 16), quote[9], usize::from(quote[0] & 15) * 4)
    } else {
        if quote.len() < 40 || quote[0] >> 4 != 6 || is_walked(quote[6]) {
            return None;
        }
        (ipv6_at(quote, 8), ipv6_at(quote, 24), quote[6], 40)
    };
    if header < 20 || quote.len() < header + 8 {
        return None;
    }
    let transport = &quote[header..];
    let ports = if protocol == TCP || protocol == UDP {
        (u16_at(transport, 0), u16_at(transport, 2))
    } else if protocol == if error.is_v4() { ICMP } else { ICMPV6 }
        && icmp_has_identifier(error.is_v4(), transport[0])
    {
        (u16_at(transport, 4), u16_at(transport, 4))
    } else {
        (0, 0)
    };
    Some((source, destination, protocol, ports))
}
