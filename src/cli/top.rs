//! `top`: rates of a running appliance, on the whole terminal or as a page of text.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::args::TopArgs;
use super::rates::{Rates, Section};
use super::running::astray;
use super::terminal::Terminal;
use super::{Exit, Refused};
use crate::live::control::{self, Reply, Request};
use crate::live::report::Counters;
use crate::observe::{self, json};

/// Blank columns between the left and the right.
const GAP: u16 = 3;

/// How far readings lie apart.
const EVERY: Duration = Duration::from_secs(1);

/// How long a reading is waited for: no key is heard meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows rates until the user has seen enough, or once.
pub fn run(args: &TopArgs, terminal: &mut Terminal) -> Result<Exit, Refused> {
    let path = args.at.path();
    let first = read(&path)?;
    if !args.at.json && !args.once && io::stdout().is_terminal() {
        let coloured = terminal.style.on;
        let mut screen = ratatui::try_init().map_err(|e| format!("the terminal cannot be used: {e}"))?;
        let ended = watch(&path, first, coloured, &mut screen);
        ratatui::restore();
        ended.map_err(|e| format!("the terminal cannot be used: {e}"))?;
        return Ok(Exit::Done);
    }
    thread::sleep(EVERY);
    let rates = Rates::between(&first, &read(&path)?);
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

/// A page a second until the user ends it. An appliance that is gone may come back.
fn watch(path: &Path, first: Counters, coloured: bool, screen: &mut DefaultTerminal) -> io::Result<()> {
    let mut earlier = first;
    let mut rates = Rates::between(&earlier, &earlier);
    let mut trouble = "measuring".to_owned();
    let mut next = Instant::now() + EVERY;
    loop {
        screen.draw(|frame| draw(frame, &rates, &trouble, coloured))?;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
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
        next = Instant::now() + EVERY;
        match read(path) {
            Ok(now) => {
                rates = Rates::between(&earlier, &now);
                earlier = now;
                trouble.clear();
            }
            Err(Refused(sentences)) => trouble = sentences.join("; "),
        }
    }
}

/// A page: on the left what is counted of all packets, on the right ports and who has most packets; below each other where
/// there is no room.
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
    let mut right: Vec<_> = sections.collect();
    // Workers are for those who look for them: on the left, below.
    let workers = right.pop();
    let left: Vec<_> = left.into_iter().chain(workers).collect();
    if width(&left) + GAP + width(&right) > body.width {
        let all: Vec<_> = left.into_iter().chain(right).collect();
        return column(frame, body, &all);
    }
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
    use crate::live::report::{Port, Vnet};

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
        Rates::between(&reading(1.0, 0), &reading(2.0, 1234))
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
        let narrow = drawn(60, 24, "");
        assert!(narrow.iter().any(|l| l.starts_with("PORT    DEVICE")), "{narrow:#?}");
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (300, 2)] {
            drawn(width, height, "no clearway is running here");
        }
        assert_eq!(drawn(60, 10, "gone")[9], "gone");
    }
}
