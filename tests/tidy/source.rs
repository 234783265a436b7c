//! Rust source as the house rules read it: without comments, the contents of strings, and test code.

/// A name as it is used: all its segments, joined with `::`; `!` behind a macro, `.` and `(` around a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The line, from 1.
    pub line: usize,
    /// For example `crate::wire::gre`, `println!` or `.unwrap(`.
    pub name: String,
}

/// The text with everything blanked that is no code; lines and columns stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if let Some(length) = literal(bytes, at) {
            // The quotes stay, to tell an empty pair of brackets from one with a sentence.
            blank(&mut out[at + 1..at + length - 1]);
            at += length;
            continue;
        } else {
            at += 1;
            continue;
        };
        blank(&mut out[at..end]);
        at = end;
    }
    String::from_utf8(out).expect("blanks are ASCII and cover whole characters")
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string or character that begins here, without a prefix such as `b`.
fn literal(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    match rest[0] {
        b'"' => Some(quoted(rest)),
        b'r' if at == 0 || !is_word(bytes[at - 1]) || matches!(bytes[at - 1], b'b' | b'c') => {
            let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return None;
            }
            let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let inside = &rest[2 + hashes..];
            let end = inside.windows(close.len()).position(|w| w == close).unwrap_or(inside.len());
            Some((2 + hashes + end + close.len()).min(rest.len()))
        }
        // A lifetime has no quote behind it.
        b'\'' if rest.get(1) == Some(&b'\\') => {
            Some(3 + rest[3..].iter().position(|b| *b == b'\'').map_or(0, |n| n + 1))
        }
        b'\'' => {
            let character = std::str::from_utf8(rest.get(1..rest.len().min(5))?)
                .or_else(|e| std::str::from_utf8(&rest[1..1 + e.valid_up_to()]));
            let length = character.ok()?.chars().next()?.len_utf8();
            (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
        }
        _ => None,
    }
}

fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Blanks every item behind `#[cfg(test)]`; give it what [`code`] made.
pub fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let body = start + code[start..].find(['{', ';']).unwrap_or(code.len() - start - 1);
        let mut end = body + 1;
        if code.as_bytes()[body] == b'{' {
            let mut depth = 1;
            while depth > 0 && end < code.len() {
                depth += i32::from(code.as_bytes()[end] == b'{') - i32::from(code.as_bytes()[end] == b'}');
                end += 1;
            }
        }
        blank(&mut out[start..end]);
        from = end;
    }
    String::from_utf8(out).expect("blanks are ASCII and cover whole characters")
}

/// Every name used in what [`code`] made; groups such as `use a::{b, c}` are taken apart.
pub fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if starts_word(code, at) {
            at = path(code, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn starts_word(code: &str, at: usize) -> bool {
    let bytes = code.as_bytes();
    let first = bytes[at].is_ascii_alphabetic() || bytes[at] == b'_';
    first && (at == 0 || !is_word(bytes[at - 1]))
}

/// Reads one name that begins at `at` behind `prefix`; where it ends.
fn path(code: &str, at: usize, prefix: &str, found: &mut Vec<Use>) -> usize {
    let bytes = code.as_bytes();
    let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    let method = prefix.is_empty() && at > 0 && bytes[at - 1] == b'.' && !code[..at].ends_with("..");
    let mut name = if method { ".".to_owned() } else { prefix.to_owned() };
    let mut at = at;
    loop {
        let end = at + bytes[at..].iter().take_while(|b| is_word(**b)).count();
        name.push_str(&code[at..end]);
        at = end;
        if !code[at..].starts_with("::") {
            break;
        }
        let next = at + 2;
        if code[next..].starts_with('{') {
            return group(code, next + 1, &format!("{name}::"), found);
        }
        if next >= code.len() || !starts_word(code, next) {
            break;
        }
        name.push_str("::");
        at = next;
    }
    if code[at..].starts_with('!') && !code[at..].starts_with("!=") {
        name.push('!');
    }
    if method && code[at..].starts_with('(') {
        name.push('(');
    }
    found.push(Use { line, name });
    at
}

/// Reads the names of a group behind its opening brace; where it ends.
fn group(code: &str, mut at: usize, prefix: &str, found: &mut Vec<Use>) -> usize {
    while at < code.len() && !code[at..].starts_with('}') {
        if starts_word(code, at) {
            at = path(code, at, prefix, found);
        } else {
            at += 1;
        }
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g\\\"h\" 'i' '\\n' '\\u{1}' &'static r#\"j\"k\"# br\"l\" m\n\
                    #[cfg(test)]\nmod n {\n  fn o() {}\n}\np";
        let names = |text: &str| -> Vec<String> { uses(text).into_iter().map(|u| u.name).collect() };
        let stripped = code(text);
        assert_eq!(stripped.lines().count(), text.lines().count());
        assert_eq!(names(&without_tests(&stripped)), ["a", "e", "static", "r", "br", "m", "p"]);
    }

    #[test]
    fn groups_macros_and_methods_are_seen() {
        let found = uses("use crate::{a::{self, B}, c};\nx.unwrap(); y != z; vec![1]; p::q!(); 0..w");
        let names: Vec<_> = found.iter().map(|u| (u.line, u.name.as_str())).collect();
        let expected = [
            (1, "use"),
            (1, "crate::a::self"),
            (1, "crate::a::B"),
            (1, "crate::c"),
            (2, "x"),
            (2, ".unwrap("),
            (2, "y"),
            (2, "z"),
            (2, "vec!"),
            (2, "p::q!"),
            (2, "w"),
        ];
        assert_eq!(names, expected);
    }
}
