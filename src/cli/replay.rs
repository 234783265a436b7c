//! `replay`: captures through the packet path.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::args::{PortFile, ReplayArgs};
use super::outputs::{Outputs, Results, Wanted};
use super::progress::Progress;
use super::terminal::Terminal;
use super::{Exit, Refused, load};
use crate::io::{Capture, CaptureError, Merge, OutputError};
use crate::model::Model;
use crate::observe::expect::Expectations;
use crate::observe::{find, json};
use crate::runtime::Replay;
use crate::types::Nanos;

/// Runs captures and tells what became of their packets.
pub fn run(args: &ReplayArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let (model, swaps) = configurations(args, terminal)?;
    check_inputs(args, std::iter::once((args.config.as_path(), &model)).chain(swap_models(args, &swaps)))?;
    let expectations = args.expect.as_deref().map(read_expectations).transpose()?;
    let expected = expectations.as_ref().map(Expectations::len);
    let merge = Merge::new(open(&args.inputs)?);
    let mut replay = Replay::new(&model, workers(args), swaps);
    if args.no_verdicts && !args.annotate && expectations.is_none() {
        replay = replay.terse();
    }
    let wanted =
        Wanted { folder: &args.out, verdicts: !args.no_verdicts, annotate: args.annotate, expectations };
    let ports = replay.ports().to_vec();
    let outputs = Outputs::create(wanted, &ports, merge.nanosecond()).map_err(unwritable)?;
    let Ran { results, merge, damage } =
        feed(args, &mut replay, &ports, merge, outputs).map_err(unwritable)?;
    for warning in merge.captures().iter().filter_map(Capture::warning) {
        terminal.warning(&warning.to_string());
    }
    let same = report(args, &results, expected, terminal);
    match damage {
        Some(damage) => {
            let packets = results.summary.packets();
            terminal.error(&damage.to_string());
            terminal
                .error(&format!("stopped there; the results are those of the {packets} packets before it"));
            Ok(Exit::Unusable)
        }
        None if same => Ok(Exit::Done),
        None => Ok(Exit::No),
    }
}

fn unwritable(error: OutputError) -> Refused {
    error.to_string().into()
}

/// The configuration and those that replace it, all read before the first packet; the faults of all are told.
fn configurations(
    args: &ReplayArgs,
    terminal: &mut Terminal,
) -> Result<(Model, Vec<(Nanos, Model)>), Refused> {
    let mut refused = Refused::default();
    let mut read = |path: &Path| load(path, terminal).map_err(|r| refused.0.extend(r.0)).ok();
    let first = read(&args.config);
    let swaps: Vec<_> = args.swaps.iter().map(|s| read(&s.config).map(|m| (s.after, m))).collect();
    match (first, swaps.into_iter().collect::<Option<Vec<_>>>()) {
        (Some(first), Some(swaps)) => {
            may_follow(args, &first, &swaps)?;
            Ok((first, swaps))
        }
        _ => Err(refused),
    }
}

/// Each configuration may come into force behind the one before it in time.
fn may_follow(args: &ReplayArgs, first: &Model, swaps: &[(Nanos, Model)]) -> Result<(), Refused> {
    let mut order: Vec<_> = args.swaps.iter().zip(swaps).collect();
    order.sort_by_key(|(swap, _)| swap.after);
    let mut refused = Refused::default();
    let mut before = first;
    for (swap, (_, model)) in order {
        if let Err(sentences) = crate::model::may_follow(before, model) {
            let name = swap.config.display();
            refused.0.extend(sentences.into_iter().map(|sentence| format!("{name}: {sentence}")));
        }
        before = model;
    }
    if refused.0.is_empty() { Ok(()) } else { Err(refused) }
}

fn swap_models<'a>(
    args: &'a ReplayArgs,
    swaps: &'a [(Nanos, Model)],
) -> impl Iterator<Item = (&'a Path, &'a Model)> {
    args.swaps.iter().map(|s| s.config.as_path()).zip(swaps.iter().map(|(_, m)| m))
}

/// Every port with input is in every configuration, and has one input.
fn check_inputs<'a>(
    args: &ReplayArgs,
    models: impl Iterator<Item = (&'a Path, &'a Model)>,
) -> Result<(), Refused> {
    let mut refused = Refused::default();
    for (path, model) in models {
        for PortFile { port, .. } in &args.inputs {
            let known = model.ports.iter().map(|p| p.name.as_str());
            if !known.clone().any(|name| name == port) {
                let sentence = find::missing("port", port, &format!("in {}", path.display()), known);
                refused.0.push(format!("--in {sentence}"));
            }
        }
    }
    let mut ports = HashSet::new();
    for PortFile { port, .. } in args.inputs.iter().filter(|i| !ports.insert(&i.port)) {
        refused.0.push(format!("--in names the port '{port}' twice; merge its captures into one first"));
    }
    if args.inputs.iter().filter(|i| i.file == "-").count() > 1 {
        refused.0.push("--in names standard input (`-`) twice; it can be read once".to_owned());
    }
    if refused.0.is_empty() { Ok(()) } else { Err(refused) }
}

fn read_expectations(path: &Path) -> Result<Expectations, Refused> {
    let unreadable = |why: String| Refused::from(format!("--expect {}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not text in UTF-8".to_owned()))?;
    Expectations::parse(&text)
        .map_err(|e| Refused::from(format!("--expect {}:{}: {}", path.display(), e.line, e.message)))
}

/// Opens all captures; what is wrong with each is told.
fn open(inputs: &[PortFile]) -> Result<Vec<Capture>, Refused> {
    let mut refused = Refused::default();
    let opened = inputs.iter().map(|input| Capture::open(&input.file));
    let captures: Vec<_> = opened.filter_map(|c| c.map_err(|e| refused.0.push(e.to_string())).ok()).collect();
    if refused.0.is_empty() { Ok(captures) } else { Err(refused) }
}

fn workers(args: &ReplayArgs) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    args.workers.map_or_else(all, usize::from)
}

/// What is known when all packets are through.
struct Ran {
    results: Results,
    merge: Merge,
    damage: Option<CaptureError>,
}

/// Reads packet by packet and hands on what has finished, until the end or until damage.
fn feed(
    args: &ReplayArgs,
    replay: &mut Replay,
    ports: &[String],
    mut merge: Merge,
    mut outputs: Outputs,
) -> Result<Ran, OutputError> {
    let number = |port: &str| ports.iter().position(|p| p == port).unwrap_or_default() as u16;
    let port_of: Vec<u16> = args.inputs.iter().map(|i| number(&i.port)).collect();
    let mut progress = Progress::new(merge.captures());
    let damage = loop {
        let merged = match merge.next() {
            Ok(Some(merged)) => merged,
            Ok(None) => break None,
            Err(damage) => break Some(damage),
        };
        let packet = merged.packet;
        if packet.digits > 6 && !outputs.nanosecond() {
            outputs.use_nanoseconds()?;
        }
        let port = port_of.get(merged.capture).copied().unwrap_or_default();
        let (time, digits) = (packet.time, packet.digits);
        let sink = &mut |done: crate::runtime::Finished<'_>| outputs.take(&done);
        replay.push(port, time, digits, packet.captured, packet.original_len, sink)?;
        progress.packet(merge.captures());
    };
    let totals = replay.finish(&mut |done| outputs.take(&done))?;
    let readings = replay.meters();
    if merge.nanosecond() && !outputs.nanosecond() {
        outputs.use_nanoseconds()?;
    }
    Ok(Ran { results: outputs.finish(totals, &readings)?, merge, damage })
}

/// Prints the summary and the differences; true if there are none.
fn report(args: &ReplayArgs, results: &Results, expected: Option<usize>, terminal: &mut Terminal) -> bool {
    let same = results.differences.is_empty() && results.missing.is_empty();
    if args.json {
        terminal.line(json::line(&results.summary));
    } else {
        let style = terminal.style;
        terminal.print(results.summary.table(style));
    }
    let Some(lines) = expected else { return true };
    if !args.json {
        terminal.line("");
    }
    let mut tell = |text: String| if args.json { terminal.note(text) } else { terminal.line(text) };
    for difference in &results.differences {
        tell(difference.to_string());
    }
    let packets = results.summary.packets();
    for packet in &results.missing {
        tell(format!("packet {packet}: expected, but does not occur: there are {packets} packets"));
    }
    let count = results.differences.len() + results.missing.len();
    tell(match count {
        0 => format!("as expected: {lines} lines of {} compared", args.expect_name()),
        1 => format!("1 difference from {}", args.expect_name()),
        n => format!("{n} differences from {}", args.expect_name()),
    });
    same
}

impl ReplayArgs {
    fn expect_name(&self) -> String {
        self.expect.as_deref().map_or_else(String::new, |p| p.display().to_string())
    }
}
