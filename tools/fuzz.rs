//! A fuzzer that needs nothing but stable Rust: `cargo run --release --example fuzz -- TARGET --seconds 600 [--seed N] [--keep N]`.
//!
//! It changes the inputs of `tests/corpus/TARGET` and runs the target on them. An input that panics, takes longer than a
//! second, or (found at the next start) ends the program is saved to that folder, where `cargo test` then runs it.
//! Built by `tools/fuzz.sh`, the code counts where it has been: then inputs that reach something new are kept and changed
//! further, and `--keep N` leaves in the corpus, at the end, N inputs that together reach most.

#[path = "fuzz/coverage.rs"]
mod coverage;
#[path = "fuzz/frames.rs"]
mod frames;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "../tests/oracle/mod.rs"]
#[allow(dead_code, reason = "its generators are for tests")]
mod oracle;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "../tests/fuzz/mod.rs"]
mod targets;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use coverage::Coverage;
use mutate::{Random, Shape, mutate};
use seeds::Seeds;
use targets::{TARGETS, Target};

/// Longer than this is a finding.
const SLOW: Duration = Duration::from_secs(1);

/// Longer than this is taken for never.
const STUCK: Duration = Duration::from_secs(30);

struct Arguments {
    target: &'static Target,
    seconds: u64,
    seed: u64,
    /// How many inputs the corpus shall have in the end.
    keep: Option<usize>,
}

/// Where the last panic was, and what it said.
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// When the present run began, and its input.
static RUNNING: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            let names: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
            eprintln!("{message}; fuzz {} --seconds N [--seed N] [--keep N]", names.join("|"));
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let message = info.payload_as_str().unwrap_or("").to_string();
        if RUNNING.lock().is_ok_and(|running| running.is_none()) {
            eprintln!("the fuzzer itself: {place}: {message}");
        }
        *PANIC.lock().unwrap() = Some((place, message));
    }));
    let mut fuzzer = Fuzzer::new(arguments.target);
    std::thread::spawn({
        let folder = fuzzer.folder.clone();
        move || watch(&folder)
    });
    fuzzer.begin();
    fuzzer.fuzz(Duration::from_secs(arguments.seconds), &mut Random(arguments.seed));
    if let Some(most) = arguments.keep {
        fuzzer.keep(most);
    }
    fuzzer.close();
    if fuzzer.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let mut words = std::env::args().skip(1);
    let name = words.next().ok_or("a target is missing")?;
    let target = TARGETS.iter().find(|t| t.name == name).ok_or(format!("no target is named '{name}'"))?;
    let mut arguments = Arguments { target, seconds: 60, seed: 1, keep: None };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value.parse::<u64>().map_err(|_| format!("'{value}' after {word} is no number"))
        };
        match word.as_str() {
            "--seconds" => arguments.seconds = number()?,
            "--seed" => arguments.seed = number()?,
            "--keep" => arguments.keep = Some(number()? as usize),
            _ => return Err(format!("'{word}' is not known")),
        }
    }
    Ok(arguments)
}

struct Fuzzer {
    target: &'static Target,
    seeds: Seeds,
    folder: PathBuf,
    coverage: Coverage,
    /// Inputs worth changing.
    pool: Vec<Vec<u8>>,
    runs: u64,
    /// One finding for each place.
    findings: BTreeMap<String, PathBuf>,
    /// The present input, for when the program dies with it.
    last: File,
    last_path: PathBuf,
    started: Instant,
}

impl Fuzzer {
    fn new(target: &'static Target) -> Fuzzer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target.name);
        fs::create_dir_all(&folder).expect("the corpus can be written");
        // One for each working copy and target.
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        let last_path = std::env::temp_dir().join(format!("clearway-fuzz-{:016x}", hasher.finish()));
        let mut findings = BTreeMap::new();
        if let Ok(input) = fs::read(&last_path) {
            let path = save(&folder, "died", &input);
            eprintln!("the run before this one ended with {}", path.display());
            findings.insert("died".into(), path);
        }
        let last = File::create(&last_path).expect("a temporary file");
        Fuzzer {
            target,
            seeds: seeds::seeds(target.name),
            folder,
            coverage: Coverage::new(),
            pool: Vec::new(),
            runs: 0,
            findings,
            last,
            last_path,
            started: Instant::now(),
        }
    }

    /// Runs the corpus and the seeds.
    fn begin(&mut self) {
        let mut inputs = std::mem::take(&mut self.seeds.inputs);
        let entries = fs::read_dir(&self.folder).expect("the corpus");
        inputs.extend(entries.filter_map(|e| fs::read(e.ok()?.path()).ok()));
        for input in inputs {
            self.run(&input);
            self.pool.push(input);
        }
    }

    fn fuzz(&mut self, time: Duration, random: &mut Random) {
        let mut said = Instant::now();
        while self.started.elapsed() < time {
            for _ in 0..64 {
                // Half of the time one of the newest.
                let newest = self.pool.len() - random.below(self.pool.len().min(32)) - 1;
                let any = random.below(self.pool.len());
                let mut input = self.pool[if random.below(2) == 0 { newest } else { any }].clone();
                let other = &self.pool[random.below(self.pool.len())];
                let Seeds { words, shape, longest, .. } = &self.seeds;
                match shape {
                    Shape::Frames => frames::mutate(&mut input, other, words, *longest, random),
                    _ => mutate(&mut input, other, words, *shape, *longest, random),
                }
                if self.target.name == "captures" && random.below(2) == 0 {
                    mutate::repair_pcapng(&mut input);
                }
                if self.run(&input) {
                    self.pool.push(input);
                }
            }
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                eprintln!("{}", self.state());
            }
        }
    }

    /// Runs one input; true if it reached something new.
    fn run(&mut self, input: &[u8]) -> bool {
        self.last.set_len(0).and_then(|()| self.last.write_all_at(input, 0)).expect("a temporary file");
        *RUNNING.lock().unwrap() = Some((Instant::now(), input.to_vec()));
        self.coverage.clear();
        let done = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let new = self.coverage.collect();
        let began = RUNNING.lock().unwrap().take().map_or_else(Instant::now, |(began, _)| began);
        self.runs += 1;
        if done.is_err() {
            let (place, message) = PANIC.lock().unwrap().take().unwrap_or_default();
            self.found(&place, "panic", input, &message);
        }
        if began.elapsed() > SLOW {
            self.found("slow", "slow", input, &format!("{:?}", began.elapsed()));
        }
        new
    }

    fn found(&mut self, place: &str, kind: &str, input: &[u8], message: &str) {
        if !self.findings.contains_key(place) {
            let path = save(&self.folder, kind, input);
            eprintln!("{kind} at {place}: {message}\n  {}", path.display());
            self.findings.insert(place.into(), path);
        }
    }

    /// Leaves in the corpus at most `most` inputs that together reach as much as so few can.
    fn keep(&mut self, most: usize) {
        if !self.coverage.is_there() {
            eprintln!("--keep needs a build that counts, as tools/fuzz.sh makes it; nothing is kept");
            return;
        }
        let mut left = Vec::new();
        for input in std::mem::take(&mut self.pool) {
            let mut alone = Coverage::new();
            std::mem::swap(&mut self.coverage, &mut alone);
            self.run(&input);
            std::mem::swap(&mut self.coverage, &mut alone);
            left.push((alone.reached(), input));
        }
        let mut kept = BTreeSet::new();
        while kept.len() < most
            && let Some(best) = (0..left.len()).max_by_key(|&i| (left[i].0.len(), Reverse(left[i].1.len())))
            && !left[best].0.is_empty()
        {
            let (reached, input) = left.swap_remove(best);
            for (others, _) in &mut left {
                others.retain(|edge| reached.binary_search(edge).is_err());
            }
            kept.insert(save(&self.folder, "input", &input));
            self.pool.push(input);
        }
        for entry in fs::read_dir(&self.folder).expect("the corpus").filter_map(Result::ok) {
            // Findings and inputs with names of their own stay.
            if entry.file_name().to_string_lossy().starts_with("input-") && !kept.contains(&entry.path()) {
                fs::remove_file(entry.path()).expect("the corpus can be written");
            }
        }
        eprintln!("{} inputs kept in {}", kept.len(), self.folder.display());
    }

    fn state(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let reached = match self.coverage.is_there() {
            true => format!("{} edges reached, {} inputs", self.coverage.edges(), self.pool.len()),
            false => "blind".into(),
        };
        format!(
            "{}: {seconds:.0} s, {} runs, {:.0} runs/s, {reached}, {} findings",
            self.target.name,
            self.runs,
            self.runs as f64 / seconds,
            self.findings.len()
        )
    }

    fn close(&self) {
        // Not there any more only if someone cleaned up.
        let _ = fs::remove_file(&self.last_path);
        println!("{}", self.state());
        for path in self.findings.values() {
            println!("  {}", path.display());
        }
    }
}

/// Ends the program if a run does not end.
fn watch(folder: &Path) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let stuck = match &*RUNNING.lock().unwrap() {
            Some((began, input)) if began.elapsed() > STUCK => Some(save(folder, "stuck", input)),
            _ => None,
        };
        if let Some(path) = stuck {
            println!("a run did not end in {STUCK:?}: {}", path.display());
            std::process::exit(1);
        }
    }
}

fn save(folder: &Path, kind: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder.join(format!("{kind}-{:016x}", hasher.finish()));
    fs::write(&path, input).expect("the corpus can be written");
    path
}
