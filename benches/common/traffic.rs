//! Frames as hosts send them: UDP flows from one NIC, made anew for every batch.

use std::net::{IpAddr, Ipv4Addr};

use clearway::dataplane::Input;
use clearway::wire::build::{Transport, gre_frame, ip_packet};

/// Frames in a batch.
pub const BATCH: u64 = 256;

/// The key of the VNet's fabric tunnel.
pub const KEY: u32 = 0xa01;
/// The port that its frames come in by, as an index.
pub const FABRIC: u16 = 0;
/// NIC a, from which everything comes.
pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 4);
/// NIC b.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 4);
/// The host of NIC b.
pub const NEIGHBOUR_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 12);
/// Behind the circuit.
pub const SITE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 9);
/// On the Internet.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// In a user-defined route to nowhere.
pub const NOWHERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);

/// Where the UDP ports stand in a frame: behind Ethernet, IPv4, GRE with a key, IPv4.
const PORTS: usize = 14 + 20 + 8 + 20;

/// Frames one behind the other.
#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub inputs: Vec<Input>,
}

impl Batch {
    /// The bytes of each frame, and when it came.
    pub fn frames(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.inputs.iter().map(|i| (&self.bytes[i.start as usize..i.end as usize], i.now))
    }
}

/// In which order flows take turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One behind the other, with so many packets each; packets of many others come between those of one.
    Ascending { packets: u64 },
    /// Every flow before any comes again, but far from the order in which they were opened.
    Shuffled,
}

/// An endless stream of frames of a number of flows.
pub struct Traffic {
    /// A frame for each destination; flows share them out.
    templates: Vec<Vec<u8>>,
    flows: u64,
    order: Order,
    turn: u64,
    /// The time of the next batch, and what passes until the one after it.
    now: u64,
    step: u64,
}

/// The frame that brings a UDP packet of so many bytes from its host, in GRE with this key.
pub fn frame(key: u32, to: Ipv4Addr, size: usize) -> Vec<u8> {
    let udp = Transport::Udp { source: 10_000, destination: 9000 };
    let mut packet = ip_packet(SENDER.into(), to.into(), udp, &vec![0; size - 28]).expect("one family");
    // No checksum, so that the ports may change.
    packet[26..28].fill(0);
    let (host, port) = (IpAddr::from([198, 51, 100, 11]), IpAddr::from([198, 51, 100, 2]));
    gre_frame(host, port, key, None, &packet).expect("one family")
}

impl Traffic {
    /// Of so many flows to these destinations in turn, in packets of so many bytes.
    pub fn new(destinations: &[Ipv4Addr], size: usize, flows: u64, order: Order) -> Traffic {
        let templates = destinations.iter().map(|to| frame(KEY, *to, size)).collect();
        // A microsecond for each batch.
        Traffic { templates, flows, order, turn: 0, now: 1, step: 1000 }
    }

    /// With so much time between batches, in nanoseconds.
    pub fn every(self, step: u64) -> Traffic {
        Traffic { step, ..self }
    }

    /// Makes the next batch.
    pub fn fill(&mut self, batch: &mut Batch) {
        batch.bytes.clear();
        batch.inputs.clear();
        for _ in 0..BATCH {
            let flow = match self.order {
                Order::Ascending { packets } => {
                    let newest = self.turn / packets;
                    newest.saturating_sub(self.turn % packets * 100) % self.flows
                }
                // A prime of this size has no factor in common with a number of flows.
                Order::Shuffled => (self.turn * 2_654_435_761) % self.flows,
            };
            self.turn += 1;
            let template = &self.templates[(flow % self.templates.len() as u64) as usize];
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(template);
            let end = batch.bytes.len();
            let (source, destination) = (1024 + flow % 0x4000, 1 + flow / 0x4000 % 0xf000);
            let ports = (source as u32) << 16 | destination as u32;
            batch.bytes[start + PORTS..start + PORTS + 4].copy_from_slice(&ports.to_be_bytes());
            batch.inputs.push(Input {
                start: start as u32,
                end: end as u32,
                original: (end - start) as u32,
                port: FABRIC,
                now: self.now,
            });
        }
        self.now += self.step;
    }
}
