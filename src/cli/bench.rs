//! `bench`: the throughput of the packet path.

use super::args::BenchArgs;
use super::progress::Steps;
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::observe::{bench, json};
use crate::runtime::bench::{Profile, Settings, Step, run as run_bench};

/// Runs a bench and prints its figures.
pub fn run(args: &BenchArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let settings = settings(args);
    let faults = settings.faults();
    if !faults.is_empty() {
        return Err(Refused(faults));
    }
    let mut steps = Steps::new(u64::from(settings.runs()) + 4);
    let progress = &mut |step| {
        steps.step(match step {
            Step::Configuration => "making and compiling the configuration".to_owned(),
            Step::Opening => "opening every flow and checking every packet".to_owned(),
            Step::Calibration => "measuring this machine".to_owned(),
            Step::Repeat(n) => format!("measuring, {} of {}", n + 1, settings.runs()),
        });
    };
    let result = run_bench(&settings, progress);
    drop(steps);
    let report = match result {
        Ok(report) => report,
        Err(wrong) => {
            terminal.error(&format!("no figure, because a packet was lost or misjudged: {wrong}"));
            return Ok(Exit::No);
        }
    };
    let profile = profile(args).name();
    if args.json {
        terminal.line(json::document(&bench::document(profile, &settings, &report)));
    } else {
        terminal.print(bench::tables(profile, &settings, &report, terminal.style));
    }
    Ok(Exit::Done)
}

/// The profile that was said, or the smallest.
fn profile(args: &BenchArgs) -> Profile {
    args.profile.map_or(Profile::Small, |p| p.0)
}

/// The profile's sizes, and what options say otherwise.
fn settings(args: &BenchArgs) -> Settings {
    let of = profile(args).settings();
    Settings {
        vnets: args.vnets.unwrap_or(of.vnets),
        flows: args.flows.unwrap_or(of.flows),
        rules: args.rules.unwrap_or(of.rules),
        routes: args.routes.unwrap_or(of.routes),
        size: args.size.unwrap_or(of.size),
        new_flows: args.new_flows.unwrap_or(of.new_flows),
        zipf: args.zipf.unwrap_or(of.zipf),
        workers: args.workers.unwrap_or(of.workers),
        seconds: args.seconds.unwrap_or(of.seconds),
        repeats: args.repeats.unwrap_or(of.repeats),
        swaps: args.swaps.unwrap_or(of.swaps),
        learned: args.learned.unwrap_or(of.learned),
        seed: args.seed.unwrap_or(of.seed),
    }
}
