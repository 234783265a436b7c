//! What is counted while the appliance runs.
//!
//! Each worker counts in a [`Counts`] of its own and publishes it between two batches, so that what is read of a worker
//! is always from one instant: packets = forwarded + dropped + punted, in every snapshot.

use crate::dataplane::Meter;
use crate::packet::{Generated, Reason};

/// What one worker has counted, or several of them together. All counts only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that went through the path.
    pub packets: u64,
    /// Those that were forwarded.
    pub forwarded: u64,
    /// Those that were dropped or punted, by the number of their [`Reason`].
    pub reasons: Vec<u64>,
    /// ICMP errors sent, by the number of their [`Generated`] kind.
    pub generated: [u64; 3],
    /// ICMP errors withheld because there were too many.
    pub withheld: u64,
    /// Flow records opened.
    pub opened: u64,
    /// Flow records that are held now, live or ended (this one does not only grow).
    pub flows: u64,
    /// Bytes of the tables that hold them (nor does this one).
    pub table_bytes: u64,
    /// Batches that it ran.
    pub batches: u64,
    /// Nanoseconds that it worked, waiting not counted.
    pub busy: u64,
    /// Frames it received that were another worker's.
    pub handed_over: u64,
    /// Frames for another worker that were dropped because that one was too far behind.
    pub queue_full: u64,
    /// Packets for our end of a circuit link that the kernel was not given: there is no device, or there were too many.
    pub unpunted: u64,
    /// By the number of the port, see [`Snapshot::ports`](super::handle::Snapshot::ports).
    pub ports: Vec<PortCounts>,
    /// By the number of the VNet, see [`Snapshot::vnets`](super::handle::Snapshot::vnets).
    pub vnets: Vec<VnetCounts>,
    /// By the number of the link of a circuit's peering.
    pub meters: Vec<Meter>,
}

/// What was counted at a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames received and taken.
    pub in_frames: u64,
    /// Their bytes, Ethernet header included.
    pub in_bytes: u64,
    /// Frames received for another MAC address, and left alone; of a TAP also what the kernel sends to nobody, such as
    /// multicast.
    pub foreign: u64,
    /// Frames that the kernel dropped because the receive ring was full.
    pub ring_full: u64,
    /// Frames sent.
    pub out_frames: u64,
    /// Bytes of those that were given to the device, Ethernet header included; also of some that were lost later.
    pub out_bytes: u64,
    /// Frames not sent because the device did not take them in time.
    pub send_full: u64,
    /// Frames not sent because they are longer than the device takes.
    pub too_long: u64,
    /// Frames not sent because the device is down or gone.
    pub device_down: u64,
    /// Frames not sent because the neighbour's address did not become known, or too many waited for it.
    pub no_neighbour: u64,
}

/// What was counted of a VNet's packets: of those that say whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetCounts {
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Flow records opened.
    pub opened: u64,
}

impl Counts {
    /// Packets that ended with this reason.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).copied().unwrap_or(0)
    }

    /// ICMP errors of this kind.
    pub fn generated(&self, kind: Generated) -> u64 {
        self.generated.get(kind as usize).copied().unwrap_or(0)
    }

    /// Packets that were dropped, and those that were punted.
    pub fn dropped_and_punted(&self) -> (u64, u64) {
        let of =
            |punt: bool| Reason::ALL.iter().filter(|r| r.is_punt() == punt).map(|r| self.reason(*r)).sum();
        (of(false), of(true))
    }

    /// Adds what another worker has counted.
    pub fn add(&mut self, other: &Counts) {
        let Counts { packets, forwarded, reasons, generated, withheld, opened, flows, table_bytes, .. } =
            other;
        for (to, more) in [
            (&mut self.packets, packets),
            (&mut self.forwarded, forwarded),
            (&mut self.withheld, withheld),
            (&mut self.opened, opened),
            (&mut self.flows, flows),
            (&mut self.table_bytes, table_bytes),
            (&mut self.batches, &other.batches),
            (&mut self.unpunted, &other.unpunted),
            (&mut self.busy, &other.busy),
            (&mut self.handed_over, &other.handed_over),
            (&mut self.queue_full, &other.queue_full),
        ] {
            *to += more;
        }
        add_each(&mut self.reasons, reasons, |to, more| *to += more);
        self.generated.iter_mut().zip(generated).for_each(|(to, more)| *to += more);
        add_each(&mut self.ports, &other.ports, PortCounts::add);
        add_each(&mut self.vnets, &other.vnets, VnetCounts::add);
        add_each(&mut self.meters, &other.meters, Meter::add);
    }
}

pub(super) fn add_each<T: Clone + Default>(to: &mut Vec<T>, more: &[T], add: impl Fn(&mut T, &T)) {
    if to.len() < more.len() {
        to.resize(more.len(), T::default());
    }
    to.iter_mut().zip(more).for_each(|(to, more)| add(to, more));
}

impl PortCounts {
    fn add(&mut self, other: &PortCounts) {
        self.in_frames += other.in_frames;
        self.in_bytes += other.in_bytes;
        self.foreign += other.foreign;
        self.ring_full += other.ring_full;
        self.out_frames += other.out_frames;
        self.out_bytes += other.out_bytes;
        self.send_full += other.send_full;
        self.too_long += other.too_long;
        self.device_down += other.device_down;
        self.no_neighbour += other.no_neighbour;
    }
}

impl VnetCounts {
    fn add(&mut self, other: &VnetCounts) {
        self.forwarded += other.forwarded;
        self.dropped += other.dropped;
        self.opened += other.opened;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_workers_add_up() {
        let mut one = Counts { packets: 3, forwarded: 1, reasons: vec![0; 4], ..Counts::default() };
        one.reasons[Reason::NotIp as usize] = 2;
        one.ports = vec![PortCounts { in_frames: 3, ..PortCounts::default() }];
        let mut all = Counts::default();
        all.add(&one);
        all.add(&one);
        assert_eq!((all.packets, all.forwarded, all.dropped_and_punted()), (6, 2, (0, 4)));
        assert_eq!((all.ports[0].in_frames, all.vnets.len()), (6, 0));
    }
}
