//! The control side of links as a whole, without devices.

use super::told::Standing;
use super::*;
use crate::bgp::{Attributes, Route};
use crate::model;
use crate::sys::own_names;
use crate::types::{Prefix, SECOND};

/// A customer with a circuit that has one link.
const ONE_LINK: &str = "
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2}
  edge: {role: edge, address: 192.0.2.1, mtu: 1600}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: GatewaySubnet, addressPrefix: 10.1.255.0/27}]
    expressRouteCircuits:
      - name: er
        peerings:
          - {name: AzurePrivatePeering, peerASN: 65001, primaryPeerAddressPrefix: 192.168.255.0/30}
    virtualNetworkGateways: [{name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}]
    connections: [{name: c, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er}]
    tunnels:
      - {vnet: hub, port: fabric, key: 1}
      - {circuit: er, link: primary, port: edge, remote: 192.0.2.2, key: 1}
";

impl Circuits {
    /// As if there were links of this configuration, and one had learned so many prefixes of IPv4.
    pub(in crate::live) fn pretend(&self, base: &Model, key: &LinkKey, count: u32) {
        let routes = (0..count).map(|n| Route {
            prefix: Prefix::v4(20, (n >> 8) as u8, n as u8, 0, 24),
            attributes: Arc::new(Attributes::default()),
        });
        let kept = &mut *lock(&self.kept);
        kept.follow(&spec::specs(base), &self.told);
        self.told.session(&(key.clone(), Family::V4), Standing::Up, routes.collect(), &[]);
        kept.take(&self.told);
    }
}

fn circuits() -> Arc<Circuits> {
    Arc::new(Circuits::new(Wake::new().unwrap()).unwrap().0)
}

#[test]
fn whoever_looks_after_threads_does_not_wait_for_a_change_of_links() {
    let circuits = circuits();
    let _changing = lock(&circuits.running);
    let (looks, looked) = crossbeam_channel::bounded(1);
    let other = circuits.clone();
    std::thread::spawn(move || looks.send(other.ended()));
    assert_eq!(looked.recv_timeout(Duration::from_secs(10)), Ok(None));
}

#[test]
fn a_change_that_comes_after_the_end_starts_nothing() {
    // If it did, and may, it would be where nobody sees it.
    own_names();
    let circuits = circuits();
    let base = model::from_bytes("config.yaml", ONE_LINK.as_bytes(), None).unwrap();
    assert_eq!(spec::specs(&base).len(), 1);
    circuits.stop();
    assert_eq!(circuits.follow(&base), Vec::<String>::new());
    assert!(lock(&circuits.running).is_none() && lock(&circuits.open).reader.is_none());
}

#[test]
fn what_is_known_is_not_locked_while_more_routes_are_waited_for() {
    let circuits = circuits();
    let links = spec::specs(&model::from_bytes("config.yaml", ONE_LINK.as_bytes(), None).unwrap());
    lock(&circuits.kept).follow(&links, &circuits.told);
    let key = (links[0].key.clone(), Family::V4);
    let tell = |round: u8, number: u8| {
        let route = Route {
            prefix: Prefix::v4(10, round, number, 0, 24),
            attributes: Arc::new(Attributes::default()),
        };
        circuits.told.session(&key, Standing::Up, vec![route], &[]);
    };
    // Who comes by the lock meanwhile can tell more, which is learned, too. Not every time: this test may be held up itself.
    let in_time = |round: u8| {
        let before = lock(&circuits.kept).learned.version();
        tell(round, 0);
        std::thread::scope(|scope| {
            let learns = scope.spawn(|| circuits.learn());
            while lock(&circuits.kept).learned.version() == before {
                std::thread::yield_now();
            }
            tell(round, 1);
            assert!(learns.join().unwrap());
        });
        circuits.told.waiting() == 0
    };
    assert!((0..50).any(in_time));
}

#[test]
fn premium_becomes_standard_only_within_what_standard_may_learn() {
    use crate::model::Link;
    let read = |text: &str| model::from_bytes("config.yaml", text.as_bytes(), None).unwrap();
    let with =
        |tier: &str| ONE_LINK.replace("name: er\n", &format!("name: er\n        sku: {{tier: {tier}}}\n"));
    let (premium, standard) = (read(&with("Premium")), read(&with("Standard")));
    let key = spec::specs(&premium)[0].key.clone();
    let learned = |base: &Model, key: &LinkKey, count: u32| {
        let circuits = circuits();
        circuits.pretend(base, key, count);
        circuits
    };
    assert_eq!(learned(&premium, &key, 4000).may_follow(&premium, &standard), Ok(()));
    let beyond = learned(&premium, &key, 4001);
    let sentence = "customer 'contoso': circuit 'er', AzurePrivatePeering, primary link: sku.tier cannot change to Standard, \
                    as 4001 IPv4 prefixes are learned here, and Standard allows 4000; let the peer announce fewer, or remove \
                    the circuit, and add it again";
    assert_eq!(beyond.may_follow(&premium, &standard), Err(vec![sentence.to_owned()]));
    // Another letter case or another name of the peering is no other circuit.
    for (from, to) in [("name: er\n", "name: ER\n"), ("{name: Azure", "{name: main, peeringType: Azure")] {
        let after = read(&with("Standard").replace(from, to));
        assert!(beyond.may_follow(&premium, &after).is_err(), "{to}");
    }
    // One that stays Premium, one that is gone, and another one.
    let other = with("Standard").replace(": er", ": er2");
    for after in [&premium, &Model::default(), &read(&other)] {
        assert_eq!(beyond.may_follow(&premium, after), Ok(()));
    }
    assert_eq!(beyond.may_follow(&standard, &standard), Ok(()));
    let elsewhere = LinkKey { link: Link::Secondary, ..key };
    assert_eq!(learned(&premium, &elsewhere, 4001).may_follow(&premium, &standard), Ok(()));
}

#[test]
fn a_customer_whose_routes_change_all_the_time_fills_no_log_and_hides_no_other() {
    let mut lines = BTreeMap::new();
    let mut said = |customer: &str| {
        (0..1000).filter(|n| may_say(&mut lines, customer, n * SECOND / 100).is_some()).count()
    };
    assert_eq!([said("a"), said("b")], [10, 10]);
    assert_eq!(may_say(&mut lines, "a", 11 * SECOND), Some(990));
}

#[test]
fn bgp_does_not_stay_without_bfd() {
    let told = Told::new().unwrap().0;
    let failed = both(Bgp::start(told.clone()).unwrap(), Err(io::Error::other("no thread")));
    assert_eq!(failed.err().map(|e| e.to_string()).as_deref(), Some("no thread"));
    // The thread has one of its own while it runs.
    assert_eq!(Arc::strong_count(&told), 1);
}
