//! Customers apart from each other, and from those who pretend: equal addresses, spoofed sources, Internet tunnels.

use clearway::packet::NextHopType::{Internet, VNetPeering, VirtualNetworkGateway, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{tcp, udp};
use crate::story::{Story, with};

pub fn two_customers_same_addresses() -> Story {
    let mut s = Story::new(
        "two-customers-same-addresses",
        "Identical packets of two customers never meet: rules, flow records, fragments and routes are each one's own.",
        TWO_CUSTOMERS,
    );
    let contoso = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let contoso_db = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let fabrikam = s.host("fabrikam/hub", "fabric", "198.51.100.11", 0xb01);
    let outside = s.plain("contoso/hub", "internet");
    let fabrikams = s.internet_tunnel("fabrikam/hub", "internet", "203.0.113.1", 0xb03);
    let local = (VnetLocal, "10.1.0.0/16");
    let (web, db) = ("10.1.0.4:9000", "10.1.1.4:1433");

    s.scene("The same SYN from the same host address: contoso allows it, fabrikam does not.");
    s.send(contoso, tcp(web, db, "SYN")).opens("DefaultRule_AllowVnetInBound").via(local).to(contoso_db);
    s.send(fabrikam, tcp(web, db, "SYN")).ends(Reason::NsgDeny).rule("UserRule_DenyDatabases");
    s.scene("Contoso's connection says nothing about fabrikam's segment.");
    s.send(contoso, tcp(web, db, "ACK"))
        .established("DefaultRule_AllowVnetInBound")
        .via(local)
        .to(contoso_db);
    s.send(fabrikam, tcp(web, "10.1.1.4:443", "ACK"))
        .ends(Reason::TcpNoFlow)
        .rule("DefaultRule_AllowVnetOutBound");
    s.scene("Nor does contoso's first fragment admit fabrikam's second.");
    let datagram = udp(web, "10.1.1.4:514").carrying(2000);
    s.send(contoso, datagram.fragment(7, 0..1480))
        .opens("DefaultRule_AllowVnetInBound")
        .via(local)
        .to(contoso_db);
    s.send(fabrikam, datagram.fragment(7, 1480..2012)).ends(Reason::FragmentOrphan);
    s.send(contoso, datagram.fragment(7, 1480..2012))
        .established("DefaultRule_AllowVnetInBound")
        .via(local)
        .to(contoso_db);
    s.scene("Contoso's database host carries nothing of fabrikam's.");
    let lost = fabrikam.wrap(&udp("10.1.1.4:514", web));
    s.frame(fabrikam, lost.outer(|ip| ip[15] = 12)).ends(Reason::TunnelPeer);
    s.scene("A key that is nobody's is nobody's.");
    let stranger = contoso.wrap(&udp(web, db));
    s.frame(contoso, stranger.gre(|gre| gre[7] = 0x77)).ends(Reason::UnknownTunnel);
    s.scene("From the Internet, 10.1.0.4 could be either's; only fabrikam has a tunnel that says so.");
    s.send(outside, tcp("5.6.7.8:40000", "10.1.0.4:443", "SYN")).ends(Reason::UnknownTunnel);
    s.send(fabrikams, tcp("5.6.7.8:40000", "10.1.0.4:443", "SYN"))
        .opens("UserRule_AllowHttps")
        .via(local)
        .to(fabrikam);
    s.send(fabrikam, tcp("10.1.0.4:443", "5.6.7.8:40000", "SYN ACK"))
        .established("UserRule_AllowHttps")
        .via((Internet, "0.0.0.0/0"))
        .to(fabrikams);
    s.scene("Contoso leaves plain.");
    s.send(contoso, tcp("10.1.0.4:443", "5.6.7.8:40000", "SYN"))
        .opens("DefaultRule_AllowInternetOutBound")
        .via((Internet, "0.0.0.0/0"))
        .to(outside);
    s.flows(6, 6)
}

const TWO_CUSTOMERS: &str = r#"
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
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: nsg}
          - {name: db, addressPrefix: 10.1.1.0/24, networkSecurityGroup: nsg}
    networkSecurityGroups: [{name: nsg, securityRules: []}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.1.0/24]}
  - name: fabrikam
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: everything, addressPrefix: 10.1.0.0/16, networkSecurityGroup: nsg}
    networkSecurityGroups:
      - name: nsg
        securityRules:
          - {name: AllowHttps, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
          - {name: DenyDatabases, priority: 100, direction: Outbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "1433"}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xb01}
      - {internet: hub, port: internet, remote: 203.0.113.1, key: 0xb03}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}
"#;

pub fn spoofing() -> Story {
    let mut s = Story::new(
        "spoofing",
        "Who may send with which source: hosts, forwarding NICs, circuit links and the Internet, each judged by what it is.",
        SPOOFING,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let router = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let spoke = s.host("contoso/spoke", "fabric", "198.51.100.13", 0xa02);
    let circuit = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let services = s.plain("contoso/hub", "services");
    let local = (VnetLocal, "10.1.0.0/16");
    let to_web = "10.1.0.4:514";

    s.scene("A host sends for the addresses that live on it, and for no others.");
    s.send(web, udp("10.1.0.4:514", "10.1.9.4:514")).via(local).to(router);
    for source in ["10.1.9.4:514", "10.1.200.4:514", "10.2.0.4:514", "8.8.8.8:514", "168.63.129.16:53"] {
        s.send(web, udp(source, "10.1.0.9:514")).ends(Reason::SpoofedSource);
    }
    s.scene(
        "On the host of a NIC with IP forwarding, anything else is that NIC's; not the platform's addresses.",
    );
    s.send(router, udp("10.2.0.4:514", to_web)).via(local).to(web);
    s.send(router, udp("8.8.8.8:514", to_web)).via(local).to(web);
    s.send(router, udp("168.63.129.16:53", to_web)).ends(Reason::SpoofedSource);

    s.scene("By the circuit comes what is learned on it, by either link.");
    s.send(circuit, udp("192.168.1.10:514", to_web)).via(local).to(web);
    s.send(circuit, udp("172.31.1.10:514", to_web)).via(local).to(web);
    s.scene("The peer that uses the gateway is reached too; the VNet of the verdict is the gateway's.");
    s.send(circuit, udp("192.168.1.10:514", "10.2.0.4:514")).via((VNetPeering, "10.2.0.0/16")).to(spoke);
    s.scene("What is not learned there, or lies in the VNets behind it, does not; the default route learned covers 8.8.8.8.");
    for source in ["10.1.0.9:514", "10.2.0.9:514", "169.254.169.254:80", "168.63.129.16:53"] {
        s.send(circuit, udp(source, to_web)).ends(Reason::SpoofedSource);
    }
    s.send(circuit, udp("8.8.8.8:53", to_web)).via(local).to(web);

    s.scene("From the Internet comes what is not inside.");
    s.send(internet, udp("8.8.8.8:53", to_web)).via(local).to(web);
    for source in [
        "10.1.0.9:514",
        "10.2.0.9:514",
        "192.168.1.10:514",
        "172.16.0.1:514",
        "100.64.0.1:514",
        "10.250.0.1:514",
        "198.18.7.1:514",
        "168.63.129.16:53",
    ] {
        s.send(internet, udp(source, to_web)).ends(Reason::SpoofedSource);
    }
    s.scene(
        "The services port believes the platform's addresses, and nothing else more than the Internet's.",
    );
    s.send(services, udp("169.254.169.254:80", to_web)).via(local).to(web);
    s.send(services, udp("192.168.1.10:514", to_web)).ends(Reason::SpoofedSource);
    s.scene("A destination in nobody's space is nobody's.");
    s.send(internet, udp("8.8.8.8:53", "10.99.0.4:514")).ends(Reason::UnknownTunnel);
    s.scene("The spoke's answers leave by the hub's gateway.");
    s.send(spoke, udp("10.2.0.4:514", "192.168.1.10:514"))
        .via((VirtualNetworkGateway, "192.168.0.0/16"))
        .to(circuit);
    s.flows(0, 0)
}

const SPOOFING: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  edge-b:   {role: edge,     address: 192.0.2.5}
  services: {role: services, address: 203.0.113.10, nextHop: 203.0.113.9}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24}
          - {name: router, addressPrefix: 10.1.9.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
        virtualNetworkPeerings:
          - {name: to-spoke, remoteVirtualNetwork: spoke, allowGatewayTransit: true}
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, useRemoteGateways: true}
    networkInterfaces:
      - name: router-nic
        enableIPForwarding: true
        ipConfigurations: [{privateIPAddress: 10.1.9.4, subnet: hub/router}]
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
      - {vnet: hub,   port: fabric, key: 0xa01}
      - {vnet: spoke, port: fabric, key: 0xa02}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
    hosts:
      - {address: 198.51.100.11, vnet: hub,   prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub,   prefixes: [10.1.9.0/24]}
      - {address: 198.51.100.13, vnet: spoke, prefixes: [10.2.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary}
      - {prefix: 172.31.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: secondary}
      - {prefix: 198.18.0.0/15, circuit: er1, peering: AzurePrivatePeering, link: primary}
      - {prefix: 0.0.0.0/0, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;

pub fn internet_tunnels() -> Story {
    let mut s = Story::new(
        "internet-tunnels",
        "A VNet whose Internet traffic goes through GRE of its own, told apart by key and remote, and down when it is down.",
        INTERNET_TUNNELS,
    );
    let app = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let shop = s.host("fabrikam/shop", "fabric", "198.51.100.12", 0xb01);
    let contosos = s.internet_tunnel("contoso/hub", "internet", "203.0.113.1", 0x700);
    let fabrikams = s.internet_tunnel("fabrikam/shop", "internet", "203.0.113.5", 0x700);
    let plain = s.plain("contoso/hub", "internet");
    let local = (VnetLocal, "10.1.0.0/16");
    let default = (Internet, "0.0.0.0/0");
    let (here, there) = ("10.1.0.4:5000", "8.8.8.8:53");

    s.scene("Each VNet's Internet traffic goes to its own remote, with the same key.");
    s.send(app, udp(here, there)).via(default).to(contosos);
    s.send(shop, udp(here, there)).via(default).to(fabrikams);
    s.scene("And comes back by it: the outer source chooses between equal keys.");
    s.send(contosos, udp(there, here)).via(local).to(app);
    s.send(fabrikams, udp(there, here)).via(local).to(shop);
    s.scene("From anybody else neither is meant.");
    let stranger = contosos.wrap(&udp(there, here)).outer(|ip| ip[15] = 99);
    s.frame(contosos, stranger).ends(Reason::TunnelPeer).owned_by("", "");
    s.scene("The tunnel carries nothing to addresses outside the VNet, and nothing spoofed.");
    s.send(contosos, udp(there, "10.2.0.4:5000")).ends(Reason::NoRoute);
    s.send(contosos, udp("10.1.0.9:53", here)).ends(Reason::SpoofedSource);
    s.send(contosos, udp("192.168.1.10:53", here)).ends(Reason::SpoofedSource);
    s.scene("An address of the VNet that no host carries.");
    s.send(contosos, udp(there, "10.1.7.4:5000")).ends(Reason::NoHost).via(local);
    s.scene("Plain packets could be either's.");
    s.send(plain, udp(there, here)).ends(Reason::UnknownTunnel);

    let tunnel = "remote: 203.0.113.1, key: 0x700";
    s.swap(10, "contoso-down.yaml", with(INTERNET_TUNNELS, tunnel, &format!("{tunnel}, enabled: false")));
    s.scene("Contoso's tunnel is down: it has no Internet, and does not fall back to plain.");
    s.send(app, udp(here, there)).ends(Reason::GatewayDown).via(default);
    s.send(contosos, udp(there, here)).ends(Reason::UnknownTunnel);
    s.scene("With one tunnel left of this key, a stranger is known to have meant it.");
    let stranger = fabrikams.wrap(&udp(there, here)).outer(|ip| ip[15] = 99);
    s.frame(fabrikams, stranger).ends(Reason::TunnelPeer);
    s.send(shop, udp(here, there)).via(default).to(fabrikams);

    let tunnel = "vnet: shop, port: fabric, key: 0xb01";
    s.swap(20, "shop-down.yaml", with(INTERNET_TUNNELS, tunnel, &format!("{tunnel}, enabled: false")));
    s.scene("The shop's fabric tunnel is down: its hosts are gone.");
    s.send(fabrikams, udp(there, here)).ends(Reason::NoHost).via(local);
    s.send(shop, udp(here, there)).ends(Reason::UnknownTunnel);
    s.flows(0, 0)
}

const INTERNET_TUNNELS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.254}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.1.0.0/16}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {internet: hub, port: internet, remote: 203.0.113.1, key: 0x700}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
  - name: fabrikam
    virtualNetworks:
      - name: shop
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.1.0.0/16}]
    tunnels:
      - {vnet: shop, port: fabric, key: 0xb01}
      - {internet: shop, port: internet, remote: 203.0.113.5, key: 0x700}
    hosts:
      - {address: 198.51.100.12, vnet: shop, prefixes: [10.1.0.0/24]}
"#;
