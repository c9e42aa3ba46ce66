//! CSV records out of a stream of bytes, without decoding what need not be decoded.
//!
//! The node parses CSV itself, so a record is passed on as it stands; only where it
//! begins and ends has to be known here, to count rows, to cut batches and to name the
//! line of a bad row. A field is quoted when a `"` is its first character (RFC 4180);
//! a quote elsewhere (`5" pipe`) is data, and such a record is rewritten so that every
//! parser reads it that way. Line ends become a single line feed.

use std::borrow::Cow;
use std::io::{self, BufRead};

use memchr::{memchr, memchr3};

/// A record longer than this has a quote that nobody closed.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;

/// Where the reader is within a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote inside a quoted field: it ends the field, or is the first of two.
    Closing,
}

/// Why no further record could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The input failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A record has no end in sight.
    #[error("the record that begins on line {line} is longer than 16 MiB; a quote in it is probably not closed")]
    TooLong {
        /// Counted from 1.
        line: u64,
    },
}

/// Reads records one by one.
pub(super) struct Records<R> {
    input: R,
    delimiter: u8,
    line: u64,
}

impl<R: BufRead> Records<R> {
    /// Reads from the beginning of `input`.
    pub(super) fn new(input: R, delimiter: u8) -> Self {
        Self {
            input,
            delimiter,
            line: 1,
        }
    }

    /// Appends the next record to `into`, ended by a line feed, and returns the line it
    /// begins on. `None` at the end. Blank lines are records of one empty field.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> Result<Option<u64>, ReadError> {
        let start = into.len();
        let first_line = self.line;
        let mut scan = Scan {
            at: At::FieldStart,
            irregular: false,
            delimiter: self.delimiter,
        };
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if chunk.is_empty() {
                if into.len() == start {
                    return Ok(None);
                }
                break;
            }
            let end = scan.advance(chunk);
            let taken = end.unwrap_or(chunk.len());
            self.line += memchr::memchr_iter(b'\n', &chunk[..taken]).count() as u64;
            into.extend_from_slice(&chunk[..taken]);
            self.input.consume(taken);
            if end.is_some() {
                break;
            }
            if into.len() - start > RECORD_BYTES_MAX {
                return Err(ReadError::TooLong { line: first_line });
            }
        }
        trim_line_end(into, start);
        if first_line == 1 && into[start..].starts_with(b"\xef\xbb\xbf") {
            into.drain(start..start + 3);
        }
        if scan.irregular {
            let rewritten = requote(&into[start..], self.delimiter);
            into.truncate(start);
            into.extend_from_slice(&rewritten);
        }
        into.push(b'\n');
        Ok(Some(first_line))
    }
}

fn trim_line_end(record: &mut Vec<u8>, start: usize) {
    if record.len() > start && record.last() == Some(&b'\n') {
        record.pop();
    }
    if record.len() > start && record.last() == Some(&b'\r') {
        record.pop();
    }
}

/// The state of the search for a record's end.
struct Scan {
    at: At,
    irregular: bool,
    delimiter: u8,
}

impl Scan {
    /// Looks through `chunk`; returns where the record ends, past its line feed.
    fn advance(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut here = 0;
        while here < chunk.len() {
            let byte = chunk[here];
            match self.at {
                At::FieldStart if byte == b'"' => {
                    self.at = At::Quoted;
                    here += 1;
                }
                At::Closing if byte == b'"' => {
                    self.at = At::Quoted;
                    here += 1;
                }
                At::Quoted => match memchr(b'"', &chunk[here..]) {
                    Some(quote) => {
                        self.at = At::Closing;
                        here += quote + 1;
                    }
                    None => return None,
                },
                At::FieldStart | At::Plain | At::Closing => {
                    // Only a line end or a delimiter may follow a closing quote.
                    let ends = byte == self.delimiter || byte == b'\n' || byte == b'\r';
                    self.irregular |= self.at == At::Closing && !ends;
                    self.at = At::Plain;
                    let stop = memchr3(b'\n', self.delimiter, b'"', &chunk[here..])?;
                    here += stop + 1;
                    match chunk[here - 1] {
                        b'\n' => return Some(here),
                        b'"' => self.irregular = true,
                        _ => self.at = At::FieldStart,
                    }
                }
            }
        }
        None
    }
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field<'r> {
    /// Its text without quotes.
    pub(super) text: Cow<'r, [u8]>,
    /// Whether it was quoted, and so cannot be NULL.
    pub(super) quoted: bool,
}

/// Decodes a record (with or without its line feed) into its fields.
pub(super) fn fields(record: &[u8], delimiter: u8) -> Vec<Field<'_>> {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    let mut found = Vec::new();
    let mut rest = record;
    loop {
        let (field, length) = field(rest, delimiter);
        found.push(field);
        match rest.get(length) {
            Some(_) => rest = &rest[length + 1..],
            None => return found,
        }
    }
}

/// The first field of `rest`, and its length up to the delimiter or the end.
fn field(rest: &[u8], delimiter: u8) -> (Field<'_>, usize) {
    let plain_end =
        |from: usize| memchr(delimiter, &rest[from..]).map_or(rest.len(), |length| from + length);
    if rest.first() != Some(&b'"') {
        let end = plain_end(0);
        let text = Cow::Borrowed(&rest[..end]);
        return (
            Field {
                text,
                quoted: false,
            },
            end,
        );
    }
    let mut text = Vec::new();
    let mut here = 1;
    while let Some(length) = memchr(b'"', &rest[here..]) {
        text.extend_from_slice(&rest[here..here + length]);
        here += length + 1;
        if rest.get(here) != Some(&b'"') {
            // Stray text behind the closing quote belongs to the field.
            let end = plain_end(here);
            text.extend_from_slice(&rest[here..end]);
            let text = Cow::Owned(text);
            return (Field { text, quoted: true }, end);
        }
        text.push(b'"');
        here += 1;
    }
    text.extend_from_slice(&rest[here..]);
    let text = Cow::Owned(text);
    (Field { text, quoted: true }, rest.len())
}

/// The record with every field quoted that holds a quote anywhere.
fn requote(record: &[u8], delimiter: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len() + 8);
    for (nth, field) in fields(record, delimiter).iter().enumerate() {
        if nth > 0 {
            out.push(delimiter);
        }
        if !field.quoted && !field.text.contains(&b'"') {
            out.extend_from_slice(&field.text);
            continue;
        }
        out.push(b'"');
        for byte in field.text.iter() {
            if *byte == b'"' {
                out.push(b'"');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    /// Reads through a buffer of `buffer` bytes, so that records straddle chunks.
    fn read_all(input: &[u8], buffer: usize) -> Vec<(u64, String)> {
        let mut records = Records::new(BufReader::with_capacity(buffer, input), b',');
        let mut found = Vec::new();
        loop {
            let mut record = Vec::new();
            match records.read(&mut record).unwrap() {
                Some(line) => found.push((line, String::from_utf8(record).unwrap())),
                None => return found,
            }
        }
    }

    fn texts(record: &str) -> Vec<String> {
        let fields = fields(record.as_bytes(), b',');
        let text = |f: &Field<'_>| String::from_utf8(f.text.to_vec()).unwrap();
        fields.iter().map(text).collect()
    }

    #[test]
    fn records_know_their_lines() {
        let input = b"\xef\xbb\xbfa,b\r\n\"x\ny\",1\n\n2,\"\"\r\n3,last";
        for buffer in 1..20 {
            let found = read_all(input, buffer);
            let expected = [
                (1, "a,b\n"),
                (2, "\"x\ny\",1\n"),
                (4, "\n"),
                (5, "2,\"\"\n"),
                (6, "3,last\n"),
            ];
            let found: Vec<(u64, &str)> = found.iter().map(|(l, r)| (*l, r.as_str())).collect();
            assert_eq!(found, expected, "buffer of {buffer}");
        }
    }

    #[test]
    fn stray_quotes_are_data() {
        for buffer in [1, 3, 64] {
            let found = read_all(b"1,5\" pipe\n2,\"a\"b,c\n3,x\n", buffer);
            assert_eq!(found[0].1, "1,\"5\"\" pipe\"\n");
            assert_eq!(found[1].1, "2,\"ab\",c\n");
            assert_eq!(found[2], (3, "3,x\n".to_owned()));
        }
        assert_eq!(read_all(b"\xef\xbb\xbf\"a\",b\n", 64)[0].1, "\"a\",b\n");
    }

    #[test]
    fn fields_are_decoded() {
        assert_eq!(texts("a,,\"b,\"\"c\"\"\"\n"), ["a", "", "b,\"c\""]);
        assert_eq!(texts("\n"), [""]);
        assert_eq!(texts("a,"), ["a", ""]);
        assert!(fields(b"\"\"", b',')[0].quoted);
    }

    #[test]
    fn an_open_quote_is_found_out() {
        let mut input = b"a,b\n1,\"never closed\n".to_vec();
        input.resize(RECORD_BYTES_MAX + (1 << 20), b'x');
        let mut records = Records::new(&input[..], b',');
        let mut record = Vec::new();
        assert!(matches!(records.read(&mut record), Ok(Some(1))));
        // A slice is one chunk, so the length shows only at its end.
        let result = records.read(&mut record);
        assert!(
            matches!(result, Err(ReadError::TooLong { line: 2 })),
            "{result:?}"
        );
    }

    proptest! {
        #[test]
        fn what_a_csv_writer_writes_is_read_back(
            rows in proptest::collection::vec(
                proptest::collection::vec("[a-c\",;\n é]{0,6}", 2..4), 1..8),
            buffer in 1usize..32,
        ) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let input = writer.into_inner().unwrap();
            let found: Vec<Vec<String>> =
                read_all(&input, buffer).iter().map(|(_, record)| texts(record)).collect();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn any_input_is_survived_and_lines_add_up(
            input in "[a\",\r\n]{0,40}",
            buffer in 1usize..8,
        ) {
            let found = read_all(input.as_bytes(), buffer);
            prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
