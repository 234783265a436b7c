//! Routes of the kernel instead of our own BGP (`routes: kernel`): an operator runs BIRD, FRR or whatever it likes in the
//! namespace of the customer, and what that puts into the main table by the device of a link counts as learned there.
//!
//! Of a route that goes with its device, and of much else, the kernel does not tell: whatever happens, all routes are
//! asked for, and the difference is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::warn;

use super::budget::Lines;
use super::spec::LinkKey;
use super::told::{Standing, Told};
use crate::bgp::{Attributes, Family, Policy, Route};
use crate::live::kernel::{Requests, Watch};
use crate::live::worker::lock;
use crate::sys::{Wake, poll, within};
use crate::types::{Nanos, Prefix};

/// After something has happened, how long more of it is waited for.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often routes are asked for although nothing has happened.
const AGAIN: Duration = Duration::from_secs(10);

/// A link whose routes are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Which.
    pub key: LinkKey,
    /// Its device.
    pub device: String,
    /// The number of the device in its network namespace: another one if it was made anew.
    pub index: u32,
    /// Which prefixes are taken, and how many, of IPv4 and of IPv6; none of a family in which the link has no ends.
    pub policies: [Option<Policy>; 2],
}

impl Mirrored {
    fn families(&self) -> impl Iterator<Item = (Family, &Policy)> {
        let families = [Family::V4, Family::V6].into_iter().zip(&self.policies);
        families.filter_map(|(family, policy)| Some((family, policy.as_ref()?)))
    }
}

/// The mirror of one namespace: a thread, for as long as this lives.
pub struct Mirror {
    state: Arc<Mutex<State>>,
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Begins, without links.
    pub fn start(namespace: &impl AsFd, told: Arc<Told>) -> io::Result<Mirror> {
        let (mut asks, watch) = within(namespace, || Ok((Requests::open()?, Watch::open()?)))?;
        let state =
            Arc::new(Mutex::new(State { told, links: Vec::new(), said: BTreeMap::new(), ends: false }));
        let wake = Wake::new()?;
        let (ours, woken) = (state.clone(), wake.clone());
        let work = move || {
            let (began, mut lines, mut failed) = (Instant::now(), Lines::new(), false);
            loop {
                match asks.routes() {
                    Ok(routes) => {
                        failed = false;
                        for what in lock(&ours).tell(routes) {
                            let now = began.elapsed().as_nanos() as Nanos;
                            let Some(kept_back) = lines.may(now) else { continue };
                            let kept_back = (kept_back > 0).then_some(kept_back);
                            warn!(kept_back, "{what}");
                        }
                    }
                    Err(error) if !failed => {
                        failed = true;
                        warn!(%error, "the kernel does not say its routes; asking again");
                    }
                    Err(_) => {}
                }
                let ready = poll(&[woken.as_fd(), watch.as_fd()], Some(AGAIN)).unwrap_or(0);
                if ready & 1 != 0 {
                    woken.clear();
                    if lock(&ours).ends {
                        break;
                    }
                }
                std::thread::sleep(TOGETHER);
                watch.clear();
            }
        };
        let thread = std::thread::Builder::new().name("routes".to_owned()).spawn(work)?;
        Ok(Mirror { state, wake, thread: Some(thread) })
    }

    /// From now on exactly these links. What was told of those that stay, stays told; of others, all is told to be
    /// withdrawn, and nothing more once this returns.
    pub fn want(&self, links: Vec<Mirrored>) {
        if lock(&self.state).want(links) {
            self.wake.wake();
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.want(Vec::new());
            state.ends = true;
        }
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The links of a mirror, and what was told of them.
struct State {
    told: Arc<Told>,
    links: Vec<Mirrored>,
    said: BTreeMap<(LinkKey, Family), Said>,
    ends: bool,
}

/// What was told of one family of a link.
#[derive(Default)]
struct Said {
    routes: BTreeSet<Prefix>,
    too_many: bool,
}

impl State {
    /// See [`Mirror::want`]; false if there is nothing new.
    fn want(&mut self, links: Vec<Mirrored>) -> bool {
        if self.links == links {
            return false;
        }
        self.links = links;
        let wanted = |key: &LinkKey, of: Family| {
            let mut same = self.links.iter().filter(|link| link.key == *key);
            same.any(|link| link.families().any(|(family, _)| family == of))
        };
        for (key, said) in self.said.extract_if(.., |(key, of), _| !wanted(key, *of)) {
            let withdrawn: Vec<Prefix> = said.routes.into_iter().collect();
            if !withdrawn.is_empty() {
                self.told.session(&key, Standing::Down, Vec::new(), &withdrawn);
            }
        }
        true
    }

    /// Tells what is another than before. Beyond the limit of a link's family, none of its routes count, as with BGP: of
    /// which this is so and was not before, sentences say.
    fn tell(&mut self, routes: Vec<(u32, Prefix)>) -> Vec<String> {
        let mut now: BTreeMap<(u32, bool), BTreeSet<Prefix>> = BTreeMap::new();
        for (device, prefix) in routes {
            now.entry((device, prefix.is_ipv4())).or_default().insert(prefix);
        }
        let mut sentences = Vec::new();
        for link in &self.links {
            for (family, policy) in link.families() {
                let mut is = now.remove(&(link.index, family == Family::V4)).unwrap_or_default();
                is.retain(|prefix| policy.refuses(prefix).is_none());
                let key = (link.key.clone(), family);
                let said = self.said.entry(key.clone()).or_default();
                let too_many = is.len() > policy.limit() as usize;
                if too_many {
                    if !said.too_many {
                        let (key, count, limit, device) = (&key.0, is.len(), policy.limit(), &link.device);
                        sentences.push(format!(
                            "{key}: the kernel has {count} routes by {device}, more than {limit}; none counts"
                        ));
                    }
                    is.clear();
                }
                said.too_many = too_many;
                let new =
                    |prefix: &Prefix| Route { prefix: *prefix, attributes: Arc::new(Attributes::default()) };
                let learned: Vec<Route> = is.difference(&said.routes).map(new).collect();
                let withdrawn: Vec<Prefix> = said.routes.difference(&is).copied().collect();
                if !learned.is_empty() || !withdrawn.is_empty() {
                    self.told.session(&key, Standing::Down, learned, &withdrawn);
                }
                said.routes = is;
            }
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::News;
    use super::*;
    use crate::model::Link;

    fn link(circuit: &str, index: u32) -> Mirrored {
        let key = LinkKey {
            customer: "a".into(),
            circuit: circuit.into(),
            peering: "AzurePrivatePeering".into(),
            link: Link::Primary,
        };
        let policies = [Family::V4, Family::V6].map(|family| Some(Policy::private(family, false)));
        Mirrored { key, device: format!("{circuit}-priv-p"), index, policies }
    }

    fn prefix(n: u32) -> Prefix {
        let [_, a, b, c] = n.to_be_bytes();
        Prefix::v4(10 + a, b, c, 0, 24)
    }

    fn v6() -> Prefix {
        Prefix::new("2001:db8::".parse().unwrap(), 48)
    }

    fn state(links: Vec<Mirrored>) -> State {
        let (told, _) = Told::new().unwrap();
        let mut state = State { told, links: Vec::new(), said: BTreeMap::new(), ends: false };
        assert!(state.want(links));
        state
    }

    /// By link: how many routes are learned and withdrawn.
    fn news(state: &State) -> Vec<(String, Family, usize, usize)> {
        let of = |News { key, family, learned, withdrawn, .. }: News| {
            (key.circuit, family, learned.len(), withdrawn.len())
        };
        state.told.take().into_iter().map(of).collect()
    }

    #[test]
    fn a_change_of_one_link_withdraws_nothing_of_others() {
        let mut state = state(vec![link("er1", 3), link("er2", 4)]);
        let routes = vec![(3, prefix(1)), (3, prefix(2)), (4, prefix(1)), (9, prefix(5))];
        assert!(state.tell(routes.clone()).is_empty());
        let expected = [("er1".to_owned(), Family::V4, 2, 0), ("er2".to_owned(), Family::V4, 1, 0)];
        assert_eq!(news(&state), expected);
        // A third link, and the second takes something else.
        let mut second = link("er2", 4);
        second.policies[1] = None;
        let links = vec![link("er1", 3), second, link("er3", 9)];
        assert!(state.want(links.clone()) && !state.want(links));
        assert!(news(&state).is_empty());
        state.tell(routes.clone());
        assert_eq!(news(&state), [("er3".to_owned(), Family::V4, 1, 0)]);
        // One goes, at once and alone.
        assert!(state.want(vec![link("er2", 4), link("er3", 9)]));
        assert_eq!(news(&state), [("er1".to_owned(), Family::V4, 0, 2)]);
        state.tell(routes);
        assert!(news(&state).is_empty());
    }

    #[test]
    fn a_device_that_is_made_anew_goes_on_where_the_other_was() {
        let mut state = state(vec![link("er1", 3)]);
        state.tell(vec![(3, prefix(1)), (3, prefix(2))]);
        assert_eq!(news(&state), [("er1".to_owned(), Family::V4, 2, 0)]);
        assert!(state.want(vec![link("er1", 7)]));
        assert!(news(&state).is_empty());
        state.tell(vec![(7, prefix(2)), (7, prefix(3))]);
        assert_eq!(news(&state), [("er1".to_owned(), Family::V4, 1, 1)]);
    }

    #[test]
    fn a_family_without_ends_has_no_routes_until_it_has_ends() {
        let mut without = link("er1", 3);
        without.policies[1] = None;
        let mut state = state(vec![without.clone()]);
        let routes = vec![(3, prefix(1)), (3, v6())];
        state.tell(routes.clone());
        assert_eq!(news(&state), [("er1".to_owned(), Family::V4, 1, 0)]);
        assert!(state.want(vec![link("er1", 3)]));
        state.tell(routes);
        assert_eq!(news(&state), [("er1".to_owned(), Family::V6, 1, 0)]);
        assert!(state.want(vec![without]));
        assert_eq!(news(&state), [("er1".to_owned(), Family::V6, 0, 1)]);
    }

    #[test]
    fn too_many_routes_are_told_of_once() {
        let mut state = state(vec![link("er1", 3)]);
        let limit = Policy::private(Family::V4, false).limit();
        let routes = |count: u32| (0..count).map(|n| (3, prefix(n))).collect::<Vec<_>>();
        assert!(state.tell(routes(limit)).is_empty());
        let said = state.tell(routes(limit + 1));
        let expected = format!(
            "customer 'a': circuit 'er1', AzurePrivatePeering, primary link: the kernel has {} routes by er1-priv-p, \
             more than {limit}; none counts",
            limit + 1
        );
        assert_eq!(said, [expected]);
        for more in 2..20 {
            assert!(state.tell(routes(limit + more)).is_empty());
        }
        assert!(state.tell(routes(limit)).is_empty());
        assert_eq!(state.tell(routes(limit + 1)).len(), 1);
    }
}
