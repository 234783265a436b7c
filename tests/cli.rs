//! The command as a user meets it: what it prints, what it writes, and how it ends.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/replay.rs"]
mod replay;
#[cfg(target_os = "linux")]
#[path = "cli/running.rs"]
mod running;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/support.rs"]
mod support;

use support::clearway;

#[test]
fn help_teaches_and_unknown_words_have_neighbours() {
    let help = clearway(["--help"]);
    assert_eq!(help.status, 0);
    for word in ["check", "replay", "explain", "routes", "rules", "bench", "Exit status", "verdicts.jsonl"] {
        assert!(help.stdout.contains(word), "{word} in {}", help.stdout);
    }
    for command in ["check", "replay", "explain", "routes", "rules"] {
        let help = clearway(["help", command]);
        assert!(help.status == 0 && help.stdout.contains("Example"), "{}", help.stdout);
        assert!(help.stdout.contains("pcaps/hub-and-spoke-firewall"), "{}", help.stdout);
    }
    #[cfg(target_os = "linux")]
    for command in ["counters", "flows", "capture", "reload", "top"] {
        let help = clearway(["help", command]);
        assert!(help.status == 0 && help.stdout.contains("Example:\n  clearway "), "{}", help.stdout);
        assert!(help.stdout.contains("Exit status: 0 "), "{}", help.stdout);
    }
    assert!(clearway(["--version"]).stdout.starts_with("clearway 0."));
    let unknown = clearway(["replay", "x.yaml", "--in", "a=b", "--out", "c", "--anotate"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("'--annotate'"), "{}", unknown.stderr);
    let unknown = clearway(["chekc", "x.yaml"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("'check'"), "{}", unknown.stderr);
    assert_eq!(clearway(["diff"]).status, 2);
    assert_eq!(clearway([""; 0]).status, 2);
}

#[test]
fn the_examples_of_the_help_work() {
    let folder = support::Folder::new();
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/pcaps"), folder.path("pcaps")).unwrap();
    let mut run = 0;
    for command in ["", "check", "replay", "explain", "routes", "rules"] {
        let help = if command.is_empty() { clearway(["--help"]) } else { clearway(["help", command]) };
        let text = help.stdout.replace("\\\n", " ");
        for example in text.lines().filter_map(|l| l.trim().strip_prefix("clearway ")) {
            if example.contains("pcaps/") {
                folder.run(example).expect(0);
                run += 1;
            }
        }
    }
    assert_eq!(run, 7);
}
