//! The control socket: one JSON document per line, a request in and a reply out.
//!
//! ```text
//! {"command": "counters"}                              {"counters": {...}}
//! {"command": "flows", "vnet": "hub", "limit": 10}     {"flows": {"flows": [...], "more": true, "complete": true}}
//! {"command": "meters"}                                {"meters": {"contoso": {"er1": {...}}}}
//! {"command": "circuits", "customer": "contoso"}       {"circuits": {"uptimeSeconds": 7.8, "links": [...]}}
//! {"command": "bgp", "customer": "contoso", "circuit": "er1", "peering": "private", "link": "primary",
//!   "which": "refused", "prefix": "10.1.2.3"}          {"bgp": {"sessions": [{"received": [...]}], "complete": true}}
//! {"command": "reload"}                                {"reload": {"accepted": true, "generation": 2, ...}}
//! {"command": "ready"}                                 {"ready": true}
//! {"command": "topflows", "seconds": 1}                {"topflows": {"packets": 90, "sampled": 90, "flows": [...], ...}}
//! {"command": "explain", "question": {"customer": "contoso", "vnet": "hub", "protocol": 6,
//!   "from": "10.1.0.4:50000", "to": "10.1.0.5:443", "entry": "fabric"}, "color": false}
//!                                                      {"explain": {"forwarded": true, "text": "...", "document": {...}}}
//! {"command": "routes", "customer": "contoso", "vnet": "hub", "subnet": "web"}
//!                                                      {"routes": {"text": "...", "document": {...}}}
//! {"command": "capture", "reason": "nsg-deny"}         {"capture": {"ports": [...]}}, then for each packet
//!                                                      {"packet": {"port": "fabric", "time": ..., "length": ...,
//!                                                       "frame": "0200...", "verdict": "{...}"}},
//!                                                      once a second {"capturing": {"captured": 7, "missed": 0}},
//!                                                      at the end {"captured": {"captured": 9, "missed": 0}}
//! anything else                                        {"error": "a sentence"}
//! ```
//!
//! A capture goes on until it has as many packets as are wanted, or for as long, or until who asked hangs up.
//!
//! Who may open the socket may ask everything, so only its owner (and root) may.

mod capture;
mod circuits;
mod names;
mod topflows;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, ErrorKind, Read, Take, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::explain;
use super::handle::{FlowsFound, FlowsWanted, Handle};
use super::listen::{Pool, Timed};
use super::process;
use super::report::{
    BgpRoutes, CaptureBegun, CaptureCounts, CapturedPacket, Circuits, Counters, Explained, Flow, Flows,
    Reload, Routes, TopFlows,
};
use crate::observe::ask::Asked;
use crate::observe::json;
use crate::observe::meters::Meters;
use crate::observe::routes::{EffectiveRoutes, SubnetAt};

pub use capture::CaptureRequest;
use capture::Captures;
pub use circuits::{BgpRequest, Which};

/// Connections that are answered at a time. People and scripts are few; `top` asks anew each second.
const CONNECTIONS: usize = 4;

/// How long a request may take to come, and a reply to be taken. Who says nothing for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request at most: names are short.
const REQUEST: usize = 16 * 1024;

/// Flow records in a reply at most: about 30 MB.
pub const MOST_FLOWS: usize = 100_000;

/// Bytes of a reply at most, for those who ask: more than that many flow records have.
const REPLY: u64 = 256 << 20;

/// How long a reply is waited for. A reload compiles a configuration first.
const ANSWERED: Duration = Duration::from_secs(120);

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Everything that is counted.
    Counters,
    /// Flow records.
    Flows {
        /// Of this customer only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<String>,
        /// Of this VNet only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vnet: Option<String>,
        /// With this address at either end only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// So many at most; [`MOST_FLOWS`] in any case.
        #[serde(default = "most_flows")]
        limit: usize,
    },
    /// What circuit links have carried.
    Meters,
    /// Links of circuits, with their BGP and BFD.
    Circuits {
        /// Of this customer only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<String>,
        /// Of circuits with this name only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        circuit: Option<String>,
    },
    /// The routes of a circuit's BGP sessions.
    Bgp(BgpRequest),
    /// Read the configuration again and put it in force.
    Reload,
    /// Whether every port has its device and a configuration is in force.
    Ready,
    /// What becomes of a packet, by the configuration in force and the flow records that are held.
    Explain {
        /// The packet.
        question: Asked,
        /// The text is to have colours.
        #[serde(default)]
        color: bool,
    },
    /// The effective routes of a subnet, by the configuration in force and what circuits have learned.
    Routes {
        /// The customer.
        customer: String,
        /// The VNet.
        vnet: String,
        /// The subnet.
        subnet: String,
        /// The text is to have colours.
        #[serde(default)]
        color: bool,
    },
    /// Packets as they come in, with what becomes of each.
    Capture(CaptureRequest),
    /// The flows that carry most, estimated from a sample of packets.
    TopFlows {
        /// For how long packets are looked at.
        #[serde(default = "one_second")]
        seconds: f64,
    },
}

fn one_second() -> f64 {
    1.0
}

fn most_flows() -> usize {
    MOST_FLOWS
}

/// What is replied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// To [`Request::Counters`].
    Counters(Box<Counters>),
    /// To [`Request::Flows`].
    Flows(Flows),
    /// To [`Request::Meters`].
    Meters(Meters),
    /// To [`Request::Circuits`].
    Circuits(Circuits),
    /// To [`Request::Bgp`].
    Bgp(BgpRoutes),
    /// To [`Request::Reload`].
    Reload(Reload),
    /// To [`Request::Ready`].
    Ready(bool),
    /// To [`Request::TopFlows`].
    TopFlows(TopFlows),
    /// To [`Request::Explain`].
    Explain(Box<Explained>),
    /// To [`Request::Routes`].
    Routes(Routes),
    /// To [`Request::Capture`]: from here on packets are captured.
    Capture(CaptureBegun),
    /// A captured packet.
    Packet(Box<CapturedPacket>),
    /// How far a capture is that goes on.
    Capturing(CaptureCounts),
    /// A capture has ended, after so many packets.
    Captured(CaptureCounts),
    /// The request cannot be understood, or not be answered.
    Error(String),
}

/// Where the socket of an appliance stands that is started here, unless it is told: in systemd's `RuntimeDirectory=`, for
/// root in `/run/clearway`, for others in `$XDG_RUNTIME_DIR/clearway`; none where there is no such folder.
pub fn path_to_serve() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = match variable("RUNTIME_DIRECTORY") {
        // Several folders have colons between them.
        Some(given) => PathBuf::from(given.to_string_lossy().split(':').next().unwrap_or_default()),
        None if process::is_root() => PathBuf::from(SYSTEM),
        None => variable("XDG_RUNTIME_DIR")?.join("clearway"),
    };
    Some(folder.join(SOCKET))
}

/// Where the socket of a running appliance is looked for, unless it is told: where this user's would stand, or else where
/// the system's stands.
pub fn path_to_ask() -> PathBuf {
    let system = Path::new(SYSTEM).join(SOCKET);
    match path_to_serve() {
        // One that may not even be looked at is there, as another user's.
        Some(own) if own.exists() || !system.try_exists().unwrap_or(true) => own,
        _ => system,
    }
}

const SYSTEM: &str = "/run/clearway";
const SOCKET: &str = "control.sock";

/// A control socket that is answered, in threads of its own; it goes away when this is dropped.
pub struct Control {
    path: PathBuf,
    /// Device and inode, to know it by.
    identity: (u64, u64),
    captures: Arc<Captures>,
    _pool: Pool<UnixListener>,
}

impl Control {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Nobody waits for those who capture.
        self.captures.end();
        // Somebody may have put another in its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Answers at this path; makes its folder if it is not there. A socket at which nobody listens is replaced. The error is a
/// sentence.
pub fn serve(path: &Path, handle: Arc<dyn Handle>) -> Result<Control, String> {
    let (listener, identity) = bind(path)?;
    let captures = Arc::new(Captures::default());
    let those = captures.clone();
    let answer = move |stream| connection(stream, &*handle, &those);
    let pool = Pool::start(listener, "control", CONNECTIONS, answer);
    let pool = pool.map_err(|e| format!("the control socket {} cannot be served: {e}", path.display()))?;
    Ok(Control { path: path.to_owned(), identity, captures, _pool: pool })
}

fn bind(path: &Path) -> Result<(UnixListener, (u64, u64)), String> {
    let fault = |what: &str, e: io::Error| format!("the control socket {} {what}: {e}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| fault("has no folder, and none can be made", e))?;
    // Two that start at once must not replace each other's sockets.
    let _lock = lock(folder);
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(fault("cannot be made", e)),
        Ok(there) if !there.file_type().is_socket() => {
            let path = path.display();
            return Err(format!(
                "{path} is there and is no socket; take it away, or name another by --control"
            ));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => {
                let path = path.display();
                return Err(format!(
                    "another clearway runs here: it listens at {path}; stop it, or name another by --control"
                ));
            }
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|e| fault("is left over and cannot be replaced", e))?;
            }
            Err(e) => return Err(fault("is another's", e)),
        },
    }
    // It gets its place only when nobody else may open it.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = folder.join(name);
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(|e| fault("cannot be made", e))?;
    let placed =
        fs::set_permissions(&new, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&new, path));
    if let Err(e) = placed {
        let _ = fs::remove_file(&new);
        return Err(fault("cannot be made", e));
    }
    let there = fs::symlink_metadata(path).map_err(|e| fault("is gone again", e))?;
    Ok((listener, (there.dev(), there.ino())))
}

/// Keeps others of us from the folder for a moment. Whoever holds it for longer is none of us, and does not stop us.
fn lock(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    for _ in 0..50 {
        if file.try_lock().is_ok() {
            return Some(file);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Answers the requests of one connection.
fn connection(stream: UnixStream, handle: &dyn Handle, captures: &Captures) {
    let mut stream = Timed::new(stream, PATIENCE);
    let mut read = Vec::new();
    loop {
        stream.extend(PATIENCE);
        let (reply, last) = match line(&mut stream, &mut read, REQUEST) {
            Ok(Some(line)) => match serde_json::from_slice(&line) {
                Ok(Request::Capture(request)) => match captures.stream(&request, handle, &mut stream) {
                    Ok(last) => (last, false),
                    Err(_) => break,
                },
                Ok(Request::TopFlows { seconds }) => {
                    (topflows::reply(seconds, handle, || captures.are_ended()), false)
                }
                Ok(request) => (reply(request, handle), false),
                Err(e) => (Reply::Error(format!("this is no request: {e}")), false),
            },
            Ok(None) => break,
            Err(e) if e.kind() == ErrorKind::InvalidData => (Reply::Error(e.to_string()), true),
            // Who has said nothing is told nothing.
            Err(_) => break,
        };
        stream.extend(PATIENCE);
        let written = stream.write_all(format!("{}\n", json::line(&reply)).as_bytes());
        if written.is_err() {
            break;
        }
        // With the appliance ends the connection, too, whoever keeps asking.
        if last || captures.are_ended() {
            stream.finish(Duration::from_millis(250));
            break;
        }
    }
}

fn reply(request: Request, handle: &dyn Handle) -> Reply {
    match request {
        Request::Counters => Reply::Counters(Box::new(Counters::of(&handle.snapshot(), handle.is_ready()))),
        Request::Flows { customer, vnet, address, limit } => {
            let limit = limit.min(MOST_FLOWS);
            let named = match (&customer, &vnet) {
                (None, None) => Ok((None, None)),
                _ => names::customer_and_vnet(&customer, &vnet, &handle.snapshot()),
            };
            let (customer, vnet) = match named {
                Ok(named) => named,
                Err(sentence) => return Reply::Error(sentence),
            };
            let found = handle.flows(&FlowsWanted { customer, vnet, address, packet: None, most: limit + 1 });
            let FlowsFound { mut flows, complete } = found;
            let more = flows.len() > limit;
            flows.truncate(limit);
            Reply::Flows(Flows { flows: flows.into_iter().map(Flow::from).collect(), more, complete })
        }
        Request::Meters => Reply::Meters(handle.snapshot().meters),
        Request::Circuits { customer, circuit } => {
            let found = circuits::links(customer.as_deref(), circuit.as_deref(), handle);
            found.map_or_else(Reply::Error, |links| {
                Reply::Circuits(Circuits::of(&links, handle.snapshot().uptime))
            })
        }
        Request::Bgp(request) => circuits::routes(&request, handle).map_or_else(Reply::Error, Reply::Bgp),
        Request::Reload => Reply::Reload(handle.reload().into()),
        Request::Routes { customer, vnet, subnet, color } => {
            let (model, generation) = handle.in_force();
            match SubnetAt::find(&model, &customer, &vnet, &subnet) {
                Ok(at) => Reply::Routes(Routes::of(&EffectiveRoutes::of(at), generation, color)),
                Err(sentence) => Reply::Error(sentence),
            }
        }
        Request::Explain { question, color } => match explain(handle, &question, color) {
            Ok(explained) => Reply::Explain(Box::new(explained)),
            Err(sentence) => Reply::Error(sentence),
        },
        Request::Ready => Reply::Ready(handle.is_ready()),
        Request::Capture(_) | Request::TopFlows { .. } => {
            unreachable!("what takes its time is answered elsewhere")
        }
    }
}

/// The next line without its end; none at the end of all. What was read beyond it stays in `read`.
fn line(stream: &mut impl Read, read: &mut Vec<u8>, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut searched = 0;
    let mut piece = [0; 4096];
    loop {
        let end = read.get(searched..).unwrap_or_default().iter().position(|b| *b == b'\n');
        if let Some(end) = end.map(|at| at + searched) {
            let rest = read.split_off(end + 1);
            let mut line = std::mem::replace(read, rest);
            line.pop();
            return Ok(Some(line));
        }
        if read.len() >= most {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a request has {most} bytes at most"),
            ));
        }
        searched = read.len();
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(n) => read.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Asks the appliance that listens at this path; the error is a sentence.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, String> {
    ask_within(path, request, ANSWERED)
}

/// Asks, and waits for the reply no longer than that.
pub fn ask_within(path: &Path, request: &Request, within: Duration) -> Result<Reply, String> {
    Conversation::begin_within(path, request, within)?.hear()
}

/// A request to a running appliance, and the replies to it.
#[derive(Debug)]
pub struct Conversation {
    reader: BufReader<Take<UnixStream>>,
    at: String,
    within: Duration,
}

impl Conversation {
    /// Asks the appliance that listens at this path; the error is a sentence, as everywhere here.
    pub fn begin(path: &Path, request: &Request) -> Result<Conversation, String> {
        Conversation::begin_within(path, request, ANSWERED)
    }

    fn begin_within(path: &Path, request: &Request, within: Duration) -> Result<Conversation, String> {
        let at = path.display().to_string();
        let mut stream = UnixStream::connect(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                format!(
                    "no clearway is running here: nothing listens at {at}; start one with `clearway run CONFIG`"
                )
            }
            ErrorKind::PermissionDenied => {
                format!("the clearway that listens at {at} is another user's; ask it as root, by sudo")
            }
            _ => format!("{at}: {e}"),
        })?;
        let limits = stream.set_read_timeout(Some(within)).and(stream.set_write_timeout(Some(PATIENCE)));
        let asked = limits.and_then(|()| stream.write_all(format!("{}\n", json::line(request)).as_bytes()));
        asked.map_err(|e| lost(&at, within, &e))?;
        Ok(Conversation { reader: BufReader::new(stream.take(REPLY)), at, within })
    }

    /// The next reply.
    pub fn hear(&mut self) -> Result<Reply, String> {
        let at = &self.at;
        let mut text = Vec::new();
        self.reader.get_mut().set_limit(REPLY);
        io::BufRead::read_until(&mut self.reader, b'\n', &mut text).map_err(|e| lost(at, self.within, &e))?;
        match serde_json::from_slice(&text) {
            Ok(Reply::Error(sentence)) => Err(format!("{at}: {sentence}")),
            Ok(reply) => Ok(reply),
            Err(_) if text.is_empty() => {
                Err(format!("the clearway that listens at {at} hung up without an answer"))
            }
            Err(e) => Err(format!(
                "what listens at {at} is no clearway of version {}: {e}",
                env!("CARGO_PKG_VERSION")
            )),
        }
    }

    /// What ends the conversation, for another thread: [`hear`](Conversation::hear) has then what has come until then.
    pub fn ender(&self) -> Result<impl FnOnce() + Send + use<>, String> {
        let stream =
            self.reader.get_ref().get_ref().try_clone().map_err(|e| lost(&self.at, self.within, &e))?;
        Ok(move || {
            // Who has hung up already needs no end.
            let _ = stream.shutdown(Shutdown::Both);
        })
    }
}

fn lost(at: &str, within: Duration, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("the clearway that listens at {at} does not answer within {} s", within.as_secs())
        }
        _ => format!("the clearway that listens at {at} hung up: {error}"),
    }
}

#[cfg(test)]
mod tests;
