//! Origins: where packets arrive from, as one number. An origin is a port, a tunnel (by its key) or a VNet, the outer
//! source, and the customer's configuration at the time.
//!
//! The stored way of a flow names the origin it was made for. So one comparison proves that a packet came by the same
//! tunnel from the same host, and that nothing of its customer's configuration has changed since: a change gives the
//! origins of that customer new numbers, and those of no other. Where nothing but routes changed, it is remembered which
//! numbers they had and what moved, so that a way to elsewhere is renewed by a look at that ([`Origins::still_leads`]).
//! That an origin is found at all proves that the tunnel is
//! there and up, and that the outer source is its remote or a host of its VNet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::moved::History;
use super::program::{Program, Reaches};
use crate::model::Role;
use crate::sys::prefetch_index;
use crate::types::Prefix;

/// How a packet of the usual shape arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginKey {
    /// GRE key << 32 | outer source; of a plain packet the VNet's number.
    from: u64,
    /// The port, and whether the packet was plain.
    port: u32,
}

impl OriginKey {
    /// From nowhere that is known.
    pub const NONE: OriginKey = OriginKey { from: 0, port: u32::MAX };

    /// Of a packet in GRE.
    #[inline(always)]
    pub fn in_gre(port: u16, key: u32, source: u32) -> OriginKey {
        OriginKey { port: u32::from(port), from: u64::from(key) << 32 | u64::from(source) }
    }

    /// Of a plain packet for a VNet.
    #[inline(always)]
    pub fn plain(port: u16, vnet: u32) -> OriginKey {
        OriginKey { port: u32::from(port) | 1 << 16, from: u64::from(vnet) }
    }

    /// The key of these [words](Self::words).
    #[inline(always)]
    pub fn of(high: u32, low: u32, port: u32) -> OriginKey {
        OriginKey { from: u64::from(high) << 32 | u64::from(low), port }
    }

    /// GRE key, or 0; outer source, or the VNet's number; port, and whether the packet was plain.
    pub fn words(self) -> [u32; 3] {
        [(self.from >> 32) as u32, self.from as u32, self.port]
    }

    /// Where it has its place, before the [mask](Origins::mask). What is there is chosen by who configures, so this need not
    /// be secret; products of 32 bits are what many can be made of at once.
    #[inline(always)]
    pub fn home(self) -> u32 {
        let [high, low] = [(self.from >> 32) as u32, self.from as u32];
        let sum = high.wrapping_mul(0x9e37_79b1)
            ^ low.wrapping_mul(0x85eb_ca77)
            ^ self.port.wrapping_mul(0xc2b2_ae3d);
        let sum = (sum ^ sum >> 15).wrapping_mul(0x2c1b_3c6d);
        sum ^ sum >> 16
    }
}

/// What is known of an origin: half a cache line.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    // The fields of its key, so that no room is lost.
    from: u64,
    port: u32,
    /// Its number; 0 of none.
    pub number: u32,
    /// What flows from there are hashed with: the VNet's number for the fabric, else one of the tunnel's own or of the
    /// plain packets of a VNet.
    pub scope: u32,
    /// The tunnel's number, or [`PLAIN`].
    pub tunnel: u32,
    /// On the fabric, the host's place in its VNet's list; of plain packets, the VNet; of a circuit link, what
    /// says that a packet came by it ([`CircuitLink::inwards`](super::program::CircuitLink::inwards)).
    pub host: u32,
    customer: u32,
}

/// Instead of the number of a tunnel: the packet came plain.
pub const PLAIN: u32 = u32::MAX;

/// Scopes of origins that are not on the fabric, apart from the numbers of VNets.
const OUTSIDE: u32 = Origin::OUTSIDE;
/// Such a scope of plain packets, apart from those of tunnels.
const OF_PLAIN: u32 = 1 << 30;
/// Such a scope of circuit links.
const OF_LINK: u32 = Origin::OF_LINK;

static NONE: Origin =
    Origin { from: 0, port: u32::MAX, number: 0, scope: 0, tunnel: PLAIN, host: 0, customer: u32::MAX };

/// The two origins of a place: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Pair([Origin; 2]);

const _: [(); 64] = [(); size_of::<Pair>()];

impl Origin {
    /// The bit of a scope that says that its origin is not on the fabric.
    pub const OUTSIDE: u32 = 1 << 31;
    /// The bit of such a scope that says that it is a link of a circuit.
    pub const OF_LINK: u32 = 1 << 29;

    fn new(key: OriginKey, scope: u32, tunnel: u32, host: u32, customer: u32) -> Origin {
        let OriginKey { from, port } = key;
        Origin { from, port, number: 0, scope, tunnel, host, customer }
    }

    fn key(&self) -> OriginKey {
        OriginKey { from: self.from, port: self.port }
    }

    /// True if it has this key, without a branch.
    #[inline(always)]
    fn is(&self, key: OriginKey) -> bool {
        (self.from ^ key.from) | u64::from(self.port ^ key.port) == 0
    }

    /// True of origins that are not on the fabric: their packets meet the record of the receiver first.
    #[inline(always)]
    pub fn is_outside(&self) -> bool {
        self.scope & OUTSIDE != 0
    }

    /// What says by which circuit link packets come; 0: by none.
    #[inline(always)]
    pub fn link(&self) -> u32 {
        Origin::link_of(self.scope, self.host)
    }

    /// The same from two of its fields, without a branch.
    #[inline(always)]
    pub fn link_of(scope: u32, host: u32) -> u32 {
        if scope & OF_LINK != 0 { host } else { 0 }
    }

    /// The outer source; of plain packets no address.
    #[inline(always)]
    pub fn remote(&self) -> u64 {
        if self.tunnel == PLAIN { u64::MAX } else { u64::from(self.from as u32) }
    }
}

/// Numbers from here on are not given: then all origins are numbered anew.
const LAST: u32 = u32::MAX >> 1;

/// All origins of a program.
pub struct Origins {
    /// Open addressing by places of two; a power of two of them, at most a quarter full, so that what is not there is soon
    /// missed, too.
    table: Box<[Pair]>,
    /// How often all were numbered anew: ways that were stored before name other origins by the same numbers.
    pub epoch: u32,
    next: u32,
    /// By customer, the numbers that its origins had since something else than routes changed; absent while that is none.
    histories: Vec<Option<Arc<History>>>,
}

impl Default for Origins {
    fn default() -> Origins {
        Origins { table: vec![Pair([NONE; 2]); 2].into(), epoch: 0, next: 1, histories: Vec::new() }
    }
}

impl Origins {
    /// The place of an origin, for [`at`](Self::at).
    #[inline(always)]
    pub fn place(&self, key: OriginKey) -> u32 {
        key.home() & self.mask()
    }

    /// What is left of a key's [home](OriginKey::home) for its place.
    #[inline(always)]
    pub fn mask(&self) -> u32 {
        (self.table.len() - 1) as u32
    }

    /// Asks for what stands at a place.
    #[inline(always)]
    pub fn prefetch(&self, place: u32) {
        prefetch_index(&self.table, place as usize);
    }

    /// The origin; one with number 0 if there is none.
    #[inline(always)]
    pub fn find(&self, key: OriginKey) -> &Origin {
        self.at(self.place(key), key)
    }

    /// The origin that has its place there.
    #[inline(always)]
    pub fn at(&self, place: u32, key: OriginKey) -> &Origin {
        let Some(Pair(pair)) = self.table.get(place as usize) else { return &NONE };
        // Which of two it is depends on the packet, so that no branch shall ask; that it is one of them is nearly sure.
        let origin = &pair[usize::from(pair[1].is(key))];
        if origin.is(key) { origin } else { self.find_further(key, place as usize) }
    }

    #[cold]
    fn find_further(&self, key: OriginKey, home: usize) -> &Origin {
        let mask = self.table.len() - 1;
        let pairs = (home..).map_while(|at| self.table.get(at & mask));
        let mut origins = pairs.flat_map(|Pair(pair)| pair);
        origins.find(|o| o.is(key) || o.number == 0).unwrap_or(&NONE)
    }

    /// True if a way that was stored for the origin when it had the number `before` is what packets from there, `from` one
    /// IPv4 address `to` another, take now: of its customer nothing but routes changed, and none to these addresses.
    pub fn still_leads(&self, origin: &Origin, before: u32, from: u32, to: u32) -> bool {
        let history = self.histories.get(origin.customer as usize).and_then(Option::as_ref);
        history.is_some_and(|history| history.holds(origin.number, before, from, to))
    }

    /// The origins of a program; customers that did not change since those of `previous` keep their numbers. Of those in
    /// `moved` nothing changed but routes, of these prefixes.
    pub(super) fn new(previous: &Origins, program: &Program, moved: &HashMap<u32, Vec<Prefix>>) -> Origins {
        let stays = |o: &&Origin| {
            let generation = program.generations.get(o.customer as usize).copied().unwrap_or(0);
            o.number != 0 && generation != 0 && generation != program.generation
        };
        let mut all: Vec<Origin> =
            previous.table.iter().flat_map(|Pair(pair)| pair).filter(stays).copied().collect();
        let first = all.len();
        every(program, |origin| all.push(origin));
        // Those of a customer together, in the order that they always have.
        all[first..].sort_by_key(|origin| origin.customer);
        let (mut epoch, mut next) = (previous.epoch, previous.next);
        let mut anew = first;
        if all.len() as u64 + u64::from(next) > u64::from(LAST) {
            (epoch, next, anew) = (epoch + 1, 1, 0);
        }
        for origin in all.iter_mut().skip(anew) {
            origin.number = next;
            next += 1;
        }
        let mut histories = Vec::new();
        if epoch == previous.epoch {
            histories.clone_from(&previous.histories);
            histories.resize(program.generations.len(), None);
            for of in all[first..].chunk_by(|a, b| a.customer == b.customer) {
                let Some(customer) = of.first().map(|o| o.customer) else { continue };
                let moved = moved.get(&customer);
                let history = moved.and_then(|moved| previous.history(of, moved)).map(Arc::new);
                if let Some(place) = histories.get_mut(customer as usize) {
                    *place = history;
                }
            }
        }
        let table = vec![Pair([NONE; 2]); (2 * all.len()).next_power_of_two().max(2)].into();
        let mut origins = Origins { table, epoch, next, histories };
        all.into_iter().for_each(|origin| origins.put(origin));
        origins
    }

    /// The history of a customer's origins when these prefixes have moved; `None` unless they are the ones they were.
    fn history(&self, now: &[Origin], moved: &[Prefix]) -> Option<History> {
        let origin = now.first()?;
        let first = self.find(origin.key()).number;
        let same = |(place, origin): (u32, &Origin)| self.find(origin.key()).number == first + place;
        if first == 0 || !(0..).zip(now).all(same) {
            return None;
        }
        let known = self.histories.get(origin.customer as usize).and_then(Option::as_ref);
        let known = known.map_or_else(|| History::new(first), |history| (**history).clone());
        Some(known.then(origin.number, moved))
    }

    fn put(&mut self, origin: Origin) {
        let mask = self.table.len() - 1;
        for at in origin.key().home() as usize.. {
            let Pair(pair) = &mut self.table[at & mask];
            if let Some(free) = pair.iter_mut().find(|o| o.number == 0) {
                *free = origin;
                return;
            }
        }
    }

    /// Bytes they hold.
    pub(super) fn memory(&self) -> usize {
        let histories = self.histories.iter().flatten();
        size_of_val(&*self.table)
            + size_of_val(&*self.histories)
            + histories.map(|history| history.memory()).sum::<usize>()
    }
}

/// Every origin, without number, of the customers that changed with this program: of IPv4 underlay, without NVGRE, for
/// packets of the usual shape have none.
fn every(program: &Program, mut tell: impl FnMut(Origin)) {
    let changed = |customer: u32| program.generations.get(customer as usize) == Some(&program.generation);
    let plain_ports = || {
        let ports = program.ports.iter().enumerate();
        ports.filter(|(_, p)| matches!(p.role, Role::Internet | Role::Services)).map(|(i, _)| i as u16)
    };
    for vnet in program.vnets.iter().filter(|v| !v.is_vacant() && changed(v.customer)) {
        for port in plain_ports() {
            let (key, scope) = (OriginKey::plain(port, vnet.id), OUTSIDE | OF_PLAIN | vnet.id);
            tell(Origin::new(key, scope, PLAIN, vnet.id, vnet.customer));
        }
    }
    let ends = program.tunnels.iter().filter(|t| !t.is_vacant() && changed(t.customer));
    for end in ends.filter(|t| t.enabled && !t.nvgre) {
        let customer = end.customer;
        let mut add = |remote: IpAddr, host: usize, scope: u32| {
            if let IpAddr::V4(remote) = remote {
                let key = OriginKey::in_gre(end.port, end.wire_key, remote.to_bits());
                tell(Origin::new(key, scope, end.id, host as u32, customer));
            }
        };
        match end.reaches {
            Reaches::Hosts { vnet } => {
                let hosts = program.vnets.get(vnet as usize).into_iter().flat_map(|v| &v.hosts);
                hosts.enumerate().for_each(|(host, remote)| add(*remote, host, vnet));
            }
            Reaches::Internet { .. } | Reaches::Site { .. } => {
                let (link, of_link) = end.link.as_ref().map_or((0, 0), |link| (link.inwards(), OF_LINK));
                let scope = OUTSIDE | of_link | end.id;
                end.remote.into_iter().for_each(|remote| add(remote, link as usize, scope));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: u32) -> Origin {
        Origin { number: n, ..Origin::new(OriginKey::in_gre(n as u16 & 3, n, n / 7), n, PLAIN, 0, 0) }
    }

    #[test]
    fn what_is_there_is_found_and_nothing_else() {
        let table = vec![Pair([NONE; 2]); 512].into();
        let mut origins = Origins { table, epoch: 0, next: 1, histories: Vec::new() };
        (1..=1000).for_each(|n| origins.put(origin(n)));
        for n in 1..=3000 {
            let expected = if n <= 1000 { n } else { 0 };
            assert_eq!(origins.find(origin(n).key()).number, expected);
        }
        assert_eq!(origins.find(OriginKey::plain(1, 5)).number, 0);
        assert_eq!(Origins::default().find(origin(1).key()).number, 0);
    }
}
