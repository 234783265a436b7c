//! A complete configuration around exported resources: ports, and for each virtual network a tunnel and a host.

use std::fs;
use std::path::{Path, PathBuf};

use clearway::model::azure::{self, ResourceKind};
use clearway::model::node::Node;
use clearway::model::{self, Fault, Model, text};
use clearway::types::Prefix;
use serde_json::json;

/// A file by name.
pub type File = (String, Vec<u8>);

/// The virtual networks of exported files, with the ranges that can be read.
fn vnets(files: &[File]) -> Vec<(String, Vec<String>)> {
    let mut vnets: Vec<(String, Vec<String>)> = Vec::new();
    for (name, bytes) in files {
        let Ok(document) = text::parse(name, bytes) else { continue };
        for resource in azure::resources(&document, &mut Vec::new()) {
            let new = !vnets.iter().any(|v| v.0.eq_ignore_ascii_case(&resource.name));
            if resource.kind != ResourceKind::VirtualNetwork || !new {
                continue;
            }
            let ranges = resource.body.get_ci("addressSpace").and_then(|s| s.get_ci("addressPrefixes"));
            let ranges = ranges.and_then(Node::as_list).unwrap_or_default().iter().filter_map(Node::as_str);
            let good = |r: &&str| r.parse::<Prefix>().is_ok();
            vnets.push((resource.name, ranges.filter(good).map(str::to_owned).collect()));
        }
    }
    vnets
}

/// Writes the files and a configuration that names them into a folder.
pub fn write(folder: &Path, files: &[File], tags: Option<&Path>) -> PathBuf {
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("written");
    }
    let vnets = vnets(files);
    let tunnels: Vec<_> = vnets
        .iter()
        .enumerate()
        .map(|(n, v)| json!({"vnet": v.0, "port": "fabric", "key": 0xa01 + n}))
        .collect();
    let hosts: Vec<_> = vnets
        .iter()
        .enumerate()
        .filter(|(_, v)| !v.1.is_empty())
        .map(|(n, v)| json!({"address": format!("198.51.100.{}", 11 + n), "vnet": v.0, "prefixes": v.1}))
        .collect();
    let names: Vec<&String> = files.iter().map(|f| &f.0).collect();
    let mut configuration = json!({
        "apiVersion": "clearway/v1",
        "ports": {
            "fabric": {"role": "fabric", "address": "198.51.100.2", "mtu": 1600},
            "edge": {"role": "edge", "address": "192.0.2.1"},
            "internet": {"role": "internet", "address": "203.0.113.2"},
        },
        "customers": [{"name": "contoso", "resources": names, "tunnels": tunnels, "hosts": hosts}],
    });
    if let Some(tags) = tags {
        configuration["serviceTags"] = json!(tags);
    }
    let path = folder.join("clearway.json");
    fs::write(&path, configuration.to_string()).expect("written");
    path
}

/// Loads the files as one customer's.
pub fn load(files: &[File], tags: Option<&Path>) -> Result<Model, Vec<Fault>> {
    let folder = tempfile::tempdir().expect("a folder");
    model::load(&write(folder.path(), files, tags))
}

/// A fault as a person reads it, but for the folder.
pub fn sentence(fault: &Fault) -> String {
    let file = fault.file.rsplit('/').next().unwrap_or_default();
    let place = format!("{file}:{}:{}", fault.line, fault.column);
    if fault.value.is_empty() {
        return format!("{place}: {}", fault.message);
    }
    format!("{place}: '{}': {}", fault.value, fault.message)
}
