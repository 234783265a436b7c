//! NSG flow logs and VNet flow logs, as Azure writes them, of the flows that workers tell of.
//!
//! ```text
//!  workers ─► Told ─► channel ─► thread: resolve (names) ─► pending (text by file and rule) ─► each minute: files
//! ```
//!
//! Workers never wait: what the channel has no room for is counted and lost. The thread holds 16 MiB of text for each log
//! at most, and writes what is more before the minute is over. The files of a log are kept to a limit, the oldest hours go
//! first. What cannot be written is counted and lost; it is tried again with what comes next.

mod counts;
mod files;
mod pending;
mod resolve;
mod tell;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, at, bounded, select};

use self::counts::add;
pub use self::counts::{Counted, FlowLogFacts, LogCounts, LogFacts};
use self::files::{Folder, Place};
use self::pending::{Pending, Whose};
use self::resolve::{Denial, Endpoint, Walks};
pub use self::tell::Listener;
pub(in crate::live) use self::tell::Teller;
use self::text::{Hour, Tuple};
use crate::compile::Program;
use crate::packet::Direction;
use crate::table::records::FlowEvent;
use crate::types::Nanos;

/// What a worker tells of its flows between two batches.
pub struct Told {
    /// The program in force.
    pub program: Arc<Program>,
    /// What is to be added to the time of packets for the time by the clock on the wall, since 1970.
    pub wall_clock: Nanos,
    /// Flows that began, go on or have ended, in the order in which they did.
    pub events: Vec<FlowEvent>,
    /// Packets that a rule denied, each for the first time for a while.
    pub denied: Vec<DeniedPacket>,
}

/// A packet that a rule denied.
pub struct DeniedPacket {
    /// The frame, as far as it was received.
    pub frame: Vec<u8>,
    /// How long it was.
    pub original: u32,
    /// The port it came in by, as an index into the program's ports.
    pub port: u16,
    /// When.
    pub at: Nanos,
}

/// What may wait for the writer: so many times what a worker tells at once, mostly 4,096 events (half a megabyte), and 16
/// times as many at the very most.
const QUEUE: usize = 32;
/// How long the writer may take at the end to write what it holds.
const LAST: Duration = Duration::from_secs(8);

/// The name of the NSG flow log in Azure's storage.
const NSG: &str = "insights-logs-networksecuritygroupflowevent";
/// The name of the VNet flow log.
const VNET: &str = "insights-logs-flowlogflowevent";

/// Which flow logs are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the NSG flow log, if one is wanted.
    pub nsg: Option<PathBuf>,
    /// The folder of the VNet flow log, if one is wanted.
    pub vnet: Option<PathBuf>,
    /// Bytes of each log at most: blocks of its files, and one for the folder of each.
    pub limit: u64,
    /// How often records are written.
    pub interval: Duration,
}

/// The thread that writes.
pub struct FlowLogs {
    thread: JoinHandle<()>,
    stop: Sender<()>,
}

impl FlowLogs {
    /// Begins to write what the listener is told.
    ///
    /// # Errors
    /// A sentence that says why a folder cannot be written.
    pub fn start(settings: Settings) -> Result<(FlowLogs, Listener), String> {
        let counted = Arc::new(Counted::default());
        let mut writer = Writer::new(&settings, counted.clone())?;
        let (queue, receiver) = bounded(QUEUE);
        let (stop, stopped) = bounded(1);
        let work = move || writer.run(&receiver, &stopped, settings.interval);
        let thread = thread::Builder::new().name("flow-logs".to_owned()).spawn(work);
        let thread = thread.map_err(|e| format!("flow logs cannot be written: {e}"))?;
        Ok((FlowLogs { thread, stop }, Listener { queue, counted }))
    }

    /// True if the thread has ended, which it does of itself only when it fails.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Writes what was told until now, and ends; false if that takes too long.
    pub fn stop(self) -> bool {
        // One that has ended needs not be told.
        let _ = self.stop.try_send(());
        let until = Instant::now() + LAST;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        self.thread.is_finished() && self.thread.join().is_ok()
    }
}

/// A log that is written: its folder, and what is to go there.
struct Log {
    folder: Folder,
    pending: Pending,
}

impl Log {
    fn open(
        path: Option<&PathBuf>,
        container: &'static str,
        limit: u64,
        counts: &LogCounts,
    ) -> Result<Option<Log>, String> {
        let open = |p: &PathBuf| Folder::open(p, container, limit, counts);
        Ok(path.map(open).transpose()?.map(|folder| Log { folder, pending: Pending::default() }))
    }
}

/// What the thread works with.
struct Writer {
    nsg: Option<Log>,
    vnet: Option<Log>,
    walks: Walks,
    /// The program that was last told of, and the one before it, with whether that has been held for a while: a flow may
    /// end because its VNet or NSG is gone.
    current: Option<Arc<Program>>,
    former: Option<(Arc<Program>, bool)>,
    counted: Arc<Counted>,
}

impl Writer {
    fn new(settings: &Settings, counted: Arc<Counted>) -> Result<Writer, String> {
        let Settings { nsg, vnet, limit, .. } = settings;
        Ok(Writer {
            nsg: Log::open(nsg.as_ref(), NSG, *limit, &counted.nsg)?,
            vnet: Log::open(vnet.as_ref(), VNET, *limit, &counted.vnet)?,
            walks: Walks::new(),
            current: None,
            former: None,
            counted,
        })
    }

    fn run(&mut self, told: &Receiver<Told>, stop: &Receiver<()>, interval: Duration) {
        let mut next = Instant::now() + interval;
        loop {
            select! {
                recv(told) -> told => match told {
                    Ok(told) => self.take(told, now()),
                    Err(_) => break,
                },
                recv(stop) -> _ => {
                    // What was told until now is written.
                    while let Ok(told) = told.try_recv() {
                        self.take(told, now());
                    }
                    break;
                }
                recv(at(next)) -> _ => {}
            }
            if Instant::now() >= next {
                self.flush(now());
                self.forget();
                next = Instant::now() + interval;
            }
        }
        self.flush(now());
    }

    /// Lets the program before the last one go, once it has been held for an interval.
    fn forget(&mut self) {
        self.former = self.former.take().filter(|(_, old)| !old).map(|(program, _)| (program, true));
    }

    fn take(&mut self, told: Told, now: Nanos) {
        let Told { program, wall_clock, events, denied } = told;
        if self.current.as_ref().is_none_or(|c| c.generation < program.generation) {
            self.former = self.current.replace(program.clone()).map(|former| (former, false));
        }
        for event in &events {
            self.take_event(&program, event, wall_clock);
            self.flush_full(now);
        }
        for packet in &denied {
            self.take_denied(&program, packet, wall_clock);
            self.flush_full(now);
        }
    }

    fn take_event(&mut self, program: &Program, event: &FlowEvent, wall_clock: Nanos) {
        let FlowEvent { key, rule, opened_by, phase, at, sent, received } = event;
        let (local, remote) = ((key.local, key.ports.0), (key.remote, key.ports.1));
        let (from, to, there, back) = match opened_by {
            Direction::Outbound => (local, remote, sent, received),
            Direction::Inbound => (remote, local, received, sent),
        };
        let tuple = Tuple {
            at: at.saturating_add(wall_clock),
            source: from.0,
            destination: to.0,
            ports: (from.1, to.1),
            protocol: key.protocol,
            direction: *opened_by,
            phase: Some(*phase),
            there: *there,
            back: *back,
        };
        let former = self.former.clone();
        // A flow of an endpoint that has lost its group, or is gone, is told of as it was.
        let find = |program| {
            let endpoint = Endpoint::find(program, key.owner, key.local)?;
            let group = endpoint.last_group(*opened_by)?;
            Some((program, endpoint, group))
        };
        let found = find(program).or_else(|| find(&former.as_ref()?.0));
        let whose = found.map(|(program, endpoint, group)| endpoint.whose(program, group, *rule));
        self.add(whose.as_ref(), &tuple);
    }

    fn take_denied(&mut self, program: &Program, packet: &DeniedPacket, wall_clock: Nanos) {
        let Some(denial) = self.walks.ask(program, packet) else { return self.lose(None) };
        let Denial { owner, local, group, rule, direction, packet: inner } = denial;
        let tuple = Tuple {
            at: packet.at.saturating_add(wall_clock),
            source: inner.source,
            destination: inner.destination,
            ports: inner.ports,
            protocol: inner.protocol,
            direction,
            phase: None,
            there: Default::default(),
            back: Default::default(),
        };
        let whose = Endpoint::find(program, owner, local).and_then(|endpoint| {
            let group = endpoint.group(&group)?;
            Some(endpoint.whose(program, group, rule))
        });
        self.add(whose.as_ref(), &tuple);
    }

    fn add(&mut self, whose: Option<&Whose<'_>>, tuple: &Tuple) {
        let Some(whose) = whose else { return self.lose(Some(tuple)) };
        if let Some(log) = self.nsg.as_mut().filter(|_| tuple.is_tcp_or_udp()) {
            log.pending.add_nsg(whose, tuple);
        }
        if let Some(log) = &mut self.vnet {
            log.pending.add_vnet(whose, tuple);
        }
    }

    /// Counts a line that belongs to nothing any more.
    fn lose(&self, tuple: Option<&Tuple>) {
        if self.nsg.is_some() && tuple.is_none_or(Tuple::is_tcp_or_udp) {
            add(&self.counted.nsg.unknown, 1);
        }
        if self.vnet.is_some() {
            add(&self.counted.vnet.unknown, 1);
        }
    }

    /// Writes what is held if that has become too much.
    fn flush_full(&mut self, now: Nanos) {
        let full = |log: &Option<Log>| log.as_ref().is_some_and(|l| l.pending.is_full());
        if full(&self.nsg) || full(&self.vnet) {
            self.flush(now);
        }
    }

    /// Writes what is held.
    fn flush(&mut self, now: Nanos) {
        let (hour, time) = (Hour::of(now), text::time(now));
        let Counted { nsg, vnet, .. } = &*self.counted;
        for (log, counts, is_nsg) in [(&mut self.nsg, nsg, true), (&mut self.vnet, vnet, false)] {
            let Some(Log { folder, pending }) = log else { continue };
            folder.begin();
            for stream in pending.take() {
                let (resource, record) = match is_nsg {
                    true => (stream.nsg_path(), stream.nsg_record(&time)),
                    false => (stream.vnet_path(), stream.vnet_record(&time)),
                };
                let (customer, mac) = (text::component(&stream.customer), text::mac(stream.mac));
                let place = Place { customer: &customer, resource: &resource, mac: &mac };
                folder.append(&place, hour, &record, stream.tuples, counts);
            }
            folder.end(counts);
        }
    }
}

/// The time by the clock on the wall.
fn now() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as Nanos
}
