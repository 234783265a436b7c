//! Reads a whole configuration: the file, the exports and the service tags that it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::node::{Mark, Node};
use super::{Fault, Files, Model, ServiceTags, build, communities, tags, text};
use crate::types::Prefix;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Reads a configuration file and the files that it names, which are looked up from its folder.
///
/// # Errors
/// Every fault of the configuration, in the order of files and lines.
pub fn load(path: &Path) -> Result<Model, Vec<Fault>> {
    load_files(path, &mut Files::default())
}

/// The same, and which files were read, or were to be; also of a configuration that is refused.
///
/// # Errors
/// Every fault of the configuration, in the order of files and lines.
pub fn load_files(path: &Path, files: &mut Files) -> Result<Model, Vec<Fault>> {
    *files = Files::default();
    files.name(path);
    let name = path.display().to_string();
    let bytes = match read_file(path) {
        Ok(bytes) => bytes,
        Err(why) => return Err(vec![whole_file(&name).fault("", why)]),
    };
    build::build(&text::parse(&name, &bytes)?, Some(path.parent().unwrap_or(Path::new(""))), files)
}

/// Reads a configuration from memory. The files that it names are looked up from `base`; without one they are refused.
///
/// # Errors
/// Every fault of the configuration, in the order of files and lines.
pub fn from_bytes(file_name: &str, text: &[u8], base: Option<&Path>) -> Result<Model, Vec<Fault>> {
    build::build(&text::parse(file_name, text)?, base, &mut Files::default())
}

/// The tags of the service tag file that a configuration names.
pub(super) fn read_tags(base: &Path, named: &Node, files: &mut Files) -> Result<ServiceTags, Vec<Fault>> {
    let path = base.join(named.as_text().unwrap_or_default());
    files.name(&path);
    match read_file(&path) {
        Ok(bytes) => tags::read_service_tags(&path.display().to_string(), &bytes),
        Err(why) => Err(vec![named.fault(format!("the service tag file {why}"))]),
    }
}

/// The communities of the file that a configuration names.
pub(super) fn read_communities(
    base: &Path,
    named: &Node,
    files: &mut Files,
) -> Result<BTreeMap<u32, Vec<Prefix>>, Vec<Fault>> {
    let path = base.join(named.as_text().unwrap_or_default());
    files.name(&path);
    match read_file(&path) {
        Ok(bytes) => communities::read_communities(&path.display().to_string(), &bytes),
        Err(why) => Err(vec![named.fault(format!("the file of communities {why}"))]),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes; is it the right file?"));
    }
    fs::read(path).map_err(unreadable)
}

fn whole_file(name: &str) -> Mark {
    Mark { file: Arc::from(name), line: 0, column: 0 }
}
