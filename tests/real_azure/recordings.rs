//! The answers in recordings of Azure's interface, each alone, and the last state of all resources of a recording together.

use std::collections::BTreeMap;

use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::model::node::{Kind, Node};
use clearway::model::text;
use serde_json::Value;

use super::Comes::{Refused, To};
use super::wrap::{File, load, sentence};
use super::{hold, judge, read, real_data};

/// A document as JSON.
pub fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(b) => Value::Bool(*b),
        Kind::Number(n) => n.parse().map_or(Value::Null, Value::Number),
        Kind::String(s) => Value::String(s.clone()),
        Kind::List(items) => items.iter().map(json).collect(),
        Kind::Map(entries) => {
            Value::Object(entries.iter().map(|e| (e.key.clone(), json(&e.value))).collect())
        }
    }
}

/// The bodies of the requests or of the answers of a recording, in their order.
pub fn bodies(document: &Value, of_requests: bool) -> Vec<Value> {
    let mut found = Vec::new();
    collect(document, of_requests, &mut found);
    let written = |body: Value| match body {
        // One recorder writes requests as Python shows bytes: b'...'.
        Value::String(text) => {
            let bytes = text.strip_prefix("b'").and_then(|t| t.strip_suffix('\''));
            let text = bytes.map_or(text.clone(), |t| t.replace("\\'", "'"));
            serde_json::from_str(&text).unwrap_or(Value::Null)
        }
        body => body,
    };
    found.into_iter().map(written).filter(|b| !b.is_null()).collect()
}

fn collect(value: &Value, of_requests: bool, found: &mut Vec<Value>) {
    let Some(map) = value.as_object() else {
        value.as_array().into_iter().flatten().for_each(|v| collect(v, of_requests, found));
        return;
    };
    for (key, value) in map {
        match (key.as_str(), of_requests) {
            ("RequestBody", true) => found.push(value.clone()),
            ("ResponseBody" | "Body", false) => found.push(value.clone()),
            ("request", true) => found.push(value["body"].clone()),
            ("request" | "parameters", false) => {}
            ("body", false) => {
                let inner = ["string", "data"].iter().map(|k| &value[k]).find(|v| !v.is_null());
                found.push(inner.unwrap_or(value).clone());
            }
            _ => collect(value, of_requests, found),
        }
    }
}

/// The recordings of a folder.
pub fn recordings(folder: &str) -> Vec<(String, Value)> {
    let parse = |(name, bytes): File| {
        let document = text::parse(&name, &bytes).unwrap_or_else(|f| panic!("{name}: {f:?}"));
        (name, json(&document))
    };
    read(folder).unwrap_or_default().into_iter().map(parse).collect()
}

/// The last answer about each resource of these types, by id.
pub fn last_state(document: &Value) -> BTreeMap<String, Value> {
    let mut state = BTreeMap::new();
    for body in bodies(document, false) {
        let list = body["value"].as_array().cloned().unwrap_or_else(|| vec![body]);
        for resource in list {
            let Some(id) = resource["id"].as_str().map(str::to_lowercase) else { continue };
            if id.contains("/providers/microsoft.network/") && resource["properties"].is_object() {
                state.insert(id, resource);
            }
        }
    }
    state
}

/// Every sentence that a whole recording may be refused with.
const RECORDING: &str =
    "is a recording of requests and answers, no resource; put the body of an answer into a file of its own";

/// Sentences that a single answer may be refused with; judged by reading the answers.
const REFUSALS: [&str; 15] = [
    // Operations, errors, and what is worked out or of no effect.
    "is no resource, list of resources or template of Azure that is known",
    "holds what Azure worked out (effective routes or rules), no resources",
    "is a file of service tags, no resource; name it in 'serviceTags'",
    "is a topology of Network Watcher",
    "is an error that Azure answered ('ResourceNotFound')",
    "the template of this deployment is not written out in this file",
    // Resources that need others.
    "belongs to a circuit that is in no export",
    "belongs to a network security group that is in no export",
    "belongs to a route filter that is in no export",
    "names a network security group that customer 'contoso' does not have",
    "names a route table that customer 'contoso' does not have",
    "names an application security group that customer 'contoso' does not have",
    "which customer 'contoso' does not have; define it, or export it too (az network vnet show)",
    // A tag of Microsoft's own network, in no published file.
    "'CorpNetSaw': sourceAddressPrefix of rule 'NRMS-Rule-104' is no prefix and no service tag of the file",
    // Azure took the texts '789', '1234' and '111' for addresses in this recording; what they meant there is unknown.
    "AddressPrefix of rule 'web' must be *, an address, a prefix or a service tag",
];

#[test]
fn answers_load_or_say_why_not() {
    let Some(tags) = real_data::folder("service-tags") else { return };
    let tags = tags.join("ServiceTags_China_20260720.json");
    for folder in ["rest-example", "api-recording"] {
        let (mut answers, mut loaded) = (0, 0);
        let mut refusals: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, document) in recordings(folder) {
            let whole = load(&[(name.clone(), document.to_string().into_bytes())], None);
            let whole: Vec<String> = whole.expect_err("a recording").iter().map(sentence).collect();
            hold(&name, &whole, &[RECORDING]);
            for (n, body) in bodies(&document, false).iter().enumerate() {
                let file = format!("{name}-{n}.json");
                answers += 1;
                match load(&[(file, body.to_string().into_bytes())], Some(&tags)) {
                    Ok(model) => {
                        compile(&model, &mut Names::default());
                        loaded += 1;
                    }
                    Err(faults) => {
                        for fault in faults {
                            let said = sentence(&fault);
                            let known = REFUSALS.iter().find(|r| said.contains(**r));
                            let known = known.unwrap_or_else(|| panic!("{said}: {body:#}"));
                            *refusals.entry(known).or_default() += 1;
                        }
                    }
                }
            }
        }
        println!("azure/{folder}: {answers} answers, {loaded} load; refused by {refusals:#?}");
        assert!(loaded > 0);
    }
}

#[test]
fn the_resources_of_a_recording_load_together() {
    let Some(tags) = real_data::folder("service-tags") else { return };
    let tags = tags.join("ServiceTags_China_20260720.json");
    const OVERLAP: &str = "has no Internet tunnel and overlaps virtual network";
    let expected = [
        // These two recordings do not show the virtual networks of their network interfaces.
        (
            "cc-effective-routes.json",
            Refused(&["'cctestnic' lies in virtual network", "'myVMNic' lies in virtual network"]),
        ),
        ("cc-nsg-icmp.json", To([0, 0, 1, 1, 0, 0, 0, 0, 0], &[])),
        ("cc-nsg-ports.json", To([0, 0, 2, 8, 0, 0, 0, 0, 0], &[])),
        ("cc-routetable.json", To([0, 0, 0, 0, 2, 4, 0, 0, 0], &[])),
        ("cli-asg.yaml", To([0; 9], &[])),
        (
            "cli-nsg.yaml",
            Refused(&[
                "'789': sourceAddressPrefix … of rule 'web' must be *, an address, a prefix or a service tag",
                "'1234': destinationAddressPrefix … of rule 'web' must be *, an address, a prefix or a service tag",
                "'web': is the name of a rule already defined at",
                "'111': sourceAddressPrefix … of rule 'web' must be *, an address, a prefix or a service tag",
                "'111': destinationAddressPrefix … of rule 'web' must be *, an address, a prefix or a service tag",
            ]),
        ),
        // The interface took a rule that denies, which Azure's documents do not allow, and which would let nothing through.
        ("cli-route-filter.yaml", Refused(&["'Deny': rule 'rule1' of route filter 'filter1' must be Allow"])),
        (
            "cli-watcher-2019.yaml",
            Refused(&[
                "'vm1VMNic' lies in virtual network 'vm1VNET'",
                "'vm1VMNic' names a network security group",
            ]),
        ),
        ("java-nsg.json", Refused(&["'CorpNetSaw': sourceAddressPrefix of rule 'NRMS-Rule-104'"])),
        ("java-routetables.json", To([1, 1, 0, 0, 1, 4, 0, 0, 0], &[])),
        ("net-networkwatcher.json", To([2, 3, 1, 0, 0, 0, 2, 0, 0], &[OVERLAP; 2])),
    ];
    let recordings = recordings("api-recording");
    assert_eq!(recordings.len(), expected.len());
    for ((name, document), (expected_name, comes)) in recordings.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        let files: Vec<File> = last_state(document)
            .values()
            .enumerate()
            .map(|(n, resource)| (format!("r{n}.json"), resource.to_string().into_bytes()))
            .collect();
        judge(name, load(&files, Some(&tags)), comes);
    }
    println!("azure/api-recording: {} recordings, the last state of their resources", recordings.len());
}
