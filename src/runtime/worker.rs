//! A worker thread: owns a shard and runs the packets of its flows through the path, batch by batch.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::Batch;
use crate::dataplane::{Context, Occupancy, Results, Shard, process};

/// What a worker is asked to do.
enum Job {
    /// Run the packets that are this worker's; results go back.
    Run(Arc<Batch>, Arc<Occupancy>, Box<Results>),
    /// Give the shard away.
    Lend,
    /// Take the shard back.
    Keep(Box<Shard>),
}

enum Answer {
    Results(Results),
    Shard(Box<Shard>),
}

/// A worker as the others see it.
pub struct Worker {
    jobs: Option<Sender<Job>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// Batches that may wait for a worker.
const WAITING: usize = 4;

impl Worker {
    /// Starts a worker; it owns the shard.
    pub fn start(number: u16, shard: Shard) -> Worker {
        let (jobs, todo) = bounded::<Job>(WAITING);
        let (done, answers) = bounded(WAITING);
        let thread = std::thread::spawn(move || work(number, shard, &todo, &done));
        Worker { jobs: Some(jobs), answers, thread: Some(thread) }
    }

    /// Gives the worker a batch.
    pub fn run(&mut self, batch: &Arc<Batch>, occupancy: &Arc<Occupancy>, reuse: Results) {
        self.send(Job::Run(batch.clone(), occupancy.clone(), Box::new(reuse)));
    }

    /// Waits for the results of the oldest batch.
    pub fn results(&mut self) -> Results {
        match self.receive() {
            Answer::Results(results) => results,
            Answer::Shard(_) => unreachable!("a shard is given only when asked for"),
        }
    }

    /// Takes the shard; the worker must have no batch.
    pub fn lend(&mut self) -> Box<Shard> {
        self.send(Job::Lend);
        match self.receive() {
            Answer::Shard(shard) => shard,
            Answer::Results(_) => unreachable!("every batch is collected before the shard is taken"),
        }
    }

    /// Gives the shard back.
    pub fn keep(&mut self, shard: Box<Shard>) {
        self.send(Job::Keep(shard));
    }

    fn send(&mut self, job: Job) {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            self.fail();
        }
    }

    fn receive(&mut self) -> Answer {
        match self.answers.recv() {
            Ok(answer) => answer,
            Err(_) => self.fail(),
        }
    }

    /// The worker has stopped on its own: its panic goes on here.
    fn fail(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => panic!("a worker stopped before its work was done"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been seen by whoever waited for its results.
            let _ = thread.join();
        }
    }
}

fn work(number: u16, shard: Shard, todo: &Receiver<Job>, done: &Sender<Answer>) {
    let mut shard = Some(Box::new(shard));
    for job in todo {
        let answer = match job {
            Job::Run(batch, occupancy, reuse) => {
                let Some(shard) = shard.as_deref_mut() else { return };
                // The buckets of circuit links are charged in the order of packets: by the only worker, or behind all.
                let defers = batch.shares.len() > 1;
                let Batch { program, policers, .. } = &*batch;
                let context = Context { program, occupancy: &occupancy, quoted: None, policers, defers };
                Answer::Results(run(number, shard, &batch, context, *reuse))
            }
            Job::Lend => match shard.take() {
                Some(shard) => Answer::Shard(shard),
                None => return,
            },
            Job::Keep(back) => {
                shard = Some(back);
                continue;
            }
        };
        if done.send(answer).is_err() {
            return;
        }
    }
}

/// Runs the packets of one worker.
fn run(number: u16, shard: &mut Shard, batch: &Batch, context: Context<'_>, mut results: Results) -> Results {
    results.clear();
    process(context, None, shard, &batch.bytes, batch.share(number), &mut results);
    results
}
