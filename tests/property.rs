//! The oracle against the packet path, on generated configurations and traffic.
//!
//! The long run: `CLEARWAY_PROPERTY_CONFIGS=2000 CLEARWAY_PROPERTY_PACKETS=500 cargo nextest run --release
//! --no-capture -E 'test(property)'`. `CLEARWAY_PROPERTY_SEED` is the first seed, to repeat a case.

mod oracle;

use std::collections::BTreeMap;
use std::fs;

use clearway::packet::Reason;
use oracle::compare::{self, Case, Run};
use oracle::generate::yaml;

fn setting(name: &str, unsaid: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number would be right")),
        Err(_) => unsaid,
    }
}

/// A folder that holds the file of service tags which generated configurations name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the service tags");
    fs::write(folder.path().join("ServiceTags.json"), yaml::TAGS).expect("the service tags can be written");
    folder
}

/// What happened in all runs.
#[derive(Default)]
struct Tally {
    packets: usize,
    forwarded: usize,
    flows: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<Reason, usize>,
    generated: BTreeMap<&'static str, usize>,
    hops: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, run: &Run) {
        for record in &run.records {
            self.packets += 1;
            *self.flows.entry(record.flow.name()).or_default() += 1;
            match record.verdict.reason() {
                Some(reason) => *self.reasons.entry(reason).or_default() += 1,
                None => self.forwarded += 1,
            }
            if let Some(kind) = record.generated {
                *self.generated.entry(kind.name()).or_default() += 1;
            }
            if let Some(hop) = &record.next_hop_type {
                *self.hops.entry(hop.clone()).or_default() += 1;
            }
        }
    }

    fn print(&self, configurations: u64) {
        println!("{} packets, {configurations} configurations, {} forwarded", self.packets, self.forwarded);
        println!("flows {:?}, generated {:?}, next hops {:?}", self.flows, self.generated, self.hops);
        for reason in Reason::ALL {
            println!("{:8} {}", self.reasons.get(reason).copied().unwrap_or(0), reason.name());
        }
    }
}

#[test]
fn property_path_agrees_with_oracle() {
    let folder = folder();
    let configurations = setting("CLEARWAY_PROPERTY_CONFIGS", 60);
    let packets = setting("CLEARWAY_PROPERTY_PACKETS", 340) as usize;
    let first = setting("CLEARWAY_PROPERTY_SEED", 1);
    let mut tally = Tally::default();
    for seed in first..first + configurations {
        let case = Case::new(seed, packets, folder.path());
        let run = compare::check(&case, 1);
        compare::check(&case, 2);
        tally.add(&run);
    }
    tally.print(configurations);
}

#[test]
fn property_traffic_produces_every_reason() {
    let folder = folder();
    let mut tally = Tally::default();
    for seed in 1..=120 {
        let case = Case::new(seed, 400, folder.path());
        tally.add(&compare::oracle(&case.models, case.swap, &case.packets));
    }
    tally.print(120);
    let missing: Vec<&str> =
        Reason::ALL.iter().filter(|r| !tally.reasons.contains_key(r)).map(|r| r.name()).collect();
    assert!(missing.is_empty(), "no generated packet ends with {}", missing.join(", "));
}

#[test]
fn zz_refusals() {
    use oracle::generate::{Rng, change::change, plan::Plan};
    let folder = folder();
    let mut kinds: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut bad = 0;
    for seed in 1..=600 {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(rng.next());
        let second = change(&plan, &mut rng);
        for (n, p) in [plan, second].iter().enumerate() {
            let text = yaml::render(p, "ServiceTags.json");
            if let Err(faults) = clearway::model::from_bytes("g.yaml", text.as_bytes(), Some(folder.path())) {
                bad += 1;
                for f in faults {
                    let line = text.lines().nth(f.line.saturating_sub(1) as usize).unwrap_or("");
                    let e = kinds
                        .entry(
                            f.message
                                .split(|c: char| c.is_ascii_digit() || c == '\'')
                                .step_by(2)
                                .take(3)
                                .collect(),
                        )
                        .or_insert((0, format!("seed {seed}.{n} {f} :: {line}")));
                    e.0 += 1;
                }
            }
        }
    }
    println!("{bad} refused");
    for (k, (n, e)) in kinds {
        println!("{n} {k}\n      {e}");
    }
}
