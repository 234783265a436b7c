//! What a target begins with when its corpus is empty, and the pieces of input that mean something to it.

use std::io::Write;
use std::path::Path;

use clearway::io::write::{file_header, record_header};
use clearway::io::{Annotated, PcapWriter};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::mutate::Shape;

/// What there is to know of a target.
pub struct Seeds {
    pub shape: Shape,
    pub longest: usize,
    pub inputs: Vec<Vec<u8>>,
    pub words: Vec<Vec<u8>>,
}

/// The seeds of a target.
pub fn seeds(target: &str) -> Seeds {
    match target {
        "captures" => captures(),
        "configs" => configs(),
        // The corpus has files of every kind to begin with.
        "exports" => Seeds { inputs: vec![b"[]".to_vec()], ..configs() },
        "frames" => Seeds {
            shape: Shape::Frames,
            longest: 8192,
            inputs: crate::frames::seeds(),
            words: crate::frames::words(),
        },
        _ => Seeds { shape: Shape::Binary, longest: 4096, inputs: vec![vec![0; 64]], words: Vec::new() },
    }
}

/// The configurations of the tests and scenarios, and every text that the reader of configurations knows.
fn configs() -> Seeds {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = Vec::new();
    for folder in ["tests/data", "tests/fuzz", "pcaps"] {
        walk(&root.join(folder), &mut |path| {
            if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
                inputs.push(read(path));
            }
        });
    }
    inputs.retain(|text| text.len() <= LONGEST_CONFIG);
    let mut words = Vec::new();
    walk(&root.join("src/model"), &mut |path| {
        for literal in String::from_utf8_lossy(&read(path)).split('"').skip(1).step_by(2) {
            if literal.len() < 40 && !literal.is_empty() && !literal.contains(['{', '\n']) {
                words.push(literal.as_bytes().to_vec());
            }
        }
    });
    words.sort();
    words.dedup();
    Seeds { shape: Shape::Text, longest: LONGEST_CONFIG, inputs, words }
}

const LONGEST_CONFIG: usize = 16 * 1024;

fn walk(folder: &Path, found: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, found) } else { found(&path) }
    }
}

fn captures() -> Seeds {
    const FRAME: [u8; 42] = [0x45; 42];
    let mut micro = file_header(false).to_vec();
    let mut nano = file_header(true).to_vec();
    let mut modified = file_header(false).to_vec();
    modified[..4].copy_from_slice(&0xa1b2_cd34_u32.to_le_bytes());
    for n in 0..3_u64 {
        let len = FRAME.len() as u32 - n as u32;
        let frame = &FRAME[n as usize..];
        micro.extend([&record_header(n * 1_500_000_000, false, len, 1500)[..], frame].concat());
        nano.extend([&record_header(n * 1_500_000_007, true, len, len)[..], frame].concat());
        modified.extend([&record_header(n, false, len, len)[..], &[0; 8], frame].concat());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seed");
    let mut annotated = Annotated::create(&path, &["fabric", "edge"]).expect("a file");
    for n in 0..3 {
        annotated.write(n % 2, u64::from(n) << 40, &FRAME[n as usize..], 60, "a comment").expect("written");
    }
    annotated.into_file().finish().expect("written");
    let pcapng = read(&path);
    PcapWriter::create(&path, false).and_then(|w| w.into_file().finish()).expect("written");
    let empty = read(&path);

    let big = [swap_pcap(&micro), swap_pcap(&nano)];
    let sections = [&pcapng[..], &by_hand(true), &by_hand(false)].concat();
    let packed = [gzip(&micro), gzip(&sections), [gzip(&micro[..50]), gzip(&micro[50..])].concat()];
    let inputs = [micro, nano, modified, pcapng, empty, sections, by_hand(true)];
    let words: [&[u8]; 18] = [
        b"\xa1\xb2\xc3\xd4",
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\x3c\x4d",
        b"\x4d\x3c\xb2\xa1",
        b"\xa1\xb2\xcd\x34",
        b"\x34\xcd\xb2\xa1",
        b"\x0a\x0d\x0d\x0a",
        b"\x1a\x2b\x3c\x4d",
        b"\x4d\x3c\x2b\x1a",
        b"\x1f\x8b\x08",
        b"\x09\0\x01\0\x89\0\0\0",
        b"\x0e\0\x08\0",
        b"\x03\0\0\0\x10\0\0\0\0\0\0\0\x10\0\0\0",
        b"\x01\0\0\0\x14\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0",
        b"\x06\0\0\0",
        b"\x02\0\0\0",
        b"\x28\xb5\x2f\xfd",
        b"snoop\0",
    ];
    Seeds {
        shape: Shape::Binary,
        longest: 4096,
        inputs: inputs.into_iter().chain(big).chain(packed).collect(),
        words: words.map(<[u8]>::to_vec).to_vec(),
    }
}

/// A pcap of the other byte order, of records without the modified format's extra fields.
fn swap_pcap(bytes: &[u8]) -> Vec<u8> {
    let mut swapped = bytes.to_vec();
    for (at, width) in [(0, 4), (4, 2), (6, 2), (16, 4), (20, 4)] {
        swapped[at..at + width].reverse();
    }
    let mut at = 24;
    while let Some(&length) = bytes.get(at + 8..).and_then(|b| b.first_chunk::<4>()) {
        for field in 0..4 {
            swapped[at + field * 4..][..4].reverse();
        }
        at += 16 + u32::from_le_bytes(length) as usize;
    }
    swapped
}

/// A section with every kind of packet block and the options that matter.
fn by_hand(big_endian: bool) -> Vec<u8> {
    let word = |w: u32| if big_endian { w.to_be_bytes() } else { w.to_le_bytes() };
    let halves = |a: u16, b: u16| {
        word(if big_endian { u32::from(a) << 16 | u32::from(b) } else { u32::from(b) << 16 | u32::from(a) })
    };
    let block = |kind: u32, body: &[[u8; 4]]| {
        let length = word(12 + 4 * body.len() as u32);
        [&[word(kind), length], body, &[length]].concat().concat()
    };
    let data = [*b"data"; 4];
    let options = [halves(9, 1), [0x83, 0, 0, 0], halves(14, 8), word(0), word(9), halves(0, 0)];
    [
        block(0x0a0d_0d0a, &[word(0x1a2b_3c4d), halves(1, 0), [0xff; 4], [0xff; 4]]),
        block(1, &[&[halves(1, 0), word(12)], &options[..]].concat()),
        block(1, &[halves(113, 0), word(0)]),
        block(5, &[word(0), word(1), word(2)]),
        block(6, &[&[word(0), word(1), word(2), word(15), word(60)], &data[..]].concat()),
        block(3, &[&[word(16)], &data[..]].concat()),
        block(2, &[&[halves(0, 0), word(1), word(3), word(16), word(16)], &data[..]].concat()),
    ]
    .concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}
