//! Output files that appear whole or not at all: each is written under a temporary name beside its own and renamed at the end.
//! Beside them those that grow: what a running appliance tells has no end that could be waited for.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Stdout, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::system_text;

/// Bytes gathered before they are written.
const PIECE: usize = 256 * 1024;

/// Why an output could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputError {
    /// The file or folder.
    pub path: PathBuf,
    /// A sentence that says what went wrong.
    pub message: String,
}

/// A file under way. Until [`commit`] it has another name; dropped without it, it is gone.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Bytes in the file, without those in the buffer.
    written: u64,
    /// What went wrong first; nothing helps a file with a hole.
    failed: Option<OutputError>,
    committed: bool,
}

/// What bytes are put into, one piece after the other.
pub trait Sink {
    /// Appends bytes.
    ///
    /// # Errors
    /// They cannot be written.
    fn put(&mut self, bytes: &[u8]) -> Result<(), OutputError>;
}

/// A file or standard output that has everything that was put so far: whoever ends the process leaves it whole.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    out: Out,
    abandoned: bool,
}

#[derive(Debug)]
enum Out {
    File(File),
    Standard(Stdout),
}

impl Growing {
    /// Begins the file with this path, or goes on with standard output if that is `-`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Growing, OutputError> {
        let (path, out) = if path == Path::new("-") {
            (PathBuf::from("standard output"), Out::Standard(io::stdout()))
        } else {
            (path.to_path_buf(), Out::File(File::create(path).map_err(|e| unwritable(path, &e))?))
        };
        Ok(Growing { path, out, abandoned: false })
    }

    /// True once something could not be put because nobody reads any more.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }
}

impl Sink for Growing {
    fn put(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let done = match &mut self.out {
            Out::File(file) => file.write_all(bytes),
            Out::Standard(out) => out.write_all(bytes).and_then(|()| out.flush()),
        };
        done.map_err(|e| {
            self.abandoned |= e.kind() == ErrorKind::BrokenPipe;
            unwritable(&self.path, &e)
        })
    }
}

impl Sink for AtomicFile {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        AtomicFile::put(self, bytes)
    }
}

/// Makes sure that a folder for outputs is there.
pub fn make_folder(path: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(path).map_err(|e| {
        let why = if path.exists() { "it is no folder".into() } else { system_text(&e) };
        OutputError { path: path.to_path_buf(), message: format!("cannot be made as a folder: {why}") }
    })
}

/// Gives all files their own names, or none: if one cannot be written to its end, all are removed.
pub fn commit(mut files: Vec<AtomicFile>) -> Result<(), OutputError> {
    for file in &mut files {
        file.flush_buffer()?;
    }
    for done in 0..files.len() {
        let Some(file) = files.get_mut(done) else { break };
        match fs::rename(&file.temporary, &file.path) {
            Ok(()) => file.committed = true,
            Err(e) => {
                let error = unwritable(&file.path, &e);
                for earlier in files.iter().take(done) {
                    // Best effort: the error that is reported says more.
                    let _ = fs::remove_file(&earlier.path);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

impl AtomicFile {
    /// Begins a file that is to have this path in the end.
    pub fn create(path: &Path) -> Result<AtomicFile, OutputError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let refuse = |why: &str| OutputError {
            path: path.to_path_buf(),
            message: format!("cannot be written: it {why}"),
        };
        let Some(name) = path.file_name() else {
            return Err(refuse("names no file"));
        };
        if path.is_dir() {
            return Err(refuse("is a folder"));
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut other = OsString::from(".");
        other.push(name);
        other.push(format!(".{}-{number}.tmp", std::process::id()));
        let temporary = path.with_file_name(other);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| unwritable(path, &e))?;
        Ok(AtomicFile::over(file, path, temporary))
    }

    fn over(file: File, path: &Path, temporary: PathBuf) -> AtomicFile {
        let buffer = Vec::with_capacity(PIECE);
        AtomicFile {
            path: path.to_path_buf(),
            temporary,
            file,
            buffer,
            written: 0,
            failed: None,
            committed: false,
        }
    }

    /// The path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if self.buffer.len() + bytes.len() > PIECE {
            self.flush_buffer()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Gives the file its own name.
    pub fn finish(self) -> Result<(), OutputError> {
        commit(vec![self])
    }

    /// Bytes put so far.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Reads bytes that were put earlier.
    pub(super) fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<(), OutputError> {
        self.flush_buffer()?;
        let done = self.file.read_exact_at(into, at);
        self.check(done)
    }

    /// Replaces bytes that were put earlier.
    pub(super) fn put_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutputError> {
        self.flush_buffer()?;
        let done = self.file.write_all_at(bytes, at);
        self.check(done)
    }

    fn flush_buffer(&mut self) -> Result<(), OutputError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = self.file.write_all(&self.buffer);
        self.check(done)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn check(&mut self, done: io::Result<()>) -> Result<(), OutputError> {
        done.map_err(|e| self.failed.insert(unwritable(&self.path, &e)).clone())
    }
}

fn unwritable(path: &Path, error: &io::Error) -> OutputError {
    let message = format!("cannot be written: {}", system_text(error));
    OutputError { path: path.to_path_buf(), message }
}

/// For what writes itself, such as JSON; errors carry the sentence.
impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer().map_err(io::Error::other)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing is lost if it cannot be removed: its name says that it is temporary.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for OutputError {}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> io::Error {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_appear_together_and_replace_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        make_folder(&out).unwrap();
        make_folder(&out).unwrap();
        fs::write(out.join("one"), "old").unwrap();
        let mut files: Vec<_> = ["one", "two"].map(|n| AtomicFile::create(&out.join(n)).unwrap()).into();
        for file in &mut files {
            write!(file, "{}", "new".repeat(200_000)).unwrap();
        }
        assert_eq!(fs::read(out.join("one")).unwrap(), b"old");
        assert!(!out.join("two").exists());
        commit(files).unwrap();
        assert_eq!(names(&out), ["one", "two"]);
        assert!(fs::read(out.join("two")).unwrap().len() == 600_000);
        assert!(fs::read(out.join("one")).unwrap().len() == 600_000);
    }

    #[test]
    fn a_growing_file_has_at_once_what_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(&path, "a longer text that was there").unwrap();
        let mut file = Growing::create(&path).unwrap();
        for (piece, all) in [("a", "a"), ("bc", "abc")] {
            file.put(piece.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), all);
        }
        assert!(!file.is_abandoned());
        let mut full = Growing::create(Path::new("/dev/full")).unwrap();
        let error = full.put(b"x").unwrap_err().to_string();
        assert_eq!(error, "/dev/full: cannot be written: No space left on device");
        assert!(!full.is_abandoned() && Growing::create(folder.path()).is_err());
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&folder.path().join("one")).unwrap();
        file.put(&[0; PIECE + 1]).unwrap();
        assert!(names(folder.path())[0].ends_with(".tmp"));
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_full_disk_leaves_nothing_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let good = AtomicFile::create(&folder.path().join("good")).unwrap();
        let path = folder.path().join("full");
        let device = File::options().write(true).open("/dev/full").unwrap();
        let mut full = AtomicFile::over(device, &path, folder.path().join("none"));
        full.put(b"held back").unwrap();
        let error = commit(vec![good, full]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: cannot be written: No space left on device", path.display())
        );
        assert!(names(folder.path()).is_empty());

        let device = File::options().write(true).open("/dev/full").unwrap();
        let mut full = AtomicFile::over(device, &path, folder.path().join("none"));
        full.put(&[0; PIECE]).unwrap();
        assert!(full.put(b"more").is_err());
        full.file = File::create(folder.path().join("room again")).unwrap();
        assert_eq!(write!(full, "more").map(|()| 0).unwrap_err().to_string(), error.to_string());
        assert_eq!(full.finish().unwrap_err(), error);
    }

    #[test]
    fn if_one_cannot_get_its_name_none_has() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["one", "two"].map(|n| AtomicFile::create(&folder.path().join(n)).unwrap());
        fs::create_dir_all(folder.path().join("two/in the way")).unwrap();
        let error = commit(files.into()).unwrap_err();
        assert!(error.to_string().ends_with("two: cannot be written: Is a directory"), "{error}");
        assert_eq!(names(folder.path()), ["two"]);
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = make_folder(&file).unwrap_err().to_string();
        assert_eq!(error, format!("{}: cannot be made as a folder: it is no folder", file.display()));
        let below = file.join("below");
        let error = make_folder(&below).unwrap_err().to_string();
        assert!(error.ends_with("cannot be made as a folder: Not a directory"), "{error}");
        let error = AtomicFile::create(&below).unwrap_err().to_string();
        assert_eq!(error, format!("{}: cannot be written: Not a directory", below.display()));
        let error = AtomicFile::create(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("cannot be written: it is a folder"), "{error}");
        let missing = folder.path().join("missing/file");
        let error = AtomicFile::create(&missing).unwrap_err().to_string();
        assert!(error.ends_with("cannot be written: No such file or directory"), "{error}");
    }
}
