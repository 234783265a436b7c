//! The files of one log: one for each resource, MAC address and hour, whole after every record, and together no larger
//! than a limit.
//!
//! A file is `{"records":[...]}`. A record is put in place of the closing `]}` by one write, which closes it again. What was
//! written by somebody before is read first: a file that is no such document, as a crash may leave it, is put aside.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ahash::RandomState;
use serde::de::IgnoredAny;
use tracing::{info, warn};

use super::counts::{LogCounts, add};
use super::text::Hour;

/// The name of every file.
const FILE: &str = "PT1H.json";
const OPEN: &str = "{\"records\":[";
const CLOSE: &str = "]}";
/// What every record of both logs ends with, and then the file: within a string no quote stands without a backslash.
const TAIL: &[u8] = b"\"]}]}]}}]}";
/// Disks give out room in blocks of this; a file's folder takes one, too.
const BLOCK: u64 = 4096;
/// Files of which is remembered how long they are.
const KNOWN: usize = 65_536;
/// Files that are put aside for one name.
const ASIDE: u32 = 1000;

/// A log's folder.
pub(super) struct Folder {
    base: PathBuf,
    /// The name of the log in Azure's storage.
    container: &'static str,
    limit: u64,
    /// Bytes of each hour there is, as the limit counts them.
    hours: BTreeMap<Hour, u64>,
    /// Lengths of the files of this hour that are known to be whole.
    known: HashMap<PathBuf, u64, RandomState>,
    known_hour: Hour,
    /// The first that went wrong since [`Folder::begin`].
    failed: Option<String>,
    wrote: bool,
    /// It has been told that something goes wrong; how much had been lost by then.
    told: Option<u64>,
    /// Held as long as this writes: nobody else does.
    _lock: File,
}

/// Bytes of a file as the limit counts them.
fn charge(bytes: u64) -> u64 {
    if bytes == 0 { 0 } else { bytes.next_multiple_of(BLOCK) + BLOCK }
}

impl Folder {
    /// Makes the folder if it is not there, makes sure that it can be written and that nobody else does, and counts what is
    /// there; the error is a sentence.
    pub fn open(
        base: &Path,
        container: &'static str,
        limit: u64,
        counts: &LogCounts,
    ) -> Result<Folder, String> {
        let cannot = |e: io::Error| format!("{}: flow logs cannot be written there: {e}", base.display());
        fs::create_dir_all(base).map_err(cannot)?;
        let path = base.join(format!(".{container}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(format!("{}: another process writes flow logs there", base.display()));
            }
            Err(fs::TryLockError::Error(e)) => return Err(cannot(e)),
        }
        // A folder that may only be read has perhaps a lock from before.
        let probe = base.join(format!(".{container}.probe"));
        fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(cannot)?;
        let mut folder = Folder {
            base: base.to_owned(),
            container,
            limit,
            hours: BTreeMap::new(),
            known: HashMap::default(),
            known_hour: Hour(0),
            failed: None,
            wrote: false,
            told: None,
            _lock: lock,
        };
        folder.count();
        folder.make_room(Hour(u64::MAX), 0, counts);
        counts.bytes.store(folder.total(), std::sync::atomic::Ordering::Relaxed);
        Ok(folder)
    }

    /// Before records are appended.
    pub fn begin(&mut self) {
        (self.failed, self.wrote) = (None, false);
        if self.told.is_some() {
            // Somebody may have made room.
            self.count();
        }
    }

    /// Appends a record with so many tuples to the file of its hour; `path` leads to the folder of the resource.
    pub fn append(&mut self, path: &Place<'_>, hour: Hour, record: &str, tuples: u64, counts: &LogCounts) {
        match self.try_append(path, hour, record, counts) {
            Ok(()) => {
                self.wrote = true;
                add(&counts.records, 1);
                add(&counts.tuples, tuples);
            }
            Err(sentence) => {
                self.failed.get_or_insert(sentence);
                add(&counts.unwritten, tuples);
            }
        }
    }

    /// Behind the records: says that something goes wrong, or that all is well again, but neither twice.
    pub fn end(&mut self, counts: &LogCounts) {
        use std::sync::atomic::Ordering::Relaxed;
        counts.bytes.store(self.total(), Relaxed);
        let lost = counts.unwritten.load(Relaxed);
        match (&self.failed, self.told) {
            (Some(sentence), None) => {
                warn!("{sentence}; flow logs are lost until that is mended, and counted");
                self.told = Some(lost);
            }
            (None, Some(before)) if self.wrote => {
                info!("{}: flow logs are written again", self.base.display());
                if lost > before {
                    warn!("{}: {} more flow tuples were lost in between", self.base.display(), lost - before);
                }
                self.told = None;
            }
            _ => {}
        }
    }

    fn try_append(
        &mut self,
        place: &Place<'_>,
        hour: Hour,
        record: &str,
        counts: &LogCounts,
    ) -> Result<(), String> {
        if !self.base.is_dir() {
            return Err(format!("{}: the folder is gone", self.base.display()));
        }
        if hour != self.known_hour || self.known.len() >= KNOWN {
            self.known.clear();
            self.known_hour = hour;
        }
        let path = self.path_of(place, hour);
        let wrong = |e: io::Error| format!("{}: {e}", path.display());
        let open = self.open_whole(&path).map_err(wrong)?;
        let before = open.as_ref().map_or(0, |(_, length)| *length);
        let (opens, closes) = (OPEN.len() as u64, CLOSE.len() as u64);
        let after = match before {
            0 => opens + record.len() as u64 + closes,
            _ => before + 1 + record.len() as u64,
        };
        let more = charge(after) - charge(before);
        if !self.make_room(hour, more, counts) {
            return Err(format!(
                "{}: one hour alone is more than the limit of {} bytes",
                self.base.display(),
                self.limit
            ));
        }
        match open {
            Some((file, length)) => grow(&file, length, record),
            None => make(&path, record),
        }
        .map_err(|e| {
            self.known.remove(&path);
            wrong(e)
        })?;
        *self.hours.entry(hour).or_default() += more;
        self.known.insert(path, after);
        Ok(())
    }

    fn path_of(&self, place: &Place<'_>, hour: Hour) -> PathBuf {
        let mut path = self.base.join(place.customer);
        path.push(self.container);
        path.push(place.resource);
        path.push(hour.path());
        path.push(format!("macAddress={}", place.mac));
        path.push(FILE);
        path
    }

    /// The file, if it is there and whole, and its length. One that is not whole is put aside.
    fn open_whole(&mut self, path: &Path) -> io::Result<Option<(File, u64)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "is no file"));
        }
        let length = about.len();
        if self.known.get(path) == Some(&length) || is_whole(&file, length)? {
            self.known.insert(path.to_owned(), length);
            return Ok(Some((file, length)));
        }
        let aside = free_name(path)?;
        fs::rename(path, &aside)?;
        warn!("{}: is cut or no flow log; it is kept as {}", path.display(), aside.display());
        Ok(None)
    }

    fn total(&self) -> u64 {
        self.hours.values().sum()
    }

    /// Removes the oldest hours, but not this one, until there is room; false if there is none then.
    fn make_room(&mut self, hour: Hour, more: u64, counts: &LogCounts) -> bool {
        let mut total = self.total() + more;
        if total <= self.limit {
            return true;
        }
        let mut last = None;
        // The clock may have been set back, so that there are later ones.
        for (old, bytes) in self.hours.iter().filter(|(old, _)| **old != hour) {
            if total <= self.limit {
                break;
            }
            total -= bytes;
            last = Some(*old);
        }
        if let Some(last) = last {
            let mut gone = 0;
            self.walk(|path, old, bytes| {
                if old <= last && old != hour && fs::remove_file(path).is_ok() {
                    gone += bytes;
                    self.remove_empty(path);
                }
            });
            add(&counts.removed_bytes, gone);
            info!("{}: {gone} bytes of the oldest flow logs were removed", self.base.display());
            // What could not be removed still counts.
            self.count();
        }
        self.total() + more <= self.limit
    }

    /// Removes the folders of a file that have become empty.
    fn remove_empty(&self, path: &Path) {
        let folders =
            path.ancestors().skip(1).take_while(|f| f.file_name().is_some_and(|n| n != self.container));
        for folder in folders {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }

    /// Counts what is there.
    fn count(&mut self) {
        let mut hours: BTreeMap<Hour, u64> = BTreeMap::new();
        self.walk(|_, hour, bytes| *hours.entry(hour).or_default() += charge(bytes));
        self.hours = hours;
    }

    /// Every file of the log, with its hour and length. Links are not followed, and what is not the log's is left alone.
    fn walk(&self, mut each: impl FnMut(&Path, Hour, u64)) {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir());
        let mut folders = Vec::new();
        let mut customers = vec![self.base.clone()];
        while let Some(folder) = customers.pop() {
            for entry in entries(&folder).filter(is_folder) {
                let container = entry.path().join(self.container);
                if fs::symlink_metadata(&container).is_ok_and(|m| m.is_dir()) {
                    folders.push(container);
                }
                // A long name goes on below.
                if entry.file_name().as_encoded_bytes().ends_with(b"%") {
                    customers.push(entry.path());
                }
            }
        }
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder) {
                let path = entry.path();
                if is_folder(&entry) {
                    folders.push(path);
                } else if let Some(hour) = hour_of(&path)
                    && let Ok(about) = entry.metadata()
                    && about.is_file()
                {
                    each(&path, hour, about.len());
                }
            }
        }
    }
}

/// Where a file belongs, but for its hour.
pub(super) struct Place<'a> {
    /// The customer's folder.
    pub customer: &'a str,
    /// The resource's folders below the log's.
    pub resource: &'a str,
    /// The MAC address as it is written.
    pub mac: &'a str,
}

/// The hour of a file, if it is one of a flow log, whole or put aside.
fn hour_of(path: &Path) -> Option<Hour> {
    let mut parts = path.iter().rev().map(|p| p.to_str());
    let mut next = || parts.next().flatten();
    let name = next()?.strip_prefix(FILE)?;
    if !(name.is_empty() || name.starts_with(".cut")) || !next()?.starts_with("macAddress=") {
        return None;
    }
    let (minute, hour, day, month, year) = (next()?, next()?, next()?, next()?, next()?);
    Hour::parse([year, month, day, hour, minute])
}

/// The first name that is free for a file to be put aside.
fn free_name(path: &Path) -> io::Result<PathBuf> {
    let name = |n: u32| path.with_file_name(format!("{FILE}.cut{n}"));
    let free = (1..=ASIDE).map(name).find(|p| fs::symlink_metadata(p).is_err());
    free.ok_or_else(|| io::Error::other(format!("is cut, and there are {ASIDE} such files already")))
}

/// True of a document that was written to its end.
fn is_whole(file: &File, length: u64) -> io::Result<bool> {
    let mut tail = [0; TAIL.len()];
    let (open, end) = (OPEN.len() as u64, TAIL.len() as u64);
    if length < open + end {
        return Ok(false);
    }
    file.read_exact_at(&mut tail, length - end)?;
    // Zeros or anything else may stand where a disk lost a page.
    let read = || serde_json::from_reader::<_, IgnoredAny>(BufReader::new(file));
    let mut begin = [0; OPEN.len()];
    file.read_exact_at(&mut begin, 0)?;
    match (tail == TAIL && begin == OPEN.as_bytes()).then(read) {
        Some(Ok(_)) => Ok(true),
        Some(Err(e)) if e.is_io() => Err(e.into()),
        Some(Err(_)) | None => Ok(false),
    }
}

/// Adds a record to a file of this length. If that fails, the file is as it was.
fn grow(file: &File, length: u64, record: &str) -> io::Result<()> {
    let at = length - CLOSE.len() as u64;
    let text = format!(",{record}{CLOSE}");
    file.write_all_at(text.as_bytes(), at).inspect_err(|_| {
        // If even this fails, the file is found cut.
        let _ = file.set_len(length).and_then(|()| file.write_all_at(CLOSE.as_bytes(), at));
    })
}

/// Makes a file of one record. If that fails, there is none.
fn make(path: &Path, record: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let text = format!("{OPEN}{record}{CLOSE}");
    file.write_all_at(text.as_bytes(), 0).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}
