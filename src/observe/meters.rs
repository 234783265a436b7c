//! What circuit links have carried, by customer, circuit, peering and link: `meters.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataplane::{Meter, MeterReading, Toward};

/// Customers with their circuits, those with their peerings, those with their links.
pub type Meters = BTreeMap<String, BTreeMap<String, BTreeMap<String, BTreeMap<String, Carried>>>>;

/// What one link has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// From the customer: what passed the link's bandwidth, with its length as received.
    pub r#in: Count,
    /// To the customer: what was sent, after fragmenting.
    pub out: Count,
}

/// Packets, and the bytes of the customer's IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many packets.
    pub packets: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl From<&Meter> for Carried {
    fn from(meter: &Meter) -> Carried {
        let count = |toward: Toward| Count {
            packets: meter.packets[toward as usize],
            bytes: meter.bytes[toward as usize],
        };
        Carried { r#in: count(Toward::In), out: count(Toward::Out) }
    }
}

/// Readings, sorted by their names.
pub fn meters(readings: &[MeterReading]) -> Meters {
    let mut meters = Meters::new();
    for MeterReading { customer, circuit, peering, link, meter } in readings {
        let circuits = meters.entry(customer.clone()).or_default();
        let links = circuits.entry(circuit.clone()).or_default().entry(peering.clone()).or_default();
        links.insert(link.name().to_owned(), Carried::from(meter));
    }
    meters
}

/// Adds what others have counted.
pub fn add(to: &mut Meters, more: &Meters) {
    for (customer, circuits) in more {
        let to = to.entry(customer.clone()).or_default();
        for (circuit, peerings) in circuits {
            let to = to.entry(circuit.clone()).or_default();
            for (peering, links) in peerings {
                let to = to.entry(peering.clone()).or_default();
                for (link, carried) in links {
                    to.entry(link.clone()).or_default().add(carried);
                }
            }
        }
    }
}

/// Every link with its names: customer, circuit, peering, link.
pub fn each(meters: &Meters) -> impl Iterator<Item = ([&str; 4], &Carried)> {
    meters.iter().flat_map(|(customer, circuits)| {
        circuits.iter().flat_map(move |(circuit, peerings)| {
            peerings.iter().flat_map(move |(peering, links)| {
                let names = move |link| [customer.as_str(), circuit.as_str(), peering.as_str(), link];
                links.iter().map(move |(link, carried)| (names(link.as_str()), carried))
            })
        })
    })
}

impl Carried {
    fn add(&mut self, other: &Carried) {
        self.r#in.add(&other.r#in);
        self.out.add(&other.out);
    }
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Link;
    use crate::observe::json;

    #[test]
    fn readings_stand_under_their_names() {
        let reading = |customer: &str, link, packets| MeterReading {
            customer: customer.to_owned(),
            circuit: "er1".to_owned(),
            peering: "AzurePrivatePeering".to_owned(),
            link,
            meter: Meter { packets: [packets, 1], bytes: [packets * 100, 60], over: [0, 0] },
        };
        let all = [
            reading("fabrikam", Link::Primary, 7),
            reading("contoso", Link::Secondary, 0),
            reading("contoso", Link::Primary, 2),
        ];
        assert_eq!(
            json::line(&meters(&all)),
            r#"{"contoso": {"er1": {"AzurePrivatePeering": {"primary": {"in": {"packets": 2, "bytes": 200}, "out": {"packets": 1, "bytes": 60}}, "secondary": {"in": {"packets": 0, "bytes": 0}, "out": {"packets": 1, "bytes": 60}}}}}, "fabrikam": {"er1": {"AzurePrivatePeering": {"primary": {"in": {"packets": 7, "bytes": 700}, "out": {"packets": 1, "bytes": 60}}}}}}"#
        );
        assert_eq!(json::line(&meters(&[])), "{}");
    }
}
