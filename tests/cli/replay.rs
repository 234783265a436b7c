//! `replay`.

use std::io::Read;
use std::process::{Command, Stdio};

use clearway::io::Capture;
use clearway::io::write::record_header;
use clearway::wire::build::{self, Transport};

use super::support::{EXAMPLE, Folder, ip, pcap, segment, syn, syns};

const RUN: &str = "replay config.yaml --in fabric=in.pcap --out out";

fn folder() -> Folder {
    Folder::with_example().file("in.pcap", syns(3))
}

#[test]
fn writes_verdicts_captures_and_a_summary() {
    let folder = folder();
    let ran = folder.run(RUN).expect(0);
    assert_eq!(ran.stderr, "");
    let names = [
        "edge-a.pcap",
        "edge-b.pcap",
        "fabric.pcap",
        "internet.pcap",
        "meters.json",
        "summary.json",
        "verdicts.jsonl",
    ];
    assert_eq!(folder.names("out"), names);
    let nothing = r#"{"in": {"packets": 0, "bytes": 0}, "out": {"packets": 0, "bytes": 0}}"#;
    let links = format!(r#"{{"primary": {nothing}, "secondary": {nothing}}}"#);
    let meters = format!("{{\"contoso\": {{\"er1\": {{\"AzurePrivatePeering\": {links}}}}}}}\n");
    assert_eq!(folder.text("out/meters.json"), meters);
    let verdicts = folder.text("out/verdicts.jsonl");
    assert_eq!(verdicts.lines().count(), 3);
    let first = r#"{"packet": 1, "time": "1542110402.000001", "port": "fabric", "customer": "contoso", "vnet": "hub", "verdict": "forward", "reason": null, "flow": "new", "rule": "DefaultRule_AllowVnetOutBound", "nextHopType": "VirtualAppliance", "routePrefix": "0.0.0.0/0", "egressPort": "fabric", "egressRemote": "198.51.100.12", "egressKey": 2561}"#;
    assert_eq!(verdicts.lines().next(), Some(first));
    let summary = r#"{"packets": 3, "forwarded": 3, "dropped": {}, "punted": {}, "generated": {"time-exceeded": 0, "fragmentation-needed": 0, "packet-too-big": 0}, "ports": {"fabric": {"in": 3, "out": 3}, "edge-a": {"in": 0, "out": 0}, "edge-b": {"in": 0, "out": 0}, "internet": {"in": 0, "out": 0}}, "flows": {"opened": 3, "live": 3}}"#;
    assert_eq!(folder.text("out/summary.json"), format!("{summary}\n"));
    assert!(ran.stdout.starts_with("packets       3\nforwarded     3\n"), "{}", ran.stdout);
    assert_eq!(folder.read("out/edge-a.pcap").len(), 24);
    let mut capture = Capture::open(folder.path("out/fabric.pcap").to_str().unwrap()).unwrap();
    assert!(!capture.nanosecond());
    assert_eq!(capture.next().unwrap().unwrap().time, 1_542_110_402_000_001_000);

    let ran = folder.run(&format!("{RUN} --json --no-verdicts")).expect(0);
    assert_eq!(ran.stdout, format!("{summary}\n"));
    ran.json();
}

#[test]
fn results_are_the_same_for_any_number_of_workers() {
    let frames: Vec<_> = (0..5000u64)
        .map(|n| {
            let source = format!("10.1.0.{}", 4 + n % 90);
            let to = (["93.184.216.34", "10.2.0.7", "192.168.3.4", "10.1.0.9"][n as usize % 4], 443);
            (n * 1_000_000, segment("198.51.100.11", 0xa01, (&source, n as u16), to, 2))
        })
        .collect();
    let folder = Folder::with_example().file("in.pcap", pcap(false, &frames));
    for n in 1..=3 {
        let words = format!("replay config.yaml --in fabric=in.pcap --out out{n} --workers {n} --annotate");
        folder.run(&words).expect(0);
    }
    assert_eq!(folder.names("out1").len(), 8);
    for name in folder.names("out1") {
        let first = folder.read(&format!("out1/{name}"));
        for n in 2..=3 {
            assert!(first == folder.read(&format!("out{n}/{name}")), "{name} with {n} workers");
        }
    }
}

#[test]
fn annotates_with_the_verdict_lines() {
    let folder = folder();
    folder.run(&format!("{RUN} --annotate")).expect(0);
    let annotated = folder.read("out/annotated.pcapng");
    for line in folder.text("out/verdicts.jsonl").lines() {
        assert!(annotated.windows(line.len()).any(|w| w == line.as_bytes()), "{line}");
    }
    let mut capture = Capture::from_bytes("annotated", annotated).unwrap();
    assert_eq!(capture.next().unwrap().unwrap().captured, syn(0));
}

#[test]
fn nanoseconds_of_any_input_are_kept() {
    let fine = pcap(true, &[(5_000_000_001, syn(1))]);
    let folder = folder().file("fine.pcap", fine).file("none.pcap", pcap(true, &[]));
    folder.run("replay config.yaml --in fabric=fine.pcap --out a").expect(0);
    folder.run("replay config.yaml --in fabric=in.pcap --in internet=none.pcap --out b").expect(0);
    for (path, time) in [("a/fabric.pcap", 5_000_000_001), ("b/fabric.pcap", 1_542_110_402_000_001_000)] {
        let mut capture = Capture::open(folder.path(path).to_str().unwrap()).unwrap();
        assert!(capture.nanosecond(), "{path}");
        assert_eq!(capture.next().unwrap().unwrap().time, time);
    }
    assert!(folder.text("a/verdicts.jsonl").contains(r#""time": "5.000000001""#));
    assert!(folder.text("b/verdicts.jsonl").contains(r#""time": "1542110402.000001""#));
}

#[test]
fn compares_with_what_was_expected() {
    let folder = folder()
        .file("same.jsonl", "{\"packet\": 2, \"verdict\": \"forward\", \"egressKey\": 2561}\n")
        .file("other.jsonl", "{\"packet\": 2, \"verdict\": \"drop\", \"rule\": null}\n{\"packet\": 9}\n")
        .file("no.jsonl", "{\"packet\": 1}\nverdict\n")
        .file("nameless.jsonl", "{\"verdict\": \"drop\"}");
    let ran = folder.run(&format!("{RUN} --expect same.jsonl")).expect(0);
    assert!(ran.stdout.ends_with("as expected: 1 lines of same.jsonl compared\n"), "{}", ran.stdout);
    folder.run("replay config.yaml --in fabric=in.pcap --out again --expect out/verdicts.jsonl").expect(0);
    for more in ["", " --no-verdicts"] {
        let ran = folder.run(&format!("{RUN} --expect other.jsonl{more}")).expect(1);
        for line in [
            "packet 2: verdict: expected drop, got forward",
            "packet 2: rule: expected null, got DefaultRule_AllowVnetOutBound",
            "packet 9: expected, but does not occur: there are 3 packets",
            "3 differences from other.jsonl",
        ] {
            assert!(ran.stdout.lines().any(|l| l == line), "{line} in {}", ran.stdout);
        }
    }
    let ran = folder.run(&format!("{RUN} --expect other.jsonl --json")).expect(1);
    assert_eq!(ran.json()["packets"], 3);
    assert!(ran.stderr.contains("packet 2: verdict: expected drop, got forward"));
    for (name, place) in
        [("no.jsonl", "no.jsonl:2: is not JSON"), ("nameless.jsonl", "nameless.jsonl:1: has no")]
    {
        let ran = folder.run(&format!("replay config.yaml --in fabric=in.pcap --out new --expect {name}"));
        let ran = ran.expect(2);
        assert!(ran.stderr.contains(place), "{}", ran.stderr);
    }
    let ran = folder.run(&format!("{RUN} --expect missing.jsonl")).expect(2);
    assert!(ran.stderr.contains("missing.jsonl: cannot be read"), "{}", ran.stderr);
    assert_eq!(folder.names("new"), [""; 0]);
}

#[test]
fn another_configuration_comes_into_force() {
    let swapped = EXAMPLE
        .replace("disableBgpRoutePropagation: false", "disableBgpRoutePropagation: true")
        .replace("nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4", "nextHopType: None");
    let folder = folder().file("new.yaml", &swapped).file("bad.yaml", "ports: 7").file(
        "less.yaml",
        EXAMPLE.replace("port: fabric,", "port: fabrik,").replace("  fabric: ", "  fabrik: "),
    );
    folder.run(&format!("{RUN} --swap 0.0015=new.yaml")).expect(0);
    let verdicts = folder.text("out/verdicts.jsonl");
    let reasons: Vec<bool> = verdicts.lines().map(|l| l.contains("route-none")).collect();
    assert_eq!(reasons, [false, false, true]);
    let ran = folder.run(&format!("{RUN} --swap 1=bad.yaml")).expect(2);
    assert!(ran.stderr.contains("bad.yaml:1:"), "{}", ran.stderr);
    let ran = folder.run(&format!("{RUN} --swap 1=less.yaml --swap x=new.yaml")).expect(2);
    assert!(ran.stderr.contains("'x' is no number of seconds"), "{}", ran.stderr);
    let ran = folder.run(&format!("{RUN} --swap 1=less.yaml")).expect(2);
    assert!(ran.stderr.contains("no such port in less.yaml; did you mean 'fabrik'?"), "{}", ran.stderr);
}

#[test]
fn a_circuit_in_use_does_not_shrink() {
    let with = |text: &str| EXAMPLE.replace("bandwidthInMbps: 1000", text);
    let folder = folder()
        .file("less.yaml", with("bandwidthInMbps: 500"))
        .file("more.yaml", with("bandwidthInMbps: 2000"))
        .file(
            "gone.yaml",
            "apiVersion: clearway/v1\nports:\n  fabric: {role: fabric, address: 198.51.100.2}\n",
        );
    folder.run(&format!("{RUN} --swap 1=more.yaml")).expect(0);
    let ran = folder.run("replay config.yaml --in fabric=in.pcap --out new --swap 1=less.yaml").expect(2);
    let sentence =
        "less.yaml: customer 'contoso': circuit 'er1': bandwidthInMbps cannot be lowered from 1000 to 500";
    assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
    assert_eq!(folder.names("new"), [""; 0]);
    // In the order of their times, whatever the order of the options; and each behind the one before it.
    let ran = folder.run(&format!("{RUN} --swap 2=config.yaml --swap 1=more.yaml")).expect(2);
    assert!(ran.stderr.contains("config.yaml: customer 'contoso': circuit 'er1'"), "{}", ran.stderr);
    folder.run(&format!("{RUN} --swap 2=less.yaml --swap 1=gone.yaml")).expect(0);
}

#[test]
fn a_circuit_in_use_becomes_neither_metered_nor_too_small_for_its_use() {
    let with = |sku: &str, vnets: usize, routes: usize| {
        let list = |count, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<String>();
        let network = |n| {
            format!("      - {{name: v{n}, addressSpace: {{addressPrefixes: [10.{}.0.0/16]}}}}\n", 50 + n)
        };
        let gateway =
            |n| format!("      - {{name: g{n}, gatewayType: ExpressRoute, virtualNetwork: v{n}}}\n");
        let connection = |n| {
            format!(
                "      - {{name: e{n}, connectionType: ExpressRoute, virtualNetworkGateway1: g{n}, peer: er1}}\n"
            )
        };
        let tunnel = |n| format!("      - {{vnet: v{n}, port: fabric, key: {}}}\n", 0xb00 + n);
        let route = |n| format!("      - {{prefix: 172.{}.{}.0/24, circuit: er1}}\n", 16 + n / 256, n % 256);
        EXAMPLE
            .replace("sku: {tier: Standard, family: MeteredData}", &format!("sku: {{{sku}}}"))
            .replace(
                "    networkSecurityGroups:\n",
                &format!("{}    networkSecurityGroups:\n", list(vnets, &network)),
            )
            .replace(
                "    connections:\n",
                &format!("{}    connections:\n{}", list(vnets, &gateway), list(vnets, &connection)),
            )
            .replace("    hosts:\n", &format!("{}    hosts:\n", list(vnets, &tunnel)))
            .replace("# serviceTags", &format!("{}# serviceTags", list(routes, &route)))
    };
    // The hub is one more, and the example has a route that is learned on the primary link.
    let (premium, standard) =
        ("tier: Premium, family: UnlimitedData", "tier: Standard, family: UnlimitedData");
    let metered = "tier: Premium, family: MeteredData";
    let folder = folder();
    for (name, vnets, routes) in [("within", 9, 3999), ("vnets", 10, 0), ("routes", 0, 4000)] {
        for (to, sku) in [("premium", premium), ("standard", standard), ("metered", metered)] {
            std::fs::write(folder.path(&format!("{name}-{to}.yaml")), with(sku, vnets, routes)).unwrap();
        }
    }
    let swap = |name: &str, to: &str| {
        folder.run(&format!(
            "replay {name}-premium.yaml --in fabric=in.pcap --out {name} --swap 1={name}-{to}.yaml"
        ))
    };
    for (name, sentence) in [
        ("vnets", "allows 10 virtual networks"),
        ("routes", "Azure learns 4000 IPv4 prefixes on the primary link"),
    ] {
        let ran = swap(name, "standard").expect(2);
        assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
        assert_eq!(folder.names(name), [""; 0]);
    }
    let ran = swap("within", "metered").expect(2);
    let sentence = "within-metered.yaml: customer 'contoso': circuit 'er1': sku.family cannot change from UnlimitedData to \
                    MeteredData; remove the circuit, and add it again";
    assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
    assert_eq!(folder.names("within"), [""; 0]);
    swap("within", "standard").expect(0);
}

#[test]
fn a_connection_with_too_many_prefixes_passes_nothing_either_way() {
    // The hub has one IPv4 prefix, and the spoke one beside these.
    let with = |count: usize| {
        let ranges: String = (0..count).map(|n| format!(", 10.3.{}.{}/29", n / 32, n % 32 * 8)).collect();
        EXAMPLE
            .replace("[10.2.0.0/16]}\n        subnets", &format!("[10.2.0.0/16{ranges}]}}\n        subnets"))
    };
    let time = 1_542_110_402_000_001_000;
    let out =
        |vnet: (&str, u32, &str), port| segment(vnet.0, vnet.1, (vnet.2, port), ("192.168.3.4", 443), 2);
    let spoke = ("198.51.100.13", 0xa02, "10.2.0.4");
    let fabric = [(time, out(("198.51.100.12", 0xa01, "10.1.9.4"), 1)), (time + 1_000_000, out(spoke, 2))];
    let within = |to: &str| {
        let transport = Transport::Tcp { source: 3, destination: 443, flags: 2 };
        let packet = build::ip_packet(ip("192.168.3.4"), ip(to), transport, b"").unwrap();
        build::gre_frame(ip("192.0.2.2"), ip("192.0.2.1"), 0xc01, None, &packet).unwrap()
    };
    let edge = [(time + 2_000_000, within("10.1.9.4")), (time + 3_000_000, within("10.2.0.4"))];
    let folder = Folder::new()
        .file("in.pcap", pcap(false, &fabric))
        .file("edge.pcap", pcap(false, &edge))
        .file("most.yaml", with(998))
        .file("more.yaml", with(999));
    let said = |name: &str| {
        let ran =
            folder.run(&format!("replay {name}.yaml --in fabric=in.pcap --in edge-a=edge.pcap --out {name}"));
        let ran = ran.expect(0);
        let sentence = "is down and carries nothing: its virtual networks have 1001 IPv4 prefixes";
        assert_eq!(ran.stderr.contains(sentence), name == "more", "{}", ran.stderr);
        let verdicts = folder.text(&format!("{name}/verdicts.jsonl"));
        let of = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            [text("reason"), text("nextHopType"), text("egressPort")].join(" ")
        };
        verdicts.lines().map(of).collect::<Vec<_>>()
    };
    let out = "- VirtualNetworkGateway edge-a";
    assert_eq!(said("most"), [out, out, "- VnetLocal fabric", "- VNetPeering fabric"]);
    assert_eq!(said("more"), ["route-none None -", "route-none None -", "no-route - -", "no-route - -"]);
}

#[test]
fn links_fail_and_routes_come_in_time() {
    let example = EXAMPLE
        .replace("prefix: 192.168.0.0/16, circuit: er1", "prefix: 192.168.0.0/16, at: 0.0015, circuit: er1");
    let config = example.clone() + "    links: [{circuit: er1, link: primary, down: 0.0025, up: 0.0035}]\n";
    let frames: Vec<_> = (0..5u64)
        .map(|n| {
            let frame =
                segment("198.51.100.12", 0xa01, ("10.1.9.4", 40_000 + n as u16), ("192.168.3.4", 443), 2);
            (1_542_110_402_000_001_000 + n * 1_000_000, frame)
        })
        .collect();
    let folder = Folder::with_example().file("time.yaml", config).file("in.pcap", pcap(false, &frames));
    folder.run("replay time.yaml --in fabric=in.pcap --out out").expect(0);
    let types = folder.text("out/verdicts.jsonl");
    let of = |line: &str| line.contains("VirtualNetworkGateway");
    assert_eq!(types.lines().map(of).collect::<Vec<_>>(), [false, false, true, false, true], "{types}");
}

#[test]
fn unusable_inputs_are_told_and_nothing_is_written() {
    let mut lying = syns(1);
    lying.extend(record_header(0, false, 300_000_000, 300_000_000));
    let folder = folder()
        .file("config", EXAMPLE)
        .file("other.pcap", {
            let mut cooked = syns(1);
            cooked[20] = 113;
            cooked
        })
        .file("empty.pcap", "");
    for (words, sentence) in [
        ("--in fabrik=in.pcap", "no such port in config.yaml; did you mean 'fabric'?"),
        ("--in fabric=in.pcap --in fabric=in.pcap", "names the port 'fabric' twice"),
        ("--in fabric=missing.pcap", "missing.pcap: cannot be opened: No such file"),
        ("--in fabric=config", "config: is no capture at all"),
        ("--in fabric=empty.pcap", "empty.pcap: is empty"),
        ("--in fabric=other.pcap", "link type 113"),
        ("--in fabric=- --in internet=-", "standard input (`-`) twice"),
        ("--in fabric", "is not PORT=FILE"),
        ("--in fabric=in.pcap --workers 0", "0 is not in 1..=256"),
    ] {
        let ran = folder.run(&format!("replay config.yaml --out new {words}")).expect(2);
        assert!(ran.stderr.contains(sentence), "{sentence} in {}", ran.stderr);
        assert_eq!(folder.names("new"), [""; 0], "{words}");
    }
}

#[test]
fn damage_midway_ends_the_run_but_not_the_results() {
    let mut damaged = syns(2);
    let at = damaged.len();
    damaged.extend(record_header(0, false, 300_000_000, 300_000_000));
    damaged.extend([0; 100]);
    let folder = folder().file("damaged.pcap", damaged);
    let ran = folder.run("replay config.yaml --in fabric=damaged.pcap --out out").expect(2);
    assert!(ran.stderr.contains(&format!("damaged.pcap: at byte {at}: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains("the results are those of the 2 packets before it"), "{}", ran.stderr);
    assert_eq!(folder.text("out/verdicts.jsonl").lines().count(), 2);
    assert_eq!(folder.names("out").len(), 7);
}

#[test]
fn a_capture_that_is_cut_counts_as_far_as_it_goes() {
    let mut cut = syns(3);
    cut.truncate(cut.len() - 10);
    let folder = folder().file("cut.pcap", cut);
    let ran = folder.run("replay config.yaml --in fabric=cut.pcap --out out").expect(0);
    assert!(ran.stderr.starts_with("warning: cut.pcap: at byte "), "{}", ran.stderr);
    assert_eq!(folder.text("out/verdicts.jsonl").lines().count(), 2);
}

#[test]
fn folders_that_cannot_be_written_are_told() {
    let folder = folder().file("taken", "");
    let ran = folder.run("replay config.yaml --in fabric=in.pcap --out taken").expect(2);
    assert!(ran.stderr.contains("taken: cannot be made as a folder"), "{}", ran.stderr);
    std::fs::create_dir_all(folder.path("out/internet.pcap")).unwrap();
    let ran = folder.run(RUN).expect(2);
    assert!(ran.stderr.contains("internet.pcap: cannot be written: it is a folder"), "{}", ran.stderr);
    assert_eq!(folder.names("out"), ["internet.pcap"]);
}

#[test]
fn a_full_disk_is_told() {
    let folder = folder();
    let status = Command::new(env!("CARGO_BIN_EXE_clearway"))
        .current_dir(folder.path(""))
        .args(RUN.split_whitespace())
        .stdout(std::fs::File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn reads_standard_input() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_clearway"))
        .current_dir(folder.path(""))
        .args("replay config.yaml --in fabric=- --out out --json".split_whitespace())
        .stdin(std::fs::File::open(folder.path("in.pcap")).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("{\"packets\": 3,"));
}

#[test]
fn a_reader_who_leaves_is_no_failure() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_clearway"))
        .current_dir(folder.path(""))
        .args(RUN.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
    assert_eq!(folder.names("out").len(), 7);
}
