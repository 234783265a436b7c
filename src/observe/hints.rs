//! What a verdict alone does not say: which other routes hold a destination, which rule nearly matched, and where the
//! ways of a packet and its answer part. Read from the effective routes and rules, for a person; nothing is decided here.

use std::net::IpAddr;

use super::routes::{SubnetAt, goes_first, why_not};
use super::walk::{Journey, Leg, Question};
use crate::compile::Program;
use crate::compile::effective::{EffectiveRoute, RouteSource, virtual_network_tag};
use crate::compile::security::{Scope, expand, internet_tag, is_platform, ranked};
use crate::dataplane::trace::Denied;
use crate::model::{Access, Model, Rule, RuleProtocol};
use crate::wire::protocol;

/// Hints of one kind at most.
const MOST: usize = 6;

/// The subnet of this name in the VNet of this number.
pub fn subnet<'m>(model: &'m Model, program: &Program, number: u32, name: &str) -> Option<SubnetAt<'m>> {
    let (owner, home) =
        (program.names.customer_name(program.names.customer_of(number)?), program.names.vnet_name(number));
    let customer = model.customers.iter().find(|c| c.name == owner)?;
    let vnet = customer.vnets.iter().position(|v| v.name == home)?;
    let subnet = customer.vnets[vnet].subnets.iter().find(|s| s.name == name)?;
    Some(SubnetAt { model, customer, vnet, subnet })
}

fn told(route: &EffectiveRoute<'_>) -> String {
    let hop = route.next_hop_ip.map_or_else(String::new, |ip| format!(" {ip}"));
    let name = route.name.or(route.tag).map_or_else(String::new, |n| format!(" ({n})"));
    format!("{} {}{hop}, source {}{name}", route.prefix, route.next_hop_type.name(), route.source.name())
}

/// The routes that hold the destination and were not taken, each with why: those of the same prefix as the one that was,
/// and those that somebody made. That system routes have shorter prefixes goes without saying.
pub fn other_routes(model: &Model, program: &Program, leg: &Leg, destination: IpAddr) -> Vec<String> {
    let Some((vnet, name)) = &leg.facts.routed_in else { return Vec::new() };
    let Some(at) = subnet(model, program, *vnet, name).filter(|_| !is_platform(destination)) else {
        return Vec::new();
    };
    let routes = at.routes(&at.learned());
    let mut others = Vec::new();
    for (route, instead) in routes.iter().zip(goes_first(&routes)) {
        let why = why_not(route, instead);
        let taken = leg.outcome.route == Some((route.next_hop_type, route.prefix)) && why.is_none();
        let same = leg.outcome.route.is_some_and(|(_, prefix)| prefix == route.prefix);
        let worth = same || route.source != RouteSource::Default;
        if route.prefix.contains(destination) && worth && !taken {
            let why = why.unwrap_or_else(|| "has a shorter prefix".to_owned());
            others.push((route.prefix.len(), format!("not {}: {why}", told(route))));
        }
    }
    others.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    others.into_iter().map(|(_, text)| text).take(MOST).collect()
}

/// A packet's fields that rules look at.
#[derive(Clone, Copy)]
pub struct Fields {
    /// Protocol number.
    pub protocol: u8,
    /// Source address and port.
    pub from: (IpAddr, u16),
    /// Destination address and port.
    pub to: (IpAddr, u16),
}

/// The rules of the group that denied a packet which would have allowed it but for one field.
pub fn nearly(model: &Model, program: &Program, denied: &Denied, packet: Fields) -> Vec<String> {
    // What other rules say does not matter there.
    if denied.platform {
        return Vec::new();
    }
    let Some(at) = subnet(model, program, denied.vnet, &denied.subnet) else { return Vec::new() };
    let Some(nsg) = at.customer.nsgs.iter().find(|n| n.name == denied.group) else { return Vec::new() };
    let space = at.customer.vnets.get(at.vnet).map_or(&[][..], |v| &v.address_space);
    let virtual_network = virtual_network_tag(space, &at.routes(&at.learned()));
    let (virtual_network, internet) = (virtual_network.into(), internet_tag(space).into());
    let scope = Scope { virtual_network, internet, vnet: at.vnet };
    let holds = |side, address: IpAddr| {
        let prefixes = expand(side, at.customer, &at.model.tags, &scope);
        prefixes.is_none_or(|prefixes| prefixes.iter().any(|p| p.contains(address)))
    };
    let mut hints = Vec::new();
    for rule in
        ranked(nsg, denied.direction).iter().filter(|r| r.rule.access == Access::Allow && !r.is_default)
    {
        let rule: &Rule = &rule.rule;
        let wrong: Vec<&str> = [
            ("protocol", names(rule.protocol, packet.protocol)),
            ("source", holds(&rule.source, packet.from.0)),
            ("source port", holds_port(&rule.source_ports, packet.protocol, packet.from.1)),
            ("destination", holds(&rule.destination, packet.to.0)),
            ("destination port", holds_port(&rule.destination_ports, packet.protocol, packet.to.1)),
        ]
        .into_iter()
        .filter(|(_, fits)| !fits)
        .map(|(field, _)| field)
        .collect();
        if let [field] = wrong.as_slice() {
            hints
                .push(format!("nearly {} (priority {}): it names another {field}", rule.name, rule.priority));
        }
    }
    hints.truncate(MOST);
    hints
}

fn names(named: RuleProtocol, number: u8) -> bool {
    match named {
        RuleProtocol::Any => true,
        RuleProtocol::Tcp => number == protocol::TCP,
        RuleProtocol::Udp => number == protocol::UDP,
        RuleProtocol::Icmp => matches!(number, protocol::ICMP | protocol::ICMPV6),
        RuleProtocol::Esp => number == protocol::ESP,
        RuleProtocol::Ah => number == protocol::AH,
    }
}

fn holds_port(ranges: &[(u16, u16)], number: u8, port: u16) -> bool {
    let has_ports = matches!(number, protocol::TCP | protocol::UDP);
    ranges.iter().any(|&(from, to)| (from, to) == (0, u16::MAX) || has_ports && (from..=to).contains(&port))
}

/// Whether the answer came back the way that the packet went, and if not, where the ways part and why.
pub fn parting(
    model: &Model,
    program: &Program,
    question: &Question,
    there: &Journey,
    back: &Journey,
) -> Option<String> {
    // The places that the answer comes to if it goes the same way, the last being where the packet began.
    let mut expected: Vec<(String, Option<IpAddr>)> =
        there.stops().filter(|s| s.appliance.is_some()).map(|s| (s.name.clone(), s.appliance)).collect();
    expected.reverse();
    expected.push((there.home.clone(), None));
    let mut here = back.start.as_str();
    for (leg, (name, appliance)) in back.legs.iter().zip(&expected) {
        let stop = leg.to.as_ref()?;
        if stop.name != *name {
            let because = because(model, program, leg, question.from.0, *appliance);
            let to = &stop.name;
            return Some(format!(
                "they part at {here}: from there the answer goes to {to}, not to {name}; {because}"
            ));
        }
        here = &stop.name;
    }
    None
}

/// The route that decided, and what became of the one that would have led to `instead`.
fn because(
    model: &Model,
    program: &Program,
    leg: &Leg,
    destination: IpAddr,
    instead: Option<IpAddr>,
) -> String {
    let Some((kind, prefix)) = leg.outcome.route else { return "no route was asked".to_owned() };
    let decided = format!("the route is {prefix} {}", kind.name());
    let at = leg.facts.routed_in.as_ref().and_then(|(v, name)| subnet(model, program, *v, name));
    let (Some(at), Some(instead)) = (at, instead) else { return decided };
    let routes = at.routes(&at.learned());
    let wanted = routes
        .iter()
        .zip(goes_first(&routes))
        .find(|(route, _)| route.next_hop_ip == Some(instead) && route.prefix.contains(destination));
    match wanted {
        None => format!("{decided}, and no route of {} for {destination} leads to {instead}", at.name()),
        Some((route, first)) => {
            let why = why_not(route, first).unwrap_or_else(|| "has a shorter prefix".to_owned());
            format!("{decided}, because {} {why}", told(route))
        }
    }
}

/// The appliances that saw a packet but not the answer, and the other way round.
pub fn one_sided(there: &Journey, back: &Journey) -> Vec<String> {
    let (out, home) = (there.appliances(), back.appliances());
    let mut told = Vec::new();
    for (seen, other, what, not) in [(&out, &home, "packet", "answer"), (&home, &out, "answer", "packet")] {
        let mut only: Vec<_> = seen.iter().filter(|a| !other.contains(a)).collect();
        only.dedup();
        told.extend(only.into_iter().map(|address| {
            format!("appliance {address} sees the {what} but not the {not}: if it keeps state, it drops what follows")
        }));
    }
    told
}
