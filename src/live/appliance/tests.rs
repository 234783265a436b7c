//! The appliance itself, without ports: a model that has none needs no device and no privilege.

use std::fs;
use std::process::Command;

use super::*;

fn appliance(configuration: PathBuf) -> Arc<Appliance> {
    let settings = Settings { configuration, files: Files::default(), workers: 2, flow_logs: None };
    Appliance::start(Model::default(), settings).unwrap()
}

#[test]
fn all_else_goes_on_while_a_reload_reads() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("config.yaml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let appliance = appliance(pipe.clone());
    let reloads: Vec<_> = (0..2)
        .map(|_| {
            let appliance = appliance.clone();
            std::thread::spawn(move || appliance.reload())
        })
        .collect();
    // Opened for writing once somebody reads: one of the two, which then waits for what is to come.
    let reader = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    assert!(reloads.iter().all(|r| !r.is_finished()));
    assert_eq!(appliance.look_after(), Ok(()));
    assert!(appliance.is_ready());
    assert_eq!((appliance.snapshot().generation, appliance.snapshot().reloads), (1, (0, 0)));
    assert!(appliance.flows(&FlowsWanted { most: 9, ..FlowsWanted::default() }).is_empty());
    assert!(reloads.iter().all(|r| !r.is_finished()));
    // They come one after the other, and are refused.
    drop(reader);
    while appliance.snapshot().reloads != (0, 1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    assert!(reloads.into_iter().all(|r| r.join().unwrap().is_err()));
    assert_eq!((appliance.snapshot().generation, appliance.snapshot().reloads), (1, (0, 2)));
    assert!(appliance.stop());
}
