//! Walks `pcaps/`: every scenario, replayed by the real program, must come out byte for byte as `expected/` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clearway::packet::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps")
}

/// The folders, in order.
fn scenarios() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).expect("pcaps/ is there");
    let mut folders: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

/// Runs `clearway replay` in a scenario's folder with its own arguments.
fn replay(folder: &Path, workers: &str, out: &Path) {
    let arguments = fs::read_to_string(folder.join("replay.args")).expect("replay.args is there");
    let run = Command::new(env!("CARGO_BIN_EXE_clearway"))
        .current_dir(folder)
        .arg("replay")
        .args(arguments.split_whitespace())
        .args(["--workers", workers, "--expect", "expected/verdicts.jsonl", "--out"])
        .arg(out)
        .output()
        .expect("the program starts");
    let (text, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{} with {workers} workers:\n{text}\n{errors}", folder.display());
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    entries.map(|e| read(e.unwrap().path())).collect()
}

/// The first difference of two files, for a person.
fn difference(name: &str, expected: &[u8], got: &[u8]) -> String {
    if name.ends_with(".pcap") {
        let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
        let around = |bytes: &[u8]| {
            let end = (same + 16).min(bytes.len());
            format!("{:02x?} ({} bytes in all)", &bytes[same.min(end)..end], bytes.len())
        };
        return format!("from byte {same} on\n  expected {}\n  got      {}", around(expected), around(got));
    }
    let (expected, got) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(got));
    let (mut left, mut right) = (expected.lines(), got.lines());
    for line in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                let show = |l: Option<&str>| l.unwrap_or("nothing").to_owned();
                return format!("in line {line}\n  expected {}\n  got      {}", show(a), show(b));
            }
        }
    }
    "in how its lines end".to_owned()
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let folders = scenarios();
    assert!(folders.len() >= 18, "only {} scenarios", folders.len());
    let mut faults = Vec::new();
    for folder in &folders {
        let expected = files(&folder.join("expected"));
        for workers in ["1", "2"] {
            let out = tempfile::tempdir().unwrap();
            replay(folder, workers, out.path());
            let got = files(out.path());
            let names: BTreeSet<_> = expected.keys().chain(got.keys()).collect();
            for name in names {
                let place = format!("{} with {workers} workers: {name}", folder.display());
                match (expected.get(name), got.get(name)) {
                    (Some(e), Some(g)) if e == g => {}
                    (Some(e), Some(g)) => faults.push(format!("{place} differs {}", difference(name, e, g))),
                    (Some(_), None) => faults.push(format!("{place} was not written")),
                    (None, _) => faults.push(format!("{place} was not expected")),
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} differences\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_reason_ends_a_packet_of_some_scenario() {
    let verdicts: String = scenarios()
        .iter()
        .map(|f| fs::read_to_string(f.join("expected/verdicts.jsonl")).expect("verdicts.jsonl is there"))
        .collect();
    let missing: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| reason.name())
        .filter(|name| !verdicts.contains(&format!("\"reason\": \"{name}\"")))
        .collect();
    assert!(missing.is_empty(), "no scenario has a packet that ends with {}", missing.join(", "));
}

#[test]
fn every_scenario_says_in_one_sentence_what_it_shows() {
    for folder in scenarios() {
        let text = fs::read_to_string(folder.join("README.md")).expect("README.md is there");
        let one_line = text.ends_with(".\n") && text.lines().count() == 1;
        assert!(one_line, "{}/README.md should be one sentence, but is: {text}", folder.display());
    }
}
