//! The contract's example in every shape that Azure's tools print it in, and configurations of several files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clearway::model::{self, AddressItem, Fault, Model, RouteTarget, Severity};

const EXAMPLE: &str = include_str!("data/contract-example.yaml");

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn sentences(faults: &[Fault]) -> String {
    faults.iter().map(|f| format!("{f}\n")).collect()
}

fn accept(name: &str, text: &str, base: Option<&Path>) -> Model {
    model::from_bytes(name, text.as_bytes(), base).unwrap_or_else(|faults| panic!("{}", sentences(&faults)))
}

/// The example with these exports in place of its resources.
fn with_exports(patterns: &str) -> String {
    let (head, _) = EXAMPLE.split_once("    # resources:").unwrap();
    let (_, tail) = EXAMPLE.split_once("    tunnels:\n").unwrap();
    format!("{head}    resources: {patterns}\n    tunnels:\n{tail}")
}

#[test]
fn accepts_the_example_of_the_contract() {
    let model = accept("example.yaml", EXAMPLE, None);
    assert_eq!(model.warnings, []);
    assert_eq!((model.ports.len(), model.customers.len()), (4, 1));
    assert_eq!(model.customers[0].tunnels[3].key, 0xc01);
}

#[test]
fn accepts_the_example_as_json() {
    let json = accept("example.json", include_str!("data/contract-example.json"), None);
    assert_eq!(json, accept("example.yaml", EXAMPLE, None));
}

#[test]
fn exports_of_every_shape_are_the_same_model() {
    let native = accept("example.yaml", EXAMPLE, None);
    for patterns in [
        "['az/*.json']",
        "[rest.json]",
        "[template.json]",
        "[az/vnet-list.json, 'az/[!v]*.json']",
        // The same resources twice, in two shapes.
        "['az/*', 'rest.json']",
    ] {
        let mut model = accept("net.yaml", &with_exports(patterns), Some(&data().join("contoso")));
        // Only exports have ids, and templates have none.
        let customer = Arc::make_mut(&mut model.customers[0]);
        let ids = customer
            .vnets
            .iter_mut()
            .map(|v| &mut v.id)
            .chain(customer.nsgs.iter_mut().map(|n| &mut Arc::make_mut(n).id));
        for id in ids {
            let id = id.take();
            assert!(id.as_ref().is_none_or(|id| id.starts_with("/subscriptions/")), "{id:?}");
        }
        assert_eq!(model, native, "{patterns}");
    }
}

#[test]
fn own_lists_stand_beside_exports() {
    let nics = "    networkInterfaces:\n      - {name: web-1, ipConfigurations: [{privateIPAddress: \
                10.1.0.4, subnet: hub/web}]}\n";
    let text = with_exports("['az/*.json']").replace("    tunnels:\n", &format!("{nics}    tunnels:\n"));
    let model = accept("net.yaml", &text, Some(&data().join("contoso")));
    let names: Vec<_> = model.customers[0].nics.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["web-1", "fw-nic"]);

    let text = text.replace("web-1", "FW-NIC");
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(&data().join("contoso"))).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert!(faults[0].file.ends_with("az/nic.json") && faults[0].line > 0 && faults[0].value == "fw-nic");
    assert!(faults[0].message.contains("already defined at net.yaml:11; rename one"), "{}", faults[0]);
}

#[test]
fn an_export_that_differs_from_the_first_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(data().join("contoso/az").join(name)).unwrap();
    fs::write(folder.path().join("a.json"), read("nsg.json")).unwrap();
    let other = read("nsg.json").replace("contoso-rg", "other-rg").replace("\"443\"", "\"22\"");
    fs::write(folder.path().join("b.json"), other).unwrap();
    let text = "apiVersion: clearway/v1\nports: {}\ncustomers: [{name: a, resources: ['*.json']}]";
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(folder.path())).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert!(faults[0].file.ends_with("b.json") && faults[0].message.contains("a.json:"), "{}", faults[0]);
    assert_eq!(faults[0].value, "web-nsg");
}

#[test]
fn a_broken_export_makes_no_noise_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vnet-list", "route-table", "nic", "circuit", "gateways", "connections"] {
        let name = format!("{name}.json");
        fs::copy(data().join("contoso/az").join(&name), folder.path().join(&name)).unwrap();
    }
    fs::write(folder.path().join("nsg.json"), "{\"name\": \"web-nsg\",").unwrap();
    let text = with_exports("['*.json']");
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(folder.path())).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert!(faults[0].file.ends_with("nsg.json"));

    fs::remove_file(folder.path().join("nsg.json")).unwrap();
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(folder.path())).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert!(faults[0].message.contains("export it too (az network nsg show)"), "{}", faults[0]);
}

#[test]
fn tunnels_of_a_circuit_that_carries_nothing_are_down() {
    let up = |from: &str, to: &str| {
        let model = accept("net.yaml", &EXAMPLE.replace(from, to), None);
        let tunnels = &model.customers[0].tunnels;
        (tunnels[0].enabled, tunnels[3].enabled, tunnels[4].enabled, model.warnings.len())
    };
    assert_eq!(up("", ""), (true, true, true, 0));
    assert_eq!(up("State: Provisioned", "State: notprovisioned"), (true, false, false, 1));
    assert_eq!(up("vlanId: 100", "state: Disabled"), (true, false, false, 1));
    assert_eq!(up("key: 0xc01", "key: 0xc01, enabled: false"), (true, false, true, 0));
}

#[test]
fn every_state_of_a_circuit_says_whether_it_carries() {
    let text = EXAMPLE
        .replace("        serviceProviderProvisioningState: Provisioned\n", "")
        .replace("vlanId: 100,", "vlanId: 100, {private}")
        .replace("        sku: {tier: Standard, family: MeteredData}", "        {circuit}")
        .replace(
            "192.168.255.4/30}]",
            "192.168.255.4/30}, {peeringType: MicrosoftPeering, {microsoft} microsoftPeeringConfig: \
             {{config} advertisedPublicPrefixes: [198.18.0.0/15]}}]",
        )
        .replace(
            "    hosts:",
            "      - {circuit: er1, peering: MicrosoftPeering, link: primary, port: edge-a, remote: 192.0.2.2, \
             key: 0xc03}\n    hosts:",
        );
    // Of private and of Microsoft peering, and the warnings.
    let up = |at: &str, said: &str| {
        let mut text = text.replace(at, said);
        for other in ["{circuit}", "{private}", "{microsoft}", "{config}"] {
            text = text.replace(other, "");
        }
        let model = accept("net.yaml", &text, None);
        let tunnels = &model.customers[0].tunnels;
        assert_eq!(tunnels[3].enabled, tunnels[4].enabled, "{said}");
        (tunnels[3].enabled, tunnels[6].enabled, model.warnings.len())
    };
    let mut wrong = String::new();
    let mut check = |at: &str, said: String, carry: [bool; 2]| {
        let wanted = (carry[0], carry[1], usize::from(carry != [true; 2]));
        let is = up(at, &said);
        if is != wanted {
            wrong += &format!("{at} {said} is {is:?}, not {wanted:?}\n");
        }
    };
    // Absent is up.
    check("{circuit}", String::new(), [true; 2]);
    let whole = [
        ("serviceProviderProvisioningState", "Provisioned", true),
        ("serviceProviderProvisioningState", "provisioned", true),
        ("serviceProviderProvisioningState", "NotProvisioned", false),
        ("serviceProviderProvisioningState", "Provisioning", false),
        ("serviceProviderProvisioningState", "Deprovisioning", false),
        ("circuitProvisioningState", "Enabled", true),
        ("circuitProvisioningState", "enabled", true),
        ("circuitProvisioningState", "Enabling", false),
        ("circuitProvisioningState", "Disabled", false),
        ("circuitProvisioningState", "Disabling", false),
    ];
    for (key, value, carries) in whole {
        check("{circuit}", format!("{key}: {value}"), [carries; 2]);
    }
    for (value, carries) in
        [("Enabled", true), ("Enabling", true), ("Disabling", true), ("Disabled", false), ("disabled", false)]
    {
        check("{private}", format!("state: {value},"), [carries, true]);
        check("{microsoft}", format!("state: {value},"), [true, carries]);
    }
    for (value, carries) in [
        ("Configured", true),
        ("configured", true),
        ("NotConfigured", false),
        ("Configuring", false),
        ("ValidationNeeded", false),
    ] {
        check("{config}", format!("advertisedPublicPrefixesState: {value},"), [true, carries]);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The example with a rule, a route and a service endpoint that name service tags, beside its tag file.
fn write_tagged(folder: &Path) -> PathBuf {
    let text = EXAMPLE
        .replace("# serviceTags: ServiceTags_Public.json", "serviceTags: tags.json")
        .replace("sourceAddressPrefix: Internet", "sourceAddressPrefix: azurecloud")
        .replace(
            "{name: via-fw,",
            "{name: store, addressPrefix: STORAGE.westus, nextHopType: Internet}\n          - {name: via-fw,",
        )
        .replace(
            "{name: fw, addressPrefix: 10.1.9.0/24}",
            "{name: fw, addressPrefix: 10.1.9.0/24, serviceEndpoints: [{service: microsoft.sql, \
             locations: [West US, westus, '*']}]}",
        );
    let tag = |name: &str, prefix: &str| {
        format!("{{\"name\": \"{name}\", \"properties\": {{\"addressPrefixes\": [\"{prefix}\"]}}}}")
    };
    let tags = [
        tag("AzureCloud", "13.64.0.0/11"),
        tag("Storage", "13.65.0.0/16"),
        tag("Storage.WestUS", "13.65.1.0/24"),
        tag("Sql", "13.66.0.0/16"),
        tag("Sql.WestUS", "13.66.1.0/24"),
    ];
    fs::write(folder.join("tags.json"), format!("{{\"values\": [{}]}}", tags.join(", "))).unwrap();
    let path = folder.join("net.yaml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn keeps_the_service_tags_that_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_tagged(folder.path());
    let model = model::load(&path).unwrap_or_else(|faults| panic!("{}", sentences(&faults)));
    let names: Vec<_> = model.tags.by_name.values().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["AzureCloud", "Sql", "Sql.WestUS", "Storage.WestUS"]);
    let customer = &model.customers[0];
    assert_eq!(customer.nsgs[0].rules[0].source.items, [AddressItem::Tag("AzureCloud".to_string())]);
    assert_eq!(customer.route_tables[0].routes[0].target, RouteTarget::Tag("Storage.WestUS".to_string()));
    let endpoint = &customer.vnets[0].subnets[1].service_endpoints[0];
    assert_eq!(
        (endpoint.service.as_str(), endpoint.tags.join(" ")),
        ("Microsoft.Sql", "Sql.WestUS Sql".to_string())
    );

    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("STORAGE.westus", "Storage.WestUS2")
        .replace("West US", "Mars");
    fs::write(&path, text).unwrap();
    let faults = model::load(&path).unwrap_err();
    assert_eq!(faults.len(), 2, "{}", sentences(&faults));
    assert!(
        faults[0].message.contains("Sql.Mars, which the file that serviceTags names does not have"),
        "{}",
        faults[0]
    );
    assert!(faults[1].message.ends_with("did you mean Storage.WestUS?"), "{}", faults[1]);
    assert!(faults.iter().all(|f| f.file.ends_with("net.yaml") && f.line > 0));

    fs::remove_file(folder.path().join("tags.json")).unwrap();
    let faults = model::load(&path).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert_eq!((faults[0].line, faults[0].column, faults[0].value.as_str()), (72, 14, "tags.json"));
}

#[test]
fn keeps_the_communities_that_filters_name() {
    let folder = tempfile::tempdir().unwrap();
    let filter = |name: &str, community: &str| {
        format!(
            "{{\"id\": \"/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeFilters/{name}\", \"name\": \"{name}\",
             \"type\": \"Microsoft.Network/routeFilters\", \"properties\": {{\"rules\": [{{\"name\": \"rule\", \"properties\":
             {{\"access\": \"Allow\", \"routeFilterRuleType\": \"Community\", \"communities\": [\"{community}\"]}}}}]}}}}"
        )
    };
    // One whole, and one whose rule is a resource of its own.
    let rule = "{\"resources\": [{\"type\": \"Microsoft.Network/routeFilters\", \"name\": \"other\"},
        {\"type\": \"Microsoft.Network/routeFilters/routeFilterRules\", \"name\": \"other/rule\",
         \"properties\": {\"access\": \"Allow\", \"communities\": [\"12076:5030\"]}}]}";
    fs::write(folder.path().join("a.json"), filter("one", "12076:5010")).unwrap();
    fs::write(folder.path().join("b.json"), rule).unwrap();
    let communities = "[{\"bgpCommunities\": [
        {\"communityValue\": \"12076:5010\", \"communityPrefixes\": [\"13.107.6.0/24\", \"2603:1006::/40\"]},
        {\"communityValue\": \"12076:5020\", \"communityPrefixes\": [\"13.107.7.0/24\"]}]}]";
    fs::write(folder.path().join("communities.json"), communities).unwrap();
    let text = "apiVersion: clearway/v1\nports: {}\ncommunities: communities.json\n\
                customers: [{name: a, resources: ['?.json']}]";
    let model = accept("net.yaml", text, Some(folder.path()));
    let filters = &model.customers[0].route_filters;
    let named: Vec<_> = filters.iter().map(|f| (f.name.as_str(), f.communities.as_slice())).collect();
    assert_eq!(named, [("one", &[12076 << 16 | 5010][..]), ("other", &[12076 << 16 | 5030])]);
    let known: Vec<_> = model.communities.iter().map(|(c, prefixes)| (*c, prefixes.len())).collect();
    assert_eq!(known, [(12076 << 16 | 5010, 2)]);
    let warned: Vec<_> =
        model.warnings.iter().map(|w| (w.file.rsplit('/').next().unwrap(), w.value.as_str())).collect();
    assert_eq!(warned, [("b.json", "12076:5030")]);

    fs::write(folder.path().join("communities.json"), communities.replace("13.107.7.0", "13.107.7.1"))
        .unwrap();
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(folder.path())).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", sentences(&faults));
    assert!(faults[0].file.ends_with("communities.json") && faults[0].line == 3, "{}", faults[0]);
    fs::remove_file(folder.path().join("communities.json")).unwrap();
    let faults = model::from_bytes("net.yaml", text.as_bytes(), Some(folder.path())).unwrap_err();
    assert_eq!((faults.len(), faults[0].line, faults[0].value.as_str()), (1, 3, "communities.json"));
    assert!(faults[0].message.starts_with("the file of communities cannot be read"), "{}", faults[0]);
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let faults = model::load(Path::new("no/such/net.yaml")).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].line, faults[0].severity), (0, Severity::Error));
    assert!(faults[0].to_string().starts_with("no/such/net.yaml: error: cannot be read: "), "{}", faults[0]);
}

#[test]
fn faults_of_several_files_are_told_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("x")).unwrap();
    for name in ["b", "a"] {
        let nsg = format!(
            "{{\"type\": \"Microsoft.Network/networkSecurityGroups\", \"name\": \
             \"{name}\",\n\"flushConnection\": 7}}"
        );
        fs::write(folder.path().join("x").join(format!("{name}.json")), nsg).unwrap();
    }
    let path = folder.path().join("net.yaml");
    fs::write(&path, "apiVersion: clearway/v2\nports: {}\ncustomers: [{name: c, resources: [x/*.json]}]\n")
        .unwrap();
    let faults = model::load(&path).unwrap_err();
    let places: Vec<_> =
        faults.iter().map(|f| (f.file.rsplit('/').next().unwrap(), f.line, f.column)).collect();
    assert_eq!(places, [("net.yaml", 1, 13), ("a.json", 2, 20), ("b.json", 2, 20)]);
}
