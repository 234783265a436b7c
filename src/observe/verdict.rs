//! What became of one packet, with its names: a line of `verdicts.jsonl`.

use std::io::Write;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::compile::Program;
use crate::packet::Outcome;
use crate::types::{Nanos, Prefix, SECOND};

/// A packet's verdict; the fields of a line in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictLine<'a> {
    /// Its number, from 1.
    pub packet: u64,
    /// Its own time.
    pub time: Time,
    /// The port it came in by.
    pub port: &'a str,
    /// The customer, once known.
    pub customer: Option<&'a str>,
    /// The VNet, once known.
    pub vnet: Option<&'a str>,
    /// `forward`, `drop` or `punt`.
    pub verdict: &'static str,
    /// Why, unless forwarded.
    pub reason: Option<&'static str>,
    /// `new`, `established` or `none`.
    pub flow: &'static str,
    /// The rule that decided last, as flow logs write it.
    pub rule: Option<&'a str>,
    /// The next hop type of the route that won.
    pub next_hop_type: Option<&'static str>,
    /// The prefix of the route that won.
    #[serde(serialize_with = "as_text")]
    pub route_prefix: Option<Prefix>,
    /// The port it left by.
    pub egress_port: Option<&'a str>,
    /// The outer destination it left to.
    pub egress_remote: Option<IpAddr>,
    /// The GRE key it left with, as on the wire.
    pub egress_key: Option<u32>,
}

/// A time with as many digits behind the second as its capture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The time.
    pub at: Nanos,
    /// 6 or 9 digits.
    pub digits: u8,
}

impl<'a> VerdictLine<'a> {
    /// Gives an outcome its names.
    pub fn new(
        packet: u64,
        time: Time,
        port: &'a str,
        outcome: &Outcome,
        program: &'a Program,
    ) -> VerdictLine<'a> {
        let names = &*program.names;
        let egress = outcome.egress;
        let tunnel = egress.and_then(|e| e.tunnel);
        let named =
            |e: crate::packet::Egress| program.ports.get(usize::from(e.port)).map(|p| p.name.as_str());
        VerdictLine {
            packet,
            time,
            port,
            customer: outcome.customer.map(|n| names.customer_name(n)),
            vnet: outcome.vnet.map(|n| names.vnet_name(n)),
            verdict: outcome.verdict.name(),
            reason: outcome.verdict.reason().map(|r| r.name()),
            flow: outcome.flow.name(),
            rule: outcome.rule.map(|n| names.rule_name(n)),
            next_hop_type: outcome.route.map(|r| r.0.name()),
            route_prefix: outcome.route.map(|r| r.1),
            egress_port: egress.and_then(named),
            egress_remote: tunnel.map(|t| t.0),
            egress_key: tunnel.map(|t| t.1),
        }
    }

    /// Appends the line, without its end. The same as [`super::json::line`], many times faster.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"packet\": ");
        number(out, self.packet);
        out.extend_from_slice(b", \"time\": \"");
        self.time.write(out);
        out.extend_from_slice(b"\", \"port\": ");
        string(out, self.port);
        out.extend_from_slice(b", \"customer\": ");
        optional(out, self.customer);
        out.extend_from_slice(b", \"vnet\": ");
        optional(out, self.vnet);
        out.extend_from_slice(b", \"verdict\": ");
        string(out, self.verdict);
        out.extend_from_slice(b", \"reason\": ");
        optional(out, self.reason);
        out.extend_from_slice(b", \"flow\": ");
        string(out, self.flow);
        out.extend_from_slice(b", \"rule\": ");
        optional(out, self.rule);
        out.extend_from_slice(b", \"nextHopType\": ");
        optional(out, self.next_hop_type);
        out.extend_from_slice(b", \"routePrefix\": ");
        match self.route_prefix {
            None => out.extend_from_slice(b"null"),
            Some(prefix) => {
                out.push(b'"');
                address(out, prefix.first());
                out.push(b'/');
                number(out, u64::from(prefix.len()));
                out.push(b'"');
            }
        }
        out.extend_from_slice(b", \"egressPort\": ");
        optional(out, self.egress_port);
        out.extend_from_slice(b", \"egressRemote\": ");
        match self.egress_remote {
            None => out.extend_from_slice(b"null"),
            Some(remote) => {
                out.push(b'"');
                address(out, remote);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b", \"egressKey\": ");
        match self.egress_key {
            None => out.extend_from_slice(b"null"),
            Some(key) => number(out, u64::from(key)),
        }
        out.push(b'}');
    }
}

impl Time {
    fn write(self, out: &mut Vec<u8>) {
        number(out, self.at / SECOND);
        out.push(b'.');
        let nanos = self.at % SECOND;
        let (mut rest, digits) = if self.digits > 6 { (nanos, 9) } else { (nanos / 1000, 6) };
        let start = out.len();
        out.resize(start + digits, b'0');
        for place in out.iter_mut().skip(start).rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (seconds, nanos) = (self.at / SECOND, self.at % SECOND);
        match self.digits {
            0..=6 => serializer.collect_str(&format_args!("{seconds}.{:06}", nanos / 1000)),
            _ => serializer.collect_str(&format_args!("{seconds}.{nanos:09}")),
        }
    }
}

fn as_text<S: Serializer>(prefix: &Option<Prefix>, serializer: S) -> Result<S::Ok, S::Error> {
    match prefix {
        Some(prefix) => serializer.collect_str(prefix),
        None => serializer.serialize_none(),
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            number(out, u64::from(a));
            for byte in [b, c, d] {
                out.push(b'.');
                number(out, u64::from(byte));
            }
        }
        IpAddr::V6(a) => {
            // Writing to memory cannot fail.
            let _ = write!(out, "{a}");
        }
    }
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) => string(out, text),
    }
}

/// A JSON string; names hardly ever need escaping.
fn string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(super::json::line(&text).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::json;

    fn all<'a>() -> Vec<VerdictLine<'a>> {
        let time = Time { at: 1_542_110_402_000_001_000, digits: 6 };
        let forward = VerdictLine {
            packet: 1,
            time,
            port: "fabric",
            customer: Some("contoso"),
            vnet: Some("hub"),
            verdict: "forward",
            reason: None,
            flow: "new",
            rule: Some("DefaultRule_AllowInternetOutBound"),
            next_hop_type: Some("Internet"),
            route_prefix: Some(Prefix::ALL_V4),
            egress_port: Some("internet"),
            egress_remote: None,
            egress_key: None,
        };
        let odd = VerdictLine {
            packet: u64::MAX,
            time: Time { at: u64::MAX, digits: 9 },
            customer: Some("\"quoted\" \\ \n \u{1} ünïcode \u{7f}"),
            vnet: Some("ends in \\"),
            rule: Some(""),
            route_prefix: Some("fd00:1::/48".parse().unwrap()),
            egress_remote: Some("2001:db8::1".parse().unwrap()),
            egress_key: Some(u32::MAX),
            ..forward
        };
        let nothing = VerdictLine {
            packet: 0,
            time: Time { at: 7, digits: 9 },
            customer: None,
            vnet: None,
            verdict: "drop",
            reason: Some("not-ip"),
            flow: "none",
            rule: None,
            next_hop_type: None,
            route_prefix: None,
            egress_port: None,
            ..forward
        };
        let remote = Some("203.0.113.77".parse().unwrap());
        let tunnel = VerdictLine { packet: 10, egress_remote: remote, egress_key: Some(0), ..forward };
        vec![forward, odd, nothing, tunnel]
    }

    #[test]
    fn a_line_is_as_the_contract_prints_it() {
        let mut line = Vec::new();
        all()[0].write(&mut line);
        let printed = r#"{"packet": 1, "time": "1542110402.000001", "port": "fabric", "customer": "contoso", "vnet": "hub", "verdict": "forward", "reason": null, "flow": "new", "rule": "DefaultRule_AllowInternetOutBound", "nextHopType": "Internet", "routePrefix": "0.0.0.0/0", "egressPort": "internet", "egressRemote": null, "egressKey": null}"#;
        assert_eq!(String::from_utf8(line).unwrap(), printed);
    }

    #[test]
    fn the_fast_writer_says_what_serde_says() {
        for verdict in all() {
            let mut line = Vec::new();
            verdict.write(&mut line);
            assert_eq!(String::from_utf8(line).unwrap(), json::line(&verdict));
        }
        for digits in [6, 9] {
            for at in [0, 1, 999, 1000, 999_999_999, SECOND, 12_345_678_901_234_567_890] {
                let mut text = Vec::new();
                Time { at, digits }.write(&mut text);
                let quoted = format!("\"{}\"", String::from_utf8(text).unwrap());
                assert_eq!(quoted, json::line(&Time { at, digits }));
            }
        }
    }
}
