//! An appliance that does nothing, for tests of those who ask one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::capture::{self, CaptureWanted, Capturing, Offered, Tap};
use super::handle::{FlowFacts, FlowsFound, FlowsWanted, Handle, Reloaded, Snapshot};
use super::metrics::tests::busy;
use crate::compile::names::Names;
use crate::compile::{Program, compile};
use crate::model::{self, Model};
use crate::packet::{Direction, Outcome, Reason, Verdict};

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
        }
    }
}

impl Fake {
    /// One that has counted something.
    pub fn busy() -> Fake {
        Fake { snapshot: busy(), flows: 3, ..Fake::default() }
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

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn stands_still(&self) -> bool {
        self.still
    }
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
