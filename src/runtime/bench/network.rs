//! The network of a bench: every address, key, rule and route of every VNet follows from a few numbers, so that nothing
//! has to be remembered while traffic is made, and the caches belong to the packet path.
//!
//! A VNet has four subnets with four NICs each, on four hosts, behind one fabric tunnel; an NSG that its NICs share and
//! one that its subnets share; a route table; a circuit with two links on two edge ports; and a tunnel to the Internet.
//! Every third rule of a direction allows one service (a protocol and a port), which is what the traffic uses; those in
//! between match none of it.

use std::net::IpAddr;

use crate::table::ecmp::mix;
use crate::types::Prefix;

/// NICs of a VNet: four in each of four subnets.
pub const NICS: u32 = 16;
/// Subnets of a VNet.
pub const SUBNETS: u32 = 4;
/// Hosts that carry a VNet.
pub const HOSTS: u32 = 4;
/// Routes of a route table at most.
const USER_ROUTES: u32 = 400;

/// The ports, as indices.
pub const FABRIC: u16 = 0;
/// The port of the circuits' primary links; that of the secondary ones follows.
pub const EDGE: u16 = 1;
/// The port of the Internet tunnels.
pub const INTERNET: u16 = 3;
/// The addresses of the ports.
pub const PORTS: [[u8; 4]; 4] = [[198, 51, 100, 2], [192, 0, 2, 1], [192, 0, 2, 5], [203, 0, 113, 2]];

/// Where the customers' own networks are.
pub const PREMISES: [u8; 4] = [172, 16, 0, 0];
/// The length of that prefix.
pub const PREMISES_LENGTH: u8 = 12;

/// The outer end of a tunnel: port, key, remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Index of the port.
    pub port: u16,
    /// The key.
    pub key: u32,
    /// The underlay address at the far side.
    pub remote: u32,
}

/// What a connection uses: a protocol and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// TCP; else UDP.
    pub tcp: bool,
    /// The destination port.
    pub port: u16,
}

/// The four kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From one NIC of the VNet to another.
    Inside = 0,
    /// From a NIC to the circuit.
    ToCircuit = 1,
    /// From the circuit to a NIC.
    FromCircuit = 2,
    /// From a NIC to the Internet.
    ToInternet = 3,
}

impl Kind {
    /// All kinds; a connection's number modulo four is its kind.
    pub const ALL: [Kind; 4] = [Kind::Inside, Kind::ToCircuit, Kind::FromCircuit, Kind::ToInternet];
}

/// The sizes that everything else follows from.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// VNets.
    pub vnets: u32,
    /// Rules of each NSG.
    pub rules: u32,
    /// User-defined routes of each VNet.
    pub user_routes: u32,
    /// Learned routes of each VNet.
    pub learned_routes: u32,
    /// What random choices follow from.
    pub seed: u64,
    hosts: u32,
    slot_length: u8,
}

impl Network {
    /// A network of these sizes.
    pub fn new(vnets: u32, rules: u32, routes: u32, seed: u64) -> Network {
        let user_routes = (routes / 2).min(USER_ROUTES);
        let learned_routes = routes - user_routes;
        let slots = learned_routes.div_ceil(8) * 8;
        let bits = slots.next_power_of_two().trailing_zeros() as u8;
        Network {
            vnets,
            rules,
            user_routes,
            learned_routes,
            seed,
            hosts: (vnets * HOSTS).min(1024),
            slot_length: (PREMISES_LENGTH + bits).max(18),
        }
    }

    /// A random number of a VNet and a thing in it.
    pub fn random(&self, vnet: u32, thing: u32) -> u64 {
        mix(mix(self.seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(vnet) << 32 | u64::from(thing)))
    }

    /// The second octet of a VNet's range: ranges of different customers overlap.
    fn octet(vnet: u32) -> u32 {
        1 + vnet % 200
    }

    /// The VNet's range.
    pub fn space(&self, vnet: u32) -> Prefix {
        prefix(10 << 24 | Network::octet(vnet) << 16, 16)
    }

    /// A subnet's prefix.
    pub fn subnet(&self, vnet: u32, subnet: u32) -> Prefix {
        prefix(10 << 24 | Network::octet(vnet) << 16 | subnet << 8, 24)
    }

    /// The address of a NIC.
    #[inline]
    pub fn nic(&self, vnet: u32, nic: u32) -> u32 {
        10 << 24 | Network::octet(vnet) << 16 | (nic / 4) << 8 | (4 + nic % 4)
    }

    /// The host that carries a NIC, as one of the VNet's four.
    #[inline]
    pub fn host_of(nic: u32) -> u32 {
        nic % HOSTS
    }

    /// The underlay address of a host of the VNet. Hosts carry several VNets.
    #[inline]
    pub fn host(&self, vnet: u32, host: u32) -> u32 {
        let number = (vnet * HOSTS + host) % self.hosts;
        addr([198, 18, 0, 0]) | (number / 250) << 8 | (1 + number % 250)
    }

    /// The fabric end of a VNet at a host.
    #[inline]
    pub fn fabric(&self, vnet: u32, host: u32) -> End {
        End { port: FABRIC, key: 0x10000 + vnet, remote: self.host(vnet, host) }
    }

    /// A link of the VNet's circuit, 0 or 1.
    #[inline]
    pub fn link(&self, vnet: u32, link: u32) -> End {
        let remote = addr([100, 64, 0, 0]) | link << 16 | (vnet / 250) << 8 | (1 + vnet % 250);
        End { port: EDGE + link as u16, key: 0x20000 + 0x10000 * link + vnet, remote }
    }

    /// The VNet's tunnel to the Internet.
    #[inline]
    pub fn internet(&self, vnet: u32) -> End {
        End { port: INTERNET, key: 0x40000 + vnet, remote: addr([203, 0, 113, 1]) }
    }

    /// Rules of an NSG in one direction.
    pub fn rules_in(&self, outbound: bool) -> u32 {
        if outbound { self.rules / 2 } else { self.rules - self.rules / 2 }
    }

    /// Services that rules allow; those of one kind of connection are every fourth.
    pub fn services(&self) -> u32 {
        self.rules / 2 / 3
    }

    /// Services of a kind of connection; with none, the traffic is allowed by default rules.
    pub fn services_of(&self, kind: Kind) -> u32 {
        let services = self.services();
        (services + 3 - kind as u32) / 4
    }

    /// A service by its number.
    #[inline]
    pub fn service(&self, number: u32) -> Service {
        Service { tcp: (number / 4).is_multiple_of(2), port: (1024 + 7 * number) as u16 }
    }

    /// The number of the service that has this port, if rules allow it.
    pub fn service_number(&self, port: u16) -> Option<u32> {
        let number = u32::from(port).checked_sub(1024)? / 7;
        (number < self.services()).then_some(number)
    }

    /// Learned prefixes that traffic goes to; the others cover eight of these and more.
    #[inline]
    pub fn leaves(&self) -> u32 {
        self.learned_routes - self.learned_routes / 8
    }

    /// A learned prefix that traffic goes to.
    #[inline]
    pub fn leaf(&self, vnet: u32, leaf: u32) -> Prefix {
        let slot = leaf / 7 * 8 + leaf % 7;
        let length = (self.slot_length + (self.random(vnet, 1 << 20 | leaf) % 3) as u8).min(28);
        prefix(addr(PREMISES) | slot << (32 - self.slot_length), length)
    }

    /// A learned prefix that covers others.
    pub fn cover(&self, cover: u32) -> Prefix {
        let length = if cover % 8 == 7 { self.slot_length - 6 } else { self.slot_length - 3 };
        let first = addr(PREMISES) | (cover * 8) << (32 - self.slot_length);
        prefix(first & u32::MAX << (32 - length), length)
    }

    /// User-defined routes that lead to the Internet: half of all.
    #[inline]
    pub fn public_routes(&self) -> u32 {
        self.user_routes.div_ceil(2)
    }

    /// The prefix of such a route.
    #[inline]
    pub fn public(&self, vnet: u32, route: u32) -> Prefix {
        let length = 24 + (self.random(vnet, 2 << 20 | route) % 3) as u8;
        prefix(addr([20, 0, 0, 0]) | route << 8, length)
    }
}

/// An address as a number.
#[inline]
pub fn addr(octets: [u8; 4]) -> u32 {
    u32::from_be_bytes(octets)
}

/// A number as an address.
#[inline]
pub fn ip(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

/// A prefix from the number of its first address.
pub fn prefix(first: u32, length: u8) -> Prefix {
    Prefix::new(ip(first), length)
}
