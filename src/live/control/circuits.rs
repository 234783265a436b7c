//! Links of circuits and routes of their BGP sessions: those that were asked for.

use serde::{Deserialize, Serialize};

use super::names::named;
use crate::bgp::Family;
use crate::live::circuits::status::{LinkStatus, RouteStatus};
use crate::live::handle::Handle;
use crate::live::report::{BgpRoute, BgpRoutes, BgpSession, SessionRoutes};
use crate::model::Link;
use crate::types::Prefix;

/// Which routes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpRequest {
    /// The customer.
    pub customer: String,
    /// The circuit.
    pub circuit: String,
    /// Of this peering only, by its name or as `private`, `microsoft` or `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering: Option<String>,
    /// Of this link only: `primary` or `secondary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What the peer announces, or is told; both when unsaid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub which: Option<Which>,
    /// Only prefixes that lie in this one or cover it; an address alone will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Which of a session's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// What the peer announces, taken or not.
    Received,
    /// Those of them that are not taken.
    Refused,
    /// What the peer is told.
    Advertised,
}

/// Links of this customer, of circuits with this name; or which of both there is not.
pub(super) fn links(
    customer: Option<&str>,
    circuit: Option<&str>,
    handle: &dyn Handle,
) -> Result<Vec<LinkStatus>, String> {
    let mut links = handle.circuits();
    if customer.is_none() && circuit.is_none() {
        return Ok(links);
    }
    // Customers and circuits without such a link are there, too.
    let (model, _) = handle.in_force();
    let configured = model.customers.iter().map(|c| c.name.as_str());
    let customers = configured.chain(links.iter().map(|link| link.key.customer.as_str()));
    let customer = customer.map(|c| named("customer", c, customers)).transpose()?;
    let is_of = |name: &str| customer.as_ref().is_none_or(|c| c == name);
    let configured = model.customers.iter().filter(|c| is_of(&c.name)).flat_map(|c| &c.circuits);
    let of_links = links.iter().filter(|link| is_of(&link.key.customer));
    let circuits = configured.map(|c| c.name.as_str()).chain(of_links.map(|link| link.key.circuit.as_str()));
    let circuit = circuit.map(|c| named("circuit", c, circuits)).transpose()?;
    links.retain(|link| is_of(&link.key.customer) && circuit.as_ref().is_none_or(|c| *c == link.key.circuit));
    Ok(links)
}

/// The routes that are asked for; or what of the request there is not.
pub(super) fn routes(request: &BgpRequest, handle: &dyn Handle) -> Result<BgpRoutes, String> {
    let BgpRequest { customer, circuit, peering, link, which, prefix } = request;
    let within =
        prefix.as_ref().map(|text| text.parse::<Prefix>().map_err(|e| format!("prefix '{text}' {e}")));
    let within = within.transpose()?;
    let link = link.as_ref().map(|name| one_link(name)).transpose()?;
    let mut links = links(Some(customer), Some(circuit), handle)?;
    if let Some(wanted) = peering {
        links.retain(|l| is_peering(l, wanted));
        if links.is_empty() {
            return Err(format!(
                "peering '{wanted}': circuit '{circuit}' has no link of such a peering with a tunnel and a prefix"
            ));
        }
    }
    links.retain(|l| link.is_none_or(|wanted| wanted == l.key.link));
    links.sort_by(|a, b| a.key.cmp(&b.key));
    let told = |routes: &[RouteStatus], of: &dyn Fn(&RouteStatus) -> bool| -> Vec<BgpRoute> {
        let kept = routes.iter().filter(|r| within.is_none_or(|w| w.overlaps(&r.prefix)) && of(r));
        kept.map(BgpRoute::from).collect()
    };
    let mut answer = BgpRoutes { sessions: Vec::new(), complete: true };
    for link in &links {
        for session in &link.bgp {
            let family = if session.peer.is_ipv4() { Family::V4 } else { Family::V6 };
            let Some(routes) = handle.bgp_routes(&link.key, family) else {
                answer.complete = false;
                continue;
            };
            let received = (*which != Some(Which::Advertised))
                .then(|| told(&routes.received, &|r| *which != Some(Which::Refused) || r.refused.is_some()));
            let advertised =
                which.is_none_or(|w| w == Which::Advertised).then(|| told(&routes.advertised, &|_| true));
            answer.sessions.push(SessionRoutes {
                customer: link.key.customer.clone(),
                circuit: link.key.circuit.clone(),
                peering: link.key.peering.clone(),
                link: link.key.link.name().to_owned(),
                family: BgpSession::from(session).family,
                received,
                advertised,
            });
        }
    }
    Ok(answer)
}

fn one_link(name: &str) -> Result<Link, String> {
    let both = [Link::Primary, Link::Secondary];
    let found = both.into_iter().find(|link| link.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("link '{name}': a peering has primary and secondary"))
}

/// True if it is of a peering with this name, or of this kind: `private` for `AzurePrivatePeering`.
fn is_peering(link: &LinkStatus, wanted: &str) -> bool {
    let kind = link.kind.name().trim_start_matches("Azure").trim_end_matches("Peering");
    [link.key.peering.as_str(), link.kind.name(), kind].iter().any(|name| name.eq_ignore_ascii_case(wanted))
}
