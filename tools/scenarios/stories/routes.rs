//! Which route wins: longest prefix, then user-defined, learned, system, with all of Azure's exceptions.

use clearway::packet::NextHopType::{
    Internet, None as Nowhere, VNetPeering, VirtualAppliance, VirtualNetworkGateway,
    VirtualNetworkServiceEndpoint, VnetLocal,
};
use clearway::packet::Reason;

use crate::packet::udp;
use crate::story::Story;

pub fn route_selection() -> Story {
    let mut s = Story::with_files(
        "route-selection",
        "Which route wins: the longest prefix, then user-defined, learned and system routes, and where that is not so.",
        &[("config.yaml", ROUTE_SELECTION), ("ServiceTags_Public.json", TAG_FILE)],
    );
    let hub = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let appliance = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let spoke = s.host("contoso/spoke", "fabric", "198.51.100.13", 0xa02);
    let same = s.host("contoso/same", "fabric", "198.51.100.14", 0xa03);
    let wide = s.host("contoso/wide", "fabric", "198.51.100.15", 0xa04);
    let circuit = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let services = s.plain("contoso/hub", "services");

    s.scene("No route table: learned routes are longer or equal to system routes, and win...");
    let plain = "10.1.0.4:6000";
    s.send(hub, udp(plain, "192.168.9.5:53")).via((VirtualNetworkGateway, "192.168.9.0/24")).to(circuit);
    s.send(hub, udp(plain, "172.20.1.1:53")).via((VirtualNetworkGateway, "172.16.0.0/12")).to(circuit);
    s.send(hub, udp(plain, "8.8.8.8:53")).via((VirtualNetworkGateway, "8.8.8.0/24")).to(circuit);
    s.scene("...but never over the VNet, a peering or a service endpoint, not even when longer.");
    s.send(hub, udp(plain, "10.1.7.9:53")).via((VnetLocal, "10.1.0.0/16")).to(hub);
    s.send(hub, udp(plain, "10.2.7.9:53")).via((VNetPeering, "10.2.0.0/16")).to(spoke);
    s.send(hub, udp(plain, "20.60.26.9:443"))
        .via((VirtualNetworkServiceEndpoint, "20.60.26.0/23"))
        .to(services);
    s.scene("What nobody names is the Internet's, or ends in a reserved range.");
    s.send(hub, udp(plain, "9.9.9.9:53")).via((Internet, "0.0.0.0/0")).to(internet);
    s.send(hub, udp(plain, "100.64.0.1:53")).ends(Reason::RouteNone).via((Nowhere, "100.64.0.0/10"));

    s.scene("User-defined routes win over equal prefixes of every kind...");
    let table = "10.1.1.4:6000";
    s.send(hub, udp(table, "192.168.1.5:53")).via((VirtualAppliance, "192.168.0.0/16")).to(appliance);
    s.send(hub, udp(table, "10.2.0.9:53")).via((VirtualAppliance, "10.2.0.0/16")).to(appliance);
    s.send(hub, udp(table, "20.60.27.9:443")).via((Internet, "20.60.26.0/23")).to(internet);
    s.scene("...inside the VNet too, where nothing may be all there is...");
    s.send(hub, udp(table, "10.1.8.4:53")).ends(Reason::RouteNone).via((Nowhere, "10.1.8.0/24"));
    s.scene("...and lose to longer learned ones...");
    s.send(hub, udp(table, "192.168.9.5:53")).via((VirtualNetworkGateway, "192.168.9.0/24")).to(circuit);
    s.scene("...which the service endpoint whose place they took would not have...");
    s.send(hub, udp(table, "20.60.26.9:443")).via((VirtualNetworkGateway, "20.60.26.0/24")).to(circuit);
    s.scene("...unless they override BGP.");
    let overriding = "10.1.2.4:6000";
    s.send(hub, udp(overriding, "192.168.9.5:53")).via((VirtualAppliance, "192.168.0.0/16")).to(appliance);
    s.scene("A table that takes no learned routes.");
    let shielded = "10.1.3.4:6000";
    s.send(hub, udp(shielded, "192.168.9.5:53")).ends(Reason::RouteNone).via((Nowhere, "192.168.0.0/16"));
    s.send(hub, udp(shielded, "8.8.8.8:53")).via((Internet, "0.0.0.0/0")).to(internet);

    s.scene("A VNet whose range is a reserved one, and one whose range holds a reserved one: nothing is reserved in it.");
    s.send(same, udp("172.16.0.4:6000", "172.31.0.1:53"))
        .ends(Reason::NoHost)
        .via((VnetLocal, "172.16.0.0/12"));
    s.send(same, udp("172.16.0.4:6000", "10.9.9.9:53")).ends(Reason::RouteNone).via((Nowhere, "10.0.0.0/8"));
    s.send(wide, udp("100.0.0.4:6000", "100.64.0.1:53")).ends(Reason::NoHost).via((VnetLocal, "100.0.0.0/9"));

    s.scene("From the circuit the routes are those of GatewaySubnet: no transit, but the peer that uses the gateway.");
    s.send(circuit, udp("192.168.9.5:53", plain)).via((VnetLocal, "10.1.0.0/16")).to(hub);
    s.send(circuit, udp("192.168.9.5:53", "10.2.7.9:53")).via((VNetPeering, "10.2.0.0/16")).to(spoke);
    s.send(circuit, udp("192.168.9.5:53", "172.31.0.1:53")).ends(Reason::NoRoute).owned_by("contoso", "");
    s.scene("The spoke learns what the gateway learns.");
    s.send(spoke, udp("10.2.7.9:53", "192.168.9.5:53"))
        .via((VirtualNetworkGateway, "192.168.9.0/24"))
        .to(circuit);
    s.flows(0, 0)
}

const ROUTE_SELECTION: &str = r#"
apiVersion: clearway/v1
serviceTags: ServiceTags_Public.json
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  services: {role: services, address: 203.0.113.10, nextHop: 203.0.113.9}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: plain,      addressPrefix: 10.1.0.0/24, serviceEndpoints: [{service: Microsoft.Storage}]}
          - {name: table,      addressPrefix: 10.1.1.0/24, routeTable: ordinary, serviceEndpoints: [{service: Microsoft.Storage}]}
          - {name: overriding, addressPrefix: 10.1.2.0/24, routeTable: overriding}
          - {name: shielded,   addressPrefix: 10.1.3.0/24, routeTable: shielding}
          - {name: more,       addressPrefix: 10.1.7.0/24}
          - {name: appliance,  addressPrefix: 10.1.9.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
        virtualNetworkPeerings:
          - {name: to-spoke, remoteVirtualNetwork: spoke, allowGatewayTransit: true}
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.7.0/24}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, useRemoteGateways: true}
      - name: same
        addressSpace: {addressPrefixes: [172.16.0.0/12]}
        subnets: [{name: app, addressPrefix: 172.16.0.0/24}]
      - name: wide
        addressSpace: {addressPrefixes: [100.0.0.0/9]}
        subnets: [{name: app, addressPrefix: 100.0.0.0/24}]
    routeTables:
      - name: ordinary
        routes:
          - {name: premises, addressPrefix: 192.168.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
          - {name: spoke,    addressPrefix: 10.2.0.0/16,    nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}
          - {name: storage,  addressPrefix: 20.60.26.0/23,  nextHopType: Internet}
          - {name: closed,   addressPrefix: 10.1.8.0/24,    nextHopType: None}
      - name: overriding
        routes:
          - {name: premises, addressPrefix: 192.168.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4, hasBgpOverride: true}
      - {name: shielding, disableBgpRoutePropagation: true, routes: []}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.0.2.128/30, secondaryPeerAddressPrefix: 192.0.2.132/30}]
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub,   port: fabric, key: 0xa01}
      - {vnet: spoke, port: fabric, key: 0xa02}
      - {vnet: same,  port: fabric, key: 0xa03}
      - {vnet: wide,  port: fabric, key: 0xa04}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
    hosts:
      - {address: 198.51.100.11, vnet: hub,   prefixes: [10.1.0.0/16]}
      - {address: 198.51.100.12, vnet: hub,   prefixes: [10.1.9.0/24]}
      - {address: 198.51.100.13, vnet: spoke, prefixes: [10.2.0.0/16]}
      - {address: 198.51.100.14, vnet: same,  prefixes: [172.16.0.0/24]}
      - {address: 198.51.100.15, vnet: wide,  prefixes: [100.0.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 192.168.9.0/24, circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 172.16.0.0/12,  circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 8.8.8.0/24,     circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 10.1.7.0/24,    circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 10.2.7.0/25,    circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 20.60.26.0/24,  circuit: er1, peering: AzurePrivatePeering}
"#;

const TAG_FILE: &str = r#"
{
  "changeNumber": 1,
  "cloud": "Public",
  "values": [
    {"name": "Storage", "id": "Storage", "properties": {"changeNumber": 1, "region": "", "platform": "Azure", "systemService": "AzureStorage",
      "addressPrefixes": ["20.38.98.0/24", "20.60.26.0/23"], "networkFeatures": ["API", "NSG", "UDR"]}}
  ]
}
"#;
