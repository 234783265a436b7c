//! What became of all packets of a run: `summary.json`, and the same as a table.

use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Style, Table};
use crate::packet::{Generated, Reason, Verdict};
use crate::runtime::{Finished, Totals};

/// Counts of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    packets: u64,
    forwarded: u64,
    ended: [u64; Reason::ALL.len()],
    generated: [u64; Generated::ALL.len()],
    ports: Vec<PortCounts>,
    flows: Totals,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PortCounts {
    name: String,
    frames_in: u64,
    frames_out: u64,
}

impl Summary {
    /// No packet yet, and these ports.
    pub fn new(ports: &[String]) -> Summary {
        let port = |name: &String| PortCounts { name: name.clone(), frames_in: 0, frames_out: 0 };
        Summary {
            packets: 0,
            forwarded: 0,
            ended: [0; Reason::ALL.len()],
            generated: [0; Generated::ALL.len()],
            ports: ports.iter().map(port).collect(),
            flows: Totals::default(),
        }
    }

    /// Counts one more packet.
    pub fn count(&mut self, packet: &Finished<'_>) {
        self.packets += 1;
        match packet.verdict {
            Verdict::Forward => self.forwarded += 1,
            Verdict::Drop(reason) | Verdict::Punt(reason) => {
                if let Some(count) = self.ended.get_mut(reason as usize) {
                    *count += 1;
                }
            }
        }
        if let Some(kind) = packet.error
            && let Some(count) = self.generated.get_mut(kind as usize)
        {
            *count += 1;
        }
        if let Some(port) = self.ports.get_mut(usize::from(packet.port)) {
            port.frames_in += 1;
        }
        for (port, _) in packet.frames {
            if let Some(port) = self.ports.get_mut(usize::from(*port)) {
                port.frames_out += 1;
            }
        }
    }

    /// Notes the flow records of the whole run.
    pub fn flows(&mut self, totals: Totals) {
        self.flows = totals;
    }

    /// How many packets there were.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The reasons that occurred, of drops or of punts, with their counts.
    fn reasons(&self, punts: bool) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let all = Reason::ALL.iter().copied().zip(self.ended.iter().copied());
        all.filter(move |(reason, count)| reason.is_punt() == punts && *count > 0)
    }

    /// The table for a person.
    pub fn table(&self, style: Style) -> String {
        let mut counts = Table::new(style, &["", ">", ""]);
        let count = |n: u64| n.to_string();
        counts.row(["packets".to_owned(), count(self.packets), String::new()]);
        counts.row(["forwarded".to_owned(), count(self.forwarded), String::new()]);
        for (punts, name) in [(false, "dropped"), (true, "punted")] {
            let total: u64 = self.reasons(punts).map(|(_, n)| n).sum();
            counts.row([name.to_owned(), count(total), String::new()]);
            for (reason, n) in self.reasons(punts) {
                let help = reason.sentence().trim();
                counts.row([format!("  {}", reason.name()), count(n), help.to_owned()]);
            }
        }
        counts.row(["generated".to_owned(), count(self.generated.iter().sum()), String::new()]);
        for (kind, n) in Generated::ALL.iter().zip(self.generated).filter(|(_, n)| *n > 0) {
            let help = "ICMP errors sent back".to_owned();
            counts.row([format!("  {}", kind.name()), count(n), help]);
        }
        counts.row(["flows opened".to_owned(), count(self.flows.opened), String::new()]);
        counts.row(["flows live".to_owned(), count(self.flows.live), String::new()]);
        let mut ports = Table::new(style, &["PORT", ">IN", ">OUT"]);
        for port in &self.ports {
            ports.row([port.name.clone(), count(port.frames_in), count(port.frames_out)]);
        }
        let mut text = String::new();
        // Writing to memory cannot fail.
        let _ = write!(text, "{counts}\n{ports}");
        text
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("packets", &self.packets)?;
        map.serialize_entry("forwarded", &self.forwarded)?;
        let named = |punts| Entries(self.reasons(punts).map(|(r, n)| (r.name().to_owned(), n)).collect());
        map.serialize_entry("dropped", &named(false))?;
        map.serialize_entry("punted", &named(true))?;
        let generated = Generated::ALL.iter().zip(self.generated);
        let generated = generated.map(|(kind, n)| (kind.name().to_owned(), n)).collect();
        map.serialize_entry("generated", &Entries(generated))?;
        let pair = |a: &str, x: u64, b: &str, y: u64| Entries(vec![(a.to_owned(), x), (b.to_owned(), y)]);
        let port = |p: &PortCounts| (p.name.clone(), pair("in", p.frames_in, "out", p.frames_out));
        map.serialize_entry("ports", &Entries(self.ports.iter().map(port).collect()))?;
        map.serialize_entry("flows", &pair("opened", self.flows.opened, "live", self.flows.live))?;
        map.end()
    }
}

/// A JSON object in the order of its entries.
struct Entries<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::json;

    #[test]
    fn says_what_occurred() {
        let mut summary = Summary::new(&["fabric".to_owned(), "internet".to_owned()]);
        summary.packets = 6;
        summary.forwarded = 2;
        summary.ended[Reason::NsgDeny as usize] = 3;
        summary.ended[Reason::NotGre as usize] = 1;
        summary.generated[Generated::PacketTooBig as usize] = 2;
        summary.ports[0].frames_in = 6;
        summary.flows(Totals { opened: 2, live: 1 });
        let printed = r#"{"packets": 6, "forwarded": 2, "dropped": {"nsg-deny": 3}, "punted": {"not-gre": 1}, "generated": {"time-exceeded": 0, "fragmentation-needed": 0, "packet-too-big": 2}, "ports": {"fabric": {"in": 6, "out": 0}, "internet": {"in": 0, "out": 0}}, "flows": {"opened": 2, "live": 1}}"#;
        assert_eq!(json::line(&summary), printed);
        let table = summary.table(Style::PLAIN);
        assert!(
            table.contains("\n  nsg-deny        3  A rule of a network security group denied the packet.\n")
        );
        assert!(table.contains("\nfabric     6    0\n"), "{table}");
    }

    #[test]
    fn every_reason_and_kind_has_its_place() {
        assert!(Reason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(Generated::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
    }
}
