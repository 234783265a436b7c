//! `explain`: one packet, step by step.

use std::net::SocketAddr;
use std::path::Path;

use super::args::{ExplainArgs, ProtocolName, Socket};
use super::terminal::Terminal;
use super::{Exit, Refused, load};
use crate::observe::ask::Asked;
use crate::observe::explain::Explanation;
use crate::observe::json;
use crate::wire::protocol;

/// The source port when none is said: of those that systems choose for themselves (RFC 6335).
const SOURCE_PORT: u16 = 50_000;
/// The destination port when none is said.
const DESTINATION_PORT: u16 = 443;

/// Explains one packet.
pub fn run(args: &ExplainArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let protocol = protocol_number(args)?;
    let (from, to) = sockets(args, protocol)?;
    let (customer, vnet, entry) = (args.customer.clone(), args.vnet.clone(), args.entry.clone());
    let asked = Asked { customer, vnet, protocol, from, to, entry };
    let forwarded = match &args.config {
        Some(config) => by_file(config, &asked, args.json, terminal)?,
        None => by_appliance(args, asked, terminal)?,
    };
    Ok(if forwarded { Exit::Done } else { Exit::No })
}

fn by_file(config: &Path, asked: &Asked, json: bool, terminal: &mut Terminal) -> Result<bool, Refused> {
    let model = load(config, terminal)?;
    let explanation = Explanation::of(&model, asked.of(&model)?)?;
    if json {
        terminal.line(json::document(&explanation));
    } else {
        terminal.print(explanation.text(terminal.style));
    }
    Ok(explanation.forwarded())
}

#[cfg(target_os = "linux")]
fn by_appliance(args: &ExplainArgs, question: Asked, terminal: &mut Terminal) -> Result<bool, Refused> {
    use super::running::{astray, path};
    use crate::live::control::{Reply, Request, ask};

    let request = Request::Explain { question, color: terminal.style.on };
    let Reply::Explain(explained) = ask(&path(args.control.as_ref()), &request)? else {
        return Err(astray());
    };
    if args.json {
        terminal.line(json::document(&explained.document));
    } else {
        terminal.print(explained.text);
    }
    Ok(explained.forwarded)
}

#[cfg(not(target_os = "linux"))]
fn by_appliance(_: &ExplainArgs, _: Asked, _: &mut Terminal) -> Result<bool, Refused> {
    Err("clearway runs live on Linux only".into())
}

fn protocol_number(args: &ExplainArgs) -> Result<u8, Refused> {
    use protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    let ipv4 = args.from.address.is_ipv4();
    match args.protocol {
        ProtocolName::Icmp => Ok(if ipv4 { protocol::ICMP } else { protocol::ICMPV6 }),
        ProtocolName::Number(n)
            if !ipv4 && matches!(n, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) =>
        {
            Err(format!("--protocol {n} is an extension header of IPv6; name the protocol behind it").into())
        }
        ProtocolName::Number(n) => Ok(n),
    }
}

/// Both ends, with ports where the protocol has them.
fn sockets(args: &ExplainArgs, number: u8) -> Result<(SocketAddr, SocketAddr), Refused> {
    let has_ports = matches!(number, protocol::TCP | protocol::UDP);
    let side = |name: &str, socket: Socket, unsaid: u16| match socket.port {
        Some(port) if !has_ports => {
            Err(Refused::from(format!("--{name} names port {port}, but protocol {number} has no ports")))
        }
        port => Ok(SocketAddr::new(socket.address, if has_ports { port.unwrap_or(unsaid) } else { 0 })),
    };
    let (from, to) = (side("from", args.from, SOURCE_PORT)?, side("to", args.to, DESTINATION_PORT)?);
    if from.is_ipv4() != to.is_ipv4() {
        return Err(format!("--from {} and --to {} are of different families", from.ip(), to.ip()).into());
    }
    Ok((from, to))
}
