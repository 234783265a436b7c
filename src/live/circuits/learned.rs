//! What is learned on circuit links, and whether they carry: from the model of the configuration to the model in force.
//!
//! ```text
//!  sessions ─► routes, up, down ─► Learned ─┐
//!  BFD ──────► up, down ────────────────────┤
//!  configuration ─► Model ──────────────────┴─► in_force ─► Model with learned routes, links that are down ─► recompile
//! ```
//!
//! Whatever is in force is a model that a configuration could have said: a prefix once on each link, no more than the limit,
//! on Microsoft and public peering only what its policy takes, and there no prefix of two customers that overlap.

mod contest;
mod follow;
mod make;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::contest::Lost;
use super::spec::{LinkKey, LinkSpec};
use super::told::{Bfd, Standing};
use crate::bgp::{Attributes, Event, Family, Route};
use crate::model::{Customer, Model};
use crate::types::Prefix;

/// Both families, in the order of everything that is kept by family.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Where a BGP session stands, as far as its link is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bgp {
    /// It has never been established: the link carries by the routes of the configuration.
    #[default]
    Never,
    /// It is established.
    Up,
    /// It is not, but its routes stay for a while (graceful restart).
    Restarting,
    /// It was established, and is not.
    Down,
}

/// A learned route.
#[derive(Debug)]
struct Known {
    attributes: Arc<Attributes>,
    /// When it was learned, on the clock of changes; held without a gap since.
    since: u64,
}

/// A link, in one family.
#[derive(Debug, Default)]
struct OfFamily {
    routes: BTreeMap<Prefix, Known>,
    bgp: Bgp,
    bfd: Bfd,
}

impl OfFamily {
    /// Something is known of whether it carries.
    fn is_known(&self) -> bool {
        (self.bgp, self.bfd) != (Bgp::Never, Bfd::Unused)
    }
}

/// Why a link does not carry a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// BFD lost the peer.
    Bfd,
    /// The BGP session has gone down.
    Bgp,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Bfd => "BFD is down",
            Cause::Bgp => "BGP is down",
        })
    }
}

/// A link.
#[derive(Debug, Default)]
struct OfLink {
    families: [OfFamily; 2],
}

impl OfLink {
    fn family(&mut self, family: Family) -> &mut OfFamily {
        let [v4, v6] = &mut self.families;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Of each family why it is not carried, if so.
    ///
    /// A link stops carrying when its BFD or BGP goes down (contract section 7). The sessions of the families are apart, as
    /// with Azure: one that ends, for example for too many IPv6 prefixes, takes its own family along and not the other,
    /// which has a session that says that it is alive. BFD watches the path below both: a family without BFD of its own
    /// goes down with the other's. A session that has never been up says nothing: where BFD has lost the peer and then given
    /// up on it, there is nobody else to say that the link carries again.
    fn causes(&self) -> [Option<Cause>; 2] {
        let [v4, v6] = &self.families;
        let cause = |own: &OfFamily, other: &OfFamily| match (own.bfd, own.bgp) {
            (Bfd::Down, _) => Some(Cause::Bfd),
            (Bfd::Unused, _) if other.bfd == Bfd::Down => Some(Cause::Bfd),
            (_, Bgp::Down) => Some(Cause::Bgp),
            (Bfd::Silent, Bgp::Never) => Some(Cause::Bfd),
            (Bfd::Unused, Bgp::Never) if other.bfd == Bfd::Silent && other.bgp != Bgp::Up => Some(Cause::Bfd),
            _ => None,
        };
        [cause(v4, v6), cause(v6, v4)]
    }

    /// Why the whole link is down: a family is, and none that is known of carries.
    fn down(&self) -> Option<Cause> {
        let causes = self.causes();
        let alive = self.families.iter().zip(&causes).any(|(f, cause)| f.is_known() && cause.is_none());
        let mut known = self.families.iter().zip(causes).filter(|(f, _)| f.is_known());
        known.find_map(|(_, cause)| cause).filter(|_| !alive)
    }
}

/// What is known of a customer's links.
#[derive(Debug, Default)]
struct OfCustomer {
    links: BTreeMap<LinkKey, OfLink>,
    /// When anything that counts for the model in force changed last, on the clock of changes.
    changed: u64,
    made: Option<Made>,
}

/// A customer as it was made for the model in force, and what from.
#[derive(Debug)]
struct Made {
    base: Arc<Customer>,
    changed: u64,
    lost: Lost,
    customer: Arc<Customer>,
    refused: Vec<Refused>,
}

/// Prefixes that are learned on a link and are not in force, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The link.
    pub link: LinkKey,
    /// The prefixes, in their order; at least one.
    pub prefixes: Vec<Prefix>,
    /// Why: a sentence without its subject.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkKey { customer, circuit, peering, link } = &self.link;
        write!(f, "customer '{customer}': circuit '{circuit}', {peering}, {} link: ", link.name())?;
        match self.prefixes.as_slice() {
            [] => {}
            [one] => write!(f, "{one} is not in force: ")?,
            [first, rest @ ..] => write!(f, "{first} and {} more are not in force: ", rest.len())?,
        }
        f.write_str(&self.why)
    }
}

/// What has been learned on circuit links and is held, and which links are down.
///
/// Memory: 64 bytes for each route here, beside the attributes, which are the session's own; and about 105 in the model in
/// force, whose routes have their AS paths to themselves. 200 sessions of 4,000 routes: 135 MB (measured on 30 November
/// 2026 by the test that prints it). A change of one customer takes as long as its own routes: of 8,000 a millisecond.
/// A session holds no more than its limit (10,000 at most), and while its peer restarts as many stale ones besides.
#[derive(Debug, Default)]
pub struct Learned {
    customers: BTreeMap<String, OfCustomer>,
    /// Counts changes: time, as far as it matters who was first.
    clock: u64,
}

impl Learned {
    /// A number that is another whenever [`Learned::in_force`] would give something else for the same configuration.
    pub fn version(&self) -> u64 {
        self.clock
    }

    /// Takes note of what a BGP session tells.
    pub fn session(&mut self, link: &LinkKey, family: Family, event: &Event) {
        match event {
            Event::Routes { learned, withdrawn } => self.routes(link, family, learned, withdrawn),
            Event::Established(_) => self.set_bgp(link, family, Bgp::Up),
            Event::Down { established: true, stale, .. } => {
                let bgp = if *stale > 0 { Bgp::Restarting } else { Bgp::Down };
                self.set_bgp(link, family, bgp);
            }
            Event::Down { established: false, .. }
            | Event::EndOfRib
            | Event::Warning { .. }
            | Event::Malformed(_) => {}
        }
    }

    /// Takes note of routes that are learned, or have changed, and of others that are withdrawn.
    pub fn routes(&mut self, link: &LinkKey, family: Family, learned: &[Route], withdrawn: &[Prefix]) {
        let now = self.clock + 1;
        self.change(link, |of| {
            let of = of.family(family);
            let mut changed = false;
            for prefix in withdrawn {
                changed |= of.routes.remove(prefix).is_some();
            }
            for Route { prefix, attributes } in
                learned.iter().filter(|r| Family::of_prefix(&r.prefix) == family)
            {
                match of.routes.get_mut(prefix) {
                    Some(known) => {
                        changed |= known.attributes.path != attributes.path;
                        known.attributes = attributes.clone();
                    }
                    None => {
                        let known = Known { attributes: attributes.clone(), since: now };
                        of.routes.insert(*prefix, known);
                        changed = true;
                    }
                }
            }
            // The last stale route has gone before the peer came back.
            if of.bgp == Bgp::Restarting && of.routes.is_empty() {
                of.bgp = Bgp::Down;
            }
            changed
        });
    }

    /// Takes note of where a session stands.
    pub fn standing(&mut self, link: &LinkKey, family: Family, standing: Standing) {
        self.set_bgp(
            link,
            family,
            match standing {
                Standing::Up => Bgp::Up,
                Standing::Restarting => Bgp::Restarting,
                Standing::Down => Bgp::Down,
            },
        );
    }

    fn set_bgp(&mut self, link: &LinkKey, family: Family, bgp: Bgp) {
        self.change(link, |of| {
            of.family(family).bgp = bgp;
            false
        });
    }

    /// Takes note of what BFD says.
    pub fn bfd(&mut self, link: &LinkKey, family: Family, bfd: Bfd) {
        self.change(link, |of| {
            of.family(family).bfd = bfd;
            false
        });
    }

    /// There is no session: the link carries as if there had never been one, also routes that the kernel has.
    pub fn no_session(&mut self, link: &LinkKey, family: Family) {
        self.set_bgp(link, family, Bgp::Never);
    }

    /// Forgets a session: it is no longer configured, or another one. The link carries as if there had never been one.
    pub fn forget(&mut self, link: &LinkKey, family: Family) {
        self.change(link, |of| {
            let of = of.family(family);
            of.bgp = Bgp::Never;
            !std::mem::take(&mut of.routes).is_empty()
        });
    }

    /// Forgets what no configured link says any more: links that are gone or turned off, families without a link prefix, and
    /// sessions where neither BGP nor the kernel gives routes.
    pub fn retain(&mut self, specs: &[LinkSpec]) {
        let specs: BTreeMap<&LinkKey, &LinkSpec> = specs.iter().map(|s| (&s.key, s)).collect();
        let known: Vec<LinkKey> = self.customers.values().flat_map(|c| c.links.keys().cloned()).collect();
        for key in known {
            let spec = specs.get(&key);
            for (n, family) in FAMILIES.into_iter().enumerate() {
                let on = spec.filter(|s| s.enabled);
                let ends = on.and_then(|s| s.ends.get(n).copied().flatten());
                if ends.is_none() || spec.is_none_or(|s| s.bgp.is_none() && s.kernel.is_none()) {
                    self.forget(&key, family);
                }
                let has_bgp = spec.is_some_and(|s| s.bgp.is_some());
                if !has_bgp {
                    self.no_session(&key, family);
                }
                // Without BGP there is no BFD either.
                if ends.is_none() || !has_bgp {
                    self.bfd(&key, family, Bfd::Unused);
                }
            }
            let customer = self.customers.get_mut(&key.customer);
            if let Some(customer) = customer.filter(|_| spec.is_none()) {
                customer.links.remove(&key);
            }
        }
        self.customers.retain(|_, customer| !customer.links.is_empty());
    }

    /// Why a link does not carry, if so.
    pub fn down(&self, link: &LinkKey) -> Option<Cause> {
        self.link(link)?.down()
    }

    /// Why a link does not carry a family, of IPv4 and of IPv6; it may carry the other one.
    pub fn causes(&self, link: &LinkKey) -> [Option<Cause>; 2] {
        self.link(link).map_or([None; 2], OfLink::causes)
    }

    fn link(&self, link: &LinkKey) -> Option<&OfLink> {
        self.customers.get(&link.customer)?.links.get(link)
    }

    /// Changes what is known of a link. `edit` says whether routes have changed; states are compared here.
    fn change(&mut self, link: &LinkKey, edit: impl FnOnce(&mut OfLink) -> bool) {
        let customer = self.customers.entry(link.customer.clone()).or_default();
        let of = customer.links.entry(link.clone()).or_default();
        let before = (of.down(), of.causes());
        let routes = edit(of);
        if routes || (of.down(), of.causes()) != before {
            self.clock += 1;
            customer.changed = self.clock;
        }
    }

    /// The model in force of a configuration: with what is learned behind its own learned routes, and links that are down.
    /// `before` is the one that is in force now.
    ///
    /// Customers of whom nothing is learned and nothing is down are those of the configuration, the same `Arc`; those who are
    /// as they were made last are the same `Arc` as then. What Microsoft and public peering learn leads to one customer: who
    /// has a prefix in the configuration keeps it, then who has it in force, then who learned it first; others have those
    /// that overlap it refused for as long as it is held.
    pub fn in_force(&mut self, base: &Model, before: Option<&Model>) -> (Model, Vec<Refused>) {
        let mut lost = self.contest(base, before);
        let mut customers = Vec::with_capacity(base.customers.len());
        let mut refused = Vec::new();
        for (index, customer) in base.customers.iter().enumerate() {
            let lost = lost.remove(&index).unwrap_or_default();
            let Some(known) = self.customers.get_mut(&customer.name) else {
                customers.push(customer.clone());
                continue;
            };
            let made = known.make(customer, lost);
            customers.push(made.customer.clone());
            refused.extend(made.refused.iter().cloned());
        }
        let model = Model { customers, ..base.clone() };
        (model, refused)
    }
}

#[cfg(test)]
mod tests;
