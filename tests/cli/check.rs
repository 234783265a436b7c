//! `check`.

use super::support::{EXAMPLE, Folder};

#[test]
fn accepts_the_contracts_example() {
    let folder = Folder::with_example();
    let ran = folder.run("check config.yaml").expect(0);
    assert!(ran.stdout.starts_with("config.yaml: accepted\n"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
    let row = |words: &str| {
        let has = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(words);
        assert!(ran.stdout.lines().any(has), "{words} in {}", ran.stdout);
    };
    row("customers 1");
    row("VNets 2");
    row("rules 7 1 user-defined, 6 default");
    row("tunnels 6");
    // The port's MTU of 1,600 without the outer IPv4 header and GRE with a key; 1,500 on the others.
    row("contoso vnet hub fabric gre 0xa01 2 hosts 1572");
    row("contoso circuit er1 AzurePrivatePeering secondary edge-b gre 0xc02 192.0.2.6 1472");
    row("contoso connection s2s-1 internet gre 0xd01 203.0.113.77 1472");
}

#[test]
fn says_the_same_as_json() {
    let folder = Folder::with_example();
    let ran = folder.run("check config.yaml --json").expect(0);
    let document = ran.json();
    assert_eq!(document["accepted"], true);
    assert_eq!(document["virtualNetworks"], 2);
    assert_eq!(document["tunnels"][0]["innerMtu"], 1572);
    assert_eq!(document["tunnels"][0]["key"], 0xa01);
    assert!(document["routes"]["active"].as_u64().unwrap() > 10);
    assert!(document["memoryBytes"].as_u64().unwrap() > 1000);
}

#[test]
fn every_fault_at_once_each_with_its_place() {
    let bad = EXAMPLE
        .replace("role: fabric,", "role: fabirc,")
        .replace("priority: 200", "priority: 20")
        .replace("10.2.0.0/24", "10.3.0.0/24")
        .replace("key: 0xc02", "key: seven");
    let folder = Folder::new().file("bad.yaml", &bad);
    let ran = folder.run("check bad.yaml").expect(2);
    assert_eq!(ran.stdout, "");
    let faults: Vec<&str> = ran.stderr.lines().collect();
    assert!(faults.len() >= 5, "{}", ran.stderr);
    let (last, faults) = faults.split_last().unwrap();
    for fault in faults {
        assert!(fault.starts_with("bad.yaml:") && fault.contains(": error: "), "{fault}");
    }
    assert!(ran.stderr.contains("bad.yaml:3:20: error: 'fabirc': "), "{}", ran.stderr);
    assert_eq!(*last, format!("bad.yaml: refused: {} errors", faults.len()));

    let ran = folder.run("check bad.yaml --json").expect(2);
    let document = ran.json();
    assert_eq!(document["accepted"], false);
    let listed = document["faults"].as_array().unwrap();
    assert_eq!(listed.len(), faults.len());
    assert_eq!(listed[0]["value"], "fabirc");
    assert_eq!((&listed[0]["line"], &listed[0]["column"]), (&3.into(), &20.into()));
    assert!(ran.stderr.contains("'fabirc'"));
}

#[test]
fn warnings_do_not_refuse() {
    let warned = EXAMPLE.replace("addressPrefix: 0.0.0.0/0", "addressPrefix: 168.63.129.16/32");
    let folder = Folder::new().file("warned.yaml", warned);
    let ran = folder.run("check warned.yaml").expect(0);
    assert!(ran.stderr.starts_with("warned.yaml:") && ran.stderr.contains(": warning: "), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("warned.yaml: accepted with 1 warning"), "{}", ran.stdout);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = Folder::new().file("not.yaml", "a: [");
    for name in ["missing.yaml", "not.yaml", "."] {
        let ran = folder.run(&format!("check {name}")).expect(2);
        assert!(ran.stderr.starts_with(&format!("{name}:")), "{}", ran.stderr);
    }
}
