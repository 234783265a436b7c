//! The resources of a customer in a plan: network interfaces, security groups and route tables.

use std::net::IpAddr;

use super::Rng;
use super::plan::{Customer, Nic, Nsg, Route, Rule, SITES, Side, Table, address};

pub fn add_nics(customer: &mut Customer, rng: &mut Rng) {
    for v in 0..customer.vnets.len() {
        let vnet = customer.vnets[v].clone();
        for subnet in vnet.subnets.iter().filter(|s| s.name != "GatewaySubnet") {
            let firewall = subnet.name == "fw";
            for n in 0..rng.range(usize::from(firewall), 2) {
                let mut addresses = vec![address(&subnet.prefixes[0], 4 + 2 * n as u32)];
                if let Some(v6) = subnet.prefixes.iter().find(|p| !p.is_ipv4()).filter(|_| rng.percent(80)) {
                    addresses.push(address(v6, 4 + 2 * n as u32));
                }
                if rng.percent(10) {
                    addresses.push(address(&subnet.prefixes[0], 5 + 2 * n as u32));
                }
                let number = customer.nics.len() as u8;
                let mac = [0, 0x0d, 0x3a, v as u8, number, 1];
                let mut nic = Nic {
                    name: format!("{}-{}-{n}", vnet.name, subnet.name),
                    vnet: v,
                    subnet: subnet.name,
                    addresses,
                    forwarding: rng.percent(if firewall { 80 } else { 15 }),
                    untracked: rng.percent(12),
                    mac: rng.percent(60).then_some(mac),
                    nsg: None,
                    asgs: Vec::new(),
                    max_flows: rng.percent(10).then(|| rng.range(1, 4) as u32),
                };
                if nic.forwarding && !vnet.nvgre && shares_a_host(customer, &nic) {
                    nic.forwarding = false;
                }
                customer.nics.push(nic);
            }
        }
    }
}

/// "two NICs with IP forwarding of one VNet on one host unless its tunnel is `nvgre`" are refused.
fn shares_a_host(customer: &Customer, nic: &Nic) -> bool {
    let hosts = |nic: &Nic| -> Vec<IpAddr> {
        nic.addresses.iter().filter_map(|a| customer.host_of(nic.vnet, *a)).collect()
    };
    let mine = hosts(nic);
    let others = customer.nics.iter().filter(|n| n.vnet == nic.vnet && n.forwarding);
    others.flat_map(hosts).any(|h| mine.contains(&h))
}

/// Security groups, application security groups, and where they are used.
pub fn add_nsgs(customer: &mut Customer, rng: &mut Rng, tags: bool) {
    for v in 0..customer.vnets.len() {
        if !rng.percent(40) {
            continue;
        }
        for role in ["web", "db"] {
            let name = format!("{}-{role}-asg", customer.vnets[v].name);
            for nic in customer.nics.iter_mut().filter(|n| n.vnet == v) {
                if rng.percent(50) {
                    nic.asgs.push(name.clone());
                }
            }
            customer.asgs.push(name);
        }
    }
    for n in 0..rng.range(1, 4) {
        let vnet = rng.percent(40).then(|| rng.below(customer.vnets.len()));
        let mut nsg = Nsg { name: format!("nsg{}", n + 1), flush: rng.percent(25), rules: Vec::new(), vnet };
        let mut priority = 100;
        for r in 0..rng.range(0, 7) {
            priority += rng.range(1, 300) as u16;
            let rule = rule(customer, rng, &format!("Rule{r}"), priority, vnet, tags);
            nsg.rules.push(rule);
        }
        if rng.percent(50) {
            nsg.rules.reverse();
        }
        customer.nsgs.push(nsg);
    }
    let nsgs = customer.nsgs.clone();
    let fit = |rng: &mut Rng, v: usize| -> Option<String> {
        let usable: Vec<&Nsg> = nsgs.iter().filter(|n| n.vnet.is_none_or(|of| of == v)).collect();
        rng.pick_some(&usable).map(|n| n.name.clone())
    };
    for (v, vnet) in customer.vnets.iter_mut().enumerate() {
        for subnet in &mut vnet.subnets {
            if rng.percent(60) {
                subnet.nsg = fit(rng, v);
            }
        }
    }
    for nic in &mut customer.nics {
        if rng.percent(50) {
            nic.nsg = fit(rng, nic.vnet);
        }
    }
}

pub fn rule(
    customer: &Customer,
    rng: &mut Rng,
    name: &str,
    priority: u16,
    vnet: Option<usize>,
    tags: bool,
) -> Rule {
    let asgs: Vec<String> = match vnet {
        Some(v) => {
            let mine = format!("{}-", customer.vnets[v].name);
            customer.asgs.iter().filter(|a| a.starts_with(&mine)).cloned().collect()
        }
        None => Vec::new(),
    };
    let v6 = rng.percent(15);
    let side = |rng: &mut Rng| -> Side {
        if !asgs.is_empty() && rng.percent(40) {
            return Side::Asgs(if rng.percent(20) { asgs.clone() } else { vec![rng.pick(&asgs).clone()] });
        }
        Side::Addresses(addresses(customer, rng, v6, tags))
    };
    let (mut source, mut destination) = (side(rng), side(rng));
    let mut inbound = rng.percent(55);
    let platform = rng.percent(12);
    if platform {
        let tag = rng.text(&["AzurePlatformDNS", "AzurePlatformIMDS", "azureplatformdns"]).to_string();
        let all = Side::Addresses(vec!["*".to_string()]);
        inbound = rng.percent(30);
        (source, destination) = (all, Side::Addresses(vec![tag]));
        if inbound {
            std::mem::swap(&mut source, &mut destination);
        }
    }
    let protocol = *rng.pick(&["Tcp", "Tcp", "Udp", "Icmp", "*", "*", "Esp", "Ah", "tcp"]);
    let protocol = if platform { "*" } else { protocol };
    let portless = ["Icmp", "Esp", "Ah"].contains(&protocol);
    let ports = |rng: &mut Rng, wild: usize| -> Vec<String> {
        if portless || rng.percent(wild) {
            return vec![rng.pick(&["*", "*", "0-65535"]).to_string()];
        }
        let pool = ["22", "53", "80", "443", "8080", "1000-2000", "0-1023", "1024-65535", "40000-50000"];
        let mut chosen: Vec<String> = (0..rng.range(1, 3)).map(|_| rng.pick(&pool).to_string()).collect();
        chosen.sort();
        chosen.dedup();
        chosen
    };
    Rule {
        name: name.to_string(),
        priority,
        inbound,
        allow: rng.percent(if platform { 45 } else { 65 }),
        protocol,
        source,
        destination,
        source_ports: ports(rng, 85),
        destination_ports: ports(rng, 50),
    }
}

/// The address values of one side of a rule, all of one family.
fn addresses(customer: &Customer, rng: &mut Rng, v6: bool, tags: bool) -> Vec<String> {
    if rng.percent(60) {
        let known =
            ["*", "*", "VirtualNetwork", "Internet", "internet", "AzureLoadBalancer", "AzurePlatformDNS"];
        let more = ["Storage", "Sql", "storage.westus", "AzureCloud", "AzurePlatformLKM"];
        let tag = if tags && rng.percent(30) { rng.pick(&more) } else { rng.pick(&known) };
        let tag = if *tag == "AzurePlatformDNS" && rng.percent(50) { "AzurePlatformIMDS" } else { tag };
        return vec![tag.to_string()];
    }
    let mut pool: Vec<String> = Vec::new();
    for vnet in &customer.vnets {
        pool.extend(vnet.ranges.iter().chain(&vnet.v6).map(|p| p.to_string()));
        for prefix in vnet.subnets.iter().flat_map(|s| &s.prefixes) {
            pool.push(prefix.to_string());
            pool.push(address(prefix, 4).to_string());
        }
    }
    pool.extend(SITES.iter().map(|s| s.to_string()));
    pool.extend(["1.2.3.4", "8.0.0.0/8", "2001:db8:77::/48", "10.0.0.0/8"].map(String::from));
    pool.retain(|p| p.contains(':') == v6);
    let mut chosen: Vec<String> = (0..rng.range(1, 3)).map(|_| rng.pick(&pool).clone()).collect();
    chosen.sort();
    chosen.dedup();
    // Overlapping entries of one list are left to Azure's judgement.
    if chosen.len() > 1 && rng.percent(50) {
        chosen.truncate(1);
    }
    chosen
}

/// Route tables and the subnets that use them.
pub fn add_tables(customer: &mut Customer, rng: &mut Rng, tags: bool) {
    for n in 0..rng.range(1, 4) {
        let v = rng.below(customer.vnets.len());
        let mut table =
            Table { name: format!("rt{}", n + 1), no_propagation: rng.percent(20), routes: Vec::new() };
        for r in 0..rng.range(0, 6) {
            if let Some(route) = route(customer, rng, v, &format!("route{r}"), tags)
                && !table.routes.iter().any(|o: &Route| o.prefix.eq_ignore_ascii_case(&route.prefix))
            {
                table.routes.push(route);
            }
        }
        let name = table.name.clone();
        let quiet = !table.no_propagation && !table.routes.iter().any(|r| r.prefix.ends_with("/0"));
        let elsewhere = !table.routes.iter().any(|r| r.hop == "VirtualNetworkGateway") && rng.percent(30);
        customer.tables.push(table);
        let other = rng.below(customer.vnets.len());
        if elsewhere && other != v {
            customer.vnets[other].subnets[0].table = Some(name.clone());
        }
        for subnet in &mut customer.vnets[v].subnets {
            let allowed = subnet.name != "GatewaySubnet" || quiet;
            if allowed && rng.percent(50) {
                subnet.table = Some(name.clone());
            }
        }
    }
}

/// True if user-defined routes of this VNet may lead to the VPN gateway.
fn may_use_gateway(customer: &Customer, vnet: usize) -> bool {
    let mut homes = vec![vnet];
    for peering in customer.vnets[vnet].peerings.iter().filter(|p| p.use_remote) {
        homes.extend(customer.vnets.iter().position(|v| v.name == peering.remote));
    }
    let gateways: Vec<_> = customer.gateways.iter().filter(|g| homes.contains(&g.vnet)).collect();
    gateways.iter().any(|g| g.vpn) && gateways.iter().all(|g| g.vpn)
}

pub fn route(customer: &Customer, rng: &mut Rng, vnet: usize, name: &str, tags: bool) -> Option<Route> {
    let home = &customer.vnets[vnet];
    let mut pool = vec!["0.0.0.0/0".to_string(), "0.0.0.0/0".to_string(), "8.8.8.0/24".to_string()];
    pool.extend(SITES.iter().map(|s| s.to_string()));
    pool.extend(["1.2.3.0/24", "168.63.129.16/32", "::/0"].map(String::from));
    for other in &customer.vnets {
        pool.extend(other.ranges.iter().chain(&other.v6).map(|p| p.to_string()));
        pool.extend(other.subnets.iter().flat_map(|s| &s.prefixes).map(|p| p.to_string()));
    }
    let mut prefix = rng.pick(&pool).clone();
    if tags && rng.percent(15) {
        prefix =
            rng.pick(&["Storage", "Sql", "Storage.WestUS", "AzureCloud", "AzureCloud.westus"]).to_string();
    }
    let gateway = may_use_gateway(customer, vnet);
    let hop = *rng.pick(&[
        "VirtualAppliance",
        "VirtualAppliance",
        "VirtualAppliance",
        "VnetLocal",
        "Internet",
        "None",
        "VirtualNetworkGateway",
    ]);
    let hop = if gateway && rng.percent(55) { "VirtualNetworkGateway" } else { hop };
    if hop == "VirtualNetworkGateway" && !gateway {
        return None;
    }
    let v6 = prefix.contains(':');
    let mut appliances: Vec<IpAddr> = Vec::new();
    for nic in &customer.nics {
        let near =
            nic.vnet == vnet || home.peerings.iter().any(|p| p.remote == customer.vnets[nic.vnet].name);
        let times = if nic.forwarding { 4 } else { 1 };
        for _ in 0..if near { times } else { 0 } {
            appliances.extend(nic.addresses.iter().filter(|a| a.is_ipv6() == v6));
        }
    }
    let subnets = home.subnets.iter().filter(|s| s.name != "GatewaySubnet");
    let bare = subnets.flat_map(|s| &s.prefixes).filter(|p| p.is_ipv4() != v6).map(|p| address(p, 30));
    appliances.extend(bare);
    let appliance = if hop == "VirtualAppliance" { Some(*rng.pick_some(&appliances)?) } else { None };
    // An appliance now and then stands before its own subnet.
    let own = appliance.and_then(|a| home.subnets.iter().flat_map(|s| &s.prefixes).find(|p| p.contains(a)));
    if let Some(own) = own.filter(|_| rng.percent(15)) {
        prefix = own.to_string();
    }
    Some(Route { name: name.to_string(), prefix, hop, appliance, overrides: rng.percent(35) })
}
