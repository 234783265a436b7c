//! Asks the packet path what becomes of one new packet, in Azure's words.

use std::convert::Infallible;
use std::net::IpAddr;

use clearway::model::{Model, TunnelTo};
use clearway::packet::{Reason, Verdict};
use clearway::runtime::{Finished, Replay};
use clearway::types::Prefix;
use clearway::wire::build::{Transport, ip_packet};
use clearway::wire::{ethernet, gre, ip, protocol, tcp_flags};

/// Where a packet comes from.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// From the host that carries its source in this VNet.
    Vnet(&'a str),
    /// Plain, from the Internet.
    Internet,
}

/// What became of the packet.
#[derive(Debug)]
pub struct Answer {
    /// Whether the rules let it pass.
    pub access: &'static str,
    /// The rule that decided, as flow logs write it.
    pub rule: Option<String>,
    /// The route that won.
    pub route: Option<(&'static str, Prefix)>,
}

/// Sends a SYN to the customer's network and tells what became of it; only rules may drop it.
pub fn ask(model: &Model, entry: Entry, from: (IpAddr, u16), to: (IpAddr, u16)) -> Answer {
    let tcp = Transport::Tcp { source: from.1, destination: to.1, flags: tcp_flags::SYN };
    let packet = ip_packet(from.0, to.0, tcp, b"").expect("one family");
    let mut frame = vec![2; 12];
    frame.extend(ethernet::IPV4.to_be_bytes());
    let port = match entry {
        Entry::Internet => "internet",
        Entry::Vnet(name) => {
            encapsulate(model, name, from.0, packet.len(), &mut frame);
            "fabric"
        }
    };
    frame.extend(packet);
    let mut replay = Replay::new(model, 1, Vec::new());
    let port = replay.ports().iter().position(|p| p == port).expect("a port") as u16;
    let mut answer = None;
    let mut sink = |f: Finished<'_>| {
        let outcome = f.done.outcome;
        let access = match outcome.verdict {
            Verdict::Forward => "Allow",
            Verdict::Drop(Reason::NsgDeny) => "Deny",
            other => panic!("{from:?} to {to:?} by {entry:?}: {other:?}"),
        };
        let rule = outcome.rule.map(|r| f.program.names.rule_name(r).to_owned());
        answer = Some(Answer { access, rule, route: outcome.route.map(|(t, p)| (t.name(), p)) });
        Ok::<(), Infallible>(())
    };
    let Ok(()) = replay.push(port, 0, 6, &frame, frame.len() as u32, &mut sink);
    let Ok(_) = replay.finish(&mut sink);
    answer.expect("an answer")
}

/// Appends the outer headers of a packet from the host that carries this address.
fn encapsulate(model: &Model, vnet: &str, from: IpAddr, length: usize, frame: &mut Vec<u8>) {
    let customer = &model.customers[0];
    let vnet = customer.vnets.iter().position(|v| v.name == vnet).expect("a VNet");
    let carries = |h: &&clearway::model::Host| h.vnet == vnet && h.prefixes.iter().any(|p| p.contains(from));
    let host = customer.hosts.iter().find(carries).expect("a host");
    let tunnel = customer.tunnels.iter().find(|t| t.to == TunnelTo::Vnet(vnet)).expect("a tunnel");
    let (IpAddr::V4(host), IpAddr::V4(own)) = (host.address, model.ports[tunnel.port].address) else {
        unreachable!("the underlay is IPv4")
    };
    ip::emit_v4(frame, host, own, protocol::GRE, 0, 8 + length);
    gre::emit(frame, gre::IPV4, tunnel.key, false);
}
