//! The shapes of Azure's tools made one: what `az` prints, what the REST interface answers and what ARM templates hold
//! become resources whose fields stand where `az` puts them.

mod documents;
pub(super) mod globs;

use super::node::{Entry, Kind, Mark, Node};

pub use super::template::unresolved;
pub use documents::resources;
pub use globs::load_globs;

/// The kinds of resources that Clearway reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// Microsoft.Network/virtualNetworks.
    VirtualNetwork,
    /// Microsoft.Network/networkSecurityGroups.
    NetworkSecurityGroup,
    /// Microsoft.Network/applicationSecurityGroups.
    ApplicationSecurityGroup,
    /// Microsoft.Network/routeTables.
    RouteTable,
    /// Microsoft.Network/networkInterfaces.
    NetworkInterface,
    /// Microsoft.Network/expressRouteCircuits.
    ExpressRouteCircuit,
    /// Microsoft.Network/routeFilters.
    RouteFilter,
    /// Microsoft.Network/virtualNetworkGateways.
    VirtualNetworkGateway,
    /// Microsoft.Network/localNetworkGateways.
    LocalNetworkGateway,
    /// Microsoft.Network/connections.
    Connection,
    /// Any other type, as written; it has no effect.
    Other(String),
}

/// A resource of an export.
#[derive(Clone, Debug)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its name; of a child resource whose parent was not found, with the parent's name: `hub/web`.
    pub name: String,
    /// Where it begins.
    pub mark: Mark,
    /// Its fields, as [`flatten`] leaves them.
    pub body: Node,
}

/// What a field such as `networkSecurityGroup` or `subnet` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name of the resource.
    pub name: String,
    /// The name of the resource that it is a part of: of a subnet, the VNet.
    pub parent: Option<String>,
    /// The last part of its type as the id writes it (`subnets`); nothing if the reference is a bare name.
    pub kind: Option<String>,
    /// Where the reference stands.
    pub mark: Mark,
}

impl ResourceKind {
    /// The kind of this ARM type, in any letter case.
    pub fn of_type(name: &str) -> ResourceKind {
        match name.to_ascii_lowercase().as_str() {
            "microsoft.network/virtualnetworks" => ResourceKind::VirtualNetwork,
            "microsoft.network/networksecuritygroups" => ResourceKind::NetworkSecurityGroup,
            "microsoft.network/applicationsecuritygroups" => ResourceKind::ApplicationSecurityGroup,
            "microsoft.network/routetables" => ResourceKind::RouteTable,
            "microsoft.network/networkinterfaces" => ResourceKind::NetworkInterface,
            "microsoft.network/expressroutecircuits" => ResourceKind::ExpressRouteCircuit,
            "microsoft.network/routefilters" => ResourceKind::RouteFilter,
            "microsoft.network/virtualnetworkgateways" => ResourceKind::VirtualNetworkGateway,
            "microsoft.network/localnetworkgateways" => ResourceKind::LocalNetworkGateway,
            "microsoft.network/connections" => ResourceKind::Connection,
            _ => ResourceKind::Other(name.to_owned()),
        }
    }
}

/// The resource in one shape: `properties` hoisted to where `az` prints their fields, in the resource and in all that it
/// holds, and nulls dropped. Names are kept. A field that stands both inside and outside `properties` is the inner one.
pub fn flatten(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::List(items) => Kind::List(items.iter().map(flatten).collect()),
        Kind::Map(entries) => Kind::Map(flatten_entries(entries)),
        other => other.clone(),
    };
    Node { mark: node.mark.clone(), kind }
}

fn flatten_entries(entries: &[Entry]) -> Vec<Entry> {
    let mut flat: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut inner: Vec<Entry> = Vec::new();
    for entry in entries {
        let value = match &entry.value.kind {
            Kind::Null => continue,
            // Tags are the customer's own words, not fields.
            _ if entry.key.eq_ignore_ascii_case("tags") => entry.value.clone(),
            _ => flatten(&entry.value),
        };
        match value.kind {
            Kind::Map(hoisted) if entry.key.eq_ignore_ascii_case("properties") => inner.extend(hoisted),
            kind => {
                let value = Node { mark: value.mark, kind };
                flat.push(Entry { key: entry.key.clone(), mark: entry.mark.clone(), value });
            }
        }
    }
    flat.retain(|e| !inner.iter().any(|i| i.key.eq_ignore_ascii_case(&e.key)));
    flat.extend(inner);
    flat
}

/// The resource that this value names: a bare name (`hub-nsg`, of a part `hub/web`), an id, or a map with an `id`
/// (or at least a `name`). Nothing if it is none of these.
pub fn reference(node: &Node) -> Option<Reference> {
    let named = match &node.kind {
        Kind::Map(_) => {
            let field = |name| node.get_ci(name).filter(|n| n.as_text().is_some_and(|t| !t.is_empty()));
            field("id").or_else(|| field("name"))?
        }
        _ => node,
    };
    let path = ResourcePath::parse(named.as_text()?)?;
    let name = path.names.last()?.clone();
    let parent = path.names.len().checked_sub(2).and_then(|i| path.names.get(i)).cloned();
    Some(Reference { name, parent, kind: path.types.last().cloned(), mark: named.mark.clone() })
}

/// An id taken apart: `/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/virtualNetworks/hub/subnets/web` has
/// the types `virtualNetworks`, `subnets` and the names `hub`, `web`. A bare name has no types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourcePath {
    /// `Microsoft.Network`, if said.
    pub(super) namespace: Option<String>,
    pub(super) types: Vec<String>,
    pub(super) names: Vec<String>,
}

impl ResourcePath {
    pub(super) fn parse(text: &str) -> Option<ResourcePath> {
        let lower = text.to_ascii_lowercase();
        let provider = match lower.rfind("/providers/") {
            Some(at) => text.get(at + "/providers/".len()..),
            None if lower.starts_with("microsoft.") && lower.contains('/') => Some(text),
            None => None,
        };
        let owned = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<String>>();
        let (namespace, parts, paired) = match provider {
            Some(rest) => {
                let (namespace, rest) = rest.split_once('/')?;
                (Some(namespace.to_owned()), rest.split('/').collect::<Vec<_>>(), true)
            }
            None => match text.strip_prefix('/') {
                Some(rest) => (None, rest.split('/').collect(), true),
                None => (None, text.split('/').collect(), false),
            },
        };
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        if !paired {
            return (parts.len() <= 2).then(|| ResourcePath {
                namespace,
                types: Vec::new(),
                names: owned(&parts),
            });
        }
        let (pairs, odd) = parts.as_chunks::<2>();
        let path = ResourcePath {
            namespace,
            types: pairs.iter().map(|[kind, _]| (*kind).to_owned()).collect(),
            names: pairs.iter().map(|[_, name]| (*name).to_owned()).collect(),
        };
        odd.is_empty().then_some(path)
    }
}

#[cfg(test)]
mod tests;
