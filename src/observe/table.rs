//! Tables of text: as wide as what is in them.

use std::fmt;

use super::Style;

/// Columns with a heading each, and rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    style: Style,
    indent: usize,
    heads: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; one that begins with `>` is of a column of numbers, which stand at its right side.
    pub fn new(style: Style, heads: &[&'static str]) -> Table {
        let right = heads.iter().map(|h| h.starts_with('>')).collect();
        let heads = heads.iter().map(|h| h.trim_start_matches('>')).collect();
        Table { style, indent: 0, heads, right, rows: Vec::new() }
    }

    /// The whole table stands this far from the left.
    pub fn indent(mut self, columns: usize) -> Table {
        self.indent = columns;
        self
    }

    /// Adds a row; a cell with several lines makes the row so high.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// True if it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heads.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                let widest = cell.lines().map(columns).max();
                *width = (*width).max(widest.unwrap_or(0));
            }
        }
        widths
    }

    fn line(&self, widths: &[usize], cells: &[&str]) -> String {
        let mut line = " ".repeat(self.indent);
        for ((cell, width), right) in cells.iter().zip(widths).zip(&self.right) {
            let blank = " ".repeat(width.saturating_sub(columns(cell)));
            if *right {
                line.push_str(&blank);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&blank);
            }
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The columns that a line takes: colours take none.
fn columns(line: &str) -> usize {
    let mut pieces = line.split("\x1b[");
    let plain = pieces.next().unwrap_or_default().chars().count();
    let behind = |piece: &str| piece.split_once('m').map_or(0, |(_, text)| text.chars().count());
    plain + pieces.map(behind).sum::<usize>()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        if self.heads.iter().any(|h| !h.is_empty()) {
            writeln!(f, "{}", self.style.strong(self.line(&widths, &self.heads)))?;
        }
        for row in &self.rows {
            let high = row.iter().map(|c| c.lines().count()).max().unwrap_or(1).max(1);
            for i in 0..high {
                let cells: Vec<&str> = row.iter().map(|c| c.lines().nth(i).unwrap_or("")).collect();
                writeln!(f, "{}", self.line(&widths, &cells))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(Style::PLAIN, &["PORT", ">IN", "WHY"]).indent(1);
        table.row(["fabric", "7", "a"]);
        table.row(["edge", "1234", "b\nc"]);
        let expected = " PORT      IN  WHY\n fabric     7  a\n edge    1234  b\n               c\n";
        assert_eq!(table.to_string(), expected);
        assert!(!table.is_empty());
    }

    #[test]
    fn colours_take_no_room() {
        let style = Style { on: true };
        let line = format!("a {} {}", style.bad("down"), style.good("smörgås"));
        assert_eq!([columns(&line), columns("plain"), columns("")], [14, 5, 0]);
    }
}
