//! Reading the fields of one map: every reader says what is wrong where it stands, and the caller goes on.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::report::{Read, Report, Reported, alternatives, did_you_mean, nearest};
use crate::model::azure;
use crate::model::node::{Entry, Kind, Node};
use crate::types::{Prefix, PrefixError};

/// The fields of one map, and what the map is, for sentences: `subnet 'web'`.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// The map.
    pub node: &'a Node,
    /// What it is: `subnet`.
    kind: &'static str,
    /// Which one; empty when it has no name.
    name: &'a str,
    /// A resource of Azure: letter case of names and enumerations is free, empty texts count as unset.
    azure: bool,
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{} '{}'", self.kind, self.name.escape_debug())
        } else if self.kind.starts_with("the ") {
            f.write_str(self.kind)
        } else {
            write!(f, "this {}", self.kind)
        }
    }
}

impl<'a> Fields<'a> {
    /// The fields of a resource of Azure, or of a part of one.
    pub fn azure(node: &'a Node, kind: &'static str, name: &'a str) -> Fields<'a> {
        Fields { node, kind, name, azure: true }
    }

    /// The fields of one of Clearway's own maps; faults if it is no map or has a field of an unknown name.
    pub fn own(
        report: &mut Report,
        node: &'a Node,
        kind: &'static str,
        name: &'a str,
        known: &[&'static str],
    ) -> Read<Fields<'a>> {
        let fields = Fields { node, kind, name, azure: false };
        let Some(entries) = node.as_map() else {
            let known = known.join(", ");
            return Err(report.fault(node, format!("{fields} must be a map with the fields {known}")));
        };
        for entry in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            fields.unknown(report, entry, known);
        }
        Ok(fields)
    }

    fn unknown(&self, report: &mut Report, entry: &Entry, known: &[&'static str]) {
        let hint = did_you_mean(&entry.key, known.iter().copied());
        let fields = alternatives(known.iter().copied());
        report.fault_at(&entry.mark, &entry.key, format!("is no field of {self}{hint}; it has {fields}"));
    }

    /// Warns of an unknown field that looks like one of these misspelt: it would be ignored as an extra field of an export.
    pub fn misspelt(&self, report: &mut Report, known: &[&'static str]) {
        for entry in self.node.entries() {
            let exact = known.iter().any(|k| k.eq_ignore_ascii_case(&entry.key));
            if exact || entry.key.len() < 6 {
                continue;
            }
            let close = known.iter().find(|k| super::report::distance(k, &entry.key) == 1);
            if let Some(known) = close.filter(|k| self.get(k).is_none()) {
                let message = format!("is no field of {self} and is ignored; did you mean {known}?");
                report.warn_at(&entry.mark, &entry.key, message);
            }
        }
    }

    /// The value of a field; null counts as unset.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        let node = if self.azure { self.node.get_ci(key) } else { self.node.get(key) };
        node.filter(|n| !(n.is_null() || self.azure && is_empty(n)))
    }

    /// True if a field of Clearway's own map looks like one of these misspelt; that fault is told already.
    pub fn misspells(&self, keys: &[&str]) -> bool {
        let similar =
            |e: &Entry| !keys.contains(&e.key.as_str()) && nearest(&e.key, keys.iter().copied()).is_some();
        !self.azure && self.node.entries().iter().any(similar)
    }

    /// The fault of a field that is not there.
    pub fn lacks(&self, report: &mut Report, key: &str, right: &str) -> Reported {
        if self.misspells(&[key]) {
            return Reported;
        }
        report.lacks(self.node, format!("{self} has no {key}; {right}"))
    }

    /// `KEY of SUBNET 'web'`.
    pub fn of(&self, key: &str) -> String {
        format!("{key} of {self}")
    }

    /// A text.
    pub fn text(&self, report: &mut Report, key: &str) -> Read<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => text(report, node, || self.of(key)).map(Some),
        }
    }

    /// True or false; `default` when unset. Templates also write it as a text.
    pub fn flag(&self, report: &mut Report, key: &str, default: bool) -> Read<bool> {
        let Some(node) = self.get(key) else { return Ok(default) };
        let text = node.as_str().filter(|_| self.azure).map(str::to_ascii_lowercase);
        match (&node.kind, text.as_deref()) {
            (Kind::Bool(b), _) => Ok(*b),
            (_, Some("true")) => Ok(true),
            (_, Some("false")) => Ok(false),
            _ => {
                computed(report, node, || self.of(key))?;
                Err(report.fault(node, format!("{} must be true or false", self.of(key))))
            }
        }
    }

    /// A whole number within bounds. Azure's tools also write it as a text.
    pub fn number(&self, report: &mut Report, key: &str, bounds: RangeInclusive<u64>) -> Read<Option<u64>> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let text = node.as_text().filter(|_| self.azure || matches!(node.kind, Kind::Number(_)));
        let value = text.filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok());
        match value {
            Some(n) if bounds.contains(&n) => Ok(Some(n)),
            _ => {
                computed(report, node, || self.of(key))?;
                let (low, high) = bounds.into_inner();
                let what = self.of(key);
                Err(report.fault(node, format!("{what} must be a whole number from {low} to {high}")))
            }
        }
    }

    /// One of a few words. Azure's may be in any letter case.
    pub fn word<T: Copy>(
        &self,
        report: &mut Report,
        key: &str,
        words: &[(&'static str, T)],
    ) -> Read<Option<T>> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let text = node.as_text().unwrap_or_default();
        let same = |w: &str| if self.azure { w.eq_ignore_ascii_case(text) } else { w == text };
        match words.iter().find(|(w, _)| same(w)) {
            Some(&(_, value)) => Ok(Some(value)),
            None => {
                computed(report, node, || self.of(key))?;
                let names = || words.iter().map(|&(w, _)| w);
                let message = format!("{} must be {}", self.of(key), alternatives(names()));
                Err(report.fault(node, message + &did_you_mean(text, names())))
            }
        }
    }

    /// A list; empty when unset.
    pub fn list(&self, report: &mut Report, key: &str) -> Read<&'a [Node]> {
        match self.get(key) {
            None => Ok(&[]),
            Some(node) => match node.as_list() {
                Some(items) => Ok(items),
                None => {
                    computed(report, node, || self.of(key))?;
                    Err(report.fault(node, format!("{} must be a list", self.of(key))))
                }
            },
        }
    }

    /// The fields of a map inside this one.
    pub fn map(&self, report: &mut Report, key: &'static str) -> Read<Option<Fields<'a>>> {
        let Some(node) = self.get(key) else { return Ok(None) };
        if node.as_map().is_none() {
            computed(report, node, || self.of(key))?;
            return Err(report.fault(node, format!("{} must be a map", self.of(key))));
        }
        Ok(Some(Fields { node, ..*self }))
    }

    /// An address.
    pub fn address(&self, report: &mut Report, key: &str) -> Read<Option<IpAddr>> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => address(report, node, || self.of(key)).map(Some),
        }
    }

    /// A prefix.
    pub fn prefix(&self, report: &mut Report, key: &str) -> Read<Option<Prefix>> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => prefix(report, node, || self.of(key)).map(Some),
        }
    }

    /// The prefixes of a list, each with where it stands; true if all of them could be read.
    pub fn prefixes(&self, report: &mut Report, key: &str) -> (Vec<(Prefix, &'a Node)>, bool) {
        let Ok(items) = self.list(report, key) else { return (Vec::new(), false) };
        let read: Vec<_> =
            items.iter().filter_map(|n| prefix(report, n, || self.of(key)).ok().map(|p| (p, n))).collect();
        let whole = read.len() == items.len();
        (read, whole)
    }
}

/// True of a value that Azure's tools print for an unset one.
fn is_empty(node: &Node) -> bool {
    match &node.kind {
        Kind::String(text) => text.is_empty(),
        Kind::List(items) => items.is_empty(),
        _ => false,
    }
}

/// Faults if the value is an expression of a template that could not be computed.
pub fn computed(report: &mut Report, node: &Node, what: impl FnOnce() -> String) -> Read<()> {
    match node.as_str().and_then(azure::unresolved) {
        None => Ok(()),
        Some(why) => Err(report.fault(node, format!("{} {why}", what()))),
    }
}

/// A text that is not empty.
pub fn text<'a>(report: &mut Report, node: &'a Node, what: impl FnOnce() -> String) -> Read<&'a str> {
    match node.as_text() {
        Some(text) if !text.is_empty() => {
            if azure::unresolved(text).is_some() {
                computed(report, node, what)?;
            }
            Ok(text)
        }
        _ => Err(report.fault(node, format!("{} must be a text", what()))),
    }
}

/// One address.
pub fn address(report: &mut Report, node: &Node, what: impl Fn() -> String) -> Read<IpAddr> {
    let text = text(report, node, &what)?;
    text.parse().map_err(|_| {
        let message = format!("{} must be an IP address such as 10.1.0.4 or fd00::4", what());
        report.fault(node, message)
    })
}

/// One prefix.
pub fn prefix(report: &mut Report, node: &Node, what: impl Fn() -> String) -> Read<Prefix> {
    let text = text(report, node, &what)?;
    text.parse().map_err(|error: PrefixError| report.fault(node, format!("{} {error}", what())))
}
