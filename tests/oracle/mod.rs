//! The oracle: contract section 3 written down as slowly and plainly as possible, from the contract's sentences alone.
//! Linear scans, plain maps, no thought of speed. The packet path must agree with it in every field and every byte.

mod bandwidth;
pub mod bytes;
pub mod compare;
mod destination;
mod emit;
pub mod generate;
pub mod parse;
mod public;
pub mod routes;
pub mod rules;
#[cfg(test)]
mod scenarios;
pub mod seen;
pub mod show;
mod source;
mod state;

pub use bandwidth::Meters;
pub use source::{host_of, made_mac};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use clearway::model::Model;
use clearway::packet::{Direction, FlowState, Generated, Reason, Verdict};
use clearway::types::Nanos;

use bandwidth::Links;
use destination::Delivery;
use parse::Inner;
use routes::EffectiveRoute;
use rules::{Answer, Endpoint, Question};
use seen::{seen, seen_if};
use source::Sender;
use state::{Effect, EndpointId, FirstFragment, FragmentKey, InitiatedKey, Record, RecordKey, State};

/// What the contract says of one packet: the fields of its verdict line, and every frame it causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub verdict: Verdict,
    pub customer: Option<String>,
    pub vnet: Option<String>,
    pub flow: FlowState,
    pub rule: Option<String>,
    pub next_hop_type: Option<String>,
    pub route_prefix: Option<String>,
    pub egress_port: Option<String>,
    pub egress_remote: Option<String>,
    pub egress_key: Option<u32>,
    /// Port and frame, in the order they are sent.
    pub emitted: Vec<(String, Vec<u8>)>,
    /// The ICMP error that answers the packet.
    pub generated: Option<Generated>,
}

impl Expected {
    fn unknown() -> Expected {
        Expected {
            verdict: Verdict::Forward,
            customer: None,
            vnet: None,
            flow: FlowState::None,
            rule: None,
            next_hop_type: None,
            route_prefix: None,
            egress_port: None,
            egress_remote: None,
            egress_key: None,
            emitted: Vec::new(),
            generated: None,
        }
    }
}

type RouteCache = RefCell<BTreeMap<(usize, usize, Option<usize>), Rc<Vec<EffectiveRoute>>>>;

/// The dataplane of the contract.
pub struct Oracle {
    model: Model,
    state: State,
    links: Links,
    now: Nanos,
    routes: RouteCache,
}

/// One packet on its way through the steps.
struct Walk {
    said: Expected,
    /// A record was found.
    found: bool,
    effects: Vec<Effect>,
    /// The records that this packet found or opens.
    records: Vec<RecordKey>,
    /// The record of public peering that it opens or refreshes.
    initiated: Option<InitiatedKey>,
}

impl Oracle {
    pub fn new(model: &Model) -> Oracle {
        let mut links = Links::default();
        links.know(model);
        Oracle { model: model.clone(), state: State::default(), links, now: 0, routes: RefCell::default() }
    }

    /// Puts another configuration in force at this instant of packet time.
    pub fn swap(&mut self, model: &Model, at: Nanos) {
        self.now = self.now.max(at);
        self.state.forget(&self.model, self.now);
        let old = std::mem::replace(&mut self.model, model.clone());
        self.links.change(&old, model, self.now);
        self.routes = RefCell::default();
        let (state, new, routes) = (&mut self.state, &self.model, &self.routes);
        state.change(&old, new, |endpoint, question| {
            rules::judge(new, &effective(new, routes, endpoint), endpoint, question)
        });
    }

    /// Flow records opened so far.
    pub fn opened(&self) -> u64 {
        self.state.opened
    }

    /// Flow records that are neither expired nor ended at the last packet's time.
    pub fn live(&self) -> usize {
        self.state.live()
    }

    /// What circuit links have carried.
    pub fn meters(&self) -> &Meters {
        &self.links.meters
    }

    /// Everything that one packet causes.
    pub fn packet(&mut self, port: &str, time: Nanos, captured: &[u8], original_len: u32) -> Expected {
        self.now = self.now.max(time);
        self.state.forget(&self.model, self.now);
        let port = self.model.ports.iter().position(|p| p.name == port).expect("a port of the configuration");
        let mut walk = Walk {
            said: Expected::unknown(),
            found: false,
            effects: Vec::new(),
            records: Vec::new(),
            initiated: None,
        };
        let end = self.steps(port, captured, original_len, &mut walk);
        let Walk { mut said, found, effects, .. } = walk;
        let opens = effects.iter().any(|e| matches!(e, Effect::Open(..)));
        match end {
            Ok(()) => self.state.apply(effects, self.now),
            Err(reason) => said.verdict = Verdict::of(reason),
        }
        // "`new` if the packet opened a record, else `established` if it found one, else `none`; on a drop never
        // `new`."
        said.flow = match (end.is_ok() && opens, found) {
            (true, _) => FlowState::New,
            (false, true) => FlowState::Established,
            (false, false) => FlowState::None,
        };
        said
    }

    /// The steps of section 3 in their order.
    fn steps(&mut self, port: usize, frame: &[u8], original_len: u32, walk: &mut Walk) -> Result<(), Reason> {
        // 1. Frame. 2. Outer header. 3. GRE.
        let received = parse::receive(&self.model.ports[port], frame, original_len)?;
        // 4. Tunnel.
        let arrival = self.tunnel(port, received.carrier, &mut walk.said)?;
        // 5. Inner packet.
        let inner = parse::inner(received.protocol, received.inner).ok_or(Reason::InnerMalformed)?;
        let class = self.check_inner(&arrival, &inner)?;
        let link = self.link_of(&arrival);
        if let Some(link) = link {
            self.pass_inwards(link, &inner)?;
        }
        // 6. Source.
        if link.is_some_and(|link| self.is_to_us(link, &inner)) {
            return Err(Reason::ToUs);
        }
        if let Some(public) = self.public(&arrival, inner.destination) {
            return self.public_steps(public, &arrival, &inner, class, walk);
        }
        let (customer, vnet, sender) = self.sender(&arrival, &inner, &mut walk.said)?;
        let fragment = self.fragment_key(customer, Some(vnet), &sender, &inner);
        let first = self.first_fragment(fragment.as_ref(), &inner, walk)?;
        // 7. Outbound NSGs (fabric only).
        if let (Sender::Endpoint(endpoint), None) = (&sender, &first) {
            self.ask(endpoint, Direction::Outbound, &inner, walk)?;
        }
        // 8. Route. 9. Destination.
        let delivery = self.deliver(customer, vnet, &sender, &inner, &mut walk.said)?;
        // 10. Inbound NSGs of a destination endpoint on the fabric.
        if let (Delivery::Host { endpoint, .. }, None) = (&delivery, &first) {
            self.ask(endpoint, Direction::Inbound, &inner, walk)?;
        }
        // 11. TTL. 12. Size. 13. Egress.
        self.send(customer, &arrival, &sender, &delivery, &inner, class, &mut walk.said)?;
        if let (Some(key), None) = (fragment, &first) {
            self.admit(key, walk);
        }
        Ok(())
    }

    /// "state per (VNet, source endpoint or link or connection or Internet, source, destination, protocol,
    /// identification)"
    fn fragment_key(
        &self,
        customer: usize,
        vnet: Option<usize>,
        sender: &Sender,
        inner: &Inner,
    ) -> Option<FragmentKey> {
        let owner = &self.model.customers[customer];
        inner.fragment.map(|f| FragmentKey {
            customer: owner.name.clone(),
            vnet: vnet.map(|v| owner.vnets[v].name.clone()),
            sender: sender.id(&self.model, customer),
            source: inner.source,
            destination: inner.destination,
            protocol: f.protocol,
            identification: f.identification,
        })
    }

    /// "Then, for a later fragment whose first was not forwarded: fragment-orphan." "A later fragment is not judged by
    /// rules: `flow` and `rule` are the first's (`new` becoming `established`); it refreshes the flow".
    fn first_fragment(
        &self,
        key: Option<&FragmentKey>,
        inner: &Inner,
        walk: &mut Walk,
    ) -> Result<Option<FirstFragment>, Reason> {
        let Some(key) = key.filter(|_| inner.is_later_fragment()) else { return Ok(None) };
        let first = self.state.first_fragment(key).ok_or(Reason::FragmentOrphan)?.clone();
        walk.found = first.flow != FlowState::None;
        seen(if walk.found { "fragment: later, with flow" } else { "fragment: later, without flow" });
        walk.said.rule = first.rule.clone();
        // The side does not matter: without TCP flags both directions refresh alike.
        let refresh = |key: &RecordKey| Effect::Refresh(key.clone(), Direction::Inbound, None);
        walk.effects.extend(first.records.iter().map(refresh));
        Ok(Some(first))
    }

    /// "from the first fragment's forwarding for 30 seconds"
    fn admit(&self, key: FragmentKey, walk: &mut Walk) {
        let opens = walk.effects.iter().any(|e| matches!(e, Effect::Open(..)));
        let flow = if opens || walk.found { FlowState::Established } else { FlowState::None };
        let first = FirstFragment {
            at: self.now,
            flow,
            rule: walk.said.rule.clone(),
            records: walk.records.clone(),
            initiated: walk.initiated.clone(),
        };
        walk.effects.push(Effect::Admit(key, first));
    }

    /// Steps 7 and 10: flow records and rules of one endpoint.
    fn ask(
        &self,
        endpoint: &Endpoint,
        direction: Direction,
        inner: &Inner,
        walk: &mut Walk,
    ) -> Result<(), Reason> {
        // "An endpoint without any NSG keeps none and checks no TCP state."
        if rules::nsgs(&self.model, endpoint, direction).is_empty() {
            return Ok(());
        }
        let question = Question {
            direction,
            protocol: inner.protocol,
            source: inner.source,
            destination: inner.destination,
            ports: inner.ports(),
        };
        if routes::is_platform(inner.source) || routes::is_platform(inner.destination) {
            return self.ask_platform(endpoint, &question, walk);
        }
        // "ICMP errors [...] that quote a packet of a live record pass with it [...] They open and refresh nothing."
        if let Some(record) = self.related(endpoint, direction, inner) {
            seen(match direction {
                Direction::Inbound => "flow: related error inbound",
                Direction::Outbound => "flow: related error outbound",
            });
            walk.found = true;
            walk.said.rule = Some(record.rule.clone());
            return Ok(());
        }
        let key = self.record_key(endpoint, direction, inner);
        let tracked = self.tracks_tcp(endpoint) && inner.protocol == parse::TCP;
        seen_if(inner.protocol == parse::TCP && !tracked, "flow: untracked TCP");
        let error =
            inner.icmp_type().is_some_and(|t| if inner.is_v4() { t == 3 || t == 11 } else { t < 128 });
        seen_if(error, "flow: unrelated error");
        let flags = inner.tcp_flags().filter(|_| tracked);
        // "a SYN (without ACK, RST, FIN; other bits do not matter)"
        let syn = flags.is_some_and(|f| f & 0x17 == 0x02);
        // "A SYN on a live record passes. [...] an ended record carries what still comes, other than SYN [...]; a SYN
        // on it is judged anew."
        if let Some(record) = self.state.record(&key).filter(|r| r.ended.is_none() || !syn) {
            seen_if(record.ended.is_some(), "flow: ended record carries on");
            seen_if(syn, "flow: SYN on a live record");
            walk.found = true;
            walk.said.rule = Some(record.rule.clone());
            walk.effects.push(Effect::Refresh(key.clone(), direction, flags));
            walk.records.push(key);
            return Ok(());
        }
        seen_if(syn && self.state.record(&key).is_some(), "flow: SYN on an ended record");
        // A packet that an endpoint sends to itself may meet the record that it opened a moment ago in step 7.
        let pending = walk.effects.iter().find_map(|e| match e {
            Effect::Open(k, record) if *k == key => Some(record.rule.clone()),
            _ => None,
        });
        if let Some(rule) = pending {
            walk.said.rule = Some(rule);
            return Ok(());
        }
        self.open(endpoint, question, key, tracked && !syn, walk)
    }

    /// A packet of no record: "the rules are asked first, and a segment that they would allow but opens nothing is
    /// tcp-no-flow naming that rule"; "A full table refuses the packet that would open one more (flow-table-full,
    /// naming the rule that allowed it)".
    fn open(
        &self,
        endpoint: &Endpoint,
        question: Question,
        key: RecordKey,
        opens_nothing: bool,
        walk: &mut Walk,
    ) -> Result<(), Reason> {
        let routes = effective(&self.model, &self.routes, endpoint);
        let answer =
            rules::judge(&self.model, &routes, endpoint, &question).expect("the endpoint has an NSG");
        let rule = match answer {
            Answer::Denied(rule) => {
                walk.said.rule = Some(rule);
                return Err(Reason::NsgDeny);
            }
            Answer::Allowed(rule) => rule,
        };
        walk.said.rule = Some(rule.clone());
        if opens_nothing {
            return Err(Reason::TcpNoFlow);
        }
        if self.state.is_full(&self.model, endpoint, &key, &walk.effects) {
            return Err(Reason::FlowTableFull);
        }
        let record = Record { opened_by: question, rule, last: self.now, fin: [false; 2], ended: None };
        seen_if(!walk.records.is_empty(), "flow: two records of one packet");
        walk.records.push(key.clone());
        walk.effects.push(Effect::Open(key, record));
        Ok(())
    }

    /// A packet from or to a platform address.
    fn ask_platform(&self, endpoint: &Endpoint, question: &Question, walk: &mut Walk) -> Result<(), Reason> {
        let routes = effective(&self.model, &self.routes, endpoint);
        match rules::judge_platform(&self.model, &routes, endpoint, question) {
            Some(Answer::Denied(rule)) => {
                seen("rules: platform denied");
                walk.said.rule = Some(rule);
                Err(Reason::NsgDeny)
            }
            Some(Answer::Allowed(rule)) => {
                seen("rules: platform allowed");
                walk.said.rule = Some(rule);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// "A NIC with `disableTcpStateTracking`: TCP is treated like UDP."
    fn tracks_tcp(&self, endpoint: &Endpoint) -> bool {
        let owner = &self.model.customers[endpoint.customer];
        !endpoint.nic.is_some_and(|n| owner.nics[n].disable_tcp_state_tracking)
    }

    /// "local is the destination of an inbound and the source of an outbound packet".
    fn record_key(&self, endpoint: &Endpoint, direction: Direction, inner: &Inner) -> RecordKey {
        let (source_port, destination_port) = inner.flow_ports();
        let source = (inner.source, source_port);
        let destination = (inner.destination, destination_port);
        let (local, remote) = match direction {
            Direction::Inbound => (destination, source),
            Direction::Outbound => (source, destination),
        };
        RecordKey { endpoint: EndpointId::of(&self.model, endpoint), protocol: inner.protocol, local, remote }
    }

    /// The live record of this endpoint whose packet an ICMP error quotes: "inbound they must quote what the endpoint
    /// sent (quoted source = its local address and the error's destination), outbound what it received".
    fn related(&self, endpoint: &Endpoint, direction: Direction, inner: &Inner) -> Option<&Record> {
        let errors: &[u8] = if inner.is_v4() { &[3, 4, 11, 12] } else { &[1, 2, 3, 4] };
        if !errors.contains(&inner.icmp_type()?) {
            return None;
        }
        let (source, destination, protocol, ports) = parse::quoted(inner)?;
        let source = (source, ports.0);
        let destination = (destination, ports.1);
        let (local, remote) = match direction {
            Direction::Inbound if source.0 == inner.destination => (source, destination),
            Direction::Inbound => return None,
            Direction::Outbound => (destination, source),
        };
        let key = RecordKey { endpoint: EndpointId::of(&self.model, endpoint), protocol, local, remote };
        self.state.record(&key).filter(|r| r.ended.is_none())
    }
}

/// The effective routes of an endpoint's subnet.
fn effective(model: &Model, cache: &RouteCache, endpoint: &Endpoint) -> Rc<Vec<EffectiveRoute>> {
    effective_of(model, cache, endpoint.customer, endpoint.vnet, Some(endpoint.subnet))
}

fn effective_of(
    model: &Model,
    cache: &RouteCache,
    customer: usize,
    vnet: usize,
    subnet: Option<usize>,
) -> Rc<Vec<EffectiveRoute>> {
    let mut cache = cache.borrow_mut();
    let compute = || Rc::new(routes::effective(model, customer, vnet, subnet));
    cache.entry((customer, vnet, subnet)).or_insert_with(compute).clone()
}
