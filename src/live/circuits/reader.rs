//! A thread that takes what the kernel sends by the devices of links to the worker that sends it on.
//!
//! Each device has its turn and a room of its own with the worker, so that none holds up another: what is too much of one is
//! lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use tracing::warn;

use super::device::may_leave;
use super::ends::{End, FromLink, Place};
use crate::sys::{Epoll, Interest, Ready, Wake};

/// Packets of a device that wait for the worker at most.
const WAITING: usize = 64;
/// Packets of a device that are taken in a turn at most.
const TURN: usize = 16;
/// Bytes of the longest packet.
const LONGEST: usize = 65_536;
/// What tells the wake from devices.
const WAKE: u64 = u64::MAX;
/// How long it is waited after it could not be waited for packets.
const AGAIN: Duration = Duration::from_millis(100);

/// What the thread is told: from now on these devices are read, by the numbers of their links.
type Wanted = BTreeMap<u32, Arc<End>>;

/// Where packets of links are put, and come out: so many of each link at most.
pub fn packets() -> (Sender<FromLink>, Receiver<FromLink>) {
    unbounded()
}

/// The thread, for as long as this lives.
pub struct Reader {
    wake: Wake,
    wanted: Option<Sender<Wanted>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins, without devices. `worker` wakes who takes the packets.
    pub fn start(worker: Wake, packets: Sender<FromLink>) -> io::Result<Reader> {
        let (wanted, wants) = unbounded();
        let wake = Wake::new()?;
        let mut devices = Devices::new(&wake)?;
        let woken = wake.clone();
        let work = move || {
            let mut ready = Vec::new();
            while devices.round(&woken, &wants, &packets, &worker, &mut ready) {}
        };
        let thread = std::thread::Builder::new().name("links".to_owned()).spawn(work)?;
        Ok(Reader { wake, wanted: Some(wanted), thread: Some(thread) })
    }

    /// True if the thread has ended, which it does of itself only when it fails.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// From now on exactly these devices are read.
    pub fn want(&self, devices: Wanted) {
        if let Some(wanted) = &self.wanted {
            // It ends only with this.
            let _ = wanted.send(devices);
            self.wake.wake();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.wanted = None;
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A device that is read.
struct Device {
    end: Arc<End>,
    /// How many of its packets wait for the worker.
    waiting: Arc<AtomicUsize>,
}

/// All that are read, by the numbers of their links.
struct Devices {
    epoll: Epoll,
    devices: BTreeMap<u32, Device>,
    buffer: Box<[u8]>,
}

impl Devices {
    fn new(wake: &Wake) -> io::Result<Devices> {
        let epoll = Epoll::new()?;
        epoll.add(wake, WAKE, reading())?;
        Ok(Devices { epoll, devices: BTreeMap::new(), buffer: vec![0; LONGEST].into() })
    }

    /// Takes what there is; false once nobody wants anything any more.
    fn round(
        &mut self,
        wake: &Wake,
        wants: &Receiver<Wanted>,
        packets: &Sender<FromLink>,
        worker: &Wake,
        ready: &mut Vec<Ready>,
    ) -> bool {
        if let Err(error) = self.epoll.wait(None, ready) {
            warn!(%error, "it cannot be waited for what the kernel sends by circuit links");
            std::thread::sleep(AGAIN);
        }
        let mut gave = false;
        for Ready { key, .. } in ready.iter() {
            if *key != WAKE {
                gave |= self.read(*key as u32, packets);
                continue;
            }
            wake.clear();
            loop {
                match wants.try_recv() {
                    Ok(wanted) => self.want(&wanted),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
        }
        if gave {
            worker.wake();
        }
        true
    }

    /// From now on these are read. What stays keeps its place.
    fn want(&mut self, wanted: &Wanted) {
        let stays =
            |link: &u32, end: &Arc<End>| wanted.get(link).is_some_and(|other| Arc::ptr_eq(other, end));
        let gone = self.devices.extract_if(.., |link, device| !stays(link, &device.end));
        // Before others are added, which may be the same devices by another number. One that is gone has left the set.
        gone.for_each(|(_, device)| _ = self.epoll.remove(&*device.end));
        for (link, end) in wanted {
            if self.devices.contains_key(link) {
                continue;
            }
            match self.epoll.add(&**end, u64::from(*link), reading()) {
                Ok(()) => {
                    let device = Device { end: end.clone(), waiting: Arc::default() };
                    self.devices.insert(*link, device);
                }
                Err(error) => {
                    let device = end.tun.name().unwrap_or_default();
                    warn!(%error, device, "what the kernel sends by the device of a link is not sent");
                }
            }
        }
    }

    /// A device has its turn; true if something is given to the worker.
    fn read(&mut self, link: u32, packets: &Sender<FromLink>) -> bool {
        let Some(device) = self.devices.get(&link) else { return false };
        let mut gave = false;
        for _ in 0..TURN {
            match device.end.tun.receive(&mut self.buffer) {
                Ok(Some(packet)) if !may_leave(&device.end.ends, packet) => {}
                Ok(Some(packet)) => {
                    if let Some(place) = Place::take(&device.waiting, WAITING) {
                        gave |= packets.send(FromLink { link, bytes: packet.into(), place }).is_ok();
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    // It is gone; who follows the configuration says so.
                    let _ = self.epoll.remove(&*device.end);
                    self.devices.remove(&link);
                    break;
                }
            }
        }
        gave
    }
}

fn reading() -> Interest {
    Interest { read: true, write: false }
}

#[cfg(test)]
mod tests;
