//! `run`: the live appliance, in the foreground, until it is told to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{never, select_biased, tick};
use tracing::{error, info};

use super::args::RunArgs;
use super::terminal::Terminal;
use super::{Exit, Refused, load_files};
use crate::live::control::Control;
use crate::live::flow_logs::{self, FlowLogs};
use crate::live::handle::Handle;
use crate::live::http::Server;
use crate::live::meters::{self, MeterFile};
use crate::live::service::{self, LogFormat, Signals};
use crate::live::{Appliance, NoStart, Settings, control, http};
use crate::model::{Files, Model};

/// How often devices and workers are looked after, besides when the kernel says that something has changed.
const ROUND: Duration = Duration::from_millis(500);

/// Runs until a signal says stop, or until a worker fails.
pub fn run(args: &RunArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let begun = Instant::now();
    let mut files = Files::default();
    let model = load_files(&args.config, &mut files, terminal)?;
    let format = if args.json_logs() { LogFormat::Json } else { LogFormat::Text };
    service::init_logs(format, &args.log_level)?;
    let Running { appliance, signals, socket, server, logs, mut meters } = match start(args, model, files) {
        Ok(running) => running,
        Err(NoStart::Configuration(sentences)) => return Err(Refused(sentences)),
        Err(NoStart::Machine(sentences)) => {
            sentences.iter().for_each(|sentence| terminal.error(sentence));
            return Ok(Exit::No);
        }
    };
    info!(
        workers = workers(args),
        took_ms = begun.elapsed().as_millis() as u64,
        control = socket.as_ref().map(|s| s.path().display().to_string()),
        metrics = server.as_ref().map(|s| s.address().to_string()),
        "running {}",
        args.config.display()
    );
    service::ready(&status(&appliance));
    let ended = reloads(args, &appliance, &signals)
        .and_then(|reloads| wait(&reloads, &appliance, &signals, logs.as_ref(), meters.as_mut()));
    service::stopping();
    drop((socket, server));
    let missed = appliance.snapshot().flow_logs.missed;
    let drained = appliance.stop();
    if !logs.is_none_or(FlowLogs::stop) {
        error!("flow logs could not be written in time; the last of them are lost");
    }
    let end = appliance.snapshot();
    if let Some(file) = &mut meters {
        file.keep_now(&end.meters);
    }
    match end.flow_logs.missed.saturating_sub(missed) {
        0 => {}
        lost => error!("{lost} events were too many for the flow logs at the end; they are lost"),
    }
    let counts = end.total;
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

/// Begins flow logs, if any are asked for.
fn flow_logs(args: &RunArgs) -> Result<Option<(FlowLogs, flow_logs::Listener)>, String> {
    let args = &args.flow_logs;
    if !args.any() {
        return Ok(None);
    }
    let settings = flow_logs::Settings {
        nsg: args.nsg_flow_logs.clone(),
        vnet: args.vnet_flow_logs.clone(),
        limit: args.flow_logs_limit.0,
        interval: args.interval(),
    };
    Ok(Some(FlowLogs::start(settings)?))
}

/// What runs, besides the thread that waits.
struct Running {
    appliance: Arc<Appliance>,
    signals: Signals,
    socket: Option<Control>,
    server: Option<Server>,
    logs: Option<FlowLogs>,
    meters: Option<MeterFile>,
}

fn start(args: &RunArgs, model: Model, files: Files) -> Result<Running, NoStart> {
    let now = |sentence: String| NoStart::Machine(vec![sentence]);
    let signals = Signals::listen().map_err(|e| now(format!("signals cannot be received: {e}")))?;
    // Sockets that others ask are opened first: what is refused there stops nothing that already runs.
    let metrics = args.metrics.map(|address| {
        TcpListener::bind(address).map_err(|e| now(format!("--metrics {address}: cannot listen there: {e}")))
    });
    let metrics = metrics.transpose()?;
    let (logs, listener) = flow_logs(args).map_err(now)?.unzip();
    let meters = args.meters.clone().or_else(meters::path_to_keep);
    if meters.is_none() && model.customers.iter().any(|customer| !customer.circuits.is_empty()) {
        info!("what circuit links carry is not kept over a restart; --meters FILE keeps it");
    }
    let meters = meters.map(|path| MeterFile::open(&path)).transpose().map_err(now)?;
    let settings = Settings {
        configuration: args.config.clone(),
        files,
        workers: workers(args),
        flow_logs: listener,
        meters: meters.as_ref().map(|file| file.kept().clone()).unwrap_or_default(),
    };
    let appliance = Appliance::start(model, settings)?;
    let handle: Arc<dyn Handle> = appliance.clone();
    let socket = args.control.clone().or_else(control::path_to_serve);
    let socket = socket.map(|path| control::serve(&path, handle.clone())).transpose().map_err(now)?;
    let server = metrics.map(|listener| http::serve(listener, handle)).transpose();
    let server = server.map_err(|e| now(format!("--metrics: {e}")))?;
    Ok(Running { appliance, signals, socket, server, logs, meters })
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
fn wait(
    reloads: &JoinHandle<()>,
    appliance: &Appliance,
    signals: &Signals,
    logs: Option<&FlowLogs>,
    mut meters: Option<&mut MeterFile>,
) -> Result<(), String> {
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
                if let Some(file) = &mut meters {
                    file.keep(&appliance.snapshot().meters);
                }
                if reloads.is_finished() {
                    return Err("the thread that reloads has ended".to_owned());
                }
                if logs.is_some_and(FlowLogs::is_finished) {
                    return Err("the thread that writes flow logs has ended".to_owned());
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
    let mut watched = Watched::default();
    let work = move || {
        loop {
            select_biased! {
                recv(asked) -> message => match message {
                    Ok(()) => reload(&appliance),
                    Err(_) => return,
                },
                recv(looks) -> _ => {
                    if watched.changed(&appliance.files_read()) {
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

/// When what a configuration is read from is to be read again.
#[derive(Default)]
struct Watched {
    /// What was there at the last look.
    last: Files,
    /// What the last reload was made for: it is not made twice, whatever came of it.
    tried: Files,
}

impl Watched {
    /// True if the files are others than those that were read, and have stayed as they are since the last look: a file that
    /// is being written is left alone.
    fn changed(&mut self, read: &Files) -> bool {
        let now = read.now();
        let settled = now == self.last;
        self.last = now;
        let changed = settled && self.last != *read && self.last != self.tried;
        if changed {
            self.tried = self.last.clone();
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model;

    #[test]
    fn only_what_a_configuration_is_read_from_is_watched_and_not_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = path("config.yaml");
        let text = "apiVersion: clearway/v1\nserviceTags: tags.json\nports: {}\n\
                    customers:\n  - {name: contoso, resources: [contoso/*.json]}\n";
        fs::write(&config, text).unwrap();
        fs::create_dir(path("contoso")).unwrap();
        fs::write(path("contoso/a.json"), "{}").unwrap();
        let (mut read, mut watched) = (Files::default(), Watched::default());
        let mut load = || {
            // It is refused, and watched nevertheless.
            assert!(model::load_files(&config, &mut read).is_err());
            read.clone()
        };
        let mut read = load();
        let quiet = |watched: &mut Watched, read: &Files| (0..3).all(|_| !watched.changed(read));
        assert!(quiet(&mut watched, &read));
        // What lies beside does not matter, whatever it is, and however much it is written.
        std::os::unix::fs::symlink("/", path("root")).unwrap();
        for round in 0..3 {
            fs::write(path("clearway.log"), "x".repeat(round)).unwrap();
            fs::write(path("contoso/notes.txt"), "x".repeat(round)).unwrap();
            assert!(!watched.changed(&read));
        }
        // What is read, or would be, does, once it stays as it is; and once only.
        for (name, text) in [
            ("contoso/a.json", "{ }"),
            ("contoso/b.json", "{}"),
            ("tags.json", "{}"),
            ("config.yaml", "ports: 1"),
        ] {
            for more in 0..3 {
                fs::write(path(name), format!("{text}{}", " ".repeat(more))).unwrap();
                assert!(!watched.changed(&read), "{name}");
            }
            assert!(watched.changed(&read), "{name}");
            assert!(quiet(&mut watched, &read), "{name}");
            read = load();
            assert!(quiet(&mut watched, &read), "{name}");
        }
        // Without a customer nothing of his is watched any more; taken away is changed, too.
        fs::remove_file(path("contoso/a.json")).unwrap();
        assert!(quiet(&mut watched, &read));
        fs::remove_file(&config).unwrap();
        assert!(!watched.changed(&read) && watched.changed(&read));
    }
}
