//! What is kept of routes and states: what is told of those links that the configuration in force has.

use std::collections::BTreeMap;

use super::budget::Lines;
use super::learned::{FAMILIES, Learned, Refused};
use super::spec::{LinkKey, LinkSpec};
use super::told::{Bfd, News, Standing, Told};
use crate::bgp::Family;

/// Where routes of a family of a link come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From BGP.
    Session,
    /// From the kernel: it does not matter that a session has ended.
    Kernel,
}

/// What is kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) learned: Learned,
    /// The families of links that learn something. Of others nothing is known, whatever is still told of them.
    wanted: BTreeMap<(LinkKey, Family), Source>,
    /// Routes that are learned and not in force; said once for as long as they are the same.
    pub(super) refused: Vec<Refused>,
    /// Lines in the log about these, by customer.
    pub(super) lines: BTreeMap<String, Lines>,
}

/// What came of taking what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// There was something.
    pub(super) any: bool,
    /// A link or a session has gone down.
    pub(super) urgent: bool,
}

impl Kept {
    /// From now on what is told of these links counts. To be called before anybody speaks there.
    pub(super) fn follow(&mut self, links: &[LinkSpec], told: &Told) {
        self.learned.retain(links);
        let mut wanted = BTreeMap::new();
        for spec in links.iter().filter(|spec| spec.enabled) {
            let from = match (&spec.bgp, &spec.kernel) {
                (Some(_), _) => Source::Session,
                (None, Some(_)) => Source::Kernel,
                (None, None) => continue,
            };
            let families = FAMILIES.into_iter().zip(&spec.ends).filter(|(_, ends)| ends.is_some());
            wanted.extend(families.map(|(family, _)| ((spec.key.clone(), family), from)));
        }
        for (key, from) in &wanted {
            match self.wanted.get(key) {
                Some(before) if before == from => continue,
                // What another has said is not its own.
                Some(_) => self.learned.forget(&key.0, key.1),
                None => {}
            }
            // Nothing is known of it, though it may have been taken.
            told.tell_again(key);
        }
        self.wanted = wanted;
        self.lines.retain(|customer, _| links.iter().any(|spec| spec.key.customer == *customer));
    }

    /// Takes note of what was told since this was last called. Nothing else takes it: with this locked, what is taken is
    /// what is known.
    pub(super) fn take(&mut self, told: &Told) -> Taken {
        let mut taken = Taken::default();
        for News { key, family, session, learned: routes, withdrawn, bfd } in told.take() {
            taken.any = true;
            let of = (key, family);
            let Some(from) = self.wanted.get(&of) else { continue };
            taken.urgent |=
                bfd == Some(Bfd::Down) || session.is_some_and(|standing| standing != Standing::Up);
            let (learned, key) = (&mut self.learned, &of.0);
            // In this order: a session that has gone takes its routes along.
            if let Some(bfd) = bfd {
                learned.bfd(key, family, bfd);
            }
            match (session, from) {
                (Some(standing), Source::Session) => learned.standing(key, family, standing),
                (Some(_), Source::Kernel) => learned.no_session(key, family),
                (None, _) => {}
            }
            learned.routes(key, family, &routes, &withdrawn);
        }
        taken
    }
}
