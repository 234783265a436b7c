//! The control side of circuit links: what a customer's router meets at our end of a link.
//!
//! ```text
//!  worker ─ to-us ─► device (TUN, in the customer's namespace) ─► kernel: ping, TCP, UDP ─► bgp, bfd
//!  worker ◄─ reader ─ device ◄──────────────────────────────────── kernel ◄───────────────── bgp, bfd
//!                          bgp, bfd, mirror ─► told ─► learned: the model in force ─► recompile
//! ```

pub mod bfd;
pub mod bgp;
mod budget;
mod device;
pub mod ends;
mod kept;
pub mod learned;
mod mirror;
mod reader;
pub mod spec;
pub mod status;
pub mod told;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tracing::{info, warn};

use self::bfd::Bfd;
use self::bgp::Bgp;
use self::budget::Lines;
use self::device::Devices;
use self::ends::{End, FromLink, LinkEnds};
use self::kept::{Kept, Taken};
use self::mirror::{Mirror, Mirrored};
use self::reader::Reader;
use self::spec::{LinkKey, LinkSpec};
use self::status::{LinkStatus, SessionRoutes};
use self::told::Told;
use super::worker::lock;
use crate::bgp::Family;
use crate::compile::Program;
use crate::dataplane::Meter;
use crate::model::Model;
use crate::sys::Wake;
use crate::types::Nanos;

/// After routes have changed, how long more of them are waited for: a session that comes up has thousands.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long devices stay once sessions have ended.
const LAST: Duration = Duration::from_millis(50);

/// How long somebody who asks waits.
const ANSWER: Duration = Duration::from_secs(2);

/// What there is once a configuration has had a link.
struct Running {
    devices: Devices,
    bgp: Bgp,
    bfd: Bfd,
    /// Of customers whose routes are the kernel's.
    mirrors: BTreeMap<String, Mirror>,
    links: Vec<LinkSpec>,
}

/// Our ends of all links, and who reads them. On its own, so that a link that goes down never waits for who asks.
#[derive(Default)]
struct Open {
    ends: BTreeMap<LinkKey, Arc<End>>,
    reader: Option<Reader>,
}

/// The control side of all links.
pub struct Circuits {
    began: Instant,
    told: Arc<Told>,
    rings: Receiver<()>,
    worker: Wake,
    packets: Sender<FromLink>,
    kept: Mutex<Kept>,
    open: Mutex<Open>,
    running: Mutex<Option<Running>>,
    /// There is nothing any more, whatever a change that is on its way still wants.
    stopped: AtomicBool,
    /// Who puts in force what is learned.
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl Circuits {
    /// Without links; and where packets come out that the kernel sends by them. `worker` wakes who takes these.
    pub fn new(worker: Wake) -> io::Result<(Circuits, Receiver<FromLink>)> {
        let (told, rings) = Told::new()?;
        let (packets, from_links) = reader::packets();
        let circuits = Circuits {
            began: Instant::now(),
            told,
            rings,
            worker,
            packets,
            kept: Mutex::default(),
            open: Mutex::default(),
            running: Mutex::default(),
            stopped: AtomicBool::new(false),
            follower: Mutex::default(),
        };
        Ok((circuits, from_links))
    }

    /// From now on there are the links of this configuration: their devices, and who speaks on them. Sentences say what
    /// cannot be.
    pub fn follow(&self, base: &Model) -> Vec<String> {
        let links = spec::specs(base);
        let mut running = lock(&self.running);
        if self.stopped.load(Ordering::Relaxed) {
            return Vec::new();
        }
        if running.is_none() {
            if links.is_empty() {
                return Vec::new();
            }
            match self.start() {
                Ok(started) => *running = Some(started),
                Err(e) => return vec![format!("circuits have no control side: {e}")],
            }
        }
        let Some(running) = running.as_mut() else { return Vec::new() };
        let followed = running.devices.follow(&links);
        let mut sentences: Vec<String> =
            followed.failed.into_iter().map(|(key, why)| format!("{key}: {why}")).collect();
        let place = |spec: &LinkSpec| Some(running.devices.get(&spec.key).ok()?.namespace.descriptor());
        let ours = links.iter().filter(|spec| spec.kernel.is_none());
        let wanted: Vec<_> = ours.map(|spec| (spec.clone(), place(spec))).collect();
        lock(&self.kept).follow(&links, &self.told);
        // Routes of BGP and of the kernel have the same place: whoever had it takes its own along before the other comes.
        let before = running.links.iter().filter(|spec| spec.kernel.is_some());
        let before: BTreeSet<LinkKey> = before.map(|spec| spec.key.clone()).collect();
        let of_kernel = links.iter().filter(|spec| spec.kernel.is_some());
        let (stay, come): (Vec<LinkSpec>, Vec<LinkSpec>) =
            of_kernel.cloned().partition(|spec| before.contains(&spec.key));
        let mut unfollowed = mirror(running, &stay, &self.told);
        running.bgp.want(wanted.clone());
        running.bfd.want(wanted);
        if !come.is_empty() {
            // Who answers has obeyed what came before; who does not in time is not waited for.
            let _ = running.bgp.ask_status().recv_timeout(ANSWER);
            unfollowed = mirror(running, &[stay, come].concat(), &self.told);
        }
        sentences.extend(unfollowed);
        let mut open = lock(&self.open);
        let end = |spec: &LinkSpec| {
            let tun = running.devices.get(&spec.key).ok()?.tun.clone();
            Some((spec.key.clone(), Arc::new(End { tun, ends: spec.ends })))
        };
        open.ends = links.iter().filter(|spec| spec.enabled).filter_map(end).collect();
        drop(open);
        running.links = links;
        sentences
    }

    fn start(&self) -> io::Result<Running> {
        lock(&self.open).reader = Some(Reader::start(self.worker.clone(), self.packets.clone())?);
        let (bgp, bfd) = both(Bgp::start(self.told.clone())?, Bfd::start(self.told.clone()))?;
        Ok(Running { devices: Devices::new(), bgp, bfd, mirrors: BTreeMap::new(), links: Vec::new() })
    }

    /// Something comes out of here when there is something to [learn](Self::learn).
    pub fn rings(&self) -> &Receiver<()> {
        &self.rings
    }

    /// Takes note of what was told since this was last called; true if something else is to be in force. Routes are waited
    /// for a moment, links that have gone down are not.
    pub fn learn(&self) -> bool {
        let before = lock(&self.kept).learned.version();
        let mut waited = false;
        loop {
            let (Taken { any, urgent }, version) = {
                let kept = &mut *lock(&self.kept);
                (kept.take(&self.told), kept.learned.version())
            };
            if urgent || waited || !any {
                return version != before;
            }
            // With nothing locked.
            waited = true;
            std::thread::sleep(TOGETHER);
        }
    }

    /// The configuration in force: this one, with what was learned. `before` is in force now.
    pub fn in_force(&self, base: &Model, before: &Model) -> Model {
        let Kept { learned, refused, lines, .. } = &mut *lock(&self.kept);
        let (model, not_taken) = learned.in_force(base, Some(before));
        let now = self.began.elapsed().as_nanos() as Nanos;
        for one in not_taken.iter().filter(|one| !refused.contains(one)) {
            if let Some(kept_back) = may_say(lines, &one.link.customer, now) {
                let kept_back = (kept_back > 0).then_some(kept_back);
                info!(kept_back, "{one}");
            }
        }
        *refused = not_taken;
        model
    }

    /// Why a configuration may not come into force after another for what is learned, a sentence for each reason.
    pub fn may_follow(&self, before: &Model, after: &Model) -> Result<(), Vec<String>> {
        lock(&self.kept).learned.may_follow(before, after)
    }

    /// Our ends of the links of a program, as workers have them.
    pub fn ends(&self, program: &Program) -> Arc<LinkEnds> {
        let open = lock(&self.open);
        let Some(reader) = &open.reader else { return Arc::default() };
        let mut ends = BTreeMap::new();
        for (number, link) in program.names.links().enumerate() {
            let Some(peering) = link.peering.clone() else { continue };
            let customer = program.names.customer_name(link.customer).to_owned();
            let key = LinkKey { customer, circuit: link.circuit.clone(), peering, link: link.link };
            if let Some(end) = open.ends.get(&key) {
                ends.insert(number as u32, end.clone());
            }
        }
        let link_ends = LinkEnds::new(program, &ends);
        reader.want(ends);
        Arc::new(link_ends)
    }

    /// What is known of all links; what a link has carried is left to others.
    pub fn status(&self) -> Vec<LinkStatus> {
        let (mut links, bgp, bfd) = {
            let running = lock(&self.running);
            let Some(running) = running.as_ref() else { return Vec::new() };
            let status = |spec: &LinkSpec| LinkStatus {
                key: spec.key.clone(),
                kind: spec.kind,
                down: (!spec.enabled).then(|| "it is turned off".to_owned()),
                device: match running.devices.get(&spec.key) {
                    Ok(device) => Ok((device.namespace.name(), device.name.to_owned())),
                    Err(why) => Err(why.to_owned()),
                },
                bgp: Vec::new(),
                bfd: Vec::new(),
                // What it has carried the workers know.
                bandwidth_mbps: None,
                meter: Meter::default(),
                over_rate: [0, 0],
            };
            let links: Vec<LinkStatus> = running.links.iter().map(status).collect();
            (links, running.bgp.ask_status(), running.bfd.ask_status())
        };
        // With nothing locked, for the two may have much to do.
        let until = Instant::now() + ANSWER;
        let mut bgp = by_link(bgp.recv_deadline(until).unwrap_or_default());
        let mut bfd = by_link(bfd.recv_deadline(until).unwrap_or_default());
        let kept = lock(&self.kept);
        for link in &mut links {
            let cause = || kept.learned.down(&link.key).map(|cause| cause.to_string());
            link.down = link.down.take().or_else(cause);
            link.bgp = bgp.remove(&link.key).unwrap_or_default();
            link.bfd = bfd.remove(&link.key).unwrap_or_default();
        }
        links
    }

    /// What the session of a link has heard and said, of one family; `None` if there is no such link or nobody answers.
    pub fn routes(&self, key: &LinkKey, family: Family) -> Option<SessionRoutes> {
        let routes = lock(&self.running).as_ref()?.bgp.ask_routes(key, Some(family));
        // With nothing locked, for it may have much to do.
        let mut routes = routes.recv_timeout(ANSWER).ok()?;
        for refused in lock(&self.kept).refused.iter().filter(|refused| refused.link == *key) {
            for route in &mut routes.received {
                if refused.prefixes.binary_search(&route.prefix).is_ok() {
                    route.refused.get_or_insert_with(|| refused.why.clone());
                }
            }
        }
        Some(routes)
    }

    /// The thread that puts in force what is learned is looked after with the others.
    pub fn keep(&self, follower: JoinHandle<()>) {
        *lock(&self.follower) = Some(follower);
    }

    /// A thread that has ended although it should not. Never waits: while links are changed, the threads are theirs who
    /// changes them.
    pub fn ended(&self) -> Option<&'static str> {
        if lock(&self.follower).as_ref().is_some_and(JoinHandle::is_finished) {
            return Some("circuits");
        }
        let reader = lock(&self.open).reader.as_ref().is_some_and(Reader::is_finished);
        let running = match self.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let running = running.as_ref()?;
        let threads =
            [(running.bgp.is_finished(), "bgp"), (running.bfd.is_finished(), "bfd"), (reader, "links")];
        threads.into_iter().find(|(ended, _)| *ended).map(|(_, name)| name)
    }

    /// Ends all sessions for good, and says so to their peers. What is said leaves by the devices: they are to be closed once
    /// it has left.
    pub fn stop(&self) -> Devices {
        // A change that comes by the lock later sees it, one that came earlier is undone below.
        self.stopped.store(true, Ordering::Relaxed);
        let Some(Running { bgp, bfd, devices, mirrors, .. }) = lock(&self.running).take() else {
            return Devices::new();
        };
        // A peer that is told goes elsewhere at once. Both are told before either is waited for.
        bfd.end();
        let ended = bgp.stop();
        if !bfd.stop() || !ended {
            warn!("sessions of circuits have not ended in time");
        }
        drop(mirrors);
        // What they said last is on its way.
        std::thread::sleep(LAST);
        devices
    }
}

/// Both threads or none: the next thread of BGP would share its bell with one that is left.
fn both(bgp: Bgp, bfd: io::Result<Bfd>) -> io::Result<(Bgp, Bfd)> {
    match bfd {
        Ok(bfd) => Ok((bgp, bfd)),
        Err(e) => {
            bgp.stop();
            Err(e)
        }
    }
}

/// Whether a line about a customer is to be written, and how many were kept back before it: its routes may change all the
/// time.
fn may_say(lines: &mut BTreeMap<String, Lines>, customer: &str, now: Nanos) -> Option<u64> {
    if !lines.contains_key(customer) {
        lines.insert(customer.to_owned(), Lines::new());
    }
    lines.get_mut(customer)?.may(now)
}

fn by_link<T>(all: Vec<(LinkKey, T)>) -> BTreeMap<LinkKey, Vec<T>> {
    let mut links: BTreeMap<LinkKey, Vec<T>> = BTreeMap::new();
    for (key, one) in all {
        links.entry(key).or_default().push(one);
    }
    links
}

/// Follows the routes of the kernel where the configuration says so; sentences say what cannot be.
fn mirror(running: &mut Running, links: &[LinkSpec], told: &Arc<Told>) -> Vec<String> {
    let Running { devices, mirrors, .. } = running;
    let mut wanted: BTreeMap<&str, Vec<Mirrored>> = BTreeMap::new();
    for spec in links.iter().filter(|spec| spec.enabled) {
        let (Some([v4, v6]), Ok(device)) = (&spec.kernel, devices.get(&spec.key)) else { continue };
        let [has_v4, has_v6] = spec.ends.map(|ends| ends.is_some());
        wanted.entry(&spec.key.customer).or_default().push(Mirrored {
            key: spec.key.clone(),
            device: device.name.to_owned(),
            index: device.index,
            policies: [has_v4.then(|| v4.clone()), has_v6.then(|| v6.clone())],
        });
    }
    mirrors.retain(|customer, _| wanted.contains_key(customer.as_str()));
    let mut sentences = Vec::new();
    for (customer, links) in wanted {
        if !mirrors.contains_key(customer) {
            let Some(Ok(device)) = links.first().map(|link| devices.get(&link.key)) else { continue };
            match Mirror::start(device.namespace, told.clone()) {
                Ok(mirror) => _ = mirrors.insert(customer.to_owned(), mirror),
                Err(e) => sentences
                    .push(format!("customer '{customer}': routes of the kernel cannot be followed: {e}")),
            }
        }
        if let Some(mirror) = mirrors.get(customer) {
            mirror.want(links);
        }
    }
    sentences
}

#[cfg(test)]
mod tests;
