//! Circuit links: their own addresses, their states, their bandwidth and their meters.

use clearway::packet::NextHopType::{self, Internet, VirtualNetworkGateway, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{Packet, ping, pong, tcp, udp};
use crate::story::{Story, with};

const ALLOWED: &str = "DefaultRule_AllowVnetOutBound";
const LOCAL: (NextHopType, &str) = (VnetLocal, "10.1.0.0/16");
const RESERVED: (NextHopType, &str) = (NextHopType::None, "192.168.0.0/16");

pub fn circuit_link_addresses() -> Story {
    let mut s = Story::new(
        "circuit-link-addresses",
        "From the customer's end of a link to ours is for us, and nothing else that names link addresses.",
        CIRCUIT_LINK_ADDRESSES,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let primary = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let secondary = s.site("contoso/hub", "edge-b", "192.0.2.6", 0xc02);
    let microsoft = s.site("contoso/", "edge-a", "192.0.2.2", 0xc03);
    let microsoft_2 = s.site("contoso/", "edge-b", "192.0.2.6", 0xc04);
    let fabrikam = s.site("fabrikam/hub", "edge-a", "192.0.2.10", 0xd01);
    let internet = s.plain("contoso/hub", "internet");
    let services = s.plain("contoso/", "services");
    let (theirs, ours) = ("192.168.255.1", "192.168.255.2");

    s.scene("BGP, BFD and ping from the customer's end of a link, whatever their TTL.");
    let bgp = tcp("192.168.255.1:50000", "192.168.255.2:179", "SYN").ttl(1);
    let bfd = udp("192.168.255.1:49152", "192.168.255.2:3784").ttl(255);
    for packet in [bgp.clone(), bfd.clone(), ping(theirs, ours, 7)] {
        s.send(primary, packet).ends(Reason::ToUs).owned_by("contoso", "");
    }
    s.scene("The other link, IPv6, and the other peering have ends of their own.");
    s.send(secondary, udp("192.168.255.5:49152", "192.168.255.6:3784").ttl(255))
        .ends(Reason::ToUs)
        .owned_by("contoso", "");
    s.send(primary, tcp("[fd00:ff::1]:50000", "[fd00:ff::2]:179", "SYN"))
        .ends(Reason::ToUs)
        .owned_by("contoso", "");
    s.send(secondary, ping("fd00:ff::5", "fd00:ff::6", 7)).ends(Reason::ToUs).owned_by("contoso", "");
    s.send(microsoft, tcp("20.60.0.1:50000", "20.60.0.2:179", "SYN")).ends(Reason::ToUs);
    s.scene("Another customer has the same addresses on its link.");
    s.send(fabrikam, bgp).ends(Reason::ToUs).owned_by("fabrikam", "");
    s.scene("Pieces are for us too, the later before the first.");
    let long = bfd.clone().carrying(100);
    s.send(primary, long.fragment(7, 64..112)).ends(Reason::ToUs).owned_by("contoso", "");
    s.send(primary, long.fragment(7, 0..64)).ends(Reason::ToUs).owned_by("contoso", "");
    s.scene("Not what is wrong in itself.");
    s.send(primary, bfd.clone().broken(|ip| ip[10] ^= 1)).ends(Reason::InnerMalformed);
    s.send(primary, udp("192.168.255.1:68", "192.168.255.2:67")).ends(Reason::InnerBlocked);

    s.scene("From elsewhere to our end, to or from another link's, from our end, to the whole link: no VNet is there.");
    for (from, to) in [
        ("192.168.1.10:5000", "192.168.255.2:179"),
        ("192.168.255.1:5000", "192.168.255.6:179"),
        ("192.168.255.5:5000", "192.168.255.6:179"),
        ("192.168.255.5:5000", "192.168.255.2:179"),
        ("192.168.255.2:5000", "192.168.255.1:179"),
        ("192.168.255.2:5000", "192.168.255.2:179"),
        ("192.168.255.1:5000", "192.168.255.3:179"),
        ("192.168.255.1:5000", "20.60.0.2:179"),
        ("20.60.0.1:5000", "20.60.0.2:179"),
        ("[fd00:ff::1]:5000", "[fd00:ff::6]:179"),
        ("[fd00:ff::2]:5000", "[fd00:ff::1]:179"),
    ] {
        s.send(primary, udp(from, to)).ends(Reason::NoRoute).owned_by("contoso", "");
    }
    s.send(secondary, bfd).ends(Reason::NoRoute).owned_by("contoso", "");
    s.scene(
        "On Microsoft peering whoever is announced may name our end, and reaches whoever has it outside.",
    );
    s.send(microsoft, udp("20.60.0.1:5000", "20.60.0.6:179")).ends(Reason::SpoofedSource);
    s.send(microsoft_2, udp("20.60.0.1:5000", "20.60.0.2:179")).ends(Reason::SpoofedSource);
    s.send(microsoft, udp("20.50.0.9:5000", "20.60.0.2:179")).to(services);
    s.scene("To a VNet the customer's end may speak where it is announced, by either link.");
    s.send(primary, udp("192.168.255.1:5000", "10.1.0.4:5000")).ends(Reason::SpoofedSource);
    s.send(secondary, udp("192.168.255.5:5000", "10.1.0.4:5000")).via(LOCAL).to(web);
    s.send(primary, udp("192.168.255.5:5000", "10.1.0.4:5000")).via(LOCAL).to(web);
    s.scene("From a VNet the routes decide, for our end as for the customer's.");
    s.send(web, ping("10.1.0.4", theirs, 7)).ends(Reason::RouteNone).via(RESERVED);
    s.send(web, ping("10.1.0.4", ours, 7)).ends(Reason::RouteNone).via(RESERVED);
    for to in ["192.168.255.5", "192.168.255.6"] {
        s.send(web, ping("10.1.0.4", to, 7)).via((VirtualNetworkGateway, "192.168.255.4/30")).to(secondary);
    }
    s.send(web, ping("10.1.0.4", "20.60.0.2", 7)).via((Internet, "0.0.0.0/0")).to(internet);
    s.scene("From outside nothing leads to them.");
    s.send(internet, ping("8.8.8.8", "20.60.0.1", 7)).ends(Reason::UnknownTunnel);
    s.flows(0, 0)
}

const CIRCUIT_LINK_ADDRESSES: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  edge-b:   {role: edge,     address: 192.0.2.5}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
  services: {role: services, address: 203.0.113.130, nextHop: 203.0.113.129}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings:
          - {name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
             primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30,
             ipv6PeeringConfig: {primaryPeerAddressPrefix: "fd00:ff::/126", secondaryPeerAddressPrefix: "fd00:ff::4/126"}}
          - {name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200,
             primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.0.0/24], advertisedPublicPrefixesState: Configured}}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
      - {circuit: er1, peering: MicrosoftPeering,    link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc03}
      - {circuit: er1, peering: MicrosoftPeering,    link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc04}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/20, circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}
      - {prefix: 192.168.255.4/30, circuit: er1, peering: AzurePrivatePeering, link: secondary, asPath: [65001]}
      - {prefix: 20.50.0.0/24, circuit: er1, peering: MicrosoftPeering, asPath: [64496]}
  - name: fabrikam
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
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
      - {vnet: hub, port: fabric, key: 0xb01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.10, key: 0xd01}
"#;

pub fn circuit_states() -> Story {
    let mut s = Story::new(
        "circuit-states",
        "A circuit carries when it is provisioned and enabled, a peering when it is enabled and its prefixes are validated.",
        CIRCUIT_STATES,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let link = |s: &Story, key| s.site("contoso/hub", "edge-a", "192.0.2.2", key);
    let public = |s: &Story, key| s.site("contoso/", "edge-a", "192.0.2.2", key);
    let (open, waiting, off, closed, unproven) =
        (link(&s, 0xc01), link(&s, 0xc02), link(&s, 0xc03), link(&s, 0xc04), link(&s, 0xc05));
    let (closed_microsoft, unproven_microsoft, unproven_public) =
        (public(&s, 0xc14), public(&s, 0xc15), public(&s, 0xc25));
    let services = s.plain("contoso/", "services");
    let internet = s.plain("contoso/hub", "internet");
    let outward = |n: u8| udp("10.1.0.4:5000", &format!("192.168.{n}.10:6000"));
    let inward = |n: u8| udp(&format!("192.168.{n}.10:6000"), "10.1.0.4:5000");
    let asks = |n: u8| udp(&format!("20.50.{n}.9:6000"), "40.1.1.1:53");
    let answers = |n: u8| udp("40.1.1.1:53", &format!("20.50.{n}.9:6000"));

    s.scene(
        "A circuit and a peering that say nothing of their states carry, and those that say the right ones.",
    );
    s.send(web, outward(1)).via((VirtualNetworkGateway, "192.168.1.0/24")).to(open);
    s.send(open, inward(1)).via(LOCAL).to(web);
    s.send(open, ping("192.168.255.1", "192.168.255.2", 7)).ends(Reason::ToUs).owned_by("contoso", "");
    s.send(web, outward(5)).via((VirtualNetworkGateway, "192.168.5.0/24")).to(unproven);
    s.send(unproven, inward(5)).via(LOCAL).to(web);
    s.scene(
        "The provider has not provisioned it: nothing is received, not even for us, and its routes are gone.",
    );
    s.send(waiting, inward(2)).ends(Reason::UnknownTunnel);
    s.send(waiting, ping("192.168.255.5", "192.168.255.6", 7)).ends(Reason::UnknownTunnel);
    s.send(web, outward(2)).ends(Reason::RouteNone).via(RESERVED);
    s.scene("The circuit is disabled.");
    s.send(off, inward(3)).ends(Reason::UnknownTunnel);
    s.send(web, outward(3)).ends(Reason::RouteNone).via(RESERVED);
    s.scene("A peering is disabled; another of the circuit is not.");
    s.send(closed, inward(4)).ends(Reason::UnknownTunnel);
    s.send(web, outward(4)).ends(Reason::RouteNone).via(RESERVED);
    s.send(closed_microsoft, asks(4)).to(services);
    s.send(services, answers(4)).to(closed_microsoft);
    s.scene("Microsoft peering waits until its prefixes are validated; public peering does not.");
    s.send(unproven_microsoft, asks(5)).ends(Reason::UnknownTunnel);
    s.send(services, answers(5)).ends(Reason::UnknownTunnel);
    s.send(internet, udp("8.8.8.8:53", "20.50.5.9:6000")).ends(Reason::UnknownTunnel);
    s.send(unproven_public, asks(6)).to(services);
    s.send(services, answers(6)).to(unproven_public);

    let provisioned = "name: waiting\n        serviceProviderProvisioningState: ";
    let next =
        with(CIRCUIT_STATES, &format!("{provisioned}NotProvisioned"), &format!("{provisioned}Provisioned"));
    let next =
        with(&next, "- name: open", "- name: open\n        serviceProviderProvisioningState: NotProvisioned");
    let next = with(&next, "ValidationNeeded", "Configured");
    let next = with(&next, "circuitProvisioningState: Disabled", "circuitProvisioningState: Enabled");
    let next = with(&next, "state: Disabled", "state: Enabled");
    s.swap(10, "next.yaml", next);
    s.scene("What waited carries now.");
    s.send(web, outward(2)).via((VirtualNetworkGateway, "192.168.2.0/24")).to(waiting);
    s.send(waiting, inward(2)).via(LOCAL).to(web);
    s.send(waiting, ping("192.168.255.5", "192.168.255.6", 7)).ends(Reason::ToUs).owned_by("contoso", "");
    s.send(off, inward(3)).via(LOCAL).to(web);
    s.send(web, outward(4)).via((VirtualNetworkGateway, "192.168.4.0/24")).to(closed);
    s.send(unproven_microsoft, asks(5)).to(services);
    s.send(services, answers(5)).to(unproven_microsoft);
    s.scene("What was deprovisioned does not.");
    s.send(open, inward(1)).ends(Reason::UnknownTunnel);
    s.send(web, outward(1)).ends(Reason::RouteNone).via(RESERVED);
    s.flows(0, 0)
}

const CIRCUIT_STATES: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
  services: {role: services, address: 203.0.113.130, nextHop: 203.0.113.129}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    expressRouteCircuits:
      - name: open
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: a, bandwidthInMbps: 200}
        peerings: [{peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.254.0/30}]
      - name: waiting
        serviceProviderProvisioningState: NotProvisioned
        circuitProvisioningState: Enabled
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: b, bandwidthInMbps: 200}
        peerings: [{peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100, state: Enabled,
                    primaryPeerAddressPrefix: 192.168.255.4/30, secondaryPeerAddressPrefix: 192.168.254.4/30}]
      - name: "off"
        serviceProviderProvisioningState: Provisioned
        circuitProvisioningState: Disabled
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: c, bandwidthInMbps: 200}
        peerings: [{peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.8/30, secondaryPeerAddressPrefix: 192.168.254.8/30}]
      - name: closed
        serviceProviderProvisioningState: Provisioned
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: d, bandwidthInMbps: 200}
        peerings:
          - {peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100, state: Disabled,
             primaryPeerAddressPrefix: 192.168.255.12/30, secondaryPeerAddressPrefix: 192.168.254.12/30}
          - {peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200, state: Enabled,
             primaryPeerAddressPrefix: 20.60.4.0/30, secondaryPeerAddressPrefix: 20.60.4.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.4.0/24], advertisedPublicPrefixesState: configured}}
      - name: unproven
        serviceProviderProvisioningState: Provisioned
        circuitProvisioningState: Enabled
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: e, bandwidthInMbps: 200}
        peerings:
          - {peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100, state: Enabled,
             primaryPeerAddressPrefix: 192.168.255.16/30, secondaryPeerAddressPrefix: 192.168.254.16/30}
          - {peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200, state: Enabled,
             primaryPeerAddressPrefix: 20.60.5.0/30, secondaryPeerAddressPrefix: 20.60.5.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.5.0/24], advertisedPublicPrefixesState: ValidationNeeded}}
          - {peeringType: AzurePublicPeering, peerASN: 64496, vlanId: 300,
             primaryPeerAddressPrefix: 20.60.6.0/30, secondaryPeerAddressPrefix: 20.60.6.4/30}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: open}
      - {name: c2, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: waiting}
      - {name: c3, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: "off"}
      - {name: c4, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: closed}
      - {name: c5, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: unproven}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: open,     link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: waiting,  link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc02}
      - {circuit: "off",    link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc03}
      - {circuit: closed,   link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc04}
      - {circuit: unproven, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc05}
      - {circuit: closed,   peering: MicrosoftPeering,   link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc14}
      - {circuit: unproven, peering: MicrosoftPeering,   link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc15}
      - {circuit: unproven, peering: AzurePublicPeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc25}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.1.0/24, circuit: open}
      - {prefix: 192.168.2.0/24, circuit: waiting}
      - {prefix: 192.168.3.0/24, circuit: "off"}
      - {prefix: 192.168.4.0/24, circuit: closed}
      - {prefix: 192.168.5.0/24, circuit: unproven}
      - {prefix: 20.50.4.0/24, circuit: closed,   peering: MicrosoftPeering}
      - {prefix: 20.50.5.0/24, circuit: unproven, peering: MicrosoftPeering}
      - {prefix: 20.50.6.0/24, circuit: unproven, peering: AzurePublicPeering}
"#;

/// A datagram of so many bytes in all.
fn sized(from: &str, to: &str, bytes: usize) -> Packet {
    udp(from, to).carrying(bytes - 32)
}

pub fn circuit_bandwidth() -> Story {
    let mut s = Story::new(
        "circuit-bandwidth",
        "A link of 50 Mbps: a burst of 0.1 s passes in each direction, what is more is dropped, until a swap makes it 100.",
        CIRCUIT_BANDWIDTH,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let primary = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let secondary = s.site("contoso/hub", "edge-b", "192.0.2.6", 0xc02);
    let microsoft = s.site("contoso/", "edge-a", "192.0.2.2", 0xc03);
    let microsoft_2 = s.site("contoso/", "edge-b", "192.0.2.6", 0xc04);
    let services = s.plain("contoso/", "services");
    let (here, there) = ("10.1.0.4:5000", "192.168.1.10:6000");
    let only_primary = (VirtualNetworkGateway, "192.168.77.0/24");
    let both = (VirtualNetworkGateway, "192.168.0.0/16");
    let primary_flow = "192.168.1.10:6001";
    let secondary_flow = "192.168.1.10:6011";
    let app = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let (known, known_there) = ("10.1.2.4:5000", "192.168.77.5:7000");

    s.scene("A flow that is known before.");
    s.send(app, udp(known, known_there)).opens(ALLOWED).via(only_primary).to(primary);
    s.send(primary, udp(known_there, known)).established(ALLOWED).via(LOCAL).to(app);
    s.send(app, udp(known, known_there)).established(ALLOWED).via(only_primary).to(primary);
    s.send(primary, udp(known_there, known)).established(ALLOWED).via(LOCAL).to(app);

    // 50 Mbps are 50 bits in a microsecond, 6,250 bytes in a millisecond, and 625,000 bytes in 0.1 s.
    s.scene("Outwards, all in the same microsecond: eight packets, 44 pieces of 1,472 bytes at most, 63,360 bytes each.");
    s.until(1);
    let large = sized(here, "192.168.77.5:6000", 62_500);
    let pieces = in_pieces(&large.clone().aged(), 1472);
    assert_eq!((pieces.len(), pieces.iter().map(Packet::length).sum::<usize>()), (44, 63_360));
    for _ in 0..8 {
        s.send(web, large.clone()).becomes(pieces.clone()).via(only_primary).to(primary);
        s.at_once();
    }
    // 625,000 - 8 x 63,360 = 118,120; one more leaves 54,760.
    s.scene("The headers of the pieces count: what is shorter than what is left may still be too much.");
    s.send(web, large.clone()).becomes(pieces).via(only_primary).to(primary);
    s.at_once();
    // 54,120 bytes: 54,100 of payload in 38 pieces, with 38 headers 54,860.
    let one_over = sized(here, "192.168.77.5:6000", 54_120);
    assert_eq!(in_pieces(&one_over.clone().aged(), 1472).iter().map(Packet::length).sum::<usize>(), 54_860);
    s.send(web, one_over).ends(Reason::OverRate).owned_by("contoso", "hub").via(only_primary);
    s.at_once();
    // 54,020 bytes: 54,000 of payload in 38 pieces: 54,760.
    let exact = sized(here, "192.168.77.5:6000", 54_020);
    let pieces = in_pieces(&exact.clone().aged(), 1472);
    assert_eq!(pieces.iter().map(Packet::length).sum::<usize>(), 54_760);
    s.send(web, exact).becomes(pieces).via(only_primary).to(primary);
    s.at_once();
    s.scene("Nothing is left, for the known flow neither.");
    s.send(app, udp(known, known_there))
        .ends(Reason::OverRate)
        .established(ALLOWED)
        .owned_by("contoso", "hub")
        .via(only_primary);
    s.at_once();
    s.send(web, ping("10.1.0.4", "192.168.77.5", 1))
        .ends(Reason::OverRate)
        .owned_by("contoso", "hub")
        .via(only_primary);
    s.at_once();
    s.scene("The link of a flow is chosen first: the room of the other helps its own flows only.");
    s.send(web, udp(here, primary_flow)).ends(Reason::OverRate).owned_by("contoso", "hub").via(both);
    s.at_once();
    s.send(web, udp(here, secondary_flow)).via(both).to(secondary);
    s.at_once();
    s.scene("Our own ICMP errors are sent nevertheless, and the other direction has all its room.");
    s.send(primary, udp(there, here).ttl(1)).ends(Reason::TtlExpired).via(LOCAL).time_exceeded("192.0.2.1");
    s.at_once();
    s.send(primary, udp(there, here)).via(LOCAL).to(web);
    s.at_once();
    s.scene("The other peering has as little left on this link, and its own packets take the other.");
    s.send(services, ping("40.1.1.1", "20.50.1.9", 1)).ends(Reason::OverRate).owned_by("contoso", "");
    s.at_once();
    s.send(services, ping("40.1.1.1", "20.50.2.9", 1)).to(microsoft_2);
    s.at_once();
    s.scene("In five microseconds 250 bits come in: not a ping of 32 bytes; in one more there are 300.");
    s.wait(0.000_005);
    s.send(web, ping("10.1.0.4", "192.168.77.5", 1))
        .ends(Reason::OverRate)
        .owned_by("contoso", "hub")
        .via(only_primary);
    s.at_once();
    s.wait(0.000_001);
    s.send(web, ping("10.1.0.4", "192.168.77.5", 1)).via(only_primary).to(primary);

    s.scene("Inwards: what passes is charged whatever becomes of it, and its length is that on arrival.");
    s.until(2);
    s.wait(2.999);
    let spoofed = sized("172.16.0.9:5000", here, 62_500);
    for _ in 0..9 {
        s.send(primary, spoofed.clone()).ends(Reason::SpoofedSource);
        s.at_once();
    }
    s.scene("What is wrong in itself, or of a kind that is not carried, is not charged.");
    s.send(primary, spoofed.clone().broken(|ip| ip[10] ^= 1)).ends(Reason::InnerMalformed);
    s.at_once();
    s.send(primary, sized("172.16.0.9:5000", "224.0.0.9:5000", 62_500)).ends(Reason::InnerBlocked);
    s.at_once();
    s.scene(
        "62,500 bytes are left: not for one more, and exactly for as many, whatever stands behind their end.",
    );
    s.send(primary, sized("172.16.0.9:5000", here, 62_501)).ends(Reason::OverRate).owned_by("contoso", "");
    s.at_once();
    s.send(primary, spoofed.padded(9)).ends(Reason::SpoofedSource);
    s.at_once();
    s.scene("Then for nobody on this link, not even for us, whatever the peering; the other link carries.");
    for packet in [ping("192.168.1.10", "10.1.0.4", 1), udp(known_there, known)] {
        s.send(primary, packet).ends(Reason::OverRate).owned_by("contoso", "");
        s.at_once();
    }
    s.send(primary, ping("192.168.255.1", "192.168.255.2", 1)).ends(Reason::OverRate).owned_by("contoso", "");
    s.at_once();
    s.send(microsoft, ping("20.50.1.9", "40.1.1.1", 1)).ends(Reason::OverRate);
    s.at_once();
    s.send(secondary, ping("192.168.1.10", "10.1.0.4", 1)).via(LOCAL).to(web);
    s.at_once();
    s.send(microsoft_2, ping("20.50.1.9", "40.1.1.1", 1)).to(services);
    s.at_once();
    s.scene("Outwards the link carries.");
    s.wait(0.000_001);
    s.send(web, pong("10.1.0.4", "192.168.77.5", 1)).via(only_primary).to(primary);
    s.at_once();

    s.scene("Now the circuit has 100 Mbps: what is in the bucket stays, and fills twice as fast.");
    s.swap(5, "faster.yaml", with(CIRCUIT_BANDWIDTH, "bandwidthInMbps: 50", "bandwidthInMbps: 100"));
    // 1 ms at 50 Mbps until the change, 1 ms at 100 behind it: 6,250 + 12,500.
    s.wait(0.001);
    s.send(primary, sized("172.16.0.9:5000", here, 18_751)).ends(Reason::OverRate).owned_by("contoso", "");
    s.at_once();
    s.send(primary, sized("172.16.0.9:5000", here, 18_750)).ends(Reason::SpoofedSource);
    s.scene("A millisecond later 12,500 bytes are in it.");
    s.send(primary, sized("172.16.0.9:5000", here, 12_501)).ends(Reason::OverRate).owned_by("contoso", "");
    s.at_once();
    s.send(primary, sized("172.16.0.9:5000", here, 12_500)).ends(Reason::SpoofedSource);
    s.flows(1, 1)
}

/// The pieces that a packet without options becomes where there is so much room.
fn in_pieces(packet: &Packet, room: usize) -> Vec<Packet> {
    let payload = packet.length() - 20;
    let most = (room - 20) / 8 * 8;
    let starts = (0..payload).step_by(most);
    starts.map(|start| packet.fragment(0, start..(start + most).min(payload))).collect()
}

const CIRCUIT_BANDWIDTH: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  edge-b:   {role: edge,     address: 192.0.2.5}
  services: {role: services, address: 203.0.113.130, nextHop: 203.0.113.129}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24}
          - {name: app, addressPrefix: 10.1.2.0/24, networkSecurityGroup: app-nsg}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
      - {name: app-nsg, securityRules: []}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 50}
        serviceProviderProvisioningState: Provisioned
        peerings:
          - {name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
             primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}
          - {name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200,
             primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.0.0/16], advertisedPublicPrefixesState: Configured}}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
      - {circuit: er1, peering: MicrosoftPeering,    link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc03}
      - {circuit: er1, peering: MicrosoftPeering,    link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc04}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.2.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, asPath: [65001]}
      - {prefix: 192.168.77.0/24, circuit: er1, peering: AzurePrivatePeering, link: primary, asPath: [65001]}
      - {prefix: 20.50.1.0/24, circuit: er1, peering: MicrosoftPeering, link: primary, asPath: [64496]}
      - {prefix: 20.50.2.0/24, circuit: er1, peering: MicrosoftPeering, link: secondary, asPath: [64496]}
"#;

pub fn meters() -> Story {
    let mut s = Story::new(
        "meters",
        "What each link of each peering has carried: inwards all that its bandwidth let pass, outwards all that was sent.",
        METERS,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let primary = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let secondary = s.site("contoso/hub", "edge-b", "192.0.2.6", 0xc02);
    let microsoft = s.site("contoso/", "edge-a", "192.0.2.2", 0xc03);
    let (app, fabrikam) = (
        s.host("fabrikam/hub", "fabric", "198.51.100.21", 0xb01),
        s.site("fabrikam/hub", "edge-a", "192.0.2.10", 0xd01),
    );
    let services = s.plain("contoso/", "services");
    let (here, there) = ("10.1.0.4:5000", "192.168.1.10:6000");
    let by_primary = (VirtualNetworkGateway, "192.168.1.0/24");
    let by_secondary = (VirtualNetworkGateway, "192.168.2.0/24");

    s.scene("Inwards, forwarded, for us and dropped: they have been carried to us.");
    s.send(primary, sized(there, here, 1000)).via(LOCAL).to(web);
    s.send(primary, ping("192.168.255.1", "192.168.255.2", 7)).ends(Reason::ToUs).owned_by("contoso", "");
    s.send(primary, sized("172.16.0.9:5000", here, 500)).ends(Reason::SpoofedSource);
    s.send(secondary, sized(there, "10.1.7.7:5000", 200)).ends(Reason::NoHost).via(LOCAL);
    s.scene("Not what is wrong in itself, or in its tunnel; nor what stands behind a packet's end.");
    s.send(primary, sized(there, here, 300).broken(|ip| ip[10] ^= 1)).ends(Reason::InnerMalformed);
    s.frame(primary, primary.wrap(&sized(there, here, 300)).gre(|gre| gre[0] |= 0x40))
        .ends(Reason::GreReservedBits);
    s.send(primary, udp(there, here).padded(14)).via(LOCAL).to(web);
    s.scene("What is answered with an ICMP error has come in; the error is nobody's.");
    s.send(primary, sized(there, here, 400).ttl(1))
        .ends(Reason::TtlExpired)
        .via(LOCAL)
        .time_exceeded("192.0.2.1");
    s.scene("Outwards, by the link that it took.");
    s.send(web, sized(here, there, 700)).via(by_primary).to(primary);
    s.send(web, sized(here, "192.168.2.10:6000", 800)).via(by_secondary).to(secondary);
    s.scene("Each piece with its header; not what did not leave.");
    let large = sized(here, there, 3000);
    let pieces = in_pieces(&large.clone().aged(), 1472);
    assert_eq!(pieces.iter().map(Packet::length).collect::<Vec<_>>(), [1468, 1468, 104]);
    s.send(web, large.clone()).becomes(pieces).via(by_primary).to(primary);
    s.send(web, large.dont_fragment()).ends(Reason::TooBig).via(by_primary).needs_room("10.1.0.1", 1472);
    s.scene("Microsoft peering has a meter of its own, and the same circuit name of another customer.");
    s.send(microsoft, sized("20.50.1.9:6000", "40.1.1.1:53", 60)).to(services);
    s.send(services, sized("40.1.1.1:53", "20.50.1.9:6000", 1400)).to(microsoft);
    s.send(fabrikam, sized(there, here, 90)).via(LOCAL).to(app);
    s.send(app, sized(here, there, 91)).via(by_primary).to(fabrikam);

    s.scene("A link that is down does not carry; one that is up counts on.");
    let link = "link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02";
    let down = with(METERS, link, &format!("{link}, enabled: false"));
    s.swap(10, "down.yaml", down.clone());
    s.send(secondary, sized(there, here, 1000)).ends(Reason::UnknownTunnel);
    s.send(primary, sized(there, here, 1000)).via(LOCAL).to(web);
    s.scene("The other customer's circuit is gone; what it has carried stays in the books.");
    let (before, fabrikam_part) = down.split_once("  - name: fabrikam").expect("two customers");
    let gone = "  - name: fabrikam\n    virtualNetworks: [{name: hub, addressSpace: {addressPrefixes: [10.1.0.0/16]}}]\n    \
                tunnels: [{vnet: hub, port: fabric, key: 0xb01}]\n";
    assert!(fabrikam_part.contains("0xd01"));
    s.swap(20, "gone.yaml", format!("{before}{gone}"));
    s.send(fabrikam, sized(there, here, 90)).ends(Reason::UnknownTunnel);
    s.scene("It comes back, and the link too.");
    s.swap(30, "back.yaml", METERS.to_owned());
    s.send(fabrikam, sized(there, here, 92)).via(LOCAL).to(app);
    s.send(secondary, sized(there, here, 100)).via(LOCAL).to(web);
    s.flows(0, 0)
}

const METERS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  edge-a:   {role: edge,     address: 192.0.2.1}
  edge-b:   {role: edge,     address: 192.0.2.5}
  services: {role: services, address: 203.0.113.130, nextHop: 203.0.113.129}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 50}
        serviceProviderProvisioningState: Provisioned
        peerings:
          - {name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
             primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}
          - {name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200,
             primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.50.0.0/16], advertisedPublicPrefixesState: Configured}}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02}
      - {circuit: er1, peering: MicrosoftPeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc03}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.1.0/24, circuit: er1, peering: AzurePrivatePeering, link: primary}
      - {prefix: 192.168.2.0/24, circuit: er1, peering: AzurePrivatePeering, link: secondary}
      - {prefix: 192.168.1.0/24, circuit: er1, peering: AzurePrivatePeering, link: secondary, asPath: [65001, 65001]}
      - {prefix: 20.50.1.0/24, circuit: er1, peering: MicrosoftPeering, link: primary}
  - name: fabrikam
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 50}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xb01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.10, key: 0xd01}
    hosts:
      - {address: 198.51.100.21, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.1.0/24, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;
