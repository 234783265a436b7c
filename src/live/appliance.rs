//! The running appliance: its workers, its ports, the program in force, and what others may ask of it.
//!
//! Everything that may wait or fail is done here, beside the workers: reading configurations, compiling, opening devices.
//! Workers get the results as orders, between two batches.

mod force;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahash::RandomState;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{error, info, warn};

use super::capture::{self, CaptureWanted, Capturing};
use super::circuits::Circuits;
use super::circuits::ends::{FromLink, LinkEnds};
use super::circuits::spec::LinkKey;
use super::circuits::status::{LinkStatus, SessionRoutes};
use super::count::{Counts, add_each};
use super::flow_logs::Listener;
use super::handle::{FlowsFound, FlowsWanted, Handle, Reloaded, Snapshot};
use super::handover;
use super::kernel::{self, Devices, Kernel};
use super::list::{Chosen, Listing};
use super::meters;
use super::neighbours::Neighbours;
use super::port::LINK;
use super::ports::Ports;
use super::tap::may_be_tap;
use super::worker::{Beginning, News, Order, Shared, Worker, lock, nanos};
use crate::bgp::Family;
use crate::compile::names::Names;
use crate::compile::{Program, compile};
use crate::dataplane::{Meter, MeterReading, Occupancy, Policers, readings};
use crate::model::{Files, Io, Model, Port};
use crate::observe::meters::{Meters, meters as of_links};
use crate::sys::xdp::LONGEST;
use crate::sys::{Wake, cores, pin, raise_open_files};
use crate::types::{Nanos, SECOND};

/// How long others wait for an answer of a worker.
const ANSWER: Duration = Duration::from_secs(2);
/// How long workers may take to put a program in force.
const IN_FORCE: Duration = Duration::from_secs(10);
/// How long a port that is opened anew waits until it is closed; after that it is tried again with the next round.
const CLOSING: Duration = Duration::from_millis(200);
/// A worker that has not come round for so long stands still; one that has nothing to do comes round each second.
const STILL: Nanos = 10 * SECOND;
/// How long workers may take to stop.
const STOP: Duration = Duration::from_secs(2);
/// How long devices of links are taken away one by one at the end, so that nobody loses patience (systemd after 15 s).
const CLOSE: Duration = Duration::from_secs(3);

/// How the appliance is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration, read again on a reload.
    pub configuration: PathBuf,
    /// The files that it was read from.
    pub files: Files,
    /// Workers; each has a core of its own if there are so many.
    pub workers: usize,
    /// Who writes flow logs, if anybody does.
    pub flow_logs: Option<Listener>,
    /// What circuit links had carried before it was started.
    pub meters: Meters,
}

/// A worker as the others see it.
struct Hand {
    orders: Sender<Order>,
    wake: Wake,
    published: Arc<Mutex<Counts>>,
    /// When its last round began, in the time of packets.
    round_at: Arc<AtomicU64>,
    /// The same when the watchdog last looked.
    seen_at: AtomicU64,
}

/// The threads of the workers; none in the place of one that has ended.
type Threads = Vec<Option<JoinHandle<()>>>;

/// What only one at a time may change. It is held for moments: nothing is read, compiled or waited for meanwhile.
struct Control {
    /// The configuration as it was read.
    base: Arc<Model>,
    /// The same with what circuits have learned: what the program was compiled from.
    model: Arc<Model>,
    program: Arc<Program>,
    /// Those before it that a worker may still hold: they are freed here, not there.
    former: Vec<Arc<Program>>,
    occupancy: Arc<Occupancy>,
    policers: Arc<Policers>,
    ports: Ports,
    /// What was last said of ports that cannot be opened, so that it is said once.
    failed: Vec<String>,
    reloads: (u64, u64),
    threads: Threads,
    /// No port is opened any more, and nothing else put in force.
    stopped: bool,
}

/// A running appliance.
pub struct Appliance {
    settings: Settings,
    begun: Instant,
    workers: Vec<Hand>,
    kernel: Kernel,
    devices_changed: Receiver<()>,
    /// Held for as long as a reload takes, so that there is one at a time; before the others.
    reloading: Mutex<()>,
    /// Held while something is put in force; before `control`, if both are. Nothing is read meanwhile: a link that is down
    /// does not wait for slow files.
    names: Mutex<Names>,
    /// The files that were read last, for good or for nothing.
    files: Mutex<Files>,
    control: Mutex<Control>,
    circuits: Circuits,
}

/// Why a device cannot be a port.
fn no_device(port: &str, device: &str, devices: &Devices) -> String {
    let mut known: Vec<&str> = devices.by_name.keys().map(String::as_str).filter(|n| *n != "lo").collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("port '{port}': there is no network device '{device}' here; there is {known}")
}

/// Why a device cannot be a port that is a TAP: it is made if it is not there, but what is there must be one, and the
/// kernel, which is its other side, must not have the port's address: that may be otherwise the next time.
fn no_tap(port: &Port, device: &str, devices: &Devices, of_machine: &mut Vec<String>) -> Option<String> {
    let (name, address) = (&port.name, port.address);
    if let Some((index, _)) = devices.addresses.iter().find(|(_, a)| *a == address) {
        let whose = devices.by_name.values().find(|d| d.index == *index);
        let whose = whose.map_or(String::new(), |d| format!(", on {}", d.name));
        of_machine.push(format!(
            "port '{name}': {address} is an address of this machine{whose}; with io: tap it is Clearway's own, and \
             {device} has another of the same network"
        ));
    }
    let other = devices.by_name.get(device).is_some_and(|found| !may_be_tap(device, found.index));
    let sentence = || {
        format!(
            "port '{name}': {device} is no TAP device; io: tap makes one, or takes one that ip tuntap has made"
        )
    };
    other.then(sentence)
}

/// Why an appliance does not start.
#[derive(Debug, PartialEq, Eq)]
pub enum NoStart {
    /// The configuration is at fault: it is the same the next time.
    Configuration(Vec<String>),
    /// The machine is, as it is now: the next time it may be otherwise.
    Machine(Vec<String>),
}

impl NoStart {
    fn into_sentences(self) -> Vec<String> {
        match self {
            NoStart::Configuration(sentences) | NoStart::Machine(sentences) => sentences,
        }
    }
}

/// Checks what only matters when live: every port has a device, which is there, or of which `may_come` says that it may
/// still come.
fn check_ports(model: &Model, devices: &Devices, may_come: impl Fn(&Port) -> bool) -> Result<(), NoStart> {
    let (mut sentences, mut of_machine) = (Vec::new(), Vec::new());
    for customer in model.customers.iter().filter(|customer| !customer.what_if.is_empty()) {
        sentences.push(format!(
            "customer '{}': at: and until: of learned routes, and links:, are for a replay; nothing is the first packet here",
            customer.name
        ));
    }
    for port in &model.ports {
        match &port.device {
            None => sentences
                .push(format!("port '{}' has no device; to run live, say which: device: eth1", port.name)),
            Some(_) if port.io == Io::AfXdp && port.mtu as usize + LINK > LONGEST => sentences.push(format!(
                "port '{}': io: af_xdp takes packets of {} bytes at most, but its mtu is {}; io: af_packet takes larger \
                 ones",
                port.name,
                LONGEST - LINK,
                port.mtu
            )),
            Some(device) if port.io == Io::Tap => sentences.extend(no_tap(port, device, devices, &mut of_machine)),
            Some(device) => match devices.by_name.get(device) {
                None if may_come(port) => {
                    warn!("{}; the port is opened when it comes", no_device(&port.name, device, devices))
                }
                None => of_machine.push(no_device(&port.name, device, devices)),
                Some(found) if found.mtu < port.mtu => warn!(
                    "port '{}': mtu {} is more than {device} carries ({}); larger packets will not leave",
                    port.name, port.mtu, found.mtu
                ),
                Some(_) => (),
            },
        }
    }
    match (sentences.is_empty(), of_machine.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(NoStart::Machine(of_machine)),
        (false, _) => {
            sentences.append(&mut of_machine);
            Err(NoStart::Configuration(sentences))
        }
    }
}

impl Appliance {
    /// Compiles the configuration, opens the devices and starts the workers. A device that is not there is opened when it
    /// comes, as one that has gone is: at boot some are late.
    ///
    /// # Errors
    /// Sentences that say why it cannot run here, and whose fault that is.
    pub fn start(model: Model, settings: Settings) -> Result<Arc<Appliance>, NoStart> {
        let begun = Instant::now();
        // Each circuit link has some of its own: 1,024, as processes have at first, are for about a hundred links.
        if let Err(e) = raise_open_files() {
            warn!("no more files and sockets than before may be open: {e}");
        }
        let count = settings.workers.clamp(1, 64);
        let wakes: Vec<Wake> = (0..count)
            .map(|_| Wake::new())
            .collect::<Result<_, _>>()
            .map_err(|e| NoStart::Machine(vec![format!("no event descriptor: {e}")]))?;
        let (neighbours, asked) = Neighbours::new();
        let (say, devices_changed) = bounded(1);
        let to_wake = wakes.clone();
        let changed = Box::new(move |what| {
            // One that waits says all.
            if what == kernel::Changed::Devices {
                let _ = say.try_send(());
            }
            to_wake.iter().for_each(|w| w.wake());
        });
        let no_netlink = |e| format!("the kernel does not tell of its devices (netlink): {e}");
        let kernel = kernel::start(neighbours.clone(), asked, changed)
            .map_err(|e| NoStart::Machine(vec![no_netlink(e)]))?;
        let (_, devices) = kernel.devices().snapshot();
        check_ports(&model, &devices, |_| true)?;

        let mut names = Names::default();
        let program = Arc::new(compile(&model, &mut names));
        let mut occupancy = Occupancy::new(count);
        occupancy.grow(&program);
        let occupancy = Arc::new(occupancy);
        let mut ports = Ports::default();
        ports.want(&model.ports);
        let policers = Arc::new(Policers::new(&program));
        let no_circuits = |e| NoStart::Machine(vec![format!("no event descriptor: {e}")]);
        let Some(first) = wakes.first().cloned() else { return Err(NoStart::Machine(Vec::new())) };
        let (circuits, from_links) = Circuits::new(first).map_err(no_circuits)?;
        circuits.follow(&model).iter().for_each(|sentence| warn!("{sentence}"));
        let links = circuits.ends(&program);
        let news = news(&program, &occupancy, &policers, &links, Vec::new(), &ports);

        let logs = settings.flow_logs.as_ref();
        let (workers, threads) = start_workers(count, &wakes, &news, &neighbours, logs, from_links, begun)
            .map_err(NoStart::Machine)?;
        let model = Arc::new(model);
        let control = Control {
            base: model.clone(),
            model,
            program,
            former: Vec::new(),
            occupancy,
            policers,
            ports,
            failed: Vec::new(),
            reloads: (0, 0),
            threads,
            stopped: false,
        };
        let files = settings.files.clone();
        let appliance = Arc::new(Appliance {
            settings,
            begun,
            workers,
            kernel,
            devices_changed,
            reloading: Mutex::new(()),
            names: Mutex::new(names),
            files: Mutex::new(files),
            control: Mutex::new(control),
            circuits,
        });
        let no_thread = |e| NoStart::Machine(vec![format!("the thread of circuits cannot be started: {e}")]);
        force::follow_circuits_of(&appliance).map_err(no_thread)?;
        let failed = appliance.sync_ports(&mut lock(&appliance.control));
        if failed.is_empty() { Ok(appliance) } else { Err(NoStart::Machine(failed)) }
    }

    /// Something comes out of here when devices or their addresses have changed.
    pub fn devices_changed(&self) -> &Receiver<()> {
        &self.devices_changed
    }

    /// To be called when devices have changed, and every second or so: follows the devices, frees what is no longer used,
    /// and looks whether all threads are alive.
    ///
    /// # Errors
    /// One has ended on its own: what it says.
    pub fn look_after(&self) -> Result<(), String> {
        self.look_after_workers(&mut lock(&self.control))?;
        // Without `control`: nobody who asks waits for these.
        if let Some(name) = self.circuits.ended() {
            return Err(format!("the thread '{name}' stopped: circuits are not followed"));
        }
        match self.kernel.ended() {
            Some(name) => {
                Err(format!("the thread '{name}' stopped: devices and neighbours are not followed"))
            }
            None => Ok(()),
        }
    }

    fn look_after_workers(&self, control: &mut Control) -> Result<(), String> {
        self.follow_ports(control);
        control.former.retain(|program| Arc::strong_count(program) > 1);
        for (number, thread) in control.threads.iter_mut().enumerate() {
            let Some(ended) = thread.take_if(|t| t.is_finished()) else { continue };
            let why = match ended.join() {
                Ok(()) => "it ended".to_owned(),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
                }
            };
            return Err(format!("worker {number} stopped: {why}"));
        }
        Ok(())
    }

    /// The files that the configuration was read from last, also if that was refused.
    pub fn files_read(&self) -> Files {
        lock(&self.files).clone()
    }

    /// True if every worker has come round since this was last asked: a worker that has nothing to do comes round every
    /// second.
    pub fn is_alive(&self) -> bool {
        let came_round = |worker: &Hand| {
            let at = worker.round_at.load(Ordering::Relaxed);
            worker.seen_at.swap(at, Ordering::Relaxed) != at
        };
        // Each is looked at, whatever the others do.
        self.workers.iter().filter(|worker| !came_round(worker)).count() == 0
    }

    /// Has the workers take what was received, send what is to be sent, and end; true if all did in time.
    pub fn stop(&self) -> bool {
        // What is in force stays: sessions that end take no routes along while packets are still on their way.
        lock(&self.control).stopped = true;
        // Peers are told while packets still leave. The devices of links take their time, each of them, and go last.
        let devices = self.circuits.stop();
        let mut control = lock(&self.control);
        self.tell_all(|| Order::Stop);
        let until = Instant::now() + STOP;
        let mut all = true;
        for thread in control.threads.iter_mut().filter_map(Option::take) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            all &= thread.is_finished() && thread.join().is_ok();
        }
        control.ports.detach();
        drop(control);
        devices.close(Instant::now() + CLOSE);
        all
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            worker.tell(order());
        }
    }

    /// Opens, closes and renews ports as their devices and the configuration have it; what went wrong.
    fn sync_ports(&self, control: &mut Control) -> Vec<String> {
        if control.stopped {
            return Vec::new();
        }
        let (_, devices) = self.kernel.devices().snapshot();
        let mut failed = Vec::new();
        let until = Instant::now() + CLOSING;
        loop {
            failed.clear();
            for (worker, order) in control.ports.changes(&devices, self.workers.len(), &mut failed) {
                if let Some(hand) = self.workers.get(worker) {
                    hand.tell(order);
                }
            }
            if !control.ports.are_closing() || Instant::now() > until {
                return failed;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same, and what went wrong is in the log, once for as long as it is the same.
    fn follow_ports(&self, control: &mut Control) {
        let failed = self.sync_ports(control);
        failed.iter().filter(|sentence| !control.failed.contains(sentence)).for_each(|s| warn!("{s}"));
        control.failed = failed;
    }
}

impl Handle for Appliance {
    fn snapshot(&self) -> Snapshot {
        let workers: Vec<Counts> = self.workers.iter().map(|w| lock(&w.published).clone()).collect();
        let mut total = Counts::default();
        workers.iter().for_each(|w| total.add(w));
        let control = lock(&self.control);
        let names = &control.program.names;
        let vnet = |number: u32| {
            let customer = names.customer_of(number).map_or("", |c| names.customer_name(c));
            (customer.to_owned(), names.vnet_name(number).to_owned())
        };
        Snapshot {
            uptime: self.begun.elapsed(),
            configuration: self.settings.configuration.display().to_string(),
            generation: control.program.generation,
            reloads: control.reloads,
            ports: control.ports.facts(),
            vnets: (0..names.vnet_count() as u32).map(vnet).collect(),
            workers,
            meters: meters::sum(&self.settings.meters, &of_links(&readings(names, &total.meters))),
            total,
            program_bytes: control.program.memory() as u64,
            flow_logs: self.settings.flow_logs.as_ref().map(|l| l.counted.facts()).unwrap_or_default(),
            kernel_overruns: self.kernel.overruns(),
        }
    }

    fn flows(&self, wanted: &FlowsWanted) -> FlowsFound {
        let chosen = Arc::new(Chosen::new(wanted, &lock(&self.control).program.names));
        let (answer, answers) = unbounded();
        let listing = Listing::new(chosen.clone(), answer);
        self.tell_all(|| Order::Flows(listing.clone()));
        drop(listing);
        let until = Instant::now() + ANSWER;
        let (mut flows, mut answered) = (Vec::new(), 0);
        while answered < self.workers.len()
            && let Ok(more) = answers.recv_deadline(until)
        {
            flows.extend(more);
            answered += 1;
        }
        chosen.end();
        FlowsFound { flows, complete: answered == self.workers.len() }
    }

    fn in_force(&self) -> (Arc<Model>, u32) {
        let control = lock(&self.control);
        (control.model.clone(), control.program.generation)
    }

    fn capture(&self, wanted: CaptureWanted) -> Capturing {
        let (capturing, tap) = capture::begin(wanted);
        self.tell_all(|| Order::Capture(tap.clone()));
        capturing
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        let _only = lock(&self.reloading);
        let result = self.try_reload();
        {
            let reloads = &mut lock(&self.control).reloads;
            *(if result.is_ok() { &mut reloads.0 } else { &mut reloads.1 }) += 1;
        }
        match &result {
            Ok(Reloaded { generation, took, .. }) => {
                info!(generation, took_ms = took.as_millis() as u64, "configuration in force");
            }
            Err(sentences) => {
                error!(faults = sentences.len(), "configuration refused; the old one stays in force");
                sentences.iter().for_each(|s| error!("{s}"));
            }
        }
        result
    }

    fn circuits(&self) -> Vec<LinkStatus> {
        let mut links = self.circuits.status();
        let mut sums = Vec::new();
        for worker in &self.workers {
            add_each(&mut sums, &lock(&worker.published).meters, Meter::add);
        }
        let (model, program) = {
            let control = lock(&self.control);
            (control.base.clone(), control.program.clone())
        };
        for reading in readings(&program.names, &sums) {
            let MeterReading { customer, circuit, peering, link, meter } = reading;
            let key = LinkKey { customer, circuit, peering, link };
            if let Some(link) = links.iter_mut().find(|link| link.key == key) {
                (link.meter, link.over_rate) = (meter, meter.over);
            }
        }
        for link in &mut links {
            let customer = model.customers.iter().find(|c| c.name == link.key.customer);
            let circuits = customer.map_or(&[][..], |c| &c.circuits);
            let circuit = circuits.iter().find(|circuit| circuit.name == link.key.circuit);
            link.bandwidth_mbps = circuit.and_then(|circuit| circuit.bandwidth_mbps);
        }
        links
    }

    fn bgp_routes(&self, link: &LinkKey, family: Family) -> Option<SessionRoutes> {
        self.circuits.routes(link, family)
    }

    fn is_ready(&self) -> bool {
        lock(&self.control).ports.are_open()
    }

    fn stands_still(&self) -> bool {
        let now = nanos(self.begun.elapsed());
        let last = |worker: &Hand| worker.round_at.load(Ordering::Relaxed);
        // One that has not begun has not stood still.
        self.workers.iter().map(last).any(|at| at > 0 && now.saturating_sub(at) > STILL)
    }
}

impl Hand {
    fn tell(&self, order: Order) {
        // A worker that has ended is seen by `look_after`.
        let _ = self.orders.send(order);
        self.wake.wake();
    }
}

fn news(
    program: &Arc<Program>,
    occupancy: &Arc<Occupancy>,
    policers: &Arc<Policers>,
    links: &Arc<LinkEnds>,
    affected: Vec<u32>,
    ports: &Ports,
) -> News {
    let index = |name: &str| program.port(name).unwrap_or(u16::MAX);
    let number = |port: &crate::compile::Port| ports.number(&port.name).unwrap_or(u16::MAX);
    News {
        program: program.clone(),
        occupancy: occupancy.clone(),
        policers: policers.clone(),
        links: links.clone(),
        affected: affected.into(),
        to_program: ports.names().map(index).collect(),
        from_program: program.ports.iter().map(number).collect(),
        done: None,
    }
}

/// Starts the workers, each on a core of its own if there are enough; all of them, or none goes on.
fn start_workers(
    count: usize,
    wakes: &[Wake],
    news: &News,
    neighbours: &Arc<Neighbours>,
    flow_logs: Option<&Listener>,
    from_links: Receiver<FromLink>,
    epoch: Instant,
) -> Result<(Vec<Hand>, Threads), Vec<String>> {
    let (shared, hasher, cores) = (Arc::new(Shared::default()), RandomState::new(), cores());
    let (mut hands, mut threads) = (Vec::new(), Vec::new());
    for (number, (others, wake)) in handover::connect(wakes).into_iter().zip(wakes).enumerate() {
        let (orders, told) = unbounded();
        let published = Arc::new(Mutex::new(Counts::default()));
        let round_at = Arc::new(AtomicU64::new(0));
        let beginning = Beginning {
            orders: told,
            wake: wake.clone(),
            others,
            news: news.clone(),
            neighbours: neighbours.clone(),
            flow_logs: flow_logs.cloned(),
            from_links: (number == 0).then(|| from_links.clone()),
            shared: shared.clone(),
            published: published.clone(),
            round_at: round_at.clone(),
            hasher: hasher.clone(),
            epoch,
        };
        // The last cores, so that the first is left to interrupts and everybody else.
        let core = (count < cores.len()).then(|| cores[cores.len() - count + number]);
        let work = move || {
            if let Some(core) = core
                && let Err(e) = pin(core)
            {
                warn!("worker {number} runs on any core: {e}");
            }
            Worker::new(beginning).run();
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(work);
        match thread {
            Ok(thread) => threads.push(Some(thread)),
            Err(e) => {
                hands.iter().for_each(|hand: &Hand| hand.tell(Order::Stop));
                return Err(vec![format!("worker {number} of {count} cannot be started: {e}")]);
            }
        }
        let seen_at = AtomicU64::new(0);
        hands.push(Hand { orders, wake: wake.clone(), published, round_at, seen_at });
    }
    Ok((hands, threads))
}

#[cfg(test)]
mod tests;
