//! What the dataplane remembers: flow records, fragments, sequence numbers and the ICMP errors it sent. Every key is made
//! of names, so that it means the same after a change of configuration: "Records, fragments, sequence numbers and
//! counters are per customer and VNet".

use std::collections::BTreeMap;
use std::net::IpAddr;

use clearway::model::{Customer, Encapsulation, Model, TunnelTo};
use clearway::packet::{Direction, FlowState};
use clearway::types::{Nanos, SECOND};

use super::rules::{self, Answer, Endpoint, Question};
use super::seen::{seen, seen_if};

/// "endpoint exists (VNet and NIC name, or VNet name and address)"
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointName {
    Nic(String),
    Address(IpAddr),
}

/// An endpoint by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId {
    pub customer: String,
    pub vnet: String,
    pub name: EndpointName,
}

impl EndpointId {
    pub fn of(model: &Model, endpoint: &Endpoint) -> EndpointId {
        let owner = &model.customers[endpoint.customer];
        EndpointId {
            customer: owner.name.clone(),
            vnet: owner.vnets[endpoint.vnet].name.clone(),
            name: match endpoint.nic {
                Some(nic) => EndpointName::Nic(owner.nics[nic].name.clone()),
                None => EndpointName::Address(endpoint.address),
            },
        }
    }

    /// The endpoint of these names in this configuration.
    fn find(&self, model: &Model) -> Option<Endpoint> {
        let customer = model.customers.iter().position(|c| c.name == self.customer)?;
        let owner = &model.customers[customer];
        let vnet = owner.vnets.iter().position(|v| v.name == self.vnet)?;
        match &self.name {
            EndpointName::Nic(name) => {
                let nic = owner.nics.iter().position(|n| n.name == *name && n.vnet == vnet)?;
                let of = &owner.nics[nic];
                Some(Endpoint {
                    customer,
                    vnet,
                    subnet: of.subnet,
                    nic: Some(nic),
                    address: *of.addresses.first()?,
                })
            }
            EndpointName::Address(address) => {
                rules::endpoint_at(model, customer, vnet, *address).filter(|e| e.nic.is_none())
            }
        }
    }
}

/// "A record belongs to (endpoint, protocol, local address and port, remote address and port)".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    pub endpoint: EndpointId,
    pub protocol: u8,
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
}

/// A flow record.
#[derive(Clone, Debug)]
pub struct Record {
    /// The packet that opened it.
    pub opened_by: Question,
    /// The rule that allowed it.
    pub rule: String,
    /// The last packet of either direction.
    pub last: Nanos,
    /// A FIN was seen: inbound, outbound.
    pub fin: [bool; 2],
    /// When FINs of both sides, or a RST, ended it.
    pub ended: Option<Nanos>,
}

/// Who sent a packet, by names: "source endpoint or link or connection or Internet".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SenderId {
    Endpoint(EndpointId),
    /// Customer, circuit, peering, link.
    Link(String, String, String, &'static str),
    /// Customer, connection.
    Connection(String, String),
    /// Customer, VNet.
    Internet(String, String),
    /// Everyone outside, to Microsoft or public peering of this customer.
    Outside(String),
}

/// "state per (VNet, source endpoint or link or connection or Internet, source, destination, protocol,
/// identification)".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FragmentKey {
    pub customer: String,
    /// Packets of Microsoft and public peering are in none.
    pub vnet: Option<String>,
    pub sender: SenderId,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub identification: u32,
}

/// What later fragments take over from the first.
#[derive(Clone, Debug)]
pub struct FirstFragment {
    pub at: Nanos,
    pub flow: FlowState,
    pub rule: Option<String>,
    /// The records that the first fragment opened or refreshed.
    pub records: Vec<RecordKey>,
    /// The record of public peering that the first fragment opened or refreshed.
    pub initiated: Option<InitiatedKey>,
}

/// "a record of (customer, peering, 5-tuple or identifier)"
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiatedKey {
    pub customer: String,
    pub circuit: String,
    pub peering: String,
    pub protocol: u8,
    /// The customer's address and port.
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
}

/// "tunnel | one GRE binding: (port, key, remote) and what it stands for".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelId(String);

impl TunnelId {
    pub fn of(model: &Model, customer: usize, tunnel: usize) -> TunnelId {
        let owner = &model.customers[customer];
        let t = &owner.tunnels[tunnel];
        let to = match t.to {
            TunnelTo::Vnet(v) => format!("vnet {}", owner.vnets[v].name),
            TunnelTo::Internet(v) => format!("internet {}", owner.vnets[v].name),
            TunnelTo::Link { circuit, peering, link } => {
                let c = &owner.circuits[circuit];
                format!("link {}/{}/{}", c.name, c.peerings[peering].name, link.name())
            }
            TunnelTo::Connection(c) => format!("connection {}", owner.connections[c].name),
        };
        let port = &model.ports[t.port].name;
        let nvgre = t.encapsulation == Encapsulation::Nvgre;
        TunnelId(format!("{}: {to} by {port}, {nvgre} {} {:?}", owner.name, t.key, t.remote))
    }
}

/// What a forwarded packet does to the state. "A packet changes state [...] only if it is forwarded".
#[derive(Clone, Debug)]
pub enum Effect {
    Open(RecordKey, Record),
    /// Refreshes a record; the flags are those of a tracked TCP segment.
    Refresh(RecordKey, Direction, Option<u8>),
    Admit(FragmentKey, FirstFragment),
    /// Opens or refreshes a record of public peering.
    Initiate(InitiatedKey),
}

const FIN: u8 = 1;
const RST: u8 = 4;

/// Everything remembered.
#[derive(Default)]
pub struct State {
    records: BTreeMap<RecordKey, Record>,
    fragments: BTreeMap<FragmentKey, FirstFragment>,
    /// When the customer last sent a packet of it.
    initiated: BTreeMap<InitiatedKey, Nanos>,
    received: BTreeMap<(TunnelId, IpAddr), u32>,
    sent: BTreeMap<(TunnelId, IpAddr), u32>,
    icmp_errors: BTreeMap<SenderId, Vec<Nanos>>,
    /// Records opened since the beginning.
    pub opened: u64,
}

/// How long records of this VNet may be idle.
fn idle_timeout(model: &Model, key: &RecordKey) -> Nanos {
    let of =
        |c: &Customer| c.vnets.iter().find(|v| v.name == key.endpoint.vnet).map(|v| v.flow_timeout_minutes);
    let minutes =
        model.customers.iter().find(|c| c.name == key.endpoint.customer).and_then(|c| of(c)).unwrap_or(0);
    Nanos::from(minutes) * 60 * SECOND
}

impl State {
    /// "Idle for longer than `flowTimeoutInMinutes` (4): gone." "an ended record [...] 10 seconds unrefreshed, then it
    /// is gone". Fragments: "for 30 seconds".
    pub fn forget(&mut self, model: &Model, now: Nanos) {
        self.records.retain(|key, record| match record.ended {
            Some(at) => {
                seen_if(now - at >= 10 * SECOND, "flow: ended and gone");
                now - at < 10 * SECOND
            }
            None => {
                let gone = now - record.last > idle_timeout(model, key);
                seen_if(gone, "flow: idle and gone");
                !gone
            }
        });
        self.fragments.retain(|_, first| {
            seen_if(now - first.at >= 30 * SECOND, "fragment: forgotten after 30 seconds");
            now - first.at < 30 * SECOND
        });
        // "idle four minutes", as records of flows: "Idle for longer than [...]: gone."
        self.initiated.retain(|_, last| {
            seen_if(now - *last > 240 * SECOND, "public: record idle and gone");
            now - *last <= 240 * SECOND
        });
    }

    pub fn record(&self, key: &RecordKey) -> Option<&Record> {
        self.records.get(key)
    }

    /// Live records: neither expired nor ended.
    pub fn live(&self) -> usize {
        self.records.values().filter(|r| r.ended.is_none()).count()
    }

    /// True if there is such a record of public peering.
    pub fn is_initiated(&self, key: &InitiatedKey) -> bool {
        self.initiated.contains_key(key)
    }

    pub fn first_fragment(&self, key: &FragmentKey) -> Option<&FirstFragment> {
        self.fragments.get(key)
    }

    /// "`maxFlows` on a VNet or NIC: flow records at most, live or ended less than 10 seconds ago, counted in packet
    /// order (a record that is replaced does not count)". `pending` are the effects of this packet so far.
    pub fn is_full(&self, model: &Model, endpoint: &Endpoint, key: &RecordKey, pending: &[Effect]) -> bool {
        let opening = pending.iter().filter_map(|e| match e {
            Effect::Open(k, _) => Some(k),
            _ => None,
        });
        let mut present: Vec<&RecordKey> = self.records.keys().chain(opening).filter(|k| *k != key).collect();
        present.sort();
        present.dedup();
        let id = &key.endpoint;
        let of_vnet = present
            .iter()
            .filter(|k| k.endpoint.customer == id.customer && k.endpoint.vnet == id.vnet)
            .count();
        let of_endpoint = present.iter().filter(|k| k.endpoint == *id).count();
        let owner = &model.customers[endpoint.customer];
        let full_vnet = of_vnet >= owner.vnets[endpoint.vnet].max_flows as usize;
        let full_nic = endpoint.nic.is_some_and(|n| of_endpoint >= owner.nics[n].max_flows as usize);
        seen_if(full_vnet, "flow: full VNet");
        seen_if(full_nic, "flow: full NIC");
        full_vnet || full_nic
    }

    pub fn apply(&mut self, effects: Vec<Effect>, now: Nanos) {
        for effect in effects {
            match effect {
                Effect::Open(key, record) => {
                    self.records.insert(key, record);
                    self.opened += 1;
                }
                Effect::Refresh(key, direction, flags) => {
                    if let Some(record) = self.records.get_mut(&key) {
                        refresh(record, direction, flags, now);
                    }
                }
                Effect::Admit(key, first) => {
                    self.fragments.insert(key, first);
                }
                Effect::Initiate(key) => {
                    self.initiated.insert(key, now);
                }
            }
        }
    }

    /// "sequence: strict": RFC 2890: the receiver starts with 2^32 - 1, refuses numbers in [last - (2^31 - 1), last],
    /// and moves to any other.
    pub fn sequence_passes(&mut self, tunnel: TunnelId, source: IpAddr, number: u32) -> bool {
        let last = self.received.entry((tunnel, source)).or_insert(u32::MAX);
        let behind = last.wrapping_sub(number);
        seen_if(behind == u32::MAX, "tunnel: sequence passed");
        seen_if(behind != u32::MAX && behind >= 1 << 31, "tunnel: sequence jumped ahead");
        if behind < 1 << 31 {
            return false;
        }
        *last = number;
        true
    }

    /// "per tunnel and remote, from 0, one for each frame sent"
    pub fn next_sequence(&mut self, tunnel: TunnelId, remote: IpAddr) -> u32 {
        let next = self.sent.entry((tunnel, remote)).or_insert(0);
        let number = *next;
        *next = next.wrapping_add(1);
        number
    }

    /// "At most 100 per second of packet time and endpoint (or link, connection, Internet), and none withheld below
    /// that."
    pub fn may_send_icmp_error(&mut self, sender: SenderId, now: Nanos) -> bool {
        let sent = self.icmp_errors.entry(sender).or_default();
        sent.retain(|at| now - at < SECOND);
        if sent.len() >= 100 {
            return false;
        }
        sent.push(now);
        true
    }

    /// What a change of configuration does to records and sequence numbers. Everything that has expired is gone
    /// already. `answer` judges a question at an endpoint of the new configuration.
    pub fn change(
        &mut self,
        old: &Model,
        new: &Model,
        answer: impl Fn(&Endpoint, &Question) -> Option<Answer>,
    ) {
        self.records.retain(|key, record| {
            // "which live on as long as their endpoint exists and still has an NSG"
            let Some(endpoint) = key.endpoint.find(new) else {
                seen("swap: endpoint gone");
                return false;
            };
            let nsgs = rules::nsgs(new, &endpoint, record.opened_by.direction);
            if nsgs.is_empty() {
                seen("swap: endpoint without NSG");
                return false;
            }
            // "Where `flushConnection` is true on an NSG of the endpoint, every live record is judged again"
            if record.ended.is_none() && nsgs.iter().any(|n| n.flush_connection) {
                match answer(&endpoint, &record.opened_by) {
                    Some(Answer::Allowed(rule)) => {
                        let same = rule == record.rule;
                        seen(if same { "swap: flushed, kept" } else { "swap: flushed, under another rule" });
                        record.rule = rule;
                    }
                    _ => {
                        seen("swap: flushed, gone");
                        return false;
                    }
                }
            }
            true
        });
        // "sequence numbers of tunnels that still exist, outlive a change of configuration"
        let mut kept = Vec::new();
        for model in [old, new] {
            let mut ids = Vec::new();
            for (c, customer) in model.customers.iter().enumerate() {
                ids.extend((0..customer.tunnels.len()).map(|t| TunnelId::of(model, c, t)));
            }
            kept.push(ids);
        }
        let exists = |id: &TunnelId| kept[0].contains(id) && kept[1].contains(id);
        self.received.retain(|(id, _), _| exists(id));
        self.sent.retain(|(id, _), _| exists(id));
    }
}

/// "Every packet of either direction refreshes it." "FIN from both sides, or RST, ends it; an ended record carries
/// what still comes, other than SYN, for 10 seconds unrefreshed".
fn refresh(record: &mut Record, direction: Direction, flags: Option<u8>, now: Nanos) {
    if record.ended.is_some() {
        return;
    }
    record.last = now;
    let Some(flags) = flags else { return };
    if flags & FIN != 0 {
        record.fin[direction as usize] = true;
    }
    seen_if(flags & RST != 0, "flow: ended by RST");
    seen_if(flags & RST == 0 && record.fin == [true, true], "flow: ended by FIN");
    if flags & RST != 0 || record.fin == [true, true] {
        record.ended = Some(now);
    }
}
