//! JSON documents: one line with spaces as in the contract, or indented for reading.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// One line, with a space behind each comma and colon.
pub fn line(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let done = value.serialize(&mut Serializer::with_formatter(&mut out, Spaced));
    text(done, out)
}

/// Several lines, indented by two.
pub fn document(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let done = value.serialize(&mut Serializer::pretty(&mut out));
    text(done, out)
}

fn text(done: serde_json::Result<()>, out: Vec<u8>) -> String {
    match done.map(|()| String::from_utf8(out)) {
        Ok(Ok(text)) => text,
        _ => unreachable!("what is written here has names for keys, and memory takes all of it"),
    }
}

/// `{"a": 1, "b": 2}`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_line_has_spaces() {
        let value = serde_json::json!({"a": [1, 2], "b": {"c": null}});
        assert_eq!(super::line(&value), r#"{"a": [1, 2], "b": {"c": null}}"#);
        assert!(super::document(&value).contains("\n  \"a\": ["));
    }
}
