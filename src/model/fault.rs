//! What is wrong with a configuration: where, which value, and what would be right.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Whether a fault refuses the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is accepted, but this is probably not meant.
    Warning,
}

/// One fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 when the file as a whole is meant.
    pub column: u32,
    /// The offending value as written; empty when something is missing.
    pub value: String,
    /// A sentence that says what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {kind}: ")?;
        if !self.value.is_empty() {
            write!(f, "'{}': ", on_one_line(&self.value))?;
        }
        f.write_str(&on_one_line(&self.message))
    }
}

/// The text of a file stays on its line, whatever it holds, and sentences quote it.
fn on_one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
