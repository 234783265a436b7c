//! What is measured, by stable names, of Clearway and of the plain version: whole ways of packets here, steps of them in
//! `parts`.

use std::hint::black_box;
use std::net::Ipv4Addr;

use clearway::compile::compile;
use clearway::compile::names::Names;
use clearway::packet::Verdict;
use clearway::types::SECOND;

use super::configuration::{configuration, model};
use super::dataplane::{Dataplane, seed};
use super::parts;
use super::plain::Plain;
use super::traffic::{BATCH, Batch, FABRIC, NEIGHBOUR, NOWHERE, Order, PUBLIC, SITE, Traffic};

/// What is measured, round by round.
pub trait Work {
    /// Makes the next input; this is not measured.
    fn refresh(&mut self) {}
    /// Does the work once.
    fn run(&mut self);
}

/// Whose work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ours.
    Clearway,
    /// The plain version's.
    Plain,
}

/// How far a run goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// To measure times.
    Timed,
    /// To count instructions in an emulator: a million flows are a hundred thousand.
    Counted,
    /// To see whether it works.
    Tried,
}

impl Run {
    /// Cargo says whether a bench is to measure or, as a test, only to work.
    pub fn asked() -> Run {
        if std::env::args().any(|a| a == "--bench") { Run::Timed } else { Run::Tried }
    }
}

/// Makes the work of a side.
pub type Make = Box<dyn Fn(Side) -> Box<dyn Work>>;

/// Something to measure.
pub struct Case {
    /// Its name, which stays.
    pub name: String,
    /// What is counted: packets or look-ups in a round.
    pub per_round: u64,
    /// Its work.
    pub make: Make,
    /// Panics unless both sides say the same.
    pub check: Box<dyn Fn()>,
}

/// All cases.
pub fn all(run: Run) -> Vec<Case> {
    let mut cases = parts::all(run);
    cases.extend(ways(run));
    cases.extend(compiling(run));
    cases
}

/// A whole way of packets.
#[derive(Clone, Copy)]
struct Way {
    rules: usize,
    routes: usize,
    destinations: &'static [Ipv4Addr],
    size: usize,
    flows: u64,
    /// Flows have so many packets each and so many of them have not expired; 0: they go on forever.
    packets: u64,
}

/// The cases that the ratio to the plain version is asked of: flows that hit and new flows.
pub fn ways(run: Run) -> Vec<Case> {
    let usual = Way {
        rules: if run == Run::Tried { 10 } else { 100 },
        routes: if run == Run::Tried { 10 } else { 1000 },
        destinations: &[NEIGHBOUR],
        size: 64,
        flows: if run == Run::Tried { BATCH } else { 10_000 },
        packets: 0,
    };
    let many = match run {
        Run::Timed => 1_000_000,
        Run::Counted => 100_000,
        Run::Tried => 3 * BATCH,
    };
    let new = Way { packets: 1, flows: if run == Run::Tried { BATCH } else { 16_384 }, ..usual };
    let mut ways = vec![
        (format!("hit-{}", usual.flows), usual),
        (format!("hit-{many}"), Way { flows: many, ..usual }),
        ("hit-1500-bytes".to_owned(), Way { size: 1500, flows: BATCH, ..usual }),
        ("hit-to-circuit".to_owned(), Way { destinations: &[SITE], ..usual }),
        ("hit-to-internet".to_owned(), Way { destinations: &[PUBLIC], ..usual }),
        ("ten-packets-each".to_owned(), Way { packets: 10, ..new }),
        ("new-100-rules".to_owned(), new),
        ("mixed".to_owned(), Way { destinations: MIXED, ..usual }),
    ];
    if run != Run::Tried {
        ways.push(("new-1000-rules".to_owned(), Way { rules: 1000, ..new }));
    }
    let case = |(name, way): (String, Way)| Case {
        name,
        per_round: BATCH,
        make: Box::new(move |side| way.work(side)),
        check: Box::new(move || way.check()),
    };
    ways.into_iter().map(case).collect()
}

/// Between NICs, to the Internet, to a site, and one in sixteen to nowhere.
const MIXED: &[Ipv4Addr] = &[
    NEIGHBOUR, PUBLIC, NEIGHBOUR, SITE, NEIGHBOUR, NEIGHBOUR, PUBLIC, NEIGHBOUR, NEIGHBOUR, NEIGHBOUR, SITE,
    NEIGHBOUR, NEIGHBOUR, PUBLIC, NEIGHBOUR, NOWHERE,
];

impl Way {
    fn work(self, side: Side) -> Box<dyn Work> {
        match side {
            Side::Clearway => self.begin(Dataplane::new(self.rules, self.routes)),
            Side::Plain => self.begin(PlainWay::new(self.rules, self.routes, self.flows)),
        }
    }

    /// Opens the flows and runs each once more; of flows that end, until as many expire as begin.
    fn begin<D: Runs + 'static>(self, dataplane: D) -> Box<dyn Work> {
        let (first, then) = self.traffic();
        let mut work = OfWay { dataplane, traffic: first, batch: Batch::default() };
        let rounds = self.flows.div_ceil(BATCH) * self.packets.max(1);
        let warm = |work: &mut OfWay<D>| {
            for _ in 0..=rounds {
                work.refresh();
                work.run();
            }
        };
        warm(&mut work);
        if let Some(then) = then {
            work.traffic = then;
            warm(&mut work);
        }
        Box::new(work)
    }

    /// What opens the flows, and what is measured if that is not more of it.
    fn traffic(self) -> (Traffic, Option<Traffic>) {
        let traffic = |flows, order| Traffic::new(self.destinations, self.size, flows, order);
        if self.packets > 0 {
            // When the last of them begins, the first is idle for longer than the four minutes of a record.
            let step = 241 * SECOND / (self.flows / BATCH * self.packets).max(1);
            return (traffic(u64::MAX, Order::Ascending { packets: self.packets }).every(step), None);
        }
        let opening = traffic(self.flows, Order::Ascending { packets: 1 });
        (opening, Some(traffic(self.flows, Order::Shuffled)))
    }

    /// Runs every frame through both, the first time and again, and compares verdicts and bytes.
    fn check(self) {
        let mut ours = Dataplane::new(self.rules, self.routes);
        let mut plain = Plain::new(&model(&configuration(self.rules, self.routes)), seed());
        let (first, then) = self.traffic();
        let (mut batch, mut out) = (Batch::default(), Vec::new());
        for mut traffic in [Some(first), then].into_iter().flatten() {
            for _ in 0..self.flows.div_ceil(BATCH) * self.packets.max(1) {
                traffic.fill(&mut batch);
                ours.run(&batch);
                for (i, (frame, now)) in batch.frames().enumerate() {
                    let said = plain.process(usize::from(FABRIC), frame, now, &mut out);
                    let outcome = ours.outcome(i);
                    let frames: Vec<&[u8]> = ours.results.frames(i).collect();
                    match said {
                        Ok(port) => {
                            assert_eq!(outcome.verdict, Verdict::Forward);
                            assert_eq!(outcome.egress.map(|e| usize::from(e.port)), Some(port));
                            assert_eq!(frames, [&out[..]]);
                        }
                        Err(reason) => {
                            assert_eq!(outcome.verdict, Verdict::of(reason));
                            assert!(frames.is_empty());
                        }
                    }
                }
            }
        }
    }
}

/// Both sides of a way.
trait Runs {
    fn run(&mut self, batch: &Batch);
    /// Before a batch: forgets what would not be there.
    fn refresh(&mut self) {}
}

impl Runs for Dataplane {
    fn run(&mut self, batch: &Batch) {
        Dataplane::run(self, batch);
    }
}

struct PlainWay {
    plain: Plain,
    out: Vec<u8>,
    most: usize,
}

impl PlainWay {
    fn new(rules: usize, routes: usize, flows: u64) -> PlainWay {
        let plain = Plain::new(&model(&configuration(rules, routes)), seed());
        PlainWay { plain, out: Vec::new(), most: (flows + BATCH) as usize }
    }
}

impl Runs for PlainWay {
    fn run(&mut self, batch: &Batch) {
        for (frame, now) in batch.frames() {
            black_box(self.plain.process(usize::from(FABRIC), frame, now, &mut self.out)).ok();
        }
    }

    /// It has no timers: what would have expired goes at once, and costs it nothing.
    fn refresh(&mut self) {
        if self.plain.flows() > self.most {
            self.plain.forget();
        }
    }
}

struct OfWay<D> {
    dataplane: D,
    traffic: Traffic,
    batch: Batch,
}

impl<D: Runs> Work for OfWay<D> {
    fn refresh(&mut self) {
        self.traffic.fill(&mut self.batch);
        self.dataplane.refresh();
    }

    fn run(&mut self) {
        self.dataplane.run(black_box(&self.batch));
    }
}

/// From a model to what the path reads.
fn compiling(run: Run) -> Vec<Case> {
    let sizes: &[(usize, usize)] = if run == Run::Tried { &[(10, 10)] } else { &[(100, 1000), (1000, 1000)] };
    let case = |&(rules, routes): &(usize, usize)| Case {
        name: format!("compile-{rules}-rules-{routes}-routes"),
        per_round: 1,
        make: Box::new(move |side| {
            let model = model(&configuration(rules, routes));
            match side {
                Side::Clearway => work(move || drop(black_box(compile(&model, &mut Names::default())))),
                Side::Plain => work(move || drop(black_box(Plain::new(&model, seed())))),
            }
        }),
        check: Box::new(|| ()),
    };
    sizes.iter().map(case).collect()
}

/// Work that needs no fresh input.
pub fn work(run: impl FnMut() + 'static) -> Box<dyn Work> {
    struct Plainly<F>(F);
    impl<F: FnMut()> Work for Plainly<F> {
        fn run(&mut self) {
            (self.0)();
        }
    }
    Box::new(Plainly(run))
}
