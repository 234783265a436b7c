//! A complete configuration around exported resources: ports, and for each virtual network a tunnel and a host; and the
//! real program, asked about it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clearway::model::azure::{self, ResourceKind};
use clearway::model::node::Node;
use clearway::model::{self, Fault, Model, text};
use clearway::types::Prefix;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// A configuration in a folder of its own.
pub struct Network {
    _folder: TempDir,
    path: PathBuf,
}

impl Network {
    /// The files as one customer's, `contoso`.
    pub fn of(files: &[File], tags: Option<&Path>) -> Network {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        Network::with(folder, &configuration(files, tags))
    }

    /// This configuration.
    pub fn with(folder: TempDir, configuration: &Value) -> Network {
        let path = folder.path().join("clearway.json");
        fs::write(&path, configuration.to_string()).expect("written");
        Network { _folder: folder, path }
    }

    /// The model.
    pub fn load(&self) -> Result<Model, Vec<Fault>> {
        model::load(&self.path)
    }

    /// What `clearway COMMAND ... --json` prints about a VNet.
    pub fn run(&self, command: &str, vnet: &str, more: &[&str]) -> Value {
        let mut program = Command::new(env!("CARGO_BIN_EXE_clearway"));
        program
            .arg(command)
            .arg(&self.path)
            .args(["--customer", "contoso", "--vnet", vnet, "--json"])
            .args(more);
        let output = program.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|c| c < 2), "{program:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{program:?}: {e}: {said}"))
    }

    /// What `explain` says of a TCP connection from the VNet's own machine, or from the Internet.
    pub fn explain(&self, vnet: &str, entry: &str, from: SocketAddr, to: SocketAddr) -> Value {
        let (from, to) = (from.to_string(), to.to_string());
        self.run("explain", vnet, &["--entry", entry, "--protocol", "tcp", "--from", &from, "--to", &to])
    }
}

/// The configuration that names these files.
fn configuration(files: &[File], tags: Option<&Path>) -> Value {
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
    configuration
}

/// Loads the files as one customer's.
pub fn load(files: &[File], tags: Option<&Path>) -> Result<Model, Vec<Fault>> {
    Network::of(files, tags).load()
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
