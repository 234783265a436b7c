//! What a circuit may not become for what it has learned, which no configuration shows.

use super::Learned;
use crate::bgp::{Family, Policy};
use crate::live::circuits::spec::LinkKey;
use crate::model::{Circuit, CircuitTier, Model, PeeringKind};

impl Learned {
    /// Why a configuration may not come into force after another, a sentence for each link: from Premium to Standard is right
    /// within Standard's limits (semantics 4.1), and one of these is of what a session has received. Circuits are compared as in
    /// [`may_follow`](crate::model::may_follow), which is of the configurations themselves. Routes of a peer that restarts
    /// count while they are kept: they are in force.
    pub fn may_follow(&self, before: &Model, after: &Model) -> Result<(), Vec<String>> {
        let limit = Policy::private(Family::V4, false).limit() as usize;
        let mut sentences = Vec::new();
        for (key, of) in self.customers.values().flat_map(|customer| &customer.links) {
            let [v4, _] = &of.families;
            let (Some(earlier), Some(circuit)) = (find(before, key), find(after, key)) else { continue };
            let becomes_standard =
                (earlier.tier, circuit.tier) == (CircuitTier::Premium, CircuitTier::Standard);
            let is_private =
                earlier.peerings.iter().any(|p| p.name == key.peering && p.kind == PeeringKind::Private);
            let count = v4.routes.len();
            if becomes_standard && is_private && count > limit {
                sentences.push(format!(
                    "{key}: sku.tier cannot change to Standard, as {count} IPv4 prefixes are learned here, and Standard \
                     allows {limit}; let the peer announce fewer, or remove the circuit, and add it again"
                ));
            }
        }
        if sentences.is_empty() { Ok(()) } else { Err(sentences) }
    }
}

/// The circuit of a link.
fn find<'a>(model: &'a Model, key: &LinkKey) -> Option<&'a Circuit> {
    let customer = model.customers.iter().find(|c| c.name.eq_ignore_ascii_case(&key.customer))?;
    customer.circuits.iter().find(|c| c.name.eq_ignore_ascii_case(&key.circuit))
}
