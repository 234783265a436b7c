//! What circuit links have carried, by customer, circuit, peering and link: `meters.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dataplane::{Meter, Toward};
use crate::runtime::MeterReading;

/// Customers with their circuits, those with their peerings, those with their links.
pub type Meters<'a> =
    BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'static str, Carried>>>>;

/// What one link has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// From the customer: what passed the link's bandwidth, with its length as received.
    r#in: Count,
    /// To the customer: what was sent, after fragmenting.
    out: Count,
}

/// Packets, and the bytes of the customer's IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Count {
    packets: u64,
    bytes: u64,
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
pub fn meters(readings: &[MeterReading]) -> Meters<'_> {
    let mut meters = Meters::new();
    for MeterReading { customer, circuit, peering, link, meter } in readings {
        let circuits = meters.entry(customer).or_default();
        let links = circuits.entry(circuit).or_default().entry(peering).or_default();
        links.insert(link.name(), Carried::from(meter));
    }
    meters
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
            meter: Meter { packets: [packets, 1], bytes: [packets * 100, 60] },
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
