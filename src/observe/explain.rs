//! The walk of one packet, told: what an engineer pastes into a ticket, and the same as JSON.

use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use super::hints::{self, Fields};
use super::walk::{Journey, Leg, Question, Walker};
use super::{Style, Table, Time, VerdictLine};
use crate::dataplane::trace::{NO_GROUP, Step};
use crate::model::Model;
use crate::packet::{FlowState, Reason, Verdict};
use crate::wire::protocol;

/// The hint about an appliance that sends on what began on its own host.
const SAME_HOST: &str =
    "the appliance is on the host of the source, so this is taken for the source's own packet";

/// What became of a packet, and of the answer to it.
pub struct Explanation<'m> {
    model: &'m Model,
    walker: Walker<'m>,
    question: Question,
    there: Journey,
    back: Option<Journey>,
}

impl<'m> Explanation<'m> {
    /// Walks the packet and the answer; a sentence if the packet cannot enter as asked.
    pub fn of(model: &'m Model, question: Question) -> Result<Explanation<'m>, String> {
        let mut walker = Walker::new(model);
        let there = walker.there(&question)?;
        let back = walker.back(&question, &there);
        Ok(Explanation { model, walker, question, there, back })
    }

    /// True if the packet was forwarded.
    pub fn forwarded(&self) -> bool {
        self.first().is_some_and(|leg| leg.outcome.verdict == Verdict::Forward)
    }

    fn first(&self) -> Option<&Leg> {
        self.there.legs.first()
    }

    fn verdict<'a>(&'a self, leg: &'a Leg) -> VerdictLine<'a> {
        let program = &self.walker.program;
        let port = program.ports.get(usize::from(leg.port)).map_or("", |p| &p.name);
        VerdictLine::new(leg.packet, Time { at: leg.at, digits: 6 }, port, &leg.outcome, program)
    }

    /// The fields of the packet that is asked about, or of the answer.
    fn fields(&self, answer: bool) -> Fields {
        let Question { protocol, from, to, .. } = self.question;
        let (from, to) = if answer { (to, from) } else { (from, to) };
        Fields { protocol, from, to }
    }

    /// The text for a person.
    pub fn text(&self, style: Style) -> String {
        let Some(first) = self.first() else { return String::new() };
        let mut text = String::new();
        // Writing to memory cannot fail.
        let _ = writeln!(text, "{}", self.headline(first, style));
        text.push('\n');
        let _ = write!(text, "{}", self.facts(first, style));
        let kinds = [(false, Some(&self.there)), (true, self.back.as_ref())];
        for (answer, journey) in kinds {
            for (i, leg) in journey.into_iter().flat_map(|j| j.legs.iter().enumerate()) {
                let what = match (answer, i) {
                    (false, 0) => "packet".to_owned(),
                    (true, 0) => "answer".to_owned(),
                    (answer, i) => self.sent_on(answer, i),
                };
                let title = format!("{what}: {}", told(self.fields(answer)));
                let _ = write!(text, "\n{}\n{}", style.strong(title), self.steps(leg, answer, i, style));
            }
        }
        text
    }

    /// `DROP nsg-deny  tcp 10.1.0.4:50000 -> 10.2.0.4:22  (customer contoso, VNet hub)`
    fn headline(&self, leg: &Leg, style: Style) -> String {
        let verdict = self.verdict(leg);
        let word = match leg.outcome.verdict {
            Verdict::Forward => style.good("FORWARD"),
            Verdict::Drop(reason) => style.bad(format_args!("DROP {}", reason.name())),
            Verdict::Punt(reason) => style.odd(format_args!("PUNT {}", reason.name())),
        };
        let whose = match (verdict.customer, verdict.vnet) {
            (Some(customer), Some(vnet)) => format!("customer {customer}, VNet {vnet}"),
            (Some(customer), None) => format!("customer {customer}"),
            _ => "customer unknown".to_owned(),
        };
        let mut line = format!("{word}  {}  ({whose})", told(self.fields(false)));
        let behind = || {
            let last = self.there.legs.last()?;
            if last.to.as_ref().is_some_and(|stop| stop.appliance.is_some()) {
                return Some(
                    "to an appliance; if that sends it on unchanged, it comes back to it: a loop".to_owned(),
                );
            }
            let reason = last.outcome.verdict.reason()?;
            Some(format!(
                "to an appliance; if that sends it on unchanged, it ends behind it: {}",
                reason.name()
            ))
        };
        let more = match leg.outcome.verdict.reason() {
            Some(reason) => Some(reason.sentence().trim().to_owned()),
            None => behind(),
        };
        if let Some(more) = more {
            let _ = write!(line, "\n{more}");
        }
        line
    }

    /// What decided, and the ways there and back side by side.
    fn facts(&self, leg: &Leg, style: Style) -> Table {
        let mut table = Table::new(style, &["", ""]).indent(2);
        let mut fact = |name: &str, text: String| table.row([name.to_owned(), text]);
        let last =
            |wanted: &dyn Fn(&Step) -> bool| leg.steps.iter().rfind(|s| wanted(s)).map(|s| s.text.clone());
        let of_rules = |s: &Step| matches!(s.number, 7 | 10);
        // Of the endpoints asked, the last that has a group.
        let rule = last(&|s| of_rules(s) && s.text != NO_GROUP).or_else(|| last(&of_rules));
        let facts =
            [("rule", rule), ("route", last(&|s| s.number == 8)), ("egress", last(&|s| s.number == 13))];
        for (name, text) in facts {
            if let Some(text) = text {
                fact(name, text);
            }
        }
        fact("there", self.way(&self.there));
        if let Some(back) = &self.back {
            fact("back", self.way(back));
            for line in self.comparison(back) {
                fact("", line);
            }
        }
        table
    }

    /// `A -> appliance B -> C`
    fn way(&self, journey: &Journey) -> String {
        let mut way = journey.start.clone();
        for leg in &journey.legs {
            match (&leg.to, leg.outcome.verdict.reason()) {
                (Some(stop), _) if stop.appliance.is_some() => {
                    let _ = write!(way, " -> appliance {}", stop.name);
                }
                (Some(stop), _) => {
                    let _ = write!(way, " -> {}", stop.name);
                }
                (None, reason) => {
                    let verdict = leg.outcome.verdict.name();
                    let _ = write!(way, " -> {verdict}: {}", reason.map_or("", Reason::name));
                }
            }
        }
        if journey.end().is_some_and(|stop| stop.appliance.is_some()) {
            way.push_str(" -> and so on, round and round");
        }
        way
    }

    /// How the way back differs from the way there.
    fn comparison(&self, back: &Journey) -> Vec<String> {
        let program = &self.walker.program;
        let mut lines = Vec::new();
        match hints::parting(self.model, program, &self.question, &self.there, back) {
            Some(parting) => lines.push(parting),
            None if back.end().is_some() => lines.push("the answer comes back the same way".to_owned()),
            None => lines.push("the answer does not come back".to_owned()),
        }
        if back.end().is_some() {
            lines.extend(hints::one_sided(&self.there, back));
        }
        if back.legs.iter().any(|leg| leg.outcome.flow == FlowState::New) {
            lines.push(
                "an endpoint judges the answer by its rules: it has no record of the packet".to_owned(),
            );
        }
        lines
    }

    /// `packet, sent on by 10.1.9.4`
    fn sent_on(&self, answer: bool, leg: usize) -> String {
        let journey = if answer { self.back.as_ref() } else { Some(&self.there) };
        let before = leg.checked_sub(1).and_then(|i| journey?.legs.get(i)?.to.clone());
        let what = if answer { "answer" } else { "packet" };
        format!("{what}, sent on unchanged by {}", before.map_or_else(String::new, |stop| stop.name))
    }

    /// What each step of a pass found, with hints.
    fn steps(&self, leg: &Leg, answer: bool, index: usize, style: Style) -> Table {
        let (model, program) = (self.model, &self.walker.program);
        let fields = self.fields(answer);
        let mut table = Table::new(style, &[">", "", ""]).indent(2);
        let mut row = |number: String, name: &str, text: String| table.row([number, name.to_owned(), text]);
        row("1-5".to_owned(), "arrival", leg.arrival.clone());
        for (i, Step { number, name, text }) in leg.steps.iter().enumerate() {
            let mut text = text.clone();
            let last = i + 1 == leg.steps.len();
            let mut hints = match number {
                6 if index > 0 && leg.facts.own => vec![SAME_HOST.to_owned()],
                8 => hints::other_routes(model, program, leg, fields.to.0),
                _ => Vec::new(),
            };
            if let Some(denied) = leg.facts.denied.as_ref().filter(|_| last) {
                hints.extend(hints::nearly(model, program, denied, fields));
            }
            for hint in hints {
                let _ = write!(text, "\n  {hint}");
            }
            row(number.to_string(), name, text);
        }
        if let Some(reason) = leg.outcome.verdict.reason() {
            let mut text = format!("{}: {}", reason.name(), reason.sentence().trim());
            if reason == Reason::SpoofedSource && index > 0 {
                text.push_str(
                    "\n  an appliance needs a NIC resource with enableIPForwarding to send for others",
                );
            }
            row(String::new(), leg.outcome.verdict.name(), text);
        }
        table
    }

    /// A pass as JSON: the verdict record, what Azure's IP flow verify and next hop would answer, and the steps.
    fn leg(&self, leg: &Leg) -> Value {
        let rule = leg.outcome.rule.map(|r| self.walker.program.names.rule_name(r));
        let asked = leg.steps.iter().any(|s| matches!(s.number, 7 | 10));
        let access = match leg.outcome.verdict.reason() {
            Some(Reason::NsgDeny) => Some("Deny"),
            _ if asked => Some("Allow"),
            _ => None,
        };
        let step = |s: &Step| json!({"step": s.number, "name": s.name, "text": s.text});
        let facts = json!({
            "access": access,
            "ruleName": rule.map(azure_rule_name),
            "nextHopIpAddress": leg.facts.next_hop_ip,
            "routeTableId": leg.outcome.route.map(|_| self.route_table(leg)),
            "arrival": leg.arrival,
            "steps": leg.steps.iter().map(step).collect::<Vec<_>>(),
            "to": leg.to.as_ref().map(|stop| &stop.name),
        });
        let mut all = serde_json::to_value(self.verdict(leg)).unwrap_or_default();
        if let (Value::Object(all), Value::Object(facts)) = (&mut all, facts) {
            all.extend(facts);
        }
        all
    }

    /// The route table whose route won; Azure's words when it is none's.
    fn route_table(&self, leg: &Leg) -> String {
        let named = || {
            let (vnet, name) = leg.facts.routed_in.as_ref().filter(|_| leg.facts.user_defined)?;
            let at = hints::subnet(self.model, &self.walker.program, *vnet, name)?;
            Some(at.customer.route_tables.get(at.subnet.route_table?)?.name.clone())
        };
        named().unwrap_or_else(|| "System Route".to_owned())
    }

    /// A journey as JSON: its first pass, and those behind appliances.
    fn journey(&self, journey: &Journey) -> Value {
        let mut legs = journey.legs.iter().map(|leg| self.leg(leg));
        let mut all = legs.next().unwrap_or_default();
        if let Value::Object(all) = &mut all {
            all.insert("behindAppliances".to_owned(), legs.collect());
            all.insert("way".to_owned(), self.way(journey).into());
        }
        all
    }
}

impl Serialize for Explanation<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = self.journey(&self.there);
        let program = &self.walker.program;
        let parting = |back| hints::parting(self.model, program, &self.question, &self.there, back);
        let back = self.back.as_ref();
        if let Value::Object(all) = &mut all {
            let symmetric = back.map(|b| b.end().is_some() && parting(b).is_none());
            all.insert("return".to_owned(), back.map_or(Value::Null, |b| self.journey(b)));
            all.insert("symmetric".to_owned(), symmetric.into());
            all.insert("comparison".to_owned(), back.map_or_else(Vec::new, |b| self.comparison(b)).into());
        }
        all.serialize(serializer)
    }
}

/// A rule's name as Azure's IP flow verify gives it.
fn azure_rule_name(log_name: &str) -> String {
    match (log_name.strip_prefix("UserRule_"), log_name.strip_prefix("DefaultRule_")) {
        (Some(name), _) => format!("securityRules/{name}"),
        (_, Some(name)) => format!("defaultSecurityRules/{name}"),
        _ => log_name.to_owned(),
    }
}

/// `tcp 10.1.0.4:50000 -> 10.2.0.4:22`
fn told(fields: Fields) -> String {
    let name = match fields.protocol {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP | protocol::ICMPV6 => "icmp echo".to_owned(),
        protocol::ESP => "esp".to_owned(),
        protocol::AH => "ah".to_owned(),
        number => format!("protocol {number}"),
    };
    let has_ports = matches!(fields.protocol, protocol::TCP | protocol::UDP);
    let side = |(address, port): (IpAddr, u16)| match address {
        _ if !has_ports => address.to_string(),
        IpAddr::V4(a) => format!("{a}:{port}"),
        IpAddr::V6(a) => format!("[{a}]:{port}"),
    };
    format!("{name} {} -> {}", side(fields.from), side(fields.to))
}
