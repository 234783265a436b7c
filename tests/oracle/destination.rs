//! Steps 8 and 9: the route that wins, and who gets the packet.

use std::net::IpAddr;

use clearway::model::{GatewayKind, Role, TunnelTo};
use clearway::packet::{NextHopType, Reason};
use clearway::table::ecmp;
use clearway::types::Prefix;

use super::parse::Inner;
use super::routes::{self, Hop, Way};
use super::rules::{self, Endpoint};
use super::seen::{seen, seen_if};
use super::source::{self, Sender};
use super::{Expected, Oracle, effective_of};

/// Who gets the packet.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An endpoint behind a host of the fabric; `by` is the address by which it was found: the destination, or the
    /// next hop.
    Host { endpoint: Endpoint, tunnel: usize, host: IpAddr, by: IpAddr },
    /// A circuit link, a VPN connection or an Internet tunnel.
    Tunnel(usize),
    /// Plain by this port.
    Plain(usize),
}

impl Oracle {
    /// Steps 8 and 9.
    pub fn deliver(
        &self,
        customer: usize,
        vnet: usize,
        sender: &Sender,
        inner: &Inner,
        said: &mut Expected,
    ) -> Result<Delivery, Reason> {
        let (hop, prefix) = self.route(customer, vnet, sender, inner.destination).ok_or(Reason::NoRoute)?;
        said.next_hop_type = Some(hop.type_of().name().to_string());
        said.route_prefix = Some(prefix.to_string());
        if hop.type_of() == NextHopType::None {
            return Err(Reason::RouteNone);
        }
        let owner = &self.model.customers[customer];
        seen_if(sender.is_gateway() && hop != Hop::VnetLocal, "route: from GatewaySubnet, not VnetLocal");
        match hop {
            Hop::VnetLocal => self.host(customer, vnet, inner.destination).ok_or(Reason::NoHost),
            Hop::Peering(remote) => {
                let delivery = self.host(customer, remote, inner.destination).ok_or(Reason::NoHost)?;
                self.check_forwarded(customer, vnet, remote, sender, inner)?;
                Ok(delivery)
            }
            Hop::Appliance(address) => self.appliance(customer, vnet, sender, inner, address),
            Hop::Gateway => {
                let all = routes::ways(owner, &routes::gateways(owner, vnet));
                let has = |w: &Way| w.learned.iter().any(|l| l.0 == prefix);
                let vpn = all.iter().any(|w| w.kind == GatewayKind::Vpn && has(w));
                let best = routes::best_ways(all, prefix);
                let circuit = best.iter().any(|w| w.kind == GatewayKind::ExpressRoute);
                seen_if(vpn && circuit, "next hop: VPN where a circuit has the prefix too");
                Ok(Delivery::Tunnel(choose(&best, inner).ok_or(Reason::GatewayDown)?))
            }
            Hop::UserGateway => {
                let ways = routes::user_gateway_ways(owner, vnet, inner.destination);
                let learned = ways.iter().any(|w| w.learned.iter().any(|l| l.0.contains(inner.destination)));
                seen_if(learned, "next hop: user-defined, learned");
                seen_if(!learned && !ways.is_empty(), "next hop: user-defined, default site");
                Ok(Delivery::Tunnel(choose(&ways, inner).ok_or(Reason::GatewayDown)?))
            }
            Hop::Internet if routes::is_platform(inner.destination) => self.services(customer, vnet),
            Hop::Internet => self.internet(customer, vnet),
            Hop::ServiceEndpoint => self.services(customer, vnet),
            Hop::None => Err(Reason::RouteNone),
        }
    }

    /// Step 8: "The effective routes of the source endpoint's subnet; for packets from a gateway, of GatewaySubnet; for
    /// packets from the Internet no lookup: `VnetLocal`, prefix the VNet range that holds the destination, no-route
    /// outside them. [...] A platform address is routed by the system default alone."
    fn route(
        &self,
        customer: usize,
        vnet: usize,
        sender: &Sender,
        destination: IpAddr,
    ) -> Option<(Hop, Prefix)> {
        let owner = &self.model.customers[customer];
        let subnet = match sender {
            Sender::Internet(_) | Sender::Outside => {
                let range = owner.vnets[vnet].address_space.iter().find(|p| p.contains(destination))?;
                return Some((Hop::VnetLocal, *range));
            }
            Sender::Endpoint(endpoint) => Some(endpoint.subnet),
            Sender::Link { .. } | Sender::Connection(_) => source::gateway_subnet(owner, vnet),
        };
        if routes::is_platform(destination) {
            seen("route: platform");
            return Some((Hop::Internet, Prefix::ALL_V4));
        }
        routes::select(&effective_of(&self.model, &self.routes, customer, vnet, subnet), destination)
    }

    /// "the address's host; in no subnet, or no host: no-host"; "hosts of a VNet whose tunnel is down are no-host".
    fn host(&self, customer: usize, vnet: usize, address: IpAddr) -> Option<Delivery> {
        let owner = &self.model.customers[customer];
        let endpoint = rules::endpoint_at(&self.model, customer, vnet, address)?;
        let host = source::host_of(owner, vnet, address)?;
        let tunnel = routes::up_tunnel(owner, TunnelTo::Vnet(vnet))?;
        Some(Delivery::Host { endpoint, tunnel, host, by: address })
    }

    /// "Into another VNet (by `VNetPeering`, or to an appliance there): if the inner source is not in the sending VNet's
    /// space and the packet did not come from a gateway, the receiving VNet's own peering must have
    /// `allowForwardedTraffic`: else peering-forwarding."
    fn check_forwarded(
        &self,
        customer: usize,
        sending: usize,
        receiving: usize,
        sender: &Sender,
        inner: &Inner,
    ) -> Result<(), Reason> {
        let owner = &self.model.customers[customer];
        let receives =
            owner.vnets[receiving].peerings.iter().any(|p| p.remote == Some(sending) && p.allow_forwarded);
        let own = routes::in_space(owner, sending, inner.source);
        if sending == receiving || own || sender.is_gateway() || receives {
            let foreign = sending != receiving && !own;
            seen_if(foreign && receives && !sender.is_gateway(), "next hop: forwarded into a peer");
            seen_if(foreign && !receives, "next hop: gateway exempt from allowForwardedTraffic");
            Ok(())
        } else {
            Err(Reason::PeeringForwarding)
        }
    }

    /// "`VirtualAppliance`: the next hop address, looked up in the VNet and its connected peers; its host, destination
    /// unchanged. A NIC with IP forwarding off, unless the destination is its own: appliance-not-forwarding; an address
    /// with no NIC resource is taken to forward; no host: no-host."
    fn appliance(
        &self,
        customer: usize,
        vnet: usize,
        sender: &Sender,
        inner: &Inner,
        address: IpAddr,
    ) -> Result<Delivery, Reason> {
        let owner = &self.model.customers[customer];
        let mut places = vec![vnet];
        places.extend(
            routes::peers(owner, vnet).into_iter().filter(|p| routes::peering_carries(owner, vnet, *p)),
        );
        let place =
            places.into_iter().find(|v| routes::in_space(owner, *v, address)).ok_or(Reason::NoHost)?;
        let delivery = self.host(customer, place, address).ok_or(Reason::NoHost)?;
        self.check_forwarded(customer, vnet, place, sender, inner)?;
        if let Delivery::Host { endpoint: Endpoint { nic: Some(nic), .. }, .. } = &delivery {
            let nic = &owner.nics[*nic];
            let own = nic.addresses.contains(&inner.destination);
            seen_if(own, "next hop: appliance with destination its own");
            if !nic.ip_forwarding && !nic.addresses.contains(&inner.destination) {
                return Err(Reason::ApplianceNotForwarding);
            }
        }
        seen(if place == vnet { "next hop: appliance" } else { "next hop: appliance in a peer" });
        Ok(delivery)
    }

    /// "`Internet`: the VNet's Internet tunnel, else plain by the `internet` port." "a VNet whose Internet tunnel is
    /// down has no Internet (gateway-down): it never falls back to plain."
    fn internet(&self, customer: usize, vnet: usize) -> Result<Delivery, Reason> {
        let owner = &self.model.customers[customer];
        if owner.tunnels.iter().any(|t| t.to == TunnelTo::Internet(vnet)) {
            let up = routes::up_tunnel(owner, TunnelTo::Internet(vnet));
            seen_if(up.is_some(), "next hop: Internet tunnel");
            return up.map(Delivery::Tunnel).ok_or(Reason::GatewayDown);
        }
        self.port_of(Role::Internet).map(Delivery::Plain).ok_or(Reason::GatewayDown)
    }

    /// "`VirtualNetworkServiceEndpoint` and platform addresses: plain by the `services` port, else as for Internet."
    fn services(&self, customer: usize, vnet: usize) -> Result<Delivery, Reason> {
        match self.port_of(Role::Services) {
            Some(port) => {
                seen("next hop: services");
                Ok(Delivery::Plain(port))
            }
            None => {
                seen("next hop: services by the Internet");
                self.internet(customer, vnet)
            }
        }
    }

    pub fn port_of(&self, role: Role) -> Option<usize> {
        self.model.ports.iter().position(|p| p.role == role)
    }
}

/// "a hash per flow over the equal ones, such that when one fails only its flows move; fragments hash over addresses,
/// protocol and identification": the tunnel of the chosen way.
pub fn choose(ways: &[Way], inner: &Inner) -> Option<usize> {
    let (protocol, rest) = match inner.fragment {
        Some(fragment) => (fragment.protocol, fragment.identification),
        None => {
            let (source, destination) = inner.flow_ports();
            (inner.protocol, u32::from(source) << 16 | u32::from(destination))
        }
    };
    let flow = ecmp::flow_hash(inner.source, inner.destination, protocol, rest);
    seen_if(ways.len() > 1, "next hop: several equal ways");
    let chosen = ecmp::choose(flow, ways.iter().map(|w| ecmp::way_id(&w.name)))?;
    Some(ways[chosen].tunnel)
}
