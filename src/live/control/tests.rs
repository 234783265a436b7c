//! The control socket, asked by its own client and by others.

use std::io::{BufRead, BufReader};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::live::fake::{self, Fake};
use crate::model;

struct Served {
    control: Control,
    handle: Arc<Fake>,
    folder: tempfile::TempDir,
}

fn served(fake: Fake) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let handle = Arc::new(fake);
    let control = serve(&folder.path().join("run/clearway.sock"), handle.clone()).unwrap();
    Served { control, handle, folder }
}

impl Served {
    fn ask(&self, request: &Request) -> Reply {
        ask(self.control.path(), request).unwrap()
    }

    /// The lines that come back for these bytes.
    fn raw(&self, bytes: &[u8]) -> Vec<String> {
        let mut stream = UnixStream::connect(self.control.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        BufReader::new(stream).lines().map(Result::unwrap).collect()
    }
}

fn flows(limit: usize) -> Request {
    Request::Flows { customer: None, vnet: None, address: None, limit }
}

#[test]
fn every_request_has_its_reply() {
    let served = served(Fake::busy());
    let Reply::Counters(counters) = served.ask(&Request::Counters) else { panic!() };
    assert_eq!(*counters, Counters::of(&served.handle.snapshot, true));
    let Reply::Flows(all) = served.ask(&flows(3)) else { panic!() };
    assert_eq!((all.flows.len(), all.more, all.flows[1].ended), (3, false, true));
    let Reply::Flows(some) = served.ask(&flows(2)) else { panic!() };
    assert_eq!((some.flows.len(), some.more), (2, true));
    let Reply::Flows(huge) = served.ask(&flows(usize::MAX)) else { panic!() };
    assert_eq!((huge.flows.len(), huge.more), (3, false));
    assert!(all.complete);
    let of = |customer: &str, vnet: Option<&str>| {
        let (customer, vnet) = (Some(customer.to_owned()), vnet.map(str::to_owned));
        ask(served.control.path(), &Request::Flows { customer, vnet, address: None, limit: 9 })
    };
    assert_eq!(of("Contoso", Some("HUB")), Ok(Reply::Flows(all)));
    let sentence = of("contosi", None).unwrap_err();
    assert!(sentence.ends_with("there is no such customer here; did you mean 'contoso'?"), "{sentence}");
    assert!(of("contoso", Some("spoke")).unwrap_err().contains("VNet 'spoke': there is no such VNet here"));
    let Reply::Reload(done) = served.ask(&Request::Reload) else { panic!() };
    assert_eq!((done.accepted, done.generation, done.warnings), (true, Some(4), Some(1)));
    assert_eq!(served.handle.reloads.load(Ordering::Relaxed), 1);
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
    assert_eq!(served.ask(&Request::Meters), Reply::Meters(served.handle.snapshot.meters.clone()));
}

fn circuits(customer: Option<&str>, circuit: Option<&str>) -> Request {
    Request::Circuits { customer: customer.map(str::to_owned), circuit: circuit.map(str::to_owned) }
}

#[test]
fn links_come_in_their_order_and_of_whom_they_are_wanted() {
    let served = served(Fake::busy());
    let Reply::Circuits(all) = served.ask(&circuits(None, None)) else { panic!() };
    assert_eq!(all, Circuits::of(&fake::links(), served.handle.snapshot.uptime));
    let names: Vec<_> = all.links.iter().map(|l| (l.customer.as_str(), l.link.as_str())).collect();
    assert_eq!(names, [("contoso", "primary"), ("contoso", "secondary"), ("fabrikam", "primary")]);
    let Reply::Circuits(some) = served.ask(&circuits(Some("Fabrikam"), Some("ER1"))) else { panic!() };
    assert_eq!(some.links, all.links[2..]);
    let of = |customer, circuit| ask(served.control.path(), &circuits(customer, circuit)).unwrap_err();
    let sentence = of(Some("contosi"), None);
    assert!(sentence.ends_with("there is no such customer here; did you mean 'contoso'?"), "{sentence}");
    let sentence = of(None, Some("er2"));
    assert!(sentence.contains("circuit 'er2': there is no such circuit here"), "{sentence}");
    let line = served.raw(b"{\"command\": \"circuits\", \"customer\": \"contoso\"}\n").remove(0);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let link = &value["circuits"]["links"][0];
    assert_eq!((&link["up"], &link["bandwidthInMbps"]), (&true.into(), &1000.into()));
    assert_eq!(link["in"], serde_json::json!({"packets": 11, "bytes": 1100, "overRate": 4821}));
    assert_eq!(link["device"], serde_json::json!({"namespace": "clearway-contoso", "name": "er1-p"}));
    let session = &link["bgp"][0];
    assert_eq!((&session["family"], &session["peerAddress"]), (&"ipv4".into(), &"192.0.2.1".into()));
    assert_eq!((&session["received"], &session["limit"]), (&3.into(), &4000.into()));
    assert_eq!((&session["state"], &session["holdTimeSeconds"]), (&"Established".into(), &180.into()));
    assert_eq!(link["bfd"][1]["heard"], false);
    let link = &value["circuits"]["links"][1];
    assert_eq!((&link["downBecause"], &link["up"]), (&"BFD is down since 3 s".into(), &false.into()));
    assert!(link["device"].is_null() && link["noDeviceBecause"].is_string(), "{link}");
}

#[test]
fn customers_and_circuits_without_links_are_no_strangers() {
    let network = "\
apiVersion: clearway/v1
ports: {e: {role: edge, address: 198.51.100.2}}
customers:
  - {name: northwind, expressRouteCircuits: [{name: er7, peerings: [{name: AzurePrivatePeering}]}]}
";
    let model = model::from_bytes("config.yaml", network.as_bytes(), None).unwrap();
    let served = served(Fake { model, ..Fake::busy() });
    for wanted in [circuits(Some("Northwind"), None), circuits(None, Some("er7"))] {
        let Reply::Circuits(none) = served.ask(&wanted) else { panic!() };
        assert!(none.links.is_empty());
    }
}

fn bgp(peering: Option<&str>, which: Option<Which>, prefix: Option<&str>) -> BgpRequest {
    BgpRequest {
        customer: "contoso".to_owned(),
        circuit: "er1".to_owned(),
        peering: peering.map(str::to_owned),
        link: None,
        which,
        prefix: prefix.map(str::to_owned),
    }
}

#[test]
fn routes_of_sessions_are_those_that_were_asked_for() {
    let served = served(Fake::busy());
    let told = |request: BgpRequest| match served.ask(&Request::Bgp(request)) {
        Reply::Bgp(routes) => routes,
        _ => panic!(),
    };
    let prefixes = |routes: &Option<Vec<crate::live::report::BgpRoute>>| -> Vec<String> {
        routes.iter().flatten().map(|r| r.prefix.clone()).collect()
    };
    // The session of the other link does not answer.
    let all = told(bgp(None, None, None));
    assert_eq!((all.sessions.len(), all.complete), (2, false));
    assert_eq!((all.sessions[0].family.as_str(), all.sessions[1].family.as_str()), ("ipv4", "ipv6"));
    let both = &all.sessions[0];
    assert_eq!(prefixes(&both.received), ["0.0.0.0/0", "10.20.0.0/16", "10.30.0.0/16", "127.0.0.0/8"]);
    assert_eq!(prefixes(&both.advertised), ["10.1.0.0/16", "13.107.6.0/24"]);
    assert_eq!(both.advertised.as_ref().unwrap()[1].communities, ["12076:5010"]);
    let primary = |request: BgpRequest| told(BgpRequest { link: Some("Primary".to_owned()), ..request });
    let refused = primary(bgp(Some("private"), Some(Which::Refused), None));
    assert!(refused.complete && refused.sessions[0].advertised.is_none());
    assert_eq!(prefixes(&refused.sessions[0].received), ["127.0.0.0/8"]);
    let advertised = primary(bgp(Some("azureprivatepeering"), Some(Which::Advertised), None));
    assert!(advertised.sessions[0].received.is_none());
    for (prefix, expected) in [
        ("10.20.3.4", &["0.0.0.0/0", "10.20.0.0/16"][..]),
        ("10.0.0.0/8", &["0.0.0.0/0", "10.20.0.0/16", "10.30.0.0/16"]),
        ("2001:db8::/32", &[]),
    ] {
        let some = primary(bgp(None, Some(Which::Received), Some(prefix)));
        assert_eq!(prefixes(&some.sessions[0].received), expected, "{prefix}");
    }
    for (request, sentence) in [
        (BgpRequest { customer: "contosi".to_owned(), ..bgp(None, None, None) }, "did you mean 'contoso'?"),
        (BgpRequest { circuit: "er2".to_owned(), ..bgp(None, None, None) }, "there is no such circuit here"),
        (bgp(Some("microsoft"), None, None), "circuit 'er1' has no link of such a peering"),
        (BgpRequest { link: Some("third".to_owned()), ..bgp(None, None, None) }, "primary and secondary"),
        (bgp(None, None, Some("10.20.3.4/16")), "10.20.0.0/16 would be right"),
    ] {
        let refusal = ask(served.control.path(), &Request::Bgp(request)).unwrap_err();
        assert!(refusal.contains(sentence), "{refusal}");
    }
    let line =
        b"{\"command\": \"bgp\", \"customer\": \"contoso\", \"circuit\": \"er1\", \"which\": \"refused\"}\n";
    let reply = served.raw(line).remove(0);
    let value: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(
        value["bgp"]["sessions"][0]["received"][0],
        serde_json::json!({
            "prefix": "127.0.0.0/8", "asPath": [65010], "communities": [], "nextHop": "192.0.2.1",
            "stale": false, "refused": "it is multicast, loopback, link-local or reserved"
        })
    );
    assert!(value["bgp"]["sessions"][0].get("advertised").is_none());
}

#[test]
fn a_list_that_lacks_a_worker_says_so() {
    let served = served(Fake { complete: false, ..Fake::busy() });
    let Reply::Flows(some) = served.ask(&flows(9)) else { panic!() };
    assert_eq!((some.flows.len(), some.more, some.complete), (3, false, false));
}

#[test]
fn who_does_not_answer_is_not_waited_for_longer_than_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let sentence = ask_within(&silent, &Request::Counters, Duration::from_secs(1)).unwrap_err();
    assert!(sentence.ends_with("silent.sock does not answer within 1 s"), "{sentence}");
}

#[test]
fn a_refused_reload_says_why() {
    let served = served(Fake { refusal: vec!["a\nb".into(), "c".into()], ..Fake::default() });
    let Reply::Reload(refused) = served.ask(&Request::Reload) else { panic!() };
    assert!(!refused.accepted && refused.generation.is_none());
    assert_eq!(refused.refused, ["a\nb", "c"]);
}

#[test]
fn lines_are_answered_one_by_one_whatever_they_are() {
    let served = served(Fake::busy());
    let lines = served.raw(
        b"{\"command\": \"ready\"}\n{\"command\":\"stop\"}\n\xff\xfe\n\n{\"command\":\"flows\",\"vnett\":\"x\"}\n\
          {\"command\":\"flows\",\"address\":\"10.1.0.4\"}\n{\"command\":\"ready\"}\n{\"command\":\"re",
    );
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[0], "{\"ready\": true}");
    assert_eq!(lines[6], lines[0]);
    for line in &lines[1..5] {
        assert!(line.starts_with("{\"error\": \"this is no request: "), "{line}");
    }
    assert!(lines[5].contains("\"localAddress\": \"10.1.0.4\", \"localPort\": 50000"), "{}", lines[5]);
}

#[test]
fn a_line_without_end_is_refused() {
    let served = served(Fake::default());
    let lines = served.raw(&vec![b'['; 4 << 20]);
    assert!(lines.is_empty() || lines[0].contains("16384 bytes at most"), "{lines:?}");
    // Nested as deep as a line allows.
    let mut deep = vec![b'['; REQUEST - 1];
    deep.push(b'\n');
    assert!(served.raw(&deep)[0].starts_with("{\"error\": "));
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
}

#[test]
fn those_who_say_nothing_are_hung_up_on() {
    let served = served(Fake::default());
    let silent: Vec<_> =
        (0..CONNECTIONS).map(|_| UnixStream::connect(served.control.path()).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn the_socket_is_its_owners_and_goes_with_it() {
    let Served { control, folder, .. } = served(Fake::default());
    let path = control.path().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&folder.path().join("run"))), (0o600, 0o700));
    let began = Instant::now();
    drop(control);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(fs::read_dir(folder.path().join("run")).unwrap().count(), 0);
    let sentence = ask(&path, &Request::Ready).unwrap_err();
    assert!(sentence.starts_with("no clearway is running here: nothing listens at "), "{sentence}");
    assert!(sentence.ends_with("; start one with `clearway run CONFIG`"), "{sentence}");
}

#[test]
fn who_keeps_asking_does_not_keep_the_socket() {
    let Served { control, folder: _folder, .. } = served(Fake::default());
    let mut stream = UnixStream::connect(control.path()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let (begun, has_begun) = std::sync::mpsc::channel();
    let asker = thread::spawn(move || {
        let mut reply = String::new();
        let mut asked = 0_u64;
        while stream.write_all(b"{\"command\":\"ready\"}\n").is_ok()
            && matches!(replies.read_line(&mut reply), Ok(n) if n > 0)
        {
            asked += 1;
            let _ = begun.send(());
            reply.clear();
        }
        asked
    });
    has_begun.recv().unwrap();
    // Another says nothing at all, for longer than anybody waits for him.
    let silent = UnixStream::connect(control.path()).unwrap();
    let began = Instant::now();
    drop(control);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    // He hears no more, after the request that was being answered.
    assert!(asker.join().unwrap() > 0);
    drop(silent);
}

#[test]
fn a_living_socket_is_refused_and_a_dead_one_replaced() {
    let Served { control, folder, .. } = served(Fake::default());
    let path = control.path().to_owned();
    let refused = serve(&path, Arc::new(Fake::default())).err().unwrap();
    assert!(refused.starts_with("another clearway runs here: it listens at "), "{refused}");
    assert_eq!(ask(&path, &Request::Ready), Ok(Reply::Ready(true)));
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let second = serve(&dead, Arc::new(Fake::default())).unwrap();
    assert_eq!(ask(&dead, &Request::Ready), Ok(Reply::Ready(true)));
    // Another's in its place stays.
    fs::remove_file(&dead).unwrap();
    fs::write(&dead, "mine").unwrap();
    drop(second);
    assert_eq!(fs::read_to_string(&dead).unwrap(), "mine");
    let refused = serve(&dead, Arc::new(Fake::default())).err().unwrap();
    assert!(refused.contains("is there and is no socket"), "{refused}");
}

#[test]
fn of_two_that_start_at_once_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.sock");
    drop(UnixListener::bind(&path).unwrap());
    let start = || {
        thread::spawn({
            let path = path.clone();
            move || serve(&path, Arc::new(Fake::default()))
        })
    };
    let threads: Vec<_> = (0..4).map(|_| start()).collect();
    let running: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(running.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(ask(&path, &Request::Ready), Ok(Reply::Ready(true)));
}

#[test]
fn what_cannot_be_is_a_sentence() {
    let long = PathBuf::from(format!("/tmp/{}", "a".repeat(200)));
    let sentence = serve(&long, Arc::new(Fake::default())).err().unwrap();
    assert!(sentence.contains("cannot be made"), "{sentence}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let sentence = serve(&file.join("c.sock"), Arc::new(Fake::default())).err().unwrap();
    assert!(sentence.contains("has no folder"), "{sentence}");
    assert!(ask(&file, &Request::Ready).unwrap_err().starts_with("no clearway is running here"));
    // Something else that listens.
    let strange = folder.path().join("strange.sock");
    let listener = UnixListener::bind(&strange).unwrap();
    let stranger = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(b"hello\n").unwrap();
    });
    assert!(ask(&strange, &Request::Ready).unwrap_err().contains("is no clearway of version"));
    stranger.join().unwrap();
}

#[test]
fn top_flows_are_those_of_a_sample_and_take_no_longer_than_was_said() {
    let served = served(Fake { packets: 7, ..Fake::busy() });
    let Reply::TopFlows(told) = served.ask(&Request::TopFlows { seconds: 0.1 }) else { panic!() };
    // Frames of a byte are of no flow.
    assert_eq!((told.packets, told.sampled, told.flows.len()), (7, 7, 0));
    assert!(told.seconds >= 0.1);
    for seconds in ["0", "-1", "11", "1e999"] {
        let line = format!("{{\"command\": \"topflows\", \"seconds\": {seconds}}}\n");
        let said = served.raw(line.as_bytes()).remove(0);
        assert!(said.starts_with("{\"error\": "), "{said}");
    }
    let tap = served.handle.taps.lock().unwrap()[0].clone();
    assert!(tap.is_over(Instant::now()));
}

/// What a capture says, to its end.
fn captured(served: &Served, request: CaptureRequest) -> (CaptureBegun, Vec<CapturedPacket>, CaptureCounts) {
    let mut conversation = Conversation::begin(served.control.path(), &Request::Capture(request)).unwrap();
    let Ok(Reply::Capture(begun)) = conversation.hear() else { panic!() };
    let mut packets = Vec::new();
    loop {
        match conversation.hear().unwrap() {
            Reply::Packet(packet) => packets.push(*packet),
            Reply::Capturing(_) => {}
            Reply::Captured(counts) => return (begun, packets, counts),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_capture_has_its_packets_with_their_verdicts_and_then_its_counts() {
    let served = served(Fake { packets: 7, ..Fake::busy() });
    let wanted = CaptureRequest { verdict: Some("forward".into()), count: Some(3), ..Default::default() };
    let (begun, packets, counts) = captured(&served, wanted);
    assert_eq!(begun.ports[0], served.handle.snapshot.ports[0].name);
    assert_eq!(counts, CaptureCounts { captured: 3, missed: 0 });
    assert_eq!(packets.iter().map(|p| p.frame.clone()).collect::<Vec<_>>(), [[0], [3], [6]]);
    assert_eq!((packets[2].time, packets[2].length), (6, 60));
    let line = "{\"packet\": 3, \"time\": \"0.000000006\", \"port\": \"\", \"customer\": null, \"vnet\": null, \
                \"verdict\": \"forward\", \"reason\": null, ";
    assert!(packets[2].verdict.starts_with(line), "{}", packets[2].verdict);
    // By time, and with a reason in letters of any case.
    let wanted = CaptureRequest { reason: Some("NSG-deny".into()), seconds: Some(0.2), ..Default::default() };
    let (_, packets, counts) = captured(&served, wanted);
    assert_eq!((packets.len(), counts.captured), (4, 4));
    assert!(packets[3].verdict.contains("\"packet\": 4, ") && packets[3].verdict.contains("nsg-deny"));
}

#[test]
fn what_there_is_not_cannot_be_captured() {
    let served = served(Fake::busy());
    let refused =
        |line: &str| served.raw(format!("{{\"command\": \"capture\", {line}}}\n").as_bytes()).remove(0);
    for (line, sentence) in [
        ("\"reason\": \"nsg-denied\"", "there is no such reason here; did you mean 'nsg-deny'?"),
        ("\"customer\": \"nobody\"", "customer 'nobody': there is no such customer here"),
        ("\"vnet\": \"nowhere\"", "VNet 'nowhere': there is no such VNet here"),
        ("\"port\": \"none\"", "port 'none': there is no such port here"),
        ("\"verdict\": \"dorp\"", "did you mean 'drop'?"),
        ("\"seconds\": -1", "this is no time that can be waited for"),
        ("\"adress\": \"10.0.0.1\"", "this is no request: unknown field `adress`"),
    ] {
        let said = refused(line);
        assert!(said.starts_with("{\"error\": ") && said.contains(sentence), "{line}: {said}");
    }
    assert!(served.handle.taps.lock().unwrap().is_empty());
}

#[test]
fn a_capture_ends_with_who_wants_it_and_leaves_room_for_others() {
    let served = served(Fake::busy());
    let begin = || Conversation::begin(served.control.path(), &Request::Capture(CaptureRequest::default()));
    // One after the other, so that the second tap is the second's.
    let mut both = [(); 2].map(|()| {
        let mut one = begin().unwrap();
        assert!(matches!(one.hear(), Ok(Reply::Capture(_))));
        one
    });
    let third = begin().unwrap().hear().unwrap_err();
    assert!(third.ends_with(": 2 captures go on already; end one of them first"), "{third}");
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
    // What comes later comes, too; and how far it is.
    let tap = served.handle.taps.lock().unwrap()[1].clone();
    fake::offer(&tap, &fake::program(), 9);
    let mut next = both[1].hear();
    while matches!(next, Ok(Reply::Capturing(CaptureCounts { captured: 0, .. }))) {
        next = both[1].hear();
    }
    assert!(matches!(next, Ok(Reply::Packet(p)) if p.frame == [9]));
    let counts = CaptureCounts { captured: 1, missed: 0 };
    assert_eq!(both[1].hear(), Ok(Reply::Capturing(counts)));
    let [first, mut second] = both;
    drop(first);
    let left = served.handle.taps.lock().unwrap()[0].clone();
    let until = Instant::now() + Duration::from_secs(10);
    while !left.is_over(Instant::now()) {
        assert!(Instant::now() < until, "nobody has seen that it hung up");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!tap.is_over(Instant::now()));
    // With the appliance they end, too, and say so.
    let Served { control, folder: _folder, .. } = served;
    let began = Instant::now();
    drop(control);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let last = std::iter::from_fn(|| second.hear().ok()).last();
    assert_eq!(last, Some(Reply::Captured(counts)));
}

#[test]
fn who_ends_a_conversation_has_what_came_until_then() {
    let served = served(Fake { packets: 2, ..Fake::busy() });
    let request = Request::Capture(CaptureRequest::default());
    let mut conversation = Conversation::begin(served.control.path(), &request).unwrap();
    assert!(matches!(conversation.hear(), Ok(Reply::Capture(_))));
    assert!(matches!(conversation.hear(), Ok(Reply::Packet(_))));
    conversation.ender().unwrap()();
    assert!(matches!(conversation.hear(), Ok(Reply::Packet(_))));
    let sentence = conversation.hear().unwrap_err();
    assert!(sentence.ends_with("hung up without an answer"), "{sentence}");
}

/// A hub whose rules let everything out but mail.
const NETWORK: &str = r#"
apiVersion: clearway/v1
ports:
  fabric: {role: fabric, address: 198.51.100.2}
  internet: {role: internet, address: 203.0.113.2, nextHop: 203.0.113.1}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {addressPrefixes: [10.1.0.0/16]}
        subnets: [{name: web, addressPrefix: 10.1.0.0/24, networkSecurityGroup: nsg}]
    networkSecurityGroups:
      - name: nsg
        securityRules:
          - {name: DenySmtp, priority: 100, direction: Outbound, access: Deny, protocol: Tcp,
             sourceAddressPrefix: "*", sourcePortRange: "*", destinationAddressPrefix: "*", destinationPortRange: "25"}
    tunnels: [{vnet: hub, port: fabric, key: 0xa01}]
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}]
"#;

#[test]
fn a_packet_is_explained_by_the_configuration_in_force_and_the_flows_that_are_held() {
    let model = model::from_bytes("net.yaml", NETWORK.as_bytes(), None).unwrap();
    let served = served(Fake { model, ..Fake::busy() });
    let request = |from: &str, to: &str| Request::Explain {
        question: Asked {
            customer: "Contoso".to_owned(),
            vnet: "hub".to_owned(),
            protocol: 6,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            entry: Default::default(),
        },
        color: false,
    };
    let explain = |from: &str, to: &str| match served.ask(&request(from, to)) {
        Reply::Explain(explained) => *explained,
        other => panic!("{other:?}"),
    };
    // Of a flow that is held, and of the answer to it.
    let live = explain("10.1.0.4:50000", "93.184.216.34:443");
    assert!(live.forwarded && live.text.starts_with("FORWARD  tcp 10.1.0.4:50000 -> "), "{}", live.text);
    let generation = served.handle.snapshot.generation;
    let end = format!(
        "\nin the running appliance (generation {generation}):\n\
         \x20 a flow record is live at 10.1.0.4 in VNet hub: opened outbound by DefaultRule_AllowInternetOutBound, \
         idle 1.5 s\n\
         \x20 new packets of the flow follow it: its endpoint does not ask the rules again\n"
    );
    assert!(live.text.ends_with(&end), "{}", live.text);
    assert_eq!(live.document["generation"], generation);
    assert_eq!(live.document["liveFlows"][0]["localPort"], 50000);
    assert_eq!(live.document["liveFlows"].as_array().unwrap().len(), 1);
    assert_eq!((&live.document["verdict"], &live.document["symmetric"]), (&"forward".into(), &true.into()));
    let back = explain("93.184.216.34:443", "10.1.0.4:50000");
    assert_eq!(back.document["liveFlows"], live.document["liveFlows"]);
    // Of one that has ended.
    let ended = explain("10.1.0.4:50001", "93.184.216.34:443");
    assert!(
        ended.text.contains("  a flow record has ended at 10.1.0.4 ")
            && ended.text.contains("a SYN is judged anew")
    );
    assert!(!ended.text.contains("follow it"), "{}", ended.text);
    // Of none: what a new packet meets, and what becomes of one from the middle of a connection.
    let none = explain("10.1.0.4:50000", "93.184.216.34:25");
    assert!(!none.forwarded && none.document["rule"] == "UserRule_DenySmtp", "{}", none.document);
    assert_eq!(none.document["liveFlows"], serde_json::json!([]));
    assert!(
        none.text.contains("  no flow record is live: a new packet is judged as above\n"),
        "{}",
        none.text
    );
    assert!(
        none.text.contains("only a SYN opens a flow") && none.text.contains("tcp-no-flow"),
        "{}",
        none.text
    );
    // What there is not.
    let Request::Explain { mut question, .. } = request("10.1.0.4:1", "10.1.0.5:2") else { panic!() };
    question.vnet = "hup".to_owned();
    let refused = ask(served.control.path(), &Request::Explain { question, color: false }).unwrap_err();
    assert!(
        refused.contains("VNet 'hup': there is no such VNet of customer 'contoso'; did you mean 'hub'?"),
        "{refused}"
    );
}
