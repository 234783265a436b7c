//! Hubs and spokes: a firewall in the hub, forced tunnelling, and what peerings carry.

use clearway::packet::NextHopType::{
    self, Internet, VNetPeering, VirtualAppliance, VirtualNetworkGateway, VnetLocal,
};
use clearway::packet::Reason;

use crate::packet::{tcp, udp};
use crate::story::{Story, with};

/// A web site on the Internet.
const SITE: &str = "93.184.216.34:443";

pub fn hub_and_spoke_firewall() -> Story {
    let mut s = Story::new(
        "hub-and-spoke-firewall",
        "A spoke reaches the Internet through a firewall in the hub, and what its groups do not allow stays out.",
        HUB_AND_SPOKE_FIREWALL,
    );
    let web = s.host("contoso/spoke", "fabric", "198.51.100.13", 0xa02);
    let firewall = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let out = "DefaultRule_AllowVnetOutBound"; // The route table's 0.0.0.0/0 is in VirtualNetwork.
    let from_spoke = "UserRule_AllowFromSpoke";
    let firewalls_own = "DefaultRule_AllowInternetOutBound";

    s.scene("The web server opens a connection to a site; its route table sends it to the firewall.");
    let default = (VirtualAppliance, "0.0.0.0/0");
    s.send(web, tcp("10.2.0.4:49152", SITE, "SYN")).opens(from_spoke).via(default).to(firewall);
    s.scene("The firewall translates the source to its own address; its own subnet has no route table.");
    s.send(firewall, tcp("10.1.9.4:20001", SITE, "SYN"))
        .opens(firewalls_own)
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.scene("The site answers the firewall.");
    s.send(internet, tcp(SITE, "10.1.9.4:20001", "SYN ACK"))
        .established(firewalls_own)
        .via((VnetLocal, "10.1.0.0/16"))
        .to(firewall);
    s.scene(
        "The firewall translates back and forwards into the spoke, whose peering allows forwarded traffic.",
    );
    s.send(firewall, tcp(SITE, "10.2.0.4:49152", "SYN ACK"))
        .established(out)
        .via((VNetPeering, "10.2.0.0/16"))
        .to(web);
    s.scene("The rest of the handshake needs no rule.");
    s.send(web, tcp("10.2.0.4:49152", SITE, "ACK")).established(from_spoke).via(default).to(firewall);
    s.send(firewall, tcp("10.1.9.4:20001", SITE, "ACK"))
        .established(firewalls_own)
        .via((Internet, "0.0.0.0/0"))
        .to(internet);

    s.scene("Mail is denied where the web server's own group stands, before any route is looked up.");
    s.send(web, tcp("10.2.0.4:49153", "93.184.216.34:25", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("UserRule_DenySmtp");
    s.scene("The firewall itself is reached by the peering: its prefix is longer than 0.0.0.0/0.");
    s.send(web, tcp("10.2.0.4:49154", "10.1.9.4:8443", "SYN"))
        .opens(from_spoke)
        .via((VNetPeering, "10.1.0.0/16"))
        .to(firewall);
    s.scene("A scanner on the Internet finds no rule that lets it in.");
    s.send(internet, tcp("5.6.7.8:31337", "10.1.9.4:22", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via((VnetLocal, "10.1.0.0/16"));
    s.scene(
        "A private address that nobody has: the 0.0.0.0/0 removed the reserved ranges of the web subnet...",
    );
    s.send(web, tcp("10.2.0.4:49155", "172.16.0.9:443", "SYN")).opens(from_spoke).via(default).to(firewall);
    s.scene("...and the firewall's group allows it neither as VirtualNetwork nor as Internet.");
    s.send(firewall, tcp("10.2.0.4:49155", "172.16.0.9:443", "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllOutBound");
    s.flows(7, 7)
}

const HUB_AND_SPOKE_FIREWALL: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: firewall, addressPrefix: 10.1.9.0/24, networkSecurityGroup: firewall-nsg}
        virtualNetworkPeerings:
          - {name: to-spoke, remoteVirtualNetwork: spoke}
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.2.0.0/24, networkSecurityGroup: web-nsg, routeTable: via-firewall}
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, allowForwardedTraffic: true}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: DenySmtp, priority: 100, direction: Outbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "25"}
      - name: firewall-nsg
        securityRules:
          - {name: AllowFromSpoke, priority: 100, direction: Inbound, access: Allow, protocol: "*",
             sourceAddressPrefix: 10.2.0.0/16, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
    routeTables:
      - name: via-firewall
        routes:
          - {name: everything, addressPrefix: 0.0.0.0/0, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
    networkInterfaces:
      - name: firewall-nic
        enableIPForwarding: true
        ipConfigurations: [{privateIPAddress: 10.1.9.4, subnet: hub/firewall}]
    tunnels:
      - {vnet: hub,   port: fabric, key: 0xa01}
      - {vnet: spoke, port: fabric, key: 0xa02}
    hosts:
      - {address: 198.51.100.12, vnet: hub,   prefixes: [10.1.9.0/24]}
      - {address: 198.51.100.13, vnet: spoke, prefixes: [10.2.0.0/24]}
"#;

pub fn forced_tunnelling() -> Story {
    let mut s = Story::new(
        "forced-tunnelling",
        "A default route learned over the circuit takes all Internet traffic on premises, until it is withdrawn.",
        FORCED_TUNNELLING,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let on_premises = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let vnet_out = "DefaultRule_AllowVnetOutBound";

    s.scene("The web server opens a connection to a site: it goes on premises, and back.");
    s.send(web, tcp("10.1.0.4:50000", SITE, "SYN"))
        .opens(vnet_out)
        .via((VirtualNetworkGateway, "0.0.0.0/0"))
        .to(on_premises);
    s.send(on_premises, tcp(SITE, "10.1.0.4:50000", "SYN ACK"))
        .established(vnet_out)
        .via((VnetLocal, "10.1.0.0/16"))
        .to(web);
    s.scene("A colleague on premises is in VirtualNetwork, for the prefix is learned.");
    s.send(on_premises, tcp("192.168.1.10:40000", "10.1.0.4:443", "SYN"))
        .opens("DefaultRule_AllowVnetInBound")
        .via((VnetLocal, "10.1.0.0/16"))
        .to(web);
    s.scene("A client that still comes directly from the Internet gets in, but its answer goes on premises.");
    s.send(internet, tcp("5.6.7.8:40001", "10.1.0.4:443", "SYN"))
        .opens("UserRule_AllowHttps")
        .via((VnetLocal, "10.1.0.0/16"))
        .to(web);
    s.send(web, tcp("10.1.0.4:443", "5.6.7.8:40001", "SYN ACK"))
        .established("UserRule_AllowHttps")
        .via((VirtualNetworkGateway, "0.0.0.0/0"))
        .to(on_premises);
    s.scene("Private addresses that nobody announced go on premises too: the learned default removed the reserved ranges.");
    s.send(web, udp("10.1.5.4:5000", "172.16.9.9:5000"))
        .via((VirtualNetworkGateway, "0.0.0.0/0"))
        .to(on_premises);

    let default = "      - {prefix: 0.0.0.0/0, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001]}\n";
    s.swap(10, "withdrawn.yaml", with(FORCED_TUNNELLING, default, ""));
    s.scene("The default route is withdrawn: the connection lives on and leaves directly.");
    s.send(web, tcp("10.1.0.4:50000", SITE, "ACK"))
        .established(vnet_out)
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.scene("A new connection is the Internet's, no longer VirtualNetwork's.");
    s.send(web, tcp("10.1.0.4:50001", SITE, "SYN"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via((Internet, "0.0.0.0/0"))
        .to(internet);
    s.scene("The reserved ranges are back.");
    s.send(web, udp("10.1.5.4:5000", "172.16.9.9:5000"))
        .ends(Reason::RouteNone)
        .via((NextHopType::None, "172.16.0.0/12"));
    s.scene("What is learned beside the default still goes on premises.");
    s.send(web, tcp("10.1.0.4:443", "192.168.1.10:40000", "SYN ACK"))
        .established("DefaultRule_AllowVnetInBound")
        .via((VirtualNetworkGateway, "192.168.0.0/16"))
        .to(on_premises);
    s.scene("A late answer of the site comes by the circuit, where nothing is learned of it any more.");
    s.send(on_premises, tcp(SITE, "10.1.0.4:50000", "ACK")).ends(Reason::SpoofedSource);
    s.flows(4, 4)
}

const FORCED_TUNNELLING: &str = r#"
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
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}
          - {name: lab, addressPrefix: 10.1.5.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: AllowHttps, priority: 200, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001]}
      - {prefix: 0.0.0.0/0, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001]}
"#;

pub fn peering_forwarding() -> Story {
    let mut s = Story::new(
        "peering-forwarding",
        "What a peering carries: forwarded traffic only where the receiving side allows it, and nothing one-sided.",
        PEERING_FORWARDING,
    );
    let a = s.host("contoso/spoke-a", "fabric", "198.51.100.21", 0xa02);
    let b = s.host("contoso/spoke-b", "fabric", "198.51.100.22", 0xa03);
    let c = s.host("contoso/spoke-c", "fabric", "198.51.100.23", 0xa04);
    let d = s.host("contoso/spoke-d", "fabric", "198.51.100.24", 0xa05);
    let router = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let server = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let (in_a, in_b) = ("10.2.0.4:7000", "10.3.0.4:7000");

    s.scene("Spokes are not peered with each other; A sends to B by the router in the hub.");
    s.send(a, udp(in_a, in_b)).via((VirtualAppliance, "10.3.0.0/16")).to(router);
    s.scene("The router forwards, but B's peering does not allow what did not begin in the hub.");
    s.send(router, udp(in_a, in_b)).ends(Reason::PeeringForwarding).via((VNetPeering, "10.3.0.0/16"));
    s.scene("What begins in the hub itself, B takes.");
    s.send(router, udp("10.1.9.4:7000", in_b)).via((VNetPeering, "10.3.0.0/16")).to(b);
    s.scene("A's peering allows forwarded traffic.");
    s.send(router, udp(in_b, in_a)).via((VNetPeering, "10.2.0.0/16")).to(a);

    s.scene("B's table names a server as next hop that does not forward.");
    s.send(b, udp(in_b, in_a)).ends(Reason::ApplianceNotForwarding).via((VirtualAppliance, "10.2.0.0/16"));
    s.scene("What is for that server itself, it takes.");
    s.send(b, udp(in_b, "10.1.9.5:53")).via((VirtualAppliance, "10.1.9.5/32")).to(server);
    s.scene("A next hop without a NIC resource is taken to forward; one without a host cannot.");
    s.send(a, udp(in_a, "10.77.0.1:7000")).via((VirtualAppliance, "10.77.0.0/16")).to(server);
    s.send(a, udp(in_a, "10.78.0.1:7000")).ends(Reason::NoHost).via((VirtualAppliance, "10.78.0.0/16"));
    s.scene("Nor can an address of the hub that lies in no subnet, or in one that no host carries.");
    s.send(a, udp(in_a, "10.1.200.1:7000")).ends(Reason::NoHost).via((VNetPeering, "10.1.0.0/16"));
    s.send(a, udp(in_a, "10.1.9.240:7000")).ends(Reason::NoHost).via((VNetPeering, "10.1.0.0/16"));

    s.scene("The hub does not name C, so C has no route to it but the reserved range.");
    let nowhere = (NextHopType::None, "10.0.0.0/8");
    s.send(c, udp("10.4.0.4:7000", "10.1.9.5:53")).ends(Reason::RouteNone).via(nowhere);
    s.scene("The hub allows D no access; D's own side does, which is not enough.");
    s.send(d, udp("10.5.0.4:7000", "10.1.9.5:53")).ends(Reason::RouteNone).via(nowhere);
    s.scene("Peerings are not transitive.");
    s.send(d, udp("10.5.0.4:7000", in_a)).ends(Reason::RouteNone).via(nowhere);
    s.flows(0, 0)
}

const PEERING_FORWARDING: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: shared, addressPrefix: 10.1.9.0/24}]
        virtualNetworkPeerings:
          - {name: to-a, remoteVirtualNetwork: spoke-a}
          - {name: to-b, remoteVirtualNetwork: spoke-b}
          - {name: to-d, remoteVirtualNetwork: spoke-d, allowVirtualNetworkAccess: false}
      - name: spoke-a
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24, routeTable: a-table}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, allowForwardedTraffic: true}
      - name: spoke-b
        addressSpace: {addressPrefixes: [10.3.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.3.0.0/24, routeTable: b-table}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, allowForwardedTraffic: false}
      - name: spoke-c
        addressSpace: {addressPrefixes: [10.4.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.4.0.0/24}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub}
      - name: spoke-d
        addressSpace: {addressPrefixes: [10.5.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.5.0.0/24}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub}
    routeTables:
      - name: a-table
        routes:
          - {name: to-b,    addressPrefix: 10.3.0.0/16,  nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
          - {name: no-nic,  addressPrefix: 10.77.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.99}
          - {name: no-host, addressPrefix: 10.78.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.200}
      - name: b-table
        routes:
          - {name: to-a,   addressPrefix: 10.2.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.5}
          - {name: server, addressPrefix: 10.1.9.5/32, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.5}
    networkInterfaces:
      - name: router-nic
        enableIPForwarding: true
        ipConfigurations: [{privateIPAddress: 10.1.9.4, subnet: hub/shared}]
      - name: server-nic
        ipConfigurations: [{privateIPAddress: 10.1.9.5, subnet: hub/shared}]
    tunnels:
      - {vnet: hub,     port: fabric, key: 0xa01}
      - {vnet: spoke-a, port: fabric, key: 0xa02}
      - {vnet: spoke-b, port: fabric, key: 0xa03}
      - {vnet: spoke-c, port: fabric, key: 0xa04}
      - {vnet: spoke-d, port: fabric, key: 0xa05}
    hosts:
      - {address: 198.51.100.11, vnet: hub,     prefixes: [10.1.9.4/32]}
      - {address: 198.51.100.12, vnet: hub,     prefixes: [10.1.9.0/25]}
      - {address: 198.51.100.21, vnet: spoke-a, prefixes: [10.2.0.0/24]}
      - {address: 198.51.100.22, vnet: spoke-b, prefixes: [10.3.0.0/24]}
      - {address: 198.51.100.23, vnet: spoke-c, prefixes: [10.4.0.0/24]}
      - {address: 198.51.100.24, vnet: spoke-d, prefixes: [10.5.0.0/24]}
"#;
