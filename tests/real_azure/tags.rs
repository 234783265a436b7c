//! Microsoft's published service tag files: read, and used by rules, routes and service endpoints.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use clearway::compile::effective::{RouteSource, SubnetRouting, effective_routes};
use clearway::compile::topology::Learned;
use clearway::model::{self, Model};
use clearway::types::Prefix;
use serde_json::{Value, json};

use super::real_data;
use super::wrap::Network;

/// A configuration whose rules and routes name tags of this file.
fn configuration(tags: &Path) -> Value {
    let rule = |name: &str, priority: u32, tag: &str| {
        json!({"name": name, "priority": priority, "direction": "Outbound", "access": "Deny", "protocol": "Tcp",
               "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": tag,
               "destinationPortRange": "443"})
    };
    let route =
        |name: &str, tag: &str| json!({"name": name, "addressPrefix": tag, "nextHopType": "Internet"});
    json!({
        "apiVersion": "clearway/v1",
        "serviceTags": tags,
        "ports": {"fabric": {"role": "fabric", "address": "198.51.100.2"},
                  "internet": {"role": "internet", "address": "203.0.113.2"}},
        "customers": [{
            "name": "contoso",
            "virtualNetworks": [{"name": "hub", "addressSpace": {"addressPrefixes": ["10.1.0.0/16"]}, "subnets": [
                {"name": "ruled", "addressPrefix": "10.1.0.0/24", "networkSecurityGroup": "group"},
                {"name": "routed", "addressPrefix": "10.1.1.0/24", "routeTable": "table",
                 "serviceEndpoints": [{"service": "Microsoft.KeyVault", "locations": ["*"]}]}]}],
            "networkSecurityGroups": [{"name": "group", "securityRules": [
                rule("NoStorage", 100, "Storage"), rule("NoSql", 110, "sql"), rule("NoCloud", 120, "AzureCloud")]}],
            "routeTables": [{"name": "table", "routes": [route("storage", "Storage"), route("cloud", "AzureCloud")]}],
            "tunnels": [{"vnet": "hub", "port": "fabric", "key": 0xa01}],
            "hosts": [{"address": "198.51.100.11", "vnet": "hub", "prefixes": ["10.1.0.0/16"]}],
        }],
    })
}

fn prefixes<'a>(model: &'a Model, tag: &str) -> &'a [Prefix] {
    &model.tags.find(tag).unwrap_or_else(|| panic!("{tag} is in use")).prefixes
}

fn check(file: &str, tags: &Path) {
    let text = fs::read_to_string(tags).expect("a file");
    let published: Value = serde_json::from_str(&text).expect("JSON");
    let values = published["values"].as_array().expect("a list");
    let count = |v: &Value| v["properties"]["addressPrefixes"].as_array().map_or(0, Vec::len);
    let all = model::tags::read_service_tags(file, text.as_bytes()).unwrap_or_else(|f| panic!("{}", f[0]));
    for value in values {
        let tag = all.find(value["name"].as_str().unwrap_or_default());
        assert_eq!(tag.map(|t| t.prefixes.len()), Some(count(value)), "{file}: {}", value["name"]);
    }
    // The tags of platform addresses are known without a file.
    let others = all.by_name.values().filter(|t| !values.iter().any(|v| v["name"] == t.name));
    assert!(others.into_iter().all(|t| t.name.starts_with("AzurePlatform")));
    let network = Network::with(tempfile::tempdir().expect("a folder"), &configuration(tags));
    let model = network.load().unwrap_or_else(|f| panic!("{file}: {f:#?}"));
    let customer = &model.customers[0];
    let subnet = &customer.vnets[0].subnets[1];
    let routing =
        SubnetRouting { route_table: subnet.route_table, service_endpoints: &subnet.service_endpoints };
    let routes = effective_routes(customer, &model.tags, 0, routing, &Learned::new());
    let of = |source: RouteSource, tag: &str| {
        routes.iter().filter(|r| r.source == source && r.tag == Some(tag)).count()
    };
    assert_eq!(of(RouteSource::User, "Storage"), prefixes(&model, "Storage").len());
    assert_eq!(of(RouteSource::User, "AzureCloud"), prefixes(&model, "AzureCloud").len());
    let vault = prefixes(&model, "AzureKeyVault").iter().filter(|p| p.is_ipv4()).count();
    assert_eq!(of(RouteSource::Default, "AzureKeyVault"), vault);
    let mut asked = 0;
    for prefix in prefixes(&model, "Storage").iter().filter(|p| p.is_ipv4()).step_by(150) {
        let to = SocketAddr::new(prefix.last(), 443);
        let machine = |subnet: u8| SocketAddr::from(([10, 1, subnet, 4], 50_000));
        let denied = network.explain("hub", "fabric", machine(0), to);
        assert_eq!(
            (&denied["access"], &denied["ruleName"]),
            (&json!("Deny"), &json!("securityRules/NoStorage"))
        );
        let passed = network.explain("hub", "fabric", machine(1), to);
        let holding = routes.iter().filter(|r| r.is_active() && r.prefix.contains(to.ip()));
        let longest = holding.max_by_key(|r| r.prefix.len()).map(|r| r.prefix.to_string());
        assert_eq!((&passed["access"], &passed["routePrefix"]), (&json!("Allow"), &json!(longest)));
        asked += 2;
    }
    println!(
        "{file}: {} tags, {} prefixes; {} effective routes, {asked} packets",
        values.len(),
        values.iter().map(count).sum::<usize>(),
        routes.len()
    );
    assert!(asked > 0);
}

#[test]
fn rules_routes_and_endpoints_use_the_published_tags() {
    let Some(folder) = real_data::folder("service-tags") else { return };
    let unpacked = tempfile::tempdir().expect("a folder");
    let mut files = 0;
    for path in real_data::files_below(&folder) {
        let name = real_data::name(&path);
        let plain = unpacked.path().join(name.trim_end_matches(".gz"));
        fs::write(&plain, real_data::text(&path)).expect("written");
        check(name, &plain);
        files += 1;
    }
    assert_eq!(files, 3);
}
