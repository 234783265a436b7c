//! What real Azure answered (IP flow verify, next hop, network configuration diagnostic, security group view, effective
//! routes), against the packet path and the effective routes and rules of the same networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clearway::compile::compile;
use clearway::compile::effective::{SubnetRouting, effective_routes, virtual_network_tag};
use clearway::compile::names::Names;
use clearway::compile::security::{self, Scope, expand, internet_tag, ranked};
use clearway::compile::topology::Learned;
use clearway::model::{self, Model, Nsg, RuleProtocol};
use clearway::packet::Direction;
use clearway::wire::protocol;
use serde_json::{Value, json};

use super::ask::{Entry, ask};
use super::recordings::{bodies, last_state, recordings};
use super::{real_data, wrap};

/// The network that `oracle-cli-2019.json` was asked about: the template of the recording's deployment, there with
/// 10.0.0.0/16, 10.0.0.0/24 and 10.0.0.9.
fn network_2019(range: &str, subnet: &str, address: &str) -> Option<Model> {
    let (_, recording) = recordings("api-recording").into_iter().find(|r| r.0 == "cli-watcher-2019.yaml")?;
    let is_deployment = |b: &Value| b["properties"]["template"].is_object();
    let deployment = bodies(&recording, true).into_iter().find(is_deployment).expect("a deployment");
    let template = deployment["properties"]["template"].to_string();
    let template =
        template.replace("10.0.0.0/16", range).replace("10.0.0.0/24", subnet).replace("10.0.0.9", address);
    Some(
        wrap::load(&[("template.json".to_owned(), template.into_bytes())], None).expect("the template loads"),
    )
}

/// The network that `oracle-net-watcher.json` was asked about: the recording's last answers about each resource.
fn network_of_watcher() -> Option<Model> {
    let (_, recording) =
        recordings("api-recording").into_iter().find(|r| r.0 == "net-networkwatcher.json")?;
    let file = |(n, r): (usize, &Value)| (format!("r{n}.json"), r.to_string().into_bytes());
    let files: Vec<wrap::File> = last_state(&recording).values().enumerate().map(file).collect();
    Some(wrap::load(&files, None).expect("the resources load"))
}

/// The questions and answers of a kind in a file of answers.
fn oracle(file: &str, operation: &str) -> Vec<(Value, Value)> {
    let folder = real_data::folder("azure/oracle").expect("the answers beside the recordings");
    let pairs: Vec<Value> = serde_json::from_str(&real_data::text(&folder.join(file))).expect("JSON");
    let asked = pairs.into_iter().filter(|p| p["op"] == operation);
    asked.map(|mut p| (p["request"].take(), p["response"].take())).collect()
}

fn address(value: &Value) -> IpAddr {
    value.as_str().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("{value} is no address"))
}

/// A port of a question; `*` is any.
fn port(value: &Value) -> u16 {
    value.as_str().and_then(|p| p.parse().ok()).unwrap_or(50_000)
}

/// A rule's name as IP flow verify writes it: `securityRules/NAME` or `defaultSecurityRules/NAME`.
fn as_flow_logs_write(name: &str) -> String {
    match name.split_once('/') {
        Some(("securityRules", name)) => format!("UserRule_{name}"),
        Some(("defaultSecurityRules", name)) => format!("DefaultRule_{name}"),
        _ => name.to_owned(),
    }
}

/// The files of answers, with the network, VNet and network interface they are about.
fn networks() -> Option<[(&'static str, Model, &'static str, &'static str); 2]> {
    Some([
        (
            "oracle-cli-2019.json",
            network_2019("10.0.0.0/16", "10.0.0.0/24", "10.0.0.9")?,
            "vm1VNET",
            "vm1VMNic",
        ),
        ("oracle-net-watcher.json", network_of_watcher()?, "vnete8d18070af7f", "ni18950"),
    ])
}

#[test]
fn ip_flow_verify_is_answered_as_azure_did() {
    let Some(networks) = networks() else { return };
    let mut asked = 0;
    for (file, model, vnet, _) in &networks {
        for (question, answer) in oracle(file, "ipFlowVerify") {
            let local = (address(&question["localIPAddress"]), port(&question["localPort"]));
            let remote = (address(&question["remoteIPAddress"]), port(&question["remotePort"]));
            assert!(question["protocol"].as_str().is_some_and(|p| p.eq_ignore_ascii_case("tcp")));
            let ours = match question["direction"].as_str() {
                Some("Inbound") => ask(model, Entry::Internet, remote, local),
                _ => ask(model, Entry::Vnet(vnet), local, remote),
            };
            assert_eq!(ours.access, answer["access"], "{question}: {ours:?}");
            let rule = answer["ruleName"].as_str().map(as_flow_logs_write);
            assert_eq!(ours.rule, rule, "{question}");
            println!("{file}: IP flow verify: {ours:?}");
            asked += 1;
        }
    }
    assert_eq!(asked, 3);
}

#[test]
fn next_hop_is_answered_as_azure_did() {
    let Some(networks) = networks() else { return };
    let mut asked = 0;
    for (file, model, vnet, nic) in &networks {
        for (question, answer) in oracle(file, "nextHop") {
            // Next hop looks at the routes of the machine's subnet alone; one question names a source that the machine
            // could not use, and is asked here with the machine's own address.
            let nic = model.customers[0].nics.iter().find(|n| n.name == *nic).expect("the NIC");
            let to = (address(&question["destinationIPAddress"]), 80);
            let ours = ask(model, Entry::Vnet(vnet), (nic.addresses[0], 50_000), to);
            // This interface alone calls VnetLocal so.
            let theirs = match answer["nextHopType"].as_str() {
                Some("VirtualNetwork") => Some("VnetLocal"),
                other => other,
            };
            assert_eq!(ours.route.map(|r| r.0), theirs, "{question}");
            assert_eq!(answer["routeTableId"], "System Route");
            println!("{file}: next hop: {ours:?}");
            asked += 1;
        }
    }
    assert_eq!(asked, 2);
}

#[test]
fn what_the_connectivity_check_reached_is_forwarded() {
    let Some((_, recording)) =
        recordings("api-recording").into_iter().find(|r| r.0 == "cli-watcher-2019.yaml")
    else {
        return;
    };
    let is_check = |b: &Value| b["connectionStatus"] == "Reachable";
    let check = bodies(&recording, false).into_iter().find(is_check).expect("an answer");
    let [source, target] = [&check["hops"][0], &check["hops"][1]];
    let model = network_2019("10.0.0.0/16", "10.0.0.0/24", "10.0.0.9").expect("the network");
    let from = (address(&source["address"]), 50_000);
    let ours = ask(&model, Entry::Vnet("vm1VNET"), from, (address(&target["address"]), 80));
    assert_eq!((ours.access, ours.route.map(|r| r.0)), ("Allow", target["type"].as_str()));
}

/// What the tags stand for at the endpoints of a subnet without learned routes.
fn scope(model: &Model, vnet: usize, subnet: usize) -> Scope {
    let customer = &model.customers[0];
    let own = &customer.vnets[vnet];
    let routing = SubnetRouting { route_table: own.subnets[subnet].route_table, service_endpoints: &[] };
    let routes = effective_routes(customer, &model.tags, vnet, routing, &Learned::new());
    let virtual_network = virtual_network_tag(&own.address_space, &routes);
    Scope { virtual_network, internet: internet_tag(&own.address_space), vnet }
}

#[test]
fn the_diagnostic_matches_rule_by_rule() {
    let Some(model) = network_2019("10.0.0.0/16", "10.0.0.0/24", "10.0.0.9") else { return };
    let customer = &model.customers[0];
    let scope = scope(&model, 0, 0);
    let [(question, answer)] = &oracle("oracle-cli-2019.json", "networkConfigurationDiagnostic")[..] else {
        panic!("one question")
    };
    let profile = &question["profiles"][0];
    let (from, to) = (address(&profile["source"]), address(&profile["destination"]));
    let to_port = port(&profile["destinationPort"]);
    let result = &answer["results"][0]["networkSecurityGroupResult"];
    let theirs = &result["evaluatedNetworkSecurityGroups"][0];
    // Azure stops at the first rule that matches.
    let rules = ranked(&customer.nsgs[0], Direction::Inbound);
    let evaluated = theirs["rulesEvaluationResult"].as_array().expect("a list");
    assert_eq!(rules.len(), evaluated.len());
    let holds = |side, addr| match expand(side, customer, &model.tags, &scope) {
        None => true,
        Some(prefixes) => prefixes.iter().any(|p| p.contains(addr)),
    };
    for (rule, theirs) in rules.iter().zip(evaluated) {
        let ours = json!({
            "name": rule.log_name(),
            "protocolMatched": matches!(rule.rule.protocol, RuleProtocol::Any | RuleProtocol::Tcp),
            "sourceMatched": holds(&rule.rule.source, from),
            "sourcePortMatched": rule.rule.source_ports.contains(&(0, u16::MAX)),
            "destinationMatched": holds(&rule.rule.destination, to),
            "destinationPortMatched": rule.rule.destination_ports.iter().any(|&(a, b)| (a..=b).contains(&to_port)),
        });
        assert_eq!(&ours, theirs);
    }
    let mut names = Names::default();
    let program = compile(&model, &mut names);
    let group = program.vnets[0].nics[0].group.as_ref().expect("a group");
    let asked = group.rules(Direction::Inbound).ask(from, to, protocol::TCP, (50_000, to_port), None);
    let decision = asked.expect("the default rules match everything");
    assert_eq!(names.rule_name(decision.name), theirs["matchedRule"]["ruleName"]);
    assert_eq!(format!("{:?}", decision.access), result["securityRuleAccessResult"]);
    // The question names an address outside the network; with it inside, a packet meets the same rule.
    let inside = network_2019("10.1.0.0/16", "10.1.1.0/24", "10.1.1.4").expect("the network");
    let ours = ask(&inside, Entry::Internet, (from, 50_000), (to, to_port));
    assert_eq!((ours.access, ours.rule.as_deref()), ("Deny", theirs["matchedRule"]["ruleName"].as_str()));
    println!("network configuration diagnostic: {} rules, {ours:?}", rules.len());
}

/// A rule as the security group view lists it.
fn effective_rules(group: &Nsg) -> BTreeSet<String> {
    let side = |m: &model::AddressMatch| match &m.items[..] {
        [model::AddressItem::Any] => "0.0.0.0/0".to_owned(),
        [model::AddressItem::VirtualNetwork] => "VirtualNetwork".to_owned(),
        [model::AddressItem::Internet] => "Internet".to_owned(),
        [model::AddressItem::AzureLoadBalancer] => "AzureLoadBalancer".to_owned(),
        other => panic!("{other:?}"),
    };
    let ports = |ranges: &[(u16, u16)]| ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect::<String>();
    let both = [Direction::Inbound, Direction::Outbound].into_iter().flat_map(|d| ranked(group, d));
    let shown = both.map(|ranked| {
        let rule = &ranked.rule;
        let protocol = match rule.protocol {
            RuleProtocol::Any => "All".to_owned(),
            other => format!("{other:?}"),
        };
        format!(
            "{} {} {:?} {:?} {protocol} {} {} {} {}",
            ranked.log_name(),
            rule.priority,
            rule.direction,
            rule.access,
            side(&rule.source),
            ports(&rule.source_ports),
            side(&rule.destination),
            ports(&rule.destination_ports)
        )
    });
    shown.collect()
}

#[test]
fn the_security_group_view_lists_our_rules() {
    let Some(networks) = networks() else { return };
    let mut views = 0;
    for (file, model, ..) in &networks {
        for (_, view) in oracle(file, "securityGroupView") {
            let associations = &view["networkInterfaces"][0]["securityRuleAssociations"];
            let text = |r: &Value, key: &str| match &r[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let listed = associations["effectiveSecurityRules"].as_array().expect("a list").iter();
            // Two entries repeat the last default rule of each direction under the platform's own name.
            let listed = listed.filter(|r| !text(r, "name").ends_with("DenyAll"));
            let keys = [
                "name",
                "priority",
                "direction",
                "access",
                "protocol",
                "sourceAddressPrefix",
                "sourcePortRange",
                "destinationAddressPrefix",
                "destinationPortRange",
            ];
            let theirs: BTreeSet<String> = listed.map(|r| keys.map(|k| text(r, k)).join(" ")).collect();
            assert_eq!(effective_rules(&model.customers[0].nsgs[0]), theirs, "{file}");
            views += 1;
        }
    }
    println!("{views} security group views");
    assert_eq!(views, 3);
}

#[test]
fn default_rules_are_those_that_azure_prints() {
    let folder = real_data::folder("azure/rest-example");
    let Some(folder) = folder else { return };
    let list: Value =
        serde_json::from_str(&real_data::text(&folder.join("DefaultSecurityRuleList.json"))).expect("JSON");
    let rules = list["responses"]["200"]["body"]["value"].as_array().expect("a list").clone();
    let group = Nsg { name: "empty".to_owned(), flush_connection: false, rules: Vec::new() };
    let ours = effective_rules(&group);
    let range = |v: &Value| v.as_str().map_or_else(String::new, |t| t.replace("*", "0-65535"));
    let theirs: BTreeSet<String> = rules
        .iter()
        .map(|r| {
            let p = &r["properties"];
            let text = |key: &str| p[key].as_str().unwrap_or_default().replace("*", "0.0.0.0/0");
            format!(
                "DefaultRule_{} {} {} {} All {} {} {} {}",
                r["name"].as_str().unwrap_or_default(),
                p["priority"],
                text("direction"),
                text("access"),
                text("sourceAddressPrefix"),
                range(&p["sourcePortRange"]),
                text("destinationAddressPrefix"),
                range(&p["destinationPortRange"])
            )
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(security::default_rules().len(), rules.len());
}

/// Rows of effective routes: source, state, prefix, next hop type.
fn rows(routes: &Value) -> BTreeSet<String> {
    let list = routes["value"].as_array().expect("a list").iter();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    list.map(|r| {
        assert_eq!(r["addressPrefix"].as_array().map(Vec::len), Some(1));
        assert_eq!(r["nextHopIpAddress"], json!([]));
        let prefix = text(&r["addressPrefix"][0]);
        format!("{} {} {prefix} {}", text(&r["source"]), text(&r["state"]), text(&r["nextHopType"]))
    })
    .collect()
}

#[test]
fn effective_routes_are_those_that_azure_lists() {
    let is_routes =
        |b: &Value| b["value"][0]["nextHopType"].is_string() && b["value"][0]["source"].is_string();
    let answer = |folder: &str, file: &str| {
        let (_, document) = recordings(folder).into_iter().find(|r| r.0 == file)?;
        Some(bodies(&document, false).into_iter().find(is_routes).expect("effective routes"))
    };
    let Some(real) = answer("api-recording", "cc-effective-routes.json") else { return };
    let example =
        answer("rest-example", "NetworkInterfaceEffectiveRouteTableList.json").expect("the example");
    // Of neither network more is known than its range; the answers show it.
    for (what, theirs, range) in [("recording", real, "10.0.0.0/16"), ("example", example, "172.20.2.0/24")] {
        let vnet = json!({"name": "vnet", "type": "Microsoft.Network/virtualNetworks", "properties": {
            "addressSpace": {"addressPrefixes": [range]},
            "subnets": [{"name": "subnet", "properties": {"addressPrefix": range}}]}});
        let model =
            wrap::load(&[("vnet.json".to_owned(), vnet.to_string().into_bytes())], None).expect("loads");
        let routes =
            effective_routes(&model.customers[0], &model.tags, 0, SubnetRouting::default(), &Learned::new());
        let ours: BTreeSet<String> = routes
            .iter()
            .map(|r| {
                let state = if r.is_active() { "Active" } else { "Invalid" };
                format!("{} {state} {} {}", r.source.name(), r.prefix, r.next_hop_type.name())
            })
            .collect();
        let mut theirs = rows(&theirs);
        // The recording of 2019 lacks 172.16.0.0/12, which Azure's documents and its own example list: an omission of
        // the interface then, and the only difference.
        if what == "recording" {
            assert!(theirs.insert("Default Active 172.16.0.0/12 None".to_owned()));
        }
        assert_eq!(ours, theirs, "{what}");
        println!("effective routes of the {what}: {} rows agree", ours.len());
    }
}
