//! `explain`.

use serde_json::Value;

use super::support::{Folder, Ran};

const HUB_SPOKE: &str = include_str!("../data/hub-spoke.yaml");

/// Explains in the configuration of a hub and a spoke.
fn explain(words: &str) -> Ran {
    let folder = Folder::new().file("config.yaml", HUB_SPOKE);
    folder.run(&format!("explain config.yaml --customer contoso {words}"))
}

fn json(words: &str, status: i32) -> Value {
    explain(&format!("{words} --json")).expect(status).json()
}

#[test]
fn a_denied_packet_names_the_rule_and_what_nearly_matched() {
    let ran = explain("--vnet hub --protocol tcp --from 10.1.9.9 --to 10.2.0.4:22").expect(1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "DROP nsg-deny  tcp 10.1.9.9:50000 -> 10.2.0.4:22  (customer contoso, VNet hub)");
    assert_eq!(lines[1], "A rule of a network security group denied the packet.");
    for line in [
        "rule   Deny by UserRule_DenyVnet (priority 300) of NSG app-nsg",
        "route  10.2.0.0/16 VNetPeering, source Default",
        "there  10.1.9.9 (hub/fw) -> drop: nsg-deny",
        "nearly AllowSsh (priority 200): it names another source",
    ] {
        assert!(lines.iter().any(|l| l.trim() == line), "{line} in {}", ran.stdout);
    }
    let document = json("--vnet hub --protocol tcp --from 10.1.9.9 --to 10.2.0.4:22", 1);
    assert_eq!((&document["verdict"], &document["reason"]), (&"drop".into(), &"nsg-deny".into()));
    assert_eq!(
        (&document["access"], &document["ruleName"]),
        (&"Deny".into(), &"securityRules/DenyVnet".into())
    );
    assert_eq!(document["return"], Value::Null);
    let numbers: Vec<u64> =
        document["steps"].as_array().unwrap().iter().map(|s| s["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [6, 7, 8, 9, 10]);
}

#[test]
fn the_way_there_and_the_way_back_part() {
    let words = "--vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4:22";
    let ran = explain(words).expect(0);
    for line in [
        "there   10.1.0.4 (hub/web) -> appliance 10.1.9.4 (hub/fw) -> 10.2.0.4 (spoke/app)",
        "back    10.2.0.4 (spoke/app) -> 10.1.0.4 (hub/web)",
        "they part at 10.2.0.4 (spoke/app): from there the answer goes to 10.1.0.4 (hub/web), not to 10.1.9.4 (hub/fw); the route is 10.1.0.0/16 VNetPeering, because 10.0.0.0/8 VirtualAppliance 10.1.9.4, source User (hub-by-fw) has a shorter prefix",
        "appliance 10.1.9.4 sees the packet but not the answer: if it keeps state, it drops what follows",
    ] {
        assert!(ran.stdout.lines().any(|l| l.trim() == line), "{line} in {}", ran.stdout);
    }
    let document = json(words, 0);
    assert_eq!(document["nextHopType"], "VirtualAppliance");
    assert_eq!(document["nextHopIpAddress"], "10.1.9.4");
    assert_eq!(document["routeTableId"], "web-rt");
    assert_eq!(document["behindAppliances"][0]["rule"], "DefaultRule_AllowVnetInBound");
    assert_eq!(document["return"]["flow"], "established");
    assert_eq!(document["symmetric"], false);
}

#[test]
fn behind_an_appliance_it_may_end() {
    let ran = explain("--vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4:23").expect(0);
    let second = ran.stdout.lines().nth(1).unwrap();
    assert_eq!(second, "to an appliance; if that sends it on unchanged, it ends behind it: nsg-deny");
    // Without IP forwarding nothing comes that far.
    let folder = Folder::new().file("config.yaml", HUB_SPOKE.replace("enableIPForwarding: true", ""));
    let words =
        "explain config.yaml --customer contoso --vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4:22";
    let ran = folder.run(words).expect(1);
    assert!(ran.stdout.starts_with("DROP appliance-not-forwarding"), "{}", ran.stdout);
    // An address without NIC resource is taken to forward; but nothing that it sends for others is its own.
    let from = HUB_SPOKE.find("      - name: fw-nic").unwrap();
    let to = HUB_SPOKE.find("      - name: app-nic").unwrap();
    let folder = Folder::new().file("config.yaml", [&HUB_SPOKE[..from], &HUB_SPOKE[to..]].concat());
    let ran = folder.run(words).expect(0);
    assert!(
        ran.stdout.contains("an appliance needs a NIC resource with enableIPForwarding"),
        "{}",
        ran.stdout
    );
}

#[test]
fn answers_as_azure_recorded_them() {
    // `az network watcher test-ip-flow` and `show-next-hop` against a VM with this one rule.
    let inbound = json("--vnet hub --protocol tcp --from 100.1.2.3 --to 10.1.0.9:22 --entry internet", 1);
    // Two customers have these addresses, so a plain packet is nobody's.
    assert_eq!(inbound["reason"], "unknown-tunnel");
    let alone = Folder::new().file("config.yaml", {
        let (from, to) =
            (HUB_SPOKE.find("  - name: fabrikam").unwrap(), HUB_SPOKE.find("  - name: contoso").unwrap());
        [&HUB_SPOKE[..from], &HUB_SPOKE[to..]].concat()
    });
    let explain = "explain config.yaml --customer contoso --vnet hub --protocol tcp --json";
    let inbound =
        alone.run(&format!("{explain} --from 100.1.2.3 --to 10.1.0.9:22 --entry internet")).expect(0).json();
    assert_eq!(
        (&inbound["access"], &inbound["ruleName"]),
        (&"Allow".into(), &"securityRules/default-allow-ssh".into())
    );
    assert_eq!(
        (&inbound["nextHopType"], &inbound["routeTableId"]),
        (&"VnetLocal".into(), &"System Route".into())
    );
    let outbound = alone.run(&format!("{explain} --from 10.1.0.9:443 --to 8.8.8.8:443")).expect(0).json();
    assert_eq!(outbound["access"], "Allow");
    assert_eq!(outbound["ruleName"], "defaultSecurityRules/AllowInternetOutBound");
    assert_eq!(
        (&outbound["nextHopType"], &outbound["routeTableId"]),
        (&"Internet".into(), &"System Route".into())
    );
    assert_eq!((&outbound["symmetric"], &outbound["return"]["flow"]), (&true.into(), &"established".into()));
}

#[test]
fn packets_enter_where_they_are_said_to() {
    // The first link is down.
    let circuit = json("--vnet hub --protocol icmp --from 192.168.3.4 --to 10.1.0.4 --entry circuit:er1", 0);
    assert_eq!((&circuit["port"], &circuit["symmetric"]), (&"edge-b".into(), &true.into()));
    let connection =
        json("--vnet hub --protocol udp --from 192.168.3.4:53 --to 10.2.0.9 --entry connection:C1", 1);
    assert_eq!(connection["port"], "edge-b");
    let spoofed = json("--vnet hub --protocol udp --from 10.1.0.5 --to 10.1.0.4 --entry circuit:er1", 1);
    assert_eq!((&spoofed["reason"], &spoofed["access"]), (&"spoofed-source".into(), &Value::Null));
    // A source in no subnet comes from an appliance.
    let forwarded = json("--vnet hub --protocol esp --from 203.0.113.50 --to 10.1.0.4", 1);
    assert!(
        forwarded["steps"][0]["text"].as_str().unwrap().contains("forwarded by NIC fw-nic"),
        "{forwarded}"
    );
    let other = explain("--vnet spoke --protocol 132 --from 203.0.113.50 --to 10.1.0.4").expect(1);
    assert!(
        other.stdout.contains("spoofed-source") && other.stdout.contains("nowhere in spoke"),
        "{}",
        other.stdout
    );
}

#[test]
fn what_lies_behind_an_appliance_is_answered_by_it() {
    // Both subnets of the hub lead the lab's addresses to the firewall, its own too.
    let route = "{name: lab, addressPrefix: 172.20.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}";
    let lab = HUB_SPOKE
        .replace("addressPrefix: 10.1.9.0/24}", "addressPrefix: 10.1.9.0/24, routeTable: web-rt}")
        .replace(
            "          - {name: spoke-by-fw,",
            &format!("          - {route}\n          - {{name: spoke-by-fw,"),
        );
    let folder = Folder::new().file("config.yaml", lab);
    let explain = "explain config.yaml --customer contoso --vnet hub --protocol udp";
    let ran = folder.run(&format!("{explain} --from 172.20.0.9 --to 10.1.9.77:22")).expect(0);
    for line in [
        "there   172.20.0.9 behind 10.1.9.4 (hub/fw) -> 10.1.9.77 (hub/fw)",
        "back    10.1.9.77 (hub/fw) -> 10.1.9.4 (hub/fw)",
        "the answer comes back the same way",
    ] {
        assert!(ran.stdout.lines().any(|l| l.trim() == line), "{line} in {}", ran.stdout);
    }
    let ran = folder.run(&format!("{explain} --from 10.1.0.4 --to 172.20.0.9:22")).expect(0);
    assert!(ran.stdout.lines().nth(1).unwrap().ends_with("it comes back to it: a loop"), "{}", ran.stdout);
}

#[test]
fn what_cannot_be_asked_is_told() {
    for (words, sentence) in [
        (
            "--vnet hubb --protocol tcp --from 10.1.0.4 --to 10.2.0.4",
            "there is no such VNet of customer 'contoso'; did you mean 'hub'?",
        ),
        ("--vnet hub --protocol tcp --from 10.1.0.4 --to fd00::1", "are of different families"),
        (
            "--vnet hub --protocol icmp --from 10.1.0.4:7 --to 10.2.0.4",
            "names port 7, but protocol 1 has no ports",
        ),
        ("--vnet hub --protocol 44 --from fd00::1 --to fd00::2", "extension header"),
        ("--vnet hub --protocol sctp --from 10.1.0.4 --to 10.2.0.4", "none of tcp, udp, icmp"),
        ("--vnet hub --protocol tcp --from 10.1.0 --to 10.2.0.4", "is no address"),
        (
            "--vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4 --entry edge-a",
            "none of fabric, circuit:NAME",
        ),
        (
            "--vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4 --entry circuit:er2",
            "did you mean 'er1'?",
        ),
        ("--vnet hub --protocol tcp --from 10.1.0.4 --to 10.2.0.4 --entry connection:s2s", "there is c1"),
    ] {
        let ran = explain(words).expect(2);
        assert!(ran.stderr.contains(sentence), "{sentence} in {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}
