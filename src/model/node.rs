//! A configuration document as a tree whose every value knows where it stands.

use std::sync::Arc;

use super::fault::{Fault, Severity};

/// How deep the values of a document may be nested; Azure's own exports stay below 20.
pub const MAX_DEPTH: usize = 128;

/// Longest text of a value in a fault, in characters.
const MAX_DESCRIPTION: usize = 80;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One value of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of values that YAML and JSON share.
#[derive(Clone, Debug)]
pub enum Kind {
    /// null, `~` or nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A number, as written (`0xa01`, `100`, `1.5`).
    Number(String),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; no key twice.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

impl Mark {
    /// An error at this place; `value` is the offending value, empty when something is missing.
    pub fn fault(&self, value: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault {
            severity: Severity::Error,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            value: value.into(),
            message: message.into(),
        }
    }
}

impl Node {
    /// The entry with this key, letter for letter; nothing if this is no map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The entry with this key in any letter case: Azure's tools disagree (`privateIPAddress`, `privateIpAddress`).
    pub fn entry_ci(&self, key: &str) -> Option<&Entry> {
        self.entry(key).or_else(|| self.entries().iter().find(|e| e.key.eq_ignore_ascii_case(key)))
    }

    /// The value of [`Node::entry`].
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The value of [`Node::entry_ci`].
    pub fn get_ci(&self, key: &str) -> Option<&Node> {
        self.entry_ci(key).map(|e| &e.value)
    }

    /// The text, if this is a text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(s) => Some(s),
            _ => None,
        }
    }

    /// The text of a text or, as written, of a number: names and ports are written either way.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(s) | Kind::Number(s) => Some(s),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if this is a map.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries of a map; of anything else, none.
    pub fn entries(&self) -> &[Entry] {
        self.as_map().unwrap_or(&[])
    }

    /// True of null.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// What kind of value this is, for sentences: `a list`.
    pub fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::String(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// The value in one short line, for [`Fault::value`]; long ones are cut and end in `...`.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        self.describe_into(&mut out);
        if out.chars().count() > MAX_DESCRIPTION {
            out = out.chars().take(MAX_DESCRIPTION - 3).collect::<String>() + "...";
        }
        out
    }

    /// Writes at least as much as [`Node::describe`] keeps, and not much more.
    fn describe_into(&self, out: &mut String) {
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Kind::Number(s) | Kind::String(s) => out.extend(s.chars().take(MAX_DESCRIPTION + 1)),
            Kind::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if out.len() > 4 * MAX_DESCRIPTION {
                        return;
                    }
                    out.push_str(if i == 0 { "" } else { ", " });
                    item.describe_into(out);
                }
                out.push(']');
            }
            Kind::Map(entries) => {
                out.push('{');
                for (i, entry) in entries.iter().enumerate() {
                    if out.len() > 4 * MAX_DESCRIPTION {
                        return;
                    }
                    out.push_str(if i == 0 { "" } else { ", " });
                    out.extend(entry.key.chars().take(MAX_DESCRIPTION));
                    out.push_str(": ");
                    // A secret stays one, also where the map around it is quoted.
                    if entry.key.eq_ignore_ascii_case("sharedKey") {
                        out.push_str("...");
                    } else {
                        entry.value.describe_into(out);
                    }
                }
                out.push('}');
            }
        }
    }

    /// How much the value holds (values; 16 bytes of text count as one more), and how deep it is.
    pub(super) fn size(&self) -> (usize, usize) {
        let (mut total, mut depth) = (1, 0);
        match &self.kind {
            Kind::Null | Kind::Bool(_) => {}
            Kind::Number(text) | Kind::String(text) => total += text.len() / 16,
            Kind::List(items) => {
                for (size, below) in items.iter().map(Node::size) {
                    (total, depth) = (total + size, depth.max(below));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    let (size, below) = entry.value.size();
                    (total, depth) = (total + size + entry.key.len() / 16, depth.max(below));
                }
            }
        }
        (total, depth + 1)
    }

    /// An error about this value, at its place.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        self.mark.fault(self.describe(), message)
    }

    /// A warning about this value, at its place.
    pub fn warning(&self, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..self.fault(message) }
    }
}

impl Entry {
    /// An error about the key, at its place.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        let key: String = self.key.chars().take(MAX_DESCRIPTION).collect();
        self.mark.fault(key, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn read(yaml: &str) -> Node {
        text::parse("t.yaml", yaml.as_bytes()).unwrap()
    }

    #[test]
    fn finds_entries_with_and_without_regard_to_case() {
        let node = read("{privateIpAddress: 10.0.0.4, n: 7, t: true, l: [1], z: null}");
        assert!(node.entry("privateIPAddress").is_none());
        assert_eq!(node.get_ci("privateIPAddress").and_then(Node::as_str), Some("10.0.0.4"));
        assert_eq!(node.get("n").and_then(Node::as_text), Some("7"));
        assert_eq!(node.get("n").and_then(Node::as_str), None);
        assert_eq!(node.get("t").and_then(Node::as_bool), Some(true));
        assert_eq!(node.get("l").and_then(Node::as_list).map(<[Node]>::len), Some(1));
        assert!(node.get("z").is_some_and(Node::is_null));
    }

    #[test]
    fn describes_values_in_one_short_line() {
        let node = read("{a: [1, x, {b: null}], c: true}");
        assert_eq!(node.describe(), "{a: [1, x, {b: null}], c: true}");
        let long = read(&format!("[{}]", "abcdefgh, ".repeat(100_000)));
        assert_eq!(long.describe().chars().count(), MAX_DESCRIPTION);
        assert!(long.describe().ends_with("..."));
        let secret = read("{peeringType: 7, sharedKey: s3cret, SharedKey: [s3cret], n: 1}");
        assert_eq!(secret.describe(), "{peeringType: 7, sharedKey: ..., SharedKey: ..., n: 1}");
        let fault = node.entries()[1].value.fault("must be a list");
        assert_eq!(fault.to_string(), "t.yaml:1:27: error: 'true': must be a list");
    }
}
