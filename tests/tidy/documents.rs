//! What the documents say is there, is there: commands, programs, paths, and nothing in the tree beside the layout.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{none, root};

/// What may stand at the top of the tree; names that begin with a dot are the tools' own.
const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "pcaps",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
    "tools",
];

/// Folders whose paths the documents may name.
const OURS: &[&str] = &["src/", "tests/", "tools/", "benches/", "pcaps/", ".ci/", ".config/"];

fn documents() -> Vec<(&'static str, String)> {
    // Not CHANGELOG.md: it also tells of what is gone.
    let names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "pcaps/README.md"];
    let read = |name| fs::read_to_string(root().join(name)).ok().map(|text| (name, text));
    names.into_iter().filter_map(read).collect()
}

/// Lines of code in a document, with their numbers: fenced, or four spaces in.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            lines.push((number + 1, line.trim().trim_start_matches("$ ")));
        }
    }
    lines
}

/// Text between backticks, with the numbers of its lines.
fn quoted(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    lines.flat_map(|(n, line)| line.split('`').skip(1).step_by(2).map(move |word| (n + 1, word))).collect()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// What is wrong with a command that a document shows.
fn command_fault(line: &str, manifest: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = *words.first()?;
    let behind = |flag: &str| words.iter().skip_while(|w| **w != flag).nth(1).copied();
    if (first.starts_with("tools/") || first.starts_with(".ci/")) && !is_program(&root().join(first)) {
        return Some(format!("there is no program {first}"));
    }
    for kind in ["example", "bench", "test"] {
        let named = behind(&format!("--{kind}")).filter(|_| first == "cargo");
        let Some(name) = named else { continue };
        let declared = manifest.contains(&format!("[[{kind}]]\nname = \"{name}\""));
        if !declared && !root().join(format!("tests/{name}.rs")).is_file() {
            return Some(format!("Cargo.toml has no {kind} {name}"));
        }
    }
    let word = *words.get(1)?;
    if first == "clearway" && word.chars().all(|c| c.is_ascii_lowercase()) {
        let help = Command::new(env!("CARGO_BIN_EXE_clearway")).args(["help", word]).output();
        if !help.is_ok_and(|run| run.status.success()) {
            return Some(format!("clearway has no command {word}"));
        }
    }
    None
}

#[test]
fn commands_in_documents_exist() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let mut faults = Vec::new();
    for (name, text) in &documents() {
        // Prose may also speak of commands of other versions.
        let inline = quoted(text).into_iter().filter(|(_, word)| word.contains(' '));
        let inline = inline.filter(|(_, word)| !word.starts_with("clearway "));
        for (number, line) in code_lines(text).into_iter().chain(inline) {
            if let Some(fault) = command_fault(line, &manifest) {
                faults.push(format!("{name}:{number}: {fault}"));
            }
        }
    }
    none(faults);
}

/// The commands of the fenced blocks of a document, each with its line and what it is said to print.
fn shown(text: &str) -> Vec<(usize, String, String)> {
    let mut shown: Vec<(usize, String, String)> = Vec::new();
    let (mut fenced, mut unfinished) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
            if fenced {
                shown.push((0, String::new(), String::new()));
            }
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| fenced) {
            shown.push((number + 1, command.trim_end_matches('\\').to_owned(), String::new()));
            unfinished = command.ends_with('\\');
        } else if let Some((_, command, output)) = shown.last_mut().filter(|_| fenced) {
            let into = if unfinished { command } else { output };
            into.push_str(line.trim_end_matches('\\').trim_end());
            into.push(if unfinished { ' ' } else { '\n' });
            unfinished &= line.ends_with('\\');
        }
    }
    shown.retain(|(_, command, _)| command.starts_with("clearway "));
    shown
}

#[test]
fn what_the_readme_shows_is_what_is_printed() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md is there");
    let folder = tempfile::tempdir().expect("a folder for what is written");
    symlink(root().join("pcaps"), folder.path().join("pcaps")).expect("a link to pcaps/");
    let commands = shown(&text);
    assert!(!commands.is_empty(), "README.md shows no command and what it prints");
    let mut faults = Vec::new();
    for (number, command, output) in commands {
        let run = Command::new(env!("CARGO_BIN_EXE_clearway"))
            .args(command.split_whitespace().skip(1))
            .current_dir(folder.path())
            .output()
            .expect("the program starts");
        let printed = String::from_utf8_lossy(&run.stdout);
        let printed: String = printed.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
        if printed.trim_end() != output.trim_end() {
            faults.push(format!("README.md:{number}: {command}\nsaid to print\n{output}\nprints\n{printed}"));
        }
    }
    let verdicts = fs::read_to_string(root().join("pcaps/hub-and-spoke-firewall/expected/verdicts.jsonl"));
    let verdicts = verdicts.expect("the scenario of the README is there");
    for (number, line) in code_lines(&text).into_iter().filter(|(_, l)| l.starts_with("{\"packet\": ")) {
        if verdicts.lines().all(|verdict| verdict != line) {
            faults.push(format!("README.md:{number}: no such line in the scenario's verdicts.jsonl"));
        }
    }
    none(faults);
}

#[test]
fn paths_in_documents_exist() {
    let mut faults = Vec::new();
    for (name, text) in &documents() {
        for (number, word) in quoted(text) {
            let path = word.split(['#', ':']).next().unwrap_or(word);
            let ours = OURS.iter().any(|folder| path.starts_with(folder));
            let plain = !path.contains([' ', '*', '<', '{', '$']) && !path.contains("PORT");
            // The home of unsafe code is named before there is any.
            let reserved = path.starts_with("src/sys");
            if ours && plain && !reserved && !root().join(path).exists() {
                faults.push(format!("{name}:{number}: there is no {path}"));
            }
        }
    }
    none(faults);
}

#[test]
fn nothing_stands_at_the_top_that_the_layout_does_not_know() {
    let entries = fs::read_dir(root()).expect("the project's folder");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let stranger = |name: &String| !name.starts_with('.') && !TOP.contains(&name.as_str());
    none(names.filter(stranger).map(|n| format!("{n}: the layout has no place for it")).collect());
}

#[test]
fn planted_faults_in_documents_are_found() {
    let text = "Run `src/nowhere.rs`:\n\n    tools/nothing\n\n```sh\n$ clearway reply x\ncargo run --example nobody\n```\n";
    assert_eq!(quoted(text)[0], (1, "src/nowhere.rs"));
    let found: Vec<_> =
        code_lines(text).iter().filter_map(|(n, l)| Some((*n, command_fault(l, "")?))).collect();
    let sentences = [
        "there is no program tools/nothing",
        "clearway has no command reply",
        "Cargo.toml has no example nobody",
    ];
    assert_eq!(found, [3, 6, 7].into_iter().zip(sentences.map(str::to_owned)).collect::<Vec<_>>());
    let block = "```text\n$ clearway a \\\n  b\nout\n\nmore\n$ clearway c\n```\nafter\n";
    let commands: Vec<_> = shown(block).into_iter().map(|(n, c, o)| (n, c.trim().to_owned(), o)).collect();
    let expected = [(2, "clearway a   b", "out\n\nmore\n"), (7, "clearway c", "")];
    assert_eq!(commands, expected.map(|(n, c, o)| (n, c.to_owned(), o.to_owned())));
}
