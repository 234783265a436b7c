//! Every Azure document of the shared data is read into resources, or refused with a sentence that is true.
//! Skipped, saying so, where the data is not beside the repository (or where `CLEARWAY_SHARED_DATA` says).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clearway::model::azure::{self, Resource, ResourceKind};
use clearway::model::fault::Fault;
use clearway::model::node::{Kind, Node};
use clearway::model::{tags, text};

/// The files of a folder of the shared data, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let data = match std::env::var_os("CLEARWAY_SHARED_DATA") {
        Some(data) => PathBuf::from(data),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let Ok(entries) = fs::read_dir(data.join(folder)) else {
        println!("skipped: there is no {}", data.join(folder).display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// A folder and what its documents come to: file, what of it is read, and the beginning of each fault.
fn check(folder: &str, expected: &[(&str, &str, &[&str])]) {
    let files = files(folder);
    if files.is_empty() {
        return;
    }
    let (mut read, mut faulty) = (0, 0);
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let document = text::parse(&name, &fs::read(path).unwrap()).unwrap();
        let (resources, faults) = load(&document);
        let (_, kinds, sentences) =
            expected.iter().find(|e| e.0 == name).unwrap_or_else(|| panic!("{name} is new"));
        assert_eq!(shown(&resources), *kinds, "{name}");
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), sentences.len(), "{name}: {faults:#?}");
        for (fault, sentence) in faults.iter().zip(*sentences) {
            assert!(fault.contains(sentence), "{name}: {fault}, not {sentence}");
        }
        read += usize::from(faults.is_empty());
        faulty += usize::from(!faults.is_empty());
    }
    assert_eq!(files.len(), expected.len());
    println!("{folder}: {} files, {read} read, {faulty} refused", files.len());
}

/// The resources of a document, after what must hold for every one.
fn load(document: &Node) -> (Vec<Resource>, Vec<Fault>) {
    let mut faults = Vec::new();
    let resources = azure::resources(document, &mut faults);
    for fault in &faults {
        assert!(fault.line > 0 && fault.column > 0 && !fault.message.is_empty(), "{fault}");
    }
    for resource in resources.iter().filter(|r| !matches!(r.kind, ResourceKind::Other(_))) {
        assert!(!resource.name.is_empty() && !resource.name.contains(['[', '/']), "{}", resource.name);
        assert_eq!(resource.body.get("name").and_then(Node::as_str), Some(resource.name.as_str()));
        assert!(resource.body.get_ci("properties").is_none());
    }
    (resources, faults)
}

/// How many there are of each kind, parts as `vnet/subnets`; what has no effect is left out.
fn shown(resources: &[Resource]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for resource in resources {
        let kind = match &resource.kind {
            ResourceKind::Other(kind) => {
                let part = kind.to_lowercase().replace("microsoft.network/", "");
                let parts =
                    ["virtualnetworks/", "networksecuritygroups/", "routetables/", "expressroutecircuits/"];
                if !parts.iter().any(|p| part.starts_with(p)) {
                    continue;
                }
                part
            }
            kind => format!("{kind:?}"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn templates() {
    let tool = &["is a settings file of the Azure Building Blocks tool"][..];
    check(
        "azure/arm-template",
        &[
            (
                "alz-bastion.json",
                "virtualnetworks/subnets 1",
                &["alz-bastion.json:168:37: error: '[variables("],
            ),
            (
                "asg.json",
                "ApplicationSecurityGroup 1, NetworkInterface 1, NetworkSecurityGroup 1, VirtualNetwork 1",
                &[],
            ),
            (
                "azfw-forced-tunneling.json",
                "NetworkInterface 2, NetworkSecurityGroup 1, RouteTable 2, VirtualNetwork 2, \
                 virtualnetworks/virtualnetworkpeerings 2",
                &[],
            ),
            (
                "bicep-hub-spoke.json",
                "RouteTable 1, VirtualNetwork 2",
                &["must be known: reference() is answered only by Azure"; 2],
            ),
            (
                "er-private-peering-vnet.json",
                "ExpressRouteCircuit 1, NetworkSecurityGroup 1, VirtualNetwork 1, VirtualNetworkGateway 1, \
                 expressroutecircuits/peerings 1",
                &[],
            ),
            (
                "fortigate-routeserver.json",
                "",
                &["the parameter 'fortiGateNamePrefix' has no defaultValue"; 11],
            ),
            (
                "fwm-qs.json",
                "NetworkInterface 2, NetworkSecurityGroup 2, RouteTable 1, VirtualNetwork 1, virtualnetworks/subnets 2",
                &[],
            ),
            ("hub-spoke-er.json", "", tool),
            (
                "ipv6-in-vnet-stdlb.json",
                "NetworkInterface 2, NetworkSecurityGroup 1, RouteTable 1, VirtualNetwork 1",
                &[],
            ),
            ("n-tier-linux.json", "", tool),
            ("netsec-vnets.json", "", &["the parameter 'resourceNames' has no defaultValue"; 10]),
            ("pf-freebsd.json", "", &["must be known: "; 7]),
            ("secure-vnet-dmz.json", "", tool),
            (
                "sqlmi-vnet.json",
                "",
                &["has no defaultValue; give it one, or export the deployed resource"; 3],
            ),
            (
                "udr-appliance-classic.json",
                "NetworkInterface 3, NetworkSecurityGroup 1, RouteTable 1, VirtualNetwork 1",
                &[],
            ),
            ("wsus-asg.json", "NetworkInterface 1, NetworkSecurityGroup 1", &[]),
        ],
    );
}

#[test]
fn exports() {
    check(
        "azure/batfish-cloud-azure",
        &[
            ("VM-vnet.json", "VirtualNetwork 1", &[]),
            ("VM1-nsg.json", "NetworkSecurityGroup 1", &[]),
            ("VM1-public-ip.json", "", &[]),
            ("VM1.json", "", &[]),
            ("VM2-nsg.json", "NetworkSecurityGroup 1", &[]),
            ("VM2.json", "", &[]),
            ("nat-gateway-ip.json", "", &[]),
            ("nat-gateway.json", "", &[]),
            ("subnet-nsg.json", "NetworkSecurityGroup 1", &[]),
            ("vm1346.json", "NetworkInterface 1", &[]),
            ("vm235.json", "NetworkInterface 1", &[]),
        ],
    );
    let tool = &["is a settings file of the Azure Building Blocks tool"][..];
    check("azure/nsg-params", &[("bb-nsg-dmz.json", "", tool), ("bb-rt-complete.json", "", tool)]);
    let pair = "is no resource, list of resources or template of Azure that is known";
    check(
        "azure/oracle",
        &[("oracle-cli-2019.json", "", &[pair; 6]), ("oracle-net-watcher.json", "", &[pair; 5])],
    );
}

/// The bodies of the answers in a recording or REST example.
fn answers<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    for entry in node.entries() {
        match entry.key.as_str() {
            "ResponseBody" | "Body" => found.push(&entry.value),
            "body" => {
                found.push(["string", "data"].iter().find_map(|k| entry.value.get(k)).unwrap_or(&entry.value))
            }
            "parameters" | "request" => {}
            _ => answers(&entry.value, found),
        }
    }
    node.as_list().unwrap_or(&[]).iter().for_each(|item| answers(item, found));
}

/// Answers of a folder: each is read, or refused for one of these reasons.
fn check_answers(folder: &str, expected: &str, reasons: &[(&str, usize)]) {
    let files = files(folder);
    if files.is_empty() {
        return;
    }
    let (mut all, mut count, mut empty) = (Vec::new(), 0, 0);
    let mut refused = vec![0; reasons.len()];
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let recording = text::parse(&name, &fs::read(path).unwrap()).unwrap();
        let (resources, faults) = load(&recording);
        assert!(resources.is_empty() && faults.len() == 1, "{name}");
        assert!(faults[0].message.starts_with("is a recording of requests and answers"), "{}", faults[0]);
        let mut bodies = Vec::new();
        answers(&recording, &mut bodies);
        for body in bodies {
            let inner = match &body.kind {
                Kind::String(json) if json.trim().is_empty() => continue,
                Kind::String(json) => match text::parse("answer.json", json.as_bytes()) {
                    Ok(document) if document.is_null() => continue,
                    Ok(document) => document,
                    Err(faults) => panic!("{name}: {}", faults[0]),
                },
                Kind::Null => continue,
                _ => body.clone(),
            };
            count += 1;
            let (resources, faults) = load(&inner);
            for fault in &faults {
                let reason = reasons.iter().position(|r| fault.message.contains(r.0));
                refused[reason.unwrap_or_else(|| panic!("{name}: {fault}"))] += 1;
            }
            empty += usize::from(resources.is_empty() && faults.is_empty());
            all.extend(resources);
        }
    }
    println!(
        "{folder}: {} files, {count} answers ({empty} empty lists): {}; refused {refused:?}",
        files.len(),
        shown(&all)
    );
    assert_eq!(shown(&all), expected);
    assert_eq!(refused, reasons.iter().map(|r| r.1).collect::<Vec<_>>());
}

const NOT_KNOWN: &str = "its fields do not tell one";
const WORKED_OUT: &str = "holds what Azure worked out (effective routes or rules)";

#[test]
fn rest_examples() {
    let expected = "ExpressRouteCircuit 2, NetworkSecurityGroup 1, RouteFilter 1, RouteTable 1, \
                    VirtualNetworkGateway 1, expressroutecircuits/authorizations 1, expressroutecircuits/peerings 1, \
                    networksecuritygroups/defaultsecurityrules 6, virtualnetworks/subnets/resourcenavigationlinks 1";
    let reasons = [(NOT_KNOWN, 7), (WORKED_OUT, 1), ("is a file of service tags", 1)];
    check_answers("azure/rest-example", expected, &reasons);
}

#[test]
fn recordings() {
    let expected = "ApplicationSecurityGroup 9, NetworkInterface 11, NetworkSecurityGroup 40, RouteFilter 7, \
                    RouteTable 12, VirtualNetwork 14, networksecuritygroups/securityrules 9";
    let reasons = [
        (NOT_KNOWN, 99),
        (WORKED_OUT, 1),
        ("is a topology of Network Watcher", 3),
        ("is an error that Azure answered", 1),
        ("the template of this deployment is not written out", 2),
    ];
    check_answers("azure/api-recording", expected, &reasons);
}

#[test]
fn service_tags() {
    for path in files("service-tags") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let begin = std::time::Instant::now();
        let tags = tags::read_service_tags(&name, &bytes).unwrap_or_else(|faults| panic!("{}", faults[0]));
        let prefixes: usize = tags.by_name.values().map(|t| t.prefixes.len()).sum();
        println!("{name}: {} tags, {prefixes} prefixes in {:?}", tags.by_name.len(), begin.elapsed());
        assert!(tags.find("storage").is_some_and(|t| t.name == "Storage" && !t.prefixes.is_empty()));
        assert!(tags.find("AzurePlatformDNS").is_some());
    }
}
