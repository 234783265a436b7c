//! Standard output and standard error, with colours where they are wanted.
//!
//! Somebody who stops reading (`clearway ... | head`) is no failure: what follows is not printed, and the command ends
//! as it would have.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use crate::model::{Fault, Severity};
use crate::observe::Style;

/// Where a command prints.
pub struct Terminal {
    out: BufWriter<Stdout>,
    /// Colours of standard output.
    pub style: Style,
    errors: Style,
    failed: Option<io::Error>,
}

impl Terminal {
    /// Standard output and error, coloured when they are a terminal and `NO_COLOR` is unset.
    pub fn new() -> Terminal {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let wanted = !set("NO_COLOR") && !dumb;
        Terminal {
            out: BufWriter::new(io::stdout()),
            style: Style { on: wanted && io::stdout().is_terminal() },
            errors: Style { on: wanted && io::stderr().is_terminal() },
            failed: None,
        }
    }

    /// Prints to standard output as it is.
    pub fn print(&mut self, text: impl Display) {
        if self.failed.is_none()
            && let Err(error) = write!(self.out, "{text}")
        {
            self.failed = Some(error);
        }
    }

    /// Prints a line to standard output.
    pub fn line(&mut self, text: impl Display) {
        self.print(format_args!("{text}\n"));
    }

    /// Prints a line to standard error.
    pub fn note(&mut self, text: impl Display) {
        // Nobody is left to be told that this failed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A sentence about what cannot be used.
    pub fn error(&mut self, sentence: &str) {
        self.note(format_args!("{} {sentence}", self.errors.bad("error:")));
    }

    /// A sentence about what is odd.
    pub fn warning(&mut self, sentence: &str) {
        self.note(format_args!("{} {sentence}", self.errors.odd("warning:")));
    }

    /// A fault of a configuration, with its place in front.
    pub fn fault(&mut self, fault: &Fault) {
        let text = fault.to_string();
        let (word, painted) = match fault.severity {
            Severity::Error => ("error:", self.errors.bad("error:")),
            Severity::Warning => ("warning:", self.errors.odd("warning:")),
        };
        self.note(text.replacen(word, &painted, 1));
    }

    /// Prints what is still held back. A failure is told, unless it is that nobody reads.
    pub fn finish(mut self) -> io::Result<()> {
        let done = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        // What could not be written must not be tried again when this is dropped.
        let (_, _) = self.out.into_parts();
        match done {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                // Nobody is left to be told that this failed.
                let _ = writeln!(io::stderr(), "error: standard output cannot be written: {error}");
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
