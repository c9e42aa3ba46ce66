//! A sorted run of versions as columns: the unit in which versions enter and
//! leave memtable runs and segments.
//!
//! Holds what a version is made of (key, origin, recorded, valid time, kind, row)
//! and moves rows between batches. Does not order, merge or interpret versions:
//! whoever builds a batch promises its order.

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, Int64Type, UInt32Type, UInt64Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, Int64Array, PrimitiveArray, UInt32Array, UInt64Array, UInt8Array,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::ArrowError;
use chronos_model::{Keys, Stamp};

/// `valid_to` of a version that is true until changed.
pub const UNTIL_CHANGED: i64 = i64::MAX;

/// Versions as columns, one row per version. All columns have the same length.
#[derive(Clone, Debug)]
pub struct VersionBatch {
    /// Encoded keys.
    pub keys: Arc<Keys>,
    /// Stamp of the commit on this cluster.
    pub recorded: UInt64Array,
    /// Stamp given where the write was made.
    pub origin: UInt64Array,
    /// Node that gave the origin stamp.
    pub origin_node: UInt32Array,
    /// [`chronos_model::Kind`] as a number: 0 is Put, 1 is Delete.
    pub kind: UInt8Array,
    /// Since when the version is true, in microseconds since the epoch.
    pub valid_from: Int64Array,
    /// Until when it is true (exclusive); [`UNTIL_CHANGED`]: open.
    pub valid_to: Int64Array,
    /// Which versions are known to be the first of their keys: when they were recorded,
    /// nothing was stored of the key, and the commit wrote no other version of it.
    pub first: BooleanBuffer,
    /// The table's columns in schema order; of a delete all are NULL.
    pub columns: Vec<ArrayRef>,
}

impl VersionBatch {
    /// How many versions there are.
    pub fn num_rows(&self) -> usize {
        self.keys.len()
    }

    /// Rows `offset .. offset + len`. Copies the keys and shares the columns.
    ///
    /// Panics if the range ends after the batch.
    pub fn slice(&self, offset: usize, len: usize) -> VersionBatch {
        let keys = if offset == 0 && len == self.num_rows() {
            self.keys.clone()
        } else {
            let mut keys = Keys::default();
            for row in offset..offset + len {
                keys.push(self.keys.get(row));
            }
            Arc::new(keys)
        };
        VersionBatch {
            keys,
            recorded: self.recorded.slice(offset, len),
            origin: self.origin.slice(offset, len),
            origin_node: self.origin_node.slice(offset, len),
            kind: self.kind.slice(offset, len),
            valid_from: self.valid_from.slice(offset, len),
            valid_to: self.valid_to.slice(offset, len),
            first: self.first.slice(offset, len),
            columns: self.columns.iter().map(|c| c.slice(offset, len)).collect(),
        }
    }

    /// The rows at these positions, in this order.
    ///
    /// Panics if a position is not in the batch. Errors: the result is too large
    /// for an Arrow array.
    pub fn take(&self, indices: &[u32]) -> Result<VersionBatch, ArrowError> {
        let mut keys = Keys::default();
        for &row in indices {
            keys.push(self.keys.get(row as usize));
        }
        let positions = UInt32Array::from(indices.to_vec());
        let columns = self
            .columns
            .iter()
            .map(|c| arrow_select::take::take(c, &positions, None))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(VersionBatch {
            keys: Arc::new(keys),
            recorded: take_values(&self.recorded, indices),
            origin: take_values(&self.origin, indices),
            origin_node: take_values(&self.origin_node, indices),
            kind: take_values(&self.kind, indices),
            valid_from: take_values(&self.valid_from, indices),
            valid_to: take_values(&self.valid_to, indices),
            first: (indices.iter().map(|&row| self.first.value(row as usize))).collect(),
            columns,
        })
    }

    /// All rows of the batches, one batch after the other.
    ///
    /// Errors: no batches, batches of different tables, or a result too large for
    /// an Arrow array.
    pub fn concat(batches: &[VersionBatch]) -> Result<VersionBatch, ArrowError> {
        let first = match batches {
            [] => {
                return Err(ArrowError::InvalidArgumentError(
                    "there are no batches to concatenate".into(),
                ))
            }
            [only] => return Ok(only.clone()),
            [first, ..] => first,
        };
        let mut keys = Keys::default();
        for batch in batches {
            for row in 0..batch.num_rows() {
                keys.push(batch.keys.get(row));
            }
        }
        if let Some(other) = batches
            .iter()
            .find(|b| b.columns.len() != first.columns.len())
        {
            return Err(ArrowError::InvalidArgumentError(format!(
                "a batch of {} columns cannot follow one of {}",
                other.columns.len(),
                first.columns.len()
            )));
        }
        let columns = (0..first.columns.len())
            .map(|i| {
                let parts: Vec<&dyn Array> =
                    batches.iter().map(|b| b.columns[i].as_ref()).collect();
                arrow_select::concat::concat(&parts)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(VersionBatch {
            keys: Arc::new(keys),
            recorded: concat_values::<UInt64Type>(batches.iter().map(|b| &b.recorded)),
            origin: concat_values::<UInt64Type>(batches.iter().map(|b| &b.origin)),
            origin_node: concat_values::<UInt32Type>(batches.iter().map(|b| &b.origin_node)),
            kind: concat_values::<UInt8Type>(batches.iter().map(|b| &b.kind)),
            valid_from: concat_values::<Int64Type>(batches.iter().map(|b| &b.valid_from)),
            valid_to: concat_values::<Int64Type>(batches.iter().map(|b| &b.valid_to)),
            first: concat_bits(batches.iter().map(|b| &b.first)),
            columns,
        })
    }

    /// Bytes of memory in use. Buffers that slices share are counted in each.
    pub fn memory_bytes(&self) -> usize {
        let fixed: [&dyn Array; 6] = [
            &self.recorded,
            &self.origin,
            &self.origin_node,
            &self.kind,
            &self.valid_from,
            &self.valid_to,
        ];
        let fixed: usize = fixed.iter().map(|a| a.get_buffer_memory_size()).sum();
        let columns: usize = self
            .columns
            .iter()
            .map(|c| c.get_buffer_memory_size())
            .sum();
        self.keys.memory_bytes() + fixed + columns
    }

    /// Whether row `a` of this batch sorts before or equal to row `b` of `other`:
    /// by key ascending, then by origin (stamp, node) descending.
    pub fn is_in_order(&self, a: usize, other: &VersionBatch, b: usize) -> bool {
        match self.keys.get(a).cmp(other.keys.get(b)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => {
                let origin = |batch: &VersionBatch, row: usize| {
                    (Stamp(batch.origin.value(row)), batch.origin_node.value(row))
                };
                origin(self, a) >= origin(other, b)
            }
        }
    }
}

fn take_values<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    indices: &[u32],
) -> PrimitiveArray<T> {
    let values = array.values();
    PrimitiveArray::from_iter_values(indices.iter().map(|&i| values[i as usize]))
}

fn concat_values<'a, T: ArrowPrimitiveType>(
    arrays: impl Iterator<Item = &'a PrimitiveArray<T>>,
) -> PrimitiveArray<T> {
    let mut values: Vec<T::Native> = Vec::new();
    for array in arrays {
        values.extend_from_slice(array.values());
    }
    PrimitiveArray::new(values.into(), None)
}

fn concat_bits<'a>(buffers: impl Iterator<Item = &'a BooleanBuffer>) -> BooleanBuffer {
    let mut bits = BooleanBufferBuilder::new(0);
    buffers.for_each(|buffer| bits.append_buffer(buffer));
    bits.finish()
}
