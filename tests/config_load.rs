//! The contract's example, in every shape that Azure's tools print it in.

use clearway::model::{self, Model};

const EXAMPLE: &str = include_str!("data/contract-example.yaml");

fn accept(name: &str, text: &str) -> Model {
    match model::from_bytes(name, text.as_bytes(), None) {
        Ok(model) => model,
        Err(faults) => panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>()),
    }
}

#[test]
fn accepts_the_example_of_the_contract() {
    let model = accept("example.yaml", EXAMPLE);
    assert_eq!(model.warnings, []);
}
