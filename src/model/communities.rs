//! Microsoft's service communities, and the prefixes behind each: what `az network route-filter rule
//! list-service-communities` or the REST interface gives, or `Get-AzBgpServiceCommunity` of PowerShell as JSON.

use std::collections::BTreeMap;

use super::azure::flatten;
use super::fault::Fault;
use super::node::Node;
use super::text::{self, MAX_FAULTS};
use crate::types::Prefix;

/// Prefixes at most of all communities together; Azure's list has some ten thousand.
const MAX_PREFIXES: usize = 200_000;

/// A community as BGP writes it: `12076:5010` is 12076 in the upper half.
pub fn parse_community(text: &str) -> Option<u32> {
    let (asn, number) = text.split_once(':')?;
    let half = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    Some(u32::from(half(asn)?) << 16 | u32::from(half(number)?))
}

/// A community in words: `12076:5010`.
pub fn write_community(community: u32) -> String {
    format!("{}:{}", community >> 16, community & 0xffff)
}

/// The prefixes of every community of a file, each once, in their order.
pub(super) fn read_communities(file: &str, bytes: &[u8]) -> Result<BTreeMap<u32, Vec<Prefix>>, Vec<Fault>> {
    let document = flatten(&text::parse(file, bytes)?);
    let services = match document.get_ci("value") {
        // Whoever asks PowerShell for one service gets no list.
        None if document.get_ci("bgpCommunities").is_some() => Some(std::slice::from_ref(&document)),
        None => document.as_list(),
        Some(list) => list.as_list(),
    };
    let Some(services) = services.filter(|s| !s.is_empty()) else {
        let message = "is no list of service communities, as 'az network route-filter rule \
                       list-service-communities' prints it";
        return Err(vec![document.fault(message)]);
    };
    let mut reading = Reading { found: BTreeMap::new(), prefixes: 0, faults: Vec::new() };
    for service in services {
        reading.service(service);
    }
    if let Some(next) = document.get_ci("nextLink").filter(|n| n.as_str().is_some_and(|t| !t.is_empty())) {
        reading.refuse(next.fault("the list goes on at this address; put all of its pages into the file"));
    }
    if !reading.faults.is_empty() {
        return Err(reading.faults);
    }
    for prefixes in reading.found.values_mut() {
        prefixes.sort_unstable();
        prefixes.dedup();
    }
    Ok(reading.found)
}

struct Reading {
    found: BTreeMap<u32, Vec<Prefix>>,
    prefixes: usize,
    faults: Vec<Fault>,
}

impl Reading {
    fn refuse(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn service(&mut self, service: &Node) {
        match service.get_ci("bgpCommunities").map(|list| (list, list.as_list())) {
            Some((_, Some(communities))) => communities.iter().for_each(|one| self.community(one)),
            Some((list, None)) => self.refuse(list.fault("bgpCommunities must be a list")),
            None => self.refuse(service.fault("a service needs its bgpCommunities")),
        }
    }

    fn community(&mut self, node: &Node) {
        let Some(value) = node.get_ci("communityValue") else {
            return self.refuse(node.fault("a community needs a communityValue such as 12076:5010"));
        };
        let Some(community) = value.as_text().and_then(parse_community) else {
            return self.refuse(value.fault("is no BGP community such as 12076:5010"));
        };
        let list = node.get_ci("communityPrefixes").filter(|l| !l.is_null());
        let Some(items) = list.map_or(Some(&[][..]), Node::as_list) else {
            let message = "communityPrefixes must be a list (in PowerShell: ConvertTo-Json -Depth 5)";
            return self.refuse(list.unwrap_or(node).fault(message));
        };
        self.prefixes = self.prefixes.saturating_add(items.len());
        if self.prefixes > MAX_PREFIXES {
            let message = format!("is too much: at most {MAX_PREFIXES} prefixes of communities are read");
            return self.refuse(node.fault(message));
        }
        let mut prefixes = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str().map(str::parse::<Prefix>) {
                Some(Ok(prefix)) => prefixes.push(prefix),
                Some(Err(error)) => self.refuse(item.fault(error.to_string())),
                None => self.refuse(item.fault("is not an IP prefix such as 13.107.6.152/31")),
            }
        }
        // Azure lists some communities under several services.
        self.found.entry(community).or_default().extend(prefixes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: u32 = 12076 << 16 | 5010;

    #[test]
    fn communities_are_two_numbers() {
        assert_eq!(parse_community("12076:5010"), Some(EXCHANGE));
        assert_eq!((parse_community("0:0"), parse_community("65535:65535")), (Some(0), Some(u32::MAX)));
        assert_eq!(write_community(EXCHANGE), "12076:5010");
        for wrong in
            ["", "12076", ":", "12076:", ":5010", "65536:1", "1:65536", "1:+2", "1:2:3", "a:b", " 1:2"]
        {
            assert_eq!(parse_community(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_shape_is_the_same_list() {
        let az = r#"[{"name": "Exchange", "serviceName": "Exchange", "bgpCommunities": [
            {"communityName": "Exchange", "communityValue": "12076:5010", "serviceGroup": "O365", "isAuthorizedToUse": false,
             "communityPrefixes": ["13.107.18.10/31", "13.107.6.152/31", "2603:1006::/40"]}]},
            {"name": "Other", "bgpCommunities": [
            {"communityValue": "12076:5010", "communityPrefixes": ["13.107.6.152/31"]},
            {"communityValue": "12076:5020", "communityPrefixes": null}]}]"#;
        let rest =
            az.replace("\"bgpCommunities\":", "\"properties\": {\"bgpCommunities\":").replace("}]}", "}]}}");
        let rest = format!("{{\"value\": {rest}}}");
        let powershell = az.replace("bgpC", "BgpC").replace("community", "Community");
        let found = read_communities("c.json", az.as_bytes()).unwrap();
        let texts = |c: u32| found[&c].iter().map(Prefix::to_string).collect::<Vec<_>>();
        assert_eq!(found.len(), 2);
        assert_eq!(texts(EXCHANGE), ["13.107.6.152/31", "13.107.18.10/31", "2603:1006::/40"]);
        assert!(texts(12076 << 16 | 5020).is_empty());
        for other in [rest, powershell] {
            assert_eq!(read_communities("c.json", other.as_bytes()).unwrap(), found, "{other}");
        }
        let one = r#"{"Name": "x", "BgpCommunities": [{"CommunityValue": "1:2", "CommunityPrefixes": ["10.0.0.0/8"]}]}"#;
        assert_eq!(read_communities("c.json", one.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn says_where_it_is_wrong() {
        let community = |inner: &str| format!("[{{\"bgpCommunities\": [{{{inner}}}]}}]");
        for (text, fault) in [
            ("{}".to_owned(), "c.json:1:1: error: '{}': is no list of service communities"),
            ("[]".to_owned(), "is no list of service communities"),
            ("[7]".to_owned(), "c.json:1:2: error: '7': a service needs its bgpCommunities"),
            (
                "[{\"bgpCommunities\": 7}]".to_owned(),
                "c.json:1:21: error: '7': bgpCommunities must be a list",
            ),
            (community(""), "a community needs a communityValue"),
            (community("\"communityValue\": \"12076\""), "'12076': is no BGP community such as 12076:5010"),
            (
                community("\"communityValue\": \"1:2\", \"communityPrefixes\": \"10.0.0.0/8 11.0.0.0/8\""),
                "must be a list (in PowerShell: ConvertTo-Json -Depth 5)",
            ),
            (
                community("\"communityValue\": \"1:2\", \"communityPrefixes\": [\"10.0.0.1/8\"]"),
                "'10.0.0.1/8': has bits set behind its length; 10.0.0.0/8 would be right",
            ),
            (
                community("\"communityValue\": \"1:2\", \"communityPrefixes\": [7]"),
                "'7': is not an IP prefix",
            ),
            (
                "{\"value\": [{\"bgpCommunities\": []}], \"nextLink\": \"https://x\"}".to_owned(),
                "the list goes on",
            ),
        ] {
            let faults = read_communities("c.json", text.as_bytes()).unwrap_err();
            assert!(faults[0].to_string().contains(fault), "{text}: {}", faults[0]);
        }
        let many = vec!["\"10.0.0.0/8\""; 10_000].join(",");
        let one = format!("{{\"communityValue\": \"1:2\", \"communityPrefixes\": [{many}]}}");
        let text = format!("[{{\"bgpCommunities\": [{}]}}]", vec![one.as_str(); 21].join(","));
        let faults = read_communities("c.json", text.as_bytes()).unwrap_err();
        assert!(faults.len() == 1 && faults[0].message.contains("at most 200000 prefixes"), "{}", faults[0]);
    }
}
