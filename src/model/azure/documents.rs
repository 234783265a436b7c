//! From a whole exported file to its resources: one resource, a list of them as `az` or the REST interface gives it, or an
//! ARM template with its loops, conditions, child resources and inner deployments.

use std::collections::HashMap;

use super::{Resource, ResourceKind, ResourcePath, flatten};
use crate::model::fault::Fault;
use crate::model::functions::truth;
use crate::model::node::{Entry, Kind, Node};
use crate::model::template::{Scope, Turn, Work};
use crate::model::text::MAX_FAULTS;

/// Parts of resources that may also stand on their own, in lower case.
const PARTS: [&str; 6] = [
    "microsoft.network/virtualnetworks/subnets",
    "microsoft.network/virtualnetworks/virtualnetworkpeerings",
    "microsoft.network/networksecuritygroups/securityrules",
    "microsoft.network/routetables/routes",
    "microsoft.network/expressroutecircuits/peerings",
    "microsoft.network/routefilters/routefilterrules",
];

/// Fields that tell the type of a resource that does not say it; the first line that fits counts.
const SHAPES: [(&str, &str); 15] = [
    ("localNetworkAddressSpace", "Microsoft.Network/localNetworkGateways"),
    ("gatewayType", "Microsoft.Network/virtualNetworkGateways"),
    ("connectionType", "Microsoft.Network/connections"),
    ("serviceProviderProperties", "Microsoft.Network/expressRouteCircuits"),
    ("circuitProvisioningState", "Microsoft.Network/expressRouteCircuits"),
    ("addressSpace", "Microsoft.Network/virtualNetworks"),
    ("virtualNetworkPeerings", "Microsoft.Network/virtualNetworks"),
    ("securityRules", "Microsoft.Network/networkSecurityGroups"),
    ("defaultSecurityRules", "Microsoft.Network/networkSecurityGroups"),
    ("routes", "Microsoft.Network/routeTables"),
    ("disableBgpRoutePropagation", "Microsoft.Network/routeTables"),
    ("enableIPForwarding", "Microsoft.Network/networkInterfaces"),
    ("macAddress", "Microsoft.Network/networkInterfaces"),
    ("enableAcceleratedNetworking", "Microsoft.Network/networkInterfaces"),
    ("ipConfigurations", "Microsoft.Network/networkInterfaces"),
];

/// The resources of a whole exported file. Parts that are resources of their own (a subnet, a rule) are
/// [`ResourceKind::Other`] with their type and the name `PARENT/PART`: the parent may stand in another file.
/// Expressions that only Azure can evaluate stay as texts; [`super::unresolved`] tells them.
pub fn resources(document: &Node, faults: &mut Vec<Fault>) -> Vec<Resource> {
    let work = Work::default();
    let most_faults = faults.len() + MAX_FAULTS;
    let mut reader = Reader { faults, most_faults, found: Vec::new(), work: &work };
    reader.document(document);
    let found = reader.found;
    if work.is_spent() {
        faults.push(document.mark.fault("", Work::sentence()));
    }
    found
}

struct Reader<'a> {
    faults: &'a mut Vec<Fault>,
    most_faults: usize,
    found: Vec<Resource>,
    work: &'a Work,
}

/// The resource that another one stands in.
#[derive(Clone, Copy)]
struct Parent<'a> {
    kind: &'a str,
    names: &'a [String],
}

impl Reader<'_> {
    fn document(&mut self, node: &Node) {
        let work = self.work;
        let scope = || Scope::of(node, HashMap::new(), work);
        match &node.kind {
            Kind::List(items) => items.iter().for_each(|item| self.document(item)),
            Kind::Map(_) => {
                if let Some(why) = foreign(node) {
                    self.refuse(node.fault(why));
                } else if is_template(node) {
                    self.template(node, &scope(), &[]);
                } else if let Some(items) = answer_list(node) {
                    self.pages(node);
                    items.iter().for_each(|item| self.document(item));
                } else if let Some(inner) = wrapped(node) {
                    self.document(inner);
                } else {
                    self.resource(node, &scope(), &[], None);
                }
            }
            Kind::Null => {
                let message = "the file is empty; it should hold what 'az network ... show -o json' prints, or a template";
                self.refuse(node.mark.fault("", message));
            }
            _ => self.refuse(node.fault("is no resource of Azure; a resource is a map")),
        }
    }

    fn refuse(&mut self, fault: Fault) {
        if self.faults.len() < self.most_faults {
            self.faults.push(fault);
        }
    }

    /// Refuses one page of a longer list.
    fn pages(&mut self, node: &Node) {
        if let Some(next) = node.get_ci("nextLink").filter(|n| n.as_str().is_some_and(|t| !t.is_empty())) {
            self.refuse(next.fault("the list goes on at this address; export all of its pages"));
        }
    }

    fn template(&mut self, template: &Node, scope: &Scope, turns: &[Turn]) {
        self.children(template, scope, turns, None);
    }

    /// The `resources` of a template or resource: a list, or a map from symbolic names.
    fn children(&mut self, of: &Node, scope: &Scope, turns: &[Turn], parent: Option<Parent>) {
        let Some(resources) = of.get_ci("resources") else { return };
        match &resources.kind {
            Kind::List(items) => items.iter().for_each(|item| self.resource(item, scope, turns, parent)),
            Kind::Map(entries) => entries.iter().for_each(|e| self.resource(&e.value, scope, turns, parent)),
            Kind::Null => {}
            _ => self.refuse(resources.fault("the resources of a template are a list or a map")),
        }
    }

    fn resource(&mut self, node: &Node, scope: &Scope, turns: &[Turn], parent: Option<Parent>) {
        if self.work.is_spent() {
            return;
        }
        if node.as_map().is_none() {
            self.refuse(node.fault("is no resource of Azure; a resource is a map"));
            return;
        }
        // Language version 2.0: only named here, defined elsewhere.
        if node.get_ci("existing").and_then(Node::as_bool) == Some(true) {
            return;
        }
        let kind = match kind_of(node, scope, turns, parent) {
            Ok(kind) => kind,
            Err(fault) => return self.refuse(*fault),
        };
        if !is_read(&kind) && !is_deployment(&kind) {
            let name = node.get_ci("name").map_or_else(String::new, Node::describe);
            let body = Node { mark: node.mark.clone(), kind: Kind::Map(Vec::new()) };
            self.found.push(Resource {
                kind: ResourceKind::Other(kind),
                name,
                mark: node.mark.clone(),
                body,
            });
            return;
        }
        match self.exists(node, &kind, scope, turns) {
            Ok(true) => {}
            Ok(false) => return,
            Err(fault) => return self.refuse(*fault),
        }
        match node.get_ci("copy").filter(|copy| copy.as_map().is_some()) {
            None => self.one(node, &kind, scope, turns, parent),
            Some(copy) => self.repeat(node, &kind, copy, scope, turns, parent),
        }
    }

    /// Whether the `condition` of a resource holds.
    fn exists(&self, node: &Node, kind: &str, scope: &Scope, turns: &[Turn]) -> Result<bool, Box<Fault>> {
        let Some(condition) = node.get_ci("condition") else { return Ok(true) };
        scope.settled(condition, turns).and_then(|value| truth(&value)).map_err(|reason| {
            let message = format!("whether this resource of type {kind} exists is not known: {reason}");
            Box::new(condition.fault(message))
        })
    }

    fn repeat(
        &mut self,
        node: &Node,
        kind: &str,
        copy: &Node,
        scope: &Scope,
        turns: &[Turn],
        parent: Option<Parent>,
    ) {
        let count = match copy.get_ci("count").map(|count| (count, scope.loop_count(count, turns))) {
            Some((_, Ok(count))) => count,
            Some((count, Err(reason))) => {
                let message =
                    format!("how many resources of type {kind} this loop makes is not known: {reason}");
                return self.refuse(count.fault(message));
            }
            None => return self.refuse(copy.fault("a 'copy' loop needs a count")),
        };
        let name = copy.get_ci("name").and_then(Node::as_str).unwrap_or("");
        let faults_before = self.faults.len();
        for index in 0..count {
            let mut inner = turns.to_vec();
            inner.push(Turn { name: name.to_owned(), index, of_resource: true });
            self.one(node, kind, scope, &inner, parent);
            // What is wrong with one turn is wrong with all.
            if self.faults.len() > faults_before || self.work.is_spent() {
                return;
            }
        }
    }

    fn one(&mut self, node: &Node, kind: &str, scope: &Scope, turns: &[Turn], parent: Option<Parent>) {
        if is_deployment(kind) {
            return self.deployment(node, scope, turns);
        }
        let names = match names_of(node, kind, scope, turns, parent) {
            Ok(names) => names,
            Err(fault) => return self.refuse(*fault),
        };
        let body = body_of(node, names.last().map_or("", String::as_str), scope, turns);
        let (name, mark) = (names.join("/"), node.mark.clone());
        self.found.push(Resource { kind: ResourceKind::of_type(kind), name, mark, body });
        self.children(node, scope, turns, Some(Parent { kind, names: &names }));
    }

    /// A deployment inside a template: its own template, if it is written out here.
    fn deployment(&mut self, node: &Node, scope: &Scope, turns: &[Turn]) {
        let properties = node.get_ci("properties").unwrap_or(node);
        let Some(template) = properties.get_ci("template").filter(|t| t.as_map().is_some()) else {
            let (at, what) = match properties.get_ci("templateLink") {
                Some(link) => (link, "the linked template"),
                None => (node, "the template of this deployment"),
            };
            let message = format!(
                "{what} is not written out in this file; export the resources that it makes instead ('az network ... show -o json')"
            );
            return self.refuse(at.fault(message));
        };
        let options = properties.get_ci("expressionEvaluationOptions").and_then(|o| o.get_ci("scope"));
        let inner = options.and_then(Node::as_str).is_some_and(|scope| scope.eq_ignore_ascii_case("inner"));
        if !inner {
            return self.template(template, scope, turns);
        }
        let mut given = HashMap::new();
        for parameter in properties.get_ci("parameters").map_or(&[][..], Node::entries) {
            let value = match parameter.value.get_ci("value") {
                Some(value) => scope.given(value, turns),
                None => Err(format!("the deployment takes the parameter '{}' from elsewhere", parameter.key)),
            };
            given.insert(parameter.key.to_ascii_lowercase(), value);
        }
        self.template(template, &Scope::of(template, given, self.work), &[]);
    }
}

fn is_deployment(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("Microsoft.Resources/deployments")
}

/// True of the types that have an effect.
fn is_read(kind: &str) -> bool {
    !matches!(ResourceKind::of_type(kind), ResourceKind::Other(_))
        || PARTS.iter().any(|p| p.eq_ignore_ascii_case(kind))
}

fn is_template(node: &Node) -> bool {
    let resources = node.get_ci("resources");
    node.get_ci("type").is_none() && resources.is_some_and(|r| r.as_list().is_some() || r.as_map().is_some())
}

/// The items of `{"value": [...]}`.
fn answer_list(node: &Node) -> Option<&[Node]> {
    let around = ["value", "nextLink", "id", "continuationToken", "@odata.context", "count"];
    let only = node.entries().iter().all(|e| around.iter().any(|a| e.key.eq_ignore_ascii_case(a)));
    node.get_ci("value").and_then(Node::as_list).filter(|_| only)
}

/// The resource in `{"newVNet": {...}}`, as `az ... create` prints it.
fn wrapped(node: &Node) -> Option<&Node> {
    let mut said = node.entries().iter().filter(|e| !e.value.is_null());
    let (Some(one), None) = (said.next(), said.next()) else { return None };
    let inner = Some(&one.value).filter(|v| v.as_map().is_some())?;
    let is_resource = ["id", "name", "type"].iter().any(|key| inner.get_ci(key).is_some());
    (is_resource && !one.key.eq_ignore_ascii_case("properties")).then_some(inner)
}

/// What a document is that holds no resources although it comes from Azure.
fn foreign(node: &Node) -> Option<String> {
    let schema = node.get_ci("$schema").and_then(Node::as_str).unwrap_or("").to_ascii_lowercase();
    let has = |key: &str| node.get_ci(key).is_some();
    if schema.contains("deploymentparameters") {
        return Some(
            "holds the parameters of a template, no resources; export the deployed resources instead"
                .to_owned(),
        );
    }
    if schema.contains("buildingblocks") {
        let message = "is a settings file of the Azure Building Blocks tool, no template; export the deployed resources instead";
        return Some(message.to_owned());
    }
    if let Some(code) = node.get_ci("error").and_then(|e| e.get_ci("code")) {
        return Some(format!("is an error that Azure answered ('{}'), no resource", code.describe()));
    }
    if has("values") && has("changeNumber") {
        return Some("is a file of service tags, no resource; name it in 'serviceTags'".to_owned());
    }
    if ["interactions", "networkCallRecords", "Entries", "responses"].into_iter().any(has) {
        let message = "is a recording of requests and answers, no resource; put the body of an answer into a file of its own";
        return Some(message.to_owned());
    }
    let first = node.get_ci("value").and_then(Node::as_list).and_then(<[Node]>::first);
    let is_worked_out = |n: &Node| {
        n.get_ci("effectiveSecurityRules").is_some()
            || (n.get_ci("nextHopType").is_some() && n.get_ci("source").is_some())
    };
    if first.is_some_and(is_worked_out) {
        let message = "holds what Azure worked out (effective routes or rules), no resources; export the resources themselves";
        return Some(message.to_owned());
    }
    let resources = node.get_ci("resources").and_then(Node::as_list).unwrap_or(&[]);
    if resources.iter().any(|r| r.get_ci("associations").is_some()) {
        return Some(
            "is a topology of Network Watcher, which leaves out what resources say; export them".to_owned(),
        );
    }
    None
}

/// The ARM type of a resource: what it says, what its id says, or what its fields tell.
fn kind_of(node: &Node, scope: &Scope, turns: &[Turn], parent: Option<Parent>) -> Result<String, Box<Fault>> {
    if let Some(written) = node.get_ci("type").filter(|t| !t.is_null()) {
        let reason =
            |reason| Box::new(written.fault(format!("the type of a resource must be known: {reason}")));
        let value = scope.settled(written, turns).map_err(reason)?;
        match (value.as_str(), parent) {
            (Some(kind), _) if kind.contains('/') && kind.contains('.') => return Ok(kind.to_owned()),
            (Some(kind), Some(parent)) => return Ok(format!("{}/{kind}", parent.kind)),
            _ => {}
        }
    }
    let id = node.get_ci("id").and_then(Node::as_str).and_then(ResourcePath::parse);
    if let Some(ResourcePath { namespace: Some(namespace), types, .. }) = id
        && !types.is_empty()
    {
        return Ok(format!("{namespace}/{}", types.join("/")));
    }
    let flat = flatten(node);
    match SHAPES.iter().find(|(field, _)| flat.get_ci(field).is_some()) {
        Some((_, kind)) => Ok((*kind).to_owned()),
        None => Err(Box::new(node.fault(
            "is no resource, list of resources or template of Azure that is known: it says no type such as \
             Microsoft.Network/virtualNetworks, and its fields do not tell one",
        ))),
    }
}

/// The names of a resource and of those it is a part of: as many as its type has parts.
fn names_of(
    node: &Node,
    kind: &str,
    scope: &Scope,
    turns: &[Turn],
    parent: Option<Parent>,
) -> Result<Vec<String>, Box<Fault>> {
    let wanted = kind.split('/').count() - 1;
    let owned = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<String>>();
    let id = node.get_ci("id").and_then(Node::as_str).and_then(ResourcePath::parse);
    let by_id = id.map(|path| path.names).filter(|names| names.len() == wanted);
    let Some(written) = node.get_ci("name").filter(|n| !n.is_null()) else {
        let message = format!("a resource of type {kind} needs a name");
        return by_id.ok_or_else(|| Box::new(node.fault(message)));
    };
    let reason = |reason| {
        Box::new(written.fault(format!("the name of a resource of type {kind} must be known: {reason}")))
    };
    let value = scope.settled(written, turns).map_err(reason)?;
    let names = owned(value.as_text().unwrap_or(""));
    let above = parent.map_or(&[][..], |p| p.names);
    if names.len() == wanted && names.iter().all(|n| !n.is_empty()) {
        Ok(names)
    } else if names.len() == 1 && above.len() + 1 == wanted {
        Ok([above, &names].concat())
    } else if let Some(names) = by_id {
        Ok(names)
    } else {
        let form = vec!["name"; wanted].join("/");
        Err(Box::new(written.fault(format!("the name of a resource of type {kind} has the form {form}"))))
    }
}

/// The fields of a resource: evaluated, flattened, under its last name.
fn body_of(node: &Node, name: &str, scope: &Scope, turns: &[Turn]) -> Node {
    let left_out = |e: &Entry| match e.key.to_ascii_lowercase().as_str() {
        "resources" | "condition" | "dependson" | "name" => true,
        "copy" => e.value.as_map().is_some(),
        _ => false,
    };
    let mark = node.get_ci("name").map_or(&node.mark, |n| &n.mark).clone();
    let name = Entry {
        key: "name".to_owned(),
        mark: mark.clone(),
        value: Node { mark, kind: Kind::String(name.to_owned()) },
    };
    let said = node.entries().iter().filter(|e| !left_out(e)).cloned();
    let said = Node { mark: node.mark.clone(), kind: Kind::Map(said.collect()) };
    let Node { mark, kind } = flatten(&scope.resolve(&said, turns));
    match kind {
        Kind::Map(mut entries) => {
            entries.insert(0, name);
            Node { mark, kind: Kind::Map(entries) }
        }
        kind => Node { mark, kind },
    }
}
