//! Captures over the control socket: a line for each packet, until there are enough or nobody takes them.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::names::{customer_and_vnet, named};
use super::{CaptureBegun, CaptureCounts, CapturedPacket, PATIENCE, Reply};
use crate::live::capture::{CaptureWanted, Captured, End, Filter, Next};
use crate::live::handle::{Handle, Snapshot};
use crate::live::listen::{Stream, Timed};
use crate::observe::json;
use crate::packet::Reason;

/// Captures at a time: the other connections are left to short requests.
const CAPTURES: usize = 2;

/// How often it is looked whether a capture that has no packets is to end.
const LOOK: Duration = Duration::from_millis(200);

/// How often who captures is told how far it is. Only by writing is it seen that nobody is there any more.
const TELL: Duration = Duration::from_secs(1);

/// Bytes that are gathered before they are written.
const PIECE: usize = 64 * 1024;

/// Which packets are to be captured: those that everything fits which is said; and how many, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// Of this customer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Of VNets with this name only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vnet: Option<String>,
    /// Dropped or punted for this reason only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `forward`, `drop` or `punt` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// With this address at either end only, of the packet or of the GRE packet around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Of these protocols only, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<u8>,
    /// Packets of customers between these two only, either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<[End; 2]>,
    /// That came in by this port only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// So many packets at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For so long at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// The captures that go on.
#[derive(Debug, Default)]
pub(super) struct Captures {
    ended: AtomicBool,
    running: AtomicUsize,
}

/// The place of one of them.
struct Place<'a>(&'a Captures);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Captures {
    /// Ends all of them.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// True once they are all to end.
    pub fn are_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn place(&self) -> Option<Place<'_>> {
        let place = self.running.fetch_add(1, Ordering::AcqRel);
        Some(Place(self)).filter(|_| place < CAPTURES)
    }

    /// Writes all replies but the last one, which comes back.
    pub fn stream(
        &self,
        request: &CaptureRequest,
        handle: &dyn Handle,
        stream: &mut Timed<impl Stream>,
    ) -> io::Result<Reply> {
        let Some(_place) = self.place() else {
            return Ok(Reply::Error(format!("{CAPTURES} captures go on already; end one of them first")));
        };
        let snapshot = handle.snapshot();
        let wanted = match request.wanted(&snapshot) {
            Ok(wanted) => wanted,
            Err(sentence) => return Ok(Reply::Error(sentence)),
        };
        let mut capturing = handle.capture(wanted);
        let ports = configured(&snapshot).map(str::to_owned).collect();
        let mut lines = Vec::new();
        say(&mut lines, &Reply::Capture(CaptureBegun { ports }));
        write(stream, &mut lines)?;
        let mut told = Instant::now();
        while !self.are_ended() {
            // What is gathered is written once there is no more of it.
            match capturing.next(if lines.is_empty() { LOOK } else { Duration::ZERO }) {
                Next::Packet(packet) => {
                    say(&mut lines, &Reply::Packet(Box::new(document(*packet, capturing.given()))));
                    if lines.len() >= PIECE {
                        write(stream, &mut lines)?;
                    }
                }
                Next::Nothing => write(stream, &mut lines)?,
                Next::Over => break,
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let counts = CaptureCounts { captured: capturing.given(), missed: capturing.missed() };
                say(&mut lines, &Reply::Capturing(counts));
                write(stream, &mut lines)?;
            }
        }
        write(stream, &mut lines)?;
        Ok(Reply::Captured(CaptureCounts { captured: capturing.given(), missed: capturing.missed() }))
    }
}

fn document(packet: Captured, number: u64) -> CapturedPacket {
    CapturedPacket {
        port: packet.port_name().to_owned(),
        time: packet.time,
        length: packet.original,
        verdict: packet.line(number),
        frame: packet.frame,
    }
}

fn say(lines: &mut Vec<u8>, reply: &Reply) {
    lines.extend_from_slice(json::line(reply).as_bytes());
    lines.push(b'\n');
}

fn write(stream: &mut Timed<impl Stream>, lines: &mut Vec<u8>) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    stream.extend(PATIENCE);
    stream.write_all(lines)?;
    lines.clear();
    Ok(())
}

fn configured(snapshot: &Snapshot) -> impl Iterator<Item = &str> + Clone {
    snapshot.ports.iter().filter(|p| p.configured).map(|p| p.name.as_str())
}

impl CaptureRequest {
    /// What is wanted, with names as they are written here; or a sentence about what there is not.
    fn wanted(&self, here: &Snapshot) -> Result<CaptureWanted, String> {
        let (customer, vnet) = customer_and_vnet(&self.customer, &self.vnet, here)?;
        let port = self.port.as_ref().map(|p| named("port", p, configured(here))).transpose()?;
        let reasons = Reason::ALL.iter().map(|r| r.name());
        let reason = self.reason.as_ref().map(|r| named("reason", r, reasons)).transpose()?;
        let reason = reason.and_then(|name| Reason::ALL.iter().find(|r| r.name() == name).copied());
        let verdicts = ["forward", "drop", "punt"].into_iter();
        let verdict = self.verdict.as_ref().map(|v| named("verdict", v, verdicts)).transpose()?;
        let time = self.seconds.map(Duration::try_from_secs_f64).transpose();
        let time = time.map_err(|_| "seconds: this is no time that can be waited for".to_owned())?;
        let (protocols, between, address) = (self.protocols.clone(), self.between, self.address);
        let filter = Filter { customer, vnet, reason, verdict, address, protocols, between, port };
        Ok(CaptureWanted { filter, count: self.count, time, sample: None })
    }
}
