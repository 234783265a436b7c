//! Flow logs of made-up configurations, read back.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::compile::names::Names;
use crate::compile::{compile, recompile};
use crate::model::{self, Model};
use crate::table::records::{FlowKey, Owner, Phase, Traffic};
use crate::types::SECOND;
use crate::wire::build::{self, Transport};
use crate::wire::tcp_flags;

/// 13 November 2018, 12:01:35 and a little.
const NOW: Nanos = 1_542_110_495_391_831_700;
const HOUR: Nanos = 3600 * SECOND;
/// What the time of packets is behind that on the wall.
const WALL: Nanos = NOW - 1000 * SECOND;

/// The resources of a customer: a NIC with an NSG of its own in a subnet with one, and a subnet without NICs.
fn customer(name: &str, key: u32, ids: bool) -> String {
    let id = |kind: &str, name: &str| match ids {
        true => format!(
            "id: /subscriptions/aaaa0a0a-bb1b-cc2c-dd3d-eeeeee4e4e4e/resourceGroups/fabrikamRG/providers/Microsoft.Network/{kind}/{name}, "
        ),
        false => String::new(),
    };
    let (vnet, nsg) = (id("virtualNetworks", "hub"), id("networkSecurityGroups", "nic-nsg"));
    format!(
        r#"
  - name: {name}
    virtualNetworks:
      - {{{vnet}name: hub, addressSpace: {{addressPrefixes: [10.1.0.0/16]}}, subnets: [
          {{name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: web-nsg}},
          {{name: db, addressPrefix: 10.1.1.0/24, networkSecurityGroup: web-nsg}}]}}
    networkSecurityGroups:
      - name: web-nsg
        securityRules:
          - {{name: DenySsh, priority: 100, direction: Inbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "22"}}
          - {{name: DenyDns, priority: 110, direction: Outbound, access: Deny, protocol: Udp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: AzurePlatformDNS, destinationPortRange: "53"}}
      - {{{nsg}name: nic-nsg, securityRules: [
          {{name: DenySmtp, priority: 100, direction: Outbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "25"}}]}}
    networkInterfaces:
      - {{name: n1, macAddress: 00-0D-3A-F8-78-56, networkSecurityGroup: nic-nsg, ipConfigurations: [{{privateIPAddress: 10.1.0.4, subnet: hub/web}}]}}
    tunnels: [{{vnet: hub, port: fabric, key: {key}}}]
    hosts: [{{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/16]}}]"#
    )
}

fn model(customers: &[String]) -> Model {
    let text = format!(
        "apiVersion: clearway/v1\nports:\n  fabric: {{role: fabric, address: 198.51.100.2, mtu: 1600}}\n  \
         internet: {{role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}}\ncustomers:{}\n",
        customers.concat()
    );
    model::from_bytes("c.yaml", text.as_bytes(), None).unwrap_or_else(|f| panic!("{f:?}\n{text}"))
}

fn program(customers: &[String]) -> Arc<Program> {
    Arc::new(compile(&model(customers), &mut Names::default()))
}

fn contoso() -> Arc<Program> {
    program(&[customer("contoso", 1, false)])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The number of a rule's name.
fn rule(program: &Program, name: &str) -> u32 {
    (0..1000).find(|n| program.names.rule_name(*n) == name).unwrap()
}

const ALLOW_OUT: &str = "DefaultRule_AllowInternetOutBound";
const ALLOW_IN: &str = "DefaultRule_AllowVnetInBound";

/// An event of a flow of the NIC, or of an address without one, with a host far away.
struct Made<'p> {
    program: &'p Program,
    vnet: u32,
    local: &'p str,
    remote: &'p str,
    protocol: u8,
    opened_by: Direction,
    rule: &'p str,
}

impl<'p> Made<'p> {
    fn new(program: &'p Program) -> Made<'p> {
        let (local, remote) = ("10.1.0.4", "203.0.113.115");
        Made { program, vnet: 0, local, remote, protocol: 6, opened_by: Direction::Outbound, rule: ALLOW_OUT }
    }

    fn event(&self, phase: Phase, sent: (u64, u64), received: (u64, u64)) -> FlowEvent {
        let vnet = &self.program.vnets[self.vnet as usize];
        let local = ip(self.local);
        let endpoint = vnet.nic(vnet.place(local).nic).map_or(0, |n| n.party);
        let traffic = |(packets, bytes)| Traffic { packets, bytes };
        FlowEvent {
            key: FlowKey {
                owner: Owner { vnet: self.vnet, endpoint },
                protocol: self.protocol,
                ports: (44931, 443),
                local,
                remote: ip(self.remote),
            },
            rule: rule(self.program, self.rule),
            opened_by: self.opened_by,
            phase,
            at: 884 * SECOND,
            sent: traffic(sent),
            received: traffic(received),
        }
    }

    fn begun(&self) -> FlowEvent {
        self.event(Phase::Begun, (0, 0), (0, 0))
    }
}

/// Both logs below a folder that is removed.
struct Both {
    folder: TempDir,
    writer: Writer,
}

impl Both {
    fn new() -> Both {
        Both::limited(1 << 30)
    }

    fn limited(limit: u64) -> Both {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path(), limit);
        Both { folder, writer }
    }

    fn tell(&mut self, program: &Arc<Program>, events: Vec<FlowEvent>, denied: Vec<DeniedPacket>) {
        self.writer.take(Told { program: program.clone(), wall_clock: WALL, events, denied }, NOW);
    }

    /// Every file's path below the folder, and what is in it.
    fn files(&self) -> Vec<(String, Value)> {
        let read = |path: String| {
            let text = fs::read(self.folder.path().join(&path)).unwrap();
            (path, serde_json::from_slice(&text).unwrap())
        };
        paths(self.folder.path()).into_iter().filter(|p| p.ends_with("PT1H.json")).map(read).collect()
    }

    /// The files of the NSG log, or else of the VNet log.
    fn log(&self, container: &str) -> Vec<(String, Value)> {
        self.files().into_iter().filter(|(path, _)| path.contains(container)).collect()
    }

    fn facts(&self) -> FlowLogFacts {
        self.writer.counted.facts()
    }
}

fn writer(folder: &Path, limit: u64) -> Writer {
    let folder = Some(folder.to_owned());
    let settings = Settings { nsg: folder.clone(), vnet: folder, limit, interval: Duration::from_secs(60) };
    Writer::new(&settings, Arc::default()).unwrap()
}

/// Every file below a folder, sorted.
fn paths(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.retain(|p| !p.ends_with(".lock"));
    found.sort();
    found
}

/// The flow tuples of a document, in order, with the rule of each.
fn tuples(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let all = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    for record in all(&document["records"]) {
        let of_nsg = all(&record["properties"]["flows"]);
        let of_vnet = all(&record["flowRecords"]["flows"]);
        for group in of_nsg.into_iter().chain(of_vnet.iter().flat_map(|f| all(&f["flowGroups"]))) {
            let lists = all(&group["flows"]).iter().map(|f| f["flowTuples"].clone()).collect::<Vec<_>>();
            let lists = if lists.is_empty() { vec![group["flowTuples"].clone()] } else { lists };
            found.extend(lists.iter().flat_map(all).map(|t| (text(&group["rule"]), text(&t))));
        }
    }
    found
}

/// The last field of the only tuples there are in one log.
fn only(log: &[(String, Value)]) -> Vec<String> {
    assert_eq!(log.len(), 1, "{log:#?}");
    tuples(&log[0].1).into_iter().map(|(_, tuple)| tuple).collect()
}

/// A frame of a TCP or UDP packet from a host of the VNet.
fn frame(key: u32, from: (&str, u16), to: (&str, u16), flags: Option<u8>) -> Vec<u8> {
    let transport = match flags {
        Some(flags) => Transport::Tcp { source: from.1, destination: to.1, flags },
        None => Transport::Udp { source: from.1, destination: to.1 },
    };
    let packet = build::ip_packet(ip(from.0), ip(to.0), transport, &[0; 8]).unwrap();
    build::gre_frame(ip("198.51.100.11"), ip("198.51.100.2"), key, None, &packet).unwrap()
}

fn denied(frame: Vec<u8>) -> DeniedPacket {
    DeniedPacket { original: frame.len() as u32, frame, port: 0, at: 942 * SECOND }
}

#[test]
fn tuples_are_those_of_the_documents() {
    let program = contoso();
    let mut both = Both::new();
    let out = Made::new(&program);
    both.tell(
        &program,
        vec![
            out.begun(),
            out.event(Phase::GoesOn, (30, 16978), (24, 14008)),
            out.event(Phase::Ended, (15, 8489), (12, 7054)),
        ],
        vec![],
    );
    both.writer.flush(NOW);
    assert_eq!(
        only(&both.log(NSG)),
        [
            "1542110379,10.1.0.4,203.0.113.115,44931,443,T,O,A,B,,,,",
            "1542110379,10.1.0.4,203.0.113.115,44931,443,T,O,A,C,30,16978,24,14008",
            "1542110379,10.1.0.4,203.0.113.115,44931,443,T,O,A,E,15,8489,12,7054",
        ]
    );
    assert_eq!(
        only(&both.log(VNET)),
        [
            "1542110379391,10.1.0.4,203.0.113.115,44931,443,6,O,B,NX,0,0,0,0",
            "1542110379391,10.1.0.4,203.0.113.115,44931,443,6,O,C,NX,30,16978,24,14008",
            "1542110379391,10.1.0.4,203.0.113.115,44931,443,6,O,E,NX,15,8489,12,7054",
        ]
    );
    let FlowLogFacts { nsg, vnet, missed } = both.facts();
    assert_eq!((nsg.records, nsg.tuples, vnet.records, vnet.tuples, missed), (1, 3, 1, 3, 0));
}

#[test]
fn records_have_the_shape_of_the_documents_and_ids_of_the_configuration() {
    let program = program(&[customer("fabrikam", 1, true)]);
    let mut both = Both::new();
    let incoming = Made { opened_by: Direction::Inbound, rule: ALLOW_IN, ..Made::new(&program) };
    both.tell(&program, vec![incoming.begun()], vec![]);
    both.writer.flush(NOW);
    let nsg = both.log(NSG);
    let id = "/SUBSCRIPTIONS/AAAA0A0A-BB1B-CC2C-DD3D-EEEEEE4E4E4E/RESOURCEGROUPS/FABRIKAMRG/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/NIC-NSG";
    assert_eq!(
        nsg[0].0,
        format!(
            "fabrikam/insights-logs-networksecuritygroupflowevent/resourceId={id}/y=2018/m=11/d=13/h=12/m=00/macAddress=000D3AF87856/PT1H.json"
        )
    );
    let mut document = nsg[0].1.clone();
    let system = document["records"][0]["systemId"].take();
    assert_eq!(system.as_str().map(str::len), Some(36));
    let expected = serde_json::json!({"records": [{
        "time": "2018-11-13T12:01:35.3918317Z", "systemId": null, "category": "NetworkSecurityGroupFlowEvent",
        "resourceId": id, "operationName": "NetworkSecurityGroupFlowEvents",
        "properties": {"Version": 2, "flows": [{"rule": ALLOW_IN, "flows": [{"mac": "000D3AF87856", "flowTuples":
            ["1542110379,203.0.113.115,10.1.0.4,443,44931,T,I,A,B,,,,"]}]}]}}]});
    assert_eq!(document, expected);
    // The order of fields, too.
    assert_eq!(document.to_string(), expected.to_string());

    let vnet = both.log(VNET);
    assert_eq!(
        vnet[0].0,
        "fabrikam/insights-logs-flowlogflowevent/flowLogResourceID=/AAAA0A0A-BB1B-CC2C-DD3D-EEEEEE4E4E4E_NETWORKWATCHERRG/NETWORKWATCHER_CLEARWAY_HUB-FABRIKAMRG-FLOWLOG/y=2018/m=11/d=13/h=12/m=00/macAddress=000D3AF87856/PT1H.json"
    );
    let mut document = vnet[0].1.clone();
    let record = &mut document["records"][0];
    let guids = [record["flowLogGUID"].take(), record["flowRecords"]["flows"][0]["aclID"].take()];
    assert!(guids.iter().all(|g| g.as_str().map(str::len) == Some(36)) && guids[0] != guids[1]);
    let expected = serde_json::json!({"records": [{
        "time": "2018-11-13T12:01:35.3918317Z", "flowLogVersion": 4, "flowLogGUID": null,
        "macAddress": "000D3AF87856", "category": "FlowLogFlowEvent",
        "flowLogResourceID": "/SUBSCRIPTIONS/AAAA0A0A-BB1B-CC2C-DD3D-EEEEEE4E4E4E/RESOURCEGROUPS/NETWORKWATCHERRG/PROVIDERS/MICROSOFT.NETWORK/NETWORKWATCHERS/NETWORKWATCHER_CLEARWAY/FLOWLOGS/HUB-FABRIKAMRG-FLOWLOG",
        "targetResourceID": "/subscriptions/aaaa0a0a-bb1b-cc2c-dd3d-eeeeee4e4e4e/resourceGroups/fabrikamRG/providers/Microsoft.Network/virtualNetworks/hub",
        "operationName": "FlowLogFlowEvent",
        "flowRecords": {"flows": [{"aclID": null, "flowGroups": [{"rule": ALLOW_IN, "flowTuples":
            ["1542110379391,203.0.113.115,10.1.0.4,443,44931,6,I,B,NX,0,0,0,0"]}]}]}}]});
    assert_eq!(document.to_string(), expected.to_string());
}

#[test]
fn counts_of_a_flow_add_up_over_records_and_directions_are_of_who_opened_it() {
    let program = contoso();
    let mut both = Both::new();
    let flow = Made { opened_by: Direction::Inbound, rule: ALLOW_IN, ..Made::new(&program) };
    both.tell(&program, vec![flow.begun()], vec![]);
    both.writer.flush(NOW);
    // Of an inbound flow the source is the one that is not here: what is received goes there.
    both.tell(&program, vec![flow.event(Phase::GoesOn, (8005, 4_610_880), (1021, 588_096))], vec![]);
    both.writer.flush(NOW + 60 * SECOND);
    both.tell(&program, vec![flow.event(Phase::Ended, (47, 27072), (52, 29952))], vec![]);
    both.writer.flush(NOW + 120 * SECOND);
    for (container, first) in [(NSG, 9), (VNET, 9)] {
        let log = both.log(container);
        assert_eq!(log[0].1["records"].as_array().map(Vec::len), Some(3), "one record a minute");
        let mut sums = [0; 4];
        for tuple in only(&log) {
            let fields: Vec<&str> = tuple.split(',').collect();
            let counts: Vec<u64> = fields[first..].iter().map(|f| f.parse().unwrap_or(0)).collect();
            sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        assert_eq!(sums, [1073, 618_048, 8052, 4_637_952], "{container}");
        assert_eq!((sums[0] + sums[2], sums[1] + sums[3]), (9125, 5_256_000));
    }
}

#[test]
fn a_flow_is_told_of_by_the_last_group_that_allows_it() {
    let program = contoso();
    let mut both = Both::new();
    let out = Made::new(&program);
    let incoming = Made { opened_by: Direction::Inbound, rule: ALLOW_IN, ..Made::new(&program) };
    // An address without NIC has its subnet's group only, and a MAC address made of it.
    let address = Made { local: "10.1.1.9", ..Made::new(&program) };
    both.tell(&program, vec![out.begun(), incoming.begun(), address.begun(), out.begun()], vec![]);
    both.writer.flush(NOW);
    let about = |(path, document): &(String, Value)| {
        let id =
            document["records"][0]["resourceId"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let mac = path.split("macAddress=").nth(1).unwrap().split('/').next().unwrap().to_owned();
        (id, mac, tuples(document).len())
    };
    let nsg: Vec<_> = both.log(NSG).iter().map(about).collect();
    let expected =
        [("NIC-NSG", "000D3AF87856", 1), ("WEB-NSG", "000D3AF87856", 2), ("WEB-NSG", "02000A010109", 1)];
    assert_eq!(nsg, expected.map(|(n, m, t)| (n.to_owned(), m.to_owned(), t)));
    // The VNet log has a record for each MAC address, in it a list for each group, in that one for each rule.
    let vnet = both.log(VNET);
    assert_eq!(vnet.len(), 2);
    let flows = &vnet[0].1["records"][0]["flowRecords"]["flows"];
    assert_eq!(flows.as_array().map(Vec::len), Some(2));
    assert_ne!(flows[0]["aclID"], flows[1]["aclID"]);
    let alone = &vnet[1].1["records"][0]["flowRecords"]["flows"];
    assert!(flows.as_array().unwrap().iter().any(|f| f["aclID"] == alone[0]["aclID"]), "one NSG, one id");
}

#[test]
fn the_vnet_log_has_every_protocol_and_the_nsg_log_tcp_and_udp() {
    let program = contoso();
    let mut both = Both::new();
    let flow = |protocol| Made { protocol, ..Made::new(&program) };
    both.tell(&program, [6, 17, 1, 50].map(|p| flow(p).event(Phase::Ended, (1, 60), (1, 60))).into(), vec![]);
    both.writer.flush(NOW);
    let fields = |log: &str, at: &[usize]| -> Vec<String> {
        let one = |t: String| at.iter().map(|n| t.split(',').nth(*n).unwrap()).collect::<Vec<_>>().join(",");
        only(&both.log(log)).into_iter().map(one).collect()
    };
    assert_eq!(fields(NSG, &[3, 4, 5]), ["44931,443,T", "44931,443,U"]);
    assert_eq!(fields(VNET, &[3, 4, 5]), ["44931,443,6", "44931,443,17", "0,0,1", "0,0,50"]);
    assert_eq!((both.facts().nsg.unknown, both.facts().vnet.unknown), (0, 0));
}

#[test]
fn denied_packets_are_told_of_by_who_denied_them() {
    let program = contoso();
    let mut both = Both::new();
    let far = "203.0.113.9";
    let syn = Some(tcp_flags::SYN);
    let web = ("10.1.0.4", 40000);
    let packets = vec![
        // The subnet's group, inbound, of an address without NIC; the sender's groups let it pass.
        denied(frame(1, web, ("10.1.1.9", 22), syn)),
        // The same in the middle of a flow that the sender knows.
        denied(frame(1, web, ("10.1.1.9", 22), Some(tcp_flags::ACK))),
        // The NIC's own group, outbound.
        denied(frame(1, web, (far, 25), syn)),
        // A rule for a platform address.
        denied(frame(1, web, ("168.63.129.16", 53), None)),
        // Nobody denies this.
        denied(frame(1, web, (far, 443), syn)),
        denied(frame(1, web, (far, 443), Some(tcp_flags::ACK))),
        // Nobody can say whose this is.
        denied(frame(77, web, (far, 25), syn)),
    ];
    both.tell(&program, vec![], packets);
    both.writer.flush(NOW);
    let all = |container| -> Vec<_> {
        let about = |(path, document): (String, Value)| {
            let mac = path.split("macAddress=").nth(1).unwrap()[..12].to_owned();
            tuples(&document).into_iter().map(move |(rule, tuple)| format!("{mac} {rule} {tuple}")).collect()
        };
        both.log(container).into_iter().flat_map::<Vec<String>, _>(about).collect()
    };
    assert_eq!(
        all(NSG),
        [
            "000D3AF87856 UserRule_DenySmtp 1542110437,10.1.0.4,203.0.113.9,40000,25,T,O,D,B,,,,",
            "000D3AF87856 UserRule_DenyDns 1542110437,10.1.0.4,168.63.129.16,40000,53,U,O,D,B,,,,",
            "02000A010109 UserRule_DenySsh 1542110437,10.1.0.4,10.1.1.9,40000,22,T,I,D,B,,,,",
            "02000A010109 UserRule_DenySsh 1542110437,10.1.0.4,10.1.1.9,40000,22,T,I,D,B,,,,",
        ]
    );
    let vnet = all(VNET);
    assert_eq!(vnet.len(), 4);
    let one = "UserRule_DenySsh 1542110437391,10.1.0.4,10.1.1.9,40000,22,6,I,D,NX,0,0,0,0";
    assert!(vnet.iter().any(|line| line.ends_with(one)), "{vnet:#?}");
    assert_eq!((both.facts().nsg.unknown, both.facts().vnet.unknown), (3, 3));
}

#[test]
fn customers_with_the_same_names_and_addresses_share_no_file() {
    let names = ["contoso", "fabrikam", "a b", "'../evil'", "'a/b'", "'..'", "späte"];
    let customers: Vec<String> =
        names.iter().zip(1..).map(|(name, key)| customer(name, key, key % 2 == 0)).collect();
    let program = program(&customers);
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("logs");
    let mut both = Both { folder, writer: writer(&inner, 1 << 30) };
    let vnets = 0..names.len() as u32;
    let events = vnets.map(|vnet| {
        let flow = Made { vnet, ..Made::new(&program) };
        flow.event(Phase::Ended, (u64::from(vnet) + 100, 1), (0, 0))
    });
    both.tell(&program, events.collect(), vec![]);
    both.tell(
        &program,
        vec![],
        vec![denied(frame(2, ("10.1.0.4", 1), ("8.8.8.8", 25), Some(tcp_flags::SYN)))],
    );
    both.writer.flush(NOW);
    let files = both.files();
    let mut folders: Vec<&str> = files.iter().map(|(path, _)| path.split('/').nth(1).unwrap()).collect();
    folders.dedup();
    let expected = ["%2E%2E", "..%2Fevil", "a%20b", "a%2Fb", "contoso", "fabrikam", "sp%C3%A4te"];
    assert_eq!(folders, expected);
    for (path, document) in &files {
        assert!(path.starts_with("logs/"), "{path}");
        let of: Vec<String> =
            tuples(document).into_iter().map(|t| t.1).filter(|t| t.contains(",E,")).collect();
        let name = path.split('/').nth(1).unwrap();
        let number = names.iter().position(|n| text::component(n.trim_matches('\'')) == name).unwrap();
        let packets = format!(",{},1,0,0", number + 100);
        let denies = tuples(document).iter().any(|(_, t)| t.contains(",D,"));
        assert!(
            of.iter().all(|t| t.ends_with(&packets)) && !(denies && name != "fabrikam"),
            "{path}: {of:?}"
        );
    }
    assert_eq!(both.facts().nsg.tuples, names.len() as u64 + 1);
}

#[test]
fn what_is_gone_from_the_configuration_is_told_of_as_it_was_and_later_not() {
    let before = model(&[customer("contoso", 1, false), customer("fabrikam", 2, false)]);
    let after = model(&[customer("contoso", 1, false)]);
    let mut names = Names::default();
    let first = Arc::new(compile(&before, &mut names));
    let second = Arc::new(recompile(&first, &before, &after, &mut names));
    let mut both = Both::new();
    let flow = Made { vnet: 1, ..Made::new(&first) };
    both.tell(&first, vec![flow.begun()], vec![]);
    // It ends because its VNet is gone; the worker has the new program by then.
    both.tell(&second, vec![flow.event(Phase::Ended, (2, 120), (1, 60))], vec![]);
    both.writer.flush(NOW);
    let nsg = both.log(NSG);
    assert_eq!((only(&nsg).len(), nsg[0].0.starts_with("fabrikam/")), (2, true));
    both.writer.forget();
    both.writer.forget();
    both.tell(&second, vec![flow.event(Phase::Ended, (2, 120), (1, 60))], vec![]);
    both.writer.flush(NOW);
    assert_eq!(only(&both.log(NSG)).len(), 2);
    assert_eq!((both.facts().nsg.unknown, both.facts().vnet.unknown), (1, 1));
    // A flow whose beginning no log has is told of all the same.
    let other = Made::new(&second);
    both.tell(&second, vec![other.event(Phase::Ended, (1, 1), (1, 1))], vec![]);
    both.writer.flush(NOW);
    assert_eq!(both.facts().nsg.tuples, 3);
}

#[test]
fn files_are_of_the_hour_and_go_on_after_a_start() {
    let program = contoso();
    let mut both = Both::limited(1 << 30);
    let minute = |both: &mut Both, now| {
        both.tell(&program, vec![Made::new(&program).begun()], vec![]);
        both.writer.flush(now);
    };
    // The last second of the year, and the first of the next.
    let midnight = 1_546_300_800 * SECOND;
    for now in [midnight - HOUR, midnight - 60 * SECOND, midnight - 1, midnight, midnight + 23 * HOUR] {
        minute(&mut both, now);
    }
    // Without anything to say nothing is written.
    both.writer.flush(midnight + 48 * HOUR);
    let Both { folder, writer: old } = both;
    drop(old);
    let again = writer(folder.path(), 1 << 30);
    let mut both = Both { folder, writer: again };
    minute(&mut both, midnight + 1);
    let hours: Vec<_> = both
        .log(NSG)
        .iter()
        .map(|(path, document)| {
            let hour = path.split("/y=").nth(1).unwrap().split("/m=00").next().unwrap().to_owned();
            (hour, document["records"].as_array().unwrap().len())
        })
        .collect();
    let expected = [("2018/m=12/d=31/h=23", 3), ("2019/m=01/d=01/h=00", 2), ("2019/m=01/d=01/h=23", 1)];
    assert_eq!(hours, expected.map(|(h, n)| (h.to_owned(), n)));
    assert!(both.facts().nsg.bytes > 3 * 4096);
}

#[test]
fn the_oldest_hours_go_when_the_limit_is_reached() {
    let program = contoso();
    // Each file of one block has a folder: eight kilobytes.
    let mut both = Both::limited(40 << 10);
    let begin = NOW / HOUR * HOUR;
    let names = ["contoso/other.json", "insights-logs-networksecuritygroupflowevent.txt"];
    for hour in 0..9 {
        both.tell(&program, vec![Made::new(&program).begun()], vec![]);
        both.writer.flush(begin + hour * HOUR);
        if hour == 0 {
            names.iter().for_each(|n| fs::write(both.folder.path().join(n), "mine").unwrap());
        }
    }
    let hours = |both: &Both, container| -> Vec<String> {
        let hour = |(path, _): &(String, Value)| path.split("/h=").nth(1).unwrap()[..2].to_owned();
        both.log(container).iter().map(hour).collect()
    };
    assert_eq!(hours(&both, NSG), ["16", "17", "18", "19", "20"]);
    assert_eq!(hours(&both, VNET), ["16", "17", "18", "19", "20"]);
    let nsg = both.facts().nsg;
    assert_eq!((nsg.records, nsg.unwritten, nsg.bytes), (9, 0, 40 << 10));
    assert!(nsg.removed_bytes > 4 * 300);
    // Nothing is left of the hours that went, and what is not ours is.
    assert_eq!(paths(both.folder.path()).len(), 12);
    assert!(names.iter().all(|n| both.folder.path().join(n).exists()));
    let day = both.log(NSG)[0].0.split("/h=").next().unwrap().to_owned();
    assert_eq!(fs::read_dir(both.folder.path().join(day)).unwrap().count(), 5);

    // At a start with a smaller limit, too.
    let Both { folder, writer: old } = both;
    drop(old);
    let again = writer(folder.path(), 20 << 10);
    let mut both = Both { folder, writer: again };
    assert_eq!(hours(&both, NSG), ["19", "20"]);
    assert_eq!(both.facts().nsg.bytes, 16 << 10);

    // Where one hour alone is too large, what comes is lost and counted until the next.
    for _ in 0..200 {
        both.tell(&program, (0..5).map(|_| Made::new(&program).begun()).collect(), vec![]);
        both.writer.flush(begin + 9 * HOUR);
    }
    let nsg = both.facts().nsg;
    assert!(nsg.unwritten > 0 && nsg.bytes <= 20 << 10, "{nsg:?}");
    assert_eq!(nsg.tuples + nsg.unwritten, 1000);
    assert_eq!(hours(&both, NSG), ["21"]);
    both.tell(&program, vec![Made::new(&program).begun()], vec![]);
    both.writer.flush(begin + 10 * HOUR);
    assert_eq!(hours(&both, NSG), ["22"]);
    assert_eq!(both.facts().nsg.unwritten, nsg.unwritten);
}

#[test]
fn files_that_are_cut_are_put_aside() {
    let program = contoso();
    let mut both = Both::new();
    let minute = |both: &mut Both| {
        both.tell(&program, vec![Made::new(&program).begun()], vec![]);
        both.writer.flush(NOW);
    };
    minute(&mut both);
    minute(&mut both);
    let path = both.folder.path().join(&both.log(NSG)[0].0);
    let whole = fs::read(&path).unwrap();
    let mut zeros = whole.clone();
    zeros[100..150].fill(0);
    let mut swapped = whole.clone();
    swapped[..4].copy_from_slice(b"    ");
    let cut = |at: usize| whole[..at].to_vec();
    let list = |text: &[u8]| text.windows(2).position(|w| w == b"\"]").unwrap() + 2;
    // Cut anywhere, also behind a bracket that closes something within; with a page lost; and empty.
    let broken = [cut(whole.len() - 1), cut(list(&whole)), cut(12), zeros, swapped, cut(0), b"{}".to_vec()];
    for (n, bytes) in (1..).zip(&broken) {
        fs::write(&path, bytes).unwrap();
        minute(&mut both);
        let aside = path.with_file_name(format!("PT1H.json.cut{n}"));
        assert_eq!(fs::read(&aside).unwrap(), *bytes, "kept as it was");
        assert_eq!(only(&both.log(NSG)).len(), 1, "begun anew");
    }
    // One that is whole goes on, whoever wrote it.
    fs::write(&path, &whole).unwrap();
    minute(&mut both);
    assert_eq!(only(&both.log(NSG)).len(), 3);
    let nsg = both.facts().nsg;
    assert_eq!((nsg.records, nsg.unwritten), (10, 0));
    // They count, and go with their hour.
    let Both { folder, writer: old } = both;
    drop(old);
    let counted = |limit| writer(folder.path(), limit).counted.facts().nsg.bytes;
    // The empty one takes no block.
    assert_eq!(counted(1 << 30), 8 * 7 * 1024 + 8 * 1024 - 8 * 1024);
    assert_eq!(counted(1000), 0);
    assert_eq!(paths(folder.path()), [""; 0]);
}

#[test]
fn what_cannot_be_written_is_counted_and_the_rest_goes_on() {
    let program = contoso();
    let mut both = Both::new();
    let minute = |both: &mut Both| {
        both.tell(
            &program,
            vec![Made::new(&program).begun(), Made { local: "10.1.1.9", ..Made::new(&program) }.begun()],
            vec![],
        );
        both.writer.flush(NOW);
    };
    minute(&mut both);
    let file = both.folder.path().join(&both.log(NSG)[0].0);
    let mac = file.parent().unwrap().to_owned();
    // A file stands where the folder of one MAC address should be.
    fs::remove_dir_all(&mac).unwrap();
    fs::write(&mac, "").unwrap();
    minute(&mut both);
    minute(&mut both);
    let nsg = both.facts().nsg;
    assert_eq!((nsg.tuples, nsg.unwritten), (4, 2));
    fs::remove_file(&mac).unwrap();
    minute(&mut both);
    assert_eq!((both.facts().nsg.tuples, both.facts().nsg.unwritten), (6, 2));
    assert!(file.exists());

    // The whole folder is gone; nobody makes another in its place, as it may be a file system that is not mounted.
    let gone = both.folder.path().with_extension("gone");
    fs::rename(both.folder.path(), &gone).unwrap();
    minute(&mut both);
    assert!(!both.folder.path().exists());
    assert_eq!((both.facts().nsg.unwritten, both.facts().vnet.unwritten), (4, 2));
    fs::rename(&gone, both.folder.path()).unwrap();
    minute(&mut both);
    let facts = both.facts();
    assert_eq!((facts.nsg.tuples, facts.nsg.unwritten, facts.vnet.unwritten), (8, 4, 2));
    // Nothing was lost of what was there, and what is counted is what there is.
    let written: usize = both.log(VNET).iter().map(|(_, document)| tuples(document).len()).sum();
    assert_eq!(written as u64, facts.vnet.tuples);
    let charged = both.log(VNET).len() as u64 * 8192;
    assert_eq!(facts.vnet.bytes, charged);
}

#[test]
fn what_is_held_is_bounded_and_written_early() {
    let program = contoso();
    let mut both = Both::new();
    let event = Made::new(&program).event(Phase::GoesOn, (123_456, 123_456_789), (123_456, 123_456_789));
    let many = 250_000;
    both.tell(&program, vec![event; many], vec![]);
    let early = both.facts().nsg;
    assert!(early.records >= 1 && early.tuples < many as u64, "{early:?}");
    both.writer.flush(NOW);
    let facts = both.facts();
    assert_eq!((facts.nsg.tuples, facts.vnet.tuples), (many as u64, many as u64));
    assert_eq!(only(&both.log(NSG)).len(), many);
    assert_eq!(only(&both.log(VNET)).len(), many);
}

#[test]
fn a_thread_writes_what_it_was_told_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let program = contoso();
    let settings = |path: &Path| Settings {
        nsg: Some(path.join("nsg")),
        vnet: None,
        limit: 1 << 30,
        interval: Duration::from_secs(3600),
    };
    let told = || Told {
        program: program.clone(),
        wall_clock: now(),
        events: vec![Made::new(&program).begun()],
        denied: vec![],
    };
    let (logs, listener) = FlowLogs::start(settings(folder.path())).unwrap();
    let refused = FlowLogs::start(settings(folder.path())).err().unwrap();
    assert!(refused.ends_with("nsg: another process writes flow logs there"), "{refused}");
    (0..100).for_each(|_| listener.queue.send(told()).unwrap());
    assert!(logs.stop());
    let facts = listener.counted.facts();
    assert_eq!((facts.nsg.tuples, facts.nsg.records, facts.missed, facts.vnet.bytes), (100, 1, 0, 0));
    assert!(listener.queue.send(told()).is_err());

    // When nobody is left to tell anything, it ends by itself.
    let (logs, listener) = FlowLogs::start(settings(folder.path())).unwrap();
    listener.queue.send(told()).unwrap();
    drop(listener);
    let until = Instant::now() + Duration::from_secs(30);
    while !logs.thread.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
    assert!(logs.stop());
    let records =
        paths(folder.path()).into_iter().map(|p| fs::read_to_string(folder.path().join(p)).unwrap());
    assert_eq!(records.map(|text| text.matches("\"time\"").count()).sum::<usize>(), 2);

    // A folder that cannot be written is refused at once.
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = FlowLogs::start(settings(&folder.path().join("file"))).err().unwrap();
    assert!(refused.contains("file/nsg: flow logs cannot be written there: "), "{refused}");
}
