//! Which resources there are, by customer, kind and name, and what a reference to one finds.

use std::collections::HashMap;

use super::fields::{self, Fields};
use super::report::{Read, Report, Reported, did_you_mean};
use super::sources::{Item, Sources};
use crate::model::azure::{self, Reference, ResourceKind};
use crate::model::node::Node;

/// The kinds of resources that a customer has lists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `virtualNetworks`
    Vnet,
    /// `networkSecurityGroups`
    Nsg,
    /// `applicationSecurityGroups`
    Asg,
    /// `routeTables`
    RouteTable,
    /// `networkInterfaces`
    Nic,
    /// `expressRouteCircuits`
    Circuit,
    /// `virtualNetworkGateways`
    Gateway,
    /// `localNetworkGateways`
    Site,
    /// `connections`
    Connection,
    /// `routeFilters`
    RouteFilter,
}

impl Slot {
    /// Every kind.
    pub const ALL: [Slot; 10] = [
        Slot::Vnet,
        Slot::Nsg,
        Slot::Asg,
        Slot::RouteTable,
        Slot::Nic,
        Slot::Circuit,
        Slot::Gateway,
        Slot::Site,
        Slot::Connection,
        Slot::RouteFilter,
    ];

    /// Azure's name of the list, which is also the last part of the type.
    pub fn list(self) -> &'static str {
        match self {
            Slot::Vnet => "virtualNetworks",
            Slot::Nsg => "networkSecurityGroups",
            Slot::Asg => "applicationSecurityGroups",
            Slot::RouteTable => "routeTables",
            Slot::Nic => "networkInterfaces",
            Slot::Circuit => "expressRouteCircuits",
            Slot::Gateway => "virtualNetworkGateways",
            Slot::Site => "localNetworkGateways",
            Slot::Connection => "connections",
            Slot::RouteFilter => "routeFilters",
        }
    }

    /// One of them, in words.
    pub fn word(self) -> &'static str {
        match self {
            Slot::Vnet => "virtual network",
            Slot::Nsg => "network security group",
            Slot::Asg => "application security group",
            Slot::RouteTable => "route table",
            Slot::Nic => "network interface",
            Slot::Circuit => "circuit",
            Slot::Gateway => "virtual network gateway",
            Slot::Site => "local network gateway",
            Slot::Connection => "connection",
            Slot::RouteFilter => "route filter",
        }
    }

    /// One of them, in words with an article.
    pub fn a_word(self) -> String {
        let article = if self == Slot::Asg { "an" } else { "a" };
        format!("{article} {}", self.word())
    }

    /// The command that exports one.
    pub fn export(self) -> &'static str {
        match self {
            Slot::Vnet => "az network vnet show",
            Slot::Nsg => "az network nsg show",
            Slot::Asg => "az network asg show",
            Slot::RouteTable => "az network route-table show",
            Slot::Nic => "az network nic show",
            Slot::Circuit => "az network express-route show",
            Slot::Gateway => "az network vnet-gateway show",
            Slot::Site => "az network local-gateway show",
            Slot::Connection => "az network vpn-connection show",
            Slot::RouteFilter => "az network route-filter show",
        }
    }

    /// The list that resources of this kind belong to; nothing of kinds that have no effect.
    pub fn of(kind: &ResourceKind) -> Option<Slot> {
        Some(match kind {
            ResourceKind::VirtualNetwork => Slot::Vnet,
            ResourceKind::NetworkSecurityGroup => Slot::Nsg,
            ResourceKind::ApplicationSecurityGroup => Slot::Asg,
            ResourceKind::RouteTable => Slot::RouteTable,
            ResourceKind::NetworkInterface => Slot::Nic,
            ResourceKind::ExpressRouteCircuit => Slot::Circuit,
            ResourceKind::VirtualNetworkGateway => Slot::Gateway,
            ResourceKind::LocalNetworkGateway => Slot::Site,
            ResourceKind::Connection => Slot::Connection,
            ResourceKind::RouteFilter => Slot::RouteFilter,
            ResourceKind::Other(_) => return None,
        })
    }
}

/// The resources of one customer by name; Azure's names have no letter case.
pub struct Names<'a> {
    /// The customer.
    pub customer: &'a str,
    /// Its resources.
    pub sources: &'a Sources,
    by_name: [HashMap<String, usize>; Slot::ALL.len()],
}

impl<'a> Names<'a> {
    /// The names of these resources; each stands for the first resource that has it.
    pub fn new(customer: &'a str, sources: &'a Sources) -> Names<'a> {
        let by_name = Slot::ALL.map(|slot| {
            let mut names = HashMap::new();
            for (index, item) in sources.list(slot).iter().enumerate() {
                names.entry(item.name.to_lowercase()).or_insert(index);
            }
            names
        });
        Names { customer, sources, by_name }
    }

    /// The resource of this name.
    pub fn find(&self, slot: Slot, name: &str) -> Option<usize> {
        self.by_name[slot as usize].get(&name.to_lowercase()).copied()
    }

    fn item(&self, slot: Slot, name: &str) -> Option<&'a Item> {
        self.find(slot, name).and_then(|index| self.sources.list(slot).get(index))
    }
}

/// The resources of every customer, seen from one of them.
#[derive(Clone, Copy)]
pub struct Everyone<'s, 'a> {
    /// All of them.
    pub all: &'s [Names<'a>],
    /// The one whose references are being read.
    pub own: &'s Names<'a>,
}

impl<'a> Everyone<'_, 'a> {
    /// What a field refers to; nothing if the field is unset.
    pub fn optional(
        &self,
        report: &mut Report,
        fields: &Fields<'a>,
        key: &str,
        slot: Slot,
    ) -> Read<Option<usize>> {
        match fields.get(key) {
            None => Ok(None),
            Some(node) => self.resolve(report, node, slot, || fields.of(key)).map(Some),
        }
    }

    /// What a field refers to; it must be set.
    pub fn required(&self, report: &mut Report, fields: &Fields<'a>, key: &str, slot: Slot) -> Read<usize> {
        let index = self.optional(report, fields, key, slot)?;
        index.ok_or_else(|| fields.lacks(report, key, &format!("name the {} that is meant", slot.word())))
    }

    /// What a value refers to; faults if there is no such resource.
    pub fn resolve(
        &self,
        report: &mut Report,
        node: &Node,
        slot: Slot,
        what: impl Fn() -> String,
    ) -> Read<usize> {
        let (index, _) = self.look(report, node, slot, &what)?;
        index.ok_or_else(|| self.missing(report, node, slot, what()))
    }

    /// What a value refers to, and how; no resource if it is nowhere in the configuration.
    pub fn look(
        &self,
        report: &mut Report,
        node: &Node,
        slot: Slot,
        what: impl Fn() -> String,
    ) -> Read<(Option<usize>, Reference)> {
        let reference = read_reference(report, node, slot, &what)?;
        self.look_by_name(report, node, slot, &reference.name, what).map(|index| (index, reference))
    }

    /// The resource of this name; faults if only another customer has it.
    pub fn look_by_name(
        &self,
        report: &mut Report,
        node: &Node,
        slot: Slot,
        name: &str,
        what: impl Fn() -> String,
    ) -> Read<Option<usize>> {
        if self.own.item(slot, name).is_some_and(|item| may_be(node, item)) {
            return Ok(self.own.find(slot, name));
        }
        let others = self.all.iter().filter(|n| !std::ptr::eq(*n, self.own));
        let owner = others.into_iter().find(|n| n.item(slot, name).is_some_and(|item| may_be(node, item)));
        match owner {
            None => Ok(None),
            Some(owner) => {
                let message = format!(
                    "{} names {} of customer '{}'; nothing crosses from one customer to another",
                    what(),
                    slot.a_word(),
                    owner.customer
                );
                Err(report.fault(named(node), message))
            }
        }
    }

    /// The fault of a reference to a resource that is nowhere; none if it may be one that could not be read.
    pub fn missing(&self, report: &mut Report, node: &Node, slot: Slot, what: String) -> Reported {
        if self.own.sources.is_unread(slot) {
            return Reported;
        }
        let name = azure::reference(node).map_or_else(String::new, |r| r.name);
        let (word, export, customer) = (slot.a_word(), slot.export(), self.own.customer);
        if let Some(id) = self.own.item(slot, &name).and_then(|item| item.id.as_deref()) {
            let message = format!(
                "{what} names {word} that has this name but another id, {id}; export the one that is \
                 meant ({export})"
            );
            return report.fault(named(node), message);
        }
        let known = self.own.sources.list(slot).iter().map(|item| item.name.as_str());
        let hint = did_you_mean(&name, known);
        let message = format!(
            "{what} names {word} that customer '{customer}' does not have{hint}; define it, or export \
             it too ({export})"
        );
        report.fault(named(node), message)
    }
}

/// Where a reference names its resource: itself, or its id.
pub fn named(node: &Node) -> &Node {
    node.get_ci("id").unwrap_or(node)
}

/// Reads a bare name or id of a resource of this kind.
pub fn read_reference(
    report: &mut Report,
    node: &Node,
    slot: Slot,
    what: impl Fn() -> String,
) -> Read<Reference> {
    let node = named(node);
    fields::computed(report, node, &what)?;
    let Some(reference) = azure::reference(node) else {
        let message = format!("{} must be the name or id of {}", what(), slot.a_word());
        return Err(report.fault(node, message));
    };
    match &reference.kind {
        Some(kind) if !kind.eq_ignore_ascii_case(slot.list()) => {
            let message =
                format!("{} is the id of something in {kind}; that of {} is wanted", what(), slot.a_word());
            Err(report.fault(node, message))
        }
        _ => Ok(reference),
    }
}

/// False if both the reference and the resource have whole ids that differ: then they only share a name.
fn may_be(node: &Node, item: &Item) -> bool {
    // Templates leave the subscription and the resource group open.
    let whole =
        |id: &&str| id.to_ascii_lowercase().starts_with("/subscriptions/") && !id.contains(['{', '[']);
    let (Some(id), Some(own)) = (named(node).as_str().filter(whole), item.id.as_deref().filter(whole)) else {
        return true;
    };
    // A reference to a part of the resource begins with the resource's id.
    let (id, own) = (id.to_ascii_lowercase(), own.to_ascii_lowercase());
    id == own || id.strip_prefix(&own).is_some_and(|rest| rest.starts_with('/'))
}
