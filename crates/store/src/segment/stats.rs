//! What is known of a page, and of each of its columns, without reading it.

use chronos_model::Stamp;

/// A page: about 2,048 consecutive versions of a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct PageMeta {
    /// Versions in the page, at least one.
    pub rows: u32,
    /// Key of the first version.
    pub min_key: Box<[u8]>,
    /// Key of the last version.
    pub max_key: Box<[u8]>,
    /// Lowest recorded stamp.
    pub min_recorded: Stamp,
    /// Highest recorded stamp.
    pub max_recorded: Stamp,
    /// No key occurs twice in the page, and neither its first nor its last key
    /// occurs in the neighbouring pages of the segment.
    pub one_version_per_key: bool,
    /// At least one version is a delete.
    pub has_deletes: bool,
    /// Every version is valid from the microsecond it was recorded, until changed.
    pub open_valid: bool,
    /// Per stored column of the table, in schema order.
    pub columns: Box<[ColumnStats]>,
}

/// What is known of one column of a page. Deletes count as NULLs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    /// How many values are NULL.
    pub null_count: u32,
    /// Bounds of the values that are not NULL; `None`: all are NULL, the type has
    /// no order, or the bounds were not worth keeping.
    pub range: Option<ColumnRange>,
}

/// Bounds of a column's values, both inclusive.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnRange {
    /// INT2/4/8, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, and BOOL as 0 and 1.
    Int {
        /// Lowest.
        min: i64,
        /// Highest.
        max: i64,
        /// Sum of the values of INT2/4/8; `None`: another type, or more than 64 bits.
        sum: Option<i64>,
    },
    /// FLOAT4/8. A page with a NaN has no range.
    Float {
        /// Lowest.
        min: f64,
        /// Highest.
        max: f64,
        /// Sum of the values as FLOAT8, added in row order.
        sum: f64,
    },
    /// NUMERIC: unscaled integers at the column's scale, lowest and highest.
    Decimal(Box<(i128, i128)>),
    /// TEXT, VARCHAR, UUID, BYTEA by their bytes. Only kept when both are short.
    Bytes {
        /// Lowest.
        min: Box<[u8]>,
        /// Highest.
        max: Box<[u8]>,
    },
}
