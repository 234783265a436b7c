//! Changes of nothing but routes: which prefixes they move, so that known flows to and from elsewhere go the ways they went
//! without being asked about again. A peer that flaps then costs the flows that it carries something, and no others.
//!
//! The way of a known flow depends on routes by look-ups of its two addresses alone (contract section 3, steps 5 and 8).
//! Where neither lies in a prefix that came, went or changed, every look-up finds what it found. Rules are for flows to
//! come; everything else (VNets, peerings, NICs, hosts, gateways, connections, circuits, tunnels, ports) has to be as it
//! was, or all flows of the customer are asked about again.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::topology;
use crate::model::{Customer, LearnedFrom, LearnedRoute, Route, RouteTable, RouteTarget};
use crate::types::Prefix;

/// A change that moves more prefixes than this concerns all flows: so many are soon looked through.
pub(super) const MOST: usize = 64;
/// Changes that are remembered of a customer, and prefixes that they moved in all.
const REMEMBERED: (usize, usize) = (32, 256);

/// What two versions of a customer have learned, without what both lists begin and end with.
pub(super) fn learned<'a>(before: &'a Customer, after: &'a Customer) -> [&'a [LearnedRoute]; 2] {
    differing(&before.learned_routes, &after.learned_routes, |a, b| identity(after, a) == identity(after, b))
}

/// All of a learned route that matters. Of an AS path that is the length, but for Microsoft and public peering: the paths
/// of a million routes are somewhere else in memory.
fn identity<'a>(
    customer: &Customer,
    route: &'a LearnedRoute,
) -> (Prefix, LearnedFrom, usize, Option<&'a [u32]>) {
    let whole = match route.from {
        LearnedFrom::Peering { circuit, peering, .. } => !topology::is_private(customer, circuit, peering),
        LearnedFrom::Connection(_) => false,
    };
    (route.prefix, route.from, route.as_path.len(), whole.then_some(&*route.as_path))
}

/// The prefixes of [learned] routes that came, went or changed; more than [`MOST`] may stand for many more.
pub(super) fn of_learned(after: &Customer, differing: [&[LearnedRoute]; 2]) -> Vec<Prefix> {
    let [gone, come] = differing;
    if gone.is_empty() || come.is_empty() {
        return gone.iter().chain(come).take(MOST + 1).map(|route| route.prefix).collect();
    }
    // What stands elsewhere is still there.
    let mut counts: HashMap<_, i32, RandomState> = HashMap::default();
    for (routes, one) in [(gone, 1), (come, -1)] {
        routes.iter().for_each(|route| *counts.entry(identity(after, route)).or_default() += one);
    }
    counts.iter().filter(|(_, n)| **n != 0).take(MOST + 1).map(|((prefix, ..), _)| *prefix).collect()
}

/// The prefixes of routes of route tables that came, went or changed; `None` if something else of the tables did, or a route
/// whose prefixes are those of a service tag.
pub(super) fn of_tables(before: &[Arc<RouteTable>], after: &[Arc<RouteTable>]) -> Option<Vec<Prefix>> {
    let mut moved = Vec::new();
    if before.len() != after.len() {
        return None;
    }
    for (before, after) in before.iter().zip(after).filter(|(a, b)| !Arc::ptr_eq(a, b)) {
        let propagation = |t: &RouteTable| t.disable_bgp_route_propagation;
        if before.name != after.name || propagation(before) != propagation(after) {
            return None;
        }
        let [gone, come] = differing(&before.routes, &after.routes, Route::eq);
        for route in gone.iter().chain(come) {
            match &route.target {
                RouteTarget::Prefix(prefix) if moved.len() <= MOST => moved.push(*prefix),
                RouteTarget::Prefix(_) | RouteTarget::Tag(_) => return None,
            }
        }
    }
    Some(moved)
}

/// Two lists without what they begin and end with alike.
fn differing<'a, T>(before: &'a [T], after: &'a [T], alike: impl Fn(&'a T, &'a T) -> bool) -> [&'a [T]; 2] {
    let same = before.iter().zip(after).take_while(|(a, b)| alike(a, b)).count();
    let (before, after) = (&before[same..], &after[same..]);
    let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| alike(a, b)).count();
    [&before[..before.len() - same], &after[..after.len() - same]]
}

/// The addresses of an IPv4 prefix; stored ways are of IPv4 flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u32,
    mask: u32,
}

impl Span {
    fn new(prefix: &Prefix) -> Option<Span> {
        let std::net::IpAddr::V4(first) = prefix.first() else { return None };
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.len())).unwrap_or(0);
        Some(Span { first: first.to_bits(), mask })
    }

    #[inline]
    fn holds(self, address: u32) -> bool {
        address & self.mask == self.first
    }
}

/// The numbers that a customer's origins had, from one change to the next.
#[derive(Clone, Debug)]
struct Numbering {
    /// Of its first origin; those of the others follow, always in the same order.
    first: u32,
    /// What moved when they got these numbers.
    moved: Arc<[Span]>,
}

/// How the numbers of a customer's origins changed while nothing but its routes did.
#[derive(Clone, Debug)]
pub(super) struct History {
    numberings: Vec<Numbering>,
}

impl History {
    /// Numbers that begin here.
    pub fn new(first: u32) -> History {
        History { numberings: vec![Numbering { first, moved: Arc::default() }] }
    }

    /// Then they begin here, for these prefixes have moved.
    pub fn then(&self, first: u32, moved: &[Prefix]) -> History {
        let mut numberings = self.numberings.clone();
        numberings.push(Numbering { first, moved: moved.iter().filter_map(Span::new).collect() });
        let spans = |all: &[Numbering]| all.iter().map(|n| n.moved.len()).sum::<usize>();
        while numberings.len() > REMEMBERED.0 || spans(&numberings) > REMEMBERED.1 && numberings.len() > 1 {
            numberings.remove(0);
        }
        History { numberings }
    }

    /// Where the newest numbers begin.
    pub fn first(&self) -> u32 {
        self.numberings.last().map_or(0, |n| n.first)
    }

    /// True if `before` is a number that the origin with the number `now` had, and nothing has moved since then that a packet
    /// from `source` to `destination` is looked up in.
    pub fn holds(&self, now: u32, before: u32, source: u32, destination: u32) -> bool {
        let place = now.wrapping_sub(self.first());
        for numbering in self.numberings.iter().rev() {
            if numbering.first.wrapping_add(place) == before {
                return true;
            }
            if numbering.moved.iter().any(|span| span.holds(source) || span.holds(destination)) {
                return false;
            }
        }
        false
    }

    /// Bytes it holds.
    pub fn memory(&self) -> usize {
        let of = |n: &Numbering| size_of::<Numbering>() + size_of_val(&*n.moved);
        size_of::<History>() + self.numberings.iter().map(of).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(third: u8, from: usize, as_path: &[u32]) -> LearnedRoute {
        let prefix = Prefix::v4(10, 1, third, 0, 24);
        LearnedRoute { prefix, from: LearnedFrom::Connection(from), as_path: as_path.to_vec() }
    }

    #[test]
    fn what_is_learned_anew_or_no_more_has_moved_and_what_stands_elsewhere_has_not() {
        let before = [route(1, 0, &[7]), route(2, 0, &[7]), route(3, 0, &[7]), route(4, 0, &[7])];
        let of = |before: &[LearnedRoute], after: &[LearnedRoute]| {
            let [before, after] = [before, after]
                .map(|routes| Customer { learned_routes: routes.to_vec(), ..Customer::default() });
            let mut moved = of_learned(&after, learned(&before, &after));
            moved.sort_unstable();
            moved
        };
        let moved = |after: &[LearnedRoute]| {
            of(&before, after).iter().map(|p| p.to_string()).collect::<Vec<_>>().join(" ")
        };
        let [a, b, c, d] = before.clone();
        assert_eq!(moved(&before), "");
        assert_eq!(moved(&[a.clone(), b.clone(), d.clone()]), "10.1.3.0/24");
        assert_eq!(moved(&[d.clone(), c.clone(), b.clone(), a.clone()]), "");
        assert_eq!(moved(&[route(9, 0, &[]), d.clone(), a.clone(), b.clone()]), "10.1.3.0/24 10.1.9.0/24");
        // From another, or by another path.
        let others = [route(1, 1, &[7]), b, c, route(4, 0, &[7, 7])];
        assert_eq!(moved(&others).matches("10.1.1.0/24").count(), 2);
        assert_eq!(moved(&others).matches("10.1.4.0/24").count(), 2);
        let many: Vec<LearnedRoute> = (0..200).map(|n| route(n, 3, &[])).collect();
        assert_eq!([of(&[], &many).len(), of(&[a, d], &many).len()], [MOST + 1; 2]);
    }

    #[test]
    fn of_route_tables_only_routes_to_prefixes_may_differ() {
        let table = |name: &str, off: bool, routes: &[&str]| {
            let route = |text: &&str| {
                let target = match text.parse() {
                    Ok(prefix) => RouteTarget::Prefix(prefix),
                    Err(_) => RouteTarget::Tag((*text).to_owned()),
                };
                let next_hop = crate::model::RouteNextHop::None;
                Route { name: (*text).to_owned(), target, next_hop, has_bgp_override: false }
            };
            let routes = routes.iter().map(route).collect();
            Arc::new(RouteTable { name: name.to_owned(), disable_bgp_route_propagation: off, routes })
        };
        let before = [table("a", false, &["10.0.0.0/8", "Storage", "10.2.0.0/16"])];
        let text = |after: &[Arc<RouteTable>]| {
            of_tables(&before, after).map(|m| m.iter().map(|p| p.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(text(&before).as_deref(), Some(""));
        let after = [table("a", false, &["10.0.0.0/8", "Storage", "10.3.0.0/16"])];
        assert_eq!(text(&after).as_deref(), Some("10.2.0.0/16 10.3.0.0/16"));
        assert_eq!(text(&[table("a", false, &["10.0.0.0/8", "10.2.0.0/16"])]), None);
        assert_eq!(text(&[table("a", true, &["10.0.0.0/8", "Storage", "10.2.0.0/16"])]), None);
        assert_eq!(text(&[table("b", false, &["10.0.0.0/8", "Storage", "10.2.0.0/16"])]), None);
        assert_eq!(text(&[]), None);
        let many: Vec<String> = (0..=MOST).map(|n| format!("10.1.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(text(&[table("a", false, &many)]), None);
    }

    #[test]
    fn a_number_holds_until_something_of_the_packet_moves() {
        let p = |text: &str| -> Prefix { text.parse().unwrap() };
        let history = History::new(100).then(200, &[p("10.1.0.0/16")]).then(300, &[p("2001:db8::/32")]);
        let history = history.then(400, &[p("10.2.0.0/16"), p("10.3.3.3/32")]);
        let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let holds = |before, from, to| history.holds(407, before, address(from), address(to));
        for before in [107, 207, 307, 407] {
            assert!(holds(before, "10.4.0.1", "10.5.0.1"), "{before}");
            assert_eq!(holds(before, "10.1.0.1", "10.5.0.1"), before != 107, "{before}");
            assert_eq!(holds(before, "10.5.0.1", "10.1.0.1"), before != 107, "{before}");
            assert_eq!(holds(before, "10.2.0.1", "10.5.0.1"), before == 407, "{before}");
            assert_eq!(holds(before, "10.5.0.1", "10.3.3.3"), before == 407, "{before}");
            assert!(holds(before, "10.5.0.1", "10.3.3.2"), "{before}");
        }
        // Numbers of other origins, and none.
        assert!([106, 208, 0, 7, 500].iter().all(|before| !holds(*before, "10.4.0.1", "10.5.0.1")));
        assert!(!history.then(500, &[Prefix::ALL_V4]).holds(507, 407, 1, 2));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let one = [Prefix::v4(10, 1, 0, 0, 16)];
        let many = vec![one[0]; MOST];
        let mut history = History::new(1);
        for n in 1..=100 {
            history = history.then(10 * n, &one);
        }
        assert_eq!((history.numberings.len(), history.first()), (REMEMBERED.0, 1000));
        assert!(history.holds(1003, 703, 5, 6) && !history.holds(1003, 683, 5, 6));
        for n in 101..=120 {
            history = history.then(10 * n, &many);
            let spans: usize = history.numberings.iter().map(|n| n.moved.len()).sum();
            assert!(spans <= REMEMBERED.1 && history.holds(10 * n, 10 * n - 10, 5, 6));
        }
    }
}
