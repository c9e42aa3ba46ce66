//! Results as tables: aligned columns, or one record below the other.
//!
//! ```text
//!    device  │ temp            rows ─► measure ─► layout (widths) ─► lines
//! ```
//!
//! [`Rows`] holds cells as text in one allocation; [`layout`] decides the widths from
//! what was measured; the `write_*` functions print. The look is psql's, so that eyes
//! and scripts used to it find everything where it was.

use std::io::{self, Write};

use super::text::{fit, one_line, printable, widest_line, width};
use crate::cli::reply::{Column, Kind};

/// What a NULL looks like in a table.
pub(crate) const NULL: &str = "NULL";
/// A column of text is not squeezed below this, if it is wider by nature.
const TEXT_COLUMN_MIN: usize = 6;

/// Cells of several rows, back to back.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    text: String,
    ends: Vec<usize>,
    columns: usize,
}

impl Rows {
    /// No rows yet, of this many columns.
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// Adds a row, made printable.
    pub(crate) fn push(&mut self, cells: &[Option<&str>]) {
        for cell in cells {
            self.text.push_str(&printable(cell.unwrap_or(NULL)));
            self.ends.push(self.text.len());
        }
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Bytes of text held.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Forgets the rows, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// The rows in order, each as its cells.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Vec<&str>> {
        let mut start = 0;
        self.ends.chunks(self.columns.max(1)).map(move |ends| {
            ends.iter()
                .map(|&end| {
                    let cell = &self.text[start..end];
                    start = end;
                    cell
                })
                .collect()
        })
    }
}

/// Whether a table's columns may be cut to the room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Any width: a file, a pipe, or a plan nobody wants cut.
    Unlimited,
    /// This many terminal columns.
    Columns(usize),
}

/// A table's column widths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    widths: Vec<usize>,
    cut: bool,
}

/// Widths for `rows` under `columns`, or `None` when `room` is too narrow to be of use.
///
/// Numbers are never cut, as a cut number reads as another number. Other columns
/// share the rest: the widest give way first, all to the same width.
pub(crate) fn layout(columns: &[Column], rows: &Rows, room: Room) -> Option<Layout> {
    let headings: Vec<usize> = columns.iter().map(|c| width(&one_line(&c.name))).collect();
    let mut cells = vec![0usize; columns.len()];
    for row in rows.iter() {
        for (widest, cell) in cells.iter_mut().zip(row) {
            *widest = (*widest).max(widest_line(cell));
        }
    }
    let natural: Vec<usize> = headings
        .iter()
        .zip(&cells)
        .map(|(heading, cell)| (*heading).max(*cell).max(1))
        .collect();
    let Room::Columns(room) = room else {
        return Some(Layout {
            widths: natural,
            cut: false,
        });
    };
    // One blank on either side of a cell, and a bar between two cells.
    let available = room.saturating_sub(3 * columns.len().max(1) - 1);
    let floors: Vec<usize> = (0..columns.len())
        .map(|nth| match columns[nth].kind {
            Kind::Number => cells[nth].max(1),
            _ => natural[nth].min(TEXT_COLUMN_MIN),
        })
        .collect();
    let widths = share(&natural, &floors, available)?;
    Some(Layout { widths, cut: true })
}

/// The widths closest to `natural` that sum to at most `available`: every column is
/// capped at one common width, but none falls below its floor.
fn share(natural: &[usize], floors: &[usize], available: usize) -> Option<Vec<usize>> {
    let capped = |cap: usize| -> Vec<usize> {
        let pairs = natural.iter().zip(floors);
        pairs.map(|(n, floor)| (*n).min(cap).max(*floor)).collect()
    };
    let fits = |cap: usize| capped(cap).iter().sum::<usize>() <= available;
    let (mut low, mut high) = (0, natural.iter().copied().max().unwrap_or(0));
    if fits(high) {
        return Some(natural.to_vec());
    }
    if !fits(low) {
        return None;
    }
    // Invariant: `low` fits, `high` does not.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    // What the common cap leaves over goes to the first columns that still want it.
    let mut widths = capped(low);
    let mut left = available - widths.iter().sum::<usize>();
    for (width, natural) in widths.iter_mut().zip(natural) {
        let more = left.min(natural.saturating_sub(*width)).min(1);
        *width += more;
        left -= more;
    }
    Some(widths)
}

/// The heading and the line below it.
pub(crate) fn write_heading(
    out: &mut dyn Write,
    columns: &[Column],
    layout: &Layout,
) -> io::Result<()> {
    for (nth, (column, room)) in columns.iter().zip(&layout.widths).enumerate() {
        if nth > 0 {
            out.write_all(b"|")?;
        }
        let name = one_line(&column.name);
        let name = fit(&name, *room);
        let blank = room.saturating_sub(width(&name));
        let (left, right) = (blank / 2, blank - blank / 2);
        write!(out, " {:left$}{name}{:right$} ", "", "")?;
    }
    out.write_all(b"\n")?;
    for (nth, room) in layout.widths.iter().enumerate() {
        if nth > 0 {
            out.write_all(b"+")?;
        }
        write!(out, "{:-<1$}", "", room + 2)?;
    }
    out.write_all(b"\n")
}

/// One row. A cell of several lines continues below, marked by `+` as in psql.
pub(crate) fn write_row(
    out: &mut dyn Write,
    columns: &[Column],
    layout: &Layout,
    cells: &[&str],
) -> io::Result<()> {
    let mut parts: Vec<std::str::Split<'_, char>> =
        cells.iter().map(|cell| cell.split('\n')).collect();
    let mut current: Vec<Option<&str>> = parts.iter_mut().map(Iterator::next).collect();
    loop {
        let next: Vec<Option<&str>> = parts.iter_mut().map(Iterator::next).collect();
        for nth in 0..columns.len() {
            if nth > 0 {
                out.write_all(b"|")?;
            }
            let room = layout.widths[nth];
            let part = current[nth].unwrap_or("");
            let part = if layout.cut {
                fit(part, room)
            } else {
                part.into()
            };
            let blank = room.saturating_sub(width(&part));
            let end = if next[nth].is_some() { '+' } else { ' ' };
            let last = nth + 1 == columns.len();
            match columns[nth].kind {
                Kind::Number => write!(out, " {:blank$}{part}", "")?,
                // No blanks at the end of a line: they only wrap on narrow terminals.
                _ if last && end == ' ' => write!(out, " {part}")?,
                _ => write!(out, " {part}{:blank$}", "")?,
            }
            if !(last && end == ' ') {
                write!(out, "{end}")?;
            }
        }
        out.write_all(b"\n")?;
        if next.iter().all(Option::is_none) {
            return Ok(());
        }
        current = next;
    }
}

/// One record as `name | value` lines under a rule, as psql's `\x` prints it.
pub(crate) fn write_record(
    out: &mut dyn Write,
    columns: &[Column],
    number: u64,
    cells: &[&str],
) -> io::Result<()> {
    let names: Vec<_> = columns.iter().map(|c| one_line(&c.name)).collect();
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let rule = format!("-[ RECORD {number} ]");
    writeln!(out, "{rule:-<0$}", (widest + 2 + 20).max(rule.len()))?;
    for (name, cell) in names.iter().zip(cells) {
        let blank = widest - width(name);
        let mut lines = cell.split('\n');
        writeln!(out, "{name}{:blank$} | {}", "", lines.next().unwrap_or(""))?;
        for line in lines {
            writeln!(out, "{:widest$} | {line}", "")?;
        }
    }
    Ok(())
}

/// One record as `name = value` lines, names aligned right.
pub(crate) fn write_lines(
    out: &mut dyn Write,
    columns: &[Column],
    cells: &[Option<&str>],
) -> io::Result<()> {
    let names: Vec<_> = columns.iter().map(|c| one_line(&c.name)).collect();
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    for (name, cell) in names.iter().zip(cells) {
        let blank = widest - width(name);
        let cell = printable(cell.unwrap_or(NULL));
        let mut lines = cell.split('\n');
        writeln!(out, "{:blank$}{name} = {}", "", lines.next().unwrap_or(""))?;
        for line in lines {
            writeln!(out, "{:widest$}   {line}", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(spec: &[(&str, Kind)]) -> Vec<Column> {
        let column = |(name, kind): &(&str, Kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
        };
        spec.iter().map(column).collect()
    }

    fn render(columns: &[Column], data: &[&[Option<&str>]], room: Room) -> Option<String> {
        let mut rows = Rows::new(columns.len());
        data.iter().for_each(|row| rows.push(row));
        let layout = layout(columns, &rows, room)?;
        let mut out = Vec::new();
        write_heading(&mut out, columns, &layout).unwrap();
        for row in rows.iter() {
            write_row(&mut out, columns, &layout, &row).unwrap();
        }
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_table_looks_like_psql() {
        let columns = columns(&[("id", Kind::Number), ("name", Kind::Text)]);
        let data: &[&[Option<&str>]] = &[&[Some("1"), Some("水位")], &[Some("12"), None]];
        let expected = " id | name \n----+------\n  1 | 水位\n 12 | NULL\n";
        assert_eq!(render(&columns, data, Room::Unlimited).unwrap(), expected);
    }

    #[test]
    fn cells_of_several_lines_continue_below() {
        let columns = columns(&[("plan", Kind::Text), ("n", Kind::Number)]);
        let data: &[&[Option<&str>]] = &[&[Some("Sort\n  Scan"), Some("1")]];
        let expected = "  plan  | n \n--------+---\n Sort  +| 1\n   Scan |  \n";
        assert_eq!(render(&columns, data, Room::Unlimited).unwrap(), expected);
    }

    #[test]
    fn the_widest_text_gives_way_and_numbers_never() {
        let columns = columns(&[("n", Kind::Number), ("a", Kind::Text), ("b", Kind::Text)]);
        let long = "x".repeat(100);
        let data: &[&[Option<&str>]] = &[&[Some("1234567890"), Some("short one"), Some(&long)]];
        let text = render(&columns, data, Room::Columns(40)).unwrap();
        assert!(text.lines().all(|line| width(line) <= 40), "{text}");
        assert!(
            text.contains("1234567890") && text.contains("short one"),
            "{text}"
        );
        assert!(text.contains('…'), "{text}");
        assert_eq!(render(&columns, data, Room::Columns(20)), None);
    }

    #[test]
    fn a_record_is_listed_by_name() {
        let columns = columns(&[("device_id", Kind::Text), ("v", Kind::Number)]);
        let mut out = Vec::new();
        write_record(&mut out, &columns, 1, &["probe-1", "2.5"]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "-[ RECORD 1 ]------------------\ndevice_id | probe-1\nv         | 2.5\n"
        );
        let mut out = Vec::new();
        write_lines(&mut out, &columns, &[Some("probe-1"), None]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "device_id = probe-1\n        v = NULL\n");
    }

    proptest! {
        #[test]
        fn shares_are_within_bounds(
            natural in proptest::collection::vec(1usize..80, 1..12),
            available in 0usize..300,
        ) {
            let floors: Vec<usize> = natural.iter().map(|n| (*n).min(TEXT_COLUMN_MIN)).collect();
            match share(&natural, &floors, available) {
                None => prop_assert!(floors.iter().sum::<usize>() > available),
                Some(widths) => {
                    let total: usize = widths.iter().sum();
                    prop_assert!(total <= available);
                    for nth in 0..natural.len() {
                        prop_assert!((floors[nth]..=natural[nth]).contains(&widths[nth]));
                    }
                    // Nothing is cut while there is room left.
                    prop_assert!(total == available || widths == natural);
                }
            }
        }

        #[test]
        fn any_text_stays_within_the_terminal(
            cells in proptest::collection::vec(any::<String>(), 3),
            room in 30usize..120,
        ) {
            let columns = columns(&[("a", Kind::Text), ("b", Kind::Text), ("c", Kind::Json)]);
            let row: Vec<Option<&str>> = cells.iter().map(|cell| Some(cell.as_str())).collect();
            let text = render(&columns, &[&row], Room::Columns(room)).unwrap();
            for line in text.lines() {
                prop_assert!(width(line) <= room, "{line:?} in {room}");
            }
        }
    }
}
