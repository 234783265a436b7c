//! Steps 4, 5 and 6: which tunnel, what is wrong with the inner packet, and who sent it.

use std::net::IpAddr;

use clearway::model::{
    ConnectionTo, Customer, Encapsulation, GATEWAY_SUBNET, Link, PeeringKind, Role, Sequence, TunnelTo,
};
use clearway::packet::Reason;
use clearway::types::Prefix;

use super::parse::{Carrier, Inner, TCP, UDP};
use super::routes;
use super::rules::{self, Endpoint};
use super::seen::{seen, seen_if};
use super::state::{EndpointId, SenderId, TunnelId};
use super::{Expected, Oracle};

/// How a packet came in.
pub struct Arrival {
    pub port: usize,
    /// Delivery header and tunnel (customer and index); `None` for a plain packet.
    pub tunnelled: Option<(Carrier, usize, usize)>,
}

/// Who sent a packet.
#[derive(Clone, Debug)]
pub enum Sender {
    Endpoint(Endpoint),
    Link {
        circuit: usize,
        peering: usize,
        link: Link,
    },
    Connection(usize),
    /// The Internet, as this VNet sees it.
    Internet(usize),
    /// Everyone outside, to a prefix that a Microsoft or public peering has learned.
    Outside,
}

impl Sender {
    pub fn id(&self, model: &clearway::model::Model, customer: usize) -> SenderId {
        let owner = &model.customers[customer];
        let name = owner.name.clone();
        match self {
            Sender::Endpoint(endpoint) => SenderId::Endpoint(EndpointId::of(model, endpoint)),
            Sender::Link { circuit, peering, link } => {
                let of = &owner.circuits[*circuit];
                SenderId::Link(name, of.name.clone(), of.peerings[*peering].name.clone(), link.name())
            }
            Sender::Connection(c) => SenderId::Connection(name, owner.connections[*c].name.clone()),
            Sender::Internet(vnet) => SenderId::Internet(name, owner.vnets[*vnet].name.clone()),
            Sender::Outside => SenderId::Outside(name),
        }
    }

    /// A circuit link or VPN connection.
    pub fn is_gateway(&self) -> bool {
        matches!(self, Sender::Link { .. } | Sender::Connection(_))
    }
}

impl Oracle {
    /// Step 4.
    pub fn tunnel(
        &mut self,
        port: usize,
        carrier: Option<Carrier>,
        said: &mut Expected,
    ) -> Result<Arrival, Reason> {
        let Some(carrier) = carrier else { return Ok(Arrival { port, tunnelled: None }) };
        let on_wire = |t: &clearway::model::Tunnel| match t.encapsulation {
            Encapsulation::Gre => t.key == carrier.key,
            Encapsulation::Nvgre => t.key == carrier.key >> 8,
        };
        let mut sharing = Vec::new();
        for (c, customer) in self.model.customers.iter().enumerate() {
            for (t, tunnel) in customer.tunnels.iter().enumerate() {
                if tunnel.port == port && tunnel.encapsulation == carrier.encapsulation && on_wire(tunnel) {
                    sharing.push((c, t));
                }
            }
        }
        // "the source chooses"
        let chosen = sharing.iter().copied().find(|&(c, t)| self.is_peer(c, t, carrier.outer_source));
        if let Some((c, t)) = chosen {
            let tunnel = &self.model.customers[c].tunnels[t];
            // "One that is down receives nothing (unknown-tunnel)"
            if !tunnel.enabled {
                seen("tunnel: down");
                return Err(Reason::UnknownTunnel);
            }
            let strict = tunnel.sequence == Sequence::Strict;
            // "customer and VNet are the tunnel's"
            self.say_tunnel(c, t, said);
            // "packets without S pass"
            if let (true, Some(number)) = (strict, carrier.sequence) {
                let id = TunnelId::of(&self.model, c, t);
                if !self.state.sequence_passes(id, carrier.outer_source, number) {
                    return Err(Reason::GreSequence);
                }
            }
            return Ok(Arrival { port, tunnelled: Some((carrier, c, t)) });
        }
        sharing.retain(|&(c, t)| self.model.customers[c].tunnels[t].enabled);
        match sharing[..] {
            // "No tunnel of that encapsulation with that key on this port: unknown-tunnel."
            [] => Err(Reason::UnknownTunnel),
            [(c, t)] => {
                self.say_tunnel(c, t, said);
                Err(Reason::TunnelPeer)
            }
            // "when it is none of theirs both are null"
            _ => {
                seen("tunnel: peer of none of several");
                Err(Reason::TunnelPeer)
            }
        }
    }

    /// "the outer source is not its remote, or (fabric) no host of that VNet"
    fn is_peer(&self, customer: usize, tunnel: usize, source: IpAddr) -> bool {
        let owner = &self.model.customers[customer];
        let tunnel = &owner.tunnels[tunnel];
        match tunnel.to {
            TunnelTo::Vnet(v) => owner.hosts.iter().any(|h| h.vnet == v && h.address == source),
            _ => tunnel.remote == Some(source),
        }
    }

    fn say_tunnel(&self, customer: usize, tunnel: usize, said: &mut Expected) {
        let owner = &self.model.customers[customer];
        said.customer = Some(owner.name.clone());
        said.vnet = match owner.tunnels[tunnel].to {
            TunnelTo::Vnet(v) | TunnelTo::Internet(v) => Some(owner.vnets[v].name.clone()),
            // "for a link or connection the VNet [...] null before step 6"
            TunnelTo::Link { .. } | TunnelTo::Connection(_) => None,
        };
    }

    /// Step 5 behind `inner-malformed`; returns DSCP and ECN as they are after decapsulation.
    pub fn check_inner(&self, arrival: &Arrival, inner: &Inner) -> Result<u8, Reason> {
        seen_if(!inner.is_v4() && inner.transport > 48, "inner: extension headers walked");
        let class = match &arrival.tunnelled {
            Some((carrier, ..)) => {
                let ecn = decapsulated_ecn(inner.class() & 3, carrier.outer_ecn).ok_or(Reason::EcnIllegal)?;
                inner.class() & 0xfc | ecn
            }
            None => inner.class(),
        };
        if self.is_blocked(arrival, inner) {
            return Err(Reason::InnerBlocked);
        }
        // "Destination equal to the outer source: gre-loop."
        if arrival.tunnelled.as_ref().is_some_and(|(carrier, ..)| carrier.outer_source == inner.destination) {
            return Err(Reason::GreLoop);
        }
        // "First fragment with fewer than 14 bytes of TCP, TCP at fragment offset 1: fragment-tiny."
        let tiny = inner.protocol == TCP
            && (inner.is_first_fragment() && inner.payload().len() < 14
                || inner.fragment.is_some_and(|f| f.offset == 1));
        if tiny { Err(Reason::FragmentTiny) } else { Ok(class) }
    }

    /// "Multicast or broadcast source or destination (...), protocols 4, 41 and 47, UDP from port 68 to 67, UDP source
    /// port 65330, 0.0.0.0/8, 127.0.0.0/8, ::1: inner-blocked."
    fn is_blocked(&self, arrival: &Arrival, inner: &Inner) -> bool {
        let entered = self.entered(arrival, inner.destination);
        let addresses = [inner.source, inner.destination];
        if addresses.into_iter().any(|a| is_never_unicast(a) || self.is_subnet_broadcast(entered, a)) {
            return true;
        }
        let udp = if inner.protocol == UDP { inner.ports() } else { None };
        [4, 41, 47].contains(&inner.protocol)
            || udp == Some((68, 67))
            || udp.is_some_and(|(source, _)| source == 65_330)
    }

    /// "broadcast also: the last address of an IPv4 subnet of the tunnel's VNet, the one it enters in step 6, or the
    /// connected peer whose space holds the address"
    fn is_subnet_broadcast(&self, entered: Option<(usize, usize)>, address: IpAddr) -> bool {
        let Some((customer, vnet)) = entered else { return false };
        let owner = &self.model.customers[customer];
        let last_of = |v: usize| {
            let subnets = owner.vnets[v].subnets.iter();
            subnets.flat_map(|s| &s.prefixes).any(|p| p.is_ipv4() && p.last() == address)
        };
        let own = last_of(vnet);
        let mut peers = routes::peers(owner, vnet).into_iter();
        let peers = peers.any(|p| routes::in_space(owner, p, address) && last_of(p));
        seen_if(own, "inner: broadcast of an own subnet");
        seen_if(peers, "inner: broadcast of a peer's subnet");
        own || peers
    }

    /// The VNet of the tunnel, or the one that a packet to this destination enters in step 6.
    fn entered(&self, arrival: &Arrival, destination: IpAddr) -> Option<(usize, usize)> {
        let Some((_, customer, tunnel)) = arrival.tunnelled else {
            // What a peering has learned is "looked up before the VNets of step 6".
            return match self.public_customer(arrival, destination) {
                Some(_) => None,
                None => self.only_vnet_with(destination),
            };
        };
        let to = self.model.customers[customer].tunnels[tunnel].to;
        let vnet = match to {
            TunnelTo::Vnet(v) | TunnelTo::Internet(v) => Some(v),
            TunnelTo::Link { .. } | TunnelTo::Connection(_) => {
                self.entered_gateway(customer, to, destination)
            }
        };
        vnet.map(|v| (customer, v))
    }

    /// "Plain packet on `internet` or `services`: the one VNet whose space holds the destination; none or several:
    /// unknown-tunnel."
    fn only_vnet_with(&self, destination: IpAddr) -> Option<(usize, usize)> {
        let mut holding = Vec::new();
        for (c, customer) in self.model.customers.iter().enumerate() {
            let vnets = 0..customer.vnets.len();
            holding.extend(vnets.filter(|&v| routes::in_space(customer, v, destination)).map(|v| (c, v)));
        }
        if let [only] = holding[..] { Some(only) } else { None }
    }

    /// "it enters, among the gateways connected to it, that of the VNet whose space, or that of a peer using its
    /// gateway, holds the destination"
    fn entered_gateway(&self, customer: usize, to: TunnelTo, destination: IpAddr) -> Option<usize> {
        let owner = &self.model.customers[customer];
        let hubs: Vec<usize> =
            connected_gateways(owner, to).iter().map(|&g| owner.gateways[g].vnet).collect();
        let own = hubs.iter().copied().find(|&v| routes::in_space(owner, v, destination));
        own.or_else(|| {
            hubs.iter().copied().find(|&hub| {
                let mut spokes = routes::peers(owner, hub).into_iter();
                spokes.any(|s| {
                    routes::uses_gateways_of(owner, s, hub) && routes::in_space(owner, s, destination)
                })
            })
        })
    }

    /// Step 6 but for orphans: customer, VNet and sender.
    pub fn sender(
        &self,
        arrival: &Arrival,
        inner: &Inner,
        said: &mut Expected,
    ) -> Result<(usize, usize, Sender), Reason> {
        let Some((carrier, customer, tunnel)) = &arrival.tunnelled else {
            return self.plain_sender(arrival.port, inner, said);
        };
        let customer = *customer;
        let owner = &self.model.customers[customer];
        match owner.tunnels[*tunnel].to {
            TunnelTo::Vnet(vnet) => {
                let endpoint = self.fabric_sender(customer, vnet, carrier, inner);
                Ok((customer, vnet, Sender::Endpoint(endpoint.ok_or(Reason::SpoofedSource)?)))
            }
            TunnelTo::Internet(vnet) => {
                self.check_internet_source(customer, vnet, inner.source, false)?;
                Ok((customer, vnet, Sender::Internet(vnet)))
            }
            to @ (TunnelTo::Link { .. } | TunnelTo::Connection(_)) => {
                let vnet = self.gateway_sender(customer, to, inner, said)?;
                let sender = match to {
                    TunnelTo::Link { circuit, peering, link } => Sender::Link { circuit, peering, link },
                    TunnelTo::Connection(c) => Sender::Connection(c),
                    _ => unreachable!("a link or connection"),
                };
                Ok((customer, vnet, sender))
            }
        }
    }

    /// "Fabric: the inner source lies in a subnet of the VNet and lives on the outer source host: that endpoint.
    /// Otherwise, if a NIC with `enableIPForwarding` lives on that host (nvgre: the one with the inner source MAC), the
    /// packet is that NIC's, in that NIC's subnet. Otherwise, or if the source is a platform address, spoofed-source."
    fn fabric_sender(
        &self,
        customer: usize,
        vnet: usize,
        carrier: &Carrier,
        inner: &Inner,
    ) -> Option<Endpoint> {
        if routes::is_platform(inner.source) {
            return None;
        }
        let owner = &self.model.customers[customer];
        let here = |address: IpAddr| host_of(owner, vnet, address) == Some(carrier.outer_source);
        if here(inner.source)
            && let Some(endpoint) = rules::endpoint_at(&self.model, customer, vnet, inner.source)
        {
            return Some(endpoint);
        }
        owner.nics.iter().enumerate().find_map(|(n, nic)| {
            let mac_fits = match carrier.inner_source_mac {
                None => true,
                Some(mac) => match nic.mac {
                    Some(own) => own == mac,
                    None => nic.addresses.iter().any(|a| made_mac(*a) == mac),
                },
            };
            let lives = nic.addresses.iter().find(|a| here(**a));
            let fits = nic.vnet == vnet && nic.ip_forwarding && mac_fits;
            seen_if(
                lives.is_some() && fits,
                match (carrier.inner_source_mac, nic.mac) {
                    (None, _) => "source: forwarding NIC by host",
                    (_, Some(_)) => "source: forwarding NIC by MAC",
                    (_, None) => "source: forwarding NIC by made MAC",
                },
            );
            lives.filter(|_| fits).map(|address| Endpoint {
                customer,
                vnet,
                subnet: nic.subnet,
                nic: Some(n),
                address: *address,
            })
        })
    }

    /// "Circuit link or connection: [...] none: no-route, VNet null [...]. The source must not lie in a space of the
    /// VNets of all gateways connected to it or of their peers, nor be a platform address, and must lie in a prefix
    /// learned on that circuit's peering (either link) or connection: else spoofed-source."
    fn gateway_sender(
        &self,
        customer: usize,
        to: TunnelTo,
        inner: &Inner,
        said: &mut Expected,
    ) -> Result<usize, Reason> {
        let owner = &self.model.customers[customer];
        let vnet = self.entered_gateway(customer, to, inner.destination).ok_or(Reason::NoRoute)?;
        said.vnet = Some(owner.vnets[vnet].name.clone());
        let mut near: Vec<usize> = Vec::new();
        for gateway in connected_gateways(owner, to) {
            let hub = owner.gateways[gateway].vnet;
            near.push(hub);
            near.extend(routes::peers(owner, hub));
        }
        let learned = match to {
            TunnelTo::Link { circuit, peering, .. } => [Link::Primary, Link::Secondary]
                .into_iter()
                .flat_map(|link| routes::learned_on_link(owner, circuit, peering, link))
                .collect(),
            TunnelTo::Connection(c) => routes::learned_on_connection(owner, c),
            _ => Vec::new(),
        };
        let ours = near.into_iter().any(|v| routes::in_space(owner, v, inner.source));
        let theirs = learned.iter().any(|(p, _)| p.contains(inner.source));
        if ours || routes::is_platform(inner.source) || !theirs {
            seen("source: spoofed from a gateway");
            return Err(Reason::SpoofedSource);
        }
        seen_if(!routes::in_space(owner, vnet, inner.destination), "source: gateway, for a spoke");
        Ok(vnet)
    }

    fn plain_sender(
        &self,
        port: usize,
        inner: &Inner,
        said: &mut Expected,
    ) -> Result<(usize, usize, Sender), Reason> {
        let (customer, vnet) = self.only_vnet_with(inner.destination).ok_or(Reason::UnknownTunnel)?;
        let owner = &self.model.customers[customer];
        said.customer = Some(owner.name.clone());
        said.vnet = Some(owner.vnets[vnet].name.clone());
        let services = self.model.ports[port].role == Role::Services;
        self.check_internet_source(customer, vnet, inner.source, services)?;
        Ok((customer, vnet, Sender::Internet(vnet)))
    }

    /// "The source must not lie in the space of the VNet or a VNet peered with it, in a prefix, other than a default
    /// route, learned by its gateways or those it uses remotely, in RFC 1918 or RFC 6598 space, nor be a platform
    /// address (which is believed on a `services` port only): else spoofed-source."
    fn check_internet_source(
        &self,
        customer: usize,
        vnet: usize,
        source: IpAddr,
        services: bool,
    ) -> Result<(), Reason> {
        let owner = &self.model.customers[customer];
        let mut near = routes::peers(owner, vnet);
        near.push(vnet);
        let learned = routes::ways(owner, &routes::gateways(owner, vnet));
        let mut learned = learned.iter().flat_map(|w| &w.learned).map(|(p, _)| p);
        let spoofed = near.into_iter().any(|v| routes::in_space(owner, v, source))
            || learned.any(|p| !p.is_default() && p.contains(source))
            || routes::reserved_ranges().iter().any(|p| p.contains(source))
            || routes::is_platform(source) && !services;
        seen_if(spoofed, "source: spoofed from the Internet");
        seen_if(!spoofed && routes::is_platform(source), "source: platform from services");
        if spoofed { Err(Reason::SpoofedSource) } else { Ok(()) }
    }
}

/// The gateways that have a connection to this link's circuit, or this connection. A circuit's Microsoft and public
/// peering lead to no VNet.
fn connected_gateways(owner: &Customer, to: TunnelTo) -> Vec<usize> {
    match to {
        TunnelTo::Link { circuit, peering, .. }
            if owner.circuits[circuit].peerings[peering].kind == PeeringKind::Private =>
        {
            let here =
                |to: &ConnectionTo| matches!(to, ConnectionTo::Circuit { circuit: c, .. } if *c == circuit);
            owner.connections.iter().filter(|c| here(&c.to)).map(|c| c.gateway).collect()
        }
        TunnelTo::Connection(c) => vec![owner.connections[c].gateway],
        _ => Vec::new(),
    }
}

/// "hosts: longest prefix wins": the underlay address behind which an address of a VNet lives.
pub fn host_of(owner: &Customer, vnet: usize, address: IpAddr) -> Option<IpAddr> {
    let mut best: Option<(u8, IpAddr)> = None;
    for host in owner.hosts.iter().filter(|h| h.vnet == vnet) {
        for prefix in host.prefixes.iter().filter(|p| p.contains(address)) {
            if best.is_none_or(|(len, _)| prefix.len() > len) {
                best = Some((prefix.len(), host.address));
            }
        }
    }
    best.map(|(_, address)| address)
}

/// The GatewaySubnet of a VNet.
pub fn gateway_subnet(owner: &Customer, vnet: usize) -> Option<usize> {
    owner.vnets[vnet].subnets.iter().position(|s| s.name.eq_ignore_ascii_case(GATEWAY_SUBNET))
}

/// "02-00 and the last four bytes of its address"
pub fn made_mac(address: IpAddr) -> [u8; 6] {
    let last: [u8; 4] = match address {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(a) => [a.octets()[12], a.octets()[13], a.octets()[14], a.octets()[15]],
    };
    [2, 0, last[0], last[1], last[2], last[3]]
}

/// The table of RFC 6040 section 4.2; `None` is "drop". Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3.
fn decapsulated_ecn(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (0, 3) => None,
        (0, _) => Some(0),
        (_, 3) => Some(3),
        (2, 1) => Some(1),
        (inner, _) => Some(inner),
    }
}

/// Multicast, limited broadcast, "0.0.0.0/8, 127.0.0.0/8, ::1".
fn is_never_unicast(address: IpAddr) -> bool {
    let v4 = [Prefix::v4(224, 0, 0, 0, 4), Prefix::v4(0, 0, 0, 0, 8), Prefix::v4(127, 0, 0, 0, 8)];
    match address {
        IpAddr::V4(a) => a.is_broadcast() || v4.iter().any(|p| p.contains(address)),
        IpAddr::V6(a) => a.is_multicast() || a.is_loopback(),
    }
}
