//! Our ends of circuit links, as workers have them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::spec::Ends;
use crate::compile::Program;
use crate::sys::Tun;

/// A packet that the kernel has sent by the device of a link.
pub struct FromLink {
    /// The link, by [`crate::compile::CircuitLink::meter`].
    pub link: u32,
    /// The packet.
    pub bytes: Box<[u8]>,
    /// What it takes of its link's room while it waits.
    pub place: Place,
}

/// A place of those that packets of a link may have at a time, for as long as this lives.
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// The next one, if fewer than `most` are `taken`.
    pub fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        // Only one thread takes: in between there can only be fewer.
        if taken.load(Ordering::Relaxed) >= most {
            return None;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        Some(Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Our end of a link.
pub struct End {
    /// Its device.
    pub tun: Arc<Tun>,
    /// The addresses, of IPv4 and of IPv6.
    pub ends: [Option<Ends>; 2],
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

/// The device and the tunnel of each link, by [`crate::compile::CircuitLink::meter`].
#[derive(Default)]
pub struct LinkEnds {
    ends: Vec<(Option<Arc<End>>, Option<u32>)>,
}

impl LinkEnds {
    /// Those of a program; `devices` are by the link's number.
    pub fn new(program: &Program, devices: &BTreeMap<u32, Arc<End>>) -> LinkEnds {
        let mut ends = vec![(None, None); program.names.link_count()];
        for (number, tunnel) in program.tunnels.iter().enumerate() {
            if let Some(link) = tunnel.link.as_deref()
                && let Some(end) = ends.get_mut(link.meter as usize)
            {
                *end = (devices.get(&link.meter).cloned(), Some(number as u32));
            }
        }
        LinkEnds { ends }
    }

    /// Has the kernel receive a packet by the device of a link; false if there is none, or it takes no more.
    pub fn give(&self, link: usize, packet: &[u8]) -> bool {
        let end = self.ends.get(link).and_then(|(end, _)| end.as_ref());
        end.is_some_and(|end| end.tun.send(packet))
    }

    /// The tunnel of a link, by its number in the program.
    pub fn tunnel(&self, link: u32) -> Option<u32> {
        self.ends.get(link as usize)?.1
    }
}
