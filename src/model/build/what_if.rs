//! What becomes of circuits in time, to be tried in a replay: learned routes that come and go, links that fail and return.

use super::circuits::{read_link_name, read_peering_name};
use super::fields::Fields;
use super::names::Slot;
use super::report::{Read, Report};
use super::{CustomerDraft, Cx};
use crate::model::node::{Kind, Node};
use crate::model::what_if::{During, LinkEvent};
use crate::types::{Nanos, nanos_of};

/// Reads when something is there: from `begin` until `end`, each as seconds behind the first packet.
pub fn read_during(report: &mut Report, fields: &Fields, begin: &str, end: &str) -> Read<Option<During>> {
    let from = read_seconds(report, fields, begin);
    let until = read_seconds(report, fields, end);
    let (from, until) = (from?, until?);
    if from.is_none() && until.is_none() {
        return Ok(None);
    }
    let during = During { from: from.unwrap_or(0), until: until.unwrap_or(Nanos::MAX) };
    if let (true, Some(at)) = (during.from >= during.until, fields.get(end)) {
        return Err(report.fault(at, format!("{end} of {fields} must be later than {begin}")));
    }
    Ok(Some(during))
}

fn read_seconds(report: &mut Report, fields: &Fields, key: &str) -> Read<Option<Nanos>> {
    let Some(node) = fields.get(key) else { return Ok(None) };
    let text = node.as_text().filter(|_| matches!(node.kind, Kind::Number(_))).unwrap_or_default();
    match nanos_of(text) {
        Some(nanos) => Ok(Some(nanos)),
        None => {
            let what = fields.of(key);
            let right = "seconds behind the first packet, such as 10 or 2.5, with at most nine digits behind the point";
            Err(report.fault(node, format!("{what} must be {right}")))
        }
    }
}

/// Reads when a link is down.
pub fn read_link<'a>(cx: &mut Cx<'_, 'a>, node: &'a Node, customer: &CustomerDraft<'a>) -> Read<LinkEvent> {
    let fields = Fields::own(cx.report, node, "link", "", &["circuit", "peering", "link", "down", "up"])?;
    let circuit = cx.everyone.required(cx.report, &fields, "circuit", Slot::Circuit);
    let link = match read_link_name(cx.report, &fields) {
        Ok(None) => Err(fields.lacks(cx.report, "link", "primary or secondary is needed")),
        Ok(Some(link)) => Ok(link),
        Err(reported) => Err(reported),
    };
    let down = match fields.get("down") {
        None => Err(fields.lacks(cx.report, "down", "say when it fails, in seconds behind the first packet")),
        Some(_) => read_during(cx.report, &fields, "down", "up"),
    };
    let circuit = circuit?;
    let peering = match (fields.get("peering"), customer.circuits.get(circuit)) {
        (Some(_), Some(draft)) => Some(read_peering_name(cx.report, &fields, draft)?),
        _ => None,
    };
    let down = down?.unwrap_or(During { from: 0, until: Nanos::MAX });
    Ok(LinkEvent { circuit, peering, link: link?, down })
}
