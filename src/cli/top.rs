//! `top`: rates of a running appliance, on the whole terminal or as a page of text.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::args::TopArgs;
use super::circuits;
use super::rates::{Rates, Section};
use super::running::astray;
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::live::control::{self, Reply, Request};
use crate::live::report::{Circuits, Counters, TopFlows};
use crate::observe::{self, json};

/// Blank columns between the left and the right.
const GAP: u16 = 3;

/// How far readings lie apart.
const EVERY: Duration = Duration::from_secs(1);

/// How long a reading is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether there is a new page, while keys are waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Shows rates until the user has seen enough, or once.
pub fn run(args: &TopArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let path = args.at.path();
    let first = read(&path)?;
    if !args.at.json && !args.once && io::stdout().is_terminal() {
        let coloured = terminal.style.on;
        let mut screen = ratatui::try_init().map_err(|e| format!("the terminal cannot be used: {e}"))?;
        let ended = watch(path, first, coloured, &mut screen);
        ratatui::restore();
        ended.map_err(|e| format!("the terminal cannot be used: {e}"))?;
        return Ok(Exit::Done);
    }
    let Reading { counters, flows, circuits } = next(&path)?;
    let rates = Rates::between(&first, &counters, flows, &circuits);
    if args.at.json {
        terminal.line(json::document(&rates));
        return Ok(Exit::Done);
    }
    terminal.line(rates.title());
    for Section { heads, rows } in rates.sections().into_iter().filter(|s| !s.rows.is_empty()) {
        let mut table = observe::Table::new(terminal.style, heads);
        rows.into_iter().for_each(|row| table.row(row));
        terminal.line("");
        terminal.print(table);
    }
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<Counters, Refused> {
    match control::ask_within(path, &Request::Counters, PATIENCE)? {
        Reply::Counters(counters) => Ok(*counters),
        _ => Err(astray()),
    }
}

/// What is read each second.
struct Reading {
    counters: Counters,
    /// The flows since the one before.
    flows: TopFlows,
    circuits: Circuits,
}

/// The reading a second later.
fn next(path: &Path) -> Result<Reading, Refused> {
    let began = Instant::now();
    let request = Request::TopFlows { seconds: EVERY.as_secs_f64() };
    let Reply::TopFlows(flows) = control::ask_within(path, &request, PATIENCE)? else { return Err(astray()) };
    let circuits = circuits::read(path, None, None)?;
    thread::sleep(EVERY.saturating_sub(began.elapsed()));
    Ok(Reading { counters: read(path)?, flows, circuits })
}

/// Readings as they come, in a thread of their own: whatever the appliance does, keys are heard.
fn readings(path: PathBuf) -> Receiver<Result<Reading, Refused>> {
    let (send, receive) = sync_channel(1);
    thread::spawn(move || {
        loop {
            let reading = next(&path);
            let failed = reading.is_err();
            if send.send(reading).is_err() {
                return;
            }
            if failed {
                thread::sleep(EVERY);
            }
        }
    });
    receive
}

/// A page a second until the user ends it. An appliance that is gone may come back.
fn watch(path: PathBuf, first: Counters, coloured: bool, screen: &mut DefaultTerminal) -> io::Result<()> {
    let readings = readings(path);
    let mut rates = Rates::between(&first, &first, TopFlows::default(), &Circuits::default());
    let mut earlier = first;
    let mut trouble = "measuring".to_owned();
    loop {
        screen.draw(|frame| draw(frame, &rates, &trouble, coloured))?;
        let reading = loop {
            if event::poll(LOOK)? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let interrupt =
                            key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                        if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                            return Ok(());
                        }
                    }
                    Event::Resize(..) => {
                        screen.draw(|frame| draw(frame, &rates, &trouble, coloured))?;
                    }
                    _ => {}
                }
            }
            match readings.try_recv() {
                Ok(reading) => break reading,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(io::Error::other("nobody reads any more")),
            }
        };
        match reading {
            Ok(Reading { counters, flows, circuits }) => {
                rates = Rates::between(&earlier, &counters, flows, &circuits);
                earlier = counters;
                trouble.clear();
            }
            Err(Refused(sentences)) => trouble = sentences.join("; "),
        }
    }
}

/// A page: on the left what is counted of all packets, on the right ports and who has most packets, and below the flows
/// that carry most; all below each other where there is no room.
fn draw(frame: &mut Frame<'_>, rates: &Rates, trouble: &str, coloured: bool) {
    let strong = Style::new().bold();
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(Line::styled(rates.title(), strong)), top);
    let alarm = if coloured { Style::new().red().bold() } else { strong };
    let foot = if trouble.is_empty() { Line::raw("q ends") } else { Line::styled(trouble, alarm) };
    frame.render_widget(Paragraph::new(foot), bottom);
    let mut sections = rates.sections().into_iter();
    let left: Vec<_> = sections.by_ref().take(2).collect();
    let ports: Vec<_> = sections.by_ref().take(1).collect();
    let mut flows: Vec<_> = sections.by_ref().take(1).collect();
    let mut right: Vec<_> = ports.into_iter().chain(sections).collect();
    // Workers are for those who look for them: on the left, below.
    let workers = right.pop();
    let left: Vec<_> = left.into_iter().chain(workers).collect();
    if width(&left) + GAP + width(&right) > body.width {
        right.splice(1..1, flows);
        let all: Vec<_> = left.into_iter().chain(right).collect();
        return column(frame, body, &all);
    }
    // A third of the page at most, so that there is room for the others.
    let most = usize::from(body.height / 3);
    flows.iter_mut().for_each(|s| s.rows.truncate(most.saturating_sub(1)));
    let high = flows.iter().filter(|s| !s.rows.is_empty()).map(|s| s.rows.len() as u16 + 1).sum();
    let [body, flows_area] = Layout::vertical([Constraint::Min(0), Constraint::Length(high)]).areas(body);
    column(frame, flows_area, &flows);
    let [left_area, _, right_area] =
        Layout::horizontal([Constraint::Length(width(&left)), Constraint::Length(GAP), Constraint::Min(0)])
            .areas(body);
    column(frame, left_area, &left);
    column(frame, right_area, &right);
}

/// Tables below each other.
fn column(frame: &mut Frame<'_>, area: Rect, sections: &[Section]) {
    let mut top = area.y;
    for section in sections.iter().filter(|s| !s.rows.is_empty()) {
        let left = area.bottom().saturating_sub(top);
        let high = (section.rows.len() as u16 + 1).min(left);
        if high < 2 {
            return;
        }
        let place = Rect { y: top, height: high, ..area };
        frame.render_widget(table(section), place);
        top = top.saturating_add(high + 1);
    }
}

fn table(section: &Section) -> Table<'_> {
    let right = |n: usize| section.heads.get(n).is_some_and(|h| h.starts_with('>'));
    let cell = |n: usize, text: &str| {
        let alignment = if right(n) { Alignment::Right } else { Alignment::Left };
        Line::raw(text.trim_start_matches('>').to_owned()).alignment(alignment)
    };
    let line = |cells: Vec<&str>| {
        Row::new(cells.into_iter().enumerate().map(|(n, c)| cell(n, c)).collect::<Vec<_>>())
    };
    let rows = section.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    let head = line(section.heads.to_vec()).style(Style::new().bold());
    Table::new(rows, widths(section)).header(head).column_spacing(2)
}

fn widths(section: &Section) -> Vec<u16> {
    let long = |text: &str| text.trim_start_matches('>').chars().count() as u16;
    let of = |(n, head): (usize, &&str)| {
        let cells = section.rows.iter().filter_map(|row| row.get(n)).map(|c| long(c));
        cells.max().unwrap_or(0).max(long(head))
    };
    section.heads.iter().enumerate().map(of).collect()
}

/// As wide as the widest of these tables.
fn width(sections: &[Section]) -> u16 {
    let of = |s: &Section| widths(s).iter().map(|w| w + 2).sum::<u16>().saturating_sub(2);
    sections.iter().map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::live::report::{Port, TopFlow, Vnet};

    fn rates() -> Rates {
        let reading = |uptime: f64, n: u64| Counters {
            version: "0.1.0".into(),
            configuration: "config.yaml".into(),
            uptime_seconds: uptime,
            ready: true,
            packets: n,
            forwarded: n,
            dropped: [("nsg-deny".to_owned(), 7)].into(),
            ports: vec![Port { name: "fabric".into(), configured: true, ..Port::default() }],
            virtual_networks: vec![Vnet {
                customer: "contoso".into(),
                vnet: "hub".into(),
                forwarded: n,
                ..Vnet::default()
            }],
            ..Counters::default()
        };
        let flow = |n: u8| TopFlow {
            customer: "contoso".into(),
            protocol: 17,
            source_address: [10, 1, 0, n].into(),
            source_port: 50_000,
            destination_address: [10, 1, 0, 200].into(),
            destination_port: 443,
            packets_per_second: 100.0,
            bits_per_second: 1e6,
            verdict: "forward".into(),
            reason: None,
        };
        let flows = TopFlows { flows: (1..=20).map(flow).collect(), ..TopFlows::default() };
        Rates::between(&reading(1.0, 0), &reading(2.0, 1234), flows, &Circuits::default())
    }

    fn drawn(width: u16, height: u16, trouble: &str) -> Vec<String> {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &rates(), trouble, true)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    #[test]
    fn a_page() {
        let page = drawn(110, 24, "");
        assert_eq!(page[0], "clearway 0.1.0: config.yaml, generation 0, up 2.0 s");
        assert!(
            page[2].trim_start().starts_with("PER SECOND") && page[2].contains("PORT    DEVICE"),
            "{page:#?}"
        );
        assert!(page.iter().any(|l| l.starts_with("packets") && l.contains("1.23 k")), "{page:#?}");
        assert!(page.iter().any(|l| l.starts_with("nsg-deny")), "{page:#?}");
        assert!(page.iter().any(|l| l.ends_with("contoso   hub      1.23 k        0       0")), "{page:#?}");
        assert_eq!(page[23], "q ends");
        let first = page.iter().position(|l| l.starts_with("FLOWS  FROM ")).unwrap();
        assert!(page[first + 1].starts_with("UDP    10.1.0.1:50000  10.1.0.200:443 "), "{page:#?}");
        assert!(page[22].starts_with("UDP ") && page[22].ends_with(" contoso   forward"), "{page:#?}");
        let narrow = drawn(60, 24, "");
        assert!(narrow.iter().any(|l| l.starts_with("PORT    DEVICE")), "{narrow:#?}");
        assert!(narrow.iter().any(|l| l.starts_with("FLOWS  FROM ")), "{narrow:#?}");
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 2)] {
            drawn(width, height, "no clearway is running here");
        }
        assert_eq!(drawn(60, 10, "gone")[9], "gone");
    }
}
