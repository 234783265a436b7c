//! The house rules: which module may use which, where outside crates are at home, what the packet path must not do,
//! and that what the documents name is there. Every fault is a file, a line and a sentence.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::Use;

/// The modules from the ground up, each with those that it may use besides itself.
const FLOORS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("types", &[]),
    ("packet", &["types"]),
    ("wire", &["packet"]),
    ("table", &["sys", "types", "packet", "wire"]),
    ("bgp", &["types"]),
    ("model", &["types", "packet"]),
    ("compile", &["sys", "types", "packet", "wire", "table", "model"]),
    ("dataplane", &["sys", "types", "packet", "wire", "table", "model", "compile"]),
    ("io", &[]),
    ("bfd", &["types"]),
    ("runtime", &["sys", "types", "packet", "wire", "table", "model", "compile", "dataplane"]),
    ("observe", &["types", "packet", "wire", "table", "model", "compile", "dataplane", "runtime"]),
    (
        "live",
        &[
            "sys",
            "types",
            "packet",
            "wire",
            "table",
            "bgp",
            "model",
            "compile",
            "dataplane",
            "bfd",
            "observe",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "packet",
            "wire",
            "table",
            "model",
            "compile",
            "dataplane",
            "io",
            "runtime",
            "observe",
            "live",
        ],
    ),
];

/// Every crate we depend on, as code names it, and the only places that may use it.
const HOMES: &[(&str, &[&str])] = &[
    (
        "ahash",
        &[
            "src/table/",
            "src/compile/",
            "src/dataplane/",
            "src/runtime/",
            "src/observe/walk.rs",
            "src/live/",
            "benches/common/dataplane.rs",
            "benches/common/plain/",
        ],
    ),
    ("clap", &["src/cli/args.rs", "src/cli/args/", "src/cli/manual.rs"]),
    ("clap_complete", &["src/cli/manual.rs"]),
    ("clap_mangen", &["src/cli/manual.rs"]),
    ("crossbeam_channel", &["src/runtime/", "src/live/", "src/cli/run.rs"]),
    ("etherparse", &["src/wire/build.rs", "benches/common/plain/"]),
    ("flate2", &["src/io/", "src/model/tags.rs"]),
    ("glob", &["src/model/azure/globs.rs"]),
    ("hashbrown", &["src/compile/names.rs"]),
    ("indicatif", &["src/cli/progress.rs"]),
    ("libc", &["src/sys/"]),
    ("netlink_packet_core", &["src/live/kernel/"]),
    ("netlink_packet_route", &["src/live/kernel/"]),
    ("netlink_sys", &["src/live/kernel/"]),
    ("pnet_datalink", &["src/live/pnet.rs"]),
    ("prometheus_client", &["src/live/metrics.rs"]),
    ("ratatui", &["src/cli/top.rs"]),
    ("saphyr_parser", &["src/model/text.rs"]),
    ("sd_notify", &["src/live/service.rs"]),
    ("serde", &["src/observe/", "src/live/", "src/cli/"]),
    ("serde_json", &["src/observe/", "src/live/", "src/cli/"]),
    ("signal_hook", &["src/live/service.rs"]),
    ("tracing", &["src/live/", "src/cli/run.rs"]),
    ("tracing_subscriber", &["src/live/service.rs"]),
    ("treebitmap", &["src/table/prefix_map.rs", "benches/common/plain/"]),
];

/// Where a packet's way is made, and protocols that are told the time: these read no clock, roll no dice and touch nothing
/// outside.
const PATH: &[&str] = &["types", "packet", "wire", "table", "compile", "dataplane", "bgp", "bfd"];

/// Names that [`PATH`] does without.
const OUTSIDE: &[&str] = &[
    "std::time",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "Instant",
    "SystemTime",
    "RandomState::new",
    "RandomState::default",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
];

/// Lines of a file at most: what one can still hold in the head.
const LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the project, with their paths from its root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("readable Rust")));
            }
        }
    }
    found.sort();
    found
}

/// The module of `src/` that a file belongs to.
fn module_of(file: &str) -> Option<&str> {
    let name = file.strip_prefix("src/")?.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name)).filter(|m| !matches!(*m, "lib" | "main"))
}

/// What is wrong with one file of `src/`.
fn faults(file: &str, text: &str) -> Vec<String> {
    let code = source::code(text);
    let live = source::without_tests(&code);
    // A file of tests is named by its parent behind `#[cfg(test)]`, and names those below it.
    let of_tests = file.ends_with("/tests.rs") || file.contains("/tests/");
    let uses = if of_tests { Vec::new() } else { source::uses(&live) };
    let mut faults = Vec::new();
    let mut fault = |line: usize, sentence: String| faults.push(format!("{file}:{line}: {sentence}"));
    if let Some(module) = module_of(file) {
        let floor = FLOORS.iter().find(|(m, _)| *m == module);
        if floor.is_none() {
            fault(1, format!("the module {module} has no floor; give it one in tests/tidy.rs"));
        }
        for u in &uses {
            if let Some((_, allowed)) = floor {
                floors(file, module, allowed, u, &mut fault);
            }
            quiet(module, u, &live, &mut fault);
        }
    }
    for Use { line, name } in &source::uses(&code) {
        if let Some((outside, homes)) = HOMES.iter().find(|(c, _)| is_in(name, c))
            && !homes.iter().any(|home| file.starts_with(home))
        {
            fault(*line, format!("the crate {outside} is at home in {} only", homes.join(", ")));
        }
        if name == "unsafe" && !file.starts_with("src/sys/") {
            fault(*line, "unsafe code stands in src/sys only".to_owned());
        }
    }
    faults
}

/// True if a name is this path or lies in it.
fn is_in(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn floors(file: &str, module: &str, allowed: &[&str], u: &Use, fault: &mut impl FnMut(usize, String)) {
    let mut segments = u.name.split("::");
    let other = match segments.next() {
        Some("crate") => segments.next(),
        Some("super") => {
            let supers = 1 + segments.by_ref().take_while(|s| *s == "super").count();
            let depth = file.trim_end_matches("/mod.rs").trim_end_matches(".rs").matches('/').count();
            if supers >= depth {
                fault(u.line, format!("{} leaves the module {module}; write crate::", u.name));
            }
            return;
        }
        _ => return,
    };
    if let Some(other) = other.filter(|o| *o != module && !allowed.contains(o)) {
        let may = if allowed.is_empty() { "no other module".to_owned() } else { allowed.join(", ") };
        fault(u.line, format!("{module} must not use {other}; it may use {may}"));
    }
}

/// What the way of a packet must not do, and what no code does.
fn quiet(module: &str, u: &Use, code: &str, fault: &mut impl FnMut(usize, String)) {
    let name = u.name.as_str();
    if PATH.contains(&module) {
        if let Some(banned) = OUTSIDE.iter().find(|b| is_in(name, b) || name.ends_with(&format!("::{b}"))) {
            fault(u.line, format!("{module} has no clock, no randomness, no lock and no I/O: {banned}"));
        }
        // What is asserted of constants the compiler sees to.
        let constant = code.lines().nth(u.line - 1).is_some_and(|l| l.trim_start().starts_with("const "));
        if matches!(name, "panic!" | "assert!" | "assert_eq!" | "assert_ne!") && !constant {
            fault(u.line, format!("{name} could end {module}; give a reason, or debug_assert!"));
        }
    }
    if matches!(name, ".unwrap(" | ".expect(" | ".unwrap_err(" | ".expect_err(") {
        fault(u.line, format!("{name}) panics; handle the other case or say unreachable!(\"why\")"));
    }
    if matches!(name, "todo!" | "unimplemented!" | "dbg!") {
        fault(u.line, format!("{name} is for work in progress"));
    }
    let said = |line: &str| line.contains("unreachable!(\"") || line.trim_end().ends_with("unreachable!(");
    if name == "unreachable!" && !code.lines().nth(u.line - 1).is_some_and(said) {
        fault(u.line, "unreachable! needs a sentence that says why".to_owned());
    }
}

/// What is wrong with any Rust file of ours.
fn shape(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//! ") && !text.starts_with("#![doc") {
        faults.push(format!("{file}:1: the first line says in //! what the file is for"));
    }
    let lines = text.lines().count();
    if lines > LINES {
        faults.push(format!("{file}:{LINES}: {lines} lines; split it, at most {LINES} are kept in one file"));
    }
    faults
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn modules_keep_to_their_floors_and_crates_to_their_homes() {
    let all = ["src", "benches"].into_iter().flat_map(rust_files);
    none(all.flat_map(|(file, text)| faults(&file, &text)).collect());
}

#[test]
fn files_begin_with_what_they_are_for_and_end_in_time() {
    let all = ["src", "tests", "benches", "tools"].into_iter().flat_map(rust_files);
    none(all.flat_map(|(file, text)| shape(&file, &text)).collect());
}

#[test]
fn every_dependency_has_a_home_and_every_home_its_guest() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
    let named = section.lines().take_while(|l| !l.starts_with('[')).filter_map(|l| l.split_once(" = "));
    let named: Vec<String> = named.map(|(name, _)| name.replace('-', "_")).collect();
    let mut faults = Vec::new();
    for name in named.iter().filter(|n| HOMES.iter().all(|(c, _)| c != n)) {
        faults.push(format!("Cargo.toml: the crate {name} has no home; give it one in tests/tidy.rs"));
    }
    let sources: Vec<_> = ["src", "benches"].into_iter().flat_map(rust_files).collect();
    for (guest, homes) in HOMES {
        for home in *homes {
            let lives = |(file, text): &(String, String)| {
                file.starts_with(home)
                    && source::uses(&source::code(text)).iter().any(|u| is_in(&u.name, guest))
            };
            if !sources.iter().any(lives) {
                faults.push(format!("tests/tidy.rs: {home} does not use {guest}; take the home away"));
            }
        }
    }
    none(faults);
}

#[test]
fn planted_faults_are_found() {
    let cases = [
        ("src/wire/gre.rs", "use crate::model::Model;", "wire must not use model"),
        ("src/dataplane/flow.rs", "use crate::{io::Merge, wire};", "dataplane must not use io"),
        ("src/io/pcap.rs", "fn f(p: crate::packet::Reason) {}", "io must not use packet"),
        ("src/model/azure/globs.rs", "use super::super::super::wire;", "write crate::"),
        ("src/wire/gre.rs", "use super::super::model;", "write crate::"),
        ("src/sys2/mod.rs", "use std::fmt;", "has no floor"),
        ("src/compile/build.rs", "use treebitmap::IpLookupTable;", "at home in src/table/prefix_map.rs, "),
        ("src/cli/replay.rs", "#[derive(clap::Args)]", "at home in src/cli/args.rs, "),
        ("src/dataplane/emit.rs", "let t = std::time::Instant::now();", "no clock"),
        ("src/table/flows.rs", "use std::{fmt, io::Write};", "no clock"),
        ("src/wire/ip.rs", "println!(\"{}\", 1)", "no clock"),
        ("src/compile/build.rs", "ahash::RandomState::new()", "no clock"),
        ("src/packet/reason.rs", "unsafe { f() }", "src/sys only"),
        ("src/runtime/worker.rs", "x.unwrap()", ".unwrap() panics"),
        ("src/table/lpm.rs", "panic!(\"so what\")", "could end table"),
        ("src/cli/mod.rs", "unreachable!()", "needs a sentence"),
    ];
    for (file, code, sentence) in cases {
        let found = faults(file, &format!("//! A file.\n{code}\n"));
        let expected =
            found.len() == 1 && found[0].starts_with(&format!("{file}:")) && found[0].contains(sentence);
        assert!(expected, "{file}: {code}: {found:?}");
    }
    let fine = "//! Uses std::fs::read and x.unwrap().\nconst A: &str = \"crate::model panic!()\"; // println!\n\
                use super::checksum;\nuse crate::packet::Reason;\nfn f() { unreachable!(\"a reason\") }\n\
                #[cfg(test)]\nmod tests {\n    use crate::model::Model;\n    fn f() { x.unwrap(); }\n}\n";
    assert_eq!(faults("src/wire/gre.rs", fine), [""; 0]);
    assert_eq!(shape("src/a.rs", "// A file.\n").len(), 1);
    assert_eq!(shape("src/a.rs", &format!("//! A file.\n{}", "\n".repeat(LINES))).len(), 1);
}
