//! What the customers own, valid by construction: a [`Model`] exists only if every rule of the contract and every limit
//! of Azure holds for it. References are indices into the vectors of the same customer.

pub mod azure;
mod build;
pub mod communities;
mod expr;
pub mod fault;
mod files;
mod follow;
mod functions;
mod json;
mod load;
pub mod node;
mod shared_key;
pub mod tags;
pub mod template;
pub mod text;
pub mod what_if;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::Direction;
use crate::types::Prefix;

pub(crate) use build::nearest_name;
pub use fault::{Fault, Severity};
pub use files::Files;
pub use follow::may_follow;
pub use load::{from_bytes, load, load_files};
pub use shared_key::SharedKey;
pub use what_if::{During, LinkEvent, WhatIf};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// The ports, in the order of the file.
    pub ports: Vec<Port>,
    /// The customers, in the order of the file. Models share those that are alike, so that a change of one is found at
    /// once.
    pub customers: Vec<Arc<Customer>>,
    /// The service tags that rules, routes and service endpoints of this configuration use.
    pub tags: ServiceTags,
    /// The prefixes of the service communities that route filters of this configuration name, as far as they are known.
    pub communities: BTreeMap<u32, Vec<Prefix>>,
    /// What is accepted but probably not meant; never of [`Severity::Error`].
    pub warnings: Vec<Fault>,
}

/// Microsoft's named prefix lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceTags {
    /// By name in lower case.
    pub by_name: BTreeMap<String, ServiceTag>,
}

/// One service tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTag {
    /// As Microsoft writes it, for example `Storage.WestUS`.
    pub name: String,
    /// Its prefixes, both families.
    pub prefixes: Vec<Prefix>,
}

impl ServiceTags {
    /// The tag of this name, in any letter case.
    pub fn find(&self, name: &str) -> Option<&ServiceTag> {
        self.by_name.get(&name.to_ascii_lowercase())
    }
}

/// What a port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// GRE to the hosts that carry the VNets.
    Fabric,
    /// GRE to the customers' own routers.
    Edge,
    /// Plain packets to and from the Internet, and GRE to Internet tunnels and VPN connections.
    Internet,
    /// Plain packets to and from public services and the platform addresses.
    Services,
}

/// A named place where frames enter and leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it is connected to.
    pub role: Role,
    /// Its own underlay address: the outer destination of what it receives, the outer source of what it sends.
    pub address: IpAddr,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// The next router of a plain port.
    pub next_hop: Option<IpAddr>,
    /// The network device, when live.
    pub device: Option<String>,
    /// How frames are read from it and written to it.
    pub io: Io,
}

/// How frames are read from a network device and written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Io {
    /// The best that the device and the kernel can do.
    #[default]
    Auto,
    /// AF_XDP sockets.
    AfXdp,
    /// AF_PACKET sockets with rings.
    AfPacket,
    /// The crate pnet: AF_PACKET sockets without rings.
    Pnet,
    /// A TAP device, whose other side is the kernel of this machine.
    Tap,
}

impl Io {
    /// As a configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Io::Auto => "auto",
            Io::AfXdp => "af_xdp",
            Io::AfPacket => "af_packet",
            Io::Pnet => "pnet",
            Io::Tap => "tap",
        }
    }
}

/// The owner of circuits and virtual networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Customer {
    /// Its name.
    pub name: String,
    /// Its virtual networks.
    pub vnets: Vec<Vnet>,
    /// Its network security groups.
    pub nsgs: Vec<Arc<Nsg>>,
    /// Its application security groups, by name.
    pub asgs: Vec<String>,
    /// Its route tables.
    pub route_tables: Vec<Arc<RouteTable>>,
    /// Its network interfaces.
    pub nics: Vec<Nic>,
    /// Its route filters.
    pub route_filters: Vec<RouteFilter>,
    /// Its circuits.
    pub circuits: Vec<Circuit>,
    /// Its gateways.
    pub gateways: Vec<Gateway>,
    /// Its sites behind VPN connections.
    pub local_network_gateways: Vec<LocalNetworkGateway>,
    /// Its connections of gateways to circuits and sites.
    pub connections: Vec<Connection>,
    /// Its GRE bindings.
    pub tunnels: Vec<Tunnel>,
    /// The hosts that carry its addresses.
    pub hosts: Vec<Host>,
    /// Its learned routes. Those of local network gateways are not repeated here.
    pub learned_routes: Vec<LearnedRoute>,
    /// What becomes of these and of its links in time.
    pub what_if: WhatIf,
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnet {
    /// Its name.
    pub name: String,
    /// Its id in Azure, if a whole one is said.
    pub id: Option<String>,
    /// Its ranges.
    pub address_space: Vec<Prefix>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Its sides of peerings.
    pub peerings: Vec<Peering>,
    /// How long a flow may be idle, in minutes (4 to 30).
    pub flow_timeout_minutes: u32,
    /// Flow records at most.
    pub max_flows: u32,
}

/// The name of the subnet that gateways live in.
pub const GATEWAY_SUBNET: &str = "GatewaySubnet";

/// A subnet of a VNet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its name.
    pub name: String,
    /// Its prefixes, each inside a range of the VNet.
    pub prefixes: Vec<Prefix>,
    /// Its network security group.
    pub nsg: Option<usize>,
    /// Its route table.
    pub route_table: Option<usize>,
    /// Its service endpoints.
    pub service_endpoints: Vec<ServiceEndpoint>,
}

/// A service endpoint of a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceEndpoint {
    /// The service, for example `Microsoft.Storage`.
    pub service: String,
    /// The service tags whose IPv4 prefixes it routes; each is in [`Model::tags`].
    pub tags: Vec<String>,
}

/// One VNet's side of a peering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// Its name.
    pub name: String,
    /// The other VNet of the same customer; absent when this configuration does not have it.
    pub remote: Option<usize>,
    /// False if this side's `peeringState` is said and is not Connected.
    pub connected: bool,
    /// `allowVirtualNetworkAccess`.
    pub allow_access: bool,
    /// `allowForwardedTraffic`: packets that did not begin in the remote VNet may enter this one.
    pub allow_forwarded: bool,
    /// `allowGatewayTransit`: the remote VNet may use this one's gateways.
    pub allow_gateway_transit: bool,
    /// `useRemoteGateways`: this VNet uses the remote one's gateways.
    pub use_remote_gateways: bool,
}

/// A network security group: its own rules; Azure's six default rules come behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsg {
    /// Its name.
    pub name: String,
    /// Its id in Azure, if a whole one is said.
    pub id: Option<String>,
    /// Live flows are judged again when the configuration changes.
    pub flush_connection: bool,
    /// Its rules, in the order of the file; priorities are unique per direction.
    pub rules: Vec<Rule>,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The packet may pass.
    Allow,
    /// The packet is dropped.
    Deny,
}

/// The protocol a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// `*`: every protocol number.
    Any,
    /// Protocol 6.
    Tcp,
    /// Protocol 17.
    Udp,
    /// Protocols 1 and 58.
    Icmp,
    /// Protocol 50.
    Esp,
    /// Protocol 51.
    Ah,
}

/// One security rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// 100 to 4096; the lowest is asked first.
    pub priority: u16,
    /// The direction it applies to.
    pub direction: Direction,
    /// What it says.
    pub access: Access,
    /// The protocol it names.
    pub protocol: RuleProtocol,
    /// The sources it names.
    pub source: AddressMatch,
    /// The destinations it names.
    pub destination: AddressMatch,
    /// Source ports, both ends included; one range 0 to 65535 stands for `*`.
    pub source_ports: Vec<(u16, u16)>,
    /// Destination ports, both ends included.
    pub destination_ports: Vec<(u16, u16)>,
}

impl Rule {
    /// True if it names an application security group, on either side.
    pub fn names_asgs(&self) -> bool {
        !self.source.asgs.is_empty() || !self.destination.asgs.is_empty()
    }
}

/// The addresses one side of a rule names: any of these items, or any of these application security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMatch {
    /// Prefixes and tags; empty when the side names application security groups.
    pub items: Vec<AddressItem>,
    /// Application security groups.
    pub asgs: Vec<usize>,
}

/// One entry of a rule's address list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressItem {
    /// `*`: every address of both families.
    Any,
    /// An address or prefix.
    Prefix(Prefix),
    /// The tag VirtualNetwork.
    VirtualNetwork,
    /// The tag Internet.
    Internet,
    /// The tag AzureLoadBalancer.
    AzureLoadBalancer,
    /// Another service tag, as Microsoft writes it; it is in [`Model::tags`].
    Tag(String),
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// Its name.
    pub name: String,
    /// No learned routes in its subnets.
    pub disable_bgp_route_propagation: bool,
    /// Its routes, in the order of the file.
    pub routes: Vec<Route>,
}

/// A user-defined route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The destinations.
    pub target: RouteTarget,
    /// Where they go.
    pub next_hop: RouteNextHop,
    /// `hasBgpOverride`: beats learned routes inside its prefix.
    pub has_bgp_override: bool,
}

/// The destinations of a user-defined route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// One prefix.
    Prefix(Prefix),
    /// A service tag, as Microsoft writes it; it is in [`Model::tags`].
    Tag(String),
}

/// The next hop of a user-defined route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteNextHop {
    /// The VPN gateway.
    VirtualNetworkGateway,
    /// The VNet itself.
    VnetLocal,
    /// The Internet.
    Internet,
    /// The appliance with this address.
    VirtualAppliance(IpAddr),
    /// Drop.
    None,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// It may receive and send what is not its own.
    pub ip_forwarding: bool,
    /// TCP is treated like UDP.
    pub disable_tcp_state_tracking: bool,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its network security group.
    pub nsg: Option<usize>,
    /// Its VNet.
    pub vnet: usize,
    /// Its subnet in that VNet.
    pub subnet: usize,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
    /// The application security groups that any of its IP configurations is in.
    pub asgs: Vec<usize>,
    /// Flow records at most.
    pub max_flows: u32,
}

/// A circuit (`expressRouteCircuits`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Its name.
    pub name: String,
    /// Its `sku.tier`.
    pub tier: CircuitTier,
    /// `sku.family` is UnlimitedData: what is sent to the customer is not paid for by its bytes.
    pub unlimited_data: bool,
    /// `bandwidthInMbps`, if said.
    pub bandwidth_mbps: Option<u32>,
    /// Its peerings.
    pub peerings: Vec<CircuitPeering>,
}

/// `sku.tier` of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitTier {
    /// Local.
    Local,
    /// Standard.
    Standard,
    /// Premium.
    Premium,
}

/// A routing domain of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitPeering {
    /// Its name.
    pub name: String,
    /// Which domain.
    pub kind: PeeringKind,
    /// Our AS number; 12076 when unsaid.
    pub azure_asn: u32,
    /// The customer's AS number.
    pub peer_asn: Option<u32>,
    /// The key of its BGP sessions, if there is one.
    pub shared_key: Option<SharedKey>,
    /// The VLAN of the domain.
    pub vlan: Option<u16>,
    /// Link prefixes: primary and secondary.
    pub link_prefixes: [Option<Prefix>; 2],
    /// IPv6 link prefixes: primary and secondary.
    pub link_prefixes_v6: [Option<Prefix>; 2],
    /// `advertisedPublicPrefixes`, of both families: what Microsoft and public peering may learn.
    pub advertised_public_prefixes: Vec<Prefix>,
    /// The route filters that say what is advertised, of IPv4 and of IPv6; without one, nothing.
    pub route_filters: [Option<usize>; 2],
    /// `routes: kernel`: routes are mirrored from the kernel, in the namespace of the customer's links, and not learned by
    /// the BGP speaker that is built in.
    pub kernel_routes: bool,
}

/// A route filter: which service prefixes Microsoft and public peering advertise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFilter {
    /// Its name.
    pub name: String,
    /// The communities that it allows, each once.
    pub communities: Vec<u32>,
}

/// `peeringType` of a circuit peering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeeringKind {
    /// AzurePrivatePeering.
    Private,
    /// MicrosoftPeering.
    Microsoft,
    /// AzurePublicPeering.
    Public,
}

impl PeeringKind {
    /// `AzurePrivatePeering`, `MicrosoftPeering` or `AzurePublicPeering`.
    pub fn name(self) -> &'static str {
        match self {
            PeeringKind::Private => "AzurePrivatePeering",
            PeeringKind::Microsoft => "MicrosoftPeering",
            PeeringKind::Public => "AzurePublicPeering",
        }
    }
}

/// One of the two links of a circuit peering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// The primary link.
    Primary,
    /// The secondary link.
    Secondary,
}

impl Link {
    /// `primary` or `secondary`.
    pub fn name(self) -> &'static str {
        match self {
            Link::Primary => "primary",
            Link::Secondary => "secondary",
        }
    }
}

/// A virtual network gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// ExpressRoute or VPN; a VNet has at most one of each.
    pub kind: GatewayKind,
    /// Its VNet.
    pub vnet: usize,
    /// `gatewayDefaultSite`: a local network gateway.
    pub default_site: Option<usize>,
}

/// `gatewayType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayKind {
    /// ExpressRoute.
    ExpressRoute,
    /// Vpn.
    Vpn,
}

/// A site behind VPN connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNetworkGateway {
    /// Its name.
    pub name: String,
    /// Its prefixes: static routes of every connection to it.
    pub prefixes: Vec<Prefix>,
}

/// A connection of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// The gateway.
    pub gateway: usize,
    /// What the gateway is connected to.
    pub to: ConnectionTo,
    /// Why it carries nothing, if so: a sentence without its subject.
    pub down: Option<String>,
}

/// The far side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionTo {
    /// A circuit, with `routingWeight`.
    Circuit {
        /// The circuit.
        circuit: usize,
        /// The highest wins.
        routing_weight: u32,
    },
    /// A site by VPN, with its local network gateway if it has one.
    Site {
        /// The local network gateway.
        local_network_gateway: Option<usize>,
        /// The highest wins.
        routing_weight: u32,
    },
}

/// A GRE binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// What it stands for.
    pub to: TunnelTo,
    /// Its port.
    pub port: usize,
    /// The other end; of a VNet's fabric tunnel the ends are its hosts.
    pub remote: Option<IpAddr>,
    /// The GRE key, or the virtual subnet of an NVGRE tunnel (24 bits).
    pub key: u32,
    /// GRE or NVGRE.
    pub encapsulation: Encapsulation,
    /// It carries traffic.
    pub enabled: bool,
    /// Sequence numbers.
    pub sequence: Sequence,
}

/// What a tunnel stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelTo {
    /// A VNet, on the fabric.
    Vnet(usize),
    /// The Internet of a VNet.
    Internet(usize),
    /// A link of a circuit's peering.
    Link {
        /// The circuit.
        circuit: usize,
        /// The peering of the circuit.
        peering: usize,
        /// Which link.
        link: Link,
    },
    /// A VPN connection.
    Connection(usize),
}

/// How a tunnel carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// IP in GRE (RFC 2784, RFC 2890).
    Gre,
    /// Ethernet in GRE (RFC 7637).
    Nvgre,
}

/// What a tunnel does with sequence numbers (RFC 2890).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sequence {
    /// Neither sent nor looked at.
    Off,
    /// Sent.
    Send,
    /// Sent, and old ones refused.
    Strict,
}

/// A host that carries addresses of a VNet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its underlay address, of the family of the VNet's fabric port.
    pub address: IpAddr,
    /// The VNet.
    pub vnet: usize,
    /// The addresses it carries; the longest prefix of the VNet wins.
    pub prefixes: Vec<Prefix>,
}

/// A route learned from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedRoute {
    /// The destinations.
    pub prefix: Prefix,
    /// From whom.
    pub from: LearnedFrom,
    /// AS path; empty when unsaid.
    pub as_path: Vec<u32>,
}

impl LearnedRoute {
    /// The only link that it was learned on; absent when that is both, or none.
    pub fn on_link(&self) -> Option<Link> {
        match self.from {
            LearnedFrom::Peering { link, .. } => link,
            LearnedFrom::Connection(_) => None,
        }
    }
}

/// Where a route was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LearnedFrom {
    /// On a circuit's peering: on one link, or on both.
    Peering {
        /// The circuit.
        circuit: usize,
        /// The peering of the circuit.
        peering: usize,
        /// One link; both when absent.
        link: Option<Link>,
    },
    /// On a VPN connection.
    Connection(usize),
}
