//! An appliance that does nothing, for tests of those who ask one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::capture::{self, CaptureWanted, Capturing, Offered, Tap};
use super::circuits::spec::LinkKey;
use super::circuits::status::{BfdStatus, BgpStatus, LinkStatus, RouteStatus, SessionRoutes};
use super::handle::{FlowFacts, FlowsFound, FlowsWanted, Handle, Reloaded, Snapshot};
use super::metrics::tests::busy;
use crate::compile::names::Names;
use crate::compile::{Program, compile};
use crate::dataplane::Meter;
use crate::model::{self, Link, Model, PeeringKind};
use crate::packet::{Direction, Outcome, Reason, Verdict};
use crate::types::Prefix;
use crate::{bfd, bgp};

/// What it answers.
#[derive(Debug)]
pub struct Fake {
    pub snapshot: Snapshot,
    pub flows: u16,
    /// All workers say which they hold.
    pub complete: bool,
    pub model: Model,
    pub ready: bool,
    pub still: bool,
    pub refusal: Vec<String>,
    pub reloads: AtomicU64,
    /// Captures that were asked for, to be offered packets.
    pub taps: Mutex<Vec<Tap>>,
    /// Packets that every capture is offered at once: every third one is forwarded, the others are dropped by a NSG.
    pub packets: u8,
    pub links: Vec<LinkStatus>,
}

impl Default for Fake {
    fn default() -> Fake {
        let (snapshot, refusal, reloads) = (Snapshot::default(), Vec::new(), AtomicU64::new(0));
        let (taps, model) = Default::default();
        Fake {
            snapshot,
            flows: 0,
            complete: true,
            model,
            ready: true,
            still: false,
            refusal,
            reloads,
            taps,
            packets: 0,
            links: Vec::new(),
        }
    }
}

impl Fake {
    /// One that has counted something, and has links of circuits.
    pub fn busy() -> Fake {
        Fake { snapshot: busy(), flows: 3, links: links(), ..Fake::default() }
    }
}

impl Handle for Fake {
    fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    fn flows(&self, wanted: &FlowsWanted) -> FlowsFound {
        let flow = |n: u16| FlowFacts {
            customer: "contoso".to_owned(),
            vnet: "hub".to_owned(),
            protocol: 6,
            local: (IpAddr::from([10, 1, 0, 4]), 50_000 + n),
            remote: (IpAddr::from([93, 184, 216, 34]), 443),
            opened_by: Direction::Outbound,
            rule: "DefaultRule_AllowInternetOutBound".to_owned(),
            idle: Duration::from_millis(1500),
            ended: n == 1,
        };
        let flows = (0..self.flows).map(flow);
        let kept = |f: &FlowFacts| {
            wanted.customer.as_ref().is_none_or(|c| *c == f.customer)
                && wanted.vnet.as_ref().is_none_or(|v| *v == f.vnet)
                && wanted.address.is_none_or(|a| a == f.local.0 || a == f.remote.0)
                && wanted.packet.is_none_or(|p| p.belongs_to(f.protocol, f.local, f.remote))
        };
        FlowsFound { flows: flows.filter(kept).take(wanted.most).collect(), complete: self.complete }
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        match self.refusal.as_slice() {
            [] => Ok(Reloaded { generation: 4, took: Duration::from_millis(12), warnings: 1 }),
            sentences => Err(sentences.to_vec()),
        }
    }

    fn in_force(&self) -> (Arc<Model>, u32) {
        (Arc::new(self.model.clone()), self.snapshot.generation)
    }

    fn capture(&self, wanted: CaptureWanted) -> Capturing {
        let (capturing, tap) = capture::begin(wanted);
        let program = program();
        (0..self.packets).for_each(|n| offer(&tap, &program, n));
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).push(tap);
        capturing
    }

    fn circuits(&self) -> Vec<LinkStatus> {
        self.links.clone()
    }

    fn bgp_routes(&self, key: &LinkKey, family: bgp::Family) -> Option<SessionRoutes> {
        let link = self.links.iter().find(|link| link.key == *key)?;
        let session = link.bgp.iter().find(|s| s.peer.is_ipv4() == (family == bgp::Family::V4))?;
        // A session that is held down answers nothing.
        (session.state != bgp::State::Idle).then(|| routes(session))
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn stands_still(&self) -> bool {
        self.still
    }
}

/// Links of three kinds: one that carries traffic, with both families, one that BFD holds down, and one without BGP, of
/// another customer; not in their order.
pub fn links() -> Vec<LinkStatus> {
    let key = |customer: &str, peering: &str, link| LinkKey {
        customer: customer.to_owned(),
        circuit: "er1".to_owned(),
        peering: peering.to_owned(),
        link,
    };
    let session = |peer: &str, local: &str, limit| BgpStatus {
        local: address(local),
        peer: address(peer),
        asn: 12076,
        peer_asn: 65010,
        md5: true,
        state: bgp::State::Established,
        since: Duration::from_secs(15_120),
        open: Some((Ipv4Addr::new(192, 0, 2, 1), 180)),
        received: 3,
        stale: 1,
        limit,
        refused: 1,
        advertised: 2,
        last_down: None,
        changes: (1, 0),
    };
    let down = |session: BgpStatus, state, last_down: Option<&str>| BgpStatus {
        state,
        since: Duration::from_secs(185),
        open: None,
        received: 0,
        stale: 0,
        refused: 0,
        advertised: 0,
        last_down: last_down.map(str::to_owned),
        ..session
    };
    let bfd = |peer: &str, state, heard, downs| BfdStatus {
        peer: address(peer),
        state,
        heard,
        since: Duration::from_secs(15_125),
        intervals: (300_000, 900_000),
        downs,
    };
    let primary = LinkStatus {
        key: key("contoso", "AzurePrivatePeering", Link::Primary),
        kind: PeeringKind::Private,
        down: None,
        device: Ok(("clearway-contoso".to_owned(), "er1-p".to_owned())),
        bgp: vec![
            session("192.0.2.1", "192.0.2.2", 4000),
            down(session("2001:db8::1", "2001:db8::2", 100), bgp::State::Connect, None),
        ],
        bfd: vec![bfd("192.0.2.1", bfd::State::Up, true, 0), bfd("2001:db8::1", bfd::State::Down, false, 0)],
        bandwidth_mbps: Some(1000),
        meter: Meter { packets: [11, 12], bytes: [1100, 1300], over: [0, 0] },
        over_rate: [4821, 0],
    };
    let secondary = LinkStatus {
        key: key("contoso", "AzurePrivatePeering", Link::Secondary),
        down: Some("BFD is down since 3 s".to_owned()),
        device: Err("the device er1-s cannot be made: Operation not permitted".to_owned()),
        bgp: vec![BgpStatus {
            changes: (2, 2),
            ..down(
                session("192.0.2.5", "192.0.2.6", 4000),
                bgp::State::Idle,
                Some("ended by the peer: Cease, administrative shutdown"),
            )
        }],
        bfd: vec![bfd("192.0.2.5", bfd::State::Down, true, 3)],
        meter: Meter::default(),
        over_rate: [0, 0],
        ..primary.clone()
    };
    let other = LinkStatus {
        key: key("fabrikam", "MicrosoftPeering", Link::Primary),
        kind: PeeringKind::Microsoft,
        bgp: Vec::new(),
        bfd: Vec::new(),
        bandwidth_mbps: None,
        meter: Meter::default(),
        over_rate: [0, 0],
        ..primary.clone()
    };
    vec![other, secondary, primary]
}

/// The routes of a session that is up or comes up.
fn routes(session: &BgpStatus) -> SessionRoutes {
    let route = |prefix: Prefix, as_path: &[u32], stale, refused: Option<&str>| RouteStatus {
        prefix,
        as_path: as_path.to_vec(),
        communities: Vec::new(),
        next_hop: Some(session.peer),
        stale,
        refused: refused.map(str::to_owned),
    };
    let told = |prefix: Prefix, communities: &[u32]| RouteStatus {
        communities: communities.to_vec(),
        next_hop: None,
        ..route(prefix, &[session.asn], false, None)
    };
    if session.state != bgp::State::Established {
        return SessionRoutes::default();
    }
    SessionRoutes {
        received: vec![
            route(Prefix::ALL_V4, &[65010], false, None),
            route(Prefix::v4(10, 20, 0, 0, 16), &[65010, 65020], false, None),
            route(Prefix::v4(10, 30, 0, 0, 16), &[65010, 65010, 65030], true, None),
            route(Prefix::v4(127, 0, 0, 0, 8), &[65010], false, Some(&bgp::Refusal::NotUnicast.to_string())),
        ],
        advertised: vec![
            told(Prefix::v4(10, 1, 0, 0, 16), &[]),
            told(Prefix::v4(13, 107, 6, 0, 24), &[12076 << 16 | 5010]),
        ],
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// A program that knows nothing.
pub fn program() -> Arc<Program> {
    Arc::new(compile(&Model::default(), &mut Names::default()))
}

/// Two customers with the same addresses.
const NETWORK: &str = "\
apiVersion: clearway/v1
ports: {f: {role: fabric, address: 198.51.100.2}}
customers:
  - name: contoso
    virtualNetworks:
      - {name: hub, addressSpace: {addressPrefixes: [10.1.0.0/16]}}
      - {name: spoke, addressSpace: {addressPrefixes: [10.2.0.0/16]}}
    tunnels: [{vnet: hub, port: f, key: 1}, {vnet: spoke, port: f, key: 2}]
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}]
  - name: fabrikam
    virtualNetworks: [{name: hub, addressSpace: {addressPrefixes: [10.1.0.0/16]}}]
    tunnels: [{vnet: hub, port: f, key: 3}]
    hosts: [{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}]
";

/// The program of customers contoso (hub by key 1, spoke by key 2) and fabrikam (hub by key 3).
pub fn network() -> Arc<Program> {
    let model = model::from_bytes("config.yaml", NETWORK.as_bytes(), None).unwrap_or_default();
    Arc::new(compile(&model, &mut Names::default()))
}

/// Offers a packet with this number in its only byte.
pub fn offer(tap: &Tap, program: &Arc<Program>, number: u8) {
    let mut outcome = Outcome::ended(Reason::NsgDeny);
    if number.is_multiple_of(3) {
        outcome.verdict = Verdict::Forward;
    }
    let time = u64::from(number);
    // Of a sample of all.
    assert_eq!(tap.sample(1).count(), 1);
    tap.offer(Offered { frame: &[number], original: 60, time, port: 0, outcome: &outcome, program });
}
