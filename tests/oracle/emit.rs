//! Steps 11, 12 and 13, and the ICMP errors: what leaves, byte for byte.

use std::net::IpAddr;

use clearway::model::{Encapsulation, Sequence};
use clearway::packet::{Generated, Reason};

use super::bandwidth::CircuitLink;
use super::bytes::{checksum, fix_ipv4, put_u16, u16_at};
use super::destination::Delivery;
use super::parse::{self, Inner};
use super::seen::{seen, seen_if};
use super::source::{Arrival, Sender, made_mac};
use super::state::TunnelId;
use super::{Expected, Oracle};

/// "from 12-34-56-78-9A-BC"
const NVGRE_SOURCE: [u8; 6] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];

/// A way out of the box.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// Tunnel of a customer, the outer destination, and for nvgre the inner destination MAC.
    Tunnel { customer: usize, tunnel: usize, remote: IpAddr, mac: [u8; 6] },
    /// Plain, to this MAC.
    Plain { port: usize },
}

impl Oracle {
    /// Steps 11 to 13. `class` is the DSCP and ECN after decapsulation.
    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &mut self,
        customer: usize,
        arrival: &Arrival,
        sender: &Sender,
        delivery: &Delivery,
        inner: &Inner,
        class: u8,
        said: &mut Expected,
    ) -> Result<(), Reason> {
        let exit = self.exit(customer, delivery, inner);
        let mut packet = inner.bytes.clone();
        set_class(&mut packet, class);
        // "11. TTL. Decremented by one; 1 or 0 on arrival is ttl-expired, answered with time exceeded. Received by an
        // nvgre tunnel and sent by an nvgre tunnel: left alone."
        let from_nvgre =
            arrival.tunnelled.as_ref().is_some_and(|(c, ..)| c.encapsulation == Encapsulation::Nvgre);
        if from_nvgre && self.is_nvgre(exit) {
            seen("egress: TTL left alone");
        } else {
            if inner.ttl() <= 1 {
                self.icmp_error(customer, arrival, sender, inner, Generated::TimeExceeded, 0, said);
                return Err(Reason::TtlExpired);
            }
            packet[if inner.is_v4() { 8 } else { 7 }] -= 1;
        }
        if inner.is_v4() {
            let header = usize::from(packet[0] & 15) * 4;
            fix_ipv4(&mut packet[..header]);
        }
        // "12. Size. [...] Inner total length beyond it: with DF (and always for IPv6) too-big, answered with
        // fragmentation needed or packet too big carrying the room; without DF, fragmented before encapsulation"
        let room = self.room(exit);
        let pieces = if packet.len() <= room {
            Some(vec![packet])
        } else if inner.dont_fragment() {
            None
        } else {
            fragments(&packet, room)
        };
        let Some(pieces) = pieces else {
            let kind = if inner.is_v4() { Generated::FragmentationNeeded } else { Generated::PacketTooBig };
            self.icmp_error(customer, arrival, sender, inner, kind, room, said);
            return Err(Reason::TooBig);
        };
        if let Delivery::Tunnel(tunnel) = delivery
            && let Some(link) = CircuitLink::of_tunnel(&self.model, customer, *tunnel)
        {
            self.pass_outwards(link, &pieces)?;
        }
        if pieces.len() > 1 {
            seen(if inner.fragment.is_some() {
                "egress: fragments of a fragment"
            } else {
                "egress: fragments"
            });
            let (first, later) = (pieces[0][0] & 15, pieces[1][0] & 15);
            seen_if(later > 5, "egress: fragments with copied options");
            seen_if(later < first, "egress: fragments lose options");
        }
        // 13. Egress.
        for piece in &pieces {
            let frame = self.frame(exit, piece, piece_class(piece));
            said.emitted.push(frame);
        }
        let (port, remote, key) = self.egress(exit);
        said.egress_port = Some(port);
        said.egress_remote = remote;
        said.egress_key = key;
        Ok(())
    }

    fn exit(&self, customer: usize, delivery: &Delivery, inner: &Inner) -> Exit {
        let owner = &self.model.customers[customer];
        match delivery {
            // "inner frame to the `macAddress` of the endpoint it is delivered to (02-00 and the last four bytes of its
            // address where there is none ...)"
            Delivery::Host { endpoint, tunnel, host, by } => {
                let mac = endpoint.nic.and_then(|n| owner.nics[n].mac).unwrap_or(made_mac(*by));
                Exit::Tunnel { customer, tunnel: *tunnel, remote: *host, mac }
            }
            Delivery::Tunnel(tunnel) => {
                let remote =
                    owner.tunnels[*tunnel].remote.expect("links, connections and Internet have a remote");
                Exit::Tunnel { customer, tunnel: *tunnel, remote, mac: made_mac(inner.destination) }
            }
            Delivery::Plain(port) => Exit::Plain { port: *port },
        }
    }

    fn is_nvgre(&self, exit: Exit) -> bool {
        match exit {
            Exit::Tunnel { customer, tunnel, .. } => {
                self.model.customers[customer].tunnels[tunnel].encapsulation == Encapsulation::Nvgre
            }
            Exit::Plain { .. } => false,
        }
    }

    /// "Room = mtu of the egress port - outer IP header (20 or 40) - 8 (12 with sequence) - 14 for nvgre; plain: the
    /// mtu."
    fn room(&self, exit: Exit) -> usize {
        match exit {
            Exit::Plain { port } => self.model.ports[port].mtu as usize,
            Exit::Tunnel { customer, tunnel, .. } => {
                let tunnel = &self.model.customers[customer].tunnels[tunnel];
                let port = &self.model.ports[tunnel.port];
                let outer = if port.address.is_ipv4() { 20 } else { 40 };
                let gre = if tunnel.sequence == Sequence::Off { 8 } else { 12 };
                let ethernet = if tunnel.encapsulation == Encapsulation::Nvgre { 14 } else { 0 };
                (port.mtu as usize).saturating_sub(outer + gre + ethernet)
            }
        }
    }

    /// Port, remote and key as a verdict names them.
    fn egress(&self, exit: Exit) -> (String, Option<String>, Option<u32>) {
        match exit {
            Exit::Plain { port } => (self.model.ports[port].name.clone(), None, None),
            Exit::Tunnel { customer, tunnel, remote, .. } => {
                let tunnel = &self.model.customers[customer].tunnels[tunnel];
                let port = self.model.ports[tunnel.port].name.clone();
                (port, Some(remote.to_string()), Some(key_on_wire(tunnel)))
            }
        }
    }

    /// "13. Egress. Outer header: TTL 64, DF, DSCP copied from inside, ECN per RFC 6040, key, no checksum, sequence only
    /// if the tunnel says so." `class` is the outer DSCP and ECN.
    fn frame(&mut self, exit: Exit, packet: &[u8], class: u8) -> (String, Vec<u8>) {
        let v4 = packet[0] >> 4 == 4;
        let ethertype = if v4 { parse::IPV4 } else { parse::IPV6 };
        let Exit::Tunnel { customer, tunnel: index, remote, mac } = exit else {
            let Exit::Plain { port } = exit else { unreachable!("tunnel or plain") };
            let port = &self.model.ports[port];
            let destination = port.next_hop.unwrap_or_else(|| destination_of(packet));
            return (
                port.name.clone(),
                ethernet(made_mac(destination), made_mac(port.address), ethertype, packet),
            );
        };
        let id = TunnelId::of(&self.model, customer, index);
        let tunnel = self.model.customers[customer].tunnels[index].clone();
        let port = self.model.ports[tunnel.port].clone();
        let mut gre = Vec::new();
        let sequenced = tunnel.sequence != Sequence::Off;
        gre.push(if sequenced { 0x30 } else { 0x20 });
        gre.push(0);
        let nvgre = tunnel.encapsulation == Encapsulation::Nvgre;
        gre.extend(if nvgre { 0x6558 } else { ethertype }.to_be_bytes());
        gre.extend(key_on_wire(&tunnel).to_be_bytes());
        if sequenced {
            seen("egress: sequence");
            gre.extend(self.state.next_sequence(id, remote).to_be_bytes());
        }
        if nvgre {
            gre.extend(ethernet(mac, NVGRE_SOURCE, ethertype, packet));
        } else {
            gre.extend(packet);
        }
        let outer = ip_packet(port.address, remote, class, 47, &gre);
        let ethertype = if port.address.is_ipv4() { parse::IPV4 } else { parse::IPV6 };
        (port.name, ethernet(made_mac(remote), made_mac(port.address), ethertype, &outer))
    }

    /// "ICMP errors return by the tunnel and to the outer source that the packet came from, addressed to its inner source,
    /// with no route or NSG".
    #[allow(clippy::too_many_arguments)]
    fn icmp_error(
        &mut self,
        customer: usize,
        arrival: &Arrival,
        sender: &Sender,
        inner: &Inner,
        kind: Generated,
        room: usize,
        said: &mut Expected,
    ) {
        if never_about(inner) {
            seen("icmp: never about this");
            return;
        }
        let Some(source) = self.icmp_source(arrival, sender, inner) else {
            seen("icmp: no address of the family");
            return;
        };
        if !self.state.may_send_icmp_error(sender.id(&self.model, customer), self.now) {
            seen("icmp: withheld by rate");
            return;
        }
        let exit = match &arrival.tunnelled {
            Some((carrier, customer, tunnel)) => Exit::Tunnel {
                customer: *customer,
                tunnel: *tunnel,
                remote: carrier.outer_source,
                mac: carrier.inner_source_mac.unwrap_or_default(),
            },
            None => Exit::Plain { port: arrival.port },
        };
        let back = self.room(exit);
        let header = if inner.is_v4() { 28 } else { 48 };
        seen_if(
            inner.bytes.len() + header > back.min(if inner.is_v4() { 576 } else { 1280 }),
            "icmp: quote cut",
        );
        seen_if(self.is_nvgre(exit), "icmp: by nvgre");
        seen_if(arrival.tunnelled.is_none(), "icmp: plain");
        let packet = if inner.is_v4() {
            let (icmp_type, code) = if kind == Generated::TimeExceeded { (11, 0) } else { (3, 4) };
            let most = back.min(576).saturating_sub(28);
            let quote = &inner.bytes[..inner.bytes.len().min(most)];
            icmp_v4(source, inner.source, icmp_type, code, room as u16, quote)
        } else {
            let icmp_type = if kind == Generated::TimeExceeded { 3 } else { 2 };
            let most = back.min(1280).saturating_sub(48);
            let quote = &inner.bytes[..inner.bytes.len().min(most)];
            icmp_v6(source, inner.source, icmp_type, room as u32, quote)
        };
        let frame = self.frame(exit, &packet, 0);
        said.emitted.push(frame);
        said.generated = Some(kind);
    }

    /// "their source is the first usable address of the endpoint's subnet, or, for packets from links, connections and
    /// the Internet, the port's address (none of that family: not sent)."
    fn icmp_source(&self, arrival: &Arrival, sender: &Sender, inner: &Inner) -> Option<IpAddr> {
        let Sender::Endpoint(endpoint) = sender else {
            let address = self.model.ports[arrival.port].address;
            return (address.is_ipv4() == inner.is_v4()).then_some(address);
        };
        let owner = &self.model.customers[endpoint.customer];
        let prefixes = &owner.vnets[endpoint.vnet].subnets[endpoint.subnet].prefixes;
        let holding = prefixes.iter().find(|p| p.contains(inner.source));
        let prefix = holding.or_else(|| prefixes.iter().find(|p| p.is_ipv4() == inner.is_v4()))?;
        Some(prefix.first_usable())
    }
}

/// "Never about an ICMP error (redirects included), a later fragment, a multicast or a malformed packet."
fn never_about(inner: &Inner) -> bool {
    let error = match inner.icmp_type() {
        None => false,
        Some(t) if inner.is_v4() => [3, 4, 5, 11, 12].contains(&t),
        Some(t) => t < 128 || t == 137,
    };
    error || inner.is_later_fragment()
}

fn key_on_wire(tunnel: &clearway::model::Tunnel) -> u32 {
    match tunnel.encapsulation {
        Encapsulation::Gre => tunnel.key,
        // "VSID<<8 | FlowID", "FlowID 0"
        Encapsulation::Nvgre => tunnel.key << 8,
    }
}

fn destination_of(packet: &[u8]) -> IpAddr {
    if packet[0] >> 4 == 4 {
        IpAddr::from([packet[16], packet[17], packet[18], packet[19]])
    } else {
        let octets: [u8; 16] = packet[24..40].try_into().expect("sixteen bytes");
        IpAddr::from(octets)
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), packet].concat()
}

/// A whole IP packet made here: no options, identification 0, DF, TTL 64, flow label 0.
fn ip_packet(source: IpAddr, destination: IpAddr, class: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = (20 + payload.len()) as u16;
            let mut packet = vec![0x45, class];
            packet.extend(total.to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            fix_ipv4(&mut packet);
            packet.extend(payload);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            packet.extend(payload);
            packet
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
}

fn icmp_v4(source: IpAddr, destination: IpAddr, icmp_type: u8, code: u8, word: u16, quote: &[u8]) -> Vec<u8> {
    let mut icmp = vec![icmp_type, code, 0, 0, 0, 0];
    icmp.extend(word.to_be_bytes());
    icmp.extend(quote);
    let sum = checksum(&[&icmp]);
    put_u16(&mut icmp, 2, sum);
    ip_packet(source, destination, 0, parse::ICMP, &icmp)
}

fn icmp_v6(source: IpAddr, destination: IpAddr, icmp_type: u8, word: u32, quote: &[u8]) -> Vec<u8> {
    let mut icmp = vec![icmp_type, 0, 0, 0];
    icmp.extend(word.to_be_bytes());
    icmp.extend(quote);
    let mut packet = ip_packet(source, destination, 0, parse::ICMPV6, &icmp);
    // The pseudo header of RFC 8200: addresses, length, next header.
    let length = (icmp.len() as u32).to_be_bytes();
    let sum = checksum(&[&packet[8..40], &length, &[0, 0, 0, parse::ICMPV6], &icmp]);
    put_u16(&mut packet, 42, sum);
    packet
}

fn set_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 4 {
        packet[1] = class;
    } else {
        packet[0] = 0x60 | class >> 4;
        packet[1] = class << 4 | packet[1] & 15;
    }
}

fn piece_class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

/// "largest multiples of 8 that fit, same identification, MF and offset continued when it is a fragment already; IPv4
/// options with the copied flag go to every fragment, others to the first". `None` if not even 8 bytes fit.
fn fragments(packet: &[u8], room: usize) -> Option<Vec<Vec<u8>>> {
    let header_len = usize::from(packet[0] & 15) * 4;
    let first_header = &packet[..header_len];
    let mut later_header = packet[..20].to_vec();
    later_header.extend(copied_options(&packet[20..header_len]));
    let word = u16_at(packet, 6);
    let (flags, start, more) = (word & 0xc000, word & 0x1fff, word & 0x2000 != 0);
    let payload = &packet[header_len..];
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < payload.len() {
        let header = if done == 0 { first_header } else { &later_header };
        let left = payload.len() - done;
        let fits = room.saturating_sub(header.len());
        let (take, last) = if left <= fits { (left, true) } else { (fits / 8 * 8, false) };
        if take == 0 {
            return None;
        }
        let mut piece = header.to_vec();
        piece[0] = 0x40 | (header.len() / 4) as u8;
        let offset = start + (done / 8) as u16;
        let more_flag = if !last || more { 0x2000 } else { 0 };
        put_u16(&mut piece, 2, (header.len() + take) as u16);
        put_u16(&mut piece, 6, flags | more_flag | offset);
        fix_ipv4(&mut piece);
        piece.extend(&payload[done..done + take]);
        pieces.push(piece);
        done += take;
    }
    Some(pieces)
}

/// The options whose copied bit is set, filled with zeros to 4 bytes.
fn copied_options(options: &[u8]) -> Vec<u8> {
    let mut copied = Vec::new();
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        let length = options.get(at + 1).map_or(0, |l| usize::from(*l));
        if length < 2 || at + length > options.len() {
            break;
        }
        if options[at] & 0x80 != 0 {
            copied.extend(&options[at..at + length]);
        }
        at += length;
    }
    while copied.len() % 4 != 0 {
        copied.push(0);
    }
    copied
}
