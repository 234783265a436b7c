//! `explain`: one packet, step by step.

use super::args::{EntryName, ExplainArgs, ProtocolName, Socket};
use super::terminal::Terminal;
use super::{Exit, Refused, find, load};
use crate::model::Customer;
use crate::observe::explain::Explanation;
use crate::observe::json;
use crate::observe::walk::{Entry, Question};
use crate::wire::protocol;

/// The source port when none is said: of those that systems choose for themselves (RFC 6335).
const SOURCE_PORT: u16 = 50_000;
/// The destination port when none is said.
const DESTINATION_PORT: u16 = 443;

/// Explains one packet.
pub fn run(args: &ExplainArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let model = load(&args.config, terminal)?;
    let (customer, vnet) = find::customer_and_vnet(&model, &args.customer, &args.vnet)?;
    let entry = entry(customer, &args.entry)?;
    let index = model.customers.iter().position(|c| c.name == customer.name).unwrap_or_default();
    let protocol = protocol_number(args)?;
    let (from, to) = sockets(args, protocol)?;
    let question = Question { customer: index, vnet, protocol, from, to, entry };
    let explanation = Explanation::of(&model, question)?;
    if args.json {
        terminal.line(json::document(&explanation));
    } else {
        terminal.print(explanation.text(terminal.style));
    }
    Ok(if explanation.forwarded() { Exit::Done } else { Exit::No })
}

fn entry(customer: &Customer, name: &EntryName) -> Result<Entry, Refused> {
    let of = format!("of customer '{}'", customer.name);
    Ok(match name {
        EntryName::Fabric => Entry::Fabric,
        EntryName::Internet => Entry::Internet,
        EntryName::Circuit(name) => Entry::Circuit(find::one(
            "circuit",
            name,
            &of,
            customer.circuits.iter().map(|c| c.name.as_str()),
        )?),
        EntryName::Connection(name) => {
            let names = customer.connections.iter().map(|c| c.name.as_str());
            Entry::Connection(find::one("connection", name, &of, names)?)
        }
    })
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

type Side = (std::net::IpAddr, u16);

/// Both ends, with ports where the protocol has them.
fn sockets(args: &ExplainArgs, number: u8) -> Result<(Side, Side), Refused> {
    let has_ports = matches!(number, protocol::TCP | protocol::UDP);
    let side = |name: &str, socket: Socket, unsaid: u16| match socket.port {
        Some(port) if !has_ports => {
            Err(Refused::from(format!("--{name} names port {port}, but protocol {number} has no ports")))
        }
        port => Ok((socket.address, if has_ports { port.unwrap_or(unsaid) } else { 0 })),
    };
    let (from, to) = (side("from", args.from, SOURCE_PORT)?, side("to", args.to, DESTINATION_PORT)?);
    if from.0.is_ipv4() != to.0.is_ipv4() {
        return Err(format!("--from {} and --to {} are of different families", from.0, to.0).into());
    }
    Ok((from, to))
}
