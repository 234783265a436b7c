//! `counters`, `flows` and `reload`: what a running appliance is asked over its control socket.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::args::{ControlArgs, CountersArgs, FlowsArgs, MetersArgs, ReloadArgs};
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::live::control::{self, Reply, Request};
use crate::live::report::{Counters, Flows};
use crate::observe::meters::each;
use crate::observe::{Style, Table, find, json};

/// VNets that the table of counters lists at most; `--json` lists all.
const LISTED: usize = 50;

impl ControlArgs {
    /// Where the appliance is asked.
    pub fn path(&self) -> PathBuf {
        path(self.control.as_ref())
    }
}

/// Where an appliance is asked that may have been named.
pub fn path(control: Option<&PathBuf>) -> PathBuf {
    control.cloned().unwrap_or_else(control::path_to_ask)
}

/// What the appliance replied was not what it was asked for.
pub fn astray() -> Refused {
    "the running clearway answered something else than it was asked".into()
}

/// Shows everything that is counted.
pub fn counters(args: &CountersArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let Reply::Counters(mut counters) = control::ask(&args.at.path(), &Request::Counters)? else {
        return Err(astray());
    };
    if let Some(wanted) = &args.customer {
        let vnets = &mut counters.virtual_networks;
        let customers = vnets.iter().map(|v| v.customer.as_str());
        let at = find::one("customer", wanted, "here", customers)?;
        let customer = vnets.get(at).map(|v| v.customer.clone());
        vnets.retain(|v| Some(&v.customer) == customer.as_ref());
    }
    if args.at.json {
        terminal.line(json::document(&counters));
    } else {
        print_counters(&counters, terminal);
    }
    Ok(Exit::Done)
}

/// Shows what circuit links have carried.
pub fn meters(args: &MetersArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let Reply::Meters(mut meters) = control::ask(&args.at.path(), &Request::Meters)? else {
        return Err(astray());
    };
    if let Some(wanted) = &args.customer {
        let at = find::one("customer", wanted, "here", meters.keys().map(String::as_str))?;
        let customer = meters.keys().nth(at).cloned();
        meters.retain(|name, _| Some(name) == customer.as_ref());
    }
    if args.at.json {
        terminal.line(json::document(&meters));
        return Ok(Exit::Done);
    }
    let heads =
        ["CUSTOMER", "CIRCUIT", "PEERING", "LINK", ">IN PACKETS", ">IN BYTES", ">OUT PACKETS", ">OUT BYTES"];
    let mut table = Table::new(terminal.style, &heads);
    for (names, carried) in each(&meters) {
        let [r#in, out] = [carried.r#in, carried.out];
        let counts = [r#in.packets, r#in.bytes, out.packets, out.bytes].map(|n| n.to_string());
        table.row(names.map(str::to_owned).into_iter().chain(counts));
    }
    match table.is_empty() {
        true => terminal.line("there is no circuit"),
        false => terminal.print(table),
    }
    Ok(Exit::Done)
}

/// Shows flow records.
pub fn flows(args: &FlowsArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let FlowsArgs { customer, vnet, address, limit, at } = args;
    let request = Request::Flows {
        customer: customer.clone(),
        vnet: vnet.clone(),
        address: *address,
        limit: *limit as usize,
    };
    let Reply::Flows(flows) = control::ask(&at.path(), &request)? else { return Err(astray()) };
    if at.json {
        terminal.line(json::document(&flows));
        return Ok(Exit::Done);
    }
    if flows.flows.is_empty() {
        terminal.line("no flow record");
    } else {
        terminal.print(flows_table(&flows, terminal.style));
    }
    if !flows.complete {
        terminal.line("and perhaps more: a worker had too much to do to say which it holds");
    }
    if flows.more {
        terminal
            .line(format_args!("and more; --limit lists as many as you say, up to {}", control::MOST_FLOWS));
    }
    Ok(Exit::Done)
}

/// Lets the appliance read its configuration again.
pub fn reload(args: &ReloadArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let Reply::Reload(reload) = control::ask(&args.at.path(), &Request::Reload)? else {
        return Err(astray());
    };
    if args.at.json {
        terminal.line(json::document(&reload));
    }
    if !reload.accepted {
        for sentence in &reload.refused {
            terminal.note(sentence);
        }
        terminal.error("the configuration is refused; the one that was in force stays in force");
        return Ok(Exit::No);
    }
    if !args.at.json {
        let warned = match reload.warnings.unwrap_or(0) {
            0 => String::new(),
            1 => " with 1 warning".to_owned(),
            n => format!(" with {n} warnings"),
        };
        let took = reload.took_seconds.unwrap_or_default() * 1000.0;
        let generation = reload.generation.unwrap_or_default();
        let done = terminal.style.good("in force");
        terminal.line(format_args!("configuration {generation} is {done}{warned}, after {took:.1} ms"));
    }
    Ok(Exit::Done)
}

/// What stands above counters and rates: who says so.
pub fn title(counters: &Counters) -> String {
    let Counters { version, configuration, generation, ready, uptime_seconds, .. } = counters;
    let up = duration(*uptime_seconds);
    let ready = if *ready { "" } else { ", not ready" };
    format!("clearway {version}: {configuration}, generation {generation}, up {up}{ready}")
}

/// `3 d 4 h`, `5 min 6 s`, `7.8 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, _) => format!("{seconds:.1} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// `3d04h`, `4h12m`, `3m05s`, `7s`: for tables with many columns.
pub fn brief(seconds: f64) -> String {
    let whole = seconds as u64;
    match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, min, s) => format!("{min}m{s:02}s"),
        (0, h, min, _) => format!("{h}h{min:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

fn print_counters(counters: &Counters, terminal: &mut Terminal) {
    terminal.line(title(counters));
    terminal.line("");
    for table in [packets(counters, terminal.style), ports(counters, terminal.style)] {
        terminal.print(table);
        terminal.line("");
    }
    let vnets = vnets(counters, terminal.style);
    if !vnets.is_empty() {
        terminal.print(vnets);
        let more = counters.virtual_networks.len().saturating_sub(LISTED);
        if more > 0 {
            terminal.line(format_args!("and {more} more; --json lists all"));
        }
        terminal.line("");
    }
    terminal.print(workers(counters, terminal.style));
    if counters.kernel_overruns > 0 {
        terminal.line("");
        terminal.line(format_args!(
            "the kernel told more of devices, routes and neighbours than could be read, {} times; \
             each time it was asked for everything",
            counters.kernel_overruns
        ));
    }
}

fn packets(counters: &Counters, style: Style) -> Table {
    let mut table = Table::new(style, &["", ">"]);
    let mut row = |name: &str, n: u64| table.row([name.to_owned(), n.to_string()]);
    row("packets", counters.packets);
    row("forwarded", counters.forwarded);
    let groups =
        [("dropped", &counters.dropped), ("punted", &counters.punted), ("generated", &counters.generated)];
    for (name, counts) in groups {
        row(name, counts.values().sum());
        let mut counts: Vec<_> = counts.iter().filter(|(_, n)| **n > 0).collect();
        counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
        for (name, n) in counts {
            row(&format!("  {name}"), *n);
        }
    }
    row("withheld", counters.withheld);
    row("flows held", counters.flows.held);
    row("flows opened", counters.flows.opened);
    row("reloads", counters.reloads.done);
    row("reloads refused", counters.reloads.refused);
    table
}

fn ports(counters: &Counters, style: Style) -> Table {
    let heads =
        ["PORT", "DEVICE", "I/O", "STATE", ">IN", ">IN BYTES", ">OUT", ">OUT BYTES", ">LOST", "LOST TO"];
    let mut table = Table::new(style, &heads);
    for port in &counters.ports {
        let state = match (port.configured, port.up) {
            (false, _) => "removed",
            (true, true) => "up",
            (true, false) => "down",
        };
        let lost = &port.lost;
        let causes = [
            ("ring-full", lost.ring_full),
            ("send-full", lost.send_full),
            ("too-long", lost.too_long),
            ("device-down", lost.device_down),
            ("no-neighbour", lost.no_neighbour),
        ];
        let causes = causes.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}"));
        table.row([
            port.name.clone(),
            port.device.clone(),
            port.io.clone(),
            state.to_owned(),
            port.received.frames.to_string(),
            port.received.bytes.to_string(),
            port.sent.frames.to_string(),
            port.sent.bytes.to_string(),
            lost.sum().to_string(),
            causes.collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

fn vnets(counters: &Counters, style: Style) -> Table {
    let mut table = Table::new(style, &["CUSTOMER", "VNET", ">FORWARDED", ">DROPPED", ">OPENED"]);
    let mut vnets: Vec<_> = counters.virtual_networks.iter().collect();
    vnets.sort_by_key(|v| std::cmp::Reverse(v.forwarded + v.dropped));
    for vnet in vnets.into_iter().take(LISTED) {
        table.row([
            vnet.customer.clone(),
            vnet.vnet.clone(),
            vnet.forwarded.to_string(),
            vnet.dropped.to_string(),
            vnet.opened.to_string(),
        ]);
    }
    table
}

fn workers(counters: &Counters, style: Style) -> Table {
    let heads = [">WORKER", ">PACKETS", ">BATCHES", ">BUSY", ">HANDED OVER", ">QUEUE FULL", ">FLOWS"];
    let mut table = Table::new(style, &heads);
    for (number, worker) in counters.workers.iter().enumerate() {
        table.row([
            number.to_string(),
            worker.packets.to_string(),
            worker.batches.to_string(),
            duration(worker.busy_seconds),
            worker.handed_over.to_string(),
            worker.queue_full.to_string(),
            worker.flows.to_string(),
        ]);
    }
    table
}

fn flows_table(flows: &Flows, style: Style) -> Table {
    let heads = ["CUSTOMER", "VNET", "PROTOCOL", "LOCAL", "REMOTE", "BY", "RULE", ">IDLE", ""];
    let mut table = Table::new(style, &heads);
    for flow in &flows.flows {
        table.row([
            flow.customer.clone(),
            flow.vnet.clone(),
            protocol(flow.protocol),
            endpoint(flow.protocol, flow.local_address, flow.local_port),
            endpoint(flow.protocol, flow.remote_address, flow.remote_port),
            flow.opened_by.clone(),
            flow.rule.clone(),
            duration(flow.idle_seconds),
            if flow.ended { "ended".to_owned() } else { String::new() },
        ]);
    }
    table
}

/// Its usual name.
pub fn protocol(number: u8) -> String {
    use crate::wire::protocol::{AH, ESP, TCP, UDP};
    match number {
        TCP => "TCP".to_owned(),
        UDP => "UDP".to_owned(),
        ESP => "ESP".to_owned(),
        AH => "AH".to_owned(),
        1 => "ICMP".to_owned(),
        58 => "ICMPv6".to_owned(),
        other => other.to_string(),
    }
}

/// The address, with the port where the protocol has ports.
pub fn endpoint(protocol: u8, address: IpAddr, port: u16) -> String {
    use crate::wire::protocol::{TCP, UDP};
    match protocol {
        TCP | UDP => SocketAddr::new(address, port).to_string(),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_narrow_columns() {
        let cases = [(0.4, "0s"), (59.9, "59s"), (185.0, "3m05s"), (15_120.0, "4h12m"), (273_700.0, "3d04h")];
        for (seconds, text) in cases {
            assert_eq!(brief(seconds), text);
        }
    }
}
