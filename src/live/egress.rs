//! Frames on their way out. The path writes Ethernet addresses that are made of IP addresses; here they become those of
//! the device and of the neighbour. A frame whose neighbour is not known yet waits, if few do.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;

use super::count::PortCounts;
use super::neighbours::{Neighbour, Neighbours, Table};
use super::port::Opened;
use crate::types::{Nanos, SECOND};
use crate::wire::{be16, be32, ethernet, protocol};

/// Neighbours that are found without a look into the snapshot.
const NEAR: usize = 1024;
/// Frames that wait for neighbours at most, of one worker.
const WAITING: usize = 256;
/// Frames that wait for the same neighbour at most.
const WAITING_FOR_ONE: usize = 8;
/// How long a frame waits at most: the kernel asks three times, a second apart.
const PATIENCE: Nanos = 3 * SECOND;
/// Neighbours of which it is remembered when to say again that they are used; of more, it is said too often.
const SAID: usize = 1 << 16;
/// How often that is said; and when again, if there was no room to say it.
const USED: Nanos = 60 * SECOND;
const UNSAID: Nanos = SECOND;

/// A neighbour that was found lately.
#[derive(Clone, Copy)]
struct Near {
    device: u32,
    address: IpAddr,
    /// The snapshot that said so; 0: none.
    version: u64,
    /// When to say again that it is used.
    say: Nanos,
    mac: [u8; 6],
}

/// A frame that waits for a neighbour.
struct Waiting {
    until: Nanos,
    port: usize,
    device: u32,
    destination: IpAddr,
    frame: Box<[u8]>,
}

/// The way out of one worker.
pub(super) struct Egress {
    neighbours: Arc<Neighbours>,
    version: u64,
    table: Arc<Table>,
    near: Box<[Near]>,
    /// When to say again who is used. Apart from `near`, where two that have the same place take it from each other.
    said: HashMap<(u32, IpAddr), Nanos, RandomState>,
    waiting: VecDeque<Waiting>,
}

/// The underlay address that a frame of ours is sent to: the other end of its tunnel; of a plain packet the next router
/// of the port, else its destination.
fn destination(next_hop: Option<IpAddr>, frame: &[u8]) -> Option<IpAddr> {
    let (at, length, next) = match be16(frame.get(..34)?, 12) {
        ethernet::IPV4 => (30, 4, frame[23]),
        _ => (38, 16, frame[20]),
    };
    match next_hop {
        Some(next_hop) if next != protocol::GRE => Some(next_hop),
        _ if length == 4 => Some(IpAddr::from(be32(frame, at).to_be_bytes())),
        _ => Some(IpAddr::from(*frame.get(at..at + length)?.first_chunk::<16>()?)),
    }
}

impl Egress {
    pub fn new(neighbours: Arc<Neighbours>) -> Egress {
        let (version, table) = neighbours.snapshot();
        let address = IpAddr::from([0; 4]);
        let near = vec![Near { device: 0, address, version: 0, say: 0, mac: [0; 6] }; NEAR].into();
        Egress { neighbours, version, table, near, said: HashMap::default(), waiting: VecDeque::new() }
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sends a frame that the path has written by an open port.
    #[inline]
    pub fn send(
        &mut self,
        number: usize,
        port: &mut Opened,
        next_hop: Option<IpAddr>,
        frame: &mut [u8],
        counts: &mut PortCounts,
        now: Nanos,
    ) {
        let Some(destination) = destination(next_hop, frame) else { return };
        let device = port.device;
        match self.find(device, destination, now) {
            Some(Neighbour::At(mac)) => put(port, mac, frame, counts),
            Some(Neighbour::Unreachable) => counts.no_neighbour += 1,
            Some(Neighbour::Pending) | None => {
                let same = |w: &&Waiting| w.destination == destination && w.device == device;
                if self.waiting.len() >= WAITING
                    || self.waiting.iter().filter(same).count() >= WAITING_FOR_ONE
                {
                    counts.no_neighbour += 1;
                    return;
                }
                let (until, frame) = (now + PATIENCE, frame.into());
                self.waiting.push_back(Waiting { until, port: number, device, destination, frame });
            }
        }
    }

    /// Says that a neighbour is used, if that has not been said lately; when to say it again.
    fn say_used(&mut self, device: u32, destination: IpAddr, now: Nanos) -> Nanos {
        let key = (device, destination);
        if let Some(say) = self.said.get(&key).filter(|say| now < **say) {
            return *say;
        }
        if self.said.len() >= SAID {
            self.said.clear();
        }
        let say = now + if self.neighbours.used(device, destination) { USED } else { UNSAID };
        self.said.insert(key, say);
        say
    }

    /// What is known of a neighbour; who is not known is asked for.
    #[inline]
    fn find(&mut self, device: u32, destination: IpAddr, now: Nanos) -> Option<Neighbour> {
        let (home, version) = (home(device, destination), self.version);
        if let Some(near) = self.near.get(home)
            && near.address == destination
            && near.device == device
            && near.version == version
            && now < near.say
        {
            return Some(Neighbour::At(near.mac));
        }
        let found = find_far(&self.table, &self.neighbours, device, destination);
        if let Some(Neighbour::At(mac)) = found {
            let say = self.say_used(device, destination, now);
            if let Some(near) = self.near.get_mut(home) {
                *near = Near { device, address: destination, version, say, mac };
            }
        }
        found
    }

    /// Looks whether more is known than before, and sends what waited for it; forgets what has waited for too long.
    pub fn look(&mut self, ports: &mut [Option<Opened>], counts: &mut [PortCounts], now: Nanos) {
        let news = self.neighbours.version() != self.version;
        if news {
            (self.version, self.table) = self.neighbours.snapshot();
        }
        if !news && self.waiting.front().is_none_or(|w| w.until > now) {
            return;
        }
        for _ in 0..self.waiting.len() {
            let Some(mut waiting) = self.waiting.pop_front() else { return };
            let Some(counts) = counts.get_mut(waiting.port) else { continue };
            let known = find_far(&self.table, &self.neighbours, waiting.device, waiting.destination);
            let port = ports.get_mut(waiting.port).and_then(Option::as_mut);
            match (known, port.filter(|port| port.device == waiting.device)) {
                (Some(Neighbour::At(mac)), Some(port)) => put(port, mac, &mut waiting.frame, counts),
                (Some(Neighbour::Unreachable), _) | (_, None) => counts.no_neighbour += 1,
                _ if waiting.until <= now => counts.no_neighbour += 1,
                _ => self.waiting.push_back(waiting),
            }
        }
    }

    /// Forgets what waits; it is counted.
    pub fn give_up(&mut self, counts: &mut [PortCounts]) {
        for waiting in self.waiting.drain(..) {
            if let Some(counts) = counts.get_mut(waiting.port) {
                counts.no_neighbour += 1;
            }
        }
    }
}

/// Where a neighbour stands among those that are near.
#[inline]
fn home(device: u32, address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            ((bits >> 64) as u64).rotate_left(21) ^ bits as u64
        }
    };
    let key = u64::from(device) << 32 ^ bits;
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % NEAR
}

#[inline(never)]
fn find_far(table: &Table, neighbours: &Neighbours, device: u32, destination: IpAddr) -> Option<Neighbour> {
    let found = table.get(&(device, destination)).copied();
    if found.is_none() {
        neighbours.miss(device, destination);
    }
    found
}

/// Puts a frame into the ring of its port.
#[inline]
fn put(port: &mut Opened, mac: [u8; 6], frame: &mut [u8], counts: &mut PortCounts) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        head[..6].copy_from_slice(&mac);
        head[6..].copy_from_slice(&port.mac);
    }
    if !port.up {
        counts.device_down += 1;
    } else if port.send(frame) {
        counts.out_frames += 1;
        counts.out_bytes += frame.len() as u64;
    } else {
        counts.send_full += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_go_to_their_end_and_plain_packets_to_the_next_router() {
        let mut v4 = vec![0; 60];
        v4[12..14].copy_from_slice(&[0x08, 0x00]);
        v4[30..34].copy_from_slice(&[192, 0, 2, 7]);
        let (end, router) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([203, 0, 113, 1]));
        v4[23] = protocol::TCP;
        assert_eq!([destination(None, &v4), destination(Some(router), &v4)], [Some(end), Some(router)]);
        v4[23] = protocol::GRE;
        assert_eq!(destination(Some(router), &v4), Some(end));
        let mut v6 = vec![0; 60];
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        v6[53] = 9;
        assert_eq!(destination(None, &v6), Some("::9".parse().unwrap()));
        assert_eq!(destination(None, &v6[..50]), None);
    }

    #[test]
    fn neighbours_in_use_are_said_to_be_so_now_and_then_in_both_families() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let address: IpAddr = address.parse().unwrap();
            let (neighbours, asked) = Neighbours::new();
            let known = || Table::from_iter([((3, address), Neighbour::At([2; 6]))]);
            neighbours.replace(known());
            let mut egress = Egress::new(neighbours.clone());
            let mut at = |now| {
                assert_eq!(egress.find(3, address, now), Some(Neighbour::At([2; 6])));
                egress.look(&mut [], &mut [], now);
                asked.used.try_iter().count()
            };
            assert_eq!([at(SECOND), at(2 * SECOND), at(60 * SECOND)], [1, 0, 0], "{address}");
            // News of others are no reason to say it again.
            neighbours.replace(known());
            assert_eq!([at(60 * SECOND), at(60 * SECOND)], [0, 0], "{address}");
            assert_eq!([at(61 * SECOND), at(62 * SECOND)], [1, 0], "{address}");
            assert!(asked.missed.is_empty(), "{address}");
        }
    }

    #[test]
    fn two_that_have_the_same_place_are_not_said_again_in_turns() {
        let addresses = (0..=255u8).flat_map(|a| (0..=255).map(move |b| IpAddr::from([192, 0, a, b])));
        let same: Vec<_> =
            addresses.filter(|a| home(3, *a) == home(3, [192, 0, 0, 0].into())).take(2).collect();
        let (neighbours, asked) = Neighbours::new();
        neighbours.replace(same.iter().map(|a| ((3, *a), Neighbour::At([2; 6]))).collect());
        let mut egress = Egress::new(neighbours);
        for now in 0..10 {
            assert!(same.iter().all(|a| egress.find(3, *a, SECOND + now).is_some()));
        }
        assert_eq!(asked.used.try_iter().map(|(_, a)| a).collect::<Vec<_>>(), same);
        assert_eq!(same.len(), 2);
    }

    #[test]
    fn what_could_not_be_said_is_said_a_second_later() {
        let address = "2001:db8::7".parse().unwrap();
        let (neighbours, asked) = Neighbours::new();
        neighbours.replace(Table::from_iter([((3, address), Neighbour::At([2; 6]))]));
        let mut egress = Egress::new(neighbours.clone());
        while neighbours.used(4, address) {}
        // Who is missed is said elsewhere, and does not take its room.
        neighbours.miss(5, address);
        assert_eq!(asked.missed.try_iter().count(), 1);
        assert!(egress.find(3, address, SECOND).is_some());
        assert!(asked.used.try_iter().all(|(device, _)| device == 4));
        assert!(egress.find(3, address, 2 * SECOND - 1).is_some() && asked.used.is_empty());
        assert!(egress.find(3, address, 2 * SECOND).is_some());
        assert_eq!(asked.used.try_recv(), Ok((3, address)));
    }
}
