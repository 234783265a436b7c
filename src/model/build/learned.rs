//! Learned routes that the configuration states.

use std::collections::HashMap;

use super::circuits::{CircuitDraft, kind_name, read_link_name, read_peering_name};
use super::fields::Fields;
use super::names::Slot;
use super::report::{Read, Report, Reported, place};
use super::tunnels::check_site;
use super::what_if::read_during;
use super::{CustomerDraft, Cx};
use crate::model::node::{Kind, Node};
use crate::model::{Connection, ConnectionTo, During, LearnedFrom, LearnedRoute, Link, PeeringKind};
use crate::types::{Nanos, Prefix};

/// A learned route and where it stands.
pub struct LearnedDraft<'a> {
    /// Its map.
    pub node: &'a Node,
    /// The route.
    pub route: LearnedRoute,
    /// When it is there, if not always.
    pub during: Option<During>,
}

/// Reads one learned route.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, node: &'a Node, customer: &CustomerDraft<'a>) -> Read<LearnedDraft<'a>> {
    let known = ["prefix", "circuit", "peering", "link", "connection", "asPath", "at", "until"];
    let fields = Fields::own(cx.report, node, "learned route", "", &known)?;
    let prefix = match fields.prefix(cx.report, "prefix") {
        Ok(None) => Err(fields.lacks(cx.report, "prefix", "give its destinations")),
        Ok(Some(prefix)) => Ok(prefix),
        Err(reported) => Err(reported),
    };
    let as_path = read_as_path(cx.report, &fields);
    let during = read_during(cx.report, &fields, "at", "until");
    let from = read_origin(cx, &fields, customer);
    if let (Ok(prefix), Ok(LearnedFrom::Peering { circuit, peering, .. })) = (prefix, from)
        && let Some(circuit) = customer.circuits.get(circuit)
    {
        check_public(cx.report, &fields, prefix, circuit, peering);
    }
    let route = LearnedRoute { prefix: prefix?, from: from?, as_path: as_path? };
    Ok(LearnedDraft { node, route, during: during? })
}

fn read_as_path(report: &mut Report, fields: &Fields) -> Read<Vec<u32>> {
    let mut path = Vec::new();
    let mut whole = Ok(());
    for node in fields.list(report, "asPath")? {
        let text = node.as_text().filter(|_| matches!(node.kind, Kind::Number(_))).unwrap_or_default();
        match text.parse::<u32>().ok().filter(|n| *n > 0 && !text.starts_with('+')) {
            Some(asn) => path.push(asn),
            None => {
                let what = fields.of("asPath");
                whole = Err(report.fault(node, format!("{what} must hold AS numbers, from 1 to 4294967295")));
            }
        }
    }
    whole.map(|()| path)
}

fn read_origin<'a>(
    cx: &mut Cx<'_, 'a>,
    fields: &Fields<'a>,
    customer: &CustomerDraft<'a>,
) -> Read<LearnedFrom> {
    match (fields.get("circuit"), fields.get("connection")) {
        (Some(_), Some(node)) => Err(cx
            .report
            .fault(node, "this learned route has circuit and connection; it is learned on one of them")),
        (None, None) if fields.misspells(&["circuit", "connection"]) => Err(Reported),
        (None, None) => Err(cx
            .report
            .lacks(fields.node, "this learned route has no circuit and no connection; it needs one of them")),
        (None, Some(_)) => {
            for key in ["peering", "link"] {
                if let Some(node) = fields.get(key) {
                    cx.report.fault(node, format!("{key} is of routes learned on a circuit only"));
                }
            }
            let connection = cx.everyone.required(cx.report, fields, "connection", Slot::Connection)?;
            check_site(cx.report, fields, customer, connection)?;
            Ok(LearnedFrom::Connection(connection))
        }
        (Some(_), None) => {
            let link = read_link_name(cx.report, fields);
            let circuit = cx.everyone.required(cx.report, fields, "circuit", Slot::Circuit)?;
            let draft = customer.circuits.get(circuit).ok_or(Reported)?;
            let peering = read_peering_name(cx.report, fields, draft)?;
            Ok(LearnedFrom::Peering { circuit, peering, link: link? })
        }
    }
}

/// Microsoft and public peering learn public prefixes only, those that the customer has announced to own.
fn check_public(
    report: &mut Report,
    fields: &Fields,
    prefix: Prefix,
    circuit: &CircuitDraft,
    peering: usize,
) {
    let Some(kind) = circuit.circuit.peerings.get(peering).map(|p| p.kind) else { return };
    if kind == PeeringKind::Private {
        return;
    }
    let at = fields.get("prefix").unwrap_or(fields.node);
    let name = kind_name(kind);
    let private = [
        Prefix::v4(10, 0, 0, 0, 8),
        Prefix::v4(172, 16, 0, 0, 12),
        Prefix::v4(192, 168, 0, 0, 16),
        Prefix::v4(100, 64, 0, 0, 10),
    ];
    if prefix.is_default() || private.iter().any(|p| p.overlaps(&prefix)) {
        report.fault(at, format!("{name} learns public prefixes only"));
        return;
    }
    let advertised = circuit.peerings.get(peering).and_then(|p| p.advertised.as_ref());
    if advertised.is_some_and(|list| !list.iter().any(|p| p.covers(&prefix))) {
        report.fault(at, format!("lies in none of the advertisedPublicPrefixes of {name}"));
    }
}

/// Where each prefix is learned from each link or connection, and when.
type Seen<'a> = HashMap<(Prefix, LearnedFrom), Vec<(&'a Node, During)>>;

/// What must hold among the learned routes of a customer: each prefix once per link or connection, within Azure's limits.
pub fn check(report: &mut Report, customer: &CustomerDraft) {
    let mut seen: Seen = HashMap::new();
    let mut counts: HashMap<(LearnedFrom, bool), usize> = HashMap::new();
    for draft in &customer.learned {
        let route = &draft.route;
        let ways = ways(route.from);
        let during = draft.during.unwrap_or(During { from: 0, until: Nanos::MAX });
        let earlier = ways.iter().filter_map(|way| seen.get(&(route.prefix, *way))).flatten();
        if let Some((first, _)) = earlier.into_iter().find(|(_, other)| during.overlaps(other)) {
            let at = draft.node.get("prefix").unwrap_or(draft.node);
            let place = place(&first.mark, &at.mark);
            let message = format!(
                "is learned here at {place} already; a prefix is learned once on each link or connection"
            );
            report.fault(at, message);
            continue;
        }
        let mut full = Vec::new();
        for way in ways {
            let spans = seen.entry((route.prefix, way)).or_default();
            spans.push((draft.node, during));
            // One that comes and goes is one prefix.
            if spans.len() > 1 {
                continue;
            }
            let count = counts.entry((way, route.prefix.is_ipv4())).or_default();
            *count += 1;
            full.extend(beyond(customer, route, way, *count));
        }
        // Told once for each link, at the first route too many.
        if let [(limit, _), ..] = full.as_slice() {
            let links: Vec<&str> = full.iter().map(|(_, link)| link.name()).collect();
            let at = draft.node.get("prefix").unwrap_or(draft.node);
            let family = if route.prefix.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!(
                "is one route too many; Azure learns {limit} {family} prefixes on \
                 the {} link of this peering",
                links.join(" and the ")
            );
            report.fault(at, message);
        }
    }
    check_sites(report, customer, &seen);
}

/// What Microsoft and public peering learn is the way to everyone: a prefix leads to one customer.
pub fn check_public_across(report: &mut Report, customers: &[CustomerDraft]) {
    let is_public = |customer: &CustomerDraft, from: LearnedFrom| match from {
        LearnedFrom::Peering { circuit, peering, .. } => {
            let peerings = customer.circuits.get(circuit).map(|c| &c.circuit.peerings);
            peerings.and_then(|p| p.get(peering)).is_some_and(|p| p.kind != PeeringKind::Private)
        }
        LearnedFrom::Connection(_) => false,
    };
    let mut all: Vec<(usize, &LearnedDraft)> = Vec::new();
    for (number, customer) in customers.iter().enumerate() {
        let routes = customer.learned.iter().filter(|draft| is_public(customer, draft.route.from));
        all.extend(routes.map(|draft| (number, draft)));
    }
    // Behind each prefix those that it covers; those that cover the next one are a stack, and are mostly one customer's.
    all.sort_by_key(|(number, draft)| (draft.route.prefix.first(), draft.route.prefix.len(), *number));
    let mut covering: Vec<(usize, &LearnedDraft)> = Vec::new();
    for (number, draft) in all {
        let prefix = draft.route.prefix;
        covering.retain(|(_, above)| above.route.prefix.covers(&prefix));
        if let Some((other, above)) = covering.iter().find(|(other, _)| *other != number) {
            let (early, late) = if *other < number { (*above, draft) } else { (draft, *above) };
            let owner = customers.get(number.min(*other)).map_or("", |c| c.name);
            let [first, at] = [early, late].map(|d| d.node.get("prefix").unwrap_or(d.node));
            let place = place(&first.mark, &at.mark);
            let message = format!("overlaps {} of customer '{owner}' at {place}", early.route.prefix);
            report.fault(at, message + "; what Microsoft and public peering learn leads to one customer");
        }
        covering.push((number, draft));
    }
}

/// The links or the connection that a route is learned on.
fn ways(from: LearnedFrom) -> Vec<LearnedFrom> {
    match from {
        LearnedFrom::Peering { circuit, peering, link: None } => [Link::Primary, Link::Secondary]
            .map(|link| LearnedFrom::Peering { circuit, peering, link: Some(link) })
            .to_vec(),
        one => vec![one],
    }
}

/// The limit and the link, if this is the first route too many on a link.
fn beyond(
    customer: &CustomerDraft,
    route: &LearnedRoute,
    way: LearnedFrom,
    count: usize,
) -> Option<(usize, Link)> {
    let LearnedFrom::Peering { circuit, peering, link: Some(link) } = way else { return None };
    let [v4, v6] = customer.circuits.get(circuit)?.route_limits(peering);
    let limit = if route.prefix.is_ipv4() { v4 } else { v6 };
    (count == limit + 1).then_some((limit, link))
}

/// The prefixes of a local network gateway are learned on every connection to it.
fn check_sites(report: &mut Report, customer: &CustomerDraft, seen: &Seen<'_>) {
    for (index, draft) in customer.connections.iter().enumerate() {
        let Ok(Connection { to: ConnectionTo::Site { local_network_gateway: Some(site), .. }, .. }) =
            draft.connection
        else {
            continue;
        };
        let Some(site) = customer.sites.get(site) else { continue };
        for (prefix, at) in site.site.prefixes.iter().zip(&site.prefix_nodes) {
            if let Some((node, _)) =
                seen.get(&(*prefix, LearnedFrom::Connection(index))).and_then(|all| all.first())
            {
                let node = node.get("prefix").unwrap_or(node);
                let place = place(&at.mark, &node.mark);
                let message = format!(
                    "is a prefix of local network gateway '{}' at {place} already; leave one out",
                    site.site.name
                );
                report.fault(node, message);
            }
        }
    }
}
