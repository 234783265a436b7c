//! What became of a batch: it is counted, what leaves is sent, and what is for our end of a circuit link is given to the
//! kernel.

use std::net::IpAddr;
use std::ops::Range;

use super::{Shared, Worker, lock};
use crate::compile::Program;
use crate::dataplane::emit::{self, Numbered};
use crate::dataplane::ingress::{Via, ingress};
use crate::dataplane::{Input, Output, Results};
use crate::model::Role;
use crate::packet::{FlowState, Reason, Verdict};
use crate::types::{Nanos, SECOND};
use crate::wire::{be16, be32, ethernet, gre};

/// For how long what devices of links are given is counted: 50 ms.
const SPAN: Nanos = SECOND / 20;
/// Packets that the device of a link is given at most in a span: 10,000 a second. Beyond, a customer that floods its link
/// costs no more system calls.
const PUNTS: u16 = 500;
/// Packets that all devices together are given at most, so that many links that are flooded cost no more than a few: 40,000
/// a second.
const ALL_PUNTS: u16 = 2000;
/// Packets that the device of a link is given whatever the others were: 400 a second, enough for BFD and BGP, so that who
/// floods some links takes none down.
const SURE_PUNTS: u16 = 20;
/// Packets of links that are sent in a round at most.
const FROM_LINKS: usize = 64;

/// Classes of packets that leave by links: voice, interactive, the rest.
const CLASSES: usize = 3;

/// The class of a packet, by its DSCP (contract section 7).
fn class(tos: u8) -> usize {
    match tos >> 2 {
        46 => 0,
        34 | 18 => 1,
        _ => CLASSES - 1,
    }
}

/// The type of service of a frame of ours that carries GRE, which is that of the packet inside.
fn outer_tos(frame: &[u8]) -> u8 {
    match be16(frame, 12) {
        ethernet::IPV4 => frame.get(15).copied().unwrap_or(0),
        _ => (be16(frame, 14) >> 4) as u8,
    }
}

/// The class of a frame: only what leaves by circuit links has one of its own.
#[inline]
fn class_of(program: &Program, output: &Output, frame: u32) -> usize {
    let Some(frame) = output.frames.get(frame as usize) else { return CLASSES - 1 };
    let port = program.ports.get(usize::from(frame.port));
    if port.is_none_or(|port| port.role != Role::Edge) {
        return CLASSES - 1;
    }
    let bytes = output.bytes.get(frame.start as usize..frame.end as usize).unwrap_or_default();
    let class = class(outer_tos(bytes));
    if class < CLASSES - 1 && leaves_by_link(program, frame.port, bytes) { class } else { CLASSES - 1 }
}

/// True if a frame of ours that carries GRE leaves by a circuit link: a VPN connection may leave by the same port. Looked up
/// only for the few that a class would put first, as they are sent; the path need not know.
fn leaves_by_link(program: &Program, port: u16, frame: &[u8]) -> bool {
    let (remote, at) = match be16(frame, 12) {
        ethernet::IPV4 => (frame.get(30..).and_then(|f| f.first_chunk::<4>()).map(|a| IpAddr::from(*a)), 34),
        _ => (frame.get(38..).and_then(|f| f.first_chunk::<16>()).map(|a| IpAddr::from(*a)), 54),
    };
    let (nvgre, key) = (be16(frame, at + 2) == gre::ETHERNET, be32(frame, at + 4));
    let sharing = program.by_key.get(&(port, nvgre, if nvgre { key >> 8 } else { key }));
    let mut ends = sharing.into_iter().flatten().filter_map(|number| program.tunnels.get(*number as usize));
    ends.any(|end| end.link.is_some() && end.remote == remote)
}

/// The frames of a batch, by class: the first class leaves first, each as it has come.
#[derive(Default)]
struct Order([Vec<u32>; CLASSES]);

impl Order {
    /// Puts the frames that became of a packet behind those of their class.
    #[inline]
    fn put(&mut self, program: &Program, output: &Output, frames: Range<u32>) {
        for frame in frames {
            if let Some(class) = self.0.get_mut(class_of(program, output, frame)) {
                class.push(frame);
            }
        }
    }

    /// Puts frames before all that customers send.
    fn put_first(&mut self, frames: Range<u32>) {
        self.0[0].extend(frames);
    }

    /// The frames as they leave.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flatten().copied()
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }
}

/// What a worker keeps to send batches by.
#[derive(Default)]
pub(super) struct Sending {
    order: Order,
    punts: Punts,
}

/// Packets that devices of links were given in this span.
#[derive(Default)]
struct Punts {
    /// When the span began.
    since: Nanos,
    /// By the link's number.
    given: Vec<u16>,
    all: u16,
}

impl Punts {
    /// True if the device of a link may be given one more packet.
    fn may(&mut self, link: usize, now: Nanos) -> bool {
        if now.saturating_sub(self.since) >= SPAN {
            self.since = now;
            self.given.fill(0);
            self.all = 0;
        }
        if self.given.len() <= link {
            self.given.resize(link + 1, 0);
        }
        let Some(given) = self.given.get_mut(link) else { return false };
        let may = *given < SURE_PUNTS || *given < PUNTS && self.all < ALL_PUNTS;
        if may {
            *given += 1;
            self.all = self.all.saturating_add(1);
        }
        may
    }
}

impl Worker {
    /// Counts what became of a batch, and sends its frames.
    pub(super) fn deliver(&mut self, results: &mut Results, bytes: &[u8], inputs: &[Input], now: Nanos) {
        let mut next_error = 0;
        let shared = self.shared.clone();
        let mut order = std::mem::take(&mut self.sending.order);
        for packet in 0..results.done.len() {
            let Some(brief) = results.done.get(packet).copied() else { break };
            let opened = brief.flow == FlowState::New;
            self.count(brief.verdict, results.vnet(packet), opened);
            self.counts.opened += u64::from(brief.opened);
            if brief.verdict == Verdict::Punt(Reason::ToUs)
                && let Some(input) = inputs.get(packet)
            {
                self.punt(bytes, input);
            }
            let (first, end) = brief.frames;
            if first == end {
                continue;
            }
            if let Some((_, kind, of)) = results.errors.get(next_error).filter(|e| e.0 as usize == packet) {
                next_error += 1;
                if !lock(&shared.rate).allow(*of, now) {
                    self.counts.withheld += 1;
                    continue;
                }
                self.counts.generated[*kind as usize % 3] += 1;
            }
            order.put(&self.news.program, &results.output, first..end);
        }
        self.send_frames(&shared, &mut results.output, &order, now);
        order.clear();
        self.sending.order = order;
    }

    /// Sends frames in this order.
    fn send_frames(&mut self, shared: &Shared, output: &mut Output, order: &Order, now: Nanos) {
        let program = self.news.program.clone();
        // Numbers leave in their order, whichever worker draws them: nobody draws any before these have left.
        let mut numbers = (!output.numbered.is_empty()).then(|| lock(&shared.sent));
        for number in order.iter() {
            let Some(frame) = output.frames.get(number as usize).copied() else { continue };
            if let Some(numbers) = &mut numbers
                && let Ok(found) = output.numbered.binary_search_by_key(&number, |n| n.frame)
                && let Some(Numbered { tunnel, remote, at, .. }) = output.numbered.get(found).copied()
                && let Some(place) = output.bytes.get_mut(at as usize..at as usize + 4)
            {
                place.copy_from_slice(&numbers.next(tunnel, remote).to_be_bytes());
            }
            let number = self.news.from_program.get(usize::from(frame.port)).copied();
            let number = usize::from(number.unwrap_or(u16::MAX));
            let next_hop = program.ports.get(usize::from(frame.port)).and_then(|p| p.next_hop);
            let bytes = output.bytes.get_mut(frame.start as usize..frame.end as usize);
            let Some(counts) = self.counts.ports.get_mut(number) else { continue };
            match (self.ports.get_mut(number), bytes) {
                (Some(Some(port)), Some(bytes)) => {
                    self.egress.send(number, port, next_hop, bytes, counts, now);
                }
                _ => counts.device_down += 1,
            }
        }
        if numbers.is_some() && self.others.workers() > 1 {
            self.flush();
        }
    }

    /// Gives the kernel a packet from a customer's end of a circuit link to ours.
    #[cold]
    fn punt(&mut self, bytes: &[u8], input: &Input) {
        let program = &self.news.program;
        let frame = bytes.get(input.start as usize..input.end as usize).unwrap_or_default();
        // It has passed all that before.
        let Ok(arrival) = ingress(program, None, input.port, frame, input.original) else { return };
        let Via::Tunnel(tunnel, _) = arrival.via else { return };
        let link = program.tunnels.get(tunnel as usize).and_then(|end| end.link.as_deref());
        let Some(link) = link.map(|link| link.meter as usize) else { return };
        let at = arrival.at as usize;
        let packet = frame.get(at..at + arrival.inner.total as usize).unwrap_or_default();
        let given = self.sending.punts.may(link, input.now) && self.news.links.give(link, packet);
        self.counts.unpunted += u64::from(!given);
    }

    /// Sends packets that the kernel has sent by circuit links; how many.
    pub(super) fn send_from_links(&mut self, now: Nanos) -> usize {
        let Some(from_links) = &self.from_links else { return 0 };
        let Ok(first) = from_links.try_recv() else { return 0 };
        let packets: Vec<_> = std::iter::once(first).chain(from_links.try_iter().take(FROM_LINKS)).collect();
        let shared = self.shared.clone();
        let mut results = std::mem::take(&mut self.results);
        results.clear();
        for packet in &packets {
            let program = &self.news.program;
            let Some((tunnel, end)) = self.news.links.tunnel(packet.link).and_then(|number| {
                Some((number, program.tunnels.get(number as usize).filter(|end| end.enabled)?))
            }) else {
                continue;
            };
            let Some(remote) = end.remote else { continue };
            // At the start ports open later than links; whoever has sent it sends again.
            let number = self.news.from_program.get(usize::from(end.port)).copied().unwrap_or(u16::MAX);
            if self.ports.get(usize::from(number)).is_none_or(Option::is_none) {
                continue;
            }
            let sending = emit::Sending { port: end.port, tunnel: Some((tunnel, remote)), inner_mac: [0; 6] };
            results.output.send_as_it_is(program, sending, &packet.bytes);
        }
        let mut order = std::mem::take(&mut self.sending.order);
        // They keep circuits up: before what customers send.
        order.put_first(0..results.output.frames.len() as u32);
        self.send_frames(&shared, &mut results.output, &order, now);
        order.clear();
        (self.sending.order, self.results) = (order, results);
        packets.len()
    }

    #[inline]
    pub(super) fn count(&mut self, verdict: Verdict, vnet: Option<u32>, opened: bool) {
        let counts = &mut self.counts;
        counts.packets += 1;
        let forwarded = match verdict {
            Verdict::Forward => {
                counts.forwarded += 1;
                true
            }
            Verdict::Drop(reason) | Verdict::Punt(reason) => {
                if let Some(count) = counts.reasons.get_mut(reason as usize) {
                    *count += 1;
                }
                false
            }
        };
        if let Some(vnet) = vnet.and_then(|v| counts.vnets.get_mut(v as usize)) {
            vnet.forwarded += u64::from(forwarded);
            vnet.dropped += u64::from(!forwarded);
            vnet.opened += u64::from(opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::names::Names;
    use crate::compile::{TunnelEnd, compile};
    use crate::model;

    #[test]
    fn voice_comes_before_interactive_before_the_rest() {
        let classes = [46 << 2, 46 << 2 | 3, 34 << 2, 18 << 2, 0, 10 << 2, 48 << 2].map(class);
        assert_eq!(classes, [0, 0, 1, 1, 2, 2, 2]);
        let mut frame = [0; 40];
        (frame[12], frame[15]) = (8, 0xb8);
        assert_eq!(outer_tos(&frame), 0xb8);
        frame[12..16].copy_from_slice(&[0x86, 0xdd, 0x6b, 0x80]);
        assert_eq!(outer_tos(&frame), 0xb8);
    }

    #[test]
    fn who_floods_links_costs_no_more_in_a_span_and_takes_no_other_link_down() {
        let mut punts = Punts::default();
        let mut flood = |links: std::ops::Range<usize>, now: Nanos| -> Vec<usize> {
            links.map(|link| (0..2 * PUNTS).filter(|_| punts.may(link, now)).count()).collect()
        };
        let begin = 3 * SECOND;
        assert_eq!(flood(0..1, begin), [500]);
        // However often the worker has nothing to do in between.
        assert_eq!(flood(0..1, begin + SPAN - 1), [0]);
        assert_eq!(flood(0..1, begin + SPAN), [500]);
        // Many at once.
        let given = flood(1..30, begin + SPAN + 1);
        assert_eq!(given[..3], [500; 3]);
        assert_eq!(given[3..], [20; 26]);
        assert_eq!(flood(29..30, begin + 2 * SPAN), [500]);
    }

    /// A circuit whose links leave by two ports, and a VPN connection beside one of them.
    const LINKS_AND_VPN: &str = "
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2}
  edge-a: {role: edge, address: 192.0.2.1}
  edge-b: {role: edge, address: '2001:db8::1'}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: GatewaySubnet, addressPrefix: 10.1.255.0/27}]
    expressRouteCircuits:
      - name: er
        peerings:
          - {name: AzurePrivatePeering, peerASN: 65001, primaryPeerAddressPrefix: 192.168.255.0/30,
             secondaryPeerAddressPrefix: 192.168.255.4/30}
    virtualNetworkGateways:
      - {name: hub-er, gatewayType: ExpressRoute, virtualNetwork: hub}
      - {name: hub-vpn, gatewayType: Vpn, virtualNetwork: hub}
    connections:
      - {name: c, connectionType: ExpressRoute, virtualNetworkGateway1: hub-er, peer: er}
      - {name: s2s, connectionType: IPsec, virtualNetworkGateway1: hub-vpn}
    tunnels:
      - {vnet: hub, port: fabric, key: 1}
      - {circuit: er, link: primary, port: edge-a, remote: 192.0.2.2, key: 1, sequence: send}
      - {circuit: er, link: secondary, port: edge-b, remote: '2001:db8::2', key: 0x2000, encapsulation: nvgre}
      - {connection: s2s, port: edge-a, remote: 192.0.2.3, key: 1}
";

    #[test]
    fn only_what_leaves_by_a_link_has_a_class() {
        let model = model::from_bytes("config.yaml", LINKS_AND_VPN.as_bytes(), None).unwrap();
        let program = compile(&model, &mut Names::default());
        let voice =
            [&[0x45, 46 << 2, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0][..], &[10, 1, 0, 4, 10, 9, 0, 4]].concat();
        for end in program.tunnels.iter().filter(|end| end.remote.is_some()) {
            let mut output = Output::default();
            let tunnel = Some((end.id, end.remote.unwrap()));
            let sending = emit::Sending { port: end.port, tunnel, inner_mac: [0; 6] };
            output.send_as_it_is(&program, sending, &voice);
            let expected = if end.link.is_some() { 0 } else { CLASSES - 1 };
            assert_eq!(class_of(&program, &output, 0), expected, "{:?}", end.remote);
        }
        assert_eq!(program.tunnels.iter().filter(|end| end.remote.is_some()).count(), 3);
    }

    #[test]
    fn a_batch_leaves_by_class_on_each_link_and_all_else_as_it_has_come() {
        let model = model::from_bytes("config.yaml", LINKS_AND_VPN.as_bytes(), None).unwrap();
        let program = compile(&model, &mut Names::default());
        let number = |key: fn(&TunnelEnd) -> bool| program.tunnels.iter().position(key).unwrap() as u32;
        let primary = number(|end| end.link.is_some() && !end.nvgre);
        let secondary = number(|end| end.link.is_some() && end.nvgre);
        let connection = number(|end| end.link.is_none() && end.remote.is_some());
        let fabric = number(|end| end.remote.is_none());
        // What each frame leaves by, its DSCP, and when it leaves.
        let sent = [
            (primary, 0, 6),
            (fabric, 46, 7),
            (primary, 18, 3),
            (secondary, 34, 4),
            (primary, 46, 0),
            (connection, 46, 8),
            (primary, 34, 5),
            (fabric, 0, 9),
            (secondary, 46, 1),
            (primary, 46, 2),
            (secondary, 10, 10),
        ];
        let mut output = Output::default();
        for (tunnel, dscp, _) in sent {
            let end = &program.tunnels[tunnel as usize];
            let remote = end.remote.unwrap_or([198, 51, 100, 11].into());
            let sending = emit::Sending { port: end.port, tunnel: Some((tunnel, remote)), inner_mac: [0; 6] };
            let mut packet = [0x45, dscp << 2, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 4, 10, 9, 0, 4];
            packet[1] |= 1;
            output.send_as_it_is(&program, sending, &packet);
        }
        let mut order = Order::default();
        // Whatever number of frames became of each packet.
        for frames in [0..1, 1..4, 4..4, 4..6, 6..11] {
            order.put(&program, &output, frames);
        }
        let mut expected: Vec<u32> = (0..sent.len() as u32).collect();
        expected.sort_by_key(|frame| sent[*frame as usize].2);
        assert_eq!(order.iter().collect::<Vec<_>>(), expected);
        order.clear();
        order.put(&program, &output, 0..3);
        order.put_first(0..2);
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 0, 1], "those for our end's peer go first");
    }
}
