//! What an operator changes between two configurations. Every changed plan is valid, and may follow its predecessor.

use std::net::IpAddr;

use clearway::types::Prefix;

use super::Rng;
use super::plan::{Customer, Keys, Nic, Plan, Rule, Side, address};
use super::{circuits, resources};

/// The plan after a few changes.
pub fn change(plan: &Plan, rng: &mut Rng) -> Plan {
    let mut changed = plan.clone();
    let tags = changed.tags;
    if rng.percent(35) {
        change_all(&mut changed, rng);
    }
    for _ in 0..rng.range(1, 6) {
        let c = rng.below(changed.customers.len());
        change_customer(&mut changed.customers[c], rng, tags);
    }
    changed
}

/// The plan after changes of nothing but routes.
pub fn flap(plan: &Plan, rng: &mut Rng) -> Plan {
    let mut changed = plan.clone();
    for customer in &mut changed.customers {
        match rng.below(8) {
            0 => change_routes(customer, rng, plan.tags),
            1 => circuits::learn_more(customer, rng),
            2 | 3 => withdraw_or_learn(customer, rng),
            4 | 5 => learn_inside(customer, rng),
            _ => {}
        }
    }
    changed
}

/// The plan with more bandwidth for every circuit.
pub fn raise(plan: &mut Plan, rng: &mut Rng) {
    for circuit in plan.customers.iter_mut().flat_map(|c| &mut c.circuits) {
        circuits::raise(circuit, rng);
    }
}

/// Changes of ports and customers.
fn change_all(plan: &mut Plan, rng: &mut Rng) {
    match rng.below(6) {
        0 => plan.customers.reverse(),
        1 if plan.customers.len() > 1 => {
            let gone = rng.below(plan.customers.len());
            plan.customers.remove(gone);
        }
        2 if plan.customers.iter().all(|c| c.name != "tailspin") => {
            let mut keys = Keys { next: 0x5001, next_remote: 150 };
            let customer = Customer::new("tailspin", rng, plan, &mut keys);
            let at = rng.below(plan.customers.len() + 1);
            plan.customers.insert(at, customer);
        }
        3 => plan.ports.retain(|p| p.name != "services"),
        4 => plan.ports.reverse(),
        _ => {
            let port = rng.below(plan.ports.len());
            plan.ports[port].mtu = *rng.pick(&[None, Some(1300), Some(1452), Some(2000)]);
        }
    }
}

fn change_customer(customer: &mut Customer, rng: &mut Rng, tags: bool) {
    match rng.below(31) {
        27..=30 => learn_inside(customer, rng),
        22 | 23 => {
            for circuit in &mut customer.circuits {
                circuits::raise(circuit, rng);
            }
        }
        24 => circuits::change_state(customer, rng),
        25 | 26 => circuits::learn_more(customer, rng),
        18 => reorder(customer, rng),
        19 => move_nic(customer, rng),
        20 => add_nic(customer, rng),
        21 => remove_vnet(customer),
        15..=17 => judge_again(customer, rng),
        0 | 1 => change_rule(customer, rng, tags),
        2 | 3 => {
            for nsg in &mut customer.nsgs {
                nsg.flush = rng.percent(60);
            }
        }
        4 => remove_nic(customer, rng),
        5 => {
            let v = rng.below(customer.vnets.len());
            customer.vnets[v].timeout = *rng.pick(&[None, Some(4), Some(6), Some(30)]);
        }
        6 | 7 => {
            if !customer.tunnels.is_empty() {
                let t = rng.below(customer.tunnels.len());
                customer.tunnels[t].enabled = !customer.tunnels[t].enabled;
            }
        }
        8 | 9 => withdraw_or_learn(customer, rng),
        10 => {
            let v = rng.below(customer.vnets.len());
            customer.vnets[v].max_flows = *rng.pick(&[None, Some(1), Some(3), Some(20)]);
            if let Some(nic) = customer.nics.first_mut() {
                nic.max_flows = *rng.pick(&[None, Some(1), Some(2)]);
            }
        }
        11 => remove_nsg_uses(customer, rng),
        12 => change_peering(customer, rng),
        13 => change_routes(customer, rng, tags),
        _ => {
            for tunnel in customer.tunnels.iter_mut().filter(|t| !t.nvgre) {
                if rng.percent(30) {
                    tunnel.sequence = *rng.pick(&[None, Some("send"), Some("strict")]);
                }
            }
        }
    }
}

fn change_rule(customer: &mut Customer, rng: &mut Rng, tags: bool) {
    if customer.nsgs.is_empty() {
        return;
    }
    let n = rng.below(customer.nsgs.len());
    let vnet = customer.nsgs[n].vnet;
    let used: Vec<u16> = customer.nsgs[n].rules.iter().map(|r| r.priority).collect();
    match rng.below(3) {
        0 if !used.is_empty() => {
            let r = rng.below(used.len());
            let rule = &mut customer.nsgs[n].rules[r];
            rule.allow = !rule.allow;
        }
        1 if !used.is_empty() => {
            let r = rng.below(used.len());
            customer.nsgs[n].rules.remove(r);
        }
        _ => {
            let priority = (100..4096).find(|p| !used.contains(p)).unwrap_or(4096);
            let name = format!("Added{priority}");
            if customer.nsgs[n].rules.iter().all(|r| r.name != name) {
                let mut rule = resources::rule(customer, rng, &name, priority, vnet, tags);
                rule.allow = rng.percent(50);
                customer.nsgs[n].rules.push(rule);
            }
        }
    }
}

/// A sweeping rule in front of the others, and live flows judged again by it.
fn judge_again(customer: &mut Customer, rng: &mut Rng) {
    for nsg in &mut customer.nsgs {
        let first = nsg.rules.iter().map(|r| r.priority).min().unwrap_or(4096);
        let known = nsg.rules.iter().any(|r| r.name == "Sweep");
        if first == 100 || known || rng.percent(30) {
            continue;
        }
        let all = || Side::Addresses(vec!["*".to_string()]);
        nsg.flush = rng.percent(85);
        nsg.rules.push(Rule {
            name: "Sweep".to_string(),
            priority: first - 1,
            inbound: rng.percent(50),
            allow: rng.percent(50),
            protocol: ["*", "Tcp", "Udp"][rng.below(3)],
            source: all(),
            destination: all(),
            source_ports: vec!["*".to_string()],
            destination_ports: vec!["*".to_string()],
        });
    }
}

fn remove_nic(customer: &mut Customer, rng: &mut Rng) {
    if !customer.nics.is_empty() {
        let n = rng.below(customer.nics.len());
        customer.nics.remove(n);
    }
}

/// The same in another order means the same.
fn reorder(customer: &mut Customer, rng: &mut Rng) {
    customer.nics.reverse();
    customer.nsgs.reverse();
    customer.tunnels.reverse();
    if rng.percent(50) {
        customer.hosts.reverse();
        customer.circuits.reverse();
        customer.learned.reverse();
        customer.asgs.reverse();
        customer.tables.reverse();
    }
}

/// A NIC gets another address; records of the old one stay.
fn move_nic(customer: &mut Customer, rng: &mut Rng) {
    if customer.nics.is_empty() {
        return;
    }
    let n = rng.below(customer.nics.len());
    let nic = &customer.nics[n];
    let subnets = &customer.vnets[nic.vnet].subnets;
    let Some(subnet) = subnets.iter().find(|s| s.name == nic.subnet) else { return };
    let new = address(&subnet.prefixes[0], rng.range(4, 16) as u32);
    let taken = customer.nics.iter().any(|o| o.vnet == nic.vnet && o.addresses.contains(&new));
    if !taken && !nic.forwarding {
        customer.nics[n].addresses[0] = new;
    }
}

/// A NIC where an address had none.
fn add_nic(customer: &mut Customer, rng: &mut Rng) {
    let vnet = rng.below(customer.vnets.len());
    let subnet = &customer.vnets[vnet].subnets[0];
    let new = address(&subnet.prefixes[0], rng.range(18, 24) as u32);
    let taken =
        customer.nics.iter().any(|o| o.name == "added" || o.vnet == vnet && o.addresses.contains(&new));
    if !taken {
        customer.nics.push(Nic {
            name: "added".to_string(),
            vnet,
            subnet: subnet.name,
            addresses: vec![new],
            forwarding: false,
            untracked: false,
            mac: None,
            nsg: customer.nsgs.iter().find(|n| n.vnet.is_none()).map(|n| n.name.clone()),
            asgs: Vec::new(),
            max_flows: None,
        });
    }
}

/// The last VNet goes with everything in it; peerings to it stay and carry nothing.
fn remove_vnet(customer: &mut Customer) {
    let last = customer.vnets.len() - 1;
    if last < 2 || customer.gateways.iter().any(|g| g.vnet == last) {
        return;
    }
    let name = customer.vnets[last].name.clone();
    let used_remotely =
        customer.vnets.iter().flat_map(|v| &v.peerings).any(|p| p.remote == name && p.use_remote);
    if used_remotely {
        return;
    }
    customer.vnets.remove(last);
    customer.nics.retain(|n| n.vnet != last);
    customer.hosts.retain(|h| h.vnet != last);
    customer.tunnels.retain(|t| t.to != format!("vnet: {name}") && t.to != format!("internet: {name}"));
    customer.nsgs.retain(|n| n.vnet != Some(last));
    for vnet in &mut customer.vnets {
        vnet.peerings.retain(|p| p.remote != name);
    }
}

fn withdraw_or_learn(customer: &mut Customer, rng: &mut Rng) {
    if customer.learned.is_empty() {
        return;
    }
    let n = rng.below(customer.learned.len());
    if rng.percent(60) {
        customer.learned.remove(n);
    } else {
        customer.learned[n].path = circuits::change_path(customer, n, rng);
    }
}

/// A route to a part of what is learned already, by the same way or another, or none to it any more.
fn learn_inside(customer: &mut Customer, rng: &mut Rng) {
    let Some(outer) = rng.pick_some(&customer.learned).map(|l| l.prefix) else { return };
    let IpAddr::V4(first) = outer.first() else { return };
    if rng.percent(20) || outer.len() > 28 {
        customer.learned.retain(|l| l.prefix != outer);
        return;
    }
    let length = outer.len() + 1 + rng.below(4) as u8;
    // Most of what is talked to is at the beginning.
    let part = if rng.percent(50) { 0 } else { rng.below(1 << (length - outer.len())) as u32 };
    let prefix = Prefix::new((first.to_bits() | part << (32 - length)).to_be_bytes().into(), length);
    let mut inside = customer.learned[rng.below(customer.learned.len())].clone();
    // A private peering learns what is private, others what is not.
    let alike = customer.learned.iter().any(|l| l.prefix == outer && l.peering == inside.peering);
    if alike && customer.learned.iter().all(|l| l.prefix != prefix) {
        inside.prefix = prefix;
        customer.learned.push(inside);
    }
}

fn remove_nsg_uses(customer: &mut Customer, rng: &mut Rng) {
    for subnet in customer.vnets.iter_mut().flat_map(|v| &mut v.subnets) {
        if rng.percent(40) {
            subnet.nsg = None;
        }
    }
    for nic in &mut customer.nics {
        if rng.percent(40) {
            nic.nsg = None;
        }
    }
}

fn change_peering(customer: &mut Customer, rng: &mut Rng) {
    let v = rng.below(customer.vnets.len());
    for peering in &mut customer.vnets[v].peerings {
        match rng.below(4) {
            0 => peering.forwarded = !peering.forwarded,
            1 => peering.state = Some("Disconnected"),
            2 => peering.state = None,
            _ => peering.access = Some(rng.percent(60)),
        }
    }
}

fn change_routes(customer: &mut Customer, rng: &mut Rng, tags: bool) {
    for t in 0..customer.tables.len() {
        if customer.tables[t].routes.is_empty() || rng.percent(40) {
            continue;
        }
        // A replaced route stays possible for every VNet that uses the table, and for GatewaySubnet.
        let name = customer.tables[t].name.clone();
        let uses = |v: &super::plan::Vnet| v.subnets.iter().any(|s| s.table.as_ref() == Some(&name));
        let Some(v) = customer.vnets.iter().position(uses) else { continue };
        let r = rng.below(customer.tables[t].routes.len());
        if let Some(route) = resources::route(customer, rng, v, "changed", tags) {
            let routes = &mut customer.tables[t].routes;
            let taken =
                routes.iter().any(|o| o.name == "changed" || o.prefix.eq_ignore_ascii_case(&route.prefix));
            if !taken && !route.prefix.ends_with("/0") {
                routes[r] = route;
            }
        }
    }
}
