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
use oracle::seen;

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
    corners: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn add(&mut self, run: &Run) {
        for (corner, count) in seen::take() {
            *self.corners.entry(corner).or_default() += count;
        }
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
        for corner in seen::CORNERS {
            println!("{:8} {corner}", self.corners.get(corner).copied().unwrap_or(0));
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
        tally.add(&case.oracle(&case.packets));
    }
    tally.print(120);
    let missing: Vec<&str> =
        Reason::ALL.iter().filter(|r| !tally.reasons.contains_key(r)).map(|r| r.name()).collect();
    assert!(missing.is_empty(), "no generated packet ends with {}", missing.join(", "));
    let missing: Vec<&str> =
        seen::CORNERS.iter().filter(|c| !tally.corners.contains_key(*c)).copied().collect();
    assert!(missing.is_empty(), "no generated packet comes past {}", missing.join(", "));
}
