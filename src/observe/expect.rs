//! What verdicts were expected, and how those that came differ.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

/// Expected verdicts: lines of JSON, each with the number of its packet and the fields to be compared.
#[derive(Debug, Default)]
pub struct Expectations {
    /// By packet, the lines that expect something of it. They are kept as they were written: a whole file of values
    /// would be many times larger.
    lines: HashMap<u64, Vec<Box<str>>>,
    count: usize,
}

/// Why a file is no list of expected verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectError {
    /// The line, from 1.
    pub line: usize,
    /// A sentence that says what would be right.
    pub message: String,
}

impl Expectations {
    /// Reads lines of JSON; empty lines are skipped.
    pub fn parse(text: &str) -> Result<Expectations, ExpectError> {
        let mut expectations = Expectations::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let packet = packet_of(line).map_err(|message| ExpectError { line: number + 1, message })?;
            expectations.lines.entry(packet).or_default().push(line.into());
            expectations.count += 1;
        }
        Ok(expectations)
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if something is expected of this packet.
    pub fn about(&self, packet: u64) -> bool {
        self.lines.contains_key(&packet)
    }

    /// Compares a packet's verdict line with what is expected of it, which is then settled.
    pub fn compare(&mut self, packet: u64, line: &[u8], differences: &mut Vec<Difference>) {
        for expected in self.lines.remove(&packet).unwrap_or_default() {
            if expected.as_bytes() == line {
                continue;
            }
            let fields = |text: &[u8]| serde_json::from_slice::<Map<String, Value>>(text).unwrap_or_default();
            let got = fields(line);
            for (field, expected) in fields(expected.as_bytes()) {
                let got = got.get(&field);
                if got != Some(&expected) {
                    differences.push(Difference { packet, field, expected, got: got.cloned() });
                }
            }
        }
    }

    /// The packets that something is still expected of, in order: they did not occur.
    pub fn left(&self) -> Vec<u64> {
        let mut left: Vec<u64> = self.lines.keys().copied().collect();
        left.sort_unstable();
        left
    }
}

fn packet_of(line: &str) -> Result<u64, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON: {e}"))?;
    let Value::Object(fields) = value else {
        return Err(
            "is no JSON object; a line is one, such as {\"packet\": 1, \"verdict\": \"drop\"}".to_owned()
        );
    };
    match fields.get("packet") {
        None => Err("has no field \"packet\", the number of the packet that it is about".to_owned()),
        Some(number) => number
            .as_u64()
            .ok_or_else(|| format!("names the packet {number}; packets are numbered 1, 2, 3 and so on")),
    }
}

/// One field that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The packet.
    pub packet: u64,
    /// The field.
    pub field: String,
    /// What was expected.
    pub expected: Value,
    /// What came; absent when verdicts have no such field.
    pub got: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { packet, field, expected, got } = self;
        write!(f, "packet {packet}: {field}: expected {}, got ", Plain(expected))?;
        match got {
            Some(got) => write!(f, "{}", Plain(got)),
            None => write!(f, "nothing: verdicts have no such field"),
        }
    }
}

/// A JSON value, strings without quotes.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(text),
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"packet": 5, "verdict": "forward", "reason": null, "egressKey": 2561}"#;

    fn differences(expected: &str) -> Vec<String> {
        let mut expectations = Expectations::parse(expected).unwrap();
        assert!(expectations.about(5) && !expectations.about(4));
        let mut found = Vec::new();
        expectations.compare(5, LINE, &mut found);
        assert!(!expectations.about(5));
        found.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn only_the_fields_of_the_line_are_compared() {
        assert!(differences(std::str::from_utf8(LINE).unwrap()).is_empty());
        assert!(differences("{\"egressKey\":2561,\"packet\":5}\n\n").is_empty());
        let lines = differences(
            "{\"packet\": 5, \"verdict\": \"drop\", \"reason\": \"no-host\", \"egressKey\": null}",
        );
        let expected = [
            "packet 5: verdict: expected drop, got forward",
            "packet 5: reason: expected no-host, got null",
            "packet 5: egressKey: expected null, got 2561",
        ];
        assert_eq!(lines, expected);
        let twice = differences("{\"packet\":5,\"verdict\":\"drop\"}\n{\"packet\":5,\"colour\":1}");
        assert_eq!(twice[1], "packet 5: colour: expected 1, got nothing: verdicts have no such field");
    }

    #[test]
    fn what_did_not_occur_is_left() {
        let expectations = Expectations::parse("{\"packet\": 9}\n{\"packet\": 7}").unwrap();
        assert_eq!((expectations.left(), expectations.len()), (vec![7, 9], 2));
    }

    #[test]
    fn what_is_no_expectation_is_refused() {
        for (text, line, words) in [
            ("{\"packet\": 1}\nverdict: drop", 2, "is not JSON"),
            ("[]", 1, "is no JSON object"),
            ("\n{}", 2, "has no field \"packet\""),
            ("{\"packet\": \"1\"}", 1, "names the packet \"1\""),
            ("{\"packet\": -1}", 1, "names the packet -1"),
        ] {
            let error = Expectations::parse(text).unwrap_err();
            assert!(error.line == line && error.message.starts_with(words), "{error:?}");
        }
    }
}
