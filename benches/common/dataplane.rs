//! A dataplane that runs frames through a configuration, with nobody before or behind it.

use std::net::{IpAddr, Ipv4Addr};

use clearway::compile::names::Names;
use clearway::compile::{Program, compile};
use clearway::dataplane::ingress::ingress;
use clearway::dataplane::state::Received;
use clearway::dataplane::{Context, Occupancy, Output, Shard, Trace, forward};
use clearway::packet::{FlowState, Outcome, Verdict};
use clearway::wire::build::{Transport, gre_frame, ip_packet};

use crate::configuration::{configuration, model};

/// The key of the VNet's fabric tunnel.
pub const KEY: u32 = 0xa01;

/// A UDP packet of this flow from NIC a to this address.
pub fn packet(to: Ipv4Addr, flow: u16, size: usize) -> Vec<u8> {
    let from = IpAddr::from([10, 1, 0, 4]);
    let udp = Transport::Udp { source: flow, destination: 9000 };
    ip_packet(from, to.into(), udp, &vec![0; size - 28]).expect("one family")
}

/// The frame that brings it from its host, in GRE with this key.
pub fn frame(key: u32, packet: &[u8]) -> Vec<u8> {
    let (host, port) = (IpAddr::from([198, 51, 100, 11]), IpAddr::from([198, 51, 100, 2]));
    gre_frame(host, port, key, None, packet).expect("one family")
}

/// One worker's share of the dataplane.
pub struct Dataplane {
    program: Program,
    occupancy: Occupancy,
    shard: Shard,
    received: Received,
    output: Output,
}

impl Dataplane {
    /// An empty one for a configuration.
    pub fn new(rules: usize, routes: usize) -> Dataplane {
        let program = compile(&model(&configuration(rules, routes)), &mut Names::default());
        let mut occupancy = Occupancy::default();
        occupancy.grow(&program);
        let shard = Shard::new(Default::default());
        Dataplane { program, occupancy, shard, received: Received::default(), output: Output::default() }
    }

    /// Steps 1 to 5 alone: from the bytes of a received frame to a checked packet of a known tunnel.
    pub fn parse(&self, received: &mut Received, frame: &[u8]) -> bool {
        ingress(&self.program, received, 0, frame, frame.len() as u32).is_ok()
    }

    /// From the bytes of a received frame to those of the frame that leaves.
    pub fn run(&mut self, frame: &[u8], now: u64) -> Outcome {
        self.output.clear();
        let arrival = match ingress(&self.program, &mut self.received, 0, frame, frame.len() as u32) {
            Ok(arrival) => arrival,
            Err(outcome) => return outcome,
        };
        let context = Context { program: &self.program, occupancy: &self.occupancy, quoted: None };
        let (shard, output) = (&mut self.shard, &mut self.output);
        forward(context, shard, &arrival, frame, now, output, &mut Trace::off()).outcome
    }

    /// Runs frames that must all be forwarded, with this said of their flows.
    pub fn open(&mut self, frames: &[Vec<u8>], flow: FlowState) {
        for frame in frames {
            let outcome = self.run(frame, 1);
            assert_eq!((outcome.verdict, outcome.flow), (Verdict::Forward, flow));
        }
    }
}
