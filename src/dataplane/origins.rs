//! Origins: from where packets arrive, as one number. An origin is a port, the VNet or tunnel (by its key), the outer
//! source, and the customer's configuration at the time.
//!
//! A flow's stored way names the origin it was made for. So one comparison proves that a packet came by the same tunnel
//! from the same host, and that nothing of its customer's configuration has changed since: a change makes new numbers
//! for the origins of that customer, and leaves those of all others.

use std::net::IpAddr;

use ahash::RandomState;

use super::ingress::{Arrival, Via};
use crate::compile::{Program, Reaches};

/// How a packet of the usual shape arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginKey {
    /// The port, and whether the packet was plain.
    pub port: u32,
    /// The GRE key in network order; of a plain packet the VNet's number.
    pub key: u32,
    /// The outer source in network order; 0 of a plain packet.
    pub source: u32,
}

impl OriginKey {
    /// Of a packet in GRE.
    #[inline(always)]
    pub fn in_gre(port: u16, key: u32, source: u32) -> OriginKey {
        OriginKey { port: u32::from(port), key, source }
    }

    /// Of a plain packet for a VNet.
    #[inline(always)]
    pub fn plain(port: u16, vnet: u32) -> OriginKey {
        OriginKey { port: u32::from(port) | 1 << 16, key: vnet, source: 0 }
    }
}

/// What is known of an origin.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    key: OriginKey,
    /// Its number; 0 of a free slot.
    pub number: u32,
    /// What flows from there are hashed with: the VNet's number for the fabric, or one of the origin's own.
    pub scope: u32,
    /// The tunnel's number, or [`PLAIN`].
    pub tunnel: u32,
    customer: u32,
    generation: u32,
}

impl Origin {
    /// True of origins that are not on the fabric: their packets meet the record of the receiver first.
    #[inline(always)]
    pub fn is_outside(&self) -> bool {
        self.scope & OWN_SCOPE != 0
    }
}

/// Instead of the number of a tunnel: the packet came plain.
pub const PLAIN: u32 = u32::MAX;

static FREE: Origin = Origin {
    key: OriginKey { port: 0, key: 0, source: 0 },
    number: 0,
    scope: 0,
    tunnel: 0,
    customer: 0,
    generation: 0,
};

/// The generation of a customer's configuration; 0 if there is no such customer.
fn generation(program: &Program, customer: u32) -> u32 {
    program.generations.get(customer as usize).copied().unwrap_or(0)
}

/// Scopes of origins that are not on the fabric, apart from the numbers of VNets.
const OWN_SCOPE: u32 = 1 << 31;

/// The origins of one worker. Only origins that the configuration knows get in.
pub struct Origins {
    seed: u64,
    /// Open addressing; a power of two, at most a quarter full.
    table: Vec<Origin>,
    used: usize,
    next: u32,
    /// The generation of the program that it is for.
    under: u32,
}

impl Origins {
    /// Without any.
    pub fn new(hasher: &RandomState) -> Origins {
        Origins {
            seed: hasher.hash_one(0x6f72_6967u32) | 1,
            table: vec![FREE; 16],
            used: 0,
            next: 1,
            under: 0,
        }
    }

    #[inline(always)]
    fn home(&self, key: OriginKey) -> usize {
        let a = u64::from(key.key) << 32 | u64::from(key.source);
        let product = u128::from(a ^ u64::from(key.port) << 20).wrapping_mul(u128::from(self.seed));
        (product as u64 ^ (product >> 64) as u64) as usize
    }

    /// The origin, if it is known; else one with number 0.
    #[inline(always)]
    pub fn find(&self, key: OriginKey) -> &Origin {
        let mask = self.table.len() - 1;
        let home = self.home(key);
        let (Some(first), Some(second)) = (self.table.get(home & mask), self.table.get((home ^ 1) & mask))
        else {
            return &FREE;
        };
        // Which of two it is depends on the packet; that it is one of them is nearly sure.
        let origin = if second.key == key { second } else { first };
        if origin.key == key { origin } else { self.find_further(key, home) }
    }

    #[cold]
    fn find_further(&self, key: OriginKey, home: usize) -> &Origin {
        let mask = self.table.len() - 1;
        let mut at = home;
        while let Some(origin) = self.table.get(at & mask) {
            if origin.key == key || origin.number == 0 {
                return origin;
            }
            at += 1;
        }
        &FREE
    }

    /// The origin of a packet that passed the checks of its headers and tunnel, known or made now; `None` where packets
    /// of the usual shape do not come from.
    pub fn learn(&mut self, program: &Program, arrival: &Arrival) -> Option<Origin> {
        let (key, tunnel, customer, fabric) = match arrival.via {
            Via::Plain => {
                let vnet = arrival.vnet?;
                let customer = program.vnets.get(vnet as usize)?.customer;
                (OriginKey::plain(arrival.port, vnet), PLAIN, customer, None)
            }
            Via::Tunnel(number, IpAddr::V4(remote)) => {
                let tunnel = program.tunnels.get(number as usize)?;
                if tunnel.nvgre {
                    return None;
                }
                let key = OriginKey::in_gre(arrival.port, tunnel.wire_key.to_be(), remote.to_bits().to_be());
                let on_fabric = matches!(tunnel.reaches, Reaches::Hosts { .. });
                (key, number, tunnel.customer, arrival.vnet.filter(|_| on_fabric))
            }
            Via::Tunnel(..) => return None,
        };
        let known = *self.find(key);
        if known.number != 0 {
            return Some(known);
        }
        if 4 * (self.used + 1) > self.table.len() {
            let larger = vec![FREE; self.table.len() * 2];
            let before = std::mem::replace(&mut self.table, larger);
            before.into_iter().filter(|o| o.number != 0).for_each(|o| self.put(o));
        }
        let number = self.next;
        self.next += 1;
        let origin = Origin {
            key,
            number,
            scope: fabric.unwrap_or(number | OWN_SCOPE),
            tunnel,
            customer,
            generation: generation(program, customer),
        };
        self.put(origin);
        self.used += 1;
        Some(origin)
    }

    fn put(&mut self, origin: Origin) {
        let mask = self.table.len() - 1;
        let mut at = self.home(origin.key);
        // The neighbour of the home is looked at first, too.
        if self.table[(at ^ 1) & mask].number == 0 && self.table[at & mask].number != 0 {
            at ^= 1;
        }
        while self.table[at & mask].number != 0 {
            at += 1;
        }
        self.table[at & mask] = origin;
    }

    /// Forgets the origins of customers whose configuration is another one in this program than in the one before.
    #[inline]
    pub fn keep(&mut self, program: &Program) {
        if self.under != program.generation {
            self.under = program.generation;
            self.forget_changed(program);
        }
    }

    #[cold]
    fn forget_changed(&mut self, program: &Program) {
        let same = |o: &Origin| {
            o.number != 0 && o.generation == generation(program, o.customer) && o.generation != 0
        };
        let kept: Vec<Origin> = self.table.iter().filter(|o| same(o)).copied().collect();
        self.table.fill(FREE);
        self.used = kept.len();
        kept.into_iter().for_each(|o| self.put(o));
    }

    /// Bytes they hold.
    pub fn memory(&self) -> usize {
        self.table.len() * size_of::<Origin>()
    }

    /// True if the numbers have run out.
    pub fn is_full(&self) -> bool {
        self.next >= OWN_SCOPE
    }

    /// Begins anew; no stored way may be left.
    pub fn clear(&mut self) {
        self.table.fill(FREE);
        (self.used, self.next) = (0, 1);
    }
}
