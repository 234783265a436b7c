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
