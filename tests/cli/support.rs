//! Runs the command, and makes the configurations and captures that it is run on.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clearway::io::write::{file_header, record_header};
use clearway::wire::build::{self, Transport};
use tempfile::TempDir;

/// The contract's example.
pub const EXAMPLE: &str = include_str!("../data/contract-example.yaml");

/// How a run of the command ended.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// What was printed, which is one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {}", self.stdout),
        }
    }
}

/// Runs the command.
pub fn clearway<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    clearway_in(Path::new("."), args)
}

/// Runs the command in a folder.
pub fn clearway_in<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_clearway"))
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A folder with files, and the command run in it.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    /// A folder with the contract's example as `config.yaml`.
    pub fn with_example() -> Folder {
        Folder::new().file("config.yaml", EXAMPLE)
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Folder {
        std::fs::write(self.path(name), content).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the command with words parted by blanks.
    pub fn run(&self, words: &str) -> Ran {
        clearway_in(self.0.path(), words.split_whitespace())
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// The names in a folder, sorted; empty if it is not there.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A TCP segment from a host on the example's fabric.
pub fn segment(host: &str, key: u32, from: (&str, u16), to: (&str, u16), flags: u8) -> Vec<u8> {
    let transport = Transport::Tcp { source: from.1, destination: to.1, flags };
    let packet = build::ip_packet(ip(from.0), ip(to.0), transport, b"").unwrap();
    build::gre_frame(ip(host), ip("198.51.100.2"), key, None, &packet).unwrap()
}

/// A SYN from 10.1.0.4, which lives on 198.51.100.11, to the Internet.
pub fn syn(port: u16) -> Vec<u8> {
    segment("198.51.100.11", 0xa01, ("10.1.0.4", port), ("93.184.216.34", 443), 2)
}

/// A capture of frames with their times in nanoseconds.
pub fn pcap(nanosecond: bool, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = file_header(nanosecond).to_vec();
    for (time, frame) in frames {
        let length = frame.len() as u32;
        bytes.extend(record_header(*time, nanosecond, length, length));
        bytes.extend(frame);
    }
    bytes
}

/// A capture of as many SYNs to the Internet, a millisecond apart.
pub fn syns(count: u64) -> Vec<u8> {
    let frames: Vec<_> =
        (0..count).map(|n| (1_542_110_402_000_001_000 + n * 1_000_000, syn(n as u16))).collect();
    pcap(false, &frames)
}
