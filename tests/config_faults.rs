//! Every fault of a configuration: where it stands, which value, and what would be right.
//!
//! `data/faults/*.txt` hold the cases. A case edits the contract's example: lines with `<` are replaced by lines with `>`
//! (any text in the line may be meant; without `<` the `>` lines are the whole file). A `§` marks where a fault is told,
//! and a line `! VALUE | PART` gives for each mark, in the order of the file, its value and a part of its sentence; with
//! `? VALUE | PART` it is a warning. Nothing else may be told.

use std::path::Path;

use clearway::model::{self, Fault, Severity};

const EXAMPLE: &str = include_str!("data/contract-example.yaml");

/// What a case expects at one mark.
#[derive(Debug)]
struct Wanted {
    severity: Severity,
    value: String,
    part: String,
}

#[derive(Default)]
struct Case {
    line: usize,
    from: Vec<String>,
    to: Vec<String>,
    wanted: Vec<Wanted>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() {
            open = false;
            continue;
        }
        let (sign, rest) = line.split_at(1);
        if sign == "#" {
            continue;
        }
        if !open {
            cases.push(Case { line: number + 1, ..Case::default() });
            open = true;
        }
        let case = cases.last_mut().unwrap();
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let wanted = |severity| {
            let (value, part) = rest.split_once("| ").unwrap_or_else(|| panic!("no | in {line}"));
            Wanted { severity, value: value.trim_end().to_string(), part: part.to_string() }
        };
        match sign {
            "<" => case.from.push(rest.to_string()),
            ">" => case.to.push(rest.to_string()),
            "!" => case.wanted.push(wanted(Severity::Error)),
            "?" => case.wanted.push(wanted(Severity::Warning)),
            _ => panic!("what is {line}"),
        }
    }
    cases
}

/// The text without its marks, and the lines and columns of the marks.
fn unmark(text: &str) -> (String, Vec<(u32, u32)>) {
    let (mut plain, mut places, mut line, mut column) = (String::new(), Vec::new(), 1, 1);
    for c in text.chars() {
        match c {
            '§' => places.push((line, column)),
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        if c != '§' {
            plain.push(c);
        }
    }
    (plain, places)
}

/// Errors if there are any, else warnings.
fn told(text: &str) -> Vec<Fault> {
    match model::from_bytes("net.yaml", text.as_bytes(), None) {
        Ok(model) => model.warnings,
        Err(faults) => faults,
    }
}

/// What is wrong with a case; nothing if all is as expected.
fn check(case: &Case) -> Option<String> {
    let (from, to) = (case.from.join("\n"), case.to.join("\n"));
    let text = match (from.is_empty(), EXAMPLE.matches(&from).count()) {
        (true, _) => to.clone(),
        (false, 1) => EXAMPLE.replace(&from, &to),
        (false, n) => return Some(format!("{n} times in the example: {from}\n")),
    };
    let (text, places) = unmark(&text);
    let told = told(&text);
    let fits = |(fault, (place, wanted)): (&Fault, (&(u32, u32), &Wanted))| {
        &*fault.file == "net.yaml"
            && (fault.line, fault.column) == *place
            && fault.severity == wanted.severity
            && fault.value == wanted.value
            && fault.message.contains(&wanted.part)
    };
    let all = told.len() == places.len() && places.len() == case.wanted.len();
    if all && told.iter().zip(places.iter().zip(&case.wanted)).all(fits) {
        return None;
    }
    let told: String = told.iter().map(|f| format!("    {f}\n")).collect();
    Some(format!("{to}\n  marks at {places:?}, wanted {:?}, told:\n{told}", case.wanted))
}

#[test]
fn tells_every_fault_where_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faults");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let (mut wrong, mut count) = (String::new(), 0);
    for file in &files {
        for case in cases(&std::fs::read_to_string(file).unwrap()) {
            count += 1;
            if let Some(why) = check(&case) {
                wrong += &format!("{}:{}: {why}\n", file.file_name().unwrap().display(), case.line);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 150, "only {count} cases were found");
}

/// A configuration of one customer with these lists.
fn customer(lists: &str) -> String {
    format!(
        "apiVersion: clearway/v1\n\
         ports: {{f: {{role: fabric, address: 198.51.100.2}}, e: {{role: edge, address: 192.0.2.1}}}}\n\
         customers:\n- name: a\n  {lists}\n"
    )
}

fn repeat(count: usize, each: impl Fn(usize) -> String) -> String {
    format!("[{}]", (0..count).map(each).collect::<Vec<_>>().join(", "))
}

/// Accepted at the limit, refused with this sentence one beyond.
fn limit(at: usize, part: &str, text: impl Fn(usize) -> String) {
    assert_eq!(told(&text(at)).iter().filter(|f| f.severity == Severity::Error).count(), 0, "{part}");
    let told = told(&text(at + 1));
    assert!(told.len() == 1 && told[0].message.contains(part), "{part}: {told:?}");
}

#[test]
fn keeps_the_limits_of_azure() {
    let rule = |i: usize, addresses: &str| {
        format!(
            "{{name: r{i}, priority: {}, direction: {}, access: Allow, protocol: '*', {addresses}, \
             sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '*'}}",
            100 + i / 2,
            if i.is_multiple_of(2) { "Inbound" } else { "Outbound" }
        )
    };
    let nsg =
        |rules: String| customer(&format!("networkSecurityGroups: [{{name: n, securityRules: {rules}}}]"));
    limit(1000, "has 1001 rules; Azure allows 1000", |n| {
        nsg(repeat(n, |i| rule(i, "sourceAddressPrefix: '*'")))
    });
    let prefixes = |n| repeat(n, |i| format!("10.{}.{}.0/24", i / 256, i % 256));
    limit(4000, "has 4001 source addresses in its rules; Azure allows 4000", |n| {
        let list = |n| format!("sourceAddressPrefixes: {}", prefixes(n));
        nsg(format!("[{}, {}]", rule(0, &list(2000)), rule(1, &list(n - 2000))))
    });
    limit(400, "has 401 routes; Azure allows 400", |n| {
        let routes = repeat(n, |i| {
            format!("{{name: r{i}, addressPrefix: 10.0.{}.{}/32, nextHopType: None}}", i / 256, i % 256)
        });
        customer(&format!("routeTables: [{{name: t, routes: {routes}}}]"))
    });
}

#[test]
fn keeps_the_limits_of_learned_routes() {
    let learned = |tier: &str, from: &str, prefix: fn(usize) -> String, n| {
        customer(&format!(
            "expressRouteCircuits: [{{name: c, sku: {{tier: {tier}}}, peerings: [{{name: \
             AzurePrivatePeering}}, {{name: MicrosoftPeering}}, {{name: AzurePublicPeering}}]}}]\n  \
             learnedRoutes: {}",
            repeat(n, |i| format!("{{prefix: '{}', circuit: c{from}}}", prefix(i)))
        ))
    };
    let v4 = |i: usize| format!("10.{}.{}.0/24", i / 256, i % 256);
    let v6 = |i: usize| format!("fd00:{i:x}::/32");
    limit(4000, "Azure learns 4000 IPv4 prefixes on the primary and the secondary link", |n| {
        learned("Standard", "", v4, n)
    });
    limit(10_000, "Azure learns 10000 IPv4 prefixes on the secondary link", |n| {
        learned("premium", ", link: secondary", v4, n)
    });
    limit(100, "Azure learns 100 IPv6 prefixes on the primary link", |n| {
        learned("Local", ", link: primary", v6, n)
    });
    let v4 = |i: usize| format!("20.0.{i}.0/24");
    let v6 = |i: usize| format!("2001:db8:{i:x}::/48");
    for (peering, tier) in [("MicrosoftPeering", "Premium"), ("AzurePublicPeering", "Standard")] {
        let from = format!(", peering: {peering}");
        limit(200, "Azure learns 200 IPv4 prefixes on the primary and the secondary link", |n| {
            learned(tier, &from, v4, n)
        });
        limit(200, "Azure learns 200 IPv6 prefixes on the secondary link", |n| {
            learned(tier, &format!("{from}, link: secondary"), v6, n)
        });
    }
}

#[test]
fn a_route_that_comes_and_goes_is_one_prefix_of_the_limit() {
    let from = "circuit: c, peering: MicrosoftPeering";
    let spans =
        (0..9).map(|i| format!("{{prefix: 20.1.0.0/16, {from}, at: {}, until: {}}}", 2 * i, 2 * i + 1));
    let spans: Vec<String> = spans.collect();
    limit(200, "Azure learns 200 IPv4 prefixes on the primary and the secondary link", |n| {
        let others = (1..n).map(|i| format!("{{prefix: 20.0.{i}.0/24, {from}}}"));
        let routes: Vec<String> = spans.iter().cloned().chain(others).collect();
        customer(&format!(
            "expressRouteCircuits: [{{name: c, peerings: [{{name: MicrosoftPeering}}]}}]\n  learnedRoutes: [{}]",
            routes.join(", ")
        ))
    });
}

#[test]
fn keeps_the_limits_of_application_security_groups_and_circuits() {
    let asgs = |n| repeat(n, |i| format!("{{name: a{i}}}"));
    let names = |from: usize, n: usize| repeat(n, |i| format!("a{}", from + i));
    limit(100, "names 101 application security groups in its rules; Azure allows 100", |n| {
        let rules = repeat(n.div_ceil(10), |i| {
            let asgs = names(10 * i, (n - 10 * i).min(10));
            format!(
                "{{name: r{i}, priority: {}, direction: Inbound, access: Allow, protocol: '*', \
                 sourcePortRange: '*', \
                 sourceApplicationSecurityGroups: {asgs}, destinationAddressPrefix: '*', \
                 destinationPortRange: '*'}}",
                100 + i
            )
        });
        customer(&format!(
            "applicationSecurityGroups: {}\n  networkSecurityGroups: [{{name: n, securityRules: {rules}}}]",
            asgs(n)
        ))
    });
    limit(20, "is in 21 groups; Azure allows 20", |n| {
        customer(&format!(
            "applicationSecurityGroups: {}\n  virtualNetworks: [{{name: v, addressSpace: \
             {{addressPrefixes: [10.0.0.0/8]}}, \
             subnets: [{{name: s, addressPrefix: 10.0.0.0/24}}]}}]\n  networkInterfaces: [{{name: n, ipConfigurations: \
             [{{privateIPAddress: 10.0.0.4, subnet: v/s, applicationSecurityGroups: {}}}]}}]\n  \
             tunnels: [{{vnet: v, port: f, key: 1}}]",
            asgs(n),
            names(0, n)
        ))
    });
    let vnets = |sku: &str, n: usize| {
        customer(&format!(
            "virtualNetworks: {}\n  virtualNetworkGateways: {}\n  connections: {}\n  tunnels: {}\n  \
             expressRouteCircuits: [{{name: c, {sku}}}]",
            repeat(n, |i| format!("{{name: v{i}, addressSpace: {{addressPrefixes: [10.{i}.0.0/16]}}}}")),
            repeat(n, |i| format!("{{name: g{i}, gatewayType: ExpressRoute, virtualNetwork: v{i}}}")),
            repeat(n, |i| format!(
                "{{name: c{i}, connectionType: ExpressRoute, virtualNetworkGateway1: g{i}, peer: c}}"
            )),
            repeat(n, |i| format!("{{vnet: v{i}, port: f, key: {i}}}")),
        ))
    };
    let bandwidths =
        [(50, 20), (100, 25), (200, 25), (500, 40), (1000, 50), (2000, 60), (5000, 75), (10_000, 100)];
    for (mbps, premium) in bandwidths {
        for (tier, most) in [("Premium", premium), ("Standard", 10), ("Local", 10)] {
            limit(most, &format!("allows {most} virtual networks"), |n| {
                let provider = format!("serviceProviderProperties: {{bandwidthInMbps: {mbps}}}");
                vnets(&format!("sku: {{tier: {tier}}}, {provider}"), n)
            });
        }
    }
}

#[test]
fn tells_twenty_faults_in_twenty_sentences() {
    let faults = told(include_str!("data/twenty-faults.yaml"));
    assert!(faults.len() >= 20, "{faults:#?}");
    assert!(faults.iter().all(|f| f.severity == Severity::Error && f.line > 0 && !f.message.is_empty()));
    assert!(faults.is_sorted_by_key(|f| (f.line, f.column)));
    let lines: std::collections::BTreeSet<u32> = faults.iter().map(|f| f.line).collect();
    assert!(lines.len() >= 20, "{faults:#?}");
}
