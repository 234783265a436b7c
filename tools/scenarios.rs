//! Makes `pcaps/`: stories of packets, each with the verdict that the contract gives it, told in
//! `scenarios/stories/`.
//!
//! `cargo run --release --example scenarios` compares: the program with the stories, then the folders with the files
//! that the stories make. With `--write` it writes the folders instead of comparing them, unless the program and a
//! story disagree. Names of stories may follow; without any, all are meant.

#[path = "scenarios/carried.rs"]
mod carried;
#[path = "scenarios/folder.rs"]
mod folder;
#[path = "scenarios/frame.rs"]
mod frame;
#[path = "scenarios/judge.rs"]
mod judge;
#[path = "scenarios/packet.rs"]
mod packet;
#[path = "scenarios/stories/mod.rs"]
mod stories;
#[path = "scenarios/story.rs"]
mod story;

use std::path::Path;
use std::process::ExitCode;

use story::Story;

/// Numbers of workers that must all agree with the story.
const WORKERS: [usize; 3] = [1, 2, 3];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let write = arguments.iter().any(|a| a == "--write");
    let wanted: Vec<&String> = arguments.iter().filter(|a| *a != "--write").collect();
    let all = stories::all();
    if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|s| s.name != ***name)) {
        eprintln!("there is no story '{unknown}'");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let mut faults = Vec::new();
    for story in all.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|name| *name == s.name)) {
        faults.extend(check(story, &root, write).into_iter().map(|f| format!("{}: {f}", story.name)));
    }
    if wanted.is_empty() {
        faults.extend(strangers(&root, &all));
        faults.extend(check_index(&root.join("README.md"), &index(&all), write));
    }
    for fault in &faults {
        println!("{fault}");
    }
    let done = if write { "written" } else { "compared" };
    println!("{} stories {done}, {} differences", all.len(), faults.len());
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong with a story or its folder.
fn check(story: &Story, root: &Path, write: bool) -> Vec<String> {
    for workers in WORKERS {
        let mut faults = judge::disagreements(story, workers);
        if !faults.is_empty() {
            faults.push(format!("(with {workers} workers)"));
            return faults;
        }
    }
    let path = root.join(story.name);
    let files = folder::files(story);
    let done = if write {
        folder::write(&path, &files).map(|()| Vec::new())
    } else {
        folder::differences(&path, &files)
    };
    done.unwrap_or_else(|error| vec![format!("{}: {error}", path.display())])
}

/// What is wrong with the table of contents.
fn check_index(path: &Path, text: &str, write: bool) -> Vec<String> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Vec::new();
    }
    if !write {
        return vec![format!("{} differs", path.display())];
    }
    let done = std::fs::write(path, text);
    done.err().map(|error| format!("{}: {error}", path.display())).into_iter().collect()
}

/// Folders that no story makes.
fn strangers(root: &Path, all: &[Story]) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let known = |name: &String| name == "README.md" || all.iter().any(|s| s.name == name.as_str());
    let mut strangers: Vec<String> = names.filter(|n| !known(n)).collect();
    strangers.sort();
    strangers.into_iter().map(|n| format!("{} is of no story", root.join(n).display())).collect()
}

/// The table of contents of `pcaps/`.
fn index(all: &[Story]) -> String {
    let mut text = String::from(
        "# Scenarios\n\n\
         Each folder is a configuration, what arrives (`PORT.in.pcap`), and what must come of it (`expected/`).\n\
         They are told packet by packet in `tools/scenarios/stories/`, from where\n\
         `cargo run --release --example scenarios -- --write` makes them. To run one:\n\n\
         ```sh\n\
         cd pcaps/hub-and-spoke-firewall\n\
         clearway replay $(cat replay.args) --out /tmp/out --expect expected/verdicts.jsonl\n\
         ```\n\n\
         | folder | what it shows |\n|---|---|\n",
    );
    for story in all {
        text.push_str(&format!("| [{0}]({0}/) | {1} |\n", story.name, story.sentence));
    }
    text
}
