//! Microsoft and public peering: packets between a customer and public services, in no VNet.

use clearway::packet::NextHopType::{self, VnetLocal};
use clearway::packet::Reason;

use crate::packet::{error, icmp, ping, pong, tcp, udp};
use crate::story::{Story, with};

const LOCAL: (NextHopType, &str) = (VnetLocal, "10.1.0.0/16");

/// DSCP values as bits of the type of service.
const fn dscp(value: u8) -> u8 {
    value << 2
}

pub fn microsoft_peering() -> Story {
    let mut s = Story::new(
        "microsoft-peering",
        "Microsoft peering carries both ways between announced prefixes and the services: no VNet, no rule, five DSCP values.",
        MICROSOFT_PEERING,
    );
    let primary = s.site("contoso/", "edge-a", "192.0.2.2", 0xc03);
    let secondary = s.site("contoso/", "edge-b", "192.0.2.6", 0xc04);
    let private = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01);
    let fabrikam = s.site("fabrikam/", "edge-b", "192.0.2.10", 0xd03);
    let web = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let services = s.plain("contoso/", "services");
    let internet = s.plain("contoso/", "internet");
    let to_fabrikam = s.plain("fabrikam/", "services");
    let service = "40.1.1.1:443";

    s.scene("From an announced address, by either link, in any state of TCP.");
    s.send(primary, tcp("20.50.0.9:5000", service, "SYN")).to(services);
    s.send(secondary, tcp("20.50.0.9:5000", service, "ACK")).to(services);
    s.send(primary, ping("20.50.8.9", "40.1.1.1", 7)).to(services);
    s.scene("From another it is spoofed: one that is advertised but not learned, a private one, another customer's.");
    for source in ["20.50.16.9:5000", "10.1.0.4:5000", "192.168.1.10:5000", "20.70.0.9:5000", "40.1.1.1:5000"]
    {
        s.send(primary, udp(source, service)).ends(Reason::SpoofedSource);
    }
    s.scene("Where it goes is not looked at: it leaves to the services, even to what another customer has announced.");
    s.send(primary, udp("20.50.0.9:5000", "20.70.0.9:443")).to(services);
    s.send(fabrikam, udp("20.70.0.9:5000", "20.50.0.9:443")).to(to_fabrikam);

    s.scene("From the services and from the Internet to an announced address: by the shorter AS path.");
    s.send(services, tcp(service, "20.50.1.9:5000", "SYN ACK")).to(secondary);
    s.send(internet, tcp("8.8.8.8:443", "20.50.1.9:5000", "SYN")).to(secondary);
    s.scene("The longest prefix first: the longer path is the only one to this half.");
    s.send(services, udp(service, "20.50.1.200:5000")).to(primary);
    s.scene("Equal ones by flow.");
    s.send(services, udp(service, "20.50.0.9:5002")).to(primary);
    s.send(services, udp(service, "20.50.0.9:5001")).to(secondary);
    s.scene("Each customer's prefixes lead to its own links.");
    s.send(to_fabrikam, udp(service, "20.70.0.9:5000")).to(fabrikam);
    s.scene("Before any VNet, though one of another customer has a longer prefix.");
    s.send(services, udp(service, "20.50.2.4:5000")).to(primary);
    s.scene("Sources that cannot be outside: private ones, and the customer's own VNets. Another's can.");
    for source in ["10.1.0.4:443", "172.31.9.9:443", "192.168.1.10:443", "100.64.0.1:443", "51.4.0.9:443"] {
        s.send(services, udp(source, "20.50.1.9:5000")).ends(Reason::SpoofedSource);
        s.send(internet, udp(source, "20.50.1.9:5000")).ends(Reason::SpoofedSource);
    }
    s.send(internet, udp("52.5.0.9:443", "20.50.1.9:5000")).to(secondary);
    s.scene("What nobody has announced leads nowhere.");
    s.send(services, udp(service, "20.50.16.9:5000")).ends(Reason::UnknownTunnel);

    s.scene("DSCP 46, 34, 18, 10 and 0 stay, what else there is becomes 0; congestion bits stay.");
    for (before, after) in [(46, 46), (34, 34), (18, 18), (10, 10), (0, 0), (26, 0), (24, 0), (63, 0), (1, 0)]
    {
        for ecn in [0, 2] {
            let inward = udp("20.50.0.9:5000", service).tos(dscp(before) | ecn);
            s.send(primary, inward.clone()).becomes([inward.tos(dscp(after) | ecn).aged()]).to(services);
            let outward = udp(service, "20.50.1.9:5000").tos(dscp(before) | ecn);
            s.send(services, outward.clone()).becomes([outward.tos(dscp(after) | ecn).aged()]).to(secondary);
        }
    }
    s.scene("A congestion mark of the tunnel is taken over first.");
    let marked = udp("20.50.0.9:5000", service).tos(dscp(26) | 2);
    s.frame(primary, primary.wrap(&marked).outer(|outer| outer[1] = 3))
        .carries(marked.clone())
        .becomes([marked.tos(3).aged()])
        .to(services);
    s.scene("Private peering keeps what the customer said.");
    s.send(private, udp("192.168.1.10:5000", "10.1.0.4:5000").tos(dscp(26))).via(LOCAL).to(web);

    s.scene("TTL and size are looked at as everywhere; errors about them come from the port.");
    s.send(primary, udp("20.50.0.9:5000", service).ttl(1))
        .ends(Reason::TtlExpired)
        .time_exceeded("192.0.2.1");
    s.send(services, udp(service, "20.50.1.9:5000").ttl(1))
        .ends(Reason::TtlExpired)
        .time_exceeded("203.0.113.130");
    let large = udp(service, "20.50.1.9:5000").carrying(1468);
    s.send(services, large.clone().dont_fragment()).ends(Reason::TooBig).needs_room("203.0.113.130", 1472);
    let aged = large.clone().aged();
    s.send(services, large).becomes([aged.fragment(0, 0..1448), aged.fragment(0, 1448..1480)]).to(secondary);
    let large = udp("20.50.0.9:5000", service).carrying(1500);
    s.send(primary, large.clone().dont_fragment()).ends(Reason::TooBig).needs_room("192.0.2.1", 1500);
    let aged = large.clone().aged();
    s.send(primary, large).becomes([aged.fragment(0, 0..1480), aged.fragment(0, 1480..1512)]).to(services);

    s.scene("Later pieces follow their first, by the link that it came by.");
    let whole = udp("20.50.0.9:5000", service).carrying(2000);
    let (first, later) = (whole.fragment(7, 0..1480), whole.fragment(7, 1480..2012));
    s.send(primary, later.clone()).ends(Reason::FragmentOrphan);
    s.send(primary, first.clone()).to(services);
    s.send(primary, later.clone()).to(services);
    s.send(secondary, later.clone()).ends(Reason::FragmentOrphan);
    let whole = udp(service, "20.50.1.9:5000").carrying(2000);
    s.send(services, whole.fragment(7, 1448..2012)).ends(Reason::FragmentOrphan);
    s.send(services, whole.fragment(7, 0..1448)).to(secondary);
    s.send(services, whole.fragment(7, 1448..2012)).to(secondary);
    s.scene("Not if the first was spoofed.");
    let spoofed = udp("20.50.16.9:5000", service).carrying(2000);
    s.send(primary, spoofed.fragment(8, 0..1480)).ends(Reason::SpoofedSource);
    s.send(primary, spoofed.fragment(8, 1480..2012)).ends(Reason::SpoofedSource);

    let link = "link: secondary, port: edge-b, remote: 192.0.2.6,  key: 0xc04";
    let lost = with(MICROSOFT_PEERING, link, &format!("{link}, enabled: false"));
    s.swap(40, "secondary-lost.yaml", lost);
    s.scene("The secondary link is lost: what it alone had learned is gone, the other carries the rest.");
    s.send(services, tcp(service, "20.50.1.9:5000", "ACK")).to(primary);
    s.send(services, udp(service, "20.50.0.9:5001")).to(primary);
    s.send(services, udp(service, "20.50.8.9:5000")).ends(Reason::UnknownTunnel);
    s.send(primary, udp("20.50.8.9:5000", service)).ends(Reason::SpoofedSource);
    s.send(secondary, udp("20.50.0.9:5000", service)).ends(Reason::UnknownTunnel);
    s.scene("Thirty seconds after it the first piece is forgotten.");
    s.send(primary, later).ends(Reason::FragmentOrphan);
    s.flows(0, 0)
}

const MICROSOFT_PEERING: &str = r#"
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
        addressSpace: {addressPrefixes: [10.1.0.0/16, 51.4.0.0/16]}
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
      - {circuit: er1, peering: MicrosoftPeering, link: primary,   port: edge-a, remote: 192.0.2.2,  key: 0xc03}
      - {circuit: er1, peering: MicrosoftPeering, link: secondary, port: edge-b, remote: 192.0.2.6,  key: 0xc04}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering}
      - {prefix: 20.50.0.0/22, circuit: er1, peering: MicrosoftPeering, asPath: [64496]}
      - {prefix: 20.50.1.0/24, circuit: er1, peering: MicrosoftPeering, link: primary, asPath: [64496, 64496]}
      - {prefix: 20.50.1.0/24, circuit: er1, peering: MicrosoftPeering, link: secondary, asPath: [64496]}
      - {prefix: 20.50.1.128/25, circuit: er1, peering: MicrosoftPeering, link: primary, asPath: [64496, 64496, 64496]}
      - {prefix: 20.50.8.0/24, circuit: er1, peering: MicrosoftPeering, link: secondary, asPath: [64496]}
  - name: fabrikam
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, 52.5.0.0/16, 20.50.2.0/24]}
        subnets: [{name: web, addressPrefix: 20.50.2.0/24}]
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings:
          - {name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64998, vlanId: 200,
             primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.70.0.0/24], advertisedPublicPrefixesState: Configured}}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xb01}
      - {circuit: er1, peering: MicrosoftPeering, link: primary, port: edge-b, remote: 192.0.2.10, key: 0xd03}
    hosts:
      - {address: 198.51.100.21, vnet: hub, prefixes: [20.50.2.0/24]}
    learnedRoutes:
      - {prefix: 20.70.0.0/24, circuit: er1, peering: MicrosoftPeering}
"#;

pub fn public_peering() -> Story {
    let mut s = Story::new(
        "public-peering",
        "Public peering lets in only what belongs to a flow that the customer has begun, four minutes after its last packet.",
        PUBLIC_PEERING,
    );
    let primary = s.site("contoso/", "edge-a", "192.0.2.2", 0xc05);
    let secondary = s.site("contoso/", "edge-b", "192.0.2.6", 0xc06);
    let microsoft = s.site("contoso/", "edge-a", "192.0.2.2", 0xc03);
    let internet = s.plain("contoso/", "internet");
    let (own, service) = ("20.50.0.9:5000", "40.1.1.1:443");
    let asks = tcp(own, service, "SYN");
    let answers = tcp(service, own, "SYN ACK");

    s.scene("Nobody outside begins; Microsoft peering beside it carries both ways.");
    s.send(internet, tcp(service, own, "SYN")).ends(Reason::NotInitiated);
    s.send(internet, answers.clone()).ends(Reason::NotInitiated);
    s.send(internet, tcp(service, "20.52.0.9:5000", "SYN")).to(microsoft);
    s.scene("What the customer sends is dropped here, and begins nothing: a wrong source, a TTL that ends.");
    s.send(primary, udp("20.51.0.9:5000", service)).ends(Reason::SpoofedSource);
    s.send(primary, asks.clone().ttl(1)).ends(Reason::TtlExpired).time_exceeded("192.0.2.1");
    s.send(internet, answers.clone()).ends(Reason::NotInitiated);
    s.scene("The customer begins by the link it likes; the answer takes the best one.");
    s.send(secondary, asks.clone()).to(internet);
    s.send(internet, answers.clone()).to(primary);
    s.scene(
        "Another port, another protocol, another server, another of the customer's addresses: another flow.",
    );
    s.send(internet, tcp("40.1.1.1:444", own, "SYN ACK")).ends(Reason::NotInitiated);
    s.send(internet, tcp(service, "20.50.0.9:5001", "SYN ACK")).ends(Reason::NotInitiated);
    s.send(internet, udp(service, own)).ends(Reason::NotInitiated);
    s.send(internet, tcp("40.1.1.2:443", own, "SYN ACK")).ends(Reason::NotInitiated);
    s.send(internet, tcp(service, "20.50.0.10:5000", "SYN ACK")).ends(Reason::NotInitiated);
    s.scene("Private sources are spoofed, begun or not.");
    s.send(primary, udp(own, "10.9.9.9:53")).to(internet);
    s.send(internet, udp("10.9.9.9:53", own)).ends(Reason::SpoofedSource);
    s.scene(
        "There is no state of TCP: after RST answers still pass, and an ACK begins a flow as well as a SYN.",
    );
    s.send(primary, tcp(own, service, "RST")).to(internet);
    s.send(internet, tcp(service, own, "FIN ACK")).to(primary);
    s.send(primary, tcp("20.50.0.9:5002", service, "ACK")).to(internet);
    s.send(internet, tcp(service, "20.50.0.9:5002", "SYN")).to(primary);
    s.scene("Pings are told apart by their identifier.");
    s.send(primary, ping("20.50.0.9", "40.1.1.1", 7)).to(internet);
    s.send(internet, pong("40.1.1.1", "20.50.0.9", 7)).to(primary);
    s.send(internet, pong("40.1.1.1", "20.50.0.9", 8)).ends(Reason::NotInitiated);
    s.scene("An ICMP error belongs to the flow whose packet it quotes.");
    s.send(internet, error("9.9.9.9", "20.50.0.9", (3, 1), 0, &asks)).to(primary);
    let other = tcp("20.50.0.9:5009", service, "SYN");
    s.send(internet, error("9.9.9.9", "20.50.0.9", (3, 1), 0, &other)).ends(Reason::NotInitiated);
    s.send(internet, error("9.9.9.9", "20.50.0.10", (3, 1), 0, &asks)).ends(Reason::NotInitiated);
    s.send(internet, icmp("9.9.9.9", "20.50.0.9", (3, 1), 0, &[])).ends(Reason::NotInitiated);
    s.scene("DSCP is the customer's own.");
    s.send(primary, tcp(own, service, "ACK").tos(26 << 2)).to(internet);
    s.send(internet, tcp(service, own, "ACK").tos(26 << 2)).to(primary);
    s.scene("Pieces of an answer follow their first; those of a stranger have none.");
    let begun = udp("20.50.0.9:5003", "40.1.1.1:53");
    s.send(primary, begun).to(internet);
    let whole = udp("40.1.1.1:53", "20.50.0.9:5003").carrying(2000);
    s.send(internet, whole.fragment(7, 0..1448)).to(primary);
    s.send(internet, whole.fragment(7, 1448..2012)).to(primary);
    let strange = udp("40.1.1.1:54", "20.50.0.9:5003").carrying(2000);
    s.send(internet, strange.fragment(8, 0..1448)).ends(Reason::NotInitiated);
    s.send(internet, strange.fragment(8, 1448..2012)).ends(Reason::FragmentOrphan);
    s.scene("A first piece of the customer's begins a flow too.");
    let whole = udp("20.50.0.9:5004", "40.1.1.1:53").carrying(2000);
    s.send(primary, whole.fragment(9, 0..1480)).to(internet);
    s.send(primary, whole.fragment(9, 1480..2012)).to(internet);
    s.send(internet, udp("40.1.1.1:53", "20.50.0.9:5004")).to(primary);

    s.scene("Answers do not keep it alive: four minutes after the customer's last packet it is over.");
    s.until(200);
    s.send(internet, tcp(service, own, "ACK")).to(primary);
    s.until(239);
    s.send(internet, tcp(service, own, "ACK")).to(primary);
    s.send(primary, udp("20.50.0.9:5003", "40.1.1.1:53")).to(internet);
    s.until(241);
    s.send(internet, tcp(service, own, "ACK")).ends(Reason::NotInitiated);
    s.send(internet, pong("40.1.1.1", "20.50.0.9", 7)).ends(Reason::NotInitiated);
    s.scene("What the customer went on with lives; and it may begin again.");
    s.send(internet, udp("40.1.1.1:53", "20.50.0.9:5003")).to(primary);
    s.send(primary, asks).to(internet);
    s.send(internet, answers).to(primary);
    s.flows(0, 0)
}

const PUBLIC_PEERING: &str = r#"
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
        subnets: [{name: web, addressPrefix: 10.1.0.0/24}]
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        serviceProviderProvisioningState: Provisioned
        peerings:
          - {name: AzurePublicPeering, peeringType: AzurePublicPeering, peerASN: 64496, vlanId: 300,
             primaryPeerAddressPrefix: 20.60.0.0/30, secondaryPeerAddressPrefix: 20.60.0.4/30}
          - {name: MicrosoftPeering, peeringType: MicrosoftPeering, peerASN: 64496, vlanId: 200,
             primaryPeerAddressPrefix: 20.60.0.8/30, secondaryPeerAddressPrefix: 20.60.0.12/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [20.52.0.0/24], advertisedPublicPrefixesState: Configured}}
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {circuit: er1, peering: AzurePublicPeering, link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc05}
      - {circuit: er1, peering: AzurePublicPeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc06}
      - {circuit: er1, peering: MicrosoftPeering,   link: primary,   port: edge-a, remote: 192.0.2.2, key: 0xc03}
    learnedRoutes:
      - {prefix: 20.50.0.0/24, circuit: er1, peering: AzurePublicPeering, link: primary, asPath: [64496]}
      - {prefix: 20.50.0.0/24, circuit: er1, peering: AzurePublicPeering, link: secondary, asPath: [64496, 64496]}
      - {prefix: 20.52.0.0/24, circuit: er1, peering: MicrosoftPeering, asPath: [64496]}
"#;
