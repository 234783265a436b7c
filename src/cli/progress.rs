//! The progress bar on standard error, when that is a terminal. The only file that knows indicatif.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::io::Capture;

/// Packets between two looks at how far reading has come.
const EVERY: u64 = 4096;

/// A bar over the bytes of all captures, or nothing.
pub struct Progress {
    bar: ProgressBar,
    packets: u64,
}

impl Progress {
    /// Begins; hidden unless standard error is a terminal.
    pub fn new(captures: &[Capture]) -> Progress {
        let sizes: Option<Vec<u64>> = captures.iter().map(|c| c.progress().1).collect();
        let bar = match sizes {
            _ if !std::io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(sizes) => {
                let bar = ProgressBar::new(sizes.iter().sum());
                bar.set_style(style("{wide_bar} {percent:>3} %  {msg} packets, {eta} left"));
                bar
            }
            None => {
                let bar = ProgressBar::new_spinner();
                bar.set_style(style("{spinner} {bytes} read, {msg} packets"));
                bar
            }
        };
        Progress { bar, packets: 0 }
    }

    /// One more packet.
    #[inline]
    pub fn packet(&mut self, captures: &[Capture]) {
        self.packets += 1;
        if self.packets.is_multiple_of(EVERY) && !self.bar.is_hidden() {
            self.bar.set_position(captures.iter().map(|c| c.progress().0).sum());
            self.bar.set_message(self.packets.to_string());
        }
    }
}

/// The bar goes away, however the run ended.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over the steps of a bench, or nothing.
pub struct Steps {
    bar: ProgressBar,
}

impl Steps {
    /// Begins; hidden unless standard error is a terminal.
    pub fn new(steps: u64) -> Steps {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        bar.set_style(style("{wide_bar} {msg}, {elapsed}"));
        Steps { bar }
    }

    /// One more step begins.
    pub fn step(&mut self, what: String) {
        self.bar.inc(1);
        self.bar.set_message(what);
    }
}

/// The bar goes away, however the run ended.
impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How many packets have been captured, or nothing.
pub struct Count {
    bar: ProgressBar,
}

impl Count {
    /// Begins; hidden unless standard error is a terminal.
    pub fn new() -> Count {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(style("{spinner} {msg} packets captured, {elapsed}; Ctrl-C ends it"));
        Count { bar }
    }

    /// So many by now.
    pub fn set(&self, packets: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(packets.to_string());
            self.bar.tick();
        }
    }
}

/// The line goes away, however the capture ended.
impl Drop for Count {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
