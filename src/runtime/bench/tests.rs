//! Tests of the bench from inside: that its traffic is what it says, and that its checks see what is wrong.

use std::collections::HashSet;
use std::net::IpAddr;

use ahash::RandomState;

use super::configuration;
use super::network::{Kind, Network, PORTS};
use super::settings::{Profile, Settings};
use super::source::{Source, connections};
use super::traffic::{OUTER, Packet, Traffic};
use super::{Report, Step, run, run_expecting};
use crate::compile::names::Names;
use crate::compile::{Program, compile};
use crate::dataplane::state::Received;
use crate::dataplane::{Context, Input, Occupancy, Results, Shard, process, sort};
use crate::packet::Verdict;
use crate::types::SECOND;
use crate::wire::{checksum, ethernet, gre, ip};

fn quick(settings: Settings) -> Settings {
    Settings { seconds: 0.02, repeats: 1, ..settings }
}

fn report(settings: Settings) -> Result<Report, String> {
    let faults = settings.faults();
    assert!(faults.is_empty(), "{faults:?}");
    run(&quick(settings), &mut |_| ())
}

#[test]
fn networks_of_odd_sizes_carry_their_traffic() {
    let small = || Settings { flows: 300, ..Profile::Small.settings() };
    for settings in [
        Settings { rules: 0, routes: 1, ..small() },
        Settings { rules: 1, routes: 2, vnets: 2, ..small() },
        Settings { rules: 7, routes: 9, size: 40, ..small() },
        Settings { rules: 13, routes: 70, size: 1400, seed: 7, ..small() },
        Settings { rules: 301, routes: 1000, size: 9000, vnets: 3, ..small() },
        Settings { rules: 1000, routes: 10_400, seed: 3, ..small() },
        Settings { vnets: 300, rules: 6, routes: 6, zipf: 2.0, ..small() },
    ] {
        let found = report(settings.clone()).unwrap_or_else(|wrong| panic!("{settings:?}: {wrong}"));
        let flows: u64 = found.repeats[0].iter().map(|f| f.flows).sum();
        assert!(flows == 300 || flows == 301, "{settings:?}: {flows}");
    }
}

#[test]
fn a_wrong_expectation_is_refused() {
    let settings = quick(Settings { flows: 200, vnets: 2, ..Profile::Small.settings() });
    let network = Network::new(2, settings.rules, settings.routes, settings.seed);
    run_expecting(&settings, network, &mut |_| ()).expect("as it must be");
    let others = [
        ("rule", Network::new(2, 0, settings.routes, settings.seed)),
        ("route", Network::new(2, settings.rules, settings.routes, settings.seed + 1)),
        ("vnet", Network::new(1, settings.rules, settings.routes, settings.seed)),
    ];
    for (what, believed) in others {
        let mut steps = Vec::new();
        let wrong = run_expecting(&settings, believed, &mut |s| steps.push(s)).expect_err(what);
        assert!(wrong.contains("must be") && wrong.contains("connection"), "{wrong}");
        assert!(!steps.contains(&Step::Repeat(0)), "{what} was measured");
    }
}

#[test]
fn frames_are_right_and_connections_are_distinct() {
    let network = Network::new(5, 100, 100, 9);
    let traffic = Traffic::new(network, 64);
    let mut frame = vec![0; traffic.frame_length()];
    let mut seen = HashSet::new();
    for connection in 0..20_000 {
        for (reply, opens) in [(false, true), (false, false), (true, false)] {
            let port = traffic.write(Packet { connection, reply, opens }, &mut frame);
            let link = ethernet::parse(&frame).unwrap();
            let outer = ip::parse_outer(&frame[link.payload..], true).unwrap();
            let header = gre::parse(&frame[34..]).unwrap();
            let inner = ip::parse_inner(&frame[OUTER..], true).unwrap();
            assert_eq!(frame[30..34], PORTS[usize::from(port)]);
            assert_eq!((outer.end, header.header, inner.total), (28 + 64, 8, 64));
            let (IpAddr::V4(from), IpAddr::V4(to)) = (inner.source, inner.destination) else {
                panic!("IPv6")
            };
            let pseudo = checksum::pseudo_v4(from, to, 44, inner.protocol);
            assert_eq!(checksum::fold(checksum::add(pseudo, &frame[OUTER + 20..])), 0xffff);
            let flow = (header.key, inner.source, inner.destination, inner.protocol, inner.ports);
            assert_eq!(seen.insert(flow), opens || reply, "{flow:?}");
        }
    }
}

#[test]
fn kinds_services_and_routes_are_used_alike() {
    let network = Network::new(1, 1000, 1000, 1);
    let traffic = Traffic::new(network, 64);
    let all: Vec<_> = (0..8000).map(|n| traffic.connection(n)).collect();
    for kind in Kind::ALL {
        let own: Vec<_> = all.iter().filter(|c| c.kind == kind).collect();
        assert_eq!(own.len(), 2000);
        let tcp = own.iter().filter(|c| c.tcp).count();
        assert!((800..1200).contains(&tcp), "{kind:?}: {tcp} of TCP");
        let services: HashSet<_> = own.iter().filter_map(|c| network.service_number(c.ports.1)).collect();
        assert!(services.len() == 32, "{kind:?}: {} services", services.len());
        let last = services.iter().max().copied().unwrap_or_default();
        assert!(last * 10 > network.services() * 9, "{kind:?}: the last service is {last}");
        let routes: HashSet<_> = own.iter().filter_map(|c| c.far_route).collect();
        assert!(kind == Kind::Inside || routes.len() >= 100, "{kind:?}: {} routes", routes.len());
    }
    let replies = (0..8000).filter(|n| traffic.has_replies(*n)).count();
    assert!((3600..4400).contains(&replies), "{replies}");
}

#[test]
fn so_many_connections_have_so_many_records() {
    for vnets in [1, 2, 7, 100] {
        for flows in [100, 101, 102, 333, 1000, 12_345] {
            let count = connections(flows, vnets);
            let inside = (0..count).filter(|n| n / u64::from(vnets) % 4 == 0).count() as u64;
            assert!((u64::from(flows)..=u64::from(flows) + 1).contains(&(count + inside)), "{vnets} {flows}");
        }
    }
}

#[test]
fn a_few_flows_have_most_packets_by_zipf_and_none_has_more_otherwise() {
    let most = |zipf: f64| {
        let settings = Settings { zipf, ..Profile::Small.settings() };
        let network = Network::new(1, 100, 100, 1);
        let mut source = Source::new(&settings, &Traffic::new(network, 64), 0);
        let mut counts = vec![0u32; connections(1000, 1) as usize];
        for _ in 0..100_000 {
            counts[source.next().connection as usize] += 1;
        }
        counts.into_iter().max().unwrap_or_default()
    };
    // Of 800 connections, the first has one part in 7.26 by Zipf's law with exponent 1.
    assert!(most(0.0) < 200);
    assert!((12_800..14_800).contains(&most(1.0)), "{}", most(1.0));
}

#[test]
fn new_flows_come_as_often_as_asked_and_the_clock_lets_as_many_idle_out() {
    let settings = Settings { new_flows: 25.0, flows: 5000, workers: 2, ..Profile::Small.settings() };
    let network = Network::new(1, 100, 100, 1);
    let mut source = Source::new(&settings, &Traffic::new(network, 64), 1);
    while source.first().is_some() {}
    let filled = source.now();
    let mut opened = 0;
    for _ in 0..20_000 {
        let packet = source.next();
        assert_eq!(packet.connection % 2, 1);
        opened += u64::from(packet.opens);
    }
    assert!((4700..5300).contains(&opened), "{opened}");
    // 4,000 connections at two workers: 2,000 of each are live, for 240 seconds and a little.
    let seconds = (source.now() - filled) / SECOND;
    assert!((600..900).contains(&seconds), "{seconds}");
}

/// Frames of connections as they open, go on and are answered; some are not of the usual shape.
fn frames(traffic: &Traffic) -> (Vec<u8>, Vec<Input>) {
    let (mut bytes, mut inputs) = (Vec::new(), Vec::new());
    let mut frame = vec![0; traffic.frame_length()];
    for turn in 0..3 {
        for connection in 0..700 {
            let packet = Packet { connection, reply: turn == 2, opens: turn == 0 };
            let port = traffic.write(packet, &mut frame);
            if (connection + turn) % 41 == 0 {
                frame[OUTER] = 0x46;
            }
            let (start, original) = (bytes.len() as u32, frame.len() as u32);
            bytes.extend_from_slice(&frame);
            inputs.push(Input { start, end: start + original, original, port, now: SECOND + turn });
        }
    }
    (bytes, inputs)
}

#[test]
fn sorted_packets_fare_like_others() {
    let network = Network::new(3, 100, 100, 1);
    let model = configuration::model(&network, 64, 3000);
    let program = compile(&model, &mut Names::default());
    let (bytes, inputs) = frames(&Traffic::new(network, 64));
    fn context<'a>(program: &'a Program, occupancy: &'a Occupancy) -> Context<'a> {
        Context::new(program, occupancy)
    }
    let occupancy = || {
        let mut occupancy = Occupancy::new(2);
        occupancy.grow(&program);
        occupancy
    };
    let hasher = RandomState::new();
    let (counts, mut shard) = (occupancy(), Shard::new(hasher.clone()));
    let mut alone = Results::default();
    process(context(&program, &counts), None, &mut shard, &bytes, &inputs, &mut alone);
    let forwarded = alone.done.iter().filter(|b| b.verdict == Verdict::Forward).count();
    assert!((1900..2100).contains(&forwarded), "{forwarded}");

    let counts = occupancy();
    let mut lists = [Vec::new(), Vec::new()];
    let (early, late) = inputs.split_at(1001);
    sort(&program, &bytes, early, &mut lists);
    sort(&program, &bytes, late, &mut lists);
    assert_eq!(lists.iter().map(Vec::len).sum::<usize>(), inputs.len());
    for (number, list) in lists.iter().enumerate() {
        assert!(list.len() > 700, "{}", list.len());
        let mut shard = Shard::numbered(number, hasher.clone());
        let (mut results, mut received) = (Results::default(), Received::default());
        for part in list.chunks(150) {
            process(context(&program, &counts), Some(&mut received), &mut shard, &bytes, part, &mut results);
        }
        for (i, input) in list.iter().enumerate() {
            let same = input.start as usize / (input.end - input.start) as usize;
            assert_eq!(results.outcome(&program, i), alone.outcome(&program, same), "{input:?}");
            assert!(results.frames(i).eq(alone.frames(same)), "{input:?}");
        }
    }
}
