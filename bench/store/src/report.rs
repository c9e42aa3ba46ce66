//! Tables of text: a heading, a name per row, figures to the right.

use std::fmt;

/// A table that is printed at once.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet; the first heading is that of the names.
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
        Table {
            head: head.into_iter().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// Missing cells are shown as a dash.
    pub(crate) fn row(&mut self, name: &str, cells: Vec<String>) {
        let cells = std::iter::once(name.to_owned()).chain(cells);
        let cells = cells.chain(std::iter::repeat("-".to_owned()));
        self.rows.push(cells.take(self.head.len()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                all()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (number, row) in all().enumerate() {
            write!(out, "{:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(out, "  {cell:>width$}")?;
            }
            writeln!(out)?;
            if number == 0 {
                let line = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
                writeln!(out, "{}", "-".repeat(line))?;
            }
        }
        Ok(())
    }
}

/// A number with three digits that count, and `k` or `M` behind it where it is large.
pub(crate) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 999_500.0 => (value / 1e6, "M"),
        middle if middle >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let all = [
            (1.0, "1.00"),
            (45.67, "45.7"),
            (999.6, "1.00k"),
            (50e6, "50.0M"),
            (523_456.0, "523k"),
        ];
        for (value, text) in all {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["engine", "a"]);
        table.row("x", vec!["12".into()]);
        table.row("longer name", vec![]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "engine        a",
                "---------------",
                "x            12",
                "longer name   -"
            ]
        );
    }
}
