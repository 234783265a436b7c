//! Tests of reading YAML and JSON.

use super::*;

/// A tree as text: positions as `@line:column`.
fn show(node: &Node) -> String {
    let body = match &node.kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(b) => b.to_string(),
        Kind::Number(n) => n.clone(),
        Kind::String(s) => format!("{s:?}"),
        Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Kind::Map(entries) => {
            let each = |e: &Entry| format!("{}@{}:{}={}", e.key, e.mark.line, e.mark.column, show(&e.value));
            format!("{{{}}}", entries.iter().map(each).collect::<Vec<_>>().join(" "))
        }
    };
    format!("{body}@{}:{}", node.mark.line, node.mark.column)
}

fn faults(file: &str, text: &[u8]) -> Vec<String> {
    parse(file, text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn reads_values_with_their_places() {
    for (text, tree) in [
        (
            "a: 1\nb:\n  - x\n  - {c: 0xa01}\n",
            "{a@1:1=1@1:4 b@2:1=[\"x\"@3:5 {c@4:6=0xa01@4:9}@4:5]@3:3}@1:1",
        ),
        ("{\"ä\": [true, null,\n -1.5e3]}", "{ä@1:2=[true@1:8 null@1:14 -1.5e3@2:2]@1:7}@1:1"),
        ("// ARM\n{ /* x */ \"a\":\"b\\n\\u00e4\\ud83d\\ude00\" }", "{a@2:11=\"b\\nä😀\"@2:15}@2:1"),
        ("{a: b, c: [d]}", "{a@1:2=\"b\"@1:5 c@1:8=[\"d\"@1:12]@1:11}@1:1"),
        ("", "null@1:1"),
        ("a:\nb: ~\nc: ''", "{a@1:1=null@1:2 b@2:1=null@2:4 c@3:1=\"\"@3:4}@1:1"),
        ("x: &p {m: 1}\ny: *p", "{x@1:1={m@1:8=1@1:11}@1:4 y@2:1={m@1:8=1@1:11}@1:4}@1:1"),
        (
            "x: &p {m: 1, n: 2}\ny: {<<: *p, n: 3}",
            "{x@1:1={m@1:8=1@1:11 n@1:14=2@1:17}@1:4 y@2:1={n@2:13=3@2:16 m@1:8=1@1:11}@2:4}@1:1",
        ),
    ] {
        assert_eq!(show(&parse("t.yaml", text.as_bytes()).unwrap()), tree, "{text}");
    }
}

#[test]
fn tells_numbers_and_words_apart() {
    for text in ["0", "-7", "+7", "0xfF", "0o17", "1.5", ".5", "1.", "1e3", "1.5E-3", "007"] {
        assert!(matches!(plain(text.to_owned()), Kind::Number(_)), "{text}");
    }
    for text in
        ["10.0.0.0", "10.0.0.0/8", "00-0D-3A", "1e", "0x", ".", "-", "fd00::1", "1_000", "yes", "1:30"]
    {
        assert!(matches!(plain(text.to_owned()), Kind::String(_)), "{text}");
    }
    let quoted = parse("t.yaml", b"['1', \"true\", !!str 5]").unwrap();
    assert!(quoted.as_list().unwrap().iter().all(|n| n.as_str().is_some()));
}

#[test]
fn decodes_what_windows_writes() {
    let utf16 = |big: bool| {
        let units = "\u{feff}{\"a\": \"ä😀\"}".encode_utf16();
        units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect::<Vec<u8>>()
    };
    for bytes in [utf16(true), utf16(false), "\u{feff}{\"a\": \"ä😀\"}".as_bytes().to_vec()] {
        assert_eq!(show(&parse("t.json", &bytes).unwrap()), "{a@1:2=\"ä😀\"@1:7}@1:1");
    }
    let mut cut = utf16(false);
    cut.pop();
    assert_eq!(
        faults("t.json", &cut),
        ["t.json:1:11: error: '0x7d': is half a character of UTF-16; the file is cut short"]
    );
}

#[test]
fn faults_say_where_and_what() {
    for (file, text, fault) in [
        (
            "t.yaml",
            "a: 1\nb: 2\na: 3",
            "t.yaml:3:1: error: 'a': this key stands twice in one map; keep one of the two",
        ),
        (
            "t.json",
            "{\"a\":1,\n \"a\":2}",
            "t.json:2:2: error: 'a': this key stands twice in one map; keep one of the two",
        ),
        (
            "t.json",
            "{\"a\":1",
            "t.json:1:7: error: the file ends inside the map that begins at line 1 column 1; ',' or '}' is missing",
        ),
        (
            "t.json",
            "{\"a\" 1}",
            "t.json:1:6: error: '1': expected ':' behind the key in the map that begins at line 1 column 1",
        ),
        (
            "t.json",
            "[1 2]",
            "t.json:1:4: error: '2': expected ',' or ']' in the list that begins at line 1 column 1",
        ),
        ("t.json", "[yes]", "t.json:1:2: error: 'yes': is no JSON value; texts stand in double quotes"),
        ("t.json", "[01]", "t.json:1:2: error: '01': is not a JSON number"),
        (
            "t.json",
            "[\"\\ud800\"]",
            "t.json:1:3: error: '\\ud800': is half a surrogate pair, not a character",
        ),
        ("t.json", "[\"\\x\"]", "t.json:1:3: error: '\\x': is no JSON escape; a backslash is written \\\\"),
        ("t.json", "[\"a", "t.json:1:2: error: the text that begins here has no closing quote"),
        (
            "t.json",
            "{} {}",
            "t.json:1:4: error: '{': the document ends before this; a file holds one JSON document",
        ),
        (
            "t.yaml",
            "a: 1\n---\nb: 1",
            "t.yaml:2:1: error: '---': a second document begins here; a file holds one",
        ),
        ("t.yaml", "a: !x 1", "t.yaml:1:4: error: '!x': is a YAML tag that has no meaning here; remove it"),
        ("t.yaml", "[a]: 1", "t.yaml:1:1: error: a key must be a text, not a list or map"),
        ("t.yaml", "a: &x [*x]", "t.yaml:1:8: error: this alias stands inside the value that it repeats"),
        ("t.yaml", "<<: 1", "t.yaml:1:5: error: '1': '<<' takes a map or a list of maps"),
        (
            "t.yaml",
            "ä: \u{1}",
            "t.yaml:1:4: error: 'U+0001': is a control character; the file is damaged or no text",
        ),
    ] {
        assert_eq!(faults(file, text.as_bytes()), [fault], "{text}");
    }
    assert_eq!(
        faults("t.yaml", b"a: 1\nb: \xff"),
        ["t.yaml:2:4: error: '0xff': is no UTF-8; save the file as UTF-8"]
    );
    let tab = faults("t.yaml", b"a:\n\tb: 1");
    assert!(tab[0].starts_with("t.yaml:2:"), "{tab:?}");
}

#[test]
fn deep_and_exploding_documents_are_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("- ", "")] {
        for file in ["t.json", "t.yaml"] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            let fault = faults(file, deep.as_bytes()).join(" ");
            assert!(
                fault.contains("nested too deep") || fault.contains("cannot be read"),
                "{file} {open} {fault}"
            );
        }
    }
    let fine = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    assert!(parse("t.json", fine.as_bytes()).is_ok());
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let inner = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{inner}]\n");
    }
    assert!(faults("t.yaml", bomb.as_bytes())[0].contains("too much"));
}

#[test]
fn any_bytes_are_answered() {
    let pieces: [&[u8]; 24] = [
        b"{", b"}", b"[", b"]", b":", b": ", b",", b"- ", b"\n", b"\n  ", b"a", b"\"", b"'", b"*a", b"&a ",
        b"!t ", b"|\n", b"---\n", b"?", b"\t", b"%", b"\xff", b"\\u12", b"0x",
    ];
    let mut state = 1u64;
    for round in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..round % 23 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.extend_from_slice(pieces[(state >> 33) as usize % pieces.len()]);
        }
        for file in ["t.json", "t.yaml"] {
            if let Err(faults) = parse(file, &text) {
                assert!(!faults.is_empty());
            }
        }
    }
}
