//! Lines of COPY's text and CSV formats: where one ends, and its fields.
//!
//! A line may come in any number of pieces, so the search for its end remembers
//! how far it is within quotes and escapes.

use memchr::{memchr, memchr2};

use super::copy_error::{CopyError, Fault};
use super::copy_fields::Rows;

/// The search for the end of a line.
pub(super) struct LineEnds {
    quoting: Option<Quoting>,
    /// In text: the bytes so far end with an odd number of backslashes. In CSV:
    /// they end with an escape within quotes.
    after_escape: bool,
    in_quotes: bool,
}

/// CSV's special bytes.
#[derive(Clone, Copy)]
pub(super) struct Quoting {
    pub(super) quote: u8,
    pub(super) escape: u8,
}

impl LineEnds {
    /// `quoting` is `None` for the text format.
    pub(super) fn new(quoting: Option<Quoting>) -> LineEnds {
        LineEnds {
            quoting,
            after_escape: false,
            in_quotes: false,
        }
    }

    /// Whether the pieces so far end within quotes.
    pub(super) fn is_in_quotes(&self) -> bool {
        self.in_quotes
    }

    /// Where in the next piece of a line its newline is. `None`: in a later one.
    #[inline]
    pub(super) fn find(&mut self, piece: &[u8]) -> Option<usize> {
        match self.quoting {
            None => self.find_unescaped(piece),
            Some(quoting) => self.find_unquoted(piece, quoting),
        }
    }

    fn find_unescaped(&mut self, piece: &[u8]) -> Option<usize> {
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &piece[start..]) {
            let end = start + length;
            if !self.ends_with_escape(&piece[..end]) {
                self.after_escape = false;
                return Some(end);
            }
            start = end + 1;
        }
        self.after_escape = self.ends_with_escape(piece);
        None
    }

    fn ends_with_escape(&self, piece: &[u8]) -> bool {
        let backslashes = piece.iter().rev().take_while(|b| **b == b'\\').count();
        let carried = backslashes == piece.len() && self.after_escape;
        (backslashes + usize::from(carried)) % 2 == 1
    }

    fn find_unquoted(&mut self, piece: &[u8], quoting: Quoting) -> Option<usize> {
        let Quoting { quote, escape } = quoting;
        let mut at = 0;
        if self.after_escape && !piece.is_empty() {
            self.after_escape = false;
            at = 1;
        }
        loop {
            let rest = &piece[at..];
            let special = match self.in_quotes {
                true => memchr2(quote, escape, rest)?,
                false => memchr2(quote, b'\n', rest)?,
            };
            at += special + 1;
            match rest[special] {
                byte if byte == quote => self.in_quotes = !self.in_quotes,
                _ if !self.in_quotes => return Some(at - 1),
                // An escape hides the byte after it.
                _ if at == piece.len() => {
                    self.after_escape = true;
                    return None;
                }
                _ => at += 1,
            }
        }
    }
}

/// How fields stand in a line.
pub(super) struct Fields {
    pub(super) delimiter: u8,
    pub(super) null: Vec<u8>,
    pub(super) quoting: Option<Quoting>,
    /// A field without its escapes.
    scratch: Vec<u8>,
}

impl Fields {
    pub(super) fn new(delimiter: u8, null: &str, quoting: Option<Quoting>) -> Fields {
        Fields {
            delimiter,
            null: null.as_bytes().to_vec(),
            quoting,
            scratch: Vec::new(),
        }
    }

    /// Appends the fields of a line to a row.
    #[inline]
    pub(super) fn split(
        &mut self,
        line: &[u8],
        line_number: u64,
        rows: &mut Rows,
    ) -> Result<(), CopyError> {
        let special = self.quoting.map_or(b'\\', |q| q.quote);
        let is_plain = memchr(special, line).is_none();
        let mut rest = Some(line);
        for column in 0..rows.width() {
            let Some(text) = rest else {
                let name = rows.column_name(column);
                let fault = Fault::layout(format!("missing data for column \"{name}\""));
                return Err(rows.line_error(fault, line_number, line));
            };
            let (raw_length, is_quoted) = match self.quoting {
                _ if is_plain => (memchr(self.delimiter, text).unwrap_or(text.len()), false),
                None => self.unescape(text),
                Some(quoting) => self.unquote(text, quoting),
            };
            let raw = &text[..raw_length];
            rest = text.get(raw_length + 1..);
            if !is_quoted && raw == self.null {
                rows.null(column);
                continue;
            }
            let field = if is_plain { raw } else { &self.scratch };
            rows.text(column, field, line_number)?;
        }
        match rest {
            Some(rest) if rows.width() > 0 || !rest.is_empty() => {
                let fault = Fault::layout("extra data after last expected column");
                Err(rows.line_error(fault, line_number, line))
            }
            _ => Ok(()),
        }
    }

    /// Puts the first field of `text` without its backslashes into `scratch`;
    /// gives its length with them.
    fn unescape(&mut self, text: &[u8]) -> (usize, bool) {
        self.scratch.clear();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let plain = memchr2(self.delimiter, b'\\', rest).unwrap_or(rest.len());
            self.scratch.extend_from_slice(&rest[..plain]);
            at += plain;
            match text.get(at..) {
                Some([b'\\', tail @ ..]) => {
                    let (byte, taken) = escaped(tail);
                    self.scratch.push(byte);
                    at += 1 + taken;
                }
                _ => return (at, false),
            }
        }
    }

    /// Puts the first field of `text` without its quotes into `scratch`; gives
    /// its length with them, and whether it had any.
    fn unquote(&mut self, text: &[u8], Quoting { quote, escape }: Quoting) -> (usize, bool) {
        self.scratch.clear();
        let mut has_quotes = false;
        let mut in_quotes = false;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let next = text.get(at + 1).copied();
            let hides_next = next.is_some_and(|b| b == quote || b == escape);
            if in_quotes && byte == escape && hides_next {
                self.scratch.push(text[at + 1]);
                at += 1;
            } else if byte == quote {
                in_quotes = !in_quotes;
                has_quotes = true;
            } else if byte == self.delimiter && !in_quotes {
                break;
            } else {
                self.scratch.push(byte);
            }
            at += 1;
        }
        (at, has_quotes)
    }
}

/// The byte that a backslash before `text` stands for, and how many bytes of
/// `text` belong to it.
fn escaped(text: &[u8]) -> (u8, usize) {
    match text {
        [] => (b'\\', 0),
        [b'b', ..] => (0x08, 1),
        [b'f', ..] => (0x0c, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'v', ..] => (0x0b, 1),
        [b'0'..=b'7', ..] => number(text, 8, 3),
        [b'x', digits @ ..] if digits.first().is_some_and(u8::is_ascii_hexdigit) => {
            let (byte, taken) = number(digits, 16, 2);
            (byte, taken + 1)
        }
        [byte, ..] => (*byte, 1),
    }
}

fn number(text: &[u8], radix: u32, digits_max: usize) -> (u8, usize) {
    let digits = text.iter().take(digits_max);
    let digits = digits.map_while(|b| (*b as char).to_digit(radix));
    digits.fold((0, 0), |(value, taken), digit| {
        (((u32::from(value) * radix + digit) & 0xff) as u8, taken + 1)
    })
}
