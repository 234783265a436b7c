//! The files that a configuration is read from, and how they were when they were read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::azure::globs;

/// When a file was last written, and its bytes; none if it is not there.
type Stamp = Option<(Option<SystemTime>, u64)>;

/// What was read, file by file. Those that are there now compare equal if nothing was written, added or taken away since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    named: Vec<PathBuf>,
    patterns: Vec<String>,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Files {
    /// This file is about to be read.
    pub(super) fn name(&mut self, path: &Path) {
        self.named.push(path.to_owned());
        self.stamp(path.to_owned());
    }

    /// These files, which a pattern matches, are about to be read.
    pub(super) fn match_all(&mut self, pattern: &str, files: &[PathBuf]) {
        self.patterns.push(pattern.to_owned());
        files.iter().for_each(|path| self.stamp(path.clone()));
    }

    fn stamp(&mut self, path: PathBuf) {
        let stamp = fs::metadata(&path).ok().map(|about| (about.modified().ok(), about.len()));
        self.stamps.insert(path, stamp);
    }

    /// The same names and patterns, and what files they stand for now.
    #[must_use]
    pub fn now(&self) -> Files {
        let mut now = Files::default();
        self.named.iter().for_each(|path| now.name(path));
        for pattern in &self.patterns {
            now.match_all(pattern, &globs::files(pattern));
        }
        now
    }
}
