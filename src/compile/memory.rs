//! How much memory a program holds: counted from its tables, so that it is the same on every machine. What the
//! allocator adds is not in it.

use std::collections::HashSet;
use std::sync::Arc;

use super::names::Names;
use super::program::{CircuitLink, Entry, Fib, FibRoute, Nic, Port, Program, Subnet, TunnelEnd, Vnet, Ways};
use super::security::Group;
use crate::packet::Direction;
use crate::table::lpm::Lpm;

/// What a slot of a hash table costs beside its key and value: a control byte, and an eighth left empty.
const fn hashed<K, V>(entries: usize) -> usize {
    entries * (size_of::<(K, V)>() + 1) * 8 / 7
}

fn listed<T>(items: &[T]) -> usize {
    size_of_val(items)
}

impl Program {
    /// Bytes it holds. What several subnets share is counted once.
    pub fn memory(&self) -> usize {
        let mut seen = HashSet::new();
        let keys = hashed::<(u16, bool, u32), Vec<u32>>(self.by_key.len())
            + self.by_key.values().map(|v| listed(v)).sum::<usize>();
        size_of::<Program>()
            + listed::<Port>(&self.ports)
            + listed::<TunnelEnd>(&self.tunnels)
            + keys
            + listed(&self.entries)
            + self.entries.iter().map(|e| e.memory(&mut seen)).sum::<usize>()
            + self.tunnels.iter().filter(|t| t.link.is_some()).count() * size_of::<CircuitLink>()
            + once(&mut seen, &self.plain)
            + listed(&self.public)
            + self.public.iter().map(|p| listed(&p.ways.ways)).sum::<usize>()
            + listed(&self.bandwidths)
            + self.origins.memory()
            + listed(&self.vnets)
            + self.vnets.iter().filter(|v| !v.is_vacant()).map(|v| v.memory(&mut seen)).sum::<usize>()
            + self.parts.iter().map(|p| listed(&p.vnets) + listed(&p.tunnels)).sum::<usize>()
            + self.names.memory()
    }
}

/// The shared parts that have been counted, by their address.
type Seen = HashSet<usize>;

impl Entry {
    fn memory(&self, seen: &mut Seen) -> usize {
        once(seen, &self.enter) + once(seen, &self.inside) + once(seen, &self.learned)
    }
}

/// A shared table, unless it has been counted.
fn once<T: Copy>(seen: &mut Seen, table: &Arc<Lpm<T>>) -> usize {
    if seen.insert(Arc::as_ptr(table).addr()) { size_of::<Lpm<T>>() + table.memory() } else { 0 }
}

impl Vnet {
    fn memory(&self, seen: &mut Seen) -> usize {
        let mut bytes = size_of::<Vnet>()
            + self.resource.as_ref().map_or(0, |r| r.len())
            + self.around.memory()
            + listed::<Ways>(&self.ways)
            + self.ways.iter().map(|w| listed(&w.ways)).sum::<usize>()
            + listed(&self.space)
            + self.places.memory()
            + listed(&self.subnets)
            + listed(&self.nics)
            + listed(&self.hosts)
            + hashed::<std::net::IpAddr, u32>(self.host_numbers.len())
            + listed(&self.forwarders)
            + self.forwarders.iter().map(|f| listed(f)).sum::<usize>()
            + fib(&self.gateway_fib, seen)
            + self.learned.memory()
            + self.vpn.memory();
        for Subnet { name, prefixes, fib: routes, group } in &self.subnets {
            bytes += name.len() + listed(prefixes) + fib(routes, seen) + rules(group.as_ref(), seen);
        }
        for Nic { name, addresses, group, applying, .. } in &self.nics {
            let applying = applying.iter().flatten().map(|bits| listed(bits)).sum::<usize>();
            bytes += name.len() + listed(addresses) + rules(group.as_ref(), seen) + applying;
        }
        bytes
    }
}

fn fib(fib: &Arc<Fib>, seen: &mut Seen) -> usize {
    if !seen.insert(Arc::as_ptr(fib).addr()) {
        return 0;
    }
    let names = fib.routes.iter().filter_map(|r| r.name.as_ref()).map(|n| n.len()).sum::<usize>();
    size_of::<Fib>() + fib.table.memory() + listed::<FibRoute>(&fib.routes) + listed(&fib.short) + names
}

fn rules(group: Option<&Arc<Group>>, seen: &mut Seen) -> usize {
    let Some(group) = group.filter(|g| seen.insert(Arc::as_ptr(g).addr())) else { return 0 };
    let directions = [Direction::Inbound, Direction::Outbound];
    let id = group.resource.as_ref().map_or(0, |r| r.len());
    size_of::<Group>() + id + directions.map(|d| group.rules(d).memory()).iter().sum::<usize>()
}

impl Names {
    /// Bytes it holds: each name once in the list and once as a key.
    fn memory(&self) -> usize {
        let (count, letters) = self.size();
        2 * letters + hashed::<String, u32>(count) + count * size_of::<String>()
    }
}
