//! Pieces and sizes: fragments, packets that are too big, and the ICMP errors about them.

use clearway::packet::NextHopType::{Internet, VNetPeering, VirtualNetworkGateway, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{Packet, error, icmp, other, tcp, udp};
use crate::story::Story;

const LOCAL: (clearway::packet::NextHopType, &str) = (VnetLocal, "10.1.0.0/16");
const OUT: &str = "DefaultRule_AllowVnetOutBound";

pub fn fragments() -> Story {
    let mut s = Story::new(
        "fragments",
        "Later fragments follow their first for thirty seconds, orphans and pieces that hide TCP's flags are dropped.",
        FRAGMENTS,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let app = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let whole = udp("10.1.0.4:5000", "10.1.1.4:6000").carrying(3000);
    let (first, second, third) = (0..1480, 1480..2960, 2960..3012);

    s.scene("The second piece before the first: nobody knows its ports.");
    s.send(web, whole.fragment(7, second.clone())).ends(Reason::FragmentOrphan);
    s.scene("The first is judged by the rules; the others follow it, in any order.");
    s.send(web, whole.fragment(7, first.clone())).opens(OUT).via(LOCAL).to(app);
    s.send(web, whole.fragment(7, third.clone())).established(OUT).via(LOCAL).to(app);
    s.send(web, whole.fragment(7, second.clone())).established(OUT).via(LOCAL).to(app);
    s.scene("Another identification, or another destination, is another datagram.");
    s.send(web, whole.fragment(8, second.clone())).ends(Reason::FragmentOrphan);
    let elsewhere = udp("10.1.0.4:5000", "10.1.1.5:6000").carrying(3000);
    s.send(web, elsewhere.fragment(7, second.clone())).ends(Reason::FragmentOrphan);
    s.scene("The same from another sender on the same host is another's.");
    let neighbour = udp("10.1.0.5:5000", "10.1.1.4:6000").carrying(3000);
    s.send(web, neighbour.fragment(7, second.clone())).ends(Reason::FragmentOrphan);
    s.scene("A first piece that is denied admits nothing.");
    let denied = udp("10.1.0.4:5000", "10.1.1.4:9").carrying(3000);
    s.send(web, denied.fragment(9, first.clone())).ends(Reason::NsgDeny).rule("UserRule_DenyDiscard");
    s.send(web, denied.fragment(9, second.clone())).ends(Reason::FragmentOrphan);
    s.scene("The route, the TTL and the size of a piece are its own.");
    s.send(web, whole.fragment(7, third.clone()).ttl(1)).ends(Reason::TtlExpired).established(OUT).via(LOCAL);

    s.scene(
        "A first piece of TCP that does not reach the flags, and one at offset 1 that could overwrite them.",
    );
    let segment = tcp("10.1.0.4:5000", "10.1.1.4:443", "SYN").carrying(100);
    s.send(web, segment.fragment(10, 0..8)).ends(Reason::FragmentTiny);
    s.send(web, segment.fragment(10, 8..120)).ends(Reason::FragmentTiny);
    s.send(web, segment.fragment(10, 0..16)).opens(OUT).via(LOCAL).to(app);
    s.scene("Less than the header of UDP or ICMP in the first piece; pieces that end behind 65,535.");
    let short = whole.fragment(11, 0..8).edited(|ip| {
        ip.truncate(27);
        ip[3] = 27;
    });
    s.send(web, short).ends(Reason::InnerMalformed);
    let far = whole.fragment(11, 0..16).edited(|ip| (ip[6], ip[7]) = (0x1f, 0xff));
    s.send(web, far).ends(Reason::InnerMalformed);
    s.scene("Don't-fragment says nothing about what is a fragment already.");
    let stubborn = udp("10.1.0.4:5001", "10.1.1.4:6000").carrying(3000);
    s.send(web, stubborn.fragment(12, first.clone()).dont_fragment()).opens(OUT).via(LOCAL).to(app);
    s.send(web, stubborn.fragment(12, second.clone()).dont_fragment()).established(OUT).via(LOCAL).to(app);

    s.scene("Without groups there is no flow, but a later piece still needs its first.");
    let answer = udp("10.1.1.4:6000", "10.1.1.5:5000").carrying(3000);
    s.send(app, answer.fragment(7, second.clone())).ends(Reason::FragmentOrphan);
    s.send(app, answer.fragment(7, first.clone())).via(LOCAL).to(app);
    s.send(app, answer.fragment(7, second.clone())).via(LOCAL).to(app);
    s.scene("From the Internet, to an endpoint with groups.");
    let inward = udp("8.8.8.8:53", "10.1.0.4:5000").carrying(2000);
    s.send(internet, inward.fragment(7, 0..1480)).opens("UserRule_AllowDns").via(LOCAL).to(web);
    s.send(internet, inward.fragment(7, 1480..2012)).established("UserRule_AllowDns").via(LOCAL).to(web);

    s.scene("Thirty seconds after the first it is forgotten, though the flow lives.");
    s.wait(31.0);
    s.send(web, whole.fragment(7, second)).ends(Reason::FragmentOrphan);
    s.send(web, whole.fragment(7, first)).established(OUT).via(LOCAL).to(app);
    s.send(web, whole.fragment(7, third)).established(OUT).via(LOCAL).to(app);
    s.flows(4, 4)
}

const FRAGMENTS: &str = r#"
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
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}
          - {name: app, addressPrefix: 10.1.1.0/24}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: DenyDiscard, priority: 100, direction: Outbound, access: Deny, protocol: Udp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "9"}
          - {name: AllowDns, priority: 100, direction: Inbound, access: Allow, protocol: Udp,
             sourceAddressPrefix: "*", sourcePortRange: "53", destinationAddressPrefix: "*", destinationPortRange: "*"}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.1.0/24]}
"#;

pub fn mtu() -> Story {
    let mut s = Story::new(
        "mtu",
        "What does not fit behind the tunnel header is cut, or refused with the size that would fit.",
        MTU,
    );
    let app = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let lan = s.nvgre_host("contoso/lan", "fabric", "198.51.100.12", 0x1a02);
    let link = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01).numbered();
    let internet = s.plain("contoso/hub", "internet");
    let (here, there) = ("10.1.0.4:5000", "10.1.0.5:5000");
    let default = (Internet, "0.0.0.0/0");
    let remote = (VirtualNetworkGateway, "192.168.0.0/16");
    /// A datagram whose IP packet is so many bytes long.
    fn sized(from: &str, to: &str, length: usize) -> Packet {
        let small = udp(from, to);
        let missing = length - small.bytes.len();
        small.carrying(missing)
    }

    s.scene("1,500 less 20 of IPv4 and 8 of GRE: 1,472 fit.");
    s.send(app, sized(here, there, 1472).dont_fragment()).via(LOCAL).to(app);
    s.scene("One more does not: with don't-fragment it is refused, and the sender told what fits.");
    s.send(app, sized(here, there, 1473).dont_fragment())
        .ends(Reason::TooBig)
        .via(LOCAL)
        .needs_room("10.1.0.1", 1472);
    s.scene("Without, it is cut in front of the tunnel, at the largest multiple of eight.");
    let big = sized(here, there, 1473).identification(4711);
    let aged = big.clone().aged();
    s.send(app, big)
        .becomes([aged.fragment(4711, 0..1448), aged.fragment(4711, 1448..1453)])
        .via(LOCAL)
        .to(app);
    s.scene("Options that are to be copied go into every piece, the others into the first.");
    let (copied, record_route) = ([0x82, 4, 0xaa, 0xbb], [7, 3, 4, 1]);
    let plain = sized(here, there, 2000).identification(4712);
    let with_options = plain.clone().options(&record_route).options(&copied);
    let both = with_options.clone().aged();
    let one = plain.options(&copied).aged();
    s.send(app, with_options)
        .becomes([both.fragment(4712, 0..1440), one.fragment(4712, 1440..1980)])
        .via(LOCAL)
        .to(app);
    s.scene("A fragment is cut again, and its offsets go on.");
    let large = sized(here, there, 6020);
    let piece = large.fragment(4713, 0..3000);
    let aged = large.clone().ttl(63);
    s.send(app, piece)
        .becomes([
            aged.fragment(4713, 0..1448),
            aged.fragment(4713, 1448..2896),
            aged.fragment(4713, 2896..3000),
        ])
        .via(LOCAL)
        .to(app);
    let last = large.fragment(4713, 3000..6000);
    s.send(app, last)
        .becomes([
            aged.fragment(4713, 3000..4448),
            aged.fragment(4713, 4448..5896),
            aged.fragment(4713, 5896..6000),
        ])
        .via(LOCAL)
        .to(app);
    s.scene("IPv6 is never cut by a router.");
    s.send(app, sized("[fd00:1::4]:5000", "[fd00:1::5]:5000", 1473))
        .ends(Reason::TooBig)
        .via((VnetLocal, "fd00:1::/48"))
        .needs_room("fd00:1::1", 1472);
    s.scene("A sequence number takes four bytes more.");
    s.send(app, sized(here, "192.168.1.10:5000", 1468).dont_fragment()).via(remote).to(link);
    s.send(app, sized(here, "192.168.1.10:5000", 1469).dont_fragment())
        .ends(Reason::TooBig)
        .via(remote)
        .needs_room("10.1.0.1", 1468);
    s.scene("The pieces have numbers of their own.");
    let big = sized(here, "192.168.1.10:5000", 1500).identification(4714);
    let aged = big.clone().aged();
    s.send(app, big)
        .becomes([aged.fragment(4714, 0..1448), aged.fragment(4714, 1448..1480)])
        .via(remote)
        .to(link);
    s.scene("NVGRE takes fourteen more.");
    let peered = (VNetPeering, "10.2.0.0/16");
    s.send(app, sized(here, "10.2.0.4:5000", 1458).dont_fragment()).via(peered).to(lan);
    s.send(app, sized(here, "10.2.0.4:5000", 1459).dont_fragment())
        .ends(Reason::TooBig)
        .via(peered)
        .needs_room("10.1.0.1", 1458);
    s.scene("The Internet's port is smaller than the fabric.");
    s.send(app, sized(here, "8.8.8.8:53", 1400).dont_fragment()).via(default).to(internet);
    s.send(app, sized(here, "8.8.8.8:53", 1401).dont_fragment())
        .ends(Reason::TooBig)
        .via(default)
        .needs_room("10.1.0.1", 1400);
    s.scene("What comes from outside is answered from the port, back by the tunnel it came from.");
    s.send(internet, sized("8.8.8.8:53", here, 1500).dont_fragment())
        .ends(Reason::TooBig)
        .via(LOCAL)
        .needs_room("203.0.113.2", 1472);
    s.send(link, sized("192.168.1.10:5000", here, 1480).dont_fragment())
        .ends(Reason::TooBig)
        .via(LOCAL)
        .needs_room("192.0.2.1", 1472);
    s.scene("About an ICMP error nothing is answered, nor about a later piece that may not be cut.");
    let report =
        error("8.8.8.8", "10.1.0.4", (3, 1), 0, &udp(here, "8.8.8.8:53")).carrying(1420).dont_fragment();
    s.send(internet, report).ends(Reason::TooBig).via(LOCAL);
    let long = sized(here, there, 5000);
    s.send(app, long.fragment(4715, 0..1400)).via(LOCAL).to(app);
    s.send(app, long.fragment(4715, 1400..2900).dont_fragment()).ends(Reason::TooBig).via(LOCAL);
    s.flows(0, 0)
}

const MTU: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2}
  edge-a:   {role: edge,     address: 192.0.2.1}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1, mtu: 1400}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, "fd00:1::/48"]}
        subnets:
          - {name: app, addressPrefixes: [10.1.0.0/24, "fd00:1::/64"]}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
        virtualNetworkPeerings: [{name: to-lan, remoteVirtualNetwork: lan}]
      - name: lan
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24}]
        virtualNetworkPeerings: [{name: to-hub, remoteVirtualNetwork: hub}]
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
      - {vnet: lan, port: fabric, key: 0x1a02, encapsulation: nvgre}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01, sequence: send}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24, "fd00:1::/64"]}
      - {address: 198.51.100.12, vnet: lan, prefixes: [10.2.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;

pub fn icmp_errors() -> Story {
    let mut s = Story::new(
        "icmp-errors",
        "ICMP errors about a live flow pass with it, others are judged by rules; Clearway's own are sent about nothing improper.",
        ICMP_ERRORS,
    );
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let bare = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01);
    let link = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let internet = s.plain("contoso/hub", "internet");
    let default = (Internet, "0.0.0.0/0");
    let out = "DefaultRule_AllowInternetOutBound";
    let denied = "DefaultRule_DenyAllInBound";
    let (exceeded, unreachable, needed) = ((11, 0), (3, 3), (3, 4));
    let (router, here) = ("5.5.5.5", "10.1.0.4");
    let probe = udp("10.1.0.4:50000", "8.8.8.8:33434");

    s.scene("The web server traces a route; a router on the way answers, and then the far end.");
    s.send(web, probe.clone()).opens(out).via(default).to(internet);
    s.send(internet, error(router, here, exceeded, 0, &probe)).established(out).via(LOCAL).to(web);
    s.send(internet, error("8.8.8.8", here, unreachable, 0, &probe)).established(out).via(LOCAL).to(web);
    s.send(internet, error(router, here, needed, 1400, &probe)).established(out).via(LOCAL).to(web);
    s.scene("About a packet that nobody sent: other ports, other protocol, other direction.");
    let never = udp("10.1.0.4:50001", "8.8.8.8:33434");
    let segment = tcp("10.1.0.4:50000", "8.8.8.8:33434", "ACK");
    let backwards = udp("8.8.8.8:33434", "10.1.0.4:50000");
    for about in [&never, &segment, &backwards] {
        s.send(internet, error(router, here, exceeded, 0, about))
            .ends(Reason::NsgDeny)
            .rule(denied)
            .via(LOCAL);
    }
    s.scene("Not to the one who sent it, a quote that is cut short, and a quote of a later piece.");
    s.send(internet, error(router, "10.1.0.5", exceeded, 0, &probe))
        .ends(Reason::NsgDeny)
        .rule(denied)
        .via(LOCAL);
    let cut = icmp(router, here, exceeded, 0, &probe.bytes[..27]);
    s.send(internet, cut).ends(Reason::NsgDeny).rule(denied).via(LOCAL);
    let piece = probe.clone().carrying(100).fragment(7, 8..80);
    s.send(internet, error(router, here, exceeded, 0, &piece)).ends(Reason::NsgDeny).rule(denied).via(LOCAL);
    s.scene("A redirect is no error that belongs to a flow.");
    s.send(internet, error(router, here, (5, 1), 0, &probe)).ends(Reason::NsgDeny).rule(denied).via(LOCAL);
    s.scene("Outbound, the web server says what is wrong with what it received.");
    let request = tcp("8.8.8.8:40000", "10.1.0.4:443", "SYN");
    s.send(internet, request.clone()).opens("UserRule_AllowHttps").via(LOCAL).to(web);
    s.send(web, error(here, "8.8.8.8", (3, 10), 0, &request))
        .established("UserRule_AllowHttps")
        .via(default)
        .to(internet);
    s.scene("A related error refreshes nothing, and unrelated ones that rules allow open a record like any packet.");
    s.send(web, error(here, "8.8.8.8", unreachable, 0, &udp("8.8.8.8:1", "10.1.0.4:1")))
        .opens(out)
        .via(default)
        .to(internet);

    s.scene(
        "The TTL runs out: the answer comes from the sender's subnet, the port, or the port of the link.",
    );
    s.send(web, udp("10.1.0.4:50000", "8.8.8.8:33435").ttl(1))
        .ends(Reason::TtlExpired)
        .rule(out)
        .via(default)
        .time_exceeded("10.1.0.1");
    s.send(web, probe.clone().ttl(0))
        .ends(Reason::TtlExpired)
        .established(out)
        .via(default)
        .time_exceeded("10.1.0.1");
    s.send(internet, tcp("8.8.8.8:40000", "10.1.0.4:443", "ACK").ttl(1))
        .ends(Reason::TtlExpired)
        .established("UserRule_AllowHttps")
        .via(LOCAL)
        .time_exceeded("203.0.113.2");
    s.send(link, udp("192.168.1.10:53", "10.1.1.4:5000").ttl(1))
        .ends(Reason::TtlExpired)
        .via(LOCAL)
        .time_exceeded("192.0.2.1");
    s.scene("A large packet is quoted so that the answer has 576 bytes.");
    s.send(link, udp("192.168.1.10:53", "10.1.1.4:5000").carrying(1000).ttl(1))
        .ends(Reason::TtlExpired)
        .via(LOCAL)
        .time_exceeded("192.0.2.1");
    s.scene("Never about an ICMP error, a redirect or a later piece; but about a ping and a first piece.");
    s.send(bare, error("10.1.1.4", "192.168.1.10", exceeded, 0, &probe).ttl(1))
        .ends(Reason::TtlExpired)
        .via((VirtualNetworkGateway, "192.168.0.0/16"));
    s.send(bare, icmp("10.1.1.4", "192.168.1.10", (5, 0), 0, &[0; 28]).ttl(1))
        .ends(Reason::TtlExpired)
        .via((VirtualNetworkGateway, "192.168.0.0/16"));
    let whole = udp("10.1.1.4:5000", "10.1.1.5:5000").carrying(2000);
    s.send(bare, whole.fragment(7, 0..1480)).via(LOCAL).to(bare);
    s.send(bare, whole.fragment(7, 1480..2012).ttl(1)).ends(Reason::TtlExpired).via(LOCAL);
    s.send(bare, whole.fragment(8, 0..1480).ttl(1))
        .ends(Reason::TtlExpired)
        .via(LOCAL)
        .time_exceeded("10.1.1.1");
    s.send(bare, icmp("10.1.1.4", "10.1.1.5", (8, 0), 7, b"ping").ttl(1))
        .ends(Reason::TtlExpired)
        .via(LOCAL)
        .time_exceeded("10.1.1.1");
    s.scene("Nothing is sent about what is dropped for another reason.");
    s.send(bare, other("10.1.1.4", "172.16.0.1", 17, &[0; 8]))
        .ends(Reason::RouteNone)
        .via((clearway::packet::NextHopType::None, "172.16.0.0/12"));
    s.flows(3, 3)
}

const ICMP_ERRORS: &str = r#"
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
          - {name: bare, addressPrefix: 10.1.1.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: AllowHttps, priority: 200, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: Internet, sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
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
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.1.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;
