//! A customer as it is in force: of its configuration, what was learned, and which links are down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::contest::Lost;
use super::{Made, OfCustomer, OfLink, Refused};
use crate::bgp::path::Segment;
use crate::bgp::{AsPath, Policy};
use crate::live::circuits::spec::{LinkKey, find, policies};
use crate::model::{Customer, LearnedFrom, LearnedRoute, Link, PeeringKind};
use crate::types::Prefix;

/// A link by its place in the configuration: circuit, peering, which.
type Place = (usize, usize, Link);

/// Which circuit and peering of a customer a link is of.
pub(super) fn resolve(customer: &Customer, key: &LinkKey) -> Option<(usize, usize)> {
    let circuit = customer.circuits.iter().position(|c| c.name == key.circuit)?;
    let peering = customer.circuits.get(circuit)?.peerings.iter().position(|p| p.name == key.peering)?;
    Some((circuit, peering))
}

impl OfCustomer {
    /// The customer in force: the one that was made last, if it was made of the same.
    pub fn make(&mut self, base: &Arc<Customer>, lost: Lost) -> &Made {
        let made = match self.made.take() {
            Some(made) if made.changed == self.changed && made.lost == lost && made.base == *base => made,
            last => {
                let mut making = Making::new(base, &self.links);
                making.learn(&lost);
                let (mut customer, refused) = making.finish(base);
                // There and back again is no change.
                if let Some(last) = last.filter(|last| last.customer == customer) {
                    customer = last.customer;
                }
                Made { base: base.clone(), changed: self.changed, lost, customer, refused }
            }
        };
        self.made.insert(made)
    }
}

/// What the configuration says is learned on a link, of both families.
#[derive(Default)]
struct Given {
    prefixes: BTreeSet<Prefix>,
    counts: [usize; 2],
}

/// A customer while it is made.
struct Making<'a> {
    base: &'a Customer,
    links: Vec<(Place, &'a LinkKey, &'a OfLink)>,
    /// Links with a family (true: IPv4) that they do not carry: its routes lead elsewhere. Their tunnels stay: BFD and BGP of
    /// both ends come by them, and what the customer still sends by them is no worse for that.
    lacking: BTreeSet<(Place, bool)>,
    /// The routes of the configuration, if some are other ones in force.
    fixed: Option<Vec<LearnedRoute>>,
    learned: Vec<LearnedRoute>,
    refused: Vec<Refused>,
}

impl<'a> Making<'a> {
    fn new(base: &'a Customer, links: &'a BTreeMap<LinkKey, OfLink>) -> Making<'a> {
        let placed = |(key, of): (&'a LinkKey, &'a OfLink)| {
            let (circuit, peering) = resolve(base, key)?;
            Some(((circuit, peering, key.link), key, of))
        };
        let mut making = Making {
            base,
            links: links.iter().filter_map(placed).collect(),
            lacking: BTreeSet::new(),
            fixed: None,
            learned: Vec::new(),
            refused: Vec::new(),
        };
        for &(place, _, of) in &making.links {
            let all = of.down().is_some();
            let lacking = of.causes().into_iter().zip([true, false]);
            let lacking = lacking.filter(|(cause, _)| all || cause.is_some());
            making.lacking.extend(lacking.map(|(_, ipv4)| (place, ipv4)));
        }
        making.fixed = making.fixed();
        making
    }

    /// The routes of the configuration without those of families that their links do not carry; none if they stay.
    fn fixed(&self) -> Option<Vec<LearnedRoute>> {
        if self.lacking.is_empty() {
            return None;
        }
        let routes = self.base.learned_routes.iter().filter_map(|route| {
            let LearnedFrom::Peering { circuit, peering, link } = route.from else {
                return Some(route.clone());
            };
            let left = |link| !self.lacking.contains(&((circuit, peering, link), route.prefix.is_ipv4()));
            let link = match (link, left(Link::Primary), left(Link::Secondary)) {
                (None, true, false) => Some(Link::Primary),
                (None, false, true) => Some(Link::Secondary),
                (None, false, false)
                | (Some(Link::Primary), false, _)
                | (Some(Link::Secondary), _, false) => {
                    return None;
                }
                (link, ..) => link,
            };
            Some(LearnedRoute { from: LearnedFrom::Peering { circuit, peering, link }, ..route.clone() })
        });
        let routes: Vec<_> = routes.collect();
        (routes != self.base.learned_routes).then_some(routes)
    }

    /// What the configuration says of the links on which something is learned.
    fn given(&self) -> BTreeMap<Place, Given> {
        let mut given: BTreeMap<Place, Given> =
            self.links.iter().map(|(place, ..)| (*place, Given::default())).collect();
        for route in self.fixed.as_ref().unwrap_or(&self.base.learned_routes) {
            let LearnedFrom::Peering { circuit, peering, .. } = route.from else { continue };
            for link in [Link::Primary, Link::Secondary] {
                if route.on_link().is_none_or(|on| on == link)
                    && let Some(given) = given.get_mut(&(circuit, peering, link))
                    && given.prefixes.insert(route.prefix)
                {
                    let [v4, v6] = &mut given.counts;
                    *(if route.prefix.is_ipv4() { v4 } else { v6 }) += 1;
                }
            }
        }
        given
    }

    /// Adds what was learned.
    fn learn(&mut self, lost: &Lost) {
        let mut given = self.given();
        for (place, key, of) in self.links.clone() {
            let Some((circuit, peering)) = find(self.base, place.0, place.1) else { continue };
            let given = given.remove(&place).unwrap_or_default();
            let mut refused: BTreeMap<String, Vec<Prefix>> = BTreeMap::new();
            let policies = policies(circuit, peering);
            // On private peering nothing is lost: there everyone has what he likes.
            let lost = Some(lost).filter(|_| peering.kind != PeeringKind::Private);
            let families = of.families.iter().zip(&policies).zip(given.counts).zip([true, false]);
            for (((family, policy), count), ipv4) in families {
                if self.lacking.contains(&(place, ipv4)) {
                    continue;
                }
                let limit = policy.limit() as usize;
                let mut room = limit.saturating_sub(count);
                for (prefix, known) in &family.routes {
                    if given.prefixes.contains(prefix) {
                        continue;
                    }
                    match why_not(policy, prefix, lost, room, limit) {
                        Some(why) => refused.entry(why).or_default().push(*prefix),
                        None => {
                            room -= 1;
                            let (circuit, peering, link) = place;
                            let from = LearnedFrom::Peering { circuit, peering, link: Some(link) };
                            let as_path = flat(&known.attributes.path);
                            self.learned.push(LearnedRoute { prefix: *prefix, from, as_path });
                        }
                    }
                }
            }
            let refused = refused.into_iter();
            self.refused.extend(refused.map(|(why, prefixes)| Refused { link: key.clone(), prefixes, why }));
        }
    }

    /// The customer, and what of it is not in force.
    fn finish(self, base: &Arc<Customer>) -> (Arc<Customer>, Vec<Refused>) {
        let Making { fixed, learned, refused, .. } = self;
        if fixed.is_none() && learned.is_empty() {
            return (base.clone(), refused);
        }
        let mut customer = Customer::clone(base);
        if let Some(fixed) = fixed {
            customer.learned_routes = fixed;
        }
        customer.learned_routes.reserve_exact(learned.len());
        customer.learned_routes.extend(learned);
        (Arc::new(customer), refused)
    }
}

/// Why a learned prefix is not in force.
fn why_not(
    policy: &Policy,
    prefix: &Prefix,
    lost: Option<&Lost>,
    room: usize,
    limit: usize,
) -> Option<String> {
    if let Some(refusal) = policy.refuses(prefix) {
        return Some(refusal.to_string());
    }
    if let Some((other, owner)) = lost.and_then(|lost| lost.get(prefix)) {
        return Some(format!(
            "overlaps {other} of customer '{owner}'; what Microsoft and public peering learn leads to one customer"
        ));
    }
    (room == 0).then(|| format!("with the learnedRoutes of the configuration there are more than {limit}"))
}

/// The path as routes of the configuration have it: a number for each hop, of a set its lowest.
fn flat(path: &AsPath) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(path.hops());
    for segment in &path.0 {
        match segment {
            Segment::Sequence(sequence) => numbers.extend_from_slice(sequence),
            Segment::Set(set) => numbers.extend(set.iter().min()),
        }
    }
    numbers
}
