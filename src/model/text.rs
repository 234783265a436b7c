//! From the bytes of a file to its [`Node`] tree: YAML and JSON, in UTF-8 or UTF-16.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::fault::Fault;
use super::json::{self, Keys, duplicate};
use super::node::{Entry, Kind, MAX_DEPTH, Mark, Node};

/// Values a file may hold; Microsoft's largest service tag file holds a tenth of it.
pub const MAX_VALUES: usize = 4_000_000;

/// Faults of one kind that a file is told; more would help nobody.
pub(super) const MAX_FAULTS: usize = 1_000;

/// What all anchors and aliases of a file may copy, in values (16 bytes of text count as one).
const MAX_COPIED: usize = 200_000;

/// Reads one document. The file is only a name here; one that ends in `.json` must be JSON if it begins like it.
pub fn parse(file: &str, text: &[u8]) -> Result<Node, Vec<Fault>> {
    let file: Arc<str> = Arc::from(file);
    let text = decode(&file, text).map_err(|fault| vec![fault])?;
    if text.trim_start().starts_with(['{', '[']) || text.trim_start().starts_with("//") {
        let reading = json::read(&file, &text);
        let named_json = file.len() >= 5 && file.to_ascii_lowercase().ends_with(".json");
        match reading.node {
            Some(node) if reading.faults.is_empty() => return Ok(node),
            // YAML may write maps in braces too, with less quotes than JSON wants.
            None if !named_json => {}
            _ => return Err(reading.faults),
        }
    }
    yaml(&file, &text)
}

/// The text of the bytes: UTF-8, or UTF-16 if a byte order mark says so (Windows PowerShell writes it).
fn decode<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<Cow<'a, str>, Fault> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => decode_utf16(file, rest, u16::from_le_bytes)?.into(),
        [0xfe, 0xff, rest @ ..] => decode_utf16(file, rest, u16::from_be_bytes)?.into(),
        [0xef, 0xbb, 0xbf, rest @ ..] => decode_utf8(file, rest)?,
        _ => decode_utf8(file, bytes)?,
    };
    let forbidden = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if let Some(at) = text.find(forbidden) {
        let before = text.get(..at).unwrap_or("");
        let code = text.get(at..).and_then(|t| t.chars().next()).map_or(0, u32::from);
        let message = "is a control character; the file is damaged or no text";
        return Err(mark_behind(file, before).fault(format!("U+{code:04X}"), message));
    }
    Ok(text)
}

fn decode_utf8<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<Cow<'a, str>, Fault> {
    std::str::from_utf8(bytes).map(Cow::from).map_err(|error| {
        let at = error.valid_up_to();
        let before = bytes.get(..at).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("");
        let value = bytes.get(at).map_or(String::new(), |b| format!("0x{b:02x}"));
        mark_behind(file, before).fault(value, "is no UTF-8; save the file as UTF-8")
    })
}

fn decode_utf16(file: &Arc<str>, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Fault> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match decoded {
            Ok(c) => text.push(c),
            Err(error) => {
                let value = format!("0x{:04x}", error.unpaired_surrogate());
                let message = "is half a surrogate pair, not UTF-16; save the file as UTF-8";
                return Err(mark_behind(file, &text).fault(value, message));
            }
        }
    }
    match odd {
        [] => Ok(text),
        [last, ..] => {
            let message = "is half a character of UTF-16; the file is cut short";
            Err(mark_behind(file, &text).fault(format!("0x{last:02x}"), message))
        }
    }
}

/// The place behind this much text.
fn mark_behind(file: &Arc<str>, text: &str) -> Mark {
    let line = text.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Mark { file: file.clone(), line: small(line), column: small(column) }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A list or map that is being read.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: Keys,
        /// The key whose value comes next.
        key: Option<(String, Mark)>,
        /// Values of `<<`, whose entries stand in for those that the map does not have itself.
        merged: Vec<Node>,
    },
}

struct Anchored {
    node: Node,
    /// Copying it costs this many values.
    cost: usize,
    depth: usize,
}

struct Tree<'a> {
    file: &'a Arc<str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    copied: usize,
    values: usize,
    root: Option<Node>,
    faults: Vec<Fault>,
}

/// Reads YAML. A fault that leaves no sense in what follows ends the reading.
fn yaml(file: &Arc<str>, text: &str) -> Result<Node, Vec<Fault>> {
    let mut tree = Tree {
        file,
        open: Vec::new(),
        anchors: HashMap::new(),
        copied: 0,
        values: 0,
        root: None,
        faults: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((event, span)) => tree.event(event, span.start),
            Err(error) => Err(tree.scan_fault(&error)),
        };
        if let Err(fault) = done {
            tree.faults.push(fault);
            break;
        }
        if tree.faults.len() >= MAX_FAULTS {
            break;
        }
    }
    if !tree.faults.is_empty() {
        // A key that stands twice is seen when its map ends.
        tree.faults.sort_by_key(|fault| (fault.line, fault.column));
        return Err(tree.faults);
    }
    let nothing = Node { mark: Mark { file: file.clone(), line: 1, column: 1 }, kind: Kind::Null };
    Ok(tree.root.unwrap_or(nothing))
}

impl Tree<'_> {
    fn mark(&self, at: Marker) -> Mark {
        Mark { file: self.file.clone(), line: small(at.line()), column: small(at.col() + 1) }
    }

    fn scan_fault(&self, error: &ScanError) -> Fault {
        self.mark(*error.marker()).fault("", format!("the YAML cannot be read from here: {}", error.info()))
    }

    fn event(&mut self, event: Event, at: Marker) -> Result<(), Fault> {
        let mark = self.mark(at);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(mark.fault("---", "a second document begins here; a file holds one"))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &mark);
                self.begin(mark, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &mark);
                let content = Content::Map {
                    entries: Vec::new(),
                    keys: Keys::default(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(mark, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), &mark);
                let is_text = tag.is_some_and(|t| t.suffix == "str") || style != ScalarStyle::Plain;
                let plain_merge = !is_text && text == "<<";
                let kind = if is_text { Kind::String(text.into_owned()) } else { plain(text.into_owned()) };
                self.value(Node { mark, kind }, anchor, plain_merge)
            }
            Event::Alias(anchor) => self.alias(anchor, &mark),
            _ => Ok(()),
        }
    }

    /// Tags other than the core schema's would change what a value means.
    fn check_tag(&mut self, tag: Option<&Tag>, mark: &Mark) {
        let core = ["str", "int", "float", "bool", "null", "map", "seq"];
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && core.contains(&tag.suffix.as_str()))
        {
            self.faults
                .push(mark.fault(tag.to_string(), "is a YAML tag that has no meaning here; remove it"));
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), Fault> {
        if self.open.len() + 1 >= MAX_DEPTH {
            return Err(mark.fault("", format!("is nested too deep: at most {MAX_DEPTH} levels are read")));
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(mark.fault("", "a key must be a text, not a list or map"));
        }
        self.open.push(Open { mark, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind = match open.content {
            Content::List(items) => Kind::List(items),
            Content::Map { mut entries, mut keys, merged, .. } => {
                for node in &merged {
                    self.merge(node, &mut entries, &mut keys);
                }
                Kind::Map(entries)
            }
        };
        self.value(Node { mark: open.mark, kind }, open.anchor, false)
    }

    /// Adds the entries of the map (or maps) behind `<<` that are not there yet.
    fn merge(&mut self, node: &Node, entries: &mut Vec<Entry>, keys: &mut Keys) {
        match &node.kind {
            Kind::Map(more) => {
                for entry in more {
                    if keys.is_new(entries, &entry.key) {
                        entries.push(entry.clone());
                    }
                }
            }
            Kind::List(maps) if maps.iter().all(|m| m.as_map().is_some()) => {
                for map in maps {
                    self.merge(map, entries, keys);
                }
            }
            _ => self.faults.push(node.fault("'<<' takes a map or a list of maps")),
        }
    }

    fn alias(&mut self, anchor: usize, mark: &Mark) -> Result<(), Fault> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(mark.fault("", "this alias stands inside the value that it repeats"));
        };
        if self.open.len() + anchored.depth >= MAX_DEPTH {
            return Err(mark.fault("", format!("is nested too deep: at most {MAX_DEPTH} levels are read")));
        }
        self.copied += anchored.cost;
        if self.copied > MAX_COPIED {
            return Err(mark.fault("", "the aliases up to here repeat too much; write the values out"));
        }
        let node = anchored.node.clone();
        self.value(node, 0, false)
    }

    /// Puts a finished value where it belongs: it is a key, a value of a map, an item of a list, or the document.
    fn value(&mut self, node: Node, anchor: usize, plain_merge: bool) -> Result<(), Fault> {
        self.values += 1;
        if self.values > MAX_VALUES {
            let message = format!("is too much: at most {MAX_VALUES} values are read from a file");
            return Err(node.mark.fault("", message));
        }
        if anchor > 0 {
            let (cost, depth) = node.size();
            self.copied += cost;
            if self.copied > MAX_COPIED {
                return Err(node
                    .mark
                    .fault("", "the anchors up to here hold too much; write the values out"));
            }
            self.anchors.insert(anchor, Anchored { node: node.clone(), cost, depth });
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, keys, key, merged }) => match key.take() {
                None => match node.kind {
                    Kind::String(text) | Kind::Number(text) => {
                        let text = if plain_merge { String::from("\u{0}<<") } else { text };
                        *key = Some((text, node.mark));
                    }
                    Kind::Bool(_) => *key = Some((node.describe(), node.mark)),
                    Kind::Null => return Err(node.mark.fault("", "a key is missing before the ':'")),
                    Kind::List(_) | Kind::Map(_) => return Err(node.fault("a key must be a text")),
                },
                Some((key, _)) if key == "\u{0}<<" => merged.push(node),
                Some((key, mark)) => {
                    if keys.is_new(entries, &key) {
                        entries.push(Entry { key, mark, value: node });
                    } else {
                        self.faults.push(duplicate(&key, &mark));
                    }
                }
            },
        }
        Ok(())
    }
}

/// The value of a scalar without quotes, by YAML's core schema.
fn plain(text: String) -> Kind {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        other if is_number(other) => Kind::Number(text),
        _ => Kind::String(text),
    }
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return all(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (unsigned, None),
    };
    let right = match number.split_once('.') {
        None => all(number, 10),
        Some(("", fraction)) => all(fraction, 10),
        Some((whole, "")) => all(whole, 10),
        Some((whole, fraction)) => all(whole, 10) && all(fraction, 10),
    };
    right && exponent.is_none_or(|e| all(e.strip_prefix(['-', '+']).unwrap_or(e), 10))
}

#[cfg(test)]
mod tests;
