//! `COPY .. FROM STDIN`: bytes in, record batches out.
//!
//! Pieces may be cut anywhere. What a piece leaves unfinished (a line, a binary
//! row) is carried to the next; everything else is read in place.

use arrow_array::RecordBatch;
use chronos_model::{SqlState, TableSchema};
use chronos_node::{CopyFormat, CopyOptions};

use super::copy_binary::{self, Piece};
use super::copy_error::{CopyError, Fault};
use super::copy_fields::Rows;
use super::copy_lines::{Fields, LineEnds, Quoting};

/// The longest line or binary row; a longer one is an error.
const CARRY_BYTES_MAX: usize = 256 << 20;

/// Reads COPY data as rows of a table.
pub struct CopyDecoder {
    layout: Layout,
    rows: Rows,
    /// The beginning of a line or binary row whose end has not come yet.
    carry: Vec<u8>,
    /// Lines or binary rows that were begun.
    line: u64,
    /// After the end mark: the rest is ignored.
    is_ended: bool,
}

enum Layout {
    Lines(Lines),
    Binary { has_header: bool },
}

struct Lines {
    ends: LineEnds,
    fields: Fields,
    skip_header: bool,
    newline: Newline,
}

/// How lines end: the first one tells, the others must agree.
#[derive(Clone, Copy, PartialEq)]
enum Newline {
    Unknown,
    Lf,
    CrLf,
}

impl CopyDecoder {
    /// A decoder for data that has the given columns of `table`, in that order.
    pub fn new(options: &CopyOptions, table: &TableSchema, columns: &[usize]) -> CopyDecoder {
        let quoting = match options.format {
            CopyFormat::Csv => Some(Quoting {
                quote: options.quote,
                escape: options.escape,
            }),
            CopyFormat::Text | CopyFormat::Binary => None,
        };
        let layout = match options.format {
            CopyFormat::Binary => Layout::Binary { has_header: false },
            CopyFormat::Text | CopyFormat::Csv => Layout::Lines(Lines {
                ends: LineEnds::new(quoting),
                fields: Fields::new(options.delimiter, &options.null, quoting),
                skip_header: options.header,
                newline: Newline::Unknown,
            }),
        };
        CopyDecoder {
            layout,
            rows: Rows::new(table, columns),
            carry: Vec::new(),
            line: 0,
            is_ended: false,
        }
    }

    /// Takes the next piece of the data; then ask for [`next_batch`](Self::next_batch)
    /// until there is none.
    ///
    /// Errors: the data is not what the options and the columns say; the decoder
    /// is of no use afterwards.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), CopyError> {
        if self.is_ended {
            return Ok(());
        }
        match self.layout {
            Layout::Lines(_) => self.push_lines(piece),
            Layout::Binary { .. } => self.push_binary(piece),
        }
    }

    /// A batch of the rows read so far, once there are enough, or after
    /// [`finish`](Self::finish).
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        self.rows.next_batch()
    }

    /// Takes the end of the data; then ask for [`next_batch`](Self::next_batch)
    /// until there is none.
    ///
    /// Errors: the data ended within a row.
    pub fn finish(&mut self) -> Result<(), CopyError> {
        let carry = std::mem::take(&mut self.carry);
        if !self.is_ended {
            match &mut self.layout {
                Layout::Lines(lines) if lines.ends.is_in_quotes() => {
                    let fault = Fault::layout("unterminated CSV quoted field");
                    return Err(self.rows.line_error(fault, self.line + 1, &carry));
                }
                Layout::Lines(_) if carry.is_empty() => {}
                Layout::Lines(lines) => {
                    lines.read(&carry, true, &mut self.line, &mut self.rows)?;
                }
                Layout::Binary { has_header } if !*has_header => {
                    let fault = Fault::layout("COPY file signature not recognized");
                    return Err(fault.at(self.rows.place(self.line, None)));
                }
                Layout::Binary { .. } if carry.is_empty() => {}
                Layout::Binary { .. } => {
                    let fault = Fault::layout("unexpected EOF in COPY data");
                    return Err(fault.at(self.rows.place(self.line + 1, None)));
                }
            }
        }
        self.is_ended = true;
        self.rows.end_batch()
    }

    fn push_lines(&mut self, piece: &[u8]) -> Result<(), CopyError> {
        let Layout::Lines(lines) = &mut self.layout else {
            return Ok(());
        };
        let mut rest = piece;
        while !self.is_ended {
            let Some(end) = lines.ends.find(rest) else {
                return self.keep(rest);
            };
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.carry.is_empty() {
                self.is_ended = lines.read(line, false, &mut self.line, &mut self.rows)?;
            } else {
                self.carry.extend_from_slice(line);
                self.is_ended = lines.read(&self.carry, false, &mut self.line, &mut self.rows)?;
                self.carry.clear();
            }
        }
        Ok(())
    }

    fn push_binary(&mut self, piece: &[u8]) -> Result<(), CopyError> {
        if self.carry.is_empty() {
            let taken = self.read_binary(piece)?;
            return self.keep(&piece[taken..]);
        }
        self.keep(piece)?;
        let mut bytes = std::mem::take(&mut self.carry);
        let taken = self.read_binary(&bytes)?;
        bytes.drain(..taken);
        self.carry = bytes;
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), CopyError> {
        if self.carry.len() + rest.len() > CARRY_BYTES_MAX {
            let fault = Fault {
                code: SqlState::PROGRAM_LIMIT,
                message: format!("a row of COPY data is longer than {CARRY_BYTES_MAX} bytes"),
            };
            return Err(fault.at(self.rows.place(self.line + 1, None)));
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Reads whole rows from the front and gives how many bytes they were.
    fn read_binary(&mut self, bytes: &[u8]) -> Result<usize, CopyError> {
        let mut at = 0;
        if let Layout::Binary { has_header: false } = self.layout {
            let header = copy_binary::header(bytes);
            match header.map_err(|fault| fault.at(self.rows.place(self.line, None)))? {
                Piece::Whole(length) => at = length,
                Piece::Partial | Piece::End => return Ok(0),
            }
            self.layout = Layout::Binary { has_header: true };
        }
        loop {
            let rest = &bytes[at..];
            let row = copy_binary::row(rest, self.rows.width());
            match row.map_err(|fault| fault.at(self.rows.place(self.line + 1, None)))? {
                Piece::Partial => return Ok(at),
                Piece::End => {
                    self.is_ended = true;
                    return Ok(bytes.len());
                }
                Piece::Whole(length) => {
                    self.line += 1;
                    self.read_binary_row(&rest[2..length])?;
                    at += length;
                }
            }
        }
    }

    /// Appends the fields of a row, which are all there.
    fn read_binary_row(&mut self, fields: &[u8]) -> Result<(), CopyError> {
        let mut rest = fields;
        for column in 0..self.rows.width() {
            let Some((length, tail)) = rest.split_first_chunk::<4>() else {
                break;
            };
            rest = tail;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                self.rows.null(column);
                continue;
            };
            let (field, tail) = rest.split_at(length.min(rest.len()));
            self.rows.binary(column, field, self.line)?;
            rest = tail;
        }
        self.rows.end_row(fields.len())
    }
}

impl Lines {
    /// Reads a line without its newline; gives whether it is the end mark.
    #[inline]
    fn read(
        &mut self,
        line: &[u8],
        is_last: bool,
        line_number: &mut u64,
        rows: &mut Rows,
    ) -> Result<bool, CopyError> {
        *line_number += 1;
        let number = *line_number;
        if self.fields.quoting.is_some() {
            // Newlines within quotes count, as an editor would count them.
            *line_number += memchr::memchr_iter(b'\n', line).count() as u64;
        }
        let line = match self.strip_return(line, is_last) {
            Ok(line) => line,
            Err(fault) => return Err(rows.line_error(fault, number, line)),
        };
        if std::mem::take(&mut self.skip_header) {
            return Ok(false);
        }
        if line == b"\\." {
            return Ok(true);
        }
        self.fields.split(line, number, rows)?;
        rows.end_row(line.len())?;
        Ok(false)
    }

    /// The line without a carriage return, if lines end with one.
    #[inline]
    fn strip_return<'a>(&mut self, line: &'a [u8], is_last: bool) -> Result<&'a [u8], Fault> {
        let stripped = line.strip_suffix(b"\r");
        if self.newline == Newline::Unknown {
            self.newline = match stripped {
                Some(_) => Newline::CrLf,
                None => Newline::Lf,
            };
        }
        match (self.newline, stripped) {
            (Newline::CrLf, Some(stripped)) => Ok(stripped),
            (Newline::CrLf, None) if !is_last => {
                Err(Fault::layout("literal newline found in data"))
            }
            (Newline::Lf, Some(_)) => Err(Fault::layout("literal carriage return found in data")),
            _ => Ok(line),
        }
    }
}
