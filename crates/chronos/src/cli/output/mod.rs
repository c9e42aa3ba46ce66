//! Results on their way out: from events to text, in one of four formats.
//!
//! CSV, JSON and line formats print each row as it comes. A table needs widths first:
//! it holds back rows up to [`TABLE_ROWS_MAX`] or [`TABLE_BYTES_MAX`], decides the
//! widths from them, and prints what follows with the same widths. So no result,
//! however large, is held whole.

mod delimited;
mod table;
mod text;

use std::io::{self, BufWriter, IsTerminal, Write};

use super::args::Format;
use super::error::tell;
use super::reply::{Column, Event, SqlError};
use table::{Layout, Room, Rows};
pub(crate) use text::{one_line, width};

/// Rows a table measures before it decides its widths.
const TABLE_ROWS_MAX: usize = 5_000;
/// Bytes of text a table measures before it decides its widths.
const TABLE_BYTES_MAX: usize = 8 << 20;
/// Width of a terminal that does not tell.
const TERMINAL_WIDTH_DEFAULT: usize = 80;

/// Whether records are printed one below the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Expanded {
    /// Only when not even a squeezed table would fit.
    #[default]
    WhenTooWide,
    /// Always.
    Always,
}

/// How the width of a table is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// By nothing: the output is a file or a pipe.
    None,
    /// By the terminal, asked anew for every result.
    Terminal,
    /// By a fixed number of columns.
    #[cfg(test)]
    Columns(usize),
}

/// What the current result is doing.
enum State {
    /// No result is open.
    Between,
    /// A table that still measures.
    Measuring { columns: Vec<Column>, rows: Rows },
    /// A table whose heading is printed.
    Table {
        columns: Vec<Column>,
        rows: Rows,
        layout: Layout,
    },
    /// Records below each other.
    Records { columns: Vec<Column>, rows: Rows },
    /// The data of COPY .. TO STDOUT, to which nothing may be added.
    Copying,
    /// Rows that are printed at once.
    Streaming {
        columns: Vec<Column>,
        json_names: Vec<String>,
    },
}

/// Prints results.
pub(crate) struct Printer {
    out: Box<dyn Write>,
    bound: Bound,
    format: Format,
    expanded: Expanded,
    whole_lines: bool,
    state: State,
    rows: u64,
    printed_line_record: bool,
}

impl Printer {
    /// Prints to stdout; tables fit the terminal if it is one.
    pub(crate) fn stdout(format: Format) -> Self {
        let bound = if io::stdout().is_terminal() {
            Bound::Terminal
        } else {
            Bound::None
        };
        Self::new(Box::new(BufWriter::new(io::stdout())), bound, format)
    }

    fn new(out: Box<dyn Write>, bound: Bound, format: Format) -> Self {
        Self {
            out,
            bound,
            format,
            expanded: Expanded::default(),
            whole_lines: false,
            state: State::Between,
            rows: 0,
            printed_line_record: false,
        }
    }

    /// Sends what follows to `file`, or back to stdout.
    pub(crate) fn redirect(&mut self, file: Option<Box<dyn Write>>) -> io::Result<()> {
        self.out.flush()?;
        let format = self.format;
        let expanded = self.expanded;
        *self = match file {
            Some(file) => Self::new(file, Bound::None, format),
            None => Self::stdout(format),
        };
        self.expanded = expanded;
        Ok(())
    }

    /// The current format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Changes the format of the next result.
    pub(crate) fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Whether records are printed below each other.
    pub(crate) fn expanded(&self) -> Expanded {
        self.expanded
    }

    /// Changes how the next result is laid out.
    pub(crate) fn set_expanded(&mut self, expanded: Expanded) {
        self.expanded = expanded;
    }

    /// Whether the next result's lines may be cut; a query plan's must not be.
    pub(crate) fn keep_lines_whole(&mut self, whole: bool) {
        self.whole_lines = whole;
    }

    /// Prints a line of its own, for people; nothing where a program reads.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Line => writeln!(self.out, "{line}"),
            Format::Csv | Format::Json => Ok(()),
        }
    }

    /// Prints text as it is, in any format.
    pub(crate) fn raw(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Hands everything over to the operating system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Drops a result that an error broke off, after what was printed of it.
    pub(crate) fn abandon(&mut self) -> io::Result<()> {
        self.state = State::Between;
        self.out.flush()
    }

    /// Takes in one event.
    pub(crate) fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Columns(columns) => self.begin(columns),
            Event::Row(cells) => self.row(cells),
            Event::Complete(tag) => self.complete(tag),
            Event::CopyOut(data) => {
                self.state = State::Copying;
                self.out.write_all(data)
            }
            Event::Notice(notice) => {
                self.out.flush()?;
                report_notice(notice);
                Ok(())
            }
        }
    }

    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.rows = 0;
        self.printed_line_record = false;
        let columns = columns.to_vec();
        let rows = Rows::new(columns.len());
        self.state = match self.format {
            Format::Table if self.expanded == Expanded::Always => State::Records { columns, rows },
            Format::Table => State::Measuring { columns, rows },
            Format::Csv => {
                let names = columns.iter().map(|c| Some(c.name.as_str()));
                delimited::write_csv_record(&mut *self.out, names)?;
                State::Streaming {
                    columns,
                    json_names: Vec::new(),
                }
            }
            Format::Json => State::Streaming {
                json_names: delimited::json_names(&columns),
                columns,
            },
            Format::Line => State::Streaming {
                columns,
                json_names: Vec::new(),
            },
        };
        Ok(())
    }

    fn row(&mut self, cells: &[Option<&str>]) -> io::Result<()> {
        self.rows += 1;
        match &mut self.state {
            State::Between | State::Copying => {
                Err(io::Error::other("a row came before its columns"))
            }
            State::Measuring { rows, .. } => {
                rows.push(cells);
                if rows.len() >= TABLE_ROWS_MAX || rows.bytes() >= TABLE_BYTES_MAX {
                    self.decide_layout()?;
                }
                Ok(())
            }
            State::Table {
                columns,
                rows,
                layout,
            } => {
                rows.clear();
                rows.push(cells);
                let mut all = rows.iter();
                all.try_for_each(|row| table::write_row(&mut *self.out, columns, layout, &row))
            }
            State::Records { columns, rows } => {
                rows.clear();
                rows.push(cells);
                let number = self.rows;
                let mut all = rows.iter();
                all.try_for_each(|row| table::write_record(&mut *self.out, columns, number, &row))
            }
            State::Streaming {
                columns,
                json_names,
            } => match self.format {
                Format::Csv => delimited::write_csv_record(&mut *self.out, cells.iter().copied()),
                Format::Json => {
                    delimited::write_json_row(&mut *self.out, json_names, columns, cells)
                }
                Format::Line | Format::Table => {
                    if self.printed_line_record {
                        self.out.write_all(b"\n")?;
                    }
                    self.printed_line_record = true;
                    table::write_lines(&mut *self.out, columns, cells)
                }
            },
        }
    }

    /// Ends measuring: prints the heading and the rows held back.
    fn decide_layout(&mut self) -> io::Result<()> {
        let (columns, rows) = match std::mem::replace(&mut self.state, State::Between) {
            State::Measuring { columns, rows } => (columns, rows),
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let Some(layout) = table::layout(&columns, &rows, self.room()) else {
            for (number, row) in (1..).zip(rows.iter()) {
                table::write_record(&mut *self.out, &columns, number, &row)?;
            }
            self.state = State::Records { columns, rows };
            return Ok(());
        };
        table::write_heading(&mut *self.out, &columns, &layout)?;
        for row in rows.iter() {
            table::write_row(&mut *self.out, &columns, &layout, &row)?;
        }
        self.state = State::Table {
            columns,
            rows,
            layout,
        };
        Ok(())
    }

    fn complete(&mut self, tag: &str) -> io::Result<()> {
        self.decide_layout()?;
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => self.say(&one_line(tag))?,
            State::Table { .. } | State::Records { .. } | State::Measuring { .. } => {
                let plural = if self.rows == 1 { "" } else { "s" };
                writeln!(self.out, "({} row{plural})", self.rows)?;
                if !tag.starts_with("SELECT") && is_change(tag) {
                    self.say(&one_line(tag))?;
                }
            }
            State::Streaming { .. } | State::Copying => {}
        }
        self.out.flush()
    }

    fn room(&self) -> Room {
        match self.bound {
            _ if self.whole_lines => Room::Unlimited,
            Bound::None => Room::Unlimited,
            Bound::Terminal => Room::Columns(terminal_width()),
            #[cfg(test)]
            Bound::Columns(columns) => Room::Columns(columns),
        }
    }
}

/// Whether a tag speaks of rows that were changed, which a RETURNING result does not show.
fn is_change(tag: &str) -> bool {
    ["INSERT", "UPDATE", "DELETE", "MERGE"]
        .iter()
        .any(|verb| tag.starts_with(verb))
}

/// Columns of the terminal on stdout.
pub(crate) fn terminal_width() -> usize {
    terminal_size::terminal_size()
        .map(|(width, _)| usize::from(width.0))
        .filter(|width| *width > 0)
        .unwrap_or(TERMINAL_WIDTH_DEFAULT)
}

fn report_notice(notice: &SqlError) {
    let severity = if notice.severity.is_empty() {
        "NOTICE"
    } else {
        &notice.severity
    };
    tell(&format!("{severity}:  {}", one_line(&notice.message)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::reply::Kind;
    use std::sync::{Arc, Mutex};

    /// A writer whose text a test can read afterwards.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn print(format: Format, bound: Bound, events: &[Event<'_>]) -> String {
        let captured = Captured::default();
        let mut printer = Printer::new(Box::new(captured.clone()), bound, format);
        for event in events {
            let copy = match event {
                Event::Columns(columns) => Event::Columns(columns),
                Event::Row(cells) => Event::Row(cells),
                Event::Complete(tag) => Event::Complete(tag),
                Event::Notice(notice) => Event::Notice(notice),
                Event::CopyOut(data) => Event::CopyOut(data),
            };
            printer.event(copy).unwrap();
        }
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn columns() -> Vec<Column> {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        vec![column("n", Kind::Number), column("t", Kind::Text)]
    }

    #[test]
    fn every_format_prints_a_result() {
        let columns = columns();
        let events = [
            Event::Columns(&columns),
            Event::Row(&[Some("1"), Some("a b")]),
            Event::Row(&[Some("2"), None]),
            Event::Complete("SELECT 2"),
        ];
        let table = print(Format::Table, Bound::None, &events);
        assert_eq!(
            table,
            " n |  t   \n---+------\n 1 | a b\n 2 | NULL\n(2 rows)\n"
        );
        assert_eq!(print(Format::Csv, Bound::None, &events), "n,t\n1,a b\n2,\n");
        let json = print(Format::Json, Bound::None, &events);
        assert_eq!(json, "{\"n\":1,\"t\":\"a b\"}\n{\"n\":2,\"t\":null}\n");
        let line = print(Format::Line, Bound::None, &events);
        assert_eq!(line, "n = 1\nt = a b\n\nn = 2\nt = NULL\n");
    }

    #[test]
    fn tags_are_for_people_only() {
        let events = [Event::Complete("CREATE TABLE")];
        assert_eq!(print(Format::Table, Bound::None, &events), "CREATE TABLE\n");
        assert_eq!(print(Format::Json, Bound::None, &events), "");
        assert_eq!(print(Format::Csv, Bound::None, &events), "");
        let copy = [Event::CopyOut(b"1\t2\n"), Event::Complete("COPY 1")];
        assert_eq!(print(Format::Table, Bound::None, &copy), "1\t2\n");
    }

    #[test]
    fn rows_beyond_the_measured_ones_stream_with_the_same_widths() {
        let columns = columns();
        let mut events = vec![Event::Columns(&columns)];
        let total = TABLE_ROWS_MAX + 2;
        for _ in 0..total {
            events.push(Event::Row(&[Some("7"), Some("x")]));
        }
        events.push(Event::Complete("SELECT"));
        let text = print(Format::Table, Bound::None, &events);
        assert_eq!(text.matches(" 7 | x\n").count(), total);
        assert!(text.ends_with(&format!("({total} rows)\n")));
    }

    #[test]
    fn a_table_that_cannot_fit_becomes_records() {
        let columns: Vec<Column> = (0..20)
            .map(|nth| Column {
                name: format!("column_{nth}"),
                kind: Kind::Number,
            })
            .collect();
        let cells = [Some("123456"); 20];
        let events = [
            Event::Columns(&columns),
            Event::Row(&cells),
            Event::Complete("SELECT 1"),
        ];
        let text = print(Format::Table, Bound::Columns(60), &events);
        assert!(text.starts_with("-[ RECORD 1 ]"), "{text}");
        assert!(text.ends_with("(1 row)\n"), "{text}");
    }
}
