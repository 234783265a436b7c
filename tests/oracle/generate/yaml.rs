//! A plan as the text of a configuration, and the file of service tags it may name.

use std::fmt::{Display, Write};

use super::circuits::{MICROSOFT, PRIVATE, PUBLIC};
use super::plan::{CircuitPeering, Customer, Nic, Plan, Rule, Side};

/// The published file's shape, with few tags. The prefixes cover one another now and then.
pub const TAGS: &str = r#"{"changeNumber": 1, "cloud": "Public", "values": [
 {"name": "AzurePlatformDNS", "id": "AzurePlatformDNS", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "", "addressPrefixes": ["168.63.129.16/32"]}},
 {"name": "AzurePlatformIMDS", "id": "AzurePlatformIMDS", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "", "addressPrefixes": ["169.254.169.254/32"]}},
 {"name": "AzurePlatformLKM", "id": "AzurePlatformLKM", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "", "addressPrefixes": ["20.118.99.224/32"]}},
 {"name": "Storage", "id": "Storage", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureStorage", "addressPrefixes": ["20.60.0.0/16", "20.61.4.0/24", "2603:1000:4::/48"]}},
 {"name": "Storage.WestUS", "id": "Storage.WestUS", "properties": {"changeNumber": 1, "region": "westus", "platform": "Azure", "systemService": "AzureStorage", "addressPrefixes": ["20.60.0.0/16", "2603:1000:4::/48"]}},
 {"name": "Sql", "id": "Sql", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureSQL", "addressPrefixes": ["20.62.0.0/16", "20.60.128.0/17"]}},
 {"name": "AzureCloud", "id": "AzureCloud", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "", "addressPrefixes": ["20.60.0.0/16", "20.62.0.0/16", "20.64.0.0/10", "2603:1000::/40"]}},
 {"name": "AzureCloud.westus", "id": "AzureCloud.westus", "properties": {"changeNumber": 1, "region": "westus", "platform": "Azure", "systemService": "", "addressPrefixes": ["20.60.0.0/16", "20.64.0.0/10"]}}
]}
"#;

/// The configuration as YAML; `tags` is the path of the service tag file.
pub fn render(plan: &Plan, tags: &str) -> String {
    let mut text = String::from("apiVersion: clearway/v1\nports:\n");
    for port in &plan.ports {
        let mut fields = vec![format!("role: {}", port.role), format!("address: \"{}\"", port.address)];
        fields.extend(port.mtu.map(|m| format!("mtu: {m}")));
        fields.extend(port.next_hop.map(|a| format!("nextHop: \"{a}\"")));
        line(&mut text, 2, &format!("{}: {{{}}}", port.name, fields.join(", ")));
    }
    line(&mut text, 0, "customers:");
    for customer in &plan.customers {
        render_customer(&mut text, customer);
    }
    if plan.tags {
        line(&mut text, 0, &format!("serviceTags: {tags}"));
    }
    text
}

fn line(text: &mut String, indent: usize, content: &str) {
    writeln!(text, "{:indent$}{content}", "").expect("a string takes everything");
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|i| format!("\"{i}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A list of resources under a key, each a flow mapping; nothing if there is none.
fn section(text: &mut String, key: &str, items: Vec<String>) {
    if items.is_empty() {
        return;
    }
    line(text, 4, &format!("{key}:"));
    for item in items {
        line(text, 6, &format!("- {{{item}}}"));
    }
}

fn render_customer(text: &mut String, customer: &Customer) {
    line(text, 2, &format!("- name: {}", customer.name));
    line(text, 4, "virtualNetworks:");
    render_vnets(text, customer);
    if !customer.nsgs.is_empty() {
        line(text, 4, "networkSecurityGroups:");
    }
    for nsg in &customer.nsgs {
        line(text, 6, &format!("- name: {}", nsg.name));
        line(text, 8, &format!("flushConnection: {}", nsg.flush));
        line(text, 8, &format!("securityRules:{}", if nsg.rules.is_empty() { " []" } else { "" }));
        for rule in &nsg.rules {
            line(text, 10, &format!("- {{{}}}", render_rule(rule)));
        }
    }
    section(text, "applicationSecurityGroups", customer.asgs.iter().map(|a| format!("name: {a}")).collect());
    if !customer.tables.is_empty() {
        line(text, 4, "routeTables:");
    }
    for table in &customer.tables {
        line(text, 6, &format!("- name: {}", table.name));
        line(text, 8, &format!("disableBgpRoutePropagation: {}", table.no_propagation));
        line(text, 8, &format!("routes:{}", if table.routes.is_empty() { " []" } else { "" }));
        for route in &table.routes {
            let hop = route.appliance.map(|a| format!(", nextHopIpAddress: \"{a}\"")).unwrap_or_default();
            let overrides = if route.overrides { ", hasBgpOverride: true" } else { "" };
            let (name, prefix, kind) = (&route.name, &route.prefix, route.hop);
            let fields =
                format!("name: {name}, addressPrefix: \"{prefix}\", nextHopType: {kind}{hop}{overrides}");
            line(text, 10, &format!("- {{{fields}}}"));
        }
    }
    section(
        text,
        "networkInterfaces",
        customer.nics.iter().map(|n| render_nic(n, &customer.vnets[n.vnet].name)).collect(),
    );
    render_gateways(text, customer);
    render_bindings(text, customer);
}

fn render_vnets(text: &mut String, customer: &Customer) {
    for vnet in &customer.vnets {
        line(text, 6, &format!("- name: {}", vnet.name));
        let ranges = list(vnet.ranges.iter().chain(&vnet.v6));
        line(text, 8, &format!("addressSpace: {{addressPrefixes: {ranges}}}"));
        if let Some(minutes) = vnet.timeout {
            line(text, 8, &format!("flowTimeoutInMinutes: {minutes}"));
        }
        if let Some(most) = vnet.max_flows {
            line(text, 8, &format!("maxFlows: {most}"));
        }
        line(text, 8, "subnets:");
        for subnet in &vnet.subnets {
            let mut fields = vec![format!("name: {}", subnet.name)];
            match &subnet.prefixes[..] {
                [one] => fields.push(format!("addressPrefix: \"{one}\"")),
                several => fields.push(format!("addressPrefixes: {}", list(several))),
            }
            fields.extend(subnet.nsg.iter().map(|n| format!("networkSecurityGroup: {n}")));
            fields.extend(subnet.table.iter().map(|t| format!("routeTable: {t}")));
            if !subnet.endpoints.is_empty() {
                let each =
                    subnet.endpoints.iter().map(|(s, l)| format!("{{service: {s}, locations: [\"{l}\"]}}"));
                fields.push(format!("serviceEndpoints: [{}]", each.collect::<Vec<_>>().join(", ")));
            }
            line(text, 10, &format!("- {{{}}}", fields.join(", ")));
        }
        if vnet.peerings.is_empty() {
            continue;
        }
        line(text, 8, "virtualNetworkPeerings:");
        for peering in &vnet.peerings {
            let mut fields = vec![
                format!("name: to-{}", peering.remote),
                format!("remoteVirtualNetwork: {}", peering.remote),
            ];
            fields.extend(peering.state.map(|s| format!("peeringState: {s}")));
            fields.extend(peering.access.map(|a| format!("allowVirtualNetworkAccess: {a}")));
            fields.push(format!("allowForwardedTraffic: {}", peering.forwarded));
            fields.push(format!("allowGatewayTransit: {}", peering.transit));
            fields.push(format!("useRemoteGateways: {}", peering.use_remote));
            line(text, 10, &format!("- {{{}}}", fields.join(", ")));
        }
    }
}

fn render_rule(rule: &Rule) -> String {
    let mut fields = vec![
        format!("name: {}", rule.name),
        format!("priority: {}", rule.priority),
        format!("direction: {}", if rule.inbound { "Inbound" } else { "Outbound" }),
        format!("access: {}", if rule.allow { "Allow" } else { "Deny" }),
        format!("protocol: \"{}\"", rule.protocol),
    ];
    for (name, side) in [("source", &rule.source), ("destination", &rule.destination)] {
        fields.push(match side {
            Side::Addresses(values) if values.len() == 1 => format!("{name}AddressPrefix: \"{}\"", values[0]),
            Side::Addresses(values) => format!("{name}AddressPrefixes: {}", list(values)),
            Side::Asgs(names) => {
                let ids: Vec<String> = names.iter().map(|n| format!("{{id: {n}}}")).collect();
                format!("{name}ApplicationSecurityGroups: [{}]", ids.join(", "))
            }
        });
    }
    for (name, ports) in [("source", &rule.source_ports), ("destination", &rule.destination_ports)] {
        fields.push(match &ports[..] {
            [one] => format!("{name}PortRange: \"{one}\""),
            several => format!("{name}PortRanges: {}", list(several)),
        });
    }
    fields.join(", ")
}

fn render_nic(nic: &Nic, vnet: &str) -> String {
    let mut fields = vec![
        format!("name: {}", nic.name),
        format!("enableIPForwarding: {}", nic.forwarding),
        format!("disableTcpStateTracking: {}", nic.untracked),
    ];
    fields.extend(nic.mac.map(|m| {
        let parts: Vec<String> = m.iter().map(|b| format!("{b:02X}")).collect();
        format!("macAddress: {}", parts.join("-"))
    }));
    fields.extend(nic.nsg.iter().map(|n| format!("networkSecurityGroup: {n}")));
    fields.extend(nic.max_flows.map(|m| format!("maxFlows: {m}")));
    let asgs: Vec<String> = nic.asgs.iter().map(|a| format!("{{id: {a}}}")).collect();
    let groups = if asgs.is_empty() {
        String::new()
    } else {
        format!(", applicationSecurityGroups: [{}]", asgs.join(", "))
    };
    let each = nic
        .addresses
        .iter()
        .map(|a| format!("{{privateIPAddress: \"{a}\", subnet: {vnet}/{}{groups}}}", nic.subnet));
    fields.push(format!("ipConfigurations: [{}]", each.collect::<Vec<_>>().join(", ")));
    fields.join(", ")
}

fn render_gateways(text: &mut String, customer: &Customer) {
    if !customer.circuits.is_empty() {
        line(text, 4, "expressRouteCircuits:");
    }
    for circuit in &customer.circuits {
        line(text, 6, &format!("- name: {}", circuit.name));
        line(text, 8, "sku: {tier: Standard, family: MeteredData}");
        let mut provider = String::from("serviceProviderName: p, peeringLocation: l");
        provider += &circuit.mbps.map(|m| format!(", bandwidthInMbps: {m}")).unwrap_or_default();
        line(text, 8, &format!("serviceProviderProperties: {{{provider}}}"));
        let states = [
            ("serviceProviderProvisioningState", circuit.provisioned),
            ("circuitProvisioningState", circuit.enabled),
        ];
        for (key, state) in states {
            if let Some(state) = state {
                line(text, 8, &format!("{key}: {state}"));
            }
        }
        line(text, 8, &format!("peerings:{}", if circuit.peerings.is_empty() { " []" } else { "" }));
        for peering in &circuit.peerings {
            line(text, 10, &format!("- {{{}}}", render_peering(peering, circuit.number)));
        }
    }
    let gateway = |g: &super::plan::Gateway| {
        let kind = if g.vpn { "Vpn" } else { "ExpressRoute" };
        let site = g.default_site.as_ref().map(|s| format!(", gatewayDefaultSite: {s}")).unwrap_or_default();
        format!(
            "name: {}, gatewayType: {kind}, virtualNetwork: {}{site}",
            g.name, customer.vnets[g.vnet].name
        )
    };
    section(text, "virtualNetworkGateways", customer.gateways.iter().map(gateway).collect());
    let site = |(name, prefixes): &(String, Vec<clearway::types::Prefix>)| {
        format!("name: {name}, localNetworkAddressSpace: {{addressPrefixes: {}}}", list(prefixes))
    };
    section(text, "localNetworkGateways", customer.sites.iter().map(site).collect());
    let connection = |c: &super::plan::Connection| {
        let kind = if c.circuit.is_some() { "ExpressRoute" } else { "IPsec" };
        let mut fields =
            format!("name: {}, connectionType: {kind}, virtualNetworkGateway1: {}", c.name, c.gateway);
        for (key, value) in [("peer", &c.circuit), ("localNetworkGateway2", &c.site)] {
            fields += &value.as_ref().map(|v| format!(", {key}: {v}")).unwrap_or_default();
        }
        fields += &c.weight.map(|w| format!(", routingWeight: {w}")).unwrap_or_default();
        fields
    };
    section(text, "connections", customer.connections.iter().map(connection).collect());
}

/// A peering; no two have the same VLAN or link prefixes.
fn render_peering(peering: &CircuitPeering, number: usize) -> String {
    let kind = [PRIVATE, MICROSOFT, PUBLIC].iter().position(|k| *k == peering.kind).unwrap_or(0);
    let (first, second) = (number * 8, number * 8 + 4);
    let mut fields = vec![
        format!("name: {}", peering.name),
        format!("peeringType: {}", peering.kind),
        "peerASN: 65001".to_string(),
        format!("vlanId: {}", 100 + kind),
    ];
    fields.extend(peering.state.map(|s| format!("state: {s}")));
    if peering.links {
        fields.push(format!("primaryPeerAddressPrefix: 198.18.{}.{first}/30", 7 + kind));
        fields.push(format!("secondaryPeerAddressPrefix: 198.18.{}.{second}/30", 7 + kind));
    }
    if peering.links_v6 {
        let network = format!("fd77:{kind}:{number}:");
        fields.push(format!(
            "ipv6PeeringConfig: {{primaryPeerAddressPrefix: \"{network}:/126\", \
             secondaryPeerAddressPrefix: \"{network}:4/126\"}}"
        ));
    }
    if let Some(prefixes) = &peering.advertised {
        let state = peering.configured.map(|s| format!(", advertisedPublicPrefixesState: {s}"));
        let prefixes = list(prefixes);
        fields.push(format!(
            "microsoftPeeringConfig: {{advertisedPublicPrefixes: {prefixes}{}}}",
            state.unwrap_or_default()
        ));
    }
    fields.join(", ")
}

/// Tunnels, hosts and learned routes.
fn render_bindings(text: &mut String, customer: &Customer) {
    let tunnel = |t: &super::plan::Tunnel| {
        let mut fields = format!("{}, port: {}, key: {:#x}", t.to, t.port, t.key);
        fields += &t.remote.map(|r| format!(", remote: \"{r}\"")).unwrap_or_default();
        fields += if t.nvgre { ", encapsulation: nvgre" } else { "" };
        fields += if t.enabled { "" } else { ", enabled: false" };
        fields += &t.sequence.map(|s| format!(", sequence: \"{s}\"")).unwrap_or_default();
        fields
    };
    section(text, "tunnels", customer.tunnels.iter().map(tunnel).collect());
    let host = |h: &super::plan::Host| {
        let vnet = &customer.vnets[h.vnet].name;
        format!("address: \"{}\", vnet: {vnet}, prefixes: {}", h.address, list(&h.prefixes))
    };
    section(text, "hosts", customer.hosts.iter().map(host).collect());
    let learned = |l: &super::plan::Learned| {
        let mut fields = format!("prefix: \"{}\"", l.prefix);
        fields += &l.circuit.as_ref().map(|c| format!(", circuit: {c}")).unwrap_or_default();
        fields += &l.peering.map(|p| format!(", peering: {p}")).unwrap_or_default();
        fields += &l.link.map(|k| format!(", link: {k}")).unwrap_or_default();
        fields += &l.connection.as_ref().map(|c| format!(", connection: {c}")).unwrap_or_default();
        if !l.path.is_empty() {
            let path: Vec<String> = l.path.iter().map(u32::to_string).collect();
            fields += &format!(", asPath: [{}]", path.join(", "));
        }
        fields
    };
    section(text, "learnedRoutes", customer.learned.iter().map(learned).collect());
}
