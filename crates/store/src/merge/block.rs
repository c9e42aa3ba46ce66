//! A stretch of versions in memory: the unit in which every source (memtable rows,
//! memtable runs, segment pages) hands its versions to the merge.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, UInt32Array, UInt64Array};
use arrow_buffer::ScalarBuffer;
use chronos_model::{Keys, Period, Stamp};

use crate::erase::ERASE;
use crate::first::FirstVersions;
use crate::retention::CUT;

/// A value per version that is mostly the same for all of them.
#[derive(Clone, Debug)]
pub(crate) enum PerVersion<T: arrow_buffer::ArrowNativeType> {
    /// All versions have this one.
    Same(T),
    /// One for each.
    Each(ScalarBuffer<T>),
}

impl<T: arrow_buffer::ArrowNativeType> PerVersion<T> {
    pub(crate) fn get(&self, i: usize) -> T {
        match self {
            PerVersion::Same(v) => *v,
            PerVersion::Each(values) => values[i],
        }
    }

    pub(crate) fn slice(&self, offset: usize, rows: usize) -> Self {
        match self {
            PerVersion::Same(v) => PerVersion::Same(*v),
            PerVersion::Each(values) => PerVersion::Each(values.slice(offset, rows)),
        }
    }

    pub(crate) fn expand(&self, rows: usize) -> ScalarBuffer<T> {
        match self {
            PerVersion::Same(v) => ScalarBuffer::from(vec![*v; rows]),
            PerVersion::Each(values) => values.clone(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            PerVersion::Same(_) => 0,
            PerVersion::Each(values) => values.inner().len(),
        }
    }
}

/// Beginnings and ends.
type Valid = (ScalarBuffer<i64>, ScalarBuffer<i64>);

/// Versions sorted by (key ascending, recorded descending), with the columns that
/// were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    keys: Arc<Keys>,
    /// Version `i` of the block has key `offset + i`.
    offset: usize,
    rows: usize,
    pub(crate) recorded: PerVersion<u64>,
    /// 0: put, 1: delete, 2: cut, 3: erasure; `None`: all puts.
    pub(crate) kinds: Option<ScalarBuffer<u8>>,
    /// When each version is true; `None`: each from when it was recorded until changed.
    valid: Option<Valid>,
    /// No version was recorded before the first or after the second.
    pub(crate) span: (u64, u64),
    /// No key occurs twice in the block.
    pub(crate) one_version_per_key: bool,
    /// Which versions are known to be the first of their keys.
    pub(crate) first: FirstVersions,
    /// As requested, each of `rows` rows.
    pub(crate) columns: Vec<ArrayRef>,
}

impl Block {
    pub(crate) fn new(
        keys: Arc<Keys>,
        recorded: PerVersion<u64>,
        span: (u64, u64),
        kinds: Option<ScalarBuffer<u8>>,
        one_version_per_key: bool,
        columns: Vec<ArrayRef>,
    ) -> Block {
        let rows = keys.len();
        Block {
            keys,
            offset: 0,
            rows,
            recorded,
            span,
            kinds,
            valid: None,
            one_version_per_key,
            first: FirstVersions::None,
            columns,
        }
    }

    /// The same, each version true from a moment to another.
    pub(crate) fn with_valid(mut self, from: ScalarBuffer<i64>, to: ScalarBuffer<i64>) -> Block {
        self.valid = Some((from, to));
        self
    }

    /// The same versions, of which it is known which are the first of their keys.
    pub(crate) fn with_first(self, first: FirstVersions) -> Block {
        Block { first, ..self }
    }

    /// No versions.
    pub(crate) fn empty() -> Block {
        let stamp = PerVersion::Same(0);
        Block::new(Arc::default(), stamp, (0, 0), None, true, Vec::new())
    }

    /// Versions whose keys are `keys[offset..offset + rows]`; all puts.
    pub(crate) fn of_part(
        keys: Arc<Keys>,
        offset: usize,
        recorded: PerVersion<u64>,
        span: (u64, u64),
        one_version_per_key: bool,
        rows: usize,
        columns: Vec<ArrayRef>,
    ) -> Block {
        Block {
            keys,
            offset,
            rows,
            recorded,
            span,
            kinds: None,
            valid: None,
            one_version_per_key,
            first: FirstVersions::None,
            columns,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn key(&self, i: usize) -> &[u8] {
        self.keys.get(self.offset + i)
    }

    /// The key of version `i`, to be kept after the block is gone.
    pub(crate) fn shared_key(&self, i: usize) -> (Arc<Keys>, usize) {
        (self.keys.clone(), self.offset + i)
    }

    /// Whether nothing older of the key is left ([`ERASE`]).
    pub(crate) fn is_erasure(&self, i: usize) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| kinds[i] == ERASE)
    }

    /// Whether older versions of the key were here once ([`CUT`]).
    pub(crate) fn is_cut(&self, i: usize) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| kinds[i] == CUT)
    }

    pub(crate) fn is_delete(&self, i: usize) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| kinds[i] != 0)
    }

    /// When version `i` is true.
    pub(crate) fn valid(&self, i: usize) -> Period {
        match &self.valid {
            Some((from, to)) => Period {
                from: from[i],
                to: to[i],
            },
            None => Period {
                from: Stamp(self.recorded.get(i)).micros(),
                to: Period::UNTIL_CHANGED,
            },
        }
    }

    /// The rows `offset..offset + rows`, sharing memory.
    pub(crate) fn slice(&self, offset: usize, rows: usize) -> Block {
        if offset == 0 && rows == self.rows {
            return self.clone();
        }
        Block {
            keys: self.keys.clone(),
            offset: self.offset + offset,
            rows,
            recorded: self.recorded.slice(offset, rows),
            span: self.span,
            kinds: self.kinds.as_ref().map(|k| k.slice(offset, rows)),
            valid: (self.valid.as_ref())
                .map(|(from, to)| (from.slice(offset, rows), to.slice(offset, rows))),
            one_version_per_key: self.one_version_per_key,
            first: self.first.slice(offset, rows),
            columns: self.columns.iter().map(|c| c.slice(offset, rows)).collect(),
        }
    }

    /// First position in `from..` whose key is not less than `key`.
    pub(crate) fn gallop(&self, from: usize, key: &[u8]) -> usize {
        gallop(from, self.rows, |i| self.key(i) < key)
    }
}

/// First position in `from..end` where `less` no longer holds, given that it holds
/// for a prefix; doubling steps, then bisection (Bentley and Yao, "An almost optimal
/// algorithm for unbounded searching", 1976).
pub(crate) fn gallop(from: usize, end: usize, less: impl Fn(usize) -> bool) -> usize {
    if from >= end || !less(from) {
        return from;
    }
    let (mut low, mut step) = (from, 1);
    // `less(low)` holds.
    while low + step < end && less(low + step) {
        low += step;
        step *= 2;
    }
    let mut high = (low + step).min(end);
    low += 1;
    while low < high {
        let middle = low + (high - low) / 2;
        if less(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

pub(crate) fn u64_array(values: ScalarBuffer<u64>) -> ArrayRef {
    Arc::new(UInt64Array::new(values, None))
}

pub(crate) fn u32_array(values: ScalarBuffer<u32>) -> ArrayRef {
    Arc::new(UInt32Array::new(values, None))
}

pub(crate) fn i64_array(values: ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(Int64Array::new(values, None))
}

/// Bytes of memory that the rows of arrays take, not counting what else their buffers
/// may hold.
pub(crate) fn arrays_bytes(columns: &[ArrayRef]) -> usize {
    chronos_model::columns_bytes(columns)
}

#[cfg(test)]
mod tests {
    use super::gallop;

    #[test]
    fn gallop_finds_the_partition_point() {
        for end in 0..40usize {
            for split in 0..=end {
                for from in 0..=split {
                    assert_eq!(gallop(from, end, |i| i < split), split);
                }
            }
        }
    }
}
