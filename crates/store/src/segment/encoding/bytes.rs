//! Texts and byte strings, and how they become Arrow views.
//!
//! | byte | encoding | content |
//! |---|---|---|
//! | 0 | raw | lengths, then all bytes |
//! | 1 | dictionary | count, lengths and bytes of the distinct values, then codes |
//! | 2 | lz4 | lengths, then an lz4 block of all bytes |
//! | 3 | uuid | 16 bytes for each canonical text of 36 characters |
//! | 4 | words | width / 8 columns of big-endian 64-bit words |
//!
//! Lengths, codes and words are [integers](super::ints). A dictionary's codes may be
//! run-length encoded, which is how a series' name costs nothing per row. The
//! smallest wins; lz4 only below 85 % of the others, because it decodes slower.
//!
//! Decoding never copies bytes per row: a page's distinct values (or all its values)
//! become one shared buffer with a view each, validated once, and rows take views.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use arrow_array::builder::make_view;
use arrow_array::{Array, ArrayRef, BinaryViewArray, StringViewArray, UInt32Array};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use chronos_model::{Decoder, Encoder};

use super::{ints, put_nested, BlockError, Effort};

pub(super) const RAW: u8 = 0;
pub(super) const DICTIONARY: u8 = 1;
pub(super) const LZ4: u8 = 2;
pub(super) const UUID: u8 = 3;
pub(super) const WORDS: u8 = 4;

/// Bytes one page's values of one column may have: a view's offset is 32 bits.
pub(super) const PAGE_BYTES_MAX: usize = i32::MAX as usize;

/// lz4 cannot compress further than this.
const LZ4_RATIO_MAX: usize = 256;

/// Below this many bytes trying lz4 is not worth the time.
const LZ4_BYTES_MIN: usize = 256;

/// Appends the values in their smallest encoding; nothing for no values.
pub(super) fn encode(values: &[&[u8]], effort: Effort, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let total: usize = values.iter().map(|v| v.len()).sum();
    let mut lengths = Encoder::default();
    put_lengths(&mut lengths, values);
    let raw_bytes = 1 + lengths.buffer.len() + total;
    let structured = match effort {
        Effort::Smallest | Effort::Chimp => structured(values).filter(|s| s.len() <= raw_bytes),
        Effort::Raw => None,
    };
    let smallest = structured.as_ref().map_or(raw_bytes, Vec::len);
    if smallest >= LZ4_BYTES_MIN && effort != Effort::Raw {
        let packed = lz4_flex::block::compress(&values.concat());
        if (1 + lengths.buffer.len() + packed.len()) * 100 < smallest * 85 {
            out.push(LZ4);
            out.extend_from_slice(&lengths.buffer);
            out.extend_from_slice(&packed);
            return;
        }
    }
    if let Some(structured) = structured {
        out.extend_from_slice(&structured);
        return;
    }
    out.push(RAW);
    out.extend_from_slice(&lengths.buffer);
    values.iter().for_each(|v| out.extend_from_slice(v));
}

/// The smallest of the encodings that know something of the values.
fn structured(values: &[&[u8]]) -> Option<Vec<u8>> {
    let special = uuids(values).or_else(|| words(values));
    let candidates = [special, dictionary(values)];
    candidates.into_iter().flatten().min_by_key(Vec::len)
}

fn put_lengths(e: &mut Encoder, values: &[&[u8]]) {
    let lengths: Vec<u64> = values.iter().map(|v| v.len() as u64).collect();
    put_nested(&mut e.buffer, |out| {
        ints::encode(&lengths, Effort::Smallest, None, out)
    });
}

fn uuids(values: &[&[u8]]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1 + 16 * values.len());
    out.push(UUID);
    for value in values {
        if value.len() != 36 {
            return None;
        }
        let start = out.len();
        out.resize(start + 16, 0);
        for (digit, at) in UUID_DIGITS.into_iter().enumerate() {
            let half = match value[at] {
                c @ b'0'..=b'9' => c - b'0',
                c @ b'a'..=b'f' => c - b'a' + 10,
                _ => return None,
            };
            out[start + digit / 2] |= half << (4 * (1 - digit % 2));
        }
        if [8, 13, 18, 23].iter().any(|at| value[*at] != b'-') {
            return None;
        }
    }
    Some(out)
}

/// Where the 32 digits of a canonical uuid stand among its 36 characters.
const UUID_DIGITS: [usize; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35,
];

pub(super) fn uuid_text(uuid: &[u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    for (digit, at) in UUID_DIGITS.into_iter().enumerate() {
        let half = uuid[digit / 2] >> (4 * (1 - digit % 2)) & 15;
        text[at] = b"0123456789abcdef"[usize::from(half)];
    }
    text
}

fn words(values: &[&[u8]]) -> Option<Vec<u8>> {
    let width = values[0].len();
    if !matches!(width, 8 | 16) || values.iter().any(|v| v.len() != width) {
        return None;
    }
    let mut e = Encoder::default();
    e.u8(WORDS);
    e.u8((width / 8) as u8);
    for part in 0..width / 8 {
        let column: Vec<u64> = values
            .iter()
            .map(|v| {
                let mut eight = [0; 8];
                eight.copy_from_slice(&v[part * 8..part * 8 + 8]);
                u64::from_be_bytes(eight)
            })
            .collect();
        put_nested(&mut e.buffer, |out| {
            ints::encode(&column, Effort::Smallest, None, out)
        });
    }
    Some(e.buffer)
}

/// `None` when more than half of the values are distinct.
fn dictionary(values: &[&[u8]]) -> Option<Vec<u8>> {
    let limit = (values.len() / 2).max(1);
    let mut codes_of: HashMap<&[u8], u64, RandomState> =
        HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
    let mut distinct: Vec<&[u8]> = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    let mut previous: Option<(&[u8], u64)> = None;
    for value in values {
        let code = match previous {
            Some((last, code)) if last == *value => code,
            _ => {
                let next = distinct.len() as u64;
                let code = *codes_of.entry(value).or_insert(next);
                if code == next {
                    if distinct.len() == limit {
                        return None;
                    }
                    distinct.push(value);
                }
                code
            }
        };
        previous = Some((value, code));
        codes.push(code);
    }
    let mut e = Encoder::default();
    e.u8(DICTIONARY);
    e.varint(distinct.len() as u64);
    put_lengths(&mut e, &distinct);
    e.varint(distinct.iter().map(|v| v.len() as u64).sum());
    for value in &distinct {
        e.buffer.extend_from_slice(value);
    }
    ints::encode(&codes, Effort::Smallest, None, &mut e.buffer);
    Some(e.buffer)
}

/// Whether views are of text (and must be UTF-8) or of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ViewKind {
    Text,
    Bytes,
}

/// Gathers decoded pages: entries (a view each) and, per row, which entry it is.
#[derive(Debug, Default)]
pub(super) struct Views {
    buffers: Vec<Buffer>,
    entries: Vec<u128>,
    rows: Vec<u32>,
    /// Whether row `i` is entry `i` so far.
    direct: bool,
}

impl Views {
    pub(super) fn new(rows: usize) -> Views {
        Views {
            rows: Vec::with_capacity(rows),
            direct: true,
            ..Views::default()
        }
    }

    /// Appends `rows` empty values: placeholders under NULLs.
    pub(super) fn push_empty(&mut self, rows: usize) {
        let entry = self.entries.len() as u32;
        self.entries.push(make_view(&[], 0, 0));
        self.direct = false;
        self.rows.extend(std::iter::repeat_n(entry, rows));
    }

    /// Decodes a block of exactly `rows` values.
    pub(super) fn push_block(&mut self, bytes: &[u8], rows: usize) -> Result<(), BlockError> {
        if rows == 0 {
            return match bytes {
                [] => Ok(()),
                _ => Err(BlockError::new("bytes where no values are expected")),
            };
        }
        let mut d = Decoder::new("byte strings", bytes);
        match d.u8()? {
            RAW => {
                let lengths = read_lengths(&mut d, rows)?;
                self.push_rows(&lengths, bytes[d.offset()..].to_vec())
            }
            LZ4 => {
                let lengths = read_lengths(&mut d, rows)?;
                let joined = unpack_lz4(&bytes[d.offset()..], &lengths)?;
                self.push_rows(&lengths, joined)
            }
            DICTIONARY => self.push_dictionary(bytes, &mut d, rows),
            UUID => self.push_uuids(&bytes[1..], rows),
            WORDS => self.push_words(&mut d, rows),
            other => Err(BlockError::new(format!(
                "unknown byte string encoding {other}"
            ))),
        }
    }

    /// Adds an entry per length, with bytes from the joined buffer.
    fn push_entries(&mut self, lengths: &[u32], joined: Vec<u8>) -> Result<(), BlockError> {
        if total_of(lengths)? != joined.len() {
            return Err(BlockError::new("lengths that do not fit the bytes"));
        }
        let block = self.buffers.len() as u32;
        let mut offset = 0;
        self.entries.reserve(lengths.len());
        for length in lengths {
            let end = offset + *length as usize;
            self.entries
                .push(make_view(&joined[offset..end], block, offset as u32));
            offset = end;
        }
        if lengths.iter().any(|l| *l > 12) {
            self.buffers.push(Buffer::from_vec(joined));
        }
        Ok(())
    }

    /// Adds an entry and a row per length.
    fn push_rows(&mut self, lengths: &[u32], joined: Vec<u8>) -> Result<(), BlockError> {
        let first = self.entries.len() as u32;
        self.push_entries(lengths, joined)?;
        self.rows.extend(first..first + lengths.len() as u32);
        Ok(())
    }

    fn push_dictionary(
        &mut self,
        bytes: &[u8],
        d: &mut Decoder<'_>,
        rows: usize,
    ) -> Result<(), BlockError> {
        let distinct = d.varint()?;
        if distinct > rows as u64 {
            return Err(BlockError::new("a dictionary larger than its page"));
        }
        let lengths = read_lengths(d, distinct as usize)?;
        let joined = d.bytes()?.to_vec();
        let first = self.entries.len() as u32;
        self.push_entries(&lengths, joined)?;
        self.direct = false;
        let start = self.rows.len();
        self.rows.resize(start + rows, 0);
        let codes = &mut self.rows[start..];
        ints::decode(&bytes[d.offset()..], codes)?;
        // At most as many as rows.
        let (distinct, mut all_known) = (distinct as u32, true);
        for code in codes {
            all_known &= *code < distinct;
            *code = code.wrapping_add(first);
        }
        match all_known {
            true => Ok(()),
            false => Err(BlockError::new("a code that is not in the dictionary")),
        }
    }

    fn push_uuids(&mut self, bytes: &[u8], rows: usize) -> Result<(), BlockError> {
        if bytes.len() != rows.saturating_mul(16) {
            return Err(BlockError::new("uuids that do not fit the rows"));
        }
        let mut joined = Vec::with_capacity(36 * rows);
        for uuid in bytes.as_chunks::<16>().0 {
            joined.extend_from_slice(&uuid_text(uuid));
        }
        self.push_rows(&vec![36; rows], joined)
    }

    fn push_words(&mut self, d: &mut Decoder<'_>, rows: usize) -> Result<(), BlockError> {
        let parts = usize::from(d.u8()?);
        if !matches!(parts, 1 | 2) {
            return Err(BlockError::new(format!("values of {parts} words")));
        }
        let mut joined = vec![0; rows * parts * 8];
        let mut column = vec![0u64; rows];
        for part in 0..parts {
            ints::decode(d.bytes()?, &mut column)?;
            for (row, word) in column.iter().enumerate() {
                let at = (row * parts + part) * 8;
                joined[at..at + 8].copy_from_slice(&word.to_be_bytes());
            }
        }
        if !d.is_empty() {
            return Err(BlockError::new("bytes follow the words"));
        }
        self.push_rows(&vec![parts as u32 * 8; rows], joined)
    }

    /// The rows as an array; UTF-8 is checked once per entry.
    pub(super) fn finish(
        self,
        kind: ViewKind,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, BlockError> {
        let direct = self.direct && self.rows.len() == self.entries.len();
        let views = ScalarBuffer::from(self.entries);
        let buffers: Arc<[Buffer]> = self.buffers.into();
        let own = if direct { nulls.clone() } else { None };
        let entries: ArrayRef = match kind {
            ViewKind::Text => Arc::new(StringViewArray::try_new(views, buffers, own)?),
            ViewKind::Bytes => Arc::new(BinaryViewArray::try_new(views, buffers, own)?),
        };
        if direct {
            return Ok(entries);
        }
        let rows = UInt32Array::new(self.rows.into(), nulls);
        Ok(arrow_select::take::take(
            entries.as_ref() as &dyn Array,
            &rows,
            None,
        )?)
    }
}

pub(super) fn read_lengths(d: &mut Decoder<'_>, count: usize) -> Result<Vec<u32>, BlockError> {
    let mut lengths = vec![0u32; count];
    ints::decode(d.bytes()?, &mut lengths)?;
    Ok(lengths)
}

/// Values of these lengths, joined.
pub(super) fn unpack_lz4(packed: &[u8], lengths: &[u32]) -> Result<Vec<u8>, BlockError> {
    let total = total_of(lengths)?;
    if total > packed.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(BlockError::new("lengths beyond what lz4 can hold"));
    }
    lz4_flex::block::decompress(packed, total).map_err(|e| BlockError::new(format!("lz4: {e}")))
}

pub(super) fn total_of(lengths: &[u32]) -> Result<usize, BlockError> {
    let total: u64 = lengths.iter().map(|l| u64::from(*l)).sum();
    usize::try_from(total)
        .ok()
        .filter(|t| *t <= PAGE_BYTES_MAX)
        .ok_or_else(|| BlockError::new("more bytes than a page may have"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;

    /// The encoding chosen and its bytes, after checking that it reads back.
    fn chosen(values: &[String]) -> (u8, usize) {
        let slices: Vec<&[u8]> = values.iter().map(|v| v.as_bytes()).collect();
        let mut out = Vec::new();
        encode(&slices, Effort::Smallest, &mut out);
        let mut views = Views::new(values.len());
        views.push_block(&out, values.len()).unwrap();
        let array = views.finish(ViewKind::Text, None).unwrap();
        let back: Vec<&str> = array.as_string_view().iter().flatten().collect();
        assert_eq!(back, values);
        (out[0], out.len())
    }

    #[test]
    fn each_shape_gets_its_encoding() {
        let names: Vec<String> = (0..2048)
            .map(|i| format!("sensor-number-{}", i / 700))
            .collect();
        let (encoding, bytes) = chosen(&names);
        assert_eq!(encoding, DICTIONARY);
        assert!(bytes < 80, "{bytes}");
        let lines: Vec<String> = (0..2048)
            .map(|i| format!("reading {i} of the day is fine"))
            .collect();
        assert_eq!(chosen(&lines).0, LZ4);
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let odd: Vec<String> = (0..20)
            .map(|i| format!("{:x}", hash(i) >> (i % 30)))
            .collect();
        assert_eq!(chosen(&odd).0, RAW);
        let fixed: Vec<String> = (0..999).map(|i| format!("{:08}", i * 3)).collect();
        assert_eq!(chosen(&fixed).0, WORDS);
        let uuid = |i: u64| {
            format!(
                "{:08x}-0000-4000-8000-{:012x}",
                hash(i) >> 32,
                hash(i) >> 16
            )
        };
        let uuids: Vec<String> = (0..999).map(uuid).collect();
        assert_eq!(chosen(&uuids), (UUID, 1 + 16 * 999));
        let capitals: Vec<String> = uuids.iter().map(|u| u.to_uppercase()).collect();
        assert_ne!(chosen(&capitals).0, UUID);
    }

    #[test]
    fn pages_of_one_dictionary_share_their_bytes() {
        let value = "a value of more than twelve bytes";
        let mut out = Vec::new();
        encode(&[value.as_bytes(); 1000], Effort::Smallest, &mut out);
        let mut views = Views::new(3000);
        (0..3).for_each(|_| views.push_block(&out, 1000).unwrap());
        let array = views.finish(ViewKind::Text, None).unwrap();
        assert_eq!(array.as_string_view().data_buffers().len(), 3);
        let bytes: usize = array
            .as_string_view()
            .data_buffers()
            .iter()
            .map(|b| b.len())
            .sum();
        assert_eq!(bytes, 3 * value.len());
        assert!(array.as_string_view().iter().all(|v| v == Some(value)));
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let mut out = Vec::new();
        encode(&[b"\xff\xfe", b"ok"], Effort::Smallest, &mut out);
        let mut views = Views::new(2);
        views.push_block(&out, 2).unwrap();
        assert!(views.finish(ViewKind::Text, None).is_err());
    }
}
