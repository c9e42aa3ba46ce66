//! How a page's column becomes bytes and comes back.
//!
//! Owns the choice of encodings and their bytes; knows nothing of files, pages'
//! places or checksums. A column block is
//!
//! ```text
//! validity u8: 0 no NULLs | 1 only NULLs (nothing follows) | 2 bitmap follows
//! bitmap:      ceil(rows / 8) bytes, bit set: not NULL, lowest bit first
//! values:      by the column's type, one for every row
//! ```
//!
//! Under a NULL stands the value before it, because repeating costs least. Values:
//!
//! | type | values |
//! |---|---|
//! | BOOL | a bitmap |
//! | INT2/4/8, DATE, TIME, TIMESTAMP, TIMESTAMPTZ | [integers](ints) |
//! | FLOAT4/8 | [floats] |
//! | NUMERIC | u8: 0 integers; 1 high words (length-prefixed integers), then low words |
//! | TEXT, VARCHAR, JSON, JSONB, UUID, BYTEA | [byte strings](bytes) |
//! | INTERVAL | months, days (each length-prefixed integers), nanoseconds |
//! | arrays | lengths (length-prefixed integers), then the items as a column block |
//! | VECTOR(n) | n floats per row |
//!
//! Decoding appends page after page to one set of buffers, so that a scan gets one
//! array for several pages without copying them together.

mod bitpack;
mod bits;
mod bytes;
mod chimp;
mod column;
mod floats;
pub mod for_bench;
mod ints;
mod single;

use super::BlockError;

pub(super) use column::{encode_column, ColumnDecoder};
pub(super) use single::{ColumnAt, WordsAt};

/// Whether to look for the smallest encoding or to store values as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effort {
    Smallest,
    /// Floats as Chimp128, everything else as small as it gets.
    Chimp,
    Raw,
}

/// Level of pco: higher ones cost more than they save on 2,048 values.
const PCO_LEVEL: usize = 4;

fn pco_config() -> pco::ChunkConfig {
    pco::ChunkConfig::default().with_compression_level(PCO_LEVEL)
}

fn decode_pco<T: pco::data_types::Number>(bytes: &[u8], out: &mut [T]) -> Result<(), BlockError> {
    let progress = pco::standalone::simple_decompress_into(bytes, out)
        .map_err(|e| BlockError::new(format!("pco: {e}")))?;
    if progress.n_processed != out.len() || !progress.finished {
        return Err(BlockError::new("pco: another count of values than rows"));
    }
    Ok(())
}

/// Decides when trying pco is worth the time: after it lost, a column's next pages
/// are skipped, at most 31 of them.
#[derive(Debug, Default)]
pub(super) struct PcoGate {
    skip: u32,
    penalty: u32,
}

impl PcoGate {
    /// Whether to try, when the other encodings need `bytes`.
    fn may_try(&mut self, values: usize, bytes: usize) -> bool {
        if values < 256 || bytes * 2 < values {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        true
    }

    fn note(&mut self, won: bool) {
        self.penalty = if won {
            0
        } else {
            (self.penalty * 2 + 1).min(31)
        };
        self.skip = self.penalty;
    }

    /// Whether pco's size makes up for its slower decoding.
    fn is_worth(pco_bytes: usize, other_bytes: usize) -> bool {
        pco_bytes * 100 < other_bytes * 85
    }
}

/// Appends what `write` writes behind its length.
fn put_nested(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut nested = Vec::new();
    write(&mut nested);
    let mut e = chronos_model::Encoder {
        buffer: std::mem::take(out),
    };
    e.bytes(&nested);
    *out = e.buffer;
}

/// Encodes the words of a column that every version has and that is never NULL.
pub(super) fn encode_words(values: &[u64], effort: Effort, gate: &mut PcoGate, out: &mut Vec<u8>) {
    ints::encode(values, effort, Some(gate), out);
}
