//! Our ends of circuit links, as workers have them.

use std::sync::Arc;

use crate::compile::Program;
use crate::sys::Tun;

/// A packet that the kernel has sent by the device of a link.
pub struct FromLink {
    /// The link, by [`crate::compile::CircuitLink::meter`].
    pub link: u32,
    /// The packet.
    pub bytes: Box<[u8]>,
}

/// The device and the tunnel of each link, by [`crate::compile::CircuitLink::meter`].
#[derive(Default)]
pub struct LinkEnds {
    ends: Vec<(Option<Arc<Tun>>, Option<u32>)>,
}

impl LinkEnds {
    /// Those of a program; `device` finds the device of a link by its number.
    pub fn new(program: &Program, device: impl Fn(u32) -> Option<Arc<Tun>>) -> LinkEnds {
        let mut ends = vec![(None, None); program.names.link_count()];
        for (number, tunnel) in program.tunnels.iter().enumerate() {
            if let Some(link) = tunnel.link.as_deref()
                && let Some(end) = ends.get_mut(link.meter as usize)
            {
                *end = (device(link.meter), Some(number as u32));
            }
        }
        LinkEnds { ends }
    }

    /// Has the kernel receive a packet by the device of a link; false if there is none, or it takes no more.
    pub fn give(&self, link: usize, packet: &[u8]) -> bool {
        let device = self.ends.get(link).and_then(|(device, _)| device.as_ref());
        device.is_some_and(|device| device.send(packet))
    }

    /// The tunnel of a link, by its number in the program.
    pub fn tunnel(&self, link: u32) -> Option<u32> {
        self.ends.get(link as usize)?.1
    }
}
