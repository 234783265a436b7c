//! Colours, where they are wanted.

use std::fmt::Display;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Colours are wanted.
    pub on: bool,
}

impl Style {
    /// Plain text.
    pub const PLAIN: Style = Style { on: false };

    /// What went well.
    pub fn good(self, text: impl Display) -> String {
        self.paint("32;1", text)
    }

    /// What did not.
    pub fn bad(self, text: impl Display) -> String {
        self.paint("31;1", text)
    }

    /// What should be looked at.
    pub fn odd(self, text: impl Display) -> String {
        self.paint("33;1", text)
    }

    /// A heading.
    pub fn strong(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// What matters less.
    pub fn faint(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
