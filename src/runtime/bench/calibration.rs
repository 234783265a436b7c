//! What this machine allows, measured in the same run, so that a figure can be judged where it was taken.

use std::hint::black_box;
use std::time::Instant;

use super::source::Random;

/// How often each thing is measured; the best counts.
const TRIES: usize = 5;
/// Dependent additions of one measurement.
const ADDS: u64 = 4 << 20;
/// Loads of one measurement.
const LOADS: usize = 1 << 18;
/// Loads that are under way at once.
const AHEAD: usize = 16;

/// Costs on this machine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Calibration {
    /// An addition that waits for the one before: one cycle.
    pub add: f64,
    /// The bytes in which lines were loaded at random: about those of the flow table.
    pub table: u64,
    /// A random cache line of that table, when its address is known only when the line before has come.
    pub dependent_line: f64,
    /// The same when the addresses are known ahead.
    pub independent_line: f64,
}

/// Measures, with a table of this many bytes.
pub fn measure(table: u64) -> Calibration {
    let lines = (table / 64).next_power_of_two().clamp(1 << 10, 1 << 24) as usize;
    let ring = ring(lines);
    Calibration {
        add: best(add),
        table: lines as u64 * 64,
        dependent_line: best(|| dependent(&ring)),
        independent_line: best(|| independent(&ring)),
    }
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..TRIES).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds of one addition.
fn add() -> f64 {
    let (mut a, mut b) = (black_box(1u64), black_box(2u64));
    let begin = Instant::now();
    for _ in 0..ADDS / 8 {
        // Each sum needs the one before; the pair cannot be known in advance.
        a = a.wrapping_add(b);
        b = b.wrapping_add(a);
        a = a.wrapping_add(b);
        b = b.wrapping_add(a);
        a = a.wrapping_add(b);
        b = b.wrapping_add(a);
        a = a.wrapping_add(b);
        b = b.wrapping_add(a);
    }
    black_box((a, b));
    begin.elapsed().as_nanos() as f64 / ADDS as f64
}

/// A line of the table: the number of the next one, and what fills it up.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    next: u32,
}

/// One ring through all lines, in random order.
fn ring(lines: usize) -> Vec<Line> {
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = Random(lines as u64);
    for i in (1..lines).rev() {
        order.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
    let mut table = vec![Line { next: 0 }; lines];
    for (i, line) in order.iter().enumerate() {
        table[*line as usize].next = order[(i + 1) % lines];
    }
    table
}

fn dependent(table: &[Line]) -> f64 {
    let mut at = black_box(0u32);
    let begin = Instant::now();
    for _ in 0..LOADS {
        at = table[at as usize].next;
    }
    black_box(at);
    begin.elapsed().as_nanos() as f64 / LOADS as f64
}

/// Several walks at once, each from a place of its own.
fn independent(table: &[Line]) -> f64 {
    let mut walks = [0u32; AHEAD];
    for (i, walk) in walks.iter_mut().enumerate() {
        *walk = black_box((i * (table.len() / AHEAD)) as u32);
    }
    let begin = Instant::now();
    for _ in 0..LOADS / AHEAD {
        for walk in &mut walks {
            *walk = table[*walk as usize].next;
        }
    }
    black_box(walks);
    begin.elapsed().as_nanos() as f64 / LOADS as f64
}
