//! The table against a plain one that looks through all its records, and its bounds against attack.

use std::collections::HashMap;

use super::timer::TICK_NANOS;
use super::*;
use crate::sys::{Work, widest};
use crate::types::SECOND;

const MINUTE: Nanos = 60 * SECOND;
const START: Nanos = 1_700_000_000 * SECOND + 12_345;

fn seed(n: u64) -> RandomState {
    RandomState::with_seeds(n, n ^ 0x5851_f42d, 77, 99)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn slot(&mut self, model: &HashMap<FlowKey, Plain>) -> Option<u32> {
        let mut slots: Vec<u32> = model.values().map(|p| p.slot).collect();
        slots.sort_unstable();
        (!slots.is_empty()).then(|| slots[self.roll(slots.len() as u64) as usize])
    }
}

fn key(n: u64) -> FlowKey {
    let owner = match n % 5 {
        0 => Owner { vnet: 3, endpoint: 0 },
        1 => Owner { vnet: 3, endpoint: 8 },
        2 => Owner { vnet: 3, endpoint: 9 },
        3 => Owner { vnet: 0, endpoint: 10 },
        _ => Owner { vnet: 0, endpoint: 0 },
    };
    let (local, remote) = (n as u32 / 7, n as u32 % 7);
    let (local, remote): (IpAddr, IpAddr) = match n % 3 {
        0 => (
            Ipv6Addr::from_bits(u128::from(local) << 64).into(),
            Ipv6Addr::from_bits(u128::from(remote)).into(),
        ),
        _ => (Ipv4Addr::from_bits(local).into(), Ipv4Addr::from_bits(remote).into()),
    };
    FlowKey { owner, protocol: [6, 17, 1][n as usize % 3], ports: (n as u16, 53), local, remote }
}

/// A key as the fast path has it, if it is of IPv4.
fn flow_of(records: &Records, key: &FlowKey) -> Option<FlowV4> {
    let (IpAddr::V4(local), IpAddr::V4(remote)) = (key.local, key.remote) else { return None };
    let (local, remote) = (local.to_bits(), remote.to_bits());
    let ports = u32::from(key.ports.0) << 16 | u32::from(key.ports.1);
    let hash = records.hash_ipv4(key.owner.vnet, local, remote, ports, key.protocol);
    Some(FlowV4 { hash, owner: key.owner, local, remote, ports, protocol: key.protocol })
}

/// What the fast path asks, with the widest instructions.
struct FindIpv4<'a>(&'a Records, FlowV4);

impl Work for FindIpv4<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> u32 {
        self.0.find_ipv4(wide, &self.1)
    }
}

struct OpenIpv4<'a>(&'a mut Records, Opening, Nanos, Direction);

impl Work for OpenIpv4<'_> {
    type Output = Option<u32>;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> Option<u32> {
        let OpenIpv4(records, opening, now, opened_by) = self;
        records.open_ipv4(wide, &opening.flow, now, opening.idle_minutes, opening.rule, opened_by)
    }
}

struct OpenLinked<'a>(&'a mut Records, Opening, Opening, Nanos, Stored);

impl Work for OpenLinked<'_> {
    type Output = Option<[u32; 2]>;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> Option<[u32; 2]> {
        let OpenLinked(records, source, destination, now, way) = self;
        records.open_linked(wide, &source, &destination, now, way)
    }
}

struct Reap<'a>(&'a mut Records, Nanos, usize, &'a mut Vec<Owner>);

impl Work for Reap<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) -> usize {
        self.0.reap(wide, self.1, self.2, |owner| self.3.push(owner))
    }
}

/// An IPv4 key in VNet 1.
fn key4(n: u32) -> FlowKey {
    FlowKey {
        owner: Owner { vnet: 1, endpoint: 0 },
        protocol: 17,
        ports: (7, 53),
        local: IpAddr::from([10, 0, 0, 1]),
        remote: Ipv4Addr::from_bits(n).into(),
    }
}

fn pair(local: u32, remote: u32) -> u64 {
    u64::from(local) | u64::from(remote) << 32
}

fn hash4(records: &Records, n: u32) -> u32 {
    records.hash_ipv4(1, 0x0a00_0001, n, 7 << 16 | 53, 17)
}

fn open(records: &mut Records, n: u32, now: Nanos) -> Option<u32> {
    records.open(&key4(n), now, 4, n, Direction::Outbound)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Plain {
    slot: u32,
    last: Nanos,
    idle: u8,
    ended: bool,
    rule: u32,
    opened_by: Direction,
    partner: Option<FlowKey>,
    alias: u32,
}

/// Both tables, and the time.
struct Pair {
    records: Records,
    model: HashMap<FlowKey, Plain>,
    now: Nanos,
    dice: Dice,
    opened: u64,
}

impl Pair {
    fn new(n: u64) -> Pair {
        let records = Records::new(seed(n));
        Pair { records, model: HashMap::new(), now: START, dice: Dice(n), opened: 0 }
    }

    fn last(&self, key: &FlowKey) -> Nanos {
        let own = &self.model[key];
        own.partner.map_or(own.last, |p| own.last.max(self.model[&p].last))
    }

    fn gone_at(&self, key: &FlowKey) -> Nanos {
        let own = &self.model[key];
        let last = self.last(key);
        if own.ended { last + ENDED } else { last + Nanos::from(own.idle) * MINUTE + 1 }
    }

    fn unlink(&mut self, key: &FlowKey) {
        let Some(partner) = self.model[key].partner else { return };
        let last = self.last(key);
        for key in [*key, partner] {
            let own = self.model.get_mut(&key).unwrap();
            own.partner = None;
            own.last = last;
        }
    }

    fn drop(&mut self, key: &FlowKey) {
        self.unlink(key);
        self.model.remove(key);
    }

    fn key_of(&mut self) -> Option<FlowKey> {
        self.dice.slot(&self.model).map(|slot| self.records.key(slot))
    }

    fn pass_time(&mut self) {
        self.now += match self.dice.roll(6) {
            0 => 0,
            1 => self.dice.roll(1000),
            2 => self.dice.roll(TICK_NANOS),
            3 => self.dice.roll(5) * SECOND,
            4 if self.dice.roll(20) == 0 => self.dice.roll(3 * 60) * MINUTE,
            _ => {
                // To the very instant at which a record is gone, or one before or after it.
                let Some(key) = self.key_of() else { return };
                let at = self.gone_at(&key) + self.dice.roll(3);
                return self.now = self.now.max(at - 1).min(self.now + 20 * MINUTE);
            }
        };
    }

    /// There is none of this key any more.
    fn clear(&mut self, key: &FlowKey) {
        if self.model.contains_key(key) {
            assert!(self.records.remove_key(key));
            self.drop(key);
        }
        assert!(!self.records.remove_key(key));
    }

    /// The records of both endpoints of a packet.
    fn open_linked(&mut self, keys: [FlowKey; 2]) {
        let flows = keys.map(|key| flow_of(&self.records, &key));
        let [Some(a), Some(b)] = flows else { return };
        if keys[0] == keys[1] {
            return;
        }
        keys.iter().for_each(|key| self.clear(key));
        let idle = [4, 5, 5, 30][self.dice.roll(4) as usize];
        let idles = [idle, if self.dice.roll(3) == 0 { 4 } else { idle }];
        let rules = [0; 2].map(|_| self.dice.roll(1000) as u32);
        let [a, b] =
            [(a, 0), (b, 1)].map(|(flow, n)| Opening { flow, idle_minutes: idles[n], rule: rules[n] });
        let way = Stored { arrival: 3, adjacency: rules[0], route: rules[1] };
        let slots = widest(OpenLinked(&mut self.records, a, b, self.now, way)).unwrap();
        for n in 0..2 {
            let (last, alias, slot) = (self.now, 0, slots[n]);
            let (idle, rule, partner) = (idles[n], rules[n], Some(keys[1 - n]));
            let opened_by = [Direction::Outbound, Direction::Inbound][n];
            assert!(self.model.values().all(|p| p.slot != slot));
            let plain = Plain { slot, last, idle, ended: false, rule, opened_by, partner, alias };
            self.model.insert(keys[n], plain);
            self.opened += 1;
        }
        let [source, destination] = slots.map(|slot| self.records.record(slot));
        assert_eq!((*source.way(false), source.way_rule()), (way, rules[1]));
        assert_eq!((*destination.way(false), destination.way_rule()), (Stored::default(), 0));
    }

    fn open(&mut self, key: FlowKey) {
        self.clear(&key);
        let idle = [4, 4, 5, 30, 0, 255][self.dice.roll(6) as usize];
        let opened_by = [Direction::Inbound, Direction::Outbound][self.dice.roll(2) as usize];
        let rule = self.dice.roll(1000) as u32;
        let slot = match flow_of(&self.records, &key).filter(|_| rule.is_multiple_of(2)) {
            Some(flow) => {
                let opening = Opening { flow, idle_minutes: idle, rule };
                widest(OpenIpv4(&mut self.records, opening, self.now, opened_by)).unwrap()
            }
            None => self.records.open(&key, self.now, idle, rule, opened_by).unwrap(),
        };
        let (last, alias) = (self.now, 0);
        let plain = Plain { slot, last, idle, ended: false, rule, opened_by, partner: None, alias };
        assert!(self.model.values().all(|p| p.slot != slot));
        self.model.insert(key, plain);
        self.opened += 1;
    }

    fn change(&mut self, key: FlowKey, what: u64) {
        let Plain { slot, ended, .. } = self.model[&key];
        let (now, generation) = (self.now, self.records.generation(slot));
        match what {
            0..3 => {
                self.records.refresh(slot, now);
                if !ended {
                    self.model.get_mut(&key).unwrap().last = now;
                }
            }
            3 => {
                self.records.end(slot, now);
                if !ended {
                    self.unlink(&key);
                    let own = self.model.get_mut(&key).unwrap();
                    (own.ended, own.last) = (true, now);
                }
            }
            4 => {
                self.records.remove(slot);
                assert_ne!(self.records.generation(slot), generation);
                self.drop(&key);
            }
            5 | 6 => {
                let Some(other) = self.key_of() else { return };
                self.records.link(slot, self.model[&other].slot);
                let same = other == key || self.model[&key].partner == Some(other);
                if !ended && !self.model[&other].ended && !same {
                    for (key, partner) in [(key, other), (other, key)] {
                        self.unlink(&key);
                        let own = self.model.get_mut(&key).unwrap();
                        (own.partner, own.alias) = (Some(partner), 0);
                    }
                }
            }
            7 => {
                self.records.unlink(slot);
                self.unlink(&key);
            }
            _ => {
                let hash = self.dice.roll(u64::from(u32::MAX)) as u32 | 1;
                let own = self.model.get_mut(&key).unwrap();
                assert_eq!(self.records.alias(slot, hash), own.partner.is_none());
                if own.partner.is_none() {
                    let before = std::mem::replace(&mut own.alias, hash);
                    assert!(before == 0 || self.records.probe_further(before, REVERSED) == NONE);
                }
            }
        }
    }

    /// Takes what was said to be gone out of the model: it must be gone there, and those left must not, if `all`.
    fn take_gone(&mut self, mut told: Vec<Owner>, all: bool) {
        let keys: Vec<FlowKey> = self.model.keys().copied().collect();
        let gone: Vec<FlowKey> =
            keys.iter().filter(|k| self.records.find_any(k).is_none()).copied().collect();
        for key in &gone {
            assert!(self.gone_at(key) <= self.now, "{key:?} went early");
        }
        let mut owners: Vec<Owner> = gone.iter().map(|k| k.owner).collect();
        owners.sort_unstable();
        told.sort_unstable();
        assert_eq!(owners, told);
        // A partner that goes leaves the later use of both behind.
        gone.iter().for_each(|k| self.drop(k));
        if all {
            assert!(self.model.keys().all(|k| self.gone_at(k) > self.now));
        }
    }

    fn reap(&mut self, all: bool) {
        let mut told = Vec::new();
        if all {
            self.records.reap_all(self.now, |owner| told.push(owner));
        } else {
            let budget = self.dice.roll(20) as usize;
            let done = widest(Reap(&mut self.records, self.now, budget, &mut told));
            assert!(told.len() <= done && done <= budget);
        }
        self.take_gone(told, all);
    }

    fn retain(&mut self) {
        let (mut dice, mut told, mut lost) = (Dice(self.dice.roll(1000)), Vec::new(), Vec::new());
        let (model, mut seen) = (&mut self.model, 0);
        let vnet = self.dice.roll(4) as u32;
        let whose = |owner: Owner| vnet == 1 || owner.vnet == vnet;
        let expected = model.keys().filter(|k| whose(k.owner)).count();
        self.records.retain_of(
            expected,
            whose,
            |key, judged| {
                seen += 1;
                let own = model.get_mut(key).unwrap();
                let told = (judged.idle_minutes, judged.rule, judged.opened_by, judged.ended);
                assert_eq!(told, (own.idle, own.rule, own.opened_by, own.ended));
                judged.idle_minutes = [own.idle, 4, 7][dice.roll(3) as usize];
                judged.rule += 1;
                (own.idle, own.rule) = (judged.idle_minutes, judged.rule);
                if dice.roll(4) == 0 {
                    lost.push(*key);
                    return false;
                }
                true
            },
            |owner| told.push(owner),
        );
        assert_eq!(seen, expected);
        assert_eq!(told, lost.iter().map(|k| k.owner).collect::<Vec<_>>());
        lost.iter().for_each(|k| self.drop(k));
    }

    fn find(&self, key: &FlowKey) {
        let expected = self.model.get(key).filter(|_| self.gone_at(key) > self.now).map(|p| p.slot);
        assert_eq!(self.records.find(key, self.now), expected);
        let any = self.model.get(key).map(|p| p.slot);
        assert_eq!(self.records.find_any(key), any);
        if let Some(flow) = flow_of(&self.records, key) {
            assert_eq!(widest(FindIpv4(&self.records, flow)), any.unwrap_or(NONE));
            let other = Owner { endpoint: flow.owner.endpoint ^ 1, ..flow.owner };
            assert_eq!(self.records.find_ipv4(Base, &FlowV4 { owner: other, ..flow }), NONE);
        }
    }

    /// Everything that can be seen of every record.
    fn check(&self) {
        let (records, now) = (&self.records, self.now);
        assert_eq!((records.len(), records.opened()), (self.model.len(), self.opened));
        let live = self.model.iter().filter(|(k, p)| !p.ended && self.gone_at(k) > now);
        assert_eq!(records.live(now), live.count() as u64);
        self.model.iter().for_each(|(key, own)| {
            self.find(key);
            let record = records.record(own.slot);
            assert_eq!((records.key(own.slot), records.owner(own.slot)), (*key, key.owner));
            assert_eq!(
                (records.last(own.slot), records.gone_at(own.slot)),
                (self.last(key), self.gone_at(key))
            );
            let partner = own.partner.map(|p| self.model[&p].slot);
            assert_eq!((record.partner(), record.ended(), record.rule), (partner, own.ended, own.rule));
            let way_idle = own.partner.map_or(own.idle, |p| own.idle.min(self.model[&p].idle));
            assert_eq!(record.fresh(now), now - own.last <= Nanos::from(way_idle) * MINUTE);
            assert_eq!((record.opened_by(), record.idle_minutes()), (own.opened_by, own.idle));
            if own.alias != 0 {
                assert_eq!(records.probe_further(own.alias, REVERSED), own.slot);
            }
            if let (IpAddr::V4(local), IpAddr::V4(remote)) = (key.local, key.remote) {
                let (local, remote) = (local.to_bits(), remote.to_bits());
                let ports = u32::from(key.ports.0) << 16 | u32::from(key.ports.1);
                let (kind, unlinked) =
                    (Kind::new(key.protocol.into(), false), Kind::new(key.protocol.into(), true));
                let live = |kind| record.is_live_ipv4(pair(local, remote), ports, kind);
                assert_eq!((live(kind), live(unlinked)), (!own.ended, !own.ended && own.partner.is_none()));
                assert!(!live(Kind::new(u32::from(key.protocol) ^ 1, false)));
                assert!(!record.is_live_ipv4(pair(local ^ 1, remote), ports, kind));
                let hash = records.hash_ipv4(key.owner.vnet, local, remote, ports, key.protocol);
                let (glance, slot) =
                    (records.probe(Base, records.bucket(hash), hash, 0), records.probe_further(hash, 0));
                assert!(slot != NONE && (glance == NONE || glance == slot));
            } else {
                assert!(!record.is_live_ipv4(
                    pair(record.local, record.remote),
                    record.ports,
                    Kind::new(key.protocol.into(), false)
                ));
            }
        });
    }
}

#[test]
fn the_table_is_like_a_plain_one() {
    for n in 0..12 {
        let mut pair = Pair::new(n);
        let keys = [20, 300, 5000][n as usize % 3];
        for step in 0..3000 {
            match pair.dice.roll(40) {
                0..8 => {
                    let key = key(pair.dice.roll(keys));
                    pair.open(key);
                }
                8..10 => {
                    let keys = [0; 2].map(|_| key(pair.dice.roll(keys)));
                    pair.open_linked(keys);
                }
                10..14 => pair.pass_time(),
                14..18 => {
                    let key = key(pair.dice.roll(keys));
                    pair.find(&key);
                }
                18 => pair.reap(true),
                19..22 => pair.reap(false),
                22 if pair.dice.roll(10) == 0 => pair.retain(),
                what => {
                    if let Some(key) = pair.key_of() {
                        pair.change(key, what % 11);
                    }
                }
            }
            if step % 50 == 0 {
                pair.check();
            }
        }
        pair.check();
        pair.now += 300 * MINUTE;
        pair.reap(true);
        assert!(pair.records.is_empty() && pair.model.is_empty());
    }
}

#[test]
fn records_go_to_the_nanosecond() {
    for offset in [0, 1, TICK_NANOS - 1, TICK_NANOS / 2] {
        let now = START / TICK_NANOS * TICK_NANOS + offset;
        let mut records = Records::new(seed(1));
        let (idle, ended) = (open(&mut records, 1, now).unwrap(), open(&mut records, 2, now).unwrap());
        records.end(ended, now);
        assert_eq!(
            (records.gone_at(idle), records.gone_at(ended)),
            (now + 4 * MINUTE + 1, now + 10 * SECOND)
        );
        let mut count = |at| {
            let mut gone = 0;
            records.reap_all(at, |_| gone += 1);
            (gone, records.find(&key4(1), at).is_some(), records.find(&key4(2), at).is_some())
        };
        assert_eq!(count(now + 10 * SECOND - 1), (0, true, true));
        assert_eq!(count(now + 10 * SECOND), (1, true, false));
        assert_eq!(count(now + 4 * MINUTE), (0, true, false));
        assert_eq!(count(now + 4 * MINUTE + 1), (1, false, false));
    }
}

#[test]
fn ways_go_when_the_record_ends_or_partners_part() {
    let mut records = Records::new(seed(2));
    let [a, b] = [1, 2].map(|n| open(&mut records, n, START).unwrap());
    let way = Stored { arrival: 1, adjacency: 2, route: 3 };
    records.link(a, b);
    records.record_mut(a).keep_way(false, way);
    assert_eq!((records.record(a).partner(), records.record(b).partner()), (Some(b), Some(a)));
    records.refresh(a, START + 5);
    assert_eq!(records.last(b), START + 5);
    records.end(b, START + 7);
    assert_eq!((records.record(a).partner(), *records.record(a).way(false)), (None, Stored::default()));
    assert_eq!((records.last(a), records.last(b)), (START + 5, START + 7));
    records.record_mut(a).keep_way(false, way);
    assert!(!records.record_mut(a).see_fin(Direction::Outbound));
    assert!(!records.record_mut(a).see_fin(Direction::Outbound));
    assert!(records.record_mut(a).see_fin(Direction::Inbound));
    records.end(a, START + 8);
    assert_eq!(*records.record(a).way(false), Stored::default());
    assert!(records.record(a).ended() && !records.alias(NONE, 5));
}

#[test]
fn no_slot_matches_nothing() {
    let mut records = Records::new(seed(3));
    open(&mut records, 1, START).unwrap();
    assert!(!records.record(NONE).is_live_ipv4(0, 0, Kind::new(0, false)) && !records.record(NONE).is_used());
    records.remove(NONE);
    records.end(NONE, START);
    records.link(NONE, 1);
    records.unlink(NONE);
    records.prefetch_record(NONE);
    assert_eq!(records.len(), 1);
    assert_eq!([1, 2].map(|n| records.probe_further(hash4(&records, n), 0)), [1, NONE]);
}

#[test]
fn who_knows_the_seed_has_only_his_own_refused() {
    let mut records = Records::new(seed(4));
    for n in 0..10_000 {
        open(&mut records, 1 << 31 | n, START).unwrap();
    }
    // Keys of the same two buckets of one segment.
    let segments = records.index.segments();
    let place = hash4(&records, 0) & 0xe000_ffff;
    let crowd: Vec<u32> = (0..).filter(|n| hash4(&records, *n) & 0xe000_ffff == place).take(60).collect();
    let taken: Vec<u32> = crowd.iter().copied().filter(|n| open(&mut records, *n, START).is_some()).collect();
    assert!(taken.len() <= 32, "{}", taken.len());
    assert!(records.index.segments() <= segments + 1, "no memory is spent on them but for one split");
    assert!(taken.iter().all(|n| records.find(&key4(*n), START).is_some()));
    let opened = (0..10_000).filter(|n| open(&mut records, 3 << 30 | n, START).is_some()).count();
    assert!(opened >= 9990, "others still find room: {opened}");
    for n in taken {
        assert!(records.remove_key(&key4(n)));
    }
    assert!(open(&mut records, crowd[59], START).is_some(), "room is found again");
}

#[test]
fn no_keys_are_hard_for_an_unknown_seed() {
    let patterns: [fn(u32) -> u32; 5] =
        [|n| n, |n| n << 12, |n| n.reverse_bits(), |n| n * 0x0101, |n| n ^ n << 16];
    for (n, pattern) in patterns.into_iter().enumerate() {
        let mut records = Records::new(seed(100 + n as u64));
        for n in 0..60_000 {
            if records.find_any(&key4(pattern(n))).is_none() {
                assert!(open(&mut records, pattern(n), START).is_some(), "{n}");
            }
        }
        let load = records.len() as f64 / (records.index.segments() * 2048) as f64;
        assert!(load > 0.4, "{load}");
    }
}

#[test]
fn expiry_does_no_more_than_it_is_told() {
    let mut records = Records::new(seed(5));
    let count = 200_000;
    for n in 0..count {
        open(&mut records, n, START).unwrap();
    }
    let later = START + 4 * MINUTE + TICK_NANOS;
    let mut gone = 0;
    assert_eq!(records.reap(Base, START + MINUTE, 1000, |_| gone += 1), 0);
    while records.reap(Base, later, 100, |_| gone += 1) == 100 {}
    assert_eq!((gone, records.len()), (count, 0));
    // After a long silence, too; and freed slots are given again.
    let memory = records.memory();
    for n in 0..count {
        open(&mut records, n, START + MINUTE * 100_000).unwrap();
    }
    assert_eq!(records.memory(), memory);
}

#[test]
fn a_million_records_take_less_than_96_bytes_each() {
    let mut records = Records::new(seed(6));
    assert!(records.memory() < 170_000, "an empty table is small: {}", records.memory());
    for n in 0..1_000_000 {
        let slot = open(&mut records, n, START + Nanos::from(n) * 1000).unwrap();
        if n % 10 < 3 {
            assert!(records.alias(slot, hash4(&records, n | 1 << 31)));
        }
    }
    let each = records.memory() as f64 / records.len() as f64;
    println!("{each:.1} bytes per record");
    assert!(each < 96.0, "{each}");
    assert_eq!(records.huge_pages(), crate::sys::huge_pages_allowed());

    // They all go at once, and still no call does more than it is told.
    let (later, mut calls) = (START + 5 * MINUTE, 0);
    while !records.is_empty() {
        let before = records.len();
        let mut gone = 0;
        let done = records.reap(Base, later, 256, |_| gone += 1);
        assert!(done <= 256 && before - records.len() == gone && gone <= done);
        calls += 1;
    }
    assert!(calls <= 1_000_000 / 256 * 14 / 12, "{calls} calls, most of them in full");
}

#[test]
fn traffic_is_told_when_flows_begin_go_on_and_end() {
    let mut records = Records::new(seed(7));
    let open = |records: &mut Records, n: u64, at: Nanos| {
        records.open(&key(n), at, 4, n as u32, Direction::Outbound).unwrap()
    };
    // Nobody asks yet.
    let early = open(&mut records, 1, START);
    records.charge([Some(early), None], 100, START);
    assert_eq!((records.events(), records.take_events().0.len()), (0, 0));
    records.count_traffic();
    let [a, b] = [2, 4].map(|n| open(&mut records, n, START));
    records.link(a, b);
    records.charge_way(a, false, 100, START + 1);
    records.charge_way(a, false, 200, START + 2);
    records.charge([Some(b), Some(a)], 40, START + 3);
    records.charge([None, Some(early)], 60, START + 4);
    let said = |records: &mut Records| -> Vec<_> {
        let (events, lost) = records.take_events();
        assert_eq!(lost, 0);
        events.iter().map(|e| (e.rule, e.phase, e.at - START, e.sent, e.received)).collect()
    };
    let (none, traffic) = (Traffic::default(), |packets, bytes| Traffic { packets, bytes });
    assert_eq!(said(&mut records), [(2, Phase::Begun, 0, none, none), (4, Phase::Begun, 0, none, none)]);
    // What was told of a moment ago waits; nobody knows when the first one was.
    assert_eq!(records.tell_going_on(1, 100, START + SECOND, MINUTE), 4);
    assert_eq!(said(&mut records), [(1, Phase::GoesOn, SECOND, none, traffic(1, 60))]);
    records.tell_going_on(1, 100, START + MINUTE, MINUTE);
    let (up, down) = (traffic(2, 300), traffic(1, 40));
    let at = MINUTE;
    assert_eq!(said(&mut records), [(2, Phase::GoesOn, at, up, down), (4, Phase::GoesOn, at, down, up)]);
    records.tell_going_on(1, 100, START + 3 * MINUTE, MINUTE);
    assert_eq!(said(&mut records), []);
    // The end is told of with what came since, as of the last packet.
    records.charge_way(a, false, 50, START + MINUTE);
    records.reap_all(START + 60 * MINUTE, |_| ());
    let mut ends = said(&mut records);
    ends.sort_by_key(|e| e.0);
    assert_eq!(
        ends[1..],
        [(2, Phase::Ended, MINUTE, traffic(1, 50), none), (4, Phase::Ended, MINUTE, none, traffic(1, 50))]
    );
    assert_eq!(ends[0].0, 1);
}

#[test]
fn at_the_end_flows_that_have_ended_are_told_of_too() {
    let mut records = Records::new(seed(9));
    records.count_traffic();
    let [a, b] = [2, 4].map(|n| records.open(&key(n), START, 4, n as u32, Direction::Outbound).unwrap());
    for slot in [a, b] {
        records.charge([Some(slot), None], 100, START + 1);
    }
    records.end(a, START + 1);
    records.take_events();
    let phases = |records: &mut Records| -> Vec<_> {
        records.take_events().0.iter().map(|e| (e.rule, e.phase, e.at, e.sent.bytes)).collect()
    };
    records.tell_going_on(1, 100, START + MINUTE, MINUTE);
    assert_eq!(phases(&mut records), [(4, Phase::GoesOn, START + MINUTE, 100)]);
    records.charge([Some(b), None], 10, START + MINUTE);
    records.tell_going_on(1, 100, START + MINUTE + 1, 0);
    let end = START + MINUTE + 1;
    assert_eq!(phases(&mut records), [(2, Phase::Ended, START + 1, 100), (4, Phase::GoesOn, end, 10)]);
    records.tell_going_on(1, 100, end, 0);
    assert_eq!(phases(&mut records), []);
}

#[test]
fn events_that_nobody_takes_are_bounded_and_counted() {
    let mut records = Records::new(seed(8));
    records.count_traffic();
    let most = MOST_EVENTS as u64;
    for n in 0..most + 5 {
        let mut key = key(2);
        (key.ports, key.protocol) = ((n as u16, (n >> 16) as u16), 6);
        records.open(&key, START, 4, 1, Direction::Inbound).unwrap();
    }
    assert_eq!(records.events(), MOST_EVENTS);
    let (events, lost) = records.take_events();
    assert_eq!((events.len(), lost, records.take_events().1), (MOST_EVENTS, 5, 0));
}
