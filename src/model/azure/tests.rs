//! Tests of Azure's shapes.

use super::*;
use crate::model::text;

fn read(json: &str) -> Node {
    text::parse("t.json", json.as_bytes()).unwrap()
}

/// A whole tree in one line.
fn show(node: &Node) -> String {
    match &node.kind {
        Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Kind::Map(entries) => {
            let each = |e: &Entry| format!("{}: {}", e.key, show(&e.value));
            format!("{{{}}}", entries.iter().map(each).collect::<Vec<_>>().join(", "))
        }
        _ => node.describe(),
    }
}

#[test]
fn flattens_properties_and_drops_nulls() {
    let rest = read(
        r#"{"name": "hub", "tags": {"properties": {"a": 1}, "n": null}, "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/8"]},
            "flowTimeoutInMinutes": null, "subnets": [{"name": "web", "properties": {"addressPrefix": "10.0.0.0/24"}}]}}"#,
    );
    assert_eq!(
        show(&flatten(&rest)),
        "{name: hub, tags: {properties: {a: 1}, n: null}, addressSpace: {addressPrefixes: [10.0.0.0/8]}, \
         subnets: [{name: web, addressPrefix: 10.0.0.0/24}]}"
    );
}

#[test]
fn reads_references() {
    let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/web";
    for (json, name, parent, kind) in [
        ("\"hub\"".to_owned(), "hub", None, None),
        ("\"hub/fw\"".to_owned(), "fw", Some("hub"), None),
        (format!("\"{id}\""), "web", Some("hub"), Some("subnets")),
        (format!("{{\"id\": \"{id}\", \"name\": null}}"), "web", Some("hub"), Some("subnets")),
        ("{\"name\": \"n\"}".to_owned(), "n", None, None),
        ("{\"id\": \"Microsoft.Network/routeTables/rt\"}".to_owned(), "rt", None, Some("routeTables")),
        ("{\"id\": \"/virtualNetworks/v\"}".to_owned(), "v", None, Some("virtualNetworks")),
        ("7".to_owned(), "7", None, None),
    ] {
        let reference = reference(&read(&json)).unwrap();
        assert_eq!(reference.name, name, "{json}");
        assert_eq!(reference.parent.as_deref(), parent, "{json}");
        assert_eq!(reference.kind.as_deref(), kind, "{json}");
    }
    for json in [
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"a/b/c\"",
        "\"a//b\"",
        "{\"id\": \"/subscriptions/s/providers/Microsoft.Network/x\"}",
    ] {
        assert_eq!(reference(&read(json)), None, "{json}");
    }
}
