//! What a bench found: a table for a person, one JSON document for a program.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Style, Table};
use crate::runtime::bench::{BUFFER, BURST, CHECKED, Calibration, Figures, RING, Report, Settings};

/// The figures of one repeat, or of one worker in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    ns_per_packet: f64,
    mpps: f64,
    gbps: f64,
}

/// Rates of so many packets of that size in that time.
fn rates(packets: u64, busy: Duration, size: u32) -> Rates {
    if packets == 0 {
        return Rates::default();
    }
    let ns_per_packet = busy.as_nanos() as f64 / packets as f64;
    let mpps = 1000.0 / ns_per_packet.max(1e-9);
    Rates { ns_per_packet, mpps, gbps: mpps * f64::from(size) * 8.0 / 1000.0 }
}

/// The whole of several workers is as fast as the one that worked longest.
fn whole(figures: &[Figures], size: u32) -> Rates {
    let busy = figures.iter().map(|f| f.busy).max().unwrap_or_default();
    rates(figures.iter().map(|f| f.packets).sum(), busy, size)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Median, least and most.
fn spread(all: &[Rates], field: impl Fn(&Rates) -> f64) -> [f64; 3] {
    let values = || all.iter().map(&field);
    [median(values()), values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)]
}

/// What the changes of configuration took, in milliseconds, and what they cost.
struct Changes {
    count: usize,
    /// Compiling one: mean and most.
    compiled: [f64; 2],
    /// Until every worker had put it in force: mean and most.
    in_force: [f64; 2],
    /// How many times as long a packet took as in the run beside it without changes: median, least and most.
    times: [f64; 3],
    /// The rates without changes.
    still: Vec<Rates>,
}

impl Changes {
    /// `None` without any.
    fn of(report: &Report, size: u32) -> Option<Changes> {
        if report.still.is_empty() {
            return None;
        }
        let mean_and_most = |all: Vec<Duration>| {
            let count = all.len().max(1) as f64;
            let milliseconds = |d: Duration| d.as_secs_f64() * 1000.0;
            [
                milliseconds(all.iter().sum()) / count,
                milliseconds(all.iter().max().copied().unwrap_or_default()),
            ]
        };
        let still: Vec<Rates> = report.still.iter().map(|r| whole(r, size)).collect();
        let pairs = report.repeats.iter().map(|r| whole(r, size)).zip(&still);
        let times: Vec<f64> = pairs.map(|(r, s)| r.ns_per_packet / s.ns_per_packet.max(1e-9)).collect();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Changes {
            count: report.changes.len(),
            compiled: mean_and_most(report.changes.iter().map(|c| c.compiled).collect()),
            in_force: mean_and_most(report.changes.iter().filter_map(|c| c.in_force).collect()),
            times: [median(times.iter().copied()), least, times.iter().copied().fold(0.0, f64::max)],
            still,
        })
    }

    fn json(&self) -> Value {
        let mean_and_most = |[mean, most]: [f64; 2]| json!({"mean": rounded(mean), "max": rounded(most)});
        let [median, least, most] = self.times;
        json!({
            "count": self.count,
            "compile_milliseconds": mean_and_most(self.compiled),
            "in_force_milliseconds": mean_and_most(self.in_force),
            "times_without": rounded(median),
            "spread": [rounded(least), rounded(most)],
            "without": self.still.iter().map(rates_json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let [times, least, most] = self.times;
        format!(
            "{} compiled in {:.2} ms each ({:.2} at most), in force after {:.2} ms ({:.2} at most); a packet takes \
             {times:.3} times as long as without ({least:.3}..{most:.3})",
            thousands(self.count as u64),
            self.compiled[0],
            self.compiled[1],
            self.in_force[0],
            self.in_force[1],
        )
    }
}

/// A number with three digits or more that matter.
fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

/// Bytes of the tables of all workers for each of their flows.
fn bytes_per_flow(figures: &[Figures]) -> f64 {
    sum(figures, |f| f.table) as f64 / sum(figures, |f| f.flows).max(1) as f64
}

/// Nanoseconds of finding out whose a frame is and handing it over, for each frame that was run.
fn hand_over(figures: &[Figures]) -> f64 {
    let handing: Duration = figures.iter().map(|f| f.handing).sum();
    handing.as_nanos() as f64 / sum(figures, |f| f.packets).max(1) as f64
}

fn sum(figures: &[Figures], field: impl Fn(&Figures) -> u64) -> u64 {
    figures.iter().map(field).sum()
}

/// The JSON document.
pub fn document(profile: &str, settings: &Settings, report: &Report) -> Value {
    let repeats: Vec<Rates> = report.repeats.iter().map(|r| whole(r, settings.size)).collect();
    let all: Vec<Figures> = report.repeats.iter().flatten().copied().collect();
    let last = report.repeats.last().map_or(&[][..], Vec::as_slice);
    let worker = |number: usize| {
        let own: Vec<Figures> = report.repeats.iter().filter_map(|r| r.get(number)).copied().collect();
        let figures: Vec<Rates> = own.iter().map(|f| rates(f.packets, f.busy, settings.size)).collect();
        run_json(&figures, &own, own.last().map_or(&[], std::slice::from_ref))
    };
    let mut document = run_json(&repeats, &all, last);
    let facts = json!({
        "profile": profile,
        "options": options_json(settings),
        "workers": (0..last.len()).map(worker).collect::<Vec<_>>(),
        "repeats": repeats.iter().map(rates_json).collect::<Vec<_>>(),
        "calibration": calibration_json(&report.calibration),
        "setup": {
            "configuration_seconds": rounded(report.build),
            "compile_seconds": rounded(report.compile),
            "program_bytes": report.program,
            "resident_bytes": report.resident,
            "huge_page_bytes": report.huge,
            "flow_table_in_huge_pages": last.iter().all(|f| f.huge_pages),
            "peak_bytes": report.peak,
            "checked_packets": report.checked_before,
        },
        "changes": Changes::of(report, settings.size).map(|c| c.json()),
        "buffers": {"ring": RING, "stride_bytes": BUFFER, "burst": BURST},
    });
    if let (Some(document), Value::Object(facts)) = (document.as_object_mut(), facts) {
        document.extend(facts);
    }
    document
}

/// What is said of the whole and of each worker.
fn run_json(repeats: &[Rates], figures: &[Figures], last: &[Figures]) -> Value {
    let [ns, ns_min, ns_max] = spread(repeats, |r| r.ns_per_packet);
    let [mpps, mpps_min, mpps_max] = spread(repeats, |r| r.mpps);
    let [gbps, gbps_min, gbps_max] = spread(repeats, |r| r.gbps);
    let verdict = |kind: usize| sum(figures, |f| f.verdicts[kind]);
    json!({
        "ns_per_packet": rounded(ns),
        "mpps": rounded(mpps),
        "gbps": rounded(gbps),
        "flows": sum(last, |f| f.flows),
        "bytes_per_flow": rounded(bytes_per_flow(last)),
        "packets": sum(figures, |f| f.packets),
        "verdicts": {"forward": verdict(0), "drop": verdict(1), "punt": verdict(2)},
        "median_burst_ns": rounded(median(figures.iter().map(|f| f.median_burst))),
        "hand_over_ns": rounded(hand_over(figures)),
        "opened": sum(figures, |f| f.opened),
        "checked": sum(figures, |f| f.checked),
        "spread": {
            "ns_per_packet": [rounded(ns_min), rounded(ns_max)],
            "mpps": [rounded(mpps_min), rounded(mpps_max)],
            "gbps": [rounded(gbps_min), rounded(gbps_max)],
        },
    })
}

fn rates_json(rates: &Rates) -> Value {
    json!({"ns_per_packet": rounded(rates.ns_per_packet), "mpps": rounded(rates.mpps), "gbps": rounded(rates.gbps)})
}

fn options_json(settings: &Settings) -> Value {
    json!({
        "vnets": settings.vnets,
        "flows": settings.flows,
        "rules": settings.rules,
        "routes": settings.routes,
        "size": settings.size,
        "new_flows": settings.new_flows,
        "zipf": settings.zipf,
        "workers": settings.workers,
        "seconds": settings.seconds,
        "repeats": settings.repeats,
        "swaps": settings.swaps,
        "learned": settings.learned,
        "seed": settings.seed,
    })
}

fn calibration_json(calibration: &Calibration) -> Value {
    json!({
        "add_ns": rounded(calibration.add),
        "ghz": rounded(1.0 / calibration.add.max(1e-9)),
        "table_bytes": calibration.table,
        "dependent_line_ns": rounded(calibration.dependent_line),
        "independent_line_ns": rounded(calibration.independent_line),
        "huge_pages": calibration.huge_pages,
    })
}

/// A number of bytes as a person reads it.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A number with thousands apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The tables.
pub fn tables(profile: &str, settings: &Settings, report: &Report, style: Style) -> String {
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _ = write!(
        text,
        "{}\n{}",
        setup_table(profile, settings, report, style),
        run_table(settings, report, style)
    );
    text
}

fn setup_table(profile: &str, s: &Settings, report: &Report, style: Style) -> Table {
    let mut table = Table::new(style, &["", ""]);
    let mut row = |name: &str, text: String| table.row([name.to_owned(), text]);
    let zipf = if s.zipf == 0.0 { "uniform".to_owned() } else { format!("Zipf {}", s.zipf) };
    row("profile", profile.to_owned());
    row(
        "network",
        format!(
            "{} VNets, {} rules in each NSG, {} routes in each VNet",
            thousands(s.vnets.into()),
            s.rules,
            s.routes
        ),
    );
    row(
        "traffic",
        format!(
            "{} flow records asked for, {zipf}, inner packets of {} bytes, {} % open a flow, {} changes of {} per \
             second of measured time",
            thousands(s.flows.into()),
            s.size,
            s.new_flows,
            s.changes(),
            if s.learned > 0.0 { "learned routes" } else { "configuration" }
        ),
    );
    row(
        "frames",
        format!(
            "fresh in rings of {RING} buffers, {BUFFER} bytes apart; {BURST} go through the path together"
        ),
    );
    row(
        "setup",
        format!(
            "configuration {:.2} s, compiled in {:.2} s to {}; {} in memory, {} of it in huge pages, {} at most",
            report.build,
            report.compile,
            bytes(report.program),
            bytes(report.resident),
            bytes(report.huge),
            bytes(report.peak)
        ),
    );
    if let Some(changes) = Changes::of(report, s.size) {
        row("changes", changes.text());
    }
    let c = &report.calibration;
    row(
        "machine",
        format!(
            "{:.2} GHz (dependent add {:.3} ns); a random line of {} in {} pages: {:.1} ns, {:.1} ns when asked for ahead",
            1.0 / c.add.max(1e-9),
            c.add,
            bytes(c.table),
            if c.huge_pages { "huge" } else { "small" },
            c.dependent_line,
            c.independent_line
        ),
    );
    let checked: u64 = report.repeats.iter().chain(&report.still).flatten().map(|f| f.checked).sum();
    row(
        "checked",
        format!(
            "{} packets before the clock ran, {} while it ran (1 in {CHECKED}): all as they must be",
            thousands(report.checked_before),
            thousands(checked)
        ),
    );
    table
}

fn run_table(settings: &Settings, report: &Report, style: Style) -> Table {
    let heads = [
        "",
        ">ns_per_packet",
        ">median_burst",
        ">mpps",
        ">gbps",
        ">flows",
        ">bytes_per_flow",
        ">forward",
        ">drop",
        ">punt",
    ];
    let mut table = Table::new(style, &heads);
    let mut row = |name: String, rates: Rates, figures: &[Figures], last: &[Figures]| {
        let verdict = |kind: usize| thousands(sum(figures, |f| f.verdicts[kind]));
        table.row([
            name,
            format!("{:.2}", rates.ns_per_packet),
            format!("{:.2}", median(figures.iter().map(|f| f.median_burst))),
            format!("{:.2}", rates.mpps),
            format!("{:.2}", rates.gbps),
            thousands(sum(last, |f| f.flows)),
            format!("{:.0}", bytes_per_flow(last)),
            verdict(0),
            verdict(1),
            verdict(2),
        ]);
    };
    let all: Vec<Rates> = report.repeats.iter().map(|r| whole(r, settings.size)).collect();
    for (i, (repeat, rates)) in report.repeats.iter().zip(&all).enumerate() {
        row(format!("run {}", i + 1), *rates, repeat, repeat);
        if let Some(still) = report.still.get(i) {
            row(format!("run {}, no changes", i + 1), whole(still, settings.size), still, still);
        }
    }
    let of_all = |all: &[Rates], which: usize| Rates {
        ns_per_packet: spread(all, |r| r.ns_per_packet)[which],
        mpps: spread(all, |r| r.mpps)[which],
        gbps: spread(all, |r| r.gbps)[which],
    };
    let workers = report.repeats.first().map_or(0, Vec::len);
    for number in (0..workers).filter(|_| workers > 1) {
        let own: Vec<Figures> = report.repeats.iter().filter_map(|r| r.get(number)).copied().collect();
        let figures: Vec<Rates> = own.iter().map(|f| rates(f.packets, f.busy, settings.size)).collect();
        row(
            format!("worker {number}"),
            of_all(&figures, 0),
            &own,
            own.last().map_or(&[], std::slice::from_ref),
        );
    }
    let figures: Vec<Figures> = report.repeats.iter().flatten().copied().collect();
    row("median".to_owned(), of_all(&all, 0), &figures, report.repeats.last().map_or(&[], Vec::as_slice));
    if workers > 1 {
        let text = format!("{:.2}", hand_over(&figures));
        table.row(["hand-over".to_owned(), text]);
    }
    let [_, least, most] = spread(&all, |r| r.ns_per_packet);
    let [_, slow, fast] = spread(&all, |r| r.mpps);
    let [_, narrow, wide] = spread(&all, |r| r.gbps);
    table.row([
        "spread".to_owned(),
        format!("{least:.2}..{most:.2}"),
        String::new(),
        format!("{slow:.2}..{fast:.2}"),
        format!("{narrow:.2}..{wide:.2}"),
    ]);
    table
}
