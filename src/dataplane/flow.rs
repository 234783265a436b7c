//! Steps 7 and 10: an endpoint's flow records and, for packets of no record, its rules.
//!
//! Asking changes nothing. It says which [`Plan`] to carry out if the packet is forwarded in the end.

use std::net::IpAddr;
use std::sync::Arc;

use super::occupancy::Occupancy;
use super::state::Shard;
use super::trace::{Denied, Trace};
use crate::compile::names::Names;
use crate::compile::security::{Decision, Group, is_platform};
use crate::compile::{Nic, Subnet, Vnet};
use crate::model::Access;
use crate::packet::{Direction, FlowState, Reason};
use crate::table::records::{FlowKey, Owner};
use crate::types::Nanos;
use crate::wire::ip::Inner;
use crate::wire::{icmp, protocol, tcp_flags};

/// Where rules are enforced.
#[derive(Clone, Copy)]
pub struct Endpoint<'p> {
    /// Its VNet.
    pub vnet: &'p Vnet,
    /// Its subnet.
    pub subnet: &'p Subnet,
    /// Its NIC, if it has one.
    pub nic: Option<&'p Nic>,
    /// Its number if it is an address that is not the packet's own; else 0.
    pub party: u32,
}

/// A group, and which of its rules apply where not all do.
type Applying<'p> = (&'p Group, Option<&'p [u64]>);

impl<'p> Endpoint<'p> {
    /// An endpoint without any group keeps no records.
    #[inline(always)]
    pub fn has_group(&self) -> bool {
        self.subnet.group.is_some() || self.nic.is_some_and(|n| n.group.is_some())
    }

    /// Whose its records are.
    #[inline(always)]
    pub fn owner(&self) -> Owner {
        Owner { vnet: self.vnet.id, endpoint: self.nic.map_or(self.party, |n| n.party) }
    }

    /// True if a packet, which opens two records at most, does not reach its limits.
    #[inline(always)]
    pub fn has_room(&self, occupancy: &Occupancy) -> bool {
        occupancy.vnet_has_room(self.vnet.id, 2, self.vnet.max_flows)
            && self.nic.is_none_or(|n| occupancy.party_has_room(n.party, 2, n.max_flows))
    }

    /// True if it checks TCP state.
    #[inline(always)]
    pub fn tracks_tcp(&self) -> bool {
        self.nic.is_none_or(|n| n.tracks_tcp)
    }

    /// The groups in the order they are asked, each with the rules that apply.
    #[inline(always)]
    pub fn groups(&self, direction: Direction) -> [Option<Applying<'p>>; 2] {
        let inbound = direction == Direction::Inbound;
        let applying = |i: usize| self.nic.and_then(|n| n.applying[i].as_deref());
        let nic = self.nic.and_then(|n| n.group.as_deref()).map(|g| (g, applying(usize::from(!inbound))));
        let subnet = self.subnet.group.as_deref().map(|g| match self.nic {
            Some(_) => (g, applying(2 + usize::from(!inbound))),
            None => (g, g.rules(direction).for_no_member()),
        });
        if inbound { [subnet, nic] } else { [nic, subnet] }
    }
}

/// What to do to the records of an endpoint once the packet is forwarded.
#[derive(Clone, Copy, Debug, Default)]
pub enum Plan {
    /// Nothing.
    #[default]
    Nothing,
    /// The live record in this slot is refreshed.
    Refresh(u32),
    /// The record in this slot has ended, and still carries what comes.
    Carry(u32),
    /// A record is opened, in place of one of the same key that has ended or expired, if there is one.
    Open {
        /// Its key.
        key: FlowKey,
        /// The rule that allowed it.
        rule: u32,
        /// An ended record of the same key makes room for it.
        replaces: bool,
        /// The slot of a record of the same key, ended or expired.
        stale: Option<u32>,
    },
}

impl Plan {
    /// The record that is refreshed.
    #[inline]
    pub fn slot(self) -> Option<u32> {
        match self {
            Plan::Refresh(slot) => Some(slot),
            Plan::Nothing | Plan::Carry(_) | Plan::Open { .. } => None,
        }
    }

    /// The record that the packet belongs to, if it is open already.
    #[inline]
    pub fn record(self) -> Option<u32> {
        match self {
            Plan::Refresh(slot) | Plan::Carry(slot) => Some(slot),
            Plan::Nothing | Plan::Open { .. } => None,
        }
    }
}

/// What an endpoint said of a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    /// What the records said: never `New`, which only a forwarded packet can be.
    pub flow: FlowState,
    /// The rule: the one that opened the record, allowed or denied.
    pub rule: Option<u32>,
    /// What to do if the packet is forwarded.
    pub plan: Plan,
    /// Why the packet ends here.
    pub refused: Option<Reason>,
}

/// A packet at an endpoint.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its headers.
    pub inner: &'a Inner,
    /// Its bytes from the IP header on.
    pub packet: &'a [u8],
    /// Which way it crosses the endpoint.
    pub direction: Direction,
    /// When.
    pub now: Nanos,
    /// What the other endpoint of the packet plans.
    pub pending: Plan,
    /// The shard of the packet that this one quotes.
    pub quoted: Option<&'a Shard>,
}

/// The key of a packet's record at an endpoint: local is the source of an outbound, the destination of an inbound one.
fn key(owner: Owner, inner: &Inner, direction: Direction) -> FlowKey {
    let (from, to) = inner.ports;
    let protocol = inner.protocol;
    match direction {
        Direction::Outbound => {
            FlowKey { owner, protocol, ports: (from, to), local: inner.source, remote: inner.destination }
        }
        Direction::Inbound => {
            FlowKey { owner, protocol, ports: (to, from), local: inner.destination, remote: inner.source }
        }
    }
}

/// Asks an endpoint that has a group; later fragments are never asked.
pub fn ask(
    endpoint: &Endpoint<'_>,
    asked: Asked<'_>,
    shard: &mut Shard,
    occupancy: &Occupancy,
    names: &Names,
    trace: &mut Trace,
) -> Said {
    let Asked { inner, direction, now, .. } = asked;
    let remote = if direction == Direction::Inbound { inner.source } else { inner.destination };
    if is_platform(remote) {
        return ask_platform(endpoint, asked, names, trace);
    }
    if let Some(rule) = related(endpoint, asked, asked.quoted.unwrap_or(shard)) {
        note(trace, direction, || {
            format!("ICMP error about a live flow that {} opened", names.rule_name(rule))
        });
        return Said { flow: FlowState::Established, rule: Some(rule), ..Said::default() };
    }
    let key = key(endpoint.owner(), inner, direction);
    let tracks = endpoint.tracks_tcp() && inner.protocol == protocol::TCP;
    let opens = !tracks || is_opening(inner.tcp_flags);
    let any = shard.flows.find_any(&key);
    let found = any.filter(|&slot| shard.flows.gone_at(slot) > now);
    if let Some(slot) = found {
        let record = shard.flows.record(slot);
        if !record.ended() || !is_opening(inner.tcp_flags) || inner.protocol != protocol::TCP {
            let plan = if record.ended() { Plan::Carry(slot) } else { Plan::Refresh(slot) };
            let rule = record.rule;
            note(trace, direction, || format!("established flow that {} opened", names.rule_name(rule)));
            return Said { flow: FlowState::Established, rule: Some(rule), plan, refused: None };
        }
    }
    if let Plan::Open { key: opening, rule, .. } = asked.pending
        && opening == key
    {
        return Said { rule: Some(rule), ..Said::default() };
    }
    let mut said = judge(endpoint, inner, direction, names, trace);
    let Some(rule) = said.rule.filter(|_| said.refused.is_none()) else { return said };
    if !opens {
        note(trace, direction, || "the TCP segment belongs to no flow and is no SYN".to_owned());
        said.refused = Some(Reason::TcpNoFlow);
    } else if is_full(endpoint, found.is_some(), asked.pending, occupancy) && {
        shard.reap_all(occupancy, now);
        is_full(endpoint, shard.flows.find(&key, now).is_some(), asked.pending, occupancy)
    } {
        note(trace, direction, || "the table of flow records is full".to_owned());
        said.refused = Some(Reason::FlowTableFull);
    } else {
        said.plan = Plan::Open { key, rule, replaces: found.is_some(), stale: any };
    }
    said
}

/// Notes what was found at the outbound or inbound step.
pub fn note(trace: &mut Trace, direction: Direction, text: impl FnOnce() -> String) {
    match direction {
        Direction::Outbound => trace.note(7, "outbound rules", text),
        Direction::Inbound => trace.note(10, "inbound rules", text),
    }
}

/// A SYN without ACK, RST and FIN; other bits do not matter.
#[inline(always)]
pub fn is_opening(flags: u8) -> bool {
    use tcp_flags::{ACK, FIN, RST, SYN};
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Asks the groups in their order; the first deny ends it, else the last that allowed is named.
fn judge(
    endpoint: &Endpoint<'_>,
    inner: &Inner,
    direction: Direction,
    names: &Names,
    trace: &mut Trace,
) -> Said {
    let mut said = Said::default();
    for (group, applying) in endpoint.groups(direction).into_iter().flatten() {
        let decision = group.rules(direction).ask(
            inner.source,
            inner.destination,
            inner.protocol,
            inner.ports,
            applying,
        );
        if take(&mut said, group, decision, direction, names, trace) {
            trace.keep(|facts| facts.denied = Some(denied(endpoint, group, direction, false)));
            break;
        }
    }
    said
}

/// Where a packet was denied.
fn denied(endpoint: &Endpoint<'_>, group: &Group, direction: Direction, platform: bool) -> Denied {
    let subnet = endpoint.subnet.name.clone();
    let owner = endpoint.owner();
    Denied { group: group.name.clone(), direction, vnet: endpoint.vnet.id, subnet, owner, platform }
}

/// For packets from or to a platform address: only rules that name a platform tag are asked; no record is kept.
fn ask_platform(endpoint: &Endpoint<'_>, asked: Asked<'_>, names: &Names, trace: &mut Trace) -> Said {
    let Asked { inner, direction, .. } = asked;
    let mut said = Said::default();
    for (group, _) in endpoint.groups(direction).into_iter().flatten() {
        let decision =
            group.rules(direction).ask_platform(inner.source, inner.destination, inner.protocol, inner.ports);
        if decision.is_some() && take(&mut said, group, decision, direction, names, trace) {
            trace.keep(|facts| facts.denied = Some(denied(endpoint, group, direction, true)));
            break;
        }
    }
    if said.rule.is_none() {
        note(trace, direction, || "platform address: no rule names it, it passes".to_owned());
    }
    said
}

/// Notes a group's decision; true if it ends the packet. A group without matching rule (there is none: the default rules
/// match everything) denies.
fn take(
    said: &mut Said,
    group: &Group,
    decision: Option<Decision>,
    direction: Direction,
    names: &Names,
    trace: &mut Trace,
) -> bool {
    said.rule = decision.map(|d| d.name);
    let denied = decision.is_none_or(|d| d.access == Access::Deny);
    note(trace, direction, || {
        let access = if denied { "Deny" } else { "Allow" };
        match decision {
            Some(d) => {
                let rule = names.rule_name(d.name);
                format!("{access} by {rule} (priority {}) of NSG {}", d.priority, group.name)
            }
            None => format!("{access}: no rule of NSG {} matches", group.name),
        }
    });
    if denied {
        said.refused = Some(Reason::NsgDeny);
    }
    denied
}

/// The rule of the live record that an ICMP error quotes a packet of. Inbound it must quote what the endpoint sent, to
/// whom the error goes; outbound what the endpoint received.
fn related(endpoint: &Endpoint<'_>, asked: Asked<'_>, shard: &Shard) -> Option<u32> {
    let Asked { inner, packet, direction, now, .. } = asked;
    let ipv4 = inner.source.is_ipv4();
    if !inner.is_icmp() || !icmp::quotes_a_flow(ipv4, inner.icmp_type) {
        return None;
    }
    let message = packet.get(inner.transport as usize..inner.total as usize)?;
    let quote = icmp::parse_quote(message, ipv4)?;
    let (from, to) = quote.ports;
    let (local, remote, ports) = match direction {
        Direction::Inbound if quote.source != inner.destination => return None,
        Direction::Inbound => (quote.source, quote.destination, (from, to)),
        Direction::Outbound => (quote.destination, quote.source, (to, from)),
    };
    let owner = endpoint.owner();
    let own = if direction == Direction::Inbound { inner.destination } else { inner.source };
    if owner.endpoint == 0 && local != own {
        // The endpoint is this address: records of others are not its own.
        return None;
    }
    let key = FlowKey { owner, protocol: quote.protocol, ports, local, remote };
    let record = shard.flows.record(shard.flows.find(&key, now)?);
    (!record.ended()).then_some(record.rule)
}

/// True if one more record would be too many. A record that is replaced does not count, and one that the other endpoint
/// of the packet is about to open does.
fn is_full(endpoint: &Endpoint<'_>, replaces: bool, pending: Plan, occupancy: &Occupancy) -> bool {
    let other = match pending {
        Plan::Open { key: other, replaces: false, .. } => Some(other.owner),
        _ => None,
    };
    let extra = |same: bool| u32::from(same);
    let vnet = endpoint.vnet;
    if endpoint.has_room(occupancy) {
        return false;
    }
    let held = occupancy.of_vnet(vnet.id) + extra(other.is_some_and(|o| o.vnet == vnet.id));
    if held - u32::from(replaces).min(held) >= vnet.max_flows {
        return true;
    }
    let Some(nic) = endpoint.nic else { return false };
    let held = occupancy.of_party(nic.party) + extra(other.is_some_and(|o| o.endpoint == nic.party));
    held - u32::from(replaces).min(held) >= nic.max_flows
}

/// Opens the record that is planned, in place of an ended one of the same key; its slot. `Err` if the table has no room
/// where the key belongs, which takes a collision attack.
pub fn open(
    plan: Plan,
    endpoint: &Endpoint<'_>,
    direction: Direction,
    shard: &mut Shard,
    occupancy: &Occupancy,
    now: Nanos,
) -> Result<Option<u32>, Reason> {
    let Plan::Open { key, rule, stale, .. } = plan else { return Ok(None) };
    if stale.is_some() {
        shard.remove(occupancy, &key);
    }
    let minutes = endpoint.vnet.flow_timeout_minutes as u8;
    let slot = shard.flows.open(&key, now, minutes, rule, direction).ok_or(Reason::FlowTableFull)?;
    shard.tally(occupancy).take(key.owner);
    Ok(Some(slot))
}

/// Refreshes the record that is planned; FIN from both sides, or RST, ends it. Its slot, if it lives on.
pub fn refresh(
    plan: Plan,
    endpoint: &Endpoint<'_>,
    inner: &Inner,
    direction: Direction,
    shard: &mut Shard,
    now: Nanos,
) -> Option<u32> {
    let Plan::Refresh(slot) = plan else { return None };
    // It may have been ended by the packet itself, which met it at its other endpoint, too.
    if shard.flows.record(slot).ended() {
        return None;
    }
    shard.flows.refresh(slot, now);
    if !endpoint.tracks_tcp() || inner.protocol != protocol::TCP {
        return Some(slot);
    }
    let mut ends = inner.tcp_flags & tcp_flags::RST != 0;
    if inner.tcp_flags & tcp_flags::FIN != 0 {
        ends |= shard.flows.record_mut(slot).see_fin(direction);
    }
    if ends {
        shard.flows.end(slot, now);
        return None;
    }
    Some(slot)
}

/// Judges a live record again, as the packet that opened it: the rule that allows it now, or `None`.
pub fn judge_again(endpoint: &Endpoint<'_>, key: &FlowKey, opened_by: Direction) -> Option<u32> {
    let (local, remote) = key.ports;
    let (source, destination, ports): (IpAddr, IpAddr, (u16, u16)) = match opened_by {
        Direction::Outbound => (key.local, key.remote, (local, remote)),
        Direction::Inbound => (key.remote, key.local, (remote, local)),
    };
    let mut rule = None;
    for (group, applying) in endpoint.groups(opened_by).into_iter().flatten() {
        let decision = group.rules(opened_by).ask(source, destination, key.protocol, ports, applying)?;
        if decision.access == Access::Deny {
            return None;
        }
        rule = Some(decision.name);
    }
    rule
}

/// True if a group of the endpoint has its live records judged again on every change.
pub fn flushes(endpoint: &Endpoint<'_>) -> bool {
    let flush = |g: Option<&Arc<Group>>| g.is_some_and(|g| g.flush);
    flush(endpoint.subnet.group.as_ref()) || flush(endpoint.nic.and_then(|n| n.group.as_ref()))
}
