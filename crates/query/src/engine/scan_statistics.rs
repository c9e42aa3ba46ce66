//! What a scan tells the planner: how many rows, and of its columns NULLs and bounds.
//!
//! The planner chooses join orders by this, and answers aggregates without a scan if it is
//! exact. Both happen while one execution's physical plan is made, on the read view on which
//! it then runs. Exact is only what pages say that pass as they stand. Bounds, where there
//! are any, hold for every row: the planner also concludes from bounds that a filter lets
//! nothing through, and calls that exact.

use std::cell::RefCell;

use arrow_schema::{DataType as Arrow, Schema};
use chronos_store::segment::PageMeta;
use chronos_store::ScanPartition;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::page_match::PageColumns;
use super::page_values::End;

/// Bytes that a value of variable length is taken to have.
const LONG_VALUE_BYTES: usize = 32;

/// Of these partitions together. `estimate`: how many rows there may be if it is not known.
pub(super) fn of(
    partitions: &[ScanPartition],
    columns: PageColumns<'_>,
    estimate: impl FnOnce() -> u64,
) -> Statistics {
    let as_usize = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let exact: Option<u64> = partitions.iter().map(ScanPartition::exact_rows).sum();
    let mut statistics = Statistics::new_unknown(columns.schema);
    statistics.num_rows = match exact {
        Some(rows) => Precision::Exact(as_usize(rows)),
        None => Precision::Inexact(as_usize(estimate())),
    };
    let row_bytes: usize = columns
        .schema
        .fields()
        .iter()
        .map(|f| width(f.data_type()))
        .sum();
    let bytes = |rows: &usize| rows.saturating_mul(row_bytes.max(1));
    statistics.total_byte_size = match statistics.num_rows.get_value().map(bytes) {
        Some(bytes) if exact.is_some() && has_fixed_width(columns.schema) => {
            Precision::Exact(bytes)
        }
        Some(bytes) => Precision::Inexact(bytes),
        None => Precision::Absent,
    };
    let folded = RefCell::new(vec![Some(Known::default()); columns.schema.fields().len()]);
    let is_exact = RefCell::new(true);
    let are_pages = partitions.iter().all(|partition| {
        partition.every_page(|page| {
            *is_exact.borrow_mut() &= page.is_exact;
            fold(&mut folded.borrow_mut(), page.meta, columns)
        })
    });
    if are_pages {
        let columns = folded.into_inner().into_iter();
        let is_exact = is_exact.into_inner() && exact.is_some();
        let told = columns.map(|known| known.map_or_else(Default::default, |k| k.tell(is_exact)));
        statistics.column_statistics = told.collect();
    }
    statistics
}

fn width(data_type: &Arrow) -> usize {
    match data_type {
        Arrow::Boolean => 1,
        other => other.primitive_width().unwrap_or(LONG_VALUE_BYTES),
    }
}

fn has_fixed_width(schema: &Schema) -> bool {
    let mut types = schema.fields().iter().map(|f| f.data_type());
    types.all(|t| t.primitive_width().is_some())
}

/// What pages so far say of a column.
#[derive(Clone, Default)]
struct Known {
    nulls: usize,
    bounds: Bounds,
}

#[derive(Clone, Default)]
enum Bounds {
    /// No value so far.
    #[default]
    Empty,
    Within(ScalarValue, ScalarValue),
    /// There is a page that has none.
    Unknown,
}

impl Known {
    fn tell(self, is_exact: bool) -> ColumnStatistics {
        let exact = |value| match is_exact {
            true => Precision::Exact(value),
            false => Precision::Inexact(value),
        };
        let nulls = match is_exact {
            true => Precision::Exact(self.nulls),
            false => Precision::Inexact(self.nulls),
        };
        let (min_value, max_value) = match self.bounds {
            Bounds::Within(low, high) => (exact(low), exact(high)),
            Bounds::Empty | Bounds::Unknown => (Precision::Absent, Precision::Absent),
        };
        ColumnStatistics {
            null_count: nulls,
            min_value,
            max_value,
            ..ColumnStatistics::default()
        }
    }
}

/// Adds a page to what is known of each column; `None`: nothing can be known. False: of
/// none.
fn fold(known: &mut [Option<Known>], page: &PageMeta, columns: PageColumns<'_>) -> bool {
    for (position, known) in known.iter_mut().enumerate() {
        let Some(of_column) = known else { continue };
        let Some(stats) = columns.stats(page, position) else {
            *known = None;
            continue;
        };
        of_column.nulls += stats.null_count as usize;
        if stats.null_count == page.rows {
            continue;
        }
        let data_type = columns.schema.field(position).data_type();
        // Two zeros and NaN make bounds of floats a matter of opinion.
        let ends = match &stats.range {
            Some(range) if !data_type.is_floating() => {
                (End::Lowest.of(range, data_type)).zip(End::Highest.of(range, data_type))
            }
            _ => None,
        };
        of_column.bounds = match (std::mem::take(&mut of_column.bounds), ends) {
            (Bounds::Unknown, _) | (_, None) => Bounds::Unknown,
            (Bounds::Empty, Some((low, high))) => Bounds::Within(low, high),
            (Bounds::Within(low, high), Some((new_low, new_high))) => Bounds::Within(
                if End::Lowest.is_beyond(&new_low, &low) {
                    new_low
                } else {
                    low
                },
                if End::Highest.is_beyond(&new_high, &high) {
                    new_high
                } else {
                    high
                },
            ),
        };
    }
    known.iter().any(Option::is_some)
}
