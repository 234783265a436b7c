//! A configuration document as a tree whose every value knows where it stands.

use std::sync::Arc;

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
