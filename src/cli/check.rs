//! `check`: every fault of a configuration, or what is in it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::CheckArgs;
use super::terminal::Terminal;
use super::{Exit, Refused, counted, tell};
use crate::compile::effective::{SubnetRouting, effective_routes};
use crate::compile::names::Names;
use crate::compile::{compile, topology};
use crate::dataplane::emit::Sending;
use crate::model::{self, Customer, Encapsulation, Fault, Model, Severity, TunnelTo};
use crate::observe::{Table, json as text};

/// Tunnels that the table lists at most; the JSON document has all.
const LISTED: usize = 40;

/// Reads and compiles a configuration.
pub fn run(args: &CheckArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let name = args.config.display().to_string();
    match model::load(&args.config) {
        Err(faults) => {
            tell(&faults, terminal);
            terminal.note(format_args!("{name}: refused: {}", counted(&faults)));
            if args.json {
                let document = json!({"accepted": false, "faults": faults_as_json(&faults)});
                terminal.line(text::document(&document));
            }
            Ok(Exit::Unusable)
        }
        Ok(model) => {
            tell(&model.warnings, terminal);
            let contents = Contents::of(&model);
            if args.json {
                terminal.line(text::document(&contents));
            } else {
                print(&name, &model, &contents, terminal);
            }
            Ok(Exit::Done)
        }
    }
}

fn faults_as_json(faults: &[Fault]) -> Vec<Value> {
    let fault = |f: &Fault| {
        let severity = if f.severity == Severity::Error { "error" } else { "warning" };
        json!({
            "severity": severity, "file": &*f.file, "line": f.line, "column": f.column,
            "value": f.value, "message": f.message,
        })
    };
    faults.iter().map(fault).collect()
}

/// What is in a configuration.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    accepted: bool,
    faults: Vec<Value>,
    customers: usize,
    virtual_networks: usize,
    subnets: usize,
    network_interfaces: usize,
    network_security_groups: usize,
    route_tables: usize,
    routes: Routes,
    rules: Rules,
    hosts: usize,
    tunnels: Vec<Tunnel>,
    memory_bytes: usize,
}

/// The effective routes of all subnets.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Routes {
    active: usize,
    invalid: usize,
    user_defined: usize,
    learned: usize,
}

/// The rules of all network security groups.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    user_defined: usize,
    default: usize,
}

/// A tunnel, and the largest inner packet that it carries.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tunnel {
    customer: String,
    to: String,
    port: String,
    encapsulation: &'static str,
    key: u32,
    remote: Option<String>,
    hosts: Option<usize>,
    enabled: bool,
    inner_mtu: u32,
}

impl Contents {
    fn of(model: &Model) -> Contents {
        let customers = &model.customers;
        let sum = |count: fn(&Customer) -> usize| customers.iter().map(|c| count(c)).sum::<usize>();
        let program = compile(model, &mut Names::default());
        let groups = sum(|c| c.nsgs.len());
        let mut tunnels = Vec::new();
        for customer in customers {
            for tunnel in &customer.tunnels {
                let number = tunnels.len() as u32;
                let port = model.ports.get(tunnel.port);
                let tunnel_remote = tunnel.remote.or(port.map(|p| p.address));
                let sending = tunnel_remote.map(|remote| Sending {
                    port: tunnel.port as u16,
                    tunnel: Some((number, remote)),
                    inner_mac: [0; 6],
                });
                let hosts = match tunnel.to {
                    TunnelTo::Vnet(vnet) => Some(customer.hosts.iter().filter(|h| h.vnet == vnet).count()),
                    _ => None,
                };
                tunnels.push(Tunnel {
                    customer: customer.name.clone(),
                    to: stands_for(customer, tunnel.to),
                    port: port.map_or_else(String::new, |p| p.name.clone()),
                    encapsulation: match tunnel.encapsulation {
                        Encapsulation::Gre => "gre",
                        Encapsulation::Nvgre => "nvgre",
                    },
                    key: tunnel.key,
                    remote: tunnel.remote.map(|r| r.to_string()),
                    hosts,
                    enabled: tunnel.enabled,
                    inner_mtu: sending.map_or(0, |s| s.room(&program)),
                });
            }
        }
        Contents {
            accepted: true,
            faults: faults_as_json(&model.warnings),
            customers: customers.len(),
            virtual_networks: sum(|c| c.vnets.len()),
            subnets: sum(|c| c.vnets.iter().map(|v| v.subnets.len()).sum()),
            network_interfaces: sum(|c| c.nics.len()),
            network_security_groups: groups,
            route_tables: sum(|c| c.route_tables.len()),
            routes: routes(model),
            rules: Rules {
                user_defined: sum(|c| c.nsgs.iter().map(|n| n.rules.len()).sum()),
                default: groups * 6,
            },
            hosts: sum(|c| c.hosts.len()),
            tunnels,
            memory_bytes: program.memory(),
        }
    }
}

/// The effective routes of every subnet, each subnet's own.
fn routes(model: &Model) -> Routes {
    let mut count = Routes::default();
    for customer in &model.customers {
        count.user_defined += customer.route_tables.iter().map(|t| t.routes.len()).sum::<usize>();
        count.learned += customer.learned_routes.len();
        count.learned += customer.local_network_gateways.iter().map(|g| g.prefixes.len()).sum::<usize>();
        for (index, vnet) in customer.vnets.iter().enumerate() {
            let learned = topology::learned(customer, &topology::gateways(customer, index));
            // Subnets that are alike have the same routes, and a service endpoint may have thousands.
            let mut counted: HashMap<SubnetRouting<'_>, (usize, usize)> = HashMap::new();
            for subnet in &vnet.subnets {
                let routing = SubnetRouting {
                    route_table: subnet.route_table,
                    service_endpoints: &subnet.service_endpoints,
                };
                let (active, invalid) = *counted.entry(routing).or_insert_with(|| {
                    let routes = effective_routes(customer, &model.tags, index, routing, &learned);
                    let active = routes.iter().filter(|r| r.is_active()).count();
                    (active, routes.len() - active)
                });
                count.active += active;
                count.invalid += invalid;
            }
        }
    }
    count
}

/// What a tunnel stands for, as its configuration says it.
fn stands_for(customer: &Customer, to: TunnelTo) -> String {
    let vnet = |v: usize| customer.vnets.get(v).map_or("", |v| &v.name);
    match to {
        TunnelTo::Vnet(v) => format!("vnet {}", vnet(v)),
        TunnelTo::Internet(v) => format!("internet {}", vnet(v)),
        TunnelTo::Link { circuit, peering, link } => {
            let circuit = customer.circuits.get(circuit);
            let peering = circuit.and_then(|c| c.peerings.get(peering)).map_or("", |p| &p.name);
            format!("circuit {} {peering} {}", circuit.map_or("", |c| &c.name), link.name())
        }
        TunnelTo::Connection(c) => {
            format!("connection {}", customer.connections.get(c).map_or("", |c| &c.name))
        }
    }
}

fn print(name: &str, model: &Model, contents: &Contents, terminal: &mut Terminal) {
    let style = terminal.style;
    let warned = match model.warnings.len() {
        0 => String::new(),
        _ => format!(" with {}", counted(&model.warnings)),
    };
    terminal.line(format_args!("{name}: {}{warned}", style.good("accepted")));
    terminal.line("");
    let mut table = Table::new(style, &["", ">", ""]);
    let Contents { routes, rules, .. } = contents;
    let effective = routes.active + routes.invalid;
    let of_routes = format!(
        "effective, over all subnets: {} Active, {} Invalid; from {} user-defined and {} learned ones",
        routes.active, routes.invalid, routes.user_defined, routes.learned
    );
    let of_rules = format!("{} user-defined, {} default", rules.user_defined, rules.default);
    let down = contents.tunnels.iter().filter(|t| !t.enabled).count();
    let of_tunnels = if down > 0 { format!("{down} of them down") } else { String::new() };
    let rows = [
        ("customers", contents.customers, String::new()),
        ("VNets", contents.virtual_networks, String::new()),
        ("subnets", contents.subnets, String::new()),
        ("NICs", contents.network_interfaces, String::new()),
        ("NSGs", contents.network_security_groups, String::new()),
        ("rules", rules.user_defined + rules.default, of_rules),
        ("route tables", contents.route_tables, String::new()),
        ("routes", effective, of_routes),
        ("hosts", contents.hosts, String::new()),
        ("tunnels", contents.tunnels.len(), of_tunnels),
        ("memory", contents.memory_bytes.div_ceil(1024), "KiB of tables, compiled".to_owned()),
    ];
    for (what, count, more) in rows {
        table.row([what.to_owned(), count.to_string(), more]);
    }
    terminal.print(table);
    if contents.tunnels.is_empty() {
        return;
    }
    terminal.line("");
    let mut table = Table::new(style, &["CUSTOMER", "TUNNEL", "PORT", "", ">KEY", "REMOTE", ">INNER MTU"]);
    for tunnel in contents.tunnels.iter().take(LISTED) {
        let hosts = |n: usize| format!("{n} host{}", if n == 1 { "" } else { "s" });
        let remote = tunnel.remote.clone().or(tunnel.hosts.map(hosts)).unwrap_or_default();
        let mtu = if tunnel.enabled { tunnel.inner_mtu.to_string() } else { "down".to_owned() };
        let key = format!("{:#x}", tunnel.key);
        let encapsulation = tunnel.encapsulation.to_owned();
        table.row([
            tunnel.customer.clone(),
            tunnel.to.clone(),
            tunnel.port.clone(),
            encapsulation,
            key,
            remote,
            mtu,
        ]);
    }
    terminal.print(table);
    if contents.tunnels.len() > LISTED {
        terminal.line(format_args!("and {} more; --json lists all", contents.tunnels.len() - LISTED));
    }
}
