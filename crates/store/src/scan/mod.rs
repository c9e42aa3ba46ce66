//! Scans: which versions of a table a query wants, and how they are found without
//! touching more than necessary.
//!
//! ```text
//!   ScanRequest
//!      | plan: stretches of keys that live in one place only pass, the rest is merged
//!      v
//!   [Pass pages 0..40 of s1] [Merge keys a..b of s1, s2, rows] [Pass ..] ..
//!      | partition: shared out by rows
//!      v
//!   ScanPartition: iterators of record batches, in key order
//! ```

mod apart;
mod pages;
mod part;
mod partition;
mod plan;
mod prune;
mod shape;
mod share;

use std::ops::Bound;

use chronos_model::{Period, Stamp, SystemColumn, Value};

pub use pages::{PageUse, PassingPage};
pub use partition::{PageCounts, ScanPartition};
pub(crate) use plan::{plan, Order};
pub(crate) use shape::ScanShape;

/// Which versions of each row a scan returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionFilter {
    /// The current one.
    Current,
    /// The one that was current at a stamp.
    AsOf(Stamp),
    /// All that were current at some moment of a period.
    Between {
        /// First moment of the period.
        from: Stamp,
        /// Last moment.
        to: Stamp,
        /// Whether `to` belongs to the period.
        inclusive_to: bool,
    },
    /// All.
    All,
}

/// Which moments of valid time a scan asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ValidFilter {
    /// The present one.
    #[default]
    Now,
    /// One, in microseconds since the epoch.
    AsOf(i64),
    /// Those of a period: what is true at some moment of it.
    Between {
        /// First moment.
        from: i64,
        /// Last moment.
        to: i64,
        /// Whether `to` belongs to the period.
        inclusive_to: bool,
    },
    /// All.
    All,
    /// Each version once, as it was written: for the period, and until the moment, that it was
    /// whole.
    Written,
}

impl ValidFilter {
    /// Whether something that is true in a period is returned. `Now` must have been made a
    /// moment before.
    pub(crate) fn sees(self, valid: Period) -> bool {
        match self {
            ValidFilter::Now | ValidFilter::All | ValidFilter::Written => true,
            ValidFilter::AsOf(moment) => valid.contains(moment),
            ValidFilter::Between {
                from,
                to,
                inclusive_to,
            } => (valid.from < to || (inclusive_to && valid.from == to)) && valid.to > from,
        }
    }

    /// Whether what is no longer kept is not missed.
    pub(crate) fn takes_what_is_there(self) -> bool {
        matches!(self, ValidFilter::All | ValidFilter::Written)
    }

    /// What lies outside of it does not matter.
    pub(crate) fn window(self) -> Period {
        match self {
            ValidFilter::Now | ValidFilter::All | ValidFilter::Written => Period::ALWAYS,
            ValidFilter::AsOf(from) => Period {
                from,
                to: from.saturating_add(1),
            },
            ValidFilter::Between {
                from,
                to,
                inclusive_to,
            } => Period {
                from,
                to: to
                    .saturating_add(i64::from(inclusive_to))
                    .max(from.saturating_add(1)),
            },
        }
    }

    /// The same, the present being a given moment.
    pub(crate) fn at(self, now_micros: i64) -> ValidFilter {
        match self {
            ValidFilter::Now => ValidFilter::AsOf(now_micros),
            other => other,
        }
    }
}

/// A column of a scan's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanColumn {
    /// The table's column at this position of its schema.
    Column(usize),
    /// A column that every table has.
    System(SystemColumn),
}

/// A range of encoded keys. Bounds may be prefixes of keys: bytes are compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// Where it begins.
    pub lower: Bound<Vec<u8>>,
    /// Where it ends.
    pub upper: Bound<Vec<u8>>,
}

impl KeyRange {
    /// All keys.
    pub const ALL: KeyRange = KeyRange {
        lower: Bound::Unbounded,
        upper: Bound::Unbounded,
    };

    /// One key.
    pub fn only(key: &[u8]) -> KeyRange {
        KeyRange {
            lower: Bound::Included(key.to_vec()),
            upper: Bound::Included(key.to_vec()),
        }
    }

    /// Whether no key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Included(l), Bound::Included(u)) => l > u,
            (Bound::Included(l) | Bound::Excluded(l), Bound::Included(u) | Bound::Excluded(u)) => {
                l >= u
            }
            _ => false,
        }
    }
}

impl Default for KeyRange {
    fn default() -> KeyRange {
        KeyRange::ALL
    }
}

/// What a scan is to return.
#[derive(Clone, PartialEq, Debug)]
pub struct ScanRequest {
    /// The output's columns.
    pub columns: Vec<ScanColumn>,
    /// Which versions.
    pub filter: VersionFilter,
    /// True when.
    pub valid: ValidFilter,
    /// Of which keys.
    pub key_range: KeyRange,
    /// How many iterators may share the work, at most.
    pub partitions: usize,
    /// Rows of a record batch, at most.
    pub batch_rows: usize,
    /// Rows of the first batch, about, where fewer than `batch_rows` may be enough; each
    /// further one is twice as large.
    pub first_rows: Option<usize>,
    /// Each partition ends after so many rows.
    pub limit: Option<usize>,
    /// Bounds, both inclusive, that the query puts on columns. Pages certainly
    /// outside are left out; rows outside may still be returned.
    pub column_bounds: Vec<(usize, Option<Value>, Option<Value>)>,
}

impl Default for ScanRequest {
    fn default() -> ScanRequest {
        ScanRequest {
            columns: Vec::new(),
            filter: VersionFilter::Current,
            valid: ValidFilter::Now,
            key_range: KeyRange::ALL,
            partitions: 1,
            batch_rows: 8192,
            first_rows: None,
            limit: None,
            column_bounds: Vec::new(),
        }
    }
}
