//! A dataplane with nobody before or behind it.

use ahash::RandomState;
use clearway::compile::Program;
use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::dataplane::state::Received;
use clearway::dataplane::{Context, Occupancy, Results, Shard, process};
use clearway::packet::Outcome;

use super::configuration::{configuration, model};
use super::traffic::Batch;

/// Seeds of hashes that are the same in every run, so that counts of instructions are, too.
pub fn seed() -> RandomState {
    RandomState::with_seeds(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344)
}

/// One worker's share of the dataplane.
pub struct Dataplane {
    pub program: Program,
    pub received: Received,
    pub results: Results,
    occupancy: Occupancy,
    shard: Shard,
}

impl Dataplane {
    /// An empty one for a configuration.
    pub fn new(rules: usize, routes: usize) -> Dataplane {
        let program = compile(&model(&configuration(rules, routes)), &mut Names::default());
        let mut occupancy = Occupancy::default();
        occupancy.grow(&program);
        let shard = Shard::new(seed());
        Dataplane { program, occupancy, shard, received: Received::default(), results: Results::default() }
    }

    /// What became of a packet of the last batch.
    pub fn outcome(&self, packet: usize) -> Outcome {
        self.results.outcome(&self.program, packet)
    }

    /// From the bytes of received frames to those of the frames that leave.
    pub fn run(&mut self, batch: &Batch) {
        self.results.clear();
        let context = Context::new(&self.program, &self.occupancy);
        let (received, shard, results) = (&mut self.received, &mut self.shard, &mut self.results);
        process(context, Some(received), shard, &batch.bytes, &batch.inputs, results);
    }
}
