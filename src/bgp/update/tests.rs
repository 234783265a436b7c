//! UPDATEs in bytes, and what becomes of them.

use super::*;

const V4: Reading = Reading { family: Family::V4, four_octet: true };
const V6: Reading = Reading { family: Family::V6, four_octet: true };

/// An attribute.
fn a(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    if let Ok(length) = u8::try_from(value.len()) {
        [&[flags, kind, length], value].concat()
    } else {
        [&[flags | EXTENDED, kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
    }
}

/// The body of an UPDATE.
fn body(withdrawn: &[u8], attributes: &[Vec<u8>], announced: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let long = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    [&long(withdrawn)[..], withdrawn, &long(&attributes), &attributes, announced].concat()
}

fn origin() -> Vec<u8> {
    a(0x40, ORIGIN, &[0])
}

/// AS 65010.
fn path() -> Vec<u8> {
    a(0x40, AS_PATH, &[2, 1, 0, 0, 0xfd, 0xf2])
}

fn next_hop() -> Vec<u8> {
    a(0x40, NEXT_HOP, &[192, 0, 2, 1])
}

/// 10.1.0.0/16.
const NLRI: &[u8] = &[16, 10, 1];

fn prefix() -> Prefix {
    Prefix::v4(10, 1, 0, 0, 16)
}

/// MP_REACH_NLRI of 2001:db8:7::/48.
fn reach() -> Vec<u8> {
    let next_hop = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    a(0x80, MP_REACH, &[&[0, 2, 1, 16], &next_hop[..], &[0, 48, 0x20, 1, 0x0d, 0xb8, 0, 7]].concat())
}

/// What a row of the table expects.
#[derive(Debug, PartialEq)]
enum Then {
    /// All is well.
    Taken,
    /// Taken without this attribute.
    Discarded(u8),
    /// Its prefixes count as withdrawn, because of this attribute.
    Withdrawn(u8),
    /// The session ends with this subcode and data.
    Ends(u8, Vec<u8>),
}

fn then(body: &[u8], reading: Reading) -> Then {
    match decode(body, reading) {
        Err(why) => {
            assert_eq!(why.code, 3);
            Then::Ends(why.subcode, why.data)
        }
        Ok(Update { fault: None, .. }) => Then::Taken,
        Ok(Update { fault: Some(fault), .. }) if fault.withdraws => Then::Withdrawn(fault.attribute),
        Ok(Update { fault: Some(fault), .. }) => Then::Discarded(fault.attribute),
    }
}

/// Each attribute beside a good rest, with prefixes announced.
#[test]
fn faults_of_attributes() {
    use Then::*;
    let without = |kind: u8| -> Vec<Vec<u8>> {
        [origin(), path(), next_hop()].into_iter().filter(|a| a[1] != kind).collect()
    };
    let rows: Vec<(&str, Vec<u8>, Then)> = vec![
        ("origin 2", a(0x40, ORIGIN, &[2]), Taken),
        ("origin 3", a(0x40, ORIGIN, &[3]), Withdrawn(ORIGIN)),
        ("origin empty", a(0x40, ORIGIN, &[]), Withdrawn(ORIGIN)),
        ("origin long", a(0x40, ORIGIN, &[0, 0]), Withdrawn(ORIGIN)),
        ("origin optional", a(0xc0, ORIGIN, &[0]), Withdrawn(ORIGIN)),
        ("origin partial, extended", vec![0x70, ORIGIN, 0, 1, 0], Taken),
        ("path empty", a(0x40, AS_PATH, &[]), Taken),
        ("path short numbers", a(0x40, AS_PATH, &[2, 1, 0xfd, 0xf2]), Withdrawn(AS_PATH)),
        ("path trailing octet", a(0x40, AS_PATH, &[2, 1, 0, 0, 0, 7, 2]), Withdrawn(AS_PATH)),
        ("path empty segment", a(0x40, AS_PATH, &[2, 0]), Withdrawn(AS_PATH)),
        ("path of a confederation", a(0x40, AS_PATH, &[3, 1, 0, 0, 0, 7]), Withdrawn(AS_PATH)),
        ("path AS 0", a(0x40, AS_PATH, &[2, 1, 0, 0, 0, 0]), Withdrawn(AS_PATH)),
        ("path not transitive", a(0x00, AS_PATH, &[2, 1, 0, 0, 0, 7]), Withdrawn(AS_PATH)),
        ("next hop short", a(0x40, NEXT_HOP, &[1, 2, 3]), Withdrawn(NEXT_HOP)),
        ("next hop long", a(0x40, NEXT_HOP, &[1, 2, 3, 4, 5]), Withdrawn(NEXT_HOP)),
        ("med", a(0x80, MED, &[0, 0, 0, 1]), Taken),
        ("med short", a(0x80, MED, &[0, 0, 1]), Withdrawn(MED)),
        ("med transitive", a(0xc0, MED, &[0, 0, 0, 1]), Withdrawn(MED)),
        ("local preference", a(0x40, LOCAL_PREF, &[0, 0, 0, 1]), Taken),
        ("local preference, any", a(0xc0, LOCAL_PREF, &[1]), Taken),
        ("originator, any", a(0x40, ORIGINATOR_ID, &[1]), Taken),
        ("cluster list, any", a(0xc0, CLUSTER_LIST, &[1]), Taken),
        ("atomic", a(0x40, ATOMIC_AGGREGATE, &[]), Taken),
        ("atomic long", a(0x40, ATOMIC_AGGREGATE, &[1]), Discarded(ATOMIC_AGGREGATE)),
        ("aggregator", a(0xc0, AGGREGATOR, &[0, 0, 0, 7, 1, 1, 1, 1]), Taken),
        ("aggregator short", a(0xc0, AGGREGATOR, &[0, 7, 1, 1, 1, 1]), Discarded(AGGREGATOR)),
        ("aggregator AS 0", a(0xc0, AGGREGATOR, &[0, 0, 0, 0, 1, 1, 1, 1]), Discarded(AGGREGATOR)),
        ("aggregator well-known", a(0x40, AGGREGATOR, &[0, 0, 0, 7, 1, 1, 1, 1]), Withdrawn(AGGREGATOR)),
        ("communities", a(0xc0, COMMUNITIES, &[0, 1, 0, 2, 0xff, 0xff, 0xff, 1]), Taken),
        ("communities partial", a(0xe0, COMMUNITIES, &[0, 1, 0, 2]), Taken),
        ("communities, very many", a(0xc0, COMMUNITIES, &[7; 1200]), Taken),
        ("communities empty", a(0xc0, COMMUNITIES, &[]), Withdrawn(COMMUNITIES)),
        ("communities odd", a(0xc0, COMMUNITIES, &[0, 1, 0, 2, 0]), Withdrawn(COMMUNITIES)),
        ("extended communities", a(0xc0, EXTENDED_COMMUNITIES, &[0; 16]), Taken),
        ("extended communities odd", a(0xc0, EXTENDED_COMMUNITIES, &[0; 9]), Withdrawn(EXTENDED_COMMUNITIES)),
        ("large communities", a(0xc0, LARGE_COMMUNITIES, &[0; 24]), Taken),
        ("large communities odd", a(0xc0, LARGE_COMMUNITIES, &[0; 16]), Withdrawn(LARGE_COMMUNITIES)),
        ("unknown optional transitive", a(0xc0, 99, &[1, 2, 3]), Taken),
        ("unknown optional", a(0x80, 99, &[]), Taken),
        ("unknown well-known", a(0x40, 99, &[1]), Ends(2, vec![0x40, 99, 1, 1])),
        ("AS4_PATH to one who needs none", a(0xc0, AS4_PATH, &[2, 1, 0, 0, 0, 7]), Taken),
        ("AS4_PATH malformed", a(0xc0, AS4_PATH, &[2, 1, 0]), Discarded(AS4_PATH)),
        ("AS4_PATH flags", a(0x80, AS4_PATH, &[2, 1, 0, 0, 0, 7]), Discarded(AS4_PATH)),
        ("AS4_AGGREGATOR short", a(0xc0, AS4_AGGREGATOR, &[0, 0, 0, 7]), Discarded(AS4_AGGREGATOR)),
        ("reach of another family", a(0x80, MP_REACH, &[0, 1, 128, 0, 0, 9, 9]), Taken),
        (
            "reach cut",
            a(0x80, MP_REACH, &[0, 1, 1, 4, 192, 0, 2]),
            Ends(9, vec![0x80, 14, 7, 0, 1, 1, 4, 192, 0, 2]),
        ),
        (
            "reach with a long next hop",
            a(0x80, MP_REACH, &[0, 1, 1, 5, 1, 2, 3, 4, 5, 0]),
            Ends(9, vec![0x80, 14, 10, 0, 1, 1, 5, 1, 2, 3, 4, 5, 0]),
        ),
        ("unreach cut", a(0x80, MP_UNREACH, &[0, 1]), Ends(9, vec![0x80, 15, 2, 0, 1])),
        (
            "unreach /33",
            a(0x80, MP_UNREACH, &[0, 1, 1, 33, 1, 1, 1, 1, 1]),
            Ends(9, vec![0x80, 15, 9, 0, 1, 1, 33, 1, 1, 1, 1, 1]),
        ),
        ("unreach with wrong flags", a(0x40, MP_UNREACH, &[0, 1, 1]), Withdrawn(MP_UNREACH)),
        ("longer than the attributes", vec![0x40, MED, 9, 0], Withdrawn(MED)),
        ("without a length", vec![0xd0, COMMUNITIES, 0], Withdrawn(COMMUNITIES)),
        ("without a kind", vec![0xd0], Withdrawn(0)),
        ("reach longer than the attributes", vec![0x80, MP_REACH, 9, 0], Ends(1, vec![])),
    ];
    for (name, attribute, expected) in rows {
        let kind = attribute.get(1).copied().unwrap_or_default();
        let mut attributes = without(kind);
        attributes.push(attribute);
        let bytes = body(&[], &attributes, NLRI);
        assert_eq!(then(&bytes, V4), expected, "{name}");
        if let Ok(update) = decode(&bytes, V4) {
            // Whatever the fault, it is known of what.
            assert_eq!(update.announced, [prefix()], "{name}");
        } else if expected != Ends(1, vec![]) {
            continue;
        }
        // With prefixes only in front, the same fault leaves it open what else was meant.
        let only_withdrawn = then(&body(NLRI, &attributes, &[]), V4);
        match expected {
            Withdrawn(_) if kind != MP_REACH => assert_eq!(only_withdrawn, Ends(1, vec![]), "{name}"),
            _ => assert_eq!(only_withdrawn, expected, "{name}"),
        }
    }
}

#[test]
fn faults_of_the_whole() {
    use Then::*;
    let good = || vec![origin(), path(), next_hop()];
    let some = |which: &[usize]| which.iter().map(|n| good()[*n].clone()).collect::<Vec<_>>();
    let twice = |attribute: Vec<u8>| [good(), vec![attribute.clone(), attribute]].concat();
    let unreach = a(0x80, MP_UNREACH, &[0, 1, 1, 8, 10]);
    let rows: Vec<(&str, Vec<u8>, Then)> = vec![
        ("good", body(&[], &good(), NLRI), Taken),
        ("nothing", body(&[], &[], &[]), Taken),
        ("attributes alone", body(&[], &good(), &[]), Taken),
        ("no origin", body(&[], &some(&[1, 2]), NLRI), Withdrawn(ORIGIN)),
        ("no path", body(&[], &some(&[0, 2]), NLRI), Withdrawn(AS_PATH)),
        ("no next hop", body(&[], &some(&[0, 1]), NLRI), Withdrawn(NEXT_HOP)),
        ("no attributes", body(&[], &[], NLRI), Withdrawn(ORIGIN)),
        ("origin twice", body(&[], &[good(), vec![a(0x40, ORIGIN, &[9, 9])]].concat(), NLRI), Taken),
        ("unreach twice", body(&[], &twice(unreach.clone()), NLRI), Ends(1, vec![])),
        (
            "wrong flags, but nothing else",
            body(&[], &[a(0xc0, MP_UNREACH, &[0, 1, 1, 8, 10])], &[]),
            Withdrawn(15),
        ),
        ("withdrawn /33", body(&[33, 1, 1, 1, 1, 1], &[], &[]), Ends(10, vec![])),
        ("withdrawn cut", body(&[24, 10, 1], &[], &[]), Ends(10, vec![])),
        ("announced /33", body(&[], &good(), &[33, 1, 1, 1, 1, 1]), Ends(10, vec![])),
        ("announced cut", body(&[], &good(), &[16, 10]), Ends(10, vec![])),
        ("withdrawn longer than the message", vec![0, 5, 0, 0], Ends(1, vec![])),
        ("attributes longer than the message", vec![0, 0, 0, 5, 0x40, 1, 1, 0], Ends(1, vec![])),
        ("no length of attributes", vec![0, 0, 0], Ends(1, vec![])),
        (
            "the gravest counts",
            body(
                &[],
                &[
                    good(),
                    vec![a(0x40, ATOMIC_AGGREGATE, &[1]), a(0x80, MED, &[]), a(0xc0, COMMUNITIES, &[])],
                ]
                .concat(),
                NLRI,
            ),
            Withdrawn(MED),
        ),
    ];
    for (name, bytes, expected) in rows {
        assert_eq!(then(&bytes, V4), expected, "{name}");
    }
    let fault = decode(&body(&[], &some(&[0, 1]), NLRI), V4).unwrap().fault.unwrap();
    assert_eq!(fault.to_string(), "NEXT_HOP: is missing; its prefixes count as withdrawn");
    let fault = Fault { attribute: 77, what: "odd", withdraws: false };
    assert_eq!(fault.to_string(), "attribute 77: odd; the attribute is discarded");
}

#[test]
fn a_good_update_is_read() {
    let attributes = [
        a(0x40, ORIGIN, &[1]),
        a(0x40, AS_PATH, &[2, 2, 0, 0, 0xfd, 0xf2, 0xfa, 0x56, 0xea, 0x07, 1, 1, 0, 0, 0, 9]),
        next_hop(),
        a(0x80, MED, &[0, 0, 1, 0]),
        a(0x40, ATOMIC_AGGREGATE, &[]),
        a(0xc0, AGGREGATOR, &[0, 0, 0, 9, 192, 0, 2, 9]),
        a(0xc0, COMMUNITIES, &[0x2f, 0x2c, 0xc7, 0x3c]),
    ];
    // Bits behind a prefix's length say nothing.
    let update = decode(&body(&[0, 9, 10, 0xff], &attributes, &[16, 10, 1, 32, 203, 0, 113, 7]), V4).unwrap();
    assert_eq!(update.withdrawn, [Prefix::ALL_V4, Prefix::v4(10, 128, 0, 0, 9)]);
    assert_eq!(update.announced, [prefix(), Prefix::v4(203, 0, 113, 7, 32)]);
    let said = update.attributes;
    assert_eq!(said.path.to_string(), "65010 4200000007 {9}");
    assert_eq!((said.origin, said.med, said.atomic_aggregate), (Some(Origin::Egp), Some(256), true));
    assert_eq!(said.next_hop, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(said.aggregator, Some((9, "192.0.2.9".parse().unwrap())));
    assert_eq!(said.communities, [12076 << 16 | 51004]);
    assert!(!update.end_of_rib && update.fault.is_none());
}

#[test]
fn the_other_family_is_read_from_its_attributes() {
    let network = "2001:db8:7::/48".parse().unwrap();
    let unreach = a(0x80, MP_UNREACH, &[0, 2, 1, 0, 16, 0xfd, 0]);
    let update = decode(&body(&[], &[reach(), origin(), path(), unreach], &[]), V6).unwrap();
    assert_eq!((update.announced, update.fault), (vec![network], None));
    assert_eq!(update.withdrawn, [Prefix::ALL_V6, "fd00::/16".parse().unwrap()]);
    assert_eq!(update.attributes.next_hop, Some("2001:db8::1".parse().unwrap()));
    // A link-local address may stand behind the global one.
    let mut with_local = reach();
    with_local.splice(3 + 4 + 16..3 + 4 + 16, [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    with_local[2] += 16;
    with_local[3 + 3] = 32;
    let update = decode(&body(&[], &[with_local, origin(), path()], &[]), V6).unwrap();
    assert_eq!(update.attributes.next_hop, Some("2001:db8::1".parse().unwrap()));
    // Faults withdraw what it announces; classic prefixes are nothing to this session, and it is nothing to a classic one.
    assert_eq!(then(&body(&[], &[reach(), origin()], &[]), V6), Then::Withdrawn(AS_PATH));
    let both = body(NLRI, &[reach(), origin(), path(), next_hop()], NLRI);
    let update = decode(&both, V6).unwrap();
    assert_eq!((update.announced, update.withdrawn), (vec![network], vec![]));
    assert_eq!(update.attributes.next_hop, Some("2001:db8::1".parse().unwrap()));
    let update = decode(&both, V4).unwrap();
    assert_eq!((update.announced, update.withdrawn), (vec![prefix()], vec![prefix()]));
    assert_eq!(update.attributes.next_hop, Some("192.0.2.1".parse().unwrap()));
    let mut long = reach();
    (long[2], long[3 + 3]) = (long[2] + 1, 17);
    long.insert(3 + 4, 0);
    let ends = Then::Ends(9, long.clone());
    assert_eq!(then(&body(&[], &[long, origin(), path()], &[]), V6), ends);
    let beyond = a(0x80, MP_UNREACH, &[&[0, 2, 1, 129], &[0; 17][..]].concat());
    assert_eq!(then(&body(&[], std::slice::from_ref(&beyond), &[]), V6), Then::Ends(9, beyond));
}

#[test]
fn the_end_of_a_rib_is_nothing_but_that() {
    let end = |bytes: &[u8], reading: Reading| decode(bytes, reading).is_ok_and(|u| u.end_of_rib);
    let mp = |afi: u8, rest: &[u8]| body(&[], &[a(0x80, MP_UNREACH, &[&[0, afi, 1], rest].concat())], &[]);
    assert!(end(&[0; 4], V4) && !end(&[0; 4], V6));
    assert!(end(&mp(2, &[]), V6) && !end(&mp(1, &[]), V6) && end(&mp(1, &[]), V4) && !end(&mp(2, &[]), V4));
    assert!(!end(&mp(2, &[0]), V6));
    assert!(!end(&body(NLRI, &[], &[]), V4) && !end(&body(&[], &[origin()], &[]), V4));
    let empty = a(0x80, MP_UNREACH, &[0, 2, 1]);
    assert!(!end(&body(&[], &[empty.clone(), origin()], &[]), V6));
    assert!(!end(&body(&[], &[a(0x40, MP_UNREACH, &[0, 2, 1])], &[]), V6));
}

#[test]
fn speakers_of_two_octets() {
    let two = Reading { family: Family::V4, four_octet: false };
    // 65010, then two that it cannot say.
    let short = a(0x40, AS_PATH, &[2, 3, 0xfd, 0xf2, 0x5b, 0xa0, 0x5b, 0xa0]);
    let long = a(0xc0, AS4_PATH, &[2, 2, 0, 6, 0x1a, 0x80, 0, 6, 0x1a, 0x81]);
    let trans = a(0xc0, AGGREGATOR, &[0x5b, 0xa0, 1, 1, 1, 1]);
    let other = a(0xc0, AGGREGATOR, &[0, 7, 1, 1, 1, 1]);
    let real = a(0xc0, AS4_AGGREGATOR, &[0, 6, 0x1a, 0x80, 2, 2, 2, 2]);
    type Row<'a> = (&'a [&'a Vec<u8>], &'a str, Option<u32>);
    let rows: [Row<'_>; 6] = [
        (&[&short], "65010 23456 23456", None),
        (&[&short, &long], "65010 400000 400001", None),
        (&[&long, &short, &trans, &real], "65010 400000 400001", Some(400_000)),
        (&[&short, &long, &other, &real], "65010 23456 23456", Some(7)),
        (&[&short, &trans], "65010 23456 23456", Some(23456)),
        (&[&short, &real], "65010 23456 23456", None),
    ];
    for (more, path, aggregator) in rows {
        let attributes: Vec<_> = [origin(), next_hop()].iter().chain(more.iter().copied()).cloned().collect();
        let update = decode(&body(&[], &attributes, NLRI), two).unwrap();
        assert_eq!(update.fault, None);
        assert_eq!(update.attributes.path.to_string(), path);
        assert_eq!(update.attributes.aggregator.map(|(asn, _)| asn), aggregator);
    }
}
