//! What is wrong with frames: delivery headers, GRE, and customer packets that VNets do not carry.

use clearway::packet::NextHopType::{Internet, VnetLocal};
use clearway::packet::Reason;

use crate::frame::Frame;
use crate::packet::{icmp, other, ping, tcp, udp};
use crate::story::{Format, Place, Story};

const LOCAL: (clearway::packet::NextHopType, &str) = (VnetLocal, "10.1.0.0/16");
const A: &str = "10.1.0.4:5000";
const B: &str = "10.1.0.5:5000";

pub fn gre_faults() -> Story {
    let mut s = Story::new(
        "gre-faults",
        "Every flag and field of the GRE header that makes a frame unacceptable, in the order they are checked.",
        GRE_FAULTS,
    );
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let bridge = s.nvgre_host("contoso/lan", "fabric", "198.51.100.12", 0x1a02);
    let good = host.wrap(&udp(A, B));

    s.scene("Key alone, with a right checksum, and with a sequence number: all good.");
    s.send(host, udp(A, B)).via(LOCAL).to(host);
    s.frame(host, good.clone().summed()).carries(udp(A, B)).via(LOCAL).to(host);
    s.frame(host, good.clone().numbered(77)).carries(udp(A, B)).via(LOCAL).to(host);
    s.frame(host, good.clone().numbered(77).summed()).carries(udp(A, B)).via(LOCAL).to(host);
    s.scene("Bits 6 to 12 are ignored.");
    s.frame(host, good.clone().gre(|gre| (gre[0], gre[1]) = (gre[0] | 3, 0xf8)))
        .carries(udp(A, B))
        .via(LOCAL)
        .to(host);

    s.scene("The header is longer than what is there: before all else, even behind wrong flags.");
    s.frame(host, good.clone().gre(|gre| gre.truncate(3))).ends(Reason::GreMalformed);
    s.frame(host, good.clone().gre(|gre| gre.truncate(7))).ends(Reason::GreMalformed);
    s.frame(host, good.clone().gre(|gre| gre.splice(.., [0xf4, 1, 0, 0, 0, 0, 0, 0]).for_each(drop)))
        .ends(Reason::GreMalformed);
    s.scene("Routing (bit 1), strict source route (bit 4) and recursion (bit 5) are reserved.");
    for bit in [0x40, 0x08, 0x04] {
        s.frame(host, good.clone().gre(|gre| gre[0] |= bit)).ends(Reason::GreReservedBits);
    }
    s.scene("A reserved bit is seen before a wrong version, the version before a wrong checksum.");
    s.frame(host, good.clone().gre(|gre| (gre[0], gre[1]) = (gre[0] | 4, 1))).ends(Reason::GreReservedBits);
    s.frame(host, good.clone().gre(|gre| gre[1] = 1)).ends(Reason::GreVersion);
    s.frame(host, good.clone().summed().gre(|gre| (gre[1], gre[4]) = (7, gre[4] ^ 1)))
        .ends(Reason::GreVersion);
    s.scene("The checksum is wrong, seen before an unknown protocol.");
    s.frame(host, good.clone().summed().gre(|gre| gre[5] ^= 1)).ends(Reason::GreChecksum);
    s.frame(host, good.clone().summed().gre(|gre| gre[2] = 0x88)).ends(Reason::GreChecksum);
    s.scene("ERSPAN, MPLS and zero are no protocols of ours, with or without key.");
    for (a, b) in [(0x88, 0xbe), (0x88, 0x47), (0, 0)] {
        s.frame(host, good.clone().gre(|gre| (gre[2], gre[3]) = (a, b))).ends(Reason::GreProtocol);
    }
    s.frame(host, good.clone().gre(|gre| (gre[0], gre[2]) = (0, 0x77))).ends(Reason::GreProtocol);
    s.scene("Without a key no customer can be known.");
    s.frame(host, good.clone().gre(|gre| gre.splice(..8, [0, 0, 8, 0]).for_each(drop)))
        .ends(Reason::GreNoKey);
    s.scene("The wrong family behind a right protocol type.");
    s.frame(host, good.clone().gre(|gre| (gre[2], gre[3]) = (0x86, 0xdd))).ends(Reason::InnerMalformed);
    s.scene("NVGRE may have neither checksum nor sequence number.");
    let bridged = bridge.wrap(&udp("10.2.0.4:5000", "10.2.0.5:5000"));
    s.frame(bridge, bridged.clone().summed()).ends(Reason::GreReservedBits);
    s.frame(bridge, bridged.clone().numbered(1)).ends(Reason::GreReservedBits);
    s.scene("A tunnel's key belongs to its encapsulation.");
    s.frame(host, good.gre(|gre| gre.splice(4..8, [0, 0x1a, 0x02, 0]).for_each(drop)))
        .ends(Reason::UnknownTunnel);
    s.flows(0, 0)
}

const GRE_FAULTS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.1.0.0/24}]
      - name: lan
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {vnet: lan, port: fabric, key: 0x1a02, encapsulation: nvgre}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: lan, prefixes: [10.2.0.0/24]}
"#;

pub fn outer_faults() -> Story {
    let mut s = Story::new(
        "outer-faults",
        "Frames that are not ours, not whole or not GRE: told apart before any customer is known.",
        OUTER_FAULTS,
    );
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let router = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let good = host.wrap(&udp(A, B));
    let named = |kind: u16, payload: &[u8]| {
        Frame::of([&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), payload].concat())
    };

    s.scene("Captured shorter than it was, or shorter than an Ethernet header: seen first of all.");
    s.frame(host, good.clone().captured_to(60)).ends(Reason::Truncated);
    s.frame(host, named(0x0806, &[0; 28]).captured_to(30)).ends(Reason::Truncated);
    s.frame(host, Frame::of(vec![0; 13])).ends(Reason::Truncated);
    s.scene("ARP, LLDP and MPLS are the host's.");
    for kind in [0x0806, 0x88cc, 0x8847] {
        s.frame(host, named(kind, &[0; 46])).ends(Reason::NotIp);
    }
    s.scene("IP, but too short to hold its destination, or of another version than the frame says.");
    s.frame(host, named(0x0800, &[0x45; 19])).ends(Reason::OuterMalformed);
    s.frame(host, named(0x0800, &[])).ends(Reason::OuterMalformed);
    s.frame(host, good.clone().broken(|ip| ip[0] = 0x65)).ends(Reason::OuterMalformed);
    s.frame(internet, named(0x0800, &[0x45; 19])).ends(Reason::InnerMalformed);
    s.frame(internet, named(0x86dd, &[0x45; 60])).ends(Reason::InnerMalformed);
    s.scene("For another address than the port's, whatever else is wrong with it.");
    s.frame(host, good.clone().outer(|ip| ip[19] = 3)).ends(Reason::NotForUs);
    s.frame(router, good.clone().broken(|ip| ip[10] ^= 1)).ends(Reason::NotForUs);
    s.frame(host, named(0x86dd, &router_solicitation())).ends(Reason::NotForUs);
    s.scene("Header length, total length, checksum.");
    s.frame(host, good.clone().outer(|ip| ip[0] = 0x44)).ends(Reason::OuterMalformed);
    s.frame(host, good.clone().outer(|ip| ip[3] = 19)).ends(Reason::OuterMalformed);
    s.frame(host, good.clone().outer(|ip| ip[3] += 1)).ends(Reason::OuterMalformed);
    s.frame(host, good.clone().broken(|ip| ip[10] ^= 1)).ends(Reason::OuterMalformed);
    s.scene("A fragment of the delivery header is never put together, be it the first or another.");
    s.frame(host, good.clone().outer(|ip| ip[6] = 0x20)).ends(Reason::OuterFragment);
    s.frame(host, good.clone().outer(|ip| (ip[6], ip[7]) = (0, 100))).ends(Reason::OuterFragment);
    s.frame(host, good.clone().outer(|ip| (ip[6], ip[9]) = (0x20, 6))).ends(Reason::OuterFragment);
    s.scene("Something else than GRE for the port itself is the host's: BGP, ping.");
    s.frame(router, plain_to("192.0.2.1", &tcp("192.0.2.2:179", "192.0.2.1:40000", "SYN ACK")))
        .ends(Reason::NotGre);
    s.frame(host, plain_to("198.51.100.2", &ping("198.51.100.11", "198.51.100.2", 1))).ends(Reason::NotGre);
    s.frame(internet, plain_to("203.0.113.2", &udp("8.8.8.8:53", "203.0.113.2:53"))).ends(Reason::NotGre);
    s.scene("Neighbour discovery on a plain port.");
    s.frame(internet, named(0x86dd, &router_solicitation())).ends(Reason::NotForUs);
    s.scene("Options in the delivery header, and bytes behind the packet, are accepted and gone.");
    let optional = good.clone().broken(|ip| {
        ip.splice(20..20, [0x94, 4, 0, 0]);
        (ip[0], ip[3]) = (0x46, ip[3] + 4);
    });
    s.frame(host, optional.outer(|_| ()).padded(9)).carries(udp(A, B)).via(LOCAL).to(host);
    s.scene("A key that no tunnel has, and a key that only another port has.");
    s.frame(host, good.clone().gre(|gre| gre[7] = 0x99)).ends(Reason::UnknownTunnel);
    s.frame(host, good.clone().gre(|gre| gre[6] = 0x0c)).ends(Reason::UnknownTunnel);
    s.scene("A known key from somebody who is not at its other end: nobody's host, nobody's router.");
    s.frame(host, good.outer(|ip| ip[15] = 77)).ends(Reason::TunnelPeer);
    let reply = router.wrap(&udp("192.168.1.10:5000", A));
    s.frame(router, reply.outer(|ip| ip[15] = 3)).ends(Reason::TunnelPeer);
    s.flows(0, 0)
}

/// A router solicitation: type 133, hop limit 255, to all routers.
fn router_solicitation() -> Vec<u8> {
    icmp("fe80::1", "ff02::2", (133, 0), 0, b"").ttl(255).bytes
}

/// A packet that is addressed to a port itself.
fn plain_to(address: &str, packet: &crate::packet::Packet) -> Frame {
    Frame::plain(crate::frame::mac_of(crate::packet::address(address)), [2, 0, 0, 0, 0, 9], packet)
}

const OUTER_FAULTS: &str = r#"
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
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering}
"#;

pub fn inner_blocked() -> Story {
    let mut s = Story::new(
        "inner-blocked",
        "Customer packets that are wrong in themselves, or of a kind that virtual networks do not carry.",
        INNER_BLOCKED,
    );
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let good = udp(A, B);
    let wrong = |s: &mut Story, packet| {
        s.send(host, packet).ends(Reason::InnerMalformed);
    };

    s.scene("Version, header length, checksum, total length.");
    wrong(&mut s, good.clone().edited(|ip| ip[0] = 0x55));
    wrong(&mut s, good.clone().edited(|ip| ip[0] = 0x44));
    wrong(&mut s, good.clone().broken(|ip| ip[10] ^= 1));
    wrong(&mut s, good.clone().edited(|ip| ip[3] += 1));
    wrong(&mut s, good.clone().edited(|ip| ip[3] = 19));
    s.scene("Transport headers cut short: TCP 20, UDP 8, ICMP 8.");
    wrong(&mut s, other("10.1.0.4", "10.1.0.5", 6, &[0; 19]));
    wrong(&mut s, other("10.1.0.4", "10.1.0.5", 17, &[0; 7]));
    wrong(&mut s, other("10.1.0.4", "10.1.0.5", 1, &[8; 7]));
    s.scene("Bytes behind the packet are padding: they never leave.");
    s.send(host, good.clone().padded(5)).via(LOCAL).to(host);

    let blocked = |s: &mut Story, from: Place, packet| {
        s.send(from, packet).ends(Reason::InnerBlocked);
    };
    s.scene("Multicast and broadcast, to and from.");
    for to in
        ["224.0.0.5:5000", "239.1.2.3:5000", "255.255.255.255:5000", "10.1.0.255:5000", "10.2.0.127:5000"]
    {
        blocked(&mut s, host, udp(A, to));
    }
    blocked(&mut s, host, udp("224.0.0.5:5000", B));
    blocked(&mut s, host, udp("10.1.0.255:5000", B));
    s.scene("The last address of a range that is no subnet is an address like any other.");
    s.send(host, udp(A, "10.1.255.255:5000")).ends(Reason::NoHost).via(LOCAL);
    s.scene("Tunnels in tunnels: IP in IP, IPv6 in IP, GRE.");
    for protocol in [4, 41, 47] {
        blocked(&mut s, host, other("10.1.0.4", "10.1.0.5", protocol, &[0; 20]));
    }
    s.scene("DHCP to a unicast address, and the port that the host keeps for itself.");
    blocked(&mut s, host, udp("10.1.0.4:68", "10.1.0.5:67"));
    s.send(host, udp("10.1.0.4:67", "10.1.0.5:68")).via(LOCAL).to(host);
    blocked(&mut s, host, udp("10.1.0.4:65330", B));
    s.send(host, udp(A, "10.1.0.5:65330")).via(LOCAL).to(host);
    s.send(host, tcp("10.1.0.4:65330", B, "SYN")).via(LOCAL).to(host);
    s.scene("Nobody's and one's own addresses.");
    for to in ["0.0.0.0:53", "0.1.2.3:53", "127.0.0.1:53"] {
        blocked(&mut s, host, udp(A, to));
    }
    blocked(&mut s, host, udp("127.0.0.1:53", B));
    blocked(&mut s, host, udp("[fd00:1::4]:53", "[::1]:53"));
    blocked(&mut s, host, udp("[fd00:1::4]:53", "[ff02::1]:53"));
    s.scene("The same from the Internet: nothing is known of its owner yet.");
    blocked(&mut s, internet, udp("8.8.8.8:53", "10.1.0.255:53"));
    blocked(&mut s, internet, udp("8.8.8.8:53", "224.0.0.5:53"));
    s.scene("To the tunnel end that it came from.");
    s.send(host, udp(A, "198.51.100.11:5000")).ends(Reason::GreLoop);
    s.scene("Protocols that nobody knows pass like any other.");
    s.send(host, other("10.1.0.4", "10.1.0.5", 253, b"x")).via(LOCAL).to(host);
    s.send(host, other("10.1.0.4", "8.8.8.8", 50, b"x")).via((Internet, "0.0.0.0/0")).to(internet);
    s.flows(0, 0)
}

const INNER_BLOCKED: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, "fd00:1::/48"]}
        subnets: [{name: app, addressPrefixes: [10.1.0.0/24, "fd00:1::/64"]}]
        virtualNetworkPeerings: [{name: to-spoke, remoteVirtualNetwork: spoke}]
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: small, addressPrefix: 10.2.0.0/25}]
        virtualNetworkPeerings: [{name: to-hub, remoteVirtualNetwork: hub}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {vnet: spoke, port: fabric, key: 0xa02}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24, "fd00:1::/64"]}
      - {address: 198.51.100.12, vnet: spoke, prefixes: [10.2.0.0/25]}
"#;

pub fn vlan_frames() -> Story {
    let mut s = Story::new(
        "vlan-frames",
        "One and two VLAN tags are looked through, a third is not; captures of four formats are merged by time.",
        VLAN_FRAMES,
    );
    s.format("edge-a", Format::Pcapng);
    s.format("internet", Format::BigEndian);
    s.format("services", Format::Nanoseconds);
    let host = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let router = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let services = s.plain("contoso/hub", "services");
    let (customer, service) = (0x8100, 0x88a8);

    s.scene("A customer tag; a service tag in front of a customer tag, as circuits are handed over.");
    let packet = udp(A, B);
    s.frame(host, host.wrap(&packet).tagged(customer, 100)).carries(packet.clone()).via(LOCAL).to(host);
    let from_site = udp("192.168.1.10:5000", A);
    s.frame(router, router.wrap(&from_site).tagged(customer, 100).tagged(service, 15))
        .carries(from_site.clone())
        .via(LOCAL)
        .to(host);
    let from_outside = udp("8.8.8.8:53", A);
    s.frame(internet, internet.wrap(&from_outside).tagged(customer, 1).tagged(customer, 2))
        .carries(from_outside.clone())
        .via(LOCAL)
        .to(host);
    s.frame(services, services.wrap(&from_outside).tagged(service, 7).padded(3))
        .carries(from_outside.clone())
        .via(LOCAL)
        .to(host);
    s.scene("Three tags are the host's.");
    let tagged = host.wrap(&packet).tagged(customer, 1).tagged(customer, 2).tagged(service, 3);
    s.frame(host, tagged).ends(Reason::NotIp);
    s.scene("The frame ends inside a tag, or where the EtherType behind it should be.");
    let tagged = host.wrap(&packet).tagged(customer, 1);
    s.frame(host, Frame::of(tagged.bytes[..15].to_vec())).ends(Reason::Truncated);
    s.frame(host, Frame::of(tagged.bytes[..17].to_vec())).ends(Reason::Truncated);
    s.scene("A tagged frame that carries something else than IP.");
    s.frame(host, Frame::of([&tagged.bytes[..16], &[0x08, 0x06, 0, 1]].concat())).ends(Reason::NotIp);
    s.scene("Untagged still works; short frames are padded by Ethernet, and the padding does not leave.");
    s.frame(services, services.wrap(&from_outside).padded(20)).carries(from_outside).via(LOCAL).to(host);
    s.flows(0, 0)
}

const VLAN_FRAMES: &str = r#"
apiVersion: clearway/v1
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
          - {name: app, addressPrefix: 10.1.0.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering}
"#;
