//! What configurations ask of links.

use std::fs;

use super::*;
use crate::compile::compile;
use crate::compile::names::Names;
use crate::model;

const HEAD: &str = "\
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2}
  edge-a: {role: edge, address: 192.0.2.1, mtu: 1600}
  edge-b: {role: edge, address: '2001:db8::1'}
customers:
";

/// A hub with a gateway, a spoke that uses it, one that does not, and a VNet with a gateway of its own.
const CONTOSO: &str = r#"
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16, "fd00:1::/48"]}
        subnets: [{name: web, addressPrefix: 10.1.0.0/24}, {name: GatewaySubnet, addressPrefix: 10.1.255.0/27}]
        virtualNetworkPeerings:
          - {name: a, remoteVirtualNetwork: user, allowGatewayTransit: true}
          - {name: b, remoteVirtualNetwork: other, allowGatewayTransit: true}
          - {name: c, remoteVirtualNetwork: gone, allowGatewayTransit: true, peeringState: Disconnected}
      - name: user
        addressSpace: {addressPrefixes: [10.2.0.0/16]}
        virtualNetworkPeerings: [{name: hub, remoteVirtualNetwork: hub, useRemoteGateways: true}]
      - name: other
        addressSpace: {addressPrefixes: [10.3.0.0/16]}
        virtualNetworkPeerings: [{name: hub, remoteVirtualNetwork: hub}]
      - name: gone
        addressSpace: {addressPrefixes: [10.4.0.0/16]}
        virtualNetworkPeerings: [{name: hub, remoteVirtualNetwork: hub, useRemoteGateways: true}]
      - name: apart
        addressSpace: {addressPrefixes: [10.5.0.0/16]}
        subnets: [{name: GatewaySubnet, addressPrefix: 10.5.255.0/27}]
    routeFilters:
      - {name: v4, rules: [{name: r, access: Allow, routeFilterRuleType: Community, communities: ["12076:5010", "12076:5020"]}]}
      - {name: v6, rules: [{name: r, access: allow, communities: [12076:5020]}]}
    expressRouteCircuits:
      - name: er
        sku: {tier: Premium}
        peerings:
          - {name: AzurePrivatePeering, azureASN: 12077, peerASN: 4200000001, sharedKey: s3cret, vlanId: 100,
             primaryPeerAddressPrefix: 192.168.255.0/30, secondaryPeerAddressPrefix: 192.168.255.4/30,
             ipv6PeeringConfig: {primaryPeerAddressPrefix: "fd00:ff::/126"}}
          - {name: MicrosoftPeering, peerASN: 65001, primaryPeerAddressPrefix: 203.0.113.0/30,
             microsoftPeeringConfig: {advertisedPublicPrefixes: [203.0.113.128/25]},
             ipv6PeeringConfig: {secondaryPeerAddressPrefix: "2001:db8:ff::4/126", routeFilter: v6,
               microsoftPeeringConfig: {advertisedPublicPrefixes: ["2001:db8:7::/48"]}},
             routeFilter: {id: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeFilters/V4}}
          - {name: AzurePublicPeering, peerASN: 65001, state: Disabled, primaryPeerAddressPrefix: 203.0.113.8/30}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
      - {name: apart-er, gatewayType: ExpressRoute, virtualNetwork: apart}
    connections:
      - {name: c1, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er}
      - {name: c2, connectionType: ExpressRoute, virtualNetworkGateway1: apart-er, peer: er}
    tunnels:
      - {vnet: hub, port: fabric, key: 1}
      - {vnet: user, port: fabric, key: 2}
      - {vnet: other, port: fabric, key: 3}
      - {vnet: gone, port: fabric, key: 4}
      - {vnet: apart, port: fabric, key: 5}
      - {circuit: er, link: primary, port: edge-a, remote: 192.0.2.2, key: 1}
      - {circuit: er, link: secondary, port: edge-b, remote: "2001:db8::2", key: 2, sequence: send, enabled: false}
      - {circuit: er, peering: MicrosoftPeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 3}
      - {circuit: er, peering: MicrosoftPeering, link: secondary, port: edge-b, remote: "2001:db8::2", key: 0x2000, encapsulation: nvgre}
      - {circuit: er, peering: AzurePublicPeering, link: primary, port: edge-a, remote: 192.0.2.2, key: 5}
      - {circuit: er, peering: AzurePublicPeering, link: secondary, port: edge-a, remote: 192.0.2.2, key: 6}
    learnedRoutes: [{prefix: 172.16.0.0/12, circuit: er}]
"#;

const COMMUNITIES: &str = r#"{"value": [{"name": "Exchange", "properties": {"bgpCommunities": [
    {"communityValue": "12076:5010", "communityPrefixes": ["13.107.6.0/24", "52.96.0.0/14", "2603:1006::/40"]},
    {"communityValue": "12076:5020", "communityPrefixes": ["52.96.0.0/14", "2603:1061::/40"]},
    {"communityValue": "12076:5030", "communityPrefixes": ["104.44.0.0/16"]}]}}]}"#;

fn read(customers: &str) -> Model {
    model::from_bytes("c.yaml", format!("{HEAD}{customers}").as_bytes(), None)
        .unwrap_or_else(|faults| panic!("{}", faults[0]))
}

/// The whole, with the file of communities.
fn whole() -> Model {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("communities.json"), COMMUNITIES).unwrap();
    let text = format!("communities: communities.json\n{HEAD}{CONTOSO}");
    model::from_bytes("c.yaml", text.as_bytes(), Some(folder.path()))
        .unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn advertised(spec: &LinkSpec) -> String {
    let bgp = spec.bgp.as_ref().unwrap();
    let texts = bgp.advertised.iter().map(|a| {
        let communities =
            a.communities.iter().map(|c| format!(" {}", model::communities::write_community(*c)));
        a.prefix.to_string() + &communities.collect::<String>()
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_link_with_a_tunnel_and_a_prefix_is_asked_for() {
    let specs = specs(&whole());
    let seen: Vec<_> = specs
        .iter()
        .map(|s| {
            let ends =
                s.ends.map(|e| e.map_or("-".to_owned(), |e| format!("{} {} {}", e.peer, e.local, e.prefix)));
            format!("{} {} {} {} {}", s.key.peering, s.key.link.name(), ends.join(" "), s.mtu, s.enabled)
        })
        .collect();
    assert_eq!(
        seen,
        [
            "AzurePrivatePeering primary 192.168.255.1 192.168.255.2 192.168.255.0/30 fd00:ff::1 fd00:ff::2 \
             fd00:ff::/126 1572 true",
            "AzurePrivatePeering secondary 192.168.255.5 192.168.255.6 192.168.255.4/30 - 1448 false",
            "MicrosoftPeering primary 203.0.113.1 203.0.113.2 203.0.113.0/30 - 1572 true",
            "MicrosoftPeering secondary - 2001:db8:ff::5 2001:db8:ff::6 2001:db8:ff::4/126 1438 true",
            "AzurePublicPeering primary 203.0.113.9 203.0.113.10 203.0.113.8/30 - 1572 false",
        ]
    );
    assert!(specs.iter().all(|s| (s.key.customer.as_str(), s.key.circuit.as_str()) == ("contoso", "er")));
    let kinds = [PeeringKind::Private, PeeringKind::Private, PeeringKind::Microsoft, PeeringKind::Microsoft];
    assert!(specs.iter().zip(kinds).all(|(s, kind)| s.kind == kind && s.kernel.is_none()));
}

#[test]
fn private_peering_advertises_spaces_and_has_the_limits_of_its_tier() {
    let specs = specs(&whole());
    let bgp = specs[0].bgp.as_ref().unwrap();
    assert_eq!((bgp.asn, bgp.peer_asn, bgp.shared_key.as_deref()), (12077, 4_200_000_001, Some("s3cret")));
    assert_eq!(bgp.policies, [Policy::private(Family::V4, true), Policy::private(Family::V6, true)]);
    assert_eq!(bgp.held_down, None);
    assert_eq!(advertised(&specs[0]), "10.1.0.0/16, 10.2.0.0/16, 10.5.0.0/16, fd00:1::/48");
    assert_eq!(specs[0].bgp, specs[1].bgp);
    let standard = super::specs(&read(&CONTOSO.replace("tier: Premium", "tier: Standard")));
    assert_eq!(standard[0].bgp.as_ref().unwrap().policies[0].limit(), 4000);
}

#[test]
fn microsoft_peering_advertises_what_its_filters_allow() {
    let specs = specs(&whole());
    let bgp = specs[2].bgp.as_ref().unwrap();
    assert_eq!((bgp.asn, bgp.peer_asn, &bgp.shared_key), (12076, 65001, &None));
    let within = ["203.0.113.128/25", "2001:db8:7::/48"].map(|p| p.parse().unwrap()).to_vec();
    assert_eq!(bgp.policies, [Policy::public(within.clone()), Policy::public(within)]);
    // A prefix of two communities has both; IPv6 has a filter of its own.
    assert_eq!(
        advertised(&specs[2]),
        "13.107.6.0/24 12076:5010, 52.96.0.0/14 12076:5010 12076:5020, 2603:1061::/40 12076:5020"
    );
    assert_eq!(specs[2].bgp, specs[3].bgp);
    // No filter, no prefixes; and nothing is learned where nothing was named.
    assert_eq!(advertised(&specs[4]), "");
    let refused = "198.51.100.0/24".parse().unwrap();
    assert!(specs[4].bgp.as_ref().unwrap().policies[0].refuses(&refused).is_some());
    // Without the file nothing is known of communities.
    let model = read(CONTOSO);
    assert_eq!(advertised(&super::specs(&model)[2]), "");
    assert_eq!(model.warnings.iter().filter(|w| w.message.contains("add communities:")).count(), 2);
}

#[test]
fn sessions_that_cannot_come_up_say_why() {
    let with = |asns: &str| {
        let specs = specs(&read(&CONTOSO.replace("azureASN: 12077, peerASN: 4200000001", asns)));
        (specs[0].bgp.as_ref().map(|b| b.held_down.clone()), specs[0].kernel.is_some())
    };
    assert_eq!(with("peerASN: 65001"), (Some(None), false));
    assert_eq!(with("azureASN: 65001"), (None, false));
    assert_eq!(with("peerASN: 65001, routes: bgp"), (Some(None), false));
    assert_eq!(with("peerASN: 65001, routes: kernel"), (None, true));
    let why = |asns: &str| with(asns).0.flatten().unwrap();
    assert!(why("peerASN: 12076").starts_with("peerASN and azureASN are both 12076"));
    assert_eq!(why("peerASN: 23456"), "peerASN is 23456, which is reserved and no router's");
    assert_eq!(why("azureASN: 65535, peerASN: 1"), "azureASN is 65535, which is reserved and no router's");
}

#[test]
fn a_connection_with_too_many_prefixes_is_down_and_others_are_not() {
    let with = |count: usize, v6: usize| {
        let v4 = (0..count).map(|n| format!("20.{}.{}.0/24", n / 256, n % 256));
        let v6 = (0..v6).map(|n| format!("\"fd01:{n:x}::/32\""));
        let all: Vec<String> = v4.chain(v6).collect();
        read(&CONTOSO.replace("[10.2.0.0/16]", &format!("[{}]", all.join(", "))))
    };
    // Which of the customer's addresses can be entered by the circuit: of the hub, of the spoke, of the VNet apart.
    let enters = |model: &Model| {
        let program = compile(model, &mut Names::default());
        let to = ["10.1.0.4", "fd00:1::4", "20.0.0.4", "fd01::4", "10.5.0.4"].map(|a| a.parse().unwrap());
        to.map(|to: IpAddr| program.entries.iter().any(|entry| entry.enter.lookup(to).is_some()))
    };
    // The hub has one of each family.
    let model = with(999, 99);
    assert_eq!(enters(&model), [true; 5]);
    assert!(model.customers[0].connections.iter().all(|c| c.down.is_none()));
    assert_eq!(specs(&model)[0].bgp.as_ref().unwrap().advertised.len(), 999 + 99 + 3);
    for (v4, v6, sentence) in [
        (
            1000,
            1,
            "its virtual networks have 1001 IPv4 prefixes, and at most 1000 are advertised on a connection",
        ),
        (
            1,
            100,
            "its virtual networks have 101 IPv6 prefixes, and at most 100 are advertised on a connection",
        ),
    ] {
        let model = with(v4, v6);
        let connections = &model.customers[0].connections;
        assert_eq!(connections[0].down.as_deref(), Some(sentence));
        assert_eq!(connections[1].down, None);
        let warnings: Vec<_> = model.warnings.iter().filter(|w| w.message.ends_with(sentence)).collect();
        assert!(warnings.len() == 1 && warnings[0].value == "c1", "{warnings:?}");
        assert_eq!(advertised(&specs(&model)[0]), "10.5.0.0/16");
        // Nor is anything learned by it, or entered, of either family.
        assert_eq!(enters(&model), [false, false, false, false, true]);
        let customer = &model.customers[0];
        assert!(topology::learned(customer, &[0]).is_empty());
        assert_eq!(topology::learned(customer, &[1]).len(), 1);
    }
}

#[test]
fn keys_are_not_shown() {
    let specs = specs(&whole());
    let shown = format!("{specs:?}{:?}", whole());
    assert!(!shown.contains("s3cret") && shown.contains("shared_key: Some(\"..\")"), "{shown}");
}
