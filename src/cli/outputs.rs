//! The files that a replay writes: all of them, or none.

use std::path::Path;

use crate::dataplane::MeterReading;
use crate::io::{Annotated, AtomicFile, OutputError, PcapWriter, commit, make_folder};
use crate::observe::expect::{Difference, Expectations};
use crate::observe::meters::meters;
use crate::observe::{Summary, Time, VerdictLine, json};
use crate::runtime::{Finished, Totals};

/// What is wanted of a replay.
pub struct Wanted<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Write `verdicts.jsonl`.
    pub verdicts: bool,
    /// Write `annotated.pcapng`.
    pub annotate: bool,
    /// Compare with these.
    pub expectations: Option<Expectations>,
}

/// Everything that a replay's results go into.
pub struct Outputs {
    ports: Vec<String>,
    captures: Vec<PcapWriter>,
    verdicts: Option<AtomicFile>,
    annotated: Option<Annotated>,
    summary_file: AtomicFile,
    meters_file: AtomicFile,
    expectations: Option<Expectations>,
    differences: Vec<Difference>,
    summary: Summary,
    line: Vec<u8>,
    nanosecond: bool,
}

/// What is left to be told when the files are there.
pub struct Results {
    /// The counts.
    pub summary: Summary,
    /// What was not as expected.
    pub differences: Vec<Difference>,
    /// The packets that were expected and did not occur.
    pub missing: Vec<u64>,
}

impl Outputs {
    /// Begins all files, under temporary names.
    pub fn create(wanted: Wanted<'_>, ports: &[String], nanosecond: bool) -> Result<Outputs, OutputError> {
        let folder = wanted.folder;
        make_folder(folder)?;
        let capture = |port: &String| PcapWriter::create(&folder.join(format!("{port}.pcap")), nanosecond);
        let optional = |on: bool, name: &str| on.then(|| folder.join(name));
        Ok(Outputs {
            captures: ports.iter().map(capture).collect::<Result<_, _>>()?,
            verdicts: optional(wanted.verdicts, "verdicts.jsonl")
                .map(|p| AtomicFile::create(&p))
                .transpose()?,
            annotated: optional(wanted.annotate, "annotated.pcapng")
                .map(|p| Annotated::create(&p, ports))
                .transpose()?,
            summary_file: AtomicFile::create(&folder.join("summary.json"))?,
            meters_file: AtomicFile::create(&folder.join("meters.json"))?,
            expectations: wanted.expectations,
            differences: Vec::new(),
            summary: Summary::new(ports),
            line: Vec::with_capacity(512),
            ports: ports.to_vec(),
            nanosecond,
        })
    }

    /// From here on output captures have nanoseconds: an input turned out to be so fine. What is written is changed.
    #[cold]
    pub fn use_nanoseconds(&mut self) -> Result<(), OutputError> {
        self.nanosecond = true;
        self.captures.iter_mut().try_for_each(PcapWriter::use_nanoseconds)
    }

    /// Whether output captures have nanoseconds.
    #[inline]
    pub fn nanosecond(&self) -> bool {
        self.nanosecond
    }

    /// Takes a packet that has finished.
    pub fn take(&mut self, packet: &Finished<'_>) -> Result<(), OutputError> {
        self.summary.count(packet);
        for (port, frame) in packet.frames {
            if let Some(capture) = self.captures.get_mut(usize::from(*port)) {
                capture.write(packet.now, frame)?;
            }
        }
        let expected = self.expectations.as_ref().is_some_and(|e| e.about(packet.number));
        if self.verdicts.is_none() && self.annotated.is_none() && !expected {
            return Ok(());
        }
        self.line.clear();
        let port = self.ports.get(usize::from(packet.port)).map_or("", String::as_str);
        let time = Time { at: packet.time, digits: packet.digits };
        if let Some(outcome) = &packet.outcome {
            VerdictLine::new(packet.number, time, port, outcome, packet.program).write(&mut self.line);
        }
        if let Some(expectations) = self.expectations.as_mut().filter(|_| expected) {
            expectations.compare(packet.number, &self.line, &mut self.differences);
        }
        if let Some(annotated) = &mut self.annotated {
            let comment = std::str::from_utf8(&self.line).unwrap_or_default();
            let port = u32::from(packet.port);
            annotated.write(port, packet.time, packet.captured, packet.original, comment)?;
        }
        if let Some(verdicts) = &mut self.verdicts {
            self.line.push(b'\n');
            verdicts.put(&self.line)?;
        }
        Ok(())
    }

    /// Writes the summary and the meters, and gives all files their names.
    pub fn finish(mut self, totals: Totals, readings: &[MeterReading]) -> Result<Results, OutputError> {
        self.meters_file.put(json::line(&meters(readings)).as_bytes())?;
        self.meters_file.put(b"\n")?;
        self.summary.flows(totals);
        self.summary_file.put(json::line(&self.summary).as_bytes())?;
        self.summary_file.put(b"\n")?;
        let mut files: Vec<AtomicFile> = self.captures.into_iter().map(PcapWriter::into_file).collect();
        files.extend(self.verdicts);
        files.extend(self.annotated.map(Annotated::into_file));
        files.push(self.summary_file);
        files.push(self.meters_file);
        commit(files)?;
        Ok(Results {
            summary: self.summary,
            differences: self.differences,
            missing: self.expectations.map_or_else(Vec::new, |e| e.left()),
        })
    }
}
