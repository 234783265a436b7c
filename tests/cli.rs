//! The command as a user meets it: what it prints, what it writes, and how it ends.

#[path = "cli/check.rs"]
mod check;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/support.rs"]
mod support;

use support::clearway;

#[test]
fn help_teaches_and_unknown_words_have_neighbours() {
    let help = clearway(["--help"]);
    assert_eq!(help.status, 0);
    for word in ["check", "replay", "explain", "routes", "rules", "Exit status", "verdicts.jsonl"] {
        assert!(help.stdout.contains(word), "{word} in {}", help.stdout);
    }
    for command in ["check", "replay", "explain", "routes", "rules"] {
        let help = clearway(["help", command]);
        assert!(help.status == 0 && help.stdout.contains("Example"), "{}", help.stdout);
        assert!(help.stdout.contains("pcaps/hub-and-spoke-firewall"), "{}", help.stdout);
    }
    assert!(clearway(["--version"]).stdout.starts_with("clearway 0."));
    let unknown = clearway(["replay", "x.yaml", "--in", "a=b", "--out", "c", "--anotate"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("'--annotate'"), "{}", unknown.stderr);
    let unknown = clearway(["chekc", "x.yaml"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("'check'"), "{}", unknown.stderr);
    for later in ["bench", "run", "diff"] {
        assert_eq!(clearway([later]).status, 2, "{later}");
    }
    assert_eq!(clearway([""; 0]).status, 2);
}
