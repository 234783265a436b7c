//! Runs every committed fuzz input, findings of the past among them, through its target.

mod fuzz;
#[allow(dead_code, reason = "most of it is for other tests")]
mod oracle;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for target in &fuzz::TARGETS {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(target.name)).expect("a folder for each target") {
            let path = entry.expect("an entry").path();
            // Shown only if the target panics.
            println!("{}", path.display());
            (target.run)(&std::fs::read(&path).expect("an input"));
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs for {}", target.name);
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        let name = entry.expect("an entry").file_name();
        assert!(fuzz::TARGETS.iter().any(|t| name == t.name), "{}", name.display());
    }
}
