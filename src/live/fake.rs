//! An appliance that does nothing, for tests of those who ask one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::handle::{FlowFacts, FlowsWanted, Handle, Reloaded, Snapshot};
use super::metrics::tests::busy;
use crate::packet::Direction;

/// What it answers.
#[derive(Debug)]
pub struct Fake {
    pub snapshot: Snapshot,
    pub flows: u16,
    pub ready: bool,
    pub refusal: Vec<String>,
    pub reloads: AtomicU64,
}

impl Default for Fake {
    fn default() -> Fake {
        let (snapshot, refusal, reloads) = (Snapshot::default(), Vec::new(), AtomicU64::new(0));
        Fake { snapshot, flows: 0, ready: true, refusal, reloads }
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

    fn flows(&self, wanted: &FlowsWanted) -> Vec<FlowFacts> {
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
        };
        flows.filter(kept).take(wanted.most).collect()
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        match self.refusal.as_slice() {
            [] => Ok(Reloaded { generation: 4, took: Duration::from_millis(12), warnings: 1 }),
            sentences => Err(sentences.to_vec()),
        }
    }

    fn is_ready(&self) -> bool {
        self.ready
    }
}
