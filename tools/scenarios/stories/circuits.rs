//! Circuits and VPN connections: two links, weights, and what comes when one is lost.

use clearway::packet::NextHopType::{VirtualNetworkGateway, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{tcp, udp};
use crate::story::{Place, Story, with};

const ON_PREMISES: (&str, &str) = ("192.168.1.10:22", "192.168.0.0/16");
const ALLOWED: &str = "DefaultRule_AllowVnetOutBound";

/// One SYN from the web server, on this source port, to a place on premises, by this link.
fn opens(s: &mut Story, web: Place, port: u16, (to, prefix): (&'static str, &'static str), link: Place) {
    s.send(web, tcp(&format!("10.1.0.4:{port}"), to, "SYN"))
        .opens(ALLOWED)
        .via((VirtualNetworkGateway, prefix))
        .to(link);
}

pub fn asymmetric_circuits() -> Story {
    let mut s = Story::new(
        "asymmetric-circuits",
        "Two links share the flows of a circuit, answers come by either, and a lost link moves only its own flows.",
        ASYMMETRIC_CIRCUITS,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let primary = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let secondary = s.site("contoso/hub", "edge-b", "192.0.2.6", 0xc02);
    let heavy = s.site("contoso/hub", "edge-b", "192.0.2.10", 0xc11);

    s.scene("Both links know the way; each flow takes the one that its hash says.");
    opens(&mut s, web, 50_001, ON_PREMISES, primary);
    opens(&mut s, web, 50_002, ON_PREMISES, secondary);
    opens(&mut s, web, 50_003, ON_PREMISES, primary);
    opens(&mut s, web, 50_004, ON_PREMISES, primary);
    s.scene("Answers come by the other link: flow records are the endpoint's, not the link's.");
    s.send(secondary, tcp(ON_PREMISES.0, "10.1.0.4:50001", "SYN ACK"))
        .established(ALLOWED)
        .via((VnetLocal, "10.1.0.0/16"))
        .to(web);
    s.send(primary, tcp(ON_PREMISES.0, "10.1.0.4:50002", "SYN ACK"))
        .established(ALLOWED)
        .via((VnetLocal, "10.1.0.0/16"))
        .to(web);
    s.scene("The customer made one path longer: everything takes the other.");
    for port in [50_011, 50_012, 50_013] {
        opens(&mut s, web, port, ("192.168.77.5:22", "192.168.77.0/24"), primary);
    }
    s.scene("A higher weight wins over both links of the other circuit.");
    for port in [50_021, 50_022] {
        opens(&mut s, web, port, ("172.20.0.5:22", "172.20.0.0/16"), heavy);
    }
    s.scene("What the other circuit's customer side did not announce, it may not send.");
    s.send(heavy, tcp(ON_PREMISES.0, "10.1.0.4:50003", "SYN ACK")).ends(Reason::SpoofedSource);
    s.scene("There is no transit from one circuit to the other.");
    s.send(primary, udp("192.168.1.10:5000", "172.20.0.5:5000"))
        .ends(Reason::NoRoute)
        .owned_by("contoso", "");

    let link = "link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01";
    let lost = with(ASYMMETRIC_CIRCUITS, link, &format!("{link}, enabled: false"));
    s.swap(10, "primary-lost.yaml", lost);
    s.scene("The primary link is lost: its flows move, those of the secondary stay.");
    for (port, prefix) in
        [(50_002, ON_PREMISES), (50_001, ON_PREMISES), (50_011, ("192.168.77.5:22", "192.168.77.0/24"))]
    {
        s.send(web, tcp(&format!("10.1.0.4:{port}"), prefix.0, "ACK"))
            .established(ALLOWED)
            .via((VirtualNetworkGateway, prefix.1))
            .to(secondary);
    }
    s.scene("What still comes by it is of no tunnel.");
    s.send(primary, tcp(ON_PREMISES.0, "10.1.0.4:50002", "ACK")).ends(Reason::UnknownTunnel);
    s.flows(9, 9)
}

const ASYMMETRIC_CIRCUITS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
  edge-a: {role: edge,   address: 192.0.2.1}
  edge-b: {role: edge,   address: 192.0.2.5}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
      - {name: web-nsg, securityRules: []}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
      - name: er2
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: m, bandwidthInMbps: 200}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65002, vlanId: 200,
                    primaryPeerAddressPrefix: 192.168.255.8/30, secondaryPeerAddressPrefix: 192.168.255.12/30}]
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1, routingWeight: 0}
      - {name: c2, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er2, routingWeight: 100}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
      - {circuit: er2, peering: AzurePrivatePeering, link: primary,   port: edge-b, remote: 192.0.2.10, key: 0xc11}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}
      - {prefix: 192.168.77.0/24, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001]}
      - {prefix: 192.168.77.0/24, circuit: er1, peering: AzurePrivatePeering, link: secondary, asPath: [65001, 65001]}
      - {prefix: 172.20.0.0/16, circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}
      - {prefix: 172.20.0.0/16, circuit: er2, peering: AzurePrivatePeering, link: primary, asPath: [65002, 65009]}
"#;

pub fn vpn_and_circuit() -> Story {
    let mut s = Story::new(
        "vpn-and-circuit",
        "A circuit goes before a VPN on equal prefixes, the VPN takes over when it fails, and a default site takes the rest.",
        VPN_AND_CIRCUIT,
    );
    let app = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let branch = s.host("contoso/branch", "fabric", "198.51.100.12", 0xa02);
    let lonely = s.host("contoso/lonely", "fabric", "198.51.100.13", 0xa03);
    let circuit = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let vpn = s.site("contoso/hub", "internet", "203.0.113.77", 0xd01);
    let site = s.site("contoso/branch", "internet", "203.0.113.78", 0xd02);
    let (here, there) = ("10.1.0.4:6000", "192.168.1.10:6000");

    s.scene("Both know 192.168.0.0/16: the circuit carries it.");
    s.send(app, udp(here, there)).via((VirtualNetworkGateway, "192.168.0.0/16")).to(circuit);
    s.scene("The VPN knows a longer prefix.");
    s.send(app, udp(here, "192.168.9.5:6000")).via((VirtualNetworkGateway, "192.168.9.0/24")).to(vpn);
    s.scene("Answers are believed from either that knows their source.");
    s.send(vpn, udp(there, here)).via((VnetLocal, "10.1.0.0/16")).to(app);
    s.send(circuit, udp("192.168.9.5:6000", here)).via((VnetLocal, "10.1.0.0/16")).to(app);
    s.scene("Nothing is carried from the VPN to the circuit.");
    s.send(vpn, udp("192.168.9.5:6000", "192.168.255.99:6000")).ends(Reason::NoRoute).owned_by("contoso", "");

    s.scene("The branch sends everything to its default site, but what a connection knows better.");
    s.send(branch, udp("10.8.0.4:6000", "8.8.8.8:53")).via((VirtualNetworkGateway, "0.0.0.0/0")).to(site);
    s.send(branch, udp("10.8.0.4:6000", "192.168.200.7:53"))
        .via((VirtualNetworkGateway, "192.168.200.0/24"))
        .to(site);
    s.scene("The site may only send what it is known for.");
    s.send(site, udp("192.168.200.7:53", "10.8.0.4:6000")).via((VnetLocal, "10.8.0.0/16")).to(branch);
    s.send(site, udp("192.168.9.5:53", "10.8.0.4:6000")).ends(Reason::SpoofedSource);
    s.scene("A gateway without connections is no way.");
    s.send(lonely, udp("10.9.0.4:6000", "8.8.8.8:53"))
        .ends(Reason::GatewayDown)
        .via((VirtualNetworkGateway, "0.0.0.0/0"));

    let link = "port: edge-a, remote: 192.0.2.2, key: 0xc01";
    s.swap(10, "circuit-lost.yaml", with(VPN_AND_CIRCUIT, link, &format!("{link}, enabled: false")));
    s.scene("The circuit is lost: the VPN carries what both know.");
    s.send(app, udp(here, there)).via((VirtualNetworkGateway, "192.168.0.0/16")).to(vpn);
    s.send(vpn, udp(there, here)).via((VnetLocal, "10.1.0.0/16")).to(app);

    let connection = "connection: s2s-2, port: internet, remote: 203.0.113.78, key: 0xd02";
    let lost = with(VPN_AND_CIRCUIT, connection, &format!("{connection}, enabled: false"));
    s.swap(20, "site-lost.yaml", lost);
    s.scene("The default site is lost: the user-defined route has no way, and does not fall back to the Internet.");
    s.send(branch, udp("10.8.0.4:6000", "8.8.8.8:53"))
        .ends(Reason::GatewayDown)
        .via((VirtualNetworkGateway, "0.0.0.0/0"));
    s.flows(0, 0)
}

const VPN_AND_CIRCUIT: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
      - name: branch
        addressSpace: {addressPrefixes: [10.8.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.8.0.0/24, routeTable: forced}
          - {name: GatewaySubnet, addressPrefix: 10.8.255.0/27}
      - name: lonely
        addressSpace: {addressPrefixes: [10.9.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.9.0.0/24, routeTable: forced}
          - {name: GatewaySubnet, addressPrefix: 10.9.255.0/27}
    routeTables:
      - name: forced
        routes: [{name: everything, addressPrefix: 0.0.0.0/0, nextHopType: VirtualNetworkGateway}]
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    localNetworkGateways:
      - {name: office, localNetworkAddressSpace: {addressPrefixes: [192.168.0.0/16, 192.168.9.0/24]}}
      - {name: plant, localNetworkAddressSpace: {addressPrefixes: [192.168.200.0/24]}}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
      - {name: hub-vpn, gatewayType: Vpn, virtualNetwork: hub}
      - {name: branch-vpn, gatewayType: Vpn, virtualNetwork: branch, gatewayDefaultSite: plant}
      - {name: lonely-vpn, gatewayType: Vpn, virtualNetwork: lonely}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
      - {name: s2s-1, connectionType: IPsec, virtualNetworkGateway1: hub-vpn, localNetworkGateway2: office, routingWeight: 100}
      - {name: s2s-2, connectionType: IPsec, virtualNetworkGateway1: branch-vpn, localNetworkGateway2: plant}
    tunnels:
      - {vnet: hub,    port: fabric, key: 0xa01}
      - {vnet: branch, port: fabric, key: 0xa02}
      - {vnet: lonely, port: fabric, key: 0xa03}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {connection: s2s-1, port: internet, remote: 203.0.113.77, key: 0xd01}
      - {connection: s2s-2, port: internet, remote: 203.0.113.78, key: 0xd02}
    hosts:
      - {address: 198.51.100.11, vnet: hub,    prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: branch, prefixes: [10.8.0.0/24]}
      - {address: 198.51.100.13, vnet: lonely, prefixes: [10.9.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001, 65001, 65001]}
"#;
