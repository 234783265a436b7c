//! What circuit links have carried in all, kept over restarts: what an earlier process wrote down, and what workers have
//! counted since.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::observe::json;
use crate::observe::meters::{Meters, add};

/// How often what has changed is written down. What a process that is killed has carried since is lost.
const EVERY: Duration = Duration::from_secs(5);

/// Where meters are kept unless it is told: in systemd's `StateDirectory=`, if there is one.
pub fn path_to_keep() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY").filter(|v| !v.is_empty())?;
    // Several folders have colons between them.
    let first = given.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
    Some(Path::new(&first).join("meters.json"))
}

/// The file that meters are kept in.
pub struct MeterFile {
    path: PathBuf,
    kept: Meters,
    written: String,
    next: Instant,
    /// It cannot be written, and that has been said.
    told: bool,
    /// Held as long as this writes: nobody else does.
    _lock: File,
}

impl MeterFile {
    /// Reads what was kept, and makes sure that nobody else writes it; the error is a sentence.
    pub fn open(path: &Path) -> Result<MeterFile, String> {
        let cannot =
            |e: &dyn std::fmt::Display| format!("{}: meters cannot be kept there: {e}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| cannot(&e))?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, ".lock"));
        let lock = lock.map_err(|e| cannot(&e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(cannot(&"another process writes them")),
            Err(fs::TryLockError::Error(e)) => return Err(cannot(&e)),
        }
        let written = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(cannot(&e)),
        };
        let kept = match written.trim().is_empty() {
            true => Meters::new(),
            // What is paid for is not begun anew in silence.
            false => serde_json::from_str(&written).map_err(|e| {
                cannot(&format!("what is there are no meters ({e}); mend it, or take it away to begin at 0"))
            })?,
        };
        let mut file = MeterFile {
            path: path.to_owned(),
            kept,
            written,
            next: Instant::now(),
            told: false,
            _lock: lock,
        };
        // Whether it can be written is seen now.
        file.write(&json::line(&file.kept)).map_err(|e| cannot(&e))?;
        Ok(file)
    }

    /// What earlier processes have carried.
    pub fn kept(&self) -> &Meters {
        &self.kept
    }

    /// Writes down what has been carried in all, if it has changed and the last time is a while ago.
    pub fn keep(&mut self, all: &Meters) {
        if Instant::now() >= self.next {
            self.next = Instant::now() + EVERY;
            self.keep_now(all);
        }
    }

    /// The same at once.
    pub fn keep_now(&mut self, all: &Meters) {
        let text = json::line(all);
        if text == self.written {
            return;
        }
        match self.write(&text) {
            Ok(()) if self.told => {
                self.told = false;
                info!("{}: meters are kept again", self.path.display());
            }
            Ok(()) => {}
            Err(e) if !self.told => {
                self.told = true;
                warn!("{}: meters cannot be kept: {e}; a restart would lose them", self.path.display());
            }
            Err(_) => {}
        }
    }

    /// Puts another file in place of the one that is there, so that there is a whole one at any time.
    fn write(&mut self, text: &str) -> std::io::Result<()> {
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        text.clone_into(&mut self.written);
        Ok(())
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// What was carried in all: by earlier processes and by this one.
pub fn sum(kept: &Meters, now: &Meters) -> Meters {
    let mut all = kept.clone();
    add(&mut all, now);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{Meter, MeterReading};
    use crate::model::Link;
    use crate::observe::meters::meters;

    fn carried(packets: u64) -> Meters {
        meters(&[MeterReading {
            customer: "contoso".to_owned(),
            circuit: "er1".to_owned(),
            peering: "AzurePrivatePeering".to_owned(),
            link: Link::Primary,
            meter: Meter { packets: [packets, 1], bytes: [100 * packets, 60], over: [0, 0] },
        }])
    }

    #[test]
    fn meters_go_on_where_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/meters.json");
        let mut file = MeterFile::open(&path).unwrap();
        assert!(MeterFile::open(&path).is_err_and(|said| said.contains("another process writes them")));
        file.keep(&sum(file.kept(), &carried(5)));
        // Not so soon again, but at the end.
        file.keep(&sum(file.kept(), &carried(6)));
        assert!(fs::read_to_string(&path).unwrap().contains("\"packets\": 5, \"bytes\": 500"));
        file.keep_now(&sum(file.kept(), &carried(7)));
        drop(file);
        let file = MeterFile::open(&path).unwrap();
        assert_eq!(file.kept(), &carried(7));
        let all = sum(file.kept(), &carried(3));
        assert!(json::line(&all).contains("{\"packets\": 10, \"bytes\": 1000}"), "{}", json::line(&all));
        drop(file);
        fs::write(&path, "[]").unwrap();
        assert!(MeterFile::open(&path).is_err_and(|said| said.contains("take it away to begin at 0")));
    }
}
