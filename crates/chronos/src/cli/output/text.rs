//! How text takes up room on a terminal.
//!
//! Owns display width, truncation, and making text harmless: control characters that
//! arrive in data are shown as escapes, never sent to the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Marks where text was cut.
pub(crate) const ELLIPSIS: char = '…';
/// Columns a tab is shown as.
const TAB: &str = "    ";

/// `text` without anything a terminal would act on. Line feeds stay when `keep_lines`.
fn harmless(text: &str, keep_lines: bool) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !(keep_lines && c == '\n');
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => shown.push_str(TAB),
            '\r' => shown.push_str("\\r"),
            '\n' if !keep_lines => shown.push_str("\\n"),
            c if acts(c) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\x{:02X}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// `text` as it may be printed, its line feeds kept.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    harmless(text, true)
}

/// `text` as it may be printed on one line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    harmless(text, false)
}

/// Terminal columns that one line of printable text takes.
pub(crate) fn width(line: &str) -> usize {
    if line.is_ascii() {
        line.len()
    } else {
        line.width()
    }
}

/// Terminal columns of the widest line of printable text.
pub(crate) fn widest_line(text: &str) -> usize {
    text.split('\n').map(width).max().unwrap_or(0)
}

/// `line`, cut to at most `columns` with a mark at the cut.
pub(crate) fn fit(line: &str, columns: usize) -> Cow<'_, str> {
    if width(line) <= columns {
        return Cow::Borrowed(line);
    }
    let room = columns.saturating_sub(1);
    let mut used = 0;
    let mut end = 0;
    for (at, c) in line.char_indices() {
        let next = used + c.width().unwrap_or(0);
        if next > room {
            break;
        }
        used = next;
        end = at + c.len_utf8();
    }
    let mut cut = line[..end].to_owned();
    if columns > 0 {
        cut.push(ELLIPSIS);
    }
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_in_data_are_disarmed() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd\r"), "a\\x1B[2Jb    c\nd\\r");
        assert_eq!(printable("\u{9b}31m"), "\\x9B31m");
        assert_eq!(one_line("a\nb"), "a\\nb");
        assert!(matches!(printable("plain °C"), Cow::Borrowed(_)));
    }

    #[test]
    fn cutting_counts_columns_not_bytes() {
        assert_eq!(fit("温度計", 6), "温度計");
        assert_eq!(fit("温度計", 5), "温度…");
        assert_eq!(fit("温度計", 4), "温…");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcdef", 1), "…");
        assert_eq!(fit("abcdef", 0), "");
        assert_eq!(width(&fit("e\u{301}e\u{301}e\u{301}", 2)), 2);
        assert_eq!(widest_line("a\nbbb\ncc"), 3);
    }
}
