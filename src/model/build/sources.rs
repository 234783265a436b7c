//! The resources of one customer: those written in the configuration and those of its exports, each name once.

use std::collections::HashMap;

use super::fields::{self, Fields};
use super::names::Slot;
use super::report::{Read, Report, place, written};
use crate::model::azure::{self, Resource, ResourceKind};
use crate::model::node::{Entry, Kind, Mark, Node};

/// Longest name of a resource; of a virtual network it is less.
const MAX_NAME: usize = 80;
/// Bytes of an id that is kept; Azure's are shorter.
const MAX_ID: usize = 1024;
/// Longest name of a virtual network.
const MAX_VNET_NAME: usize = 64;

/// The parts that templates also write as resources of their own: type, list of the parent, and its kind.
const PARTS: [(&str, Slot, &str); 6] = [
    ("microsoft.network/virtualnetworks/subnets", Slot::Vnet, "subnets"),
    ("microsoft.network/virtualnetworks/virtualnetworkpeerings", Slot::Vnet, "virtualNetworkPeerings"),
    ("microsoft.network/networksecuritygroups/securityrules", Slot::Nsg, "securityRules"),
    ("microsoft.network/routetables/routes", Slot::RouteTable, "routes"),
    ("microsoft.network/expressroutecircuits/peerings", Slot::Circuit, "peerings"),
    ("microsoft.network/routefilters/routefilterrules", Slot::RouteFilter, "rules"),
];

/// One resource.
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its id, if it says one.
    pub id: Option<String>,
    /// Where its name stands, or else where it begins.
    pub mark: Mark,
    /// Its fields.
    pub body: Node,
    /// It comes from an export.
    exported: bool,
}

impl Item {
    /// Its id, if that is whole: templates leave the subscription and the resource group open.
    pub fn whole_id(&self) -> Option<String> {
        let id = self.id.as_ref().filter(|id| id.len() <= MAX_ID && !id.contains(['{', '[']))?;
        id.to_ascii_lowercase().starts_with("/subscriptions/").then(|| id.clone())
    }
}

/// The resources of one customer.
#[derive(Default)]
pub struct Sources {
    lists: [Vec<Item>; Slot::ALL.len()],
    /// Kinds of which some resource could not be read, not even by name.
    unread: [bool; Slot::ALL.len()],
}

impl Sources {
    /// The resources of one kind.
    pub fn list(&self, slot: Slot) -> &[Item] {
        &self.lists[slot as usize]
    }

    /// True if a resource of this kind that seems to be missing may be one that could not be read.
    pub fn is_unread(&self, slot: Slot) -> bool {
        self.unread[slot as usize]
    }

    /// Some export could not be read: it may have held anything.
    pub fn set_unread(&mut self) {
        self.unread = [true; Slot::ALL.len()];
    }

    /// The resources that a customer's own lists hold.
    pub fn read_lists(report: &mut Report, customer: &Fields) -> Sources {
        let mut sources = Sources::default();
        for slot in Slot::ALL {
            let list = customer.list(report, slot.list());
            sources.unread[slot as usize] = list.is_err();
            for node in list.unwrap_or_default() {
                match read_item(report, slot, node) {
                    Ok(item) => sources.lists[slot as usize].push(item),
                    Err(_) => sources.unread[slot as usize] = true,
                }
            }
        }
        sources
    }

    /// Adds what the exports hold.
    pub fn add_exports(&mut self, report: &mut Report, resources: Vec<Resource>) {
        let mut parts = Vec::new();
        for resource in resources {
            match (Slot::of(&resource.kind), &resource.kind) {
                (Some(slot), _) => {
                    let item = item(resource.name, &resource.mark, resource.body, true);
                    self.lists[slot as usize].push(item);
                }
                (None, ResourceKind::Other(kind)) => {
                    let part = PARTS.iter().find(|(part, ..)| kind.eq_ignore_ascii_case(part));
                    parts.extend(part.map(|&(_, slot, list)| (slot, list, resource)));
                }
                (None, _) => {}
            }
        }
        for (slot, list, resource) in parts {
            self.attach(report, slot, list, resource);
        }
    }

    /// Puts a part that is a resource of its own, `hub/web`, where its parent would list it.
    fn attach(&mut self, report: &mut Report, slot: Slot, list: &str, part: Resource) {
        let (parent, name) = part.name.split_once('/').unwrap_or(("", &part.name));
        let Some(parent) = self.lists[slot as usize].iter_mut().find(|i| i.name.eq_ignore_ascii_case(parent))
        else {
            if self.unread[slot as usize] {
                return;
            }
            let message = format!(
                "belongs to {} that is in no export; export it too ({})",
                slot.a_word(),
                slot.export()
            );
            report.fault_at(&part.mark, &part.name, message);
            return;
        };
        let mut body = part.body;
        set(&mut body, "name", Node { mark: part.mark.clone(), kind: Kind::String(name.to_string()) });
        let Kind::Map(entries) = &mut parent.body.kind else { return };
        let at = match entries.iter().position(|e| e.key.eq_ignore_ascii_case(list)) {
            Some(at) => at,
            None => {
                let empty = Node { mark: part.mark.clone(), kind: Kind::List(Vec::new()) };
                entries.push(Entry { key: list.to_string(), mark: part.mark.clone(), value: empty });
                entries.len() - 1
            }
        };
        if let Some(Kind::List(items)) = entries.get_mut(at).map(|e| &mut e.value.kind) {
            // Templates often say a part twice: inside its parent and on its own.
            if !items.iter().any(|i| same(i, &body)) {
                items.push(body);
            }
        }
    }

    /// Lets every name stand for one resource, and faults names that Azure would not take.
    pub fn settle(&mut self, report: &mut Report) {
        for slot in Slot::ALL {
            let mut first: HashMap<String, Item> = HashMap::new();
            let mut order = Vec::new();
            for item in std::mem::take(&mut self.lists[slot as usize]) {
                let key = item.name.to_lowercase();
                match first.get(&key) {
                    None => {
                        check_name(report, slot, &item);
                        order.push(key.clone());
                        first.insert(key, item);
                    }
                    // The same resource in two exports.
                    Some(other) if item.exported && other.exported && same(&item.body, &other.body) => {}
                    Some(other) => {
                        let message = format!(
                            "is the name of {} already defined at {}; rename one or leave one out",
                            slot.a_word(),
                            place(&other.mark, &item.mark)
                        );
                        report.fault_at(&item.mark, &item.name, message);
                    }
                }
            }
            self.lists[slot as usize] = order.iter().filter_map(|key| first.remove(key)).collect();
        }
    }
}

/// One resource of a customer's own list.
fn read_item(report: &mut Report, slot: Slot, node: &Node) -> Read<Item> {
    if node.as_map().is_none() {
        return Err(report.fault(node, format!("{} must be a map with a name", slot.a_word())));
    }
    let body = azure::flatten(node);
    let Some(name) = body.get_ci("name") else {
        let message = format!("this {} has no name; every resource needs one", slot.word());
        return Err(report.lacks(node, message));
    };
    let name = fields::text(report, name, || format!("name of this {}", slot.word()))?.to_string();
    Ok(item(name, &node.mark, body, false))
}

fn item(name: String, mark: &Mark, body: Node, exported: bool) -> Item {
    let mark = body.get_ci("name").map_or(mark, |n| &n.mark).clone();
    let id = body.get_ci("id").and_then(Node::as_str).map(str::to_string);
    Item { name, id, mark, body, exported }
}

fn check_name(report: &mut Report, slot: Slot, item: &Item) {
    let most = if slot == Slot::Vnet { MAX_VNET_NAME } else { MAX_NAME };
    if let Some(message) = wrong_name(&item.name, most) {
        report.fault_at(&item.mark, &item.name, format!("the name of {} {message}", slot.a_word()));
    }
}

/// Faults the name of a part (a subnet, a rule) that Azure would not take.
pub fn check_part_name(report: &mut Report, kind: &str, name: &Node) {
    if let Some(message) = name.as_text().and_then(|n| wrong_name(n, MAX_NAME)) {
        report.fault(name, format!("the name of a {kind} {message}"));
    }
}

fn wrong_name(name: &str, most: usize) -> Option<String> {
    let bad = |c: char| c.is_control() || c == '/';
    if name.is_empty() || name.chars().count() > most || name.contains(bad) {
        Some(format!("has 1 to {most} characters and no '/'"))
    } else {
        None
    }
}

/// Sets a field of a map.
fn set(map: &mut Node, key: &str, value: Node) {
    let Kind::Map(entries) = &mut map.kind else { return };
    match entries.iter_mut().find(|e| e.key.eq_ignore_ascii_case(key)) {
        Some(entry) => entry.value = value,
        None => entries.push(Entry { key: key.to_string(), mark: value.mark.clone(), value }),
    }
}

/// True if two exports say the same: what Azure stamps on each copy apart, and ids by what they name.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Map(left), Kind::Map(right)) => {
            let stamped =
                ["etag", "resourceGroup", "resourceGuid", "provisioningState", "type", "subscriptionId"];
            let said =
                |e: &&Entry| !stamped.iter().any(|s| e.key.eq_ignore_ascii_case(s)) && !e.value.is_null();
            let own_id = |map: &Node| map.get_ci("name").is_some();
            let compared =
                |e: &&Entry| said(e) && !(e.key.eq_ignore_ascii_case("id") && own_id(a) && own_id(b));
            let count = |entries: &[Entry]| entries.iter().filter(compared).count();
            count(left) == count(right)
                && left.iter().filter(compared).all(|e| match b.get_ci(&e.key) {
                    None => false,
                    Some(other) if e.key.eq_ignore_ascii_case("id") => same_id(&e.value, other),
                    Some(other) => same(&e.value, other),
                })
        }
        (Kind::List(left), Kind::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(x, y)| same(x, y))
        }
        _ => written(a) == written(b),
    }
}

fn same_id(a: &Node, b: &Node) -> bool {
    match (azure::reference(a), azure::reference(b)) {
        (Some(a), Some(b)) => {
            a.name.eq_ignore_ascii_case(&b.name) && a.parent == b.parent && a.kind == b.kind
        }
        _ => written(a) == written(b),
    }
}
