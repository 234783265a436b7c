//! Steps 1 to 5: from the bytes of a frame to a checked customer packet and the tunnel it came by.

use std::net::IpAddr;

use super::state::Received;
use super::usual::Usual;
use crate::compile::origins::OriginKey;
use crate::compile::{PlainOwner, Port, Program, Reaches};
use crate::model::{Role, Sequence};
use crate::packet::{FlowState, Outcome, Reason, Verdict};
use crate::types::Prefix;
use crate::wire::ip::{self, Inner};
use crate::wire::{ethernet, gre, protocol};

/// How a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Plain, by a port of the Internet or of public services.
    Plain,
    /// By this tunnel, from this outer source.
    Tunnel(u32, IpAddr),
}

/// A customer packet whose headers are in order.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The port it came in by.
    pub port: u16,
    /// How.
    pub via: Via,
    /// Where the inner packet begins in the frame.
    pub at: u32,
    /// Its headers.
    pub inner: Inner,
    /// Its type of service with the congestion bits as they are after decapsulation.
    pub tos: u8,
    /// The source MAC address of the inner frame of NVGRE.
    pub inner_mac: [u8; 6],
    /// Index of the VNet: of the tunnel, or the one that the destination enters; absent when there is none.
    pub vnet: Option<u32>,
}

impl Arrival {
    /// Where it came from, if packets of the usual shape may come from there.
    pub fn origin_key(&self, program: &Program) -> Option<OriginKey> {
        match self.via {
            Via::Plain => Some(OriginKey::plain(self.port, self.vnet?)),
            Via::Tunnel(number, IpAddr::V4(remote)) => {
                let tunnel = program.tunnels.get(number as usize)?;
                let key = OriginKey::in_gre(self.port, tunnel.wire_key, remote.to_bits());
                (!tunnel.nvgre).then_some(key)
            }
            Via::Tunnel(..) => None,
        }
    }
}

impl Outcome {
    /// A packet that ended before anything was known of its owner.
    pub fn ended(reason: Reason) -> Outcome {
        Outcome {
            verdict: Verdict::of(reason),
            customer: None,
            vnet: None,
            flow: FlowState::None,
            rule: None,
            route: None,
            egress: None,
        }
    }
}

/// Checks a frame that was `original` bytes long when it was received, step by step; the outcome of a packet that ends
/// here. Without `received`, sequence numbers have been checked before.
pub fn ingress(
    program: &Program,
    received: Option<&mut Received>,
    port_index: u16,
    frame: &[u8],
    original: u32,
) -> Result<Arrival, Outcome> {
    // 1. Frame.
    let ended = |reason| Err(Outcome::ended(reason));
    let Some(port) = program.ports.get(usize::from(port_index)) else { return ended(Reason::NotForUs) };
    if (frame.len() as u64) < u64::from(original) {
        return ended(Reason::Truncated);
    }
    let Some(link) = ethernet::parse(frame) else { return ended(Reason::Truncated) };
    let ipv4 = match link.ether_type {
        ethernet::IPV4 => true,
        ethernet::IPV6 => false,
        _ => return ended(Reason::NotIp),
    };
    let packet = frame.get(link.payload..).unwrap_or_default();
    match addressed(port, packet, ipv4) {
        Err(reason) => ended(reason),
        Ok(Addressed::Tunnelled) => tunnelled(program, received, port_index, frame, link.payload, ipv4),
        Ok(Addressed::Plain) => {
            let unknown = Outcome::ended(Reason::InnerMalformed);
            let arrival = Arrived { port: port_index, via: Via::Plain, outer_ecn: None, inner_mac: [0; 6] };
            inner(program, arrival, frame, link.payload, ipv4, unknown)
        }
    }
}

enum Addressed {
    Tunnelled,
    Plain,
}

/// To whom a packet on this port is addressed.
#[inline]
fn addressed(port: &Port, packet: &[u8], ipv4: bool) -> Result<Addressed, Reason> {
    let carries_tunnels = matches!(port.role, Role::Fabric | Role::Edge);
    let destination = ip::destination(packet, ipv4);
    if carries_tunnels {
        return match destination {
            None => Err(Reason::OuterMalformed),
            Some(d) if d != port.address => Err(Reason::NotForUs),
            Some(_) => Ok(Addressed::Tunnelled),
        };
    }
    let destination = destination.ok_or(Reason::InnerMalformed)?;
    if !ipv4 && ip::is_neighbour_discovery(packet) {
        return Err(Reason::NotForUs);
    }
    if destination != port.address {
        return Ok(Addressed::Plain);
    }
    if port.role == Role::Internet && ip::first_protocol(packet, ipv4) == protocol::GRE {
        return Ok(Addressed::Tunnelled);
    }
    Err(Reason::NotGre)
}

/// Steps 2 to 4, then the inner packet.
fn tunnelled(
    program: &Program,
    received: Option<&mut Received>,
    port_index: u16,
    frame: &[u8],
    outer_at: usize,
    ipv4: bool,
) -> Result<Arrival, Outcome> {
    // 2. Outer header.
    let packet = &frame[outer_at..];
    let outer = ip::parse_outer(packet, ipv4).map_err(Outcome::ended)?;
    // 3. GRE.
    let gre_packet = &packet[outer.payload..outer.end];
    let header = gre::parse(gre_packet).map_err(Outcome::ended)?;
    let mut inner_at = outer_at + outer.payload + header.header;
    let carried = &frame[..outer_at + outer.end];
    let nvgre = header.protocol == gre::ETHERNET;
    let mut ether_type = header.protocol;
    let mut inner_mac = [0; 6];
    if nvgre {
        let (mac, inner_type) = nvgre_frame(header.key, &gre_packet[header.header..])
            .ok_or(Outcome::ended(Reason::NvgreMalformed))?;
        (inner_mac, ether_type) = (mac, inner_type);
        inner_at += ethernet::HEADER;
    }
    // 4. Tunnel.
    let key = if nvgre { header.key >> 8 } else { header.key };
    let tunnel = find_tunnel(program, port_index, nvgre, key, outer.source)?;
    let end = &program.tunnels[tunnel as usize];
    let known = |reason| Outcome { customer: Some(end.customer), vnet: end.vnet, ..Outcome::ended(reason) };
    if end.sequence == Sequence::Strict
        && let Some(sequence) = header.sequence
        && received.is_some_and(|r| !r.accept(end.id, outer.source, sequence))
    {
        return Err(known(Reason::GreSequence));
    }
    // 5. Inner packet.
    let inner_v4 = match ether_type {
        ethernet::IPV4 => true,
        ethernet::IPV6 => false,
        _ => return Err(known(Reason::InnerMalformed)),
    };
    let via = Via::Tunnel(tunnel, outer.source);
    let arrival = Arrived { port: port_index, via, outer_ecn: Some(outer.ecn), inner_mac };
    inner(program, arrival, carried, inner_at, inner_v4, known(Reason::InnerMalformed))
}

/// The source MAC address and EtherType of an NVGRE frame (RFC 7637); `None` if its virtual subnet is reserved or the
/// frame is short or tagged.
#[inline]
fn nvgre_frame(key: u32, inner: &[u8]) -> Option<([u8; 6], u16)> {
    let ether_type = crate::wire::be16(inner, 12);
    let reserved = matches!(key >> 8, 0..=0xfff | 0xff_ffff);
    if reserved || inner.len() < ethernet::HEADER || ethernet::is_vlan(ether_type) {
        return None;
    }
    let mac = inner.get(6..12)?.try_into().ok()?;
    Some((mac, ether_type))
}

/// The tunnel of a key, told apart by the outer source where several share it.
#[inline]
fn find_tunnel(program: &Program, port: u16, nvgre: bool, key: u32, source: IpAddr) -> Result<u32, Outcome> {
    let unknown = Outcome::ended(Reason::UnknownTunnel);
    let sharing = program.by_key.get(&(port, nvgre, key)).ok_or(unknown)?;
    if !sharing.iter().any(|t| program.tunnels[*t as usize].enabled) {
        return Err(unknown);
    }
    for &number in sharing {
        let tunnel = &program.tunnels[number as usize];
        let is_end = match tunnel.reaches {
            Reaches::Hosts { vnet } => program.vnets[vnet as usize].host_numbers.contains_key(&source),
            _ => tunnel.remote == Some(source),
        };
        if is_end {
            return if tunnel.enabled { Ok(number) } else { Err(unknown) };
        }
    }
    let mut outcome = Outcome::ended(Reason::TunnelPeer);
    let mut up = sharing.iter().map(|t| &program.tunnels[*t as usize]).filter(|t| t.enabled);
    if let (Some(tunnel), None) = (up.next(), up.next()) {
        (outcome.customer, outcome.vnet) = (Some(tunnel.customer), tunnel.vnet);
    }
    Err(outcome)
}

/// What step 5 needs to know of steps 1 to 4.
struct Arrived {
    port: u16,
    via: Via,
    outer_ecn: Option<u8>,
    inner_mac: [u8; 6],
}

/// Step 5. `frame` ends where the carried bytes end; `known` is the outcome so far.
fn inner(
    program: &Program,
    arrived: Arrived,
    frame: &[u8],
    at: usize,
    ipv4: bool,
    known: Outcome,
) -> Result<Arrival, Outcome> {
    let ended = |reason| Err(Outcome { verdict: Verdict::of(reason), ..known });
    let Some(inner) = ip::parse_inner(frame.get(at..).unwrap_or_default(), ipv4) else {
        return ended(Reason::InnerMalformed);
    };
    let Some(ecn) = ip::decapsulate_ecn(inner.tos, arrived.outer_ecn.unwrap_or(inner.tos & 3)) else {
        return ended(Reason::EcnIllegal);
    };
    let tos = inner.tos & !3 | ecn;
    admit(program, arrived, at, inner, tos, known)
}

/// Steps 1 to 5 for a packet of the usual shape from a known origin: its headers are in order, it came by `via`. The
/// packet begins at `at` in the frame.
pub fn usual(
    program: &Program,
    port: u16,
    via: Via,
    packet: &Usual,
    frame: &[u8],
    at: usize,
) -> Result<Arrival, Outcome> {
    let mut known = Outcome::ended(Reason::InnerMalformed);
    if let Via::Tunnel(tunnel, _) = via {
        let end = &program.tunnels[tunnel as usize];
        (known.customer, known.vnet) = (Some(end.customer), end.vnet);
    }
    let arrived = Arrived { port, via, outer_ecn: None, inner_mac: [0; 6] };
    let headers = packet.headers(frame.get(at..).unwrap_or_default());
    admit(program, arrived, at, headers, packet.tos(), known)
}

/// The end of step 5: what depends on addresses, ports and the configuration.
#[inline(always)]
fn admit(
    program: &Program,
    arrived: Arrived,
    at: usize,
    inner: Inner,
    tos: u8,
    known: Outcome,
) -> Result<Arrival, Outcome> {
    let ended = |reason| Err(Outcome { verdict: Verdict::of(reason), ..known });
    let vnet = match arrived.via {
        Via::Plain => match program.plain.lookup(inner.destination) {
            Some(PlainOwner::One(vnet)) => Some(vnet),
            _ => None,
        },
        Via::Tunnel(tunnel, _) => match program.tunnels[tunnel as usize].reaches {
            Reaches::Hosts { vnet } | Reaches::Internet { vnet } => Some(vnet),
            Reaches::Site { entry } => program.entries[entry as usize].enter.lookup(inner.destination),
        },
    };
    if is_blocked(program, &inner, vnet) {
        return ended(Reason::InnerBlocked);
    }
    if let Via::Tunnel(_, source) = arrived.via
        && source == inner.destination
    {
        return ended(Reason::GreLoop);
    }
    if let Some(fragment) = inner.fragment
        && inner.protocol == protocol::TCP
        && (fragment.offset == 1 || !fragment.is_later() && inner.total - inner.transport < 14)
    {
        return ended(Reason::FragmentTiny);
    }
    Ok(Arrival {
        port: arrived.port,
        via: arrived.via,
        at: at as u32,
        inner,
        tos,
        inner_mac: arrived.inner_mac,
        vnet,
    })
}

/// True of what VNets do not carry (Azure virtual network FAQ: multicast, broadcast, IP-in-IP, GRE, DHCP to a unicast
/// address, UDP source port 65330) and of addresses that are never on a wire.
fn is_blocked(program: &Program, inner: &Inner, vnet: Option<u32>) -> bool {
    let address = |addr: IpAddr| match addr {
        IpAddr::V4(a) => {
            let may_be_last = a.to_bits() & program.broadcast_bits == program.broadcast_bits;
            a.is_multicast()
                || a.is_broadcast()
                || matches!(a.octets()[0], 0 | 127)
                || may_be_last && is_subnet_broadcast(program, addr, vnet)
        }
        IpAddr::V6(a) => a.is_multicast() || a.is_loopback(),
    };
    let udp = inner.protocol == protocol::UDP && !inner.is_later_fragment();
    address(inner.source)
        || address(inner.destination)
        || matches!(inner.protocol, protocol::IPIP | protocol::IPV6 | protocol::GRE)
        || udp && (inner.ports == (68, 67) || inner.ports.0 == 65_330)
}

/// True of the last address of an IPv4 subnet of this VNet or of a connected peer.
#[inline]
pub(super) fn is_subnet_broadcast(program: &Program, addr: IpAddr, vnet: Option<u32>) -> bool {
    let Some(vnet) = vnet.map(|v| &program.vnets[v as usize]) else { return false };
    let Some(owner) = vnet.around.lookup(addr) else { return false };
    program.vnets[owner.vnet as usize].place(addr).broadcast
}

/// The VNet range that holds an address, of this VNet.
#[inline]
pub fn own_range(program: &Program, vnet: u32, addr: IpAddr) -> Option<Prefix> {
    let space = &program.vnets[vnet as usize];
    let near = space.around.lookup(addr)?;
    if near.vnet == vnet { space.space.get(near.range as usize).copied() } else { None }
}
