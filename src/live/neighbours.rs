//! The neighbours of the ports: which MAC address a packet for an underlay address is sent to, as the kernel knows it.
//!
//! Workers ask by (device, address) and read a snapshot; who keeps it (the kernel's side, over netlink) replaces it when
//! something changes. An address that a worker misses is asked for; the kernel resolves it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Neighbours by device (its index in the kernel) and destination.
pub type Table = HashMap<(u32, IpAddr), Neighbour, RandomState>;

/// What is known of a destination that some worker has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Frames for it go to this MAC address: its own, or that of the next router.
    At([u8; 6]),
    /// The kernel is looking for it.
    Pending,
    /// It did not answer, or there is no route to it on this device.
    Unreachable,
}

/// What workers know of neighbours: a snapshot that is replaced as a whole, what they miss, and what they use.
pub struct Neighbours {
    version: AtomicU64,
    table: Mutex<Arc<Table>>,
    missed: Sender<(u32, IpAddr)>,
    used: Sender<(u32, IpAddr)>,
}

/// What workers say of destinations, for who looks for neighbours. Each has room of its own, so that many who are missed
/// do not make those forgotten that are used.
pub struct Asked {
    /// Those that are not in the snapshot.
    pub missed: Receiver<(u32, IpAddr)>,
    /// Those that are, and are still used.
    pub used: Receiver<(u32, IpAddr)>,
}

impl Neighbours {
    /// Nothing is known; what workers miss and use comes out of the other end.
    pub fn new() -> (Arc<Neighbours>, Asked) {
        let (missed, asked) = bounded(4096);
        let (used, still) = bounded(4096);
        let table = Mutex::new(Arc::new(Table::default()));
        let neighbours = Neighbours { version: AtomicU64::new(1), table, missed, used };
        (Arc::new(neighbours), Asked { missed: asked, used: still })
    }

    /// The number of the newest snapshot.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest snapshot and its number.
    pub fn snapshot(&self) -> (u64, Arc<Table>) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version.load(Ordering::Acquire), table.clone())
    }

    /// Replaces the snapshot.
    pub fn replace(&self, with: Table) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        *table = Arc::new(with);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A destination that is not in the snapshot is to be looked for; nothing if too many wait already: it will be asked
    /// for again.
    pub fn miss(&self, device: u32, destination: IpAddr) {
        let _ = self.missed.try_send((device, destination));
    }

    /// A destination that is in the snapshot is still used; false if there is no room to say so.
    pub fn used(&self, device: u32, destination: IpAddr) -> bool {
        self.used.try_send((device, destination)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_replaced_as_a_whole_and_misses_come_out() {
        let (neighbours, asked) = Neighbours::new();
        let (version, table) = neighbours.snapshot();
        assert!(table.is_empty());
        let address = IpAddr::from([192, 0, 2, 1]);
        neighbours.miss(3, address);
        assert_eq!(asked.missed.try_recv(), Ok((3, address)));
        neighbours.replace(Table::from_iter([((3, address), Neighbour::At([2; 6]))]));
        assert!(neighbours.version() > version);
        assert_eq!(neighbours.snapshot().1.get(&(3, address)), Some(&Neighbour::At([2; 6])));
    }
}
