//! The effective security rules of a subnet or NIC: as tables in the order they are asked, and in the shape of Azure's
//! effective network security groups.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::routes::SubnetAt;
use super::{Style, Table};
use crate::compile::effective::virtual_network_tag;
use crate::compile::security::{RankedRule, Scope, asg_addresses, expand, internet_tag, ranked};
use crate::model::{Access, AddressItem, AddressMatch, Nic, Nsg, Rule, RuleProtocol};
use crate::packet::Direction;
use crate::types::Prefix;

/// Entries of one side of a rule that the table shows; the JSON document has all.
const SHOWN: usize = 3;

/// Prefixes of a tag that are listed below the tables; the JSON document has all.
const EXPLAINED: usize = 8;

/// The network security groups that are asked for a NIC, or for the addresses of a subnet without NIC resource.
pub struct EffectiveRules<'a> {
    at: SubnetAt<'a>,
    nic: Option<&'a Nic>,
    scope: Scope,
}

/// Where a group is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Subnet,
    Nic,
}

impl<'a> EffectiveRules<'a> {
    /// Those of this subnet, or of this NIC in it.
    pub fn of(at: SubnetAt<'a>, nic: Option<&'a Nic>) -> EffectiveRules<'a> {
        let space = at.customer.vnets.get(at.vnet).map_or(&[][..], |v| &v.address_space);
        let routes = at.routes(&at.learned());
        let virtual_network = virtual_network_tag(space, &routes);
        let (virtual_network, internet) = (virtual_network.into(), internet_tag(space).into());
        let scope = Scope { virtual_network, internet, vnet: at.vnet };
        EffectiveRules { at, nic, scope }
    }

    fn group(&self, level: Level) -> Option<&'a Nsg> {
        let nsg = match level {
            _ if self.at.is_gateway() => None,
            Level::Subnet => self.at.subnet.nsg,
            Level::Nic => self.nic.and_then(|n| n.nsg),
        };
        self.at.customer.nsgs.get(nsg?).map(|g| &**g)
    }

    /// The rules of a group that are asked here, and those that are not because the NIC is in none of their ASGs.
    fn asked(&self, nsg: &'a Nsg, direction: Direction) -> (Vec<RankedRule<'a>>, Vec<RankedRule<'a>>) {
        let applies = |r: &RankedRule<'_>| {
            let named = || r.rule.source.asgs.iter().chain(&r.rule.destination.asgs);
            self.nic.is_none_or(|nic| named().count() == 0 || named().any(|a| nic.asgs.contains(a)))
        };
        ranked(nsg, direction).into_iter().partition(applies)
    }

    /// The tables for a person, and what their tags and ASGs stand for.
    pub fn table(&self, style: Style) -> String {
        let mut text = String::new();
        let mut legend = BTreeMap::new();
        for direction in [Direction::Inbound, Direction::Outbound] {
            let levels = match direction {
                Direction::Inbound => [Level::Subnet, Level::Nic],
                Direction::Outbound => [Level::Nic, Level::Subnet],
            };
            for level in levels {
                if level == Level::Nic && self.nic.is_none() {
                    continue;
                }
                text.push_str(&style.strong(self.title(level, direction)));
                text.push('\n');
                if let Some(nsg) = self.group(level) {
                    text.push_str(&self.rows(nsg, direction, style, &mut legend));
                }
                text.push('\n');
            }
        }
        if legend.is_empty() {
            text.pop();
        }
        for (name, prefixes) in legend {
            // Writing to memory cannot fail.
            let _ = writeln!(text, "{name} is {}", cut(&prefixes, EXPLAINED));
        }
        text
    }

    fn title(&self, level: Level, direction: Direction) -> String {
        let whose = match (level, self.nic) {
            (Level::Nic, Some(nic)) => format!("NIC {}", nic.name),
            _ => format!("subnet {}", self.at.name()),
        };
        let group = match self.group(level) {
            Some(nsg) => format!("NSG {}", nsg.name),
            None if self.at.is_gateway() => "NSGs have no effect here".to_owned(),
            None => "no NSG: everything is allowed".to_owned(),
        };
        format!("{} rules of {whose} ({group})", direction.name())
    }

    fn rows(&self, nsg: &'a Nsg, direction: Direction, style: Style, legend: &mut Legend) -> String {
        let heads = [
            ">PRIORITY",
            "DIRECTION",
            "NAME",
            "ACCESS",
            "PROTOCOL",
            "SOURCE",
            "PORTS",
            "DESTINATION",
            "PORTS",
        ];
        let mut table = Table::new(style, &heads);
        let (asked, others) = self.asked(nsg, direction);
        for ranked in &asked {
            let rule = &*ranked.rule;
            table.row([
                rule.priority.to_string(),
                direction.name().to_owned(),
                rule.name.clone(),
                access(rule.access).to_owned(),
                protocol(rule.protocol).to_owned(),
                self.cell(&rule.source, legend),
                ports(&rule.source_ports),
                self.cell(&rule.destination, legend),
                ports(&rule.destination_ports),
            ]);
        }
        let mut text = table.to_string();
        if !others.is_empty() {
            let names: Vec<&str> = others.iter().map(|r| r.rule.name.as_str()).collect();
            let _ = writeln!(text, "not asked, the NIC is in none of their ASGs: {}", names.join(", "));
        }
        text
    }

    /// One side of a rule in a cell; what its tags and ASGs stand for goes to the legend.
    fn cell(&self, side: &AddressMatch, legend: &mut Legend) -> String {
        let mut entries = Vec::new();
        for asg in &side.asgs {
            let name = format!("ASG {}", self.at.customer.asgs.get(*asg).map_or("", String::as_str));
            let members = asg_addresses(self.at.customer, self.at.vnet, &[*asg]);
            legend.entry(name.clone()).or_insert_with(|| texts(&members));
            entries.push(name);
        }
        for item in &side.items {
            let name = written(item);
            if is_tag(item) {
                let alone = AddressMatch { items: vec![item.clone()], asgs: Vec::new() };
                let expanded = || self.expanded(&alone).unwrap_or_default();
                legend.entry(name.clone()).or_insert_with(expanded);
            }
            entries.push(if *item == AddressItem::Any { "*".to_owned() } else { name });
        }
        cut(&entries, SHOWN)
    }

    /// The entries of a side as Azure writes them; of ASGs, their members' addresses.
    fn said(&self, side: &AddressMatch) -> Vec<String> {
        let mut entries = texts(&asg_addresses(self.at.customer, self.at.vnet, &side.asgs));
        entries.extend(side.items.iter().map(written));
        entries
    }

    /// What a side with tags stands for.
    fn expanded(&self, side: &AddressMatch) -> Option<Vec<String>> {
        if !side.items.iter().any(is_tag) {
            return None;
        }
        Some(texts(&expand(side, self.at.customer, &self.at.model.tags, &self.scope)?))
    }

    /// A rule in Azure's shape. As in its resources, the singular of a list of several is left out.
    fn rule(&self, ranked: &RankedRule<'_>) -> Value {
        let rule: &Rule = &ranked.rule;
        let kind = if ranked.is_default { "defaultSecurityRules" } else { "securityRules" };
        let (source, destination) = (self.said(&rule.source), self.said(&rule.destination));
        let (from, to) = (port_list(&rule.source_ports), port_list(&rule.destination_ports));
        let mut fields = json!({
            "name": format!("{kind}/{}", rule.name),
            "protocol": protocol(rule.protocol),
            "sourcePortRange": single(&from),
            "destinationPortRange": single(&to),
            "sourcePortRanges": from,
            "destinationPortRanges": to,
            "sourceAddressPrefix": single(&source),
            "destinationAddressPrefix": single(&destination),
            "sourceAddressPrefixes": source,
            "destinationAddressPrefixes": destination,
            "expandedSourceAddressPrefix": self.expanded(&rule.source),
            "expandedDestinationAddressPrefix": self.expanded(&rule.destination),
            "access": access(rule.access),
            "priority": rule.priority,
            "direction": rule.direction.name(),
        });
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, value| !value.is_null() || name.starts_with("expanded"));
        }
        fields
    }
}

impl Serialize for EffectiveRules<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups = Vec::new();
        for level in [Level::Subnet, Level::Nic] {
            let Some(nsg) = self.group(level) else { continue };
            let directions = [Direction::Inbound, Direction::Outbound];
            let rules = directions.into_iter().flat_map(|d| self.asked(nsg, d).0);
            let association = match (level, self.nic) {
                (Level::Nic, Some(nic)) => json!({"networkInterface": {"id": nic.name}}),
                _ => json!({"subnet": {"id": self.at.name()}}),
            };
            groups.push(json!({
                "networkSecurityGroup": {"id": nsg.name},
                "association": association,
                "effectiveSecurityRules": rules.map(|r| self.rule(&r)).collect::<Vec<_>>(),
                "tagMap": null,
            }));
        }
        serializer.collect_map([("value", groups)])
    }
}

/// By name of a tag or ASG, the prefixes that it stands for.
type Legend = BTreeMap<String, Vec<String>>;

fn is_tag(item: &AddressItem) -> bool {
    !matches!(item, AddressItem::Any | AddressItem::Prefix(_))
}

/// An entry as Azure writes it.
fn written(item: &AddressItem) -> String {
    match item {
        AddressItem::Any => "0.0.0.0/0".to_owned(),
        AddressItem::Prefix(prefix) => prefix.to_string(),
        AddressItem::VirtualNetwork => "VirtualNetwork".to_owned(),
        AddressItem::Internet => "Internet".to_owned(),
        AddressItem::AzureLoadBalancer => "AzureLoadBalancer".to_owned(),
        AddressItem::Tag(name) => name.clone(),
    }
}

fn texts(prefixes: &[Prefix]) -> Vec<String> {
    prefixes.iter().map(Prefix::to_string).collect()
}

/// The first of these, and how many more there are.
fn cut(entries: &[String], most: usize) -> String {
    if entries.is_empty() {
        return "nothing".to_owned();
    }
    let shown = entries.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match entries.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn single(list: &[String]) -> Option<&String> {
    match list {
        [one] => Some(one),
        _ => None,
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Allow => "Allow",
        Access::Deny => "Deny",
    }
}

fn protocol(protocol: RuleProtocol) -> &'static str {
    match protocol {
        RuleProtocol::Any => "All",
        RuleProtocol::Tcp => "Tcp",
        RuleProtocol::Udp => "Udp",
        RuleProtocol::Icmp => "Icmp",
        RuleProtocol::Esp => "Esp",
        RuleProtocol::Ah => "Ah",
    }
}

fn port_list(ports: &[(u16, u16)]) -> Vec<String> {
    ports.iter().map(|(from, to)| format!("{from}-{to}")).collect()
}

/// Ports in a cell.
fn ports(ports: &[(u16, u16)]) -> String {
    let range = |&(from, to): &(u16, u16)| match (from, to) {
        (0, u16::MAX) => "*".to_owned(),
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from}-{to}"),
    };
    ports.iter().map(range).collect::<Vec<_>>().join(", ")
}
