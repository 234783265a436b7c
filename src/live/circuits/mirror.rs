//! Routes of the kernel instead of our own BGP (`routes: kernel`): an operator runs BIRD, FRR or whatever it likes in the
//! namespace of the customer, and what that puts into the main table by the device of a link counts as learned there.
//!
//! Of a route that goes with its device, and of much else, the kernel does not tell: whatever happens, all routes are
//! asked for, and the difference is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use super::spec::LinkKey;
use super::told::{Standing, Told};
use crate::bgp::{Attributes, Family, Policy, Route};
use crate::live::kernel::{Requests, Watch};
use crate::sys::{Wake, index_of, poll, within};
use crate::types::Prefix;

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
    /// Which prefixes are taken, and how many, of IPv4 and of IPv6.
    pub policies: [Policy; 2],
}

/// The mirror of one namespace: a thread, for as long as this lives.
pub struct Mirror {
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Begins to tell the routes of the links of a namespace.
    pub fn start(namespace: &impl AsFd, links: Vec<Mirrored>, told: Arc<Told>) -> io::Result<Mirror> {
        let (mut asks, watch, indices) = within(namespace, || {
            let indices =
                links.iter().map(|link| index_of(&link.device)).collect::<io::Result<Vec<u32>>>()?;
            Ok((Requests::open()?, Watch::open()?, indices))
        })?;
        let wake = Wake::new()?;
        let stop = wake.clone();
        let links: Vec<(u32, Mirrored)> = indices.into_iter().zip(links).collect();
        let thread = std::thread::Builder::new().name("routes".to_owned());
        let thread = thread.spawn(move || {
            let mut seen = Seen::default();
            let mut failed = false;
            loop {
                match asks.routes() {
                    Ok(routes) => {
                        failed = false;
                        seen.tell(&links, routes, &told);
                    }
                    Err(error) if !failed => {
                        failed = true;
                        warn!(%error, "the kernel does not say its routes; asking again");
                    }
                    Err(_) => {}
                }
                let ready = poll(&[stop.as_fd(), watch.as_fd()], Some(AGAIN)).unwrap_or(0);
                if ready & 1 != 0 {
                    break;
                }
                std::thread::sleep(TOGETHER);
                watch.clear();
            }
            seen.tell(&links, Vec::new(), &told);
        })?;
        Ok(Mirror { wake, thread: Some(thread) })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What was told.
#[derive(Default)]
struct Seen {
    routes: BTreeMap<(u32, bool), BTreeSet<Prefix>>,
}

impl Seen {
    /// Tells what is another than before. Beyond the limit of a link's family, none of its routes count, as with BGP.
    fn tell(&mut self, links: &[(u32, Mirrored)], routes: Vec<(u32, Prefix)>, told: &Told) {
        let mut now: BTreeMap<(u32, bool), BTreeSet<Prefix>> = BTreeMap::new();
        for (device, prefix) in routes {
            now.entry((device, prefix.is_ipv4())).or_default().insert(prefix);
        }
        for (device, link) in links {
            for (family, policy) in [Family::V4, Family::V6].into_iter().zip(&link.policies) {
                let at = (*device, family == Family::V4);
                let mut is = now.remove(&at).unwrap_or_default();
                is.retain(|prefix| policy.refuses(prefix).is_none());
                if is.len() > policy.limit() as usize {
                    warn!(
                        customer = link.key.customer,
                        circuit = link.key.circuit,
                        routes = is.len(),
                        limit = policy.limit(),
                        "too many routes of the kernel by {}; none counts",
                        link.device
                    );
                    is.clear();
                }
                let was = self.routes.remove(&at).unwrap_or_default();
                let new =
                    |prefix: &Prefix| Route { prefix: *prefix, attributes: Arc::new(Attributes::default()) };
                let learned: Vec<Route> = is.difference(&was).map(new).collect();
                let withdrawn: Vec<Prefix> = was.difference(&is).copied().collect();
                if !learned.is_empty() || !withdrawn.is_empty() {
                    told.session(&(link.key.clone(), family), Standing::Down, learned, &withdrawn);
                }
                self.routes.insert(at, is);
            }
        }
    }
}
