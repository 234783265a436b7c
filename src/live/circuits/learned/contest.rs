//! Whose a prefix is that several customers learn on Microsoft and public peering.

use std::collections::{BTreeMap, BTreeSet};

use super::Learned;
use super::make::resolve;
use crate::live::circuits::spec::{find, policies};
use crate::model::{Customer, LearnedFrom, LearnedRoute, Model, PeeringKind};
use crate::types::Prefix;

/// The prefixes that a customer does not get, each with that which it overlaps, and whose that is.
pub(super) type Lost = BTreeMap<Prefix, (Prefix, String)>;

/// A prefix that a customer has learned.
struct Claim {
    customer: usize,
    prefix: Prefix,
    since: u64,
}

impl Learned {
    /// What each customer of a configuration does not get, by its place there.
    pub(super) fn contest(&self, base: &Model, before: Option<&Model>) -> BTreeMap<usize, Lost> {
        let mut claims = self.claims(base);
        if claims.is_empty() {
            return BTreeMap::new();
        }
        // Mostly nobody overlaps with anybody, and it does not matter who was first.
        let given = given(base);
        let mut owners = given.clone();
        if claims.iter().all(|c| owners.claim(c.prefix, c.customer).is_ok()) {
            return BTreeMap::new();
        }
        let in_force = before.map(|before| in_force(base, before)).unwrap_or_default();
        claims.sort_by_key(|c| (!in_force.contains(&(c.customer, c.prefix)), c.since, c.customer, c.prefix));
        let mut owners = given;
        let mut lost: BTreeMap<usize, Lost> = BTreeMap::new();
        for Claim { customer, prefix, .. } in claims {
            if let Err((other, owner)) = owners.claim(prefix, customer) {
                let owner = base.customers.get(owner).map_or_else(String::new, |c| c.name.clone());
                lost.entry(customer).or_default().insert(prefix, (other, owner));
            }
        }
        lost
    }

    /// What customers have learned on Microsoft and public peering and may have, each prefix once for each customer.
    fn claims(&self, base: &Model) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (index, customer) in base.customers.iter().enumerate() {
            let Some(known) = self.customers.get(&customer.name) else { continue };
            let first = claims.len();
            for (key, of) in &known.links {
                let Some((circuit, peering)) = resolve(customer, key) else { continue };
                let Some((circuit, peering)) = find(customer, circuit, peering) else { continue };
                if peering.kind == PeeringKind::Private {
                    continue;
                }
                for (of, policy) in of.families.iter().zip(policies(circuit, peering)) {
                    let taken = of.routes.iter().filter(|(prefix, _)| policy.refuses(prefix).is_none());
                    claims.extend(taken.map(|(prefix, known)| Claim {
                        customer: index,
                        prefix: *prefix,
                        since: known.since,
                    }));
                }
            }
            let mut own = claims.split_off(first);
            own.sort_by_key(|claim| (claim.prefix, claim.since));
            own.dedup_by_key(|claim| claim.prefix);
            claims.append(&mut own);
        }
        claims
    }
}

/// The routes of a customer that were learned on Microsoft or public peering.
fn public(customer: &Customer) -> impl Iterator<Item = &LearnedRoute> {
    let is_public = move |circuit, peering| {
        find(customer, circuit, peering).is_some_and(|(_, p)| p.kind != PeeringKind::Private)
    };
    let any = customer.circuits.iter().flat_map(|c| &c.peerings).any(|p| p.kind != PeeringKind::Private);
    let routes = if any { customer.learned_routes.as_slice() } else { &[] };
    routes.iter().filter(move |route| match route.from {
        LearnedFrom::Peering { circuit, peering, .. } => is_public(circuit, peering),
        LearnedFrom::Connection(_) => false,
    })
}

/// Whose the prefixes are that the configuration says itself.
fn given(base: &Model) -> Owners {
    let mut owners = Owners::default();
    for (index, customer) in base.customers.iter().enumerate() {
        for route in public(customer) {
            // They do not overlap: the configuration would have been refused.
            let _ = owners.claim(route.prefix, index);
        }
    }
    owners
}

/// What customers have in force, by their places in the configuration.
fn in_force(base: &Model, before: &Model) -> BTreeSet<(usize, Prefix)> {
    let places: BTreeMap<&str, usize> =
        base.customers.iter().enumerate().map(|(n, c)| (c.name.as_str(), n)).collect();
    let known = before.customers.iter().filter_map(|c| Some((*places.get(c.name.as_str())?, c)));
    known.flat_map(|(place, customer)| public(customer).map(move |route| (place, route.prefix))).collect()
}

/// Whose addresses are, without regard to what a customer has inside its own.
#[derive(Clone, Default)]
struct Owners {
    /// No two of these overlap.
    outermost: BTreeMap<Prefix, usize>,
}

impl Owners {
    /// Gives a prefix to a customer, unless another one has something that overlaps it: that and the other one.
    fn claim(&mut self, prefix: Prefix, customer: usize) -> Result<(), (Prefix, usize)> {
        // Of those that do not begin behind its last address, the ones that overlap it are the last.
        let before = self.outermost.range(..=Prefix::host(prefix.last())).rev();
        let overlapping: Vec<(Prefix, usize)> =
            before.take_while(|(p, _)| p.overlaps(&prefix)).map(|(p, owner)| (*p, *owner)).collect();
        if let Some(other) = overlapping.iter().rev().find(|(_, owner)| *owner != customer) {
            return Err(*other);
        }
        if overlapping.iter().any(|(p, _)| p.covers(&prefix)) {
            return Ok(());
        }
        for (inside, _) in overlapping {
            self.outermost.remove(&inside);
        }
        self.outermost.insert(prefix, customer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_overlap_are_of_one_customer() {
        let p = |text: &str| text.parse::<Prefix>().unwrap();
        let mut owners = Owners::default();
        for (prefix, customer, other) in [
            ("20.0.0.0/24", 0, None),
            ("20.0.2.0/24", 0, None),
            ("20.0.0.0/25", 0, None),
            ("20.0.0.128/25", 1, Some("20.0.0.0/24")),
            ("20.0.0.0/16", 1, Some("20.0.0.0/24")),
            ("20.0.3.0/24", 1, None),
            ("20.0.0.0/16", 0, Some("20.0.3.0/24")),
            ("20.0.0.0/22", 2, Some("20.0.0.0/24")),
            ("20.0.0.0/23", 0, None),
            ("20.0.1.7/32", 2, Some("20.0.0.0/23")),
            ("20.0.3.255/32", 2, Some("20.0.3.0/24")),
            ("20.0.4.0/32", 2, None),
            ("2001:db8::/32", 2, None),
            ("2001:db8:ffff::/48", 1, Some("2001:db8::/32")),
            ("::/0", 0, Some("2001:db8::/32")),
            ("255.255.255.255/32", 3, None),
        ] {
            let claimed = owners.claim(p(prefix), customer);
            assert_eq!(claimed.err().map(|(p, _)| p), other.map(p), "{prefix} for {customer}");
        }
        let outermost: Vec<String> = owners.outermost.keys().map(Prefix::to_string).collect();
        let expected = [
            "20.0.0.0/23",
            "20.0.2.0/24",
            "20.0.3.0/24",
            "20.0.4.0/32",
            "255.255.255.255/32",
            "2001:db8::/32",
        ];
        assert_eq!(outermost, expected);
    }
}
