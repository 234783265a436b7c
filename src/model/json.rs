//! JSON as Azure's tools write and read it: RFC 8259, with the comments and line breaks in texts that ARM templates may have.

use std::collections::HashSet;
use std::sync::Arc;

use super::fault::Fault;
use super::node::{Entry, Kind, MAX_DEPTH, Mark, Node};
use super::text::{MAX_FAULTS, MAX_VALUES};

/// What was read: nothing when the text is no JSON, and what is wrong with it.
pub(super) struct Reading {
    pub(super) node: Option<Node>,
    pub(super) faults: Vec<Fault>,
}

/// Reads one document.
pub(super) fn read(file: &Arc<str>, text: &str) -> Reading {
    let mut reader = Reader {
        file: file.clone(),
        text,
        bytes: text.as_bytes(),
        at: 0,
        seen: 0,
        line: 1,
        column: 1,
        values: 0,
        faults: Vec::new(),
    };
    match reader.document() {
        Ok(node) => Reading { node: Some(node), faults: reader.faults },
        Err(fault) => {
            reader.faults.push(*fault);
            Reading { node: None, faults: reader.faults }
        }
    }
}

type Result<T> = std::result::Result<T, Box<Fault>>;

struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// `line` and `column` are those of this byte; it only moves forward, so that all marks together cost one pass.
    seen: usize,
    line: u32,
    column: u32,
    values: usize,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Node> {
        self.space()?;
        let node = self.value(0)?;
        self.space()?;
        match self.peek() {
            None => Ok(node),
            Some(_) => Err(self.error("the document ends before this; a file holds one JSON document")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node> {
        if depth >= MAX_DEPTH {
            return Err(self.error(&format!("is nested too deep: at most {MAX_DEPTH} levels are read")));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error(&format!("is too much: at most {MAX_VALUES} values are read from a file")));
        }
        let mark = self.mark();
        let kind = match self.peek() {
            Some(b'{') => self.map(depth, &mark)?,
            Some(b'[') => self.list(depth, &mark)?,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Kind::Number(self.number()?),
            Some(_) => self.word()?,
            None => return Err(self.error("the file ends where a value should be")),
        };
        Ok(Node { mark, kind })
    }

    fn map(&mut self, depth: usize, begin: &Mark) -> Result<Kind> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = Keys::default();
        self.space()?;
        if self.take(b'}') {
            return Ok(Kind::Map(entries));
        }
        loop {
            self.space()?;
            let mark = self.mark();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes", "map", begin));
            }
            let key = self.string()?;
            self.space()?;
            if !self.take(b':') {
                return Err(self.expected("':' behind the key", "map", begin));
            }
            self.space()?;
            let value = self.value(depth + 1)?;
            if keys.is_new(&entries, &key) {
                entries.push(Entry { key, mark, value });
            } else {
                let fault = duplicate(&key, &mark);
                if self.faults.len() + 1 >= MAX_FAULTS {
                    return Err(Box::new(fault));
                }
                self.faults.push(fault);
            }
            self.space()?;
            if self.take(b'}') {
                return Ok(Kind::Map(entries));
            }
            if !self.take(b',') {
                return Err(self.expected("',' or '}'", "map", begin));
            }
        }
    }

    fn list(&mut self, depth: usize, begin: &Mark) -> Result<Kind> {
        self.at += 1;
        let mut items = Vec::new();
        self.space()?;
        if self.take(b']') {
            return Ok(Kind::List(items));
        }
        loop {
            self.space()?;
            items.push(self.value(depth + 1)?);
            self.space()?;
            if self.take(b']') {
                return Ok(Kind::List(items));
            }
            if !self.take(b',') {
                return Err(self.expected("',' or ']'", "list", begin));
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        let begin = self.mark();
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let Some(run) = rest.bytes().position(|b| b == b'"' || b == b'\\') else {
                return Err(Box::new(begin.fault("", "the text that begins here has no closing quote")));
            };
            out.push_str(rest.get(..run).unwrap_or(""));
            self.at += run;
            if self.take(b'"') {
                return Ok(out);
            }
            out.push(self.escape()?);
        }
    }

    /// The character that the escape at the current backslash stands for.
    fn escape(&mut self) -> Result<char> {
        let begin = self.at;
        let letter = self.bytes.get(begin + 1).copied();
        self.at += 2;
        Ok(match letter {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut unit = self.hex(begin)?;
                if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex(begin)?;
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                match char::from_u32(unit) {
                    Some(c) => c,
                    None => return Err(self.error_at(begin, "is half a surrogate pair, not a character")),
                }
            }
            _ => return Err(self.error_at(begin, "is no JSON escape; a backslash is written \\\\")),
        })
    }

    fn hex(&mut self, begin: usize) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let unit =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u32::from_str_radix(d, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.error_at(begin, "must be \\u and four hexadecimal digits")),
        }
    }

    fn number(&mut self) -> Result<String> {
        let begin = self.at;
        self.take(b'-');
        let whole = self.digits();
        let leading_zero = whole > 1 && self.bytes.get(self.at - whole) == Some(&b'0');
        let mut right = whole > 0 && !leading_zero;
        if self.take(b'.') {
            right &= self.digits() > 0;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            right &= self.digits() > 0;
        }
        match self.text.get(begin..self.at) {
            Some(number) if right => Ok(number.to_owned()),
            _ => Err(self.error_at(begin, "is not a JSON number")),
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }

    fn word(&mut self) -> Result<Kind> {
        let length = self.rest().bytes().take_while(u8::is_ascii_alphanumeric).count();
        let kind = match self.rest().get(..length) {
            Some("null") => Kind::Null,
            Some("true") => Kind::Bool(true),
            Some("false") => Kind::Bool(false),
            _ => return Err(self.error("is no JSON value; texts stand in double quotes")),
        };
        self.at += length;
        Ok(kind)
    }

    /// Passes white space and comments.
    fn space(&mut self) -> Result<()> {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            }
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return Err(self.error("the comment that begins here has no end")),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self) -> Mark {
        self.mark_at(self.at)
    }

    fn mark_at(&mut self, at: usize) -> Mark {
        for &byte in self.bytes.get(self.seen..at).unwrap_or(&[]) {
            if byte == b'\n' {
                self.line += 1;
                self.column = 1;
            } else if byte & 0xc0 != 0x80 {
                self.column += 1;
            }
        }
        self.seen = self.seen.max(at);
        Mark { file: self.file.clone(), line: self.line, column: self.column }
    }

    fn error(&mut self, message: &str) -> Box<Fault> {
        self.error_at(self.at, message)
    }

    fn error_at(&mut self, at: usize, message: &str) -> Box<Fault> {
        let rest = self.text.get(at..).unwrap_or("");
        let end = |c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | ':' | '"');
        let mut value: String = rest.chars().take(20).take_while(|c| !end(*c)).collect();
        if value.is_empty() {
            value = rest.chars().take(1).filter(|c| !c.is_whitespace()).collect();
        }
        Box::new(self.mark_at(at).fault(value, message))
    }

    fn expected(&mut self, what: &str, inside: &str, begin: &Mark) -> Box<Fault> {
        let began = format!("the {inside} that begins at line {} column {}", begin.line, begin.column);
        if self.peek().is_none() {
            return self.error(&format!("the file ends inside {began}; {what} is missing"));
        }
        self.error(&format!("expected {what} in {began}"))
    }
}

/// The fault of a key that a map has already.
pub(super) fn duplicate(key: &str, mark: &Mark) -> Fault {
    let key: String = key.chars().take(80).collect();
    mark.fault(key, "this key stands twice in one map; keep one of the two")
}

/// The keys of a map being read; maps are small, so a set is made only of large ones.
#[derive(Default)]
pub(super) struct Keys {
    set: HashSet<String>,
}

impl Keys {
    /// True if `key` is not among the entries; to be asked before each entry is added.
    pub(super) fn is_new(&mut self, entries: &[Entry], key: &str) -> bool {
        if entries.len() < 16 {
            return entries.iter().all(|e| e.key != key);
        }
        if self.set.is_empty() {
            self.set.extend(entries.iter().map(|e| e.key.clone()));
        }
        self.set.insert(key.to_owned())
    }
}
