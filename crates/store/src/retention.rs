//! Retention: what of a table is still there at a moment.
//!
//! ```text
//!                       horizon                     expired before
//!   versions superseded    |    rows whose time is         |
//!   ---- may be gone ------+    ------- are gone ----------+---- are there ---->
//! ```
//!
//! *Rows* expire by their time: the time column of their key, or else when they were
//! written. An expired row is gone for every reader from that moment on, also for readers
//! of the past, wherever its bytes still are; a flush or compaction that comes upon it
//! leaves it out. All versions of a key have the same values in the key's columns, and
//! what is older was written earlier, so a version that expires never leaves an older one
//! of its key behind.
//!
//! *History* ends at a horizon. A reader of what was before is refused, as is one who meets
//! a *cut*: the mark left of a key's oldest versions where only so many are kept.
//!
//! The moment is the reader's clock for a read, the commit's own stamp while applying, and
//! the stamp of the last applied commit for what is removed from disk. So whatever was
//! removed is gone for every later commit too, and every replica decides alike.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef};
use chronos_model::{key_values, Stamp, TableSchema, Value};

use crate::error::StoreError;
use crate::segment::{ColumnRange, PageMeta};

/// The kind of a version that stands for itself and older ones that are no longer kept.
/// Nothing is known of its key before the next version, whatever else of it there is.
pub(crate) const CUT: u8 = 2;

/// What of a table is still there at a moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Retained {
    /// What was recorded before is expired.
    pub(crate) floor: Stamp,
    /// Of a table with a time column: which rows are not expired.
    pub(crate) time: Option<TimeFloor>,
    /// What was superseded at or before may be gone.
    pub(crate) history: Stamp,
    /// The earliest stamp that can be read at.
    pub(crate) horizon: Stamp,
    /// Superseded versions of a key that are kept at most.
    pub(crate) keep: Option<u32>,
}

/// The least time of rows that are not expired.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct TimeFloor {
    /// Position of the time column.
    pub(crate) column: usize,
    /// In microseconds since the epoch.
    pub(crate) micros: i64,
}

impl Retained {
    /// Of a table, at a moment.
    pub(crate) fn of(schema: &TableSchema, now_micros: i64) -> Retained {
        let options = &schema.options;
        let expired = options.expired_before(now_micros);
        let (floor, time) = match options.time_column {
            _ if expired == i64::MIN => (Stamp::MIN, None),
            Some(column) => {
                let micros = expired;
                (Stamp::MIN, Some(TimeFloor { column, micros }))
            }
            None => {
                let floor = u64::try_from(expired).map_or(Stamp::MIN, Stamp::from_micros);
                (floor, None)
            }
        };
        Retained {
            floor,
            time,
            history: options.history_horizon(now_micros),
            horizon: options.horizon(now_micros),
            keep: options.history_keep,
        }
    }

    /// Whether a version is expired, of which the key and the stamp are known.
    pub(crate) fn expired(
        &self,
        schema: &TableSchema,
        key: &[u8],
        recorded: Stamp,
    ) -> Result<bool, StoreError> {
        if recorded < self.floor {
            return Ok(true);
        }
        match self.time {
            None => Ok(false),
            Some(floor) => {
                let time = key_time(schema, floor.column, key)?;
                Ok(time.is_some_and(|time| time < floor.micros))
            }
        }
    }

    /// Whether none of these rows is expired by its time.
    pub(crate) fn times_pass(&self, times: Option<(i64, i64)>) -> bool {
        match (self.time, times) {
            (None, _) => true,
            (Some(floor), Some((low, _))) => low >= floor.micros,
            (Some(_), None) => false,
        }
    }

    /// Whether every version of a page is expired and none of it hides another.
    pub(crate) fn page_expired(&self, page: &PageMeta) -> bool {
        if page.max_recorded < self.floor {
            return true;
        }
        // A delete's time is in its key only.
        let Some(floor) = self.time.filter(|_| !page.has_deletes) else {
            return false;
        };
        page_times(page, floor.column).is_some_and(|(_, high)| high < floor.micros)
    }
}

/// Lowest and highest time of a page's rows; `None`: unknown.
pub(crate) fn page_times(page: &PageMeta, column: usize) -> Option<(i64, i64)> {
    if page.has_deletes {
        return None;
    }
    match page.columns.get(column)?.range.as_ref()? {
        ColumnRange::Int { min, max, .. } => Some((*min, *max)),
        _ => None,
    }
}

/// The times of rows, as a time column holds them; NULL for deletes.
pub(crate) fn times(
    column: &ArrayRef,
) -> Result<&arrow_array::PrimitiveArray<TimestampMicrosecondType>, StoreError> {
    let times = column.as_primitive_opt::<TimestampMicrosecondType>();
    times
        .ok_or_else(|| StoreError::Columns(format!("the time column holds {}", column.data_type())))
}

/// The time of a row in its key, in microseconds.
pub(crate) fn key_time(
    schema: &TableSchema,
    column: usize,
    key: &[u8],
) -> Result<Option<i64>, StoreError> {
    let Some(at) = schema.primary_key.iter().position(|c| *c == column) else {
        return Ok(None);
    };
    Ok(match key_values(schema, key)?.get(at) {
        Some(Value::Timestamp(t) | Value::TimestampTz(t)) => Some(*t),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use chronos_model::{encode_key, ColumnSchema, DataType, TableId, TableOptions};

    use super::*;

    fn schema(options: TableOptions) -> TableSchema {
        let column = |name: &str, data_type| ColumnSchema {
            name: name.into(),
            data_type,
            nullable: false,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![
                column("v", DataType::Int8),
                column("d", DataType::Text),
                column("ts", DataType::TimestampTz),
            ],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![1, 2],
            options,
        }
    }

    #[test]
    fn rows_expire_by_the_time_in_their_key() {
        let schema = schema(TableOptions {
            ttl_micros: Some(100),
            time_column: Some(2),
            ..TableOptions::default()
        });
        let retained = Retained::of(&schema, 1_000);
        let expired = |time: i64| {
            let row = [Value::Text("d".into()), Value::TimestampTz(time)];
            let key = encode_key(&schema, &row).unwrap();
            retained.expired(&schema, &key.0, Stamp::MAX).unwrap()
        };
        assert!(expired(899) && !expired(900));
        assert_eq!(retained.horizon, Stamp::from_micros(900));
        assert!(retained.times_pass(Some((900, 901))));
        assert!(!retained.times_pass(Some((899, 901))) && !retained.times_pass(None));
    }

    #[test]
    fn without_a_time_column_rows_expire_by_when_they_were_written() {
        let schema = schema(TableOptions {
            ttl_micros: Some(100),
            ..TableOptions::default()
        });
        let retained = Retained::of(&schema, 1_000);
        let expired = |at| retained.expired(&schema, b"", at).unwrap();
        assert!(expired(Stamp::from_micros(899)) && !expired(Stamp::from_micros(900)));
    }
}
