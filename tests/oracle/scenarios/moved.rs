//! Routes that come, go and change under known flows: those that they concern take the new ones with their next packet,
//! and the others go on (contract section 3, "Routes").

use super::*;

const TABLE: (&str, &str) =
    ("networkSecurityGroup: web-nsg}", "networkSecurityGroup: web-nsg, routeTable: app-rt}");
const LEARNED: &str = "peering: AzurePrivatePeering, link: primary}\n";
const LOCAL: (&str, u16) = ("10.1.0.4", 5000);
const NEAR: (&str, u16) = ("192.168.9.9", 5000);
const FAR: (&str, u16) = ("192.168.77.7", 5000);

const BY_A: &str = "VirtualNetworkGateway 192.168.0.0/16 edge-a 192.0.2.2";

impl Scene {
    /// Three packets of each flow each way; where the last ones from the VNet went.
    fn talk(&mut self) -> [String; 2] {
        let mut said = [String::new(), String::new()];
        for _ in 0..3 {
            for (to, said) in [NEAR, FAR].into_iter().zip(&mut said) {
                let line = self.send(From::Hub, &datagram(LOCAL, to, 1300));
                *said = line.split_once(' ').map_or(line.clone(), |(verdict, rest)| {
                    format!("{verdict} {}", rest.splitn(4, ' ').nth(3).unwrap_or(""))
                });
                self.send(From::Primary, &datagram(to, LOCAL, 100));
            }
        }
        said
    }
}

#[test]
fn known_flows_take_the_routes_that_concern_them_and_no_others() {
    let mut scene = Scene::new(&[TABLE]);
    let by_a = format!("forward {BY_A}");
    assert_eq!(scene.talk(), [by_a.clone(), by_a.clone()]);
    // A longer prefix by the other link.
    let inside = format!(
        "{LEARNED}      - {{prefix: 192.168.9.0/24, circuit: er1, peering: AzurePrivatePeering, link: secondary}}\n"
    );
    scene.swap(&[TABLE, (LEARNED, &inside)]);
    let by_b = "forward VirtualNetworkGateway 192.168.9.0/24 edge-b 192.0.2.6".to_string();
    assert_eq!(scene.talk(), [by_b.clone(), by_a.clone()]);
    // Withdrawn, and something else learned.
    let elsewhere =
        format!("{LEARNED}      - {{prefix: 172.30.0.0/16, circuit: er1, peering: AzurePrivatePeering}}\n");
    scene.swap(&[TABLE, (LEARNED, &elsewhere)]);
    assert_eq!(scene.talk(), [by_a.clone(), by_a.clone()]);
    // Without a packet in between: what came and went has not moved, and what came has.
    scene.swap(&[TABLE]);
    scene.swap(&[TABLE, (LEARNED, &elsewhere)]);
    scene.swap(&[TABLE, (LEARNED, &inside)]);
    assert_eq!(scene.talk(), [by_b, by_a.clone()]);
    // A user-defined route instead.
    const ROUTES: &str = "routes: [";
    let stops = (ROUTES, "routes: [{name: stop, addressPrefix: 192.168.9.0/24, nextHopType: None}, ");
    scene.swap(&[TABLE, stops]);
    let [near, far] = scene.talk();
    assert!(near.starts_with("route-none "), "{near}");
    assert_eq!(far, by_a);
    // The route to all of it goes: the default, by the firewall, is left.
    scene.swap(&[TABLE, stops, ("prefix: 192.168.0.0/16", "prefix: 192.168.128.0/17")]);
    let [near, far] = scene.talk();
    assert!(near.starts_with("route-none "), "{near}");
    assert_eq!(far, "nsg-deny VirtualAppliance 0.0.0.0/0 - -");
    scene.swap(&[TABLE]);
    assert_eq!(scene.talk(), [by_a.clone(), by_a]);
}

#[test]
fn what_changes_with_a_route_elsewhere_is_noticed_too() {
    let elsewhere =
        format!("{LEARNED}      - {{prefix: 172.30.0.0/16, circuit: er1, peering: AzurePrivatePeering}}\n");
    let learned = (LEARNED, elsewhere.as_str());
    let by_a = format!("forward {BY_A}");
    // In fragments, which is compared at the end of the scene.
    let narrow = ("address: 192.0.2.1}", "address: 192.0.2.1, mtu: 1200}");
    let off = ("key: 0xc01}", "key: 0xc01, enabled: false}");
    let moved = ("remote: 192.0.2.2", "remote: 192.0.2.3");
    let state =
        "        serviceProviderProvisioningState: Deprovisioning\n        serviceProviderProperties:";
    let without = ("        serviceProviderProperties:", state);
    let denies = ("priority: 300", "priority: 3000");
    for (with, expected) in
        [(narrow, Some(&by_a)), (off, None), (moved, None), (without, None), (denies, Some(&by_a))]
    {
        let mut scene = Scene::new(&[TABLE]);
        assert_eq!(scene.talk(), [by_a.clone(), by_a.clone()]);
        scene.swap(&[TABLE, learned, with]);
        let [near, far] = scene.talk();
        assert_eq!(near, far);
        match expected {
            Some(line) => assert_eq!(&near, line),
            None => assert_ne!(near, by_a, "{with:?}"),
        }
        scene.swap(&[TABLE, learned]);
        assert_eq!(scene.talk(), [by_a.clone(), by_a.clone()]);
    }
}
