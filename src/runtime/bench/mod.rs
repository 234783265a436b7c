//! `clearway bench`: traffic made in memory, through the same path as everything else, from the bytes of received frames
//! to those of the frames that leave.
//!
//! What is measured: spreading frames over workers where there are several, handing them over, and the whole path. What
//! is not: filling the receive ring with fresh frames before, counting and checking after. A figure is given only if every
//! packet was forwarded, and each of those that were checked is as it must be.

mod bursts;
mod calibration;
mod check;
mod configuration;
mod network;
mod settings;
mod source;
mod swap;
mod traffic;
mod worker;

#[cfg(test)]
mod tests;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use calibration::Calibration;
pub use settings::{Profile, Settings};
pub use swap::Change;
pub use worker::{BUFFER, BURST, CHECKED, Figures, RING};

use crate::compile::compile;
use crate::compile::names::Names;
use crate::dataplane::Occupancy;
use network::Network;
use swap::{Changes, InForce};
use traffic::Traffic;
use worker::{Part, Worker};

/// What a bench has to tell.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Building the configuration, in seconds.
    pub build: f64,
    /// Compiling it, in seconds.
    pub compile: f64,
    /// Bytes of the compiled program.
    pub program: u64,
    /// Bytes that the process has in memory when everything is set up.
    pub resident: u64,
    /// Bytes of huge pages among them.
    pub huge: u64,
    /// Bytes that it had in memory at most so far.
    pub peak: u64,
    /// Packets that were checked one by one before anything was measured.
    pub checked_before: u64,
    /// What the machine allows.
    pub calibration: Calibration,
    /// What each change of configuration took.
    pub changes: Vec<Change>,
    /// The repeats, of each the workers.
    pub repeats: Vec<Vec<Figures>>,
    /// With changes of configuration: beside each repeat the same without any.
    pub still: Vec<Vec<Figures>>,
}

/// How far a bench has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Building and compiling the configuration.
    Configuration,
    /// Opening every flow and checking every packet.
    Opening,
    /// Measuring the machine.
    Calibration,
    /// Measuring, the how-manieth time of [`Settings::runs`].
    Repeat(u32),
}

/// A field of a file that the system keeps about this process, in bytes; 0 where it does not.
fn of_process(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    of_process("smaps_rollup", "Rss:")
}

/// Runs a bench.
///
/// # Errors
/// A sentence, if a packet was lost or misjudged.
pub fn run(settings: &Settings, progress: &mut dyn FnMut(Step)) -> Result<Report, String> {
    let network = Network::new(settings.vnets, settings.rules, settings.routes, settings.seed);
    run_expecting(settings, network, progress)
}

/// Runs a bench whose checks believe in this network.
fn run_expecting(
    settings: &Settings,
    believed: Network,
    progress: &mut dyn FnMut(Step),
) -> Result<Report, String> {
    progress(Step::Configuration);
    let network = Network::new(settings.vnets, settings.rules, settings.routes, settings.seed);
    let begin = Instant::now();
    let model = configuration::model(&network, settings.size, settings.flows);
    let build = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let mut names = Names::default();
    let program = Arc::new(compile(&model, &mut names));
    let compile = begin.elapsed().as_secs_f64();
    let mut changes = (settings.changes() > 0.0)
        .then(|| Changes::new(network, names, model, program.clone(), settings.learned > 0.0));
    let mut report = Report { build, compile, program: program.memory() as u64, ..Report::default() };
    let mut occupancy = Occupancy::new(settings.workers as usize);
    occupancy.grow(&program);
    let in_force = Arc::new(InForce::new(&program, settings.workers as usize));
    let traffic = Arc::new(Traffic::new(network, settings.size as usize));
    let expected = Arc::new(Traffic::new(believed, settings.size as usize));
    let mut workers = worker::workers(settings, &traffic, &expected, &in_force, &Arc::new(occupancy));
    progress(Step::Opening);
    let opened = run_part(&mut workers, Part::Open)?;
    report.resident = resident();
    report.huge = of_process("smaps_rollup", "AnonHugePages:");
    report.peak = of_process("status", "VmHWM:");
    report.checked_before = opened.iter().map(|f| f.checked).sum();
    if settings.new_flows == 0.0 {
        let confirmed = run_part(&mut workers, Part::Confirm)?;
        report.checked_before += confirmed.iter().map(|f| f.checked).sum::<u64>();
    }
    progress(Step::Calibration);
    report.calibration = calibration::measure(opened.iter().map(|f| f.table).sum());
    let until = Duration::from_secs_f64(settings.seconds);
    let warm = until.mul_f64(0.2).min(Duration::from_secs(1));
    for run in 0..settings.runs() {
        progress(Step::Repeat(run));
        if settings.new_flows == 0.0 {
            run_part(&mut workers, Part::Refresh)?;
        }
        let mut measure = || run_part(&mut workers, Part::Run(warm, until + warm));
        match &mut changes {
            None => report.repeats.push(measure()?),
            // The one without changes and the one with them take turns in being the first of a pair.
            Some(_) if matches!(run % 4, 0 | 3) => report.still.push(measure()?),
            Some(changes) => {
                let figures = beside(measure, |stop| changes.run(settings.changes(), &in_force, stop))?;
                report.repeats.push(figures);
            }
        }
    }
    report.changes = changes.map_or_else(Vec::new, |c| c.took);
    Ok(report)
}

/// Does something while something else is done beside it, until that is told to stop.
fn beside<T>(run: impl FnOnce() -> T, other: impl FnOnce(&AtomicBool) + Send) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| other(&stop));
        let result = run();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs a part of the bench on all workers.
fn run_part(workers: &mut [Worker], part: Part) -> Result<Vec<Figures>, String> {
    let failed = AtomicBool::new(false);
    workers.iter_mut().for_each(Worker::prepare);
    if let [worker] = workers {
        return Ok(vec![worker.run(part, &failed)?]);
    }
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|w| scope.spawn(|| w.run(part, &failed))).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        };
        threads.into_iter().map(join).collect()
    });
    results.into_iter().collect()
}
