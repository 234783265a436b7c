//! Where the real data lies that the tests share: beside the repository, or where `CLEARWAY_SHARED_DATA` says.
#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// A folder of the data, where there is one.
pub fn folder(name: &str) -> Option<PathBuf> {
    let data = match std::env::var_os("CLEARWAY_SHARED_DATA") {
        Some(data) => PathBuf::from(data),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let folder = data.join(name);
    if !folder.is_dir() {
        println!("skipped: no shared data: there is no {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Every file in a folder and the folders in it, in the order of their names.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The name of a file without its folder.
pub fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).expect("a name in UTF-8")
}

/// The text of a file, unpacked if its name ends in `.gz`.
pub fn text(path: &Path) -> String {
    let bytes = fs::read(path).expect("a file");
    if name(path).ends_with(".gz") {
        let mut text = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("packed text");
        return text;
    }
    String::from_utf8(bytes).expect("text")
}
