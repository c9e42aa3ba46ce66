//! One page on its way into a file: encoded, described, and read back at once.
//!
//! Every block is decoded and compared with what was given before it counts as
//! written; one that differs is stored raw instead. A bug in an encoding can
//! therefore cost bytes, but never data.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type, UInt8Type};
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::DataType as Arrow;
use chronos_model::{encode_keys, DataType, Keys, Kind, Stamp, TableSchema};

use super::encoding::{encode_column, encode_words, ColumnDecoder, Effort, PcoGate};
use super::layout::slot;
use super::stats::column_stats;
use super::{BlockError, PageMeta};
use crate::erase::ERASE;
use crate::retention::CUT;
use crate::version::{VersionBatch, UNTIL_CHANGED};

/// Block of an `Origin` that equals `Recorded`; instead of an integer encoding.
pub(super) const SAME_AS_RECORDED: u8 = 0xf0;
/// Block of a `ValidFrom` that is the microsecond of `Recorded`.
pub(super) const MICROS_OF_RECORDED: u8 = 0xf1;

/// A page's blocks by slot, and what is known of them.
#[derive(Debug)]
pub(super) struct EncodedPage {
    pub(super) meta: PageMeta,
    pub(super) all_keys: bool,
    pub(super) blocks: Vec<Vec<u8>>,
}

/// The Arrow type of a column that every version has.
pub(super) fn words_type(slot: usize) -> Arrow {
    match slot {
        slot::RECORDED | slot::ORIGIN => Arrow::UInt64,
        slot::ORIGIN_NODE => Arrow::UInt32,
        slot::KIND => Arrow::UInt8,
        _ => Arrow::Int64,
    }
}

/// Encodes a page, the table's columns with `effort`; `gates` has one gate per slot.
pub(super) fn encode_page(
    schema: &TableSchema,
    page: &VersionBatch,
    effort: Effort,
    gates: &mut [PcoGate],
) -> Result<EncodedPage, BlockError> {
    let mut blocks = Vec::with_capacity(gates.len());
    let (all_keys, keys) = encode_key_block(schema, page)?;
    blocks.push(keys);
    let (version, own) = gates.split_at_mut(slot::FIRST_COLUMN);
    for (slot, gate) in version.iter_mut().enumerate().skip(slot::RECORDED) {
        blocks.push(encode_version_column(page, slot, gate)?);
    }
    for ((array, column), gate) in page.columns.iter().zip(&schema.columns).zip(own) {
        blocks.push(checked(array, &column.data_type, effort, gate)?);
    }
    Ok(EncodedPage {
        meta: describe(schema, page),
        all_keys,
        blocks,
    })
}

fn describe(schema: &TableSchema, page: &VersionBatch) -> PageMeta {
    let rows = page.num_rows();
    let recorded = page.recorded.values();
    let open_valid =
        (page.valid_to.values().iter()).all(|v| *v == UNTIL_CHANGED) && is_micros_of_recorded(page);
    let concerns_the_past = (page.kind.values().iter()).any(|kind| matches!(*kind, CUT | ERASE));
    PageMeta {
        rows: rows as u32,
        min_key: page.keys.get(0).into(),
        max_key: page.keys.get(rows - 1).into(),
        // A cut and an erasure concern whoever reads of any time before.
        min_recorded: match concerns_the_past {
            true => Stamp::MIN,
            false => Stamp(recorded.iter().copied().min().unwrap_or(0)),
        },
        max_recorded: Stamp(recorded.iter().copied().max().unwrap_or(0)),
        one_version_per_key: (1..rows).all(|i| page.keys.get(i - 1) != page.keys.get(i)),
        has_deletes: page.kind.values().iter().any(|k| *k != Kind::Put as u8),
        open_valid,
        // A cut stands for older versions.
        first_versions: page.first.count_set_bits() == rows && !page.kind.values().contains(&CUT),
        columns: (page.columns.iter().zip(&schema.columns))
            .map(|(array, column)| column_stats(array, &column.data_type))
            .collect(),
    }
}

fn is_micros_of_recorded(page: &VersionBatch) -> bool {
    let (from, recorded) = (page.valid_from.values(), page.recorded.values());
    (from.iter().zip(recorded)).all(|(v, r)| *v == Stamp(*r).micros())
}

fn encode_version_column(
    page: &VersionBatch,
    slot: usize,
    gate: &mut PcoGate,
) -> Result<Vec<u8>, BlockError> {
    let words: Vec<u64> = match slot {
        slot::RECORDED => page.recorded.values().to_vec(),
        slot::ORIGIN if page.origin.values() == page.recorded.values() => {
            return Ok(vec![SAME_AS_RECORDED]);
        }
        slot::ORIGIN => page.origin.values().to_vec(),
        slot::ORIGIN_NODE => page
            .origin_node
            .values()
            .iter()
            .map(|v| u64::from(*v))
            .collect(),
        slot::KIND => page.kind.values().iter().map(|v| u64::from(*v)).collect(),
        slot::VALID_FROM if is_micros_of_recorded(page) => return Ok(vec![MICROS_OF_RECORDED]),
        slot::VALID_FROM => page.valid_from.values().iter().map(|v| *v as u64).collect(),
        _ => page.valid_to.values().iter().map(|v| *v as u64).collect(),
    };
    for effort in [Effort::Smallest, Effort::Raw] {
        let mut block = Vec::new();
        encode_words(&words, effort, gate, &mut block);
        let mut decoder = ColumnDecoder::of_words(words_type(slot), words.len());
        if decoder.push_words(&block, words.len()).is_ok() && same_words(&decoder.finish()?, &words)
        {
            return Ok(block);
        }
        tracing::error!(
            slot,
            "an encoding did not read back and was replaced by raw bytes"
        );
    }
    Err(BlockError::new("even raw integers do not read back"))
}

fn same_words(array: &ArrayRef, words: &[u64]) -> bool {
    let wide = |mut values: Box<dyn Iterator<Item = u64> + '_>| {
        words.iter().all(|w| values.next() == Some(*w))
    };
    match array.data_type() {
        Arrow::UInt64 => array.as_primitive::<UInt64Type>().values() == words,
        Arrow::UInt32 => {
            let values = array.as_primitive::<UInt32Type>().values();
            wide(Box::new(values.iter().map(|v| u64::from(*v))))
        }
        Arrow::UInt8 => {
            let values = array.as_primitive::<UInt8Type>().values();
            wide(Box::new(values.iter().map(|v| u64::from(*v))))
        }
        _ => {
            let values = array.as_primitive::<Int64Type>().values();
            wide(Box::new(values.iter().map(|v| *v as u64)))
        }
    }
}

/// The block of one of the table's columns, known to decode to the same bits.
fn checked(
    array: &ArrayRef,
    data_type: &DataType,
    effort: Effort,
    gate: &mut PcoGate,
) -> Result<Vec<u8>, BlockError> {
    for effort in [effort, Effort::Raw] {
        let mut block = Vec::new();
        encode_column(array, data_type, effort, gate, &mut block)?;
        let mut decoder = ColumnDecoder::new(data_type, array.len());
        let decoded = decoder
            .push(&block, array.len())
            .and_then(|()| decoder.finish());
        if decoded.is_ok_and(|d| d.as_ref() == array.as_ref()) {
            return Ok(block);
        }
        tracing::error!(%data_type, "an encoding did not read back and was replaced by raw bytes");
    }
    Err(BlockError::new(format!(
        "even raw values of type {data_type} do not read back"
    )))
}

/// Whether all keys are stored, and the block: all keys, or those of deletes (whose
/// key columns are NULL), or nothing.
fn encode_key_block(
    schema: &TableSchema,
    page: &VersionBatch,
) -> Result<(bool, Vec<u8>), BlockError> {
    let puts = puts_of(page.kind.values());
    let derived = !schema.has_hidden_key() && {
        let derived = derive_keys(schema, &key_columns(schema, page), puts.as_deref());
        let puts = puts
            .clone()
            .unwrap_or_else(|| (0..page.num_rows() as u32).collect());
        derived.is_ok_and(|derived| {
            puts.len() == derived.len()
                && (puts.iter().enumerate())
                    .all(|(i, row)| derived.get(i) == page.keys.get(*row as usize))
        })
    };
    let stored: Vec<&[u8]> = match (derived, &puts) {
        (true, None) => return Ok((false, Vec::new())),
        (true, Some(_)) => (0..page.num_rows())
            .filter(|row| page.kind.value(*row) != Kind::Put as u8)
            .map(|row| page.keys.get(row))
            .collect(),
        (false, _) => (0..page.num_rows()).map(|row| page.keys.get(row)).collect(),
    };
    let array: ArrayRef =
        std::sync::Arc::new(arrow_array::BinaryViewArray::from_iter_values(&stored));
    let block = checked(
        &array,
        &DataType::Bytea,
        Effort::Smallest,
        &mut PcoGate::default(),
    )?;
    Ok((!derived, block))
}

fn key_columns(schema: &TableSchema, page: &VersionBatch) -> Vec<ArrayRef> {
    let columns = schema.primary_key.iter();
    columns.map(|c| page.columns[*c].clone()).collect()
}

/// Positions of the rows that are no deletes; `None`: all.
pub(super) fn puts_of(kinds: &[u8]) -> Option<Vec<u32>> {
    let put = Kind::Put as u8;
    if kinds.iter().all(|k| *k == put) {
        return None;
    }
    let rows = kinds.iter().enumerate().filter(|(_, k)| **k == put);
    Some(rows.map(|(row, _)| row as u32).collect())
}

/// The keys of the rows in `puts`, made from the key columns.
pub(super) fn derive_keys(
    schema: &TableSchema,
    columns: &[ArrayRef],
    puts: Option<&[u32]>,
) -> Result<Keys, BlockError> {
    let error = |e: chronos_model::KeyError| BlockError::new(e.to_string());
    let Some(puts) = puts else {
        return encode_keys(schema, columns).map_err(error);
    };
    let rows = UInt32Array::from(puts.to_vec());
    let columns = columns
        .iter()
        .map(|c| arrow_select::take::take(c, &rows, None))
        .collect::<Result<Vec<_>, _>>()?;
    encode_keys(schema, &columns).map_err(error)
}
