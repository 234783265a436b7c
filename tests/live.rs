//! The live appliance among real peers, in network namespaces that each script makes and removes: Open vSwitch as GRE ends,
//! the kernel's own stacks, iperf3, tshark. They run when root runs them on a machine that has these; else each says what
//! it lacks, and passes.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

/// What the scripts call, besides what every system has.
const TOOLS: [&str; 10] = [
    "ip",
    "ovs-vswitchd",
    "ovsdb-tool",
    "iperf3",
    "tcpdump",
    "tshark",
    "ethtool",
    "ping",
    "traceroute",
    "python3",
];

fn has(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&paths).chain(["/usr/sbin", "/sbin"].map(Into::into));
    folders.into_iter().any(|folder| folder.join(tool).is_file())
}

/// Runs one script to its end.
fn run(script: &str) {
    let lacking: Vec<_> = TOOLS.into_iter().filter(|tool| !has(tool)).collect();
    let root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
    if !root || !lacking.is_empty() {
        let why =
            if root { format!("there is no {}", lacking.join(", ")) } else { "it takes root".to_owned() };
        println!("skipped: {script}: {why}");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live").join(script);
    let mut command = Command::new("bash");
    command.arg(path).env("CLEARWAY", env!("CARGO_BIN_EXE_clearway"));
    let output = command.output().expect("bash runs");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{script} failed\n{said}\n{errors}");
}

#[test]
fn real_stacks_reach_each_other_as_the_rules_say() {
    run("traffic.sh");
}

#[test]
fn devices_come_and_go() {
    run("devices.sh");
}

#[test]
fn ports_change_without_a_gap() {
    run("reopen.sh");
}

#[test]
fn reloads_lose_nothing_and_mix_nothing() {
    run("reload.sh");
}

#[test]
fn workers_share_flows_and_keep_their_order() {
    run("workers.sh");
}

#[test]
fn ipv6_goes_inside_and_outside() {
    run("ipv6.sh");
}

#[test]
fn faults_do_what_they_are_said_to_do() {
    run("faults.sh");
}

#[test]
fn pnet_and_taps_carry_what_the_others_do() {
    run("io.sh");
}

#[test]
fn captures_have_what_was_asked_for_with_its_verdicts() {
    run("capture.sh");
}

#[test]
fn flow_logs_say_what_the_hosts_saw() {
    run("flow_logs.sh");
}

#[test]
fn circuits_hold_their_bandwidth_and_count_what_they_carry() {
    run("circuits.sh");
}

#[test]
fn routers_and_links_come_and_go() {
    run("bgp.sh");
}

#[test]
fn routers_of_other_makes_and_wrong_ones() {
    run("bgp_peers.sh");
}

#[test]
fn circuit_links_carry_ipv6_too() {
    run("circuits6.sh");
}

#[test]
fn sessions_have_as_many_prefixes_as_they_may() {
    run("limits.sh");
}

#[test]
fn routes_of_the_kernel_are_mirrored() {
    run("kernel_routes.sh");
}

#[test]
fn microsoft_peering_says_and_takes_what_it_may() {
    run("microsoft.sh");
}
