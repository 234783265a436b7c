//! What this machine allows, measured in the same run, so that a figure can be judged where it was taken.

use std::hint::black_box;
use std::time::Instant;

use super::source::Random;
use crate::sys::Arena;

/// How often each thing is measured; the best counts.
const TRIES: usize = 7;
/// Dependent additions of one measurement.
const ADDS: u64 = 2 << 20;
/// Loads of one measurement.
const LOADS: usize = 1 << 17;
/// How far ahead lines are asked for.
const AHEAD: usize = 24;
/// Lines of the table at least and at most.
const LINES: (u64, u64) = (1 << 8, 1 << 23);

/// Costs on this machine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Calibration {
    /// An addition that waits for the one before: one cycle.
    pub add: f64,
    /// The bytes in which lines were loaded at random: about those of the flow table.
    pub table: u64,
    /// A random cache line of that table, when its address is known only when the line before has come.
    pub dependent_line: f64,
    /// The same when it is asked for ahead.
    pub independent_line: f64,
    /// Huge pages back that table.
    pub huge_pages: bool,
}

/// Measures, with a table of about this many bytes that is held as the flow table is.
pub fn measure(bytes: u64) -> Calibration {
    let lines = (bytes / 64).next_power_of_two().clamp(LINES.0, LINES.1) as u32;
    let (table, order) = ring(lines);
    Calibration {
        add: best(add),
        table: u64::from(lines) * 64,
        dependent_line: best(|| dependent(&table)),
        independent_line: best(|| independent(&table, &order)),
        huge_pages: table.on_huge_pages(),
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
        // Each sum needs the one before.
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

/// One ring through all lines in random order, and that order.
fn ring(lines: u32) -> (Arena<Line>, Vec<u32>) {
    let mut order: Vec<u32> = (0..lines).collect();
    let mut random = Random(u64::from(lines));
    for i in (1..order.len()).rev() {
        order.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
    let mut table = Arena::new(Line { next: 0 }, lines as usize + 1);
    for _ in 1..lines {
        table.push(Line { next: 0 });
    }
    for (line, next) in order.iter().zip(order.iter().cycle().skip(1)) {
        table.get_mut(*line as usize).next = *next;
    }
    (table, order)
}

fn dependent(table: &Arena<Line>) -> f64 {
    let mut at = black_box(0u32);
    let begin = Instant::now();
    for _ in 0..LOADS {
        at = table.get(at as usize).next;
    }
    black_box(at);
    begin.elapsed().as_nanos() as f64 / LOADS as f64
}

fn independent(table: &Arena<Line>, order: &[u32]) -> f64 {
    let loads = LOADS.min(order.len() - AHEAD);
    let mut sum = 0u32;
    let begin = Instant::now();
    for (now, later) in order.iter().zip(&order[AHEAD..]).take(loads) {
        table.prefetch(*later as usize);
        sum = sum.wrapping_add(table.get(*now as usize).next);
    }
    black_box(sum);
    begin.elapsed().as_nanos() as f64 / loads as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_goes_through_every_line() {
        let (table, order) = ring(4096);
        let mut seen = vec![false; 4096];
        let mut at = 0;
        for _ in 0..4096 {
            seen[at] = true;
            at = table.get(at).next as usize;
        }
        assert!(at == 0 && seen.iter().all(|s| *s) && order.len() == 4096);
    }

    #[test]
    fn every_cost_is_a_number() {
        for bytes in [0, 100_000, 1 << 22] {
            let found = measure(bytes);
            assert!(found.table >= bytes.min(1 << 14) && found.add > 0.0, "{found:?}");
            assert!(found.dependent_line > 0.0 && found.independent_line > 0.0, "{found:?}");
        }
    }
}
