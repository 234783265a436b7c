//! A packet explained by the running appliance: by the configuration in force, and with the flow records that are held
//! of exactly this packet, because a packet of a live flow is not judged anew.

use std::fmt::Write;
use std::sync::Mutex;

use serde_json::Value;

use super::handle::{FlowFacts, FlowsFound, FlowsWanted, Handle, PacketWanted};
use super::report::{Explained, Flow};
use super::worker::lock;
use crate::observe::Style;
use crate::observe::ask::Asked;
use crate::observe::explain::Explanation;
use crate::wire::protocol;

/// Flow records that are told of at most: two are at the endpoints, but of ICMP there is one for each identifier.
const MOST: usize = 16;

/// Held by who explains: it takes the time and memory of compiling the configuration, beside the traffic.
static ONE: Mutex<()> = Mutex::new(());

/// Explains a packet, in colours if they are wanted; a sentence if it cannot be asked so.
pub fn explain(handle: &dyn Handle, asked: &Asked, color: bool) -> Result<Explained, String> {
    let _one = lock(&ONE);
    let (model, generation) = handle.in_force();
    let question = asked.of(&model)?;
    let explanation = Explanation::of(&model, question)?;
    let customer = model.customers.get(question.customer).map(|c| c.name.clone());
    let packet = PacketWanted { protocol: asked.protocol, from: question.from, to: question.to };
    let wanted = FlowsWanted { customer, packet: Some(packet), most: MOST, ..FlowsWanted::default() };
    let FlowsFound { flows, complete } = handle.flows(&wanted);

    let style = Style { on: color };
    let mut text = explanation.text(style);
    let title = style.strong(format_args!("in the running appliance (generation {generation}):"));
    // Writing to memory cannot fail.
    let _ = writeln!(text, "\n{title}");
    for line in told(&flows, asked.protocol) {
        let _ = writeln!(text, "  {line}");
    }
    if !complete {
        let _ = writeln!(text, "  a worker had too much to do to say which flow records it holds");
    }
    let mut document = serde_json::to_value(&explanation).unwrap_or_default();
    if let Value::Object(all) = &mut document {
        let flows: Vec<Flow> = flows.into_iter().map(Flow::from).collect();
        all.insert("generation".to_owned(), generation.into());
        all.insert("complete".to_owned(), complete.into());
        all.insert("liveFlows".to_owned(), serde_json::to_value(flows).unwrap_or_default());
    }
    Ok(Explained { forwarded: explanation.forwarded(), text, document })
}

/// A line for each record, and what they mean for the packet.
fn told(flows: &[FlowFacts], number: u8) -> Vec<String> {
    let mut lines = Vec::new();
    for flow in flows {
        let state = if flow.ended { "has ended" } else { "is live" };
        lines.push(format!(
            "a flow record {state} at {} in VNet {}: opened {} by {}, idle {:.1} s",
            flow.local.0,
            flow.vnet,
            flow.opened_by.name().to_lowercase(),
            flow.rule,
            flow.idle.as_secs_f64(),
        ));
    }
    let tcp = number == protocol::TCP;
    if flows.iter().any(|flow| !flow.ended) {
        lines.push("new packets of the flow follow it: its endpoint does not ask the rules again".to_owned());
    }
    if flows.iter().any(|flow| flow.ended) {
        lines.push(
            "one that has ended carries what still comes, but a SYN is judged anew, as above".to_owned(),
        );
    }
    if flows.is_empty() {
        lines.push("no flow record is live: a new packet is judged as above".to_owned());
        if tcp {
            lines.push(
                "of TCP only a SYN opens a flow: any other segment that the rules allow is dropped (tcp-no-flow), \
                 unless the NIC has disableTcpStateTracking"
                    .to_owned(),
            );
        }
    }
    lines
}
