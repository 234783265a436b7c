//! What the kernel's messages say, as far as we care. Of each message only the attributes that we use are read, so that
//! what a newer kernel adds or changes elsewhere does no harm.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkBuffer, NlasIterator, parse_ip, parse_string, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeader;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader, NeighbourState};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType, RouteVia};

use super::Device;
use crate::types;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_IFALIAS: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// A next hop whose device is away or has no carrier.
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
/// Where routes go that name no table.
const RT_TABLE_MAIN: u32 = 254;

const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;

/// A device, and what only the resolver needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub device: Device,
    /// Nobody is asked for MAC addresses there.
    pub silent: bool,
}

/// What the kernel's table of neighbours says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Frames can be sent to it; `stale`: nobody has heard of it for a while.
    Usable { mac: [u8; 6], stale: bool },
    /// It did not answer.
    Failed,
    /// It is being asked.
    Incomplete,
    /// Nothing.
    Nothing,
}

/// Addresses that begin with the same bits: the bits from the left, and how many of them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    v6: bool,
    length: u8,
    bits: u128,
}

impl Prefix {
    /// The first bits of an address.
    pub fn of(address: IpAddr, length: u8) -> Prefix {
        let (v6, bits) = match address {
            IpAddr::V4(address) => (false, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (true, address.to_bits()),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
        Prefix { v6, length, bits: bits & mask }
    }

    /// How many bits count.
    pub fn length(&self) -> u8 {
        self.length
    }
}

/// Something that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Link(Link),
    LinkGone(u32),
    Address(u32, IpAddr),
    AddressGone(u32, IpAddr),
    Neighbour(u32, IpAddr, Entry),
    /// A route to these addresses came, went or became another.
    Route(Prefix),
    /// Something that any route may depend on.
    AnyRoute,
    /// The kernel had more to say than we could take.
    Lost,
}

/// The messages in one datagram: type, flags, sequence number, what follows the header.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let next = (message.length() as usize).next_multiple_of(4).min(datagram.len());
        datagram = &datagram[next..];
        Some((message.message_type(), message.flags(), message.sequence_number(), message.payload()))
    })
}

fn attributes(message: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let all = message.get(header..).unwrap_or_default();
    NlasIterator::new(all).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(4..length)?))
    })
}

/// The text that says of a device what it is for, if a message about the device has one.
pub fn alias(message: &[u8]) -> Option<String> {
    let alias = attributes(message, LINK_HEADER).find(|(kind, _)| *kind == IFLA_IFALIAS);
    alias.and_then(|(_, value)| parse_string(value).ok())
}

/// What a message tells, if anything of interest.
pub fn event(kind: u16, message: &[u8]) -> Option<Event> {
    match kind {
        RTM_NEWLINK => link(message).map(Event::Link),
        RTM_DELLINK => {
            let header = LinkHeader::parse(message).ok()?;
            // A bridge says so of a port that leaves it; the device is still there.
            (header.interface_family == AddressFamily::Unspec).then_some(Event::LinkGone(header.index))
        }
        RTM_NEWADDR => address(message).map(|(device, address)| Event::Address(device, address)),
        RTM_DELADDR => address(message).map(|(device, address)| Event::AddressGone(device, address)),
        RTM_NEWROUTE | RTM_DELROUTE => route_changed(message),
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let (device, address, entry) = neighbour(message)?;
            Some(Event::Neighbour(device, address, if kind == RTM_NEWNEIGH { entry } else { Entry::Nothing }))
        }
        RTM_NEWRULE | RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Some(Event::AnyRoute),
        _ => None,
    }
}

fn link(message: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(message).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mac, mut mtu) = (None, [0; 6], None);
    for (kind, value) in attributes(message, LINK_HEADER) {
        match kind {
            IFLA_ADDRESS => mac = value.try_into().unwrap_or(mac),
            IFLA_IFNAME => name = parse_string(value).ok(),
            IFLA_MTU => mtu = parse_u32(value).ok(),
            _ => {}
        }
    }
    let up = header.flags.contains(LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp);
    // Some messages carry one thing only, of a device that we know from others.
    let device = Device { index: header.index, name: name?, mac, mtu: mtu?, up };
    let silent = header.flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback)
        || header.link_layer_type != LinkLayerType::Ether;
    Some(Link { device, silent })
}

/// The device and the address that a message about an address tells of.
pub fn address(message: &[u8]) -> Option<(u32, IpAddr)> {
    let header = AddressHeader::parse(message).ok()?;
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(message, ADDRESS_HEADER) {
        match kind {
            // On a point-to-point device this is the peer's, and the local one is told as well.
            IFA_ADDRESS => other = parse_ip(value).ok(),
            IFA_LOCAL => local = parse_ip(value).ok(),
            _ => {}
        }
    }
    Some((header.index, local.or(other)?))
}

fn route_changed(message: &[u8]) -> Option<Event> {
    let header = RouteHeader::parse(message).ok()?;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let everything = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let to = attributes(message, ROUTE_HEADER).find(|(kind, _)| *kind == RTA_DST);
    let to = to.and_then(|(_, value)| parse_ip(value).ok()).unwrap_or(everything);
    Some(Event::Route(Prefix::of(to, header.destination_prefix_length)))
}

/// Device, address and state that a message about a neighbour tells of.
pub fn neighbour(message: &[u8]) -> Option<(u32, IpAddr, Entry)> {
    let header = NeighbourHeader::parse(message).ok()?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        || header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(message, NEIGHBOUR_HEADER) {
        match kind {
            NDA_DST => address = parse_ip(value).ok(),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    let entry = match header.state {
        NeighbourState::Failed => Entry::Failed,
        NeighbourState::Incomplete => Entry::Incomplete,
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => {
            let stale = header.state == NeighbourState::Stale;
            mac.map_or(Entry::Nothing, |mac| Entry::Usable { mac, stale })
        }
        _ => Entry::Nothing,
    };
    Some((header.ifindex, address?, entry))
}

/// The next hop that an answer about a route names, if it is one by which packets leave by this device.
pub fn next_hop(message: &[u8], device: u32, destination: IpAddr) -> Option<IpAddr> {
    let header = RouteHeader::parse(message).ok()?;
    let (mut out, mut hop, mut table) = (None, destination, u32::from(header.table));
    for (kind, value) in attributes(message, ROUTE_HEADER) {
        match kind {
            RTA_OIF => out = parse_u32(value).ok(),
            RTA_TABLE => table = parse_u32(value).ok()?,
            RTA_GATEWAY => hop = parse_ip(value).ok()?,
            RTA_VIA => match RouteVia::parse(value).ok()? {
                RouteVia::Inet(address) => hop = address.into(),
                RouteVia::Inet6(address) => hop = address.into(),
                _ => return None,
            },
            _ => {}
        }
    }
    // Asked for a way out of one device, IPv4 without a route says that everything is on the link; it then names no table.
    (header.kind == RouteType::Unicast && out == Some(device) && table != 0).then_some(hop)
}

/// The devices and the prefix of a route of the main table, if it leads to others and was not brought by an address: each
/// next hop that is alive has a device.
pub fn routes(message: &[u8]) -> Vec<(u32, types::Prefix)> {
    let Ok(header) = RouteHeader::parse(message) else { return Vec::new() };
    let of_address = header.protocol == RouteProtocol::Kernel;
    if header.kind != RouteType::Unicast || of_address || header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }
    let everything = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return Vec::new(),
    };
    let (mut to, mut table, mut devices) = (everything, u32::from(header.table), Vec::new());
    let dead = |flags: u32| flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0;
    for (kind, value) in attributes(message, ROUTE_HEADER) {
        match kind {
            RTA_DST => to = parse_ip(value).unwrap_or(everything),
            RTA_TABLE => table = parse_u32(value).unwrap_or(0),
            RTA_OIF if !dead(header.flags.bits()) => devices.extend(parse_u32(value).ok()),
            RTA_MULTIPATH => {
                let hops = next_hops(value).filter(|(flags, _)| !dead(u32::from(*flags)));
                devices.extend(hops.map(|(_, device)| device));
            }
            _ => {}
        }
    }
    if table != RT_TABLE_MAIN {
        return Vec::new();
    }
    let prefix = types::Prefix::new(to, header.destination_prefix_length);
    devices.into_iter().map(|device| (device, prefix)).collect()
}

/// The flags and the device of each next hop of several.
fn next_hops(mut all: &[u8]) -> impl Iterator<Item = (u8, u32)> {
    std::iter::from_fn(move || {
        let head = all.first_chunk::<8>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        all = all.get(length.max(8).next_multiple_of(4)..).unwrap_or_default();
        Some((head[2], u32::from_ne_bytes([head[4], head[5], head[6], head[7]])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_the_two_families_are_kept_apart() {
        let of = |text: &str, length| Prefix::of(text.parse().expect("an address"), length);
        assert_eq!(of("10.1.2.3", 8), of("10.9.9.9", 8));
        assert_ne!(of("10.1.2.3", 16), of("10.9.9.9", 16));
        assert_ne!(of("0.0.0.0", 0), of("::", 0));
        assert_eq!(of("2001:db8::1", 128), of("2001:db8::1", 128));
    }

    #[test]
    fn what_is_cut_off_tells_nothing() {
        for kind in 0..128 {
            for length in 0..20 {
                let _ = event(kind, &[1; 20][..length]);
            }
        }
        assert_eq!(messages(&[16, 0, 0]).count(), 0);
        assert_eq!(next_hop(&[2; 5], 1, IpAddr::from([10, 0, 0, 1])), None);
    }
}
