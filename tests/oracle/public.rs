//! Section 7 of the contract where it concerns packets: link addresses, Microsoft and public peering.

use std::net::IpAddr;

use clearway::model::{Link, PeeringKind};
use clearway::packet::Reason;
use clearway::types::Prefix;

use super::bandwidth::{CircuitLink, Toward};
use super::destination::{self, Delivery};
use super::parse::{self, Inner};
use super::routes;
use super::seen::{seen, seen_if};
use super::source::{Arrival, Sender};
use super::state::{Effect, InitiatedKey};
use super::{Oracle, Walk};

/// Packets that are in no VNet.
#[derive(Clone, Copy, Debug)]
pub enum Public {
    /// From this link of Microsoft or public peering.
    From(CircuitLink),
    /// To a prefix that this customer's peerings have learned.
    To(usize),
}

impl Oracle {
    /// The circuit link that a packet came by.
    pub fn link_of(&self, arrival: &Arrival) -> Option<CircuitLink> {
        let (_, customer, tunnel) = arrival.tunnelled.as_ref()?;
        CircuitLink::of_tunnel(&self.model, *customer, *tunnel)
    }

    pub fn kind(&self, link: CircuitLink) -> PeeringKind {
        link.circuit(&self.model).peerings[link.peering].kind
    }

    /// "`over-rate`, inwards last in step 5 (inner length as received)".
    pub fn pass_inwards(&mut self, link: CircuitLink, inner: &Inner) -> Result<(), Reason> {
        let length = inner.bytes.len();
        self.links.take(&self.model, link, Toward::In, length, self.now)?;
        self.links.count(&self.model, link, Toward::In, &[length]);
        Ok(())
    }

    /// "outwards last in step 12 (sum of the inner lengths sent)".
    pub fn pass_outwards(&mut self, link: CircuitLink, pieces: &[Vec<u8>]) -> Result<(), Reason> {
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        self.links.take(&self.model, link, Toward::Out, lengths.iter().sum(), self.now)?;
        seen_if(lengths.len() > 1, "bandwidth: fragments outwards");
        self.links.count(&self.model, link, Toward::Out, &lengths);
        Ok(())
    }

    /// "In each link's /30 (IPv6 /126) the customer has the first usable address, Clearway the second. From the
    /// customer's address of this link to Clearway's of this link: punt `to-us`, first in step 6 (VNet null). Anything
    /// else to link addresses, of this or another link or from a VNet, is routed like any other packet."
    pub fn is_to_us(&self, link: CircuitLink, inner: &Inner) -> bool {
        let peerings = &link.circuit(&self.model).peerings;
        let prefixes = |p: usize| {
            let of = &peerings[p];
            if inner.is_v4() { of.link_prefixes } else { of.link_prefixes_v6 }
        };
        let ends = |p: usize, l: Link| {
            prefixes(p)[l as usize].map(|prefix| {
                let first = prefix.first_usable();
                (first, next(first))
            })
        };
        let ours = ends(link.peering, link.link) == Some((inner.source, inner.destination));
        let all = (0..peerings.len()).flat_map(|p| [ends(p, Link::Primary), ends(p, Link::Secondary)]);
        let some_end = all.flatten().any(|(_, us)| us == inner.destination);
        seen_if(some_end && !ours, "circuit: to a link's end, not ours to answer");
        seen_if(ours && self.kind(link) == PeeringKind::Private, "circuit: to us by private peering");
        seen_if(ours && self.kind(link) != PeeringKind::Private, "circuit: to us by another peering");
        seen_if(ours && !inner.is_v4(), "circuit: to us, IPv6");
        ours
    }

    /// "Microsoft and public peering packets", if this is one.
    pub fn public(&self, arrival: &Arrival, destination: IpAddr) -> Option<Public> {
        if let Some(link) = self.link_of(arrival) {
            return (self.kind(link) != PeeringKind::Private).then_some(Public::From(link));
        }
        self.public_customer(arrival, destination).map(Public::To)
    }

    /// "A packet from `services` or plain `internet` whose destination lies in a prefix learned on such a peering": the
    /// customer whose it is; "two customers that learn overlapping prefixes there: the later is refused".
    pub fn public_customer(&self, arrival: &Arrival, destination: IpAddr) -> Option<usize> {
        if arrival.tunnelled.is_some() {
            return None;
        }
        let learns = |c: &usize| {
            let ways = routes::public_ways(&self.model.customers[*c]);
            ways.iter().flat_map(|w| &w.learned).any(|(p, _)| p.contains(destination))
        };
        (0..self.model.customers.len()).find(learns)
    }

    /// Steps 6 to 13 of such a packet: they "skip steps 7, 8 and 10 (VNet, nextHopType and routePrefix null, flow none)".
    pub(super) fn public_steps(
        &mut self,
        public: Public,
        arrival: &Arrival,
        inner: &Inner,
        class: u8,
        walk: &mut Walk,
    ) -> Result<(), Reason> {
        let (customer, sender) = match public {
            Public::From(link) => (link.customer, self.public_link_sender(link, inner)?),
            Public::To(customer) => {
                walk.said.customer = Some(self.model.customers[customer].name.clone());
                (customer, self.outside_sender(customer, inner)?)
            }
        };
        let fragment = self.fragment_key(customer, None, &sender, inner);
        let first = self.first_fragment(fragment.as_ref(), inner, walk)?;
        let delivery = match public {
            // "leave plain by `services`, else `internet`"
            Public::From(_) => Delivery::Plain(self.public_exit().ok_or(Reason::GatewayDown)?),
            Public::To(_) => Delivery::Tunnel(self.best_link(customer, inner).ok_or(Reason::GatewayDown)?),
        };
        let link = match (public, &delivery) {
            (Public::From(link), _) => link,
            (_, Delivery::Tunnel(tunnel)) => {
                CircuitLink::of_tunnel(&self.model, customer, *tunnel).expect("the tunnel of a link")
            }
            _ => unreachable!("to a prefix learned on links"),
        };
        let kind = self.kind(link);
        if kind == PeeringKind::Public {
            match (public, &first) {
                // "each packet from the customer opens or refreshes a record of (customer, peering, 5-tuple or
                // identifier)"; of a later fragment "`flow` and `rule` are the first's [...]; it refreshes the flow".
                (Public::From(_), None) => walk.initiated = Some(self.initiated_key(link, inner)),
                (Public::From(_), Some(first)) => {
                    seen_if(first.initiated.is_some(), "public: later fragment refreshes");
                    walk.initiated = first.initiated.clone();
                }
                (Public::To(_), None) if !self.is_initiated(link, inner) => return Err(Reason::NotInitiated),
                (Public::To(_), _) => {}
            }
            walk.effects.extend(walk.initiated.clone().map(Effect::Initiate));
        }
        let class = rewritten(kind, class);
        self.send(customer, arrival, &sender, &delivery, inner, class, &mut walk.said)?;
        seen(match (public, kind) {
            (Public::From(_), PeeringKind::Public) => "public: from public peering",
            (Public::From(_), _) => "public: from Microsoft peering",
            (Public::To(_), PeeringKind::Public) => "public: to public peering",
            (Public::To(_), _) => "public: to Microsoft peering",
        });
        if let (Some(key), None) = (fragment, &first) {
            self.admit(key, walk);
        }
        Ok(())
    }

    /// "sources must lie in a prefix learned on that peering (either link), else `spoofed-source`"
    fn public_link_sender(&self, link: CircuitLink, inner: &Inner) -> Result<Sender, Reason> {
        let CircuitLink { customer, circuit, peering, link } = link;
        let owner = &self.model.customers[customer];
        let on = |link: Link| {
            let learned = routes::learned_on_link(owner, circuit, peering, link);
            learned.iter().any(|(p, _)| p.contains(inner.source))
        };
        if !on(Link::Primary) && !on(Link::Secondary) {
            seen("public: spoofed from a link");
            return Err(Reason::SpoofedSource);
        }
        seen_if(!on(link), "public: source learned on the other link");
        Ok(Sender::Link { circuit, peering, link })
    }

    /// "a source in RFC 1918, RFC 6598 or a VNet's space of that customer: `spoofed-source`"
    fn outside_sender(&self, customer: usize, inner: &Inner) -> Result<Sender, Reason> {
        let owner = &self.model.customers[customer];
        let in_vnet = |address| (0..owner.vnets.len()).any(|v| routes::in_space(owner, v, address));
        if in_vnet(inner.destination) {
            seen("public: before the VNet that holds the destination");
            let ranges = owner.vnets.iter().flat_map(|v| &v.address_space);
            let longest = |all: Vec<Prefix>| {
                all.into_iter().filter(|p| p.contains(inner.destination)).map(|p| p.len()).max()
            };
            let learned = routes::public_ways(owner).into_iter().flat_map(|w| w.learned).map(|l| l.0);
            let longer = longest(ranges.copied().collect()) > longest(learned.collect());
            seen_if(longer, "public: before a VNet whose range is longer");
        }
        let private = routes::reserved_ranges().iter().any(|p| p.contains(inner.source));
        if private || in_vnet(inner.source) {
            seen("public: spoofed from outside");
            return Err(Reason::SpoofedSource);
        }
        Ok(Sender::Outside)
    }

    fn public_exit(&self) -> Option<usize> {
        let services = self.port_of(clearway::model::Role::Services);
        services.or_else(|| {
            let internet = self.port_of(clearway::model::Role::Internet);
            seen_if(internet.is_some(), "public: leaves by the Internet");
            internet
        })
    }

    /// "leaves by its best link ([...] longest prefix over both peerings, AS path, flow hash [...])": its tunnel.
    fn best_link(&self, customer: usize, inner: &Inner) -> Option<usize> {
        let ways = routes::public_ways(&self.model.customers[customer]);
        let learned = ways.iter().flat_map(|w| &w.learned).map(|(p, _)| *p);
        let longest = learned.filter(|p| p.contains(inner.destination)).max_by_key(|p| p.len())?;
        let has = |w: &&routes::Way| w.learned.iter().any(|l| l.0 == longest);
        let all = ways.iter().filter(has).count();
        let best = routes::best_ways(ways, longest);
        seen_if(best.len() > 1, "public: several equal links");
        seen_if(best.len() < all, "public: a longer AS path");
        destination::choose(&best, inner)
    }

    /// The record of a packet from the customer.
    fn initiated_key(&self, link: CircuitLink, inner: &Inner) -> InitiatedKey {
        let (from, to) = inner.flow_ports();
        self.key_of(link, inner.protocol, (inner.source, from), (inner.destination, to))
    }

    fn key_of(
        &self,
        link: CircuitLink,
        protocol: u8,
        local: (IpAddr, u16),
        remote: (IpAddr, u16),
    ) -> InitiatedKey {
        let circuit = link.circuit(&self.model);
        InitiatedKey {
            customer: self.model.customers[link.customer].name.clone(),
            circuit: circuit.name.clone(),
            peering: circuit.peerings[link.peering].name.clone(),
            protocol,
            local,
            remote,
        }
    }

    /// "Public peering passes inwards only what belongs to a flow the customer opened", and ICMP errors "that quote a packet
    /// of a live record pass with it: inbound they must quote what the endpoint sent (quoted source = its local address
    /// and the error's destination)".
    fn is_initiated(&self, link: CircuitLink, inner: &Inner) -> bool {
        let (from, to) = inner.flow_ports();
        let own = self.key_of(link, inner.protocol, (inner.destination, to), (inner.source, from));
        if self.state.is_initiated(&own) {
            seen("public: answer");
            return true;
        }
        let errors: &[u8] = if inner.is_v4() { &[3, 4, 11, 12] } else { &[1, 2, 3, 4] };
        let is_error = inner.icmp_type().is_some_and(|t| errors.contains(&t));
        let Some((source, destination, protocol, ports)) = is_error.then(|| parse::quoted(inner)).flatten()
        else {
            return false;
        };
        let quoted = self.key_of(link, protocol, (source, ports.0), (destination, ports.1));
        let related = source == inner.destination && self.state.is_initiated(&quoted);
        seen(if related { "public: related error" } else { "public: unrelated error" });
        related
    }
}

/// The address behind this one.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::from((a.to_bits() + 1).to_be_bytes()),
        IpAddr::V6(a) => IpAddr::from((a.to_bits() + 1).to_be_bytes()),
    }
}

/// "Towards and from Microsoft peering a DSCP other than 46, 34, 18, 10, 0 becomes 0, ECN untouched, after decapsulation".
fn rewritten(kind: PeeringKind, class: u8) -> u8 {
    let kept = [46, 34, 18, 10, 0].contains(&(class >> 2));
    if kind != PeeringKind::Microsoft {
        seen_if(!kept, "DSCP: kept by public peering");
        return class;
    }
    seen_if(!kept, "DSCP: rewritten");
    seen_if(!kept && class & 3 != 0, "DSCP: rewritten beside ECN");
    seen_if(kept && class >> 2 != 0, "DSCP: kept by Microsoft peering");
    if kept { class } else { class & 3 }
}
