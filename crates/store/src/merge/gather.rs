//! The chosen rows of several blocks as one set of columns.
//!
//! Long stretches are copied as stretches, single rows one by one, and one stretch
//! alone is not copied at all.

use arrow_array::{make_array, Array, ArrayRef};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_data::transform::MutableArrayData;
use arrow_select::interleave::interleave;
use chronos_model::Keys;

use super::block::Block;
use super::resolve::Selected;
use crate::error::StoreError;

/// Stretches of on average at least so many rows are copied as stretches.
const STRETCH_ROWS: usize = 12;

/// Column `column` of the chosen rows.
pub(super) fn gather_column(
    blocks: &[Block],
    ranges: &[Selected],
    rows: usize,
    column: usize,
) -> Result<ArrayRef, StoreError> {
    if let [only] = ranges {
        return Ok(blocks[only.block].columns[column].slice(only.start, only.rows));
    }
    if rows >= ranges.len() * STRETCH_ROWS {
        let data: Vec<_> = blocks.iter().map(|b| b.columns[column].to_data()).collect();
        let mut copy = MutableArrayData::new(data.iter().collect(), false, rows);
        for range in ranges {
            copy.try_extend(range.block, range.start, range.start + range.rows)?;
        }
        return Ok(make_array(copy.freeze()));
    }
    let arrays: Vec<&dyn Array> = blocks.iter().map(|b| b.columns[column].as_ref()).collect();
    let mut indices = Vec::with_capacity(rows);
    for range in ranges {
        indices.extend((range.start..range.start + range.rows).map(|i| (range.block, i)));
    }
    Ok(interleave(&arrays, &indices)?)
}

/// The keys of the chosen rows.
pub(super) fn gather_keys(blocks: &[Block], ranges: &[Selected]) -> Keys {
    let mut keys = Keys::default();
    for range in ranges {
        let block = &blocks[range.block];
        for i in range.start..range.start + range.rows {
            keys.push(block.key(i));
        }
    }
    keys
}

/// The recorded stamps of the chosen rows.
pub(super) fn gather_recorded(blocks: &[Block], ranges: &[Selected], rows: usize) -> Vec<u64> {
    let mut recorded = Vec::with_capacity(rows);
    for range in ranges {
        let block = &blocks[range.block];
        recorded.extend((range.start..range.start + range.rows).map(|i| block.recorded.get(i)));
    }
    recorded
}

/// Which of the chosen rows are known to be the first versions of their keys.
pub(super) fn gather_first(blocks: &[Block], ranges: &[Selected], rows: usize) -> BooleanBuffer {
    let mut bits = BooleanBufferBuilder::new(rows);
    for range in ranges {
        blocks[range.block]
            .first
            .append_to(&mut bits, range.start, range.rows);
    }
    bits.finish()
}
