//! Runs one case of the benches so that an emulator can count its instructions; `tools/instructions` does.
//!
//! Without arguments it lists the cases. With a case and a side it makes the work ready, runs it a fixed number of times
//! through [`counted`], which is all that the emulator counts, and prints how many packets or look-ups that was.

#[path = "../benches/common/mod.rs"]
mod common;

use std::process::ExitCode;

use common::cases::{self, Run, Side, Work};

/// Rounds that are counted; of what takes long, one.
const ROUNDS: u64 = 32;

fn main() -> ExitCode {
    let mut cases = cases::all(Run::Counted);
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        cases.iter().for_each(|c| println!("{}", c.name));
        return ExitCode::SUCCESS;
    };
    let side = match arguments.next().as_deref() {
        Some("clearway") => Side::Clearway,
        Some("plain") => Side::Plain,
        other => {
            eprintln!("say whose instructions: clearway or plain, not {}", other.unwrap_or("nobody's"));
            return ExitCode::from(2);
        }
    };
    let Some(case) = cases.iter_mut().find(|c| c.name == name) else {
        eprintln!("there is no case {name}; without arguments all are listed");
        return ExitCode::from(2);
    };
    let mut work = (case.make)(side);
    let rounds = if case.per_round == 1 { 1 } else { ROUNDS };
    for _ in 0..rounds {
        work.refresh();
        counted(work.as_mut());
    }
    println!("{}", rounds * case.per_round);
    ExitCode::SUCCESS
}

/// What is counted.
#[inline(never)]
fn counted(work: &mut dyn Work) {
    work.run();
}
