//! Whose a flow is: from the numbers of a flow record, or from the frame of a denied packet, to names of the
//! configuration.

use std::net::IpAddr;

use ahash::RandomState;

use super::DeniedPacket;
use super::pending::Whose;
use crate::compile::names::Party;
use crate::compile::security::Group;
use crate::compile::{Nic, Program, Subnet, Vnet};
use crate::dataplane::ingress::ingress;
use crate::dataplane::{Context, Occupancy, Output, Shard, Trace, forward};
use crate::packet::Direction;
use crate::table::records::Owner;
use crate::wire::ip::Inner;
use crate::wire::{ethernet, protocol, tcp_flags};

/// An endpoint as flow logs name it.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'p> {
    vnet: &'p Vnet,
    subnet: &'p Subnet,
    nic: Option<&'p Nic>,
    mac: [u8; 6],
}

impl<'p> Endpoint<'p> {
    /// The endpoint that keeps records as this owner; `local` is the record's own address.
    pub fn find(program: &'p Program, owner: Owner, local: IpAddr) -> Option<Endpoint<'p>> {
        let vnet = program.vnets.get(owner.vnet as usize).filter(|v| !v.is_vacant())?;
        let subnet = |number: u16| vnet.subnets.get(usize::from(number));
        let own = vnet.nic(vnet.place(local).nic).filter(|n| n.party == owner.endpoint);
        let nic = match owner.endpoint {
            0 => None,
            party => own.or_else(|| vnet.nics.iter().find(|n| n.party == party)),
        };
        if let Some(nic) = nic {
            let first = nic.addresses.first().copied().unwrap_or(local);
            let mac = nic.mac.unwrap_or_else(|| ethernet::mac_of(first));
            return Some(Endpoint { vnet, subnet: subnet(nic.subnet)?, nic: Some(nic), mac });
        }
        let address = match program.names.party_of(owner.endpoint) {
            None => local,
            // Packets of others are sent to it.
            Some(Party::Address(of, address)) if *of == owner.vnet => *address,
            Some(_) => return None,
        };
        let subnet = subnet(vnet.place(address).subnet?)?;
        Some(Endpoint { vnet, subnet, nic: None, mac: ethernet::mac_of(address) })
    }

    /// The group that is asked last of a packet in this direction: it tells of a flow that all groups allow.
    pub fn last_group(&self, direction: Direction) -> Option<&'p Group> {
        let (subnet, nic) = (self.subnet.group.as_deref(), self.nic.and_then(|n| n.group.as_deref()));
        match direction {
            Direction::Inbound => nic.or(subnet),
            Direction::Outbound => subnet.or(nic),
        }
    }

    /// A flow of it that this rule of this group decided on.
    pub fn whose(&self, program: &'p Program, group: &'p Group, rule: u32) -> Whose<'p> {
        Whose { program, customer: self.vnet.customer, vnet: self.vnet, mac: self.mac, group, rule }
    }

    /// Its group of this name.
    pub fn group(&self, name: &str) -> Option<&'p Group> {
        let groups = [self.subnet.group.as_deref(), self.nic.and_then(|n| n.group.as_deref())];
        groups.into_iter().flatten().find(|g| g.name == name)
    }
}

/// Who denied a packet.
pub(super) struct Denial {
    pub owner: Owner,
    pub local: IpAddr,
    pub group: String,
    pub rule: u32,
    pub direction: Direction,
    pub packet: Inner,
}

/// Where denied packets are walked again, with what a walk may leave behind. It holds nothing between two of them, so its
/// memory does not grow with what comes by.
pub(super) struct Walks {
    shard: Shard,
    occupancy: Occupancy,
    generation: u32,
}

impl Walks {
    pub fn new() -> Walks {
        Walks { shard: Shard::new(RandomState::new()), occupancy: Occupancy::default(), generation: 0 }
    }

    /// Walks a packet through the path, where no flow is known, and asks who denies it; none if nobody does.
    pub fn ask(&mut self, program: &Program, denied: &DeniedPacket) -> Option<Denial> {
        if self.generation != program.generation {
            *self = Walks { generation: program.generation, ..Walks::new() };
            self.occupancy.grow(program);
        }
        let DeniedPacket { frame, original, port, at } = denied;
        // Sequence numbers were checked when it came in.
        let mut arrival = ingress(program, None, *port, frame, *original).ok()?;
        if arrival.inner.protocol == protocol::TCP {
            // An endpoint that knew the flow let it pass, whatever its flags; here it is judged by its rules.
            arrival.inner.tcp_flags = tcp_flags::SYN;
        }
        let context = Context::new(program, &self.occupancy);
        let (mut out, mut trace) = (Output::default(), Trace::on());
        let done = forward(context, &mut self.shard, &arrival, frame, *at, &mut out, &mut trace);
        if !self.shard.flows.is_empty() || !self.shard.fragments.is_empty() {
            *self = Walks::new();
        }
        let denied = trace.into_parts().1.denied?;
        let packet = arrival.inner;
        let local = match denied.direction {
            Direction::Inbound => packet.destination,
            Direction::Outbound => packet.source,
        };
        Some(Denial {
            owner: denied.owner,
            local,
            group: denied.group,
            rule: done.outcome.rule?,
            direction: denied.direction,
            packet,
        })
    }
}
