//! `run`: the live appliance, in the foreground, until it is told to stop.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{never, select_biased, tick};
use tracing::{error, info};

use super::args::RunArgs;
use super::terminal::Terminal;
use super::{Exit, Refused, load};
use crate::live::handle::Handle;
use crate::live::service::{self, LogFormat, Signals};
use crate::live::{Appliance, Settings, control, http};

/// How often devices and workers are looked after, besides when the kernel says that something has changed.
const ROUND: Duration = Duration::from_millis(500);

/// Runs until a signal says stop, or until a worker fails.
pub fn run(args: &RunArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let begun = Instant::now();
    let model = load(&args.config, terminal)?;
    let format = if args.json_logs() { LogFormat::Json } else { LogFormat::Text };
    service::init_logs(format, &args.log_level)?;
    let signals = Signals::listen().map_err(|e| format!("signals cannot be received: {e}"))?;
    // Sockets that others ask are opened first: what is refused there stops nothing that already runs.
    let metrics = args.metrics.map(|address| {
        TcpListener::bind(address).map_err(|e| format!("--metrics {address}: cannot listen there: {e}"))
    });
    let metrics = metrics.transpose()?;
    let settings = Settings { configuration: args.config.clone(), workers: workers(args), flow_logs: None };
    let appliance = Appliance::start(model, settings).map_err(Refused)?;
    let handle: Arc<dyn Handle> = appliance.clone();
    let socket = args.control.clone().or_else(control::path_to_serve);
    let socket = socket.map(|path| control::serve(&path, handle.clone())).transpose()?;
    let server = metrics.map(|listener| http::serve(listener, handle)).transpose();
    let server = server.map_err(|e| format!("--metrics: {e}"))?;
    info!(
        workers = workers(args),
        took_ms = begun.elapsed().as_millis() as u64,
        control = socket.as_ref().map(|s| s.path().display().to_string()),
        metrics = server.as_ref().map(|s| s.address().to_string()),
        "running {}",
        args.config.display()
    );
    service::ready(&status(&appliance));
    let ended = reloads(args, &appliance, &signals).and_then(|reloads| wait(&reloads, &appliance, &signals));
    service::stopping();
    drop((socket, server));
    let drained = appliance.stop();
    let counts = appliance.snapshot().total;
    info!(packets = counts.packets, forwarded = counts.forwarded, "stopped");
    if !drained {
        error!("not every worker ended in time; what it still held is lost");
    }
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(why) => {
            error!("{why}");
            // Not what a configuration is refused with, after which nobody would start it again.
            Ok(Exit::No)
        }
    }
}

/// Workers: as asked for; else one for each core but one, which is left to the kernel.
fn workers(args: &RunArgs) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, |cores| cores.get().max(2) - 1);
    args.workers.map_or_else(all, usize::from)
}

fn status(appliance: &Appliance) -> String {
    let snapshot = appliance.snapshot();
    format!(
        "{} ports, {} VNets, generation {}",
        snapshot.ports.len(),
        snapshot.vnets.len(),
        snapshot.generation
    )
}

/// Looks after devices and workers until a signal says stop. Nothing here takes long, so that the watchdog is kicked in
/// time: reloads have a thread of their own.
fn wait(reloads: &JoinHandle<()>, appliance: &Appliance, signals: &Signals) -> Result<(), String> {
    let rounds = tick(ROUND);
    let watchdog = service::watchdog().map_or_else(never, tick);
    loop {
        // In this order, so that a stop is never behind others. The ticks come now and then only.
        select_biased! {
            recv(signals.stop()) -> _ => return Ok(()),
            recv(watchdog) -> _ => {
                // A worker that stands still is not kicked for.
                if appliance.is_alive() {
                    service::kick();
                }
            }
            recv(rounds) -> _ => {
                appliance.look_after()?;
                if reloads.is_finished() {
                    return Err("the thread that reloads has ended".to_owned());
                }
            }
            recv(appliance.devices_changed()) -> _ => appliance.look_after()?,
        }
    }
}

/// The thread that reloads, one at a time, when a signal or a changed file asks for it.
fn reloads(args: &RunArgs, appliance: &Arc<Appliance>, signals: &Signals) -> Result<JoinHandle<()>, String> {
    let (appliance, asked) = (appliance.clone(), signals.reload().clone());
    let looks = if args.watch { tick(ROUND) } else { never() };
    let mut watched = Watched::new(&args.config);
    let work = move || {
        loop {
            select_biased! {
                recv(asked) -> message => match message {
                    Ok(()) => reload(&appliance),
                    Err(_) => return,
                },
                recv(looks) -> _ => {
                    if watched.changed() {
                        reload(&appliance);
                    }
                }
            }
        }
    };
    let thread = thread::Builder::new().name("reloads".to_owned()).spawn(work);
    thread.map_err(|e| format!("no thread for reloads: {e}"))
}

fn reload(appliance: &Appliance) {
    service::reloading();
    // What came of it is in the log.
    let _ = appliance.reload();
    service::ready(&status(appliance));
}

/// The files of a configuration, and when they were last written: the file itself, and all beside and below it.
struct Watched {
    folder: PathBuf,
    seen: Vec<(PathBuf, Option<SystemTime>, u64)>,
    /// What is there now has been seen once: a file that is being written is left alone until it stays as it is.
    settling: bool,
}

/// Files that are looked at, at most.
const FILES: usize = 4096;

impl Watched {
    fn new(config: &Path) -> Watched {
        let folder = config.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut watched = Watched { folder: folder.to_owned(), seen: Vec::new(), settling: false };
        watched.seen = watched.look();
        watched
    }

    fn look(&self) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
        let (mut seen, mut folders) = (Vec::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(about) = std::fs::metadata(entry.path()) else { continue };
                if about.is_dir() {
                    folders.push(entry.path());
                } else if seen.len() < FILES {
                    seen.push((entry.path(), about.modified().ok(), about.len()));
                }
            }
            if folders.len() > FILES {
                break;
            }
        }
        seen.sort();
        seen
    }

    /// True if something was written, and nothing since the last look.
    fn changed(&mut self) -> bool {
        let now = self.look();
        let moved = now != self.seen;
        self.seen = now;
        let done = self.settling && !moved;
        self.settling = moved;
        done
    }
}
