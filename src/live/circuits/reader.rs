//! A thread that takes what the kernel sends by the devices of links to the worker that sends it on.
//!
//! Each device has its turn, and no device holds up another: what is too much waits with the kernel, and is lost there.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use tracing::warn;

use super::device::may_leave;
use super::ends::{End, FromLink};
use crate::sys::{Epoll, Interest, Ready, Wake};

/// Packets that wait for the worker at most.
const WAITING: usize = 1024;
/// Packets of a device that are taken in a turn at most.
const TURN: usize = 16;
/// Bytes of the longest packet.
const LONGEST: usize = 65_536;
/// What tells the wake from devices.
const WAKE: u64 = u64::MAX;

/// What the thread is told: from now on these devices are read, by the numbers of their links.
type Wanted = BTreeMap<u32, Arc<End>>;

/// Where packets of links are put, and come out: so many at most.
pub fn packets() -> (Sender<FromLink>, Receiver<FromLink>) {
    bounded(WAITING)
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
        let woken = wake.clone();
        let work = move || {
            if let Err(error) = run(&woken, &wants, &packets, &worker) {
                warn!(%error, "what the kernel sends by circuit links is not sent any more");
            }
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

fn run(wake: &Wake, wants: &Receiver<Wanted>, packets: &Sender<FromLink>, worker: &Wake) -> io::Result<()> {
    let mut devices = Wanted::new();
    let mut epoll = watch(wake, &devices)?;
    let mut ready: Vec<Ready> = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        epoll.wait(None, &mut ready)?;
        let (mut gave, mut changed) = (false, false);
        for Ready { key, .. } in &ready {
            if *key == WAKE {
                wake.clear();
                loop {
                    match wants.try_recv() {
                        Ok(wanted) => (devices, changed) = (wanted, true),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return Ok(()),
                    }
                }
                continue;
            }
            let link = *key as u32;
            let Some(device) = devices.get(&link).cloned() else { continue };
            for _ in 0..TURN {
                match device.tun.receive(&mut buffer) {
                    Ok(Some(packet)) if !may_leave(&device.ends, packet) => {}
                    Ok(Some(packet)) => {
                        gave |= packets.try_send(FromLink { link, bytes: packet.into() }).is_ok();
                    }
                    Ok(None) => break,
                    Err(_) => {
                        // It is gone; who follows the configuration says so.
                        devices.remove(&link);
                        changed = true;
                        break;
                    }
                }
            }
        }
        if gave {
            worker.wake();
        }
        if changed {
            epoll = watch(wake, &devices)?;
        }
    }
}

/// What is waited for.
fn watch(wake: &Wake, devices: &Wanted) -> io::Result<Epoll> {
    let readable = Interest { read: true, write: false };
    let epoll = Epoll::new()?;
    epoll.add(wake, WAKE, readable)?;
    for (link, device) in devices {
        epoll.add(&**device, u64::from(*link), readable)?;
    }
    Ok(epoll)
}
