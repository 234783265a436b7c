//! What somebody asks about a packet, in the names that he knows: of a file, or of a running appliance.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::find;
use super::walk::{Entry, Question};
use crate::model::{Customer, Model};

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The customer.
    pub customer: String,
    /// The VNet that it comes from, or goes to when it enters elsewhere than by the fabric.
    pub vnet: String,
    /// Protocol number; of ICMP 1 or 58, as the addresses are.
    pub protocol: u8,
    /// The source; port 0 where the protocol has no ports.
    pub from: SocketAddr,
    /// The destination.
    pub to: SocketAddr,
    /// Where it enters.
    #[serde(default)]
    pub entry: EntryName,
}

/// Where a packet enters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EntryName {
    /// From a host of the VNet.
    #[default]
    Fabric,
    /// By a circuit's private peering.
    Circuit(String),
    /// By a connection.
    Connection(String),
    /// From the Internet.
    Internet,
}

impl FromStr for EntryName {
    type Err = String;

    fn from_str(text: &str) -> Result<EntryName, String> {
        match text.split_once(':') {
            None if text == "fabric" => Ok(EntryName::Fabric),
            None if text == "internet" => Ok(EntryName::Internet),
            Some(("circuit", name)) if !name.is_empty() => Ok(EntryName::Circuit(name.to_owned())),
            Some(("connection", name)) if !name.is_empty() => Ok(EntryName::Connection(name.to_owned())),
            _ => Err("is none of fabric, circuit:NAME, connection:NAME and internet".to_owned()),
        }
    }
}

impl TryFrom<String> for EntryName {
    type Error = String;

    fn try_from(text: String) -> Result<EntryName, String> {
        text.parse().map_err(|why| format!("entry '{text}' {why}"))
    }
}

impl From<EntryName> for String {
    fn from(entry: EntryName) -> String {
        match entry {
            EntryName::Fabric => "fabric".to_owned(),
            EntryName::Circuit(name) => format!("circuit:{name}"),
            EntryName::Connection(name) => format!("connection:{name}"),
            EntryName::Internet => "internet".to_owned(),
        }
    }
}

impl Asked {
    /// What its names stand for in this model; a sentence if there is no such thing.
    pub fn of(&self, model: &Model) -> Result<Question, String> {
        let (customer, vnet) = find::customer_and_vnet(model, &self.customer, &self.vnet)?;
        let entry = entry(customer, &self.entry)?;
        let index = model.customers.iter().position(|c| c.name == customer.name).unwrap_or_default();
        let side = |socket: SocketAddr| (socket.ip(), socket.port());
        let (from, to) = (side(self.from), side(self.to));
        Ok(Question { customer: index, vnet, protocol: self.protocol, from, to, entry })
    }
}

fn entry(customer: &Customer, name: &EntryName) -> Result<Entry, String> {
    let of = format!("of customer '{}'", customer.name);
    Ok(match name {
        EntryName::Fabric => Entry::Fabric,
        EntryName::Internet => Entry::Internet,
        EntryName::Circuit(name) => {
            let names = customer.circuits.iter().map(|c| c.name.as_str());
            Entry::Circuit(find::one("circuit", name, &of, names)?)
        }
        EntryName::Connection(name) => {
            let names = customer.connections.iter().map(|c| c.name.as_str());
            Entry::Connection(find::one("connection", name, &of, names)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_goes_over_the_wire_and_back() {
        for entry in ["fabric", "internet", "circuit:er1", "connection:a:b"] {
            let asked = Asked {
                customer: "contoso".to_owned(),
                vnet: "hub".to_owned(),
                protocol: 6,
                from: "[fd00::4]:50000".parse().unwrap(),
                to: "[fd00::5]:443".parse().unwrap(),
                entry: entry.parse().unwrap(),
            };
            let text = serde_json::to_string(&asked).unwrap();
            assert!(text.contains(&format!("\"entry\":\"{entry}\"")), "{text}");
            assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked);
        }
        assert!("circuit:".parse::<EntryName>().is_err() && "edge".parse::<EntryName>().is_err());
    }
}
