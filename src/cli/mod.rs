//! The command line: reads what the user typed, calls what does it, prints, and says how it ended.

mod args;
mod bench;
#[cfg(target_os = "linux")]
mod bgp;
#[cfg(target_os = "linux")]
mod capture;
mod check;
#[cfg(target_os = "linux")]
mod circuits;
mod explain;
mod manual;
mod outputs;
mod progress;
#[cfg(target_os = "linux")]
mod rates;
mod replay;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod running;
mod show;
mod terminal;
#[cfg(target_os = "linux")]
mod top;

use std::path::Path;
use std::process::ExitCode;

use args::Command;
use terminal::Terminal;

use crate::model::{self, Fault, Files, Model};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done = 0,
    /// The question's answer is no.
    No = 1,
    /// The input or the configuration cannot be used.
    Unusable = 2,
}

/// Why a command cannot go on: sentences for standard error.
#[derive(Debug, Default)]
struct Refused(Vec<String>);

impl<S: Into<String>> From<S> for Refused {
    fn from(sentence: S) -> Refused {
        Refused(vec![sentence.into()])
    }
}

/// Runs the command and says how it ended.
pub fn run() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(status) => return ExitCode::from(status),
    };
    let mut terminal = Terminal::new();
    let ended = match &command {
        Command::Check(args) => check::run(args, &mut terminal),
        Command::Replay(args) => replay::run(args, &mut terminal),
        Command::Routes(args) => show::routes(args, &mut terminal),
        Command::Rules(args) => show::rules(args, &mut terminal),
        Command::Explain(args) => explain::run(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Run(args) => run::run(args, &mut terminal),
        #[cfg(not(target_os = "linux"))]
        Command::Run(_) => Err(Refused::from("clearway runs live on Linux only")),
        Command::Bench(args) => bench::run(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Counters(args) => running::counters(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Flows(args) => running::flows(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Meters(args) => running::meters(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Circuits(args) => circuits::run(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Bgp(args) => bgp::run(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Capture(args) => capture::run(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Reload(args) => running::reload(args, &mut terminal),
        #[cfg(target_os = "linux")]
        Command::Top(args) => top::run(args, &mut terminal),
        Command::Manual(args) => manual::run(args, &mut terminal),
    };
    let exit = ended.unwrap_or_else(|Refused(sentences)| {
        for sentence in sentences {
            terminal.error(&sentence);
        }
        Exit::Unusable
    });
    match terminal.finish() {
        Ok(()) => ExitCode::from(exit as u8),
        Err(_) => ExitCode::from(Exit::Unusable as u8),
    }
}

/// Reads a configuration; its faults and warnings go to standard error.
fn load(path: &Path, terminal: &mut Terminal) -> Result<Model, Refused> {
    load_files(path, &mut Files::default(), terminal)
}

/// The same, and which files were read.
fn load_files(path: &Path, files: &mut Files, terminal: &mut Terminal) -> Result<Model, Refused> {
    let loaded = model::load_files(path, files);
    let faults = loaded.as_ref().map_or_else(Vec::as_slice, |m| &m.warnings);
    tell(faults, terminal);
    loaded.map_err(|faults| Refused(vec![refusal(path, &faults)]))
}

/// Prints faults, one to a line.
fn tell(faults: &[Fault], terminal: &mut Terminal) {
    for fault in faults {
        terminal.fault(fault);
    }
}

/// The line behind all faults of a configuration.
fn refusal(path: &Path, faults: &[Fault]) -> String {
    format!("{}: refused: {}", path.display(), counted(faults))
}

/// `2 errors, 1 warning`.
fn counted(faults: &[Fault]) -> String {
    let errors = faults.iter().filter(|f| f.severity == model::Severity::Error).count();
    let part = |n: usize, word: &str| match n {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let parts = [part(errors, "error"), part(faults.len() - errors, "warning")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
