//! `capture`: packets of a running appliance, with their verdicts, into a pcapng file that is whole at any time.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::args::{CaptureArgs, ProtocolName, Socket};
use super::progress::Count;
use super::running::{astray, path};
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::io::{Annotated, Growing, OutputError};
use crate::live::capture::End;
use crate::live::control::{CaptureRequest, Conversation, Reply, Request};
use crate::live::report::{CaptureCounts, CapturedPacket};
use crate::live::service::Signals;
use crate::observe::json;
use crate::wire::protocol;

/// Captures until there is enough, the user ends it, or nobody reads what comes.
pub fn run(args: &CaptureArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let piped = args.out == Path::new("-");
    if piped && args.json {
        return Err("--json and --out - would both have standard output; name a file by --out".into());
    }
    if piped && io::stdout().is_terminal() {
        return Err("a capture is nothing for a terminal; name a file by --out, or pipe it".into());
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let signals = Signals::listen().map_err(|e| format!("signals cannot be received: {e}"))?;
    // A file that is there already stays as it is unless a capture begins.
    let mut conversation = Conversation::begin(&path(args.control.as_ref()), &request(args))?;
    let Reply::Capture(begun) = conversation.hear()? else { return Err(astray()) };
    let out = Growing::create(&args.out).map_err(|e| e.to_string())?;
    let end = conversation.ender()?;
    let tell = stopped.clone();
    thread::spawn(move || {
        if signals.wait() {
            tell.store(true, Ordering::Release);
            end();
        }
        // Who writes may stand still, because nobody reads: then the second signal ends it.
        if signals.wait() {
            std::process::exit(130);
        }
    });
    let mut counts = CaptureCounts::default();
    let mut file = match Interfaces::begin(out, begun.ports) {
        Ok(file) => file,
        Err(error) => return Err(error.to_string().into()),
    };
    let ended = take(&mut conversation, &mut file, &mut counts);
    let CaptureCounts { captured, missed } = counts;
    let plural = if captured == 1 { "" } else { "s" };
    let sentence = format!("{captured} packet{plural} captured, {missed} missed");
    if args.json {
        terminal.line(json::document(&counts))
    } else if piped {
        terminal.note(&sentence)
    } else {
        terminal.line(&sentence)
    }
    match ended {
        Err(_) if stopped.load(Ordering::Acquire) || file.file.out().is_abandoned() => Ok(Exit::Done),
        ended => ended.map(|()| Exit::Done),
    }
}

fn request(args: &CaptureArgs) -> Request {
    let CaptureArgs { customer, vnet, reason, verdict, address, port, count, seconds, .. } = args;
    let protocols = match args.protocol {
        None => Vec::new(),
        Some(ProtocolName::Icmp) => vec![protocol::ICMP, protocol::ICMPV6],
        Some(ProtocolName::Number(number)) => vec![number],
    };
    let end = |socket: &Socket| End { address: socket.address, port: socket.port };
    let between = match args.between.as_deref() {
        Some([a, b]) => Some([end(a), end(b)]),
        _ => None,
    };
    Request::Capture(CaptureRequest {
        customer: customer.clone(),
        vnet: vnet.clone(),
        reason: reason.clone(),
        verdict: verdict.clone(),
        address: *address,
        protocols,
        between,
        port: port.clone(),
        count: *count,
        seconds: *seconds,
    })
}

/// Takes what comes, to the end.
fn take(
    conversation: &mut Conversation,
    file: &mut Interfaces,
    counts: &mut CaptureCounts,
) -> Result<(), Refused> {
    let progress = Count::new();
    progress.set(0);
    loop {
        match conversation.hear()? {
            Reply::Packet(packet) => {
                file.write(&packet).map_err(|e| e.to_string())?;
                counts.captured += 1;
            }
            Reply::Capturing(CaptureCounts { missed, .. }) => counts.missed = missed,
            Reply::Captured(CaptureCounts { missed, .. }) => {
                counts.missed = missed;
                return Ok(());
            }
            _ => return Err(astray()),
        }
        progress.set(counts.captured);
    }
}

/// The file, with an interface for each port.
struct Interfaces {
    file: Annotated<Growing>,
    ports: Vec<String>,
}

impl Interfaces {
    fn begin(out: Growing, ports: Vec<String>) -> Result<Interfaces, OutputError> {
        Ok(Interfaces { file: Annotated::over(out, &ports)?, ports })
    }

    fn write(&mut self, packet: &CapturedPacket) -> Result<(), OutputError> {
        let known = self.ports.iter().position(|p| *p == packet.port);
        let number = match known {
            Some(number) => number,
            // A reload has added it.
            None => {
                self.file.interface(&packet.port)?;
                self.ports.push(packet.port.clone());
                self.ports.len() - 1
            }
        };
        let CapturedPacket { time, length, frame, verdict, .. } = packet;
        self.file.write(number as u32, *time, frame, *length, verdict)
    }
}
