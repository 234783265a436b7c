//! Encapsulations: NVGRE, IPv6 inside and outside, sequence numbers, congestion and class of service.

use clearway::packet::NextHopType::{
    Internet, VNetPeering, VirtualAppliance, VirtualNetworkGateway, VnetLocal,
};
use clearway::packet::Reason;

use crate::frame::{Frame, mac_of};
use crate::packet::{Packet, address, icmp, other, ping, tcp, udp};
use crate::story::{Story, with};

pub fn nvgre() -> Story {
    let mut s = Story::new(
        "nvgre",
        "A VNet carried as Ethernet in GRE: its MAC addresses, its reserved subnets, and the TTL that a bridge leaves alone.",
        NVGRE,
    );
    let lan = s.nvgre_host("contoso/lan", "fabric", "198.51.100.12", 0x1a02);
    let vm = lan.mac("00-0D-3A-00-00-04");
    let left = lan.mac("00-0D-3A-00-00-0A");
    let right = lan.mac("00-0D-3A-00-00-0B");
    let hub = s.host("contoso/hub", "fabric", "198.51.100.11", 0x1a_0200);
    let local = (VnetLocal, "10.2.0.0/16");
    let (a, b, in_hub) = ("10.2.0.4:5000", "10.2.0.5:5000", "10.1.0.4:5000");

    s.scene("From NIC to address: the flow id is not kept, the TTL is, and an address without NIC has a MAC made of it.");
    let packet = udp(a, b);
    s.frame(vm, vm.wrap(&packet).flow_id(0x77)).becomes([packet]).via(local).to(lan);
    s.send(lan, udp(b, a)).becomes([udp(b, a)]).via(local).to(vm);
    s.scene("Even the last hop is left alone between two of them...");
    let last = udp(a, b).ttl(1);
    s.send(vm, last.clone()).becomes([last.clone()]).via(local).to(lan);
    s.scene("...but not towards another encapsulation; the answer goes to the MAC it came from.");
    s.send(vm, udp(a, in_hub)).via((VNetPeering, "10.1.0.0/16")).to(hub);
    s.send(vm, udp(a, in_hub).ttl(1))
        .ends(Reason::TtlExpired)
        .via((VNetPeering, "10.1.0.0/16"))
        .time_exceeded("10.2.0.1");
    s.scene("The hub's key is the same number on the wire; the protocol type tells them apart.");
    s.send(hub, udp(in_hub, a)).via((VNetPeering, "10.2.0.0/16")).to(vm);
    s.send(hub, udp(in_hub, a).ttl(0))
        .ends(Reason::TtlExpired)
        .via((VNetPeering, "10.2.0.0/16"))
        .time_exceeded("10.1.0.1");

    s.scene("To an appliance: the frame goes to the appliance's MAC, the packet keeps its destination.");
    s.send(vm, udp(a, "172.20.0.9:5000"))
        .becomes([udp(a, "172.20.0.9:5000")])
        .via((VirtualAppliance, "172.20.0.0/16"))
        .to(left);
    s.scene("Two forwarding NICs on one host: the MAC says which; the right one's group denies.");
    s.send(left, udp("172.20.0.9:5000", a)).becomes([udp("172.20.0.9:5000", a)]).via(local).to(vm);
    s.send(right, udp("172.20.0.9:5000", a)).ends(Reason::NsgDeny).rule("UserRule_DenyAll");
    s.scene("A MAC that is neither's may not forward.");
    s.send(vm, udp("172.20.0.9:5000", a)).ends(Reason::SpoofedSource);

    s.scene("Virtual subnets up to 0xfff, and the last, are reserved: no tunnel is looked for.");
    for subnet in [0_u32, 0xfff, 0xff_ffff] {
        let key = (subnet << 8).to_be_bytes();
        s.frame(vm, vm.wrap(&udp(a, b)).gre(|gre| gre[4..8].copy_from_slice(&key)))
            .ends(Reason::NvgreMalformed);
    }
    s.frame(vm, vm.wrap(&udp(a, b)).gre(|gre| gre[5] = 0xee)).ends(Reason::UnknownTunnel);
    s.scene("An inner frame cut short, or with a tag of either kind.");
    s.frame(vm, vm.wrap(&udp(a, b)).gre(|gre| gre.truncate(8 + 13))).ends(Reason::NvgreMalformed);
    for kind in [0x8100_u16, 0x88a8] {
        let tag = [kind.to_be_bytes(), 5_u16.to_be_bytes()].concat();
        s.frame(vm, vm.wrap(&udp(a, b)).gre(|gre| gre.splice(20..20, tag).for_each(drop)))
            .ends(Reason::NvgreMalformed);
    }
    s.scene("ARP is nothing that a VNet carries.");
    s.frame(vm, vm.wrap(&udp(a, b)).gre(|gre| gre[21] = 6)).ends(Reason::InnerMalformed);
    s.flows(0, 0)
}

const NVGRE: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: app, addressPrefix: 10.1.0.0/24}]
        virtualNetworkPeerings: [{name: to-lan, remoteVirtualNetwork: lan}]
      - name: lan
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.2.0.0/24, routeTable: via-left}
          - {name: routers, addressPrefix: 10.2.9.0/24}
        virtualNetworkPeerings: [{name: to-hub, remoteVirtualNetwork: hub}]
    networkSecurityGroups:
      - name: closed
        securityRules:
          - {name: DenyAll, priority: 100, direction: Outbound, access: Deny, protocol: "*",
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
    routeTables:
      - name: via-left
        routes:
          - {name: lab, addressPrefix: 172.20.0.0/16, nextHopType: VirtualAppliance, nextHopIpAddress: 10.2.9.10}
    networkInterfaces:
      - name: vm-nic
        macAddress: 00-0D-3A-00-00-04
        ipConfigurations: [{privateIPAddress: 10.2.0.4, subnet: lan/app}]
      - name: left-nic
        macAddress: 00-0D-3A-00-00-0A
        enableIPForwarding: true
        ipConfigurations: [{privateIPAddress: 10.2.9.10, subnet: lan/routers}]
      - name: right-nic
        macAddress: 00-0D-3A-00-00-0B
        enableIPForwarding: true
        networkSecurityGroup: closed
        ipConfigurations: [{privateIPAddress: 10.2.9.11, subnet: lan/routers}]
    tunnels:
      - {vnet: hub, port: fabric, key: 0x1a0200}
      - {vnet: lan, port: fabric, key: 0x1a02, encapsulation: nvgre}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: lan, prefixes: [10.2.0.0/16]}
"#;

pub fn ipv6() -> Story {
    let mut s = Story::new(
        "ipv6",
        "IPv6 inside and outside: rules, routes, extension headers, fragments and answers of both families.",
        IPV6,
    );
    let app = s.host("contoso/hub", "fabric6", "2001:db8:f::11", 0xa01);
    let spoke = s.host("contoso/spoke", "fabric", "198.51.100.12", 0xa02);
    let internet = s.plain("contoso/hub", "internet");
    let local = (VnetLocal, "fd00:1::/48");
    let default = (Internet, "::/0");
    let (here, near, far) = ("[fd00:1::4]:5000", "[fd00:1::5]:443", "[2606:2800:220:1::1]:443");

    s.scene("Within a subnet, to a peered VNet whose hosts speak IPv4, and to the Internet.");
    s.send(app, tcp(here, near, "SYN")).opens("DefaultRule_AllowVnetInBound").via(local).to(app);
    s.send(app, tcp(here, "[fd00:2::4]:443", "SYN"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via((VNetPeering, "fd00:2::/48"))
        .to(spoke);
    s.send(spoke, tcp("[fd00:2::4]:443", here, "SYN ACK"))
        .established("DefaultRule_AllowVnetOutBound")
        .via((VNetPeering, "fd00:1::/48"))
        .to(app);
    s.send(app, tcp(here, far, "SYN")).opens("DefaultRule_AllowInternetOutBound").via(default).to(internet);
    s.send(internet, tcp(far, here, "SYN ACK"))
        .established("DefaultRule_AllowInternetOutBound")
        .via(local)
        .to(app);
    s.scene("The same VNet carries IPv4 in the same tunnel.");
    s.send(app, udp("10.1.0.4:5000", "10.2.0.4:53"))
        .opens("DefaultRule_AllowVnetOutBound")
        .via((VNetPeering, "10.2.0.0/16"))
        .to(spoke);
    s.scene("A rule for a range of IPv6; a rule for ICMP holds for ICMPv6.");
    s.send(internet, tcp("[2001:db8:5::9]:40000", near, "SYN"))
        .opens("UserRule_AllowPartner")
        .via(local)
        .to(app);
    s.send(internet, tcp("[2001:db8:6::9]:40000", near, "SYN"))
        .ends(Reason::NsgDeny)
        .rule("DefaultRule_DenyAllInBound")
        .via(local);
    s.send(internet, ping("2001:db8:6::9", "fd00:1::5", 7)).opens("UserRule_AllowPing").via(local).to(app);
    s.scene("There are no reserved ranges: what is not global unicast is not Internet for rules, but is for routes.");
    s.send(app, udp(here, "[fd99::1]:53")).ends(Reason::NsgDeny).rule("DefaultRule_DenyAllOutBound");
    s.send(spoke, udp("[fd00:2::4]:53", "[fd99::1]:53")).via(default).to(internet);

    s.scene("Extension headers are walked to the ports...");
    let hop_by_hop = [0, 0, 5, 2, 0, 0, 1, 0];
    let options = [0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = tcp("[2001:db8:5::9]:40001", near, "SYN").extended(60, &options).extended(0, &hop_by_hop);
    s.send(internet, long).opens("UserRule_AllowPartner").via(local).to(app);
    s.scene("...a fragment header that is no fragment too, and a routing header.");
    let atomic = tcp("[2001:db8:5::9]:40002", near, "SYN").extended(44, &[0, 0, 0, 0, 0, 0, 0, 9]);
    s.send(internet, atomic).opens("UserRule_AllowPartner").via(local).to(app);
    let routed = tcp("[2001:db8:5::9]:40003", near, "SYN").extended(43, &[0; 8]);
    s.send(internet, routed).opens("UserRule_AllowPartner").via(local).to(app);
    s.scene("A chain that does not fit; an unknown header is the protocol, which no rule with ports allows.");
    let broken = tcp("[2001:db8:5::9]:40004", near, "SYN").extended(60, &[0, 200, 0, 0, 0, 0, 0, 0]);
    s.send(internet, broken).ends(Reason::InnerMalformed);
    let mobile = tcp("[2001:db8:5::9]:40004", near, "SYN").extended(135, &[0; 8]);
    s.send(internet, mobile).ends(Reason::NsgDeny).rule("DefaultRule_DenyAllInBound").via(local);
    s.scene("Fragments: the second follows the first.");
    let datagram = udp(here, "[fd00:1::5]:514").carrying(1400);
    s.send(app, datagram.fragment(9, 1200..1412)).ends(Reason::FragmentOrphan);
    s.send(app, datagram.fragment(9, 0..1200)).opens("DefaultRule_AllowVnetInBound").via(local).to(app);
    s.send(app, datagram.fragment(9, 1200..1412))
        .established("DefaultRule_AllowVnetInBound")
        .via(local)
        .to(app);
    s.scene("The hop limit runs out; the answer comes from the subnet's first address, or the port's, if it has one.");
    s.send(app, udp(here, "[fd00:1::5]:515").ttl(1))
        .ends(Reason::TtlExpired)
        .rule("DefaultRule_AllowVnetInBound")
        .via(local)
        .time_exceeded("fd00:1::1");
    s.send(internet, ping("2001:db8:6::9", "fd00:1::5", 7).ttl(1))
        .ends(Reason::TtlExpired)
        .established("UserRule_AllowPing")
        .via(local);

    s.scene(
        "The delivery header: fragment, extension header, length, another protocol, another destination.",
    );
    let good = app.wrap(&udp(here, near));
    s.frame(
        app,
        good.clone()
            .gre(|gre| gre.splice(..0, [47, 0, 0, 1, 0, 0, 0, 9]).for_each(drop))
            .outer(|ip| ip[6] = 44),
    )
    .ends(Reason::OuterFragment);
    s.frame(
        app,
        good.clone()
            .gre(|gre| gre.splice(..0, [47, 0, 1, 4, 0, 0, 0, 0]).for_each(drop))
            .outer(|ip| ip[6] = 0),
    )
    .ends(Reason::NotGre);
    s.frame(app, good.clone().outer(|ip| ip[5] += 1)).ends(Reason::OuterMalformed);
    s.frame(app, good.clone().outer(|ip| ip[39] = 3)).ends(Reason::NotForUs);
    let solicitation = icmp("2001:db8:f::11", "2001:db8:f::2", (135, 0), 0, &[0; 16]);
    let mac = mac_of(address("2001:db8:f::2"));
    s.frame(app, Frame::plain(mac, mac, &solicitation)).ends(Reason::NotGre);
    s.scene("And what stands behind it: its source is nobody's host.");
    s.frame(app, good.outer(|ip| ip[23] = 0x99)).ends(Reason::TunnelPeer);
    s.scene("Neighbour discovery on a plain port, even behind an extension header.");
    let advertisement = icmp("fe80::1", "ff02::1", (134, 0), 0, &[0; 8]).ttl(255);
    s.send(internet, advertisement.clone()).ends(Reason::NotForUs);
    s.send(internet, advertisement.extended(0, &hop_by_hop)).ends(Reason::NotForUs);
    s.scene("A protocol number of the other family is only a number.");
    s.send(spoke, other("fd00:2::4", "2606:2800:220:1::1", 1, b"x")).via(default).to(internet);
    s.flows(12, 12)
}

const IPV6: &str = r#"
apiVersion: clearway/v1
ports:
  fabric:   {role: fabric,   address: 198.51.100.2, mtu: 1600}
  fabric6:  {role: fabric,   address: "2001:db8:f::2", mtu: 1600}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, "fd00:1::/48"]}
        subnets:
          - {name: app, addressPrefixes: [10.1.0.0/24, "fd00:1::/64"], networkSecurityGroup: app-nsg}
        virtualNetworkPeerings: [{name: to-spoke, remoteVirtualNetwork: spoke}]
      - name: spoke
        addressSpace: {addressPrefixes: [10.2.0.0/16, "fd00:2::/48"]}
        subnets: [{name: app, addressPrefixes: [10.2.0.0/24, "fd00:2::/64"]}]
        virtualNetworkPeerings: [{name: to-hub, remoteVirtualNetwork: hub}]
    networkSecurityGroups:
      - name: app-nsg
        securityRules:
          - {name: AllowPartner, priority: 100, direction: Inbound, access: Allow, protocol: Tcp,
             sourceAddressPrefix: "2001:db8:5::/48", sourcePortRange: "*", destinationAddressPrefix: "fd00:1::/64", destinationPortRange: "443"}
          - {name: AllowPing, priority: 110, direction: Inbound, access: Allow, protocol: Icmp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "*"}
    tunnels:
      - {vnet: hub,   port: fabric6, key: 0xa01}
      - {vnet: spoke, port: fabric,  key: 0xa02}
    hosts:
      - {address: "2001:db8:f::11", vnet: hub, prefixes: [10.1.0.0/24, "fd00:1::/64"]}
      - {address: 198.51.100.12, vnet: spoke, prefixes: [10.2.0.0/24, "fd00:2::/64"]}
"#;

pub fn sequence_numbers() -> Story {
    let mut s = Story::new(
        "sequence-numbers",
        "GRE sequence numbers: checked where they are strict, sent where they are wanted, per tunnel and remote.",
        SEQUENCE_NUMBERS,
    );
    let a = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01).numbered();
    let b = s.host("contoso/hub", "fabric", "198.51.100.12", 0xa01).numbered();
    let link = s.site("contoso/hub", "edge-a", "192.0.2.2", 0xc01).numbered();
    let local = (VnetLocal, "10.1.0.0/16");
    let remote = (VirtualNetworkGateway, "192.168.0.0/16");
    let out = udp("10.1.0.4:5000", "192.168.1.10:5000");
    let cross = udp("10.1.0.4:5000", "10.1.1.4:5000");

    s.scene("From zero, upwards; a gap is no fault.");
    for number in [0, 1, 5] {
        s.frame(a, a.wrap(&out).numbered(number)).carries(out.clone()).via(remote).to(link);
    }
    s.scene("Repeated or older.");
    for number in [5, 3, 0] {
        s.frame(a, a.wrap(&out).numbered(number)).ends(Reason::GreSequence);
    }
    s.scene("A frame without a number passes.");
    s.send(a, out.clone()).via(remote).to(link);
    s.scene("A packet that is dropped later has moved the number all the same.");
    let bad = udp("10.1.0.4:5000", "224.0.0.5:5000");
    s.frame(a, a.wrap(&bad).numbered(6)).ends(Reason::InnerBlocked);
    s.frame(a, a.wrap(&out).numbered(6)).ends(Reason::GreSequence);
    s.scene("Another host has its own numbers; what is sent to it, too.");
    let back = udp("10.1.1.4:5000", "10.1.0.4:5000");
    s.frame(b, b.wrap(&back).numbered(0)).carries(back.clone()).via(local).to(a);
    s.frame(a, a.wrap(&cross).numbered(7)).carries(cross.clone()).via(local).to(b);
    s.scene("Half the numbers are newer, the other half older.");
    s.frame(b, b.wrap(&back).numbered(0x8000_0000)).carries(back.clone()).via(local).to(a);
    s.frame(b, b.wrap(&back).numbered(0)).carries(back.clone()).via(local).to(a);
    s.frame(b, b.wrap(&back).numbered(0xffff_ffff)).ends(Reason::GreSequence);
    s.scene("The link sends numbers but does not check those it receives.");
    let answer = udp("192.168.1.10:5000", "10.1.0.4:5000");
    for number in [9, 9] {
        s.frame(link, link.wrap(&answer).numbered(number)).carries(answer.clone()).via(local).to(a);
    }
    s.scene("An answer of Clearway's own has a number too.");
    s.send(link, answer.clone().ttl(1)).ends(Reason::TtlExpired).via(local).time_exceeded("192.0.2.1");
    s.swap(5, "wider.yaml", with(SEQUENCE_NUMBERS, "[10.1.0.0/24]", "[10.1.0.0/24, 10.1.2.0/24]"));
    s.scene("Numbers of a tunnel outlive a change of configuration, in both directions.");
    s.frame(a, a.wrap(&out).numbered(7)).ends(Reason::GreSequence);
    s.frame(a, a.wrap(&out).numbered(8)).carries(out).via(remote).to(link);
    s.flows(0, 0)
}

const SEQUENCE_NUMBERS: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2, mtu: 1600}
  edge-a: {role: edge,   address: 192.0.2.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets:
          - {name: app, addressPrefix: 10.1.0.0/24}
          - {name: db, addressPrefix: 10.1.1.0/24}
          - {name: more, addressPrefix: 10.1.2.0/24}
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
      - {vnet: hub, port: fabric, key: 0xa01, sequence: strict}
      - {circuit: er1, peering: AzurePrivatePeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 0xc01, sequence: send}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}
      - {address: 198.51.100.12, vnet: hub, prefixes: [10.1.1.0/24]}
    learnedRoutes:
      - {prefix: 192.168.0.0/16, circuit: er1, peering: AzurePrivatePeering, link: primary}
"#;

pub fn ecn_dscp() -> Story {
    let mut s = Story::new(
        "ecn-dscp",
        "Congestion marks are merged as RFC 6040 says and nothing else: the class of service inside is the customer's own.",
        ECN_DSCP,
    );
    let a = s.host("contoso/hub", "fabric", "198.51.100.11", 0xa01);
    let internet = s.plain("contoso/hub", "internet");
    let local = (VnetLocal, "10.1.0.0/16");
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    let marked = |tos: u8| udp("10.1.0.4:5000", "10.1.0.5:5000").tos(tos);

    s.scene("All sixteen pairs of outer and inner marks, with class EF inside and AF41 outside.");
    let merged = [
        (NOT_ECT, [Some(NOT_ECT), Some(ECT1), Some(ECT0), Some(CE)]),
        (ECT1, [Some(NOT_ECT), Some(ECT1), Some(ECT1), Some(CE)]),
        (ECT0, [Some(NOT_ECT), Some(ECT1), Some(ECT0), Some(CE)]),
        (CE, [None, Some(CE), Some(CE), Some(CE)]),
    ];
    for (outer, inners) in merged {
        for (inner, mark) in [NOT_ECT, ECT1, ECT0, CE].into_iter().zip(inners) {
            let frame = a.wrap(&marked(46 << 2 | inner)).outer(|ip| ip[1] = 34 << 2 | outer);
            let arrival = s.frame(a, frame);
            match mark {
                None => arrival.ends(Reason::EcnIllegal),
                Some(mark) => arrival.becomes([marked(46 << 2 | mark).aged()]).via(local).to(a),
            };
        }
    }
    s.scene("IPv6 inside is no different.");
    let six = |tos: u8| -> Packet { udp("[fd00:1::4]:5000", "[fd00:1::5]:5000").tos(tos) };
    let frame = a.wrap(&six(10 << 2 | ECT0)).outer(|ip| ip[1] = CE);
    s.frame(a, frame).becomes([six(10 << 2 | CE).aged()]).via((VnetLocal, "fd00:1::/48")).to(a);
    s.frame(a, a.wrap(&six(10 << 2)).outer(|ip| ip[1] = CE)).ends(Reason::EcnIllegal);
    s.scene("What comes plain has no outer mark; what leaves plain has no outer class.");
    let inward = udp("8.8.8.8:53", "10.1.0.4:5000").tos(26 << 2 | CE);
    s.send(internet, inward).via(local).to(a);
    let outward = udp("10.1.0.4:5000", "8.8.8.8:53").tos(26 << 2 | ECT1);
    s.send(a, outward).via((Internet, "0.0.0.0/0")).to(internet);
    s.flows(0, 0)
}

const ECN_DSCP: &str = r#"
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
    tunnels:
      - {vnet: hub, port: fabric, key: 0xa01}
    hosts:
      - {address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24, "fd00:1::/64"]}
"#;
