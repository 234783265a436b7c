//! What a change of configuration shares with the program before it. That the shared program means the same as one
//! compiled from nothing is what the property test shows, whose swaps recompile.

use std::sync::Arc;

use super::names::Names;
use super::origins::OriginKey;
use super::{Program, Reaches, Vnet, compile, recompile};
use crate::model::{self, Access, Customer, Model, RouteNextHop, RouteTarget};

/// Two customers alike but for their names and keys, each with a hub and a spoke.
fn configuration() -> Model {
    let mut text = String::from(
        "apiVersion: clearway/v1\nports:\n  fabric: {role: fabric, address: 198.51.100.2}\n  \
         edge-a: {role: edge, address: 192.0.2.1}\n  edge-b: {role: edge, address: 192.0.2.5}\n  \
         internet: {role: internet, address: 203.0.113.2}\ncustomers:\n",
    );
    for (name, key) in [("contoso", 0xa0), ("fabrikam", 0xb0)] {
        let customer = CUSTOMER.replace("NAME", name).replace("KEY", &format!("{key:#x}"));
        text.push_str(&customer.replace("REMOTE", &format!("{key}")));
    }
    model::from_bytes("test.yaml", text.as_bytes(), None)
        .unwrap_or_else(|faults| panic!("the configuration of the test is refused: {}", faults[0]))
}

const CUSTOMER: &str = r#"
  - name: NAME
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web, routeTable: table}
          - {name: db, addressPrefix: 10.1.1.0/24, networkSecurityGroup: db}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
        virtualNetworkPeerings:
          - {name: to-spoke, remoteVirtualNetwork: spoke, allowGatewayTransit: true}
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24, networkSecurityGroup: db}]
        virtualNetworkPeerings: [{name: to-hub, remoteVirtualNetwork: hub}]
    networkSecurityGroups:
      - name: web
        securityRules:
          - {name: In, priority: 200, direction: Inbound, access: Allow, protocol: Tcp, sourceAddressPrefix: VirtualNetwork,
             sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
      - name: db
        securityRules:
          - {name: In, priority: 200, direction: Inbound, access: Deny, protocol: Tcp, sourceAddressPrefix: Internet,
             sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "1433"}
    routeTables:
      - {name: table, routes: [{name: out, addressPrefix: 20.0.0.0/24, nextHopType: Internet}]}
    networkInterfaces:
      - {name: nic, networkSecurityGroup: db, ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/web}]}
    expressRouteCircuits:
      - name: er
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways: [{name: gw, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c, connectionType: ExpressRoute, virtualNetworkGateway1: gw, peer: er}]
    tunnels:
      - {vnet: hub, port: fabric, key: KEY1}
      - {vnet: spoke, port: fabric, key: KEY2}
      - {circuit: er, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.REMOTE, key: KEY3}
      - {circuit: er, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.REMOTE, key: KEY4}
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}]
    learnedRoutes: [{prefix: 192.168.0.0/16, circuit: er, peering: AzurePrivatePeering}]
"#;

struct Change {
    names: Names,
    before: Model,
    after: Model,
    old: Program,
    new: Program,
}

/// Changes the second customer.
fn change(edit: impl FnOnce(&mut Customer)) -> Change {
    let before = configuration();
    let mut names = Names::default();
    let old = compile(&before, &mut names);
    let mut after = before.clone();
    edit(Arc::make_mut(&mut after.customers[1]));
    let new = recompile(&old, &before, &after, &mut names);
    Change { names, before, after, old, new }
}

impl Change {
    fn vnets(&self, customer: &str, vnet: &str) -> (&Arc<Vnet>, &Arc<Vnet>) {
        let number = self.old.vnet(customer, vnet).unwrap();
        assert_eq!(self.new.vnet(customer, vnet), Some(number));
        (&self.old.vnets[number as usize], &self.new.vnets[number as usize])
    }

    /// The first customer is shared, and of the second this VNet.
    fn shares(&self, vnet: &str) -> bool {
        for vnet in ["hub", "spoke"] {
            let (old, new) = self.vnets("contoso", vnet);
            assert!(Arc::ptr_eq(old, new));
        }
        assert_eq!(self.new.generations[0], 1);
        let (old, new) = self.vnets("fabrikam", vnet);
        Arc::ptr_eq(old, new)
    }
}

fn fibs(vnet: &Vnet) -> Vec<*const super::Fib> {
    vnet.subnets.iter().map(|s| Arc::as_ptr(&s.fib)).collect()
}

fn groups(vnet: &Vnet) -> Vec<*const super::security::Group> {
    let of_nics = vnet.nics.iter().filter_map(|n| n.group.as_ref());
    vnet.subnets.iter().filter_map(|s| s.group.as_ref()).chain(of_nics).map(Arc::as_ptr).collect()
}

#[test]
fn nothing_new_is_all_shared() {
    let change = change(|_| {});
    assert!(change.shares("hub") && change.shares("spoke"));
    assert!(Arc::ptr_eq(&change.old.tunnels, &change.new.tunnels));
    assert!(
        Arc::ptr_eq(&change.old.names, &change.new.names)
            && Arc::ptr_eq(&change.old.plain, &change.new.plain)
    );
    assert_eq!((change.new.generations.as_slice(), change.new.generation), (&[1, 1][..], 2));
}

#[test]
fn another_rule_leaves_routes_and_other_groups() {
    let change = change(|c| Arc::make_mut(&mut c.nsgs[0]).rules[0].access = Access::Deny);
    assert!(change.shares("spoke") && !change.shares("hub"));
    let (old, new) = change.vnets("fabrikam", "hub");
    assert_eq!(fibs(old), fibs(new));
    let (old, new) = (groups(old), groups(new));
    assert_eq!((old.len(), old[0] == new[0], old[1..] == new[1..]), (3, false, true));
}

#[test]
fn packets_of_known_flows_do_not_notice_a_rule_unless_its_group_flushes() {
    let rule = |c: &mut Customer| Arc::make_mut(&mut c.nsgs[0]).rules[0].access = Access::Deny;
    assert_eq!(change(rule).new.generations, [1, 1]);
    let flushing = change(|c| {
        rule(c);
        Arc::make_mut(&mut c.nsgs[1]).flush_connection = true;
    });
    assert_eq!(flushing.new.generations, [1, 2]);
    let routes =
        |c: &mut Customer| Arc::make_mut(&mut c.route_tables[0]).disable_bgp_route_propagation = true;
    assert_eq!(change(routes).new.generations, [1, 2]);
    let group = |c: &mut Customer| c.vnets[1].subnets[0].nsg = None;
    assert_eq!(change(group).new.generations, [1, 2]);
}

#[test]
fn another_route_leaves_groups_unless_it_is_in_a_tag() {
    let next_hop = change(|c| Arc::make_mut(&mut c.route_tables[0]).routes[0].next_hop = RouteNextHop::None);
    assert!(next_hop.shares("spoke") && !next_hop.shares("hub"));
    let (old, new) = next_hop.vnets("fabrikam", "hub");
    assert_eq!(groups(old), groups(new));
    let (old, new) = (fibs(old), fibs(new));
    assert_eq!((old[0] == new[0], old[1..] == new[1..]), (false, true));

    let prefix = "20.0.1.0/24".parse().unwrap();
    let tag =
        change(|c| Arc::make_mut(&mut c.route_tables[0]).routes[0].target = RouteTarget::Prefix(prefix));
    let (old, new) = tag.vnets("fabrikam", "hub");
    // Of the subnet with the table, and of the NIC in it.
    let same: Vec<bool> = groups(old).iter().zip(groups(new)).map(|(a, b)| *a == b).collect();
    assert_eq!(same, [false, true, false]);
}

#[test]
fn rules_forget_a_tag_that_nothing_uses_any_more() {
    let mut before = configuration();
    let (name, prefixes) = ("AzureCloud".to_owned(), vec!["20.0.1.0/24".parse().unwrap()]);
    let tag = crate::model::ServiceTag { name: name.clone(), prefixes };
    before.tags.by_name.insert(name.to_lowercase(), tag);
    let customer = Arc::make_mut(&mut before.customers[1]);
    Arc::make_mut(&mut customer.route_tables[0]).routes[0].target = RouteTarget::Tag(name);
    let mut names = Names::default();
    let old = compile(&before, &mut names);
    let mut after = before.clone();
    after.tags.by_name.clear();
    Arc::make_mut(&mut Arc::make_mut(&mut after.customers[1]).route_tables[0]).routes.clear();
    let new = recompile(&old, &before, &after, &mut names);
    let allows = |program: &Program| {
        let hub = &program.vnets[program.vnet("fabrikam", "hub").unwrap() as usize];
        let rules = hub.subnets[0].group.as_ref().unwrap().rules(crate::packet::Direction::Inbound);
        let [from, to] = ["20.0.1.1", "10.1.0.9"].map(|a| a.parse().unwrap());
        rules.ask(from, to, 6, (1, 443), None).unwrap().access
    };
    assert_eq!([allows(&old), allows(&new)], [Access::Allow, Access::Deny]);
}

#[test]
fn a_learned_route_changes_the_vnets_that_use_the_gateway() {
    let change = change(|c| c.learned_routes[0].as_path = vec![65001, 65002]);
    assert!(change.shares("spoke") && !change.shares("hub"));
    let (old, new) = change.vnets("fabrikam", "hub");
    assert_eq!(groups(old), groups(new), "the prefixes are the same");
    assert!(Arc::ptr_eq(&change.old.tunnels, &change.new.tunnels));
    let entry =
        change.new.tunnels.iter().find(|t| t.customer == 0 && t.remote.is_some()).unwrap().id as usize;
    assert!(Arc::ptr_eq(&change.old.entries[entry], &change.new.entries[entry]));
}

#[test]
fn ways_to_elsewhere_outlive_changes_of_nothing_but_routes() {
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    // What a host of the second customer sends to an address.
    let leads = |edit: &dyn Fn(&mut Customer), to: &str| {
        let change = change(edit);
        let hub = change.old.vnet("fabrikam", "hub").unwrap();
        let end = change.old.tunnels.iter().find(|t| t.reaches == Reaches::Hosts { vnet: hub }).unwrap();
        let key = OriginKey::in_gre(end.port, end.wire_key, address("198.51.100.11"));
        let [before, now] = [&change.old, &change.new].map(|p| p.origins.find(key));
        assert!(before.number != 0 && now.number != before.number);
        change.new.origins.still_leads(now, before.number, address("10.1.0.4"), address(to))
    };
    let learn = |c: &mut Customer| c.learned_routes[0].as_path = vec![65001, 65002];
    assert!(leads(&learn, "10.1.1.4") && !leads(&learn, "192.168.3.4"));
    let route = |c: &mut Customer| Arc::make_mut(&mut c.route_tables[0]).routes.clear();
    assert!(leads(&route, "192.168.3.4") && !leads(&route, "20.0.0.7"));
    let rule = |c: &mut Customer| {
        learn(c);
        Arc::make_mut(&mut c.nsgs[0]).rules[0].access = Access::Deny;
    };
    assert!(leads(&rule, "10.1.1.4"));
    let others: [fn(&mut Customer); 5] = [
        |c| Arc::make_mut(&mut c.route_tables[0]).disable_bgp_route_propagation = true,
        |c| Arc::make_mut(&mut c.nsgs[1]).flush_connection = true,
        |c| c.vnets[1].subnets[0].nsg = None,
        |c| c.tunnels[2].enabled = false,
        |c| c.vnets[0].peerings.clear(),
    ];
    for other in others {
        let both = |c: &mut Customer| {
            learn(c);
            other(c);
        };
        assert!(!leads(&both, "10.1.1.4"));
    }
}

#[test]
fn what_goes_is_vacant_and_comes_back_at_its_number() {
    let mut change = change(|_| {});
    let number = change.old.vnet("contoso", "spoke").unwrap() as usize;
    let mut without = change.after.clone();
    without.customers.remove(0);
    let gone = recompile(&change.new, &change.after, &without, &mut change.names);
    assert_eq!((gone.vnet("contoso", "spoke"), gone.generations.as_slice()), (None, &[0, 1][..]));
    assert!(gone.vnets[number].is_vacant() && gone.tunnels.iter().filter(|t| t.is_vacant()).count() == 4);
    assert_eq!(gone.by_key.len(), 4);
    let back = recompile(&gone, &without, &change.before, &mut change.names);
    assert_eq!(back.vnet("contoso", "spoke"), Some(number as u32));
    assert_eq!((back.generations.as_slice(), back.by_key.len()), (&[4, 1][..], 8));
    assert_eq!(back.names.vnet_count(), 4);
}

#[test]
fn ports_are_everybodys() {
    let mut change = change(|_| {});
    let mut after = change.after.clone();
    after.ports[0].mtu += 1;
    let new = recompile(&change.new, &change.after, &after, &mut change.names);
    assert_eq!(new.generations, [3, 3]);
    assert!(change.new.vnets.iter().zip(&new.vnets).all(|(a, b)| Arc::ptr_eq(a, b)));
    after.ports.swap(1, 2);
    for customer in &mut after.customers {
        let swapped = |port: usize| [0, 2, 1, 3][port];
        Arc::make_mut(customer).tunnels.iter_mut().for_each(|t| t.port = swapped(t.port));
    }
    let moved = recompile(&change.new, &change.after, &after, &mut change.names);
    assert_eq!(moved.generations, [3, 3]);
    let ids =
        |p: &Program| p.tunnels.iter().map(|t| (t.id, p.ports[usize::from(t.port)].name.clone())).collect();
    let (old, new): (Vec<_>, Vec<_>) = (ids(&change.new), ids(&moved));
    assert_eq!(old, new);
}

/// All that a program says of a few addresses, as text.
fn told(program: &Program) -> String {
    let addresses = [
        "10.1.0.4",
        "10.1.0.9",
        "10.1.1.4",
        "10.2.0.4",
        "10.3.0.4",
        "20.0.0.1",
        "192.168.0.1",
        "192.168.7.1",
        "8.8.8.8",
    ];
    let addresses = addresses.map(|a| a.parse::<std::net::IpAddr>().unwrap());
    let fib = |fib: &super::Fib| format!("{:?} {:?}", addresses.map(|a| fib.table.lookup(a)), fib.routes);
    let mut lines = vec![format!("{:?}", program.tunnels)];
    for entry in program.entries.iter() {
        let at = addresses.map(|a| (entry.enter.lookup(a), entry.inside.lookup(a), entry.learned.lookup(a)));
        lines.push(format!("entry {} {at:?}", entry.party));
    }
    for v in program.vnets.iter().filter(|v| !v.is_vacant()) {
        let at = addresses.map(|a| (v.around.lookup(a), v.place(a), v.learned.lookup(a), v.vpn.lookup(a)));
        lines.push(format!("vnet {} of {} {at:?} {:?} {:?}", v.id, v.customer, v.space, v.ways));
        lines.push(format!(
            "{:?} {:?} {:?} {:?} {:?}",
            v.fabric, v.internet, v.hosts, v.forwarders, v.vpn_default
        ));
        lines.push(fib(&v.gateway_fib));
        for subnet in &v.subnets {
            lines.push(format!("{} {:?} {}", subnet.name, subnet.group.is_some(), fib(&subnet.fib)));
        }
        for nic in &v.nics {
            lines.push(format!("{} {} {} {:?}", nic.name, nic.party, nic.forwarding, nic.group.is_some()));
        }
    }
    lines.push(format!("{:?}", addresses.map(|a| program.plain.lookup(a))));
    lines.join("\n")
}

/// A change of a customer, with its name.
type Edit = (&'static str, fn(&mut Customer));

/// Changes of a customer that keep its model valid.
const EDITS: [Edit; 19] = [
    ("a link goes down or up", |c| c.tunnels[2].enabled ^= true),
    ("another key", |c| c.tunnels[3].key += 0x1000),
    ("the fabric tunnel of the spoke goes down or up", |c| c.tunnels[1].enabled ^= true),
    ("another name of the circuit", |c| c.circuits[0].name.push('x')),
    ("another name of a VNet", |c| c.vnets[1].name.push('x')),
    ("the gateway moves", |c| c.gateways[0].vnet ^= 1),
    ("another weight", |c| match &mut c.connections[0].to {
        model::ConnectionTo::Circuit { routing_weight, .. }
        | model::ConnectionTo::Site { routing_weight, .. } => {
            *routing_weight += 1;
        }
    }),
    ("the spoke uses the gateway or not", |c| c.vnets[1].peerings[0].use_remote_gateways ^= true),
    ("the peering is down or up", |c| c.vnets[0].peerings[0].connected ^= true),
    ("another range of the spoke", |c| {
        let ranges = &mut c.vnets[1].address_space;
        ranges.push(["10.3.0.0/16", "10.4.0.0/16"][ranges.len() % 2].parse().unwrap());
    }),
    ("a connection goes down or comes back", |c| {
        let down = &mut c.connections[0].down;
        *down = if down.is_some() { None } else { Some("why".to_owned()) };
    }),
    ("a longer path", |c| c.learned_routes.iter_mut().for_each(|r| r.as_path.push(1))),
    ("one more learned route", |c| {
        let route = c.learned_routes[0].clone();
        c.learned_routes.push(model::LearnedRoute { prefix: "192.168.7.0/24".parse().unwrap(), ..route });
    }),
    ("a host of the spoke", |c| {
        let host = c.hosts[0].clone();
        c.hosts.push(model::Host { vnet: 1, prefixes: vec!["10.2.0.0/16".parse().unwrap()], ..host });
    }),
    ("a NIC that forwards", |c| c.nics[0].ip_forwarding ^= true),
    ("one more ASG", |c| c.asgs.push("asg".to_owned())),
    ("one more connection", |c| {
        c.local_network_gateways.push(model::LocalNetworkGateway {
            name: "site".to_owned(),
            prefixes: vec!["192.168.0.0/17".parse().unwrap()],
        });
        let gateway = c.gateways.len();
        c.gateways.push(model::Gateway {
            name: format!("vpn-{gateway}"),
            kind: model::GatewayKind::Vpn,
            vnet: 0,
            default_site: None,
        });
        let site = Some(c.local_network_gateways.len() - 1);
        let to = model::ConnectionTo::Site { local_network_gateway: site, routing_weight: 0 };
        c.connections.push(model::Connection { name: format!("vpn-{gateway}"), gateway, to, down: None });
        let to = model::TunnelTo::Connection(c.connections.len() - 1);
        let key = c.tunnels[3].key + 0x100 * gateway as u32;
        c.tunnels.push(model::Tunnel { to, key, ..c.tunnels[3].clone() });
    }),
    ("the site is larger", |c| {
        if let Some(site) = c.local_network_gateways.last_mut() {
            site.prefixes.push("8.8.0.0/16".parse().unwrap());
        }
    }),
    ("one more VNet", |c| {
        let mut vnet = c.vnets[1].clone();
        (vnet.name, vnet.address_space, vnet.peerings) =
            (format!("new-{}", c.vnets.len()), Vec::new(), Vec::new());
        vnet.subnets.clear();
        c.vnets.push(vnet);
    }),
];

#[test]
fn a_change_means_what_the_whole_means() {
    let first = configuration();
    let mut names = Names::default();
    let compiled = compile(&first, &mut names);
    for (name, edit) in EDITS {
        for (then, next) in EDITS {
            let (mut names, mut before) = (names.clone(), first.clone());
            let mut program = recompile(&compiled, &first, &before, &mut names);
            for (step, edit) in [edit, next, edit].into_iter().enumerate() {
                let mut after = before.clone();
                edit(Arc::make_mut(&mut after.customers[1]));
                program = recompile(&program, &before, &after, &mut names);
                let whole = compile(&after, &mut names.clone());
                assert_eq!(told(&program), told(&whole), "{name}, then {then}, step {step}");
                before = after;
            }
        }
    }
}
