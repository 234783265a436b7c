//! How many times the plain version takes: `cargo bench --bench ratio`. Both sides take turns, so that neighbours of the
//! machine disturb both.

mod common;

use std::time::{Duration, Instant};

use common::cases::{self, Run, Side, Work};

/// What is asked of a case: the plain version takes this many times as long.
const GOALS: &[(&str, f64)] = &[("hit-10000", 6.0), ("hit-1000000", 10.0), ("new-1000-rules", 8.0)];

/// Turns of each side; the median of them counts.
const TURNS: usize = 11;
/// How long a turn takes.
const TURN: Duration = Duration::from_millis(100);

fn main() {
    let run = Run::asked();
    if run == Run::Timed {
        println!("{:<18}{:>14}{:>14}{:>9}{:>9}", "ns per packet", "clearway", "plain", "times", "goal");
    }
    for case in cases::ways(run) {
        (case.check)();
        let (mut ours, mut plain) = ((case.make)(Side::Clearway), (case.make)(Side::Plain));
        if run == Run::Tried {
            continue;
        }
        let (mut of_ours, mut of_plain) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            of_ours.push(turn(ours.as_mut()) / case.per_round as f64);
            of_plain.push(turn(plain.as_mut()) / case.per_round as f64);
        }
        let (ours, plain) = (median(of_ours), median(of_plain));
        let goal = GOALS.iter().find(|g| g.0 == case.name).map_or(String::new(), |g| format!("{:.0}", g.1));
        println!("{:<18}{ours:>14.1}{plain:>14.1}{:>9.1}{goal:>9}", case.name, plain / ours);
    }
}

/// Nanoseconds per round.
fn turn(work: &mut dyn Work) -> f64 {
    let (mut spent, mut rounds) = (Duration::ZERO, 0.0);
    while spent < TURN {
        work.refresh();
        let start = Instant::now();
        work.run();
        spent += start.elapsed();
        rounds += 1.0;
    }
    spent.as_nanos() as f64 / rounds
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
