//! The faults found so far, and the words for saying what is wrong and what would be right.

use crate::model::Files;
use crate::model::fault::{Fault, Severity};
use crate::model::node::{Mark, Node};

/// Every fault and warning found so far.
#[derive(Default)]
pub struct Report {
    /// What refuses the configuration.
    pub errors: Vec<Fault>,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Fault>,
    /// The files that were read.
    pub files: Files,
}

/// A fault has been reported: the value is missing, and nothing more need be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;

/// A value, unless its fault has been reported.
pub type Read<T> = Result<T, Reported>;

impl Report {
    /// This value is wrong.
    pub fn fault(&mut self, at: &Node, message: impl Into<String>) -> Reported {
        self.fault_at(&at.mark, &written(at), message)
    }

    /// What stands here is wrong.
    pub fn fault_at(&mut self, mark: &Mark, value: &str, message: impl Into<String>) -> Reported {
        self.errors.push(mark.fault(value, message));
        Reported
    }

    /// This map lacks something.
    pub fn lacks(&mut self, map: &Node, message: impl Into<String>) -> Reported {
        self.fault_at(&map.mark, "", message)
    }

    /// This value is accepted, but probably not meant.
    pub fn warn(&mut self, at: &Node, message: impl Into<String>) {
        self.warn_at(&at.mark, &written(at), message);
    }

    /// What stands here is accepted, but probably not meant.
    pub fn warn_at(&mut self, mark: &Mark, value: &str, message: impl Into<String>) {
        let fault = mark.fault(value, message);
        self.warnings.push(Fault { severity: Severity::Warning, ..fault });
    }
}

/// A value as written; of a map, the name or id that it goes by.
pub fn written(node: &Node) -> String {
    let named = |key: &str| node.get_ci(key).and_then(Node::as_text);
    match node.as_text().or_else(|| named("name")).or_else(|| named("id")) {
        Some(name) => name.to_string(),
        None => node.describe(),
    }
}

/// Where a value stands, for a sentence about another: `line 12`, or `FILE:12` when it is another file.
pub fn place(mark: &Mark, from: &Mark) -> String {
    if mark.file == from.file {
        format!("line {}", mark.line)
    } else {
        format!("{}:{}", mark.file, mark.line)
    }
}

/// `a, b or c`.
pub fn alternatives<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_string(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The known name that was probably meant: letter case apart, at most a third of the letters differ.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let most = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter_map(|k| {
            // Cheap test first: service tags are thousands.
            if k.len().abs_diff(name.len()) > most {
                return None;
            }
            let d = distance(&name, &k.to_lowercase());
            (d <= most).then_some((d, k))
        })
        .min()
        .map(|(_, k)| k)
}

/// ` (did you mean 'x'?)`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |k| format!("; did you mean {k}?"))
}

/// The number of letters to insert, delete, replace or swap with a neighbour.
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut d = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                d = d.min(before[j - 1] + 1);
            }
            row.push(d);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_name() {
        assert_eq!(distance("tunels", "tunnels"), 1);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("virtualNetwork", ["virtualNetworks", "tunnels"]), Some("virtualNetworks"));
        assert_eq!(nearest("HOSTS", ["ports", "hosts"]), Some("hosts"));
        assert_eq!(nearest("colour", ["hosts"]), None);
        assert_eq!(alternatives(["a", "b", "c"]), "a, b or c");
    }
}
