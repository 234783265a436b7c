//! Network security groups and their rules.

use std::collections::{HashMap, HashSet};

use super::Cx;
use super::fields::{self, Fields};
use super::names::{self, Slot};
use super::report::{Read, Report, Reported, place};
use super::sources::Item;
use super::vnets::{duplicate, part_name};
use crate::model::node::Node;
use crate::model::{Access, AddressItem, AddressMatch, Nsg, Rule, RuleProtocol};
use crate::packet::Direction;
use crate::types::PrefixError;

/// Azure's limits of one network security group (semantics 3.8).
const MAX_RULES: usize = 1000;
const MAX_ADDRESSES_PER_SIDE: usize = 4000;
const MAX_ASGS_PER_SIDE: usize = 10;
const MAX_ASGS: usize = 100;

const PROTOCOLS: [(&str, RuleProtocol); 6] = [
    ("*", RuleProtocol::Any),
    ("Tcp", RuleProtocol::Tcp),
    ("Udp", RuleProtocol::Udp),
    ("Icmp", RuleProtocol::Icmp),
    ("Esp", RuleProtocol::Esp),
    ("Ah", RuleProtocol::Ah),
];
const DIRECTIONS: [(&str, Direction); 2] =
    [("Inbound", Direction::Inbound), ("Outbound", Direction::Outbound)];
const ACCESSES: [(&str, Access); 2] = [("Allow", Access::Allow), ("Deny", Access::Deny)];

/// Every port.
const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// A network security group as far as it could be read.
pub struct NsgDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The group.
    pub nsg: Nsg,
    /// Where each of its rules stands.
    pub rule_nodes: Vec<&'a Node>,
    /// Where a rule names an application security group first.
    pub asg_node: Option<&'a Node>,
}

/// The field names of one side of a rule.
struct Side {
    prefix: &'static str,
    prefixes: &'static str,
    asgs: &'static str,
    port: &'static str,
    ports: &'static str,
}

const SOURCE: Side = Side {
    prefix: "sourceAddressPrefix",
    prefixes: "sourceAddressPrefixes",
    asgs: "sourceApplicationSecurityGroups",
    port: "sourcePortRange",
    ports: "sourcePortRanges",
};
const DESTINATION: Side = Side {
    prefix: "destinationAddressPrefix",
    prefixes: "destinationAddressPrefixes",
    asgs: "destinationApplicationSecurityGroups",
    port: "destinationPortRange",
    ports: "destinationPortRanges",
};

/// Reads one network security group. Its `defaultSecurityRules` are always Azure's six and need no reading.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> NsgDraft<'a> {
    let fields = Fields::azure(&item.body, "network security group", &item.name);
    fields.misspelt(cx.report, &["securityRules", "flushConnection"]);
    let mut draft = NsgDraft {
        node: &item.body,
        nsg: Nsg {
            name: item.name.clone(),
            id: item.whole_id(),
            flush_connection: fields.flag(cx.report, "flushConnection", false).unwrap_or(false),
            rules: Vec::new(),
        },
        rule_nodes: Vec::new(),
        asg_node: None,
    };
    let rules = fields.list(cx.report, "securityRules").unwrap_or_default();
    if rules.len() > MAX_RULES {
        cx.report.fault(&item.body, format!("{fields} has {} rules; Azure allows {MAX_RULES}", rules.len()));
    }
    let mut names: HashMap<String, &Node> = HashMap::new();
    let mut priorities: HashMap<(Direction, u16), &Node> = HashMap::new();
    for node in rules {
        let Ok(name) = part_name(cx.report, node, "rule") else { continue };
        if let Some(first) = names.insert(name.to_lowercase(), node) {
            duplicate(cx.report, node, "rule", first);
        }
        let rule = Fields::azure(node, "rule", name);
        if let Ok(read) = read_rule(cx, &rule, &mut priorities) {
            draft.nsg.rules.push(read);
            draft.rule_nodes.push(node);
        }
        if draft.asg_node.is_none() {
            draft.asg_node = rule.get(SOURCE.asgs).or_else(|| rule.get(DESTINATION.asgs));
        }
    }
    check_limits(cx.report, &draft);
    draft
}

fn read_rule<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    priorities: &mut HashMap<(Direction, u16), &'a Node>,
) -> Read<Rule> {
    let known = [
        "protocol",
        "access",
        "priority",
        "direction",
        SOURCE.prefix,
        SOURCE.prefixes,
        SOURCE.asgs,
        SOURCE.port,
        SOURCE.ports,
        DESTINATION.prefix,
        DESTINATION.prefixes,
        DESTINATION.asgs,
        DESTINATION.port,
        DESTINATION.ports,
    ];
    fields.misspelt(cx.report, &known);
    let protocol = required(cx.report, fields, "protocol", &PROTOCOLS);
    let access = required(cx.report, fields, "access", &ACCESSES);
    let direction = required(cx.report, fields, "direction", &DIRECTIONS);
    let priority = read_priority(cx.report, fields);
    if let (Ok(direction), Ok(priority)) = (direction, priority) {
        check_priority(cx.report, fields, priorities, direction, priority);
    }
    let source = read_addresses(cx, fields, &SOURCE);
    let destination = read_addresses(cx, fields, &DESTINATION);
    if let (Ok(source), Ok(destination)) = (&source, &destination) {
        check_families(cx.report, fields, source, destination);
    }
    let source_ports = read_ports(cx.report, fields, &SOURCE);
    let destination_ports = read_ports(cx.report, fields, &DESTINATION);
    let rule = Rule {
        name: fields.text(cx.report, "name")?.unwrap_or_default().to_string(),
        priority: priority?,
        direction: direction?,
        access: access?,
        protocol: protocol?,
        source: source?,
        destination: destination?,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
    };
    let portless = !matches!(rule.protocol, RuleProtocol::Any | RuleProtocol::Tcp | RuleProtocol::Udp);
    let any = |ports: &[(u16, u16)]| ports.contains(&ALL_PORTS);
    if portless && !(any(&rule.source_ports) && any(&rule.destination_ports)) {
        let at = fields.get("protocol").unwrap_or(fields.node);
        cx.report.warn(
            at,
            format!("{fields} matches nothing: this protocol has no ports, so only the ports * can match"),
        );
    }
    Ok(rule)
}

fn required<T: Copy>(
    report: &mut Report,
    fields: &Fields,
    key: &str,
    words: &[(&'static str, T)],
) -> Read<T> {
    match fields.word(report, key, words)? {
        Some(value) => Ok(value),
        None => {
            let right = super::report::alternatives(words.iter().map(|&(w, _)| w));
            Err(fields.lacks(report, key, &format!("{right} is needed")))
        }
    }
}

fn read_priority(report: &mut Report, fields: &Fields) -> Read<u16> {
    match fields.number(report, "priority", 100..=4096)? {
        Some(n) => u16::try_from(n).map_err(|_| Reported),
        None => Err(fields.lacks(report, "priority", "a whole number from 100 to 4096 is needed")),
    }
}

fn check_priority<'a>(
    report: &mut Report,
    fields: &Fields<'a>,
    priorities: &mut HashMap<(Direction, u16), &'a Node>,
    direction: Direction,
    priority: u16,
) {
    let node = fields.get("priority").unwrap_or(fields.node);
    if let Some(first) = priorities.get(&(direction, priority)) {
        let place = place(&first.mark, &node.mark);
        let direction = direction.name();
        report.fault(
            node,
            format!("is the priority of another {direction} rule at {place} already; {fields} needs its own"),
        );
    } else {
        priorities.insert((direction, priority), node);
    }
}

/// The addresses of one side: one prefix or tag, or a list of prefixes, or application security groups.
fn read_addresses<'a>(cx: &mut Cx<'_, 'a>, fields: &Fields<'a>, side: &Side) -> Read<AddressMatch> {
    let set: Vec<&str> =
        [side.prefix, side.prefixes, side.asgs].into_iter().filter(|k| fields.get(k).is_some()).collect();
    match set.as_slice() {
        [] => return Err(fields.lacks(cx.report, side.prefix, "write * if every address is meant")),
        [_] => {}
        [first, second, ..] => {
            let at = fields.get(second).unwrap_or(fields.node);
            return Err(cx
                .report
                .fault(at, format!("{fields} has {first} and {second}; only one of them may be set")));
        }
    }
    if fields.get(side.asgs).is_some() {
        return read_asgs(cx, fields, side);
    }
    let mut items = Vec::new();
    let mut whole = true;
    if let Some(node) = fields.get(side.prefix) {
        items.push(read_address(cx, node, || fields.of(side.prefix))?);
    }
    let list = fields.list(cx.report, side.prefixes)?;
    for node in list {
        match read_address(cx, node, || fields.of(side.prefixes)) {
            Err(_) => whole = false,
            Ok(item) => {
                if list.len() > 1 && !matches!(item, AddressItem::Prefix(_)) {
                    let what = fields.of(side.prefixes);
                    let message = format!(
                        "{what} may hold addresses and prefixes only; * or a service tag stands alone"
                    );
                    cx.report.fault(node, message);
                    whole = false;
                }
                items.push(item);
            }
        }
    }
    if whole { Ok(AddressMatch { items, asgs: Vec::new() }) } else { Err(Reported) }
}

fn read_address(cx: &mut Cx, node: &Node, what: impl Fn() -> String) -> Read<AddressItem> {
    let text = fields::text(cx.report, node, &what)?;
    let error = match text.parse() {
        Ok(prefix) => return Ok(AddressItem::Prefix(prefix)),
        Err(error) => error,
    };
    match text.to_ascii_lowercase().as_str() {
        "*" => return Ok(AddressItem::Any),
        "virtualnetwork" => return Ok(AddressItem::VirtualNetwork),
        "internet" => return Ok(AddressItem::Internet),
        "azureloadbalancer" => return Ok(AddressItem::AzureLoadBalancer),
        _ => {}
    }
    let like_address = text.starts_with(|c: char| c.is_ascii_digit()) || text.contains([':', '/', ',', ' ']);
    match error {
        PrefixError::Syntax if like_address => {
            let message = format!("{} must be *, an address, a prefix or a service tag", what());
            Err(cx.report.fault(node, message))
        }
        PrefixError::Syntax => cx.tags.take(cx.report, node, text, what).map(AddressItem::Tag),
        error => Err(cx.report.fault(node, format!("{} {error}", what()))),
    }
}

fn read_asgs<'a>(cx: &mut Cx<'_, 'a>, fields: &Fields<'a>, side: &Side) -> Read<AddressMatch> {
    let list = fields.list(cx.report, side.asgs)?;
    if list.len() > MAX_ASGS_PER_SIDE {
        let at = fields.get(side.asgs).unwrap_or(fields.node);
        let message =
            format!("{} names {} groups; Azure allows {MAX_ASGS_PER_SIDE}", fields.of(side.asgs), list.len());
        cx.report.fault(at, message);
    }
    let mut asgs = Vec::new();
    let mut whole = true;
    for node in list {
        match read_asg(cx, node, || fields.of(side.asgs)) {
            Ok(asg) if asgs.contains(&asg) => {
                cx.report
                    .fault(node, format!("{} names this group twice; once is enough", fields.of(side.asgs)));
            }
            Ok(asg) => asgs.push(asg),
            Err(_) => whole = false,
        }
    }
    if whole { Ok(AddressMatch { items: Vec::new(), asgs }) } else { Err(Reported) }
}

/// An application security group that a rule names: a resource, or one that has a member.
fn read_asg(cx: &mut Cx, node: &Node, what: impl Fn() -> String) -> Read<usize> {
    let reference = names::read_reference(cx.report, node, Slot::Asg, &what)?;
    match cx.asgs.find(&reference.name) {
        Some(index) => Ok(index),
        None => cx.everyone.resolve(cx.report, node, Slot::Asg, what),
    }
}

/// Ports as Azure writes them: `*`, `443` or `80-90`, one or a list.
fn read_ports(report: &mut Report, fields: &Fields, side: &Side) -> Read<Vec<(u16, u16)>> {
    let single = fields.get(side.port);
    let list = fields.get(side.ports);
    match (single, list) {
        (None, None) => Err(fields.lacks(report, side.port, "write * if every port is meant")),
        (Some(_), Some(node)) => {
            let message =
                format!("{fields} has {} and {}; only one of them may be set", side.port, side.ports);
            Err(report.fault(node, message))
        }
        (Some(node), None) => read_port_range(report, node, || fields.of(side.port)).map(|range| vec![range]),
        (None, Some(_)) => {
            let read: Vec<_> = fields
                .list(report, side.ports)?
                .iter()
                .map(|node| read_port_range(report, node, || fields.of(side.ports)))
                .collect();
            read.into_iter().collect()
        }
    }
}

fn read_port_range(report: &mut Report, node: &Node, what: impl Fn() -> String) -> Read<(u16, u16)> {
    let text = fields::text(report, node, &what)?;
    if text == "*" {
        return Ok(ALL_PORTS);
    }
    let port = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u16>().ok()).flatten();
    let (from, to) = match text.split_once('-') {
        None => (port(text), port(text)),
        Some((from, to)) => (port(from), port(to)),
    };
    match (from, to) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        (Some(from), Some(to)) => {
            Err(report.fault(node, format!("{} ends before it begins; {to}-{from} would be right", what())))
        }
        _ => Err(report
            .fault(node, format!("{} must be *, a port from 0 to 65535, or a range such as 80-90", what()))),
    }
}

/// Prefixes of both families in one rule could match no packet together.
fn check_families(report: &mut Report, fields: &Fields, source: &AddressMatch, destination: &AddressMatch) {
    let families = |side: &AddressMatch| -> Vec<bool> {
        let family = |i: &AddressItem| if let AddressItem::Prefix(p) = i { Some(p.is_ipv4()) } else { None };
        side.items.iter().filter_map(family).collect()
    };
    let (source, destination) = (families(source), families(destination));
    let mut all = source.iter().chain(&destination);
    let Some(first) = all.next() else { return };
    if all.any(|family| family != first) {
        // The side that mixes, or the one that differs from the other.
        let mixes = |side: &[bool]| side.iter().any(|f| side.first() != Some(f));
        let side = if mixes(&source) { &SOURCE } else { &DESTINATION };
        let at = fields.get(side.prefix).or_else(|| fields.get(side.prefixes)).unwrap_or(fields.node);
        report.fault(at, format!("{fields} mixes IPv4 and IPv6 prefixes; write one rule for each family"));
    }
}

fn check_limits(report: &mut Report, draft: &NsgDraft) {
    let name = &draft.nsg.name;
    for (side, word) in [(0, "source"), (1, "destination")] {
        let of = |rule: &Rule| if side == 0 { rule.source.items.len() } else { rule.destination.items.len() };
        let count: usize = draft.nsg.rules.iter().map(of).sum();
        if count > MAX_ADDRESSES_PER_SIDE {
            let message = format!(
                "network security group '{name}' has {count} {word} addresses in its rules; Azure \
                 allows {MAX_ADDRESSES_PER_SIDE}"
            );
            report.fault(draft.node, message);
        }
    }
    let sides = draft.nsg.rules.iter().flat_map(|r| [&r.source, &r.destination]);
    let asgs: HashSet<usize> = sides.flat_map(|s| s.asgs.iter().copied()).collect();
    if asgs.len() > MAX_ASGS {
        let message = format!(
            "network security group '{name}' names {} application security groups in its rules; Azure \
             allows {MAX_ASGS}",
            asgs.len()
        );
        report.fault(draft.node, message);
    }
}
