//! From a configuration document to a [`Model`]: every fault is told at once, each where it stands.
//!
//! ```text
//! document -> ports, service tags
//!          -> of each customer: sources (own lists and exports) -> names -> drafts
//!          -> checks within a customer, then between customers
//!          -> model, if there was no fault
//! ```
//!
//! A draft is what could be read of a resource. It exists even if parts of it are wrong, so that references to it still
//! find it, and a fault is told once and not again wherever its value is missing.

mod checks;
mod circuits;
mod fields;
mod filters;
mod gateways;
mod learned;
mod names;
mod nics;
mod overlap;
mod ports;
mod report;
mod routes;
mod rules;
mod sources;
mod tags;
mod tunnels;
mod vnets;
mod what_if;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::node::Node;
use super::{Customer, Fault, Files, LinkEvent, Model, WhatIf, azure};
use circuits::CircuitDraft;
use fields::Fields;
use filters::{Communities, FilterDraft};
use gateways::{ConnectionDraft, GatewayDraft, SiteDraft};
use learned::LearnedDraft;
use names::{Everyone, Names, Slot};
use nics::{Asgs, NicDraft};
use ports::Ports;
use report::{Report, place};
use routes::TableDraft;
use rules::NsgDraft;
use sources::Sources;
use tags::{TagSource, Tags};
use tunnels::{HostDraft, TunnelDraft};
use vnets::VnetDraft;

pub(crate) use report::nearest as nearest_name;

/// The one version of the configuration that there is.
const API_VERSION: &str = "clearway/v1";

/// What reading one customer needs to know and to write.
struct Cx<'s, 'a> {
    report: &'s mut Report,
    tags: &'s mut Tags,
    everyone: Everyone<'s, 'a>,
    asgs: &'s Asgs,
}

/// A customer as far as it could be read.
struct CustomerDraft<'a> {
    name: &'a str,
    vnets: Vec<VnetDraft<'a>>,
    nsgs: Vec<NsgDraft<'a>>,
    asgs: Asgs,
    route_tables: Vec<TableDraft<'a>>,
    nics: Vec<NicDraft<'a>>,
    filters: Vec<FilterDraft<'a>>,
    circuits: Vec<CircuitDraft<'a>>,
    gateways: Vec<GatewayDraft<'a>>,
    sites: Vec<SiteDraft<'a>>,
    connections: Vec<ConnectionDraft<'a>>,
    tunnels: Vec<TunnelDraft<'a>>,
    /// Some tunnels could not be read at all.
    tunnels_unread: bool,
    hosts: Vec<HostDraft<'a>>,
    learned: Vec<LearnedDraft<'a>>,
    links: Vec<LinkEvent>,
}

/// Builds the model of a configuration. Files that it names are looked up from `base`; without one they are refused.
/// What is read is added to `files`.
pub fn build(document: &Node, base: Option<&Path>, files: &mut Files) -> Result<Model, Vec<Fault>> {
    let mut report = Report { files: std::mem::take(files), ..Report::default() };
    let model = build_into(&mut report, document, base);
    *files = report.files;
    let by_place = |a: &Fault, b: &Fault| {
        (&a.file, a.line, a.column, &a.value, &a.message)
            .cmp(&(&b.file, b.line, b.column, &b.value, &b.message))
    };
    report.errors.sort_by(by_place);
    report.errors.dedup();
    report.warnings.sort_by(by_place);
    report.warnings.dedup();
    match model {
        Some(model) if report.errors.is_empty() => Ok(Model { warnings: report.warnings, ..model }),
        _ => Err(report.errors),
    }
}

fn build_into(report: &mut Report, document: &Node, base: Option<&Path>) -> Option<Model> {
    let known = ["apiVersion", "ports", "customers", "serviceTags", "communities"];
    let top = Fields::own(report, document, "the configuration", "", &known).ok()?;
    check_version(report, &top);
    let ports = match top.get("ports") {
        Some(node) => Ports::read(report, node),
        None => {
            top.lacks(report, "ports", "describe where frames enter and leave");
            Ports::unread()
        }
    };
    let mut tags = read_tags(report, &top, base);
    let communities = Communities::read(report, &top, base);
    let nodes = top.list(report, "customers").unwrap_or_default();
    let found = read_sources(report, nodes, base);
    let all: Vec<Names> = found.iter().map(|c| Names::new(c.name, &c.sources)).collect();
    let mut customers = Vec::new();
    for (found, own) in found.iter().zip(&all) {
        let everyone = Everyone { all: &all, own };
        customers.push(read_customer(report, &mut tags, &ports, found, everyone));
    }
    for customer in &mut customers {
        checks::within(report, customer, &ports);
        checks::close_connections(report, customer);
        filters::check(report, customer, &communities);
    }
    tunnels::check_keys(report, &customers, &ports);
    learned::check_public_across(report, &customers);
    checks::warn_of_overlaps(report, &customers, &ports);
    Some(Model {
        ports: ports.into_model(),
        communities: communities.used(&customers),
        customers: customers.into_iter().map(|c| Arc::new(c.into_model())).collect(),
        tags: tags.into_used(),
        warnings: Vec::new(),
    })
}

fn check_version(report: &mut Report, top: &Fields) {
    match (top.text(report, "apiVersion"), top.get("apiVersion")) {
        (Ok(Some(API_VERSION)) | Err(_), _) => {}
        (Ok(Some(_)), Some(node)) => {
            report.fault(
                node,
                format!("apiVersion must be {API_VERSION}, the only one that this version reads"),
            );
        }
        _ => {
            top.lacks(report, "apiVersion", &format!("begin with apiVersion: {API_VERSION}"));
        }
    }
}

fn read_tags(report: &mut Report, top: &Fields, base: Option<&Path>) -> Tags {
    let Some(node) = top.get("serviceTags") else {
        return Tags::new(super::tags::builtin(), TagSource::Builtin);
    };
    match (top.text(report, "serviceTags"), base) {
        (Ok(Some(_)), Some(base)) => match super::load::read_tags(base, node, &mut report.files) {
            Ok(known) => Tags::new(known, TagSource::File),
            Err(faults) => {
                report.errors.extend(faults);
                Tags::new(super::tags::builtin(), TagSource::Unreadable)
            }
        },
        (Ok(Some(_)), None) => {
            report.fault(node, "this configuration is not read from a file, so it cannot name other files");
            Tags::new(super::tags::builtin(), TagSource::Unreadable)
        }
        _ => Tags::new(super::tags::builtin(), TagSource::Unreadable),
    }
}

/// A customer of the document, and its resources.
struct Found<'a> {
    name: &'a str,
    fields: Fields<'a>,
    sources: Sources,
}

fn read_sources<'a>(report: &mut Report, nodes: &'a [Node], base: Option<&Path>) -> Vec<Found<'a>> {
    let mut known = vec!["name", "resources", "tunnels", "hosts", "learnedRoutes", "links"];
    known.extend(Slot::ALL.map(Slot::list));
    let mut seen: HashMap<String, &Node> = HashMap::new();
    let mut found = Vec::new();
    for node in nodes {
        let name = node.get("name").and_then(Node::as_text).unwrap_or_default();
        let Ok(fields) = Fields::own(report, node, "customer", name, &known) else { continue };
        match (fields.text(report, "name"), fields.get("name")) {
            (Ok(Some(_)), Some(at)) => {
                if let Some(first) = seen.insert(name.to_lowercase(), at) {
                    let place = place(&first.mark, &at.mark);
                    report.fault(
                        at,
                        format!("is the name of the customer at {place} already; each needs its own"),
                    );
                }
            }
            (Ok(_), _) => {
                fields.lacks(report, "name", "every customer needs one");
            }
            (Err(_), _) => {}
        }
        let mut sources = Sources::read_lists(report, &fields);
        add_exports(report, &fields, &mut sources, base);
        sources.settle(report);
        found.push(Found { name, fields, sources });
    }
    found
}

fn add_exports(report: &mut Report, fields: &Fields, sources: &mut Sources, base: Option<&Path>) {
    let patterns = fields.list(report, "resources").unwrap_or_default();
    let Some(base) = base else {
        for node in patterns {
            report.fault(node, "this configuration is not read from a file, so it cannot name other files");
            sources.set_unread();
        }
        return;
    };
    let before = report.errors.len();
    let documents = azure::load_globs(base, patterns, &mut report.files, &mut report.errors);
    let mut resources = Vec::new();
    for document in &documents {
        resources.extend(azure::resources(document, &mut report.errors));
    }
    if report.errors.len() > before {
        sources.set_unread();
    }
    sources.add_exports(report, resources);
}

fn read_customer<'a>(
    report: &mut Report,
    tags: &mut Tags,
    ports: &Ports<'a>,
    found: &'a Found<'a>,
    everyone: Everyone<'_, 'a>,
) -> CustomerDraft<'a> {
    let asgs = Asgs::collect(report, everyone.own);
    let cx = &mut Cx { report, tags, everyone, asgs: &asgs };
    let list = |slot| found.sources.list(slot).iter();
    let vnets: Vec<_> = list(Slot::Vnet).map(|item| vnets::read(cx, item)).collect();
    let nsgs = list(Slot::Nsg).map(|item| rules::read(cx, item)).collect();
    let route_tables = list(Slot::RouteTable).map(|item| routes::read(cx, item)).collect();
    let nics = list(Slot::Nic).filter_map(|item| nics::read(cx, item, &vnets)).collect();
    let filters = list(Slot::RouteFilter).map(|item| filters::read(cx, item)).collect();
    let circuits = list(Slot::Circuit).map(|item| circuits::read(cx, item)).collect();
    let gateways: Vec<_> = list(Slot::Gateway).map(|item| gateways::read_gateway(cx, item, &vnets)).collect();
    let sites = list(Slot::Site).map(|item| gateways::read_site(cx, item)).collect();
    let connections =
        list(Slot::Connection).map(|item| gateways::read_connection(cx, item, &gateways)).collect();
    let mut customer = CustomerDraft {
        name: found.name,
        vnets,
        nsgs,
        asgs: Asgs::default(),
        route_tables,
        nics,
        filters,
        circuits,
        gateways,
        sites,
        connections,
        tunnels: Vec::new(),
        tunnels_unread: false,
        hosts: Vec::new(),
        learned: Vec::new(),
        links: Vec::new(),
    };
    read_own_lists(cx, &found.fields, ports, &mut customer);
    customer.asgs = asgs;
    customer
}

/// The lists that are Clearway's own: tunnels, hosts and learned routes.
fn read_own_lists<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    ports: &Ports<'a>,
    customer: &mut CustomerDraft<'a>,
) {
    let list = fields.list(cx.report, "tunnels");
    customer.tunnels_unread = list.is_err();
    for node in list.unwrap_or_default() {
        match tunnels::read_tunnel(cx, node, ports, customer) {
            Ok(tunnel) => customer.tunnels.push(tunnel),
            Err(_) => customer.tunnels_unread = true,
        }
    }
    for node in fields.list(cx.report, "hosts").unwrap_or_default() {
        customer.hosts.extend(tunnels::read_host(cx, node).ok());
    }
    for node in fields.list(cx.report, "learnedRoutes").unwrap_or_default() {
        let route = learned::read(cx, node, customer);
        customer.learned.extend(route.ok());
    }
    for node in fields.list(cx.report, "links").unwrap_or_default() {
        let event = what_if::read_link(cx, node, customer);
        customer.links.extend(event.ok());
    }
}

impl CustomerDraft<'_> {
    /// The customer of the model; complete only if there was no fault.
    fn into_model(self) -> Customer {
        Customer {
            name: self.name.to_string(),
            vnets: self.vnets.into_iter().map(VnetDraft::into_model).collect(),
            nsgs: self.nsgs.into_iter().map(|n| Arc::new(n.nsg)).collect(),
            asgs: self.asgs.names,
            route_tables: self.route_tables.into_iter().map(|t| Arc::new(t.table)).collect(),
            nics: self.nics.into_iter().map(|n| n.nic).collect(),
            route_filters: self.filters.into_iter().map(|f| f.filter).collect(),
            circuits: self.circuits.into_iter().map(|c| c.circuit).collect(),
            gateways: self.gateways.into_iter().filter_map(|g| g.gateway.ok()).collect(),
            local_network_gateways: self.sites.into_iter().map(|s| s.site).collect(),
            connections: self.connections.into_iter().filter_map(|c| c.connection.ok()).collect(),
            tunnels: self.tunnels.into_iter().filter_map(|t| t.tunnel.ok()).collect(),
            hosts: self.hosts.into_iter().filter_map(HostDraft::into_model).collect(),
            what_if: WhatIf {
                routes: (0..).zip(&self.learned).filter_map(|(n, l)| Some((n, l.during?))).collect(),
                links: self.links,
            },
            learned_routes: self.learned.into_iter().map(|l| l.route).collect(),
        }
    }
}
