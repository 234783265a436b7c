//! Changes of configuration, or of what is learned, while a bench runs: one customer's, compiled beside the workers, who
//! look between two batches whether there is another program. Whoever compiles also says whose records it concerns, so
//! that a worker has nothing to find out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::configuration;
use super::network::Network;
use super::source::Random;
use crate::compile::names::Names;
use crate::compile::{Program, recompile};
use crate::dataplane::change;
use crate::model::Model;

/// How exactly a change comes at its time.
const EXACTLY: Duration = Duration::from_micros(500);
/// How long learned routes are waited for, as `run` does, so that what comes in that time comes into force together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long nobody looks whether the run has ended.
const PATIENCE: Duration = Duration::from_millis(10);

/// A change that some worker may not have put in force yet.
pub struct Underway {
    begun: Instant,
    compiled: Duration,
    /// Nanoseconds until the last worker so far had put it in force.
    reached: AtomicU64,
}

/// What a change took from the changed model on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Until it was compiled.
    pub compiled: Duration,
    /// Until every worker had put it in force; `None` if the run ended before.
    pub in_force: Option<Duration>,
}

/// What a worker has not put in force yet: the newest program, and of all changes since it last looked whose records
/// they concern.
#[derive(Clone)]
pub struct News {
    /// The number of the newest program.
    pub version: u64,
    /// The newest program.
    pub program: Arc<Program>,
    /// VNets as [`change::affected`] says, of every step from the worker's program to this one.
    pub affected: Vec<u32>,
    changes: Vec<Arc<Underway>>,
}

impl News {
    /// All of it is in force now.
    pub fn settle(&self) {
        for change in &self.changes {
            change.reached.fetch_max(change.begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

/// How long a worker has been busy, in nanoseconds; on a cache line of its own.
#[repr(align(64))]
struct Busy(AtomicU64);

/// The newest program and its number, and what each worker has still to put in force.
pub struct InForce {
    version: AtomicU64,
    news: Vec<Mutex<News>>,
    busy: Vec<Busy>,
}

impl InForce {
    /// The first program, for so many workers.
    pub fn new(program: &Arc<Program>, workers: usize) -> InForce {
        let news = News { version: 0, program: program.clone(), affected: Vec::new(), changes: Vec::new() };
        InForce {
            version: AtomicU64::new(0),
            news: (0..workers).map(|_| Mutex::new(news.clone())).collect(),
            busy: (0..workers).map(|_| Busy(AtomicU64::new(0))).collect(),
        }
    }

    /// The number of the newest program.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What a worker has not put in force yet.
    pub fn take(&self, worker: usize) -> News {
        let mut news = lock(&self.news[worker]);
        let (affected, changes) = (std::mem::take(&mut news.affected), std::mem::take(&mut news.changes));
        News { version: news.version, program: news.program.clone(), affected, changes }
    }

    /// Puts another program in force, one step behind the newest.
    fn put(&self, program: &Arc<Program>, affected: &[u32], underway: &Arc<Underway>) {
        for news in &self.news {
            let mut news = lock(news);
            news.version += 1;
            news.program = program.clone();
            change::add(&mut news.affected, affected);
            news.changes.push(underway.clone());
        }
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// True if this worker has something to put in force.
    fn waits_for(&self, worker: usize, underway: &Arc<Underway>) -> bool {
        lock(&self.news[worker]).changes.iter().any(|c| Arc::ptr_eq(c, underway))
    }

    /// A worker says how long it has been busy in all.
    #[inline]
    pub fn worked(&self, worker: usize, busy: Duration) {
        self.busy[worker].0.store(busy.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The time that is measured: that of the worker that has been busy longest.
    fn busy(&self) -> Duration {
        let all = self.busy.iter().map(|b| b.0.load(Ordering::Relaxed));
        Duration::from_nanos(all.max().unwrap_or(0))
    }
}

fn lock(news: &Mutex<News>) -> MutexGuard<'_, News> {
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes one customer after the other.
pub struct Changes {
    network: Network,
    names: Names,
    /// The model of the newest program, and the one that is made of it: but for a change they share everything.
    model: Model,
    next: Model,
    /// The newest program, and those before it that a worker may still hold: they are freed here, not there.
    programs: Vec<Arc<Program>>,
    random: Random,
    count: u64,
    /// It is a learned route that comes or goes.
    learned: bool,
    done: Vec<Arc<Underway>>,
    /// What the changes of former runs took.
    pub took: Vec<Change>,
}

impl Changes {
    /// Changes of the configuration that `program` was compiled from with these names, or of what is learned only.
    pub fn new(
        network: Network,
        names: Names,
        model: Model,
        program: Arc<Program>,
        learned: bool,
    ) -> Changes {
        let (random, next) = (Random(network.seed), model.clone());
        let programs = vec![program];
        let (done, took) = (Vec::new(), Vec::new());
        Changes { network, names, model, next, programs, random, count: 0, learned, done, took }
    }

    /// Puts changes in force until told to stop, so many in each second that the workers are busy: of the other time, in
    /// which they fill rings and check, nothing is measured.
    pub fn run(&mut self, per_second: f64, in_force: &InForce, stop: &AtomicBool) {
        let wait = if self.learned { TOGETHER } else { Duration::ZERO };
        let together = (per_second * wait.as_secs_f64()).ceil().max(1.0);
        let pause = Duration::from_secs_f64(together / per_second);
        // The first comes at once, so that the shortest run has one.
        self.change(in_force, together as u32);
        let mut next = in_force.busy() + pause;
        while !stop.load(Ordering::Relaxed) {
            let wait = next.saturating_sub(in_force.busy());
            if !wait.is_zero() {
                std::thread::sleep(wait.clamp(EXACTLY, PATIENCE));
                continue;
            }
            next += pause;
            self.change(in_force, together as u32);
        }
        let workers = 0..in_force.news.len();
        self.took.extend(self.done.drain(..).map(|change| {
            let everywhere = !workers.clone().any(|w| in_force.waits_for(w, &change));
            let reached = Duration::from_nanos(change.reached.load(Ordering::Relaxed));
            Change { compiled: change.compiled, in_force: everywhere.then_some(reached) }
        }));
    }

    /// Puts so many changes in force together.
    fn change(&mut self, in_force: &InForce, together: u32) {
        let mut changed = Vec::new();
        for _ in 0..together {
            let vnet = (self.random.next() % u64::from(self.network.vnets)) as usize;
            let Some(customer) = self.next.customers.get_mut(vnet) else { return };
            self.count += 1;
            *customer = Arc::new(if self.learned {
                configuration::relearned(customer)
            } else {
                configuration::changed(&self.network, customer, vnet as u32, self.count)
            });
            changed.push(vnet);
        }
        let Some(newest) = self.programs.last() else { return };
        let begun = Instant::now();
        let program = Arc::new(recompile(newest, &self.model, &self.next, &mut self.names));
        let affected = change::affected(newest, &program);
        let compiled = begun.elapsed();
        let underway = Arc::new(Underway { begun, compiled, reached: AtomicU64::new(0) });
        in_force.put(&program, &affected, &underway);
        self.done.push(underway);
        for vnet in changed {
            self.model.customers[vnet] = self.next.customers[vnet].clone();
        }
        self.programs.retain(|p| Arc::strong_count(p) > 1);
        self.programs.push(program);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;

    #[test]
    fn a_worker_that_looks_late_hears_of_every_step() {
        let program = || Arc::new(compile(&Model::default(), &mut Names::default()));
        let begun = Instant::now();
        let underway = || Arc::new(Underway { begun, compiled: Duration::ZERO, reached: AtomicU64::new(0) });
        let in_force = InForce::new(&program(), 2);
        let (first, second, third) = (underway(), underway(), underway());
        in_force.put(&program(), &[2, 7], &first);
        let news = in_force.take(0);
        assert_eq!((news.version, &news.affected[..]), (1, &[2, 7][..]));
        assert!(in_force.waits_for(1, &first) && !in_force.waits_for(0, &first));
        news.settle();
        in_force.put(&program(), &[], &second);
        let newest = program();
        in_force.put(&newest, &[1, 2, 9], &third);
        assert_eq!(in_force.take(0).affected, [1, 2, 9]);
        let news = in_force.take(1);
        assert_eq!((news.version, &news.affected[..]), (in_force.version(), &[1, 2, 7, 9][..]));
        assert!(Arc::ptr_eq(&news.program, &newest) && news.changes.len() == 3);
        assert!(third.reached.load(Ordering::Relaxed) == 0 && first.reached.load(Ordering::Relaxed) > 0);
        news.settle();
        assert!(third.reached.load(Ordering::Relaxed) > 0 && !in_force.waits_for(1, &third));
        assert!(in_force.take(1).affected.is_empty());
        in_force.worked(1, Duration::from_secs(3));
        assert_eq!(in_force.busy(), Duration::from_secs(3));
    }
}
