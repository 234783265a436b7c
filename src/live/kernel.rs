//! Linux is the control plane of the underlay: its devices, its addresses, its routes and its neighbours are ours.
//!
//! One thread waits for what the kernel tells over netlink, another asks it what workers want to know and keeps the two
//! snapshots: [`Devices`] and [`Neighbours`]. What is told may be lost when there is too much of it, and some of what
//! happens is never told: then we ask again.

mod events;
mod messages;
mod own;
mod requests;
mod resolve;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use self::events::Events;
use self::messages::{Event, Link};
pub(super) use self::requests::Requests;
use self::resolve::Resolver;
pub(super) use self::watch::Watch;
use super::neighbours::{Asked, Neighbours};

/// Events that are taken in one turn.
const TURN: usize = 1024;
/// Snapshots are this far apart at least, and ten times as far as it takes to make one.
const APART: Duration = Duration::from_millis(2);
/// So often everything that is wanted is looked up again, in case that some change was not told.
const AGAIN: Duration = Duration::from_mins(1);
/// After a question for everything failed, it is asked again.
const FAILED: Duration = Duration::from_secs(1);

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's number for it; a device that is made again has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zeros if it has none.
    pub mac: [u8; 6],
    /// The largest packet that it takes.
    pub mtu: u32,
    /// It is up and has a carrier.
    pub up: bool,
}

/// The devices and addresses of this machine, or rather of its network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Devices by name.
    pub by_name: HashMap<String, Device>,
    /// Addresses, each with the index of its device; sorted.
    pub addresses: Vec<(u32, IpAddr)>,
}

/// The newest [`Devices`], for whoever wants to read them.
#[derive(Default)]
pub struct Board {
    version: AtomicU64,
    devices: Mutex<Arc<Devices>>,
}

impl Board {
    /// The number of the newest snapshot.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest snapshot and its number.
    pub fn snapshot(&self) -> (u64, Arc<Devices>) {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version.load(Ordering::Acquire), devices.clone())
    }

    /// Replaces the snapshot, unless nothing has changed.
    fn replace(&self, with: Devices) -> bool {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = **devices != with;
        if changed {
            *devices = Arc::new(with);
            self.version.fetch_add(1, Ordering::Release);
        }
        changed
    }
}

/// The kernel's side of the appliance. Dropped, its threads end.
pub struct Kernel {
    board: Arc<Board>,
    events: Arc<Events>,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Kernel {
    /// The devices and addresses of this machine.
    pub fn devices(&self) -> &Arc<Board> {
        &self.board
    }

    /// A thread of this that has ended on its own: from then on nothing is followed any more.
    pub fn ended(&self) -> Option<&str> {
        let ended = self.threads.iter().find(|thread| thread.is_finished());
        ended.map(|thread| thread.thread().name().unwrap_or_default())
    }

    /// How often events of the kernel were lost, and everything was asked for anew.
    pub fn overruns(&self) -> u64 {
        self.events.overruns()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.stop = None;
        self.events.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Of what there is a new snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Of devices and their addresses.
    Devices,
    /// Of neighbours.
    Neighbours,
}

/// What is called then.
pub type OnChange = Box<dyn Fn(Changed) + Send>;

/// Watches the kernel, in the network namespace of this thread: its devices are known when this returns. What is `asked`
/// for is resolved into `neighbours`; `changed` is called whenever there is a new snapshot of devices or of neighbours.
pub fn start(neighbours: Arc<Neighbours>, asked: Asked, changed: OnChange) -> io::Result<Kernel> {
    start_with(neighbours, asked, changed, None)
}

/// `room`: bytes for events in the kernel, if not the usual.
fn start_with(
    neighbours: Arc<Neighbours>,
    asked: Asked,
    changed: OnChange,
    room: Option<i32>,
) -> io::Result<Kernel> {
    // Subscribed before asking: what changes in between is told.
    let events = Events::subscribe(room)?;
    let board = Arc::new(Board { version: AtomicU64::new(1), ..Board::default() });
    let mut server = Server {
        requests: Requests::open()?,
        resolver: Resolver::new(questions_in_a_second()),
        links: BTreeMap::new(),
        addresses: BTreeSet::new(),
        board: board.clone(),
        neighbours,
        changed,
        devices_changed: false,
        in_doubt: None,
    };
    server.ask_everything()?;
    server.publish_devices();
    let (to, told) = crossbeam_channel::bounded(4096);
    let (stop, stopped) = crossbeam_channel::bounded(0);
    // From here on an error drops what was begun, and that stops it.
    let mut kernel = Kernel { board, events: events.clone(), stop: Some(stop), threads: Vec::new() };
    let reader = thread::Builder::new().name("netlink".to_owned());
    kernel.threads.push(reader.spawn(move || events.pass_on(&to))?);
    let worker = thread::Builder::new().name("kernel".to_owned());
    kernel.threads.push(worker.spawn(move || server.serve(&told, &asked, &stopped))?);
    Ok(kernel)
}

/// The kernel asks three times, a second apart, and holds so many neighbours at most: of these we take four fifths.
fn questions_in_a_second() -> u32 {
    let most = ["ipv4", "ipv6"].map(|family| {
        let said = std::fs::read_to_string(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"));
        said.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
    });
    (most[0].min(most[1]) / 5).clamp(10, 10_000)
}

struct Server {
    requests: Requests,
    resolver: Resolver,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, IpAddr)>,
    board: Arc<Board>,
    neighbours: Arc<Neighbours>,
    changed: OnChange,
    devices_changed: bool,
    /// When to ask for everything again, if what we know may be wrong.
    in_doubt: Option<Instant>,
}

impl Server {
    fn serve(&mut self, told: &Receiver<Event>, asked: &Asked, stopped: &Receiver<()>) {
        let nobody = crossbeam_channel::never();
        let mut published = Instant::now();
        let mut apart = APART;
        let mut looked = Instant::now();
        let mut pending = false;
        loop {
            let now = Instant::now();
            told.try_iter().take(TURN).for_each(|event| self.take(now, event));
            let room = self.resolver.room();
            asked.used.try_iter().take(TURN).for_each(|key| self.resolver.want(now, key));
            asked.missed.try_iter().take(room).for_each(|key| self.resolver.want(now, key));
            if self.in_doubt.is_some_and(|due| due <= now) {
                self.settle_doubt(now);
            }
            if now.saturating_duration_since(looked) >= AGAIN {
                looked = now;
                self.resolver.doubt_everything(now);
            }
            self.publish_devices();
            let busy = self.resolver.work(now, &mut self.requests);
            pending |= self.resolver.take_changed();
            if pending && published.elapsed() >= apart {
                pending = false;
                let began = Instant::now();
                self.neighbours.replace(self.resolver.table());
                published = Instant::now();
                apart = APART.max((published - began) * 10);
                (self.changed)(Changed::Neighbours);
            }
            if busy {
                if stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                    return;
                }
                continue;
            }
            let again = (!self.resolver.is_idle()).then(|| looked + AGAIN);
            let publish = pending.then(|| published + apart);
            let deadlines = [self.resolver.deadline(now), again, publish, self.in_doubt];
            let timer = match deadlines.into_iter().flatten().min() {
                Some(deadline) => crossbeam_channel::at(deadline),
                None => nobody.clone(),
            };
            crossbeam_channel::select! {
                recv(told) -> event => match event {
                    Ok(event) => self.take(Instant::now(), event),
                    // The reader ends only if we do.
                    Err(_) => return,
                },
                // Their other ends are ours, too: see `neighbours`.
                recv(asked.used) -> key => key.into_iter().for_each(|key| self.resolver.want(Instant::now(), key)),
                recv(asked.missed) -> key => key.into_iter().for_each(|key| self.resolver.want(Instant::now(), key)),
                recv(stopped) -> _ => return,
                recv(timer) -> _ => {}
            }
        }
    }

    fn take(&mut self, now: Instant, event: Event) {
        match event {
            Event::Link(link) => {
                let index = link.device.index;
                if self.links.get(&index) != Some(&link) {
                    self.keep(link);
                    self.resolver.device_changed(index);
                    self.devices_changed = true;
                }
            }
            Event::LinkGone(index) => {
                self.links.remove(&index);
                self.addresses.retain(|(device, _)| *device != index);
                self.resolver.set_silent(index, None);
                self.resolver.device_changed(index);
                self.devices_changed = true;
            }
            Event::Address(device, address) => {
                if self.addresses.insert((device, address)) {
                    self.devices_changed = true;
                }
                // Told again when it becomes usable, too.
                self.resolver.any_route_changed(now);
            }
            Event::AddressGone(device, address) => {
                self.addresses.remove(&(device, address));
                self.devices_changed = true;
                self.resolver.any_route_changed(now);
            }
            Event::Neighbour(device, address, entry) => {
                self.resolver.neighbour(now, (device, address), entry);
            }
            Event::Route(prefix) => self.resolver.route_changed(now, prefix),
            Event::AnyRoute => self.resolver.any_route_changed(now),
            Event::Lost => self.in_doubt = Some(now),
        }
    }

    fn keep(&mut self, link: Link) {
        self.resolver.set_silent(link.device.index, link.silent.then_some(link.device.mac));
        self.links.insert(link.device.index, link);
    }

    fn settle_doubt(&mut self, now: Instant) {
        self.resolver.doubt_everything(now);
        self.in_doubt = match self.ask_everything() {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say which devices there are; asking again");
                Some(now + FAILED)
            }
        };
    }

    /// Asks the kernel for all devices and addresses.
    fn ask_everything(&mut self) -> io::Result<()> {
        let (links, addresses) = self.requests.everything()?;
        for index in self.links.keys() {
            self.resolver.set_silent(*index, None);
        }
        self.links.clear();
        links.into_iter().for_each(|link| self.keep(link));
        self.addresses = addresses.into_iter().collect();
        self.devices_changed = true;
        Ok(())
    }

    fn publish_devices(&mut self) {
        if std::mem::take(&mut self.devices_changed) {
            let devices = self.links.values().map(|link| (link.device.name.clone(), link.device.clone()));
            let devices =
                Devices { by_name: devices.collect(), addresses: self.addresses.iter().copied().collect() };
            if self.board.replace(devices) {
                (self.changed)(Changed::Devices);
            }
        }
    }
}
