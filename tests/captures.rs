//! Real captures: each opens or is refused with a sentence, with the packets that other tools see in it; and captures
//! cut at every byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clearway::io::write::{file_header, record_header};
use clearway::io::{Annotated, Capture, CaptureError, Packet};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// A packet with its own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    time: u64,
    digits: u8,
    captured: Vec<u8>,
    original_len: u32,
}

impl From<Packet<'_>> for Owned {
    fn from(p: Packet<'_>) -> Owned {
        let captured = p.captured.to_vec();
        Owned { time: p.time, digits: p.digits, captured, original_len: p.original_len }
    }
}

/// What came of reading a capture to its end.
struct Reading {
    packets: Vec<Owned>,
    error: Option<CaptureError>,
    warning: Option<(u64, String)>,
}

fn read(capture: Result<Capture, CaptureError>) -> Reading {
    let mut done = Reading { packets: Vec::new(), error: None, warning: None };
    let mut capture = match capture {
        Ok(capture) => capture,
        Err(error) => return Reading { error: Some(error), ..done },
    };
    loop {
        match capture.next() {
            Ok(Some(packet)) => done.packets.push(packet.into()),
            Ok(None) => break,
            Err(error) => {
                done.error = Some(error);
                break;
            }
        }
    }
    assert!(capture.next().expect("after the end there is nothing").is_none());
    assert_eq!(capture.packets(), done.packets.len() as u64);
    done.warning = capture.warning().map(|w| (w.offset, w.to_string()));
    done
}

fn read_bytes(bytes: &[u8]) -> Reading {
    read(Capture::from_bytes("bytes", bytes.to_vec()))
}

/// The folder of real data, where there is one.
fn data() -> Option<PathBuf> {
    let folder = match std::env::var_os("CLEARWAY_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let there = folder.join("pcap").is_dir();
    if !there {
        println!("skipped: no captures under {}", folder.display());
    }
    there.then_some(folder)
}

/// What the table of the data says of a capture: packets, link types, and whether the file is damaged.
fn provenance(row: &str) -> Option<(&str, usize, &str, bool)> {
    let mut columns = row.split('\t');
    let file = columns.next().filter(|f| f.starts_with("pcap/"))?;
    let says = columns.nth(7)?;
    let (before, after) = says.split_once(" pkts ")?;
    let packets = before.rsplit(' ').next()?.parse().ok()?;
    let links = after.split_once("lt=").map(|(_, l)| l.split(';').next().unwrap_or(l))?;
    Some((file, packets, links, says.contains("file fault")))
}

#[test]
fn every_real_capture_gives_its_packets_or_a_sentence() {
    let Some(data) = data() else { return };
    let table = std::fs::read_to_string(data.join("PROVENANCE.tsv")).expect("the table of the data");
    let mut counts = BTreeMap::new();
    for (file, packets, links, damaged) in table.lines().filter_map(provenance) {
        let name = data.join(file);
        let reading = read(Capture::open(name.to_str().expect("a name in UTF-8")));
        assert_eq!(reading.warning, None, "{file}");
        let outcome = match (reading.error, damaged) {
            (None, false) => {
                assert!(links == "1" || packets == 0, "{file}: link types {links}");
                assert_eq!(reading.packets.len(), packets, "{file}");
                "read"
            }
            (Some(error), true) => {
                assert_eq!(reading.packets.len(), packets, "{file}");
                assert!(error.offset.is_some_and(|o| o >= 24), "{file}: {error}");
                assert!(
                    error.message.contains("says that it ha") || error.message.contains("says that it holds")
                );
                "damaged"
            }
            (Some(error), false) => {
                let said = error.message.split("link type ").nth(1).and_then(|m| m.split(' ').next());
                let said = said.unwrap_or_else(|| panic!("{error}"));
                assert!(said != "1" && links.split(',').any(|l| l == said), "{file}: {links}: {error}");
                "of another link type"
            }
            (None, true) => panic!("{file}: the damage is not seen"),
        };
        *counts.entry(outcome).or_insert(0) += 1;
    }
    println!("{counts:?}");
    assert!(counts.values().sum::<i32>() > 300, "{counts:?}");
}

#[test]
fn real_captures_have_the_frames_that_tshark_lists() {
    let Some(data) = data() else { return };
    let (mut files, mut frames) = (0, 0);
    for entry in std::fs::read_dir(data.join("tshark-fields")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut text = String::new();
        let file = std::fs::File::open(&path).expect("a table");
        GzDecoder::new(file).read_to_string(&mut text).expect("a table");
        let category = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split('.').next());
        let folder = data.join("pcap").join(category.expect("a category"));
        let mut listed: BTreeMap<&str, Vec<(u32, usize)>> = BTreeMap::new();
        for row in text.lines().skip(1) {
            if let Some((file, note)) = row.split_once("\t#tshark: ") {
                let name = folder.join(file);
                let reading = read(Capture::open(name.to_str().expect("a name in UTF-8")));
                assert!(reading.error.is_some(), "{file}: {note}");
                // What it made of the bytes before is a guess.
                listed.remove(file);
                continue;
            }
            let columns: Vec<&str> = row.split('\t').collect();
            let [file, number, len, captured, protocols, ..] = columns[..] else { panic!("{row}") };
            if protocols == "data" {
                // A block that holds no packet.
                continue;
            }
            let of_file = listed.entry(file).or_default();
            of_file.push((len.parse().expect("a length"), captured.parse().expect("a length")));
            assert_eq!(of_file.len().to_string(), number, "{file}");
        }
        for (file, listed) in listed {
            let name = folder.join(file);
            let reading = read(Capture::open(name.to_str().expect("a name in UTF-8")));
            let ours: Vec<_> = reading.packets.iter().map(|p| (p.original_len, p.captured.len())).collect();
            if reading.error.is_some_and(|e| e.message.contains("link type")) {
                assert!(listed.starts_with(&ours), "{file}");
                continue;
            }
            assert!(ours.starts_with(&listed), "{file}");
            assert!(ours.len() == listed.len() || listed.len() == 400, "{file}: {}", ours.len());
            files += 1;
            frames += listed.len();
        }
    }
    println!("{frames} frames of {files} captures");
    assert!(files > 100);
}

#[test]
fn equivalent_captures_have_equal_packets() {
    let Some(data) = data() else { return };
    let folder = data.join("pcap/pcap-format");
    let of = |file: &str| read(Capture::open(folder.join(file).to_str().expect("a name in UTF-8"))).packets;
    let plain = of("libtrace__100_packets.pcap");
    assert_eq!(plain.len(), 100);
    assert!(plain.iter().all(|p| p.digits == 6));
    assert_eq!(plain, of("libtrace__100_packets.pcapng"));
    let fine = of("libtrace__100_packetsns.pcap");
    assert!(fine.iter().all(|p| p.digits == 9));
    let bytes = |packets: &[Owned]| -> Vec<_> {
        packets.iter().map(|p| (p.original_len, p.captured.clone())).collect()
    };
    assert_eq!(bytes(&plain), bytes(&fine));
    let mut pairs = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        if name.contains("__be-") {
            assert_eq!(of(&name), of(&name.replace("__be-", "__le-")), "{name}");
            pairs += 1;
        }
    }
    assert!(pairs >= 10, "{pairs}");
}

/// Cuts `whole` at every byte; `ends` are the offsets where a record ends, that of the file header first.
fn cut_everywhere(whole: &[u8], ends: &[usize], packets_at: &[usize]) {
    let all = read_bytes(whole).packets;
    assert_eq!(Some(&all.len()), packets_at.last());
    for cut in 0..whole.len() {
        let reading = read_bytes(&whole[..cut]);
        let Some(last) = ends.iter().rposition(|end| *end <= cut) else {
            let error = reading.error.unwrap_or_else(|| panic!("cut at {cut}"));
            assert!(error.message.contains("no capture at all"), "cut at {cut}: {error}");
            continue;
        };
        assert_eq!(reading.error, None, "cut at {cut}");
        assert_eq!(reading.packets, all[..packets_at[last]], "cut at {cut}");
        match reading.warning {
            None => assert_eq!(ends[last], cut),
            Some((offset, sentence)) => {
                assert_ne!(ends[last], cut, "{sentence}");
                assert_eq!(offset, ends[last] as u64, "cut at {cut}: {sentence}");
                let there = format!("{} are there; ", cut - ends[last]);
                assert!(sentence.contains("the capture is cut") && sentence.contains(&there), "{sentence}");
            }
        }
    }
}

fn pcap_of(packets: &[(u64, &[u8])]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = file_header(false).to_vec();
    let mut ends = vec![bytes.len()];
    for (time, frame) in packets {
        let len = frame.len() as u32;
        bytes.extend(record_header(*time, false, len, len));
        bytes.extend(*frame);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

const PACKETS: [(u64, &[u8]); 4] =
    [(1_000, &[1; 60]), (2_000_000_000, &[]), (2_000_001_000, &[3; 1]), (3_000_000_000, &[4; 99])];

#[test]
fn a_pcap_cut_anywhere_gives_its_whole_records_and_a_warning() {
    let (whole, ends) = pcap_of(&PACKETS);
    cut_everywhere(&whole, &ends, &[0, 1, 2, 3, 4]);
}

#[test]
fn a_pcapng_cut_anywhere_gives_its_whole_records_and_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut.pcapng");
    let mut writer = Annotated::create(&path, &["fabric", "edge"]).expect("a file");
    for (n, (time, frame)) in PACKETS.iter().enumerate() {
        writer.write(n as u32 % 2, *time, frame, 100, "why").expect("written");
    }
    writer.into_file().finish().expect("written");
    let whole = std::fs::read(path).expect("a file");
    let (mut ends, mut packets_at) = (vec![], vec![]);
    let (mut at, mut packets) = (0, 0);
    while at < whole.len() {
        let word = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("4 bytes"));
        packets += usize::from(word(at) == 6);
        at += word(at + 4) as usize;
        ends.push(at);
        packets_at.push(packets);
    }
    cut_everywhere(&whole, &ends, &packets_at);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_gzip_stream_cut_anywhere_gives_what_it_holds_and_a_warning() {
    let frames: Vec<Vec<u8>> = (0..50_u32).map(|n| n.to_be_bytes().repeat(1 + n as usize % 20)).collect();
    let packets: Vec<(u64, &[u8])> =
        frames.iter().enumerate().map(|(n, f)| (n as u64 * 1_000_000, &f[..])).collect();
    let (plain, ends) = pcap_of(&packets);
    // Two members, the first ending inside a record.
    let (first, second) = plain.split_at(plain.len() / 2 + 3);
    let whole = [gzip(first), gzip(second)].concat();
    let all = read_bytes(&whole);
    assert_eq!((all.packets.len(), &all.error, &all.warning), (50, &None, &None));
    assert_eq!(all.packets, read_bytes(&plain).packets);
    let mut before = 0;
    for cut in 0..whole.len() {
        let reading = read_bytes(&whole[..cut]);
        let count = reading.packets.len();
        assert_eq!(reading.packets, all.packets[..count], "cut at {cut}");
        assert!(count >= before, "cut at {cut}");
        before = count;
        match (reading.error, reading.warning) {
            (Some(error), None) => {
                assert!(error.message.contains("no capture at all") && count == 0, "cut at {cut}: {error}");
            }
            (None, Some((offset, sentence))) => {
                let at_the_seam = cut == gzip(first).len();
                assert_eq!(
                    !at_the_seam,
                    sentence.contains("the gzip stream is cut"),
                    "cut at {cut}: {sentence}"
                );
                assert_eq!(offset, ends[count] as u64, "cut at {cut}: {sentence}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    assert_eq!(before, 50);
}

#[test]
fn what_follows_a_gzip_stream_is_warned_of_and_damage_inside_is_an_error() {
    let (plain, _) = pcap_of(&PACKETS);
    let reading = read_bytes(&[gzip(&plain), vec![0; 512]].concat());
    assert_eq!((reading.packets.len(), reading.error), (4, None));
    let (offset, sentence) = reading.warning.expect("a warning");
    assert_eq!(offset, plain.len() as u64);
    assert!(sentence.contains("behind the gzip stream"), "{sentence}");
    let mut wrong_sum = gzip(&plain);
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    let reading = read_bytes(&wrong_sum);
    let error = reading.error.expect("an error").to_string();
    assert!(error.contains("the gzip stream is damaged"), "{error}");
    assert_eq!(reading.packets.len(), 4);
}

#[test]
fn what_is_no_capture_is_refused_with_its_name() {
    for (bytes, says) in [
        (&b""[..], "is empty"),
        (b"\xa1\xb2", "begins with a1 b2, and"),
        (b"{\"a\": 1}", "probably JSON"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (&gzip(&gzip(b"x")), "gzip twice"),
        (&gzip(b""), "is empty"),
        (b"\x1f\x8b", "the gzip stream is cut"),
        (b"\xd4\xc3\xb2\xa1\x02", "24 bytes, 5 are there"),
    ] {
        let error =
            Capture::from_bytes("some.pcap", bytes.to_vec()).map(|_| ()).expect_err("no capture").to_string();
        assert!(error.starts_with("some.pcap: ") && error.contains(says), "{error}");
        assert!(error.contains("no capture at all"), "{error}");
    }
    let error = Capture::open("/does/not/exist.pcap").map(|_| ()).expect_err("no file").to_string();
    assert_eq!(error, "/does/not/exist.pcap: cannot be opened: No such file or directory");
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().to_str().expect("a name in UTF-8");
    let error = Capture::open(name).map(|_| ()).expect_err("a folder").to_string();
    assert_eq!(error, format!("{name}: cannot be read: Is a directory"));
}

#[test]
fn a_capture_longer_than_the_buffer_is_read_through() {
    let frames: Vec<Vec<u8>> = (0..4000_u32).map(|n| vec![n as u8; (n as usize * 37) % 1500]).collect();
    let mut packets: Vec<(u64, &[u8])> = frames.iter().map(|f| (5_000, &f[..])).collect();
    let longest = vec![7; clearway::io::MAX_PACKET as usize];
    packets.insert(1000, (6_000, &longest));
    let (plain, _) = pcap_of(&packets);
    for bytes in [plain.clone(), gzip(&plain)] {
        let reading = read_bytes(&bytes);
        assert_eq!((&reading.error, &reading.warning), (&None, &None));
        assert!(reading.packets.iter().map(|p| (p.time, &p.captured[..])).eq(packets.iter().copied()));
    }
}
