//! Which flows carry most, estimated from a sample of packets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ahash::RandomState;

use super::capture::Captured;
use super::report::{TopFlow, TopFlows};
use crate::dataplane::ingress::ingress;
use crate::packet::Verdict;

/// Flows that are told apart at most; of more, those are left out that came last.
const MOST: usize = 1 << 16;
/// Flows that are told of at most.
const HEAVIEST: usize = 20;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    customer: Option<u32>,
    protocol: u8,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
}

/// What packets of it were in the sample.
struct Load {
    customer: String,
    packets: u64,
    bytes: u64,
    verdict: Verdict,
}

/// The flows of a sample. Packets that end before it is known whose they are belong to none.
#[derive(Default)]
pub(super) struct Heaviest {
    flows: HashMap<Key, Load, RandomState>,
    sampled: u64,
}

impl Heaviest {
    /// Takes a packet of the sample.
    pub fn note(&mut self, packet: &Captured) {
        self.sampled += 1;
        let Captured { frame, original, port, outcome, program, .. } = packet;
        let Ok(arrival) = ingress(program, None, *port, frame, *original) else { return };
        let names = &program.names;
        let customer = outcome.customer.or_else(|| names.customer_of(arrival.vnet?));
        let inner = arrival.inner;
        let (from, to) = ((inner.source, inner.ports.0), (inner.destination, inner.ports.1));
        let key = Key { customer, protocol: inner.protocol, from, to };
        if self.flows.len() >= MOST && !self.flows.contains_key(&key) {
            return;
        }
        let load = self.flows.entry(key).or_insert_with(|| Load {
            customer: customer.map_or("", |n| names.customer_name(n)).to_owned(),
            packets: 0,
            bytes: 0,
            verdict: outcome.verdict,
        });
        load.packets += 1;
        load.bytes += u64::from(inner.total);
        load.verdict = outcome.verdict;
    }

    /// The heaviest, if the sample is of so many packets that came in so much time.
    pub fn told(self, seen: u64, time: Duration) -> TopFlows {
        let (sampled, seen) = (self.sampled, seen.max(self.sampled));
        let each = seen as f64 / sampled.max(1) as f64 / time.as_secs_f64().max(0.001);
        let mut flows: Vec<_> = self.flows.into_iter().collect();
        flows.sort_by_key(|(key, load)| {
            (std::cmp::Reverse((load.bytes, load.packets)), key.from, key.to, key.protocol)
        });
        let told = |(key, load): (Key, Load)| TopFlow {
            customer: load.customer,
            protocol: key.protocol,
            source_address: key.from.0,
            source_port: key.from.1,
            destination_address: key.to.0,
            destination_port: key.to.1,
            packets_per_second: load.packets as f64 * each,
            bits_per_second: load.bytes as f64 * 8.0 * each,
            verdict: load.verdict.name().to_owned(),
            reason: load.verdict.reason().map(|r| r.name().to_owned()),
        };
        let flows = flows.into_iter().take(HEAVIEST).map(told).collect();
        TopFlows { seconds: time.as_secs_f64(), packets: seen, sampled, flows }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::compile::Program;
    use crate::live::fake::network;
    use crate::packet::{Outcome, Reason};
    use crate::wire::build::{Transport, gre_frame, ip_packet};

    fn packet(program: &Arc<Program>, key: u32, from: u8, length: usize, verdict: Verdict) -> Captured {
        let (source, destination) = (IpAddr::from([10, 1, 0, from]), IpAddr::from([10, 1, 0, 200]));
        let transport = Transport::Udp { source: 50_000, destination: 443 };
        let inner = ip_packet(source, destination, transport, &vec![0; length - 28]).unwrap();
        let (remote, here) = (IpAddr::from([198, 51, 100, 11]), IpAddr::from([198, 51, 100, 2]));
        let frame = gre_frame(remote, here, key, None, &inner).unwrap();
        let outcome = Outcome { verdict, ..Outcome::ended(Reason::NoRoute) };
        let original = frame.len() as u32;
        Captured { frame, original, time: 0, port: 0, outcome, program: program.clone() }
    }

    #[test]
    fn flows_are_told_by_what_they_carry_each_of_its_customer() {
        let program = network();
        let mut heaviest = Heaviest::default();
        let denied = Verdict::Drop(Reason::NsgDeny);
        // Many small ones, and few large ones of the same addresses with another customer.
        (0..90).for_each(|_| heaviest.note(&packet(&program, 1, 4, 50, Verdict::Forward)));
        (0..10).for_each(|_| heaviest.note(&packet(&program, 3, 4, 1400, Verdict::Forward)));
        (0..5).for_each(|n| {
            heaviest.note(&packet(&program, 1, 5, 100, if n < 4 { Verdict::Forward } else { denied }));
        });
        // Nobody's.
        (0..20).for_each(|_| heaviest.note(&packet(&program, 9, 4, 1400, denied)));
        // Four times as many came, within two seconds.
        let told = heaviest.told(500, Duration::from_secs(2));
        assert_eq!((told.seconds, told.packets, told.sampled), (2.0, 500, 125));
        let flows = told.flows.iter().map(|f| {
            let ends = (f.source_address.to_string(), f.source_port, f.destination_port);
            assert_eq!((f.protocol, ends.1, ends.2), (17, 50_000, 443));
            (&*f.customer, ends.0, f.packets_per_second, f.bits_per_second, f.reason.as_deref())
        });
        let flows: Vec<_> = flows.collect();
        let expected = [
            ("fabrikam", "10.1.0.4".to_owned(), 20.0, 224_000.0, None),
            ("contoso", "10.1.0.4".to_owned(), 180.0, 72_000.0, None),
            ("contoso", "10.1.0.5".to_owned(), 10.0, 8_000.0, Some("nsg-deny")),
        ];
        assert_eq!(flows, expected);
    }

    #[test]
    fn no_more_are_told_than_anybody_reads_and_all_is_exact_if_all_was_looked_at() {
        let program = network();
        let mut heaviest = Heaviest::default();
        for from in 1..=30 {
            (0..from).for_each(|_| heaviest.note(&packet(&program, 1, from, 100, Verdict::Forward)));
        }
        let told = heaviest.told(465, Duration::from_secs(1));
        let packets: Vec<_> = told.flows.iter().map(|f| f.packets_per_second as u32).collect();
        assert_eq!(packets, (11..=30).rev().collect::<Vec<_>>());
        assert_eq!(Heaviest::default().told(0, Duration::ZERO).flows, []);
    }
}
