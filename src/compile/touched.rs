//! What a change touches of a customer's gateways, connections, circuits and tunnels, and so of which VNets and far sites.
//!
//! Lists are compared place by place. What touches a connection touches its circuit and its gateway, what touches a gateway
//! touches its VNet: more than is needed, but never less, and what is not touched costs one comparison.

use crate::model::{Connection, ConnectionTo, Customer, Tunnel, TunnelTo};

/// Marks by index; nothing beyond the end is marked.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(Vec<bool>);

impl Marks {
    /// None yet, with room for the longer of two lists.
    pub fn new(lists: [usize; 2]) -> Marks {
        Marks(vec![false; lists[0].max(lists[1])])
    }

    /// The places at which two lists differ.
    pub fn differing<T: PartialEq>(before: &[T], after: &[T]) -> Marks {
        let mut marks = Marks::new([before.len(), after.len()]);
        for (n, mark) in marks.0.iter_mut().enumerate() {
            *mark = before.get(n) != after.get(n);
        }
        marks
    }

    /// Marks an index.
    pub fn set(&mut self, index: usize) {
        if let Some(mark) = self.0.get_mut(index) {
            *mark = true;
        }
    }

    /// True if an index is marked.
    pub fn has(&self, index: usize) -> bool {
        self.0.get(index) == Some(&true)
    }

    /// True if any is.
    pub fn any(&self) -> bool {
        self.0.contains(&true)
    }
}

/// What a change touches.
#[derive(Debug)]
pub(super) struct Touched {
    /// VNets whose gateways have other ways than before, but for what was learned.
    pub homes: Marks,
    /// VNets one of whose own tunnels is another one.
    pub tunnels: Marks,
    /// Circuits that lead elsewhere than before, but for what was learned.
    pub circuits: Marks,
    /// Connections of which the same is true.
    pub connections: Marks,
    /// Anything at all.
    pub any: bool,
}

impl Touched {
    /// Compares two versions of a customer. `near` says of a VNet that its ranges and peerings, and its peers' ranges and
    /// peerings, are as they were: only far sites see them.
    pub fn new(before: &Customer, after: &Customer, near: impl Fn(usize) -> bool) -> Touched {
        let customers = [before, after];
        let mut circuits = Marks::differing(&before.circuits, &after.circuits);
        let mut gateways = Marks::differing(&before.gateways, &after.gateways);
        let mut connections = Marks::differing(&before.connections, &after.connections);
        let sites = Marks::differing(&before.local_network_gateways, &after.local_network_gateways);
        let mut tunnels = Marks::new(customers.map(|c| c.vnets.len()));
        let differing = Marks::differing(&before.tunnels, &after.tunnels);
        let of =
            |c: &Customer| c.tunnels.iter().enumerate().filter(|(n, _)| differing.has(*n)).map(to).collect();
        let of: [Vec<TunnelTo>; 2] = customers.map(of);
        for to in of.into_iter().flatten() {
            match to {
                TunnelTo::Vnet(vnet) | TunnelTo::Internet(vnet) => tunnels.set(vnet),
                TunnelTo::Link { circuit, .. } => circuits.set(circuit),
                TunnelTo::Connection(connection) => connections.set(connection),
            }
        }
        let any = [&circuits, &gateways, &connections, &sites, &differing].iter().any(|m| m.any());
        let each = || customers.into_iter().flat_map(|c| c.connections.iter().enumerate());
        let circuit = |c: &Connection| match c.to {
            ConnectionTo::Circuit { circuit, .. } => Some(circuit),
            ConnectionTo::Site { .. } => None,
        };
        for (n, connection) in each().filter(|_| any) {
            let site = match connection.to {
                ConnectionTo::Site { local_network_gateway, .. } => local_network_gateway,
                ConnectionTo::Circuit { .. } => None,
            };
            if gateways.has(connection.gateway) || site.is_some_and(|s| sites.has(s)) {
                connections.set(n);
            }
        }
        for (n, connection) in each().filter(|_| any) {
            match circuit(connection) {
                Some(circuit) if connections.has(n) => circuits.set(circuit),
                Some(circuit) if circuits.has(circuit) => connections.set(n),
                _ => {}
            }
        }
        let mut homes = Marks::new(customers.map(|c| c.vnets.len()));
        for (_, connection) in each().filter(|(n, _)| connections.has(*n)) {
            gateways.set(connection.gateway);
        }
        for (_, gateway) in customers
            .into_iter()
            .flat_map(|c| c.gateways.iter().enumerate())
            .filter(|(n, _)| gateways.has(*n))
        {
            homes.set(gateway.vnet);
        }
        for (n, connection) in after.connections.iter().enumerate() {
            if after.gateways.get(connection.gateway).is_some_and(|g| near(g.vnet)) {
                continue;
            }
            connections.set(n);
            circuit(connection).into_iter().for_each(|circuit| circuits.set(circuit));
        }
        Touched { homes, tunnels, circuits, connections, any }
    }
}

fn to((_, tunnel): (usize, &Tunnel)) -> TunnelTo {
    tunnel.to
}
