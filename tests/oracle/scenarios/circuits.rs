//! Section 7 in scenes: link addresses, Microsoft and public peering, bandwidth.

use super::*;

const SLOW: (&str, &str) = ("bandwidthInMbps: 1000", "bandwidthInMbps: 50");
const PRIVATE: &str = "AzurePrivatePeering";
/// The customer's own prefix instead of a private one.
const LEARNED: (&str, &str) = ("192.168.0.0/16, circuit", "131.10.0.0/16, circuit");
const CUSTOMER: (&str, u16) = ("131.10.0.9", 40_000);
const SERVICE: (&str, u16) = ("20.60.1.1", 443);

#[test]
fn what_is_for_the_end_of_its_own_link_is_for_us() {
    let mut scene = Scene::new(&[]);
    let to_us = datagram(("192.168.255.1", 49_152), ("192.168.255.2", 3784), 24);
    assert_eq!(scene.send(From::Primary, &to_us), "to-us - none - - - - -");
    // "Anything else to link addresses, of this or another link or from a VNet, is routed like any other packet."
    assert_eq!(scene.send(From::Secondary(None), &to_us), "no-route - none - - - - -");
    let other = datagram(("192.168.9.9", 49_152), ("192.168.255.2", 3784), 24);
    assert_eq!(scene.send(From::Primary, &other), "no-route - none - - - - -");
    let from_hub = datagram(("10.1.0.4", 49_152), ("192.168.255.2", 3784), 24);
    assert!(scene.send(From::Hub, &from_hub).contains("192.168.0.0/16 edge-a 192.0.2.2"));
    // "the customer has the first usable address, Clearway the second", "first in step 6": also a later fragment.
    let mut later = to_us;
    later.fragment = Some((3, false));
    assert_eq!(scene.send(From::Primary, &later), "to-us - none - - - - -");
}

#[test]
fn microsoft_peering_is_beside_all_vnets() {
    let mut scene = Scene::new(&[(PRIVATE, "MicrosoftPeering"), LEARNED]);
    let mut out = datagram(CUSTOMER, SERVICE, 100);
    // "a DSCP other than 46, 34, 18, 10, 0 becomes 0, ECN untouched"
    out.class = 26 << 2 | 1;
    assert_eq!(scene.send(From::Primary, &out), "forward - none - - - services -");
    assert_eq!(scene.inner()[1], 1);
    out.class = 46 << 2 | 2;
    assert_eq!(scene.send(From::Primary, &out), "forward - none - - - services -");
    assert_eq!(scene.inner()[1], 46 << 2 | 2);
    let mut back = datagram(SERVICE, CUSTOMER, 100);
    back.class = 8 << 2 | 2;
    for from in [From::Services, From::Internet] {
        assert_eq!(scene.send(from, &back), "forward - none - - - edge-a 192.0.2.2");
        let (_, frame) = scene.last.as_ref().expect("a packet").emitted[0].clone();
        assert_eq!((frame[15], frame[42 + 1]), (2, 2), "the outer DSCP is the rewritten one");
    }
    assert_eq!(
        scene.send(From::Primary, &datagram(("131.11.0.9", 1), SERVICE, 0)),
        "spoofed-source - none - - - - -"
    );
    for source in ["10.1.0.4", "172.16.1.1", "100.64.0.1"] {
        let line = scene.send(From::Services, &datagram((source, 1), CUSTOMER, 0));
        assert_eq!(line, "spoofed-source - none - - - - -");
    }
    assert_eq!(scene.last.as_ref().and_then(|s| s.customer.as_deref()), Some("contoso"));
}

#[test]
fn what_comes_by_an_internet_tunnel_is_of_its_vnet_and_not_of_a_peering() {
    let tunnel = "    hosts:\n";
    let with =
        format!("      - {{internet: hub, port: internet, remote: 203.0.113.1, key: 0xe01}}\n{tunnel}");
    let mut scene = Scene::new(&[(PRIVATE, "MicrosoftPeering"), LEARNED, (tunnel, &with)]);
    let packet = datagram(SERVICE, CUSTOMER, 100);
    // "A packet from services or plain internet": that in the tunnel is neither.
    assert_eq!(scene.send(From::Tunnel, &packet), "no-route hub none - - - - -");
    for from in [From::Services, From::Internet] {
        assert_eq!(scene.send(from, &packet), "forward - none - - - edge-a 192.0.2.2");
    }
    // The tunnel itself carries.
    let said = scene.send(From::Tunnel, &datagram(SERVICE, ("10.1.1.4", 443), 100));
    assert_eq!(said, "forward hub none - VnetLocal 10.1.0.0/16 fabric 198.51.100.11");
}

#[test]
fn public_peering_answers_only() {
    let mut scene = Scene::new(&[(PRIVATE, "AzurePublicPeering"), LEARNED]);
    let (ask, answer) = (datagram(CUSTOMER, SERVICE, 10), datagram(SERVICE, CUSTOMER, 10));
    let refused = "not-initiated - none - - - - -";
    let passes = "forward - none - - - edge-a 192.0.2.2";
    assert_eq!(scene.send(From::Services, &answer), refused);
    let mut expired = ask.clone();
    expired.ttl = 1;
    assert!(scene.send(From::Primary, &expired).starts_with("ttl-expired"));
    assert_eq!(scene.send(From::Services, &answer), refused, "only what is forwarded changes the state");
    assert_eq!(scene.send(From::Primary, &ask), "forward - none - - - services -");
    assert_eq!(scene.send(From::Services, &answer), passes);
    assert_eq!(scene.send(From::Services, &datagram(("20.60.1.1", 444), CUSTOMER, 0)), refused);
    // An ICMP error about what the customer sent.
    let error = |quoted: &Ip| Ip::new(ip("20.60.9.9"), ip(CUSTOMER.0), 1, icmp(3, 1, 0, &quoted.bytes()));
    assert_eq!(scene.send(From::Services, &error(&ask)), passes);
    assert_eq!(scene.send(From::Services, &error(&answer)), refused);
    // What comes back does not refresh, and "idle four minutes" is the whole of it.
    scene.now += 240 * SECOND - 4_000_000;
    assert_eq!(scene.send_now(From::Services, &answer), passes);
    scene.now += 1;
    assert_eq!(scene.send_now(From::Services, &answer), refused);
}

#[test]
fn a_later_fragment_refreshes_the_flow_of_its_first() {
    let mut scene = Scene::new(&[(PRIVATE, "AzurePublicPeering"), LEARNED]);
    let whole = datagram(CUSTOMER, SERVICE, 100);
    let pieces = whole.fragments(64);
    assert!(scene.send(From::Primary, &pieces[0]).starts_with("forward"));
    scene.wait(20 * SECOND);
    assert!(scene.send_now(From::Primary, &pieces[1]).starts_with("forward"));
    scene.wait(240 * SECOND);
    let answer = datagram(SERVICE, CUSTOMER, 10);
    assert!(scene.send_now(From::Services, &answer).starts_with("forward"));
    scene.wait(1);
    assert!(scene.send_now(From::Services, &answer).starts_with("not-initiated"));
}

#[test]
fn the_shorter_path_is_counted_without_private_numbers() {
    let secondary =
        "- {prefix: 131.10.0.0/16, circuit: er1, peering: MicrosoftPeering, link: secondary, asPath: [3356]}";
    let longer = format!("link: primary, asPath: [65001, 65002, 3356, 174]}}\n      {secondary}");
    let even = format!("link: primary, asPath: [64512, 4200000000]}}\n      {secondary}");
    for (paths, port) in [(longer, "edge-b"), (even, "edge-a")] {
        let changes = [("link: primary}", paths.as_str()), (PRIVATE, "MicrosoftPeering"), LEARNED];
        let mut scene = Scene::new(&changes);
        let line = scene.send(From::Services, &datagram(SERVICE, CUSTOMER, 10));
        assert!(line.starts_with(&format!("forward - none - - - {port}")), "{line}");
    }
}

#[test]
fn a_bucket_lets_through_what_it_holds() {
    let mut scene = Scene::new(&[SLOW]);
    let to_web = |length: usize| datagram(("192.168.9.9", 40_000), WEB, length - 28);
    let over = "over-rate - none - - - - -";
    // "the bucket holds 0.1 s at the rate": 625,000 bytes.
    for _ in 0..62 {
        assert!(scene.send_now(From::Primary, &to_web(10_000)).starts_with("forward"));
    }
    assert_eq!(scene.send_now(From::Primary, &to_web(5_001)), over);
    assert!(scene.send_now(From::Primary, &to_web(5_000)).starts_with("forward"));
    assert_eq!(scene.send_now(From::Primary, &to_web(28)), over);
    // No other link's room helps it, nor the other direction's.
    assert!(scene.send_now(From::Secondary(None), &to_web(10_000)).starts_with("forward"));
    // 224 bits at 50 bits in a microsecond.
    scene.now += 4_479;
    assert_eq!(scene.send_now(From::Primary, &to_web(28)), over);
    scene.now += 1;
    assert!(scene.send_now(From::Primary, &to_web(28)).starts_with("forward"));
    // "a higher rate keeps what is in it"
    scene.swap(&[("bandwidthInMbps: 1000", "bandwidthInMbps: 100")]);
    assert_eq!(scene.send_now(From::Primary, &to_web(28)), over);
    scene.now += 2_240;
    assert!(scene.send_now(From::Primary, &to_web(28)).starts_with("forward"));
    scene.now += 100_000_000;
    for _ in 0..125 {
        assert!(scene.send_now(From::Primary, &to_web(10_000)).starts_with("forward"));
    }
    assert_eq!(scene.send_now(From::Primary, &to_web(28)), over);
}

#[test]
fn what_leaves_is_charged_after_fragmenting() {
    let mut scene = Scene::new(&[SLOW, (PRIVATE, "MicrosoftPeering"), LEARNED]);
    // Room for 1,472: 10,000 bytes leave in seven fragments, six more headers.
    let large = datagram(SERVICE, CUSTOMER, 10_000 - 28);
    for _ in 0..61 {
        assert!(scene.send_now(From::Services, &large).starts_with("forward"));
    }
    let rest = 625_000 - 61 * 10_120;
    let small = |length: usize| datagram(SERVICE, CUSTOMER, length - 28);
    assert_eq!(scene.send_now(From::Services, &large), "over-rate - none - - - - -");
    for _ in 0..5 {
        assert!(scene.send_now(From::Services, &small(1_472)).starts_with("forward"));
    }
    let rest = rest - 5 * 1_472;
    assert!(scene.send_now(From::Services, &small(rest + 1)).starts_with("over-rate"));
    assert!(scene.send_now(From::Services, &small(rest)).starts_with("forward"));
}
