//! What is to be written at the end of an interval: flow tuples, as text, by the file and the rule that they belong to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{self, Tuple, guid};
use crate::compile::security::Group;
use crate::compile::{Program, Vnet};

/// Bytes that are held at most; what is more is written before the interval ends.
const HELD: usize = 16 << 20;
/// What a file or a rule costs beside its text.
const EACH: usize = 256;
/// What stands in ids of Azure for a subscription that the configuration does not say.
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
/// What stands for the region in the name of the network watcher.
const REGION: &str = "CLEARWAY";

/// Whose a flow tuple is.
pub(super) struct Whose<'p> {
    pub program: &'p Program,
    /// The customer's number.
    pub customer: u32,
    pub vnet: &'p Vnet,
    pub mac: [u8; 6],
    /// The NSG that allowed or denied it.
    pub group: &'p Group,
    pub rule: u32,
}

/// Flow tuples of one log.
#[derive(Default)]
pub(super) struct Pending {
    /// By number and MAC address: of the customer and of an NSG in the NSG flow log, of a VNet in the other.
    streams: BTreeMap<(u32, [u8; 6]), Vec<Stream>>,
    held: usize,
}

/// What becomes a record.
pub(super) struct Stream {
    /// The customer's name.
    pub customer: String,
    /// The resource's name.
    name: String,
    /// Its id.
    id: String,
    pub mac: [u8; 6],
    parts: Vec<Part>,
    /// How many tuples it has.
    pub tuples: u64,
}

/// The tuples of one rule.
struct Part {
    group: String,
    /// The id of the group.
    acl: String,
    number: u32,
    rule: String,
    tuples: String,
}

/// The id of a resource: its own, or else one that is made of names.
fn id(own: Option<&str>, customer: &str, kind: &str, name: &str) -> String {
    own.map_or_else(
        || format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{customer}/providers/Microsoft.Network/{kind}/{name}"),
        str::to_owned,
    )
}

fn group_id(group: &Group, customer: &str) -> String {
    id(group.resource.as_deref(), customer, "networkSecurityGroups", &group.name).to_uppercase()
}

impl Pending {
    /// Adds a line of the NSG flow log, of a protocol that it has.
    pub fn add_nsg(&mut self, whose: &Whose<'_>, tuple: &Tuple) {
        let Whose { program, customer, mac, group, .. } = *whose;
        let streams = self.streams.entry((customer, mac)).or_default();
        let stream = find_or(
            streams,
            |s| s.name == group.name,
            || {
                let customer = program.names.customer_name(customer).to_owned();
                let id = group_id(group, &customer);
                Stream { customer, name: group.name.clone(), id, mac, parts: Vec::new(), tuples: 0 }
            },
        );
        self.held += stream.add(whose, |text| tuple.write_nsg(text));
    }

    /// Adds a line of the VNet flow log.
    pub fn add_vnet(&mut self, whose: &Whose<'_>, tuple: &Tuple) {
        let Whose { program, customer, vnet, mac, .. } = *whose;
        let streams = self.streams.entry((vnet.id, mac)).or_default();
        let stream = find_or(
            streams,
            |_| true,
            || {
                let customer = program.names.customer_name(customer).to_owned();
                let name = program.names.vnet_name(vnet.id).to_owned();
                let id = id(vnet.resource.as_deref(), &customer, "virtualNetworks", &name);
                Stream { customer, name, id, mac, parts: Vec::new(), tuples: 0 }
            },
        );
        self.held += stream.add(whose, |text| tuple.write_vnet(text));
    }

    /// True if there is more than is to be held.
    pub fn is_full(&self) -> bool {
        self.held >= HELD
    }

    /// Everything, and nothing is left.
    pub fn take(&mut self) -> impl Iterator<Item = Stream> + use<> {
        self.held = 0;
        std::mem::take(&mut self.streams).into_values().flatten()
    }
}

/// The item that is sought, or another one behind all.
fn find_or<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let at = items.iter().position(is_it).unwrap_or_else(|| {
        items.push(make());
        items.len() - 1
    });
    &mut items[at]
}

/// Text as JSON writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What is said of each item, with commas between.
fn list<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(one).collect();
    items.join(",")
}

impl Stream {
    /// Adds a line; how many bytes that takes.
    fn add(&mut self, whose: &Whose<'_>, write: impl FnOnce(&mut String)) -> usize {
        let Whose { program, group, rule: number, .. } = *whose;
        let mut more = 0;
        if self.tuples == 0 {
            more += EACH + self.customer.len() + self.name.len() + self.id.len();
        }
        self.tuples += 1;
        let customer = &self.customer;
        let part = find_or(
            &mut self.parts,
            |p| p.number == number && p.group == group.name,
            || {
                let acl = guid(&group_id(group, customer));
                let (group, rule) = (group.name.clone(), program.names.rule_name(number).to_owned());
                more += EACH + group.len() + rule.len() + acl.len();
                Part { group, acl, number, rule, tuples: String::new() }
            },
        );
        let before = part.tuples.len();
        if before > 0 {
            part.tuples.push(',');
        }
        write(&mut part.tuples);
        more + part.tuples.len() - before
    }

    /// The folders of the resource in the NSG flow log.
    pub fn nsg_path(&self) -> String {
        format!("resourceId=/{}", text::components(&self.id))
    }

    /// The record of the NSG flow log, of this time.
    pub fn nsg_record(&self, time: &str) -> String {
        let mac = text::mac(self.mac);
        let rules = list(&self.parts, |Part { rule, tuples, .. }| {
            let rule = quoted(rule);
            format!(r#"{{"rule":{rule},"flows":[{{"mac":"{mac}","flowTuples":[{tuples}]}}]}}"#)
        });
        let (system, id) = (guid(&self.id), quoted(&self.id));
        format!(
            r#"{{"time":"{time}","systemId":"{system}","category":"NetworkSecurityGroupFlowEvent","resourceId":{id},"operationName":"NetworkSecurityGroupFlowEvents","properties":{{"Version":2,"flows":[{rules}]}}}}"#
        )
    }

    /// The subscription of the VNet, and the name of its flow log.
    fn flow_log(&self) -> (String, String) {
        let parts: Vec<&str> = self.id.split('/').collect();
        let part = |n: usize| parts.get(n).copied().unwrap_or_default();
        let name = format!("{}-{}-FLOWLOG", self.name, part(4));
        (part(2).to_uppercase(), name.to_uppercase())
    }

    /// The folders of the resource in the VNet flow log.
    pub fn vnet_path(&self) -> String {
        let (subscription, name) = self.flow_log();
        let watcher = text::component(&format!("{subscription}_NETWORKWATCHERRG"));
        let log = text::component(&format!("NETWORKWATCHER_{REGION}_{name}"));
        format!("flowLogResourceID=/{watcher}/{log}")
    }

    /// The record of the VNet flow log, of this time.
    pub fn vnet_record(&self, time: &str) -> String {
        let mac = text::mac(self.mac);
        let (subscription, name) = self.flow_log();
        let log = format!(
            "/SUBSCRIPTIONS/{subscription}/RESOURCEGROUPS/NETWORKWATCHERRG/PROVIDERS/MICROSOFT.NETWORK/NETWORKWATCHERS/NETWORKWATCHER_{REGION}/FLOWLOGS/{name}"
        );
        let mut groups: Vec<&str> = self.parts.iter().map(|p| p.acl.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        let flows = list(&groups, |acl| {
            let of: Vec<&Part> = self.parts.iter().filter(|p| p.acl == *acl).collect();
            let rules = list(&of, |Part { rule, tuples, .. }| {
                format!(r#"{{"rule":{},"flowTuples":[{tuples}]}}"#, quoted(rule))
            });
            format!(r#"{{"aclID":"{acl}","flowGroups":[{rules}]}}"#)
        });
        let (guid, log, id) = (guid(&log), quoted(&log), quoted(&self.id));
        format!(
            r#"{{"time":"{time}","flowLogVersion":4,"flowLogGUID":"{guid}","macAddress":"{mac}","category":"FlowLogFlowEvent","flowLogResourceID":{log},"targetResourceID":{id},"operationName":"FlowLogFlowEvent","flowRecords":{{"flows":[{flows}]}}}}"#
        )
    }
}
