//! The program: what the packet path reads. Plain tables, immutable, shared by all workers.
//!
//! Isolation: a packet's tunnel names its VNet, and everything behind that is reached through that [`Vnet`]; the only
//! VNets it names in turn are peers of the same customer. Nothing here looks up an address across customers, but for
//! [`Program::plain`], which says whose a packet without tunnel is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use super::effective::RouteSource;
use super::names::{Names, Party};
use super::origins::Origins;
use super::security::Group;
use crate::model::{PeeringKind, Role, Sequence};
use crate::packet::NextHopType;
use crate::table::classify::Bits;
use crate::table::lpm::Lpm;
use crate::types::Prefix;

/// The whole compiled configuration.
///
/// VNets, tunnels and customers stand at the numbers that [`Names`] gives them, so that they stay where they are when
/// the configuration changes, and a program shares with its predecessor what did not change. At numbers of what this
/// configuration does not have stands something vacant ([`Vnet::is_vacant`], [`TunnelEnd::is_vacant`]).
pub struct Program {
    /// The ports, in the order of the configuration.
    pub ports: Vec<Port>,
    /// Every tunnel of every customer, by number.
    pub tunnels: Arc<[TunnelEnd]>,
    /// Tunnels by (port, NVGRE, key as configured); several only on ports where the remote tells them apart.
    pub by_key: Arc<TunnelsByKey>,
    /// Every VNet of every customer, by number.
    pub vnets: Vec<Arc<Vnet>>,
    /// What circuit links and VPN connections lead to, by the number of their tunnel.
    pub entries: Arc<[Arc<Entry>]>,
    /// Whose a plain packet is, by destination.
    pub plain: Arc<Lpm<PlainOwner>>,
    /// Prefixes that Microsoft and public peerings have learned: [`PlainOwner::Peering`] is an index.
    pub public: Arc<[PublicPrefix]>,
    /// The bandwidth of each circuit link and direction in Mbps, by [`CircuitLink::bucket`]; 0: no limit.
    pub bandwidths: Arc<[u32]>,
    /// From where packets of the usual shape arrive.
    pub origins: Arc<Origins>,
    /// Bits that are all set in the last address of every IPv4 subnet.
    pub broadcast_bits: u32,
    /// The port of the Internet.
    pub internet_port: Option<u16>,
    /// The port of public services.
    pub services_port: Option<u16>,
    /// For each customer, the generation of the program that last changed anything that packets of its known flows depend
    /// on, but for [`Program::plain`]; 0 of a customer that is not there. Rules are for flows to come, unless their group
    /// flushes connections.
    pub generations: Vec<u32>,
    /// The generation of this program, from 1: one more than its predecessor's.
    pub generation: u32,
    /// What belongs to each customer.
    pub(super) parts: Arc<Vec<Arc<Part>>>,
    /// The numbers of the customers, in the order of the configuration.
    pub(super) order: Vec<u32>,
    /// Every name that a number here stands for.
    pub names: Arc<Names>,
}

/// Tunnels by (port, NVGRE, key as configured).
pub type TunnelsByKey = HashMap<(u16, bool, u32), Vec<u32>, RandomState>;

/// The numbers of what belongs to a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) vnets: Vec<u32>,
    pub(super) tunnels: Vec<u32>,
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it is connected to.
    pub role: Role,
    /// Its own address.
    pub address: IpAddr,
    /// The largest IP packet.
    pub mtu: u32,
    /// The next router of a plain port.
    pub next_hop: Option<IpAddr>,
}

/// What a tunnel leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaches {
    /// A VNet's hosts.
    Hosts {
        /// The VNet's number.
        vnet: u32,
    },
    /// The Internet of a VNet.
    Internet {
        /// The VNet's number.
        vnet: u32,
    },
    /// A circuit link or a VPN connection.
    Site {
        /// Where it stands in [`Program::entries`]: the tunnel's number.
        entry: u32,
    },
}

/// One GRE binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// What it leads to.
    pub reaches: Reaches,
    /// The customer's number.
    pub customer: u32,
    /// The VNet's number, of a tunnel that has one VNet.
    pub vnet: Option<u32>,
    /// Its port.
    pub port: u16,
    /// The other end; of a fabric tunnel the host is chosen per packet.
    pub remote: Option<IpAddr>,
    /// The key as on the wire.
    pub wire_key: u32,
    /// Ethernet inside.
    pub nvgre: bool,
    /// It carries traffic.
    pub enabled: bool,
    /// Sequence numbers.
    pub sequence: Sequence,
    /// Its number: where it stands in [`Program::tunnels`].
    pub id: u32,
    /// What is special about a link of a circuit.
    pub link: Option<Box<CircuitLink>>,
}

/// A link of a circuit's peering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitLink {
    /// Which domain.
    pub kind: PeeringKind,
    /// Where it stands in [`Program::bandwidths`]: the number of the circuit's link, which its peerings share.
    pub bucket: u32,
    /// The number of the peering's link: what it carries is counted under it.
    pub meter: u32,
    /// The same for both links of the peering.
    pub peering: u32,
    /// The customer's address and ours, of IPv4 and of IPv6.
    pub ends: [Option<(IpAddr, IpAddr)>; 2],
}

/// How a packet passes circuit links, as one number: the link that it comes by, with one bit, or the link that it leaves by,
/// with another; 0 if it passes none. Of one that does both, the two numbers together have both bits, and say no more.
impl CircuitLink {
    const FROM: u32 = 1 << 30;
    const TO: u32 = 1 << 31;
    /// The least that says that a packet comes by a link and leaves by one.
    pub const BOTH: u32 = Self::FROM | Self::TO;

    /// Packets come by it.
    pub fn inwards(&self) -> u32 {
        Self::FROM | (2 * (self.meter + 1))
    }

    /// Packets leave by it.
    pub fn outwards(&self) -> u32 {
        Self::TO | (2 * (self.meter + 1) + 1)
    }

    /// What of such a number, unless it says both, is the place of a counter: two for each link, and one for none.
    #[inline(always)]
    pub fn counter(passed: u32) -> u32 {
        passed & !Self::BOTH
    }
}

/// A prefix that a customer has announced on Microsoft or public peering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPrefix {
    /// The prefix.
    pub prefix: Prefix,
    /// The customer's number.
    pub customer: u32,
    /// Its links that lead there.
    pub ways: Ways,
    /// Ranges of the customer's VNets, which no source may lie in.
    pub inside: Arc<Vec<Prefix>>,
    /// Everyone outside, as a party.
    pub party: u32,
}

/// What a circuit link or VPN connection leads to. The links of a peering share their tables.
#[derive(Default)]
pub struct Entry {
    /// The VNet whose gateway is entered, by destination.
    pub enter: Arc<Lpm<u32>>,
    /// Ranges that no source from there may lie in.
    pub inside: Arc<Lpm<()>>,
    /// Prefixes learned from there; a source lies in one.
    pub learned: Arc<Lpm<()>>,
    /// Its number as a party.
    pub party: u32,
}

/// Whose a plain packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainOwner {
    /// The only VNet whose space holds the address.
    One(u32),
    /// Several do.
    Several,
    /// A prefix learned on Microsoft or public peering holds it: which of [`Program::public`].
    Peering(u32),
}

/// A virtual network.
pub struct Vnet {
    /// The customer's number.
    pub customer: u32,
    /// Its number: where it stands in [`Program::vnets`].
    pub id: u32,
    /// Its id in Azure, if the configuration says it.
    pub resource: Option<Box<str>>,
    /// How long a flow may be idle, in minutes.
    pub flow_timeout_minutes: u32,
    /// Flow records at most.
    pub max_flows: u32,
    /// Whose ranges hold an address: its own, or a connected peer's.
    pub around: Lpm<Neighbour>,
    /// Its own ranges; [`Neighbour::range`] is an index into them.
    pub space: Vec<Prefix>,
    /// What its own addresses are.
    pub places: Lpm<Place>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Its NICs.
    pub nics: Vec<Nic>,
    /// The underlay addresses of its hosts.
    pub hosts: Vec<IpAddr>,
    /// Its hosts by underlay address.
    pub host_numbers: HashMap<IpAddr, u32, RandomState>,
    /// For each host, the NICs with IP forwarding that live there.
    pub forwarders: Vec<Vec<u32>>,
    /// Its fabric tunnel; absent when down.
    pub fabric: Option<u32>,
    /// How it reaches the Internet.
    pub internet: InternetWay,
    /// The number of its Internet as a party.
    pub internet_party: u32,
    /// The routes of packets that come from a gateway.
    pub gateway_fib: Arc<Fib>,
    /// Prefixes, other than default routes, that its gateways have learned.
    pub learned: Lpm<()>,
    /// Sets of equal ways, for its routes.
    pub ways: Vec<Ways>,
    /// What its VPN gateway has learned: ways for user-defined routes to the gateway.
    pub vpn: Lpm<u32>,
    /// The ways to its VPN gateway's default site.
    pub vpn_default: Option<u32>,
}

/// A range that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The VNet's number.
    pub vnet: u32,
    /// Which of that VNet's ranges.
    pub range: u32,
}

/// What an address of a VNet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its subnet.
    pub subnet: Option<u16>,
    /// The host that carries it.
    pub host: Option<u32>,
    /// The NIC that has it.
    pub nic: Option<u32>,
    /// It is the last address of an IPv4 subnet.
    pub broadcast: bool,
}

/// How a VNet reaches the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternetWay {
    /// By the internet port.
    Plain,
    /// By this tunnel.
    Tunnel(u32),
    /// Its tunnel is down.
    Down,
}

/// A subnet.
pub struct Subnet {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<Prefix>,
    /// Its routes.
    pub fib: Arc<Fib>,
    /// Its network security group; none of GatewaySubnet.
    pub group: Option<Arc<Group>>,
}

/// A network interface.
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its number as a party.
    pub party: u32,
    /// Its subnet.
    pub subnet: u16,
    /// It may receive and send what is not its own.
    pub forwarding: bool,
    /// It checks TCP state.
    pub tracks_tcp: bool,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
    /// Flow records at most.
    pub max_flows: u32,
    /// Its own network security group.
    pub group: Option<Arc<Group>>,
    /// Which rules apply to it, where not all do: of its own group inbound and outbound, of its subnet's likewise.
    pub applying: [Option<Bits>; 4],
}

/// The routes of a subnet.
pub struct Fib {
    /// Index into `routes` by destination.
    pub table: Lpm<u32>,
    /// The routes in use.
    pub routes: Vec<FibRoute>,
    /// The same in short.
    pub short: Vec<ShortRoute>,
    /// The system default route, for platform addresses.
    pub system_default: FibRoute,
}

impl Fib {
    pub(super) fn new(table: Lpm<u32>, routes: Vec<FibRoute>) -> Fib {
        let system_default = FibRoute {
            prefix: Prefix::ALL_V4,
            next_hop_type: NextHopType::Internet,
            hop: Hop::Services,
            source: RouteSource::Default,
            name: None,
        };
        let short = routes.iter().map(ShortRoute::new).collect();
        Fib { table, routes, short, system_default }
    }
}

/// A route in use.
#[derive(Clone, Debug)]
pub struct FibRoute {
    /// Its prefix.
    pub prefix: Prefix,
    /// Its type.
    pub next_hop_type: NextHopType,
    /// Where it leads.
    pub hop: Hop,
    /// Who made it.
    pub source: RouteSource,
    /// The name of a user-defined route.
    pub name: Option<Arc<str>>,
}

/// A route in eight bytes: what most packets need to know of it.
#[derive(Clone, Copy, Debug)]
pub struct ShortRoute {
    /// The VNet's ways that it leads to, if it does.
    pub ways: u32,
    /// Its type.
    pub next_hop_type: NextHopType,
    /// The length of its prefix.
    pub length: u8,
    /// Where it leads.
    pub leads: Leads,
}

/// Where a route leads, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To the VNet itself.
    Local,
    /// To [`ShortRoute::ways`].
    Ways,
    /// To the Internet.
    Internet,
    /// [`FibRoute::hop`] says where.
    Elsewhere,
}

impl ShortRoute {
    fn new(route: &FibRoute) -> ShortRoute {
        let (leads, ways) = match route.hop {
            Hop::Local => (Leads::Local, 0),
            Hop::Ways(ways) => (Leads::Ways, ways),
            Hop::Internet => (Leads::Internet, 0),
            _ => (Leads::Elsewhere, 0),
        };
        ShortRoute { ways, next_hop_type: route.next_hop_type, length: route.prefix.len(), leads }
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The VNet itself.
    Local,
    /// A peer.
    Peer {
        /// The peer's number.
        vnet: u32,
        /// The peer's own side allows forwarded traffic.
        allow_forwarded: bool,
    },
    /// An appliance.
    Appliance {
        /// Its address.
        address: IpAddr,
        /// Its VNet and what it is there; absent when it lies in no subnet of the VNet and its peers.
        place: Option<(u32, Place)>,
        /// Its VNet is another one and does not allow forwarded traffic.
        refuses_forwarded: bool,
        /// Its number as a party, for an address without NIC.
        party: u32,
    },
    /// These of the VNet's ways ([`Vnet::ways`]).
    Ways(u32),
    /// The VPN gateway, for a user-defined route.
    Vpn,
    /// The Internet.
    Internet,
    /// Public services.
    Services,
    /// Nowhere.
    None,
}

/// Equal ways to a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ways {
    /// Stable number of the way, and its tunnel.
    pub ways: Vec<(u64, u32)>,
}

impl Program {
    /// The number of a port.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().position(|p| p.name == name).map(|i| i as u16)
    }

    /// What lies behind a tunnel, for a person.
    pub fn leads_to(&self, tunnel: u32) -> String {
        let Some(end) = self.tunnels.get(tunnel as usize) else { return String::new() };
        let vnet = |v: u32| self.vnets.get(v as usize).map_or("", |v| self.names.vnet_name(v.id));
        match end.reaches {
            Reaches::Hosts { vnet: v } => format!("VNet {}", vnet(v)),
            Reaches::Internet { vnet: v } => format!("the Internet tunnel of {}", vnet(v)),
            Reaches::Site { entry } => {
                let party = self.entries.get(entry as usize).map_or(0, |e| e.party);
                match self.names.party_of(party) {
                    Some(Party::Link(_, circuit, peering, link)) => {
                        format!("circuit {circuit} {peering} {}", link.name())
                    }
                    Some(Party::Connection(_, name)) => format!("connection {name}"),
                    _ => String::new(),
                }
            }
        }
    }

    /// The number of a customer's VNet.
    pub fn vnet(&self, customer: &str, vnet: &str) -> Option<u32> {
        let number = self.names.vnet_number(self.names.customer_number(customer)?, vnet)?;
        self.vnets.get(number as usize).filter(|v| !v.is_vacant()).map(|_| number)
    }
}

/// Stands for the number of something that is not there.
const VACANT: u32 = u32::MAX;

impl TunnelEnd {
    /// At the number of a tunnel that this configuration does not have.
    pub(super) fn vacant() -> TunnelEnd {
        TunnelEnd {
            reaches: Reaches::Site { entry: VACANT },
            customer: VACANT,
            vnet: None,
            port: u16::MAX,
            remote: None,
            wire_key: 0,
            nvgre: false,
            enabled: false,
            sequence: Sequence::Off,
            id: VACANT,
            link: None,
        }
    }

    /// True at the number of a tunnel that this configuration does not have.
    pub fn is_vacant(&self) -> bool {
        self.id == VACANT
    }
}

impl Nic {
    /// True if frames with this source are its own: its MAC address, or where it has none one made of an address.
    pub fn has_mac(&self, mac: [u8; 6]) -> bool {
        match self.mac {
            Some(own) => own == mac,
            None => self.addresses.iter().any(|a| crate::wire::ethernet::mac_of(*a) == mac),
        }
    }
}

impl Vnet {
    /// At the number of a VNet that this configuration does not have.
    pub(super) fn vacant() -> Vnet {
        Vnet {
            customer: VACANT,
            id: VACANT,
            resource: None,
            flow_timeout_minutes: 0,
            max_flows: VACANT,
            around: Lpm::default(),
            space: Vec::new(),
            places: Lpm::default(),
            subnets: Vec::new(),
            nics: Vec::new(),
            hosts: Vec::new(),
            host_numbers: HashMap::default(),
            forwarders: Vec::new(),
            fabric: None,
            internet: InternetWay::Down,
            internet_party: 0,
            gateway_fib: Arc::new(Fib::new(Lpm::default(), Vec::new())),
            learned: Lpm::default(),
            ways: Vec::new(),
            vpn: Lpm::default(),
            vpn_default: None,
        }
    }

    /// True at the number of a VNet that this configuration does not have.
    pub fn is_vacant(&self) -> bool {
        self.id == VACANT
    }

    /// How long a flow may be idle, in seconds.
    pub fn idle_seconds(&self) -> u32 {
        self.flow_timeout_minutes * 60
    }

    /// What an address of this VNet is.
    #[inline]
    pub fn place(&self, addr: IpAddr) -> Place {
        self.places.lookup(addr).unwrap_or_default()
    }

    /// The VNet's NIC of this index.
    #[inline]
    pub fn nic(&self, nic: Option<u32>) -> Option<&Nic> {
        self.nics.get(nic? as usize)
    }
}
