//! Route filters, and the communities that they name.

use std::collections::BTreeMap;
use std::path::Path;

use super::circuits::kind_name;
use super::fields::{self, Fields};
use super::report::{Report, place};
use super::sources::Item;
use super::{CustomerDraft, Cx};
use crate::model::RouteFilter;
use crate::model::communities::parse_community;
use crate::model::node::Node;
use crate::types::Prefix;

/// The service communities that can be named.
pub enum Communities {
    /// The configuration names no file of them.
    Unsaid,
    /// That file could not be read: nothing can be said of any community.
    Unreadable,
    /// Those of the file.
    Known(BTreeMap<u32, Vec<Prefix>>),
}

impl Communities {
    /// Reads the file that the configuration names, if it names one.
    pub fn read(report: &mut Report, top: &Fields, base: Option<&Path>) -> Communities {
        let Some(node) = top.get("communities") else { return Communities::Unsaid };
        match (top.text(report, "communities"), base) {
            (Ok(Some(_)), Some(base)) => {
                match crate::model::load::read_communities(base, node, &mut report.files) {
                    Ok(known) => return Communities::Known(known),
                    Err(faults) => report.errors.extend(faults),
                }
            }
            (Ok(Some(_)), None) => {
                report
                    .fault(node, "this configuration is not read from a file, so it cannot name other files");
            }
            _ => {}
        }
        Communities::Unreadable
    }

    /// What is known of the communities that these customers' filters name.
    pub fn used(self, customers: &[CustomerDraft]) -> BTreeMap<u32, Vec<Prefix>> {
        let Communities::Known(mut known) = self else { return BTreeMap::new() };
        let named = customers.iter().flat_map(|c| &c.filters).flat_map(|f| &f.filter.communities);
        named.filter_map(|c| known.remove_entry(c)).collect()
    }
}

/// A route filter as far as it could be read.
pub struct FilterDraft<'a> {
    /// The filter.
    pub filter: RouteFilter,
    /// Where each of its communities is named.
    nodes: Vec<&'a Node>,
    /// Nothing of it was wrong.
    whole: bool,
}

/// Reads one route filter. Azure makes it without a rule, and lets it have one, which allows.
pub fn read<'a>(cx: &mut Cx<'_, 'a>, item: &'a Item) -> FilterDraft<'a> {
    let report = &mut *cx.report;
    let before = report.errors.len();
    let fields = Fields::azure(&item.body, "route filter", &item.name);
    let filter = RouteFilter { name: item.name.clone(), communities: Vec::new() };
    let mut draft = FilterDraft { filter, nodes: Vec::new(), whole: true };
    let rules = fields.list(report, "rules").unwrap_or_default();
    for rule in rules {
        read_rule(report, &fields, rule, &mut draft);
    }
    if let [first, second, ..] = rules {
        let place = place(&first.mark, &second.mark);
        report.fault(second, format!("{fields} has its rule at {place} already; Azure allows one"));
    }
    draft.whole = report.errors.len() == before;
    draft
}

fn read_rule<'a>(report: &mut Report, filter: &Fields, node: &'a Node, draft: &mut FilterDraft<'a>) {
    if node.as_map().is_none() {
        report.fault(node, format!("a rule of {filter} must be a map with access and communities"));
        return;
    }
    let rule = Fields::azure(node, "rule", node.get_ci("name").and_then(Node::as_text).unwrap_or_default());
    match (rule.word(report, "access", &[("Allow", true), ("Deny", false)]), rule.get("access")) {
        (Ok(Some(false)), Some(at)) => {
            let message = format!(
                "{rule} of {filter} must be Allow; what it does not name is not advertised without a rule"
            );
            report.fault(at, message);
        }
        (Ok(None), _) => {
            rule.lacks(report, "access", "Allow is needed");
        }
        _ => {}
    }
    // The only type that there is.
    let _ = rule.word(report, "routeFilterRuleType", &[("Community", ())]);
    let Ok(nodes) = rule.list(report, "communities") else { return };
    if nodes.is_empty() {
        rule.lacks(report, "communities", "list what it allows, such as 12076:5010");
    }
    for node in nodes {
        let what = || rule.of("communities");
        let Ok(text) = fields::text(report, node, what) else { continue };
        match parse_community(text) {
            Some(community) if draft.filter.communities.contains(&community) => {}
            Some(community) => {
                draft.filter.communities.push(community);
                draft.nodes.push(node);
            }
            None => {
                report.fault(node, format!("{} must be BGP communities such as 12076:5010", what()));
            }
        }
    }
}

/// Warns of filters that let less through than they seem to.
pub fn check(report: &mut Report, customer: &CustomerDraft, communities: &Communities) {
    if let Communities::Known(known) = communities {
        for draft in &customer.filters {
            for (_, node) in
                draft.filter.communities.iter().zip(&draft.nodes).filter(|(c, _)| !known.contains_key(c))
            {
                let message = "is no community of the file that communities: names, so nothing is advertised \
                               for it";
                report.warn(node, message);
            }
        }
    }
    let circuits = customer.circuits.iter();
    let peerings = circuits.flat_map(|c| c.circuit.peerings.iter().zip(&c.peerings));
    for (peering, facts) in peerings {
        for (filter, node) in &facts.filters {
            let Some(draft) = customer.filters.get(*filter).filter(|f| f.whole) else { continue };
            let (name, kind) = (&draft.filter.name, kind_name(peering.kind));
            if draft.filter.communities.is_empty() {
                report.warn(node, format!("route filter '{name}' has no rule, so {kind} advertises nothing"));
            } else if matches!(communities, Communities::Unsaid) {
                let message = format!(
                    "the prefixes of communities are not known, so {kind} advertises nothing; add communities: \
                     with a file of what 'az network route-filter rule list-service-communities' prints"
                );
                report.warn(node, message);
            }
        }
    }
}
