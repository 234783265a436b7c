//! A configuration of a given size.

use std::fmt::Write;

use clearway::model::{self, Model};

/// A VNet with two NICs on two hosts, a group at each NIC and subnet, user-defined and learned routes.
///
/// `rules` is the number in each group, none of which matches the traffic of the benches; `routes` is the number of
/// routes, half of them user-defined as far as a route table may hold them.
pub fn configuration(rules: usize, routes: usize) -> String {
    let mut text = String::from(HEAD);
    for group in ["nic-a", "nic-b", "subnet-a", "subnet-b"] {
        let _ = writeln!(text, "      - name: {group}\n        securityRules:");
        for n in 0..rules {
            let direction = if n % 2 == 0 { "Inbound" } else { "Outbound" };
            let _ = writeln!(
                text,
                "          - {{name: r{n}, priority: {}, direction: {direction}, access: Deny, protocol: {}, \
                 sourceAddressPrefix: 172.{}.{}.0/24, sourcePortRange: \"*\", \
                 destinationAddressPrefix: 10.1.{}.0/24, destinationPortRange: \"{}-{}\"}}",
                100 + n,
                ["Tcp", "Udp", "\"*\""][n % 3],
                16 + n % 16,
                n / 16,
                n % 250,
                1000 + n,
                1003 + n,
            );
        }
    }
    let user = (routes / 2).min(400);
    text.push_str("    routeTables:\n      - name: table\n        routes:\n");
    for n in 0..user.max(1) {
        let _ = writeln!(
            text,
            "          - {{name: u{n}, addressPrefix: 100.{}.{}.0/24, nextHopType: None}}",
            64 + n / 256,
            n % 256
        );
    }
    text.push_str(TAIL);
    for n in 0..(routes - user).max(1) {
        let _ = writeln!(
            text,
            "      - {{prefix: 192.168.{}.{}/27, circuit: er1, peering: AzurePrivatePeering}}",
            n / 8 % 256,
            n % 8 * 32
        );
    }
    text
}

const HEAD: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  edge-b:   {role: edge,     address: 192.0.2.5}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        maxFlows: 16000000
        subnets:
          - {name: a, addressPrefix: 10.1.0.0/24, networkSecurityGroup: subnet-a, routeTable: table}
          - {name: b, addressPrefix: 10.1.1.0/24, networkSecurityGroup: subnet-b, routeTable: table}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
"#;

const TAIL: &str = r#"
    networkInterfaces:
      - {name: a, maxFlows: 16000000, networkSecurityGroup: nic-a, ipConfigurations: [{privateIPAddress: 10.1.0.4, subnet: hub/a}]}
      - {name: b, maxFlows: 16000000, networkSecurityGroup: nic-b, ipConfigurations: [{privateIPAddress: 10.1.1.4, subnet: hub/b}]}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Premium, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 172.16.255.0/30, secondaryPeerAddressPrefix: 172.16.255.4/30}]
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.1.0/24]}
    learnedRoutes:
"#;

/// The model of a configuration that has to be right.
pub fn model(text: &str) -> Model {
    model::from_bytes("bench.yaml", text.as_bytes(), None)
        .unwrap_or_else(|faults| panic!("the configuration of the benches is refused: {}", faults[0]))
}
