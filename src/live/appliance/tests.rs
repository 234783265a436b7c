//! The appliance itself, without ports: a model that has none needs no device and no privilege.

use std::fs;
use std::process::Command;

use super::*;
use crate::live::circuits::spec::specs;
use crate::model;
use crate::sys::own_names;

fn start(model: Model, configuration: PathBuf) -> Result<Arc<Appliance>, NoStart> {
    let settings = Settings {
        configuration,
        files: Files::default(),
        workers: 2,
        flow_logs: None,
        meters: Default::default(),
    };
    Appliance::start(model, settings)
}

fn appliance(configuration: PathBuf) -> Arc<Appliance> {
    start(Model::default(), configuration).unwrap()
}

/// A configuration with one port on this device.
fn with_device(device: &str) -> String {
    format!(
        "apiVersion: clearway/v1\nports: {{fabric: {{role: fabric, address: 198.51.100.2{device}}}}}\ncustomers: []\n"
    )
}

#[test]
fn a_device_may_come_late_but_a_change_names_one_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let read = |text: &str| model::from_bytes("config.yaml", text.as_bytes(), None).unwrap();
    let late = with_device(", device: nosuch0");
    let appliance = start(read(&late), config.clone()).unwrap();
    assert!(!appliance.is_ready());
    assert_eq!(appliance.look_after(), Ok(()));
    // Others may change beside it; another that is not there is more likely misspelt.
    fs::write(&config, &late).unwrap();
    assert_eq!(appliance.reload().map(|r| r.generation), Ok(2));
    fs::write(&config, with_device(", device: nosuch1")).unwrap();
    let sentences = appliance.reload().unwrap_err();
    assert!(
        sentences[0].starts_with("port 'fabric': there is no network device 'nosuch1' here; "),
        "{sentences:?}"
    );
    assert_eq!(appliance.snapshot().generation, 2);
    assert!(appliance.stop());
    // No device at all is a fault of the configuration, not of the machine.
    match start(read(&with_device("")), config).map(drop) {
        Err(NoStart::Configuration(why)) => {
            assert!(why[0].starts_with("port 'fabric' has no device; "), "{why:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reload_is_refused_for_what_a_circuit_has_learned() {
    const CONFIGURATION: &str = "\
apiVersion: clearway/v1
ports: {e: {role: edge, address: 192.0.2.1, device: nosuch0}}
customers:
  - name: contoso
    expressRouteCircuits:
      - name: er
        sku: {tier: Premium}
        peerings: [{name: AzurePrivatePeering, peerASN: 65001, primaryPeerAddressPrefix: 192.168.255.0/30}]
    tunnels: [{circuit: er, link: primary, port: e, remote: 192.0.2.2, key: 1}]
";
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    // If it were not, its link would be where nobody sees it.
    own_names();
    let appliance = appliance(config.clone());
    let premium = model::from_bytes("config.yaml", CONFIGURATION.as_bytes(), None).unwrap();
    let key = specs(&premium)[0].key.clone();
    appliance.circuits.pretend(&premium, &key, 4001);
    lock(&appliance.control).base = Arc::new(premium);
    let refused = |text: &str| {
        fs::write(&config, text).unwrap();
        appliance.reload().unwrap_err()
    };
    let sentences = refused(&CONFIGURATION.replace("Premium", "Standard"));
    let sentence = "customer 'contoso': circuit 'er', AzurePrivatePeering, primary link: sku.tier cannot change to Standard";
    assert!(sentences.len() == 1 && sentences[0].starts_with(sentence), "{sentences:?}");
    // Another change is not; only the device is missing.
    let sentences = refused(&CONFIGURATION.replace("nosuch0", "nosuch1"));
    assert!(sentences.len() == 1 && sentences[0].contains("'nosuch1'"), "{sentences:?}");
    assert_eq!((appliance.snapshot().generation, appliance.snapshot().reloads), (1, (0, 2)));
    assert!(appliance.stop());
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
    assert!(appliance.flows(&FlowsWanted { most: 9, ..FlowsWanted::default() }).flows.is_empty());
    // Nor does what circuits learn, such as that a link is down, wait for slow files.
    let follower = appliance.clone();
    let follows = std::thread::spawn(move || follower.follow_circuits());
    let until = Instant::now() + Duration::from_secs(10);
    while !follows.is_finished() {
        assert!(Instant::now() < until, "it waits for the reload");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(appliance.snapshot().generation, 2);
    assert!(reloads.iter().all(|r| !r.is_finished()));
    // They come one after the other, and are refused.
    drop(reader);
    while appliance.snapshot().reloads != (0, 1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    assert!(reloads.into_iter().all(|r| r.join().unwrap().is_err()));
    assert_eq!((appliance.snapshot().generation, appliance.snapshot().reloads), (2, (0, 2)));
    assert!(appliance.stop());
}

#[test]
fn a_worker_that_panics_is_told_of_and_the_others_end_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let appliance = appliance(folder.path().join("config.yaml"));
    assert_eq!(appliance.look_after(), Ok(()));
    appliance.workers[1].tell(Order::Do(|| panic!("nobody has thought of {}", "this")));
    let why = loop {
        match appliance.look_after() {
            Ok(()) => std::thread::sleep(Duration::from_millis(5)),
            Err(why) => break why,
        }
    };
    assert_eq!(why, "worker 1 stopped: nobody has thought of this");
    // Who asks is still answered, as far as there is somebody, and told what is missing.
    let found = appliance.flows(&FlowsWanted { most: 9, ..FlowsWanted::default() });
    assert!(found.flows.is_empty() && !found.complete);
    assert!(appliance.stop());
}

#[test]
fn nothing_is_put_in_force_once_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, "apiVersion: clearway/v1\nports: {}\ncustomers: []\n").unwrap();
    let appliance = appliance(config);
    assert_eq!(appliance.reload().map(|r| r.generation), Ok(2));
    assert!(appliance.stop());
    appliance.follow_circuits();
    assert_eq!(appliance.reload(), Err(vec!["the appliance stops".to_owned()]));
    assert_eq!(appliance.snapshot().generation, 2);
}
