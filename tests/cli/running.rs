//! `counters`, `flows`, `circuits`, `bgp`, `capture`, `reload` and `top`, asked of an appliance that does nothing; the package and its pages.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clearway::bgp::{self, Family};
use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::dataplane::{Meter, MeterReading};
use clearway::io::Capture;
use clearway::live::capture::{self, CaptureWanted, Capturing, Offered};
use clearway::live::circuits::spec::LinkKey;
use clearway::live::circuits::status::{BgpStatus, LinkStatus, RouteStatus, SessionRoutes};
use clearway::live::control::{self, Control};
use clearway::live::count::{Counts, PortCounts, VnetCounts};
use clearway::live::handle::{FlowFacts, FlowsFound, FlowsWanted, Handle, PortFacts, Reloaded, Snapshot};
use clearway::model::{self, Link, Model, PeeringKind};
use clearway::observe::meters::meters;
use clearway::packet::{Direction, Outcome, Reason};
use clearway::types::Prefix;

use super::support::{EXAMPLE, Folder};

/// An appliance through which a thousand packets go in each second.
struct Fake {
    started: Instant,
    refusal: Vec<String>,
    reloads: AtomicU64,
}

impl Handle for Fake {
    fn snapshot(&self) -> Snapshot {
        let uptime = self.started.elapsed();
        let n = uptime.as_millis() as u64;
        let mut total = Counts { packets: 3 * n, forwarded: 2 * n, opened: n, flows: 7, ..Counts::default() };
        total.reasons = vec![0; Reason::ALL.len()];
        total.reasons[Reason::NsgDeny as usize] = n;
        total.ports = vec![PortCounts {
            in_frames: 3 * n,
            in_bytes: 300 * n,
            no_neighbour: 4,
            ..PortCounts::default()
        }];
        total.vnets = vec![VnetCounts { forwarded: 2 * n, dropped: n, opened: n }];
        let port = PortFacts {
            name: "fabric".into(),
            role: "fabric",
            device: "eth1".into(),
            io: "af_packet".into(),
            up: true,
            mtu: 1600,
            configured: true,
        };
        Snapshot {
            uptime,
            configuration: "config.yaml".into(),
            generation: 1,
            reloads: (self.reloads.load(Ordering::Relaxed), 0),
            ports: vec![port],
            vnets: vec![("contoso".into(), "hub".into())],
            workers: vec![total.clone()],
            total,
            program_bytes: 1024,
            meters: meters(&[MeterReading {
                customer: "contoso".into(),
                circuit: "er1".into(),
                peering: "AzurePrivatePeering".into(),
                link: Link::Primary,
                meter: Meter { packets: [7, 8], bytes: [700, 801], over: [0, 0] },
            }]),
            flow_logs: Default::default(),
            kernel_overruns: 2,
        }
    }

    fn flows(&self, wanted: &FlowsWanted) -> FlowsFound {
        let flow = |n: u8| FlowFacts {
            customer: "contoso".into(),
            vnet: "hub".into(),
            protocol: if n == 2 { 1 } else { 6 },
            local: (IpAddr::from([10, 1, 0, n]), 50000),
            remote: ("fd00::5".parse().unwrap(), 443),
            opened_by: Direction::Outbound,
            rule: "UserRule_AllowHttps".into(),
            idle: Duration::from_secs(61),
            ended: n == 1,
        };
        let wanted_one = |f: &FlowFacts| wanted.address.is_none_or(|a| a == f.local.0);
        let flows = (1..=3).map(flow).filter(wanted_one).take(wanted.most).collect();
        // The worker that holds nothing for this address has not answered.
        FlowsFound { flows, complete: wanted.address != Some(IpAddr::from([10, 9, 9, 8])) }
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        if !self.refusal.is_empty() {
            return Err(self.refusal.clone());
        }
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(Reloaded { generation: 2, took: Duration::from_micros(2500), warnings: 1 })
    }

    fn in_force(&self) -> (Arc<Model>, u32) {
        let model = model::from_bytes("config.yaml", EXAMPLE.as_bytes(), Some(Path::new("")));
        (Arc::new(model.unwrap()), 1)
    }

    fn capture(&self, wanted: CaptureWanted) -> Capturing {
        // Three packets, and nobody who would have more.
        let (capturing, tap) = capture::begin(wanted);
        let program = Arc::new(compile(&Model::default(), &mut Names::default()));
        let outcome = Outcome::ended(Reason::NsgDeny);
        for n in 1..=3 {
            let time = 1_700_000_000_000_000_000 + n;
            let frame = [n as u8; 60];
            let offered = Offered {
                frame: &frame,
                original: 1500,
                time,
                port: 0,
                outcome: &outcome,
                program: &program,
            };
            tap.offer(offered);
        }
        capturing
    }

    fn circuits(&self) -> Vec<LinkStatus> {
        // A hundred bytes each millisecond: 800 kbit/s.
        let bytes = self.started.elapsed().as_millis() as u64 * 100;
        let session = BgpStatus {
            local: IpAddr::from([192, 0, 2, 2]),
            peer: IpAddr::from([192, 0, 2, 1]),
            asn: 12076,
            peer_asn: 65010,
            md5: true,
            state: bgp::State::Established,
            since: Duration::from_secs(15_120),
            open: Some((Ipv4Addr::new(192, 0, 2, 1), 180)),
            received: 2,
            stale: 0,
            limit: 4000,
            refused: 1,
            advertised: 1,
            last_down: None,
            changes: (1, 0),
        };
        let primary = LinkStatus {
            key: LinkKey {
                customer: "contoso".into(),
                circuit: "er1".into(),
                peering: "AzurePrivatePeering".into(),
                link: Link::Primary,
            },
            kind: PeeringKind::Private,
            down: None,
            device: Ok(("clearway-contoso".into(), "er1-p".into())),
            bgp: vec![session],
            bfd: Vec::new(),
            bandwidth_mbps: Some(50),
            meter: Meter { packets: [7, 8], bytes: [bytes, 801], over: [0, 0] },
            over_rate: [0, 3],
        };
        let secondary = LinkStatus {
            key: LinkKey { link: Link::Secondary, ..primary.key.clone() },
            down: Some("its tunnel is turned off".into()),
            bgp: Vec::new(),
            ..primary.clone()
        };
        vec![primary, secondary]
    }

    fn bgp_routes(&self, link: &LinkKey, family: Family) -> Option<SessionRoutes> {
        let route = |prefix: Prefix, refused: Option<&str>| RouteStatus {
            prefix,
            as_path: vec![65010],
            communities: Vec::new(),
            next_hop: Some(IpAddr::from([192, 0, 2, 1])),
            stale: false,
            refused: refused.map(str::to_owned),
        };
        let received = vec![
            route(Prefix::ALL_V4, None),
            route(Prefix::v4(10, 20, 0, 0, 16), None),
            route(Prefix::v4(127, 0, 0, 0, 8), Some("it is loopback")),
        ];
        let told = RouteStatus {
            as_path: vec![12076],
            communities: vec![12076 << 16 | 5010],
            next_hop: None,
            ..route(Prefix::v4(10, 1, 0, 0, 16), None)
        };
        let is_there = link.link == Link::Primary && family == Family::V4;
        is_there.then(|| SessionRoutes { received, advertised: vec![told] })
    }

    fn is_ready(&self) -> bool {
        true
    }
}

fn running(refusal: &[&str]) -> (Folder, Control) {
    let folder = Folder::new();
    let refusal = refusal.iter().map(|s| s.to_string()).collect();
    let fake = Fake { started: Instant::now(), refusal, reloads: AtomicU64::new(0) };
    let control = control::serve(&folder.path("c.sock"), Arc::new(fake)).unwrap();
    (folder, control)
}

const OVERRUNS: &str =
    "\nthe kernel told more of devices, routes and neighbours than could be read, 2 times; ";

#[test]
fn a_packet_is_explained_as_of_a_file_and_with_its_flows() {
    let (folder, _control) = running(&[]);
    let folder = folder.file("config.yaml", EXAMPLE);
    let packet = "--customer contoso --vnet hub --protocol tcp --from 10.1.9.9 --to 10.2.0.4:22";
    let file = folder.run(&format!("explain config.yaml {packet}")).expect(0).stdout;
    let live = folder.run(&format!("explain --live --control c.sock {packet}")).expect(0).stdout;
    let more = live.strip_prefix(&file).unwrap();
    assert!(
        more.starts_with(
            "\nin the running appliance (generation 1):\n  a flow record has ended at 10.1.0.1 "
        ),
        "{more}"
    );
    assert!(more.contains("opened outbound by UserRule_AllowHttps, idle 61.0 s\n"), "{more}");
    let file = folder.run(&format!("explain config.yaml --json {packet}")).expect(0).json();
    let mut live = folder.run(&format!("explain --live --control c.sock --json {packet}")).expect(0).json();
    let own = live.as_object_mut().unwrap();
    assert_eq!((own.remove("generation"), own.remove("complete")), (Some(1.into()), Some(true.into())));
    assert_eq!(own.remove("liveFlows").unwrap().as_array().unwrap().len(), 3);
    assert_eq!(live, file);
    let both = folder.run(&format!("explain config.yaml --live {packet}")).expect(2).stderr;
    assert!(both.contains("cannot be used with"), "{both}");
    folder.run(&format!("explain --live --control none.sock {packet}")).expect(2);
}

#[test]
fn counters_as_tables_and_as_json() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("counters --control c.sock").expect(0);
    for part in ["generation 1, up ", "\n  nsg-deny ", "no-neighbour 4\n", "\ncontoso   hub ", OVERRUNS] {
        assert!(ran.stdout.contains(part), "{part:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("no-route"), "{}", ran.stdout);
    let counters = folder.run("counters --control c.sock --json").expect(0).json();
    let ended = counters["forwarded"].as_u64().unwrap() + counters["dropped"]["nsg-deny"].as_u64().unwrap();
    assert_eq!(counters["packets"], ended);
    assert_eq!(counters["dropped"]["no-route"], 0);
    assert_eq!(counters["ready"], true);
}

#[test]
fn counters_of_the_vnets_of_one_customer() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("counters --control c.sock --customer Contoso").expect(0);
    assert!(ran.stdout.contains("\ncontoso   hub "), "{}", ran.stdout);
    let ran = folder.run("counters --control c.sock --customer contosi").expect(2);
    assert!(
        ran.stderr.contains("customer 'contosi': there is no such customer here; did you mean 'contoso'?")
    );
}

#[test]
fn meters_as_a_table_and_as_json() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("meters --control c.sock").expect(0);
    let row: Vec<&str> = ran.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row, ["contoso", "er1", "AzurePrivatePeering", "primary", "7", "700", "8", "801"]);
    let meters = folder.run("meters --control c.sock --customer CONTOSO --json").expect(0).json();
    assert_eq!(meters["contoso"]["er1"]["AzurePrivatePeering"]["primary"]["out"]["bytes"], 801);
    let ran = folder.run("meters --control c.sock --customer contosi").expect(2);
    assert!(ran.stderr.contains("did you mean 'contoso'?"), "{}", ran.stderr);
}

#[test]
fn circuits_as_a_table_in_detail_and_as_json() {
    let (folder, _control) = running(&[]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let ran = folder.run("circuits --control c.sock").expect(0);
    let lines: Vec<String> = ran.stdout.lines().map(words).collect();
    assert_eq!(lines[0], "CUSTOMER CIRCUIT PEERING LINK STATE BGP BFD IN OUT OF DROPS");
    // As much as the machine lets the two readings be a second apart.
    let rate = lines[1].strip_prefix("contoso er1 Private primary up v4 2/4000 4h12m - ");
    let rate = rate.and_then(|rest| rest.strip_suffix(" k 0 50 M 3")).unwrap();
    assert!((700.0..900.0).contains(&rate.parse::<f64>().unwrap()), "{rate}");
    assert!(lines[2].starts_with("contoso er1 Private secondary down - - "), "{}", lines[2]);
    assert_eq!(lines[4], "contoso er1 AzurePrivatePeering secondary is down: its tunnel is turned off");
    let ran = folder.run("circuits --control c.sock --circuit ER1").expect(0);
    assert!(
        ran.stdout.contains("\n  device  er1-p in network namespace clearway-contoso\n"),
        "{}",
        ran.stdout
    );
    let known = folder.run("circuits --control c.sock --customer Contoso --json").expect(0).json();
    assert_eq!(known["links"][0]["out"], serde_json::json!({"packets": 8, "bytes": 801, "overRate": 3}));
    assert_eq!(known["links"][1]["downBecause"], "its tunnel is turned off");
    let ran = folder.run("circuits --control c.sock --customer contosi").expect(2);
    assert!(ran.stderr.contains("did you mean 'contoso'?"), "{}", ran.stderr);
    let ran = folder.run("circuits --control c.sock --circuit er9").expect(2);
    assert!(ran.stderr.contains("circuit 'er9': there is no such circuit here"), "{}", ran.stderr);
}

#[test]
fn bgp_sessions_and_their_routes() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("bgp --control c.sock").expect(0);
    let expected = "\
CUSTOMER  CIRCUIT  PEERING  LINK     PEER          AS  MD5  STATE/PREFIXES  FOR    REFUSED  SENT
contoso   er1      Private  primary  192.0.2.1  65010  yes  2/4000          4h12m        1     1
";
    assert_eq!(ran.stdout, expected);
    let sessions = folder.run("bgp --control c.sock --json").expect(0).json();
    let session = &sessions["sessions"][0];
    assert_eq!((&session["link"], &session["peerAsn"]), (&"primary".into(), &65010.into()));
    assert_eq!((&session["family"], &session["localAddress"]), (&"ipv4".into(), &"192.0.2.2".into()));
    let routes = "bgp routes --control c.sock --customer contoso --circuit er1";
    let ran = folder.run(routes).expect(0);
    let expected = "\
contoso er1 AzurePrivatePeering primary, IPv4
  RECEIVED      NEXT HOP   AS PATH
  0.0.0.0/0     192.0.2.1  65010
  10.20.0.0/16  192.0.2.1  65010
  127.0.0.0/8   192.0.2.1  65010    refused: it is loopback
  ADVERTISED   AS PATH  COMMUNITIES
  10.1.0.0/16  12076    12076:5010
";
    assert_eq!(ran.stdout, expected);
    let ran = folder.run(&format!("{routes} --refused --prefix 10.20.3.4")).expect(0);
    assert_eq!(ran.stdout, "contoso er1 AzurePrivatePeering primary, IPv4\n  no prefix refused\n");
    let told = folder.run(&format!("{routes} --advertised --peering private --json")).expect(0).json();
    let session = &told["sessions"][0];
    assert_eq!(session["advertised"][0]["communities"][0], "12076:5010");
    assert!(session.get("received").is_none());
    let ran = folder.run(&format!("{routes} --link secondary")).expect(0);
    assert_eq!(ran.stdout, "there is no BGP session\n");
    for (arguments, sentence) in [
        ("bgp --control c.sock --circuit er9", "circuit 'er9': there is no such circuit here"),
        ("bgp routes --control c.sock --customer contosi --circuit er1", "did you mean 'contoso'?"),
        ("bgp routes --control c.sock --customer contoso", "--circuit"),
        (&format!("{routes} --peering public"), "circuit 'er1' has no link of such a peering"),
        (&format!("{routes} --link third"), "[possible values: primary, secondary]"),
        (&format!("{routes} --prefix 10.20.3.4/16"), "10.20.0.0/16 would be right"),
        (&format!("{routes} --refused --advertised"), "cannot be used with"),
    ] {
        let ran = folder.run(arguments).expect(2);
        assert!(ran.stderr.contains(sentence), "{arguments}: {}", ran.stderr);
    }
}

#[test]
fn a_capture_is_a_file_with_verdicts_for_comments() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("capture --control c.sock --reason nsg-deny --out a.pcapng").expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("3 packets captured, 0 missed\n", ""));
    let path = folder.path("a.pcapng");
    let mut capture = Capture::open(path.to_str().unwrap()).unwrap();
    for n in 1..=3 {
        let packet = capture.next().unwrap().unwrap();
        assert_eq!(packet.time, 1_700_000_000_000_000_000 + n);
        assert_eq!((packet.captured, packet.original_len), (&[n as u8; 60][..], 1500));
    }
    assert!(capture.next().unwrap().is_none());
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let line = "{\"packet\": 3, \"time\": \"1700000000.000000003\", \"port\": \"\", \"customer\": null, ";
    assert!(text.contains(line) && text.contains("\"reason\": \"nsg-deny\"") && text.contains("fabric"));
    // The same by standard output, where the counts would be in the way.
    let mut command = Command::new(env!("CARGO_BIN_EXE_clearway"));
    command.args(["capture", "--count", "1", "--out", "-", "--control"]).arg(folder.path("c.sock"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stdout.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
    assert!(text.contains("\"packet\": 1, ") && !text.contains("\"packet\": 2, "));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "1 packet captured, 0 missed\n");
    let counts =
        folder.run("capture --control c.sock --reason nsg-deny --out b.pcapng --json").expect(0).json();
    assert_eq!((&counts["captured"], &counts["missed"]), (&3.into(), &0.into()));
    let both = folder.run("capture --control c.sock --out - --json").expect(2);
    assert!(both.stderr.contains("name a file by --out"), "{}", both.stderr);
    let ran = folder.run("capture --control c.sock --verdict forward --out a.pcapng").expect(0);
    assert_eq!(ran.stdout, "0 packets captured, 0 missed\n");
}

#[test]
fn what_cannot_be_captured_is_a_sentence_and_leaves_what_was_there() {
    let (folder, _control) = running(&[]);
    std::fs::write(folder.path("there"), "mine").unwrap();
    for (arguments, sentence) in [
        (
            "--reason nsg-denied --out there",
            "reason 'nsg-denied': there is no such reason here; did you mean 'nsg-deny'?",
        ),
        ("--port edge --out there", "port 'edge': there is no such port here"),
        ("--seconds 0 --out there", "is no number of seconds"),
        ("--count 0 --out there", "'0'"),
        ("--verdict lost --out there", "[possible values: forward, drop, punt]"),
        ("--out no/where", "no/where: cannot be written: No such file or directory"),
        ("--out /dev/full", "/dev/full: cannot be written: No space left on device"),
        ("", "--out"),
    ] {
        let ran = folder.run(&format!("capture --control c.sock {arguments}")).expect(2);
        assert!(ran.stderr.contains(sentence), "{arguments}: {}", ran.stderr);
    }
    let ran = folder.run("capture --control nobody.sock --out there").expect(2);
    assert!(ran.stderr.contains("no clearway is running here"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(folder.path("there")).unwrap(), "mine");
}

#[test]
fn flows_that_were_asked_for() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("flows --control c.sock").expect(0);
    let lines: Vec<String> =
        ran.stdout.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "CUSTOMER VNET PROTOCOL LOCAL REMOTE BY RULE IDLE",
        "contoso hub TCP 10.1.0.1:50000 [fd00::5]:443 Outbound UserRule_AllowHttps 1 min 1 s ended",
        "contoso hub ICMP 10.1.0.2 fd00::5 Outbound UserRule_AllowHttps 1 min 1 s",
        "contoso hub TCP 10.1.0.3:50000 [fd00::5]:443 Outbound UserRule_AllowHttps 1 min 1 s",
    ];
    assert_eq!(lines, expected);
    let ran = folder.run("flows --control c.sock --limit 2").expect(0);
    assert!(
        ran.stdout.ends_with("\nand more; --limit lists as many as you say, up to 100000\n"),
        "{}",
        ran.stdout
    );
    let flows = folder.run("flows --control c.sock --address 10.1.0.3 --json").expect(0).json();
    assert_eq!((flows["flows"].as_array().unwrap().len(), &flows["more"]), (1, &false.into()));
    let ran = folder.run("flows --control c.sock --address 10.9.9.9").expect(0);
    assert_eq!(ran.stdout, "no flow record\n");
    let ran = folder.run("flows --control c.sock --address 10.9.9.8").expect(0);
    let note = "and perhaps more: a worker had too much to do to say which it holds\n";
    assert_eq!(ran.stdout, format!("no flow record\n{note}"));
    let ran = folder.run("flows --control c.sock --customer Contosi").expect(2);
    assert!(ran.stderr.contains("there is no such customer here; did you mean 'contoso'?"), "{}", ran.stderr);
    folder.run("flows --control c.sock --limit 0").expect(2);
    folder.run("flows --control c.sock --address nowhere").expect(2);
}

#[test]
fn a_reload_is_in_force_or_refused_with_sentences() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("reload --control c.sock").expect(0);
    assert_eq!(ran.stdout, "configuration 2 is in force with 1 warning, after 2.5 ms\n");
    let done = folder.run("reload --control c.sock --json").expect(0).json();
    assert_eq!((&done["accepted"], &done["generation"]), (&true.into(), &2.into()));
    let (folder, _control) = running(&["config.yaml:3:5: error: 'x': is nothing"]);
    let ran = folder.run("reload --control c.sock").expect(1);
    assert_eq!(ran.stdout, "");
    let expected = "config.yaml:3:5: error: 'x': is nothing\nerror: the configuration is refused; ";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
    let refused = folder.run("reload --control c.sock --json").expect(1).json();
    assert_eq!(refused["refused"][0], "config.yaml:3:5: error: 'x': is nothing");
}

#[test]
fn top_prints_a_page_where_there_is_no_terminal() {
    let (folder, _control) = running(&[]);
    let ran = folder.run("top --control c.sock").expect(0);
    for part in ["packets ", "\nREASON ", "\nnsg-deny ", "\nPORT ", "\nfabric ", "\ncontoso ", "\nWORKER "] {
        assert!(ran.stdout.contains(part), "{part:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'));
    let rates = folder.run("top --once --control c.sock --json").expect(0).json();
    let packets = rates["packetsPerSecond"].as_f64().unwrap();
    assert!((2990.0..3010.0).contains(&packets), "{rates}");
    assert_eq!(rates["virtualNetworks"][0]["vnet"], "hub");
    assert_eq!(rates["circuitLinks"], serde_json::json!({"up": 1, "down": 1}));
    assert_eq!(rates["bgpSessions"], serde_json::json!({"up": 1, "down": 0}));
    // Its three packets are no IP.
    assert_eq!(
        (&rates["topFlows"]["sampled"], &rates["topFlows"]["flows"]),
        (&3.into(), &serde_json::json!([]))
    );
}

#[test]
fn where_nothing_runs_a_sentence_says_so() {
    let folder = Folder::new();
    for command in ["counters", "flows", "circuits", "bgp", "reload", "top", "top --once", "reload --json"] {
        let ran = folder.run(&format!("{command} --control c.sock")).expect(2);
        let expected = "error: no clearway is running here: nothing listens at c.sock; start one with `clearway run CONFIG`\n";
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", expected));
    }
}

#[test]
fn pages_and_completions_are_written() {
    let folder = Folder::new();
    folder.run("manual made").expect(0);
    let pages = folder.names("made/man1");
    for page in [
        "clearway.1",
        "clearway-check.1",
        "clearway-reload.1",
        "clearway-top.1",
        "clearway-bgp.1",
        "clearway-bgp-routes.1",
        "clearway-circuits.1",
    ] {
        assert!(pages.iter().any(|p| p == page), "{page} in {pages:?}");
    }
    assert!(!pages.iter().any(|p| p.contains("manual")));
    assert!(folder.text("made/man1/clearway-reload.1").contains("in force between two packets"));
    assert!(folder.text("made/man1/clearway-bgp-routes.1").contains("graceful restart"));
    assert_eq!(folder.names("made/completions"), ["_clearway", "clearway.bash", "clearway.fish"]);
    assert!(folder.text("made/completions/clearway.bash").contains("clearway__subcmd__bgp__subcmd__routes"));
    folder.file("file", "").run("manual file/x").expect(2);
}

#[test]
fn one_command_builds_the_package() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        return;
    }
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = || {
        let package = Command::new(root.join("tools/package"))
            .args(["--binary", env!("CARGO_BIN_EXE_clearway"), "--out"])
            .arg(folder.path("out"))
            .output()
            .unwrap();
        assert!(package.status.success(), "{}", String::from_utf8_lossy(&package.stderr));
        folder.path("out").join(folder.names("out").first().unwrap())
    };
    let package = build();
    let listed = Command::new("dpkg-deb").arg("-c").arg(&package).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for file in [
        "-rwxr-xr-x root/root",
        " ./usr/bin/clearway\n",
        " ./usr/lib/systemd/system/clearway.service\n",
        " ./usr/share/man/man1/clearway.1.gz\n",
        " ./usr/share/bash-completion/completions/clearway\n",
        " ./usr/share/doc/clearway/copyright\n",
        " ./usr/share/doc/clearway/examples/config.yaml\n",
        " ./etc/clearway/\n",
    ] {
        assert!(listed.contains(file), "{file} in {listed}");
    }
    let first = std::fs::read(&package).unwrap();
    assert!(first == std::fs::read(build()).unwrap(), "the same sources make the same package");
}

#[test]
fn the_unit_says_what_systemd_knows() {
    let unit = include_str!("../../tools/packaging/clearway.service");
    for line in ["Type=notify", "WatchdogSec=10", "DynamicUser=yes", "RuntimeDirectory=clearway"] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    let folder = Folder::new();
    let here = unit
        .replace("/usr/bin/clearway", env!("CARGO_BIN_EXE_clearway"))
        .replace("Documentation=man:clearway(1)\n", "");
    let folder = folder.file("clearway.service", here);
    let verify = Command::new("systemd-analyze").arg("verify").arg(folder.path("clearway.service")).output();
    let Ok(verify) = verify else { return };
    let said = String::from_utf8_lossy(&verify.stderr);
    // Other units of this machine may have faults of their own.
    let ours: Vec<_> = said.lines().filter(|l| l.contains("clearway.service")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}
