//! Section 7, "Bandwidth" and "Metering": what circuit links let through, and what they have carried. Every key is made of
//! names, as in `state.rs`.

use std::collections::BTreeMap;

use clearway::model::{Circuit, Link, Model, TunnelTo};
use clearway::packet::Reason;
use clearway::types::{Nanos, SECOND};

use super::seen::{seen, seen_if};

/// A direction of a link, as the customer's traffic is named: from the customer in, to the customer out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toward {
    In,
    Out,
}

/// A link of a circuit's peering.
#[derive(Clone, Copy, Debug)]
pub struct CircuitLink {
    pub customer: usize,
    pub circuit: usize,
    pub peering: usize,
    pub link: Link,
}

impl CircuitLink {
    /// The link that this tunnel is, if it is one.
    pub fn of_tunnel(model: &Model, customer: usize, tunnel: usize) -> Option<CircuitLink> {
        match model.customers[customer].tunnels[tunnel].to {
            TunnelTo::Link { circuit, peering, link } => {
                Some(CircuitLink { customer, circuit, peering, link })
            }
            _ => None,
        }
    }

    pub fn circuit(self, model: &Model) -> &Circuit {
        &model.customers[self.customer].circuits[self.circuit]
    }

    /// Customer, circuit, peering and link.
    fn names(self, model: &Model) -> LinkNames {
        let circuit = self.circuit(model);
        let peering = circuit.peerings[self.peering].name.clone();
        (model.customers[self.customer].name.clone(), circuit.name.clone(), peering, self.link.name())
    }
}

/// Customer, circuit, peering and link.
pub type LinkNames = (String, String, String, &'static str);

/// Packets, and the bytes of the inner packets.
pub type Count = (u64, u64);

/// What every link of every peering has carried: in and out.
pub type Meters = BTreeMap<LinkNames, [Count; 2]>;

/// "per circuit link and direction over all its peerings": customer, circuit, link, direction.
type BucketKey = (String, String, &'static str, Toward);

/// Thousandths of a bit: "`bandwidthInMbps` bits per microsecond" are as many of them in a nanosecond.
const OF_BIT: u128 = 1000;

#[derive(Clone, Debug)]
struct Bucket {
    /// Thousandths of a bit.
    held: u128,
    /// When it held that.
    at: Nanos,
    /// The peering that took something last.
    peering: usize,
    /// Thousandths of a bit taken since the bandwidth was raised last.
    since_raise: Option<u128>,
}

impl Bucket {
    /// "the bucket holds 0.1 s at the rate, is full at the start, fills with packet time".
    fn fill(&mut self, mbps: u32, now: Nanos) {
        let filled = u128::from(now - self.at) * u128::from(mbps);
        self.held = (self.held + filled).min(capacity(mbps));
        self.at = now;
    }
}

fn capacity(mbps: u32) -> u128 {
    u128::from(SECOND / 10) * u128::from(mbps)
}

/// The buckets and meters of all circuit links.
#[derive(Default)]
pub struct Links {
    /// Those that something was taken from; any other is full.
    buckets: BTreeMap<BucketKey, Bucket>,
    pub meters: Meters,
}

impl Links {
    /// "Per circuit, peering, link and direction": those of this configuration stand there from now on.
    pub fn know(&mut self, model: &Model) {
        for (customer, owner) in model.customers.iter().enumerate() {
            for (circuit, of) in owner.circuits.iter().enumerate() {
                for peering in 0..of.peerings.len() {
                    for link in [Link::Primary, Link::Secondary] {
                        let names = CircuitLink { customer, circuit, peering, link }.names(model);
                        self.meters.entry(names).or_default();
                    }
                }
            }
        }
    }

    /// "A packet passes if the bucket holds its bits": else `over-rate`. "what passes is charged whatever becomes of it".
    pub fn take(
        &mut self,
        model: &Model,
        link: CircuitLink,
        toward: Toward,
        bytes: usize,
        now: Nanos,
    ) -> Result<(), Reason> {
        let Some(mbps) = link.circuit(model).bandwidth_mbps else { return Ok(()) };
        let (customer, circuit, _, name) = link.names(model);
        let full = Bucket { held: capacity(mbps), at: now, peering: link.peering, since_raise: None };
        let bucket = self.buckets.entry((customer, circuit, name, toward)).or_insert(full);
        bucket.fill(mbps, now);
        let needed = bytes as u128 * 8 * OF_BIT;
        if bucket.held < needed {
            seen(match toward {
                Toward::In => "bandwidth: over-rate inwards",
                Toward::Out => "bandwidth: over-rate outwards",
            });
            seen_if(bucket.peering != link.peering, "bandwidth: used up by another peering");
            let full = bucket.since_raise.is_some_and(|taken| taken + needed <= capacity(mbps));
            seen_if(full, "swap: bandwidth raised, what was in the bucket kept");
            return Err(Reason::OverRate);
        }
        let short = bucket.held < capacity(mbps) / 20;
        seen_if(short && bytes < 1500, "bandwidth: a small packet passes where a large one did not");
        bucket.held -= needed;
        bucket.peering = link.peering;
        bucket.since_raise = bucket.since_raise.map(|taken| taken + needed);
        Ok(())
    }

    /// "in: what passed the bucket, with its length as received; out: what was sent, after fragmenting."
    pub fn count(&mut self, model: &Model, link: CircuitLink, toward: Toward, lengths: &[usize]) {
        let count = &mut self.meters.entry(link.names(model)).or_default()[toward as usize];
        count.0 += lengths.len() as u64;
        count.1 += lengths.iter().sum::<usize>() as u64;
    }

    /// "a higher rate keeps what is in it": what is there by now came at the old one. A circuit that was removed and is
    /// added again begins anew.
    pub fn change(&mut self, old: &Model, new: &Model, now: Nanos) {
        self.know(new);
        let rate = |model: &Model, (customer, circuit, ..): &BucketKey| -> Option<u32> {
            let owner = model.customers.iter().find(|c| c.name == *customer)?;
            owner.circuits.iter().find(|c| c.name == *circuit)?.bandwidth_mbps
        };
        self.buckets.retain(|key, bucket| {
            let (Some(before), Some(after)) = (rate(old, key), rate(new, key)) else { return false };
            bucket.fill(before, now);
            if after > before {
                bucket.since_raise = Some(0);
                seen_if(bucket.held < capacity(before) / 2, "swap: bandwidth raised while a bucket is short");
            }
            true
        });
    }
}
