//! Changes of configuration while a bench runs: one customer's, compiled beside the workers, who look between two batches
//! whether there is another program.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::configuration;
use super::network::Network;
use super::source::Random;
use crate::compile::names::Names;
use crate::compile::{Program, recompile};
use crate::model::Model;

/// The newest program and its number.
pub struct InForce {
    version: AtomicU64,
    program: Mutex<(u64, Arc<Program>)>,
}

impl InForce {
    /// The first program.
    pub fn new(program: Arc<Program>) -> InForce {
        InForce { version: AtomicU64::new(0), program: Mutex::new((0, program)) }
    }

    /// The number of the newest program.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The newest program and its number.
    pub fn get(&self) -> (u64, Arc<Program>) {
        self.lock().clone()
    }

    /// Puts another program in force.
    pub fn put(&self, program: Arc<Program>) {
        let mut newest = self.lock();
        newest.1 = program;
        newest.0 += 1;
        self.version.store(newest.0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Arc<Program>)> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes one customer after the other.
pub struct Changes {
    network: Network,
    flows: u32,
    names: Names,
    model: Model,
    /// The newest program, and those before it that a worker may still hold: they are freed here, not there.
    programs: Vec<Arc<Program>>,
    random: Random,
    count: u64,
    /// How long compiling each change took.
    pub took: Vec<Duration>,
}

impl Changes {
    /// Changes of the configuration that `program` was compiled from with these names.
    pub fn new(network: Network, flows: u32, names: Names, model: Model, program: Arc<Program>) -> Changes {
        let random = Random(network.seed);
        Changes { network, flows, names, model, programs: vec![program], random, count: 0, took: Vec::new() }
    }

    /// Puts so many changes per second in force until told to stop.
    pub fn run(&mut self, per_second: f64, in_force: &InForce, stop: &AtomicBool) {
        let pause = Duration::from_secs_f64(1.0 / per_second);
        let mut next = Instant::now() + pause;
        while !stop.load(Ordering::Relaxed) {
            let wait = next.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait.min(Duration::from_millis(10)));
                continue;
            }
            next += pause;
            self.change(in_force);
        }
    }

    fn change(&mut self, in_force: &InForce) {
        self.count += 1;
        let vnet = (self.random.next() % u64::from(self.network.vnets)) as u32;
        let changed = configuration::customer(&self.network, vnet, self.flows, self.count);
        let begin = Instant::now();
        let mut after = self.model.clone();
        after.customers[vnet as usize] = Arc::new(changed);
        let Some(newest) = self.programs.last() else { return };
        let program = Arc::new(recompile(newest, &self.model, &after, &mut self.names));
        in_force.put(program.clone());
        self.took.push(begin.elapsed());
        self.model = after;
        self.programs.retain(|p| Arc::strong_count(p) > 1);
        self.programs.push(program);
    }
}
