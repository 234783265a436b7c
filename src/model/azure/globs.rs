//! The exported files that `resources: [contoso/*.json]` names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::model::Files;
use crate::model::fault::Fault;
use crate::model::node::Node;
use crate::model::text;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Files that all patterns of a list may match.
const MAX_FILES: usize = 10_000;

/// Reads the files that these patterns match, relative to `base` (the folder of the configuration file), each file once:
/// pattern by pattern, sorted. Only `.json`, `.yaml` and `.yml` count. The file of a document is that of its mark.
/// Which files those are is noted.
pub fn load_globs(base: &Path, patterns: &[Node], noted: &mut Files, faults: &mut Vec<Fault>) -> Vec<Node> {
    let mut documents = Vec::new();
    let mut seen = HashSet::new();
    for pattern in patterns {
        let Some(files) = matches(base, pattern, noted, faults) else { continue };
        for path in files {
            if seen.len() >= MAX_FILES {
                faults.push(pattern.fault(format!("matches too much; at most {MAX_FILES} files are read")));
                return documents;
            }
            if seen.insert(path.clone()) {
                documents.extend(read(&path, pattern, faults));
            }
        }
    }
    documents
}

fn matches(base: &Path, pattern: &Node, noted: &mut Files, faults: &mut Vec<Fault>) -> Option<Vec<PathBuf>> {
    let Some(written) = pattern.as_str().filter(|p| !p.is_empty()) else {
        faults.push(pattern.fault("must be a file name or pattern such as contoso/*.json"));
        return None;
    };
    let base = glob::Pattern::escape(&base.to_string_lossy());
    let whole = Path::new(&base).join(written);
    let found = match glob::glob(&whole.to_string_lossy()) {
        Ok(found) => found,
        Err(error) => {
            faults.push(pattern.fault(format!("is no file pattern: {}", error.msg)));
            return None;
        }
    };
    let mut files = Vec::new();
    let mut others = 0;
    for entry in found.take(MAX_FILES + 1) {
        match entry {
            Ok(path) if path.is_dir() => {}
            Ok(path) if is_read(&path) => files.push(path),
            Ok(_) => others += 1,
            Err(error) => {
                let message = format!("{} cannot be read: {}", error.path().display(), error.error());
                faults.push(pattern.fault(message));
            }
        }
    }
    if files.is_empty() {
        let message = match others {
            0 => "matches no file; it is looked up from the folder of the configuration file",
            _ => "matches no file whose name ends in .json, .yaml or .yml",
        };
        faults.push(pattern.fault(message));
    }
    files.sort();
    noted.match_all(&whole.to_string_lossy(), &files);
    Some(files)
}

/// The files that a whole pattern matches now, of those that would be read.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    let found = glob::glob(pattern).into_iter().flatten();
    let files = found.take(MAX_FILES + 1).flatten().filter(|path| !path.is_dir() && is_read(path));
    files.collect()
}

fn is_read(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| ["json", "yaml", "yml"].contains(&e.as_str()))
}

fn read(path: &Path, pattern: &Node, faults: &mut Vec<Fault>) -> Option<Node> {
    let name = path.display().to_string();
    let mut refuse = |message: String| {
        faults.push(pattern.mark.fault(name.clone(), message));
        None
    };
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return refuse("is no regular file".to_owned()),
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return refuse(format!("is larger than {MAX_FILE} bytes; export fewer resources into one file"));
        }
        Ok(_) => {}
        Err(error) => return refuse(format!("cannot be read: {error}")),
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return refuse(format!("cannot be read: {error}")),
    };
    match text::parse(&name, &text) {
        Ok(node) => Some(node),
        Err(wrong) => {
            faults.extend(wrong);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_matching_file_once_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("a[1]");
        fs::create_dir_all(base.join("sub.json")).unwrap();
        for (name, text) in [("b.json", "{}"), ("a.yaml", "x: 1"), ("c.txt", "no"), ("bad.json", "{")] {
            fs::write(base.join(name), text).unwrap();
        }
        let patterns = text::parse("c.yaml", b"['*.json', 'a.*', b.json, '*.txt', none*, '***', 7]").unwrap();
        let mut faults = Vec::new();
        let documents = load_globs(&base, patterns.as_list().unwrap(), &mut Files::default(), &mut faults);
        let names = documents.iter().map(|d| d.mark.file.rsplit('/').next().unwrap().to_owned());
        assert_eq!(names.collect::<Vec<_>>(), ["b.json", "a.yaml"]);
        let messages = faults.iter().map(|f| format!("{}:{} {} {}", f.line, f.column, f.value, f.message));
        let messages = messages.collect::<Vec<_>>();
        assert_eq!(messages.len(), 5, "{messages:?}");
        assert!(messages[0].starts_with("1:2  the file ends"));
        assert_eq!(messages[1], "1:27 *.txt matches no file whose name ends in .json, .yaml or .yml");
        assert!(messages[2].starts_with("1:36 none* matches no file; "));
        assert!(messages[3].starts_with("1:43 *** is no file pattern"));
        assert!(messages[4].starts_with("1:50 7 must be a file name"));
    }
}
