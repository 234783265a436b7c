//! Sentences of the contract, each as a few packets and the lines they must give. The oracle answers first; at the end of
//! every scene the packet path must have said the same.

mod circuits;
mod moved;

use std::net::IpAddr;

use clearway::model::Model;
use clearway::types::{Nanos, SECOND};

use super::compare::{self, Case};
use super::generate::frames::{Carrier, Ip, frame, icmp, tcp, udp};
use super::generate::traffic::{Packet, START};
use super::{Expected, Oracle};

/// Hub and spoke, a circuit, a firewall; NAME marks are places that a scene may fill.
const HUB_AND_SPOKE: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
  edge-a: {role: edge, address: 192.0.2.1}
  edge-b: {role: edge, address: 192.0.2.5}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
  services: {role: services, address: 203.0.113.130}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}
          - {name: app, addressPrefix: 10.1.1.0/24, routeTable: app-rt}
          - {name: fw, addressPrefix: 10.1.9.0/24}
          - {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}
        virtualNetworkPeerings:
          - {name: to-spoke, remoteVirtualNetwork: spoke, allowGatewayTransit: true}
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.2.0.0/24}]
        virtualNetworkPeerings:
          - {name: to-hub, remoteVirtualNetwork: hub, useRemoteGateways: true}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {name: Https, priority: 200, direction: Inbound, access: Allow, protocol: Tcp, sourceAddressPrefix: "*",
             sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "443"}
          - {name: NoDns, priority: 300, direction: Outbound, access: Deny, protocol: "*", sourceAddressPrefix: "*",
             sourcePortRange: "*", destinationAddressPrefix: AzurePlatformDNS, destinationPortRange: "53"}
      - name: fw-nsg
        securityRules: []
    routeTables:
      - {name: app-rt, routes: [{name: via-fw, addressPrefix: 0.0.0.0/0, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4}]}
    networkInterfaces:
      - {name: fw-nic, enableIPForwarding: true, networkSecurityGroup: fw-nsg, ipConfigurations: [{privateIPAddress: 10.1.9.4, subnet: hub/fw}]}
    expressRouteCircuits:
      - name: er1
        sku: {tier: Standard, family: MeteredData}
        serviceProviderProperties: {serviceProviderName: p, peeringLocation: l, bandwidthInMbps: 1000}
        peerings: [{name: AzurePrivatePeering, peeringType: AzurePrivatePeering, peerASN: 65001, vlanId: 100,
                    primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30}]
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er1}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
      - {vnet: spoke, port: fabric, key: 0x1a02, encapsulation: nvgre}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01}
      - {circuit: er1, peering: AzurePrivatePeering, link: secondary, port: edge-b, remote: 192.0.2.6, key: 0xc02, sequence: strict}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.9.0/24]}
      - {address: 198.51.100.13, vnet: spoke, prefixes: [10.2.0.0/16]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;

/// Where the senders of these scenes are: port, outer source, key, and whether it is nvgre.
enum From {
    Hub,
    Firewall,
    Spoke,
    Primary,
    Secondary(Option<u32>),
    Internet,
    /// An Internet tunnel of the hub.
    Tunnel,
    Services,
}

struct Scene {
    oracle: Oracle,
    models: Vec<Model>,
    swaps: Vec<Nanos>,
    now: Nanos,
    packets: Vec<Packet>,
    last: Option<Expected>,
}

fn model(text: &str) -> Model {
    clearway::model::from_bytes("scene.yaml", text.as_bytes(), None).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(|f| f.to_string()).collect::<Vec<_>>().join("\n"))
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Scene {
    /// The scene on the configuration above, with some texts replaced.
    fn new(changes: &[(&str, &str)]) -> Scene {
        let models = vec![model(&changed(changes))];
        let oracle = Oracle::new(&models[0]);
        Scene { oracle, models, swaps: Vec::new(), now: START, packets: Vec::new(), last: None }
    }

    /// Another configuration is in force from now on.
    fn swap(&mut self, changes: &[(&str, &str)]) {
        self.models.push(model(&changed(changes)));
        self.swaps.push(self.now);
        self.oracle.swap(&self.models[self.models.len() - 1], self.now);
    }

    fn wait(&mut self, nanos: Nanos) {
        self.now += nanos;
    }

    /// Sends a packet a millisecond later; returns its line.
    fn send(&mut self, from: From, packet: &Ip) -> String {
        self.now += 1_000_000;
        self.send_now(from, packet)
    }

    fn send_now(&mut self, from: From, packet: &Ip) -> String {
        let (port, carrier) = carrier(&from);
        let inner = packet.bytes();
        let bytes = frame(&[], 0x0800, &carrier.map_or(inner.clone(), |c| c.bytes(&inner)), 0);
        let original_len = bytes.len() as u32;
        let expected = self.oracle.packet(port, self.now, &bytes, original_len);
        self.packets.push(Packet { port: port.to_string(), time: self.now, bytes, original_len });
        let line = line(&expected);
        self.last = Some(expected);
        line
    }

    /// The inner packet of the only frame that the last packet caused.
    fn inner(&self) -> Vec<u8> {
        let emitted = &self.last.as_ref().expect("a packet").emitted;
        assert_eq!(emitted.len(), 1, "one frame");
        let frame = &emitted[0].1;
        let nvgre = frame.get(36..38) == Some(&[0x65, 0x58]);
        if frame[23] == 47 { frame[42 + if nvgre { 14 } else { 0 }..].to_vec() } else { frame[14..].to_vec() }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let case = Case {
            seed: 0,
            texts: Vec::new(),
            models: std::mem::take(&mut self.models),
            swaps: std::mem::take(&mut self.swaps),
            packets: std::mem::take(&mut self.packets),
        };
        compare::check(&case, 1);
        compare::check(&case, 2);
    }
}

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(HUB_AND_SPOKE.to_string(), |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in the configuration");
        text.replace(old, new)
    })
}

fn carrier(from: &From) -> (&'static str, Option<Carrier>) {
    let (port, source, destination, key, sequence) = match from {
        From::Hub => ("fabric", "198.51.100.11", "198.51.100.2", 0xa01, None),
        From::Firewall => ("fabric", "198.51.100.12", "198.51.100.2", 0xa01, None),
        From::Spoke => ("fabric", "198.51.100.13", "198.51.100.2", 0x1a_0207, None),
        From::Primary => ("edge-a", "192.0.2.2", "192.0.2.1", 0xc01, None),
        From::Secondary(number) => ("edge-b", "192.0.2.6", "192.0.2.5", 0xc02, *number),
        From::Tunnel => ("internet", "203.0.113.1", "203.0.113.2", 0xe01, None),
        From::Internet => return ("internet", None),
        From::Services => return ("services", None),
    };
    let nvgre = matches!(from, From::Spoke);
    let carrier = Carrier {
        source: ip(source),
        destination: ip(destination),
        class: 0,
        options: Vec::new(),
        fragment: 0,
        ip_protocol: 47,
        key: Some(key),
        sequence,
        checksum: None,
        bits: 0,
        protocol: if nvgre { 0x6558 } else { 0x0800 },
        inner_ethernet: nvgre.then_some(([2; 6], [2, 9, 9, 9, 9, 9], 0x0800)),
        padding: 0,
    };
    (port, Some(carrier))
}

/// verdict reason vnet flow rule next-hop-type prefix port remote, with `-` for null.
fn line(said: &Expected) -> String {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_string());
    [
        said.verdict.reason().map_or("forward", |r| r.name()).to_string(),
        or(&said.vnet),
        said.flow.name().to_string(),
        or(&said.rule),
        or(&said.next_hop_type),
        or(&said.route_prefix),
        or(&said.egress_port),
        or(&said.egress_remote),
    ]
    .join(" ")
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

fn segment(from: (&str, u16), to: (&str, u16), flags: u8) -> Ip {
    Ip::new(ip(from.0), ip(to.0), 6, tcp((from.1, to.1), flags, &[]))
}

fn datagram(from: (&str, u16), to: (&str, u16), size: usize) -> Ip {
    Ip::new(ip(from.0), ip(to.0), 17, udp((from.1, to.1), &vec![7; size]))
}

const CLIENT: (&str, u16) = ("1.2.3.4", 40_000);
const WEB: (&str, u16) = ("10.1.0.4", 443);

#[test]
fn a_tcp_connection_lives_ends_and_is_judged_anew() {
    let mut scene = Scene::new(&[]);
    let inbound = "UserRule_Https VnetLocal 10.1.0.0/16 fabric 198.51.100.11";
    let outbound = "UserRule_Https Internet 0.0.0.0/0 internet -";
    let ack = segment(CLIENT, WEB, ACK);
    let denied = "tcp-no-flow hub none UserRule_Https VnetLocal 10.1.0.0/16 - -";
    assert_eq!(scene.send(From::Internet, &ack), denied);
    assert_eq!(scene.send(From::Internet, &segment(CLIENT, WEB, SYN)), format!("forward hub new {inbound}"));
    assert_eq!(
        scene.send(From::Hub, &segment(WEB, CLIENT, SYN | ACK)),
        format!("forward hub established {outbound}")
    );
    for (from, packet) in
        [(From::Internet, segment(CLIENT, WEB, FIN)), (From::Hub, segment(WEB, CLIENT, FIN | ACK))]
    {
        assert!(scene.send(from, &packet).starts_with("forward hub established"));
    }
    // "an ended record carries what still comes, other than SYN, for 10 seconds unrefreshed"
    scene.wait(10 * SECOND - 1_000_000 - 1);
    assert!(scene.send(From::Internet, &ack).starts_with("forward hub established"));
    scene.now += 1;
    assert_eq!(scene.send_now(From::Internet, &ack), denied);
    assert!(scene.send(From::Internet, &segment(CLIENT, WEB, SYN)).starts_with("forward hub new"));
    assert!(scene.send(From::Internet, &segment(CLIENT, WEB, SYN)).starts_with("forward hub established"));
    // "Idle for longer than flowTimeoutInMinutes (4): gone."
    scene.now += 240 * SECOND;
    assert!(scene.send_now(From::Internet, &ack).starts_with("forward hub established"));
    scene.now += 240 * SECOND + 1;
    assert_eq!(scene.send_now(From::Internet, &ack), denied);
}

#[test]
fn an_endpoint_without_nsg_keeps_no_record() {
    let mut scene = Scene::new(&[]);
    let packet = segment(CLIENT, ("10.1.1.4", 443), ACK);
    let said = scene.send(From::Internet, &packet);
    assert_eq!(said, "forward hub none - VnetLocal 10.1.0.0/16 fabric 198.51.100.11");
    assert_eq!((scene.oracle.opened(), scene.oracle.live()), (0, 0));
}

#[test]
fn what_a_nic_forwards_has_two_records_judged_apart() {
    let mut scene = Scene::new(&[]);
    let request = datagram(("10.1.1.4", 1000), ("9.9.9.9", 53), 10);
    let to_firewall =
        "forward hub new DefaultRule_AllowVnetInBound VirtualAppliance 0.0.0.0/0 fabric 198.51.100.12";
    // The route table makes 9.9.9.9 VirtualNetwork for the app subnet, not for the firewall's.
    let denied = "nsg-deny hub none DefaultRule_DenyAllInBound VirtualAppliance 0.0.0.0/0 - -";
    assert_eq!(scene.send(From::Hub, &request), denied);
    let inside = datagram(("10.1.1.4", 1000), ("192.168.1.1", 53), 10);
    assert_eq!(
        scene.send(From::Hub, &inside),
        "forward hub none - VirtualNetworkGateway 192.168.0.0/16 edge-a 192.0.2.2"
    );
    let through = [("addressPrefix: 0.0.0.0/0", "addressPrefix: 192.168.0.0/16")];
    scene.swap(&through);
    assert_eq!(scene.send(From::Hub, &inside), to_firewall.replace("0.0.0.0/0", "192.168.0.0/16"));
    assert_eq!(
        scene.send(From::Firewall, &inside),
        "forward hub new DefaultRule_AllowVnetOutBound VirtualNetworkGateway 192.168.0.0/16 edge-a 192.0.2.2"
    );
    assert_eq!((scene.oracle.opened(), scene.oracle.live()), (2, 2));
}

#[test]
fn icmp_errors_pass_with_the_record_they_quote() {
    let mut scene = Scene::new(&[]);
    let request = datagram(("10.1.0.4", 5000), ("1.2.3.4", 123), 20);
    let said = scene.send(From::Hub, &request);
    assert_eq!(said, "forward hub new DefaultRule_AllowInternetOutBound Internet 0.0.0.0/0 internet -");
    let quote = &request.bytes()[..28];
    let error = |quote: &[u8]| Ip::new(ip("8.8.4.4"), ip("10.1.0.4"), 1, icmp(11, 0, 0, quote));
    let related = "forward hub established DefaultRule_AllowInternetOutBound VnetLocal 10.1.0.0/16 fabric 198.51.100.11";
    assert_eq!(scene.send(From::Internet, &error(quote)), related);
    let denied = "nsg-deny hub none DefaultRule_DenyAllInBound VnetLocal 10.1.0.0/16 - -";
    assert_eq!(scene.send(From::Internet, &error(&quote[..27])), denied);
    let mut other = quote.to_vec();
    other[23] ^= 1;
    assert_eq!(scene.send(From::Internet, &error(&other)), denied);
    assert_eq!(scene.oracle.opened(), 1);
}

#[test]
fn fragments_follow_the_first() {
    let mut scene = Scene::new(&[]);
    let mut whole = datagram(("10.1.0.4", 5000), ("1.2.3.4", 123), 40);
    whole.identification = 9;
    let pieces = whole.fragments(24);
    assert_eq!(scene.send(From::Hub, &pieces[1]), "fragment-orphan hub none - - - - -");
    let rest = "DefaultRule_AllowInternetOutBound Internet 0.0.0.0/0 internet -";
    assert_eq!(scene.send(From::Hub, &pieces[0]), format!("forward hub new {rest}"));
    scene.now += 30 * SECOND - 1;
    assert_eq!(scene.send_now(From::Hub, &pieces[1]), format!("forward hub established {rest}"));
    scene.now += 1;
    assert_eq!(scene.send_now(From::Hub, &pieces[1]), "fragment-orphan hub none - - - - -");
}

#[test]
fn a_full_table_refuses_one_more() {
    let mut scene = Scene::new(&[("name: hub\n", "name: hub\n        maxFlows: 1\n")]);
    let syn = |port| segment(("1.2.3.4", port), WEB, SYN);
    assert!(scene.send(From::Internet, &syn(1)).starts_with("forward hub new"));
    let full = "flow-table-full hub none UserRule_Https VnetLocal 10.1.0.0/16 - -";
    assert_eq!(scene.send(From::Internet, &syn(2)), full);
    // Ended, it still counts for 10 seconds; one that is replaced does not.
    assert!(scene.send(From::Internet, &segment(("1.2.3.4", 1), WEB, 4)).starts_with("forward"));
    assert_eq!(scene.send(From::Internet, &syn(2)), full);
    assert!(scene.send(From::Internet, &syn(1)).starts_with("forward hub new"));
    scene.wait(241 * SECOND);
    assert!(scene.send(From::Internet, &syn(2)).starts_with("forward hub new"));
}

#[test]
fn flush_connection_judges_live_records_again() {
    let without_rule = (
        "access: Allow, protocol: Tcp, sourceAddressPrefix: \"*\"",
        "access: Deny, protocol: Tcp, sourceAddressPrefix: \"*\"",
    );
    let mut scene = Scene::new(&[]);
    let ack = segment(CLIENT, WEB, ACK);
    assert!(scene.send(From::Internet, &segment(CLIENT, WEB, SYN)).starts_with("forward hub new"));
    scene.swap(&[without_rule]);
    assert!(scene.send(From::Internet, &ack).starts_with("forward hub established UserRule_Https"));
    scene.swap(&[without_rule, ("- name: web-nsg\n", "- name: web-nsg\n        flushConnection: true\n")]);
    let denied = "nsg-deny hub none UserRule_Https VnetLocal 10.1.0.0/16 - -";
    assert_eq!(scene.send(From::Internet, &ack), denied);
}

#[test]
fn sources_are_believed_only_where_they_live() {
    let mut scene = Scene::new(&[]);
    let to = ("10.1.1.9", 53);
    let spoofed = "spoofed-source hub none - - - - -";
    let from = |address: &'static str| datagram((address, 1), to, 1);
    assert!(scene.send(From::Hub, &from("10.1.1.4")).starts_with("forward hub none -"));
    // Lives on the other host; there the forwarding NIC would answer for it.
    assert_eq!(scene.send(From::Hub, &from("10.1.9.9")), spoofed);
    assert!(scene.send(From::Firewall, &from("10.1.1.4")).starts_with("forward hub new"));
    assert_eq!(scene.send(From::Firewall, &from("168.63.129.16")), spoofed);
    // Circuit: not ours, and learned there; none of the gateways leads to the Internet.
    assert!(scene.send(From::Primary, &from("192.168.1.1")).starts_with("forward hub none -"));
    assert_eq!(scene.send(From::Primary, &from("10.2.0.4")), spoofed);
    assert_eq!(scene.send(From::Primary, &from("172.31.0.1")), spoofed);
    let transit = datagram(("192.168.1.1", 1), ("9.9.9.9", 1), 1);
    assert_eq!(scene.send(From::Primary, &transit), "no-route - none - - - - -");
    // The Internet: neither private nor learned sources.
    assert_eq!(scene.send(From::Internet, &from("10.200.0.1")), spoofed);
    assert_eq!(scene.send(From::Internet, &from("192.168.1.1")), spoofed);
    assert_eq!(scene.send(From::Internet, &from("169.254.169.254")), spoofed);
    assert!(scene.send(From::Services, &from("169.254.169.254")).starts_with("forward hub none -"));
    let nobody = datagram(("1.2.3.4", 1), ("10.9.0.1", 1), 1);
    assert_eq!(scene.send(From::Internet, &nobody), "unknown-tunnel - none - - - - -");
}

#[test]
fn gateways_carry_for_spokes_and_peerings_only_what_began_there() {
    let mut scene = Scene::new(&[]);
    let up = datagram(("192.168.1.1", 1), ("10.2.0.4", 1), 1);
    let said = scene.send(From::Secondary(Some(0)), &up);
    assert_eq!(said, "forward hub none - VNetPeering 10.2.0.0/16 fabric 198.51.100.13");
    // The spoke is an nvgre tunnel: inner frame to 02-00 and the last four bytes of the address.
    let frame = scene.last.as_ref().expect("a packet").emitted[0].1.clone();
    assert_eq!(frame[42..56], [2, 0, 10, 2, 0, 4, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 8, 0]);
    assert_eq!(scene.send(From::Secondary(Some(0)), &up), "gre-sequence - none - - - - -");
    let down = datagram(("10.2.0.4", 1), ("192.168.1.1", 1), 1);
    let said = scene.send(From::Spoke, &down);
    assert_eq!(said, "forward spoke none - VirtualNetworkGateway 192.168.0.0/16 edge-a 192.0.2.2");
    // What the firewall forwards did not begin in the hub.
    let forwarded = datagram(("192.168.7.7", 1), ("10.2.0.4", 1), 1);
    let said = scene.send(From::Firewall, &forwarded);
    assert_eq!(said, "peering-forwarding hub none DefaultRule_AllowVnetOutBound VNetPeering 10.2.0.0/16 - -");
    scene.swap(&[("remoteVirtualNetwork: hub,", "remoteVirtualNetwork: hub, allowForwardedTraffic: true,")]);
    assert!(scene.send(From::Firewall, &forwarded).starts_with("forward hub new"));
}

#[test]
fn reserved_ranges_go_nowhere_until_a_default_is_defined() {
    let mut scene = Scene::new(&[]);
    let from_web = datagram(("10.1.0.4", 1), ("10.77.0.1", 1), 1);
    let denied = "nsg-deny hub none DefaultRule_DenyAllOutBound - - - -";
    assert_eq!(scene.send(From::Hub, &from_web), denied);
    let from_bare = datagram(("10.1.9.7", 1), ("10.77.0.1", 1), 1);
    assert_eq!(scene.send(From::Firewall, &from_bare), "route-none hub none - None 10.0.0.0/8 - -");
    // The route table of the app subnet has a 0.0.0.0/0: the packet goes to the firewall, whose NSG denies it.
    let from_app = datagram(("10.1.1.4", 1), ("10.77.0.1", 1), 1);
    assert_eq!(
        scene.send(From::Hub, &from_app),
        "nsg-deny hub none DefaultRule_DenyAllInBound VirtualAppliance 0.0.0.0/0 - -"
    );
    // Forced tunnelling by a learned default, and its withdrawal.
    let learned = ("prefix: 192.168.0.0/16", "prefix: 0.0.0.0/0");
    let out = datagram(("10.1.9.7", 1), ("9.9.9.9", 1), 1);
    assert_eq!(scene.send(From::Firewall, &out), "forward hub none - Internet 0.0.0.0/0 internet -");
    scene.swap(&[learned]);
    assert_eq!(
        scene.send(From::Firewall, &out),
        "forward hub none - VirtualNetworkGateway 0.0.0.0/0 edge-a 192.0.2.2"
    );
    scene.swap(&[]);
    assert_eq!(scene.send(From::Firewall, &out), "forward hub none - Internet 0.0.0.0/0 internet -");
}

#[test]
fn size_and_ttl_are_answered() {
    let mut scene = Scene::new(&[]);
    let mut big = datagram(("192.168.1.1", 1), ("10.1.1.4", 1), 1472);
    assert!(scene.send(From::Primary, &big).starts_with("forward hub none"));
    let mut out = datagram(("10.1.1.4", 1), ("192.168.1.1", 1), 1473);
    assert!(scene.send(From::Hub, &out).starts_with("forward hub none"));
    // Room 1500 - 20 - 8 = 1472: 1448 bytes of payload fit, 33 are left.
    let sizes: Vec<usize> =
        scene.last.as_ref().expect("a packet").emitted.iter().map(|(_, f)| f.len() - 42).collect();
    assert_eq!(sizes, [1468, 53]);
    out.dont_fragment = true;
    let said = scene.send(From::Hub, &out);
    assert_eq!(said, "too-big hub none - VirtualNetworkGateway 192.168.0.0/16 - -");
    let error = scene.inner();
    // From the subnet's first usable address, type 3 code 4, room 1472, 576 bytes in all.
    assert_eq!(error[12..20], [10, 1, 1, 1, 10, 1, 1, 4]);
    assert_eq!(error[20..22], [3, 4]);
    assert_eq!(error[26..28], 1472u16.to_be_bytes());
    assert_eq!(error.len(), 576);
    assert_eq!(error[28..], out.bytes()[..548]);
    big.ttl = 1;
    let said = scene.send(From::Primary, &big);
    assert_eq!(said, "ttl-expired hub none - VnetLocal 10.1.0.0/16 - -");
    let error = scene.inner();
    assert_eq!(error[12..20], [192, 0, 2, 1, 192, 168, 1, 1]);
    assert_eq!(error[20..22], [11, 0]);
    // From nvgre to nvgre the TTL is left alone.
    let mut bridged = datagram(("10.2.0.4", 1), ("10.2.0.5", 1), 1);
    bridged.ttl = 1;
    assert!(scene.send(From::Spoke, &bridged).starts_with("forward spoke none"));
    assert_eq!(scene.inner()[8], 1);
}

#[test]
fn platform_addresses_are_asked_only_by_their_tags() {
    let mut scene = Scene::new(&[]);
    let dns = datagram(("10.1.0.4", 5000), ("168.63.129.16", 53), 10);
    assert_eq!(scene.send(From::Hub, &dns), "nsg-deny hub none UserRule_NoDns - - - -");
    let other = datagram(("10.1.0.4", 5000), ("168.63.129.16", 80), 10);
    assert_eq!(scene.send(From::Hub, &other), "forward hub none - Internet 0.0.0.0/0 services -");
    // Also where a route table has another default.
    let app = datagram(("10.1.1.4", 5000), ("169.254.169.254", 80), 10);
    assert_eq!(scene.send(From::Hub, &app), "forward hub none - Internet 0.0.0.0/0 services -");
    let answer = datagram(("168.63.129.16", 80), ("10.1.0.4", 5000), 10);
    let said = scene.send(From::Services, &answer);
    assert_eq!(said, "forward hub none - VnetLocal 10.1.0.0/16 fabric 198.51.100.11");
}

#[test]
fn bare_addresses_are_endpoints_of_their_own() {
    let relay = (
        "          - {name: GatewaySubnet",
        "          - {name: relay, addressPrefix: 10.1.8.0/24, networkSecurityGroup: fw-nsg}\n          - {name: GatewaySubnet",
    );
    let by_relay = [
        relay,
        (
            "0.0.0.0/0, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.9.4",
            "10.1.0.0/24, nextHopType: VirtualAppliance, nextHopIpAddress: 10.1.8.4",
        ),
    ];
    let mut scene = Scene::new(&by_relay);
    let request = datagram(("10.1.1.4", 1000), ("10.1.0.9", 2000), 10);
    let said = scene.send(From::Hub, &request);
    assert_eq!(
        said,
        "forward hub new DefaultRule_AllowVnetInBound VirtualAppliance 10.1.0.0/24 fabric 198.51.100.11"
    );
    // The record was the relay's, though its local address is the packet's destination.
    scene.swap(&[relay]);
    let said = scene.send(From::Hub, &request);
    assert_eq!(
        said,
        "forward hub new DefaultRule_AllowVnetInBound VnetLocal 10.1.0.0/16 fabric 198.51.100.11"
    );
    // An error of somebody else about it is judged by that one's rules.
    let error = Ip::new(ip("10.1.0.77"), ip("10.1.1.4"), 1, icmp(3, 3, 0, &request.bytes()));
    assert!(scene.send(From::Hub, &error).starts_with("forward hub new DefaultRule_AllowVnetOutBound"));
}

#[test]
fn two_replaced_records_of_one_packet_do_not_count() {
    let nsg = (
        "{name: app, addressPrefix: 10.1.1.0/24, routeTable: app-rt}",
        "{name: app, addressPrefix: 10.1.1.0/24, networkSecurityGroup: fw-nsg}",
    );
    let mut scene = Scene::new(&[nsg, ("name: hub\n", "name: hub\n        maxFlows: 2\n")]);
    let syn = segment(("10.1.1.4", 1), WEB, SYN);
    assert!(scene.send(From::Hub, &syn).starts_with("forward hub new"));
    assert!(scene.send(From::Hub, &segment(("10.1.1.4", 1), WEB, 4)).starts_with("forward hub established"));
    assert!(scene.send(From::Hub, &syn).starts_with("forward hub new"));
    assert_eq!((scene.oracle.opened(), scene.oracle.live()), (4, 2));
}

#[test]
fn options_with_a_wrong_length_are_not_copied() {
    let mut scene = Scene::new(&[]);
    let mut packet = datagram(("10.1.1.4", 1), ("192.168.1.1", 1), 1473);
    packet.options = vec![0x94, 4, 0, 0, 0x94, 1, 0, 0];
    assert!(scene.send(From::Hub, &packet).starts_with("forward hub none"));
    let frames = &scene.last.as_ref().expect("a packet").emitted;
    assert_eq!((frames[0].1[42], frames[1].1[42]), (0x47, 0x46));
}

#[test]
fn a_platform_address_in_a_learned_prefix_is_not_believed() {
    let packet = datagram(("169.254.169.254", 53), ("10.1.1.4", 40_000), 10);
    assert!(Scene::new(&[]).send(From::Services, &packet).starts_with("forward hub "));
    let mut scene = Scene::new(&[("prefix: 192.168.0.0/16", "prefix: 128.0.0.0/1")]);
    assert_eq!(scene.send(From::Services, &packet), "spoofed-source hub none - - - - -");
}
