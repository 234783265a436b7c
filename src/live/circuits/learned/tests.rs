//! What is learned of links, and what is in force then.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use super::*;
use crate::bgp::path::Segment;
use crate::bgp::{AsPath, Down, Peer};
use crate::live::circuits::spec::{BgpSpec, specs};
use crate::model::{self, LearnedFrom, LearnedRoute, Link};

/// Customers with a circuit of all three peerings each, and what else they say.
fn base(customers: &[(&str, &str)]) -> Model {
    let mut text = String::from(
        "apiVersion: clearway/v1\nports: {e: {role: edge, address: 192.0.2.1}, s: {role: services, address: 192.0.2.9}}\n\
         customers:\n",
    );
    for (number, (name, more)) in customers.iter().enumerate() {
        let key = 16 * number;
        text.push_str(&format!(
            "  - name: {name}
    expressRouteCircuits:
      - name: er
        peerings:
          - {{name: AzurePrivatePeering, peerASN: 65001, primaryPeerAddressPrefix: 192.168.255.0/30,
             secondaryPeerAddressPrefix: 192.168.255.4/30, ipv6PeeringConfig: {{primaryPeerAddressPrefix: 'fd00:ff::/126',
             secondaryPeerAddressPrefix: 'fd00:ff::4/126'}}}}
          - {{name: MicrosoftPeering, peerASN: 65001, primaryPeerAddressPrefix: 192.0.2.16/30,
             secondaryPeerAddressPrefix: 192.0.2.20/30, microsoftPeeringConfig: {{advertisedPublicPrefixes: [20.0.0.0/8]}}}}
          - {{name: AzurePublicPeering, peerASN: 65001, primaryPeerAddressPrefix: 192.0.2.24/30,
             secondaryPeerAddressPrefix: 192.0.2.28/30, microsoftPeeringConfig: {{advertisedPublicPrefixes: [20.0.0.0/8]}}}}
    tunnels:
      - {{circuit: er, link: primary, port: e, remote: 192.0.2.2, key: {key}}}
      - {{circuit: er, link: secondary, port: e, remote: 192.0.2.2, key: {}}}
      - {{circuit: er, peering: MicrosoftPeering, link: primary, port: e, remote: 192.0.2.2, key: {}}}
      - {{circuit: er, peering: MicrosoftPeering, link: secondary, port: e, remote: 192.0.2.2, key: {}}}
      - {{circuit: er, peering: AzurePublicPeering, link: primary, port: e, remote: 192.0.2.2, key: {}}}
      - {{circuit: er, peering: AzurePublicPeering, link: secondary, port: e, remote: 192.0.2.2, key: {}}}
{more}",
            key + 1,
            key + 2,
            key + 3,
            key + 4,
            key + 5,
        ));
    }
    model::from_bytes("c.yaml", text.as_bytes(), None)
        .unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]))
}

const PRIVATE: &str = "AzurePrivatePeering";
const MICROSOFT: &str = "MicrosoftPeering";
const PUBLIC: &str = "AzurePublicPeering";

fn key(customer: &str, peering: &str, link: Link) -> LinkKey {
    LinkKey { customer: customer.to_owned(), circuit: "er".to_owned(), peering: peering.to_owned(), link }
}

fn p(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn attributes(path: &[u32]) -> Arc<Attributes> {
    let path = AsPath(vec![Segment::Sequence(path.to_vec())]);
    Arc::new(Attributes { path, ..Attributes::default() })
}

fn learn(learned: &mut Learned, link: &LinkKey, prefix: &str, path: &[u32]) {
    let prefix = p(prefix);
    let route = Route { prefix, attributes: attributes(path) };
    learned.routes(link, Family::of_prefix(&prefix), &[route], &[]);
}

fn withdraw(learned: &mut Learned, link: &LinkKey, prefix: &str) {
    learned.routes(link, Family::of_prefix(&p(prefix)), &[], &[p(prefix)]);
}

fn up() -> Event {
    let identifier = Ipv4Addr::new(192, 0, 2, 2);
    Event::Established(Peer {
        identifier,
        hold_time: 180,
        four_octet: true,
        route_refresh: true,
        restart: None,
    })
}

fn ended(established: bool, stale: usize) -> Event {
    Event::Down { why: Down::Closed, established, stale }
}

/// The routes of a customer: `PREFIX PEERING LINK PATH`.
fn routes(model: &Model, customer: usize) -> Vec<String> {
    let customer = &model.customers[customer];
    let text = |route: &LearnedRoute| {
        let LearnedFrom::Peering { circuit, peering, link } = route.from else { panic!("{route:?}") };
        let peering = &customer.circuits[circuit].peerings[peering].name;
        let path: String = route.as_path.iter().map(|n| format!(" {n}")).collect();
        let link = link.map_or("both", Link::name);
        format!(
            "{} {} {link}{path}",
            route.prefix,
            peering.trim_start_matches("Azure").trim_end_matches("Peering")
        )
    };
    customer.learned_routes.iter().map(text).collect()
}

/// Whether the tunnels of private peering are up.
fn tunnels(model: &Model, customer: usize) -> [bool; 2] {
    [0, 1].map(|n| model.customers[customer].tunnels[n].enabled)
}

fn same(a: &Model, b: &Model) -> Vec<bool> {
    a.customers.iter().zip(&b.customers).map(|(a, b)| Arc::ptr_eq(a, b)).collect()
}

const STATIC: &str = "    learnedRoutes:\n      - {prefix: 10.0.0.0/8, circuit: er, asPath: [7]}\n      \
                      - {prefix: 'fd00::/8', circuit: er}\n      - {prefix: 10.9.0.0/16, circuit: er, link: primary}\n";

#[test]
fn what_is_learned_is_added_to_the_configuration() {
    let base = base(&[("a", STATIC), ("b", "")]);
    let mut learned = Learned::default();
    let (primary, secondary) = (key("a", PRIVATE, Link::Primary), key("a", PRIVATE, Link::Secondary));
    let (first, refused) = learned.in_force(&base, None);
    assert_eq!((same(&base, &first), refused), (vec![true, true], vec![]));

    learn(&mut learned, &primary, "0.0.0.0/0", &[65001, 65002]);
    learn(&mut learned, &secondary, "2001:db8::/32", &[65001]);
    // The configuration has these already.
    learn(&mut learned, &primary, "10.0.0.0/8", &[65001]);
    learn(&mut learned, &primary, "10.9.0.0/16", &[65001]);
    learn(&mut learned, &secondary, "10.9.0.0/16", &[65001]);
    let (second, refused) = learned.in_force(&base, Some(&first));
    assert_eq!((same(&first, &second), refused), (vec![false, true], vec![]));
    let fixed = ["10.0.0.0/8 Private both 7", "fd00::/8 Private both", "10.9.0.0/16 Private primary"];
    let added = [
        "0.0.0.0/0 Private primary 65001 65002",
        "10.9.0.0/16 Private secondary 65001",
        "2001:db8::/32 Private secondary 65001",
    ];
    assert_eq!(routes(&second, 0), [&fixed[..], &added[..]].concat());

    // Nothing new, and nothing that counts.
    learn(&mut learned, &primary, "0.0.0.0/0", &[65001, 65002]);
    learned.session(&primary, Family::V4, &up());
    withdraw(&mut learned, &primary, "10.77.0.0/16");
    let version = learned.version();
    let (third, _) = learned.in_force(&base, Some(&second));
    assert_eq!(same(&second, &third), [true, true]);
    // There and back.
    withdraw(&mut learned, &primary, "0.0.0.0/0");
    learn(&mut learned, &primary, "0.0.0.0/0", &[65001, 65002]);
    assert_ne!(learned.version(), version);
    let (third, _) = learned.in_force(&base, Some(&second));
    assert_eq!(same(&second, &third), [true, true]);

    // Another configuration with the same customers.
    let again = super::tests::base(&[("a", STATIC), ("b", "")]);
    let (fourth, _) = learned.in_force(&again, Some(&third));
    assert_eq!(same(&third, &fourth), [true, false]);

    for (link, prefix) in
        [(&primary, "0.0.0.0/0"), (&secondary, "2001:db8::/32"), (&secondary, "10.9.0.0/16")]
    {
        withdraw(&mut learned, link, prefix);
    }
    withdraw(&mut learned, &primary, "10.0.0.0/8");
    let (last, _) = learned.in_force(&base, Some(&third));
    assert_eq!(same(&base, &last), [true, true]);
}

#[test]
fn a_set_of_a_path_is_one_hop() {
    let base = base(&[("a", "")]);
    let mut learned = Learned::default();
    let path =
        AsPath(vec![Segment::Sequence(vec![65001, 7]), Segment::Set(vec![9, 8]), Segment::Sequence(vec![3])]);
    let attributes = Arc::new(Attributes { path, ..Attributes::default() });
    let link = key("a", PRIVATE, Link::Primary);
    learned.routes(&link, Family::V4, &[Route { prefix: p("10.0.0.0/8"), attributes }], &[]);
    assert_eq!(routes(&learned.in_force(&base, None).0, 0), ["10.0.0.0/8 Private primary 65001 7 8 3"]);
}

#[test]
fn links_go_down_with_what_was_up() {
    use Family::{V4, V6};
    const ON: [Option<Cause>; 2] = [None, None];
    const BGP: Option<Cause> = Some(Cause::Bgp);
    const BFD: Option<Cause> = Some(Cause::Bfd);
    type Step = fn(&mut Learned, &LinkKey);
    type Row<'a> = (&'a str, &'a [Step], Option<Cause>, [Option<Cause>; 2]);
    let rows: &[Row<'_>] = &[
        ("never up", &[|l, k| l.session(k, V4, &ended(false, 0))], None, ON),
        ("up", &[|l, k| l.session(k, V4, &up())], None, ON),
        (
            "down",
            &[|l, k| l.session(k, V4, &up()), |l, k| l.session(k, V4, &ended(true, 0))],
            BGP,
            [BGP, None],
        ),
        (
            "an attempt fails",
            &[|l, k| l.session(k, V4, &up()), |l, k| l.session(k, V4, &ended(false, 0))],
            None,
            ON,
        ),
        ("back again", &[|l, k| l.session(k, V4, &ended(true, 0)), |l, k| l.session(k, V4, &up())], None, ON),
        (
            "one family of two",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.session(k, V6, &up()),
                |l, k| l.session(k, V6, &ended(true, 0)),
            ],
            None,
            [None, BGP],
        ),
        (
            "both",
            &[|l, k| l.session(k, V4, &ended(true, 0)), |l, k| l.session(k, V6, &ended(true, 0))],
            BGP,
            [BGP, BGP],
        ),
        ("BFD of a link without BGP", &[|l, k| l.bfd(k, V4, Bfd::Down)], BFD, [BFD, BFD]),
        (
            "BFD of IPv4 alone takes IPv6 along",
            &[|l, k| l.session(k, V6, &up()), |l, k| l.bfd(k, V4, Bfd::Down)],
            BFD,
            [BFD, BFD],
        ),
        (
            "unless IPv6 has a BFD that is up",
            &[|l, k| l.bfd(k, V6, Bfd::Up), |l, k| l.bfd(k, V4, Bfd::Down)],
            None,
            [BFD, None],
        ),
        (
            "BFD is back and BGP is not",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.bfd(k, V4, Bfd::Down),
                |l, k| l.session(k, V4, &ended(true, 0)),
                |l, k| l.bfd(k, V4, Bfd::Up),
            ],
            BGP,
            [BGP, None],
        ),
        (
            "the peer turns BFD off",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.bfd(k, V4, Bfd::Down),
                |l, k| l.bfd(k, V4, Bfd::Unused),
            ],
            None,
            ON,
        ),
        (
            "silent BFD, and BGP takes over",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.bfd(k, V4, Bfd::Down),
                |l, k| l.session(k, V4, &ended(true, 0)),
                |l, k| l.bfd(k, V4, Bfd::Silent),
                |l, k| l.session(k, V4, &up()),
            ],
            None,
            ON,
        ),
        (
            "silent BFD where BGP was up",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.session(k, V6, &up()),
                |l, k| l.bfd(k, V4, Bfd::Down),
                |l, k| l.session(k, V4, &ended(true, 0)),
                |l, k| l.bfd(k, V4, Bfd::Silent),
            ],
            None,
            [BGP, None],
        ),
        (
            "silent BFD where BGP has never been up",
            &[|l, k| l.bfd(k, V4, Bfd::Down), |l, k| l.bfd(k, V4, Bfd::Silent)],
            BFD,
            [BFD, BFD],
        ),
        (
            "silent BFD, and only one family has BGP to take over",
            &[
                |l, k| l.session(k, V4, &up()),
                |l, k| l.bfd(k, V4, Bfd::Down),
                |l, k| l.session(k, V4, &ended(true, 0)),
                |l, k| l.bfd(k, V4, Bfd::Silent),
            ],
            BGP,
            [BGP, BFD],
        ),
        (
            "silent BFD comes back",
            &[|l, k| l.bfd(k, V4, Bfd::Silent), |l, k| l.bfd(k, V4, Bfd::Up)],
            None,
            ON,
        ),
        ("forgotten", &[|l, k| l.session(k, V4, &ended(true, 0)), |l, k| l.forget(k, V4)], None, ON),
    ];
    let base = base(&[("a", STATIC), ("b", STATIC)]);
    for (name, steps, down, causes) in rows {
        let mut learned = Learned::default();
        let link = key("a", PRIVATE, Link::Primary);
        steps.iter().for_each(|step| step(&mut learned, &link));
        assert_eq!((learned.down(&link), learned.causes(&link)), (*down, *causes), "{name}");
        let (model, _) = learned.in_force(&base, None);
        // Both ends speak BFD and BGP by it.
        assert_eq!(tunnels(&model, 0), [true, true], "{name}");
        assert!(Arc::ptr_eq(&model.customers[1], &base.customers[1]), "{name}");
        let expected: &[&str] = match (down, causes) {
            (None, [Some(_), None]) => &["10.0.0.0/8 Private secondary 7", "fd00::/8 Private both"],
            (None, [None, Some(_)]) => {
                &["10.0.0.0/8 Private both 7", "fd00::/8 Private secondary", "10.9.0.0/16 Private primary"]
            }
            (Some(_), _) => &["10.0.0.0/8 Private secondary 7", "fd00::/8 Private secondary"],
            _ => &["10.0.0.0/8 Private both 7", "fd00::/8 Private both", "10.9.0.0/16 Private primary"],
        };
        assert_eq!(routes(&model, 0), expected, "{name}");
    }
    assert_eq!(Learned::default().down(&key("a", PRIVATE, Link::Primary)), None);
}

#[test]
fn both_links_may_lack_a_family() {
    let base = base(&[("a", STATIC)]);
    let mut learned = Learned::default();
    for link in [Link::Primary, Link::Secondary] {
        let link = key("a", PRIVATE, link);
        learned.session(&link, Family::V4, &up());
        learned.session(&link, Family::V6, &up());
        learn(&mut learned, &link, "2001:db8::/32", &[65001]);
        learn(&mut learned, &link, "10.7.0.0/16", &[65001]);
    }
    let (all, _) = learned.in_force(&base, None);
    assert_eq!(routes(&all, 0).len(), 3 + 4);
    for link in [Link::Primary, Link::Secondary] {
        // BGP goes on, its routes too; but nothing goes by them.
        learned.bfd(&key("a", PRIVATE, link), Family::V6, Bfd::Down);
        learned.bfd(&key("a", PRIVATE, link), Family::V4, Bfd::Up);
    }
    let (model, _) = learned.in_force(&base, Some(&all));
    assert_eq!(tunnels(&model, 0), [true, true]);
    assert_eq!(
        routes(&model, 0),
        [
            "10.0.0.0/8 Private both 7",
            "10.9.0.0/16 Private primary",
            "10.7.0.0/16 Private primary 65001",
            "10.7.0.0/16 Private secondary 65001",
        ]
    );
    for link in [Link::Primary, Link::Secondary] {
        learned.bfd(&key("a", PRIVATE, link), Family::V6, Bfd::Up);
    }
    assert_eq!(routes(&learned.in_force(&base, Some(&model)).0, 0), routes(&all, 0));
}

#[test]
fn a_link_carries_while_its_peer_restarts() {
    let base = base(&[("a", "")]);
    let mut learned = Learned::default();
    let link = key("a", PRIVATE, Link::Primary);
    learned.session(&link, Family::V4, &up());
    learn(&mut learned, &link, "10.1.0.0/16", &[65001]);
    learn(&mut learned, &link, "10.2.0.0/16", &[65001]);
    learned.session(&link, Family::V4, &ended(true, 2));
    learned.session(&link, Family::V4, &ended(false, 0));
    let (model, _) = learned.in_force(&base, None);
    assert_eq!((tunnels(&model, 0), routes(&model, 0).len(), learned.down(&link)), ([true, true], 2, None));
    // Back, one route is left; and gone again, until the time is over.
    learned.session(&link, Family::V4, &up());
    withdraw(&mut learned, &link, "10.2.0.0/16");
    learned.session(&link, Family::V4, &ended(true, 1));
    assert_eq!((learned.down(&link), routes(&learned.in_force(&base, None).0, 0).len()), (None, 1));
    withdraw(&mut learned, &link, "10.1.0.0/16");
    assert_eq!(learned.down(&link), Some(Cause::Bgp));
    assert_eq!(tunnels(&learned.in_force(&base, None).0, 0), [true, true]);
    learned.session(&link, Family::V4, &up());
    assert_eq!((learned.down(&link), same(&learned.in_force(&base, None).0, &base)), (None, vec![true]));
    // BFD says that nothing passes, whatever restarts.
    learn(&mut learned, &link, "10.1.0.0/16", &[65001]);
    learned.session(&link, Family::V4, &ended(true, 1));
    learned.bfd(&link, Family::V4, Bfd::Down);
    assert_eq!(learned.down(&link), Some(Cause::Bfd));
}

#[test]
fn no_more_is_in_force_than_the_limit() {
    let fixed: String = (0..198)
        .map(|n| format!("      - {{prefix: 20.1.{n}.0/24, circuit: er, peering: {MICROSOFT}}}\n"))
        .collect();
    let base = base(&[("a", &format!("    learnedRoutes:\n{fixed}"))]);
    let mut learned = Learned::default();
    let link = key("a", MICROSOFT, Link::Secondary);
    for n in 0..5 {
        learn(&mut learned, &link, &format!("20.2.{n}.0/24"), &[65001]);
    }
    learn(&mut learned, &link, "20.1.7.0/24", &[65001]);
    let (model, refused) = learned.in_force(&base, None);
    assert_eq!(routes(&model, 0).len(), 200);
    let said: Vec<String> = refused.iter().map(Refused::to_string).collect();
    assert_eq!(
        said,
        [
            "customer 'a': circuit 'er', MicrosoftPeering, secondary link: 20.2.2.0/24 and 2 more are not in force: \
          with the learnedRoutes of the configuration there are more than 200"
        ]
    );
    // Said as long as it is so.
    assert_eq!(learned.in_force(&base, Some(&model)).1, refused);
}

#[test]
fn what_no_policy_takes_is_not_in_force() {
    let base = base(&[("a", "")]);
    let mut learned = Learned::default();
    let link = key("a", PUBLIC, Link::Primary);
    for prefix in ["20.7.0.0/16", "21.0.0.0/16", "10.0.0.0/16", "0.0.0.0/0"] {
        learn(&mut learned, &link, prefix, &[]);
    }
    learn(&mut learned, &key("a", "gone", Link::Primary), "20.8.0.0/16", &[]);
    let (model, refused) = learned.in_force(&base, None);
    assert_eq!(routes(&model, 0), ["20.7.0.0/16 Public primary"]);
    let said: Vec<String> = refused.iter().map(|r| format!("{:?} {}", r.prefixes, r.why)).collect();
    assert_eq!(
        said,
        [
            "[0.0.0.0/0] a default route is not taken on this peering",
            "[10.0.0.0/16] it has private addresses (RFC 1918 or RFC 4193)",
            "[21.0.0.0/16] it is not within advertisedPublicPrefixes",
        ]
    );
}

#[test]
fn what_public_peerings_learn_leads_to_one_customer() {
    let base = base(&[("a", ""), ("b", ""), ("c", "")]);
    let [a, b, c] = ["a", "b", "c"].map(|customer| key(customer, MICROSOFT, Link::Primary));
    let mut learned = Learned::default();
    learn(&mut learned, &a, "20.0.0.0/25", &[65001]);
    learn(&mut learned, &b, "20.0.0.0/24", &[65001]);
    learn(&mut learned, &key("b", PUBLIC, Link::Secondary), "20.0.0.0/24", &[65001]);
    learn(&mut learned, &b, "20.9.0.0/24", &[65001]);
    let (first, refused) = learned.in_force(&base, None);
    let held = |model: &Model| [0, 1, 2].map(|n| routes(model, n).len());
    assert_eq!(held(&first), [1, 1, 0]);
    let said: Vec<String> = refused.iter().map(Refused::to_string).collect();
    let why =
        "overlaps 20.0.0.0/25 of customer 'a'; what Microsoft and public peering learn leads to one customer";
    assert_eq!(
        said,
        [
            format!(
                "customer 'b': circuit 'er', AzurePublicPeering, secondary link: 20.0.0.0/24 is not in force: {why}"
            ),
            format!(
                "customer 'b': circuit 'er', MicrosoftPeering, primary link: 20.0.0.0/24 is not in force: {why}"
            ),
        ]
    );
    // What is refused keeps nobody else from anything.
    learn(&mut learned, &c, "20.0.0.128/25", &[65001]);
    let (second, _) = learned.in_force(&base, Some(&first));
    assert_eq!(held(&second), [1, 1, 1]);
    assert_eq!(same(&first, &second), [true, true, false]);
    // The first gives way; the second waits, for the third has it in force, although it came later.
    withdraw(&mut learned, &a, "20.0.0.0/25");
    let (third, refused) = learned.in_force(&base, Some(&second));
    assert_eq!((held(&third), refused.len()), ([0, 1, 1], 2));
    assert!(refused[0].why.starts_with("overlaps 20.0.0.128/25 of customer 'c'"));
    // Without anything in force it is who was first.
    assert_eq!(held(&learned.in_force(&base, None).0), [0, 3, 0]);
    let (third, _) = learned.in_force(&base, Some(&second));
    // Who comes again comes last.
    learn(&mut learned, &a, "20.0.0.128/26", &[65001]);
    withdraw(&mut learned, &c, "20.0.0.128/25");
    let (fourth, refused) = learned.in_force(&base, Some(&third));
    assert_eq!(held(&fourth), [0, 3, 0]);
    assert_eq!(refused.len(), 1);
    // The configuration says itself whose it is.
    let fixed = format!("    learnedRoutes: [{{prefix: 20.0.0.0/16, circuit: er, peering: {PUBLIC}}}]\n");
    let other = super::tests::base(&[("a", ""), ("b", ""), ("c", &fixed)]);
    let (fifth, refused) = learned.in_force(&other, Some(&fourth));
    assert_eq!((held(&fifth), refused.len()), ([0, 1, 1], 3));
    // On private peering everyone has what he likes.
    learn(&mut learned, &key("a", PRIVATE, Link::Primary), "20.0.0.0/24", &[65001]);
    assert_eq!(held(&learned.in_force(&other, Some(&fifth)).0), [1, 1, 1]);
}

#[test]
fn what_is_no_longer_asked_for_is_forgotten() {
    let base = base(&[("a", ""), ("b", "")]);
    let mut learned = Learned::default();
    for customer in ["a", "b"] {
        let link = key(customer, PRIVATE, Link::Primary);
        learn(&mut learned, &link, "10.0.0.0/8", &[65001]);
        learn(&mut learned, &link, "2001:db8::/32", &[65001]);
        learned.session(&link, Family::V4, &ended(true, 0));
        learned.bfd(&link, Family::V6, Bfd::Up);
    }
    let mut specs = specs(&base);
    learned.retain(&specs);
    assert_eq!(routes(&learned.in_force(&base, None).0, 0).len(), 1);
    specs.retain(|s| s.key.customer == "a");
    specs[0].ends[1] = None;
    learned.retain(&specs);
    let link = key("a", PRIVATE, Link::Primary);
    assert_eq!((learned.customers.len(), learned.down(&link)), (1, Some(Cause::Bgp)));
    let (model, _) = learned.in_force(&base, None);
    assert_eq!((routes(&model, 0).len(), same(&base, &model)), (0, vec![true, true]));
    // The kernel's routes carry without a session.
    specs[0].kernel = specs[0].bgp.as_ref().map(|bgp| bgp.policies.clone());
    specs[0].bgp = None::<BgpSpec>;
    learned.retain(&specs);
    assert_eq!(routes(&learned.in_force(&base, None).0, 0).len(), 1);
    specs[0].kernel = None;
    learned.retain(&specs);
    assert_eq!(
        (same(&base, &learned.in_force(&base, None).0), learned.down(&link)),
        (vec![true, true], None)
    );
}

mod kept;
mod property;

#[test]
fn many_routes_take_little_time_and_memory() {
    const SESSIONS: usize = 200;
    const ROUTES: u32 = 4000;
    let names: Vec<String> = (0..SESSIONS / 2).map(|n| format!("customer-{n}")).collect();
    let customers: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    let base = base(&customers);
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).unwrap() * 4096
    };
    let mut learned = Learned::default();
    let before = resident();
    for name in &names {
        for link in [Link::Primary, Link::Secondary] {
            let attributes = attributes(&[65001, 65002, 65003]);
            let prefix = |n: u32| Prefix::new(Ipv4Addr::from(0x0a00_0000 + n * 256).into(), 24);
            let all: Vec<Route> =
                (0..ROUTES).map(|n| Route { prefix: prefix(n), attributes: attributes.clone() }).collect();
            learned.routes(&key(name, PRIVATE, link), Family::V4, &all, &[]);
        }
    }
    let held = resident();
    let begun = Instant::now();
    let (first, _) = learned.in_force(&base, None);
    let (whole, made) = (begun.elapsed(), resident());
    withdraw(&mut learned, &key("customer-7", PRIVATE, Link::Primary), "10.0.9.0/24");
    let begun = Instant::now();
    let (second, _) = learned.in_force(&base, Some(&first));
    let one = begun.elapsed();
    let routes: usize = second.customers.iter().map(|c| c.learned_routes.len()).sum();
    assert_eq!(routes, SESSIONS * ROUTES as usize - 1);
    let shared = same(&first, &second);
    assert!(shared.iter().enumerate().all(|(n, same)| *same == (n != 7)));
    let each = |bytes: usize| bytes / routes;
    println!(
        "{routes} routes: {} bytes each held, {} in the model; all in force in {whole:?}, one change in {one:?}",
        each(held.saturating_sub(before)),
        each(made.saturating_sub(held)),
    );
}
