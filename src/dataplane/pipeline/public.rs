//! Packets of Microsoft and public peering: between a link and everyone outside, in no VNet. There are no rules and no
//! routes; who may send is said by what the peering has learned.

use std::net::IpAddr;

use super::{Ended, Sender, Walk};
use crate::compile::effective::reserved;
use crate::compile::{CircuitLink, PublicPrefix};
use crate::dataplane::emit::Output;
use crate::dataplane::state::Shard;
use crate::model::PeeringKind;
use crate::packet::Reason;
use crate::table::ecmp;
use crate::table::fragments::{Admission, CAPACITY};
use crate::table::initiated::InitiatedKey;
use crate::wire::icmp;

/// Instead of the number of a VNet, where packets are in none.
const NO_VNET: u32 = u32::MAX;

/// DSCP values that Microsoft peering keeps: voice, interactive, and the two of everything else (semantics 4.7).
const KEPT: [u8; 5] = [46, 34, 18, 10, 0];

/// A type of service as it is on the other side of Microsoft peering: the congestion bits are left alone.
fn rewritten(kind: PeeringKind, tos: u8) -> u8 {
    match kind == PeeringKind::Microsoft && !KEPT.contains(&(tos >> 2)) {
        true => tos & 3,
        false => tos,
    }
}

impl<'p> Walk<'p, '_> {
    /// Step 6 and what follows of a packet from a link: to the services, or else to the Internet.
    pub(super) fn leave_peering(
        &mut self,
        tunnel: u32,
        link: &'p CircuitLink,
        shard: &mut Shard,
        out: &mut Output,
    ) -> Result<u8, Ended> {
        let source = self.arrival.inner.source;
        let entry = self.program.entries.get(tunnel as usize).ok_or(Reason::SpoofedSource)?;
        if entry.learned.lookup(source).is_none() {
            return Err(Reason::SpoofedSource.into());
        }
        self.trace.note(6, "source", || format!("{source} is learned on this peering"));
        let sender = Sender::Site(entry.party);
        let first = self.first_fragment(NO_VNET, sender, shard)?;
        // A later fragment refreshes the flow of its first.
        let flow = match first {
            None => Some((self.arrival.inner.protocol, self.arrival.inner.ports)),
            Some(first) => first.initiated,
        };
        let flow = flow.filter(|_| link.kind == PeeringKind::Public);
        let initiated = flow.map(|flow| self.own_flow(link, flow));
        if initiated.is_some_and(|key| !shard.initiated.takes(&key)) {
            return Err(Reason::FlowTableFull.into());
        }
        let port = self.program.services_port.or(self.program.internet_port).ok_or(Reason::GatewayDown)?;
        let sending = self.plain(port).sending;
        let leaving = self.leaving(sender, sending, rewritten(link.kind, self.arrival.tos), shard, out)?;
        if let Some(key) = initiated {
            shard.initiated.touch(key, self.now);
        }
        self.remember(sender, first, flow, shard);
        self.egress(sending, leaving, shard, out);
        Ok(0)
    }

    /// The same of a plain packet to a prefix that a peering has learned: by its best link.
    pub(super) fn enter_peering(
        &mut self,
        public: &'p PublicPrefix,
        shard: &mut Shard,
        out: &mut Output,
    ) -> Result<u8, Ended> {
        let (source, destination) = (self.arrival.inner.source, self.arrival.inner.destination);
        self.outcome.customer = Some(public.customer);
        let private = reserved().iter().any(|p| p.contains(source));
        if private || public.inside.iter().any(|p| p.contains(source)) {
            return Err(Reason::SpoofedSource.into());
        }
        self.trace.note(6, "source", || format!("{source} comes from outside to {}", public.prefix));
        let sender = Sender::Outside(public.party);
        let first = self.first_fragment(NO_VNET, sender, shard)?;
        let flow = self.flow_hash();
        let ways = &public.ways.ways;
        let chosen = ecmp::choose(flow, ways.iter().map(|w| w.0)).ok_or(Reason::GatewayDown)?;
        let way = self.through(ways[chosen].1, ways.len()).ok_or(Reason::GatewayDown)?;
        let sending = way.sending;
        let link = self.link_of(sending).ok_or(Reason::GatewayDown)?;
        if link.kind == PeeringKind::Public && first.is_none() && !self.is_initiated(link, shard) {
            self.trace
                .note(6, "flow", || format!("the customer has sent nothing to {source} from {destination}"));
            return Err(Reason::NotInitiated.into());
        }
        let leaving = self.leaving(sender, sending, rewritten(link.kind, self.arrival.tos), shard, out)?;
        self.remember(sender, first, None, shard);
        self.egress(sending, leaving, shard, out);
        Ok(0)
    }

    /// The flow of a packet that the customer sends.
    fn own_flow(&self, link: &CircuitLink, (protocol, (from, to)): (u8, (u16, u16))) -> InitiatedKey {
        let inner = &self.arrival.inner;
        let (local, remote) = ((inner.source, from), (inner.destination, to));
        InitiatedKey { peering: link.peering, protocol, local, remote }
    }

    /// True if a packet belongs to a flow that the customer has begun, or is an ICMP error about a packet of one.
    fn is_initiated(&self, link: &CircuitLink, shard: &Shard) -> bool {
        let inner = &self.arrival.inner;
        let key = |protocol, local: (IpAddr, u16), remote: (IpAddr, u16)| InitiatedKey {
            peering: link.peering,
            protocol,
            local,
            remote,
        };
        let (from, to) = inner.ports;
        let own = key(inner.protocol, (inner.destination, to), (inner.source, from));
        if shard.initiated.knows(&own, self.now) {
            return true;
        }
        let ipv4 = inner.source.is_ipv4();
        if !inner.is_icmp() || !icmp::quotes_a_flow(ipv4, inner.icmp_type) {
            return false;
        }
        let message = self.packet.get(inner.transport as usize..inner.total as usize);
        let Some(quote) = message.and_then(|m| icmp::parse_quote(m, ipv4)) else { return false };
        let (from, to) = quote.ports;
        let quoted = key(quote.protocol, (quote.source, from), (quote.destination, to));
        quote.source == inner.destination && self.quoted.unwrap_or(shard).initiated.knows(&quoted, self.now)
    }

    /// Admits the later fragments of a first one, which belongs to this flow of public peering.
    fn remember(
        &self,
        sender: Sender<'p>,
        first: Option<Admission>,
        initiated: Option<(u8, (u16, u16))>,
        shard: &mut Shard,
    ) {
        if first.is_none()
            && let Some(key) = self.fragment_key(NO_VNET, sender)
            && (self.occupancy.fragments() as usize) < CAPACITY
        {
            let admission =
                Admission { at: self.now, has_flow: false, rule: None, slots: [None; 2], initiated };
            shard.fragments.admit(key, admission);
            shard.tally(self.occupancy).set_fragments(shard.fragments.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;

    use super::*;
    use crate::compile::{Program, compile, names::Names};
    use crate::dataplane::{Context, Input, Occupancy, Results, process};
    use crate::model::{self, Role};
    use crate::packet::Verdict;
    use crate::wire::{checksum, ip, protocol};

    const PEERINGS: &str = "
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2}
  edge: {role: edge, address: 192.0.2.1}
  services: {role: services, address: 203.0.113.130}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, 'fd00:1::/48']}
        subnets:
          - {name: web, addressPrefixes: [10.1.0.0/24, 'fd00:1::/64']}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    expressRouteCircuits:
      - name: er
        peerings:
          - {name: AzurePrivatePeering}
          - {name: MicrosoftPeering, microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.0.0/24]},
             ipv6PeeringConfig: {microsoftPeeringConfig: {advertisedPublicPrefixes: ['2a00:50::/32']}}}
          - {name: AzurePublicPeering}
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er}]
    tunnels:
      - {vnet: hub, port: fabric, key: 9}
      - {circuit: er, peering: AzurePrivatePeering, link: primary, port: edge, remote: 192.0.2.2, key: 1}
      - {circuit: er, peering: MicrosoftPeering, link: primary, port: edge, remote: 192.0.2.2, key: 2}
      - {circuit: er, peering: AzurePublicPeering, link: primary, port: edge, remote: 192.0.2.2, key: 3}
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24, 'fd00:1::/64']}]
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er, peering: AzurePrivatePeering}
      - {prefix: 'fd00:9::/48', circuit: er, peering: AzurePrivatePeering}
      - {prefix: 20.50.0.0/24, circuit: er, peering: MicrosoftPeering}
      - {prefix: '2a00:50::/32', circuit: er, peering: MicrosoftPeering}
      - {prefix: 20.52.0.0/24, circuit: er, peering: AzurePublicPeering}
      - {prefix: '2a00:52::/32', circuit: er, peering: AzurePublicPeering}
";

    /// Where the packet begins in a frame that carries it in GRE.
    const IN_GRE: usize = 14 + 20 + 8;

    /// A UDP packet with this type of service and TTL.
    fn datagram([from, to]: [&str; 2], tos: u8, ttl: u8) -> Vec<u8> {
        let mut packet = Vec::new();
        match (from.parse().unwrap(), to.parse().unwrap()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ip::emit_v4(&mut packet, from, to, protocol::UDP, tos, 8);
                packet[8] = ttl;
                ip::write_v4_checksum(&mut packet, 20);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ip::emit_v6(&mut packet, from, to, protocol::UDP, tos, 8);
                packet[7] = ttl;
            }
            _ => unreachable!("addresses of one family"),
        }
        packet.extend([0x13, 0x89, 0x13, 0x89, 0, 8, 0, 0]);
        packet
    }

    /// Its frame, in GRE from the host or router with this address if there is one.
    fn frame(packet: &[u8], carrier: Option<([[u8; 4]; 2], u8)>) -> Vec<u8> {
        let of_packet = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        let mut frame = vec![2; 12];
        frame.extend(if carrier.is_some() { [0x08, 0x00] } else { of_packet });
        if let Some(([from, to], key)) = carrier {
            ip::emit_v4(&mut frame, from.into(), to.into(), protocol::GRE, 0, 8 + packet.len());
            frame.extend([0x20, 0, of_packet[0], of_packet[1], 0, 0, 0, key]);
        }
        frame.extend(packet);
        frame
    }

    /// What becomes of a frame that comes by a port of this role.
    fn forwarded(program: &Program, shard: &mut Shard, role: Role, frame: &[u8]) -> Vec<u8> {
        let mut occupancy = Occupancy::new(1);
        occupancy.grow(program);
        let mut results = Results::default();
        results.clear();
        let port = program.ports.iter().position(|p| p.role == role).unwrap() as u16;
        let length = frame.len() as u32;
        let input = Input { start: 0, end: length, original: length, port, now: 1_000_000_000 };
        process(Context::new(program, &occupancy), None, shard, frame, &[input], &mut results);
        assert_eq!(results.done[0].verdict, Verdict::Forward);
        results.frames(0).next().unwrap().to_vec()
    }

    #[test]
    fn of_all_types_of_service_microsoft_peering_alone_makes_others_and_no_congestion_bit() {
        let model = model::from_bytes("config.yaml", PEERINGS.as_bytes(), None).unwrap();
        let program = compile(&model, &mut Names::default());
        let mut shard = Shard::new(RandomState::new());
        let router = [[192, 0, 2, 2], [192, 0, 2, 1]];
        let host = [[198, 51, 100, 11], [198, 51, 100, 2]];
        let to_host = Some((host, 9));
        // The key of the link, who is at its end, and who on the other side and by what.
        let ways = [
            (1, "192.168.1.1", "10.1.0.4", Role::Fabric, to_host),
            (1, "fd00:9::1", "fd00:1::4", Role::Fabric, to_host),
            (2, "20.50.0.9", "40.1.1.1", Role::Services, None),
            (2, "2a00:50::9", "2603::1", Role::Services, None),
            (3, "20.52.0.9", "40.1.1.1", Role::Services, None),
            (3, "2a00:52::9", "2603::1", Role::Services, None),
        ];
        for (key, site, other, role, carrier) in ways {
            for tos in 0..=u8::MAX {
                let after =
                    if key == 2 && ![46, 34, 18, 10, 0].contains(&(tos >> 2)) { tos & 3 } else { tos };
                // The customer first, for public peering answers only.
                let inwards = frame(&datagram([site, other], tos, 64), Some((router, key)));
                let inwards = forwarded(&program, &mut shard, Role::Edge, &inwards);
                let outwards = frame(&datagram([other, site], tos, 64), carrier);
                let outwards = forwarded(&program, &mut shard, role, &outwards);
                let begin = if carrier.is_some() { IN_GRE } else { 14 };
                for (packet, ends) in
                    [(&inwards[begin..], [site, other]), (&outwards[IN_GRE..], [other, site])]
                {
                    assert_eq!(packet, datagram(ends, after, 63), "{tos:#x} from {} to {}", ends[0], ends[1]);
                    assert!(packet[0] >> 4 == 6 || checksum::is_right(&packet[..20]));
                }
                // "The outer DSCP of what leaves is the rewritten one"; the congestion bits go outside, too (RFC 6040).
                assert_eq!(outwards[15], after);
                assert!(carrier.is_none() || inwards[15] == after);
            }
        }
    }
}
